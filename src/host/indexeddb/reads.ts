import { checkEpoch } from "../epoch.js";
import { boundsOf, fromOrdered, scanned, toOrdered, type OrderedPlace } from "../order.js";
import { matches } from "../query.js";
import { keyOf, type Recent, type Stream } from "../recent.js";
import { SNAPSHOTS } from "../storage.js";
import type {
  Commit,
  CommitFacts,
  DocumentName,
  DocumentScan,
  FirstOutcome,
  LogPage,
  Messages,
  QueryItem,
  QueryLoad,
  ReadLogRequest,
  ScannedPage,
  StoredDocument,
  StoredEvent,
  StreamLoad,
  StreamSlice,
} from "../storage.js";
import { answerTo, type Stores } from "./connection.js";
import type { Directory, Run } from "./directory.js";
import {
  checkState,
  eventAt,
  eventsOf,
  firstOutcomeOf,
  inOrder,
  messageAt,
  opened,
  placesIn,
  positionOf,
  readState,
  type AppendRecord,
  type CommitsRecord,
  type DocumentRecord,
  type Opened,
  type Place,
  type StoreState,
} from "./schema.js";

/** So many streams of a load are looked at for records they share. */
const MANY_STREAMS = 16;

/** Records to read at first for a page of the log. */
const FIRST_RECORDS = 16;

/** Records to look at for a page: a transaction that reads on would keep appends waiting. */
const MOST_RECORDS = 1024;

export async function stateOf({ meta }: Stores, expectedEpoch?: string): Promise<StoreState> {
  const state = checkState(await answerTo(readState(meta)));
  checkEpoch(expectedEpoch ?? state.epoch, state.epoch);
  return state;
}

/** What is remembered is asked before anything is awaited, so that it is all of one head. */
export async function factsOf(
  stores: Stores,
  commits: readonly Commit[],
  recent?: Recent,
): Promise<CommitFacts[]> {
  const revisions = commits.map((commit) => recent?.revision(commit) ?? revisionOf(stores, commit));
  const matches = commits.map(async ({ condition }) => {
    if (condition === null) return null;
    const match = recent?.firstMatch(condition);
    if (match !== undefined) return match;
    const [events] = await allMatches(stores, [condition]);
    return events![0]?.position ?? null;
  });
  const outcomes = firstOutcomes(
    stores,
    commits.map(({ commandId }) => commandId),
  );
  const facts = await Promise.all([Promise.all(revisions), outcomes, Promise.all(matches)]);
  const [revision, first, matched] = facts;
  return commits.map((_, index) => ({
    revision: revision[index]!,
    first: first[index]!,
    matched: matched[index]!,
  }));
}

async function revisionOf({ appends }: Stores, stream: Stream): Promise<number> {
  const cursor = await answerTo(appends.index("streams").openKeyCursor(rangeOf(stream, 0), "prev"));
  return cursor === null ? 0 : (cursor.key as [string, string, number])[2];
}

function keyIn({ aggregateType, aggregateId }: Stream): string[] {
  return [aggregateType, aggregateId];
}

/** Keys of the stream's events with this revision or a later one. */
function rangeOf(stream: Stream, revision: number): IDBKeyRange {
  return IDBKeyRange.bound([...keyIn(stream), revision], [...keyIn(stream), []]);
}

export async function firstOutcomes(
  stores: Stores,
  commandIds: readonly string[],
): Promise<(FirstOutcome | null)[]> {
  if (commandIds.length === 0) return [];
  const index = stores.commits.index("commandIds");
  // New ids sort by time, so one look tells that none of them is known, as is nearly always so.
  const sorted = [...commandIds].sort();
  const range = IDBKeyRange.bound(sorted[0], sorted.at(-1));
  if ((await answerTo(index.getKey(range))) === undefined) return commandIds.map(() => null);
  return Promise.all(
    commandIds.map(async (id) => {
      const head = (await answerTo(index.getKey(id))) as number | undefined;
      if (head === undefined) return null;
      const [record] = await recordsIn(stores, singly([head]), true);
      return firstOutcomeOf(record!, id);
    }),
  );
}

/** The slices of the streams. A record is read once, however many of them it has events of. */
export async function slicesOf(
  stores: Stores,
  asked: readonly StreamLoad[],
  state: Promise<StoreState>,
  directory: Directory,
): Promise<StreamSlice[]> {
  const snapshots = await snapshotsOf(stores, asked);
  const loads = asked.map((load, index) => ({
    ...load,
    after: snapshots[index]?.revision ?? load.after,
  }));
  const areMany = loads.length >= MANY_STREAMS;
  const found = areMany ? await directory.find(stores, await state, loads) : null;
  const known = new Map<number, AppendRecord>();
  const lists = found === null ? await headsOf(stores, loads, known) : null;
  const runs = found ?? singly([...new Set(lists)].flatMap(({ heads }) => heads));
  const isWhole = loads.some(({ whole, untilTime }) => whole || untilTime !== null);
  const places = new Map(loads.map((load): [string, Place[]] => [keyOf(load), []]));
  for (const record of await recordsIn(stores, runs, isWhole, known)) {
    const wanted = record.streams.map(([aggregateType, aggregateId]) =>
      places.get(keyOf({ aggregateType, aggregateId })),
    );
    for (const place of placesIn(record)) wanted[record.streamOf[place.index]!]?.push(place);
  }
  return Promise.all(
    loads.map(async (load, index) => ({
      ...(await sliceOf(stores, load, places.get(keyOf(load))!, lists?.[index]!.end ?? Infinity)),
      snapshot: snapshots[index]!,
    })),
  );
}

async function snapshotsOf(
  stores: Stores,
  loads: readonly StreamLoad[],
): Promise<(StoredDocument | null)[]> {
  const wanted = loads.flatMap(({ snapshot: key }) => (key === null ? [] : { collection: SNAPSHOTS, key }));
  const found = wanted.length === 0 ? [] : await documentsOf(stores, wanted);
  return loads.map(({ snapshot }) => (snapshot === null ? null : found.shift()!));
}

export function documentsOf(
  { documents }: Stores,
  names: readonly DocumentName[],
): Promise<(StoredDocument | null)[]> {
  return Promise.all(
    names.map(async ({ collection, key }) => {
      const found = await answerTo<DocumentRecord | undefined>(documents.get([collection, toOrdered(key)]));
      return found === undefined ? null : { revision: found.revision, value: found.value };
    }),
  );
}

export async function scanOf({ documents }: Stores, scan: DocumentScan): Promise<ScannedPage> {
  const { collection, index, descending, limit } = scan;
  const bounds = boundsOf(scan);
  if (bounds === null) return scanned();
  const keyAt = (place: OrderedPlace | null): IDBValidKey => {
    if (index === null) return [collection, place?.at ?? []];
    return place === null ? [collection, index, []] : [collection, index, place.at, place.key];
  };
  const source = index === null ? documents : documents.index("postings");
  let range = IDBKeyRange.bound(keyAt(bounds.from), keyAt(bounds.to), false, true);
  if (limit === null) return scanned([], false, await answerTo(source.count(range)));
  if (descending) range = await lastOf(source, range, limit + 1);
  let from = range.lower as IDBValidKey[];
  // It takes 32 bits.
  const records = await answerTo<DocumentRecord[]>(source.getAll(range, Math.min(limit + 1, 0xffff_ffff)));
  const found = records.map(({ key, revision, value, postings }) => {
    let at = key;
    if (index !== null) {
      // The document is here for its first posting from the last place on.
      const posting = postings.find((posting) => inOrder(posting, from) >= 0)!;
      from = [...posting, ""];
      at = posting[2];
    }
    return { at: fromOrdered(at), key: fromOrdered(key), revision, value };
  });
  if (descending) found.reverse();
  return scanned(found.slice(0, limit), found.length > limit);
}

/**
 * The end of a range that has so many entries, at least 2. Only cursors go backwards, and each step of
 * theirs is a request: one looks where the end begins.
 */
async function lastOf(source: IDBObjectStore | IDBIndex, range: IDBKeyRange, count: number): Promise<IDBKeyRange> {
  const request = source.openKeyCursor(range, "prev");
  if ((await answerTo(request)) === null) return range;
  request.result!.advance(count - 1);
  const first = await answerTo(request);
  return first === null ? range : IDBKeyRange.bound(first.key, range.upper, false, range.upperOpen);
}

/** Keys of records. They are all that a stream has from a revision up to the key `end`. */
interface Heads {
  readonly heads: readonly number[];
  readonly end: number;
}

/** For each load the keys of the records it needs, and perhaps of others. Few bring the records. */
async function headsOf(
  { appends }: Stores,
  loads: readonly StreamLoad[],
  known: Map<number, AppendRecord>,
): Promise<Heads[]> {
  const index = appends.index("streams");
  const areMany = loads.length >= MANY_STREAMS;
  const headsIn = async (range: IDBKeyRange, count: number): Promise<Heads> => {
    const heads = areMany
      ? ((await answerTo(index.getAllKeys(range, count))) as number[])
      : (await answerTo<AppendRecord[]>(index.getAll(range, count))).map((record) => {
          known.set(record.head, record);
          return record.head;
        });
    return { heads, end: heads.length < count ? Infinity : heads.at(-1)! };
  };
  if (areMany) {
    // What is between the first and the last of many streams may be little else: one look tells.
    const keys = loads.map(keyIn).sort(inOrder);
    const between = IDBKeyRange.bound(keys[0], [...keys.at(-1)!, []]);
    const found = await headsIn(between, loads.length * MANY_STREAMS);
    if (found.end === Infinity && new Set(found.heads).size <= loads.length) {
      return loads.map(() => found);
    }
  }
  return Promise.all(
    loads.map((load) => {
      // Each record has at least one event of the stream. One record more is to see whether there
      // are more; another is the one that `after` is in, without which no answer says nothing.
      const { after, untilRevision, limit } = load;
      const most = Math.min((untilRevision ?? Infinity) - after, limit);
      return headsIn(rangeOf(load, after), Math.max(most, 0) + 2);
    }),
  );
}

async function sliceOf(
  stores: Stores,
  load: StreamLoad,
  places: readonly Place[],
  end: number,
): Promise<Omit<StreamSlice, "snapshot">> {
  const { after, untilRevision, untilPosition, untilTime, limit, whole } = load;
  const known = places.filter(({ record }) => record.head <= end);
  let found = known.filter(
    (place) =>
      place.revision > after &&
      place.revision <= (untilRevision ?? Infinity) &&
      positionOf(place) <= (untilPosition ?? Infinity),
  );
  if (untilTime !== null) {
    const inTime = found.map(eventAt).filter(({ recordedAt }) => recordedAt <= untilTime);
    found = found.slice(0, inTime.length);
  }
  const page = found.slice(0, limit);
  return {
    events: whole ? page.map(eventAt) : messagesAt(page),
    revision:
      end === Infinity && (known.length > 0 || after === 0)
        ? (known.at(-1)?.revision ?? 0)
        : await revisionOf(stores, load),
    more: found.length > limit,
  };
}

function messagesAt(places: readonly Place[]): Messages {
  const forms: string[] = [];
  const data: string[] = [];
  for (const place of places) {
    const message = messageAt(place);
    forms.push(message.form);
    data.push(message.data);
  }
  return { forms, data: `[${data.join(",\n")}]` };
}

/** The matches of each query. Queries asked together often find the same records. */
export function allMatches(
  stores: Stores,
  queries: readonly QueryLoad[],
): Promise<StoredEvent[][]> {
  const known = new Map<number, Promise<(readonly [StoredEvent, string[]])[]>>();
  const eventsAt = async (head: number) => {
    const [record] = await recordsIn(stores, singly([head]), true);
    return eventsOf(record!).map((event) => [event, tagsOf(event)] as const);
  };
  return Promise.all(
    queries.map(async ({ query, after }) => {
      const found = await Promise.all(
        query.map((item) => headsFrom(stores, after, partsOf(item))),
      );
      const heads = new Set(found.flatMap(({ heads }) => heads));
      const events = await Promise.all(
        [...heads].sort(ascending).map((head) => {
          const events = known.get(head) ?? eventsAt(head);
          known.set(head, events);
          return events;
        }),
      );
      return events.flat().flatMap(([event, tags]) => {
        const isMatch =
          event.position > after && query.some((item) => matches(item, event.type, tags));
        return isMatch ? [event] : [];
      });
    }),
  );
}

/** A page of the log, but for the head. */
export async function pageOf(
  stores: Stores,
  request: ReadLogRequest,
  head: number,
): Promise<Pick<LogPage, "events" | "next">> {
  const { after, descending, limit } = request;
  const parts = filtersOf(request);
  const events: StoredEvent[] = [];
  let next = after;
  // The record that ends the way back may go on beyond it.
  let from = descending ? await recordWith(stores, after - 1, head) : after;
  let wanted = FIRST_RECORDS;
  for (let asked = 0; asked < MOST_RECORDS;) {
    const { heads, upTo } = await headsFrom(stores, from, parts, wanted, descending);
    const areAll = parts.length === 0 && heads.length > 0;
    const runs = areAll ? [[heads[0]!, heads.at(-1)!] as const] : singly(heads);
    const found = (await recordsIn(stores, runs, true)).flatMap(eventsOf);
    if (descending) found.reverse();
    for (const event of found) {
      const isPassed = descending ? event.position >= next : event.position <= next;
      if (isPassed || !passes(event, request)) continue;
      events.push(event);
      if (events.length === limit) return { events, next: event.position };
    }
    if (upTo === Infinity) return { events, next: descending ? 0 : Math.max(head, after) };
    next = upTo;
    from = descending ? upTo - 1 : upTo;
    asked += wanted;
    // As many as the rest of the page takes, if they are like those before them.
    const likely = Math.ceil(((limit - events.length) * asked) / Math.max(events.length, 1));
    wanted = Math.min(Math.max(likely, FIRST_RECORDS), MOST_RECORDS);
  }
  return { events, next };
}

/** An index, and names of which an event must have one. */
interface Part {
  readonly index: "tags" | "types" | "correlations";
  readonly anyOf: readonly string[];
}

function partsOf({ types, tags }: QueryItem): Part[] {
  const parts = tags.map((tag): Part => ({ index: "tags", anyOf: [tag] }));
  return [...parts, ...filtersOf({ types, tags: [] })];
}

function filtersOf({
  types,
  tags,
  correlationId = null,
}: QueryItem & { readonly correlationId?: string | null }): Part[] {
  const parts: Part[] = [
    { index: "tags", anyOf: tags },
    { index: "types", anyOf: types },
    { index: "correlations", anyOf: correlationId === null ? [] : [correlationId] },
  ];
  return parts.filter(({ anyOf }) => anyOf.length > 0);
}

function passes(
  event: StoredEvent,
  { types, aggregateTypes, tags, correlationId }: ReadLogRequest,
): boolean {
  const hasAny = (found: readonly string[], asked: readonly string[]) =>
    asked.length === 0 || found.some((name) => asked.includes(name));
  return (
    hasAny([event.type], types) &&
    hasAny([event.aggregateType], aggregateTypes) &&
    hasAny(tagsOf(event), tags) &&
    event.correlationId === (correlationId ?? event.correlationId)
  );
}

function tagsOf(event: StoredEvent): string[] {
  return JSON.parse(event.tags) as string[];
}

/** The key of the record with the event at this position: the store's head, if that is before it. */
async function recordWith({ directory }: Stores, position: number, head: number): Promise<number> {
  return ((await answerTo(directory.getKey(IDBKeyRange.lowerBound(position)))) as number | undefined) ?? head;
}

/**
 * Keys of the records with events after a position, in each of which every part finds something,
 * though not always in one event. They are all there are up to `upTo`, which
 * is `Infinity` if they are all. Going back, they are the record with this key and those before it, down to
 * `upTo`.
 */
async function headsFrom(
  { commits, directory }: Stores,
  position: number,
  parts: readonly Part[],
  limit?: number,
  descending = false,
): Promise<{ readonly heads: number[]; readonly upTo: number }> {
  const keysIn = async (source: IDBObjectStore | IDBIndex, range: IDBKeyRange) => {
    const wanted = descending ? await lastOf(source, range, limit!) : range;
    return (await answerTo(source.getAllKeys(wanted, limit))) as number[];
  };
  const keysOf = ({ index, anyOf }: Part) =>
    anyOf.flatMap((name) => [
      keysIn(
        commits.index(index),
        descending
          ? IDBKeyRange.bound([name], [name, position])
          : IDBKeyRange.bound([name, position], [name, []], true),
      ),
      // The first cause itself is a command.
      ...(index === "correlations"
        ? [keysIn(commits.index("commandIds"), IDBKeyRange.only(name))]
        : []),
    ]);
  const lists = await Promise.all(
    parts.length === 0
      ? [Promise.all([keysIn(directory, descending ? IDBKeyRange.upperBound(position) : IDBKeyRange.lowerBound(position, true))])]
      : parts.map((part) => Promise.all(keysOf(part))),
  );
  const full = lists.flat().filter((keys) => keys.length === limit);
  const upTo = descending ? Math.max(...full.map((keys) => keys[0]!)) : Math.min(...full.map((keys) => keys.at(-1)!));
  const sets = lists.map((keys) => new Set(keys.flat()));
  const isBetween = (head: number) =>
    descending ? head <= position && head >= upTo : head > position && head <= upTo;
  const heads = [...sets[0]!].filter((head) => isBetween(head) && sets.every((set) => set.has(head)));
  return { heads, upTo: Math.abs(upTo) };
}

/** The records of these runs. Of those that are known only what surrounds their events is read. */
async function recordsIn(
  { appends, commits }: Stores,
  runs: readonly Run[],
  whole: boolean,
  known?: ReadonlyMap<number, AppendRecord>,
): Promise<Opened[]> {
  const read = async <Kept>(store: IDBObjectStore, [first, last]: Run): Promise<Kept[]> =>
    first === last
      ? [await answerTo<Kept>(store.get(first))]
      : answerTo<Kept[]>(store.getAll(IDBKeyRange.bound(first, last)));
  const found = runs.map(async (run) => {
    const at = known?.get(run[0]);
    const [folded, around] = await Promise.all([
      at === undefined ? read<AppendRecord>(appends, run) : [at],
      whole ? read<CommitsRecord>(commits, run) : [],
    ]);
    return folded.map((record, index) => opened(record, around[index]));
  });
  return (await Promise.all(found)).flat();
}

/** Records whose neighbours are not known, each by itself, in order. */
function singly(heads: Iterable<number>): Run[] {
  return [...new Set(heads)].sort(ascending).map((head) => [head, head]);
}

function ascending(a: number, b: number): number {
  return a - b;
}
