//! Events of other streams, as native decisions read them.

use std::sync::Arc;

use crate::aggregate::OtherEvent;
use crate::domain::{AggregateDefinition, EventText, Today, read_today, upcasts};
use crate::error::UnreadableEvent;
use crate::event::RecordedEvent;
use crate::protocol::{EventRow, SkippedEvents};
use crate::query::Query;
use crate::upcast::Message;

use super::KeptPage;

/// A stored event, whole or not.
pub(super) trait Stored {
    /// What a fold needs of it.
    fn text(&self) -> EventText<'_>;

    /// As a decision gets it.
    fn other(&self) -> OtherEvent<'_>;
}

macro_rules! stored {
    ($name:ident, $actor:expr) => {
        impl Stored for $name {
            fn text(&self) -> EventText<'_> {
                let Self { event_type, schema_version, data, .. } = self;
                EventText { event_type, schema_version: *schema_version, data }
            }

            fn other(&self) -> OtherEvent<'_> {
                let Self { stream, revision, issued_at, event_type, data, .. } = self;
                let (revision, issued_at) = (*revision, *issued_at);
                let actor: fn(&Self) -> Option<&str> = $actor;
                OtherEvent { stream, revision, issued_at, actor: actor(self), event_type, data }
            }
        }
    };
}
stored!(RecordedEvent, |event| event.metadata.actor.as_deref());
stored!(EventRow, |row| row.actor.as_deref());

/// What upcasters have made of a page.
pub(crate) struct ReadOthers {
    pub(super) rows: Vec<EventRow>,
    pub(super) skipped: Vec<SkippedEvents>,
}

/// Events of others as their aggregates' upcasters read them; `None` if that is as they are stored.
/// `named` is what the decision has named, if more was read because of upcasters.
pub(crate) fn read_others(
    aggregates: &[AggregateDefinition],
    named: Option<&Query>,
    page: &KeptPage,
) -> Result<Option<ReadOthers>, UnreadableEvent> {
    let events: Vec<_> = match page {
        KeptPage::Events(events) => {
            events.iter().map(|event| (event.other(), event.text())).collect()
        }
        KeptPage::Rows(rows) => rows.1.iter().map(|row| (row.other(), row.text())).collect(),
        _ => return Ok(None),
    };
    let mut stored = events.iter().map(|(other, text)| upcasts(aggregates, other.stream, *text));
    if named.is_none() && stored.all(|upcasts| upcasts.is_none()) {
        return Ok(None);
    }
    let mut read = ReadOthers { rows: Vec::new(), skipped: Vec::new() };
    for (OtherEvent { stream, revision, issued_at, actor, .. }, text) in events {
        let today =
            read_today(aggregates, stream, text, None).map_err(|why| why.at(stream, revision))?;
        let messages = match today {
            Today::Upcast(messages) => messages,
            Today::AsStored => {
                let EventText { event_type, schema_version, data } = text;
                let (event_type, data) = (event_type.into(), data.into());
                vec![Message { event_type, schema_version, data }]
            }
            Today::Skipped => {
                let (stream, event_type) = (stream.clone(), text.event_type.into());
                read.skipped.push(SkippedEvents { stream, revision, event_type, count: 1 });
                continue;
            }
        };
        for Message { event_type, schema_version, data } in messages {
            // What was read for what it may become may be something else.
            let has = |types: &[Arc<str>]| types.is_empty() || types.contains(&event_type);
            if named.is_none_or(|query| query.items.iter().any(|item| has(&item.types))) {
                read.rows.push(EventRow {
                    stream: stream.clone(),
                    revision,
                    event_type,
                    schema_version,
                    data,
                    issued_at,
                    actor: actor.map(Into::into),
                });
            }
        }
    }
    Ok(Some(read))
}
