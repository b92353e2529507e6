// A command that is given again: it is done once, and told the same way each time.

import assert from "node:assert/strict";
import { appointment, booking, cancellation, checkLog, confirmation, issuedAt, logOf, retitling } from "../support/clinic.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const commandId = "00000000-0000-4000-8000-000000000007";
const once = { commandId, issuedAt };

/** The outcome as it is told when the command is given again. */
const again = (outcome) => ({ ...outcome, duplicate: true });

onEachStore("a command given again has its first outcome, and is not told that it was booked before", async (place) => {
  const engine = await place.open();
  const first = await engine.execute(appointment, "a-1", booking(), once);
  assert.equal(first.duplicate, false);
  assert.deepEqual(await engine.execute(appointment, "a-1", booking(), once), again(first));
  assert.deepEqual(await engine.attempt(appointment, "a-1", booking(), once), { ok: true, ...again(first) });
  assert.deepEqual(await logOf(engine), first.events);
});

onEachStore("the first outcome is told after more has happened, and by every engine", async (place) => {
  const engine = await place.open();
  const before = await engine.execute(appointment, "a-0", booking({ doctor: "1" }), { issuedAt });
  const first = await engine.execute(appointment, "a-1", booking(), once);
  for (const command of [confirmation, retitling("Pulse"), cancellation]) {
    await engine.execute(appointment, "a-1", command, { issuedAt });
  }
  assert.equal(before.revision, 1);
  assert.deepEqual(await engine.execute(appointment, "a-1", booking(), once), again(first));
  const other = await place.open();
  assert.deepEqual(await other.execute(appointment, "a-1", booking(), once), again(first));
  assert.equal((await logOf(engine)).length, 5);
});

onEachStore("a command in the middle of a stream has the state after it as its outcome", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const second = await engine.execute(appointment, "a-1", retitling("Second"), once);
  await engine.execute(appointment, "a-1", retitling("Third"), { issuedAt });
  const told = await engine.execute(appointment, "a-1", retitling("Second"), once);
  assert.deepEqual([told.state.title, told.revision, told.events.length], ["Second", 2, 1]);
  assert.deepEqual(told, again(second));
});

onEachStore("a command given several times in one tick is done once, and all are told the same", async (place) => {
  const engine = await place.open();
  const outcomes = await Promise.all(Array.from({ length: 8 }, () => engine.execute(appointment, "a-1", booking(), once)));
  const firsts = outcomes.filter(({ duplicate }) => !duplicate);
  assert.equal(firsts.length, 1);
  for (const outcome of outcomes) assert.deepEqual(again(outcome), again(firsts[0]));
  assert.equal((await logOf(engine)).length, 1);
});

onEachStore("a command given to two engines at once is done once", async (place) => {
  const engines = [await place.open(), await place.open()];
  for (let round = 0; round < 20; round += 1) {
    const options = { issuedAt, commandId: `00000000-0000-4000-8000-${String(round).padStart(12, "0")}` };
    const given = booking({ doctor: `d-${round}` });
    const outcomes = await Promise.all(engines.map((engine) => engine.execute(appointment, `a-${round}`, given, options)));
    assert.deepEqual(outcomes.map(({ duplicate }) => duplicate).sort(), [false, true]);
    assert.deepEqual(again(outcomes[0]), again(outcomes[1]));
  }
  assert.equal(checkLog(await logOf(engines[0])).size, 20);
});

onEachStore("what the first command expected of the stream is not asked of the second", async (place) => {
  const engine = await place.open();
  const options = { ...once, expectedRevision: "no-stream" };
  const first = await engine.execute(appointment, "a-1", booking(), options);
  assert.deepEqual(await engine.execute(appointment, "a-1", booking(), options), again(first));
});

onEachStore("it is the same command whatever the order of its keys, the spelling of its id, and who gives it", async (place) => {
  const engine = await place.open();
  const id = "abcdefab-0000-4000-8000-00000000000c";
  const first = await engine.execute(appointment, "a-1", booking(), { issuedAt, commandId: id.toUpperCase(), actor: "one" });
  assert.equal(first.commandId, id);
  const data = Object.fromEntries(Object.entries(booking().data).reverse());
  const told = await engine.execute(appointment, "a-1", { type: "BookAppointment", data }, { commandId: id, actor: "two" });
  assert.deepEqual(told, again(first));
});

onEachStore("an id given for another command is refused, then and later", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-1", booking(), once);
  const other = await place.open();
  const log = await logOf(engine);
  for (const [id, command] of [
    ["a-1", booking({ minutes: 600 })],
    ["a-1", { type: "UpdateAppointment", data: booking().data }],
    ["a-2", booking()],
    ["a-1", { type: "BookAppointment", data: { ...booking().data, more: null } }],
  ]) {
    for (const asked of [engine, other]) {
      await assert.rejects(asked.execute(appointment, id, command, once), { code: "command-id-reused", details: { commandId } });
    }
  }
  assert.deepEqual(await logOf(engine), log);
});

onEachStore("of two commands with one id in one tick, one is done and the other is refused", async (place) => {
  const engine = await place.open();
  const results = await Promise.allSettled([
    engine.execute(appointment, "a-1", booking(), once),
    engine.execute(appointment, "a-2", booking({ doctor: "8" }), once),
    engine.execute(appointment, "a-1", retitling("Pulse"), once),
  ]);
  assert.equal(results[0].status, "fulfilled");
  assert.deepEqual(results.slice(1).map(({ reason }) => reason.code), ["command-id-reused", "command-id-reused"]);
  assert.equal((await logOf(engine)).length, 1);
});

onEachStore("a refused command is not remembered: given again, it is decided again", async (place) => {
  const engine = await place.open();
  await engine.execute(appointment, "a-1", booking(), { issuedAt });
  const { ok } = await engine.attempt(appointment, "a-2", booking(), once);
  assert.equal(ok, false);
  await engine.execute(appointment, "a-1", cancellation, { issuedAt });
  const { duplicate, revision } = await engine.execute(appointment, "a-2", booking(), once);
  assert.deepEqual([duplicate, revision], [false, 1]);
});

onEachStore("the same command gives its events the same ids in any store", async (place) => {
  const engine = await place.open();
  const { events } = await engine.execute(appointment, "a-1", booking(), once);
  // Computed once and for all: replicas and imports rely on it.
  assert.deepEqual(events.map(({ eventId }) => eventId), ["9013d2db-7fce-8139-a1e1-affb51cc3fee"]);
});

onEachStore("an answer that comes after the attempt was given up changes nothing, whatever was judged since", async (place) => {
  const storage = place.storage();
  const held = [];
  let slow = true;
  const late = {
    open: () => storage.open(),
    load: (request) => storage.load(request),
    readLog: (request) => storage.readLog(request),
    saveDocuments: (request) => storage.saveDocuments(request),
    readDocuments: (request) => storage.readDocuments(request),
    close: () => storage.close(),
    append: async (request, judge) => {
      const verdicts = await storage.append(request, judge);
      if (!slow) return verdicts;
      slow = false;
      // The first attempt has been judged and written; its answer comes when the command has ended.
      return new Promise((resolve) => held.push(() => resolve(verdicts)));
    },
  };
  const engine = await place.open({ storage: late, limits: { requestTimeout: 300 } });
  const first = await engine.execute(appointment, "a-1", booking(), once);
  assert.equal(first.duplicate, true, "the second attempt has found what the first has written");
  held.forEach((answer) => answer());
  const next = await engine.execute(appointment, "a-1", confirmation, { issuedAt });
  assert.equal(next.revision, 2);
  assert.equal((await logOf(engine)).length, 2);
});
