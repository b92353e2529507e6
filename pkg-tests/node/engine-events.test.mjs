// The events of the log: those stored, then those to come.

import assert from "node:assert/strict";
import { aggregate } from "annals";
import { appointment, booking, cancellation, confirmation, issuedAt, logOf, retitling } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const note = aggregate("Note", {
  initial: () => 0,
  decide: (_, { data }) => data.texts.map((text) => ({ type: "Noted", data: { text } })),
  evolve: { Noted: (count) => count + 1 },
  tags: ({ data }) => data.text.split(" "),
});

const both = { aggregates: [appointment, note] };

const write = (engine, ...texts) => engine.execute(note, "n-1", { type: "Write", data: { texts } });
const numbered = (count, from = 0) => Array.from({ length: count }, (_, index) => `number-${from + index}`);

/** The next events of an iterator. */
async function take(iterator, count) {
  const events = [];
  while (events.length < count) {
    const { done, value } = await iterator.next();
    assert.equal(done, false, "the events ended early");
    events.push(value);
  }
  return events;
}

const textsOf = (events) => events.map(({ data }) => data.text);

onEachStore("a reader gets what is stored, then what comes, in order and once", async (place) => {
  const engine = await place.open(both);
  await write(engine, ...numbered(7));
  const reader = engine.events({ pageSize: 3 });
  assert.deepEqual(textsOf(await take(reader, 5)), numbered(5));
  await write(engine, ...numbered(2, 7));
  assert.deepEqual(textsOf(await take(reader, 4)), numbered(4, 5));
  const waiting = take(reader, 3);
  await write(engine, ...numbered(1, 9));
  await write(engine, ...numbered(2, 10));
  assert.deepEqual(textsOf(await waiting), numbered(3, 9));
});

onEachStore("the log is read back from its end or a position, and ends at its beginning", async (place) => {
  const engine = await place.open(both);
  const read = async (options) => {
    const events = [];
    for await (const event of engine.events(options)) events.push(event);
    return textsOf(events);
  };
  assert.deepEqual(await read({ before: "now" }), []);
  await write(engine, ...numbered(4));
  await write(engine, ...numbered(4, 4));
  const back = numbered(8).reverse();
  for (const pageSize of [1, 3, 8, 500]) {
    assert.deepEqual(await read({ before: "now", pageSize }), back);
    const reader = engine.events({ before: "now", pageSize });
    const [newest, second, third] = await take(reader, 3);
    await reader.return();
    assert.deepEqual(textsOf([newest, second, third]), back.slice(0, 3));
    assert.deepEqual(await read({ before: third.position, pageSize }), back.slice(3));
  }
  assert.deepEqual(await read({ before: "now", tags: ["number-2", "number-6"] }), ["number-6", "number-2"]);
  assert.deepEqual(await read({ before: "now", types: ["Other"] }), []);
  assert.deepEqual(await read({ before: "now", aggregates: [appointment] }), []);
});

onEachStore("who reads back gets nothing that comes meanwhile, and each event once", async (place) => {
  const engine = await place.open(both);
  await write(engine, ...numbered(5));
  const reader = engine.events({ before: "now", pageSize: 2 });
  const events = await take(reader, 2);
  await write(engine, ...numbered(2, 5));
  for await (const event of reader) events.push(event);
  assert.deepEqual(textsOf(events), numbered(5).reverse());
});

onEachStore("reading back with a name, from two ends or on and on is refused", async (place) => {
  const engine = await place.open(both);
  await write(engine, "first");
  for (const options of [
    { before: "now", name: "mails", startAt: "now" },
    { before: "now", after: "now" },
    { before: "now", follow: true },
    { before: "beginning" },
    { before: null },
    { before: 3 },
  ]) {
    assert.throws(() => engine.events(options), { code: "invalid-argument" }, JSON.stringify(options));
  }
});

onEachStore("a reader of an empty log waits for its first event", async (place) => {
  const engine = await place.open(both);
  const waiting = engine.events().next();
  const { events } = await write(engine, "first");
  assert.deepEqual(await waiting, { done: false, value: events[0] });
});

onEachStore("a reader gets what other engines on the store append", async (place) => {
  const [here, there] = [await place.open(both), await place.open(both)];
  const reader = here.events();
  for (let round = 0; round < 5; round += 1) {
    const waiting = take(reader, 2);
    await write(there, ...numbered(2, 2 * round));
    assert.deepEqual(textsOf(await waiting), numbered(2, 2 * round));
  }
});

onEachStore("a store that does not tell of appends is looked at from time to time", async (place) => {
  const storage = place.storage();
  storage.subscribe = undefined;
  const here = await place.open({ ...both, storage, limits: { pollInterval: 1 } });
  const there = await place.open(both);
  const reader = here.events();
  for (let round = 0; round < 3; round += 1) {
    const waiting = take(reader, 2);
    await write(there, ...numbered(2, 2 * round));
    assert.deepEqual(textsOf(await waiting), numbered(2, 2 * round));
  }
});

onEachStore("a reader that does not follow ends at the end of the log", async (place) => {
  const engine = await place.open(both);
  assert.deepEqual(await logOf(engine), []);
  await write(engine, ...numbered(10));
  for (const pageSize of [1, 3, 5, 10, 11]) assert.deepEqual(textsOf(await logOf(engine, { pageSize })), numbered(10));
  const reader = engine.events({ follow: false });
  await take(reader, 10);
  for (const _ of [1, 2]) assert.deepEqual(await reader.next(), { done: true, value: undefined });
});

onEachStore("a reader gets the types, aggregates and tags it asks for, now and later", async (place) => {
  const engine = await place.open(both);
  const filters = [
    { types: ["AppointmentConfirmed"] },
    { types: ["AppointmentBooked", "AppointmentCancelled", "Noted"] },
    { aggregates: [note] },
    { aggregates: [appointment, note] },
    { tags: ["doctor:7/2026-11-23"] },
    { tags: ["doctor:8/2026-11-23", "red"] },
    { tags: ["red"], aggregates: [appointment] },
    { types: ["Noted"], aggregates: [note], tags: ["blue"] },
    { types: [], aggregates: [], tags: [] },
  ];
  const passes = ({ types = [], aggregates = [], tags = [] }) => (event) =>
    (types.length === 0 || types.includes(event.type)) &&
    (aggregates.length === 0 || aggregates.some(({ type }) => type === event.stream.type)) &&
    (tags.length === 0 || tags.some((tag) => event.tags.includes(tag)));
  const live = filters.map((filter) => engine.events({ ...filter, pageSize: 2 }));

  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await write(engine, "red green", "blue", "green");
  await engine.execute(appointment, "a-1", confirmation, { issuedAt });
  await engine.execute(appointment, "a-2", booking({ doctor: "8" }), { issuedAt });
  await engine.execute(appointment, "a-1", cancellation, { issuedAt });
  await write(engine, "blue red");

  const log = await logOf(engine);
  assert.equal(log.length, 8);
  for (const [index, filter] of filters.entries()) {
    const expected = log.filter(passes(filter));
    assert.deepEqual(await logOf(engine, { ...filter, pageSize: 2 }), expected, JSON.stringify(filter));
    assert.deepEqual(await take(live[index], expected.length), expected, JSON.stringify(filter));
  }
});

onEachStore("a reader goes on after any position, of an event or of an outcome, in any engine", async (place) => {
  const engine = await place.open(both);
  const { position } = await write(engine, ...numbered(6));
  const log = await logOf(engine);
  assert.equal(position, log[5].position);
  assert.equal(new Set(log.map(({ position }) => position)).size, 6);
  for (const asked of [engine, await place.open(both)]) {
    for (const [index, { position }] of log.entries()) {
      assert.deepEqual(await logOf(asked, { after: position }), log.slice(index + 1));
    }
    assert.deepEqual(await logOf(asked, { after: null }), log);
    const waiting = asked.events({ after: log.at(-1).position }).next();
    const { events } = await write(engine, "later");
    assert.deepEqual((await waiting).value, events[0]);
    log.push(events[0]);
    assert.deepEqual(await logOf(asked, { after: position }), log.slice(6));
  }
});

onEachStore("a position of another store is refused, and so is what is none", async (place) => {
  const engine = await place.open(both);
  const { position } = await write(engine, "here");
  const other = `${"0".repeat(32)}${position.slice(position.lastIndexOf(":"))}`;
  assert.throws(() => engine.events({ after: other }), { code: "foreign-position", details: { position: other } });
  for (const after of ["", "7", ":7", `${position}x`, `${position}.5`, "a:99999999999999999999", 7, {}]) {
    assert.throws(() => engine.events({ after }), { code: "invalid-argument" }, JSON.stringify(after));
  }
  assert.throws(() => engine.events({ pageSize: 0 }), { code: "invalid-argument" });
});

onEachStore("leaving the loop ends the reader", async (place) => {
  const engine = await place.open(both);
  await write(engine, ...numbered(5));
  const reader = engine.events();
  for await (const { data } of reader) if (data.text === "number-2") break;
  assert.deepEqual(await reader.next(), { done: true, value: undefined });
});

onEachStore("return ends a reader, and those who wait for its next event", async (place) => {
  const engine = await place.open(both);
  const reader = engine.events();
  const waiting = [reader.next(), reader.next()];
  assert.deepEqual(await reader.return(), { done: true, value: undefined });
  for (const result of await Promise.all(waiting)) assert.deepEqual(result, { done: true, value: undefined });
  await write(engine, "unheard");
  assert.deepEqual(await reader.next(), { done: true, value: undefined });
});

onEachStore("a signal ends a reader with an error, and with it the rest of the page", async (place) => {
  const engine = await place.open(both);
  await write(engine, ...numbered(3));
  const reason = new Error("enough");

  assert.throws(() => engine.events({ signal: AbortSignal.abort(reason) }), { code: "cancelled", cause: reason });

  const midway = new AbortController();
  const seen = [];
  const loop = async () => {
    for await (const { data } of engine.events({ signal: midway.signal })) {
      seen.push(data.text);
      if (seen.length === 2) midway.abort(reason);
    }
  };
  await assert.rejects(loop(), { code: "cancelled", cause: reason });
  assert.deepEqual(seen, numbered(2));

  const waiting = new AbortController();
  const reader = engine.events({ signal: waiting.signal });
  await take(reader, 3);
  const next = [reader.next(), reader.next()];
  waiting.abort(reason);
  await assert.rejects(next[0], { code: "cancelled", cause: reason });
  assert.deepEqual(await next[1], { done: true, value: undefined });
  assert.deepEqual(await reader.next(), { done: true, value: undefined });
});

onEachStore("a signal that comes after the end changes nothing", async (place) => {
  const engine = await place.open(both);
  await write(engine, "only");
  const controller = new AbortController();
  const reader = engine.events({ follow: false, signal: controller.signal });
  await take(reader, 1);
  assert.equal((await reader.next()).done, true);
  controller.abort();
  assert.equal((await reader.next()).done, true);
});

onEachStore("a slow reader has one page at hand and no more is read for it", async (place) => {
  const storage = place.storage();
  let pages = 0;
  const readLog = storage.readLog.bind(storage);
  storage.readLog = (request) => {
    pages += 1;
    return readLog(request);
  };
  const engine = await place.open({ ...both, storage });
  await write(engine, ...numbered(100));
  const reader = engine.events({ pageSize: 10 });
  await take(reader, 9);
  // What happens meanwhile is not read for it either.
  await write(engine, ...numbered(100, 100));
  await engine.state(note, "n-1");
  assert.equal(pages, 1);
  await take(reader, 1);
  assert.deepEqual(textsOf(await take(reader, 10)), numbered(10, 10));
  assert.ok(pages <= 3, `${pages} pages were read for 20 events`);
  assert.deepEqual(textsOf(await take(reader, 180)), numbered(180, 20));
});

onEachStore("readers don't wait for each other", async (place) => {
  const engine = await place.open(both);
  const readers = Array.from({ length: 20 }, (_, index) => engine.events({ pageSize: index + 1 }));
  const [slow, ...quick] = readers;
  await write(engine, ...numbered(30));
  for (const reader of quick) assert.deepEqual(textsOf(await take(reader, 30)), numbered(30));
  assert.deepEqual(textsOf(await take(slow, 30)), numbered(30));
});

onEachStore("next may be called before the last one has answered", async (place) => {
  const engine = await place.open(both);
  const reader = engine.events({ pageSize: 2 });
  const waiting = Array.from({ length: 7 }, () => reader.next());
  await write(engine, ...numbered(7));
  assert.deepEqual(textsOf((await Promise.all(waiting)).map(({ value }) => value)), numbered(7));
});

onEachStore("an event that a reader has is stored: its state can be asked for", async (place) => {
  const engine = await place.open(both);
  const reader = engine.events({ aggregates: [appointment] });
  const seen = (async () => {
    for (let count = 0; count < 20; count += 1) {
      const { value } = await reader.next();
      const { revision } = await engine.state(appointment, value.stream.id);
      assert.ok(revision >= value.revision);
    }
  })();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  for (let count = 1; count < 20; count += 1) await engine.execute(appointment, "a-1", retitling(`Title ${count}`), { issuedAt });
  await seen;
});

onEachStore("closing the engine ends its readers with an error, after what they have at hand", async (place) => {
  const engine = await place.open(both);
  await write(engine, ...numbered(3));
  const [idle, reading] = [engine.events(), engine.events()];
  await take(idle, 3);
  await take(reading, 1);
  const ended = assert.rejects(idle.next(), { code: "cancelled" });
  await engine.close();
  await ended;
  assert.deepEqual(textsOf(await take(reading, 2)), numbered(2, 1));
  await assert.rejects(reading.next(), { code: "cancelled" });
  assert.equal((await reading.next()).done, true);
  assert.throws(() => engine.events(), { code: "engine-closed" });
});
