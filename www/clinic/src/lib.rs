//! The clinic's appointments, the domain of the demo, written in Rust.
//!
//! Each appointment is an aggregate with a stream of its own: booked, perhaps rescheduled, updated
//! and confirmed, perhaps cancelled. No doctor and no room has two appointments at a time,
//! although that is a rule across streams: see [`slot`]. The [`agenda`] shows them all.
//!
//! The crate runs natively (`examples/play.rs`) and, with the feature `wasm`, as a WebAssembly
//! module in the demo. `pkg-tests/clinic` is the same domain in TypeScript; a test plays one script
//! through all three and compares what comes out. Events, states, refusals and documents are
//! therefore the same JSON in both languages:
//!
//! - Times are texts such as `2026-11-23T09:30:00.000Z`: UTC, with milliseconds, nothing else.
//! - A text that was not given is `""`. A key is absent only where that means "unchanged".

pub mod agenda;
pub mod appointment;
pub mod slot;

pub use agenda::{Agenda, Entry, Status};
pub use appointment::{Appointment, Booking, Command, Event, Refusal, State};
pub use slot::{Slot, Time};

#[cfg(feature = "wasm")]
annals::export_domain!(Appointment; projections: Agenda);
