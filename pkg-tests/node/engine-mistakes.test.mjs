// What domain functions and payloads may not be: the caller is told what, nothing is stored, and the
// engine goes on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AnnalsError, Engine, aggregate, refuse } from "annals";
import { memoryStorage } from "annals/memory";
import { logOf } from "../support/clinic.mjs";
import { onEachStore, sqliteStores } from "../support/engine-stores.mjs";
import { drivers } from "../support/sqlite-drivers.mjs";
import { frozen } from "../support/expect.mjs";

/** Keeps what it is given; the functions may be replaced. */
const box = (functions = {}) =>
  aggregate("Box", {
    initial: () => ({ kept: [] }),
    decide: (_, { data }) => [{ type: "Kept", data }],
    evolve: { Kept: ({ kept }, { data }) => ({ kept: [...kept, data] }) },
    ...functions,
  });

/** An engine with an aggregate of these functions, and the way to give it a command with some data. */
async function boxed(place, functions) {
  const aggregate = box(functions);
  const engine = await place.open({ aggregates: [aggregate] });
  const keep = (data, options, id = "b-1") => engine.execute(aggregate, id, { type: "Keep", data }, options);
  return { engine, aggregate, keep };
}

const cycle = { list: [] };
cycle.list.push({ cycle });
const nested = (levels, core) => (levels === 0 ? core : [nested(levels - 1, core)]);
const bytes = (count) => "x".repeat(count - '{"text":""}'.length);

const unfit = [
  ["NaN", { n: NaN }, /\.n: expected a finite number, found NaN/],
  ["infinity", [-Infinity], /\[0\]: expected a finite number/],
  ["a BigInt", { deep: [{ n: 1n }] }, /\.deep\[0\]\.n: expected JSON, found bigint/],
  ["a date", { at: new Date() }, /\.at: expected a plain object/],
  ["a map", new Map(), /expected a plain object/],
  ["a set", { s: new Set([1]) }, /expected a plain object/],
  ["bytes", { b: new Uint8Array(3) }, /expected a plain object/],
  ["an error", { e: new Error("x") }, /expected a plain object/],
  ["an instance of a class", { i: new (class Price {})() }, /expected a plain object/],
  ["a boxed text", { t: new String("x") }, /expected a plain object/],
  ["an object that writes itself", { toJSON: () => 1 }, /expected a plain object/],
  ["a promise", { p: Promise.resolve() }, /expected a plain object/],
  ["a function", { f() {} }, /\.f: expected JSON, found function/],
  ["a symbol", [Symbol("x")], /expected JSON, found symbol/],
  ["undefined in a list", [1, undefined], /\[1\]: expected JSON, found undefined/],
  ["a list with a hole", [1, , 2], /\[1\]: expected JSON, found undefined/],
  ["a cycle", cycle, /expected at most 120 levels/],
  ["121 levels", nested(121, 0), /expected at most 120 levels/],
  ["a bottomless pit", nested(5000, 0), /expected at most 120 levels/],
  ["half a surrogate pair", { s: "a\ud83d" }, /\.s: .* lone surrogate/],
  ["the other half", ["\ude00b"], /lone surrogate/],
  ["half a pair in a key", { "\ud800": 1 }, /whole characters in a key/],
  ["2^53", { n: 2 ** 53 }, /\.n: expected an integer within 2\^53/],
  ["-2^53 - 2", [-(2 ** 53) - 2], /within 2\^53/],
  ["10^20", [1e20], /within 2\^53/],
  ["more than a mebibyte", { text: bytes(2 ** 20 + 1) }, /at most 1048576 bytes/],
  ["more than a mebibyte in UTF-8", { text: "é".repeat(2 ** 19) }, /at most 1048576 bytes/],
];

for (const [what, value, message] of unfit) {
  onEachStore(`${what} is no payload, wherever it comes up`, async (place) => {
    const unfit = { code: "invalid-payload", message };
    const { engine, keep } = await boxed(place);
    await assert.rejects(keep(value), unfit);
    await assert.rejects(keep({}, { metadata: { value } }), unfit);

    const decided = await boxed(place, { decide: () => [{ type: "Kept", data: {} }, { type: "Kept", data: value }] });
    await assert.rejects(decided.keep({}), unfit);
    const refused = await boxed(place, { decide: () => refuse("no", { value }) });
    await assert.rejects(refused.keep({}), unfit);
    if (!/mebibyte/.test(what)) {
      const evolved = await boxed(place, { evolve: { Kept: () => value } });
      await assert.rejects(evolved.keep({}), unfit);
    }
    assert.deepEqual(await logOf(engine), []);
    assert.equal((await keep({ fine: true })).revision, 1);
  }, ["memory"]);
}

const fit = [
  null,
  true,
  "",
  "text \u0000 \u2028 😀 שלום \u202e \"quotes\" \\ / \\ud83d",
  0,
  -0,
  2 ** 53 - 1,
  -(2 ** 53) + 1,
  1e21,
  1.7976931348623157e308,
  5e-324,
  0.1,
  [],
  {},
  [[], {}, null],
  { "": 1, " ": 2, "\u0000": 3, "😀": 4, constructor: 5, toString: 6 },
  JSON.parse('{"__proto__": {"polluted": true}, "a": 1}'),
  Object.assign(Object.create(null), { plain: true }),
  nested(118, 0),
  { text: bytes(2 ** 20) },
  { text: "é".repeat(2 ** 19 - 6) },
];

onEachStore("what JSON can say comes back as it was given", async (place) => {
  const { engine, aggregate, keep } = await boxed(place);
  for (const [index, data] of fit.entries()) {
    const id = `b-${index}`;
    const text = JSON.stringify(data);
    const { events, state } = await keep(data, { metadata: { data: index < 19 ? data : null } }, id);
    const history = await engine.history(aggregate, id);
    for (const found of [events[0].data, state.kept[0], history.events[0].data, history.state.kept[0]]) {
      assert.equal(JSON.stringify(found), text);
    }
    if (index < 19) assert.equal(JSON.stringify(history.events[0].metadata), `{"data":${text}}`);
  }
  assert.equal({}.polluted, undefined);
});

onEachStore("a member that is undefined is left out, for the domain as for the store", async (place) => {
  const seen = [];
  const { engine, keep } = await boxed(place, {
    decide: (_, { data }) => (seen.push(data), [{ type: "Kept", data: { ...data, more: undefined } }]),
    evolve: { Kept: (_, { data }) => (seen.push(data), { data, less: undefined }) },
    tags: ({ data }) => (seen.push(data), []),
  });
  await keep({ a: 1, b: undefined });
  for (const data of seen) assert.deepEqual(Object.keys(data), ["a"]);
  assert.deepEqual((await logOf(engine))[0].data, { a: 1 });
  await keep(undefined, {}, "b-2");
  assert.deepEqual((await logOf(engine))[1].data, {});
});

const boom = () => {
  throw new Error("boom");
};
const late = async () => boom();
const event = { type: "Kept", data: {} };
const kept = (state) => state;

const mistakes = [
  ["decide that throws", { decide: boom }, "domain-failed", /boom/],
  ["decide that returns nothing", { decide: () => undefined }, "domain-failed", /decide must return an array of events, or a refusal/],
  ["decide that returns null", { decide: () => null }, "domain-failed", /decide must return/],
  ["decide that returns one event", { decide: () => event }, "domain-failed", /decide must return/],
  ["decide that returns no events in a list", { decide: () => ["Kept"] }, "domain-failed", /decide must return events/],
  ["decide that returns null in a list", { decide: () => [null] }, "domain-failed", /decide must return events/],
  ["decide that is async", { decide: async () => [event] }, "domain-failed", /decide returned a promise/],
  ["decide that is async and throws", { decide: late }, "domain-failed", /decide returned a promise/],
  ["decide that edits the state", { decide: (state) => (state.kept.push(1), [event]) }, "domain-failed", frozen.pushed],
  ["an event without a name", { decide: () => [{ type: "", data: {} }], evolve: { "": kept } }, "invalid-name", /non-empty event type/],
  ["an event with an unprintable name", { decide: () => [{ type: "a\n", data: {} }], evolve: { "a\n": kept } }, "invalid-name", /event type without control/],
  ["evolve that throws", { evolve: { Kept: boom } }, "domain-failed", /boom/],
  ["evolve that returns nothing", { evolve: { Kept: () => undefined } }, "domain-failed", /evolve returned undefined/],
  ["evolve that is async", { evolve: { Kept: async (state) => state } }, "domain-failed", /evolve returned a promise/],
  ["evolve that is async and throws", { evolve: { Kept: late } }, "domain-failed", /evolve returned a promise/],
  ["evolve that edits the state", { evolve: { Kept: (state) => ((state.kept = []), state) } }, "domain-failed", frozen.set],
  ["one evolve for all that throws", { evolve: boom, events: { Kept: [] } }, "domain-failed", /boom/],
  ["one evolve for all that is async", { evolve: late, events: { Kept: [] } }, "domain-failed", /evolve returned a promise/],
  ["initial that throws", { initial: boom }, "domain-failed", /boom/],
  ["initial that gives nothing", { initial: () => undefined }, "invalid-payload", /state: expected JSON, found undefined/],
  ["reads that throws", { reads: boom }, "domain-failed", /boom/],
  ["reads that is async and throws", { reads: late }, "domain-failed", /reads returned a promise/],
  ["reads that returns a text", { reads: () => "all" }, "domain-failed", /reads must return an array/],
  ["reads of a query item that matches all", { reads: () => [{ types: [], tags: [] }] }, "invalid-name", /non-empty query item/],
  ["reads of half a query item", { reads: () => [{ tags: ["a"] }] }, "domain-failed", /./],
  ["reads of a tag without a name", { reads: () => [""] }, "invalid-name", /non-empty tag/],
  ["reads of half a character", { reads: () => ["\udc00"] }, "invalid-name", /lone surrogate/],
  ["reads that is never the same", { reads: () => [`${Math.random()}`] }, "domain-failed", /is it pure/],
  ["tags that throws", { tags: boom }, "domain-failed", /boom/],
  ["tags that is async and throws", { tags: late }, "domain-failed", /tags returned a promise/],
  ["tags that returns a text", { tags: () => "all" }, "domain-failed", /tags must return an array of strings/],
  ["tags that returns numbers", { tags: () => [7] }, "domain-failed", /tags must return an array of strings/],
  ["a tag without a name", { tags: () => [""] }, "invalid-name", /non-empty tag/],
  ["a tag with a line feed", { tags: () => ["a\nb"] }, "invalid-name", /tag without control characters/],
  ["reads of a tag with a control character", { reads: () => ["a\u0001"] }, "invalid-name", /tag without control characters/],
  ["a tag that is too long", { tags: () => ["x".repeat(1025)] }, "invalid-name", /at most 1024 bytes/],
  ["a tag of half a character", { tags: () => ["a", "\ud83d", "\ude00"] }, "invalid-name", /lone surrogate/],
];

for (const [what, functions, code, message] of mistakes) {
  onEachStore(`${what} is told to the caller, and nothing is stored`, async (place) => {
    const { engine, keep } = await boxed(place, functions);
    const fine = await boxed(place);
    const details = { stream: { type: "Box", id: "b-1" }, command: "Keep" };
    await assert.rejects(keep({}), { code, message, details });
    assert.deepEqual(await logOf(fine.engine), []);
    // The engine goes on with what is asked next, and ends in order.
    await assert.rejects(keep({}), { code, message });
    await engine.close();
    assert.equal((await fine.keep({})).revision, 1);
  }, ["memory", "memory that answers later"]);
}

for (const [what, functions] of [
  ["evolve has a function for", {}],
  ["events lists beside one evolve for all", { evolve: kept, events: { Kept: [] } }],
]) {
  onEachStore(`an event of another type than ${what} fails its decision, is named, and nothing is stored`, async (place) => {
    for (const type of ["Lost", "kept", "toString", "constructor", "__proto__", "", "\ud800"]) {
      const { engine, keep } = await boxed(place, { decide: () => [event, { type, data: {} }], ...functions });
      await assert.rejects(keep({}), (error) => {
        assert.ok(AnnalsError.is(error, "domain-failed"));
        assert.deepEqual(error.details, { stream: { type: "Box", id: "b-1" }, command: "Keep" });
        const shown = type.replace("\ud800", "\ufffd");
        assert.ok(error.message.includes(`decide returned ${shown}, which is not among the events of Box`), error.message);
        return true;
      });
      assert.deepEqual(await logOf(engine), []);
    }
  });
}

onEachStore("a stored event of a type that evolve has no function for can't be read, or is passed by", async (place) => {
  const later = { decide: (_, { data }) => [{ type: data, data }], evolve: { Kept: kept, Lost: kept } };
  const { keep } = await boxed(place, later);
  for (const type of ["Kept", "Lost"]) await keep(type);
  const { engine, aggregate } = await boxed(place);
  await assert.rejects(engine.state(aggregate, "b-1"), {
    code: "unreadable-event",
    message: /event 2 of Box\/b-1 can't be read: Lost: unknown type/,
    details: { stream: { type: "Box", id: "b-1" }, revision: 2, problem: "unknown-type" },
  });
  const passing = await boxed(place, { unknownEvents: "skip" });
  assert.deepEqual(await passing.engine.state(passing.aggregate, "b-1"), { state: { kept: ["Kept"] }, revision: 2 });
});

onEachStore("a function that calls the engine while events are folded is answered like others", async (place) => {
  const { keep } = await boxed(place);
  for (const id of ["b-1", "b-2"]) for (const data of ["ask", "nothing"]) await keep(data, {}, id);
  const asked = [];
  const evolve = ({ kept }, { data }) => {
    if (data === "ask" && asked.length === 0) asked.push(engine.state(aggregate, "b-2"), keep("more", {}, "b-3"));
    return { kept: [...kept, data] };
  };
  const { engine, aggregate } = await boxed(place, { evolve: { Kept: evolve } });
  const found = [await engine.state(aggregate, "b-1"), ...(await Promise.all(asked))];
  assert.deepEqual(found.map(({ revision, state: { kept } }) => [revision, kept]), [
    [2, ["ask", "nothing"]],
    [2, ["ask", "nothing"]],
    [1, ["more"]],
  ]);
});

test("a load that has to be asked for again is folded for those who still wait", async () => {
  const storage = memoryStorage();
  const { keep } = await boxed({ open: (options) => Engine.open({ storage, ...options }) });
  for (const id of ["b-1", "b-2"]) await keep(id, {}, id);
  const evolve = ({ kept }, { data }) => {
    if (data === "b-1") throw new Error("boom");
    return { kept: [...kept, data] };
  };
  const aggregates = [box({ evolve: { Kept: evolve } })];
  const engine = await Engine.open({ storage, aggregates, limits: { requestTimeout: 5 } });
  const { load } = storage;
  const loads = [];
  storage.load = function (request) {
    loads.push(request.streams.map(({ aggregateId }) => aggregateId));
    return loads.length === 1 ? new Promise(() => undefined) : load.call(this, request);
  };
  const aborting = new AbortController();
  const { signal } = aborting;
  const asked = ["b-1", "b-2"].map((id) => engine.state(aggregates[0], id, { signal: id === "b-1" ? signal : undefined }));
  await new Promise((resolve) => setTimeout(resolve));
  aborting.abort();
  await assert.rejects(asked[0], { code: "cancelled" });
  assert.deepEqual(await asked[1], { state: { kept: ["b-2"] }, revision: 1 });
  assert.deepEqual(loads, [["b-1", "b-2"], ["b-1", "b-2"]]);
  await engine.close();
});

onEachStore("names that objects inherit are event types like others", async (place) => {
  const types = ["__proto__", "constructor", "toString", "hasOwnProperty"];
  const note = ({ kept }, { type }) => ({ kept: [...kept, type] });
  const byType = Object.fromEntries(types.map((type) => [type, note]));
  const lists = Object.fromEntries(types.map((type) => [type, []]));
  const decide = () => types.map((type) => ({ type, data: {} }));
  for (const [id, functions] of [["b-1", { evolve: byType }], ["b-2", { evolve: byType, events: lists }], ["b-3", { evolve: note, events: lists }]]) {
    const { keep } = await boxed(place, { decide, ...functions });
    const expected = { state: { kept: types }, revision: 4 };
    assert.deepEqual((await keep({}, {}, id)).state, expected.state);
    const cold = await boxed(place, functions);
    assert.deepEqual(await cold.engine.state(cold.aggregate, id), expected);
  }
});

test("an aggregate is refused by its name if nobody can know its event types, or two places name others", () => {
  const unknown = /^aggregate Box: expected evolve as functions by event type, or events, which name every type$/;
  const own = { Kept: kept };
  for (const [message, functions] of [
    ...[kept, undefined, null, 7, {}, [], new Map([["Kept", kept]]), Object.create(own)].map((evolve) => [unknown, { evolve }]),
    [unknown, { evolve: kept, events: {} }],
    [unknown, { evolve: kept, retired: { Lost: [{ becomes: () => [] }] } }],
    [unknown, { evolve: kept, unknownEvents: "skip" }],
    [/Box: expected a function of Kept in evolve/, { evolve: { Kept: true } }],
    [/Box: expected a function of Kept in evolve/, { evolve: undefined, events: { Kept: [] } }],
    [/Box: expected a function of Lost in evolve/, { evolve: own, events: { Kept: [], Lost: [] } }],
    [/Box: expected a function of toString in evolve/, { evolve: own, events: { Kept: [], toString: [] } }],
    [/Box: expected one list of upcasters of Lost/, { evolve: { ...own, Lost: kept }, events: { Kept: [] } }],
    [/Box: expected one list of upcasters of toString/, { evolve: { ...own, toString: kept }, events: { Kept: [] } }],
    [/Box: expected one list of upcasters of __proto__/, { evolve: { ...own, ["__proto__"]: kept }, events: { Kept: [] } }],
  ]) {
    assert.throws(() => box(functions), { code: "invalid-argument", message });
  }
});

onEachStore("an event type of half a character is refused when the engine is opened", async (place) => {
  await assert.rejects(boxed(place, { evolve: { "\ud800": kept } }), { code: "invalid-name", message: /lone surrogate/ });
}, ["memory"]);

onEachStore("what a domain function throws is the cause of the error", async (place) => {
  for (const thrown of [new TypeError("boom"), "boom", { boom: true }]) {
    const { keep } = await boxed(place, {
      decide: () => {
        throw thrown;
      },
    });
    await assert.rejects(keep({}), (error) => {
      assert.ok(AnnalsError.is(error, "domain-failed"));
      assert.equal(error.cause, thrown);
      return true;
    });
  }
});

onEachStore("an event that evolve can't take stops its stream, and no other", async (place) => {
  const first = await boxed(place);
  for (const data of ["good", "bad", "good"]) await first.keep(data);
  await first.keep("good", {}, "b-2");
  const thrown = new Error("what is \ud800 this?");
  const { engine, aggregate, keep } = await boxed(place, {
    evolve: {
      Kept({ kept }, { data }) {
        if (data === "bad") throw thrown;
        return { kept: [...kept, data] };
      },
    },
  });
  const unreadable = (error) => {
    assert.ok(AnnalsError.is(error, "unreadable-event"));
    assert.deepEqual(error.details, { stream: { type: "Box", id: "b-1" }, revision: 2, problem: "failed" });
    assert.match(error.message, /Kept.*what is \ufffd this\?/);
    assert.equal(error.cause, thrown);
    return true;
  };
  for (const _ of [1, 2]) {
    await assert.rejects(engine.state(aggregate, "b-1"), unreadable);
    await assert.rejects(engine.history(aggregate, "b-1"), unreadable);
    await assert.rejects(keep("more"), unreadable);
  }
  assert.deepEqual(await engine.state(aggregate, "b-1", { at: { revision: 1 } }), { state: { kept: ["good"] }, revision: 1 });
  assert.equal((await keep("more", {}, "b-2")).revision, 2);
  // The log itself can be read, and who mends `evolve` goes on.
  assert.equal((await logOf(engine)).length, 5);
  assert.equal((await first.keep("more")).revision, 4);
});

onEachStore("a stored event whose data look like those of two is unreadable, and no state comes of it", async (place) => {
  const { keep } = await boxed(place);
  for (const text of ["one", "two", "three"]) await keep(text);
  const [connect] = [...drivers.values()];
  const database = connect(place.file);
  database.exec("DROP TRIGGER events_are_not_updated");
  database.exec(`UPDATE events SET data = '"two",' || char(10) || '"more"' WHERE revision = 2`);
  database.close();
  const { engine, aggregate } = await boxed(place);
  await assert.rejects(engine.state(aggregate, "b-1"), { code: "unreadable-event" });
  await assert.rejects(engine.history(aggregate, "b-1"), { code: "unreadable-event" });
}, sqliteStores);

for (const column of ["data", "metadata", "tags"]) {
  onEachStore(`a stored event whose ${column} are no JSON is told as unreadable, with its place`, async (place) => {
    const { engine, aggregate, keep } = await boxed(place, { tags: () => ["t"] });
    for (const text of ["one", "two", "three"]) await keep(text, { metadata: { text } });
    await keep("other", {}, "b-2");
    const [connect] = [...drivers.values()];
    const database = connect(place.file);
    database.exec("DROP TRIGGER events_are_not_updated");
    database.exec(`UPDATE events SET ${column} = '{"half' WHERE revision = 2`);
    database.close();
    const told = { code: "unreadable-event", details: { stream: { type: "Box", id: "b-1" }, revision: 2, problem: "failed" }, message: /Kept/ };

    const reading = engine.events({ pageSize: 2 });
    assert.equal((await reading.next()).value.revision, 1);
    // Those who asked before it was known: one is told why, the others that it is over.
    const waiting = [reading.next(), reading.next()];
    await assert.rejects(waiting[0], told);
    assert.deepEqual(await waiting[1], { done: true, value: undefined });
    await assert.rejects(engine.history(aggregate, "b-1"), told);
    const fresh = await boxed(place);
    if (column === "data") {
      await assert.rejects(fresh.engine.state(fresh.aggregate, "b-1"), told);
      await assert.rejects(fresh.keep("four"), told);
    }
    assert.equal((await fresh.keep("more", {}, "b-2")).revision, 2);
  }, sqliteStores);
}
