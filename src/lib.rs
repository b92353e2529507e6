//! Annals: event sourcing with one engine for the browser, Node and native Rust.
//!
//! The engine does no IO. It takes [`Input`]s and gives [`Output`]s; whoever embeds it (a page, a
//! server, a test) brings time, storage and randomness:
//!
//! ```text
//!              commands, questions, time, answers
//!   ┌──────┐ ─────── Engine::handle_input ───────► ┌────────┐
//!   │ host │                                       │ Engine │  decide, evolve, queues,
//!   │      │ ◄────── Engine::poll_output ───────── │        │  group commit, retries, cache
//!   └──────┘   storage requests, notices, Idle     └────────┘
//!       │
//!       └── a storage adapter: memory, IndexedDB, SQLite, …
//! ```
//!
//! # The drain rule
//!
//! After any number of [`Engine::handle_input`], poll [`Engine::poll_output`] until it gives
//! [`Output::Idle`], before letting time pass. Commands given together are appended together.
//!
//! # Where to go on
//!
//! - [`Aggregate`]: write a domain in Rust.
//! - [`Upcasters`]: change the form of events that have been stored.
//! - [`ProcessManager`]: answer events with commands, and do things in time.
//! - `annals::testing::given`, with the feature `testing`: test that domain.
//! - [`storage::Annals`] drives the engine over a blocking store, [`storage::AsyncAnnals`] over an
//!   asynchronous one, on any executor.
//! - [`protocol`]: the whole contract between engine and host.
//! - [`judge`](mod@judge): the one function that says what may be appended.
//!
//! A panic of the engine is a bug of ours: nothing acknowledged is lost, open it again.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    all(feature = "wasm-entry", target_arch = "wasm32"),
    allow(unreachable_code, unused_variables, reason = "see `erased.rs`")
)]

mod aggregate;
mod diff;
mod digest;
mod documents;
mod domain;
mod engine;
mod erased;
mod error;
mod event;
mod fold;
mod ids;
pub mod judge;
mod manager;
mod payload;
pub mod projection;
pub mod protocol;
mod query;
pub mod reaction;
pub mod snapshot;
pub mod storage;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod time;
mod trace;
mod upcast;
mod variant;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use aggregate::{Aggregate, Context, OtherEvent};
pub use diff::{Change, ChangeKind, DiffError, Step, changes};
pub use domain::{AggregateDefinition, State};
#[cfg(any(test, feature = "testing"))]
pub use engine::Mutation;
pub use engine::{Config, Engine};
pub use error::{
    ApiMisuse, Applied, CommandError, Error, EventProblem, InvalidName, InvalidPayload, ReadError,
    StorageError, StorageErrorCode, UnreadableEvent,
};
pub use event::{CommitSummary, FirstOutcome, Metadata, NewEvent, Payload, RecordedEvent, TaskId};
pub use fold::{FoldError, FoldedView, fold};
pub use ids::{CommandHash, CommandId, EventId, TimerId};
pub use manager::{Cause, Commands, ProcessManager};
pub use payload::{MAX_DEPTH, MAX_PAYLOAD_BYTES, check_payload};
pub use projection::{
    EventContext, IndexEntry, IndexValue, ProjectError, Projection, ProjectionDefinition,
    UnknownEvents, View, ViewKind,
};
pub use protocol::{Input, Output};
pub use query::{Query, QueryItem, Tag};
pub use reaction::{KeysOf, Lanes, ReactionDefinition, RetryPolicy, StartAt};
pub use snapshot::SnapshotPolicy;
pub use stream::{ExpectedRevision, MAX_NAME_BYTES, Position, Revision, StreamId};
pub use time::{Timestamp, TimestampError};
pub use trace::{Trace, trace};
pub use upcast::{Upcast, Upcasters};
