//! The run: who does what when, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::domain::AggregateDefinition;
use crate::engine::{Config, Engine, Mutation};
use crate::error::{Applied, CommandError, ReadError, StorageError, StorageErrorCode};
use crate::event::{Metadata, RecordedEvent, TaskId};
use crate::ids::{CommandId, IdSource};
use crate::manager::{Handled, Wish};
use crate::projection::ViewKind;
use crate::protocol::{
    Answer, AskCheckpoint, AskReaction, CheckpointWish, Conflict, ControlView, DomainAnswer,
    Execute, Input, LogFilter, LogStart, Notice, Output, Page, React, Reacted, Reacting,
    ReactionAction, ReactionIndex, ReadState, ReadView, Saved, SnapshotProblem, SnapshotReport,
    StorageAnswer, StorageBody, StorageRequest, Subscribe, TakeSnapshot, Verdict, ViewAction,
};
use crate::reaction::StartAt;
use crate::snapshot::SnapshotPolicy;
use crate::storage::{MemoryStore, StorageAdapter};
use crate::stream::{ExpectedRevision, Position, StreamId};
use crate::time::Timestamp;
use crate::variant::to_variant;

use super::attempts::Attempts;
use super::check::{Asked, Checker, Heard};
use super::desk::{Appointment, Command, as_older, as_today};
use super::hosted::{self, Hosted};
use super::managers;
use super::reactions::{self, Mailer};
use super::readers::{LookBack, Readers, Session, Step};
use super::views;

/// How often, out of 1,000 requests, something goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The request never reaches the store.
    pub lost_before: u64,
    /// The store does it, and the answer is lost.
    pub lost_after: u64,
    /// Request or answer take longer than the deadline.
    pub delayed: u64,
    /// The answer comes twice, the second time later.
    pub answered_twice: u64,
    /// The store refuses, and says whether asking again may help.
    pub refused: u64,
    /// The engine's process ends when the request goes out, and is started again.
    pub crashed: u64,
    /// The store is replaced by a copy of itself, with another epoch.
    pub restored: u64,
    /// The snapshots in the store are damaged.
    pub damaged: u64,
}

/// A run of the simulation. The same scenario gives the same run, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Engines on the one store.
    pub engines: usize,
    /// Whether the engines' domain lives in the host, as a JavaScript one does.
    pub hosted: bool,
    /// Whether every append of others is told, or the engines must look for them.
    pub notifies: bool,
    /// States an engine keeps at hand. With few, an old read may bring an old state back.
    pub cached_states: usize,
    /// Events after which a snapshot is kept, and after whose replay; `None` keeps none.
    pub snapshots: Option<u64>,
    /// The kind of view the engines have, if any. Every second engine is of a newer release, whose view
    /// has another version.
    pub views: Option<ViewKind>,
    /// Whether the engines have readers of named subscriptions: one each of its own, and one of a name
    /// that they share.
    pub readers: bool,
    /// Whether each engine reads the log back from its end, again and again.
    pub looks_back: bool,
    /// Whether some of the events are stored as an earlier release would have stored them.
    pub older_forms: bool,
    /// Where the engines' reaction begins, if they have one.
    pub reactions: Option<StartAt>,
    /// Where the engines' process manager begins, if they have one.
    pub managers: Option<StartAt>,
    /// Whether operators pause and resume the reaction and the process manager, have what is parked tried
    /// again or dropped, and give views up that are being built. Handlers fail more often then.
    pub operators: bool,
    /// Whether hosts are told when an engine ends whose reactions theirs waits for; and how often, out of 100
    /// times, they say of one that goes on that it has.
    pub hints: Option<u64>,
    /// Commands and reads.
    pub operations: usize,
    /// Commands that come one after the other, each as soon as an append is under way, while an older
    /// command tries to read what they add. If there are any, the last may not be needed.
    pub overtakers: usize,
    /// What goes wrong while the operations are given.
    pub faults: Faults,
    /// The defect the engines have, in tests of the tests.
    pub mutation: Option<Mutation>,
}

impl Scenario {
    /// A scenario drawn from a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = random(seed ^ 0x5eed);
        let rate = |random: &mut IdSource| match random.below(3) {
            0 => 0,
            _ => random.below(80),
        };
        // Drawn apart, so that seeds stay what they were before there were snapshots.
        let mut apart = self::random(seed ^ 0x5a45);
        let snapshots = (apart.below(3) > 0).then(|| 1 + apart.below(4));
        let damaged = snapshots.map_or(0, |_| rate(&mut apart));
        let kinds = [ViewKind::Live, ViewKind::Inline, ViewKind::Async];
        let views = kinds.get(apart.below(6) as usize).copied();
        let starts = [StartAt::Beginning, StartAt::Beginning, StartAt::Now];
        let reactions = starts.get(apart.below(6) as usize).copied();
        let older_forms = apart.below(2) == 0;
        let readers = apart.below(3) == 0;
        let overtakers = if seed % 16 == 15 { 40 } else { 0 };
        // Its commands would be others that overtake.
        let managers = starts.get(apart.below(6) as usize).copied().filter(|_| overtakers == 0);
        let faults = match random.below(4) {
            0 => Faults::default(),
            _ => Faults {
                lost_before: rate(&mut random),
                lost_after: rate(&mut random),
                delayed: rate(&mut random),
                answered_twice: rate(&mut random),
                refused: rate(&mut random),
                crashed: rate(&mut random) / 4,
                restored: rate(&mut random) / 8,
                damaged,
            },
        };
        Self {
            seed,
            engines: 1 + random.below(3) as usize,
            hosted: random.below(2) == 0,
            notifies: random.below(2) == 0,
            cached_states: random.below(6) as usize,
            snapshots,
            views,
            readers,
            looks_back: seed % 8 == 6,
            operators: seed % 8 == 3,
            hints: match seed % 9 {
                0 => Some(0),
                3 => Some(30),
                6 => Some(100),
                _ => None,
            },
            older_forms,
            reactions,
            operations: 10 + random.below(50) as usize,
            managers,
            overtakers,
            faults,
            mutation: None,
        }
    }
}

impl Scenario {
    fn is_manager(&self, reaction: ReactionIndex) -> bool {
        self.managers.is_some() && (reaction.0 == 1 || self.reactions.is_none())
    }
}

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps of the simulated world.
    pub steps: u64,
    /// Events in the log.
    pub events: u64,
    /// Outcomes of commands that were given back.
    pub outcomes: u64,
    /// Refusals that were given back.
    pub refusals: u64,
    /// Conflicts the store has answered.
    pub conflicts: u64,
    /// Snapshots that were found.
    pub snapshots: u64,
    /// Snapshots that were found and were none.
    pub ignored: u64,
    /// Events that an earlier release has stored.
    pub older: u64,
    /// Answers of views.
    pub views: u64,
    /// Views that have come to an event they can't take in.
    pub stopped: u64,
    /// Events that were read back from the log's end.
    pub looked_back: u64,
    /// Events that readers of named subscriptions were given.
    pub read: u64,
    /// Those of them that had been handled already.
    pub read_again: u64,
    /// Readers that were told that somebody else has moved their checkpoint.
    pub moved: u64,
    /// Events that a reaction has handled.
    pub reacted: u64,
    /// What operators have asked of reactions, and were told.
    pub asked: u64,
    /// Commands of process managers.
    pub managed: u64,
    /// Timers that were handled.
    pub rung: u64,
    /// Hints that an engine is gone which is.
    pub hints: u64,
    /// Such hints that were wrong.
    pub lies: u64,
    /// Faults of all kinds.
    pub faults: u64,
    /// Digest of everything the engines have put out.
    pub digest: u64,
}

impl Report {
    /// The sum of two reports; the digests are combined.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            events: self.events + other.events,
            outcomes: self.outcomes + other.outcomes,
            refusals: self.refusals + other.refusals,
            conflicts: self.conflicts + other.conflicts,
            snapshots: self.snapshots + other.snapshots,
            ignored: self.ignored + other.ignored,
            older: self.older + other.older,
            views: self.views + other.views,
            stopped: self.stopped + other.stopped,
            read: self.read + other.read,
            looked_back: self.looked_back + other.looked_back,
            read_again: self.read_again + other.read_again,
            moved: self.moved + other.moved,
            reacted: self.reacted + other.reacted,
            asked: self.asked + other.asked,
            managed: self.managed + other.managed,
            rung: self.rung + other.rung,
            hints: self.hints + other.hints,
            lies: self.lies + other.lies,
            faults: self.faults + other.faults,
            digest: self.digest.rotate_left(5) ^ other.digest,
        }
    }
}

/// A broken promise. Running the scenario again breaks it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {what}", seed = .scenario.seed)]
pub struct Failure {
    /// The run.
    pub scenario: Box<Scenario>,
    /// What was broken.
    pub what: String,
}

/// Runs a scenario and checks every promise of the engine.
///
/// # Errors
/// The first broken promise.
pub fn simulate(scenario: &Scenario) -> Result<Report, Failure> {
    World::new(scenario).run().map_err(|what| Failure { scenario: Box::new(*scenario), what })
}

const REQUEST_TIMEOUT: u64 = 100;

/// More than a request or an answer may take, in milliseconds.
const LONGEST_DELAY: u64 = REQUEST_TIMEOUT / 2 + REQUEST_TIMEOUT * 3;
const LATENCY: u64 = 12;
const MAX_STEPS: u64 = 200_000;

/// The appointment of the command that others overtake.
const ELDER: &str = "elder";

pub(super) fn random(seed: u64) -> IdSource {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[16] = 1;
    let mut source = IdSource::new(bytes);
    for _ in 0..8 {
        source.next_u64();
    }
    source
}

/// Something that will happen.
enum Happening {
    /// Operation number so-and-so is given to an engine.
    Operation(usize),
    /// A request reaches the store.
    Request { host: usize, life: u32, request: StorageRequest },
    /// An answer reaches an engine.
    Answer { host: usize, life: u32, body: StorageBody, answer: Answer },
    /// The time an engine wanted to be woken at.
    Wake { host: usize, life: u32 },
    /// An engine hears of another's append.
    Advanced { host: usize, life: u32 },
    /// The reader with this index has handled what it was given, or some of it.
    Handled { host: usize, life: u32, reader: usize },
    /// The reader with this index begins again.
    Reads { host: usize, life: u32, reader: usize },
    /// Somebody sets the checkpoint of a reader back.
    SetBack { host: usize },
    /// An operator looks at a reaction, and does what seems best.
    Operates,
    /// An operator lets a reaction go on that he has paused.
    Resumes { host: usize, reaction: ReactionIndex },
    /// An operator gives up a view, if it is being built.
    Cancels { host: usize },
    /// Operators let views go on, once nothing goes wrong any more, and once more when what was on its way by
    /// then has come: a process that has ended may have given a view up.
    Continues { again: bool },
    /// An event has been handled, or could not be.
    Reacted { host: usize, life: u32, run: u64, event: Box<RecordedEvent> },
    /// A host says to its engine that another is gone.
    Hint { host: usize, life: u32, owner: Arc<str> },
    /// The process manager handles an event or a timer.
    Manages { host: usize, life: u32, react: Box<React> },
}

struct Host {
    life: u32,
    engine: Engine,
    hosted: Hosted,
    last_task: u32,
    /// Operations that wait for an answer.
    open: BTreeMap<TaskId, usize>,
    /// Operators that wait for one.
    asking: BTreeSet<TaskId>,
    /// Commands of the process manager that wait for an answer, what they were given for, and why that has
    /// failed, if it has.
    managing: Vec<(u64, Vec<TaskId>, Option<Arc<str>>)>,
    /// Answers of the domain that the engine has not been given.
    answers: Vec<DomainAnswer>,
    subscription: TaskId,
    /// The readers of named subscriptions.
    sessions: Vec<Session>,
    look_back: Option<LookBack>,
    /// Engines that its own waits for.
    owners: BTreeSet<Arc<str>>,
    woken_at: Option<Timestamp>,
}

impl Host {
    /// Begins to read the log back from its end.
    fn look_back(&mut self, now: Timestamp, store: &MemoryStore) {
        self.last_task += 1;
        let head = Position(store.log().len() as u64);
        let (look_back, subscribe) = LookBack::begin(TaskId(self.last_task), head);
        self.look_back = Some(look_back);
        self.engine.handle_input(now, Input::Subscribe(subscribe)).expect("a new task");
    }

    fn looks_back_by(&self, task: TaskId) -> bool {
        self.look_back.as_ref().is_some_and(|look_back| look_back.task == task)
    }

    /// Which commands of the process manager a task is one of.
    fn manages(&self, task: TaskId) -> Option<usize> {
        self.managing.iter().position(|(_, tasks, _)| tasks.contains(&task))
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    random: IdSource,
    /// For readers alone, so that seeds stay what they were before there were any.
    apart: IdSource,
    readers: Option<Readers>,
    now: Timestamp,
    agenda: BTreeMap<(Timestamp, u64), Happening>,
    last: u64,
    store: MemoryStore,
    /// What is in the store, as it is read today.
    log: Vec<RecordedEvent>,
    hosts: Vec<Host>,
    /// Those drawn, then the elder and its overtakers, if there are any.
    operations: Vec<Asked>,
    /// The first of the operations that have not been given: the elder or an overtaker.
    to_come: usize,
    elder_is_done: bool,
    /// Operations that have not ended.
    unfinished: usize,
    /// What operators will do yet.
    operating: usize,
    checker: Checker,
    mailer: Mailer,
    managers: managers::Checker,
    report: Report,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut random = random(scenario.seed);
        let mut store = MemoryStore::new("simulated");
        if scenario.mutation == Some(Mutation::DuplicateBeforeNeighbour) {
            store = store.blind_to_neighbours();
        }
        if scenario.notifies {
            store = store.notifying();
        }
        let mut operations = draw_operations(scenario, &mut random);
        let drawn = operations.len();
        operations.extend(elder_and_overtakers(scenario));
        let mut world = Self {
            scenario,
            random,
            apart: self::random(scenario.seed ^ 0x5ead),
            readers: scenario.readers.then(|| Readers::new(scenario.engines, scenario.seed)),
            now: Timestamp::from_millis(1_795_000_000_000),
            agenda: BTreeMap::new(),
            last: 0,
            store,
            log: Vec::new(),
            hosts: Vec::new(),
            to_come: drawn,
            elder_is_done: false,
            unfinished: drawn,
            operating: 0,
            operations,
            checker: Checker::default(),
            mailer: Mailer::default(),
            managers: managers::Checker::default(),
            report: Report { digest: 0xcbf2_9ce4_8422_2325, ..Report::default() },
        };
        for index in 0..scenario.engines {
            let host = world.new_host(index, 0);
            world.hosts.push(host);
        }
        world
    }

    fn new_host(&mut self, index: usize, life: u32) -> Host {
        // Half of them keep snapshots by their age, half after a replay.
        let policy = self.scenario.snapshots.map(|events| {
            let (every, after_replay_of) =
                if index.is_multiple_of(2) { (Some(events), None) } else { (None, Some(events)) };
            SnapshotPolicy { version: 1, every, after_replay_of }
        });
        let definition = match (self.scenario.hosted, policy) {
            (true, None) => hosted::with_upcasters(AggregateDefinition::hosted("Appointment")),
            (true, Some(policy)) => hosted::with_upcasters(
                AggregateDefinition::hosted_with_snapshots("Appointment", policy),
            ),
            (false, None) => AggregateDefinition::native::<Appointment>(),
            (false, Some(policy)) => {
                AggregateDefinition::native_with_snapshots::<Appointment>(policy)
            }
        };
        let mut seed = [index as u8 + 1; 32];
        seed[..8].copy_from_slice(&self.random.next_u64().to_le_bytes());
        let mut config = Config::new(seed, vec![definition]);
        config.request_timeout = REQUEST_TIMEOUT;
        config.poll_interval = 40;
        config.cached_states = self.scenario.cached_states;
        config.page_limit = 1 + self.random.below(4) as u32;
        config.max_commits = 1 + self.random.below(8) as usize;
        config.mutation = self.scenario.mutation;
        if let Some(kind) = self.scenario.views {
            let mut definition = views::definition(kind, version_of(index));
            if self.scenario.hosted {
                definition.native = None;
            }
            config.projections.push(definition);
        }
        if let Some(start_at) = self.scenario.reactions {
            config.lease = 300;
            let concurrency = 1 + self.scenario.seed as u32 % 3;
            config.reactions.push(reactions::definition(start_at, concurrency));
        }
        if let Some(start_at) = self.scenario.managers {
            config.lease = 300;
            let concurrency = 1 + self.scenario.seed as u32 % 4;
            let hosted = self.scenario.hosted;
            config.reactions.push(managers::definition(start_at, concurrency, hosted));
        }
        if self.scenario.hints.is_some() {
            config.identity = name_of(index, life);
        }
        let engine = Engine::new(config).expect("the configuration is fine");
        let mut host = Host {
            life,
            engine,
            hosted: Hosted::new(),
            last_task: 1,
            open: BTreeMap::new(),
            asking: BTreeSet::new(),
            managing: Vec::new(),
            answers: Vec::new(),
            subscription: TaskId(1),
            sessions: Vec::new(),
            look_back: None,
            owners: BTreeSet::new(),
            woken_at: None,
        };
        let subscribe = follow(host.subscription, self.checker.followed(index));
        host.engine.handle_input(self.now, Input::Subscribe(subscribe)).expect("a first input");
        for name in self.readers.iter().flat_map(|readers| readers.names_of(index)) {
            host.last_task += 1;
            let readers = self.readers.as_ref().expect("looked at above");
            let (session, subscribe) = readers.begin(name, TaskId(host.last_task));
            host.sessions.push(session);
            host.engine.handle_input(self.now, Input::Subscribe(subscribe)).expect("a new task");
        }
        if self.scenario.looks_back {
            host.look_back(self.now, &self.store);
        }
        host
    }

    /// Whether readers have handled all there is.
    fn all_read(&self) -> bool {
        self.readers.as_ref().is_none_or(|readers| readers.are_done(self.store.log()))
    }

    /// Whether no view has anything to take in.
    fn all_viewed(&self) -> bool {
        let head = Position(self.store.log().len() as u64);
        self.hosts.iter().all(|host| host.engine.views_are_at(head))
    }

    /// Whether nothing is left to be reacted to.
    fn all_reacted(&self) -> bool {
        let head = Position(self.store.log().len() as u64);
        let hosts = self.hosts.iter();
        (self.scenario.reactions.is_none() && self.scenario.managers.is_none())
            || (hosts.into_iter().all(|host| host.engine.reactions_are_at(head))
                && (self.scenario.managers.is_none() || managers::Checker::is_done(&self.store))
                && (0..)
                    .zip([self.scenario.reactions, self.scenario.managers].iter().flatten())
                    .all(|(index, _)| {
                        self.hosts.iter().any(|host| host.engine.runs_reaction(index))
                    }))
    }

    fn check_views(&self) -> Result<(), String> {
        let head = Position(self.store.log().len() as u64);
        let is_stored = self.scenario.views.is_some_and(|kind| kind != ViewKind::Live);
        for version in (0..self.hosts.len()).filter(|_| is_stored).map(version_of) {
            let stays = version > 1 || self.hosts.len() == 1;
            views::check_store(version, &self.store, &self.log, stays.then_some(head))?;
        }
        Ok(())
    }

    fn later(&mut self, millis: u64, happening: Happening) {
        self.last += 1;
        self.agenda.insert((self.now.plus(millis), self.last), happening);
    }

    fn run(mut self) -> Result<Report, String> {
        let mut at = 0;
        for index in 0..self.to_come {
            // Bursts: several commands in one moment share an append.
            if self.random.below(3) == 0 {
                at += self.random.below(30);
            }
            self.later(at, Happening::Operation(index));
        }
        if self.readers.is_some() && self.apart.below(3) == 0 {
            let after = self.apart.below(at + 60);
            let host = self.apart.below(self.hosts.len() as u64) as usize;
            self.later(after, Happening::SetBack { host });
        }
        let reacts = self.scenario.reactions.is_some() || self.scenario.managers.is_some();
        if self.scenario.operators && reacts {
            self.operating = 8 + self.apart.below(12) as usize;
            for _ in 0..self.operating {
                let after = self.apart.below(at + 600);
                self.later(after, Happening::Operates);
            }
        }
        if self.scenario.operators && self.scenario.views.is_some() {
            for _ in 0..3 {
                let after = self.apart.below(at + 300);
                let host = self.apart.below(self.hosts.len() as u64) as usize;
                self.later(after, Happening::Cancels { host });
            }
            self.operating += 1;
            self.later(at + 300, Happening::Continues { again: false });
        }
        for host in 0..self.hosts.len() {
            self.drain(host)?;
        }
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            self.now = self.now.max(at);
            self.report.steps += 1;
            if self.report.steps > MAX_STEPS {
                return Err(format!("{} operations never end", self.unfinished));
            }
            self.happen(happening)?;
            let at_rest = self.all_followed()
                && self.all_kept()
                && self.all_viewed()
                && self.all_reacted()
                && self.all_read()
                && self.operating == 0;
            if self.unfinished == 0 && at_rest {
                break;
            }
        }
        if self.unfinished > 0 {
            return Err(format!("{} operations have no answer", self.unfinished));
        }
        if !self.all_followed() {
            return Err("a subscription has not heard of the last events".to_owned());
        }
        if !self.all_viewed() {
            return Err("a view has not taken in the last events".to_owned());
        }
        if !self.all_read() {
            return Err("a reader has not handled the last events".to_owned());
        }
        if !self.all_reacted() {
            return Err("a reaction has not come to the last events".to_owned());
        }
        self.end()
    }

    /// Whether no snapshot is on its way, and no load, be it for nobody: until then the engine holds their
    /// states.
    fn all_kept(&self) -> bool {
        let mut engines = self.hosts.iter().map(|host| &host.engine);
        !engines.any(|engine| engine.has_snapshots_to_keep() || engine.is_loading())
    }

    fn all_followed(&self) -> bool {
        let head = Position(self.store.log().len() as u64);
        (0..self.hosts.len()).all(|host| self.checker.followed(host) == head)
    }

    fn end(mut self) -> Result<Report, String> {
        self.checker.check_log(&self.operations, &self.log)?;
        self.check_views()?;
        if self.scenario.reactions.is_some() {
            self.mailer.end(&self.store)?;
        }
        if self.scenario.managers.is_some() {
            self.managers.end(&self.store, &self.log)?;
        }
        self.report.reacted = self.mailer.count();
        (self.report.managed, self.report.rung) = self.managers.counts();
        for (index, host) in self.hosts.iter().enumerate() {
            if !host.hosted.is_empty_but_for(self.scenario.cached_states) {
                return Err(format!("host {index} was left with states or pages"));
            }
        }
        self.report.events = self.store.log().len() as u64;
        Ok(self.report)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Operation(index) => self.give(index),
            Happening::Request { host, life, request } => {
                self.reach_store(host, life, &request)?;
                self.mailer.attempts.look(&self.store)?;
                self.managers.attempts.look(&self.store)?;
                match &mut self.readers {
                    Some(readers) => readers.check_store(&self.store),
                    None => Ok(()),
                }
            }
            Happening::Reacted { host, life, run, event } => {
                // Even a process that has ended may have done it before.
                let is_there = self.hosts[host].life == life;
                let fails = reactions::is_poison(&event)
                    || (self.unfinished > 0 && self.random.below(8) == 0)
                    || (!is_there && self.random.below(2) == 0)
                    || self.fails_more();
                let result = if fails {
                    Err(reactions::failure(&event))
                } else {
                    self.mailer.handle(&event, self.store.log())?;
                    Ok(vec![reactions::handled_document(&self.store, &event)])
                };
                if is_there {
                    self.mailer.attempts.end(self.now, (host, life), run, result.is_err());
                    self.input(host, Input::Reacted(Reacted { run, result }))?;
                }
                Ok(())
            }
            Happening::Operates => self.operate(),
            Happening::Resumes { host, reaction } => {
                self.operating -= 1;
                self.ask(host, reaction, Some(ReactionAction::Resume))
            }
            Happening::Cancels { host } => self.control_view(host, ViewAction::Cancel),
            Happening::Continues { .. } if self.unfinished > 0 => {
                // Whose process ends before it is written down has not been heard.
                self.later(100, Happening::Continues { again: false });
                let host = self.apart.below(self.hosts.len() as u64) as usize;
                self.control_view(host, ViewAction::Resume)
            }
            Happening::Continues { again } => {
                if again {
                    self.operating -= 1;
                } else {
                    self.later(LONGEST_DELAY, Happening::Continues { again: true });
                }
                (0..self.hosts.len())
                    .try_for_each(|host| self.control_view(host, ViewAction::Resume))
            }
            Happening::Hint { host, life, owner } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                // Who waits again asks again.
                self.hosts[host].owners.remove(&owner);
                let is_gone = !self.is_there(&owner);
                *(if is_gone { &mut self.report.hints } else { &mut self.report.lies }) += 1;
                self.input(host, Input::OwnerGone(owner))
            }
            Happening::Manages { host, life, react } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.manage(host, &react)
            }
            Happening::Answer { host, life, body, answer } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.answer(host, &body, answer)?;
                // Whoever asked may lose patience before the engine has looked at the answer.
                if self.random.below(30) == 0
                    && let Some(task) = self.hosts[host].open.keys().next_back().copied()
                {
                    self.give_input(host, Input::Cancel(task))?;
                }
                self.drain(host)
            }
            Happening::Wake { host, life } => {
                let woken = &mut self.hosts[host];
                if woken.life != life || woken.woken_at.is_none_or(|at| at > self.now) {
                    return Ok(());
                }
                woken.woken_at = None;
                self.input(host, Input::Tick)
            }
            Happening::Advanced { host, life } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                let head = Position(self.store.log().len() as u64);
                let known = (self.random.below(2) == 0).then_some(head);
                self.input(host, Input::Advanced(known))
            }
            Happening::Handled { host, life, reader } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.handled(host, reader)
            }
            Happening::Reads { host: index, life, reader } => {
                let host = &mut self.hosts[index];
                if host.life != life {
                    return Ok(());
                }
                let readers = self.readers.as_ref().ok_or("there are no readers")?;
                host.last_task += 1;
                let name = readers.names_of(index)[reader];
                let (session, subscribe) = readers.begin(name, TaskId(host.last_task));
                host.sessions[reader] = session;
                self.input(index, Input::Subscribe(subscribe))
            }
            Happening::SetBack { host: index } => {
                let draw = self.apart.next_u64();
                let set_back = self.readers.as_mut().and_then(|readers| readers.set_back(draw));
                let Some((name, to)) = set_back else { return Ok(()) };
                let host = &mut self.hosts[index];
                host.last_task += 1;
                let wish = CheckpointWish::Set(LogStart::After(to));
                let ask = AskCheckpoint { task: TaskId(host.last_task), name, wish };
                self.input(index, Input::AskCheckpoint(ask))
            }
        }
    }

    fn control_view(&mut self, host: usize, action: ViewAction) -> Result<(), String> {
        let control = ControlView { projection: views::DESK.into(), action };
        self.input(host, Input::ControlView(control))
    }

    /// Whether a handler fails because operators are to have something to do.
    fn fails_more(&mut self) -> bool {
        self.scenario.operators && self.unfinished > 0 && self.apart.below(3) == 0
    }

    /// An operator picks a reaction and what to do with it. Some are in doubt whether they have been heard,
    /// and some are two.
    fn operate(&mut self) -> Result<(), String> {
        self.operating -= 1;
        let both = [self.scenario.reactions, self.scenario.managers];
        let count = both.iter().flatten().count() as u64;
        let reaction = ReactionIndex(self.apart.below(count) as u32);
        let host = self.apart.below(self.hosts.len() as u64) as usize;
        let lanes: Vec<_> = self.attempts_of(reaction).lanes().cloned().collect();
        let lane = lanes.get(self.apart.below(lanes.len().max(1) as u64) as usize).cloned();
        let action = match (self.apart.below(8), lane) {
            (1..=3, Some(lane)) => Some(ReactionAction::Retry(lane)),
            (4..=6, Some(lane)) => Some(ReactionAction::Drop(lane)),
            (7, _) => Some(ReactionAction::Pause),
            _ => None,
        };
        if action == Some(ReactionAction::Pause) {
            let after = self.apart.below(400);
            self.operating += 1;
            self.later(after, Happening::Resumes { host, reaction });
        }
        self.ask(host, reaction, action.clone())?;
        if self.apart.below(3) == 0 && action != Some(ReactionAction::Pause) {
            let other = self.apart.below(self.hosts.len() as u64) as usize;
            self.ask(other, reaction, action)?;
        }
        Ok(())
    }

    fn ask(
        &mut self,
        index: usize,
        reaction: ReactionIndex,
        action: Option<ReactionAction>,
    ) -> Result<(), String> {
        if let Some(action) = &action {
            self.attempts_of(reaction).wish(action);
        }
        let name =
            if self.scenario.is_manager(reaction) { managers::WARDEN } else { reactions::MAILER };
        let host = &mut self.hosts[index];
        host.last_task += 1;
        let task = TaskId(host.last_task);
        host.asking.insert(task);
        self.input(index, Input::AskReaction(AskReaction { task, reaction: name.into(), action }))
    }

    fn attempts_of(&mut self, reaction: ReactionIndex) -> &mut Attempts {
        match self.scenario.is_manager(reaction) {
            true => &mut self.managers.attempts,
            false => &mut self.mailer.attempts,
        }
    }

    /// Lets the process manager handle something, and gives its commands.
    fn manage(&mut self, index: usize, react: &React) -> Result<(), String> {
        let run = react.run;
        let fails = (self.unfinished > 0 && self.apart.below(8) == 0) || self.fails_more();
        let handled = match fails {
            true => Err("it is not its day".into()),
            false => self.managers.handle(react),
        };
        let Handled { wishes, given, metadata } = match handled {
            Ok(handled) => handled,
            Err(error) => {
                let life = (index, self.hosts[index].life);
                self.managers.attempts.end(self.now, life, run, true);
                let reacted = Reacted { run, result: Err(error) };
                return self.input(index, Input::Reacted(reacted));
            }
        };
        let host = &mut self.hosts[index];
        let Some(ids) = host.engine.manage(run, wishes) else {
            return Ok(());
        };
        let mut tasks = Vec::new();
        for (command_id, wish) in ids.into_iter().zip(given) {
            let (Wish { stream, command_type, data }, metadata) = (wish, metadata.clone());
            host.last_task += 1;
            let task = TaskId(host.last_task);
            host.hosted.start(task, stream.clone(), &command_type, &data);
            let execute = Execute {
                task,
                stream,
                command_type,
                data,
                command_id: Some(command_id),
                expected: ExpectedRevision::Any,
                issued_at: None,
                metadata,
            };
            tasks.push(task);
            host.engine.handle_input(self.now, Input::Execute(execute)).expect("a new task");
        }
        host.managing.push((run, tasks, None));
        self.tell_managed(index)?;
        self.drain(index)
    }

    /// Tells the engine what has become of events whose commands are all done.
    fn tell_managed(&mut self, index: usize) -> Result<(), String> {
        let done = |(_, tasks, _): &(u64, Vec<TaskId>, _)| tasks.is_empty();
        while let Some(at) = self.hosts[index].managing.iter().position(done) {
            let (run, _, failed) = self.hosts[index].managing.swap_remove(at);
            let life = (index, self.hosts[index].life);
            self.managers.attempts.end(self.now, life, run, failed.is_some());
            let result = failed.map_or(Ok(Vec::new()), Err);
            self.give_input(index, Input::Reacted(Reacted { run, result }))?;
        }
        Ok(())
    }

    /// Gives an operation, and whatever else comes in the same moment, to an engine.
    fn give(&mut self, index: usize) -> Result<(), String> {
        let host = self.random.below(self.hosts.len() as u64) as usize;
        self.start(host, index);
        // The others of this moment go to the same engine before it is drained.
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
            && matches!(entry.get(), Happening::Operation(_))
        {
            let Happening::Operation(index) = entry.remove() else { unreachable!("looked at") };
            self.start(host, index);
        }
        self.drain(host)
    }

    fn start(&mut self, host: usize, index: usize) {
        let head = Position(self.store.log().len() as u64);
        let operation = &mut self.operations[index];
        operation.given_at_head = head;
        let host = &mut self.hosts[host];
        host.last_task += 1;
        let task = TaskId(host.last_task);
        host.open.insert(task, index);
        let input = match operation.command.clone() {
            Some(command) => {
                let (command_type, data) = to_variant(&command).expect("an enum");
                host.hosted.start(task, operation.stream.clone(), &command_type, &data);
                Input::Execute(Execute {
                    task,
                    stream: operation.stream.clone(),
                    command_type,
                    data,
                    command_id: Some(operation.command_id),
                    expected: operation.expected,
                    issued_at: Some(operation.issued_at),
                    metadata: Metadata {
                        actor: Some(Arc::clone(&operation.actor)),
                        ..Metadata::default()
                    },
                })
            }
            None if self.scenario.views.is_some() && !index.is_multiple_of(4) => {
                let (at, query) = views::question(index, head);
                Input::ReadView(ReadView { task, projection: views::DESK.into(), at, query })
            }
            None if self.scenario.snapshots.is_some() && index.is_multiple_of(3) => {
                let stream = operation.stream.clone();
                Input::TakeSnapshot(TakeSnapshot { task, stream })
            }
            None => Input::ReadState(ReadState {
                task,
                stream: operation.stream.clone(),
                at: operation.read_at(index),
                events: index.is_multiple_of(2),
            }),
        };
        host.engine.handle_input(self.now, input).expect("a new task");
        if self.random.below(40) == 0 {
            host.engine.handle_input(self.now, Input::Cancel(task)).expect("cancelling is allowed");
        }
    }

    /// A reader has handled what it has, or leaves in the middle of it.
    fn handled(&mut self, index: usize, reader: usize) -> Result<(), String> {
        let session = &mut self.hosts[index].sessions[reader];
        let readers = self.readers.as_mut().ok_or("there are no readers")?;
        let has = session.in_hand();
        if has == 0 {
            // The subscription has ended meanwhile.
            return Ok(());
        }
        let leaves = self.apart.below(8) == 0;
        let count = leaves.then(|| self.apart.below(has) as usize);
        let task = session.task;
        match readers.handle(session, count) {
            Step::Next => self.input(index, Input::Next(task)),
            Step::Leave(last) => {
                if let Some(position) = last {
                    self.give_input(index, Input::Handled(task, position))?;
                }
                self.input(index, Input::Cancel(task))
            }
        }
    }

    fn input(&mut self, host: usize, input: Input) -> Result<(), String> {
        self.give_input(host, input)?;
        self.drain(host)
    }

    fn give_input(&mut self, host: usize, input: Input) -> Result<(), String> {
        let engine = &mut self.hosts[host].engine;
        engine.handle_input(self.now, input).map_err(|misuse| format!("misuse: {misuse}"))
    }

    fn answer(&mut self, host: usize, body: &StorageBody, answer: Answer) -> Result<(), String> {
        let answer = self.hosts[host].hosted.keep(body, answer);
        self.give_input(host, Input::Answer(answer))
    }

    /// The store's answer comes while the host is busy with its domain.
    fn answer_early(&mut self, index: usize) -> Result<(), String> {
        let due = self.agenda.iter().find(|(_, happening)| match happening {
            Happening::Answer { host, life, .. } => {
                *host == index && *life == self.hosts[index].life
            }
            _ => false,
        });
        let Some(key) = due.map(|(key, _)| *key) else { return Ok(()) };
        let Some(Happening::Answer { body, answer, .. }) = self.agenda.remove(&key) else {
            unreachable!("found above")
        };
        self.answer(index, &body, answer)
    }

    fn give_domain_answers(&mut self, index: usize) -> Result<(), String> {
        for answer in std::mem::take(&mut self.hosts[index].answers) {
            self.give_input(index, Input::Domain(answer))?;
        }
        Ok(())
    }

    fn drain(&mut self, index: usize) -> Result<(), String> {
        for _ in 0..MAX_STEPS {
            let output = self.hosts[index].engine.poll_output();
            write!(Digest(&mut self.report.digest), "{output:?}").expect("a digest takes all");
            let host = &mut self.hosts[index];
            match output {
                // Nobody waits for them any more, but the engine says what is to be dropped.
                Output::Idle { .. } if !host.answers.is_empty() => {
                    self.give_domain_answers(index)?;
                }
                Output::Idle { wake_at } => {
                    host.woken_at = wake_at;
                    if let Some(at) = wake_at {
                        let millis = (at.millis() - self.now.millis()).max(0).unsigned_abs();
                        let life = host.life;
                        self.later(millis, Happening::Wake { host: index, life });
                    }
                    return Ok(());
                }
                Output::Release(release) => host.hosted.release(&release),
                Output::Domain(request) => {
                    // Half of the runs gather some of the answers.
                    let (reads, task) = (request.others.is_some(), request.task.0);
                    let gathers = !self.scenario.seed.is_multiple_of(2);
                    let at_once = reads || !gathers || task.is_multiple_of(3);
                    let answer = host.hosted.answer(request);
                    match self.random.below(16) {
                        0 => self.answer_early(index)?,
                        1 => self.give_input(index, Input::Cancel(answer.task))?,
                        _ => {}
                    }
                    self.hosts[index].answers.push(answer);
                    if at_once {
                        self.give_domain_answers(index)?;
                    }
                }
                Output::React(mut react) if self.scenario.is_manager(react.reaction) => {
                    if let Reacting::Held { page, index } = react.event {
                        let page = host.hosted.events(&Page::Held { page, count: 0 });
                        react.event = Reacting::Event(Box::new(page[index as usize].clone()));
                    }
                    managers::Checker::hear_react(self.now, &react)?;
                    let life = host.life;
                    let is_deposed = self.is_deposed(index, react.reaction);
                    self.managers.attempts.begin(self.now, (index, life), &react, is_deposed)?;
                    let after = self.apart.below(20);
                    let after = if after == 0 { self.apart.below(500) } else { after };
                    let react = Box::new(react);
                    self.later(after, Happening::Manages { host: index, life, react });
                }
                Output::React(react) => {
                    let life = host.life;
                    let is_deposed = self.is_deposed(index, react.reaction);
                    self.mailer.attempts.begin(self.now, (index, life), &react, is_deposed)?;
                    let React { run, event, .. } = react;
                    let event = match event {
                        Reacting::Event(event) => event,
                        Reacting::Held { .. } | Reacting::Timer(_) => {
                            return Err("what no reaction of streams is given".to_owned());
                        }
                    };
                    // Now and then it takes longer than a lease.
                    let after = match self.random.below(20) {
                        0 => self.random.below(500),
                        _ => self.random.below(30),
                    };
                    self.later(after, Happening::Reacted { host: index, life, run, event });
                }
                Output::Project(project) => {
                    let kind = self.scenario.views.ok_or("there are no views")?;
                    let definition = views::definition(kind, version_of(index));
                    let answer = host.hosted.project(&definition, &project);
                    self.give_input(index, Input::Projected(answer))?;
                }
                Output::Correlate(asked) => {
                    let events = host.hosted.events(&Page::Held { page: asked.page, count: 0 });
                    let answer = managers::correlate(&asked, &events);
                    self.give_input(index, Input::Correlated(answer))?;
                }
                Output::AwaitDomain => self.give_domain_answers(index)?,
                Output::Notice(notice) => self.hear(index, notice)?,
                Output::Storage(request) => {
                    if self.fault(self.scenario.faults.crashed) {
                        self.crash(index, request);
                        continue;
                    }
                    if matches!(request.body, StorageBody::Append(_)) {
                        self.overtake()?;
                    }
                    self.send(index, request);
                }
            }
        }
        Err("the engine is never idle".to_owned())
    }

    /// The elder comes when the first append is under way, and with each append one who overtakes it.
    fn overtake(&mut self) -> Result<(), String> {
        let elder = self.scenario.operations;
        // Its outcome may wait for an inline view.
        let is_appended = |event: &RecordedEvent| *event.stream.aggregate_id == *ELDER;
        self.elder_is_done |= self.store.log().iter().any(is_appended);
        if self.to_come == self.operations.len() || self.elder_is_done {
            return Ok(());
        }
        let coming = if self.to_come == elder { 2 } else { 1 };
        for _ in 0..coming {
            self.later(0, Happening::Operation(self.to_come));
            self.to_come += 1;
            self.unfinished += 1;
        }
        let alone = self.scenario.engines == 1 && self.scenario.faults == Faults::default();
        if alone && self.to_come == self.operations.len() {
            return Err(format!("a command was overtaken {} times", self.scenario.overtakers));
        }
        Ok(())
    }

    fn fault(&mut self, rate: u64) -> bool {
        let happens = self.unfinished > 0 && self.random.below(1_000) < rate;
        self.report.faults += u64::from(happens);
        happens
    }

    fn latency(&mut self) -> u64 {
        if self.fault(self.scenario.faults.delayed) {
            REQUEST_TIMEOUT / 2 + self.random.below(LONGEST_DELAY - REQUEST_TIMEOUT / 2)
        } else {
            self.random.below(LATENCY)
        }
    }

    fn send(&mut self, host: usize, mut request: StorageRequest) {
        let hosted = &mut self.hosts[host].hosted;
        hosted.ask(&request);
        if let StorageBody::Append(append) = &request.body {
            let mut append = hosted.with_payloads(append);
            if self.scenario.older_forms {
                let events = append.commits.iter_mut().flat_map(|commit| &mut commit.events);
                // Every attempt has the same events.
                for event in events.filter(|event| event.id.0.as_u128() % 2 == 0) {
                    event.event = as_older(event.event.clone());
                }
            }
            request.body = StorageBody::Append(Arc::new(append));
        } else if let StorageBody::SaveDocuments(save) = &request.body {
            request.body = StorageBody::SaveDocuments(Arc::new(hosted.with_values(save)));
        }
        if self.fault(self.scenario.faults.lost_before) {
            return;
        }
        let life = self.hosts[host].life;
        // A read that reaches the store in order is stale as soon as the append after it is done.
        let in_order = self.scenario.overtakers > 0;
        let after = if in_order { 0 } else { self.latency() };
        self.later(after, Happening::Request { host, life, request });
    }

    fn reach_store(
        &mut self,
        host: usize,
        life: u32,
        request: &StorageRequest,
    ) -> Result<(), String> {
        if self.fault(self.scenario.faults.restored) {
            self.store.set_epoch(&format!("restored-{}", self.report.steps));
        }
        let damaged = self.scenario.faults.damaged;
        if damaged > 0 && self.fault(damaged) {
            let how = self.random.next_u64();
            self.store.damage_snapshots(how);
        }
        let head = self.store.log().len();
        let refused = self.fault(self.scenario.faults.refused);
        let result = if refused { self.refuse(request) } else { self.store.call(request) };
        let appended = &self.store.log()[head..];
        let is_older = |event: &&RecordedEvent| {
            &*event.event_type == "Taken"
                || (&*event.event_type == "Noted" && event.schema_version == 1)
        };
        self.report.older += appended.iter().filter(is_older).count() as u64;
        self.log.extend(appended.iter().map(as_today));
        self.managers.hear_append(self.now, self.log.len());
        if let (Ok(StorageAnswer::Saved(Saved::Kept(_))), StorageBody::SaveDocuments(save)) =
            (&result, &request.body)
        {
            self.mailer.hear_save(save, &self.store, &self.log)?;
            self.managers.hear_save(save, &self.store, &self.log)?;
        }
        if let Ok(StorageAnswer::Appended(verdicts)) = &result {
            let lost = |verdict: &&Verdict| match verdict {
                // A commit that rests on a duplicate or a conflict has not met a conflict itself.
                Verdict::Conflict(conflict) => !matches!(conflict, Conflict::Neighbour { .. }),
                _ => false,
            };
            self.report.conflicts += verdicts.iter().filter(lost).count() as u64;
        }
        if let Ok(StorageAnswer::Loaded(loaded)) = &result {
            let found = loaded.streams.iter().filter(|slice| slice.snapshot.is_some()).count();
            self.report.snapshots += found as u64;
        }
        if self.store.log().len() > head {
            for other in 0..self.hosts.len() {
                let life = self.hosts[other].life;
                let after = self.latency();
                if self.scenario.notifies || self.random.below(4) > 0 {
                    self.later(after, Happening::Advanced { host: other, life });
                }
            }
        }
        if self.fault(self.scenario.faults.lost_after) {
            return Ok(());
        }
        let answer = Answer { request: request.id, attempt: request.attempt, result };
        if self.fault(self.scenario.faults.answered_twice) {
            let after = LATENCY + self.latency();
            let (body, answer) = (request.body.clone(), answer.clone());
            self.later(after, Happening::Answer { host, life, body, answer });
        }
        let after = self.latency();
        let body = request.body.clone();
        self.later(after, Happening::Answer { host, life, body, answer });
        Ok(())
    }

    fn refuse(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        match self.random.below(5) {
            0 => Err(StorageError::permanent(StorageErrorCode::Full, "the disk is full")),
            1 => {
                // Nobody knows whether it was done; here it was.
                if let (
                    Ok(StorageAnswer::Saved(Saved::Kept(_))),
                    StorageBody::SaveDocuments(save),
                ) = (self.store.call(request), &request.body)
                {
                    // What is wrong with it is found when it is next written.
                    drop(self.mailer.hear_save(save, &self.store, self.store.log()));
                }
                let message = "the connection was lost";
                let error = StorageError::permanent(StorageErrorCode::Failed, message);
                Err(StorageError { applied: Applied::Unknown, ..error })
            }
            2 => {
                let message = "the connection was lost";
                let error = StorageError::retryable(StorageErrorCode::Failed, message);
                Err(StorageError { applied: Applied::Unknown, ..error })
            }
            _ => Err(StorageError::retryable(StorageErrorCode::Busy, "another holds the lock")),
        }
    }

    /// The process ends; the request may still be on its way.
    fn crash(&mut self, index: usize, request: StorageRequest) {
        if self.random.below(2) == 0 {
            self.send(index, request);
        }
        let life = self.hosts[index].life + 1;
        let host = self.new_host(index, life);
        let old = std::mem::replace(&mut self.hosts[index], host);
        self.tell_of_end(&name_of(index, old.life));
        for session in &old.sessions {
            self.readers.iter_mut().for_each(|readers| readers.interrupt(session));
        }
        for operation in old.open.into_values() {
            self.again(operation);
        }
    }

    fn is_there(&self, owner: &str) -> bool {
        let mut names = self.hosts.iter().zip(0..).map(|(host, index)| name_of(index, host.life));
        names.any(|name| *name == *owner)
    }

    /// An engine waits for another. Its host says when that is gone, or lies.
    fn wait_for(&mut self, index: usize, owner: Arc<str>) {
        let host = &mut self.hosts[index];
        let (life, is_new) = (host.life, host.owners.insert(Arc::clone(&owner)));
        let lies = self.scenario.hints.is_some_and(|lies| self.apart.below(100) < lies);
        if is_new && (lies || !self.is_there(&owner)) {
            let after = self.apart.below(40);
            self.later(after, Happening::Hint { host: index, life, owner });
        }
    }

    /// Whether hosts lie, and the store says that another engine runs the reaction.
    fn is_deposed(&mut self, index: usize, reaction: ReactionIndex) -> bool {
        let name = name_of(index, self.hosts[index].life);
        self.scenario.hints.is_some_and(|lies| lies > 0)
            && *self.attempts_of(reaction).owner() != *name
    }

    fn tell_of_end(&mut self, owner: &Arc<str>) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].owners.contains(owner) {
                let (life, after) = (self.hosts[host].life, self.apart.below(40));
                self.later(after, Happening::Hint { host, life, owner: Arc::clone(owner) });
            }
        }
    }

    /// Whoever gave the operation knows nothing of it, and gives it again.
    fn again(&mut self, operation: usize) {
        self.operations[operation].haunted = true;
        let after = self.random.below(60);
        self.later(after, Happening::Operation(operation));
    }

    fn hear(&mut self, index: usize, notice: Notice) -> Result<(), String> {
        let head = Position(self.store.log().len() as u64);
        match notice {
            Notice::Opened(_) | Notice::OpenFailed(_) | Notice::ViewMoved(_) => Ok(()),
            Notice::ReactionMoved(_) => Ok(()),
            Notice::ReactionLost(reaction) => {
                let life = (index, self.hosts[index].life);
                self.attempts_of(reaction).lost(life);
                Ok(())
            }
            Notice::OwnerSeen(owner) => {
                self.wait_for(index, owner);
                Ok(())
            }
            Notice::ReactionRead { task, result } => {
                if !self.hosts[index].asking.remove(&task) {
                    return Err("nobody has asked a reaction".to_owned());
                }
                self.report.asked += 1;
                match result {
                    Ok(read) if read.position > head => Err(format!("{read:?} is beyond {head}")),
                    Ok(_) | Err(ReadError::Storage(_)) => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Notice::ViewRead { task, result } => {
                let host = &mut self.hosts[index];
                let operation = host.open.remove(&task).ok_or("an answer nobody waits for")?;
                self.unfinished -= 1;
                self.report.views += u64::from(result.is_ok());
                let stopped = matches!(result, Err(ReadError::ProjectionStopped { .. }));
                self.report.stopped += u64::from(stopped);
                let asked_at = self.operations[operation].given_at_head;
                views::hear(operation, asked_at, &result, &self.log)
            }
            Notice::Snapshot(SnapshotReport { problem, .. }) => match problem {
                SnapshotProblem::Ignored(_) => {
                    self.report.ignored += 1;
                    Ok(())
                }
                SnapshotProblem::Storage(_) => Ok(()),
                SnapshotProblem::NotJson(reason) => Err(reason.to_string()),
            },
            Notice::Skipped(skipped) => Err(format!("nothing is unknown here: {skipped:?}")),
            Notice::CommandDone { task, result } if self.hosts[index].manages(task).is_some() => {
                let host = &mut self.hosts[index];
                host.hosted.end(task);
                let at = host.manages(task).expect("looked at above");
                let (_, tasks, failed) = &mut host.managing[at];
                tasks.retain(|other| *other != task);
                match result {
                    Ok(_)
                    | Err(CommandError::Refused { .. } | CommandError::CommandIdReused(_)) => {}
                    Err(error) => *failed = Some(error.to_string().into()),
                }
                self.tell_managed(index)
            }
            Notice::CommandDone { task, result } => {
                let host = &mut self.hosts[index];
                let operation = host.open.remove(&task).ok_or("an answer nobody waits for")?;
                let refusal = host.hosted.end(task);
                let asked = &self.operations[operation];
                let taken_in = result.as_ref().is_ok_and(|outcome| outcome.behind.is_empty());
                let result = match result {
                    Err(CommandError::OutcomeUnknown { .. }) => {
                        self.again(operation);
                        return Ok(());
                    }
                    Err(CommandError::Refused { code, details }) => {
                        self.report.refusals += 1;
                        let (code, details) = refusal.unwrap_or((code, details));
                        Err(CommandError::Refused { code, details })
                    }
                    Err(error) => Err(error),
                    Ok(outcome) => {
                        self.report.outcomes += 1;
                        let state = state_json(host, &outcome.state);
                        let pages = &outcome.events;
                        let events = pages.iter().flat_map(|page| host.hosted.events(page));
                        let events = events.map(|event| as_today(&event)).collect();
                        Ok(Heard {
                            commit: outcome.commit,
                            revision: outcome.revision,
                            state,
                            events,
                        })
                    }
                };
                self.unfinished -= 1;
                self.elder_is_done |= operation == self.scenario.operations;
                if let (Some(ViewKind::Inline), true, Ok(Heard { commit: Some(commit), .. })) =
                    (self.scenario.views, taken_in, &result)
                {
                    // A newer release clears an older one's view away, which is made anew, and operators give
                    // views up.
                    let version = version_of(index);
                    let stays = (version > 1 || self.hosts.len() == 1) && !self.scenario.operators;
                    let position = stays.then(|| commit.last_position());
                    views::check_store(version, &self.store, &self.log, position)?;
                }
                self.checker.hear_command(asked, operation, head, &result, &self.log)
            }
            Notice::StateRead { task, result } => {
                let host = &mut self.hosts[index];
                let operation = host.open.remove(&task).ok_or("an answer nobody waits for")?;
                self.unfinished -= 1;
                let Ok(read) = result else { return Ok(()) };
                let state = state_json(host, &read.state);
                let events = read.events.iter().flat_map(|page| host.hosted.events(page));
                let events: Vec<_> = events.map(|event| as_today(&event)).collect();
                let asked = &self.operations[operation];
                let wants_events = operation.is_multiple_of(2);
                let heard = Heard { commit: None, revision: read.revision, state, events };
                let at = asked.read_at(operation);
                self.checker.hear_read(asked, at, head, &heard, wants_events, &self.log)
            }
            Notice::SnapshotTaken { task, result } => {
                let host = &mut self.hosts[index];
                let operation = host.open.remove(&task).ok_or("an answer nobody waits for")?;
                self.unfinished -= 1;
                let Ok(revision) = result else { return Ok(()) };
                let asked = &self.operations[operation];
                self.checker.hear_snapshot(asked, head, revision, &self.log)
            }
            Notice::Checkpoint { result, .. } => match result {
                Ok(_) | Err(ReadError::Storage(_)) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
            Notice::Events { task, page, next, .. } if self.hosts[index].looks_back_by(task) => {
                let host = &mut self.hosts[index];
                let events: Vec<_> = host.hosted.events(&page).iter().map(as_today).collect();
                let look_back = host.look_back.as_mut().ok_or("nobody looks back")?;
                look_back.hear(&events, next, &self.log)?;
                self.report.looked_back += events.len() as u64;
                host.engine.handle_input(self.now, Input::Next(task)).map_err(|e| e.to_string())
            }
            Notice::Events { task, page, .. } if task != self.hosts[index].subscription => {
                let host = &mut self.hosts[index];
                let events = host.hosted.events(&page);
                let reader = host.sessions.iter().position(|session| session.task == task);
                let reader = reader.ok_or("events nobody waits for")?;
                let readers = self.readers.as_mut().ok_or("there are no readers")?;
                let log = self.store.log();
                self.report.read += events.len() as u64;
                self.report.read_again += readers.hear(&mut host.sessions[reader], &events, log)?;
                let (life, after) = (host.life, self.apart.below(20));
                self.later(after, Happening::Handled { host: index, life, reader });
                Ok(())
            }
            Notice::Events { task, page, next, .. } => {
                let events: Vec<_> =
                    self.hosts[index].hosted.events(&page).iter().map(as_today).collect();
                self.checker.hear_events(index, &events, next, &self.log)?;
                let input = Input::Next(task);
                self.hosts[index].engine.handle_input(self.now, input).map_err(|e| e.to_string())
            }
            Notice::SubscriptionEnded { task, result } if self.hosts[index].looks_back_by(task) => {
                let host = &mut self.hosts[index];
                host.look_back.take().ok_or("nobody looks back")?.end(&result)?;
                if self.unfinished > 0 {
                    host.look_back(self.now, &self.store);
                }
                Ok(())
            }
            Notice::SubscriptionEnded { task, result }
                if task != self.hosts[index].subscription =>
            {
                let host = &mut self.hosts[index];
                let reader = host.sessions.iter().position(|session| session.task == task);
                let reader = reader.ok_or("an end nobody waits for")?;
                let readers = self.readers.as_mut().ok_or("there are no readers")?;
                readers.end(&host.sessions[reader], &result)?;
                self.report.moved +=
                    u64::from(matches!(result, Err(ReadError::SubscriptionMoved(_))));
                let (life, after) = (host.life, self.apart.below(60));
                self.later(after, Happening::Reads { host: index, life, reader });
                Ok(())
            }
            Notice::SubscriptionEnded { .. } => {
                // The store failed for good; whoever follows starts again.
                let host = &mut self.hosts[index];
                host.last_task += 1;
                host.subscription = TaskId(host.last_task);
                let subscribe = follow(host.subscription, self.checker.followed(index));
                let input = Input::Subscribe(subscribe);
                host.engine.handle_input(self.now, input).map_err(|e| e.to_string())
            }
        }
    }
}

/// The version of the view that an engine's release has.
fn version_of(host: usize) -> u32 {
    1 + host as u32 % 2
}

/// What an engine calls itself.
fn name_of(host: usize, life: u32) -> Arc<str> {
    format!("engine {host}, life {life}").into()
}

/// A subscription that goes on where a host has come to.
fn follow(task: TaskId, after: Position) -> Subscribe {
    let (start, filter) = (LogStart::After(after), LogFilter::default());
    Subscribe {
        task,
        name: None,
        start,
        filter,
        upcasts: false,
        limit: 3,
        follow: true,
        descending: false,
    }
}

fn state_json(host: &mut Host, state: &crate::domain::State) -> String {
    let state = host.engine.hand_out(state).expect("the state is JSON");
    host.hosted.take(state)
}

/// Few streams, doctors and slots, so that commands meet.
fn draw_operations(scenario: &Scenario, random: &mut IdSource) -> Vec<Asked> {
    let mut drawn: VecDeque<Asked> = VecDeque::new();
    let streams = 1 + random.below(6);
    let slots = 1 + random.below(4);
    for number in 0..scenario.operations {
        let id = CommandId(uuid::Uuid::from_u64_pair(random.next_u64(), random.next_u64()));
        let stream = StreamId::new("Appointment", &format!("a-{}", random.below(streams)));
        let doctor = random.below(2) as u8;
        let slot = random.below(slots) as u8;
        let command = match random.below(10) {
            0..=2 => Some(Command::Book { doctor, slot }),
            3 | 4 => Some(Command::Move { slot }),
            5 => Some(Command::Cancel),
            6 => None,
            _ => {
                let count = random.below(4) as u32;
                Some(Command::Note { notes: (0..count).map(|n| n + number as u32).collect() })
            }
        };
        let expected = match random.below(12) {
            0 => ExpectedRevision::NoStream,
            1 => ExpectedRevision::StreamExists,
            2 => ExpectedRevision::Exact(crate::stream::Revision(random.below(5))),
            _ => ExpectedRevision::Any,
        };
        let asked = Asked {
            stream,
            command,
            command_id: id,
            expected,
            issued_at: Timestamp::from_millis(1_700_000_000_000 + number as i64),
            actor: format!("actor \"{number}\"").into(),
            given_at_head: Position(0),
            haunted: false,
        };
        // Now and then the one before is given again, with the same content or with other.
        let repeated = match drawn.back() {
            Some(before) if before.command.is_some() && random.below(8) == 0 => {
                let mut repeated = before.clone();
                if random.below(4) == 0 {
                    repeated.command = Some(Command::Note { notes: vec![9_999] });
                }
                Some(repeated)
            }
            _ => None,
        };
        drawn.push_back(repeated.unwrap_or(asked));
    }
    drawn.into()
}

/// A booking, and remarks about its slot. They read nothing, so whenever an append settles, the next is
/// out before the booking has read what the last one added.
fn elder_and_overtakers(scenario: &Scenario) -> Vec<Asked> {
    let command = |number: usize| match number {
        0 => (ELDER, Command::Book { doctor: 0, slot: 0 }),
        _ => ("overtakers", Command::Remark { doctor: 0, slot: 0 }),
    };
    let count = if scenario.overtakers > 0 { 1 + scenario.overtakers } else { 0 };
    let asked = (0..count).map(|number| {
        let (id, command) = command(number);
        Asked {
            stream: StreamId::new("Appointment", id),
            command: Some(command),
            command_id: CommandId(uuid::Uuid::from_u64_pair(scenario.seed, number as u64)),
            expected: ExpectedRevision::Any,
            issued_at: Timestamp::from_millis(1_700_000_000_000 + number as i64),
            actor: "overtaking".into(),
            given_at_head: Position(0),
            haunted: false,
        }
    });
    asked.collect()
}

/// FNV-1a of 64 bits, fed with text.
struct Digest<'a>(&'a mut u64);

impl std::fmt::Write for Digest<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
