//! Aggregates written in Rust.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::query::{Query, Tag};
use crate::stream::{Revision, StreamId};
use crate::time::Timestamp;
use crate::upcast::Upcasters;
use crate::variant::from_variant;

/// The consistency boundary: what a stream of events means, and which commands it allows.
///
/// Commands, events and refusals are enums with serde's ordinary derive; the variant is the type,
/// its fields are the data. All functions are pure.
///
/// # A counter that never goes above a limit
///
/// ```
/// use annals::{Aggregate, Context};
/// use serde::{Deserialize, Serialize};
///
/// struct Counter;
///
/// #[derive(Serialize, Deserialize)]
/// enum Command { Add { amount: u32 } }
/// #[derive(Serialize, Deserialize)]
/// enum Event { Added { amount: u32 } }
/// #[derive(Serialize, Debug, PartialEq)]
/// #[serde(rename_all = "kebab-case")]
/// enum Refusal { LimitReached { limit: u32 } }
///
/// impl Aggregate for Counter {
///     const TYPE: &'static str = "Counter";
///     type State = u32;
///     type Command = Command;
///     type Event = Event;
///     type Refusal = Refusal;
///
///     fn initial() -> u32 { 0 }
///
///     fn decide(state: &u32, command: &Command, _: &Context<'_>) -> Result<Vec<Event>, Refusal> {
///         let Command::Add { amount } = command;
///         if state + amount > 10 {
///             return Err(Refusal::LimitReached { limit: 10 });
///         }
///         Ok(vec![Event::Added { amount: *amount }])
///     }
///
///     fn evolve(state: u32, event: &Event) -> u32 {
///         let Event::Added { amount } = event;
///         state + amount
///     }
/// }
/// ```
pub trait Aggregate: 'static {
    /// Name of the aggregate type, part of the stored form.
    const TYPE: &'static str;
    /// What the events add up to.
    type State: Clone + Serialize + 'static;
    /// What may be asked.
    type Command: DeserializeOwned + Serialize + 'static;
    /// What may happen.
    type Event: DeserializeOwned + Serialize + 'static;
    /// Why a command may be refused. The variant is the code, its fields are the details.
    type Refusal: Serialize + 'static;

    /// The state before the first event.
    fn initial() -> Self::State;

    /// What follows from the command: events, none if there is nothing to do, or a refusal.
    ///
    /// # Errors
    /// A refusal, which the caller gets.
    fn decide(
        state: &Self::State,
        command: &Self::Command,
        context: &Context<'_>,
    ) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after an event. Can't fail: the event has happened.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;

    /// Which events of other streams the decision rests on. They come as [`Context::others`], and
    /// the append fails if another of them has come in between.
    fn reads(_command: &Self::Command, _state: &Self::State) -> Query {
        Query::none()
    }

    /// How events that earlier releases have stored are read today.
    fn upcasters() -> Upcasters<Self::Event> {
        Upcasters::none()
    }

    /// Tags of an event, for the `reads` of others. `before` is the state before it, so that a
    /// cancellation can carry the tag of the slot it frees.
    fn tags(_event: &Self::Event, _before: &Self::State) -> Vec<Tag> {
        Vec::new()
    }
}

/// What a decision may look at besides the state and the command.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// When the command was given.
    pub issued_at: Timestamp,
    /// The events of other streams that match what `reads` returned, in order. What upcasters have
    /// made of a stored event may be one more than was asked for.
    pub others: &'a [OtherEvent<'a>],
}

/// An event of another stream, as its aggregate's upcasters read it; as it is stored, if the engine
/// has no such aggregate of this kind.
#[derive(Clone, Copy)]
pub struct OtherEvent<'a> {
    /// Its stream.
    pub stream: &'a StreamId,
    /// Its place in that stream.
    pub revision: Revision,
    /// Its type.
    pub event_type: &'a str,
    /// Its payload: JSON text.
    pub data: &'a str,
}

impl OtherEvent<'_> {
    /// The event as a value of the enum `E`.
    ///
    /// # Errors
    /// If `E` has no such variant or its data does not fit.
    pub fn read<E: DeserializeOwned>(&self) -> Result<E, serde_json::Error> {
        from_variant(self.event_type, self.data)
    }
}

impl fmt::Debug for OtherEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {} {}", self.stream, self.revision, self.event_type, self.data)
    }
}
