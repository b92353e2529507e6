//! Views: built from the log, kept beside it, and never short without saying so.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use annals::protocol::{
    LogEnd, SaveDocuments, SkippedEvents, StorageBody, StorageRequest, ViewAt, ViewScan,
};
use annals::storage::{Annals, CommandOptions, MemoryStore, Report, StorageAdapter};
use annals::{
    Aggregate, AggregateDefinition, ApiMisuse, Config, Context, Error, EventContext, IndexEntry,
    Position, ProjectError, Projection, ProjectionDefinition, ReadError, Revision, StreamId,
    Timestamp, UnknownEvents, View, ViewKind,
};
use serde::{Deserialize, Serialize};
use support::shared::{Luck, Shared, Ticking};

/// Visits of patients to doctors.
struct Visit;

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Booked { doctor: String, minutes: u32 },
    Moved { doctor: String },
    Noted {},
}

#[derive(Clone, Default, Serialize)]
struct Visited {
    doctor: String,
    minutes: u32,
}

impl Aggregate for Visit {
    const TYPE: &'static str = "Visit";
    type State = Visited;
    type Command = Event;
    type Event = Event;
    type Refusal = ();

    fn initial() -> Visited {
        Visited::default()
    }

    fn decide(_: &Visited, command: &Event, _: &Context<'_>) -> Result<Vec<Event>, ()> {
        Ok(vec![command.clone()])
    }

    fn evolve(mut state: Visited, event: &Event) -> Visited {
        match event {
            Event::Booked { doctor, minutes } => {
                state = Visited { doctor: doctor.clone(), minutes: *minutes };
            }
            Event::Moved { doctor } => state.doctor.clone_from(doctor),
            Event::Noted {} => {}
        }
        state
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Day {
    minutes: u32,
    visits: Vec<String>,
}

/// What a view of visits wants: not the notes.
#[derive(Deserialize)]
enum Booking {
    Booked { doctor: String, minutes: u32 },
    Moved { doctor: String },
}

/// Minutes and visits by doctor, and by visit who has it. `V` is the version, `K` the kind.
struct Agenda<const V: u32, const K: u8>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Day(Day),
    Visit { doctor: String, minutes: u32 },
}

const LIVE: u8 = 0;
const INLINE: u8 = 1;
const ASYNC: u8 = 2;

fn day(view: &mut View<'_, Entry>, doctor: &str) -> Result<Day, ProjectError> {
    Ok(match view.get(doctor)? {
        Some(Entry::Day(Day { minutes, visits })) => {
            Day { minutes: *minutes, visits: visits.clone() }
        }
        _ => Day::default(),
    })
}

impl<const V: u32, const K: u8> Projection for Agenda<V, K> {
    const NAME: &'static str = "agenda";
    const VERSION: u32 = V;
    const KIND: ViewKind = match K {
        LIVE => ViewKind::Live,
        INLINE => ViewKind::Inline,
        _ => ViewKind::Async,
    };
    type Event = Booking;
    type Document = Entry;

    fn project(
        view: &mut View<'_, Entry>,
        event: Booking,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        assert_eq!(context.recorded.is_some(), K != INLINE);
        let id = context.stream.aggregate_id.to_string();
        let key = format!("visit/{id}");
        let (doctor, minutes) = match event {
            Booking::Booked { minutes: 13, .. } => return Err(ProjectError::new("bad luck")),
            Booking::Booked { doctor, minutes } => (doctor, minutes),
            Booking::Moved { doctor } => match view.get(&key)? {
                Some(Entry::Visit { doctor: old, minutes }) => {
                    let (old, minutes) = (old.clone(), *minutes);
                    let mut before = day(view, &old)?;
                    before.minutes = before.minutes.saturating_sub(minutes);
                    before.visits.retain(|visit| *visit != id);
                    if before.visits.is_empty() {
                        view.remove(&old);
                    } else {
                        view.set(&old, Entry::Day(before));
                    }
                    (doctor, minutes)
                }
                _ => return Err(ProjectError::new("moved before it was booked")),
            },
        };
        let mut after = day(view, &doctor)?;
        after.minutes += minutes * V;
        after.visits.push(id);
        view.set(&doctor, Entry::Day(after));
        view.set(&key, Entry::Visit { doctor, minutes: minutes * V });
        Ok(())
    }

    const INDEXES: &'static [&'static str] = &["minutes"];

    fn index(document: &Entry) -> Vec<IndexEntry> {
        let (Entry::Day(Day { minutes, .. }) | Entry::Visit { minutes, .. }) = document;
        vec![IndexEntry::new("minutes", *minutes)]
    }
}

type Engine = Annals<Shared, Ticking>;

fn engine(store: &Shared, projections: Vec<ProjectionDefinition>) -> Engine {
    let mut config = Config::new([3; 32], vec![AggregateDefinition::native::<Visit>()]);
    config.projections = projections;
    config.page_limit = 3;
    Annals::new(config, store.clone(), Ticking::default()).expect("the configuration is fine")
}

fn with<const V: u32, const K: u8>(store: &Shared) -> Engine {
    engine(store, vec![ProjectionDefinition::native::<Agenda<V, K>>()])
}

fn give(engine: &mut Engine, id: &str, event: &Event) -> Position {
    let done = engine.execute::<Visit>(id, event, CommandOptions::default()).expect("it is done");
    done.commit.expect("an event").last_position()
}

fn book(engine: &mut Engine, id: &str, doctor: &str, minutes: u32) -> Position {
    give(engine, id, &Event::Booked { doctor: doctor.into(), minutes })
}

fn day_of<P: Projection<Document = Entry>>(
    engine: &mut Engine,
    doctor: &str,
    at: ViewAt,
) -> Option<(u32, usize)> {
    match engine.document::<P>(doctor, at).expect("the view answers")? {
        Entry::Day(day) => Some((day.minutes, day.visits.len())),
        Entry::Visit { .. } => panic!("expected a day"),
    }
}

fn keys<P: Projection>(engine: &mut Engine, scan: ViewScan, at: ViewAt) -> Vec<String> {
    let found = engine.documents::<P>(scan, at).expect("the view answers");
    found.documents.iter().map(|listed| listed.place.key.to_string()).collect()
}

type Async = Agenda<1, ASYNC>;
type Inline = Agenda<1, INLINE>;
type Live = Agenda<1, LIVE>;

#[test]
fn all_kinds_give_the_same_documents() {
    fn documents<const K: u8>() -> Vec<(String, Entry)> {
        let mut engine = with::<1, K>(&Shared::new());
        for number in 0..20 {
            let id = format!("v-{}", number % 7);
            if number < 7 {
                book(&mut engine, &id, &format!("d-{}", number % 3), 20 + number);
            } else {
                give(&mut engine, &id, &Event::Noted {});
                give(&mut engine, &id, &Event::Moved { doctor: format!("d-{}", number % 4) });
            }
        }
        let found =
            engine.documents::<Agenda<1, K>>(ViewScan::by_key(), ViewAt::Now).expect("it answers");
        found.documents.into_iter().map(|l| (l.place.key.to_string(), l.document)).collect()
    }
    let live = documents::<LIVE>();
    assert!(live.len() > 8);
    assert_eq!(documents::<INLINE>(), live);
    assert_eq!(documents::<ASYNC>(), live);
}

#[test]
fn an_inline_view_has_taken_a_command_in_when_its_outcome_comes() {
    let mut engine = with::<1, INLINE>(&Shared::new());
    for number in 1..=5 {
        book(&mut engine, &format!("v-{number}"), "d-1", 10);
        let day = day_of::<Inline>(&mut engine, "d-1", ViewAt::Reached);
        assert_eq!(day, Some((10 * number, number as usize)));
    }
}

#[test]
fn a_view_waits_until_it_has_taken_a_position_in() {
    let store = Shared::new();
    let mut other = engine(&store, Vec::new());
    let mut engine = with::<1, ASYNC>(&store);
    assert_eq!(day_of::<Async>(&mut engine, "d-1", ViewAt::Reached), None);
    let position = book(&mut other, "v-1", "d-1", 10);
    assert_eq!(day_of::<Async>(&mut engine, "d-1", ViewAt::After(position)), Some((10, 1)));
    book(&mut other, "v-2", "d-1", 5);
    assert_eq!(day_of::<Async>(&mut engine, "d-1", ViewAt::Now), Some((15, 2)));
}

#[test]
fn documents_are_listed_by_key_by_prefix_and_by_index_with_cursors() {
    let mut engine = with::<1, ASYNC>(&Shared::new());
    for (id, minutes) in [("a", 20), ("b", 5), ("c", 100), ("d", 20)] {
        book(&mut engine, id, "d-1", minutes);
    }
    let now = ViewAt::Now;
    let prefix = ViewScan::by_key().prefix("visit/");
    let visits = ["visit/a", "visit/b", "visit/c", "visit/d"];
    assert_eq!(keys::<Async>(&mut engine, prefix.clone(), now), visits);
    let by_minutes = ViewScan::by_index("minutes");
    let sorted = ["visit/b", "visit/a", "visit/d", "visit/c", "d-1"];
    assert_eq!(keys::<Async>(&mut engine, by_minutes.clone(), now), sorted);
    let equal = by_minutes.clone().equal(20);
    assert_eq!(keys::<Async>(&mut engine, equal.clone(), now), ["visit/a", "visit/d"]);
    let count = ViewScan { limit: None, ..equal };
    assert_eq!(engine.documents::<Async>(count, now).expect("it answers").count, 2);

    let mut down = ViewScan { descending: true, limit: Some(2), ..by_minutes };
    let mut found = Vec::new();
    loop {
        let page = engine.documents::<Async>(down.clone(), now).expect("it answers");
        found.extend(page.documents.iter().map(|listed| listed.place.key.to_string()));
        if !page.more {
            break;
        }
        down.after = page.documents.last().map(|listed| listed.place.clone());
    }
    assert_eq!(found, ["d-1", "visit/c", "visit/d", "visit/a", "visit/b"]);
}

#[test]
fn what_is_not_there_is_told_by_name() {
    let mut engine = with::<1, ASYNC>(&Shared::new());
    let unknown = ViewScan::by_index("colour");
    let error = engine.documents::<Async>(unknown, ViewAt::Now).expect_err("no such index");
    let Error::Read(error) = error else { panic!("{error}") };
    assert_eq!((error.code(), error.to_string().contains("colour")), ("unknown-index", true));

    let mut none = self::engine(&Shared::new(), Vec::new());
    let error = none.document::<Async>("d-1", ViewAt::Now).expect_err("not registered");
    assert!(matches!(error, Error::Read(ReadError::UnknownProjection(_))), "{error}");

    let nothing = ViewScan { limit: Some(0), ..ViewScan::by_key() };
    let error = engine.documents::<Async>(nothing, ViewAt::Now).expect_err("nothing is asked");
    assert_eq!(error, Error::Misuse(ApiMisuse::ZeroLimit("limit")));
}

#[test]
fn a_projection_is_defined_once() {
    let mut config = Config::new([3; 32], Vec::new());
    config.projections =
        vec![ProjectionDefinition::native::<Async>(), ProjectionDefinition::native::<Live>()];
    let error = Annals::new(config, Shared::new(), Ticking::default()).err();
    assert_eq!(error, Some(ApiMisuse::ProjectionDefinedTwice("agenda".into())));
}

#[test]
fn an_event_that_cannot_be_taken_in_stops_the_view_before_it_and_nothing_else() {
    let store = Shared::new();
    let mut engine = with::<1, INLINE>(&store);
    book(&mut engine, "v-1", "d-1", 10);
    let bad = Event::Booked { doctor: "d-1".into(), minutes: 13 };
    let done = engine.execute::<Visit>("v-2", &bad, CommandOptions::default()).expect("it is done");
    assert_eq!(done.behind, [("agenda".into(), "bad luck".into())]);
    let position = done.commit.expect("an event").last_position();
    book(&mut engine, "v-3", "d-1", 10);

    // What is there is shown, and that it is not all is said.
    assert_eq!(day_of::<Inline>(&mut engine, "d-1", ViewAt::Reached), Some((10, 1)));
    let status = engine.view_status::<Inline>(ViewAt::Reached).expect("it answers");
    assert_eq!(status.stopped.expect("it has stopped").position, position);
    let error = engine.document::<Inline>("d-1", ViewAt::Now).expect_err("it has stopped");
    let Error::Read(ReadError::ProjectionStopped { reason, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(&**reason, "bad luck");

    // Events before it in the same page have been taken in, by another engine too.
    let mut again = with::<1, INLINE>(&store);
    let error = again.document::<Inline>("d-1", ViewAt::Now).expect_err("it stops again");
    assert!(matches!(error, Error::Read(ReadError::ProjectionStopped { .. })), "{error}");
    assert_eq!(day_of::<Inline>(&mut again, "d-1", ViewAt::Reached), Some((10, 1)));
}

/// The visits of a release that knows one more event, in which the older says nothing.
struct NewerVisit;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum NewerEvent {
    Booked { doctor: String, minutes: u32 },
    Moved { doctor: String },
    Noted {},
    Cancelled {},
}

impl Aggregate for NewerVisit {
    const TYPE: &'static str = "Visit";
    type State = ();
    type Command = NewerEvent;
    type Event = NewerEvent;
    type Refusal = ();

    fn initial() {}

    fn decide(_: &(), command: &NewerEvent, _: &Context<'_>) -> Result<Vec<NewerEvent>, ()> {
        Ok(vec![command.clone()])
    }

    fn evolve(_: (), _: &NewerEvent) {}
}

/// Who has how many visits booked. `K` is the kind, `S` whether unknown types are skipped.
struct Booked<const K: u8, const S: bool>;

#[derive(Deserialize)]
enum OnlyBooked {
    Booked { doctor: String },
}

impl<const K: u8, const S: bool> Projection for Booked<K, S> {
    const NAME: &'static str = "booked";
    const VERSION: u32 = 1;
    const KIND: ViewKind = <Agenda<1, K> as Projection>::KIND;
    const UNKNOWN_EVENTS: UnknownEvents =
        if S { UnknownEvents::Skip(&["Visit"]) } else { UnknownEvents::Fail(&["Visit"]) };
    type Event = OnlyBooked;
    type Document = u32;

    fn project(
        view: &mut View<'_, u32>,
        OnlyBooked::Booked { doctor }: OnlyBooked,
        _: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        view.update(&doctor, |visits| *visits += 1)
    }
}

/// A store in which the fifth event, the third of v-1, is of a type that only a newer release knows.
fn half_known() -> Shared {
    let store = Shared::new();
    let config = Config::new([4; 32], vec![AggregateDefinition::native::<NewerVisit>()]);
    let mut newer = Annals::new(config, store.clone(), Ticking::default()).expect("it is fine");
    let booked = || NewerEvent::Booked { doctor: "d-1".into(), minutes: 10 };
    let moved = NewerEvent::Moved { doctor: "d-2".into() };
    let events = [
        ("v-1", booked()),
        ("v-2", booked()),
        ("v-1", NewerEvent::Noted {}),
        ("v-2", moved),
        ("v-1", NewerEvent::Cancelled {}),
        ("v-3", booked()),
    ];
    for (id, event) in events {
        newer.execute::<NewerVisit>(id, &event, CommandOptions::default()).expect("it is done");
    }
    store
}

const PAST: ViewAt = ViewAt::Past(LogEnd::Position(Position(6)));

#[test]
fn an_event_of_a_type_that_the_aggregate_does_not_know_stops_the_view_if_it_is_to_fail() {
    fn check<const K: u8>() {
        let mut engine =
            engine(&half_known(), vec![ProjectionDefinition::native::<Booked<K, false>>()]);
        for at in [ViewAt::Now, PAST] {
            let Err(Error::Read(ReadError::ProjectionStopped { position, reason, .. })) =
                engine.document::<Booked<K, false>>("d-1", at)
            else {
                panic!("it has stopped")
            };
            assert_eq!(position, Position(5));
            assert_eq!(&*reason, "event 3 of Visit/v-1 can't be read: Cancelled: unknown type");
        }
        let before = ViewAt::Past(LogEnd::Position(Position(4)));
        assert_eq!(engine.document::<Booked<K, false>>("d-1", before), Ok(Some(2)));
        let status = engine.view_status::<Booked<K, false>>(ViewAt::Reached).expect("it answers");
        assert_eq!((status.reached, status.skipped), (Position(4), 0));
        assert_eq!(status.stopped.expect("it has stopped").position, Position(5));
    }
    check::<LIVE>();
    check::<INLINE>();
    check::<ASYNC>();
}

#[test]
fn events_of_types_that_the_aggregate_does_not_know_are_passed_by_and_counted_if_they_are_to_be_skipped()
 {
    fn check<const K: u8>() {
        let store = half_known();
        let definitions = || vec![ProjectionDefinition::native::<Booked<K, true>>()];
        let mut first = engine(&store, definitions());
        assert_eq!(first.document::<Booked<K, true>>("d-1", ViewAt::Now), Ok(Some(3)));
        let skipped = SkippedEvents {
            stream: StreamId::new("Visit", "v-1"),
            revision: Revision(3),
            event_type: "Cancelled".into(),
            count: 1,
        };
        let told = first.take_reports();
        assert_eq!(told, [Report::Skipped(skipped)]);
        for (at, expected) in
            [(ViewAt::Reached, 1), (PAST, 1), (ViewAt::Past(LogEnd::Position(Position(4))), 0)]
        {
            let status = first.view_status::<Booked<K, true>>(at).expect("it answers");
            assert_eq!((status.skipped, status.stopped), (expected, None));
        }
        // The number is kept with how far the view has come.
        let mut again = engine(&store, definitions());
        let status = again.view_status::<Booked<K, true>>(ViewAt::Now).expect("it answers");
        assert_eq!(status.skipped, 1);
    }
    check::<LIVE>();
    check::<INLINE>();
    check::<ASYNC>();
}

#[test]
fn a_projection_names_aggregates_whose_types_the_engine_knows() {
    for aggregates in [vec![], vec![AggregateDefinition::hosted("Visit")]] {
        let mut config = Config::new([3; 32], aggregates);
        config.projections = vec![ProjectionDefinition::native::<Booked<LIVE, true>>()];
        let error = Annals::new(config, Shared::new(), Ticking::default()).err();
        let (projection, aggregate) = ("booked".into(), "Visit".into());
        assert_eq!(error, Some(ApiMisuse::TypesNotKnown { projection, aggregate }));
    }
}

#[test]
fn a_stopped_view_goes_on_when_it_is_resumed() {
    thread_local!(static FAILS: Cell<bool> = const { Cell::new(true) });
    struct Moody;
    impl Projection for Moody {
        const NAME: &'static str = "moody";
        const VERSION: u32 = 1;
        const KIND: ViewKind = ViewKind::Async;
        type Event = Booking;
        type Document = u32;
        fn project(
            view: &mut View<'_, u32>,
            _: Booking,
            _: &EventContext<'_>,
        ) -> Result<(), ProjectError> {
            if FAILS.get() {
                return Err(ProjectError::new("not today"));
            }
            view.update("count", |count| *count += 1)
        }
    }
    let mut engine = engine(&Shared::new(), vec![ProjectionDefinition::native::<Moody>()]);
    book(&mut engine, "v-1", "d-1", 10);
    engine.document::<Moody>("count", ViewAt::Now).expect_err("it has stopped");
    FAILS.set(false);
    engine.resume_view::<Moody>().expect("always allowed");
    assert_eq!(engine.document::<Moody>("count", ViewAt::Now).expect("it goes on"), Some(1));
}

#[test]
fn a_paused_view_takes_nothing_in_and_says_so() {
    let mut engine = with::<1, INLINE>(&Shared::new());
    book(&mut engine, "v-1", "d-1", 10);
    engine.pause_view::<Inline>().expect("always allowed");
    let event = Event::Booked { doctor: "d-1".into(), minutes: 5 };
    let done = engine.execute::<Visit>("v-2", &event, CommandOptions::default()).expect("done");
    assert_eq!(done.behind, [("agenda".into(), "it is paused".into())]);
    assert_eq!(day_of::<Inline>(&mut engine, "d-1", ViewAt::Reached), Some((10, 1)));
    assert!(engine.view_status::<Inline>(ViewAt::Reached).expect("it answers").paused);
    engine.resume_view::<Inline>().expect("always allowed");
    assert_eq!(day_of::<Inline>(&mut engine, "d-1", ViewAt::Now), Some((15, 2)));
}

#[test]
fn documents_and_checkpoint_are_saved_together_from_where_the_view_was() {
    let store = Shared::new();
    let mut engine = with::<1, ASYNC>(&store);
    for number in 0..4 {
        book(&mut engine, &format!("v-{number}"), "d-1", 10);
        engine.view_status::<Async>(ViewAt::Now).expect("it answers");
    }
    let mut reached = 0;
    for save in store.saves.borrow().iter() {
        let [expected] = &save.expected[..] else { panic!("one expectation") };
        assert_eq!(expected.revision, reached);
        let checkpoint = save.documents.iter().find(|d| d.name == expected.name);
        reached = checkpoint.expect("the checkpoint goes with them").revision;
        assert!(save.documents.len() > 1);
    }
    assert_eq!(reached, 4);
}

#[test]
fn of_two_engines_one_takes_an_event_in_and_the_other_goes_on_from_there() {
    let store = Shared::new();
    let mut first = with::<1, ASYNC>(&store);
    let mut second = with::<1, ASYNC>(&store);
    let position = book(&mut first, "v-1", "d-1", 10);
    assert_eq!(day_of::<Async>(&mut second, "d-1", ViewAt::Now), Some((10, 1)));
    // The second is about to save what comes after, and the first is faster.
    book(&mut first, "v-2", "d-1", 20);
    first.view_status::<Async>(ViewAt::Now).expect("it answers");
    book(&mut first, "v-3", "d-2", 30);
    let faster = Rc::new(RefCell::new(first));
    let hook = Rc::clone(&faster);
    *store.before_save.borrow_mut() = Some(Box::new(move || {
        hook.borrow_mut().view_status::<Async>(ViewAt::Now).expect("it answers");
    }));
    assert_eq!(day_of::<Async>(&mut second, "d-2", ViewAt::Now), Some((30, 1)));
    assert_eq!(day_of::<Async>(&mut second, "d-1", ViewAt::After(position)), Some((30, 2)));
    drop(faster);
}

#[test]
fn a_new_version_is_built_beside_the_old_one_which_is_shown_until_then() {
    let store = Shared::new();
    let mut old = with::<1, ASYNC>(&store);
    for number in 0..10 {
        book(&mut old, &format!("v-{number}"), "d-1", 10);
    }
    assert_eq!(day_of::<Async>(&mut old, "d-1", ViewAt::Now), Some((100, 10)));

    let mut new = with::<2, ASYNC>(&store);
    new.pause_view::<Agenda<2, ASYNC>>().expect("always allowed");
    let status = new.view_status::<Agenda<2, ASYNC>>(ViewAt::Reached).expect("it answers");
    assert_eq!((status.version, status.building), (1, true));
    assert_eq!(day_of::<Agenda<2, ASYNC>>(&mut new, "d-1", ViewAt::Reached), Some((100, 10)));
    new.resume_view::<Agenda<2, ASYNC>>().expect("always allowed");
    assert_eq!(day_of::<Agenda<2, ASYNC>>(&mut new, "d-1", ViewAt::Now), Some((200, 10)));
    let status = new.view_status::<Agenda<2, ASYNC>>(ViewAt::Reached).expect("it answers");
    assert_eq!((status.version, status.building), (2, false));

    // Who runs the old release still has its view.
    book(&mut old, "v-10", "d-1", 10);
    assert_eq!(day_of::<Async>(&mut old, "d-1", ViewAt::Now), Some((110, 11)));
    // The next engine of the new release clears it away with what it saves, …
    let mut next = with::<2, ASYNC>(&store);
    assert_eq!(day_of::<Agenda<2, ASYNC>>(&mut next, "d-1", ViewAt::Now), Some((220, 11)));
    let cleared = |store: &Shared| {
        store.saves.borrow().last().is_some_and(|save| save.clear.contains(&"view/1/agenda".into()))
    };
    assert!(cleared(&store));
    // … and who still runs the old one makes it anew.
    book(&mut old, "v-11", "d-1", 10);
    assert_eq!(day_of::<Async>(&mut old, "d-1", ViewAt::Now), Some((120, 12)));
}

#[test]
fn a_view_that_is_being_built_is_given_up_for_all_until_somebody_is_told_to_go_on() {
    type Next = Agenda<2, ASYNC>;
    let store = Shared::new();
    let mut old = with::<1, ASYNC>(&store);
    for number in 0..30 {
        book(&mut old, &format!("v-{number}"), "d-1", 10);
    }
    assert_eq!(day_of::<Async>(&mut old, "d-1", ViewAt::Now), Some((300, 30)));

    let mut new = with::<2, ASYNC>(&store);
    let before = store.saves.borrow().len();
    while store.saves.borrow().len() == before {
        new.state::<Visit>("v-1", annals::protocol::ReadAt::Now).expect("it answers");
    }
    let status = new.cancel_view::<Next>().expect("the store does it");
    assert_eq!((status.version, status.building, status.reached), (1, true, Position(0)));
    assert_eq!(status.stopped.map(|stop| stop.position), Some(Position(0)));
    // All that is left is the word that nobody goes on.
    let save = Arc::clone(store.saves.borrow().last().expect("it was saved"));
    assert_eq!((&*save.clear, save.documents.len()), (&["view/2/agenda".into()][..], 1));
    // The old one is shown as before, and questions for the new one are told.
    assert_eq!(day_of::<Next>(&mut new, "d-1", ViewAt::Reached), Some((300, 30)));
    let told = new.document::<Next>("d-1", ViewAt::Now);
    assert!(matches!(told, Err(Error::Read(ReadError::ProjectionStopped { .. }))), "{told:?}");

    // Who comes later does not begin it again by himself, whatever happens.
    let clock = Ticking::default();
    let mut config = Config::new([4; 32], vec![AggregateDefinition::native::<Visit>()]);
    config.projections = vec![ProjectionDefinition::native::<Next>()];
    let mut later = Annals::new(config, store.clone(), clock.clone()).expect("it is fine");
    book(&mut later, "v-30", "d-1", 10);
    clock.0.set(clock.0.get() + 5_000);
    let status = later.view_status::<Next>(ViewAt::Reached).expect("it answers");
    assert_eq!((status.version, status.stopped.is_some()), (1, true));
    assert_eq!(later.cancel_view::<Next>().expect("it is already"), status);
    assert!(Arc::ptr_eq(&save, store.saves.borrow().last().expect("it was saved")));

    // It is built when one is told to, and the other finds it.
    new.resume_view::<Next>().expect("always allowed");
    assert_eq!(day_of::<Next>(&mut new, "d-1", ViewAt::Now), Some((620, 31)));
    clock.0.set(clock.0.get() + 5_000);
    later.view_status::<Next>(ViewAt::Reached).expect("it looks");
    let status = later.view_status::<Next>(ViewAt::Reached).expect("it answers");
    assert_eq!((status.version, status.building, status.stopped), (2, false, None));

    // One that has been built is left as it is.
    let status = new.cancel_view::<Next>().expect("there is nothing to do");
    assert_eq!((status.version, status.stopped), (2, None));
    assert_eq!(day_of::<Next>(&mut new, "d-1", ViewAt::Now), Some((620, 31)));
}

#[test]
fn a_view_that_is_being_built_goes_on_where_it_was_when_it_is_opened_again() {
    let store = Shared::new();
    let mut writer = engine(&store, Vec::new());
    for number in 0..30 {
        book(&mut writer, &format!("v-{number}"), "d-1", 10);
    }
    let mut builder = with::<1, ASYNC>(&store);
    // One page is saved, then the engine ends.
    while store.saves.borrow().is_empty() {
        builder.state::<Visit>("v-1", annals::protocol::ReadAt::Now).expect("it answers");
    }
    drop(builder);
    let first = store.saves.borrow().len();
    let mut again = with::<1, ASYNC>(&store);
    assert_eq!(day_of::<Async>(&mut again, "d-1", ViewAt::Now), Some((300, 30)));
    let saves = store.saves.borrow();
    assert_eq!(
        saves[first].expected[0].revision,
        saves[first - 1].documents.last().map_or(0, |d| d.revision)
    );
}

#[test]
fn views_are_shown_as_they_were_at_a_position_or_a_time() {
    fn check<const K: u8>() {
        let mut engine = with::<1, K>(&Shared::new());
        let mut positions = Vec::new();
        for number in 1..=5 {
            positions.push(book(&mut engine, &format!("v-{number}"), "d-1", 10));
        }
        for (number, position) in (1..).zip(&positions) {
            let past = ViewAt::Past(LogEnd::Position(*position));
            let day = day_of::<Agenda<1, K>>(&mut engine, "d-1", past);
            assert_eq!(day, Some((10 * number, number as usize)));
        }
        let beyond = ViewAt::Past(LogEnd::Position(Position(6)));
        let error = engine.document::<Agenda<1, K>>("d-1", beyond).expect_err("there are five");
        assert!(matches!(error, Error::Read(ReadError::NoSuchPosition { .. })), "{error}");
        let past = ViewAt::Past(LogEnd::Position(Position(0)));
        assert_eq!(day_of::<Agenda<1, K>>(&mut engine, "d-1", past), None);
        let long_ago = ViewAt::Past(LogEnd::Time(Timestamp::from_millis(0)));
        assert_eq!(day_of::<Agenda<1, K>>(&mut engine, "d-1", long_ago), None);
        let ever = ViewAt::Past(LogEnd::Time(Timestamp::from_millis(i64::MAX)));
        assert_eq!(day_of::<Agenda<1, K>>(&mut engine, "d-1", ever), Some((50, 5)));
        // Nothing of it is kept.
        let status = engine.view_status::<Agenda<1, K>>(ViewAt::Now).expect("it answers");
        assert_eq!(status.reached, positions[4]);
    }
    check::<LIVE>();
    check::<ASYNC>();
}

#[test]
fn a_store_that_is_full_costs_time_and_loses_nothing() {
    let store = Shared::new();
    let mut engine = with::<1, INLINE>(&store);
    book(&mut engine, "v-1", "d-1", 10);
    store.full.set(1);
    let event = Event::Booked { doctor: "d-1".into(), minutes: 5 };
    let done = engine.execute::<Visit>("v-2", &event, CommandOptions::default()).expect("done");
    let [(name, reason)] = &done.behind[..] else { panic!("one view is behind") };
    assert!(&**name == "agenda" && reason.contains("the disk is full"), "{reason}");
    assert_eq!(day_of::<Inline>(&mut engine, "d-1", ViewAt::Now), Some((15, 2)));
    let event = Event::Booked { doctor: "d-1".into(), minutes: 5 };
    let done = engine.execute::<Visit>("v-3", &event, CommandOptions::default()).expect("done");
    assert_eq!(done.behind, []);
}

#[test]
fn a_restored_store_gives_the_view_it_has() {
    let store = Shared::new();
    let mut engine = with::<1, ASYNC>(&store);
    book(&mut engine, "v-1", "d-1", 10);
    engine.view_status::<Async>(ViewAt::Now).expect("it answers");
    let copy = store.store.borrow().clone();
    book(&mut engine, "v-2", "d-1", 10);
    assert_eq!(day_of::<Async>(&mut engine, "d-1", ViewAt::Now), Some((20, 2)));
    *store.store.borrow_mut() = copy;
    store.store.borrow_mut().set_epoch("store-2");
    let error = engine.document::<Async>("d-1", ViewAt::Now).expect_err("it is another store");
    assert!(error.to_string().contains("replaced"), "{error}");
    assert_eq!(day_of::<Async>(&mut engine, "d-1", ViewAt::Now), Some((10, 1)));
}

#[test]
fn a_checkpoint_beyond_the_end_of_the_log_stops_the_view() {
    let store = Shared::new();
    let mut engine = with::<1, ASYNC>(&store);
    book(&mut engine, "v-1", "d-1", 10);
    engine.view_status::<Async>(ViewAt::Now).expect("it answers");
    // The documents come from another store than the log.
    let save = Arc::clone(store.saves.borrow().last().expect("the view was saved"));
    let other = Shared::of(MemoryStore::new("store-2"));
    let save = SaveDocuments { expected: Vec::new(), ..(*save).clone() };
    let request = StorageRequest {
        id: annals::protocol::RequestId(1),
        attempt: 1,
        deadline: Timestamp::from_millis(0),
        epoch: None,
        body: StorageBody::SaveDocuments(Arc::new(save)),
    };
    other.clone().call(&request).expect("it is kept");
    let mut engine = with::<1, ASYNC>(&other);
    let error = engine.document::<Async>("d-1", ViewAt::Now).expect_err("it has stopped");
    assert!(error.to_string().contains("beyond the log's end"), "{error}");
}

#[test]
fn an_engine_clears_an_older_version_away_once_though_it_is_still_run() {
    type New = Agenda<2, ASYNC>;
    let store = Shared::new();
    let mut old = with::<1, ASYNC>(&store);
    let mut first = with::<2, ASYNC>(&store);
    book(&mut old, "v-0", "d-1", 10);
    old.view_status::<Async>(ViewAt::Now).expect("it answers");
    first.view_status::<New>(ViewAt::Now).expect("it answers");
    // Of two of the new release now one is faster and now the other, so both look again at what is
    // there.
    let mut newer = [with::<2, ASYNC>(&store), with::<2, ASYNC>(&store)];
    for number in 1..=12 {
        book(&mut old, &format!("v-{number}"), "d-1", 10);
        let day = day_of::<Async>(&mut old, "d-1", ViewAt::Now);
        assert_eq!(day, Some((10 * (number + 1), number as usize + 1)));
        newer.reverse();
        for engine in &mut newer {
            engine.view_status::<New>(ViewAt::Now).expect("it answers");
        }
    }
    let saves = store.saves.borrow();
    let clears = saves.iter().filter(|save| save.clear.contains(&"view/1/agenda".into()));
    // The old release clears what may be left when it makes its view anew.
    let by_the_new = clears.filter(|save| save.expected[0].name.key.ends_with(",2]")).count();
    assert!((1..=newer.len()).contains(&by_the_new), "{by_the_new} times");
}

#[test]
fn a_view_of_the_past_is_of_the_position_that_is_asked() {
    let mut engine = with::<1, ASYNC>(&Shared::new());
    let first = book(&mut engine, "v-1", "d-1", 10);
    // What the view does not want is none of its positions either.
    let asked = give(&mut engine, "v-1", &Event::Noted {});
    give(&mut engine, "v-1", &Event::Noted {});
    for position in [first, asked] {
        let past = ViewAt::Past(LogEnd::Position(position));
        let found = engine.documents::<Async>(ViewScan::by_key(), past).expect("it answers");
        assert_eq!((found.position, found.documents.len()), (position, 2));
    }
}

#[test]
fn a_document_that_cannot_be_kept_stops_the_view_before_the_event_that_has_written_it() {
    struct Odd;
    impl Projection for Odd {
        const NAME: &'static str = "odd";
        const VERSION: u32 = 1;
        const KIND: ViewKind = ViewKind::Async;
        type Event = Booking;
        type Document = u32;
        fn project(
            view: &mut View<'_, u32>,
            event: Booking,
            context: &EventContext<'_>,
        ) -> Result<(), ProjectError> {
            if let Booking::Booked { minutes, .. } = event {
                view.set(&context.stream.aggregate_id, minutes);
            }
            Ok(())
        }
        fn index(minutes: &u32) -> Vec<IndexEntry> {
            if *minutes > 20 { vec![IndexEntry::new("nowhere", 1)] } else { Vec::new() }
        }
    }
    let store = Shared::new();
    let mut writer = engine(&store, Vec::new());
    let positions =
        [10, 20, 30].map(|minutes| book(&mut writer, &format!("v-{minutes}"), "d-1", minutes));
    let mut engine = engine(&store, vec![ProjectionDefinition::native::<Odd>()]);
    engine.document::<Odd>("v-10", ViewAt::Now).expect_err("it has stopped");
    let stopped = engine.view_status::<Odd>(ViewAt::Reached).expect("it answers").stopped;
    assert_eq!(stopped.map(|stop| stop.position), Some(positions[2]));
}

#[test]
fn what_changes_nothing_is_not_read_for_ever_by_those_who_come_after() {
    let store = Shared::new();
    let mut engine = with::<1, ASYNC>(&store);
    book(&mut engine, "v-1", "d-1", 10);
    engine.view_status::<Async>(ViewAt::Now).expect("it answers");
    let saves = store.saves.borrow().len();
    // 16 pages of three events.
    for number in 1..=3 * 16 {
        assert_eq!(store.saves.borrow().len(), saves, "after {number} events");
        give(&mut engine, "v-1", &Event::Noted {});
        engine.view_status::<Async>(ViewAt::Now).expect("it answers");
    }
    let saves = store.saves.borrow();
    let [checkpoint] = &saves.last().expect("it was saved").documents[..] else {
        panic!("the checkpoint alone")
    };
    assert_eq!(checkpoint.revision, 1 + 3 * 16);
}

/// One fold, kept in each way.
struct Kept<const K: u8>;

impl<const K: u8> Projection for Kept<K> {
    const NAME: &'static str = match K {
        LIVE => "live",
        INLINE => "inline",
        _ => "async",
    };
    const VERSION: u32 = 1;
    const KIND: ViewKind = Agenda::<1, K>::KIND;
    type Event = Booking;
    type Document = Entry;

    fn project(
        view: &mut View<'_, Entry>,
        event: Booking,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        Agenda::<1, K>::project(view, event, context)
    }

    const INDEXES: &'static [&'static str] = &["minutes"];

    fn index(document: &Entry) -> Vec<IndexEntry> {
        Agenda::<1, K>::index(document)
    }
}

#[test]
fn live_inline_and_async_views_are_the_same_after_each_of_random_commands() {
    fn documents<const K: u8>(
        engine: &mut Engine,
        scan: &ViewScan,
        at: ViewAt,
    ) -> Vec<(String, Entry)> {
        let found = engine.documents::<Kept<K>>(scan.clone(), at).expect("the view answers");
        found.documents.into_iter().map(|l| (l.place.key.to_string(), l.document)).collect()
    }
    let mut seen = 0;
    for seed in 1..=150 {
        let mut luck = Luck(seed * 0x9e37_79b9);
        let store = Shared::new();
        let mut engines = [1, 2].map(|number| {
            let mut config =
                Config::new([number; 32], vec![AggregateDefinition::native::<Visit>()]);
            config.projections = vec![
                ProjectionDefinition::native::<Kept<LIVE>>(),
                ProjectionDefinition::native::<Kept<INLINE>>(),
                ProjectionDefinition::native::<Kept<ASYNC>>(),
            ];
            config.page_limit = 1 + luck.below(5) as u32;
            Annals::new(config, store.clone(), Ticking::default()).expect("it is fine")
        });
        let mut booked = BTreeSet::new();
        for step in 0..25 {
            let (writer, reader) = (luck.below(2) as usize, luck.below(2) as usize);
            let mut last = None;
            for _ in 0..luck.below(4) {
                let visit = luck.below(5);
                let (id, doctor) = (format!("v-{visit}"), format!("d-{}", luck.below(3)));
                let event = match luck.below(6) {
                    0..3 if booked.contains(&visit) => Event::Moved { doctor },
                    3 => Event::Noted {},
                    _ => Event::Booked { doctor, minutes: 20 + luck.below(40) as u32 },
                };
                if matches!(event, Event::Booked { .. }) {
                    booked.insert(visit);
                }
                last = Some(give(&mut engines[writer], &id, &event));
            }
            // Whoever has the outcome finds it in the inline view, in whatever engine.
            let reached = last.map_or(ViewAt::Now, |_| ViewAt::Reached);
            let (engine, place) = (&mut engines[reader], (seed, step));
            let by_minutes = ViewScan { descending: true, ..ViewScan::by_index("minutes") };
            for scan in [ViewScan::by_key(), by_minutes] {
                let live = documents::<LIVE>(engine, &scan, ViewAt::Now);
                assert_eq!(documents::<INLINE>(engine, &scan, reached), live, "{place:?}");
                assert_eq!(documents::<ASYNC>(engine, &scan, ViewAt::Now), live, "{place:?}");
                seen += live.len();
            }
            if let Some(position) = last {
                let past = ViewAt::Past(LogEnd::Position(Position(1 + luck.below(position.0))));
                let live = documents::<LIVE>(engine, &ViewScan::by_key(), past);
                assert_eq!(documents::<INLINE>(engine, &ViewScan::by_key(), past), live);
                assert_eq!(documents::<ASYNC>(engine, &ViewScan::by_key(), past), live);
            }
        }
    }
    assert!(seen > 10_000, "{seen} documents were compared");
}
