// What an engine makes of an adapter that knows who is there: a name of its own, and hints about others.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { until } from "../support/expect.mjs";
import { book, mailer, visit } from "../support/reaction-rules.mjs";

const HOUR = 3_600_000;

/** A store in memory that knows who is there: `names` are there, and `hints` are what is asked of others. */
function store(presence = {}) {
  const storage = memoryStorage();
  const [names, hints] = [new Set(), []];
  let count = 0;
  storage.presence = {
    async hold() {
      const name = `engine ${(count += 1)}`;
      names.add(name);
      return { name, release: () => void names.delete(name) };
    },
    whenGone(name, signal) {
      return new Promise((resolve, reject) => {
        hints.push({ name, gone: resolve });
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    },
    ...presence,
  };
  return { storage, names, hints };
}

function open({ storage }, mail, options) {
  const reactions = mail === undefined ? [] : [mail.definition];
  return Engine.open({ storage, aggregates: [visit], reactions, limits: { lease: HOUR }, ...options });
}

const runsHere = async (engine, mail) => (await engine.reaction(mail.definition).status()).runsHere;

test("an engine with reactions has a name from its beginning to its end, and one without has none", async () => {
  const there = store();
  const [mail, other] = [mailer(), mailer()];
  const [first, second, idle] = [await open(there, mail), await open(there, other), await open(there)];
  assert.deepEqual([...there.names], ["engine 1", "engine 2"]);
  await first.close();
  assert.deepEqual([...there.names], ["engine 2"]);
  second[Symbol.dispose]();
  second[Symbol.dispose]();
  assert.deepEqual([...there.names], []);
  await idle.close();
});

test("an engine that could not be opened has no name any more", async () => {
  const there = store();
  const names = new Set();
  for (const [name, options, code] of [
    ["lone \ud800", {}, "invalid-name"],
    ["fine", { aggregates: [visit, visit] }, "api-misuse"],
  ]) {
    there.storage.presence.hold = async () => {
      names.add(name);
      return { name, release: () => void names.delete(name) };
    };
    await assert.rejects(open(there, mailer(), options), { code });
    assert.deepEqual([...names], []);
  }
});

test("an engine asks once when another is gone, and takes over what that ran when it hears of it", async () => {
  const there = store();
  const [one, two] = [mailer(), mailer()];
  const first = await open(there, one);
  await book(first, "v-1");
  await until(() => one.sent.length === 1, "the first runs it");
  const second = await open(there, two);
  await until(() => there.hints.length === 1, "the second waits for the first");
  assert.equal(there.hints[0].name, "engine 1");
  // A hint may be wrong: then the first finds that it has lost the reaction, and goes on with nothing.
  there.hints[0].gone();
  await until(() => runsHere(second, two), "the second runs it");
  await book(first, "v-1");
  await until(async () => !(await runsHere(first, one)), "the first has heard of it");
  await until(() => two.sent.includes("v-1/2"), "the second handles what comes");
  assert.equal(there.hints.length, 2);
  assert.equal(there.hints[1].name, "engine 2");
  // Nor does it believe a hint then.
  there.hints[1].gone();
  await book(first, "v-1");
  await until(() => two.sent.includes("v-1/3"), "the second handles what comes");
  assert.equal(await runsHere(first, one), false);
  await Promise.all([first.close(), second.close()]);
});

test("who does not get a name does without, and gives it back when it comes late", { timeout: 20_000 }, async () => {
  let late;
  const held = new Promise((resolve) => (late = resolve));
  const hangs = () => held;
  const throws = () => {
    throw new Error("nobody knows");
  };
  for (const hold of [hangs, throws, async () => throws()]) {
    const there = store({ hold });
    const [one, two] = [mailer(), mailer()];
    const [first, second] = [await open(there, one), await open(there, two)];
    await book(first, "v-1");
    await until(() => one.sent.length === 1, "the first runs it");
    assert.deepEqual(there.hints, [], "who is not there itself waits for nobody");
    await Promise.all([first.close(), second.close()]);
  }
  let releases = 0;
  late({ name: "late", release: () => (releases += 1) });
  await until(() => releases === 2, "both have given it back");
});

test("of whom nothing can be known is waited for as long as the lease", async () => {
  let asked = 0;
  const whenGone = async () => {
    asked += 1;
    throw new Error("nobody knows");
  };
  const there = store({ whenGone });
  const [one, two] = [mailer(), mailer()];
  const [first, second] = [await open(there, one), await open(there, two)];
  await until(() => asked === 1, "the second has asked");
  await book(second, "v-1");
  await until(() => one.sent.length === 1, "the first runs it");
  await Promise.all([first.close(), second.close()]);
});
