//! Documents in memory: those of the reference store, of overlays, and of views that are folded
//! when they are asked for.

use std::collections::{BTreeMap, BTreeSet};
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
    documents: BTreeMap<DocumentName, Kept>,
    postings: BTreeSet<Entry>,
}

#[derive(Clone, Debug)]
struct Kept {
    found: StoredDocument,
    postings: Vec<Posting>,
}

/// A document's entry in an index, in the index's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    collection: Arc<str>,
    index: Arc<str>,
    value: Arc<str>,
    key: Arc<str>,
}

impl Documents {
    /// The document with this name.
    pub(crate) fn get(&self, name: &DocumentName) -> Option<&StoredDocument> {
        Some(&self.documents.get(name)?.found)
    }

    /// The documents of a collection, to be damaged.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of_mut<'a>(
        &'a mut self,
        collection: &'a str,
    ) -> impl Iterator<Item = &'a mut StoredDocument> {
        let of_it = move |(name, _): &(&DocumentName, _)| *name.collection == *collection;
        self.documents.iter_mut().filter(of_it).map(|(_, kept)| &mut kept.found)
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
        for collection in clear {
            self.documents.retain(|name, _| name.collection != *collection);
            self.postings.retain(|entry| entry.collection != *collection);
        }
        for document in documents {
            self.put(document);
        }
        Ok(Saved::Kept(Vec::new()))
    }

    fn put(&mut self, document: &Document) {
        let Document { name, revision, value, postings } = document;
        if let Some(old) = self.documents.remove(name) {
            for posting in &old.postings {
                self.postings.remove(&entry(name, posting));
            }
        }
        if let DocumentValue::Text(value) = value {
            self.postings.extend(postings.iter().map(|posting| entry(name, posting)));
            let found = StoredDocument { revision: *revision, value: Arc::clone(value) };
            self.documents.insert(name.clone(), Kept { found, postings: postings.clone() });
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

    fn scan(&self, scan: &DocumentScan) -> ScannedPage {
        let place = |name: &DocumentName| {
            (ScanPlace { at: Arc::clone(&name.key), key: Arc::clone(&name.key) }, name.clone())
        };
        let place_of_entry = |entry: &Entry| {
            let Entry { collection, value, key, .. } = entry.clone();
            let name = DocumentName { collection, key: Arc::clone(&key) };
            (ScanPlace { at: value, key }, name)
        };
        let DocumentScan { collection, index, from, to, after, descending, .. } = scan;
        let open = || Arc::<str>::from("");
        let start = from.clone().unwrap_or_else(open);
        if let Some(index) = index {
            let entry = |value, key| Entry {
                collection: Arc::clone(collection),
                index: Arc::clone(index),
                value,
                key,
            };
            // The next string after a string is that with a NUL behind it.
            let end = match to {
                Some(to) => entry(Arc::clone(to), open()),
                None => Entry { index: format!("{index}\0").into(), ..entry(open(), open()) },
            };
            let after = after.as_ref().map(|ScanPlace { at, key }| entry(at.clone(), key.clone()));
            let Some(range) = range(entry(start, open()), end, after, *descending) else {
                return ScannedPage::default();
            };
            let found = self.postings.range(range).map(place_of_entry);
            self.page(scan, found)
        } else {
            let name = |key| DocumentName { collection: Arc::clone(collection), key };
            let end = match to {
                Some(to) => name(Arc::clone(to)),
                None => DocumentName { collection: format!("{collection}\0").into(), key: open() },
            };
            let after = after.as_ref().map(|place| name(Arc::clone(&place.key)));
            let Some(range) = range(name(start), end, after, *descending) else {
                return ScannedPage::default();
            };
            let found = self.documents.range(range).map(|(name, _)| place(name));
            self.page(scan, found)
        }
    }

    fn page(
        &self,
        scan: &DocumentScan,
        found: impl DoubleEndedIterator<Item = (ScanPlace, DocumentName)>,
    ) -> ScannedPage {
        let Some(limit) = scan.limit else {
            return ScannedPage { count: found.count() as u64, ..ScannedPage::default() };
        };
        let mut documents = Vec::new();
        let mut more = false;
        let mut add = |(place, name)| {
            more = documents.len() == limit as usize;
            if !more {
                let found = self.get(&name).expect("a posting is of a document");
                documents.push((place, found.clone()));
            }
            !more
        };
        if scan.descending {
            let _ = found.rev().all(&mut add);
        } else {
            let mut found = found;
            let _ = found.all(&mut add);
        }
        ScannedPage { documents, more, count: 0 }
    }
}

fn entry(name: &DocumentName, posting: &Posting) -> Entry {
    Entry {
        collection: Arc::clone(&name.collection),
        index: Arc::clone(&posting.index),
        value: Arc::clone(&posting.value),
        key: Arc::clone(&name.key),
    }
}

/// What is from `start` up to `end` and, in the direction of the scan, comes after `after`; `None` if
/// there can't be anything.
fn range<T: Ord>(
    start: T,
    end: T,
    after: Option<T>,
    descending: bool,
) -> Option<(Bound<T>, Bound<T>)> {
    let (mut from, mut to) = (Bound::Included(start), Bound::Excluded(end));
    match after {
        Some(after) if descending => {
            if let Bound::Excluded(end) = &to
                && after < *end
            {
                to = Bound::Excluded(after);
            }
        }
        Some(after) => {
            if let Bound::Included(start) = &from
                && after >= *start
            {
                from = Bound::Excluded(after);
            }
        }
        None => {}
    }
    let (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) = (&from, &to) else {
        unreachable!("bounds are as above")
    };
    // A range of the standard library's must not end before it begins, nor leave out both its ends
    // where they are one.
    (low < high).then_some((from, to))
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
        assert!(table.documents.is_empty() && table.postings.is_empty());
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
