//! Tags and queries: the dynamic consistency boundary, in the words of <https://dcb.events>.

use std::sync::Arc;

use crate::error::InvalidName;
use crate::stream::check_name;

/// A label of an event, such as `doctor:7/2026-11-23`. Chosen fine, so that strangers don't
/// conflict.
pub type Tag = Arc<str>;

/// Which events a decision reads beyond its own stream: those that match any of its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// An event matches the query if it matches one of these. No items: no event matches.
    pub items: Vec<QueryItem>,
}

/// One alternative of a [`Query`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryItem {
    /// The event has one of these types. Empty: any type.
    pub types: Vec<Arc<str>>,
    /// The event has all of these tags.
    pub tags: Vec<Tag>,
}

impl Query {
    /// The query that matches nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { items: Vec::new() }
    }

    /// Events that have any of these tags.
    ///
    /// ```
    /// use annals::Query;
    /// let query = Query::any_tag(["doctor:7/2026-11-23", "room:3/2026-11-23"]);
    /// assert!(query.matches("AppointmentBooked", &["room:3/2026-11-23".into()]));
    /// ```
    pub fn any_tag<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self {
            items: tags
                .into_iter()
                .map(|tag| QueryItem { types: Vec::new(), tags: vec![tag.as_ref().into()] })
                .collect(),
        }
    }

    /// Whether no event can match.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether an event of this type with these tags matches.
    #[must_use]
    pub fn matches(&self, event_type: &str, tags: &[Tag]) -> bool {
        self.items.iter().any(|item| {
            (item.types.is_empty() || item.types.iter().any(|t| **t == *event_type))
                && item.tags.iter().all(|tag| tags.contains(tag))
        })
    }

    /// # Errors
    /// If a name is unusable, or an item names neither a type nor a tag: it would match, and
    /// conflict with, every event of the store.
    pub(crate) fn check(&self) -> Result<(), InvalidName> {
        for item in &self.items {
            if item.types.is_empty() && item.tags.is_empty() {
                return Err(InvalidName::Empty { what: "query item" });
            }
            item.types.iter().try_for_each(|name| check_name("event type", name))?;
            item.tags.iter().try_for_each(|tag| check_name("tag", tag))?;
        }
        Ok(())
    }
}
