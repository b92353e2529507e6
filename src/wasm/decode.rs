//! Messages from JavaScript. `src/host/wire.ts` is the other side.

use std::iter::repeat_n;
use std::sync::Arc;

use crate::domain::AggregateDefinition;
use crate::engine::Config;
use crate::error::{Applied, EventProblem, StorageError, StorageErrorCode};
use crate::event::{CommitSummary, FirstOutcome, Metadata, NewEvent, Payload, TaskId};
use crate::judge::{CommitFacts, Facts};
use crate::projection::{ProjectionDefinition, ViewKind};
use crate::protocol::{
    Answer, AskCheckpoint, AskReaction, CheckpointWish, Conflict, ControlView, Correlated,
    CorrelationKey, DocumentsRead, DomainAnswer, DomainResult, Durability, Epoch, EventPlace,
    EventRow, Execute, Handle, HostFoldError, HostFolded, Info, Input, Loaded, LogEnd, LogFilter,
    LogPage, LogStart, Page, PageId, ProjectAnswer, Projected, ProjectedDocument, Reacted,
    ReactionAction, ReactionIndex, ReadAt, ReadState, ReadView, RequestId, Saved, ScanPlace,
    ScannedPage, Skipped, SkippedEvents, StorageAnswer, StoredDocument, StoredSnapshot,
    StreamSlice, Subscribe, TakeSnapshot, Verdict, ViewAction, ViewAt, ViewQuery, ViewRange,
    ViewScan, Wishes,
};
use crate::query::{Query, QueryItem};
use crate::reaction::{Lanes, ReactionDefinition, RetryPolicy, StartAt};
use crate::snapshot::SnapshotPolicy;
use crate::stream::{ExpectedRevision, Position, Revision, StreamId};
use crate::time::Timestamp;

use super::words::{Malformed, Reader};

type Result<T> = std::result::Result<T, Malformed>;

/// An input. `names` are those of the aggregates.
pub(super) fn input(reader: &mut Reader<'_>, names: &[Arc<str>]) -> Result<Input> {
    Ok(match reader.word()? {
        1 => Input::Execute(execute(reader, names)?),
        2 => Input::ReadState(read_state(reader, names)?),
        3 => Input::Subscribe(subscribe(reader)?),
        4 => Input::Next(task(reader)?),
        5 => Input::Cancel(task(reader)?),
        6 => Input::Answer(answer(reader)?),
        7 => Input::Domain(domain_answer(reader)?),
        8 => Input::Advanced(reader.option(position)?),
        9 => Input::Tick,
        10 => Input::TakeSnapshot(TakeSnapshot {
            task: task(reader)?,
            stream: stream_of(reader, names)?,
        }),
        11 => Input::ReadView(read_view(reader)?),
        12 => Input::ControlView(ControlView {
            projection: reader.string()?,
            action: view_action(reader)?,
        }),
        13 => Input::Projected(projected(reader)?),
        30 => Input::Handled(task(reader)?, position(reader)?),
        31 => Input::AskCheckpoint(ask_checkpoint(reader)?),
        14 => Input::AskReaction(ask_reaction(reader)?),
        15 => Input::Reacted(reacted(reader)?),
        16 => Input::Correlated(correlated(reader)?),
        17 => Input::OwnerGone(reader.string()?),
        tag => return Err(Malformed::Tag(tag)),
    })
}

#[inline(never)]
fn read_view(reader: &mut Reader<'_>) -> Result<ReadView> {
    Ok(ReadView {
        task: task(reader)?,
        projection: reader.string()?,
        at: match reader.word()? {
            0 => ViewAt::Reached,
            1 => ViewAt::After(position(reader)?),
            2 => ViewAt::Now,
            3 => ViewAt::Past(LogEnd::Position(position(reader)?)),
            4 => ViewAt::Past(LogEnd::Time(time(reader)?)),
            tag => return Err(Malformed::Tag(tag)),
        },
        query: match reader.word()? {
            0 => ViewQuery::Get(reader.string()?),
            1 => ViewQuery::Scan(ViewScan {
                index: reader.option(Reader::string)?,
                range: match reader.word()? {
                    0 => ViewRange::Between(
                        reader.option(Reader::string)?,
                        reader.option(Reader::string)?,
                    ),
                    1 => ViewRange::Equal(reader.string()?),
                    2 => ViewRange::Prefix(reader.string()?),
                    tag => return Err(Malformed::Tag(tag)),
                },
                after: reader.option(|reader| {
                    Ok(ScanPlace { at: reader.string()?, key: reader.string()? })
                })?,
                descending: reader.flag()?,
                limit: reader.option(Reader::word)?,
            }),
            2 => ViewQuery::Status,
            tag => return Err(Malformed::Tag(tag)),
        },
    })
}

#[inline(never)]
fn ask_reaction(reader: &mut Reader<'_>) -> Result<AskReaction> {
    Ok(AskReaction {
        task: task(reader)?,
        reaction: reader.string()?,
        action: match reader.word()? {
            0 => None,
            1 => Some(ReactionAction::Pause),
            2 => Some(ReactionAction::Resume),
            3 => Some(ReactionAction::Retry(reader.string()?)),
            4 => Some(ReactionAction::Drop(reader.string()?)),
            tag => return Err(Malformed::Tag(tag)),
        },
    })
}

fn view_action(reader: &mut Reader<'_>) -> Result<ViewAction> {
    Ok(match reader.word()? {
        0 => ViewAction::Pause,
        1 => ViewAction::Resume,
        2 => ViewAction::Cancel,
        tag => return Err(Malformed::Tag(tag)),
    })
}

#[inline(never)]
fn reacted(reader: &mut Reader<'_>) -> Result<Reacted> {
    let run = reader.number()?;
    let error = reader.option(Reader::string)?;
    Ok(Reacted { run, result: error.map_or(Ok(Vec::new()), Err) })
}

#[inline(never)]
fn correlated(reader: &mut Reader<'_>) -> Result<Correlated> {
    Ok(Correlated {
        reaction: ReactionIndex(reader.word()?),
        question: reader.word()?,
        keys: reader.list(|reader| {
            let (index, position) = (reader.word()?, position(reader)?);
            Ok(CorrelationKey { index, position, key: reader.string()? })
        })?,
        failed: match reader.number()? {
            0 => None,
            number => Some((Position(number), reader.string()?)),
        },
    })
}

/// What a process manager wants, and the number of what it has been given.
#[inline(never)]
pub(super) fn wishes(reader: &mut Reader<'_>) -> Result<(u64, Wishes)> {
    let run = reader.number()?;
    let wishes = Wishes {
        cause: reader.string()?,
        correlation_id: reader.string()?,
        state: reader.option(Reader::string)?,
        timers: reader.list(|reader| Ok((reader.string()?, reader.option(time)?)))?,
        commands: reader.word()?,
    };
    Ok((run, wishes))
}

#[inline(never)]
fn projected(reader: &mut Reader<'_>) -> Result<ProjectAnswer> {
    let run = reader.number()?;
    let result = match reader.word()? {
        0 => Projected::Missing(reader.list(Reader::string)?),
        1 => Projected::Done {
            documents: reader.list(|reader| {
                Ok(ProjectedDocument {
                    key: reader.string()?,
                    value: reader.option(Reader::string)?,
                    postings: reader.list(|reader| Ok((reader.string()?, reader.string()?)))?,
                })
            })?,
            beyond: reader.option(position)?,
            skipped: reader.list(|reader| {
                let (stream, revision) = (stream(reader)?, revision(reader)?);
                Ok(SkippedEvents { stream, revision, event_type: reader.string()?, count: 1 })
            })?,
        },
        2 => Projected::Failed { position: position(reader)?, reason: reader.string()? },
        tag => return Err(Malformed::Tag(tag)),
    };
    Ok(ProjectAnswer { run, result })
}

#[inline(never)]
pub(super) fn config(reader: &mut Reader<'_>) -> Result<Config> {
    let mut seed = [0; 32];
    for bytes in seed.chunks_exact_mut(4) {
        bytes.copy_from_slice(&reader.word()?.to_le_bytes());
    }
    let mut limits = [0; 5];
    for limit in &mut limits {
        *limit = reader.word()?;
    }
    let identity = reader.string()?;
    let aggregates = reader.list(|reader| {
        let name = reader.str()?;
        let definition = match reader.option(snapshot_policy)? {
            Some(policy) => AggregateDefinition::hosted_with_snapshots(name, policy),
            None => AggregateDefinition::hosted(name),
        };
        Ok(definition.with_upcasters(reader.str()?, reader.list(Reader::string)?))
    })?;
    let projections = reader.list(|reader| {
        let (name, version) = (reader.str()?, reader.word()?);
        let kind = match reader.word()? {
            0 => ViewKind::Live,
            1 => ViewKind::Inline,
            2 => ViewKind::Async,
            tag => return Err(Malformed::Tag(tag)),
        };
        let (types, indexes) = (reader.list(Reader::string)?, reader.list(Reader::string)?);
        let definition = ProjectionDefinition::hosted(name, version, kind, types, indexes);
        Ok(definition.of_aggregates(reader.list(Reader::string)?))
    })?;
    let reactions = reader.list(|reader| {
        Ok(ReactionDefinition {
            name: reader.string()?,
            filter: LogFilter {
                types: reader.list(Reader::string)?,
                aggregate_types: reader.list(Reader::string)?,
                tags: reader.list(Reader::string)?,
                correlation_id: None,
            },
            upcasts: true,
            lanes: if reader.flag()? { Lanes::Hosted } else { Lanes::Streams },
            start_at: if reader.flag()? { StartAt::Now } else { StartAt::Beginning },
            retries: RetryPolicy {
                max_attempts: reader.word()?,
                first_pause: reader.word()?.into(),
                max_pause: reader.word()?.into(),
            },
            concurrency: reader.word()?,
        })
    })?;
    let mut config = Config::new(seed, aggregates);
    config.projections = projections;
    config.reactions = reactions;
    config.identity = identity;
    let [request_timeout, cached_states, page_limit, poll_interval, lease] =
        limits.map(|limit| (limit > 0).then_some(limit));
    config.request_timeout = request_timeout.map_or(config.request_timeout, u64::from);
    config.cached_states = cached_states.map_or(config.cached_states, |limit| limit as usize);
    config.page_limit = page_limit.unwrap_or(config.page_limit);
    config.lease = lease.map_or(config.lease, u64::from);
    config.poll_interval = poll_interval.map_or(config.poll_interval, u64::from);
    Ok(config)
}

fn snapshot_policy(reader: &mut Reader<'_>) -> Result<SnapshotPolicy> {
    Ok(SnapshotPolicy {
        version: reader.word()?,
        every: reader.option(Reader::number)?,
        after_replay_of: reader.option(Reader::number)?,
    })
}

#[inline(never)]
pub(super) fn facts(reader: &mut Reader<'_>) -> Result<Facts> {
    Ok(Facts {
        head: position(reader)?,
        last_recorded_at: time(reader)?,
        commits: reader.list(|reader| {
            Ok(CommitFacts {
                revision: revision(reader)?,
                first: reader.option(first_outcome)?,
                matched: reader.option(position)?,
            })
        })?,
    })
}

/// An event to be upcast: its aggregate type, its type, its schema version and its data.
pub(super) fn event<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str, u32, &'a str)> {
    Ok((reader.str()?, reader.str()?, reader.word()?, reader.str()?))
}

fn task(reader: &mut Reader<'_>) -> Result<TaskId> {
    reader.word().map(TaskId)
}

fn position(reader: &mut Reader<'_>) -> Result<Position> {
    reader.number().map(Position)
}

fn revision(reader: &mut Reader<'_>) -> Result<Revision> {
    reader.number().map(Revision)
}

fn time(reader: &mut Reader<'_>) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(reader.number()?.cast_signed()))
}

fn stream(reader: &mut Reader<'_>) -> Result<StreamId> {
    Ok(StreamId { aggregate_type: reader.string()?, aggregate_id: reader.string()? })
}

/// A stream of one of these aggregates.
fn stream_of(reader: &mut Reader<'_>, names: &[Arc<str>]) -> Result<StreamId> {
    let index = reader.word()?;
    let name = names.get(index as usize).ok_or(Malformed::Tag(index))?;
    Ok(StreamId { aggregate_type: Arc::clone(name), aggregate_id: reader.string()? })
}

#[inline(never)]
fn execute(reader: &mut Reader<'_>, names: &[Arc<str>]) -> Result<Execute> {
    let (task, stream) = (task(reader)?, stream_of(reader, names)?);
    let (command_type, data) = (reader.string()?, reader.string()?);
    let command_id = reader.option(Reader::uuid)?;
    let metadata = Metadata {
        correlation_id: reader.option(Reader::string)?,
        causation_id: reader.option(Reader::string)?,
        actor: reader.option(Reader::string)?,
        extra: reader.option(Reader::string)?,
    };
    let expected = match reader.word()? {
        0 => ExpectedRevision::Any,
        1 => ExpectedRevision::NoStream,
        2 => ExpectedRevision::StreamExists,
        3 => ExpectedRevision::Exact(revision(reader)?),
        tag => return Err(Malformed::Tag(tag)),
    };
    let issued_at = reader.option(time)?;
    Ok(Execute { task, stream, command_type, data, command_id, expected, issued_at, metadata })
}

#[inline(never)]
fn read_state(reader: &mut Reader<'_>, names: &[Arc<str>]) -> Result<ReadState> {
    Ok(ReadState {
        task: task(reader)?,
        stream: stream_of(reader, names)?,
        at: match reader.word()? {
            0 => ReadAt::Now,
            1 => ReadAt::Cached,
            2 => ReadAt::Revision(revision(reader)?),
            3 => ReadAt::Time(time(reader)?),
            4 => ReadAt::Position(position(reader)?),
            tag => return Err(Malformed::Tag(tag)),
        },
        events: reader.flag()?,
    })
}

#[inline(never)]
fn subscribe(reader: &mut Reader<'_>) -> Result<Subscribe> {
    Ok(Subscribe {
        task: task(reader)?,
        name: reader.option(Reader::string)?,
        start: log_start(reader)?,
        filter: LogFilter {
            types: reader.list(Reader::string)?,
            aggregate_types: reader.list(Reader::string)?,
            tags: reader.list(Reader::string)?,
            correlation_id: reader.option(Reader::string)?,
        },
        upcasts: reader.flag()?,
        limit: reader.word()?,
        follow: reader.flag()?,
        descending: reader.flag()?,
    })
}

fn log_start(reader: &mut Reader<'_>) -> Result<LogStart> {
    Ok(reader.option(position)?.map_or(LogStart::Now, LogStart::After))
}

#[inline(never)]
fn ask_checkpoint(reader: &mut Reader<'_>) -> Result<AskCheckpoint> {
    Ok(AskCheckpoint {
        task: task(reader)?,
        name: reader.string()?,
        wish: match reader.word()? {
            0 => CheckpointWish::Read,
            1 => CheckpointWish::Set(log_start(reader)?),
            2 => CheckpointWish::Forget,
            tag => return Err(Malformed::Tag(tag)),
        },
    })
}

#[inline(never)]
fn answer(reader: &mut Reader<'_>) -> Result<Answer> {
    let request = RequestId(reader.number()?);
    let attempt = reader.word()?;
    let result = match reader.word()? {
        0 => Err(storage_error(reader)?),
        1 => Ok(StorageAnswer::Info(info(reader)?)),
        2 => Ok(StorageAnswer::Appended(reader.list(verdict)?)),
        3 => Ok(StorageAnswer::Loaded(loaded(reader)?)),
        4 => Ok(StorageAnswer::Log(LogPage {
            page: page(reader, None)?,
            places: reader.list(|reader| {
                Ok(EventPlace { position: position(reader)?, recorded_at: time(reader)? })
            })?,
            next: position(reader)?,
            head: position(reader)?,
        })),
        5 => Ok(StorageAnswer::Saved(saved(reader)?)),
        6 => Ok(StorageAnswer::Documents(documents_read(reader)?)),
        tag => return Err(Malformed::Tag(tag)),
    };
    Ok(Answer { request, attempt, result })
}

fn storage_error(reader: &mut Reader<'_>) -> Result<StorageError> {
    let number = reader.word()?;
    let code = StorageErrorCode::ALL.get(number as usize).copied();
    Ok(StorageError {
        code: code.ok_or(Malformed::Tag(number))?,
        applied: if reader.flag()? { Applied::Unknown } else { Applied::No },
        retryable: reader.flag()?,
        message: reader.string()?,
    })
}

fn info(reader: &mut Reader<'_>) -> Result<Info> {
    Ok(Info {
        epoch: Epoch(reader.string()?),
        head: position(reader)?,
        durability: match reader.word()? {
            0 => Durability::Memory,
            1 => Durability::ProcessCrash,
            2 => Durability::PowerLoss,
            3 => Durability::Replicated,
            tag => return Err(Malformed::Tag(tag)),
        },
        notifies: reader.flag()?,
    })
}

fn commit(reader: &mut Reader<'_>) -> Result<CommitSummary> {
    Ok(CommitSummary {
        position: position(reader)?,
        revision: revision(reader)?,
        count: reader.word()?,
        recorded_at: time(reader)?,
    })
}

fn first_outcome(reader: &mut Reader<'_>) -> Result<FirstOutcome> {
    Ok(FirstOutcome { hash: reader.uuid()?, stream: stream(reader)?, commit: commit(reader)? })
}

fn verdict(reader: &mut Reader<'_>) -> Result<Verdict> {
    Ok(match reader.word()? {
        0 => Verdict::Committed(commit(reader)?),
        1 => Verdict::Conflict(Conflict::Revision { actual: revision(reader)? }),
        2 => Verdict::Conflict(Conflict::Matched { position: position(reader)? }),
        3 => Verdict::Conflict(Conflict::Neighbour { index: reader.number()? as u32 }),
        4 => Verdict::Duplicate(first_outcome(reader)?),
        5 => Verdict::CommandIdReused(first_outcome(reader)?),
        tag => return Err(Malformed::Tag(tag)),
    })
}

#[inline(never)]
fn loaded(reader: &mut Reader<'_>) -> Result<Loaded> {
    Ok(Loaded {
        commands: reader.list(|reader| reader.option(first_outcome))?,
        streams: reader.list(|reader| {
            let owner = reader.option(stream)?;
            Ok(StreamSlice {
                snapshot: reader.option(snapshot)?,
                page: page(reader, owner.as_ref())?,
                folded: reader.option(folded)?,
                revision: revision(reader)?,
                more: reader.flag()?,
            })
        })?,
        queries: reader.list(|reader| page(reader, None))?,
        head: position(reader)?,
    })
}

fn snapshot(reader: &mut Reader<'_>) -> Result<StoredSnapshot> {
    Ok(StoredSnapshot { revision: revision(reader)?, value: reader.option(Reader::string)? })
}

fn folded(reader: &mut Reader<'_>) -> Result<std::result::Result<HostFolded, HostFoldError>> {
    Ok(match reader.word()? {
        0 => Ok(HostFolded {
            state: Handle(reader.word()?),
            skipped: reader.option(|reader| {
                Ok(Skipped {
                    count: reader.word()?,
                    last: reader.word()?,
                    event_type: reader.string()?,
                })
            })?,
        }),
        1 => Err(HostFoldError::Event {
            index: reader.word()?,
            problem: {
                let number = reader.word()?;
                let problem = EventProblem::ALL.get(number as usize).copied();
                problem.ok_or(Malformed::Tag(number))?
            },
            reason: reader.string()?,
        }),
        2 => Err(HostFoldError::Snapshot(reader.string()?)),
        tag => return Err(Malformed::Tag(tag)),
    })
}

fn saved(reader: &mut Reader<'_>) -> Result<Saved> {
    Ok(match reader.word()? {
        0 => Saved::Kept(reader.list(|reader| Ok((reader.word()?, reader.string()?)))?),
        1 => Saved::Conflict { index: reader.word()?, actual: reader.number()? },
        tag => return Err(Malformed::Tag(tag)),
    })
}

#[inline(never)]
fn documents_read(reader: &mut Reader<'_>) -> Result<DocumentsRead> {
    Ok(DocumentsRead {
        documents: reader.list(|reader| reader.option(stored_document))?,
        scans: reader.list(|reader| {
            Ok(ScannedPage {
                documents: reader.list(|reader| {
                    let key = reader.string()?;
                    // In order of key it is not told twice.
                    let at = reader.option(Reader::string)?.unwrap_or_else(|| Arc::clone(&key));
                    Ok((ScanPlace { at, key }, stored_document(reader)?))
                })?,
                more: reader.flag()?,
                count: reader.number()?,
            })
        })?,
        head: position(reader)?,
    })
}

fn stored_document(reader: &mut Reader<'_>) -> Result<StoredDocument> {
    Ok(StoredDocument { revision: reader.number()?, value: reader.string()? })
}

/// A page, held or as rows. The rows of a slice have one stream, which comes before them.
fn page(reader: &mut Reader<'_>, owner: Option<&StreamId>) -> Result<Page> {
    Ok(match reader.word()? {
        0 => Page::Held { page: PageId(reader.word()?), count: reader.word()? },
        1 => Page::Rows {
            page: PageId(reader.word()?),
            rows: reader.list(|reader| {
                Ok(EventRow {
                    stream: match owner {
                        Some(stream) => stream.clone(),
                        None => stream(reader)?,
                    },
                    revision: revision(reader)?,
                    event_type: reader.string()?,
                    schema_version: reader.word()?,
                    data: reader.string()?,
                    issued_at: time(reader)?,
                    actor: reader.option(Reader::string)?,
                })
            })?,
        },
        2 => {
            let data = reader.string()?;
            // What comes again and again is told once. The driver has as many forms at hand.
            let mut forms: Vec<Arc<str>> = Vec::new();
            loop {
                match reader.word()? as usize {
                    0 => break Page::Messages { forms: forms.into(), data },
                    run => forms.extend(repeat_n(reader.string()?, run)),
                }
            }
        }
        tag => return Err(Malformed::Tag(tag)),
    })
}

#[inline(never)]
fn domain_answer(reader: &mut Reader<'_>) -> Result<DomainAnswer> {
    let task = task(reader)?;
    let question = reader.number()?;
    let result = match reader.word()? {
        0 => DomainResult::Reads(query(reader)?),
        1 => {
            let after = Handle(reader.word()?);
            let mut index = 0;
            let events = reader.list(|reader| {
                let event = NewEvent {
                    event_type: reader.string()?,
                    schema_version: reader.word()?,
                    tags: reader.list(Reader::string)?,
                    data: Payload::Held { task, index, bytes: reader.word()? },
                };
                index += 1;
                Ok(event)
            })?;
            DomainResult::Decided(events, after)
        }
        2 => DomainResult::Refused,
        3 => DomainResult::Failed,
        tag => return Err(Malformed::Tag(tag)),
    };
    Ok(DomainAnswer { task, question, result })
}

fn query(reader: &mut Reader<'_>) -> Result<Query> {
    let items = reader.list(|reader| {
        let types: Vec<Arc<str>> = reader.list(Reader::string)?;
        Ok(QueryItem { types, tags: reader.list(Reader::string)? })
    })?;
    Ok(Query { items })
}
