//! The list of what an engine does beside its log: views, reactions.
//!
//! The smaller of the ready modules has neither. There the list has no place for an element, so the compiler
//! finds out by itself that nothing is ever done with one, and leaves all of it out: a third of the module.

/// Whether this is that module.
pub(super) const LOG_ONLY: bool = cfg!(all(feature = "wasm-log", target_arch = "wasm32"));

#[cfg(not(all(feature = "wasm-log", target_arch = "wasm32")))]
pub(super) type Parts<T> = Vec<T>;

#[cfg(all(feature = "wasm-log", target_arch = "wasm32"))]
pub(super) use none::Parts;

#[cfg(all(feature = "wasm-log", target_arch = "wasm32"))]
mod none {
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};

    pub(crate) struct Parts<T>(PhantomData<T>);

    impl<T> Parts<T> {
        pub(crate) fn new() -> Self {
            Self(PhantomData)
        }

        pub(crate) fn push(&mut self, _: T) {
            unreachable!("the configuration was refused")
        }
    }

    impl<T> Deref for Parts<T> {
        type Target = [T];

        #[inline(always)]
        fn deref(&self) -> &[T] {
            &[]
        }
    }

    impl<T> DerefMut for Parts<T> {
        #[inline(always)]
        fn deref_mut(&mut self) -> &mut [T] {
            &mut []
        }
    }
}
