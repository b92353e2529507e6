//! A domain with snapshots and views: it counts.

use annals::{
    Aggregate, Context, EventContext, IndexEntry, ProjectError, Projection, View, ViewKind,
};
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

pub(crate) const LIVE: u8 = 0;
pub(crate) const INLINE: u8 = 1;
pub(crate) const ASYNC: u8 = 2;

/// What has been counted in each tally, and in all. `K` is the kind.
#[derive(Debug)]
pub(crate) struct Totals<const K: u8>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Total {
    sum: u32,
    revision: u64,
    actor: Option<String>,
    /// Milliseconds since 1970.
    issued_at: i64,
    /// Position, and milliseconds since 1970.
    recorded: Option<(u64, i64)>,
}

impl<const K: u8> Projection for Totals<K> {
    const NAME: &'static str = match K {
        LIVE => "totals, live",
        INLINE => "totals, inline",
        _ => "totals, async",
    };
    const VERSION: u32 = 1;
    const KIND: ViewKind = match K {
        LIVE => ViewKind::Live,
        INLINE => ViewKind::Inline,
        _ => ViewKind::Async,
    };
    type Event = Event;
    type Document = Total;

    fn project(
        view: &mut View<'_, Total>,
        _: Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let id = &*context.stream.aggregate_id;
        if id == "bad" {
            return Err(ProjectError::new("it is not to be counted"));
        }
        for key in [id, "all"] {
            view.update(key, |total| {
                *total = Total {
                    sum: total.sum + 1,
                    revision: context.revision.0,
                    actor: context.actor.map(str::to_owned),
                    issued_at: context.issued_at.millis(),
                    recorded: context.recorded.map(|(at, time)| (at.0, time.millis())),
                }
            })?;
        }
        Ok(())
    }

    const INDEXES: &'static [&'static str] = &["sum"];

    fn index(total: &Total) -> Vec<IndexEntry> {
        vec![IndexEntry::new("sum", total.sum)]
    }
}
