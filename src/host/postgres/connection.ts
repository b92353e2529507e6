import { invalidArgument } from "../errors.js";
import type { StorageFailure } from "../storage.js";
import { asFailure, endsConnection, isNotPrepared, timedOut } from "./errors.js";

/** The part of a `Pool` of `pg` that is used. */
export interface PostgresPool {
  connect(): Promise<PostgresClient>;
  on(event: "error", listener: (error: Error) => void): unknown;
  /** Before a connection is lent. */
  on(event: "acquire", listener: (client: PostgresClient) => void): unknown;
  /** What it was made with. */
  readonly options?: { readonly max?: number | undefined };
}

/** The part of a connection of its that is used. */
export interface PostgresClient {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: unknown[] }>;
  query(statement: { name: string; text: string; values: unknown[] }): Promise<{ readonly rows: unknown[] }>;
  on(event: "notification", listener: (message: { readonly payload?: string | undefined }) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "end", listener: () => void): unknown;
  /** With an error the connection is ended. */
  release(error?: Error | boolean): void;
}

/** The part of a `PGlite` that is used. */
export interface PgliteDatabase {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: unknown[] }>;
  listen(channel: string, onPayload: (payload: string) => void): Promise<() => Promise<void>>;
  readonly dataDir?: string | undefined;
}

/** How statements reach the database, and how its news come. */
export interface Connection {
  /**
   * Runs one statement. `changes`: it may have been applied although no answer came. `name`: it comes again
   * and again, and is always the same.
   */
  run(text: string, values: unknown[], changes: boolean, name?: string): Promise<unknown[]>;
  /** Listens until it is stopped. `onNews` is called without a payload when something may have been missed. */
  listen(channel: string, onNews: (payload?: string) => void): () => void;
  /** Whether the data live in this process's memory alone. */
  readonly inMemory: boolean;
}

export function connectionTo(database: PostgresPool | PgliteDatabase, timeout: number, prepares: boolean): Connection {
  if ("connect" in database) return new Pooled(database, timeout, prepares);
  if ("listen" in database) return new Embedded(database, timeout);
  throw invalidArgument("expected a Pool of pg or a PGlite");
}

/** Milliseconds between attempts to listen again; the longest. */
const LONGEST_PAUSE = 5000;

/** Pools and connections that are heard. */
const heard = new WeakSet<PostgresPool | PostgresClient>();

/**
 * An error that nobody hears ends the process, and one may come at any time: of the pool for connections
 * that it has, of a connection while it is lent. Both are of no use then, which the next request is told.
 */
function hear(pool: PostgresPool): void {
  if (heard.has(pool)) return;
  heard.add(pool);
  const ignored = () => {};
  pool.on("error", ignored);
  pool.on("acquire", (client) => {
    if (heard.has(client)) return;
    heard.add(client);
    client.on("error", ignored);
  });
}

class Pooled implements Connection {
  readonly inMemory = false;
  readonly #pool: PostgresPool;
  readonly #timeout: number;
  #prepares: boolean;

  constructor(pool: PostgresPool, timeout: number, prepares: boolean) {
    this.#pool = pool;
    this.#timeout = timeout;
    this.#prepares = prepares;
    hear(pool);
  }

  async run(text: string, values: unknown[], changes: boolean, name?: string): Promise<unknown[]> {
    const deadline = performance.now() + this.#timeout;
    const client = await this.#connect();
    try {
      const left = Math.max(deadline - performance.now(), 1);
      const { rows } = await within(this.#query(client, text, values, name), left, () => timedOut("a request", this.#timeout, changes));
      client.release();
      return rows;
    } catch (error) {
      client.release(endsConnection(error));
      throw asFailure(error, changes);
    }
  }

  /** A statement that is prepared by name is parsed and planned once for a connection. */
  async #query(client: PostgresClient, text: string, values: unknown[], name?: string): Promise<{ readonly rows: unknown[] }> {
    if (name !== undefined && this.#prepares) {
      try {
        return await client.query({ name, text, values });
      } catch (error) {
        if (!isNotPrepared(error)) throw error;
        // A pooler has given another of the server's connections. Nothing was done, and names are no use here.
        this.#prepares = false;
      }
    }
    return client.query(text, values);
  }

  listen(channel: string, onNews: (payload?: string) => void): () => void {
    // One that has no other connection could not be asked for anything.
    if (this.#pool.options?.max === 1) return () => {};
    let isWanted = true;
    let letGo: (() => void) | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let pause = 50;
    const again = () => {
      if (!isWanted) return;
      timer = setTimeout(() => void start(), pause * (0.5 + Math.random()));
      // Looking for news is no reason for a process to stay alive.
      (timer as { unref?(): void }).unref?.();
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    };
    const start = async () => {
      let client: PostgresClient;
      try {
        client = await this.#connect();
      } catch {
        return again();
      }
      let isOver = false;
      const end = () => {
        if (isOver) return;
        isOver = true;
        letGo = undefined;
        client.release(true);
        again();
      };
      letGo = end;
      if (!isWanted) return end();
      client.on("error", end);
      client.on("end", end);
      client.on("notification", ({ payload }) => onNews(payload));
      try {
        await within(client.query(`LISTEN "${channel}"`), this.#timeout, () => timedOut("LISTEN", this.#timeout, false));
      } catch {
        return end();
      }
      (client as { unref?(): void }).unref?.();
      pause = 50;
      // What was appended before is not told.
      if (!isOver) onNews();
    };
    void start();
    return () => {
      isWanted = false;
      clearTimeout(timer);
      letGo?.();
    };
  }

  /** A connection of the pool, which may have none to spare, or find no server. */
  async #connect(): Promise<PostgresClient> {
    let isLate = false;
    const connecting = this.#pool.connect();
    let client: PostgresClient;
    try {
      client = await within(connecting, this.#timeout, () => {
        isLate = true;
        return timedOut("to be given a connection", this.#timeout, false);
      });
    } catch (error) {
      if (isLate) connecting.then((client) => client.release(), () => {});
      throw asFailure(error, false);
    }
    if (typeof client?.release !== "function") throw invalidArgument("expected a Pool of pg, found a Client");
    return client;
  }
}

class Embedded implements Connection {
  readonly #database: PgliteDatabase;
  readonly #timeout: number;

  constructor(database: PgliteDatabase, timeout: number) {
    this.#database = database;
    this.#timeout = timeout;
  }

  get inMemory(): boolean {
    return /^(memory:|$)/.test(this.#database.dataDir ?? "");
  }

  async run(text: string, values: unknown[], changes: boolean): Promise<unknown[]> {
    try {
      const answer = this.#database.query(text, values);
      return (await within(answer, this.#timeout, () => timedOut("a request", this.#timeout, changes))).rows;
    } catch (error) {
      throw asFailure(error, changes);
    }
  }

  listen(channel: string, onNews: (payload?: string) => void): () => void {
    const listening = this.#database.listen(`"${channel}"`, onNews);
    // Where it fails there are looks.
    listening.then(() => onNews(), () => {});
    return () => void listening.then((stop) => stop()).catch(() => {});
  }
}

/** What a promise gives, or, if that takes longer, a failure. Nobody hears of it then. */
async function within<T>(promise: Promise<T>, millis: number, late: () => StorageFailure): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), millis);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
