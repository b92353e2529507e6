// Processes with a SQLite store are killed at random moments: a short form of what
// ../support/crashes.mjs does for as long as one likes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crashSqlite } from "../support/crashes.mjs";
import { drivers } from "../support/sqlite-drivers.mjs";

for (const driver of drivers.keys()) {
  test(`${driver}: processes killed at random moments have lost nothing that was acknowledged, and done nothing twice`, { timeout: 240_000 }, async () => {
    const { acknowledged, commands } = await crashSqlite(driver, { kills: 8, seed: 3 });
    assert.ok(acknowledged > 50 && commands >= acknowledged, `${acknowledged} of ${commands}`);
  });
}
