//! Streams, revisions and positions.

use std::fmt;
use std::sync::Arc;

use crate::error::InvalidName;

/// The longest aggregate type, aggregate id, event type or tag, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 1024;

/// Names are data everywhere: quotes, slashes and emoji are fine, control characters are not.
///
/// # Errors
/// If the name is empty, longer than [`MAX_NAME_BYTES`] or has a control character.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty { what });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong { what, bytes: name.len() });
    }
    if name.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Ok(());
    }
    match name.find(|c: char| c.is_control()) {
        Some(at) => Err(InvalidName::ControlCharacter { what, at }),
        None => Ok(()),
    }
}

/// Names the ordered events of one aggregate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// What kind of aggregate it is, such as `Appointment`.
    pub aggregate_type: Arc<str>,
    /// Which one of them, such as `a-7`.
    pub aggregate_id: Arc<str>,
}

impl StreamId {
    /// The stream of the aggregate `aggregate_id` of type `aggregate_type`.
    #[must_use]
    pub fn new(aggregate_type: &str, aggregate_id: &str) -> Self {
        Self { aggregate_type: aggregate_type.into(), aggregate_id: aggregate_id.into() }
    }

    /// # Errors
    /// If one of its parts is not a usable name.
    pub(crate) fn check(&self) -> Result<(), InvalidName> {
        check_name("aggregate type", &self.aggregate_type)?;
        check_name("aggregate id", &self.aggregate_id)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.aggregate_type, self.aggregate_id)
    }
}

/// A place in a stream: the number of events in it. Empty is 0, the first event is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the whole store. The first event has position 1; 0 is before every event.
/// Positions only increase, and stay below 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a caller expects of a stream before its command is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpectedRevision {
    /// Whatever is there.
    #[default]
    Any,
    /// No event yet.
    NoStream,
    /// At least one event.
    StreamExists,
    /// This many events.
    Exact(Revision),
}

impl ExpectedRevision {
    /// Whether a stream at `actual` is what was expected.
    #[must_use]
    pub fn accepts(self, actual: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.0 == 0,
            Self::StreamExists => actual.0 > 0,
            Self::Exact(expected) => actual == expected,
        }
    }
}

impl fmt::Display for ExpectedRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any revision"),
            Self::NoStream => f.write_str("no stream"),
            Self::StreamExists => f.write_str("an existing stream"),
            Self::Exact(revision) => write!(f, "revision {revision}"),
        }
    }
}
