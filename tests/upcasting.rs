//! What earlier releases have stored is read as the domain knows it today, and stays as it is.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use annals::protocol::{
    Answer, Append, Commit, CommitEvent, CommitExpectation, DomainAnswer, DomainRequest,
    DomainResult, Execute, Handle, HostFoldError, HostFolded, LogFilter, Notice, Page, ReadAt,
    ReadState, RequestId, Skipped, SkippedEvents, StorageAnswer, StorageBody, StorageRequest,
    StreamSlice, Subscribe, Verdict, ViewAt, ViewScan,
};
use annals::storage::{
    Annals, Clock, CommandOptions, MemoryStore, Reaction, Report, StorageAdapter,
};
use annals::{
    Aggregate, AggregateDefinition, ApiMisuse, CommandError, CommandId, Config, Context, Engine,
    Error, EventContext, EventId, EventProblem, ExpectedRevision, Input, Lanes, Metadata, NewEvent,
    Output, Payload, Position, ProjectError, Projection, ProjectionDefinition, Query, QueryItem,
    ReactionDefinition, ReadError, RecordedEvent, RetryPolicy, Revision, SnapshotPolicy, StartAt,
    StorageError, StreamId, Tag, TaskId, Timestamp, UnreadableEvent, Upcast, Upcasters, View,
    ViewKind,
};
use serde::{Deserialize, Serialize};
use support::{HostFold, keep_in_host};

// ---------------------------------------------------------------------------------------------
// The domain of today

#[derive(Debug)]
struct Appointment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    told: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Book {
        doctor: String,
    },
    Confirm,
    /// As a booking, but it asks for the others by their types.
    BookByType {
        doctor: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Booked { doctor: String, room: Option<String>, minutes: u32 },
    Confirmed,
    Rescheduled { start: u32 },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Refusal {
    Taken { told: Vec<String> },
}

#[derive(Serialize, Deserialize)]
struct Booked1 {
    doctor: String,
}
#[derive(Serialize, Deserialize)]
struct Booked2 {
    doctor: String,
    room: Option<String>,
}
#[derive(Serialize)]
struct Booked3 {
    doctor: String,
    room: Option<String>,
    minutes: u32,
}
#[derive(Deserialize)]
struct Moved1 {
    to: String,
}
#[derive(Serialize, Deserialize)]
struct Moved2 {
    to: u32,
}

fn upcasters() -> Upcasters<Event> {
    Upcasters::none()
        .upcast("Booked", 1, |old: Booked1| Booked2 { doctor: old.doctor, room: None })
        .upcast("Booked", 2, |old: Booked2| {
            let Booked2 { doctor, room } = old;
            Booked3 { doctor, room, minutes: 30 }
        })
        .upcast("Moved", 1, |old: Moved1| Moved2 { to: old.to.len() as u32 })
        .becomes("Moved", 2, |old: Moved2| [Event::Rescheduled { start: old.to }])
        .becomes("TakenAndConfirmed", 1, |old: Booked1| {
            [Upcast::older("Booked", 1, &old), Event::Confirmed.into()]
        })
        .becomes_nothing("Viewed", 1)
}

macro_rules! release {
    ($name:ident, $upcasters:expr $(, $type:literal)?) => {
        impl Aggregate for $name {
            const TYPE: &'static str = concat!($($type,)? "Appointment");
            type State = State;
            type Command = Command;
            type Event = Event;
            type Refusal = Refusal;

            fn initial() -> State {
                State::default()
            }

            fn decide(
                _: &State,
                command: &Command,
                context: &Context<'_>,
            ) -> Result<Vec<Event>, Refusal> {
                match command {
                    Command::Confirm => Ok(vec![Event::Confirmed]),
                    Command::Book { doctor } | Command::BookByType { doctor } => {
                        let told: Vec<_> =
                            context.others.iter().map(|other| format!("{other:?}")).collect();
                        if !told.is_empty() {
                            return Err(Refusal::Taken { told });
                        }
                        Ok(vec![Event::Booked { doctor: doctor.clone(), room: None, minutes: 15 }])
                    }
                }
            }

            fn evolve(mut state: State, event: &Event) -> State {
                state.told.push(format!("{event:?}"));
                state
            }

            fn reads(command: &Command, _: &State) -> Query {
                match command {
                    Command::Book { doctor } => Query::any_tag([doctor]),
                    Command::BookByType { doctor } => Query {
                        items: vec![QueryItem {
                            types: vec!["Rescheduled".into(), "Confirmed".into()],
                            tags: vec![Arc::from(&**doctor)],
                        }],
                    },
                    Command::Confirm => Query::none(),
                }
            }

            fn upcasters() -> Upcasters<Event> {
                $upcasters
            }
        }
    };
}
release!(Appointment, upcasters());

/// A release that passes by what it does not know.
#[derive(Debug)]
struct Skipping;
release!(Skipping, upcasters().skip_unknown());

/// One that knows no earlier forms.
#[derive(Debug)]
struct First;
release!(First, Upcasters::none());

/// Another aggregate, which asks for appointments.
#[derive(Debug)]
struct Visit;
release!(Visit, upcasters(), "Visit of ");

// ---------------------------------------------------------------------------------------------
// A store that earlier releases have filled

type Stored = (&'static str, u32, &'static str);

/// Each form that an event has had, and what is told of it today.
const FORMS: [(Stored, &[&str]); 9] = [
    (("Booked", 1, r#"{"doctor":"7"}"#), &[r#"Booked { doctor: "7", room: None, minutes: 30 }"#]),
    (
        ("Booked", 2, r#"{"doctor":"7","room":"3"}"#),
        &[r#"Booked { doctor: "7", room: Some("3"), minutes: 30 }"#],
    ),
    (
        ("Booked", 3, "{\"doctor\":\"7\",\"room\":null,\n \"minutes\":5}"),
        &[r#"Booked { doctor: "7", room: None, minutes: 5 }"#],
    ),
    (("Confirmed", 1, "{}"), &["Confirmed"]),
    (("Rescheduled", 1, r#"{"start":9}"#), &["Rescheduled { start: 9 }"]),
    (("Moved", 1, r#"{"to":"four"}"#), &["Rescheduled { start: 4 }"]),
    (("Moved", 2, r#"{"to":12}"#), &["Rescheduled { start: 12 }"]),
    (
        ("TakenAndConfirmed", 1, r#"{"doctor":"8"}"#),
        &[r#"Booked { doctor: "8", room: None, minutes: 30 }"#, "Confirmed"],
    ),
    (("Viewed", 1, r#"{"by":"x"}"#), &[]),
];

fn stored() -> Vec<Stored> {
    FORMS.iter().map(|(event, _)| *event).collect()
}

fn told() -> Vec<String> {
    FORMS.iter().flat_map(|(_, told)| told.iter().map(|one| (*one).to_owned())).collect()
}

fn call(store: &mut MemoryStore, body: StorageBody) -> StorageAnswer {
    let (id, deadline) = (RequestId(1), Timestamp::from_millis(0));
    let request = StorageRequest { id, attempt: 1, deadline, epoch: None, body };
    store.call(&request).expect("the store answers")
}

/// Appends events as a release that knew them in these forms did.
fn append(store: &mut MemoryStore, id: &str, events: &[Stored], tags: &[&str]) {
    let stream = StreamId::new("Appointment", id);
    let before = store.log().iter().filter(|event| event.stream == stream).count() as u64;
    let command_id = CommandId(uuid::Uuid::from_u128(store.log().len() as u128 + 1));
    let tags: Vec<Tag> = tags.iter().map(|tag| (*tag).into()).collect();
    let event = |(index, (name, schema_version, data)): (u32, &Stored)| CommitEvent {
        id: EventId::derive(command_id, index),
        event: NewEvent {
            event_type: (*name).into(),
            schema_version: *schema_version,
            tags: tags.clone(),
            data: Payload::Text((*data).into()),
        },
    };
    let commit = Commit {
        task: TaskId(0),
        command_id,
        hash: "9ce0771f-3e8c-880a-a905-40d1a989dae7".parse().expect("a digest"),
        stream,
        expected: CommitExpectation::Exact(Revision(before)),
        condition: None,
        issued_at: Timestamp::from_millis(0),
        metadata: Arc::new(Metadata::default()),
        events: (0..).zip(events).map(event).collect(),
    };
    let append = Append { now: Timestamp::from_millis(1), commits: vec![commit] };
    let answer = call(store, StorageBody::Append(Arc::new(append)));
    assert!(
        matches!(&answer, StorageAnswer::Appended(v) if matches!(v[..], [Verdict::Committed(_)]))
    );
}

fn filled(events: &[Stored]) -> MemoryStore {
    let mut store = MemoryStore::new("store-1");
    append(&mut store, "a-1", events, &[]);
    store
}

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(43_200_000)
    }

    fn sleep(&mut self, _: u64) {}
}

/// A store whose slices are columns, as those of SQLite and IndexedDB are.
struct Columns(MemoryStore);

impl StorageAdapter for Columns {
    fn call(&mut self, request: &StorageRequest) -> Result<StorageAnswer, StorageError> {
        let mut answer = self.0.call(request)?;
        if let (StorageBody::Load(load), StorageAnswer::Loaded(loaded)) =
            (&request.body, &mut answer)
        {
            for (asked, slice) in load.streams.iter().zip(&mut loaded.streams) {
                if !asked.whole {
                    to_columns(slice);
                }
            }
        }
        Ok(answer)
    }
}

fn to_columns(slice: &mut StreamSlice) {
    let Page::Events(events) = &slice.page else { panic!("the store gives whole events") };
    let form = |event: &RecordedEvent| match event.schema_version {
        1 => Arc::clone(&event.event_type),
        version => format!("{}\x7f{version}", event.event_type).into(),
    };
    let data: Vec<_> = events.iter().map(|event| &*event.data).collect();
    let data = format!("[{}]", data.join(",\n")).into();
    slice.page = Page::Messages { forms: events.iter().map(form).collect(), data };
}

fn config<A: Aggregate>() -> Config {
    Config::new([5; 32], vec![AggregateDefinition::native::<A>()])
}

fn open<A: Aggregate, S: StorageAdapter>(store: S) -> Annals<S, Noon> {
    Annals::new(config::<A>(), store, Noon).expect("the configuration is fine")
}

fn unreadable(error: Error) -> UnreadableEvent {
    match error {
        Error::Command(CommandError::Unreadable(event)) => event,
        Error::Read(ReadError::Unreadable(event)) => event,
        other => panic!("{other}"),
    }
}

// ---------------------------------------------------------------------------------------------
// What is read

#[test]
fn every_form_that_an_event_has_had_is_read_as_one_of_today() {
    let mut annals = open::<Appointment, _>(filled(&stored()));
    let read = annals.state::<Appointment>("a-1", ReadAt::Now).expect("readable");
    assert_eq!((read.state.told, read.revision), (told(), Revision(FORMS.len() as u64)));
    for (index, (_, told)) in FORMS.iter().enumerate() {
        let events = annals.store().log()[index].read::<Appointment>().expect("readable");
        let events: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
        assert_eq!(events, *told);
    }
}

#[test]
fn what_is_stored_stays_as_it_is() {
    let mut annals = open::<Appointment, _>(filled(&stored()));
    let history = annals.history::<Appointment>("a-1", ReadAt::Now).expect("readable");
    assert_eq!(history.state.told, told());
    for events in [&history.events[..], annals.store().log()] {
        let found = events.iter().map(|e| (&*e.event_type, e.schema_version, &*e.data));
        assert_eq!(found.collect::<Vec<_>>(), stored());
    }
}

#[test]
fn events_are_stored_with_the_version_that_their_types_have_today() {
    let mut annals = open::<Appointment, _>(MemoryStore::new("store-1"));
    for command in [Command::Book { doctor: "7".into() }, Command::Confirm] {
        annals.execute::<Appointment>("a-1", &command, CommandOptions::default()).expect("done");
    }
    let versions = annals.store().log().iter().map(|e| (&*e.event_type, e.schema_version));
    assert_eq!(versions.collect::<Vec<_>>(), [("Booked", 3), ("Confirmed", 1)]);
}

#[test]
fn commands_are_decided_on_what_is_read_today() {
    let mut annals = open::<Appointment, _>(filled(&stored()));
    let options = CommandOptions::default();
    let done = annals.execute::<Appointment>("a-1", &Command::Confirm, options).expect("done");
    assert_eq!(done.state.told, [told(), vec!["Confirmed".into()]].concat());
    assert_eq!(done.revision, Revision(FORMS.len() as u64 + 1));
}

/// Logs that differ in which forms follow each other.
fn logs() -> impl Iterator<Item = Vec<usize>> {
    (0..200_u64).map(|seed| {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        (0..1 + next() % 12).map(|_| next() % FORMS.len()).collect()
    })
}

#[test]
fn the_state_is_the_same_for_every_cut_into_pages_and_in_either_form_of_page() {
    for log in logs() {
        let events: Vec<_> = log.iter().map(|form| FORMS[*form].0).collect();
        let expected: Vec<_> = log.iter().flat_map(|form| FORMS[*form].1.iter().copied()).collect();
        for page_limit in 1..=events.len() as u32 {
            let config = || Config { page_limit, ..config::<Appointment>() };
            let mut whole = Annals::new(config(), filled(&events), Noon).expect("fine");
            let mut columns = Annals::new(config(), Columns(filled(&events)), Noon).expect("fine");
            let whole = whole.state::<Appointment>("a-1", ReadAt::Now).expect("readable");
            let columns = columns.state::<Appointment>("a-1", ReadAt::Now).expect("readable");
            assert_eq!(whole.state.told, expected, "{log:?} in pages of {page_limit}");
            assert_eq!(columns.state, whole.state, "{log:?} in pages of {page_limit}");
            assert_eq!(
                (whole.revision.0, columns.revision.0),
                (log.len() as u64, log.len() as u64)
            );
        }
    }
}

fn snapshots<A: Aggregate<State = State>>(store: MemoryStore) -> Annals<MemoryStore, Noon> {
    let policy = SnapshotPolicy::version(1);
    let definition = AggregateDefinition::native_with_snapshots::<A>(policy);
    Annals::new(Config::new([5; 32], vec![definition]), store, Noon).expect("fine")
}

#[test]
fn the_state_is_the_same_from_a_snapshot_at_every_cut() {
    for log in logs().take(50) {
        let events: Vec<_> = log.iter().map(|form| FORMS[*form].0).collect();
        let expected: Vec<_> = log.iter().flat_map(|form| FORMS[*form].1.iter().copied()).collect();
        for cut in 1..events.len() {
            let mut first = snapshots::<Appointment>(filled(&events[..cut]));
            first.snapshot::<Appointment>("a-1").expect("kept");
            let mut store = first.into_store();
            append(&mut store, "a-1", &events[cut..], &[]);
            let mut second = snapshots::<Appointment>(store);
            let read = second.state::<Appointment>("a-1", ReadAt::Now).expect("readable");
            assert_eq!(read.state.told, expected, "{log:?} cut at {cut}");
            assert_eq!(second.take_reports(), []);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What can't be read

fn problem<A: Aggregate<State = State> + std::fmt::Debug>(
    events: &[Stored],
) -> (EventProblem, u64, String) {
    let mut whole = open::<A, _>(filled(events));
    let mut columns = open::<A, _>(Columns(filled(events)));
    let found = unreadable(whole.state::<A>("a-1", ReadAt::Now).expect_err("unreadable"));
    let same = unreadable(columns.state::<A>("a-1", ReadAt::Now).expect_err("unreadable"));
    assert_eq!((found.problem, found.revision), (same.problem, same.revision));
    assert!(same.reason.contains(events[found.revision.0 as usize - 1].0), "{}", same.reason);
    (found.problem, found.revision.0, found.reason.to_string())
}

#[test]
fn an_event_of_a_later_version_is_never_guessed() {
    let newer = |(problem, revision, reason): (EventProblem, u64, String)| {
        assert_eq!((problem, revision), (EventProblem::NewerVersion, 2));
        reason
    };
    let confirmed = ("Confirmed", 1, "{}");
    let booked = ("Booked", 4, r#"{"doctor":"7","room":null,"minutes":5}"#);
    let reason = newer(problem::<Appointment>(&[confirmed, booked]));
    assert_eq!(reason, "Booked: version 4 is later than this release knows");
    // Nobody had thought of versions.
    let reason = newer(problem::<First>(&[confirmed, ("Confirmed", 2, "{}")]));
    assert_eq!(reason, "Confirmed: version 2 is later than this release knows");
    // A type that is no longer written has had two versions.
    newer(problem::<Appointment>(&[confirmed, ("Moved", 3, r#"{"to":12}"#)]));
    newer(problem::<Skipping>(&[confirmed, booked]));
}

#[test]
fn an_event_of_an_unknown_type_is_never_guessed() {
    let events = [("Confirmed", 1, "{}"), ("Tagged", 1, "{}")];
    let (kind, revision, reason) = problem::<Appointment>(&events);
    assert_eq!((kind, revision), (EventProblem::UnknownType, 2));
    assert_eq!(reason, "Tagged: unknown type");
    assert_eq!(problem::<Appointment>(&[("Tagged", 2, "{}")]).0, EventProblem::UnknownType);
}

#[test]
fn what_an_upcaster_can_not_read_is_an_error_with_type_and_version() {
    for (event, reason) in [
        (("Booked", 1, "{}"), "Booked: version 1: missing field `doctor`"),
        (("Moved", 1, r#"{"to":3}"#), "Moved: version 1: invalid type: integer `3`"),
        (("Booked", 0, "{}"), "Booked: versions begin with 1"),
    ] {
        let (problem, revision, found) = problem::<Appointment>(&[("Viewed", 1, "{}"), event]);
        assert_eq!((problem, revision), (EventProblem::Failed, 2));
        assert!(found.starts_with(reason), "{found}");
    }
    let log = filled(&[("Booked", 1, "{}")]);
    let error = log.log()[0].read::<Appointment>().expect_err("unreadable");
    assert_eq!((error.problem, error.revision), (EventProblem::Failed, Revision(1)));
}

/// Its upcasters lead to each other.
#[derive(Debug)]
struct Circle;
release!(
    Circle,
    Upcasters::none().becomes("A", 1, |old: Booked1| [Upcast::older("B", 1, &old)]).becomes(
        "B",
        1,
        |old: Booked1| [Upcast::older("A", 1, &old), Upcast::older("B", 1, &old)]
    )
);

#[test]
fn upcasters_that_go_in_a_circle_come_to_an_end() {
    let (kind, _, reason) = problem::<Circle>(&[("A", 1, r#"{"doctor":"7"}"#)]);
    assert_eq!(kind, EventProblem::Failed);
    assert!(reason.ends_with("its upcasters go in a circle"), "{reason}");
}

#[derive(Debug)]
struct Gap;
release!(Gap, Upcasters::none().upcast("Booked", 2, |old: Booked2| old));
#[derive(Debug)]
struct Lost;
release!(Lost, Upcasters::none().upcast("Moved", 1, |old: Booked1| old));

#[test]
fn upcasters_that_can_not_be_applied_are_misuse() {
    for (config, named) in [(config::<Gap>(), "Booked"), (config::<Lost>(), "Moved")] {
        let Err(ApiMisuse::Upcasters { event_type, .. }) = Engine::new(config) else {
            panic!("the engine was made")
        };
        assert_eq!(event_type, named);
    }
}

// ---------------------------------------------------------------------------------------------
// What is passed by

#[test]
fn unknown_types_are_passed_by_if_the_aggregate_says_so_and_the_number_is_told() {
    let mut events = stored();
    events.insert(1, ("Tagged", 1, "{}"));
    events.push(("Tagged", 9, "[]"));
    for columns in [false, true] {
        let mut store: Box<dyn StorageAdapter> =
            if columns { Box::new(Columns(filled(&events))) } else { Box::new(filled(&events)) };
        let mut annals = open::<Skipping, _>(&mut *store);
        let read = annals.state::<Skipping>("a-1", ReadAt::Now).expect("readable");
        assert_eq!((read.state.told, read.revision), (told(), Revision(events.len() as u64)));
        let [Report::Skipped(skipped)] = &annals.take_reports()[..] else { panic!("one report") };
        assert_eq!((skipped.revision, skipped.count), (read.revision, 2));
        assert_eq!((&*skipped.event_type, &*skipped.stream.aggregate_id), ("Tagged", "a-1"));
        let options = CommandOptions::default();
        let done = annals.execute::<Skipping>("a-1", &Command::Confirm, options).expect("done");
        assert_eq!(done.revision, Revision(events.len() as u64 + 1));
        assert_eq!(annals.take_reports(), [], "what is at hand is not folded again");
    }
}

// ---------------------------------------------------------------------------------------------
// Snapshots

fn snapshot_keys(store: &mut MemoryStore) -> Vec<Arc<str>> {
    let mut keys = Vec::new();
    for definition in [
        AggregateDefinition::native_with_snapshots::<First>(SnapshotPolicy::version(1)),
        AggregateDefinition::native_with_snapshots::<Appointment>(SnapshotPolicy::version(1)),
        AggregateDefinition::native_with_snapshots::<Skipping>(SnapshotPolicy::version(1)),
        AggregateDefinition::hosted_with_snapshots("Appointment", SnapshotPolicy::version(1))
            .with_upcasters("Booked\n2\n", Vec::new()),
    ] {
        let mut engine = Engine::new(Config::new([5; 32], vec![definition])).expect("fine");
        let stream = StreamId::new("Appointment", "a-1");
        let read = ReadState { task: TaskId(1), stream, at: ReadAt::Now, events: false };
        engine.handle_input(Timestamp::from_millis(0), Input::ReadState(read)).expect("a read");
        let decide = |_: &DomainRequest| unreachable!("a wish");
        let fold = |_: &StreamSlice| unreachable!("there are no events");
        let (requests, _) = drive(&mut engine, store, decide, fold);
        keys.extend(requests.iter().find_map(|body| match body {
            StorageBody::Load(load) => load.streams[0].snapshot.clone(),
            _ => None,
        }));
    }
    keys
}

#[test]
fn states_that_rest_on_other_upcasters_are_not_used() {
    let keys = snapshot_keys(&mut MemoryStore::new("store-1"));
    assert_eq!(&*keys[0], r#"["Appointment","a-1","json2/1"]"#, "as without upcasters");
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{key}");
    }

    let mut skipping = snapshots::<Skipping>(filled(&[("Viewed", 1, "{}"), ("Tagged", 1, "{}")]));
    assert_eq!(skipping.snapshot::<Skipping>("a-1").expect("kept"), Revision(2));
    let mut knowing = snapshots::<Appointment>(skipping.into_store());
    let error =
        knowing.state::<Appointment>("a-1", ReadAt::Now).expect_err("not from the snapshot");
    assert_eq!(unreadable(error).revision, Revision(2));
}

// ---------------------------------------------------------------------------------------------
// Events of others

fn refusal(annals: &mut Annals<MemoryStore, Noon>, command: &Command) -> Vec<String> {
    let result = annals.execute::<Appointment>("b-1", command, CommandOptions::default());
    match result.expect_err("refused") {
        Error::Command(CommandError::Refused { details, .. }) => {
            #[derive(Deserialize)]
            struct Details {
                told: Vec<String>,
            }
            serde_json::from_str::<Details>(&details).expect("details").told
        }
        other => panic!("{other}"),
    }
}

#[test]
fn events_of_others_are_read_as_those_of_today() {
    let mut store = MemoryStore::new("store-1");
    append(&mut store, "a-1", &stored(), &["7"]);
    let mut annals = open::<Appointment, _>(store);
    let found = refusal(&mut annals, &Command::Book { doctor: "7".into() });
    assert_eq!(
        found,
        [
            r#"Appointment/a-1@1 Booked {"doctor":"7","room":null,"minutes":30}"#,
            r#"Appointment/a-1@2 Booked {"doctor":"7","room":"3","minutes":30}"#,
            "Appointment/a-1@3 Booked {\"doctor\":\"7\",\"room\":null,\n \"minutes\":5}",
            "Appointment/a-1@4 Confirmed {}",
            r#"Appointment/a-1@5 Rescheduled {"start":9}"#,
            r#"Appointment/a-1@6 Rescheduled {"start":4}"#,
            r#"Appointment/a-1@7 Rescheduled {"start":12}"#,
            r#"Appointment/a-1@8 Booked {"doctor":"8","room":null,"minutes":30}"#,
            "Appointment/a-1@8 Confirmed {}",
        ]
    );
}

#[test]
fn a_query_that_names_types_finds_those_that_were_called_otherwise() {
    let mut store = MemoryStore::new("store-1");
    append(&mut store, "a-1", &stored(), &["7"]);
    let mut annals = open::<Appointment, _>(store);
    let found = refusal(&mut annals, &Command::BookByType { doctor: "7".into() });
    assert_eq!(
        found,
        [
            "Appointment/a-1@4 Confirmed {}",
            r#"Appointment/a-1@5 Rescheduled {"start":9}"#,
            r#"Appointment/a-1@6 Rescheduled {"start":4}"#,
            r#"Appointment/a-1@7 Rescheduled {"start":12}"#,
            "Appointment/a-1@8 Confirmed {}",
        ]
    );
    // Those of other tags are not among them, and nothing of others is in the way.
    let free = Command::BookByType { doctor: "8".into() };
    annals.execute::<Appointment>("b-1", &free, CommandOptions::default()).expect("free");
}

#[test]
fn a_decision_does_not_rest_on_what_can_not_be_read() {
    for (event, problem) in [
        (("Booked", 4, "{}"), EventProblem::NewerVersion),
        (("Tagged", 1, "{}"), EventProblem::UnknownType),
        (("Tagged", 2, "{}"), EventProblem::UnknownType),
        (("Booked", 1, "{}"), EventProblem::Failed),
    ] {
        let mut store = MemoryStore::new("store-1");
        append(&mut store, "a-1", &[("Confirmed", 1, "{}"), event], &["7"]);
        let mut annals = open::<Appointment, _>(store);
        let command = Command::Book { doctor: "7".into() };
        let result = annals.execute::<Appointment>("b-1", &command, CommandOptions::default());
        let error = unreadable(result.expect_err("unreadable"));
        assert_eq!((error.problem, error.revision), (problem, Revision(2)));
        assert_eq!(&*error.stream.aggregate_id, "a-1");
        assert_eq!(annals.store().log().len(), 2, "nothing was appended");
        // The next one is none the worse for it.
        let command = Command::Book { doctor: "8".into() };
        annals.execute::<Appointment>("b-1", &command, CommandOptions::default()).expect("free");
    }
}

#[test]
fn events_of_aggregates_that_the_engine_does_not_know_are_as_they_are_stored() {
    let mut store = MemoryStore::new("store-1");
    append(&mut store, "a-1", &[("Booked", 1, r#"{"doctor":"7"}"#), ("Tagged", 2, "{}")], &["7"]);
    let mut annals = open::<Visit, _>(store);
    let command = Command::Book { doctor: "7".into() };
    let result = annals.execute::<Visit>("v-1", &command, CommandOptions::default());
    let told =
        r#"{"told":["Appointment/a-1@1 Booked {\"doctor\":\"7\"}","Appointment/a-1@2 Tagged {}"]}"#;
    match result.expect_err("refused") {
        Error::Command(CommandError::Refused { details, .. }) => assert_eq!(&*details, told),
        other => panic!("{other}"),
    }
}

// ---------------------------------------------------------------------------------------------
// Views

macro_rules! slots {
    ($name:ident, $kind:ident) => {
        struct $name;

        impl Projection for $name {
            const NAME: &'static str = stringify!($name);
            const VERSION: u32 = 1;
            const KIND: ViewKind = ViewKind::$kind;
            type Event = Slot;
            type Document = u32;

            fn project(
                view: &mut View<'_, u32>,
                event: Slot,
                context: &EventContext<'_>,
            ) -> Result<(), ProjectError> {
                match event {
                    Slot::Rescheduled { start } => view.set(&context.revision.to_string(), start),
                    Slot::Confirmed => view.set(&format!("{} confirmed", context.revision), 0),
                }
                Ok(())
            }
        }
    };
}

#[derive(Deserialize)]
enum Slot {
    Rescheduled { start: u32 },
    Confirmed,
}

slots!(Live, Live);
slots!(Inline, Inline);
slots!(Async, Async);

fn view<P: Projection<Document = u32>>(store: MemoryStore) -> Result<Vec<(String, u32)>, Error> {
    let config = Config {
        projections: vec![ProjectionDefinition::native::<P>()],
        page_limit: 2,
        ..config::<Appointment>()
    };
    let mut annals = Annals::new(config, store, Noon).expect("the configuration is fine");
    let found = annals.documents::<P>(ViewScan::by_key(), ViewAt::Now)?.documents;
    Ok(found.into_iter().map(|listed| (listed.place.key.to_string(), listed.document)).collect())
}

#[test]
fn views_are_made_of_the_events_of_today() {
    let expected: Vec<_> = [("4 confirmed", 0), ("5", 9), ("6", 4), ("7", 12), ("8 confirmed", 0)]
        .map(|(key, start)| (key.to_owned(), start))
        .into();
    assert_eq!(view::<Live>(filled(&stored())), Ok(expected.clone()));
    assert_eq!(view::<Inline>(filled(&stored())), Ok(expected.clone()));
    assert_eq!(view::<Async>(filled(&stored())), Ok(expected));
}

#[test]
fn a_view_stops_at_an_event_that_can_not_be_read() {
    let events = [("Confirmed", 1, "{}"), ("Moved", 3, "{}"), ("Confirmed", 1, "{}")];
    let Err(Error::Read(ReadError::ProjectionStopped { position, reason, .. })) =
        view::<Async>(filled(&events))
    else {
        panic!("it has stopped")
    };
    assert_eq!((position.0, &*reason), (2, "Moved: version 3 is later than this release knows"));
}

// ---------------------------------------------------------------------------------------------
// Reactions

/// A clock that goes on while somebody sleeps.
#[derive(Debug)]
struct Clockwork(Timestamp);

impl Clock for Clockwork {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn sleep(&mut self, millis: u64) {
        self.0 = self.0.plus(millis);
    }
}

/// What a reaction to this type is told, and which events those were.
fn handled(events: &[Stored], name: &str, upcasts: bool) -> (Vec<Event>, Vec<u64>, usize) {
    let definition = ReactionDefinition {
        name: "mailer".into(),
        filter: LogFilter { types: vec![name.into()], ..LogFilter::default() },
        upcasts,
        start_at: StartAt::Beginning,
        retries: RetryPolicy { max_attempts: 2, first_pause: 1, max_pause: 1 },
        concurrency: 4,
        lanes: Lanes::Streams,
    };
    let told = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let telling = Rc::clone(&told);
    let mailer = Reaction::new(definition, move |occasion| {
        let events = occasion.event.read::<Appointment>().map_err(|error| error.to_string())?;
        let (told, revisions) = &mut *telling.borrow_mut();
        told.extend(events);
        revisions.push(occasion.event.revision.0);
        Ok(())
    });
    let clock = Clockwork(Timestamp::from_millis(0));
    let mut annals =
        Annals::with_reactions(config::<Appointment>(), filled(events), clock, vec![mailer])
            .expect("the configuration is fine");
    annals.serve(100).expect("it runs");
    let status = annals.reaction("mailer", None).expect("its status");
    assert_eq!(status.position, Position(events.len() as u64));
    drop(annals);
    let (told, revisions) = Rc::into_inner(told).expect("nobody tells any more").into_inner();
    (told, revisions, status.lanes.len())
}

#[test]
fn reactions_find_what_may_have_become_an_event_of_their_types() {
    let (told, revisions, parked) = handled(&stored(), "Rescheduled", true);
    assert_eq!((revisions, parked), (vec![5, 6, 7, 8, 9], 0));
    assert_eq!(
        told,
        [
            Event::Rescheduled { start: 9 },
            Event::Rescheduled { start: 4 },
            Event::Rescheduled { start: 12 },
            Event::Booked { doctor: "8".into(), room: None, minutes: 30 },
            Event::Confirmed,
        ]
    );
    let (told, revisions, _) = handled(&stored(), "Rescheduled", false);
    assert_eq!((told, revisions), (vec![Event::Rescheduled { start: 9 }], vec![5]));
}

#[test]
fn what_a_reaction_can_not_read_is_parked() {
    let events = [("Confirmed", 1, "{}"), ("Confirmed", 2, "{}"), ("Confirmed", 1, "{}")];
    assert_eq!(handled(&events, "Confirmed", true), (vec![Event::Confirmed], vec![1], 1));
}

// ---------------------------------------------------------------------------------------------
// Domains whose functions live in the host

/// Drives an engine with a domain of the host's until it is idle. `answer` decides its commands, and `fold`
/// its events, which stay in the host.
fn drive(
    engine: &mut Engine,
    store: &mut MemoryStore,
    mut answer: impl FnMut(&DomainRequest) -> DomainResult,
    mut fold: impl FnMut(&StreamSlice) -> HostFold,
) -> (Vec<StorageBody>, Vec<Notice>) {
    let now = Timestamp::from_millis(0);
    let (mut requests, mut notices) = (Vec::new(), Vec::new());
    loop {
        match engine.poll_output() {
            Output::Storage(mut request) => {
                requests.push(request.body.clone());
                if let StorageBody::Append(append) = &mut request.body {
                    for commit in &mut Arc::make_mut(append).commits {
                        commit
                            .events
                            .iter_mut()
                            .for_each(|e| e.event.data = Payload::Text("{}".into()));
                    }
                }
                let mut result = store.call(&request);
                keep_in_host(&mut result, &mut fold);
                let answer = Answer { request: request.id, attempt: request.attempt, result };
                engine.handle_input(now, Input::Answer(answer)).expect("an answer");
            }
            Output::Domain(request) => {
                let result = answer(&request);
                let DomainRequest { task, question, .. } = request;
                let answer = DomainAnswer { task, question, result };
                engine.handle_input(now, Input::Domain(answer)).expect("an answer");
            }
            Output::Notice(notice) => notices.push(notice),
            Output::Idle { .. } => return (requests, notices),
            _ => {}
        }
    }
}

#[test]
fn what_the_host_names_is_read_with_what_may_have_become_it() {
    let hosted = AggregateDefinition::hosted("Appointment")
        .with_upcasters("Moved\n2\n", vec!["Moved".into(), "Taken".into()]);
    let mut engine = Engine::new(Config::new([5; 32], vec![hosted])).expect("fine");
    let mut store = MemoryStore::new("store-1");
    append(&mut store, "a-1", &[("Moved", 1, "{}")], &["7"]);
    let query = |types: &[&str]| Query {
        items: vec![
            QueryItem {
                types: types.iter().map(|name| (*name).into()).collect(),
                tags: vec!["7".into()],
            },
            QueryItem { types: Vec::new(), tags: vec!["8".into()] },
        ],
    };
    let named = query(&["Rescheduled"]);
    let execute = Execute {
        task: TaskId(1),
        stream: StreamId::new("Appointment", "b-1"),
        command_type: "Confirm".into(),
        data: "{}".into(),
        command_id: None,
        expected: ExpectedRevision::Any,
        issued_at: None,
        metadata: Metadata::default(),
    };
    engine.handle_input(Timestamp::from_millis(0), Input::Execute(execute)).expect("a command");
    let decide = |request: &DomainRequest| match &request.others {
        None => DomainResult::Reads(named.clone()),
        Some(others) => {
            assert_eq!(others.query, named, "the host is told what it has named");
            let data = Payload::Held { task: request.task, index: 0, bytes: 2 };
            let (event_type, tags) = ("Confirmed".into(), Vec::new());
            let event = NewEvent { event_type, schema_version: 4, tags, data };
            DomainResult::Decided(vec![event], Handle(1))
        }
    };
    let fold = |_: &StreamSlice| unreachable!("the stream is empty");
    let (requests, notices) = drive(&mut engine, &mut store, decide, fold);
    assert!(matches!(&notices[..], [.., Notice::CommandDone { result: Ok(_), .. }]), "{notices:?}");
    let widened = query(&["Rescheduled", "Moved", "Taken"]);
    let read = requests.iter().find_map(|body| match body {
        StorageBody::Load(load) => load.queries.first().map(|load| load.query.clone()),
        _ => None,
    });
    assert_eq!(read, Some(widened.clone()));
    let proved = requests.iter().find_map(|body| match body {
        StorageBody::Append(append) => append.commits[0].condition.clone(),
        _ => None,
    });
    assert_eq!(proved.expect("a condition").query, widened);
    assert_eq!(store.log()[1].schema_version, 4, "the host says the version");
}

#[test]
fn subscriptions_to_types_of_today_bring_what_may_have_become_them() {
    for (upcasts, types, expected) in [
        (true, vec!["Rescheduled"], vec!["Rescheduled", "Moved", "Taken"]),
        (false, vec!["Rescheduled"], vec!["Rescheduled"]),
        (true, vec![], vec![]),
    ] {
        let hosted = AggregateDefinition::hosted("Appointment")
            .with_upcasters("Moved\n2\n", vec!["Moved".into(), "Taken".into()]);
        let mut engine = Engine::new(Config::new([5; 32], vec![hosted])).expect("fine");
        let named = |types: Vec<&str>| types.into_iter().map(Into::into).collect::<Vec<Arc<str>>>();
        let filter = LogFilter { types: named(types), ..LogFilter::default() };
        let (task, after) = (TaskId(1), Position(0));
        let subscribe = Subscribe {
            task,
            name: None,
            start: annals::protocol::LogStart::After(after),
            filter,
            upcasts,
            limit: 3,
            follow: false,
            descending: false,
        };
        let now = Timestamp::from_millis(0);
        engine.handle_input(now, Input::Subscribe(subscribe)).expect("a wish");
        let mut store = filled(&stored());
        let decide = |_: &DomainRequest| unreachable!("nothing is decided");
        let fold = |_: &StreamSlice| unreachable!("nothing is folded");
        let (requests, _) = drive(&mut engine, &mut store, decide, fold);
        let asked = requests.iter().find_map(|body| match body {
            StorageBody::ReadLog(read) => Some(read.filter.types.clone()),
            _ => None,
        });
        assert_eq!(asked, Some(named(expected)));
    }
}

#[test]
fn what_the_host_has_passed_by_is_told_with_its_place() {
    let hosted = AggregateDefinition::hosted("Appointment");
    let config = Config { page_limit: 4, ..Config::new([5; 32], vec![hosted]) };
    let mut engine = Engine::new(config).expect("fine");
    let mut store = filled(&[("Tagged", 1, "{}"); 6]);
    let stream = StreamId::new("Appointment", "a-1");
    let read =
        ReadState { task: TaskId(1), stream: stream.clone(), at: ReadAt::Now, events: false };
    engine.handle_input(Timestamp::from_millis(0), Input::ReadState(read)).expect("a read");
    let fold = |_: &StreamSlice| {
        let skipped = Some(Skipped { count: 2, last: 1, event_type: "Tagged".into() });
        Ok(HostFolded { state: Handle(1), skipped })
    };
    let (_, notices) = drive(&mut engine, &mut store, |_| unreachable!("a read"), fold);
    let skipped = |revision| SkippedEvents {
        stream: stream.clone(),
        revision: Revision(revision),
        event_type: "Tagged".into(),
        count: 2,
    };
    let told: Vec<_> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Skipped(skipped) => Some(skipped.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [skipped(2), skipped(6)]);
}

#[test]
fn what_the_host_can_not_read_is_told_as_it_says() {
    for problem in EventProblem::ALL {
        let hosted = AggregateDefinition::hosted("Appointment");
        let mut engine = Engine::new(Config::new([5; 32], vec![hosted])).expect("fine");
        let mut store = filled(&[("Tagged", 1, "{}"); 2]);
        let stream = StreamId::new("Appointment", "a-1");
        let read = ReadState { task: TaskId(1), stream, at: ReadAt::Now, events: false };
        engine.handle_input(Timestamp::from_millis(0), Input::ReadState(read)).expect("a read");
        let fold =
            |_: &StreamSlice| Err(HostFoldError::Event { index: 1, problem, reason: "why".into() });
        let (_, notices) = drive(&mut engine, &mut store, |_| unreachable!("a read"), fold);
        let Some(Notice::StateRead { result: Err(ReadError::Unreadable(error)), .. }) =
            notices.last()
        else {
            panic!("{notices:?}")
        };
        assert_eq!((error.problem, error.revision, &*error.reason), (problem, Revision(2), "why"));
    }
}
