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
  type ReadDocumentsRequest,
  type ReadLogRequest,
  type SaveDocumentsRequest,
  type StorageAdapter,
  type StoreInfo,
  type Verdict,
} from "../storage.js";
import { Connection } from "./connection.js";
import { JudgeThrew } from "./errors.js";
import { allMatches, documentsOf, factsOf, firstOutcomes, pageOf, scanOf, slicesOf, stateOf } from "./reads.js";
import { Recent } from "../recent.js";
import { append, change } from "./schema.js";

export interface IndexedDbConfig {
  /** Name of the database. All tabs of an origin that use it share the store. */
  readonly name: string;
  /** What a commit survives: `relaxed` the end of the browser, `strict` the end of power. */
  readonly durability?: "relaxed" | "strict";
  /** Instead of the global one. */
  readonly indexedDB?: IDBFactory;
}

/** Events in the browser's database, the commits of an append together. Tabs may share it. */
export function indexedDbStorage(config: IndexedDbConfig): StorageAdapter {
  const factory = config.indexedDB ?? globalThis.indexedDB;
  if ((factory as IDBFactory | undefined) === undefined) {
    throw new StorageFailure("storage-failed", "expected IndexedDB, found none here");
  }
  return new IndexedDbAdapter(config.name, config.durability ?? "relaxed", factory);
}

class IndexedDbAdapter implements StorageAdapter {
  readonly #connection: Connection;
  readonly #durability: "relaxed" | "strict";
  readonly #channelName: string;
  readonly #listeners = new Listeners();
  readonly #recent = new Recent();
  #channel: BroadcastChannel | undefined;

  constructor(name: string, durability: "relaxed" | "strict", factory: IDBFactory) {
    this.#connection = new Connection(factory, name, durability);
    this.#durability = durability;
    this.#channelName = `annals/${name}`;
  }

  async open(): Promise<StoreInfo> {
    const state = await this.#connection.run("readonly", (stores) => stateOf(stores));
    this.#recent.saw(state);
    const { epoch, head } = state;
    const durability = this.#durability === "strict" ? "power-loss" : "process-crash";
    return { epoch, head, durability };
  }

  async append(request: AppendRequest, judge: Judge): Promise<Verdict[]> {
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
      const [state, commands, streams, queries] = await Promise.all([
        stateOf(stores, request.epoch),
        firstOutcomes(stores, request.commands),
        slicesOf(stores, request.streams),
        allMatches(stores, request.queries),
      ]);
      this.#recent.sawStreams(state, request.streams, streams);
      return { commands, streams, queries, head: state.head };
    });
  }

  saveDocuments(request: SaveDocumentsRequest): Promise<DocumentConflict | null> {
    const { epoch, expected } = request;
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
    if (this.#channel === undefined) {
      this.#channel = openChannel(this.#channelName);
      this.#channel?.addEventListener("message", ({ data }: MessageEvent<unknown>) =>
        this.#listeners.tell(typeof data === "number" ? data : undefined),
      );
    }
    return () => {
      remove();
      if (this.#listeners.size > 0) return;
      this.#channel?.close();
      this.#channel = undefined;
    };
  }

  /** Lets go of the database. A request after this opens it again. */
  close(): Promise<void> {
    return this.#connection.close();
  }

  #tell(head: number): void {
    this.#listeners.tell(head);
    const channel = this.#channel ?? openChannel(this.#channelName);
    channel?.postMessage(head);
    if (channel !== this.#channel) channel?.close();
  }
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
