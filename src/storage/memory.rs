//! The reference store: the log in memory, read and written as every adapter should.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::documents::Documents;
use crate::error::{StorageError, StorageErrorCode};
use crate::event::{CommitSummary, FirstOutcome, Payload, RecordedEvent};
use crate::ids::CommandId;
use crate::judge::{CommitFacts, Facts, judge_with};
use crate::protocol::{
    Append, Commit, DocumentName, Durability, Epoch, Info, Load, Loaded, LogPage, Page, QueryLoad,
    ReadLog, StorageAnswer, StorageBody, StorageRequest, StoredSnapshot, StreamLoad, StreamSlice,
    Until, Verdict,
};
use crate::query::{Query, Tag};
use crate::snapshot::SNAPSHOTS;
use crate::stream::{Position, Revision, StreamId};

use super::StorageAdapter;

/// A store in memory. It survives nothing, and shows how the others behave.
///
/// # A store that answers a request
///
/// ```
/// use annals::protocol::{RequestId, StorageAnswer, StorageBody, StorageRequest};
/// use annals::storage::{MemoryStore, StorageAdapter};
/// use annals::Timestamp;
///
/// let mut store = MemoryStore::new("store-1");
/// let request = StorageRequest {
///     id: RequestId(1),
///     attempt: 1,
///     deadline: Timestamp::from_millis(10_000),
///     epoch: None,
///     body: StorageBody::Info,
/// };
/// let StorageAnswer::Info(info) = store.call(&request)? else { unreachable!() };
/// assert_eq!(info.head.0, 0);
/// # Ok::<(), annals::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore {
    epoch: Epoch,
    /// The event at index `i` has position `i + 1`.
    log: Vec<RecordedEvent>,
    /// Indexes into the log.
    streams: BTreeMap<StreamId, Vec<usize>>,
    commands: BTreeMap<CommandId, FirstOutcome>,
    /// Positions, ascending.
    tags: BTreeMap<Tag, Vec<Position>>,
    types: BTreeMap<Arc<str>, Vec<Position>>,
    documents: Documents,
    see_neighbours: bool,
    notifies: bool,
}

impl MemoryStore {
    /// An empty store with this identity, which should be unique.
    #[must_use]
    pub fn new(epoch: &str) -> Self {
        Self {
            epoch: Epoch(epoch.into()),
            log: Vec::new(),
            streams: BTreeMap::new(),
            commands: BTreeMap::new(),
            tags: BTreeMap::new(),
            types: BTreeMap::new(),
            documents: Documents::default(),
            see_neighbours: true,
            notifies: false,
        }
    }

    /// The mutant that judges duplicates without looking at earlier commits of the same append.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub(crate) fn blind_to_neighbours(mut self) -> Self {
        self.see_neighbours = false;
        self
    }

    /// A store whose host tells of every append of others.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub(crate) fn notifying(mut self) -> Self {
        self.notifies = true;
        self
    }

    /// Damages snapshots as disks and other programs do: what they say, or the revision they say. Much
    /// of what comes of that could be a state.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn damage_snapshots(&mut self, how: u64) {
        let mut neighbour: Option<Arc<str>> = None;
        for (_, document) in self.documents.of(SNAPSHOTS) {
            let value = Arc::clone(&document.value);
            match how % 6 {
                0 => document.value = value[..value.len() / 2].into(),
                1 => document.value = "[\"another form\"]".into(),
                2 => document.revision += 1_000,
                3 => document.revision = document.revision.saturating_sub(1),
                4 => document.value = with_another_digit(&value),
                _ => document.value = neighbour.unwrap_or_else(|| Arc::clone(&value)),
            }
            neighbour = Some(value);
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    /// All events in order.
    #[must_use]
    pub fn log(&self) -> &[RecordedEvent] {
        &self.log
    }

    /// Gives the store another identity, as a restored copy has.
    pub fn set_epoch(&mut self, epoch: &str) {
        self.epoch = Epoch(epoch.into());
    }

    fn head(&self) -> Position {
        Position(self.log.len() as u64)
    }

    fn revision(&self, stream: &StreamId) -> Revision {
        Revision(self.streams.get(stream).map_or(0, Vec::len) as u64)
    }

    fn event(&self, position: Position) -> &RecordedEvent {
        let index = usize::try_from(position.0 - 1).expect("a position of this store");
        &self.log[index]
    }

    /// Positions after `after` of events that match, ascending.
    fn matches(&self, query: &Query, after: Position) -> BTreeSet<Position> {
        let mut found = BTreeSet::new();
        for item in &query.items {
            if item.tags.is_empty() && item.types.is_empty() {
                found.extend((after.0 + 1..=self.head().0).map(Position));
                continue;
            }
            let postings: Vec<&Vec<Position>> = if item.tags.is_empty() {
                item.types.iter().filter_map(|name| self.types.get(name)).collect()
            } else {
                // An event must have all the tags: the rarest of them leads to it.
                let postings = item.tags.iter().map(|tag| self.tags.get(tag));
                let rarest = postings.min_by_key(|list| list.map_or(0, Vec::len)).flatten();
                rarest.into_iter().collect()
            };
            for list in postings {
                let start = list.partition_point(|position| *position <= after);
                found.extend(list[start..].iter().copied().filter(|position| {
                    let event = self.event(*position);
                    query.matches(&event.event_type, &event.tags)
                }));
            }
        }
        found
    }

    fn append(&mut self, append: &Append) -> Result<Vec<Verdict>, StorageError> {
        let texts = append.commits.iter().flat_map(|commit| &commit.events);
        if texts.clone().any(|event| matches!(event.event.data, Payload::Held { .. })) {
            return Err(StorageError::permanent(
                StorageErrorCode::Failed,
                "a native store needs the payloads, the host has kept them",
            ));
        }
        let facts = Facts {
            head: self.head(),
            last_recorded_at: self.log.last().map(|event| event.recorded_at).unwrap_or_default(),
            commits: append.commits.iter().map(|commit| self.facts(commit)).collect(),
        };
        let verdicts = judge_with(append, &facts, self.see_neighbours);
        for (commit, verdict) in append.commits.iter().zip(&verdicts) {
            if let Verdict::Committed(summary) = verdict {
                self.write(commit, summary);
            }
        }
        Ok(verdicts)
    }

    fn facts(&self, commit: &Commit) -> CommitFacts {
        CommitFacts {
            revision: self.revision(&commit.stream),
            first: self.commands.get(&commit.command_id).cloned(),
            matched: commit.condition.as_ref().and_then(|condition| {
                self.matches(&condition.query, condition.after).first().copied()
            }),
        }
    }

    fn write(&mut self, commit: &Commit, summary: &CommitSummary) {
        let first = FirstOutcome {
            hash: commit.hash,
            stream: commit.stream.clone(),
            commit: summary.clone(),
        };
        self.commands.insert(commit.command_id, first);
        let before = summary.revision_before();
        for (offset, event) in (0..).zip(&commit.events) {
            let Payload::Text(data) = &event.event.data else { unreachable!("looked at before") };
            let position = Position(summary.position.0 + offset);
            let index = self.log.len();
            self.streams.entry(commit.stream.clone()).or_default().push(index);
            self.types.entry(Arc::clone(&event.event.event_type)).or_default().push(position);
            for tag in &event.event.tags {
                let list = self.tags.entry(Arc::clone(tag)).or_default();
                if list.last() != Some(&position) {
                    list.push(position);
                }
            }
            self.log.push(RecordedEvent {
                position,
                stream: commit.stream.clone(),
                revision: Revision(before.0 + 1 + offset),
                event_id: event.id,
                event_type: Arc::clone(&event.event.event_type),
                schema_version: event.event.schema_version,
                tags: event.event.tags.clone(),
                data: Arc::clone(data),
                recorded_at: summary.recorded_at,
                issued_at: commit.issued_at,
                command_id: commit.command_id,
                metadata: Arc::clone(&commit.metadata),
            });
        }
    }

    fn load(&self, load: &Load) -> Loaded {
        Loaded {
            commands: load.commands.iter().map(|id| self.commands.get(id).cloned()).collect(),
            streams: load.streams.iter().map(|stream| self.slice(stream)).collect(),
            queries: load.queries.iter().map(|query| self.query(query)).collect(),
            head: self.head(),
        }
    }

    fn snapshot(&self, key: &Arc<str>) -> Option<StoredSnapshot> {
        let name = DocumentName { collection: SNAPSHOTS.into(), key: Arc::clone(key) };
        Some(StoredSnapshot::from(self.documents.get(&name)?))
    }

    fn slice(&self, load: &StreamLoad) -> StreamSlice {
        let snapshot = load.snapshot.as_ref().and_then(|key| self.snapshot(key));
        let after = snapshot.as_ref().map_or(load.after, |snapshot| snapshot.revision);
        let indexes = self.streams.get(&load.stream).map_or(&[][..], Vec::as_slice);
        let start = usize::try_from(after.0).map_or(indexes.len(), |n| n.min(indexes.len()));
        let mut wanted =
            indexes[start..].iter().map(|index| &self.log[*index]).take_while(|event| {
                match load.until {
                    Until::End => true,
                    Until::Revision(revision) => event.revision <= revision,
                    Until::Position(position) => event.position <= position,
                    Until::Time(time) => event.recorded_at <= time,
                }
            });
        let events: Vec<_> = wanted.by_ref().take(load.limit as usize).cloned().collect();
        StreamSlice {
            snapshot,
            page: Page::Events(events),
            folded: None,
            revision: self.revision(&load.stream),
            more: wanted.next().is_some(),
        }
    }

    fn query(&self, load: &QueryLoad) -> Page {
        let positions = self.matches(&load.query, load.after);
        Page::Events(positions.into_iter().map(|at| self.event(at).clone()).collect())
    }

    fn read_log(&self, read: &ReadLog) -> LogPage {
        read.page_of(&self.log, self.head())
    }
}

impl StorageAdapter for MemoryStore {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        if request.epoch.as_ref().is_some_and(|epoch| *epoch != self.epoch) {
            return Err(StorageError::permanent(
                StorageErrorCode::ForeignEpoch,
                "the store has another epoch",
            ));
        }
        Ok(match &request.body {
            StorageBody::Info => StorageAnswer::Info(Info {
                epoch: self.epoch.clone(),
                head: self.head(),
                durability: Durability::Memory,
                notifies: self.notifies,
            }),
            StorageBody::Append(append) => StorageAnswer::Appended(self.append(append)?),
            StorageBody::Load(load) => StorageAnswer::Loaded(self.load(load)),
            StorageBody::ReadLog(read) => StorageAnswer::Log(self.read_log(read)),
            StorageBody::SaveDocuments(save) => StorageAnswer::Saved(self.documents.save(save)?),
            StorageBody::ReadDocuments(read) => {
                StorageAnswer::Documents(self.documents.read(read, self.head()))
            }
        })
    }
}

/// The text with a bit turned over in its last digit, which leaves it one.
#[cfg(any(test, feature = "testing"))]
fn with_another_digit(text: &str) -> Arc<str> {
    let mut bytes = text.as_bytes().to_vec();
    if let Some(digit) = bytes.iter_mut().rfind(|byte| byte.is_ascii_digit()) {
        *digit ^= 1;
    }
    String::from_utf8(bytes).expect("a digit for a digit").into()
}
