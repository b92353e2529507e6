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
const key = '["Tally","t-1","json/1"]';
const snapshot = (revision, value) => ({ collection: "snapshots", key, revision, value, postings: [] });

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

test("a snapshot that the crate can't read is reported, ignored and replaced", async () => {
  const { storage, asked } = await counted(4);
  const { epoch } = await storage.open();
  await storage.saveDocuments({ epoch, expected: [], clear: [], documents: [snapshot(3, '{"total":3}')] });
  const { engine, reports } = await open(storage);
  assert.deepEqual(await engine.state(tally, "t-1"), { state: { sum: 4 }, revision: 4 });
  const { reason, ...report } = reports[0];
  assert.deepEqual(report, { kind: "snapshot-ignored", stream: { type: "Tally", id: "t-1" }, revision: 3 });
  assert.match(reason, /sum/);
  assert.deepEqual([asked.after, asked.saved.at(-1).revision], [[3, null], 4]);
  await engine.close();
});
