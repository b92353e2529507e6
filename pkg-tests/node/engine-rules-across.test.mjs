// Rules across aggregates: what a decision reads beyond its own stream still holds when it is stored.

import assert from "node:assert/strict";
import { aggregate, refuse } from "annals";
import { projection } from "annals/projections";
import { appointment, at, booking, cancellation, checkLog, issuedAt, logOf } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";
import { fails } from "../support/expect.mjs";

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

onEachStore("reads are asked once for a state, and again for another", async (place) => {
  const asked = [];
  const turns = aggregate("Turns", {
    initial: () => ({ taken: 0 }),
    reads: (_, { taken }) => (asked.push(taken), [`turn:${taken}`]),
    decide: () => [{ type: "TurnTaken", data: {} }],
    evolve: { TurnTaken: ({ taken }) => ({ taken: taken + 1 }) },
    tags: (_, { taken }) => [`turn:${taken}`],
  });
  const engine = await place.open({ aggregates: [turns] });
  const take = () => engine.execute(turns, "t-1", { type: "TakeTurn", data: {} });
  await take();
  asked.length = 0;
  await take();
  assert.deepEqual(asked, [1]);
  await Promise.all([take(), take()]);
  assert.deepEqual([...new Set(asked)], [1, 2, 3]);
  assert.equal((await engine.state(turns, "t-1")).state.taken, 4);
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
    events: { In: [], Out: [], Lost: [] },
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
    evolve: { Linked: (_, { data }) => ({ next: data.next, seen: data.seen }) },
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
    evolve: { Taken: () => ({ taken: true }) },
  });
  const engines = [await place.open({ aggregates: [seat] }), await place.open({ aggregates: [seat] })];
  const results = await Promise.all(
    Array.from({ length: 40 }, (_, n) => engines[n % 2].attempt(seat, `s-${n}`, { type: "Take", data: {} })),
  );
  assert.equal(results.filter(({ ok }) => ok).length, 10);
  for (const { ok, refusal } of results) if (!ok) assert.deepEqual(refusal, { code: "full", details: { count: 10 } });
});

// --- Decisions that fold -------------------------------------------------------------------------

/** By seat: who has it, and how that came. */
const seats = (kind, on = {}) =>
  projection("seats", {
    version: 1,
    kind,
    on: {
      Taken(view, { data, stream, revision, issuedAt, actor }) {
        if (data.seat === 13) throw new RangeError("bad luck");
        view.set(`${data.seat}`, { guest: stream.id, revision, issuedAt, actor });
      },
      Left: (view, { data }) => view.delete(`${data.seat}`),
      ...on,
    },
  });

/** Guests take seats; no seat has two. */
const Guest = (projection, decide) =>
  aggregate("Guest", {
    initial: () => null,
    reads: ({ type }) => (type === "Take" ? ["seats"] : []),
    decide:
      decide
      ?? ((_, { type, data }, { fold }) => {
        if (type !== "Take") return data.events;
        const taken = fold(projection).get(`${data.seat}`);
        return taken ? refuse("seat-taken", taken) : [{ type: "Taken", data }];
      }),
    evolve: () => null,
    events: { Taken: [], Left: [], Waved: [] },
    tags: () => ["seats"],
  });

const take = (seat) => ({ type: "Take", data: { seat } });
const say = (...events) => ({ type: "Say", data: { events } });
const takenEvent = (seat) => ({ type: "Taken", data: { seat } });

onEachStore("commands given at once see what the others take, as a projection tells", async (place) => {
  const guest = Guest(seats("inline"));
  const engine = await place.open({ aggregates: [guest] });
  const give = (number, seat) => engine.attempt(guest, `g-${number}`, take(seat), { issuedAt, actor: `clerk ${number}` });
  const all = await Promise.all(Array.from({ length: 64 }, (_, n) => give(n, 100 + n)));
  assert.deepEqual(all.filter(({ ok }) => !ok), []);
  // Of two for each seat the second is told all that is known of its neighbour.
  const two = await Promise.all(Array.from({ length: 64 }, (_, n) => give(n, 200 + Math.floor(n / 2))));
  for (const [n, { ok, refusal }] of two.entries()) {
    if (n % 2 === 0) assert.equal(ok, true);
    else assert.deepEqual(refusal.details, { guest: `g-${n - 1}`, revision: 2, issuedAt, actor: `clerk ${n - 1}` });
  }
  assert.equal((await logOf(engine)).length, 96);
});

onEachStore("commands of two engines see what the others have taken, as a projection tells", async (place) => {
  const guest = Guest(seats("live"));
  const engines = [await place.open({ aggregates: [guest] }), await place.open({ aggregates: [guest] })];
  const results = await Promise.all(
    Array.from({ length: 64 }, (_, n) => engines[n % 2].attempt(guest, `g-${n}`, take(100 + Math.floor(n / 2)), { issuedAt })),
  );
  assert.equal(results.filter(({ ok }) => ok).length, 32);
  await engines[0].execute(guest, "g-1", say({ type: "Left", data: { seat: 100 } }), { issuedAt });
  const again = await engines[1].execute(guest, "g-2", take(100), { issuedAt });
  assert.equal(again.events.length, 1);
});

onEachStore("an event that can't be folded fails the command, whatever the decision is", async (place) => {
  const own = seats("inline");
  const guest = Guest(own);
  const engine = await place.open({ aggregates: [guest] });
  await engine.execute(guest, "g-1", say({ type: "Waved", data: {} }, takenEvent(13)));
  const log = await logOf(engine);
  const message = "Take of Guest/g-2: the domain failed: projection seats can't take in Taken of Guest/g-1@2: bad luck";
  const error = await fails(() => engine.execute(guest, "g-2", take(5)), { code: "domain-failed", message });
  assert.ok(error.cause.cause instanceof RangeError);
  assert.deepEqual(await logOf(engine), log);
  // The others go on, and one's own events are none of others.
  await engine.execute(guest, "g-2", say({ type: "Waved", data: {} }));
  await engine.execute(guest, "g-1", take(5));
  await engine.close();

  const decisions = [() => [takenEvent(5)], () => refuse("no"), () => []];
  for (const decision of decisions) {
    const swallowing = Guest(own, (_, __, { fold }) => {
      try {
        fold(own);
      } catch {
        return decision();
      }
      return assert.fail("it can be folded");
    });
    const engine = await place.open({ aggregates: [swallowing] });
    await fails(() => engine.execute(swallowing, "g-2", take(5)), { code: "domain-failed", message });
    await engine.close();
  }
});

onEachStore("a decision that folds what is no projection of its own, or asks what is not known, fails", async (place) => {
  const asking = seats("async", { Taken: (view, { data, position }) => view.set(`${data.seat}`, { position }) });
  const failing = [
    [asking, /can't take in Taken of Guest\/g-1@1: an event has no position before the store has it/],
    [undefined, /undefined/],
    [{}, /fold is not a function/],
  ];
  for (const [projection, message] of failing) {
    const guest = Guest(projection);
    const engine = await place.open({ aggregates: [guest] });
    await engine.execute(guest, "g-1", say(takenEvent(1)));
    const error = await fails(() => engine.execute(guest, "g-2", take(5)), { code: "domain-failed" });
    assert.match(error.message, message);
  }
});
