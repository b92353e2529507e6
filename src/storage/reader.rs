//! Readers that wait for what comes: of the log, and of views.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::vec;

use crate::error::{ApiMisuse, Error, ReadError};
use crate::event::{RecordedEvent, TaskId};
use crate::protocol::{Input, ProjectionIndex};
use crate::stream::Position;
use crate::time::Timestamp;

use super::driver::Driver;
use super::{Annals, AsyncAnnals, AsyncStorageAdapter, Clock, Runtime, StorageAdapter};

/// The events of a log in order, as a blocking engine reads them: those stored, then those to come.
/// [`Annals::subscribe`] and [`Annals::subscribe_as`] make it.
///
/// It holds a page at most, and reads the next when that is used up. The engine is given to each call, so
/// that it may be used between two. Dropped, it ends, and reads nothing more.
#[derive(Debug)]
pub struct Subscription {
    reading: Reading,
}

impl Subscription {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading }
    }

    /// The next event, which is waited for so many milliseconds; `None` if none came. With 0 it is what the
    /// store has now. Each call that has nothing at hand asks the store; one that waits asks it again every
    /// [`poll_interval`](crate::Config::poll_interval), and the engine does meanwhile whatever else it has
    /// to do, as in [`Annals::serve`].
    ///
    /// Of a subscription with a name, whoever asks for the next event has handled the one before.
    ///
    /// # Errors
    /// [`ReadError`] says why it can't be read, and ends the subscription: later calls say the same. The
    /// events of the page at hand come first, unless it has a name: they would come again.
    /// [`ApiMisuse::ForeignReader`] if it is of another engine.
    pub fn next<S: StorageAdapter, C: Clock>(
        &mut self,
        annals: &mut Annals<S, C>,
        millis: u64,
    ) -> Result<Option<RecordedEvent>, Error> {
        let Self { reading } = self;
        annals.driver.check_reader(&reading.readers)?;
        let mut next = reading.next(&mut annals.driver);
        if next.is_none() {
            next = annals.serve_for(0, |driver| reading.next(driver))?;
        }
        if next.is_none() {
            let now = annals.now();
            reading.ask(&mut annals.driver, now)?;
            next = annals.serve_for(millis, |driver| reading.next(driver))?;
        }
        Ok(next.transpose()?)
    }

    /// Ends it. One with a name has left once its checkpoint is where it belongs: before the event that was
    /// given last, which has not been handled until the next is asked for. One that is dropped leaves the
    /// same behind when the engine is used next.
    ///
    /// # Errors
    /// What it had ended with before, or why its checkpoint could not be moved.
    pub fn leave<S: StorageAdapter, C: Clock>(
        mut self,
        annals: &mut Annals<S, C>,
    ) -> Result<(), Error> {
        let Self { reading } = &mut self;
        annals.driver.check_reader(&reading.readers)?;
        let now = annals.now();
        reading.give_up(&mut annals.driver, now)?;
        Ok(annals.run(|driver| reading.left(driver))??)
    }
}

/// The events of a log in order, as an asynchronous engine reads them: those stored, then those to come.
/// [`AsyncAnnals::subscribe`] and [`AsyncAnnals::subscribe_as`] make it.
///
/// It holds a page at most, and reads the next when that is used up. Dropped, it ends, and reads nothing
/// more.
///
/// # As a stream
///
/// With the crate `futures`:
///
/// ```text
/// stream::try_unfold(mails, |mut mails| async move {
///     Ok::<_, annals::Error>(Some((mails.next().await?, mails)))
/// })
/// ```
pub struct AsyncSubscription<S, R> {
    annals: AsyncAnnals<S, R>,
    reading: Reading,
}

impl<S: AsyncStorageAdapter, R: Runtime> AsyncSubscription<S, R> {
    pub(super) fn new(annals: AsyncAnnals<S, R>, reading: Reading) -> Self {
        Self { annals, reading }
    }

    /// The next event, once it is there. Dropping the future loses none: the next call gives it.
    ///
    /// Of a subscription with a name, whoever asks for the next event has handled the one before.
    ///
    /// # Errors
    /// [`ReadError`] says why it can't be read, and ends the subscription: later calls say the same. The
    /// events of the page at hand come first, unless it has a name: they would come again.
    pub async fn next(&mut self) -> Result<RecordedEvent, Error> {
        let Self { annals, reading } = self;
        let at_hand = annals.start(|driver, now| {
            let next = reading.next(driver);
            if next.is_none() && !reading.waits {
                reading.ask(driver, now)?;
            }
            Ok::<_, ApiMisuse>(next)
        })?;
        match at_hand {
            Some(next) => Ok(next?),
            None => Ok(annals.wait(|driver| reading.next(driver)).await??),
        }
    }

    /// Ends it. One with a name has left once its checkpoint is where it belongs: before the event that was
    /// given last, which has not been handled until the next is asked for. One that is dropped leaves the
    /// same behind, but nobody waits for it: whoever serves the engine next keeps it. Who is to go on under
    /// its name begins after it has left, or one of the two is told that its checkpoint was moved.
    ///
    /// # Errors
    /// What it had ended with before, or why its checkpoint could not be moved.
    pub async fn leave(mut self) -> Result<(), Error> {
        let Self { annals, reading } = &mut self;
        annals.start(|driver, now| reading.give_up(driver, now))?;
        Ok(annals.wait(|driver| reading.left(driver)).await??)
    }
}

impl<S, R> fmt::Debug for AsyncSubscription<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSubscription").field("reading", &self.reading).finish_non_exhaustive()
    }
}

impl<S, R> Drop for AsyncSubscription<S, R> {
    fn drop(&mut self) {
        if self.reading.leave() {
            self.annals.wake();
        }
    }
}

/// Tells whoever shows a view of a blocking engine when it has moved. [`Annals::watch`] makes it.
#[derive(Debug)]
pub struct Watcher {
    watching: Watching,
}

impl Watcher {
    pub(super) fn new(watching: Watching) -> Self {
        Self { watching }
    }

    /// Whether the view has moved since this said so last, or since it is watched; that is waited for so
    /// many milliseconds. A view moves when its documents change, when it has been built, is paused or
    /// resumed, or has stopped: what is shown of it may be the same.
    ///
    /// # Errors
    /// [`ApiMisuse::ForeignReader`] if it watches a view of another engine.
    pub fn changed<S: StorageAdapter, C: Clock>(
        &mut self,
        annals: &mut Annals<S, C>,
        millis: u64,
    ) -> Result<bool, Error> {
        annals.driver.check_reader(&self.watching.readers)?;
        Ok(annals.serve_for(millis, |_| self.watching.changed())?.is_some())
    }
}

/// Tells whoever shows a view of an asynchronous engine when it has moved. [`AsyncAnnals::watch`] makes
/// it.
pub struct AsyncWatcher<S, R> {
    annals: AsyncAnnals<S, R>,
    watching: Watching,
}

impl<S: AsyncStorageAdapter, R: Runtime> AsyncWatcher<S, R> {
    pub(super) fn new(annals: AsyncAnnals<S, R>, watching: Watching) -> Self {
        Self { annals, watching }
    }

    /// Is ready when the view has moved since this was ready last, or since it is watched. A view moves
    /// when its documents change, when it has been built, is paused or resumed, or has stopped: what is
    /// shown of it may be the same. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Never but for a bug.
    pub async fn changed(&mut self) -> Result<(), Error> {
        let Self { annals, watching } = self;
        Ok(annals.wait(|_| watching.changed()).await?)
    }
}

impl<S, R> fmt::Debug for AsyncWatcher<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncWatcher").field("watching", &self.watching).finish_non_exhaustive()
    }
}

/// What readers share with the driver of their engine.
#[derive(Debug)]
pub(super) struct Readers {
    /// Subscriptions whose readers have gone, and up to where these have handled what they were given. A
    /// reader may go at any time, also while the driver is at work.
    gone: RefCell<Vec<(TaskId, Position)>>,
    /// How often each view has moved.
    moves: Vec<Cell<u64>>,
}

impl Readers {
    pub(super) fn new(views: usize) -> Self {
        Self { gone: RefCell::default(), moves: vec![Cell::new(0); views] }
    }

    pub(super) fn take_gone(&self) -> Vec<(TaskId, Position)> {
        std::mem::take(&mut *self.gone.borrow_mut())
    }

    pub(super) fn view_moved(&self, projection: ProjectionIndex) {
        let moves = &self.moves[projection.0 as usize];
        moves.set(moves.get() + 1);
    }
}

/// A subscription as its reader has it, in either driver.
#[derive(Debug)]
pub(super) struct Reading {
    readers: Rc<Readers>,
    task: TaskId,
    is_named: bool,
    /// What is left of the page that came last.
    page: vec::IntoIter<RecordedEvent>,
    /// Whether a page has been asked for that has not come.
    waits: bool,
    /// The event that was given last, and the one before, which has been handled.
    given: Position,
    handled: Position,
    /// What it has ended with.
    end: Option<ReadError>,
    /// Whether the engine knows that the reader has gone, or is about to.
    has_gone: bool,
}

impl Reading {
    /// A subscription that has just begun: its first page comes unasked.
    pub(super) fn new(readers: Rc<Readers>, task: TaskId, is_named: bool) -> Self {
        Self {
            readers,
            task,
            is_named,
            page: Vec::new().into_iter(),
            waits: true,
            given: Position(0),
            handled: Position(0),
            end: None,
            has_gone: false,
        }
    }

    /// The next event, or the end, if it is there.
    fn next(&mut self, driver: &mut Driver) -> Option<Result<RecordedEvent, ReadError>> {
        // Who has a name gets no more of a page once it has ended: its events come again.
        if self.is_named && self.end.is_none() {
            self.look_for_end(driver);
        }
        if self.page.len() == 0 && self.end.is_none() {
            match driver.page(self.task) {
                Some(Ok(page)) => {
                    let page = page.expect("a subscription that follows the log has no end");
                    (self.page, self.waits) = (page.events.into_iter(), false);
                }
                Some(Err(error)) => self.ended(error),
                None => return None,
            }
        }
        let Some(event) = self.page.next() else {
            return self.end.clone().map(Err);
        };
        (self.handled, self.given) = (self.given, event.position);
        Some(Ok(event))
    }

    /// Asks for the next page: what was given has been handled. Who waits at the end of the log looks
    /// there again. Nothing the engine has given may be unread: it would count as handled.
    fn ask(&mut self, driver: &mut Driver, now: Timestamp) -> Result<(), ApiMisuse> {
        self.waits = true;
        driver.engine.handle_input(now, Input::Next(self.task))
    }

    /// Ends the subscription, whose end somebody waits for.
    fn give_up(&mut self, driver: &mut Driver, now: Timestamp) -> Result<(), ApiMisuse> {
        if self.end.is_some() {
            return Ok(());
        }
        driver.give_up(now, self.task, self.handled)
    }

    /// What came of leaving, once the subscription has ended.
    fn left(&mut self, driver: &mut Driver) -> Option<Result<(), ReadError>> {
        if self.end.is_none() {
            self.look_for_end(driver);
        }
        match self.end.clone()? {
            ReadError::Cancelled => Some(Ok(())),
            error => Some(Err(error)),
        }
    }

    fn look_for_end(&mut self, driver: &mut Driver) {
        if let Some(error) = driver.end(self.task) {
            self.page = Vec::new().into_iter();
            self.ended(error);
        }
    }

    /// The task is over, and its number may be another's.
    fn ended(&mut self, error: ReadError) {
        (self.end, self.has_gone) = (Some(error), true);
    }

    /// The reader has gone. Returns whether that is news.
    fn leave(&mut self) -> bool {
        let is_news = !std::mem::replace(&mut self.has_gone, true);
        if is_news {
            self.readers.gone.borrow_mut().push((self.task, self.handled));
        }
        is_news
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A view as its watcher knows it, in either driver.
#[derive(Debug)]
pub(super) struct Watching {
    readers: Rc<Readers>,
    view: ProjectionIndex,
    /// How often it had moved when that was told last.
    told: u64,
}

impl Watching {
    pub(super) fn new(readers: Rc<Readers>, view: ProjectionIndex) -> Self {
        let told = readers.moves[view.0 as usize].get();
        Self { readers, view, told }
    }

    /// Whether it has moved since this said so last.
    fn changed(&mut self) -> Option<()> {
        let moves = self.readers.moves[self.view.0 as usize].get();
        (std::mem::replace(&mut self.told, moves) != moves).then_some(())
    }
}
