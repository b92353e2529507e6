//! Readers that wait for what comes: of the log and of views, on a store that blocks and on one that
//! takes its time.

mod support;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use annals::protocol::{LogFilter, LogStart, ReadAt, ViewAt};
use annals::storage::{
    Annals, AsyncAnnals, AsyncSubscription, Clock, CommandOptions, MemoryStore, StorageAdapter,
};
use annals::{
    AggregateDefinition, ApiMisuse, Config, Error, EventContext, Position, ProjectError,
    Projection, ProjectionDefinition, ReadError, RecordedEvent, StorageErrorCode, Timestamp, View,
    ViewKind,
};
use support::shared::{Luck, Shared, Ticking};
use support::slow::{Job, Slow, Time, run, run_while};
use support::{Booking, Command, Event};

const BEGINNING: LogStart = LogStart::After(Position(0));

/// How many notes each booking has.
struct Notes<const LIVE: bool>;

impl<const LIVE: bool> Projection for Notes<LIVE> {
    const NAME: &'static str = "notes";
    const VERSION: u32 = 1;
    const KIND: ViewKind = if LIVE { ViewKind::Live } else { ViewKind::Async };
    type Event = Event;
    type Document = u32;

    fn project(
        view: &mut View<'_, u32>,
        _: Event,
        context: &EventContext<'_>,
    ) -> Result<(), ProjectError> {
        let key = &context.stream.aggregate_id;
        let notes = view.get(key)?.copied().unwrap_or_default();
        view.set(key, notes + 1);
        Ok(())
    }
}

fn config(seed: u8) -> Config {
    Config::new([seed; 32], vec![AggregateDefinition::native::<Booking>()])
}

fn with_view<const LIVE: bool>(seed: u8) -> Config {
    let projections = vec![ProjectionDefinition::native::<Notes<LIVE>>()];
    Config { projections, ..config(seed) }
}

fn notes() -> LogFilter {
    LogFilter { types: vec!["Noted".into()], ..LogFilter::default() }
}

type Engine = AsyncAnnals<Slow, Time>;
type Reader = AsyncSubscription<Slow, Time>;

fn engine(config: Config, store: &Slow) -> Engine {
    engine_with(config, store, &Time::default())
}

fn engine_with(config: Config, store: &Slow, time: &Time) -> Engine {
    AsyncAnnals::new(config, store.clone(), time.clone()).expect("the configuration is fine")
}

async fn note(annals: &Engine, id: &str) {
    let done = annals.execute::<Booking>(id, &Command::Note, CommandOptions::default()).await;
    assert!(done.is_ok(), "{done:?}");
}

/// Engines that append to one store make ids of their own.
fn seed_of(store: &MemoryStore) -> u8 {
    100 + store.log().len() as u8
}

/// Appends so many notes, by an engine of its own.
fn append(store: &Slow, events: u64) {
    let seed = seed_of(&store.store.borrow());
    let annals = engine(config(seed), store);
    let job = async {
        for _ in 0..events {
            note(&annals, "b-1").await;
        }
    };
    run(store, vec![Box::pin(job)]);
}

async fn next(reader: &mut Reader) -> u64 {
    reader.next().await.expect("there is one").position.0
}

/// What is there when it is polled once. It is dropped then.
async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

fn read_error<T: std::fmt::Debug>(result: Result<T, Error>) -> ReadError {
    match result {
        Err(Error::Read(error)) => error,
        other => panic!("{other:?}"),
    }
}

// --- The log, on a store that takes its time --------------------------------------------------

/// Two engines append while one of them reads. Requests reach the store in any order, and a reader gives
/// up waiting now and then.
fn while_others_append<'a>(seed: u64, store: &'a Slow, time: &'a Time, reader: Job<'a>) {
    let mut luck = Luck(seed);
    let writer = |number: u8| -> Job<'a> {
        Box::pin(async move {
            let annals = engine_with(config(number), store, time);
            for slot in 0..10 {
                let id = format!("b-{slot}");
                let options = CommandOptions::default;
                let walk_in = Command::WalkIn { slot };
                let done = annals.execute::<Booking>(&id, &walk_in, options()).await;
                assert!(done.is_ok(), "{done:?}");
                note(&annals, &id).await;
            }
        })
    };
    run_while(vec![reader, writer(1), writer(2)], || match store.waiting() as u64 {
        0 => time.go_on(),
        waiting => store.step_at(luck.below(waiting) as usize),
    });
}

fn noted(store: &Slow) -> Vec<u64> {
    let store = store.store.borrow();
    let notes = store.log().iter().filter(|event| notes().passes(event));
    notes.map(|event| event.position.0).collect()
}

#[test]
fn each_event_comes_once_and_in_order_whoever_appends_and_however_late_the_store_answers() {
    for seed in 1..=200 {
        let (store, time) = (Slow::new(), Time::default());
        let annals = engine_with(config(3), &store, &time);
        let read = RefCell::new(Vec::new());
        let reader = async {
            let mut luck = Luck(seed * 31);
            let limit = 1 + luck.below(4) as u32;
            let mut events = annals.subscribe(BEGINNING, notes(), limit).expect("a limit");
            while read.borrow().len() < 20 {
                let event = match luck.below(3) {
                    0 => once(events.next()).await,
                    _ => Some(events.next().await),
                };
                let event = event.map(|event| event.expect("it can be read").position.0);
                read.borrow_mut().extend(event);
            }
        };
        while_others_append(seed, &store, &time, Box::pin(reader));
        assert_eq!(*read.borrow(), noted(&store), "seed {seed}");
    }
}

#[test]
fn who_leaves_and_comes_back_under_a_name_begins_with_the_event_he_was_at() {
    for seed in 1..=200 {
        let (store, time) = (Slow::new(), Time::default());
        let annals = engine_with(config(3), &store, &time);
        let read: RefCell<Vec<u64>> = RefCell::default();
        let reader = async {
            let mut luck = Luck(seed * 31);
            while read.borrow().len() < 20 {
                let limit = 1 + luck.below(4) as u32;
                let events = annals.subscribe_as("mails", BEGINNING, notes(), limit);
                let mut events = events.expect("a limit");
                let mut was_at = read.borrow().last().copied();
                for _ in 0..=luck.below(6) {
                    let position = next(&mut events).await;
                    match was_at.take() {
                        Some(was_at) => assert_eq!(position, was_at, "seed {seed}"),
                        None => read.borrow_mut().push(position),
                    }
                    if read.borrow().len() == 20 {
                        break;
                    }
                }
                events.leave().await.expect("nobody else has the name");
            }
        };
        while_others_append(seed, &store, &time, Box::pin(reader));
        assert_eq!(*read.borrow(), noted(&store), "seed {seed}");
    }
}

#[test]
fn a_page_is_read_when_the_one_before_is_used_up() {
    let store = Slow::new();
    append(&store, 5);
    let annals = engine(config(1), &store);
    let job = async {
        store.log_reads.set(0);
        let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 2).expect("a limit");
        for (position, reads) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            assert_eq!(next(&mut events).await, position);
            // Others are served meanwhile.
            note(&annals, "b-2").await;
            assert_eq!(store.log_reads.get(), reads);
        }
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn who_reads_what_is_to_come_begins_there_at_once() {
    let store = Slow::new();
    append(&store, 3);
    let annals = engine(config(1), &store);
    let job = async {
        let events = annals.subscribe(LogStart::Now, LogFilter::default(), 10);
        let mut events = events.expect("a limit");
        note(&annals, "b-2").await;
        assert_eq!(next(&mut events).await, 4);
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn a_reader_that_is_dropped_asks_for_nothing_more() {
    let store = Slow::new();
    append(&store, 3);
    let annals = engine(config(1), &store);
    let job = async {
        let read = annals.subscribe(BEGINNING, LogFilter::default(), 2);
        let named = annals.subscribe_as("mails", BEGINNING, LogFilter::default(), 2);
        for mut events in [read, named].map(|events| events.expect("a limit")) {
            while once(events.next()).await.is_some() || store.step() {}
            // It waits at the end of the log: whatever is appended there it would read.
            drop(events);
            let reads = store.log_reads.get();
            note(&annals, "b-1").await;
            assert_eq!(store.log_reads.get(), reads);
        }
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn several_read_with_one_engine_each_at_his_own_pace() {
    let store = Slow::new();
    append(&store, 7);
    let annals = engine(config(1), &store);
    let read = RefCell::new(Vec::new());
    let jobs = (1..=4).map(|limit| -> Job<'_> {
        let (annals, read) = (&annals, &read);
        Box::pin(async move {
            let events = annals.subscribe(BEGINNING, LogFilter::default(), limit);
            let mut events = events.expect("a limit");
            for position in 1..=9 {
                assert_eq!(next(&mut events).await, position);
                if position == 7 && limit < 3 {
                    note(annals, "b-2").await;
                }
            }
            read.borrow_mut().push(limit);
        })
    });
    run(&store, jobs.collect());
    assert_eq!(read.borrow().len(), 4);
}

#[test]
fn a_future_that_is_dropped_loses_no_event_and_moves_no_checkpoint_past_one() {
    let store = Slow::new();
    append(&store, 4);
    for name in [None, Some("mails")] {
        let annals = engine(config(1), &store);
        let job = async {
            let mut events = match name {
                None => annals.subscribe(BEGINNING, LogFilter::default(), 2),
                Some(name) => annals.subscribe_as(name, BEGINNING, LogFilter::default(), 2),
            }
            .expect("a limit");
            for position in 1..=4 {
                // Each time it is polled once more, the store has got further.
                let event = loop {
                    match once(events.next()).await {
                        Some(event) => break event.expect("it can be read"),
                        None => assert!(store.step(), "something is asked"),
                    }
                };
                assert_eq!(event.position.0, position);
                if name.is_some() {
                    let kept = store_checkpoint(&store).await;
                    assert!(kept < position, "{kept} at {position}");
                }
            }
        };
        run(&store, vec![Box::pin(job)]);
    }
}

/// What the store has kept under the name.
async fn store_checkpoint(store: &Slow) -> u64 {
    let annals = engine(config(7), store);
    let kept = annals.checkpoint("mails").await.expect("it can be read");
    kept.expect("there is one").0
}

#[test]
fn after_a_crash_in_the_middle_of_a_page_that_page_comes_again_and_none_before() {
    let store = Slow::new();
    append(&store, 7);
    let killed = engine(config(1), &store);
    let job = async {
        let events = killed.subscribe_as("mails", BEGINNING, LogFilter::default(), 3);
        let mut events = events.expect("a limit");
        for position in 1..=5 {
            assert_eq!(next(&mut events).await, position);
        }
    };
    run(&store, vec![Box::pin(job)]);
    // Nobody serves it any more.
    drop(killed);
    let annals = engine(config(2), &store);
    let job = async {
        // Where it says that it starts is of no account by then.
        let events = annals.subscribe_as("mails", LogStart::Now, LogFilter::default(), 3);
        let mut events = events.expect("a limit");
        for position in 4..=7 {
            assert_eq!(next(&mut events).await, position);
        }
        events.leave().await.expect("it has gone on");
        assert_eq!(annals.checkpoint("mails").await.expect("it can be read"), Some(Position(6)));
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn what_a_reader_has_handled_that_was_dropped_is_kept_by_whoever_serves_the_engine() {
    let store = Slow::new();
    append(&store, 5);
    let annals = engine(config(1), &store);
    let job = async {
        let events = annals.subscribe_as("mails", BEGINNING, LogFilter::default(), 4);
        let mut events = events.expect("a limit");
        for position in 1..=3 {
            assert_eq!(next(&mut events).await, position);
        }
        drop(events);
        note(&annals, "b-2").await;
        assert_eq!(store_checkpoint(&store).await, 2);
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn who_serves_the_engine_is_woken_to_keep_what_a_dropped_reader_has_handled() {
    let store = Slow::new();
    append(&store, 5);
    let annals = engine(config(1), &store);
    let reader = RefCell::new(None);
    let reading = async {
        let events = annals.subscribe_as("mails", BEGINNING, LogFilter::default(), 4);
        let mut events = events.expect("a limit");
        for position in 1..=3 {
            assert_eq!(next(&mut events).await, position);
        }
        reader.replace(Some(events));
    };
    run(&store, vec![Box::pin(reading)]);
    let before = store.saves.get();
    let mut serving = pin!(annals.serve());
    let serving = poll_fn(|context| {
        assert!(serving.as_mut().poll(context).is_pending());
        if store.saves.get() > before { Poll::Ready(()) } else { Poll::Pending }
    });
    run_while(vec![Box::pin(serving)], || store.step() || reader.take().is_some());
}

#[test]
fn who_gives_up_waiting_and_waits_again_asks_the_store_nothing() {
    let store = Slow::new();
    append(&store, 1);
    let annals = engine(config(1), &store);
    let job = async {
        let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 2).expect("a limit");
        assert_eq!(next(&mut events).await, 1);
        let mut at_the_end = None;
        for _ in 0..5 {
            while once(events.next()).await.is_none() && store.step() {}
            assert_eq!(*at_the_end.get_or_insert(store.log_reads.get()), store.log_reads.get());
        }
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn of_two_with_one_name_the_slower_is_told_and_told_again() {
    let store = Slow::new();
    append(&store, 4);
    let [first, second] = [1, 2].map(|seed| engine(config(seed), &store));
    let job = async {
        let [mut quick, mut slow] = [&first, &second].map(|annals| {
            let events = annals.subscribe_as("mails", BEGINNING, LogFilter::default(), 2);
            events.expect("a limit")
        });
        assert_eq!((next(&mut quick).await, next(&mut slow).await), (1, 1));
        assert_eq!((next(&mut quick).await, next(&mut quick).await), (2, 3));
        assert_eq!(next(&mut slow).await, 2);
        let moved = ReadError::SubscriptionMoved("mails".into());
        assert_eq!(read_error(slow.next().await), moved);
        assert_eq!(read_error(slow.next().await), moved);
        assert_eq!(read_error(slow.leave().await), moved);
        assert_eq!(next(&mut quick).await, 4);
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn a_store_that_was_replaced_ends_its_readers_and_others_read_the_new_one() {
    let store = Slow::new();
    append(&store, 3);
    let annals = engine(config(1), &store);
    let job = async {
        let read = |name| match name {
            None => annals.subscribe(BEGINNING, LogFilter::default(), 3).expect("a limit"),
            Some(name) => {
                let events = annals.subscribe_as(name, BEGINNING, LogFilter::default(), 3);
                events.expect("a limit")
            }
        };
        let [mut unnamed, mut named] = [None, Some("mails")].map(read);
        assert_eq!((next(&mut unnamed).await, next(&mut named).await), (1, 1));
        store.store.borrow_mut().set_epoch("another");
        note(&annals, "b-2").await;
        // What is at hand is given, unless it comes again.
        let replaced = |error| match error {
            ReadError::Storage(error) => error.code == StorageErrorCode::ForeignEpoch,
            _ => false,
        };
        assert!(replaced(read_error(named.next().await)));
        assert_eq!((next(&mut unnamed).await, next(&mut unnamed).await), (2, 3));
        for _ in 0..2 {
            assert!(replaced(read_error(unnamed.next().await)));
        }
        let mut named = read(Some("mails"));
        assert_eq!(next(&mut named).await, 1, "nothing was handled");
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn a_store_that_fails_ends_the_reader_and_another_goes_on_after_the_last_event() {
    let store = Slow::new();
    append(&store, 4);
    let annals = engine(config(1), &store);
    let job = async {
        let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 2).expect("a limit");
        assert_eq!((next(&mut events).await, next(&mut events).await), (1, 2));
        store.is_broken.set(true);
        let ReadError::Storage(error) = read_error(events.next().await) else {
            panic!("the store has failed")
        };
        assert_eq!(error.code, StorageErrorCode::Failed);
        store.is_broken.set(false);
        assert!(events.next().await.is_err(), "it has ended");
        let start = LogStart::After(Position(2));
        let mut events = annals.subscribe(start, LogFilter::default(), 2).expect("a limit");
        assert_eq!((next(&mut events).await, next(&mut events).await), (3, 4));
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn what_can_not_be_subscribed_to_is_an_error() {
    let store = Slow::new();
    let annals = engine(config(1), &store);
    let none =
        annals.subscribe(BEGINNING, LogFilter::default(), 0).expect_err("no page is so small");
    assert_eq!(none, Error::Misuse(ApiMisuse::ZeroLimit("limit")));
    let job = async {
        let events = annals.subscribe_as("", BEGINNING, LogFilter::default(), 1);
        let mut events = events.expect("a limit");
        assert_eq!(read_error(events.next().await).code(), "invalid-name");
        let beyond = LogStart::After(Position(1));
        let events = annals.subscribe_as("mails", beyond, LogFilter::default(), 1);
        let mut events = events.expect("a limit");
        assert_eq!(read_error(events.next().await).code(), "no-such-position");
    };
    run(&store, vec![Box::pin(job)]);
}

#[test]
fn where_the_store_tells_nobody_polls_and_who_is_told_looks() {
    let (store, time) = (Slow::new(), Time::default());
    store.notifies.set(true);
    let annals = engine_with(config(1), &store, &time);
    let read = Cell::new(0);
    let reader = async {
        let mut events = annals.subscribe(BEGINNING, notes(), 10).expect("a limit");
        for _ in 0..2 {
            read.set(next(&mut events).await);
        }
    };
    let mut told = [None, Some(Position(2))].into_iter();
    run_while(vec![Box::pin(reader)], || {
        // Whoever polls never comes to an end here.
        if store.step() || time.go_on() {
            return true;
        }
        append(&store, 1);
        let Some(position) = told.next() else { return false };
        annals.advanced(position).expect("it is told");
        true
    });
    assert_eq!(read.get(), 2);
}

// --- Views, on a store that takes its time ----------------------------------------------------

async fn shown<const LIVE: bool>(annals: &Engine, id: &str) -> u32 {
    let found = annals.document::<Notes<LIVE>>(id, ViewAt::Reached).await;
    found.expect("the view answers").unwrap_or_default()
}

/// Where nobody polls, a change that is missed is missed for good.
fn who_watches_sees_the_last_change<const LIVE: bool>() {
    for seed in 1..=100 {
        let (store, time, mut luck) = (Slow::new(), Time::default(), Luck(seed));
        store.notifies.set(true);
        let [annals, other] =
            [1, 2].map(|number| engine_with(with_view::<LIVE>(number), &store, &time));
        let watching = async {
            let mut watcher = annals.watch::<Notes<LIVE>>().expect("it is kept");
            while shown::<LIVE>(&annals, "b-1").await < 12 {
                watcher.changed().await.expect("it is watched");
            }
        };
        let writing = |here: &'static str| -> Job<'_> {
            let (annals, other) = (&annals, &other);
            Box::pin(async move {
                for _ in 0..6 {
                    if here == "here" {
                        note(annals, "b-1").await;
                    } else {
                        note(other, "b-1").await;
                        annals.advanced(None).expect("it is told");
                    }
                }
            })
        };
        run_while(vec![Box::pin(watching), writing("here"), writing("elsewhere")], || {
            match store.waiting() as u64 {
                0 => time.go_on(),
                waiting => store.step_at(luck.below(waiting) as usize),
            }
        });
    }
}

#[test]
fn who_watches_a_view_sees_its_last_change() {
    who_watches_sees_the_last_change::<false>();
    who_watches_sees_the_last_change::<true>();
}

#[test]
fn a_view_that_moves_between_a_question_and_the_wait_has_changed() {
    let (store, time) = (Slow::new(), Time::default());
    let annals = engine_with(with_view::<false>(1), &store, &time);
    let job = async {
        assert_eq!(shown::<false>(&annals, "b-1").await, 0);
        let mut watcher = annals.watch::<Notes<false>>().expect("it is kept");
        for notes in 1..=3 {
            note(&annals, "b-1").await;
            annals.view_status::<Notes<false>>(ViewAt::Now).await.expect("the view answers");
            assert!(once(watcher.changed()).await.is_some());
            assert_eq!(shown::<false>(&annals, "b-1").await, notes);
            assert!(once(watcher.changed()).await.is_none(), "that is told once");
        }
    };
    run_while(vec![Box::pin(job)], || store.step() || time.go_on());
}

#[test]
fn a_pause_is_told_to_all_who_wait_though_the_store_is_not_asked() {
    let store = Slow::new();
    let annals = engine(with_view::<false>(1), &store);
    let told = Cell::new(0);
    let jobs = (0..3).map(|_| -> Job<'_> {
        let (annals, told) = (&annals, &told);
        Box::pin(async move {
            annals.view_status::<Notes<false>>(ViewAt::Now).await.expect("the view answers");
            let mut watcher = annals.watch::<Notes<false>>().expect("it is kept");
            watcher.changed().await.expect("it is watched");
            told.set(told.get() + 1);
        })
    });
    run_while(jobs.collect(), || {
        if store.step() {
            return true;
        }
        assert_eq!(told.get(), 0);
        annals.pause_view::<Notes<false>>().expect("it is paused");
        true
    });
    assert_eq!(told.get(), 3);
}

#[test]
fn a_store_that_was_replaced_has_other_views() {
    for live in [false, true] {
        let store = Slow::new();
        let config = if live { with_view::<true>(1) } else { with_view::<false>(1) };
        let annals = engine(config, &store);
        let shown = async || match live {
            true => shown::<true>(&annals, "b-1").await,
            false => shown::<false>(&annals, "b-1").await,
        };
        let job = async {
            note(&annals, "b-1").await;
            let mut watcher = annals.watch::<Notes<false>>().expect("it is kept");
            while shown().await < 1 {
                watcher.changed().await.expect("it is watched");
            }
            while once(watcher.changed()).await.is_some() {}
            store.store.replace(MemoryStore::new("another"));
            assert!(annals.history::<Booking>("b-1", ReadAt::Now).await.is_err());
            watcher.changed().await.expect("it is watched");
            assert_eq!(shown().await, 0);
        };
        run(&store, vec![Box::pin(job)]);
    }
}

#[test]
fn a_view_that_is_not_kept_is_not_watched() {
    let annals = engine(config(1), &Slow::new());
    let unknown = ReadError::UnknownProjection("notes".into());
    assert_eq!(read_error(annals.watch::<Notes<false>>()), unknown);
}

// --- On a store that blocks -------------------------------------------------------------------

/// Time passes when somebody waits, and so does what a test says.
#[derive(Clone, Default)]
struct Meanwhile {
    time: Ticking,
    happens: Rc<RefCell<Vec<Happening>>>,
}

type Happening = Box<dyn FnOnce()>;

impl Clock for Meanwhile {
    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn sleep(&mut self, millis: u64) {
        self.time.sleep(millis);
        let happens = self.happens.borrow_mut().pop();
        happens.into_iter().for_each(|happens| happens());
    }
}

fn blocking(config: Config, store: &Shared) -> (Annals<Shared, Meanwhile>, Meanwhile) {
    let clock = Meanwhile::default();
    let annals = Annals::new(config, store.clone(), clock.clone());
    (annals.expect("the configuration is fine"), clock)
}

fn give<S: StorageAdapter, C: Clock>(annals: &mut Annals<S, C>, command: &Command) {
    let done = annals.execute::<Booking>("b-1", command, CommandOptions::default());
    assert!(done.is_ok(), "{done:?}");
}

/// Somebody else appends a note.
fn elsewhere(store: &Shared) {
    let seed = seed_of(&store.store.borrow());
    give(&mut blocking(config(seed), store).0, &Command::Note);
}

fn position(event: Result<Option<RecordedEvent>, Error>) -> Option<u64> {
    event.expect("it can be read").map(|event| event.position.0)
}

#[test]
fn a_blocking_reader_waits_for_what_others_append_and_no_longer_than_it_is_told() {
    let store = Shared::new();
    let (mut annals, clock) = blocking(config(1), &store);
    let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 10).expect("a limit");
    assert_eq!(position(events.next(&mut annals, 5_500)), None);
    assert_eq!(clock.time.0.get(), 5_500);
    let there = store.clone();
    clock
        .happens
        .borrow_mut()
        .extend([Box::new(move || elsewhere(&there)) as Happening, Box::new(|| ())]);
    assert_eq!(position(events.next(&mut annals, 60_000)), Some(1));
    // It looks once a second.
    assert_eq!(clock.time.0.get(), 7_500);
}

#[test]
fn who_does_not_wait_gets_what_the_store_has() {
    let store = Shared::new();
    let (mut annals, clock) = blocking(config(1), &store);
    let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 2).expect("a limit");
    for (first, last) in [(1, 3), (4, 4), (5, 9)] {
        assert_eq!(position(events.next(&mut annals, 0)), None);
        (first..=last).for_each(|_| elsewhere(&store));
        for expected in first..=last {
            assert_eq!(position(events.next(&mut annals, 0)), Some(expected));
        }
    }
    assert_eq!(clock.time.0.get(), 0);
}

#[test]
fn what_is_to_come_begins_for_a_blocking_reader_when_it_is_asked_for() {
    let store = Shared::new();
    let (mut annals, _) = blocking(config(1), &store);
    elsewhere(&store);
    let events = annals.subscribe(LogStart::Now, LogFilter::default(), 2);
    let mut events = events.expect("a limit");
    elsewhere(&store);
    assert_eq!(position(events.next(&mut annals, 0)), Some(2));
}

#[test]
fn between_two_events_a_blocking_engine_is_there_for_others() {
    let store = Shared::new();
    let (mut annals, _) = blocking(config(1), &store);
    let walk_ins = LogFilter { types: vec!["Booked".into()], ..LogFilter::default() };
    let mut booked = annals.subscribe(LogStart::Now, walk_ins, 2).expect("a limit");
    for slot in 0..5 {
        give(&mut annals, &Command::WalkIn { slot });
    }
    let mut noted = annals.subscribe(LogStart::Now, notes(), 2).expect("a limit");
    let mut read = Vec::new();
    while let Some(event) = booked.next(&mut annals, 0).expect("it can be read") {
        give(&mut annals, &Command::Note);
        read.push((event.position.0, position(noted.next(&mut annals, 0))));
    }
    let expected = [(1, Some(6)), (2, Some(7)), (3, Some(8)), (4, Some(9)), (5, Some(10))];
    assert_eq!(read, expected);
}

#[test]
fn a_blocking_reader_with_a_name_goes_on_where_it_has_left() {
    let store = Shared::new();
    (0..7).for_each(|_| elsewhere(&store));
    // It ends after so many events: killed, dropped while others go on, or by leaving.
    for (read, how) in [(vec![1, 2, 3, 4, 5], "killed"), (vec![4, 5], "dropped"), (vec![5], "left")]
    {
        let (mut annals, _) = blocking(config(1), &store);
        let events = annals.subscribe_as("mails", BEGINNING, LogFilter::default(), 3);
        let mut events = events.expect("a limit");
        for expected in read {
            assert_eq!(position(events.next(&mut annals, 0)), Some(expected), "{how}");
        }
        match how {
            "left" => events.leave(&mut annals).expect("nobody else has the name"),
            "dropped" => {
                drop(events);
                annals.serve(0).expect("it is served");
            }
            _ => {}
        }
    }
    let (mut annals, _) = blocking(config(1), &store);
    assert_eq!(annals.checkpoint("mails").expect("it can be read"), Some(Position(4)));
    let events = annals.subscribe_as("mails", BEGINNING, LogFilter::default(), 3);
    let mut events = events.expect("a limit");
    for expected in [Some(5), Some(6), Some(7), None] {
        assert_eq!(position(events.next(&mut annals, 0)), expected);
    }
    assert_eq!(annals.checkpoint("mails").expect("it can be read"), Some(Position(7)));
    annals.set_checkpoint("mails", BEGINNING).expect("it is set");
    elsewhere(&store);
    let moved = ReadError::SubscriptionMoved("mails".into());
    assert_eq!(position(events.next(&mut annals, 0)), Some(8));
    assert_eq!(read_error(events.next(&mut annals, 0)), moved);
    assert_eq!(read_error(events.leave(&mut annals)), moved);
}

#[test]
fn a_blocking_reader_is_told_that_its_store_was_replaced() {
    let store = Shared::new();
    elsewhere(&store);
    let (mut annals, _) = blocking(config(1), &store);
    let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 3).expect("a limit");
    assert_eq!(position(events.next(&mut annals, 0)), Some(1));
    store.store.borrow_mut().set_epoch("another");
    // Whoever finds out.
    give(&mut annals, &Command::Note);
    let ReadError::Storage(error) = read_error(events.next(&mut annals, 0)) else {
        panic!("it is of another life")
    };
    assert_eq!(error.code, StorageErrorCode::ForeignEpoch);
}

#[test]
fn a_blocking_watcher_waits_until_the_view_moves() {
    let store = Shared::new();
    let (mut annals, clock) = blocking(with_view::<false>(1), &store);
    annals.view_status::<Notes<false>>(ViewAt::Now).expect("the view answers");
    let mut watcher = annals.watch::<Notes<false>>().expect("it is kept");
    assert_eq!(watcher.changed(&mut annals, 3_000), Ok(false));
    give(&mut annals, &Command::Note);
    assert_eq!(watcher.changed(&mut annals, 3_000), Ok(true));
    let there = store.clone();
    clock.happens.borrow_mut().push(Box::new(move || elsewhere(&there)));
    assert_eq!(watcher.changed(&mut annals, 3_000), Ok(true));
    let shown = annals.document::<Notes<false>>("b-1", ViewAt::Reached);
    assert_eq!(shown.expect("the view answers"), Some(2));
    assert_eq!(watcher.changed(&mut annals, 3_000), Ok(false));
}

#[test]
fn a_reader_is_of_one_engine() {
    let store = Shared::new();
    let [(mut annals, _), (mut other, _)] =
        [1, 2].map(|seed| blocking(with_view::<false>(seed), &store));
    let mut events = annals.subscribe(BEGINNING, LogFilter::default(), 3).expect("a limit");
    let mut watcher = annals.watch::<Notes<false>>().expect("it is kept");
    let foreign = || Error::Misuse(ApiMisuse::ForeignReader);
    assert_eq!(events.next(&mut other, 0), Err(foreign()));
    assert_eq!(watcher.changed(&mut other, 0), Err(foreign()));
    assert_eq!(events.leave(&mut other), Err(foreign()));
}
