//! The conversion layer between the engine and JavaScript, and nothing else.
//!
//! Inputs and outputs cross as numbers in a buffer of 32-bit words and as one string beside it
//! ([`words`]); JavaScript reads and writes both in linear memory, and never calls back. A
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
/// ```ignore
/// annals::export_domain!(Appointment);
/// ```
///
/// Build the crate as a `cdylib` with the feature `annals/wasm` and run wasm-bindgen on it; the
/// application gives the result to `Engine.open` of `annals/slim`.
#[macro_export]
macro_rules! export_domain {
    ($($aggregate:ty),+ $(,)?) => {
        const _: () = {
            use $crate::wasm::wasm_bindgen;
            /// An engine with this module's domain.
            #[wasm_bindgen::prelude::wasm_bindgen(js_name = createCore)]
            #[allow(unreachable_pub, missing_docs)]
            pub fn create_core(
                words: &[u32],
                text: &[u8],
            ) -> Result<$crate::wasm::Core, wasm_bindgen::JsValue> {
                let native = vec![$($crate::AggregateDefinition::native::<$aggregate>()),+];
                $crate::wasm::Core::create(words, text, &native)
            }
        };
    };
}

/// An engine whose whole domain lives in JavaScript. For the arguments see [`Core::create`].
///
/// # Errors
/// A misuse, as an object with `code` and `message`.
#[cfg(feature = "wasm-entry")]
#[wasm_bindgen(js_name = createCore)]
pub fn create_core(words: &[u32], text: &[u8]) -> Result<Core, JsValue> {
    Core::create(words, text, &[])
}

/// A misuse, as JavaScript sees it.
#[derive(Serialize)]
struct Misuse {
    code: &'static str,
    message: String,
}

fn misuse(code: &'static str, message: String) -> JsValue {
    // An object of two strings can always be made.
    serde_wasm_bindgen::to_value(&Misuse { code, message }).unwrap_or(JsValue::NULL)
}

fn api_misuse(error: &ApiMisuse) -> JsValue {
    misuse(error.code(), error.to_string())
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
    engine: Engine,
    input_words: Vec<u32>,
    input_text: Vec<u8>,
    output: Writer,
}

impl Core {
    /// An engine as the message says: 8 random words of seed; the limits
    /// [`Config::request_timeout`](crate::Config::request_timeout), `cached_states`, `page_limit` and
    /// `poll_interval`, 0 for the default; the names of its aggregates, those the module
    /// defines and those that live in JavaScript.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`.
    pub fn create(
        words: &[u32],
        text: &[u8],
        native: &[AggregateDefinition],
    ) -> Result<Self, JsValue> {
        keep_panics();
        let mut config = Reader::new(words, text)
            .and_then(|mut reader| decode::config(&mut reader))
            .map_err(|error| misuse("api-misuse", error.to_string()))?;
        for definition in &mut config.aggregates {
            let found = native.iter().find(|native| native.name() == definition.name());
            *definition = found.unwrap_or(definition).clone();
        }
        let engine = Engine::new(config).map_err(|error| api_misuse(&error))?;
        let (input_words, input_text) = (Vec::new(), Vec::new());
        Ok(Self { engine, input_words, input_text, output: Writer::default() })
    }

    fn reader(&self) -> Result<Reader<'_>, JsValue> {
        Reader::new(&self.input_words, &self.input_text)
            .map_err(|error| misuse("api-misuse", error.to_string()))
    }
}

#[wasm_bindgen]
impl Core {
    /// Whether the aggregate lives in this module.
    #[wasm_bindgen(js_name = isNative)]
    #[must_use]
    pub fn is_native(&self, index: u32) -> bool {
        self.engine.is_native(index)
    }

    /// Makes room for the next input; returns the address of its words.
    #[wasm_bindgen(js_name = inputWords)]
    pub fn input_words(&mut self, count: usize) -> *const u32 {
        self.input_words.clear();
        self.input_words.resize(count, 0);
        self.input_words.as_ptr()
    }

    /// Makes room for the next input; returns the address of its text.
    #[wasm_bindgen(js_name = inputText)]
    pub fn input_text(&mut self, bytes: usize) -> *const u8 {
        self.input_text.clear();
        self.input_text.resize(bytes, 0);
        self.input_text.as_ptr()
    }

    /// Says how many bytes of the text's room are text.
    #[wasm_bindgen(js_name = trimInputText)]
    pub fn trim_input_text(&mut self, bytes: usize) {
        self.input_text.truncate(bytes);
    }

    /// Takes the input in the buffers.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`; nothing has changed then.
    #[wasm_bindgen(js_name = handleInput)]
    pub fn handle_input(&mut self, now: f64) -> Result<(), JsValue> {
        let input = decode::input(&mut self.reader()?)
            .map_err(|error| misuse("api-misuse", error.to_string()))?;
        let now = Timestamp::from_millis(now as i64);
        self.engine.handle_input(now, input).map_err(|error| api_misuse(&error))
    }

    /// Writes outputs into the buffers until the engine is idle or asks for a domain function,
    /// and returns the number of words.
    #[wasm_bindgen(js_name = pollOutputs)]
    pub fn poll_outputs(&mut self) -> usize {
        self.output.clear();
        loop {
            let output = self.engine.poll_output();
            encode::output(&mut self.output, &output);
            if matches!(output, Output::Idle { .. } | Output::Domain(_)) {
                return self.output.words.len();
            }
        }
    }

    /// Judges the append under way with this number by the facts in the buffers. Writes the
    /// verdicts and returns the number of words; 0 if no such append is under way.
    ///
    /// # Errors
    /// A misuse, as an object with `code` and `message`.
    pub fn judge(&mut self, request: u32) -> Result<usize, JsValue> {
        let facts = decode::facts(&mut self.reader()?)
            .map_err(|error| misuse("api-misuse", error.to_string()))?;
        let Some(append) = self.engine.append_in_flight(RequestId(request)) else {
            return Ok(0);
        };
        if append.commits.len() != facts.commits.len() {
            let message = format!("expected facts for {} commits", append.commits.len());
            return Err(misuse("api-misuse", message));
        }
        let verdicts = judge(append, &facts);
        self.output.clear();
        encode::verdicts(&mut self.output, &verdicts);
        Ok(self.output.words.len())
    }

    /// Address of the words of the last output.
    #[wasm_bindgen(js_name = outputWords)]
    #[must_use]
    pub fn output_words(&self) -> *const u32 {
        self.output.words.as_ptr()
    }

    /// Address of the text of the last output.
    #[wasm_bindgen(js_name = outputText)]
    #[must_use]
    pub fn output_text(&self) -> *const u8 {
        self.output.text.as_ptr()
    }

    /// Length of the text of the last output, in bytes.
    #[wasm_bindgen(js_name = outputTextLength)]
    #[must_use]
    pub fn output_text_length(&self) -> usize {
        self.output.text.len()
    }

    /// Panics, so that hosts can test what they do then.
    #[doc(hidden)]
    #[wasm_bindgen(js_name = panicForTest)]
    pub fn panic_for_test(&mut self) {
        panic!("asked to panic");
    }
}
