//! What the native stores read of a log, against the vectors that every store in another language is held
//! to.

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::protocol::{
    Append, Commit, CommitEvent, CommitExpectation, Document, DocumentName, DocumentValue, Load,
    Loaded, LogFilter, LogPage, Page, QueryLoad, ReadLog, RequestId, SaveDocuments, StorageAnswer,
    StorageBody, StorageRequest, StoredSnapshot, StreamLoad, Until, Verdict,
};
use annals::storage::{MemoryStore, Overlay, OverlayPoint, StorageAdapter};
use annals::{
    CommandHash, CommandId, EventId, Metadata, NewEvent, Payload, Position, Query, QueryItem,
    RecordedEvent, Revision, StreamId, TaskId, Timestamp,
};
use serde::Deserialize;
use uuid::Uuid;

const VECTORS: &str = include_str!("../pkg-tests/vectors/reads.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    name: String,
    appends: Vec<VectorAppend>,
    #[serde(default)]
    snapshots: Vec<(String, u64, String)>,
    log: Vec<Placed>,
    steps: Vec<Step>,
    /// Those of the streams, as far as they are written.
    #[serde(skip)]
    revisions: BTreeMap<Stream, u64>,
}

/// Aggregate type and id, revision and the time of the record, of each event in order.
type Placed = (String, String, u64, i64);

/// Aggregate type and id.
type Stream = (String, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorAppend {
    now: i64,
    commits: Vec<VectorCommit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorCommit {
    command: u32,
    stream: Stream,
    cause: Option<String>,
    /// Type and tags.
    events: Vec<(String, Vec<String>)>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Step {
    Stream {
        stream: Stream,
        #[serde(default)]
        after: u64,
        snapshot: Option<String>,
        until: Option<End>,
        #[serde(default = "many")]
        limit: u32,
        events: Vec<u64>,
        revision: u64,
        more: bool,
        found: Option<(u64, String)>,
    },
    Query {
        query: Vec<(Vec<String>, Vec<String>)>,
        after: u64,
        matches: Vec<u64>,
    },
    Commands {
        commands: Vec<u32>,
        /// Position, revision, number of events and the time of the record.
        first: Vec<Option<(u64, u64, u32, i64)>>,
    },
    Page {
        page: VectorPage,
        events: Vec<u64>,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum End {
    Revision(u64),
    Position(u64),
    Time(i64),
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VectorPage {
    after: u64,
    #[serde(default)]
    descending: bool,
    #[serde(default = "many")]
    limit: u32,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    aggregate_types: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    cause: Option<String>,
}

fn many() -> u32 {
    1000
}

fn names(names: Vec<String>) -> Vec<Arc<str>> {
    names.into_iter().map(Arc::from).collect()
}

fn stream((aggregate_type, aggregate_id): Stream) -> StreamId {
    StreamId::new(&aggregate_type, &aggregate_id)
}

fn command(number: u32) -> CommandId {
    CommandId(Uuid::from_u128(number.into()))
}

impl From<End> for Until {
    fn from(end: End) -> Self {
        match end {
            End::Revision(revision) => Self::Revision(Revision(revision)),
            End::Position(position) => Self::Position(Position(position)),
            End::Time(millis) => Self::Time(Timestamp::from_millis(millis)),
        }
    }
}

impl VectorCommit {
    /// The commit, of a stream that has so many events.
    fn after(self, revision: u64) -> Commit {
        let command_id = command(self.command);
        let cause = self.cause.unwrap_or_else(|| format!("command {}", self.command));
        let events = (0..).zip(self.events).map(|(index, (event_type, tags))| CommitEvent {
            id: EventId::derive(command_id, index),
            event: NewEvent {
                event_type: event_type.into(),
                schema_version: 1,
                tags: names(tags),
                data: Payload::Text("{}".into()),
            },
        });
        Commit {
            task: TaskId(self.command),
            command_id,
            hash: CommandHash(Uuid::nil()),
            stream: stream(self.stream),
            expected: CommitExpectation::Exact(Revision(revision)),
            condition: None,
            issued_at: Timestamp::from_millis(0),
            metadata: Arc::new(Metadata {
                correlation_id: Some(cause.into()),
                ..Metadata::default()
            }),
            events: events.collect(),
        }
    }
}

fn call(store: &mut impl StorageAdapter, body: StorageBody) -> StorageAnswer {
    let (id, now) = (RequestId(1), Timestamp::from_millis(0));
    store
        .call(&StorageRequest { id, attempt: 1, deadline: now, epoch: None, body })
        .expect("the store answers")
}

fn load(store: &mut impl StorageAdapter, load: Load) -> Loaded {
    match call(store, StorageBody::Load(Arc::new(load))) {
        StorageAnswer::Loaded(loaded) => loaded,
        other => panic!("expected what was loaded, found {other:?}"),
    }
}

fn read(store: &mut impl StorageAdapter, read: ReadLog) -> LogPage {
    match call(store, StorageBody::ReadLog(Arc::new(read))) {
        StorageAnswer::Log(page) => page,
        other => panic!("expected a page, found {other:?}"),
    }
}

fn events(page: Page) -> Vec<RecordedEvent> {
    match page {
        Page::Events(events) => events,
        other => panic!("expected events, found {other:?}"),
    }
}

fn positions(page: Page) -> Vec<u64> {
    events(page).into_iter().map(|event| event.position.0).collect()
}

/// The events of all pages that follow each other.
fn pages(
    store: &mut impl StorageAdapter,
    page: VectorPage,
    head: u64,
    what: &str,
) -> Vec<RecordedEvent> {
    let VectorPage { mut after, descending, limit, types, aggregate_types, tags, cause } = page;
    let filter = LogFilter {
        types: names(types),
        aggregate_types: names(aggregate_types),
        tags: names(tags),
        correlation_id: cause.map(Arc::from),
    };
    let end = if descending { 0 } else { head };
    let mut all = Vec::new();
    loop {
        let filter = filter.clone();
        let asked = ReadLog { after: Position(after), descending, filter, limit, held: false };
        let page = read(store, asked);
        assert_eq!(page.head.0, head, "{what}");
        let found = events(page.page);
        assert!(found.len() <= limit as usize, "{what}: {found:?}");
        let next = page.next.0;
        let is_behind =
            |position: u64| if descending { next <= position } else { next >= position };
        let passed = found.iter().all(|event| is_behind(event.position.0));
        assert!(passed, "{what}: {next}, {found:?}");
        all.extend(found);
        if next == end {
            return all;
        }
        assert!(is_behind(after) && next != after, "{what}: from {after} to {next}");
        after = next;
    }
}

/// Writes the first appends of those that are left.
fn write(store: &mut impl StorageAdapter, story: &mut Story, count: usize) {
    for VectorAppend { now, commits } in story.appends.drain(..count) {
        let commits = commits.into_iter().map(|commit| {
            let revision = story.revisions.entry(commit.stream.clone()).or_default();
            let before = *revision;
            *revision += commit.events.len() as u64;
            commit.after(before)
        });
        let append = Append { now: Timestamp::from_millis(now), commits: commits.collect() };
        match call(store, StorageBody::Append(Arc::new(append))) {
            StorageAnswer::Appended(verdicts) => {
                let all = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Committed(_)));
                assert!(all, "{}: {verdicts:?}", story.name);
            }
            other => panic!("{}: found {other:?}", story.name),
        }
    }
}

fn keep(store: &mut impl StorageAdapter, snapshots: Vec<(String, u64, String)>) {
    let documents = snapshots.into_iter().map(|(key, revision, value)| Document {
        name: DocumentName { collection: "snapshots".into(), key: key.into() },
        revision,
        value: DocumentValue::Text(value.into()),
        postings: Vec::new(),
    });
    let save = SaveDocuments { documents: documents.collect(), ..SaveDocuments::default() };
    call(store, StorageBody::SaveDocuments(Arc::new(save)));
}

fn tell(mut story: Story, store: &mut impl StorageAdapter) {
    let left = story.appends.len();
    write(store, &mut story, left);
    keep(store, std::mem::take(&mut story.snapshots));
    let head = story.log.len() as u64;
    let whole = VectorPage { limit: many(), ..VectorPage::default() };
    let log = pages(store, whole, head, &story.name).into_iter().map(|event| {
        let StreamId { aggregate_type, aggregate_id } = &event.stream;
        let stream = (aggregate_type.to_string(), aggregate_id.to_string());
        (stream.0, stream.1, event.revision.0, event.recorded_at.millis())
    });
    assert_eq!(log.collect::<Vec<_>>(), story.log, "{}", story.name);
    for (number, step) in story.steps.into_iter().enumerate() {
        let what = format!("{}: step {number}", story.name);
        match step {
            Step::Stream {
                stream: id,
                after,
                snapshot,
                until,
                limit,
                events,
                revision,
                more,
                found,
            } => {
                let asked = StreamLoad {
                    stream: stream(id),
                    after: Revision(after),
                    snapshot: snapshot.map(Arc::from),
                    until: until.map_or(Until::End, Until::from),
                    limit,
                    fold: None,
                    whole: true,
                };
                let mut loaded = load(store, Load { streams: vec![asked], ..Load::default() });
                let slice = loaded.streams.remove(0);
                let kept = found.map(|(revision, value)| StoredSnapshot {
                    revision: Revision(revision),
                    value: Some(value.into()),
                });
                assert_eq!(slice.snapshot, kept, "{what}");
                let read = (positions(slice.page), slice.revision.0, slice.more, loaded.head.0);
                assert_eq!(read, (events, revision, more, head), "{what}");
            }
            Step::Query { query, after, matches } => {
                let items = query
                    .into_iter()
                    .map(|(types, tags)| QueryItem { types: names(types), tags: names(tags) });
                let query = Query { items: items.collect() };
                let asked = QueryLoad { query, after: Position(after), held: false };
                let mut loaded = load(store, Load { queries: vec![asked], ..Load::default() });
                assert_eq!(positions(loaded.queries.remove(0)), matches, "{what}");
            }
            Step::Commands { commands, first } => {
                let commands = commands.into_iter().map(command).collect();
                let loaded = load(store, Load { commands, ..Load::default() });
                let told = loaded.commands.into_iter().map(|first| {
                    let commit = first?.commit;
                    let place = (commit.position.0, commit.revision.0);
                    Some((place.0, place.1, commit.count, commit.recorded_at.millis()))
                });
                assert_eq!(told.collect::<Vec<_>>(), first, "{what}");
            }
            Step::Page { page, events } => {
                let read = pages(store, page, head, &what);
                assert_eq!(positions(Page::Events(read)), events, "{what}");
            }
        }
    }
}

fn stories() -> Vec<Story> {
    let stories: Vec<Story> = serde_json::from_str(VECTORS).expect("the stories are readable");
    assert!(stories.len() > 7, "the stories are there");
    stories
}

#[test]
fn the_reference_store_reads_what_its_vectors_say() {
    for story in stories() {
        tell(story, &mut MemoryStore::new("store-1"));
    }
}

#[test]
fn an_overlay_reads_what_the_vectors_say_wherever_its_cut_is() {
    let longest = stories().iter().map(|story| story.appends.len()).max().unwrap_or_default();
    for cut in 0..=longest {
        for mut story in stories() {
            let mut below = MemoryStore::new("store-1");
            let count = cut.min(story.appends.len());
            write(&mut below, &mut story, count);
            tell(story, &mut Overlay::new(below, "overlay-1", OverlayPoint::Now));
        }
    }
}
