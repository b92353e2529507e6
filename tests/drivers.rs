//! The engine over a store that blocks, and over one that takes its time.

#![cfg(feature = "native")]

mod support;

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use annals::protocol::{LogFilter, LogStart, ReadAt, StorageAnswer, StorageRequest};
use annals::storage::{
    Annals, AsyncAnnals, CommandOptions, MemoryStore, StorageAdapter, SystemClock,
};
use annals::{
    AggregateDefinition, Change, ChangeKind, CommandError, Config, Error, Position, ReadError,
    Revision, Step, StorageError, StorageErrorCode,
};
use serde_json::{Value, json};
use support::slow::{Job, Slow, Time, run};
use support::{Booking, Command, command_id};

fn config() -> Config {
    Config::new([5; 32], vec![AggregateDefinition::native::<Booking>()])
}

fn options(id: u128) -> CommandOptions {
    CommandOptions { command_id: Some(command_id(id)), ..CommandOptions::default() }
}

#[test]
fn a_blocking_store_serves_commands_states_histories_and_the_log() -> Result<(), Error> {
    let mut annals = Annals::new(config(), MemoryStore::new("s"), SystemClock)?;
    let done = annals.execute::<Booking>("b-1", &Command::Book { slot: 3 }, options(1))?;
    assert_eq!((done.state.slot, done.revision, done.events.len()), (Some(3), Revision(1), 1));
    let again = annals.execute::<Booking>("b-1", &Command::Book { slot: 3 }, options(1))?;
    assert!(again.duplicate);
    assert_eq!(again.events, done.events);
    let refused = annals.execute::<Booking>("b-2", &Command::Book { slot: 3 }, options(2));
    let Err(Error::Command(CommandError::Refused { code, details })) = refused else {
        panic!("the slot is taken")
    };
    assert_eq!((&*code, &*details), ("slot-taken", r#"{"slot":3}"#));
    assert_eq!(annals.state::<Booking>("b-1", ReadAt::Now)?.state.slot, Some(3));
    assert_eq!(annals.history::<Booking>("b-1", ReadAt::Now)?.events, done.events);
    let page = annals.events(Position(0), LogFilter::default(), 10)?.expect("a page");
    assert_eq!((page.events, page.next), (done.events, Position(1)));
    assert!(annals.events(page.next, LogFilter::default(), 10)?.is_none());
    Ok(())
}

#[test]
fn the_log_is_read_back_page_by_page_and_from_anywhere() -> Result<(), Error> {
    let mut annals = Annals::new(config(), MemoryStore::new("s"), SystemClock)?;
    assert!(annals.events_before(None, LogFilter::default(), 2)?.is_none(), "nothing is there");
    for id in 1..=5 {
        annals.execute::<Booking>(&format!("b-{}", id % 2), &Command::Note, options(id))?;
    }
    let mut back = |mut before: Option<Position>, filter: &LogFilter| {
        let mut pages = Vec::new();
        while let Some(page) = annals.events_before(before, filter.clone(), 2)? {
            pages.push(page.events.iter().map(|event| event.position.0).collect::<Vec<_>>());
            before = Some(page.next);
        }
        Ok::<_, Error>(pages)
    };
    let all = LogFilter::default();
    assert_eq!(back(None, &all)?, [vec![5, 4], vec![3, 2], vec![1]]);
    assert_eq!(back(Some(Position(4)), &all)?, [vec![3, 2], vec![1]]);
    assert_eq!(back(Some(Position(1)), &all)?, Vec::<Vec<u64>>::new());
    assert_eq!(back(Some(Position(99)), &all)?, [vec![5, 4], vec![3, 2], vec![1]]);
    let others = LogFilter { types: vec!["Booked".into()], ..LogFilter::default() };
    assert_eq!(back(None, &others)?, Vec::<Vec<u64>>::new());
    Ok(())
}

#[test]
fn a_named_subscription_gives_a_page_until_it_has_been_handled() -> Result<(), Error> {
    let mut annals = Annals::new(config(), MemoryStore::new("s"), SystemClock)?;
    for id in 1..=5 {
        annals.execute::<Booking>("b-1", &Command::Note, options(id))?;
    }
    let start = LogStart::After(Position(0));
    let mut seen = Vec::new();
    while let Some(page) = annals.next_events("mails", start, LogFilter::default(), 2)? {
        let again = annals.next_events("mails", start, LogFilter::default(), 2)?;
        assert_eq!(again.map(|page| page.events), Some(page.events.clone()));
        annals.handled(&page)?;
        assert_eq!(annals.checkpoint("mails")?, Some(page.next));
        let Err(Error::Read(error)) = annals.handled(&page) else {
            panic!("it was handled before")
        };
        assert_eq!(error, ReadError::SubscriptionMoved("mails".into()));
        seen.extend(page.events.iter().map(|event| event.position.0));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!(annals.set_checkpoint("mails", LogStart::After(Position(3)))?, Position(3));
    let page = annals.next_events("mails", start, LogFilter::default(), 9)?.expect("a page");
    assert_eq!((page.checkpoint, page.events.len(), page.next), (Position(3), 2, Position(5)));
    annals.forget_checkpoint("mails")?;
    assert_eq!(annals.checkpoint("mails")?, None);
    assert!(annals.next_events("mails", LogStart::Now, LogFilter::default(), 9)?.is_none());
    assert_eq!(annals.checkpoint("mails")?, Some(Position(5)));
    Ok(())
}

#[test]
fn a_chain_is_walked_both_ways_from_any_event_in_it() -> Result<(), Error> {
    let mut annals = Annals::new(config(), MemoryStore::new("s"), SystemClock)?;
    let mut give = |id: u128, stream: &str, cause: Option<String>, correlation: Option<&str>| {
        let mut options = options(id);
        options.metadata.causation_id = cause.map(Into::into);
        options.metadata.correlation_id = correlation.map(Into::into);
        let done = annals.execute::<Booking>(stream, &Command::Note, options)?;
        Ok::<_, Error>(done.events.into_iter().next().expect("a note"))
    };
    let first = give(1, "b-1", Some("message 6".to_owned()), Some("request 7"))?;
    give(2, "b-1", None, None)?;
    let second = give(3, "b-2", Some(first.event_id.to_string()), Some("request 7"))?;
    let third = give(4, "b-1", Some(first.command_id.to_string()), Some("request 7"))?;
    let fourth = give(5, "b-2", Some(third.event_id.to_string()), Some("request 7"))?;

    let correlation_id = Some("request 7".into());
    let filter = LogFilter { correlation_id, ..LogFilter::default() };
    let page = annals.events(Position(0), filter, 10)?.expect("a page");
    assert_eq!(page.events, [first.clone(), second.clone(), third.clone(), fourth.clone()]);
    for (event, causes, effects) in [
        (&first, vec![], vec![&second, &third, &fourth]),
        (&second, vec![&first], vec![]),
        (&third, vec![&first], vec![&fourth]),
        (&fourth, vec![&third, &first], vec![]),
    ] {
        assert_eq!(annals::trace(event, &page.events), annals::Trace { causes, effects });
    }
    Ok(())
}

#[test]
fn a_diff_tells_what_has_changed_between_two_points_and_by_which_events() -> Result<(), Error> {
    let mut annals = Annals::new(config(), MemoryStore::new("s"), SystemClock)?;
    for (id, command) in [
        ("b-1", Command::Note),
        ("b-2", Command::Note),
        ("b-1", Command::WalkIn { slot: 3 }),
        ("b-1", Command::Note),
    ] {
        annals.execute::<Booking>(id, &command, CommandOptions::default())?;
    }
    let history = annals.history::<Booking>("b-1", ReadAt::Now)?.events;
    let changed = |name: &str, before: Value, after: Value| Change {
        path: vec![Step::Member(name.into())],
        kind: ChangeKind::Changed { before, after },
    };
    let slot = changed("slot", json!(null), json!(3));
    let notes = |before: u32, after: u32| changed("notes", json!(before), json!(after));
    let at = |revision| ReadAt::Revision(Revision(revision));
    for (from, to, changes) in [
        (at(1), ReadAt::Now, vec![notes(1, 2), slot.clone()]),
        (ReadAt::Position(Position(2)), at(2), vec![slot.clone()]),
        (at(0), ReadAt::Position(Position(3)), vec![notes(0, 1), slot]),
        (at(3), ReadAt::Now, vec![]),
        (ReadAt::Cached, ReadAt::Cached, vec![]),
    ] {
        let diff = annals.diff::<Booking>("b-1", from, to)?;
        assert_eq!(diff.changes, changes, "{from:?} to {to:?}");
        for (found, at) in [(&diff.from, from), (&diff.to, to)] {
            let read = annals.state::<Booking>("b-1", at)?;
            assert_eq!((&found.state, found.revision), (&read.state, read.revision));
        }
        let [first, last] = [&diff.from, &diff.to].map(|at| at.revision.0 as usize);
        assert_eq!(diff.events, history[first..last]);
    }
    let error = annals.diff::<Booking>("b-1", at(3), at(1)).expect_err("that is backwards");
    let told = "expected two points of Booking/b-1 in order, found revision 3 and then 1";
    assert_eq!(error.to_string(), told);
    for (from, to) in [(at(9), at(1)), (at(1), at(9))] {
        let error = annals.diff::<Booking>("b-1", from, to).expect_err("there are 3");
        assert!(matches!(error, Error::Read(ReadError::NoSuchRevision { .. })), "{error}");
    }
    Ok(())
}

/// A store that fails now and then, in ways that pass.
struct Shaky(MemoryStore, u32);

impl StorageAdapter for Shaky {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        self.1 += 1;
        if self.1.is_multiple_of(3) {
            return Err(StorageError::retryable(StorageErrorCode::Busy, "locked"));
        }
        self.0.call(request)
    }
}

#[test]
fn a_blocking_store_that_is_busy_is_waited_for() -> Result<(), Error> {
    let mut annals = Annals::new(config(), Shaky(MemoryStore::new("s"), 0), SystemClock)?;
    let commands: Vec<_> = (0..20).map(|number| format!("b-{number}")).collect();
    for id in &commands {
        annals.execute::<Booking>(id, &Command::Note, CommandOptions::default())?;
    }
    assert_eq!(annals.store().0.log().len(), 20);
    let all = commands.iter().map(|id| (&**id, &Command::Note, CommandOptions::default()));
    let results = annals.execute_all::<Booking>(all)?;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|done| done.revision.0 == 2)));
    Ok(())
}

// --- A store that takes its time --------------------------------------------------------------

#[test]
fn futures_polled_together_share_appends() -> Result<(), Error> {
    let store = Slow::new();
    let annals = AsyncAnnals::new(config(), store.clone(), Time::default())?;
    let done = RefCell::new(Vec::new());
    let jobs = (0..32).map(|number| -> Job<'_> {
        let (annals, done) = (annals.clone(), &done);
        Box::pin(async move {
            let id = format!("b-{number}");
            let command = Command::Book { slot: number };
            let executed =
                annals.execute::<Booking>(&id, &command, CommandOptions::default()).await;
            done.borrow_mut().push(executed.expect("the slot is free").revision);
        })
    });
    run(&store, jobs.collect());
    assert_eq!(*done.borrow(), vec![Revision(1); 32]);
    assert!(store.appends.get() <= 2, "{} appends", store.appends.get());
    Ok(())
}

#[test]
fn a_future_that_is_dropped_gives_its_command_up_and_the_others_go_on() -> Result<(), Error> {
    let store = Slow::new();
    let annals = AsyncAnnals::new(config(), store.clone(), Time::default())?;
    let mut context = Context::from_waker(Waker::noop());
    {
        let dropped = annals.execute::<Booking>("b-1", &Command::Note, options(1));
        let mut dropped = pin!(dropped);
        assert!(dropped.as_mut().poll(&mut context).is_pending());
    }
    let annals = &annals;
    run(
        &store,
        vec![Box::pin(async move {
            let done = annals.execute::<Booking>("b-1", &Command::Note, options(2)).await;
            assert_eq!(done.expect("nobody is in the way").revision, Revision(1));
            let history = annals.history::<Booking>("b-1", ReadAt::Now).await;
            assert_eq!(history.expect("it can be read").events.len(), 1);
            let page = annals.events(Position(0), LogFilter::default(), 5).await;
            assert_eq!(page.expect("it can be read").map(|page| page.events.len()), Some(1));
        })],
    );
    Ok(())
}

#[test]
fn named_subscriptions_are_read_side_by_side() -> Result<(), Error> {
    let store = Slow::new();
    let annals = AsyncAnnals::new(config(), store.clone(), Time::default())?;
    for id in 1..=4 {
        let annals = annals.clone();
        let job = async move {
            let done = annals.execute::<Booking>("b-1", &Command::Note, options(id)).await;
            assert!(done.is_ok());
        };
        run(&store, vec![Box::pin(job)]);
    }
    let read = async |name: &'static str, limit| -> Result<usize, Error> {
        let start = LogStart::After(Position(0));
        let mut seen = 0;
        while let Some(page) = annals.next_events(name, start, LogFilter::default(), limit).await? {
            seen += page.events.len();
            annals.handled(&page).await?;
        }
        assert_eq!(annals.checkpoint(name).await?, Some(Position(4)));
        assert_eq!(annals.set_checkpoint(name, start).await?, Position(0));
        annals.forget_checkpoint(name).await?;
        assert_eq!(annals.checkpoint(name).await?, None);
        Ok(seen)
    };
    let seen = RefCell::new(Vec::new());
    let jobs = [("mails", 1), ("bills", 3)].map(|(name, limit)| -> Job<'_> {
        let (read, seen) = (&read, &seen);
        Box::pin(async move {
            let result = read(name, limit).await;
            seen.borrow_mut().push(result);
        })
    });
    run(&store, jobs.into());
    assert_eq!(seen.into_inner(), [Ok(4), Ok(4)]);
    Ok(())
}

#[test]
fn both_points_of_a_diff_are_read_in_one_request() -> Result<(), Error> {
    let store = Slow::new();
    let loads = &store.loads;
    let annals = &AsyncAnnals::new(config(), store.clone(), Time::default())?;
    let note =
        async || annals.execute::<Booking>("b-1", &Command::Note, CommandOptions::default()).await;
    run(
        &store,
        vec![Box::pin(async move {
            let first = note().await.expect("nobody is in the way");
            note().await.expect("nobody is in the way");
            let from = ReadAt::Position(first.events[0].position);
            let before = loads.get();
            let diff = annals.diff::<Booking>("b-1", from, ReadAt::Now).await.expect("readable");
            assert_eq!((diff.changes.len(), diff.events.len()), (1, 1));
            assert_eq!(loads.get() - before, 1);
            let beyond = ReadAt::Position(Position(3));
            let error = annals.diff::<Booking>("b-1", beyond, ReadAt::Now).await;
            assert!(matches!(error, Err(Error::Read(ReadError::NoSuchPosition { .. }))));
        })],
    );
    Ok(())
}
