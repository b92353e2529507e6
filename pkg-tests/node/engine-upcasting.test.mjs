// What earlier releases have stored is read as the domain knows it today, and stays as it is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnnalsError, Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { projection } from "annals/projections";
import { reaction } from "annals/reactions";
import { trace } from "annals/audit";
import { logOf } from "../support/clinic.mjs";
import { onEachStore, sqliteStores } from "../support/engine-stores.mjs";
import { fill, first, forms, logs, release, skipping, today, toldOf, uuid, versions } from "../support/upcasting.mjs";

const told = toldOf(forms);
const confirm = { type: "Confirm", data: {} };
const book = (doctor) => ({ type: "Book", data: { doctor } });
const plain = ({ type, data }) => ({ type, data });

/** An engine on a store that earlier releases have filled. */
async function filled(place, events = forms, options = {}) {
  await fill(place.storage(), "a-1", events, options);
  return place.open({ aggregates: [today], ...options });
}

// --- What is read -----------------------------------------------------------------------------

onEachStore("every form that an event has had is read as one of today", async (place) => {
  const engine = await filled(place);
  assert.deepEqual(await engine.state(today, "a-1"), { state: { told }, revision: forms.length });
  const { events, skipped, ...history } = await engine.history(today, "a-1");
  assert.deepEqual([history, skipped], [{ state: { told }, revision: forms.length }, 0]);
  const places = forms.flatMap(({ told }, index) => told.map((event) => [event, versions[event.type], index + 1]));
  assert.deepEqual(events.map((event) => [plain(event), event.schemaVersion, event.revision]), places);
  assert.deepEqual(await logOf(engine), events, "the log is the same");
  assert.equal(new Set(events.map(({ eventId }) => eventId)).size, forms.length - 1, "what was split shares its id");
});

onEachStore("what is stored stays as it is, and is given so to who asks for it", async (place) => {
  const engine = await filled(place);
  await engine.history(today, "a-1");
  const stored = forms.map(({ type, version, data }) => [type, version, JSON.parse(data)]);
  for (const events of [
    (await engine.history(today, "a-1", { stored: true })).events,
    await logOf(engine, { stored: true }),
    await logOf(engine, { stored: true, aggregates: [today] }),
  ]) {
    assert.deepEqual(events.map(({ type, schemaVersion, data }) => [type, schemaVersion, data]), stored);
  }
  const moved = await logOf(engine, { stored: true, types: ["Moved"] });
  assert.deepEqual(moved.map(({ revision }) => revision), [6, 7]);
  const storage = place.storage();
  const { epoch } = await storage.open();
  const all = { after: 0, types: [], aggregateTypes: [], tags: [], correlationId: null, limit: 100 };
  const { events } = await storage.readLog({ epoch, ...all });
  assert.deepEqual(events.map(({ data }) => data), forms.map(({ data }) => data), "byte for byte");
});

onEachStore("events are stored with the version that their types have today", async (place) => {
  const engine = await filled(place);
  const { events, state } = await engine.execute(today, "a-1", confirm);
  assert.deepEqual(state.told, [...told, plain(events[0])]);
  await engine.execute(today, "a-2", book("9"));
  const log = await logOf(engine, { stored: true });
  assert.deepEqual(log.slice(-2).map(({ type, schemaVersion }) => [type, schemaVersion]), [["Confirmed", 1], ["Booked", 3]]);
  const [outcome] = (await engine.history(today, "a-2")).events;
  assert.deepEqual([outcome.schemaVersion, outcome.data.minutes], [3, 15]);
});

onEachStore("the state is the same for every cut into pages, and from a snapshot at every cut", async (place) => {
  const policy = { version: 1 };
  const keeping = release({ snapshots: policy });
  let stream = 0;
  for (const log of logs(4)) {
    const id = `a-${(stream += 1)}`;
    await fill(place.storage(), id, log);
    for (let pageLimit = 1; pageLimit <= log.length; pageLimit += 1) {
      const engine = await place.open({ aggregates: [today], limits: { pageLimit } });
      assert.deepEqual((await engine.state(today, id)).state.told, toldOf(log), `in pages of ${pageLimit}`);
      for (const revision of [1, pageLimit]) {
        const { state } = await engine.state(today, id, { at: { revision } });
        assert.deepEqual(state.told, toldOf(log.slice(0, revision)));
      }
      await engine.close();
    }
    for (let cut = 1; cut < log.length; cut += 2) {
      const other = `${id} cut at ${cut}`;
      await fill(place.storage(), other, log.slice(0, cut));
      const engine = await place.open({ aggregates: [keeping] });
      assert.deepEqual(await engine.snapshot(keeping, other), { revision: cut });
      await engine.close();
      await fill(place.storage(), other, log.slice(cut));
      const cold = await place.open({ aggregates: [keeping], onReport: (report) => assert.fail(report.reason) });
      assert.deepEqual((await cold.state(keeping, other)).state.told, toldOf(log));
      await cold.close();
    }
  }
}, ["memory", ...sqliteStores]);

onEachStore("a first outcome that is read again has the events of today", async (place) => {
  const commandId = uuid();
  const old = await place.open({ aggregates: [first] });
  const before = await old.execute(first, "a-1", book("7"), { commandId });
  assert.equal(before.events[0].schemaVersion, 1);
  const split = release({
    events: {
      Booked: [{ becomes: ({ doctor }) => [{ type: "Booked", data: { doctor, room: "?", minutes: 1 } }, { type: "Confirmed", data: {} }] }],
      Confirmed: [],
      Rescheduled: [],
    },
  });
  const engine = await place.open({ aggregates: [split] });
  const again = await engine.execute(split, "a-1", book("7"), { commandId });
  assert.equal(again.duplicate, true);
  assert.deepEqual(again.events.map(plain), again.state.told);
  assert.deepEqual(again.events.map(({ type, schemaVersion }) => [type, schemaVersion]), [["Booked", 2], ["Confirmed", 1]]);
});

// --- The log ----------------------------------------------------------------------------------

onEachStore("types of the log are those of today, whatever their events were called", async (place) => {
  const engine = await filled(place);
  for (const pageSize of [1, 3, 500]) {
    for (const type of Object.keys(versions)) {
      const found = await logOf(engine, { types: [type], pageSize, aggregates: [today] });
      assert.deepEqual(found.map(plain), told.filter((event) => event.type === type), `${type} in pages of ${pageSize}`);
    }
    assert.deepEqual(await logOf(engine, { types: ["Viewed", "Moved"], pageSize }), [], "no event is called so today");
    assert.deepEqual((await logOf(engine, { pageSize })).map(plain), told);
  }
});

onEachStore("the log goes on where it was left, and events that are nothing today are passed by", async (place) => {
  const viewed = forms.at(-1);
  const engine = await filled(place, [viewed, forms[7], viewed, viewed]);
  const reading = engine.events({ pageSize: 1 });
  const seen = [(await reading.next()).value, (await reading.next()).value];
  assert.deepEqual(seen.map(plain), forms[7].told);
  assert.equal(seen[0].position, seen[1].position);
  const next = reading.next();
  await engine.execute(today, "a-1", confirm);
  assert.deepEqual(plain((await next).value), { type: "Confirmed", data: {} });
  await reading.return();
  const [after] = await logOf(engine, { after: seen[0].position });
  assert.equal(after.revision, 5);
});

onEachStore("a chain of causes has what is stored", async (place) => {
  const engine = await filled(place, [forms.at(-1), forms[7]]);
  const [{ correlationId, commandId }] = await logOf(engine);
  const { effects } = await trace(engine, { eventId: "none", commandId, causationId: commandId, correlationId });
  assert.deepEqual(effects, []);
  const { causes } = await trace(engine, { eventId: "none", commandId: "none", causationId: commandId, correlationId });
  assert.deepEqual(causes.map(({ type }) => type), ["Viewed", "TakenAndConfirmed"]);
});

// --- Views ------------------------------------------------------------------------------------

for (const kind of ["async", "inline", "live"]) {
  onEachStore(`a view (${kind}) is made of the events of today`, async (place) => {
    await fill(place.storage(), "a-1", forms);
    const slots = projection("slots", {
      version: 1,
      kind,
      on: {
        Rescheduled: (view, { data, revision }) => view.set(`rescheduled ${revision}`, data),
        Confirmed: (view, { data, revision }) => view.set(`confirmed ${revision}`, data),
      },
    });
    const engine = await place.open({ aggregates: [today], projections: [slots] });
    const { documents } = await engine.view(slots).list({ latest: true });
    const expected = forms.flatMap(({ told }, index) =>
      told.flatMap(({ type, data }) => (type === "Booked" ? [] : [[`${type.toLowerCase()} ${index + 1}`, data]])),
    );
    assert.deepEqual(documents.map(({ key, document }) => [key, document]).sort(), expected.sort());
  });
}

onEachStore("a view stops at an event that can't be read", async (place) => {
  const engine = await filled(place, [forms[3], { type: "Moved", version: 3, data: "{}" }, forms[3]]);
  await engine.close();
  const counts = projection("counts", {
    version: 1,
    on: { Confirmed: (view) => view.update("all", (count = 0) => count + 1), Rescheduled: () => undefined },
  });
  const reader = await place.open({ aggregates: [today], projections: [counts] });
  await assert.rejects(reader.view(counts).get("all", { latest: true }), /Moved.*version 3/);
  const { stopped } = await reader.view(counts).status();
  assert.match(stopped.reason, /version 3 is later than this release knows/);
});

// --- Reactions --------------------------------------------------------------------------------

/** Runs a reaction over a store until it has come to its end. */
async function reacted(place, events, on, aggregate = today) {
  await fill(place.storage(), "a-1", events);
  const mail = reaction("mail", { startAt: "beginning", retries: { attempts: 2, firstPause: 1, maxPause: 1 }, on });
  const engine = await place.open({ aggregates: [aggregate], reactions: [mail] });
  for (;;) {
    const { behind, parked } = await engine.reaction(mail).status();
    if (behind === 0 && parked.every(({ retryAt }) => retryAt === null)) return { engine, parked };
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

onEachStore("a reaction is given the events of today, whatever they were called", async (place) => {
  const seen = [];
  const note = (event, { key }) => void seen.push({ event, key });
  const { engine, parked } = await reacted(place, forms, { Rescheduled: note, Confirmed: note });
  assert.deepEqual(parked, []);
  const log = await logOf(engine, { types: ["Rescheduled", "Confirmed"] });
  assert.deepEqual(seen.map(({ event }) => event), log);
  // The second part of what was split has a key of its own.
  const keys = log.map(({ eventId, revision }) => (revision === 8 ? `mail/${eventId}/1` : `mail/${eventId}`));
  assert.deepEqual(seen.map(({ key }) => key), keys);
});

onEachStore("the parts of a split event are handled in order, and tried again together", async (place) => {
  const seen = [];
  const { parked } = await reacted(place, [forms[7]], {
    async Booked(_, { attempt }) {
      await undefined;
      seen.push(`Booked ${attempt}`);
    },
    Confirmed(_, { attempt }) {
      seen.push(`Confirmed ${attempt}`);
      if (attempt === 1) throw new Error("no route");
    },
  });
  assert.deepEqual(parked, []);
  assert.deepEqual(seen, ["Booked 1", "Confirmed 1", "Booked 2", "Confirmed 2"]);
});

onEachStore("an event that a reaction can't read is parked with the reason", async (place) => {
  const seen = [];
  const later = { type: "Confirmed", version: 2, data: "{}" };
  const { parked } = await reacted(place, [forms[3], later], { Confirmed: ({ revision }) => void seen.push(revision) });
  assert.deepEqual(seen, [1]);
  assert.equal(parked.length, 1);
  assert.equal(
    parked[0].error,
    "event 2 of Appointment/a-1 can't be read: Confirmed: version 2 is later than this release knows",
  );
});

// --- What can't be read -----------------------------------------------------------------------

async function unreadable(place, events, aggregate = today) {
  const engine = await filled(place, events, { aggregates: [aggregate] });
  const failures = [];
  for (const ask of [
    () => engine.state(aggregate, "a-1"),
    () => engine.history(aggregate, "a-1"),
    () => engine.execute(aggregate, "a-1", confirm),
    () => engine.attempt(aggregate, "a-1", confirm),
    () => logOf(engine),
  ]) {
    await assert.rejects(ask(), (error) => {
      assert.ok(AnnalsError.is(error, "unreadable-event"), error.stack);
      assert.match(error.message, new RegExp(`^event ${error.details.revision} of Appointment/a-1 can't be read: `));
      const { details } = error;
      failures.push({ ...details, reason: error.message.replace(/^.*? can't be read: /, "") });
      return true;
    });
  }
  for (const failure of failures) assert.deepEqual(failure, failures[0]);
  assert.equal((await logOf(engine, { stored: true })).length, events.length, "nothing was stored, and all is there");
  const { stream, ...rest } = failures[0];
  assert.deepEqual(stream, { type: "Appointment", id: "a-1" });
  return rest;
}

onEachStore("an event of a later version is never guessed", async (place) => {
  for (const [aggregate, type, version] of [[today, "Booked", 4], [today, "Moved", 3], [skipping, "Confirmed", 2]]) {
    assert.deepEqual(await unreadable(inMemory(), [forms[3], { type, version, data: "{}" }], aggregate), {
      revision: 2,
      problem: "newer-version",
      reason: `${type}: version ${version} is later than this release knows`,
    });
  }
  // Nobody had thought of versions.
  const { problem, revision } = await unreadable(place, [forms[3], { type: "Confirmed", version: 2, data: "{}" }], first);
  assert.deepEqual([problem, revision], ["newer-version", 2]);
});

onEachStore("an event of an unknown type is never guessed", async (place) => {
  assert.deepEqual(await unreadable(place, [forms[0], { type: "Tagged", version: 1, data: "{}" }]), {
    revision: 2,
    problem: "unknown-type",
    reason: "Tagged: unknown type",
  });
});

for (const [what, upcasters, reason] of [
  ["throws", [() => { throw new Error("what is this?"); }], "Old: version 1: what is this?"],
  ["returns nothing", [() => undefined, (data) => data], "Old: version 1: an upcaster returned undefined"],
  ["returns a promise", [async () => ({}), (data) => data], "Old: version 1: an upcaster returned a promise, and must return at once"],
  ["becomes no list", [{ becomes: () => ({}) }], "Old: version 1: an upcaster must return events: objects with type and data"],
  ["becomes what is no event", [{ becomes: () => [{}] }], "Old: version 1: an upcaster must return events: objects with type and data"],
  ["becomes an event of an unknown type", [{ becomes: () => [{ type: "Lost", data: {} }] }], "Lost: unknown type"],
  ["becomes an event of a later version", [{ becomes: () => [{ type: "Old", version: 3, data: {} }] }], "Old: version 3 is later than this release knows"],
]) {
  test(`an upcaster that ${what} is an error with type and version`, async () => {
    const broken = release({ events: { Old: upcasters, Booked: [], Confirmed: [], Rescheduled: [] }, retired: undefined });
    const found = await unreadable(inMemory(), [{ type: "Confirmed", version: 1, data: "{}" }, { type: "Old", version: 1, data: "{}" }], broken);
    assert.deepEqual([found.revision, found.reason], [2, reason]);
  });
}

test("upcasters that go in a circle come to an end", async () => {
  const storage = memoryStorage();
  const circle = release({
    retired: {
      A: [{ becomes: (data) => [{ type: "B", version: 1, data }] }],
      B: [{ becomes: (data) => [{ type: "A", version: 1, data }, { type: "B", version: 1, data }] }],
    },
  });
  await fill(storage, "a-1", [{ type: "A", version: 1, data: "{}" }]);
  const engine = await Engine.open({ storage, aggregates: [circle] });
  await assert.rejects(engine.state(circle, "a-1"), { code: "unreadable-event" });
  await engine.close();
});

test("a decision gives events of the types that are listed, or fails", async () => {
  const storage = memoryStorage();
  for (const type of ["Lost", "Moved", "toString"]) {
    const wrong = release({ decide: () => [{ type, data: {} }] });
    const engine = await Engine.open({ storage, aggregates: [wrong] });
    await assert.rejects(engine.execute(wrong, "a-1", confirm), (error) => {
      assert.equal(error.code, "domain-failed");
      assert.match(error.message, new RegExp(`decide returned ${type}, which is not among the events of Appointment`));
      return true;
    });
    assert.deepEqual(await logOf(engine, { stored: true }), []);
    await engine.close();
  }
});

test("a definition that can't be applied is refused, and says of which type", () => {
  const step = (data) => data;
  const events = { Booked: [], Confirmed: [] };
  for (const [changed, message] of [
    [{ events: { Booked: step } }, /Appointment: expected one list of upcasters of Booked/],
    [{ events: { Booked: [{}] } }, /Appointment: expected one list of upcasters of Booked/],
    [{ events: { Booked: [null] } }, /Appointment: expected one list of upcasters of Booked/],
    [{ events, retired: { Booked: [{ becomes: step }] } }, /one list of upcasters of Booked/],
    [{ events, retired: { Moved: [] } }, /one list of upcasters of Moved, the last of which says what it becomes/],
    [{ events, retired: { Moved: [{ becomes: step }, step] } }, /one list of upcasters of Moved, the last of which says what it becomes/],
  ]) {
    assert.throws(() => release({ retired: undefined, ...changed }), { code: "invalid-argument", message });
  }
});

// --- What is passed by ------------------------------------------------------------------------

onEachStore("unknown types are passed by if the aggregate says so, and the number is told", async (place) => {
  const tagged = (version) => ({ type: "Tagged", version, data: '{"colour":"red"}' });
  const events = [forms[0], tagged(1), ...forms.slice(1), tagged(9)];
  const reports = [];
  const engine = await filled(place, events, { aggregates: [skipping], onReport: (report) => reports.push(report) });
  assert.deepEqual(await engine.state(skipping, "a-1"), { state: { told }, revision: events.length });
  const stream = { type: "Appointment", id: "a-1" };
  const report = { kind: "events-skipped", stream, revision: events.length, type: "Tagged", count: 2 };
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(reports.splice(0), [report]);
  const { events: history, skipped, revision } = await engine.history(skipping, "a-1");
  assert.deepEqual([history.map(plain), skipped, revision], [told, 2, events.length]);
  const { skipped: early } = await engine.history(skipping, "a-1", { at: { revision: 3 } });
  assert.equal(early, 1);
  assert.equal((await engine.execute(skipping, "a-1", confirm)).revision, events.length + 1);
  reports.length = 0;
  assert.deepEqual((await logOf(engine)).map(plain), [...told, { type: "Confirmed", data: {} }]);
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(reports.map(({ revision, count }) => [revision, count]), [[2, 1], [events.length, 1]]);
});

// --- Snapshots --------------------------------------------------------------------------------

onEachStore("states that rest on other upcasters are not used", async (place) => {
  const { events } = today.functions;
  await fill(place.storage(), "a-1", [forms[0], forms[3]]);
  for (const change of [
    { events: { ...events, Booked: [(data) => data] }, retired: undefined },
    {},
    { events: { ...events, Confirmed: [() => ({ by: "phone" })] } },
    { retired: undefined },
    { unknownEvents: "skip" },
    { unknownEvents: "skip", events: { ...events, Tagged: [] } },
  ]) {
    let folded = 0;
    const evolve = (state, event) => ((folded += 1), today.functions.evolve(state, event));
    const one = release({ ...change, evolve, snapshots: { version: 1 } });
    for (const [events, why] of [[2, "that of another release is not used"], [0, "its own is"]]) {
      const engine = await place.open({ aggregates: [one] });
      folded = 0;
      assert.deepEqual(await engine.snapshot(one, "a-1"), { revision: 2 });
      assert.equal(folded, events, why);
      await engine.close();
    }
  }
});

test("a new type alone leaves snapshots as they are, unless such events were passed by", async () => {
  const storage = memoryStorage();
  const events = { Booked: [], Confirmed: [], Rescheduled: [] };
  const counted = (change) => {
    const folded = { events: 0 };
    const evolve = (state) => ((folded.events += 1), state);
    return { folded, definition: release({ snapshots: { version: 1 }, evolve, events, retired: undefined, ...change }) };
  };
  await fill(storage, "a-1", [forms[3], { type: "Tagged", version: 1, data: "{}" }]);
  await fill(storage, "a-2", [forms[3]]);
  for (const [id, change, expected] of [
    ["a-2", {}, [1, 0]],
    ["a-1", { unknownEvents: "skip" }, [1, 2]],
  ]) {
    const before = counted(change);
    const after = counted({ ...change, events: { ...events, Tagged: [] } });
    const found = [];
    for (const { folded, definition } of [before, after]) {
      const engine = await Engine.open({ storage, aggregates: [definition] });
      await engine.snapshot(definition, id);
      await engine.close();
      found.push(folded.events);
    }
    assert.deepEqual(found, expected, id);
  }
});

// --- Events of others -------------------------------------------------------------------------

async function others(place, reads, events = forms, tags = ["7"]) {
  await fill(place.storage(), "a-1", events, { tags });
  const asking = release({ reads: () => reads });
  const engine = await place.open({ aggregates: [asking] });
  return { engine, asking, attempt: (id = "b-1") => engine.attempt(asking, id, confirm) };
}

onEachStore("events of others are read as those of today", async (place) => {
  const { attempt } = await others(place, ["7"]);
  const { refusal } = await attempt();
  const stream = { type: "Appointment", id: "a-1" };
  assert.deepEqual(refusal.details.others.map(plain), told);
  for (const other of refusal.details.others) assert.deepEqual(other.stream, stream);
});

onEachStore("a query that names types finds those that were called otherwise", async (place) => {
  const { engine, asking, attempt } = await others(place, [{ types: ["Rescheduled", "Confirmed"], tags: ["7"] }]);
  const { refusal } = await attempt();
  assert.deepEqual(refusal.details.others.map(plain), told.filter(({ type }) => type !== "Booked"));
  assert.equal((await engine.history(asking, "b-1")).revision, 0);
});

onEachStore("what is not asked for is not in the way", async (place) => {
  const { attempt } = await others(place, [{ types: ["Confirmed"], tags: ["7"] }], [forms[0], forms[5], forms.at(-1)]);
  assert.equal((await attempt()).ok, true);
});

onEachStore("a decision does not rest on what can't be read", async (place) => {
  const broken = { type: "Booked", version: 4, data: "{}" };
  const { engine, attempt } = await others(place, ["7"], [forms[3], broken]);
  for (const _ of [1, 2]) {
    await assert.rejects(attempt(), (error) => {
      assert.ok(AnnalsError.is(error, "unreadable-event"));
      const stream = { type: "Appointment", id: "a-1" };
      assert.deepEqual(error.details, { stream, revision: 2, problem: "newer-version" });
      return true;
    });
  }
  assert.equal((await logOf(engine, { stored: true })).length, 2);
});

onEachStore("events of aggregates that the engine does not know are as they are stored", async (place) => {
  await fill(place.storage(), "p-1", [{ type: "Paid", version: 5, data: '{"amount":1}' }], { aggregateType: "Invoice", tags: ["7"] });
  const { attempt, engine } = await others(place, ["7"], [forms[0]]);
  const { refusal } = await attempt();
  const [other] = refusal.details.others;
  assert.deepEqual([plain(other), other.stream], [{ type: "Paid", data: { amount: 1 } }, { type: "Invoice", id: "p-1" }]);
  const [paid, booked] = await logOf(engine);
  assert.deepEqual([paid.schemaVersion, booked.schemaVersion], [5, 3]);
});

/** A store like those of `onEachStore`. */
function inMemory() {
  const storage = memoryStorage();
  return { storage: () => storage, open: (options) => Engine.open({ storage, ...options }) };
}
