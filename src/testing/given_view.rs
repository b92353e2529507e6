//! Tests of a projection: given what has happened, then these are its documents.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::aggregate::Aggregate;
use crate::domain::EventText;
use crate::projection::{
    IndexValue, Known, LogEvent, NativeProjection, Projection, ProjectionDefinition, postings_of,
};
use crate::protocol::{LogEnd, Posting, Projected, ProjectedDocument};
use crate::stream::{Position, StreamId};

use super::diff::{difference, line_diff, pretty};
use super::story::{LoggedEvent, NOTHING, Story, listed, unlike};

/// Begins a test of a projection: of a view to which nothing has happened.
///
/// The function is called as an engine would call it, but twice for each event, and the events come
/// one by one, in pages of two, and all at once. A function that is not pure, a document that does not
/// come back from serde as it was, and documents that are others in other pages fail the test, whatever
/// it expects.
///
/// # How many appointments each doctor has
///
/// ```
/// use annals::testing::given_view;
/// # use annals::*;
/// # use serde::{Deserialize, Serialize};
/// # struct Appointment;
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum Event { Booked { doctor: String } }
/// # impl Aggregate for Appointment {
/// #     const TYPE: &'static str = "Appointment";
/// #     type State = ();
/// #     type Command = Event;
/// #     type Event = Event;
/// #     type Refusal = ();
/// #     fn initial() {}
/// #     fn decide((): &(), command: &Event, _: &Context<'_>) -> Result<Vec<Event>, ()> {
/// #         Ok(vec![command.clone()])
/// #     }
/// #     fn evolve((): (), _: &Event) {}
/// # }
/// # struct Workload;
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Doctor { appointments: u32 }
/// # impl Projection for Workload {
/// #     const NAME: &'static str = "workload";
/// #     const VERSION: u32 = 1;
/// #     const KIND: ViewKind = ViewKind::Async;
/// #     type Event = Event;
/// #     type Document = Doctor;
/// #     fn project(
/// #         view: &mut View<'_, Doctor>,
/// #         event: Event,
/// #         _: &EventContext<'_>,
/// #     ) -> Result<(), ProjectError> {
/// #         let Event::Booked { doctor } = event;
/// #         if doctor.is_empty() { return Err(ProjectError::new("nobody was booked")); }
/// #         view.update(&doctor, |doctor| doctor.appointments += 1)
/// #     }
/// #     const INDEXES: &'static [&'static str] = &["appointments"];
/// #     fn index(doctor: &Doctor) -> Vec<IndexEntry> {
/// #         vec![IndexEntry::new("appointments", doctor.appointments)]
/// #     }
/// # }
///
/// let booked = |doctor: &str| Event::Booked { doctor: doctor.into() };
/// given_view::<Workload>()
///     .happened::<Appointment>("a-1", [booked("7")])
///     .happened::<Appointment>("a-2", [booked("7")])
///     .then_document("7", Doctor { appointments: 2 })
///     .then_none("8")
///     .then_indexed("appointments", 2, ["7"])
///     .happened::<Appointment>("a-3", [booked("")])
///     .then_stops("nobody was booked");
/// ```
#[must_use = "a test expects something"]
pub fn given_view<P: Projection>() -> ViewCase<P> {
    let mut story = Story::new(P::NAME);
    story.lines.push(NOTHING.into());
    ViewCase { story, taken: Taken::default(), projection: PhantomData }
}

/// A test of the projection `P`.
///
/// Cases may be cloned, so tests may share a beginning.
pub struct ViewCase<P> {
    story: Story,
    taken: Taken,
    projection: PhantomData<fn() -> P>,
}

/// What the view has come to.
#[derive(Clone, Debug, Default)]
struct Taken {
    documents: Documents,
    stop: Option<Stop>,
}

type Documents = BTreeMap<Arc<str>, Kept>;

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    text: Arc<str>,
    postings: Vec<(Arc<str>, Arc<str>)>,
}

/// An event that the view could not take in.
#[derive(Clone, Debug)]
struct Stop {
    /// Number of events before it.
    at: usize,
    event_type: Arc<str>,
    reason: Arc<str>,
    /// Whether the test has expected it.
    met: bool,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stops at {}: {}", self.event_type, self.reason)
    }
}

impl<P: Projection> ViewCase<P> {
    /// Sets the clock, which says when events happen. It stands still, at first at the beginning of
    /// 2026. A time is a [`Timestamp`](crate::Timestamp), or its text: `2026-11-23T09:00:00Z`.
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

    /// Says who gives the commands that lead to what happens from here on. At first nobody says.
    ///
    /// # Panics
    /// If the name can't be one.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn by(mut self, actor: &str) -> Self {
        self.story.by(actor);
        self
    }

    /// Lets events happen to an aggregate of the type `A`. A view that has stopped must not have
    /// stopped unseen.
    ///
    /// # Panics
    /// With the whole story, if something is wrong with the events, or with what the projection makes
    /// of them.
    #[track_caller]
    #[must_use = "a test expects something"]
    pub fn happened<A: Aggregate>(
        mut self,
        id: &str,
        events: impl IntoIterator<Item = A::Event>,
    ) -> Self {
        self.expect_taken();
        self.story.lines.retain(|line| line != NOTHING);
        self.story.lines.push(format!("given {} {id}", A::TYPE));
        self.story.happened::<A>(&StreamId::new(A::TYPE, id), events);
        self.take_in();
        self
    }

    /// This is the document with this key.
    ///
    /// # Panics
    /// With the whole story, if there is another or none.
    #[track_caller]
    pub fn then_document(self, key: &str, expected: impl Borrow<P::Document>) -> Self {
        self.expect_taken();
        let expected = self.value_of(expected.borrow());
        let Some(found) = self.taken.documents.get(key) else {
            let expected = line_of(key, &expected);
            let headline = format!("expected document {key}, found none");
            self.story.differs(&headline, &unlike(&[expected], &self.lines()));
        };
        let found = self.story.value_of(&found.text);
        self.story.expect_value(&format!("document {key}"), &expected, &found);
        self
    }

    /// These are the documents, and there are no others.
    ///
    /// # Panics
    /// With the whole story, if there are others.
    #[track_caller]
    pub fn then_documents<K: AsRef<str>, D: Borrow<P::Document>>(
        self,
        expected: impl IntoIterator<Item = (K, D)>,
    ) -> Self {
        self.expect_taken();
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(key, document)| {
                (Arc::<str>::from(key.as_ref()), self.value_of(document.borrow()))
            })
            .collect();
        let found: BTreeMap<_, _> = self
            .taken
            .documents
            .iter()
            .map(|(key, found)| (Arc::clone(key), self.story.value_of(&found.text)))
            .collect();
        if expected != found {
            let keys = |documents: &BTreeMap<Arc<str>, Value>| listed(documents.keys());
            let (left, right) = (keys(&expected), keys(&found));
            let headline = match first_difference(&expected, &found) {
                Some((place, left, right)) => {
                    format!("expected {place} to be {left}, found {right}")
                }
                None => format!("expected documents {left}, found {right}"),
            };
            let lines = |documents: &BTreeMap<Arc<str>, Value>| {
                let line = |(key, document)| format!("{key} {}", pretty(document));
                documents.iter().map(line).collect::<Vec<_>>().join("\n")
            };
            self.story.differs(&headline, &line_diff(&lines(&expected), &lines(&found)));
        }
        self
    }

    /// There is no document with this key.
    ///
    /// # Panics
    /// With the whole story, if there is one.
    #[track_caller]
    pub fn then_none(self, key: &str) -> Self {
        self.expect_taken();
        if let Some(found) = self.taken.documents.get(key) {
            let found = line_of(key, &self.story.value_of(&found.text));
            let headline = format!("expected no document {key}, found one");
            self.story.differs(&headline, &unlike(&[], &[found]));
        }
        self
    }

    /// In this index these keys, in order of key, are found under this value, and no others.
    ///
    /// # Panics
    /// With the whole story, if others are found, or if there is no such index.
    #[track_caller]
    pub fn then_indexed<K: AsRef<str>>(
        self,
        index: &str,
        value: impl Into<IndexValue> + fmt::Display,
        expected: impl IntoIterator<Item = K>,
    ) -> Self {
        self.expect_taken();
        if !P::INDEXES.contains(&index) {
            let known = listed(P::INDEXES.iter());
            self.story.fail(&format!("there is no index {index}, but {known}"));
        }
        let asked = format!("{index} {value}");
        let posting = (Arc::<str>::from(index), value.into().into_text());
        let found =
            self.taken.documents.iter().filter(|(_, kept)| kept.postings.contains(&posting));
        let found: Vec<_> = found.map(|(key, _)| key.to_string()).collect();
        let expected: Vec<_> = expected.into_iter().map(|key| key.as_ref().to_owned()).collect();
        if expected != found {
            let headline = format!(
                "expected {asked} to find {}, found {}",
                listed(expected.iter()),
                listed(found.iter())
            );
            self.story.differs(&headline, &line_diff(&expected.join("\n"), &found.join("\n")));
        }
        self
    }

    /// The last event given that the view has come to can't be taken in, for a reason with this in it.
    /// The documents are those before it.
    ///
    /// # Panics
    /// With the whole story, if all events have been taken in, or the reason is another.
    #[track_caller]
    pub fn then_stops(mut self, reason: &str) -> Self {
        match &mut self.taken.stop {
            Some(stop) if stop.reason.contains(reason) => stop.met = true,
            stop => {
                let found = match stop {
                    Some(stop) => stop.to_string(),
                    None => "has taken in all events".into(),
                };
                let headline = format!("expected the view to stop, found that it {found}");
                let wanted = format!("stops: {reason}");
                self.story.differs(&headline, &unlike(&[wanted], &[found]));
            }
        }
        self
    }

    /// Fails if nothing has expected that the view stops.
    #[track_caller]
    fn expect_taken(&self) {
        if let Some(stop) = self.taken.stop.as_ref().filter(|stop| !stop.met) {
            let mut story = self.story.clone();
            story.lines.push(format!("then  {stop}"));
            story.fail(&format!("nothing expects that the view {stop}"));
        }
    }

    /// A document that a test expects, as it is compared.
    #[track_caller]
    fn value_of(&self, document: &P::Document) -> Value {
        self.story.check("an expected document", serde_json::to_value(document))
    }

    /// The documents, one in each line.
    fn lines(&self) -> Vec<String> {
        let documents = self.taken.documents.iter();
        documents.map(|(key, found)| format!("{key} {}", found.text)).collect()
    }

    /// Lets the view take in all that has happened, in every way in which an engine may.
    #[track_caller]
    fn take_in(&mut self) {
        let was_met = self.taken.stop.as_ref().is_some_and(|stop| stop.met);
        let mut recorded_at = self.story.log.first().map(|event| event.issued_at);
        let events = self.story.log.iter().enumerate().map(|(index, event)| {
            let LoggedEvent { stream, revision, issued_at, actor, .. } = event;
            recorded_at = recorded_at.max(Some(*issued_at));
            LogEvent {
                stream,
                revision: *revision,
                text: EventText {
                    event_type: &event.event_type,
                    schema_version: event.schema_version,
                    data: &event.data,
                },
                position: Position(index as u64 + 1),
                recorded_at: recorded_at.unwrap_or(*issued_at),
                issued_at: *issued_at,
                actor: actor.as_deref(),
            }
        });
        let events: Vec<_> = events.collect();
        let native = ProjectionDefinition::native::<P>().native.expect("it was made natively");
        let native = &*native;

        let mut documents = Documents::new();
        let mut stop = None;
        for (at, event) in events.iter().enumerate() {
            match self.page(native, &documents, &[*event]) {
                Ok(written) => {
                    self.expect_same_when_read(event, &written);
                    write(&mut documents, written);
                }
                Err(reason) => {
                    let event_type = event.text.event_type.into();
                    stop = Some(Stop { at, event_type, reason, met: was_met });
                    break;
                }
            }
        }
        let taken = stop.as_ref().map_or(&events[..], |stop| &events[..stop.at]);
        for (size, pages) in [(2, "pages of two"), (usize::MAX, "one page")] {
            let mut others = Documents::new();
            for page in taken.chunks(size) {
                match self.page(native, &others, page) {
                    Ok(written) => write(&mut others, written),
                    Err(reason) => self.story.fail(&format!(
                        "the view stops when the events come in {pages}, and not when they come one by one: {reason}"
                    )),
                }
            }
            self.expect_same_in_pages(&documents, &others, pages);
        }
        self.taken = Taken { documents, stop };
    }

    /// What comes of a page, or why an event of it can't be taken in.
    #[track_caller]
    fn page(
        &self,
        native: &dyn NativeProjection,
        documents: &Documents,
        events: &[LogEvent<'_>],
    ) -> Result<Vec<ProjectedDocument>, Arc<str>> {
        let mut known = Known::default();
        let called =
            |known: &Known| native.project(&mut events.iter().copied(), &[], known, LogEnd::Head);
        loop {
            let (once, again) = (called(&known), called(&known));
            if once != again {
                let types = listed(events.iter().map(|event| event.text.event_type));
                let (once, again) = (told(&once), told(&again));
                self.story.fail(&format!(
                    "two calls of project with the same {types} differ: {once} and {again}"
                ));
            }
            match once {
                Projected::Done { documents, .. } => return Ok(documents),
                Projected::Failed { reason, .. } => return Err(reason),
                Projected::Missing(keys) => {
                    let mut are_new = false;
                    for key in keys {
                        let text = documents.get(&key).map(|found| Arc::clone(&found.text));
                        are_new |= known.insert(key, text);
                    }
                    if !are_new {
                        self.story.fail(
                            "project asks again and again for documents that it has been given",
                        );
                    }
                }
            }
        }
    }

    /// Fails if a document is another when serde has written and read it.
    #[track_caller]
    fn expect_same_when_read(&self, event: &LogEvent<'_>, written: &[ProjectedDocument]) {
        for ProjectedDocument { key, value, postings } in written {
            let Some(text) = value else {
                continue;
            };
            let what = format!("{} gives document {key}", event.text.event_type);
            let read: P::Document = self
                .story
                .check(&format!("{what} {text}, which can't be read"), serde_json::from_str(text));
            let again = self.story.check(&what, serde_json::to_string(&read));
            if self.story.value_of(text) != self.story.value_of(&again) {
                self.story.fail(&format!("{what} {text}, which comes back from serde as {again}"));
            }
            let found = self.story.check(&what, postings_of::<P>(key, &read));
            let found = found.into_iter().map(|Posting { index, value }| (index, value));
            if !found.eq(postings.iter().cloned()) {
                self.story.fail(&format!(
                    "{what} {text}, which is indexed otherwise when it is read from its text"
                ));
            }
        }
    }

    /// Fails if the documents are others.
    #[track_caller]
    fn expect_same_in_pages(&self, one_by_one: &Documents, found: &Documents, pages: &str) {
        let keys = one_by_one.keys().chain(found.keys());
        for key in keys {
            let (left, right) = (one_by_one.get(key), found.get(key));
            if left == right {
                continue;
            }
            let text = |kept: Option<&Kept>| {
                kept.map_or_else(|| "nothing".into(), |kept| kept.text.to_string())
            };
            let (left, right) = (text(left), text(right));
            self.story.fail(&format!(
                "document {key} is {right} when the events come in {pages}, and {left} when they come one by one: project may rest on nothing but documents and events"
            ));
        }
    }
}

impl<P> Clone for ViewCase<P> {
    fn clone(&self) -> Self {
        Self { story: self.story.clone(), taken: self.taken.clone(), projection: PhantomData }
    }
}

impl<P> fmt::Debug for ViewCase<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{:?}", self.story.told(), self.taken)
    }
}

fn write(documents: &mut Documents, written: Vec<ProjectedDocument>) {
    for ProjectedDocument { key, value, postings } in written {
        match value {
            Some(text) => drop(documents.insert(key, Kept { text, postings })),
            None => drop(documents.remove(&key)),
        }
    }
}

/// What came of a page, in one line.
fn told(projected: &Projected) -> String {
    match projected {
        Projected::Missing(keys) => format!("it asks for {}", listed(keys.iter())),
        Projected::Failed { reason, .. } => format!("it stops: {reason}"),
        Projected::Done { documents, .. } => {
            listed(documents.iter().map(|ProjectedDocument { key, value, .. }| {
                format!("{key} {}", value.as_deref().unwrap_or("nothing"))
            }))
        }
    }
}

/// The first document that both have, and that is another; `None` if one of them has a key that the
/// other has not.
fn first_difference(
    expected: &BTreeMap<Arc<str>, Value>,
    found: &BTreeMap<Arc<str>, Value>,
) -> Option<(String, String, String)> {
    if !expected.keys().eq(found.keys()) {
        return None;
    }
    expected
        .iter()
        .find_map(|(key, document)| difference(document, &found[key], &format!("document {key}")))
}

fn line_of(key: &str, document: &impl Serialize) -> String {
    format!("{key} {}", serde_json::to_string(document).expect("it is a value of JSON"))
}
