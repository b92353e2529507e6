// The IndexedDB adapter, as the suite needs to know it. The tests are listed in Node and run in pages.

import { indexedDbStorage } from "annals/indexeddb";
import { conformance } from "annals/testing/conformance";
import { indexedDbStores, logOne, logTwo } from "./formats.mjs";

export const newName = () => `store ${crypto.randomUUID()}`;

/** What the request of the browser's gives. */
export const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export const deleteDatabase = (name) => asked(indexedDB.deleteDatabase(name));

/** Of each format the stores, their keys and their indexes. */
const ofOne = { meta: [null], appends: ["head", "commandIds", "streams", "tags", "types"] };
const documents = [["collection", "key"], "postings"];
const layouts = {
  1: ofOne,
  2: { ...ofOne, appends: [...ofOne.appends, "correlations"], documents },
  3: {
    meta: [null],
    appends: ["head", "streams"],
    commits: ["head", "commandIds", "tags", "types", "correlations"],
    directory: ["head"],
    documents,
  },
};

/** Makes a store as a release of this format has left it, and gives the connection that made it. */
export async function makeOlder(format, name) {
  const { version, meta, ...records } = indexedDbStores[format];
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => {
    for (const [name, [keyPath, ...indexes]] of Object.entries(layouts[format])) {
      const store = request.result.createObjectStore(name, { keyPath });
      for (const index of indexes) {
        const unique = index === "commandIds" || index === "streams";
        store.createIndex(index, index, { multiEntry: true, unique });
      }
      if (name === "meta") store.put(meta, "store");
      else for (const record of records[name]) store.put(record);
    }
  };
  return asked(request);
}

/** All that is in a store of the newest format. */
export async function contentsOf(name) {
  const database = await asked(indexedDB.open(name));
  const transaction = database.transaction([...database.objectStoreNames]);
  const all = {};
  for (const store of transaction.objectStoreNames) {
    const { keyPath, indexNames } = transaction.objectStore(store);
    all[store] = [keyPath, [...indexNames], await asked(transaction.objectStore(store).getAll())];
  }
  database.close();
  return all;
}

export function testsOf(durability) {
  const storageOf = ({ name }) => indexedDbStorage({ name, durability });
  const newStore = (name) => ({ name, storage: storageOf({ name }) });
  return conformance({
    name: `IndexedDB, ${durability}`,
    capabilities: {
      durability: durability === "strict" ? "power-loss" : "process-crash",
      notification: "connections",
      connections: true,
      reopening: true,
      processes: true,
      restoring: true,
      migration: true,
      presence: true,
    },
    open: () => newStore(newName()),
    reopen: storageOf,
    release: ({ name }) => deleteDatabase(name),
    restore: ({ name }) => deleteDatabase(name),
    // The test gives the page the means to ask another.
    elsewhere: ({ name }, job) => globalThis.askAnotherPage(name, durability, job),
    older: [1, 2, 3].map((format) => ({
      format: `${format}`,
      log: format === 1 ? logOne("indexeddb") : logTwo,
      async open() {
        const store = newStore(newName());
        (await makeOlder(format, store.name)).close();
        return store;
      },
    })),
    faults: {
      // The browser looks seldom for what is left, so the page has little from its beginning.
      full: () => ({ begin: () => {}, end: () => globalThis.setQuota(undefined) }),
      failing: () =>
        replaced(IDBDatabase.prototype, "transaction", () => {
          throw new DOMException("disk trouble", "UnknownError");
        }),
      unanswered: () => replaced(IDBTransaction.prototype, "commit", (transaction) => transaction.abort()),
      disconnected(store) {
        const databases = [];
        const open = replaced(IDBFactory.prototype, "open", (factory, original, args) => {
          const request = original.apply(factory, args);
          request.addEventListener("success", () => databases.push(request.result));
          return request;
        });
        open.begin();
        return {
          storage: storageOf(store),
          begin: () => databases.forEach((database) => database.close()),
          end: open.end,
        };
      },
      held(store) {
        let reached;
        let isOver = false;
        const held = new Promise((resolve) => (reached = resolve));
        const commit = replaced(IDBTransaction.prototype, "commit", (transaction, original) => {
          commit.end();
          // A transaction lives for as long as it is asked for something.
          const askAgain = () => {
            if (isOver) original.call(transaction);
            else transaction.objectStore("meta").get("nothing").onsuccess = askAgain;
          };
          askAgain();
          reached();
        });
        return {
          storage: storageOf(store),
          begin: commit.begin,
          reached: () => held,
          end() {
            isOver = true;
            commit.end();
          },
        };
      },
    },
  });
}

/** Has a method of the browser's do something else from the beginning to the end. */
function replaced(prototype, method, instead) {
  const original = prototype[method];
  return {
    begin() {
      prototype[method] = function (...args) {
        return instead(this, original, args);
      };
    },
    end() {
      prototype[method] = original;
    },
  };
}
