//! A process manager of the simulated desk, and what must be true of it: each state is the fold of its
//! key's events up to the progress, each timer that is set and not forgotten is handled, and not before its
//! time, and what is handled has its command in the log, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::AggregateDefinition;
use crate::event::RecordedEvent;
use crate::manager::{self, Cause, Commands, Handled, NativeManager, ProcessManager};
use crate::projection::EventContext;
use crate::protocol::{
    Correlate, Correlated, CorrelationKey, Document, DueTimer, React, Reacting, SaveDocuments,
};
use crate::reaction::{Lanes, Progress, REACTIONS, ReactionDefinition, RetryPolicy, StartAt};
use crate::storage::MemoryStore;
use crate::stream::Position;
use crate::time::Timestamp;
use crate::variant::from_variant;

use super::attempts::Attempts;
use super::desk::{Appointment, Command, Event};

/// Name of the process manager.
pub(super) const WARDEN: &str = "warden";

/// Notes what it is given, sets timers and forgets them.
struct Warden;

/// What it has been given of a key, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Given(Vec<Item>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Item {
    /// The event at this position.
    Event(u64),
    /// The timer of this name, and the milliseconds at which it was due.
    Timer(String, i64),
}

impl Item {
    /// The aggregate that the command goes to which the process manager gives for it.
    fn id(&self, key: &str) -> String {
        format!("{OWN}{key} {self:?}").replace('"', "'")
    }

    fn gives(&self) -> bool {
        match self {
            Self::Event(position) => position.is_multiple_of(2),
            Self::Timer(..) => true,
        }
    }
}

/// What the ids of aggregates begin with that get its commands. Their events are not its own matter.
const OWN: &str = "of warden ";

/// What an event does to a timer of its key.
enum Effect {
    Sets(String, Timestamp),
    Forgets(String),
    None,
}

fn effect(event: &Event, position: Position, recorded_at: Timestamp) -> Effect {
    match event {
        Event::Noted { note } => {
            Effect::Sets(format!("t{}", note % 2), recorded_at.plus(position.0 * 37 % 300))
        }
        Event::Cancelled => Effect::Forgets("t0".to_owned()),
        _ => Effect::None,
    }
}

/// When a timer sets itself again.
fn again(due: Timestamp) -> Option<Timestamp> {
    (due.millis() % 3 == 0).then(|| due.plus(50))
}

fn is_poison(event: &Event) -> bool {
    matches!(event, Event::Booked { doctor: 1, slot: 3 })
}

fn key_of(event: &Event, id: &str, position: Position) -> Option<String> {
    if id.starts_with(OWN) {
        return None;
    }
    match event {
        Event::Booked { doctor, .. } | Event::Moved { doctor, .. } => {
            Some(format!("doctor {doctor}"))
        }
        Event::Noted { note } => Some(format!("notes {}", note % 3)),
        Event::Cancelled => Some(format!("notes {}", position.0 % 3)),
        Event::Remarked { .. } => None,
    }
}

impl ProcessManager for Warden {
    const NAME: &'static str = WARDEN;
    const START_AT: StartAt = StartAt::Beginning;
    const RETRIES: RetryPolicy = RetryPolicy { max_attempts: 3, first_pause: 20, max_pause: 60 };
    type Event = Event;
    type State = Given;

    fn key(event: &Event, context: &EventContext<'_>) -> Option<String> {
        let (position, _) = context.recorded?;
        key_of(event, &context.stream.aggregate_id, position)
    }

    fn handle(
        state: &mut Given,
        cause: Cause<'_, Event>,
        commands: &mut Commands,
    ) -> Result<(), String> {
        let (key, item) = match cause {
            Cause::Event(event, _) if is_poison(&event) => return Err("that is poison".to_owned()),
            Cause::Event(event, context) => {
                let (position, recorded_at) = context.recorded.ok_or("it is in the log")?;
                match effect(&event, position, recorded_at) {
                    Effect::Sets(name, at) => commands.remind_at(&name, at),
                    Effect::Forgets(name) => commands.forget(&name),
                    Effect::None => {}
                }
                let key = Self::key(&event, &context).ok_or("it has a key")?;
                (key, Item::Event(position.0))
            }
            Cause::Timer(timer) => {
                if let Some(at) = again(timer.due) {
                    commands.remind_at(&timer.name, at);
                }
                (timer.lane.to_string(), Item::Timer(timer.name.to_string(), timer.due.millis()))
            }
        };
        if item.gives() {
            // What it gives depends on what it has seen.
            let notes = vec![u32::try_from(state.0.len()).unwrap_or(0)];
            commands.give::<Appointment>(&item.id(&key), &Command::Note { notes });
        }
        state.0.push(item);
        Ok(())
    }
}

pub(super) fn definition(start_at: StartAt, concurrency: u32, hosted: bool) -> ReactionDefinition {
    let native = ReactionDefinition::manager::<Warden>();
    let lanes = if hosted { Lanes::Hosted } else { native.lanes };
    ReactionDefinition { start_at, concurrency, lanes, ..native }
}

fn aggregates() -> [AggregateDefinition; 1] {
    [AggregateDefinition::native::<Appointment>()]
}

/// The keys of the events of a page.
pub(super) fn correlate(asked: &Correlate, events: &[RecordedEvent]) -> Correlated {
    let Lanes::Native(keys_of) = ReactionDefinition::manager::<Warden>().lanes else {
        unreachable!("it was made natively")
    };
    let mut keys = Vec::new();
    for (index, event) in (0..).zip(events) {
        let found = keys_of(&aggregates(), event).expect("all events can be read");
        let position = event.position;
        keys.extend(found.into_iter().map(|key| CorrelationKey { index, position, key }));
    }
    Correlated { reaction: asked.reaction, question: asked.question, keys, failed: None }
}

pub(super) struct Checker {
    pub(super) attempts: Attempts,
    /// Timers that were dropped: key, name, and when they were due.
    dropped: BTreeSet<(String, String, i64)>,
    native: Rc<dyn NativeManager>,
    /// Where it has begun.
    start: Option<Position>,
    /// When the store has taken each event.
    arrived: Vec<Timestamp>,
    /// Aggregates that it has given commands to.
    given: BTreeSet<String>,
    /// Timers that were handled.
    rung: u64,
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker").field("start", &self.start).finish_non_exhaustive()
    }
}

impl Default for Checker {
    fn default() -> Self {
        let native = manager::native::<Warden>();
        let (dropped, start, arrived, given, rung) = Default::default();
        let attempts = Attempts::new(WARDEN, Warden::RETRIES);
        Self { attempts, dropped, native, start, arrived, given, rung }
    }
}

impl Checker {
    /// The store has taken events.
    pub(super) fn hear_append(&mut self, now: Timestamp, head: usize) {
        self.arrived.resize(head, now);
    }

    /// The process manager is given an event or a timer.
    pub(super) fn hear_react(now: Timestamp, react: &React) -> Result<(), String> {
        match &react.event {
            Reacting::Timer(timer) if timer.due > now => {
                Err(format!("{timer:?} is given at {now}, before its time"))
            }
            _ => Ok(()),
        }
    }

    /// What it wants, and what it gives.
    pub(super) fn handle(&mut self, react: &React) -> Result<Handled, Arc<str>> {
        let handled = self.native.handle(&aggregates(), react);
        if let Ok(Handled { given, .. }) = &handled {
            self.given.extend(given.iter().map(|wish| wish.stream.aggregate_id.to_string()));
        }
        handled
    }

    /// The store has kept these documents.
    pub(super) fn hear_save(
        &mut self,
        save: &SaveDocuments,
        store: &MemoryStore,
        log: &[RecordedEvent],
    ) -> Result<(), String> {
        let is_it =
            |saved: &Document| *saved.name.collection == *REACTIONS && *saved.name.key == *WARDEN;
        if save.documents.iter().any(is_it) {
            self.check(store, log)?;
        }
        Ok(())
    }

    /// States and timers are what follows from the log up to the progress.
    fn check(&mut self, store: &MemoryStore, log: &[RecordedEvent]) -> Result<(), String> {
        let progress = progress_in(store)?;
        let start = *self.start.get_or_insert(progress.position);
        let mut expected: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for event in log {
            let RecordedEvent { position, .. } = event;
            let Some(key) = key_in(event).filter(|_| *position > start) else { continue };
            let mut lanes = progress.lanes.iter();
            let left = lanes.find(|left| *left.lane == *key && left.position > Position(0));
            if left.map_or(*position <= progress.position, |left| *position < left.position) {
                expected.entry(key).or_default().push(Item::Event(position.0));
            }
        }
        let mut timers: BTreeMap<(String, String), i64> = BTreeMap::new();
        let states = states_in(store);
        self.rung = 0;
        for (key, Given(items)) in &states {
            let is_event = |item: &&Item| matches!(item, Item::Event(_));
            let events: Vec<_> = items.iter().filter(is_event).cloned().collect();
            let mut expected = expected.remove(key).unwrap_or_default();
            self.take_dropped(key, &mut expected, &events)?;
            if expected != events {
                return Err(format!("{progress:?}, and the state of {key} is {items:?}"));
            }
            self.replay(key, items, log, &mut timers)?;
        }
        for (key, items) in &mut expected {
            self.take_dropped(key, items, &[])?;
        }
        expected.retain(|_, items| !items.is_empty());
        if !expected.is_empty() {
            return Err(format!("{progress:?}, and there are no states of {expected:?}"));
        }
        let found: BTreeMap<_, _> = timers_in(store)
            .into_iter()
            .map(|timer| ((timer.lane.to_string(), timer.name.to_string()), timer.due.millis()))
            .collect();
        for ((key, name), due) in &timers {
            let place = (key.clone(), name.clone(), *due);
            if !found.contains_key(&(key.clone(), name.clone())) && !self.dropped.contains(&place) {
                let lane = DueTimer::key_of(key, name);
                self.attempts.passed(&lane, due.unsigned_abs())?;
                self.dropped.insert(place);
            }
        }
        timers.retain(|timer, due| {
            let place = (timer.0.clone(), timer.1.clone(), *due);
            found.contains_key(timer) || !self.dropped.contains(&place)
        });
        if found != timers {
            return Err(format!("the timers are {found:?}, what has been handled sets {timers:?}"));
        }
        Ok(())
    }

    /// Takes away what nothing came of, which somebody must have dropped.
    fn take_dropped(
        &mut self,
        key: &str,
        expected: &mut Vec<Item>,
        found: &[Item],
    ) -> Result<(), String> {
        for item in expected.extract_if(.., |item| !found.contains(item)) {
            if let Item::Event(position) = item {
                self.attempts.passed(key, position)?;
            }
        }
        Ok(())
    }

    /// Goes through what a key has been given: no timer rings that is not set, or before what the store
    /// had when its time came.
    fn replay(
        &mut self,
        key: &str,
        items: &[Item],
        log: &[RecordedEvent],
        timers: &mut BTreeMap<(String, String), i64>,
    ) -> Result<(), String> {
        for (at, item) in items.iter().enumerate() {
            match item {
                Item::Event(position) => {
                    let event = &log[*position as usize - 1];
                    match effect(&read(event), event.position, event.recorded_at) {
                        Effect::Sets(name, due) => {
                            timers.insert((key.to_owned(), name), due.millis());
                        }
                        Effect::Forgets(name) => drop(timers.remove(&(key.to_owned(), name))),
                        Effect::None => {}
                    }
                }
                Item::Timer(name, due) => {
                    self.rung += 1;
                    let set = timers.remove(&(key.to_owned(), name.clone()));
                    if set != Some(*due) {
                        return Err(format!(
                            "{key}: {item:?} of {items:?} was not set but {set:?}"
                        ));
                    }
                    let due = Timestamp::from_millis(*due);
                    if let Some(due) = again(due) {
                        timers.insert((key.to_owned(), name.clone()), due.millis());
                    }
                    let overtaken = items[at..].iter().find(|later| match later {
                        Item::Event(position) => self.arrived[*position as usize - 1] < due,
                        Item::Timer(..) => false,
                    });
                    if let Some(overtaken) = overtaken {
                        return Err(format!("{key}: {item:?} has overtaken {overtaken:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is set that will be handled yet.
    pub(super) fn is_done(store: &MemoryStore) -> bool {
        progress_in(store).is_ok_and(|progress| {
            let is_left = |timer: &DueTimer| {
                progress
                    .lanes
                    .iter()
                    .any(|left| left.lane == timer.lane || left.lane == timer.key())
            };
            timers_in(store).iter().all(is_left)
        })
    }

    /// Nothing is left but what is parked, and what was handled has its command, once.
    pub(super) fn end(&mut self, store: &MemoryStore, log: &[RecordedEvent]) -> Result<(), String> {
        self.check(store, log)?;
        let progress = progress_in(store)?;
        if (progress.position.0 as usize) < log.len() {
            return Err(format!("the process manager is at {}", progress.position));
        }
        for parked in &progress.lanes {
            // A timer of a key that was left behind waits with it.
            let of_left = DueTimer::lane_of_key(&parked.lane)
                .is_some_and(|key| progress.lanes.iter().any(|left| *left.lane == *key));
            if (parked.attempts < 3 || parked.retry_at.is_some()) && !of_left {
                return Err(format!("{parked:?} is parked without a reason"));
            }
        }
        // Two events may set timers of one name for one time, one after the other.
        let mut commands: BTreeMap<(&str, Option<&str>), u32> = BTreeMap::new();
        for event in log.iter().filter(|event| event.stream.aggregate_id.starts_with(OWN)) {
            let id = &*event.stream.aggregate_id;
            *commands.entry((id, event.metadata.causation_id.as_deref())).or_default() += 1;
            if !self.given.contains(id) || event.metadata.actor.as_deref() != Some(WARDEN) {
                return Err(format!("nobody has given {event:?}"));
            }
        }
        if let Some(((id, _), count)) = commands.iter().find(|(_, count)| **count != 1) {
            return Err(format!("{id} has had {count} commands"));
        }
        let given: BTreeSet<&str> = commands.keys().map(|(id, _)| *id).collect();
        for (key, Given(items)) in states_in(store) {
            for item in items.iter().filter(|item| item.gives()) {
                if !given.contains(&*item.id(&key)) {
                    return Err(format!("{key}: {item:?} was handled, and gave nothing"));
                }
            }
        }
        Ok(())
    }

    /// The numbers of commands it has given and of timers that were handled.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.given.len() as u64, self.rung)
    }
}

/// Whether an event came of a command of the process manager.
pub(super) fn is_own(event: &RecordedEvent) -> bool {
    event.stream.aggregate_id.starts_with(OWN)
}

fn progress_in(store: &MemoryStore) -> Result<Progress, String> {
    let mut documents = store.documents().clone();
    let found = documents.of(REACTIONS).find(|(key, _)| *key == WARDEN);
    let (_, found) = found.ok_or("the process manager has never run")?;
    Progress::from_json(&found.value).ok_or_else(|| "a progress that can't be read".to_owned())
}

fn states_in(store: &MemoryStore) -> Vec<(String, Given)> {
    let (mut documents, collection) = (store.documents().clone(), manager::states_of(WARDEN));
    let states = documents.of(&collection).map(|(key, found)| {
        (key.to_owned(), serde_json::from_str(&found.value).expect("a list of items"))
    });
    states.collect()
}

/// Timers that are set.
fn timers_in(store: &MemoryStore) -> Vec<DueTimer> {
    let (mut documents, collection) = (store.documents().clone(), manager::timers_of(WARDEN));
    let timers = documents
        .of(&collection)
        .map(|(_, found)| DueTimer::from_json(&found.value).expect("a timer"));
    timers.collect()
}

/// The event of a log that is read as today.
fn read(event: &RecordedEvent) -> Event {
    from_variant(&event.event_type, &event.data).expect("an event of the desk")
}

fn key_in(event: &RecordedEvent) -> Option<String> {
    key_of(&read(event), &event.stream.aggregate_id, event.position)
}
