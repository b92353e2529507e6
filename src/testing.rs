//! Tests of a domain, and the simulated host.
//!
//! [`given`] tests an aggregate by itself: given what has happened, when a command is given, then
//! this comes of it. [`given_view`] tests a projection: given what has happened, then these are its
//! documents. [`given_manager`] tests a process manager: given what has happened, when something happens or
//! time passes, then these commands, timers and states come of it.
//!
//! [`simulate`] tests the engine: several engines on one store, a virtual clock, and everything that
//! can go wrong between them, from one seed.
//!
//! ```
//! use annals::testing::{Scenario, simulate};
//! let report = simulate(&Scenario::from_seed(7)).unwrap();
//! assert_eq!(report, simulate(&Scenario::from_seed(7)).unwrap(), "the same seed, the same run");
//! ```

mod attempts;
mod check;
mod desk;
mod diff;
mod given_manager;
mod given_view;
mod hosted;
mod kit;
mod managers;
mod reactions;
mod readers;
mod simulation;
mod story;
mod views;

pub use given_manager::{GivenCommand, ManagerCase, given_manager, gives};
pub use given_view::{ViewCase, given_view};
pub use kit::{Case, Given, Stage, When, assert_round_trip, given};
pub use simulation::{Failure, Faults, Report, Scenario, simulate};
