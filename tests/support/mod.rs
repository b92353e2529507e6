//! A small domain, and a host that does as a test says.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod shared;
pub mod slow;

use std::collections::BTreeMap;
use std::sync::Arc;

use annals::protocol::{
    Answer, DocumentValue, DomainAnswer, DomainRequest, DomainResult, Execute, Handle,
    HostFoldError, HostFolded, Input, Notice, Outcome, Output, Page, PageId, ReadAt, ReadState,
    StateRead, StorageAnswer, StorageBody, StorageRequest, StreamSlice, Subscribe,
};
use annals::storage::{MemoryStore, StorageAdapter};
use annals::{
    Aggregate, AggregateDefinition, CommandError, CommandId, Config, Context, Engine,
    ExpectedRevision, Metadata, Payload, Query, ReadError, StorageError, StreamId, Tag, TaskId,
    Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Debug)]
pub struct Booking;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub slot: Option<u32>,
    pub notes: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    Book {
        slot: u32,
    },
    Note,
    /// As a booking, but without a look at the doctor's others.
    WalkIn {
        slot: u32,
    },
    /// Accepted, with nothing to do.
    Look,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Booked { slot: u32 },
    Noted,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    AlreadyBooked,
    SlotTaken { slot: u32 },
}

impl Aggregate for Booking {
    const TYPE: &'static str = "Booking";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn initial() -> State {
        State::default()
    }

    fn decide(
        state: &State,
        command: &Command,
        context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Book { .. } if state.slot.is_some() => Err(Refusal::AlreadyBooked),
            Command::Book { slot } => {
                let taken = |event: Event| event == Event::Booked { slot: *slot };
                if context.others.iter().any(|other| other.read::<Event>().is_ok_and(taken)) {
                    return Err(Refusal::SlotTaken { slot: *slot });
                }
                Ok(vec![Event::Booked { slot: *slot }])
            }
            Command::WalkIn { slot } => Ok(vec![Event::Booked { slot: *slot }]),
            Command::Note => Ok(vec![Event::Noted]),
            Command::Look => Ok(Vec::new()),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Booked { slot } => state.slot = Some(*slot),
            Event::Noted => state.notes += 1,
        }
        state
    }

    fn reads(command: &Command, _: &State) -> Query {
        match command {
            Command::Book { .. } => Query::any_tag(["doctor:7"]),
            _ => Query::none(),
        }
    }

    fn tags(event: &Event, _: &State) -> Vec<Tag> {
        match event {
            Event::Booked { .. } => vec!["doctor:7".into()],
            Event::Noted => Vec::new(),
        }
    }
}

pub fn command_id(number: u128) -> CommandId {
    CommandId(uuid::Uuid::from_u128(number))
}

pub fn stream(id: &str) -> StreamId {
    StreamId::new("Booking", id)
}

/// An engine, and what it has said.
pub struct Host {
    pub engine: Engine,
    pub now: Timestamp,
    last_task: u32,
    /// Requests that went out, by kind.
    pub loads: usize,
    pub appends: usize,
    pub saves: usize,
    pub wake_at: Option<Timestamp>,
    pub done: BTreeMap<TaskId, Result<Outcome, CommandError>>,
    pub read: BTreeMap<TaskId, Result<StateRead, ReadError>>,
    pub notices: Vec<Notice>,
}

impl Host {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new([3; 32], vec![AggregateDefinition::native::<Booking>()]);
        configure(&mut config);
        Self {
            engine: Engine::new(config).expect("the configuration is fine"),
            now: Timestamp::from_millis(1_000_000),
            last_task: 0,
            loads: 0,
            appends: 0,
            saves: 0,
            wake_at: None,
            done: BTreeMap::new(),
            read: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    /// A host whose domain is its own.
    pub fn hosted() -> Self {
        Self::with(|config| config.aggregates = vec![AggregateDefinition::hosted("Booking")])
    }

    pub fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input).expect("the host keeps the contract");
    }

    pub fn next_task(&mut self) -> TaskId {
        self.last_task += 1;
        TaskId(self.last_task)
    }

    pub fn give(&mut self, id: &str, command: &Command) -> TaskId {
        self.give_with(id, command, |_| ())
    }

    pub fn give_with(
        &mut self,
        id: &str,
        command: &Command,
        change: impl FnOnce(&mut Execute),
    ) -> TaskId {
        let task = self.next_task();
        let json = serde_json::to_value(command).expect("JSON");
        let (command_type, data) = match json {
            serde_json::Value::String(name) => (name, serde_json::json!({})),
            serde_json::Value::Object(map) => map.into_iter().next().expect("one variant"),
            other => unreachable!("{other}"),
        };
        let mut execute = Execute {
            task,
            stream: stream(id),
            command_type: command_type.into(),
            data: data.to_string().into(),
            command_id: None,
            expected: ExpectedRevision::Any,
            issued_at: None,
            metadata: Metadata::default(),
        };
        change(&mut execute);
        self.input(Input::Execute(execute));
        task
    }

    pub fn ask(&mut self, id: &str, at: ReadAt, events: bool) -> TaskId {
        let task = self.next_task();
        self.input(Input::ReadState(ReadState { task, stream: stream(id), at, events }));
        task
    }

    pub fn subscribe(&mut self, change: impl FnOnce(&mut Subscribe)) -> TaskId {
        let task = self.next_task();
        let mut subscribe = Subscribe {
            task,
            name: None,
            start: annals::protocol::LogStart::After(annals::Position(0)),
            filter: annals::protocol::LogFilter::default(),
            upcasts: false,
            limit: 10,
            follow: true,
            descending: false,
        };
        change(&mut subscribe);
        self.input(Input::Subscribe(subscribe));
        task
    }

    /// Polls until the engine is idle; gives the requests that came out.
    pub fn drain(&mut self) -> Vec<StorageRequest> {
        let mut requests = Vec::new();
        loop {
            match self.engine.poll_output() {
                Output::Storage(request) => {
                    match request.body {
                        StorageBody::Load(_) => self.loads += 1,
                        StorageBody::Append(_) => self.appends += 1,
                        StorageBody::SaveDocuments(_) => self.saves += 1,
                        StorageBody::Info
                        | StorageBody::ReadLog(_)
                        | StorageBody::ReadDocuments(_) => {}
                    }
                    requests.push(request);
                }
                Output::Notice(Notice::CommandDone { task, result }) => {
                    assert!(self.done.insert(task, result).is_none(), "a command ends once");
                }
                Output::Notice(Notice::StateRead { task, result }) => {
                    self.read.insert(task, result);
                }
                Output::Notice(notice) => self.notices.push(notice),
                output @ (Output::Domain(_)
                | Output::AwaitDomain
                | Output::Project(_)
                | Output::Correlate(_)
                | Output::React(_)) => {
                    unreachable!("{output:?}: the domain is native")
                }
                Output::Release(_) => {}
                Output::Idle { wake_at } => {
                    self.wake_at = wake_at;
                    return requests;
                }
            }
        }
    }

    pub fn answer(
        &mut self,
        request: &StorageRequest,
        result: Result<StorageAnswer, StorageError>,
    ) {
        let answer = Answer { request: request.id, attempt: request.attempt, result };
        self.input(Input::Answer(answer));
    }

    /// Serves the engine from the store until nothing is asked any more.
    pub fn serve(&mut self, store: &mut MemoryStore) {
        loop {
            let requests = self.drain();
            if requests.is_empty() {
                return;
            }
            for request in requests {
                let result = store.call(&request);
                self.answer(&request, result);
            }
        }
    }

    /// Serves an engine with a hosted domain until it is idle. The answers are given when it waits
    /// for them. The events and states the host keeps are of no account: the store gets empty payloads
    /// for them, and the engine numbers.
    pub fn serve_hosted(
        &mut self,
        store: &mut MemoryStore,
        mut answer: impl FnMut(&mut Self, &DomainRequest) -> DomainResult,
        mut fold: impl FnMut(&StreamSlice) -> HostFold,
    ) {
        let mut answers = Vec::new();
        loop {
            match self.engine.poll_output() {
                Output::Storage(mut request) => {
                    if let StorageBody::Append(append) = &mut request.body {
                        self.appends += 1;
                        let events =
                            Arc::make_mut(append).commits.iter_mut().flat_map(|c| &mut c.events);
                        events.for_each(|event| event.event.data = Payload::Text("{}".into()));
                    }
                    if let StorageBody::SaveDocuments(save) = &mut request.body {
                        for document in &mut Arc::make_mut(save).documents {
                            document.value = DocumentValue::Text("{}".into());
                        }
                    }
                    let mut result = store.call(&request);
                    keep_in_host(&mut result, &mut fold);
                    self.answer(&request, result);
                }
                Output::Domain(request) => {
                    let result = answer(self, &request);
                    let DomainRequest { task, question, .. } = request;
                    answers.push(DomainAnswer { task, question, result });
                }
                Output::AwaitDomain => {
                    for answer in answers.drain(..) {
                        self.input(Input::Domain(answer));
                    }
                }
                Output::Notice(Notice::CommandDone { task, result }) => {
                    assert!(self.done.insert(task, result).is_none(), "a command ends once");
                }
                Output::Idle { .. } => return,
                Output::Notice(notice) => self.notices.push(notice),
                output @ (Output::Project(_) | Output::Correlate(_) | Output::React(_)) => {
                    unreachable!("{output:?}")
                }
                Output::Release(_) => {}
            }
        }
    }

    /// Serves the engine until an append comes out, and gives that. Time passes where it must.
    pub fn until_append(&mut self, store: &mut MemoryStore) -> StorageRequest {
        for _ in 0..10 {
            let mut append = None;
            let requests = self.drain();
            if requests.is_empty() {
                self.sleep();
            }
            for request in requests {
                if matches!(request.body, StorageBody::Append(_)) {
                    append = Some(request);
                } else {
                    let result = store.call(&request);
                    self.answer(&request, result);
                }
            }
            if let Some(append) = append {
                return append;
            }
        }
        unreachable!("no append came")
    }

    /// Lets the time pass that the engine wants to be woken after.
    pub fn sleep(&mut self) {
        self.now = self.wake_at.expect("the engine waits for something");
        self.input(Input::Tick);
    }

    pub fn outcome(&mut self, task: TaskId) -> Outcome {
        let result = self.done.remove(&task).expect("the command is done");
        result.unwrap_or_else(|error| panic!("task {}: {error}", task.0))
    }

    pub fn error(&mut self, task: TaskId) -> CommandError {
        match self.done.remove(&task).expect("the command is done") {
            Ok(outcome) => panic!("task {}: {outcome:?}", task.0),
            Err(error) => error,
        }
    }
}

/// What came of a fold in the host.
pub type HostFold = Result<HostFolded, HostFoldError>;

/// A fold of which all went well.
pub fn folded(_: &StreamSlice) -> HostFold {
    Ok(HostFolded { state: Handle(1), skipped: None })
}

/// The answer as a host with the domain's functions gives it, which keeps the events.
pub fn keep_in_host(
    answer: &mut Result<StorageAnswer, StorageError>,
    mut fold: impl FnMut(&StreamSlice) -> HostFold,
) {
    let Ok(StorageAnswer::Loaded(loaded)) = answer else {
        return;
    };
    for slice in &mut loaded.streams {
        if !slice.page.is_empty() || slice.snapshot.is_some() {
            slice.folded = Some(fold(slice));
        }
        slice.page = Page::Held { page: PageId::FOLDED, count: slice.page.len() as u32 };
        slice.snapshot.iter_mut().for_each(|found| found.value = None);
    }
    for page in &mut loaded.queries {
        *page = Page::Held { page: PageId(1), count: page.len() as u32 };
    }
}
