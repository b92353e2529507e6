//! Tests of a domain: given what has happened, when a command is given, then this comes of it.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::aggregate::{Aggregate, Context, OtherEvent};
use crate::domain::{AggregateDefinition, Domain, NativeAggregate, NativeDecision, NativeState};
use crate::event::{NewEvent, Payload};
use crate::payload::check_payload;
use crate::query::{Query, Tag};
use crate::stream::{Revision, StreamId, check_name};
use crate::time::Timestamp;
use crate::variant::{from_variant, to_variant};

use super::diff::{difference, line_diff, pretty};

/// What the one under test is called if nobody says.
const DEFAULT_ID: &str = "under-test";

/// Begins a test of an aggregate to which these events have happened, or none.
///
/// Nothing is stored and nothing is loaded: the domain's functions are called as the engine would
/// call them, on what serde has written and read again, but each of them twice. A function that is
/// not pure, a command or an event that does not come back as it was, and an event that can't be
/// stored fail the test, whatever it expects.
///
/// # A counter that never goes above a limit
///
/// ```
/// use annals::testing::given;
/// # use annals::{Aggregate, Context};
/// # use serde::{Deserialize, Serialize};
/// # struct Counter;
/// # #[derive(Serialize, Deserialize)]
/// # enum Command { Add { amount: u32 } }
/// # #[derive(Serialize, Deserialize)]
/// # enum Event { Added { amount: u32 } }
/// # #[derive(Serialize)]
/// # #[serde(rename_all = "kebab-case")]
/// # enum Refusal { LimitReached { limit: u32 } }
/// # impl Aggregate for Counter {
/// #     const TYPE: &'static str = "Counter";
/// #     type State = u32;
/// #     type Command = Command;
/// #     type Event = Event;
/// #     type Refusal = Refusal;
/// #     fn initial() -> u32 { 0 }
/// #     fn decide(state: &u32, command: &Command, _: &Context<'_>) -> Result<Vec<Event>, Refusal> {
/// #         let Command::Add { amount } = command;
/// #         if state + amount > 10 { return Err(Refusal::LimitReached { limit: 10 }); }
/// #         Ok(vec![Event::Added { amount: *amount }])
/// #     }
/// #     fn evolve(state: u32, event: &Event) -> u32 {
/// #         let Event::Added { amount } = event;
/// #         state + amount
/// #     }
/// # }
///
/// given::<Counter>([])
///     .when(Command::Add { amount: 4 })
///     .then([Event::Added { amount: 4 }])
///     .then_state(4);
/// given::<Counter>([Event::Added { amount: 4 }])
///     .when(Command::Add { amount: 7 })
///     .then_refused(Refusal::LimitReached { limit: 10 });
/// ```
///
/// # Panics
/// With the whole story, if something is wrong with the events.
#[track_caller]
#[must_use = "a test expects something"]
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Case<A, Given> {
    let mut story = Story {
        aggregate_type: A::TYPE,
        id: DEFAULT_ID.into(),
        now: DEFAULT_TIME,
        log: Vec::new(),
        lines: Vec::new(),
    };
    story.happened::<A>(&story.stream(), events);
    if story.lines.is_empty() {
        story.lines.push("      nothing".into());
    }
    Case { story, stage: Given(()), aggregate: PhantomData }
}

/// Checks that serde writes a value and reads it back as it was.
///
/// A test sees to its commands and events by itself. States need no `Deserialize`; those that have
/// it should stand this.
///
/// ```
/// use annals::testing::assert_round_trip;
/// assert_round_trip(&vec![Some(1), None]);
/// ```
///
/// # Panics
/// If the value can't be written or read, or comes back as another.
#[track_caller]
pub fn assert_round_trip<T>(value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
{
    let text = match serde_json::to_string(value) {
        Ok(text) => text,
        Err(error) => panic!("{value:?} can't be written: {error}"),
    };
    match serde_json::from_str::<T>(&text) {
        Ok(back) => assert!(back == *value, "expected {value:?}, found {back:?} read from {text}"),
        Err(error) => panic!("{value:?} can't be read from {text}: {error}"),
    }
}

/// A test of the aggregate `A`, which has come to the stage `S`.
///
/// Cases may be cloned, so tests may share a beginning. A domain that panics fails the test as any
/// panic does; one that is to panic is a matter of `#[should_panic]`.
pub struct Case<A, S> {
    story: Story,
    stage: S,
    aggregate: PhantomData<fn() -> A>,
}

/// The stage before the first command.
#[derive(Clone, Debug)]
pub struct Given(());

/// The stage at which a command has been given.
#[derive(Clone, Debug)]
pub struct When {
    outcome: Outcome,
    stream: StreamId,
    query: Query,
    /// Whether the test has expected the outcome.
    met: bool,
}

/// A stage of a [`Case`].
pub trait Stage: sealed::Stage {}
impl Stage for Given {}
impl Stage for When {}

mod sealed {
    pub trait Stage {
        /// The last command, if there was one.
        fn asked(&self) -> Option<&super::When>;
    }

    impl Stage for super::Given {
        fn asked(&self) -> Option<&super::When> {
            None
        }
    }

    impl Stage for super::When {
        fn asked(&self) -> Option<&super::When> {
            Some(self)
        }
    }
}

impl<A: Aggregate, S: Stage> Case<A, S> {
    /// Sets the clock, which says when commands are given. It stands still, at first at the
    /// beginning of 2026. A time is a [`Timestamp`], or its text: `2026-11-23T09:00:00Z`.
    ///
    /// # Panics
    /// If the text is no time with its zone.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn at(self, time: impl fmt::Display) -> Self {
        match time.to_string().parse() {
            Ok(now) => self.at_time(now),
            Err(error) => panic!("{error}"),
        }
    }

    /// Puts the clock forward, by whole milliseconds.
    #[must_use = "a test expects something"]
    pub fn advance(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let now = self.story.now.plus(millis);
        self.at_time(now)
    }

    fn at_time(mut self, now: Timestamp) -> Self {
        self.story.now = now;
        self.story.lines.push(format!("at    {now}"));
        self
    }

    /// Lets events happen to another aggregate of this type. They have the tags that it gives them,
    /// and come as [`Context::others`], in the order of the test, to decisions that read them.
    ///
    /// # Panics
    /// With the whole story, if something is wrong with the events.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn others(self, id: &str, events: impl IntoIterator<Item = A::Event>) -> Self {
        self.others_of::<A>(id, events)
    }

    /// Lets events happen to an aggregate of the type `B`.
    ///
    /// # Panics
    /// With the whole story, if something is wrong with the events.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn others_of<B: Aggregate>(
        mut self,
        id: &str,
        events: impl IntoIterator<Item = B::Event>,
    ) -> Self {
        let stream = StreamId::new(B::TYPE, id);
        self.story.lines.push(format!("given {} {id}", B::TYPE));
        if stream == self.story.stream() {
            self.story.fail(&format!(
                "{id} is the one under test: its events are given first, or come of its commands"
            ));
        }
        self.story.happened::<B>(&stream, events);
        self
    }

    /// Gives a command. What a command before it led to has happened, and must not have been
    /// refused unseen.
    ///
    /// # Panics
    /// With the whole story, if a function of the domain is not pure, or gives what can't be stored.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn when(self, command: impl Borrow<A::Command>) -> Case<A, When> {
        let id = Arc::clone(&self.story.id);
        self.when_other(&id, command)
    }

    /// Gives a command to another aggregate of this type; what is expected then is of that one.
    ///
    /// # Panics
    /// As [`Case::when`].
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn when_other(self, id: &str, command: impl Borrow<A::Command>) -> Case<A, When> {
        let mut story = self.story;
        if let Some(asked) = self.stage.asked() {
            story.expect_accepted(asked);
            story.lines.extend(indented(&asked.outcome.lines(), "then  ", "      "));
        }
        let stage = story.commanded::<A>(id, command.borrow());
        Case { story, stage, aggregate: PhantomData }
    }
}

impl<A: Aggregate> Case<A, Given> {
    /// Names the aggregate under test. Needed only where its id is looked at.
    ///
    /// # Panics
    /// If another one is called this.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn id(mut self, id: &str) -> Self {
        let (from, to) = (self.story.stream(), StreamId::new(A::TYPE, id));
        if from != to && self.story.log.iter().any(|event| event.stream == to) {
            self.story.fail(&format!("{id} is another one already"));
        }
        self.story.check("id", check_name("aggregate id", id));
        for event in self.story.log.iter_mut().filter(|event| event.stream == from) {
            event.stream = to.clone();
        }
        self.story.id = id.into();
        self
    }

    /// The events given add up to this state.
    ///
    /// # Panics
    /// With the whole story, if they don't.
    #[track_caller]
    pub fn then_state(self, expected: impl Borrow<A::State>) -> Self {
        self.story.expect_state::<A>(&self.story.stream(), expected.borrow());
        self
    }
}

impl<A: Aggregate> Case<A, When> {
    /// These events come of the command, and no others. None: there is nothing to do.
    ///
    /// # Panics
    /// With the whole story, if something else comes.
    #[track_caller]
    pub fn then(mut self, events: impl IntoIterator<Item = A::Event>) -> Self {
        let mut expected = Vec::new();
        for event in events {
            let (event_type, data) = self.story.check("an expected event", to_variant(&event));
            expected.push((event_type, self.story.value_of(&data)));
        }
        self.expect(&Outcome::Events(expected));
        self.stage.met = true;
        self
    }

    /// There is nothing to do: no event, and no refusal.
    ///
    /// # Panics
    /// With the whole story, if something else comes.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then([])
    }

    /// The command is refused for this reason.
    ///
    /// # Panics
    /// With the whole story, if something else comes.
    #[track_caller]
    pub fn then_refused(mut self, expected: impl Borrow<A::Refusal>) -> Self {
        let (code, details) =
            self.story.check("the expected refusal", to_variant(expected.borrow()));
        let details = self.story.value_of(&details);
        self.expect(&Outcome::Refused(code, details));
        self.stage.met = true;
        self
    }

    /// The command is refused with this code, whatever the details.
    ///
    /// # Panics
    /// With the whole story, if something else comes.
    #[track_caller]
    pub fn then_refused_as(mut self, code: &str) -> Self {
        let details = match &self.stage.outcome {
            Outcome::Refused(found, details) if **found == *code => details.clone(),
            _ => Value::Null,
        };
        self.expect(&Outcome::Refused(code.into(), details));
        self.stage.met = true;
        self
    }

    /// The state after the command.
    ///
    /// # Panics
    /// With the whole story, if it is another.
    #[track_caller]
    pub fn then_state(self, expected: impl Borrow<A::State>) -> Self {
        self.story.expect_accepted(&self.stage);
        self.story.expect_state::<A>(&self.stage.stream, expected.borrow());
        self
    }

    /// The tags of the command's events, a list for each event; their order does not matter.
    ///
    /// # Panics
    /// With the whole story, if they are others.
    #[track_caller]
    pub fn then_tags<Tags>(self, expected: impl IntoIterator<Item = Tags>) -> Self
    where
        Tags: IntoIterator<Item: AsRef<str>>,
    {
        self.story.expect_accepted(&self.stage);
        let expected: Vec<Vec<Tag>> = expected
            .into_iter()
            .map(|tags| sorted(tags.into_iter().map(|tag| tag.as_ref().into())))
            .collect();
        let count = match &self.stage.outcome {
            Outcome::Events(events) => events.len(),
            Outcome::Refused(..) => 0,
        };
        let appended = &self.story.log[self.story.log.len() - count..];
        let found: Vec<Vec<Tag>> =
            appended.iter().map(|event| sorted(event.tags.iter().cloned())).collect();
        if expected != found {
            let as_value = |tags: &[Vec<Tag>]| {
                let list = |tags: &Vec<Tag>| tags.iter().map(|tag| Value::from(&**tag)).collect();
                pretty(&tags.iter().map(list).collect::<Vec<Value>>().into())
            };
            let diff = line_diff(&as_value(&expected), &as_value(&found));
            self.story.differs("expected other tags", &diff);
        }
        self
    }

    /// What the decision reads beyond its own stream; the order does not matter.
    ///
    /// # Panics
    /// With the whole story, if it reads something else.
    #[track_caller]
    pub fn then_reads(self, expected: impl Borrow<Query>) -> Self {
        let lines = |query: &Query| {
            let items = query.items.iter().map(|item| {
                let (types, tags) =
                    (sorted(item.types.iter().cloned()), sorted(item.tags.iter().cloned()));
                let types = if types.is_empty() { "any type".into() } else { types.join(" or ") };
                format!("{types} with {}", tags.join(" and "))
            });
            sorted(items).join("\n")
        };
        let (expected, found) = (lines(expected.borrow()), lines(&self.stage.query));
        if expected != found {
            let diff = line_diff(&expected, &found);
            self.story.differs("expected the decision to read something else", &diff);
        }
        self
    }

    #[track_caller]
    fn expect(&self, expected: &Outcome) {
        let found = &self.stage.outcome;
        if expected == found {
            return;
        }
        let (expected_name, found_name) = (expected.name(), found.name());
        let headline = if expected_name == found_name {
            match expected {
                Outcome::Events(_) => format!("expected other data of {expected_name}"),
                Outcome::Refused(..) => format!("expected other details of {expected_name}"),
            }
        } else {
            format!("expected {expected_name}, found {found_name}")
        };
        let (expected_text, found_text) = (expected.pretty(), found.pretty());
        let same_kind = matches!(
            (expected, found),
            (Outcome::Events(_), Outcome::Events(_)) | (Outcome::Refused(..), Outcome::Refused(..))
        );
        let diff = if same_kind && (expected_name == found_name || expected.is_events()) {
            line_diff(&expected_text, &found_text)
        } else {
            // Their texts have nothing to do with each other.
            let lines = |text: &str, sign: &str| indented(&text_lines(text), sign, sign);
            [lines(&expected_text, "- "), lines(&found_text, "+ ")].concat()
        };
        self.story.differs(&headline, &diff);
    }
}

impl<A, S: Clone> Clone for Case<A, S> {
    fn clone(&self) -> Self {
        Self { story: self.story.clone(), stage: self.stage.clone(), aggregate: PhantomData }
    }
}

impl<A, S: fmt::Debug> fmt::Debug for Case<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:?}", self.story.told(), self.stage)
    }
}

/// What came of a command: types or code, and the data.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Events(Vec<(Arc<str>, Value)>),
    Refused(Arc<str>, Value),
}

impl Outcome {
    fn is_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }

    fn name(&self) -> String {
        match self {
            Self::Events(events) if events.is_empty() => "nothing".into(),
            Self::Events(events) => {
                events.iter().map(|(event_type, _)| &**event_type).collect::<Vec<_>>().join(", ")
            }
            Self::Refused(code, _) => format!("the refusal {code}"),
        }
    }

    /// A line for each event.
    fn lines(&self) -> Vec<String> {
        self.texts(Value::to_string)
    }

    /// In one line.
    fn told(&self) -> String {
        self.lines().join(", ")
    }

    /// Over several lines.
    fn pretty(&self) -> String {
        self.texts(pretty).join("\n")
    }

    fn texts(&self, show: fn(&Value) -> String) -> Vec<String> {
        match self {
            Self::Events(events) if events.is_empty() => vec!["nothing".into()],
            Self::Events(events) => {
                events.iter().map(|(name, data)| format!("{name} {}", show(data))).collect()
            }
            Self::Refused(code, Value::Null) => vec![format!("refused {code}")],
            Self::Refused(code, details) => vec![format!("refused {code} {}", show(details))],
        }
    }
}

/// An event of the log of a test.
#[derive(Clone)]
struct LoggedEvent {
    stream: StreamId,
    revision: Revision,
    event_type: Arc<str>,
    data: Arc<str>,
    tags: Vec<Tag>,
}

/// The beginning of 2026.
const DEFAULT_TIME: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// What has happened so far in a test, and how it is told.
#[derive(Clone)]
struct Story {
    aggregate_type: &'static str,
    /// The one under test.
    id: Arc<str>,
    now: Timestamp,
    log: Vec<LoggedEvent>,
    /// How a failure tells it, after its first line.
    lines: Vec<String>,
}

impl Story {
    fn stream(&self) -> StreamId {
        StreamId::new(self.aggregate_type, &self.id)
    }

    /// Lets events happen to a stream, as if commands had led to them.
    #[track_caller]
    fn happened<A: Aggregate>(
        &mut self,
        stream: &StreamId,
        events: impl IntoIterator<Item = A::Event>,
    ) {
        self.check("the stream", stream.check());
        let mut state = self.state_of::<A>(stream);
        for event in events {
            let (event_type, data) = self.check("an event can't be written", to_variant(&event));
            self.lines.push(format!("      {event_type} {data}"));
            let tags = self.tags_of::<A>(&event, &state);
            self.append(
                stream,
                &NewEvent { event_type, schema_version: 1, tags, data: Payload::Text(data) },
            );
            state = self.state_after::<A>(state, &event);
        }
        self.expect_same(&self.json_of(&state), &self.json_of(&self.state_of::<A>(stream)));
    }

    /// Fails if events lead to another state when serde has written and read them.
    #[track_caller]
    fn expect_same(&self, written: &str, read: &str) {
        if written != read {
            self.fail(&format!(
                "an event is another when it is read from its text: the state is {read} then, and not {written}"
            ));
        }
    }

    /// What comes of a command.
    #[track_caller]
    fn commanded<A: Aggregate>(&mut self, id: &str, command: &A::Command) -> When {
        let stream = StreamId::new(A::TYPE, id);
        let (command_type, data) = self.check("the command can't be written", to_variant(command));
        let whose = if *id == *self.id { String::new() } else { format!(", given to {id}") };
        self.lines.push(format!("when  {command_type} {data}{whose}"));
        self.check("the stream", stream.check());
        self.check("the command", check_name("command type", &command_type));
        self.check("the command", check_payload(&data));

        let native = native::<A>();
        // As the engine has it: read from its text.
        let read: Rc<dyn std::any::Any> =
            self.check("the command", native.read_command(&command_type, &data));
        let state = self.state_of::<A>(&stream);
        let at_hand: Rc<dyn NativeState> = Rc::new(state.clone());
        let query = native.reads(&read, &at_hand);
        for again in [native.reads(&read, &at_hand), A::reads(command, &state)] {
            if again != query {
                self.fail(&format!("{IMPURE} reads: {query:?} and {again:?}"));
            }
        }
        self.check("reads", query.check());

        let log = self.log.clone();
        let others: Vec<OtherEvent<'_>> = log
            .iter()
            .filter(|event| event.stream != stream && query.matches(&event.event_type, &event.tags))
            .map(|event| OtherEvent {
                stream: &event.stream,
                revision: event.revision,
                event_type: &event.event_type,
                data: &event.data,
            })
            .collect();
        let context = Context { issued_at: self.now, others: &others };
        let unwritten = self.direct_decision::<A>(state.clone(), command, &context);
        let decision = self.decision(&*native, &at_hand, &read, &context);
        let again = self.decision(&*native, &at_hand, &read, &context);
        if decision != again {
            let (once, again) = (decision.outcome.told(), again.outcome.told());
            self.fail(&format!("{IMPURE} decide: {once} and {again}"));
        }
        if decision.outcome != unwritten {
            let (read, unwritten) = (decision.outcome.told(), unwritten.told());
            self.fail(&format!(
                "the command is another when it is read from its text: {read} comes of it, and not {unwritten}"
            ));
        }
        for event in &decision.events {
            self.append(&stream, event);
        }
        if let Some(after) = &decision.after {
            self.expect_same(after, &self.json_of(&self.state_of::<A>(&stream)));
        }
        When { outcome: decision.outcome, stream, query, met: false }
    }

    /// What the engine makes of a decision.
    #[track_caller]
    fn decision(
        &self,
        native: &dyn NativeAggregate,
        state: &Rc<dyn NativeState>,
        command: &Rc<dyn std::any::Any>,
        context: &Context<'_>,
    ) -> Decision {
        match native.decide(state, command, context) {
            NativeDecision::Decided { events, after } => {
                let outcome = events.iter().map(|event| match &event.data {
                    Payload::Text(data) => (Arc::clone(&event.event_type), self.value_of(data)),
                    Payload::Held { .. } => unreachable!("a native aggregate's events are texts"),
                });
                Decision {
                    outcome: Outcome::Events(outcome.collect()),
                    after: Some(self.check("the state can't be written", after.to_json())),
                    events,
                }
            }
            NativeDecision::Refused { code, details } => Decision {
                outcome: Outcome::Refused(code, self.value_of(&details)),
                after: None,
                events: Vec::new(),
            },
            NativeDecision::Failed { reason } => self.fail(&reason),
        }
    }

    /// What `decide` makes of the very command of the test.
    #[track_caller]
    fn direct_decision<A: Aggregate>(
        &self,
        mut state: A::State,
        command: &A::Command,
        context: &Context<'_>,
    ) -> Outcome {
        match A::decide(&state, command, context) {
            Ok(events) => {
                let mut found = Vec::new();
                for event in &events {
                    let (name, data) = self.check("an event can't be written", to_variant(event));
                    found.push((name, self.value_of(&data)));
                    // For what is not pure: the engine's own calls come with the decision.
                    self.tags_of::<A>(event, &state);
                    state = self.state_after::<A>(state, event);
                }
                Outcome::Events(found)
            }
            Err(refusal) => {
                let (code, details) =
                    self.check("a refusal can't be written", to_variant(&refusal));
                Outcome::Refused(code, self.value_of(&details))
            }
        }
    }

    /// Checks an event as the engine does, and appends it.
    #[track_caller]
    fn append(&mut self, stream: &StreamId, event: &NewEvent) {
        let NewEvent { event_type, tags, data: Payload::Text(data), .. } = event else {
            unreachable!("a native aggregate's events are texts")
        };
        self.check("an event", check_name("event type", event_type));
        for tag in tags {
            self.check("an event", check_name("tag", tag));
        }
        self.check(event_type, check_payload(data));
        let before = self.log.iter().filter(|event| event.stream == *stream).count() as u64;
        self.log.push(LoggedEvent {
            stream: stream.clone(),
            revision: Revision(before + 1),
            event_type: Arc::clone(event_type),
            data: Arc::clone(data),
            tags: tags.clone(),
        });
    }

    /// What the stream's events add up to, each read from its text.
    #[track_caller]
    fn state_of<A: Aggregate>(&self, stream: &StreamId) -> A::State {
        let mut state = A::initial();
        let (once, again) = (self.json_of(&state), self.json_of(&A::initial()));
        if once != again {
            self.fail(&format!("{IMPURE} initial: {once} and {again}"));
        }
        for event in self.log.iter().filter(|event| event.stream == *stream) {
            let LoggedEvent { event_type, data, .. } = event;
            let read: A::Event = self.check(event_type, from_variant(event_type, data));
            let written = self.check(event_type, to_variant(&read));
            if *written.0 != **event_type || self.value_of(&written.1) != self.value_of(data) {
                let (name, text) = written;
                self.fail(&format!("{event_type} {data} comes back from serde as {name} {text}"));
            }
            state = self.state_after::<A>(state, &read);
        }
        state
    }

    #[track_caller]
    fn state_after<A: Aggregate>(&self, state: A::State, event: &A::Event) -> A::State {
        let again = A::evolve(state.clone(), event);
        let after = A::evolve(state, event);
        let (once, again) = (self.json_of(&after), self.json_of(&again));
        if once != again {
            self.fail(&format!("{IMPURE} evolve: {once} and {again}"));
        }
        after
    }

    #[track_caller]
    fn tags_of<A: Aggregate>(&self, event: &A::Event, before: &A::State) -> Vec<Tag> {
        let (tags, again) = (A::tags(event, before), A::tags(event, before));
        if tags != again {
            self.fail(&format!("{IMPURE} tags: {tags:?} and {again:?}"));
        }
        tags
    }

    /// Fails if nothing has expected that the command was refused.
    #[track_caller]
    fn expect_accepted(&self, When { outcome, met, .. }: &When) {
        if outcome.is_events() || *met {
            return;
        }
        let mut story = self.clone();
        story.lines.extend(indented(&outcome.lines(), "then  ", "      "));
        story.fail(&format!("nothing expects {}", outcome.name()));
    }

    #[track_caller]
    fn expect_state<A: Aggregate>(&self, stream: &StreamId, expected: &A::State) {
        let expected = self.value_of(&self.json_of(expected));
        let found = self.value_of(&self.json_of(&self.state_of::<A>(stream)));
        if let Some((place, left, right)) = difference(&expected, &found, "state") {
            let headline = format!("expected {place} to be {left}, found {right}");
            self.differs(&headline, &line_diff(&pretty(&expected), &pretty(&found)));
        }
    }

    #[track_caller]
    fn json_of(&self, value: &impl Serialize) -> String {
        self.check("a state can't be written", serde_json::to_string(value))
    }

    /// A text of serde's as a value.
    #[track_caller]
    fn value_of(&self, json: &str) -> Value {
        self.check("a text can't be read", serde_json::from_str(json))
    }

    #[track_caller]
    fn check<T, E: fmt::Display>(&self, what: &str, result: Result<T, E>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.fail(&format!("{what}: {error}")),
        }
    }

    fn told(&self) -> String {
        let id = if *self.id == *DEFAULT_ID { String::new() } else { format!(" {}", self.id) };
        let first = format!("given {}{id}", self.aggregate_type);
        [&[first], &*self.lines].concat().join("\n")
    }

    #[track_caller]
    fn fail(&self, headline: &str) -> ! {
        panic!("{headline}\n\n{}", self.told())
    }

    #[track_caller]
    fn differs(&self, headline: &str, diff: &[String]) -> ! {
        let diff = indented(diff, "    ", "    ").join("\n");
        panic!("{headline}\n\n{}\nthen  (- expected, + found)\n{diff}", self.told())
    }
}

const IMPURE: &str = "it must be pure, and two calls with the same arguments differ:";

/// What the engine would append, or tell.
#[derive(Debug, PartialEq)]
struct Decision {
    outcome: Outcome,
    events: Vec<NewEvent>,
    /// The state after the events, as JSON.
    after: Option<String>,
}

fn native<A: Aggregate>() -> Rc<dyn NativeAggregate> {
    match AggregateDefinition::native::<A>().domain {
        Domain::Native(native) => native,
        Domain::Hosted => unreachable!("it was made a native one"),
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}

fn text_lines(text: &str) -> Vec<String> {
    text.lines().map(ToOwned::to_owned).collect()
}

fn indented(lines: &[String], first: &str, others: &str) -> Vec<String> {
    let label = |index| if index == 0 { first } else { others };
    lines.iter().enumerate().map(|(index, line)| format!("{}{line}", label(index))).collect()
}
