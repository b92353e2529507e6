// Views of a domain in Rust, in WebAssembly: events go in as rows, and documents come out as JSON.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { nativeProjection, projection } from "annals/projections";
import { Engine, nativeAggregate } from "annals/slim";
import { fails } from "../support/expect.mjs";
import * as glue from "./pkg/simulation.js";

const wasm = await readFile(new URL("./pkg/simulation_bg.wasm", import.meta.url));
const tally = nativeAggregate("Tally");
const count = { type: "Count", data: {} };

const open = (storage, projections, limits = {}) =>
  Engine.open({ module: { glue, wasm }, storage, aggregates: [tally], projections, limits });

const totals = (kind) => nativeProjection(`totals, ${kind}`);

/** Counts in turn, and gives the events. */
async function counted(engine, ids) {
  const events = [];
  for (const [index, id] of ids.entries()) {
    const options = { issuedAt: new Date(1_795_000_000_000 + index), ...(index % 2 === 1 && { actor: `reception 😀 ${index}` }) };
    events.push(...(await engine.execute(tally, id, count, options)).events);
  }
  return events;
}

/** What there is in a tally after its events, as the projection tells it. */
function totalOf(events, kind) {
  const last = events.at(-1);
  const position = Number(last.position.split(":").at(-1));
  return {
    sum: events.length,
    revision: last.revision,
    actor: last.actor,
    issuedAt: Date.parse(last.issuedAt),
    recorded: kind === "inline" ? null : [position, Date.parse(last.recordedAt)],
  };
}

const ids = ["t-1", "t-2", "t-1", "t-3", "t-1", "t-2"];

for (const kind of ["live", "inline", "async"]) {
  test(`${kind}: events come with all that is told of them, and documents are as they were written`, async () => {
    const storage = memoryStorage();
    const own = totals(kind);
    const engine = await open(storage, [own]);
    const events = await counted(engine, ids);
    const view = engine.view(own);
    // Another reads the log from its beginning, in small pages.
    const other = await open(storage, [own], { pageLimit: 2 });
    for (const view of [engine.view(own), other.view(own)]) {
      for (const id of new Set(ids)) {
        const expected = totalOf(events.filter(({ stream }) => stream.id === id), kind);
        assert.deepEqual(await view.get(id, { latest: true }), expected);
      }
      assert.deepEqual(await view.get("all"), totalOf(events, kind));
      assert.equal(await view.get("t-4"), undefined);
    }
    await other.close();
    assert.equal(Object.isFrozen(await view.get("all")), true);
    await engine.close();
  });

  test(`${kind}: documents are listed by key and by index, and counted`, async () => {
    const engine = await open(memoryStorage(), [totals(kind)]);
    await counted(engine, ids);
    const view = engine.view(totals(kind));
    const keys = async (options) => (await view.list({ latest: true, ...options })).documents.map(({ key }) => key);
    assert.deepEqual(await keys({ prefix: "t-" }), ["t-1", "t-2", "t-3"]);
    assert.deepEqual(await keys({ index: "sum" }), ["t-3", "t-2", "t-1", "all"]);
    assert.deepEqual(await keys({ index: "sum", descending: true, limit: 2 }), ["all", "t-1"]);
    // Numbers are ordered here as the module orders them.
    assert.deepEqual(await keys({ index: "sum", equals: 2 }), ["t-2"]);
    assert.deepEqual(await keys({ index: "sum", from: 2, to: 6 }), ["t-2", "t-1"]);
    assert.equal(await view.count(), 4);
    const { cursor } = await view.list({ index: "sum", limit: 2 });
    assert.deepEqual(await keys({ index: "sum", cursor }), ["t-1", "all"]);
    await fails(() => view.list({ index: "colour" }), { code: "unknown-index" });
    await engine.close();
  });

  test(`${kind}: the view is shown as it was`, async () => {
    const engine = await open(memoryStorage(), [totals(kind)], { pageLimit: 2 });
    const events = await counted(engine, ids);
    const view = engine.view(totals(kind));
    for (const [index, { position }] of events.entries()) {
      assert.deepEqual(await view.get("all", { at: { position } }), totalOf(events.slice(0, index + 1), kind));
    }
    const before = new Date(Date.parse(events[0].recordedAt) - 1);
    assert.equal(await view.count({ at: { time: before } }), 0);
    await engine.close();
  });
}

test("an inline view has taken a command in when its outcome comes, of commands given at once too", async () => {
  const own = totals("inline");
  const engine = await open(memoryStorage(), [own]);
  const view = engine.view(own);
  for (let sum = 1; sum < 4; sum += 1) {
    assert.deepEqual((await engine.execute(tally, "t-1", count)).behind, []);
    assert.equal((await view.get("all")).sum, sum);
  }
  await Promise.all(Array.from({ length: 64 }, (_, number) => engine.execute(tally, `t-${number % 8}`, count)));
  assert.equal((await view.get("all")).sum, 67);
  await engine.close();
});

test("an event that the crate does not take in stops the view before it, with its reason", async () => {
  const own = totals("inline");
  const engine = await open(memoryStorage(), [own]);
  await counted(engine, ["t-1"]);
  const { position, behind } = await engine.execute(tally, "bad", count);
  assert.deepEqual(behind, [{ projection: "totals, inline", reason: "it is not to be counted" }]);
  assert.deepEqual((await engine.view(own).status()).stopped, { position, reason: "it is not to be counted" });
  assert.equal((await engine.view(own).get("all")).sum, 1);
  await engine.close();
});

test("a module's projections and those written here are kept by one engine", async () => {
  const here = projection("streams", {
    version: 1,
    kind: "inline",
    on: { Counted: (view, { stream }) => view.update(stream.id, (sum = 0) => sum + 1) },
  });
  const engine = await open(memoryStorage(), [totals("async"), here]);
  await counted(engine, ids);
  assert.equal(await engine.view(here).get("t-1"), 3);
  assert.equal((await engine.view(totals("async")).get("t-1", { latest: true })).sum, 3);
  await engine.close();
});

test("a projection that the module does not define, and one that is defined twice, are refused by name", async () => {
  const missing = nativeProjection("colours");
  await fails(() => open(memoryStorage(), [missing]), { code: "unknown-projection", details: { projection: "colours" } });
  const name = "totals, async";
  const second = projection(name, { version: 1, on: { Counted() {} } });
  await fails(() => open(memoryStorage(), [second]), { code: "unknown-projection", details: { projection: name } });
});
