//! What tests need in WebAssembly: the simulation, to hold it against the native one, and a domain
//! with snapshots and views.

#![allow(unsafe_code, reason = "wasm-bindgen's macros make it; nothing here does")]

mod tally;

use annals::SnapshotPolicy;
use annals::testing::{Report, Scenario, simulate};
use wasm_bindgen::prelude::*;

annals::export_domain!(
    tally::Tally => SnapshotPolicy { every: Some(3), ..SnapshotPolicy::version(1) };
    projections:
        tally::Totals<{ tally::LIVE }>,
        tally::Totals<{ tally::INLINE }>,
        tally::Totals<{ tally::ASYNC }>
);

/// Runs `count` seeds from `from` on. Returns the digest of everything the engines put out, or
/// what went wrong.
#[wasm_bindgen(js_name = runSeeds)]
#[must_use]
pub fn run_seeds(from: u32, count: u32) -> String {
    let mut total = Report::default();
    for seed in from..from + count {
        match simulate(&Scenario::from_seed(seed.into())) {
            Ok(report) => total = total.plus(&report),
            Err(failure) => return failure.to_string(),
        }
    }
    format!("{:016x}", total.digest)
}
