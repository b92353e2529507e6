// Who caused what: the chains of the log, walked both ways. What has changed, and by which events.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { diff } from "annals/audit";
import { memoryStorage } from "annals/memory";
import { auditRules } from "../support/audit-rules.mjs";
import { appointment, booking, confirmation, issuedAt } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

for (const { name, run } of auditRules) onEachStore(name, run);

test("both points of a diff are read in one request", async () => {
  const storage = memoryStorage();
  const loads = [];
  const load = storage.load.bind(storage);
  storage.load = (request) => (loads.push(request.streams.length), load(request));
  const engine = await Engine.open({ storage, aggregates: [appointment] });
  const { position } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine.execute(appointment, "a-1", confirmation, { issuedAt });
  loads.length = 0;
  const { changes } = await diff(engine, appointment, "a-1", { from: { position } });
  assert.deepEqual([changes.length, loads], [1, [2]]);
  await engine.close();
});

/** The diff of two states, whatever they are: `place: kind`. */
async function differing(before, after) {
  const kept = aggregate("Kept", {
    initial: () => null,
    decide: (_, { data }) => data.states.map((state) => ({ type: "Kept", data: { state } })),
    evolve: { Kept: (_, { data }) => data.state },
  });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [kept] });
  await engine.execute(kept, "k", { type: "Keep", data: { states: [before, after] } });
  const { changes } = await diff(engine, kept, "k", { from: { revision: 1 } });
  await engine.close();
  for (const { kind, path, ...values } of changes) {
    const at = (state) => path.reduce((value, key) => (value !== null && Object.hasOwn(value, key) ? value[key] : undefined), state);
    const expected = { added: { after: at(after) }, removed: { before: at(before) }, changed: { before: at(before), after: at(after) } };
    assert.deepEqual(values, expected[kind], path.join("."));
  }
  return changes.map(({ kind, path }) => `${path.join(".")}: ${kind}`);
}

test("the smallest parts that differ are told", async () => {
  const before = { a: 1, b: { c: [1, { d: 2 }, 3], e: null }, f: [1] };
  assert.deepEqual(await differing(before, structuredClone(before)), []);
  const after = { b: { c: [1, { d: 4 }], e: {} }, f: { 0: 1 }, g: [] };
  const expected = ["a: removed", "b.c.1.d: changed", "b.c.2: removed", "b.e: changed", "f: changed", "g: added"];
  assert.deepEqual(await differing(before, after), expected);
  assert.deepEqual(await differing(1, "1"), [": changed"]);
  assert.deepEqual(await differing([], [null]), ["0: added"]);
  assert.deepEqual(await differing({}, null), [": changed"]);
});

test("keys that objects inherit are keys like others", async () => {
  const keys = ["constructor", "toString", "hasOwnProperty", "__proto__"];
  const state = JSON.parse(`{${keys.map((key) => `"${key}":{"a":1}`)}}`);
  const sorted = (kind) => keys.map((key) => `${key}: ${kind}`).sort();
  assert.deepEqual((await differing({}, state)).sort(), sorted("added"));
  assert.deepEqual((await differing(state, {})).sort(), sorted("removed"));
  assert.deepEqual(await differing(state, structuredClone(state)), []);
});

test("an array of which more than a hundred items differ is one change", async () => {
  const numbers = (from, length) => ({ n: Array.from({ length }, (_, index) => from + index) });
  assert.equal((await differing(numbers(0, 500), numbers(0, 600))).length, 100);
  assert.equal((await differing(numbers(0, 600), numbers(0, 500))).length, 100);
  assert.deepEqual(await differing(numbers(0, 101), numbers(1, 101)), ["n: changed"]);
  // Parts of items don't count: these are 100 items.
  const pairs = (number) => Array.from({ length: 100 }, () => [number, number]);
  assert.equal((await differing(pairs(0), pairs(1))).length, 200);
});
