//! Views of the simulated desk, and what must be true of them: whatever is shown is the fold of the
//! log up to where it says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ReadError;
use crate::event::RecordedEvent;
use crate::projection::{
    CANCELLED, CHECKPOINTS, EventContext, IndexEntry, ProjectError, Projection,
    ProjectionDefinition, View, ViewKind,
};
use crate::protocol::{LogEnd, StoredDocument, ViewAt, ViewQuery, ViewRange, ViewRead, ViewScan};
use crate::storage::MemoryStore;
use crate::stream::Position;
use crate::variant::from_variant;

use super::desk::Event;

/// Name of the projection.
pub(super) const DESK: &str = "desk";

/// A note that no view can take in.
const POISON: u32 = 37;

/// The projection, as this release has it.
pub(super) fn definition(kind: ViewKind, version: u32) -> ProjectionDefinition {
    let definition = match version {
        1 => ProjectionDefinition::native::<Desk<1>>(),
        _ => ProjectionDefinition::native::<Desk<2>>(),
    };
    ProjectionDefinition { kind, ..definition }
}

/// Who holds each slot, what each appointment has, and the number of notes.
struct Desk<const V: u32>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Document {
    Slot { holders: Vec<String> },
    Appointment { at: Option<(u8, u8)>, notes: u32 },
    Notes { count: u32 },
}

/// Doctor and number.
type Slot = (u8, u8);

fn slot(doctor: u8, slot: u8) -> String {
    format!("slot/{doctor}/{slot}")
}

impl<const V: u32> Projection for Desk<V> {
    const NAME: &'static str = DESK;
    const VERSION: u32 = V;
    const KIND: ViewKind = ViewKind::Async;
    type Event = Event;
    type Document = Document;

    fn project(
        view: &mut View<'_, Document>,
        event: Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let id = context.stream.aggregate_id.to_string();
        let key = format!("appointment/{id}");
        let (before, mut notes) = match view.get(&key)? {
            Some(Document::Appointment { at, notes }) => (*at, *notes),
            _ => (None, 0),
        };
        let at = match event {
            Event::Remarked { .. } => return Ok(()),
            Event::Booked { doctor, slot } | Event::Moved { doctor, slot } => Some((doctor, slot)),
            Event::Cancelled => None,
            Event::Noted { note: POISON } => return Err(ProjectError::new("poison")),
            Event::Noted { .. } => {
                notes += V;
                let count = match view.get("notes")? {
                    Some(Document::Notes { count }) => *count,
                    _ => 0,
                };
                view.set("notes", Document::Notes { count: count + V });
                before
            }
        };
        if at != before {
            if let Some((doctor, number)) = before {
                let key = slot(doctor, number);
                let mut holders = holders(view, &key)?;
                holders.retain(|holder| *holder != id);
                if holders.is_empty() {
                    view.remove(&key);
                } else {
                    view.set(&key, Document::Slot { holders });
                }
            }
            if let Some((doctor, number)) = at {
                let key = slot(doctor, number);
                let mut holders = holders(view, &key)?;
                holders.push(id);
                view.set(&key, Document::Slot { holders });
            }
        }
        view.set(&key, Document::Appointment { at, notes });
        Ok(())
    }

    const INDEXES: &'static [&'static str] = &["notes"];

    fn index(document: &Document) -> Vec<IndexEntry> {
        match document {
            Document::Appointment { notes, .. } => vec![IndexEntry::new("notes", *notes)],
            _ => Vec::new(),
        }
    }
}

fn holders(view: &mut View<'_, Document>, key: &str) -> Result<Vec<String>, ProjectError> {
    Ok(match view.get(key)? {
        Some(Document::Slot { holders }) => holders.clone(),
        _ => Vec::new(),
    })
}

type Documents = BTreeMap<String, String>;

/// The yardstick: what the view is after these events, and the event it stops at, computed another
/// way.
fn fold(version: u32, log: &[RecordedEvent]) -> (Documents, Option<Position>) {
    let mut appointments = BTreeMap::<_, (Option<Slot>, u32)>::new();
    let mut slots = BTreeMap::<Slot, Vec<String>>::new();
    let mut count = 0;
    let mut stop = None;
    for event in log {
        let id = &*event.stream.aggregate_id;
        let happened = from_variant(&event.event_type, &event.data).expect("of the desk");
        if let Event::Remarked { .. } = happened {
            continue;
        }
        if let Event::Noted { note: POISON } = happened {
            stop = Some(event.position);
            break;
        }
        let (at, notes) = appointments.entry(id).or_default();
        let after = match happened {
            Event::Booked { doctor, slot } | Event::Moved { doctor, slot } => Some((doctor, slot)),
            Event::Cancelled => None,
            _ => {
                *notes += version;
                count += version;
                continue;
            }
        };
        if after != *at {
            if let Some(old) = at {
                slots.entry(*old).or_default().retain(|holder| holder != id);
            }
            if let Some(new) = after {
                slots.entry(new).or_default().push(id.to_owned());
            }
            *at = after;
        }
    }
    slots.retain(|_, holders| !holders.is_empty());
    let mut documents = Documents::new();
    let mut put = |key: String, document: Document| {
        documents.insert(key, serde_json::to_string(&document).expect("it is JSON"));
    };
    for (id, (at, notes)) in appointments {
        put(format!("appointment/{id}"), Document::Appointment { at, notes });
    }
    for ((doctor, number), holders) in slots {
        put(slot(doctor, number), Document::Slot { holders });
    }
    if count > 0 {
        put("notes".to_owned(), Document::Notes { count });
    }
    (documents, stop)
}

fn prefix(log: &[RecordedEvent], position: Position) -> &[RecordedEvent] {
    let end = usize::try_from(position.0).expect("a position of this log").min(log.len());
    &log[..end]
}

/// What an operation asks of the view: something else by its number.
pub(super) fn question(number: usize, head: Position) -> (ViewAt, ViewQuery) {
    let at = match number % 4 {
        0 => ViewAt::Now,
        1 => ViewAt::After(head),
        2 => ViewAt::Past(LogEnd::Position(Position(head.0 / 2))),
        _ => ViewAt::Reached,
    };
    let index = number.is_multiple_of(3).then(|| "notes".into());
    let range = ViewRange::Between(None, None);
    let (after, descending, limit) = (None, number.is_multiple_of(2), Some(1_000));
    (at, ViewQuery::Scan(ViewScan { index, range, after, descending, limit }))
}

/// An answer is the fold of the log up to where it says, and is not older than was asked.
pub(super) fn hear(
    number: usize,
    asked_at_head: Position,
    result: &Result<ViewRead, ReadError>,
    log: &[RecordedEvent],
) -> Result<(), String> {
    let (at, query) = question(number, asked_at_head);
    let read = match result {
        Ok(read) => read,
        // It was given up.
        Err(ReadError::ProjectionStopped { position: Position(0), .. }) => return Ok(()),
        Err(ReadError::ProjectionStopped { position, .. }) => {
            return if fold(1, log).1 == Some(*position) {
                Ok(())
            } else {
                Err(format!("a view is said to have stopped at {position}, where nothing is"))
            };
        }
        Err(ReadError::Storage(_) | ReadError::Cancelled) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let at_least = match at {
        ViewAt::Reached => Position(0),
        ViewAt::Past(_) => Position(asked_at_head.0 / 2),
        ViewAt::Now | ViewAt::After(_) => asked_at_head,
    };
    let ViewRead { position, documents, status, .. } = read;
    let stops = fold(1, log).1;
    if *position < at_least && stops.is_none_or(|stop| stop > at_least) {
        return Err(format!("a view asked for {at:?} is of {position}, not of {at_least}"));
    }
    if matches!(at, ViewAt::Past(_)) && *position > at_least {
        return Err(format!("a view of the past, at {at_least}, is of {position}"));
    }
    let ViewQuery::Scan(ViewScan { index, descending, .. }) = query else {
        return Err("nothing but ranges is asked".to_owned());
    };
    let (expected, _) = fold(status.version, prefix(log, *position));
    let of_appointments = |key: &str| key.starts_with("appointment/");
    let wanted =
        expected.into_iter().filter(|(key, _)| index.is_none() || of_appointments(key)).collect();
    let found: Documents = documents
        .iter()
        .map(|(place, document)| (place.key.to_string(), document.value.to_string()))
        .collect();
    if found != wanted {
        return Err(format!(
            "version {} of the view is at {position} and shows {found:?}, not {wanted:?}",
            status.version
        ));
    }
    let places: Vec<_> = documents.iter().map(|(place, _)| (&place.at, &place.key)).collect();
    let is_sorted = places.windows(2).all(|two| (two[0] < two[1]) != descending);
    if is_sorted { Ok(()) } else { Err(format!("a view is not in order: {places:?}")) }
}

/// The documents in the store are the fold of the log up to their checkpoint.
pub(super) fn check_store(
    version: u32,
    store: &MemoryStore,
    log: &[RecordedEvent],
    at_least: Option<Position>,
) -> Result<(), String> {
    let collection = format!("view/{version}/{DESK}");
    let mut documents = store.documents().clone();
    let found =
        documents.of(&collection).map(|(key, found)| (key.to_owned(), found.value.to_string()));
    let found: Documents = found.collect();
    let key = format!("[\"{DESK}\",{version}]");
    let checkpoint = documents.of(CHECKPOINTS).find(|(found, _)| *found == key);
    let position = |(_, found): (_, &mut StoredDocument)| match &*found.value {
        CANCELLED => 0,
        _ => found.revision,
    };
    let at = Position(checkpoint.map_or(0, position));
    let (expected, _) = fold(version, prefix(log, at));
    if found != expected {
        return Err(format!(
            "version {version} of the view is at {at} and is {found:?}, not {expected:?}"
        ));
    }
    // What is beyond the checkpoint changes nothing.
    match at_least.map(|position| fold(version, prefix(log, position.max(at)))) {
        Some((newest, _)) if newest != expected => Err(format!(
            "version {version} of the view is at {at} and is {found:?}, short of {newest:?}"
        )),
        _ => Ok(()),
    }
}
