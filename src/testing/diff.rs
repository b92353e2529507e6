//! How two values, or two texts, differ.

use serde_json::Value;

use crate::diff::{ChangeKind, changes_within};

/// The first place at which two values differ, and what is there.
pub(super) fn difference(
    left: &Value,
    right: &Value,
    place: &str,
) -> Option<(String, String, String)> {
    let change = changes_within(left, right, usize::MAX).into_iter().next()?;
    let place = change.path.iter().fold(place.to_owned(), |place, step| format!("{place}{step}"));
    let nothing = || "nothing".to_owned();
    let (left, right) = match change.kind {
        ChangeKind::Added { after } => (nothing(), after.to_string()),
        ChangeKind::Removed { before } => (before.to_string(), nothing()),
        ChangeKind::Changed { before, after } => (before.to_string(), after.to_string()),
    };
    Some((place, left, right))
}

/// JSON over several lines.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// The lines of both texts in order: those of `expected` alone with `-`, those of `found` alone
/// with `+`.
pub(super) fn line_diff(expected: &str, found: &str) -> Vec<String> {
    let left: Vec<&str> = expected.lines().collect();
    let right: Vec<&str> = found.lines().collect();
    // How many lines both have in common from here on.
    let mut common = vec![vec![0_usize; right.len() + 1]; left.len() + 1];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            common[i][j] = if left[i] == right[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && left[i] == right[j] {
            lines.push(format!("  {}", left[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == right.len() || (i < left.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", left[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", right[j]));
            j += 1;
        }
    }
    lines
}
