import { stat, unlink } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { StorageAdapter } from "../index.node.js";
import { postgresStorage } from "../postgres/index.js";
import { sqliteStorage } from "../sqlite/index.js";
import { Mistake, Refused } from "./types.js";

/** An open store, and how to let go of it. */
export interface OpenStore {
  readonly storage: StorageAdapter;
  /** Of what it is stored in. */
  readonly kind: string;
  close(): Promise<void>;
  /** Takes away what was made for it, if that was nothing but this store. */
  discard(): Promise<void>;
}

type Connection = Parameters<typeof sqliteStorage>[0]["database"] & { close(): unknown };

interface Driver {
  readonly name: string;
  connect(file: string, isReadonly: boolean): Connection;
}

/**
 * Opens a store by what names it: a path to a SQLite file, or a URL of PostgreSQL. To `read` it must be
 * there, in the newest format, and nothing can be written; to `write` it may be new; to `migrate` it may
 * be of an older format.
 */
export async function openStore(argument: string, mode: "read" | "write" | "migrate", wanted: string | undefined): Promise<OpenStore> {
  if (/^postgres(ql)?:/.test(argument)) return openPostgres(argument, mode);
  if (/^[a-z][a-z+.-]+:\/\//.test(argument)) {
    throw new Mistake(`expected a path to a SQLite file or a URL of PostgreSQL, found ${argument}`);
  }
  const file = path.resolve(argument);
  const found = await stat(file).catch(() => undefined);
  if (found?.isDirectory() === true) throw new Refused("unknown-store", `${argument} is a folder`);
  const isNew = found === undefined || found.size === 0;
  if (isNew && mode !== "write") {
    throw new Refused("unknown-store", found === undefined ? `there is no file ${argument}` : `${argument} is empty`);
  }
  const driver = await findDriver(wanted);
  // What is there is looked at first, so that it is left as it is if it is no store of this format.
  if (!isNew && mode === "write") await (await openFile(driver, file, true)).close();
  const store = await openFile(driver, file, mode === "read");
  if (!isNew) return store;
  return { ...store, discard: () => removeStore(file, found !== undefined) };
}

async function openFile(driver: Driver, file: string, isReadonly: boolean): Promise<OpenStore> {
  const database = driver.connect(file, isReadonly);
  const storage = sqliteStorage({ database, readonly: isReadonly });
  const close = async () => {
    await storage.close();
    database.close();
  };
  try {
    // Not every driver has connections that can't write.
    if (isReadonly) database.exec("PRAGMA query_only = ON");
    await storage.open();
  } catch (error) {
    await close();
    throw error;
  }
  return { storage, kind: `SQLite by ${driver.name}`, close, discard: async () => undefined };
}

async function removeStore(file: string, wasThere: boolean): Promise<void> {
  for (const name of [`${file}-wal`, `${file}-shm`, ...(wasThere ? [] : [file])]) await unlink(name).catch(() => undefined);
}

// --- PostgreSQL -------------------------------------------------------------------------------------

interface Pool {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: readonly { readonly there?: boolean }[] }>;
  end(): Promise<void>;
}

/** The store in the schema that `?schema=` names, or in that which stores are in if nothing is said. */
async function openPostgres(argument: string, mode: "read" | "write" | "migrate"): Promise<OpenStore> {
  let url: URL;
  try {
    url = new URL(argument);
  } catch {
    throw new Mistake("expected a URL such as postgres://user@host/database?schema=annals");
  }
  const schema = url.searchParams.get("schema") ?? "annals";
  url.searchParams.delete("schema");
  let pg: { readonly Pool: new (options: object) => Pool };
  try {
    ({ default: pg } = (await importPackage("pg")) as { default: typeof pg });
  } catch {
    throw new Refused("no-driver", "the driver for PostgreSQL can't be loaded; npm install pg brings it");
  }
  // Before anything else on each connection: nothing is written then, whatever is asked.
  const verify = (client: Pick<Pool, "query">, done: (error?: unknown) => void) =>
    void client.query("SET default_transaction_read_only = on").then(() => done(), done);
  const pool = new pg.Pool({ connectionString: url.href, max: 2, ...(mode === "read" ? { verify } : {}) });
  try {
    const { rows } = await pool.query("SELECT to_regclass(quote_ident($1) || '.store') IS NOT NULL AS there", [schema]);
    const isThere = rows[0]?.there === true;
    if (!isThere && mode !== "write") throw new Refused("unknown-store", `there is no store in the schema ${schema} of ${shownStore(argument)}`);
    const storage = postgresStorage({ database: pool as never, schema });
    await storage.open();
    return {
      storage,
      kind: "PostgreSQL",
      async close() {
        await storage.close();
        await pool.end();
      },
      async discard() {
        if (isThere) return;
        const own = new pg.Pool({ connectionString: url.href, max: 1 });
        await own.query(`DROP SCHEMA IF EXISTS "${schema.replaceAll('"', '""')}" CASCADE`).finally(() => own.end());
      },
    };
  } catch (error) {
    await pool.end();
    throw error;
  }
}

/** The store's name without a password that may be in it. */
export function shownStore(argument: string): string {
  return argument.replace(/^(postgres(?:ql)?:\/\/[^/@:]*):[^/@]*@/, "$1:***@");
}

// --- Drivers ----------------------------------------------------------------------------------------

const LOADERS: { readonly [name: string]: () => Promise<Driver["connect"]> } = {
  "node:sqlite": async () => {
    const { DatabaseSync } = quietly(() => process.getBuiltinModule("node:sqlite" as "node:fs")) as unknown as {
      DatabaseSync: new (file: string, options: object) => Connection;
    };
    return (file, readOnly) => new DatabaseSync(file, { readOnly });
  },
  "bun:sqlite": async () => {
    // Only Bun knows it, and bundlers would look for it.
    const name = "bun:sqlite";
    const { Database } = (await import(name)) as { Database: new (file: string, options?: object) => Connection };
    return (file, readonly) => (readonly ? new Database(file, { readonly }) : new Database(file));
  },
  "better-sqlite3": () => load("better-sqlite3"),
  libsql: () => load("libsql"),
};

/** The driver that was asked for, or the first that there is. */
async function findDriver(wanted: string | undefined): Promise<Driver> {
  if (wanted !== undefined && !Object.hasOwn(LOADERS, wanted)) {
    throw new Mistake(`expected ${Object.keys(LOADERS).join(", ")} as driver, found ${wanted}`);
  }
  const reasons: string[] = [];
  for (const [name, load] of Object.entries(LOADERS)) {
    if (wanted !== undefined && wanted !== name) continue;
    try {
      const connect = await load();
      // The native part may be missing, or another Node's.
      connect(":memory:", false).close();
      return { name, connect };
    } catch (error) {
      reasons.push(`${name}: ${error instanceof Error ? error.message.split("\n")[0]! : String(error)}`);
    }
  }
  throw new Refused("no-driver", `no driver for SQLite can be loaded; npm install better-sqlite3 brings one\n  ${reasons.join("\n  ")}`);
}

async function load(name: string): Promise<Driver["connect"]> {
  const { default: Database } = (await importPackage(name)) as { default: new (file: string, options: object) => Connection };
  return (file, readonly) => new Database(file, { readonly, fileMustExist: readonly });
}

/** A package of the project that the command is called in, or else one beside this package. */
async function importPackage(name: string): Promise<unknown> {
  const places = [path.join(process.cwd(), "_"), import.meta.url];
  for (const [index, place] of places.entries()) {
    let file: string;
    try {
      file = createRequire(place).resolve(name);
    } catch (error) {
      if (index === places.length - 1) throw error;
      continue;
    }
    return import(pathToFileURL(file).href);
  }
  throw new Error(`${name} can't be found`);
}

/** Without the warning that it is new. */
function quietly<Result>(work: () => Result): Result {
  const { emitWarning } = process;
  process.emitWarning = () => undefined;
  try {
    return work();
  } finally {
    process.emitWarning = emitWarning;
  }
}
