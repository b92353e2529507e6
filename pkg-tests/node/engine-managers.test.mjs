// Process managers: commands that follow from events, once each, and timers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { processManager } from "annals/reactions";
import { sqliteStorage } from "annals/sqlite";
import { fails, frozen, until } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";
import { desk, events, give, managerRules, settled, waitingList } from "../support/manager-rules.mjs";
import { kill, messageFrom, start } from "../support/processes.mjs";
import { drivers, temporaryFolder } from "../support/sqlite-drivers.mjs";

for (const { name, run } of managerRules) onEachStore(name, run);

/** What is parked of the first event that a process manager with these functions is given, and the log's types. */
async function parkedBy(functions) {
  const manager = processManager("odd", {
    startAt: "beginning",
    initial: () => ({}),
    key: ({ stream }) => stream.id,
    retries: { attempts: 1 },
    timers: { soon() {} },
    ...functions,
  });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [desk], reactions: [manager] });
  await give(engine, "a", "Dated", {});
  await settled(engine, manager);
  const { parked } = await engine.reaction(manager).status();
  const types = [];
  for await (const { type } of engine.events({ follow: false })) types.push(type);
  await engine.close();
  assert.deepEqual(types, ["Dated"], "nothing is stored");
  return parked[0]?.error;
}

const stranger = aggregate("Stranger", { initial: () => 0, decide: (_, command) => [command], evolve: { Dated: (count) => count } });
const note = { type: "Noted", data: {} };

for (const [what, wish, message] of [
  ["a promise", async () => undefined, /on\.Dated returned a promise/],
  ["a command to an aggregate the engine does not know", (commands) => commands.give(stranger, "x", note), /without this aggregate Stranger/],
  ["a command to no aggregate", (commands) => commands.give("Desk", "x", note), /expected an aggregate/],
  ["a command without a type", (commands) => commands.give(desk, "x", {}), /command of Desk/],
  ["a command to no id", (commands) => commands.give(desk, "", note), /non-empty id of Desk/],
  ["a command to a number", (commands) => commands.give(desk, 7, note), /string as id of Desk, found number/],
  ["a command that can't be stored", (commands) => commands.give(desk, "x", { type: "Noted", data: { at: new Date() } }), /command Noted\.at/],
  ["a timer at no time", (commands) => commands.remindAt("soon", "some day"), /expected a time .* found some day/],
  ["a timer that is not defined", (commands) => commands.remindAt("late", new Date()), /on\.Dated: there is no timer late/],
  ["to forget a timer that is not defined", (commands) => commands.forget("toString"), /on\.Dated: there is no timer toString/],
]) {
  test(`whoever wants ${what} is parked with the reason, and nothing is stored`, async () => {
    const give = (commands) => (commands.give(desk, "y", note), wish(commands));
    assert.match(await parkedBy({ on: { Dated: (state, event, commands) => give(commands) } }), message);
  });
}

for (const [what, state, message] of [
  ["a date", () => ({ at: new Date(0) }), /state\.at: expected a plain object/],
  ["what JSON leaves out", () => ({ visits: { first: undefined } }), /state\.visits\.first is not what its JSON says/],
  ["an integer beyond 2^53", () => ({ number: 2 ** 60 }), /state\.number: expected an integer within 2\^53/],
  ["half a surrogate pair", () => ({ text: "\ud800" }), /state\.text/],
]) {
  test(`a state with ${what} is refused`, async () => {
    assert.match(await parkedBy({ on: { Dated: state } }), message);
  });
}

test("a state can't be changed, and what was wanted too late is refused", async () => {
  assert.match(await parkedBy({ initial: () => ({ list: [] }), on: { Dated: ({ list }) => void list.push(1) } }), frozen.pushed);
  let kept;
  const late = new Promise((resolve) => (kept = resolve));
  assert.equal(await parkedBy({ on: { Dated: (state, event, commands) => kept(commands) } }), undefined);
  const commands = await late;
  await fails(async () => commands.give(desk, "x", note), { code: "invalid-argument" });
});

for (const [what, key, reason] of [
  ["throws", () => { throw new Error("bad luck"); }, "bad luck"],
  ["returns a promise", async () => "a", "key returned a promise, and must return at once"],
  ["returns a number", () => 7, "expected a string as key of Dated, found number"],
  ["returns nothing in quotes", () => "", "expected a non-empty key of Dated"],
  ["returns control characters", () => "a\nb", 'expected a key of Dated without control characters, found "a\\nb"'],
  ["returns too much", () => "é".repeat(600), "expected a key of Dated of at most 1024 bytes, found 1200"],
  ["returns half a surrogate pair", () => "\udc00", "expected a key of Dated of whole characters, found a lone surrogate"],
]) {
  test(`a key that ${what} stops the process manager, which says so`, async () => {
    const manager = processManager("odd", { startAt: "beginning", initial: () => ({}), key, on: { Dated() {} } });
    const engine = await Engine.open({ storage: memoryStorage(), aggregates: [desk], reactions: [manager] });
    await give(engine, "a", "Dated", {});
    await until(async () => (await engine.reaction(manager).status()).trouble !== null, "it stops");
    const { trouble, behind, parked } = await engine.reaction(manager).status();
    assert.deepEqual([trouble, behind, parked], [`the event at 1 has no key: ${reason}`, 1, []]);
    await engine.close();
  });
}

test("what can't be a process manager is refused by name", async () => {
  const right = { startAt: "now", initial: () => 0, key: () => "a", on: { Dated() {} } };
  for (const [wrong, message] of [
    [{ startAt: "yesterday" }, /startAt/],
    [{ initial: 0 }, /functions initial and key/],
    [{ key: undefined }, /functions initial and key/],
    [{ on: {} }, /functions by the types of events/],
    [{ on: { Dated: 1 } }, /functions by the types of events/],
    [{ timers: { soon: 1 } }, /timers by their names/],
    [{ timers: { "": () => 0 } }, /non-empty process manager odd: timer/],
    [{ concurrency: 0 }, /whole numbers/],
    [{ retries: { attempts: 0 } }, /whole numbers/],
  ]) {
    const error = await fails(() => processManager("odd", { ...right, ...wrong }), {});
    assert.match(error.message, message);
    assert.match(error.message, /process manager odd/);
    assert.match(error.code, /^invalid-(argument|name)$/);
  }
  await fails(() => processManager("odd"), { code: "invalid-argument" });
});

test("events of other aggregates are passed by, if it says whose it wants", async () => {
  const seen = [];
  const manager = processManager("narrow", {
    startAt: "beginning",
    initial: () => 0,
    key: ({ stream }) => stream.id,
    aggregates: [desk],
    on: { Dated: (_, { stream }) => void seen.push(stream.type) },
  });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [desk, stranger], reactions: [manager] });
  await engine.execute(stranger, "a", { type: "Dated", data: {} });
  await give(engine, "a", "Dated", {});
  await settled(engine, manager);
  assert.deepEqual(seen, ["Desk"]);
  for (const which of [undefined, {}, "a", { type: "Desk", id: "a" }, { key: "\ud800" }]) {
    const { code } = await fails(() => engine.reaction(manager).retry(which), {});
    assert.match(code, /^invalid-(argument|name)$/);
  }
  await engine.close();
});

const worker = fileURLToPath(new URL("../support/manager-worker.mjs", import.meta.url));

for (const [driver, connect] of drivers) {
  test(`${driver}: of two processes one runs it, and those that are killed leave neither gap nor double`, { timeout: 120_000 }, async ({ signal }) => {
    const folder = temporaryFolder();
    const database = connect(folder.file);
    const engine = await Engine.open({ storage: sqliteStorage({ database, pollInterval: 5 }), aggregates: [desk] });
    const workers = [await start(worker, [driver, folder.file], signal), await start(worker, [driver, folder.file], signal)];
    try {
      const patients = Array.from({ length: 60 }, (_, number) => `p-${number}`);
      for (const [number, patient] of patients.entries()) {
        await give(engine, `w-${number}`, "Waiting", { patient, slot: 1 + (number % 5) });
        await give(engine, `c-${number}`, "Cancelled", { slot: 1 + (number % 5) });
        if (number % 12 === 11) {
          // Whichever runs it: it may be between a command and a save.
          const victim = Math.floor(number / 12) % 2;
          await kill(workers[victim]);
          workers[victim] = await start(worker, [driver, folder.file], signal);
        }
      }
      await until(async () => (await events(engine, "Booked")).length >= 60, "all are booked");
      for (const child of workers) {
        const ended = messageFrom(child);
        child.send("end");
        assert.equal(await ended, "ended");
      }
      const manager = waitingList();
      const last = await Engine.open({ storage: sqliteStorage({ database: connect(folder.file) }), aggregates: [desk], reactions: [manager] });
      await settled(last, manager);
      assert.deepEqual((await last.reaction(manager).status()).parked, []);
      const booked = (await events(last, "Booked")).map(({ data }) => data.patient);
      assert.deepEqual(booked.sort(), patients.sort());
      await last.close();
    } finally {
      for (const child of workers) await kill(child);
      await engine.close();
      folder.remove();
    }
  });
}
