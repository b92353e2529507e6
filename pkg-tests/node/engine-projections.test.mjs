// Views: built from the log, kept beside it, and never short without saying so.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { projection } from "annals/projections";
import { fails } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const visit = aggregate("Visit", {
  initial: () => ({ events: 0 }),
  decide: (_, command) => [command],
  evolve: (state) => ({ events: state.events + 1 }),
});

/** Minutes and visits by doctor, and by visit who has it. */
function agenda({ version = 1, kind, times = 1, on = {}, indexes } = {}) {
  const take = (view, doctor, minutes, id) =>
    view.update(doctor, (day = { minutes: 0, visits: [] }) => ({
      minutes: day.minutes + minutes,
      visits: minutes > 0 ? [...day.visits, id] : day.visits.filter((other) => other !== id),
    }));
  return projection("agenda", {
    version,
    ...(kind && { kind }),
    indexes: indexes ?? { minutes: ({ minutes }) => minutes },
    on: {
      Booked(view, { data, stream }) {
        if (data.minutes === 13) throw new Error("bad luck");
        take(view, data.doctor, data.minutes * times, stream.id);
        view.set(`visit/${stream.id}`, { doctor: data.doctor, minutes: data.minutes * times });
      },
      Moved(view, { data, stream }) {
        const key = `visit/${stream.id}`;
        const { doctor, minutes } = view.get(key);
        take(view, doctor, -minutes, stream.id);
        if (view.get(doctor).visits.length === 0) view.delete(doctor);
        take(view, data.doctor, minutes, stream.id);
        view.set(key, { doctor: data.doctor, minutes });
      },
      ...on,
    },
  });
}

const book = (engine, id, doctor, minutes) => engine.execute(visit, id, { type: "Booked", data: { doctor, minutes } });
const move = (engine, id, doctor) => engine.execute(visit, id, { type: "Moved", data: { doctor } });
const note = (engine, id) => engine.execute(visit, id, { type: "Noted", data: {} });

const open = (place, ...projections) => place.open({ aggregates: [visit], projections });

async function all(view, options) {
  const documents = [];
  for (let cursor = null; ; ) {
    const page = await view.list({ ...options, cursor, limit: 2 });
    documents.push(...page.documents);
    if (page.cursor === null) return documents;
    cursor = page.cursor;
  }
}

const keys = async (view, options) => (await all(view, options)).map(({ key }) => key);

onEachStore("all kinds give the same documents", async (place) => {
  const writer = await open(place);
  for (let number = 0; number < 30; number += 1) {
    const id = `v-${number % 7}`;
    if (number < 7) await book(writer, id, `d-${number % 3}`, 20 + number);
    else await (number % 5 === 0 ? note(writer, id) : move(writer, id, `d-${number % 4}`));
  }
  const found = {};
  for (const kind of ["live", "inline", "async"]) {
    const own = agenda({ kind, version: { live: 1, inline: 1, async: 2 }[kind] });
    const engine = await place.open({ aggregates: [visit], projections: [own], limits: { pageLimit: 4 } });
    found[kind] = await all(engine.view(own), { latest: true });
    await engine.close();
  }
  assert.ok(found.live.length > 8);
  assert.deepEqual(found.inline, found.live);
  assert.deepEqual(found.async, found.live);
});

onEachStore("an inline view has taken a command in when its outcome comes", async (place) => {
  const own = agenda({ kind: "inline" });
  const engine = await open(place, own);
  for (let number = 1; number <= 5; number += 1) {
    const { behind } = await book(engine, `v-${number}`, "d-1", 10);
    assert.deepEqual(behind, []);
    assert.equal((await engine.view(own).get("d-1")).minutes, 10 * number);
  }
  const many = Array.from({ length: 64 }, (_, number) => book(engine, `m-${number}`, "d-2", 1));
  await Promise.all(many);
  assert.equal((await engine.view(own).get("d-2")).minutes, 64);
});

onEachStore("one reads one's own writes by their position", async (place) => {
  const own = agenda();
  const engine = await open(place, own);
  const other = await open(place);
  const view = engine.view(own);
  assert.equal(await view.get("d-1"), undefined);
  const { position } = await book(other, "v-1", "d-1", 10);
  await view.waitFor(position);
  assert.deepEqual(await view.get("d-1"), { minutes: 10, visits: ["v-1"] });
  await view.waitFor(null);
  const next = await book(engine, "v-2", "d-1", 5);
  assert.equal((await view.get("d-1", { after: next.position })).minutes, 15);
  assert.equal(Object.isFrozen((await view.get("d-1")).visits), true);
});

onEachStore("documents are listed by key, prefix and index, both ways, and counted", async (place) => {
  const own = agenda({ kind: "inline" });
  const engine = await open(place, own);
  for (const [id, minutes] of [["a", 20], ["b", 5], ["c", 100], ["d", 20]]) await book(engine, id, "d-1", minutes);
  const view = engine.view(own);
  assert.deepEqual(await keys(view, { prefix: "visit/" }), ["visit/a", "visit/b", "visit/c", "visit/d"]);
  assert.deepEqual(await keys(view, { from: "visit/b", to: "visit/d" }), ["visit/b", "visit/c"]);
  assert.deepEqual(await keys(view, { index: "minutes" }), ["visit/b", "visit/a", "visit/d", "visit/c", "d-1"]);
  assert.deepEqual(await keys(view, { index: "minutes", descending: true }), ["d-1", "visit/c", "visit/d", "visit/a", "visit/b"]);
  assert.deepEqual(await keys(view, { index: "minutes", equals: 20 }), ["visit/a", "visit/d"]);
  assert.deepEqual(await keys(view, { index: "minutes", from: 6, to: 145 }), ["visit/a", "visit/d", "visit/c"]);
  assert.equal(await view.count({ index: "minutes", equals: 20 }), 2);
  assert.equal(await view.count(), 5);
  await move(engine, "c", "d-2");
  assert.deepEqual(await keys(view, { index: "minutes", from: 45 }), ["d-1", "d-2", "visit/c"]);
});

onEachStore("values of an index are ordered as they are", async (place) => {
  const own = projection("values", {
    version: 1,
    kind: "inline",
    on: { Booked: (view, { data, stream }) => view.set(stream.id, data.doctor) },
    indexes: { value: (value) => value },
  });
  const engine = await open(place, own);
  const sorted = [false, true, -1e300, -2, -1.5, 0, 1e-300, 1, 2, 10, 1e300, "", "10", "2", "a", "é", "\uffff", "😀"];
  const shuffled = sorted.map((_, index) => sorted[(index * 7) % sorted.length]);
  for (const value of shuffled) await book(engine, `v-${JSON.stringify(value)}`, value, 1);
  const found = await all(engine.view(own), { index: "value" });
  assert.deepEqual(found.map(({ document }) => document), sorted);
  assert.deepEqual((await all(engine.view(own), { index: "value", prefix: "1" })).map(({ document }) => document), ["10"]);
});

onEachStore("a document may be found under several values, or none, and under each once", async (place) => {
  const indexes = { visit: ({ visits }) => visits && [...visits, ...visits] };
  const own = agenda({ kind: "inline", indexes });
  const engine = await open(place, own);
  await book(engine, "v-1", "d-1", 10);
  await book(engine, "v-2", "d-1", 10);
  const view = engine.view(own);
  assert.deepEqual(await keys(view, { index: "visit" }), ["d-1", "d-1"]);
  assert.deepEqual(await keys(view, { index: "visit", equals: "v-2" }), ["d-1"]);
});

onEachStore("an event that can't be taken in stops the view before it, and says so", async (place) => {
  const own = agenda({ kind: "inline" });
  const engine = await open(place, own);
  await book(engine, "v-1", "d-1", 10);
  const bad = await book(engine, "v-2", "d-1", 13);
  assert.deepEqual(bad.behind, [{ projection: "agenda", reason: "Booked: bad luck" }]);
  await book(engine, "v-3", "d-1", 10);
  const view = engine.view(own);
  assert.equal((await view.get("d-1")).minutes, 10);
  const { stopped } = await view.status();
  assert.deepEqual(stopped, { position: bad.position, reason: "Booked: bad luck" });
  const error = await fails(() => view.waitFor(bad.position), { code: "projection-stopped" });
  assert.deepEqual(error.details, { projection: "agenda", reason: "Booked: bad luck", position: bad.position });
  await engine.close();

  // The rest goes on when the release is repaired.
  const repaired = agenda({ kind: "inline", on: { Booked: (view, { data }) => view.update(data.doctor, (day) => ({ ...day, minutes: day.minutes + 1 })) } });
  const again = await open(place, repaired);
  assert.equal((await again.view(repaired).get("d-1", { latest: true })).minutes, 12);
});

onEachStore("a document that can't be kept stops the view before the event that has written it", async (place) => {
  const own = agenda({ indexes: { odd: ({ minutes }) => (minutes > 20 ? {} : undefined) } });
  const writer = await open(place);
  const outcomes = [];
  for (const minutes of [10, 20, 30]) outcomes.push(await book(writer, `v-${minutes}`, `d-${minutes}`, minutes));
  const engine = await open(place, own);
  await fails(() => engine.view(own).get("d-10", { latest: true }), { code: "projection-stopped" });
  const { stopped } = await engine.view(own).status();
  assert.equal(stopped.position, outcomes[2].position);
  assert.match(stopped.reason, /^document \S*30: index odd/);
});

onEachStore("what a function must not do stops the view", async (place) => {
  const failing = [
    [async () => undefined, /found a promise/],
    [(view) => view.set("d-1", { at: new Date(0) }), /document d-1/],
    [(view) => view.set("d-1", undefined), /found undefined/],
    [(view) => view.set(7, {}), /expected a string of whole characters as key/],
    [(view) => view.update("visit/v-1", (document) => Object.assign(document, { minutes: 0 })), /read only|not extensible|Cannot assign/],
    [(view, { data }) => view.set("d-2", { minutes: data.minutes, odd: true }), /index odd/, { odd: ({ odd }) => (odd ? {} : undefined) }],
  ];
  for (const [index, [handler, reason, indexes]] of failing.entries()) {
    const own = agenda({ version: index + 1, on: { Moved: handler }, indexes });
    const engine = await open(place, own);
    if (index === 0) {
      await book(engine, "v-1", "d-1", 10);
      await move(engine, "v-1", "d-2");
    }
    const error = await fails(() => engine.view(own).get("d-1", { latest: true }), { code: "projection-stopped" });
    assert.match(error.message, reason);
    await engine.close();
  }
});

onEachStore("a new version is built beside the old one, which is shown until then", async (place) => {
  const old = agenda();
  const first = await open(place, old);
  for (let number = 0; number < 10; number += 1) await book(first, `v-${number}`, "d-1", 10);
  assert.equal((await first.view(old).get("d-1", { latest: true })).minutes, 100);

  const next = agenda({ version: 2, times: 2 });
  const second = await place.open({ aggregates: [visit], projections: [next], limits: { pageLimit: 1 } });
  const view = second.view(next);
  view.pause();
  const { version, building, paused, progress } = await view.status();
  assert.deepEqual([version, building, paused, progress < 1], [1, true, true, true]);
  assert.equal((await view.get("d-1")).minutes, 100);
  view.resume();
  assert.equal((await view.get("d-1", { latest: true })).minutes, 200);
  const built = await view.status();
  assert.deepEqual([built.version, built.building, built.progress], [2, false, 1]);

  await book(first, "v-10", "d-1", 10);
  assert.equal((await first.view(old).get("d-1", { latest: true })).minutes, 110);
});

onEachStore("two engines keep one view, and take each event in once", async (place) => {
  const own = agenda({ kind: "inline" });
  const engines = [await open(place, own), await open(place, own), await open(place, own)];
  await Promise.all(
    Array.from({ length: 60 }, (_, number) => book(engines[number % 3], `v-${number}`, `d-${number % 2}`, 1)),
  );
  for (const engine of engines) {
    const view = engine.view(own);
    const days = [await view.get("d-0", { latest: true }), await view.get("d-1", { latest: true })];
    assert.deepEqual(days.map(({ minutes, visits }) => [minutes, new Set(visits).size]), [[30, 30], [30, 30]]);
  }
});

onEachStore("views are shown as they were at a position or a time", async (place) => {
  for (const kind of ["live", "async"]) {
    const own = agenda({ kind });
    const engine = await open(place, own);
    const id = (number) => `${kind}-${number}`;
    const outcomes = [];
    for (let number = 0; number < 5; number += 1) outcomes.push(await book(engine, id(number), kind, 10));
    const view = engine.view(own);
    for (const [index, { position }] of outcomes.entries()) {
      assert.equal((await view.get(kind, { at: { position } })).minutes, 10 * (index + 1));
    }
    const [{ recordedAt }] = outcomes[0].events;
    const before = new Date(Date.parse(recordedAt) - 1);
    assert.equal(await view.get(kind, { at: { time: before } }), undefined);
    assert.equal((await view.get(kind, { at: { time: "2100-01-01" } })).minutes, 50);
    const [epoch, number] = outcomes[4].position.split(":");
    const later = `${epoch}:${Number(number) + 1}`;
    await fails(() => view.get(kind, { at: { position: later } }), { code: "no-such-position" });
    assert.equal(await view.count({ prefix: kind, at: { position: outcomes[2].position } }), 1);
    await engine.close();
  }
});

onEachStore("a query is watched: what it gives now, and whenever it gives something else", async (place) => {
  for (const kind of ["live", "inline"]) {
    const own = agenda({ kind, version: kind === "live" ? 1 : 2 });
    const engine = await open(place, own);
    const shown = [];
    const watching = (async () => {
      for await (const day of engine.view(own).watch((view) => view.get(kind))) {
        shown.push(day?.minutes ?? null);
        if (shown.length === 4) return;
      }
    })();
    for (let number = 1; number < 4; number += 1) {
      while (shown.length < number) await new Promise((resolve) => setTimeout(resolve, 1));
      await book(engine, `${kind}-other-${number}`, "another", 1);
      await book(engine, `${kind}-${number}`, kind, 10);
    }
    await watching;
    assert.deepEqual(shown, [null, 10, 20, 30]);
    await engine.close();
  }
});

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
    [undefined, /version/],
  ]) {
    const error = await fails(() => projection("agenda", definition), { code: "invalid-argument" });
    assert.match(error.message, message);
    assert.match(error.message, /agenda/);
  }
  const own = agenda();
  const opening = (projections) => Engine.open({ storage: memoryStorage(), aggregates: [visit], projections });
  await fails(() => opening([own, agenda()]), { code: "api-misuse" });
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
