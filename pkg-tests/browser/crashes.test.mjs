// Browsers with an IndexedDB store are killed at random moments: a short form of what
// ../support/crashes.mjs does for as long as one likes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crashIndexedDb } from "../support/crashes.mjs";

test("IndexedDB: browsers killed at random moments have lost nothing that was acknowledged, and done nothing twice", { timeout: 240_000 }, async () => {
  const { acknowledged, commands } = await crashIndexedDb({ kills: 5, seed: 3 });
  assert.ok(acknowledged > 30 && commands >= acknowledged, `${acknowledged} of ${commands}`);
});
