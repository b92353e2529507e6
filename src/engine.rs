//! The engine: start reading here.
//!
//! Everything that is under way is a *task*. A task waits in its stream's queue ([`streams`]), for
//! a storage request ([`requests`]) or for the host's answer to a domain request. Whenever it can
//! go on it is *ready*, and [`Engine::poll_output`] takes its next step ([`command`], [`read`],
//! [`subscription`], [`checkpoint`]). When nothing is ready, the reads that came up go out as one `Load`, and the
//! commits that came up as one `Append` ([`batch`]); while that is under way, more gather.

mod batch;
pub(crate) mod checkpoint;
mod command;
pub(crate) mod map;
pub(crate) mod others;
mod parts;
mod projecting;
mod reacting;
mod read;
mod requests;
mod snapshotting;
mod sorted;
mod streams;
mod subscription;
mod views;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::domain::{
    AggregateDefinition, CopyLease, Domain, HandleLease, PageLease, Released, State, StateKind,
};
use crate::erased::{Erased, erased};
use crate::error::{ApiMisuse, ReadError, StorageError, StorageErrorCode};
use crate::event::{RecordedEvent, TaskId};
use crate::ids::IdSource;
use crate::projection::ProjectionDefinition;
use crate::protocol::{
    AggregateIndex, Append, CopyId, DomainAnswer, DomainResult, EventRow, HandedOut, Handle, Info,
    Input, Notice, Output, Page, ProjectionIndex, ReadView, RequestId, StorageAnswer, StorageBody,
    Subscribe, ViewQuery, ViewScan,
};
use crate::reaction::ReactionDefinition;
use crate::time::Timestamp;

use batch::{InFlight, Staged};
use checkpoint::CheckpointTask;
use command::CommandTask;
use map::{Map, map};
use parts::{LOG_ONLY, Parts};
use projecting::{Runner, RunnerIndex};
use reacting::{ReactionTask, Reactor, ReactorIndex};
use read::ReadTask;
use requests::{LoadWish, Pending, Purpose};
use snapshotting::Keep;
use sorted::{ByAge, Sorted};
use streams::Streams;
use subscription::Subscription;
use views::{HeldBack, ViewTask, ViewWish};

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The engine's only source of randomness: ids of commands that come without one, and the
    /// jitter of back-offs. Different for each engine, from a good source.
    pub seed: [u8; 32],
    /// The aggregates.
    pub aggregates: Vec<AggregateDefinition>,
    /// The projections.
    pub projections: Vec<ProjectionDefinition>,
    /// The reactions.
    pub reactions: Vec<ReactionDefinition>,
    /// Milliseconds after which a reaction whose engine says nothing more is taken over by another, if the
    /// host does not know before that it is gone. Default: 10,000.
    pub lease: u64,
    /// What this engine calls itself in documents that say whose something is: a name that nobody else has
    /// ever had. A host that can tell others when this engine is gone gives one, and is told whom the engine
    /// waits for ([`Notice::OwnerSeen`]). Default: empty, and the engine makes one up.
    pub identity: Arc<str>,
    /// Milliseconds after which an attempt at a storage request is given up. Default: 10,000.
    pub request_timeout: u64,
    /// Attempts at a storage request. Default: 5.
    pub max_attempts: u32,
    /// How often a command is decided again after others were faster. Default: 20.
    pub max_conflicts: u32,
    /// Most commits in an `Append`. Default: 256.
    pub max_commits: usize,
    /// Most bytes of payload in an `Append`, unless one commit alone has more. Default: 4 MiB.
    pub max_append_bytes: usize,
    /// Most events in a page of a stream. Default: 400: texts of pages beyond 128 KB cost more a byte.
    pub page_limit: u32,
    /// Most states kept at hand for streams with nothing under way. Default: 10,000.
    pub cached_states: usize,
    /// Milliseconds between looks at the log for subscriptions, where the store does not notify.
    /// Default: 1,000.
    pub poll_interval: u64,
    /// The defect to show, in tests of the tests.
    #[cfg(any(test, feature = "testing"))]
    pub mutation: Option<Mutation>,
}

/// Defects that the simulation must find.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A refusal is given from whatever state is at hand.
    StaleRefusal,
    /// After a conflict the same events are appended to what is there now.
    RetryUnchecked,
    /// What a commit would have left is kept after its conflict, while its batch neighbours were committed.
    KeptAfterConflict,
    /// The store judges duplicates without looking at earlier commits of the same append.
    DuplicateBeforeNeighbour,
    /// Any answer of the right kind is taken for the current one.
    LateAnswer,
    /// The younger never wait for an older command that they keep from reading.
    OvertakingWithoutEnd,
    /// A snapshot that can't be read stands for the initial state.
    SnapshotDefaulting,
    /// A snapshot is taken for the state that it says, whatever its digest.
    SnapshotUnchecked,
    /// A view's checkpoint is saved before its documents.
    CheckpointFirst,
    /// The checkpoint of a view that is given up has the revision of a position at which others may be.
    CancelledAtPosition,
    /// A subscription at the end of the log goes on with the event that it hears of.
    GapAtSeam,
    /// Decisions get events of others as they are stored.
    OthersAsStored,
    /// A reaction's progress is saved, whoever has it by then.
    LeaseWithoutFencing,
    /// What is taken over before its lease is over is saved, whoever has it by then.
    HintAsProof,
    /// Who was taken for gone, and was not, takes the reaction back on the next hint.
    HintsWithoutEnd,
    /// A reaction's progress passes streams that are parked, and forgets them.
    ProgressPastParked,
    /// A process manager's states are saved before the progress says that their events are handled.
    StateBeforeProgress,
    /// A timer is taken away when it is given to a process manager, not when it has been handled.
    TimerGoneEarly,
    /// Timers are handled as soon as they are found, due or not.
    TimerBeforeItsTime,
    /// A timer that was found is handled, though an event has forgotten it meanwhile.
    ForgottenTimer,
    /// A timer is handled before events that the store had when its time came.
    TimerOvertakes,
    /// Commands of a process manager get ids of their own at each attempt.
    CommandsNotNamed,
    /// When the store has been replaced, no append is in doubt but one whose request has heard of it.
    DoubtOnlyOnRefused,
    /// A timer that comes due while it is looked for is handled, whatever has happened since it was asked for.
    TimerDueWhileLooking,
    /// A look at timers that goes on where the last page ended counts as one from the beginning.
    LookCountsFromStart,
    /// What has been parked is tried again without a wish.
    TriedAfterParked,
    /// What could not be handled is tried again at once.
    RetryWithoutPause,
    /// What is to be dropped is tried again.
    DropForgotten,
}

impl Config {
    /// The defaults, with this seed and these aggregates.
    #[must_use]
    pub fn new(seed: [u8; 32], aggregates: Vec<AggregateDefinition>) -> Self {
        Self {
            seed,
            aggregates,
            projections: Vec::new(),
            reactions: Vec::new(),
            lease: 10_000,
            identity: "".into(),
            request_timeout: 10_000,
            max_attempts: 5,
            max_conflicts: 20,
            max_commits: 256,
            max_append_bytes: 4 * 1024 * 1024,
            page_limit: 400,
            cached_states: 10_000,
            poll_interval: 1_000,
            #[cfg(any(test, feature = "testing"))]
            mutation: None,
        }
    }

    /// Lets projections and reactions have the events that upcasters may make events of their types of.
    fn widen_types(&mut self) {
        let becoming = self.aggregates.iter().flat_map(|known| known.becoming.iter());
        let reactions = self.reactions.iter_mut().filter(|reaction| reaction.upcasts);
        let types = self.projections.iter_mut().map(|projection| &mut projection.filter.types);
        for types in types.chain(reactions.map(|reaction| &mut reaction.filter.types)) {
            if !types.is_empty() {
                types.extend(becoming.clone().cloned());
            }
        }
    }

    fn check(&self) -> Result<(), ApiMisuse> {
        if LOG_ONLY && !(self.projections.is_empty() && self.reactions.is_empty()) {
            return Err(ApiMisuse::LogOnly);
        }
        for (index, definition) in self.aggregates.iter().enumerate() {
            let AggregateDefinition { name, domain, .. } = definition;
            if self.aggregates[..index].iter().any(|other| other.name == *name) {
                return Err(ApiMisuse::AggregateDefinedTwice(Arc::clone(name)));
            }
            if let Domain::Native(native) = domain
                && let Some((event_type, rule)) = native.mistake()
            {
                return Err(ApiMisuse::Upcasters { event_type, rule });
            }
        }
        for (index, definition) in self.projections.iter().enumerate() {
            let ProjectionDefinition { name, filter, native, .. } = definition;
            let is_native = |name: &Arc<str>| {
                let mut known = self.aggregates.iter().filter(|known| known.name == *name);
                matches!(known.next(), Some(known) if matches!(known.domain, Domain::Native(_)))
            };
            if native.is_some()
                && let Some(unknown) = filter.aggregate_types.iter().find(|name| !is_native(name))
            {
                let (projection, aggregate) = (Arc::clone(name), Arc::clone(unknown));
                return Err(ApiMisuse::TypesNotKnown { projection, aggregate });
            }
            if self.projections[..index].iter().any(|other| other.name == *name) {
                return Err(ApiMisuse::ProjectionDefinedTwice(Arc::clone(name)));
            }
        }
        for (index, ReactionDefinition { name, .. }) in self.reactions.iter().enumerate() {
            if self.reactions[..index].iter().any(|other| other.name == *name) {
                return Err(ApiMisuse::ReactionDefinedTwice(Arc::clone(name)));
            }
        }
        for reaction in &self.reactions {
            if reaction.concurrency == 0 || reaction.retries.max_attempts == 0 {
                return Err(ApiMisuse::ZeroLimit("a reaction's concurrency and max_attempts"));
            }
        }
        for (what, value) in [
            ("request_timeout", self.request_timeout),
            ("max_attempts", self.max_attempts.into()),
            ("max_commits", self.max_commits as u64),
            ("page_limit", self.page_limit.into()),
            ("poll_interval", self.poll_interval),
            ("lease", self.lease),
        ] {
            if value == 0 {
                return Err(ApiMisuse::ZeroLimit(what));
            }
        }
        Ok(())
    }
}

/// The event-sourcing engine. It does no IO: see the [crate's page](crate).
pub struct Engine {
    config: Config,
    now: Timestamp,
    ids: IdSource,
    store: Store,
    tasks: Map<TaskId, Task>,
    /// Number of tasks that have asked the host for a domain function and have no answer.
    asked: usize,
    /// Commands that read beyond their stream.
    readers: ByAge,
    subscriptions: ByAge,
    ready: VecDeque<TaskId>,
    /// Commands that go on after the append under way, or the one to come, has settled.
    parked: ByAge,
    /// Commands that others have overtaken too often: the younger wait for them.
    starving: ByAge,
    streams: Streams,
    staged: Vec<Staged>,
    /// Bytes of payload in what is staged.
    staged_bytes: usize,
    in_flight: Option<InFlight>,
    wishes: Vec<LoadWish>,
    /// One for each projection, then those of views of the past.
    runners: Parts<Option<Runner>>,
    ready_runners: VecDeque<RunnerIndex>,
    view_wishes: Vec<ViewWish>,
    reactors: Parts<Reactor>,
    ready_reactors: VecDeque<ReactorIndex>,
    /// What this engine calls itself in documents that say whose something is.
    identity: String,
    /// Outcomes that wait for inline views.
    held_back: Vec<HeldBack>,
    /// States that are to be kept as snapshots.
    to_keep: Vec<Keep>,
    /// Whether some are on their way to the store.
    keeping: bool,
    /// In the order they were first sent.
    pending: Vec<Pending>,
    last_request: u64,
    last_serial: u64,
    timers: Sorted<(Timestamp, Timer)>,
    /// Number of copies that the host has been told to keep, and those of them that it has dropped.
    last_copy: u32,
    free_copies: Vec<CopyId>,
    released: Released,
    outputs: VecDeque<Output>,
    idle: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("tasks", &self.tasks.len())
            .field("staged", &self.staged.len())
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// What the engine knows of the store.
enum Store {
    /// Not asked yet, or not reached: the next task asks.
    Unknown,
    /// Asked.
    Opening {
        /// The epoch it had when it said that it has another.
        before: Option<crate::protocol::Epoch>,
    },
    Open(Info),
}

enum Task {
    Command(Box<CommandTask>),
    Read(Box<ReadTask>),
    Subscription(Box<Subscription>),
    View(Box<ViewTask>),
    Checkpoint(Box<CheckpointTask>),
    Reaction(Box<ReactionTask>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The deadline of an attempt, or the moment of the next.
    Request(RequestId),
    /// The end of a command's back-off.
    Command(TaskId),
    /// A look at the log.
    Subscription(TaskId),
    /// A look at the log for a view, or the end of a pause.
    Runner(RunnerIndex),
    /// A look at a reaction's document, the next attempt at an event, or the next sign of life.
    Reactor(ReactorIndex),
}

/// A page as the engine keeps it.
#[derive(Clone)]
pub(crate) enum KeptPage {
    /// Whole, as native hosts give them.
    Events(Erased<Vec<RecordedEvent>>),
    Rows(Rc<(Rc<PageLease>, Vec<EventRow>)>),
    Messages(Arc<[Arc<str>]>, Arc<str>),
    /// Events of others, as they are read today.
    Upcast(Rc<Vec<EventRow>>),
    Held(Rc<PageLease>),
}

impl KeptPage {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> u64 {
        match self {
            Self::Events(events) => events.len() as u64,
            Self::Rows(rows) => rows.1.len() as u64,
            Self::Messages(forms, _) => forms.len() as u64,
            Self::Upcast(rows) => rows.len() as u64,
            Self::Held(lease) => u64::from(lease.count),
        }
    }

    /// The page as the application gets it. The host keeps a held page until it has handled the
    /// notice, for its release comes after.
    fn to_page(&self) -> Page {
        match self {
            Self::Events(events) => Page::Events(events.to_vec()),
            Self::Rows(rows) => {
                let (lease, rows) = rows.as_ref();
                Page::Rows { page: lease.page, rows: rows.clone() }
            }
            Self::Messages(forms, data) => {
                Page::Messages { forms: Arc::clone(forms), data: Arc::clone(data) }
            }
            Self::Held(lease) => Page::Held { page: lease.page, count: lease.count },
            Self::Upcast(_) => unreachable!("only decisions read it"),
        }
    }
}

impl Engine {
    /// An engine with this configuration. It asks for the store at the first poll.
    ///
    /// # Errors
    /// If two aggregates have one name or a limit is 0.
    pub fn new(mut config: Config) -> Result<Self, ApiMisuse> {
        config.check()?;
        config.widen_types();
        let [.., a, b, c, d, e, f, g, h] = config.seed;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let mut engine = Self {
            now: Timestamp::default(),
            ids: IdSource::new(config.seed),
            store: Store::Unknown,
            tasks: map(seed),
            asked: 0,
            readers: ByAge::default(),
            subscriptions: ByAge::default(),
            ready: VecDeque::new(),
            parked: ByAge::default(),
            starving: ByAge::default(),
            streams: Streams::new(config.cached_states, seed),
            staged: Vec::new(),
            staged_bytes: 0,
            in_flight: None,
            wishes: Vec::new(),
            runners: Parts::new(),
            ready_runners: VecDeque::new(),
            view_wishes: Vec::new(),
            reactors: Parts::new(),
            ready_reactors: VecDeque::new(),
            identity: String::new(),
            held_back: Vec::new(),
            to_keep: Vec::new(),
            keeping: false,
            pending: Vec::new(),
            last_request: 0,
            last_serial: 0,
            timers: Sorted::default(),
            last_copy: 0,
            free_copies: Vec::new(),
            released: Released::default(),
            outputs: VecDeque::new(),
            idle: true,
            config,
        };
        engine.start_runners();
        engine.start_reactors();
        Ok(engine)
    }

    /// The engine's time: the latest it was given. It never goes back, though the host's may.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Number of tasks under way.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// The aggregates it was made with.
    pub(crate) fn aggregates(&self) -> &[AggregateDefinition] {
        &self.config.aggregates
    }

    /// The append with this number, while it is under way: what an adapter's judge is asked about.
    #[must_use]
    pub fn append_in_flight(&self, request: RequestId) -> Option<&Append> {
        match &self.pending(request)?.body {
            StorageBody::Append(append) => Some(append),
            _ => None,
        }
    }

    /// A state as a host in another language gets it. Of a native state that it gets a second time it keeps what
    /// it has read, so that it need not read it again: until the engine has another state, or lets go of this
    /// one, and says so by [`Output::Release`].
    ///
    /// # Errors
    /// If serde_json can't write the state.
    pub fn hand_out(&mut self, state: &State) -> Result<HandedOut, serde_json::Error> {
        let native = match &state.0 {
            StateKind::Hosted(_) => {
                return Ok(HandedOut::Held(state.handle().expect("hosted")));
            }
            StateKind::Native(native) => native,
        };
        let handing = native.handing();
        if let Some(lease) = handing.copy.get() {
            return Ok(HandedOut::Copied(lease.copy));
        }
        let json = native.to_json()?;
        if !handing.before.replace(true) {
            return Ok(HandedOut::Once(json));
        }
        let copy = self.free_copies.pop().unwrap_or_else(|| {
            self.last_copy += 1;
            CopyId(self.last_copy)
        });
        handing.copy.get_or_init(|| CopyLease::new(copy, &self.released));
        Ok(HandedOut::ToCopy(copy, json))
    }

    /// Takes an input. `now` is the host's time; a time before an earlier input's counts as that.
    ///
    /// # Errors
    /// If the host broke the contract; nothing has changed then.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) -> Result<(), ApiMisuse> {
        self.check_input(&input)?;
        self.now = self.now.max(now);
        self.idle = false;
        match input {
            Input::Execute(execute) => self.start_command(execute),
            Input::ReadState(read) => self.start_read(read),
            Input::Subscribe(subscribe) => self.start_subscription(subscribe),
            Input::TakeSnapshot(wish) => self.start_snapshot(wish),
            Input::ReadView(read) => self.start_view_read(read),
            Input::ControlView(control) => self.control_view(control),
            Input::Projected(answer) => self.host_projected(answer),
            Input::AskReaction(ask) => self.ask_reaction(ask),
            Input::Correlated(answer) => self.host_correlated(answer),
            Input::Reacted(answer) => self.host_reacted(answer),
            Input::Next(task) => self.next_page(task),
            Input::Handled(task, position) => self.page_handled(task, position),
            Input::AskCheckpoint(ask) => self.start_checkpoint(ask),
            Input::Cancel(task) => self.cancel(task),
            Input::Answer(answer) => self.handle_answer(answer),
            Input::Domain(answer) => self.handle_domain(answer),
            Input::Advanced(position) => self.advanced(position),
            Input::OwnerGone(owner) => self.owner_gone(&owner),
            Input::Tick => {}
        }
        self.fire_timers();
        Ok(())
    }

    fn check_input(&self, input: &Input) -> Result<(), ApiMisuse> {
        let started = match input {
            Input::Execute(execute) => Some(execute.task),
            Input::ReadState(read) => Some(read.task),
            Input::Subscribe(subscribe) if subscribe.limit == 0 => {
                return Err(ApiMisuse::ZeroLimit("limit"));
            }
            Input::Subscribe(Subscribe { descending: true, name, follow, .. })
                if *follow || name.is_some() =>
            {
                return Err(ApiMisuse::CannotGoBack);
            }
            Input::Subscribe(subscribe) => Some(subscribe.task),
            Input::TakeSnapshot(wish) => Some(wish.task),
            Input::AskCheckpoint(ask) => Some(ask.task),
            Input::ReadView(ReadView {
                query: ViewQuery::Scan(ViewScan { limit: Some(0), .. }),
                ..
            }) => return Err(ApiMisuse::ZeroLimit("limit")),
            Input::ReadView(read) => Some(read.task),
            Input::AskReaction(ask) => Some(ask.task),
            Input::Tick if !self.idle => return Err(ApiMisuse::NotDrained),
            Input::Answer(answer)
                if answer.request.0 > self.last_request || answer.request.0 == 0 =>
            {
                return Err(ApiMisuse::UnknownRequest(answer.request));
            }
            _ => None,
        };
        match started {
            Some(task) if self.tasks.contains_key(&task) => Err(ApiMisuse::TaskInUse(task)),
            _ => Ok(()),
        }
    }

    /// The next thing to do for the host. Poll until [`Output::Idle`].
    pub fn poll_output(&mut self) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if let Some(task) = self.ready.pop_front() {
                self.step(task);
                continue;
            }
            let release = self.released.take();
            if release != crate::protocol::Release::default() {
                self.free_copies.extend(&release.copies);
                return Output::Release(release);
            }
            debug_assert_eq!(
                self.asked,
                self.tasks.values().filter(|task| task.has_asked()).count()
            );
            // What comes of the answers may go into the same load and the same append.
            if self.asked > 0 {
                return Output::AwaitDomain;
            }
            if matches!(self.store, Store::Unknown)
                && (self.last_request == 0 || !self.tasks.is_empty())
            {
                self.open(None);
                continue;
            }
            if matches!(self.store, Store::Open(_)) {
                if !self.wishes.is_empty() {
                    self.send_load();
                    continue;
                }
                if !self.view_wishes.is_empty() {
                    self.send_view_reads();
                    continue;
                }
                if self.in_flight.is_none() && !self.staged.is_empty() {
                    self.send_append();
                    continue;
                }
                // Whatever somebody waits for goes first.
                if let Some(runner) = self.ready_runners.pop_front() {
                    self.step_runner(runner);
                    continue;
                }
                if let Some(reactor) = self.ready_reactors.pop_front() {
                    self.step_reactor(reactor);
                    continue;
                }
                if !self.keeping && !self.to_keep.is_empty() {
                    self.send_snapshots();
                    continue;
                }
            }
            self.idle = true;
            return Output::Idle { wake_at: self.timers.first().map(|(at, _)| *at) };
        }
    }

    fn step(&mut self, task: TaskId) {
        match self.tasks.get(&task) {
            Some(Task::Command(_)) => self.step_command(task),
            Some(Task::Read(_)) => self.step_read(task),
            Some(Task::Subscription(_)) => self.step_subscription(task),
            Some(Task::View(_)) => self.step_view(task),
            Some(Task::Checkpoint(_)) => self.step_checkpoint(task),
            Some(Task::Reaction(_)) => self.step_reaction_read(task),
            None => {}
        }
    }

    #[inline(never)]
    fn cancel(&mut self, task: TaskId) {
        match self.tasks.get(&task) {
            Some(Task::Command(_)) => self.cancel_command(task),
            Some(Task::Read(_)) => self.cancel_read(task),
            Some(Task::Subscription(_)) => self.cancel_subscription(task),
            Some(Task::View(_)) => self.finish_view(task, Err(ReadError::Cancelled)),
            Some(Task::Checkpoint(_)) => self.finish_checkpoint(task, Err(ReadError::Cancelled)),
            Some(Task::Reaction(_)) => self.finish_reaction_read(task, Err(ReadError::Cancelled)),
            // The task has ended while the host was asking.
            None => {}
        }
    }

    #[inline(never)]
    fn handle_domain(&mut self, answer: DomainAnswer) {
        let DomainAnswer { task, question, result } = answer;
        let after = match &result {
            DomainResult::Decided(_, after) => Some(self.hosted_state(*after)),
            _ => None,
        };
        // The task may have been given up, or taken back, while the host was at work.
        if let Some(Task::Command(found)) = self.tasks.get(&task)
            && found.waits_for(question)
        {
            self.command_answered(task, result, after);
        }
    }

    // -----------------------------------------------------------------------------------------
    // The store

    fn open(&mut self, before: Option<crate::protocol::Epoch>) {
        self.store = Store::Opening { before };
        self.send(StorageBody::Info, Purpose::Info);
    }

    #[inline(never)]
    fn opened(&mut self, info: Info) {
        if let Store::Opening { before: Some(before) } = &self.store
            && *before == info.epoch
        {
            let error = StorageError::permanent(
                StorageErrorCode::ForeignEpoch,
                "the store refuses the epoch it says it has",
            );
            return self.open_failed(error);
        }
        self.store = Store::Open(info.clone());
        self.notice(Notice::Opened(info));
        let tasks = self.tasks_by_age();
        self.ready.extend(tasks.iter().map(|(_, task)| *task));
        self.wake_runners();
        self.wake_reactors();
    }

    fn tasks_by_age(&self) -> ByAge {
        // Inserted one by one: a sort would be kilobytes of code, for what happens once.
        let mut tasks = ByAge::default();
        for (id, task) in &self.tasks {
            tasks.insert((task.serial(), *id));
        }
        tasks
    }

    #[inline(never)]
    fn open_failed(&mut self, error: StorageError) {
        self.store = Store::Unknown;
        self.notice(Notice::OpenFailed(error.clone()));
        for (_, task) in self.tasks_by_age().iter() {
            self.fail_task(*task, error.clone());
        }
    }

    /// The store was replaced under us: what we know of it is of another life.
    #[inline(never)]
    fn foreign_epoch(&mut self, refused: RequestId) {
        let Store::Open(info) = &self.store else {
            return;
        };
        let before = info.epoch.clone();
        self.streams.forget_states();
        self.wishes.clear();
        self.forget_snapshots();
        let maybe_applied = self.append_may_be_applied(refused);
        while let Some(pending) = self.pending.first() {
            self.drop_pending(pending.id);
        }
        self.unstage_all(maybe_applied);
        let error = StorageError::permanent(
            StorageErrorCode::ForeignEpoch,
            "the store was replaced or restored; its positions mean something else",
        );
        self.restart_runners();
        self.restart_reactors();
        for (_, id) in self.tasks_by_age().iter() {
            match self.tasks.get_mut(id) {
                Some(Task::Command(task)) => {
                    self.asked -= usize::from(task.has_asked());
                    task.forget_reads();
                }
                Some(_) => self.fail_task(*id, error.clone()),
                None => {}
            }
        }
        self.open(Some(before));
    }

    fn fail_task(&mut self, task: TaskId, error: StorageError) {
        match self.tasks.get(&task) {
            Some(Task::Command(_)) => self.finish_command(task, Err(error.into())),
            Some(Task::Read(_)) => self.finish_read(task, Err(error.into())),
            Some(Task::Subscription(_)) => self.end_subscription(task, Err(error.into())),
            Some(Task::View(_)) => self.finish_view(task, Err(error.into())),
            Some(Task::Checkpoint(_)) => self.finish_checkpoint(task, Err(error.into())),
            Some(Task::Reaction(_)) => self.finish_reaction_read(task, Err(error.into())),
            None => {}
        }
    }

    // -----------------------------------------------------------------------------------------
    // What all tasks share

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn domain(&self, aggregate: AggregateIndex) -> &Domain {
        &self.config.aggregates[aggregate.0 as usize].domain
    }

    fn aggregate_index(&self, name: &str) -> Option<AggregateIndex> {
        let index = self.config.aggregates.iter().position(|a| *a.name == *name)?;
        Some(AggregateIndex(u32::try_from(index).expect("fewer than 2^32 aggregates")))
    }

    /// The number of the projection with this name.
    pub(crate) fn projection_index(&self, name: &str) -> Option<ProjectionIndex> {
        let index = self.config.projections.iter().position(|known| *known.name == *name)?;
        Some(ProjectionIndex(u32::try_from(index).expect("fewer than 2^32 projections")))
    }

    fn initial_state(&self, aggregate: AggregateIndex) -> State {
        State(match self.domain(aggregate) {
            Domain::Native(native) => StateKind::Native(native.initial()),
            Domain::Hosted => return self.hosted_state(Handle::INITIAL),
        })
    }

    /// A state that the host keeps.
    fn hosted_state(&self, handle: Handle) -> State {
        State(StateKind::Hosted(HandleLease::new(handle, &self.released)))
    }

    /// Tells a task from an earlier one with its number, and the older of two.
    fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    fn keep(&self, page: Page) -> KeptPage {
        match page {
            Page::Events(events) => KeptPage::Events(erased(Rc::new(events))),
            Page::Rows { page, rows } => {
                let lease = PageLease::new(page, rows.len() as u32, &self.released);
                KeptPage::Rows(Rc::new((lease, rows)))
            }
            Page::Messages { forms, data } => KeptPage::Messages(forms, data),
            Page::Held { page, count } => {
                KeptPage::Held(PageLease::new(page, count, &self.released))
            }
        }
    }

    fn set_timer(&mut self, after_millis: u64, timer: Timer) -> Timestamp {
        let at = self.now.plus(after_millis);
        self.timers.insert((at, timer));
        at
    }

    fn fire_timers(&mut self) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= self.now
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Request(request) => self.request_timer(request, at),
                Timer::Command(task) => self.back_off_over(task),
                Timer::Subscription(task) => self.look_again(task, at),
                Timer::Runner(runner) => self.runner_timer(runner, at),
                Timer::Reactor(reactor) => self.reactor_timer(reactor, at),
            }
        }
    }

    #[cfg(any(test, feature = "testing"))]
    fn mutant(&self, mutation: Mutation) -> bool {
        self.config.mutation == Some(mutation)
    }
}

/// Whether this build shows a defect: never, outside tests of the tests.
macro_rules! mutant {
    ($engine:expr, $mutation:ident) => {{
        #[cfg(any(test, feature = "testing"))]
        let shown = $engine.mutant($crate::engine::Mutation::$mutation);
        #[cfg(not(any(test, feature = "testing")))]
        let shown = false;
        shown
    }};
}
use mutant;

impl StorageBody {
    fn fits(&self, answer: &StorageAnswer) -> Result<(), &'static str> {
        match (self, answer) {
            (Self::Info, StorageAnswer::Info(_))
            | (Self::ReadLog(_), StorageAnswer::Log(_))
            | (Self::SaveDocuments(_), StorageAnswer::Saved(_)) => Ok(()),
            (Self::ReadDocuments(read), StorageAnswer::Documents(found)) => {
                if found.documents.len() == read.names.len()
                    && found.scans.len() == read.scans.len()
                {
                    Ok(())
                } else {
                    Err("an entry per name and range")
                }
            }
            (Self::Append(append), StorageAnswer::Appended(verdicts)) => {
                if verdicts.len() == append.commits.len() {
                    Ok(())
                } else {
                    Err("a verdict per commit")
                }
            }
            (Self::Load(load), StorageAnswer::Loaded(loaded)) => {
                if loaded.commands.len() == load.commands.len()
                    && loaded.streams.len() == load.streams.len()
                    && loaded.queries.len() == load.queries.len()
                {
                    Ok(())
                } else {
                    Err("an entry per command, stream and query")
                }
            }
            _ => Err("an answer of the request's kind"),
        }
    }
}
