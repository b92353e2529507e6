//! Documents of the native stores against the stories that every store in another language must
//! tell too.

use std::sync::Arc;

use annals::Timestamp;
use annals::protocol::{
    Document, DocumentExpectation, DocumentName, DocumentScan, DocumentValue, DocumentsRead,
    Posting, ReadDocuments, RequestId, SaveDocuments, Saved, ScanPlace, ScannedPage, StorageAnswer,
    StorageBody, StorageRequest, StoredDocument,
};
use annals::storage::{MemoryStore, Overlay, OverlayPoint, StorageAdapter};
use serde::Deserialize;

const VECTORS: &str = include_str!("../pkg-tests/vectors/documents.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Step {
    Save { save: Save, conflict: Option<(u32, u64)> },
    Find { names: Vec<Name>, found: Vec<Option<(u64, String)>> },
    Scan { scan: Scan, page: Vec<(String, String, u64, String)>, more: bool },
    Count { scan: Scan, count: u64 },
}

/// Collection and key.
type Name = (String, String);

/// Collection, key, revision, value and postings.
type Written = (String, String, u64, Option<String>, Vec<(String, String)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    #[serde(default)]
    expected: Vec<(String, String, u64)>,
    #[serde(default)]
    clear: Vec<String>,
    documents: Vec<Written>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    collection: String,
    index: Option<String>,
    from: Option<String>,
    to: Option<String>,
    after: Option<(String, String)>,
    #[serde(default)]
    descending: bool,
    #[serde(default = "all")]
    limit: Option<u32>,
}

fn all() -> Option<u32> {
    Some(1000)
}

fn name(collection: String, key: String) -> DocumentName {
    DocumentName { collection: collection.into(), key: key.into() }
}

fn stored(revision: u64, value: String) -> StoredDocument {
    StoredDocument { revision, value: value.into() }
}

impl From<Save> for SaveDocuments {
    fn from(save: Save) -> Self {
        Self {
            expected: save
                .expected
                .into_iter()
                .map(|(collection, key, revision)| DocumentExpectation {
                    name: name(collection, key),
                    revision,
                })
                .collect(),
            clear: save.clear.into_iter().map(Arc::from).collect(),
            documents: save
                .documents
                .into_iter()
                .map(|(collection, key, revision, value, postings)| Document {
                    name: name(collection, key),
                    revision,
                    value: value
                        .map_or(DocumentValue::Removed, |value| DocumentValue::Text(value.into())),
                    postings: postings
                        .into_iter()
                        .map(|(index, value)| Posting { index: index.into(), value: value.into() })
                        .collect(),
                })
                .collect(),
        }
    }
}

impl From<Scan> for DocumentScan {
    fn from(scan: Scan) -> Self {
        Self {
            collection: scan.collection.into(),
            index: scan.index.map(Arc::from),
            from: scan.from.map(Arc::from),
            to: scan.to.map(Arc::from),
            after: scan.after.map(|(at, key)| ScanPlace { at: at.into(), key: key.into() }),
            descending: scan.descending,
            limit: scan.limit,
        }
    }
}

fn call(store: &mut impl StorageAdapter, body: StorageBody) -> StorageAnswer {
    let (id, now) = (RequestId(1), Timestamp::from_millis(0));
    store
        .call(&StorageRequest { id, attempt: 1, deadline: now, epoch: None, body })
        .expect("the store answers")
}

fn read(store: &mut impl StorageAdapter, read: ReadDocuments) -> DocumentsRead {
    match call(store, StorageBody::ReadDocuments(Arc::new(read))) {
        StorageAnswer::Documents(read) => read,
        other => panic!("expected documents, found {other:?}"),
    }
}

fn page(store: &mut impl StorageAdapter, scan: Scan) -> ScannedPage {
    let scans = vec![scan.into()];
    read(store, ReadDocuments { scans, ..ReadDocuments::default() }).scans.remove(0)
}

fn tell(story: Story, store: &mut impl StorageAdapter) {
    for (number, step) in story.steps.into_iter().enumerate() {
        let what = format!("{}: step {number}", story.name);
        match step {
            Step::Save { save, conflict } => {
                let expected = conflict.map_or(Saved::Kept(Vec::new()), |(index, actual)| {
                    Saved::Conflict { index, actual }
                });
                match call(store, StorageBody::SaveDocuments(Arc::new(save.into()))) {
                    StorageAnswer::Saved(saved) => assert_eq!(saved, expected, "{what}"),
                    other => panic!("{what}: found {other:?}"),
                }
            }
            Step::Find { names, found } => {
                let names = names.into_iter().map(|(collection, key)| name(collection, key));
                let asked = ReadDocuments { names: names.collect(), ..ReadDocuments::default() };
                let expected: Vec<_> = found
                    .into_iter()
                    .map(|found| found.map(|(revision, value)| stored(revision, value)))
                    .collect();
                assert_eq!(read(store, asked).documents, expected, "{what}");
            }
            Step::Scan { scan, page: found, more } => {
                let documents = found.into_iter().map(|(at, key, revision, value)| {
                    (ScanPlace { at: at.into(), key: key.into() }, stored(revision, value))
                });
                let expected = ScannedPage { documents: documents.collect(), more, count: 0 };
                assert_eq!(page(store, scan), expected, "{what}");
            }
            Step::Count { scan, count } => {
                let expected = ScannedPage { count, ..ScannedPage::default() };
                assert_eq!(page(store, scan), expected, "{what}");
            }
        }
    }
}

fn stories() -> Vec<Story> {
    let stories: Vec<Story> = serde_json::from_str(VECTORS).expect("the stories are readable");
    assert!(stories.len() > 20, "the stories are there");
    stories
}

#[test]
fn the_reference_store_tells_the_stories_of_documents() {
    for story in stories() {
        tell(story, &mut MemoryStore::new("store-1"));
    }
}

#[test]
fn an_overlay_tells_the_stories_of_documents() {
    for story in stories() {
        let below = MemoryStore::new("store-1");
        tell(story, &mut Overlay::new(below, "overlay-1", OverlayPoint::Now));
    }
}
