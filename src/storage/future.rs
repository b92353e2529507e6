//! The engine over a store that takes its time, on any executor.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::aggregate::Aggregate;
use crate::engine::Config;
use crate::error::{ApiMisuse, Error, StorageError};
use crate::event::TaskId;
use crate::manager::{NativeManager, ProcessManager};
use crate::projection::Projection;
use crate::protocol::{
    Answer, CheckpointWish, Input, LogFilter, LogStart, Output, React, Reacted, Reacting,
    ReactionAction, ReactionRead, ReadAt, RequestId, StorageAnswer, ViewAction, ViewAt, ViewQuery,
    ViewRead, ViewScan, ViewStatus,
};
use crate::reaction::ReactionDefinition;
use crate::stream::{Position, Revision};
use crate::time::Timestamp;

use super::driver::{
    CommandOptions, Diff, Documents, Driver, Events, Executed, NamedEvents, Occasion, Reach, Read,
    Report, compare, documents, key_of,
};
use super::{AsyncStorageAdapter, AsyncSubscription, AsyncWatcher, LocalFuture};

/// The host's time, for a host that must not block.
pub trait Runtime {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Is ready after so many milliseconds. Not at a time: clocks are set back.
    fn sleep(&self, millis: u64) -> LocalFuture<()>;
}

/// An engine with an asynchronous store. Clones share it, and their commands share appends.
///
/// It spawns nothing: whichever of its futures is polled serves the store for all of them.
pub struct AsyncAnnals<S, R> {
    shared: Rc<Shared<S, R>>,
}

impl<S, R> Clone for AsyncAnnals<S, R> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

impl<S, R> fmt::Debug for AsyncAnnals<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncAnnals").finish_non_exhaustive()
    }
}

type Call = Pin<Box<dyn Future<Output = Result<StorageAnswer, StorageError>>>>;

struct Shared<S, R> {
    reactions: Vec<AsyncReaction>,
    store: S,
    runtime: R,
    wakers: Arc<Wakers>,
    inner: RefCell<Inner>,
}

/// A reaction, and the function that handles its events. An error says why an event could not be
/// handled.
pub struct AsyncReaction {
    definition: ReactionDefinition,
    handler: Handler,
}

enum Handler {
    #[allow(clippy::type_complexity, reason = "a function is given an event and may fail")]
    Function(Box<dyn Fn(Occasion<'_>) -> LocalFuture<Result<(), String>>>),
    Manager(Rc<dyn NativeManager>),
}

impl AsyncReaction {
    /// A reaction with its function.
    pub fn new(
        definition: ReactionDefinition,
        handle: impl Fn(Occasion<'_>) -> LocalFuture<Result<(), String>> + 'static,
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

impl fmt::Debug for AsyncReaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.definition.fmt(f)
    }
}

struct Inner {
    driver: Driver,
    /// Events that are being handled, by their runs.
    reacting: Vec<(u64, LocalFuture<Result<(), String>>)>,
    calls: Vec<(RequestId, u32, Call)>,
    alarm: Option<(Timestamp, LocalFuture<()>)>,
}

/// Wakes every future of the engine: any of them can serve the others.
#[derive(Default)]
struct Wakers(Mutex<Vec<Waker>>);

impl Wakers {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl<S: AsyncStorageAdapter, R: Runtime> AsyncAnnals<S, R> {
    /// An engine with this configuration over this store.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn new(config: Config, store: S, runtime: R) -> Result<Self, ApiMisuse> {
        Self::with_reactions(config, store, runtime, Vec::new())
    }

    /// The same with reactions, which are added to the configuration.
    ///
    /// # Errors
    /// If the configuration can't be used; also if it has reactions already, whose functions nobody knows.
    pub fn with_reactions(
        mut config: Config,
        store: S,
        runtime: R,
        reactions: Vec<AsyncReaction>,
    ) -> Result<Self, ApiMisuse> {
        if let Some(reaction) = config.reactions.first() {
            return Err(ApiMisuse::NoHandler(Arc::clone(&reaction.name)));
        }
        config.reactions = reactions.iter().map(|reaction| reaction.definition.clone()).collect();
        let (calls, reacting) = (Vec::new(), Vec::new());
        let inner = Inner { driver: Driver::new(config)?, reacting, calls, alarm: None };
        let (wakers, inner) = (Arc::default(), RefCell::new(inner));
        Ok(Self { shared: Rc::new(Shared { reactions, store, runtime, wakers, inner }) })
    }

    /// How a reaction is, after something has been done with it.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why that can't be told.
    pub async fn reaction(
        &self,
        name: &str,
        action: Option<ReactionAction>,
    ) -> Result<ReactionRead, Error> {
        let task = self.start(|driver, now| driver.ask_reaction(now, name, action))?;
        Ok(self.finish(task, |driver| driver.reaction_read(task)).await??)
    }

    /// Serves the engine: views catch up, and reactions run. It never ends.
    ///
    /// # Errors
    /// Never but for a bug.
    pub async fn serve(&self) -> Result<(), Error> {
        poll_fn(|context| {
            self.shared.wakers.add(context.waker());
            let mut inner = self.shared.inner.borrow_mut();
            match self.serve_once(&mut inner) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            }
        })
        .await
    }

    /// Gives a command to the aggregate `id` of type `A`. Dropping the future gives the command up
    /// if it is not on its way to the store yet.
    ///
    /// # Errors
    /// [`CommandError`](crate::CommandError) says why it had no outcome.
    pub async fn execute<A: Aggregate>(
        &self,
        id: &str,
        command: &A::Command,
        options: CommandOptions,
    ) -> Result<Executed<A>, Error> {
        let task = self.start(|driver, now| driver.execute::<A>(now, id, command, options))?;
        Ok(self.finish(task, |driver| driver.executed(task)).await??)
    }

    /// The state of the aggregate `id` of type `A`.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn state<A: Aggregate>(&self, id: &str, at: ReadAt) -> Result<Read<A>, Error> {
        let task = self.start(|driver, now| driver.read::<A>(now, id, at, false))?;
        Ok(self.finish(task, |driver| driver.state_read(task)).await??)
    }

    /// The state of the aggregate `id` of type `A`, and every event that led to it.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn history<A: Aggregate>(&self, id: &str, at: ReadAt) -> Result<Read<A>, Error> {
        let task = self.start(|driver, now| driver.read::<A>(now, id, at, true))?;
        Ok(self.finish(task, |driver| driver.state_read(task)).await??)
    }

    /// What has become of the aggregate `id` of type `A` between two points: which parts of its state
    /// have changed, and by which events. Both are read at once. The first must not be after the
    /// second.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) and [`DiffError`](crate::DiffError) say why it can't be told.
    pub async fn diff<A: Aggregate>(
        &self,
        id: &str,
        from: ReadAt,
        to: ReadAt,
    ) -> Result<Diff<A::State>, Error> {
        let (from, to) = self.start(|driver, now| driver.read_both::<A>(now, id, from, to))?;
        // Whatever becomes of the first, nothing of the second stays behind.
        let _ended = EndOnDrop { annals: self, task: to };
        let from = self.finish(from, |driver| driver.state_read(from)).await??;
        let to = self.finish(to, |driver| driver.state_read(to)).await??;
        Ok(compare::<A>(id, from, to)?)
    }

    /// Keeps the state of the aggregate `id` of type `A` as a snapshot, whatever its policy, and gives the
    /// revision it is the state at. A stream without events has none, and nothing is kept.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it was not kept.
    pub async fn snapshot<A: Aggregate>(&self, id: &str) -> Result<Revision, Error> {
        let task = self.start(|driver, now| driver.take_snapshot::<A>(now, id))?;
        Ok(self.finish(task, |driver| driver.snapshot_taken(task)).await??)
    }

    /// The document with this key of the view of `P`; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn document<P: Projection>(
        &self,
        key: &str,
        at: ViewAt,
    ) -> Result<Option<P::Document>, Error> {
        let read = self.ask_view::<P>(at, ViewQuery::Get(key.into())).await?;
        let found = documents::<P>(read)?.documents.pop();
        Ok(found.map(|listed| listed.document))
    }

    /// Documents of the view of `P`, or their number.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why they can't be read.
    pub async fn documents<P: Projection>(
        &self,
        scan: ViewScan,
        at: ViewAt,
    ) -> Result<Documents<P::Document>, Error> {
        let read = self.ask_view::<P>(at, ViewQuery::Scan(scan)).await?;
        Ok(documents::<P>(read)?)
    }

    /// How far the view of `P` has come, once it has come as far as is asked.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it does not come so far.
    pub async fn view_status<P: Projection>(&self, at: ViewAt) -> Result<ViewStatus, Error> {
        Ok(self.ask_view::<P>(at, ViewQuery::Status).await?.status)
    }

    /// Pauses the view of `P`: it takes in nothing more until it is resumed.
    ///
    /// # Errors
    /// Never but for a bug.
    pub fn pause_view<P: Projection>(&self) -> Result<(), Error> {
        Ok(self.tell(|driver, now| driver.control_view::<P>(now, ViewAction::Pause))?)
    }

    /// Lets the view of `P` go on. One that has stopped tries again.
    ///
    /// # Errors
    /// Never but for a bug.
    pub fn resume_view<P: Projection>(&self) -> Result<(), Error> {
        Ok(self.tell(|driver, now| driver.control_view::<P>(now, ViewAction::Resume))?)
    }

    /// Gives up the view of `P` if it is being built: what has been built of this version is taken away, and no
    /// engine goes on with it until one is told to [resume](Self::resume_view). An older version is shown as
    /// before. Gives how it is then; a view that has been built is left as it is.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why the store did not do it; it is tried again.
    pub async fn cancel_view<P: Projection>(&self) -> Result<ViewStatus, Error> {
        self.tell(|driver, now| driver.control_view::<P>(now, ViewAction::Cancel))?;
        self.view_status::<P>(ViewAt::Reached).await
    }

    async fn ask_view<P: Projection>(
        &self,
        at: ViewAt,
        query: ViewQuery,
    ) -> Result<ViewRead, Error> {
        let task = self.start(|driver, now| driver.ask_view::<P>(now, at, query))?;
        Ok(self.finish(task, |driver| driver.view_read(task)).await??)
    }

    /// What there is to report since this was called last: changes no answer, and an operator may want
    /// to know. At most the newest 256.
    pub fn take_reports(&self) -> Vec<Report> {
        self.shared.inner.borrow_mut().driver.take_reports()
    }

    /// A page of the log: events after a position that pass the filter; `None` at its end.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn events(
        &self,
        after: Position,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Option<Events>, Error> {
        let start = LogStart::After(after);
        self.page_of(start, filter, limit, Reach::End).await
    }

    /// A page of the log backwards: events before a position that pass the filter, the last one first;
    /// from the log's end if there is none. `None` at its beginning.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn events_before(
        &self,
        before: Option<Position>,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Option<Events>, Error> {
        let start = before.map_or(LogStart::Now, LogStart::After);
        self.page_of(start, filter, limit, Reach::Beginning).await
    }

    /// The events of the log that pass the filter, in order and each once: those after where it starts,
    /// then those to come. At most `limit` are read at once, when the reader has used up those before.
    ///
    /// It begins when the engine is next served, whoever does it: with [`LogStart::Now`] what comes after
    /// that is read. Where the store does not notify, the log is looked at every
    /// [`poll_interval`](Config::poll_interval), but for what this engine appends.
    ///
    /// # What has been said, and what is said from now on
    ///
    /// ```
    /// use annals::protocol::{LogFilter, LogStart};
    /// use annals::storage::{AsyncAnnals, AsyncStorageAdapter, Runtime};
    /// use annals::{Error, Position};
    /// # use std::{cell::{Cell, RefCell}, future::{pending, ready}, pin::pin, task::{Context, Waker}};
    /// # use annals::protocol::{StorageAnswer, StorageRequest};
    /// # use annals::storage::{CommandOptions, LocalFuture, MemoryStore, StorageAdapter};
    /// # use annals::{Aggregate, AggregateDefinition, Config, StorageError, Timestamp};
    /// # struct Store(RefCell<MemoryStore>);
    /// # impl AsyncStorageAdapter for Store {
    /// #     fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>> {
    /// #         Box::pin(ready(self.0.borrow_mut().call(&request)))
    /// #     }
    /// # }
    /// # struct Noon;
    /// # impl Runtime for Noon {
    /// #     fn now(&self) -> Timestamp { Timestamp::from_millis(43_200_000) }
    /// #     fn sleep(&self, _: u64) -> LocalFuture<()> { Box::pin(pending()) }
    /// # }
    /// # #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// # enum Word { Said { what: String } }
    /// # struct Talk;
    /// # impl Aggregate for Talk {
    /// #     const TYPE: &'static str = "Talk";
    /// #     type State = ();
    /// #     type Command = Word;
    /// #     type Event = Word;
    /// #     type Refusal = ();
    /// #     fn initial() {}
    /// #     fn decide(_: &(), word: &Word, _: &annals::Context<'_>) -> Result<Vec<Word>, ()> {
    /// #         Ok(vec![word.clone()])
    /// #     }
    /// #     fn evolve(_: (), _: &Word) {}
    /// # }
    /// # thread_local!(static SHOWN: Cell<u64> = Cell::default());
    /// # fn show(event: &annals::RecordedEvent) { SHOWN.set(event.position.0); }
    ///
    /// async fn show_all<S, R>(annals: &AsyncAnnals<S, R>) -> Result<(), Error>
    /// where
    ///     S: AsyncStorageAdapter,
    ///     R: Runtime,
    /// {
    ///     let filter = LogFilter { types: vec!["Said".into()], ..LogFilter::default() };
    ///     let mut said = annals.subscribe(LogStart::After(Position(0)), filter, 100)?;
    ///     loop {
    ///         show(&said.next().await?);
    ///     }
    /// }
    /// # let config = Config::new([7; 32], vec![AggregateDefinition::native::<Talk>()]);
    /// # let annals = AsyncAnnals::new(config, Store(MemoryStore::new("s").into()), Noon)?;
    /// # let mut context = Context::from_waker(Waker::noop());
    /// # let mut showing = pin!(show_all(&annals));
    /// # for number in 1..4 {
    /// #     let word = Word::Said { what: "more".to_owned() };
    /// #     let mut saying = pin!(annals.execute::<Talk>("t-1", &word, CommandOptions::default()));
    /// #     assert!(saying.as_mut().poll(&mut context).is_ready());
    /// #     assert!(showing.as_mut().poll(&mut context).is_pending());
    /// #     assert_eq!(SHOWN.get(), number);
    /// # }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// If `limit` is 0.
    pub fn subscribe(
        &self,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<AsyncSubscription<S, R>, Error> {
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
        &self,
        name: &str,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<AsyncSubscription<S, R>, Error> {
        self.follow(Some(name), start, filter, limit)
    }

    fn follow(
        &self,
        name: Option<&str>,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<AsyncSubscription<S, R>, Error> {
        let reading = self.tell(|driver, now| driver.follow(now, name, start, filter, limit))?;
        Ok(AsyncSubscription::new(self.clone(), reading))
    }

    /// Tells when the view of `P` moves: see [`AsyncWatcher::changed`]. Of a live view an engine knows
    /// that when it has been asked for it, and hears of more events.
    ///
    /// # Whatever the view shows
    ///
    /// ```
    /// # use annals::protocol::{ViewAt, ViewScan};
    /// # use annals::storage::{AsyncAnnals, AsyncStorageAdapter, Documents, Runtime};
    /// # use annals::{Error, Projection};
    /// # fn show<D>(_: &Documents<D>) {}
    /// async fn show_always<P: Projection, S: AsyncStorageAdapter, R: Runtime>(
    ///     annals: &AsyncAnnals<S, R>,
    ///     scan: ViewScan,
    /// ) -> Result<(), Error> {
    ///     let mut watcher = annals.watch::<P>()?;
    ///     loop {
    ///         show(&annals.documents::<P>(scan.clone(), ViewAt::Reached).await?);
    ///         watcher.changed().await?;
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// If the engine has no such projection.
    pub fn watch<P: Projection>(&self) -> Result<AsyncWatcher<S, R>, Error> {
        let watching = self.shared.inner.borrow().driver.watch::<P>()?;
        Ok(AsyncWatcher::new(self.clone(), watching))
    }

    /// Tells the engine that somebody else has appended to the store: up to this position, if that is
    /// known. Who waits at the end of the log looks there at once. Where the adapter says that it
    /// [`notifies`](crate::protocol::Info::notifies), its host must call this, for nobody polls then.
    ///
    /// # Errors
    /// Never but for a bug.
    pub fn advanced(&self, position: Option<Position>) -> Result<(), Error> {
        Ok(self.tell(|driver, now| driver.engine.handle_input(now, Input::Advanced(position)))?)
    }

    async fn page_of(
        &self,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
        reach: Reach,
    ) -> Result<Option<Events>, Error> {
        let task =
            self.start(|driver, now| driver.subscribe(now, None, start, filter, limit, reach))?;
        Ok(self.finish(task, |driver| driver.page(task)).await??)
    }

    /// The next page of a named subscription: events after its checkpoint that pass the filter;
    /// `None` at the log's end. The first time, it starts where `start` says. The same page comes again
    /// until [`handled`](Self::handled) is told of it.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn next_events(
        &self,
        name: &str,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Option<NamedEvents>, Error> {
        let task = self.start(|driver, now| {
            driver.subscribe(now, Some(name), start, filter, limit, Reach::End)
        })?;
        Ok(self.finish(task, |driver| driver.named_page(task, name)).await??)
    }

    /// Moves the checkpoint of a named subscription past a page.
    ///
    /// # Errors
    /// [`ReadError::SubscriptionMoved`](crate::ReadError::SubscriptionMoved) if the checkpoint is no
    /// longer where it was when the page was read; another [`ReadError`](crate::ReadError) if it can't be
    /// stored.
    pub async fn handled(&self, page: &NamedEvents) -> Result<(), Error> {
        let wish = CheckpointWish::Advance { from: page.checkpoint, to: page.next };
        self.ask_checkpoint(&page.name, wish).await.map(|_| ())
    }

    /// The checkpoint of a named subscription: all up to here has been handled. It may be some way
    /// behind where no event passes the filter.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it can't be read.
    pub async fn checkpoint(&self, name: &str) -> Result<Option<Position>, Error> {
        self.ask_checkpoint(name, CheckpointWish::Read).await
    }

    /// Puts the checkpoint of a named subscription somewhere else, and gives the position. Whoever
    /// reads under the name is told when its own progress is next stored.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it was not put there.
    pub async fn set_checkpoint(&self, name: &str, to: LogStart) -> Result<Position, Error> {
        let at = self.ask_checkpoint(name, CheckpointWish::Set(to)).await?;
        Ok(at.expect("where it has been put"))
    }

    /// Takes the checkpoint of a named subscription away, as if it had never been read.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) says why it was not taken away.
    pub async fn forget_checkpoint(&self, name: &str) -> Result<(), Error> {
        self.ask_checkpoint(name, CheckpointWish::Forget).await.map(|_| ())
    }

    async fn ask_checkpoint(
        &self,
        name: &str,
        wish: CheckpointWish,
    ) -> Result<Option<Position>, Error> {
        let task = self.start(|driver, now| driver.ask_checkpoint(now, name, wish))?;
        Ok(self.finish(task, |driver| driver.checkpoint(task)).await??)
    }

    /// An input whose outputs nobody waits for here: whoever waits for others serves them.
    fn tell<T, E>(
        &self,
        input: impl FnOnce(&mut Driver, Timestamp) -> Result<T, E>,
    ) -> Result<T, E> {
        let told = self.start(input);
        self.wake();
        told
    }

    /// An input that is served by who gives it, when he waits for what comes of it.
    pub(super) fn start<T, E>(
        &self,
        input: impl FnOnce(&mut Driver, Timestamp) -> Result<T, E>,
    ) -> Result<T, E> {
        let now = self.shared.runtime.now();
        input(&mut self.shared.inner.borrow_mut().driver, now)
    }

    /// Serves the engine until the answer is there.
    async fn finish<T>(
        &self,
        task: TaskId,
        answer: impl Fn(&mut Driver) -> Option<T>,
    ) -> Result<T, ApiMisuse> {
        let _ended = EndOnDrop { annals: self, task };
        self.wait(answer).await
    }

    /// Serves the engine until there is something.
    pub(super) async fn wait<T>(
        &self,
        mut answer: impl FnMut(&mut Driver) -> Option<T>,
    ) -> Result<T, ApiMisuse> {
        poll_fn(|context| {
            self.shared.wakers.add(context.waker());
            let mut inner = self.shared.inner.borrow_mut();
            if let Err(error) = self.serve_once(&mut inner) {
                return Poll::Ready(Err(error));
            }
            match answer(&mut inner.driver) {
                Some(answer) => Poll::Ready(Ok(answer)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Does all that can be done without waiting.
    fn serve_once(&self, inner: &mut Inner) -> Result<(), ApiMisuse> {
        let waker = Waker::from(Arc::clone(&self.shared.wakers));
        let mut context = Context::from_waker(&waker);
        let mut progress = false;
        loop {
            let wake_at = loop {
                match inner.driver.poll() {
                    Some(Output::Storage(request)) => {
                        let (id, attempt) = (request.id, request.attempt);
                        inner.calls.push((id, attempt, self.shared.store.call(request)));
                    }
                    Some(Output::Idle { wake_at }) => break wake_at,
                    Some(Output::React(react)) => {
                        let reaction = &self.shared.reactions[react.reaction.0 as usize];
                        let handle = match &reaction.handler {
                            Handler::Function(handle) => handle,
                            Handler::Manager(manager) => {
                                let now = self.shared.runtime.now();
                                inner.driver.manage(now, &**manager, &react)?;
                                continue;
                            }
                        };
                        let React { run, attempt, event: Reacting::Event(event), .. } = react
                        else {
                            unreachable!("a native store gives whole events")
                        };
                        let key = key_of(&reaction.definition.name, &event);
                        let occasion = Occasion { event: &event, key: &key, attempt };
                        inner.reacting.push((run, handle(occasion)));
                    }
                    Some(
                        Output::Domain(_)
                        | Output::AwaitDomain
                        | Output::Project(_)
                        | Output::Correlate(_),
                    ) => {
                        unreachable!("aggregates, projections and process managers are native")
                    }
                    Some(Output::Notice(_) | Output::Release(_)) | None => progress = true,
                }
            };
            let mut answers = Vec::new();
            inner.calls.retain_mut(|(request, attempt, call)| {
                match call.as_mut().poll(&mut context) {
                    Poll::Ready(result) => {
                        answers.push(Answer { request: *request, attempt: *attempt, result });
                        false
                    }
                    Poll::Pending => true,
                }
            });
            let mut reacted = Vec::new();
            inner.reacting.retain_mut(|(run, future)| match future.as_mut().poll(&mut context) {
                Poll::Ready(result) => {
                    let result = result.map(|()| Vec::new()).map_err(Arc::from);
                    reacted.push(Reacted { run: *run, result });
                    false
                }
                Poll::Pending => true,
            });
            let now = self.shared.runtime.now();
            if answers.is_empty() && reacted.is_empty() {
                if !self.rings(inner, wake_at, &mut context) {
                    break;
                }
                inner
                    .driver
                    .engine
                    .handle_input(wake_at.map_or(now, |at| at.max(now)), Input::Tick)?;
            }
            for answer in reacted {
                inner.driver.engine.handle_input(now, Input::Reacted(answer))?;
            }
            for answer in answers {
                inner.driver.engine.handle_input(now, Input::Answer(answer))?;
            }
        }
        // Whoever waits for what was just filed may be another future.
        if progress {
            self.shared.wakers.wake_all();
        }
        Ok(())
    }

    /// Whether the time the engine wants to be woken at has come.
    fn rings(
        &self,
        inner: &mut Inner,
        wake_at: Option<Timestamp>,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(at) = wake_at else {
            inner.alarm = None;
            return false;
        };
        if inner.alarm.as_ref().is_none_or(|(set, _)| *set != at) {
            let pause = at.millis() - inner.driver.engine.now().millis();
            let pause = u64::try_from(pause).unwrap_or(0);
            inner.alarm = Some((at, self.shared.runtime.sleep(pause)));
        }
        let (_, alarm) = inner.alarm.as_mut().expect("set above");
        let rings = alarm.as_mut().poll(context).is_ready();
        if rings {
            inner.alarm = None;
        }
        rings
    }
}

impl<S, R> AsyncAnnals<S, R> {
    /// Lets those who wait serve the engine.
    pub(super) fn wake(&self) {
        self.shared.wakers.wake_all();
    }
}

/// Gives up the task of a future that is dropped, and wakes another to serve the store.
struct EndOnDrop<'a, S, R> {
    annals: &'a AsyncAnnals<S, R>,
    task: TaskId,
}

impl<S, R> Drop for EndOnDrop<'_, S, R> {
    fn drop(&mut self) {
        let shared = &self.annals.shared;
        let mut inner = shared.inner.borrow_mut();
        // A task that has ended is nothing to cancel; a misuse can't come of it.
        let cancelled = inner.driver.forget(Timestamp::default(), self.task);
        debug_assert_eq!(cancelled, Ok(()), "cancelling is always allowed");
        shared.wakers.wake_all();
    }
}
