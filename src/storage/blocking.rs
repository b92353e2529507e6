//! The engine over a store that answers at once.

use std::rc::Rc;
use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::engine::Config;
use crate::error::{ApiMisuse, Error};
use crate::event::TaskId;
use crate::manager::{NativeManager, ProcessManager};
use crate::projection::Projection;
use crate::protocol::{
    Answer, CheckpointWish, Input, LogFilter, LogStart, Output, React, Reacted, Reacting,
    ReactionAction, ReactionRead, ReadAt, ViewAction, ViewAt, ViewQuery, ViewRead, ViewScan,
    ViewStatus,
};
use crate::reaction::ReactionDefinition;
use crate::stream::{Position, Revision};
use crate::time::Timestamp;

use super::driver::{
    Clock, CommandOptions, Diff, Documents, Driver, Events, Executed, NamedEvents, Occasion, Reach,
    Read, Report, compare, documents, key_of,
};
use super::{StorageAdapter, Subscription, Watcher};

/// An engine with a blocking store.
///
/// # A counter, counted and read back
///
/// ```
/// use annals::protocol::ReadAt;
/// use annals::storage::{Annals, Clock, CommandOptions, MemoryStore};
/// use annals::{Aggregate, AggregateDefinition, ChangeKind, Config, Context, Revision, Timestamp};
/// use serde::{Deserialize, Serialize};
///
/// struct Counter;
/// #[derive(Serialize, Deserialize)]
/// enum Command { Add { amount: u32 } }
/// #[derive(Serialize, Deserialize)]
/// enum Event { Added { amount: u32 } }
///
/// impl Aggregate for Counter {
///     const TYPE: &'static str = "Counter";
///     type State = u32;
///     type Command = Command;
///     type Event = Event;
///     type Refusal = ();
///     fn initial() -> u32 { 0 }
///     fn decide(_: &u32, command: &Command, _: &Context<'_>) -> Result<Vec<Event>, ()> {
///         let Command::Add { amount } = command;
///         Ok(vec![Event::Added { amount: *amount }])
///     }
///     fn evolve(state: u32, event: &Event) -> u32 {
///         let Event::Added { amount } = event;
///         state + amount
///     }
/// }
///
/// struct Noon;
/// impl Clock for Noon {
///     fn now(&self) -> Timestamp { Timestamp::from_millis(43_200_000) }
///     fn sleep(&mut self, _: u64) {}
/// }
///
/// let config = Config::new([7; 32], vec![AggregateDefinition::native::<Counter>()]);
/// let mut annals = Annals::new(config, MemoryStore::new("store-1"), Noon)?;
/// annals.execute::<Counter>("c-1", &Command::Add { amount: 2 }, CommandOptions::default())?;
/// let done = annals.execute::<Counter>("c-1", &Command::Add { amount: 3 }, CommandOptions::default())?;
/// assert_eq!((done.state, done.revision.0), (5, 2));
/// assert_eq!(annals.history::<Counter>("c-1", ReadAt::Now)?.events.len(), 2);
///
/// let diff = annals.diff::<Counter>("c-1", ReadAt::Revision(Revision(1)), ReadAt::Now)?;
/// assert_eq!(diff.changes[0].kind, ChangeKind::Changed { before: 2.into(), after: 5.into() });
/// assert_eq!(diff.events.len(), 1);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Debug)]
pub struct Annals<S, C> {
    pub(super) driver: Driver,
    store: S,
    clock: C,
    reactions: Vec<Reaction>,
}

/// A reaction, and the function that handles its events. It is called when the engine is served; an error
/// says why an event could not be handled.
pub struct Reaction {
    definition: ReactionDefinition,
    handler: Handler,
}

enum Handler {
    #[allow(clippy::type_complexity, reason = "a function is given an event and may fail")]
    Function(Box<dyn FnMut(Occasion<'_>) -> Result<(), String>>),
    Manager(Rc<dyn NativeManager>),
}

impl Reaction {
    /// A reaction with its function.
    pub fn new(
        definition: ReactionDefinition,
        handle: impl FnMut(Occasion<'_>) -> Result<(), String> + 'static,
    ) -> Self {
        Self { definition, handler: Handler::Function(Box::new(handle)) }
    }

    /// The reaction of a process manager.
    #[must_use]
    pub fn manager<M: ProcessManager>() -> Self {
        let handler = Handler::Manager(crate::manager::native::<M>());
        Self { definition: ReactionDefinition::manager::<M>(), handler }
    }
}

impl std::fmt::Debug for Reaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.definition.fmt(f)
    }
}

/// The operating system's clock.
#[cfg(feature = "native")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[cfg(feature = "native")]
#[allow(clippy::disallowed_methods, reason = "a host's clock, behind a feature, outside the core")]
impl Clock for SystemClock {
    fn now(&self) -> crate::Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        crate::Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn sleep(&mut self, millis: u64) {
        std::thread::sleep(std::time::Duration::from_millis(millis));
    }
}

impl<S: StorageAdapter, C: Clock> Annals<S, C> {
    /// An engine with this configuration over this store.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn new(config: Config, store: S, clock: C) -> Result<Self, ApiMisuse> {
        Self::with_reactions(config, store, clock, Vec::new())
    }

    /// The same with reactions, which are added to the configuration.
    ///
    /// # Errors
    /// If the configuration can't be used; also if it has reactions already, whose functions nobody knows.
    pub fn with_reactions(
        mut config: Config,
        store: S,
        clock: C,
        reactions: Vec<Reaction>,
    ) -> Result<Self, ApiMisuse> {
        if let Some(reaction) = config.reactions.first() {
            return Err(ApiMisuse::NoHandler(Arc::clone(&reaction.name)));
        }
        config.reactions = reactions.iter().map(|reaction| reaction.definition.clone()).collect();
        Ok(Self { driver: Driver::new(config)?, store, clock, reactions })
    }

    /// How a reaction is, after something has been done with it.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why that can't be told.
    pub fn reaction(
        &mut self,
        name: &str,
        action: Option<ReactionAction>,
    ) -> Result<ReactionRead, Error> {
        let task = self.driver.ask_reaction(self.clock.now(), name, action)?;
        Ok(self.run(|driver| driver.reaction_read(task))??)
    }

    /// Serves the engine for so many milliseconds: views catch up, and reactions run.
    ///
    /// # Errors
    /// Never but for a bug.
    pub fn serve(&mut self, millis: u64) -> Result<(), Error> {
        self.serve_for(millis, |_| None::<()>)?;
        Ok(())
    }

    /// Serves the engine until there is something, or so many milliseconds have passed.
    pub(super) fn serve_for<T>(
        &mut self,
        millis: u64,
        mut answer: impl FnMut(&mut Driver) -> Option<T>,
    ) -> Result<Option<T>, ApiMisuse> {
        let until = self.now().plus(millis);
        loop {
            match self.driver.poll() {
                Some(Output::Idle { wake_at }) => {
                    let answer = answer(&mut self.driver);
                    let now = self.now();
                    if answer.is_some() || now >= until {
                        return Ok(answer);
                    }
                    let at = wake_at.map_or(until, |at| at.min(until));
                    let pause = at.millis() - now.millis();
                    self.clock.sleep(u64::try_from(pause).unwrap_or(0).max(1));
                    self.driver.engine.handle_input(self.clock.now().max(at), Input::Tick)?;
                }
                output => self.handle(output)?,
            }
        }
    }

    /// The engine's time: the clock's, but that it never goes back.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().max(self.driver.engine.now())
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Gives the store back.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Gives a command to the aggregate `id` of type `A`.
    ///
    /// # Errors
    /// [`CommandError`](crate::CommandError) says why it had no outcome.
    pub fn execute<A: Aggregate>(
        &mut self,
        id: &str,
        command: &A::Command,
        options: CommandOptions,
    ) -> Result<Executed<A>, Error> {
        let task = self.driver.execute::<A>(self.clock.now(), id, command, options)?;
        Ok(self.run(|driver| driver.executed(task))??)
    }

    /// Gives many commands at once; they share appends. The results come in the commands' order.
    ///
    /// # Errors
    /// If a command can't be written; none of them is given then. What a single command meets is in its result.
    pub fn execute_all<'c, A: Aggregate>(
        &mut self,
        commands: impl IntoIterator<Item = (&'c str, &'c A::Command, CommandOptions)>,
    ) -> Result<Vec<Result<Executed<A>, crate::CommandError>>, Error> {
        let mut tasks: Vec<TaskId> = Vec::new();
        for (id, command, options) in commands {
            match self.driver.execute::<A>(self.clock.now(), id, command, options) {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    // All or none: those given before have not been looked at yet.
                    for task in tasks {
                        self.driver.forget(self.clock.now(), task)?;
                    }
                    return Err(error);
                }
            }
        }
        tasks.into_iter().map(|task| Ok(self.run(|driver| driver.executed(task))?)).collect()
    }

    /// The state of the aggregate `id` of type `A`.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn state<A: Aggregate>(&mut self, id: &str, at: ReadAt) -> Result<Read<A>, Error> {
        let task = self.driver.read::<A>(self.clock.now(), id, at, false)?;
        Ok(self.run(|driver| driver.state_read(task))??)
    }

    /// The state of the aggregate `id` of type `A`, and every event that led to it.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn history<A: Aggregate>(&mut self, id: &str, at: ReadAt) -> Result<Read<A>, Error> {
        let task = self.driver.read::<A>(self.clock.now(), id, at, true)?;
        Ok(self.run(|driver| driver.state_read(task))??)
    }

    /// What has become of the aggregate `id` of type `A` between two points: which parts of its state
    /// have changed, and by which events. Both are read at once. The first must not be after the
    /// second.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) and [`DiffError`](crate::DiffError) say why it can't be told.
    pub fn diff<A: Aggregate>(
        &mut self,
        id: &str,
        from: ReadAt,
        to: ReadAt,
    ) -> Result<Diff<A::State>, Error> {
        let (from, to) = self.driver.read_both::<A>(self.clock.now(), id, from, to)?;
        let from = self.run(|driver| driver.state_read(from))?;
        // Both answers are fetched, whatever they are: nobody else does.
        let to = self.run(|driver| driver.state_read(to))?;
        Ok(compare::<A>(id, from?, to?)?)
    }

    /// Keeps the state of the aggregate `id` of type `A` as a snapshot, whatever its policy, and gives the
    /// revision it is the state at. A stream without events has none, and nothing is kept.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it was not kept.
    pub fn snapshot<A: Aggregate>(&mut self, id: &str) -> Result<Revision, Error> {
        let task = self.driver.take_snapshot::<A>(self.clock.now(), id)?;
        Ok(self.run(|driver| driver.snapshot_taken(task))??)
    }

    /// The document with this key of the view of `P`; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn document<P: Projection>(
        &mut self,
        key: &str,
        at: ViewAt,
    ) -> Result<Option<P::Document>, Error> {
        let read = self.ask_view::<P>(at, ViewQuery::Get(key.into()))?;
        let found = documents::<P>(read)?.documents.pop();
        Ok(found.map(|listed| listed.document))
    }

    /// Documents of the view of `P`, or their number.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why they can't be read.
    pub fn documents<P: Projection>(
        &mut self,
        scan: ViewScan,
        at: ViewAt,
    ) -> Result<Documents<P::Document>, Error> {
        let read = self.ask_view::<P>(at, ViewQuery::Scan(scan))?;
        Ok(documents::<P>(read)?)
    }

    /// How far the view of `P` has come, once it has come as far as is asked.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it does not come so far.
    pub fn view_status<P: Projection>(&mut self, at: ViewAt) -> Result<ViewStatus, Error> {
        Ok(self.ask_view::<P>(at, ViewQuery::Status)?.status)
    }

    /// Pauses the view of `P`: it takes in nothing more until it is resumed.
    ///
    /// # Errors
    /// Never but for a bug.
    pub fn pause_view<P: Projection>(&mut self) -> Result<(), Error> {
        Ok(self.driver.control_view::<P>(self.clock.now(), ViewAction::Pause)?)
    }

    /// Lets the view of `P` go on. One that has stopped tries again.
    ///
    /// # Errors
    /// Never but for a bug.
    pub fn resume_view<P: Projection>(&mut self) -> Result<(), Error> {
        Ok(self.driver.control_view::<P>(self.clock.now(), ViewAction::Resume)?)
    }

    /// Gives up the view of `P` if it is being built: what has been built of this version is taken away, and no
    /// engine goes on with it until one is told to [resume](Self::resume_view). An older version is shown as
    /// before. Gives how it is then; a view that has been built is left as it is.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why the store did not do it; it is tried again.
    pub fn cancel_view<P: Projection>(&mut self) -> Result<ViewStatus, Error> {
        self.driver.control_view::<P>(self.clock.now(), ViewAction::Cancel)?;
        self.view_status::<P>(ViewAt::Reached)
    }

    fn ask_view<P: Projection>(&mut self, at: ViewAt, query: ViewQuery) -> Result<ViewRead, Error> {
        let task = self.driver.ask_view::<P>(self.clock.now(), at, query)?;
        Ok(self.run(|driver| driver.view_read(task))??)
    }

    /// What there is to report since this was called last: changes no answer, and an operator may want
    /// to know. At most the newest 256.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.driver.take_reports()
    }

    /// A page of the log: events after a position that pass the filter; `None` at its end.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn events(
        &mut self,
        after: Position,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Option<Events>, Error> {
        let start = LogStart::After(after);
        self.page_of(start, filter, limit, Reach::End)
    }

    /// A page of the log backwards: events before a position that pass the filter, the last one first;
    /// from the log's end if there is none. `None` at its beginning.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn events_before(
        &mut self,
        before: Option<Position>,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Option<Events>, Error> {
        let start = before.map_or(LogStart::Now, LogStart::After);
        self.page_of(start, filter, limit, Reach::Beginning)
    }

    /// The events of the log that pass the filter, in order and each once: those after where it starts,
    /// then those to come, as [`Subscription::next`] waits for them. At most `limit` are read at once, when
    /// the reader has used up those before. With [`LogStart::Now`] what comes after this call is read.
    ///
    /// # What others write, as long as the work goes on
    ///
    /// ```
    /// # use annals::protocol::{LogFilter, LogStart};
    /// # use annals::storage::{Annals, Clock, StorageAdapter};
    /// # use annals::{Error, Position};
    /// # fn show(_: &annals::RecordedEvent) {}
    /// fn show_all<S: StorageAdapter, C: Clock>(
    ///     annals: &mut Annals<S, C>,
    ///     goes_on: impl Fn() -> bool,
    /// ) -> Result<(), Error> {
    ///     let start = LogStart::After(Position(0));
    ///     let mut events = annals.subscribe(start, LogFilter::default(), 100)?;
    ///     while goes_on() {
    ///         if let Some(event) = events.next(annals, 1_000)? {
    ///             show(&event);
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// If `limit` is 0.
    pub fn subscribe(
        &mut self,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Subscription, Error> {
        self.follow(None, start, filter, limit)
    }

    /// The same under a name: the store keeps a checkpoint, and one reader of the name goes on where the
    /// one before has left off. Only the first starts where `start` says. An event has been handled when
    /// the next is asked for. The checkpoint is moved before another page is read, and when the reader
    /// leaves: after a crash the events of a page come again. Of two readers with one name the slower ends
    /// with [`ReadError::SubscriptionMoved`](crate::ReadError::SubscriptionMoved).
    ///
    /// # Errors
    /// If `limit` is 0.
    pub fn subscribe_as(
        &mut self,
        name: &str,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Subscription, Error> {
        self.follow(Some(name), start, filter, limit)
    }

    fn follow(
        &mut self,
        name: Option<&str>,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Subscription, Error> {
        let reading = self.driver.follow(self.clock.now(), name, start, filter, limit)?;
        // Where it begins is known before anything else happens.
        self.serve_for(0, |_| None::<()>)?;
        Ok(Subscription::new(reading))
    }

    /// Tells whether the view of `P` has moved: see [`Watcher::changed`]. Of a live view an engine knows
    /// that when it has been asked for it, and appends more events itself.
    ///
    /// # Errors
    /// If the engine has no such projection.
    pub fn watch<P: Projection>(&self) -> Result<Watcher, Error> {
        Ok(Watcher::new(self.driver.watch::<P>()?))
    }

    fn page_of(
        &mut self,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
        reach: Reach,
    ) -> Result<Option<Events>, Error> {
        let now = self.clock.now();
        let task = self.driver.subscribe(now, None, start, filter, limit, reach)?;
        let page = self.run(|driver| driver.page(task))??;
        self.driver.forget(self.clock.now(), task)?;
        Ok(page)
    }

    /// The next page of a named subscription: events after its checkpoint that pass the filter;
    /// `None` at the log's end. The first time, it starts where `start` says. The same page comes again
    /// until [`handled`](Self::handled) is told of it.
    ///
    /// # What is sent once, and after a crash perhaps once more
    ///
    /// ```
    /// # use annals::protocol::{LogFilter, LogStart};
    /// # use annals::storage::{Annals, Clock, CommandOptions, StorageAdapter};
    /// # use annals::{Error, Position};
    /// # fn send(_: &annals::RecordedEvent) {}
    /// fn send_what_is_new<S: StorageAdapter, C: Clock>(annals: &mut Annals<S, C>) -> Result<(), Error> {
    ///     let start = LogStart::After(Position(0));
    ///     while let Some(page) = annals.next_events("mails", start, LogFilter::default(), 100)? {
    ///         page.events.iter().for_each(send);
    ///         annals.handled(&page)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn next_events(
        &mut self,
        name: &str,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Option<NamedEvents>, Error> {
        let now = self.clock.now();
        let task = self.driver.subscribe(now, Some(name), start, filter, limit, Reach::End)?;
        let page = self.run(|driver| driver.named_page(task, name))??;
        self.driver.forget(self.clock.now(), task)?;
        Ok(page)
    }

    /// Moves the checkpoint of a named subscription past a page.
    ///
    /// # Errors
    /// [`ReadError::SubscriptionMoved`](crate::ReadError::SubscriptionMoved) if the checkpoint is no
    /// longer where it was when the page was read; another [`ReadError`](crate::ReadError) if it can't be
    /// stored.
    pub fn handled(&mut self, page: &NamedEvents) -> Result<(), Error> {
        let wish = CheckpointWish::Advance { from: page.checkpoint, to: page.next };
        self.ask_checkpoint(&page.name, wish).map(|_| ())
    }

    /// The checkpoint of a named subscription: all up to here has been handled. It may be some way
    /// behind where no event passes the filter.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub fn checkpoint(&mut self, name: &str) -> Result<Option<Position>, Error> {
        self.ask_checkpoint(name, CheckpointWish::Read)
    }

    /// Puts the checkpoint of a named subscription somewhere else, and gives the position. Whoever
    /// reads under the name is told when its own progress is next stored.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it was not put there.
    pub fn set_checkpoint(&mut self, name: &str, to: LogStart) -> Result<Position, Error> {
        let at = self.ask_checkpoint(name, CheckpointWish::Set(to))?;
        Ok(at.expect("where it has been put"))
    }

    /// Takes the checkpoint of a named subscription away, as if it had never been read.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it was not taken away.
    pub fn forget_checkpoint(&mut self, name: &str) -> Result<(), Error> {
        self.ask_checkpoint(name, CheckpointWish::Forget).map(|_| ())
    }

    fn ask_checkpoint(
        &mut self,
        name: &str,
        wish: CheckpointWish,
    ) -> Result<Option<Position>, Error> {
        let task = self.driver.ask_checkpoint(self.clock.now(), name, wish)?;
        Ok(self.run(|driver| driver.checkpoint(task))??)
    }

    /// Serves the engine until the answer is there.
    pub(super) fn run<T>(
        &mut self,
        mut answer: impl FnMut(&mut Driver) -> Option<T>,
    ) -> Result<T, ApiMisuse> {
        loop {
            match self.driver.poll() {
                Some(Output::Idle { wake_at }) => {
                    if let Some(answer) = answer(&mut self.driver) {
                        return Ok(answer);
                    }
                    let at = wake_at.expect("a task that is not done waits for something");
                    let pause = at.millis() - self.driver.engine.now().millis();
                    self.clock.sleep(u64::try_from(pause).unwrap_or(0));
                    self.driver.engine.handle_input(at.max(self.clock.now()), Input::Tick)?;
                }
                output => self.handle(output)?,
            }
        }
    }

    fn handle(&mut self, output: Option<Output>) -> Result<(), ApiMisuse> {
        match output {
            Some(Output::Storage(request)) => {
                let result = self.store.call(&request);
                let answer = Answer { request: request.id, attempt: request.attempt, result };
                self.driver.engine.handle_input(self.clock.now(), Input::Answer(answer))
            }
            Some(Output::React(react)) => {
                let Reaction { definition, handler } =
                    &mut self.reactions[react.reaction.0 as usize];
                let handle = match handler {
                    Handler::Function(handle) => handle,
                    Handler::Manager(manager) => {
                        return self.driver.manage(self.clock.now(), &**manager, &react);
                    }
                };
                let React { run, attempt, event: Reacting::Event(event), .. } = react else {
                    unreachable!("a native store gives whole events")
                };
                let key = key_of(&definition.name, &event);
                let result = handle(Occasion { event: &event, key: &key, attempt });
                let result = result.map(|()| Vec::new()).map_err(Arc::from);
                let reacted = Input::Reacted(Reacted { run, result });
                self.driver.engine.handle_input(self.clock.now(), reacted)
            }
            Some(
                Output::Domain(_) | Output::AwaitDomain | Output::Project(_) | Output::Correlate(_),
            ) => {
                unreachable!("aggregates, projections and process managers are native")
            }
            Some(Output::Idle { .. } | Output::Notice(_) | Output::Release(_)) | None => Ok(()),
        }
    }
}
