import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { sqliteStorage } from "annals/sqlite";
import { Subject, commit, event } from "annals/testing/conformance";
import { enrol } from "../support/conformance.mjs";
import { fails, until } from "../support/expect.mjs";
import { checkFormatOne } from "../support/format-one.mjs";
import { kill, start } from "../support/processes.mjs";
import { inMemory, onDisk, watched } from "../support/sqlite-conformance.mjs";
import { drivers, temporaryFolder } from "../support/sqlite-drivers.mjs";

test("there is a driver to test with", () => assert.notEqual(drivers.size, 0));

const script = fileURLToPath(new URL("../support/sqlite-worker.mjs", import.meta.url));

const formatOne = readFileSync(new URL("../formats/sqlite-1.sql", import.meta.url), "utf8");

const APPLICATION_ID = 0x416e6c73;

const marks = (database) => [
  database.prepare("PRAGMA application_id").get().application_id,
  database.prepare("PRAGMA user_version").get().user_version,
];

const fast = { durability: "normal", pollInterval: 5 };

for (const [driver, open] of drivers) {
  enrol(test, onDisk(driver, open), "SQLite");
  enrol(test, inMemory(driver, open));

  const rule = (name, run) =>
    test(`${driver}: ${name}`, { timeout: 120_000 }, async ({ signal }) => {
      const folder = temporaryFolder();
      const opened = [];
      const connect = () => {
        opened.push(open(folder.file));
        return opened.at(-1);
      };
      const workers = [];
      const worker = async () => {
        workers.push(await start(script, [driver, folder.file], signal));
        return workers.at(-1);
      };
      try {
        await run({ connect, worker, file: folder.file });
      } finally {
        for (const process of workers) await kill(process);
        for (const database of opened)
          if (database.open !== false && database.isOpen !== false) database.close();
        folder.remove();
      }
    });

  rule("durability is what SQLite is set to", async ({ connect }) => {
    for (const [durability, synchronous, says] of [
      [undefined, 2, "power-loss"],
      ["full", 2, "power-loss"],
      ["normal", 1, "process-crash"],
    ]) {
      const database = connect();
      const storage = sqliteStorage({ database, ...(durability && { durability }) });
      assert.equal((await storage.open()).durability, says);
      assert.equal(database.prepare("PRAGMA synchronous").get().synchronous, synchronous);
      assert.equal(database.prepare("PRAGMA journal_mode").get().journal_mode, "wal");
    }
    assert.equal((await sqliteStorage({ database: open(":memory:") }).open()).durability, "memory");
  });

  rule("requests that are not busy are answered at once", async ({ connect }) => {
    const storage = sqliteStorage({ database: connect() });
    const { epoch, head } = storage.open();
    assert.equal(head, 0);
    const page = storage.readLog({
      epoch,
      after: 0,
      types: [],
      aggregateTypes: [],
      correlationId: null,
      tags: [],
      limit: 1,
    });
    assert.deepEqual(page, { events: [], next: 0, head: 0 });
  });

  rule("a file of its own is marked, one that others use keeps its marks", async ({ connect }) => {
    const own = connect();
    await sqliteStorage({ database: own }).open();
    assert.deepEqual(marks(own), [APPLICATION_ID, 2]);

    const shared = open(":memory:");
    shared.exec("CREATE TABLE customers (name TEXT); PRAGMA user_version = 7");
    const subject = await Subject.open(sqliteStorage({ database: shared }));
    await subject.accept(commit("a-1", 0, [event()]));
    assert.deepEqual(marks(shared), [0, 7]);
    shared.close();
  });

  rule("a database of another encoding, whose texts are in another order, is refused and left as it was", async ({ connect, file }) => {
    for (const encoding of ["UTF-16le", "UTF-16be"]) {
      const maker = connect();
      maker.exec(`PRAGMA encoding = '${encoding}'; CREATE TABLE customers (name TEXT)`);
      maker.close();
      const before = readFileSync(file);
      const database = connect();
      const error = await fails(() => sqliteStorage({ database }).open(), { code: "storage-failed", retryable: false });
      assert.match(error.message, new RegExp(encoding));
      database.close();
      assert.deepEqual(readFileSync(file), before);
      rmSync(file);
    }
  });

  for (const [what, sql] of [
    ["somebody else's table of the same name", "CREATE TABLE Events (id INTEGER)"],
    ["somebody else's view of the same name", "CREATE VIEW commands AS SELECT 1"],
    ["somebody else's meta table", "CREATE TABLE annals_meta (name TEXT)"],
    ["another application's mark", "PRAGMA application_id = 42"],
    ["a newer format", "UPDATE annals_meta SET value = '3' WHERE key = 'format'"],
    ["no format", "DELETE FROM annals_meta WHERE key = 'format'"],
  ]) {
    rule(`a database with ${what} is refused and left as it was`, async ({ connect, file }) => {
      if (/format/.test(sql)) {
        const first = connect();
        await sqliteStorage({ database: first }).open();
        first.close();
      }
      const maker = connect();
      maker.exec(sql);
      maker.close();
      const before = readFileSync(file);
      const database = connect();
      await fails(() => sqliteStorage({ database }).open(), {
        code: "unknown-format",
        retryable: false,
      });
      database.close();
      assert.deepEqual(readFileSync(file), before);
    });
  }

  rule("a store of format 1 is read, and is of the newest format then", async ({ connect }) => {
    const old = connect();
    old.exec(formatOne);
    old.close();
    for (let time = 0; time < 2; time += 1) {
      const database = connect();
      await checkFormatOne(await Subject.open(sqliteStorage({ database })));
      assert.deepEqual(marks(database), [APPLICATION_ID, 2]);
    }
  });

  for (const table of ["Documents", "document_postings"]) {
    rule(`a store of format 1 beside somebody else's ${table} is refused and left as it was`, async ({ connect, file }) => {
      const old = connect();
      old.exec(`${formatOne} CREATE TABLE ${table} (name TEXT);`);
      old.close();
      const before = readFileSync(file);
      const database = connect();
      await fails(() => sqliteStorage({ database }).open(), { code: "unknown-format" });
      database.close();
      assert.deepEqual(readFileSync(file), before);
    });
  }

  rule("a file that is no database is refused", async ({ connect, file }) => {
    writeFileSync(file, "Dear diary, ".repeat(1000));
    await fails(() => sqliteStorage({ database: connect() }).open(), { code: "unknown-format" });
  });

  rule("events and commands can be neither changed nor deleted", async ({ connect }) => {
    const database = connect();
    const subject = await Subject.open(sqliteStorage({ database }));
    await subject.accept(commit("a-1", 0, [event()]));
    for (const sql of [
      "UPDATE events SET data = '{}'",
      "DELETE FROM events",
      "UPDATE commands SET hash = ''",
      "DELETE FROM commands",
    ]) {
      assert.throws(() => database.exec(sql), /can only be appended/);
    }
    assert.equal((await subject.log()).length, 1);
  });

  rule(
    "an append waits for the lock of others without stopping the process",
    async ({ connect }) => {
      let tries = 0;
      const database = watched(connect(), (_, sql) => (tries += sql === "BEGIN IMMEDIATE"));
      const subject = await Subject.open(sqliteStorage({ database, busyTimeout: 60_000 }));
      const other = connect();
      other.exec("BEGIN IMMEDIATE");
      let asked = 0;
      const answer = subject.append([commit("a-1", 0, [event()])], () => asked++);
      assert.ok(answer instanceof Promise);
      const before = tries;
      await until(() => tries > before + 2);
      assert.equal(asked, 0);
      assert.equal((await subject.slice("Appointment", "a-1")).revision, 0, "reads don't wait");
      other.exec("ROLLBACK");
      assert.equal((await answer)[0].kind, "committed");
      assert.equal(asked, 1);
    },
  );

  rule("documents are compared with what is expected when the lock of others is gone", async ({ connect }) => {
    const subject = await Subject.open(sqliteStorage({ database: connect(), busyTimeout: 60_000 }));
    const [collection, key] = ["agenda", "x"];
    await subject.save({ collection, key, revision: 1, value: "1" });
    const other = connect();
    other.exec("BEGIN IMMEDIATE; UPDATE documents SET revision = 2");
    const documents = [{ collection, key, revision: 3, value: "3" }];
    const answer = subject.change({ expected: [{ collection, key, revision: 1 }], documents });
    const found = async () => (await subject.read({ names: [{ collection, key }] })).documents[0];
    assert.deepEqual(await found(), { revision: 1, value: "1" }, "reads don't wait");
    other.exec("COMMIT");
    assert.deepEqual(await answer, { index: 0, actual: 2 });
    assert.deepEqual(await found(), { revision: 2, value: "1" });
  });

  rule("documents and their postings are searched for in an index, and come in its order", async ({ connect }) => {
    const asked = [];
    const database = connect();
    const onUse = (name, sql) => name === "prepare" && / (documents|document_postings)\b/.test(sql) && asked.push(sql);
    await sqliteStorage({ database: watched(database, onUse) }).open();
    const plans = asked
      .filter((sql) => !/^\s*INSERT/.test(sql))
      .map((sql) => {
        const parameters = Array.from(sql.matchAll(/\?/g), () => "");
        const rows = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...parameters);
        return rows.map(({ detail }) => detail).join("; ");
      });
    const expected = [
      [/^SEARCH documents .*INDEX \S+ \(collection=\? AND key=\?\)$/, 3],
      [/^SEARCH documents .*INDEX \S+ \(collection=\? AND key>\? AND key<\?\)$/, 3],
      [/^SEARCH documents .*INDEX \S+ \(collection=\?\)$/, 1],
      [/^SEARCH posting USING PRIMARY KEY \(collection=\? AND index_name=\? AND \(value,key\)>\(\?,\?\) AND \(value,key\)<\(\?,\?\)\)(; SEARCH documents .*\(collection=\? AND key=\?\))?$/, 3],
      [/^SEARCH document_postings USING PRIMARY KEY \(collection=\? AND index_name=\? AND value=\? AND key=\?\)$/, 1],
      [/^SEARCH document_postings USING PRIMARY KEY \(collection=\?\)$/, 1],
    ];
    for (const [plan, count] of expected) assert.equal(plans.filter((found) => plan.test(found)).length, count, `${plan} in ${plans.join("\n")}`);
    assert.equal(plans.length, 12, plans.join("\n"));
  });

  rule("an append that waits too long fails as busy, with nothing applied", async ({ connect }) => {
    const subject = await Subject.open(sqliteStorage({ database: connect(), busyTimeout: 30 }));
    const other = connect();
    other.exec("BEGIN IMMEDIATE");
    const sent = commit("a-1", 0, [event()]);
    await fails(() => subject.append([sent]), {
      code: "storage-busy",
      retryable: true,
      mayBeApplied: false,
    });
    other.exec("ROLLBACK");
    await subject.accept(sent);
  });

  rule("a full disk fails the append, and the change of documents, with nothing applied", async ({ connect }) => {
    const database = connect();
    const subject = await Subject.open(sqliteStorage({ database }));
    await subject.accept(commit("a-1", 0, [event()]));
    const { page_count: pages } = database.prepare("PRAGMA page_count").get();
    database.exec(`PRAGMA max_page_count = ${pages + 2}`);
    const large = commit("a-1", 1, [
      event(),
      event("Noted", [], { data: JSON.stringify("x".repeat(100_000)) }),
    ]);
    await fails(() => subject.append([large]), {
      code: "storage-full",
      retryable: false,
      mayBeApplied: false,
    });
    assert.equal((await subject.slice("Appointment", "a-1")).revision, 1);
    const documents = Array.from({ length: 100 }, (_, index) => {
      return { collection: "agenda", key: `k-${index}`, revision: 1, value: JSON.stringify("x".repeat(1000)), postings: [["of", "v"]] };
    });
    await fails(() => subject.change({ clear: ["agenda"], documents }), { code: "storage-full", mayBeApplied: false });
    const scans = [null, "of"].map((index) => ({ collection: "agenda", index, limit: null }));
    assert.deepEqual((await subject.read({ scans })).scans.map(({ count }) => count), [0, 0]);
    database.exec("PRAGMA max_page_count = 1000000");
    await subject.accept(large);
    assert.equal(await subject.change({ documents }), null);
    assert.deepEqual((await subject.read({ scans })).scans.map(({ count }) => count), [100, 100]);
  });

  rule("a failed COMMIT tells whether the append may be in the log", async ({ connect }) => {
    for (const [trouble, expected] of [
      [
        { code: "SQLITE_IOERR_FSYNC" },
        { code: "storage-failed", mayBeApplied: true, retryable: true },
      ],
      [
        { code: "ERR_SQLITE_ERROR", errcode: 1034 },
        { code: "storage-failed", mayBeApplied: true, retryable: true },
      ],
      [{ code: "SQLITE_FULL" }, { code: "storage-full", mayBeApplied: false, retryable: false }],
      [
        { code: "ERR_SQLITE_ERROR", errcode: 13 },
        { code: "storage-full", mayBeApplied: false, retryable: false },
      ],
      [{ code: "SQLITE_BUSY" }, { code: "storage-busy", mayBeApplied: false, retryable: true }],
    ]) {
      let failing = false;
      const database = watched(connect(), (_, sql) => {
        if (failing && sql === "COMMIT") throw Object.assign(new Error("disk trouble"), trouble);
      });
      const subject = await Subject.open(sqliteStorage({ database }));
      const { revision } = await subject.slice("Appointment", "a-1");
      const sent = commit("a-1", revision, [event()]);
      failing = true;
      await fails(() => subject.append([sent]), expected);
      failing = false;
      await subject.accept(sent);
    }
  });

  rule("a closed connection is told from other trouble", async ({ connect }) => {
    let looks = 0;
    const database = watched(connect(), (name) => (looks += ["open", "isOpen"].includes(name)));
    const subject = await Subject.open(sqliteStorage({ database, ...fast }));
    const stop = subject.storage.subscribe(() => {});
    database.close();
    const expected = { code: "storage-closed", retryable: false, mayBeApplied: false };
    await fails(() => subject.append([commit("a-1", 0, [event()])]), expected);
    await fails(() => subject.log(), expected);
    await fails(() => subject.storage.open(), expected);
    // Whoever looks for news of others finds it closed too, and nothing comes of it.
    const before = looks;
    await until(() => looks > before + 2);
    stop();
    await subject.storage.close();
  });

  rule("a connection that gives big integers is refused", async ({ connect }) => {
    const database = connect();
    const bigger = {
      exec: (sql) => database.exec(sql),
      prepare(sql) {
        const statement = database.prepare(sql);
        statement.safeIntegers?.(true);
        statement.setReadBigInts?.(true);
        return statement;
      },
    };
    await fails(() => sqliteStorage({ database: bigger }).open(), { code: "storage-failed" });
  });

  rule("closing the adapter leaves the connection to who opened it", async ({ connect }) => {
    const database = connect();
    const storage = sqliteStorage({ database });
    await storage.open();
    await storage.close();
    assert.equal(database.prepare("SELECT count(*) AS n FROM events").get().n, 0);
  });

  rule(
    "what a process was told is committed outlives its violent end",
    async ({ connect, worker }) => {
      const victim = await worker();
      const acknowledged = [];
      victim.on("message", ({ commandId }) => acknowledged.push(commandId));
      victim.send({});
      await until(() => acknowledged.length > 50 || !victim.connected, "it has acknowledged enough", 60_000);
      await kill(victim);
      assert.ok(acknowledged.length > 50, "the process ended early");
      const subject = await Subject.open(sqliteStorage({ database: connect() }));
      const { commands } = await subject.load({ commands: acknowledged });
      assert.equal(commands.indexOf(null), -1);
      const log = await subject.log();
      assert.deepEqual(
        log.map(({ position }) => position),
        log.map((_, index) => index + 1),
      );
    },
  );
}
