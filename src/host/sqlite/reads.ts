import {
  countWhile,
  intersection,
  seekQuery,
  take,
  union,
  type Postings,
  type Seek,
} from "../query.js";
import type {
  Commit,
  CommitFacts,
  FirstOutcome,
  QueryLoad,
  ReadLogRequest,
  StoredEvent,
  StreamLoad,
  StreamSlice,
} from "../storage.js";
import { first, type Statements } from "./schema.js";

/** It changes with what other connections commit. */
export function versionOf({ dataVersion }: Statements): number {
  return (first(dataVersion) as { readonly data_version: number }).data_version;
}

interface StoreState {
  readonly epoch: string;
  readonly head: number;
  readonly lastRecordedAt: number;
}

export function stateOf(statements: Statements): StoreState {
  const row = first(statements.state) as {
    readonly epoch: string;
    readonly head: number | null;
    readonly lastRecordedAt: string | null;
  };
  return {
    epoch: row.epoch,
    head: row.head ?? 0,
    lastRecordedAt: row.lastRecordedAt === null ? 0 : Date.parse(row.lastRecordedAt),
  };
}

export function factsOf(statements: Statements, commit: Commit, head: number): CommitFacts {
  const { commandId, aggregateType, aggregateId, condition } = commit;
  const match =
    condition && condition.after < head
      ? seekQuery(condition.query, postingsOf(statements))(condition.after + 1)
      : Infinity;
  return {
    revision: revisionOf(statements, aggregateType, aggregateId),
    first: firstOutcome(statements, commandId),
    matched: match === Infinity ? null : match,
  };
}

export function sliceOf(
  statements: Statements,
  { aggregateType, aggregateId, after, untilRevision, untilTime, limit }: StreamLoad,
): StreamSlice {
  const revision = revisionOf(statements, aggregateType, aggregateId);
  let last = Math.min(untilRevision ?? Infinity, revision);
  if (untilTime !== null) {
    last = countWhile(last, (index) => {
      const row = first(statements.recordedAt, aggregateType, aggregateId, index + 1);
      return (row as { readonly recordedAt: string }).recordedAt <= untilTime;
    });
  }
  const events =
    last > after
      ? statements.streamEvents.all(
          aggregateType,
          aggregateId,
          after,
          Math.min(last, after + limit),
        )
      : [];
  return { events: events as StoredEvent[], revision, more: last > after + limit };
}

function revisionOf(statements: Statements, aggregateType: string, aggregateId: string): number {
  const row = first(statements.revision, aggregateType, aggregateId) as {
    readonly revision: number | null;
  };
  return row.revision ?? 0;
}

export function firstOutcome(statements: Statements, commandId: string): FirstOutcome | null {
  const row = first(statements.firstOutcome, commandId) as
    (Omit<FirstOutcome, "recordedAt"> & { readonly recordedAt: string }) | undefined;
  if (row === undefined) return null;
  const { hash, aggregateType, aggregateId, position, revision, count } = row;
  const recordedAt = Date.parse(row.recordedAt);
  return { hash, aggregateType, aggregateId, position, revision, count, recordedAt };
}

export function allMatches(statements: Statements, { query, after }: QueryLoad): StoredEvent[] {
  return eventsAt(statements, take(seekQuery(query, postingsOf(statements)), after));
}

export function pageOf(statements: Statements, request: ReadLogRequest): StoredEvent[] {
  const { after, limit } = request;
  const filters = filtersOf(statements, request);
  if (filters.length === 0) return statements.page.all(after, limit) as StoredEvent[];
  return eventsAt(statements, take(intersection(filters), after, limit));
}

function postingsOf(statements: Statements): Postings {
  return {
    all: (from) => positionIn(first(statements.seekAll, from)),
    tag: (tag) => (from) => positionIn(first(statements.seekTag, tag, from)),
    type: (type) => (from) => positionIn(first(statements.seekType, type, from)),
  };
}

function filtersOf(statements: Statements, request: ReadLogRequest): Seek[] {
  const postings = postingsOf(statements);
  const filters: Seek[] = [];
  if (request.tags.length > 0) filters.push(union(request.tags.map((tag) => postings.tag(tag))));
  if (request.types.length > 0)
    filters.push(union(request.types.map((type) => postings.type(type))));
  if (request.aggregateTypes.length > 0) {
    const wanted = JSON.stringify(request.aggregateTypes);
    filters.push((from) => positionIn(first(statements.seekAggregateTypes, wanted, from)));
  }
  return filters;
}

function positionIn(row: unknown): number {
  return (row as { readonly position: number } | undefined)?.position ?? Infinity;
}

function eventsAt(statements: Statements, positions: readonly number[]): StoredEvent[] {
  if (positions.length === 0) return [];
  return statements.eventsAt.all(JSON.stringify(positions)) as StoredEvent[];
}
