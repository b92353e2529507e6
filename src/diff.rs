//! What is different between two states.

use std::fmt;

use serde_json::{Map, Value};

use crate::stream::{Revision, StreamId};

/// A place in a state that has another value than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What leads there. Empty: the state as a whole.
    pub path: Vec<Step>,
    /// What was there, and what is.
    pub kind: ChangeKind,
}

/// What has become of a place in a state.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// Nothing was there.
    Added {
        /// What is there.
        after: Value,
    },
    /// Nothing is there any more.
    Removed {
        /// What was there.
        before: Value,
    },
    /// Something else was there.
    Changed {
        /// What was there.
        before: Value,
        /// What is there.
        after: Value,
    },
}

/// A step on the way to a place in a state. As text it reads as in a program: `.title`, `[3]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// To the member of an object with this key.
    Member(String),
    /// To the item of an array with this index.
    Item(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(key) => write!(f, ".{key}"),
            Self::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// Why two points of a stream can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The second is before the first.
    #[error("expected two points of {stream} in order, found revision {from} and then {to}")]
    WrongOrder {
        /// The stream.
        stream: StreamId,
        /// The revision at the first.
        from: Revision,
        /// The revision at the second.
        to: Revision,
    },
    /// A state can't be written as JSON, in which states are compared.
    #[error("the state of {stream} can't be compared: {reason}")]
    StateNotJson {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: String,
    },
}

impl DiffError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongOrder { .. } => "invalid-argument",
            Self::StateNotJson { .. } => "state-not-json",
        }
    }
}

/// An array of which more items differ is one change.
const MOST_ITEMS: usize = 100;

/// What is different between two values: the smallest parts that differ. Objects are compared member
/// by member, arrays item by item with the same index, so that an item that is put before others
/// changes all of these. An array of which more than 100 items differ is one change.
///
/// # What an update did
///
/// ```
/// use annals::{Change, ChangeKind, Step, changes};
/// use serde_json::json;
///
/// let before = json!({ "title": "Knee", "tags": ["new"] });
/// let after = json!({ "title": "Hip", "tags": ["new"] });
/// let title = Step::Member("title".into());
/// let kind = ChangeKind::Changed { before: json!("Knee"), after: json!("Hip") };
/// assert_eq!(changes(&before, &after), [Change { path: vec![title], kind }]);
/// ```
#[must_use]
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    changes_within(before, after, MOST_ITEMS)
}

/// The same with so many items of an array.
pub(crate) fn changes_within(before: &Value, after: &Value, most_items: usize) -> Vec<Change> {
    let mut found = Vec::new();
    Walk { path: Vec::new(), most_items, found: &mut found }.values(Some(before), Some(after));
    found
}

struct Walk<'a> {
    path: Vec<Step>,
    most_items: usize,
    found: &'a mut Vec<Change>,
}

impl Walk<'_> {
    fn values(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let kind = match (before, after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                return self.members(before, after);
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => {
                return self.items(before, after);
            }
            (Some(before), Some(after)) if before != after => {
                ChangeKind::Changed { before: before.clone(), after: after.clone() }
            }
            (None, Some(after)) => ChangeKind::Added { after: after.clone() },
            (Some(before), None) => ChangeKind::Removed { before: before.clone() },
            _ => return,
        };
        self.found.push(Change { path: self.path.clone(), kind });
    }

    fn step(&mut self, step: Step, before: Option<&Value>, after: Option<&Value>) {
        self.path.push(step);
        self.values(before, after);
        self.path.pop();
    }

    fn members(&mut self, before: &Map<String, Value>, after: &Map<String, Value>) {
        let added = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(added) {
            self.step(Step::Member(key.clone()), before.get(key), after.get(key));
        }
    }

    fn items(&mut self, before: &[Value], after: &[Value]) {
        let (start, mut differing) = (self.found.len(), 0);
        for index in 0..before.len().max(after.len()) {
            let found = self.found.len();
            self.step(Step::Item(index), before.get(index), after.get(index));
            differing += usize::from(self.found.len() > found);
            if differing > self.most_items {
                self.found.truncate(start);
                let (before, after) = (before.to_vec().into(), after.to_vec().into());
                let kind = ChangeKind::Changed { before, after };
                self.found.push(Change { path: self.path.clone(), kind });
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As `place: before → after`.
    fn told(before: &Value, after: &Value) -> Vec<String> {
        let tell = |change: Change| {
            let place: String = change.path.iter().map(Step::to_string).collect();
            match change.kind {
                ChangeKind::Added { after } => format!("{place}: → {after}"),
                ChangeKind::Removed { before } => format!("{place}: {before} →"),
                ChangeKind::Changed { before, after } => format!("{place}: {before} → {after}"),
            }
        };
        changes(before, after).into_iter().map(tell).collect()
    }

    #[test]
    fn the_smallest_parts_that_differ_are_told() {
        let before = json!({ "a": 1, "b": { "c": [1, { "d": 2 }, 3], "e": null }, "f": [1] });
        assert_eq!(told(&before, &before), [""; 0]);
        let after = json!({ "b": { "c": [1, { "d": 4 }], "e": {} }, "f": { "0": 1 }, "g": [] });
        let expected = [
            ".a: 1 →",
            ".b.c[1].d: 2 → 4",
            ".b.c[2]: 3 →",
            ".b.e: null → {}",
            ".f: [1] → {\"0\":1}",
            ".g: → []",
        ];
        assert_eq!(told(&before, &after), expected);
        assert_eq!(told(&json!(1), &json!("1")), [": 1 → \"1\""]);
        assert_eq!(told(&json!([]), &json!([null])), ["[0]: → null"]);
    }

    #[test]
    fn an_array_of_which_more_than_a_hundred_items_differ_is_one_change() {
        let numbers = |from: u32, count: u32| json!({ "n": Vec::from_iter(from..from + count) });
        assert_eq!(told(&numbers(0, 500), &numbers(0, 600)).len(), 100);
        assert_eq!(told(&numbers(0, 600), &numbers(0, 500)).len(), 100);
        let whole = told(&numbers(0, 101), &numbers(1, 101));
        assert_eq!(whole.len(), 1);
        assert!(whole[0].starts_with(".n: [0,1,") && whole[0].ends_with(",101]"), "{whole:?}");
        // Parts of items don't count: these are 100 items.
        let pairs = |number: u32| json!(vec![vec![number; 2]; 100]);
        assert_eq!(told(&pairs(0), &pairs(1)).len(), 200);
    }
}
