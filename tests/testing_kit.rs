//! The kit for tests of a domain: it lets a right domain pass, and finds every planted mistake.

use std::cell::Cell;
use std::time::Duration;

use annals::testing::{Case, Given, assert_round_trip, given};
use annals::{Aggregate, Context, Query, QueryItem, Tag, Timestamp, Upcasters};
use serde::{Deserialize, Serialize};

#[path = "support/failure.rs"]
mod failure;

use failure::{fails, failure};

// --- A right domain ------------------------------------------------------------------------------

/// A shelf that holds three books at most. What another shelf has, it does not take.
struct Shelf;

#[derive(Serialize, Deserialize)]
enum Command {
    Put { book: String },
    Lend { book: String },
    Clear,
}

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Put { book: String, at: String },
    Lent { book: String },
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Refusal {
    Full { most: usize },
    NotHere,
    HasIt { shelf: String },
}

impl Aggregate for Shelf {
    const TYPE: &'static str = "Shelf";
    type State = Vec<String>;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> Vec<String> {
        Vec::new()
    }

    fn decide(
        state: &Vec<String>,
        command: &Command,
        context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Put { .. } if state.len() == 3 => Err(Refusal::Full { most: 3 }),
            Command::Put { book } => {
                let last = context.others.last();
                if let Some(other) = last.filter(|other| other.event_type == "Put") {
                    let shelf = format!("{}@{}", other.stream, other.revision);
                    return Err(Refusal::HasIt { shelf });
                }
                let at = context.issued_at.to_string();
                Ok(vec![Event::Put { book: book.clone(), at }])
            }
            Command::Lend { book } if state.contains(book) => {
                Ok(vec![Event::Lent { book: book.clone() }])
            }
            Command::Lend { .. } => Err(Refusal::NotHere),
            Command::Clear => {
                Ok(state.iter().map(|book| Event::Lent { book: book.clone() }).collect())
            }
        }
    }

    fn evolve(mut state: Vec<String>, event: &Event) -> Vec<String> {
        match event {
            Event::Put { book, .. } => state.push(book.clone()),
            Event::Lent { book } => state.retain(|kept| kept != book),
        }
        state
    }

    fn reads(command: &Command, _: &Vec<String>) -> Query {
        match command {
            Command::Put { book } => Query::any_tag([format!("book:{book}")]),
            _ => Query::none(),
        }
    }

    fn tags(event: &Event, before: &Vec<String>) -> Vec<Tag> {
        let (Event::Put { book, .. } | Event::Lent { book }) = event;
        vec![format!("book:{book}").into(), format!("after:{}", before.len()).into()]
    }

    fn upcasters() -> Upcasters<Event> {
        #[derive(Deserialize)]
        struct Put1 {
            book: String,
        }
        #[derive(Serialize)]
        struct Put2 {
            book: String,
            at: String,
        }
        #[derive(Deserialize)]
        struct Swapped {
            from: String,
            to: String,
        }
        Upcasters::none()
            .upcast("Put", 1, |old: Put1| Put2 { book: old.book, at: START.into() })
            .becomes("Swapped", 1, |old: Swapped| [lent(&old.from), put(&old.to)])
            .becomes_nothing("Dusted", 1)
    }
}

const START: &str = "2026-01-01T00:00:00.000Z";

fn put(book: &str) -> Event {
    put_at(book, START)
}

fn put_at(book: &str, at: &str) -> Event {
    Event::Put { book: book.into(), at: at.into() }
}

fn lent(book: &str) -> Event {
    Event::Lent { book: book.into() }
}

fn to_put(book: &str) -> Command {
    Command::Put { book: book.into() }
}

fn to_lend(book: &str) -> Command {
    Command::Lend { book: book.into() }
}

fn books(books: &[&str]) -> Vec<String> {
    books.iter().map(ToString::to_string).collect()
}

#[test]
fn a_command_gives_its_events_their_state_their_tags_and_what_it_read() {
    given::<Shelf>([])
        .when(to_put("Emma"))
        .then([put("Emma")])
        .then_state(books(&["Emma"]))
        .then_tags([["after:0", "book:Emma"]])
        .then_reads(Query::any_tag(["book:Emma"]));
    given::<Shelf>([put("Emma"), put("Dune")])
        .then_state(books(&["Emma", "Dune"]))
        .when(&Command::Clear)
        .then([lent("Emma"), lent("Dune")])
        .then_tags([["book:Emma", "after:2"], ["book:Dune", "after:1"]])
        .then_reads(Query::none());
    given::<Shelf>([]).when(Command::Clear).then_nothing().then([]).then_state(books(&[]));
}

#[test]
fn each_command_builds_on_what_came_before_it() {
    given::<Shelf>([put("Emma")])
        .when(to_put("Dune"))
        .when(to_put("Ulysses"))
        .then([put("Ulysses")])
        .when(to_put("Faust"))
        .then_refused(Refusal::Full { most: 3 })
        .then_state(books(&["Emma", "Dune", "Ulysses"]))
        .when(to_lend("Dune"))
        .then([lent("Dune")])
        .when(to_lend("Dune"))
        .then_refused(Refusal::NotHere);
}

#[test]
fn events_of_others_are_seen_by_whoever_reads_their_tags() {
    let taken = |shelf: &str| Refusal::HasIt { shelf: shelf.into() };
    let case = given::<Shelf>([put("Dune")]).others("s-2", [put("Faust"), put("Emma")]);
    case.clone().when(to_put("Emma")).then_refused(taken("Shelf/s-2@2"));
    case.clone().when(to_put("Ulysses")).then([put("Ulysses")]);
    case.clone().when(to_put("Dune")).then([put("Dune")]);
    case.clone().others("s-2", [lent("Emma")]).when(to_put("Emma")).then([put("Emma")]);
    case.others_of::<Archive>("a-1", [ArchiveEvent::Filed { book: "Dune".into() }])
        .when(to_put("Dune"))
        .then([put("Dune")])
        .others_of::<Archive>("a-1", [ArchiveEvent::Put { book: "Dune".into() }])
        .when(to_put("Dune"))
        .then_refused(taken("Archive/a-1@2"));
}

#[test]
fn commands_to_others_are_seen_like_their_events() {
    given::<Shelf>([])
        .id("s-1")
        .when(to_put("Emma"))
        .when_other("s-2", to_put("Emma"))
        .then_refused(Refusal::HasIt { shelf: "Shelf/s-1@1".into() })
        .when(to_lend("Emma"))
        .when_other("s-2", to_put("Emma"))
        .then([put("Emma")])
        .then_state(books(&["Emma"]))
        .when(to_lend("Emma"))
        .then_refused(Refusal::NotHere);
}

#[test]
fn the_clock_is_the_test_s_and_stands_still() {
    given::<Shelf>([])
        .when(to_put("Emma"))
        .then([put_at("Emma", START)])
        .advance(Duration::from_secs(3_600))
        .when(to_put("Dune"))
        .then([put_at("Dune", "2026-01-01T01:00:00.000Z")])
        .at("2025-06-01T12:00:00+02:00")
        .when(to_lend("Dune"))
        .when(to_put("Ulysses"))
        .then([put_at("Ulysses", "2025-06-01T10:00:00.000Z")])
        .at(Timestamp::from_millis(0))
        .when(to_lend("Emma"))
        .when(to_put("Faust"))
        .then([put_at("Faust", "1970-01-01T00:00:00.000Z")]);
    let message = failure(|| drop(given::<Shelf>([]).at("2026-11-23T09:00:00")));
    assert!(message.starts_with("expected an ISO 8601 time"), "{message}");
}

/// Has events that a [`Shelf`] may read.
struct Archive;

#[derive(Serialize, Deserialize)]
enum ArchiveEvent {
    Filed { book: String },
    Put { book: String },
}

impl Aggregate for Archive {
    const TYPE: &'static str = "Archive";
    type State = ();
    type Command = ();
    type Event = ArchiveEvent;
    type Refusal = ();

    fn initial() {}
    fn decide((): &(), (): &(), _: &Context<'_>) -> Result<Vec<ArchiveEvent>, ()> {
        Ok(Vec::new())
    }
    fn evolve((): (), _: &ArchiveEvent) {}
    fn tags(event: &ArchiveEvent, (): &()) -> Vec<Tag> {
        let (ArchiveEvent::Filed { book } | ArchiveEvent::Put { book }) = event;
        vec![format!("book:{book}").into()]
    }
}

// --- What a failed expectation says ----------------------------------------------------------------

#[test]
fn a_failure_tells_what_was_given_what_was_expected_what_came_and_how_they_differ() {
    let message = failure(|| {
        given::<Shelf>([put("Emma")])
            .id("s-1")
            .others("s-2", [lent("Faust")])
            .at("2026-11-23T08:00:00Z")
            .when(to_lend("Emma"))
            .then([lent("Emma")])
            .when_other("s-2", to_put("Dune"))
            .then([put("Dune")]);
    });
    assert_eq!(
        message,
        r#"expected other data of Put

given Shelf s-1
      Put {"book":"Emma","at":"2026-01-01T00:00:00.000Z"}
given Shelf s-2
      Lent {"book":"Faust"}
at    2026-11-23T08:00:00.000Z
when  Lend {"book":"Emma"}
then  Lent {"book":"Emma"}
when  Put {"book":"Dune"}, given to s-2
then  (- expected, + found)
      Put {
    -   "at": "2026-01-01T00:00:00.000Z",
    +   "at": "2026-11-23T08:00:00.000Z",
        "book": "Dune"
      }"#
    );
    let message = failure(|| drop(given::<Shelf>([]).when(to_lend("Emma")).then([lent("Emma")])));
    assert_eq!(
        message,
        r#"expected Lent, found the refusal not-here

given Shelf
      nothing
when  Lend {"book":"Emma"}
then  (- expected, + found)
    - Lent {
    -   "book": "Emma"
    - }
    + refused not-here {}"#
    );
}

#[test]
fn whatever_is_expected_and_does_not_come_fails() {
    let asked = || given::<Shelf>([]).when(to_put("Emma"));
    let refused = || given::<Shelf>([]).when(to_lend("Emma"));
    let full = given::<Shelf>([put("a"), put("b"), put("c")]).when(to_put("Emma"));
    fails("expected nothing, found Put\n", || drop(asked().then([])));
    fails("expected nothing, found Put\n", || drop(asked().then_nothing()));
    fails("expected Put, Put, found Put\n", || drop(asked().then([put("Emma"), put("Emma")])));
    fails("expected Lent, found Put\n", || drop(asked().then([lent("Emma")])));
    fails("expected other data of Put\n", || drop(asked().then([put("Dune")])));
    fails("expected the refusal not-here, found Put\n", || {
        drop(asked().then_refused(Refusal::NotHere));
    });
    fails("expected the refusal full, found the refusal not-here\n", || {
        drop(refused().then_refused(Refusal::Full { most: 3 }));
    });
    fails("expected other details of the refusal full\n", || {
        drop(full.then_refused(Refusal::Full { most: 4 }));
    });
    fails("expected nothing, found the refusal not-here\n", || drop(refused().then_nothing()));
    fails(r#"expected state[0] to be "Dune", found "Emma""#, || {
        drop(asked().then_state(books(&["Dune"])));
    });
    fails(r#"expected state[0] to be "Dune", found nothing"#, || {
        drop(given::<Shelf>([]).then_state(books(&["Dune"])));
    });
    fails("expected other tags\n", || drop(asked().then_tags([["book:Emma"]])));
    fails("expected other tags\n", || drop(asked().then_tags([[""; 0]; 0])));
    fails("expected the decision to read something else\n", || {
        drop(asked().then_reads(Query::none()));
    });
}

#[test]
fn a_refusal_may_be_expected_by_its_code_alone() {
    let full = given::<Shelf>([put("a"), put("b"), put("c")]).when(to_put("Emma"));
    full.clone().then_refused_as("full").then_refused(Refusal::Full { most: 3 });
    let message = failure(|| drop(full.then_refused_as("not-here")));
    assert!(message.starts_with("expected the refusal not-here, found the refusal full\n"));
    assert!(message.contains("- refused not-here\n    + refused full {"), "{message}");
    fails("expected the refusal full, found Put\n", || {
        drop(given::<Shelf>([]).when(to_put("Emma")).then_refused_as("full"));
    });
}

#[test]
fn a_refusal_that_nobody_expects_is_not_passed_over() {
    let refused = || given::<Shelf>([]).when(to_lend("Emma"));
    fails("nothing expects the refusal not-here\n", || drop(refused().when(to_put("Emma"))));
    fails("nothing expects the refusal not-here\n", || drop(refused().then_state(books(&[]))));
    fails("nothing expects the refusal not-here\n", || drop(refused().then_tags([[""; 0]; 0])));
    refused().then_refused(Refusal::NotHere).when(to_put("Emma")).then([put("Emma")]);
}

#[test]
fn the_one_under_test_is_no_other() {
    fails("s-1 is the one under test", || {
        drop(given::<Shelf>([]).id("s-1").others("s-1", [put("Emma")]));
    });
    fails("s-1 is another one already", || {
        drop(given::<Shelf>([]).others("s-1", [put("Emma")]).id("s-1"));
    });
    fails("id: expected a non-empty aggregate id", || drop(given::<Shelf>([]).id("")));
    fails("the stream: expected a non-empty aggregate id", || {
        drop(given::<Shelf>([]).others("", []));
    });
}

#[test]
fn what_serde_reads_as_it_wrote_it_makes_the_round_trip() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Page {
        number: u32,
        #[serde(skip)]
        note: String,
    }
    assert_round_trip(&Page { number: 1, note: String::new() });
    fails("expected Page { number: 1, note: \"x\" }, found Page { number: 1, note: \"\" }", || {
        assert_round_trip(&Page { number: 1, note: "x".into() });
    });
    fails("NaN can't be read from null", || assert_round_trip(&f64::NAN));
    fails("(1.0, NaN)", || assert_round_trip(&(1.0, f64::NAN)));
}

#[test]
fn what_earlier_releases_have_stored_is_upcast() {
    given::<Shelf>([])
        .stored("Put", 1, r#"{"book":"Emma"}"#)
        .then_upcast([put("Emma")])
        .then_state(books(&["Emma"]))
        .stored("Dusted", 1, "{}")
        .stored("Swapped", 1, r#"{"from":"Emma","to":"Dune"}"#)
        .then_upcast([put("Emma"), lent("Emma"), put("Dune")])
        .then_state(books(&["Dune"]))
        .when(to_lend("Dune"))
        .then([lent("Dune")])
        .then_state(books(&[]));
    given::<Shelf>([put("Faust")])
        .stored("Dusted", 1, "{}")
        .then_upcast([])
        .then_state(books(&["Faust"]));
}

#[test]
fn a_failure_of_what_is_upcast_tells_the_story_and_the_difference() {
    let message = failure(|| {
        drop(given::<Shelf>([]).stored("Put", 1, r#"{"book":"Emma"}"#).then_upcast([lent("Emma")]));
    });
    assert_eq!(
        message,
        r#"expected Lent, found Put

given Shelf
      Put (version 1) {"book":"Emma"}
then  (- expected, + found)
    - Lent {
    + Put {
    +   "at": "2026-01-01T00:00:00.000Z",
        "book": "Emma"
      }"#
    );
    let stored = |name: &str, version: u32, data: &str| {
        drop(given::<Shelf>([]).stored(name, version, data));
    };
    fails("Put: version 3 is later than this release knows\n", || stored("Put", 3, "{}"));
    fails("Bought: unknown type\n", || stored("Bought", 1, "{}"));
    fails("Put: version 1: missing field `book`", || stored("Put", 1, "{}"));
    fails("Put: expected JSON, found an error at byte 0\n", || stored("Put", 1, "Emma"));
}

// --- Planted mistakes --------------------------------------------------------------------------------

/// Keeps numbers; `MISTAKE` says what is wrong with it.
struct Kept<const MISTAKE: u8>;

const NONE: u8 = 0;
const INITIAL_COUNTS: u8 = 1;
const DECIDE_COUNTS: u8 = 2;
const EVOLVE_COUNTS: u8 = 3;
const READS_COUNTS: u8 = 4;
const TAGS_COUNTS: u8 = 5;
const EVENT_FORGETS: u8 = 6;
const EVENT_HAS_NO_NUMBER: u8 = 7;
const EVENT_IS_TOO_LARGE: u8 = 8;
const EVENT_HAS_NO_NAME: u8 = 9;
const TAG_HAS_NO_NAME: u8 = 10;
const READS_ALL: u8 = 11;
const DECIDES_SOMETIMES: u8 = 12;
const READS_WHAT_IS_HIDDEN: u8 = 13;
const UPCASTER_COUNTS: u8 = 14;
const UPCASTERS_HAVE_A_GAP: u8 = 15;

#[derive(Serialize, Deserialize)]
enum Keep {
    Keep {
        number: u64,
        #[serde(skip)]
        hidden: u64,
    },
}

#[derive(Serialize, Deserialize)]
enum Happened {
    Kept {
        number: u64,
        #[serde(skip)]
        hidden: u64,
    },
    Measured {
        value: f64,
    },
    #[serde(rename = "")]
    Nameless {},
}

#[derive(Serialize)]
enum Never {
    No,
}

fn next() -> u64 {
    thread_local!(static CALLS: Cell<u64> = const { Cell::new(0) });
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}

impl<const MISTAKE: u8> Aggregate for Kept<MISTAKE> {
    const TYPE: &'static str = "Kept";
    type State = u64;
    type Command = Keep;
    type Event = Happened;
    type Refusal = Never;

    fn initial() -> u64 {
        if MISTAKE == INITIAL_COUNTS { next() } else { 0 }
    }

    fn decide(_: &u64, command: &Keep, _: &Context<'_>) -> Result<Vec<Happened>, Never> {
        let Keep::Keep { number, hidden } = command;
        let (number, hidden) = (*number + *hidden, 0);
        Ok(vec![match MISTAKE {
            DECIDE_COUNTS => Happened::Kept { number: next(), hidden },
            DECIDES_SOMETIMES if next().is_multiple_of(2) => return Err(Never::No),
            EVENT_FORGETS => Happened::Kept { number, hidden: 1 },
            EVENT_HAS_NO_NUMBER => Happened::Measured { value: f64::NAN },
            EVENT_IS_TOO_LARGE => Happened::Kept { number: 1 << 53, hidden },
            EVENT_HAS_NO_NAME => Happened::Nameless {},
            _ => Happened::Kept { number, hidden },
        }])
    }

    fn evolve(state: u64, event: &Happened) -> u64 {
        match event {
            _ if MISTAKE == EVOLVE_COUNTS => next(),
            Happened::Kept { number, hidden } => state + number + hidden,
            _ => state,
        }
    }

    fn reads(Keep::Keep { hidden, .. }: &Keep, _: &u64) -> Query {
        match MISTAKE {
            READS_WHAT_IS_HIDDEN => Query::any_tag([hidden.to_string()]),
            READS_COUNTS => Query::any_tag([next().to_string()]),
            READS_ALL => Query { items: vec![QueryItem::default()] },
            _ => Query::none(),
        }
    }

    fn tags(_: &Happened, _: &u64) -> Vec<Tag> {
        match MISTAKE {
            TAGS_COUNTS => vec![next().to_string().into()],
            TAG_HAS_NO_NAME => vec!["".into()],
            _ => Vec::new(),
        }
    }

    fn upcasters() -> Upcasters<Happened> {
        #[derive(Serialize, Deserialize)]
        struct Old {}
        let kept = |_: Old| [Happened::Kept { number: next(), hidden: 0 }];
        match MISTAKE {
            UPCASTER_COUNTS => Upcasters::none().becomes("Old", 1, kept),
            UPCASTERS_HAVE_A_GAP => Upcasters::none().upcast("Kept", 2, |old: Old| old),
            _ => Upcasters::none(),
        }
    }
}

fn keeping<const MISTAKE: u8>() {
    drop(given::<Kept<MISTAKE>>([]).when(Keep::Keep { number: 2, hidden: 0 }));
}

#[test]
fn a_planted_mistake_is_found_whatever_the_test_expects() {
    keeping::<NONE>();
    fails("two calls of initial with the same arguments differ: ", keeping::<INITIAL_COUNTS>);
    fails("two calls of decide with the same arguments differ: ", keeping::<DECIDE_COUNTS>);
    fails("two calls of decide with the same arguments differ: ", keeping::<DECIDES_SOMETIMES>);
    fails("two calls of reads with the same arguments differ: ", keeping::<READS_COUNTS>);
    fails(
        "an event is another when it is read from its text: the state is 2 then, and not 3",
        || {
            keeping::<EVENT_FORGETS>();
        },
    );
    fails("Measured: invalid type: null, expected f64", keeping::<EVENT_HAS_NO_NUMBER>);
    fails("Kept: expected integers within 2^53", keeping::<EVENT_IS_TOO_LARGE>);
    fails("an event: expected a non-empty event type", keeping::<EVENT_HAS_NO_NAME>);
    fails("an event: expected a non-empty tag", keeping::<TAG_HAS_NO_NAME>);
    fails("reads: expected a non-empty query item", keeping::<READS_ALL>);
    fails("two calls of evolve with the same arguments differ: ", keeping::<EVOLVE_COUNTS>);
    fails("two calls of tags with the same arguments differ: ", keeping::<TAGS_COUNTS>);
    fails("upcasters of Kept: the first takes version 1", keeping::<UPCASTERS_HAVE_A_GAP>);
    fails("two runs of the upcasters of Old on the same data differ: ", || {
        drop(given::<Kept<UPCASTER_COUNTS>>([]).stored("Old", 1, "{}"));
    });
}

#[test]
fn a_mistake_in_what_has_happened_is_found_where_it_is_given() {
    fn kept<const MISTAKE: u8>(hidden: u64) -> Case<Kept<MISTAKE>, Given> {
        given([Happened::Kept { number: 2, hidden }])
    }
    kept::<NONE>(0).then_state(2);
    fails("two calls of evolve with the same arguments differ: ", || {
        drop(kept::<EVOLVE_COUNTS>(0))
    });
    fails("two calls of tags with the same arguments differ: ", || drop(kept::<TAGS_COUNTS>(0)));
    fails("an event: expected a non-empty tag", || drop(kept::<TAG_HAS_NO_NAME>(0)));
    fails("an event is another when it is read from its text", || drop(kept::<NONE>(1)));
    fails("the command is another when it is read from its text", || {
        drop(kept::<NONE>(0).when(Keep::Keep { number: 1, hidden: 1 }));
    });
    fails("the command is another when it is read from its text: it reads", || {
        drop(kept::<READS_WHAT_IS_HIDDEN>(0).when(Keep::Keep { number: 1, hidden: 1 }));
    });
    fails("the command: expected integers within 2^53", || {
        drop(kept::<NONE>(0).when(Keep::Keep { number: 1 << 53, hidden: 0 }));
    });
}
