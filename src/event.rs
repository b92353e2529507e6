//! Events: facts in the past tense, immutable.

use std::sync::Arc;

use crate::ids::{CommandHash, CommandId, EventId};
use crate::query::Tag;
use crate::stream::{Position, Revision, StreamId};
use crate::time::Timestamp;

/// An event a decision gives, before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its type, in the past tense: `AppointmentBooked`.
    pub event_type: Arc<str>,
    /// Version of its type's payload, from 1.
    pub schema_version: u32,
    /// Its tags, for decisions of other aggregates.
    pub tags: Vec<Tag>,
    /// Its payload: JSON text, or the host's.
    pub data: Payload,
}

/// The payload of an event on its way to the store.
///
/// Domains written in JavaScript keep their payloads in JavaScript: the engine only says which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// JSON text.
    Text(Arc<str>),
    /// The payload number `index` of what the host answered last to the `Decide` of `task`.
    Held {
        /// The task of the command.
        task: TaskId,
        /// Index among the events of the decision, from 0.
        index: u32,
        /// Its length in bytes.
        bytes: u32,
    },
}

impl Payload {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Held { bytes, .. } => *bytes as usize,
        }
    }
}

/// Number of something the host asked for. The host chooses it; it is in use until the notice
/// that ends the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

/// Who gave a command, when and why. It is stored with each event of the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Ties together everything that came of one first cause. The command's id if none is given.
    pub correlation_id: Option<Arc<str>>,
    /// Id of the message that caused the command, such as an event's.
    pub causation_id: Option<Arc<str>>,
    /// Who gave the command.
    pub actor: Option<Arc<str>>,
    /// More, in the application's own words: the text of a JSON object.
    pub extra: Option<Arc<str>>,
}

/// An event as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the store.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// Its id, unique in the store.
    pub event_id: EventId,
    /// Its type.
    pub event_type: Arc<str>,
    /// Version of its type's payload.
    pub schema_version: u32,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its payload: JSON text, byte for byte as it was appended.
    pub data: Arc<str>,
    /// When the store took it. Never decreases from one position to the next.
    pub recorded_at: Timestamp,
    /// When the command was given.
    pub issued_at: Timestamp,
    /// The command that made it.
    pub command_id: CommandId,
    /// Who gave the command, and why.
    pub metadata: Arc<Metadata>,
}

/// What one command appended: one or more events of one stream, atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSummary {
    /// Position of its first event; the others follow without a gap.
    pub position: Position,
    /// Revision of its last event.
    pub revision: Revision,
    /// Number of its events, at least 1.
    pub count: u32,
    /// When the store took it.
    pub recorded_at: Timestamp,
}

impl CommitSummary {
    /// Position of its last event.
    #[must_use]
    pub fn last_position(&self) -> Position {
        Position(self.position.0 + u64::from(self.count) - 1)
    }

    /// Revision of the stream before the commit.
    #[must_use]
    pub fn revision_before(&self) -> Revision {
        Revision(self.revision.0 - u64::from(self.count))
    }
}

/// What the store remembers of a committed command, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstOutcome {
    /// Digest of what the command asked.
    pub hash: CommandHash,
    /// The stream it appended to.
    pub stream: StreamId,
    /// What it appended.
    pub commit: CommitSummary,
}
