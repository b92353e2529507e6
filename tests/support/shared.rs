//! A store that several engines share, and a clock that a test moves.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use annals::protocol::{SaveDocuments, StorageAnswer, StorageBody, StorageRequest};
use annals::storage::{Clock, MemoryStore, StorageAdapter};
use annals::{StorageError, StorageErrorCode, Timestamp};

/// Time passes when somebody waits.
#[derive(Clone, Default)]
pub struct Ticking(pub Rc<Cell<u64>>);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000).plus(self.0.get())
    }

    fn sleep(&mut self, millis: u64) {
        self.0.set(self.0.get() + millis);
    }
}

/// A store that several engines share, and that notes what it is asked.
#[derive(Clone)]
pub struct Shared {
    pub store: Rc<RefCell<MemoryStore>>,
    pub saves: Rc<RefCell<Vec<Arc<SaveDocuments>>>>,
    /// Requests to change documents are refused so many times.
    pub full: Rc<Cell<u32>>,
    /// What happens before the next request to change documents.
    #[allow(clippy::type_complexity, reason = "a test's hook")]
    pub before_save: Rc<RefCell<Option<Box<dyn FnOnce()>>>>,
}

impl Shared {
    pub fn new() -> Self {
        Self::of(MemoryStore::new("store-1"))
    }

    pub fn of(store: MemoryStore) -> Self {
        Self {
            store: Rc::new(RefCell::new(store)),
            saves: Rc::default(),
            full: Rc::default(),
            before_save: Rc::default(),
        }
    }
}

impl StorageAdapter for Shared {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        if let StorageBody::SaveDocuments(save) = &request.body {
            if let Some(hook) = self.before_save.take() {
                hook();
            }
            if self.full.get() > 0 {
                self.full.set(self.full.get() - 1);
                return Err(StorageError::permanent(StorageErrorCode::Full, "the disk is full"));
            }
            self.saves.borrow_mut().push(Arc::clone(save));
        }
        self.store.borrow_mut().call(request)
    }
}

/// What a store that answers at once answers.
pub fn at_once<T>(asking: impl Future<Output = T>) -> T {
    match pin!(asking).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the store answers at once"),
    }
}

/// A seeded sequence (xorshift).
pub struct Luck(pub u64);

impl Luck {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
