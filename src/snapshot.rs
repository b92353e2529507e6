//! Snapshots: states that are kept to shorten replay.
//!
//! A snapshot is a cache. One that is missing, of another release, damaged or unreadable costs a replay
//! from the first event, and nothing else: it is never a default. Each is a document whose key names
//! the stream and the *fingerprint* of the state's form, so that two releases of an application on one
//! store don't overwrite each other's. Its value is the state with a *digest*, which tells whether it
//! is the state that was kept under this key at this revision.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::aggregate::Aggregate;
use crate::domain::{NativeState, native_state};
use crate::ids::CommandHash;
use crate::payload::json_of;
use crate::stream::{Revision, StreamId};

/// The collection of documents that snapshots are kept in.
pub const SNAPSHOTS: &str = "snapshots";

/// When the engine keeps snapshots of an aggregate's states. Without either rule it keeps those
/// that are wished for.
///
/// # A snapshot after every hundred events
///
/// ```
/// use annals::SnapshotPolicy;
/// let policy = SnapshotPolicy { every: Some(100), ..SnapshotPolicy::version(1) };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Version of the state's form, from 1. Raise it whenever `evolve`, the state's type or what an
    /// upcaster does changes: snapshots of other versions are not used. New upcasters are told apart
    /// by themselves.
    pub version: u32,
    /// One whenever the newest is so many events old or older, at least 1.
    pub every: Option<u64>,
    /// One after more than so many events had to be folded to get at a state.
    pub after_replay_of: Option<u64>,
}

impl SnapshotPolicy {
    /// Snapshots of this version of the state's form, kept when they are wished for.
    #[must_use]
    pub const fn version(version: u32) -> Self {
        Self { version, every: None, after_replay_of: None }
    }

    /// Whether a snapshot is due at a revision: the newest is `newest`, and `replayed` events were
    /// folded to get there.
    pub(crate) fn is_due(&self, at: Revision, newest: Revision, replayed: u64) -> bool {
        at > newest
            && (self.every.is_some_and(|every| at.0 - newest.0 >= every)
                || self.after_replay_of.is_some_and(|most| replayed > most))
    }
}

/// What states rest on: how they are written and the version of their form, and if stored events are not
/// read as they are, a digest of what says how. `json/…` was the state's JSON alone.
pub(crate) fn fingerprint(policy: SnapshotPolicy, forms: &str) -> Arc<str> {
    let SnapshotPolicy { version, .. } = policy;
    if forms.is_empty() {
        return format!("json2/{version}").into();
    }
    format!("json2/{version}/{}", CommandHash::of(forms.as_bytes())).into()
}

/// The key of the stream's snapshot: a JSON array, so that no two streams share one.
pub(crate) fn key_of(stream: &StreamId, fingerprint: &str) -> Arc<str> {
    let StreamId { aggregate_type, aggregate_id } = stream;
    let key = [&**aggregate_type, &**aggregate_id, fingerprint];
    json_of(&key).into()
}

/// The value of the snapshot that is kept under `key` at `revision`: the state's JSON with a digest of all
/// three. For hosts that keep the states of a domain: [`DocumentValue::State`] is written so.
///
/// [`DocumentValue::State`]: crate::protocol::DocumentValue::State
#[must_use]
pub fn with_digest(key: &str, revision: Revision, state: &str) -> Arc<str> {
    // A key begins with a bracket and ends where its array does: nothing else reads the same.
    let digest = digest_of(&format!("{}{key}{state}", revision.0));
    format!(r#"{{"digest":{digest},"state":{state}}}"#).into()
}

/// The state's JSON in the value of the snapshot that was found under `key` at `revision`; `None` if
/// [`with_digest`] has not made it of these.
///
/// # A snapshot under another revision is none
///
/// ```
/// use annals::Revision;
/// use annals::snapshot::{state_in, with_digest};
/// let key = r#"["Appointment","a-1","json2/1"]"#;
/// let value = with_digest(key, Revision(3), r#"{"isBooked":true}"#);
/// assert_eq!(state_in(key, Revision(3), &value), Some(r#"{"isBooked":true}"#));
/// assert_eq!(state_in(key, Revision(2), &value), None);
/// ```
#[must_use]
pub fn state_in<'a>(key: &str, revision: Revision, value: &'a str) -> Option<&'a str> {
    unchecked_state_in(value).filter(|state| *with_digest(key, revision, state) == *value)
}

/// What is where the state should be, whatever the digest says.
pub(crate) fn unchecked_state_in(value: &str) -> Option<&str> {
    let state = value.find(',')? + r#","state":"#.len();
    value.get(state..value.len() - 1)
}

/// 53 bits, so that JSON numbers have them everywhere, of the UTF-16 code units, which is what JavaScript's
/// strings are made of: `src/host/snapshot.ts` gives the same. Two lanes of multiplications modulo 2^32;
/// each step can be undone, so two texts of one length that differ in one unit never have one digest.
fn digest_of(text: &str) -> u64 {
    let (mut a, mut b) = (0_u32, 0_u32);
    for unit in text.encode_utf16() {
        a = (a ^ u32::from(unit)).wrapping_mul(0x9e37_79b1);
        b = (b ^ u32::from(unit)).wrapping_mul(0x85eb_ca77);
    }
    u64::from(a) << 21 | u64::from(b >> 11)
}

/// How states of a native aggregate are written and read.
pub(crate) trait StateCodec {
    /// The state as JSON text, or why that would not be the state again.
    fn write(&self, state: &dyn NativeState) -> Result<Arc<str>, Arc<str>>;

    /// The state that the text is.
    fn read(&self, text: &str) -> Result<Rc<dyn NativeState>, Arc<str>>;
}

pub(crate) struct JsonCodec<A>(PhantomData<fn() -> A>);

impl<A> JsonCodec<A> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<A> StateCodec for JsonCodec<A>
where
    A: Aggregate,
    A::State: DeserializeOwned + PartialEq + Debug,
{
    fn write(&self, state: &dyn NativeState) -> Result<Arc<str>, Arc<str>> {
        let text = state.to_json().map_err(|error| Arc::from(error.to_string()))?;
        let state: &A::State =
            state.as_any().downcast_ref().expect("a stream's states are of its aggregate's type");
        match serde_json::from_str::<A::State>(&text) {
            Ok(again) if again == *state => Ok(text.into()),
            Ok(again) => Err(format!("{state:?} comes back from JSON as {again:?}").into()),
            Err(error) => Err(format!("{text} can't be read: {error}").into()),
        }
    }

    fn read(&self, text: &str) -> Result<Rc<dyn NativeState>, Arc<str>> {
        match serde_json::from_str::<A::State>(text) {
            Ok(state) => Ok(native_state(state)),
            Err(error) => Err(error.to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_age_or_after_a_long_replay_and_never_twice() {
        let every = SnapshotPolicy { every: Some(10), ..SnapshotPolicy::version(1) };
        assert!(!every.is_due(Revision(9), Revision(0), 9));
        assert!(every.is_due(Revision(10), Revision(0), 0));
        assert!(!every.is_due(Revision(10), Revision(10), 10));
        let replay = SnapshotPolicy { after_replay_of: Some(10), ..SnapshotPolicy::version(1) };
        assert!(!replay.is_due(Revision(100), Revision(90), 10));
        assert!(replay.is_due(Revision(101), Revision(90), 11));
        assert!(!SnapshotPolicy::version(1).is_due(Revision(100), Revision(0), 100));
    }

    #[test]
    fn keys_tell_streams_versions_and_upcasters_apart() {
        let one = fingerprint(SnapshotPolicy::version(1), "");
        let key = |a: &str, b: &str| key_of(&StreamId::new(a, b), &one);
        assert_eq!(&*key("Appointment", "a-1"), r#"["Appointment","a-1","json2/1"]"#);
        assert_ne!(key("a\",\"b", "c"), key("a", "b\",\"c"));
        assert_ne!(one, fingerprint(SnapshotPolicy::version(2), ""));
        let upcast = |forms| fingerprint(SnapshotPolicy::version(1), forms);
        assert_eq!(&*upcast("Booked\n2\n"), "json2/1/ae748cf2-32b7-81da-bf60-694a9f84f642");
        assert_ne!(upcast("Booked\n2\n"), upcast("Booked\n3\n"));
    }
}
