//! `bare <file> <rounds>`: replays the events of a file so often, natively, and prints the seconds it
//! took and what came of it, as JSON. The first round, which is not timed, reads the file.

use std::error::Error;
use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "only the engine's core must not read the clock")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("expected a file")?;
    let rounds: u32 = arguments.next().ok_or("expected a number of rounds")?.parse()?;
    let lines = std::fs::read(file)?;
    let result = bare::replay_to_json(&lines)?;
    let start = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(bare::replay(std::hint::black_box(&lines))?);
    }
    println!(r#"{{"seconds":{},"result":{result}}}"#, start.elapsed().as_secs_f64());
    Ok(())
}
