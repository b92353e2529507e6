import { newEpoch } from "../epoch.js";
import { formOf } from "../messages.js";
import { toOrdered } from "../order.js";
import { keyOf } from "../recent.js";
import type { Commit, FirstOutcome, SaveDocumentsRequest, StoredEvent, Verdict } from "../storage.js";
import type { Stores } from "./connection.js";
import { unknownFormat } from "./errors.js";

/** Version of the stored form, and of the database. */
export const FORMAT = 2;

export const META = "meta";
export const APPENDS = "appends";
export const DOCUMENTS = "documents";

const STATE_KEY = "store";

/** What there is to know of the store as a whole: the one record of `meta`. */
export interface StoreState {
  readonly format: number;
  readonly epoch: string;
  readonly head: number;
  readonly lastRecordedAt: number;
}

/**
 * Commits of one append. The lists that are indexed hold keys; each ends in the *last* revision or
 * position that the record has of its stream, tag or type, and so does the record's own key.
 * Whatever comes after a revision or position is then one range of keys, even if it starts inside a
 * record.
 *
 * The others hold texts, which are cheap to pass by for those who want something else of the
 * record: objects are not. Who only folds passes by the envelopes.
 */
export interface AppendRecord {
  /** Position of the record's last event: its key. */
  readonly head: number;
  readonly streams: readonly StreamKey[];
  readonly tags: readonly PostingKey[];
  readonly types: readonly PostingKey[];
  /** First causes, but for commands that are their own. */
  readonly correlations: readonly PostingKey[];
  readonly commandIds: readonly string[];
  /** For each of these the hash of what was asked. */
  readonly hashes: readonly string[];
  /** For each event the index of its stream, … */
  readonly streamOf: readonly number[];
  /** … the JSON of an object with its form as `type` and its `data`, … */
  readonly messages: readonly string[];
  /** … and the JSON of the {@link Envelope} around them. */
  readonly envelopes: readonly string[];
}

export type StreamKey = readonly [aggregateType: string, aggregateId: string, revision: number];
export type PostingKey = readonly [name: string, position: number];

/** What else there is to know of an event and its commit; names would be a third of it. */
type Envelope = readonly [
  type: string,
  eventId: string,
  schemaVersion: number,
  tags: string,
  commandId: string,
  recordedAt: number,
  issuedAt: string,
  correlationId: string,
  causationId: string | null,
  actor: string | null,
  extra: string | null,
];

/** A document. Its key and the values it is found under are ordered texts, for IndexedDB compares UTF-16 units. */
export interface DocumentRecord {
  readonly collection: string;
  readonly key: string;
  readonly revision: number;
  readonly value: string;
  /** In order. */
  readonly postings: readonly DocumentPosting[];
}

/** Each ends in the document's key, so that those of one value are in order. */
export type DocumentPosting = readonly [collection: string, index: string, value: string, key: string];

/** Whoever reads one commit of a record takes the others along, so records are kept short. */
const COMMITS_PER_RECORD = 32;

/**
 * Makes a store of this format in a database that is new, or of an older one. A database that is
 * something else is left as it was: its opening fails.
 */
export function upgrade(database: IDBDatabase, transaction: IDBTransaction, from: number): void {
  if (from === 0) return createStores(database);
  const { objectStoreNames } = database;
  if (!isStore(objectStoreNames)) return transaction.abort();
  const meta = transaction.objectStore(META);
  readState(meta).onsuccess = ({ target }) => {
    const state = (target as IDBRequest<StoreState | undefined>).result;
    if (state?.format !== 1 || objectStoreNames.contains(DOCUMENTS)) return transaction.abort();
    const appends = transaction.objectStore(APPENDS);
    createSince1(database, appends);
    meta.put({ ...state, format: FORMAT }, STATE_KEY);
    appends.openCursor().onsuccess = ({ target }) => {
      const cursor = (target as IDBRequest<IDBCursorWithValue | null>).result;
      if (cursor === null) return;
      cursor.update(withCorrelations(cursor.value as AppendRecord));
      cursor.continue();
    };
  };
}

function withCorrelations(record: AppendRecord): AppendRecord {
  const correlations = new Map<string, number>();
  for (const { position, correlationId, commandId } of eventsOf(record))
    if (correlationId !== commandId) correlations.set(correlationId, position);
  return { ...record, correlations: [...correlations] };
}

/** Whether there is all that every format has. */
export function isStore(names: DOMStringList): boolean {
  return names.contains(META) && names.contains(APPENDS);
}

/** What format 2 has more than format 1. */
function createSince1(database: IDBDatabase, appends: IDBObjectStore): void {
  appends.createIndex("correlations", "correlations", { multiEntry: true });
  const documents = database.createObjectStore(DOCUMENTS, { keyPath: ["collection", "key"] });
  documents.createIndex("postings", "postings", { multiEntry: true });
}

function createStores(database: IDBDatabase): void {
  const state: StoreState = { format: FORMAT, epoch: newEpoch(), head: 0, lastRecordedAt: 0 };
  database.createObjectStore(META).put(state, STATE_KEY);
  const appends = database.createObjectStore(APPENDS, { keyPath: "head" });
  // Appends are judged on what is read before them; the unique indexes are a safety net.
  appends.createIndex("commandIds", "commandIds", { multiEntry: true, unique: true });
  appends.createIndex("streams", "streams", { multiEntry: true, unique: true });
  appends.createIndex("tags", "tags", { multiEntry: true });
  appends.createIndex("types", "types", { multiEntry: true });
  createSince1(database, appends);
}

export function readState(meta: IDBObjectStore): IDBRequest<StoreState | undefined> {
  return meta.get(STATE_KEY) as IDBRequest<StoreState | undefined>;
}

export function checkState(state: StoreState | undefined): StoreState {
  if (state?.format === FORMAT) return state;
  throw unknownFormat(
    state === undefined ? "another database" : `format ${state.format}, not ${FORMAT}`,
  );
}

/** Writes the commits that were accepted, and returns the head after them. */
export function append(
  { meta, appends }: Stores,
  state: StoreState,
  commits: readonly Commit[],
  verdicts: readonly Verdict[],
): number {
  const accepted = commits.flatMap((commit, index): Accepted[] => {
    const verdict = verdicts[index]!;
    return verdict.kind === "committed" ? [[commit, verdict]] : [];
  });
  if (accepted.length === 0) return state.head;
  for (let start = 0; start < accepted.length; start += COMMITS_PER_RECORD) {
    appends.add(recordOf(accepted.slice(start, start + COMMITS_PER_RECORD)));
  }
  const [, { position, count, recordedAt }] = accepted.at(-1)!;
  const head = position + count - 1;
  const after: StoreState = { ...state, head, lastRecordedAt: recordedAt };
  meta.put(after, STATE_KEY);
  return head;
}

/** Empties the collections, and writes and removes the documents. */
export function change({ documents: store }: Stores, { clear, documents }: SaveDocumentsRequest): void {
  for (const collection of clear) store.delete(IDBKeyRange.bound([collection], [collection, []]));
  for (const { collection, key: name, revision, value, postings } of documents) {
    const key = toOrdered(name);
    if (value === null) store.delete([collection, key]);
    else {
      const places = postings.map(([index, value]): DocumentPosting => [collection, index, toOrdered(value), key]);
      const record: DocumentRecord = { collection, key, revision, value, postings: places.sort(inOrder) };
      store.put(record);
    }
  }
}

/** The order of keys. */
export const inOrder = (a: unknown, b: unknown): number => indexedDB.cmp(a, b);

type Accepted = readonly [Commit, Verdict & { readonly kind: "committed" }];

function recordOf(accepted: readonly Accepted[]): AppendRecord {
  const streams: StreamKey[] = [];
  const streamIndexes = new Map<string, number>();
  const tags = new Map<string, number>();
  const types = new Map<string, number>();
  const correlations = new Map<string, number>();
  const streamOf: number[] = [];
  const messages: string[] = [];
  const envelopes: string[] = [];
  let head = 0;
  for (const [commit, { position, revision, recordedAt }] of accepted) {
    const key = keyOf(commit);
    const stream = streamIndexes.get(key) ?? streams.length;
    streamIndexes.set(key, stream);
    streams[stream] = [commit.aggregateType, commit.aggregateId, revision];
    head = position - 1;
    if (commit.correlationId !== commit.commandId)
      correlations.set(commit.correlationId, head + commit.events.length);
    for (const event of commit.events) {
      types.set(event.type, ++head);
      for (const tag of event.tags) tags.set(tag, head);
      const envelope: Envelope = [
        event.type,
        event.eventId,
        event.schemaVersion,
        JSON.stringify(event.tags),
        commit.commandId,
        recordedAt,
        commit.issuedAt,
        commit.correlationId,
        commit.causationId,
        commit.actor,
        commit.extra,
      ];
      streamOf.push(stream);
      const form = formOf(event.type, event.schemaVersion);
      messages.push(`{"type":${JSON.stringify(form)},"data":${event.data}}`);
      envelopes.push(JSON.stringify(envelope));
    }
  }
  return {
    head,
    streams,
    tags: [...tags],
    types: [...types],
    correlations: [...correlations],
    commandIds: accepted.map(([{ commandId }]) => commandId),
    hashes: accepted.map(([{ hash }]) => hash),
    streamOf,
    messages,
    envelopes,
  };
}

/** An event's form and the text of its data. */
export function messageOf({ messages }: AppendRecord, index: number) {
  const message = messages[index]!;
  // In JSON a quote within the type has a backslash before it, so this is where the type ends.
  const end = message.indexOf('","data":');
  return {
    form: JSON.parse(message.slice('{"type":'.length, end + 1)) as string,
    data: message.slice(end + '","data":'.length, -1),
  };
}

/** Where an event is. */
export interface Place {
  readonly record: AppendRecord;
  /** Index among the record's events. */
  readonly index: number;
  readonly revision: number;
}

/** Those of all the record's events, in order. */
export function placesIn(record: AppendRecord): Place[] {
  const { streams, streamOf } = record;
  // Only the last revisions are known.
  const revisions = streams.map(([, , revision]) => revision);
  const places: Place[] = [];
  for (let index = streamOf.length; index-- > 0;)
    places[index] = { record, index, revision: revisions[streamOf[index]!]!-- };
  return places;
}

export function positionOf({ record: { head, streamOf }, index }: Place): number {
  return head + 1 + index - streamOf.length;
}

export function eventsOf(record: AppendRecord): StoredEvent[] {
  return eventsAt(placesIn(record));
}

export function eventsAt(places: readonly Place[]): StoredEvent[] {
  return places.map(eventAt);
}

function eventAt(place: Place): StoredEvent {
  const { record, index, revision } = place;
  const { streams, streamOf, envelopes } = record;
  const [aggregateType, aggregateId] = streams[streamOf[index]!]!;
  const envelope = JSON.parse(envelopes[index]!) as Envelope;
  const [type, eventId, schemaVersion, tags, commandId, recordedAt, issuedAt] = envelope;
  const [, , , , , , , correlationId, causationId, actor, extra] = envelope;
  return {
    position: positionOf(place),
    aggregateType,
    aggregateId,
    revision,
    eventId,
    type,
    schemaVersion,
    tags,
    recordedAt: new Date(recordedAt).toISOString(),
    issuedAt,
    commandId,
    correlationId,
    causationId,
    actor,
    extra,
    data: messageOf(record, index).data,
  };
}

export function firstOutcomeOf(record: AppendRecord, commandId: string): FirstOutcome {
  const events = eventsOf(record).filter((event) => event.commandId === commandId);
  const { aggregateType, aggregateId, position, recordedAt } = events[0]!;
  return {
    hash: record.hashes[record.commandIds.indexOf(commandId)]!,
    aggregateType,
    aggregateId,
    position,
    revision: events.at(-1)!.revision,
    count: events.length,
    recordedAt: Date.parse(recordedAt),
  };
}
