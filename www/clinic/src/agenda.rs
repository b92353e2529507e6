//! The agenda: what appointments have come to, in order of time, and who and what they hold.

use annals::{Aggregate, EventContext, IndexEntry, ProjectError, Projection, View, ViewKind};
use serde::{Deserialize, Serialize};

use crate::appointment::{Appointment, Booking, Event, State};

/// A document for each appointment, by its id.
#[derive(Clone, Copy, Debug)]
pub struct Agenda;

/// An appointment in the agenda.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What has become of it.
    pub status: Status,
    /// What is known of it.
    pub booking: Booking,
    /// The number of its events.
    pub revision: u64,
}

/// What has become of an appointment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is booked. The patient has not confirmed the time.
    Booked,
    /// The patient has confirmed the time.
    Confirmed,
    /// It will not take place.
    Cancelled,
}

impl Projection for Agenda {
    const NAME: &'static str = "agenda";
    const VERSION: u32 = 1;
    // Who has booked looks at the agenda next.
    const KIND: ViewKind = ViewKind::Inline;
    type Event = Event;
    type Document = Entry;

    fn project(
        view: &mut View<'_, Entry>,
        event: Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let id = &*context.stream.aggregate_id;
        let before = view.get(id)?.map_or(State::None, Entry::state);
        // What an appointment comes to is said by the appointment.
        let (status, booking) = match Appointment::evolve(before, &event) {
            State::None => return Err(ProjectError::new("it was never booked")),
            State::Booked(booking) => (Status::Booked, booking),
            State::Confirmed(booking) => (Status::Confirmed, booking),
            State::Cancelled(booking) => (Status::Cancelled, booking),
        };
        view.set(id, Entry { status, booking, revision: context.revision.0 });
        Ok(())
    }

    /// By `start` are all, in order of time; by `held` those that hold a doctor or a room, under
    /// the slot's tags.
    const INDEXES: &'static [&'static str] = &["start", "held"];

    fn index(entry: &Entry) -> Vec<IndexEntry> {
        let mut entries = vec![IndexEntry::new("start", entry.booking.start.to_string())];
        if entry.status != Status::Cancelled {
            let tags = entry.booking.slot().tags();
            entries.extend(tags.iter().map(|tag| IndexEntry::new("held", &**tag)));
        }
        entries
    }
}

impl Entry {
    fn state(&self) -> State {
        let booking = self.booking.clone();
        match self.status {
            Status::Booked => State::Booked(booking),
            Status::Confirmed => State::Confirmed(booking),
            Status::Cancelled => State::Cancelled(booking),
        }
    }
}
