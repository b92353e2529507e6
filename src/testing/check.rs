//! What must be true after, and during, every run.
//!
//! The yardstick is the log itself: what a command should have given is computed by deciding it
//! again, alone, on a prefix of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::aggregate::{Aggregate, Context};
use crate::error::CommandError;
use crate::event::{CommitSummary, RecordedEvent};
use crate::ids::{CommandId, EventId};
use crate::protocol::ReadAt;
use crate::stream::{ExpectedRevision, Position, Revision, StreamId};
use crate::time::Timestamp;
use crate::variant::{from_variant, to_variant};

use super::desk::{Appointment, Command, Event, State, as_other};
use super::managers;

/// An operation as it was given.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) stream: StreamId,
    /// `None` is a read.
    pub(super) command: Option<Command>,
    pub(super) command_id: CommandId,
    pub(super) expected: ExpectedRevision,
    pub(super) issued_at: Timestamp,
    pub(super) actor: Arc<str>,
    /// The head of the log when it was given, the last time.
    pub(super) given_at_head: Position,
    /// Whether it was given before, with an outcome nobody knows: an append of then may still be
    /// on its way to the store, and land after whatever was answered since.
    pub(super) haunted: bool,
}

impl Asked {
    /// As of when the operation with this index reads: one in five as of the past.
    pub(super) fn read_at(&self, index: usize) -> ReadAt {
        if !index.is_multiple_of(5) {
            return ReadAt::Now;
        }
        ReadAt::Position(Position(self.given_at_head.0 * (index as u64 % 4) / 3))
    }
}

/// An answer as it was heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) commit: Option<CommitSummary>,
    pub(super) revision: Revision,
    pub(super) state: String,
    pub(super) events: Vec<RecordedEvent>,
}

#[derive(Debug, Default)]
pub(super) struct Checker {
    /// Up to where each host has followed the log.
    followed: BTreeMap<usize, Position>,
    /// Commands that were acknowledged, and where.
    acknowledged: BTreeMap<CommandId, CommitSummary>,
    /// Operations that ended without a commit, for certain.
    without_commit: BTreeMap<CommandId, BTreeSet<usize>>,
}

/// What a command comes to, decided alone.
#[derive(Debug, PartialEq)]
enum Verdict {
    Events(Vec<Event>),
    Refused(Arc<str>, Arc<str>),
}

fn prefix(log: &[RecordedEvent], head: Position) -> &[RecordedEvent] {
    &log[..usize::try_from(head.0).expect("a position of this log")]
}

fn state_at(log: &[RecordedEvent], stream: &StreamId) -> (State, Revision) {
    let mut state = Appointment::initial();
    let mut revision = Revision(0);
    for event in log.iter().filter(|event| event.stream == *stream) {
        state = Appointment::evolve(state, &read(event));
        revision = event.revision;
    }
    (state, revision)
}

fn read(event: &RecordedEvent) -> Event {
    from_variant(&event.event_type, &event.data).expect("an event of the desk")
}

fn decide(log: &[RecordedEvent], asked: &Asked) -> Verdict {
    let command = asked.command.as_ref().expect("a command");
    let (state, _) = state_at(log, &asked.stream);
    let query = Appointment::reads(command, &state);
    let others: Vec<_> = log
        .iter()
        .filter(|event| event.stream != asked.stream)
        .filter(|event| query.matches(&event.event_type, &event.tags))
        .map(as_other)
        .collect();
    let context = Context::new(asked.issued_at, &others);
    match Appointment::decide(&state, command, &context) {
        Ok(events) => Verdict::Events(events),
        Err(refusal) => {
            let (code, details) = to_variant(&refusal).expect("an enum");
            Verdict::Refused(code, details)
        }
    }
}

fn is_in(log: &[RecordedEvent], id: CommandId) -> bool {
    log.iter().any(|event| event.command_id == id)
}

impl Checker {
    pub(super) fn followed(&self, host: usize) -> Position {
        self.followed.get(&host).copied().unwrap_or_default()
    }

    /// A subscription gives each event once, in order.
    pub(super) fn hear_events(
        &mut self,
        host: usize,
        events: &[RecordedEvent],
        next: Position,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let mut at = self.followed(host);
        for event in events {
            at.0 += 1;
            if log.get(at.0 as usize - 1) != Some(event) {
                return Err(format!("host {host} follows {event:?} at position {at}"));
            }
        }
        if at != next {
            return Err(format!("host {host} has followed to {at}, and is told {next}"));
        }
        self.followed.insert(host, at);
        Ok(())
    }

    pub(super) fn hear_read(
        &mut self,
        asked: &Asked,
        at: ReadAt,
        head: Position,
        heard: &Heard,
        wants_events: bool,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let (first, last) = match at {
            ReadAt::Position(position) => (position, position),
            _ => (asked.given_at_head, head),
        };
        let (_, at_least) = state_at(prefix(log, first), &asked.stream);
        let (_, at_most) = state_at(prefix(log, last), &asked.stream);
        if heard.revision < at_least || heard.revision > at_most {
            return Err(format!(
                "a read of {} gives revision {}, not one of {at_least} to {at_most}",
                asked.stream, heard.revision
            ));
        }
        let stream: Vec<_> = log.iter().filter(|event| event.stream == asked.stream).collect();
        let events: Vec<_> = stream.into_iter().take(heard.revision.0 as usize).collect();
        check_state(&events, &heard.state)?;
        if wants_events && events != heard.events.iter().collect::<Vec<_>>() {
            return Err(format!("the history of {} is not its events", asked.stream));
        }
        Ok(())
    }

    /// A snapshot is of a revision that the stream had while it was wished for.
    pub(super) fn hear_snapshot(
        &self,
        asked: &Asked,
        head: Position,
        revision: Revision,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let (_, at_least) = state_at(prefix(log, asked.given_at_head), &asked.stream);
        let (_, at_most) = state_at(prefix(log, head), &asked.stream);
        if (at_least..=at_most).contains(&revision) {
            return Ok(());
        }
        Err(format!(
            "a snapshot of {} is of revision {revision}, not one of {at_least} to {at_most}",
            asked.stream
        ))
    }

    pub(super) fn hear_command(
        &mut self,
        asked: &Asked,
        operation: usize,
        head: Position,
        result: &Result<Heard, CommandError>,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        // Moments at which an answer without a commit can have been true.
        let moments = (asked.given_at_head.0..=head.0).map(|head| prefix(log, Position(head)));
        let mut unknown = moments.filter(|log| !is_in(log, asked.command_id));
        let true_at_some_moment = match result {
            Ok(Heard { commit: Some(commit), revision, state, events }) => {
                self.acknowledged.insert(asked.command_id, commit.clone());
                return check_commit(asked, commit, *revision, state, events, log);
            }
            Ok(Heard { commit: None, revision, state, .. }) => unknown.any(|log| {
                let (found, at) = state_at(log, &asked.stream);
                decide(log, asked) == Verdict::Events(Vec::new())
                    && at == *revision
                    && asked.expected.accepts(at)
                    && serde_json::to_string(&found).is_ok_and(|found| found == *state)
            }),
            Err(CommandError::Refused { code, details }) => unknown.any(|log| {
                decide(log, asked) == Verdict::Refused(Arc::clone(code), Arc::clone(details))
                    && asked.expected.accepts(state_at(log, &asked.stream).1)
            }),
            Err(CommandError::WrongRevision { actual, .. }) => unknown.any(|log| {
                let (_, revision) = state_at(log, &asked.stream);
                revision == *actual && !asked.expected.accepts(revision)
            }),
            Err(CommandError::CommandIdReused(_)) => {
                return if is_in(prefix(log, head), asked.command_id) {
                    Ok(())
                } else {
                    Err(format!("{} is said to be reused, and is not in the log", asked.command_id))
                };
            }
            Err(
                CommandError::Contended { .. } | CommandError::Storage(_) | CommandError::Cancelled,
            ) => true,
            Err(error) => return Err(format!("{asked:?}: {error}")),
        };
        if !true_at_some_moment {
            return Err(format!("{asked:?} was answered {result:?}, which was never true"));
        }
        self.without_commit.entry(asked.command_id).or_default().insert(operation);
        Ok(())
    }

    /// The log is what the commands, decided one after another, would have made it.
    pub(super) fn check_log(
        &mut self,
        operations: &[Asked],
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let mut revisions: BTreeMap<&StreamId, Revision> = BTreeMap::new();
        let mut commands = BTreeSet::new();
        let mut recorded_at = Timestamp::default();
        let mut index = 0;
        while index < log.len() {
            let event = &log[index];
            let id = event.command_id;
            let count = log[index..].iter().take_while(|next| next.command_id == id).count();
            if !commands.insert(id) {
                return Err(format!("command {id} is in the log twice"));
            }
            let commit = &log[index..index + count];
            for (offset, event) in (0..).zip(commit) {
                let revision = revisions.entry(&event.stream).or_default();
                revision.0 += 1;
                let position = Position((index + offset as usize) as u64 + 1);
                if event.revision != *revision || event.position != position {
                    return Err(format!("{event:?} is out of place"));
                }
                if event.event_id != EventId::derive(id, offset) {
                    return Err(format!("{event:?} has a foreign id"));
                }
                if event.recorded_at < recorded_at {
                    return Err(format!("{event:?} was recorded before its predecessor"));
                }
                recorded_at = event.recorded_at;
            }
            if !managers::is_own(event) {
                self.check_decision(operations, &log[..index], commit)?;
            }
            index += count;
        }
        for id in self.acknowledged.keys() {
            if !commands.contains(id) {
                return Err(format!("command {id} was acknowledged and is not in the log"));
            }
        }
        for (id, ended) in &self.without_commit {
            let given = || operations.iter().filter(|asked| asked.command_id == *id);
            let certain = given().count() == ended.len() && !given().any(|asked| asked.haunted);
            if certain && commands.contains(id) {
                return Err(format!("command {id} was said not to be in the log, and is"));
            }
        }
        Ok(())
    }

    fn check_decision(
        &self,
        operations: &[Asked],
        before: &[RecordedEvent],
        commit: &[RecordedEvent],
    ) -> Result<(), String> {
        let first = &commit[0];
        let mut given = operations
            .iter()
            .filter(|asked| asked.command_id == first.command_id && asked.command.is_some());
        let (mut state, revision) = state_at(before, &first.stream);
        let decided: Vec<Event> = commit.iter().map(read).collect();
        let explained = given.any(|asked| {
            asked.stream == first.stream
                && asked.issued_at == first.issued_at
                && Some(&asked.actor) == first.metadata.actor.as_ref()
                && asked.expected.accepts(revision)
                && decide(before, asked) == Verdict::Events(decided.clone())
        });
        if !explained {
            return Err(format!("nobody's command explains {commit:?}"));
        }
        for (recorded, event) in commit.iter().zip(&decided) {
            if recorded.tags != Appointment::tags(event, &state) {
                return Err(format!("{recorded:?} has foreign tags"));
            }
            state = Appointment::evolve(state, event);
        }
        Ok(())
    }
}

fn check_state(events: &[&RecordedEvent], heard: &str) -> Result<(), String> {
    let fold = events
        .iter()
        .fold(Appointment::initial(), |state, event| Appointment::evolve(state, &read(event)));
    let state = serde_json::to_string(&fold).map_err(|error| error.to_string())?;
    if state == heard {
        Ok(())
    } else {
        Err(format!("a state is {heard}, its events give {state}"))
    }
}

/// An outcome is where and what the log says.
fn check_commit(
    asked: &Asked,
    commit: &CommitSummary,
    revision: Revision,
    state: &str,
    events: &[RecordedEvent],
    log: &[RecordedEvent],
) -> Result<(), String> {
    let start = usize::try_from(commit.position.0 - 1).expect("a position of this log");
    let found = log.get(start..start + commit.count as usize);
    let found = found.ok_or_else(|| format!("{asked:?} was acknowledged beyond the log"))?;
    let fits = found.iter().all(|event| event.command_id == asked.command_id)
        && found.last().is_some_and(|event| event.revision == commit.revision)
        && commit.revision == revision;
    if !fits {
        return Err(format!("{asked:?} was acknowledged as {commit:?}, where {found:?} is"));
    }
    // A command with the same id may have been another; this one must have led to these events.
    let decided = Verdict::Events(found.iter().map(read).collect());
    if decide(&log[..start], asked) != decided {
        return Err(format!(
            "{asked:?} was acknowledged with {found:?}, to which it does not lead"
        ));
    }
    if !events.is_empty() && events != found {
        return Err(format!("{asked:?} gave {events:?}, the log has {found:?}"));
    }
    let events: Vec<_> =
        log.iter().filter(|e| e.stream == asked.stream && e.revision <= revision).collect();
    check_state(&events, state)
}
