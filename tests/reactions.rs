//! Reactions: every event at least once, in the order of its stream, by one engine at a time.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use annals::protocol::{
    Document, DocumentName, DocumentValue, LogFilter, ReactionAction, ReactionRead, RequestId,
    SaveDocuments, StorageAnswer, StorageBody, StorageRequest,
};
use annals::storage::{
    Annals, AsyncAnnals, AsyncReaction, AsyncStorageAdapter, Clock, CommandOptions, LocalFuture,
    Occasion, Reaction, Runtime, StorageAdapter,
};
use annals::{
    AggregateDefinition, ApiMisuse, Config, Error, Lanes, Position, ReactionDefinition, ReadError,
    RetryPolicy, StartAt, StorageError, Timestamp,
};
use support::shared::{Shared, Ticking, at_once};
use support::{Booking, Command};

const MAILER: &str = "mailer";
const LEASE: u64 = 9_000;

fn definition() -> ReactionDefinition {
    ReactionDefinition {
        name: MAILER.into(),
        filter: LogFilter::default(),
        upcasts: false,
        start_at: StartAt::Beginning,
        retries: RetryPolicy { max_attempts: 3, first_pause: 100, max_pause: 10_000 },
        concurrency: 4,
        lanes: Lanes::Streams,
    }
}

/// Events that were handled or have failed, and how.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    stream: String,
    position: u64,
    attempt: u32,
    key: String,
    at: u64,
}

/// What the reaction's function has seen, and where it fails.
#[derive(Clone, Default)]
struct Mail {
    calls: Rc<RefCell<Vec<Call>>>,
    fails: Rc<RefCell<BTreeSet<u64>>>,
    clock: Ticking,
}

impl Mail {
    fn handle(&self, occasion: &Occasion<'_>) -> Result<(), String> {
        let Occasion { event, key, attempt } = *occasion;
        let (stream, position) = (event.stream.aggregate_id.to_string(), event.position.0);
        let (key, at) = (key.to_owned(), self.clock.0.get());
        self.calls.borrow_mut().push(Call { stream, position, attempt, key, at });
        match self.fails.borrow().contains(&position) {
            true => Err(format!("no route to {position}")),
            false => Ok(()),
        }
    }

    fn positions(&self) -> Vec<u64> {
        self.calls.borrow().iter().map(|call| call.position).collect()
    }

    fn reaction(&self, definition: ReactionDefinition) -> Reaction {
        let mail = self.clone();
        Reaction::new(definition, move |occasion| mail.handle(&occasion))
    }
}

type Engine = Annals<Shared, Ticking>;

fn config(seed: u8) -> Config {
    let mut config = Config::new([seed; 32], vec![AggregateDefinition::native::<Booking>()]);
    config.page_limit = 3;
    config.lease = LEASE;
    config
}

fn with(store: &Shared, clock: &Ticking, seed: u8, reactions: Vec<Reaction>) -> Engine {
    let made = Annals::with_reactions(config(seed), store.clone(), clock.clone(), reactions);
    made.expect("the configuration is fine")
}

fn engine(store: &Shared, mail: &Mail, seed: u8) -> Engine {
    with(store, &mail.clock, seed, vec![mail.reaction(definition())])
}

fn give(engine: &mut Engine, ids: &[&str]) {
    for id in ids {
        let done = engine.execute::<Booking>(id, &Command::Note, CommandOptions::default());
        done.expect("it is done");
    }
}

/// Events of others, who have no reactions.
fn append(store: &Shared, ids: &[&str]) {
    let seed = 100 + store.store.borrow().log().len() as u8;
    give(&mut with(store, &Ticking::default(), seed, Vec::new()), ids);
}

fn status(engine: &mut Engine) -> ReactionRead {
    engine.reaction(MAILER, None).expect("it can be told")
}

fn act(engine: &mut Engine, action: ReactionAction) {
    engine.reaction(MAILER, Some(action)).expect("it can be done");
}

/// Puts a document into the store, whatever is there.
fn put(store: &Shared, collection: &str, key: &str, revision: u64, value: DocumentValue) {
    let name = DocumentName { collection: collection.into(), key: key.into() };
    let document = Document { name, revision, value, postings: Vec::new() };
    let save = SaveDocuments { documents: vec![document], ..SaveDocuments::default() };
    let request = StorageRequest {
        id: RequestId(1),
        attempt: 1,
        deadline: Timestamp::from_millis(0),
        epoch: None,
        body: StorageBody::SaveDocuments(std::sync::Arc::new(save)),
    };
    store.store.borrow_mut().call(&request).expect("it is saved");
}

fn lane(id: &str) -> std::sync::Arc<str> {
    format!("[\"Booking\",\"{id}\"]").into()
}

#[test]
fn a_reaction_from_the_beginning_handles_what_was_there_and_what_comes() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    append(&store, &["a", "b", "a", "c", "a"]);
    let mut engine = engine(&store, &mail, 1);
    engine.serve(10)?;
    assert_eq!(mail.positions(), [1, 2, 3, 4, 5]);
    give(&mut engine, &["b", "b"]);
    append(&store, &["c"]);
    engine.serve(LEASE)?;
    assert_eq!(mail.positions(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let read = status(&mut engine);
    assert_eq!((read.position, read.head), (Position(8), Position(8)));
    assert!(read.runs && read.runs_here && !read.paused && read.trouble.is_none());
    assert_eq!(read.lanes, []);
    Ok(())
}

#[test]
fn a_reaction_from_now_handles_what_comes_after_it_has_first_run() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    append(&store, &["a", "b"]);
    let now = || mail.reaction(ReactionDefinition { start_at: StartAt::Now, ..definition() });
    let mut first = with(&store, &mail.clock, 1, vec![now()]);
    first.serve(10)?;
    give(&mut first, &["a"]);
    first.serve(10)?;
    assert_eq!(mail.positions(), [3]);
    drop(first);
    append(&store, &["b"]);
    let mut second = with(&store, &mail.clock, 2, vec![now()]);
    second.serve(3 * LEASE)?;
    assert_eq!(mail.positions(), [3, 4], "what came while nobody ran it is handled");
    Ok(())
}

#[test]
fn only_events_that_pass_the_filter_are_handled_and_the_others_are_passed() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let filter = LogFilter { types: vec!["Booked".into()], ..LogFilter::default() };
    let reaction = mail.reaction(ReactionDefinition { filter, ..definition() });
    let mut engine = with(&store, &mail.clock, 1, vec![reaction]);
    give(&mut engine, &["a", "b", "a", "b"]);
    engine.execute::<Booking>("a", &Command::WalkIn { slot: 3 }, CommandOptions::default())?;
    give(&mut engine, &["a", "b", "a", "b"]);
    engine.serve(LEASE)?;
    assert_eq!(mail.positions(), [5]);
    assert_eq!(status(&mut engine).position, Position(9));
    Ok(())
}

#[test]
fn an_event_that_fails_is_tried_again_after_its_pauses_and_only_its_stream_waits()
-> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().insert(1);
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["a", "b", "a", "b", "a"]);
    engine.serve(50)?;
    assert_eq!(mail.positions(), [1, 2, 4]);
    let read = status(&mut engine);
    assert_eq!((read.position, read.lanes.len()), (Position(5), 1));
    assert_eq!((&read.lanes[0].lane, read.lanes[0].position), (&lane("a"), Position(1)));
    assert_eq!((read.lanes[0].attempts, &*read.lanes[0].error), (1, "no route to 1"));
    assert!(read.lanes[0].retry_at.is_some());
    engine.serve(150)?;
    mail.fails.borrow_mut().clear();
    engine.serve(400)?;
    assert_eq!(mail.positions(), [1, 2, 4, 1, 1, 3, 5]);
    let calls = mail.calls.borrow();
    let tries: Vec<_> = calls.iter().filter(|call| call.position == 1).collect();
    assert_eq!(tries.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(tries[1].at >= tries[0].at + 100 && tries[2].at >= tries[1].at + 200, "{tries:?}");
    assert!(tries.iter().all(|call| call.key == tries[0].key), "{tries:?}");
    assert!(tries[0].key.starts_with("mailer/"));
    drop(calls);
    assert_eq!(status(&mut engine).lanes, []);
    Ok(())
}

#[test]
fn after_the_last_attempt_it_is_parked_and_a_retry_lets_its_stream_catch_up_in_order()
-> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().extend([1]);
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["a", "b", "a", "b", "a"]);
    engine.serve(LEASE)?;
    give(&mut engine, &["a", "b"]);
    engine.serve(LEASE)?;
    assert_eq!(mail.positions(), [1, 2, 4, 1, 1, 7]);
    let read = status(&mut engine);
    let parked = &read.lanes[0];
    assert_eq!((parked.position, parked.attempts, parked.retry_at), (Position(1), 3, None));
    assert_eq!((read.position, read.lanes.len()), (Position(7), 1));
    mail.fails.borrow_mut().clear();
    act(&mut engine, ReactionAction::Retry(lane("a")));
    engine.serve(10)?;
    assert_eq!(mail.positions()[6..], [1, 3, 5, 6]);
    assert_eq!(status(&mut engine).lanes, []);
    give(&mut engine, &["a"]);
    engine.serve(10)?;
    assert_eq!(mail.positions()[10..], [8]);
    Ok(())
}

#[test]
fn an_event_that_is_dropped_is_passed_and_its_stream_goes_on_behind_it() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().extend([1, 5]);
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["a", "b", "a", "b", "a", "a"]);
    engine.serve(LEASE)?;
    act(&mut engine, ReactionAction::Drop(lane("a")));
    engine.serve(LEASE)?;
    // The next one fails too, and has attempts of its own.
    assert_eq!(mail.positions(), [1, 2, 4, 1, 1, 3, 5, 5, 5]);
    assert_eq!(status(&mut engine).lanes[0].position, Position(5));
    act(&mut engine, ReactionAction::Drop(lane("a")));
    engine.serve(10)?;
    assert_eq!(mail.positions()[9..], [6]);
    assert_eq!(status(&mut engine).lanes, []);
    Ok(())
}

/// The simulation's operators have found it: the second wish dropped an event that nobody had tried.
#[test]
fn what_is_dropped_twice_is_dropped_alone() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().insert(1);
    let (mut runner, mut other) = (engine(&store, &mail, 1), engine(&store, &mail, 2));
    give(&mut runner, &["a", "a", "a"]);
    runner.serve(LEASE)?;
    act(&mut other, ReactionAction::Drop(lane("a")));
    act(&mut runner, ReactionAction::Drop(lane("a")));
    act(&mut runner, ReactionAction::Drop(lane("a")));
    runner.serve(LEASE)?;
    assert_eq!(mail.positions(), [1, 1, 1, 2, 3]);
    assert_eq!(status(&mut runner).lanes, []);
    Ok(())
}

/// A request that comes again may leave a wish again that was fulfilled: what the lane is at by then was not
/// meant, and has not been dropped.
#[test]
fn a_wish_is_about_the_event_that_was_parked_and_no_other() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().extend([1, 2]);
    let (mut runner, mut other) = (engine(&store, &mail, 1), engine(&store, &mail, 2));
    give(&mut runner, &["a", "a"]);
    runner.serve(LEASE)?;
    act(&mut other, ReactionAction::Drop(lane("a")));
    let kept = |store: &Shared| store.saves.borrow().last().cloned().expect("the wish was left");
    let wish = kept(&store);
    runner.serve(2 * LEASE)?;
    assert_eq!(status(&mut runner).lanes[0].position, Position(2));

    for (name, again) in wish.documents.iter().map(|wish| (wish.name.clone(), wish.value.clone())) {
        put(&store, &name.collection, &name.key, 1, again);
    }
    runner.serve(2 * LEASE)?;
    assert_eq!(status(&mut runner).lanes[0].position, Position(2));
    act(&mut other, ReactionAction::Drop(lane("a")));
    runner.serve(2 * LEASE)?;
    assert_eq!(status(&mut runner).lanes, []);
    Ok(())
}

/// The simulation's operators have found it: who took the reaction over forgot the lane when it came to the
/// place before it, and its event was tried again, or, if it had been dropped, handled.
#[test]
fn what_is_parked_beyond_the_progress_stays_so_when_another_takes_over() -> Result<(), Error> {
    for (position, error, handled) in [("5", "no route", vec![4, 6]), ("6", "", vec![4, 6, 7])] {
        let (store, mail) = (Shared::new(), Mail::default());
        append(&store, &["b", "b", "b", "b", "a", "b"]);
        append(&store, if error.is_empty() { &["a"] } else { &[] });
        let progress = ["", "3", &lane("a"), position, "3", "", error];
        let text = serde_json::to_string(&progress).expect("it is JSON").into();
        put(&store, "reactions", MAILER, 1, DocumentValue::Text(text));
        let config = Config { page_limit: 1, ..config(1) };
        let reactions = vec![mail.reaction(definition())];
        let mut engine =
            Annals::with_reactions(config, store.clone(), mail.clock.clone(), reactions)?;
        engine.serve(LEASE)?;
        assert_eq!(mail.positions(), handled);
        assert_eq!(status(&mut engine).lanes.is_empty(), error.is_empty());
    }
    Ok(())
}

#[test]
fn the_last_event_of_a_stream_can_be_dropped() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().insert(2);
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["b", "a"]);
    engine.serve(LEASE)?;
    assert_eq!(status(&mut engine).lanes.len(), 1);
    act(&mut engine, ReactionAction::Drop(lane("a")));
    engine.serve(10)?;
    assert_eq!(status(&mut engine).lanes, []);
    give(&mut engine, &["a"]);
    engine.serve(10)?;
    assert_eq!(mail.positions(), [1, 2, 2, 2, 3]);
    Ok(())
}

#[test]
fn a_wish_for_what_is_not_parked_changes_nothing() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["a"]);
    engine.serve(10)?;
    act(&mut engine, ReactionAction::Drop(lane("a")));
    act(&mut engine, ReactionAction::Retry(lane("none")));
    give(&mut engine, &["a"]);
    engine.serve(10)?;
    assert_eq!(mail.positions(), [1, 2]);
    Ok(())
}

#[test]
fn what_was_saved_is_not_handled_again_and_what_was_not_is_with_the_same_key() -> Result<(), Error>
{
    let (store, mail) = (Shared::new(), Mail::default());
    let mut first = engine(&store, &mail, 1);
    give(&mut first, &["a", "b", "a"]);
    first.serve(10)?;
    // It handles the next, and dies before that is saved.
    store.full.set(u32::MAX);
    give(&mut first, &["b"]);
    first.serve(10)?;
    assert_eq!(mail.positions(), [1, 2, 3, 4]);
    drop(first);
    store.full.set(0);
    let mut second = engine(&store, &mail, 2);
    second.serve(3 * LEASE)?;
    assert_eq!(mail.positions(), [1, 2, 3, 4, 4]);
    let calls = mail.calls.borrow();
    assert_eq!(calls[3].key, calls[4].key);
    assert_ne!(calls[2].key, calls[3].key);
    Ok(())
}

#[test]
fn what_is_parked_and_when_the_next_attempt_is_survive_a_crash() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    mail.fails.borrow_mut().extend([1, 2]);
    let mut first = engine(&store, &mail, 1);
    give(&mut first, &["a"]);
    first.serve(LEASE)?;
    give(&mut first, &["b", "a", "b"]);
    first.serve(10)?;
    drop(first);
    let mut second = engine(&store, &mail, 2);
    mail.fails.borrow_mut().clear();
    second.serve(3 * LEASE)?;
    assert_eq!(mail.positions(), [1, 1, 1, 2, 2, 4]);
    assert_eq!(mail.calls.borrow()[4].attempt, 2);
    let lanes = status(&mut second).lanes;
    assert_eq!((lanes.len(), &lanes[0].lane, lanes[0].attempts), (1, &lane("a"), 3));
    act(&mut second, ReactionAction::Retry(lane("a")));
    second.serve(10)?;
    assert_eq!(mail.positions()[6..], [1, 3]);
    Ok(())
}

#[test]
fn one_engine_runs_it_and_another_takes_over_when_the_first_says_nothing_for_a_lease()
-> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let other = Mail { calls: Rc::default(), ..mail.clone() };
    let (mut first, mut second) = (engine(&store, &mail, 1), engine(&store, &other, 2));
    first.serve(10)?;
    second.serve(10)?;
    give(&mut second, &["a"]);
    for _ in 0..30 {
        second.serve(LEASE / 10)?;
        first.serve(LEASE / 10)?;
    }
    assert_eq!((mail.positions(), other.positions()), (vec![1], vec![]));
    assert!(status(&mut first).runs_here && !status(&mut second).runs_here);
    assert!(status(&mut second).runs);
    give(&mut second, &["a"]);
    second.serve(LEASE / 2)?;
    assert_eq!(other.positions(), [0; 0], "the first may be at it");
    second.serve(2 * LEASE)?;
    assert_eq!(other.positions(), [2]);
    assert!(status(&mut second).runs_here);
    Ok(())
}

#[test]
fn a_reaction_that_is_given_back_is_taken_by_the_next_who_looks() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let other = Mail { calls: Rc::default(), ..mail.clone() };
    let (mut first, mut second) = (engine(&store, &mail, 1), engine(&store, &other, 2));
    first.serve(10)?;
    act(&mut first, ReactionAction::Pause);
    first.serve(10)?;
    let read = status(&mut first);
    assert!(read.paused && !read.runs_here && !read.runs);
    give(&mut first, &["a"]);
    first.serve(3 * LEASE)?;
    assert_eq!(mail.positions(), [0; 0]);
    second.serve(10)?;
    assert_eq!(other.positions(), [1]);
    act(&mut second, ReactionAction::Pause);
    second.serve(10)?;
    give(&mut first, &["a"]);
    act(&mut first, ReactionAction::Resume);
    first.serve(10)?;
    assert_eq!(mail.positions(), [2]);
    Ok(())
}

#[test]
fn a_wish_is_fulfilled_by_the_engine_that_runs_the_reaction() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let mut runner = engine(&store, &mail, 1);
    let mut asker = engine(&store, &mail, 2);
    mail.fails.borrow_mut().extend([1, 2]);
    give(&mut runner, &["a", "b", "a", "b"]);
    runner.serve(2_000)?;
    mail.fails.borrow_mut().clear();
    let parked = status(&mut asker).lanes;
    assert_eq!(parked.iter().map(|lane| lane.retry_at).collect::<Vec<_>>(), [None, None]);
    act(&mut asker, ReactionAction::Retry(lane("a")));
    act(&mut asker, ReactionAction::Drop(lane("b")));
    mail.calls.borrow_mut().clear();
    runner.serve(LEASE)?;
    let mut positions = mail.positions();
    positions.sort_unstable();
    assert_eq!(positions, [1, 3, 4]);
    assert_eq!(status(&mut asker).lanes, []);
    // A wish is fulfilled once.
    mail.fails.borrow_mut().insert(5);
    give(&mut runner, &["a", "a"]);
    runner.serve(3 * LEASE)?;
    assert_eq!(mail.positions()[3..], [5, 5, 5]);
    Ok(())
}

#[test]
fn who_has_lost_the_reaction_without_knowing_it_can_not_save() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let other = Mail { calls: Rc::default(), ..mail.clone() };
    let successor = Rc::new(RefCell::new(engine(&store, &other, 2)));
    let zombie = Rc::new(Cell::new(false));
    let handler = {
        let (mail, zombie, successor) = (mail.clone(), Rc::clone(&zombie), Rc::clone(&successor));
        move |occasion: Occasion<'_>| {
            mail.handle(&occasion)?;
            if zombie.take() {
                // It sleeps so long that it is taken for dead.
                successor.borrow_mut().serve(3 * LEASE).expect("it runs");
            }
            Ok(())
        }
    };
    let definition = ReactionDefinition { concurrency: 1, ..definition() };
    let mut first = with(&store, &mail.clock, 1, vec![Reaction::new(definition, handler)]);
    give(&mut first, &["a", "b"]);
    first.serve(10)?;
    append(&store, &["a", "b", "a"]);
    zombie.set(true);
    first.serve(LEASE / 2)?;
    assert_eq!(mail.positions(), [1, 2, 3], "it begins with nothing more");
    assert_eq!(other.positions(), [3, 4, 5]);
    let read = status(&mut first);
    assert_eq!((read.position, read.runs_here), (Position(5), false));
    assert!(status(&mut successor.borrow_mut()).runs_here);
    Ok(())
}

#[test]
fn a_store_that_fails_holds_the_reaction_up_and_says_so() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["a"]);
    engine.serve(10)?;
    store.full.set(2);
    give(&mut engine, &["a", "b"]);
    engine.serve(10)?;
    assert_eq!(status(&mut engine).trouble.as_deref(), Some("storage-full: the disk is full"));
    engine.serve(LEASE)?;
    assert_eq!(status(&mut engine).trouble, None);
    assert_eq!(status(&mut engine).position, Position(3));
    assert_eq!(mail.positions(), [1, 2, 3], "what was handled is known, though not saved");
    Ok(())
}

#[test]
fn a_store_that_was_restored_is_followed_from_what_it_knows() -> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    let mut engine = engine(&store, &mail, 1);
    give(&mut engine, &["a", "b"]);
    engine.serve(10)?;
    let copy = store.store.borrow().clone();
    give(&mut engine, &["a"]);
    engine.serve(10)?;
    *store.store.borrow_mut() = copy;
    store.store.borrow_mut().set_epoch("store-2");
    append(&store, &["c"]);
    engine.serve(4 * LEASE)?;
    assert_eq!(mail.positions(), [1, 2, 3, 3]);
    assert_eq!(mail.calls.borrow()[3].stream, "c");
    assert!(status(&mut engine).runs_here);
    Ok(())
}

#[test]
fn a_progress_that_can_not_be_read_stops_the_reaction_until_it_is_told_to_go_on()
-> Result<(), Error> {
    let (store, mail) = (Shared::new(), Mail::default());
    append(&store, &["a"]);
    put(&store, "reactions", MAILER, 1, DocumentValue::Text("\"what?\"".into()));
    let mut engine = engine(&store, &mail, 1);
    engine.serve(LEASE)?;
    assert_eq!(status(&mut engine).trouble.as_deref(), Some("its progress can't be read"));
    assert_eq!(mail.positions(), [0; 0]);
    put(&store, "reactions", MAILER, 1, DocumentValue::Removed);
    act(&mut engine, ReactionAction::Resume);
    engine.serve(10)?;
    assert_eq!(mail.positions(), [1]);
    Ok(())
}

#[test]
fn what_is_imported_is_no_news_a_reaction_waits_for_its_end_and_begins_after_it()
-> Result<(), Error> {
    for start_at in [StartAt::Beginning, StartAt::Now] {
        let (store, mail) = (Shared::new(), Mail::default());
        let reaction = mail.reaction(ReactionDefinition { start_at, ..definition() });
        let mut engine = with(&store, &mail.clock, 1, vec![reaction]);
        put(&store, "imports", "log", 1, DocumentValue::Text("[\"importing\"]".into()));
        append(&store, &["a", "b"]);
        engine.serve(LEASE)?;
        assert_eq!(status(&mut engine).trouble.as_deref(), Some("events are being imported"));
        append(&store, &["a"]);
        let end = DocumentValue::Text("[\"imported\",\"3\"]".into());
        put(&store, "imports", "log", 2, end);
        engine.serve(LEASE)?;
        append(&store, &["b"]);
        engine.serve(LEASE)?;
        assert_eq!(mail.positions(), [4], "{start_at:?}");
        assert_eq!(status(&mut engine).trouble, None);
        drop(engine);
        append(&store, &["c"]);
        let again = mail.reaction(ReactionDefinition { start_at, ..definition() });
        with(&store, &mail.clock, 2, vec![again]).serve(3 * LEASE)?;
        assert_eq!(mail.positions(), [4, 5], "what has run goes on where it was");
    }
    Ok(())
}

#[test]
fn a_reaction_that_begins_in_the_moment_in_which_an_import_does_waits_for_it() -> Result<(), Error>
{
    let (store, mail) = (Shared::new(), Mail::default());
    let place = store.clone();
    *store.before_save.borrow_mut() = Some(Box::new(move || {
        put(&place, "imports", "log", 1, DocumentValue::Text("[\"importing\"]".into()));
        append(&place, &["a"]);
    }));
    let mut engine = engine(&store, &mail, 1);
    engine.serve(2 * LEASE)?;
    assert_eq!(mail.positions(), [0; 0]);
    put(&store, "imports", "log", 2, DocumentValue::Text("[\"imported\",\"1\"]".into()));
    append(&store, &["b"]);
    engine.serve(2 * LEASE)?;
    assert_eq!(mail.positions(), [2]);
    Ok(())
}

#[test]
fn what_can_not_be_is_told_by_name() {
    let mail = Mail::default();
    let made = |config: Config, reactions| {
        Annals::with_reactions(config, Shared::new(), Ticking::default(), reactions).err()
    };
    let twice = vec![mail.reaction(definition()), mail.reaction(definition())];
    assert_eq!(made(config(1), twice), Some(ApiMisuse::ReactionDefinedTwice(MAILER.into())));
    let mut without = config(1);
    without.reactions = vec![definition()];
    assert_eq!(made(without, Vec::new()), Some(ApiMisuse::NoHandler(MAILER.into())));
    let none = RetryPolicy { max_attempts: 0, ..RetryPolicy::default() };
    for zero in [
        ReactionDefinition { concurrency: 0, ..definition() },
        ReactionDefinition { retries: none, ..definition() },
    ] {
        let error = made(config(1), vec![mail.reaction(zero)]);
        assert!(matches!(error, Some(ApiMisuse::ZeroLimit(_))), "{error:?}");
    }
    let mut zero = config(1);
    zero.lease = 0;
    assert_eq!(made(zero, Vec::new()), Some(ApiMisuse::ZeroLimit("lease")));
    let mut engine = engine(&Shared::new(), &mail, 1);
    let error = engine.reaction("nobody", None).expect_err("nobody is called so");
    let Error::Read(error) = error else { panic!("{error}") };
    assert_eq!(error, ReadError::UnknownReaction("nobody".into()));
    assert_eq!(error.to_string(), "unknown reaction \"nobody\"");
}

// --- Functions that take their time -----------------------------------------------------------

impl AsyncStorageAdapter for Shared {
    fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>> {
        Box::pin(std::future::ready(StorageAdapter::call(&mut self.clone(), &request)))
    }
}

/// Whoever waits is woken when the test moves the clock.
impl Runtime for Ticking {
    fn now(&self) -> Timestamp {
        Clock::now(self)
    }

    fn sleep(&self, millis: u64) -> LocalFuture<()> {
        let (clock, until) = (self.clone(), self.0.get() + millis);
        Box::pin(std::future::poll_fn(move |_| match clock.0.get() >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }
}

/// Events that are being handled, until the test says what becomes of them.
#[derive(Clone, Default)]
struct Desk(Rc<RefCell<Vec<Open>>>);

/// The position of an event, and what has become of it.
type Open = (u64, Option<Result<(), String>>);

impl Desk {
    fn reaction(&self, definition: ReactionDefinition) -> AsyncReaction {
        let desk = self.clone();
        AsyncReaction::new(definition, move |occasion| {
            let (desk, position) = (desk.clone(), occasion.event.position.0);
            desk.0.borrow_mut().push((position, None));
            Box::pin(std::future::poll_fn(move |_| {
                let mut open = desk.0.borrow_mut();
                let at = open.iter().position(|(open, _)| *open == position).expect("it is open");
                match open[at].1.take() {
                    Some(result) => {
                        open.remove(at);
                        Poll::Ready(result)
                    }
                    None => Poll::Pending,
                }
            }))
        })
    }

    fn open(&self) -> Vec<u64> {
        self.0.borrow().iter().map(|(position, _)| *position).collect()
    }

    fn end(&self, position: u64, result: Result<(), String>) {
        let mut open = self.0.borrow_mut();
        let found = open.iter_mut().find(|(open, _)| *open == position);
        found.expect("it is open").1 = Some(result);
    }
}

#[test]
fn several_events_are_handled_together_but_never_two_of_one_stream() -> Result<(), Error> {
    let (store, clock, desk) = (Shared::new(), Ticking::default(), Desk::default());
    append(&store, &["a", "a", "b", "c", "d", "a"]);
    let mut config = config(1);
    config.page_limit = 10;
    let definition = ReactionDefinition { concurrency: 3, ..definition() };
    let reactions = vec![desk.reaction(definition)];
    let annals = AsyncAnnals::with_reactions(config, store.clone(), clock.clone(), reactions)?;
    let mut serving = pin!(annals.serve());
    let mut serve = || {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..5 {
            assert!(serving.as_mut().poll(&mut context).is_pending());
        }
        desk.open()
    };
    assert_eq!(serve(), [1, 3, 4]);
    desk.end(3, Ok(()));
    assert_eq!(serve(), [1, 4, 5]);
    desk.end(1, Err("it is full".to_owned()));
    // The stream waits, the others go on.
    assert_eq!(serve(), [4, 5]);
    desk.end(4, Ok(()));
    desk.end(5, Ok(()));
    assert_eq!(serve(), [0; 0]);
    clock.0.set(clock.0.get() + 200);
    assert_eq!(serve(), [1]);
    desk.end(1, Ok(()));
    assert_eq!(serve(), [2]);
    desk.end(2, Ok(()));
    assert_eq!(serve(), [6]);
    desk.end(6, Ok(()));
    assert_eq!(serve(), [0; 0]);

    let read = at_once(annals.reaction(MAILER, None))?;
    assert_eq!((read.position, read.lanes), (Position(6), Vec::new()));
    Ok(())
}

#[test]
fn a_pause_waits_for_what_is_under_way() -> Result<(), Error> {
    let (store, clock, desk) = (Shared::new(), Ticking::default(), Desk::default());
    append(&store, &["a", "b", "c"]);
    let definition = ReactionDefinition { concurrency: 2, ..definition() };
    let reactions = vec![desk.reaction(definition)];
    let annals = AsyncAnnals::with_reactions(config(1), store.clone(), clock, reactions)?;
    let ask = |action| at_once(annals.reaction(MAILER, action));
    ask(None)?;
    ask(None)?;
    assert_eq!(desk.open(), [1, 2]);
    ask(Some(ReactionAction::Pause))?;
    assert!(ask(None)?.runs);
    desk.end(1, Ok(()));
    ask(None)?;
    assert_eq!(desk.open(), [2]);
    desk.end(2, Ok(()));
    ask(None)?;
    let read = ask(None)?;
    assert_eq!((desk.open(), read.position, read.runs), (vec![], Position(2), false));
    Ok(())
}

/// The page it was read from was held until somebody resumed, and the lease with it.
#[test]
fn a_pause_ends_a_stream_that_is_read_again_and_the_next_goes_on_with_it() -> Result<(), Error> {
    let (store, clock, desk) = (Shared::new(), Ticking::default(), Desk::default());
    append(&store, &["a", "a", "a"]);
    let reactions = vec![desk.reaction(definition())];
    let annals = AsyncAnnals::with_reactions(config(1), store.clone(), clock.clone(), reactions)?;
    let ask = |action| at_once(annals.reaction(MAILER, action));
    ask(None)?;
    ask(None)?;
    desk.end(1, Err("it is full".to_owned()));
    ask(None)?;
    ask(Some(ReactionAction::Retry(lane("a"))))?;
    ask(None)?;
    assert_eq!(desk.open(), [1]);
    ask(Some(ReactionAction::Pause))?;
    desk.end(1, Ok(()));
    ask(None)?;
    ask(None)?;
    let read = ask(None)?;
    assert_eq!((desk.open(), read.runs, read.lanes[0].position), (vec![], false, Position(2)));
    let mail = Mail::default();
    engine(&store, &mail, 2).serve(LEASE)?;
    assert_eq!(mail.positions(), [2, 3]);
    Ok(())
}

/// Shows what reads find before what a save has changed is told.
#[derive(Clone)]
struct SlowSaves(Shared, u32);

impl AsyncStorageAdapter for SlowSaves {
    fn call(&self, request: StorageRequest) -> LocalFuture<Result<StorageAnswer, StorageError>> {
        let saves = matches!(request.body, StorageBody::SaveDocuments(_));
        let mut waits = if saves { self.1 } else { 0 };
        let answer = StorageAdapter::call(&mut self.0.clone(), &request);
        let mut answer = Some(answer);
        Box::pin(std::future::poll_fn(move |_| match waits {
            0 => Poll::Ready(answer.take().expect("polled once more")),
            _ => {
                waits -= 1;
                Poll::Pending
            }
        }))
    }
}

#[test]
fn a_wish_that_is_read_while_a_save_is_under_way_is_fulfilled_once() -> Result<(), Error> {
    let (store, clock, desk) = (Shared::new(), Ticking::default(), Desk::default());
    append(&store, &["a", "a", "a"]);
    let never = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    let definition = ReactionDefinition { retries: never, ..definition() };
    let slow = SlowSaves(store.clone(), 3);
    let reactions = vec![desk.reaction(definition.clone())];
    let annals = AsyncAnnals::with_reactions(config(1), slow, clock.clone(), reactions)?;
    let mut serving = pin!(annals.serve());
    let mut serve = || {
        for _ in 0..20 {
            let mut context = Context::from_waker(Waker::noop());
            assert!(serving.as_mut().poll(&mut context).is_pending());
        }
        desk.open()
    };
    assert_eq!(serve(), [1]);
    desk.end(1, Err("no".to_owned()));
    assert_eq!(serve(), [0; 0]);
    let mut asker = with(&store, &clock, 2, vec![Mail::default().reaction(definition)]);
    act(&mut asker, ReactionAction::Drop(lane("a")));
    let mut beat = || {
        clock.0.set(clock.0.get() + LEASE / 3);
        serve()
    };
    assert_eq!(beat(), [2]);
    desk.end(2, Err("no".to_owned()));
    for _ in 0..5 {
        assert_eq!(beat(), [0; 0], "only the first was to be dropped");
    }
    assert_eq!(status(&mut asker).lanes[0].position, Position(2));
    Ok(())
}

#[test]
fn a_wish_for_what_is_being_tried_is_fulfilled_once_the_attempt_has_failed() -> Result<(), Error> {
    let twice = RetryPolicy { max_attempts: 2, ..definition().retries };
    let definition = || ReactionDefinition { retries: twice, ..definition() };
    for from_elsewhere in [false, true] {
        let (store, clock, desk) = (Shared::new(), Ticking::default(), Desk::default());
        append(&store, &["a", "a"]);
        let reactions = vec![desk.reaction(definition())];
        let annals =
            AsyncAnnals::with_reactions(config(1), store.clone(), clock.clone(), reactions)?;
        let mut serving = pin!(annals.serve());
        let mut serve = || {
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..20 {
                assert!(serving.as_mut().poll(&mut context).is_pending());
            }
            desk.open()
        };
        assert_eq!(serve(), [1]);
        desk.end(1, Err("no".to_owned()));
        assert_eq!(serve(), [0; 0]);
        let mut beat = || {
            clock.0.set(clock.0.get() + LEASE / 3);
            serve()
        };
        assert_eq!(beat(), [1], "the second attempt");
        let drop = ReactionAction::Drop(lane("a"));
        if from_elsewhere {
            let mut asker = with(&store, &clock, 2, vec![Mail::default().reaction(definition())]);
            act(&mut asker, drop);
        } else {
            let mut asking = pin!(annals.reaction(MAILER, Some(drop)));
            let mut context = Context::from_waker(Waker::noop());
            assert!(asking.as_mut().poll(&mut context).is_ready());
        }
        assert_eq!(beat(), [1], "it is not dropped while it is tried");
        desk.end(1, Err("no".to_owned()));
        assert_eq!(beat(), [2], "its stream goes on behind it");
    }
    Ok(())
}
