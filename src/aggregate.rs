//! Aggregates written in Rust.

use std::cell::OnceCell;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::EventText;
use crate::fold::{FoldError, FoldedView, fold_texts};
use crate::projection::{EventContext, Projection};
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
#[derive(Debug)]
pub struct Context<'a> {
    /// When the command was given.
    pub issued_at: Timestamp,
    /// The events of other streams that match what `reads` returned, in order. What upcasters have
    /// made of a stored event may be one more than was asked for.
    pub others: &'a [OtherEvent<'a>],
    /// The first event that could not be folded: the decision fails for it.
    unfolded: OnceCell<FoldError>,
}

impl<'a> Context<'a> {
    /// What a decision may look at, for whoever calls `decide`: engines and tests.
    #[must_use]
    pub const fn new(issued_at: Timestamp, others: &'a [OtherEvent<'a>]) -> Self {
        Self { issued_at, others, unfolded: OnceCell::new() }
    }

    /// The documents that a projection makes of [`others`](Self::others), and of nothing before them.
    /// Types of events that it does not name are passed by. As an inline one it is told neither where
    /// an event is in the store nor when the store took it: some of them the store does not have yet.
    ///
    /// If an event can't be taken in, there are no documents, and the command fails with
    /// [`DomainFailed`](crate::CommandError::DomainFailed), which names the projection and the event,
    /// whatever the decision is. What runs until then must not panic.
    ///
    /// # A seat is taken once
    ///
    /// ```
    /// use annals::{
    ///     Aggregate, Context, EventContext, ProjectError, Projection, Query, Tag, View, ViewKind,
    /// };
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// enum Event { Taken { seat: u32 }, Left { seat: u32 } }
    ///
    /// /// By seat: the guest who has it.
    /// struct Seats;
    ///
    /// impl Projection for Seats {
    ///     const NAME: &'static str = "seats";
    ///     const VERSION: u32 = 1;
    ///     const KIND: ViewKind = ViewKind::Live;
    ///     type Event = Event;
    ///     type Document = String;
    ///
    ///     fn project(
    ///         view: &mut View<'_, String>,
    ///         event: Event,
    ///         context: &EventContext<'_>,
    ///     ) -> Result<(), ProjectError> {
    ///         match event {
    ///             Event::Taken { seat } => {
    ///                 view.set(&seat.to_string(), context.stream.aggregate_id.to_string());
    ///             }
    ///             Event::Left { seat } => view.remove(&seat.to_string()),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// struct Guest;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// enum Command { Take { seat: u32 } }
    /// #[derive(Serialize)]
    /// enum Refusal { SeatTaken { by: String } }
    ///
    /// impl Aggregate for Guest {
    ///     const TYPE: &'static str = "Guest";
    ///     type State = ();
    ///     type Command = Command;
    ///     type Event = Event;
    ///     type Refusal = Refusal;
    ///
    ///     fn initial() {}
    ///
    ///     fn decide((): &(), command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
    ///         let Command::Take { seat } = command;
    ///         match context.fold::<Seats>().get(&seat.to_string()) {
    ///             Some(guest) => Err(Refusal::SeatTaken { by: guest.clone() }),
    ///             None => Ok(vec![Event::Taken { seat: *seat }]),
    ///         }
    ///     }
    ///
    ///     fn evolve((): (), _: &Event) {}
    ///
    ///     fn reads(command: &Command, (): &()) -> Query {
    ///         let Command::Take { seat } = command;
    ///         Query::any_tag([format!("seat:{seat}")])
    ///     }
    ///
    ///     fn tags(event: &Event, (): &()) -> Vec<Tag> {
    ///         let (Event::Taken { seat } | Event::Left { seat }) = event;
    ///         vec![format!("seat:{seat}").into()]
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn fold<P: Projection>(&self) -> FoldedView<P> {
        let texts = self.others.iter().map(|other| {
            let OtherEvent { stream, revision, issued_at, actor, event_type, data } = *other;
            let context = EventContext { stream, revision, issued_at, actor, recorded: None };
            (context, EventText { event_type, schema_version: 0, data })
        });
        // They are those of today already.
        fold_texts(&[], texts).unwrap_or_else(|error| {
            // The first is told.
            let _ = self.unfolded.set(error);
            FoldedView::default()
        })
    }

    /// The first event that could not be folded.
    pub(crate) fn unfolded(&self) -> Option<&FoldError> {
        self.unfolded.get()
    }
}

/// An event of another stream, as its aggregate's upcasters read it; as it is stored, if the engine
/// has no such aggregate of this kind.
#[derive(Clone, Copy)]
pub struct OtherEvent<'a> {
    /// Its stream.
    pub stream: &'a StreamId,
    /// Its place in that stream.
    pub revision: Revision,
    /// When its command was given.
    pub issued_at: Timestamp,
    /// Who gave the command.
    pub actor: Option<&'a str>,
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
