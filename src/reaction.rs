//! Reactions: durable handlers of events with side effects.
//!
//! A reaction sends the e-mail, tells the hub, updates the other system. It runs after the commit, at
//! least once for each event, in the order of each stream; progress is kept in the store. What fails
//! is tried again, and at last parked with its error, while other streams go on. Of all engines on a
//! store one runs a reaction; another takes over when it dies.

use std::sync::Arc;

use crate::domain::AggregateDefinition;
use crate::event::RecordedEvent;
use crate::payload::{json_of, strings_of};
use crate::protocol::{LogFilter, ParkedLane};
use crate::stream::{Position, StreamId};
use crate::time::Timestamp;

/// The collection of documents that tell how far each reaction has come.
pub const REACTIONS: &str = "reactions";

/// The collection of wishes for what is parked, until the engine that runs the reaction has seen them.
pub(crate) const REQUESTS: &str = "reaction-requests";

/// The collection of the mark that imports leave: `["importing"]`, or `["imported", position]` when all
/// up to there has come. What was imported has happened elsewhere: a reaction begins after it.
pub(crate) const IMPORTS: &str = "imports";

/// Up to where events were imported, as the mark says; `None` while they are, and if it can't be read.
pub(crate) fn imported(mark: Option<&str>) -> Option<Position> {
    match mark {
        None => Some(Position(0)),
        Some(text) => Some(Position(strings_of(text)?.get(1)?.parse().ok()?)),
    }
}

/// Where a reaction begins that has never run on a store. There is no default: with one of them it
/// would e-mail every customer of the last ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the events that come from then on.
    Now,
    /// With the first event of the store that was not imported.
    Beginning,
}

/// How often, and after what pauses, an event is tried that could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1. Then it is parked.
    pub max_attempts: u32,
    /// Milliseconds before the second attempt. Each pause is twice the one before.
    pub first_pause: u64,
    /// Most milliseconds between two attempts.
    pub max_pause: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl RetryPolicy {
    /// Eight attempts in about two minutes.
    pub const DEFAULT: Self = Self { max_attempts: 8, first_pause: 1_000, max_pause: 60_000 };

    /// Milliseconds before the next attempt after so many; `None` if there is none.
    pub(crate) fn pause(&self, attempts: u32) -> Option<u64> {
        let pause = self.first_pause.saturating_mul(1 << (attempts - 1).min(32));
        (attempts < self.max_attempts).then(|| pause.min(self.max_pause))
    }
}

/// The correlation keys of an event, read as upcasters of these aggregates do; or why they can't be told.
pub type KeysOf = fn(&[AggregateDefinition], &RecordedEvent) -> Result<Vec<Arc<str>>, Arc<str>>;

/// What events are handled one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Lanes {
    /// Those of one stream.
    Streams,
    /// Those with one correlation key, which this function tells. Each key has a state and timers: the
    /// reaction is a process manager's.
    Native(KeysOf),
    /// The same, and the host tells the keys.
    Hosted,
}

/// A reaction an engine is made with. Its function lives in the host.
#[derive(Clone, Debug)]
pub struct ReactionDefinition {
    /// Its name, part of the stored form.
    pub name: Arc<str>,
    /// Which events it wants.
    pub filter: LogFilter,
    /// Whether its types are those of today: events that upcasters may make such events of come too.
    /// Whoever handles them reads them so ([`RecordedEvent::read`](crate::RecordedEvent::read)), and
    /// passes by what has become something else.
    pub upcasts: bool,
    /// Where it begins.
    pub start_at: StartAt,
    /// What happens to events that can't be handled.
    pub retries: RetryPolicy,
    /// Most events that are being handled together, at least 1. Two of one lane never are.
    pub concurrency: u32,
    /// What its lanes are.
    pub lanes: Lanes,
}

/// The lane of a stream: a JSON array of type and id.
pub(crate) fn lane_of(stream: &StreamId) -> Arc<str> {
    let StreamId { aggregate_type, aggregate_id } = stream;
    json_of(&[aggregate_type, aggregate_id]).into()
}

/// How far a reaction has come: all up to a position has been handled, but for some lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The engine that runs it; empty: none.
    pub(crate) owner: String,
    pub(crate) position: Position,
    pub(crate) lanes: Vec<ParkedLane>,
}

impl Progress {
    /// A JSON array of strings: owner and position, then five for each lane. It has no numbers, for to
    /// read them is much code.
    pub(crate) fn to_json(&self) -> String {
        let mut texts = vec![self.owner.clone(), self.position.to_string()];
        for ParkedLane { lane, position, attempts, retry_at, error } in &self.lanes {
            texts.push(lane.to_string());
            texts.push(position.to_string());
            texts.push(attempts.to_string());
            texts.push(retry_at.map_or_else(String::new, |at| at.millis().to_string()));
            texts.push(error.to_string());
        }
        json_of(&texts.iter().map(|text| &**text).collect::<Vec<_>>())
    }

    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let mut texts = strings_of(text)?.into_iter();
        let owner = texts.next()?;
        let position = Position(texts.next()?.parse().ok()?);
        let mut lanes = Vec::new();
        while let Some(lane) = texts.next() {
            let position = Position(texts.next()?.parse().ok()?);
            let attempts = texts.next()?.parse().ok()?;
            let retry_at = match &*texts.next()? {
                "" => None,
                millis => Some(Timestamp::from_millis(millis.parse().ok()?)),
            };
            let error = texts.next()?.into();
            lanes.push(ParkedLane { lane: lane.into(), position, attempts, retry_at, error });
        }
        Some(Self { owner, position, lanes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_back_from_json_as_it_was() {
        let lane = |lane: &str, retry_at| ParkedLane {
            lane: lane.into(),
            position: Position(7),
            attempts: 3,
            retry_at,
            error: "no \"route\"\nto host".into(),
        };
        let lanes = vec![
            lane("[\"Appointment\",\"a-1\"]", Some(Timestamp::from_millis(12))),
            lane("", None),
        ];
        let progress = Progress { owner: "e-1".into(), position: Position(9), lanes };
        assert_eq!(Progress::from_json(&progress.to_json()), Some(progress));
        for text in ["", "{}", "[]", "[\"a\"]", "[\"a\",\"b\"]", "[\"a\",\"1\",\"lane\"]", "[1,2]"]
        {
            assert_eq!(Progress::from_json(text), None, "{text}");
        }
    }

    #[test]
    fn the_mark_of_imports_tells_where_they_ended_or_that_they_have_not() {
        assert_eq!(imported(None), Some(Position(0)));
        assert_eq!(imported(Some("[\"imported\",\"17\"]")), Some(Position(17)));
        for text in ["[\"importing\"]", "[\"imported\",\"x\"]", "{}", ""] {
            assert_eq!(imported(Some(text)), None, "{text}");
        }
    }

    #[test]
    fn pauses_grow_to_the_longest_and_end_with_the_attempts() {
        let policy = RetryPolicy { max_attempts: 4, first_pause: 10, max_pause: 15 };
        assert_eq!([1, 2, 3, 4].map(|n| policy.pause(n)), [Some(10), Some(15), Some(15), None]);
        assert_eq!(RetryPolicy { max_attempts: 1, ..policy }.pause(1), None);
        let long = RetryPolicy { max_attempts: u32::MAX, first_pause: u64::MAX, max_pause: 9 };
        assert_eq!(long.pause(1_000), Some(9));
    }
}
