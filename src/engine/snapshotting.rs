//! Snapshots: when one is due, and what is made of one that is found.
//!
//! Nothing waits for a snapshot but who has wished for it: those that are due go out together, one
//! request at a time, and what becomes of them changes no answer.

use std::rc::Rc;
use std::sync::Arc;

use crate::domain::{Snapshots, State, StateKind};
use crate::error::{ReadError, StorageError};
use crate::event::TaskId;
use crate::protocol::{
    AggregateIndex, Document, DocumentName, DocumentValue, Notice, SaveDocuments, Saved,
    SnapshotProblem, SnapshotReport, StorageBody, StoredSnapshot,
};
use crate::snapshot::{SNAPSHOTS, key_of, state_in, unchecked_state_in, with_digest};
use crate::stream::{Revision, StreamId};

use super::command::Unfolded;
use super::requests::{Purpose, Slice};
use super::streams::{At, StreamKey};
use super::{Engine, mutant};

/// Most snapshots that wait to be kept because of a policy. Those beyond come another time.
const MAX_WAITING: usize = 256;

/// What a task knows of its stream's snapshot.
#[derive(Debug, Default)]
pub(super) struct SnapshotUse {
    /// Whether one will do for the start of the fold.
    looks: bool,
    /// Whether the one that is there is no state of the stream.
    pub(super) ignores: bool,
    /// Events that were folded since the task began.
    replayed: u64,
    /// Revision of the one in the store, 0 if there is none; `None` before it was looked for.
    newest: Option<Revision>,
}

impl SnapshotUse {
    /// Of a task for which a snapshot will do, or not.
    pub(super) fn new(looks: bool) -> Self {
        Self { looks, ..Self::default() }
    }

    /// After a snapshot that is none.
    pub(super) fn ignoring() -> Self {
        Self { ignores: true, ..Self::default() }
    }

    /// Whether a load from this revision asks for one.
    fn asks(&self, from: Revision) -> bool {
        self.looks && from == Revision(0)
    }

    /// Takes note of what a load has given. Takes the snapshot that it has found, if that was asked for.
    pub(super) fn loaded(&mut self, slice: &mut Slice) -> Option<StoredSnapshot> {
        self.replayed += slice.page.len();
        let found = slice.snapshot.take();
        if !self.asks(slice.from.revision) {
            return None;
        }
        self.newest = Some(found.as_ref().map_or(Revision(0), |found| found.revision));
        found
    }
}

/// A state that is to be kept.
#[derive(Debug)]
pub(super) struct Keep {
    stream: StreamId,
    key: Arc<str>,
    at: At,
    value: DocumentValue,
    /// Who has wished for it, if it is not the policy: task and serial.
    wished: Option<(TaskId, u64)>,
}

impl Engine {
    fn snapshots_of(&self, aggregate: AggregateIndex) -> Option<&Snapshots> {
        self.config.aggregates[aggregate.0 as usize].snapshots.as_ref()
    }

    /// Whether the aggregate has snapshots.
    pub(super) fn has_snapshots(&self, aggregate: AggregateIndex) -> bool {
        self.snapshots_of(aggregate).is_some()
    }

    /// Where a snapshot may be that shortens a replay from this revision.
    pub(super) fn snapshot_key(
        &self,
        aggregate: AggregateIndex,
        stream: &StreamId,
        from: Revision,
        known: &SnapshotUse,
    ) -> Option<Arc<str>> {
        let snapshots = self.snapshots_of(aggregate).filter(|_| known.asks(from))?;
        Some(key_of(stream, &snapshots.fingerprint))
    }

    /// Where a fold starts: at what was found, or at `from`. If what was found is no state of the
    /// stream, it has been reported, and the stream is to be read again without it.
    pub(super) fn start_of_fold(
        &mut self,
        aggregate: AggregateIndex,
        stream: &StreamId,
        from: At,
        found: Option<StoredSnapshot>,
        revision: Revision,
    ) -> Result<At, Unfolded> {
        let Some(found) = found else {
            return Ok(from);
        };
        match self.state_of(aggregate, stream, &from, &found, revision) {
            Ok(state) => Ok(At { revision: found.revision, state }),
            Err(_) if mutant!(self, SnapshotDefaulting) => {
                Ok(At { revision: found.revision, state: from.state })
            }
            Err(reason) => {
                self.ignore_snapshot(stream, found.revision, reason);
                Err(Unfolded::Snapshot)
            }
        }
    }

    fn state_of(
        &self,
        aggregate: AggregateIndex,
        stream: &StreamId,
        from: &At,
        found: &StoredSnapshot,
        revision: Revision,
    ) -> Result<State, Arc<str>> {
        let StoredSnapshot { revision: at, value } = found;
        if *at > revision || *at == Revision(0) {
            return Err(format!("it is of revision {at}, the stream has {revision} events").into());
        }
        let Snapshots { fingerprint, codec, .. } =
            self.snapshots_of(aggregate).ok_or("nobody has asked for it")?;
        match (codec, value) {
            (Some(codec), Some(value)) => {
                let text = match state_in(&key_of(stream, fingerprint), *at, value) {
                    None if mutant!(self, SnapshotUnchecked) => unchecked_state_in(value),
                    checked => checked,
                };
                let text = text.ok_or("its digest does not match")?;
                codec.read(text).map(|state| State(StateKind::Native(state)))
            }
            // The host has started from it, or says why not.
            (None, None) => Ok(from.state.clone()),
            _ => Err("the host gave it as that of another kind of domain".into()),
        }
    }

    pub(super) fn ignore_snapshot(
        &mut self,
        stream: &StreamId,
        revision: Revision,
        reason: Arc<str>,
    ) {
        self.report_snapshot(stream.clone(), revision, SnapshotProblem::Ignored(reason));
    }

    fn report_snapshot(&mut self, stream: StreamId, revision: Revision, problem: SnapshotProblem) {
        self.notice(Notice::Snapshot(SnapshotReport { stream, revision, problem }));
    }

    /// The stream's newest state has been learned: keeps it, if that is due.
    pub(super) fn consider_snapshot(
        &mut self,
        key: StreamKey,
        stream: &StreamId,
        aggregate: AggregateIndex,
        known: &SnapshotUse,
    ) {
        let Some(Snapshots { policy, .. }) = self.snapshots_of(aggregate) else {
            return;
        };
        let policy = *policy;
        let entry = &mut self.streams[key];
        if let Some(newest) = known.newest {
            entry.snapshot = entry.snapshot.max(newest);
        }
        let Some(at) = &entry.committed else {
            return;
        };
        // One that is ignored is replaced, whatever the policy says.
        let due = (known.ignores && at.revision > entry.snapshot)
            || policy.is_due(at.revision, entry.snapshot, known.replayed);
        if due && self.to_keep.len() < MAX_WAITING {
            let at = at.clone();
            entry.snapshot = at.revision;
            self.keep_snapshot(stream.clone(), aggregate, at, None);
        }
    }

    /// Keeps a state as a snapshot, or says why it can't be kept.
    pub(super) fn keep_snapshot(
        &mut self,
        stream: StreamId,
        aggregate: AggregateIndex,
        at: At,
        wished: Option<(TaskId, u64)>,
    ) {
        let snapshots = self.snapshots_of(aggregate).expect("the caller has looked");
        let key = key_of(&stream, &snapshots.fingerprint);
        let value = match (&snapshots.codec, &at.state.0) {
            (Some(codec), StateKind::Native(state)) => codec
                .write(Rc::as_ref(state))
                .map(|text| DocumentValue::Text(with_digest(&key, at.revision, &text))),
            (None, StateKind::Hosted(_)) => {
                Ok(DocumentValue::State(at.state.handle().expect("hosted")))
            }
            _ => unreachable!("an aggregate's snapshots are of its domain's kind"),
        };
        match value {
            Ok(value) => self.to_keep.push(Keep { stream, key, at, value, wished }),
            Err(reason) => self.not_json(stream, at.revision, wished, reason),
        }
    }

    fn not_json(
        &mut self,
        stream: StreamId,
        revision: Revision,
        wished: Option<(TaskId, u64)>,
        reason: Arc<str>,
    ) {
        match wished {
            Some((task, serial)) => {
                let error = ReadError::StateNotJson { stream, reason };
                self.snapshot_taken(task, serial, Err(error));
            }
            None => self.report_snapshot(stream, revision, SnapshotProblem::NotJson(reason)),
        }
    }

    pub(super) fn send_snapshots(&mut self) {
        let keeps = std::mem::take(&mut self.to_keep);
        let documents = keeps.iter().map(|keep| Document {
            name: DocumentName { collection: SNAPSHOTS.into(), key: Arc::clone(&keep.key) },
            revision: keep.at.revision.0,
            value: keep.value.clone(),
            postings: Vec::new(),
        });
        let save = SaveDocuments { documents: documents.collect(), ..SaveDocuments::default() };
        self.keeping = true;
        self.send(StorageBody::SaveDocuments(Arc::new(save)), Purpose::Snapshots(keeps));
    }

    /// The store has them, but for those that are refused.
    pub(super) fn snapshots_saved(&mut self, keeps: Vec<Keep>, saved: Saved) {
        self.keeping = false;
        // Nothing was expected.
        let Saved::Kept(refused) = saved else {
            return;
        };
        for (index, keep) in (0..).zip(keeps) {
            let Keep { stream, at, wished, .. } = keep;
            let refusal = refused.iter().find(|(refused, _)| *refused == index);
            match (refusal, wished) {
                (Some((_, reason)), _) => {
                    self.not_json(stream, at.revision, wished, Arc::clone(reason));
                }
                (None, Some((task, serial))) => self.snapshot_taken(task, serial, Ok(())),
                (None, None) => {}
            }
        }
    }

    /// The store has none of them.
    pub(super) fn snapshots_failed(&mut self, keeps: Vec<Keep>, error: &StorageError) {
        self.keeping = false;
        for Keep { stream, at, wished, .. } in keeps {
            match wished {
                Some((task, serial)) => {
                    self.snapshot_taken(task, serial, Err(error.clone().into()))
                }
                None => {
                    let problem = SnapshotProblem::Storage(error.clone());
                    self.report_snapshot(stream, at.revision, problem);
                }
            }
        }
    }

    /// Whether snapshots wait for the store, or for their turn.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn has_snapshots_to_keep(&self) -> bool {
        self.keeping || !self.to_keep.is_empty()
    }

    /// What was to be kept was of another store.
    pub(super) fn forget_snapshots(&mut self) {
        self.to_keep.clear();
        self.keeping = false;
    }
}
