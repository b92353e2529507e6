//! Readers of named subscriptions, and what must be true of them: each event is handled at least
//! once and in order, none is passed over, and none comes twice but for a reason.

use std::sync::Arc;

use crate::engine::checkpoint::SUBSCRIPTIONS;
use crate::error::ReadError;
use crate::event::{RecordedEvent, TaskId};
use crate::protocol::{DocumentName, LogFilter, LogStart, Subscribe};
use crate::storage::MemoryStore;
use crate::stream::Position;

/// What is known of all readers: one name for each engine, and one that they share.
#[derive(Debug)]
pub(super) struct Readers {
    names: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    name: Arc<str>,
    filter: LogFilter,
    start: LogStart,
    /// Up to where events have been handled. Nothing is known of it until the checkpoint is there.
    handled: Option<Position>,
    /// Up to where they are never given again: a reader has been given the next page, or has left.
    secured: Position,
    checkpoint: Option<Position>,
    /// Whether what a reader wished that is no more may still be on its way to the store.
    is_haunted: bool,
    /// Whether it is read by several, or has been set back.
    is_meddled_with: bool,
    was_set_back: bool,
}

/// A reader at work.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) task: TaskId,
    name: usize,
    /// The last event that it was given, and that it has handled.
    last: Option<Position>,
    handled: Option<Position>,
    /// What it has been given and has not handled.
    in_hand: Vec<Position>,
}

impl Session {
    /// Number of events that it has been given and has not handled.
    pub(super) fn in_hand(&self) -> u64 {
        self.in_hand.len() as u64
    }
}

/// What has been handled of a page.
pub(super) enum Step {
    /// All of it.
    Next,
    /// Up to here, and the reader leaves.
    Leave(Option<Position>),
}

impl Readers {
    pub(super) fn new(engines: usize, seed: u64) -> Self {
        let names = (0..=engines).map(|index| {
            let is_shared = index == engines;
            let mut filter = LogFilter::default();
            match (seed as usize / 2 + index) % 4 {
                0 => filter.types = vec!["Cancelled".into()],
                1 => filter.tags = vec!["doctor:0/slot:0".into()],
                _ => {}
            }
            let starts_now = !is_shared && (seed as usize + index).is_multiple_of(3);
            let name = if is_shared { "shared".into() } else { format!("engine {index}").into() };
            Name {
                name,
                filter,
                start: if starts_now { LogStart::Now } else { LogStart::After(Position(0)) },
                handled: None,
                secured: Position(0),
                checkpoint: None,
                is_haunted: false,
                is_meddled_with: is_shared && engines > 1,
                was_set_back: false,
            }
        });
        Self { names: names.collect() }
    }

    /// The names that the engine with this index reads under.
    pub(super) fn names_of(&self, engine: usize) -> [usize; 2] {
        [engine, self.names.len() - 1]
    }

    pub(super) fn begin(&self, name: usize, task: TaskId) -> (Session, Subscribe) {
        let Name { name: text, filter, start, .. } = &self.names[name];
        let session = Session { task, name, last: None, handled: None, in_hand: Vec::new() };
        let subscribe = Subscribe {
            task,
            name: Some(Arc::clone(text)),
            start: *start,
            filter: filter.clone(),
            upcasts: false,
            limit: 3,
            follow: true,
            descending: false,
        };
        (session, subscribe)
    }

    /// A reader is given events. Returns how many of them come again.
    pub(super) fn hear(
        &mut self,
        session: &mut Session,
        events: &[RecordedEvent],
        log: &[RecordedEvent],
    ) -> Result<u64, String> {
        let known = &mut self.names[session.name];
        let handled = known.handled.ok_or("events come before their checkpoint is kept")?;
        known.secured = known.secured.max(session.handled.unwrap_or_default());
        let mut again = 0;
        for event in events {
            let position = event.position;
            let is_it = log.get(position.0 as usize - 1) == Some(event);
            if !is_it || !known.filter.passes(event) {
                return Err(format!("{} is given {event:?}", known.name));
            }
            let before = session.last.unwrap_or(handled);
            if let Some(missed) = known.first_between(before, position, log) {
                return Err(format!("{} is given {position} and not {missed}", known.name));
            }
            if session.last.is_some_and(|last| last >= position) {
                return Err(format!("a session of {} is given {position} twice", known.name));
            }
            if position <= known.secured && !known.is_meddled_with {
                return Err(format!("{} is given {position} twice without a reason", known.name));
            }
            again += u64::from(position <= handled);
            session.last = Some(position);
            session.in_hand.push(position);
        }
        Ok(again)
    }

    /// The reader has handled what it has, or the first `count` events of it, after which it leaves.
    pub(super) fn handle(&mut self, session: &mut Session, count: Option<usize>) -> Step {
        let in_hand = std::mem::take(&mut session.in_hand);
        let leaves = count.filter(|count| *count < in_hand.len());
        let last = match leaves {
            Some(count) => count.checked_sub(1).map(|last| in_hand[last]),
            None => in_hand.last().copied(),
        };
        session.handled = session.handled.max(last);
        let handled = &mut self.names[session.name].handled;
        *handled = (*handled).max(last);
        if leaves.is_some() { Step::Leave(last) } else { Step::Next }
    }

    /// The reader's process has ended.
    pub(super) fn interrupt(&mut self, session: &Session) {
        self.names[session.name].is_haunted = true;
    }

    pub(super) fn end(
        &mut self,
        session: &Session,
        result: &Result<(), ReadError>,
    ) -> Result<(), String> {
        let known = &mut self.names[session.name];
        match result {
            Err(ReadError::Cancelled) if session.in_hand.is_empty() => {
                known.secured = known.secured.max(session.handled.unwrap_or_default());
                Ok(())
            }
            Err(ReadError::SubscriptionMoved(_)) if known.is_haunted || known.is_meddled_with => {
                Ok(())
            }
            Err(ReadError::Storage(_)) => {
                known.is_haunted = true;
                Ok(())
            }
            other => Err(format!("{} ends with {other:?}", known.name)),
        }
    }

    /// Somebody sets a checkpoint back. Returns the name, and where to.
    pub(super) fn set_back(&mut self, draw: u64) -> Option<(Arc<str>, Position)> {
        let index = (draw % self.names.len() as u64) as usize;
        let known = &mut self.names[index];
        let handled = known.handled?;
        (known.is_meddled_with, known.was_set_back) = (true, true);
        Some((Arc::clone(&known.name), Position(draw / 16 % (handled.0 + 1))))
    }

    /// No checkpoint is past an event that has not been handled.
    pub(super) fn check_store(&mut self, store: &MemoryStore) -> Result<(), String> {
        for known in &mut self.names {
            let key = Arc::clone(&known.name);
            let name = DocumentName { collection: SUBSCRIPTIONS.into(), key };
            let found = store.documents().get(&name).map(|found| Position(found.revision - 1));
            let before = std::mem::replace(&mut known.checkpoint, found);
            match (found, known.handled) {
                (None, None) => {}
                (Some(position), None) => {
                    if known.start == LogStart::After(Position(0)) && position.0 > 0 {
                        return Err(format!("{} starts at {position}", known.name));
                    }
                    known.handled = found;
                }
                (Some(position), Some(handled)) => {
                    let end = Position(position.0 + 1);
                    if let Some(missed) = known.first_between(handled, end, store.log()) {
                        return Err(format!("{} is past {missed}", known.name));
                    }
                    if found < before && !known.was_set_back {
                        return Err(format!("{} goes back to {position}", known.name));
                    }
                }
                (None, Some(_)) => return Err(format!("{} has no checkpoint", known.name)),
            }
        }
        Ok(())
    }

    /// Whether every event has been handled.
    pub(super) fn are_done(&self, log: &[RecordedEvent]) -> bool {
        let end = Position(log.len() as u64 + 1);
        self.names.iter().all(|known| {
            known.handled.is_some_and(|handled| known.first_between(handled, end, log).is_none())
        })
    }
}

impl Name {
    /// The first event for it between two positions.
    fn first_between(
        &self,
        after: Position,
        before: Position,
        log: &[RecordedEvent],
    ) -> Option<Position> {
        let start = usize::try_from(after.0).expect("a position of this log").min(log.len());
        let passing = log[start..].iter().take_while(|event| event.position < before);
        passing.filter(|event| self.filter.passes(event)).map(|event| event.position).next()
    }
}

/// A reader that goes back from the log's end to its beginning, page by page.
pub(super) struct LookBack {
    pub(super) task: TaskId,
    /// What was in the store when it began.
    head: Position,
    /// The last event that it was given.
    at: Option<Position>,
}

impl LookBack {
    pub(super) fn begin(task: TaskId, head: Position) -> (Self, Subscribe) {
        let subscribe = Subscribe {
            task,
            name: None,
            start: LogStart::Now,
            filter: LogFilter::default(),
            upcasts: false,
            limit: 3,
            follow: false,
            descending: true,
        };
        (Self { task, head, at: None }, subscribe)
    }

    /// It is given each event once, and all that was there when it began.
    pub(super) fn hear(
        &mut self,
        events: &[RecordedEvent],
        next: Position,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        for event in events {
            let is_next = match self.at {
                None => event.position >= self.head,
                Some(at) => event.position.0 + 1 == at.0,
            };
            if !is_next || log.get(event.position.0 as usize - 1) != Some(event) {
                return Err(format!("{event:?} comes before {:?}, going back", self.at));
            }
            self.at = Some(event.position);
        }
        if self.at.is_none_or(|at| next > at) {
            return Err(format!("it has gone back to {:?}, and is told {next}", self.at));
        }
        Ok(())
    }

    pub(super) fn end(&self, result: &Result<(), ReadError>) -> Result<(), String> {
        let is_through = self.at == Some(Position(1)) || (self.at, self.head.0) == (None, 0);
        if result.is_ok() && !is_through {
            return Err(format!("it has gone back to {:?}, and is told that is all", self.at));
        }
        Ok(())
    }
}
