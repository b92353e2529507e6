//! Projections folded in memory, at once: events in, documents out.
//!
//! Nothing is there at the beginning, so no document is ever missing, and one pass is enough. Neither
//! an engine nor a store is needed.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::documents::Documents;
use crate::domain::{AggregateDefinition, EventText};
use crate::event::RecordedEvent;
use crate::projection::{
    EventContext, LogEvent, ProjectError, Projection, View, postings_of, project_stored,
};
use crate::protocol::{
    Document, DocumentName, DocumentScan, DocumentValue, Posting, ReadDocuments, SaveDocuments,
    ScannedPage, ViewScan,
};
use crate::stream::{Position, Revision, StreamId};
use crate::variant::variants_of;

/// The documents that a projection makes of events, and of nothing before them.
///
/// They are those of its view, were these the events of the log; nothing is written and read again.
/// Types of events that it does not name are passed by. Events that earlier releases have stored are
/// read by the upcasters of these aggregates.
///
/// # How many appointments each doctor has
///
/// ```
/// # use annals::storage::{Annals, Clock, CommandOptions, MemoryStore};
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
/// #         view.update(&doctor, |doctor| doctor.appointments += 1)
/// #     }
/// #     const INDEXES: &'static [&'static str] = &["appointments"];
/// #     fn index(doctor: &Doctor) -> Vec<IndexEntry> {
/// #         vec![IndexEntry::new("appointments", doctor.appointments)]
/// #     }
/// # }
/// use annals::protocol::{LogFilter, ViewScan};
///
/// let aggregates = vec![AggregateDefinition::native::<Appointment>()];
/// # let config = Config::new([7; 32], aggregates.clone());
/// # struct Still;
/// # impl Clock for Still {
/// #     fn now(&self) -> Timestamp { Timestamp::from_millis(1_795_000_000_000) }
/// #     fn sleep(&mut self, _: u64) {}
/// # }
/// # let mut annals = Annals::new(config, MemoryStore::new("clinic"), Still).unwrap();
/// # for (id, doctor) in [("a-1", "7"), ("a-2", "7"), ("a-3", "8")] {
/// #     let booked = Event::Booked { doctor: doctor.into() };
/// #     annals.execute::<Appointment>(id, &booked, CommandOptions::default()).unwrap();
/// # }
/// let page = annals.events(Position(0), LogFilter::default(), 100).unwrap().unwrap();
/// let workload = annals::fold::<Workload>(&aggregates, &page.events).unwrap();
///
/// assert_eq!(workload.get("7").unwrap().appointments, 2);
/// let idle: Vec<_> = workload.list(ViewScan::by_index("appointments").equal(1)).collect();
/// assert_eq!(idle[0].0, "8");
/// ```
///
/// # Errors
/// If an event can't be taken in.
pub fn fold<'e, P: Projection>(
    aggregates: &[AggregateDefinition],
    events: impl IntoIterator<Item = &'e RecordedEvent, IntoIter: Clone>,
) -> Result<FoldedView<P>, FoldError> {
    let events = events.into_iter().map(|event| {
        let event = LogEvent::of(event);
        (event.context::<P>(), event.text)
    });
    fold_texts(aggregates, events)
}

/// The same of events that may not have come to the store yet.
pub(crate) fn fold_texts<'e, P: Projection>(
    aggregates: &[AggregateDefinition],
    events: impl Iterator<Item = (EventContext<'e>, EventText<'e>)> + Clone,
) -> Result<FoldedView<P>, FoldError> {
    let types = variants_of::<P::Event>();
    // They are told by their places among these.
    let failed = |Position(index): Position, reason: Arc<str>| {
        let found = events.clone().nth(index as usize);
        let (context, text) = found.expect("it was taken in");
        FoldError {
            projection: P::NAME,
            stream: context.stream.clone(),
            revision: context.revision,
            event_type: text.event_type.into(),
            reason,
        }
    };
    let mut view = View::empty();
    for (index, (context, text)) in (0..).zip(events.clone()) {
        view.at(Position(index));
        let taken = project_stored::<P>(&mut view, &context, text, aggregates, types, None);
        taken.map_err(|error: ProjectError| failed(Position(index), error.into_reason()))?;
    }
    let mut documents = BTreeMap::new();
    for (key, document, written) in view.into_documents() {
        let postings =
            postings_of::<P>(&key, &document).map_err(|reason| failed(written, reason))?;
        documents.insert(key, (document, postings));
    }
    Ok(FoldedView { documents, table: OnceCell::new() })
}

/// Why events could not be folded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("projection {projection} can't take in {event_type} of {stream}@{revision}: {reason}")]
pub struct FoldError {
    /// Name of the projection.
    pub projection: &'static str,
    /// Stream of the event.
    pub stream: StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// Its type, as it was given.
    pub event_type: Arc<str>,
    /// What is wrong.
    pub reason: Arc<str>,
}

/// Documents of a projection, in memory.
pub struct FoldedView<P: Projection> {
    documents: BTreeMap<Arc<str>, (P::Document, Vec<Posting>)>,
    /// Where they are in the order of keys and indexes. Made when it is first asked for.
    table: OnceCell<Documents>,
}

/// Documents of no collection.
const NONE: &str = "";

impl<P: Projection> FoldedView<P> {
    /// The document with this key, if there is one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&P::Document> {
        self.documents.get(key).map(|(document, _)| document)
    }

    /// All keys and documents, in order of key.
    pub fn documents(&self) -> impl DoubleEndedIterator<Item = (&str, &P::Document)> {
        self.documents.iter().map(|(key, (document, _))| (&**key, document))
    }

    /// Keys and documents of a range, in its order. Its limit is not looked at, for nothing has to be
    /// loaded: take as many as are wanted.
    ///
    /// # Panics
    /// If the projection has no such index.
    pub fn list(&self, scan: ViewScan) -> impl Iterator<Item = (&str, &P::Document)> {
        let found = self.scan(ViewScan { limit: Some(u32::MAX), ..scan });
        found.documents.into_iter().map(|(place, _)| {
            let (key, (document, _)) =
                self.documents.get_key_value(&place.key).expect("the table is made of them");
            (&**key, document)
        })
    }

    /// Number of documents in a range, one in several places as often.
    ///
    /// # Panics
    /// If the projection has no such index.
    #[must_use]
    pub fn count(&self, scan: ViewScan) -> u64 {
        self.scan(ViewScan { limit: None, ..scan }).count
    }

    fn scan(&self, scan: ViewScan) -> ScannedPage {
        if let Some(index) = &scan.index {
            let known = P::INDEXES.contains(&&**index);
            assert!(known, "projection {:?} has no index {index:?}", P::NAME);
        }
        let scan: DocumentScan = scan.within(NONE.into());
        let read = ReadDocuments { names: Vec::new(), scans: vec![scan] };
        let table = self.table.get_or_init(|| self.table());
        table.read(&read, Default::default()).scans.remove(0)
    }

    fn table(&self) -> Documents {
        let collection: Arc<str> = NONE.into();
        let documents = self.documents.iter().map(|(key, (_, postings))| Document {
            name: DocumentName { collection: Arc::clone(&collection), key: Arc::clone(key) },
            revision: 0,
            // They are found here, and are themselves elsewhere.
            value: DocumentValue::Text(Arc::clone(&collection)),
            postings: postings.clone(),
        });
        let mut table = Documents::default();
        let save = SaveDocuments { documents: documents.collect(), ..SaveDocuments::default() };
        table.save(&save).expect("nothing is expected, and no text is the host's");
        table
    }
}

impl<P: Projection> Default for FoldedView<P> {
    /// No documents.
    fn default() -> Self {
        Self { documents: BTreeMap::new(), table: OnceCell::new() }
    }
}

impl<P: Projection<Document: fmt::Debug>> fmt::Debug for FoldedView<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.documents()).finish()
    }
}
