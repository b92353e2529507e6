//! Slots: a doctor and a room for a while. Two appointments must not share either at the same time.
//!
//! Every event that takes or frees a slot carries a tag for its doctor and one for its room, for
//! each day it touches: `doctor:7/2026-11-23`, `room:3/2026-11-23`. A decision reads the events
//! with the tags of the slot it wants and folds them into the slots that other appointments hold.
//! Tags this fine keep strangers apart: bookings conflict only if they share a doctor or a room on
//! one day.

use std::fmt;

use annals::protocol::ViewScan;
use annals::{
    Context, EventContext, IndexEntry, ProjectError, Projection, Tag, Timestamp, View, ViewKind,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::appointment::{Event, Refusal};

/// The longest appointment, in minutes. It keeps a slot within two days, so its tags are few.
pub const MAX_MINUTES: u32 = 12 * 60;

const MILLIS_PER_MINUTE: i64 = 60_000;

/// A point in time of the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Timestamp);

impl Time {
    /// Reads a time such as `2026-11-23T09:30:00.000Z`. No other way to write it will do, so that
    /// equal times are equal texts.
    ///
    /// ```
    /// use clinic::Time;
    /// assert!(Time::parse("2026-11-23T09:30:00.000Z").is_some());
    /// assert!(Time::parse("2026-11-23T10:30:00+01:00").is_none());
    /// assert!(Time::parse("2026-02-30T09:30:00.000Z").is_none());
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time: Timestamp = text.parse().ok()?;
        (time.to_string() == text).then_some(Self(time))
    }

    /// The day it is on, in UTC: `2026-11-23`.
    fn day(self) -> String {
        let mut text = self.0.to_string();
        text.truncate("2026-11-23".len());
        text
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format_args!(
                "expected a time such as 2026-11-23T09:30:00.000Z, found {text:?}"
            ))
        })
    }
}

/// A doctor and a room, from `start` up to, not including, `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Who sees the patient.
    pub doctor: String,
    /// Where.
    pub room: String,
    /// From when on.
    pub start: Time,
    /// Until when. Always after `start`.
    pub end: Time,
}

impl Slot {
    /// The slot a caller asks for.
    ///
    /// # Errors
    /// A [`Refusal`] if there is no such slot.
    pub(crate) fn requested(
        doctor: &str,
        room: &str,
        start: &str,
        end: &str,
    ) -> Result<Self, Refusal> {
        check_name("doctor", doctor)?;
        check_name("room", room)?;
        let start = requested_time("start", start)?;
        let end = requested_time("end", end)?;
        if end <= start {
            return Err(Refusal::EndNotAfterStart);
        }
        let millis = end.0.millis() - start.0.millis();
        if millis > i64::from(MAX_MINUTES) * MILLIS_PER_MINUTE {
            return Err(Refusal::TooLong { max_minutes: MAX_MINUTES });
        }
        Ok(Self { doctor: doctor.to_owned(), room: room.to_owned(), start, end })
    }

    /// # Errors
    /// A [`Refusal`] if the slot has begun before the command was given, or another appointment
    /// has the doctor or the room at that time.
    pub(crate) fn check_free(&self, context: &Context<'_>) -> Result<(), Refusal> {
        if self.start.0 < context.issued_at {
            return Err(Refusal::SlotInPast { issued_at: context.issued_at.to_string() });
        }
        let held = context.fold::<Held>();
        let until_its_end = || ViewScan::by_index("start").between("", self.end.to_string());
        let first = |same: fn(&Self, &Self) -> bool| {
            let mut others = held.list(until_its_end());
            others.find(|(_, other)| self.start < other.end && same(self, other))
        };
        if let Some((by, &Self { start, end, .. })) = first(|a, b| a.doctor == b.doctor) {
            return Err(Refusal::DoctorTaken { by: by.to_owned(), start, end });
        }
        if let Some((by, &Self { start, end, .. })) = first(|a, b| a.room == b.room) {
            return Err(Refusal::RoomTaken { by: by.to_owned(), start, end });
        }
        Ok(())
    }

    /// The tags of whatever takes or frees the slot.
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        let first = self.start.day();
        // An appointment that ends at midnight does not touch the day that begins then.
        let last = Time(Timestamp::from_millis(self.end.0.millis() - 1)).day();
        let days = if first == last { vec![first] } else { vec![first, last] };
        days.iter()
            .flat_map(|day| {
                [format!("doctor:{}/{day}", self.doctor), format!("room:{}/{day}", self.room)]
            })
            .map(Tag::from)
            .collect()
    }
}

/// By appointment, the slot it holds.
///
/// Each event that moves an appointment carries its whole new slot, so it does not matter that a
/// decision reads none of its events on other days.
struct Held;

impl Projection for Held {
    const NAME: &'static str = "held";
    const VERSION: u32 = 1;
    const KIND: ViewKind = ViewKind::Inline;
    type Event = Event;
    type Document = Slot;

    fn project(
        view: &mut View<'_, Slot>,
        event: Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let id = &context.stream.aggregate_id;
        match event {
            Event::AppointmentBooked(booking) => view.set(id, booking.slot()),
            Event::AppointmentRescheduled(slot) => view.set(id, slot),
            Event::AppointmentCancelled { .. } => view.remove(id),
            Event::AppointmentUpdated { .. } | Event::AppointmentConfirmed {} => {}
        }
        Ok(())
    }

    const INDEXES: &'static [&'static str] = &["start"];

    fn index(slot: &Slot) -> Vec<IndexEntry> {
        vec![IndexEntry::new("start", slot.start.to_string())]
    }
}

fn requested_time(field: &'static str, text: &str) -> Result<Time, Refusal> {
    Time::parse(text).ok_or_else(|| Refusal::InvalidTime { field, value: text.to_owned() })
}

/// Names of doctors, rooms and the like are part of tags and of addresses: 1 to 64 ASCII letters,
/// digits, `.`, `_` and `-`.
pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), Refusal> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        Ok(())
    } else {
        Err(Refusal::InvalidName { field })
    }
}
