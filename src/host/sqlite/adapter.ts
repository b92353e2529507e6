import { checkEpoch } from "../epoch.js";
import { Listeners, type OnAdvanced } from "../listeners.js";
import {
  countWhile,
  intersection,
  seekQuery,
  take,
  union,
  type Postings,
  type Seek,
} from "../query.js";
import {
  StorageFailure,
  type Answer,
  type AppendRequest,
  type Commit,
  type CommitFacts,
  type FirstOutcome,
  type Judge,
  type Loaded,
  type LoadRequest,
  type LogPage,
  type ReadLogRequest,
  type StorageAdapter,
  type StoredEvent,
  type StoreInfo,
  type StreamLoad,
  type StreamSlice,
  type Verdict,
} from "../storage.js";
import { asCommitFailure, asFailure, isBusy } from "./errors.js";
import {
  prepareStore,
  rollBack,
  type PreparedStore,
  type SqliteDatabase,
  type Statements,
} from "./schema.js";

export interface SqliteConfig {
  /**
   * A connection of `node:sqlite`, `better-sqlite3` or `libsql` that nothing else writes through.
   * Whoever opened it closes it.
   */
  readonly database: SqliteDatabase;
  /** What a commit survives: `full` the end of power, `normal` the end of the process. */
  readonly durability?: "full" | "normal";
  /** How long to wait for the write lock of another process, in milliseconds. 5000 if not given. */
  readonly busyTimeout?: number;
  /** How often to look for what other processes append, in milliseconds. 100 if not given. */
  readonly pollInterval?: number;
}

/** Events as readable rows of a SQLite database, which several processes may share. */
export function sqliteStorage(config: SqliteConfig): StorageAdapter {
  return new SqliteAdapter(config);
}

const LONGEST_PAUSE = 50;

class SqliteAdapter implements StorageAdapter {
  readonly #database: SqliteDatabase;
  readonly #durability: "full" | "normal";
  readonly #busyTimeout: number;
  readonly #pollInterval: number;
  readonly #listeners = new Listeners();
  #prepared: PreparedStore | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;
  #dataVersion: number | undefined;

  constructor({ database, durability, busyTimeout, pollInterval }: SqliteConfig) {
    this.#database = database;
    this.#durability = durability ?? "full";
    this.#busyTimeout = busyTimeout ?? 5000;
    this.#pollInterval = pollInterval ?? 100;
  }

  open(): Answer<StoreInfo> {
    return this.#whenFree(() => {
      const { statements, inMemory } = this.#store();
      const { epoch, head } = stateOf(statements);
      const onDisk = this.#durability === "full" ? "power-loss" : "process-crash";
      return { epoch, head, durability: inMemory ? "memory" : onDisk };
    });
  }

  append(request: AppendRequest, judge: Judge): Answer<Verdict[]> {
    return this.#whenFree(() =>
      this.#write((statements) => {
        const { epoch, head, lastRecordedAt } = stateOf(statements);
        checkEpoch(request.epoch, epoch);
        const verdicts = judge({
          head,
          lastRecordedAt,
          commits: request.commits.map((commit) => factsOf(statements, commit)),
        });
        let last = head;
        request.commits.forEach((commit, index) => {
          const verdict = verdicts[index]!;
          if (verdict.kind === "committed") {
            insert(statements, commit, verdict);
            last = verdict.position + verdict.count - 1;
          }
        });
        return { result: verdicts, advancedTo: last > head ? last : undefined };
      }),
    );
  }

  load(request: LoadRequest): Answer<Loaded> {
    return this.#whenFree(() =>
      this.#read(request.epoch, (statements, head) => {
        const postings = postingsOf(statements);
        return {
          commands: request.commands.map((id) => firstOutcome(statements, id)),
          streams: request.streams.map((load) => sliceOf(statements, load)),
          queries: request.queries.map(({ query, after }) =>
            eventsAt(statements, take(seekQuery(query, postings), after)),
          ),
          head,
        };
      }),
    );
  }

  readLog(request: ReadLogRequest): Answer<LogPage> {
    return this.#whenFree(() =>
      this.#read(request.epoch, (statements, head) => {
        const { after, limit } = request;
        const filters = filtersOf(statements, request);
        const events =
          filters.length === 0
            ? (statements.page.all(after, limit) as StoredEvent[])
            : eventsAt(statements, take(intersection(filters), after, limit));
        const next = events.length === limit ? events.at(-1)!.position : head;
        return { events, next: Math.max(next, after), head };
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
    const { open, isOpen } = this.#database as { open?: unknown; isOpen?: unknown };
    if (open === false || isOpen === false) {
      throw new StorageFailure("storage-closed", "the database connection is closed");
    }
    return (this.#prepared ??= prepareStore(this.#database, this.#durability));
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
      this.#database.exec("COMMIT");
    }
  }

  #write<Result>(
    work: (statements: Statements) => { result: Result; advancedTo: number | undefined },
  ): Result {
    const { statements } = this.#store();
    // Only this waits for other processes: whoever has the lock is never busy. It is not a prepared
    // statement because libsql leaves one that was busy unfinished, which keeps others from ending.
    this.#database.exec("BEGIN IMMEDIATE");
    let done: ReturnType<typeof work>;
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
    if (done.advancedTo !== undefined) this.#listeners.tell(done.advancedTo);
    return done.result;
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
      await new Promise((resolve) => setTimeout(resolve, Math.min(left, pause * (0.5 + Math.random()))));
      try {
        return work();
      } catch (error) {
        if (!isBusy(error) || performance.now() >= deadline) throw asFailure(error);
      }
    }
  }

  #startPolling(): ReturnType<typeof setInterval> {
    this.#lookForNews();
    const timer = setInterval(() => {
      const head = this.#lookForNews();
      if (head !== undefined) this.#listeners.tell(head);
    }, this.#pollInterval);
    // Looking for news is no reason for a process to stay alive.
    (timer as { unref?(): void }).unref?.();
    return timer;
  }

  /** The head, if other connections have committed something since the last look. */
  #lookForNews(): number | undefined {
    try {
      const { statements } = this.#store();
      const row = statements.dataVersion.get() as { readonly data_version: number };
      if (row.data_version === this.#dataVersion) return undefined;
      const { head } = stateOf(statements);
      this.#dataVersion = row.data_version;
      return head;
    } catch {
      // Busy or closed: the next look tells, or a request does.
      return undefined;
    }
  }
}

interface StoreState {
  readonly epoch: string;
  readonly head: number;
  readonly lastRecordedAt: number;
}

function stateOf(statements: Statements): StoreState {
  const row = statements.state.get() as {
    readonly epoch: string;
    readonly head: number | null;
    readonly lastRecordedAt: string | null;
  };
  return {
    epoch: row.epoch,
    head: row.head ?? 0,
    lastRecordedAt: row.lastRecordedAt === null ? 0 : Date.parse(row.lastRecordedAt),
  };
}

function factsOf(statements: Statements, commit: Commit): CommitFacts {
  const { commandId, aggregateType, aggregateId, condition } = commit;
  const match = condition
    ? seekQuery(condition.query, postingsOf(statements))(condition.after + 1)
    : Infinity;
  return {
    revision: revisionOf(statements, aggregateType, aggregateId),
    first: firstOutcome(statements, commandId),
    matched: match === Infinity ? null : match,
  };
}

function insert(
  statements: Statements,
  commit: Commit,
  { position, revision, count, recordedAt: millis }: Verdict & { readonly kind: "committed" },
): void {
  const { commandId, hash, aggregateType, aggregateId } = commit;
  const recordedAt = new Date(millis).toISOString();
  commit.events.forEach(({ eventId, type, schemaVersion, tags, data }, index) => {
    statements.insertEvent.run(
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
    for (const tag of tags) statements.insertTag.run(tag, position + index);
  });
  statements.insertCommand.run(
    commandId,
    hash,
    aggregateType,
    aggregateId,
    position,
    revision,
    count,
    recordedAt,
  );
}

function sliceOf(
  statements: Statements,
  { aggregateType, aggregateId, after, untilRevision, untilTime, limit }: StreamLoad,
): StreamSlice {
  const revision = revisionOf(statements, aggregateType, aggregateId);
  let last = Math.min(untilRevision ?? Infinity, revision);
  if (untilTime !== null) {
    last = countWhile(last, (index) => {
      const row = statements.recordedAt.get(aggregateType, aggregateId, index + 1);
      return (row as { readonly recordedAt: string }).recordedAt <= untilTime;
    });
  }
  const events =
    last > after
      ? statements.streamEvents.all(aggregateType, aggregateId, after, Math.min(last, after + limit))
      : [];
  return { events: events as StoredEvent[], revision, more: last > after + limit };
}

function revisionOf(statements: Statements, aggregateType: string, aggregateId: string): number {
  const row = statements.revision.get(aggregateType, aggregateId) as {
    readonly revision: number | null;
  };
  return row.revision ?? 0;
}

function firstOutcome(statements: Statements, commandId: string): FirstOutcome | null {
  const row = statements.firstOutcome.get(commandId) as
    | (Omit<FirstOutcome, "recordedAt"> & { readonly recordedAt: string })
    | undefined;
  if (row === undefined) return null;
  const { hash, aggregateType, aggregateId, position, revision, count } = row;
  const recordedAt = Date.parse(row.recordedAt);
  return { hash, aggregateType, aggregateId, position, revision, count, recordedAt };
}

function postingsOf(statements: Statements): Postings {
  return {
    all: (from) => positionIn(statements.seekAll.get(from)),
    tag: (tag) => (from) => positionIn(statements.seekTag.get(tag, from)),
    type: (type) => (from) => positionIn(statements.seekType.get(type, from)),
  };
}

function filtersOf(statements: Statements, request: ReadLogRequest): Seek[] {
  const postings = postingsOf(statements);
  const filters: Seek[] = [];
  if (request.tags.length > 0) filters.push(union(request.tags.map((tag) => postings.tag(tag))));
  if (request.types.length > 0) filters.push(union(request.types.map((type) => postings.type(type))));
  if (request.aggregateTypes.length > 0) {
    const wanted = JSON.stringify(request.aggregateTypes);
    filters.push((from) => positionIn(statements.seekAggregateTypes.get(wanted, from)));
  }
  return filters;
}

function positionIn(row: unknown): number {
  return (row as { readonly position: number } | undefined)?.position ?? Infinity;
}

function eventsAt(statements: Statements, positions: readonly number[]): StoredEvent[] {
  if (positions.length === 0) return [];
  return statements.eventsAt.all(JSON.stringify(positions)) as StoredEvent[];
}
