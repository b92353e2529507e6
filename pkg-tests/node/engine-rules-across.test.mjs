// Rules across aggregates: what a decision reads beyond its own stream still holds when it is stored.

import assert from "node:assert/strict";
import { aggregate, refuse } from "annals";
import { appointment, at, booking, cancellation, checkLog, issuedAt, logOf } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const book = (engine, id, wanted) => engine.attempt(appointment, id, booking(wanted), { issuedAt });
const taken = (by, minutes = 540) => ({ ok: false, refusal: { code: "doctor-taken", details: { by, start: at(minutes), end: at(minutes + 10) } } });

onEachStore("a doctor or a room is not booked twice, and may be booked when free again", async (place) => {
  const engine = await place.open();
  assert.equal((await book(engine, "a-1")).ok, true);
  assert.deepEqual(await book(engine, "a-2", { minutes: 549 }), taken("a-1"));
  const { refusal } = await book(engine, "a-3", { doctor: "8", room: "of-7" });
  assert.deepEqual([refusal.code, refusal.details.by], ["room-taken", "a-1"]);
  assert.equal((await book(engine, "a-4", { minutes: 550 })).ok, true);
  await engine.execute(appointment, "a-1", cancellation, { issuedAt });
  assert.equal((await book(engine, "a-2")).ok, true);
  const move = { type: "RescheduleAppointment", data: { start: at(700), end: at(710) } };
  await engine.execute(appointment, "a-2", move, { issuedAt });
  assert.deepEqual(await book(engine, "a-5", { minutes: 700 }), taken("a-2", 700));
  assert.equal((await book(engine, "a-5")).ok, true);
});

onEachStore("64 bookings at once for different times of one doctor all succeed", async (place) => {
  const engine = await place.open();
  const results = await Promise.all(Array.from({ length: 64 }, (_, n) => book(engine, `a-${n}`, { minutes: n * 10 })));
  assert.deepEqual(results.filter(({ ok }) => !ok), []);
  assert.equal(checkLog(await logOf(engine)).size, 64);
});

onEachStore("of 64 bookings at once for one time one wins, and the others are told by whom", async (place) => {
  const engine = await place.open();
  const results = await Promise.all(Array.from({ length: 64 }, (_, n) => book(engine, `a-${n}`)));
  const winners = results.flatMap(({ ok }, n) => (ok ? [`a-${n}`] : []));
  assert.equal(winners.length, 1);
  for (const result of results) if (!result.ok) assert.deepEqual(result, taken(winners[0]));
  assert.equal((await logOf(engine)).length, 1);
});

onEachStore("64 bookings at once from two engines for different times of one doctor all succeed", async (place) => {
  const engines = [await place.open(), await place.open()];
  const results = await Promise.all(Array.from({ length: 64 }, (_, n) => book(engines[n % 2], `a-${n}`, { minutes: n * 10 })));
  assert.deepEqual(results.filter(({ ok }) => !ok), []);
  assert.equal(checkLog(await logOf(engines[0])).size, 64);
});

onEachStore("of two engines that race for one time one wins, each time, and the other is told by whom", async (place) => {
  const engines = [await place.open(), await place.open()];
  for (let round = 0; round < 30; round += 1) {
    const results = await Promise.all(engines.map((engine, own) => book(engine, `${own}-${round}`, { minutes: round * 10 })));
    const winner = results.findIndex(({ ok }) => ok);
    assert.deepEqual(results[1 - winner], taken(`${winner}-${round}`, round * 10), `round ${round}`);
  }
  assert.equal(checkLog(await logOf(engines[1])).size, 30);
});

onEachStore("whatever is given at once to several engines, no two appointments of the log overlap", async (place) => {
  const engines = [await place.open(), await place.open(), await place.open()];
  let seed = 7;
  const random = (bound) => (seed = (seed * 48271) % 0x7fff_ffff) % bound;
  const command = () => {
    if (random(4) === 0) return cancellation;
    const minutes = random(40) * 5;
    if (random(3) > 0) return booking({ doctor: `d-${random(2)}`, room: `r-${random(3)}`, minutes });
    return { type: "RescheduleAppointment", data: { start: at(minutes), end: at(minutes + 10) } };
  };
  let accepted = 0;
  for (let round = 0; round < 10; round += 1) {
    const given = Array.from({ length: 30 }, () => [engines[random(3)], `a-${random(60)}`, command()]);
    const results = await Promise.all(given.map(([engine, id, command]) => engine.attempt(appointment, id, command, { issuedAt })));
    accepted += results.filter(({ ok, events }) => ok && events.length > 0).length;
  }

  const log = await logOf(engines[0]);
  assert.equal(log.length, accepted);
  checkLog(log);
  const held = new Map();
  let conflicts = 0;
  for (const { stream, type, data } of log) {
    if (type === "AppointmentCancelled") {
      held.delete(stream.id);
      continue;
    }
    for (const [id, other] of held) {
      const sameTime = data.start < other.end && other.start < data.end;
      if (id !== stream.id && sameTime && (data.doctor === other.doctor || data.room === other.room)) conflicts += 1;
    }
    held.set(stream.id, data);
  }
  assert.equal(conflicts, 0);
  assert.ok(held.size > 5 && accepted < 300, "too little has happened to tell anything");
});

const Transfer = (query) =>
  aggregate("Transfer", {
    initial: () => ({ done: false }),
    reads: query,
    decide: (_, { data }, { id, others }) => {
      if (data.show) return refuse("shown", { id, others });
      return data.kinds.map((kind) => ({ type: kind, data: { from: id } }));
    },
    evolve: () => ({ done: true }),
    tags: ({ type, data }) => [`type:${type}`, `from:${data.from}`, "all"],
  });

onEachStore("others are the events of other streams that match the query, in the order of the log", async (place) => {
  const queries = [
    [["all"], ["In", "Out", "In", "Lost"]],
    [["from:t-1"], ["In", "Out"]],
    [["from:t-1", "type:Lost"], ["In", "Out", "Lost"]],
    [[{ types: ["Out", "Lost"], tags: [] }], ["Out", "Lost"]],
    [[{ types: ["In"], tags: ["from:t-1", "all"] }], ["In"]],
    [[{ types: ["In"], tags: ["from:t-1", "type:Out"] }], []],
    [[{ types: ["Lost"], tags: [] }, { types: [], tags: ["type:Out"] }], ["Out", "Lost"]],
    [["nobody"], []],
    [[], []],
  ];
  for (const [query, expected] of queries) {
    const transfer = Transfer((command) => (command.data.show ? query : []));
    const engine = await place.open({ aggregates: [transfer] });
    const give = (id, data) => engine.attempt(transfer, id, { type: "Do", data }, { issuedAt, actor: `clerk of ${id}` });
    if (query === queries[0][0]) {
      await give("t-1", { kinds: ["In", "Out"] });
      await give("asking", { kinds: ["In", "Out"] });
      await give("t-2", { kinds: ["In", "Lost"] });
    }
    const { refusal } = await give("asking", { show: true });
    assert.equal(refusal.details.id, "asking");
    assert.deepEqual(refusal.details.others.map(({ type }) => type), expected, JSON.stringify(query));
    for (const { type, data, revision, ...other } of refusal.details.others) {
      const { from } = data;
      assert.equal(revision, type === "In" ? 1 : 2);
      assert.deepEqual({ data, ...other }, { data: { from }, stream: { type: "Transfer", id: from }, issuedAt, actor: `clerk of ${from}` });
    }
  }
});

onEachStore("what a decision reads may follow from its state", async (place) => {
  const chain = aggregate("Chain", {
    initial: () => ({ next: "first" }),
    reads: (_, { next }) => [next],
    decide: (_, { data }, { others }) => [{ type: "Linked", data: { ...data, seen: others.map(({ data }) => data.name) } }],
    evolve: (_, { data }) => ({ next: data.next, seen: data.seen }),
    tags: ({ data }) => [data.name],
  });
  const engine = await place.open({ aggregates: [chain] });
  const link = (id, name, next) => engine.execute(chain, id, { type: "Link", data: { name, next } });
  await link("other", "second", "none");
  assert.deepEqual((await link("one", "first", "second")).state.seen, []);
  assert.deepEqual((await link("one", "x", "third")).state.seen, ["second"]);
  await link("another", "third", "none");
  assert.deepEqual((await link("one", "y", "none")).state.seen, ["third"]);
});

onEachStore("a rule over the whole store holds against everything given at once", async (place) => {
  const seat = aggregate("Seat", {
    initial: () => ({ taken: false }),
    reads: () => [{ types: ["Taken"], tags: [] }],
    decide: (_, __, { others }) => (others.length >= 10 ? refuse("full", { count: others.length }) : [{ type: "Taken", data: {} }]),
    evolve: () => ({ taken: true }),
  });
  const engines = [await place.open({ aggregates: [seat] }), await place.open({ aggregates: [seat] })];
  const results = await Promise.all(
    Array.from({ length: 40 }, (_, n) => engines[n % 2].attempt(seat, `s-${n}`, { type: "Take", data: {} })),
  );
  assert.equal(results.filter(({ ok }) => ok).length, 10);
  for (const { ok, refusal } of results) if (!ok) assert.deepEqual(refusal, { code: "full", details: { count: 10 } });
});
