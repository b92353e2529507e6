//! A store over another is what that was at a point, and keeps what comes to it to itself.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use annals::protocol::{LogFilter, ReadAt, StorageAnswer, StorageRequest};
use annals::storage::{
    Annals, Clock, CommandOptions, MemoryStore, Overlay, OverlayPoint, StorageAdapter,
};
use annals::{
    AggregateDefinition, Config, Position, RecordedEvent, Revision, SnapshotPolicy, StorageError,
    Timestamp,
};
use support::{Booking, Command, command_id};

/// It is what it is set to, in seconds.
#[derive(Clone, Debug, Default)]
struct Watch(Rc<Cell<i64>>);

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        time(self.0.get())
    }

    fn sleep(&mut self, _: u64) {}
}

/// An engine on a store, and its clock.
struct Desk<S> {
    annals: Annals<S, Watch>,
    watch: Watch,
}

fn open<S: StorageAdapter>(store: S) -> Desk<S> {
    let policy = SnapshotPolicy { every: Some(3), ..SnapshotPolicy::version(1) };
    let definition = AggregateDefinition::native_with_snapshots::<Booking>(policy);
    let mut config = Config::new([9; 32], vec![definition]);
    config.page_limit = 2;
    let watch = Watch::default();
    let annals = Annals::new(config, store, watch.clone()).expect("the configuration is fine");
    Desk { annals, watch }
}

/// The `n`-th command, and for whom. Some are refused, some book a slot that others look at.
fn command(n: u32) -> (String, Command) {
    let command = match n % 5 {
        0 => Command::Book { slot: n / 10 },
        1 | 3 => Command::Note,
        2 => Command::Look,
        _ => Command::WalkIn { slot: n },
    };
    (format!("b-{}", n % 4), command)
}

fn give<S: StorageAdapter>(desk: &mut Desk<S>, n: u32) -> Result<u64, String> {
    desk.watch.0.set(desk.watch.0.get() + 10);
    let (id, command) = command(n);
    let command_id = Some(command_id(u128::from(n) + 1));
    let options = CommandOptions { command_id, ..CommandOptions::default() };
    match desk.annals.execute::<Booking>(&id, &command, options) {
        Ok(done) => Ok(done.revision.0),
        Err(error) => Err(error.to_string()),
    }
}

/// Everything there is to read, in pages.
fn told<S: StorageAdapter>(desk: &mut Desk<S>) -> Vec<String> {
    let annals = &mut desk.annals;
    let mut told = Vec::new();
    let mut after = Position(0);
    while let Some(page) = annals.events(after, LogFilter::default(), 3).expect("readable") {
        told.extend(page.events.iter().map(|event| format!("{event:?}")));
        after = page.next;
    }
    let mut before = None;
    while let Some(page) = annals.events_before(before, LogFilter::default(), 3).expect("readable")
    {
        told.extend(page.events.iter().map(|event| format!("{event:?}")));
        before = Some(page.next);
    }
    for id in 0..5 {
        let id = format!("b-{id}");
        let past = [ReadAt::Revision(Revision(1)), ReadAt::Time(time(45))];
        let positions = [0, 3, 17, 30, 100].map(|at| ReadAt::Position(Position(at)));
        for at in [ReadAt::Now].into_iter().chain(past).chain(positions) {
            let read = annals.state::<Booking>(&id, at).map(|read| (read.state, read.revision));
            told.push(format!("{id} {at:?}: {:?}", read.map_err(|error| error.to_string())));
        }
        let history = annals.history::<Booking>(&id, ReadAt::Now).expect("readable");
        told.push(format!("{id}: {:?}", history.events));
    }
    told
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn filled(commands: u32) -> MemoryStore {
    let mut desk = open(MemoryStore::new("below"));
    for n in 0..commands {
        drop(give(&mut desk, n));
    }
    desk.annals.into_store()
}

/// A store with the first events of another alone.
fn only(events: &[RecordedEvent], commands: u32) -> MemoryStore {
    (0..=commands)
        .map(filled)
        .find(|store| store.log().len() == events.len())
        .expect("the log was written by these commands")
}

#[test]
fn an_overlay_at_any_point_is_as_a_store_with_what_was_there_then() {
    let commands = 30;
    let below = filled(commands);
    let log = below.log().to_vec();
    assert!(log.len() > 15, "some commands are accepted");
    for count in 0..=log.len() {
        let cut = Position(count as u64);
        let recorded_at = log[..count].last().map_or(time(0), |event| event.recorded_at);
        for at in [OverlayPoint::Position(cut), OverlayPoint::Time(recorded_at)] {
            let overlay = Overlay::new(below.clone(), "trial", at);
            let mut trial = open(overlay);
            let mut alone = open(only(&log[..count], commands));
            assert_eq!(told(&mut trial), told(&mut alone), "{at:?}");
            // Some of these have been given before the cut, some below after it, some never.
            for n in [0, 7, commands - 1, commands, commands + 3, commands + 10, commands + 14] {
                assert_eq!(give(&mut trial, n), give(&mut alone, n), "{at:?}, command {n}");
            }
            assert_eq!(told(&mut trial), told(&mut alone), "{at:?}");
            let overlay = trial.annals.into_store();
            assert!(overlay.log().iter().all(|event| event.position > cut));
            assert_eq!(overlay.into_below().log(), log, "nothing has been written below");
        }
    }
}

/// A store that several engines share.
#[derive(Clone)]
struct Shared(Rc<RefCell<MemoryStore>>);

impl StorageAdapter for Shared {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        self.0.borrow_mut().call(request)
    }
}

#[test]
fn an_overlay_of_now_does_not_see_what_comes_below_later() {
    let store = Shared(Rc::new(RefCell::new(filled(10))));
    let overlay = Overlay::new(store.clone(), "trial", OverlayPoint::Now);
    let mut trial = open(overlay);
    let before = told(&mut trial);
    let mut below = open(store.clone());
    let events = store.0.borrow().log().len();
    assert!((10..30).filter(|n| give(&mut below, *n).is_ok()).count() > 5);
    assert!(store.0.borrow().log().len() > events);
    assert_eq!(told(&mut trial), before);
    // The same commands lead to the same, here too.
    for n in 10..30 {
        drop(give(&mut trial, n));
    }
    let facts = |log: &[RecordedEvent]| -> Vec<_> {
        log.iter().map(|event| (event.position, event.revision, event.event_id)).collect()
    };
    let overlay = trial.annals.into_store();
    assert_eq!(facts(overlay.log()), facts(&store.0.borrow().log()[events..]));
}

#[test]
fn a_position_beyond_the_head_is_now() {
    let below = filled(10);
    let beyond = Overlay::new(below.clone(), "trial", OverlayPoint::Position(Position(1_000)));
    let now = Overlay::new(below, "trial", OverlayPoint::Now);
    let told_of = |overlay| told(&mut open(overlay));
    assert_eq!(told_of(beyond), told_of(now));
}
