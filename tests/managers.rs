//! Process managers: commands that follow from events, once each, and timers.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use annals::protocol::{
    DocumentScan, ReactionAction, ReactionRead, ReadDocuments, RequestId, StorageAnswer,
    StorageBody, StorageRequest,
};
use annals::storage::{
    Annals, AsyncAnnals, AsyncReaction, AsyncStorageAdapter, Clock, CommandOptions, LocalFuture,
    Reaction, Runtime, StorageAdapter,
};
use annals::{
    Aggregate, AggregateDefinition, Cause, Commands, Config, Context, Error, EventContext,
    Mutation, Position, ProcessManager, RecordedEvent, RetryPolicy, StartAt, StorageError,
    StorageErrorCode, Timestamp, Upcasters, trace,
};
use serde::{Deserialize, Serialize};
use support::shared::{Luck, Shared, Ticking};

/// A desk that notes whatever it is told, but for letters to nobody.
struct Desk;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Waiting { patient: String, slot: u32 },
    Booked { patient: String, slot: u32, start: u64 },
    Cancelled { slot: u32 },
    Reminded { patient: String },
    Noted { text: String },
}

#[derive(Debug, Serialize)]
enum Refusal {
    NobodyThere,
}

impl Aggregate for Desk {
    const TYPE: &'static str = "Desk";
    type State = u32;
    type Command = Event;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> u32 {
        0
    }

    fn decide(_: &u32, command: &Event, _: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        match command {
            Event::Reminded { patient } if patient == "nobody" => Err(Refusal::NobodyThere),
            _ => Ok(vec![command.clone()]),
        }
    }

    fn evolve(state: u32, _: &Event) -> u32 {
        state + 1
    }
}

/// Gives a slot that has become free to the first who waits for it.
struct WaitingList;

#[derive(Deserialize)]
enum Wanted {
    Waiting { patient: String, slot: u32 },
    Cancelled { slot: u32 },
}

impl ProcessManager for WaitingList {
    const NAME: &'static str = "waiting-list";
    const START_AT: StartAt = StartAt::Beginning;
    const RETRIES: RetryPolicy = RetryPolicy { max_attempts: 2, first_pause: 100, max_pause: 100 };
    type Event = Wanted;
    type State = Vec<String>;

    fn key(event: &Wanted, _: &EventContext<'_>) -> Option<String> {
        match event {
            Wanted::Waiting { slot: 0, .. } => None,
            Wanted::Waiting { slot, .. } | Wanted::Cancelled { slot } => Some(slot.to_string()),
        }
    }

    fn handle(
        waiting: &mut Vec<String>,
        cause: Cause<'_, Wanted>,
        commands: &mut Commands,
    ) -> Result<(), String> {
        match cause {
            Cause::Event(Wanted::Waiting { patient, .. }, _) if patient == "poison" => {
                return Err("that is poison".to_owned());
            }
            Cause::Event(Wanted::Waiting { patient, .. }, _) => waiting.push(patient),
            Cause::Event(Wanted::Cancelled { slot }, _) if !waiting.is_empty() => {
                let patient = waiting.remove(0);
                let note = Event::Noted { text: format!("{patient} has {slot}") };
                let booked = Event::Booked { patient: patient.clone(), slot, start: 0 };
                commands.give::<Desk>(&format!("of {patient}"), &booked);
                commands.give::<Desk>("notes", &note);
                if waiting.is_empty() {
                    commands.end();
                }
            }
            Cause::Event(Wanted::Cancelled { .. }, _) => {}
            Cause::Timer(timer) => return Err(format!("{} was never set", timer.name)),
        }
        Ok(())
    }
}

/// Reminds patients an hour before.
struct Reminder;

#[derive(Deserialize)]
enum Dated {
    Booked { patient: String, start: u64 },
    Cancelled {},
    Noted { text: String },
}

const HOUR: u64 = 3_600_000;

impl ProcessManager for Reminder {
    const NAME: &'static str = "reminder";
    const START_AT: StartAt = StartAt::Beginning;
    const RETRIES: RetryPolicy = RetryPolicy { max_attempts: 2, first_pause: 100, max_pause: 100 };
    type Event = Dated;
    type State = (String, u32);

    fn key(_: &Dated, context: &EventContext<'_>) -> Option<String> {
        Some(context.stream.aggregate_id.to_string())
    }

    fn handle(
        state: &mut (String, u32),
        cause: Cause<'_, Dated>,
        commands: &mut Commands,
    ) -> Result<(), String> {
        match cause {
            Cause::Event(Dated::Booked { patient, start }, _) => {
                state.0 = patient;
                commands.remind_at("hour before", after_start(start.saturating_sub(HOUR)));
            }
            Cause::Event(Dated::Cancelled {}, _) => commands.forget("hour before"),
            Cause::Event(Dated::Noted { text }, _) => state.0 = text,
            Cause::Timer(timer) => {
                state.1 += 1;
                let patient = state.0.clone();
                match &*patient {
                    "poison" => return Err(format!("{} can't be reached", timer.lane)),
                    "often" if state.1 < 3 => commands.remind_at(&timer.name, timer.due.plus(HOUR)),
                    _ => {}
                }
                commands.give::<Desk>("letters", &Event::Reminded { patient });
            }
        }
        Ok(())
    }
}

const START: i64 = 1_795_000_000_000;

fn after_start(millis: u64) -> Timestamp {
    Timestamp::from_millis(START).plus(millis)
}

type Engine = Annals<Shared, Ticking>;

const LEASE: u64 = 9_000;

fn config(seed: u8) -> Config {
    let mut config = Config::new([seed; 32], vec![AggregateDefinition::native::<Desk>()]);
    config.page_limit = 3;
    config.lease = LEASE;
    config
}

fn engine(store: &Shared, clock: &Ticking, seed: u8) -> Engine {
    let managers = vec![Reaction::manager::<WaitingList>(), Reaction::manager::<Reminder>()];
    Annals::with_reactions(config(seed), store.clone(), clock.clone(), managers)
        .expect("the configuration is fine")
}

fn give(engine: &mut Engine, id: &str, event: Event) -> RecordedEvent {
    let done = engine.execute::<Desk>(id, &event, CommandOptions::default()).expect("it is done");
    done.events.into_iter().next().expect("an event")
}

fn wait_for(slot: u32, patient: &str) -> Event {
    Event::Waiting { patient: patient.to_owned(), slot }
}

fn book(patient: &str, start: u64) -> Event {
    Event::Booked { patient: patient.to_owned(), slot: 0, start }
}

/// Streams and data of the events of a type.
fn events(store: &Shared, event_type: &str) -> Vec<(String, String)> {
    let store = store.store.borrow();
    let found = store.log().iter().filter(|event| *event.event_type == *event_type);
    found.map(|event| (event.stream.aggregate_id.to_string(), event.data.to_string())).collect()
}

fn reminded(store: &Shared) -> Vec<String> {
    let data = events(store, "Reminded").into_iter().map(|(_, data)| data);
    data.map(|data| data.split('"').nth(3).expect("a name").to_owned()).collect()
}

fn status<S: StorageAdapter>(engine: &mut Annals<S, Ticking>, manager: &str) -> ReactionRead {
    engine.reaction(manager, None).expect("it can be told")
}

fn act(engine: &mut Engine, manager: &str, action: ReactionAction) {
    engine.reaction(manager, Some(action)).expect("it can be done");
}

#[test]
fn a_slot_that_becomes_free_goes_to_the_first_who_waits_for_it() -> Result<(), Error> {
    let store = Shared::new();
    let mut engine = engine(&store, &Ticking::default(), 1);
    for (id, patient, slot) in [("a", "Ann", 7), ("b", "Ben", 7), ("a", "Cy", 8), ("c", "No", 0)] {
        give(&mut engine, id, wait_for(slot, patient));
    }
    let freed = give(&mut engine, "d", Event::Cancelled { slot: 7 });
    engine.serve(LEASE)?;
    let booked = "{\"patient\":\"Ann\",\"slot\":7,\"start\":0}".to_owned();
    assert_eq!(events(&store, "Booked"), [("of Ann".to_owned(), booked)]);
    give(&mut engine, "d", Event::Cancelled { slot: 7 });
    give(&mut engine, "d", Event::Cancelled { slot: 7 });
    give(&mut engine, "d", Event::Cancelled { slot: 9 });
    engine.serve(LEASE)?;
    let streams: Vec<_> = events(&store, "Booked").into_iter().map(|(id, _)| id).collect();
    assert_eq!(streams, ["of Ann", "of Ben"]);
    // The chain can be walked from the cancellation.
    let log = store.store.borrow().log().to_vec();
    let effects = trace(&freed, &log).effects;
    let types: Vec<_> = effects.iter().map(|event| &*event.event_type).collect();
    assert_eq!(types, ["Booked", "Noted", "Reminded"]);
    let booked = effects[0];
    assert_eq!(booked.metadata.actor.as_deref(), Some("waiting-list"));
    assert_eq!(booked.metadata.correlation_id, freed.metadata.correlation_id);
    let head = Position(log.len() as u64);
    assert_eq!(status(&mut engine, "waiting-list").position, head);
    Ok(())
}

#[test]
fn a_crash_between_command_and_save_repeats_nothing() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut first = engine(&store, &clock, 1);
    give(&mut first, "a", wait_for(7, "Ann"));
    give(&mut first, "a", wait_for(7, "Ben"));
    first.serve(LEASE)?;
    store.full.set(u32::MAX);
    give(&mut first, "d", Event::Cancelled { slot: 7 });
    first.serve(10)?;
    let done = [events(&store, "Booked"), events(&store, "Noted")];
    assert_eq!((done[0].len(), done[1].len()), (1, 1));
    drop(first);
    store.full.set(0);
    let mut second = engine(&store, &clock, 2);
    second.serve(3 * LEASE)?;
    assert_eq!([events(&store, "Booked"), events(&store, "Noted")], done);
    give(&mut second, "d", Event::Cancelled { slot: 7 });
    second.serve(LEASE)?;
    let streams: Vec<_> = events(&store, "Booked").into_iter().map(|(id, _)| id).collect();
    assert_eq!(streams, ["of Ann", "of Ben"], "the state is that of one cancellation");
    Ok(())
}

#[test]
fn a_save_that_fails_for_a_while_leaves_state_and_commands_right() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    for number in 0..12 {
        store.full.set(number % 3);
        give(&mut engine, &format!("s-{number}"), wait_for(7, &format!("p-{number}")));
        give(&mut engine, &format!("t-{number}"), Event::Cancelled { slot: 7 });
    }
    engine.serve(3 * LEASE)?;
    let streams: Vec<_> = events(&store, "Booked").into_iter().map(|(id, _)| id).collect();
    assert_eq!(streams, (0..12).map(|number| format!("of p-{number}")).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn an_event_that_fails_parks_its_key_alone_over_all_streams() -> Result<(), Error> {
    let store = Shared::new();
    let mut engine = engine(&store, &Ticking::default(), 1);
    give(&mut engine, "a", wait_for(7, "poison"));
    give(&mut engine, "a", wait_for(8, "Ann"));
    give(&mut engine, "b", wait_for(7, "Ben"));
    give(&mut engine, "c", Event::Cancelled { slot: 7 });
    give(&mut engine, "c", Event::Cancelled { slot: 8 });
    engine.serve(LEASE)?;
    assert_eq!(events(&store, "Booked").len(), 1);
    let lanes = status(&mut engine, "waiting-list").lanes;
    assert_eq!((lanes.len(), &*lanes[0].lane, lanes[0].position), (1, "7", Position(1)));
    assert_eq!((lanes[0].attempts, &*lanes[0].error), (2, "that is poison"));
    act(&mut engine, "waiting-list", ReactionAction::Drop("7".into()));
    engine.serve(LEASE)?;
    let streams: Vec<_> = events(&store, "Booked").into_iter().map(|(id, _)| id).collect();
    assert_eq!(streams, ["of Ann", "of Ben"]);
    assert_eq!(status(&mut engine, "waiting-list").lanes, []);
    Ok(())
}

/// Reads of a cancellation what a release has not written yet.
struct Other<const MENDED: bool>;

#[derive(Deserialize)]
enum Strange {
    Cancelled { slot: Option<u32>, doctor: Option<String> },
}

impl<const MENDED: bool> ProcessManager for Other<MENDED> {
    const NAME: &'static str = "other";
    const START_AT: StartAt = StartAt::Beginning;
    type Event = Strange;
    type State = Vec<String>;

    fn key(event: &Strange, _: &EventContext<'_>) -> Option<String> {
        let Strange::Cancelled { slot, doctor } = event;
        let slot = slot.map(|slot| slot.to_string());
        // Nothing is no key.
        doctor.clone().or(if MENDED { slot } else { Some(String::new()) })
    }

    fn handle(
        seen: &mut Vec<String>,
        cause: Cause<'_, Strange>,
        _: &mut Commands,
    ) -> Result<(), String> {
        if let Cause::Event(_, context) = cause {
            seen.push(context.stream.aggregate_id.to_string());
        }
        Ok(())
    }
}

#[test]
fn an_event_whose_key_can_not_be_told_stops_it_until_a_release_that_knows_it_runs_it()
-> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let open = |seed, manager| {
        Annals::with_reactions(config(seed), store.clone(), clock.clone(), vec![manager])
    };
    let mut first = open(1, Reaction::manager::<Other<false>>())?;
    give(&mut first, "a", Event::Cancelled { slot: 7 });
    give(&mut first, "b", Event::Cancelled { slot: 7 });
    first.serve(LEASE)?;
    let read = status(&mut first, "other");
    let reason = "the event at 1 has no key: expected a non-empty correlation key";
    assert!(read.trouble.as_deref().is_some_and(|trouble| trouble.starts_with(reason)), "{read:?}");
    assert_eq!((read.position, read.runs, read.lanes), (Position(0), false, vec![]));
    let mut second = open(2, Reaction::manager::<Other<true>>())?;
    second.serve(LEASE)?;
    assert_eq!(status(&mut second, "other").position, Position(2));
    let seen = BTreeMap::from([("7".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
    assert_eq!(states(&store, "other"), seen);
    // It does not try by itself: nothing has changed for it.
    first.serve(LEASE)?;
    assert!(status(&mut first, "other").trouble.is_some());
    first.reaction("other", Some(ReactionAction::Resume))?;
    first.serve(LEASE)?;
    assert_eq!(status(&mut first, "other").trouble, None);
    Ok(())
}

/// Patients had other names, and a slot could be swapped for another.
struct Renamed;

#[derive(Deserialize)]
struct FirstWaiting {
    name: String,
    slot: u32,
}

#[derive(Serialize)]
struct Waits {
    patient: String,
    slot: u32,
}

#[derive(Deserialize)]
struct Swapped {
    one: u32,
    other: u32,
}

impl Aggregate for Renamed {
    const TYPE: &'static str = Desk::TYPE;
    type State = u32;
    type Command = Event;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> u32 {
        0
    }

    fn decide(state: &u32, command: &Event, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        Desk::decide(state, command, context)
    }

    fn evolve(state: u32, _: &Event) -> u32 {
        state + 1
    }

    fn upcasters() -> Upcasters<Event> {
        Upcasters::none()
            .upcast("Waiting", 1, |FirstWaiting { name, slot }: FirstWaiting| Waits {
                patient: name,
                slot,
            })
            .becomes("Swapped", 1, |Swapped { one, other }: Swapped| {
                [one, other, other].map(|slot| Event::Cancelled { slot })
            })
    }
}

/// The desk of the release before.
struct Old;

#[derive(Serialize, Deserialize)]
enum OldEvent {
    Waiting { name: String, slot: u32 },
    Swapped { one: u32, other: u32 },
}

impl Aggregate for Old {
    const TYPE: &'static str = Desk::TYPE;
    type State = ();
    type Command = OldEvent;
    type Event = OldEvent;
    type Refusal = ();

    fn initial() {}

    fn decide((): &(), command: &OldEvent, _: &Context<'_>) -> Result<Vec<OldEvent>, ()> {
        Ok(vec![match command {
            OldEvent::Waiting { name, slot } => {
                OldEvent::Waiting { name: name.clone(), slot: *slot }
            }
            OldEvent::Swapped { one, other } => OldEvent::Swapped { one: *one, other: *other },
        }])
    }

    fn evolve((): (), _: &OldEvent) {}
}

#[test]
fn events_are_read_as_they_are_today_and_one_that_has_become_several_is_handled_for_each_key()
-> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let config = |definition| Config::new([1; 32], vec![definition]);
    let old = config(AggregateDefinition::native::<Old>());
    let mut before = Annals::new(old, store.clone(), clock.clone())?;
    for (slot, name) in [(7, "Ann"), (8, "Ben"), (8, "Cy")] {
        let waiting = OldEvent::Waiting { name: name.to_owned(), slot };
        before.execute::<Old>("a", &waiting, CommandOptions::default())?;
    }
    let swapped = OldEvent::Swapped { one: 7, other: 8 };
    before.execute::<Old>("a", &swapped, CommandOptions::default())?;
    let today = config(AggregateDefinition::native::<Renamed>());
    let managers = vec![Reaction::manager::<WaitingList>()];
    let mut after = Annals::with_reactions(today, store.clone(), clock.clone(), managers)?;
    after.serve(LEASE)?;
    let mut streams: Vec<_> = events(&store, "Booked").into_iter().map(|(id, _)| id).collect();
    streams.sort_unstable();
    assert_eq!(streams, ["of Ann", "of Ben", "of Cy"]);
    assert_eq!(status(&mut after, "waiting-list").lanes, []);
    Ok(())
}

/// It was handled before events that the store had when its time came, if nobody had run the process
/// manager for a while: patients were reminded of what they had cancelled.
#[test]
fn a_timer_waits_for_what_the_store_had_when_its_time_came() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut first = engine(&store, &clock, 1);
    give(&mut first, "a", book("Ann", 3 * HOUR));
    first.serve(10)?;
    drop(first);
    let mut writer = with_no_managers(&store, &clock);
    for number in 0..20 {
        give(&mut writer, "b", Event::Noted { text: number.to_string() });
    }
    give(&mut writer, "a", Event::Cancelled { slot: 0 });
    clock.0.set(clock.0.get() + 3 * HOUR);
    let mut second = engine(&store, &clock, 2);
    second.serve(3 * LEASE)?;
    assert_eq!(reminded(&store), [""; 0]);
    assert_eq!(status(&mut second, "reminder").position, Position(22));
    Ok(())
}

/// An engine may give a command and die before it has saved that; the next may meet timer and event in
/// another order, and would give another command under the same id. That was an error for ever.
#[test]
fn what_an_attempt_before_a_crash_has_given_stands() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut first = engine(&store, &clock, 1);
    // It comes due between two signs of life.
    give(&mut first, "a", book("Ann", 3 * HOUR + 1_500));
    first.serve(2 * HOUR + 1_500 - clock.0.get() - 5)?;
    store.full.set(u32::MAX);
    first.serve(10)?;
    assert_eq!(reminded(&store), ["Ann"]);
    drop(first);
    store.full.set(0);
    let mut writer = with_no_managers(&store, &clock);
    give(&mut writer, "a", Event::Noted { text: "Anna".to_owned() });
    let mut second = engine(&store, &clock, 2);
    second.serve(3 * LEASE)?;
    assert_eq!(reminded(&store), ["Ann"]);
    assert_eq!(status(&mut second, "reminder").lanes, []);
    assert_eq!(
        documents(&store, "managers/reminder"),
        [("a".to_owned(), "[\"Anna\",1]".to_owned())]
    );
    Ok(())
}

#[test]
fn a_timer_is_handled_when_its_time_has_come_and_once() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    let booked = give(&mut engine, "a", book("Ann", 3 * HOUR));
    give(&mut engine, "b", book("Ben", 4 * HOUR));
    engine.serve(2 * HOUR - 1_000)?;
    assert_eq!(reminded(&store), [""; 0]);
    engine.serve(1_000)?;
    assert_eq!(reminded(&store), ["Ann"]);
    engine.serve(5 * HOUR)?;
    assert_eq!(reminded(&store), ["Ann", "Ben"]);
    let log = store.store.borrow().log().to_vec();
    let effects = trace(&booked, &log).effects;
    assert_eq!((effects.len(), &*effects[0].event_type), (1, "Reminded"));
    Ok(())
}

#[test]
fn a_timer_can_be_moved_and_forgotten_and_one_of_the_past_is_due_at_once() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    give(&mut engine, "a", book("Ann", 3 * HOUR));
    give(&mut engine, "b", book("Ben", 3 * HOUR));
    give(&mut engine, "c", book("Cy", 0));
    engine.serve(10)?;
    assert_eq!(reminded(&store), ["Cy"]);
    give(&mut engine, "a", Event::Cancelled { slot: 0 });
    give(&mut engine, "b", book("Ben", 6 * HOUR));
    engine.serve(4 * HOUR)?;
    assert_eq!(reminded(&store), ["Cy"]);
    engine.serve(2 * HOUR)?;
    assert_eq!(reminded(&store), ["Cy", "Ben"]);
    Ok(())
}

#[test]
fn timers_survive_a_crash_and_those_missed_are_handled_by_the_next_engine() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut first = engine(&store, &clock, 1);
    for number in 0..10 {
        give(&mut first, &format!("a-{number}"), book(&format!("p-{number}"), 2 * HOUR));
    }
    give(&mut first, "z", book("Zoe", 9 * HOUR));
    first.serve(10)?;
    drop(first);
    clock.0.set(clock.0.get() + 2 * HOUR);
    let mut second = engine(&store, &clock, 2);
    second.serve(3 * LEASE)?;
    let expected: Vec<_> = (0..10).map(|number| format!("p-{number}")).collect();
    assert_eq!(reminded(&store), expected, "more than one look finds");
    // The command of a timer goes out, and the engine dies before that is saved.
    second.serve(8 * HOUR - clock.0.get() - 100)?;
    store.full.set(u32::MAX);
    second.serve(200)?;
    drop(second);
    store.full.set(0);
    let before = reminded(&store).len();
    let mut third = engine(&store, &clock, 3);
    third.serve(3 * LEASE)?;
    assert_eq!((before, reminded(&store).len()), (11, 11));
    Ok(())
}

#[test]
fn a_timer_may_set_itself_again() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    give(&mut engine, "a", book("often", 2 * HOUR));
    engine.serve(HOUR + 1_000)?;
    assert_eq!(reminded(&store).len(), 1);
    engine.serve(HOUR)?;
    assert_eq!(reminded(&store).len(), 2);
    engine.serve(9 * HOUR)?;
    assert_eq!(reminded(&store).len(), 3);
    Ok(())
}

#[test]
fn a_timer_that_fails_is_tried_again_and_parked_and_its_key_goes_on() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    give(&mut engine, "a", book("poison", 2 * HOUR));
    give(&mut engine, "b", book("poison", 2 * HOUR));
    give(&mut engine, "c", book("Cy", 2 * HOUR));
    engine.serve(2 * HOUR)?;
    assert_eq!(reminded(&store), ["Cy"]);
    let mut lanes = status(&mut engine, "reminder").lanes;
    lanes.sort_by(|one, other| one.lane.cmp(&other.lane));
    let [a, b] = &lanes[..] else { panic!("{lanes:?}") };
    let timer = |key: &str| -> Arc<str> { format!("[\"timer\",\"{key}\",\"hour before\"]").into() };
    assert_eq!((&a.lane, &b.lane), (&timer("a"), &timer("b")));
    assert_eq!((a.position, a.attempts, a.retry_at), (Position(0), 2, None));
    assert_eq!(&*a.error, "a can't be reached");
    // Who takes over knows.
    drop(engine);
    let mut engine = self::engine(&store, &clock, 2);
    engine.serve(3 * LEASE)?;
    assert_eq!(status(&mut engine, "reminder").lanes.len(), 2);
    give(&mut engine, "a", Event::Noted { text: "Ann".to_owned() });
    act(&mut engine, "reminder", ReactionAction::Retry(timer("a")));
    act(&mut engine, "reminder", ReactionAction::Drop(timer("b")));
    engine.serve(LEASE)?;
    assert_eq!(reminded(&store), ["Cy", "Ann"]);
    assert_eq!(status(&mut engine, "reminder").lanes, []);
    give(&mut engine, "b", Event::Noted { text: "Ben".to_owned() });
    engine.serve(HOUR)?;
    assert_eq!(reminded(&store), ["Cy", "Ann"], "what was dropped is gone");
    Ok(())
}

/// Its removal was saved together with the timer that had been set since, and behind it.
#[test]
fn a_timer_that_is_set_again_while_it_is_being_dropped_stays() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    give(&mut engine, "a", book("poison", 2 * HOUR));
    engine.serve(2 * HOUR)?;
    let [parked] = &status(&mut engine, "reminder").lanes[..] else { panic!("one is parked") };
    store.full.set(8);
    act(&mut engine, "reminder", ReactionAction::Drop(Arc::clone(&parked.lane)));
    give(&mut engine, "a", book("Ann", 5 * HOUR));
    engine.serve(HOUR)?;
    assert_eq!(store.full.get(), 0, "saves have failed");
    assert_eq!(status(&mut engine, "reminder").lanes, []);
    engine.serve(3 * HOUR)?;
    assert_eq!(reminded(&store), ["Ann"]);
    Ok(())
}

#[test]
fn a_refusal_is_an_answer() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let mut engine = engine(&store, &clock, 1);
    give(&mut engine, "a", book("nobody", 0));
    give(&mut engine, "b", book("Ben", 0));
    engine.serve(LEASE)?;
    assert_eq!(reminded(&store), ["Ben"]);
    assert_eq!(status(&mut engine, "reminder").lanes, []);
    Ok(())
}

// --- Many engines, a store that fails, and crashes --------------------------------------------

/// A store whose requests fail now and then, before or after they have been done.
#[derive(Clone)]
struct Moody {
    store: Shared,
    luck: Rc<RefCell<Luck>>,
    /// Failures among a hundred requests.
    failures: Rc<Cell<u64>>,
}

impl StorageAdapter for Moody {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        let fate = self.luck.borrow_mut().below(100);
        let lost = |fate: u64| match fate % 4 {
            0 => StorageError::permanent(StorageErrorCode::Failed, "gone"),
            _ => StorageError::retryable(StorageErrorCode::Busy, "busy"),
        };
        if fate >= self.failures.get() {
            return StorageAdapter::call(&mut self.store, request);
        }
        if fate.is_multiple_of(2) {
            // It was done, and nobody was told.
            StorageAdapter::call(&mut self.store, request)?;
        }
        Err(lost(fate / 2))
    }
}

/// What the managers must have done by the log: who was given which slot, and who is still waiting.
fn expected(log: &[RecordedEvent]) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let (mut booked, mut waiting) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    for event in log {
        let data: serde_json::Value = serde_json::from_str(&event.data).expect("it is JSON");
        let list = waiting.entry(data["slot"].to_string()).or_default();
        match &*event.event_type {
            "Waiting" => list.push(data["patient"].as_str().expect("a name").to_owned()),
            "Cancelled" if !list.is_empty() => booked.push(format!("of {}", list.remove(0))),
            _ => {}
        }
    }
    waiting.retain(|_, list| !list.is_empty());
    booked.sort_unstable();
    (booked, waiting)
}

fn one_run(seed: u64) {
    let mut luck = Luck(seed * 0x9e37_79b9 + 1);
    let (store, clock) = (Shared::new(), Ticking::default());
    let failures = Rc::new(Cell::new(luck.below(20)));
    let mut lives = 0;
    let mut open = |luck: &mut Luck| {
        lives += 1;
        let store = Moody {
            store: store.clone(),
            luck: Rc::new(RefCell::new(Luck(luck.below(1 << 40) + 1))),
            failures: Rc::clone(&failures),
        };
        let managers = vec![Reaction::manager::<WaitingList>(), Reaction::manager::<Reminder>()];
        Annals::with_reactions(config(lives), store, clock.clone(), managers)
            .expect("the configuration is fine")
    };
    let mut engines = vec![open(&mut luck), open(&mut luck)];
    let mut writer = with_no_managers(&store, &clock);
    for step in 0..60 {
        let at = luck.below(2) as usize;
        let (stream, slot) = (format!("s-{}", luck.below(4)), 1 + luck.below(3) as u32);
        match luck.below(10) {
            0..3 => drop(give(&mut writer, &stream, wait_for(slot, &format!("p-{step}")))),
            3..5 => drop(give(&mut writer, &stream, Event::Cancelled { slot })),
            5 => {
                let soon = clock.0.get() + HOUR + luck.below(20_000);
                give(&mut writer, &format!("b-{step}"), book(&format!("r-{step}"), soon));
            }
            6 => engines[at] = open(&mut luck),
            _ => engines[at].serve(luck.below(6_000)).expect("it runs"),
        }
    }
    failures.set(0);
    engines.truncate(1);
    engines[0].serve(5 * LEASE).expect("it runs");
    for manager in ["waiting-list", "reminder"] {
        // What the store has failed too often was parked.
        for parked in status(&mut engines[0], manager).lanes {
            let retry = ReactionAction::Retry(parked.lane);
            engines[0].reaction(manager, Some(retry)).expect("it can be done");
        }
    }
    engines[0].serve(HOUR).expect("it runs");

    let log = store.store.borrow().log().to_vec();
    let (bookings, waiting) = expected(&log);
    let of = |event_type: &'static str, actor: &'static str| {
        let is_it = move |event: &&RecordedEvent| {
            *event.event_type == *event_type && event.metadata.actor.as_deref() == Some(actor)
        };
        log.iter().filter(is_it)
    };
    let given = of("Booked", "waiting-list").map(|event| event.stream.aggregate_id.to_string());
    let mut given: Vec<_> = given.collect();
    given.sort_unstable();
    assert_eq!(given, bookings, "seed {seed}: one command for each cancellation");
    let mut due: Vec<_> = events(&store, "Booked").into_iter().map(|(_, data)| data).collect();
    due.iter_mut().for_each(|data| *data = data.split('"').nth(3).expect("a name").to_owned());
    due.sort_unstable();
    let mut reminded = reminded(&store);
    reminded.sort_unstable();
    assert_eq!(reminded, due, "seed {seed}: one reminder for each booking");
    for event in of("Reminded", "reminder") {
        assert!(event.metadata.causation_id.is_some(), "seed {seed}");
    }
    for manager in ["waiting-list", "reminder"] {
        let read = status(&mut engines[0], manager);
        assert_eq!((read.position.0 as usize, read.lanes), (log.len(), vec![]), "seed {seed}");
    }
    assert_eq!(states(&store, "waiting-list"), waiting, "seed {seed}: the fold of the log");
    assert_eq!(documents(&store, "timers/reminder"), [], "seed {seed}: no timer is left");
}

fn documents(store: &Shared, collection: &str) -> Vec<(String, String)> {
    let scan = DocumentScan {
        collection: collection.into(),
        index: None,
        from: None,
        to: None,
        after: None,
        descending: false,
        limit: Some(1_000),
    };
    let read = ReadDocuments { names: Vec::new(), scans: vec![scan] };
    let request = StorageRequest {
        id: RequestId(1),
        attempt: 1,
        deadline: Timestamp::from_millis(0),
        epoch: None,
        body: StorageBody::ReadDocuments(Arc::new(read)),
    };
    let answer = store.store.borrow_mut().call(&request).expect("it can be read");
    let StorageAnswer::Documents(mut found) = answer else { panic!("asked for documents") };
    let found = found.scans.remove(0).documents.into_iter();
    found.map(|(place, document)| (place.key.to_string(), document.value.to_string())).collect()
}

/// What a manager remembers, but for keys of which it remembers nothing.
fn states(store: &Shared, manager: &str) -> BTreeMap<String, Vec<String>> {
    let found = documents(store, &format!("managers/{manager}")).into_iter();
    let read = found.map(|(key, text)| (key, serde_json::from_str(&text).expect("a list")));
    read.filter(|(_, list): &(String, Vec<String>)| !list.is_empty()).collect()
}

fn with_no_managers(store: &Shared, clock: &Ticking) -> Engine {
    Annals::new(config(0), store.clone(), clock.clone()).expect("the configuration is fine")
}

#[test]
fn whatever_fails_each_event_has_its_commands_once_and_each_timer_fires_once() {
    for seed in 0..200 {
        one_run(seed);
    }
}

// --- Over a store that takes its time ---------------------------------------------------------

impl AsyncStorageAdapter for Shared {
    fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>> {
        let (mut store, mut waits) = (self.clone(), 2);
        Box::pin(std::future::poll_fn(move |_| match waits {
            0 => Poll::Ready(StorageAdapter::call(&mut store, &request)),
            _ => {
                waits -= 1;
                Poll::Pending
            }
        }))
    }
}

impl Runtime for Ticking {
    fn now(&self) -> Timestamp {
        Clock::now(self)
    }

    fn sleep(&self, millis: u64) -> LocalFuture<()> {
        let (clock, until) = (self.clone(), self.0.get() + millis);
        Box::pin(std::future::poll_fn(move |_| match clock.0.get() >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }
}

#[test]
fn process_managers_run_over_an_asynchronous_store() -> Result<(), Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let managers =
        vec![AsyncReaction::manager::<WaitingList>(), AsyncReaction::manager::<Reminder>()];
    let annals = AsyncAnnals::with_reactions(config(1), store.clone(), clock.clone(), managers)?;
    let mut serving = pin!(annals.serve());
    let mut context = std::task::Context::from_waker(Waker::noop());
    let mut serve = |millis: u64| {
        for _ in 0..200 {
            assert!(serving.as_mut().poll(&mut context).is_pending());
        }
        clock.0.set(clock.0.get() + millis);
        for _ in 0..200 {
            assert!(serving.as_mut().poll(&mut context).is_pending());
        }
    };
    for (id, event) in [
        ("a", wait_for(7, "Ann")),
        ("b", wait_for(7, "Ben")),
        ("c", Event::Cancelled { slot: 7 }),
        ("d", book("Dan", 2 * HOUR)),
        ("e", Event::Cancelled { slot: 7 }),
    ] {
        let mut giving = pin!(annals.execute::<Desk>(id, &event, CommandOptions::default()));
        let mut context = std::task::Context::from_waker(Waker::noop());
        while giving.as_mut().poll(&mut context).is_pending() {}
    }
    serve(LEASE / 3);
    let streams: Vec<_> = events(&store, "Booked").into_iter().map(|(id, _)| id).collect();
    assert_eq!(streams, ["d", "of Ann", "of Ben"]);
    assert_eq!(reminded(&store), ["Ann", "Ben"], "they begin at once");
    serve(HOUR);
    assert_eq!(reminded(&store), ["Ann", "Ben", "Dan"]);
    Ok(())
}

/// A store that answers at once, but keeps what looks at timers have found while it is to hold it back.
#[derive(Clone)]
struct Holding {
    store: Shared,
    holds: Rc<Cell<bool>>,
    held: Rc<Cell<u32>>,
}

impl AsyncStorageAdapter for Holding {
    fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>> {
        let answer = StorageAdapter::call(&mut self.store.clone(), &request);
        let is_look = match &request.body {
            StorageBody::ReadDocuments(read) => {
                read.scans.iter().any(|scan| *scan.collection == *"timers/reminder")
            }
            _ => false,
        };
        self.held.set(self.held.get() + u32::from(is_look && self.holds.get()));
        let holds = Rc::clone(&self.holds);
        Box::pin(std::future::poll_fn(move |_| match is_look && holds.get() {
            true => Poll::Pending,
            false => Poll::Ready(answer.clone()),
        }))
    }
}

/// Who is reminded, of an engine that has one look at timers held back. Before it come the `bookings`; the
/// look goes out at `at`, and `meanwhile` happens before its answer comes, at `until`.
fn reminded_around_a_look(
    mutation: Option<Mutation>,
    bookings: &[(&str, u64)],
    (at, until): (u64, u64),
    meanwhile: &[(&str, Event)],
) -> Result<Vec<String>, Error> {
    let (store, clock) = (Shared::new(), Ticking::default());
    let holding = Holding { store: store.clone(), holds: Rc::default(), held: Rc::default() };
    let config = Config { mutation, ..config(1) };
    let managers = vec![AsyncReaction::manager::<Reminder>()];
    let annals = AsyncAnnals::with_reactions(config, holding.clone(), clock.clone(), managers)?;
    let mut writer = with_no_managers(&store, &clock);
    let mut serving = pin!(annals.serve());
    let mut context = std::task::Context::from_waker(Waker::noop());
    let mut serve_at = |millis: u64| {
        clock.0.set(millis);
        for _ in 0..200 {
            assert!(serving.as_mut().poll(&mut context).is_pending());
        }
    };
    for (id, due) in bookings {
        give(&mut writer, id, book(id, due + HOUR));
    }
    serve_at(0);
    serve_at(at - LEASE / 3);
    // It is written shortly before the look, which it is the reason for.
    give(&mut writer, "last", book("last", 10 * HOUR));
    holding.holds.set(true);
    serve_at(at);
    assert_eq!(holding.held.get(), 1, "a look is under way");
    for (id, event) in meanwhile {
        give(&mut writer, id, event.clone());
    }
    serve_at(until);
    holding.holds.set(false);
    serve_at(until);
    Ok(reminded(&store))
}

/// It was handled before an event that had come to the store in between.
#[test]
fn a_timer_that_comes_due_during_a_look_waits_for_what_has_come_meanwhile() -> Result<(), Error> {
    let around = |mutation| {
        let cancels = [("a", Event::Cancelled { slot: 0 })];
        let (at, until) = (2 * HOUR - 100, 2 * HOUR + 100);
        reminded_around_a_look(mutation, &[("a", 2 * HOUR)], (at, until), &cancels)
    };
    assert_eq!(around(None)?, [""; 0]);
    assert_eq!(around(Some(Mutation::TimerDueWhileLooking))?, ["a"]);
    Ok(())
}

/// A look that went on behind its first page took itself for one from the beginning.
#[test]
fn a_timer_is_found_that_is_set_for_a_time_before_the_place_where_a_look_is() -> Result<(), Error> {
    let around = |mutation| {
        let bookings = [("a", 2 * HOUR), ("b", 2 * HOUR), ("c", 2 * HOUR), ("d", 9 * HOUR)];
        let cancelled = |id| (id, Event::Cancelled { slot: 0 });
        let early = ("early", book("early", 0));
        let meanwhile = [cancelled("a"), cancelled("b"), cancelled("c"), early];
        let at = 2 * HOUR + 10;
        reminded_around_a_look(mutation, &bookings, (at, at + LEASE / 3), &meanwhile)
    };
    assert_eq!(around(None)?, ["early"]);
    assert_eq!(around(Some(Mutation::LookCountsFromStart))?, [""; 0]);
    Ok(())
}
