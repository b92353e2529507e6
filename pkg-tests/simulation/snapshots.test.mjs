// Snapshots of a domain in Rust, in WebAssembly: they are written and read there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { Engine, nativeAggregate } from "annals/slim";
import * as glue from "./pkg/simulation.js";

const wasm = await readFile(new URL("./pkg/simulation_bg.wasm", import.meta.url));
const tally = nativeAggregate("Tally");
const count = { type: "Count", data: {} };
const key = '["Tally","t-1","json2/1"]';
const vectors = JSON.parse(await readFile(new URL("../vectors/snapshots.json", import.meta.url), "utf8"));

/** The document that the vectors have for a state. */
function snapshot(revision, state) {
  const isIt = (vector) => vector.revision === revision && vector.state === state;
  return { collection: "snapshots", key, revision, value: vectors.find(isIt).value, postings: [] };
}

async function open(storage) {
  const reports = [];
  const module = { glue, wasm };
  const onReport = (report) => reports.push(report);
  return { engine: await Engine.open({ module, storage, aggregates: [tally], onReport }), reports };
}

/** A store on which so many have been counted, and what it is asked to load and to save. */
async function counted(times) {
  const storage = memoryStorage();
  const asked = { saved: [], after: [] };
  const { saveDocuments, load } = storage;
  storage.saveDocuments = (request) => {
    asked.saved.push(...request.documents);
    return saveDocuments.call(storage, request);
  };
  storage.load = (request) => {
    const loaded = load.call(storage, request);
    asked.after.push(...loaded.streams.map(({ snapshot }) => snapshot?.revision ?? null));
    return loaded;
  };
  const { engine } = await open(storage);
  for (let time = 0; time < times; time += 1) await engine.execute(tally, "t-1", count);
  await engine.close();
  asked.after = [];
  return { storage, asked };
}

test("the policy of the crate is kept, and a cold state starts at the snapshot", async () => {
  const { storage, asked } = await counted(7);
  assert.deepEqual(asked.saved, [3, 6].map((sum) => snapshot(sum, `{"sum":${sum}}`)));
  const { engine, reports } = await open(storage);
  assert.deepEqual(await engine.state(tally, "t-1"), { state: { sum: 7 }, revision: 7 });
  assert.deepEqual([asked.after, reports], [[6], []]);
  assert.deepEqual(await engine.snapshot(tally, "t-1"), { revision: 7 });
  assert.deepEqual(asked.saved.at(-1), snapshot(7, '{"sum":7}'));
  await engine.close();
});

/** What is told of a snapshot that is no state. */
async function ignored(document) {
  const { storage, asked } = await counted(4);
  const { epoch } = await storage.open();
  await storage.saveDocuments({ epoch, expected: [], clear: [], documents: [document] });
  const { engine, reports } = await open(storage);
  assert.deepEqual(await engine.state(tally, "t-1"), { state: { sum: 4 }, revision: 4 });
  const [{ reason, ...report }, ...others] = reports;
  assert.deepEqual([report, others], [{ kind: "snapshot-ignored", stream: { type: "Tally", id: "t-1" }, revision: 3 }, []]);
  assert.deepEqual([asked.after, asked.saved.at(-1).revision], [[3, null], 4]);
  await engine.close();
  return reason;
}

test("a snapshot that the crate can't read is reported, ignored and replaced", async () => {
  assert.match(await ignored(snapshot(3, '{"total":3}')), /sum/);
});

test("a snapshot that is not the state that was kept is reported, ignored and replaced", async () => {
  const { value } = snapshot(3, '{"sum":3}');
  for (const damaged of [value.replace('"sum":3', '"sum":2'), snapshot(6, '{"sum":6}').value, value.slice(0, -1)]) {
    assert.match(await ignored({ ...snapshot(3, '{"sum":3}'), value: damaged }), /digest/);
  }
});
