//! The conversion layer between the engine and JavaScript, and nothing else.
//!
//! Inputs and outputs cross as numbers in a buffer of 32-bit words and as one string beside it
//! (`words.rs`); JavaScript reads and writes both in linear memory, and is never called. Whatever
//! has gathered crosses at once: inputs in, outputs out. A misuse, which is small and rare, crosses
//! as an array.
//!
//! A panic leaves the module in an unknown state. The host finds it as a trap, asks
//! [`last_panic`] what it was, and uses the module no more.

#![allow(unsafe_code, reason = "wasm-bindgen's macros make it; nothing here does")]

mod decode;
mod encode;
mod words;

use std::cell::RefCell;
use std::sync::Arc;

use serde::Serialize;
use wasm_bindgen::prelude::*;

#[doc(hidden)]
pub use wasm_bindgen;

use crate::domain::{AggregateDefinition, Domain};
use crate::engine::Engine;
use crate::error::ApiMisuse;
use crate::judge::judge;
use crate::projection::ProjectionDefinition;
use crate::protocol::{DomainRequest, Output, RequestId};
use crate::time::Timestamp;

use words::{Reader, Writer};

/// Exports a domain written in Rust, as the module's `createCore` and `upcast`.
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
/// An aggregate of whose states snapshots are kept is named with its policy:
/// `Visits => SnapshotPolicy { every: Some(100), ..SnapshotPolicy::version(1) }`. Projections follow
/// the aggregates: `Visits; projections: Workload, Agenda`.
///
/// Build the crate as a `cdylib` with the feature `annals/wasm` and run wasm-bindgen on it; the
/// application gives the result to `Engine.open` of `annals/slim`. `www/clinic` is such a crate.
#[macro_export]
macro_rules! export_domain {
    (@definition $aggregate:ty) => { $crate::AggregateDefinition::native::<$aggregate>() };
    (@definition $aggregate:ty => $policy:expr) => {
        $crate::AggregateDefinition::native_with_snapshots::<$aggregate>($policy)
    };
    (
        $($aggregate:ty $(=> $policy:expr)?),+ $(,)?
        $(; projections: $($projection:ty),+ $(,)?)?
    ) => {
        const _: () = {
            use $crate::wasm::wasm_bindgen;
            /// An engine with this module's domain.
            #[wasm_bindgen::prelude::wasm_bindgen(js_name = createCore)]
            #[allow(unreachable_pub, missing_docs)]
            pub fn create_core() -> usize {
                $crate::wasm::create(
                    vec![$($crate::export_domain!(@definition $aggregate $(=> $policy)?)),+],
                    vec![$($($crate::ProjectionDefinition::native::<$projection>()),+)?],
                )
            }
            /// An event as one of this module's aggregates knows it today.
            #[wasm_bindgen::prelude::wasm_bindgen(js_name = upcast)]
            #[allow(unreachable_pub, missing_docs)]
            pub fn upcast(core: usize, words: usize, text_bytes: usize) -> u32 {
                $crate::wasm::upcast(core, words, text_bytes)
            }
        };
    };
}

/// An engine whose whole domain lives in JavaScript.
#[cfg(feature = "wasm-entry")]
#[wasm_bindgen(js_name = createCore)]
#[must_use]
pub fn create_core() -> usize {
    create(Vec::new(), Vec::new())
}

/// A misuse, as JavaScript sees it: code and message. An object would bring a table of its members'
/// names.
#[derive(Debug, Serialize)]
struct Misuse(&'static str, String);

fn misuse(what: impl std::fmt::Display) -> Misuse {
    Misuse(ApiMisuse::CODE, what.to_string())
}

/// What a call returns that was a misuse. A call that returns an error or a value costs more than
/// one that returns a number.
const MISUSED: u32 = u32::MAX;

thread_local! {
    /// The engines of this instance. Numbers of those that are gone are given again.
    static CORES: RefCell<Vec<Option<Core>>> = const { RefCell::new(Vec::new()) };
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
struct Core {
    /// The aggregates and projections this module defines.
    native: Vec<AggregateDefinition>,
    native_projections: Vec<ProjectionDefinition>,
    /// The names of all the engine's aggregates, as JavaScript counts them.
    names: Vec<Arc<str>>,
    /// `None` until it is started.
    engine: Option<Engine>,
    input_words: Vec<u32>,
    input_text: Vec<u8>,
    output: Writer,
    /// In a place of its own, which stays.
    mailbox: Box<[u32; 5]>,
    misuse: Option<Misuse>,
}

/// An engine to be started, in a module that defines these aggregates and projections. Returns its
/// number.
#[doc(hidden)]
#[must_use]
pub fn create(
    native: Vec<AggregateDefinition>,
    native_projections: Vec<ProjectionDefinition>,
) -> usize {
    keep_panics();
    let (names, engine, input_words, input_text) = Default::default();
    let (output, mailbox, misuse) = Default::default();
    let core = Core {
        native,
        native_projections,
        names,
        engine,
        input_words,
        input_text,
        output,
        mailbox: Box::new(mailbox),
        misuse,
    };
    CORES.with_borrow_mut(|cores| {
        let free = cores.iter().position(Option::is_none).unwrap_or(cores.len());
        if free == cores.len() {
            cores.push(None);
        }
        cores[free] = Some(core);
        free
    })
}

fn with<T>(core: usize, call: impl FnOnce(&mut Core) -> T) -> T {
    CORES.with_borrow_mut(|cores| {
        call(cores.get_mut(core).and_then(Option::as_mut).expect("the engine has not been freed"))
    })
}

impl Core {
    /// Says where the output is; returns the number of its words.
    fn post(&mut self, result: Result<(), Misuse>) -> u32 {
        if let Err(misuse) = result {
            self.misuse = Some(misuse);
            return MISUSED;
        }
        self.mailbox[2] = address(self.output.words.as_ptr());
        self.mailbox[3] = address(self.output.text.as_ptr());
        self.mailbox[4] = self.output.text.len() as u32;
        self.output.words.len() as u32
    }

    /// The input, which takes this much of its room.
    fn reader(&self, words: usize, text_bytes: usize) -> Result<Reader<'_>, Misuse> {
        let text = self.input_text.get(..text_bytes).unwrap_or_default();
        Reader::new(self.input_words.get(..words).unwrap_or_default(), text).map_err(misuse)
    }

    fn try_start(&mut self, words: usize, text_bytes: usize) -> Result<(), Misuse> {
        let mut config = decode::config(&mut self.reader(words, text_bytes)?).map_err(misuse)?;
        self.output.clear();
        self.names.clear();
        for definition in &mut config.aggregates {
            let mut native = self.native.iter();
            let found = native.find(|native| native.name() == definition.name());
            self.output.flag(found.is_some());
            if let Some(AggregateDefinition { domain: Domain::Native(native), .. }) = found {
                encode::forms(&mut self.output, &native.forms());
            }
            *definition = found.unwrap_or(definition).clone();
            self.names.push(definition.name().into());
        }
        for definition in &mut config.projections {
            let mut native = self.native_projections.iter();
            let found = native.find(|native| native.name() == definition.name());
            self.output.flag(found.is_some());
            if found.is_some() {
                encode::forms(&mut self.output, &[]);
            }
            *definition = found.unwrap_or(definition).clone();
        }
        self.engine = Some(Engine::new(config).map_err(misuse)?);
        Ok(())
    }

    fn try_exchange(&mut self, now: f64, words: usize, text_bytes: usize) -> Result<(), Misuse> {
        let now = Timestamp::from_millis(now as i64);
        let text = self.input_text.get(..text_bytes).unwrap_or_default();
        let words = self.input_words.get(..words).unwrap_or_default();
        let mut reader = Reader::new(words, text).map_err(misuse)?;
        let engine = started(&mut self.engine)?;
        while !reader.is_empty() {
            let input = decode::input(&mut reader, &self.names).map_err(misuse)?;
            engine.handle_input(now, input).map_err(misuse)?;
        }
        self.output.clear();
        loop {
            let output = engine.poll_output();
            encode::output(&mut self.output, &output, engine);
            match output {
                Output::Idle { .. }
                | Output::AwaitDomain
                | Output::Domain(DomainRequest { others: Some(_), .. }) => return Ok(()),
                _ => {}
            }
        }
    }

    fn try_upcast(&mut self, words: usize, text_bytes: usize) -> Result<(), Misuse> {
        let mut reader = self.reader(words, text_bytes)?;
        let (name, event_type, version, data) = decode::event(&mut reader).map_err(misuse)?;
        let mut native = self.native.iter().filter(|native| native.name() == name);
        let Some(AggregateDefinition { domain: Domain::Native(native), .. }) = native.next() else {
            return Err(misuse(format_args!("the module has no aggregate {name:?}")));
        };
        let upcast = (**native).upcast(event_type, version, data, None);
        self.output.clear();
        encode::upcast(&mut self.output, &upcast);
        Ok(())
    }

    fn try_manage(&mut self, words: usize, text_bytes: usize) -> Result<(), Misuse> {
        let (run, wishes) = decode::wishes(&mut self.reader(words, text_bytes)?).map_err(misuse)?;
        self.output.clear();
        if let Some(ids) = started(&mut self.engine)?.manage(run, wishes) {
            self.output.list(&ids, |writer, id| writer.uuid(id.0));
        }
        Ok(())
    }

    fn try_judge(&mut self, request: f64, words: usize, text_bytes: usize) -> Result<(), Misuse> {
        let facts = decode::facts(&mut self.reader(words, text_bytes)?).map_err(misuse)?;
        self.output.clear();
        let request = RequestId(request as u64);
        let Some(append) = started(&mut self.engine)?.append_in_flight(request) else {
            return Ok(());
        };
        let (expected, found) = (append.commits.len(), facts.commits.len());
        if expected != found {
            return Err(misuse(format_args!(
                "expected facts for {expected} commits, found {found}"
            )));
        }
        let verdicts = judge(append, &facts);
        encode::verdicts(&mut self.output, &verdicts);
        Ok(())
    }
}

/// The engine, once it has been started.
fn started(engine: &mut Option<Engine>) -> Result<&mut Engine, Misuse> {
    engine.as_mut().ok_or_else(|| misuse("the engine has not been started"))
}

/// An address in linear memory, which has 32 bits.
fn address<T>(pointer: *const T) -> u32 {
    pointer as usize as u32
}

/// Starts the engine as the message in the buffers says: 8 random words of seed; the limits
/// [`Config::request_timeout`](crate::Config::request_timeout), `cached_states`, `page_limit`,
/// `poll_interval` and `lease`, 0 for the default; its [`identity`](crate::Config::identity); its
/// aggregates, projections and reactions. Writes for each aggregate and projection whether this module
/// defines it and, if it does, what there is to know of the forms of its events: a projection has none.
///
/// Returns the number of words, as [`exchange`] and [`judge_facts`] do; 2^32 - 1 after a misuse,
/// which [`misuse_of`] tells.
#[wasm_bindgen(js_name = startCore)]
#[must_use]
pub fn start(core: usize, words: usize, text_bytes: usize) -> u32 {
    with(core, |core| {
        let result = core.try_start(words, text_bytes);
        core.post(result)
    })
}

/// The last misuse: its code and its message.
#[wasm_bindgen(js_name = misuse)]
#[must_use]
pub fn misuse_of(core: usize) -> JsValue {
    // An array of two strings can always be made.
    with(core, |core| serde_wasm_bindgen::to_value(&core.misuse.take()).unwrap_or(JsValue::NULL))
}

/// Address of five words: the addresses of the input's words and text and of the output's words
/// and text, and the length of the output's text in bytes. The address stays; what is there
/// changes with each call that makes room or writes.
#[wasm_bindgen]
#[must_use]
pub fn mailbox(core: usize) -> *const u32 {
    with(core, |core| core.mailbox.as_ptr())
}

/// Makes room for inputs of this size, and says where it is. The room stays.
#[wasm_bindgen(js_name = makeRoom)]
pub fn make_room(core: usize, words: usize, text_bytes: usize) {
    with(core, |core| {
        core.input_words.resize(words.max(core.input_words.len()), 0);
        core.input_text.resize(text_bytes.max(core.input_text.len()), 0);
        core.mailbox[0] = address(core.input_words.as_ptr());
        core.mailbox[1] = address(core.input_text.as_ptr());
    });
}

/// Takes the inputs in the buffers, then writes outputs into the buffers until the engine is idle
/// or waits for answers of domain functions. Inputs before a misuse have been taken.
#[wasm_bindgen]
#[must_use]
pub fn exchange(core: usize, now: f64, words: usize, text_bytes: usize) -> u32 {
    with(core, |core| {
        let result = core.try_exchange(now, words, text_bytes);
        core.post(result)
    })
}

/// Judges the append under way with this number by the facts in the buffers, and writes the
/// verdicts; nothing if no such append is under way.
#[wasm_bindgen(js_name = judge)]
#[must_use]
pub fn judge_facts(core: usize, request: f64, words: usize, text_bytes: usize) -> u32 {
    with(core, |core| {
        let result = core.try_judge(request, words, text_bytes);
        core.post(result)
    })
}

/// Takes what a process manager wants, which is in the buffers, and writes the ids of its commands; nothing
/// if another engine runs it by now.
#[wasm_bindgen]
#[must_use]
pub fn manage(core: usize, words: usize, text_bytes: usize) -> u32 {
    with(core, |core| {
        let result = core.try_manage(words, text_bytes);
        core.post(result)
    })
}

/// Reads an event as an aggregate of this module knows it today: the aggregate's name, and the event's
/// type, schema version and data are in the buffers. Writes what it is.
#[doc(hidden)]
#[must_use]
pub fn upcast(core: usize, words: usize, text_bytes: usize) -> u32 {
    with(core, |core| {
        let result = core.try_upcast(words, text_bytes);
        core.post(result)
    })
}

/// Ends the engine. Its number must not be used again.
#[wasm_bindgen(js_name = freeCore)]
pub fn free(core: usize) {
    CORES.with_borrow_mut(|cores| cores[core] = None);
}

/// Panics, so that hosts can test what they do then.
#[doc(hidden)]
#[wasm_bindgen(js_name = panicForTest)]
pub fn panic_for_test() {
    panic!("asked to panic");
}
