//! Snapshots shorten replay and change nothing else.

mod support;

use std::sync::Arc;

use annals::protocol::{
    Document, DocumentName, DocumentValue, HostFoldError, Input, Notice, ReadAt, RequestId,
    SaveDocuments, SnapshotProblem, SnapshotReport, StorageAnswer, StorageBody, StorageRequest,
    StoredSnapshot, StreamSlice, TakeSnapshot,
};
use annals::snapshot::{SNAPSHOTS, state_in, with_digest};
use annals::storage::{MemoryStore, StorageAdapter};
use annals::{
    Aggregate, AggregateDefinition, ApiMisuse, Context, ReadError, Revision, SnapshotPolicy,
    StorageError, StorageErrorCode, TaskId,
};
use serde::{Deserialize, Serialize};
use support::{Booking, Command, Host, State, command_id, stream};

fn store() -> MemoryStore {
    MemoryStore::new("store-1")
}

fn every(events: u64) -> SnapshotPolicy {
    SnapshotPolicy { every: Some(events), ..SnapshotPolicy::version(1) }
}

fn host(policy: SnapshotPolicy) -> Host {
    Host::with(|config| {
        config.aggregates = vec![AggregateDefinition::native_with_snapshots::<Booking>(policy)];
    })
}

fn note(host: &mut Host, store: &mut MemoryStore, times: u32) {
    for _ in 0..times {
        // Engines of tests have one seed, and would give their commands the same ids.
        let id = command_id(store.log().len() as u128 + 1);
        let task = host.give_with("b-1", &Command::Note, |given| given.command_id = Some(id));
        host.serve(store);
        host.outcome(task);
    }
}

/// The notes of the state, as the engine reads it.
fn notes(host: &mut Host, store: &mut MemoryStore) -> u32 {
    let task = host.ask("b-1", ReadAt::Now, false);
    host.serve(store);
    let read = host.read.remove(&task).expect("read").expect("readable");
    assert_eq!(read.revision.0, u64::from(state_of(&read.state).notes));
    state_of(&read.state).notes
}

fn state_of(state: &annals::State) -> State {
    state.value::<Booking>().expect("a booking").clone()
}

fn call(store: &mut MemoryStore, body: StorageBody) -> StorageAnswer {
    let request = StorageRequest {
        id: RequestId(1),
        attempt: 1,
        deadline: annals::Timestamp::from_millis(0),
        epoch: None,
        body,
    };
    store.call(&request).expect("the store answers")
}

/// The key of the stream's snapshots of the first version.
const KEY: &str = r#"["Booking","b-1","json2/1"]"#;

/// Keeps a state as an engine would.
fn put(store: &mut MemoryStore, revision: u64, state: &str) {
    put_value(store, revision, &with_digest(KEY, Revision(revision), state));
}

/// Keeps whatever it is.
fn put_value(store: &mut MemoryStore, revision: u64, value: &str) {
    let document = Document {
        name: DocumentName { collection: SNAPSHOTS.into(), key: KEY.into() },
        revision,
        value: DocumentValue::Text(value.into()),
        postings: Vec::new(),
    };
    let save = SaveDocuments { documents: vec![document], ..SaveDocuments::default() };
    call(store, StorageBody::SaveDocuments(Arc::new(save)));
}

/// What an engine with the policy finds when it reads the stream: the snapshot and the number of
/// events after it. It keeps snapshots itself, if its policy says so.
fn found(policy: SnapshotPolicy, store: &mut MemoryStore) -> (Option<StoredSnapshot>, usize) {
    let mut host = host(policy);
    let task = host.ask("b-1", ReadAt::Now, false);
    let mut found = None;
    loop {
        let requests = host.drain();
        let Some(request) = requests.into_iter().next() else { break };
        let answer = store.call(&request).expect("the store answers");
        if let StorageAnswer::Loaded(loaded) = &answer {
            let slice = &loaded.streams[0];
            found.get_or_insert((slice.snapshot.clone(), slice.page.len()));
        }
        host.answer(&request, Ok(answer));
    }
    assert!(host.read.remove(&task).expect("read").is_ok());
    found.expect("a load")
}

fn reports(host: &Host) -> Vec<(u64, &SnapshotProblem)> {
    let report = |notice: &'_ Notice| matches!(notice, Notice::Snapshot(_));
    let reports = host.notices.iter().filter(|notice| report(notice));
    reports
        .map(|notice| match notice {
            Notice::Snapshot(SnapshotReport { stream: of, revision, problem }) => {
                assert_eq!(*of, stream("b-1"));
                (revision.0, problem)
            }
            _ => unreachable!("filtered"),
        })
        .collect()
}

/// The snapshot of a stream of four events is no state: that is reported once, and the state is the one
/// that all events give, and takes its place.
fn is_ignored_and_replaced(store: &mut MemoryStore, what: &str) {
    let policy = SnapshotPolicy::version(1);
    let mut first = host(policy);
    assert_eq!(notes(&mut first, store), 4, "{what}");
    assert!(matches!(reports(&first)[..], [(_, SnapshotProblem::Ignored(_))]), "{what}");
    let mut second = host(policy);
    assert_eq!(notes(&mut second, store), 4, "{what}");
    assert_eq!((reports(&second).len(), second.loads), (0, 1), "{what}: it was replaced");
    let (found, tail) = found(policy, store);
    assert_eq!((found.expect("kept").revision, tail), (Revision(4), 0), "{what}");
}

fn wish(host: &mut Host, store: &mut MemoryStore, id: &str) -> Result<Revision, ReadError> {
    let task = TaskId(1_000 + host.notices.len() as u32);
    host.input(Input::TakeSnapshot(TakeSnapshot { task, stream: stream(id) }));
    host.serve(store);
    let taken = host.notices.iter().find_map(|notice| match notice {
        Notice::SnapshotTaken { task: of, result } if *of == task => Some(result.clone()),
        _ => None,
    });
    taken.expect("the wish was answered")
}

#[test]
fn a_snapshot_is_kept_after_every_so_many_events() {
    let (mut host, mut store) = (host(every(3)), store());
    note(&mut host, &mut store, 8);
    assert_eq!(host.saves, 2, "after 3 and 6 events");
    let (snapshot, tail) = found(every(3), &mut store);
    assert_eq!((snapshot.expect("kept").revision, tail), (Revision(6), 2));
}

#[test]
fn snapshot_and_tail_come_in_one_round_trip() {
    let mut store = store();
    note(&mut host(every(3)), &mut store, 8);
    let mut cold = host(every(3));
    assert_eq!(notes(&mut cold, &mut store), 8);
    assert_eq!(cold.loads, 1);
    note(&mut cold, &mut store, 1);
    assert_eq!(cold.loads, 1, "the state is at hand");
}

#[test]
fn a_snapshot_is_kept_after_a_long_replay_alone() {
    let policy = SnapshotPolicy { after_replay_of: Some(5), ..SnapshotPolicy::version(1) };
    let mut store = store();
    note(&mut host(policy), &mut store, 6);
    assert_eq!(
        found(SnapshotPolicy::version(1), &mut store).0,
        None,
        "the state was at hand all the time"
    );
    let mut cold = host(policy);
    assert_eq!((notes(&mut cold, &mut store), cold.saves), (6, 1));
    note(&mut cold, &mut store, 5);
    let (snapshot, tail) = found(SnapshotPolicy::version(1), &mut store);
    assert_eq!((snapshot.expect("kept").revision, tail), (Revision(6), 5));
    let mut again = host(policy);
    assert_eq!((notes(&mut again, &mut store), again.saves), (11, 0), "5 events are not long");
}

#[test]
fn the_pages_of_a_long_replay_count_together() {
    let policy = SnapshotPolicy { after_replay_of: Some(5), ..SnapshotPolicy::version(1) };
    let mut store = store();
    note(&mut host(policy), &mut store, 6);
    let mut cold = host(policy);
    let definition = AggregateDefinition::native_with_snapshots::<Booking>(policy);
    cold.engine = Host::with(|config| {
        config.page_limit = 2;
        config.aggregates = vec![definition];
    })
    .engine;
    assert_eq!((notes(&mut cold, &mut store), cold.loads, cold.saves), (6, 3, 1));
}

#[test]
fn a_snapshot_can_be_wished_for() {
    let policy = SnapshotPolicy::version(1);
    let (mut host, mut store) = (host(policy), store());
    note(&mut host, &mut store, 2);
    assert_eq!(host.saves, 0, "the policy keeps none");
    assert_eq!(wish(&mut host, &mut store, "b-1"), Ok(Revision(2)));
    let (snapshot, tail) = found(policy, &mut store);
    assert_eq!((snapshot.expect("kept").revision, tail), (Revision(2), 0));
    assert_eq!(wish(&mut host, &mut store, "nobody"), Ok(Revision(0)), "nothing to keep");
    assert_eq!(host.saves, 1);
}

#[test]
fn a_wish_for_what_has_no_snapshots_is_an_error() {
    let (mut host, mut store) = (Host::new(), store());
    let error = wish(&mut host, &mut store, "b-1").expect_err("no snapshots");
    assert_eq!((error.code(), host.loads), ("no-snapshots", 0));
}

#[test]
fn a_wish_that_the_store_can_not_fulfil_says_so() {
    let (mut host, mut store) = (host(SnapshotPolicy::version(1)), store());
    note(&mut host, &mut store, 1);
    let task = TaskId(77);
    host.input(Input::TakeSnapshot(TakeSnapshot { task, stream: stream("b-1") }));
    let load = host.drain().remove(0);
    let answer = store.call(&load);
    host.answer(&load, answer);
    let save = host.drain().remove(0);
    let full = StorageError::permanent(StorageErrorCode::Full, "the disk is full");
    host.answer(&save, Err(full.clone()));
    host.drain();
    let Some(Notice::SnapshotTaken { result: Err(error), .. }) = host.notices.last() else {
        panic!("the wish has failed: {:?}", host.notices)
    };
    assert_eq!(*error, ReadError::Storage(full));
}

#[test]
fn snapshots_of_two_releases_live_side_by_side() {
    let second = SnapshotPolicy { version: 2, ..every(3) };
    let mut store = store();
    note(&mut host(every(3)), &mut store, 3);
    assert_eq!(found(second, &mut store), (None, 3), "another version's is not used");
    note(&mut host(second), &mut store, 3);
    assert_eq!(found(second, &mut store).0.expect("kept").revision, Revision(6));
    assert_eq!(found(every(100), &mut store).0.expect("kept").revision, Revision(3));
}

#[test]
fn an_unreadable_snapshot_is_reported_ignored_and_replaced() {
    for text in ["", "{\"slot\":", "[]", "{\"slot\":null}", "null"] {
        let mut store = store();
        note(&mut Host::new(), &mut store, 4);
        put(&mut store, 3, text);
        is_ignored_and_replaced(&mut store, text);
    }
}

#[test]
fn what_is_not_the_state_that_was_kept_is_ignored_though_it_could_be_one() {
    let state = r#"{"slot":null,"notes":3}"#;
    let kept = with_digest(KEY, Revision(3), state);
    let of = |key, revision| with_digest(key, Revision(revision), state);
    let parts = kept.split_once(r#","state""#).expect("as it is written");
    let other_digest = format!(r#"{}0,"state"{}"#, parts.0, parts.1);
    for (what, value) in [
        ("a bit of the state", &*kept.replace("\"notes\":3", "\"notes\":2")),
        ("a key of the state", &kept.replace("slot", "slou")),
        ("the digest", &other_digest),
        ("a space", &kept.replace("null", " null")),
        ("another stream's", &of(r#"["Booking","b-2","json2/1"]"#, 3)),
        ("another version's", &of(r#"["Booking","b-1","json2/2"]"#, 3)),
        ("another revision's", &of(KEY, 2)),
        ("an older form", state),
        ("the beginning", &kept[..kept.len() / 2]),
        ("all but the end", &kept[..kept.len() - 1]),
        ("another end", &kept.replace("}}", "]}")),
        ("not JSON", "{"),
        ("nothing", ""),
        ("a comma", ","),
    ] {
        let mut store = store();
        note(&mut Host::new(), &mut store, 4);
        put_value(&mut store, 3, value);
        is_ignored_and_replaced(&mut store, what);
    }
}

#[test]
fn a_state_under_another_revision_is_ignored() {
    let kept = with_digest(KEY, Revision(3), r#"{"slot":null,"notes":3}"#);
    for revision in [1, 2] {
        let mut store = store();
        note(&mut Host::new(), &mut store, 4);
        put_value(&mut store, revision, &kept);
        is_ignored_and_replaced(&mut store, &format!("under revision {revision}"));
    }
}

/// How snapshots are written, by the vectors that the host is held to as well.
#[test]
fn a_snapshot_says_its_state_and_a_digest_of_key_revision_and_state() {
    #[derive(Deserialize)]
    struct Vector {
        stream: (String, String),
        version: u32,
        revision: u64,
        state: String,
        value: String,
    }
    let vectors = include_str!("../pkg-tests/vectors/snapshots.json");
    let vectors: Vec<Vector> = serde_json::from_str(vectors).expect("the vectors are readable");
    assert!(vectors.len() > 10, "the vectors are there");
    for Vector { stream: (of, id), version, revision, state, value } in vectors {
        let key = serde_json::to_string(&[of, id, format!("json2/{version}")]).expect("texts");
        assert_eq!(*with_digest(&key, Revision(revision), &state), value);
        assert_eq!(state_in(&key, Revision(revision), &value), Some(&*state));
    }
}

#[test]
fn an_unreadable_snapshot_does_not_keep_a_command_from_its_outcome() {
    let mut store = store();
    note(&mut Host::new(), &mut store, 4);
    put(&mut store, 4, "another form");
    let mut host = host(SnapshotPolicy::version(1));
    note(&mut host, &mut store, 1);
    assert_eq!(notes(&mut host, &mut store), 5);
    assert_eq!(reports(&host).len(), 1);
}

#[test]
fn a_snapshot_of_a_revision_that_the_stream_does_not_have_is_ignored() {
    for revision in [0, 5, u64::MAX] {
        let mut store = store();
        note(&mut Host::new(), &mut store, 4);
        put(&mut store, revision, r#"{"slot":1,"notes":99}"#);
        let mut host = host(every(100));
        assert_eq!(notes(&mut host, &mut store), 4);
        assert_eq!(reports(&host).len(), 1, "revision {revision}");
    }
}

#[test]
fn histories_and_past_states_are_made_of_events_alone() {
    let mut store = store();
    note(&mut host(every(2)), &mut store, 4);
    put(&mut store, 4, r#"{"slot":1,"notes":99}"#);
    for (at, events) in [
        (ReadAt::Now, true),
        (ReadAt::Revision(Revision(4)), false),
        (ReadAt::Time(annals::Timestamp::from_millis(1_000_000_000)), false),
    ] {
        let mut cold = host(every(2));
        let task = cold.ask("b-1", at, events);
        cold.serve(&mut store);
        let read = cold.read.remove(&task).expect("read").expect("readable");
        assert_eq!(state_of(&read.state).notes, 4, "{at:?}");
    }
}

#[test]
fn a_snapshot_that_nobody_has_asked_for_is_not_used() {
    let mut store = store();
    note(&mut Host::new(), &mut store, 4);
    for events in [true, false] {
        let mut host = if events { host(every(2)) } else { Host::new() };
        let task = host.ask("b-1", ReadAt::Now, events);
        for request in host.drain() {
            let mut answer = store.call(&request).expect("the store answers");
            if let StorageAnswer::Loaded(loaded) = &mut answer {
                let value = Some(r#"{"slot":1,"notes":99}"#.into());
                let revision = Revision(4);
                loaded.streams[0].snapshot = Some(StoredSnapshot { revision, value });
            }
            host.answer(&request, Ok(answer));
        }
        host.serve(&mut store);
        let read = host.read.remove(&task).expect("read").expect("readable");
        assert_eq!(state_of(&read.state).notes, 4);
    }
}

#[test]
fn a_state_is_the_same_from_every_snapshot_as_from_the_events() {
    let mut store = store();
    note(&mut Host::new(), &mut store, 12);
    for cut in 1..=12 {
        let mut past = host(SnapshotPolicy::version(1));
        let task = past.ask("b-1", ReadAt::Revision(Revision(cut)), false);
        past.serve(&mut store);
        let read = past.read.remove(&task).expect("read").expect("readable");
        let text = read.state.to_json().expect("native").expect("JSON");
        put(&mut store, cut, &text);
        let policy = SnapshotPolicy::version(1);
        assert_eq!(found(policy, &mut store).1 as u64, 12 - cut);
        assert_eq!(notes(&mut host(policy), &mut store), 12);
    }
}

#[test]
fn nobody_waits_for_a_snapshot_and_its_failure_is_reported() {
    let (mut host, mut store) = (host(every(1)), store());
    let task = host.give("b-1", &Command::Note);
    let mut save = None;
    loop {
        let requests = host.drain();
        if requests.is_empty() {
            break;
        }
        for request in requests {
            if matches!(request.body, StorageBody::SaveDocuments(_)) {
                save = Some(request);
            } else {
                let answer = store.call(&request);
                host.answer(&request, answer);
            }
        }
    }
    host.outcome(task);
    note(&mut host, &mut store, 2);
    assert_eq!(host.saves, 1, "one request at a time");
    let full = StorageError::permanent(StorageErrorCode::Full, "the disk is full");
    host.answer(&save.expect("sent"), Err(full.clone()));
    host.serve(&mut store);
    assert_eq!(reports(&host), [(1, &SnapshotProblem::Storage(full))]);
    assert_eq!(found(every(1), &mut store).0.expect("kept").revision, Revision(3));
}

/// A state with a part that its JSON leaves out.
struct Forgetful;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Partly {
    notes: u32,
    #[serde(skip)]
    forgotten: u32,
}

impl Aggregate for Forgetful {
    const TYPE: &'static str = "Booking";
    type State = Partly;
    type Command = Command;
    type Event = support::Event;
    type Refusal = ();

    fn initial() -> Partly {
        Partly::default()
    }

    fn decide(_: &Partly, _: &Command, _: &Context<'_>) -> Result<Vec<support::Event>, ()> {
        Ok(vec![support::Event::Noted])
    }

    fn evolve(state: Partly, _: &support::Event) -> Partly {
        Partly { notes: state.notes + 1, forgotten: state.forgotten + 1 }
    }
}

#[test]
fn a_state_that_does_not_equal_its_json_is_found_at_the_first_snapshot() {
    let definition = AggregateDefinition::native_with_snapshots::<Forgetful>(every(2));
    let mut host = Host::with(|config| config.aggregates = vec![definition]);
    let mut store = store();
    note(&mut host, &mut store, 3);
    let [(2, SnapshotProblem::NotJson(reason))] = reports(&host)[..] else {
        panic!("{:?}", reports(&host))
    };
    assert!(reason.contains("forgotten: 2"), "{reason}");
    let error = wish(&mut host, &mut store, "b-1").expect_err("it can't be kept");
    assert_eq!((error.code(), host.saves), ("state-not-json", 0));
}

#[test]
fn the_host_looks_at_the_snapshots_of_its_domain() {
    let policy = SnapshotPolicy::version(1);
    let mut store = store();
    note(&mut Host::new(), &mut store, 4);
    put(&mut store, 3, "what the host has written");
    for readable in [true, false] {
        let mut host = Host::with(|config| {
            config.aggregates = vec![AggregateDefinition::hosted_with_snapshots("Booking", policy)];
        });
        let mut folds = Vec::new();
        host.ask("b-1", ReadAt::Now, false);
        let fold = |slice: &StreamSlice| {
            folds.push(slice.snapshot.as_ref().map(|found| found.revision));
            if slice.snapshot.is_some() && !readable {
                return Err(HostFoldError::Snapshot("no state".into()));
            }
            support::folded(slice)
        };
        host.serve_hosted(&mut store, |_, _| unreachable!("a read"), fold);
        if readable {
            assert_eq!(folds, [Some(Revision(3))]);
        } else {
            assert_eq!(folds, [Some(Revision(3)), None]);
            let reports = reports(&host);
            assert!(matches!(reports[..], [(3, SnapshotProblem::Ignored(_))]), "{reports:?}");
        }
    }
}

#[test]
fn a_wish_with_a_number_in_use_is_misuse() {
    let mut host = host(every(1));
    let wish = || Input::TakeSnapshot(TakeSnapshot { task: TaskId(5), stream: stream("b-1") });
    host.input(wish());
    assert_eq!(host.engine.handle_input(host.now, wish()), Err(ApiMisuse::TaskInUse(TaskId(5))));
}
