//! Subscriptions with a name: where they begin, what is kept of them, and who is told what.

mod support;

use annals::protocol::{
    AskCheckpoint, CheckpointWish, DocumentName, Input, LogFilter, LogStart, Notice, Page,
    ReadDocuments, RequestId, StorageAnswer, StorageBody, StorageRequest, Subscribe,
};
use annals::storage::{MemoryStore, StorageAdapter};
use annals::{
    ApiMisuse, Applied, Position, ReadError, StorageError, StorageErrorCode, TaskId, Timestamp,
};
use support::{Command, Host, command_id};

const BEGINNING: LogStart = LogStart::After(Position(0));

fn store_with(events: usize) -> MemoryStore {
    let mut store = MemoryStore::new("store-1");
    append(&mut store, events);
    store
}

fn append(store: &mut MemoryStore, events: usize) {
    let mut host = Host::new();
    let before = store.log().len();
    for number in 1..=events {
        let id = command_id((before + number) as u128);
        host.give_with("b-1", &Command::Note, |execute| execute.command_id = Some(id));
    }
    host.serve(store);
    assert_eq!(store.log().len(), before + events);
}

fn read(host: &mut Host, name: &str, start: LogStart, limit: u32) -> TaskId {
    host.subscribe(|subscribe| {
        (subscribe.name, subscribe.start, subscribe.limit) = (Some(name.into()), start, limit);
    })
}

/// The positions of each page that a reader was given since this was last asked.
fn pages(host: &mut Host, reader: TaskId) -> Vec<Vec<u64>> {
    let mut pages = Vec::new();
    host.notices.retain(|notice| match notice {
        Notice::Events { task, page: Page::Events(events), .. } if *task == reader => {
            pages.push(events.iter().map(|event| event.position.0).collect());
            false
        }
        _ => true,
    });
    pages
}

fn end(host: &mut Host, reader: TaskId) -> Result<(), ReadError> {
    let at = host.notices.iter().position(
        |notice| matches!(notice, Notice::SubscriptionEnded { task, .. } if *task == reader),
    );
    match host.notices.remove(at.expect("the subscription has ended")) {
        Notice::SubscriptionEnded { result, .. } => result,
        other => unreachable!("{other:?}"),
    }
}

fn ask(
    host: &mut Host,
    store: &mut MemoryStore,
    name: &str,
    wish: CheckpointWish,
) -> Result<Option<u64>, ReadError> {
    let task = host.next_task();
    host.input(Input::AskCheckpoint(AskCheckpoint { task, name: name.into(), wish }));
    host.serve(store);
    match host.notices.pop() {
        Some(Notice::Checkpoint { task: told, result }) if told == task => {
            result.map(|position| position.map(|position| position.0))
        }
        other => panic!("{other:?}"),
    }
}

fn checkpoint(store: &mut MemoryStore, name: &str) -> Option<u64> {
    ask(&mut Host::new(), store, name, CheckpointWish::Read).expect("it can be read")
}

fn is_save(request: &StorageRequest) -> bool {
    matches!(request.body, StorageBody::SaveDocuments(_))
}

/// Serves the engine until it saves something, and gives that request.
fn until_save(host: &mut Host, store: &mut MemoryStore) -> StorageRequest {
    for _ in 0..10 {
        for request in host.drain() {
            if is_save(&request) {
                return request;
            }
            let result = store.call(&request);
            host.answer(&request, result);
        }
    }
    unreachable!("nothing was saved")
}

#[test]
fn a_reader_goes_on_after_the_pages_that_it_has_handled() {
    let mut store = store_with(10);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 3);
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[1, 2, 3]]);
    assert_eq!(checkpoint(&mut store, "mails"), Some(0), "nothing has been handled");
    host.input(Input::Next(reader));
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[4, 5, 6]]);
    assert_eq!(checkpoint(&mut store, "mails"), Some(3));

    // Its process ends, and another starts. Where it says that it starts is of no account by then.
    let mut host = Host::new();
    let reader = read(&mut host, "mails", LogStart::Now, 3);
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[4, 5, 6]]);
}

#[test]
fn a_checkpoint_is_moved_before_the_next_page_is_read() {
    let mut store = store_with(4);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 2);
    host.serve(&mut store);
    assert_eq!(host.saves, 1, "where it starts is kept at once");
    host.input(Input::Next(reader));
    let requests = host.drain();
    assert!(requests.len() == 1 && is_save(&requests[0]), "{requests:?}");
    let result = store.call(&requests[0]);
    host.answer(&requests[0], result);
    let requests = host.drain();
    assert!(matches!(requests[0].body, StorageBody::ReadLog(_)), "{requests:?}");
}

#[test]
fn a_reader_that_leaves_in_the_middle_of_a_page_gets_the_rest_next_time() {
    let mut store = store_with(5);
    for (handled, given) in [(2, vec![1, 2, 3]), (2, vec![3, 4, 5]), (3, vec![3, 4, 5])] {
        let mut host = Host::new();
        let reader = read(&mut host, "mails", BEGINNING, 3);
        host.serve(&mut store);
        assert_eq!(pages(&mut host, reader), [given]);
        host.input(Input::Handled(reader, Position(handled)));
        host.input(Input::Cancel(reader));
        host.serve(&mut store);
        assert_eq!(end(&mut host, reader), Err(ReadError::Cancelled));
        assert_eq!(checkpoint(&mut store, "mails"), Some(handled));
    }
}

#[test]
fn what_has_not_been_given_has_not_been_handled() {
    let mut store = store_with(5);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 3);
    host.serve(&mut store);
    host.input(Input::Handled(reader, Position(5)));
    host.input(Input::Cancel(reader));
    // Too late: it has left.
    host.input(Input::Next(reader));
    host.serve(&mut store);
    assert_eq!(end(&mut host, reader), Err(ReadError::Cancelled));
    assert_eq!(checkpoint(&mut store, "mails"), Some(3));
}

#[test]
fn a_reader_that_leaves_has_left_when_its_checkpoint_is_kept() {
    let mut store = store_with(3);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 3);
    host.serve(&mut store);
    host.input(Input::Next(reader));
    let save = until_save(&mut host, &mut store);
    host.input(Input::Cancel(reader));
    assert!(host.drain().is_empty());
    assert!(host.notices.iter().all(|n| !matches!(n, Notice::SubscriptionEnded { .. })));
    let result = store.call(&save);
    host.answer(&save, result);
    assert!(host.drain().is_empty(), "nothing is read for who has left");
    assert_eq!(end(&mut host, reader), Err(ReadError::Cancelled));
}

#[test]
fn a_reader_that_leaves_is_told_if_its_checkpoint_could_not_be_kept() {
    let mut store = store_with(3);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 3);
    host.serve(&mut store);
    host.input(Input::Handled(reader, Position(2)));
    host.input(Input::Cancel(reader));
    let save = until_save(&mut host, &mut store);
    let full = StorageError::permanent(StorageErrorCode::Full, "the disk is full");
    host.answer(&save, Err(full.clone()));
    host.drain();
    assert_eq!(end(&mut host, reader), Err(ReadError::Storage(full)));
}

#[test]
fn of_two_readers_with_one_name_the_slower_is_told() {
    let mut store = store_with(6);
    let (mut first, mut second) = (Host::new(), Host::new());
    let quick = read(&mut first, "mails", BEGINNING, 3);
    let slow = read(&mut second, "mails", BEGINNING, 2);
    first.serve(&mut store);
    second.serve(&mut store);
    first.input(Input::Next(quick));
    first.serve(&mut store);
    second.input(Input::Next(slow));
    second.serve(&mut store);
    assert_eq!(pages(&mut second, slow), [[1, 2]], "it is given no more");
    let told = end(&mut second, slow).expect_err("it was slower");
    assert_eq!(told, ReadError::SubscriptionMoved("mails".into()));
    assert_eq!(told.code(), "subscription-moved");
    assert_eq!(pages(&mut first, quick), [vec![1, 2, 3], vec![4, 5, 6]]);
    // Having come to the same place is no excuse.
    let same = read(&mut second, "mails", BEGINNING, 3);
    second.serve(&mut store);
    first.input(Input::Next(quick));
    first.serve(&mut store);
    second.input(Input::Next(same));
    second.serve(&mut store);
    assert_eq!(end(&mut second, same), Err(ReadError::SubscriptionMoved("mails".into())));
}

#[test]
fn two_readers_that_begin_in_the_same_moment_begin_in_the_same_place() {
    let mut store = store_with(4);
    let mut hosts = [Host::new(), Host::new()];
    let readers = hosts.each_mut().map(|host| read(host, "mails", BEGINNING, 2));
    let saves = hosts.each_mut().map(|host| until_save(host, &mut store));
    for ((host, save), reader) in hosts.iter_mut().zip(&saves).zip(readers) {
        let result = store.call(save);
        host.answer(save, result);
        host.serve(&mut store);
        assert_eq!(pages(host, reader), [[1, 2]]);
    }
}

#[test]
fn a_checkpoint_that_was_moved_by_an_attempt_whose_answer_was_lost_is_not_another_s() {
    let mut store = store_with(4);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 2);
    host.serve(&mut store);
    host.input(Input::Next(reader));
    let lost = until_save(&mut host, &mut store);
    store.call(&lost).expect("the store does it");
    host.sleep();
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[1, 2], [3, 4]]);
    assert_eq!(checkpoint(&mut store, "mails"), Some(2));
}

#[test]
fn a_reader_that_starts_now_gets_what_comes_after_that_even_if_its_process_ends_first() {
    for events in [0, 3] {
        let mut store = store_with(events);
        let mut host = Host::new();
        let reader = read(&mut host, "mails", LogStart::Now, 10);
        host.serve(&mut store);
        assert!(pages(&mut host, reader).is_empty());
        append(&mut store, 2);
        let mut host = Host::new();
        let reader = read(&mut host, "mails", LogStart::Now, 10);
        host.serve(&mut store);
        let next = events as u64 + 1;
        assert_eq!(pages(&mut host, reader), [[next, next + 1]]);
    }
}

#[test]
fn a_reader_without_a_name_may_start_now_too_and_nothing_is_kept_of_it() {
    let mut store = store_with(3);
    let mut host = Host::new();
    let reader = host.subscribe(|subscribe| subscribe.start = LogStart::Now);
    host.serve(&mut store);
    append(&mut store, 2);
    host.input(Input::Advanced(Some(Position(5))));
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[4, 5]]);
    host.input(Input::Next(reader));
    host.serve(&mut store);
    assert_eq!(host.saves, 0);
}

#[test]
fn a_reader_that_asks_again_at_the_end_of_the_log_looks_there_again() {
    let mut store = store_with(1);
    for name in [None, Some("mails")] {
        let mut host = Host::new();
        let reader = host.subscribe(|subscribe| subscribe.name = name.map(Into::into));
        host.serve(&mut store);
        pages(&mut host, reader);
        host.input(Input::Next(reader));
        host.serve(&mut store);
        let before = store.log().len() as u64;
        append(&mut store, 1);
        assert!(host.drain().is_empty(), "it waits for a time");
        host.input(Input::Next(reader));
        host.serve(&mut store);
        assert_eq!(pages(&mut host, reader), [[before + 1]]);
    }
}

#[test]
fn progress_without_events_is_kept_now_and_then() {
    let mut store = store_with(100);
    let mut host = Host::new();
    let follow = |host: &mut Host, follow| {
        host.subscribe(|subscribe| {
            (subscribe.name, subscribe.follow) = (Some("rare".into()), follow);
            subscribe.filter = LogFilter { types: vec!["Booked".into()], ..LogFilter::default() };
        })
    };
    let reader = follow(&mut host, true);
    host.serve(&mut store);
    for _ in 0..30 {
        append(&mut store, 100);
        host.input(Input::Advanced(Some(Position(store.log().len() as u64))));
        host.serve(&mut store);
    }
    assert!((3..=4).contains(&host.saves), "{} saves for 3,100 events", host.saves);
    let kept = checkpoint(&mut store, "rare").expect("one is kept");
    assert!(kept > 2_000, "{kept}");
    host.input(Input::Cancel(reader));
    host.serve(&mut store);
    assert_eq!(end(&mut host, reader), Err(ReadError::Cancelled));
    assert_eq!(checkpoint(&mut store, "rare"), Some(kept));

    // Nor does one who looks and goes read it all each time.
    append(&mut store, 1_000);
    let reader = follow(&mut host, false);
    host.serve(&mut store);
    assert_eq!(end(&mut host, reader), Ok(()));
    assert_eq!(checkpoint(&mut store, "rare"), Some(4_100));
}

#[test]
fn a_checkpoint_is_asked_set_and_forgotten() {
    let mut store = store_with(6);
    let mut host = Host::new();
    let mut ask = |wish| ask(&mut host, &mut store, "mails", wish);
    assert_eq!(ask(CheckpointWish::Read), Ok(None));
    assert_eq!(ask(CheckpointWish::Forget), Ok(None));
    assert_eq!(ask(CheckpointWish::Set(LogStart::Now)), Ok(Some(6)));
    assert_eq!(ask(CheckpointWish::Set(LogStart::After(Position(4)))), Ok(Some(4)));
    assert_eq!(ask(CheckpointWish::Read), Ok(Some(4)));
    let (from, to) = (Position(4), Position(5));
    assert_eq!(ask(CheckpointWish::Advance { from, to }), Ok(Some(5)));
    let moved = Err(ReadError::SubscriptionMoved("mails".into()));
    assert_eq!(ask(CheckpointWish::Advance { from, to }), moved);
    assert_eq!(ask(CheckpointWish::Read), Ok(Some(5)));
    let beyond = Err(ReadError::NoSuchPosition { asked: Position(7), head: Position(6) });
    assert_eq!(ask(CheckpointWish::Set(LogStart::After(Position(7)))), beyond);
    assert_eq!(ask(CheckpointWish::Read), Ok(Some(5)));
    assert_eq!(ask(CheckpointWish::Forget), Ok(None));
    assert_eq!(ask(CheckpointWish::Read), Ok(None));
}

#[test]
fn a_checkpoint_that_an_attempt_without_an_answer_has_moved_is_moved() {
    let mut store = store_with(6);
    let mut host = Host::new();
    let set = CheckpointWish::Set(LogStart::After(Position(2)));
    assert_eq!(ask(&mut host, &mut store, "mails", set), Ok(Some(2)));
    let task = host.next_task();
    let wish = CheckpointWish::Advance { from: Position(2), to: Position(4) };
    host.input(Input::AskCheckpoint(AskCheckpoint { task, name: "mails".into(), wish }));
    let save = until_save(&mut host, &mut store);
    store.call(&save).expect("the store does it");
    let lost = StorageError {
        applied: Applied::Unknown,
        ..StorageError::retryable(StorageErrorCode::Failed, "the connection was lost")
    };
    host.answer(&save, Err(lost));
    host.drain();
    host.sleep();
    host.serve(&mut store);
    let told = host.notices.pop();
    let Some(Notice::Checkpoint { result, .. }) = told else { panic!("{told:?}") };
    assert_eq!(result, Ok(Some(Position(4))));
}

#[test]
fn a_reader_whose_checkpoint_was_set_elsewhere_is_told() {
    let mut store = store_with(4);
    for wish in [CheckpointWish::Set(LogStart::After(Position(1))), CheckpointWish::Forget] {
        let (mut host, mut operator) = (Host::new(), Host::new());
        let reader = read(&mut host, "mails", BEGINNING, 2);
        host.serve(&mut store);
        ask(&mut operator, &mut store, "mails", wish).expect("it is done");
        host.input(Input::Next(reader));
        host.serve(&mut store);
        assert_eq!(end(&mut host, reader), Err(ReadError::SubscriptionMoved("mails".into())));
    }
    assert_eq!(checkpoint(&mut store, "mails"), None, "and it stays as it was set");
}

#[test]
fn a_checkpoint_beyond_the_end_of_the_log_is_an_error() {
    let mut longer = store_with(5);
    let set = CheckpointWish::Set(LogStart::Now);
    ask(&mut Host::new(), &mut longer, "mails", set).expect("it is set");
    let name = DocumentName { collection: "subscriptions".into(), key: "mails".into() };
    let request = |body, number| StorageRequest {
        id: RequestId(number),
        attempt: 1,
        deadline: Timestamp::from_millis(0),
        epoch: Some(annals::protocol::Epoch("store-1".into())),
        body,
    };
    let read_it = ReadDocuments { names: vec![name], scans: Vec::new() };
    let found = longer.call(&request(StorageBody::ReadDocuments(read_it.into()), 1));
    let Ok(StorageAnswer::Documents(found)) = found else { panic!("{found:?}") };
    assert_eq!(found.documents[0].as_ref().map(|document| document.revision), Some(6));

    // The log has lost its last events: the checkpoint has not.
    let mut shorter = store_with(3);
    let mut host = Host::new();
    let reader = read(&mut host, "mails", BEGINNING, 2);
    loop {
        let requests = host.drain();
        if requests.is_empty() {
            break;
        }
        for request in requests {
            let mut result = shorter.call(&request);
            if let Ok(StorageAnswer::Documents(answer)) = &mut result {
                answer.documents.clone_from(&found.documents);
            }
            host.answer(&request, result);
        }
    }
    let beyond = ReadError::NoSuchPosition { asked: Position(5), head: Position(3) };
    assert_eq!(end(&mut host, reader), Err(beyond));
}

#[test]
fn a_name_that_can_not_be_used_is_refused_before_the_store_is_asked() {
    let mut store = store_with(1);
    let mut host = Host::new();
    for name in ["", "a\nb", &"n".repeat(1_025)] {
        let reader = read(&mut host, name, BEGINNING, 2);
        host.drain();
        assert_eq!(end(&mut host, reader).expect_err("no name").code(), "invalid-name");
        let told = ask(&mut host, &mut store, name, CheckpointWish::Read);
        assert_eq!(told.expect_err("no name").code(), "invalid-name");
    }
    assert_eq!(host.saves, 0);
}

#[test]
fn who_goes_back_gets_each_event_once_while_others_append() {
    let mut store = store_with(4);
    let mut host = Host::new();
    let reader = host.subscribe(|subscribe| {
        (subscribe.start, subscribe.limit) = (LogStart::Now, 3);
        (subscribe.descending, subscribe.follow) = (true, false);
    });
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[4, 3, 2]]);
    append(&mut store, 2);
    host.input(Input::Advanced(Some(Position(6))));
    host.input(Input::Next(reader));
    host.serve(&mut store);
    assert_eq!(pages(&mut host, reader), [[1]]);
    host.input(Input::Next(reader));
    host.serve(&mut store);
    assert_eq!(end(&mut host, reader), Ok(()));
}

#[test]
fn who_goes_back_through_events_that_are_not_for_him_goes_on() {
    let mut store = store_with(5);
    let mut host = Host::new();
    let reader = host.subscribe(|subscribe| {
        (subscribe.start, subscribe.limit) = (LogStart::After(Position(5)), 2);
        (subscribe.descending, subscribe.follow) = (true, false);
        subscribe.filter.tags = vec!["nobody:1".into()];
    });
    // A store may give short pages: this one looks at one event for each.
    let mut asked = Vec::new();
    loop {
        let requests = host.drain();
        if requests.is_empty() {
            break;
        }
        for request in requests {
            let mut result = store.call(&request);
            if let (StorageBody::ReadLog(read), Ok(StorageAnswer::Log(log))) =
                (&request.body, &mut result)
            {
                asked.push(read.after.0);
                log.next = Position(read.after.0 - 1);
            }
            host.answer(&request, result);
        }
    }
    assert_eq!(asked, [5, 4, 3, 2]);
    assert_eq!(end(&mut host, reader), Ok(()));
}

#[test]
fn who_goes_back_has_no_name_and_does_not_wait() {
    for (name, follow) in [(Some("mails"), false), (None, true)] {
        let misuse = Host::new().engine.handle_input(
            Timestamp::from_millis(0),
            Input::Subscribe(Subscribe {
                task: TaskId(1),
                name: name.map(Into::into),
                start: LogStart::Now,
                filter: LogFilter::default(),
                upcasts: false,
                limit: 3,
                follow,
                descending: true,
            }),
        );
        assert_eq!(misuse, Err(ApiMisuse::CannotGoBack));
    }
}
