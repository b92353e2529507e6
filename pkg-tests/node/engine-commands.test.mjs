// What comes of a command: its outcome, a refusal, or an error, and what is stored.

import assert from "node:assert/strict";
import { AnnalsError, RefusedError, aggregate } from "annals";
import { appointment, at, booking, cancellation, checkLog, confirmation, issuedAt, logOf, retitling } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const id = "00000000-0000-4000-8000-000000000001";
const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

onEachStore("an outcome tells the events, the state, the revision and what it survives", async (place) => {
  const engine = await place.open();
  const before = Date.now();
  const outcome = await engine.execute(appointment, "a-1", booking(), { commandId: id, issuedAt });
  const [event] = outcome.events;
  const data = { ...booking().data, comment: "" };
  assert.deepEqual(outcome, {
    commandId: id,
    events: [
      {
        type: "AppointmentBooked",
        data,
        position: event.position,
        stream: { type: "Appointment", id: "a-1" },
        revision: 1,
        eventId: event.eventId,
        schemaVersion: 1,
        tags: ["doctor:7/2026-11-23", "room:of-7/2026-11-23"],
        recordedAt: event.recordedAt,
        issuedAt,
        commandId: id,
        correlationId: id,
        causationId: null,
        actor: null,
        metadata: null,
      },
    ],
    state: { status: "booked", ...data },
    revision: 1,
    position: event.position,
    duplicate: false,
    durability: place.durability,
    behind: [],
  });
  assert.match(event.recordedAt, time);
  assert.ok(Date.parse(event.recordedAt) >= before && Date.parse(event.recordedAt) <= Date.now());
  assert.deepEqual(await logOf(engine), outcome.events);
});

onEachStore("what is said about a command comes back with each of its events", async (place) => {
  const engine = await place.open();
  const said = {
    issuedAt: new Date(issuedAt),
    actor: "reception 😀",
    correlationId: "request-7",
    causationId: "event-6",
    metadata: { ip: "::1", list: [1, { deep: "שלום" }], nothing: null },
  };
  const { events } = await engine.execute(appointment, "a-1", booking(), said);
  const stored = await logOf(engine);
  for (const event of [events[0], stored[0]]) {
    const { actor, correlationId, causationId, metadata } = event;
    assert.deepEqual({ issuedAt: new Date(event.issuedAt), actor, correlationId, causationId, metadata }, said);
  }
});

onEachStore("a command without a time was given now, and without an id gets one", async (place) => {
  const engine = await place.open();
  const before = Date.now();
  const data = { ...booking().data, start: "2999-01-01T09:00:00.000Z", end: "2999-01-01T09:30:00.000Z" };
  const { commandId, events } = await engine.execute(appointment, "a-1", { type: "BookAppointment", data });
  assert.match(commandId, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const given = Date.parse(events[0].issuedAt);
  assert.ok(given >= before && given <= Date.now());
});

onEachStore("a refusal rejects with the domain's code and details, or is a result of attempt", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const wanted = [appointment, "a-2", booking({ minutes: 545 }), { issuedAt }];
  const refusal = { code: "doctor-taken", details: { by: "a-1", start: at(540), end: at(550) } };
  await assert.rejects(engine.execute(...wanted), (error) => {
    assert.ok(error instanceof RefusedError && error instanceof AnnalsError && AnnalsError.is(error, "refused"));
    assert.deepEqual([error.code, error.details, error.message], ["refused", refusal, "refused: doctor-taken"]);
    return true;
  });
  assert.deepEqual(await engine.attempt(...wanted), { ok: false, refusal });
  const { ok, revision } = await engine.attempt(appointment, "a-2", booking({ minutes: 550 }), { issuedAt });
  assert.deepEqual([ok, revision], [true, 1]);
  assert.equal((await logOf(engine)).length, 2);
});

onEachStore("attempt rejects with what is no refusal", async (place) => {
  const engine = await place.open();
  const attempt = engine.attempt(appointment, "a-1", booking(), { issuedAt, expectedRevision: 3 });
  await assert.rejects(attempt, { code: "wrong-revision" });
});

onEachStore("a decision of no events changes nothing and says so", async (place) => {
  const engine = await place.open();
  const { state } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const outcome = await engine.execute(appointment, "a-1", retitling(state.title), { issuedAt, commandId: id });
  const { durability, ...rest } = outcome;
  assert.deepEqual(rest, { commandId: id, events: [], state, revision: 1, position: null, duplicate: false, behind: [] });
  assert.equal((await logOf(engine)).length, 1);
  // Nothing was committed, so the id is as good as new.
  const { duplicate, revision } = await engine.execute(appointment, "a-1", retitling("Pulse"), { issuedAt, commandId: id });
  assert.deepEqual([duplicate, revision], [false, 2]);
});

onEachStore("a decision of several events is one commit: all in order, with one time", async (place) => {
  const visit = aggregate("Visit", {
    initial: () => ({ steps: [] }),
    decide: (_, { data }) => data.steps.map((step) => ({ type: "StepTaken", data: { step } })),
    evolve: { StepTaken: ({ steps }, { data }) => ({ steps: [...steps, data.step] }) },
  });
  const engine = await place.open({ aggregates: [visit] });
  const command = { type: "Take", data: { steps: ["in", "wait", "out"] } };
  const { events, state, revision, position } = await engine.execute(visit, "v-1", command);
  assert.deepEqual([state, revision, position], [{ steps: ["in", "wait", "out"] }, 3, events[2].position]);
  assert.deepEqual(events.map((event) => [event.revision, event.data.step]), [[1, "in"], [2, "wait"], [3, "out"]]);
  assert.equal(new Set(events.map(({ recordedAt }) => recordedAt)).size, 1);
  assert.equal(new Set(events.map(({ eventId }) => eventId)).size, 3);
  assert.deepEqual(await logOf(engine), events);
});

onEachStore("a decision may have thousands of events", async (place) => {
  const count = aggregate("Count", {
    initial: () => 0,
    decide: (_, { data }) => Array.from({ length: data.by }, (_, n) => ({ type: "Counted", data: { n } })),
    evolve: { Counted: (sum) => sum + 1 },
    tags: (event) => [`n:${event.data.n % 10}`, "all"],
  });
  const engine = await place.open({ aggregates: [count] });
  const { state, revision, events } = await engine.execute(count, "c", { type: "Count", data: { by: 5000 } });
  assert.deepEqual([state, revision, events.length], [5000, 5000, 5000]);
  assert.equal((await logOf(engine, { tags: ["n:7"] })).length, 500);
});

onEachStore("an event's id follows from the command's id and the event's place in it", async (place) => {
  const pair = aggregate("Pair", {
    initial: () => null,
    decide: () => [{ type: "One", data: {} }, { type: "Two", data: {} }],
    evolve: { One: () => null, Two: () => null },
  });
  const engine = await place.open({ aggregates: [pair] });
  const { events } = await engine.execute(pair, "p", { type: "Make", data: {} }, { commandId: id });
  // As stores have them.
  const expected = ["a326fd31-e6ae-8b17-b65f-758b95bb2f7c", "dea134fa-f33b-8d3f-bc29-430ba1a67e76"];
  assert.deepEqual(events.map(({ eventId }) => eventId), expected);
});

const expectations = [
  { expects: "any", on: [0, 2], not: [] },
  { expects: "no-stream", on: [0], not: [2] },
  { expects: "stream-exists", on: [2], not: [0] },
  { expects: 2, on: [2], not: [0, 3] },
  { expects: 0, on: [0], not: [2] },
];

for (const { expects, on, not } of expectations) {
  onEachStore(`expected revision ${JSON.stringify(expects)}: others are refused with the one found`, async (place) => {
    const engine = await place.open();
    const streamAt = async (revision) => {
      const id = `at-${revision}`;
      const steps = [booking({ doctor: String(revision) }), confirmation, retitling("Pulse")];
      for (const command of steps.slice(0, revision)) await engine.execute(appointment, id, command, { issuedAt });
      return id;
    };
    const given = (revision) => (revision === 0 ? booking({ doctor: "0" }) : retitling("Knee"));
    for (const revision of not) {
      const id = await streamAt(revision);
      const before = await logOf(engine);
      const execution = engine.execute(appointment, id, given(revision), { issuedAt, expectedRevision: expects });
      await assert.rejects(execution, (error) => {
        assert.deepEqual([error.code, error.details], ["wrong-revision", { stream: { type: "Appointment", id }, actual: revision }]);
        return true;
      });
      assert.deepEqual(await logOf(engine), before);
    }
    for (const revision of on) {
      const options = { issuedAt, expectedRevision: expects };
      const outcome = await engine.execute(appointment, await streamAt(revision), given(revision), options);
      assert.equal(outcome.revision, revision + 1);
    }
  });
}

onEachStore("an expected revision is compared before the domain is asked", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const again = engine.execute(appointment, "a-1", booking(), { issuedAt, expectedRevision: "no-stream" });
  await assert.rejects(again, { code: "wrong-revision", details: { stream: { type: "Appointment", id: "a-1" }, actual: 1 } });
});

onEachStore("hundreds of commands for one stream in one tick are done one after the other", async (place) => {
  const engine = await place.open();
  const given = [booking(), ...Array.from({ length: 399 }, (_, index) => retitling(`Title ${index}`))];
  const outcomes = await Promise.all(given.map((command) => engine.execute(appointment, "a-1", command, { issuedAt })));
  assert.deepEqual(outcomes.map(({ revision }) => revision), given.map((_, index) => index + 1));
  assert.deepEqual(outcomes.slice(1).map(({ state }) => state.title), given.slice(1).map(({ data }) => data.title));
  const { state, revision, events } = await engine.history(appointment, "a-1");
  assert.deepEqual([revision, state.title], [400, "Title 398"]);
  assert.deepEqual(events.map(({ commandId }) => commandId), outcomes.map(({ commandId }) => commandId));
});

onEachStore("thousands of commands for as many streams in one tick are all done", async (place) => {
  const engine = await place.open();
  const given = Array.from({ length: 2000 }, (_, index) => booking({ doctor: `d-${index}` }));
  const outcomes = await Promise.all(given.map((command, index) => engine.execute(appointment, `a-${index}`, command, { issuedAt })));
  assert.ok(outcomes.every(({ revision }) => revision === 1));
  assert.equal(checkLog(await logOf(engine)).size, 2000);
});

onEachStore("a command to which others are faster each time ends as contended, with nothing stored", async (place) => {
  const rival = await place.open();
  await rival.execute(appointment, "a-1", booking(), { issuedAt });
  let [racing, lost] = [true, 0];
  const storage = place.storage();
  const append = async (...args) => {
    if (racing) {
      lost += 1;
      await rival.execute(appointment, "a-1", retitling(`Title ${lost}`), { issuedAt });
    }
    return storage.append(...args);
  };
  const contested = new Proxy(storage, {
    get: (_, name) => (name === "append" ? append : storage[name].bind(storage)),
  });
  const engine = await place.open({ storage: contested });
  const given = [appointment, "a-1", confirmation, { issuedAt, commandId: id }];
  await assert.rejects(engine.execute(...given), (error) => {
    assert.deepEqual([error.code, error.details], ["contended", { stream: { type: "Appointment", id: "a-1" }, attempts: lost }]);
    return true;
  });
  const log = await logOf(rival);
  assert.deepEqual(log.map(({ type }) => type), ["AppointmentBooked", ...Array(lost).fill("AppointmentUpdated")]);
  // It may be given again, and counts as new.
  racing = false;
  const { duplicate, revision } = await engine.execute(...given);
  assert.deepEqual([duplicate, revision], [false, log.length + 1]);
}, ["memory"]);

onEachStore("a refusal is not decided on what was at hand when others were faster", async (place) => {
  const [one, two] = [await place.open(), await place.open()];
  await one.execute(appointment, "a-1", booking(), { issuedAt });
  await two.execute(appointment, "a-1", cancellation, { issuedAt });
  // For the first engine the appointment is booked, as far as it has seen.
  assert.deepEqual(await one.attempt(appointment, "a-1", confirmation, { issuedAt }), {
    ok: false,
    refusal: { code: "already-cancelled", details: {} },
  });
  const free = await one.execute(appointment, "a-2", booking(), { issuedAt });
  assert.equal(free.revision, 1);
});

onEachStore("states given out are frozen all through, and what is done to a command later is not seen", async (place) => {
  const box = aggregate("Box", {
    initial: () => ({ items: [] }),
    decide: (_, { data }) => [{ type: "Filled", data }],
    evolve: { Filled: ({ items }, { data }) => ({ items: [...items, data.item] }) },
  });
  const engine = await place.open({ aggregates: [box] });
  const item = { name: "pen", parts: ["cap"] };
  const filling = engine.execute(box, "b", { type: "Fill", data: { item } });
  item.parts.push("later");
  const { state } = await filling;
  item.name = "pencil";
  assert.ok(!Object.isFrozen(item));
  for (const { state: found } of [{ state }, await engine.state(box, "b"), await engine.history(box, "b")]) {
    assert.deepEqual(found, { items: [{ name: "pen", parts: ["cap"] }] });
    for (const part of [found, found.items, found.items[0], found.items[0].parts]) assert.ok(Object.isFrozen(part));
  }
  assert.ok(Object.isFrozen((await engine.state(box, "none")).state.items));
});

const names = [
  "😀👩‍⚕️",
  "مرحبا \u202e txet",
  "__proto__",
  "constructor",
  `'; DROP TABLE events; -- "\`\\`,
  "a/b:c,d|e f",
  "%_*?",
  "0",
  "null",
  " ",
  "é",
  "e\u0301",
  "x".repeat(1000),
  `${"x".repeat(999)}y`,
  "字".repeat(341),
];

onEachStore("any text may be an id, an actor or a tag, and two texts are never the same", async (place) => {
  const note = aggregate("Note’s \"type\"", {
    initial: () => [],
    decide: (_, { data }) => [{ type: "Noted: ✓", data }],
    evolve: { "Noted: ✓": (texts, { data }) => [...texts, data.text] },
    tags: ({ data }) => [data.text],
  });
  const engine = await place.open({ aggregates: [note] });
  const noted = names.map((text) => engine.execute(note, text, { type: "✎", data: { text } }, { actor: text, correlationId: text }));
  for (const { revision } of await Promise.all(noted)) assert.equal(revision, 1);
  for (const text of names) {
    assert.deepEqual(await engine.state(note, text), { state: [text], revision: 1 });
    const [event, ...others] = await logOf(engine, { tags: [text] });
    assert.deepEqual([event.stream.id, event.actor, event.correlationId, event.data, others], [text, text, text, { text }, []]);
  }
});

onEachStore("a name that is empty, too long or unprintable is refused, and nothing is stored", async (place) => {
  const engine = await place.open();
  const bad = ["", "a\nb", "a\u0000b", "\u007f", "\u0085", "x".repeat(1025), "字".repeat(342), "\ud800", "a\udc00b"];
  for (const text of bad) {
    const options = (more) => ({ issuedAt, ...more });
    for (const attempt of [
      () => engine.execute(appointment, text, booking(), options()),
      () => engine.execute(appointment, "a-1", { type: text, data: {} }, options()),
      () => engine.execute(appointment, "a-1", booking(), options({ actor: text })),
      () => engine.execute(appointment, "a-1", booking(), options({ correlationId: text })),
      () => engine.execute(appointment, "a-1", booking(), options({ causationId: text })),
      () => engine.state(appointment, text),
      () => engine.history(appointment, text),
    ]) {
      await assert.rejects(attempt, { code: "invalid-name" }, `${attempt} with ${JSON.stringify(text)}`);
    }
  }
  assert.deepEqual(await logOf(engine), []);
});

onEachStore("an argument that can't be used is refused with a word about it, and nothing is stored", async (place) => {
  const engine = await place.open();
  const given = (options, command = booking(), id = "a-1") => engine.execute(appointment, id, command, { issuedAt, ...options });
  for (const [message, attempt] of [
    [/string as id, found number/, () => given({}, booking(), 7)],
    [/string as actor/, () => given({ actor: { name: "x" } })],
    [/a command/, () => given({}, null)],
    [/a command/, () => given({}, { data: {} })],
    [/a command/, () => given({}, "BookAppointment")],
    [/a UUID as commandId, found "7"/, () => given({ commandId: "7" })],
    [/expectedRevision, found -1/, () => given({ expectedRevision: -1 })],
    [/expectedRevision, found 1.5/, () => given({ expectedRevision: 1.5 })],
    [/found "none"/, () => given({ expectedRevision: "none" })],
    [/a time/, () => given({ issuedAt: "tomorrow" })],
    [/a time/, () => given({ issuedAt: new Date(NaN) })],
    [/a time/, () => given({ issuedAt: Date.now() })],
    [/a time/, () => given({ issuedAt: null })],
    [/a time/, () => given({ issuedAt: new Date(8.64e15) })],
    [/a time/, () => engine.state(appointment, "a-1", { at: issuedAt })],
    [/a time/, () => engine.state(appointment, "a-1", { at: { time: "+010000-01-01T00:00:00Z" } })],
    [/a revision, found 0.5/, () => engine.state(appointment, "a-1", { at: { revision: 0.5 } })],
  ]) {
    await assert.rejects(async () => attempt(), { code: "invalid-argument", message }, String(attempt));
  }
  assert.deepEqual(await logOf(engine), []);
});

onEachStore("an aggregate the engine was opened without is unknown, whatever its name", async (place) => {
  const engine = await place.open();
  const like = (type) => aggregate(type, { initial: () => 0, decide: () => [{ type: "X", data: {} }], evolve: { X: () => 0 } });
  for (const stranger of [like("Invoice"), like("Appointment"), { type: "Appointment" }, undefined]) {
    await assert.rejects(engine.execute(stranger, "a-1", booking(), { issuedAt }), { code: "unknown-aggregate" });
    await assert.rejects(engine.state(stranger, "a-1"), { code: "unknown-aggregate" });
    await assert.rejects(engine.history(stranger, "a-1"), { code: "unknown-aggregate" });
  }
  assert.deepEqual(await logOf(engine), []);
});

onEachStore("two aggregates of one type can't be told apart, so there is no such engine", async (place) => {
  const opening = place.open({ aggregates: [appointment, appointment] });
  await assert.rejects(opening, { code: "api-misuse", message: /"Appointment" is defined twice/ });
});
