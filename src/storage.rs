//! Storage for native hosts: what an adapter is, and the drivers that pair it with the engine.

mod blocking;
mod driver;
mod future;
mod memory;
mod overlay;
mod reader;

use std::future::Future;
use std::pin::Pin;

#[cfg(feature = "native")]
pub use blocking::SystemClock;
pub use blocking::{Annals, Reaction};
pub use driver::{
    Clock, CommandOptions, Diff, Documents, Events, Executed, Listed, NamedEvents, Occasion, Read,
    Report, StateAt,
};
pub use future::{AsyncAnnals, AsyncReaction, Runtime};
pub use memory::MemoryStore;
pub use overlay::{Overlay, OverlayPoint};
pub use reader::{AsyncSubscription, AsyncWatcher, Subscription, Watcher};

use crate::error::StorageError;
use crate::protocol::{StorageAnswer, StorageRequest};

/// A store that answers at once. See [`protocol`](crate::protocol) for what it is asked.
///
/// Nobody can tell an engine anything while it blocks: [`Info::notifies`](crate::protocol::Info::notifies)
/// is `false`, unless nobody else appends.
///
/// An adapter answers [`Page::Events`](crate::protocol::Page::Events) to requests that are not
/// `held`; natively none is.
pub trait StorageAdapter {
    /// Answers a request: all of it, atomically, or an error.
    ///
    /// To append, take the write lock, read the [`Facts`](crate::judge::Facts), ask
    /// [`judge`](crate::judge::judge) and write what it accepted, all in one transaction.
    ///
    /// # Errors
    /// If the request can't be answered. [`StorageError::applied`] says whether an append may be
    /// in the log all the same.
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError>;
}

impl<S: StorageAdapter + ?Sized> StorageAdapter for &mut S {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        (**self).call(request)
    }
}

/// A future that stays on its thread.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// A store that takes its time. It needs no particular executor and need not be `Send`.
///
/// One that [`notifies`](crate::protocol::Info::notifies) has its host call [`AsyncAnnals::advanced`].
pub trait AsyncStorageAdapter {
    /// Answers a request, as [`StorageAdapter::call`] does. Requests may be under way together.
    fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>>;
}
