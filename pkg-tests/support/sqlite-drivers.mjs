// The SQLite drivers that this Node, or Bun, and this machine have, and the stores that are wanted.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const loaders = {
  "node:sqlite": async () => {
    const { DatabaseSync } = await import("node:sqlite");
    return (file) => new DatabaseSync(file);
  },
  "bun:sqlite": async () => {
    const { Database } = await import("bun:sqlite");
    return (file) => new Database(file);
  },
  "better-sqlite3": async () => {
    const { default: Database } = await import("better-sqlite3");
    new Database(":memory:").close(); // the binary may be missing, or another Node's
    return (file) => new Database(file);
  },
  libsql: async () => {
    const { default: Database } = await import("libsql");
    return (file) => new Database(file);
  },
};

const { ANNALS_TEST_STORES: wanted } = process.env;

/** Whether a store is to be tested: the run on a second Node, say, leaves out what the first has tested. */
export const isWanted = (store) => wanted === undefined || wanted.split(",").includes(store);

/** Name and way to open a file, of each driver that there is. */
export const drivers = new Map();

for (const [name, load] of Object.entries(loaders)) {
  if (!isWanted(name)) continue;
  const open = await load().catch(() => undefined);
  if (open !== undefined) drivers.set(name, open);
}

/** A folder of its own for a database, and the way to remove it. */
export function temporaryFolder() {
  const folder = mkdtempSync(path.join(tmpdir(), "annals-"));
  return { file: path.join(folder, "store.db"), remove: () => rmSync(folder, { recursive: true }) };
}
