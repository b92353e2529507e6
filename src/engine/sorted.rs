//! A set in order, in little code: a B-tree is several kilobytes for each kind of member.

use crate::event::TaskId;

/// New members come at the end, or there are few: one that is put in or taken out moves all after it.
#[derive(Debug)]
pub(super) struct Sorted<T>(Vec<T>);

/// Tasks by age: their serials, which only grow, come first.
pub(super) type ByAge = Sorted<(u64, TaskId)>;

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> Sorted<T> {
    pub(super) fn insert(&mut self, member: T) {
        if let Err(place) = self.0.binary_search(&member) {
            self.0.insert(place, member);
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, member: &T) -> bool {
        let found = self.0.binary_search(member);
        if let Ok(place) = found {
            self.0.remove(place);
        }
        found.is_ok()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.0.first()
    }
}
