//! What the engine asks of its host, and when. The simulation tests what is true whatever happens;
//! these rules say what happens when nothing is left to chance.

mod support;

use annals::protocol::{
    DomainRequest, DomainResult, Handle, Input, Notice, Page, ReadAt, StorageAnswer, StorageBody,
};
use annals::storage::{MemoryStore, StorageAdapter};
use annals::{
    ApiMisuse, Applied, CommandError, ExpectedRevision, Position, ReadError, Revision,
    StorageError, StorageErrorCode, TaskId,
};
use support::{Booking, Command, Host, State, command_id, stream};

fn store() -> MemoryStore {
    MemoryStore::new("store-1")
}

// --- Batches ---------------------------------------------------------------------------------

#[test]
fn commands_given_together_share_one_load_and_one_append() {
    let (mut host, mut store) = (Host::new(), store());
    for number in 0..64 {
        host.give(&format!("b-{number}"), &Command::Note);
    }
    host.serve(&mut store);
    assert_eq!((host.loads, host.appends, host.done.len()), (1, 1, 64));
}

#[test]
fn commands_of_one_stream_given_together_share_one_append() {
    let (mut host, mut store) = (Host::new(), store());
    let tasks: Vec<TaskId> = (0..64).map(|_| host.give("b-1", &Command::Note)).collect();
    host.serve(&mut store);
    assert_eq!((host.loads, host.appends), (1, 1));
    let revisions: Vec<u64> = tasks.iter().map(|task| host.outcome(*task).revision.0).collect();
    assert_eq!(revisions, (1..=64).collect::<Vec<_>>(), "in the order they came");
}

#[test]
fn bookings_of_different_slots_of_one_doctor_share_one_append() {
    let (mut host, mut store) = (Host::new(), store());
    for slot in 0..64 {
        host.give(&format!("b-{slot}"), &Command::Book { slot });
    }
    host.serve(&mut store);
    assert!(host.done.values().all(Result::is_ok));
    assert_eq!((host.loads, host.appends), (2, 1), "streams, then what the decisions read");
}

#[test]
fn commands_that_come_while_an_append_is_under_way_go_together_in_the_next() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-0", &Command::Note);
    let first = host.until_append(&mut store);
    for number in 1..=5 {
        host.give(&format!("b-{number}"), &Command::Note);
    }
    for request in host.drain() {
        assert!(matches!(request.body, StorageBody::Load(_)), "one append at a time");
        let result = store.call(&request);
        host.answer(&request, result);
    }
    assert_eq!(host.drain().len(), 0);
    let result = store.call(&first);
    host.answer(&first, result);
    let requests = host.drain();
    let [next] = &requests[..] else { panic!("one request: {requests:?}") };
    let StorageBody::Append(append) = &next.body else { panic!("an append: {next:?}") };
    assert_eq!(append.commits.len(), 5);
}

#[test]
fn an_accepted_command_on_a_state_at_hand_costs_one_append_and_no_load() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Note);
    host.serve(&mut store);
    (host.loads, host.appends) = (0, 0);
    host.give("b-1", &Command::Note);
    host.serve(&mut store);
    assert_eq!((host.loads, host.appends), (0, 1));
}

// --- Refusals --------------------------------------------------------------------------------

#[test]
fn a_refusal_is_given_only_after_the_store_was_asked() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Book { slot: 1 });
    host.serve(&mut store);
    host.loads = 0;
    let task = host.give("b-1", &Command::Book { slot: 2 });
    host.serve(&mut store);
    assert!(host.loads > 0);
    let CommandError::Refused { code, .. } = host.error(task) else { panic!("refused") };
    assert_eq!(&*code, "already-booked");
}

#[test]
fn a_refusal_by_a_neighbour_in_the_same_append_waits_for_the_append() {
    let (mut host, mut store) = (Host::new(), store());
    let first = host.give("b-1", &Command::Book { slot: 1 });
    let second = host.give("b-2", &Command::Book { slot: 1 });
    let append = host.until_append(&mut store);
    assert!(host.done.is_empty(), "the neighbour's booking is not in the log yet");
    let full = StorageError::permanent(StorageErrorCode::Full, "the disk is full");
    host.answer(&append, Err(full));
    host.serve(&mut store);
    assert!(matches!(host.error(first), CommandError::Storage(_)));
    assert_eq!(host.outcome(second).revision, Revision(1), "the slot was free after all");
}

#[test]
fn an_empty_decision_is_given_only_after_the_store_was_asked() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Note);
    host.serve(&mut store);
    host.loads = 0;
    let task = host.give("b-1", &Command::Look);
    host.serve(&mut store);
    let outcome = host.outcome(task);
    assert_eq!((outcome.commit, outcome.revision, host.loads), (None, Revision(1), 1));
}

#[test]
fn an_expected_revision_that_is_not_there_is_told_with_the_actual_one() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Note);
    host.serve(&mut store);
    for (expected, fits) in [
        (ExpectedRevision::Any, true),
        (ExpectedRevision::StreamExists, true),
        (ExpectedRevision::NoStream, false),
        (ExpectedRevision::Exact(Revision(9)), false),
    ] {
        let task = host.give_with("b-1", &Command::Look, |execute| execute.expected = expected);
        host.serve(&mut store);
        match host.done.remove(&task).expect("it is done") {
            Ok(_) => assert!(fits, "{expected}"),
            Err(CommandError::WrongRevision { actual, .. }) => {
                assert!(!fits, "{expected}");
                assert_eq!(actual, Revision(1));
            }
            Err(error) => panic!("{expected}: {error}"),
        }
    }
}

// --- Repetition ------------------------------------------------------------------------------

#[test]
fn a_repeated_command_gets_its_first_outcome() {
    let (mut host, mut store) = (Host::new(), store());
    let book = Command::Book { slot: 1 };
    let first = host.give_with("b-1", &book, |execute| execute.command_id = Some(command_id(7)));
    host.serve(&mut store);
    host.give("b-1", &Command::Note);
    host.serve(&mut store);
    let again = host.give_with("b-1", &book, |execute| execute.command_id = Some(command_id(7)));
    host.serve(&mut store);
    let (first, again) = (host.outcome(first), host.outcome(again));
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((first.commit, first.revision), (again.commit, again.revision));
    assert_eq!(first.events, again.events);
    assert_eq!(first.state.value::<Booking>(), again.state.value::<Booking>());
}

#[test]
fn a_command_given_twice_in_one_moment_is_applied_once() {
    let (mut host, mut store) = (Host::new(), store());
    let id = |execute: &mut annals::protocol::Execute| execute.command_id = Some(command_id(7));
    let tasks = [(); 3].map(|()| host.give_with("b-1", &Command::Note, id));
    host.serve(&mut store);
    let duplicates = tasks.map(|task| host.outcome(task).duplicate);
    assert_eq!((duplicates, store.log().len()), ([false, true, true], 1));
}

#[test]
fn an_id_used_for_another_command_is_an_error() {
    let (mut host, mut store) = (Host::new(), store());
    let id = |execute: &mut annals::protocol::Execute| execute.command_id = Some(command_id(7));
    host.give_with("b-1", &Command::Note, id);
    host.serve(&mut store);
    for (stream, command) in [("b-2", Command::Note), ("b-1", Command::Book { slot: 3 })] {
        let task = host.give_with(stream, &command, id);
        host.serve(&mut store);
        assert_eq!(host.error(task), CommandError::CommandIdReused(command_id(7)));
    }
    assert_eq!(store.log().len(), 1);
}

// --- Attempts --------------------------------------------------------------------------------

#[test]
fn an_append_without_an_answer_is_sent_again_byte_for_byte() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let first = host.until_append(&mut store);
    // The store does it, and the answer is lost.
    drop(store.call(&first));
    host.sleep();
    let requests = host.drain();
    let [second] = &requests[..] else { panic!("one request: {requests:?}") };
    assert_eq!((second.id, second.attempt), (first.id, 2));
    let (StorageBody::Append(before), StorageBody::Append(after)) = (&first.body, &second.body)
    else {
        panic!("appends")
    };
    assert_eq!(before, after);
    let result = store.call(second);
    host.answer(second, result);
    host.serve(&mut store);
    assert_eq!((host.outcome(task).revision, store.log().len()), (Revision(1), 1));
}

#[test]
fn a_late_answer_of_an_attempt_that_was_given_up_is_ignored() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let first = host.until_append(&mut store);
    host.sleep();
    let second = host.drain().pop().expect("the second attempt");
    let full = StorageError::permanent(StorageErrorCode::Full, "the disk is full");
    host.answer(&first, Err(full));
    host.drain();
    assert!(host.done.is_empty(), "the first attempt has nothing to say any more");
    let result = store.call(&second);
    host.answer(&second, result.clone());
    host.drain();
    assert!(host.outcome(task).commit.is_some());
    host.answer(&second, result);
    host.drain();
    assert!(host.done.is_empty(), "a second answer changes nothing");
}

#[test]
fn after_the_last_attempt_the_outcome_is_unknown_and_the_same_id_finds_it() {
    let (mut host, mut store) = (Host::with(|config| config.max_attempts = 2), store());
    let id = |execute: &mut annals::protocol::Execute| execute.command_id = Some(command_id(7));
    let task = host.give_with("b-1", &Command::Note, id);
    let first = host.until_append(&mut store);
    host.sleep();
    host.drain();
    host.sleep();
    host.drain();
    let CommandError::OutcomeUnknown { command_id: found, .. } = host.error(task) else {
        panic!("unknown")
    };
    assert_eq!(found, command_id(7));
    // It was only slow.
    drop(store.call(&first));
    let again = host.give_with("b-1", &Command::Note, id);
    host.serve(&mut store);
    assert_eq!((host.outcome(again).revision, store.log().len()), (Revision(1), 1));
}

#[test]
fn a_failure_that_may_pass_is_tried_again_after_a_pause() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let first = host.until_append(&mut store);
    host.answer(&first, Err(StorageError::retryable(StorageErrorCode::Busy, "locked")));
    assert_eq!(host.drain().len(), 0, "not at once");
    host.sleep();
    host.serve(&mut store);
    assert_eq!(host.outcome(task).revision, Revision(1));
}

#[test]
fn a_failure_after_an_attempt_with_unknown_effect_does_not_say_that_nothing_happened() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let first = host.until_append(&mut store);
    let lost = StorageError::permanent(StorageErrorCode::Failed, "the connection was lost");
    host.answer(&first, Err(StorageError { applied: Applied::Unknown, ..lost }));
    host.drain();
    host.sleep();
    let second = host.drain().pop().expect("the second attempt");
    let full = StorageError::permanent(StorageErrorCode::Full, "the disk is full");
    host.answer(&second, Err(full));
    host.drain();
    assert!(matches!(host.error(task), CommandError::OutcomeUnknown { .. }));
}

#[test]
fn others_who_are_always_faster_are_an_error_in_the_end() {
    let (mut host, mut store) = (Host::with(|config| config.max_conflicts = 3), store());
    let mut other = Host::with(|config| config.seed = [4; 32]);
    let task = host.give("b-1", &Command::Note);
    for _ in 0..4 {
        let append = host.until_append(&mut store);
        other.give("b-1", &Command::Note);
        other.serve(&mut store);
        let result = store.call(&append);
        host.answer(&append, result);
    }
    host.drain();
    assert!(matches!(host.error(task), CommandError::Contended { attempts: 4, .. }));
    assert_eq!(store.log().len(), 4, "only the others' events");
}

#[test]
fn a_store_that_was_restored_is_asked_afresh() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Book { slot: 1 });
    host.serve(&mut store);
    let mut restored = MemoryStore::new("store-2");
    let task = host.give("b-1", &Command::Book { slot: 2 });
    host.serve(&mut restored);
    assert_eq!(host.outcome(task).revision, Revision(1), "the old state is forgotten");
    let opened = host.notices.iter().filter(|notice| matches!(notice, Notice::Opened(_)));
    assert_eq!(opened.count(), 2);
}

#[test]
fn a_store_that_says_it_is_another_when_it_is_opened_fails_the_tasks_at_once() {
    let mut host = Host::new();
    let task = host.give("b-1", &Command::Note);
    let info = host.drain().remove(0);
    let foreign = StorageError::permanent(StorageErrorCode::ForeignEpoch, "of another store");
    host.answer(&info, Err(foreign.clone()));
    host.drain();
    assert_eq!(host.error(task), CommandError::Storage(foreign));
}

#[test]
fn a_store_that_can_not_be_opened_fails_the_tasks_and_is_tried_again_with_the_next() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let info = host.drain().pop().expect("a first request");
    let newer = StorageError::permanent(StorageErrorCode::UnknownFormat, "made by a newer release");
    host.answer(&info, Err(newer));
    host.drain();
    let CommandError::Storage(error) = host.error(task) else { panic!("storage") };
    assert_eq!(error.code.code(), "unknown-format");
    let task = host.give("b-1", &Command::Note);
    host.serve(&mut store);
    assert_eq!(host.outcome(task).revision, Revision(1));
}

// --- Cancelling ------------------------------------------------------------------------------

#[test]
fn a_command_that_is_given_up_before_its_append_is_not_stored() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let next = host.give("b-1", &Command::Note);
    host.drain();
    host.input(Input::Cancel(task));
    host.serve(&mut store);
    // The store is opened by the request that came out before.
    let info = annals::protocol::StorageRequest {
        id: annals::protocol::RequestId(1),
        attempt: 1,
        deadline: host.now,
        epoch: None,
        body: StorageBody::Info,
    };
    let result = store.call(&info);
    host.answer(&info, result);
    host.serve(&mut store);
    assert_eq!(host.error(task), CommandError::Cancelled);
    assert_eq!((host.outcome(next).revision, store.log().len()), (Revision(1), 1));
}

#[test]
fn a_command_that_is_given_up_during_its_append_still_gets_its_outcome() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let append = host.until_append(&mut store);
    host.input(Input::Cancel(task));
    host.drain();
    assert!(host.done.is_empty());
    let result = store.call(&append);
    host.answer(&append, result);
    host.drain();
    assert!(host.outcome(task).commit.is_some());
}

// --- Reading ---------------------------------------------------------------------------------

#[test]
fn a_state_can_be_read_now_at_a_revision_and_at_a_time() {
    let (mut host, mut store) = (Host::with(|config| config.page_limit = 2), store());
    let start = host.now;
    for number in 0..7 {
        host.now = start.plus(number * 1_000);
        host.give("b-1", &Command::Note);
        host.serve(&mut store);
    }
    for (at, notes) in [
        (ReadAt::Now, 7),
        (ReadAt::Cached, 7),
        (ReadAt::Revision(Revision(0)), 0),
        (ReadAt::Revision(Revision(5)), 5),
        (ReadAt::Time(start.plus(2_999)), 3),
        (ReadAt::Time(start.plus(3_000)), 4),
        (ReadAt::Time(annals::Timestamp::from_millis(0)), 0),
    ] {
        let task = host.ask("b-1", at, true);
        host.serve(&mut store);
        let read = host.read.remove(&task).expect("it was read").expect("it can be read");
        let state = read.state.value::<Booking>().expect("a booking");
        assert_eq!((state.notes, read.revision), (notes, Revision(notes.into())), "{at:?}");
        let events: usize = read.events.iter().map(Page::len).sum();
        assert_eq!(events, notes as usize, "{at:?}");
    }
    let task = host.ask("b-1", ReadAt::Revision(Revision(8)), false);
    host.serve(&mut store);
    let error = host.read.remove(&task).expect("it was answered").expect_err("there are 7");
    assert!(matches!(error, ReadError::NoSuchRevision { actual: Revision(7), .. }));
}

#[test]
fn a_position_means_the_stream_s_last_event_up_to_it_and_one_that_has_not_come_is_an_error() {
    let mut store = MemoryStore::new("s");
    let mut host = Host::with(|config| config.page_limit = 2);
    let log = ["b-1", "b-2", "b-2", "b-1", "b-2", "b-1", "b-1"];
    for id in log {
        host.give(id, &Command::Note);
        host.serve(&mut store);
    }
    let mut read = |id, position, events| {
        let task = host.ask(id, ReadAt::Position(Position(position)), events);
        host.serve(&mut store);
        host.read.remove(&task).expect("it was answered")
    };
    for position in 0..=log.len() {
        for id in ["b-1", "b-2", "b-3"] {
            let notes = log[..position].iter().filter(|noted| **noted == id).count();
            for events in [false, true] {
                let read = read(id, position as u64, events).expect("it can be read");
                let state = read.state.value::<Booking>().expect("a booking");
                assert_eq!((state.notes as usize, read.revision.0 as usize), (notes, notes));
                let found: usize = read.events.iter().map(Page::len).sum();
                assert_eq!(found, if events { notes } else { 0 });
            }
        }
    }
    for id in ["b-1", "b-3"] {
        let error = read(id, 8, false).expect_err("the head is at 7");
        assert_eq!(error, ReadError::NoSuchPosition { asked: Position(8), head: Position(7) });
        assert_eq!(error.to_string(), "expected position 8, found the head of the log at 7");
    }
}

#[test]
fn an_event_that_can_not_be_read_is_named() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Note);
    let append = host.until_append(&mut store);
    let StorageBody::Append(commits) = &append.body else { panic!("an append") };
    let mut foreign = (**commits).clone();
    foreign.commits[0].events[0].event.event_type = "FromTheFuture".into();
    let request = annals::protocol::StorageRequest {
        body: StorageBody::Append(foreign.into()),
        ..append.clone()
    };
    drop(store.call(&request));
    let mut fresh = Host::new();
    let command = fresh.give("b-1", &Command::Note);
    let read = fresh.ask("b-1", ReadAt::Now, false);
    fresh.serve(&mut store);
    let CommandError::Unreadable(error) = fresh.error(command) else { panic!("unreadable") };
    let told = error.to_string();
    assert!(told.starts_with("event 1 of Booking/b-1 can't be read: FromTheFuture: "), "{told}");
    assert_eq!((error.stream, error.revision), (stream("b-1"), Revision(1)));
    assert!(matches!(fresh.read.remove(&read), Some(Err(ReadError::Unreadable(_)))));
}

#[test]
fn events_that_are_only_folded_may_come_as_types_and_one_text() {
    let (mut host, mut store) = (Host::new(), store());
    for command in [Command::Book { slot: 3 }, Command::Note, Command::Note] {
        host.give("b-1", &command);
    }
    host.serve(&mut store);
    let read = |fresh: &mut Host, store: &mut MemoryStore, break_at: Option<usize>| {
        let task = fresh.ask("b-1", ReadAt::Now, false);
        loop {
            let requests = fresh.drain();
            if requests.is_empty() {
                return fresh.read.remove(&task).expect("the read has ended");
            }
            for request in requests {
                let mut result = store.call(&request);
                if let Ok(StorageAnswer::Loaded(loaded)) = &mut result {
                    loaded.streams.iter_mut().for_each(|slice| to_messages(slice, break_at));
                }
                fresh.answer(&request, result);
            }
        }
    };
    let whole = read(&mut Host::new(), &mut store, None).expect("the state is read");
    let state = State { slot: Some(3), notes: 2 };
    assert_eq!((whole.state.value::<Booking>(), whole.revision), (Some(&state), Revision(3)));
    match read(&mut Host::new(), &mut store, Some(1)) {
        Err(ReadError::Unreadable(error)) => assert_eq!(error.revision, Revision(2)),
        other => panic!("{other:?}"),
    }
    match read(&mut Host::new(), &mut store, Some(3)) {
        Err(ReadError::Unreadable(error)) => {
            assert_eq!(error.revision, Revision(4), "{}", error.reason);
        }
        other => panic!("{other:?}"),
    }
}

/// Writes a slice's events as their types and one text, one of them broken, or one more than there are.
fn to_messages(slice: &mut annals::protocol::StreamSlice, break_at: Option<usize>) {
    let Page::Events(events) = &slice.page else { panic!("the store gives whole events") };
    let texts = events
        .iter()
        .enumerate()
        .map(|(index, event)| if break_at == Some(index) { "{\"slot\":" } else { &*event.data });
    let mut texts: Vec<_> = texts.collect();
    if break_at == Some(events.len()) {
        texts.push(&events[0].data);
    }
    let data = format!("[{}]", texts.join(",\n"));
    let forms = events.iter().map(|event| event.event_type.clone()).collect();
    slice.page = Page::Messages { forms, data: data.into() };
}

#[test]
fn a_store_that_gives_other_events_than_it_says_there_are_is_found_out() {
    let (mut host, mut store) = (Host::new(), store());
    for _ in 0..3 {
        host.give("b-1", &Command::Note);
    }
    host.serve(&mut store);
    // Fewer events, none but more to come, more than there are.
    for (events, more, revision) in [(2, false, 3), (0, true, 3), (3, false, 2)] {
        let mut fresh = Host::with(|config| config.seed = [4; 32]);
        let command = fresh.give("b-1", &Command::Note);
        let read = fresh.ask("b-1", ReadAt::Now, false);
        for _ in 0..10 {
            for request in fresh.drain() {
                let mut result = store.call(&request);
                if let Ok(StorageAnswer::Loaded(loaded)) = &mut result {
                    for slice in &mut loaded.streams {
                        let Page::Events(found) = &mut slice.page else { panic!("events") };
                        found.truncate(events);
                        (slice.more, slice.revision) = (more, Revision(revision));
                    }
                }
                fresh.answer(&request, result);
            }
        }
        assert_eq!(fresh.error(command).code(), "unreadable-event");
        assert!(matches!(fresh.read.remove(&read), Some(Err(ReadError::Unreadable(_)))));
    }
}

#[test]
fn a_subscription_gives_what_is_stored_and_then_what_comes_without_gap_or_double() {
    let (mut host, mut store) = (Host::new(), store());
    for _ in 0..5 {
        host.give("b-1", &Command::Note);
    }
    host.serve(&mut store);
    let task = host.subscribe(|subscribe| subscribe.limit = 2);
    let mut positions = Vec::new();
    for round in 0..20 {
        host.serve(&mut store);
        for notice in std::mem::take(&mut host.notices) {
            if let Notice::Events { page: Page::Events(events), .. } = notice {
                assert!(events.len() <= 2);
                positions.extend(events.iter().map(|event| event.position.0));
                host.input(Input::Next(task));
            }
        }
        if round % 3 == 0 {
            host.give("b-2", &Command::Note);
        }
    }
    host.serve(&mut store);
    let head = store.log().len() as u64;
    assert_eq!(positions, (1..=head).collect::<Vec<_>>());
    assert!(head > 10);
}

#[test]
fn a_subscription_that_is_not_asked_for_more_reads_no_more() {
    let (mut host, mut store) = (Host::new(), store());
    for _ in 0..50 {
        host.give("b-1", &Command::Note);
    }
    host.serve(&mut store);
    host.notices.clear();
    host.subscribe(|subscribe| subscribe.limit = 10);
    host.serve(&mut store);
    let pages = host.notices.iter().filter(|notice| matches!(notice, Notice::Events { .. }));
    assert_eq!(pages.count(), 1);
}

// --- The contract ----------------------------------------------------------------------------

#[test]
fn a_host_that_breaks_the_contract_is_told_and_nothing_changes() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let now = host.now;
    let engine = &mut host.engine;
    let read =
        annals::protocol::ReadState { task, stream: stream("b-1"), at: ReadAt::Now, events: false };
    let answer = |request, result| {
        let request = annals::protocol::RequestId(request);
        Input::Answer(annals::protocol::Answer { request, attempt: 1, result })
    };
    let log = StorageAnswer::Appended(Vec::new());
    for (input, misuse) in [
        (Input::Tick, ApiMisuse::NotDrained),
        (Input::ReadState(read), ApiMisuse::TaskInUse(task)),
        (answer(9, Ok(log.clone())), ApiMisuse::UnknownRequest(annals::protocol::RequestId(9))),
    ] {
        assert_eq!(engine.handle_input(now, input), Err(misuse));
    }
    let info = host.drain().pop().expect("a first request");
    let result = store.call(&info);
    host.answer(&info, result);
    host.serve(&mut store);
    assert_eq!(host.outcome(task).revision, Revision(1));
}

#[test]
fn an_answer_that_does_not_fit_is_the_stores_failure() {
    let (mut host, mut store) = (Host::with(|config| config.max_attempts = 2), store());
    let task = host.give("b-1", &Command::Note);
    let append = host.until_append(&mut store);
    drop(store.call(&append));
    host.answer(&append, Ok(StorageAnswer::Appended(Vec::new())));
    assert_eq!(host.drain().len(), 0);
    host.sleep();
    let second = host.drain().pop().expect("it may be applied: the second attempt tells");
    host.answer(&second, Ok(StorageAnswer::Appended(Vec::new())));
    host.drain();
    assert_eq!(host.error(task).code(), "outcome-unknown");
    let task = host.give("b-1", &Command::Look);
    host.serve(&mut store);
    assert_eq!(host.outcome(task).revision, Revision(1), "the others go on");
}

#[test]
fn a_command_is_not_overtaken_for_ever() {
    let (mut host, mut store) = (Host::new(), store());
    // Walk-ins read nothing, so each is in the next append before the elder's read is answered.
    let walk_in = |host: &mut Host| host.give("walk-ins", &Command::WalkIn { slot: 100 });
    walk_in(&mut host);
    let mut under_way = host.until_append(&mut store);
    let elder = host.give("elder", &Command::Book { slot: 1 });
    let mut overtakings = 0;
    while !host.done.contains_key(&elder) {
        assert!(overtakings < 50, "it is overtaken for ever");
        overtakings += 1;
        walk_in(&mut host);
        for request in host.drain() {
            assert!(matches!(request.body, StorageBody::Load(_)), "one append is under way");
            let result = store.call(&request);
            host.answer(&request, result);
        }
        assert!(host.drain().is_empty(), "what it has read is stale at once");
        let result = store.call(&under_way);
        host.answer(&under_way, result);
        under_way = host.until_append(&mut store);
    }
    assert_eq!(host.outcome(elder).revision, Revision(1));
    assert!(overtakings > 1, "it was not overtaken at all");
}

#[test]
fn a_domain_answer_for_a_command_that_was_given_up_is_ignored() {
    let (mut host, mut store) = (Host::hosted(), store());
    let task = host.give("b-1", &Command::Note);
    let decide = |host: &mut Host, request: &DomainRequest| {
        host.input(Input::Cancel(request.task));
        DomainResult::Decided(Vec::new(), Handle(1))
    };
    host.serve_hosted(&mut store, decide, support::folded);
    assert_eq!(host.error(task), CommandError::Cancelled);
}

#[test]
fn decisions_that_read_nothing_are_asked_together() {
    let (mut host, mut store) = (Host::hosted(), store());
    let tasks = ["b-1", "b-2", "b-3"].map(|id| host.give(id, &Command::Note));
    let mut together = 0;
    let decide = |host: &mut Host, _: &DomainRequest| {
        together += 1;
        assert_eq!(host.appends, 0, "no append goes out while a decision is awaited");
        DomainResult::Decided(vec![held_event(together)], Handle(together))
    };
    host.serve_hosted(&mut store, decide, support::folded);
    assert_eq!((together, host.appends), (3, 1));
    for task in tasks {
        assert_eq!(host.outcome(task).revision, Revision(1));
    }
}

fn held_event(task: u32) -> annals::NewEvent {
    let data = annals::Payload::Held { task: TaskId(task), index: 0, bytes: 2 };
    annals::NewEvent { event_type: "Noted".into(), schema_version: 1, tags: Vec::new(), data }
}

#[test]
fn news_of_a_position_that_does_not_exist_is_looked_at_once() {
    let (mut host, mut store) = (Host::new(), store());
    host.give("b-1", &Command::Note);
    host.serve(&mut store);
    let task = host.subscribe(|_| ());
    host.serve(&mut store);
    host.input(Input::Next(task));
    host.serve(&mut store);
    host.input(Input::Advanced(Some(Position(1_000))));
    let mut reads = 0;
    loop {
        let requests = host.drain();
        if requests.is_empty() {
            break;
        }
        reads += requests.len();
        assert!(reads < 5, "the log is read for ever");
        for request in requests {
            let result = store.call(&request);
            host.answer(&request, result);
        }
    }
}

#[test]
fn a_command_that_may_have_been_applied_is_not_said_to_be_gone_when_the_store_is_replaced() {
    let (mut host, mut store) = (Host::new(), store());
    let task = host.give("b-1", &Command::Note);
    let append = host.until_append(&mut store);
    drop(store.call(&append));
    host.sleep();
    let second = host.drain().pop().expect("the second attempt");
    let foreign = StorageError::permanent(StorageErrorCode::ForeignEpoch, "restored");
    host.answer(&second, Err(foreign));
    let info = host.drain().pop().expect("who are you?");
    host.input(Input::Cancel(task));
    let closed = StorageError::permanent(StorageErrorCode::Closed, "closed");
    host.answer(&info, Err(closed));
    host.drain();
    assert_eq!(host.error(task).code(), "outcome-unknown");
}

#[test]
fn a_number_that_is_used_again_does_not_get_what_the_first_task_asked() {
    let (mut host, mut store) = (Host::new(), store());
    for _ in 0..3 {
        host.give("b-1", &Command::Note);
    }
    host.serve(&mut store);
    let mut fresh = Host::with(|config| config.seed = [4; 32]);
    fresh.serve(&mut store);
    let first = fresh.ask("b-1", ReadAt::Now, false);
    let load = fresh.drain().pop().expect("a read");
    fresh.input(Input::Cancel(first));
    fresh.drain();
    fresh.read.clear();
    let again = annals::protocol::ReadState {
        task: first,
        stream: stream("other"),
        at: ReadAt::Now,
        events: false,
    };
    fresh.input(Input::ReadState(again));
    let result = store.call(&load);
    fresh.answer(&load, result);
    fresh.serve(&mut store);
    let read = fresh.read.remove(&first).expect("it was read").expect("it can be read");
    assert_eq!(read.revision, Revision(0));
}

#[test]
fn a_command_that_can_not_be_stored_is_refused_before_the_store_is_asked() {
    let (mut host, mut store) = (Host::new(), store());
    host.serve(&mut store);
    let long = "x".repeat(2_000);
    for (id, data, code) in [
        ("", "{}", "invalid-name"),
        ("a\nb", "{}", "invalid-name"),
        (&*long, "{}", "invalid-name"),
        ("b-1", "{", "invalid-payload"),
        ("b-1", "[9007199254740993]", "invalid-payload"),
        ("b-1", r#"["\ud800"]"#, "invalid-payload"),
    ] {
        let task = host.give_with(id, &Command::Note, |execute| execute.data = data.into());
        assert_eq!(host.drain().len(), 0, "{code}: {data}");
        assert_eq!(host.error(task).code(), code);
    }
    let task = host.give_with("b-1", &Command::Note, |execute| {
        execute.stream = annals::StreamId::new("Unheard", "u-1");
    });
    host.drain();
    assert_eq!(host.error(task).code(), "unknown-aggregate");
    assert_eq!(store.log().len(), 0);
}

#[test]
fn a_domain_that_reads_something_else_each_time_is_an_error() {
    let (mut host, mut store) = (Host::hosted(), store());
    let task = host.give("b-1", &Command::Note);
    let mut reads = 0;
    let decide = |_: &mut Host, _: &DomainRequest| {
        reads += 1;
        assert!(reads < 1_000, "it goes on for ever");
        DomainResult::Reads(annals::Query::any_tag([format!("tag-{reads}")]))
    };
    host.serve_hosted(&mut store, decide, support::folded);
    assert_eq!(host.error(task).code(), "domain-failed");
}

#[test]
fn names_are_data() {
    let (mut host, mut store) = (Host::new(), store());
    let names =
        ["'; DROP TABLE events; --", "a/b", "\u{202e}rtl", "__proto__", "😀", &"é".repeat(500)];
    for name in names {
        host.give(name, &Command::Note);
    }
    host.serve(&mut store);
    for name in names {
        let task = host.ask(name, ReadAt::Now, false);
        host.serve(&mut store);
        let read = host.read.remove(&task).expect("it was read").expect("it can be read");
        assert_eq!(read.revision, Revision(1), "{name}");
    }
}

#[test]
fn events_carry_who_when_and_why() {
    let (mut host, mut store) = (Host::new(), store());
    host.give_with("b-1", &Command::Note, |execute| {
        execute.command_id = Some(command_id(7));
        execute.issued_at = Some(annals::Timestamp::from_millis(5));
        execute.metadata.actor = Some("reception".into());
        execute.metadata.causation_id = Some("event-3".into());
    });
    host.serve(&mut store);
    let event = &store.log()[0];
    assert_eq!(event.issued_at.millis(), 5);
    assert_eq!(event.recorded_at, host.now);
    assert_eq!(event.metadata.actor.as_deref(), Some("reception"));
    assert_eq!(event.metadata.causation_id.as_deref(), Some("event-3"));
    let own_id = command_id(7).to_string();
    assert_eq!(event.metadata.correlation_id.as_deref(), Some(&*own_id));
    assert_eq!(event.event_id, annals::EventId::derive(command_id(7), 0));
    assert_eq!(event.position, Position(1));
}
