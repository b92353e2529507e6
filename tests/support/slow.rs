//! A store that takes its time, a time that a test lets pass, and an executor that polls who was woken.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use annals::protocol::{StorageAnswer, StorageBody, StorageRequest};
use annals::storage::{AsyncStorageAdapter, LocalFuture, MemoryStore, Runtime, StorageAdapter};
use annals::{StorageError, StorageErrorCode, Timestamp};

/// A store whose answers wait until the test lets them go.
#[derive(Clone)]
pub struct Slow {
    pub store: Rc<RefCell<MemoryStore>>,
    waiting: Rc<RefCell<Vec<Slot>>>,
    pub appends: Rc<Cell<usize>>,
    pub loads: Rc<Cell<usize>>,
    pub log_reads: Rc<Cell<usize>>,
    pub saves: Rc<Cell<usize>>,
    /// Whether it says that it tells of appends.
    pub notifies: Rc<Cell<bool>>,
    /// Whether it refuses to read its log.
    pub is_broken: Rc<Cell<bool>>,
}

type Slot = Rc<RefCell<(bool, Option<Waker>)>>;

impl Slow {
    pub fn new() -> Self {
        Self {
            store: Rc::new(RefCell::new(MemoryStore::new("s"))),
            waiting: Rc::default(),
            appends: Rc::default(),
            loads: Rc::default(),
            log_reads: Rc::default(),
            saves: Rc::default(),
            notifies: Rc::default(),
            is_broken: Rc::default(),
        }
    }

    /// Number of requests that have not reached the store.
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Lets the oldest request reach the store; whether there was one.
    pub fn step(&self) -> bool {
        self.waiting() > 0 && self.step_at(0)
    }

    /// Lets one of the requests reach the store.
    pub fn step_at(&self, index: usize) -> bool {
        let slot = self.waiting.borrow_mut().remove(index);
        slot.borrow_mut().0 = true;
        let waker = slot.borrow_mut().1.take();
        waker.into_iter().for_each(Waker::wake);
        true
    }

    fn answer(&self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        if self.is_broken.get() && matches!(request.body, StorageBody::ReadLog(_)) {
            return Err(StorageError::permanent(StorageErrorCode::Failed, "the disk is gone"));
        }
        let mut answer = self.store.borrow_mut().call(request)?;
        if let StorageAnswer::Info(info) = &mut answer {
            info.notifies = self.notifies.get();
        }
        Ok(answer)
    }
}

impl AsyncStorageAdapter for Slow {
    fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>> {
        let count = match request.body {
            StorageBody::Append(_) => Some(&self.appends),
            StorageBody::Load(_) => Some(&self.loads),
            StorageBody::ReadLog(_) => Some(&self.log_reads),
            StorageBody::SaveDocuments(_) => Some(&self.saves),
            _ => None,
        };
        count.into_iter().for_each(|count| count.set(count.get() + 1));
        let slot: Slot = Rc::default();
        self.waiting.borrow_mut().push(Rc::clone(&slot));
        let store = self.clone();
        Box::pin(async move {
            poll_fn(|context| {
                let mut slot = slot.borrow_mut();
                if slot.0 {
                    return Poll::Ready(());
                }
                slot.1 = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            store.answer(&request)
        })
    }
}

/// A time that stands still until the test lets it pass.
#[derive(Clone, Default)]
pub struct Time(Rc<RefCell<Sleepers>>);

#[derive(Default)]
struct Sleepers {
    now: u64,
    waiting: Vec<(u64, Waker)>,
}

impl Time {
    /// Goes on to the moment for which somebody waits; whether there was one.
    pub fn go_on(&self) -> bool {
        let mut sleepers = self.0.borrow_mut();
        let Some(at) = sleepers.waiting.iter().map(|(at, _)| *at).min() else { return false };
        sleepers.now = sleepers.now.max(at);
        let (due, waiting) =
            std::mem::take(&mut sleepers.waiting).into_iter().partition(|(until, _)| *until <= at);
        sleepers.waiting = waiting;
        let due: Vec<(u64, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
        true
    }
}

impl Runtime for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000).plus(self.0.borrow().now)
    }

    fn sleep(&self, millis: u64) -> LocalFuture<()> {
        let (time, until) = (self.clone(), self.0.borrow().now + millis);
        Box::pin(poll_fn(move |context| {
            let mut sleepers = time.0.borrow_mut();
            if sleepers.now >= until {
                return Poll::Ready(());
            }
            sleepers.waiting.push((until, context.waker().clone()));
            Poll::Pending
        }))
    }
}

pub type Job<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls jobs as they are woken, letting the store go on when none is, until all are done.
pub fn run(store: &Slow, jobs: Vec<Job<'_>>) {
    run_while(jobs, || store.step());
}

/// Polls jobs as they are woken. When none is, something is let happen; jobs that are not done when nothing
/// is left to happen are stuck.
pub fn run_while(jobs: Vec<Job<'_>>, mut happens: impl FnMut() -> bool) {
    let new = |job| (job, Arc::new(Woken(AtomicBool::new(true))));
    let mut jobs: Vec<_> = jobs.into_iter().map(new).collect();
    for _ in 0..100_000 {
        let mut polled = false;
        jobs.retain_mut(|(job, woken)| {
            if !woken.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            polled = true;
            let waker = Waker::from(Arc::clone(woken));
            job.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        if jobs.is_empty() {
            return;
        }
        if !polled && !happens() {
            break;
        }
    }
    panic!("{} jobs are stuck", jobs.len());
}
