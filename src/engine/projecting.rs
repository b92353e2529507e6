//! Projections: how views come to be, and what they answer.
//!
//! A *runner* takes the log in, page by page. Documents and the checkpoint that says how far they
//! have come are saved together, and only if the checkpoint is where they were computed from: of
//! several engines on one store one is faster, and the others go on from where it has come. What they
//! read to compute them is read with the checkpoint, for a view may be cleared and made anew. Views
//! that are folded when they are asked, and those of the past, have their documents in memory.
//!
//! A view whose version is new is built beside the one before it, which is shown until then.

use std::sync::Arc;

use crate::documents::{Documents, end_of_prefix};
use crate::domain::{AggregateDefinition, EventText};
use crate::error::{ReadError, StorageError};
use crate::payload::json_string;
use crate::projection::{
    CANCELLED, CHECKPOINTS, Known, LogEvent, NativeProjection, ProjectionDefinition, ViewKind,
};
use crate::protocol::{
    ControlView, Document, DocumentExpectation, DocumentName, DocumentScan, DocumentValue,
    DocumentsRead, EventPlace, LogEnd, LogPage, Notice, Output, Posting, Project, ProjectAnswer,
    Projected, ProjectedDocument, ProjectionIndex, ReadDocuments, ReadLog, SaveDocuments, Saved,
    SkippedEvents, StorageAnswer, StorageBody, StoredDocument, ViewAction, ViewStatus, ViewStop,
};
use crate::stream::Position;
use crate::time::Timestamp;

use super::requests::Purpose;
use super::sorted::ByAge;
use super::{Engine, KeptPage, Store, Timer, mutant};

/// Place of a runner among those of the engine: first one for each projection, then those of views
/// of the past.
pub(super) type RunnerIndex = usize;

/// Takes the log in for a view.
pub(super) struct Runner {
    projection: ProjectionIndex,
    /// Tells it from others that had its place: answers to them are not for it.
    serial: u64,
    pub(super) place: Place,
    end: LogEnd,
    pub(super) step: Step,
    /// All up to here has been taken in.
    pub(super) seen: Position,
    /// Position of the store's last event, as far as it is known.
    pub(super) head: Position,
    /// Whether somebody has appended since the log was last read, nobody knows how far.
    grown: bool,
    /// Number of times the log has been read.
    pub(super) reads: u64,
    /// Number of the last read after which all that was in the log had been taken in.
    pub(super) complete: u64,
    /// Number of the read that somebody waits for.
    pub(super) wanted: u64,
    /// Pages that were taken in one after the other.
    in_a_row: u32,
    /// Failures in a row, of the store or because others were faster.
    failures: u32,
    /// What the store said when it failed last, until it answers again.
    trouble: Option<Arc<str>>,
    paused: bool,
    stopped: Option<ViewStop>,
    /// Whether it is to be given up, if it has not been built.
    pub(super) cancels: bool,
    /// Whether it goes on though its checkpoint says that it was given up.
    resumes: bool,
    /// Number of events of unknown types that have been passed by up to there.
    skipped: u32,
    /// The next look at the log, where the store does not tell.
    look_at: Option<Timestamp>,
    /// Questions that wait for it.
    pub(super) waiting: ByAge,
}

/// Where a view's documents are.
pub(super) enum Place {
    Memory(Documents),
    Store(Stored),
}

#[derive(Default)]
pub(super) struct Stored {
    /// Whether the checkpoint has been looked for.
    pub(super) is_known: bool,
    /// Position of the checkpoint there; 0 if there is none, or the view was given up.
    pub(super) saved: Position,
    /// Revision of the checkpoint: its position, but where the view was given up.
    pub(super) revision: u64,
    /// Whether this version was given up while it was being built.
    cancelled: bool,
    /// Whether this version has been at the log's end.
    pub(super) built: bool,
    /// The older versions that are there, and whether they have been built.
    pub(super) older: Vec<(u32, bool)>,
    /// Whether the older ones may go: this version had been built before this engine began, so that
    /// releases that show them are gone, or make them anew. They go once: two releases that are run
    /// for long would only make each other work.
    clears: bool,
}

/// What a runner does.
pub(super) enum Step {
    /// It has taken in all that it knows of.
    Idle,
    /// The checkpoint is to be looked for, and is being looked for.
    Start,
    Starting,
    /// The log is to be read, and is being read.
    Read,
    Reading,
    /// The host takes a page in, under this number; documents are being loaded for it; what came of it
    /// is being saved.
    Projecting(u64, Box<Work>),
    Loading(Box<Work>),
    Saving(Box<Work>),
    /// It is being given up: its checkpoint will have this revision.
    Cancelling(u64),
    /// It waits until then, to look for its checkpoint again, or to go on.
    Pausing(Timestamp, bool),
}

/// A page under work.
pub(super) struct Work {
    page: KeptPage,
    /// What else is told of the events of a page of rows.
    places: Vec<EventPlace>,
    end: LogEnd,
    known: Known,
    /// Up to where the log will have been taken in.
    reached: Position,
    /// Whether nothing is beyond that: neither in the log, nor before the end of a view of the past.
    complete: bool,
    /// Whether the view has other documents after it.
    changes: bool,
    stop: Option<ViewStop>,
    /// Events of unknown types in it that are passed by.
    skipped: Vec<SkippedEvents>,
    /// What the mutant that saves the checkpoint first saves after it.
    late: Vec<Document>,
}

/// Whether a view has taken in what is asked.
pub(super) enum Lag {
    None,
    Waits,
    Behind(Arc<str>),
}

/// The collection that a view's documents are in.
pub(super) fn collection_of(name: &str, version: u32) -> Arc<str> {
    format!("view/{version}/{name}").into()
}

/// How the keys of the checkpoints of all versions begin: a JSON array of name and version, so that no
/// name is the beginning of another.
fn checkpoints_of(name: &str) -> String {
    format!("[{},", json_string(name))
}

/// The name of a view's checkpoint. Its revision is the position up to which the view has come.
pub(super) fn checkpoint_of(name: &str, version: u32) -> DocumentName {
    let key = format!("{}{version}]", checkpoints_of(name)).into();
    DocumentName { collection: CHECKPOINTS.into(), key }
}

const BUILT: &str = r#"{"built":true"#;
const BUILDING: &str = r#"{"built":false"#;
const SKIPPED: &str = r#","skipped":"#;

/// What a checkpoint says besides its position: whether the view has been built, and how many events of
/// unknown types up to there have been passed by, if any have.
fn checkpoint_text(built: bool, skipped: u32) -> Arc<str> {
    let text = if built { BUILT } else { BUILDING };
    match skipped {
        0 => format!("{text}}}").into(),
        _ => format!("{text}{SKIPPED}{skipped}}}").into(),
    }
}

/// Whether a checkpoint with this text says that the view has been built.
pub(super) fn is_built(text: &str) -> bool {
    text.starts_with(BUILT)
}

fn skipped_of(text: &str) -> u32 {
    let rest = text.strip_prefix(BUILT).or_else(|| text.strip_prefix(BUILDING));
    let count = rest.and_then(|rest| rest.strip_prefix(SKIPPED)?.strip_suffix('}'));
    count.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Pages after which a view lets others go first: hosts with a store that answers at once would do
/// nothing else until it is built.
const MAX_IN_A_ROW: u32 = 4;

/// Pages' worth of the log that may change nothing before it is written down that they have been taken
/// in: who comes after reads so much again.
const MAX_UNSAVED_PAGES: u64 = 16;

/// Longest pause after failures of the store, in milliseconds.
const MAX_PAUSE: u64 = 30_000;

impl Runner {
    pub(super) fn new(
        projection: ProjectionIndex,
        kind: ViewKind,
        serial: u64,
        end: LogEnd,
    ) -> Self {
        let (place, step) = if kind == ViewKind::Live || end != LogEnd::Head {
            (Place::Memory(Documents::default()), Step::Idle)
        } else {
            (Place::Store(Stored::default()), Step::Start)
        };
        Self {
            projection,
            serial,
            place,
            end,
            step,
            seen: Position(0),
            head: Position(0),
            grown: false,
            reads: 0,
            complete: 0,
            wanted: 0,
            in_a_row: 0,
            failures: 0,
            trouble: None,
            paused: false,
            stopped: None,
            cancels: false,
            resumes: false,
            skipped: 0,
            look_at: None,
            waiting: ByAge::default(),
        }
    }

    pub(super) fn stored(&self) -> Option<&Stored> {
        match &self.place {
            Place::Store(stored) => Some(stored),
            Place::Memory(_) => None,
        }
    }

    /// Whether there is something to take in that somebody wants.
    fn is_behind(&self) -> bool {
        let by_itself = self.stored().is_some() && (self.seen < self.head || self.grown);
        by_itself || self.complete < self.wanted
    }

    /// The version that is shown, 0 if none can be.
    pub(super) fn shown(&self, definition: &ProjectionDefinition) -> u32 {
        match self.stored() {
            Some(stored) if !stored.built => {
                let built = stored.older.iter().filter(|(_, built)| *built);
                built.map(|(version, _)| *version).max().unwrap_or(0)
            }
            _ => definition.version,
        }
    }

    pub(super) fn status(&self, definition: &ProjectionDefinition) -> ViewStatus {
        ViewStatus {
            version: self.shown(definition),
            reached: self.seen,
            head: self.head.max(self.seen),
            building: self.stored().is_some_and(|stored| !stored.built),
            paused: self.paused,
            stopped: self.stopped.clone(),
            skipped: self.skipped,
        }
    }

    pub(super) fn stop_error(&self, definition: &ProjectionDefinition) -> Option<ReadError> {
        let ViewStop { position, reason } = self.stopped.clone()?;
        let projection = Arc::clone(&definition.name);
        Some(ReadError::ProjectionStopped { projection, position, reason })
    }

    /// Whether the view has all up to a position. One that is being built is not waited for, unless it
    /// is nearly there.
    pub(super) fn lag(&self, position: Position, page_limit: u32) -> Lag {
        let building = self.stored().is_some_and(|stored| !stored.built)
            && self.seen.0 + u64::from(page_limit) < self.head.0;
        if let Some(stop) = &self.stopped {
            Lag::Behind(Arc::clone(&stop.reason))
        } else if self.paused {
            Lag::Behind("it is paused".into())
        } else if building {
            Lag::Behind("it is being built".into())
        } else if let Some(trouble) = &self.trouble {
            Lag::Behind(Arc::clone(trouble))
        } else if self.seen >= position {
            Lag::None
        } else {
            Lag::Waits
        }
    }
}

impl Engine {
    pub(super) fn start_runners(&mut self) {
        for (index, definition) in (0..).zip(&self.config.projections) {
            let runner = Runner::new(ProjectionIndex(index), definition.kind, 0, LogEnd::Head);
            self.runners.push(Some(runner));
        }
    }

    pub(super) fn runner(&self, index: RunnerIndex) -> &Runner {
        self.runners[index].as_ref().expect("the caller has looked")
    }

    pub(super) fn runner_mut(&mut self, index: RunnerIndex) -> &mut Runner {
        self.runners[index].as_mut().expect("the caller has looked")
    }

    pub(super) fn definition(&self, index: RunnerIndex) -> &ProjectionDefinition {
        &self.config.projections[self.runner(index).projection.0 as usize]
    }

    /// The store has been opened: what views have come to is to be looked up.
    pub(super) fn wake_runners(&mut self) {
        self.ready_runners.extend(0..self.runners.len());
    }

    /// The store was replaced: what is known of the views is of another life.
    pub(super) fn restart_runners(&mut self) {
        for index in 0..self.runners.len() {
            let Some(runner) = self.runners[index].take() else {
                continue;
            };
            let Runner { projection, paused, waiting, end, .. } = runner;
            let kind = self.config.projections[projection.0 as usize].kind;
            let fresh = Runner::new(projection, kind, self.next_serial(), end);
            self.runners[index] = Some(Runner { paused, waiting, ..fresh });
            if index < self.config.projections.len() {
                // Whatever it shows is of another life.
                self.notice(Notice::ViewMoved(projection));
            }
        }
        self.view_wishes.clear();
        for held in std::mem::take(&mut self.held_back) {
            self.let_go(held, Some("the store was replaced".into()));
        }
    }

    #[inline(never)]
    pub(super) fn step_runner(&mut self, index: RunnerIndex) {
        let Some(runner) = self.runners[index].as_mut() else {
            return;
        };
        let serial = runner.serial;
        match std::mem::replace(&mut runner.step, Step::Idle) {
            Step::Start => {
                runner.step = Step::Starting;
                let prefix = checkpoints_of(&self.definition(index).name);
                let scan = DocumentScan {
                    collection: CHECKPOINTS.into(),
                    index: None,
                    to: end_of_prefix(&prefix),
                    from: Some(prefix.into()),
                    after: None,
                    descending: false,
                    limit: Some(u32::MAX),
                };
                let read = ReadDocuments { names: Vec::new(), scans: vec![scan] };
                self.send(
                    StorageBody::ReadDocuments(Arc::new(read)),
                    Purpose::Runner(index, serial),
                );
            }
            Step::Idle | Step::Read => self.read_on(index),
            step => runner.step = step,
        }
    }

    /// Reads the next page, if there is something to take in.
    fn read_on(&mut self, index: RunnerIndex) {
        if self.runner(index).cancels {
            return self.cancel_build(index);
        }
        let (limit, filter) = (self.config.page_limit, self.definition(index).filter.clone());
        let held = self.definition(index).native.is_none();
        let runner = self.runner_mut(index);
        if !runner.is_behind() || runner.paused || runner.stopped.is_some() {
            return self.look_later(index);
        }
        let read = ReadLog { after: runner.seen, descending: false, filter, limit, held };
        runner.step = Step::Reading;
        runner.grown = false;
        runner.reads += 1;
        let serial = runner.serial;
        self.send(StorageBody::ReadLog(Arc::new(read)), Purpose::Runner(index, serial));
    }

    /// A store that does not tell is looked at again and again.
    fn look_later(&mut self, index: RunnerIndex) {
        let notifies = matches!(&self.store, Store::Open(info) if info.notifies);
        let runner = self.runner(index);
        // No store tells that a view is built again.
        let is_told = notifies && !runner.stored().is_some_and(|stored| stored.cancelled);
        if is_told || runner.stored().is_none() || runner.look_at.is_some() {
            return;
        }
        let at = self.set_timer(self.config.poll_interval, Timer::Runner(index));
        self.runner_mut(index).look_at = Some(at);
    }

    pub(super) fn runner_timer(&mut self, index: RunnerIndex, at: Timestamp) {
        let Some(runner) = self.runners.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if runner.look_at == Some(at) {
            runner.look_at = None;
            runner.grown = true;
            if matches!(runner.step, Step::Idle)
                && runner.stored().is_some_and(|stored| stored.cancelled)
            {
                runner.step = Step::Start;
            }
        }
        if let Step::Pausing(until, starts) = runner.step
            && until == at
        {
            let starts = starts && runner.stored().is_some();
            runner.step = if starts { Step::Start } else { Step::Read };
        }
        self.ready_runners.push_back(index);
    }

    /// Somebody has appended.
    pub(super) fn advance_runners(&mut self, position: Option<Position>) {
        let views = self.config.projections.len();
        for (index, runner) in self.runners.iter_mut().enumerate() {
            let Some(runner) = runner else {
                continue;
            };
            if runner.stored().is_none() && runner.reads > 0 && index < views {
                // It is folded when it is asked, and there is something new to ask for.
                self.outputs.push_back(Output::Notice(Notice::ViewMoved(runner.projection)));
            }
            match position {
                Some(position) => runner.head = runner.head.max(position),
                None => runner.grown = true,
            }
            if runner.stored().is_some() && matches!(runner.step, Step::Idle) {
                self.ready_runners.push_back(index);
            }
        }
    }

    // -----------------------------------------------------------------------------------------
    // A page's way

    #[inline(never)]
    pub(super) fn runner_answered(
        &mut self,
        index: RunnerIndex,
        serial: u64,
        answer: StorageAnswer,
    ) {
        if self.runners[index].as_ref().is_none_or(|runner| runner.serial != serial) {
            return self.discard(answer);
        }
        let runner = self.runner_mut(index);
        runner.trouble = None;
        match (std::mem::replace(&mut runner.step, Step::Idle), answer) {
            (Step::Starting, StorageAnswer::Documents(found)) => self.started(index, found),
            (Step::Reading, StorageAnswer::Log(log)) => self.page_read(index, log),
            (Step::Loading(work), StorageAnswer::Documents(found)) => {
                self.known_loaded(index, work, found);
            }
            (Step::Saving(work), StorageAnswer::Saved(saved)) => {
                self.page_saved(index, work, saved)
            }
            (Step::Cancelling(revision), StorageAnswer::Saved(saved)) => {
                self.build_cancelled(index, revision, &saved);
            }
            _ => unreachable!("StorageBody::fits was asked"),
        }
    }

    #[inline(never)]
    fn started(&mut self, index: RunnerIndex, found: DocumentsRead) {
        let DocumentsRead { scans, head, .. } = found;
        let own = self.definition(index).version;
        let prefix = checkpoints_of(&self.definition(index).name);
        let runner = self.runner_mut(index);
        let Place::Store(stored) = &mut runner.place else {
            unreachable!("a view in memory has no checkpoint")
        };
        let before = stored.saved;
        stored.is_known = true;
        let is_first = runner.reads == 0;
        let was_cancelled = std::mem::take(&mut stored.cancelled);
        (stored.saved, stored.revision) = (Position(0), 0);
        stored.older.clear();
        let mut skipped = 0;
        for (place, StoredDocument { revision, value }) in
            scans.into_iter().flat_map(|page| page.documents)
        {
            let version = place.key.strip_prefix(&*prefix).and_then(|end| end.strip_suffix(']'));
            let Some(version) = version.and_then(|digits| digits.parse::<u32>().ok()) else {
                continue;
            };
            let built = is_built(&value);
            if version == own {
                stored.revision = revision;
                stored.built = built;
                if *value == *CANCELLED {
                    stored.cancelled = !runner.resumes;
                    continue;
                }
                skipped = skipped_of(&value);
                stored.saved = Position(revision);
                stored.clears |= built && is_first;
            } else if version < own {
                stored.older.push((version, built));
            }
        }
        if stored.saved.0 == 0 && before.0 > 0 {
            // Somebody has cleared it: it is made anew.
            stored.built = false;
        }
        // Where there was nothing to save, it has come further than its checkpoint says.
        let saved = stored.saved;
        if saved < before || saved > runner.seen {
            (runner.seen, runner.skipped) = (saved, skipped);
        }
        runner.head = runner.head.max(head);
        if stored.cancelled != was_cancelled {
            runner.stopped = stored.cancelled.then(cancelled);
        }
        if saved > head {
            let reason = format!("its checkpoint is at {saved}, beyond the log's end at {head}");
            runner.stopped = Some(ViewStop { position: saved, reason: reason.into() });
        }
        // The end of the log is looked at once, so that it is known to have been reached.
        runner.grown |= !stored.built;
        self.moved(index, saved != before);
    }

    #[inline(never)]
    fn page_read(&mut self, index: RunnerIndex, log: LogPage) {
        let LogPage { page, places, next, head } = log;
        let page = self.keep(page);
        let runner = self.runner_mut(index);
        runner.head = runner.head.max(head);
        let mut work = Box::new(Work {
            page,
            places,
            end: runner.end,
            known: Known::default(),
            reached: next,
            complete: next >= head,
            changes: false,
            stop: None,
            skipped: Vec::new(),
            late: Vec::new(),
        });
        if let LogEnd::Position(end) = work.end
            && next >= end
        {
            (work.reached, work.complete) = (end, true);
        }
        if work.page.is_empty() {
            return self.page_done(index, work, Vec::new());
        }
        self.project(index, work);
    }

    /// Takes a page in, here or in the host.
    #[inline(never)]
    fn project(&mut self, index: RunnerIndex, work: Box<Work>) {
        let projection = self.runner(index).projection;
        if let Some(native) = self.definition(index).native.clone() {
            let result = native_result(&*native, &self.config.aggregates, &work);
            return self.projected(index, work, result);
        }
        let KeptPage::Held(lease) = &work.page else {
            unreachable!("pages for the host's functions stay in the host")
        };
        let page = lease.page;
        let run = self.next_serial();
        let known = work.known.entries().to_vec();
        let project = Project { run, projection, page, end: work.end, known };
        self.runner_mut(index).step = Step::Projecting(run, work);
        self.outputs.push_back(Output::Project(project));
    }

    #[inline(never)]
    pub(super) fn host_projected(&mut self, answer: ProjectAnswer) {
        let ProjectAnswer { run, result } = answer;
        let index = self.runners.iter().position(|runner| {
            runner.as_ref().is_some_and(
                |runner| matches!(runner.step, Step::Projecting(asked, _) if asked == run),
            )
        });
        // It may have been given up meanwhile.
        let Some(index) = index else {
            return;
        };
        let runner = self.runner_mut(index);
        if let Step::Projecting(_, work) = std::mem::replace(&mut runner.step, Step::Idle) {
            self.projected(index, work, result);
        }
    }

    #[inline(never)]
    fn projected(&mut self, index: RunnerIndex, mut work: Box<Work>, result: Projected) {
        match result {
            Projected::Missing(keys) => self.load_known(index, work, keys),
            Projected::Failed { position, reason } => {
                work.end = LogEnd::Position(Position(position.0.saturating_sub(1)));
                work.stop = Some(ViewStop { position, reason });
                self.project(index, work);
            }
            Projected::Done { documents, beyond, skipped } => {
                if let Some(beyond) = beyond {
                    work.reached = work.reached.min(Position(beyond.0 - 1));
                    work.complete = work.stop.is_none();
                }
                match self.written(index, documents) {
                    Ok(documents) => {
                        work.skipped = skipped;
                        self.page_done(index, work, documents)
                    }
                    Err(reason) => {
                        let seen = self.runner(index).seen;
                        work.stop = Some(ViewStop { position: Position(seen.0 + 1), reason });
                        (work.reached, work.complete) = (seen, false);
                        self.page_done(index, work, Vec::new());
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn load_known(&mut self, index: RunnerIndex, mut work: Box<Work>, keys: Vec<Arc<str>>) {
        let definition = self.definition(index);
        let collection = collection_of(&definition.name, definition.version);
        let checkpoint = checkpoint_of(&definition.name, definition.version);
        let mut are_new = false;
        for key in keys {
            are_new |= work.known.insert(key, None);
        }
        let runner = self.runner_mut(index);
        if !are_new {
            let reason = "it asks again and again for documents that it has been given".into();
            work.stop = Some(ViewStop { position: Position(runner.seen.0 + 1), reason });
            (work.reached, work.complete) = (runner.seen, false);
            return self.page_done(index, work, Vec::new());
        }
        let name = |key: &Arc<str>| DocumentName {
            collection: Arc::clone(&collection),
            key: Arc::clone(key),
        };
        if let Place::Memory(documents) = &runner.place {
            for (key, text) in work.known.missing() {
                *text = documents.get(&name(key)).map(|found| Arc::clone(&found.value));
            }
            return self.project(index, work);
        }
        // Those that were not there before are asked again, which is simpler than to tell them apart.
        let mut names: Vec<_> = work.known.missing().map(|(key, _)| name(key)).collect();
        names.push(checkpoint);
        runner.step = Step::Loading(work);
        let serial = runner.serial;
        let read = ReadDocuments { names, scans: Vec::new() };
        self.send(StorageBody::ReadDocuments(Arc::new(read)), Purpose::Runner(index, serial));
    }

    #[inline(never)]
    fn known_loaded(&mut self, index: RunnerIndex, mut work: Box<Work>, found: DocumentsRead) {
        let mut documents = found.documents;
        let checkpoint = documents.pop().flatten().map_or(0, |found| found.revision);
        if self.runner(index).stored().is_some_and(|stored| stored.revision != checkpoint) {
            return self.was_slower(index);
        }
        for ((_, text), found) in work.known.missing().zip(documents) {
            *text = found.map(|found| found.value);
        }
        self.project(index, work);
    }

    /// Another engine has taken the page in. Those who get in each other's way part.
    #[inline(never)]
    fn was_slower(&mut self, index: RunnerIndex) {
        let runner = self.runner_mut(index);
        runner.failures += 1;
        let failures = runner.failures;
        let pause = self.back_off(failures);
        self.pause_runner(index, pause, true);
    }

    /// The documents as they are stored.
    #[inline(never)]
    fn written(
        &self,
        index: RunnerIndex,
        documents: Vec<ProjectedDocument>,
    ) -> Result<Vec<Document>, Arc<str>> {
        let definition = self.definition(index);
        let collection = collection_of(&definition.name, definition.version);
        let mut written = Vec::with_capacity(documents.len());
        for ProjectedDocument { key, value, postings } in documents {
            let mut entries = Vec::with_capacity(postings.len());
            for (index, value) in postings {
                if !definition.indexes.contains(&index) {
                    return Err(format!("document {key}: it has no index {index:?}").into());
                }
                entries.push(Posting { index, value });
            }
            written.push(Document {
                name: DocumentName { collection: Arc::clone(&collection), key },
                // Put in when it is known.
                revision: 0,
                value: value.map_or(DocumentValue::Removed, DocumentValue::Text),
                postings: entries,
            });
        }
        Ok(written)
    }

    /// A page has been taken in: what came of it is kept.
    #[inline(never)]
    fn page_done(&mut self, index: RunnerIndex, mut work: Box<Work>, mut documents: Vec<Document>) {
        let reached = work.reached;
        for document in &mut documents {
            document.revision = reached.0;
        }
        work.changes = !documents.is_empty();
        let name = Arc::clone(&self.definition(index).name);
        let version = self.definition(index).version;
        let saves_checkpoint_first = mutant!(self, CheckpointFirst);
        let unsaved = u64::from(self.config.page_limit) * MAX_UNSAVED_PAGES;
        let runner = self.runner_mut(index);
        let skipped = runner.skipped + work.skipped.len() as u32;
        match &mut runner.place {
            Place::Memory(table) => {
                let save = SaveDocuments { documents, ..SaveDocuments::default() };
                table.save(&save).expect("nothing is expected, and no text is the host's");
            }
            Place::Store(stored) => {
                let is_built = stored.built || work.complete;
                let is_near = reached.0 < stored.saved.0 + unsaved;
                if documents.is_empty() && is_near && is_built == stored.built || reached.0 == 0 {
                    stored.built = is_built;
                } else {
                    let mut clear = Vec::new();
                    if stored.saved.0 == 0 {
                        // What may be left of another life.
                        clear.push(collection_of(&name, version));
                    }
                    if saves_checkpoint_first {
                        work.late = std::mem::take(&mut documents);
                    }
                    let checkpoint = checkpoint_of(&name, version);
                    documents.push(Document {
                        name: checkpoint.clone(),
                        revision: reached.0,
                        value: DocumentValue::Text(checkpoint_text(is_built, skipped)),
                        postings: Vec::new(),
                    });
                    if stored.clears {
                        for (older, _) in std::mem::take(&mut stored.older) {
                            clear.push(collection_of(&name, older));
                            documents.push(Document {
                                name: checkpoint_of(&name, older),
                                revision: 0,
                                value: DocumentValue::Removed,
                                postings: Vec::new(),
                            });
                        }
                    }
                    let revision = stored.revision;
                    let expected = vec![DocumentExpectation { name: checkpoint, revision }];
                    return self.save(index, work, SaveDocuments { expected, clear, documents });
                }
            }
        }
        self.taken_in(index, *work);
    }

    #[inline(never)]
    fn save(&mut self, index: RunnerIndex, work: Box<Work>, save: SaveDocuments) {
        let runner = self.runner_mut(index);
        runner.step = Step::Saving(work);
        let serial = runner.serial;
        self.send(StorageBody::SaveDocuments(Arc::new(save)), Purpose::Runner(index, serial));
    }

    #[inline(never)]
    fn page_saved(&mut self, index: RunnerIndex, mut work: Box<Work>, saved: Saved) {
        if let Saved::Conflict { .. } = saved {
            return self.was_slower(index);
        }
        if !work.late.is_empty() {
            let documents = std::mem::take(&mut work.late);
            let save = SaveDocuments { documents, ..SaveDocuments::default() };
            return self.save(index, work, save);
        }
        self.runner_mut(index).resumes = false;
        if let Place::Store(stored) = &mut self.runner_mut(index).place {
            (stored.saved, stored.revision) = (work.reached, work.reached.0);
            // What is there again from now on is still made by somebody.
            stored.clears = false;
            work.changes |= stored.built != (stored.built || work.complete);
            stored.built |= work.complete;
        }
        self.taken_in(index, *work);
    }

    #[inline(never)]
    fn taken_in(&mut self, index: RunnerIndex, work: Work) {
        let runner = self.runner_mut(index);
        runner.seen = runner.seen.max(work.reached);
        runner.failures = 0;
        if work.complete {
            runner.complete = runner.reads;
        }
        let changes = work.changes || work.stop.is_some();
        runner.stopped = work.stop;
        runner.skipped += work.skipped.len() as u32;
        for skipped in work.skipped {
            self.notice(Notice::Skipped(skipped));
        }
        let runner = self.runner_mut(index);
        runner.in_a_row += 1;
        if runner.in_a_row == MAX_IN_A_ROW {
            runner.in_a_row = 0;
            if runner.is_behind() {
                self.pause_runner(index, 1, false);
            }
        }
        self.moved(index, changes);
    }

    /// Takes away what has been built, if it is not done, and writes down that nobody goes on.
    #[inline(never)]
    fn cancel_build(&mut self, index: RunnerIndex) {
        let definition = self.definition(index);
        let collection = collection_of(&definition.name, definition.version);
        let name = checkpoint_of(&definition.name, definition.version);
        let runner = self.runner_mut(index);
        let Some(Stored { built: false, cancelled: false, revision, .. }) = runner.stored() else {
            runner.cancels = false;
            return self.moved(index, false);
        };
        let revision = *revision;
        let after = self.cancelled_after(revision);
        let runner = self.runner_mut(index);
        let expected = vec![DocumentExpectation { name: name.clone(), revision }];
        let checkpoint = Document {
            name,
            revision: after,
            value: DocumentValue::Text(CANCELLED.into()),
            postings: Vec::new(),
        };
        runner.step = Step::Cancelling(after);
        let serial = runner.serial;
        let save = SaveDocuments { expected, clear: vec![collection], documents: vec![checkpoint] };
        self.send(StorageBody::SaveDocuments(Arc::new(save)), Purpose::Runner(index, serial));
    }

    /// The revision of the checkpoint of a view that is given up when it has this one: none that has been or
    /// will be a position, so that nobody goes on from it who believes to be there.
    fn cancelled_after(&self, revision: u64) -> u64 {
        if mutant!(self, CancelledAtPosition) && revision > 1 {
            return revision - 1;
        }
        revision.max(1 << 52) + 1
    }

    #[inline(never)]
    fn build_cancelled(&mut self, index: RunnerIndex, revision: u64, saved: &Saved) {
        if let Saved::Conflict { .. } = saved {
            return self.was_slower(index);
        }
        let runner = self.runner_mut(index);
        let Place::Store(stored) = &mut runner.place else {
            unreachable!("a view in memory is not built")
        };
        (stored.saved, stored.revision) = (Position(0), revision);
        (runner.seen, runner.skipped, runner.cancels) = (Position(0), 0, false);
        // Somebody may have thought better of it.
        stored.cancelled = !runner.resumes;
        runner.stopped = stored.cancelled.then(cancelled);
        self.moved(index, true);
    }

    /// A runner has come to the end of something: it goes on, and so do those who wait for it.
    #[inline(never)]
    fn moved(&mut self, index: RunnerIndex, changes: bool) {
        self.ready_runners.push_back(index);
        let runner = self.runners[index].as_ref().expect("the caller has looked");
        let projection = runner.projection;
        self.ready.extend(runner.waiting.iter().map(|(_, task)| *task));
        if index < self.config.projections.len() {
            if changes {
                self.notice(Notice::ViewMoved(projection));
            }
            self.let_go_of_outcomes();
        }
    }

    fn pause_runner(&mut self, index: RunnerIndex, millis: u64, starts: bool) {
        let at = self.set_timer(millis, Timer::Runner(index));
        self.runner_mut(index).step = Step::Pausing(at, starts);
    }

    /// The store could not answer. Those who wait are told; the view tries again later.
    #[inline(never)]
    pub(super) fn runner_failed(&mut self, index: RunnerIndex, serial: u64, error: &StorageError) {
        let Some(runner) = self.runners[index].as_mut().filter(|runner| runner.serial == serial)
        else {
            return;
        };
        runner.failures += 1;
        runner.trouble = Some(error.to_string().into());
        let pause = (250 << runner.failures.min(7)).min(MAX_PAUSE);
        for (_, task) in std::mem::take(&mut runner.waiting).iter() {
            self.finish_view(*task, Err(error.clone().into()));
        }
        // A view of the past has gone with its question.
        if self.runners[index].is_some() {
            let jitter = self.ids.below(250);
            self.pause_runner(index, pause + jitter, true);
            self.let_go_of_outcomes();
        }
    }

    #[inline(never)]
    pub(super) fn control_view(&mut self, control: ControlView) {
        let Some(ProjectionIndex(index)) = self.projection_index(&control.projection) else {
            return;
        };
        let index = index as RunnerIndex;
        let runner = self.runner_mut(index);
        match control.action {
            ViewAction::Pause => runner.paused = true,
            ViewAction::Cancel => {
                runner.cancels = runner.stored().is_some();
                runner.resumes = false;
            }
            ViewAction::Resume => {
                // That it was given up may be in the store, though no answer has said so.
                let may_be = |stored: &Stored| stored.cancelled || !stored.is_known;
                runner.resumes |= runner.cancels || runner.stored().is_some_and(may_be);
                (runner.paused, runner.cancels) = (false, false);
                if runner.stopped.take().is_some() && matches!(runner.step, Step::Idle) {
                    let is_stored = runner.stored().is_some();
                    runner.step = if is_stored { Step::Start } else { Step::Read };
                }
            }
        }
        self.moved(index, true);
    }

    /// Whether views have taken in all that is in the log, and are at rest.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn views_are_at(&self, head: Position) -> bool {
        self.runners.iter().flatten().filter(|runner| runner.stored().is_some()).all(|runner| {
            matches!(runner.step, Step::Idle) && (runner.seen >= head || runner.stopped.is_some())
        })
    }
}

/// How a view has stopped that was given up.
fn cancelled() -> ViewStop {
    ViewStop { position: Position(0), reason: "its building was cancelled".into() }
}

#[inline(never)]
fn native_result(
    native: &dyn NativeProjection,
    aggregates: &[AggregateDefinition],
    work: &Work,
) -> Projected {
    match &work.page {
        KeptPage::Events(events) => {
            let mut events = events.iter().map(LogEvent::of);
            native.project(&mut events, aggregates, &work.known, work.end)
        }
        KeptPage::Rows(rows) => {
            let rows = rows.1.iter().zip(&work.places);
            let mut events = rows.map(|(row, place)| LogEvent {
                stream: &row.stream,
                revision: row.revision,
                text: EventText {
                    event_type: &row.event_type,
                    schema_version: row.schema_version,
                    data: &row.data,
                },
                position: place.position,
                recorded_at: place.recorded_at,
                issued_at: row.issued_at,
                actor: row.actor.as_deref(),
            });
            native.project(&mut events, aggregates, &work.known, work.end)
        }
        KeptPage::Messages(..) | KeptPage::Upcast(_) | KeptPage::Held(_) => {
            unreachable!("the log is asked for events that native functions can read")
        }
    }
}
