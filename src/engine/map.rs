//! A hash map that is the same in every run.

#![allow(clippy::disallowed_types, reason = "the one place: its hasher has no randomness")]

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// Its order follows from the seed and what was put in, so nothing that goes out may depend on it
/// but through a sort. The seed, from the engine's own, keeps those who choose ids from choosing
/// ids that meet.
pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

pub(crate) fn map<K, V>(seed: u64) -> Map<K, V> {
    Map::with_hasher(FixedState::with_seed(seed))
}
