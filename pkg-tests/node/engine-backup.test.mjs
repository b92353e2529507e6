// A SQLite store is backed up while commands go on.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Engine } from "annals";
import { sqliteStorage } from "annals/sqlite";
import { appointment, booking, checkLog, issuedAt, logOf } from "../support/clinic.mjs";
import { drivers, temporaryFolder } from "../support/sqlite-drivers.mjs";

// Not every Node has it.
const { backup } = await import("node:sqlite").catch(() => ({}));

/**
 * Ways to make a backup that SQLite and its drivers have. The drivers' own go page by page: what its
 * connection writes meanwhile it takes along, and what another writes makes it begin anew.
 */
const ways = {
  "VACUUM INTO, on another connection,": ({ beside }, file) => beside.prepare("VACUUM INTO ?").run(file),
  "its own backup, on the engine's connection,": ({ own }, file) => own.backup(file),
  "node:sqlite's backup, on the engine's connection,": ({ own }, file) => backup(own, file),
};

/** Whether the driver has this way. */
const has = (driver, way) =>
  way.startsWith("VACUUM") ||
  (way.startsWith("its own") ? driver === "better-sqlite3" : driver === "node:sqlite" && backup !== undefined);

for (const [driver, connect] of drivers) {
  for (const [way, backUp] of Object.entries(ways)) {
    if (!has(driver, way)) continue;
    const rule = `${driver}: by ${way} a store is backed up whole while commands go on`;
    test(rule, { timeout: 120_000 }, async () => {
      const folder = temporaryFolder();
      const opened = [];
      const open = (file) => {
        opened.push(connect(file));
        return opened.at(-1);
      };
      const engineOn = (database) =>
        Engine.open({ storage: sqliteStorage({ database }), aggregates: [appointment] });
      try {
        const [own, beside] = [open(folder.file), open(folder.file)];
        const engine = await engineOn(own);
        const acknowledged = [];
        let number = 0;
        const giveMore = async () => {
          const numbers = Array.from({ length: 20 }, () => (number += 1));
          const give = (n) => engine.execute(appointment, `a-${n}`, booking({ doctor: `${n}` }), { issuedAt });
          await Promise.all(numbers.map(async (n) => acknowledged.push((await give(n)).events[0])));
        };
        await giveMore();
        const before = acknowledged.length;
        const copy = path.join(path.dirname(folder.file), "copy.db");
        let done = false;
        const backedUp = Promise.resolve(backUp({ own, beside }, copy)).finally(() => (done = true));
        do {
          await giveMore();
          // A store that answers at once leaves nobody else a turn.
          await new Promise((resolve) => setImmediate(resolve));
        } while (!done);
        await backedUp;

        const restored = await engineOn(open(copy));
        const events = await logOf(restored);
        checkLog(events);
        assert.ok(events.length >= before && events.length <= acknowledged.length);
        // It is the log up to some moment, without a gap.
        assert.deepEqual(events, (await logOf(engine)).slice(0, events.length));
        const again = await restored.execute(appointment, "a-1", booking({ doctor: "1" }), {
          issuedAt,
          commandId: events[0].commandId,
        });
        assert.deepEqual(again.events, [events[0]], "it remembers what was acknowledged");
        await Promise.all([engine.close(), restored.close()]);
      } finally {
        for (const database of opened) database.close();
        folder.remove();
      }
    });
  }
}

/** As the guide says it. */
const [newEpoch] = /UPDATE annals_meta [^;]*;/.exec(readFileSync(new URL("../../docs/guide.md", import.meta.url), "utf8"));

for (const [driver, connect] of drivers) {
  test(`${driver}: a backup that is given a new epoch takes no position of its store, and has all that it had`, async () => {
    const folder = temporaryFolder();
    const opened = [];
    const engineOn = async (file) => {
      const database = connect(file);
      const engine = await Engine.open({ storage: sqliteStorage({ database }), aggregates: [appointment] });
      opened.push(engine, database);
      return { engine, database };
    };
    try {
      const { engine, database } = await engineOn(folder.file);
      const { position } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
      const copy = path.join(path.dirname(folder.file), "copy.db");
      database.prepare("VACUUM INTO ?").run(copy);
      const lost = await engine.execute(appointment, "a-2", booking({ doctor: "2" }), { issuedAt });

      const { engine: restored, database: beside } = await engineOn(copy);
      assert.equal((await restored.state(appointment, "a-1", { at: { position } })).revision, 1, "without it they are taken");
      beside.exec(newEpoch);
      // An engine that has it open is told.
      await assert.rejects(restored.state(appointment, "a-1"), { code: "foreign-epoch" });
      const { position: other } = await restored.execute(appointment, "a-3", booking({ doctor: "3" }), { issuedAt });
      for (const at of [position, lost.position]) {
        assert.notEqual(at, other);
        await assert.rejects(restored.state(appointment, "a-1", { at: { position: at } }), { code: "foreign-position" });
      }
      assert.equal((await restored.state(appointment, "a-3", { at: { position: other } })).revision, 1);
      assert.deepEqual((await logOf(restored)).map(({ stream }) => stream.id), ["a-1", "a-3"]);
    } finally {
      for (const one of opened) await one.close();
      folder.remove();
    }
  });
}
