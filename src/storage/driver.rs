//! What the blocking and the asynchronous driver share: typed questions in, typed answers out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::diff::{Change, DiffError, changes};
use crate::domain::State;
use crate::engine::{Config, Engine};
use crate::error::{ApiMisuse, CommandError, Error, ReadError};
use crate::event::{CommitSummary, Metadata, RecordedEvent, TaskId};
use crate::ids::CommandId;
use crate::manager::{Handled, NativeManager, Wish};
use crate::projection::Projection;
use crate::protocol::{
    AskCheckpoint, AskReaction, CheckpointWish, ControlView, Durability, Execute, Input, LogFilter,
    LogStart, Notice, Outcome, Output, Page, React, Reacted, ReactionAction, ReactionRead, ReadAt,
    ReadState, ReadView, ScanPlace, SkippedEvents, SnapshotReport, StateRead, StoredDocument,
    Subscribe, TakeSnapshot, ViewAction, ViewAt, ViewQuery, ViewRead,
};
use crate::stream::{ExpectedRevision, Position, Revision, StreamId};
use crate::time::Timestamp;
use crate::variant::to_variant;

use super::reader::{Readers, Reading, Watching};

/// The host's time.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Waits so many milliseconds. Not until a time: clocks are set back.
    fn sleep(&mut self, millis: u64);
}

/// What may be said about a command besides what it asks.
#[derive(Clone, Debug, Default)]
pub struct CommandOptions {
    /// Its id. Give a repeated command the id of the first: it is then applied once.
    pub command_id: Option<CommandId>,
    /// What the caller expects of the stream.
    pub expected: ExpectedRevision,
    /// When it was given. Now, if that is not said.
    pub issued_at: Option<Timestamp>,
    /// Who gave it, and why.
    pub metadata: Metadata,
}

/// What came of a command.
#[derive(Debug)]
pub struct Executed<A: Aggregate> {
    /// The command's id.
    pub command_id: CommandId,
    /// What it appended; `None` if there was nothing to do.
    pub commit: Option<CommitSummary>,
    /// Whether it had been committed before: this is its first outcome.
    pub duplicate: bool,
    /// The stream's revision after it.
    pub revision: Revision,
    /// The state after it.
    pub state: A::State,
    /// Its events.
    pub events: Vec<RecordedEvent>,
    /// What the commit survives.
    pub durability: Durability,
    /// Inline projections that have not taken the events in, and why.
    pub behind: Vec<(Arc<str>, Arc<str>)>,
}

/// A document of a view.
#[derive(Debug)]
pub struct Listed<D> {
    /// Where it is in the order of the scan, to go on after it.
    pub place: ScanPlace,
    /// The position up to which it has been made.
    pub position: Position,
    /// The document.
    pub document: D,
}

/// Documents of a view.
#[derive(Debug)]
pub struct Documents<D> {
    /// In the order of the scan.
    pub documents: Vec<Listed<D>>,
    /// Whether the limit left some out.
    pub more: bool,
    /// Their number, if that was asked.
    pub count: u64,
    /// The documents are those after this position.
    pub position: Position,
}

/// A state as it was read.
#[derive(Debug)]
pub struct Read<A: Aggregate> {
    /// The state.
    pub state: A::State,
    /// The revision it is the state at.
    pub revision: Revision,
    /// The events up to it, if they were asked for.
    pub events: Vec<RecordedEvent>,
}

/// What has become of an aggregate between two points.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff<State> {
    /// The state at the first.
    pub from: StateAt<State>,
    /// The state at the second.
    pub to: StateAt<State>,
    /// What is different between these, as [`changes`] tells.
    pub changes: Vec<Change>,
    /// The events that led from one to the other.
    pub events: Vec<RecordedEvent>,
}

/// A state at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateAt<State> {
    /// The state.
    pub state: State,
    /// The revision it is the state at.
    pub revision: Revision,
}

/// What changes no answer, and what an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A snapshot that could not be used or kept.
    Snapshot(SnapshotReport),
    /// Events of unknown types that a state or a view was made without.
    Skipped(SkippedEvents),
}

/// An event as a reaction is given it.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The event.
    pub event: &'a RecordedEvent,
    /// The same for every attempt at this event by this reaction, for others to tell whether they have
    /// seen it.
    pub key: &'a str,
    /// Which attempt this is, from 1, as far as is known.
    pub attempt: u32,
}

/// The key of a reaction's event.
pub(super) fn key_of(reaction: &str, event: &RecordedEvent) -> String {
    format!("{reaction}/{}", event.event_id)
}

/// A page of the log.
#[derive(Debug)]
pub struct Events {
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// Where the next page goes on.
    pub next: Position,
}

/// A page of a named subscription.
#[derive(Debug)]
pub struct NamedEvents {
    /// The subscription.
    pub name: Arc<str>,
    /// Where its checkpoint was: these events come after that.
    pub checkpoint: Position,
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// Where its checkpoint belongs when they have been handled.
    pub next: Position,
}

/// A page, and where the checkpoint of its subscription was, if that has one.
type AnyPage = (Events, Option<Position>);

/// An engine and the answers nobody has fetched yet.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) engine: Engine,
    last_task: u32,
    /// Tasks somebody waits for; what comes of others is not kept.
    awaited: BTreeSet<TaskId>,
    done: BTreeMap<TaskId, Notice>,
    pages: BTreeMap<TaskId, Vec<AnyPage>>,
    /// The newest, until somebody takes them.
    reports: VecDeque<Report>,
    managing: Vec<Managing>,
    readers: Rc<Readers>,
}

/// How far a subscription goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// To the end of the log.
    End,
    /// Back to its beginning.
    Beginning,
    /// On, with what comes.
    Onwards,
}

/// Commands of a process manager that are under way.
#[derive(Debug)]
struct Managing {
    run: u64,
    tasks: Vec<TaskId>,
    failed: Option<Arc<str>>,
}

/// Most reports that are kept for who may take them.
const MAX_REPORTS: usize = 256;

impl Driver {
    pub(super) fn new(config: Config) -> Result<Self, ApiMisuse> {
        let readers = Rc::new(Readers::new(config.projections.len()));
        let engine = Engine::new(config)?;
        let (awaited, done, pages, reports) = Default::default();
        let managing = Vec::new();
        Ok(Self { engine, last_task: 0, awaited, done, pages, reports, managing, readers })
    }

    fn next_task(&mut self) -> TaskId {
        loop {
            self.last_task = self.last_task.wrapping_add(1);
            // A subscription may have its number for longer than all the others last.
            if self.awaited.insert(TaskId(self.last_task)) {
                return TaskId(self.last_task);
            }
        }
    }

    pub(super) fn execute<A: Aggregate>(
        &mut self,
        now: Timestamp,
        id: &str,
        command: &A::Command,
        options: CommandOptions,
    ) -> Result<TaskId, Error> {
        let stream = StreamId::new(A::TYPE, id);
        let (command_type, data) = to_variant(command).map_err(|error| {
            let reason = format!("the command can't be written: {error}").into();
            CommandError::DomainFailed { stream: stream.clone(), reason }
        })?;
        let task = self.next_task();
        let execute = Execute {
            task,
            stream,
            command_type,
            data,
            command_id: options.command_id,
            expected: options.expected,
            issued_at: options.issued_at,
            metadata: options.metadata,
        };
        self.engine.handle_input(now, Input::Execute(execute))?;
        Ok(task)
    }

    /// Lets a process manager handle an event or a timer, and gives its commands.
    pub(super) fn manage(
        &mut self,
        now: Timestamp,
        manager: &dyn NativeManager,
        react: &React,
    ) -> Result<(), ApiMisuse> {
        let run = react.run;
        let handled = manager.handle(self.engine.aggregates(), react);
        let Handled { wishes, given, metadata } = match handled {
            Ok(handled) => handled,
            Err(error) => {
                let reacted = Reacted { run, result: Err(error) };
                return self.engine.handle_input(now, Input::Reacted(reacted));
            }
        };
        let Some(ids) = self.engine.manage(run, wishes) else {
            return Ok(());
        };
        let mut tasks = Vec::new();
        for (command_id, wish) in ids.into_iter().zip(given) {
            let (Wish { stream, command_type, data }, metadata) = (wish, metadata.clone());
            let task = self.next_task();
            tasks.push(task);
            let execute = Execute {
                task,
                stream,
                command_type,
                data,
                command_id: Some(command_id),
                expected: ExpectedRevision::Any,
                issued_at: None,
                metadata,
            };
            self.engine.handle_input(now, Input::Execute(execute))?;
        }
        self.managing.push(Managing { run, tasks, failed: None });
        self.tell_managed()
    }

    /// A command of a process manager is done.
    fn managed(&mut self, at: usize, task: TaskId, error: Option<Arc<str>>) {
        let Managing { tasks, failed, .. } = &mut self.managing[at];
        tasks.retain(|other| *other != task);
        *failed = failed.take().or(error);
        self.awaited.remove(&task);
        self.tell_managed().expect("what has been handled may be told at any time");
    }

    /// Tells the engine what has become of events whose commands are all done.
    fn tell_managed(&mut self) -> Result<(), ApiMisuse> {
        while let Some(at) = self.managing.iter().position(|managing| managing.tasks.is_empty()) {
            let Managing { run, failed, .. } = self.managing.swap_remove(at);
            let result = failed.map_or(Ok(Vec::new()), Err);
            let now = self.engine.now();
            self.engine.handle_input(now, Input::Reacted(Reacted { run, result }))?;
        }
        Ok(())
    }

    pub(super) fn read<A: Aggregate>(
        &mut self,
        now: Timestamp,
        id: &str,
        at: ReadAt,
        events: bool,
    ) -> Result<TaskId, ApiMisuse> {
        let task = self.next_task();
        let read = ReadState { task, stream: StreamId::new(A::TYPE, id), at, events };
        self.engine.handle_input(now, Input::ReadState(read))?;
        Ok(task)
    }

    /// Two reads that are given at once: they share requests.
    pub(super) fn read_both<A: Aggregate>(
        &mut self,
        now: Timestamp,
        id: &str,
        from: ReadAt,
        to: ReadAt,
    ) -> Result<(TaskId, TaskId), ApiMisuse> {
        Ok((self.read::<A>(now, id, from, false)?, self.read::<A>(now, id, to, true)?))
    }

    pub(super) fn take_snapshot<A: Aggregate>(
        &mut self,
        now: Timestamp,
        id: &str,
    ) -> Result<TaskId, ApiMisuse> {
        let task = self.next_task();
        let wish = TakeSnapshot { task, stream: StreamId::new(A::TYPE, id) };
        self.engine.handle_input(now, Input::TakeSnapshot(wish))?;
        Ok(task)
    }

    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        self.reports.drain(..).collect()
    }

    pub(super) fn subscribe(
        &mut self,
        now: Timestamp,
        name: Option<&str>,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
        reach: Reach,
    ) -> Result<TaskId, ApiMisuse> {
        let task = self.next_task();
        let (name, upcasts) = (name.map(Into::into), false);
        let (follow, descending) = (reach == Reach::Onwards, reach == Reach::Beginning);
        let subscribe = Subscribe { task, name, start, filter, upcasts, limit, follow, descending };
        self.engine.handle_input(now, Input::Subscribe(subscribe))?;
        Ok(task)
    }

    pub(super) fn follow(
        &mut self,
        now: Timestamp,
        name: Option<&str>,
        start: LogStart,
        filter: LogFilter,
        limit: u32,
    ) -> Result<Reading, ApiMisuse> {
        let task = self.subscribe(now, name, start, filter, limit, Reach::Onwards)?;
        Ok(Reading::new(Rc::clone(&self.readers), task, name.is_some()))
    }

    /// The reader of a subscription wants no more, and has handled what it was given up to here.
    pub(super) fn give_up(
        &mut self,
        now: Timestamp,
        task: TaskId,
        handled: Position,
    ) -> Result<(), ApiMisuse> {
        self.engine.handle_input(now, Input::Handled(task, handled))?;
        self.engine.handle_input(now, Input::Cancel(task))
    }

    /// Readers are of one engine, and mean nothing to another.
    pub(super) fn check_reader(&self, readers: &Rc<Readers>) -> Result<(), ApiMisuse> {
        if Rc::ptr_eq(&self.readers, readers) { Ok(()) } else { Err(ApiMisuse::ForeignReader) }
    }

    pub(super) fn watch<P: Projection>(&self) -> Result<Watching, ReadError> {
        let view = self.engine.projection_index(P::NAME);
        let view = view.ok_or_else(|| ReadError::UnknownProjection(P::NAME.into()))?;
        Ok(Watching::new(Rc::clone(&self.readers), view))
    }

    fn managing_of(&self, task: TaskId) -> Option<usize> {
        self.managing.iter().position(|managing| managing.tasks.contains(&task))
    }

    pub(super) fn ask_checkpoint(
        &mut self,
        now: Timestamp,
        name: &str,
        wish: CheckpointWish,
    ) -> Result<TaskId, ApiMisuse> {
        let task = self.next_task();
        let ask = AskCheckpoint { task, name: name.into(), wish };
        self.engine.handle_input(now, Input::AskCheckpoint(ask))?;
        Ok(task)
    }

    pub(super) fn checkpoint(
        &mut self,
        task: TaskId,
    ) -> Option<Result<Option<Position>, ReadError>> {
        match self.fetch(task)? {
            Notice::Checkpoint { result, .. } => Some(result),
            _ => None,
        }
    }

    /// Files what is for the application; gives back what is for the host.
    pub(super) fn poll(&mut self) -> Option<Output> {
        for (task, handled) in self.readers.take_gone() {
            let now = self.engine.now();
            let given_up = self.give_up(now, task, handled);
            given_up.and_then(|()| self.forget(now, task)).expect("a reader may go at any time");
        }
        match self.engine.poll_output() {
            Output::Notice(notice) => {
                match notice {
                    Notice::CommandDone { task, result } if self.managing_of(task).is_some() => {
                        let at = self.managing_of(task).expect("it was found");
                        let error = match result {
                            // A refusal is an answer; so is it that an earlier attempt has given the
                            // command, though of another state.
                            Ok(_)
                            | Err(
                                CommandError::Refused { .. } | CommandError::CommandIdReused(_),
                            ) => None,
                            Err(error) => Some(error.to_string().into()),
                        };
                        self.managed(at, task, error);
                    }
                    Notice::CommandDone { task, .. }
                    | Notice::StateRead { task, .. }
                    | Notice::SnapshotTaken { task, .. }
                    | Notice::ViewRead { task, .. }
                    | Notice::Checkpoint { task, .. }
                    | Notice::ReactionRead { task, .. }
                    | Notice::SubscriptionEnded { task, .. } => {
                        if self.awaited.contains(&task) {
                            self.done.insert(task, notice);
                        }
                    }
                    Notice::Events { task, page, next, checkpoint }
                        if self.awaited.contains(&task) =>
                    {
                        let events = Events { events: whole([page]), next };
                        self.pages.entry(task).or_default().push((events, checkpoint));
                    }
                    // Tasks that wait for the store fail by themselves.
                    Notice::Opened(_)
                    | Notice::OpenFailed(_)
                    | Notice::Events { .. }
                    | Notice::ReactionMoved(_)
                    | Notice::ReactionLost(_)
                    | Notice::OwnerSeen(_) => {}
                    Notice::ViewMoved(projection) => self.readers.view_moved(projection),
                    Notice::Snapshot(report) => self.report(Report::Snapshot(report)),
                    Notice::Skipped(skipped) => self.report(Report::Skipped(skipped)),
                }
                None
            }
            // A native host keeps nothing for the engine.
            Output::Release(_) => None,
            output => Some(output),
        }
    }

    fn report(&mut self, report: Report) {
        if self.reports.len() == MAX_REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    pub(super) fn executed<A: Aggregate>(
        &mut self,
        task: TaskId,
    ) -> Option<Result<Executed<A>, CommandError>> {
        let Notice::CommandDone { result, .. } = self.fetch(task)? else {
            return None;
        };
        Some(result.map(|outcome| {
            let Outcome { command_id, commit, duplicate, revision, .. } = outcome;
            let Outcome { state, events, durability, behind, .. } = outcome;
            let (state, events) = (typed::<A>(&state), whole(events));
            Executed { command_id, commit, duplicate, revision, state, events, durability, behind }
        }))
    }

    pub(super) fn state_read<A: Aggregate>(
        &mut self,
        task: TaskId,
    ) -> Option<Result<Read<A>, ReadError>> {
        let Notice::StateRead { result, .. } = self.fetch(task)? else {
            return None;
        };
        Some(result.map(|read| {
            let StateRead { state, revision, events } = read;
            Read { state: typed::<A>(&state), revision, events: whole(events) }
        }))
    }

    pub(super) fn snapshot_taken(&mut self, task: TaskId) -> Option<Result<Revision, ReadError>> {
        match self.fetch(task)? {
            Notice::SnapshotTaken { result, .. } => Some(result),
            _ => None,
        }
    }

    pub(super) fn ask_view<P: Projection>(
        &mut self,
        now: Timestamp,
        at: ViewAt,
        query: ViewQuery,
    ) -> Result<TaskId, ApiMisuse> {
        let task = self.next_task();
        let read = ReadView { task, projection: P::NAME.into(), at, query };
        self.engine.handle_input(now, Input::ReadView(read))?;
        Ok(task)
    }

    pub(super) fn control_view<P: Projection>(
        &mut self,
        now: Timestamp,
        action: ViewAction,
    ) -> Result<(), ApiMisuse> {
        let control = ControlView { projection: P::NAME.into(), action };
        self.engine.handle_input(now, Input::ControlView(control))
    }

    pub(super) fn view_read(&mut self, task: TaskId) -> Option<Result<ViewRead, ReadError>> {
        match self.fetch(task)? {
            Notice::ViewRead { result, .. } => Some(result),
            _ => None,
        }
    }

    pub(super) fn ask_reaction(
        &mut self,
        now: Timestamp,
        reaction: &str,
        action: Option<ReactionAction>,
    ) -> Result<TaskId, ApiMisuse> {
        let task = self.next_task();
        let ask = AskReaction { task, reaction: reaction.into(), action };
        self.engine.handle_input(now, Input::AskReaction(ask))?;
        Ok(task)
    }

    pub(super) fn reaction_read(
        &mut self,
        task: TaskId,
    ) -> Option<Result<ReactionRead, ReadError>> {
        match self.fetch(task)? {
            Notice::ReactionRead { result, .. } => Some(result),
            _ => None,
        }
    }

    /// The first page of a subscription, or its end.
    pub(super) fn page(&mut self, task: TaskId) -> Option<Result<Option<Events>, ReadError>> {
        Some(self.any_page(task)?.map(|page| page.map(|(events, _)| events)))
    }

    /// The first page of a subscription with this name, or its end.
    pub(super) fn named_page(
        &mut self,
        task: TaskId,
        name: &str,
    ) -> Option<Result<Option<NamedEvents>, ReadError>> {
        let page = self.any_page(task)?;
        Some(page.map(|page| {
            let (Events { events, next }, checkpoint) = page?;
            Some(NamedEvents { name: name.into(), checkpoint: checkpoint?, events, next })
        }))
    }

    fn any_page(&mut self, task: TaskId) -> Option<Result<Option<AnyPage>, ReadError>> {
        if let Some(pages) = self.pages.get_mut(&task)
            && !pages.is_empty()
        {
            return Some(Ok(Some(pages.remove(0))));
        }
        let Notice::SubscriptionEnded { result, .. } = self.fetch(task)? else {
            return None;
        };
        Some(result.map(|()| None))
    }

    /// What a subscription that follows the log has ended with, whatever was read before that.
    pub(super) fn end(&mut self, task: TaskId) -> Option<ReadError> {
        match self.fetch(task)? {
            Notice::SubscriptionEnded { result, .. } => result.err(),
            _ => None,
        }
    }

    fn fetch(&mut self, task: TaskId) -> Option<Notice> {
        let notice = self.done.remove(&task)?;
        self.awaited.remove(&task);
        self.pages.remove(&task);
        Some(notice)
    }

    /// Nobody waits for the task any more.
    pub(super) fn forget(&mut self, now: Timestamp, task: TaskId) -> Result<(), ApiMisuse> {
        self.awaited.remove(&task);
        self.pages.remove(&task);
        self.done.remove(&task);
        self.engine.handle_input(now, Input::Cancel(task))
    }
}

/// The documents as values.
pub(super) fn documents<P: Projection>(
    read: ViewRead,
) -> Result<Documents<P::Document>, ReadError> {
    let ViewRead { position, documents, more, count, .. } = read;
    let mut listed = Vec::with_capacity(documents.len());
    for (place, StoredDocument { revision, value }) in documents {
        let document = serde_json::from_str(&value).map_err(|error| {
            let (projection, key) = (P::NAME.into(), Arc::clone(&place.key));
            ReadError::UnreadableDocument { projection, key, reason: error.to_string().into() }
        })?;
        listed.push(Listed { place, position: Position(revision), document });
    }
    Ok(Documents { documents: listed, more, count, position })
}

/// The state at one point, and the history up to a later one.
pub(super) fn compare<A: Aggregate>(
    id: &str,
    from: Read<A>,
    to: Read<A>,
) -> Result<Diff<A::State>, DiffError> {
    let stream = || StreamId::new(A::TYPE, id);
    if from.revision > to.revision {
        let (from, to) = (from.revision, to.revision);
        return Err(DiffError::WrongOrder { stream: stream(), from, to });
    }
    let json = |state: &A::State| {
        serde_json::to_value(state).map_err(|error| {
            let reason = error.to_string();
            DiffError::StateNotJson { stream: stream(), reason }
        })
    };
    let changes = changes(&json(&from.state)?, &json(&to.state)?);
    let seen = usize::try_from(from.revision.0).expect("no more than the events that were read");
    let events = to.events.into_iter().skip(seen).collect();
    let [from, to] = [(from.state, from.revision), (to.state, to.revision)]
        .map(|(state, revision)| StateAt { state, revision });
    Ok(Diff { from, to, changes, events })
}

fn typed<A: Aggregate>(state: &State) -> A::State {
    state.value::<A>().expect("the stream's aggregate type names its domain").clone()
}

/// The events of pages that hold them.
fn whole(pages: impl IntoIterator<Item = Page>) -> Vec<RecordedEvent> {
    pages
        .into_iter()
        .flat_map(|page| match page {
            Page::Events(events) => events,
            Page::Rows { .. } | Page::Messages { .. } | Page::Held { .. } => Vec::new(),
        })
        .collect()
}
