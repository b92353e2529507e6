//! Hints that an engine is gone: what it ran goes on at once, and no hint is believed for a fact.

mod support;

use annals::protocol::{
    AskReaction, Input, LogFilter, Notice, ReactionAction, Saved, StorageAnswer, StorageBody,
    StorageRequest,
};
use annals::storage::{MemoryStore, StorageAdapter};
use annals::{Lanes, ReactionDefinition, RetryPolicy, StartAt};
use support::Host;

const MAILER: &str = "mailer";
const LEASE: u64 = 600_000;

/// An engine of this name, which may be empty, with a reaction.
fn engine(name: &str) -> Host {
    Host::with(|config| {
        config.seed = [name.len() as u8 + 1; 32];
        config.identity = name.into();
        config.lease = LEASE;
        config.reactions = vec![ReactionDefinition {
            name: MAILER.into(),
            filter: LogFilter::default(),
            upcasts: false,
            start_at: StartAt::Beginning,
            retries: RetryPolicy::DEFAULT,
            concurrency: 1,
            lanes: Lanes::Streams,
        }];
    })
}

fn store() -> MemoryStore {
    MemoryStore::new("store-1")
}

fn hear(host: &mut Host, gone: &str, store: &mut MemoryStore) {
    host.input(Input::OwnerGone(gone.into()));
    host.serve(store);
}

fn pass(host: &mut Host, millis: u64, store: &mut MemoryStore) {
    host.now = host.now.plus(millis);
    host.input(Input::Tick);
    host.serve(store);
}

fn runs(host: &mut Host, store: &mut MemoryStore) -> bool {
    let task = host.next_task();
    host.input(Input::AskReaction(AskReaction { task, reaction: MAILER.into(), action: None }));
    host.serve(store);
    let read = host.notices.iter().find_map(|notice| match notice {
        Notice::ReactionRead { task: of, result } if *of == task => Some(result.clone()),
        _ => None,
    });
    read.expect("it was asked").expect("it can be told").runs_here
}

/// Whom the engine has said that it waits for.
fn owners(host: &Host) -> Vec<&str> {
    let owners = host.notices.iter().filter_map(|notice| match notice {
        Notice::OwnerSeen(owner) => Some(&**owner),
        _ => None,
    });
    owners.collect()
}

/// The one request that comes out.
fn request(host: &mut Host) -> StorageRequest {
    let mut requests = host.drain();
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0)
}

#[test]
fn an_engine_takes_over_at_once_from_one_that_is_gone() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine("the second"));
    first.serve(&mut store);
    second.serve(&mut store);
    assert_eq!((owners(&first), owners(&second)), (vec![], vec!["first"]));
    assert!(runs(&mut first, &mut store) && !runs(&mut second, &mut store));
    hear(&mut second, "first", &mut store);
    assert!(runs(&mut second, &mut store));
}

#[test]
fn an_engine_without_a_name_tells_nobody_whom_it_waits_for() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine(""));
    first.serve(&mut store);
    second.serve(&mut store);
    assert!(owners(&second).is_empty() && !runs(&mut second, &mut store));
}

#[test]
fn a_hint_about_somebody_else_changes_nothing() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine("the second"));
    first.serve(&mut store);
    second.serve(&mut store);
    for name in ["", "nobody", "the second"] {
        hear(&mut second, name, &mut store);
        assert!(!runs(&mut second, &mut store), "{name:?}");
    }
    // Who runs it does not mind what is said of others, or of itself.
    for name in ["first", "the second"] {
        hear(&mut first, name, &mut store);
        assert!(runs(&mut first, &mut store), "{name:?}");
    }
}

#[test]
fn what_another_has_taken_over_meanwhile_is_left_to_it() {
    let mut store = store();
    let (mut first, mut second, mut third) = (engine("1"), engine("22"), engine("333"));
    first.serve(&mut store);
    second.serve(&mut store);
    third.serve(&mut store);
    hear(&mut second, "1", &mut store);
    hear(&mut third, "1", &mut store);
    assert!(runs(&mut second, &mut store) && !runs(&mut third, &mut store));
    assert_eq!(owners(&third), ["1", "22"]);
    hear(&mut third, "22", &mut store);
    assert!(runs(&mut third, &mut store));
}

#[test]
fn what_the_engine_that_is_gone_still_had_on_its_way_is_not_overwritten() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine("the second"));
    first.serve(&mut store);
    second.serve(&mut store);
    second.input(Input::OwnerGone("first".into()));
    let read = request(&mut second);
    let found = store.call(&read);
    second.answer(&read, found);
    let claim = request(&mut second);
    // Its last sign of life comes before the claim.
    pass(&mut first, LEASE / 3, &mut store);
    let answer = store.call(&claim);
    assert!(matches!(claim.body, StorageBody::SaveDocuments(_)));
    assert!(matches!(answer, Ok(StorageAnswer::Saved(Saved::Conflict { .. }))));
    second.answer(&claim, answer);
    second.serve(&mut store);
    assert_eq!(owners(&second), ["first", "first"]);
    hear(&mut second, "first", &mut store);
    assert!(runs(&mut second, &mut store));
}

#[test]
fn who_was_taken_for_gone_and_was_not_lets_go_and_believes_no_hint_any_more() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine("the second"));
    first.serve(&mut store);
    second.serve(&mut store);
    hear(&mut second, "first", &mut store);
    pass(&mut first, LEASE / 3, &mut store);
    assert!(!runs(&mut first, &mut store));
    assert_eq!(owners(&first), ["the second"]);
    for _ in 0..3 {
        hear(&mut first, "the second", &mut store);
        assert!(!runs(&mut first, &mut store) && runs(&mut second, &mut store));
    }
    // But it still takes over from one that says nothing for a lease.
    pass(&mut first, LEASE / 2, &mut store);
    pass(&mut first, LEASE, &mut store);
    assert!(runs(&mut first, &mut store));
}

#[test]
fn who_had_said_nothing_for_a_lease_was_taken_over_from_with_reason_and_believes_hints() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine("the second"));
    first.serve(&mut store);
    second.serve(&mut store);
    for _ in 0..2 {
        pass(&mut second, LEASE, &mut store);
    }
    assert!(runs(&mut second, &mut store));
    pass(&mut first, 3 * LEASE, &mut store);
    assert!(!runs(&mut first, &mut store));
    hear(&mut first, "the second", &mut store);
    assert!(runs(&mut first, &mut store));
}

#[test]
fn an_engine_that_is_paused_takes_nothing_over() {
    let mut store = store();
    let (mut first, mut second) = (engine("first"), engine("the second"));
    first.serve(&mut store);
    second.serve(&mut store);
    for (action, takes) in [(ReactionAction::Pause, false), (ReactionAction::Resume, true)] {
        let (task, action) = (second.next_task(), Some(action));
        second.input(Input::AskReaction(AskReaction { task, reaction: MAILER.into(), action }));
        hear(&mut second, "first", &mut store);
        assert_eq!(runs(&mut second, &mut store), takes);
    }
}
