//! The judge against its vectors, which every judge in another language must pass too.

use std::sync::Arc;

use annals::judge::{CommitFacts, Facts, judge};
use annals::protocol::{
    Append, AppendCondition, Commit, CommitEvent, CommitExpectation, Conflict, Verdict,
};
use annals::{
    CommandHash, CommandId, CommitSummary, EventId, FirstOutcome, Metadata, NewEvent, Payload,
    Position, Query, QueryItem, Revision, StreamId, TaskId, Timestamp,
};
use serde::Deserialize;
use uuid::Uuid;

const VECTORS: &str = include_str!("../pkg-tests/vectors/judge.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vector {
    name: String,
    now: i64,
    head: u64,
    last_recorded_at: i64,
    commits: Vec<VectorCommit>,
    facts: Vec<VectorFacts>,
    verdicts: Vec<VectorVerdict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorCommit {
    command: u32,
    hash: String,
    stream: String,
    expected: Expected,
    condition: Option<Condition>,
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Exact(u64),
    After { after: u32 },
}

#[derive(Deserialize)]
struct Condition {
    query: Vec<Item>,
    after: u64,
    neighbours: Vec<u32>,
}

#[derive(Deserialize)]
struct Item {
    types: Vec<String>,
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct VectorFacts {
    revision: u64,
    first: Option<First>,
    matched: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct First {
    hash: String,
    stream: String,
    #[serde(flatten)]
    commit: Summary,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    position: u64,
    revision: u64,
    count: u32,
    recorded_at: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum VectorVerdict {
    Committed(Summary),
    Conflict(VectorConflict),
    Duplicate(First),
    Reused(First),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum VectorConflict {
    Revision(u64),
    Matched(u64),
    Neighbour(u32),
}

fn hash(text: &str) -> CommandHash {
    let mut bytes = [0; 16];
    let length = text.len().min(16);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    CommandHash(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

fn names(names: Vec<String>) -> Vec<Arc<str>> {
    names.into_iter().map(Arc::from).collect()
}

fn stream(id: &str) -> StreamId {
    StreamId::new("Appointment", id)
}

impl From<Summary> for CommitSummary {
    fn from(summary: Summary) -> Self {
        Self {
            position: Position(summary.position),
            revision: Revision(summary.revision),
            count: summary.count,
            recorded_at: Timestamp::from_millis(summary.recorded_at),
        }
    }
}

impl From<First> for FirstOutcome {
    fn from(first: First) -> Self {
        Self { hash: hash(&first.hash), stream: stream(&first.stream), commit: first.commit.into() }
    }
}

impl From<VectorCommit> for Commit {
    fn from(commit: VectorCommit) -> Self {
        let command_id = CommandId(Uuid::from_u128(commit.command.into()));
        let event = |event: Event| NewEvent {
            event_type: event.r#type.into(),
            schema_version: 1,
            tags: names(event.tags),
            data: Payload::Text("{}".into()),
        };
        Self {
            task: TaskId(commit.command),
            command_id,
            hash: hash(&commit.hash),
            stream: stream(&commit.stream),
            expected: match commit.expected {
                Expected::Exact(revision) => CommitExpectation::Exact(Revision(revision)),
                Expected::After { after } => CommitExpectation::After(after),
            },
            condition: commit.condition.map(|condition| AppendCondition {
                query: Query {
                    items: condition
                        .query
                        .into_iter()
                        .map(|item| QueryItem { types: names(item.types), tags: names(item.tags) })
                        .collect(),
                },
                after: Position(condition.after),
                neighbours: condition.neighbours,
            }),
            issued_at: Timestamp::from_millis(0),
            metadata: Arc::new(Metadata::default()),
            events: (0..)
                .zip(commit.events)
                .map(|(index, found)| CommitEvent {
                    id: EventId::derive(command_id, index),
                    event: event(found),
                })
                .collect(),
        }
    }
}

impl From<VectorVerdict> for Verdict {
    fn from(verdict: VectorVerdict) -> Self {
        match verdict {
            VectorVerdict::Committed(summary) => Self::Committed(summary.into()),
            VectorVerdict::Duplicate(first) => Self::Duplicate(first.into()),
            VectorVerdict::Reused(first) => Self::CommandIdReused(first.into()),
            VectorVerdict::Conflict(conflict) => Self::Conflict(match conflict {
                VectorConflict::Revision(actual) => Conflict::Revision { actual: Revision(actual) },
                VectorConflict::Matched(position) => {
                    Conflict::Matched { position: Position(position) }
                }
                VectorConflict::Neighbour(index) => Conflict::Neighbour { index },
            }),
        }
    }
}

#[test]
fn the_judge_gives_the_verdicts_of_its_vectors() {
    let vectors: Vec<Vector> = serde_json::from_str(VECTORS).expect("the vectors are readable");
    assert!(vectors.len() > 20, "the vectors are there");
    for vector in vectors {
        let append = Append {
            now: Timestamp::from_millis(vector.now),
            commits: vector.commits.into_iter().map(Commit::from).collect(),
        };
        let facts = Facts {
            head: Position(vector.head),
            last_recorded_at: Timestamp::from_millis(vector.last_recorded_at),
            commits: vector
                .facts
                .into_iter()
                .map(|facts| CommitFacts {
                    revision: Revision(facts.revision),
                    first: facts.first.map(FirstOutcome::from),
                    matched: facts.matched.map(Position),
                })
                .collect(),
        };
        let expected: Vec<Verdict> = vector.verdicts.into_iter().map(Verdict::from).collect();
        assert_eq!(judge(&append, &facts), expected, "{}", vector.name);
    }
}
