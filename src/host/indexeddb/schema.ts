import { newEpoch } from "../epoch.js";
import type { Commit, FirstOutcome, StoredEvent, Verdict } from "../storage.js";
import { unknownFormat } from "./errors.js";

/** Version of the stored form, and of the database. */
export const FORMAT = 1;

export const META = "meta";
export const APPENDS = "appends";

const STATE_KEY = "store";

/** What there is to know of the store as a whole: the one record of `meta`. */
export interface StoreState {
  readonly format: number;
  readonly epoch: string;
  readonly head: number;
  readonly lastRecordedAt: number;
}

/**
 * Commits of one append. The lists hold index keys; each ends in the *last* revision or position
 * that the record has of its stream, tag or type, and so does the record's own key. Whatever comes
 * after a revision or position is then one range of keys, even if it starts inside a record.
 */
export interface AppendRecord {
  /** Position of the record's last event: its key. */
  readonly head: number;
  readonly commits: readonly CommitText[];
  readonly commandIds: readonly string[];
  readonly streams: readonly StreamKey[];
  readonly tags: readonly PostingKey[];
  readonly types: readonly PostingKey[];
}

export type StreamKey = readonly [aggregateType: string, aggregateId: string, revision: number];
export type PostingKey = readonly [name: string, position: number];

/** A text is cheap to pass by for those who want another commit of the record; an object is not. */
interface CommitText {
  /** Index among the record's streams. */
  readonly stream: number;
  /** JSON of a {@link StoredCommit}. */
  readonly text: string;
}

interface StoredCommit {
  readonly commandId: string;
  readonly hash: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** Position of its first event. */
  readonly position: number;
  /** Revision of its last event. */
  readonly revision: number;
  readonly recordedAt: string;
  readonly issuedAt: string;
  readonly correlationId: string;
  readonly causationId: string | null;
  readonly actor: string | null;
  readonly extra: string | null;
  readonly events: readonly Pick<
    StoredEvent,
    "eventId" | "type" | "schemaVersion" | "tags" | "data"
  >[];
}

/** Whoever reads one commit of a record takes the others along, so records are kept short. */
const COMMITS_PER_RECORD = 16;

export function createStores(database: IDBDatabase): void {
  const state: StoreState = { format: FORMAT, epoch: newEpoch(), head: 0, lastRecordedAt: 0 };
  database.createObjectStore(META).put(state, STATE_KEY);
  const appends = database.createObjectStore(APPENDS, { keyPath: "head" });
  // Appends are judged on what is read before them; the unique indexes are a safety net.
  appends.createIndex("commandIds", "commandIds", { multiEntry: true, unique: true });
  appends.createIndex("streams", "streams", { multiEntry: true, unique: true });
  appends.createIndex("tags", "tags", { multiEntry: true });
  appends.createIndex("types", "types", { multiEntry: true });
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

/** The state after the commits that were accepted. */
export function advance(state: StoreState, verdicts: readonly Verdict[]): StoreState {
  let { head, lastRecordedAt } = state;
  for (const verdict of verdicts) {
    if (verdict.kind !== "committed") continue;
    head = verdict.position + verdict.count - 1;
    lastRecordedAt = verdict.recordedAt;
  }
  return { ...state, head, lastRecordedAt };
}

export function writeState(meta: IDBObjectStore, state: StoreState): void {
  meta.put(state, STATE_KEY);
}

/** The records of the commits that were accepted. */
export function recordsOf(
  commits: readonly Commit[],
  verdicts: readonly Verdict[],
): AppendRecord[] {
  const accepted: Accepted[] = [];
  commits.forEach((commit, index) => {
    const verdict = verdicts[index]!;
    if (verdict.kind === "committed") accepted.push({ commit, verdict });
  });
  const records: AppendRecord[] = [];
  for (let start = 0; start < accepted.length; start += COMMITS_PER_RECORD) {
    records.push(recordOf(accepted.slice(start, start + COMMITS_PER_RECORD)));
  }
  return records;
}

interface Accepted {
  readonly commit: Commit;
  readonly verdict: Verdict & { readonly kind: "committed" };
}

function recordOf(accepted: readonly Accepted[]): AppendRecord {
  const texts: CommitText[] = [];
  const streams: StreamKey[] = [];
  const streamIndexes = new Map<string, number>();
  const tags = new Map<string, number>();
  const types = new Map<string, number>();
  let head = 0;
  for (const { commit, verdict } of accepted) {
    const { aggregateType, aggregateId } = commit;
    const key = JSON.stringify([aggregateType, aggregateId]);
    const stream = streamIndexes.get(key) ?? streams.length;
    streamIndexes.set(key, stream);
    streams[stream] = [aggregateType, aggregateId, verdict.revision];
    texts.push({ stream, text: textOf(commit, verdict) });
    commit.events.forEach((event, index) => {
      head = verdict.position + index;
      types.set(event.type, head);
      for (const tag of event.tags) tags.set(tag, head);
    });
  }
  return {
    head,
    commits: texts,
    commandIds: accepted.map(({ commit }) => commit.commandId),
    streams,
    tags: [...tags],
    types: [...types],
  };
}

function textOf(commit: Commit, { position, revision, recordedAt }: Accepted["verdict"]): string {
  const stored: StoredCommit = {
    commandId: commit.commandId,
    hash: commit.hash,
    aggregateType: commit.aggregateType,
    aggregateId: commit.aggregateId,
    position,
    revision,
    recordedAt: new Date(recordedAt).toISOString(),
    issuedAt: commit.issuedAt,
    correlationId: commit.correlationId,
    causationId: commit.causationId,
    actor: commit.actor,
    extra: commit.extra,
    events: commit.events.map(({ eventId, type, schemaVersion, tags, data }) => {
      return { eventId, type, schemaVersion, tags: JSON.stringify(tags), data };
    }),
  };
  return JSON.stringify(stored);
}

export function eventsOf({ commits }: AppendRecord): StoredEvent[] {
  return commits.flatMap(eventsOfCommit);
}

export function eventsOfStream(
  { commits, streams }: AppendRecord,
  aggregateType: string,
  aggregateId: string,
): StoredEvent[] {
  const wanted = streams.findIndex(([type, id]) => type === aggregateType && id === aggregateId);
  return commits.filter(({ stream }) => stream === wanted).flatMap(eventsOfCommit);
}

export function firstOutcomeOf(
  record: AppendRecord | undefined,
  commandId: string,
): FirstOutcome | null {
  const found = record?.commits[record.commandIds.indexOf(commandId)];
  if (found === undefined) return null;
  const commit = parse(found);
  const { hash, aggregateType, aggregateId, position, revision } = commit;
  return {
    hash,
    aggregateType,
    aggregateId,
    position,
    revision,
    count: commit.events.length,
    recordedAt: Date.parse(commit.recordedAt),
  };
}

function eventsOfCommit(found: CommitText): StoredEvent[] {
  const commit = parse(found);
  const firstRevision = commit.revision - commit.events.length + 1;
  return commit.events.map(({ eventId, type, schemaVersion, tags, data }, index) => ({
    position: commit.position + index,
    aggregateType: commit.aggregateType,
    aggregateId: commit.aggregateId,
    revision: firstRevision + index,
    eventId,
    type,
    schemaVersion,
    tags,
    recordedAt: commit.recordedAt,
    issuedAt: commit.issuedAt,
    commandId: commit.commandId,
    correlationId: commit.correlationId,
    causationId: commit.causationId,
    actor: commit.actor,
    extra: commit.extra,
    data,
  }));
}

function parse({ text }: CommitText): StoredCommit {
  return JSON.parse(text) as StoredCommit;
}
