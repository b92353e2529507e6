//! The simulated host: several engines on one store, a virtual clock, and everything that can go
//! wrong between them, from one seed.
//!
//! ```
//! use annals::testing::{Scenario, simulate};
//! let report = simulate(&Scenario::from_seed(7)).unwrap();
//! assert_eq!(report, simulate(&Scenario::from_seed(7)).unwrap(), "the same seed, the same run");
//! ```

mod check;
mod desk;
mod hosted;
mod simulation;

pub use simulation::{Failure, Faults, Report, Scenario, simulate};
