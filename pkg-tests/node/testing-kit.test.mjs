// The kit for tests of a domain: it lets a right domain pass, finds every planted mistake, and does
// what the engine does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnnalsError, Engine, aggregate, nativeAggregate, refuse } from "annals";
import { memoryStorage } from "annals/memory";
import { given } from "annals/testing";
import { script } from "../clinic/play.mjs";
import { appointment, at, booking, cancellation, confirmation, logOf, retitling } from "../support/clinic.mjs";
import { forms, release, skipping, today, toldOf } from "../support/upcasting.mjs";
import { frozen } from "../support/expect.mjs";
import { failureOf, fails } from "../support/kit-failures.mjs";

// --- A right domain -----------------------------------------------------------------------------

const slot = ({ doctor, room, start, end }) => ({ doctor, room, start, end });
const booked = (rest) => ({ type: "AppointmentBooked", data: { comment: "", ...booking(rest).data } });
const confirmed = { type: "AppointmentConfirmed", data: {} };
const cancelled = { type: "AppointmentCancelled", data: { reason: "ill" } };
const moved = (rest) => ({ type: "AppointmentRescheduled", data: slot(booking(rest).data) });
const move = (minutes) => ({ type: "RescheduleAppointment", data: { start: at(minutes), end: at(minutes + 10) } });

test("given nothing, a command gives its events, their state, their tags and what it read", () => {
  const tags = ["doctor:7/2026-11-23", "room:of-7/2026-11-23"];
  given(appointment)
    .when(booking())
    .then(booked())
    .thenState({ status: "booked", ...booked().data })
    .thenTags(tags)
    .thenReads(tags.reverse());
});

test("given events, a command is decided on what they add up to", () => {
  given(appointment, booked()).thenState({ status: "booked", ...booked().data }).when(confirmation).then(confirmed);
  given(appointment, booked(), confirmed).when(confirmation).thenRefused("already-confirmed");
  given(appointment, booked(), cancelled).when(confirmation).thenRefused("already-cancelled", {});
  given(appointment, booked()).when(retitling("Blood pressure")).thenNothing().thenState({ status: "booked", ...booked().data });
  given(appointment, booked()).when(retitling("Blood pressure")).then();
});

test("each command builds on what came before it", () => {
  given(appointment)
    .when(booking())
    .then(booked())
    .when(confirmation)
    .when(move(600))
    .then(moved({ minutes: 600 }))
    .thenState({ status: "booked", ...booked({ minutes: 600 }).data })
    .when(confirmation)
    .then(confirmed)
    .when(confirmation)
    .thenRefused("already-confirmed")
    .when(cancellation)
    .then({ type: "AppointmentCancelled", data: { reason: "" } })
    .when(cancellation)
    .thenRefused("already-cancelled");
});

test("events of others are seen by whoever reads their tags", () => {
  const taken = { by: "a-2", start: at(540), end: at(550) };
  given(appointment).others("a-2", booked()).when(booking({ room: "4" })).thenRefused("doctor-taken", taken);
  given(appointment).others("a-2", booked(), cancelled).when(booking()).then(booked());
  given(appointment).others("a-2", booked(), moved({ minutes: 600 })).when(booking()).then(booked());
  given(appointment).others("a-2", booked({ doctor: "8" })).when(booking()).then(booked());
});

test("commands to others are seen like their events", () => {
  given(appointment)
    .id("a-1")
    .when(booking())
    .then(booked())
    .whenOther("a-2", booking())
    .thenRefused("doctor-taken", { by: "a-1", start: at(540), end: at(550) })
    .thenReads(["doctor:7/2026-11-23", "room:of-7/2026-11-23"])
    .when(cancellation)
    .whenOther("a-2", booking())
    .then(booked())
    .thenState({ status: "booked", ...booked().data })
    .when(confirmation)
    .thenRefused("already-cancelled");
});

test("the clock is the test's, stands still, and is put forward by spans", () => {
  const times = aggregate("Times", {
    initial: () => 0,
    decide: (_, __, { issuedAt }) => [{ type: "Asked", data: { at: issuedAt.toISOString() } }],
    evolve: { Asked: (count) => count + 1 },
  });
  const asked = (time) => ({ type: "Asked", data: { at: time } });
  const ask = { type: "Ask", data: {} };
  given(times)
    .when(ask)
    .then(asked("2026-01-01T00:00:00.000Z"))
    .when(ask)
    .then(asked("2026-01-01T00:00:00.000Z"))
    .advance({ days: 1, hours: 2, minutes: 3, seconds: 4, milliseconds: 5 })
    .when(ask)
    .then(asked("2026-01-02T02:03:04.005Z"))
    .at("2025-06-01T12:00:00+02:00")
    .when(ask)
    .then(asked("2025-06-01T10:00:00.000Z"))
    .at(new Date(0))
    .when(ask)
    .then(asked("1970-01-01T00:00:00.000Z"))
    .thenState(5);
  for (const time of ["2026-11-23T09:00:00", "2026-11-23", "9 o'clock", "2026-99-23T09:00:00Z", new Date(NaN)]) {
    fails(() => given(times).at(time), /expected a time/);
  }
  fails(() => given(times).advance({ hours: -1 }), /the clock advances/);
  fails(() => given(times).advance({ hours: NaN }), /the clock advances/);
});

test("tests may share a beginning: no step changes it", () => {
  const beginning = given(appointment, booked()).at("2026-11-23T08:00:00Z");
  beginning.when(cancellation).then({ type: "AppointmentCancelled", data: { reason: "" } });
  beginning.others("a-2", booked({ minutes: 600 })).when(move(600)).thenRefused("doctor-taken");
  beginning.advance({ days: 1 }).when(move(600)).thenRefused("slot-in-past");
  beginning.id("a-9");
  beginning.when(confirmation).then(confirmed);
  beginning.when(move(600)).then(moved({ minutes: 600 }));
});

test("what a decision sees as others: those that match, in order, as whole events, not its own", () => {
  let seen;
  const functions = {
    initial: () => ({ count: 0 }),
    reads: () => [{ types: ["Happened"], tags: ["odd"] }, { types: [], tags: ["always", "odd"] }],
    decide: (_, __, { others, id }) => {
      seen = { id, others };
      return [];
    },
    evolve: ({ count }) => ({ count: count + 1 }),
    events: { Happened: [], Else: [] },
    // From the state before, each stream's own.
    tags: ({ data }, { count }) => [count % 2 === 0 ? "odd" : "even", ...(data.always ? ["always"] : [])],
  };
  const counter = aggregate("Counter", functions);
  const gauge = aggregate("Gauge", functions);
  const happened = (name, always = false) => ({ type: "Happened", data: { name, always } });
  const else_ = (name, always = false) => ({ type: "Else", data: { name, always } });
  given(counter, happened("own"))
    .id("c-1")
    .others("c-2", happened("1"), happened("not 2"), else_("not 3"))
    .advance({ minutes: 1 })
    .by("reception")
    .others(gauge, "c-1", happened("4"))
    .others("c-2", happened("not 5"), else_("6", true), happened("not 7", true))
    .others("c-3", else_("not 8"))
    .when({ type: "Look", data: {} })
    .thenNothing();
  assert.equal(seen.id, "c-1");
  const other = (type, name, always, stream, revision, issuedAt, actor) => ({ type, data: { name, always }, stream, revision, issuedAt, actor });
  assert.deepEqual(seen.others, [
    other("Happened", "1", false, { type: "Counter", id: "c-2" }, 1, "2026-01-01T00:00:00.000Z", null),
    other("Happened", "4", false, { type: "Gauge", id: "c-1" }, 1, "2026-01-01T00:01:00.000Z", "reception"),
    other("Else", "6", true, { type: "Counter", id: "c-2" }, 5, "2026-01-01T00:01:00.000Z", "reception"),
  ]);
});

test("who has no reads sees no others, and their events without data have empty data", () => {
  const box = boxWith({ decide: (_, { data }, { others }) => [{ type: "Kept", data: { others: others.length, data } }] });
  given(box).others("b-2", { type: "Kept" }).when({ type: "Keep" }).then({ type: "Kept", data: { others: 0, data: {} } });
  given(boxWith({ decide: () => [{ type: "Kept" }] })).when({ type: "Keep" }).then({ type: "Kept", data: {} });
  given(boxWith({ decide: () => [{ type: "Kept", data: { a: undefined } }] })).when({ type: "Keep" }).then({ type: "Kept" });
});

test("a decision that throws is expected as one", () => {
  const box = boxWith({
    decide: () => {
      throw new TypeError("boom 7");
    },
  });
  for (const expected of [undefined, "boom", /^boom \d$/g, /^boom \d$/g]) given(box).when(keep).thenThrows(expected);
  given(box).when(keep).thenThrows().when(keep).thenThrows("boom");
  fails(() => given(box).when(keep).thenThrows("bang"), /expected an error, found an error: boom 7/);
  assert.equal(failureOf(() => given(box).when(keep).then()).cause.message, "boom 7");
});

// --- What a failed expectation says --------------------------------------------------------------

test("a failure tells what was given, what was expected, what came, and how they differ", () => {
  const { message, stack, actual, expected } = failureOf(() =>
    given(boxWith(), { type: "Kept", data: { n: 1 } })
      .id("b-1")
      .others("b-2", { type: "Kept", data: { n: 2 } })
      .at("2026-11-23T08:00:00Z")
      .when({ type: "Keep", data: { n: 3, of: ["a", "b"] } })
      .then({ type: "Kept", data: { n: 3, of: ["a", "b"] } })
      .when({ type: "Keep", data: { n: 4, of: ["a", "b"] } })
      .then({ type: "Kept", data: { of: ["a", "c"], n: 4 } }),
  );
  assert.equal(
    message,
    `expected other data of Kept

given Box b-1
      Kept {"n":1}
given Box b-2
      Kept {"n":2}
at    2026-11-23T08:00:00.000Z
when  Keep {"n":3,"of":["a","b"]}
then  Kept {"n":3,"of":["a","b"]}
when  Keep {"n":4,"of":["a","b"]}
then  (- expected, + found)
      Kept {
        "n": 4,
        "of": [
          "a",
    -     "c"
    +     "b"
        ]
      }`,
  );
  assert.ok(stack.startsWith(`AssertionError: ${message}\n`), stack);
  assert.deepEqual(actual, [{ type: "Kept", data: { n: 4, of: ["a", "b"] } }]);
  assert.deepEqual(expected, [{ type: "Kept", data: { n: 4, of: ["a", "c"] } }]);
});

test("a failed expectation of another outcome shows both", () => {
  const { message, actual, expected } = failureOf(() =>
    given(appointment).when(confirmation).then(confirmed),
  );
  assert.equal(
    message,
    `expected AppointmentConfirmed, found the refusal not-booked

given Appointment
      nothing
when  ConfirmAppointment {}
then  (- expected, + found)
    - AppointmentConfirmed {}
    + refused not-booked {}`,
  );
  assert.deepEqual(actual, { code: "not-booked", details: {} });
  assert.deepEqual(expected, [confirmed]);
});

const expectations = [
  ["an event too few", () => given(appointment).when(booking()).then(), /expected nothing, found AppointmentBooked/],
  ["an event too many", () => given(appointment).when(booking()).then(booked(), confirmed), /expected AppointmentBooked, AppointmentConfirmed, found AppointmentBooked\n/],
  ["another event", () => given(appointment).when(booking()).then(confirmed), /expected AppointmentConfirmed, found AppointmentBooked\n/],
  ["other data", () => given(appointment).when(booking()).then(booked({ title: "Other" })), /expected other data of AppointmentBooked\n[^]*- {3}"title": "Other"/],
  ["a missing member", () => given(appointment).when(booking()).then({ type: "AppointmentBooked", data: booking().data }), /\+ {3}"comment": ""/],
  ["an expected refusal", () => given(appointment).when(booking()).thenRefused("not-booked"), /expected the refusal not-booked, found AppointmentBooked\n/],
  ["another refusal", () => given(appointment).when(confirmation).thenRefused("already-booked"), /expected the refusal already-booked, found the refusal not-booked\n/],
  ["other details", () => given(appointment).when(booking({ title: "x", doctor: "?" })).thenRefused("invalid-name", { field: "room" }), /other details of the refusal invalid-name\n[^]*- {3}"field": "room"\n[^]*\+ {3}"field": "doctor"/],
  ["no refusal", () => given(appointment).when(confirmation).thenNothing(), /expected nothing, found the refusal not-booked\n/],
  ["an expected error", () => given(appointment).when(confirmation).thenThrows(/x/), /expected an error, found the refusal not-booked\n[^]*- threw \/x\//],
  ["another state", () => given(appointment).when(booking()).thenState({ status: "none" }), /expected state\.status to be "none", found "booked"\n/],
  ["another state of what was given", () => given(appointment, booked()).thenState({ status: "none" }), /expected state\.status to be "none", found "booked"\n/],
  ["other tags", () => given(appointment).when(booking()).thenTags(["a"]), /expected other tags\n[^]*- +"a"/],
  ["tags of another event", () => given(appointment, booked()).when(confirmation).thenTags(), /expected other tags\n/],
  ["other reads", () => given(appointment).when(booking()).thenReads(["a"]), /read something else\n[^]*- +"a"/],
  ["a refusal that nobody expects, before another command", () => given(appointment).when(confirmation).when(booking()), /^nothing expects the refusal not-booked\n/],
  ["a refusal that nobody expects, before a state", () => given(appointment).when(confirmation).thenState({ status: "none" }), /nothing expects the refusal not-booked\n/],
  ["a refusal that nobody expects, before tags", () => given(appointment).when(confirmation).thenTags(), /nothing expects the refusal not-booked\n/],
  ["an error that nobody expects", () => given(boxWith({ decide: boom })).when(keep).when(keep), /nothing expects an error: boom\n/],
];

for (const [what, action, message] of expectations) {
  test(`a test fails by ${what}`, () => fails(action, message));
}

test("a refusal's details don't matter if none are given, and all of them do if some are", () => {
  const taken = given(appointment).others("a-2", booked()).when(booking());
  taken.thenRefused("doctor-taken");
  fails(() => taken.thenRefused("doctor-taken", { by: "a-2" }), /other details/);
});

test("who awaits a command is told that there is nothing to await", async () => {
  await assert.rejects(async () => given(appointment).when(booking()), /nothing to await/);
  // What comes of an expectation may be returned from an asynchronous test.
  await (async () => given(appointment).when(booking()).then(booked()))();
});

// --- Planted mistakes ----------------------------------------------------------------------------

/** Keeps what it is given; the functions may be replaced. */
function boxWith(functions = {}) {
  return aggregate("Box", {
    initial: () => ({ kept: [] }),
    decide: (_, { data }) => [{ type: "Kept", data }],
    evolve: { Kept: ({ kept }, { data }) => ({ kept: [...kept, data] }) },
    ...functions,
  });
}

function boom() {
  throw new Error("boom");
}

const keep = { type: "Keep", data: { list: [2, 1] } };
const kept = { type: "Kept", data: { list: [2, 1] } };

/** Something else each time. */
let calls = 0;
const next = () => (calls += 1);

/** Something that is kept from call to call. */
const one = { sum: 0 };

/** One that does not fail because of frozen objects, as code that is not strict does not. */
const edit = (object, key, value) => void Reflect.set(object, key, value);

const mistakes = [
  // Not pure: changes what it is given.
  ["decide that edits the state", { decide: (state) => (state.kept.push(1), []) }, /decide changed state\.kept\[0\], which was nothing and is 1/],
  ["decide that edits the state unseen", { decide: (state) => (edit(state, "kept", 1), []) }, /decide changed state\.kept, which was \[\] and is 1/],
  ["decide that edits the command", { decide: (_, { data }) => (data.list.sort(), [kept]) }, /decide changed command\.data\.list\[0\], which was 2 and is 1/],
  ["decide that takes from the command", { decide: (_, { data }) => (Reflect.deleteProperty(data, "list"), [kept]) }, /decide changed command\.data\.list, which was \[2,1\] and is nothing/],
  ["decide that sets the time", { decide: (_, __, { issuedAt }) => (issuedAt.setTime(0), []) }, /decide changed context\.issuedAt, which was "2026-01-01T00:00:00.000Z" and is "1970/],
  ["decide that edits others", { reads: () => ["t"], tags: () => ["t"], decide: (_, __, { others }) => (edit(others[0].data, "list", 0), []) }, /decide changed context\.others\[0\]\.data\.list/],
  ["decide that writes without a change", { decide: (state) => ((state.kept = [...[]]), []) }, new RegExp(`decide can't be called with frozen arguments.*${frozen.set.source}`)],
  ["evolve that edits the state", { evolve: { Kept: (state) => (state.kept.push(1), state) } }, /evolve\.Kept changed state\.kept\[0\]/],
  ["one evolve for all that edits the state", { evolve: (state) => (state.kept.push(1), state), events: { Kept: [] } }, /evolve changed state\.kept\[0\]/],
  ["evolve that edits the event", { evolve: { Kept: (state, { data }) => (edit(data, "list", 0), state) } }, /evolve\.Kept changed event\.data\.list/],
  ["reads that edits the command", { reads: ({ data }) => (edit(data, "list", 0), []) }, /reads changed command\.data\.list/],
  ["reads that edits the state", { reads: (_, state) => (edit(state, "kept", 0), []) }, /reads changed state\.kept/],
  ["tags that edits the event", { tags: ({ data }) => (edit(data, "list", 0), []) }, /tags changed event\.data\.list/],
  ["tags that edits the state", { tags: (_, state) => (edit(state, "kept", 0), []) }, /tags changed before\.kept/],
  // Not pure: something else each time.
  ["decide that counts", { decide: () => [{ type: "Kept", data: { n: next() } }] }, /two calls of decide with the same arguments differ: the result\[0\]\.data\.n is \d+ once and \d+ once/],
  ["decide that changes its mind", { decide: () => (next() % 2 ? [] : refuse("no")) }, /two calls of decide with the same arguments differ/],
  ["decide that throws sometimes", { decide: () => (next() % 2 ? [] : boom()) }, /decide/],
  ["evolve that counts", { evolve: { Kept: () => ({ n: next() }) } }, /two calls of evolve\.Kept .* the result\.n is/],
  ["evolve that has one state for all", { evolve: { Kept: () => ((one.sum += 1), one) } }, /evolve\.Kept changed what it had returned before/],
  ["initial that counts", { initial: () => next() }, /two calls of initial/],
  ["reads that counts", { reads: () => [`t${next()}`] }, /two calls of reads .* the result\[0\] is "t/],
  ["tags that counts", { tags: () => [`t${next()}`] }, /two calls of tags/],
  // Not pure: asks the platform.
  ["decide that asks for the time", { decide: () => (Date.now(), []) }, /decide called Date\.now\(\): it must be pure\. The time of a decision is `issuedAt`/],
  ["decide that makes a date of now", { decide: () => [new Date()].slice(1) }, /decide called new Date\(\)/],
  ["decide that writes the time", { decide: () => (Date(), []) }, /decide called Date\(\)/],
  ["decide that measures", { decide: () => (performance.now(), []) }, /decide called performance\.now\(\)/],
  ["decide that throws dice", { decide: () => (Math.random(), []) }, /decide called Math\.random\(\): it must be pure\. Let the command bring/],
  ["decide that makes an id", { decide: () => (crypto.randomUUID(), []) }, /decide called crypto\.randomUUID\(\)/],
  ["decide that makes random bytes", { decide: () => (crypto.getRandomValues(new Uint8Array(1)), []) }, /decide called crypto\.getRandomValues\(\)/],
  ["evolve that asks for the time", { evolve: { Kept: (state) => (Date.now(), state) } }, /evolve\.Kept called Date\.now\(\)/],
  ["reads that asks for the time", { reads: () => (Date.now(), []) }, /reads called Date\.now\(\)/],
  ["tags that throws dice", { tags: () => (Math.random(), []) }, /tags called Math\.random\(\)/],
  ["initial that asks for the time", { initial: () => (Date.now(), { kept: [] }) }, /initial called Date\.now\(\)/],
  ["who asks for the time and throws", { decide: () => (Date.now(), boom()) }, /decide called Date\.now\(\)/],
  // Not what a function may return.
  ["decide that is async", { decide: async () => [kept] }, /decide returned a promise/],
  ["decide that is async and throws", { decide: async () => boom() }, /decide returned a promise/],
  ["decide that returns nothing", { decide: () => undefined }, /decide must return an array of events, or a refusal/],
  ["decide that returns one event", { decide: () => kept }, /decide must return an array of events, or a refusal/],
  ["decide that returns null in a list", { decide: () => [null] }, /decide must return events/],
  ["evolve that is async", { evolve: { Kept: async (state) => state } }, /evolve returned a promise/],
  ["evolve that returns nothing", { evolve: { Kept: () => undefined } }, /evolve returned undefined/],
  ["evolve that throws", { evolve: { Kept: boom } }, /evolve\.Kept threw: boom/],
  ["initial that returns nothing", { initial: () => undefined }, /state: expected JSON, found undefined/],
  ["initial that throws", { initial: boom }, /initial threw: boom/],
  ["reads that is async", { reads: async () => [] }, /reads returned a promise/],
  ["reads that returns a text", { reads: () => "all" }, /reads must return an array/],
  ["reads of everything", { reads: () => [{ types: [], tags: [] }] }, /would match every event/],
  ["reads of a tag without a name", { reads: () => [""] }, /non-empty tag/],
  ["tags that is async", { tags: async () => [] }, /tags returned a promise/],
  ["tags that returns a text", { tags: () => "all" }, /tags must return an array of strings/],
  ["tags that returns numbers", { tags: () => [7] }, /tags must return an array of strings/],
  ["tags that throws", { tags: boom }, /tags threw: boom/],
  // Not what may be stored.
  ["an event with a date", { decide: () => [{ type: "Kept", data: { at: new Date(0) } }] }, /event Kept\.at: expected a plain object/],
  ["an event with NaN", { decide: () => [{ type: "Kept", data: { n: NaN } }] }, /event Kept\.n: expected a finite number/],
  ["an event with undefined in a list", { decide: () => [{ type: "Kept", data: [undefined] }] }, /event Kept\[0\]: expected JSON, found undefined/],
  ["an event with half a character", { decide: () => [{ type: "Kept", data: "\ud800" }] }, /lone surrogate/],
  ["a refusal with a map", { decide: () => refuse("no", { map: new Map() }) }, /refusal no\.map: expected a plain object/],
  ["a state with a date", { evolve: { Kept: () => ({ at: new Date(0) }) } }, /state\.at: expected a plain object/],
  ["a state with a frozen date", { evolve: { Kept: () => Object.freeze({ at: new Date(0) }) } }, /JSON does not keep: state\.at is/],
  ["a state with an undefined member", { evolve: { Kept: () => ({ deep: { note: undefined } }) } }, /evolve gave a state that JSON does not keep: state\.deep\.note is undefined, and comes back as nothing/],
  ["a state with a negative zero", { evolve: { Kept: () => ({ sum: -0 }) } }, /state\.sum is -0, and comes back as 0/],
  ["a state with a symbol", { evolve: { Kept: () => ({ [Symbol.for("of")]: 1 }) } }, /JSON does not keep: state\.Symbol\(of\) is 1/],
  ["a list with a name", { evolve: { Kept: () => Object.assign([1], { of: "x" }) } }, /JSON does not keep: state\[of\] is "x"/],
  ["an initial state with an undefined member", { initial: () => ({ kept: [], note: undefined }) }, /initial gave a state that JSON does not keep: state\.note/],
];

for (const [what, functions, message] of mistakes) {
  test(`${what} is found, whatever the test expects`, () => {
    const box = boxWith(functions);
    fails(() => given(box).others("b-2", kept).when(keep), message);
    const { message: told, actual, expected } = failureOf(() => given(box).others("b-2", kept).when(keep));
    assert.match(told, /\ngiven Box\n/);
    // Runners have nothing to compare.
    assert.deepEqual([actual, expected], [undefined, undefined]);
  });
}

test("a mistake in what has happened is found where it is given", () => {
  fails(() => given(boxWith({ evolve: { Kept: boom } }), kept), /evolve\.Kept threw: boom\n\ngiven Box\n {6}Kept \{"list":\[2,1\]\}$/);
  fails(() => given(boxWith()).others("b-2", { type: "Kept", data: NaN }), /event Kept: expected a finite number/);
  for (const type of ["Lost", "toString", "__proto__"]) {
    const lost = { type, data: {} };
    const message = new RegExp(`${type} is not among the events of Box`);
    fails(() => given(boxWith(), lost), message);
    fails(() => given(boxWith()).others("b-2", lost), message);
    fails(() => given(boxWith({ decide: () => [lost] })).when(keep), message);
  }
  for (const event of [null, undefined, "Kept", {}, []]) {
    fails(() => given(boxWith(), event), /expected an event with type and data/);
    fails(() => given(boxWith()).when(keep).then(event), /expected an event with type and data/);
  }
  fails(() => given(boxWith()).when(null), /expected a command with type and data/);
  fails(() => given(boxWith()).when({ type: "Keep", data: NaN }), /command: expected a finite number/);
  fails(() => given(boxWith()).others("under-test", kept), /the one under test/);
  fails(() => given(boxWith()).others("b-2", kept).id("b-2"), /another one already/);
  fails(() => given(nativeAggregate("Box")), /written in Rust/);
});

test("where the platform was asked is the failure's cause", () => {
  const { cause } = failureOf(() => given(boxWith({ decide: function asksForTheTime() { return [Date.now()]; } })).when(keep));
  assert.match(cause.stack, /asksForTheTime/);
  const thrown = new Error("boom");
  const throwing = boxWith({ evolve: { Kept: () => { throw thrown; } } });
  assert.equal(failureOf(() => given(throwing, kept)).cause, thrown);
});

test("dates of a given time are made as ever, and afterwards the platform is as it was", () => {
  const before = [Date, Date.now, Math.random, crypto.randomUUID, crypto.getRandomValues, performance.now];
  const keys = [Reflect.ownKeys(crypto), Reflect.ownKeys(performance)];
  const box = boxWith({
    decide: (_, { data }, { issuedAt }) => {
      const time = new Date(data.at);
      assert.ok(time instanceof Date && issuedAt instanceof Date && Date.UTC(2026) > 0);
      class Later extends Date {}
      assert.ok(new Later(0) instanceof Later);
      return [{ type: "Kept", data: new Date(Date.parse(time.toISOString()) + 1).toISOString() }];
    },
  });
  given(box).when({ type: "Keep", data: { at: 0 } }).then({ type: "Kept", data: "1970-01-01T00:00:00.001Z" });
  given(boxWith({ decide: boom })).when(keep).thenThrows();
  fails(() => given(boxWith({ decide: () => Math.random() })).when(keep), /Math\.random/);
  assert.deepEqual([Date, Date.now, Math.random, crypto.randomUUID, crypto.getRandomValues, performance.now], before);
  assert.deepEqual([Reflect.ownKeys(crypto), Reflect.ownKeys(performance)], keys);
});

test("another clock in place of Date is no hindrance, and is left in place", () => {
  const RealDate = Date;
  class FakeDate extends RealDate {
    static now = () => 7;
  }
  globalThis.Date = FakeDate;
  try {
    given(appointment).at(new RealDate("2026-11-23T08:00:00Z")).when(booking()).then(booked());
    fails(() => given(boxWith({ decide: () => [new Date(), Date.now()] })).when(keep), /decide called new Date\(\)/);
    assert.equal(Date, FakeDate);
    assert.equal(Date.now(), 7);
  } finally {
    globalThis.Date = RealDate;
  }
});

// --- Like the engine -----------------------------------------------------------------------------

const names = ["Kept", "", "a\n", "a\u0085", "a\u200b", "\ud800", "😀", "x".repeat(1024), "x".repeat(1025), "é".repeat(512), "é".repeat(513)];

test("names that the engine refuses are refused, and no others", async () => {
  const places = {
    "event type": (name) => ({ decide: () => [{ type: name, data: {} }] }),
    tag: (name) => ({ tags: () => [name] }),
    "tag to read": (name) => ({ reads: () => [name] }),
    "type to read": (name) => ({ reads: () => [{ types: [name], tags: ["t"] }] }),
  };
  for (const [place, functionsFor] of Object.entries(places)) {
    for (const name of names) {
      const box = boxWith(functionsFor(name));
      assert.equal(passes(() => given(box).when(keep)), await isTaken(box, "b-1", keep), `${place} ${JSON.stringify(name.slice(0, 9))}`);
    }
  }
  for (const name of names) {
    const what = JSON.stringify(name.slice(0, 9));
    assert.equal(passes(() => given(boxWith()).whenOther(name, keep)), await isTaken(boxWith(), name, keep), `id ${what}`);
    const command = { type: name, data: {} };
    assert.equal(passes(() => given(boxWith()).when(command)), await isTaken(boxWith(), "b-1", command), `command ${what}`);
  }
});

function passes(action) {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

async function isTaken(aggregate, id, command) {
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [aggregate] });
  try {
    await engine.execute(aggregate, id, command);
    return true;
  } catch (error) {
    assert.ok(AnnalsError.is(error), error);
    return false;
  } finally {
    await engine.close();
  }
}

// --- What earlier releases have stored -----------------------------------------------------------

const storedAs = ({ type, version, data }) => ({ type, version, data: JSON.parse(data) });

test("what earlier releases have stored is upcast as the engine does", () => {
  for (const { told, ...event } of forms) {
    given(today).stored(storedAs(event)).thenUpcast(...told).thenState({ told });
  }
  const all = toldOf(forms);
  given(today).stored(...forms.map(storedAs)).thenUpcast(...all).thenState({ told: all });
  const confirmed = { type: "Confirmed", data: {} };
  given(today, confirmed)
    .stored(storedAs(forms[5]))
    .thenUpcast({ type: "Rescheduled", data: { start: 4 } })
    .thenState({ told: [confirmed, ...forms[5].told] })
    .when({ type: "Confirm", data: {} })
    .then(confirmed)
    .thenState({ told: [confirmed, ...forms[5].told, confirmed] });
  given(skipping).stored({ type: "Tagged", version: 3, data: {} }).thenUpcast().thenState({ told: [] });
});

test("a failure of what is upcast tells the story and the difference", () => {
  const { message } = failureOf(() =>
    given(today).stored(storedAs(forms[0])).thenUpcast({ type: "Booked", data: { doctor: "7", room: null, minutes: 15 } }),
  );
  assert.equal(
    message,
    `expected other data of Booked

given Appointment
      Booked (version 1) {"doctor":"7"}
then  (- expected, + found)
      Booked {
        "doctor": "7",
    -   "minutes": 15,
    +   "minutes": 30,
        "room": null
      }`,
  );
});

test("a mistake in an upcaster is found, whatever the test expects", () => {
  let count = 0;
  const old = (steps) => release({ events: { Old: steps, Booked: [], Confirmed: [], Rescheduled: [] }, retired: undefined });
  const upcasting = (steps, data = { n: 1 }) => () => given(old(steps)).stored({ type: "Old", version: 1, data });
  upcasting([(data) => data])().thenUpcast({ type: "Old", data: { n: 1 } });
  for (const [steps, message] of [
    [[(data) => Object.assign(data, { n: 2 })], /Old: version 1: its upcaster can't be called with frozen arguments|its upcaster changed data.n/],
    [[() => ({ n: (count += 1) })], /two calls of its upcaster with the same arguments differ/],
    [[() => ({ at: Date.now() })], /its upcaster called Date.now\(\): it must be pure/],
    [[{ becomes: () => [{ type: "Old", data: { n: Math.random() } }] }], /becomes called Math.random\(\)/],
    [[() => { throw new Error("what is this?"); }], /Old: version 1: its upcaster threw: what is this\?/],
    [[() => ({ at: new Date(0) })], /event Old.at: expected a plain object/],
    [[() => undefined], /an upcaster returned undefined/],
    [[{ becomes: () => [{ type: "Lost", data: {} }] }], /Lost: unknown type/],
  ]) {
    fails(upcasting(steps), message);
  }
  fails(() => given(today).stored({ type: "Booked", version: 4, data: {} }), /Booked: version 4 is later than this release knows/);
  fails(() => given(today).stored({ type: "Tagged", version: 1, data: {} }), /Tagged: unknown type/);
  fails(() => given(today).stored({ type: "Booked", version: 0, data: {} }), /expected a version of at least 1, found 0/);
  fails(() => given(today, { type: "Moved", data: {} }), /Moved is not among the events of Appointment/);
  const lost = release({ decide: () => [{ type: "Lost", data: {} }] });
  fails(() => given(lost).when({ type: "Confirm", data: {} }), /Lost is not among the events of Appointment/);
});

test("the clinic's script comes out as on an engine, step by step", async () => {
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [appointment] });
  const counts = { events: 0, refusals: 0, nothing: 0 };
  // One test all through, and for each step one that is given the whole log.
  let story = given(appointment);
  for (const { id, command, rule, expect, ...options } of script) {
    const log = await logOf(engine);
    // Ids of commands and expected revisions are the engine's matter.
    if (expect === "duplicate" || expect.startsWith("error")) continue;
    const outcome = await engine.attempt(appointment, id, command, options);
    const own = log.filter(({ stream }) => stream.id === id);
    let whole = given(appointment, ...own).id(id).at(options.issuedAt);
    for (const event of log) if (event.stream.id !== id) whole = whole.others(event.stream.id, event);
    const results = [whole.when(command), story.at(options.issuedAt).whenOther(id, command)];
    for (const result of results) story = agrees(result, outcome);
    counts[outcome.ok ? (outcome.events.length > 0 ? "events" : "nothing") : "refusals"] += 1;
    story.thenState((await engine.state(appointment, id)).state);
  }
  assert.ok(counts.events >= 20 && counts.refusals >= 50 && counts.nothing >= 4, JSON.stringify(counts));
  await engine.close();
});

function agrees(result, outcome) {
  if (!outcome.ok) {
    const { code, details } = outcome.refusal;
    return result.thenRefused(code, details);
  }
  return result
    .then(...outcome.events)
    .thenState(outcome.state)
    .thenTags(...outcome.events.map(({ tags }) => tags));
}
