//! The domain of the simulation: appointments, few doctors and few slots, so that commands meet.

use serde::{Deserialize, Serialize};

use crate::aggregate::{Aggregate, Context, OtherEvent};
use crate::event::{NewEvent, Payload, RecordedEvent};
use crate::projection::{EventContext, ProjectError, Projection, View, ViewKind};
use crate::query::{Query, Tag};
use crate::upcast::Upcasters;
use crate::variant::{from_variant, to_variant};

/// An appointment of a doctor in a slot. No two of a doctor share a slot.
#[derive(Debug)]
pub(super) struct Appointment;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) booked: Option<(u8, u8)>,
    cancelled: bool,
    notes: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Command {
    Book {
        doctor: u8,
        slot: u8,
    },
    Move {
        slot: u8,
    },
    Cancel,
    /// Any number of notes, none included.
    Note {
        notes: Vec<u32>,
    },
    /// About a slot, whoever holds it. Reads nothing.
    Remark {
        doctor: u8,
        slot: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    Booked { doctor: u8, slot: u8 },
    Moved { doctor: u8, slot: u8 },
    Cancelled,
    Noted { note: u32 },
    Remarked { doctor: u8, slot: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Refusal {
    AlreadyBooked,
    NotBooked,
    SlotTaken { by: String },
    TooManyNotes { have: usize },
}

impl Aggregate for Appointment {
    const TYPE: &'static str = "Appointment";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> State {
        State::default()
    }

    fn decide(
        state: &State,
        command: &Command,
        context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Book { doctor, slot } => {
                if state.booked.is_some() || state.cancelled {
                    return Err(Refusal::AlreadyBooked);
                }
                check_free(*doctor, *slot, context)?;
                Ok(vec![Event::Booked { doctor: *doctor, slot: *slot }])
            }
            Command::Move { slot } => {
                let (doctor, at) = state.booked.ok_or(Refusal::NotBooked)?;
                if at == *slot {
                    return Ok(Vec::new());
                }
                check_free(doctor, *slot, context)?;
                Ok(vec![Event::Moved { doctor, slot: *slot }])
            }
            Command::Cancel => {
                state.booked.ok_or(Refusal::NotBooked)?;
                Ok(vec![Event::Cancelled])
            }
            Command::Note { notes } => {
                if state.notes.len() + notes.len() > 12 {
                    return Err(Refusal::TooManyNotes { have: state.notes.len() });
                }
                Ok(notes.iter().map(|note| Event::Noted { note: *note }).collect())
            }
            Command::Remark { doctor, slot } => {
                Ok(vec![Event::Remarked { doctor: *doctor, slot: *slot }])
            }
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Booked { doctor, slot } | Event::Moved { doctor, slot } => {
                state.booked = Some((*doctor, *slot));
            }
            Event::Cancelled => {
                state.booked = None;
                state.cancelled = true;
            }
            Event::Noted { note } => state.notes.push(*note),
            Event::Remarked { .. } => {}
        }
        state
    }

    fn reads(command: &Command, state: &State) -> Query {
        match (command, state.booked) {
            (Command::Book { doctor, slot }, _) => Query::any_tag([tag(*doctor, *slot)]),
            (Command::Move { slot }, Some((doctor, _))) => Query::any_tag([tag(doctor, *slot)]),
            _ => Query::none(),
        }
    }

    fn upcasters() -> Upcasters<Event> {
        Upcasters::none()
            .upcast("Noted", 1, |old: OldNote| Note { note: old.text.parse().unwrap_or(0) })
            .becomes("Taken", 1, |Taken { at: (doctor, slot) }: Taken| {
                [Event::Booked { doctor, slot }]
            })
    }

    fn tags(event: &Event, before: &State) -> Vec<Tag> {
        let old = before.booked.map(|(doctor, slot)| tag(doctor, slot).into());
        match event {
            Event::Booked { doctor, slot } | Event::Moved { doctor, slot } => {
                old.into_iter().chain([tag(*doctor, *slot).into()]).collect()
            }
            Event::Cancelled => old.into_iter().collect(),
            Event::Noted { .. } => Vec::new(),
            Event::Remarked { doctor, slot } => vec![tag(*doctor, *slot).into()],
        }
    }
}

/// Data of `Noted`, version 1.
#[derive(Serialize, Deserialize)]
struct OldNote {
    text: String,
}

/// Data of `Noted`, version 2.
#[derive(Serialize)]
struct Note {
    note: u32,
}

/// Data of `Taken`, as a booking was called.
#[derive(Serialize, Deserialize)]
struct Taken {
    at: (u8, u8),
}

/// The event as an earlier release would have stored it.
pub(super) fn as_older(event: NewEvent) -> NewEvent {
    let Payload::Text(text) = &event.data else { unreachable!("the store gets texts") };
    let (event_type, data) = match from_variant(&event.event_type, text) {
        Ok(Event::Noted { note }) => {
            ("Noted", serde_json::to_string(&OldNote { text: note.to_string() }))
        }
        Ok(Event::Booked { doctor, slot }) => {
            ("Taken", serde_json::to_string(&Taken { at: (doctor, slot) }))
        }
        _ => return event,
    };
    let data = Payload::Text(data.expect("it is JSON").into());
    NewEvent { event_type: event_type.into(), schema_version: 1, data, ..event }
}

/// The event as it is read today. No two of the desk are made of one.
pub(super) fn as_today(event: &RecordedEvent) -> RecordedEvent {
    let read = event.read::<Appointment>().expect("an event of the desk").remove(0);
    let (event_type, data) = to_variant(&read).expect("an enum");
    RecordedEvent { event_type, schema_version: 0, data, ..event.clone() }
}

/// The event as a decision of another stream gets it.
pub(super) fn as_other(event: &RecordedEvent) -> OtherEvent<'_> {
    OtherEvent {
        stream: &event.stream,
        revision: event.revision,
        issued_at: event.issued_at,
        actor: event.metadata.actor.as_deref(),
        event_type: &event.event_type,
        data: &event.data,
    }
}

fn tag(doctor: u8, slot: u8) -> String {
    format!("doctor:{doctor}/slot:{slot}")
}

/// By appointment: the slot it holds.
struct Holders;

impl Projection for Holders {
    const NAME: &'static str = "holders";
    const VERSION: u32 = 1;
    const KIND: ViewKind = ViewKind::Live;
    type Event = Event;
    type Document = (u8, u8);

    fn project(
        view: &mut View<'_, (u8, u8)>,
        event: Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let id = &context.stream.aggregate_id;
        match event {
            Event::Booked { doctor, slot } | Event::Moved { doctor, slot } => {
                view.set(id, (doctor, slot));
            }
            Event::Cancelled => view.remove(id),
            Event::Noted { .. } | Event::Remarked { .. } => {}
        }
        Ok(())
    }
}

fn check_free(doctor: u8, slot: u8, context: &Context<'_>) -> Result<(), Refusal> {
    let held = context.fold::<Holders>();
    match held.documents().find(|(_, held)| **held == (doctor, slot)) {
        Some((id, _)) => Err(Refusal::SlotTaken { by: id.to_owned() }),
        None => Ok(()),
    }
}
