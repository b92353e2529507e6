//! The aggregate: what an appointment is, what may be asked of it, and what may happen to it.

use annals::{Aggregate, Context, Query, Tag, Upcasters};
use serde::{Deserialize, Serialize};

use crate::slot::{Slot, Time, check_name};

/// One appointment at the clinic.
#[derive(Clone, Copy, Debug)]
pub struct Appointment;

/// What an appointment has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum State {
    /// Nobody has booked it.
    None,
    /// It is booked. The patient has not confirmed the time.
    Booked(Booking),
    /// It is booked, and the patient has confirmed the time.
    Confirmed(Booking),
    /// It will not take place. This is as it stood when it was cancelled.
    Cancelled(Booking),
}

/// What is known of an appointment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Booking {
    /// Who sees the patient.
    pub doctor: String,
    /// Who is seen.
    pub patient: String,
    /// Where.
    pub room: String,
    /// What kind of appointment, such as `check-up`.
    pub appointment_type: String,
    /// From when on.
    pub start: Time,
    /// Until when.
    pub end: Time,
    /// What it is about, in a few words.
    pub title: String,
    /// Anything else worth knowing; may be empty.
    pub comment: String,
}

/// What may be asked of an appointment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Command {
    /// Take a doctor's and a room's time for a patient.
    BookAppointment {
        /// Who is to see the patient.
        doctor: String,
        /// Who is to be seen.
        patient: String,
        /// Where.
        room: String,
        /// What kind of appointment.
        appointment_type: String,
        /// From when on.
        start: String,
        /// Until when.
        end: String,
        /// What it is about. Not blank.
        title: String,
        /// Anything else worth knowing.
        #[serde(skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// Move it to another time, perhaps to another room. It must be confirmed again.
    RescheduleAppointment {
        /// From when on.
        start: String,
        /// Until when.
        end: String,
        /// Where, if not where it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<String>,
    },
    /// Change what it is about. What is not given stays.
    UpdateAppointment {
        /// What it is about. Not blank.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// Anything else worth knowing; may be empty.
        #[serde(skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
        /// What kind of appointment.
        #[serde(skip_serializing_if = "Option::is_none")]
        appointment_type: Option<String>,
    },
    /// The patient has confirmed the time.
    ConfirmAppointment {},
    /// It is not to take place.
    CancelAppointment {
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

/// What may happen to an appointment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Event {
    /// It was booked.
    AppointmentBooked(Booking),
    /// It was moved here. The whole slot, doctor included, for those who read no other event of
    /// this appointment.
    AppointmentRescheduled(Slot),
    /// What it is about was changed. What is absent stayed.
    AppointmentUpdated {
        /// What it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// Anything else worth knowing.
        #[serde(skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
        /// What kind of appointment.
        #[serde(skip_serializing_if = "Option::is_none")]
        appointment_type: Option<String>,
    },
    /// The patient confirmed the time.
    AppointmentConfirmed {},
    /// It was called off, and its slot is free again.
    AppointmentCancelled {
        /// Why; may be empty.
        reason: String,
    },
}

/// Data of `AppointmentCancelled`, version 1.
#[derive(Deserialize)]
struct MaybeReason {
    reason: Option<String>,
}

/// Data of `AppointmentCancelled`, version 2.
#[derive(Serialize)]
struct Reason {
    reason: String,
}

/// Data of `AppointmentAcknowledged`.
#[derive(Deserialize)]
struct Acknowledged {}

/// Why a command may be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Refusal {
    /// There is nothing to change: it was never booked.
    NotBooked,
    /// It is booked already.
    AlreadyBooked,
    /// It is confirmed already.
    AlreadyConfirmed,
    /// It was cancelled, and that is final.
    AlreadyCancelled,
    /// A name is not made of 1 to 64 ASCII letters, digits, `.`, `_` and `-`.
    InvalidName {
        /// Which one.
        field: &'static str,
    },
    /// The title is blank.
    TitleMissing,
    /// A time is not written as `2026-11-23T09:30:00.000Z`, or there is no such time.
    InvalidTime {
        /// Which one.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// It would end before it has begun.
    EndNotAfterStart,
    /// It would be too long.
    TooLong {
        /// The longest there may be, in minutes.
        max_minutes: u32,
    },
    /// It would begin before the command was given.
    SlotInPast {
        /// When the command was given.
        issued_at: String,
    },
    /// Another appointment has the doctor.
    DoctorTaken {
        /// The other appointment's id.
        by: String,
        /// Since when.
        start: Time,
        /// Until when.
        end: Time,
    },
    /// Another appointment has the room.
    RoomTaken {
        /// The other appointment's id.
        by: String,
        /// Since when.
        start: Time,
        /// Until when.
        end: Time,
    },
}

impl Aggregate for Appointment {
    const TYPE: &'static str = "Appointment";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> State {
        State::None
    }

    /// The events of the doctor and the room on the days of the slot the command asks for.
    fn reads(command: &Command, state: &State) -> Query {
        let slot = match (command, state.live()) {
            (Command::BookAppointment { doctor, room, start, end, .. }, _) => {
                Slot::requested(doctor, room, start, end)
            }
            (Command::RescheduleAppointment { start, end, room }, Some(booking)) => {
                booking.requested_move(start, end, room.as_deref())
            }
            _ => return Query::none(),
        };
        // What is no slot, `decide` refuses without looking at others.
        slot.map_or(Query::none(), |slot| Query::any_tag(slot.tags()))
    }

    fn decide(
        state: &State,
        command: &Command,
        context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::BookAppointment {
                doctor,
                patient,
                room,
                appointment_type,
                start,
                end,
                title,
                comment,
            } => {
                match state {
                    State::None => {}
                    State::Booked(_) | State::Confirmed(_) => return Err(Refusal::AlreadyBooked),
                    State::Cancelled(_) => return Err(Refusal::AlreadyCancelled),
                }
                let slot = Slot::requested(doctor, room, start, end)?;
                check_name("patient", patient)?;
                check_name("appointmentType", appointment_type)?;
                check_title(title)?;
                slot.check_free(context)?;
                Ok(vec![Event::AppointmentBooked(Booking {
                    doctor: slot.doctor,
                    patient: patient.clone(),
                    room: slot.room,
                    appointment_type: appointment_type.clone(),
                    start: slot.start,
                    end: slot.end,
                    title: title.clone(),
                    comment: comment.clone().unwrap_or_default(),
                })])
            }
            Command::RescheduleAppointment { start, end, room } => {
                let booking = state.changeable()?;
                let slot = booking.requested_move(start, end, room.as_deref())?;
                if slot == booking.slot() {
                    return Ok(Vec::new());
                }
                slot.check_free(context)?;
                Ok(vec![Event::AppointmentRescheduled(slot)])
            }
            Command::UpdateAppointment { title, comment, appointment_type } => {
                let booking = state.changeable()?;
                if let Some(title) = title {
                    check_title(title)?;
                }
                if let Some(appointment_type) = appointment_type {
                    check_name("appointmentType", appointment_type)?;
                }
                let title = changed(title, &booking.title);
                let comment = changed(comment, &booking.comment);
                let appointment_type = changed(appointment_type, &booking.appointment_type);
                if title.is_none() && comment.is_none() && appointment_type.is_none() {
                    return Ok(Vec::new());
                }
                Ok(vec![Event::AppointmentUpdated { title, comment, appointment_type }])
            }
            Command::ConfirmAppointment {} => {
                state.changeable()?;
                if let State::Confirmed(_) = state {
                    return Err(Refusal::AlreadyConfirmed);
                }
                Ok(vec![Event::AppointmentConfirmed {}])
            }
            Command::CancelAppointment { reason } => {
                state.changeable()?;
                let reason = reason.clone().unwrap_or_default();
                Ok(vec![Event::AppointmentCancelled { reason }])
            }
        }
    }

    fn evolve(state: State, event: &Event) -> State {
        match (event, state) {
            (Event::AppointmentBooked(booking), _) => State::Booked(booking.clone()),
            (
                Event::AppointmentRescheduled(slot),
                State::Booked(booking) | State::Confirmed(booking),
            ) => State::Booked(booking.moved_to(slot)),
            (Event::AppointmentUpdated { title, comment, appointment_type }, mut state) => {
                if let State::Booked(booking) | State::Confirmed(booking) = &mut state {
                    replace(&mut booking.title, title);
                    replace(&mut booking.comment, comment);
                    replace(&mut booking.appointment_type, appointment_type);
                }
                state
            }
            (Event::AppointmentConfirmed {}, State::Booked(booking)) => State::Confirmed(booking),
            (
                Event::AppointmentCancelled { .. },
                State::Booked(booking) | State::Confirmed(booking),
            ) => State::Cancelled(booking),
            // What is left no decision gives.
            (_, state) => state,
        }
    }

    /// A cancellation had its reason only if one was given, and a confirmation was called otherwise.
    fn upcasters() -> Upcasters<Event> {
        Upcasters::none()
            .upcast("AppointmentCancelled", 1, |old: MaybeReason| Reason {
                reason: old.reason.unwrap_or_default(),
            })
            .becomes("AppointmentAcknowledged", 1, |_: Acknowledged| {
                [Event::AppointmentConfirmed {}]
            })
    }

    /// What takes or frees a slot has the slot's tags; a move has those of both.
    fn tags(event: &Event, before: &State) -> Vec<Tag> {
        let freed = || before.live().map(|booking| booking.slot().tags()).unwrap_or_default();
        match event {
            Event::AppointmentBooked(booking) => booking.slot().tags(),
            Event::AppointmentRescheduled(slot) => {
                let mut tags = slot.tags();
                for tag in freed() {
                    if !tags.contains(&tag) {
                        tags.push(tag);
                    }
                }
                tags
            }
            Event::AppointmentCancelled { .. } => freed(),
            Event::AppointmentUpdated { .. } | Event::AppointmentConfirmed {} => Vec::new(),
        }
    }
}

impl State {
    /// The booking, while it holds its slot.
    #[must_use]
    pub fn live(&self) -> Option<&Booking> {
        match self {
            Self::Booked(booking) | Self::Confirmed(booking) => Some(booking),
            Self::None | Self::Cancelled(_) => None,
        }
    }

    /// The booking, if it may still be changed.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none, or if it was cancelled.
    fn changeable(&self) -> Result<&Booking, Refusal> {
        match self {
            Self::None => Err(Refusal::NotBooked),
            Self::Booked(booking) | Self::Confirmed(booking) => Ok(booking),
            Self::Cancelled(_) => Err(Refusal::AlreadyCancelled),
        }
    }
}

impl Booking {
    /// The doctor and the room it takes, and when.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot {
            doctor: self.doctor.clone(),
            room: self.room.clone(),
            start: self.start,
            end: self.end,
        }
    }

    fn requested_move(&self, start: &str, end: &str, room: Option<&str>) -> Result<Slot, Refusal> {
        Slot::requested(&self.doctor, room.unwrap_or(&self.room), start, end)
    }

    fn moved_to(self, slot: &Slot) -> Self {
        Self {
            doctor: slot.doctor.clone(),
            room: slot.room.clone(),
            start: slot.start,
            end: slot.end,
            ..self
        }
    }
}

fn check_title(title: &str) -> Result<(), Refusal> {
    if title.bytes().all(|c| c.is_ascii_whitespace()) { Err(Refusal::TitleMissing) } else { Ok(()) }
}

/// What was given, if it differs from what is there.
fn changed(given: &Option<String>, current: &str) -> Option<String> {
    given.clone().filter(|given| given != current)
}

fn replace(current: &mut String, new: &Option<String>) {
    if let Some(new) = new {
        current.clone_from(new);
    }
}
