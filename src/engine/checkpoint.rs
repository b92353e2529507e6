//! Checkpoints of named subscriptions: where a reader goes on, and how far it has come.
//!
//! A checkpoint is a document whose revision is the position of the first event that has not been
//! handled. A reader moves it from where it has left it, so that of two readers with one name the
//! slower finds out. It is moved when the reader asks for more, before more is read: whoever ends in
//! the middle of a page gets that page again, and no other.

use std::sync::Arc;

use crate::error::ReadError;
use crate::event::TaskId;
use crate::protocol::{
    AskCheckpoint, CheckpointWish, Document, DocumentExpectation, DocumentName, DocumentValue,
    DocumentsRead, LogStart, Notice, ReadDocuments, SaveDocuments, Saved, StorageAnswer,
    StorageBody, StoredDocument,
};
use crate::stream::{Position, check_name};

use super::requests::Purpose;
use super::{Engine, Store, Task};

/// The collection of the checkpoints. The key is the subscription's name.
pub(crate) const SUBSCRIPTIONS: &str = "subscriptions";

/// Positions without an event for the reader after which the checkpoint is moved all the same: what
/// is read again after a restart stays little, and so does what is written for nothing.
const MAX_UNSAVED: u64 = 1_000;

/// What a subscription with a name knows of its checkpoint.
pub(super) struct Named {
    name: Arc<str>,
    /// Where this reader has left it; `None` if there is none.
    saved: Option<Position>,
    /// Where it is being moved.
    saving: Option<Position>,
    /// Up to where the reader has been given events, and has handled them.
    given: Position,
    handled: Position,
    /// Whether there were events in what has been handled and not saved.
    is_due: bool,
    /// What the subscription ends with, once the checkpoint is where it belongs.
    pub(super) ending: Option<Result<(), ReadError>>,
}

impl Named {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            saved: None,
            saving: None,
            given: Position(0),
            handled: Position(0),
            is_due: false,
            ending: None,
        }
    }

    pub(super) fn checkpoint(&self) -> Option<Position> {
        self.saved
    }

    /// The reader is given a page, or is past a part of the log that has nothing for it.
    pub(super) fn give(&mut self, next: Position, is_empty: bool) {
        self.given = next;
        if is_empty {
            self.handled = next;
        }
    }

    /// The reader has handled what it was given, up to here.
    pub(super) fn handle(&mut self, position: Position) {
        let position = position.min(self.given);
        if position > self.handled && self.ending.is_none() {
            self.handled = position;
            self.is_due = true;
        }
    }

    pub(super) fn handle_all(&mut self) {
        self.handle(self.given);
    }

    /// Whether the checkpoint is to be moved before the subscription ends.
    pub(super) fn holds_back(&self) -> bool {
        self.saving.is_some() || self.is_due || self.is_far()
    }

    fn is_far(&self) -> bool {
        self.saved.is_some_and(|saved| self.handled.0 - saved.0 >= MAX_UNSAVED)
    }
}

/// A question for a checkpoint, or a wish to move it.
pub(super) struct CheckpointTask {
    pub(super) serial: u64,
    name: Arc<str>,
    wish: CheckpointWish,
    /// Whether the store has been asked.
    asked: bool,
    /// Where it is being moved.
    to: Option<Position>,
}

fn document_of(name: &Arc<str>) -> DocumentName {
    DocumentName { collection: SUBSCRIPTIONS.into(), key: Arc::clone(name) }
}

/// There is a document at the beginning of the log too, and none has revision 0.
fn revision_of(position: Position) -> u64 {
    position.0 + 1
}

fn position_of(document: &StoredDocument) -> Position {
    Position(document.revision.saturating_sub(1))
}

/// A position beyond the log's end tells that the log has lost events, or is another.
fn check_position(asked: Position, head: Position) -> Result<Position, ReadError> {
    if asked > head { Err(ReadError::NoSuchPosition { asked, head }) } else { Ok(asked) }
}

impl Engine {
    // -----------------------------------------------------------------------------------------
    // What a subscription does

    /// Asks where the subscription starts.
    #[inline(never)]
    pub(super) fn find_start(&mut self, id: TaskId) {
        let task = self.subscription_mut(id);
        let names = task.named.iter().map(|named| document_of(&named.name)).collect();
        let serial = task.serial;
        self.read_checkpoint(id, serial, names);
    }

    #[inline(never)]
    fn start_found(&mut self, id: TaskId, found: DocumentsRead) {
        let DocumentsRead { mut documents, head, .. } = found;
        let found = documents.pop().flatten().map(|document| position_of(&document));
        let task = self.subscription_mut(id);
        let start = match (found, task.start) {
            (Some(position), _) | (None, LogStart::After(position)) => position,
            (None, LogStart::Now) => head,
        };
        if let Err(error) = check_position(start, head) {
            return self.end_subscription(id, Err(error));
        }
        task.has_started = true;
        task.after = start;
        if let Some(named) = &mut task.named {
            (named.saved, named.given, named.handled) = (found, start, start);
        }
        self.ready.push_back(id);
    }

    /// Moves the subscription's checkpoint, if it is time to. Returns whether it is under way.
    #[inline(never)]
    pub(super) fn save_checkpoint(&mut self, id: TaskId) -> bool {
        let task = self.subscription_mut(id);
        let (serial, wanted) = (task.serial, task.wanted);
        let Some(named) = &mut task.named else {
            return false;
        };
        let is_asked_for = wanted || named.ending.is_some();
        if !(named.saved.is_none() || named.is_due && is_asked_for || named.is_far()) {
            return false;
        }
        named.saving = Some(named.handled);
        named.is_due = false;
        let (name, to) = (Arc::clone(&named.name), named.handled);
        let from = named.saved.map_or(0, revision_of);
        self.move_checkpoint(id, serial, name, Some(from), to);
        true
    }

    #[inline(never)]
    fn checkpoint_saved(&mut self, id: TaskId, saved: &Saved, may_be_ours: bool) {
        let task = self.subscription_mut(id);
        let Some(named) = &mut task.named else {
            unreachable!("subscriptions without a name save nothing")
        };
        let Some(position) = named.saving.take() else { unreachable!("an answer comes once") };
        if is_moved(saved, position, may_be_ours) {
            named.saved = Some(position);
        } else if named.saved.is_none() {
            // Another has begun in the same moment: this one begins where that has come to.
            task.has_started = false;
        } else {
            let error = ReadError::SubscriptionMoved(Arc::clone(&named.name));
            return self.end_subscription(id, Err(error));
        }
        self.ready.push_back(id);
    }

    // -----------------------------------------------------------------------------------------
    // What others ask of it

    #[inline(never)]
    pub(super) fn start_checkpoint(&mut self, ask: AskCheckpoint) {
        let AskCheckpoint { task: id, name, wish } = ask;
        if let Err(error) = check_name("subscription's name", &name) {
            return self.notice(Notice::Checkpoint { task: id, result: Err(error.into()) });
        }
        let task =
            CheckpointTask { serial: self.next_serial(), name, wish, asked: false, to: None };
        self.tasks.insert(id, Task::Checkpoint(Box::new(task)));
        self.ready.push_back(id);
    }

    fn checkpoint_mut(&mut self, id: TaskId) -> &mut CheckpointTask {
        match self.tasks.get_mut(&id) {
            Some(Task::Checkpoint(task)) => task,
            _ => unreachable!("task {} is about a checkpoint", id.0),
        }
    }

    #[inline(never)]
    pub(super) fn step_checkpoint(&mut self, id: TaskId) {
        let is_open = matches!(self.store, Store::Open(_));
        let task = self.checkpoint_mut(id);
        if !is_open || std::mem::replace(&mut task.asked, true) {
            return;
        }
        let (serial, name, wish) = (task.serial, Arc::clone(&task.name), task.wish);
        match wish {
            CheckpointWish::Read | CheckpointWish::Set(_) => {
                self.read_checkpoint(id, serial, vec![document_of(&name)]);
            }
            CheckpointWish::Advance { from, to } => {
                task.to = Some(to);
                self.move_checkpoint(id, serial, name, Some(revision_of(from)), to);
            }
            CheckpointWish::Forget => {
                let documents = vec![Document {
                    name: document_of(&name),
                    revision: 0,
                    value: DocumentValue::Removed,
                    postings: Vec::new(),
                }];
                let save = SaveDocuments { documents, ..SaveDocuments::default() };
                self.send(
                    StorageBody::SaveDocuments(Arc::new(save)),
                    Purpose::Checkpoint(id, serial),
                );
            }
        }
    }

    #[inline(never)]
    fn checkpoint_told(&mut self, id: TaskId, answer: StorageAnswer, may_be_ours: bool) {
        let task = self.checkpoint_mut(id);
        let (serial, name, to) = (task.serial, Arc::clone(&task.name), task.to);
        let result = match (answer, task.wish) {
            (StorageAnswer::Documents(found), CheckpointWish::Set(start)) => {
                let asked = match start {
                    LogStart::After(position) => position,
                    LogStart::Now => found.head,
                };
                match check_position(asked, found.head) {
                    Ok(to) => {
                        task.to = Some(to);
                        return self.move_checkpoint(id, serial, name, None, to);
                    }
                    Err(error) => Err(error),
                }
            }
            (StorageAnswer::Documents(found), _) => {
                Ok(found.documents.first().and_then(Option::as_ref).map(position_of))
            }
            (StorageAnswer::Saved(saved), _)
                if to.is_some_and(|to| !is_moved(&saved, to, may_be_ours)) =>
            {
                Err(ReadError::SubscriptionMoved(name))
            }
            _ => Ok(to),
        };
        self.finish_checkpoint(id, result);
    }

    pub(super) fn finish_checkpoint(
        &mut self,
        id: TaskId,
        result: Result<Option<Position>, ReadError>,
    ) {
        self.tasks.remove(&id);
        self.notice(Notice::Checkpoint { task: id, result });
    }

    // -----------------------------------------------------------------------------------------
    // What both ask of the store

    fn read_checkpoint(&mut self, id: TaskId, serial: u64, names: Vec<DocumentName>) {
        let read = ReadDocuments { names, scans: Vec::new() };
        self.send(StorageBody::ReadDocuments(Arc::new(read)), Purpose::Checkpoint(id, serial));
    }

    /// Moves a checkpoint, if its document has this revision, or whatever it has.
    fn move_checkpoint(
        &mut self,
        id: TaskId,
        serial: u64,
        name: Arc<str>,
        from: Option<u64>,
        to: Position,
    ) {
        let name = document_of(&name);
        let expected = from.map(|revision| DocumentExpectation { name: name.clone(), revision });
        let save = SaveDocuments {
            expected: expected.into_iter().collect(),
            clear: Vec::new(),
            documents: vec![Document {
                name,
                revision: revision_of(to),
                value: DocumentValue::Text("{}".into()),
                postings: Vec::new(),
            }],
        };
        self.send(StorageBody::SaveDocuments(Arc::new(save)), Purpose::Checkpoint(id, serial));
    }

    #[inline(never)]
    pub(super) fn checkpoint_answered(
        &mut self,
        id: TaskId,
        serial: u64,
        answer: StorageAnswer,
        may_be_ours: bool,
    ) {
        match (self.tasks.get(&id), answer) {
            // The task has ended, and its number may be another's.
            (Some(task), _) if task.serial() != serial => {}
            (Some(Task::Subscription(_)), answer) => {
                self.subscription_mut(id).asking = false;
                match answer {
                    StorageAnswer::Documents(found) => self.start_found(id, found),
                    StorageAnswer::Saved(saved) => self.checkpoint_saved(id, &saved, may_be_ours),
                    _ => unreachable!("StorageBody::fits was asked"),
                }
            }
            (Some(Task::Checkpoint(_)), answer) => self.checkpoint_told(id, answer, may_be_ours),
            _ => {}
        }
    }
}

/// Whether the checkpoint is where it was to go. What is found there already may have been put there
/// by an attempt whose answer was lost.
fn is_moved(saved: &Saved, to: Position, may_be_ours: bool) -> bool {
    match saved {
        Saved::Kept(_) => true,
        Saved::Conflict { actual, .. } => may_be_ours && *actual == revision_of(to),
    }
}
