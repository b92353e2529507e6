// Views: built from the log, kept beside it, and never short without saying so.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { projection } from "annals/projections";
import { fails } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";
import { agenda, book, projectionRules, visit } from "../support/projection-rules.mjs";
import { fill, skipping } from "../support/upcasting.mjs";

for (const { name, run } of projectionRules) onEachStore(name, run);

test("a watch ends with its loop, with its signal, and with its engine", { timeout: 10_000 }, async () => {
  const own = agenda();
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], projections: [own] });
  const view = engine.view(own);
  const aborting = new AbortController();
  const iterator = view.watch((asked) => asked.get("d-1"), { signal: aborting.signal });
  assert.deepEqual(await iterator.next(), { done: false, value: undefined });
  const next = iterator.next();
  aborting.abort();
  await fails(() => next, { code: "cancelled" });
  const other = view.watch((asked) => asked.get("d-1"));
  await other.next();
  const waiting = other.next();
  await engine.close();
  await fails(() => waiting, { code: "engine-closed" });
});

test("a signal is let go of when there is nothing more to tell it", async () => {
  const own = agenda({ kind: "inline" });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], projections: [own] });
  const { signal } = new AbortController();
  const watching = engine.view(own).watch((view) => view.get("d-1"), { signal });
  for (let number = 0; number < 15; number += 1) {
    await watching.next();
    await book(engine, `v-${number}`, "d-1", 1);
  }
  assert.equal(getEventListeners(signal, "abort").length, 1);
  await watching.return();
  assert.equal(getEventListeners(signal, "abort").length, 0);
  await fails(() => engine.view(own).watch((view) => view.get("d-1"), { signal: AbortSignal.abort() }).next(), { code: "cancelled" });
  await engine.close();
});

test("a question that is given up, and an engine that is closed, are told as such", async () => {
  const own = agenda();
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], projections: [own] });
  const { position } = await book(engine, "v-1", "d-1", 10);
  const view = engine.view(own);
  await view.waitFor(position);
  const [epoch, number] = position.split(":");
  const later = `${epoch}:${Number(number) + 1}`;
  const aborting = new AbortController();
  const waiting = view.waitFor(later, { signal: aborting.signal });
  aborting.abort();
  await fails(() => waiting, { code: "cancelled" });
  const waitingStill = view.waitFor(later);
  await engine.close();
  await fails(() => waitingStill, { code: "cancelled" });
  await fails(() => view.get("d-1"), { code: "engine-closed" });
});

test("what can't be a projection or a question is refused by name", async () => {
  for (const [definition, message] of [
    [{ on: { Booked() {} } }, /version/],
    [{ version: 1.5, on: { Booked() {} } }, /version/],
    [{ version: 1 }, /functions/],
    [{ version: 1, on: { Booked: true } }, /functions/],
    [{ version: 1, on: {} }, /functions/],
    [{ version: 1, kind: "sync", on: { Booked() {} } }, /kind, found sync/],
    [{ version: 1, on: { Booked() {} }, unknownEvents: "fail" }, /unknownEvents together with aggregates/],
    [{ version: 1, on: { Booked() {} }, aggregates: [skipping] }, /unknownEvents together with aggregates/],
    [{ version: 1, on: { Booked() {} }, aggregates: [], unknownEvents: "skip" }, /unknownEvents together with aggregates/],
    [{ version: 1, on: { Booked() {} }, aggregates: [skipping, {}], unknownEvents: "skip" }, /unknownEvents together with aggregates/],
    [{ version: 1, on: { Booked() {} }, aggregates: skipping, unknownEvents: "skip" }, /unknownEvents together with aggregates/],
    [{ version: 1, on: { Booked() {} }, aggregates: [skipping], unknownEvents: "ignore" }, /fail or skip as unknownEvents, found ignore/],
    [undefined, /version/],
  ]) {
    const error = await fails(() => projection("agenda", definition), { code: "invalid-argument" });
    assert.match(error.message, message);
    assert.match(error.message, /agenda/);
  }
  const own = agenda();
  const opening = (projections) => Engine.open({ storage: memoryStorage(), aggregates: [visit], projections });
  await fails(() => opening([own, agenda()]), { code: "api-misuse" });
  const foreign = projection("foreign", { version: 1, on: { Booked() {} }, aggregates: [skipping], unknownEvents: "fail" });
  await fails(() => opening([foreign]), { code: "unknown-aggregate", details: { type: "Appointment" } });
  const engine = await opening([own]);
  const view = engine.view(own);
  await fails(() => view.list({ index: "colour" }), { code: "unknown-index", details: { projection: "agenda", index: "colour" } });
  await fails(() => view.list({ limit: 0 }), { code: "invalid-argument" });
  await fails(() => view.list({ cursor: "x" }), { code: "invalid-argument" });
  await fails(() => view.list({ index: "minutes", equals: {} }), { code: "invalid-argument" });
  await fails(() => view.list({ index: "minutes", equals: null }), { code: "invalid-argument" });
  await fails(() => view.list({ from: null }), { code: "invalid-argument" });
  await fails(() => view.get(7), { code: "invalid-argument" });
  await fails(() => view.get("d-1", { after: "elsewhere:1" }), { code: "foreign-position" });
  await fails(async () => engine.view({}), { code: "invalid-argument" });
  const strange = agenda();
  const other = projection("another", { version: 1, on: { Booked() {} } });
  await fails(() => engine.view(other).get("d-1"), { code: "unknown-projection", details: { projection: "another" } });
  assert.equal(await engine.view(strange).get("d-1"), undefined);
  await engine.close();
});

test("a view says why it is behind while its store is full, and catches up", async () => {
  const storage = memoryStorage();
  const own = agenda({ kind: "inline" });
  const { saveDocuments } = storage;
  let refusals = 0;
  storage.saveDocuments = (request) => {
    if (refusals === 0) return saveDocuments.call(storage, request);
    refusals -= 1;
    throw Object.assign(new Error("the disk is full"), { name: "StorageFailure", code: "storage-full", retryable: false, mayBeApplied: false });
  };
  const engine = await Engine.open({ storage, aggregates: [visit], projections: [own] });
  await book(engine, "v-1", "d-1", 10);
  refusals = 1;
  const { behind } = await book(engine, "v-2", "d-1", 10);
  assert.deepEqual(behind, [{ projection: "agenda", reason: "storage-full: the disk is full" }]);
  assert.equal((await engine.view(own).get("d-1", { latest: true })).minutes, 20);
  await engine.close();
});

test("an event that is passed by is reported once, though its page is taken in again with documents", async () => {
  const storage = memoryStorage();
  await fill(storage, "a-1", [{ type: "Tagged", version: 1, data: "{}" }, { type: "Confirmed", version: 1, data: "{}" }]);
  const count = (view) => view.update("count", (count = 0) => count + 1);
  const own = projection("counts", { version: 1, on: { Tagged: count, Confirmed: count } });
  const reports = [];
  const onReport = ({ kind, type }) => reports.push([kind, type]);
  const engine = await Engine.open({ storage, aggregates: [skipping], projections: [own], onReport });
  assert.equal(await engine.view(own).get("count", { latest: true }), 1);
  assert.deepEqual(reports, [["events-skipped", "Tagged"]]);
  await engine.close();
});

test("a rebuild lets others go first, on a store that answers at once", async () => {
  const storage = memoryStorage();
  const writer = await Engine.open({ storage, aggregates: [visit] });
  const many = Array.from({ length: 3_000 }, (_, number) => book(writer, `v-${number}`, `d-${number % 100}`, 1));
  await Promise.all(many);
  const own = agenda();
  const engine = await Engine.open({ storage, aggregates: [visit], projections: [own], limits: { pageLimit: 50 } });
  const { version } = await engine.view(own).status();
  assert.equal(version, 0, "it is not built before anybody else may do something");
  assert.equal(await engine.view(own).count({ prefix: "d-", latest: true }), 100);
  await engine.close();
  await writer.close();
});
