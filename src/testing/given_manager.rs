//! Tests of a process manager: given what has happened, when something happens or time passes, then this
//! comes of it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::event::{Metadata, RecordedEvent};
use crate::ids::{CommandId, EventId, TimerId};
use crate::manager::{self, Handled, NativeManager, ProcessManager, Wish};
use crate::payload::check_payload;
use crate::protocol::{DueTimer, React, Reacting, ReactionIndex, Wishes};
use crate::reaction::{Lanes, ReactionDefinition};
use crate::stream::{Position, StreamId, check_name};
use crate::time::Timestamp;
use crate::variant::to_variant;

use super::diff::{line_diff, pretty};
use super::story::{LoggedEvent, NOTHING, Story, listed, unlike};

/// Begins a test of a process manager to which nothing has happened.
///
/// Nothing is stored, and no command is decided. The function is called as an engine would call it, on
/// what serde has written and read again, but twice. One that is not pure, a state that does not come back
/// from serde as it was, and a command that can't be given fail the test, whatever it expects.
///
/// # A reminder an hour before
///
/// ```
/// use annals::testing::{given_manager, gives};
/// # use annals::*;
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// # struct Desk;
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum Event { Booked { patient: String, start: i64 }, Cancelled, Reminded { patient: String } }
/// # impl Aggregate for Desk {
/// #     const TYPE: &'static str = "Desk";
/// #     type State = ();
/// #     type Command = Event;
/// #     type Event = Event;
/// #     type Refusal = ();
/// #     fn initial() {}
/// #     fn decide((): &(), command: &Event, _: &Context<'_>) -> Result<Vec<Event>, ()> {
/// #         Ok(vec![command.clone()])
/// #     }
/// #     fn evolve((): (), _: &Event) {}
/// # }
/// # struct Reminder;
/// # #[derive(Deserialize)]
/// # enum Dated { Booked { patient: String, start: i64 }, Cancelled }
/// # impl ProcessManager for Reminder {
/// #     const NAME: &'static str = "reminder";
/// #     const START_AT: StartAt = StartAt::Now;
/// #     type Event = Dated;
/// #     type State = String;
/// #     fn key(_: &Dated, context: &EventContext<'_>) -> Option<String> {
/// #         Some(context.stream.aggregate_id.to_string())
/// #     }
/// #     fn handle(
/// #         state: &mut String,
/// #         cause: Cause<'_, Dated>,
/// #         commands: &mut Commands,
/// #     ) -> Result<(), String> {
/// #         match cause {
/// #             Cause::Event(Dated::Booked { patient, start }, _) => {
/// #                 *state = patient;
/// #                 commands.remind_at("hour before", Timestamp::from_millis(start - 3_600_000));
/// #             }
/// #             Cause::Event(Dated::Cancelled, _) => {
/// #                 commands.forget("hour before");
/// #                 commands.end();
/// #             }
/// #             Cause::Timer(timer) => {
/// #                 let patient = state.clone();
/// #                 commands.give::<Desk>(&timer.lane, &Event::Reminded { patient });
/// #             }
/// #         }
/// #         Ok(())
/// #     }
/// # }
/// # fn at(time: &str) -> i64 { time.parse::<Timestamp>().unwrap().millis() }
///
/// let booked = Event::Booked { patient: "Ann".into(), start: at("2026-01-02T10:00:00Z") };
/// let case = given_manager::<Reminder>()
///     .happened::<Desk>("a-1", [booked])
///     .then_state("a-1", "Ann".to_owned())
///     .then_timer("a-1", "hour before", "2026-01-02T09:00:00Z");
/// case.clone()
///     .at("2026-01-02T09:00:00Z")
///     .then([gives::<Desk>("a-1", &Event::Reminded { patient: "Ann".into() })]);
/// case.when::<Desk>("a-1", Event::Cancelled)
///     .then_none("a-1")
///     .advance(Duration::from_secs(3 * 86_400))
///     .then_nothing();
/// ```
#[must_use = "a test expects something"]
pub fn given_manager<M: ProcessManager>() -> ManagerCase<M> {
    let mut story = Story::new(M::NAME);
    story.lines.push(NOTHING.into());
    let (handled, states, timers, came) = Default::default();
    ManagerCase { story, handled, states, timers, came, manager: PhantomData }
}

/// A command to an aggregate, as it is expected of a process manager.
///
/// # Panics
/// If the command can't be written.
#[track_caller]
#[must_use]
pub fn gives<A: Aggregate>(id: &str, command: &A::Command) -> GivenCommand {
    match to_variant(command) {
        Ok((command_type, data)) => {
            let data = serde_json::from_str(&data).expect("what serde writes is JSON");
            GivenCommand { stream: StreamId::new(A::TYPE, id), command_type, data }
        }
        Err(error) => panic!("the expected command can't be written: {error}"),
    }
}

/// A command that a test expects of a process manager: see [`gives`].
#[derive(Clone, Debug, PartialEq)]
pub struct GivenCommand {
    stream: StreamId,
    command_type: Arc<str>,
    data: Value,
}

impl GivenCommand {
    fn name(&self) -> String {
        let StreamId { aggregate_type, aggregate_id } = &self.stream;
        format!("{} to {aggregate_type} {aggregate_id}", self.command_type)
    }
}

/// A test of the process manager `M`.
///
/// Cases may be cloned, so tests may share a beginning.
pub struct ManagerCase<M> {
    story: Story,
    /// How many events of the log have been handled.
    handled: usize,
    /// By their keys, as text.
    states: BTreeMap<Arc<str>, Arc<str>>,
    /// Those that are set, by when they ring, in the order in which they were set.
    timers: Vec<(Timestamp, Arc<str>, Arc<str>)>,
    came: Came,
    manager: PhantomData<fn() -> M>,
}

/// What has come of the last step.
#[derive(Clone, Debug, Default)]
struct Came {
    given: Vec<GivenCommand>,
    failure: Option<Failure>,
}

/// Something that could not be handled.
#[derive(Clone, Debug)]
struct Failure {
    what: String,
    reason: Arc<str>,
    /// Whether the test has expected it.
    met: bool,
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Some(Failure { what, reason, .. }) => write!(f, "fails at {what}: {reason}"),
            None => write!(f, "gives {}", names_of(&self.given)),
        }
    }
}

/// Most timers that ring one after the other.
const MOST_TIMERS: u32 = 1_000;

impl<M: ProcessManager> ManagerCase<M> {
    /// Puts the clock forward to this time; timers that are due by then ring, in order. It stands still
    /// otherwise, at first at the beginning of 2026. A time is a [`Timestamp`], or its text:
    /// `2026-11-23T09:00:00Z`.
    ///
    /// # Panics
    /// If the text is no time with its zone, or a time that is over; with the whole story, if something is
    /// wrong with the function.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn at(mut self, time: impl fmt::Display) -> Self {
        self.expect_handled();
        let before = self.story.now;
        self.story.at(time);
        if self.story.now < before {
            self.story.fail(&format!("the clock advances: it was {before}"));
        }
        self.ring(before);
        self
    }

    /// Puts the clock forward, by whole milliseconds; timers that are due by then ring, in order.
    ///
    /// # Panics
    /// With the whole story, if something is wrong with the function.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn advance(mut self, span: Duration) -> Self {
        self.expect_handled();
        let before = self.story.now;
        self.story.advance(span);
        self.ring(before);
        self
    }

    /// Says who gives the commands that lead to what happens from here on. At first nobody says.
    ///
    /// # Panics
    /// If the name can't be one.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn by(mut self, actor: &str) -> Self {
        self.story.by(actor);
        self
    }

    /// Lets events happen to an aggregate; timers that are due ring.
    ///
    /// # Panics
    /// With the whole story, if something is wrong with the events or with the function.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn happened<A: Aggregate>(
        self,
        id: &str,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Self {
        self.happens::<A>("given", id, events)
    }

    /// Lets an event happen to an aggregate: what comes of it is expected then.
    ///
    /// # Panics
    /// With the whole story, if something is wrong with the event or with the function.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn when<A: Aggregate>(self, id: &str, event: A::Event) -> Self {
        self.happens::<A>("when ", id, [event])
    }

    #[track_caller]
    fn happens<A: Aggregate>(
        mut self,
        word: &str,
        id: &str,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Self {
        self.expect_handled();
        self.came = Came::default();
        self.story.lines.retain(|line| line != NOTHING);
        self.story.lines.push(format!("{word} {} {id}", A::TYPE));
        self.story.happened::<A>(&StreamId::new(A::TYPE, id), events);
        let now = self.story.now;
        while self.handled < self.story.log.len() {
            // What would come after it would wait.
            self.expect_handled();
            let event = recorded(&self.story.log, self.handled);
            self.handled += 1;
            for key in self.keys_of(&event) {
                let what = event.event_type.to_string();
                self.run(&key, &what, Reacting::Event(Box::new(event.clone())));
            }
            self.ring_until(now);
        }
        self
    }

    /// These commands come of the last step, in this order, and no others. None: nothing is to be done.
    ///
    /// # Panics
    /// With the whole story, if something else comes.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = GivenCommand>) -> Self {
        self.expect_handled();
        let expected: Vec<_> = expected.into_iter().collect();
        let found = &self.came.given;
        if expected != *found {
            let headline = format!("expected {}, found {}", names_of(&expected), names_of(found));
            self.story.differs(&headline, &line_diff(&text_of(&expected), &text_of(found)));
        }
        self
    }

    /// Nothing is to be done: no command.
    ///
    /// # Panics
    /// With the whole story, if something comes.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// The event, or a timer, can't be handled, for a reason with this in it. An engine would try again,
    /// and park its key at last; nothing of what was wanted is done.
    ///
    /// # Panics
    /// With the whole story, if it is handled, or the reason is another.
    #[track_caller]
    pub fn then_fails(mut self, reason: &str) -> Self {
        match &mut self.came.failure {
            Some(failure) if failure.reason.contains(reason) => failure.met = true,
            _ => {
                let found = self.came.to_string();
                let headline = format!("expected that it fails, found that it {found}");
                self.story.differs(&headline, &unlike(&[format!("fails: {reason}")], &[found]));
            }
        }
        self
    }

    /// This is the state of this key.
    ///
    /// # Panics
    /// With the whole story, if there is another or none.
    #[track_caller]
    pub fn then_state(self, key: &str, expected: impl Borrow<M::State>) -> Self {
        self.expect_handled();
        let expected = serde_json::to_value(expected.borrow());
        let expected = self.story.check("the expected state", expected);
        let Some(found) = self.states.get(key) else {
            let keys = listed(self.states.keys());
            let headline = format!("expected a state of {key}, found states of {keys}");
            self.story.differs(&headline, &unlike(&[expected.to_string()], &[]));
        };
        let found = self.story.value_of(found);
        self.story.expect_value(&format!("state of {key}"), &expected, &found);
        self
    }

    /// There is no state of this key: nothing has happened to it, or it is over.
    ///
    /// # Panics
    /// With the whole story, if there is one.
    #[track_caller]
    pub fn then_none(self, key: &str) -> Self {
        self.expect_handled();
        if let Some(found) = self.states.get(key) {
            let headline = format!("expected no state of {key}, found one");
            self.story.differs(&headline, &unlike(&[], &[found.to_string()]));
        }
        self
    }

    /// The key's timer of this name is set to this time.
    ///
    /// # Panics
    /// With the whole story, if it is set to another, or not at all; if the text is no time with its zone.
    #[track_caller]
    pub fn then_timer(self, key: &str, name: &str, time: impl fmt::Display) -> Self {
        let time: Timestamp = self.story.check("the expected time", time.to_string().parse());
        self.expect_timer(key, name, Some(time));
        self
    }

    /// The key has no timer of this name.
    ///
    /// # Panics
    /// With the whole story, if it has.
    #[track_caller]
    pub fn then_no_timer(self, key: &str, name: &str) -> Self {
        self.expect_timer(key, name, None);
        self
    }

    #[track_caller]
    fn expect_timer(&self, key: &str, name: &str, expected: Option<Timestamp>) {
        self.expect_handled();
        let mut timers = self.timers.iter();
        let found = timers.find(|(_, of, called)| **of == *key && **called == *name);
        let found = found.map(|(due, ..)| *due);
        if found != expected {
            let told = |time: Option<Timestamp>| {
                time.map_or_else(|| "no timer".to_owned(), |time| time.to_string())
            };
            let line = |(due, key, name): &(Timestamp, Arc<str>, Arc<str>)| {
                format!("{name} of {key} at {due}")
            };
            let wanted: Vec<_> =
                expected.map(|due| line(&(due, key.into(), name.into()))).into_iter().collect();
            let others: Vec<_> = self.timers.iter().map(line).collect();
            let (expected, found) = (told(expected), told(found));
            let headline = format!("expected {expected} as {name} of {key}, found {found}");
            self.story.differs(&headline, &unlike(&wanted, &others));
        }
    }

    /// Fails if nothing has expected that something could not be handled.
    #[track_caller]
    fn expect_handled(&self) {
        if self.came.failure.as_ref().is_some_and(|failure| !failure.met) {
            let mut story = self.story.clone();
            story.lines.push(format!("then  {}", self.came));
            story.fail(&format!("nothing expects that it {}", self.came));
        }
    }

    /// Rings what has come due since then.
    #[track_caller]
    fn ring(&mut self, before: Timestamp) {
        self.came = Came::default();
        let now = std::mem::replace(&mut self.story.now, before);
        self.ring_until(now);
        self.story.now = now;
    }

    /// Rings what is due by then, one after the other.
    #[track_caller]
    fn ring_until(&mut self, now: Timestamp) {
        let mut count = 0;
        // What failed is tried again later, or parked: the test is told first.
        while self.came.failure.is_none() {
            let due = self.timers.iter().map(|(due, ..)| *due).min().filter(|due| *due <= now);
            let Some(due) = due else {
                return;
            };
            let at = self.timers.iter().position(|(at, ..)| *at == due).expect("the least of them");
            count += 1;
            if count > MOST_TIMERS {
                self.story.fail(&format!(
                    "{MOST_TIMERS} timers have rung, and there are more: they set each other without end"
                ));
            }
            let (due, lane, name) = self.timers.remove(at);
            self.story.lines.push(format!("rings {name} of {lane}"));
            self.story.now = self.story.now.max(due);
            let what = format!("the timer {name}");
            let (id, cause) = (TimerId(id_of(3, 0)), id_of(1, 0).to_string().into());
            let (causation_id, correlation_id) = (Arc::clone(&cause), cause);
            let timer =
                DueTimer { lane: Arc::clone(&lane), name, due, id, causation_id, correlation_id };
            self.run(&lane, &what, Reacting::Timer(Box::new(timer)));
        }
    }

    #[track_caller]
    fn keys_of(&self, event: &RecordedEvent) -> Vec<Arc<str>> {
        let definition = ReactionDefinition::manager::<M>();
        let Lanes::Native(keys_of) = definition.lanes else { unreachable!("it was made natively") };
        if !definition.filter.types.contains(&event.event_type) {
            return Vec::new();
        }
        let (once, again) = (keys_of(&[], event), keys_of(&[], event));
        if once != again {
            self.story.fail(&format!(
                "two calls of key with the same {} differ: {once:?} and {again:?}",
                event.event_type
            ));
        }
        self.story.check(&event.event_type, once)
    }

    /// Calls the function twice, and takes in what it gives and wants.
    #[track_caller]
    fn run(&mut self, lane: &Arc<str>, what: &str, event: Reacting) {
        let native: Rc<dyn NativeManager> = manager::native::<M>();
        let (run, reaction, attempt) = (0, ReactionIndex(0), 1);
        let (lane, state) = (Arc::clone(lane), self.states.get(lane).cloned());
        let react = React { run, reaction, attempt, event, lane: Arc::clone(&lane), state };
        let (once, again) = (native.handle(&[], &react), native.handle(&[], &react));
        let (told, told_again) = (format!("{once:?}"), format!("{again:?}"));
        if told != told_again {
            self.story.fail(&format!(
                "two calls of handle with the same {what} differ: {told} and {told_again}"
            ));
        }
        let Handled { wishes: Wishes { state, timers, .. }, given, .. } = match once {
            Ok(handled) => handled,
            Err(reason) => {
                self.came.failure = Some(Failure { what: what.to_owned(), reason, met: false });
                return;
            }
        };
        for Wish { stream, command_type, data } in given {
            self.story.check("a command", stream.check());
            self.story.check("a command", check_name("command type", &command_type));
            self.story.check(&command_type, check_payload(&data));
            let data = self.story.value_of(&data);
            self.came.given.push(GivenCommand { stream, command_type, data });
        }
        match state {
            Some(text) => {
                self.expect_same_when_read(&text);
                self.states.insert(Arc::clone(&lane), text);
            }
            None => drop(self.states.remove(&lane)),
        }
        for (name, due) in timers {
            self.timers.retain(|(_, of, called)| *of != lane || *called != name);
            self.timers.extend(due.map(|due| (due, Arc::clone(&lane), name)));
        }
    }

    /// Fails if a state is another when serde has written and read it.
    #[track_caller]
    fn expect_same_when_read(&self, text: &str) {
        let what = format!("the state {text}");
        let read: M::State =
            self.story.check(&format!("{what} can't be read"), serde_json::from_str(text));
        let again = self.story.check(&what, serde_json::to_string(&read));
        if self.story.value_of(text) != self.story.value_of(&again) {
            self.story.fail(&format!("{what} comes back from serde as {again}"));
        }
    }
}

impl<M> Clone for ManagerCase<M> {
    fn clone(&self) -> Self {
        Self {
            story: self.story.clone(),
            handled: self.handled,
            states: self.states.clone(),
            timers: self.timers.clone(),
            came: self.came.clone(),
            manager: PhantomData,
        }
    }
}

impl<M> fmt::Debug for ManagerCase<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:?}\n{:?}\n{}", self.story.told(), self.states, self.timers, self.came)
    }
}

/// An event as the log would have it.
fn recorded(log: &[LoggedEvent], at: usize) -> RecordedEvent {
    let LoggedEvent { stream, revision, issued_at, actor, .. } = &log[at];
    let number = at as u64 + 1;
    // The clock of a store is never set back.
    let recorded_at = log[..=at].iter().map(|event| event.issued_at).max().unwrap_or(*issued_at);
    let command_id = CommandId(id_of(2, number));
    let metadata = Metadata {
        correlation_id: Some(command_id.to_text()),
        actor: actor.clone(),
        ..Metadata::default()
    };
    RecordedEvent {
        position: Position(number),
        stream: stream.clone(),
        revision: *revision,
        event_id: EventId(id_of(1, number)),
        event_type: Arc::clone(&log[at].event_type),
        schema_version: log[at].schema_version,
        tags: log[at].tags.clone(),
        data: Arc::clone(&log[at].data),
        recorded_at,
        issued_at: *issued_at,
        command_id,
        metadata: Arc::new(metadata),
    }
}

fn id_of(kind: u64, number: u64) -> Uuid {
    Uuid::from_u64_pair(0x8000, 0x8000_0000_0000_0000 | kind << 48 | number)
}

fn names_of(commands: &[GivenCommand]) -> String {
    listed(commands.iter().map(GivenCommand::name))
}

fn text_of(commands: &[GivenCommand]) -> String {
    let line = |command: &GivenCommand| format!("{} {}", command.name(), pretty(&command.data));
    match commands {
        [] => "nothing".to_owned(),
        commands => commands.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}
