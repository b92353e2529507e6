// States and histories: now, after so many events, as of a time, and from what is at hand.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { aggregate } from "annals";
import { appointment, booking, cancellation, confirmation, issuedAt, logOf, retitling } from "../support/clinic.mjs";
import { embeddedStores, onEachStore } from "../support/engine-stores.mjs";

const steps = [booking(), retitling("Pulse"), confirmation, cancellation];
const none = { status: "none" };

/** Runs with a clock that stands still until it is set. */
async function withClock(start, run) {
  const { now } = Date;
  let time = start;
  Date.now = () => time;
  try {
    await run((next) => (time = next));
  } finally {
    Date.now = now;
  }
}

/** An engine with one appointment, and the states it has had: that before the first event first. */
async function withHistory(place) {
  const engine = await place.open();
  const outcomes = [];
  for (const command of steps) outcomes.push(await engine.execute(appointment, "a-1", command, { issuedAt }));
  return { engine, states: [none, ...outcomes.map(({ state }) => state)], events: outcomes.flatMap(({ events }) => events) };
}

onEachStore("a state is that of the last event, and a stream without events has the initial one", async (place) => {
  const { engine, states } = await withHistory(place);
  assert.deepEqual(await engine.state(appointment, "a-1"), { state: states[4], revision: 4 });
  assert.deepEqual(await engine.state(appointment, "a-2"), { state: none, revision: 0 });
});

onEachStore("a state at a revision is what it was after so many events, in any engine", async (place) => {
  const { engine, states } = await withHistory(place);
  for (const asked of [engine, await place.open()]) {
    for (const revision of [4, 0, 2, 1, 3]) {
      assert.deepEqual(await asked.state(appointment, "a-1", { at: { revision } }), { state: states[revision], revision });
    }
  }
});

onEachStore("a revision that has not come is an error that tells the one that has", async (place) => {
  const { engine } = await withHistory(place);
  for (const [id, asked, actual] of [["a-1", 5, 4], ["a-2", 1, 0]]) {
    for (const ask of ["state", "history"]) {
      await assert.rejects(engine[ask](appointment, id, { at: { revision: asked } }), {
        code: "no-such-revision",
        details: { stream: { type: "Appointment", id }, asked, actual },
      });
    }
  }
});

onEachStore("a history is the state and every event up to it", async (place) => {
  const { engine, states, events } = await withHistory(place);
  for (const asked of [engine, await place.open()]) {
    assert.deepEqual(await asked.history(appointment, "a-1"), { state: states[4], revision: 4, events, skipped: 0 });
    const at = { revision: 2 };
    assert.deepEqual(await asked.history(appointment, "a-1", { at }), { state: states[2], revision: 2, events: events.slice(0, 2), skipped: 0 });
    assert.deepEqual(await asked.history(appointment, "a-1", { at: { revision: 0 } }), { state: none, revision: 0, events: [], skipped: 0 });
    assert.deepEqual(await asked.history(appointment, "a-2"), { state: none, revision: 0, events: [], skipped: 0 });
  }
});

onEachStore("a time means all that was recorded up to it, to the millisecond", async (place) => {
  const start = Date.parse("2026-05-01T10:00:00.000Z");
  await withClock(start, async (setTime) => {
    const engine = await place.open();
    const states = [none];
    // Two events share a millisecond.
    const times = [start, start + 10, start + 10, start + 25];
    for (const [index, command] of steps.entries()) {
      setTime(times[index]);
      states.push((await engine.execute(appointment, "a-1", command, { issuedAt })).state);
    }
    for (const [time, revision] of [
      [start - 1, 0],
      [start, 1],
      [start + 9, 1],
      [start + 10, 3],
      [start + 24, 3],
      [start + 25, 4],
      [start + 1e9, 4],
      [Date.parse("1950-01-01T00:00:00Z"), 0],
      [Date.parse("0000-01-01T00:00:00Z"), 0],
      [Date.parse("9999-12-31T23:59:59.999Z"), 4],
    ]) {
      const date = new Date(time);
      for (const asked of [date, date.toISOString(), date.toISOString().replace("Z", "+00:00")]) {
        const at = { time: asked };
        assert.deepEqual(await engine.state(appointment, "a-1", { at }), { state: states[revision], revision });
        assert.equal((await engine.history(appointment, "a-1", { at })).events.length, revision);
      }
    }
    assert.deepEqual(await engine.state(appointment, "a-2", { at: { time: new Date(start) } }), { state: none, revision: 0 });
  });
});

onEachStore("a position means the last event up to it, whoever's event is there", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-2", booking({ doctor: "8" }), { issuedAt });
  const states = [none];
  for (const command of steps) {
    states.push((await engine.execute(appointment, "a-1", command, { issuedAt })).state);
    await engine.execute(appointment, "a-2", retitling(`After ${command.type}`), { issuedAt });
  }
  const log = await logOf(engine);
  for (const asked of [engine, await place.open({ limits: { pageLimit: 2 } })]) {
    const count = { "a-1": 0, "a-2": 0, "a-3": 0 };
    for (const { position, stream } of log) {
      count[stream.id] += 1;
      for (const [id, revision] of Object.entries(count)) {
        const at = { position };
        const found = await asked.state(appointment, id, { at });
        assert.deepEqual(found, await engine.state(appointment, id, { at: { revision } }));
        if (id === "a-1") assert.deepEqual(found, { state: states[revision], revision });
        const { events, skipped: _, ...rest } = await asked.history(appointment, id, { at });
        assert.deepEqual(rest, found);
        assert.deepEqual(events, log.filter(({ stream }) => stream.id === id).slice(0, revision));
      }
    }
  }
});

onEachStore("a position that has not come, of another store, or that is none, is an error that names it", async (place) => {
  const { engine, events } = await withHistory(place);
  const beyond = events.at(-1).position.replace(/\d+$/, (digits) => Number(digits) + 1);
  const other = events.at(-1).position.replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
  for (const ask of ["state", "history"]) {
    for (const id of ["a-1", "a-2"]) {
      const at = (position) => engine[ask](appointment, id, { at: { position } });
      await assert.rejects(at(beyond), { code: "no-such-position", details: { position: beyond } });
      await assert.rejects(at(other), { code: "foreign-position", details: { position: other } });
      for (const nothing of [null, 7, "7", "", {}]) await assert.rejects(at(nothing), { code: "invalid-argument" });
    }
  }
});

onEachStore("the recorded time never goes back, whatever the clock does", async (place) => {
  const start = Date.parse("2026-05-01T10:00:00.000Z");
  await withClock(start, async (setTime) => {
    const engine = await place.open();
    await engine.execute(appointment, "a-1", booking(), { issuedAt });
    setTime(start - 3_600_000);
    await engine.execute(appointment, "a-1", confirmation, { issuedAt });
    const other = await place.open();
    await other.execute(appointment, "a-2", booking({ doctor: "8" }), { issuedAt });
    const recorded = (await logOf(engine)).map(({ recordedAt }) => recordedAt);
    assert.deepEqual(recorded, Array(3).fill("2026-05-01T10:00:00.000Z"));
  });
});

onEachStore("a state from what is at hand asks no store; without any it does", async (place) => {
  const asked = [];
  const storage = place.storage();
  const watched = new Proxy(storage, {
    get(target, name) {
      const value = target[name];
      return typeof value === "function" ? (...args) => (asked.push(name), value.apply(target, args)) : value;
    },
  });
  const engine = await place.open({ storage: watched });
  const { state } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
  asked.length = 0;
  assert.deepEqual(await engine.state(appointment, "a-1", { cached: true }), { state, revision: 1 });
  assert.deepEqual(asked, []);
  assert.deepEqual(await engine.state(appointment, "a-1"), { state, revision: 1 });
  assert.deepEqual(asked, ["load"]);
  asked.length = 0;
  assert.deepEqual(await engine.state(appointment, "a-2", { cached: true }), { state: none, revision: 0 });
  assert.deepEqual(asked, ["load"]);
});

onEachStore("a state is never older than what anybody was told before it was asked for", async (place) => {
  const [one, two] = [await place.open(), await place.open()];
  await one.execute(appointment, "a-1", booking(), { issuedAt });
  for (let round = 0; round < 20; round += 1) {
    const [writer, reader] = round % 2 === 0 ? [one, two] : [two, one];
    const { state, revision } = await writer.execute(appointment, "a-1", retitling(`Title ${round}`), { issuedAt });
    assert.deepEqual(await reader.state(appointment, "a-1"), { state, revision });
  }
});

onEachStore("streams of many pages are read in full", async (place) => {
  const sum = aggregate("Sum", {
    initial: () => ({ count: 0, sum: 0 }),
    decide: (_, { data }) => data.numbers.map((number) => ({ type: "Added", data: { number } })),
    evolve: { Added: ({ count, sum }, { data }) => ({ count: count + 1, sum: sum + data.number }) },
  });
  const numbers = Array.from({ length: 500 }, (_, index) => index);
  const writer = await place.open({ aggregates: [sum] });
  await writer.execute(sum, "s", { type: "Add", data: { numbers } });
  // Pages smaller than the stream, and a cache that keeps nothing.
  const reader = await place.open({ aggregates: [sum], limits: { pageLimit: 7, cachedStates: 1 } });
  const total = (count) => numbers.slice(0, count).reduce((sum, number) => sum + number, 0);
  for (const revision of [500, 1, 7, 8, 499, 0]) {
    const expected = { state: { count: revision, sum: total(revision) }, revision };
    assert.deepEqual(await reader.state(sum, "s", { at: { revision } }), expected);
    const { events, skipped: _, ...rest } = await reader.history(sum, "s", { at: { revision } });
    assert.deepEqual(rest, expected);
    assert.deepEqual(events.map(({ data }) => data.number), numbers.slice(0, revision));
  }
  const { state, revision } = await reader.execute(sum, "s", { type: "Add", data: { numbers: [1000] } });
  assert.deepEqual([state, revision], [{ count: 501, sum: total(500) + 1000 }, 501]);
});

/** A module whose calls are counted. */
async function counted() {
  const real = await import(new URL("./glue/annals.js", import.meta.resolve("annals/package.json")).href);
  const calls = { exchange: 0, judge: 0 };
  const counting = (name) => (...args) => {
    calls[name] += 1;
    return real[name](...args);
  };
  // Instances are known by this function: another one has an instance that is counted.
  const initSync = (options) => real.initSync(options);
  const glue = { ...real, initSync, exchange: counting("exchange"), judge: counting("judge") };
  const wasm = readFileSync(new URL(import.meta.resolve("annals/annals.wasm")));
  return { module: { glue, wasm }, calls };
}

onEachStore("states asked for together take no more calls into the module than one", async (place) => {
  const first = await place.open();
  const ids = Array.from({ length: 50 }, (_, index) => `a-${index}`);
  const given = (id, index) => first.execute(appointment, id, booking({ doctor: id, minutes: index }), { issuedAt });
  await Promise.all(ids.map(given));
  const { module, calls } = await counted();
  const ask = async (engine, asked, options) => {
    calls.exchange = 0;
    await Promise.all(asked.map((id) => engine.state(appointment, id, options)));
    return calls.exchange;
  };
  const engine = await place.open({ module });
  for (const asked of [ids.slice(0, 1), ids.slice(1)]) {
    assert.equal(await ask(engine, asked), 2, "cold: read in, load out; answer and state in");
    assert.equal(await ask(engine, asked), 2, "warm: the same, with nothing to fold");
    assert.equal(await ask(engine, asked, { cached: true }), 1, "at hand");
  }
  assert.equal(calls.judge, 0);
  // News from a server would be calls too, and come when they like.
}, embeddedStores);
