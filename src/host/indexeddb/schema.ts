import { newEpoch } from "../epoch.js";
import { formOf, partsOf } from "../messages.js";
import { toOrdered } from "../order.js";
import { keyOf, type Stream } from "../recent.js";
import type { Commit, FirstOutcome, SaveDocumentsRequest, StoredEvent, Verdict } from "../storage.js";
import type { Stores } from "./connection.js";
import { unknownFormat } from "./errors.js";
import { commitsOf, type OlderRecord } from "./older.js";

/** Version of the stored form, and of the database. */
export const FORMAT = 3;

/** For each store its key, and the lists that are indexes of it. */
const LAYOUT = {
  meta: [null],
  appends: ["head", "streams"],
  commits: ["head", "commandIds", "tags", "types", "correlations"],
  directory: ["head"],
  documents: [["collection", "key"], "postings"],
} satisfies Record<string, readonly [key: string | string[] | null, ...indexes: string[]]>;

export type StoreName = keyof typeof LAYOUT;

export const STORES = Object.keys(LAYOUT) as StoreName[];

/** Appends are judged on what is read before them; these are a safety net. */
const UNIQUE = ["streams", "commandIds"];

const STATE_KEY = "store";

/** What there is to know of the store as a whole: the one record of `meta`. */
export interface StoreState {
  readonly format: number;
  readonly epoch: string;
  readonly head: number;
  readonly lastRecordedAt: number;
  /** How many records the events are in. */
  readonly records: number;
}

/**
 * Commits of one append, of which three stores have a record under the same key: this is what is
 * folded. A record is read whole or not at all, and texts are cheaper to read than objects.
 *
 * The lists that are indexed hold keys; each ends in the *last* revision or position that the record
 * has of its stream, tag or type, and so does the record's own key. Whatever comes after a revision or
 * position is then one range of keys, even if it starts inside a record.
 */
export interface AppendRecord {
  /** Position of the last event: the key. */
  readonly head: number;
  readonly streams: readonly StreamKey[];
  /** The JSON of {@link Contents}. */
  readonly contents: string;
  /** The payloads, one after the other. */
  readonly data: string;
}

/** What surrounds the events, and what else they are found by. */
export interface CommitsRecord {
  readonly head: number;
  readonly commandIds: readonly string[];
  readonly tags: readonly PostingKey[];
  readonly types: readonly PostingKey[];
  /** First causes, but for commands that are their own. */
  readonly correlations: readonly PostingKey[];
  /** The JSON of {@link Envelopes}. */
  readonly envelopes: string;
}

/** The streams once more, for those who look through all records. */
export interface DirectoryRecord {
  readonly head: number;
  /** Hashes of the streams: see {@link hashOf}. */
  readonly streams: readonly number[];
  /** The last revisions that the record has of them. */
  readonly revisions: readonly number[];
}

export type StreamKey = readonly [aggregateType: string, aggregateId: string, revision: number];
export type PostingKey = readonly [name: string, position: number];

interface Contents {
  readonly forms: readonly string[];
  /** Of each event the index of its stream, … */
  readonly streamOf: readonly number[];
  /** … that of its form, … */
  readonly formOf: readonly number[];
  /** … and where its payload ends. */
  readonly ends: readonly number[];
}

interface Envelopes {
  readonly commits: readonly CommitEnvelope[];
  readonly events: readonly EventEnvelope[];
}

/** Names would be a third of it. */
type EventEnvelope = readonly [eventId: string, ...tags: string[]];
type CommitEnvelope = readonly [
  hash: string,
  count: number,
  recordedAt: number,
  issuedAt: string,
  /** `null` if the command is its own first cause. */
  correlationId: string | null,
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
  const { objectStoreNames: names } = database;
  const writeState = (state: StoreState) => void storesOf(transaction).meta.put(state, STATE_KEY);
  if (from === 0) {
    createStores(database);
    return writeState({ format: FORMAT, epoch: newEpoch(), head: 0, lastRecordedAt: 0, records: 0 });
  }
  if (!names.contains("meta") || !names.contains("appends")) return transaction.abort();
  readState(transaction.objectStore("meta")).onsuccess = ({ target }) => {
    const state = (target as IDBRequest<StoreState | undefined>).result;
    if (state?.format !== from || names.contains("documents") !== (from === 2)) return transaction.abort();
    createStores(database);
    const stores = storesOf(transaction);
    const { appends } = stores;
    for (const index of [...appends.indexNames]) if (index !== "streams") appends.deleteIndex(index);
    let records = 0;
    appends.openCursor().onsuccess = ({ target }) => {
      const cursor = (target as IDBRequest<IDBCursorWithValue | null>).result;
      if (cursor === null) return writeState({ ...state, format: FORMAT, records });
      const [folded, surrounding, listed] = recordsOf(commitsOf(cursor.value as OlderRecord));
      cursor.update(folded);
      stores.commits.add(surrounding);
      stores.directory.add(listed);
      records += 1;
      cursor.continue();
    };
  };
}

/** Those that are not there yet. */
function createStores(database: IDBDatabase): void {
  for (const name of STORES) {
    if (database.objectStoreNames.contains(name)) continue;
    const [keyPath, ...indexes] = LAYOUT[name];
    const store = database.createObjectStore(name, { keyPath });
    for (const index of indexes) store.createIndex(index, index, { multiEntry: true, unique: UNIQUE.includes(index) });
  }
}

export function storesOf(transaction: IDBTransaction): Record<StoreName, IDBObjectStore> {
  const stores = STORES.map((name) => [name, transaction.objectStore(name)]);
  return Object.fromEntries(stores) as Record<StoreName, IDBObjectStore>;
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
  stores: Stores,
  state: StoreState,
  commits: readonly Commit[],
  verdicts: readonly Verdict[],
): number {
  const accepted = commits.flatMap((commit, index): Accepted[] => {
    const verdict = verdicts[index]!;
    return verdict.kind === "committed" ? [[commit, verdict]] : [];
  });
  if (accepted.length === 0) return state.head;
  let { records } = state;
  for (let start = 0; start < accepted.length; start += COMMITS_PER_RECORD) {
    const [folded, surrounding, listed] = recordsOf(accepted.slice(start, start + COMMITS_PER_RECORD));
    stores.appends.add(folded);
    stores.commits.add(surrounding);
    stores.directory.add(listed);
    records += 1;
  }
  const [, { position, count, recordedAt }] = accepted.at(-1)!;
  const head = position + count - 1;
  const after: StoreState = { ...state, head, lastRecordedAt: recordedAt, records };
  stores.meta.put(after, STATE_KEY);
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

/** A commit as it is kept, and where. */
export type Accepted = readonly [
  Omit<Commit, "expected" | "condition">,
  Pick<Verdict & { readonly kind: "committed" }, "position" | "revision" | "count" | "recordedAt">,
];

/** What the three stores keep of these commits. */
function recordsOf(accepted: readonly Accepted[]): [AppendRecord, CommitsRecord, DirectoryRecord] {
  const streams: StreamKey[] = [];
  const streamIndexes = new Map<string, number>();
  const tags = new Map<string, number>();
  const types = new Map<string, number>();
  const correlations = new Map<string, number>();
  const forms = new Map<string, number>();
  const streamOf: number[] = [];
  const formOfEach: number[] = [];
  const ends: number[] = [];
  const around: CommitEnvelope[] = [];
  const events: EventEnvelope[] = [];
  let data = "";
  let head = 0;
  for (const [commit, { position, revision, count, recordedAt }] of accepted) {
    const { commandId, hash, aggregateType, aggregateId, issuedAt, correlationId, causationId, actor, extra } = commit;
    const stream = indexIn(streamIndexes, keyOf(commit));
    streams[stream] = [aggregateType, aggregateId, revision];
    head = position - 1;
    const isFirst = correlationId === commandId;
    if (!isFirst) correlations.set(correlationId, head + count);
    around.push([hash, count, recordedAt, issuedAt, isFirst ? null : correlationId, causationId, actor, extra]);
    for (const event of commit.events) {
      types.set(event.type, ++head);
      for (const tag of event.tags) tags.set(tag, head);
      events.push([event.eventId, ...event.tags]);
      streamOf.push(stream);
      formOfEach.push(indexIn(forms, formOf(event.type, event.schemaVersion)));
      data += event.data;
      ends.push(data.length);
    }
  }
  const contents: Contents = { forms: [...forms.keys()], streamOf, formOf: formOfEach, ends };
  const envelopes: Envelopes = { commits: around, events };
  return [
    { head, streams, contents: JSON.stringify(contents), data },
    {
      head,
      commandIds: accepted.map(([{ commandId }]) => commandId),
      tags: [...tags],
      types: [...types],
      correlations: [...correlations],
      envelopes: JSON.stringify(envelopes),
    },
    {
      head,
      streams: streams.map(([aggregateType, aggregateId]) => hashOf({ aggregateType, aggregateId })),
      revisions: streams.map(([, , revision]) => revision),
    },
  ];
}

/**
 * FNV-1a over UTF-16 units, shortened to what V8 keeps in place. Streams that have the same are told
 * apart in the records.
 */
export function hashOf({ aggregateType, aggregateId }: Stream): number {
  let hash = 0x811c9dc5;
  const text = aggregateType + aggregateId;
  for (let index = 0; index < text.length; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return hash & 0x3fff_ffff;
}

/** The index of a text among those that there are, or else of a new one. */
function indexIn(indexes: Map<string, number>, text: string): number {
  const index = indexes.get(text) ?? indexes.size;
  indexes.set(text, index);
  return index;
}

/** A record, read. */
export interface Opened extends Contents, Omit<AppendRecord, "contents"> {
  /** Only where whole events are wanted. */
  readonly around: (Envelopes & Pick<CommitsRecord, "commandIds">) | undefined;
}

export function opened({ contents, ...record }: AppendRecord, commits?: CommitsRecord): Opened {
  const around = commits && { ...(JSON.parse(commits.envelopes) as Envelopes), commandIds: commits.commandIds };
  return { ...record, ...(JSON.parse(contents) as Contents), around };
}

/** Where an event is. */
export interface Place {
  readonly record: Opened;
  /** Index among the record's events. */
  readonly index: number;
  readonly revision: number;
}

/** Those of all the record's events, in order. */
export function placesIn(record: Opened): Place[] {
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

/** An event's form and the text of its data. */
export function messageAt({ record: { forms, formOf, ends, data }, index }: Place) {
  return { form: forms[formOf[index]!]!, data: data.slice(ends[index - 1] ?? 0, ends[index]) };
}

export function eventsOf(record: Opened): StoredEvent[] {
  return placesIn(record).map(eventAt);
}

export function eventAt(place: Place): StoredEvent {
  const { record, index, revision } = place;
  const { commandIds, commits, events } = record.around!;
  const [aggregateType, aggregateId] = record.streams[record.streamOf[index]!]!;
  const { form, data } = messageAt(place);
  const { type, version: schemaVersion } = partsOf(form);
  const [eventId, ...tags] = events[index]!;
  let commit = 0;
  for (let before = index; before >= commits[commit]![1]; commit += 1) before -= commits[commit]![1];
  const commandId = commandIds[commit]!;
  const [, , recordedAt, issuedAt, correlationId, causationId, actor, extra] = commits[commit]!;
  return {
    position: positionOf(place),
    aggregateType,
    aggregateId,
    revision,
    eventId,
    type,
    schemaVersion,
    tags: JSON.stringify(tags),
    recordedAt: new Date(recordedAt).toISOString(),
    issuedAt,
    commandId,
    correlationId: correlationId ?? commandId,
    causationId,
    actor,
    extra,
    data,
  };
}

export function firstOutcomeOf(record: Opened, commandId: string): FirstOutcome {
  const { commandIds, commits } = record.around!;
  const [hash, count, recordedAt] = commits[commandIds.indexOf(commandId)]!;
  const events = eventsOf(record).filter((event) => event.commandId === commandId);
  const { aggregateType, aggregateId, position } = events[0]!;
  return { hash, aggregateType, aggregateId, position, revision: events.at(-1)!.revision, count, recordedAt };
}
