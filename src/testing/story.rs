//! What has happened so far in a test, what comes of the next command, and how it is told.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::aggregate::{Aggregate, Context, OtherEvent};
use crate::domain::{
    AggregateDefinition, Domain, NativeAggregate, NativeDecision, NativeState, native_state,
};
use crate::event::{NewEvent, Payload};
use crate::payload::check_payload;
use crate::query::{Query, Tag};
use crate::stream::{Revision, StreamId, check_name};
use crate::time::Timestamp;
use crate::upcast::Message;
use crate::variant::{from_variant, to_variant};

use super::diff::{difference, line_diff, pretty};

/// What the one under test is called if nobody says.
const DEFAULT_ID: &str = "under-test";

/// A command has been given.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) outcome: Outcome,
    pub(super) stream: StreamId,
    pub(super) query: Query,
    /// Whether the test has expected the outcome.
    pub(super) met: bool,
}

/// What came of a command: types or code, and the data.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Events(Vec<(Arc<str>, Value)>),
    Refused(Arc<str>, Value),
}

impl Outcome {
    pub(super) fn is_events(&self) -> bool {
        matches!(self, Self::Events(_))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Events(events) if events.is_empty() => "nothing".into(),
            Self::Events(events) => {
                events.iter().map(|(event_type, _)| &**event_type).collect::<Vec<_>>().join(", ")
            }
            Self::Refused(code, _) => format!("the refusal {code}"),
        }
    }

    /// A line for each event.
    pub(super) fn lines(&self) -> Vec<String> {
        self.texts(Value::to_string)
    }

    /// In one line.
    fn told(&self) -> String {
        self.lines().join(", ")
    }

    /// Over several lines.
    pub(super) fn pretty(&self) -> String {
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
pub(super) struct LoggedEvent {
    pub(super) stream: StreamId,
    pub(super) revision: Revision,
    pub(super) issued_at: Timestamp,
    pub(super) actor: Option<Arc<str>>,
    pub(super) event_type: Arc<str>,
    pub(super) schema_version: u32,
    pub(super) data: Arc<str>,
    pub(super) tags: Vec<Tag>,
    /// Whether an earlier release has stored it.
    pub(super) is_old: bool,
}

/// How a failure tells that nothing has happened.
pub(super) const NOTHING: &str = "      nothing";

/// The beginning of 2026.
const DEFAULT_TIME: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// What has happened so far in a test, and how it is told.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) aggregate_type: &'static str,
    /// The one under test.
    pub(super) id: Arc<str>,
    pub(super) now: Timestamp,
    /// Who does what happens.
    pub(super) actor: Option<Arc<str>>,
    pub(super) log: Vec<LoggedEvent>,
    /// How a failure tells it, after its first line.
    pub(super) lines: Vec<String>,
}

impl Story {
    /// Nothing has happened.
    pub(super) fn new(aggregate_type: &'static str) -> Self {
        Self {
            aggregate_type,
            id: DEFAULT_ID.into(),
            now: DEFAULT_TIME,
            actor: None,
            log: Vec::new(),
            lines: Vec::new(),
        }
    }

    pub(super) fn stream(&self) -> StreamId {
        StreamId::new(self.aggregate_type, &self.id)
    }

    /// Another time.
    #[track_caller]
    pub(super) fn at(&mut self, time: impl fmt::Display) {
        match time.to_string().parse() {
            Ok(now) => self.at_time(now),
            Err(error) => panic!("{error}"),
        }
    }

    /// A later time.
    pub(super) fn advance(&mut self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.at_time(self.now.plus(millis));
    }

    fn at_time(&mut self, now: Timestamp) {
        self.now = now;
        self.lines.push(format!("at    {now}"));
    }

    /// Another actor.
    #[track_caller]
    pub(super) fn by(&mut self, actor: &str) {
        self.check("by", check_name("actor", actor));
        self.actor = Some(actor.into());
        self.lines.push(format!("by    {actor}"));
    }

    /// Lets events happen to a stream, as if commands had led to them.
    #[track_caller]
    pub(super) fn happened<A: Aggregate>(
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
            let schema_version = native::<A>().version(&event_type);
            let data = Payload::Text(data);
            self.append(stream, &NewEvent { event_type, schema_version, tags, data }, false);
            state = self.state_after::<A>(state, &event);
        }
        self.expect_same(&self.json_of(&state), &self.json_of(&self.state_of::<A>(stream)));
    }

    /// Lets an event happen as an earlier release has stored it.
    #[track_caller]
    pub(super) fn stored<A: Aggregate>(&mut self, event_type: &str, version: u32, data: &str) {
        self.lines.retain(|line| line != NOTHING);
        self.lines.push(format!("      {event_type} (version {version}) {data}"));
        let event = NewEvent {
            event_type: event_type.into(),
            schema_version: version,
            tags: Vec::new(),
            data: Payload::Text(data.into()),
        };
        let stream = self.stream();
        self.append(&stream, &event, true);
        self.state_of::<A>(&stream);
    }

    /// What earlier releases have stored, as it is read today.
    #[track_caller]
    pub(super) fn upcast<A: Aggregate>(&self) -> Outcome {
        let stream = self.stream();
        let mut found = Vec::new();
        for event in self.log.iter().filter(|event| event.is_old && event.stream == stream) {
            for Message { event_type, data, .. } in self.messages_of::<A>(event) {
                found.push((event_type, self.value_of(&data)));
            }
        }
        Outcome::Events(found)
    }

    /// What an event of the log is today.
    #[track_caller]
    fn messages_of<A: Aggregate>(&self, event: &LoggedEvent) -> Vec<Message> {
        let LoggedEvent { event_type, schema_version, data, .. } = event;
        let native = native::<A>();
        let once = native.upcast(event_type, *schema_version, data, None);
        let again = native.upcast(event_type, *schema_version, data, None);
        let messages = match once.clone() {
            Ok(messages) => messages.unwrap_or_default(),
            Err(why) => self.fail(&why.reason),
        };
        if once != again {
            self.fail(&format!(
                "two runs of the upcasters of {event_type} on the same data differ: {once:?} and {again:?}"
            ));
        }
        messages
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

    /// Fails if the aggregate's upcasters can't be applied one after the other.
    #[track_caller]
    pub(super) fn check_upcasters<A: Aggregate>(&self) {
        if let Some((event_type, rule)) = native::<A>().mistake() {
            self.fail(&format!("upcasters of {event_type}: {rule}"));
        }
    }

    /// What a test expects, as it is compared.
    #[track_caller]
    pub(super) fn events_as_values<E: Serialize>(
        &self,
        events: impl IntoIterator<Item = E>,
    ) -> Outcome {
        let written = |event: E| {
            let (event_type, data) = self.check("an expected event", to_variant(&event));
            (event_type, self.value_of(&data))
        };
        Outcome::Events(events.into_iter().map(written).collect())
    }

    /// What comes of a command.
    #[track_caller]
    pub(super) fn commanded<A: Aggregate>(&mut self, id: &str, command: &A::Command) -> Asked {
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
        let at_hand = native_state(state.clone());
        let query = native.reads(&read, &at_hand);
        let again = native.reads(&read, &at_hand);
        if again != query {
            self.fail(&format!(
                "two calls of reads with the same arguments differ: {query:?} and {again:?}"
            ));
        }
        let unwritten = A::reads(command, &state);
        if unwritten != query {
            self.fail(&format!(
                "the command is another when it is read from its text: it reads {query:?} then, and not {unwritten:?}"
            ));
        }
        self.check("reads", query.check());

        let log = self.log.clone();
        let others: Vec<OtherEvent<'_>> = log
            .iter()
            .filter(|event| event.stream != stream && query.matches(&event.event_type, &event.tags))
            .map(|event| OtherEvent {
                stream: &event.stream,
                revision: event.revision,
                issued_at: event.issued_at,
                actor: event.actor.as_deref(),
                event_type: &event.event_type,
                data: &event.data,
            })
            .collect();
        let context = || Context::new(self.now, &others);
        let unwritten = self.direct_decision::<A>(state.clone(), command, &context());
        let decision = self.decision(&*native, &at_hand, &read, &context());
        let again = self.decision(&*native, &at_hand, &read, &context());
        if decision != again {
            let (once, again) = (decision.outcome.told(), again.outcome.told());
            self.fail(&format!(
                "two calls of decide with the same arguments differ: {once} and {again}"
            ));
        }
        if decision.outcome != unwritten {
            let (read, unwritten) = (decision.outcome.told(), unwritten.told());
            self.fail(&format!(
                "the command is another when it is read from its text: {read} comes of it, and not {unwritten}"
            ));
        }
        for event in &decision.events {
            self.append(&stream, event, false);
        }
        if let Some(after) = &decision.after {
            self.expect_same(after, &self.json_of(&self.state_of::<A>(&stream)));
        }
        Asked { outcome: decision.outcome, stream, query, met: false }
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
        let decision = A::decide(&state, command, context);
        if let Some(error) = context.unfolded() {
            self.fail(&format!("decide: {error}"));
        }
        match decision {
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
    fn append(&mut self, stream: &StreamId, event: &NewEvent, is_old: bool) {
        let NewEvent { event_type, schema_version, tags, data: Payload::Text(data) } = event else {
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
            issued_at: self.now,
            actor: self.actor.clone(),
            event_type: Arc::clone(event_type),
            schema_version: *schema_version,
            data: Arc::clone(data),
            tags: tags.clone(),
            is_old,
        });
    }

    /// What the stream's events add up to, each read from its text.
    #[track_caller]
    fn state_of<A: Aggregate>(&self, stream: &StreamId) -> A::State {
        let mut state = A::initial();
        let (once, again) = (self.json_of(&state), self.json_of(&A::initial()));
        if once != again {
            self.fail(&format!(
                "two calls of initial with the same arguments differ: {once} and {again}"
            ));
        }
        let mut messages = Vec::new();
        for event in self.log.iter().filter(|event| event.stream == *stream) {
            messages.append(&mut self.messages_of::<A>(event));
        }
        for Message { event_type, data, .. } in &messages {
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
            self.fail(&format!(
                "two calls of evolve with the same arguments differ: {once} and {again}"
            ));
        }
        after
    }

    #[track_caller]
    fn tags_of<A: Aggregate>(&self, event: &A::Event, before: &A::State) -> Vec<Tag> {
        let (tags, again) = (A::tags(event, before), A::tags(event, before));
        if tags != again {
            self.fail(&format!(
                "two calls of tags with the same arguments differ: {tags:?} and {again:?}"
            ));
        }
        tags
    }

    /// Fails if nothing has expected that the command was refused.
    #[track_caller]
    pub(super) fn expect_accepted(&self, Asked { outcome, met, .. }: &Asked) {
        if outcome.is_events() || *met {
            return;
        }
        let mut story = self.clone();
        story.lines.extend(indented(&outcome.lines(), "then  ", "      "));
        story.fail(&format!("nothing expects {}", outcome.name()));
    }

    #[track_caller]
    pub(super) fn expect_state<A: Aggregate>(&self, stream: &StreamId, expected: &A::State) {
        let expected = self.value_of(&self.json_of(expected));
        let found = self.value_of(&self.json_of(&self.state_of::<A>(stream)));
        self.expect_value("state", &expected, &found);
    }

    /// Fails if another value was found, and names the first place that differs; `what` is what the value is of.
    #[track_caller]
    pub(super) fn expect_value(&self, what: &str, expected: &Value, found: &Value) {
        if let Some((place, left, right)) = difference(expected, found, what) {
            let headline = format!("expected {place} to be {left}, found {right}");
            self.differs(&headline, &line_diff(&pretty(expected), &pretty(found)));
        }
    }

    #[track_caller]
    fn json_of(&self, value: &impl Serialize) -> String {
        self.check("a state can't be written", serde_json::to_string(value))
    }

    /// A text of serde's as a value.
    #[track_caller]
    pub(super) fn value_of(&self, json: &str) -> Value {
        self.check("a text can't be read", serde_json::from_str(json))
    }

    #[track_caller]
    pub(super) fn check<T, E: fmt::Display>(&self, what: &str, result: Result<T, E>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.fail(&format!("{what}: {error}")),
        }
    }

    pub(super) fn told(&self) -> String {
        let id = if *self.id == *DEFAULT_ID { String::new() } else { format!(" {}", self.id) };
        let first = format!("given {}{id}", self.aggregate_type);
        [&[first], &*self.lines].concat().join("\n")
    }

    #[track_caller]
    pub(super) fn fail(&self, headline: &str) -> ! {
        panic!("{headline}\n\n{}", self.told())
    }

    #[track_caller]
    pub(super) fn differs(&self, headline: &str, diff: &[String]) -> ! {
        let diff = indented(diff, "    ", "    ").join("\n");
        panic!("{headline}\n\n{}\nthen  (- expected, + found)\n{diff}", self.told())
    }
}

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

pub(super) fn indented(lines: &[String], first: &str, others: &str) -> Vec<String> {
    let label = |index| if index == 0 { first } else { others };
    lines.iter().enumerate().map(|(index, line)| format!("{}{line}", label(index))).collect()
}

pub(super) fn text_lines(text: &str) -> Vec<String> {
    text.lines().map(ToOwned::to_owned).collect()
}

/// In one line; `nothing`, if there is nothing.
pub(super) fn listed(items: impl Iterator<Item: fmt::Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}

/// Lines of texts that have nothing to do with each other.
pub(super) fn unlike(expected: &[String], found: &[String]) -> Vec<String> {
    let lines = |texts: &[String], sign: &str| {
        let texts = if texts.is_empty() { &["nothing".to_owned()] } else { texts };
        indented(&text_lines(&texts.join("\n")), sign, sign)
    };
    [lines(expected, "- "), lines(found, "+ ")].concat()
}
