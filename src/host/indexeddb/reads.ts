import { checkEpoch } from "../epoch.js";
import { matches } from "../query.js";
import type {
  Commit,
  CommitFacts,
  FirstOutcome,
  LogPage,
  QueryItem,
  QueryLoad,
  ReadLogRequest,
  StoredEvent,
  StreamLoad,
  StreamSlice,
} from "../storage.js";
import { answerTo, type Stores } from "./connection.js";
import type { Recent } from "./recent.js";
import {
  checkState,
  eventsOf,
  eventsOfStream,
  firstOutcomeOf,
  readState,
  type AppendRecord,
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
  if (expectedEpoch !== undefined) checkEpoch(expectedEpoch, state.epoch);
  return state;
}

/** What is remembered is asked before anything is awaited, so that it is all of one head. */
export async function factsOf(
  stores: Stores,
  commits: readonly Commit[],
  recent?: Recent,
): Promise<CommitFacts[]> {
  const revisions = commits.map(
    ({ aggregateType, aggregateId }) =>
      recent?.revision(aggregateType, aggregateId) ??
      revisionOf(stores, aggregateType, aggregateId),
  );
  const matches = commits.map(({ condition }) => {
    if (condition === null) return null;
    const match = recent?.firstMatch(condition);
    return match === undefined ? firstMatch(stores, condition) : match;
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

async function revisionOf(
  { appends }: Stores,
  aggregateType: string,
  aggregateId: string,
): Promise<number> {
  const range = IDBKeyRange.bound([aggregateType, aggregateId], [aggregateType, aggregateId, []]);
  const cursor = await answerTo(appends.index("streams").openKeyCursor(range, "prev"));
  return cursor === null ? 0 : (cursor.key as [string, string, number])[2];
}

export async function firstOutcomes(
  { appends }: Stores,
  commandIds: readonly string[],
): Promise<(FirstOutcome | null)[]> {
  if (commandIds.length === 0) return [];
  const index = appends.index("commandIds");
  // New ids sort by time, so one look tells that none of them is known, as is nearly always so.
  const sorted = [...commandIds].sort();
  const range = IDBKeyRange.bound(sorted[0], sorted.at(-1));
  if ((await answerTo(index.getKey(range))) === undefined) return commandIds.map(() => null);
  return Promise.all(
    commandIds.map(async (id) => {
      const record = await answerTo<AppendRecord | undefined>(index.get(id));
      return firstOutcomeOf(record, id);
    }),
  );
}

/** A read of the records that hold the events of a stream which a load asks for. */
interface StreamRange {
  readonly keys: IDBKeyRange;
  readonly count: number;
}

function rangeOf({
  aggregateType,
  aggregateId,
  after,
  untilRevision,
  limit,
}: StreamLoad): StreamRange {
  return {
    keys: IDBKeyRange.bound([aggregateType, aggregateId, after], [aggregateType, aggregateId, []]),
    // Each record has at least one event of the stream. One record more is to see whether there
    // are more; another is the one that `after` is in, without which an empty answer says nothing.
    count: Math.max(Math.min((untilRevision ?? Infinity) - after, limit), 0) + 2,
  };
}

export async function slicesOf(
  stores: Stores,
  loads: readonly StreamLoad[],
): Promise<StreamSlice[]> {
  const ranges = loads.map(rangeOf);
  const records =
    (await sharedRecords(stores, ranges)) ??
    (await Promise.all(
      ranges.map(({ keys, count }) =>
        answerTo<AppendRecord[]>(stores.appends.index("streams").getAll(keys, count)),
      ),
    ));
  return Promise.all(
    loads.map((load, index) => sliceOf(stores, load, records[index]!, ranges[index]!.count)),
  );
}

/** Each record once, if the streams share enough of them to be worth the detour by the keys. */
async function sharedRecords(
  stores: Stores,
  ranges: readonly StreamRange[],
): Promise<AppendRecord[][] | undefined> {
  if (ranges.length < MANY_STREAMS) return undefined;
  const heads = await Promise.all(
    ranges.map(
      ({ keys, count }) =>
        answerTo(stores.appends.index("streams").getAllKeys(keys, count)) as Promise<number[]>,
    ),
  );
  const distinct = [...new Set(heads.flat())];
  if (2 * distinct.length > heads.flat().length) return undefined;
  const records = await recordsAt(stores, distinct);
  const recordOf = new Map(records.map((record) => [record.head, record]));
  return heads.map((heads) => heads.map((head) => recordOf.get(head)!));
}

async function sliceOf(
  stores: Stores,
  { aggregateType, aggregateId, after, untilRevision, untilTime, limit }: StreamLoad,
  records: readonly AppendRecord[],
  count: number,
): Promise<StreamSlice> {
  const found = records.flatMap((record) => eventsOfStream(record, aggregateType, aggregateId));
  const reachesEnd = records.length < count && (found.length > 0 || after === 0);
  const events = found.filter(
    (event) =>
      event.revision > after &&
      event.revision <= (untilRevision ?? Infinity) &&
      (untilTime === null || event.recordedAt <= untilTime),
  );
  return {
    events: events.slice(0, limit),
    revision: reachesEnd
      ? (found.at(-1)?.revision ?? 0)
      : await revisionOf(stores, aggregateType, aggregateId),
    more: events.length > limit,
  };
}

/** The lowest position of an event that matches a condition. */
async function firstMatch(stores: Stores, { query, after }: QueryLoad): Promise<number | null> {
  const positions = await Promise.all(
    query.map(async (item) => {
      const parts = partsOf(item);
      // A record found by a single part has a match for certain.
      const { heads } = await headsAfter(stores, after, parts, parts.length > 1 ? undefined : 1);
      for (const head of heads) {
        const [record] = await recordsAt(stores, [head]);
        const match = eventsOf(record!).find(
          (event) => event.position > after && fits(event, item),
        );
        if (match !== undefined) return match.position;
      }
      return Infinity;
    }),
  );
  const lowest = Math.min(...positions);
  return lowest === Infinity ? null : lowest;
}

/** The matches of each query. Queries asked together often find the same records. */
export function allMatches(
  stores: Stores,
  queries: readonly QueryLoad[],
): Promise<StoredEvent[][]> {
  const known = new Map<number, Promise<TaggedEvent[]>>();
  const eventsAt = (head: number): Promise<TaggedEvent[]> => {
    const events = known.get(head) ?? recordsAt(stores, [head]).then(([record]) => tagged(record!));
    known.set(head, events);
    return events;
  };
  return Promise.all(
    queries.map(async ({ query, after }) => {
      const found = await Promise.all(
        query.map((item) => headsAfter(stores, after, partsOf(item))),
      );
      const heads = new Set(found.flatMap(({ heads }) => heads));
      const events = await Promise.all([...heads].sort(ascending).map(eventsAt));
      return events
        .flat()
        .filter(
          ({ event, tags }) =>
            event.position > after && query.some((item) => matches(item, event.type, tags)),
        )
        .map(({ event }) => event);
    }),
  );
}

interface TaggedEvent {
  readonly event: StoredEvent;
  readonly tags: readonly string[];
}

function tagged(record: AppendRecord): TaggedEvent[] {
  return eventsOf(record).map((event) => ({ event, tags: tagsOf(event) }));
}

/** A page of the log, but for the head. */
export async function pageOf(
  stores: Stores,
  request: ReadLogRequest,
  head: number,
): Promise<Pick<LogPage, "events" | "next">> {
  const { after, limit } = request;
  const parts = filtersOf(request);
  const events: StoredEvent[] = [];
  let next = after;
  let wanted = FIRST_RECORDS;
  for (let asked = 0; asked < MOST_RECORDS;) {
    const { records, upTo } = await recordsAfter(stores, next, parts, wanted);
    for (const event of records.flatMap(eventsOf)) {
      if (event.position <= next || !passes(event, request)) continue;
      events.push(event);
      if (events.length === limit) return { events, next: event.position };
    }
    if (upTo === Infinity) return { events, next: Math.max(head, after) };
    next = upTo;
    asked += wanted;
    // As many as the rest of the page takes, if they are like those before them.
    const likely = Math.ceil(((limit - events.length) * asked) / Math.max(events.length, 1));
    wanted = Math.min(Math.max(likely, FIRST_RECORDS), MOST_RECORDS);
  }
  return { events, next };
}

/** An index, and names of which an event must have one. */
interface Part {
  readonly index: "tags" | "types";
  readonly anyOf: readonly string[];
}

function partsOf({ types, tags }: QueryItem): Part[] {
  const parts: Part[] = tags.map((tag) => ({ index: "tags", anyOf: [tag] }));
  if (types.length > 0) parts.push({ index: "types", anyOf: types });
  return parts;
}

function fits(event: StoredEvent, item: QueryItem): boolean {
  return matches(item, event.type, tagsOf(event));
}

function filtersOf({ types, tags }: ReadLogRequest): Part[] {
  const parts: Part[] = [];
  if (tags.length > 0) parts.push({ index: "tags", anyOf: tags });
  if (types.length > 0) parts.push({ index: "types", anyOf: types });
  return parts;
}

function passes(event: StoredEvent, { types, aggregateTypes, tags }: ReadLogRequest): boolean {
  return (
    (types.length === 0 || types.includes(event.type)) &&
    (aggregateTypes.length === 0 || aggregateTypes.includes(event.aggregateType)) &&
    (tags.length === 0 || tagsOf(event).some((tag) => tags.includes(tag)))
  );
}

function tagsOf(event: StoredEvent): string[] {
  return JSON.parse(event.tags) as string[];
}

/**
 * Keys of the records with events after a position, in each of which every part finds something,
 * though not always in one event. They are all there are up to `upTo`.
 */
async function headsAfter(
  { appends }: Stores,
  position: number,
  parts: readonly Part[],
  limit?: number,
): Promise<{ readonly heads: number[]; readonly upTo: number }> {
  const keysIn = (source: IDBObjectStore | IDBIndex, range: IDBKeyRange) =>
    answerTo(source.getAllKeys(range, limit)) as Promise<number[]>;
  const keysOf = ({ index, anyOf }: Part) =>
    anyOf.map((name) =>
      keysIn(appends.index(index), IDBKeyRange.bound([name, position], [name, []], true)),
    );
  const lists = await Promise.all(
    parts.length === 0
      ? [Promise.all([keysIn(appends, IDBKeyRange.lowerBound(position, true))])]
      : parts.map((part) => Promise.all(keysOf(part))),
  );
  const upTo = Math.min(
    ...lists.flat().map((keys) => (keys.length === limit ? keys.at(-1)! : Infinity)),
  );
  const sets = lists.map((keys) => new Set(keys.flat()));
  const heads = [...sets[0]!].filter((head) => head <= upTo && sets.every((set) => set.has(head)));
  return { heads: heads.sort(ascending), upTo };
}

/** As {@link headsAfter}, with the records. */
async function recordsAfter(
  stores: Stores,
  position: number,
  parts: readonly Part[],
  limit: number,
): Promise<{ readonly records: AppendRecord[]; readonly upTo: number }> {
  if (parts.length > 0) {
    const { heads, upTo } = await headsAfter(stores, position, parts, limit);
    return { records: await recordsAt(stores, heads), upTo };
  }
  const range = IDBKeyRange.lowerBound(position, true);
  const records = await answerTo<AppendRecord[]>(stores.appends.getAll(range, limit));
  return { records, upTo: records.length === limit ? records.at(-1)!.head : Infinity };
}

function recordsAt({ appends }: Stores, heads: readonly number[]): Promise<AppendRecord[]> {
  return Promise.all(heads.map((head) => answerTo<AppendRecord>(appends.get(head))));
}

function ascending(a: number, b: number): number {
  return a - b;
}
