//! Questions for views, and outcomes that wait for them.

use std::sync::Arc;

use crate::error::{ReadError, StorageError};
use crate::event::TaskId;
use crate::projection::{ProjectionDefinition, ViewKind};
use crate::protocol::{
    DocumentName, DocumentScan, DocumentsRead, LogEnd, Notice, Outcome, ReadDocuments, ReadView,
    ScanPlace, ScannedPage, StorageBody, StoredDocument, ViewAt, ViewQuery, ViewRead, ViewScan,
    ViewStatus,
};
use crate::stream::Position;

use super::projecting::{
    Lag, Place, Runner, RunnerIndex, Step, checkpoint_of, collection_of, is_built,
};
use super::requests::Purpose;
use super::{Engine, KeptPage, Store, Task};

/// A question under way.
pub(super) struct ViewTask {
    pub(super) serial: u64,
    runner: RunnerIndex,
    at: ViewAt,
    query: ViewQuery,
    /// Number of the read of the log that it waits for.
    complete: u64,
    /// Version that the store is being asked for, 0 if it is not, and how far it must have come.
    asked: u32,
    at_least: Position,
}

/// A question for the store. Those that come up together go out together.
pub(super) struct ViewWish {
    task: TaskId,
    checkpoint: DocumentName,
    get: Option<DocumentName>,
    scan: Option<DocumentScan>,
}

/// Where a task finds its part of the answer.
#[derive(Debug)]
pub(super) struct ViewPart {
    task: TaskId,
    serial: u64,
    checkpoint: usize,
    get: Option<usize>,
    scan: Option<usize>,
}

/// An outcome that waits until the inline views have taken its events in.
pub(super) struct HeldBack {
    position: Position,
    /// The pages that the outcome names, so that the host keeps them until it has been told.
    pages: Vec<KeptPage>,
    task: TaskId,
    outcome: Box<Outcome>,
}

impl Engine {
    // -----------------------------------------------------------------------------------------
    // Outcomes that wait for inline views

    /// Tells of an outcome, once the inline views have taken it in.
    #[inline(never)]
    pub(super) fn tell_outcome(
        &mut self,
        task: TaskId,
        outcome: Box<Outcome>,
        pages: Vec<KeptPage>,
    ) {
        let position = outcome.commit.as_ref().map(|commit| commit.last_position());
        let inline = |definition: &ProjectionDefinition| definition.kind == ViewKind::Inline;
        match position {
            Some(position) if self.config.projections.iter().any(inline) => {
                self.held_back.push(HeldBack { position, pages, task, outcome });
                self.let_go_of_outcomes();
            }
            _ => self.notice(Notice::CommandDone { task, result: Ok(*outcome) }),
        }
    }

    #[inline(never)]
    pub(super) fn let_go_of_outcomes(&mut self) {
        if self.held_back.is_empty() {
            return;
        }
        let mut waiting = Vec::new();
        for held in std::mem::take(&mut self.held_back) {
            if self.is_waited_for(held.position) {
                waiting.push(held);
            } else {
                self.let_go(held, None);
            }
        }
        self.held_back = waiting;
    }

    fn inline_lags(&self, position: Position) -> impl Iterator<Item = (&Arc<str>, Lag)> {
        let limit = self.config.page_limit;
        let runners = self.runners.iter();
        self.config.projections.iter().zip(runners).filter_map(move |(definition, runner)| {
            let runner = runner.as_ref().filter(|_| definition.kind == ViewKind::Inline)?;
            Some((&definition.name, runner.lag(position, limit)))
        })
    }

    fn is_waited_for(&self, position: Position) -> bool {
        self.inline_lags(position).any(|(_, lag)| matches!(lag, Lag::Waits))
    }

    #[inline(never)]
    pub(super) fn let_go(&mut self, held: HeldBack, reason: Option<Arc<str>>) {
        let HeldBack { position, pages: _kept, task, mut outcome } = held;
        let behind = self.inline_lags(position).filter_map(|(name, lag)| match (lag, &reason) {
            (_, Some(reason)) => Some((Arc::clone(name), Arc::clone(reason))),
            (Lag::Behind(reason), None) => Some((Arc::clone(name), reason)),
            _ => None,
        });
        outcome.behind = behind.collect();
        self.notice(Notice::CommandDone { task, result: Ok(*outcome) });
    }

    // -----------------------------------------------------------------------------------------
    // Questions

    #[inline(never)]
    pub(super) fn start_view_read(&mut self, read: ReadView) {
        let ReadView { task: id, projection, at, query } = read;
        let found = self.projection_index(&projection);
        let checked = found.ok_or(ReadError::UnknownProjection(projection)).and_then(|found| {
            let definition = &self.config.projections[found.0 as usize];
            check_query(definition, &query).map(|()| found)
        });
        let projection = match checked {
            Ok(found) => found,
            Err(error) => {
                return self.notice(Notice::ViewRead { task: id, result: Err(error) });
            }
        };
        let serial = self.next_serial();
        let mut runner = projection.0 as RunnerIndex;
        if let ViewAt::Past(end) = at {
            runner = self.runners.iter().position(Option::is_none).unwrap_or(self.runners.len());
            if runner == self.runners.len() {
                self.runners.push(None);
            }
            self.runners[runner] = Some(Runner::new(projection, ViewKind::Live, serial, end));
        }
        let waits_for_now = match at {
            ViewAt::Now | ViewAt::Past(_) => true,
            // What is in memory is of the moment it is asked.
            _ => self.runner(runner).stored().is_none() && query != ViewQuery::Status,
        };
        let found = self.runner_mut(runner);
        let mut complete = 0;
        if waits_for_now {
            complete = found.reads + 1;
            found.wanted = complete;
            self.ready_runners.push_back(runner);
        }
        self.runner_mut(runner).waiting.insert((serial, id));
        let task =
            ViewTask { serial, runner, at, query, complete, asked: 0, at_least: Position(0) };
        self.tasks.insert(id, Task::View(Box::new(task)));
        self.ready.push_back(id);
    }

    #[inline(never)]
    pub(super) fn step_view(&mut self, id: TaskId) {
        let Some(Task::View(task)) = self.tasks.get(&id) else {
            return;
        };
        if !matches!(self.store, Store::Open(_)) || task.asked != 0 {
            return;
        }
        let index = task.runner;
        let definition = self.definition(index);
        let runner = self.runner(index);
        if runner.stored().is_some_and(|stored| !stored.is_known) {
            return;
        }
        let shown = runner.shown(definition);
        let is_there = match task.at {
            ViewAt::Reached if task.complete == 0 => shown > 0 || task.query == ViewQuery::Status,
            ViewAt::After(position) if task.complete == 0 => {
                shown == definition.version && runner.seen >= position
            }
            ViewAt::After(position) => runner.seen >= position && runner.complete >= task.complete,
            _ => shown == definition.version && runner.complete >= task.complete,
        };
        if !is_there {
            if let Some(error) = runner.stop_error(definition) {
                self.finish_view(id, Err(error));
            }
            return;
        }
        if let ViewAt::Past(LogEnd::Position(asked)) = task.at
            && asked > runner.head
        {
            let error = ReadError::NoSuchPosition { asked, head: runner.head };
            return self.finish_view(id, Err(error));
        }
        let status = runner.status(definition);
        if task.query == ViewQuery::Status {
            if runner.cancels {
                // It is told when it is done.
                return;
            }
            let read = ViewRead {
                position: runner.seen,
                documents: Vec::new(),
                more: false,
                count: 0,
                status,
            };
            return self.finish_view(id, Ok(read));
        }
        let collection = collection_of(&definition.name, shown);
        let (get, scan) = match &task.query {
            ViewQuery::Get(key) => (Some(DocumentName { collection, key: Arc::clone(key) }), None),
            ViewQuery::Scan(scan) => (None, Some(scan.clone().within(collection))),
            ViewQuery::Status => unreachable!("answered above"),
        };
        if let Place::Memory(documents) = &runner.place {
            let read = ReadDocuments {
                names: get.into_iter().collect(),
                scans: scan.into_iter().collect(),
            };
            let mut found = documents.read(&read, runner.seen);
            let document = found.documents.pop().flatten();
            let read = view_read(&read.names, document, found.scans.pop(), runner.seen, status);
            return self.finish_view(id, Ok(read));
        }
        let checkpoint = checkpoint_of(&definition.name, shown);
        // Whoever has had a command's outcome finds its events in an inline view.
        let (seen, is_inline) = (runner.seen, definition.kind == ViewKind::Inline);
        let is_own = shown == definition.version;
        if let Some(Task::View(task)) = self.tasks.get_mut(&id) {
            task.asked = shown;
            let from_here_on = is_own && (is_inline || task.at != ViewAt::Reached);
            task.at_least = if from_here_on { seen } else { Position(0) };
        }
        self.view_wishes.push(ViewWish { task: id, checkpoint, get, scan });
    }

    /// Sends the questions that came up as one request.
    #[inline(never)]
    pub(super) fn send_view_reads(&mut self) {
        let mut read = ReadDocuments::default();
        let mut parts = Vec::with_capacity(self.view_wishes.len());
        for ViewWish { task, checkpoint, get, scan } in std::mem::take(&mut self.view_wishes) {
            let Some(Task::View(asking)) = self.tasks.get(&task) else {
                continue;
            };
            let mut name = |name| {
                read.names.push(name);
                read.names.len() - 1
            };
            parts.push(ViewPart {
                task,
                serial: asking.serial,
                checkpoint: name(checkpoint),
                get: get.map(name),
                scan: scan.map(|scan| {
                    read.scans.push(scan);
                    read.scans.len() - 1
                }),
            });
        }
        if !parts.is_empty() {
            self.send(StorageBody::ReadDocuments(Arc::new(read)), Purpose::Views(parts));
        }
    }

    #[inline(never)]
    pub(super) fn views_read(&mut self, parts: Vec<ViewPart>, found: DocumentsRead) {
        let DocumentsRead { mut documents, scans, .. } = found;
        let mut scans: Vec<_> = scans.into_iter().map(Some).collect();
        for part in parts {
            let scan = part.scan.and_then(|index| scans[index].take());
            let Some(Task::View(task)) = self.tasks.get_mut(&part.task) else {
                continue;
            };
            if task.serial != part.serial {
                continue;
            }
            let (index, asked) = (task.runner, std::mem::take(&mut task.asked));
            let definition = &self.config.projections[index];
            let runner = self.runners[index].as_mut().expect("a projection's runner stays");
            let Place::Store(stored) = &mut runner.place else {
                unreachable!("those in memory are answered without the store")
            };
            let is_own = asked == definition.version;
            let checkpoint = documents[part.checkpoint].take();
            let built = checkpoint.as_ref().is_some_and(|found| is_built(&found.value));
            let revision = checkpoint.map_or(0, |found| found.revision);
            // Where there was nothing to save, the view has come further than its checkpoint.
            let is_as_left = is_own && revision == stored.revision;
            let position =
                if is_as_left { stored.saved.max(runner.seen) } else { Position(revision) };
            let nothing_was_saved = is_as_left && stored.saved.0 == 0;
            if !(built || nothing_was_saved) || position < task.at_least {
                // Somebody has cleared it, or makes it anew. It is looked for again.
                stored.built &= !is_own;
                stored.older.retain(|(version, _)| *version != asked);
                if matches!(runner.step, Step::Idle) {
                    runner.step = Step::Start;
                }
                self.ready_runners.push_back(index);
                self.ready.push_back(part.task);
                continue;
            }
            // Another version may be shown by now.
            let status = ViewStatus { version: asked, ..runner.status(definition) };
            let names: Vec<_> = match &task.query {
                ViewQuery::Get(key) => {
                    let collection = collection_of(&definition.name, asked);
                    vec![DocumentName { collection, key: Arc::clone(key) }]
                }
                _ => Vec::new(),
            };
            let document = part.get.and_then(|index| documents[index].take());
            let read = view_read(&names, document, scan, position, status);
            self.finish_view(part.task, Ok(read));
        }
    }

    pub(super) fn views_failed(&mut self, parts: Vec<ViewPart>, error: &StorageError) {
        for ViewPart { task, serial, .. } in parts {
            if self.tasks.get(&task).is_some_and(|found| found.serial() == serial) {
                self.finish_view(task, Err(error.clone().into()));
            }
        }
    }

    #[inline(never)]
    pub(super) fn finish_view(&mut self, id: TaskId, result: Result<ViewRead, ReadError>) {
        let Some(Task::View(task)) = self.tasks.remove(&id) else {
            unreachable!("task {} is a question for a view", id.0)
        };
        if let Some(runner) = self.runners[task.runner].as_mut() {
            runner.waiting.remove(&(task.serial, id));
        }
        if matches!(task.at, ViewAt::Past(_)) {
            self.runners[task.runner] = None;
        }
        self.notice(Notice::ViewRead { task: id, result });
    }
}

#[inline(never)]
fn view_read(
    names: &[DocumentName],
    document: Option<StoredDocument>,
    scan: Option<ScannedPage>,
    position: Position,
    status: ViewStatus,
) -> ViewRead {
    let ScannedPage { mut documents, more, count } = scan.unwrap_or_default();
    if let (Some(DocumentName { key, .. }), Some(document)) = (names.first(), document) {
        let place = ScanPlace { at: Arc::clone(key), key: Arc::clone(key) };
        documents.push((place, document));
    }
    ViewRead { position, documents, more, count, status }
}

/// Whether the index that is asked is one of the projection's.
#[inline(never)]
fn check_query(definition: &ProjectionDefinition, query: &ViewQuery) -> Result<(), ReadError> {
    match query {
        ViewQuery::Scan(ViewScan { index: Some(index), .. })
            if !definition.indexes.contains(index) =>
        {
            let (projection, index) = (Arc::clone(&definition.name), Arc::clone(index));
            Err(ReadError::UnknownIndex { projection, index })
        }
        _ => Ok(()),
    }
}
