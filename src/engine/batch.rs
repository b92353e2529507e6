//! Group commit: decisions gather while an append is under way, and go together in the next one.
//!
//! A command may be decided on what its predecessors in the same append would leave. It names
//! them, so [`judge`](mod@crate::judge) takes it only with them. It never rests on an append that
//! is under way: until that settles, the streams and queries it touches wait.

use std::sync::Arc;

use crate::error::{CommandError, StorageError};
use crate::event::{CommitSummary, NewEvent, Payload, RecordedEvent, TaskId};
use crate::ids::EventId;
use crate::protocol::{
    Append, AppendCondition, Commit, CommitEvent, CommitExpectation, Conflict, Outcome, Page,
    StorageBody, Verdict,
};
use crate::stream::{Position, Revision};

use super::command::Basis;
use super::requests::Purpose;
use super::snapshotting::SnapshotUse;
use super::sorted::ByAge;
use super::streams::{At, StreamKey, Tip};
use super::{Engine, Task, mutant};

/// A commit that waits for the next append.
pub(super) struct Staged {
    pub(super) commit: Commit,
    key: StreamKey,
    pub(super) revision_before: Revision,
    after: At,
}

/// The append under way.
pub(super) struct InFlight {
    pub(super) append: Arc<Append>,
    /// What each commit leaves, and of which stream. The tasks of the commits hold the keys.
    left: Vec<(StreamKey, At)>,
}

impl Engine {
    /// Puts an accepted decision into the next append.
    #[inline(never)]
    pub(super) fn stage(&mut self, id: TaskId, basis: Basis, events: Vec<NewEvent>, after: At) {
        let index_of = |task: &TaskId| {
            let index = self.staged.iter().position(|staged| staged.commit.task == *task);
            let index = index.expect("a basis names staged commits");
            u32::try_from(index).expect("fewer than 2^32 commits in an append")
        };
        let task = self.command(id);
        let commit = Commit {
            task: id,
            command_id: task.command_id,
            hash: task.hash,
            stream: task.stream.clone(),
            expected: basis.tip.as_ref().map_or(
                CommitExpectation::Exact(Revision(after.revision.0 - events.len() as u64)),
                |tip| CommitExpectation::After(index_of(tip)),
            ),
            condition: (!task.query.is_none()).then(|| AppendCondition {
                query: task.query.clone(),
                after: self.read_to(id),
                neighbours: basis.neighbours.iter().map(index_of).collect(),
            }),
            issued_at: task.issued_at,
            metadata: Arc::clone(&task.metadata),
            events: (0..)
                .zip(events)
                .map(|(index, event)| CommitEvent {
                    id: EventId::derive(task.command_id, index),
                    event,
                })
                .collect(),
        };
        let bytes = commit.events.iter().map(|event| event.event.data.bytes()).sum::<usize>();
        let gathered = self.staged_bytes + bytes;
        if !self.staged.is_empty() && gathered > self.config.max_append_bytes {
            // It is decided again for the append after this one.
            self.command_mut(id).unstage();
            self.park(id);
            return;
        }
        let (serial, key) = (task.serial, task.key);
        self.starving.remove(&(serial, id));
        let entry = &mut self.streams[key];
        debug_assert_eq!(
            entry.queue.front(),
            Some(&id),
            "commands of a stream are staged in order"
        );
        entry.queue.pop_front();
        entry.tip = Some(Tip { task: id, at: after.clone() });
        self.ready.extend(entry.queue.front());
        let revision_before = Revision(after.revision.0 - commit.events.len() as u64);
        self.staged_bytes += bytes;
        self.staged.push(Staged { commit, key, revision_before, after });
    }

    fn take_staged(&mut self) -> Vec<Staged> {
        self.staged_bytes = 0;
        std::mem::take(&mut self.staged)
    }

    #[inline(never)]
    pub(super) fn send_append(&mut self) {
        let mut append = Append { now: self.now, commits: Vec::with_capacity(self.staged.len()) };
        let mut left = Vec::with_capacity(self.staged.len());
        for staged in self.take_staged() {
            self.streams[staged.key].in_flight = true;
            append.commits.push(staged.commit);
            left.push((staged.key, staged.after));
        }
        let append = Arc::new(append);
        self.in_flight = Some(InFlight { append: Arc::clone(&append), left });
        self.send(StorageBody::Append(append), Purpose::Append);
    }

    /// The append under way has its verdicts.
    #[inline(never)]
    pub(super) fn append_settled(&mut self, verdicts: Vec<Verdict>) {
        let InFlight { append, left } = self.in_flight.take().expect("one append is under way");
        self.land(&left);
        self.see_committed(&append, &verdicts);
        let mut lost = Vec::new();
        for ((commit, verdict), (key, after)) in append.commits.iter().zip(verdicts).zip(left) {
            match verdict {
                Verdict::Committed(summary) => self.committed(commit, &summary, key, after),
                Verdict::Duplicate(first) => self.read_first_outcome(commit.task, first),
                Verdict::CommandIdReused(_) => {
                    let error = CommandError::CommandIdReused(commit.command_id);
                    self.finish_command(commit.task, Err(error));
                }
                Verdict::Conflict(conflict) => {
                    if mutant!(self, KeptAfterConflict) {
                        self.streams[key].learn(after.clone());
                    }
                    lost.push((commit, conflict, after));
                }
            }
        }
        // Those who lost go back to the front, the first of them first.
        for (commit, conflict, after) in lost.into_iter().rev() {
            if mutant!(self, RetryUnchecked) && self.stage_unchecked(commit, conflict, after) {
                continue;
            }
            self.lost(commit.task, conflict);
        }
        self.unpark();
    }

    /// Streams of the append may go on.
    fn land(&mut self, left: &[(StreamKey, At)]) {
        for (key, _) in left {
            let entry = &mut self.streams[*key];
            entry.in_flight = false;
            entry.tip = None;
        }
    }

    /// The command goes on after the append under way, or the one to come.
    pub(super) fn park(&mut self, id: TaskId) {
        self.parked.insert((self.command(id).serial, id));
    }

    /// Those who waited go before those who come now, or an append that is always full would never
    /// have room for them.
    pub(super) fn unpark(&mut self) {
        for (_, task) in std::mem::take(&mut self.parked).iter().rev() {
            self.ready.push_front(*task);
        }
    }

    /// Tells those who follow the log, and those whose reads are out of date now.
    fn see_committed(&mut self, append: &Append, verdicts: &[Verdict]) {
        let committed =
            append.commits.iter().zip(verdicts).filter_map(|(commit, verdict)| match verdict {
                Verdict::Committed(summary) => Some((commit, summary.last_position())),
                _ => None,
            });
        if let Some((_, last)) = committed.clone().next_back() {
            self.advanced(Some(last));
        }
        for (_, id) in self.readers.iter() {
            if let Some(Task::Command(task)) = self.tasks.get_mut(id) {
                for (commit, last) in committed.clone() {
                    task.see_committed(&commit.events, last);
                }
            }
        }
    }

    fn committed(&mut self, commit: &Commit, summary: &CommitSummary, key: StreamKey, after: At) {
        self.streams[key].learn(after.clone());
        let aggregate = self.command(commit.task).aggregate;
        self.consider_snapshot(key, &commit.stream, aggregate, &SnapshotUse::default());
        let outcome = Outcome {
            command_id: commit.command_id,
            commit: Some(summary.clone()),
            duplicate: false,
            revision: summary.revision,
            state: after.state,
            events: recorded(commit, summary),
            durability: self.durability(),
            behind: Vec::new(),
        };
        self.finish_command(commit.task, Ok(outcome));
    }

    /// No attempt at the append under way had an answer that tells.
    pub(super) fn append_failed(&mut self, error: &StorageError, unknown: bool) {
        let InFlight { append, left } = self.in_flight.take().expect("one append is under way");
        self.land(&left);
        for commit in &append.commits {
            let error = if unknown {
                let command_id = commit.command_id;
                CommandError::OutcomeUnknown { command_id, cause: error.clone() }
            } else {
                CommandError::Storage(error.clone())
            };
            self.finish_command(commit.task, Err(error));
        }
        self.unpark();
    }

    /// Takes back what is staged or under way: the store it was meant for is gone.
    #[inline(never)]
    pub(super) fn unstage_all(&mut self, maybe_applied: bool) {
        let mut tasks = Vec::new();
        if let Some(in_flight) = self.in_flight.take() {
            tasks.extend(in_flight.append.commits.iter().map(|commit| commit.task));
            if maybe_applied {
                tasks.iter().for_each(|task| self.command_mut(*task).doubt());
            }
        }
        tasks.extend(self.take_staged().iter().map(|staged| staged.commit.task));
        for task in tasks.into_iter().rev() {
            self.requeue(task);
        }
        self.parked = ByAge::default();
    }

    /// The mutant that appends the same events to whatever is there now.
    fn stage_unchecked(&mut self, commit: &Commit, conflict: Conflict, mut after: At) -> bool {
        let mut commit = commit.clone();
        let before = match (conflict, commit.expected) {
            (Conflict::Revision { actual }, _) => actual,
            (Conflict::Matched { .. }, CommitExpectation::Exact(revision)) => revision,
            _ => return false,
        };
        let key = self.command(commit.task).key;
        if self.streams[key].tip.is_some() {
            return false;
        }
        commit.expected = CommitExpectation::Exact(before);
        commit.condition = None;
        after.revision = Revision(before.0 + commit.events.len() as u64);
        let tip = Tip { task: commit.task, at: after.clone() };
        self.streams[key].tip = Some(tip);
        self.staged.push(Staged { commit, key, revision_before: before, after });
        true
    }
}

/// The events of a commit as the store has them, if their payloads are here.
fn recorded(commit: &Commit, summary: &CommitSummary) -> Vec<Page> {
    let is_here = |event: &CommitEvent| matches!(event.event.data, Payload::Text(_));
    if !commit.events.iter().all(is_here) {
        return Vec::new();
    }
    let mut events = Vec::with_capacity(commit.events.len());
    let before = summary.revision_before();
    for (offset, CommitEvent { id, event }) in (0..).zip(&commit.events) {
        let Payload::Text(data) = &event.data else {
            return Vec::new();
        };
        events.push(RecordedEvent {
            position: Position(summary.position.0 + offset),
            stream: commit.stream.clone(),
            revision: Revision(before.0 + 1 + offset),
            event_id: *id,
            event_type: Arc::clone(&event.event_type),
            schema_version: event.schema_version,
            tags: event.tags.clone(),
            data: Arc::clone(data),
            recorded_at: summary.recorded_at,
            issued_at: commit.issued_at,
            command_id: commit.command_id,
            metadata: Arc::clone(&commit.metadata),
        });
    }
    vec![Page::Events(events)]
}
