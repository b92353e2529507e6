//! Tests of a domain: given what has happened, when a command is given, then this comes of it.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::aggregate::Aggregate;
use crate::query::{Query, Tag};
use crate::stream::{StreamId, check_name};
use crate::variant::to_variant;

use super::diff::{line_diff, pretty};
use super::story::{Asked, NOTHING, Outcome, Story, indented, text_lines};

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
    let mut story = Story::new(A::TYPE);
    story.check_upcasters::<A>();
    story.happened::<A>(&story.stream(), events);
    if story.lines.is_empty() {
        story.lines.push(NOTHING.into());
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
pub struct When(Asked);

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
    /// beginning of 2026. A time is a [`Timestamp`](crate::Timestamp), or its text: `2026-11-23T09:00:00Z`.
    ///
    /// # Panics
    /// If the text is no time with its zone.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn at(mut self, time: impl fmt::Display) -> Self {
        self.story.at(time);
        self
    }

    /// Puts the clock forward, by whole milliseconds.
    #[must_use = "a test expects something"]
    pub fn advance(mut self, span: Duration) -> Self {
        self.story.advance(span);
        self
    }

    /// Says who gives the commands from here on. Decisions of others that fold see it; at first nobody
    /// says.
    ///
    /// # Panics
    /// If the name can't be one.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn by(mut self, actor: &str) -> Self {
        self.story.by(actor);
        self
    }

    /// Lets events happen to another aggregate of this type. They have the tags that it gives them,
    /// and come as [`Context::others`](crate::Context::others), in the order of the test, to decisions that read them.
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
            story.expect_accepted(&asked.0);
            story.lines.extend(indented(&asked.0.outcome.lines(), "then  ", "      "));
        }
        let asked = story.commanded::<A>(id, command.borrow());
        Case { story, stage: When(asked), aggregate: PhantomData }
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

    /// Lets an event happen as an earlier release has stored it: its type, its schema version and its
    /// data as JSON text. Its upcasters are called twice, as every function.
    ///
    /// # Panics
    /// With the whole story, if it can't be read, or something is wrong with what its upcasters give.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn stored(mut self, event_type: &str, version: u32, data: &str) -> Self {
        self.story.stored::<A>(event_type, version, data);
        self
    }

    /// What was given as [`stored`](Self::stored) is read as these events, in order.
    ///
    /// # Panics
    /// With the whole story, if it is read as others.
    #[track_caller]
    pub fn then_upcast(self, events: impl IntoIterator<Item = A::Event>) -> Self {
        let expected = self.story.events_as_values(events);
        self.expect(&expected, &self.story.upcast::<A>());
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
        let expected = self.story.events_as_values(events);
        self.expect_outcome(&expected);
        self.stage.0.met = true;
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
        self.expect_outcome(&Outcome::Refused(code, details));
        self.stage.0.met = true;
        self
    }

    /// The command is refused with this code, whatever the details.
    ///
    /// # Panics
    /// With the whole story, if something else comes.
    #[track_caller]
    pub fn then_refused_as(mut self, code: &str) -> Self {
        let details = match &self.stage.0.outcome {
            Outcome::Refused(found, details) if **found == *code => details.clone(),
            _ => Value::Null,
        };
        self.expect_outcome(&Outcome::Refused(code.into(), details));
        self.stage.0.met = true;
        self
    }

    /// The state after the command.
    ///
    /// # Panics
    /// With the whole story, if it is another.
    #[track_caller]
    pub fn then_state(self, expected: impl Borrow<A::State>) -> Self {
        self.story.expect_accepted(&self.stage.0);
        self.story.expect_state::<A>(&self.stage.0.stream, expected.borrow());
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
        self.story.expect_accepted(&self.stage.0);
        let expected: Vec<Vec<Tag>> = expected
            .into_iter()
            .map(|tags| sorted(tags.into_iter().map(|tag| tag.as_ref().into())))
            .collect();
        let count = match &self.stage.0.outcome {
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
        let (expected, found) = (lines(expected.borrow()), lines(&self.stage.0.query));
        if expected != found {
            let diff = line_diff(&expected, &found);
            self.story.differs("expected the decision to read something else", &diff);
        }
        self
    }

    #[track_caller]
    fn expect_outcome(&self, expected: &Outcome) {
        self.expect(expected, &self.stage.0.outcome);
    }
}

impl<A: Aggregate, S: Stage> Case<A, S> {
    #[track_caller]
    fn expect(&self, expected: &Outcome, found: &Outcome) {
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

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}
