//! Commits and facts in, verdicts out: the one place that says what may be appended.
//!
//! An adapter takes the store's write lock, reads the [`Facts`] a batch needs, asks [`judge`] and
//! writes what it accepted, all in one transaction. Nothing else decides about an append.

use crate::engine::map::{Map, map};
use crate::event::{CommitSummary, FirstOutcome};
use crate::ids::CommandId;
use crate::protocol::{Append, AppendCondition, Commit, CommitExpectation, Conflict, Verdict};
use crate::stream::{Position, Revision, StreamId};
use crate::time::Timestamp;

/// What the store knows, under its write lock, before the first commit of an append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Position of the store's last event; 0 if it has none.
    pub head: Position,
    /// When that event was recorded.
    pub last_recorded_at: Timestamp,
    /// What concerns each commit, in their order.
    pub commits: Vec<CommitFacts>,
}

/// What the store knows about one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitFacts {
    /// Revision of the commit's stream.
    pub revision: Revision,
    /// First outcome of the commit's command id.
    pub first: Option<FirstOutcome>,
    /// Position of an event that matches the commit's condition after its position.
    pub matched: Option<Position>,
}

/// Judges the commits of an append in order, each seeing those accepted before it.
///
/// A command id that is known, in the store or from an earlier commit of the append, comes before
/// everything else: a repeated command is a duplicate even where it would now conflict.
///
/// # Panics
/// If `facts` has not one entry per commit.
#[must_use]
pub fn judge(append: &Append, facts: &Facts) -> Vec<Verdict> {
    judge_with(append, facts, true)
}

/// `see_neighbours: false` is the mutant that judges duplicates by the store alone.
pub(crate) fn judge_with(append: &Append, facts: &Facts, see_neighbours: bool) -> Vec<Verdict> {
    assert_eq!(append.commits.len(), facts.commits.len(), "one entry of facts per commit");
    let mut bench = Bench {
        append,
        head: facts.head,
        recorded_at: append.now.max(facts.last_recorded_at),
        revisions: map(0),
        outcomes: map(0),
        verdicts: Vec::with_capacity(append.commits.len()),
        see_neighbours,
    };
    for (commit, facts) in append.commits.iter().zip(&facts.commits) {
        let verdict = bench.verdict(commit, facts);
        bench.verdicts.push(verdict);
    }
    bench.verdicts
}

struct Bench<'a> {
    append: &'a Append,
    head: Position,
    recorded_at: Timestamp,
    /// Revision of each stream a commit was accepted for, and the index of the last such commit.
    revisions: Map<&'a StreamId, (Revision, u32)>,
    /// Indexes of the commands accepted.
    outcomes: Map<CommandId, u32>,
    verdicts: Vec<Verdict>,
    see_neighbours: bool,
}

impl<'a> Bench<'a> {
    fn verdict(&mut self, commit: &'a Commit, facts: &CommitFacts) -> Verdict {
        if let Some(first) = facts.first.clone().or_else(|| self.neighbours_outcome(commit)) {
            return if first.hash.may_equal(commit.hash) {
                Verdict::Duplicate(first)
            } else {
                Verdict::CommandIdReused(first)
            };
        }
        let last = self.revisions.get(&commit.stream).copied();
        let revision = last.map_or(facts.revision, |(revision, _)| revision);
        if let Err(conflict) = self.check_stream(commit, revision, last.map(|(_, index)| index)) {
            return Verdict::Conflict(conflict);
        }
        if let Some(condition) = &commit.condition
            && let Err(conflict) = self.check_condition(condition, facts)
        {
            return Verdict::Conflict(conflict);
        }
        let count =
            u32::try_from(commit.events.len()).expect("a commit has fewer than 2^32 events");
        let summary = CommitSummary {
            position: Position(self.head.0 + 1),
            revision: Revision(revision.0 + u64::from(count)),
            count,
            recorded_at: self.recorded_at,
        };
        self.head = summary.last_position();
        let index = u32::try_from(self.verdicts.len()).expect("fewer than 2^32 commits");
        // After the last nobody looks.
        if self.verdicts.len() + 1 < self.append.commits.len() {
            self.revisions.insert(&commit.stream, (summary.revision, index));
            self.outcomes.insert(commit.command_id, index);
        }
        Verdict::Committed(summary)
    }

    /// What an earlier commit of this append with the same command id has come to.
    fn neighbours_outcome(&self, commit: &Commit) -> Option<FirstOutcome> {
        let index = *self.outcomes.get(&commit.command_id).filter(|_| self.see_neighbours)?;
        let Verdict::Committed(summary) = &self.verdicts[index as usize] else {
            unreachable!("only commands that were accepted are noted")
        };
        let Commit { hash, stream, .. } = &self.append.commits[index as usize];
        Some(FirstOutcome { hash: *hash, stream: stream.clone(), commit: summary.clone() })
    }

    fn check_stream(
        &self,
        commit: &Commit,
        actual: Revision,
        last: Option<u32>,
    ) -> Result<(), Conflict> {
        match commit.expected {
            CommitExpectation::Exact(expected) if expected == actual => Ok(()),
            CommitExpectation::Exact(_) => Err(Conflict::Revision { actual }),
            CommitExpectation::After(index) => {
                self.check_neighbour(index)?;
                if last == Some(index) { Ok(()) } else { Err(Conflict::Revision { actual }) }
            }
        }
    }

    fn check_condition(
        &self,
        condition: &AppendCondition,
        facts: &CommitFacts,
    ) -> Result<(), Conflict> {
        if let Some(position) = facts.matched {
            return Err(Conflict::Matched { position });
        }
        condition.neighbours.iter().try_for_each(|&index| self.check_neighbour(index))?;
        for (index, verdict) in self.verdicts.iter().enumerate() {
            let Verdict::Committed(summary) = verdict else {
                continue;
            };
            if condition.neighbours.iter().any(|&named| named as usize == index) {
                continue;
            }
            let events = &self.append.commits[index].events;
            let matching = events.iter().position(|event| {
                condition.query.matches(&event.event.event_type, &event.event.tags)
            });
            if let Some(offset) = matching {
                return Err(Conflict::Matched {
                    position: Position(summary.position.0 + offset as u64),
                });
            }
        }
        Ok(())
    }

    /// A neighbour counts only if it was committed by this append with these very events.
    fn check_neighbour(&self, index: u32) -> Result<(), Conflict> {
        match self.verdicts.get(index as usize) {
            Some(Verdict::Committed(_)) => Ok(()),
            _ => Err(Conflict::Neighbour { index }),
        }
    }
}
