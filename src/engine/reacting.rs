//! Reactions: who runs them, in what order, and what becomes of events that can't be handled.
//!
//! How far a reaction has come is one document, and it is its lease too: whoever runs it says so
//! there, and writes it again now and then. An engine that sees it unchanged for the time of a lease
//! takes it over. Each write names the revision it rests on, so that one who has been taken for dead
//! can't overwrite what his successor has done.
//!
//! Events of one stream are handled one after the other: a stream is a *lane*. One whose event could
//! not be handled is left behind with that event, and the reaction goes on; later it is read again
//! from there, up to where the reaction has come, and is a lane like the others.

use std::sync::Arc;

use crate::error::{ReadError, StorageError};
use crate::event::TaskId;
use crate::payload::strings_of;
use crate::protocol::{
    AskReaction, Document, DocumentExpectation, DocumentName, DocumentScan, DocumentValue,
    DocumentsRead, LogPage, Notice, Output, ParkedLane, React, Reacted, Reacting, ReactionAction,
    ReactionIndex, ReactionRead, ReadDocuments, ReadLog, SaveDocuments, Saved, StorageAnswer,
    StorageBody,
};
use crate::reaction::{Progress, REACTIONS, REQUESTS, ReactionDefinition, StartAt};
use crate::stream::{Position, StreamId};
use crate::time::Timestamp;

use super::requests::Purpose;
use super::{Engine, KeptPage, Store, Task, Timer, mutant};

/// Place of a reaction among those of the engine.
pub(super) type ReactorIndex = usize;

/// Most lanes that are left behind. With more, something else is wrong than with these events, and
/// the reaction waits.
const MAX_LANES: usize = 1_000;

/// Most characters of a reason that are kept.
const MAX_ERROR: usize = 200;

/// Runs a reaction, or waits for its turn.
pub(super) struct Reactor {
    /// Answers to a life before are not for it.
    serial: u64,
    step: Step,
    /// Whether what is known of its progress is of this engine's own making.
    is_ours: bool,
    paused: bool,
    /// Revision of the document, as far as it is known.
    revision: u64,
    /// When it was first seen with that revision.
    since: Timestamp,
    /// Until when this engine may believe that it runs the reaction.
    valid_until: Timestamp,
    /// All up to here has been handled, but for the lanes.
    position: Position,
    lanes: Vec<Lane>,
    page: Option<Page>,
    /// Position of the store's last event, as far as it is known.
    head: Position,
    grown: bool,
    is_reading: bool,
    running: Vec<Running>,
    catching_up: Option<CatchUp>,
    /// Wishes that have been fulfilled, to be removed with the next save.
    fulfilled: Vec<DocumentName>,
    /// Documents that are to be saved with the progress, once that says that their events are handled.
    unsaved: Vec<Unsaved>,
    /// When the request that is saving was sent.
    saving_since: Option<Timestamp>,
    /// Number of the last save. Answers to those before it don't tell.
    last_save: u32,
    /// Whether there is something to save.
    dirty: bool,
    /// When it is to be saved in any case.
    beat_at: Timestamp,
    failures: u32,
    /// What is the matter, if something is.
    trouble: Option<Arc<str>>,
    wake_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The document is to be read, and is being read.
    Start,
    Starting,
    /// It belongs to another engine.
    Standby,
    /// It is being taken over.
    Claiming,
    /// This engine runs it.
    Active,
    /// It is given back.
    Releasing,
    /// It waits until then, to start again.
    Pausing(Timestamp),
    /// Its document can't be read.
    Stopped,
}

/// What a reaction's request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Progress,
    /// The save with this number.
    Save(u32),
    Log,
    Lane,
    Requests,
}

/// A lane that was left behind. Its position is that of the event that is to be handled next, or before
/// it.
struct Lane {
    parked: ParkedLane,
    /// The last of its events that the reaction has passed.
    last: Position,
}

/// A page of the log that is being handled.
struct Page {
    kept: KeptPage,
    events: Vec<Event>,
    next: Position,
}

struct Event {
    lane: Arc<str>,
    position: Position,
    state: EventState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventState {
    Waits,
    Runs,
    /// Handled, or its lane has been left behind.
    Passed,
}

/// An event that the host is handling.
struct Running {
    run: u64,
    lane: Arc<str>,
    position: Position,
}

/// What came of an event, until the store has it. What comes next in its lane may rest on it.
struct Unsaved {
    lane: Arc<str>,
    position: Position,
    documents: Vec<Document>,
    is_on_its_way: bool,
}

/// A lane that is read again from where it was left behind.
struct CatchUp {
    lane: Arc<str>,
    page: Option<Page>,
}

impl Lane {
    /// Whether all that the reaction has passed of it has been handled.
    fn is_handled(&self) -> bool {
        self.parked.position > self.last
    }
}

/// A question for a reaction under way.
pub(super) struct ReactionTask {
    pub(super) serial: u64,
    reaction: ReactorIndex,
    /// A wish that is left for the engine that runs the reaction, before it is asked.
    wish: Option<Document>,
}

fn name_of(reaction: &ReactionDefinition) -> DocumentName {
    DocumentName { collection: REACTIONS.into(), key: Arc::clone(&reaction.name) }
}

/// The lane of a stream: a JSON array of type and id.
fn lane_of(stream: &StreamId) -> Arc<str> {
    let StreamId { aggregate_type, aggregate_id } = stream;
    let pair = [&**aggregate_type, &**aggregate_id];
    serde_json::to_string(&pair).expect("strings can be written as JSON").into()
}

impl Reactor {
    fn new(serial: u64) -> Self {
        let never = Timestamp::from_millis(0);
        Self {
            serial,
            step: Step::Start,
            is_ours: false,
            paused: false,
            revision: 0,
            since: never,
            valid_until: never,
            position: Position(0),
            lanes: Vec::new(),
            page: None,
            head: Position(0),
            grown: false,
            is_reading: false,
            running: Vec::new(),
            catching_up: None,
            fulfilled: Vec::new(),
            unsaved: Vec::new(),
            saving_since: None,
            last_save: 0,
            dirty: false,
            beat_at: never,
            failures: 0,
            trouble: None,
            wake_at: None,
        }
    }

    /// What runs is no longer this engine's matter.
    fn let_go(&mut self) {
        self.is_ours = false;
        self.page = None;
        self.catching_up = None;
        self.is_reading = false;
        self.running.clear();
        self.fulfilled.clear();
        self.unsaved.clear();
        self.saving_since = None;
        self.dirty = false;
    }

    fn lane(&mut self, name: &str) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| *lane.parked.lane == *name)
    }

    fn is_running(&self, lane: &str) -> bool {
        self.running.iter().any(|running| *running.lane == *lane)
    }

    /// The documents of events that the progress says are handled.
    fn take_covered(&mut self) -> Vec<Document> {
        let mut documents = Vec::new();
        for Unsaved { lane, position, documents: made, is_on_its_way } in &mut self.unsaved {
            let left = self.lanes.iter().find(|known| known.parked.lane == *lane);
            let is_handled = match left {
                Some(left) => *position < left.parked.position,
                None => *position <= self.position,
            };
            if is_handled {
                *is_on_its_way = true;
                documents.extend_from_slice(made);
            }
        }
        documents
    }

    /// All that has been passed, from the page's first event on.
    fn pass(&mut self) {
        let Some(page) = &self.page else {
            return;
        };
        let next = page.events.iter().find(|event| event.state != EventState::Passed);
        let position = match next {
            Some(event) => Position(event.position.0 - 1),
            None => page.next,
        };
        if next.is_none() {
            self.page = None;
        }
        if position > self.position {
            self.position = position;
            self.dirty = true;
        }
    }

    /// Lanes that are where the reaction is are lanes like the others. Before, the progress must go on to
    /// say what of them has been handled. Returns whether there were some.
    fn rejoin(&mut self) -> bool {
        let (count, position) = (self.lanes.len(), self.position);
        self.lanes.retain(|lane| !lane.is_handled() || position < lane.last);
        let rejoin = self.lanes.len() < count;
        self.dirty |= rejoin;
        rejoin
    }

    /// The next event of the page that can be handled. Those of lanes that were left behind are passed.
    fn next_event(&mut self) -> Option<usize> {
        let lanes = &mut self.lanes;
        let (running, unsaved) = (&self.running, &self.unsaved);
        let events = &mut self.page.as_mut()?.events;
        let mut blocked: Vec<Arc<str>> = Vec::new();
        for (index, event) in events.iter_mut().enumerate() {
            if event.state != EventState::Waits {
                continue;
            }
            if let Some(lane) = lanes.iter_mut().find(|lane| lane.parked.lane == event.lane) {
                lane.last = lane.last.max(event.position);
                event.state = EventState::Passed;
                continue;
            }
            if blocked.contains(&event.lane)
                || running.iter().any(|running| running.lane == event.lane)
                || unsaved.iter().any(|unsaved| unsaved.lane == event.lane)
            {
                blocked.push(Arc::clone(&event.lane));
                continue;
            }
            return Some(index);
        }
        None
    }
}

impl Engine {
    pub(super) fn start_reactors(&mut self) {
        for _ in 0..self.config.reactions.len() {
            let serial = self.next_serial();
            self.reactors.push(Reactor::new(serial));
        }
        if !self.reactors.is_empty() {
            self.identity = format!("{:016x}{:016x}", self.ids.next_u64(), self.ids.next_u64());
        }
    }

    pub(super) fn wake_reactors(&mut self) {
        self.ready_reactors.extend(0..self.reactors.len());
    }

    /// The store was replaced: what is known of the reactions is of another life.
    pub(super) fn restart_reactors(&mut self) {
        for index in 0..self.reactors.len() {
            let serial = self.next_serial();
            let paused = self.reactors[index].paused;
            self.reactors[index] = Reactor { paused, ..Reactor::new(serial) };
            self.lost_reaction(index);
        }
    }

    fn notice_reaction(&mut self, index: ReactorIndex) {
        let index = u32::try_from(index).expect("fewer than 2^32");
        self.notice(Notice::ReactionMoved(ReactionIndex(index)));
    }

    fn lost_reaction(&mut self, index: ReactorIndex) {
        let index = u32::try_from(index).expect("fewer than 2^32");
        self.notice(Notice::ReactionLost(ReactionIndex(index)));
    }

    fn ask_for_reaction(&mut self, index: ReactorIndex, asked: Asked, body: StorageBody) {
        let serial = self.reactors[index].serial;
        self.send(body, Purpose::Reactor(index, serial, asked));
    }

    #[inline(never)]
    pub(super) fn step_reactor(&mut self, index: ReactorIndex) {
        if let Step::Pausing(until) = self.reactors[index].step
            && until <= self.now
        {
            self.reactors[index].step = Step::Start;
        }
        match self.reactors[index].step {
            Step::Start if !self.reactors[index].paused => self.read_progress(index),
            Step::Standby if self.reactors[index].since.plus(self.config.lease) <= self.now => {
                self.read_progress(index);
            }
            Step::Active => self.pump(index),
            _ => {}
        }
        self.arm(index);
    }

    /// Sets the timer to the next moment at which there is something to do.
    fn arm(&mut self, index: ReactorIndex) {
        let half = self.config.lease / 2;
        let now = self.now;
        let reactor = &self.reactors[index];
        let at = match reactor.step {
            Step::Pausing(until) => Some(until),
            Step::Standby => Some(now.plus(half.max(1))),
            Step::Active => {
                let waits_for_lane = reactor.catching_up.is_none() && !reactor.paused;
                let left = reactor.lanes.iter().filter(|lane| !lane.is_handled());
                let retries = left.filter_map(|lane| lane.parked.retry_at);
                let retry = retries.min().filter(|_| waits_for_lane);
                Some(retry.map_or(reactor.beat_at, |retry| retry.min(reactor.beat_at)))
            }
            _ => None,
        };
        let Some(at) = at.map(|at| at.max(now.plus(1))) else {
            return;
        };
        if reactor.wake_at.is_none_or(|set| set <= now || at < set) {
            if let Some(set) = reactor.wake_at {
                self.timers.remove(&(set, Timer::Reactor(index)));
            }
            self.reactors[index].wake_at = Some(at);
            self.timers.insert((at, Timer::Reactor(index)));
        }
    }

    pub(super) fn reactor_timer(&mut self, index: ReactorIndex, at: Timestamp) {
        let now = self.now;
        let Some(reactor) = self.reactors.get_mut(index) else {
            return;
        };
        if reactor.wake_at == Some(at) {
            reactor.wake_at = None;
        }
        // Whoever waits looks again, whatever has become of the other.
        if reactor.step == Step::Standby {
            reactor.step = Step::Start;
        }
        if reactor.step == Step::Active && reactor.beat_at <= now {
            reactor.grown = true;
        }
        self.ready_reactors.push_back(index);
    }

    /// Somebody has appended.
    pub(super) fn advance_reactors(&mut self, position: Option<Position>) {
        for (index, reactor) in self.reactors.iter_mut().enumerate() {
            match position {
                Some(position) => reactor.head = reactor.head.max(position),
                None => reactor.grown = true,
            }
            if reactor.step == Step::Active {
                self.ready_reactors.push_back(index);
            }
        }
    }

    // -----------------------------------------------------------------------------------------
    // Whose it is

    fn read_progress(&mut self, index: ReactorIndex) {
        let names = vec![name_of(&self.config.reactions[index])];
        self.reactors[index].step = Step::Starting;
        let read = ReadDocuments { names, scans: Vec::new() };
        let body = StorageBody::ReadDocuments(Arc::new(read));
        self.ask_for_reaction(index, Asked::Progress, body);
    }

    #[inline(never)]
    pub(super) fn reactor_answered(
        &mut self,
        index: ReactorIndex,
        serial: u64,
        asked: Asked,
        answer: StorageAnswer,
    ) {
        if self.reactors.get(index).is_none_or(|reactor| reactor.serial != serial) {
            return self.discard(answer);
        }
        self.reactors[index].trouble = None;
        match answer {
            StorageAnswer::Documents(found) if asked == Asked::Requests => {
                self.requests_read(index, found);
            }
            StorageAnswer::Documents(found) => self.progress_read(index, found),
            StorageAnswer::Saved(saved) if asked == Asked::Save(self.reactors[index].last_save) => {
                self.progress_saved(index, saved);
            }
            StorageAnswer::Saved(_) => {}
            StorageAnswer::Log(log) => self.log_for_reaction(index, asked, log),
            _ => unreachable!("StorageBody::fits was asked"),
        }
        self.ready_reactors.push_back(index);
    }

    #[inline(never)]
    fn progress_read(&mut self, index: ReactorIndex, found: DocumentsRead) {
        let (lease, now) = (self.config.lease, self.now);
        let start_at = self.config.reactions[index].start_at;
        let document = found.documents.into_iter().next().flatten();
        let reactor = &mut self.reactors[index];
        let revision = document.as_ref().map_or(0, |document| document.revision);
        let progress = match document {
            None => {
                let position = match start_at {
                    StartAt::Now => found.head,
                    StartAt::Beginning => Position(0),
                };
                Some(Progress { position, ..Progress::default() })
            }
            Some(document) => Progress::from_json(&document.value),
        };
        let Some(progress) = progress else {
            reactor.step = Step::Stopped;
            reactor.trouble = Some("its progress can't be read".into());
            return self.notice_reaction(index);
        };
        let was_ours = progress.owner == self.identity;
        if was_ours && reactor.is_ours {
            // A save of ours had no answer, or one that did not tell. What is here is not older.
            reactor.revision = revision;
            reactor.step = Step::Active;
            reactor.unsaved.iter_mut().for_each(|unsaved| unsaved.is_on_its_way = false);
            reactor.saving_since = None;
            reactor.dirty = true;
            return;
        }
        let is_new = revision != reactor.revision || reactor.revision == 0;
        if is_new {
            reactor.since = now;
        }
        reactor.revision = revision;
        let is_free = progress.owner.is_empty() || was_ours || reactor.since.plus(lease) <= now;
        if !is_free {
            reactor.step = Step::Standby;
            if !reactor.running.is_empty() || reactor.page.is_some() {
                reactor.let_go();
                self.lost_reaction(index);
            }
            return;
        }
        reactor.let_go();
        reactor.position = progress.position;
        let lane = |parked: ParkedLane| {
            // What of it has been handled may be beyond the reaction.
            let last = progress.position.max(Position(parked.position.0.saturating_sub(1)));
            Lane { parked, last }
        };
        reactor.lanes = progress.lanes.into_iter().map(lane).collect();
        reactor.head = reactor.head.max(found.head);
        reactor.step = Step::Claiming;
        self.save_progress(index);
    }

    /// Saves how far the reaction has come, and that it is this engine's.
    #[inline(never)]
    fn save_progress(&mut self, index: ReactorIndex) {
        let forgets_lanes = mutant!(self, ProgressPastParked);
        let is_unfenced = mutant!(self, LeaseWithoutFencing);
        let (now, lease) = (self.now, self.config.lease);
        let name = name_of(&self.config.reactions[index]);
        let reactor = &mut self.reactors[index];
        let owner = match reactor.step {
            Step::Releasing => String::new(),
            _ => self.identity.clone(),
        };
        let mut lanes: Vec<_> = reactor.lanes.iter().map(|lane| lane.parked.clone()).collect();
        if forgets_lanes {
            lanes.clear();
        }
        let progress = Progress { owner, position: reactor.position, lanes };
        let mut documents = reactor.take_covered();
        for name in &reactor.fulfilled {
            let (value, postings) = (DocumentValue::Removed, Vec::new());
            documents.push(Document { name: name.clone(), revision: 0, value, postings });
        }
        documents.push(Document {
            name: name.clone(),
            revision: reactor.revision + 1,
            value: DocumentValue::Text(progress.to_json().into()),
            postings: Vec::new(),
        });
        let mut expected = vec![DocumentExpectation { name, revision: reactor.revision }];
        if is_unfenced && reactor.step != Step::Claiming {
            expected.clear();
        }
        reactor.saving_since = Some(now);
        reactor.last_save = reactor.last_save.wrapping_add(1);
        let asked = Asked::Save(reactor.last_save);
        reactor.dirty = false;
        reactor.beat_at = now.plus(lease / 3);
        let save = SaveDocuments { expected, clear: Vec::new(), documents };
        self.ask_for_reaction(index, asked, StorageBody::SaveDocuments(Arc::new(save)));
    }

    #[inline(never)]
    fn progress_saved(&mut self, index: ReactorIndex, saved: Saved) {
        let lease = self.config.lease;
        let reactor = &mut self.reactors[index];
        let Some(since) = reactor.saving_since.take() else {
            return;
        };
        if let Saved::Conflict { .. } = saved {
            // Another has it; or an attempt of ours was done, though its answer was lost.
            reactor.step = Step::Start;
            return;
        }
        reactor.revision += 1;
        reactor.fulfilled.clear();
        reactor.unsaved.retain(|unsaved| !unsaved.is_on_its_way);
        reactor.failures = 0;
        match reactor.step {
            Step::Releasing => {
                reactor.let_go();
                reactor.step = Step::Start;
                self.notice_reaction(index);
            }
            Step::Claiming => {
                reactor.step = Step::Active;
                reactor.is_ours = true;
                reactor.grown = true;
                reactor.valid_until = since.plus(lease);
                self.notice_reaction(index);
            }
            _ => reactor.valid_until = since.plus(lease),
        }
    }

    /// The store could not answer. It is tried again later; what runs goes on.
    #[inline(never)]
    pub(super) fn reactor_failed(
        &mut self,
        index: ReactorIndex,
        serial: u64,
        asked: Asked,
        error: &StorageError,
    ) {
        let Some(reactor) = self.reactors.get_mut(index).filter(|found| found.serial == serial)
        else {
            return;
        };
        reactor.failures += 1;
        reactor.trouble = Some(error.to_string().into());
        let pause = (250 << reactor.failures.min(6)).min(self.config.lease / 2);
        match asked {
            Asked::Log => reactor.is_reading = false,
            Asked::Lane => reactor.catching_up = None,
            _ => {}
        }
        // Whether the save was done is seen in the document.
        let at = self.now.plus(pause.max(1));
        self.reactors[index].step = Step::Pausing(at);
        self.notice_reaction(index);
        self.ready_reactors.push_back(index);
    }

    // -----------------------------------------------------------------------------------------
    // What is handled

    /// Gives the host what can be handled, reads what comes next, and saves how far it has come.
    #[inline(never)]
    fn pump(&mut self, index: ReactorIndex) {
        let concurrency = self.config.reactions[index].concurrency as usize;
        let (now, limit) = (self.now, self.config.page_limit);
        while self.reactors[index].running.len() < concurrency && self.may_start(index) {
            let Some(at) = self.reactors[index].next_event() else {
                break;
            };
            let page = self.reactors[index].page.as_mut().expect("an event of it was found");
            page.events[at].state = EventState::Runs;
            let lane = Arc::clone(&page.events[at].lane);
            let (position, event) = (page.events[at].position, reacting(&page.kept, at));
            self.react(index, lane, position, event, 1);
        }
        self.catch_up(index);
        let reactor = &mut self.reactors[index];
        reactor.pass();
        if reactor.rejoin() {
            self.notice_reaction(index);
        }
        let reactor = &mut self.reactors[index];
        let is_idle = reactor.running.is_empty() && reactor.catching_up.is_none();
        let reads = reactor.page.is_none()
            && !reactor.is_reading
            && !reactor.paused
            && reactor.lanes.len() < MAX_LANES
            && (reactor.position < reactor.head || reactor.grown);
        if reads {
            reactor.is_reading = true;
            reactor.grown = false;
            let after = reactor.position;
            let filter = self.config.reactions[index].filter.clone();
            let read = ReadLog { after, filter, limit, held: false };
            self.ask_for_reaction(index, Asked::Log, StorageBody::ReadLog(Arc::new(read)));
        }
        let reactor = &mut self.reactors[index];
        if reactor.saving_since.is_some() {
            return;
        }
        if reactor.paused && is_idle && !reactor.is_reading {
            reactor.step = Step::Releasing;
            self.save_progress(index);
        } else if reactor.beat_at <= now {
            self.save_progress(index);
            self.read_requests(index);
        } else if reactor.dirty {
            self.save_progress(index);
        }
    }

    /// Whether this engine may believe that the reaction is its own, and is to go on.
    fn may_start(&self, index: ReactorIndex) -> bool {
        let reactor = &self.reactors[index];
        reactor.step == Step::Active && !reactor.paused && self.now < reactor.valid_until
    }

    fn react(
        &mut self,
        index: ReactorIndex,
        lane: Arc<str>,
        position: Position,
        event: Reacting,
        attempt: u32,
    ) {
        let run = self.next_serial();
        self.reactors[index].running.push(Running { run, lane, position });
        let reaction = ReactionIndex(u32::try_from(index).expect("fewer than 2^32"));
        self.outputs.push_back(Output::React(React { run, reaction, attempt, event }));
    }

    /// Goes on with the lane that is being caught up, or begins with one whose time has come.
    #[inline(never)]
    fn catch_up(&mut self, index: ReactorIndex) {
        if !self.may_start(index) {
            return;
        }
        let (now, limit) = (self.now, self.config.page_limit);
        let reactor = &mut self.reactors[index];
        if reactor.catching_up.is_none() {
            let is_due = |lane: &&Lane| {
                !lane.is_handled() && lane.parked.retry_at.is_some_and(|at| at <= now)
            };
            let Some(due) = reactor.lanes.iter().find(is_due) else {
                return;
            };
            let lane = Arc::clone(&due.parked.lane);
            let after = Position(due.parked.position.0.saturating_sub(1));
            reactor.catching_up = Some(CatchUp { lane, page: None });
            return self.read_lane(index, after, limit);
        }
        let Some(CatchUp { lane, page: Some(page) }) = &mut reactor.catching_up else {
            return;
        };
        if reactor.running.iter().any(|running| running.lane == *lane)
            || reactor.unsaved.iter().any(|unsaved| unsaved.lane == *lane)
        {
            return;
        }
        let lane = Arc::clone(lane);
        let found = reactor.lanes.iter_mut().find(|known| known.parked.lane == lane);
        let Some(known) = found else {
            reactor.catching_up = None;
            return;
        };
        let next = page.events.iter().position(|event| {
            event.lane == lane
                && event.position >= known.parked.position
                && event.position <= known.last
        });
        if let Some(at) = next {
            let (position, event) = (page.events[at].position, reacting(&page.kept, at));
            known.parked.position = position;
            let attempt = known.parked.attempts + 1;
            return self.react(index, lane, position, event, attempt);
        }
        if page.next < known.last {
            let after = page.next;
            reactor.catching_up = Some(CatchUp { lane, page: None });
            return self.read_lane(index, after, limit);
        }
        known.parked.position = Position(known.last.0 + 1);
        reactor.catching_up = None;
        reactor.dirty = true;
        self.ready_reactors.push_back(index);
    }

    fn read_lane(&mut self, index: ReactorIndex, after: Position, limit: u32) {
        let filter = self.config.reactions[index].filter.clone();
        let read = ReadLog { after, filter, limit, held: false };
        self.ask_for_reaction(index, Asked::Lane, StorageBody::ReadLog(Arc::new(read)));
    }

    #[inline(never)]
    fn log_for_reaction(&mut self, index: ReactorIndex, asked: Asked, log: LogPage) {
        let LogPage { page, places, next, head } = log;
        let kept = self.keep(page);
        let reactor = &mut self.reactors[index];
        reactor.head = reactor.head.max(head);
        let event = |stream: &StreamId, position| Event {
            lane: lane_of(stream),
            position,
            state: EventState::Waits,
        };
        let events = match &kept {
            KeptPage::Events(events) => {
                events.iter().map(|found| event(&found.stream, found.position)).collect()
            }
            KeptPage::Rows(rows) => {
                let rows = rows.1.iter().zip(&places);
                rows.map(|(row, place)| event(&row.stream, place.position)).collect()
            }
            KeptPage::Messages(..) | KeptPage::Upcast(_) | KeptPage::Held(_) => Vec::new(),
        };
        let page = Page { kept, events, next };
        if asked == Asked::Lane {
            if let Some(catching_up) = &mut reactor.catching_up {
                catching_up.page = Some(page);
            }
        } else if reactor.is_reading {
            reactor.is_reading = false;
            reactor.page = Some(page);
        }
    }

    #[inline(never)]
    pub(super) fn host_reacted(&mut self, answer: Reacted) {
        let Reacted { run, result } = answer;
        let is_it = |running: &Running| running.run == run;
        let found = self.reactors.iter().position(|reactor| reactor.running.iter().any(is_it));
        // The reaction may have been taken over meanwhile.
        let Some(index) = found else {
            return;
        };
        let retries = self.config.reactions[index].retries;
        let now = self.now;
        let reactor = &mut self.reactors[index];
        let at = reactor.running.iter().position(is_it).expect("found above");
        let Running { lane, position, .. } = reactor.running.remove(at);
        if let Some(page) = &mut reactor.page {
            let events = page.events.iter_mut().filter(|event| event.position == position);
            events.for_each(|event| event.state = EventState::Passed);
        }
        reactor.dirty = true;
        let mut parks = false;
        match (result, reactor.lane(&lane)) {
            (Ok(documents), known) => {
                if let Some(known) = known {
                    known.parked.position = Position(position.0 + 1);
                    known.parked.attempts = 0;
                }
                if !documents.is_empty() {
                    let is_on_its_way = false;
                    reactor.unsaved.push(Unsaved { lane, position, documents, is_on_its_way });
                }
            }
            (Err(error), known) => {
                let error = shortened(error);
                let attempts = known.as_ref().map_or(0, |known| known.parked.attempts) + 1;
                let retry_at = retries.pause(attempts).map(|pause| now.plus(pause));
                parks = retry_at.is_none();
                let parked = ParkedLane { lane, position, attempts, retry_at, error };
                if let Some(known) = known {
                    known.parked = parked;
                    reactor.catching_up = None;
                } else {
                    reactor.lanes.push(Lane { parked, last: position });
                }
            }
        }
        if parks {
            self.notice_reaction(index);
        }
        self.ready_reactors.push_back(index);
    }

    // -----------------------------------------------------------------------------------------
    // Questions and wishes

    #[inline(never)]
    pub(super) fn ask_reaction(&mut self, ask: AskReaction) {
        let AskReaction { task: id, reaction, action } = ask;
        let found = self.config.reactions.iter().position(|known| known.name == reaction);
        let Some(index) = found else {
            let result = Err(ReadError::UnknownReaction(reaction));
            return self.notice(Notice::ReactionRead { task: id, result });
        };
        let reactor = &mut self.reactors[index];
        let mut wish = None;
        match action {
            None => {}
            Some(ReactionAction::Pause) => reactor.paused = true,
            Some(ReactionAction::Resume) => {
                reactor.paused = false;
                if reactor.step == Step::Stopped {
                    reactor.step = Step::Start;
                }
            }
            Some(ReactionAction::Retry(lane)) => wish = Some((lane, "retry")),
            Some(ReactionAction::Drop(lane)) => wish = Some((lane, "drop")),
        }
        let runs_here = self.reactors[index].step == Step::Active;
        if let Some((lane, what)) = &wish
            && runs_here
        {
            self.fulfil(index, lane, what);
        }
        let wish = wish.filter(|_| !runs_here).map(|(lane, what)| Document {
            name: self.request_of(index, &lane),
            revision: 1,
            value: DocumentValue::Text(format!("\"{what}\"").into()),
            postings: Vec::new(),
        });
        let serial = self.next_serial();
        let task = ReactionTask { serial, reaction: index, wish };
        self.tasks.insert(id, Task::Reaction(Box::new(task)));
        self.ready.push_back(id);
        self.ready_reactors.push_back(index);
    }

    fn request_of(&self, index: ReactorIndex, lane: &str) -> DocumentName {
        let key: [&str; 2] = [&self.config.reactions[index].name, lane];
        let key = serde_json::to_string(&key).expect("strings can be written as JSON").into();
        DocumentName { collection: REQUESTS.into(), key }
    }

    fn fulfil(&mut self, index: ReactorIndex, lane: &str, what: &str) {
        let now = self.now;
        let reactor = &mut self.reactors[index];
        if reactor.is_running(lane) {
            return;
        }
        let Some(known) = reactor.lane(lane) else {
            return;
        };
        known.parked.attempts = 0;
        known.parked.retry_at = Some(now);
        if what == "drop" {
            known.parked.position.0 += 1;
        }
        reactor.dirty = true;
        self.ready_reactors.push_back(index);
    }

    fn read_requests(&mut self, index: ReactorIndex) {
        let name = &self.config.reactions[index].name;
        let name = serde_json::to_string(&**name).expect("a string can be written as JSON");
        let prefix = format!("[{name},");
        let scan = DocumentScan {
            collection: REQUESTS.into(),
            index: None,
            to: crate::documents::end_of_prefix(&prefix),
            from: Some(prefix.into()),
            after: None,
            descending: false,
            limit: Some(100),
        };
        let read = ReadDocuments { names: Vec::new(), scans: vec![scan] };
        let body = StorageBody::ReadDocuments(Arc::new(read));
        self.ask_for_reaction(index, Asked::Requests, body);
    }

    fn requests_read(&mut self, index: ReactorIndex, found: DocumentsRead) {
        if self.reactors[index].step != Step::Active {
            return;
        }
        for (place, request) in found.scans.into_iter().flat_map(|scan| scan.documents) {
            if let Some([_, lane]) = strings_of(&place.key).as_deref() {
                self.fulfil(index, lane, request.value.trim_matches('"'));
            }
            let reactor = &mut self.reactors[index];
            let name = DocumentName { collection: REQUESTS.into(), key: place.key };
            if !reactor.fulfilled.contains(&name) {
                reactor.fulfilled.push(name);
            }
            reactor.dirty = true;
        }
    }

    #[inline(never)]
    pub(super) fn step_reaction_read(&mut self, id: TaskId) {
        if !matches!(self.store, Store::Open(_)) {
            return;
        }
        let Some(Task::Reaction(task)) = self.tasks.get_mut(&id) else {
            return;
        };
        let purpose = Purpose::ReactionRead(id, task.serial);
        let body = match task.wish.take() {
            Some(document) => {
                let documents = vec![document];
                let save = SaveDocuments { documents, ..SaveDocuments::default() };
                StorageBody::SaveDocuments(Arc::new(save))
            }
            None => {
                let names = vec![name_of(&self.config.reactions[task.reaction])];
                let read = ReadDocuments { names, scans: Vec::new() };
                StorageBody::ReadDocuments(Arc::new(read))
            }
        };
        self.send(body, purpose);
    }

    /// The wish has been left: now the reaction is asked.
    pub(super) fn wish_saved(&mut self, id: TaskId) {
        self.ready.push_back(id);
    }

    #[inline(never)]
    pub(super) fn reaction_read(&mut self, id: TaskId, serial: u64, found: DocumentsRead) {
        let Some(Task::Reaction(task)) =
            self.tasks.get(&id).filter(|found| found.serial() == serial)
        else {
            return;
        };
        let reactor = &self.reactors[task.reaction];
        let document = found.documents.into_iter().next().flatten();
        let progress = document.and_then(|document| Progress::from_json(&document.value));
        let progress = progress.unwrap_or_default();
        let read = ReactionRead {
            position: progress.position,
            head: found.head,
            runs_here: reactor.step == Step::Active,
            runs: !progress.owner.is_empty(),
            paused: reactor.paused,
            lanes: progress.lanes,
            trouble: reactor.trouble.clone(),
        };
        self.finish_reaction_read(id, Ok(read));
    }

    pub(super) fn finish_reaction_read(
        &mut self,
        id: TaskId,
        result: Result<ReactionRead, ReadError>,
    ) {
        self.tasks.remove(&id);
        self.notice(Notice::ReactionRead { task: id, result });
    }

    /// Whether this engine runs its reactions.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn runs_reactions(&self) -> bool {
        self.reactors.iter().all(|reactor| reactor.step == Step::Active)
    }

    /// Whether this engine has nothing to do for reactions: it has handled all, or another does.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn reactions_are_at(&self, head: Position) -> bool {
        self.reactors.iter().all(|reactor| match reactor.step {
            Step::Standby => true,
            Step::Active => {
                let parked = |lane: &Lane| lane.parked.retry_at.is_none();
                reactor.position >= head
                    && reactor.lanes.iter().all(parked)
                    && reactor.running.is_empty()
                    && reactor.saving_since.is_none()
                    && !reactor.dirty
            }
            _ => false,
        })
    }
}

/// What is kept of a reason. All lanes that are left behind are in one document.
fn shortened(error: Arc<str>) -> Arc<str> {
    match error.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}…", &error[..end]).into(),
        None => error,
    }
}

/// The event as the host is given it.
fn reacting(page: &KeptPage, at: usize) -> Reacting {
    match page {
        KeptPage::Events(events) => Reacting::Event(Box::new(events[at].clone())),
        KeptPage::Rows(rows) => {
            let index = u32::try_from(at).expect("pages are short");
            Reacting::Held { page: rows.0.page, index }
        }
        KeptPage::Messages(..) | KeptPage::Upcast(_) | KeptPage::Held(_) => {
            unreachable!("the log is asked for events whose streams are told")
        }
    }
}
