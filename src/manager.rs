//! Process managers: what is to be done across streams, and when.
//!
//! A process manager is a reaction that answers events with commands. Its lanes are correlation keys:
//! the events of one key are handled one after the other, with a state and timers of their own. State,
//! timers and progress are saved as one. Commands are given before, with ids that follow from the event
//! or timer, so that giving them again after a crash repeats nothing.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::domain::{AggregateDefinition, EventText, Today, read_today};
use crate::event::{Metadata, RecordedEvent};
use crate::ids::{CommandId, MANAGER_KEY, TimerId, digest};
use crate::payload::{json_of, strings_of};
use crate::projection::EventContext;
use crate::protocol::{
    Document, DocumentName, DocumentValue, DueTimer, LogFilter, Posting, React, Reacting, Wishes,
};
use crate::reaction::{Lanes, ReactionDefinition, RetryPolicy, StartAt};
use crate::stream::{StreamId, check_name};
use crate::time::Timestamp;
use crate::upcast::Message;
use crate::variant::{from_variant, to_variant, variants_of};

/// The index of timers by the time they are due at.
pub(crate) const DUE: &str = "due";

/// The collection of a manager's states, by key.
pub(crate) fn states_of(manager: &str) -> Arc<str> {
    format!("managers/{manager}").into()
}

/// The collection of a manager's timers.
pub(crate) fn timers_of(manager: &str) -> Arc<str> {
    format!("timers/{manager}").into()
}

/// Answers events with commands.
///
/// Events are an enum with serde's ordinary derive; its variants are the types of events that the
/// manager wants, of whatever aggregates. All functions are pure: an event may be handled again after a
/// crash, and must then lead to the same commands.
///
/// # A reminder the day before
///
/// ```
/// use annals::{Aggregate, Cause, Commands, EventContext, ProcessManager, StartAt, Timestamp};
/// use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # enum Send { SendReminder { patient: String } }
/// # struct Letter;
/// # impl Aggregate for Letter {
/// #     const TYPE: &'static str = "Letter";
/// #     type State = ();
/// #     type Command = Send;
/// #     type Event = ();
/// #     type Refusal = ();
/// #     fn initial() {}
/// #     fn decide(_: &(), _: &Send, _: &annals::Context<'_>) -> Result<Vec<()>, ()> { Ok(vec![]) }
/// #     fn evolve((): (), (): &()) {}
/// # }
///
/// struct Reminder;
///
/// #[derive(Deserialize)]
/// enum Event { Booked { patient: String, start: i64 }, Cancelled {} }
///
/// impl ProcessManager for Reminder {
///     const NAME: &'static str = "reminder";
///     const START_AT: StartAt = StartAt::Now;
///     type Event = Event;
///     type State = String;
///
///     fn key(_: &Event, context: &EventContext<'_>) -> Option<String> {
///         Some(context.stream.aggregate_id.to_string())
///     }
///
///     fn handle(
///         patient: &mut String,
///         cause: Cause<'_, Event>,
///         commands: &mut Commands,
///     ) -> Result<(), String> {
///         match cause {
///             Cause::Event(Event::Booked { patient: name, start }, _) => {
///                 *patient = name;
///                 commands.remind_at("day before", Timestamp::from_millis(start - 86_400_000));
///             }
///             Cause::Event(Event::Cancelled {}, _) => commands.forget("day before"),
///             Cause::Timer(timer) => {
///                 let patient = patient.clone();
///                 commands.give::<Letter>(&timer.lane, &Send::SendReminder { patient });
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait ProcessManager: 'static {
    /// Its name, part of the stored form and of the ids of its commands.
    const NAME: &'static str;
    /// Where it begins on a store on which it has never run.
    const START_AT: StartAt;
    /// What happens to events and timers that can't be handled.
    const RETRIES: RetryPolicy = RetryPolicy::DEFAULT;
    /// Most events and timers that are being handled together, at least 1. Two of one key never are.
    const CONCURRENCY: u32 = 8;
    /// The events it handles, as the upcasters of their aggregates read them. Its variants are the types
    /// that are wanted.
    type Event: DeserializeOwned + 'static;
    /// What it remembers of a key. Of a key that it has not met, the default.
    type State: Default + Serialize + DeserializeOwned + 'static;

    /// The correlation key of an event; `None`: it is not wanted. It has 1 to 1,024 bytes, and no control
    /// characters. An event that can't be read, or whose key is none, stops the process manager before
    /// it: nobody knows who would have to wait for it.
    fn key(event: &Self::Event, context: &EventContext<'_>) -> Option<String>;

    /// Takes an event or a timer in, and says what is to be done.
    ///
    /// # Errors
    /// Why it can't be handled. It is tried again; after the last attempt its key is parked. Nothing of
    /// what was said is done then.
    fn handle(
        state: &mut Self::State,
        cause: Cause<'_, Self::Event>,
        commands: &mut Commands,
    ) -> Result<(), String>;
}

/// What a process manager is called for.
#[derive(Debug)]
pub enum Cause<'a, E> {
    /// An event, and where it comes from.
    Event(E, EventContext<'a>),
    /// The time of a timer has come.
    Timer(&'a DueTimer),
}

/// What a process manager wants to be done.
#[derive(Debug, Default)]
pub struct Commands {
    given: Vec<Wish>,
    timers: Vec<(Arc<str>, Option<Timestamp>)>,
    ends: bool,
    failed: Option<String>,
}

/// A command of a process manager, before it has an id.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) stream: StreamId,
    pub(crate) command_type: Arc<str>,
    pub(crate) data: Arc<str>,
}

impl Commands {
    /// Gives a command to the aggregate `id` of type `A`. A refusal is an answer: the command is not
    /// given again. All that are given for one event go out together; they have no order among streams.
    pub fn give<A: Aggregate>(&mut self, id: &str, command: &A::Command) {
        match to_variant(command) {
            Ok((command_type, data)) => {
                let stream = StreamId::new(A::TYPE, id);
                self.given.push(Wish { stream, command_type, data });
            }
            Err(error) => self.failed = Some(format!("the command can't be written: {error}")),
        }
    }

    /// Sets the key's timer of this name, in the place of one that is set. It is handled at that time, or
    /// as soon as may be after it, once.
    pub fn remind_at(&mut self, name: &str, at: Timestamp) {
        self.set(name, Some(at));
    }

    /// Takes the key's timer of this name away, if it is set.
    pub fn forget(&mut self, name: &str) {
        self.set(name, None);
    }

    /// The process is over: its state is taken away. Timers stay, unless they are forgotten.
    pub fn end(&mut self) {
        self.ends = true;
    }

    fn set(&mut self, name: &str, at: Option<Timestamp>) {
        self.timers.retain(|(known, _)| **known != *name);
        self.timers.push((name.into(), at));
    }
}

/// What comes of an event or a timer.
#[derive(Debug)]
pub(crate) struct Handled {
    pub(crate) wishes: Wishes,
    pub(crate) given: Vec<Wish>,
    /// What all commands carry.
    pub(crate) metadata: Metadata,
}

/// A native process manager whose types have been erased.
pub(crate) trait NativeManager {
    /// What it wants, and the commands it gives.
    fn handle(
        &self,
        aggregates: &[AggregateDefinition],
        react: &React,
    ) -> Result<Handled, Arc<str>>;
}

/// Carries the type `M` and no value of it.
struct Typed<M>(PhantomData<fn() -> M>);

pub(crate) fn native<M: ProcessManager>() -> Rc<dyn NativeManager> {
    Rc::new(Typed::<M>(PhantomData))
}

impl ReactionDefinition {
    /// The reaction of a process manager.
    #[must_use]
    pub fn manager<M: ProcessManager>() -> Self {
        let types = variants_of::<M::Event>().iter().map(|name| (*name).into()).collect();
        Self {
            name: M::NAME.into(),
            filter: LogFilter { types, ..LogFilter::default() },
            upcasts: true,
            start_at: M::START_AT,
            retries: M::RETRIES,
            concurrency: M::CONCURRENCY,
            lanes: Lanes::Native(keys_of::<M>),
        }
    }
}

fn context_of(event: &RecordedEvent) -> EventContext<'_> {
    EventContext {
        stream: &event.stream,
        revision: event.revision,
        issued_at: event.issued_at,
        actor: event.metadata.actor.as_deref(),
        recorded: Some((event.position, event.recorded_at)),
    }
}

/// An event as it is today, and whose it is.
struct Part<E> {
    key: Arc<str>,
    event: E,
}

/// What upcasters have made of an event, as far as the process manager wants it, with the keys.
fn parts_of<M: ProcessManager>(
    aggregates: &[AggregateDefinition],
    event: &RecordedEvent,
) -> Result<Vec<Part<M::Event>>, Arc<str>> {
    let RecordedEvent { event_type, schema_version, data, .. } = event;
    let text = EventText { event_type, schema_version: *schema_version, data };
    let messages = match read_today(aggregates, &event.stream, text, None) {
        Ok(Today::AsStored) => vec![Message {
            event_type: Arc::clone(event_type),
            schema_version: *schema_version,
            data: Arc::clone(data),
        }],
        Ok(Today::Upcast(messages)) => messages,
        Ok(Today::Skipped) => Vec::new(),
        Err(why) => return Err(why.reason),
    };
    let mut parts = Vec::new();
    for Message { event_type, data, .. } in messages {
        // What may become one of its types comes too.
        if !variants_of::<M::Event>().contains(&&*event_type) {
            continue;
        }
        let read: M::Event = from_variant(&event_type, &data)
            .map_err(|error| Arc::from(format!("{event_type}: {error}")))?;
        if let Some(key) = M::key(&read, &context_of(event)) {
            check_name("correlation key", &key).map_err(|error| Arc::from(error.to_string()))?;
            parts.push(Part { key: key.into(), event: read });
        }
    }
    Ok(parts)
}

fn keys_of<M: ProcessManager>(
    aggregates: &[AggregateDefinition],
    event: &RecordedEvent,
) -> Result<Vec<Arc<str>>, Arc<str>> {
    let mut keys = Vec::new();
    for Part { key, .. } in parts_of::<M>(aggregates, event)? {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

impl<M: ProcessManager> NativeManager for Typed<M> {
    fn handle(
        &self,
        aggregates: &[AggregateDefinition],
        react: &React,
    ) -> Result<Handled, Arc<str>> {
        let mut state: M::State = match &react.state {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| format!("the state of {} can't be read: {error}", react.lane))?,
            None => M::State::default(),
        };
        let mut commands = Commands::default();
        let (cause, causation_id, correlation_id) = match &react.event {
            Reacting::Event(event) => {
                let parts = parts_of::<M>(aggregates, event)?;
                for Part { event: read, .. } in
                    parts.into_iter().filter(|part| part.key == react.lane)
                {
                    if std::mem::take(&mut commands.ends) {
                        state = M::State::default();
                    }
                    M::handle(&mut state, Cause::Event(read, context_of(event)), &mut commands)?;
                }
                let id: Arc<str> = event.event_id.to_string().into();
                let correlation_id = event.metadata.correlation_id.clone();
                let correlation_id = correlation_id.unwrap_or_else(|| event.command_id.to_text());
                (Arc::clone(&id), id, correlation_id)
            }
            Reacting::Timer(timer) => {
                M::handle(&mut state, Cause::Timer(timer), &mut commands)?;
                let DueTimer { id, causation_id, correlation_id, .. } = &**timer;
                (id.to_string().into(), Arc::clone(causation_id), Arc::clone(correlation_id))
            }
            Reacting::Held { .. } => unreachable!("a native store gives whole events"),
        };
        let Commands { given, timers, ends, failed } = commands;
        if let Some(failed) = failed {
            return Err(failed.into());
        }
        let state = match ends {
            true => None,
            false => Some(serde_json::to_string(&state).map_err(unwritten)?.into()),
        };
        let commands = u32::try_from(given.len()).expect("fewer than 2^32 commands");
        let metadata = Metadata {
            correlation_id: Some(Arc::clone(&correlation_id)),
            causation_id: Some(causation_id),
            actor: Some(M::NAME.into()),
            extra: None,
        };
        let wishes = Wishes { cause, correlation_id, state, timers, commands };
        Ok(Handled { wishes, given, metadata })
    }
}

fn unwritten(error: serde_json::Error) -> Arc<str> {
    format!("the state can't be written: {error}").into()
}

/// What the commands and documents of a process manager derive from: the same for every attempt.
pub(crate) struct Origin<'a> {
    pub(crate) manager: &'a str,
    pub(crate) lane: &'a Arc<str>,
    /// Id of the event or the timer.
    pub(crate) cause: Arc<str>,
    pub(crate) causation_id: Arc<str>,
    pub(crate) correlation_id: Arc<str>,
}

impl Origin<'_> {
    pub(crate) fn command(&self, index: u32) -> CommandId {
        CommandId(self.derive(b'c', &index.to_be_bytes()))
    }

    pub(crate) fn state(&self, revision: u64, state: Option<Arc<str>>) -> Document {
        Document {
            name: DocumentName { collection: states_of(self.manager), key: Arc::clone(self.lane) },
            revision,
            value: state.map_or(DocumentValue::Removed, DocumentValue::Text),
            postings: Vec::new(),
        }
    }

    pub(crate) fn timer(&self, name: Arc<str>, due: Option<Timestamp>) -> Document {
        let timer = DueTimer {
            lane: Arc::clone(self.lane),
            id: TimerId(self.derive(b't', name.as_bytes())),
            name,
            due: due.unwrap_or_default(),
            causation_id: Arc::clone(&self.causation_id),
            correlation_id: Arc::clone(&self.correlation_id),
        };
        match due {
            Some(_) => timer.document(self.manager, true),
            None => {
                Document { value: DocumentValue::Removed, ..timer.document(self.manager, false) }
            }
        }
    }

    /// What is derived from ends in what may have control characters.
    fn derive(&self, kind: u8, what: &[u8]) -> Uuid {
        let mut name = Vec::new();
        for part in [self.cause.as_bytes(), self.lane.as_bytes(), self.manager.as_bytes(), &[kind]]
        {
            name.extend_from_slice(part);
            name.push(b'\n');
        }
        name.extend_from_slice(what);
        digest(MANAGER_KEY, &name)
    }
}

impl DueTimer {
    /// The key of its document, and the lane it is when it can't be handled.
    pub(crate) fn key(&self) -> Arc<str> {
        Self::key_of(&self.lane, &self.name)
    }

    /// The key of the timer of this name of a lane.
    pub(crate) fn key_of(lane: &str, name: &str) -> Arc<str> {
        json_of(&["timer", lane, name]).into()
    }

    /// Its document. One that is not `awaited` is not found by its time.
    pub(crate) fn document(&self, manager: &str, awaited: bool) -> Document {
        let Self { lane, name, due, id, causation_id, correlation_id } = self;
        let (due, id) = (due.millis().to_string(), id.to_string());
        let value = json_of(&[lane, name, &due, &id, causation_id, correlation_id]);
        let posting = Posting { index: DUE.into(), value: due_text(self.due) };
        Document {
            name: DocumentName { collection: timers_of(manager), key: self.key() },
            revision: 1,
            value: DocumentValue::Text(value.into()),
            postings: awaited.then_some(posting).into_iter().collect(),
        }
    }

    /// The lane of the timer with this key.
    pub(crate) fn lane_of_key(key: &str) -> Option<String> {
        strings_of(key)?.into_iter().nth(1)
    }

    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let texts = strings_of(text)?;
        let [lane, name, due, id, causation_id, correlation_id] = &texts[..] else {
            return None;
        };
        Some(Self {
            lane: (&**lane).into(),
            name: (&**name).into(),
            due: Timestamp::from_millis(due.parse().ok()?),
            id: id.parse().ok()?,
            causation_id: (&**causation_id).into(),
            correlation_id: (&**correlation_id).into(),
        })
    }
}

/// A time as the index has it. All times before 1970 have come alike.
fn due_text(due: Timestamp) -> Arc<str> {
    format!("{:016}", due.millis().max(0)).into()
}
