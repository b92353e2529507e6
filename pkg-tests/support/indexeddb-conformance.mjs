// The IndexedDB adapter, as the suite needs to know it. The tests are listed in Node and run in pages.

import { indexedDbStorage } from "annals/indexeddb";
import { conformance } from "annals/testing/conformance";
import { indexedDbOne, logOne } from "./formats.mjs";

export const newName = () => `store ${crypto.randomUUID()}`;

/** What the request of the browser's gives. */
export const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export const deleteDatabase = (name) => asked(indexedDB.deleteDatabase(name));

/** Makes a store as a release of format 1 has left it, and gives the connection that made it. */
export async function makeFormatOne(name) {
  const { version, meta, appends } = indexedDbOne;
  const request = indexedDB.open(name, version);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("meta").put(meta, "store");
    const store = request.result.createObjectStore("appends", { keyPath: "head" });
    for (const index of ["commandIds", "streams", "tags", "types"]) {
      const unique = index === "commandIds" || index === "streams";
      store.createIndex(index, index, { multiEntry: true, unique });
    }
    for (const record of appends) store.put(record);
  };
  return asked(request);
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
    older: [
      {
        format: "1",
        log: logOne("indexeddb"),
        async open() {
          const store = newStore(newName());
          (await makeFormatOne(store.name)).close();
          return store;
        },
      },
    ],
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
