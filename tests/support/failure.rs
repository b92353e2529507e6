//! Tests that fail, and what they say.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

thread_local! {
    /// Message and file of the panic that is caught.
    static PANIC: RefCell<(String, String)> = RefCell::default();
}

/// The message of the test that fails, which is told to have failed where it is called and not in the
/// kit.
#[track_caller]
pub(crate) fn failure(test: impl FnOnce()) -> String {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", Location::file);
            let message = info.payload().downcast_ref::<String>().cloned().unwrap_or_default();
            PANIC.set((message, file.into()));
            before(info);
        }));
    });
    assert!(catch_unwind(AssertUnwindSafe(test)).is_err(), "expected a failure");
    let (message, file) = PANIC.take();
    assert_eq!(file, Location::caller().file(), "{message}");
    message
}

#[track_caller]
pub(crate) fn fails(start: &str, test: impl FnOnce()) {
    let message = failure(test);
    assert!(message.starts_with(start), "{message}");
}
