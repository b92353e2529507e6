//! Reads of a stream's state and history, and of the first outcome of a repeated command.

use std::sync::Arc;

use crate::error::{CommandError, ReadError, StorageError};
use crate::event::{FirstOutcome, TaskId};
use crate::ids::CommandId;
use crate::protocol::{
    AggregateIndex, Notice, Outcome, ReadAt, ReadState, StateRead, StreamLoad, TakeSnapshot, Until,
};
use crate::stream::{Revision, StreamId};
use crate::upcast::Unreadable;

use super::command::Unfolded;
use super::requests::{LoadWish, Part};
use super::snapshotting::SnapshotUse;
use super::streams::At;
use super::{Engine, KeptPage, Store, Task};

/// A read under way.
pub(super) struct ReadTask {
    pub(super) serial: u64,
    stream: StreamId,
    aggregate: AggregateIndex,
    goal: Goal,
    phase: Phase,
    /// The state so far; `None` before the first read.
    at: Option<At>,
    /// The events so far, if they are wanted.
    events: Option<Vec<KeptPage>>,
    snapshot: SnapshotUse,
}

enum Goal {
    State(ReadAt),
    /// The state as it is now, kept as a snapshot.
    Snapshot,
    /// The state and events of a commit, for a command that had been committed before.
    FirstOutcome {
        command_id: CommandId,
        first: FirstOutcome,
    },
}

enum Phase {
    Queued,
    Loading,
    /// The snapshot is on its way to the store.
    Keeping,
}

impl ReadTask {
    /// Where the next read ends. A first outcome is read in two parts, so that only the events of
    /// its commit are kept.
    fn until(&self) -> Until {
        match &self.goal {
            Goal::State(ReadAt::Now | ReadAt::Cached) | Goal::Snapshot => Until::End,
            Goal::State(ReadAt::Revision(revision)) => Until::Revision(*revision),
            Goal::State(ReadAt::Position(position)) => Until::Position(*position),
            Goal::State(ReadAt::Time(time)) => Until::Time(*time),
            Goal::FirstOutcome { first, .. } => {
                let before = first.commit.revision_before();
                let reached = self.at.as_ref().map_or(Revision(0), |at| at.revision);
                if reached < before {
                    Until::Revision(before)
                } else {
                    Until::Revision(first.commit.revision)
                }
            }
        }
    }

    fn keeps_events(&self) -> bool {
        match &self.goal {
            Goal::State(_) | Goal::Snapshot => true,
            Goal::FirstOutcome { first, .. } => {
                let before = first.commit.revision_before();
                self.at.as_ref().is_some_and(|at| at.revision >= before)
            }
        }
    }

    /// Whether a state at this revision is a step on the way to the goal.
    fn can_start_at(&self, revision: Revision) -> bool {
        match &self.goal {
            // A history has all events, so it starts at the first.
            Goal::State(_) if self.events.is_some() => false,
            Goal::State(ReadAt::Now | ReadAt::Cached) | Goal::Snapshot => true,
            Goal::State(ReadAt::Revision(wanted)) => revision <= *wanted,
            Goal::State(ReadAt::Position(_) | ReadAt::Time(_)) => false,
            Goal::FirstOutcome { first, .. } => revision <= first.commit.revision_before(),
        }
    }
}

impl Engine {
    #[inline(never)]
    pub(super) fn start_read(&mut self, read: ReadState) {
        let ReadState { task: id, stream, at, events } = read;
        let aggregate = match self.check_read(&stream) {
            Ok(aggregate) => aggregate,
            Err(error) => {
                return self.notice(Notice::StateRead { task: id, result: Err(error) });
            }
        };
        // What is at hand is given at once, without a task.
        if matches!(at, ReadAt::Cached)
            && !events
            && matches!(self.store, Store::Open(_))
            && let Some(At { revision, state }) = self.streams.take_at_hand(&stream)
        {
            let read = StateRead { state, revision, events: Vec::new() };
            return self.notice(Notice::StateRead { task: id, result: Ok(read) });
        }
        let task = ReadTask {
            serial: self.next_serial(),
            stream,
            aggregate,
            goal: Goal::State(at),
            phase: Phase::Queued,
            at: None,
            events: events.then(Vec::new),
            // A history has all events, and the past may be before the snapshot.
            snapshot: SnapshotUse::new(!events && matches!(at, ReadAt::Now | ReadAt::Cached)),
        };
        self.tasks.insert(id, Task::Read(Box::new(task)));
        self.ready.push_back(id);
    }

    pub(super) fn start_snapshot(&mut self, wish: TakeSnapshot) {
        let TakeSnapshot { task: id, stream } = wish;
        let aggregate = match self.check_read(&stream) {
            Ok(aggregate) if !self.has_snapshots(aggregate) => {
                Err(ReadError::NoSnapshots(Arc::clone(&stream.aggregate_type)))
            }
            checked => checked,
        };
        let aggregate = match aggregate {
            Ok(aggregate) => aggregate,
            Err(error) => {
                return self.notice(Notice::SnapshotTaken { task: id, result: Err(error) });
            }
        };
        let task = ReadTask {
            serial: self.next_serial(),
            stream,
            aggregate,
            goal: Goal::Snapshot,
            phase: Phase::Queued,
            at: None,
            events: None,
            snapshot: SnapshotUse::new(true),
        };
        self.tasks.insert(id, Task::Read(Box::new(task)));
        self.ready.push_back(id);
    }

    fn check_read(&self, stream: &StreamId) -> Result<AggregateIndex, ReadError> {
        stream.check()?;
        let aggregate = self.aggregate_index(&stream.aggregate_type);
        aggregate.ok_or_else(|| ReadError::UnknownAggregate(Arc::clone(&stream.aggregate_type)))
    }

    /// Turns a command that turned out to be a repetition into a read of its first outcome.
    pub(super) fn read_first_outcome(&mut self, id: TaskId, first: FirstOutcome) {
        let serial = self.next_serial();
        let task = self.end_command(id);
        let read = ReadTask {
            serial,
            stream: first.stream.clone(),
            aggregate: self
                .aggregate_index(&task.stream.aggregate_type)
                .expect("a command's aggregate was found when it came"),
            goal: Goal::FirstOutcome { command_id: task.command_id, first },
            phase: Phase::Queued,
            at: None,
            events: Some(Vec::new()),
            snapshot: SnapshotUse::default(),
        };
        self.tasks.insert(id, Task::Read(Box::new(read)));
        self.ready.push_back(id);
    }

    fn read(&self, id: TaskId) -> &ReadTask {
        match self.tasks.get(&id) {
            Some(Task::Read(task)) => task,
            _ => unreachable!("task {} is a read", id.0),
        }
    }

    fn read_mut(&mut self, id: TaskId) -> &mut ReadTask {
        match self.tasks.get_mut(&id) {
            Some(Task::Read(task)) => task,
            _ => unreachable!("task {} is a read", id.0),
        }
    }

    #[inline(never)]
    pub(super) fn step_read(&mut self, id: TaskId) {
        let task = self.read(id);
        if !matches!(task.phase, Phase::Queued) || !matches!(self.store, Store::Open(_)) {
            return;
        }
        if task.at.is_none() {
            let committed = self.streams.committed(&task.stream);
            let hot = committed.filter(|at| task.can_start_at(at.revision)).cloned();
            let done = hot.is_some() && matches!(task.goal, Goal::State(ReadAt::Cached));
            let start = hot.unwrap_or_else(|| At {
                revision: Revision(0),
                state: self.initial_state(task.aggregate),
            });
            self.read_mut(id).at = Some(start);
            if done {
                return self.read_done(id);
            }
        }
        let task = self.read(id);
        let ReadTask { serial, stream, aggregate, snapshot, .. } = task;
        let (serial, from) = (*serial, task.at.clone().expect("set above"));
        let load = StreamLoad {
            stream: stream.clone(),
            after: from.revision,
            snapshot: self.snapshot_key(*aggregate, stream, from.revision, snapshot),
            until: task.until(),
            limit: self.config.page_limit,
            fold: from.host_fold(id, *aggregate),
            whole: task.events.is_some(),
        };
        let stream = Some((load, from));
        self.wishes.push(LoadWish { task: id, serial, command: None, stream, query: None });
        self.read_mut(id).phase = Phase::Loading;
    }

    #[inline(never)]
    pub(super) fn read_loaded(&mut self, id: TaskId, part: Part) {
        let mut slice = part.slice.expect("a read asks for a stream");
        let task = self.read_mut(id);
        if !matches!(task.phase, Phase::Loading) {
            return;
        }
        if let Goal::State(ReadAt::Position(asked)) = task.goal
            && part.head < asked
        {
            let error = ReadError::NoSuchPosition { asked, head: part.head };
            return self.finish_read(id, Err(error));
        }
        let keeps_events = task.keeps_events();
        if let Some(events) = &mut task.events
            && keeps_events
            && !slice.page.is_empty()
        {
            events.push(slice.page.clone());
        }
        let found = task.snapshot.loaded(&mut slice);
        let (aggregate, stream, until) = (task.aggregate, task.stream.clone(), task.until());
        let (revision, more) = (slice.revision, slice.more);
        match self.fold(aggregate, &stream, until, found, slice) {
            Ok(to) => self.read_folded(id, to, more, revision),
            Err(Unfolded::Snapshot) => self.read_without_snapshot(id),
            Err(Unfolded::Event(error)) => self.finish_read(id, Err(error.into())),
        }
    }

    fn read_without_snapshot(&mut self, id: TaskId) {
        let task = self.read_mut(id);
        task.phase = Phase::Queued;
        task.snapshot = SnapshotUse::ignoring();
        self.ready.push_back(id);
    }

    #[inline(never)]
    fn read_folded(&mut self, id: TaskId, to: At, more: bool, revision: Revision) {
        let task = self.read_mut(id);
        task.phase = Phase::Queued;
        let reached = to.revision;
        task.at = Some(to);
        let goes_on = match &task.goal {
            Goal::FirstOutcome { first, .. } if revision < first.commit.revision => {
                let why = Unreadable::new("its command was committed, and it is missing");
                let error = why.at(&task.stream, Revision(reached.0 + 1));
                return self.finish_read(id, Err(error.into()));
            }
            Goal::FirstOutcome { first, .. } => reached < first.commit.revision,
            Goal::State(_) | Goal::Snapshot => more,
        };
        if goes_on {
            self.ready.push_back(id);
            return;
        }
        if let Goal::State(ReadAt::Revision(asked)) = task.goal
            && revision < asked
        {
            let error =
                ReadError::NoSuchRevision { stream: task.stream.clone(), asked, actual: revision };
            return self.finish_read(id, Err(error));
        }
        self.read_done(id);
    }

    fn read_done(&mut self, id: TaskId) {
        let task = self.read(id);
        let at = task.at.clone().expect("a read ends somewhere");
        let wished = matches!(task.goal, Goal::Snapshot);
        let is_now = wished || matches!(task.goal, Goal::State(ReadAt::Now | ReadAt::Cached));
        if is_now && at.revision.0 > 0 {
            let (stream, aggregate) = (task.stream.clone(), task.aggregate);
            let known = std::mem::take(&mut self.read_mut(id).snapshot);
            let key = self.streams.pin(&stream);
            self.streams[key].learn(at.clone());
            if wished {
                let newest = &mut self.streams[key].snapshot;
                *newest = at.revision.max(*newest);
            } else {
                self.consider_snapshot(key, &stream, aggregate, &known);
            }
            self.streams.unpin(key);
            if wished {
                let task = self.read_mut(id);
                task.phase = Phase::Keeping;
                let serial = task.serial;
                return self.keep_snapshot(stream, aggregate, at, Some((id, serial)));
            }
        }
        let events = self.read(id).events.iter().flatten().map(KeptPage::to_page).collect();
        self.finish_read(id, Ok(StateRead { state: at.state, revision: at.revision, events }));
    }

    /// What became of the snapshot that a task has wished for, if it is still there.
    pub(super) fn snapshot_taken(
        &mut self,
        id: TaskId,
        serial: u64,
        result: Result<(), ReadError>,
    ) {
        let Some(Task::Read(task)) = self.tasks.get(&id).filter(|task| task.serial() == serial)
        else {
            return;
        };
        let at = task.at.clone().expect("it has been read");
        let read = StateRead { revision: at.revision, state: at.state, events: Vec::new() };
        self.finish_read(id, result.map(|()| read));
    }

    pub(super) fn cancel_read(&mut self, id: TaskId) {
        // A repeated command is in the log: its outcome comes.
        if !matches!(self.read(id).goal, Goal::FirstOutcome { .. }) {
            self.finish_read(id, Err(ReadError::Cancelled));
        }
    }

    pub(super) fn finish_read(&mut self, id: TaskId, result: Result<StateRead, ReadError>) {
        let Some(Task::Read(task)) = self.tasks.remove(&id) else {
            unreachable!("task {} is a read", id.0)
        };
        let notice = match task.goal {
            Goal::State(_) => Notice::StateRead { task: id, result },
            Goal::Snapshot => {
                Notice::SnapshotTaken { task: id, result: result.map(|read| read.revision) }
            }
            Goal::FirstOutcome { command_id, first } => match result {
                Ok(read) => {
                    let outcome = Outcome {
                        command_id,
                        commit: Some(first.commit),
                        duplicate: true,
                        revision: read.revision,
                        state: read.state,
                        events: read.events,
                        durability: self.durability(),
                        behind: Vec::new(),
                    };
                    let pages = task.events.unwrap_or_default();
                    return self.tell_outcome(id, Box::new(outcome), pages);
                }
                Err(error) => {
                    let result = Err(outcome_unread(command_id, error));
                    Notice::CommandDone { task: id, result }
                }
            },
        };
        self.notice(notice);
    }
}

/// Whether the store gave the events it says there are. One that does not would be read for ever,
/// or give a state that never was.
pub(super) fn check_slice(
    from: Revision,
    until: Until,
    events: u64,
    revision: Revision,
    more: bool,
) -> Result<(), Arc<str>> {
    let reached = Revision(from.0 + events);
    let fits = match until {
        _ if more => events > 0 && reached < revision,
        Until::End => reached == revision,
        // Reading up to a revision that does not exist is the caller's mistake, not the store's.
        Until::Revision(wanted) => reached == wanted.min(revision).max(from),
        Until::Position(_) | Until::Time(_) => reached <= revision,
    };
    if fits {
        return Ok(());
    }
    let said =
        format!("the store gave {events} events after {from}, and says there are {revision}");
    Err(said.into())
}

/// A committed command whose outcome can't be read now must not look as if it were not there.
fn outcome_unread(command_id: CommandId, error: ReadError) -> CommandError {
    match error {
        ReadError::Unreadable(error) => CommandError::Unreadable(error),
        ReadError::Storage(cause) => CommandError::OutcomeUnknown { command_id, cause },
        other => CommandError::OutcomeUnknown {
            command_id,
            cause: StorageError::permanent(
                crate::error::StorageErrorCode::Failed,
                &other.to_string(),
            ),
        },
    }
}
