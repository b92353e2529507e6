//! The conversion layer between the engine and JavaScript, and nothing else.
//!
//! Inputs and outputs cross as numbers in a buffer of 32-bit words and as one string beside it
//! (`words.rs`); JavaScript reads and writes both in linear memory, and never calls back. A
//! misuse, which is small and rare, crosses as an object.
//!
//! A panic leaves the module in an unknown state. The host finds it as a trap, asks
//! [`last_panic`] what it was, and uses the module no more.

#![allow(unsafe_code, reason = "wasm-bindgen's macros make it; nothing here does")]

mod decode;
mod encode;
mod words;

use std::cell::RefCell;

use serde::Serialize;
use wasm_bindgen::prelude::*;

#[doc(hidden)]
pub use wasm_bindgen;

use crate::domain::AggregateDefinition;
use crate::engine::Engine;
use crate::error::ApiMisuse;
use crate::judge::judge;
use crate::protocol::{Output, RequestId};
use crate::time::Timestamp;

use words::{Reader, Writer};

/// Exports a domain written in Rust, as the module's `createCore`.
///
/// # The last line of a domain's crate
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # enum Visit { Counted {} }
/// # struct Visits;
/// # impl annals::Aggregate for Visits {
/// #     const TYPE: &'static str = "Visits";
/// #     type State = u32;
/// #     type Command = Visit;
/// #     type Event = Visit;
/// #     type Refusal = Visit;
/// #     fn initial() -> u32 { 0 }
/// #     fn decide(_: &u32, _: &Visit, _: &annals::Context<'_>) -> Result<Vec<Visit>, Visit> {
/// #         Ok(vec![Visit::Counted {}])
/// #     }
/// #     fn evolve(count: u32, _: &Visit) -> u32 { count + 1 }
/// # }
/// // `Visits` is an aggregate; more are named after it, with commas.
/// annals::export_domain!(Visits);
/// ```
///
/// Build the crate as a `cdylib` with the feature `annals/wasm` and run wasm-bindgen on it; the
/// application gives the result to `Engine.open` of `annals/slim`. `www/clinic` is such a crate.
#[macro_export]
macro_rules! export_domain {
    ($($aggregate:ty),+ $(,)?) => {
        const _: () = {
            use $crate::wasm::wasm_bindgen;
            /// An engine with this module's domain.
            #[wasm_bindgen::prelude::wasm_bindgen(js_name = createCore)]
            #[allow(unreachable_pub, missing_docs)]
            pub fn create_core() -> $crate::wasm::Core {
                $crate::wasm::Core::with(vec![$($crate::AggregateDefinition::native::<$aggregate>()),+])
            }
        };
    };
}

/// An engine whose whole domain lives in JavaScript.
#[cfg(feature = "wasm-entry")]
#[wasm_bindgen(js_name = createCore)]
#[must_use]
pub fn create_core() -> Core {
    Core::with(Vec::new())
}

/// A misuse, as JavaScript sees it.
#[derive(Serialize)]
struct Misuse {
    code: &'static str,
    message: String,
}

fn misuse(what: impl std::fmt::Display) -> JsValue {
    let misuse = Misuse { code: ApiMisuse::CODE, message: what.to_string() };
    // An object of two strings can always be made.
    serde_wasm_bindgen::to_value(&misuse).unwrap_or(JsValue::NULL)
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What the module's last panic said, if it had one.
#[wasm_bindgen(js_name = lastPanic)]
#[must_use]
pub fn last_panic() -> Option<String> {
    LAST_PANIC.with_borrow(Clone::clone)
}

fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        LAST_PANIC.with(|last| {
            // A panic while the last one is being kept must not hide it.
            if let Ok(mut last) = last.try_borrow_mut() {
                *last = Some(message);
            }
        });
    }));
}

/// An engine, and the buffers through which it is spoken to.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Core {
    /// The aggregates this module defines.
    native: Vec<AggregateDefinition>,
    /// `None` until it is started.
    engine: Option<Engine>,
    input_words: Vec<u32>,
    input_text: Vec<u8>,
    output: Writer,
    mailbox: [u32; 5],
}

impl Core {
    /// An engine to be started, in a module that defines these aggregates.
    #[must_use]
    pub fn with(native: Vec<AggregateDefinition>) -> Self {
        keep_panics();
        let (input_words, input_text, output) = Default::default();
        Self { native, engine: None, input_words, input_text, output, mailbox: [0; 5] }
    }

    fn engine(&mut self) -> Result<&mut Engine, JsValue> {
        self.engine.as_mut().ok_or_else(|| misuse("the engine has not been started"))
    }

    /// Says where the output is; returns the number of its words.
    fn post(&mut self) -> usize {
        self.mailbox[2] = address(self.output.words.as_ptr());
        self.mailbox[3] = address(self.output.text.as_ptr());
        self.mailbox[4] = self.output.text.len() as u32;
        self.output.words.len()
    }

    /// The input, whose text takes this much of its room.
    fn reader(&self, text_bytes: usize) -> Result<Reader<'_>, JsValue> {
        let text = self.input_text.get(..text_bytes).unwrap_or_default();
        Reader::new(&self.input_words, text).map_err(misuse)
    }
}

/// An address in linear memory, which has 32 bits.
fn address<T>(pointer: *const T) -> u32 {
    pointer as usize as u32
}

#[wasm_bindgen]
impl Core {
    /// Starts the engine as the message in the buffers says: 8 random words of seed; the limits
    /// [`Config::request_timeout`](crate::Config::request_timeout), `cached_states`, `page_limit` and
    /// `poll_interval`, 0 for the default; the names of its aggregates. Writes for each aggregate
    /// whether this module defines it, and returns the number of words.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`.
    pub fn start(&mut self, text_bytes: usize) -> Result<usize, JsValue> {
        let mut config = decode::config(&mut self.reader(text_bytes)?).map_err(misuse)?;
        self.output.clear();
        for definition in &mut config.aggregates {
            let mut native = self.native.iter();
            let found = native.find(|native| native.name() == definition.name());
            self.output.flag(found.is_some());
            *definition = found.unwrap_or(definition).clone();
        }
        self.engine = Some(Engine::new(config).map_err(misuse)?);
        Ok(self.post())
    }

    /// Address of five words: the addresses of the input's words and text and of the output's words
    /// and text, and the length of the output's text in bytes. The address stays; what is there
    /// changes with each call that makes room or writes.
    #[must_use]
    pub fn mailbox(&self) -> *const u32 {
        self.mailbox.as_ptr()
    }

    /// Makes room for the next input.
    pub fn room(&mut self, words: usize, text_bytes: usize) {
        self.input_words.clear();
        self.input_words.resize(words, 0);
        self.input_text.clear();
        self.input_text.resize(text_bytes, 0);
        self.mailbox[0] = address(self.input_words.as_ptr());
        self.mailbox[1] = address(self.input_text.as_ptr());
    }

    /// Takes the input in the buffers.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`; nothing has changed then.
    #[wasm_bindgen(js_name = handleInput)]
    pub fn handle_input(&mut self, now: f64, text_bytes: usize) -> Result<(), JsValue> {
        let input = decode::input(&mut self.reader(text_bytes)?).map_err(misuse)?;
        let now = Timestamp::from_millis(now as i64);
        self.engine()?.handle_input(now, input).map_err(misuse)
    }

    /// Writes outputs into the buffers until the engine is idle or asks for a domain function,
    /// and returns the number of words.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`.
    #[wasm_bindgen(js_name = pollOutputs)]
    pub fn poll_outputs(&mut self) -> Result<usize, JsValue> {
        self.output.clear();
        loop {
            let output = self.engine()?.poll_output();
            encode::output(&mut self.output, &output);
            if matches!(output, Output::Idle { .. } | Output::Domain(_)) {
                return Ok(self.post());
            }
        }
    }

    /// Judges the append under way with this number by the facts in the buffers. Writes the
    /// verdicts and returns the number of words; 0 if no such append is under way.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`.
    pub fn judge(&mut self, request: f64, text_bytes: usize) -> Result<usize, JsValue> {
        let facts = decode::facts(&mut self.reader(text_bytes)?).map_err(misuse)?;
        let Some(append) = self.engine()?.append_in_flight(RequestId(request as u64)) else {
            return Ok(0);
        };
        let (expected, found) = (append.commits.len(), facts.commits.len());
        if expected != found {
            return Err(misuse(format_args!(
                "expected facts for {expected} commits, found {found}"
            )));
        }
        let verdicts = judge(append, &facts);
        self.output.clear();
        encode::verdicts(&mut self.output, &verdicts);
        Ok(self.post())
    }

    /// Panics, so that hosts can test what they do then.
    #[doc(hidden)]
    #[wasm_bindgen(js_name = panicForTest)]
    pub fn panic_for_test(&mut self) {
        panic!("asked to panic");
    }
}
