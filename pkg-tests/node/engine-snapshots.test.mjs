// Snapshots: they shorten replay, and change nothing else.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { fails, until } from "../support/expect.mjs";
import { embeddedStores, onEachStore } from "../support/engine-stores.mjs";

/** Counts how often events are folded. */
function counter(snapshots, evolve = (state) => ({ sum: state.sum + 1 })) {
  const folded = { events: 0 };
  const definition = aggregate("Counter", {
    initial: () => ({ sum: 0 }),
    decide: () => [{ type: "Counted", data: {} }],
    evolve: { Counted: (state, event) => ((folded.events += 1), evolve(state, event)) },
    ...(snapshots && { snapshots }),
  });
  return Object.assign({ folded }, { definition });
}

const count = { type: "Count", data: {} };

const nameOf = (...parts) => ({ collection: "snapshots", key: JSON.stringify(parts) });

/** The snapshot that the store has under a name. */
async function stored(storage, name = nameOf("Counter", "c-1", "json2/1")) {
  const { epoch } = await storage.open();
  return (await storage.readDocuments({ epoch, names: [name], scans: [] })).documents[0];
}

async function store(storage, revision, value, name) {
  const { epoch } = await storage.open();
  await storage.saveDocuments({ epoch, expected: [], clear: [], documents: [{ ...name, revision, value, postings: [] }] });
}

async function counted(place, { definition }, times, { id = "c-1" } = {}) {
  const engine = await place.open({ aggregates: [definition] });
  for (let time = 0; time < times; time += 1) await engine.execute(definition, id, count);
  await engine.close();
}

/** The state as an engine reads it that has nothing at hand, and the events it folds for it. */
async function cold(place, counter, { id = "c-1" } = {}) {
  const reports = [];
  const engine = await place.open({ aggregates: [counter.definition], onReport: (report) => reports.push(report) });
  counter.folded.events = 0;
  const { state, revision } = await engine.state(counter.definition, id);
  assert.equal(state.sum, revision);
  assert.equal(Object.isFrozen(state), true);
  const folded = counter.folded.events;
  await engine.close();
  return { revision, folded, reports };
}

onEachStore("a state comes from the newest snapshot and the events after it", async (place) => {
  await counted(place, counter({ version: 1, every: 10 }), 25);
  assert.deepEqual(await cold(place, counter({ version: 1, every: 10 })), { revision: 25, folded: 5, reports: [] });
  assert.equal((await cold(place, counter())).folded, 25, "without snapshots");
  assert.equal((await cold(place, counter({ version: 2 }))).folded, 25, "another version's are not used");
});

onEachStore("it makes no difference to snapshots how types of one version are named", async (place) => {
  await counted(place, counter(), 3);
  let folded = 0;
  const evolve = ({ sum }) => ((folded += 1), { sum: sum + 1 });
  const events = { Counted: [] };
  for (const [expected, types] of [
    [3, { evolve: { Counted: evolve } }],
    [0, { evolve, events }],
    [0, { evolve: { Counted: evolve }, events }],
  ]) {
    const definition = aggregate("Counter", { initial: () => ({ sum: 0 }), decide: () => [], snapshots: { version: 1 }, ...types });
    const engine = await place.open({ aggregates: [definition] });
    folded = 0;
    await engine.snapshot(definition, "c-1");
    assert.equal(folded, expected);
    await engine.close();
  }
});

onEachStore("commands are decided on a snapshot and the events after it", async (place) => {
  await counted(place, counter({ version: 1, every: 10 }), 12);
  const later = counter({ version: 1, every: 10 });
  const engine = await place.open({ aggregates: [later.definition] });
  const { state, revision } = await engine.execute(later.definition, "c-1", count);
  assert.deepEqual([state.sum, revision, later.folded.events], [13, 13, 3]);
});

onEachStore("a long replay leaves a snapshot", async (place) => {
  const policy = { version: 1, afterReplayOf: 20 };
  await counted(place, counter(policy), 25);
  const replaying = counter(policy);
  const engine = await place.open({ aggregates: [replaying.definition], limits: { pageLimit: 10 } });
  await engine.state(replaying.definition, "c-1");
  assert.equal(replaying.folded.events, 25);
  // Nobody waits for it, so where the store answers later it comes later.
  const storage = place.storage();
  await until(async () => (await stored(storage)) !== null);
  assert.equal((await stored(storage)).revision, 25);
  assert.equal((await cold(place, counter(policy))).folded, 0);
});

onEachStore("a snapshot can be asked for", async (place) => {
  const asked = counter({ version: 1 });
  await counted(place, asked, 5);
  const engine = await place.open({ aggregates: [asked.definition] });
  assert.deepEqual(await engine.snapshot(asked.definition, "c-1"), { revision: 5 });
  assert.deepEqual(await engine.snapshot(asked.definition, "nobody"), { revision: 0 });
  assert.equal((await cold(place, asked)).folded, 0);
});

/** Keeps a snapshot of three events, and gives what the store has of it. */
async function kept(place, storage, id, version = 1) {
  const { definition } = counter({ version });
  const engine = await place.open({ aggregates: [definition] });
  while ((await engine.state(definition, id)).revision < 3) await engine.execute(definition, id, count);
  await engine.snapshot(definition, id);
  await engine.close();
  return (await stored(storage, nameOf("Counter", id, `json2/${version}`))).value;
}

/** What a snapshot of three of five events becomes is reported once, ignored and replaced. */
async function isNoState(place, damages) {
  const storage = place.storage();
  const neighbour = await kept(place, storage, "c-0");
  for (const [what, damage] of damages) {
    const id = `c ${what}`;
    const name = nameOf("Counter", id, "json2/1");
    const [value, second] = [await kept(place, storage, id), await kept(place, storage, id, 2)];
    assert.deepEqual(JSON.parse(value).state, { sum: 3 });
    await counted(place, counter({ version: 1 }), 2, { id });
    const [damaged, revision = 3] = damage(value, { neighbour, second });
    assert.notDeepEqual([damaged, revision], [value, 3]);
    await store(storage, revision, damaged, name);
    const { folded, reports } = await cold(place, counter({ version: 1 }), { id });
    assert.equal(folded, 5, what);
    const [{ reason, ...report }, ...others] = reports;
    assert.deepEqual([report, others], [{ kind: "snapshot-ignored", stream: { type: "Counter", id }, revision }, []], what);
    assert.match(reason, /digest|revision/);
    await until(async () => (await stored(storage, name)).revision === 5);
    assert.deepEqual(await cold(place, counter({ version: 1 }), { id }), { revision: 5, folded: 0, reports: [] }, what);
  }
}

onEachStore("a snapshot that could be a state, and is not the one that was kept, is reported, ignored and replaced", (place) =>
  isNoState(place, [
    ["with another bit", (value) => [value.replace('"sum":3', '"sum":2')]],
    ["with another digest", (value) => [value.replace(/\d(?=,)/, (digit) => digit ^ 1)]],
    ["with a space", (value) => [value.replace('"sum"', ' "sum"')]],
    ["of another stream", (_, { neighbour }) => [neighbour]],
    ["of another version", (_, { second }) => [second]],
    ["under an earlier revision", (value) => [value, 2]],
    ["under a later revision", (value) => [value, 4]],
    ["under a revision that has not come", (value) => [value, 6]],
    ["as earlier releases kept them", () => ['{"sum":3}']],
    ["of another form", () => ["[]"]],
  ]));

onEachStore("a snapshot that is not JSON is reported, ignored and replaced", (place) =>
  isNoState(place, [
    ["without its end", (value) => [value.slice(0, -1)]],
    ["cut in two", (value) => [value.slice(0, value.length / 2)]],
    ["empty", () => [""]],
  ]), embeddedStores);

test("a snapshot says its state and a digest of its key, its revision and the state", async () => {
  const vectors = JSON.parse(await readFile(new URL("../vectors/snapshots.json", import.meta.url), "utf8"));
  for (const { stream: [type, id], version, revision, state, value } of vectors) {
    const name = nameOf(type, id, `json2/${version}`);
    let folded = 0;
    const definition = aggregate(type, {
      initial: () => null,
      decide: () => [{ type: "Counted", data: {} }],
      evolve: { Counted: () => ((folded += 1), JSON.parse(state)) },
      snapshots: { version },
    });
    const storage = memoryStorage();
    const first = await Engine.open({ storage, aggregates: [definition] });
    for (let time = 0; time < revision; time += 1) await first.execute(definition, id, count);
    await first.snapshot(definition, id);
    assert.deepEqual(await stored(storage, name), { revision, value });
    await first.close();
    folded = 0;
    const second = await Engine.open({ storage, aggregates: [definition] });
    assert.deepEqual(await second.state(definition, id), { state: JSON.parse(state), revision });
    assert.equal(folded, 0);
    await second.close();
  }
});

onEachStore("histories have all events, and past states don't come from a later snapshot", async (place) => {
  const some = counter({ version: 1, every: 2 });
  await counted(place, some, 6);
  const engine = await place.open({ aggregates: [some.definition] });
  assert.equal((await engine.history(some.definition, "c-1")).events.length, 6);
  assert.deepEqual(await engine.state(some.definition, "c-1", { at: { revision: 3 } }), { state: { sum: 3 }, revision: 3 });
});

for (const [what, state, place] of [
  ["a member that is undefined", () => ({ sum: 1, note: undefined }), "state.note"],
  ["a negative zero", () => ({ sum: 1, at: { zero: [-0] } }), "state.at.zero.0"],
  ["a date in a frozen object", () => Object.freeze({ sum: 1, at: new Date(0) }), "state.at"],
  ["a map in a frozen object", () => Object.freeze({ sum: 1, all: new Map() }), "state.all"],
]) {
  test(`a state with ${what} is found at the first snapshot, and named`, async () => {
    const odd = counter({ version: 1, every: 1 }, state);
    const reports = [];
    const engine = await Engine.open({ storage: memoryStorage(), aggregates: [odd.definition], onReport: (report) => reports.push(report) });
    const { revision } = await engine.execute(odd.definition, "c-1", count);
    assert.equal(revision, 1, "the command is not the worse for it");
    const stream = { type: "Counter", id: "c-1" };
    const error = await fails(() => engine.snapshot(odd.definition, "c-1"), { code: "state-not-json", details: { stream } });
    assert.match(error.message, new RegExp(`${place} `));
    assert.deepEqual(reports.map(({ kind, stream }) => ({ kind, stream })), [{ kind: "snapshot-not-json", stream }]);
    await engine.close();
  });
}

test("an aggregate without snapshots has none to be asked for", async () => {
  const { definition } = counter();
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [definition] });
  await fails(() => engine.snapshot(definition, "c-1"), { code: "no-snapshots", details: { type: "Counter" } });
  await fails(() => engine.snapshot(counter().definition, "c-1"), { code: "unknown-aggregate" });
  await engine.close();
});

test("a store that can't keep snapshots is reported, and everything else goes on", async () => {
  const storage = memoryStorage();
  storage.saveDocuments = () => {
    throw new Error("no room");
  };
  const some = counter({ version: 1, every: 1 });
  const reports = [];
  const engine = await Engine.open({ storage, aggregates: [some.definition], onReport: (report) => reports.push(report) });
  await engine.execute(some.definition, "c-1", count);
  await engine.execute(some.definition, "c-1", count);
  await fails(() => engine.snapshot(some.definition, "c-1"), { code: "storage-failed" });
  assert.deepEqual([...new Set(reports.map(({ kind, reason }) => `${kind}: ${reason}`))], ["snapshot-not-stored: storage-failed: no room"]);
  await engine.close();
});

test("a policy must be of whole numbers, and have a version", () => {
  for (const policy of [{}, { version: 0 }, { version: 1.5 }, { version: "1" }, { version: 1, every: 0 }, { version: 1, afterReplayOf: -1 }]) {
    assert.throws(() => counter(policy), { code: "invalid-argument" }, JSON.stringify(policy));
  }
});
