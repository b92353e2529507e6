//! The kit for tests of process managers: it lets a right one pass, and finds every planted mistake.

use std::cell::Cell;
use std::time::Duration;

use annals::testing::{ManagerCase, given_manager, gives};
use annals::{
    Aggregate, Cause, Commands, Context, EventContext, ProcessManager, StartAt, Timestamp,
};
use serde::{Deserialize, Serialize};

#[path = "support/failure.rs"]
mod failure;

use failure::{fails, failure};

/// The test fails, and says this among other things.
#[track_caller]
fn says(test: impl FnOnce(), part: &str) {
    let message = failure(test);
    assert!(message.contains(part), "{message}");
}

/// Visits, and the letters about them.
struct Visit;

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Booked { patient: String, start: i64 },
    Cancelled,
    Noted,
    Sent { patient: String },
}

impl Aggregate for Visit {
    const TYPE: &'static str = "Visit";
    type State = ();
    type Command = Event;
    type Event = Event;
    type Refusal = ();

    fn initial() {}

    fn decide((): &(), command: &Event, _: &Context<'_>) -> Result<Vec<Event>, ()> {
        Ok(vec![command.clone()])
    }

    fn evolve((): (), _: &Event) {}
}

/// Reminds patients an hour before, and once more half an hour before. `K` says what is wrong with it.
struct Reminder<const K: u8>;

const RIGHT: u8 = 0;
const COUNTS: u8 = 1;
const CHANGES_ITS_MIND: u8 = 2;
const KEY_CHANGES: u8 = 3;
const HIDES: u8 = 4;
const GIVES_TO_NOBODY: u8 = 5;
const NEVER_ENDS: u8 = 6;
const KEY_IS_NONE: u8 = 7;

#[derive(Deserialize)]
enum Wanted {
    Booked { patient: String, start: i64 },
    Cancelled,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    patient: String,
    times: u32,
    #[serde(default, skip_deserializing)]
    hidden: u32,
}

const HOUR: i64 = 3_600_000;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fn count() -> u32 {
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}

impl<const K: u8> ProcessManager for Reminder<K> {
    const NAME: &'static str = "reminder";
    const START_AT: StartAt = StartAt::Now;
    type Event = Wanted;
    type State = Memory;

    fn key(event: &Wanted, context: &EventContext<'_>) -> Option<String> {
        match (K, event) {
            (KEY_CHANGES, _) => Some(count().to_string()),
            (KEY_IS_NONE, _) => Some("a\nb".to_owned()),
            (_, Wanted::Booked { patient, .. }) if patient == "nobody" => None,
            _ => Some(context.stream.aggregate_id.to_string()),
        }
    }

    fn handle(
        state: &mut Memory,
        cause: Cause<'_, Wanted>,
        commands: &mut Commands,
    ) -> Result<(), String> {
        match cause {
            Cause::Event(Wanted::Booked { patient, .. }, _) if patient == "poison" => {
                return Err("that is poison".to_owned());
            }
            Cause::Event(Wanted::Booked { patient, start }, _) => {
                state.patient = patient;
                commands.remind_at("soon", Timestamp::from_millis(start - HOUR));
            }
            Cause::Event(Wanted::Cancelled, _) => {
                commands.forget("soon");
                commands.end();
            }
            Cause::Timer(timer) => {
                let patient = state.patient.clone();
                if patient == "unheard" {
                    return Err(format!("{} can't be reached", timer.lane));
                }
                commands.give::<Visit>(&timer.lane, &Event::Sent { patient });
                if state.times == 0 || K == NEVER_ENDS {
                    let pause = if K == NEVER_ENDS { 0 } else { HOUR.unsigned_abs() / 2 };
                    commands.remind_at(&timer.name, timer.due.plus(pause));
                }
                state.times += 1;
            }
        }
        match K {
            COUNTS => state.times = count(),
            CHANGES_ITS_MIND => commands.give::<Visit>(&count().to_string(), &Event::Noted),
            HIDES => state.hidden = 1,
            GIVES_TO_NOBODY => commands.give::<Visit>("", &Event::Noted),
            _ => {}
        }
        Ok(())
    }
}

fn at(time: &str) -> i64 {
    time.parse::<Timestamp>().expect("a time").millis()
}

fn booked(patient: &str, start: &str) -> Event {
    Event::Booked { patient: patient.to_owned(), start: at(start) }
}

fn sent(id: &str, patient: &str) -> annals::testing::GivenCommand {
    gives::<Visit>(id, &Event::Sent { patient: patient.to_owned() })
}

fn memory(patient: &str, times: u32) -> Memory {
    Memory { patient: patient.to_owned(), times, hidden: 0 }
}

const NINE: &str = "2026-01-03T09:00:00Z";

fn one<const K: u8>() -> ManagerCase<Reminder<K>> {
    given_manager::<Reminder<K>>().happened::<Visit>("v-1", [booked("Ann", NINE)])
}

#[test]
fn an_event_sets_a_timer_which_rings_when_its_time_has_come_and_not_before() {
    one::<RIGHT>()
        .then_nothing()
        .then_state("v-1", memory("Ann", 0))
        .then_timer("v-1", "soon", "2026-01-03T08:00:00Z")
        .at("2026-01-03T07:59:59.999Z")
        .then([])
        .advance(Duration::from_millis(1))
        .then([sent("v-1", "Ann")])
        .then_timer("v-1", "soon", Timestamp::from_millis(at("2026-01-03T08:30:00Z")))
        .advance(Duration::from_secs(86_400))
        .then([sent("v-1", "Ann")])
        .then_no_timer("v-1", "soon")
        .then_state("v-1", memory("Ann", 2));
}

#[test]
fn timers_ring_in_the_order_of_their_times_also_those_that_are_set_on_the_way() {
    let both = one::<RIGHT>().when::<Visit>("v-2", booked("Ben", "2026-01-03T09:10:00Z"));
    both.advance(Duration::from_secs(9 * 86_400)).then([
        sent("v-1", "Ann"),
        sent("v-2", "Ben"),
        sent("v-1", "Ann"),
        sent("v-2", "Ben"),
    ]);
    given_manager::<Reminder<RIGHT>>()
        .when::<Visit>("v-1", booked("Ann", "2020-01-01T00:00:00Z"))
        .then([sent("v-1", "Ann"), sent("v-1", "Ann")]);
}

#[test]
fn what_is_forgotten_does_not_ring_and_a_process_that_is_over_has_no_state() {
    one::<RIGHT>()
        .by("reception")
        .when::<Visit>("v-1", Event::Cancelled)
        .then_nothing()
        .then_none("v-1")
        .then_no_timer("v-1", "soon")
        .advance(Duration::from_secs(9 * 86_400))
        .then_nothing();
    given_manager::<Reminder<RIGHT>>()
        .happened::<Visit>("v-1", [Event::Noted, booked("nobody", NINE)])
        .then_none("v-1");
}

#[test]
fn what_can_not_be_handled_is_told_and_nothing_of_it_is_done() {
    let poison = || booked("poison", NINE);
    let case = one::<RIGHT>().when::<Visit>("v-2", poison()).then_fails("poison").then_none("v-2");
    case.when::<Visit>("v-3", booked("unheard", NINE))
        .advance(Duration::from_secs(86_400))
        .at("2026-01-03T08:00:00Z")
        .then_fails("v-3 can't be reached");
    let unseen = || one::<RIGHT>().when::<Visit>("v-2", poison());
    says(
        || drop(unseen().then_nothing()),
        "nothing expects that it fails at Booked: that is poison",
    );
    says(|| drop(unseen().then_fails("other")), "found that it fails at Booked");
    says(
        || drop(one::<RIGHT>().then_fails("")),
        "expected that it fails, found that it gives nothing",
    );
    says(
        || drop(one::<RIGHT>().happened::<Visit>("v-2", [poison(), Event::Noted])),
        "nothing expects that it fails",
    );
}

#[test]
fn a_failure_tells_the_whole_story_and_the_difference() {
    let message = failure(|| {
        drop(one::<RIGHT>().by("nurse").at("2026-01-03T08:00:00Z").then([sent("v-1", "Anna")]));
    });
    let told = "\
expected Sent to Visit v-1, found Sent to Visit v-1

given reminder
given Visit v-1
      Booked {\"patient\":\"Ann\",\"start\":1767430800000}
by    nurse
at    2026-01-03T08:00:00.000Z
rings soon of v-1
then  (- expected, + found)
      Sent to Visit v-1 {
    -   \"patient\": \"Anna\"
    +   \"patient\": \"Ann\"
      }";
    assert_eq!(message, told);
    let other = memory("Ben", 0);
    says(|| drop(one::<RIGHT>().then_state("v-1", &other)), "state of v-1.patient to be \"Ben\"");
    says(|| drop(one::<RIGHT>().then_state("v-2", &other)), "a state of v-2, found states of v-1");
    fails("expected no state of v-1, found one", || drop(one::<RIGHT>().then_none("v-1")));
    says(|| drop(one::<RIGHT>().then_timer("v-1", "soon", NINE)), "expected 2026-01-03T09");
    says(|| drop(one::<RIGHT>().then_no_timer("v-1", "soon")), "expected no timer as soon of v-1");
    says(|| drop(one::<RIGHT>().at("2025-01-01T00:00:00Z")), "the clock advances");
    says(|| drop(one::<RIGHT>().happened::<Visit>("", [Event::Noted])), "non-empty aggregate id");
}

#[test]
fn what_is_not_pure_or_can_not_be_kept_or_given_is_found() {
    says(|| drop(one::<COUNTS>()), "two calls of handle with the same Booked differ");
    says(|| drop(one::<CHANGES_ITS_MIND>()), "two calls of handle with the same Booked differ");
    says(|| drop(one::<KEY_CHANGES>()), "two calls of key with the same Booked differ");
    says(|| drop(one::<KEY_IS_NONE>()), "correlation key without control characters");
    says(|| drop(one::<HIDES>()), "comes back from serde as");
    says(|| drop(one::<GIVES_TO_NOBODY>()), "non-empty aggregate id");
    let never = || drop(one::<NEVER_ENDS>().advance(Duration::from_secs(9 * 86_400)));
    says(never, "they set each other without end");
}
