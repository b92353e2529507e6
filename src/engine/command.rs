//! Commands: from the queue of their stream, over a state and a decision, to a staged commit.
//!
//! An accepting decision may rest on whatever state is at hand, for the append proves it. A
//! refusal or an empty decision proves nothing, so it is *final* only if state and matches were
//! read after the command came, all of one moment, together with a look for the command's id.

use std::rc::Rc;
use std::sync::Arc;

use crate::aggregate::{Context, OtherEvent};
use crate::domain::{Command, Domain, Folded, NativeDecision, NativeState, State, StateKind};
use crate::error::{CommandError, InvalidName, UnreadableEvent};
use crate::event::{FirstOutcome, Metadata, NewEvent, Payload, TaskId};
use crate::ids::{CommandHash, CommandId};
use crate::payload::{check_payload, hash_command};
use crate::protocol::{
    AggregateIndex, CommitEvent, Conflict, DomainRequest, DomainResult, Execute, HostFoldError,
    Neighbour, Notice, Others, Outcome, Output, PageId, QueryLoad, Skipped, SkippedEvents,
    StoredSnapshot, StreamLoad, Until,
};
use crate::query::Query;
use crate::stream::{ExpectedRevision, Position, Revision, StreamId, check_name};
use crate::time::Timestamp;
use crate::upcast::Unreadable;

use super::others::Stored;
use super::read::check_slice;
use super::requests::{LoadWish, Part, Slice};
use super::snapshotting::SnapshotUse;
use super::streams::{At, StreamKey};
use super::{Engine, KeptPage, Store, Task, Timer, mutant};

/// A command under way.
pub(super) struct CommandTask {
    pub(super) serial: u64,
    pub(super) stream: StreamId,
    pub(super) key: StreamKey,
    pub(super) aggregate: AggregateIndex,
    /// The command itself, if its domain is native.
    command: Option<Command>,
    pub(super) command_id: CommandId,
    pub(super) hash: CommandHash,
    pub(super) issued_at: Timestamp,
    pub(super) metadata: Arc<Metadata>,
    expected: ExpectedRevision,
    phase: Phase,
    /// Whether the state at hand won't do: it must be read again.
    must_load: bool,
    /// What the decision reads beyond its stream.
    pub(super) query: Query,
    /// What the decision has named, if more is read because of upcasters.
    named: Option<Query>,
    matches: Option<Matches>,
    /// The last position at which a commit of this engine has added to the matches.
    overtaken: Position,
    fresh: Option<Fresh>,
    snapshot: SnapshotUse,
    conflicts: u32,
    /// How often appends of others have kept it from reading or deciding.
    overtakings: u32,
    /// Whether an append that may have been applied was taken back.
    maybe_applied: bool,
    /// How often `reads` has named another query than the time before.
    rereads: u32,
}

/// A command that was overtaken more often makes the younger wait.
const MAX_OVERTAKINGS: u32 = 3;

/// More than the changes of others explain: a `reads` that is not pure never settles.
const MAX_REREADS: u32 = 100;

enum Phase {
    Queued,
    BackingOff,
    Loading,
    /// With the number of the question to the host.
    Deciding(Basis, u64),
    Staged,
}

/// Events that match the task's query, up to a position.
struct Matches {
    pages: Vec<KeptPage>,
    read_to: Position,
}

/// The last read of this task, made after the command came: stream and matches of one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fresh {
    revision: Revision,
    head: Position,
}

/// What a decision rests on.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Basis {
    revision: Revision,
    /// The staged commit whose state it is, if any.
    pub(super) tip: Option<TaskId>,
    /// Staged commits with events that match the query.
    pub(super) neighbours: Vec<TaskId>,
    read_to: Position,
    /// Whether a refusal would be final.
    is_final: bool,
}

impl CommandTask {
    /// Whether it waits for the answer to this question.
    pub(super) fn waits_for(&self, question: u64) -> bool {
        matches!(self.phase, Phase::Deciding(_, asked) if asked == question)
    }

    /// Whether it waits for the host.
    pub(super) fn has_asked(&self) -> bool {
        matches!(self.phase, Phase::Deciding(..))
    }

    fn is_queued(&self) -> bool {
        matches!(self.phase, Phase::Queued)
    }

    /// Whether its commit waits for an append or is in the one under way.
    fn is_staged(&self) -> bool {
        matches!(self.phase, Phase::Staged)
    }

    /// The append had no room for its commit.
    pub(super) fn unstage(&mut self) {
        self.phase = Phase::Queued;
    }

    /// Its append was taken back after an attempt that may have been applied.
    pub(super) fn doubt(&mut self) {
        self.maybe_applied = true;
    }

    /// The query that the decision has named.
    fn named(&self) -> &Query {
        self.named.as_ref().unwrap_or(&self.query)
    }

    /// Takes note of what a command has appended, up to the position `last`.
    pub(super) fn see_committed(&mut self, events: &[CommitEvent], last: Position) {
        if matches_any(&self.query, events) {
            self.overtaken = self.overtaken.max(last);
        }
    }

    /// Forgets everything read: it was of another store.
    pub(super) fn forget_reads(&mut self) {
        self.matches = None;
        self.overtaken = Position(0);
        self.fresh = None;
        self.must_load = true;
        if !matches!(self.phase, Phase::BackingOff) {
            self.phase = Phase::Queued;
        }
    }
}

pub(super) fn matches_any(query: &Query, events: &[CommitEvent]) -> bool {
    events.iter().any(|event| query.matches(&event.event.event_type, &event.event.tags))
}

impl Engine {
    #[inline(never)]
    pub(super) fn start_command(&mut self, execute: Execute) {
        let id = execute.task;
        match self.read_command(execute) {
            Ok(task) => {
                self.streams[task.key].queue.push_back(id);
                self.tasks.insert(id, Task::Command(Box::new(task)));
                self.ready.push_back(id);
            }
            Err(error) => self.notice(Notice::CommandDone { task: id, result: Err(error) }),
        }
    }

    fn read_command(&mut self, execute: Execute) -> Result<CommandTask, CommandError> {
        let Execute { stream, command_type, data, mut metadata, .. } = execute;
        stream.check()?;
        check_name("command type", &command_type)?;
        let aggregate = self
            .aggregate_index(&stream.aggregate_type)
            .ok_or_else(|| CommandError::UnknownAggregate(Arc::clone(&stream.aggregate_type)))?;
        for (what, name) in [
            ("correlation id", &metadata.correlation_id),
            ("causation id", &metadata.causation_id),
            ("actor", &metadata.actor),
        ] {
            name.as_deref().map_or(Ok(()), |name| check_name(what, name))?;
        }
        if let Some(extra) = &metadata.extra {
            check_payload(extra)
                .map_err(|error| CommandError::InvalidPayload { what: "metadata", error })?;
        }
        let hash = hash_command(&stream, &command_type, &data)
            .map_err(|error| CommandError::InvalidPayload { what: "command", error })?;
        let command = match self.domain(aggregate) {
            Domain::Native(native) => {
                Some(native.read_command(&command_type, &data).map_err(|reason| {
                    CommandError::DomainFailed { stream: stream.clone(), reason }
                })?)
            }
            Domain::Hosted => None,
        };
        let command_id = execute.command_id.unwrap_or_else(|| self.ids.command_id(self.now));
        metadata.correlation_id.get_or_insert_with(|| command_id.to_text());
        Ok(CommandTask {
            serial: self.next_serial(),
            key: self.streams.pin(&stream),
            stream,
            aggregate,
            command,
            command_id,
            hash,
            issued_at: execute.issued_at.unwrap_or(self.now),
            metadata: Arc::new(metadata),
            expected: execute.expected,
            phase: Phase::Queued,
            must_load: false,
            query: Query::none(),
            named: None,
            matches: None,
            overtaken: Position(0),
            fresh: None,
            snapshot: SnapshotUse::new(true),
            conflicts: 0,
            overtakings: 0,
            maybe_applied: false,
            rereads: 0,
        })
    }

    pub(super) fn command(&self, id: TaskId) -> &CommandTask {
        match self.tasks.get(&id) {
            Some(Task::Command(task)) => task,
            _ => unreachable!("task {} is a command", id.0),
        }
    }

    pub(super) fn command_mut(&mut self, id: TaskId) -> &mut CommandTask {
        match self.tasks.get_mut(&id) {
            Some(Task::Command(task)) => task,
            _ => unreachable!("task {} is a command", id.0),
        }
    }

    /// The next step of a queued command: read, decide, or wait for the append to settle.
    #[inline(never)]
    pub(super) fn step_command(&mut self, id: TaskId) {
        let task = self.command(id);
        let entry = &self.streams[task.key];
        if !task.is_queued()
            || entry.queue.front() != Some(&id)
            || !matches!(self.store, Store::Open(_))
        {
            return;
        }
        // What is read while an append that matters is to come would be stale at once.
        let staged_before = entry.tip.is_some();
        let overlaps = !task.query.is_none() && self.in_flight_matches(id);
        if entry.in_flight || overlaps || self.staged.len() >= self.config.max_commits {
            self.park(id);
            if overlaps {
                self.overtaken(id);
            }
            return;
        }
        let cold = entry.tip.is_none() && entry.committed.is_none();
        if task.must_load || cold {
            let overlaps = task.must_load && !self.matching_staged(id).is_empty();
            if staged_before || overlaps {
                self.park(id);
                if overlaps {
                    self.overtaken(id);
                }
            } else {
                self.wish_to_load(id);
            }
            return;
        }
        let task = self.command(id);
        if !task.query.is_none() {
            let read_to = task.matches.as_ref().map(|matches| matches.read_to);
            if read_to.is_some_and(|read_to| read_to < task.overtaken) {
                self.overtaken(id);
            }
            if read_to.is_none_or(|read_to| read_to < self.command(id).overtaken) {
                self.wish_to_load(id);
                return;
            }
        }
        self.decide(id);
    }

    // -----------------------------------------------------------------------------------------
    // Reading

    /// Wishes for the stream's tail, the matches of the query and the command's first outcome, all
    /// of one moment. With a predecessor staged, only for the matches.
    fn wish_to_load(&mut self, id: TaskId) {
        let task = self.command(id);
        let CommandTask { stream, aggregate, snapshot, .. } = task;
        let entry = &self.streams[task.key];
        let stream = entry.tip.is_none().then(|| {
            let from = entry.committed.clone().unwrap_or_else(|| At {
                revision: Revision(0),
                state: self.initial_state(*aggregate),
            });
            let load = StreamLoad {
                stream: stream.clone(),
                after: from.revision,
                snapshot: self.snapshot_key(*aggregate, stream, from.revision, snapshot),
                until: Until::End,
                limit: self.config.page_limit,
                fold: from.host_fold(id, *aggregate),
                whole: false,
            };
            (load, from)
        });
        let query = (!task.query.is_none()).then(|| QueryLoad {
            query: task.query.clone(),
            after: task.matches.as_ref().map_or(Position(0), |matches| matches.read_to),
            held: matches!(self.domain(*aggregate), Domain::Hosted),
        });
        let command = Some(task.command_id);
        let serial = task.serial;
        self.wishes.push(LoadWish { task: id, serial, command, stream, query });
        let task = self.command_mut(id);
        task.fresh = None;
        task.phase = Phase::Loading;
    }

    #[inline(never)]
    pub(super) fn command_loaded(&mut self, id: TaskId, part: Part) {
        let task = self.command_mut(id);
        // It may have been taken back meanwhile, and wait for something else.
        if !matches!(task.phase, Phase::Loading) {
            return;
        }
        task.phase = Phase::Queued;
        if let Some(first) = part.first {
            return self.found_first_outcome(id, first);
        }
        task.maybe_applied = false;
        if let Some(page) = part.matches {
            let page = match self.as_read_today(id, page) {
                Ok(page) => page,
                Err(error) => return self.finish_command(id, Err(error.into())),
            };
            let task = self.command_mut(id);
            let known = task
                .matches
                .get_or_insert_with(|| Matches { pages: Vec::new(), read_to: Position(0) });
            if !page.is_empty() {
                known.pages.push(page);
            }
            known.read_to = part.head;
        }
        let Some(mut slice) = part.slice else {
            self.ready.push_back(id);
            return;
        };
        let task = self.command_mut(id);
        let found = task.snapshot.loaded(&mut slice);
        let (aggregate, stream) = (task.aggregate, task.stream.clone());
        let (revision, more) = (slice.revision, slice.more);
        match self.fold(aggregate, &stream, Until::End, found, slice) {
            Ok(to) => self.command_folded(id, to, more, Fresh { revision, head: part.head }),
            Err(Unfolded::Snapshot) => self.load_without_snapshot(id),
            Err(Unfolded::Event(error)) => self.finish_command(id, Err(error.into())),
        }
    }

    fn load_without_snapshot(&mut self, id: TaskId) {
        let task = self.command_mut(id);
        task.snapshot = SnapshotUse::ignoring();
        self.ready.push_back(id);
    }

    #[inline(never)]
    fn command_folded(&mut self, id: TaskId, to: At, more: bool, fresh: Fresh) {
        let task = self.command_mut(id);
        let key = task.key;
        let known = std::mem::take(&mut task.snapshot);
        if more {
            task.must_load = true;
            task.snapshot = known;
            self.streams[key].learn(to);
        } else {
            task.must_load = false;
            task.fresh = Some(fresh);
            let (stream, aggregate) = (task.stream.clone(), task.aggregate);
            self.streams[key].learn(to);
            self.consider_snapshot(key, &stream, aggregate, &known);
        }
        self.ready.push_back(id);
    }

    fn found_first_outcome(&mut self, id: TaskId, first: FirstOutcome) {
        let task = self.command(id);
        if first.hash.may_equal(task.hash) {
            self.read_first_outcome(id, first);
        } else {
            let command_id = task.command_id;
            self.finish_command(id, Err(CommandError::CommandIdReused(command_id)));
        }
    }

    // -----------------------------------------------------------------------------------------
    // Deciding

    /// The staged commits whose events match the task's query.
    fn matching_staged(&self, id: TaskId) -> Vec<TaskId> {
        let query = &self.command(id).query;
        if query.is_none() {
            return Vec::new();
        }
        let staged = self.staged.iter();
        let matching = staged.filter(|staged| matches_any(query, &staged.commit.events));
        matching.map(|staged| staged.commit.task).collect()
    }

    fn in_flight_matches(&self, id: TaskId) -> bool {
        let query = &self.command(id).query;
        self.in_flight.as_ref().is_some_and(|in_flight| {
            in_flight.append.commits.iter().any(|commit| matches_any(query, &commit.events))
        })
    }

    /// What a decision of the task would rest on now.
    fn basis(&self, id: TaskId) -> Option<Basis> {
        let task = self.command(id);
        let entry = &self.streams[task.key];
        let at = entry.newest()?;
        let neighbours = self.matching_staged(id);
        let read_to = task.matches.as_ref().map_or(Position(0), |matches| matches.read_to);
        let is_fresh = task.fresh.is_some_and(|fresh| {
            entry.tip.is_none()
                && neighbours.is_empty()
                && fresh.revision == at.revision
                && (task.query.is_none() || fresh.head == read_to)
        });
        Some(Basis {
            revision: at.revision,
            tip: entry.tip.as_ref().map(|tip| tip.task),
            neighbours,
            read_to,
            is_final: is_fresh || mutant!(self, StaleRefusal),
        })
    }

    fn decide(&mut self, id: TaskId) {
        let basis = self.basis(id).expect("step_command has seen a state");
        let task = self.command(id);
        if !task.expected.accepts(basis.revision) {
            return self.wrong_revision(id, &basis);
        }
        let at = self.streams[task.key].newest();
        let state = at.expect("step_command has seen a state").state.clone();
        match state.0 {
            StateKind::Native(state) => self.decide_natively(id, basis, &state),
            StateKind::Hosted(_) => self.ask_for_decision(id, basis, &state),
        }
    }

    fn wrong_revision(&mut self, id: TaskId, basis: &Basis) {
        let task = self.command_mut(id);
        if basis.is_final {
            let error = CommandError::WrongRevision {
                stream: task.stream.clone(),
                expected: task.expected,
                actual: basis.revision,
            };
            self.finish_command(id, Err(error));
        } else {
            self.decide_on_fresh_state(id);
        }
    }

    fn decide_on_fresh_state(&mut self, id: TaskId) {
        let task = self.command_mut(id);
        task.must_load = true;
        task.fresh = None;
        task.phase = Phase::Queued;
        self.ready.push_back(id);
    }

    #[inline(never)]
    fn decide_natively(&mut self, id: TaskId, basis: Basis, state: &std::rc::Rc<dyn NativeState>) {
        let task = self.command(id);
        let Domain::Native(native) = self.domain(task.aggregate) else {
            unreachable!("a native state has a native domain")
        };
        let command = task.command.as_ref().expect("a native domain's command was read");
        let query = native.reads(command, state);
        if query != *task.named() {
            return self.query_found(id, query);
        }
        let staged: Vec<_> = self
            .staged
            .iter()
            .filter(|staged| basis.neighbours.contains(&staged.commit.task))
            .collect();
        let mut others = Vec::new();
        for page in task.matches.iter().flat_map(|matches| &matches.pages) {
            match page {
                KeptPage::Events(events) => others.extend(events.iter().map(Stored::other)),
                KeptPage::Rows(rows) => others.extend(rows.1.iter().map(Stored::other)),
                KeptPage::Upcast(rows) => others.extend(rows.iter().map(Stored::other)),
                KeptPage::Messages(..) | KeptPage::Held(_) => {
                    let reason = "the host kept the events of a native domain".into();
                    return self.domain_failed(id, reason);
                }
            }
        }
        for neighbour in staged {
            let mut revision = neighbour.revision_before;
            for event in &neighbour.commit.events {
                revision.0 += 1;
                let Payload::Text(data) = &event.event.data else {
                    // Its payload lives in the host, out of a native domain's sight: wait for it.
                    self.park(id);
                    return;
                };
                if task.named().matches(&event.event.event_type, &event.event.tags) {
                    others.push(OtherEvent {
                        stream: &neighbour.commit.stream,
                        revision,
                        issued_at: neighbour.commit.issued_at,
                        actor: neighbour.commit.metadata.actor.as_deref(),
                        event_type: &event.event.event_type,
                        data,
                    });
                }
            }
        }
        others.retain(|other| *other.stream != task.stream);
        let context = Context::new(task.issued_at, &others);
        match native.decide(state, command, &context) {
            NativeDecision::Decided { events, after } => {
                self.decided(id, basis, events, State(StateKind::Native(after)));
            }
            NativeDecision::Refused { code, details } => {
                self.refused(id, &basis, CommandError::Refused { code, details });
            }
            NativeDecision::Failed { reason } => {
                self.domain_failed(id, reason);
            }
        }
    }

    #[inline(never)]
    fn ask_for_decision(&mut self, id: TaskId, basis: Basis, state: &State) {
        let task = self.command(id);
        let mut neighbours = Vec::new();
        for staged in &self.staged {
            if !basis.neighbours.contains(&staged.commit.task) {
                continue;
            }
            let mut revision = staged.revision_before;
            for (index, event) in (0..).zip(&staged.commit.events) {
                revision.0 += 1;
                if matches!(event.event.data, Payload::Text(_)) {
                    // A native aggregate's event, which the host has not seen yet: wait for it.
                    self.park(id);
                    return;
                }
                if staged.commit.stream != task.stream
                    && task.named().matches(&event.event.event_type, &event.event.tags)
                {
                    neighbours.push(Neighbour { task: staged.commit.task, index, revision });
                }
            }
        }
        let pages = task.matches.iter().flat_map(|matches| &matches.pages);
        let Some(pages) = pages.map(held).collect() else {
            let reason = "the host gave the events of a hosted domain".into();
            return self.domain_failed(id, reason);
        };
        let query = task.named().clone();
        let others = (!query.is_none()).then_some(Others { query, pages, neighbours });
        let (aggregate, issued_at) = (task.aggregate, task.issued_at);
        let from = state.handle().expect("a hosted domain's states are hosted");
        let question = self.next_serial();
        self.command_mut(id).phase = Phase::Deciding(basis, question);
        self.asked += 1;
        self.outputs.push_back(Output::Domain(DomainRequest {
            task: id,
            aggregate,
            state: from,
            question,
            issued_at,
            others,
        }));
    }

    /// The host has decided the command. It keeps the state after the decision.
    #[inline(never)]
    pub(super) fn command_answered(
        &mut self,
        id: TaskId,
        result: DomainResult,
        after: Option<State>,
    ) {
        self.asked -= 1;
        let phase = std::mem::replace(&mut self.command_mut(id).phase, Phase::Queued);
        let Phase::Deciding(basis, _) = phase else {
            unreachable!("CommandTask::waits_for was asked")
        };
        // The host may have let others go ahead between question and answer.
        let in_flight = self.streams[self.command(id).key].in_flight;
        let blocked = in_flight || self.in_flight_matches(id);
        if blocked || self.basis(id).as_ref() != Some(&basis) {
            self.ready.push_back(id);
            return;
        }
        match (result, after) {
            (DomainResult::Reads(query), _) => self.query_found(id, query),
            (DomainResult::Decided(events, _), Some(after)) => {
                self.decided(id, basis, events, after);
            }
            (DomainResult::Refused, _) => {
                let error = CommandError::Refused { code: "".into(), details: "null".into() };
                self.refused(id, &basis, error);
            }
            (DomainResult::Failed | DomainResult::Decided(..), _) => {
                self.domain_failed(id, "the host has the reason".into());
            }
        }
    }

    /// The decision reads another query than what has been loaded.
    fn query_found(&mut self, id: TaskId, query: Query) {
        if let Err(error) = query.check() {
            return self.finish_command(id, Err(error.into()));
        }
        let widened = self.widened(&query);
        let task = self.command_mut(id);
        task.rereads += 1;
        if *task.named() == query || task.rereads > MAX_REREADS {
            let reason = "reads does not settle on a query: is it pure?".into();
            return self.domain_failed(id, reason);
        }
        (task.query, task.named) = match widened {
            Some(widened) => (widened, Some(query)),
            None => (query, None),
        };
        task.matches = None;
        let (reads, serial) = (!task.query.is_none(), task.serial);
        if reads {
            self.readers.insert((serial, id));
        } else {
            self.readers.remove(&(serial, id));
        }
        self.ready.push_back(id);
    }

    /// The query with the types whose events upcasters may make events of its types of; `None` if
    /// there are none.
    #[inline(never)]
    fn widened(&self, query: &Query) -> Option<Query> {
        let becoming = || self.config.aggregates.iter().flat_map(|known| known.becoming.iter());
        becoming().next()?;
        let mut query = query.clone();
        for item in query.items.iter_mut().filter(|item| !item.types.is_empty()) {
            item.types.extend(becoming().cloned());
        }
        Some(query)
    }

    /// Events of others as their aggregates' upcasters read them. The host does that with those that
    /// it keeps.
    #[inline(never)]
    fn as_read_today(&mut self, id: TaskId, page: KeptPage) -> Result<KeptPage, UnreadableEvent> {
        let task = self.command(id);
        let Domain::Native(native) = self.domain(task.aggregate) else {
            return Ok(page);
        };
        if mutant!(self, OthersAsStored) {
            return Ok(page);
        }
        let named = task.named.as_ref();
        let Some(read) = native.read_others(&self.config.aggregates, named, &page)? else {
            return Ok(page);
        };
        for skipped in read.skipped {
            self.notice(Notice::Skipped(skipped));
        }
        Ok(KeptPage::Upcast(Rc::new(read.rows)))
    }

    fn decided(&mut self, id: TaskId, basis: Basis, events: Vec<NewEvent>, after: State) {
        if let Err(error) = check_events(&events) {
            return self.finish_command(id, Err(error));
        }
        if !events.is_empty() && self.waits_for_elder(id, &events) {
            self.command_mut(id).unstage();
            self.park(id);
        } else if !events.is_empty() {
            let at =
                At { revision: Revision(basis.revision.0 + events.len() as u64), state: after };
            self.command_mut(id).phase = Phase::Staged;
            self.stage(id, basis, events, at);
        } else if basis.is_final {
            let task = self.command(id);
            let outcome = Outcome {
                command_id: task.command_id,
                commit: None,
                duplicate: false,
                revision: basis.revision,
                state: self.state_at_hand(id),
                events: Vec::new(),
                durability: self.durability(),
                behind: Vec::new(),
            };
            self.finish_command(id, Ok(outcome));
        } else {
            self.decide_on_fresh_state(id);
        }
    }

    /// An append whose events the command reads has kept it waiting, or made its read stale.
    fn overtaken(&mut self, id: TaskId) {
        let task = self.command_mut(id);
        task.overtakings += 1;
        if task.overtakings > MAX_OVERTAKINGS {
            let serial = task.serial;
            self.starving.insert((serial, id));
        }
    }

    /// Whether these events would overtake an older command once more.
    fn waits_for_elder(&self, id: TaskId, events: &[NewEvent]) -> bool {
        let serial = self.command(id).serial;
        if mutant!(self, OvertakingWithoutEnd) {
            return false;
        }
        let mut elders = self.starving.iter().take_while(|(elder, _)| *elder < serial);
        elders.any(|(_, elder)| {
            let query = &self.command(*elder).query;
            events.iter().any(|event| query.matches(&event.event_type, &event.tags))
        })
    }

    fn state_at_hand(&self, id: TaskId) -> State {
        let at = self.streams[self.command(id).key].committed.as_ref();
        at.expect("a final decision rests on a committed state").state.clone()
    }

    #[inline(never)]
    fn refused(&mut self, id: TaskId, basis: &Basis, refusal: CommandError) {
        if basis.is_final {
            self.finish_command(id, Err(refusal));
        } else {
            self.decide_on_fresh_state(id);
        }
    }

    // -----------------------------------------------------------------------------------------
    // Ends

    /// What the decision has read of its query: the condition's position.
    pub(super) fn read_to(&self, id: TaskId) -> Position {
        self.command(id).matches.as_ref().map_or(Position(0), |matches| matches.read_to)
    }

    /// The command lost against others. It keeps its turn and decides again, but not for ever.
    #[inline(never)]
    pub(super) fn lost(&mut self, id: TaskId, conflict: Conflict) {
        let max_conflicts = self.config.max_conflicts;
        let task = self.command_mut(id);
        task.must_load = true;
        task.fresh = None;
        task.phase = Phase::Queued;
        // A neighbour's conflict has been counted as the neighbour's.
        if !matches!(conflict, Conflict::Neighbour { .. }) {
            task.conflicts += 1;
        }
        if task.conflicts > max_conflicts {
            let error = CommandError::Contended {
                stream: task.stream.clone(),
                attempts: task.conflicts,
                last: conflict,
            };
            return self.finish_command(id, Err(error));
        }
        if task.conflicts >= 2 {
            task.phase = Phase::BackingOff;
            let conflicts = task.conflicts;
            let pause = self.back_off(conflicts);
            self.set_timer(pause, Timer::Command(id));
        }
        self.requeue(id);
    }

    /// Back to the front of the stream's queue.
    pub(super) fn requeue(&mut self, id: TaskId) {
        let key = self.command(id).key;
        self.streams[key].queue.push_front(id);
        self.ready.push_back(id);
    }

    pub(super) fn back_off_over(&mut self, id: TaskId) {
        if let Some(Task::Command(task)) = self.tasks.get_mut(&id)
            && matches!(task.phase, Phase::BackingOff)
        {
            task.phase = Phase::Queued;
            self.ready.push_back(id);
        }
    }

    pub(super) fn cancel_command(&mut self, id: TaskId) {
        // What is staged may be in the log in a moment: its outcome tells.
        if !self.command(id).is_staged() {
            self.finish_command(id, Err(CommandError::Cancelled));
        }
    }

    #[inline(never)]
    fn domain_failed(&mut self, id: TaskId, reason: Arc<str>) {
        let stream = self.command(id).stream.clone();
        self.finish_command(id, Err(CommandError::DomainFailed { stream, reason }));
    }

    /// Ends the task and lets the next command of the stream go on.
    pub(super) fn finish_command(&mut self, id: TaskId, mut result: Result<Outcome, CommandError>) {
        let task = self.command(id);
        if task.maybe_applied {
            let command_id = task.command_id;
            result = result.map_err(|error| error.with_unknown_outcome(command_id));
        }
        self.end_command(id);
        match result {
            Ok(outcome) => self.tell_outcome(id, Box::new(outcome), Vec::new()),
            Err(error) => self.notice(Notice::CommandDone { task: id, result: Err(error) }),
        }
    }

    /// Forgets the task and lets the next command of its stream go on.
    pub(super) fn end_command(&mut self, id: TaskId) -> CommandTask {
        let Some(Task::Command(task)) = self.tasks.remove(&id) else {
            unreachable!("task {} is a command", id.0)
        };
        let entry = &mut self.streams[task.key];
        if let Some(place) = entry.queue.iter().position(|queued| *queued == id) {
            entry.queue.remove(place);
        }
        self.ready.extend(entry.queue.front());
        self.streams.unpin(task.key);
        self.asked -= usize::from(task.has_asked());
        let place = (task.serial, id);
        self.parked.remove(&place);
        self.readers.remove(&place);
        if self.starving.remove(&place) {
            self.unpark();
        }
        *task
    }

    pub(super) fn durability(&self) -> crate::protocol::Durability {
        match &self.store {
            Store::Open(info) => info.durability,
            _ => unreachable!("nothing is decided before the store is open"),
        }
    }

    // -----------------------------------------------------------------------------------------
    // Folding, for commands and reads

    /// The state after what a load has given of a stream, and after the snapshot that it has found.
    pub(super) fn fold(
        &mut self,
        aggregate: AggregateIndex,
        stream: &StreamId,
        until: Until,
        found: Option<StoredSnapshot>,
        slice: Slice,
    ) -> Result<At, Unfolded> {
        let Slice { from, page, folded, revision, more, .. } = slice;
        let has_snapshot = found.is_some();
        let from = self.start_of_fold(aggregate, stream, from, found, revision)?;
        let after = from.revision;
        let unreadable = |index: usize, why: Unreadable| {
            Unfolded::Event(why.at(stream, Revision(after.0 + index as u64 + 1)))
        };
        if let Err(reason) = check_slice(after, until, page.len(), revision, more) {
            self.streams.forget_state(stream);
            return Err(unreadable(0, Unreadable::new(reason)));
        }
        let (state, skipped) = match (from.state.0, folded) {
            (StateKind::Native(state), _) if page.is_empty() => (StateKind::Native(state), None),
            (StateKind::Native(state), _) => {
                let Domain::Native(native) = self.domain(aggregate) else {
                    unreachable!("a native state has a native domain")
                };
                let folded = match &page {
                    KeptPage::Events(events) => {
                        native.fold(state, &mut events.iter().map(|event| event.text()))
                    }
                    KeptPage::Rows(rows) => {
                        native.fold(state, &mut rows.1.iter().map(|row| row.text()))
                    }
                    KeptPage::Messages(forms, data) => native.fold_json(state, forms, data),
                    KeptPage::Held(_) | KeptPage::Upcast(_) => {
                        Err((0, Unreadable::new("the host kept the events of a native domain")))
                    }
                };
                let Folded { state, skipped } =
                    folded.map_err(|(index, why)| unreadable(index, why))?;
                (StateKind::Native(state), skipped)
            }
            (StateKind::Hosted(_), Some(Ok((state, skipped)))) => (state.0, skipped),
            (StateKind::Hosted(_), Some(Err(HostFoldError::Event { index, problem, reason }))) => {
                return Err(unreadable(index as usize, Unreadable { problem, reason }));
            }
            (StateKind::Hosted(_), Some(Err(HostFoldError::Snapshot(reason)))) if has_snapshot => {
                self.ignore_snapshot(stream, after, reason);
                return Err(Unfolded::Snapshot);
            }
            (unchanged, None) if page.is_empty() && !has_snapshot => (unchanged, None),
            (StateKind::Hosted(_), _) => {
                let why = Unreadable::new("the host has not folded the events of its domain");
                return Err(unreadable(0, why));
            }
        };
        if let Some(Skipped { count, last, event_type }) = skipped {
            let revision = Revision(after.0 + u64::from(last) + 1);
            let skipped = SkippedEvents { stream: stream.clone(), revision, event_type, count };
            self.notice(Notice::Skipped(skipped));
        }
        Ok(At { revision: Revision(after.0 + page.len()), state: State(state) })
    }
}

/// Why a load gives no state.
pub(super) enum Unfolded {
    /// What was found is no state of the stream, which has been reported: it is to be read again without it.
    Snapshot,
    /// An event can't be read.
    Event(UnreadableEvent),
}

fn held(page: &KeptPage) -> Option<PageId> {
    match page {
        KeptPage::Held(lease) => Some(lease.page),
        _ => None,
    }
}

fn check_events(events: &[NewEvent]) -> Result<(), CommandError> {
    for event in events {
        check_name("event type", &event.event_type)?;
        for tag in &event.tags {
            check_name("tag", tag)?;
        }
        if event.schema_version == 0 {
            return Err(InvalidName::Empty { what: "schema version" }.into());
        }
        if let Payload::Text(text) = &event.data {
            check_payload(text)
                .map_err(|error| CommandError::InvalidPayload { what: "event", error })?;
        }
    }
    Ok(())
}
