//! Chains of causes and effects in the log.

use std::collections::BTreeSet;

use crate::event::RecordedEvent;

/// What led to an event, and what came of it, as far as the events tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace<'a> {
    /// From the nearest cause to the first. Of a command that is the cause, all its events.
    pub causes: Vec<&'a RecordedEvent>,
    /// In the order of the log.
    pub effects: Vec<&'a RecordedEvent>,
}

/// Walks the chain that an event is in, both ways: its causation id names the event or the command
/// that is the cause. `events` are those with its correlation id, in the order of the log: read them
/// with [`LogFilter::correlation_id`](crate::protocol::LogFilter::correlation_id).
#[must_use]
pub fn trace<'a>(event: &RecordedEvent, events: &'a [RecordedEvent]) -> Trace<'a> {
    let mut causes: Vec<&RecordedEvent> = Vec::new();
    let mut cause = event.metadata.causation_id.clone();
    while let Some(id) = cause {
        let mut found = named(&id, events);
        found.retain(|one| !causes.contains(one));
        cause = found.first().and_then(|first| first.metadata.causation_id.clone());
        causes.append(&mut found);
    }
    let mut ids = BTreeSet::from([event.event_id.to_string(), event.command_id.to_string()]);
    // An effect comes after its cause.
    let is_effect = |one: &&RecordedEvent| {
        let cause = one.metadata.causation_id.as_deref();
        let is_effect = cause.is_some_and(|cause| ids.contains(cause));
        if is_effect {
            ids.extend([one.event_id.to_string(), one.command_id.to_string()]);
        }
        is_effect
    };
    Trace { causes, effects: events.iter().filter(is_effect).collect() }
}

fn named<'a>(id: &str, events: &'a [RecordedEvent]) -> Vec<&'a RecordedEvent> {
    let by_event: Vec<_> = events.iter().filter(|one| one.event_id.to_string() == id).collect();
    if by_event.is_empty() {
        events.iter().filter(|one| one.command_id.to_string() == id).collect()
    } else {
        by_event
    }
}
