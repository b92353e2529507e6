//! What a host keeps for the engine: states of its own domain, and copies of native ones.

mod support;

use annals::protocol::{
    CopyId, DomainAnswer, DomainResult, HandedOut, Handle, HostFolded, Input, Notice, Output,
    ReadAt, Release, StateRead, StorageRequest,
};
use annals::storage::{MemoryStore, StorageAdapter};
use annals::{ReadError, Revision, State, TaskId};
use support::{Command, Host, HostFold, keep_in_host};

/// A store with events of these streams.
fn store(ids: &[&str]) -> MemoryStore {
    let (mut host, mut store) = (Host::new(), MemoryStore::new("store-1"));
    for id in ids {
        host.give(id, &Command::Note);
        host.serve(&mut store);
    }
    store
}

/// A host of its own domain that has opened the store.
fn opened(store: &mut MemoryStore, cached_states: usize) -> Host {
    let mut host = Host::with(|config| {
        config.aggregates = vec![annals::AggregateDefinition::hosted("Booking")];
        config.cached_states = cached_states;
    });
    host.serve(store);
    host
}

fn folded_as(state: u32) -> HostFold {
    Ok(HostFolded { state: Handle(state), skipped: None })
}

/// Answers a load whose events the host has folded so.
fn answer(host: &mut Host, store: &mut MemoryStore, load: &StorageRequest, state: HostFold) {
    let mut result = store.call(load);
    keep_in_host(&mut result, |_| state.clone());
    host.answer(load, result);
}

/// Polls until the engine is idle: requests, reads, and what is released.
fn poll(host: &mut Host) -> (Vec<StorageRequest>, Release) {
    let (mut requests, mut released) = (Vec::new(), Release::default());
    loop {
        match host.engine.poll_output() {
            Output::Storage(request) => requests.push(request),
            Output::Notice(Notice::StateRead { task, result }) => {
                host.read.insert(task, result);
            }
            Output::Release(release) => {
                released.handles.extend(release.handles);
                released.pages.extend(release.pages);
                released.copies.extend(release.copies);
            }
            Output::Idle { wake_at } => {
                host.wake_at = wake_at;
                return (requests, released);
            }
            output => unreachable!("{output:?}"),
        }
    }
}

fn ask(host: &mut Host, id: &str) -> (TaskId, StorageRequest) {
    let task = host.ask(id, ReadAt::Now, false);
    (task, poll(host).0.pop().expect("a load"))
}

fn read_of(host: &mut Host, task: TaskId) -> Result<StateRead, ReadError> {
    host.read.remove(&task).expect("it has been read")
}

#[test]
fn a_load_is_answered_with_what_it_was_folded_to() {
    let mut store = store(&["b-1"]);
    let mut host = opened(&mut store, 10);
    let (task, load) = ask(&mut host, "b-1");
    answer(&mut host, &mut store, &load, folded_as(7));
    assert_eq!(poll(&mut host).1, Release::default(), "the state is at hand");
    let read = read_of(&mut host, task).expect("it can be read");
    assert_eq!((read.state.handle(), read.revision), (Some(Handle(7)), Revision(1)));
}

#[test]
fn what_was_folded_for_nobody_is_released() {
    let mut store = store(&["b-1"]);
    let mut host = opened(&mut store, 10);
    let (task, load) = ask(&mut host, "b-1");
    host.input(Input::Cancel(task));
    answer(&mut host, &mut store, &load, folded_as(7));
    assert_eq!(poll(&mut host).1.handles, [Handle(7)]);
}

#[test]
fn each_answer_to_an_attempt_has_a_state_of_its_own() {
    let mut store = store(&["b-1"]);
    let mut host = opened(&mut store, 10);
    let (task, first) = ask(&mut host, "b-1");
    host.sleep();
    let second = poll(&mut host).0.pop().expect("the second attempt");
    assert_eq!((second.id, second.attempt), (first.id, 2));
    answer(&mut host, &mut store, &first, folded_as(7));
    assert_eq!(poll(&mut host).1.handles, [Handle(7)], "the attempt had been given up");
    answer(&mut host, &mut store, &second, folded_as(8));
    answer(&mut host, &mut store, &second, folded_as(9));
    assert_eq!(poll(&mut host).1.handles, [Handle(9)], "it had been answered");
    let read = read_of(&mut host, task).expect("it can be read");
    assert_eq!(read.state.handle(), Some(Handle(8)));
}

#[test]
fn a_state_that_a_load_names_stays_until_the_load_is_answered() {
    let mut store = store(&["b-1", "b-2"]);
    let mut host = opened(&mut store, 1);
    for (id, state) in [("b-1", 1), ("b-2", 2), ("b-1", 3)] {
        let (task, load) = ask(&mut host, id);
        answer(&mut host, &mut store, &load, folded_as(state));
        poll(&mut host);
        read_of(&mut host, task).expect("it can be read");
    }
    let (given_up, load) = ask(&mut host, "b-1");
    host.input(Input::Cancel(given_up));
    let (_, other) = ask(&mut host, "b-2");
    answer(&mut host, &mut store, &other, folded_as(4));
    assert_eq!(poll(&mut host).1.handles, [], "the state that went is still to be folded onto");
    answer(&mut host, &mut store, &load, folded_as(5));
    assert_eq!(poll(&mut host).1.handles, [Handle(3)], "nothing was folded onto it");
}

#[test]
fn events_that_the_host_has_not_folded_are_no_state() {
    let mut store = store(&["b-1"]);
    let mut host = opened(&mut store, 10);
    let (task, load) = ask(&mut host, "b-1");
    let result = store.call(&load);
    host.answer(&load, result);
    poll(&mut host);
    let error = read_of(&mut host, task).expect_err("it is in the store and nowhere else");
    assert_eq!(error.code(), "unreadable-event");
}

#[test]
fn a_decision_that_nobody_waits_for_leaves_no_state() {
    let mut store = store(&[]);
    let mut host = opened(&mut store, 10);
    let task = host.give("b-1", &Command::Note);
    let load = poll(&mut host).0.pop().expect("a load");
    let mut result = store.call(&load);
    keep_in_host(&mut result, support::folded);
    host.answer(&load, result);
    let Output::Domain(request) = host.engine.poll_output() else { panic!("a decision") };
    host.input(Input::Cancel(task));
    let result = DomainResult::Decided(Vec::new(), Handle(3));
    host.input(Input::Domain(DomainAnswer { task, question: request.question, result }));
    let Output::Notice(Notice::CommandDone { .. }) = host.engine.poll_output() else {
        panic!("it was given up")
    };
    assert_eq!(poll(&mut host).1.handles, [Handle(3)]);
}

// ---------------------------------------------------------------------------------------------
// Copies

fn hand_out(host: &mut Host, state: &State) -> HandedOut {
    host.engine.hand_out(state).expect("the state is JSON")
}

fn state_of(host: &mut Host, store: &mut MemoryStore, id: &str) -> State {
    let task = host.ask(id, ReadAt::Now, false);
    host.serve(store);
    read_of(host, task).expect("it can be read").state
}

#[test]
fn a_native_state_is_read_by_the_host_twice_and_then_known() {
    let mut store = store(&["b-1"]);
    let mut host = Host::new();
    let json = || r#"{"slot":null,"notes":1}"#.to_owned();
    let expected = [
        HandedOut::Once(json()),
        HandedOut::ToCopy(CopyId(1), json()),
        HandedOut::Copied(CopyId(1)),
        HandedOut::Copied(CopyId(1)),
    ];
    for expected in expected {
        let state = state_of(&mut host, &mut store, "b-1");
        assert_eq!(hand_out(&mut host, &state), expected);
    }
}

#[test]
fn a_copy_goes_when_the_engine_has_another_state_and_its_number_is_given_again() {
    let mut store = store(&["b-1"]);
    let mut host = Host::with(|config| (config.cached_states, config.seed) = (1, [4; 32]));
    let note = |host: &mut Host, store: &mut MemoryStore, id| {
        host.give(id, &Command::Note);
        host.serve(store);
        // An outcome has the state.
        host.done.clear();
    };
    let copied = |host: &mut Host, store: &mut MemoryStore, id| {
        for _ in 0..2 {
            let state = state_of(host, store, id);
            hand_out(host, &state);
        }
        let state = state_of(host, store, id);
        hand_out(host, &state)
    };
    assert_eq!(copied(&mut host, &mut store, "b-1"), HandedOut::Copied(CopyId(1)));
    note(&mut host, &mut store, "b-1");
    assert_eq!(copied(&mut host, &mut store, "b-1"), HandedOut::Copied(CopyId(1)));
    // What another stream pushes out.
    note(&mut host, &mut store, "b-2");
    assert_eq!(copied(&mut host, &mut store, "b-2"), HandedOut::Copied(CopyId(1)));
    let state = state_of(&mut host, &mut store, "b-1");
    assert_eq!(hand_out(&mut host, &state), HandedOut::Once(r#"{"slot":null,"notes":2}"#.into()));
}

#[test]
fn a_copy_is_released_once() {
    let mut store = store(&["b-1"]);
    let mut host = Host::with(|config| config.cached_states = 0);
    let state = state_of(&mut host, &mut store, "b-1");
    hand_out(&mut host, &state);
    assert_eq!(
        hand_out(&mut host, &state),
        HandedOut::ToCopy(CopyId(1), r#"{"slot":null,"notes":1}"#.into())
    );
    assert_eq!(poll(&mut host).1, Release::default(), "somebody has the state");
    drop(state);
    assert_eq!(poll(&mut host).1.copies, [CopyId(1)]);
    assert_eq!(poll(&mut host).1, Release::default());
}
