import { checkEpoch } from "../epoch.js";
import { boundsOf, fromOrdered, scanned } from "../order.js";
import {
  countWhile,
  intersection,
  seekQuery,
  take,
  union,
  type Direction,
  type Postings,
  type Seek,
} from "../query.js";
import type { Recent, Stream } from "../recent.js";
import { SNAPSHOTS } from "../storage.js";
import type {
  Commit,
  CommitFacts,
  DocumentName,
  DocumentScan,
  Facts,
  FirstOutcome,
  Loaded,
  QueryLoad,
  ReadLogRequest,
  ScannedPage,
  StoredDocument,
  StoredEvent,
  StreamLoad,
  StreamSlice,
} from "../storage.js";
import { first as firstRow, type SqliteStatement, type Statements } from "./schema.js";

/** It changes with what other connections commit. */
export function versionOf({ dataVersion }: Statements): number {
  return first<[number]>(dataVersion)![0];
}

export interface StoreState {
  readonly epoch: string;
  readonly head: number;
}

export function stateOf(statements: Statements): StoreState {
  const [epoch, head] = first<[string, number | null]>(statements.state)!;
  return { epoch, head: head ?? 0 };
}

const ASCII = /^[ -~]*$/;

/** What the judge wants to know, and the epoch: what is remembered need not be asked. */
export function factsOf(
  statements: Statements,
  commits: readonly Commit[],
  recent: Recent,
): Facts & StoreState {
  const ids = commits.map(({ commandId }) => commandId);
  const sorted = ids.length > 1 ? [...ids].sort() : ids;
  // Of other characters SQLite has another order.
  const isOrdered = ids.length === 1 || ids.every((id) => ASCII.test(id));
  const [epoch, position, recordedAt, maybeKnown] = first<
    [string, number | null, string | null, number]
  >(statements.facts, sorted[0] ?? "", sorted.at(-1) ?? "")!;
  const head = position ?? 0;
  const remembered = recent.saw({ epoch, head }) ? recent : undefined;
  const outcomes = isOrdered && maybeKnown === 0 ? [] : firstOutcomes(statements, ids);
  return {
    epoch,
    head,
    lastRecordedAt: recordedAt === null ? 0 : Date.parse(recordedAt),
    commits: commits.map((commit, index): CommitFacts => {
      const { condition } = commit;
      return {
        revision: remembered?.revision(commit) ?? revisionOf(statements, commit),
        first: outcomes[index] ?? null,
        matched: condition === null ? null : firstMatch(statements, condition, head, remembered),
      };
    }),
  };
}

function firstMatch(
  statements: Statements,
  condition: QueryLoad,
  head: number,
  remembered: Recent | undefined,
): number | null {
  if (condition.after >= head) return null;
  const known = remembered?.firstMatch(condition);
  if (known !== undefined) return known;
  const match = seekQuery(condition.query, postingsOf(statements))(condition.after + 1);
  return match === Infinity ? null : match;
}

export function firstOutcomes(
  statements: Statements,
  commandIds: readonly string[],
): (FirstOutcome | null)[] {
  const outcomes = commandIds.map((): FirstOutcome | null => null);
  if (commandIds.length === 0) return outcomes;
  for (const row of statements.firstOutcomes.all(JSON.stringify(commandIds))) {
    const [index, hash, aggregateType, aggregateId, position, revision, count, recordedAt] =
      row as [number, string, string, string, number, number, number, string];
    outcomes[index] = {
      hash,
      aggregateType,
      aggregateId,
      position,
      revision,
      count,
      recordedAt: Date.parse(recordedAt),
    };
  }
  return outcomes;
}

/** All that a load asks for if it is a stream that is to be folded: one statement is one moment. */
export function stateAndSlice(
  statements: Statements,
  expectedEpoch: string,
  load: StreamLoad,
): Loaded {
  const { aggregateType, aggregateId, after, limit } = load;
  const last = load.untilRevision ?? Infinity;
  const upTo = Math.min(last, after + limit);
  const [epoch, head, revision, text] = first<[string, number | null, number | null, string | null]>(
    statements.stateAndSlice,
    upTo,
    aggregateType,
    aggregateId,
    aggregateType,
    aggregateId,
    after,
    upTo,
  )!;
  checkEpoch(expectedEpoch, epoch);
  const streams = [sliceOf(load, null, last, revision ?? 0, text)];
  return { commands: [], streams, queries: [], head: head ?? 0 };
}

export function slicesOf(statements: Statements, asked: readonly StreamLoad[]): StreamSlice[] {
  const snapshots = asked.map(({ snapshot }) => snapshotOf(statements, snapshot));
  const loads = asked.map((load, index) => ({
    ...load,
    after: snapshots[index]?.revision ?? load.after,
  }));
  const lasts = loads.map((load) => lastOf(statements, load));
  const slices: StreamSlice[] = [];
  const indexes: number[] = [];
  loads.forEach(({ whole }, index) => {
    if (whole) slices[index] = wholeSliceOf(statements, loads[index]!, snapshots[index]!, lasts[index]!);
    else indexes.push(index);
  });
  if (indexes.length === 0) return slices;
  const wanted = indexes.map((index) => {
    const { aggregateType, aggregateId, after, limit } = loads[index]!;
    return [aggregateType, aggregateId, after, Math.min(lasts[index]!, after + limit)];
  });
  for (const row of statements.slices.all(JSON.stringify(wanted))) {
    const [key, revision, text] = row as [number, number | null, string | null];
    const index = indexes[key]!;
    slices[index] = sliceOf(loads[index]!, snapshots[index]!, lasts[index]!, revision ?? 0, text);
  }
  return slices;
}

function snapshotOf(statements: Statements, key: string | null): StoredDocument | null {
  return key === null ? null : documentOf(statements, { collection: SNAPSHOTS, key });
}

export function documentOf(
  statements: Statements,
  { collection, key }: DocumentName,
): StoredDocument | null {
  const row = first<[number, string]>(statements.document, collection, toStored(key));
  return row === undefined ? null : { revision: row[0], value: row[1] };
}

export function scanOf(statements: Statements, scan: DocumentScan): ScannedPage {
  const { collection, index, descending, limit } = scan;
  const bounds = boundsOf(scan);
  if (bounds === null) return scanned();
  const { from, to } = bounds;
  const end = to === null ? null : storedOf(to.at);
  const within =
    index === null
      ? [collection, storedOf(from.at), end]
      : [collection, index, storedOf(from.at), storedOf(from.key), end, storedOf(to?.key ?? "")];
  const back = descending ? "Back" : "";
  const by = index === null ? "Keys" : "Postings";
  if (limit === null) return scanned([], false, first<[number]>(statements[`count${by}`], ...within)![0]);
  const rows = statements[`scan${by}${back}`].all(...within, limit + 1) as Row[];
  const documents = rows.slice(0, limit).map(([at, key, revision, value]) => {
    return { at: fromStored(at), key: fromStored(key), revision, value };
  });
  return scanned(documents, rows.length > limit);
}

type Row = [at: string, key: string, revision: number, value: string];

/**
 * A key, or a value it is found under, as it is stored: in the same order, but without NUL, at which
 * drivers end a text. NUL and what follows it among characters take two.
 */
export function toStored(text: string): string {
  return text.replace(/[\0\x01]/g, (character) => (character === "\0" ? "\x01\x01" : "\x01\x02"));
}

function fromStored(text: string): string {
  return text.replace(/\x01[^]/g, (pair) => (pair === "\x01\x01" ? "\0" : "\x01"));
}

const storedOf = (ordered: string) => toStored(fromOrdered(ordered));

/** The highest revision that the load may ask for, wherever the stream ends. */
function lastOf(statements: Statements, load: StreamLoad): number {
  const { aggregateType, aggregateId, untilRevision, untilPosition, untilTime } = load;
  const last = untilRevision ?? Infinity;
  if (untilPosition === null && untilTime === null) return last;
  const revision = revisionOf(statements, load);
  return countWhile(Math.min(last, revision), (index) => {
    const [position, recordedAt] = first<[number, string]>(
      statements.moment,
      aggregateType,
      aggregateId,
      index + 1,
    )!;
    return position <= (untilPosition ?? position) && recordedAt <= (untilTime ?? recordedAt);
  });
}

function revisionOf(statements: Statements, { aggregateType, aggregateId }: Stream): number {
  return first<[number | null]>(statements.revision, aggregateType, aggregateId)![0] ?? 0;
}

function sliceOf(
  { after, limit }: StreamLoad,
  snapshot: StoredDocument | null,
  last: number,
  revision: number,
  text: string | null,
): StreamSlice {
  // Revisions have no gaps, so they tell how many events there are.
  const more = Math.min(last, revision) - after > limit;
  if (text === null) return { snapshot, events: [], revision, more };
  const line = text.indexOf("\n");
  const forms = JSON.parse(text.slice(0, line)) as string[];
  return { snapshot, events: { forms, data: text.slice(line + 1) }, revision, more };
}

function wholeSliceOf(
  statements: Statements,
  load: StreamLoad,
  snapshot: StoredDocument | null,
  last: number,
): StreamSlice {
  const { aggregateType, aggregateId, after, limit } = load;
  const revision = revisionOf(statements, load);
  const end = Math.min(last, revision);
  const upTo = Math.min(end, after + limit);
  const events =
    upTo > after ? statements.streamEvents.all(aggregateType, aggregateId, after, upTo) : [];
  return { snapshot, events: events as StoredEvent[], revision, more: end > after + limit };
}

export function allMatches(statements: Statements, { query, after }: QueryLoad): StoredEvent[] {
  return eventsAt(statements, take(seekQuery(query, postingsOf(statements)), after));
}

/** A page, and the position up to which it goes if the limit ends it. */
export function pageOf(
  statements: Statements,
  request: ReadLogRequest,
): { readonly events: StoredEvent[]; readonly last: number | undefined } {
  const { after, descending, limit } = request;
  const direction = descending ? -1 : 1;
  const filters = filtersOf(statements, request, direction);
  if (filters.length === 0) {
    const page = descending ? statements.pageBack : statements.page;
    const events = page.all(after, limit) as StoredEvent[];
    return { events, last: events[limit - 1]?.position };
  }
  const positions = take(intersection(filters), after * direction, limit).map((found) => found * direction);
  return { events: eventsAt(statements, positions), last: positions[limit - 1] };
}

type SeekName = "seekAll" | "seekTag" | "seekType" | "seekCorrelation" | "seekAggregateTypes";

/** What a statement finds from a position on, which it is told among its other parameters. */
function seekBy(
  statements: Statements,
  name: SeekName,
  direction: Direction,
  parametersOf: (position: number) => readonly unknown[],
): Seek {
  const statement = statements[direction > 0 ? name : (`${name}Back` as const)];
  return (from) => (first<[number]>(statement, ...parametersOf(from * direction))?.[0] ?? Infinity * direction) * direction;
}

function postingsOf(statements: Statements, direction: Direction = 1): Postings {
  return {
    all: seekBy(statements, "seekAll", direction, (from) => [from]),
    tag: (tag) => seekBy(statements, "seekTag", direction, (from) => [tag, from]),
    type: (type) => seekBy(statements, "seekType", direction, (from) => [type, from]),
  };
}

function filtersOf(statements: Statements, request: ReadLogRequest, direction: Direction): Seek[] {
  const postings = postingsOf(statements, direction);
  const filters: Seek[] = [];
  if (request.tags.length > 0) filters.push(union(request.tags.map((tag) => postings.tag(tag))));
  if (request.types.length > 0)
    filters.push(union(request.types.map((type) => postings.type(type))));
  const { correlationId } = request;
  if (correlationId !== null) {
    const asked = (from: number) => [correlationId, from, from, correlationId, correlationId];
    filters.push(seekBy(statements, "seekCorrelation", direction, asked));
  }
  if (request.aggregateTypes.length > 0) {
    const wanted = JSON.stringify(request.aggregateTypes);
    filters.push(seekBy(statements, "seekAggregateTypes", direction, (from) => [wanted, from]));
  }
  return filters;
}

function eventsAt(statements: Statements, positions: readonly number[]): StoredEvent[] {
  if (positions.length === 0) return [];
  return statements.eventsAt.all(JSON.stringify(positions)) as StoredEvent[];
}

function first<Row>(statement: SqliteStatement, ...parameters: unknown[]): Row | undefined {
  return firstRow(statement, ...parameters) as Row | undefined;
}
