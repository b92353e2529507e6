//! Projections folded in memory: by themselves, and by decisions that read events of others.

use std::cell::Cell;
use std::rc::Rc;

use annals::protocol::{
    LogFilter, ScanPlace, StorageAnswer, StorageBody, StorageRequest, ViewAt, ViewScan,
};
use annals::storage::{Annals, Clock, CommandOptions, MemoryStore, StorageAdapter};
use annals::{
    Aggregate, AggregateDefinition, CommandError, Config, Context, EventContext, FoldedView,
    IndexEntry, Metadata, Position, ProjectError, Projection, ProjectionDefinition, Query,
    RecordedEvent, StorageError, Tag, Timestamp, Upcasters, View, ViewKind, fold,
};
use serde::{Deserialize, Serialize};

/// A guest who takes seats. No seat has two guests.
struct Guest;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Taken { seat: u32 },
    Left { seat: u32 },
    Waved,
}

#[derive(Clone, Serialize, Deserialize)]
enum Command {
    Take {
        seat: u32,
    },
    Leave {
        seat: u32,
    },
    Wave,
    /// As if nobody had to look.
    Say {
        events: Vec<Event>,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    SeatTaken(Seat),
}

/// What an earlier release has stored.
#[derive(Serialize, Deserialize)]
struct TakenAt {
    row: u32,
    place: u32,
}

impl Aggregate for Guest {
    const TYPE: &'static str = "Guest";
    type State = ();
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() {}

    fn decide((): &(), command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        Ok(match command {
            Command::Take { seat } => {
                let seats = context.fold::<Seats<INLINE>>();
                if let Some(taken) = seats.get(&key(*seat)) {
                    return Err(Refusal::SeatTaken(taken.clone()));
                }
                vec![Event::Taken { seat: *seat }]
            }
            Command::Leave { seat } => vec![Event::Left { seat: *seat }],
            Command::Wave => vec![Event::Waved],
            Command::Say { events } => events.clone(),
        })
    }

    fn evolve((): (), _: &Event) {}

    fn upcasters() -> Upcasters<Event> {
        Upcasters::none().becomes("TakenAt", 1, |TakenAt { row, place }| {
            [Event::Taken { seat: row * 10 + place }, Event::Waved]
        })
    }

    fn reads(command: &Command, (): &()) -> Query {
        match command {
            Command::Take { .. } => Query::any_tag(["seats"]),
            _ => Query::none(),
        }
    }

    fn tags(_: &Event, (): &()) -> Vec<Tag> {
        vec!["seats".into()]
    }
}

/// By seat: who has it, and how that came.
struct Seats<const K: u8>;

const LIVE: u8 = 0;
const INLINE: u8 = 1;
const ASYNC: u8 = 2;
const ODD: u8 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seat {
    guest: String,
    revision: u64,
    issued_at: String,
    actor: Option<String>,
}

#[derive(Deserialize)]
enum Wanted {
    Taken { seat: u32 },
    Left { seat: u32 },
}

fn key(seat: u32) -> String {
    // Some with characters of every length.
    format!("{}{seat:03}", ["", "é", "\u{ffff}", "😀"][seat as usize % 4])
}

impl<const K: u8> Projection for Seats<K> {
    const NAME: &'static str = "seats";
    const VERSION: u32 = 1;
    const KIND: ViewKind = match K {
        INLINE => ViewKind::Inline,
        ASYNC => ViewKind::Async,
        _ => ViewKind::Live,
    };
    type Event = Wanted;
    type Document = Seat;

    fn project(
        view: &mut View<'_, Seat>,
        event: Wanted,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        match event {
            Wanted::Taken { seat: 13 } => return Err(ProjectError::new("bad luck")),
            Wanted::Taken { seat } => view.set(
                &key(seat),
                Seat {
                    guest: context.stream.aggregate_id.to_string(),
                    revision: context.revision.0,
                    issued_at: context.issued_at.to_string(),
                    actor: context.actor.map(ToOwned::to_owned),
                },
            ),
            Wanted::Left { seat } => {
                if view.get(&key(seat))?.is_some() {
                    view.remove(&key(seat));
                }
            }
        }
        Ok(())
    }

    const INDEXES: &'static [&'static str] = &["guest", "revision"];

    fn index(seat: &Seat) -> Vec<IndexEntry> {
        let index = if K == ODD && seat.guest == "g-7" { "odd" } else { "guest" };
        let revision = u32::try_from(seat.revision).expect("few events");
        vec![IndexEntry::new(index, &*seat.guest), IndexEntry::new("revision", revision)]
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        "2026-11-23T08:00:00.000Z".parse().expect("a time")
    }

    fn sleep(&mut self, _: u64) {}
}

/// Counts appends.
struct Counting(MemoryStore, Rc<Cell<u32>>);

impl StorageAdapter for Counting {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        self.1.set(self.1.get() + u32::from(matches!(request.body, StorageBody::Append(_))));
        self.0.call(request)
    }
}

struct Theatre {
    annals: Annals<Counting, Still>,
    appends: Rc<Cell<u32>>,
}

impl Theatre {
    fn open<P: Projection>() -> Self {
        let mut config = Config::new([7; 32], aggregates());
        config.projections = vec![ProjectionDefinition::native::<P>()];
        let appends = Rc::default();
        let store = Counting(MemoryStore::new("theatre"), Rc::clone(&appends));
        Self { annals: Annals::new(config, store, Still).expect("it is fine"), appends }
    }

    fn give_all(&mut self, commands: &[(String, Command)]) -> Vec<Result<(), CommandError>> {
        let given = commands.iter().map(|(id, command)| {
            let actor = Some(format!("{id} itself").into());
            let metadata = Metadata { actor, ..Metadata::default() };
            (&**id, command, CommandOptions { metadata, ..CommandOptions::default() })
        });
        let results = self.annals.execute_all::<Guest>(given).expect("all can be given");
        results.into_iter().map(|result| result.map(drop)).collect()
    }

    fn give(&mut self, id: &str, command: Command) -> Result<(), CommandError> {
        self.give_all(&[(id.to_owned(), command)]).remove(0)
    }

    fn log(&mut self) -> Vec<RecordedEvent> {
        let page = self.annals.events(Position(0), LogFilter::default(), 10_000);
        page.expect("it can be read").map_or_else(Vec::new, |page| page.events)
    }
}

fn aggregates() -> Vec<AggregateDefinition> {
    vec![AggregateDefinition::native::<Guest>()]
}

fn guest(number: u32) -> String {
    format!("g-{number}")
}

fn keys<P: Projection>(folded: &FoldedView<P>, scan: ViewScan) -> Vec<String> {
    folded.list(scan).map(|(key, _)| key.to_owned()).collect()
}

// --- By themselves -----------------------------------------------------------------------------------

/// Of every kind of range.
fn scans() -> Vec<ViewScan> {
    let guests = || ViewScan::by_index("guest");
    let mut scans = vec![
        ViewScan::by_key(),
        ViewScan::by_key().prefix("é"),
        ViewScan::by_key().prefix("\u{ffff}"),
        guests(),
        guests().equal("g-1"),
        guests().between("g-1", "g-3"),
        guests().prefix("g"),
        ViewScan::by_index("revision"),
        ViewScan::by_index("revision").equal(2),
        ViewScan::by_index("revision").between(1.5, 4),
    ];
    scans.extend(scans.clone().into_iter().map(|scan| ViewScan { descending: true, ..scan }));
    scans
}

fn folded_as_the_view<const K: u8>() {
    let mut theatre = Theatre::open::<Seats<K>>();
    let mut seed = 7_u32;
    let mut random = |bound: u32| {
        seed = seed.wrapping_mul(48_271) % 0x7fff_ffff;
        seed % bound
    };
    for _ in 0..200 {
        let (id, seat) = (guest(random(5)), random(12));
        let command = match random(5) {
            0 => Command::Wave,
            1 => Command::Leave { seat },
            _ => Command::Say { events: vec![Event::Taken { seat }] },
        };
        theatre.give(&id, command).expect("nothing keeps it");
    }
    let folded = fold::<Seats<K>>(&aggregates(), &theatre.log()).expect("all can be taken in");
    assert!(folded.documents().count() > 6);
    for scan in scans() {
        let view = theatre.annals.documents::<Seats<K>>(scan.clone(), ViewAt::Now).expect("read");
        let found: Vec<_> =
            view.documents.into_iter().map(|listed| (listed.place, listed.document)).collect();
        let expected: Vec<_> =
            found.iter().map(|(place, document)| (&*place.key, document)).collect();
        assert!(folded.list(scan.clone()).eq(expected), "{scan:?}");
        assert_eq!(folded.count(scan.clone()), found.len() as u64, "{scan:?}");
        if let Some((ScanPlace { at, key }, _)) = found.first() {
            let after = Some(ScanPlace { at: at.clone(), key: key.clone() });
            let rest = keys(&folded, ViewScan { after, ..scan });
            assert!(rest.iter().eq(found[1..].iter().map(|(place, _)| &*place.key)));
        }
    }
    for seat in 0..12 {
        let found = theatre.annals.document::<Seats<K>>(&key(seat), ViewAt::Now).expect("read");
        assert_eq!(folded.get(&key(seat)), found.as_ref());
    }
}

#[test]
fn what_is_folded_in_memory_is_the_view() {
    folded_as_the_view::<LIVE>();
    folded_as_the_view::<INLINE>();
    folded_as_the_view::<ASYNC>();
}

#[test]
fn all_of_a_range_is_listed() {
    let mut theatre = Theatre::open::<Seats<LIVE>>();
    let events = (100..400).map(|seat| Event::Taken { seat }).collect();
    theatre.give("g-1", Command::Say { events }).expect("nothing keeps it");
    let folded = fold::<Seats<LIVE>>(&[], &theatre.log()).expect("all can be taken in");
    assert_eq!(folded.list(ViewScan::by_key()).count(), 300);
    assert_eq!(folded.list(ViewScan::by_index("guest")).count(), 300);
    assert_eq!(keys(&FoldedView::<Seats<LIVE>>::default(), ViewScan::by_key()), [""; 0]);
}

#[test]
fn what_earlier_releases_have_stored_is_folded_as_it_is_read_today() {
    let mut theatre = Theatre::open::<Seats<LIVE>>();
    theatre.give("g-1", Command::Say { events: vec![Event::Taken { seat: 1 }] }).expect("done");
    let mut old = theatre.log();
    old[0].event_type = "TakenAt".into();
    old[0].data = r#"{"row":4,"place":2}"#.into();
    let folded = fold::<Seats<LIVE>>(&aggregates(), &old).expect("it can be read");
    assert_eq!(keys(&folded, ViewScan::by_key()), [key(42)]);
    old[0].schema_version = 2;
    let error = fold::<Seats<LIVE>>(&aggregates(), &old).expect_err("it is of a later release");
    assert_eq!(
        error.to_string(),
        "projection seats can't take in TakenAt of Guest/g-1@1: TakenAt: version 2 is later than this release knows"
    );
}

#[test]
fn an_event_that_can_not_be_taken_in_is_named() {
    let mut theatre = Theatre::open::<Seats<LIVE>>();
    let taken = |seats: &[u32]| Command::Say {
        events: seats.iter().map(|seat| Event::Taken { seat: *seat }).collect(),
    };
    theatre.give("g-1", taken(&[1])).expect("done");
    theatre.give("g-7", taken(&[1, 2])).expect("done");
    theatre.give("g-2", taken(&[2, 3, 13])).expect("done");
    let log = theatre.log();
    let error = |error: annals::FoldError| error.to_string();
    assert_eq!(
        fold::<Seats<LIVE>>(&aggregates(), &log).map_err(error).expect_err("of bad luck"),
        "projection seats can't take in Taken of Guest/g-2@3: bad luck"
    );
    // Not the event that has written it first, nor the last of all.
    assert_eq!(
        fold::<Seats<ODD>>(&aggregates(), &log[..5]).map_err(error).expect_err("it is odd"),
        r#"projection seats can't take in Taken of Guest/g-7@1: document é001: "odd" is none of the indexes"#
    );
    let mut strange = log[..1].to_vec();
    strange[0].data = "{}".into();
    let found = fold::<Seats<LIVE>>(&aggregates(), &strange).map_err(error).expect_err("no seat");
    assert!(
        found.starts_with("projection seats can't take in Taken of Guest/g-1@1: missing field")
    );
}

#[test]
#[should_panic = r#"projection "seats" has no index "colour""#]
fn an_index_that_is_none_is_a_mistake() {
    let _ = FoldedView::<Seats<LIVE>>::default().count(ViewScan::by_index("colour"));
}

// --- By decisions ------------------------------------------------------------------------------------

#[test]
fn commands_in_one_append_see_what_the_others_take() {
    let mut theatre = Theatre::open::<Seats<LIVE>>();
    let take = |number| (guest(number), Command::Take { seat: 100 + number });
    let all: Vec<_> = (0..64).map(take).collect();
    assert!(theatre.give_all(&all).iter().all(Result::is_ok));
    assert_eq!(theatre.appends.get(), 1);

    // Of two for each seat one is told by whom it is taken, with all that is known of a neighbour.
    let two: Vec<_> = (0..64).map(|n| (guest(n), Command::Take { seat: 200 + n / 2 })).collect();
    let results = theatre.give_all(&two);
    for (n, result) in (0..).zip(&results) {
        match result {
            Ok(()) => assert!(n % 2 == 0, "{n}"),
            Err(CommandError::Refused { details, .. }) => {
                let taken: Seat = serde_json::from_str(details).expect("a seat");
                let guest = guest(n - 1);
                let actor = Some(format!("{guest} itself"));
                let issued_at = Still.now().to_string();
                assert_eq!(taken, Seat { guest, revision: 2, issued_at, actor });
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 32);
}

#[test]
fn a_decision_rests_on_what_the_store_has_and_on_neighbours_alike() {
    let mut theatre = Theatre::open::<Seats<LIVE>>();
    let give = |theatre: &mut Theatre, number, command| theatre.give(&guest(number), command);
    give(&mut theatre, 1, Command::Take { seat: 1 }).expect("it is free");
    give(&mut theatre, 2, Command::Take { seat: 1 }).expect_err("it is taken");
    give(&mut theatre, 1, Command::Leave { seat: 1 }).expect("it is one's own");
    give(&mut theatre, 2, Command::Take { seat: 1 }).expect("it is free again");
    let results = theatre.give_all(&[
        (guest(2), Command::Leave { seat: 1 }),
        (guest(3), Command::Take { seat: 1 }),
        (guest(4), Command::Take { seat: 1 }),
    ]);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn an_event_that_can_not_be_folded_fails_the_command_whatever_the_decision_is() {
    let mut theatre = Theatre::open::<Seats<LIVE>>();
    let unlucky = Command::Say { events: vec![Event::Waved, Event::Taken { seat: 13 }] };
    theatre.give("g-1", unlucky).expect("it does not fold");
    let before = theatre.log();
    // Without documents it would be accepted.
    let error = theatre.give("g-2", Command::Take { seat: 5 }).expect_err("it can't be folded");
    assert_eq!(error.code(), "domain-failed");
    assert_eq!(
        error.to_string(),
        "the domain failed: projection seats can't take in Taken of Guest/g-1@2: bad luck"
    );
    assert_eq!(theatre.log(), before);
    // The others go on.
    theatre.give("g-2", Command::Wave).expect("it does not fold");
    // An event of one's own is none of others.
    theatre.give("g-1", Command::Take { seat: 5 }).expect("it folds nothing");
}
