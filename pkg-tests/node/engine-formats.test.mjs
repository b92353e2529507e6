// Engines on stores that earlier releases have written.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Engine } from "annals";
import { sqliteStorage } from "annals/sqlite";
import { appointment, issuedAt } from "../support/clinic.mjs";
import { drivers, temporaryFolder } from "../support/sqlite-drivers.mjs";

const formatOne = readFileSync(new URL("../formats/sqlite-1.sql", import.meta.url), "utf8");

for (const [driver, connect] of drivers) {
  test(`${driver}: a store of format 1 has its states, and remembers its commands`, async () => {
    const folder = temporaryFolder();
    const database = connect(folder.file);
    try {
      database.exec(formatOne);
      const engine = await Engine.open({ storage: sqliteStorage({ database }), aggregates: [appointment] });
      const { state, revision, events } = await engine.history(appointment, "a-1");
      assert.deepEqual([state.status, revision, events.length], ["cancelled", 3, 3]);
      // What the first command has asked is in its event.
      const command = { type: "BookAppointment", data: events[0].data };
      const options = { issuedAt, commandId: events[0].commandId };
      const again = await engine.execute(appointment, "a-1", command, options);
      assert.deepEqual([again.duplicate, again.revision], [true, 1]);
      await engine.close();
    } finally {
      database.close();
      folder.remove();
    }
  });
}
