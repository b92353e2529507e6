//! Runs many seeds of the simulation and ends with one line of totals.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 100000 [--from 0]
//! ```

use annals::testing::{Report, Scenario, simulate};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let from = number("--from", 0);
    let seeds = number("--seeds", 10_000);
    let mut total = Report::default();
    for seed in from..from + seeds {
        match simulate(&Scenario::from_seed(seed)) {
            Ok(report) => total = total.plus(&report),
            Err(failure) => {
                eprintln!("{failure}\n{:?}", failure.scenario);
                std::process::exit(1);
            }
        }
    }
    println!(
        "{seeds} seeds, {} steps, {} events, {} in older forms, {} outcomes, {} refusals, {} conflicts, \
         {} faults, {} snapshots, {} answers of views, {} events for readers, {} again, {} read back, \
         {} reacted to, {} wishes for reactions, {} commands of process managers, {} timers, {} hints and {} wrong ones, digest {:016x}",
        total.steps,
        total.events,
        total.older,
        total.outcomes,
        total.refusals,
        total.conflicts,
        total.faults,
        total.snapshots,
        total.views,
        total.read,
        total.read_again,
        total.looked_back,
        total.reacted,
        total.asked,
        total.managed,
        total.rung,
        total.hints,
        total.lies,
        total.digest
    );
}
