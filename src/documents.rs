//! Documents in memory: those of the reference store, of overlays, and of views that are folded
//! when they are asked for.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{StorageError, StorageErrorCode};
use crate::protocol::{
    Document, DocumentName, DocumentScan, DocumentValue, DocumentsRead, Posting, ReadDocuments,
    SaveDocuments, Saved, ScanPlace, ScannedPage, StoredDocument,
};
use crate::stream::Position;

/// A table of documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Documents {
    /// Documents and their postings: those of one tree are less code than those of two.
    entries: BTreeMap<Entry, Option<Kept>>,
}

/// Where a document is in the order of an index; of its keys, if there is no index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    collection: Arc<str>,
    index: Option<Arc<str>>,
    at: Arc<str>,
    key: Arc<str>,
}

#[derive(Clone, Debug)]
struct Kept {
    found: StoredDocument,
    postings: Vec<Posting>,
}

impl Documents {
    /// The document with this name.
    pub(crate) fn get(&self, name: &DocumentName) -> Option<&StoredDocument> {
        Some(&self.entries.get(&entry_of(name))?.as_ref()?.found)
    }

    /// The documents of a collection, by key.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of<'a>(
        &'a mut self,
        collection: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a mut StoredDocument)> {
        let found =
            self.entries.iter_mut().filter(move |(entry, _)| *entry.collection == *collection);
        found.filter_map(|(entry, kept)| Some((&*entry.key, &mut kept.as_mut()?.found)))
    }

    /// Changes all, or, if an expectation does not hold, nothing.
    ///
    /// # Errors
    /// If the host has kept a value.
    pub(crate) fn save(&mut self, save: &SaveDocuments) -> Result<Saved, StorageError> {
        let SaveDocuments { expected, clear, documents } = save;
        if documents.iter().any(|document| matches!(document.value, DocumentValue::State(_))) {
            return Err(StorageError::permanent(
                StorageErrorCode::Failed,
                "a native store needs the values of documents, the host has kept them",
            ));
        }
        for (index, expectation) in (0..).zip(expected) {
            let actual = self.get(&expectation.name).map_or(0, |found| found.revision);
            if actual != expectation.revision {
                return Ok(Saved::Conflict { index, actual });
            }
        }
        self.entries.retain(|entry, _| !clear.contains(&entry.collection));
        for document in documents {
            self.put(document);
        }
        Ok(Saved::Kept(Vec::new()))
    }

    #[inline(never)]
    fn put(&mut self, document: &Document) {
        let Document { name, revision, value, postings } = document;
        if let Some(Some(old)) = self.entries.remove(&entry_of(name)) {
            for posting in old.postings {
                self.entries.remove(&posted(name, &posting));
            }
        }
        if let DocumentValue::Text(value) = value {
            for posting in postings {
                self.entries.insert(posted(name, posting), None);
            }
            let found = StoredDocument { revision: *revision, value: Arc::clone(value) };
            self.entries.insert(entry_of(name), Some(Kept { found, postings: postings.clone() }));
        }
    }

    /// What is asked.
    pub(crate) fn read(&self, read: &ReadDocuments, head: Position) -> DocumentsRead {
        DocumentsRead {
            documents: read.names.iter().map(|name| self.get(name).cloned()).collect(),
            scans: read.scans.iter().map(|scan| self.scan(scan)).collect(),
            head,
        }
    }

    #[inline(never)]
    fn scan(&self, scan: &DocumentScan) -> ScannedPage {
        let DocumentScan { collection, index, from, to, after, descending, limit } = scan;
        let open = Arc::<str>::from("");
        let entry = |at: &Arc<str>, key: &Arc<str>| Entry {
            collection: Arc::clone(collection),
            index: index.clone(),
            at: Arc::clone(at),
            key: Arc::clone(key),
        };
        let mut start = Bound::Included(entry(from.as_ref().unwrap_or(&open), &open));
        let mut end = Bound::Excluded(match to {
            Some(to) => entry(to, &open),
            // The next string after a string is that with a NUL behind it; after none is the empty one.
            None => {
                let next = index.as_ref().map_or_else(String::new, |index| format!("{index}\0"));
                Entry { index: Some(next.into()), ..entry(&open, &open) }
            }
        });
        if let Some(ScanPlace { at, key }) = after {
            let after = Bound::Excluded(entry(at, key));
            if *descending {
                end = if bound(&after) < bound(&end) { after } else { end };
            } else {
                start = if bound(&after) >= bound(&start) { after } else { start };
            }
        }
        // A range must not end before it begins, nor leave out both its ends where they are one.
        if bound(&start) >= bound(&end) {
            return ScannedPage::default();
        }
        let mut range = self.entries.range((start, end));
        let Some(limit) = limit else {
            return ScannedPage { count: range.count() as u64, ..ScannedPage::default() };
        };
        let mut documents = Vec::new();
        loop {
            let next = if *descending { range.next_back() } else { range.next() };
            let Some((Entry { at, key, .. }, _)) = next else {
                return ScannedPage { documents, more: false, count: 0 };
            };
            if documents.len() == *limit as usize {
                return ScannedPage { documents, more: true, count: 0 };
            }
            let (at, key) = (Arc::clone(at), Arc::clone(key));
            let name = DocumentName { collection: Arc::clone(collection), key: Arc::clone(&key) };
            let found = self.get(&name).expect("a posting is of a document");
            documents.push((ScanPlace { at, key }, found.clone()));
        }
    }
}

fn bound(bound: &Bound<Entry>) -> Option<&Entry> {
    match bound {
        Bound::Included(entry) | Bound::Excluded(entry) => Some(entry),
        Bound::Unbounded => None,
    }
}

/// Where the document itself is.
fn entry_of(DocumentName { collection, key }: &DocumentName) -> Entry {
    let collection = Arc::clone(collection);
    Entry { collection, index: None, at: Arc::clone(key), key: Arc::clone(key) }
}

fn posted(name: &DocumentName, Posting { index, value }: &Posting) -> Entry {
    Entry { index: Some(Arc::clone(index)), at: Arc::clone(value), ..entry_of(name) }
}

/// The first string, in the order of code points, that does not begin so any more; `None` if all
/// after it do.
pub(crate) fn end_of_prefix(prefix: &str) -> Option<Arc<str>> {
    let mut begin = prefix;
    while let Some(last) = begin.chars().next_back() {
        begin = &begin[..begin.len() - last.len_utf8()];
        let next = match last {
            char::MAX => None,
            // Surrogates are no characters.
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            return Some(format!("{begin}{next}").into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str) -> DocumentName {
        DocumentName { collection: "c".into(), key: key.into() }
    }

    fn put(key: &str, value: &str, indexed: &[&str]) -> Document {
        Document {
            name: name(key),
            revision: 1,
            value: DocumentValue::Text(value.into()),
            postings: indexed
                .iter()
                .map(|value| Posting { index: "i".into(), value: (*value).into() })
                .collect(),
        }
    }

    fn save(table: &mut Documents, documents: Vec<Document>) {
        let save = SaveDocuments { documents, ..SaveDocuments::default() };
        assert_eq!(table.save(&save), Ok(Saved::Kept(Vec::new())));
    }

    fn scan() -> DocumentScan {
        DocumentScan {
            collection: "c".into(),
            index: None,
            from: None,
            to: None,
            after: None,
            descending: false,
            limit: Some(100),
        }
    }

    fn keys(table: &Documents, scan: DocumentScan) -> Vec<String> {
        let found = table.scan(&scan);
        found.documents.iter().map(|(place, _)| place.key.to_string()).collect()
    }

    #[test]
    fn ranges_are_by_code_points_and_go_both_ways() {
        let mut table = Documents::default();
        let others = Document {
            name: DocumentName { collection: "d".into(), ..name("z") },
            ..put("", "0", &[])
        };
        save(
            &mut table,
            vec![put("😀", "1", &[]), put("\u{ffff}", "2", &[]), put("", "3", &[]), others],
        );
        assert_eq!(keys(&table, scan()), ["", "\u{ffff}", "😀"]);
        assert_eq!(
            keys(&table, DocumentScan { descending: true, ..scan() }),
            ["😀", "\u{ffff}", ""]
        );
        let after = |key: &str| Some(ScanPlace { at: key.into(), key: key.into() });
        let down = DocumentScan { descending: true, after: after("\u{ffff}"), ..scan() };
        assert_eq!(keys(&table, down), [""]);
        let beyond = DocumentScan { from: Some("x".into()), to: Some("a".into()), ..scan() };
        assert_eq!(keys(&table, beyond), [""; 0]);
        let before = DocumentScan { from: Some("\u{ffff}".into()), after: after("a"), ..scan() };
        assert_eq!(keys(&table, before), ["\u{ffff}", "😀"]);
    }

    #[test]
    fn an_index_has_what_its_documents_have_now() {
        let by_index = || DocumentScan { index: Some("i".into()), ..scan() };
        let mut table = Documents::default();
        save(&mut table, vec![put("a", "1", &["x", "y"]), put("b", "2", &["x"])]);
        assert_eq!(keys(&table, by_index()), ["a", "b", "a"]);
        let first = DocumentScan { limit: Some(1), ..by_index() };
        assert!(table.scan(&first).more);
        save(&mut table, vec![put("a", "1", &["z"])]);
        assert_eq!(keys(&table, by_index()), ["b", "a"]);
        save(&mut table, vec![Document { value: DocumentValue::Removed, ..put("b", "", &["x"]) }]);
        assert_eq!(table.scan(&DocumentScan { limit: None, ..by_index() }).count, 1);
        let clear = SaveDocuments { clear: vec!["c".into()], ..SaveDocuments::default() };
        table.save(&clear).expect("nothing is held");
        assert!(table.entries.is_empty());
    }

    #[test]
    fn nothing_is_written_if_an_expectation_does_not_hold() {
        let mut table = Documents::default();
        let expect = |key: &str, revision| crate::protocol::DocumentExpectation {
            name: name(key),
            revision,
        };
        let save = |expected| SaveDocuments {
            expected,
            clear: vec!["c".into()],
            documents: vec![put("a", "1", &[])],
        };
        assert_eq!(table.save(&save(vec![expect("a", 0)])), Ok(Saved::Kept(Vec::new())));
        let stale = save(vec![expect("a", 1), expect("a", 0)]);
        assert_eq!(table.save(&stale), Ok(Saved::Conflict { index: 1, actual: 1 }));
        assert!(table.get(&name("a")).is_some());
    }

    #[test]
    fn a_prefix_ends_where_nothing_begins_so() {
        assert_eq!(end_of_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(end_of_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(end_of_prefix(""), None);
        assert_eq!(end_of_prefix("\u{10ffff}"), None);
    }
}
