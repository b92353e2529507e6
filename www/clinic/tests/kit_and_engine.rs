//! What the testing kit says of the clinic's script is what an engine makes of it.

use annals::storage::{Annals, Clock, CommandOptions, MemoryStore};
use annals::testing::given;
use annals::{AggregateDefinition, CommandError, Config, Error, RecordedEvent, Timestamp};
use clinic::{Appointment, Command, Event};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    id: String,
    command: StepCommand,
    issued_at: String,
    expect: String,
}

#[derive(Deserialize)]
struct StepCommand {
    r#type: String,
    data: Value,
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_420_800_000)
    }

    fn sleep(&mut self, _: u64) {}
}

#[test]
fn the_kit_and_an_engine_make_the_same_of_every_step_of_the_script() {
    let script = include_str!("../../../pkg-tests/clinic/script.json");
    let steps: Vec<Step> = serde_json::from_str(script).expect("steps");
    let config = Config::new([7; 32], vec![AggregateDefinition::native::<Appointment>()]);
    let mut annals = Annals::new(config, MemoryStore::new("clinic"), Still).expect("one aggregate");
    let (mut committed, mut refused) = (0, 0);
    // One test all through, which begins with a command that leads to nothing.
    let mut case =
        given::<Appointment>([]).when(Command::ConfirmAppointment {}).then_refused_as("not-booked");
    for Step { id, command, issued_at, expect } in &steps {
        // Ids of commands and expected revisions are the engine's matter.
        if expect == "duplicate" || expect.starts_with("error") {
            continue;
        }
        let command: Command =
            serde_json::from_value(json!({ &command.r#type: command.data })).expect("a command");
        let options = CommandOptions {
            issued_at: Some(issued_at.parse().expect("a time")),
            ..CommandOptions::default()
        };
        let outcome = annals.execute::<Appointment>(id, &command, options);
        case = case.at(issued_at).when_other(id, command);
        match outcome {
            Ok(executed) => {
                committed += executed.events.len();
                case = case
                    .then(executed.events.iter().map(read))
                    .then_state(executed.state)
                    .then_tags(executed.events.iter().map(|event| &event.tags));
            }
            Err(Error::Command(CommandError::Refused { code, .. })) => {
                refused += 1;
                case = case.then_refused_as(&code);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(committed >= 20 && refused >= 50, "{committed} events, {refused} refusals");
}

fn read(event: &RecordedEvent) -> Event {
    let data: Value = serde_json::from_str(&event.data).expect("JSON");
    serde_json::from_value(json!({ &*event.event_type: data })).expect("an event")
}
