//! What must be true of a reaction's attempts, whatever operators wish: none comes before its pause is over,
//! none when there have been all, but for a wish; and nothing is passed but what somebody wished to be dropped
//! when it had failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::payload::strings_of;
use crate::protocol::{DocumentName, ParkedLane, React, Reacting, ReactionAction};
use crate::reaction::{Progress, REACTIONS, REQUESTS, RetryPolicy};
use crate::storage::MemoryStore;
use crate::stream::Position;
use crate::time::Timestamp;

/// What is tried: the lane and the position of an event; of a timer its lane's name, and when it was due.
pub(super) type Place = (String, u64);

/// A host, and which of its lives.
pub(super) type Life = (usize, u32);

#[derive(Debug)]
struct Attempt {
    life: Life,
    /// How often the reaction had changed hands.
    reign: u64,
    place: Place,
    number: u32,
}

#[derive(Debug)]
pub(super) struct Attempts {
    reaction: &'static str,
    policy: RetryPolicy,
    /// The progress that the store has, and its text.
    kept: Progress,
    text: Arc<str>,
    reign: u64,
    running: BTreeMap<(Life, u64), Attempt>,
    /// When each attempt failed first.
    failed: BTreeMap<(Place, u32), Timestamp>,
    /// When engines were told of failures.
    told: Vec<(Attempt, Timestamp)>,
    /// Lanes that somebody has wished to be tried again: a wish may be on its way for long.
    retries: BTreeSet<String>,
    /// How many more times something of a lane may be dropped.
    drops: BTreeMap<String, u32>,
    dropped: BTreeSet<Place>,
    /// Wishes in the store that something is dropped, when the progress was last saved: their keys, and the
    /// lanes.
    left: BTreeSet<(String, String, String)>,
}

impl Attempts {
    pub(super) fn new(reaction: &'static str, policy: RetryPolicy) -> Self {
        Self {
            reaction,
            policy,
            kept: Progress::default(),
            text: "".into(),
            reign: 0,
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
            told: Vec::new(),
            retries: BTreeSet::new(),
            drops: BTreeMap::new(),
            dropped: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// Lanes that were left behind, as the store has them.
    pub(super) fn lanes(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.kept.lanes.iter().map(|left| &left.lane)
    }

    /// An operator gives this wish to an engine. Whether it is fulfilled is another matter.
    pub(super) fn wish(&mut self, action: &ReactionAction) {
        match action {
            ReactionAction::Retry(lane) => drop(self.retries.insert(lane.to_string())),
            ReactionAction::Drop(lane) => *self.drops.entry(lane.to_string()).or_default() += 1,
            ReactionAction::Pause | ReactionAction::Resume => {}
        }
    }

    /// Whom the store says that the reaction is run by.
    pub(super) fn owner(&self) -> &str {
        &self.kept.owner
    }

    /// An attempt begins. Who was taken for gone, and has not heard of it, does not know what its successor
    /// has tried, parked and dropped.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        life: Life,
        react: &React,
        is_deposed: bool,
    ) -> Result<(), String> {
        let number = react.attempt;
        let place = match &react.event {
            Reacting::Event(event) => (react.lane.to_string(), event.position.0),
            Reacting::Timer(timer) => (timer.key().to_string(), timer.due.millis().unsigned_abs()),
            Reacting::Held { .. } => return Err("what is held was to be looked up".to_owned()),
        };
        let told = |what: &str| Err(format!("attempt {number} of {place:?} at {now} {what}"));
        if number > self.policy.max_attempts {
            return told("is one too many");
        }
        if self.dropped.contains(&place) && !is_deposed {
            return told("comes after it was dropped");
        }
        let is_it = |place: &Place, left: &ParkedLane| {
            *left.lane == *place.0 && left.position.0 == place.1 && left.retry_at.is_none()
        };
        let is_parked = self.kept.lanes.iter().any(|left| is_it(&place, left));
        if is_parked && !self.retries.contains(&place.0) && !is_deposed {
            return told("comes after it was parked, and nobody has wished it");
        }
        if number > 1 {
            let pause = self.policy.pause(number - 1).ok_or("there are more attempts")?;
            let is_over = |at: &Timestamp| at.plus(pause) <= now;
            let before = self.failed.get(&(place.clone(), number - 1));
            let is_before = |(attempt, _): &&(Attempt, Timestamp)| {
                (attempt.life, attempt.reign) == (life, self.reign)
                    && (&attempt.place, attempt.number) == (&place, number - 1)
            };
            let last = self.told.iter().rev().find(is_before).map(|(_, at)| at);
            if !before.is_some_and(is_over) || !last.is_none_or(is_over) {
                return told(&format!("comes {pause} ms too early: {before:?}, {last:?}"));
            }
        }
        let attempt = Attempt { life, reign: self.reign, place, number };
        self.running.insert((life, react.run), attempt);
        Ok(())
    }

    /// An engine is told what has become of an attempt.
    pub(super) fn end(&mut self, now: Timestamp, life: Life, run: u64, failed: bool) {
        let Some(attempt) = self.running.remove(&(life, run)).filter(|_| failed) else {
            return;
        };
        let Attempt { place, number, .. } = &attempt;
        self.failed.entry((place.clone(), *number)).or_insert(now);
        if attempt.reign == self.reign {
            self.told.push((attempt, now));
        }
    }

    /// The engine has lost the reaction: what it was told is nothing to it any more.
    pub(super) fn lost(&mut self, life: Life) {
        self.running.retain(|(of, _), _| *of != life);
        self.told.retain(|(attempt, _)| attempt.life != life);
    }

    /// Whether something of the lane may have been dropped that the store does not know of yet.
    pub(super) fn may_drop(&self, lane: &str) -> bool {
        self.drops.get(lane).is_some_and(|count| *count > 0)
    }

    pub(super) fn is_dropped(&self, place: &Place) -> bool {
        self.dropped.contains(place)
    }

    /// What the store has of the reaction has been passed, and nothing has come of it: it was dropped, or the
    /// promise is broken.
    pub(super) fn passed(&mut self, lane: &str, at: u64) -> Result<(), String> {
        let place = (lane.to_owned(), at);
        if self.dropped.contains(&place) {
            return Ok(());
        }
        let count = self.drops.entry(place.0.clone()).or_default();
        if *count == 0 {
            return Err(format!(
                "{} has passed {place:?}, and nothing has come of it",
                self.reaction
            ));
        }
        *count -= 1;
        if !self.failed.keys().any(|(failed, _)| *failed == place) {
            return Err(format!("{place:?} was dropped, and has not failed"));
        }
        self.dropped.insert(place);
        Ok(())
    }

    /// The wishes in the store that something is dropped: their keys, which lanes they are about, and where
    /// these are.
    fn wishes_in(&self, store: &MemoryStore) -> BTreeSet<(String, String, String)> {
        if self.drops.is_empty() {
            return BTreeSet::new();
        }
        let mut documents = store.documents().clone();
        let wishes = documents.of(REQUESTS).filter(|(_, wish)| *wish.value == *"\"drop\"");
        let read = wishes.filter_map(|(key, _)| Some((key.to_owned(), strings_of(key)?)));
        let own = read.filter(|(_, texts)| *texts[0] == *self.reaction);
        own.map(|(key, texts)| (key, texts[1].clone(), texts[3].clone())).collect()
    }

    /// Looks at what the store has, after a request to it.
    pub(super) fn look(&mut self, store: &MemoryStore) -> Result<(), String> {
        let documents = store.documents();
        let name = DocumentName { collection: REACTIONS.into(), key: self.reaction.into() };
        let mut before = None;
        if let Some(found) = documents.get(&name)
            && found.value != self.text
        {
            let progress =
                Progress::from_json(&found.value).ok_or("a progress that can't be read")?;
            self.reign += u64::from(progress.owner != self.kept.owner);
            self.text = Arc::clone(&found.value);
            before = Some(std::mem::replace(&mut self.kept, progress));
        }
        let position = |progress: &Progress, lane: &str| {
            let left = progress.lanes.iter().find(|left| *left.lane == *lane)?;
            // Of one without an error nothing has failed, and nothing is there to be dropped.
            Some(left.position).filter(|at| *at > Position(0) && !left.error.is_empty())
        };
        if let Some(before) = before {
            let found = self.wishes_in(store);
            for (_, lane, wished) in self.left.difference(&found) {
                let at = position(&before, lane).filter(|at| at.to_string() == *wished);
                if at.is_some() && position(&self.kept, lane) == at {
                    return Err(format!("{lane} is at {at:?} as before, and was to be dropped"));
                }
            }
            self.left = found;
        }
        Ok(())
    }
}
