/** A storage adapter under test, and what it is given. */
import { deepFreeze } from "../../payload.js";
import type {
  Answer,
  Commit,
  CommitEvent,
  Document,
  DocumentConflict,
  DocumentExpectation,
  DocumentName,
  DocumentScan,
  DocumentsRead,
  Facts,
  Judge,
  Loaded,
  LoadRequest,
  LogPage,
  Posting,
  Presence,
  ReadLogRequest,
  StorageAdapter,
  StoredEvent,
  StoreInfo,
  StreamLoad,
  StreamSlice,
  Verdict,
} from "../../storage.js";
import { ensure, fails, same } from "./expect.js";
import { judge } from "./judge.js";

/** When tests begin, in milliseconds since 1970. */
export const START = Date.parse("2026-11-23T08:00:00.000Z");

/** Gives what a judge would be told of these commits. */
export type AskFacts = (commits: readonly Commit[]) => Answer<Facts>;

/** A document of which nothing but the name need be said. */
export type DocumentPart = Omit<Document, "postings"> & { readonly postings?: readonly Posting[] };

/** What a change of documents may leave out is empty. */
export interface DocumentsChange {
  readonly expected?: readonly DocumentExpectation[];
  readonly clear?: readonly string[];
  readonly documents?: readonly DocumentPart[];
}

/** A scan of a whole collection by key, but for what it says. */
export type ScanPart = Partial<DocumentScan> & Pick<DocumentScan, "collection">;

export interface DocumentsQuestion {
  readonly names?: readonly DocumentName[];
  readonly scans?: readonly ScanPart[];
}

type Told<Request> = Partial<Omit<Request, "epoch">>;

/**
 * An opened adapter, with a judge that is asked as the engine's would be. Requests are frozen: they are
 * the engine's, and an adapter must leave them as they are.
 */
export class Subject {
  /** The time of the judge, in milliseconds since 1970. */
  now: number = START;
  readonly storage: StorageAdapter;
  /** What the store has said of itself when it was opened. */
  readonly info: StoreInfo;
  readonly #askFacts: AskFacts | undefined;

  /** `info` is what the store is taken to be. */
  constructor(storage: StorageAdapter, info: StoreInfo, askFacts?: AskFacts) {
    this.storage = storage;
    this.info = info;
    this.#askFacts = askFacts;
  }

  /** An adapter that judges by itself has `askFacts`. */
  static async open(storage: StorageAdapter, askFacts?: AskFacts): Promise<Subject> {
    return new Subject(storage, await storage.open(), askFacts);
  }

  get epoch(): string {
    return this.info.epoch;
  }

  /** Who is there, of which an adapter knows that declares it. */
  get presence(): Presence {
    const { presence } = this.storage;
    ensure(presence !== undefined, "the adapter has no presence, which it declares");
    return presence;
  }

  /** `inspect` sees the facts that the judge is given. */
  async append(commits: readonly Commit[], inspect?: (facts: Facts) => void): Promise<Verdict[]> {
    const { now } = this;
    return this.appendWith(commits, (facts) => {
      inspect?.(facts);
      return judge(commits, facts, now);
    });
  }

  /** With another judge. */
  async appendWith(commits: readonly Commit[], judge: Judge): Promise<Verdict[]> {
    return this.storage.append(deepFreeze({ epoch: this.epoch, now: this.now, commits }), judge);
  }

  /** Appends that must all be accepted. */
  async accept(...commits: readonly Commit[]): Promise<Committed[]> {
    const verdicts = await this.append(commits);
    for (const verdict of verdicts) same(verdict.kind, "committed", JSON.stringify(verdict));
    return verdicts as Committed[];
  }

  /** What the judge would be told of these commits. */
  async facts(...commits: readonly Commit[]): Promise<Facts> {
    if (this.#askFacts !== undefined) return this.#askFacts(commits);
    const nothing = new Error("only asked for the facts");
    let facts: Facts | undefined;
    const asking = () =>
      this.appendWith(commits, (found) => {
        facts = structuredClone(found);
        throw nothing;
      });
    await fails(asking, { message: nothing.message });
    return facts!;
  }

  async load({ commands = [], streams = [], queries = [] }: Told<LoadRequest>): Promise<Loaded> {
    return this.storage.load(deepFreeze({ epoch: this.epoch, commands, streams, queries }));
  }

  async slice(aggregateType: string, aggregateId: string, options?: Partial<StreamLoad>): Promise<StreamSlice> {
    const load = { ...wholeStream, aggregateType, aggregateId, ...options };
    return (await this.load({ streams: [load] })).streams[0]!;
  }

  /** The same, of which the events come whole. */
  async events(aggregateType: string, aggregateId: string, options?: Partial<StreamLoad>): Promise<StoredEvent[]> {
    const { events } = await this.slice(aggregateType, aggregateId, options);
    same(Array.isArray(events), true, "what is asked for whole is whole");
    return events as StoredEvent[];
  }

  /** Writes documents that nothing is expected of. */
  async save(...documents: readonly DocumentPart[]): Promise<void> {
    same(await this.change({ documents }), null);
  }

  async change({ expected = [], clear = [], documents = [] }: DocumentsChange): Promise<DocumentConflict | null> {
    const all = documents.map((document) => ({ postings: [], ...document }));
    return this.storage.saveDocuments(deepFreeze({ epoch: this.epoch, expected, clear, documents: all }));
  }

  async read({ names = [], scans = [] }: DocumentsQuestion): Promise<DocumentsRead> {
    const all = scans.map((scan) => ({ ...wholeCollection, ...scan }));
    return this.storage.readDocuments(deepFreeze({ epoch: this.epoch, names, scans: all }));
  }

  async page(options: Told<ReadLogRequest> = {}): Promise<LogPage> {
    return this.storage.readLog(deepFreeze({ epoch: this.epoch, ...wholeLog, ...options }));
  }

  /** The log as its pages tell it; turned round, from its end. */
  async log({ descending = false, after = descending ? Number.MAX_SAFE_INTEGER : 0, ...options }: Told<ReadLogRequest> = {}): Promise<
    StoredEvent[]
  > {
    const events: StoredEvent[] = [];
    const isBefore = (one: number, other: number) => (descending ? one > other : one < other);
    for (;;) {
      const page = await this.page({ ...options, after, descending });
      events.push(...page.events);
      for (const { position } of page.events) same(isBefore(page.next, position), false, "next is past the page");
      if (page.next === (descending ? 0 : page.head)) return events;
      same(isBefore(after, page.next), true, `a page goes on, from ${after} to ${page.next}`);
      after = page.next;
    }
  }
}

export type Committed = Extract<Verdict, { readonly kind: "committed" }>;

/** A load of a whole stream, but for its name. */
export const wholeStream: Omit<StreamLoad, "aggregateType" | "aggregateId"> = {
  after: 0,
  snapshot: null,
  untilRevision: null,
  untilPosition: null,
  untilTime: null,
  limit: 1000,
  whole: true,
};

/** A page of the log without a filter. */
export const wholeLog: Omit<ReadLogRequest, "epoch"> = {
  after: 0,
  descending: false,
  types: [],
  aggregateTypes: [],
  tags: [],
  correlationId: null,
  limit: 1000,
};

/** A scan of a collection, but for its name. */
export const wholeCollection: Omit<DocumentScan, "collection"> = {
  index: null,
  from: null,
  to: null,
  after: null,
  descending: false,
  limit: 1000,
};

/** Several processes may use one store, and ids are of one store. */
let own: string | undefined;
let numbers = 0;

function id(kind: string): string {
  own ??= crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36);
  numbers += 1;
  return `${kind}-${own}-${numbers}`;
}

/** A commit of a command of its own to `Appointment/<aggregateId>`, which must have `expected` events. */
export function commit(
  aggregateId: string,
  expected: Commit["expected"],
  events: readonly CommitEvent[],
  rest: Partial<Commit> = {},
): Commit {
  const commandId = id("command");
  return {
    commandId,
    hash: id("hash"),
    aggregateType: "Appointment",
    aggregateId,
    issuedAt: "2026-11-23T07:59:59.999Z",
    correlationId: commandId,
    causationId: null,
    actor: null,
    extra: null,
    condition: null,
    expected,
    events,
    ...rest,
  };
}

/** An event with a payload that no other has. */
export function event(type = "AppointmentBooked", tags: readonly string[] = [], rest: Partial<CommitEvent> = {}): CommitEvent {
  return { eventId: id("event"), type, schemaVersion: 1, tags, data: `{"n":${numbers}}`, ...rest };
}

/** So many of them. */
export const someEvents = (count: number): CommitEvent[] => Array.from({ length: count }, () => event());

/** Waits until it is so. */
export async function until(condition: () => boolean, timeout = 10_000): Promise<void> {
  for (const deadline = Date.now() + timeout; !condition();) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${String(condition)}`);
    await pause(5);
  }
}

/** Lets others have a turn. */
export const pause = (millis = 0): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis));

/** Numbers below a bound, the same ones for the same seed (mulberry32). */
export function randomNumbers(seed: number): (bound: number) => number {
  return (bound) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}
