import { checkEpoch } from "../epoch.js";
import { Listeners, type OnAdvanced } from "../listeners.js";
import { conflictOf, without } from "../order.js";
import { Recent } from "../recent.js";
import {
  StorageFailure,
  type Answer,
  type AppendRequest,
  type Commit,
  type DocumentConflict,
  type DocumentsRead,
  type Judge,
  type Loaded,
  type LoadRequest,
  type LogPage,
  type Posting,
  type ReadDocumentsRequest,
  type ReadLogRequest,
  type SaveDocumentsRequest,
  type StorageAdapter,
  type StoreInfo,
  type Verdict,
} from "../storage.js";
import { asCommitFailure, asFailure, isBusy } from "./errors.js";
import {
  allMatches,
  documentOf,
  factsOf,
  firstOutcomes,
  pageOf,
  scanOf,
  slicesOf,
  stateAndSlice,
  stateOf,
  toStored,
  versionOf,
} from "./reads.js";
import {
  first,
  prepareStore,
  rollBack,
  type PreparedStore,
  type SqliteDatabase,
  type Statements,
} from "./schema.js";

export interface SqliteConfig {
  /**
   * A connection of `node:sqlite`, `bun:sqlite`, `better-sqlite3` or `libsql`, for the adapter alone: it sets the
   * journal mode, `synchronous` and the busy timeout. Whoever opened it closes it.
   */
  readonly database: SqliteDatabase;
  /** What a commit survives: `full` the end of power, `normal` the end of the process. */
  readonly durability?: "full" | "normal";
  /** How long to wait for the write lock of another process, in milliseconds. 5000 if not given. */
  readonly busyTimeout?: number;
  /**
   * Whether the store is only read: nothing is created, migrated or set, and a database without a store
   * is refused, as is one of an older format. The connection may be one that can't write.
   */
  readonly readonly?: boolean;
  /** How often to look for what other processes append, in milliseconds. 100 if not given. */
  readonly pollInterval?: number;
}

/** Events as readable rows of a SQLite database, which several processes may share. */
export function sqliteStorage(config: SqliteConfig): StorageAdapter {
  return new SqliteAdapter(config);
}

/** Milliseconds. Whoever looks seldom finds the lock taken each time, where others append without a pause. */
const LONGEST_PAUSE = 5;

class SqliteAdapter implements StorageAdapter {
  readonly #database: SqliteDatabase;
  readonly #durability: "full" | "normal";
  readonly #readonly: boolean;
  readonly #busyTimeout: number;
  readonly #pollInterval: number;
  readonly #listeners = new Listeners();
  readonly #recent = new Recent();
  #prepared: PreparedStore | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;
  #dataVersion: number | undefined;

  constructor({ database, durability, readonly, busyTimeout, pollInterval }: SqliteConfig) {
    this.#database = database;
    this.#durability = durability ?? "full";
    this.#readonly = readonly ?? false;
    this.#busyTimeout = busyTimeout ?? 5000;
    this.#pollInterval = pollInterval ?? 100;
  }

  open(): Answer<StoreInfo> {
    return this.#whenFree(() => {
      const { statements, inMemory } = this.#store();
      // Before the head is read, so that nothing that follows it is missed.
      this.#dataVersion ??= versionOf(statements);
      const { epoch, head } = stateOf(statements);
      const onDisk = this.#durability === "full" ? "power-loss" : "process-crash";
      return { epoch, head, durability: inMemory ? "memory" : onDisk };
    });
  }

  append(request: AppendRequest, judge: Judge): Answer<Verdict[]> {
    return this.#whenFree(() => {
      const { before, head, verdicts } = this.#write((statements) => {
        const { epoch, ...facts } = factsOf(statements, request.commits, this.#recent);
        checkEpoch(request.epoch, epoch);
        const verdicts = judge(facts);
        const head = insert(statements, request.commits, verdicts) ?? facts.head;
        return { before: { epoch, head: facts.head }, head, verdicts };
      });
      this.#recent.sawAppend(before, request, verdicts, head);
      if (head > before.head) this.#listeners.tell(head);
      return verdicts;
    });
  }

  load(request: LoadRequest): Answer<Loaded> {
    return this.#whenFree(() => {
      const { epoch, commands, streams, queries } = request;
      if (isOneFold(request)) {
        return stateAndSlice(this.#store().statements, epoch, streams[0]!);
      }
      const loaded = this.#read(epoch, (statements, head) => ({
        commands: firstOutcomes(statements, commands),
        streams: slicesOf(statements, streams),
        queries: queries.map((load) => allMatches(statements, load)),
        head,
      }));
      // An append to these streams is likely to follow.
      if (commands.length > 0)
        this.#recent.sawStreams({ epoch, head: loaded.head }, streams, loaded.streams);
      return loaded;
    });
  }

  saveDocuments(request: SaveDocumentsRequest): Answer<DocumentConflict | null> {
    const { epoch, expected } = request;
    return this.#whenFree(() =>
      this.#write((statements) => {
        checkEpoch(epoch, stateOf(statements).epoch);
        const found = expected.map((name) => documentOf(statements, name));
        const conflict = conflictOf(expected, found);
        if (conflict === null) change(statements, request);
        return conflict;
      }),
    );
  }

  readDocuments({ epoch, names, scans }: ReadDocumentsRequest): Answer<DocumentsRead> {
    return this.#whenFree(() =>
      this.#read(epoch, (statements, head) => ({
        documents: names.map((name) => documentOf(statements, name)),
        scans: scans.map((scan) => scanOf(statements, scan)),
        head,
      })),
    );
  }

  readLog(request: ReadLogRequest): Answer<LogPage> {
    return this.#whenFree(() =>
      this.#read(request.epoch, (statements, head) => {
        const { events, last } = pageOf(statements, request);
        const end = request.descending ? 0 : Math.max(head, request.after);
        return { events, next: last ?? end, head };
      }),
    );
  }

  subscribe(onAdvanced: OnAdvanced): () => void {
    const remove = this.#listeners.add(onAdvanced);
    this.#poll ??= this.#startPolling();
    return () => {
      remove();
      if (this.#listeners.size > 0) return;
      clearInterval(this.#poll);
      this.#poll = undefined;
    };
  }

  /** The database is its opener's; a request after this prepares its statements again. */
  close(): void {
    this.#prepared = undefined;
  }

  #store(): PreparedStore {
    // Statements of some drivers outlive their connection, so its own word is asked.
    if (isClosed(this.#database)) {
      throw new StorageFailure("storage-closed", "the database connection is closed");
    }
    return (this.#prepared ??= prepareStore(this.#database, this.#readonly ? null : this.#durability));
  }

  /** Reads of one moment. */
  #read<Result>(
    expectedEpoch: string,
    work: (statements: Statements, head: number) => Result,
  ): Result {
    const { statements } = this.#store();
    this.#database.exec("BEGIN");
    try {
      const { epoch, head } = stateOf(statements);
      checkEpoch(expectedEpoch, epoch);
      return work(statements, head);
    } finally {
      // Nothing was written, so nothing is undone; and unlike COMMIT it is never refused.
      rollBack(this.#database);
    }
  }

  #write<Result>(work: (statements: Statements) => Result): Result {
    if (this.#readonly) throw new StorageFailure("storage-failed", "the store is open for reading only");
    const { statements } = this.#store();
    // Only this waits for other processes: whoever has the lock is never busy. It is not a prepared
    // statement because libsql leaves one that was busy unfinished, which keeps others from ending.
    this.#database.exec("BEGIN IMMEDIATE");
    let done: Result;
    try {
      done = work(statements);
    } catch (error) {
      rollBack(this.#database);
      throw asFailure(error);
    }
    try {
      this.#database.exec("COMMIT");
    } catch (error) {
      rollBack(this.#database);
      throw asCommitFailure(error);
    }
    return done;
  }

  /** Answers at once if it can. If not, others may run while it waits for the lock. */
  #whenFree<Result>(work: () => Result): Answer<Result> {
    try {
      return work();
    } catch (error) {
      if (!isBusy(error)) throw asFailure(error);
      return this.#retry(work);
    }
  }

  async #retry<Result>(work: () => Result): Promise<Result> {
    const deadline = performance.now() + this.#busyTimeout;
    for (let pause = 1; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      const left = deadline - performance.now();
      await new Promise((resolve) =>
        setTimeout(resolve, Math.min(left, pause * (0.5 + Math.random()))),
      );
      try {
        return work();
      } catch (error) {
        if (!isBusy(error) || performance.now() >= deadline) throw asFailure(error);
      }
    }
  }

  #startPolling(): ReturnType<typeof setInterval> {
    const timer = setInterval(() => this.#lookForNews(), this.#pollInterval);
    // Looking for news is no reason for a process to stay alive.
    (timer as { unref?(): void }).unref?.();
    return timer;
  }

  #lookForNews(): void {
    try {
      const { statements } = this.#store();
      const version = versionOf(statements);
      if (version === this.#dataVersion) return;
      const { head } = stateOf(statements);
      this.#dataVersion = version;
      this.#listeners.tell(head);
    } catch {
      // Busy or closed: the next look tells, or a request does.
    }
  }
}

function isClosed(database: SqliteDatabase): boolean {
  const { open, isOpen } = database as { open?: unknown; isOpen?: unknown };
  if (open !== undefined || isOpen !== undefined) return open === false || isOpen === false;
  try {
    // Bun's has no word for it, but this can't be asked then.
    void (database as { inTransaction?: unknown }).inTransaction;
    return false;
  } catch {
    return true;
  }
}

/** Whether a request is for nothing but one stream that is to be folded. */
function isOneFold({ commands, streams: [load, ...others], queries }: LoadRequest): boolean {
  if (load === undefined || load.whole || load.snapshot !== null) return false;
  if (load.untilPosition !== null || load.untilTime !== null) return false;
  return commands.length + others.length + queries.length === 0;
}

/** Writes the commits that were accepted, and returns the position of the last event. */
function insert(
  { insertEvent, insertTag, insertCommand }: Statements,
  commits: readonly Commit[],
  verdicts: readonly Verdict[],
): number | undefined {
  let head: number | undefined;
  let millis = NaN;
  let recordedAt = "";
  for (const [index, commit] of commits.entries()) {
    const verdict = verdicts[index]!;
    if (verdict.kind !== "committed") continue;
    // Nearly always the same for all of them.
    if (verdict.recordedAt !== millis) {
      millis = verdict.recordedAt;
      recordedAt = new Date(millis).toISOString();
    }
    const { commandId, aggregateType, aggregateId } = commit;
    const { position, revision, count } = verdict;
    for (const [index, { eventId, type, schemaVersion, tags, data }] of commit.events.entries()) {
      insertEvent.run(
        position + index,
        eventId,
        aggregateType,
        aggregateId,
        revision - count + 1 + index,
        type,
        schemaVersion,
        recordedAt,
        commit.issuedAt,
        commandId,
        commit.correlationId,
        commit.causationId,
        commit.actor,
        commit.extra,
        JSON.stringify(tags),
        data,
      );
      for (const tag of tags) insertTag.run(tag, position + index);
    }
    insertCommand.run(
      commandId,
      commit.hash,
      aggregateType,
      aggregateId,
      position,
      revision,
      count,
      recordedAt,
    );
    head = position + count - 1;
  }
  return head;
}

/** Empties the collections, and writes and removes the documents. */
function change(statements: Statements, { clear, documents }: SaveDocumentsRequest): void {
  for (const collection of clear) {
    statements.clearDocuments.run(collection);
    statements.clearPostings.run(collection);
  }
  for (const { collection, key: name, revision, value, postings: given } of documents) {
    const key = toStored(name);
    const [known] = (first(statements.postings, collection, key) ?? []) as (string | null)[];
    const before = JSON.parse(known ?? "[]") as Posting[];
    const postings = value === null ? [] : given;
    for (const [index, at] of without(before, postings))
      statements.removePosting.run(collection, index, toStored(at), key);
    for (const [index, at] of without(postings, before))
      statements.insertPosting.run(collection, index, toStored(at), key);
    if (value === null) statements.removeDocument.run(collection, key);
    else {
      const text = postings.length > 0 ? JSON.stringify(postings) : null;
      statements.saveDocument.run(collection, key, revision, text, value);
    }
  }
}
