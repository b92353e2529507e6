//! What is written in Rust, with its types erased: aggregates, projections, codecs of states; and whole
//! events, as native hosts give them.
//!
//! The ready module has nothing of the kind, for its domains are written in JavaScript, which keeps its
//! pages. There the type has no values, so the compiler leaves out all that would be done with one: a thirtieth of the module.

#[cfg(not(all(feature = "wasm-entry", target_arch = "wasm32")))]
mod kind {
    use std::rc::Rc;

    pub(crate) type Erased<T> = Rc<T>;

    pub(crate) fn erased<T: ?Sized>(value: Rc<T>) -> Erased<T> {
        value
    }
}

#[cfg(all(feature = "wasm-entry", target_arch = "wasm32"))]
mod kind {
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use std::ops::Deref;
    use std::rc::Rc;

    pub(crate) struct Erased<T: ?Sized>(Infallible, PhantomData<T>);

    impl<T: ?Sized> Clone for Erased<T> {
        fn clone(&self) -> Self {
            match self.0 {}
        }
    }

    impl<T: ?Sized> Deref for Erased<T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self.0 {}
        }
    }

    pub(crate) fn erased<T: ?Sized>(_: Rc<T>) -> Erased<T> {
        unreachable!("the ready module has no domain in Rust")
    }
}

pub(crate) use kind::{Erased, erased};
