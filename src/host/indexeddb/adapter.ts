import { Listeners, type OnAdvanced } from "../listeners.js";
import { conflictOf } from "../order.js";
import {
  StorageFailure,
  type AppendRequest,
  type DocumentConflict,
  type DocumentsRead,
  type Facts,
  type Judge,
  type Loaded,
  type LoadRequest,
  type LogPage,
  type Presence,
  type ReadDocumentsRequest,
  type ReadLogRequest,
  type SaveDocumentsRequest,
  type StorageAdapter,
  type StoreInfo,
  type Verdict,
} from "../storage.js";
import { Connection } from "./connection.js";
import { Directory } from "./directory.js";
import { JudgeThrew } from "./errors.js";
import { presenceIn } from "./presence.js";
import { allMatches, documentsOf, factsOf, firstOutcomes, pageOf, scanOf, slicesOf, stateOf } from "./reads.js";
import { Recent } from "../recent.js";
import { append, change } from "./schema.js";

export interface IndexedDbConfig {
  /** Name of the database. All tabs of an origin that use it share the store. */
  readonly name: string;
  /**
   * What a commit survives: `relaxed` the end of the browser, `strict` the end of power. But Chromium,
   * killed while it writes, now and then loses the whole store, whatever is said here: a defect of its
   * LevelDB, of which the guide tells. `relaxed` if not given.
   */
  readonly durability?: "relaxed" | "strict";
  /**
   * Whether the browser is asked, at the first write, not to clear the store when the disk is nearly
   * full (`navigator.storage.persist()`). Some ask the user. `true` if not given.
   */
  readonly persist?: boolean;
  /** Where there is no BroadcastChannel: how often to look for what other tabs append, in milliseconds. 1000 if not given. */
  readonly pollInterval?: number;
  /** Instead of the global one. */
  readonly indexedDB?: IDBFactory;
}

/** A store in the browser's database. */
export interface IndexedDbStorage extends StorageAdapter {
  /**
   * Whether the browser may clear the store when the disk is nearly full: `persisted` if it has
   * promised not to, `best-effort` if it has not, `unknown` if it does not tell.
   */
  persistence(): Promise<"persisted" | "best-effort" | "unknown">;
}

/** Events in the browser's database, the commits of an append together. Tabs may share it. */
export function indexedDbStorage(config: IndexedDbConfig): IndexedDbStorage {
  const factory = config.indexedDB ?? globalThis.indexedDB;
  if ((factory as IDBFactory | undefined) === undefined) {
    throw new StorageFailure("storage-failed", "found no IndexedDB here");
  }
  return new IndexedDbAdapter(config, factory);
}

class IndexedDbAdapter implements IndexedDbStorage {
  readonly #connection: Connection;
  readonly #durability: "relaxed" | "strict";
  readonly #channelName: string;
  readonly #pollInterval: number;
  readonly #listeners = new Listeners();
  readonly #recent = new Recent();
  readonly #directory = new Directory();
  declare readonly presence?: Presence;
  #channel: BroadcastChannel | undefined;
  #stopHearing: (() => void) | undefined;
  /** Whether the browser is still to be asked to keep the store. */
  #asksToPersist: boolean;

  constructor({ name, durability, persist, pollInterval }: IndexedDbConfig, factory: IDBFactory) {
    this.#durability = durability ?? "relaxed";
    this.#connection = new Connection(factory, name, this.#durability);
    this.#channelName = `annals/${name}`;
    this.#pollInterval = pollInterval ?? 1000;
    this.#asksToPersist = persist ?? true;
    const presence = presenceIn(name);
    if (presence !== undefined) this.presence = presence;
  }

  async open(): Promise<StoreInfo> {
    const state = await this.#connection.run("readonly", (stores) => stateOf(stores));
    this.#recent.saw(state);
    const { epoch, head } = state;
    const durability = this.#durability === "strict" ? "power-loss" : "process-crash";
    return { epoch, head, durability };
  }

  async append(request: AppendRequest, judge: Judge): Promise<Verdict[]> {
    this.#askToPersist();
    const { before, head, verdicts } = await this.#connection.run("readwrite", async (stores) => {
      // What is remembered is taken as true, until the head tells otherwise.
      const { asOf } = this.#recent;
      const [before, remembered] = await Promise.all([
        stateOf(stores, request.epoch),
        factsOf(stores, request.commits, this.#recent),
      ]);
      const { epoch, lastRecordedAt } = before;
      const holds = asOf.epoch === epoch && asOf.head === before.head;
      const commits = holds ? remembered : await factsOf(stores, request.commits);
      const verdicts = ask(judge, { head: before.head, lastRecordedAt, commits });
      const head = append(stores, before, request.commits, verdicts);
      stores.commit();
      return { before, head, verdicts };
    });
    this.#recent.sawAppend(before, request, verdicts, head);
    if (head > before.head) this.#tell(head);
    return verdicts;
  }

  load(request: LoadRequest): Promise<Loaded> {
    return this.#connection.run("readonly", async (stores) => {
      const asOf = stateOf(stores, request.epoch);
      const [state, commands, streams, queries] = await Promise.all([
        asOf,
        firstOutcomes(stores, request.commands),
        slicesOf(stores, request.streams, asOf, this.#directory),
        allMatches(stores, request.queries),
      ]);
      this.#recent.sawStreams(state, request.streams, streams);
      return { commands, streams, queries, head: state.head };
    });
  }

  saveDocuments(request: SaveDocumentsRequest): Promise<DocumentConflict | null> {
    const { epoch, expected } = request;
    this.#askToPersist();
    return this.#connection.run("readwrite", async (stores) => {
      const [, found] = await Promise.all([stateOf(stores, epoch), documentsOf(stores, expected)]);
      const conflict = conflictOf(expected, found);
      if (conflict === null) change(stores, request);
      stores.commit();
      return conflict;
    });
  }

  readDocuments({ epoch, names, scans }: ReadDocumentsRequest): Promise<DocumentsRead> {
    return this.#connection.run("readonly", async (stores) => {
      const [{ head }, documents, pages] = await Promise.all([
        stateOf(stores, epoch),
        documentsOf(stores, names),
        Promise.all(scans.map((scan) => scanOf(stores, scan))),
      ]);
      return { documents, scans: pages, head };
    });
  }

  readLog(request: ReadLogRequest): Promise<LogPage> {
    return this.#connection.run("readonly", async (stores) => {
      const { head } = await stateOf(stores, request.epoch);
      return { ...(await pageOf(stores, request, head)), head };
    });
  }

  subscribe(onAdvanced: OnAdvanced): () => void {
    const remove = this.#listeners.add(onAdvanced);
    this.#stopHearing ??= this.#hear();
    return () => {
      remove();
      if (this.#listeners.size > 0) return;
      this.#stopHearing?.();
      this.#stopHearing = undefined;
    };
  }

  async persistence(): Promise<"persisted" | "best-effort" | "unknown"> {
    const isPersisted = await storageManager()?.persisted?.();
    return isPersisted === undefined ? "unknown" : isPersisted ? "persisted" : "best-effort";
  }

  /** Lets go of the database. A request after this opens it again. */
  close(): void {
    this.#connection.close();
  }

  #tell(head: number): void {
    this.#listeners.tell(head);
    const channel = this.#channel ?? openChannel(this.#channelName);
    channel?.postMessage(head);
    if (channel !== this.#channel) channel?.close();
  }

  /** Hears of what other tabs append. Returns the way to stop it. */
  #hear(): () => void {
    const channel = (this.#channel = openChannel(this.#channelName));
    if (channel === undefined) return this.#look();
    channel.addEventListener("message", ({ data }: MessageEvent<unknown>) =>
      this.#listeners.tell(typeof data === "number" ? data : undefined),
    );
    return () => {
      channel.close();
      this.#channel = undefined;
    };
  }

  /** Looks for what other tabs append, where they can't tell. */
  #look(): () => void {
    let last: number | undefined;
    const look = async () => {
      const { head } = await this.#connection.run("readonly", (stores) => stateOf(stores));
      if (head !== last) this.#listeners.tell(head);
      last = head;
    };
    // What fails is told by the next look, or by a request.
    const timer = setInterval(() => void look().catch(() => undefined), this.#pollInterval);
    return () => clearInterval(timer);
  }

  /** Nobody waits for the answer: what is written is there either way. */
  #askToPersist(): void {
    if (!this.#asksToPersist) return;
    this.#asksToPersist = false;
    void storageManager()?.persist?.().catch(() => undefined);
  }
}

/** Not every browser has it, nor every method of it; workers may look and not ask. */
function storageManager(): Partial<StorageManager> | undefined {
  return (globalThis.navigator as Partial<Navigator> | undefined)?.storage;
}

function openChannel(name: string): BroadcastChannel | undefined {
  return typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(name);
}

function ask(judge: Judge, facts: Facts): Verdict[] {
  try {
    return judge(facts);
  } catch (reason) {
    throw new JudgeThrew(reason);
  }
}
