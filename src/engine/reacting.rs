//! Reactions: who runs them, in what order, and what becomes of events that can't be handled.
//!
//! How far a reaction has come is one document, and it is its lease too: whoever runs it says so
//! there, and writes it again now and then. An engine that sees it unchanged for the time of a lease
//! takes it over. Each write names the revision it rests on, so that one who has been taken for dead
//! can't overwrite what his successor has done. A host may know at once that an engine has gone. That is
//! a hint: it ends the waiting, and the same write that names its revision does the rest.
//!
//! Events of one stream are handled one after the other: a stream is a *lane*. One whose event could
//! not be handled is left behind with that event, and the reaction goes on; later it is read again
//! from there, up to where the reaction has come, and is a lane like the others.
//!
//! The lanes of a process manager are correlation keys. Each has a state, which is read before its first
//! event and kept at hand, and timers, which are looked at by the time they are due. A timer takes its
//! turn among the events of its lane; one that could not be handled is a lane of its own, and waits for
//! its next attempt without the others. An event whose key can't be told stops the process manager before
//! it: whoever else it might be that has to wait for it is not known.

use std::sync::Arc;

use crate::error::{ReadError, StorageError};
use crate::event::TaskId;
use crate::ids::CommandId;
use crate::manager::{DUE, Origin, states_of, timers_of};
use crate::payload::{json_of, strings_of};
use crate::protocol::{
    AskReaction, Correlate, Correlated, CorrelationKey, Document, DocumentExpectation,
    DocumentName, DocumentScan, DocumentValue, DocumentsRead, DueTimer, LogPage, Notice, Output,
    ParkedLane, React, Reacted, Reacting, ReactionAction, ReactionIndex, ReactionRead,
    ReadDocuments, ReadLog, SaveDocuments, Saved, ScanPlace, StorageAnswer, StorageBody,
    StoredDocument, Wishes,
};
use crate::reaction::{
    IMPORTS, Lanes, Progress, REACTIONS, REQUESTS, ReactionDefinition, RetryPolicy, StartAt,
    imported, lane_of,
};
use crate::stream::Position;
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
    /// Another one each time it is let go: answers to what was asked before are not for it.
    serial: u64,
    step: Step,
    /// Whether what is known of its progress is of this engine's own making.
    is_ours: bool,
    paused: bool,
    /// Revision of the document, as far as it is known.
    revision: u64,
    /// When it was first seen with that revision.
    since: Timestamp,
    /// Who runs it, as the document said when it was last found to be another's.
    owner: Arc<str>,
    /// Whether the host has said since that the owner is gone.
    is_orphaned: bool,
    /// Whether it was taken from this engine before its lease was over. Whoever did that was told wrong, and
    /// so may this one be: it believes no hint any more, so that two don't take from each other for ever.
    was_robbed: bool,
    /// Revision of the mark that imports leave. The first claim rests on it.
    mark: u64,
    /// Until when this engine may believe that it runs the reaction.
    valid_until: Timestamp,
    /// All up to here has been handled, but for the lanes.
    position: Position,
    lanes: Vec<Lane>,
    page: Option<Page>,
    /// Pages whose events the host is asked for the keys of, and what the questions are called.
    correlating: Vec<(u32, Asked, KeptPage, Position)>,
    /// Why no event behind those that are known can be handled: what the key of the next is can't be told.
    stuck: Option<Arc<str>>,
    /// Position of the store's last event, as far as it is known.
    head: Position,
    grown: bool,
    is_reading: bool,
    running: Vec<Running>,
    catching_up: Option<CatchUp>,
    /// Wishes that have been fulfilled, to be removed with the next save; whether that is on its way.
    fulfilled: Vec<(DocumentName, bool)>,
    /// Whether wishes are being read. Until those that were found are removed, none are: they would be
    /// found again.
    asks_requests: bool,
    /// Documents that are to be saved with the progress, once that says that their events are handled.
    unsaved: Vec<Unsaved>,
    /// Of a process manager: states of lanes, as they are or will be in the store.
    states: States,
    /// Lanes whose states are to be read.
    unknown: Vec<Arc<str>>,
    /// Those whose states are being read, and the number of that question.
    asked_states: Option<(u32, Vec<Arc<str>>)>,
    timers: Timers,
    last_question: u32,
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
    /// The question with this number.
    States(u32),
    Timers(u32),
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
    /// In the page that is kept.
    index: u32,
    state: EventState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventState {
    Waits,
    Runs,
    /// Handled, or its lane has been left behind.
    Passed,
}

impl Page {
    /// The event as the host is given it.
    fn reacting(&self, at: usize) -> Reacting {
        let index = self.events[at].index;
        match &self.kept {
            KeptPage::Events(events) => Reacting::Event(Box::new(events[index as usize].clone())),
            KeptPage::Rows(rows) => Reacting::Held { page: rows.0.page, index },
            KeptPage::Held(lease) => Reacting::Held { page: lease.page, index },
            KeptPage::Messages(..) | KeptPage::Upcast(_) => {
                unreachable!("the log is asked for events whose streams are told, or for none")
            }
        }
    }
}

/// An event or a timer that the host is handling.
struct Running {
    run: u64,
    lane: Arc<str>,
    /// 0 for a timer.
    position: Position,
    timer: Option<DueTimer>,
    /// What is saved when a process manager's commands are done.
    documents: Vec<Document>,
}

/// What is known of a process manager's timers.
#[derive(Default)]
struct Timers {
    /// Whether some may be due that are not known.
    wanted: bool,
    /// Where the last look ended, if there may be more behind it.
    after: Option<ScanPlace>,
    /// The number of the question that is under way, when it was asked, and the timers that are to be
    /// tried again.
    asked: Option<(u32, Timestamp, Vec<Arc<str>>)>,
    /// Timers that were written since the question was sent: its answer may have them as they were.
    written: Vec<Arc<str>>,
    /// Those whose time has come, and how often they have been tried.
    due: Vec<(DueTimer, u32)>,
    /// The store's last event when these were found: what happened before their time comes before them.
    head: Position,
    /// When the next one is due, as far as is known.
    next: Option<Timestamp>,
}

/// States by lane, in order: a map of its own kind would be kilobytes of code.
#[derive(Default)]
struct States(Vec<(Arc<str>, Option<Arc<str>>)>);

impl States {
    fn find(&self, lane: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(lane))
    }

    /// What is known of the lane's state; within: the state, if it has one.
    fn get(&self, lane: &str) -> Option<&Option<Arc<str>>> {
        Some(&self.0[self.find(lane).ok()?].1)
    }

    fn set(&mut self, lane: &Arc<str>, state: Option<Arc<str>>) {
        match self.find(lane) {
            Ok(place) => self.0[place].1 = state,
            Err(place) => self.0.insert(place, (Arc::clone(lane), state)),
        }
    }
}

/// What is to be handled next.
enum Next {
    Timer(DueTimer, u32),
    /// The event at this index of the page.
    Event(usize),
}

/// Most states that are kept at hand from one page to the next.
const MAX_STATES: usize = 1_000;

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
    /// Whether it is a timer, and no lane of events.
    fn is_timer(&self) -> bool {
        self.parked.position == Position(0)
    }

    /// Whether all that the reaction has passed of it has been handled.
    fn is_handled(&self) -> bool {
        self.parked.position > self.last
    }
}

/// A question for a reaction under way.
pub(super) struct ReactionTask {
    pub(super) serial: u64,
    reaction: ReactorIndex,
    /// What is wished of a lane, which is left for the engine that runs the reaction before it is asked.
    wish: Option<(Arc<str>, &'static str)>,
}

fn name_of(reaction: &ReactionDefinition) -> DocumentName {
    DocumentName { collection: REACTIONS.into(), key: Arc::clone(&reaction.name) }
}

/// Where imports say how far they have come.
fn mark_of_imports() -> DocumentName {
    DocumentName { collection: IMPORTS.into(), key: "log".into() }
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
            owner: "".into(),
            is_orphaned: false,
            was_robbed: false,
            mark: 0,
            valid_until: never,
            position: Position(0),
            lanes: Vec::new(),
            page: None,
            correlating: Vec::new(),
            stuck: None,
            head: Position(0),
            grown: false,
            is_reading: false,
            running: Vec::new(),
            catching_up: None,
            fulfilled: Vec::new(),
            asks_requests: false,
            unsaved: Vec::new(),
            states: States::default(),
            unknown: Vec::new(),
            asked_states: None,
            timers: Timers::default(),
            last_question: 0,
            saving_since: None,
            last_save: 0,
            dirty: false,
            beat_at: never,
            failures: 0,
            trouble: None,
            wake_at: None,
        }
    }

    /// What runs is no longer this engine's matter, and neither is what comes of what it has asked.
    fn let_go(&mut self, serial: u64) {
        self.serial = serial;
        self.is_ours = false;
        self.page = None;
        self.correlating.clear();
        self.stuck = None;
        self.catching_up = None;
        self.is_reading = false;
        self.running.clear();
        self.fulfilled.clear();
        self.asks_requests = false;
        self.unsaved.clear();
        self.states.0.clear();
        self.unknown.clear();
        self.asked_states = None;
        self.timers = Timers::default();
        self.saving_since = None;
        self.dirty = false;
    }

    fn lane(&mut self, name: &str) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| *lane.parked.lane == *name)
    }

    /// Whether a lane of events was left behind.
    fn is_left(&self, name: &str) -> bool {
        self.lanes.iter().any(|lane| !lane.is_timer() && *lane.parked.lane == *name)
    }

    fn is_running(&self, lane: &str) -> bool {
        let timer_is = |timer: &DueTimer| *timer.key() == *lane;
        let is_it = |running: &Running| {
            *running.lane == *lane || running.timer.as_ref().is_some_and(timer_is)
        };
        self.running.iter().any(is_it)
    }

    /// Whether something of the lane is on its way, so that nothing more of it may begin.
    fn is_busy(&self, lane: &str) -> bool {
        self.running.iter().any(|running| *running.lane == *lane)
            || self.unsaved.iter().any(|unsaved| *unsaved.lane == *lane)
    }

    /// The next question's number.
    fn question(&mut self) -> u32 {
        self.last_question = self.last_question.wrapping_add(1);
        self.last_question
    }

    /// Whether the state of the lane is known. If not, it will be asked.
    fn knows(&mut self, lane: &Arc<str>) -> bool {
        let known = self.states.get(lane).is_some();
        let is_asked = |(_, lanes): &(u32, Vec<Arc<str>>)| lanes.contains(lane);
        if !known
            && !self.unknown.contains(lane)
            && !self.asked_states.as_ref().is_some_and(is_asked)
        {
            self.unknown.push(Arc::clone(lane));
        }
        known
    }

    /// Timers that could not be handled, and when they are to be tried again. Those of lanes that were
    /// left behind wait.
    fn timers_to_retry(&self) -> impl Iterator<Item = (&Arc<str>, Timestamp)> {
        let timers = self.lanes.iter().filter(|lane| lane.is_timer());
        timers.filter_map(|Lane { parked: ParkedLane { lane, retry_at, .. }, .. }| {
            let waits = self.is_running(lane) || self.is_left(&DueTimer::lane_of_key(lane)?);
            retry_at.filter(|_| !waits).map(|at| (lane, at))
        })
    }

    /// The next timer that can be handled. Those of lanes that were left behind are looked at again when
    /// these rejoin.
    fn next_timer(&mut self, overtakes: bool) -> Option<Next> {
        if self.position < self.timers.head && !overtakes {
            return None;
        }
        let mut due = std::mem::take(&mut self.timers.due);
        due.retain(|(timer, _)| !self.is_left(&timer.lane));
        let is_free =
            |(timer, _): &(DueTimer, u32)| !self.is_busy(&timer.lane) && self.knows(&timer.lane);
        let found = due.iter().position(is_free);
        let next = found.map(|at| due.remove(at));
        self.timers.due = due;
        next.map(|(timer, attempts)| Next::Timer(timer, attempts))
    }

    /// Documents of timers have been written: what is known of these is of before.
    fn timers_written(&mut self, collection: &str, documents: &[Document], keeps_due: bool) {
        for Document { name, .. } in documents {
            if *name.collection == *collection {
                self.timers.due.retain(|(timer, _)| keeps_due || timer.key() != name.key);
                self.lanes.retain(|lane| !lane.is_timer() || lane.parked.lane != name.key);
                self.timers.written.push(Arc::clone(&name.key));
            }
        }
    }

    /// Lets go of states that nothing is under way with, if there are many.
    fn forget_states(&mut self) {
        if self.states.0.len() > MAX_STATES {
            let mut states = std::mem::take(&mut self.states);
            states.0.retain(|(lane, _)| self.is_busy(lane));
            self.states = states;
        }
    }

    /// The documents of events that the progress says are handled.
    fn take_covered(&mut self, all: bool) -> Vec<Document> {
        let mut documents = Vec::new();
        for Unsaved { lane, position, documents: made, is_on_its_way } in &mut self.unsaved {
            let is_left = |known: &&Lane| !known.is_timer() && known.parked.lane == *lane;
            let left = self.lanes.iter().find(is_left);
            let is_handled = match left {
                Some(left) => *position < left.parked.position,
                None => *position <= self.position,
            };
            if is_handled || all {
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
            self.forget_states();
        }
        if position > self.position {
            self.position = position;
            self.dirty = true;
        }
    }

    /// Lanes that are where the reaction is are lanes like the others. Before, the progress must go on to
    /// say what of them has been handled. One that is being read again, since it was to be tried before it
    /// was dropped, must come to its end. Returns whether there were some.
    fn rejoin(&mut self) -> bool {
        let (count, position) = (self.lanes.len(), self.position);
        let read = self.catching_up.as_ref().map(|catching_up| &catching_up.lane);
        self.lanes.retain(|lane| {
            !lane.is_handled() || position < lane.last || Some(&lane.parked.lane) == read
        });
        let rejoin = self.lanes.len() < count;
        self.dirty |= rejoin;
        self.timers.wanted |= rejoin;
        rejoin
    }

    /// The next event of the page that can be handled. Those of lanes that were left behind are passed.
    fn next_event(&mut self, manages: bool) -> Option<Next> {
        let mut page = self.page.take()?;
        let mut blocked: Vec<Arc<str>> = Vec::new();
        let mut found = None;
        for (index, event) in page.events.iter_mut().enumerate() {
            if event.state != EventState::Waits {
                continue;
            }
            let is_it = |lane: &&mut Lane| !lane.is_timer() && lane.parked.lane == event.lane;
            if let Some(lane) = self.lanes.iter_mut().find(is_it) {
                lane.last = lane.last.max(event.position);
                event.state = EventState::Passed;
                continue;
            }
            if blocked.contains(&event.lane)
                || self.is_busy(&event.lane)
                || (manages && !self.knows(&event.lane))
            {
                blocked.push(Arc::clone(&event.lane));
                continue;
            }
            found = Some(Next::Event(index));
            break;
        }
        self.page = Some(page);
        found
    }
}

impl Engine {
    pub(super) fn start_reactors(&mut self) {
        for _ in 0..self.config.reactions.len() {
            let serial = self.next_serial();
            self.reactors.push(Reactor::new(serial));
        }
        self.identity = self.config.identity.to_string();
        if self.identity.is_empty() && !self.reactors.is_empty() {
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
                let is_lane = |lane: &&Lane| !lane.is_handled() && !lane.is_timer();
                let left = reactor.lanes.iter().filter(is_lane);
                let retries = left.filter_map(|lane| lane.parked.retry_at);
                let retry = retries.min().filter(|_| waits_for_lane);
                let timers = reactor.timers_to_retry().map(|(_, at)| at);
                let timer = timers.chain(reactor.timers.next).min().filter(|_| {
                    let Timers { asked, due, .. } = &reactor.timers;
                    asked.is_none() && due.is_empty() && self.may_start(index)
                });
                [retry, timer].into_iter().flatten().chain([reactor.beat_at]).min()
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

    /// The host says that another engine is gone. Whether what it ran is still its own, the document tells.
    #[inline(never)]
    pub(super) fn owner_gone(&mut self, owner: &str) {
        let believes = mutant!(self, HintsWithoutEnd);
        for (index, reactor) in self.reactors.iter_mut().enumerate() {
            let waits = reactor.step == Step::Standby && *reactor.owner == *owner;
            if waits && (believes || !reactor.was_robbed) {
                reactor.is_orphaned = true;
                reactor.step = Step::Start;
                self.ready_reactors.push_back(index);
            }
        }
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
        let names = vec![name_of(&self.config.reactions[index]), mark_of_imports()];
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
            StorageAnswer::Documents(found) => match asked {
                Asked::States(question) => self.states_read(index, question, found),
                Asked::Timers(question) => self.timers_read(index, question, found),
                _ => self.progress_read(index, found),
            },
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
        let (lease, now, serial) = (self.config.lease, self.now, self.next_serial());
        let start_at = self.config.reactions[index].start_at;
        let mut documents = found.documents.into_iter();
        let document = documents.next().flatten();
        let mark = documents.next().flatten();
        let reactor = &mut self.reactors[index];
        let revision = document.as_ref().map_or(0, |document| document.revision);
        let progress = match document {
            None => {
                let Some(imported) = imported(mark.as_ref().map(|mark| &*mark.value)) else {
                    // What comes is no news, and nobody knows yet where it ends.
                    reactor.step = Step::Pausing(now.plus(lease / 2));
                    reactor.trouble = Some("events are being imported".into());
                    return self.notice_reaction(index);
                };
                reactor.mark = mark.map_or(0, |mark| mark.revision);
                let position = match start_at {
                    StartAt::Now => found.head,
                    StartAt::Beginning => imported,
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
            reactor.fulfilled.iter_mut().for_each(|(_, is_on_its_way)| *is_on_its_way = false);
            reactor.saving_since = None;
            reactor.dirty = true;
            return;
        }
        let is_new = revision != reactor.revision || reactor.revision == 0;
        if is_new {
            reactor.since = now;
        }
        reactor.revision = revision;
        let is_orphaned =
            std::mem::take(&mut reactor.is_orphaned) && progress.owner == *reactor.owner;
        let is_over = reactor.since.plus(lease) <= now;
        if !(progress.owner.is_empty() || was_ours || is_orphaned || is_over) {
            reactor.owner = progress.owner.into();
            reactor.step = Step::Standby;
            if reactor.is_ours {
                reactor.was_robbed |= now < reactor.valid_until;
                reactor.let_go(serial);
                self.lost_reaction(index);
            }
            return self.tell_owner(index);
        }
        reactor.let_go(serial);
        reactor.position = progress.position;
        let lane = |parked: ParkedLane| {
            // What of it has been handled, or has failed, may be beyond the reaction.
            let is_passed = u64::from(parked.error.is_empty());
            let last = progress.position.max(Position(parked.position.0.saturating_sub(is_passed)));
            Lane { parked, last }
        };
        reactor.lanes = progress.lanes.into_iter().map(lane).collect();
        reactor.head = reactor.head.max(found.head);
        reactor.step = Step::Claiming;
        self.save_progress(index);
    }

    /// Tells the host whom this engine waits for, if it is one that knows engines by their names.
    fn tell_owner(&mut self, index: ReactorIndex) {
        if !self.config.identity.is_empty() {
            let owner = Arc::clone(&self.reactors[index].owner);
            self.notice(Notice::OwnerSeen(owner));
        }
    }

    /// Saves how far the reaction has come, and that it is this engine's.
    #[inline(never)]
    fn save_progress(&mut self, index: ReactorIndex) {
        let forgets_lanes = mutant!(self, ProgressPastParked);
        let is_unfenced = mutant!(self, LeaseWithoutFencing);
        let is_sure = mutant!(self, HintAsProof);
        let saves_early = mutant!(self, StateBeforeProgress);
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
        let mut documents = reactor.take_covered(saves_early);
        let written = documents.len();
        for (name, is_on_its_way) in &mut reactor.fulfilled {
            *is_on_its_way = true;
            // A timer that was dropped has been set again since.
            if documents[..written].iter().any(|document| document.name == *name) {
                continue;
            }
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
        if reactor.revision == 0 {
            let revision = reactor.mark;
            expected.push(DocumentExpectation { name: mark_of_imports(), revision });
        }
        let is_early = reactor.step == Step::Claiming && now < reactor.since.plus(lease);
        if (is_unfenced && reactor.step != Step::Claiming) || (is_sure && is_early) {
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
        let (lease, serial) = (self.config.lease, self.next_serial());
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
        reactor.fulfilled.retain(|(_, is_on_its_way)| !is_on_its_way);
        reactor.unsaved.retain(|unsaved| !unsaved.is_on_its_way);
        reactor.timers.wanted |= !reactor.timers.written.is_empty();
        reactor.failures = 0;
        match reactor.step {
            Step::Releasing => {
                let stuck = reactor.stuck.take();
                reactor.let_go(serial);
                // Another release may know more of the event.
                reactor.step = if stuck.is_some() { Step::Stopped } else { Step::Start };
                reactor.stuck = stuck;
                self.notice_reaction(index);
            }
            Step::Claiming => {
                reactor.step = Step::Active;
                reactor.is_ours = true;
                reactor.grown = true;
                reactor.timers.wanted = true;
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
            Asked::Requests => reactor.asks_requests = false,
            Asked::States(_) => reactor.asked_states = None,
            Asked::Timers(_) => {
                reactor.timers.asked = None;
                reactor.timers.wanted = true;
            }
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
        let manages = self.manages(index);
        let overtakes = mutant!(self, TimerOvertakes);
        while self.reactors[index].running.len() < concurrency && self.may_start(index) {
            let reactor = &mut self.reactors[index];
            let next = reactor.next_timer(overtakes).or_else(|| reactor.next_event(manages));
            let at = match next {
                None => break,
                Some(Next::Timer(timer, attempts)) => {
                    self.react_to_timer(index, timer, attempts + 1);
                    continue;
                }
                Some(Next::Event(at)) => at,
            };
            let page = self.reactors[index].page.as_mut().expect("an event of it was found");
            page.events[at].state = EventState::Runs;
            let lane = Arc::clone(&page.events[at].lane);
            let (position, event) = (page.events[at].position, page.reacting(at));
            self.react(index, lane, position, event, 1);
        }
        self.catch_up(index);
        if manages {
            self.ask_for_states(index);
            self.look_at_timers(index);
        }
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
            && reactor.stuck.is_none()
            && reactor.lanes.len() < MAX_LANES
            && (reactor.position < reactor.head || reactor.grown);
        if reads {
            reactor.is_reading = true;
            reactor.grown = false;
            let after = reactor.position;
            self.read_for_reaction(index, Asked::Log, after, limit);
        }
        let reactor = &mut self.reactors[index];
        if reactor.saving_since.is_some() {
            return;
        }
        let stops = reactor.paused || (reactor.stuck.is_some() && reactor.page.is_none());
        if stops && is_idle && !reactor.is_reading {
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
        let reactor = &mut self.reactors[index];
        let state = reactor.states.get(&lane).cloned().flatten();
        let timer = match &event {
            Reacting::Timer(timer) => Some((**timer).clone()),
            Reacting::Event(_) | Reacting::Held { .. } => None,
        };
        let documents = Vec::new();
        reactor.running.push(Running { run, lane: Arc::clone(&lane), position, timer, documents });
        let reaction = ReactionIndex(u32::try_from(index).expect("fewer than 2^32"));
        let react = React { run, reaction, attempt, event, lane, state };
        self.outputs.push_back(Output::React(react));
    }

    /// Goes on with the lane that is being caught up, or begins with one whose time has come.
    #[inline(never)]
    fn catch_up(&mut self, index: ReactorIndex) {
        if !self.may_start(index) {
            let reactor = &mut self.reactors[index];
            // Whoever runs the reaction next goes on with the lane.
            let is_done = |catching_up: &mut CatchUp| catching_up.page.is_some();
            if reactor.paused && reactor.running.is_empty() {
                reactor.catching_up.take_if(is_done);
            }
            return;
        }
        let (now, limit, manages) = (self.now, self.config.page_limit, self.manages(index));
        let reactor = &mut self.reactors[index];
        if reactor.catching_up.is_none() {
            if reactor.stuck.is_some() {
                return;
            }
            let is_due = |lane: &&Lane| {
                let is_due = lane.parked.retry_at.is_some_and(|at| at <= now);
                is_due && !lane.is_handled() && !lane.is_timer()
            };
            let Some(due) = reactor.lanes.iter().find(is_due) else {
                return;
            };
            let lane = Arc::clone(&due.parked.lane);
            let after = Position(due.parked.position.0.saturating_sub(1));
            reactor.catching_up = Some(CatchUp { lane, page: None });
            return self.read_for_reaction(index, Asked::Lane, after, limit);
        }
        let Some(CatchUp { lane, page: Some(_) }) = &reactor.catching_up else {
            return;
        };
        let lane = Arc::clone(lane);
        if reactor.is_busy(&lane) || (manages && !reactor.knows(&lane)) {
            return;
        }
        let Some(CatchUp { page: Some(page), .. }) = &mut reactor.catching_up else {
            return;
        };
        let is_it = |known: &&mut Lane| !known.is_timer() && known.parked.lane == lane;
        let Some(known) = reactor.lanes.iter_mut().find(is_it) else {
            reactor.catching_up = None;
            return;
        };
        let next = page.events.iter().position(|event| {
            event.lane == lane
                && event.position >= known.parked.position
                && event.position <= known.last
        });
        if let Some(at) = next {
            let (position, event) = (page.events[at].position, page.reacting(at));
            known.parked.position = position;
            let attempt = known.parked.attempts + 1;
            return self.react(index, lane, position, event, attempt);
        }
        if page.next < known.last {
            let after = page.next;
            reactor.catching_up = Some(CatchUp { lane, page: None });
            return self.read_for_reaction(index, Asked::Lane, after, limit);
        }
        known.parked.position = Position(known.last.0 + 1);
        reactor.catching_up = None;
        reactor.dirty = true;
        self.ready_reactors.push_back(index);
    }

    fn read_for_reaction(
        &mut self,
        index: ReactorIndex,
        asked: Asked,
        after: Position,
        limit: u32,
    ) {
        let ReactionDefinition { filter, lanes, .. } = &self.config.reactions[index];
        let (filter, held) = (filter.clone(), matches!(lanes, Lanes::Hosted));
        let read = ReadLog { after, descending: false, filter, limit, held };
        self.ask_for_reaction(index, asked, StorageBody::ReadLog(Arc::new(read)));
    }

    #[inline(never)]
    fn log_for_reaction(&mut self, index: ReactorIndex, asked: Asked, log: LogPage) {
        let LogPage { page, places, next, head } = log;
        let kept = self.keep(page);
        let reactor = &mut self.reactors[index];
        reactor.head = reactor.head.max(head);
        let mut keys = Vec::new();
        let mut failed = None;
        let mut tell = |index: usize, position, key| {
            let index = u32::try_from(index).expect("pages are short");
            keys.push(CorrelationKey { index, position, key });
        };
        match (&kept, self.config.reactions[index].lanes) {
            (KeptPage::Events(events), Lanes::Native(keys_of)) => {
                for (index, event) in events.iter().enumerate() {
                    match keys_of(&self.config.aggregates, event) {
                        Ok(keys) => {
                            keys.into_iter().for_each(|key| tell(index, event.position, key))
                        }
                        Err(reason) => {
                            failed = Some((event.position, reason));
                            break;
                        }
                    }
                }
            }
            (KeptPage::Events(events), _) => {
                for (index, event) in events.iter().enumerate() {
                    tell(index, event.position, lane_of(&event.stream));
                }
            }
            (KeptPage::Rows(rows), _) => {
                for (index, (row, place)) in rows.1.iter().zip(&places).enumerate() {
                    tell(index, place.position, lane_of(&row.stream));
                }
            }
            (KeptPage::Held(lease), _) if lease.count > 0 => {
                let (question, page) = (reactor.question(), lease.page);
                reactor.correlating.push((question, asked, kept, next));
                let reaction = ReactionIndex(u32::try_from(index).expect("fewer than 2^32"));
                let correlate = Correlate { question, reaction, page };
                return self.outputs.push_back(Output::Correlate(correlate));
            }
            (KeptPage::Messages(..) | KeptPage::Upcast(_) | KeptPage::Held(_), _) => {}
        }
        self.page_for_reaction(index, asked, kept, keys, next, failed);
    }

    pub(super) fn host_correlated(&mut self, answer: Correlated) {
        let Correlated { reaction, question, keys, failed } = answer;
        let index = reaction.0 as usize;
        let Some(reactor) = self.reactors.get_mut(index) else {
            return;
        };
        let found = reactor.correlating.iter().position(|(asked, ..)| *asked == question);
        // The reaction may have been taken over meanwhile.
        let Some((_, asked, kept, next)) = found.map(|at| reactor.correlating.swap_remove(at))
        else {
            return;
        };
        self.page_for_reaction(index, asked, kept, keys, next, failed);
        self.ready_reactors.push_back(index);
    }

    #[inline(never)]
    fn page_for_reaction(
        &mut self,
        index: ReactorIndex,
        asked: Asked,
        kept: KeptPage,
        keys: Vec<CorrelationKey>,
        mut next: Position,
        failed: Option<(Position, Arc<str>)>,
    ) {
        let reactor = &mut self.reactors[index];
        let is_lane = asked == Asked::Lane;
        // What comes late may be of a life before.
        if !is_lane && !std::mem::take(&mut reactor.is_reading) {
            return;
        }
        let passed = if is_lane { Position(0) } else { reactor.position };
        if let Some((position, reason)) = failed {
            reactor.stuck = Some(format!("the event at {position} has no key: {reason}").into());
            next = Position(position.0 - 1);
            if is_lane {
                reactor.catching_up = None;
                return;
            }
        }
        let event = |found: CorrelationKey| {
            let CorrelationKey { index, position, key: lane } = found;
            Event { lane, position, index, state: EventState::Waits }
        };
        let keys = keys.into_iter().filter(|found| found.position > passed);
        let page = Page { kept, events: keys.map(event).collect(), next };
        match &mut reactor.catching_up {
            Some(catching_up) if is_lane => catching_up.page = Some(page),
            _ if is_lane => {}
            _ => reactor.page = Some(page),
        }
    }

    /// Takes what a process manager wants of what it has been given by [`Output::React`], and gives the ids
    /// of its commands. They are the same for every attempt, so that giving them again repeats nothing. The
    /// host gives the commands, and tells what has come of it ([`Input::Reacted`](crate::Input)): only then
    /// is the rest saved. `None`: nothing is to be given, for another engine runs it by now.
    pub fn manage(&mut self, run: u64, wishes: Wishes) -> Option<Vec<CommandId>> {
        let forgets_names = mutant!(self, CommandsNotNamed);
        let Wishes { cause, correlation_id, state, timers, commands } = wishes;
        let is_it = |running: &&mut Running| running.run == run;
        let mut reactors = self.reactors.iter_mut().enumerate();
        let (index, running) = reactors
            .find_map(|(index, reactor)| Some((index, reactor.running.iter_mut().find(is_it)?)))?;
        let causation_id = Arc::clone(match &running.timer {
            Some(timer) => &timer.causation_id,
            None => &cause,
        });
        let manager = &self.config.reactions[index].name;
        let lane = &running.lane;
        let origin = Origin { manager, lane, cause, causation_id, correlation_id };
        running.documents = vec![origin.state(running.position.0.max(1), state)];
        for (name, due) in timers {
            running.documents.push(origin.timer(name, due));
        }
        let mut ids = Vec::new();
        for index in 0..commands {
            ids.push(match forgets_names {
                true => self.ids.command_id(self.now),
                false => origin.command(index),
            });
        }
        Some(ids)
    }

    fn retries_of(&self, index: ReactorIndex) -> RetryPolicy {
        let retries = self.config.reactions[index].retries;
        let tries_on = mutant!(self, TriedAfterParked);
        let max_attempts = if tries_on { u32::MAX } else { retries.max_attempts };
        let rushes = mutant!(self, RetryWithoutPause);
        let max_pause = if rushes { 0 } else { retries.max_pause };
        RetryPolicy { max_attempts, max_pause, ..retries }
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
        let ReactionDefinition { name, lanes, .. } = &self.config.reactions[index];
        let (name, retries) = (Arc::clone(name), self.retries_of(index));
        let manages = !matches!(lanes, Lanes::Streams);
        let keeps_due = mutant!(self, ForgottenTimer);
        let now = self.now;
        let reactor = &mut self.reactors[index];
        let at = reactor.running.iter().position(is_it).expect("found above");
        let Running { lane, position, timer, documents, .. } = reactor.running.remove(at);
        let result = if manages { result.map(|_| documents) } else { result };
        if let (true, Ok(documents)) = (manages, &result) {
            let (states, timers) = (states_of(&name), timers_of(&name));
            for Document { name, value, .. } in documents {
                if name.collection == states {
                    let text = match value {
                        DocumentValue::Text(text) => Some(Arc::clone(text)),
                        DocumentValue::State(_) | DocumentValue::Removed => None,
                    };
                    reactor.states.set(&name.key, text);
                }
            }
            reactor.timers_written(&timers, documents, keeps_due);
        }
        if let Some(timer) = timer {
            return self.timer_done(index, timer, result);
        }
        if let Some(page) = &mut reactor.page {
            let is_it = |event: &&mut Event| event.position == position && event.lane == lane;
            let events = page.events.iter_mut().filter(is_it);
            events.for_each(|event| event.state = EventState::Passed);
        }
        reactor.dirty = true;
        let mut parks = false;
        let is_it = |known: &&mut Lane| !known.is_timer() && known.parked.lane == lane;
        match (result, reactor.lanes.iter_mut().find(is_it)) {
            (Ok(documents), known) => {
                if let Some(known) = known {
                    known.parked.position = Position(position.0 + 1);
                    known.parked.attempts = 0;
                    known.parked.error = "".into();
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
    // Process managers

    fn manages(&self, index: ReactorIndex) -> bool {
        !matches!(self.config.reactions[index].lanes, Lanes::Streams)
    }

    /// Reads the states of lanes that are about to go on, all in one request.
    fn ask_for_states(&mut self, index: ReactorIndex) {
        let collection = states_of(&self.config.reactions[index].name);
        let reactor = &mut self.reactors[index];
        if reactor.asked_states.is_some() || reactor.unknown.is_empty() {
            return;
        }
        let lanes = std::mem::take(&mut reactor.unknown);
        let name = |lane: &Arc<str>| DocumentName {
            collection: Arc::clone(&collection),
            key: Arc::clone(lane),
        };
        let read = ReadDocuments { names: lanes.iter().map(name).collect(), scans: Vec::new() };
        let question = reactor.question();
        reactor.asked_states = Some((question, lanes));
        let body = StorageBody::ReadDocuments(Arc::new(read));
        self.ask_for_reaction(index, Asked::States(question), body);
    }

    fn states_read(&mut self, index: ReactorIndex, question: u32, found: DocumentsRead) {
        let reactor = &mut self.reactors[index];
        let Some((_, lanes)) = reactor.asked_states.take_if(|(asked, _)| *asked == question) else {
            return;
        };
        for (lane, document) in lanes.into_iter().zip(found.documents) {
            if reactor.states.get(&lane).is_none() {
                reactor.states.set(&lane, document.map(|document| document.value));
            }
        }
    }

    /// Looks for timers whose time has come, if there may be some.
    #[inline(never)]
    fn look_at_timers(&mut self, index: ReactorIndex) {
        let (now, limit) = (self.now, self.config.page_limit);
        let counts = mutant!(self, LookCountsFromStart);
        let collection = timers_of(&self.config.reactions[index].name);
        let may_start = self.may_start(index);
        let reactor = &mut self.reactors[index];
        let retries = reactor.timers_to_retry().filter(|(_, at)| *at <= now);
        let retries: Vec<Arc<str>> = retries.map(|(key, _)| Arc::clone(key)).collect();
        let is_time = reactor.timers.next.is_some_and(|at| at <= now);
        let wants = reactor.timers.wanted
            || reactor.timers.after.is_some()
            || is_time
            || !retries.is_empty();
        let is_free = reactor.timers.asked.is_none() && reactor.timers.due.is_empty();
        if !wants || !is_free || !may_start {
            return;
        }
        let name = |key: &Arc<str>| DocumentName {
            collection: Arc::clone(&collection),
            key: Arc::clone(key),
        };
        let names = retries.iter().map(name).collect();
        let after = reactor.timers.after.take();
        // A look that goes on does not see what was written before the place where it is.
        if after.is_none() || counts {
            reactor.timers.wanted = false;
        }
        let scan = DocumentScan {
            collection: Arc::clone(&collection),
            index: Some(DUE.into()),
            from: None,
            to: None,
            after,
            descending: false,
            limit: Some(limit),
        };
        let read = ReadDocuments { names, scans: vec![scan] };
        let question = reactor.question();
        reactor.timers.asked = Some((question, now, retries));
        reactor.timers.next = None;
        // What is not in the store yet is not seen.
        let unsaved = reactor.unsaved.iter().flat_map(|unsaved| &unsaved.documents);
        let timers = unsaved.filter(|document| document.name.collection == collection);
        reactor.timers.written = timers.map(|document| Arc::clone(&document.name.key)).collect();
        let body = StorageBody::ReadDocuments(Arc::new(read));
        self.ask_for_reaction(index, Asked::Timers(question), body);
    }

    #[inline(never)]
    fn timers_read(&mut self, index: ReactorIndex, question: u32, found: DocumentsRead) {
        let is_early = mutant!(self, TimerBeforeItsTime);
        let looks_late = mutant!(self, TimerDueWhileLooking).then_some(self.now);
        let reactor = &mut self.reactors[index];
        let asked = reactor.timers.asked.take_if(|(asked, ..)| *asked == question);
        let Some((_, asked_at, retries)) = asked else {
            return;
        };
        let asked_at = looks_late.unwrap_or(asked_at);
        // What comes due while the answer is on its way may come after events that the answer's head does
        // not have.
        reactor.timers.head = found.head;
        reactor.head = reactor.head.max(found.head);
        for (key, document) in retries.into_iter().zip(found.documents) {
            if reactor.timers.written.contains(&key) {
                continue;
            }
            let read = document.and_then(|document| DueTimer::from_json(&document.value));
            match (read, reactor.lane(&key)) {
                (Some(timer), Some(lane)) => {
                    let attempts = lane.parked.attempts;
                    reactor.timers.due.push((timer, attempts));
                }
                // Somebody has taken it away.
                _ => {
                    reactor.lanes.retain(|lane| !lane.is_timer() || lane.parked.lane != key);
                    reactor.dirty = true;
                }
            }
        }
        let Some(page) = found.scans.into_iter().next() else {
            return;
        };
        let mut last = None;
        for (place, StoredDocument { value, .. }) in page.documents {
            let Some(timer) = DueTimer::from_json(&value) else {
                if reactor.lane(&place.key).is_none() {
                    let (lane, error) = (Arc::clone(&place.key), "the timer can't be read".into());
                    let (position, attempts, retry_at) = (Position(0), 0, None);
                    let parked = ParkedLane { lane, position, attempts, retry_at, error };
                    reactor.lanes.push(Lane { parked, last: position });
                    reactor.dirty = true;
                }
                last = Some(place);
                continue;
            };
            if timer.due > asked_at && !is_early {
                reactor.timers.next = Some(timer.due);
                return;
            }
            if !reactor.timers.written.contains(&place.key)
                && !reactor.is_running(&place.key)
                && !reactor.is_left(&timer.lane)
            {
                reactor.timers.due.push((timer, 0));
            }
            last = Some(place);
        }
        reactor.timers.after = last.filter(|_| page.more);
    }

    fn react_to_timer(&mut self, index: ReactorIndex, timer: DueTimer, attempt: u32) {
        if mutant!(self, TimerGoneEarly) {
            let gone = timer.document(&self.config.reactions[index].name, false);
            let gone = Document { value: DocumentValue::Removed, ..gone };
            let (lane, position, documents) = ("".into(), Position(0), vec![gone]);
            let unsaved = Unsaved { lane, position, documents, is_on_its_way: false };
            self.reactors[index].unsaved.push(unsaved);
        }
        let lane = Arc::clone(&timer.lane);
        self.react(index, lane, Position(0), Reacting::Timer(Box::new(timer)), attempt);
    }

    /// A timer that has been handled is gone. One that could not be is left behind by itself.
    #[inline(never)]
    fn timer_done(
        &mut self,
        index: ReactorIndex,
        timer: DueTimer,
        result: Result<Vec<Document>, Arc<str>>,
    ) {
        let retries = self.retries_of(index);
        let name = &self.config.reactions[index].name;
        let (now, key) = (self.now, timer.key());
        let reactor = &mut self.reactors[index];
        reactor.dirty = true;
        reactor.timers.written.push(Arc::clone(&key));
        let known =
            reactor.lanes.iter().position(|lane| lane.is_timer() && lane.parked.lane == key);
        let known = known.map(|at| reactor.lanes.swap_remove(at));
        let mut parks = false;
        let documents = match result {
            Ok(mut documents) => {
                let gone = timer.document(name, false);
                if documents.iter().all(|document| document.name != gone.name) {
                    documents.push(Document { value: DocumentValue::Removed, ..gone });
                }
                documents
            }
            Err(error) => {
                let attempts = known.map_or(0, |known| known.parked.attempts) + 1;
                let retry_at = retries.pause(attempts).map(|pause| now.plus(pause));
                parks = retry_at.is_none();
                let (position, error) = (Position(0), shortened(error));
                let parked = ParkedLane { lane: key, position, attempts, retry_at, error };
                reactor.lanes.push(Lane { parked, last: position });
                vec![timer.document(name, false)]
            }
        };
        let (lane, position) = (timer.lane, Position(0));
        reactor.unsaved.push(Unsaved { lane, position, documents, is_on_its_way: false });
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
                    reactor.stuck = None;
                    reactor.step = Step::Start;
                }
            }
            Some(ReactionAction::Retry(lane)) => wish = Some((lane, "retry")),
            Some(ReactionAction::Drop(lane)) => wish = Some((lane, "drop")),
        }
        // What is being tried at the moment is left as a wish to whoever runs it, even here.
        if let Some((lane, what)) = wish.take_if(|(lane, _)| {
            let reactor = &self.reactors[index];
            reactor.step == Step::Active && !reactor.is_running(lane)
        }) {
            self.fulfil(index, &lane, what, None);
        }
        let serial = self.next_serial();
        let task = ReactionTask { serial, reaction: index, wish };
        self.tasks.insert(id, Task::Reaction(Box::new(task)));
        self.ready.push_back(id);
        self.ready_reactors.push_back(index);
    }

    /// Each wish is a document of its own: one that takes another's place would be removed when the other is
    /// fulfilled. It says where the lane is: a request that comes again may leave it again when it has been
    /// fulfilled, and what the lane is at by then was not meant.
    fn request_of(&mut self, index: ReactorIndex, lane: &ParkedLane, what: &str) -> Document {
        let (id, position) = (self.ids.next_u64().to_string(), lane.position.to_string());
        let key = json_of(&[&self.config.reactions[index].name, &lane.lane, &id, &position]).into();
        Document {
            name: DocumentName { collection: REQUESTS.into(), key },
            revision: 1,
            value: DocumentValue::Text(format!("\"{what}\"").into()),
            postings: Vec::new(),
        }
    }

    fn fulfil(&mut self, index: ReactorIndex, lane: &str, what: &str, at: Option<&str>) {
        let now = self.now;
        let drops = what == "drop" && !mutant!(self, DropForgotten);
        let reactor = &mut self.reactors[index];
        let Some(known) = reactor.lane(lane) else {
            return;
        };
        if drops && known.parked.error.is_empty() {
            // What was to be dropped has been passed already. What comes next has not failed.
            return;
        }
        if at.is_some_and(|at| known.parked.position.to_string() != at) {
            return;
        }
        known.parked.attempts = 0;
        known.parked.retry_at = Some(now);
        if drops && known.is_timer() {
            reactor.lanes.retain(|known| !known.is_timer() || *known.parked.lane != *lane);
            reactor.timers.due.retain(|(timer, _)| *timer.key() != *lane);
            let collection = timers_of(&self.config.reactions[index].name);
            let name = DocumentName { collection, key: lane.into() };
            // That it failed need not be saved any more.
            let unsaved = reactor.unsaved.iter_mut();
            unsaved.for_each(|unsaved| unsaved.documents.retain(|document| document.name != name));
            reactor.fulfilled.push((name, false));
        } else if drops {
            known.parked.position.0 += 1;
            known.parked.error = "".into();
        }
        reactor.dirty = true;
        self.ready_reactors.push_back(index);
    }

    fn read_requests(&mut self, index: ReactorIndex) {
        let reactor = &mut self.reactors[index];
        if reactor.asks_requests || !reactor.fulfilled.is_empty() {
            return;
        }
        reactor.asks_requests = true;
        let name = &self.config.reactions[index].name;
        let mut prefix = json_of(&[name]);
        prefix.pop();
        prefix.push(',');
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
        self.reactors[index].asks_requests = false;
        if self.reactors[index].step != Step::Active {
            return;
        }
        for (place, request) in found.scans.into_iter().flat_map(|scan| scan.documents) {
            if let Some([_, lane, _, at]) = strings_of(&place.key).as_deref() {
                if self.reactors[index].is_running(lane) {
                    // It is found again when what came of the attempt is known.
                    continue;
                }
                self.fulfil(index, lane, request.value.trim_matches('"'), Some(at));
            }
            let reactor = &mut self.reactors[index];
            let name = DocumentName { collection: REQUESTS.into(), key: place.key };
            reactor.fulfilled.push((name, false));
            reactor.dirty = true;
        }
    }

    #[inline(never)]
    pub(super) fn step_reaction_read(&mut self, id: TaskId) {
        if !matches!(self.store, Store::Open(_)) {
            return;
        }
        let Some(Task::Reaction(task)) = self.tasks.get(&id) else {
            return;
        };
        let purpose = Purpose::ReactionRead(id, task.serial);
        let names = vec![name_of(&self.config.reactions[task.reaction])];
        let read = ReadDocuments { names, scans: Vec::new() };
        self.send(StorageBody::ReadDocuments(Arc::new(read)), purpose);
    }

    /// The wish has been left: now the reaction is asked.
    pub(super) fn wish_saved(&mut self, id: TaskId) {
        self.ready.push_back(id);
    }

    #[inline(never)]
    pub(super) fn reaction_read(&mut self, id: TaskId, serial: u64, found: DocumentsRead) {
        let task = self.tasks.get_mut(&id).filter(|found| found.serial() == serial);
        let Some(Task::Reaction(task)) = task else {
            return;
        };
        let (index, wish) = (task.reaction, task.wish.take());
        let document = found.documents.into_iter().next().flatten();
        let progress = document.and_then(|document| Progress::from_json(&document.value));
        let progress = progress.unwrap_or_default();
        if let Some((lane, what)) = wish
            && let Some(known) = progress.lanes.iter().find(|known| known.lane == lane)
        {
            let documents = vec![self.request_of(index, known, what)];
            let save = SaveDocuments { documents, ..SaveDocuments::default() };
            let body = StorageBody::SaveDocuments(Arc::new(save));
            self.send(body, Purpose::ReactionRead(id, serial));
            return;
        }
        let reactor = &self.reactors[index];
        let read = ReactionRead {
            position: progress.position,
            head: found.head,
            runs_here: reactor.step == Step::Active,
            runs: !progress.owner.is_empty(),
            paused: reactor.paused,
            lanes: progress.lanes,
            trouble: reactor.stuck.clone().or_else(|| reactor.trouble.clone()),
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

    /// Whether this engine runs the reaction.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn runs_reaction(&self, index: usize) -> bool {
        self.reactors[index].step == Step::Active
    }

    /// Whether this engine has nothing to do for reactions: it has handled all, or another does.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn reactions_are_at(&self, head: Position) -> bool {
        self.reactors.iter().all(|reactor| match reactor.step {
            Step::Standby => true,
            Step::Active => {
                let waits = |timer: &str| {
                    DueTimer::lane_of_key(timer).is_some_and(|lane| reactor.is_left(&lane))
                };
                let parked = |lane: &Lane| {
                    let ParkedLane { lane: name, retry_at, .. } = &lane.parked;
                    retry_at.is_none() || (lane.is_timer() && waits(name))
                };
                reactor.timers.due.is_empty()
                    && reactor.unsaved.is_empty()
                    && reactor.position >= head
                    && reactor.lanes.iter().all(parked)
                    && reactor.running.is_empty()
                    && reactor.saving_since.is_none()
                    && !reactor.dirty
            }
            _ => false,
        })
    }
}

/// What is kept of a reason. All lanes that are left behind are in one document; one without a reason waits
/// for its next event.
fn shortened(error: Arc<str>) -> Arc<str> {
    match error.char_indices().nth(MAX_ERROR) {
        None if error.is_empty() => "no reason was given".into(),
        Some((end, _)) => format!("{}…", &error[..end]).into(),
        None => error,
    }
}
