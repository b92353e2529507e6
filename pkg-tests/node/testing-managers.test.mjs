// The kit for tests of process managers: it lets a right one pass, finds every planted mistake, and does
// what the engine does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { processManager } from "annals/reactions";
import { givenManager, gives } from "annals/testing";
import { until } from "../support/expect.mjs";
import { settled } from "../support/manager-rules.mjs";
import { failureOf, fails } from "../support/kit-failures.mjs";

const visit = aggregate("Visit", {
  initial: () => ({ doctor: null }),
  decide: (_, command) => [command],
  evolve: (state, { data }) => ({ doctor: data.doctor ?? state.doctor }),
  events: { Booked: [], Cancelled: [], Noted: [] },
  tags: ({ data }, { doctor }) => [`doctor:${data.doctor ?? doctor}`],
});
const letter = aggregate("Letter", { initial: () => 0, decide: (_, command) => [command], evolve: { Send: (count) => count + 1 } });

const HOUR = 3_600_000;
const booked = (patient, start = "2026-01-03T09:00:00.000Z") => ({ type: "Booked", data: { patient, start, doctor: "7" } });
const cancelled = { type: "Cancelled", data: {} };
const noted = { type: "Noted", data: {} };
const send = (patient) => ({ type: "Send", data: { patient } });

/** Reminds patients the day before, and once more an hour later. */
const functions = {
  startAt: "beginning",
  initial: () => ({ patient: null, times: 0 }),
  key: ({ stream }) => stream.id,
  on: {
    Booked(state, { data: { patient, start } }, commands) {
      if (patient === "poison") throw new RangeError("that is poison");
      commands.remindAt("day before", new Date(Date.parse(start) - 24 * HOUR));
      return { ...state, patient };
    },
    Cancelled(_, event, commands) {
      commands.forget("day before");
      commands.end();
    },
  },
  timers: {
    "day before"({ patient, times }, { key, due }, commands) {
      if (patient === "nobody") throw new RangeError(`${key} can't be reached`);
      commands.give(letter, key, send(patient));
      if (times === 0) commands.remindAt("day before", new Date(Date.parse(due) + HOUR));
      return { patient, times: times + 1 };
    },
  },
};
const reminder = (changes = {}) =>
  processManager("reminder", { ...functions, ...changes, on: { ...functions.on, ...changes.on }, timers: { ...functions.timers, ...changes.timers } });

const given = (changes) => givenManager(reminder(changes));
const one = (changes) => given(changes).happened(visit, "v-1", booked("Ann"));

// --- A right one ---------------------------------------------------------------------------------

test("an event sets a timer, which rings when its time has come, and not before", () => {
  one()
    .thenNothing()
    .thenState("v-1", { patient: "Ann", times: 0 })
    .thenTimer("v-1", "day before", "2026-01-02T09:00:00Z")
    .at("2026-01-02T08:59:59.999Z")
    .then()
    .advance({ milliseconds: 1 })
    .then(gives(letter, "v-1", send("Ann")))
    .thenTimer("v-1", "day before", new Date("2026-01-02T10:00:00Z"))
    .advance({ days: 1 })
    .then(gives(letter, "v-1", send("Ann")))
    .thenNoTimer("v-1", "day before")
    .thenState("v-1", { patient: "Ann", times: 2 });
});

test("timers ring in the order of their times, also those that are set on the way", () => {
  given()
    .happened(visit, "v-1", booked("Ann"))
    .happened(visit, "v-2", booked("Ben", "2026-01-03T09:30:00Z"))
    .advance({ days: 30 })
    .then(...["Ann", "Ben", "Ann", "Ben"].map((patient) => gives(letter, patient === "Ann" ? "v-1" : "v-2", send(patient))));
});

test("one that is due at once rings at once", () => {
  given().when(visit, "v-1", booked("Ann", "2020-01-01T00:00:00Z")).then(gives(letter, "v-1", send("Ann")), gives(letter, "v-1", send("Ann")));
});

test("what is forgotten does not ring, and a process that is over has no state", () => {
  one().when(visit, "v-1", cancelled).thenNothing().thenNone("v-1").thenNoTimer("v-1", "day before").advance({ days: 9 }).thenNothing();
});

test("events it does not want, and keys it does not have, are passed by", () => {
  given().when(visit, "v-1", noted).thenNothing().thenNone("v-1");
  given({ key: () => null }).when(visit, "v-1", booked("Ann")).thenNothing();
  given({ aggregates: [letter] }).when(visit, "v-1", booked("Ann")).thenNone("v-1");
});

test("an event is what the engine would give", () => {
  const seen = [];
  given({ on: { Booked: (state, event) => void seen.push(event) } })
    .by("reception")
    .at("2026-11-23T09:00:00+01:00")
    .happened(visit, "v-1", noted, booked("Ann"));
  const [{ eventId, commandId, correlationId, ...event }] = seen;
  assert.match(eventId, /^[0-9a-f-]{36}$/);
  assert.equal(correlationId, commandId);
  assert.deepEqual(event, {
    ...booked("Ann"),
    position: "under-test:2",
    stream: { type: "Visit", id: "v-1" },
    revision: 2,
    schemaVersion: 1,
    tags: ["doctor:7"],
    recordedAt: "2026-11-23T08:00:00.000Z",
    issuedAt: "2026-11-23T08:00:00.000Z",
    causationId: null,
    actor: "reception",
    metadata: null,
  });
});

test("what can't be handled is told, and nothing of it is done", () => {
  given()
    .when(visit, "v-1", booked("poison"))
    .thenFails("poison")
    .thenNone("v-1")
    .happened(visit, "v-2", booked("nobody"))
    .advance({ days: 2 })
    .thenFails(/v-2 can't/)
    .thenState("v-2", { patient: "nobody", times: 0 });
  fails(() => given().happened(visit, "v-1", booked("poison")).thenNothing(), /nothing expects that it fails: on\.Booked: that is poison/);
  fails(() => given().happened(visit, "v-1", booked("poison"), noted), /nothing expects that it fails/);
  fails(() => one().thenFails(), /expected that it fails, found that it gives nothing/);
  fails(() => given().when(visit, "v-1", booked("poison")).thenFails("other"), /found that it fails/);
});

// --- What a failure tells ------------------------------------------------------------------------

test("a failure tells the whole story, and the difference", () => {
  const { message, actual, expected } = failureOf(() =>
    one().by("nurse").at("2026-01-02T09:00:00Z").then(gives(letter, "v-1", send("Anna"))),
  );
  assert.deepEqual([actual, expected].map(([{ data }]) => data.patient), ["Ann", "Anna"]);
  assert.equal(
    message,
    `expected Send to Letter v-1, found Send to Letter v-1

given reminder
given Visit v-1
      Booked {"patient":"Ann","start":"2026-01-03T09:00:00.000Z","doctor":"7"}
by    nurse
at    2026-01-02T09:00:00.000Z
rings day before of v-1
then  (- expected, + found)
      Send to Letter v-1 {
    -   "patient": "Anna"
    +   "patient": "Ann"
      }`,
  );
});

for (const [what, run, message] of [
  ["other commands", () => one().then(gives(letter, "v-1", send("Ann"))), /expected Send to Letter v-1, found nothing/],
  ["another aggregate", () => one().advance({ days: 1, hours: 9 }).then(gives(letter, "v-2", send("Ann"))), /expected Send to Letter v-2, found Send to Letter v-1/],
  ["another state", () => one().thenState("v-1", { patient: "Ben", times: 0 }), /state of v-1\.patient to be "Ben", found "Ann"/],
  ["a state of another key", () => one().thenState("v-2", { patient: "Ann", times: 0 }), /expected a state of v-2, found states of v-1/],
  ["no state", () => one().thenNone("v-1"), /expected no state of v-1, found one/],
  ["another time", () => one().thenTimer("v-1", "day before", "2026-01-02T08:00:00Z"), /expected 2026-01-02T08:00:00.000Z as day before of v-1, found 2026-01-02T09/],
  ["no timer", () => one().thenNoTimer("v-1", "day before"), /expected no timer as day before of v-1, found 2026/],
  ["a time without its zone", () => one().at("2026-11-23T09:00:00"), /with its zone/],
  ["a clock that is set back", () => one().at("2025-11-23T09:00:00Z"), /the clock advances/],
  ["an event that can't be stored", () => given().happened(visit, "v-1", { type: "Booked", data: { at: new Date() } }), /Booked\.at/],
  ["an aggregate without an id", () => given().happened(visit, "", noted), /non-empty id/],
]) {
  test(`a test that expects or gives ${what} fails`, () => fails(run, message));
}

test("a test of a process manager is nothing to await", async () => {
  await assert.rejects(async () => await one(), /there is nothing to await/);
});

// --- What is not pure ----------------------------------------------------------------------------

let count = 0;
for (const [what, changes, message] of [
  ["asks for the time", { on: { Booked: (state, event, commands) => void commands.remindAt("day before", new Date()) } }, /on\.Booked called (new )?Date/],
  ["asks for a random number", { on: { Booked: () => ({ patient: Math.random(), times: 0 }) } }, /on\.Booked called Math\.random/],
  ["counts its calls", { on: { Booked: () => ({ patient: count++, times: 0 }) } }, /two calls of on\.Booked .* differ/],
  ["gives another command each time", { on: { Booked: (state, event, commands) => void commands.give(letter, `${count++}`, send("Ann")) } }, /two calls of on\.Booked .* differ/],
  ["changes its state", { on: { Booked: (state) => ((state.times += 1), state) } }, /on\.Booked changed state\.times/],
  ["changes its event", { on: { Booked: (state, event) => void (event.data.patient = "Ben") } }, /on\.Booked changed event\.data\.patient/],
  ["has a key that changes", { key: () => `${count++}` }, /two calls of key .* differ/],
  ["begins with a state that changes", { initial: () => ({ patient: count++, times: 0 }), on: { Booked: (state) => state } }, /two calls of initial .* differ/],
  ["keeps what JSON does not", { on: { Booked: () => ({ patient: undefined, times: 0 }) } }, /on\.Booked gave a state that JSON does not keep: state\.patient/],
  ["gives a key that is none", { key: () => "a\nb" }, /key of Booked without control characters/],
]) {
  test(`one that ${what} is found`, () => fails(() => one(changes), message));
}

test("a promise, an unknown timer and a command that is none are failures of the handler", () => {
  for (const [handler, message] of [
    [async () => undefined, /on\.Booked returned a promise/],
    [(state, event, commands) => commands.remindAt("late", "2026-01-01T00:00:00Z"), /there is no timer late/],
    [(state, event, commands) => commands.give(letter, "", send("Ann")), /non-empty id of Letter/],
  ]) {
    given({ on: { Booked: handler } }).when(visit, "v-1", booked("Ann")).thenFails(message);
  }
});

test("timers that set each other without end are found", () => {
  const again = (state, { due }, commands) => commands.remindAt("day before", new Date(Date.parse(due)));
  fails(() => one({ timers: { "day before": again } }).advance({ days: 9 }), /without end/);
});

// --- The kit and the engine ----------------------------------------------------------------------

test("the engine does what the kit says", async () => {
  const manager = reminder();
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit, letter], reactions: [manager] });
  const now = Date.now();
  const start = (millis) => new Date(now + millis).toISOString();
  const story = [
    ["v-1", booked("Ann", start(0))],
    ["v-2", booked("Ben", start(24 * HOUR + 60))],
    ["v-3", booked("Cy", start(24 * HOUR + 60))],
    ["v-3", cancelled],
    ["v-1", noted],
  ];
  let kit = givenManager(manager).at(new Date(now));
  for (const [id, event] of story) {
    kit = kit.when(visit, id, event);
    await engine.execute(visit, id, event);
  }
  await settled(engine, manager);
  const letters = async () => {
    const found = [];
    for await (const { stream, data } of engine.events({ aggregates: [letter], follow: false })) found.push([stream.id, data.patient]);
    return found.sort();
  };
  await until(async () => (await letters()).length === 3, "two at once, and one in time");
  assert.deepEqual(await letters(), [["v-1", "Ann"], ["v-1", "Ann"], ["v-2", "Ben"]]);
  kit.advance({ milliseconds: 100 }).then(gives(letter, "v-2", send("Ben"))).thenNone("v-3").thenState("v-1", { patient: "Ann", times: 2 });
  await engine.close();
});
