//! Messages to JavaScript. `src/host/wire.ts` is the other side.

use std::fmt::Write as _;

use crate::engine::Engine;
use crate::error::{CommandError, ReadError, StorageError, UnreadableEvent};
use crate::event::{CommitSummary, FirstOutcome, Payload};
use crate::payload::json_string;
use crate::protocol::{
    Append, Commit, CommitExpectation, Conflict, DocumentName, DocumentValue, DomainRequest,
    Durability, HandedOut, HostFold, Load, LogEnd, Notice, Outcome, Output, Page, Project, React,
    Reacting, ReactionRead, ReadDocuments, ReadLog, SaveDocuments, SkippedEvents, SnapshotProblem,
    SnapshotReport, StorageBody, StorageRequest, Until, Verdict, ViewRead,
};
use crate::query::Query;
use crate::stream::{Revision, StreamId};
use crate::time::Timestamp;
use crate::upcast::{Message, Unreadable};

use super::words::Writer;

pub(super) fn output(writer: &mut Writer, output: &Output, engine: &mut Engine) {
    match output {
        Output::Storage(request) => storage_request(writer, request),
        Output::Domain(request) => domain_request(writer, request),
        Output::Notice(notice) => self::notice(writer, notice, engine),
        Output::Release(release) => {
            writer.word(7);
            writer.list(&release.handles, |writer, handle| writer.word(handle.0));
            writer.list(&release.pages, |writer, page| writer.word(page.0));
            writer.list(&release.copies, |writer, copy| writer.word(copy.0));
        }
        Output::Idle { wake_at } => {
            writer.word(8);
            writer.option(*wake_at, time);
        }
        Output::AwaitDomain => writer.word(11),
        Output::Project(project) => self::project(writer, project),
        Output::React(react) => self::react(writer, react),
        Output::Correlate(correlate) => {
            writer.word(22);
            writer.word(correlate.reaction.0);
            writer.word(correlate.question);
            writer.word(correlate.page.0);
        }
    }
}

pub(super) fn verdicts(writer: &mut Writer, verdicts: &[Verdict]) {
    writer.list(verdicts, |writer, verdict| match verdict {
        Verdict::Committed(summary) => {
            writer.word(0);
            commit_summary(writer, summary);
        }
        Verdict::Conflict(conflict) => {
            let (tag, at) = self::conflict(*conflict);
            writer.word(tag);
            writer.number(at);
        }
        Verdict::Duplicate(first) => {
            writer.word(4);
            first_outcome(writer, first);
        }
        Verdict::CommandIdReused(first) => {
            writer.word(5);
            first_outcome(writer, first);
        }
    });
}

fn conflict(conflict: Conflict) -> (u32, u64) {
    match conflict {
        Conflict::Revision { actual } => (1, actual.0),
        Conflict::Matched { position } => (2, position.0),
        Conflict::Neighbour { index } => (3, index.into()),
    }
}

fn time(writer: &mut Writer, time: Timestamp) {
    writer.number(time.millis().cast_unsigned());
}

fn stream(writer: &mut Writer, stream: &StreamId) {
    writer.str(&stream.aggregate_type);
    writer.str(&stream.aggregate_id);
}

fn commit_summary(writer: &mut Writer, commit: &CommitSummary) {
    writer.number(commit.position.0);
    writer.number(commit.revision.0);
    writer.word(commit.count);
    time(writer, commit.recorded_at);
}

fn first_outcome(writer: &mut Writer, first: &FirstOutcome) {
    writer.uuid(first.hash.0);
    stream(writer, &first.stream);
    commit_summary(writer, &first.commit);
}

fn query(writer: &mut Writer, query: &Query) {
    writer.list(&query.items, |writer, item| {
        writer.list(&item.types, |writer, name| writer.str(name));
        writer.list(&item.tags, |writer, tag| writer.str(tag));
    });
}

#[inline(never)]
fn storage_request(writer: &mut Writer, request: &StorageRequest) {
    writer.word(1);
    writer.number(request.id.0);
    writer.word(request.attempt);
    writer.str(request.epoch.as_ref().map_or("", |epoch| &epoch.0));
    match &request.body {
        StorageBody::Info => writer.word(0),
        StorageBody::Append(append) => self::append(writer, append),
        StorageBody::Load(load) => self::load(writer, load),
        StorageBody::ReadLog(read) => read_log(writer, read),
        StorageBody::SaveDocuments(save) => save_documents(writer, save),
        StorageBody::ReadDocuments(read) => read_documents(writer, read),
    }
}

#[inline(never)]
fn append(writer: &mut Writer, append: &Append) {
    writer.word(1);
    time(writer, append.now);
    writer.list(&append.commits, commit);
}

/// What JavaScript does not have of a commit: it knows the task's stream and metadata, and the
/// events of a decision of its own.
fn commit(writer: &mut Writer, commit: &Commit) {
    writer.word(commit.task.0);
    writer.uuid(commit.command_id.0);
    writer.uuid(commit.hash.0);
    time(writer, commit.issued_at);
    let (rests_on_neighbour, number) = match commit.expected {
        CommitExpectation::Exact(revision) => (false, revision.0),
        CommitExpectation::After(index) => (true, u64::from(index)),
    };
    writer.flag(rests_on_neighbour);
    writer.number(number);
    writer.option(commit.condition.as_ref(), |writer, condition| {
        query(writer, &condition.query);
        writer.number(condition.after.0);
        writer.list(&condition.neighbours, |writer, neighbour| writer.word(*neighbour));
    });
    writer.list(&commit.events, |writer, event| {
        writer.uuid(event.id.0);
        match &event.event.data {
            Payload::Held { .. } => writer.flag(false),
            Payload::Text(data) => {
                writer.flag(true);
                writer.str(&event.event.event_type);
                writer.word(event.event.schema_version);
                writer.list(&event.event.tags, |writer, tag| writer.str(tag));
                writer.str(data);
            }
        }
    });
}

#[inline(never)]
fn load(writer: &mut Writer, load: &Load) {
    writer.word(2);
    writer.list(&load.commands, |writer, command| writer.uuid(command.0));
    writer.list(&load.streams, |writer, load| {
        stream(writer, &load.stream);
        writer.number(load.after.0);
        writer.option(load.snapshot.as_ref(), |writer, key| writer.str(key));
        match load.until {
            Until::End => writer.word(0),
            Until::Revision(revision) => {
                writer.word(1);
                writer.number(revision.0);
            }
            Until::Time(at) => {
                writer.word(2);
                time(writer, at);
            }
            Until::Position(position) => {
                writer.word(3);
                writer.number(position.0);
            }
        }
        writer.word(load.limit);
        writer.flag(load.whole);
        writer.option(load.fold, |writer, HostFold { task, aggregate, from }| {
            writer.word(task.0);
            writer.word(aggregate.0);
            writer.word(from.0);
        });
    });
    writer.list(&load.queries, |writer, load| {
        query(writer, &load.query);
        writer.number(load.after.0);
        writer.flag(load.held);
    });
}

#[inline(never)]
fn read_log(writer: &mut Writer, read: &ReadLog) {
    writer.word(3);
    writer.number(read.after.0);
    writer.flag(read.descending);
    for list in [&read.filter.types, &read.filter.aggregate_types, &read.filter.tags] {
        writer.list(list, |writer, name| writer.str(name));
    }
    writer.option(read.filter.correlation_id.as_ref(), |writer, id| writer.str(id));
    writer.word(read.limit);
    writer.flag(read.held);
}

#[inline(never)]
fn save_documents(writer: &mut Writer, save: &SaveDocuments) {
    writer.word(4);
    writer.list(&save.expected, |writer, expected| {
        document_name(writer, &expected.name);
        writer.number(expected.revision);
    });
    writer.list(&save.clear, |writer, collection| writer.str(collection));
    writer.list(&save.documents, |writer, document| {
        document_name(writer, &document.name);
        writer.number(document.revision);
        match &document.value {
            DocumentValue::State(handle) => {
                writer.word(0);
                writer.word(handle.0);
            }
            DocumentValue::Text(text) => {
                writer.word(1);
                writer.str(text);
            }
            DocumentValue::Removed => writer.word(2),
        }
        writer.list(&document.postings, |writer, posting| {
            writer.str(&posting.index);
            writer.str(&posting.value);
        });
    });
}

#[inline(never)]
fn read_documents(writer: &mut Writer, read: &ReadDocuments) {
    writer.word(5);
    writer.list(&read.names, document_name);
    writer.list(&read.scans, |writer, scan| {
        writer.str(&scan.collection);
        for text in [&scan.index, &scan.from, &scan.to] {
            writer.option(text.as_ref(), |writer, text| writer.str(text));
        }
        writer.option(scan.after.as_ref(), |writer, place| {
            writer.str(&place.at);
            writer.str(&place.key);
        });
        writer.flag(scan.descending);
        writer.option(scan.limit, Writer::word);
    });
}

fn document_name(writer: &mut Writer, name: &DocumentName) {
    writer.str(&name.collection);
    writer.str(&name.key);
}

#[inline(never)]
fn project(writer: &mut Writer, project: &Project) {
    writer.word(14);
    writer.number(project.run);
    writer.word(project.projection.0);
    writer.word(project.page.0);
    match project.end {
        LogEnd::Head => writer.word(0),
        LogEnd::Position(position) => {
            writer.word(1);
            writer.number(position.0);
        }
        LogEnd::Time(at) => {
            writer.word(2);
            time(writer, at);
        }
    }
    writer.list(&project.known, |writer, (key, text)| {
        writer.str(key);
        writer.option(text.as_ref(), |writer, text| writer.str(text));
    });
}

#[inline(never)]
fn react(writer: &mut Writer, react: &React) {
    writer.word(17);
    writer.number(react.run);
    writer.word(react.reaction.0);
    writer.word(react.attempt);
    writer.str(&react.lane);
    writer.option(react.state.as_ref(), |writer, state| writer.str(state));
    match &react.event {
        Reacting::Held { page, index } => {
            writer.word(page.0);
            writer.word(*index);
        }
        Reacting::Timer(timer) => {
            writer.word(0);
            writer.str(&timer.name);
            time(writer, timer.due);
            writer.uuid(timer.id.0);
            writer.str(&timer.causation_id);
            writer.str(&timer.correlation_id);
        }
        Reacting::Event(_) => unreachable!("JavaScript keeps its pages"),
    }
}

#[inline(never)]
fn reaction_read(writer: &mut Writer, read: &ReactionRead) {
    writer.word(0);
    writer.number(read.position.0);
    writer.number(read.head.0);
    writer.flag(read.runs_here);
    writer.flag(read.runs);
    writer.flag(read.paused);
    writer.list(&read.lanes, |writer, parked| {
        writer.str(&parked.lane);
        writer.number(parked.position.0);
        writer.word(parked.attempts);
        writer.option(parked.retry_at, time);
        writer.str(&parked.error);
    });
    writer.option(read.trouble.as_ref(), |writer, trouble| writer.str(trouble));
}

#[inline(never)]
fn view_read(writer: &mut Writer, read: &ViewRead) {
    let ViewRead { position, documents, more, count, status } = read;
    writer.word(0);
    writer.number(position.0);
    writer.list(documents, |writer, (place, document)| {
        writer.str(&place.at);
        writer.str(&place.key);
        writer.number(document.revision);
        writer.str(&document.value);
    });
    writer.flag(*more);
    writer.number(*count);
    writer.word(status.version);
    writer.number(status.reached.0);
    writer.number(status.head.0);
    writer.flag(status.building);
    writer.flag(status.paused);
    writer.option(status.stopped.as_ref(), |writer, stop| {
        writer.number(stop.position.0);
        writer.str(&stop.reason);
    });
    writer.word(status.skipped);
}

#[inline(never)]
fn domain_request(writer: &mut Writer, request: &DomainRequest) {
    let DomainRequest { task, aggregate, state, question, issued_at, others } = request;
    writer.word(3);
    writer.word(task.0);
    writer.word(aggregate.0);
    writer.word(state.0);
    writer.number(*question);
    time(writer, *issued_at);
    writer.option(others.as_ref(), |writer, others| {
        query(writer, &others.query);
        writer.list(&others.pages, |writer, page| writer.word(page.0));
        writer.list(&others.neighbours, |writer, neighbour| {
            writer.word(neighbour.task.0);
            writer.word(neighbour.index);
            writer.number(neighbour.revision.0);
        });
    });
}

#[inline(never)]
fn notice(writer: &mut Writer, notice: &Notice, engine: &mut Engine) {
    match notice {
        // The host gave the information itself.
        Notice::Opened(_) => {
            writer.word(4);
            writer.word(0);
        }
        Notice::OpenFailed(error) => {
            writer.word(4);
            storage_error(writer, error);
        }
        Notice::CommandDone { task, result } => {
            writer.word(5);
            writer.word(task.0);
            match result {
                Ok(outcome) => self::outcome(writer, outcome, engine),
                Err(error) => command_error(writer, error),
            }
        }
        Notice::StateRead { task, result } => {
            writer.word(6);
            writer.word(task.0);
            match result {
                Ok(read) => {
                    found(writer, read.revision, engine.hand_out(&read.state), &read.events)
                }
                Err(error) => read_error(writer, error),
            }
        }
        Notice::Events { task, page: found, next, .. } => {
            writer.word(9);
            writer.word(task.0);
            page(writer, found);
            writer.number(next.0);
        }
        Notice::SnapshotTaken { task, result } => {
            writer.word(12);
            writer.word(task.0);
            match result {
                Ok(revision) => {
                    writer.word(0);
                    writer.number(revision.0);
                }
                Err(error) => read_error(writer, error),
            }
        }
        Notice::Snapshot(SnapshotReport { stream: of, revision, problem }) => {
            writer.word(13);
            stream(writer, of);
            writer.number(revision.0);
            match problem {
                SnapshotProblem::Ignored(reason) => {
                    writer.word(0);
                    writer.str(reason);
                }
                SnapshotProblem::NotJson(reason) => {
                    writer.word(1);
                    writer.str(reason);
                }
                SnapshotProblem::Storage(error) => {
                    writer.word(2);
                    writer.str(&error.to_string());
                }
            }
        }
        Notice::ViewRead { task, result } => {
            writer.word(15);
            writer.word(task.0);
            match result {
                Ok(read) => view_read(writer, read),
                Err(error) => read_error(writer, error),
            }
        }
        Notice::ReactionRead { task, result } => {
            writer.word(18);
            writer.word(task.0);
            match result {
                Ok(read) => reaction_read(writer, read),
                Err(error) => read_error(writer, error),
            }
        }
        Notice::ReactionMoved(reaction) => {
            writer.word(19);
            writer.word(reaction.0);
        }
        Notice::ReactionLost(reaction) => {
            writer.word(20);
            writer.word(reaction.0);
        }
        Notice::OwnerSeen(owner) => {
            writer.word(23);
            writer.str(owner);
        }
        Notice::ViewMoved(projection) => {
            writer.word(16);
            writer.word(projection.0);
        }
        Notice::Checkpoint { task, result } => {
            writer.word(30);
            writer.word(task.0);
            match result {
                Ok(position) => {
                    writer.word(0);
                    writer.option(*position, |writer, position| writer.number(position.0));
                }
                Err(error) => read_error(writer, error),
            }
        }
        Notice::Skipped(SkippedEvents { stream: of, revision, event_type, count }) => {
            writer.word(21);
            stream(writer, of);
            writer.number(revision.0);
            writer.str(event_type);
            writer.word(*count);
        }
        Notice::SubscriptionEnded { task, result } => {
            writer.word(10);
            writer.word(task.0);
            match result {
                Ok(()) => writer.word(0),
                Err(error) => read_error(writer, error),
            }
        }
    }
}

fn outcome(writer: &mut Writer, outcome: &Outcome, engine: &mut Engine) {
    // What this command has just appended, JavaScript has from the request.
    let appended = outcome.commit.is_some() && !outcome.duplicate;
    let pages: &[Page] = if appended { &[] } else { &outcome.events };
    found(writer, outcome.revision, engine.hand_out(&outcome.state), pages);
    writer.flag(outcome.duplicate);
    writer.word(match outcome.durability {
        Durability::Memory => 0,
        Durability::ProcessCrash => 1,
        Durability::PowerLoss => 2,
        Durability::Replicated => 3,
    });
    writer.option(outcome.commit.as_ref(), commit_summary);
    writer.option((!appended).then_some(outcome.command_id.0), Writer::uuid);
    writer.list(&outcome.behind, |writer, (name, reason)| {
        writer.str(name);
        writer.str(reason);
    });
}

/// What commands and reads end with, if all goes well.
fn found(
    writer: &mut Writer,
    revision: Revision,
    state: Result<HandedOut, serde_json::Error>,
    pages: &[Page],
) {
    writer.word(0);
    writer.number(revision.0);
    match state {
        Ok(HandedOut::Held(handle)) => {
            writer.word(0);
            writer.word(handle.0);
        }
        Ok(HandedOut::Copied(copy)) => {
            writer.word(1);
            writer.word(copy.0);
        }
        Ok(HandedOut::ToCopy(copy, json)) => {
            writer.word(2);
            writer.word(copy.0);
            writer.str(&json);
        }
        Ok(HandedOut::Once(json)) => {
            writer.word(3);
            writer.str(&json);
        }
        Err(error) => {
            writer.word(4);
            writer.str(&error.to_string());
        }
    }
    writer.list(pages, page);
}

/// The host's number of a page. JavaScript never answers whole events, which have none.
fn page(writer: &mut Writer, page: &Page) {
    match page {
        Page::Held { page, .. } | Page::Rows { page, .. } => writer.word(page.0),
        Page::Events(_) | Page::Messages { .. } => unreachable!("JavaScript keeps its pages"),
    }
}

/// JSON of the details of an error. It is written by hand because JSON trees are a tenth of the
/// module.
#[derive(Default)]
struct Details(String);

impl Details {
    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        write!(self.0, "\"{key}\":").expect("a string takes all");
    }

    fn number(mut self, key: &str, number: u64) -> Self {
        self.key(key);
        write!(self.0, "{number}").expect("a string takes all");
        self
    }

    fn json(mut self, key: &str, json: &str) -> Self {
        self.key(key);
        self.0.push_str(json);
        self
    }

    fn text(self, key: &str, text: &str) -> Self {
        let text = json_string(text);
        self.json(key, &text)
    }

    fn stream(self, stream: &StreamId) -> Self {
        let name = Self::default().text("type", &stream.aggregate_type);
        let name = name.text("id", &stream.aggregate_id).end();
        self.json("stream", &name)
    }

    fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

fn error(writer: &mut Writer, code: &str, message: &str, details: Details) {
    writer.word(1);
    writer.str(code);
    writer.str(message);
    writer.str(&details.end());
}

fn storage_error(writer: &mut Writer, failure: &StorageError) {
    let retryable = if failure.retryable { "true" } else { "false" };
    let details = Details::default().json("retryable", retryable);
    error(writer, failure.code.code(), &failure.message, details);
}

#[inline(never)]
fn command_error(writer: &mut Writer, failure: &CommandError) {
    let details = Details::default();
    let details = match failure {
        CommandError::Storage(failure) => return storage_error(writer, failure),
        CommandError::Refused { code, details: json } if !code.is_empty() => {
            details.text("code", code).json("details", json)
        }
        CommandError::WrongRevision { stream, actual, .. } => {
            details.stream(stream).number("actual", actual.0)
        }
        CommandError::Contended { stream, attempts, .. } => {
            details.stream(stream).number("attempts", (*attempts).into())
        }
        CommandError::Unreadable(event) => unreadable(details, event),
        CommandError::OutcomeUnknown { command_id, cause } => {
            let details = details.text("commandId", &command_id.to_string());
            details.text("cause", cause.code.code())
        }
        CommandError::CommandIdReused(id) => details.text("commandId", &id.to_string()),
        _ => details,
    };
    error(writer, failure.code(), &failure.to_string(), details);
}

#[inline(never)]
fn read_error(writer: &mut Writer, failure: &ReadError) {
    let details = Details::default();
    let details = match failure {
        ReadError::Storage(failure) => return storage_error(writer, failure),
        ReadError::NoSuchRevision { stream, asked, actual } => {
            details.stream(stream).number("asked", asked.0).number("actual", actual.0)
        }
        ReadError::NoSuchPosition { asked, .. } => details.number("position", asked.0),
        ReadError::Unreadable(event) => unreadable(details, event),
        ReadError::NoSnapshots(name) => details.text("type", name),
        ReadError::UnknownProjection(name) => details.text("projection", name),
        ReadError::UnknownReaction(name) => details.text("reaction", name),
        ReadError::UnknownIndex { projection, index } => {
            details.text("projection", projection).text("index", index)
        }
        ReadError::ProjectionStopped { projection, position, reason } => {
            let details = details.text("projection", projection).text("reason", reason);
            details.number("position", position.0)
        }
        ReadError::SubscriptionMoved(name) => details.text("subscription", name),
        ReadError::StateNotJson { stream, .. } => details.stream(stream),
        _ => details,
    };
    error(writer, failure.code(), &failure.to_string(), details);
}

fn unreadable(details: Details, event: &UnreadableEvent) -> Details {
    let details = details.stream(&event.stream).number("revision", event.revision.0);
    details.text("problem", event.problem.name())
}

/// What JavaScript is told of the forms of an aggregate's events: those of today.
pub(super) fn forms(writer: &mut Writer, today: &[String]) {
    writer.list(today, |writer, form| writer.str(form));
}

/// What an event is today: 0 and events, 1 if it is passed by, or 2, the number of its problem, and why.
pub(super) fn upcast(writer: &mut Writer, upcast: &Result<Option<Vec<Message>>, Unreadable>) {
    match upcast {
        Ok(Some(messages)) => {
            writer.word(0);
            writer.list(messages, |writer, message| {
                writer.str(&message.event_type);
                writer.word(message.schema_version);
                writer.str(&message.data);
            });
        }
        Ok(None) => writer.word(1),
        Err(Unreadable { problem, reason }) => {
            writer.word(2);
            writer.word(*problem as u32);
            writer.str(reason);
        }
    }
}
