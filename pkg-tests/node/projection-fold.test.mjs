// A projection folded in memory: events in, documents out, as its view would have them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnnalsError, Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { fold, nativeProjection, projection } from "annals/projections";
import { logOf } from "../support/clinic.mjs";
import { agenda, book, visit } from "../support/projection-rules.mjs";

/** What the action throws. */
function thrown(action, code, message) {
  try {
    action();
  } catch (error) {
    assert.ok(AnnalsError.is(error, code), error);
    assert.match(error.message, message);
    return error;
  }
  return assert.fail("expected a failure");
}

/** An event as an engine gives it. */
const event = (type, data, rest = {}) => ({
  type,
  data,
  stream: { type: "Visit", id: "v-1" },
  revision: 1,
  issuedAt: "2026-11-23T08:00:00.000Z",
  actor: null,
  ...rest,
});
const logged = (number) => ({ position: `epoch:${number}`, recordedAt: "2026-11-23T08:00:01.000Z" });
const booked = (doctor, minutes, id = "v-1") =>
  event("Booked", { doctor, minutes }, { stream: { type: "Visit", id }, ...logged(1) });

const ranges = [
  {},
  { descending: true },
  { prefix: "visit/" },
  { prefix: "visit/é" },
  { prefix: "visit/\uffff" },
  { prefix: "visit/\u{10ffff}" },
  { prefix: "" },
  { equals: "d-1" },
  { equals: "d" },
  { from: "d-1", to: "visit/é" },
  { from: "visit/", descending: true },
  { to: "visit/" },
  { from: "z", to: "a" },
  { index: "minutes" },
  { index: "minutes", equals: 20 },
  { index: "minutes", from: 20, to: 60 },
  { index: "minutes", from: 20.5, descending: true },
  { index: "doctor" },
  { index: "doctor", prefix: "d" },
  { index: "doctor", equals: "d-2" },
  { index: "doctor", from: "d-1", to: "d-2" },
];

for (const kind of ["live", "inline", "async"]) {
  test(`what is folded in memory is the ${kind} view`, async () => {
    const indexes = {
      minutes: ({ minutes }) => minutes,
      doctor: ({ doctor, visits }) => doctor ?? visits.map((id) => `d-${id.length}`),
    };
    const own = agenda({ kind, indexes });
    const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], projections: [own] });
    for (let number = 0; number < 40; number += 1) {
      const id = ["a", "é", "\uffff", "😀", "\u{10ffff}"][number % 5] + (number % 7);
      const moves = number >= 20 && number % 3 > 0;
      const data = moves ? { doctor: `d-${number % 4}` } : { doctor: `d-${number % 3}`, minutes: 10 + (number % 4) * 10 };
      const type = number % 9 === 0 ? "Noted" : moves ? "Moved" : "Booked";
      await engine.execute(visit, type === "Moved" ? ["a1", "é1", "\uffff2"][number % 3] : id, { type, data });
    }
    const folded = fold(own, await logOf(engine));
    const view = engine.view(own);
    assert.ok(folded.count() > 20);
    for (const range of ranges) {
      const all = await view.list({ ...range, latest: true });
      assert.deepEqual(folded.list(range), all, JSON.stringify(range));
      assert.equal(folded.count(range), await view.count(range), JSON.stringify(range));
      for (let cursor = null; ; ) {
        const page = await view.list({ ...range, cursor, limit: 3 });
        assert.deepEqual(folded.list({ ...range, cursor, limit: 3 }), page);
        if ((cursor = page.cursor) === null) break;
      }
    }
    for (const { key } of folded.list().documents) {
      assert.deepEqual(folded.get(key), await view.get(key));
      assert.ok(Object.isFrozen(folded.get(key)));
    }
    assert.equal(folded.get("nobody"), undefined);
    await engine.close();
  });
}

test("all of a range is listed, unless there is a limit", () => {
  const own = projection("visits", { version: 1, kind: "inline", on: { Booked: (view, { data, stream }) => view.set(stream.id, data) } });
  const events = Array.from({ length: 300 }, (_, number) => booked("7", number, `v-${number}`));
  const folded = fold(own, new Set(events));
  assert.equal(folded.list().documents.length, 300);
  assert.equal(folded.list().cursor, null);
  assert.equal(folded.list({ limit: 7 }).documents.length, 7);
  assert.equal(fold(own, []).count(), 0);
});

test("an event that can't be taken in is named, and why", () => {
  const own = agenda();
  const error = thrown(
    () => fold(own, [booked("7", 10), event("Booked", { doctor: "7", minutes: 13 }, { revision: 2 }), booked("8", 1)]),
    "domain-failed",
    /^projection agenda can't take in Booked of Visit\/v-1@2: bad luck$/,
  );
  assert.equal(error.cause.message, "bad luck");
  thrown(() => fold(agenda({ on: { Booked: async () => undefined } }), [booked("7", 10)]), "domain-failed", /found a promise/);
  const set = (document) => agenda({ on: { Booked: (view) => view.set("d-1", document) } });
  thrown(() => fold(set({ at: new Date(0) }), [booked("7", 10)]), "domain-failed", /document d-1\.at: expected a plain object/);
  // Of a document that can't be indexed the event that has written it last, and not the last of all.
  const odd = agenda({
    on: { Booked: (view, { data }) => view.update(data.doctor, (times = 0) => times + 1) },
    indexes: { odd: (times) => (times === 2 ? {} : times) },
  });
  const events = [booked("7", 1), { ...booked("7", 1), revision: 2 }, { ...booked("8", 1), revision: 3 }];
  thrown(() => fold(odd, events), "domain-failed", /Booked of Visit\/v-1@2: document 7: index odd: expected text/);
});

test("types that nobody wants are passed by, whatever they are called", () => {
  const own = agenda();
  const folded = fold(own, [event("Noted", {}), event("toString", {}), event("constructor", {}), event("__proto__", {}), booked("7", 10)]);
  assert.deepEqual(folded.list({ prefix: "visit/" }).documents.map(({ key }) => key), ["visit/v-1"]);
});

test("what an event is known for is given by the kind of view, and what is not known is not made up", () => {
  const seen = [];
  const noting = (kind, note) =>
    projection("noting", { version: 1, kind, on: { Booked: (view, event) => void seen.push(note(event)) } });
  const whole = booked("7", 10);
  const { position, recordedAt, ...known } = whole;
  fold(noting("inline", (event) => event), [whole]);
  fold(noting("live", (event) => event), [{ ...whole, eventId: "of no interest" }]);
  assert.deepEqual(seen, [known, whole]);
  // As a decision's events are, some of which the store does not have yet.
  fold(noting("async", (event) => event.stream.id), [known]);
  thrown(() => fold(noting("async", (event) => event.position), [known]), "domain-failed", /no position before the store has it/);
  thrown(() => fold(noting("live", ({ recordedAt }) => recordedAt), [known]), "domain-failed", /no recordedAt before the store has it/);
});

test("what functions do to an event is nobody else's matter", () => {
  const own = projection("greedy", {
    version: 1,
    kind: "inline",
    on: { Booked: (view, { data, stream }) => view.set(stream.id, { left: data.list.splice(0).length }) },
  });
  const whole = event("Booked", { list: [1, 2] });
  for (const _ of [1, 2]) assert.deepEqual(fold(own, [whole]).get("v-1"), { left: 2 });
  assert.deepEqual(whole.data, { list: [1, 2] });
  fold(own, [Object.freeze({ ...whole, data: Object.freeze({ list: Object.freeze([1]) }) })]);
});

test("what can't be folded or asked is refused by name", () => {
  for (const none of [undefined, null, {}, "agenda"]) thrown(() => fold(none, []), "invalid-argument", /expected a projection/);
  thrown(() => fold(nativeProjection("agenda"), []), "invalid-argument", /agenda is written in Rust/);
  const folded = fold(agenda(), []);
  const { details } = thrown(() => folded.list({ index: "colour" }), "unknown-index", /^projection "agenda" has no index "colour"$/);
  assert.deepEqual(details, { projection: "agenda", index: "colour" });
  thrown(() => folded.count({ index: "colour" }), "unknown-index", /colour/);
  thrown(() => folded.list({ limit: 0 }), "invalid-argument", /limit/);
  thrown(() => folded.list({ cursor: "x" }), "invalid-argument", /cursor/);
  thrown(() => folded.list({ index: "minutes", equals: {} }), "invalid-argument", /index minutes/);
  thrown(() => folded.get(7), "invalid-argument", /key/);
});

test("a history is folded as it is", async () => {
  const own = agenda();
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit] });
  await book(engine, "v-1", "7", 10);
  await book(engine, "v-2", "7", 20);
  const { events } = await engine.history(visit, "v-2");
  assert.deepEqual(fold(own, events).get("7"), { minutes: 20, visits: ["v-2"] });
  await engine.close();
});
