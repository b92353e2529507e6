//! The whole host contract: what goes into the engine and what comes out of it.
//!
//! ```text
//!   application ── Execute, ReadState, Subscribe, … ──►┌────────┐── Output::Storage ──► adapter
//!   application ◄── Output::Notice ────────────────────│ Engine │◄─ Input::Answer ──── adapter
//!   timer ── Tick ────────────────────────────────────►│        │── Output::Domain ──► domain
//!   other tabs ── Advanced ───────────────────────────►└────────┘◄─ Input::Domain ──── in the host
//! ```
//!
//! A storage request is atomic and carries its own precondition, so the engine never needs to
//! read, think and write across a host's transaction.

use std::sync::Arc;

use crate::domain::State;
use crate::error::{CommandError, EventProblem, ReadError, StorageError};
use crate::event::{CommitSummary, FirstOutcome, Metadata, NewEvent, RecordedEvent, TaskId};
use crate::ids::{CommandHash, CommandId, EventId, TimerId};
use crate::query::Query;
use crate::stream::{ExpectedRevision, Position, Revision, StreamId};
use crate::time::Timestamp;

/// Version of this contract.
pub const PROTOCOL_VERSION: u32 = 1;

// ---------------------------------------------------------------------------------------------
// Into the engine

/// What the host may tell the engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A command for an aggregate.
    Execute(Execute),
    /// A question for an aggregate's state or history.
    ReadState(ReadState),
    /// A wish for the events of the log.
    Subscribe(Subscribe),
    /// A wish for a snapshot of an aggregate's state as it is now, whatever the policy.
    TakeSnapshot(TakeSnapshot),
    /// A question for a view.
    ReadView(ReadView),
    /// That a view is to go on, or to pause.
    ControlView(ControlView),
    /// What came of [`Output::Project`].
    Projected(ProjectAnswer),
    /// A question or a wish for a reaction.
    AskReaction(AskReaction),
    /// What came of [`Output::Correlate`].
    Correlated(Correlated),
    /// What came of [`Output::React`].
    Reacted(Reacted),
    /// The subscription's reader is ready for the next page, and has handled those before it. One that
    /// waits at the end of the log looks there again.
    Next(TaskId),
    /// Of the page that the reader of a named subscription has, it has handled the events up to this
    /// position. It is kept when the subscription is given up.
    Handled(TaskId, Position),
    /// A question for the checkpoint of a named subscription, or a wish to move it.
    AskCheckpoint(AskCheckpoint),
    /// Give up the task. A command whose append is under way can't be given up: its outcome comes.
    Cancel(TaskId),
    /// The answer of the storage adapter to a request.
    Answer(Answer),
    /// What came of a decision in the host. Ignored if the task has been given up meanwhile.
    Domain(DomainAnswer),
    /// Somebody appended to the store: this position, if known.
    Advanced(Option<Position>),
    /// The engine that calls itself so is gone ([`Notice::OwnerSeen`]). It may be said at any time, more than
    /// once, and even be wrong: then two engines handle the same events, each in order, until one of them
    /// finds that it can't save.
    OwnerGone(Arc<str>),
    /// Time has passed: the `wake_at` of [`Output::Idle`] has come.
    Tick,
}

/// A command for an aggregate.
#[derive(Clone, Debug)]
pub struct Execute {
    /// The host's number for it.
    pub task: TaskId,
    /// Whom it is for.
    pub stream: StreamId,
    /// Its type, imperative: `BookAppointment`.
    pub command_type: Arc<str>,
    /// Its data: JSON text.
    pub data: Arc<str>,
    /// Its id; the engine makes one where there is none.
    pub command_id: Option<CommandId>,
    /// What the caller expects of the stream.
    pub expected: ExpectedRevision,
    /// When it was given; the moment of this input where there is none.
    pub issued_at: Option<Timestamp>,
    /// Who gave it, and why.
    pub metadata: Metadata,
}

/// A question for an aggregate's state.
#[derive(Clone, Debug)]
pub struct ReadState {
    /// The host's number for it.
    pub task: TaskId,
    /// Whose state.
    pub stream: StreamId,
    /// As of when.
    pub at: ReadAt,
    /// Whether the events come too.
    pub events: bool,
}

/// A question for a view.
#[derive(Clone, Debug)]
pub struct ReadView {
    /// The host's number for it.
    pub task: TaskId,
    /// Whose view.
    pub projection: Arc<str>,
    /// As of when.
    pub at: ViewAt,
    /// What is asked.
    pub query: ViewQuery,
}

/// As of when a view is asked. A view that has never been built is waited for in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewAt {
    /// As far as it has come. A live view is always as of now.
    Reached,
    /// When it has taken in all up to this position.
    After(Position),
    /// When it has taken in all that is in the log now.
    Now,
    /// As it was at that end of the log: folded for this question, in memory.
    Past(LogEnd),
}

/// Where a view of the past ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// At the log's end.
    Head,
    /// After this position.
    Position(Position),
    /// After the last event recorded at or before this time.
    Time(Timestamp),
}

impl LogEnd {
    /// Whether the end comes before an event.
    #[must_use]
    pub fn is_before(self, position: Position, recorded_at: Timestamp) -> bool {
        match self {
            Self::Head => false,
            Self::Position(last) => position > last,
            Self::Time(last) => recorded_at > last,
        }
    }
}

/// What is asked of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewQuery {
    /// The document with this key.
    Get(Arc<str>),
    /// Documents in a range, or their number.
    Scan(ViewScan),
    /// Nothing but how far it has come.
    Status,
}

/// A range of a view's documents, in order of key, or of an index's value and then key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewScan {
    /// By this index; by key if there is none.
    pub index: Option<Arc<str>>,
    /// Which of them.
    pub range: ViewRange,
    /// Only what comes after this place, in the order of the scan.
    pub after: Option<ScanPlace>,
    /// Whether the order is turned round.
    pub descending: bool,
    /// Most documents to return, at least 1. `None`: only their number is wanted.
    pub limit: Option<u32>,
}

/// Which of a view's documents. Texts are keys, or values of an index as it is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewRange {
    /// From the first on, if one is given, and up to the second, which is not in the range.
    Between(Option<Arc<str>>, Option<Arc<str>>),
    /// Those with this key or value.
    Equal(Arc<str>),
    /// Those whose key, or text in the index, begins so.
    Prefix(Arc<str>),
}

/// A question for a reaction, after something has been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskReaction {
    /// The host's number for it.
    pub task: TaskId,
    /// Which reaction.
    pub reaction: Arc<str>,
    /// What is to be done before.
    pub action: Option<ReactionAction>,
}

/// What may be done with a reaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReactionAction {
    /// This engine begins with no more events, and gives the reaction back when those under way are done.
    Pause,
    /// This engine may run it again.
    Resume,
    /// What is parked in this lane is tried again, whichever engine runs the reaction.
    Retry(Arc<str>),
    /// What is parked in this lane is passed, and the lane goes on behind it.
    Drop(Arc<str>),
}

/// What is to become of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlView {
    /// Whose view.
    pub projection: Arc<str>,
    /// What.
    pub action: ViewAction,
}

/// What can be done with a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewAction {
    /// This engine takes nothing more in.
    Pause,
    /// This engine goes on. A view that has stopped tries again, and one that was cancelled is built from the
    /// beginning.
    Resume,
    /// What has been built of a version that is being built is taken away, and no engine goes on with it until
    /// one is told to. One that has been built is left as it is.
    Cancel,
}

/// A wish for a snapshot.
#[derive(Clone, Debug)]
pub struct TakeSnapshot {
    /// The host's number for it.
    pub task: TaskId,
    /// Of whose state.
    pub stream: StreamId,
}

/// A point in a stream's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAt {
    /// Whatever is committed when the store is asked.
    Now,
    /// What this engine has at hand, without asking the store; if it has nothing, as `Now`.
    Cached,
    /// After this many events. More than there are is an error.
    Revision(Revision),
    /// After the stream's last event at or before this position of the store. One beyond the store's
    /// head is an error: what it names is not there.
    Position(Position),
    /// After the last event recorded at or before this time.
    Time(Timestamp),
}

/// A wish for the events of the log: those stored, then, if it follows, those to come.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The host's number for it.
    pub task: TaskId,
    /// The name under which the store keeps a checkpoint: up to where its events have been handled.
    /// One that has come somewhere goes on from there.
    pub name: Option<Arc<str>>,
    /// Where it starts; with a name, the first time.
    pub start: LogStart,
    /// Which of them.
    pub filter: LogFilter,
    /// Whether types are those of today: events that upcasters may make such events of come too.
    pub upcasts: bool,
    /// Most events in a page, at least 1.
    pub limit: u32,
    /// Whether it goes on with events to come; if not, it ends at the head.
    pub follow: bool,
    /// Whether the order is turned round: the events before where it starts, the last one first. It
    /// ends at the log's beginning, has no name, and follows nothing.
    pub descending: bool,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStart {
    /// With the first event after this position, in the order of reading.
    After(Position),
    /// With the first event to come; with the last that is there, if the order is turned round.
    Now,
}

/// A question for the checkpoint of a named subscription, or a wish to move it.
#[derive(Clone, Debug)]
pub struct AskCheckpoint {
    /// The host's number for it.
    pub task: TaskId,
    /// The subscription's name.
    pub name: Arc<str>,
    /// What is asked or wished.
    pub wish: CheckpointWish,
}

/// What is asked of a checkpoint, or is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointWish {
    /// Where it is.
    Read,
    /// It goes from one position to another: what is between has been handled. If it is not at the
    /// first, somebody else has moved it.
    Advance {
        /// Where it is.
        from: Position,
        /// Where it goes.
        to: Position,
    },
    /// It is put there, wherever it is. Whoever reads under its name is told.
    Set(LogStart),
    /// It is taken away.
    Forget,
}

/// Which events of the log. An empty list lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Event types.
    pub types: Vec<Arc<str>>,
    /// Aggregate types.
    pub aggregate_types: Vec<Arc<str>>,
    /// Tags, any of which is enough.
    pub tags: Vec<Arc<str>>,
    /// What came of one first cause: events with this correlation id. `None` lets all pass.
    pub correlation_id: Option<Arc<str>>,
}

impl LogFilter {
    /// Whether the event passes.
    #[must_use]
    pub fn passes(&self, event: &RecordedEvent) -> bool {
        (self.types.is_empty() || self.types.contains(&event.event_type))
            && (self.aggregate_types.is_empty()
                || self.aggregate_types.contains(&event.stream.aggregate_type))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| event.tags.contains(tag)))
            && (self.correlation_id.is_none()
                || self.correlation_id == event.metadata.correlation_id)
    }
}

/// The answer to one attempt at a storage request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The request's number.
    pub request: RequestId,
    /// The attempt that is answered.
    pub attempt: u32,
    /// What the adapter says.
    pub result: Result<StorageAnswer, StorageError>,
}

// ---------------------------------------------------------------------------------------------
// Out of the engine

/// What the engine asks and tells.
#[derive(Clone, Debug)]
pub enum Output {
    /// A request for the storage adapter.
    Storage(StorageRequest),
    /// A decision of a domain whose functions live in the host. The host makes it before it looks at
    /// the next output, and answers with [`Input::Domain`], at [`Output::AwaitDomain`] at the latest.
    /// One with others' events it answers at once: what it adds may concern the next.
    Domain(DomainRequest),
    /// Nothing more until the decisions that came before are answered.
    AwaitDomain,
    /// A page of the log for a projection whose functions live in the host. It is answered with
    /// [`Input::Projected`], before or after the next output.
    Project(Project),
    /// A page of the log for a process manager whose functions live in the host: which of its events
    /// are whose? It is answered with [`Input::Correlated`], before or after the next output.
    Correlate(Correlate),
    /// An event for a reaction, or a timer of a process manager. It is answered with [`Input::Reacted`]
    /// when it has been handled. What a process manager wants is told before
    /// ([`Engine::manage`](crate::Engine::manage)), and its commands are done by then.
    React(React),
    /// A message for the application.
    Notice(Notice),
    /// What the host keeps for the engine and may now drop.
    Release(Release),
    /// Nothing more until the next input. The host gives [`Input::Tick`] at `wake_at` at the latest.
    Idle {
        /// When the engine wants to be woken.
        wake_at: Option<Timestamp>,
    },
}

/// Number of a storage request, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request for the storage adapter.
#[derive(Clone, Debug)]
pub struct StorageRequest {
    /// Its number.
    pub id: RequestId,
    /// Which attempt this is, from 1. Each repeats the first, byte for byte.
    pub attempt: u32,
    /// When the engine gives the attempt up.
    pub deadline: Timestamp,
    /// The store the engine believes it talks to. `None` only in `Info`.
    pub epoch: Option<Epoch>,
    /// What is asked.
    pub body: StorageBody,
}

/// Which store, and which life of it: a store restored from a copy has another epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch(pub Arc<str>);

/// What may be asked of a storage adapter. Few and closed: a host must handle each.
#[derive(Clone, Debug)]
pub enum StorageBody {
    /// Who are you?
    Info,
    /// Append these commits.
    Append(Arc<Append>),
    /// Read first outcomes, streams and queries, all of one moment.
    Load(Arc<Load>),
    /// Read a page of the log.
    ReadLog(Arc<ReadLog>),
    /// Change documents, all or none, if others are as they were.
    SaveDocuments(Arc<SaveDocuments>),
    /// Read documents, all of one moment.
    ReadDocuments(Arc<ReadDocuments>),
}

/// Documents to write, and what must be true for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveDocuments {
    /// What must be true of the documents that are there. If it is not, nothing is written.
    pub expected: Vec<DocumentExpectation>,
    /// Collections that are emptied before the documents are written.
    pub clear: Vec<Arc<str>>,
    /// The documents, in order. What is there under their keys is replaced.
    pub documents: Vec<Document>,
}

/// Which document it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentName {
    /// What it belongs to, such as [`SNAPSHOTS`](crate::snapshot::SNAPSHOTS).
    pub collection: Arc<str>,
    /// Its name in the collection. Keys are ordered by code points, which is the order of their
    /// UTF-8 bytes.
    pub key: Arc<str>,
}

/// A document that must have this revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentExpectation {
    /// Which.
    pub name: DocumentName,
    /// Its revision; 0 if it must not be there.
    pub revision: u64,
}

/// A keyed piece of JSON beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Which it is.
    pub name: DocumentName,
    /// A number beside the value, at least 1: the revision or position that it was made from.
    pub revision: u64,
    /// What it says.
    pub value: DocumentValue,
    /// Under what it is found besides its key.
    pub postings: Vec<Posting>,
}

/// The value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentValue {
    /// JSON text.
    Text(Arc<str>),
    /// A state that the host keeps. It writes it as JSON and with a digest, by which it tells later
    /// whether this is it: see [`with_digest`](crate::snapshot::with_digest).
    State(Handle),
    /// The document is removed.
    Removed,
}

/// An entry of a document in one of its collection's indexes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posting {
    /// Name of the index.
    pub index: Arc<str>,
    /// What the document is found under. It is ordered as keys are.
    pub value: Arc<str>,
}

/// Documents to read, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadDocuments {
    /// These.
    pub names: Vec<DocumentName>,
    /// Those in these ranges.
    pub scans: Vec<DocumentScan>,
}

/// A range of a collection's documents, in order of key, or of an index's value and then key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentScan {
    /// Which collection.
    pub collection: Arc<str>,
    /// By this index; by key if there is none.
    pub index: Option<Arc<str>>,
    /// From this key, or value of the index, on.
    pub from: Option<Arc<str>>,
    /// Up to this one, which is not in the range.
    pub to: Option<Arc<str>>,
    /// Only what comes after this place, in the order of the scan.
    pub after: Option<ScanPlace>,
    /// Whether the order is turned round.
    pub descending: bool,
    /// Most documents to return, at least 1. `None`: only their number is wanted.
    pub limit: Option<u32>,
}

/// Where a document is in the order of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPlace {
    /// The index's value; the key, if the scan is by key.
    pub at: Arc<str>,
    /// The key.
    pub key: Arc<str>,
}

/// Commits to append. They are judged in order, each seeing those accepted before it; each is
/// atomic for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The host's time when the engine made the request.
    pub now: Timestamp,
    /// The commits, at least one.
    pub commits: Vec<Commit>,
}

/// What one command wants to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The task it answers for; adapters pass it by.
    pub task: TaskId,
    /// The command's id, unique in the store.
    pub command_id: CommandId,
    /// Digest of what the command asked.
    pub hash: CommandHash,
    /// The stream.
    pub stream: StreamId,
    /// What the decision rests on in its own stream.
    pub expected: CommitExpectation,
    /// What the decision rests on beyond it.
    pub condition: Option<AppendCondition>,
    /// When the command was given.
    pub issued_at: Timestamp,
    /// Who gave it, and why.
    pub metadata: Arc<Metadata>,
    /// The events, at least one.
    pub events: Vec<CommitEvent>,
}

/// An event of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEvent {
    /// Its id.
    pub id: EventId,
    /// The rest.
    pub event: NewEvent,
}

/// What a commit expects of its own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitExpectation {
    /// The stream has this revision.
    Exact(Revision),
    /// The commit at this index of the same append was committed, and is the stream's last.
    After(u32),
}

/// Append only if no event that matches has come after this position, but for named neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendCondition {
    /// Which events matter.
    pub query: Query,
    /// Up to where the decision has read them.
    pub after: Position,
    /// Indexes of earlier commits of the same append whose matching events the decision has seen.
    /// Each must be committed.
    pub neighbours: Vec<u32>,
}

/// Reads, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Command ids whose first outcome is wanted.
    pub commands: Vec<CommandId>,
    /// Streams.
    pub streams: Vec<StreamLoad>,
    /// Queries over the log.
    pub queries: Vec<QueryLoad>,
}

/// Events of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLoad {
    /// The stream.
    pub stream: StreamId,
    /// Events after this revision, …
    pub after: Revision,
    /// … or after that of this snapshot, if there is one under this key.
    pub snapshot: Option<Arc<str>>,
    /// Up to here.
    pub until: Until,
    /// Most events to return, at least 1.
    pub limit: u32,
    /// What the host folds them onto, if the domain's functions live there. The payloads stay there, too.
    pub fold: Option<HostFold>,
    /// Whether the events are wanted whole. If not, [`Page::Messages`] will do, or [`PageId::FOLDED`].
    pub whole: bool,
}

/// What the host is to fold a slice of a stream onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFold {
    /// The task it is for.
    pub task: TaskId,
    /// Whose `evolve`.
    pub aggregate: AggregateIndex,
    /// The state to start from, if the slice has no snapshot.
    pub from: Handle,
}

/// Where a read of a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the stream's last event.
    End,
    /// At this revision.
    Revision(Revision),
    /// At the last event at or before this position of the store.
    Position(Position),
    /// At the last event recorded at or before this time.
    Time(Timestamp),
}

/// Events that match a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLoad {
    /// The query.
    pub query: Query,
    /// Events after this position.
    pub after: Position,
    /// Whether the payloads stay in the host.
    pub held: bool,
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadLog {
    /// Events after this position, in the order of reading.
    pub after: Position,
    /// Whether the order is turned round: events before that position, the last one first.
    pub descending: bool,
    /// Which of them.
    pub filter: LogFilter,
    /// Most events to return, at least 1.
    pub limit: u32,
    /// Whether the payloads stay in the host.
    pub held: bool,
}

impl ReadLog {
    /// The page of a log, or of its end, that is in memory.
    pub(crate) fn page_of(&self, log: &[RecordedEvent], head: Position) -> LogPage {
        let wanted: Box<dyn Iterator<Item = &RecordedEvent>> = if self.descending {
            let end = log.partition_point(|event| event.position < self.after);
            Box::new(log[..end].iter().rev())
        } else {
            let start = log.partition_point(|event| event.position <= self.after);
            Box::new(log[start..].iter())
        };
        let passing = wanted.filter(|event| self.filter.passes(event));
        let events: Vec<_> = passing.take(self.limit as usize).cloned().collect();
        let full = events.len() == self.limit as usize;
        let last = events.last().filter(|_| full).map(|event| event.position);
        let end = if self.descending { Position(0) } else { head.max(self.after) };
        let next = last.unwrap_or(end);
        LogPage { page: Page::Events(events), places: Vec::new(), next, head }
    }
}

/// What a storage adapter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageAnswer {
    /// To `Info`.
    Info(Info),
    /// To `Append`: a verdict per commit, in order.
    Appended(Vec<Verdict>),
    /// To `Load`.
    Loaded(Loaded),
    /// To `ReadLog`.
    Log(LogPage),
    /// To `SaveDocuments`.
    Saved(Saved),
    /// To `ReadDocuments`.
    Documents(DocumentsRead),
}

/// What became of documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// They are kept, but for those that could not be written as JSON: their indexes, and why.
    Kept(Vec<(u32, Arc<str>)>),
    /// Nothing was written: this expectation does not hold.
    Conflict {
        /// Its index.
        index: u32,
        /// The revision that the document has, 0 if it is not there.
        actual: u64,
    },
}

/// The answer to a `ReadDocuments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentsRead {
    /// Documents, as the names were asked.
    pub documents: Vec<Option<StoredDocument>>,
    /// Ranges, as they were asked.
    pub scans: Vec<ScannedPage>,
    /// Position of the store's last event at that moment.
    pub head: Position,
}

/// A document as a store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// The number beside the value.
    pub revision: u64,
    /// JSON text.
    pub value: Arc<str>,
}

/// Documents of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScannedPage {
    /// The documents, and where they are in the order of the scan.
    pub documents: Vec<(ScanPlace, StoredDocument)>,
    /// Whether the limit left some out.
    pub more: bool,
    /// Number of documents in the range after the place, if that was asked.
    pub count: u64,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its identity.
    pub epoch: Epoch,
    /// Position of its last event.
    pub head: Position,
    /// What "committed" survives.
    pub durability: Durability,
    /// Whether the adapter gives `Advanced` for what others append. If not, the engine polls.
    pub notifies: bool,
}

/// What an acknowledged append survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: the store lives in the process's memory.
    Memory,
    /// The end of the process.
    ProcessCrash,
    /// The end of power.
    PowerLoss,
    /// The end of one machine.
    Replicated,
}

/// What became of one commit of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the log.
    Committed(CommitSummary),
    /// It rests on something that no longer holds.
    Conflict(Conflict),
    /// The command had been committed before: its first outcome.
    Duplicate(FirstOutcome),
    /// The command's id had been committed with other content.
    CommandIdReused(FirstOutcome),
}

/// Why a commit could not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The stream has another revision.
    Revision {
        /// The one it has.
        actual: Revision,
    },
    /// An event that matches the condition has come.
    Matched {
        /// Its position.
        position: Position,
    },
    /// A commit of the same append it rests on was not committed.
    Neighbour {
        /// Its index.
        index: u32,
    },
}

/// The answer to a `Load`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// First outcomes, as the ids were asked.
    pub commands: Vec<Option<FirstOutcome>>,
    /// Slices of streams, as asked.
    pub streams: Vec<StreamSlice>,
    /// Matches of the queries, as asked, in order of position.
    pub queries: Vec<Page>,
    /// Position of the store's last event at that moment.
    pub head: Position,
}

/// Events of a stream, contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSlice {
    /// The snapshot that was asked for, if it is there.
    pub snapshot: Option<StoredSnapshot>,
    /// The events.
    pub page: Page,
    /// What the host has made of snapshot and events, if it was to fold them and there are any.
    pub folded: Option<Result<HostFolded, HostFoldError>>,
    /// The stream's revision at that moment.
    pub revision: Revision,
    /// Whether the limit left events out that the read asked for.
    pub more: bool,
}

/// A state that the host has folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFolded {
    /// The host's number for it.
    pub state: Handle,
    /// Which events it was made without, if any.
    pub skipped: Option<Skipped>,
}

/// Why the host has no state for a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFoldError {
    /// An event could not be read or folded.
    Event {
        /// Its index in the page, from 0.
        index: u32,
        /// What kind of thing is wrong with it.
        problem: EventProblem,
        /// Why.
        reason: Arc<str>,
    },
    /// The snapshot is no state, or not the one that was kept, which
    /// [`state_in`](crate::snapshot::state_in) tells.
    Snapshot(Arc<str>),
}

/// A snapshot as a store gives it back. It may be anything: it is looked at before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The revision it says it is the state at.
    pub revision: Revision,
    /// JSON text; `None` if the host has it.
    pub value: Option<Arc<str>>,
}

impl From<&StoredDocument> for StoredSnapshot {
    fn from(StoredDocument { revision, value }: &StoredDocument) -> Self {
        Self { revision: Revision(*revision), value: Some(Arc::clone(value)) }
    }
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The events that passed the filter.
    pub page: Page,
    /// What else is told of the events, if the page is of rows.
    pub places: Vec<EventPlace>,
    /// Up to where the log has been read: where the next page goes on. At the end it is the log's last
    /// position; 0 if the order is turned round.
    pub next: Position,
    /// Position of the store's last event at that moment.
    pub head: Position,
}

/// Where an event of the log is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlace {
    /// Its position.
    pub position: Position,
    /// When the store took it.
    pub recorded_at: Timestamp,
}

/// Events, whole or kept by the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The events.
    Events(Vec<RecordedEvent>),
    /// What a native domain needs of them; the host has the rest.
    Rows {
        /// The host's number for the page.
        page: PageId,
        /// The events.
        rows: Vec<EventRow>,
    },
    /// Forms and payloads alone, to be folded.
    Messages {
        /// The form of each event, in order: its type, and, if its schema version is not 1, the
        /// character U+007F, which is in no name, and the version.
        forms: Arc<[Arc<str>]>,
        /// The text of a JSON array of the payloads.
        data: Arc<str>,
    },
    /// The host has them.
    Held {
        /// The host's number for the page.
        page: PageId,
        /// Number of events in it.
        count: u32,
    },
}

impl Page {
    /// Number of events in it.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Events(events) => events.len(),
            Self::Rows { rows, .. } => rows.len(),
            Self::Messages { forms, .. } => forms.len(),
            Self::Held { count, .. } => *count as usize,
        }
    }

    /// Whether it has no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a native domain needs of a stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// Its type.
    pub event_type: Arc<str>,
    /// Version of its type's payload.
    pub schema_version: u32,
    /// Its payload: JSON text.
    pub data: Arc<str>,
    /// When its command was given.
    pub issued_at: Timestamp,
    /// Who gave the command.
    pub actor: Option<Arc<str>>,
}

/// The host's number for a page of events it keeps, from 1. [`PageId::FOLDED`] is never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u32);

impl PageId {
    /// Events that the host has folded, and that nobody wants whole.
    pub const FOLDED: Self = Self(0);
}

/// The host's number for a state it keeps, from 1. [`Handle::INITIAL`] is never kept: it stands for what
/// the aggregate's `initial` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u32);

impl Handle {
    /// The initial state.
    pub const INITIAL: Self = Self(0);
}

/// The engine's number for a copy that the host keeps of a native state. Those that were released are given
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyId(pub u32);

/// A state as a host in another language gets it: see [`Engine::hand_out`](crate::Engine::hand_out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandedOut {
    /// The host keeps the state.
    Held(Handle),
    /// The host has a copy.
    Copied(CopyId),
    /// The host keeps what it reads from this JSON under the number, until that is released.
    ToCopy(CopyId, String),
    /// As JSON: most states are handed out once.
    Once(String),
}

/// Index of an aggregate among those the engine was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregateIndex(pub u32);

/// A command to decide by a domain whose functions live in the host: first `reads`, then, if what it
/// returns is what has been loaded, `decide`, then `evolve` and `tags` for each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRequest {
    /// The command's task.
    pub task: TaskId,
    /// Whose `decide`.
    pub aggregate: AggregateIndex,
    /// The state to decide on.
    pub state: Handle,
    /// The engine's number for the question, which is in the answer too.
    pub question: u64,
    /// When the command was given.
    pub issued_at: Timestamp,
    /// What has been loaded beyond the stream, if anything.
    pub others: Option<Others>,
}

/// What a decision reads beyond its own stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    /// The query that the decision has named. What has been loaded also has events that upcasters may
    /// have made others of, if the query names types.
    pub query: Query,
    /// Its matches in the store, in order. Those of the decision's own stream don't count.
    pub pages: Vec<PageId>,
    /// Then these events of commits that wait for the same append.
    pub neighbours: Vec<Neighbour>,
}

/// An event of a commit that waits for the next append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The task whose commit it is.
    pub task: TaskId,
    /// Its index among the events of that decision.
    pub index: u32,
    /// Its place in its stream.
    pub revision: Revision,
}

/// The answer of a domain function that lives in the host.
#[derive(Clone, Debug)]
pub struct DomainAnswer {
    /// The task it was for.
    pub task: TaskId,
    /// The question's number.
    pub question: u64,
    /// What came of it.
    pub result: DomainResult,
}

/// What came of a domain request.
#[derive(Clone, Debug)]
pub enum DomainResult {
    /// The decision reads this query, which is not what has been loaded.
    Reads(Query),
    /// These events, and the state after them.
    Decided(Vec<NewEvent>, Handle),
    /// A refusal. The host keeps the reason.
    Refused,
    /// A domain function broke its rules. The host keeps what it threw.
    Failed,
}

/// Index of a projection among those the engine was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectionIndex(pub u32);

/// A page of the log for a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The engine's number for it.
    pub run: u64,
    /// Whose functions.
    pub projection: ProjectionIndex,
    /// The events, in order.
    pub page: PageId,
    /// Where to stop in it.
    pub end: LogEnd,
    /// What is known of the view's documents before the page: keys and JSON texts, `None` where there
    /// is no document.
    pub known: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// The answer to a [`Project`].
#[derive(Clone, Debug)]
pub struct ProjectAnswer {
    /// Its number.
    pub run: u64,
    /// What came of it.
    pub result: Projected,
}

/// What came of a page for a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projected {
    /// These documents must be known first: the page is given again with them.
    Missing(Vec<Arc<str>>),
    /// It has been taken in, up to the end that was given.
    Done {
        /// What the documents are after it.
        documents: Vec<ProjectedDocument>,
        /// Position of the first event beyond that end, if there is one.
        beyond: Option<Position>,
        /// Events of unknown types that have been passed by.
        skipped: Vec<SkippedEvents>,
    },
    /// An event can't be taken in. The page is given again with an end before it.
    Failed {
        /// Its position; that of the page's first, if it is not known which it is.
        position: Position,
        /// Why.
        reason: Arc<str>,
    },
}

/// A document that a projection has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectedDocument {
    /// Its key.
    pub key: Arc<str>,
    /// JSON text; `None`: it is taken away.
    pub value: Option<Arc<str>>,
    /// Under what it is found: names of indexes, and values as these are ordered.
    pub postings: Vec<(Arc<str>, Arc<str>)>,
}

/// Events of unknown types that a fold has passed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// How many, at least 1.
    pub count: u32,
    /// Index of the last of them in the page, from 0.
    pub last: u32,
    /// Its type.
    pub event_type: Arc<str>,
}

/// Index of a reaction among those the engine was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactionIndex(pub u32);

/// A question for the correlation keys of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlate {
    /// The engine's number for it.
    pub question: u32,
    /// Whose function.
    pub reaction: ReactionIndex,
    /// The events, in a page that the host keeps until it has answered.
    pub page: PageId,
}

/// The answer to a [`Correlate`].
#[derive(Clone, Debug)]
pub struct Correlated {
    /// Whose answer.
    pub reaction: ReactionIndex,
    /// Its number.
    pub question: u32,
    /// In the order of the page. An event that upcasters have made several of may have several keys, each
    /// of which is told once; one that is not wanted has none.
    pub keys: Vec<CorrelationKey>,
    /// The first event whose key can't be told, and why. Those behind it are not told.
    pub failed: Option<(Position, Arc<str>)>,
}

/// The correlation key of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationKey {
    /// Index of the event in its page.
    pub index: u32,
    /// Its position.
    pub position: Position,
    /// The key.
    pub key: Arc<str>,
}

/// An event for a reaction, which takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct React {
    /// The engine's number for it.
    pub run: u64,
    /// Whose function.
    pub reaction: ReactionIndex,
    /// Which attempt this is, from 1, as far as is known: after a crash it may be another.
    pub attempt: u32,
    /// The event.
    pub event: Reacting,
    /// The lane it is handled in: a stream, or a process manager's correlation key.
    pub lane: Arc<str>,
    /// Of a process manager: the state of the lane, as JSON text, if there is one.
    pub state: Option<Arc<str>>,
}

/// An event that is reacted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reacting {
    /// Whole.
    Event(Box<RecordedEvent>),
    /// In a page that the host keeps until it has answered.
    Held {
        /// The page.
        page: PageId,
        /// Index of the event in it.
        index: u32,
    },
    /// None, but the time has come for a timer of a process manager.
    Timer(Box<DueTimer>),
}

/// A timer of a process manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer {
    /// The lane it is of.
    pub lane: Arc<str>,
    /// Its name. A lane has one timer of a name.
    pub name: Arc<str>,
    /// When it was to be handled, at the earliest.
    pub due: Timestamp,
    /// Its id, the same for all attempts.
    pub id: TimerId,
    /// Id of the event that led to it.
    pub causation_id: Arc<str>,
    /// What ties it together with that event.
    pub correlation_id: Arc<str>,
}

/// What a process manager wants to be done.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Id of the event or the timer that it has been given, as text.
    pub cause: Arc<str>,
    /// What ties it together with the event or the timer.
    pub correlation_id: Arc<str>,
    /// The state of the lane, as JSON text; `None`: it is taken away.
    pub state: Option<Arc<str>>,
    /// Names of timers, and when they are due; `None`: the timer is forgotten.
    pub timers: Vec<(Arc<str>, Option<Timestamp>)>,
    /// How many commands it gives.
    pub commands: u32,
}

/// The answer to a [`React`].
#[derive(Clone, Debug)]
pub struct Reacted {
    /// Its number.
    pub run: u64,
    /// Documents that are saved together with the progress, or why the event could not be handled. Those
    /// of a process manager the engine has made of what it wants.
    pub result: Result<Vec<Document>, Arc<str>>,
}

/// A lane of a reaction, such as a stream, that was left behind with an event that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedLane {
    /// Which lane: of a stream a JSON array of type and id, of a process manager the correlation key. A
    /// timer that could not be handled is a lane of its own: a JSON array of `timer`, key and name.
    pub lane: Arc<str>,
    /// Position of the event, or before it, if it has not been tried. 0 for a timer.
    pub position: Position,
    /// How often it has been tried.
    pub attempts: u32,
    /// When it is tried again; `None`: it is parked.
    pub retry_at: Option<Timestamp>,
    /// Why it could not be handled; empty: it has not been tried, for what was parked before it is passed.
    pub error: Arc<str>,
}

/// What the host may drop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// States.
    pub handles: Vec<Handle>,
    /// Pages.
    pub pages: Vec<PageId>,
    /// Copies of states.
    pub copies: Vec<CopyId>,
}

/// A message for the application.
#[derive(Clone, Debug)]
pub enum Notice {
    /// The store has been reached; tasks may be answered from now on.
    Opened(Info),
    /// The store could not be reached. The engine tries again with the next task.
    OpenFailed(StorageError),
    /// A command is done.
    CommandDone {
        /// Its task.
        task: TaskId,
        /// What came of it.
        result: Result<Outcome, CommandError>,
    },
    /// A state has been read.
    StateRead {
        /// The task.
        task: TaskId,
        /// What came of it.
        result: Result<StateRead, ReadError>,
    },
    /// Events of a subscription. The next page comes after [`Input::Next`].
    Events {
        /// The subscription.
        task: TaskId,
        /// The events.
        page: Page,
        /// Up to where the log has been read.
        next: Position,
        /// Where the checkpoint of a named subscription is.
        checkpoint: Option<Position>,
    },
    /// The checkpoint of a named subscription has been read or moved.
    Checkpoint {
        /// The task.
        task: TaskId,
        /// Where it is; `None` if there is none.
        result: Result<Option<Position>, ReadError>,
    },
    /// A snapshot that was wished for has been kept: the revision it is the state at.
    SnapshotTaken {
        /// Its task.
        task: TaskId,
        /// What came of it.
        result: Result<Revision, ReadError>,
    },
    /// Something about a snapshot that changes no answer, but that an operator may want to know.
    Snapshot(SnapshotReport),
    /// A view has been asked.
    ViewRead {
        /// The task.
        task: TaskId,
        /// What came of it.
        result: Result<ViewRead, ReadError>,
    },
    /// A view has come further, has been built, or has stopped.
    ViewMoved(ProjectionIndex),
    /// A fold or a view has passed by events whose types are unknown, as the aggregate's upcasters or the
    /// projection say.
    Skipped(SkippedEvents),
    /// A reaction has been asked.
    ReactionRead {
        /// The task.
        task: TaskId,
        /// What came of it.
        result: Result<ReactionRead, ReadError>,
    },
    /// A reaction is run by this engine now, an event of it has been parked or has left the park, or it
    /// is in trouble.
    ReactionMoved(ReactionIndex),
    /// A reaction is no longer run by this engine: what comes of its events that are under way is not
    /// waited for.
    ReactionLost(ReactionIndex),
    /// This engine waits for a reaction that the engine of this name runs. It takes over when that has shown
    /// no sign of life for a lease; at once if the host says that it is gone ([`Input::OwnerGone`]). Told
    /// again whenever the engine has looked, to hosts that have given it a name
    /// ([`Config::identity`](crate::Config::identity)).
    OwnerSeen(Arc<str>),
    /// A subscription has ended.
    SubscriptionEnded {
        /// The subscription.
        task: TaskId,
        /// `Ok` at the head of the log, if it does not follow.
        result: Result<(), ReadError>,
    },
}

/// A snapshot that could not be used or kept. States are the same without it, only later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Of which stream.
    pub stream: StreamId,
    /// The revision it is, or says it is, the state at.
    pub revision: Revision,
    /// What is wrong with it.
    pub problem: SnapshotProblem,
}

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotProblem {
    /// It was found, is no state of the stream, and is ignored. The next one replaces it.
    Ignored(Arc<str>),
    /// The state does not equal its JSON: it can't be kept.
    NotJson(Arc<str>),
    /// The store could not keep it.
    Storage(StorageError),
}

/// What a view has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewRead {
    /// How far the view has come: these documents are those after this position.
    pub position: Position,
    /// The documents, and where they are in the order of the scan.
    pub documents: Vec<(ScanPlace, StoredDocument)>,
    /// Whether the limit left some out.
    pub more: bool,
    /// Their number, if that was asked.
    pub count: u64,
    /// How the projection is.
    pub status: ViewStatus,
}

/// How a projection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewStatus {
    /// Version of the documents that are given; 0 if none can be given yet.
    pub version: u32,
    /// Up to where this release's version has come.
    pub reached: Position,
    /// Position of the store's last event, as far as it is known.
    pub head: Position,
    /// Whether this release's version is still being built.
    pub building: bool,
    /// Whether it has been told to pause.
    pub paused: bool,
    /// Where and why it has stopped.
    pub stopped: Option<ViewStop>,
    /// Number of events of unknown types up to there that have been passed by.
    pub skipped: u32,
}

/// Where a view has stopped, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStop {
    /// Position of the event that could not be taken in, or of the first of those among which it is; 0 if it
    /// was cancelled.
    pub position: Position,
    /// Why.
    pub reason: Arc<str>,
}

/// Events of unknown types that were passed by together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEvents {
    /// Of which stream.
    pub stream: StreamId,
    /// The last of them.
    pub revision: Revision,
    /// Its type.
    pub event_type: Arc<str>,
    /// How many there were, at least 1.
    pub count: u32,
}

/// How a reaction is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReactionRead {
    /// All up to here has been handled, but for the lanes.
    pub position: Position,
    /// Position of the store's last event.
    pub head: Position,
    /// Whether this engine runs it.
    pub runs_here: bool,
    /// Whether some engine has said that it runs it.
    pub runs: bool,
    /// Whether this engine has been told not to.
    pub paused: bool,
    /// What was left behind: to be tried again, or parked.
    pub lanes: Vec<ParkedLane>,
    /// What hinders this engine, if something does.
    pub trouble: Option<Arc<str>>,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command's id.
    pub command_id: CommandId,
    /// What it appended; `None` if its decision was empty.
    pub commit: Option<CommitSummary>,
    /// Whether it had been committed before: this is its first outcome.
    pub duplicate: bool,
    /// The stream's revision after the command.
    pub revision: Revision,
    /// The state after the command.
    pub state: State,
    /// The events. Empty for payloads the host holds, unless it is a duplicate.
    pub events: Vec<Page>,
    /// What the outcome survives.
    pub durability: Durability,
    /// Inline projections that have not taken the events in, and why.
    pub behind: Vec<(Arc<str>, Arc<str>)>,
}

/// A state as it was read.
#[derive(Clone, Debug)]
pub struct StateRead {
    /// The state.
    pub state: State,
    /// The revision it is the state at.
    pub revision: Revision,
    /// The events from the first to that revision, if they were asked for.
    pub events: Vec<Page>,
}
