//! Events as lines of JSON, parsed by `serde_json` and folded.

use annals::Aggregate;
use clinic::{Appointment, Event, State};

/// How many events there are, and the state they lead to.
///
/// # Errors
/// If a line is no event of the clinic's.
pub fn replay(lines: &[u8]) -> Result<(u64, State), serde_json::Error> {
    let mut count = 0;
    let mut state = Appointment::initial();
    for event in serde_json::Deserializer::from_slice(lines).into_iter::<Event>() {
        state = Appointment::evolve(state, &event?);
        count += 1;
    }
    Ok((count, state))
}

/// The number of events and the state, as JSON.
///
/// # Errors
/// If a line is no event of the clinic's.
pub fn replay_to_json(lines: &[u8]) -> Result<String, serde_json::Error> {
    let (revision, state) = replay(lines)?;
    Ok(format!(r#"{{"revision":{revision},"state":{}}}"#, serde_json::to_string(&state)?))
}

/// The same, for JavaScript.
///
/// # Panics
/// If a line is no event of the clinic's.
#[cfg(feature = "wasm")]
#[wasm_bindgen::prelude::wasm_bindgen(js_name = replay)]
#[must_use]
pub fn replay_in_wasm(lines: &[u8]) -> String {
    replay_to_json(lines).expect("the benchmark writes events only")
}
