//! Projections: read models built from events.
//!
//! A projection turns events into documents, which are its *view*. The functions are pure: the same
//! events give the same documents, whenever and wherever they are folded, so a view can be built
//! anew, shown as it was at any position, and proved against the log.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::documents::end_of_prefix;
use crate::domain::{AggregateDefinition, EventText, Today, read_today};
use crate::erased::{Erased, erased};
use crate::event::RecordedEvent;
use crate::protocol::{
    DocumentScan, LogEnd, LogFilter, Posting, Projected, ProjectedDocument, SkippedEvents,
    ViewRange, ViewScan,
};
use crate::stream::{Position, Revision, StreamId};
use crate::time::Timestamp;
use crate::variant::{from_variant, variants_of};

/// The collection of documents that tell how far each view has come.
pub const CHECKPOINTS: &str = "checkpoints";

/// What the checkpoint of a view says that was given up while it was being built. Its revision is no position,
/// so that whoever goes on from one is told.
pub(crate) const CANCELLED: &str = r#"{"built":false,"cancelled":true}"#;

/// When a projection's documents are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewKind {
    /// When the view is asked: they are kept in memory, and are of the log as it is then.
    Live,
    /// With each command: its outcome comes when the view has taken its events in.
    Inline,
    /// Behind the log, as fast as it goes.
    Async,
}

/// What becomes of events of types that this release does not know: that are neither in the enum of their
/// aggregate's events nor have upcasters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownEvents {
    /// They are not looked for: only events of the types that are wanted are read.
    #[default]
    NotRead,
    /// All events of these aggregates are read, at least of one, and the view stops before the first of an
    /// unknown type.
    Fail(&'static [&'static str]),
    /// All events of these aggregates are read, and those of unknown types are passed by. How many is said
    /// by [`ViewStatus::skipped`](crate::protocol::ViewStatus::skipped), and of each is told
    /// ([`SkippedEvents`]).
    Skip(&'static [&'static str]),
}

impl UnknownEvents {
    /// The aggregates whose events are all read.
    fn aggregates(self) -> &'static [&'static str] {
        match self {
            Self::NotRead => &[],
            Self::Fail(aggregates) | Self::Skip(aggregates) => aggregates,
        }
    }

    /// Whether they are passed by; `None`: as their aggregate says.
    fn skips(self) -> Option<bool> {
        (self != Self::NotRead).then_some(matches!(self, Self::Skip(_)))
    }
}

/// A read model: what documents are made of events.
///
/// Events are an enum with serde's ordinary derive; its variants are the types of events that the
/// projection wants, of whatever aggregates, as their upcasters read them. All functions are pure.
///
/// # How many appointments each doctor has
///
/// ```
/// use annals::{EventContext, IndexEntry, Projection, ProjectError, View, ViewKind};
/// use serde::{Deserialize, Serialize};
///
/// struct Workload;
///
/// #[derive(Deserialize)]
/// enum Event { Booked { doctor: String } }
/// #[derive(Default, Serialize, Deserialize)]
/// struct Doctor { appointments: u32 }
///
/// impl Projection for Workload {
///     const NAME: &'static str = "workload";
///     const VERSION: u32 = 1;
///     const KIND: ViewKind = ViewKind::Async;
///     type Event = Event;
///     type Document = Doctor;
///
///     fn project(
///         view: &mut View<'_, Doctor>,
///         event: Event,
///         _: &EventContext<'_>,
///     ) -> Result<(), ProjectError> {
///         let Event::Booked { doctor } = event;
///         view.update(&doctor, |doctor| doctor.appointments += 1)
///     }
///
///     const INDEXES: &'static [&'static str] = &["appointments"];
///     fn index(doctor: &Doctor) -> Vec<IndexEntry> {
///         vec![IndexEntry::new("appointments", doctor.appointments)]
///     }
/// }
/// ```
pub trait Projection: 'static {
    /// Its name, part of the stored form.
    const NAME: &'static str;
    /// Version of the documents, from 1. Raise it whenever the functions, the documents' type or
    /// upcasters of the events change: the view is then built anew beside the old one.
    const VERSION: u32;
    /// When the documents are made.
    const KIND: ViewKind;
    /// What becomes of events of unknown types. What is not [`NotRead`](UnknownEvents::NotRead) names the
    /// aggregates that it is made of: their events and no others are read.
    const UNKNOWN_EVENTS: UnknownEvents = UnknownEvents::NotRead;
    /// The events it is made of. Its variants are the types that are wanted.
    type Event: DeserializeOwned + 'static;
    /// What it is made up of.
    type Document: Serialize + DeserializeOwned + 'static;

    /// Takes an event in.
    ///
    /// The view's documents are loaded when they are first asked for: an error of a view's function
    /// is given back with `?`, and the event is projected again when the document is there. What
    /// was written before is thrown away then. A function that runs on documents that are not all
    /// there yet must not panic.
    ///
    /// # Errors
    /// Why the event can't be taken in: the view stops there.
    fn project(
        view: &mut View<'_, Self::Document>,
        event: Self::Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError>;

    /// Names of the indexes that [`index`](Self::index) fills.
    const INDEXES: &'static [&'static str] = &[];

    /// Under what a document is found besides its key.
    fn index(_document: &Self::Document) -> Vec<IndexEntry> {
        Vec::new()
    }
}

/// An entry of a document in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Name of the index.
    pub index: &'static str,
    /// What the document is found under.
    pub value: IndexValue,
}

impl IndexEntry {
    /// An entry in this index under this value: text, a number or a boolean.
    pub fn new(index: &'static str, value: impl Into<IndexValue>) -> Self {
        Self { index, value: value.into() }
    }
}

/// A value of an index: text, a number or a boolean, as a text that is ordered as they are. Numbers come
/// before all texts, and are those that JavaScript has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexValue(Arc<str>);

impl IndexValue {
    /// As stores have it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }
}

impl From<&str> for IndexValue {
    fn from(text: &str) -> Self {
        Self(format!("s{text}").into())
    }
}

impl From<String> for IndexValue {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl From<bool> for IndexValue {
    fn from(truth: bool) -> Self {
        Self(if truth { "b1" } else { "b0" }.into())
    }
}

impl From<f64> for IndexValue {
    fn from(number: f64) -> Self {
        // There is one zero.
        let bits = (number + 0.0).to_bits();
        let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        Self(format!("n{ordered:016x}").into())
    }
}

impl From<u32> for IndexValue {
    fn from(number: u32) -> Self {
        Self::from(f64::from(number))
    }
}

impl From<i32> for IndexValue {
    fn from(number: i32) -> Self {
        Self::from(f64::from(number))
    }
}

impl ViewScan {
    /// All documents in order of key, a hundred of them.
    #[must_use]
    pub fn by_key() -> Self {
        let range = ViewRange::Between(None, None);
        Self { index: None, range, after: None, descending: false, limit: Some(100) }
    }

    /// All documents that are in this index, in order of value and key, a hundred of them.
    #[must_use]
    pub fn by_index(index: &str) -> Self {
        Self { index: Some(index.into()), ..Self::by_key() }
    }

    /// Of those by index: those with this value.
    #[must_use]
    pub fn equal(self, value: impl Into<IndexValue>) -> Self {
        Self { range: ViewRange::Equal(value.into().0), ..self }
    }

    /// Of those by index: those with a value from the first on and before the second.
    #[must_use]
    pub fn between(self, from: impl Into<IndexValue>, to: impl Into<IndexValue>) -> Self {
        let range = ViewRange::Between(Some(from.into().0), Some(to.into().0));
        Self { range, ..self }
    }

    /// Those whose key, or text in the index, begins so.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        let prefix = match self.index {
            None => prefix.into(),
            Some(_) => IndexValue::from(prefix).0,
        };
        Self { range: ViewRange::Prefix(prefix), ..self }
    }

    /// The same range of a collection of documents.
    #[inline(never)]
    pub(crate) fn within(self, collection: Arc<str>) -> DocumentScan {
        let Self { index, range, after, descending, limit } = self;
        let (from, to) = match range {
            ViewRange::Between(from, to) => (from, to),
            ViewRange::Equal(value) => {
                let next = format!("{value}\0").into();
                (Some(value), Some(next))
            }
            ViewRange::Prefix(prefix) => {
                let end = end_of_prefix(&prefix);
                (Some(prefix), end)
            }
        };
        DocumentScan { collection, index, from, to, after, descending, limit }
    }
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug)]
pub struct EventContext<'a> {
    /// Its stream.
    pub stream: &'a StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// When its command was given.
    pub issued_at: Timestamp,
    /// Who gave the command.
    pub actor: Option<&'a str>,
    /// Its place in the store and when the store took it. An inline projection does not see it: it
    /// may run before the store has the event.
    pub recorded: Option<(Position, Timestamp)>,
}

/// Why an event was not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectError(Reason);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    NotLoaded,
    Failed(Arc<str>),
}

impl ProjectError {
    /// The event can't be taken in, for this reason. The view stops there, and says so.
    #[must_use]
    pub fn new(reason: &str) -> Self {
        Self(Reason::Failed(reason.into()))
    }

    pub(crate) fn into_reason(self) -> Arc<str> {
        match self.0 {
            Reason::Failed(reason) => reason,
            Reason::NotLoaded => "a document is not loaded".into(),
        }
    }
}

/// Documents by key; `None`: there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Vec<(Arc<str>, Option<Arc<str>>)>);

impl Known {
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&(Arc<str>, Option<Arc<str>>)> {
        Some(&self.0[self.find(key).ok()?])
    }

    /// Takes note of a document; says whether it was not known before.
    pub(crate) fn insert(&mut self, key: Arc<str>, text: Option<Arc<str>>) -> bool {
        let found = self.find(&key);
        if let Err(place) = found {
            self.0.insert(place, (key, text));
        }
        found.is_err()
    }

    /// The documents in order of key.
    pub(crate) fn entries(&self) -> &[(Arc<str>, Option<Arc<str>>)] {
        &self.0
    }

    /// Those that are not there, as far as is known.
    pub(crate) fn missing(&mut self) -> impl Iterator<Item = &mut (Arc<str>, Option<Arc<str>>)> {
        self.0.iter_mut().filter(|(_, text)| text.is_none())
    }
}

/// A view's documents, while events are taken in.
#[derive(Debug)]
pub struct View<'a, D> {
    /// As they were before the page; `None`: there were none.
    known: Option<&'a Known>,
    /// Those that have been looked at or written since.
    drafts: BTreeMap<Arc<str>, Draft<D>>,
    /// The event that is being taken in.
    at: Position,
    missing: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Draft<D> {
    document: Option<D>,
    /// The last event that has written it.
    written: Option<Position>,
}

impl<'a, D> View<'a, D> {
    fn new(known: Option<&'a Known>) -> Self {
        Self { known, drafts: BTreeMap::new(), at: Position(0), missing: Vec::new() }
    }

    /// Without a document.
    pub(crate) fn empty() -> Self {
        Self::new(None)
    }

    /// Says which event is taken in next.
    pub(crate) fn at(&mut self, event: Position) {
        self.at = event;
    }

    /// The documents that are there, and the last events that have written them.
    pub(crate) fn into_documents(self) -> impl Iterator<Item = (Arc<str>, D, Position)> {
        self.drafts
            .into_iter()
            .filter_map(|(key, draft)| Some((key, draft.document?, draft.written?)))
    }
}

impl<D: DeserializeOwned> View<'_, D> {
    /// The document with this key, if there is one.
    ///
    /// # Errors
    /// If it has not been loaded, or can't be read: to be given back with `?`.
    pub fn get(&mut self, key: &str) -> Result<Option<&D>, ProjectError> {
        Ok(self.draft(key)?.document.as_ref())
    }

    /// Puts a document in the place of what is there, if anything.
    pub fn set(&mut self, key: &str, document: D) {
        let draft = Draft { document: Some(document), written: Some(self.at) };
        self.drafts.insert(key.into(), draft);
    }

    /// Takes a document away, if there is one.
    pub fn remove(&mut self, key: &str) {
        self.drafts.insert(key.into(), Draft { document: None, written: Some(self.at) });
    }

    /// Changes the document with this key, or an empty one if there is none.
    ///
    /// # Errors
    /// If it has not been loaded, or can't be read: to be given back with `?`.
    pub fn update(&mut self, key: &str, change: impl FnOnce(&mut D)) -> Result<(), ProjectError>
    where
        D: Default,
    {
        let at = self.at;
        let draft = self.draft(key)?;
        draft.written = Some(at);
        change(draft.document.get_or_insert_default());
        Ok(())
    }

    fn draft(&mut self, key: &str) -> Result<&mut Draft<D>, ProjectError> {
        if !self.drafts.contains_key(key) {
            let mut draft = Draft { document: None, written: None };
            if let Some(known) = self.known {
                let Some((_, text)) = known.get(key) else {
                    self.missing.push(key.into());
                    return Err(ProjectError(Reason::NotLoaded));
                };
                let read = |text: &Arc<str>| {
                    serde_json::from_str(text).map_err(|error| {
                        ProjectError::new(&format!("document {key} can't be read: {error}"))
                    })
                };
                draft.document = text.as_ref().map(read).transpose()?;
            }
            self.drafts.insert(key.into(), draft);
        }
        Ok(self.drafts.get_mut(key).expect("put there above"))
    }
}

/// An event of the log as a projection is given it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogEvent<'a> {
    pub(crate) stream: &'a StreamId,
    pub(crate) revision: Revision,
    pub(crate) text: EventText<'a>,
    pub(crate) position: Position,
    pub(crate) recorded_at: Timestamp,
    pub(crate) issued_at: Timestamp,
    pub(crate) actor: Option<&'a str>,
}

impl<'a> LogEvent<'a> {
    pub(crate) fn of(event: &'a RecordedEvent) -> Self {
        Self {
            stream: &event.stream,
            revision: event.revision,
            text: EventText {
                event_type: &event.event_type,
                schema_version: event.schema_version,
                data: &event.data,
            },
            position: event.position,
            recorded_at: event.recorded_at,
            issued_at: event.issued_at,
            actor: event.metadata.actor.as_deref(),
        }
    }

    /// What the projection is told of it besides what it is.
    pub(crate) fn context<P: Projection>(&self) -> EventContext<'a> {
        let Self { stream, revision, issued_at, actor, position, recorded_at, .. } = *self;
        let recorded = (P::KIND != ViewKind::Inline).then_some((position, recorded_at));
        EventContext { stream, revision, issued_at, actor, recorded }
    }
}

/// A native projection whose types have been erased.
pub(crate) trait NativeProjection {
    /// Takes in the events of a page up to the end, if there is one, as the upcasters of their aggregates
    /// read them.
    fn project(
        &self,
        events: &mut dyn Iterator<Item = LogEvent<'_>>,
        aggregates: &[AggregateDefinition],
        known: &Known,
        end: LogEnd,
    ) -> Projected;
}

/// A projection an engine is made with.
#[derive(Clone)]
pub struct ProjectionDefinition {
    pub(crate) name: Arc<str>,
    pub(crate) version: u32,
    pub(crate) kind: ViewKind,
    /// Which events are read: those of its types, or all of its aggregates.
    pub(crate) filter: LogFilter,
    pub(crate) indexes: Vec<Arc<str>>,
    /// `None` if the functions live in the host.
    pub(crate) native: Option<Erased<dyn NativeProjection>>,
}

impl std::fmt::Debug for ProjectionDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?})", self.name, self.version, self.kind)
    }
}

impl ProjectionDefinition {
    /// A projection written in Rust.
    #[must_use]
    pub fn native<P: Projection>() -> Self {
        Self {
            name: P::NAME.into(),
            version: P::VERSION,
            kind: P::KIND,
            filter: match P::UNKNOWN_EVENTS.aggregates() {
                [] => LogFilter { types: texts(variants_of::<P::Event>()), ..LogFilter::default() },
                all => LogFilter { aggregate_types: texts(all), ..LogFilter::default() },
            },
            indexes: texts(P::INDEXES),
            native: Some(erased(Rc::new(Typed::<P>(PhantomData)))),
        }
    }

    /// A projection whose functions live in the host: its name, version, kind, the types of events
    /// it wants, and the names of its indexes.
    #[must_use]
    pub fn hosted(
        name: &str,
        version: u32,
        kind: ViewKind,
        types: Vec<Arc<str>>,
        indexes: Vec<Arc<str>>,
    ) -> Self {
        let filter = LogFilter { types, ..LogFilter::default() };
        Self { name: name.into(), version, kind, filter, indexes, native: None }
    }

    /// The same, of events of these aggregates only; none: of all. One that wants no types is given all
    /// their events, and can find those of unknown types among them.
    #[must_use]
    pub fn of_aggregates(mut self, aggregates: Vec<Arc<str>>) -> Self {
        self.filter.aggregate_types = aggregates;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn texts(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

/// Carries the type `P` and no value of it.
struct Typed<P>(PhantomData<fn() -> P>);

impl<P: Projection> NativeProjection for Typed<P> {
    fn project(
        &self,
        events: &mut dyn Iterator<Item = LogEvent<'_>>,
        aggregates: &[AggregateDefinition],
        known: &Known,
        end: LogEnd,
    ) -> Projected {
        let types = variants_of::<P::Event>();
        let mut view = View::new(Some(known));
        let mut beyond = None;
        let mut skipped = Vec::new();
        for event in events {
            let position = event.position;
            if end.is_before(position, event.recorded_at) {
                beyond = Some(position);
                break;
            }
            view.at(position);
            match project_stored::<P>(
                &mut view,
                &event.context::<P>(),
                event.text,
                aggregates,
                types,
                P::UNKNOWN_EVENTS.skips(),
            ) {
                // While documents are missing, all is done for nothing but to find out which.
                Err(ProjectError(Reason::Failed(reason))) if view.missing.is_empty() => {
                    return Projected::Failed { position, reason };
                }
                Ok(false) => skipped.push(SkippedEvents {
                    stream: event.stream.clone(),
                    revision: event.revision,
                    event_type: event.text.event_type.into(),
                    count: 1,
                }),
                _ => {}
            }
        }
        if !view.missing.is_empty() {
            return Projected::Missing(view.missing);
        }
        let mut documents = Vec::new();
        for (key, Draft { document, written }) in view.drafts {
            let Some(position) = written else {
                continue;
            };
            match written_document::<P>(key, document.as_ref()) {
                Ok(document) => documents.push(document),
                Err(reason) => return Projected::Failed { position, reason },
            }
        }
        Projected::Done { documents, beyond, skipped }
    }
}

/// Takes an event in, as the upcasters of its aggregate read it, if it is wanted. Returns whether its type
/// is known; if it is not, `skips` says what becomes of it, or else the aggregate.
pub(crate) fn project_stored<P: Projection>(
    view: &mut View<'_, P::Document>,
    context: &EventContext<'_>,
    text: EventText<'_>,
    aggregates: &[AggregateDefinition],
    types: &[&str],
    skips: Option<bool>,
) -> Result<bool, ProjectError> {
    // What may become one of its types comes too.
    let is_wanted = |name: &str| types.is_empty() || types.contains(&name);
    match read_today(aggregates, context.stream, text, skips) {
        Ok(Today::AsStored) if is_wanted(text.event_type) => {
            project_one::<P>(view, context, text.event_type, text.data)?;
        }
        Ok(Today::Upcast(messages)) => {
            let mut wanted = messages.iter().filter(|message| is_wanted(&message.event_type));
            wanted.try_for_each(|message| {
                project_one::<P>(view, context, &message.event_type, &message.data)
            })?;
        }
        Ok(Today::AsStored) => {}
        Ok(Today::Skipped) => return Ok(false),
        Err(why) => {
            let reason = match skips {
                None => why.reason,
                Some(_) => why.at(context.stream, context.revision).to_string().into(),
            };
            return Err(ProjectError(Reason::Failed(reason)));
        }
    }
    Ok(true)
}

fn project_one<P: Projection>(
    view: &mut View<'_, P::Document>,
    context: &EventContext<'_>,
    event_type: &str,
    data: &str,
) -> Result<(), ProjectError> {
    let value = from_variant::<P::Event>(event_type, data)
        .map_err(|error| ProjectError::new(&error.to_string()))?;
    P::project(view, value, context)
}

fn written_document<P: Projection>(
    key: Arc<str>,
    document: Option<&P::Document>,
) -> Result<ProjectedDocument, Arc<str>> {
    let Some(document) = document else {
        return Ok(ProjectedDocument { key, value: None, postings: Vec::new() });
    };
    let value = serde_json::to_string(document)
        .map_err(|error| format!("document {key} can't be written: {error}"))?;
    let postings = postings_of::<P>(&key, document)?;
    let postings = postings.into_iter().map(|Posting { index, value }| (index, value)).collect();
    Ok(ProjectedDocument { key, value: Some(value.into()), postings })
}

/// Where the document is in the indexes.
pub(crate) fn postings_of<P: Projection>(
    key: &str,
    document: &P::Document,
) -> Result<Vec<Posting>, Arc<str>> {
    let mut postings = Vec::new();
    for IndexEntry { index, value } in P::index(document) {
        if !P::INDEXES.contains(&index) {
            return Err(format!("document {key}: {index:?} is none of the indexes").into());
        }
        postings.push(Posting { index: index.into(), value: value.0 });
    }
    Ok(postings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_an_index_are_ordered_as_they_are() {
        let numbers = [-1e300, -2.0, -1.5, 0.0, 1e-300, 1.0, 2.0, 10.0, 1e300];
        let mut values = vec![IndexValue::from(false), IndexValue::from(true)];
        values.extend(numbers.map(IndexValue::from));
        values.extend(["", "10", "2", "\u{ffff}", "😀"].map(IndexValue::from));
        for pair in values.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        assert_eq!(IndexValue::from(-0.0), IndexValue::from(0));
        // As stores have it.
        assert_eq!(&*IndexValue::from(1).0, "nbff0000000000000");
    }
}
