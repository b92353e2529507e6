//! The kit for tests of projections: it lets a right one pass, and finds every planted mistake.

use std::cell::Cell;
use std::time::Duration;

use annals::testing::{ViewCase, given, given_view};
use annals::{
    Aggregate, Context, EventContext, IndexEntry, ProjectError, Projection, Query, Tag, View,
    ViewKind,
};
use serde::{Deserialize, Serialize};

#[path = "support/failure.rs"]
mod failure;

use failure::{fails, failure};

/// Visits of patients to doctors. No doctor has two visits of one hour.
struct Visit;

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Booked { doctor: String, hour: u32 },
    Moved { doctor: String },
    Noted,
}

#[derive(Serialize, Deserialize)]
enum Command {
    Book { doctor: String, hour: u32 },
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Refusal {
    Taken { by: String, since: String, actor: Option<String> },
}

impl Aggregate for Visit {
    const TYPE: &'static str = "Visit";
    type State = ();
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() {}

    fn decide((): &(), command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        let Command::Book { doctor, hour } = command;
        match context.fold::<Hours<RIGHT>>().get(&format!("{doctor}/{hour}")) {
            Some(Hour { by, since, actor, .. }) => {
                Err(Refusal::Taken { by: by.clone(), since: since.clone(), actor: actor.clone() })
            }
            None => Ok(vec![Event::Booked { doctor: doctor.clone(), hour: *hour }]),
        }
    }

    fn evolve((): (), _: &Event) {}

    fn reads(Command::Book { doctor, .. }: &Command, (): &()) -> Query {
        Query::any_tag([format!("doctor:{doctor}")])
    }

    fn tags(event: &Event, (): &()) -> Vec<Tag> {
        match event {
            Event::Booked { doctor, .. } | Event::Moved { doctor } => {
                vec![format!("doctor:{doctor}").into()]
            }
            Event::Noted => Vec::new(),
        }
    }
}

/// By doctor and hour: which visit it is, since when, and who has booked it. `K` says what kind of view
/// it is, or what is wrong with it.
struct Hours<const K: u8>;

const RIGHT: u8 = 0;
const INLINE: u8 = 1;
const COUNTS: u8 = 2;
const CHANGES_ITS_MIND: u8 = 3;
const HIDES: u8 = 4;
const FORGETS: u8 = 5;
const NOT_READ: u8 = 6;
const INDEXES_WHAT_IS_HIDDEN: u8 = 7;
const UNKNOWN_INDEX: u8 = 8;
const STOPS_IN_PAGES: u8 = 9;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    by: String,
    since: String,
    actor: Option<String>,
    times: u32,
    #[serde(skip)]
    seen: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    only_written: Option<Half>,
}

/// What serde writes of it is not what it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "String")]
struct Half(u32);

impl From<Half> for u32 {
    fn from(Half(half): Half) -> Self {
        half
    }
}

impl TryFrom<String> for Half {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// Not the notes.
#[derive(Deserialize)]
enum Wanted {
    Booked { doctor: String, hour: u32 },
    Moved {},
}

fn next() -> u32 {
    thread_local!(static CALLS: Cell<u32> = const { Cell::new(0) });
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}

impl<const K: u8> Projection for Hours<K> {
    const NAME: &'static str = "hours";
    const VERSION: u32 = 1;
    const KIND: ViewKind = if K == INLINE { ViewKind::Inline } else { ViewKind::Live };
    type Event = Wanted;
    type Document = Hour;

    fn project(
        view: &mut View<'_, Hour>,
        event: Wanted,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let Wanted::Booked { doctor, hour } = event else {
            return Err(ProjectError::new("nobody moves"));
        };
        let key = format!("{doctor}/{hour}");
        let mut document = view.get(&key)?.cloned().unwrap_or_default();
        document.by = context.stream.aggregate_id.to_string();
        document.since = match context.recorded {
            Some((position, recorded_at)) => format!("{position} at {recorded_at}"),
            None => context.issued_at.to_string(),
        };
        document.actor = context.actor.map(ToOwned::to_owned);
        document.times += 1;
        match K {
            COUNTS => document.times = next(),
            CHANGES_ITS_MIND if next().is_multiple_of(2) => {
                return Err(ProjectError::new("not now"));
            }
            HIDES => {
                document.times = document.seen;
                document.seen += 1;
            }
            STOPS_IN_PAGES if document.seen > 0 => return Err(ProjectError::new("seen before")),
            STOPS_IN_PAGES | INDEXES_WHAT_IS_HIDDEN => document.seen = 7,
            NOT_READ => document.only_written = Some(Half(2)),
            _ => {}
        }
        if K == FORGETS && document.times > 1 {
            view.remove(&key);
        } else {
            view.set(&key, document);
        }
        Ok(())
    }

    const INDEXES: &'static [&'static str] = &["by", "times"];

    fn index(hour: &Hour) -> Vec<IndexEntry> {
        let times = if K == INDEXES_WHAT_IS_HIDDEN { hour.seen } else { hour.times };
        let by = if K == UNKNOWN_INDEX { "whose" } else { "by" };
        vec![IndexEntry::new(by, &*hour.by), IndexEntry::new("times", times)]
    }
}

fn booked(doctor: &str, hour: u32) -> Event {
    Event::Booked { doctor: doctor.into(), hour }
}

fn moved() -> Event {
    Event::Moved { doctor: "8".into() }
}

fn hour(by: &str, since: &str) -> Hour {
    Hour { by: by.into(), since: since.into(), times: 1, ..Hour::default() }
}

const START: &str = "2026-01-01T00:00:00.000Z";

/// Two visits.
fn two() -> ViewCase<Hours<INLINE>> {
    given_view()
        .happened::<Visit>("v-1", [booked("7", 9), Event::Noted])
        .happened::<Visit>("v-2", [booked("8", 9)])
}

// --- A right projection ------------------------------------------------------------------------------

#[test]
fn documents_are_found_by_key_and_by_index_and_all_of_them_are_known() {
    given_view::<Hours<INLINE>>().then_documents(Vec::<(&str, Hour)>::new()).then_none("7/9");
    two()
        .then_document("7/9", hour("v-1", START))
        .then_document("8/9", hour("v-2", START))
        .then_none("7/10")
        .then_documents([("8/9", hour("v-2", START)), ("7/9", hour("v-1", START))])
        .then_indexed("by", "v-1", ["7/9"])
        .then_indexed("times", 1, ["7/9", "8/9"])
        .then_indexed("times", 2.5, [""; 0])
        .happened::<Visit>("v-3", [booked("7", 9)])
        .then_document("7/9", Hour { times: 2, ..hour("v-3", START) })
        .then_indexed("times", 2, ["7/9"]);
}

#[test]
fn a_view_in_the_append_is_not_told_when_the_store_has_taken_an_event() {
    let noon = "2026-11-23T12:00:00.000Z";
    let later = "2026-11-23T12:01:00.000Z";
    let by = |actor: &str| Some(actor.to_owned());
    two()
        .at("2026-11-23T13:00:00+01:00")
        .by("reception")
        .happened::<Visit>("v-3", [booked("7", 10)])
        .then_document("7/10", Hour { actor: by("reception"), ..hour("v-3", noon) });
    given_view::<Hours<RIGHT>>()
        .at(noon)
        .happened::<Visit>("v-1", [booked("7", 9)])
        .advance(Duration::from_secs(60))
        .by("nurse")
        .happened::<Visit>("v-1", [booked("7", 10)])
        .then_document("7/9", hour("v-1", &format!("1 at {noon}")))
        .then_document(
            "7/10",
            Hour { actor: by("nurse"), ..hour("v-1", &format!("2 at {later}")) },
        );
    fails("by: expected a non-empty actor", || drop(two().by("")));
}

#[test]
fn a_view_stops_before_what_it_can_not_take_in() {
    two()
        .happened::<Visit>("v-2", [booked("8", 10), moved(), booked("8", 11)])
        .then_stops("nobody")
        .then_none("8/11")
        .then_document("8/10", hour("v-2", START))
        .happened::<Visit>("v-3", [booked("7", 12)])
        .then_none("7/12")
        .then_stops("nobody moves");
}

#[test]
fn tests_may_share_a_beginning() {
    let beginning = two();
    beginning
        .clone()
        .happened::<Visit>("v-3", [booked("7", 10)])
        .then_document("7/10", hour("v-3", START));
    beginning.then_none("7/10");
}

// --- What a failed expectation says ------------------------------------------------------------------

#[test]
fn a_failure_tells_what_has_happened_what_was_expected_what_is_there_and_how_they_differ() {
    let message = failure(|| {
        two()
            .at("2026-11-23T08:00:00Z")
            .by("reception")
            .happened::<Visit>("v-2", [booked("7", 9)])
            .then_document("7/9", Hour { times: 2, ..hour("v-1", "2026-11-23T08:00:00.000Z") });
    });
    assert_eq!(
        message,
        r#"expected document 7/9.actor to be null, found "reception"

given hours
given Visit v-1
      Booked {"doctor":"7","hour":9}
      Noted {}
given Visit v-2
      Booked {"doctor":"8","hour":9}
at    2026-11-23T08:00:00.000Z
by    reception
given Visit v-2
      Booked {"doctor":"7","hour":9}
then  (- expected, + found)
      {
    -   "actor": null,
    -   "by": "v-1",
    +   "actor": "reception",
    +   "by": "v-2",
        "since": "2026-11-23T08:00:00.000Z",
        "times": 2
      }"#
    );
    let message = failure(|| drop(two().then_document("7/10", hour("v-1", START))));
    assert_eq!(
        message,
        r#"expected document 7/10, found none

given hours
given Visit v-1
      Booked {"doctor":"7","hour":9}
      Noted {}
given Visit v-2
      Booked {"doctor":"8","hour":9}
then  (- expected, + found)
    - 7/10 {"actor":null,"by":"v-1","since":"2026-01-01T00:00:00.000Z","times":1}
    + 7/9 {"by":"v-1","since":"2026-01-01T00:00:00.000Z","actor":null,"times":1}
    + 8/9 {"by":"v-2","since":"2026-01-01T00:00:00.000Z","actor":null,"times":1}"#
    );
    let message = failure(|| {
        drop(given_view::<Hours<INLINE>>().then_document("7/9", hour("v-1", START)));
    });
    assert!(message.contains("given hours\n      nothing\nthen"), "{message}");
    assert!(message.ends_with("\n    + nothing"), "{message}");
}

#[test]
fn whatever_is_expected_and_is_not_there_fails() {
    let none = Vec::<(&str, Hour)>::new();
    let other = || [("7/9", hour("v-9", START)), ("8/9", hour("v-2", START))];
    fails("expected no document 7/9, found one\n", || drop(two().then_none("7/9")));
    fails("expected documents nothing, found 7/9, 8/9\n", || {
        drop(two().then_documents(none.clone()));
    });
    fails(r#"expected document 7/9.by to be "v-9", found "v-1""#, || {
        drop(two().then_documents(other()));
    });
    fails("expected by v-1 to find 8/9, found 7/9\n", || {
        drop(two().then_indexed("by", "v-1", ["8/9"]));
    });
    fails("expected times 1 to find 8/9, 7/9, found 7/9, 8/9\n", || {
        drop(two().then_indexed("times", 1, ["8/9", "7/9"]));
    });
    fails("there is no index colour, but by, times\n", || {
        drop(two().then_indexed("colour", "red", ["8/9"]));
    });
    fails("expected the view to stop, found that it has taken in all events\n", || {
        drop(two().then_stops("nobody"));
    });
    let stopped = || two().happened::<Visit>("v-1", [moved()]);
    fails("expected the view to stop, found that it stops at Moved: nobody moves\n", || {
        drop(stopped().then_stops("somebody"));
    });
    let unmet = "nothing expects that the view stops at Moved: nobody moves\n";
    fails(unmet, || drop(stopped().then_none("7/10")));
    fails(unmet, || drop(stopped().then_document("7/9", hour("v-1", START))));
    fails(unmet, || drop(stopped().then_documents(none.clone())));
    fails(unmet, || drop(stopped().then_indexed("times", 1, ["7/9"])));
    fails(unmet, || drop(stopped().happened::<Visit>("v-1", [booked("7", 10)])));
}

// --- Planted mistakes --------------------------------------------------------------------------------

fn twice<const K: u8>() {
    drop(given_view::<Hours<K>>().happened::<Visit>("v-1", [booked("7", 9), booked("7", 9)]));
}

#[test]
fn a_planted_mistake_is_found_whatever_the_test_expects() {
    twice::<RIGHT>();
    twice::<INLINE>();
    twice::<FORGETS>();
    fails("two calls of project with the same Booked differ: 7/9 {", twice::<COUNTS>);
    let mind = failure(twice::<CHANGES_ITS_MIND>);
    assert!(mind.starts_with("two calls of project with the same Booked differ: "), "{mind}");
    assert!(mind.contains("it stops: not now"), "{mind}");
    let hides = failure(twice::<HIDES>);
    assert!(hides.starts_with("document 7/9 is {"), "{hides}");
    assert!(hides.contains(r#""times":1} when the events come in pages of two, and {"#), "{hides}");
    fails(
        "the view stops when the events come in pages of two, and not when they come one by one: seen before",
        twice::<STOPS_IN_PAGES>,
    );
    let not_read = failure(twice::<NOT_READ>);
    assert!(not_read.starts_with("Booked gives document 7/9 {"), "{not_read}");
    assert!(not_read.contains(r#""only_written":2}, which can't be read: invalid type"#));
    let hidden = failure(twice::<INDEXES_WHAT_IS_HIDDEN>);
    assert!(hidden.contains("which is indexed otherwise when it is read from its text\n"));
    fails(
        r#"nothing expects that the view stops at Booked: document 7/9: "whose" is none of the indexes"#,
        || drop(two_of::<UNKNOWN_INDEX>().then_none("7/9")),
    );
}

fn two_of<const K: u8>() -> ViewCase<Hours<K>> {
    given_view().happened::<Visit>("v-1", [booked("7", 9), booked("7", 9)])
}

#[test]
fn a_mistake_in_what_has_happened_is_found_where_it_is_given() {
    fails("the stream: expected a non-empty aggregate id", || {
        drop(two().happened::<Visit>("", []));
    });
}

// --- Decisions that fold -----------------------------------------------------------------------------

#[test]
fn a_decision_under_test_folds_what_it_reads() {
    let book = || Command::Book { doctor: "7".into(), hour: 9 };
    let taken = |actor: Option<&str>| Refusal::Taken {
        by: "v-2".into(),
        since: START.into(),
        actor: actor.map(ToOwned::to_owned),
    };
    given::<Visit>([]).when(book()).then([booked("7", 9)]);
    given::<Visit>([])
        .others("v-2", [booked("8", 9), Event::Noted])
        .when(book())
        .then([booked("7", 9)]);
    let other = given::<Visit>([]).others("v-2", [booked("7", 9)]);
    other.when(book()).then_refused(taken(None));
    given::<Visit>([])
        .by("reception")
        .when_other("v-2", book())
        .when(book())
        .then_refused(taken(Some("reception")));
}

#[test]
fn an_event_that_can_not_be_folded_fails_the_test() {
    let moved = Event::Moved { doctor: "7".into() };
    let asked = given::<Visit>([]).others("v-2", [booked("7", 9), moved]);
    let message = "decide: projection hours can't take in Moved of Visit/v-2@2: nobody moves\n";
    fails(message, || drop(asked.when(Command::Book { doctor: "7".into(), hour: 10 })));
}
