// The kit for tests of projections: it lets a right one pass, finds every planted mistake, and does what
// the engine does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, aggregate, nativeAggregate, refuse } from "annals";
import { memoryStorage } from "annals/memory";
import { nativeProjection, projection } from "annals/projections";
import { given, givenView } from "annals/testing";
import { logOf } from "../support/clinic.mjs";
import { failureOf, fails } from "../support/kit-failures.mjs";

/** Visits of patients to doctors. */
const visit = aggregate("Visit", {
  initial: () => null,
  decide: (_, command) => [command],
  evolve: { Booked: () => null, Moved: () => null, Noted: () => null },
});

const booked = (doctor, hour) => ({ type: "Booked", data: { doctor, hour } });
const moved = { type: "Moved", data: { doctor: "8" } };
const noted = { type: "Noted", data: {} };

/** By doctor and hour: which visit it is, since when, and who has booked it. */
const functions = {
  version: 1,
  kind: "inline",
  on: {
    Booked(view, { data, stream, issuedAt, recordedAt, position, actor }) {
      view.update(`${data.doctor}/${data.hour}`, (hour = { times: 0 }) => ({
        by: stream.id,
        since: recordedAt ?? issuedAt,
        actor,
        times: hour.times + 1,
        ...(position && { position }),
      }));
    },
    Moved() {
      throw new RangeError("nobody moves");
    },
  },
  indexes: { by: ({ by }) => by, times: ({ times }) => times },
};
const hours = (changes = {}) => projection("hours", { ...functions, ...changes, on: { ...functions.on, ...changes.on } });

const START = "2026-01-01T00:00:00.000Z";
const hour = (by, rest) => ({ by, since: START, actor: null, times: 1, ...rest });

/** Two visits. */
const two = (changes) => givenView(hours(changes)).happened(visit, "v-1", booked("7", 9), noted).happened(visit, "v-2", booked("8", 9));

// --- A right projection --------------------------------------------------------------------------

test("documents are found by key and by index, and all of them are known", () => {
  givenView(hours()).thenDocuments({}).thenNone("7/9");
  two()
    .thenDocument("7/9", hour("v-1"))
    .thenNone("7/10")
    .thenDocuments({ "8/9": hour("v-2"), "7/9": hour("v-1") })
    .thenIndexed("by", "v-1", ["7/9"])
    .thenIndexed("times", 1, ["7/9", "8/9"])
    .thenIndexed("times", 2.5, [])
    .happened(visit, "v-3", booked("7", 9))
    .thenDocument("7/9", hour("v-3", { times: 2 }))
    .thenIndexed("times", 2, ["7/9"]);
});

test("a view in the append is not told when the store has taken an event", () => {
  const noon = "2026-11-23T12:00:00.000Z";
  two()
    .at("2026-11-23T13:00:00+01:00")
    .by("reception")
    .happened(visit, "v-3", booked("7", 10))
    .thenDocument("7/10", hour("v-3", { since: noon, actor: "reception" }));
  for (const kind of ["live", "async"]) {
    givenView(hours({ kind }))
      .at(noon)
      .happened(visit, "v-1", booked("7", 9))
      .advance({ minutes: 1 })
      .by("nurse")
      .happened(visit, "v-1", booked("7", 10))
      // The clock of a store is never set back.
      .at("2020-01-01T00:00:00Z")
      .happened(visit, "v-1", booked("7", 11))
      .thenDocument("7/9", hour("v-1", { since: noon, position: "under-test:1" }))
      .thenDocument("7/10", hour("v-1", { since: "2026-11-23T12:01:00.000Z", actor: "nurse", position: "under-test:2" }))
      .thenDocument("7/11", hour("v-1", { since: "2026-11-23T12:01:00.000Z", actor: "nurse", position: "under-test:3" }));
  }
  for (const actor of ["", "a\n", 7]) fails(() => two().by(actor), /actor/);
});

test("a view stops before what it can't take in", () => {
  two()
    .happened(visit, "v-2", booked("8", 10), moved, booked("8", 11))
    .thenStops("nobody")
    .thenNone("8/11")
    .thenDocument("8/10", hour("v-2"))
    .happened(visit, "v-3", booked("7", 12))
    .thenNone("7/12")
    .thenStops(/^nobody moves$/)
    .thenStops();
});

test("tests may share a beginning: no step changes it", () => {
  const beginning = two();
  beginning.happened(visit, "v-3", booked("7", 10)).thenDocument("7/10", hour("v-3"));
  beginning.at("2026-11-23T12:00:00Z").by("nurse").advance({ days: 1 });
  beginning.happened(visit, "v-3", moved).thenStops();
  beginning.happened(visit, "v-3", booked("7", 11)).thenDocuments({ "7/9": hour("v-1"), "8/9": hour("v-2"), "7/11": hour("v-3") });
});

test("events of aggregates that are written in Rust may happen", () => {
  givenView(hours()).happened(nativeAggregate("Visit"), "v-1", booked("7", 9)).thenDocument("7/9", hour("v-1"));
});

// --- What a failed expectation says --------------------------------------------------------------

test("a failure tells what has happened, what was expected, what is there, and how they differ", () => {
  const expected = hour("v-1", { times: 2, since: "2026-11-23T08:00:00.000Z" });
  const failure = failureOf(() =>
    two().at("2026-11-23T08:00:00Z").by("reception").happened(visit, "v-2", booked("7", 9)).thenDocument("7/9", expected),
  );
  assert.equal(
    failure.message,
    `expected document 7/9.by to be "v-1", found "v-2"

given hours
given Visit v-1
      Booked {"doctor":"7","hour":9}
      Noted {}
given Visit v-2
      Booked {"doctor":"8","hour":9}
at    2026-11-23T08:00:00.000Z
by    reception
given Visit v-2
      Booked {"doctor":"7","hour":9}
then  (- expected, + found)
      {
    -   "actor": null,
    -   "by": "v-1",
    +   "actor": "reception",
    +   "by": "v-2",
        "since": "2026-11-23T08:00:00.000Z",
        "times": 2
      }`,
  );
  assert.deepEqual(failure.expected, expected);
  assert.deepEqual(failure.actual, { ...expected, by: "v-2", actor: "reception" });
  assert.equal(
    failureOf(() => two().thenDocument("7/10", hour("v-1"))).message,
    `expected document 7/10, found none

given hours
given Visit v-1
      Booked {"doctor":"7","hour":9}
      Noted {}
given Visit v-2
      Booked {"doctor":"8","hour":9}
then  (- expected, + found)
    - 7/10 {"by":"v-1","since":"2026-01-01T00:00:00.000Z","actor":null,"times":1}
    + 7/9 {"by":"v-1","since":"2026-01-01T00:00:00.000Z","actor":null,"times":1}
    + 8/9 {"by":"v-2","since":"2026-01-01T00:00:00.000Z","actor":null,"times":1}`,
  );
  fails(() => givenView(hours()).thenDocument("7/9", hour("v-1")), /given hours\n {6}nothing\nthen[^]*\n {4}\+ nothing$/);
});

const stopped = () => two().happened(visit, "v-1", moved);
const unmet = /^nothing expects that the view stops at Moved: nobody moves\n[^]*\nthen {2}stops at Moved: nobody moves$/;

const expectations = [
  ["a document that is there", () => two().thenNone("7/9"), /^expected no document 7\/9, found one\n/],
  ["documents too few", () => two().thenDocuments({}), /^expected documents nothing, found 7\/9, 8\/9\n/],
  ["another of the documents", () => two().thenDocuments({ "7/9": hour("v-9"), "8/9": hour("v-2") }), /^expected document 7\/9\.by to be "v-9", found "v-1"\n/],
  ["another key in an index", () => two().thenIndexed("by", "v-1", ["8/9"]), /^expected by v-1 to find 8\/9, found 7\/9\n/],
  ["another order in an index", () => two().thenIndexed("times", 1, ["8/9", "7/9"]), /^expected times 1 to find 8\/9, 7\/9, found 7\/9, 8\/9\n/],
  ["an index that is none", () => two().thenIndexed("colour", "red", []), /^there is no index colour, but by, times\n/],
  ["a value that is none", () => two().thenIndexed("by", {}, []), /^index by: expected text/],
  ["a view that goes on", () => two().thenStops("nobody"), /^expected the view to stop, found that it has taken in all events\n/],
  ["another reason", () => stopped().thenStops("somebody"), /^expected the view to stop, found that it stops at Moved: nobody moves\n/],
  ["a stop that nobody expects, before a document", () => stopped().thenDocument("7/9", hour("v-1")), unmet],
  ["a stop that nobody expects, before documents", () => stopped().thenDocuments({}), unmet],
  ["a stop that nobody expects, before none", () => stopped().thenNone("7/10"), unmet],
  ["a stop that nobody expects, before an index", () => stopped().thenIndexed("times", 1, ["7/9"]), unmet],
  ["a stop that nobody expects, before more events", () => stopped().happened(visit, "v-1", noted), unmet],
  ["an expected document that is no JSON", () => two().thenDocument("7/9", { at: new Date(0) }), /^expected document\.at: expected a plain object/],
];

for (const [what, action, message] of expectations) {
  test(`a test of a projection fails by ${what}`, () => fails(action, message));
}

test("what a function has thrown is the failure's cause", () => {
  assert.ok(failureOf(() => stopped().thenNone("7/10")).cause instanceof RangeError);
});

// --- Planted mistakes ----------------------------------------------------------------------------

/** Something else each time. */
let calls = 0;
const next = () => (calls += 1);

/** One that does not fail because of frozen objects, as code that is not strict does not. */
const edit = (object, key, value) => void Reflect.set(object, key, value);

const on = (Booked) => ({ on: { Booked } });
const set = (view, { data }, document) => view.set(`${data.doctor}/${data.hour}`, document);

const mistakes = [
  // Not pure: changes what it is given.
  ["edits a document", on((view, event) => (view.get("7/9")?.list.push(1), set(view, event, { list: [0] }))), /on\.Booked changed document 7\/9\.list\[1\], which was nothing and is 1 after the call: `set` another/],
  ["edits a document unseen", on((view, event) => (edit(view.get("7/9") ?? {}, "list", 1), set(view, event, { list: [0] }))), /on\.Booked changed document 7\/9\.list, which was \[0\] and is 1/],
  ["edits a document when it updates it", on((view) => view.update("7/9", (list = []) => (edit(list, "length", 0), [0]))), /on\.Booked changed document 7\/9/],
  ["edits the event", on((view, event) => (edit(event.data, "hour", 0), set(view, event, {}))), /on\.Booked changed event\.data\.hour, which was 9 and is 0/],
  ["edits the event's stream", on((view, event) => void (event.stream.id = "v-9")), /on\.Booked changed event\.stream\.id/],
  // Not pure: something else each time.
  ["counts", on((view, event) => set(view, event, { n: next() })), /two calls of on\.Booked with the same arguments differ: the result\[0\]\.document\.n is \d+ once and \d+ once/],
  ["writes other keys", on((view) => view.set(`k${next()}`, {})), /two calls of on\.Booked with the same arguments differ: the result\[0\]\.key/],
  ["stops sometimes", on(() => { if (next() % 2) throw new Error("not now"); }), /on\.Booked/],
  ["has an index that counts", { indexes: { n: () => next() } }, /two calls of indexes\.n with the same arguments differ/],
  ["has an index that edits", { indexes: { n: (document) => (edit(document, "by", 0), 1) } }, /indexes\.n changed document\.by/],
  // Not pure: asks the platform.
  ["asks for the time", on((view, event) => set(view, event, { at: Date.now() })), /on\.Booked called Date\.now\(\): it must be pure\. The time of an event is its `issuedAt`\./],
  ["makes a date of now", on((view, event) => set(view, event, { at: new Date().toISOString() })), /on\.Booked called new Date\(\)/],
  ["throws dice", on((view, event) => set(view, event, { n: Math.random() })), /on\.Booked called Math\.random\(\)/],
  ["makes an id", on((view) => view.set(crypto.randomUUID(), {})), /on\.Booked called crypto\.randomUUID\(\)/],
  ["has an index that asks for the time", { indexes: { at: () => Date.now() } }, /indexes\.at called Date\.now\(\)/],
  // Not what a function may do.
  ["is async", on(async () => undefined), /on\.Booked returned a promise, and must be done when it returns/],
  ["is async and throws", on(async () => { throw new Error("later"); }), /on\.Booked returned a promise/],
  ["gives a date", on((view, event) => set(view, event, { at: new Date(0) })), /on\.Booked gave what can't be stored: document 7\/9\.at: expected a plain object/],
  ["gives nothing", on((view, event) => set(view, event, undefined)), /on\.Booked gave what can't be stored: document 7\/9: expected JSON, found undefined/],
  ["gives an undefined member", on((view, event) => set(view, event, { deep: { note: undefined } })), /on\.Booked gave a document that JSON does not keep: document 7\/9\.deep\.note is undefined, and comes back as nothing/],
  ["gives a negative zero", on((view, event) => set(view, event, { sum: -0 })), /document 7\/9\.sum is -0, and comes back as 0/],
  ["swallows what it may not give", on((view, event) => { try { set(view, event, { at: new Date(0) }); } catch { set(view, event, {}); } }), /gave what can't be stored/],
];

for (const [what, changes, message] of mistakes) {
  test(`a projection that ${what} is found, whatever the test expects`, () => {
    const { message: told, actual, expected } = failureOf(() => {
      givenView(hours(changes)).happened(visit, "v-1", booked("7", 9), booked("7", 9));
    });
    assert.match(told, message);
    assert.match(told, /\ngiven hours\ngiven Visit v-1\n {6}Booked/);
    // Runners have nothing to compare.
    assert.deepEqual([actual, expected], [undefined, undefined]);
  });
}

test("documents that are others when events come in other pages are found", () => {
  // Within a page a document is the very object that was put in; in the next it is read again.
  const kept = new WeakSet();
  const telling = hours(on((view, event) => {
    const before = view.get("7/9");
    set(view, event, { n: kept.has(before) ? "kept" : "read" });
    kept.add(view.get("7/9"));
  }));
  const given = (own) => givenView(own).happened(visit, "v-1", booked("7", 9), booked("7", 9));
  fails(
    () => given(telling),
    /^document 7\/9 is \{"n":"kept"\} when the events come in pages of two, and \{"n":"read"\} when they come one by one: a function may rest/,
  );
  const stopping = hours(on((view, event) => {
    if (kept.has(view.get("7/9"))) throw new Error("I know you");
    set(view, event, {});
    kept.add(view.get("7/9"));
  }));
  fails(() => given(stopping), /^the view stops when the events come in pages of two, and not when they come one by one: I know you\n/);
});

test("an index that can't be written is told where it stops", () => {
  const odd = { indexes: { odd: ({ times }) => (times > 1 ? {} : times) } };
  givenView(hours(odd)).happened(visit, "v-1", booked("7", 9), booked("7", 9)).thenStops("document 7/9: index odd: expected text").thenDocument("7/9", hour("v-1"));
});

test("a mistake in what has happened is found where it is given", () => {
  for (const event of [null, undefined, "Booked", {}, []]) fails(() => two().happened(visit, "v-3", event), /expected an event with type and data/);
  fails(() => two().happened(visit, "v-3", { type: "Booked", data: NaN }), /event Booked: expected a finite number/);
  for (const id of ["", "a\n", 7]) fails(() => two().happened(visit, id, noted), /id/);
  fails(() => two().happened(visit, "v-3", { type: "", data: {} }), /event type/);
  fails(() => givenView(nativeProjection("hours")), /projection hours is written in Rust: test it there/);
});

// --- Like the engine -----------------------------------------------------------------------------

test("what the kit finds is what an engine has", async () => {
  for (const kind of ["live", "inline", "async"]) {
    const own = hours({ kind });
    const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], projections: [own] });
    let story = givenView(own);
    for (let number = 0; number < 30; number += 1) {
      const id = `v-${number % 4}`;
      const event = number % 5 === 0 ? noted : booked(`${number % 3}`, number % 7);
      const issuedAt = new Date(Date.parse(START) + number * 60_000);
      await engine.execute(visit, id, event, { issuedAt, actor: `clerk ${number % 2}` });
      story = story.at(issuedAt).by(`clerk ${number % 2}`).happened(visit, id, event);
    }
    const { documents } = await engine.view(own).list({ latest: true });
    assert.ok(documents.length > 10);
    // Where and since when an event is in a store is that store's matter.
    const log = new Map((await logOf(engine)).map(({ position, issuedAt }, index) => [position, [`under-test:${index + 1}`, issuedAt]]));
    const told = ({ position, since, ...rest }) => {
      if (position === undefined) return { ...rest, since };
      const [place, issuedAt] = log.get(position);
      return { ...rest, position: place, since: issuedAt };
    };
    story.thenDocuments(Object.fromEntries(documents.map(({ key, document }) => [key, told(document)])));
    for (const times of [1, 2, 3]) {
      const found = await engine.view(own).list({ index: "times", equals: times });
      story.thenIndexed("times", times, found.documents.map(({ key }) => key));
    }
    await engine.close();
  }
});

// --- Decisions that fold -------------------------------------------------------------------------

/** No doctor has two visits of one hour. */
const booking = aggregate("Visit", {
  initial: () => null,
  reads: ({ data }) => [`doctor:${data.doctor}`],
  decide: (_, { data }, { fold }) => {
    const taken = fold(hours()).get(`${data.doctor}/${data.hour}`);
    return taken ? refuse("taken", taken) : [{ type: "Booked", data }];
  },
  evolve: { Booked: () => null, Moved: () => null, Noted: () => null },
  tags: ({ data }) => (data.doctor ? [`doctor:${data.doctor}`] : []),
});

const book = { type: "Book", data: { doctor: "7", hour: 9 } };

test("a decision under test folds what it reads", () => {
  given(booking).when(book).then(booked("7", 9));
  given(booking).others("v-2", booked("8", 9), noted).when(book).then(booked("7", 9));
  given(booking).others("v-2", booked("7", 9)).when(book).thenRefused("taken", hour("v-2"));
  given(booking).by("reception").whenOther("v-2", book).when(book).thenRefused("taken", hour("v-2", { actor: "reception" }));
});

test("an event that can't be folded is what the decision throws, and can't be swallowed", () => {
  const unlucky = { type: "Moved", data: { doctor: "7" } };
  const message = "projection hours can't take in Moved of Visit/v-2@2: nobody moves";
  const asked = given(booking).others("v-2", booked("7", 9), unlucky).when({ ...book, data: { doctor: "7", hour: 10 } });
  asked.thenThrows(message);
  fails(() => asked.then(booked("7", 10)), /found an error: projection hours can't take in Moved/);
  const swallowing = aggregate("Visit", {
    ...booking.functions,
    decide: (_, { data }, { fold }) => {
      try {
        fold(hours());
      } catch {
        // It goes on without.
      }
      return [{ type: "Booked", data }];
    },
  });
  fails(() => given(swallowing).others("v-2", unlucky).when(book), /projection hours can't take in Moved of Visit\/v-2@1: nobody moves/);
});

test("a decision that folds by what is not pure is found", () => {
  const counting = hours(on((view, event) => set(view, event, { n: next() })));
  const timing = hours(on((view, event) => set(view, event, { n: Date.now() })));
  const folding = (own) =>
    aggregate("Visit", {
      ...booking.functions,
      decide: (_, { data }, { fold }) => [{ type: "Booked", data: { ...data, was: fold(own).get("7/9") ?? null } }],
    });
  fails(() => given(folding(counting)).others("v-2", booked("7", 9)).when(book), /two calls of decide with the same arguments differ/);
  fails(() => given(folding(timing)).others("v-2", booked("7", 9)).when(book), /decide called Date\.now\(\)/);
});
