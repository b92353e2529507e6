// A store over another: as that was at a point, and with what would have happened since.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, aggregate, refuse } from "annals";
import { memoryStorage } from "annals/memory";
import { overlayStorage } from "annals/overlay";
import { Subject, commit, event } from "annals/testing/conformance";
import { appointment, booking, cancellation, confirmation, issuedAt, retitling } from "../support/clinic.mjs";
import { enrol } from "../support/conformance.mjs";
import { fails } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

for (const [name, below] of [
  ["overlay", () => memoryStorage()],
  ["overlay over an overlay", () => overlayStorage({ storage: memoryStorage() })],
]) {
  const capabilities = { durability: "memory", notification: "engines" };
  enrol(test, { name, open: () => ({ storage: overlayStorage({ storage: below() }) }), capabilities }, "overlay");
}

const once = { issuedAt };

/** Booked, retitled twice, confirmed; and another that was booked in between. */
async function told(place) {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const outcomes = [];
  for (const [id, command] of [
    ["a-1", booking()],
    ["a-1", retitling("Second")],
    ["a-2", booking({ doctor: "8" })],
    ["a-1", retitling("Third")],
    ["a-1", confirmation],
  ]) {
    // Times that can be told apart.
    await new Promise((resolve) => setTimeout(resolve, 2));
    outcomes.push(await engine.execute(appointment, id, command, once));
  }
  return { storage, engine, outcomes };
}

async function logOf(engine, options) {
  const events = [];
  for await (const event of engine.events({ ...options, follow: false })) events.push(event);
  return events;
}

onEachStore("every position and every time is seen as it was", async (place) => {
  const { storage, engine, outcomes } = await told(place);
  const all = await logOf(engine);
  for (const [index, { position, events }] of outcomes.entries()) {
    for (const at of [{ position }, { time: events[0].recordedAt }, { time: new Date(events[0].recordedAt) }]) {
      const past = await place.open({ storage: overlayStorage({ storage, at }) });
      const seen = all.slice(0, index + 1);
      assert.deepEqual((await logOf(past)).map(({ eventId }) => eventId), seen.map(({ eventId }) => eventId));
      for (const id of ["a-1", "a-2", "a-3"]) {
        const events = seen.filter(({ stream }) => stream.id === id);
        const expected = await engine.state(appointment, id, { at: { revision: events.length } });
        assert.deepEqual(await past.state(appointment, id), expected);
        const history = await past.history(appointment, id);
        assert.deepEqual(history.events.map(({ eventId }) => eventId), events.map(({ eventId }) => eventId));
      }
    }
  }
});

onEachStore("what happens here is not known below, and the other way round", async (place) => {
  const { storage, engine, outcomes } = await told(place);
  const before = await logOf(engine);
  const trial = await place.open({ storage: overlayStorage({ storage, at: { position: outcomes[2].position } }) });
  // Then, a-1 had two events and was not confirmed.
  const cancelled = await trial.execute(appointment, "a-1", cancellation, once);
  assert.deepEqual([cancelled.revision, cancelled.state.status, cancelled.durability], [3, "cancelled", "memory"]);
  // Rules across streams see both: the slot of a-2 is taken below, that of a-1 has become free here.
  assert.equal((await trial.attempt(appointment, "a-3", booking({ doctor: "8" }), once)).refusal.code, "doctor-taken");
  assert.equal((await trial.attempt(appointment, "a-4", booking(), once)).ok, true);
  assert.deepEqual((await logOf(trial)).map(({ stream, revision }) => `${stream.id} ${revision}`), ["a-1 1", "a-1 2", "a-2 1", "a-1 3", "a-4 1"]);
  assert.deepEqual((await trial.history(appointment, "a-1")).events.map(({ type }) => type), ["AppointmentBooked", "AppointmentUpdated", "AppointmentCancelled"]);

  await engine.execute(appointment, "a-1", retitling("Fifth"), once);
  assert.equal((await trial.state(appointment, "a-1")).revision, 3);
  assert.deepEqual((await logOf(engine)).map(({ eventId }) => eventId).slice(0, -1), before.map(({ eventId }) => eventId));
});

onEachStore("a command that was committed below before the cut is a repetition, one after it is not", async (place) => {
  const { storage, outcomes } = await told(place);
  const trial = await place.open({ storage: overlayStorage({ storage, at: { position: outcomes[2].position } }) });
  const again = await trial.execute(appointment, "a-1", retitling("Second"), { ...once, commandId: outcomes[1].commandId });
  assert.deepEqual([again.duplicate, again.revision], [true, 2]);
  const later = await trial.execute(appointment, "a-1", retitling("Third"), { ...once, commandId: outcomes[3].commandId });
  assert.deepEqual([later.duplicate, later.revision], [false, 3]);
});

onEachStore("other rules can be tried on what has happened", async (place) => {
  const { storage, engine } = await told(place);
  const strict = aggregate("Appointment", {
    ...appointment.functions,
    decide: (state, command, context) =>
      command.type === "UpdateAppointment" ? refuse("no-changes") : appointment.functions.decide(state, command, context),
  });
  const trial = await place.open({ storage: overlayStorage({ storage }), aggregates: [strict] });
  const { refusal } = await trial.attempt(strict, "a-1", retitling("Fourth"), once);
  assert.equal(refusal.code, "no-changes");
  assert.equal((await engine.attempt(appointment, "a-1", retitling("Fourth"), once)).ok, true);
});

test("overlays of one store don't see each other", async () => {
  const storage = memoryStorage();
  const below = await Subject.open(storage);
  await below.accept(commit("a-1", 0, [event(), event()]));
  const [one, other] = [await Subject.open(overlayStorage({ storage })), await Subject.open(overlayStorage({ storage }))];
  await one.accept(commit("a-1", 2, [event()]));
  assert.equal((await one.slice("Appointment", "a-1")).revision, 3);
  assert.equal((await other.slice("Appointment", "a-1")).revision, 2);
  assert.notEqual(one.epoch, other.epoch);
});

test("slices of any size go from what is below to what is here", async () => {
  const storage = memoryStorage();
  const below = await Subject.open(storage);
  await below.accept(commit("a-1", 0, [event(), event(), event()]), commit("a-2", 0, [event()]));
  const here = await Subject.open(overlayStorage({ storage }));
  await here.accept(commit("a-1", 3, [event(), event()]));
  await below.accept(commit("a-1", 3, [event(), event(), event()]));
  for (let after = 0; after <= 6; after += 1) {
    for (let limit = 1; limit <= 6; limit += 1) {
      for (const untilRevision of [null, 2, 4]) {
        const { events, revision, more } = await here.slice("Appointment", "a-1", { after, limit, untilRevision });
        const last = Math.min(untilRevision ?? 5, 5);
        const asked = [1, 2, 3, 4, 5].filter((number) => number > after && number <= last);
        assert.deepEqual([events.map(({ revision }) => revision), revision, more], [asked.slice(0, limit), 5, asked.length > limit]);
      }
    }
  }
});

test("a position of another store, and a time that is none, are refused", async () => {
  const [storage, other] = [memoryStorage(), memoryStorage()];
  const engine = await Engine.open({ storage: other, aggregates: [appointment] });
  const { position } = await engine.execute(appointment, "a-1", booking(), once);
  await engine.close();
  await fails(() => Engine.open({ storage: overlayStorage({ storage, at: { position } }), aggregates: [] }), { code: "foreign-epoch" });
  assert.throws(() => overlayStorage({ storage, at: { time: "soon" } }), { code: "invalid-argument" });
  assert.throws(() => overlayStorage({ storage, at: { position: "7" } }), { code: "invalid-argument" });
  assert.throws(() => overlayStorage({}), { code: "invalid-argument" });
});
