//! Storage requests: attempts, deadlines, and what their answers are for.

use std::sync::Arc;

use crate::domain::State;
use crate::error::{Applied, StorageError, StorageErrorCode};
use crate::event::{FirstOutcome, TaskId};
use crate::ids::CommandId;
use crate::protocol::{
    Answer, HostFoldError, HostFolded, Load, Output, QueryLoad, RequestId, Skipped, StorageAnswer,
    StorageBody, StorageRequest, StoredSnapshot, StreamLoad, StreamSlice,
};
use crate::stream::{Position, Revision};
use crate::time::Timestamp;

use super::projecting::RunnerIndex;
use super::reacting::{Asked, ReactorIndex};
use super::snapshotting::Keep;
use super::streams::At;
use super::views::ViewPart;
use super::{Engine, KeptPage, Store, Task, Timer, mutant};

/// A storage request that has no answer yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) body: StorageBody,
    purpose: Purpose,
    attempt: u32,
    /// The deadline of the attempt, or, between two attempts, the moment of the next.
    at: Timestamp,
    /// Whether the engine waits for the moment of the next attempt.
    pausing: bool,
    /// Whether an earlier attempt may have had its effect, or may still have it.
    unknown: bool,
}

/// What a request is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Info,
    Append,
    Load(Vec<LoadPart>),
    ReadLog(TaskId, u64),
    Checkpoint(TaskId, u64),
    Snapshots(Vec<Keep>),
    /// For a view: its runner, and the runner's serial.
    Runner(RunnerIndex, u64),
    Views(Vec<ViewPart>),
    /// For a reaction: its reactor, and the reactor's serial.
    Reactor(ReactorIndex, u64, Asked),
    ReactionRead(TaskId, u64),
}

/// What a task wants to have read. The wishes of many tasks go out in one `Load`.
#[derive(Debug)]
pub(super) struct LoadWish {
    pub(super) task: TaskId,
    pub(super) serial: u64,
    pub(super) command: Option<CommandId>,
    /// With what its events are folded onto.
    pub(super) stream: Option<(StreamLoad, At)>,
    pub(super) query: Option<QueryLoad>,
}

/// Where a task finds its part of a `Load`'s answer.
#[derive(Debug)]
pub(super) struct LoadPart {
    task: TaskId,
    serial: u64,
    command: Option<usize>,
    /// The state stays for as long as the request names it.
    stream: Option<(usize, At)>,
    query: Option<usize>,
}

/// A task's part of a `Load`'s answer.
pub(super) struct Part {
    pub(super) first: Option<FirstOutcome>,
    pub(super) slice: Option<Slice>,
    pub(super) matches: Option<KeptPage>,
    pub(super) head: Position,
}

/// Events of a stream, and what they are folded onto.
pub(super) struct Slice {
    pub(super) from: At,
    pub(super) snapshot: Option<StoredSnapshot>,
    pub(super) page: KeptPage,
    /// What the host has made of them.
    pub(super) folded: Option<Result<(State, Option<Skipped>), HostFoldError>>,
    pub(super) revision: Revision,
    pub(super) more: bool,
}

impl Engine {
    pub(super) fn send(&mut self, body: StorageBody, purpose: Purpose) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let at = self.set_timer(self.config.request_timeout, Timer::Request(id));
        let (attempt, pausing, unknown) = (1, false, false);
        self.pending.push(Pending { id, body, purpose, attempt, at, pausing, unknown });
        self.emit(id);
        id
    }

    fn emit(&mut self, id: RequestId) {
        let pending = self.pending(id).expect("the caller found it");
        let epoch = match &self.store {
            Store::Open(info) => Some(info.epoch.clone()),
            _ => None,
        };
        self.outputs.push_back(Output::Storage(StorageRequest {
            id,
            attempt: pending.attempt,
            deadline: pending.at,
            epoch,
            body: pending.body.clone(),
        }));
    }

    /// Sends the wishes that came up as one request.
    #[inline(never)]
    pub(super) fn send_load(&mut self) {
        let mut load = Load::default();
        let mut parts = Vec::with_capacity(self.wishes.len());
        for wish in self.wishes.drain(..) {
            parts.push(LoadPart {
                task: wish.task,
                serial: wish.serial,
                command: wish.command.map(|command| put(&mut load.commands, command)),
                stream: wish.stream.map(|(stream, from)| (put(&mut load.streams, stream), from)),
                query: wish.query.map(|query| put(&mut load.queries, query)),
            });
        }
        self.send(StorageBody::Load(Arc::new(load)), Purpose::Load(parts));
    }

    /// Whether the append under way may have had its effect, now that this request has been refused.
    pub(super) fn append_may_be_applied(&self, refused: RequestId) -> bool {
        let is_sure = mutant!(self, DoubtOnlyOnRefused);
        self.pending.iter().any(|pending| {
            let doubts = pending.unknown || (pending.id != refused && !is_sure);
            matches!(pending.purpose, Purpose::Append) && doubts
        })
    }

    /// Whether a load has no answer yet.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_loading(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.purpose, Purpose::Load(_)))
    }

    pub(super) fn pending(&self, id: RequestId) -> Option<&Pending> {
        Some(&self.pending[place(&self.pending, id)?])
    }

    pub(super) fn drop_pending(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(place(&self.pending, id)?);
        self.timers.remove(&(pending.at, Timer::Request(id)));
        Some(pending)
    }

    pub(super) fn handle_answer(&mut self, answer: Answer) {
        let mut id = answer.request;
        let mut attempt = answer.attempt;
        if mutant!(self, LateAnswer) && self.pending(id).is_none() {
            let current = self.pending.iter().find(|pending| {
                answer.result.as_ref().is_ok_and(|found| pending.body.fits(found).is_ok())
            });
            if let Some(pending) = current {
                (id, attempt) = (pending.id, pending.attempt);
            }
        }
        // An answer to a request that is done, or to an attempt that was given up, comes too late:
        // the current attempt, byte for byte the same, has an answer of its own.
        let current = self.pending(id).filter(|p| p.attempt == attempt && !p.pausing);
        let Some(pending) = current else {
            if let Ok(found) = answer.result {
                self.discard(found);
            }
            return;
        };
        match answer.result {
            Ok(found) => {
                if let Err(expected) = pending.body.fits(&found) {
                    let applied = match pending.body {
                        StorageBody::Append(_) => Applied::Unknown,
                        _ => Applied::No,
                    };
                    self.discard(found);
                    let message = format!("the adapter's answer does not fit: expected {expected}");
                    let error = StorageError::permanent(StorageErrorCode::Failed, &message);
                    self.attempt_failed(id, StorageError { applied, ..error });
                    return;
                }
                let pending = self.drop_pending(id).expect("found above");
                self.deliver(pending, found);
            }
            // Whoever is asked who he is says nothing of another's epoch.
            Err(error)
                if error.code == StorageErrorCode::ForeignEpoch
                    && matches!(self.store, Store::Open(_)) =>
            {
                self.foreign_epoch(id);
            }
            Err(error) => self.attempt_failed(id, error),
        }
    }

    #[inline(never)]
    fn deliver(&mut self, pending: Pending, answer: StorageAnswer) {
        match (pending.purpose, answer) {
            (Purpose::Info, StorageAnswer::Info(info)) => self.opened(info),
            (Purpose::Append, StorageAnswer::Appended(verdicts)) => self.append_settled(verdicts),
            (Purpose::Snapshots(keeps), StorageAnswer::Saved(saved)) => {
                self.snapshots_saved(keeps, saved);
            }
            (Purpose::Runner(runner, serial), answer) => {
                self.runner_answered(runner, serial, answer);
            }
            (Purpose::Reactor(reactor, serial, asked), answer) => {
                self.reactor_answered(reactor, serial, asked, answer);
            }
            (Purpose::ReactionRead(task, serial), StorageAnswer::Documents(found)) => {
                self.reaction_read(task, serial, found);
            }
            (Purpose::ReactionRead(task, _), StorageAnswer::Saved(_)) => self.wish_saved(task),
            (Purpose::Views(parts), StorageAnswer::Documents(found)) => {
                self.views_read(parts, found);
            }
            (Purpose::ReadLog(task, serial), StorageAnswer::Log(page)) => {
                self.log_read(task, serial, page);
            }
            (Purpose::Checkpoint(task, serial), answer) => {
                self.checkpoint_answered(task, serial, answer, pending.unknown);
            }
            (Purpose::Load(parts), StorageAnswer::Loaded(loaded)) => {
                let mut streams: Vec<_> = loaded.streams.into_iter().map(Some).collect();
                let mut queries: Vec<_> = loaded.queries.into_iter().map(Some).collect();
                for part in parts {
                    let slice = part.stream.and_then(|(index, from)| {
                        Some(self.keep_slice(streams[index].take()?, from))
                    });
                    let matches = part.query.and_then(|index| queries[index].take());
                    let found = Part {
                        first: part.command.and_then(|index| loaded.commands[index].clone()),
                        slice,
                        matches: matches.map(|page| self.keep(page)),
                        head: loaded.head,
                    };
                    self.part_loaded(part.task, part.serial, found);
                }
            }
            _ => unreachable!("StorageBody::fits was asked"),
        }
    }

    #[inline(never)]
    fn part_loaded(&mut self, task: TaskId, serial: u64, part: Part) {
        match self.tasks.get(&task) {
            Some(Task::Command(found)) if found.serial == serial => self.command_loaded(task, part),
            Some(Task::Read(found)) if found.serial == serial => self.read_loaded(task, part),
            // The task has ended, and its number may be another's.
            _ => {}
        }
    }

    fn keep_slice(&self, slice: StreamSlice, from: At) -> Slice {
        let StreamSlice { snapshot, page, folded, revision, more } = slice;
        let folded = folded.map(|folded| {
            folded.map(|HostFolded { state, skipped }| (self.hosted_state(state), skipped))
        });
        Slice { from, snapshot, page: self.keep(page), folded, revision, more }
    }

    /// Gives the host back what it keeps for an answer that nobody waits for: a lease that is dropped
    /// at once.
    pub(super) fn discard(&mut self, answer: StorageAnswer) {
        match answer {
            StorageAnswer::Loaded(loaded) => {
                for StreamSlice { page, folded, .. } in loaded.streams {
                    self.keep(page);
                    if let Some(Ok(folded)) = folded {
                        self.hosted_state(folded.state);
                    }
                }
                for page in loaded.queries {
                    self.keep(page);
                }
            }
            StorageAnswer::Log(log) => {
                self.keep(log.page);
            }
            StorageAnswer::Info(_)
            | StorageAnswer::Appended(_)
            | StorageAnswer::Saved(_)
            | StorageAnswer::Documents(_) => {}
        }
    }

    pub(super) fn request_timer(&mut self, id: RequestId, at: Timestamp) {
        let Some(pending) = find(&mut self.pending, id) else {
            return;
        };
        if pending.at != at {
            return;
        }
        if pending.pausing {
            return self.next_attempt(id);
        }
        pending.unknown = true;
        if pending.attempt < self.config.max_attempts {
            self.next_attempt(id);
        } else {
            let message = format!("no answer in {} attempts", pending.attempt);
            self.give_up(id, StorageError::retryable(StorageErrorCode::TimedOut, &message));
        }
    }

    fn next_attempt(&mut self, id: RequestId) {
        let at = self.set_timer(self.config.request_timeout, Timer::Request(id));
        let pending = find(&mut self.pending, id).expect("the caller found it");
        pending.attempt += 1;
        pending.pausing = false;
        pending.at = at;
        self.emit(id);
    }

    #[inline(never)]
    fn attempt_failed(&mut self, id: RequestId, error: StorageError) {
        let pending = find(&mut self.pending, id).expect("the caller found it");
        pending.unknown |= error.applied == Applied::Unknown;
        self.timers.remove(&(pending.at, Timer::Request(id)));
        let again = error.retryable || error.applied == Applied::Unknown;
        if !again || pending.attempt >= self.config.max_attempts {
            return self.give_up(id, error);
        }
        pending.pausing = true;
        let attempt = pending.attempt;
        let pause = self.back_off(attempt);
        let at = self.set_timer(pause, Timer::Request(id));
        find(&mut self.pending, id).expect("found above").at = at;
    }

    /// Milliseconds to wait after the `count`-th failure in a row: random, so that those who got
    /// in each other's way part.
    pub(super) fn back_off(&mut self, count: u32) -> u64 {
        1 + self.ids.below(4 << count.min(6))
    }

    /// Fails the task that asked, if it is still there.
    fn fail_asker(&mut self, task: TaskId, serial: u64, error: &StorageError) {
        if self.tasks.get(&task).is_some_and(|found| found.serial() == serial) {
            self.fail_task(task, error.clone());
        }
    }

    #[inline(never)]
    fn give_up(&mut self, id: RequestId, error: StorageError) {
        let pending = self.drop_pending(id).expect("the caller found it");
        match pending.purpose {
            Purpose::Info => self.open_failed(error),
            Purpose::Append => self.append_failed(&error, pending.unknown),
            Purpose::Snapshots(keeps) => self.snapshots_failed(keeps, &error),
            Purpose::Runner(runner, serial) => self.runner_failed(runner, serial, &error),
            Purpose::Views(parts) => self.views_failed(parts, &error),
            Purpose::Reactor(reactor, serial, asked) => {
                self.reactor_failed(reactor, serial, asked, &error);
            }
            Purpose::ReactionRead(task, serial)
            | Purpose::ReadLog(task, serial)
            | Purpose::Checkpoint(task, serial) => self.fail_asker(task, serial, &error),
            Purpose::Load(parts) => {
                for part in parts {
                    self.fail_asker(part.task, part.serial, &error);
                }
            }
        }
    }
}

impl Task {
    /// Whether it waits for the host.
    pub(super) fn has_asked(&self) -> bool {
        match self {
            Self::Command(task) => task.has_asked(),
            _ => false,
        }
    }

    pub(super) fn serial(&self) -> u64 {
        match self {
            Self::Command(task) => task.serial,
            Self::Read(task) => task.serial,
            Self::Subscription(task) => task.serial,
            Self::View(task) => task.serial,
            Self::Checkpoint(task) => task.serial,
            Self::Reaction(task) => task.serial,
        }
    }
}

fn place(pending: &[Pending], id: RequestId) -> Option<usize> {
    pending.binary_search_by(|pending| pending.id.cmp(&id)).ok()
}

fn find(pending: &mut [Pending], id: RequestId) -> Option<&mut Pending> {
    let place = place(pending, id)?;
    Some(&mut pending[place])
}

fn put<T>(list: &mut Vec<T>, item: T) -> usize {
    list.push(item);
    list.len() - 1
}
