//! The simulation as a WebAssembly module, to hold it against the native one.

#![allow(unsafe_code, reason = "wasm-bindgen's macros make it; nothing here does")]

use annals::testing::{Report, Scenario, simulate};
use wasm_bindgen::prelude::*;

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
