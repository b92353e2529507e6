//! A domain with snapshots: it counts.

use annals::{Aggregate, Context};
use serde::{Deserialize, Serialize};

#[derive(Debug)]
pub(crate) struct Tally;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    sum: u32,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Command {
    Count {},
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Event {
    Counted {},
}

impl Aggregate for Tally {
    const TYPE: &'static str = "Tally";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Refusal = ();

    fn initial() -> State {
        State::default()
    }

    fn decide(_: &State, _: &Command, _: &Context<'_>) -> Result<Vec<Event>, ()> {
        Ok(vec![Event::Counted {}])
    }

    fn evolve(state: State, _: &Event) -> State {
        State { sum: state.sum + 1 }
    }
}
