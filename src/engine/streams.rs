//! What the engine has at hand of each stream: its queue of commands and its newest state.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::State;
use crate::event::TaskId;
use crate::stream::{Revision, StreamId};

/// A state and the revision it is the state at.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) revision: Revision,
    pub(super) state: State,
}

/// A stream with something under way, or with a state at hand.
#[derive(Default)]
pub(super) struct Entry {
    /// Commands in the order they came that are not staged.
    pub(super) queue: VecDeque<TaskId>,
    /// The newest state known to be in the store.
    pub(super) committed: Option<At>,
    /// What the last staged commit would leave.
    pub(super) tip: Option<Tip>,
    /// Whether the append under way has a commit of this stream.
    pub(super) in_flight: bool,
    used: u64,
}

/// What a staged commit would leave.
pub(super) struct Tip {
    pub(super) task: TaskId,
    pub(super) at: At,
}

impl Entry {
    fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.tip.is_none() && !self.in_flight
    }

    /// Takes note of a state that is in the store.
    pub(super) fn learn(&mut self, at: At) {
        if self.committed.as_ref().is_none_or(|known| known.revision < at.revision) {
            self.committed = Some(at);
        }
    }
}

/// All streams the engine has something of. The states of quiet ones are a bounded cache: the one
/// that was used longest ago goes first.
pub(super) struct Streams {
    entries: BTreeMap<StreamId, Entry>,
    quiet: BTreeMap<u64, StreamId>,
    clock: u64,
    capacity: usize,
}

impl Streams {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), quiet: BTreeMap::new(), clock: 0, capacity }
    }

    pub(super) fn get(&self, stream: &StreamId) -> Option<&Entry> {
        self.entries.get(stream)
    }

    /// The stream's entry. [`Streams::settle`] it when the caller is done.
    pub(super) fn entry(&mut self, stream: &StreamId) -> &mut Entry {
        if !self.entries.contains_key(stream) {
            self.entries.insert(stream.clone(), Entry::default());
        }
        let entry = self.entries.get_mut(stream).expect("inserted above");
        self.quiet.remove(&entry.used);
        entry
    }

    /// Puts a quiet stream's state into the cache and drops what the cache has no place for.
    pub(super) fn settle(&mut self, stream: &StreamId) {
        let Some(entry) = self.entries.get_mut(stream) else {
            return;
        };
        self.quiet.remove(&entry.used);
        if !entry.is_quiet() {
            return;
        }
        if entry.committed.is_none() {
            self.entries.remove(stream);
            return;
        }
        self.clock += 1;
        entry.used = self.clock;
        self.quiet.insert(self.clock, stream.clone());
        while self.quiet.len() > self.capacity {
            let (_, oldest) = self.quiet.pop_first().expect("longer than its capacity");
            self.entries.remove(&oldest);
        }
    }

    /// Drops the state at hand: the store contradicts it.
    pub(super) fn forget_state(&mut self, stream: &StreamId) {
        if let Some(entry) = self.entries.get_mut(stream) {
            entry.committed = None;
        }
        self.settle(stream);
    }

    /// Drops all states: they are of another store.
    pub(super) fn forget_states(&mut self) {
        self.quiet.clear();
        self.entries.retain(|_, entry| {
            entry.committed = None;
            entry.tip = None;
            entry.in_flight = false;
            !entry.queue.is_empty()
        });
    }
}
