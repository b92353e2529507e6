//! Upcasters: what an earlier release has stored, as the domain knows it today.
//!
//! Every event type has a *schema version*, from 1. A type whose data has changed has an upcaster
//! for each of its earlier versions, which takes the data of that version. They are applied one after
//! the other whenever an event is read, before `evolve` and decisions see it; what is stored stays as
//! it is, byte for byte.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{EventProblem, UnreadableEvent};
use crate::stream::{Revision, StreamId};
use crate::variant::to_variant;

/// The upcasters of an aggregate, whose events are the enum `E`.
///
/// An upcaster takes what serde reads from the data of its version. What it can't read, or what has a
/// later version than the release knows, is an [`UnreadableEvent`](crate::UnreadableEvent), never
/// guessed. Upcasters are pure; what may fail belongs into the old type's `Deserialize`, such as
/// `#[serde(try_from = "…")]`.
///
/// New events are stored with the version that comes after the last upcaster of their type.
///
/// # A type with a new field, one that was renamed, and one that is gone
///
/// ```
/// use annals::{Upcast, Upcasters};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Event {
///     Booked { doctor: String, room: Option<String> },
///     Confirmed,
/// }
///
/// #[derive(Deserialize)]
/// struct BookedInTheFirstRelease { doctor: String }
/// #[derive(Serialize)]
/// struct BookedToday { doctor: String, room: Option<String> }
/// #[derive(Deserialize)]
/// struct TakenAndConfirmed { doctor: String }
///
/// # let upcasters =
/// Upcasters::<Event>::none()
///     .upcast("Booked", 1, |old: BookedInTheFirstRelease| {
///         BookedToday { doctor: old.doctor, room: None }
///     })
///     .becomes("TakenAndConfirmed", 1, |old: TakenAndConfirmed| {
///         [Event::Booked { doctor: old.doctor, room: None }, Event::Confirmed]
///     })
///     .becomes_nothing("Viewed", 1)
/// # ;
/// ```
pub struct Upcasters<E> {
    forms: Forms,
    events: PhantomData<fn() -> E>,
}

/// What takes the place of an event of an earlier version: an event of today, or one of another
/// version, which is upcast in its turn.
pub struct Upcast<E>(Became<E>);

enum Became<E> {
    Event(E),
    Older { event_type: &'static str, version: u32, data: Result<String, serde_json::Error> },
}

impl<E> Upcast<E> {
    /// An event of an earlier version, which has upcasters of its own.
    pub fn older(event_type: &'static str, version: u32, data: &impl Serialize) -> Self {
        Self(Became::Older { event_type, version, data: serde_json::to_string(data) })
    }
}

impl<E> From<E> for Upcast<E> {
    fn from(event: E) -> Self {
        Self(Became::Event(event))
    }
}

impl<E> Upcasters<E> {
    /// Every type has version 1.
    #[must_use]
    pub const fn none() -> Self {
        let forms = Forms { chains: Vec::new(), variants: &[], skips: false, mistake: None };
        Self { forms, events: PhantomData }
    }

    /// The data of the next version of the type, made of the data of this version.
    #[must_use]
    pub fn upcast<Old: DeserializeOwned, New: Serialize>(
        mut self,
        event_type: &'static str,
        version: u32,
        upcaster: impl Fn(Old) -> New + 'static,
    ) -> Self {
        let step = move |data: &str| {
            let old = serde_json::from_str(data).map_err(reason)?;
            serde_json::to_string(&upcaster(old)).map(Next::Data).map_err(reason)
        };
        self.forms.add(event_type, version, false, Box::new(step));
        self
    }

    /// What takes the place of an event of this version: one that is called otherwise, or several.
    #[must_use]
    pub fn becomes<Old: DeserializeOwned, I>(
        mut self,
        event_type: &'static str,
        version: u32,
        upcaster: impl Fn(Old) -> I + 'static,
    ) -> Self
    where
        I: IntoIterator<Item: Into<Upcast<E>>>,
        E: Serialize,
    {
        let step = move |data: &str| {
            let old = serde_json::from_str(data).map_err(reason)?;
            let events = upcaster(old).into_iter().map(|event| match event.into().0 {
                Became::Event(event) => {
                    let (event_type, data) = to_variant(&event).map_err(reason)?;
                    Ok((event_type, None, data))
                }
                Became::Older { event_type, version, data } => {
                    Ok((event_type.into(), Some(version), data.map_err(reason)?.into()))
                }
            });
            events.collect::<Result<_, _>>().map(Next::Events)
        };
        self.forms.add(event_type, version, true, Box::new(step));
        self
    }

    /// Events of this version mean nothing any more.
    #[must_use]
    pub fn becomes_nothing(mut self, event_type: &'static str, version: u32) -> Self {
        self.forms.add(event_type, version, true, Box::new(|_| Ok(Next::Events(Vec::new()))));
        self
    }

    /// The forms of an enum with these variants.
    pub(crate) fn into_forms(self, variants: &'static [&'static str]) -> Forms {
        Forms { variants, ..self.forms }
    }

    /// Passes by events whose types neither the enum nor an upcaster names. They count as events of
    /// their stream, and each fold that has passed by some says so
    /// ([`SkippedEvents`](crate::protocol::SkippedEvents)). Without this they can't be read.
    #[must_use]
    pub fn skip_unknown(mut self) -> Self {
        self.forms.skips = true;
        self
    }
}

impl<E> fmt::Debug for Upcasters<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.forms.fmt(f)
    }
}

impl<E: fmt::Debug> fmt::Debug for Upcast<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Became::Event(event) => event.fmt(f),
            Became::Older { event_type, version, .. } => write!(f, "{event_type} {version}"),
        }
    }
}

fn reason(error: serde_json::Error) -> Arc<str> {
    error.to_string().into()
}

/// The forms that events of an aggregate have had, and how they become those of today.
pub(crate) struct Forms {
    chains: Vec<Chain>,
    /// The types of today.
    variants: &'static [&'static str],
    skips: bool,
    /// What is wrong with the definition.
    mistake: Option<(&'static str, &'static str)>,
}

/// The upcasters of a type, from version 1 on.
struct Chain {
    event_type: &'static str,
    steps: Vec<Step>,
    /// Whether the last of them gives events of whatever type.
    ends: bool,
    /// Whether any of them does.
    becomes: bool,
}

type Step = Box<dyn Fn(&str) -> Result<Next, Arc<str>>>;

enum Next {
    /// Data of the next version.
    Data(String),
    /// Events, of the version that their types have today unless it is said.
    Events(Vec<(Arc<str>, Option<u32>, Arc<str>)>),
}

/// A stored event, or what it is today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) event_type: Arc<str>,
    pub(crate) schema_version: u32,
    pub(crate) data: Arc<str>,
}

/// Why an event can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) problem: EventProblem,
    pub(crate) reason: Arc<str>,
}

impl Unreadable {
    pub(crate) fn new(reason: impl Into<Arc<str>>) -> Self {
        Self { problem: EventProblem::Failed, reason: reason.into() }
    }

    /// The same, of this event.
    pub(crate) fn at(self, stream: &StreamId, revision: Revision) -> UnreadableEvent {
        let Self { problem, reason } = self;
        UnreadableEvent { stream: stream.clone(), revision, problem, reason }
    }
}

/// More than any event needs: upcasters that go in a circle never end.
const MAX_STEPS: u32 = 1000;

impl Forms {
    fn add(&mut self, event_type: &'static str, version: u32, becomes: bool, step: Step) {
        let at = self.chains.iter().position(|chain| chain.event_type == event_type);
        let at = at.unwrap_or_else(|| {
            let (steps, ends, becomes) = Default::default();
            self.chains.push(Chain { event_type, steps, ends, becomes });
            self.chains.len() - 1
        });
        let chain = &mut self.chains[at];
        if chain.steps.len() + 1 != version as usize {
            let rule = "the first takes version 1, and each the version after the one before it";
            self.mistake.get_or_insert((event_type, rule));
        }
        chain.steps.push(step);
        chain.ends = becomes;
        chain.becomes |= becomes;
    }

    /// What is wrong with the definition: of which type, and what.
    pub(crate) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let rule = "no event has this type any more, so the last of them must say what it becomes";
        let lost = self.chains.iter().find(|chain| !chain.ends && !self.is_today(chain.event_type));
        self.mistake.or_else(|| lost.map(|chain| (chain.event_type, rule)))
    }

    fn chain(&self, event_type: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.event_type == event_type)
    }

    /// Whether events of this type are written today.
    pub(crate) fn is_today(&self, event_type: &str) -> bool {
        self.variants.contains(&event_type)
    }

    /// The forms that events are stored in today, as in [`parts_of`].
    #[cfg(feature = "wasm")]
    pub(crate) fn today(&self) -> impl Iterator<Item = String> {
        self.variants.iter().map(|name| match self.version(name) {
            1 => (*name).to_owned(),
            version => format!("{name}\x7f{version}"),
        })
    }

    /// The version that events of the type are stored with.
    pub(crate) fn version(&self, event_type: &str) -> u32 {
        self.chain(event_type).map_or(1, |chain| chain.steps.len() as u32 + 1)
    }

    /// Whether an event of this form is read as it is. Of a type that is not known it may say so: who
    /// reads it will find that out.
    pub(crate) fn is_current(&self, event_type: &str, version: u32) -> bool {
        version == self.version(event_type) && (!self.skips || self.is_today(event_type))
    }

    /// Types whose events may become events of others.
    pub(crate) fn becoming(&self) -> impl Iterator<Item = &'static str> {
        self.chains.iter().filter(|chain| chain.becomes).map(|chain| chain.event_type)
    }

    /// What a snapshot rests on besides the state's form: a text that changes when an event is read
    /// as something else. What new types mean is not in it, unless they were passed by before.
    pub(crate) fn fingerprint(&self) -> String {
        let chains = self.chains.iter().map(|chain| (chain.event_type, chain.steps.len() + 1));
        let known = self.variants.iter().filter(|name| self.skips && self.chain(name).is_none());
        let mut text = String::new();
        for (name, version) in chains.chain(known.map(|name| (*name, 1))) {
            text.push_str(name);
            text.push('\n');
            text.push_str(&version.to_string());
            text.push('\n');
        }
        text
    }

    /// Whether that is so of events of all these forms.
    pub(crate) fn are_current(&self, forms: &[Arc<str>]) -> bool {
        // What comes again and again is looked at once.
        forms.chunk_by(Arc::ptr_eq).all(|run| {
            let (event_type, version) = parts_of(&run[0]);
            self.is_current(event_type, version)
        })
    }

    /// What is wrong with an event of this form, which is read as it is: `reason`, if nothing is
    /// wrong with the form itself.
    pub(crate) fn unreadable(&self, event_type: &str, version: u32, reason: String) -> Unreadable {
        self.steps(event_type, version).err().unwrap_or_else(|| Unreadable::new(reason))
    }

    /// What a stored event is today; `None` if its type is unknown, and such events are passed by: as
    /// `skips` says, or else as the aggregate does.
    pub(crate) fn upcast(
        &self,
        event_type: &str,
        version: u32,
        data: &str,
        skips: Option<bool>,
    ) -> Result<Option<Vec<Message>>, Unreadable> {
        if skips.unwrap_or(self.skips)
            && !self.is_today(event_type)
            && self.chain(event_type).is_none()
        {
            return Ok(None);
        }
        let mut messages = Vec::new();
        self.step(event_type, version, data, &mut { MAX_STEPS }, &mut messages)?;
        Ok(Some(messages))
    }

    /// The upcasters of the type, if there may be an event of it with this version.
    fn steps(&self, event_type: &str, version: u32) -> Result<&[Step], Unreadable> {
        let chain = self.chain(event_type);
        let (problem, reason) = if chain.is_none() && !self.is_today(event_type) {
            (EventProblem::UnknownType, "unknown type".into())
        } else {
            let steps = chain.map_or(&[][..], |chain| &chain.steps);
            // A type that is no longer written has no version after its last upcaster.
            let newest = steps.len() as u32 + u32::from(self.is_today(event_type));
            if (1..=newest).contains(&version) {
                return Ok(steps);
            }
            if version == 0 {
                (EventProblem::Failed, "versions begin with 1".into())
            } else {
                let reason = format!("version {version} is later than this release knows");
                (EventProblem::NewerVersion, reason)
            }
        };
        Err(Unreadable { problem, reason: format!("{event_type}: {reason}").into() })
    }

    fn step(
        &self,
        event_type: &str,
        version: u32,
        data: &str,
        left: &mut u32,
        messages: &mut Vec<Message>,
    ) -> Result<(), Unreadable> {
        let Some(step) = self.steps(event_type, version)?.get(version as usize - 1) else {
            messages.push(Message {
                event_type: event_type.into(),
                schema_version: version,
                data: data.into(),
            });
            return Ok(());
        };
        let failed = |reason: &str| Unreadable::new(format!("{event_type}: {reason}"));
        if *left == 0 {
            return Err(failed("its upcasters go in a circle"));
        }
        *left -= 1;
        let next = step(data).map_err(|reason| failed(&format!("version {version}: {reason}")))?;
        match next {
            Next::Data(data) => self.step(event_type, version + 1, &data, left, messages),
            Next::Events(events) => {
                events.into_iter().try_for_each(|(event_type, version, data)| {
                    let version = version.unwrap_or_else(|| self.version(&event_type));
                    self.step(&event_type, version, &data, left, messages)
                })
            }
        }
    }
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains = self.chains.iter().map(|chain| (chain.event_type, chain.steps.len()));
        f.debug_map().entries(chains).finish()
    }
}

/// The type and the version of a form: the type alone, if the version is 1, or the type, the character
/// U+007F, which is in no name, and the version. What is no version counts as 0, which no event has.
pub(crate) fn parts_of(form: &str) -> (&str, u32) {
    match form.split_once('\x7f') {
        None => (form, 1),
        Some((event_type, version)) => (event_type, version.parse().unwrap_or(0)),
    }
}
