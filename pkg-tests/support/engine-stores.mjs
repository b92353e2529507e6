// The stores on which the engine keeps its rules in Node.

import { test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { sqliteStorage } from "annals/sqlite";
import { appointment } from "./clinic.mjs";
import { drivers, temporaryFolder } from "./sqlite-drivers.mjs";

const makers = new Map([
  ["memory", () => inMemory(memoryStorage())],
  ["memory that answers later", () => inMemory(later(memoryStorage()))],
  ...[...drivers].map(([name, connect]) => [name, () => inFile(connect)]),
]);

function inMemory(storage) {
  return { storage: () => storage, remove() {} };
}

function inFile(connect) {
  const folder = temporaryFolder();
  const databases = [];
  return {
    file: folder.file,
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

  /** An engine for the clinic, unless the options say otherwise. */
  async open(options) {
    const engine = await Engine.open({ storage: this.storage(), aggregates: [appointment], ...options });
    this.#engines.push(engine);
    return engine;
  }

  async remove() {
    for (const engine of this.#engines) await engine.close();
    this.#made.remove();
  }
}

/** Makes a rule a test on each store. */
export function onEachStore(name, rule, stores = [...makers.keys()]) {
  for (const store of stores) {
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

export const sqliteStores = [...drivers.keys()];
