//! A domain that lives in the host, as a JavaScript one does: the engine sees numbers for states
//! and pages, and the host keeps what they stand for.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::aggregate::{Context, OtherEvent};
use crate::domain::{
    AggregateDefinition, Command, Domain, EventText, Folded, NativeAggregate, NativeDecision,
    NativeState,
};
use crate::event::{NewEvent, Payload, RecordedEvent, TaskId};
use crate::projection::{Known, LogEvent, ProjectionDefinition};
use crate::protocol::{
    Answer, Append, CopyId, Document, DocumentValue, DomainAnswer, DomainRequest, DomainResult,
    HandedOut, Handle, HostFoldError, HostFolded, Load, Neighbour, Page, PageId, Project,
    ProjectAnswer, Release, RequestId, SaveDocuments, StorageAnswer, StorageBody, StorageRequest,
    StreamLoad, StreamSlice,
};
use crate::snapshot::{JsonCodec, StateCodec, state_in, with_digest};
use crate::stream::{Revision, StreamId};
use crate::time::Timestamp;
use crate::upcast::Unreadable;

use super::desk::{Appointment, as_other, as_today};

/// The aggregate with what the engine is told of the desk's upcasters.
pub(super) fn with_upcasters(definition: AggregateDefinition) -> AggregateDefinition {
    let native = AggregateDefinition::native::<Appointment>();
    definition.with_upcasters("Noted\n2\nTaken\n2\n", native.becoming.to_vec())
}

type Attempt = (RequestId, u32);

/// What a host keeps for an engine.
pub(super) struct Hosted {
    domain: Rc<dyn NativeAggregate>,
    codec: JsonCodec<Appointment>,
    states: BTreeMap<Handle, Rc<dyn NativeState>>,
    pages: BTreeMap<PageId, Vec<RecordedEvent>>,
    /// Of states of the engine's.
    copies: BTreeMap<CopyId, String>,
    /// What the streams of an attempt are folded onto, as it was when it was asked for.
    bases: BTreeMap<Attempt, Vec<Option<Rc<dyn NativeState>>>>,
    commands: BTreeMap<TaskId, (StreamId, Command)>,
    decided: BTreeMap<TaskId, Decided>,
    refusals: BTreeMap<TaskId, (Arc<str>, Arc<str>)>,
    last_state: u32,
    last_page: u32,
}

/// What was decided, for the append and for neighbours.
struct Decided {
    issued_at: Timestamp,
    types: Vec<Arc<str>>,
    texts: Vec<Arc<str>>,
}

impl Hosted {
    pub(super) fn new() -> Self {
        let Domain::Native(domain) = AggregateDefinition::native::<Appointment>().domain else {
            unreachable!("made natively")
        };
        Self {
            domain,
            codec: JsonCodec::new(),
            states: BTreeMap::new(),
            pages: BTreeMap::new(),
            copies: BTreeMap::new(),
            bases: BTreeMap::new(),
            commands: BTreeMap::new(),
            decided: BTreeMap::new(),
            refusals: BTreeMap::new(),
            last_state: 0,
            last_page: 0,
        }
    }

    pub(super) fn start(&mut self, task: TaskId, stream: StreamId, command_type: &str, data: &str) {
        let command = self.domain.read_command(command_type, data).expect("the client's command");
        self.commands.insert(task, (stream, command));
    }

    /// The refusal of a task that has ended.
    pub(super) fn end(&mut self, task: TaskId) -> Option<(Arc<str>, Arc<str>)> {
        self.commands.remove(&task);
        self.decided.remove(&task);
        self.refusals.remove(&task)
    }

    /// The JSON of a state that is handed out.
    pub(super) fn take(&mut self, state: HandedOut) -> String {
        match state {
            HandedOut::Held(handle) => self.state_json(handle),
            HandedOut::Copied(copy) => self.copies[&copy].clone(),
            HandedOut::ToCopy(copy, json) => {
                let before = self.copies.insert(copy, json.clone());
                assert_eq!(before, None, "a number is given again when it has been released");
                json
            }
            HandedOut::Once(json) => json,
        }
    }

    fn state_json(&self, handle: Handle) -> String {
        self.state(handle).to_json().expect("the state is JSON")
    }

    fn state(&self, handle: Handle) -> Rc<dyn NativeState> {
        if handle == Handle::INITIAL {
            self.domain.initial()
        } else {
            Rc::clone(
                self.states.get(&handle).expect("the engine names states it has not released"),
            )
        }
    }

    pub(super) fn events(&self, page: &Page) -> Vec<RecordedEvent> {
        match page {
            Page::Events(events) => events.clone(),
            Page::Held { page, .. } => self.pages[page].clone(),
            Page::Rows { .. } | Page::Messages { .. } => {
                unreachable!("the simulated store gives whole events")
            }
        }
    }

    pub(super) fn release(&mut self, release: &Release) {
        for handle in &release.handles {
            assert!(self.states.remove(handle).is_some(), "a state is released once");
        }
        for page in &release.pages {
            assert!(self.pages.remove(page).is_some(), "a page is released once");
        }
        for copy in &release.copies {
            assert!(self.copies.remove(copy).is_some(), "a copy is released once");
        }
    }

    /// Whether everything the host kept has been released.
    pub(super) fn is_empty_but_for(&self, cached_states: usize) -> bool {
        self.pages.is_empty() && self.states.len() + self.copies.len() <= cached_states
    }

    /// Looks at the states that a request names.
    pub(super) fn ask(&mut self, request: &StorageRequest) {
        if let StorageBody::Load(load) = &request.body {
            let folds = load.streams.iter().map(|asked| asked.fold);
            let bases = folds.map(|fold| fold.map(|fold| self.state(fold.from))).collect();
            self.bases.insert((request.id, request.attempt), bases);
        }
    }

    /// Folds and keeps what stays in the host, and gives the engine numbers for it.
    pub(super) fn keep(&mut self, body: &StorageBody, answer: Answer) -> Answer {
        let attempt = (answer.request, answer.attempt);
        let result = answer.result.map(|found| self.keep_found(body, attempt, found));
        Answer { result, ..answer }
    }

    fn keep_found(
        &mut self,
        body: &StorageBody,
        attempt: Attempt,
        found: StorageAnswer,
    ) -> StorageAnswer {
        match (body, found) {
            (StorageBody::Load(load), StorageAnswer::Loaded(mut loaded)) => {
                let Load { streams, queries, .. } = &**load;
                let bases = self.bases[&attempt].clone();
                for ((asked, base), slice) in streams.iter().zip(bases).zip(&mut loaded.streams) {
                    if let Some(base) = base {
                        self.fold(asked, base, slice);
                    }
                }
                for (asked, page) in queries.iter().zip(&mut loaded.queries) {
                    if asked.held {
                        self.hold(page);
                    }
                }
                StorageAnswer::Loaded(loaded)
            }
            (StorageBody::ReadLog(read), StorageAnswer::Log(mut log)) if read.held => {
                self.hold(&mut log.page);
                StorageAnswer::Log(log)
            }
            (_, found) => found,
        }
    }

    fn fold(&mut self, asked: &StreamLoad, base: Rc<dyn NativeState>, slice: &mut StreamSlice) {
        let events = self.events(&slice.page);
        if asked.whole {
            self.hold(&mut slice.page);
        } else {
            let count = u32::try_from(events.len()).expect("pages are short");
            slice.page = Page::Held { page: PageId::FOLDED, count };
        }
        let mut start = Ok(base);
        if let (Some(key), Some(snapshot)) = (&asked.snapshot, &mut slice.snapshot) {
            let value = snapshot.value.take().expect("as the store gave it");
            let text = state_in(key, snapshot.revision, &value);
            start = text
                .ok_or_else(|| "its digest does not match".into())
                .and_then(|text| self.codec.read(text));
        } else if events.is_empty() {
            return;
        }
        let mut texts = events.iter().map(|event| EventText {
            event_type: &event.event_type,
            schema_version: event.schema_version,
            data: &event.data,
        });
        let folded = start.map_err(HostFoldError::Snapshot).and_then(|start| {
            let folded = self.domain.fold(start, &mut texts);
            folded.map_err(|(index, Unreadable { problem, reason })| HostFoldError::Event {
                index: u32::try_from(index).expect("pages are short"),
                problem,
                reason,
            })
        });
        slice.folded = Some(folded.map(|Folded { state, skipped }| HostFolded {
            state: self.keep_state(state),
            skipped,
        }));
    }

    fn keep_state(&mut self, state: Rc<dyn NativeState>) -> Handle {
        self.last_state += 1;
        let handle = Handle(self.last_state);
        self.states.insert(handle, state);
        handle
    }

    /// Takes a page in for a projection.
    pub(super) fn project(
        &self,
        definition: &ProjectionDefinition,
        project: &Project,
    ) -> ProjectAnswer {
        let native = definition.native.as_ref().expect("the host's own");
        let mut events = self.pages[&project.page].iter().map(LogEvent::of);
        let mut known = Known::default();
        for (key, text) in &project.known {
            known.insert(Arc::clone(key), text.clone());
        }
        let aggregates = [AggregateDefinition::native::<Appointment>()];
        let result = native.project(&mut events, &aggregates, &known, project.end);
        ProjectAnswer { run: project.run, result }
    }

    fn hold(&mut self, page: &mut Page) -> PageId {
        self.last_page += 1;
        let id = PageId(self.last_page);
        let count = u32::try_from(page.len()).expect("pages are short");
        let Page::Events(events) = std::mem::replace(page, Page::Held { page: id, count }) else {
            unreachable!("the simulated store gives whole events")
        };
        self.pages.insert(id, events);
        id
    }

    /// The documents with the states that the host keeps as text.
    pub(super) fn with_values(&self, save: &SaveDocuments) -> SaveDocuments {
        let with_value = |document: &Document| {
            let value = match &document.value {
                DocumentValue::State(handle) => {
                    let (key, revision) = (&document.name.key, Revision(document.revision));
                    DocumentValue::Text(with_digest(key, revision, &self.state_json(*handle)))
                }
                text => text.clone(),
            };
            Document { value, ..document.clone() }
        };
        SaveDocuments { documents: save.documents.iter().map(with_value).collect(), ..save.clone() }
    }

    /// The append with its payloads.
    pub(super) fn with_payloads(&self, append: &Append) -> Append {
        let mut append = append.clone();
        for event in append.commits.iter_mut().flat_map(|commit| &mut commit.events) {
            if let Payload::Held { task, index, .. } = event.event.data {
                let text = &self.decided[&task].texts[index as usize];
                event.event.data = Payload::Text(Arc::clone(text));
            }
        }
        append
    }

    pub(super) fn answer(&mut self, request: DomainRequest) -> DomainAnswer {
        let DomainRequest { task, state, question, issued_at, others, .. } = request;
        let state = self.state(state);
        let (stream, command) = &self.commands[&task];
        let wanted = self.domain.reads(command, &state);
        let loaded = others.as_ref().map(|others| others.query.clone()).unwrap_or_default();
        if wanted != loaded {
            return DomainAnswer { task, question, result: DomainResult::Reads(wanted) };
        }
        let pages = others.iter().flat_map(|others| &others.pages);
        let read: Vec<_> = pages.flat_map(|page| &self.pages[page]).map(as_today).collect();
        let mut seen: Vec<_> = read.iter().map(as_other).collect();
        seen.retain(|other| other.stream != stream);
        for neighbour in others.iter().flat_map(|others| &others.neighbours) {
            let Neighbour { task, index, revision } = *neighbour;
            let decided = &self.decided[&task];
            seen.push(OtherEvent {
                stream: &self.commands[&task].0,
                revision,
                issued_at: decided.issued_at,
                actor: None,
                event_type: &decided.types[index as usize],
                data: &decided.texts[index as usize],
            });
        }
        let context = Context::new(issued_at, &seen);
        let result = match self.domain.decide(&state, command, &context) {
            NativeDecision::Decided { events, after } => {
                let after = self.keep_state(after);
                DomainResult::Decided(self.decided(task, issued_at, events), after)
            }
            NativeDecision::Refused { code, details } => {
                self.refusals.insert(task, (code, details));
                DomainResult::Refused
            }
            NativeDecision::Failed { .. } => DomainResult::Failed,
        };
        DomainAnswer { task, question, result }
    }

    fn decided(
        &mut self,
        task: TaskId,
        issued_at: Timestamp,
        events: Vec<NewEvent>,
    ) -> Vec<NewEvent> {
        let mut texts = Vec::new();
        let mut types = Vec::new();
        let events = (0..)
            .zip(events)
            .map(|(index, event)| {
                let Payload::Text(text) = &event.data else { unreachable!("decided natively") };
                texts.push(Arc::clone(text));
                types.push(Arc::clone(&event.event_type));
                let bytes = u32::try_from(text.len()).expect("payloads are short");
                NewEvent { data: Payload::Held { task, index, bytes }, ..event }
            })
            .collect();
        self.decided.insert(task, Decided { issued_at, types, texts });
        events
    }
}
