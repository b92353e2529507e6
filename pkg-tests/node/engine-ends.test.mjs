// How commands, reads and engines end: by signals, by close, by a store that can't be opened.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Engine, StorageFailure, nativeAggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { appointment, booking, confirmation, issuedAt, logOf, retitling } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

/** The adapter, whose requests of one kind wait until they are let through. */
function held(storage, kind) {
  let open;
  const gate = new Promise((resolve) => (open = resolve));
  let reached;
  const arrived = new Promise((resolve) => (reached = resolve));
  const request = storage[kind].bind(storage);
  storage[kind] = async (...args) => {
    reached();
    await gate;
    return request(...args);
  };
  return { arrived, letThrough: open };
}

const reason = new Error("the user has left");
const stopped = { code: "cancelled", cause: reason };

onEachStore("a signal that has been given stops a command or a read before it begins", async (place) => {
  const engine = await place.open();
  const signal = AbortSignal.abort(reason);
  await assert.rejects(engine.execute(appointment, "a-1", booking(), { issuedAt, signal }), stopped);
  await assert.rejects(engine.attempt(appointment, "a-1", booking(), { issuedAt, signal }), stopped);
  await assert.rejects(engine.state(appointment, "a-1", { signal }), stopped);
  await assert.rejects(engine.history(appointment, "a-1", { signal }), stopped);
  assert.deepEqual(await logOf(engine), []);
});

onEachStore("a signal that is not given changes nothing", async (place) => {
  const engine = await place.open();
  const { signal } = new AbortController();
  const { state, revision, events } = await engine.execute(appointment, "a-1", booking(), { issuedAt, signal });
  assert.deepEqual(await engine.state(appointment, "a-1", { signal }), { state, revision });
  assert.deepEqual(await engine.history(appointment, "a-1", { signal }), { state, revision, events, skipped: 0 });
});

onEachStore("a signal gives up a command that is not on its way to the store, and only that", async (place) => {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const { arrived, letThrough } = held(storage, "load");
  const controller = new AbortController();
  const ends = assert.rejects(engine.execute(appointment, "a-1", booking(), { issuedAt, signal: controller.signal }), stopped);
  const other = engine.execute(appointment, "a-1", booking({ minutes: 600 }), { issuedAt });
  await arrived;
  controller.abort(reason);
  await ends;
  letThrough();
  const { revision, state } = await other;
  assert.deepEqual([revision, state.start], [1, booking({ minutes: 600 }).data.start]);
  assert.equal((await logOf(engine)).length, 1);
});

onEachStore("a command that is on its way to the store has its outcome whatever the signal says", async (place) => {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const { arrived, letThrough } = held(storage, "append");
  const controller = new AbortController();
  const execution = engine.execute(appointment, "a-1", booking(), { issuedAt, signal: controller.signal });
  await arrived;
  controller.abort(reason);
  letThrough();
  assert.equal((await execution).revision, 1);
  assert.equal((await logOf(engine)).length, 1);
  controller.abort();
});

onEachStore("a signal gives up a read under way", async (place) => {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const { arrived, letThrough } = held(storage, "load");
  const controller = new AbortController();
  const ends = ["state", "history"].map((ask) =>
    assert.rejects(engine[ask](appointment, "a-1", { signal: controller.signal }), stopped),
  );
  await arrived;
  controller.abort(reason);
  await Promise.all(ends);
  letThrough();
  assert.equal((await engine.state(appointment, "a-1")).revision, 0);
});

onEachStore("closing waits for every command given before, and takes no more", async (place) => {
  const engine = await place.open();
  const given = [booking(), ...Array.from({ length: 99 }, (_, n) => retitling(`Title ${n}`))];
  const outcomes = Promise.all(given.map((command) => engine.execute(appointment, "a-1", command, { issuedAt })));
  const closing = engine.close();
  await assert.rejects(engine.execute(appointment, "a-2", booking(), { issuedAt }), { code: "engine-closed" });
  await closing;
  assert.equal((await outcomes).at(-1).revision, 100);
  assert.equal((await logOf(await place.open())).length, 100);
});

onEachStore("closing is over when the commands are, however often it is asked for", async (place) => {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const { arrived, letThrough } = held(storage, "append");
  const ended = [];
  const execution = engine.execute(appointment, "a-1", booking(), { issuedAt }).then(() => ended.push("command"));
  await arrived;
  const closings = [1, 2].map(() => engine.close().then(() => ended.push("close")));
  // Whatever does not wait has ended after some turns.
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(ended, []);
  letThrough();
  await Promise.all([execution, ...closings, engine.close()]);
  assert.deepEqual(ended, ["command", "close", "close"]);
});

onEachStore("closing gives up reads under way", async (place) => {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const { arrived, letThrough } = held(storage, "load");
  const ends = ["state", "history"].map((ask) => assert.rejects(engine[ask](appointment, "a-1"), { code: "cancelled" }));
  await arrived;
  const closing = engine.close();
  await Promise.all(ends);
  letThrough();
  await closing;
});

onEachStore("a closed engine says so, and its store can be opened again", async (place) => {
  const storage = place.storage();
  const engine = await place.open({ storage });
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine.close();
  const closed = { code: "engine-closed" };
  await assert.rejects(engine.execute(appointment, "a-1", confirmation), closed);
  await assert.rejects(engine.attempt(appointment, "a-1", confirmation), closed);
  await assert.rejects(engine.state(appointment, "a-1"), closed);
  await assert.rejects(engine.state(appointment, "a-1", { cached: true }), closed);
  await assert.rejects(engine.history(appointment, "a-1"), closed);
  assert.throws(() => engine.events(), closed);
  await engine.close();
  const again = await place.open({ storage });
  assert.equal((await again.execute(appointment, "a-1", confirmation, { issuedAt })).revision, 2);
});

onEachStore("one engine is closed, another on the same store goes on", async (place) => {
  const storage = place.storage();
  const [one, two] = [await place.open({ storage }), await place.open({ storage })];
  const reader = two.events();
  await one.execute(appointment, "a-1", booking(), { issuedAt });
  await one.close();
  assert.equal((await two.execute(appointment, "a-1", confirmation, { issuedAt })).revision, 2);
  assert.equal((await reader.next()).value.revision, 1);
  assert.equal((await reader.next()).value.revision, 2);
});

onEachStore("asynchronous disposal closes; disposal at once rejects what is under way", async (place) => {
  const engine = await place.open();
  const execution = engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine[Symbol.asyncDispose]();
  assert.equal((await execution).revision, 1);
  await assert.rejects(engine.state(appointment, "a-1"), { code: "engine-closed" });

  const storage = place.storage();
  const abandoned = await place.open({ storage });
  const { arrived, letThrough } = held(storage, "append");
  const options = { issuedAt, commandId: "00000000-0000-4000-8000-000000000009" };
  const ends = assert.rejects(abandoned.execute(appointment, "a-1", confirmation, options), { code: "engine-closed" });
  const reader = abandoned.events();
  await reader.next();
  const last = assert.rejects(reader.next(), { code: "engine-closed" });
  await arrived;
  abandoned[Symbol.dispose]();
  await Promise.all([ends, last]);
  letThrough();
  await abandoned.close();
  // Whether it has reached the store or not: the same command settles it.
  const again = await place.open();
  assert.equal((await again.execute(appointment, "a-1", confirmation, options)).revision, 2);
  assert.equal((await logOf(again)).length, 2);
});

test("an engine whose store can't be opened is none; the store's own error is the cause", async () => {
  const storage = memoryStorage();
  const open = storage.open.bind(storage);
  for (const [thrown, code] of [
    [new StorageFailure("unknown-format", "made by a later release"), "unknown-format"],
    [new TypeError("no such file"), "storage-failed"],
  ]) {
    for (const fail of [() => { throw thrown; }, async () => { throw thrown; }]) {
      storage.open = fail;
      await assert.rejects(Engine.open({ storage, aggregates: [appointment] }), (error) => {
        assert.deepEqual([error.code, error.message, error.cause], [code, thrown.message, thrown]);
        return true;
      });
    }
  }
  storage.open = open;
  await (await Engine.open({ storage, aggregates: [appointment] })).close();
});

test("an engine is opened with a store, aggregates and sensible limits, or not at all", async () => {
  const storage = memoryStorage();
  const aggregates = [appointment];
  for (const options of [
    { aggregates },
    { storage: {}, aggregates },
    { storage },
    { storage, aggregates: appointment },
    { storage, aggregates, limits: { pageLimit: 0 } },
    { storage, aggregates, limits: { cachedStates: -1 } },
    { storage, aggregates, limits: { requestTimeout: 1.5 } },
    { storage, aggregates, limits: { pollInterval: 2 ** 32 } },
  ]) {
    await assert.rejects(Engine.open(options), { code: "invalid-argument" }, JSON.stringify(options));
  }
});

test("an aggregate is defined in JavaScript or in the module: not in both, and not in neither", async () => {
  const storage = memoryStorage();
  const glue = await import("../../www/clinic/pkg/clinic.js");
  const module = { glue, wasm: await readFile(new URL("../../www/clinic/pkg/clinic_bg.wasm", import.meta.url)) };
  const native = nativeAggregate("Appointment");
  for (const options of [
    { aggregates: [native] },
    { aggregates: [nativeAggregate("Invoice")], module },
    { aggregates: [appointment], module },
  ]) {
    const [{ type }] = options.aggregates;
    await assert.rejects(Engine.open({ storage, ...options }), { code: "unknown-aggregate", details: { type } });
  }
  const engine = await Engine.open({ storage, aggregates: [native], module });
  assert.equal((await engine.execute(native, "a-1", booking(), { issuedAt })).revision, 1);
  // By name, for there is nothing else to know it by.
  assert.equal((await engine.state(nativeAggregate("Appointment"), "a-1")).revision, 1);
  await assert.rejects(engine.state(appointment, "a-1"), { code: "unknown-aggregate" });
  await engine.close();
});

test("a failing store fails the command with its code and cause, and the next one is none the worse", async () => {
  const storage = memoryStorage();
  const engine = await Engine.open({ storage, aggregates: [appointment] });
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const append = storage.append;
  const full = new StorageFailure("storage-full", "no space left on device");
  storage.append = () => { throw full; };
  await assert.rejects(engine.execute(appointment, "a-1", confirmation, { issuedAt }), (error) => {
    assert.deepEqual([error.code, error.cause, error.details], ["storage-full", full, { retryable: false }]);
    return true;
  });
  storage.append = append;
  assert.equal((await engine.execute(appointment, "a-1", confirmation, { issuedAt })).revision, 2);
  await engine.close();
});

test("an append whose outcome is unknown is told as such, with the id to settle it by", async () => {
  const storage = memoryStorage();
  const engine = await Engine.open({ storage, aggregates: [appointment] });
  const append = storage.append.bind(storage);
  const lost = new StorageFailure("storage-failed", "connection lost", { mayBeApplied: true });
  storage.append = (request, judge) => {
    append(request, judge);
    throw lost;
  };
  const commandId = "00000000-0000-4000-8000-00000000000a";
  const options = { issuedAt, commandId };
  await assert.rejects(engine.execute(appointment, "a-1", booking(), options), (error) => {
    assert.deepEqual([error.code, error.cause, error.details.commandId], ["outcome-unknown", lost, commandId]);
    return true;
  });
  storage.append = append;
  const { duplicate, revision } = await engine.execute(appointment, "a-1", booking(), options);
  assert.deepEqual([duplicate, revision], [true, 1]);
  await engine.close();
});

test("a store that does not answer is given up, and the next command finds out what became of the first", async () => {
  const storage = memoryStorage();
  const engine = await Engine.open({ storage, aggregates: [appointment], limits: { requestTimeout: 5 } });
  const { append, load } = storage;
  const never = new Promise(() => undefined);
  storage.load = () => never;
  await assert.rejects(engine.state(appointment, "a-1"), { code: "storage-timed-out" });
  storage.load = load;
  storage.append = function (...args) {
    append.apply(this, args);
    return never;
  };
  const options = { issuedAt, commandId: "00000000-0000-4000-8000-00000000000b" };
  await assert.rejects(engine.execute(appointment, "a-1", booking(), options), {
    code: "outcome-unknown",
    details: { commandId: options.commandId, cause: "storage-timed-out" },
  });
  storage.append = append;
  assert.equal((await engine.execute(appointment, "a-1", booking(), options)).duplicate, true);
  await engine.close();
});

/** An adapter of whatever store is there. */
function replaceable() {
  const place = { store: memoryStorage() };
  const names = ["open", "append", "load", "readLog", "saveDocuments", "readDocuments"];
  const storage = Object.fromEntries(names.map((name) => [name, (...args) => place.store[name](...args)]));
  return { place, storage: { ...storage, close() {} } };
}

test("a store that was replaced and can't be opened fails those who wait as what it is, and is opened with the next", async () => {
  const { place, storage } = replaceable();
  const engine = await Engine.open({ storage, aggregates: [appointment] });
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  place.store = memoryStorage();
  const { open } = storage;
  storage.open = () => {
    storage.open = open;
    throw new StorageFailure("storage-failed", "it is being restored");
  };
  const all = ["a-2", "a-3"].map((id) => engine.execute(appointment, id, booking(), { issuedAt }));
  const failed = (await Promise.allSettled(all)).map(({ reason }) => [reason.code, reason.details, reason.cause.message]);
  assert.deepEqual(failed, Array(2).fill(["storage-failed", { retryable: false }, "it is being restored"]));
  assert.equal((await engine.execute(appointment, "a-1", booking(), { issuedAt })).revision, 1);
  assert.equal((await logOf(engine)).length, 1);
  await engine.close();
});

test("positions are of the store that is there, though a request to the one before is refused late", async () => {
  const { place, storage } = replaceable();
  const engine = await Engine.open({ storage, aggregates: [appointment] });
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const late = held(storage, "readLog");
  const reading = assert.rejects(engine.events().next(), { code: "foreign-epoch" });
  await late.arrived;
  place.store = memoryStorage();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  late.letThrough();
  await reading;
  const { position } = await engine.execute(appointment, "a-1", confirmation, { issuedAt });
  assert.equal(position, `${place.store.open().epoch}:2`);
  assert.equal((await engine.state(appointment, "a-1", { at: { position } })).revision, 2);
  await engine.close();
});
