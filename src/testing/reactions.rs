//! A reaction of the simulated desk, and what must be true of it: every event is handled at least once
//! and in the order of its stream, no progress passes one that is not but for a wish, and what is saved with
//! the progress is saved once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::RecordedEvent;
use crate::protocol::{Document, DocumentName, DocumentValue, LogFilter, SaveDocuments};
use crate::reaction::{Lanes, Progress, REACTIONS, ReactionDefinition, RetryPolicy, StartAt};
use crate::storage::MemoryStore;
use crate::stream::{Position, StreamId};

use super::attempts::Attempts;

/// Name of the reaction.
pub(super) const MAILER: &str = "mailer";

/// Where the reaction keeps a list of the positions it has handled, for each stream.
const MAILBOX: &str = "mailbox";

const RETRIES: RetryPolicy = RetryPolicy { max_attempts: 3, first_pause: 20, max_pause: 60 };

pub(super) fn definition(start_at: StartAt, concurrency: u32) -> ReactionDefinition {
    ReactionDefinition {
        name: MAILER.into(),
        filter: LogFilter::default(),
        upcasts: false,
        start_at,
        retries: RETRIES,
        concurrency,
        lanes: Lanes::Streams,
    }
}

/// Whether the event can never be handled.
pub(super) fn is_poison(event: &RecordedEvent) -> bool {
    *event.event_type == *"Noted" && event.data.ends_with("3}")
}

fn lane_of(stream: &StreamId) -> String {
    serde_json::to_string(&[&*stream.aggregate_type, &*stream.aggregate_id]).expect("it is JSON")
}

/// What is saved together with the progress when the event has been handled.
pub(super) fn handled_document(store: &MemoryStore, event: &RecordedEvent) -> Document {
    let name = DocumentName { collection: MAILBOX.into(), key: lane_of(&event.stream).into() };
    let mut list: Vec<u64> = store
        .documents()
        .get(&name)
        .map_or_else(Vec::new, |found| serde_json::from_str(&found.value).expect("a list"));
    list.push(event.position.0);
    Document {
        name,
        revision: event.position.0,
        value: DocumentValue::Text(serde_json::to_string(&list).expect("it is JSON").into()),
        postings: Vec::new(),
    }
}

#[derive(Debug)]
pub(super) struct Mailer {
    pub(super) attempts: Attempts,
    /// Positions that have been handled at least once.
    handled: BTreeSet<Position>,
    /// The position after which the reaction has begun.
    start: Option<Position>,
}

impl Default for Mailer {
    fn default() -> Self {
        let (handled, start) = Default::default();
        Self { attempts: Attempts::new(MAILER, RETRIES), handled, start }
    }
}

impl Mailer {
    /// The function has been called for an event, and has handled it.
    pub(super) fn handle(
        &mut self,
        event: &RecordedEvent,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        if !self.handled.insert(event.position) {
            return Ok(());
        }
        let before = log[..event.position.0 as usize - 1].iter();
        let mut earlier = before.filter(|other| other.stream == event.stream);
        let (start, lane) = (self.start.unwrap_or_default(), lane_of(&event.stream));
        let may_drop = self.attempts.may_drop(&lane);
        let is_passed = |other: &&RecordedEvent| {
            other.position > start
                && !self.handled.contains(&other.position)
                && !may_drop
                && !self.attempts.is_dropped(&(lane.clone(), other.position.0))
        };
        match earlier.find(is_passed) {
            Some(passed) => Err(format!("{event:?} was handled before {passed:?}")),
            None => Ok(()),
        }
    }

    /// The store is about to keep these documents.
    pub(super) fn hear_save(
        &mut self,
        save: &SaveDocuments,
        store: &MemoryStore,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let is_it = |name: &DocumentName| *name.collection == *REACTIONS && *name.key == *MAILER;
        let progress = save.documents.iter().find(|saved| is_it(&saved.name));
        let Some(Document { value: DocumentValue::Text(text), .. }) = progress else {
            return Ok(());
        };
        let progress = Progress::from_json(text).ok_or("a progress that can't be read")?;
        let start = *self.start.get_or_insert(progress.position);
        self.check(start, &progress, store, log)
    }

    /// All up to the progress has been handled, and what came of it is in the store, or is in a lane that was
    /// left behind, or was dropped.
    fn check(
        &mut self,
        start: Position,
        progress: &Progress,
        store: &MemoryStore,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let lists = lists_in(store);
        for event in log.iter().filter(|event| event.position > start) {
            let lane = lane_of(&event.stream);
            // What of a lane that was left behind has been handled may be beyond the progress.
            let left = progress.lanes.iter().find(|parked| *parked.lane == *lane);
            let is_passed = match left {
                Some(left) => event.position < left.position,
                None => event.position <= progress.position,
            };
            let is_kept = lists.get(&lane).is_some_and(|list| list.contains(&event.position.0));
            if is_kept && !is_passed {
                return Err(format!("{progress:?} is before {event:?}, which was kept"));
            }
            if is_kept && !self.handled.contains(&event.position) {
                return Err(format!("{event:?} was not handled"));
            }
            if is_passed && !is_kept {
                self.attempts.passed(&lane, event.position.0)?;
            }
        }
        Ok(())
    }

    /// Nothing is left but what is parked, and that is there for a reason.
    pub(super) fn end(&mut self, store: &MemoryStore) -> Result<(), String> {
        let name = DocumentName { collection: REACTIONS.into(), key: MAILER.into() };
        let found = store.documents().get(&name).ok_or("the reaction has never run")?;
        let progress = Progress::from_json(&found.value).ok_or("a progress that can't be read")?;
        let log = store.log();
        if (progress.position.0 as usize) < log.len() {
            return Err(format!(
                "the reaction is at {}, of {} events",
                progress.position,
                log.len()
            ));
        }
        let start = self.start.unwrap_or_default();
        self.check(start, &progress, store, log)?;
        let mut lists: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in log.iter().filter(|event| event.position > start) {
            let lane = lane_of(&event.stream);
            let parked = progress.lanes.iter().find(|parked| *parked.lane == *lane);
            let is_dropped = self.attempts.is_dropped(&(lane.clone(), event.position.0));
            if parked.is_none_or(|parked| event.position < parked.position) && !is_dropped {
                lists.entry(lane).or_default().push(event.position.0);
            }
        }
        for parked in &progress.lanes {
            if parked.attempts < 3 || parked.retry_at.is_some() {
                return Err(format!("{parked:?} is parked without a reason"));
            }
        }
        let found = lists_in(store);
        if found != lists {
            return Err(format!("saved with the progress is {found:?}, not {lists:?}"));
        }
        Ok(())
    }

    /// The number of events that were handled.
    pub(super) fn count(&self) -> u64 {
        self.handled.len() as u64
    }
}

fn lists_in(store: &MemoryStore) -> BTreeMap<String, Vec<u64>> {
    let mut documents = store.documents().clone();
    let lists = documents.of(MAILBOX);
    let list = |text: &str| serde_json::from_str(text).expect("a list");
    lists.map(|(key, found)| (key.to_owned(), list(&found.value))).collect()
}

/// Why an event could not be handled.
pub(super) fn failure(event: &RecordedEvent) -> Arc<str> {
    format!("no mail can be sent of {}", event.event_id).into()
}
