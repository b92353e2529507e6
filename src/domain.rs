//! The engine's view of a domain: native aggregates behind one object-safe trait, and states that
//! are either values here or numbers that stand for values in the host.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::aggregate::{Aggregate, Context};
use crate::engine::KeptPage;
use crate::engine::others::{ReadOthers, read_others};
use crate::erased::{Erased, erased};
use crate::error::UnreadableEvent;
use crate::event::{NewEvent, Payload, RecordedEvent};
use crate::payload::Elements;
use crate::protocol::{CopyId, Handle, PageId, Release, Skipped};
use crate::query::Query;
use crate::snapshot::{JsonCodec, SnapshotPolicy, StateCodec, fingerprint};
use crate::stream::StreamId;
use crate::upcast::{Forms, Message, Unreadable, parts_of};
use crate::variant::{fold_variants, from_variant, to_variant, variants_of};

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

    /// How it has been handed out.
    fn handing(&self) -> &Handing;
}

struct Native<S> {
    value: S,
    handing: Handing,
}

/// How a state has been handed out to a host in another language.
#[derive(Default)]
pub(crate) struct Handing {
    pub(crate) before: Cell<bool>,
    pub(crate) copy: OnceCell<CopyLease>,
}

/// A state of a native aggregate.
pub(crate) fn native_state<S: serde::Serialize + 'static>(value: S) -> Rc<dyn NativeState> {
    Rc::new(Native { value, handing: Handing::default() })
}

impl<S: serde::Serialize + 'static> NativeState for Native<S> {
    fn as_any(&self) -> &dyn Any {
        &self.value
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.value)
    }

    fn handing(&self) -> &Handing {
        &self.handing
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
        if self.handle != Handle::INITIAL {
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
        if self.page != PageId::FOLDED {
            self.released.borrow_mut().pages.push(self.page);
        }
    }
}

pub(crate) struct CopyLease {
    pub(crate) copy: CopyId,
    released: Released,
}

impl CopyLease {
    pub(crate) fn new(copy: CopyId, released: &Released) -> Self {
        Self { copy, released: Rc::clone(released) }
    }
}

impl Drop for CopyLease {
    fn drop(&mut self) {
        self.released.borrow_mut().copies.push(self.copy);
    }
}

/// One event as a fold needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventText<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) schema_version: u32,
    pub(crate) data: &'a str,
}

/// What a fold gives.
pub(crate) struct Folded {
    pub(crate) state: Rc<dyn NativeState>,
    pub(crate) skipped: Option<Skipped>,
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

    /// What is wrong with its upcasters: of which type, and what.
    fn mistake(&self) -> Option<(&'static str, &'static str)>;

    /// Whether this is a form of today, and an event of it is read as it is.
    fn is_today(&self, event_type: &str, version: u32) -> bool;

    /// The version that events of the type are stored with.
    #[cfg(any(test, feature = "testing"))]
    fn version(&self, event_type: &str) -> u32;

    /// What a stored event is today; `None` if its type is unknown, and such events are passed by.
    fn upcast(
        &self,
        event_type: &str,
        version: u32,
        data: &str,
        skips: Option<bool>,
    ) -> Result<Option<Vec<Message>>, Unreadable>;

    /// The forms of today, as in [`Page::Messages`](crate::protocol::Page::Messages).
    #[cfg(feature = "wasm")]
    fn forms(&self) -> Vec<String>;

    /// Events of others as their aggregates' upcasters read them. A method, so that modules without
    /// native aggregates go without its code.
    fn read_others(
        &self,
        aggregates: &[AggregateDefinition],
        named: Option<&Query>,
        page: &KeptPage,
    ) -> Result<Option<ReadOthers>, UnreadableEvent> {
        read_others(aggregates, named, page)
    }

    /// The state after the events, or the index of the first that can't be read, and why.
    fn fold(
        &self,
        state: Rc<dyn NativeState>,
        events: &mut dyn Iterator<Item = EventText<'_>>,
    ) -> Result<Folded, (usize, Unreadable)>;

    /// The same for events of these forms, whose payloads are the elements of a JSON array.
    fn fold_json(
        &self,
        state: Rc<dyn NativeState>,
        forms: &[Arc<str>],
        data: &str,
    ) -> Result<Folded, (usize, Unreadable)>;

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
    Native(Erased<dyn NativeAggregate>),
    Hosted,
}

/// An aggregate an engine is made with.
#[derive(Clone)]
pub struct AggregateDefinition {
    pub(crate) name: Arc<str>,
    pub(crate) domain: Domain,
    pub(crate) snapshots: Option<Snapshots>,
    /// Types of stored events which upcasters may make events of other types of.
    pub(crate) becoming: Arc<[Arc<str>]>,
}

/// That an aggregate has snapshots.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) policy: SnapshotPolicy,
    /// What the states rest on, as part of the snapshots' keys.
    pub(crate) fingerprint: Arc<str>,
    /// `None` if the states live in the host.
    pub(crate) codec: Option<Erased<dyn StateCodec>>,
}

impl AggregateDefinition {
    /// An aggregate written in Rust.
    #[must_use]
    pub fn native<A: Aggregate>() -> Self {
        let typed = Typed::<A>::new();
        let becoming = typed.forms.becoming().map(Arc::from).collect();
        let domain = Domain::Native(erased(Rc::new(typed)));
        Self { name: A::TYPE.into(), domain, snapshots: None, becoming }
    }

    /// An aggregate written in Rust, of whose states snapshots are kept.
    #[must_use]
    pub fn native_with_snapshots<A: Aggregate>(policy: SnapshotPolicy) -> Self
    where
        A::State: DeserializeOwned + PartialEq + fmt::Debug,
    {
        let fingerprint = fingerprint(policy, &Typed::<A>::new().forms.fingerprint());
        let codec = erased::<dyn StateCodec>(Rc::new(JsonCodec::<A>::new()));
        let snapshots = Some(Snapshots { policy, fingerprint, codec: Some(codec) });
        Self { snapshots, ..Self::native::<A>() }
    }

    /// An aggregate whose functions live in the host.
    #[must_use]
    pub fn hosted(name: &str) -> Self {
        Self { name: name.into(), domain: Domain::Hosted, snapshots: None, becoming: [].into() }
    }

    /// An aggregate whose functions live in the host, of whose states snapshots are kept.
    #[must_use]
    pub fn hosted_with_snapshots(name: &str, policy: SnapshotPolicy) -> Self {
        let snapshots = Snapshots { policy, fingerprint: fingerprint(policy, ""), codec: None };
        Self { snapshots: Some(snapshots), ..Self::hosted(name) }
    }

    /// The same with upcasters that live in the host. `forms` is a text that changes when stored
    /// events are read as something else: states that rest on another are not used. `becoming` are
    /// the types whose events may become events of other types: queries that name types find them
    /// too.
    #[must_use]
    pub fn with_upcasters(mut self, forms: &str, becoming: Vec<Arc<str>>) -> Self {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.fingerprint = fingerprint(snapshots.policy, forms);
        }
        Self { becoming: becoming.into(), ..self }
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

/// What a stored event is today.
pub(crate) enum Today {
    /// What it is stored as. So is one whose aggregate is not native, or is none of these.
    AsStored,
    /// Events that upcasters have made of it.
    Upcast(Vec<Message>),
    /// Its type is unknown, and such events are passed by.
    Skipped,
}

/// The aggregate whose upcasters have something to do with an event; none if it is read as it is stored.
pub(crate) fn upcasts<'a>(
    aggregates: &'a [AggregateDefinition],
    stream: &StreamId,
    event: EventText<'_>,
) -> Option<&'a dyn NativeAggregate> {
    let known = aggregates.iter().find(|known| known.name == stream.aggregate_type)?;
    match &known.domain {
        Domain::Native(native) if !native.is_today(event.event_type, event.schema_version) => {
            Some(&**native)
        }
        _ => None,
    }
}

/// Reads an event of a stream as the upcasters of its aggregate do. Whether one of an unknown type is
/// passed by is said by `skips`, or else by the aggregate.
pub(crate) fn read_today(
    aggregates: &[AggregateDefinition],
    stream: &StreamId,
    event: EventText<'_>,
    skips: Option<bool>,
) -> Result<Today, Unreadable> {
    let EventText { event_type, schema_version, data } = event;
    let Some(native) = upcasts(aggregates, stream, event) else {
        return Ok(Today::AsStored);
    };
    let messages = native.upcast(event_type, schema_version, data, skips)?;
    Ok(messages.map_or(Today::Skipped, Today::Upcast))
}

/// The aggregate `A`, of which there is no value.
struct Typed<A> {
    forms: Forms,
    aggregate: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Typed<A> {
    fn new() -> Self {
        let forms = A::upcasters().into_forms(variants_of::<A::Event>());
        Self { forms, aggregate: PhantomData }
    }

    /// Folds a page of which an event has an earlier form, or is of no type that is known.
    fn fold_elements(
        &self,
        state: Rc<dyn NativeState>,
        forms: &[Arc<str>],
        data: &str,
    ) -> Result<Folded, (usize, Unreadable)> {
        let mut state = typed_state::<A>(state);
        let mut skipped = None;
        let mut elements = Elements::of(data);
        for (index, form) in forms.iter().enumerate() {
            let (event_type, schema_version) = parts_of(form);
            let data = match elements.next() {
                Some(Ok(data)) => data,
                Some(Err(error)) => return Err((index, Unreadable::new(error.to_string()))),
                None => return Err((index, Unreadable::new("it is missing"))),
            };
            let event = EventText { event_type, schema_version, data };
            state = self.evolve(state, (index, event), &mut skipped)?;
        }
        if elements.next().is_some() {
            return Err((forms.len(), Unreadable::new("there are more than their types")));
        }
        Ok(Folded { state: native_state(state), skipped })
    }

    /// The state after a stored event.
    fn evolve(
        &self,
        state: A::State,
        (index, event): (usize, EventText<'_>),
        skipped: &mut Option<Skipped>,
    ) -> Result<A::State, (usize, Unreadable)> {
        let mut state = Some(state);
        let known = self.read(event, |event| {
            state = state.take().map(|state| A::evolve(state, &event));
        });
        if !known.map_err(|why| (index, why))? {
            let count = skipped.as_ref().map_or(0, |skipped| skipped.count) + 1;
            let event_type = event.event_type.into();
            let last = u32::try_from(index).expect("a page has fewer than 2^32 events");
            *skipped = Some(Skipped { count, last, event_type });
        }
        Ok(state.expect("put back after each event"))
    }

    /// Gives `each` the events that a stored event is today. Returns whether its type is known.
    fn read(
        &self,
        event: EventText<'_>,
        mut each: impl FnMut(A::Event),
    ) -> Result<bool, Unreadable> {
        let EventText { event_type, schema_version, data } = event;
        if self.forms.is_current(event_type, schema_version) {
            each(from_variant(event_type, data).map_err(|error| {
                let reason = format!("{event_type}: {error}");
                self.forms.unreadable(event_type, schema_version, reason)
            })?);
            return Ok(true);
        }
        let Some(messages) = self.forms.upcast(event_type, schema_version, data, None)? else {
            return Ok(false);
        };
        for Message { event_type, data, .. } in messages {
            let event = from_variant(&event_type, &data);
            each(event.map_err(|error| Unreadable::new(format!("{event_type}: {error}")))?);
        }
        Ok(true)
    }
}

impl RecordedEvent {
    /// The event as the aggregate `A` knows it today: one event, or as many as its upcasters have made
    /// of it. None also stands for one that is passed by ([`Upcasters::skip_unknown`]).
    ///
    /// # Errors
    /// If it can't be read, as a fold could not read it.
    ///
    /// [`Upcasters::skip_unknown`]: crate::Upcasters::skip_unknown
    pub fn read<A: Aggregate>(&self) -> Result<Vec<A::Event>, UnreadableEvent> {
        let Self { event_type, schema_version, data, .. } = self;
        let text = EventText { event_type, schema_version: *schema_version, data };
        let mut events = Vec::new();
        let known = Typed::<A>::new().read(text, |event| events.push(event));
        known.map(|_| events).map_err(|why| why.at(&self.stream, self.revision))
    }
}

impl<A: Aggregate> NativeAggregate for Typed<A> {
    fn initial(&self) -> Rc<dyn NativeState> {
        native_state(A::initial())
    }

    fn mistake(&self) -> Option<(&'static str, &'static str)> {
        self.forms.mistake()
    }

    fn is_today(&self, event_type: &str, version: u32) -> bool {
        self.forms.is_today(event_type) && self.forms.is_current(event_type, version)
    }

    #[cfg(any(test, feature = "testing"))]
    fn version(&self, event_type: &str) -> u32 {
        self.forms.version(event_type)
    }

    fn upcast(
        &self,
        event_type: &str,
        version: u32,
        data: &str,
        skips: Option<bool>,
    ) -> Result<Option<Vec<Message>>, Unreadable> {
        self.forms.upcast(event_type, version, data, skips)
    }

    #[cfg(feature = "wasm")]
    fn forms(&self) -> Vec<String> {
        self.forms.today().collect()
    }

    fn fold(
        &self,
        state: Rc<dyn NativeState>,
        events: &mut dyn Iterator<Item = EventText<'_>>,
    ) -> Result<Folded, (usize, Unreadable)> {
        let mut state = typed_state::<A>(state);
        let mut skipped = None;
        for event in events.enumerate() {
            state = self.evolve(state, event, &mut skipped)?;
        }
        Ok(Folded { state: native_state(state), skipped })
    }

    fn fold_json(
        &self,
        state: Rc<dyn NativeState>,
        forms: &[Arc<str>],
        data: &str,
    ) -> Result<Folded, (usize, Unreadable)> {
        if !self.forms.are_current(forms) {
            return self.fold_elements(state, forms, data);
        }
        let mut index = 0;
        let before = typed_state::<A>(state);
        let after = fold_variants(forms, data, before, A::evolve, &mut index).map_err(|error| {
            let (event_type, version) = forms.get(index).map_or(("", 1), |form| parts_of(form));
            let reason = error.to_string();
            (index, self.forms.unreadable(event_type, version, reason))
        })?;
        Ok(Folded { state: native_state(after), skipped: None })
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
        let decision = A::decide(before, typed_command::<A>(command), context);
        if let Some(error) = context.unfolded() {
            return NativeDecision::Failed { reason: error.to_string().into() };
        }
        let decided = match decision {
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
                schema_version: self.forms.version(&event_type),
                event_type,
                tags,
                data: Payload::Text(data),
            });
        }
        NativeDecision::Decided { events, after: native_state(after) }
    }
}

fn typed_state<A: Aggregate>(state: Rc<dyn NativeState>) -> A::State {
    let state: Rc<Native<A::State>> =
        state.into_any().downcast().expect("a stream's states are of its aggregate's type");
    Rc::try_unwrap(state).map_or_else(|state| state.value.clone(), |state| state.value)
}

fn borrow_state<A: Aggregate>(state: &Rc<dyn NativeState>) -> &A::State {
    (**state).as_any().downcast_ref().expect("a stream's states are of its aggregate's type")
}

fn typed_command<A: Aggregate>(command: &Command) -> &A::Command {
    command.downcast_ref().expect("a task's command is of its aggregate's type")
}
