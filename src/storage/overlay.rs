//! A store over another: as that was at a point, with what is appended to it in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::documents::Documents;
use crate::error::{StorageError, StorageErrorCode};
use crate::event::{CommitSummary, FirstOutcome, Payload, RecordedEvent};
use crate::ids::CommandId;
use crate::judge::{CommitFacts, Facts, judge};
use crate::protocol::{
    Append, Commit, DocumentName, Durability, Epoch, Info, Load, Loaded, LogFilter, LogPage, Page,
    QueryLoad, ReadLog, StorageAnswer, StorageBody, StorageRequest, StoredSnapshot, StreamLoad,
    StreamSlice, Until, Verdict,
};
use crate::query::Query;
use crate::snapshot::SNAPSHOTS;
use crate::stream::{Position, Revision, StreamId};
use crate::time::Timestamp;

use super::StorageAdapter;

/// A moment in the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayPoint {
    /// When the overlay is first asked.
    Now,
    /// After this position.
    Position(Position),
    /// After the last event recorded at or before this time.
    Time(Timestamp),
}

/// What if this had happened then, or had been decided by other rules? An engine on an overlay does
/// all that an engine does; the store below is read and never written, and what comes to it after the
/// point is not seen.
///
/// # A booking that is only tried
///
/// ```
/// # use annals::protocol::ReadAt;
/// # use annals::storage::{Annals, Clock, CommandOptions, MemoryStore, Overlay, OverlayPoint};
/// # use annals::{Aggregate, AggregateDefinition, Config, Context, Timestamp};
/// # struct Counter;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # enum Count { Counted {} }
/// # impl Aggregate for Counter {
/// #     const TYPE: &'static str = "Counter";
/// #     type State = u32;
/// #     type Command = Count;
/// #     type Event = Count;
/// #     type Refusal = ();
/// #     fn initial() -> u32 { 0 }
/// #     fn decide(_: &u32, _: &Count, _: &Context<'_>) -> Result<Vec<Count>, ()> {
/// #         Ok(vec![Count::Counted {}])
/// #     }
/// #     fn evolve(sum: u32, _: &Count) -> u32 { sum + 1 }
/// # }
/// # struct Noon;
/// # impl Clock for Noon {
/// #     fn now(&self) -> Timestamp { Timestamp::from_millis(43_200_000) }
/// #     fn sleep(&mut self, _: u64) {}
/// # }
/// # let config = |seed| Config::new([seed; 32], vec![AggregateDefinition::native::<Counter>()]);
/// # let mut annals = Annals::new(config(1), MemoryStore::new("store-1"), Noon)?;
/// # annals.execute::<Counter>("c-1", &Count::Counted {}, CommandOptions::default())?;
/// let overlay = Overlay::new(annals.into_store(), "trial-1", OverlayPoint::Now);
/// let mut trial = Annals::new(config(2), overlay, Noon)?;
/// let tried = trial.execute::<Counter>("c-1", &Count::Counted {}, CommandOptions::default())?;
/// assert_eq!(tried.revision.0, 2);
/// assert_eq!(trial.into_store().into_below().log().len(), 1);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug)]
pub struct Overlay<S> {
    below: S,
    epoch: Epoch,
    at: OverlayPoint,
    cut: Option<Cut>,
    log: Vec<RecordedEvent>,
    streams: BTreeMap<StreamId, Stream>,
    commands: BTreeMap<CommandId, FirstOutcome>,
    /// What is kept here. Those below are of another moment.
    documents: Documents,
}

/// Up to where the store below is seen. What is there never changes.
#[derive(Clone, Debug)]
struct Cut {
    epoch: Epoch,
    /// Of the last event that is seen.
    position: Position,
    recorded_at: Timestamp,
}

#[derive(Clone, Debug)]
struct Stream {
    /// Its revision below, at the cut.
    below: Revision,
    /// Indexes into the log.
    events: Vec<usize>,
}

impl Stream {
    fn revision(&self) -> Revision {
        Revision(self.below.0 + self.events.len() as u64)
    }
}

type Result<T> = std::result::Result<T, StorageError>;

impl<S: StorageAdapter> Overlay<S> {
    /// An overlay with this identity, which should be unique.
    pub fn new(below: S, epoch: &str, at: OverlayPoint) -> Self {
        Self {
            below,
            epoch: Epoch(epoch.into()),
            at,
            cut: None,
            log: Vec::new(),
            streams: BTreeMap::new(),
            commands: BTreeMap::new(),
            documents: Documents::default(),
        }
    }

    /// What has been appended here, in order.
    pub fn log(&self) -> &[RecordedEvent] {
        &self.log
    }

    /// Gives the store below back.
    pub fn into_below(self) -> S {
        self.below
    }

    fn head(&self, cut: &Cut) -> Position {
        Position(cut.position.0 + self.log.len() as u64)
    }

    // -----------------------------------------------------------------------------------------
    // Below

    fn ask(
        &mut self,
        request: &StorageRequest,
        epoch: Option<&Epoch>,
        body: StorageBody,
    ) -> Result<StorageAnswer> {
        self.below.call(&StorageRequest { epoch: epoch.cloned(), body, ..request.clone() })
    }

    /// Asks the store below the first time.
    fn cut(&mut self, request: &StorageRequest) -> Result<Cut> {
        if let Some(cut) = &self.cut {
            return Ok(cut.clone());
        }
        let StorageAnswer::Info(info) = self.ask(request, None, StorageBody::Info)? else {
            return Err(unfit());
        };
        let is_seen = |at: OverlayPoint, event: &RecordedEvent| match at {
            OverlayPoint::Now => true,
            OverlayPoint::Position(position) => event.position <= position,
            OverlayPoint::Time(time) => event.recorded_at <= time,
        };
        let (mut position, mut recorded_at) = (Position(0), Timestamp::default());
        let mut end = info.head;
        while position < end {
            // The last one first: most often all are seen.
            let middle = if end == info.head { end.0 - 1 } else { position.0.midpoint(end.0) };
            let found = self.first_after(request, &info.epoch, Position(middle))?;
            match found.filter(|event| event.position <= end && is_seen(self.at, event)) {
                Some(event) => (position, recorded_at) = (event.position, event.recorded_at),
                None => end = Position(middle),
            }
        }
        let cut = Cut { epoch: info.epoch, position, recorded_at };
        self.cut = Some(cut.clone());
        Ok(cut)
    }

    fn first_after(
        &mut self,
        request: &StorageRequest,
        epoch: &Epoch,
        mut after: Position,
    ) -> Result<Option<RecordedEvent>> {
        loop {
            let filter = LogFilter::default();
            let read = ReadLog { after, descending: false, filter, limit: 1, held: false };
            let body = StorageBody::ReadLog(Arc::new(read));
            let StorageAnswer::Log(log) = self.ask(request, Some(epoch), body)? else {
                return Err(unfit());
            };
            let found = whole(log.page)?.into_iter().next();
            if found.is_some() || log.next >= log.head {
                return Ok(found);
            }
            after = log.next;
        }
    }

    /// What is asked of the store below, without what has come there after the cut.
    fn load_below(&mut self, request: &StorageRequest, cut: &Cut, mut load: Load) -> Result<Seen> {
        for stream in &mut load.streams {
            (stream.snapshot, stream.fold, stream.whole) = (None, None, true);
        }
        load.queries.iter_mut().for_each(|query| query.held = false);
        let body = StorageBody::Load(Arc::new(load));
        let StorageAnswer::Loaded(loaded) = self.ask(request, Some(&cut.epoch), body)? else {
            return Err(unfit());
        };
        let seen = |page| {
            let mut events = whole(page)?;
            events.retain(|event| event.position <= cut.position);
            Ok(events)
        };
        let is_seen = |first: &FirstOutcome| first.commit.position <= cut.position;
        Ok(Seen {
            commands: loaded.commands.into_iter().map(|first| first.filter(is_seen)).collect(),
            streams: loaded
                .streams
                .into_iter()
                .map(|slice| Ok((seen(slice.page)?, slice.revision, slice.more)))
                .collect::<Result<_>>()?,
            queries: loaded.queries.into_iter().map(seen).collect::<Result<_>>()?,
        })
    }

    fn stream(
        &mut self,
        request: &StorageRequest,
        cut: &Cut,
        stream: &StreamId,
    ) -> Result<&mut Stream> {
        if !self.streams.contains_key(stream) {
            let below = self.revision_below(request, cut, stream)?;
            self.streams.insert(stream.clone(), Stream { below, events: Vec::new() });
        }
        Ok(self.streams.get_mut(stream).expect("put there above"))
    }

    /// The stream's revision at the cut: most often the one it has.
    fn revision_below(
        &mut self,
        request: &StorageRequest,
        cut: &Cut,
        stream: &StreamId,
    ) -> Result<Revision> {
        let mut probe = |after: u64| {
            let load = StreamLoad {
                stream: stream.clone(),
                after: Revision(after),
                snapshot: None,
                until: Until::End,
                limit: 1,
                fold: None,
                whole: true,
            };
            let load = Load { streams: vec![load], ..Load::default() };
            let found = self.load_below(request, cut, load)?.streams.pop();
            let (events, revision, _) = found.ok_or_else(unfit)?;
            Ok::<_, StorageError>((!events.is_empty(), revision.0))
        };
        // Nothing is asked for but the revision.
        let (_, revision) = probe(u64::MAX >> 11)?;
        if revision == 0 || probe(revision - 1)?.0 {
            return Ok(Revision(revision));
        }
        let (mut low, mut high) = (0, revision - 1);
        while low < high {
            let middle = u64::midpoint(low, high);
            if probe(middle)?.0 { low = middle + 1 } else { high = middle }
        }
        Ok(Revision(low))
    }

    // -----------------------------------------------------------------------------------------
    // Here

    fn matches<'a>(&'a self, load: &'a QueryLoad) -> impl Iterator<Item = &'a RecordedEvent> {
        self.log.iter().filter(|event| {
            event.position > load.after && load.query.matches(&event.event_type, &event.tags)
        })
    }

    fn append(&mut self, request: &StorageRequest, append: &Append) -> Result<Vec<Verdict>> {
        let cut = self.cut(request)?;
        let no_query = || QueryLoad { query: Query::none(), after: cut.position, held: false };
        let load = Load {
            commands: append.commits.iter().map(|commit| commit.command_id).collect(),
            streams: Vec::new(),
            queries: append
                .commits
                .iter()
                .map(|commit| {
                    commit.condition.as_ref().map_or_else(no_query, |condition| QueryLoad {
                        query: condition.query.clone(),
                        after: condition.after,
                        held: false,
                    })
                })
                .collect(),
        };
        let below = self.load_below(request, &cut, load.clone())?;
        let mut commits = Vec::with_capacity(append.commits.len());
        for (index, commit) in append.commits.iter().enumerate() {
            if commit.events.iter().any(|event| matches!(event.event.data, Payload::Held { .. })) {
                return Err(held());
            }
            let here = self.matches(&load.queries[index]).next();
            let matched = below.queries[index].first().or(here).map(|event| event.position);
            let known = self.commands.get(&commit.command_id).cloned();
            commits.push(CommitFacts {
                revision: self.stream(request, &cut, &commit.stream)?.revision(),
                first: known.or_else(|| below.commands[index].clone()),
                matched: commit.condition.as_ref().and(matched),
            });
        }
        let last = self.log.last().map_or(cut.recorded_at, |event| event.recorded_at);
        let facts = Facts { head: self.head(&cut), last_recorded_at: last, commits };
        let verdicts = judge(append, &facts);
        for (commit, verdict) in append.commits.iter().zip(&verdicts) {
            if let Verdict::Committed(summary) = verdict {
                self.write(commit, summary);
            }
        }
        Ok(verdicts)
    }

    fn write(&mut self, commit: &Commit, summary: &CommitSummary) {
        let before = summary.revision_before();
        let stream = self.streams.get_mut(&commit.stream).expect("its revision was looked up");
        for (offset, event) in (0..).zip(&commit.events) {
            let Payload::Text(data) = &event.event.data else { unreachable!("looked at before") };
            stream.events.push(self.log.len());
            self.log.push(RecordedEvent {
                position: Position(summary.position.0 + offset),
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
        let (hash, stream, commit_id) = (commit.hash, commit.stream.clone(), commit.command_id);
        self.commands.insert(commit_id, FirstOutcome { hash, stream, commit: summary.clone() });
    }

    fn load(&mut self, request: &StorageRequest, load: &Load) -> Result<Loaded> {
        let cut = self.cut(request)?;
        let mut load = load.clone();
        let mut snapshots = Vec::with_capacity(load.streams.len());
        for stream in &mut load.streams {
            let found = stream.snapshot.as_ref().and_then(|key| {
                let name = DocumentName { collection: SNAPSHOTS.into(), key: Arc::clone(key) };
                self.documents.get(&name).map(StoredSnapshot::from)
            });
            stream.after = found.as_ref().map_or(stream.after, |found| found.revision);
            snapshots.push(found);
        }
        let below = self.load_below(request, &cut, load.clone())?;
        let mut streams = Vec::with_capacity(load.streams.len());
        for ((asked, snapshot), found) in load.streams.iter().zip(snapshots).zip(below.streams) {
            let stream = self.stream(request, &cut, &asked.stream)?.clone();
            streams.push(self.slice(asked, snapshot, &stream, found));
        }
        let with_here = |(asked, mut events): (&QueryLoad, Vec<RecordedEvent>)| {
            events.extend(self.matches(asked).cloned());
            Page::Events(events)
        };
        let commands = load.commands.iter().zip(below.commands);
        Ok(Loaded {
            commands: commands
                .map(|(id, first)| self.commands.get(id).cloned().or(first))
                .collect(),
            streams,
            queries: load.queries.iter().zip(below.queries).map(with_here).collect(),
            head: self.head(&cut),
        })
    }

    /// What is asked of a stream: first what is below, then what has been appended here.
    fn slice(
        &self,
        asked: &StreamLoad,
        snapshot: Option<StoredSnapshot>,
        stream: &Stream,
        (mut events, _, more_below): (Vec<RecordedEvent>, Revision, bool),
    ) -> StreamSlice {
        let revision = stream.revision();
        let slice = |events, more| StreamSlice {
            snapshot,
            page: Page::Events(events),
            folded: None,
            revision,
            more,
        };
        let reached = events.last().map_or(asked.after, |event| event.revision.max(asked.after));
        if more_below && reached < stream.below {
            return slice(events, true);
        }
        let here = stream.events.iter().map(|index| &self.log[*index]);
        let mut wanted = here.filter(|event| {
            event.revision > asked.after
                && match asked.until {
                    Until::End => true,
                    Until::Revision(last) => event.revision <= last,
                    Until::Position(position) => event.position <= position,
                    Until::Time(time) => event.recorded_at <= time,
                }
        });
        let room = (asked.limit as usize).saturating_sub(events.len());
        events.extend(wanted.by_ref().take(room).cloned());
        let more = wanted.next().is_some();
        slice(events, more)
    }

    fn read_log(&mut self, request: &StorageRequest, read: &ReadLog) -> Result<LogPage> {
        let cut = self.cut(request)?;
        let head = self.head(&cut);
        let above = Position(cut.position.0 + 1);
        let is_below =
            if read.descending { read.after <= above } else { read.after < cut.position };
        if is_below {
            let body = StorageBody::ReadLog(Arc::new(read.clone()));
            let StorageAnswer::Log(page) = self.ask(request, Some(&cut.epoch), body)? else {
                return Err(unfit());
            };
            let mut events = whole(page.page)?;
            events.retain(|event| event.position <= cut.position);
            let next = page.next.min(cut.position);
            return Ok(LogPage { page: Page::Events(events), places: Vec::new(), next, head });
        }
        let mut page = read.page_of(&self.log, head);
        if read.descending {
            // Then comes what is below.
            page.next = page.next.max(above);
        }
        Ok(page)
    }
}

/// What is seen of the answer to a load.
struct Seen {
    commands: Vec<Option<FirstOutcome>>,
    streams: Vec<(Vec<RecordedEvent>, Revision, bool)>,
    queries: Vec<Vec<RecordedEvent>>,
}

fn whole(page: Page) -> Result<Vec<RecordedEvent>> {
    match page {
        Page::Events(events) => Ok(events),
        Page::Rows { .. } | Page::Messages { .. } | Page::Held { .. } => Err(unfit()),
    }
}

fn unfit() -> StorageError {
    let message = "expected whole events of the store below, found another answer";
    StorageError::permanent(StorageErrorCode::Failed, message)
}

fn held() -> StorageError {
    let message = "a native store needs the payloads, the host has kept them";
    StorageError::permanent(StorageErrorCode::Failed, message)
}

impl<S: StorageAdapter> StorageAdapter for Overlay<S> {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer> {
        if request.epoch.as_ref().is_some_and(|epoch| *epoch != self.epoch) {
            return Err(StorageError::permanent(
                StorageErrorCode::ForeignEpoch,
                "the store has another epoch",
            ));
        }
        Ok(match &request.body {
            StorageBody::Info => {
                let cut = self.cut(request)?;
                StorageAnswer::Info(Info {
                    epoch: self.epoch.clone(),
                    head: self.head(&cut),
                    durability: Durability::Memory,
                    notifies: true,
                })
            }
            StorageBody::Append(append) => StorageAnswer::Appended(self.append(request, append)?),
            StorageBody::Load(load) => StorageAnswer::Loaded(self.load(request, load)?),
            StorageBody::ReadLog(read) => StorageAnswer::Log(self.read_log(request, read)?),
            StorageBody::SaveDocuments(save) => StorageAnswer::Saved(self.documents.save(save)?),
            StorageBody::ReadDocuments(read) => {
                let cut = self.cut(request)?;
                StorageAnswer::Documents(self.documents.read(read, self.head(&cut)))
            }
        })
    }
}
