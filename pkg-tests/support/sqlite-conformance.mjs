// The SQLite adapter, as the suite needs to know it.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { sqliteStorage } from "annals/sqlite";
import { logOne } from "./formats.mjs";
import { kill, messageFrom, start } from "./processes.mjs";
import { temporaryFolder } from "./sqlite-drivers.mjs";

const script = fileURLToPath(new URL("sqlite-worker.mjs", import.meta.url));

const formatOne = readFileSync(new URL("../formats/sqlite-1.sql", import.meta.url), "utf8");

const fast = { durability: "normal", pollInterval: 5 };

/** A store in a file, with a driver's way to open one. */
export function onDisk(driver, open) {
  const connect = (store) => {
    store.databases.push(open(store.file));
    return store.databases.at(-1);
  };
  const newStore = (prepare) => {
    const store = { ...temporaryFolder(), databases: [] };
    prepare?.(connect(store));
    return Object.assign(store, { storage: sqliteStorage({ database: connect(store), ...fast }) });
  };
  const fails = (trouble) => {
    throw Object.assign(new Error("disk trouble"), trouble);
  };
  return {
    name: `${driver} on disk`,
    capabilities: {
      durability: "process-crash",
      notification: "connections",
      connections: true,
      reopening: true,
      processes: true,
      restoring: true,
      migration: true,
    },
    open: () => newStore(),
    reopen: (store) => sqliteStorage({ database: connect(store), ...fast }),
    release({ databases, remove }) {
      for (const database of databases) close(database);
      remove();
    },
    // As a restore does it: other content under the same connection.
    async restore(store) {
      const database = connect(store);
      for (const name of ["events", "event_tags", "commands", "annals_meta", "documents", "document_postings"])
        database.exec(`DROP TABLE ${name}`);
      await sqliteStorage({ database }).open();
    },
    async elsewhere({ file }, job) {
      const worker = await start(script, [driver, file]);
      try {
        worker.send({ job });
        return await messageFrom(worker);
      } finally {
        await kill(worker);
      }
    },
    older: [{ format: "1", open: () => newStore((database) => database.exec(formatOne)), log: logOne("sqlite") }],
    faults: {
      full(store) {
        const database = connect(store);
        return {
          storage: sqliteStorage({ database, ...fast }),
          begin() {
            const { page_count: pages } = database.prepare("PRAGMA page_count").get();
            database.exec(`PRAGMA max_page_count = ${pages + 2}`);
          },
          end: () => database.exec("PRAGMA max_page_count = 1000000"),
        };
      },
      locked(store) {
        const other = connect(store);
        let isLocked = false;
        return {
          storage: sqliteStorage({ database: connect(store), ...fast, busyTimeout: 30 }),
          begin() {
            other.exec("BEGIN IMMEDIATE");
            isLocked = true;
          },
          end() {
            if (isLocked) other.exec("ROLLBACK");
            isLocked = false;
          },
        };
      },
      failing(store) {
        let failing = false;
        const onUse = () => failing && fails({ code: "SQLITE_IOERR" });
        return {
          storage: sqliteStorage({ database: watched(connect(store), onUse), ...fast }),
          begin: () => void (failing = true),
          end: () => void (failing = false),
        };
      },
      unanswered(store) {
        const database = connect(store);
        let failing = false;
        const onUse = (name, sql) => {
          if (!failing || name !== "exec" || sql !== "COMMIT") return;
          database.exec(sql);
          fails({ code: "SQLITE_IOERR_FSYNC" });
        };
        return {
          storage: sqliteStorage({ database: watched(database, onUse), ...fast }),
          begin: () => void (failing = true),
          end: () => void (failing = false),
        };
      },
      disconnected(store) {
        const database = connect(store);
        return { storage: sqliteStorage({ database, ...fast }), begin: () => close(database), end: () => {} };
      },
    },
  };
}

/** A store in the driver's memory. */
export function inMemory(driver, open) {
  return {
    name: `${driver} in memory`,
    capabilities: { durability: "memory", notification: "engines" },
    open() {
      const database = open(":memory:");
      return { storage: sqliteStorage({ database }), database };
    },
    release: ({ database }) => database.close(),
  };
}

/** The connection; `onUse` is told which member is used, and of a call its first argument. */
export function watched(database, onUse) {
  return new Proxy(database, {
    get(_, name) {
      const member = database[name];
      if (typeof member !== "function") {
        onUse(name);
        return member;
      }
      return (...args) => {
        onUse(name, args[0]);
        return member.apply(database, args);
      };
    },
  });
}

/** Closes a connection, if it is not closed. */
export function close(database) {
  if (database.open !== false && database.isOpen !== false) database.close();
}
