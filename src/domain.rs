//! The engine's view of a domain: native aggregates behind one object-safe trait, and states that
//! are either values here or numbers that stand for values in the host.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::aggregate::{Aggregate, Context};
use crate::event::{NewEvent, Payload};
use crate::protocol::{Handle, PageId, Release};
use crate::query::Query;
use crate::snapshot::{JsonCodec, SnapshotPolicy, StateCodec};
use crate::variant::{for_each_variant, from_variant, to_variant};

/// A state of an aggregate.
#[derive(Clone)]
pub struct State(pub(crate) StateKind);

#[derive(Clone)]
pub(crate) enum StateKind {
    Native(Rc<dyn NativeState>),
    Hosted(Rc<HandleLease>),
}

impl State {
    /// The state as a value, if `A` is the aggregate it belongs to.
    #[must_use]
    pub fn value<A: Aggregate>(&self) -> Option<&A::State> {
        match &self.0 {
            StateKind::Native(state) => state.as_any().downcast_ref(),
            StateKind::Hosted(_) => None,
        }
    }

    /// The host's number, if the host keeps the state. It is valid for as long as this value.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        match &self.0 {
            StateKind::Native(_) => None,
            StateKind::Hosted(lease) => Some(lease.handle),
        }
    }

    /// The state as JSON; `None` if the host keeps it.
    ///
    /// # Errors
    /// If serde_json can't write the state.
    pub fn to_json(&self) -> Option<Result<String, serde_json::Error>> {
        match &self.0 {
            StateKind::Native(state) => Some(state.to_json()),
            StateKind::Hosted(_) => None,
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StateKind::Native(state) => {
                f.write_str(&state.to_json().unwrap_or_else(|error| error.to_string()))
            }
            StateKind::Hosted(lease) => lease.handle.fmt(f),
        }
    }
}

/// A state that lives here.
pub(crate) trait NativeState {
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
    fn to_json(&self) -> Result<String, serde_json::Error>;
}

impl<S: serde::Serialize + 'static> NativeState for S {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// What the host keeps for the engine and may drop when the last lease of it is gone.
pub(crate) type Released = Rc<RefCell<Release>>;

pub(crate) struct HandleLease {
    handle: Handle,
    released: Released,
}

impl HandleLease {
    pub(crate) fn new(handle: Handle, released: &Released) -> Rc<Self> {
        Rc::new(Self { handle, released: Rc::clone(released) })
    }
}

impl Drop for HandleLease {
    fn drop(&mut self) {
        if self.handle != Handle::INITIAL && self.handle != Handle::SNAPSHOT {
            self.released.borrow_mut().handles.push(self.handle);
        }
    }
}

pub(crate) struct PageLease {
    pub(crate) page: PageId,
    pub(crate) count: u32,
    released: Released,
}

impl PageLease {
    pub(crate) fn new(page: PageId, count: u32, released: &Released) -> Rc<Self> {
        Rc::new(Self { page, count, released: Rc::clone(released) })
    }
}

impl Drop for PageLease {
    fn drop(&mut self) {
        self.released.borrow_mut().pages.push(self.page);
    }
}

/// One event as a fold needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventText<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) data: &'a str,
}

pub(crate) type Command = Rc<dyn Any>;

/// What a native `decide` gives.
pub(crate) enum NativeDecision {
    Decided { events: Vec<NewEvent>, after: Rc<dyn NativeState> },
    Refused { code: Arc<str>, details: Arc<str> },
    Failed { reason: Arc<str> },
}

/// A native aggregate whose types have been erased.
pub(crate) trait NativeAggregate {
    fn initial(&self) -> Rc<dyn NativeState>;

    /// The state after the events, or the index of the first that can't be read, and why.
    fn fold(
        &self,
        state: Rc<dyn NativeState>,
        events: &mut dyn Iterator<Item = EventText<'_>>,
    ) -> Result<Rc<dyn NativeState>, (usize, Arc<str>)>;

    /// The same for events whose payloads are the elements of a JSON array.
    fn fold_json(
        &self,
        state: Rc<dyn NativeState>,
        types: &[Arc<str>],
        data: &str,
    ) -> Result<Rc<dyn NativeState>, (usize, Arc<str>)>;

    fn read_command(&self, command_type: &str, data: &str) -> Result<Command, Arc<str>>;

    fn reads(&self, command: &Command, state: &Rc<dyn NativeState>) -> Query;

    fn decide(
        &self,
        state: &Rc<dyn NativeState>,
        command: &Command,
        context: &Context<'_>,
    ) -> NativeDecision;
}

/// How an aggregate is defined.
#[derive(Clone)]
pub(crate) enum Domain {
    Native(Rc<dyn NativeAggregate>),
    Hosted,
}

/// An aggregate an engine is made with.
#[derive(Clone)]
pub struct AggregateDefinition {
    pub(crate) name: Arc<str>,
    pub(crate) domain: Domain,
    pub(crate) snapshots: Option<Snapshots>,
}

/// That an aggregate has snapshots.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) policy: SnapshotPolicy,
    /// `None` if the states live in the host.
    pub(crate) codec: Option<Rc<dyn StateCodec>>,
}

impl AggregateDefinition {
    /// An aggregate written in Rust.
    #[must_use]
    pub fn native<A: Aggregate>() -> Self {
        let domain = Domain::Native(Rc::new(Typed::<A>(PhantomData)));
        Self { name: A::TYPE.into(), domain, snapshots: None }
    }

    /// An aggregate written in Rust, of whose states snapshots are kept.
    #[must_use]
    pub fn native_with_snapshots<A: Aggregate>(policy: SnapshotPolicy) -> Self
    where
        A::State: DeserializeOwned + PartialEq + fmt::Debug,
    {
        let codec: Rc<dyn StateCodec> = Rc::new(JsonCodec::<A>::new());
        let snapshots = Some(Snapshots { policy, codec: Some(codec) });
        Self { snapshots, ..Self::native::<A>() }
    }

    /// An aggregate whose functions live in the host.
    #[must_use]
    pub fn hosted(name: &str) -> Self {
        Self { name: name.into(), domain: Domain::Hosted, snapshots: None }
    }

    /// An aggregate whose functions live in the host, of whose states snapshots are kept.
    #[must_use]
    pub fn hosted_with_snapshots(name: &str, policy: SnapshotPolicy) -> Self {
        let snapshots = Some(Snapshots { policy, codec: None });
        Self { snapshots, ..Self::hosted(name) }
    }

    /// Name of the aggregate type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for AggregateDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.domain {
            Domain::Native(_) => "native",
            Domain::Hosted => "hosted",
        };
        write!(f, "{} ({kind})", self.name)
    }
}

/// Carries the type `A` and no value of it.
struct Typed<A>(PhantomData<fn() -> A>);

impl<A: Aggregate> NativeAggregate for Typed<A> {
    fn initial(&self) -> Rc<dyn NativeState> {
        Rc::new(A::initial())
    }

    fn fold(
        &self,
        state: Rc<dyn NativeState>,
        events: &mut dyn Iterator<Item = EventText<'_>>,
    ) -> Result<Rc<dyn NativeState>, (usize, Arc<str>)> {
        let mut state = Rc::unwrap_or_clone(typed_state::<A>(state));
        for (index, event) in events.enumerate() {
            let EventText { event_type, data } = event;
            let event = from_variant::<A::Event>(event_type, data)
                .map_err(|error| (index, format!("{event_type}: {error}").into()))?;
            state = A::evolve(state, &event);
        }
        Ok(Rc::new(state))
    }

    fn fold_json(
        &self,
        state: Rc<dyn NativeState>,
        types: &[Arc<str>],
        data: &str,
    ) -> Result<Rc<dyn NativeState>, (usize, Arc<str>)> {
        let mut state = Some(Rc::unwrap_or_clone(typed_state::<A>(state)));
        let mut index = 0;
        let result = for_each_variant::<A::Event>(types, data, |event| {
            state = state.take().map(|state| A::evolve(state, &event));
            index += 1;
        });
        result.map_err(|error| (index, error.to_string().into()))?;
        Ok(Rc::new(state.expect("put back after each event")))
    }

    fn read_command(&self, command_type: &str, data: &str) -> Result<Command, Arc<str>> {
        match from_variant::<A::Command>(command_type, data) {
            Ok(command) => Ok(Rc::new(command)),
            Err(error) => Err(format!("{command_type} can't be read: {error}").into()),
        }
    }

    fn reads(&self, command: &Command, state: &Rc<dyn NativeState>) -> Query {
        A::reads(typed_command::<A>(command), borrow_state::<A>(state))
    }

    fn decide(
        &self,
        state: &Rc<dyn NativeState>,
        command: &Command,
        context: &Context<'_>,
    ) -> NativeDecision {
        let before = borrow_state::<A>(state);
        let decided = match A::decide(before, typed_command::<A>(command), context) {
            Ok(events) => events,
            Err(refusal) => {
                return match to_variant(&refusal) {
                    Ok((code, details)) => NativeDecision::Refused { code, details },
                    Err(error) => NativeDecision::Failed {
                        reason: format!("a refusal can't be written: {error}").into(),
                    },
                };
            }
        };
        let mut after = before.clone();
        let mut events = Vec::with_capacity(decided.len());
        for event in decided {
            let (event_type, data) = match to_variant(&event) {
                Ok(variant) => variant,
                Err(error) => {
                    return NativeDecision::Failed {
                        reason: format!("an event can't be written: {error}").into(),
                    };
                }
            };
            let tags = A::tags(&event, &after);
            after = A::evolve(after, &event);
            events.push(NewEvent {
                event_type,
                schema_version: 1,
                tags,
                data: Payload::Text(data),
            });
        }
        NativeDecision::Decided { events, after: Rc::new(after) }
    }
}

fn typed_state<A: Aggregate>(state: Rc<dyn NativeState>) -> Rc<A::State> {
    state.into_any().downcast().expect("a stream's states are of its aggregate's type")
}

fn borrow_state<A: Aggregate>(state: &Rc<dyn NativeState>) -> &A::State {
    (**state).as_any().downcast_ref().expect("a stream's states are of its aggregate's type")
}

fn typed_command<A: Aggregate>(command: &Command) -> &A::Command {
    command.downcast_ref().expect("a task's command is of its aggregate's type")
}
