//! What the engine has at hand of each stream: its queue of commands and its newest state.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use crate::domain::State;
use crate::event::TaskId;
use crate::protocol::{AggregateIndex, HostFold};
use crate::stream::{Revision, StreamId};

use super::map::{Map, map};

/// A state and the revision it is the state at.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) revision: Revision,
    pub(super) state: State,
}

impl At {
    /// For the host, if it keeps the state: what it is to fold onto it is of this task.
    pub(super) fn host_fold(&self, task: TaskId, aggregate: AggregateIndex) -> Option<HostFold> {
        let from = self.state.handle()?;
        Some(HostFold { task, aggregate, from })
    }
}

/// A stream with something under way, or with a state at hand.
#[derive(Default)]
pub(super) struct Entry {
    /// Commands in the order they came that are not staged.
    pub(super) queue: VecDeque<TaskId>,
    /// The newest state known to be in the store.
    pub(super) committed: Option<At>,
    /// Revision of its newest snapshot that is known, 0 if none is.
    pub(super) snapshot: Revision,
    /// What the last staged commit would leave.
    pub(super) tip: Option<Tip>,
    /// Whether the append under way has a commit of this stream.
    pub(super) in_flight: bool,
}

/// What a staged commit would leave.
pub(super) struct Tip {
    pub(super) task: TaskId,
    pub(super) at: At,
}

impl Entry {
    /// The newest state: what the last staged commit would leave, or what is in the store.
    pub(super) fn newest(&self) -> Option<&At> {
        self.tip.as_ref().map(|tip| &tip.at).or(self.committed.as_ref())
    }

    /// Takes note of a state that is in the store.
    pub(super) fn learn(&mut self, at: At) {
        if self.committed.as_ref().is_none_or(|known| known.revision < at.revision) {
            self.committed = Some(at);
        }
    }
}

/// Names a pinned stream: quick to find, and good until it is unpinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamKey(usize);

/// End of the list of quiet streams.
const NONE: usize = usize::MAX;

struct Slot {
    id: StreamId,
    entry: Entry,
    /// How many tasks hold the key. A stream that nobody holds is quiet.
    pins: usize,
    /// Its neighbours in the list of quiet streams.
    older: usize,
    newer: usize,
}

/// All streams the engine has something of. The states of quiet ones are a bounded cache: the one
/// that was used longest ago goes first.
pub(super) struct Streams {
    keys: Map<StreamId, StreamKey>,
    slots: Vec<Slot>,
    free: Vec<StreamKey>,
    oldest: usize,
    newest: usize,
    quiet: usize,
    capacity: usize,
}

impl Index<StreamKey> for Streams {
    type Output = Entry;

    fn index(&self, key: StreamKey) -> &Entry {
        &self.slots[key.0].entry
    }
}

impl IndexMut<StreamKey> for Streams {
    fn index_mut(&mut self, key: StreamKey) -> &mut Entry {
        &mut self.slots[key.0].entry
    }
}

impl Streams {
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        let (slots, free) = (Vec::new(), Vec::new());
        Self { keys: map(seed), slots, free, oldest: NONE, newest: NONE, quiet: 0, capacity }
    }

    /// The newest state at hand.
    pub(super) fn committed(&self, stream: &StreamId) -> Option<&At> {
        self[*self.keys.get(stream)?].committed.as_ref()
    }

    /// The same, as a use of it: of the quiet ones it is then the newest.
    pub(super) fn take_at_hand(&mut self, stream: &StreamId) -> Option<At> {
        let StreamKey(at) = *self.keys.get(stream)?;
        let state = self.slots[at].entry.committed.clone()?;
        if self.slots[at].pins == 0 && self.newest != at {
            self.unlink(at);
            self.link(at);
        }
        Some(state)
    }

    /// Holds the stream's entry until it is unpinned.
    pub(super) fn pin(&mut self, stream: &StreamId) -> StreamKey {
        if let Some(key) = self.keys.get(stream).copied() {
            if self.slots[key.0].pins == 0 {
                self.unlink(key.0);
            }
            self.slots[key.0].pins += 1;
            return key;
        }
        let slot =
            Slot { id: stream.clone(), entry: Entry::default(), pins: 1, older: NONE, newer: NONE };
        let key = if let Some(key) = self.free.pop() {
            self.slots[key.0] = slot;
            key
        } else {
            self.slots.push(slot);
            StreamKey(self.slots.len() - 1)
        };
        self.keys.insert(stream.clone(), key);
        key
    }

    /// Lets go of the entry. The last to do so puts its state into the cache.
    pub(super) fn unpin(&mut self, key: StreamKey) {
        let slot = &mut self.slots[key.0];
        slot.pins -= 1;
        if slot.pins > 0 {
            return;
        }
        debug_assert!(slot.entry.queue.is_empty(), "a queued command holds its stream");
        if slot.entry.committed.is_none() {
            self.remove(key);
            return;
        }
        self.link(key.0);
        if self.quiet > self.capacity {
            let oldest = StreamKey(self.oldest);
            self.unlink(oldest.0);
            self.remove(oldest);
        }
    }

    /// Drops the state at hand: the store contradicts it.
    pub(super) fn forget_state(&mut self, stream: &StreamId) {
        let key = self.pin(stream);
        self[key].committed = None;
        self.unpin(key);
    }

    /// Drops all states: they are of another store.
    pub(super) fn forget_states(&mut self) {
        while self.oldest != NONE {
            let oldest = StreamKey(self.oldest);
            self.unlink(oldest.0);
            self.remove(oldest);
        }
        for Slot { entry, .. } in &mut self.slots {
            entry.committed = None;
            entry.snapshot = Revision(0);
            entry.tip = None;
            entry.in_flight = false;
        }
    }

    fn remove(&mut self, key: StreamKey) {
        let slot = &mut self.slots[key.0];
        slot.entry = Entry::default();
        self.keys.remove(&slot.id);
        self.free.push(key);
    }

    fn link(&mut self, at: usize) {
        let older = std::mem::replace(&mut self.newest, at);
        self.slots[at].older = older;
        self.slots[at].newer = NONE;
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        self.quiet += 1;
    }

    fn unlink(&mut self, at: usize) {
        let Slot { older, newer, .. } = self.slots[at];
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        self.quiet -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Handle;

    fn stream(id: usize) -> StreamId {
        StreamId::new("Booking", &format!("b-{id}"))
    }

    fn state(revision: u64) -> At {
        let lease = crate::domain::HandleLease::new(Handle::INITIAL, &Default::default());
        At { revision: Revision(revision), state: State(crate::domain::StateKind::Hosted(lease)) }
    }

    fn use_stream(streams: &mut Streams, id: usize) {
        let key = streams.pin(&stream(id));
        streams[key].learn(state(1));
        streams.unpin(key);
    }

    fn at_hand(streams: &Streams) -> Vec<usize> {
        (0..10).filter(|id| streams.committed(&stream(*id)).is_some()).collect()
    }

    #[test]
    fn the_state_that_was_used_longest_ago_goes_first() {
        let mut streams = Streams::new(3, 1);
        for id in [0, 1, 2, 0, 3, 1] {
            use_stream(&mut streams, id);
        }
        assert_eq!(at_hand(&streams), [0, 1, 3]);
        assert_eq!(streams.slots.len(), 4, "the places of those who went are used again");
    }

    #[test]
    fn a_state_that_is_taken_from_what_is_at_hand_has_been_used() {
        let mut streams = Streams::new(3, 1);
        for id in 0..3 {
            use_stream(&mut streams, id);
        }
        for id in [0, 2, 2] {
            assert!(streams.take_at_hand(&stream(id)).is_some());
        }
        assert!(streams.take_at_hand(&stream(3)).is_none());
        use_stream(&mut streams, 3);
        assert_eq!((at_hand(&streams), streams.quiet), (vec![0, 2, 3], 3));
        // One that is held is in no list.
        let key = streams.pin(&stream(0));
        assert!(streams.take_at_hand(&stream(0)).is_some());
        streams.unpin(key);
        assert_eq!(streams.quiet, 3);
    }

    #[test]
    fn a_stream_that_is_held_stays_and_does_not_count() {
        let mut streams = Streams::new(1, 1);
        let (first, second) = (streams.pin(&stream(0)), streams.pin(&stream(0)));
        assert_eq!(first, second);
        streams[first].learn(state(1));
        streams.unpin(first);
        for id in 1..5 {
            use_stream(&mut streams, id);
        }
        assert_eq!(at_hand(&streams), [0, 4]);
        streams.unpin(second);
        assert_eq!(at_hand(&streams), [0]);
    }

    #[test]
    fn nothing_is_kept_of_a_stream_without_a_state() {
        let mut streams = Streams::new(0, 1);
        use_stream(&mut streams, 0);
        let key = streams.pin(&stream(1));
        streams.unpin(key);
        streams.forget_state(&stream(2));
        assert!(streams.keys.is_empty());
    }

    #[test]
    fn forgotten_states_leave_those_who_are_held() {
        let mut streams = Streams::new(5, 1);
        for id in 0..4 {
            use_stream(&mut streams, id);
        }
        let key = streams.pin(&stream(1));
        streams.forget_states();
        assert_eq!((at_hand(&streams), streams.keys.len()), (vec![], 1));
        streams[key].learn(state(1));
        streams.unpin(key);
        assert_eq!(at_hand(&streams), [1]);
    }
}
