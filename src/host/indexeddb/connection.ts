import { StorageFailure } from "../storage.js";
import { asCommitFailure, asFailure, isLost, unknownFormat } from "./errors.js";
import { FORMAT, type StoreName, STORES, storesOf, upgrade } from "./schema.js";

export interface Stores extends Record<StoreName, IDBObjectStore> {
  /** Everything has been asked for: the browser need not wait for the answers to commit. */
  commit(): void;
}

/** How long a request waits for the database to open, in milliseconds: less than engines do. */
const PATIENCE = 5000;

type Work<Result> = (stores: Stores) => Promise<Result>;

/** The connection to the database: opened when it is needed, and again after it was lost. */
export class Connection {
  readonly #factory: IDBFactory;
  readonly #name: string;
  readonly #durability: "relaxed" | "strict";
  #database: Promise<IDBDatabase> | undefined;

  constructor(factory: IDBFactory, name: string, durability: "relaxed" | "strict") {
    this.#factory = factory;
    this.#name = name;
    this.#durability = durability;
  }

  /**
   * Runs `work` in a transaction, which may await nothing but requests of that transaction. If
   * `work` fails, nothing is applied. A read-write transaction has completed when this resolves.
   */
  async run<Result>(mode: IDBTransactionMode, work: Work<Result>): Promise<Result> {
    for (let isLast = false; ; isLast = true) {
      try {
        return await this.#attempt(mode, work);
      } catch (error) {
        if (isLast || !isLost(error)) throw asFailure(error);
      }
    }
  }

  /** Does not wait for a database that is not open yet: it is closed when it is. */
  close(): void {
    if (this.#database !== undefined) void this.#release(this.#database);
  }

  async #attempt<Result>(mode: IDBTransactionMode, work: Work<Result>): Promise<Result> {
    const connection = (this.#database ??= this.#open());
    try {
      const database = await soon(connection);
      const transaction = database.transaction(STORES, mode, {
        durability: this.#durability,
      });
      return await runIn(transaction, work);
    } catch (error) {
      if (isLost(error)) void this.#release(connection);
      throw error;
    }
  }

  #open(): Promise<IDBDatabase> {
    const connection = openDatabase(this.#factory, this.#name).then((database) => {
      // Another tab wants to upgrade or delete the database, or the browser has taken it away.
      database.onversionchange = database.onclose = () => void this.#release(connection);
      return database;
    });
    connection.catch(() => void this.#release(connection));
    return connection;
  }

  async #release(connection: Promise<IDBDatabase>): Promise<void> {
    if (this.#database === connection) this.#database = undefined;
    await connection.then(
      (database) => database.close(),
      () => undefined,
    );
  }
}

/**
 * Fails where another tab holds the opening up, as one that is frozen and does not let go of an older
 * form. Of those whose opening waits behind another's the browser tells nothing, so time must. The
 * opening goes on: who asks again finds the database open, or waits for it again.
 */
function soon(database: Promise<IDBDatabase>): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const message = "another tab may have an older form of the store open";
    const fail = () => reject(new StorageFailure("storage-busy", message, { retryable: true }));
    const timer = setTimeout(fail, PATIENCE);
    void database.then(resolve, reject).then(() => clearTimeout(timer));
  });
}

async function runIn<Result>(transaction: IDBTransaction, work: Work<Result>): Promise<Result> {
  const completed = completion(transaction);
  let result: Result;
  try {
    result = await work({
      ...storesOf(transaction),
      commit: () => transaction.commit(),
    });
  } catch (error) {
    abort(transaction);
    throw error;
  }
  if (transaction.mode === "readwrite") {
    await completed.catch((error: unknown) => {
      throw asCommitFailure(error);
    });
  }
  return result;
}

/** The answer to a request. Awaiting it keeps the transaction alive. */
export function answerTo<Result>(request: IDBRequest<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function openDatabase(factory: IDBFactory, name: string): Promise<IDBDatabase> {
  const request = factory.open(name, FORMAT);
  let isForeign = false;
  request.onupgradeneeded = ({ oldVersion }) => {
    const transaction = request.transaction!;
    transaction.onabort = () => (isForeign = true);
    upgrade(request.result, transaction, oldVersion);
  };
  return answerTo(request).then(
    (database) => {
      if (STORES.every((name) => database.objectStoreNames.contains(name))) return database;
      database.close();
      throw unknownFormat("another database");
    },
    (error: unknown) => {
      throw isForeign && (error as DOMException).name === "AbortError"
        ? unknownFormat("another database")
        : error;
    },
  );
}

function completion(transaction: IDBTransaction): Promise<void> {
  const completed = new Promise<void>((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () =>
      reject(transaction.error ?? new DOMException("the transaction was aborted", "AbortError"));
  });
  // Where nobody waits for it, the request that failed has told.
  completed.catch(() => undefined);
  return completed;
}

/** Fails where the transaction has ended by itself. */
function abort(transaction: IDBTransaction): void {
  try {
    transaction.abort();
  } catch {
    // Nothing is left to abort.
  }
}
