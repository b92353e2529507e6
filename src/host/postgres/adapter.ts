import { Listeners, type OnAdvanced } from "../listeners.js";
import {
  StorageFailure,
  type AppendRequest,
  type DocumentConflict,
  type DocumentsRead,
  type Durability,
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
import { connectionTo, type Connection, type PgliteDatabase, type PostgresPool } from "./connection.js";
import { isNoStore, isNotAllowed, unknownFormat } from "./errors.js";
import { documentsOf, loadedOf, nameOf, pageOf, rangeOf, toStored, wantedOf, type Part } from "./reads.js";
import { channelOf, checkSchema, DEFAULT_SCHEMA, FORMAT, postgresSchema, quoted } from "./schema.js";

export interface PostgresConfig {
  /** A `Pool` of `pg`, or a `PGlite`. Whoever made it ends it. */
  readonly database: PostgresPool | PgliteDatabase;
  /** The schema that the store is in, which is made if there is none. `annals` if not given. */
  readonly schema?: string;
  /**
   * Where a commit is when it is acknowledged: `local`, on the server's disk; `replicated`, on a
   * synchronous standby's too, without which the store is not opened. If not given, on those that the
   * server names.
   */
  readonly durability?: "local" | "replicated";
  /** How long to wait for those who append, in milliseconds. 5000 if not given. */
  readonly busyTimeout?: number;
  /** How long a request may take in all, to connect included, in milliseconds. 10000 if not given. */
  readonly requestTimeout?: number;
  /**
   * Whether statements are prepared by name, once for each connection, which saves a tenth of a millisecond a
   * request. `true` if not given; behind a pooler that lends a connection for a transaction it is given up by
   * itself where the pooler does not know of names. `false` where a pooler would keep a connection for them.
   */
  readonly prepare?: boolean;
  /** How often to look for what others append, should they not be heard, in milliseconds. 1000 if not given. */
  readonly pollInterval?: number;
}

/** Events as readable rows of a PostgreSQL database, which many processes may share. */
export function postgresStorage(config: PostgresConfig): StorageAdapter {
  return new PostgresAdapter(config);
}

/** What `open_store` says. */
interface Opened {
  readonly format: number;
  readonly epoch: string;
  readonly head: number;
  readonly encoding: string;
  readonly isolation: string;
  readonly flushes: boolean;
  readonly replicates: boolean;
}

function check(expected: string, found: string, possible: readonly string[]): void {
  if (possible.includes(found)) return;
  throw new StorageFailure("storage-failed", `expected ${expected}, found ${found}`);
}

class PostgresAdapter implements StorageAdapter {
  readonly #connection: Connection;
  readonly #schema: string;
  readonly #durability: "local" | "replicated" | undefined;
  /** What the server is told of each transaction that writes. */
  readonly #safety: string;
  readonly #patience: string;
  readonly #pollInterval: number;
  readonly #listeners = new Listeners();
  /** What the listeners were told last. */
  #head: number | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;
  #stopListening: (() => void) | undefined;
  #isLooking = false;

  constructor({ database, schema, durability, busyTimeout, requestTimeout, prepare, pollInterval }: PostgresConfig) {
    this.#schema = checkSchema(schema ?? DEFAULT_SCHEMA);
    this.#connection = connectionTo(database, requestTimeout ?? 10_000, prepare ?? true);
    this.#durability = durability;
    this.#safety = durability === "local" ? "local" : "on";
    this.#patience = `${busyTimeout ?? 5000}ms`;
    this.#pollInterval = pollInterval ?? 1000;
  }

  async open(): Promise<StoreInfo> {
    const opened = await this.#opened();
    if (opened.format !== FORMAT) throw unknownFormat(`format ${opened.format}, not ${FORMAT}`);
    check("a database in UTF8", opened.encoding, ["UTF8"]);
    // Under another one a transaction would go on to see what was there before it had the lock.
    check("transactions that are read committed", opened.isolation, ["read committed", "read uncommitted"]);
    this.#head ??= opened.head;
    return { epoch: opened.epoch, head: opened.head, durability: this.#durabilityOf(opened) };
  }

  /** The server judges: an append is one statement, and nobody waits for an answer with the lock held. */
  async append({ epoch, now, commits }: AppendRequest): Promise<Verdict[]> {
    const asked = commits.map((commit) => ({ ...commit, issuedAt: Date.parse(commit.issuedAt) }));
    const values = [epoch, now, JSON.stringify(asked), this.#safety, this.#patience];
    const verdicts = JSON.parse((await this.#value("append", values, true))!) as Verdict[];
    const ends = verdicts.map((verdict) => (verdict.kind === "committed" ? verdict.position + verdict.count - 1 : 0));
    const head = Math.max(0, ...ends);
    if (head > 0) this.#advanced(head);
    return verdicts;
  }

  async load(request: LoadRequest): Promise<Loaded> {
    return loadedOf(request, await this.#parts("load", [request.epoch, wantedOf(request)]));
  }

  async readLog(request: ReadLogRequest): Promise<LogPage> {
    return pageOf(request, await this.#parts("read_log", [request.epoch, JSON.stringify(request)]));
  }

  async saveDocuments({ epoch, expected, clear, documents }: SaveDocumentsRequest): Promise<DocumentConflict | null> {
    const wanted = {
      expected: expected.map((name) => ({ ...nameOf(name), revision: name.revision })),
      clear: clear.map(toStored),
      documents: documents.map(({ revision, value, postings, ...name }) => ({
        ...nameOf(name),
        revision,
        value,
        postings: postings.map(([index, at]) => [toStored(index), toStored(at)]),
      })),
    };
    const values = [epoch, JSON.stringify(wanted), this.#safety, this.#patience];
    return JSON.parse((await this.#value("save_documents", values, true)) ?? "null") as DocumentConflict | null;
  }

  async readDocuments({ epoch, names, scans }: ReadDocumentsRequest): Promise<DocumentsRead> {
    const ranges = scans.map(rangeOf);
    const asked = [...ranges.keys()].filter((index) => ranges[index] !== null);
    const values = [
      epoch,
      JSON.stringify(names.map(nameOf)),
      JSON.stringify(asked.map((index) => ranges[index])),
    ];
    return documentsOf(names, scans, asked, await this.#parts("read_documents", values));
  }

  subscribe(onAdvanced: OnAdvanced): () => void {
    const remove = this.#listeners.add(onAdvanced);
    this.#stopListening ??= this.#connection.listen(channelOf(this.#schema), (payload) => {
      if (payload === undefined) void this.#lookForNews();
      else this.#advanced(Number(payload));
    });
    this.#poll ??= this.#startPolling();
    return () => {
      remove();
      if (this.#listeners.size > 0) return;
      clearInterval(this.#poll);
      this.#poll = undefined;
      this.#stopListening?.();
      this.#stopListening = undefined;
    };
  }

  /** The database is its maker's; who stops listening has let go of the connection for it. */
  close(): void {}

  async #opened(): Promise<Opened> {
    const ask = async () => JSON.parse((await this.#value("open_store", [this.#patience], false))!) as Opened;
    let found: Opened | undefined;
    try {
      found = await ask();
    } catch (error) {
      if (!isNoStore((error as StorageFailure).cause)) throw error;
    }
    if (found !== undefined && found.format >= FORMAT) return found;
    try {
      await this.#connection.run(postgresSchema({ schema: this.#schema }), [], false);
    } catch (error) {
      if (found === undefined || !isNotAllowed((error as StorageFailure).cause)) throw error;
      throw unknownFormat(`format ${found.format}, which is to be migrated to ${FORMAT} first`, error);
    }
    try {
      return await ask();
    } catch (error) {
      if (!isNoStore((error as StorageFailure).cause)) throw error;
      throw unknownFormat(`something else in the schema ${this.#schema}`);
    }
  }

  #durabilityOf({ flushes, replicates }: Opened): Durability {
    if (this.#durability === "replicated" && !replicates) {
      throw new StorageFailure("storage-failed", "expected a server with synchronous standbys, found none named");
    }
    if (this.#connection.inMemory) return "memory";
    if (replicates && this.#durability !== "local") return "replicated";
    return flushes ? "power-loss" : "process-crash";
  }

  /** What a function of the store gives, as one text. */
  async #value(name: string, values: unknown[], changes: boolean): Promise<string | null> {
    const parameters = values.map((_, index) => `$${index + 1}`).join(", ");
    const text = `SELECT ${quoted(this.#schema)}.${name}(${parameters}) AS answer`;
    const [row] = (await this.#connection.run(text, values, changes, `${this.#schema}.${name}`)) as { readonly answer: string | null }[];
    return row!.answer;
  }

  /** What a function of the store gives, in parts: all of one moment. */
  async #parts(name: string, values: unknown[]): Promise<Part[]> {
    const parameters = values.map((_, index) => `$${index + 1}`).join(", ");
    const text = `SELECT * FROM ${quoted(this.#schema)}.${name}(${parameters})`;
    return (await this.#connection.run(text, values, false, `${this.#schema}.${name}`)) as Part[];
  }

  #startPolling(): ReturnType<typeof setInterval> {
    const timer = setInterval(() => void this.#lookForNews(), this.#pollInterval);
    // Looking for news is no reason for a process to stay alive.
    (timer as { unref?(): void }).unref?.();
    return timer;
  }

  async #lookForNews(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const text = `SELECT head::text AS head FROM ${quoted(this.#schema)}.store`;
      const [row] = (await this.#connection.run(text, [], false)) as { readonly head: string }[];
      // A store that was replaced may have less.
      if (Number(row?.head ?? 0) !== this.#head) this.#advanced(Number(row?.head ?? 0));
    } catch {
      // Away: the next look tells, or a request does.
    } finally {
      this.#isLooking = false;
    }
  }

  #advanced(head: number): void {
    this.#head = head;
    this.#listeners.tell(head);
  }
}
