// Who caused what: the chains of the log, walked both ways. What has changed, and by which events.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { diff, trace } from "annals/audit";
import { memoryStorage } from "annals/memory";
import { appointment, booking, cancellation, confirmation, issuedAt, retitling } from "../support/clinic.mjs";
import { fails } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

async function logOf(engine, options) {
  const events = [];
  for await (const event of engine.events({ ...options, follow: false })) events.push(event);
  return events;
}

const idsOf = (events) => events.map(({ eventId }) => eventId);

/**
 * A request books a-1; the booking causes that of a-2 (which names the event) and a retitling (which
 * names the command); the latter causes a cancellation. Beside them others that have nothing to do with it.
 */
async function told(place) {
  const engine = await place.open();
  const give = async (id, command, options) => {
    const { events } = await engine.execute(appointment, id, command, { issuedAt, ...options });
    return events[0];
  };
  const correlationId = "request 7";
  await give("b-1", booking({ doctor: "1" }));
  const booked = await give("a-1", booking(), { correlationId, causationId: "message 6" });
  await give("b-1", retitling("Other"), { correlationId: "request 8" });
  const second = await give("a-2", booking({ doctor: "8" }), { correlationId, causationId: booked.eventId });
  const retitled = await give("a-1", retitling("Second"), { correlationId, causationId: booked.commandId });
  const cancelled = await give("a-2", cancellation, { correlationId, causationId: retitled.eventId });
  return { engine, booked, second, retitled, cancelled };
}

onEachStore("events of one first cause are found, on every page size", async (place) => {
  const { engine, ...chain } = await told(place);
  for (const pageSize of [1, 2, 500]) {
    assert.deepEqual(idsOf(await logOf(engine, { correlationId: "request 7", pageSize })), idsOf(Object.values(chain)));
  }
  assert.deepEqual((await logOf(engine, { correlationId: "request 8" })).length, 1);
  assert.deepEqual(await logOf(engine, { correlationId: "nobody" }), []);
  const both = await logOf(engine, { correlationId: "request 7", types: ["AppointmentBooked"], aggregates: [appointment] });
  assert.deepEqual(idsOf(both), idsOf([chain.booked, chain.second]));
});

onEachStore("a command that names no cause is its own", async (place) => {
  const engine = await place.open();
  const { events, commandId } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine.execute(appointment, "a-1", confirmation, { issuedAt, correlationId: commandId, causationId: commandId });
  const found = await logOf(engine, { correlationId: commandId });
  assert.deepEqual(found.map(({ type }) => type), ["AppointmentBooked", "AppointmentConfirmed"]);
  assert.deepEqual(idsOf((await trace(engine, events[0])).effects), [found[1].eventId]);
  // The id of a command that has another first cause finds nothing of that command.
  assert.deepEqual(await logOf(engine, { correlationId: found[1].commandId }), []);
});

onEachStore("a chain is walked both ways from any event in it", async (place) => {
  const { engine, booked, second, retitled, cancelled } = await told(place);
  for (const [event, causes, effects] of [
    [booked, [], [second, retitled, cancelled]],
    [second, [booked], []],
    [retitled, [booked], [cancelled]],
    [cancelled, [retitled, booked], []],
  ]) {
    const found = await trace(engine, event);
    assert.deepEqual([idsOf(found.causes), idsOf(found.effects)], [idsOf(causes), idsOf(effects)]);
  }
});

onEachStore("a cause that names itself ends the walk", async (place) => {
  const engine = await place.open();
  const commandId = "00000000-0000-7000-8000-000000000001";
  const { events } = await engine.execute(appointment, "a-1", booking(), { issuedAt, commandId, causationId: commandId });
  assert.deepEqual(idsOf((await trace(engine, events[0])).causes), idsOf(events));
});

onEachStore("half a character is no id", async (place) => {
  const engine = await place.open();
  await fails(() => logOf(engine, { correlationId: "\ud800" }), { code: "invalid-name" });
});

// --- What has changed ---------------------------------------------------------------------------

onEachStore("a diff tells what has changed between any two points, and by which events", async (place) => {
  const engine = await place.open();
  const give = async (id, command) => (await engine.execute(appointment, id, command, { issuedAt, actor: "reception" })).events[0];
  const history = [await give("a-1", booking()), await give("a-1", retitling("Pulse"))];
  const other = await give("a-2", booking({ doctor: "8" }));
  history.push(await give("a-1", confirmation), await give("a-1", retitling("Knee")));
  const title = (before, after) => ({ kind: "changed", path: ["title"], before, after });
  const status = { kind: "changed", path: ["status"], before: "booked", after: "confirmed" };
  for (const [from, to, changes] of [
    [{ revision: 1 }, undefined, [title("Blood pressure", "Knee"), status]],
    [{ revision: 1 }, { revision: 3 }, [title("Blood pressure", "Pulse"), status]],
    [{ position: other.position }, { position: history[2].position }, [status]],
    [{ position: history[0].position }, { position: other.position }, [title("Blood pressure", "Pulse")]],
    [{ revision: 4 }, { time: "9999-12-31T23:59:59.999Z" }, []],
    [{ revision: 2 }, { revision: 2 }, []],
  ]) {
    for (const asked of [engine, await place.open({ limits: { pageLimit: 2 } })]) {
      const found = await diff(asked, appointment, "a-1", { from, ...(to && { to }) });
      assert.deepEqual(found.from, await engine.state(appointment, "a-1", { at: from }));
      assert.deepEqual(found.to, await engine.state(appointment, "a-1", to && { at: to }));
      assert.deepEqual(found.events, history.slice(found.from.revision, found.to.revision));
      const inOrder = (all) => all.slice().sort((a, b) => (a.path[0] < b.path[0] ? -1 : 1));
      assert.deepEqual(inOrder(found.changes), inOrder(changes));
    }
  }
  const { changes } = await diff(engine, appointment, "a-1", { from: { revision: 0 }, to: { revision: 1 } });
  assert.deepEqual(changes[0], { kind: "changed", path: ["status"], before: "none", after: "booked" });
  assert.deepEqual(changes.slice(1).map(({ kind }) => kind), Array(8).fill("added"));
});

onEachStore("points of a diff that are out of order, or that are none, are errors", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine.execute(appointment, "a-1", confirmation, { issuedAt });
  const refused = (options, expected) => fails(() => diff(engine, appointment, "a-1", options), expected);
  const message = "expected two points in order, found revision 2 and then 1";
  await refused({ from: { revision: 2 }, to: { revision: 1 } }, { code: "invalid-argument", message });
  await refused({}, { code: "invalid-argument" });
  await refused({ from: { position: "7" } }, { code: "invalid-argument" });
  await refused({ from: { revision: 3 } }, { code: "no-such-revision" });
  await refused({ from: { revision: 1 }, to: { revision: 3 } }, { code: "no-such-revision" });
  await refused({ from: { revision: 1 }, signal: AbortSignal.abort() }, { code: "cancelled" });
});

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
    evolve: (_, { data }) => data.state,
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
