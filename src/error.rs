//! Errors: a small enum per operation, one wide [`Error`], and the table of stable codes.

use std::sync::Arc;

use crate::diff::DiffError;
use crate::event::TaskId;
use crate::ids::CommandId;
use crate::protocol::{Conflict, RequestId};
use crate::stream::{ExpectedRevision, MAX_NAME_BYTES, Position, Revision, StreamId};

/// Why a name can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing there.
    #[error("expected a non-empty {what}")]
    Empty {
        /// What the name is for.
        what: &'static str,
    },
    /// Too much there.
    #[error("expected a {what} of at most {MAX_NAME_BYTES} bytes, found {bytes}")]
    TooLong {
        /// What the name is for.
        what: &'static str,
        /// Its length in UTF-8.
        bytes: usize,
    },
    /// Something there that can't be seen.
    #[error("expected a {what} without control characters, found one at byte {at}")]
    ControlCharacter {
        /// What the name is for.
        what: &'static str,
        /// Where it is.
        at: usize,
    },
}

/// Why a payload can't be stored: it would not come back as it went in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// It is not JSON.
    #[error("expected JSON, found an error at byte {at}")]
    NotJson {
        /// Where the first error is.
        at: usize,
    },
    /// It has an integer that JavaScript can't represent.
    #[error("expected integers within 2^53, found a larger one at byte {at}")]
    LargeInteger {
        /// Where it is.
        at: usize,
    },
    /// It has a number beyond those JavaScript has.
    #[error("expected numbers within 1.8e308, found a larger one at byte {at}")]
    OutOfRange {
        /// Where it is.
        at: usize,
    },
    /// It has half of a surrogate pair.
    #[error("expected whole characters, found a lone surrogate at byte {at}")]
    LoneSurrogate {
        /// Where it is.
        at: usize,
    },
    /// It is nested too deep for readers with a bounded stack.
    #[error("expected at most {limit} levels of nesting")]
    TooDeep {
        /// The most there may be.
        limit: usize,
    },
    /// It is too long.
    #[error("expected at most {limit} bytes, found {bytes}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most it may be.
        limit: usize,
    },
}

/// What a storage adapter says when it can't answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StorageError {
    /// What kind of failure.
    pub code: StorageErrorCode,
    /// Whether the request had no effect for certain. A read never has one.
    pub applied: Applied,
    /// Whether the same request may succeed soon.
    pub retryable: bool,
    /// The driver's words.
    pub message: Arc<str>,
}

/// Whether a failed append may be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is not.
    No,
    /// Nobody can tell.
    Unknown,
}

/// Kinds of storage failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorCode {
    /// Anything the others don't name.
    Failed,
    /// Another process holds the write lock.
    Busy,
    /// Quota exceeded, disk full.
    Full,
    /// The store was closed.
    Closed,
    /// The store was replaced or restored under the open engine.
    ForeignEpoch,
    /// No answer came within the deadline, after all attempts.
    TimedOut,
    /// The stored form is newer than this release, or not Annals'.
    UnknownFormat,
}

/// Why a command had no outcome.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// A name in it can't be used.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// Its data or metadata can't be used.
    #[error("invalid {what}: {error}")]
    InvalidPayload {
        /// Which part.
        what: &'static str,
        /// Why.
        error: InvalidPayload,
    },
    /// The engine knows no such aggregate.
    #[error("unknown aggregate {0:?}")]
    UnknownAggregate(Arc<str>),
    /// The domain refused. Native domains: code and JSON of the details; domains in the host keep
    /// theirs.
    #[error("refused: {code}")]
    Refused {
        /// The refusal's code. Empty if the host keeps it.
        code: Arc<str>,
        /// JSON of its details. `null` if the host keeps it.
        details: Arc<str>,
    },
    /// The caller expected another revision.
    #[error("expected {expected} of {stream}, found revision {actual}")]
    WrongRevision {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: ExpectedRevision,
        /// What is there.
        actual: Revision,
    },
    /// Others were faster, each time.
    #[error("{stream} was changed by others in each of {attempts} attempts")]
    Contended {
        /// The stream.
        stream: StreamId,
        /// How often it was tried.
        attempts: u32,
        /// What stood in the way the last time.
        last: Conflict,
    },
    /// The id had been committed with other content.
    #[error("command id {0} was used for another command")]
    CommandIdReused(CommandId),
    /// The command could not be read, or a domain function broke its rules.
    #[error("the domain failed: {reason}")]
    DomainFailed {
        /// Whose command it was.
        stream: StreamId,
        /// How.
        reason: Arc<str>,
    },
    /// A stored event it needs can't be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
    /// The store failed; the command is not in the log.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store failed, and the command may be in the log. Give it again with the same id.
    #[error("the outcome of command {command_id} is unknown: {cause}")]
    OutcomeUnknown {
        /// The command's id.
        command_id: CommandId,
        /// What happened last.
        cause: StorageError,
    },
    /// The caller gave it up; it is not in the log.
    #[error("cancelled")]
    Cancelled,
}

/// A stored event that can't be read or folded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {revision} of {stream} can't be read: {reason}")]
pub struct UnreadableEvent {
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// What kind of thing is wrong with it.
    pub problem: EventProblem,
    /// Its type, where it is known, and what is wrong with it.
    pub reason: Arc<str>,
}

/// What kind of thing is wrong with a stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventProblem {
    /// Its payload is not what it should be, an upcaster or the fold fails, or it is missing.
    Failed,
    /// Its schema version is later than this release knows: a later release has written it.
    NewerVersion,
    /// This release does not know its type.
    UnknownType,
}

impl EventProblem {
    /// All of them, in the order of their numbers at the boundary to JavaScript.
    pub const ALL: [Self; 3] = [Self::Failed, Self::NewerVersion, Self::UnknownType];

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::NewerVersion => "newer-version",
            Self::UnknownType => "unknown-type",
        }
    }
}

/// Why a read gave nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// A name in it can't be used.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The engine knows no such aggregate.
    #[error("unknown aggregate {0:?}")]
    UnknownAggregate(Arc<str>),
    /// The stream is not that long.
    #[error("expected revision {asked} of {stream}, found {actual} events")]
    NoSuchRevision {
        /// The stream.
        stream: StreamId,
        /// What was asked.
        asked: Revision,
        /// What there is.
        actual: Revision,
    },
    /// The log is not that long: it has lost events, or the position is of another store.
    #[error("expected position {asked}, found the head of the log at {head}")]
    NoSuchPosition {
        /// What was asked.
        asked: Position,
        /// The position of the last event.
        head: Position,
    },
    /// A stored event can't be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
    /// The aggregate was defined without snapshots.
    #[error("aggregate {0:?} has no snapshots")]
    NoSnapshots(Arc<str>),
    /// The state does not equal its JSON: it can't be kept as a snapshot.
    #[error("the state of {stream} can't be kept: {reason}")]
    StateNotJson {
        /// The stream.
        stream: StreamId,
        /// What is lost or changed.
        reason: Arc<str>,
    },
    /// The engine knows no such projection.
    #[error("unknown projection {0:?}")]
    UnknownProjection(Arc<str>),
    /// The engine knows no such reaction.
    #[error("unknown reaction {0:?}")]
    UnknownReaction(Arc<str>),
    /// The projection has no such index.
    #[error("projection {projection:?} has no index {index:?}")]
    UnknownIndex {
        /// The projection.
        projection: Arc<str>,
        /// What was asked.
        index: Arc<str>,
    },
    /// A document of a view is not what its projection says.
    #[error("document {key:?} of projection {projection:?} can't be read: {reason}")]
    UnreadableDocument {
        /// The projection.
        projection: Arc<str>,
        /// The document's key.
        key: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// The view stopped before it came to what was asked.
    #[error("projection {projection:?} stopped at position {position}: {reason}")]
    ProjectionStopped {
        /// The projection.
        projection: Arc<str>,
        /// The event it could not take in.
        position: crate::stream::Position,
        /// Why.
        reason: Arc<str>,
    },
    /// Another reader of the subscription's name was faster, or somebody has moved its checkpoint.
    #[error("the checkpoint of subscription {0} was moved by somebody else")]
    SubscriptionMoved(Arc<str>),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The caller gave it up.
    #[error("cancelled")]
    Cancelled,
}

/// The host used the engine wrongly. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiMisuse {
    /// A task number is in use.
    #[error("task {} is in use", .0.0)]
    TaskInUse(TaskId),
    /// An answer to a request that was never made.
    #[error("request {} was never made", .0.0)]
    UnknownRequest(RequestId),
    /// The host waited although there was something to do: outputs are polled until `Idle`.
    #[error("outputs must be polled until idle before time may pass")]
    NotDrained,
    /// The upcasters of an event type can't be applied one after the other.
    #[error("upcasters of {event_type:?}: {rule}")]
    Upcasters {
        /// The type.
        event_type: &'static str,
        /// What they break.
        rule: &'static str,
    },
    /// Two aggregates have one name.
    #[error("aggregate {0:?} is defined twice")]
    AggregateDefinedTwice(Arc<str>),
    /// A reaction was given without the function that handles its events.
    #[error("reaction {0:?} has no function")]
    NoHandler(Arc<str>),
    /// Two reactions have one name.
    #[error("reaction {0:?} is defined twice")]
    ReactionDefinedTwice(Arc<str>),
    /// Two projections have one name.
    #[error("projection {0:?} is defined twice")]
    ProjectionDefinedTwice(Arc<str>),
    /// A projection says what becomes of events of unknown types, of an aggregate that is not among the
    /// engine's, or is not written in Rust.
    #[error(
        "projection {projection:?} names aggregate {aggregate:?}, whose event types the engine does not know"
    )]
    TypesNotKnown {
        /// The projection.
        projection: Arc<str>,
        /// The aggregate.
        aggregate: Arc<str>,
    },
    /// A limit of the subscription or the configuration is 0.
    #[error("{0} must be at least 1")]
    ZeroLimit(&'static str),
    /// A subscription that goes back has a name, or is to go on with events to come.
    #[error("a subscription that goes back has no name and ends at the log's beginning")]
    CannotGoBack,
    /// A subscription or a watcher was used with an engine that has not made it.
    #[error("the reader is of another engine")]
    ForeignReader,
    /// Projections or reactions were given to the module that has none.
    #[error("this module has neither projections nor reactions: the larger one, annals.wasm, has")]
    LogOnly,
}

/// Any error of the engine, for those who don't care which operation gave it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Of a command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Of a read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Of a comparison of two points.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// Of the store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Of the host.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
}

impl StorageError {
    /// A failure after which nothing is in the log and the same request may succeed soon.
    #[must_use]
    pub fn retryable(code: StorageErrorCode, message: &str) -> Self {
        Self { code, applied: Applied::No, retryable: true, message: message.into() }
    }

    /// A failure after which nothing is in the log and that will not pass by itself.
    #[must_use]
    pub fn permanent(code: StorageErrorCode, message: &str) -> Self {
        Self { code, applied: Applied::No, retryable: false, message: message.into() }
    }
}

impl std::fmt::Display for StorageErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl StorageErrorCode {
    /// All of them, in the order of their numbers at the boundary to JavaScript.
    pub const ALL: [Self; 7] = [
        Self::Failed,
        Self::Busy,
        Self::Full,
        Self::Closed,
        Self::ForeignEpoch,
        Self::TimedOut,
        Self::UnknownFormat,
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Failed => "storage-failed",
            Self::Busy => "storage-busy",
            Self::Full => "storage-full",
            Self::Closed => "storage-closed",
            Self::ForeignEpoch => "foreign-epoch",
            Self::TimedOut => "storage-timed-out",
            Self::UnknownFormat => "unknown-format",
        }
    }
}

impl CommandError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "invalid-name",
            Self::InvalidPayload { .. } => "invalid-payload",
            Self::UnknownAggregate(_) => "unknown-aggregate",
            Self::Refused { .. } => "refused",
            Self::WrongRevision { .. } => "wrong-revision",
            Self::Contended { .. } => "contended",
            Self::CommandIdReused(_) => "command-id-reused",
            Self::DomainFailed { .. } => "domain-failed",
            Self::Unreadable(_) => "unreadable-event",
            Self::Storage(error) => error.code.code(),
            Self::OutcomeUnknown { .. } => "outcome-unknown",
            Self::Cancelled => "cancelled",
        }
    }
}

impl CommandError {
    /// What is to be said where an attempt may have been applied: not that it was not.
    pub(crate) fn with_unknown_outcome(self, command_id: CommandId) -> Self {
        let cause = match self {
            Self::Storage(cause) => cause,
            Self::Cancelled | Self::Contended { .. } => {
                StorageError::permanent(StorageErrorCode::ForeignEpoch, &self.to_string())
            }
            other => return other,
        };
        Self::OutcomeUnknown { command_id, cause }
    }
}

impl ReadError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "invalid-name",
            Self::UnknownAggregate(_) => "unknown-aggregate",
            Self::NoSuchRevision { .. } => "no-such-revision",
            Self::NoSuchPosition { .. } => "no-such-position",
            Self::NoSnapshots(_) => "no-snapshots",
            Self::StateNotJson { .. } => "state-not-json",
            Self::Unreadable(_) => "unreadable-event",
            Self::UnknownProjection(_) => "unknown-projection",
            Self::UnknownReaction(_) => "unknown-reaction",
            Self::UnknownIndex { .. } => "unknown-index",
            Self::UnreadableDocument { .. } => "unreadable-document",
            Self::ProjectionStopped { .. } => "projection-stopped",
            Self::SubscriptionMoved(_) => "subscription-moved",
            Self::Storage(error) => error.code.code(),
            Self::Cancelled => "cancelled",
        }
    }
}

impl ApiMisuse {
    /// The stable code of every misuse.
    pub const CODE: &'static str = "api-misuse";
}
