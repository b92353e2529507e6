// Subscriptions with a name: the store keeps how far their events have been handled.

import assert from "node:assert/strict";
import { aggregate } from "annals";
import { checkpoint, forgetCheckpoint, setCheckpoint } from "annals/subscriptions";
import { logOf } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const note = aggregate("Note", {
  initial: () => 0,
  decide: (_, { data }) => data.texts.map((text) => ({ type: text.startsWith("rare") ? "Rare" : "Noted", data: { text } })),
  evolve: (count) => count + 1,
  events: { Noted: [], Rare: [] },
});

const options = { aggregates: [note] };
const write = (engine, ...texts) => engine.execute(note, "n-1", { type: "Write", data: { texts } });
const numbered = (count, from = 1) => Array.from({ length: count }, (_, index) => `number-${from + index}`);
const mails = { name: "mails", startAt: "beginning" };
const moved = { code: "subscription-moved", details: { subscription: "mails" } };

/** An engine on a store with so many events. */
async function filled(place, count) {
  const engine = await place.open(options);
  if (count > 0) await write(engine, ...numbered(count));
  return engine;
}

/** Reads until `leaves` says so of an event; that event has not been handled. */
async function readUntil(engine, leaves, subscription) {
  const seen = [];
  for await (const { data } of engine.events({ ...mails, follow: false, ...subscription })) {
    seen.push(data.text);
    if (leaves(data.text)) break;
  }
  return seen;
}

const never = () => false;
const numberOf = (position) => (position === null ? null : Number(position.slice(position.lastIndexOf(":") + 1)));
const kept = async (engine, name = "mails") => numberOf(await checkpoint(engine, name));

onEachStore("a reader goes on after what the one before it has handled, in any engine", async (place) => {
  const engine = await filled(place, 7);
  assert.equal(await checkpoint(engine, "mails"), null);
  assert.deepEqual(await readUntil(engine, (text) => text === "number-3", { pageSize: 5 }), numbered(3));
  assert.equal(await kept(engine), 2, "the event at which the loop is left has not been handled");
  const other = await place.open(options);
  assert.deepEqual(await readUntil(other, (text) => text === "number-6", { pageSize: 2 }), numbered(4, 3));
  assert.deepEqual(await readUntil(engine, never), numbered(2, 6));
  assert.equal(await kept(engine), 7);
  assert.deepEqual(await readUntil(other, never), []);
  const waiting = other.events(mails).next();
  await write(engine, "later");
  assert.equal((await waiting).value.data.text, "later");
});

onEachStore("a reader that fails gets again the event at which it has failed", async (place) => {
  const engine = await filled(place, 4);
  const reason = new Error("no mail today");
  const fail = (text) => {
    if (text === "number-2") throw reason;
  };
  await assert.rejects(readUntil(engine, fail), (error) => error === reason);
  assert.equal(await kept(engine), 1);
  assert.deepEqual(await readUntil(engine, never), numbered(3, 2));
});

onEachStore("what is handled is kept when a page is used up, so that after a crash no more than a page comes again", async (place) => {
  const engine = await filled(place, 10);
  const reader = engine.events({ ...mails, pageSize: 3 });
  for (const text of numbered(8)) assert.equal((await reader.next()).value.data.text, text);
  assert.equal(await kept(engine), 6);
  engine[Symbol.dispose]();
  await assert.rejects(reader.next(), { code: "engine-closed" });
  const next = await place.open(options);
  assert.deepEqual(await readUntil(next, never), numbered(4, 7));
});

onEachStore("closing an engine keeps what its readers have handled, and they get no more", async (place) => {
  const engine = await filled(place, 6);
  const reader = engine.events(mails);
  for (const text of numbered(4)) assert.equal((await reader.next()).value.data.text, text);
  const closed = engine.close();
  await assert.rejects(reader.next(), { code: "cancelled" });
  await closed;
  assert.deepEqual(await reader.next(), { done: true, value: undefined });
  const next = await place.open(options);
  assert.equal(await kept(next), 3);
  assert.deepEqual(await readUntil(next, never), numbered(3, 4));
});

onEachStore("a signal ends a reader when what it has handled is kept", async (place) => {
  const engine = await filled(place, 5);
  for (const [pageSize, expected, rest] of [[10, 2, 3], [1, 4, 1]]) {
    const controller = new AbortController();
    const reason = new Error("enough");
    const seen = [];
    const loop = async () => {
      for await (const { data } of engine.events({ ...mails, pageSize, signal: controller.signal })) {
        seen.push(data.text);
        if (seen.length === 3) controller.abort(reason);
      }
    };
    const start = (await kept(engine)) ?? 0;
    await assert.rejects(loop(), { code: "cancelled", cause: reason });
    assert.deepEqual(seen, numbered(3, start + 1));
    assert.equal(await kept(engine), expected);
    assert.equal(5 - expected, rest);
  }
  assert.deepEqual(await readUntil(engine, never), ["number-5"]);
});

onEachStore("a reader starts where it says the first time, and never again", async (place) => {
  const engine = await filled(place, 0);
  const early = engine.events({ name: "early", startAt: "now" });
  assert.deepEqual(await readUntil(engine, never, { name: "late", startAt: "now" }), []);
  await write(engine, ...numbered(5));
  assert.equal((await early.next()).value.data.text, "number-1");
  assert.deepEqual(await readUntil(engine, never, { name: "late", startAt: "now" }), numbered(5), "now was then");
  const [, second] = await logOf(engine);
  for (const [startAt, from] of [["beginning", 1], ["now", 6], [second.position, 3]]) {
    const name = `from ${from}`;
    assert.deepEqual(await readUntil(engine, never, { name, startAt }), numbered(6 - from, from));
    assert.deepEqual(await readUntil(engine, never, { name, startAt: "beginning" }), []);
  }
});

onEachStore("of two readers with one name the slower is told", async (place) => {
  const [here, there] = [await filled(place, 6), await place.open(options)];
  const quick = here.events({ ...mails, pageSize: 3 });
  const slow = there.events({ ...mails, pageSize: 2 });
  for (const text of numbered(2)) assert.equal((await slow.next()).value.data.text, text);
  for (const text of numbered(4)) assert.equal((await quick.next()).value.data.text, text);
  await assert.rejects(slow.next(), moved);
  assert.deepEqual(await slow.next(), { done: true, value: undefined });
  for (const text of numbered(2, 5)) assert.equal((await quick.next()).value.data.text, text);
  const waiting = quick.next();
  await write(there, "later");
  assert.equal((await waiting).value.data.text, "later");
  assert.deepEqual(await quick.return(), { done: true, value: undefined });
  assert.equal(await kept(there), 6);
});

onEachStore("a reader with a filter passes what is not for it, and keeps its place", async (place) => {
  const engine = await filled(place, 0);
  for (let round = 0; round < 3; round += 1) await write(engine, ...numbered(3), `rare-${round}`);
  const rare = { types: ["Rare"], aggregates: [note] };
  assert.deepEqual(await readUntil(engine, (text) => text === "rare-1", rare), ["rare-0", "rare-1"]);
  assert.deepEqual(await readUntil(engine, never, rare), ["rare-1", "rare-2"]);
  assert.equal(await kept(engine), 12);
});

onEachStore("an operator sees where a subscription is, sets it back or forth, and forgets it", async (place) => {
  const [engine, other] = [await filled(place, 5), await place.open(options)];
  const log = await logOf(engine);
  await readUntil(engine, never);
  assert.equal(await checkpoint(other, "mails"), log[4].position);
  assert.equal(await setCheckpoint(other, "mails", log[2].position), log[2].position);
  assert.deepEqual(await readUntil(engine, never), numbered(2, 4));
  const start = await setCheckpoint(other, "mails", "beginning");
  assert.deepEqual(await logOf(engine, { after: start }), log);
  assert.deepEqual(await readUntil(engine, never), numbered(5));
  await setCheckpoint(other, "mails", start);
  assert.equal(await setCheckpoint(other, "mails", "now"), log[4].position);
  assert.deepEqual(await readUntil(engine, never), []);
  await forgetCheckpoint(other, "mails");
  assert.equal(await checkpoint(other, "mails"), null);
  assert.deepEqual(await readUntil(engine, never), numbered(5));

  const beyond = start.replace(/0$/, "6");
  await assert.rejects(setCheckpoint(other, "mails", beyond), { code: "no-such-position", details: { position: beyond } });
  await assert.rejects(setCheckpoint(other, "mails", `elsewhere:1`), { code: "foreign-position" });
  assert.equal(await kept(other), 5);
});

onEachStore("a reader whose checkpoint an operator has set is told", async (place) => {
  const [engine, other] = [await filled(place, 5), await place.open(options)];
  for (const change of [() => setCheckpoint(other, "mails", "now"), () => forgetCheckpoint(other, "mails")]) {
    await setCheckpoint(other, "mails", "beginning");
    const loop = async () => {
      for await (const { data } of engine.events(mails)) if (data.text === "number-2") await change();
    };
    await assert.rejects(loop(), moved);
  }
  const leaving = async () => {
    for await (const { data } of engine.events(mails)) {
      if (data.text !== "number-2") continue;
      await setCheckpoint(other, "mails", "now");
      break;
    }
  };
  await assert.rejects(leaving(), moved);
  assert.equal(await kept(engine), 5);
});

onEachStore("a reader that can't keep what it has handled is told so, also when it leaves", async (place) => {
  const storage = place.storage();
  const { saveDocuments } = storage;
  let isFull = false;
  storage.saveDocuments = (request) => {
    if (!isFull) return saveDocuments.call(storage, request);
    throw Object.assign(new Error("no space"), { name: "StorageFailure", code: "storage-full", retryable: false, mayBeApplied: false });
  };
  const engine = await place.open({ ...options, storage });
  await write(engine, ...numbered(4));
  const full = (reading) => assert.rejects(reading, { code: "storage-full" });
  const fillUp = (text) => {
    isFull = text === "number-2";
    return isFull;
  };
  await full(readUntil(engine, fillUp));
  isFull = false;
  await full(readUntil(engine, (text) => fillUp(text) && false, { pageSize: 2 }));
  isFull = false;
  assert.deepEqual(await readUntil(engine, never), numbered(4));
});

onEachStore("an event that can't be read stops its reader there, each time", async (place) => {
  const strict = { ...options, aggregates: [aggregate("Note", { ...note.functions, events: { Noted: [] } })] };
  const writer = await filled(place, 2);
  await write(writer, "rare", "number-3");
  const engine = await place.open(strict);
  for (const seen of [numbered(2), []]) {
    const found = [];
    const loop = async () => {
      for await (const { data } of engine.events(mails)) found.push(data.text);
    };
    await assert.rejects(loop(), { code: "unreadable-event", details: { stream: { type: "Note", id: "n-1" }, revision: 3, problem: "unknown-type" } });
    assert.deepEqual(found, seen);
    assert.equal(await kept(engine), 2);
  }
});

onEachStore("an event of which several have been made has been handled when they all have", async (place) => {
  const writer = await filled(place, 2);
  const halves = ({ text }) => [1, 2].map((half) => ({ type: "Noted", data: { text: `${text}/${half}` } }));
  const split = aggregate("Note", { ...note.functions, events: { Noted: [{ becomes: halves }] } });
  const engine = await place.open({ aggregates: [split] });
  const [first, second] = numbered(2);
  assert.deepEqual(await readUntil(engine, (text) => text === `${first}/2`), [`${first}/1`, `${first}/2`]);
  assert.equal(await kept(engine), 0);
  assert.deepEqual(await readUntil(engine, (text) => text === `${second}/2`), [`${first}/1`, `${first}/2`, `${second}/1`, `${second}/2`]);
  assert.equal(await kept(writer), 1);
  assert.deepEqual(await readUntil(engine, never), [`${second}/1`, `${second}/2`]);
});

onEachStore("whoever asks for several events at once says that he handles them as they come", async (place) => {
  const engine = await filled(place, 0);
  const reader = engine.events({ ...mails, pageSize: 2 });
  const waiting = Array.from({ length: 5 }, () => reader.next());
  await write(engine, ...numbered(5));
  assert.deepEqual((await Promise.all(waiting)).map(({ value }) => value.data.text), numbered(5));
  assert.deepEqual(await reader.return(), { done: true, value: undefined });
  assert.equal(await kept(engine), 4);
});

onEachStore("return ends a reader with a name, and those who wait for its next event", async (place) => {
  const engine = await filled(place, 1);
  const reader = engine.events(mails);
  await reader.next();
  const waiting = reader.next();
  const done = { done: true, value: undefined };
  assert.deepEqual(await Promise.all([reader.return(), waiting, reader.return()]), [done, done, done]);
  assert.equal(await kept(engine), 1);
  await write(engine, "unheard");
  assert.deepEqual(await reader.next(), done);
});

onEachStore("a reader without a name may start now too", async (place) => {
  const engine = await filled(place, 3);
  const reader = engine.events({ after: "now" });
  let found;
  const waiting = reader.next().then(({ value }) => (found = value.data.text));
  // Nobody is told when it has begun: then something comes that it gives.
  for (let number = 1; found === undefined; number += 1) await write(engine, `later ${number}`);
  assert.match(await waiting, /^later \d+$/);
  assert.deepEqual(await logOf(engine, { after: "now" }), []);
});

onEachStore("a name that is none, and a start that is not said, are refused", async (place) => {
  const engine = await filled(place, 1);
  const other = `${"0".repeat(32)}:1`;
  for (const [given, code] of [
    [{ name: "mails" }, "invalid-argument"],
    [{ startAt: "now" }, "invalid-argument"],
    [{ name: "mails", after: null }, "invalid-argument"],
    [{ ...mails, after: null }, "invalid-argument"],
    [{ name: "mails", startAt: "then" }, "invalid-argument"],
    [{ name: "mails", startAt: null }, "invalid-argument"],
    [{ name: 7, startAt: "now" }, "invalid-argument"],
    [{ name: "\ud800", startAt: "now" }, "invalid-name"],
    [{ name: "mails", startAt: other }, "foreign-position"],
  ]) {
    assert.throws(() => engine.events(given), { code }, JSON.stringify(given));
  }
  for (const name of ["", "a\nb", "n".repeat(1_025)]) {
    await assert.rejects(engine.events({ name, startAt: "now" }).next(), { code: "invalid-name" });
    await assert.rejects(checkpoint(engine, name), { code: "invalid-name" });
  }
  for (const ask of [(name) => checkpoint(engine, name), (name) => forgetCheckpoint(engine, name), (name) => setCheckpoint(engine, name, "now")]) {
    await assert.rejects(async () => ask(7), { code: "invalid-argument" });
    await assert.rejects(async () => ask("\ud800"), { code: "invalid-name" });
  }
  assert.equal(await kept(engine), null);
});
