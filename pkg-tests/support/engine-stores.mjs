// The stores on which the engine keeps its rules in Node.

import { test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { postgresStorage } from "annals/postgres";
import { sqliteStorage } from "annals/sqlite";
import { appointment } from "./clinic.mjs";
import { pool } from "./postgres.mjs";
import { newSchema } from "./postgres-stores.mjs";
import { drivers, isWanted, temporaryFolder } from "./sqlite-drivers.mjs";

const all = [
  ["memory", () => inMemory(memoryStorage())],
  ["memory that answers later", () => inMemory(later(memoryStorage()))],
  ...[...drivers].map(([name, connect]) => [name, () => inFile(connect)]),
  ["PostgreSQL", inSchema],
];
const makers = new Map(all.filter(([name]) => isWanted(name)));

function inMemory(storage) {
  return { storage: () => storage, durability: "memory", remove() {} };
}

function inFile(connect) {
  const folder = temporaryFolder();
  const databases = [];
  return {
    file: folder.file,
    durability: "process-crash",
    storage() {
      databases.push(connect(folder.file));
      return sqliteStorage({ database: databases.at(-1), durability: "normal", pollInterval: 5 });
    },
    remove() {
      for (const database of databases) database.close();
      folder.remove();
    },
  };
}

function inSchema() {
  const schema = newSchema();
  return {
    storage: () => postgresStorage({ database: pool, schema }),
    durability: "process-crash", // of a server that does not flush
    remove: () => pool.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`),
  };
}

/** A store as those are that are asked over a network: answers come in a later turn. */
function later(storage) {
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const delayed = (name) => async (...args) => {
    await turn();
    const answer = storage[name](...args);
    await turn();
    return answer;
  };
  return {
    open: delayed("open"),
    append: delayed("append"),
    load: delayed("load"),
    readLog: delayed("readLog"),
    saveDocuments: delayed("saveDocuments"),
    readDocuments: delayed("readDocuments"),
    subscribe: (onAdvanced) => storage.subscribe(onAdvanced),
    close: delayed("close"),
  };
}

/** An empty store and the engines on it; `remove` closes them. */
export class Place {
  #made;
  #engines = [];

  constructor(maker) {
    this.#made = maker();
  }

  /** An adapter on the store; every adapter of a file has a connection of its own. */
  storage() {
    return this.#made.storage();
  }

  /** The file, if the store is one. */
  get file() {
    return this.#made.file;
  }

  /** What a commit survives. */
  get durability() {
    return this.#made.durability;
  }

  /** An engine for the clinic, unless the options say otherwise. */
  async open(options) {
    const engine = await Engine.open({ storage: this.storage(), aggregates: [appointment], ...options });
    this.#engines.push(engine);
    return engine;
  }

  async remove() {
    for (const engine of this.#engines) await engine.close();
    await this.#made.remove();
  }
}

/** Makes a rule a test on each store. */
export function onEachStore(name, rule, stores = [...makers.keys()]) {
  for (const store of stores.filter((name) => makers.has(name))) {
    // What waits in vain is a failure too.
    test(`${store}: ${name}`, { timeout: 60_000 }, async () => {
      const place = new Place(makers.get(store));
      try {
        await rule(place);
      } finally {
        await place.remove();
      }
    });
  }
}

/** Those that ask the engine's judge, and keep what is no JSON. */
export const embeddedStores = [...makers.keys()].filter((name) => name !== "PostgreSQL");
export const sqliteStores = [...drivers.keys()];
