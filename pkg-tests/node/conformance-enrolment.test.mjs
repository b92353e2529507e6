// What the suite says of enrolments, and what it does around its rules.

import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { conformance, judge, perform, Subject, commit, event } from "annals/testing/conformance";

const open = () => ({ storage: memoryStorage() });
const every = conformance({ name: "memory", open }).map(({ rule }) => rule);

const refused = (options, message) =>
  assert.throws(() => conformance(options), (error) => {
    assert.equal(error.code, "invalid-argument");
    assert.match(error.message, message);
    return true;
  });

test("an enrolment that makes no sense is refused at once", () => {
  const reopen = () => memoryStorage();
  refused(undefined, /expected an adapter to test/);
  refused({ open }, /expected an adapter's name/);
  refused({ name: "", open }, /expected an adapter's name/);
  refused({ name: "mine" }, /mine gives no way to open a store/);
  refused({ name: "mine", open: memoryStorage() }, /gives as open no function/);
  refused({ name: "mine", open, reopen: null }, /gives as reopen no function/);
  refused({ name: "mine", open, capabilites: {} }, /unknown option "capabilites"/);
  refused({ name: "mine", open, capabilities: { conections: true } }, /unknown capability "conections"/);
  refused({ name: "mine", open, capabilities: { toString: true } }, /unknown capability "toString"/);
  refused({ name: "mine", open, capabilities: { durability: "forever" } }, /declares durability to be "forever"/);
  refused({ name: "mine", open, reopen, capabilities: { connections: "yes" } }, /declares connections to be "yes"/);
  refused({ name: "mine", open, capabilities: { notification: true } }, /declares notification to be true/);
  refused({ name: "mine", open, faults: { flood: () => {} } }, /unknown fault "flood"/);
});

test("what is declared must be given, and what is given declared", () => {
  for (const [capability, option, given] of [
    ["connections", "reopen", () => {}],
    ["reopening", "reopen", () => {}],
    ["processes", "elsewhere", () => {}],
    ["restoring", "restore", () => {}],
    ["migration", "older", [{}]],
  ]) {
    refused({ name: "mine", open, capabilities: { [capability]: true } }, new RegExp(`declares .*${capability}.*, but gives no ${option}`));
    refused({ name: "mine", open, [option]: given }, new RegExp(`gives ${option}, but does not declare`));
    refused({ name: "mine", open, [option]: given, capabilities: { [capability]: false } }, /does not declare/);
    conformance({ name: "mine", open, [option]: given, capabilities: { [capability]: true } });
  }
  refused({ name: "mine", open, faults: { held: () => {} } }, /gives the fault held, but does not declare connections/);
  refused({ name: "mine", open, older: [], capabilities: { migration: true } }, /gives no older store/);
});

test("a rule is skipped for a reason, and no other; some rule is left", () => {
  const [rule, ...others] = every;
  refused({ name: "mine", open, skip: { "no such rule": "because" } }, /unknown rule "no such rule"/);
  for (const reason of ["", "  ", true, undefined]) {
    refused({ name: "mine", open, skip: { [rule]: reason } }, /skips without a reason/);
  }
  const tests = conformance({ name: "mine", open, skip: { [rule]: "the disk is on fire" } });
  assert.deepEqual(tests.map(({ rule }) => rule), every);
  assert.equal(tests[0].skip, "the disk is on fire");
  assert.ok(tests.slice(1).some(({ skip }) => skip === false));
  refused({ name: "mine", open, skip: Object.fromEntries(every.map((rule) => [rule, "no time"])) }, /leaves no rule to be run/);
  assert.ok(others.length > 80);
});

test("rules have names of their own, and say what they need", () => {
  assert.equal(new Set(every).size, every.length);
  const tests = conformance({ name: "mine", open });
  for (const { name, rule, needs, skip } of tests) {
    assert.equal(name, `mine: ${rule}`);
    assert.equal(skip, needs === null ? false : `not declared: ${needs}`);
  }
  const count = (options) => conformance({ name: "mine", open, ...options }).filter(({ skip }) => skip === false).length;
  const alone = count({});
  const reopen = () => memoryStorage();
  assert.ok(count({ reopen, capabilities: { connections: true } }) > alone + 10);
  assert.equal(count({ capabilities: { notification: "engines" } }), alone + 1);
  assert.equal(count({ faults: { full: () => ({}) } }), alone + 2);
});

test("a store is closed and released whatever comes of the rule, and the rule's failure is told", async () => {
  const done = [];
  const storage = (broken) => ({ ...sound(memoryStorage()), ...broken, close: () => void done.push("close") });
  const enrol = (broken, release = () => void done.push("release")) =>
    conformance({ name: "mine", open: () => ({ storage: storage(broken) }), release, capabilities: { durability: "memory" } });
  const run = (tests) => tests.find(({ rule }) => rule.startsWith("an event comes back")).run();
  await run(enrol({}));
  assert.deepEqual(done, ["close", "release"]);
  done.length = 0;
  const lost = () => {
    throw new Error("lost");
  };
  await assert.rejects(run(enrol({ append: lost })), /lost/);
  assert.deepEqual(done, ["close", "release"]);
  const fails = () => {
    throw new Error("not released");
  };
  await assert.rejects(run(enrol({ append: lost }, fails)), /lost/);
  await assert.rejects(run(enrol({}, fails)), /not released/);
  await assert.rejects(run(conformance({ name: "mine", open: lost })), /lost/);
});

test("a rule that comes to no end is given up", async () => {
  const open = () => ({ storage: { ...sound(memoryStorage()), readLog: () => new Promise(() => {}) } });
  const [found] = conformance({ name: "mine", open, patience: 50 }).filter(({ rule }) => rule.startsWith("an event comes back"));
  await assert.rejects(found.run(), /not come to an end within 50 ms/);
});

test("a log that is not what a log is fails every rule", async () => {
  // As a store that has lost its second event.
  const hole = (inner) => ({
    readLog(request) {
      const page = inner.readLog(request);
      return { ...page, events: page.events.filter(({ position }) => position !== 2 || request.limit < 1000) };
    },
  });
  const open = () => {
    const inner = sound(memoryStorage());
    return { storage: { ...inner, ...hole(inner) } };
  };
  const [found] = conformance({ name: "mine", open }).filter(({ rule }) => rule.startsWith("every revision that is expected"));
  await assert.rejects(found.run(), /the position of an event, when all is done/);
});

test("an adapter that judges by itself is held to what every judge says, and not to how a judge is asked", async () => {
  const facts = () => assert.fail("not asked here");
  const named = (judge, name) => conformance({ name: "mine", open, judge: { judge, facts } }).find(({ rule }) => rule.includes(name));
  assert.match(named(judge, "a judge that throws").skip, /a judge of its own/);
  await named(judge, "says what every judge says").run();
  const lenient = (commits, facts, now) =>
    judge(commits.map((commit) => ({ ...commit, condition: null })), facts, now);
  await assert.rejects(named(lenient, "says what every judge says").run(), /expected/);
});

test("jobs and what comes of them are JSON", async () => {
  const storage = memoryStorage();
  const ask = async (job) => JSON.parse(JSON.stringify(await perform(storage, JSON.parse(JSON.stringify(job)))));
  const sent = commit("a-1", 0, [event()]);
  const { verdicts } = await ask({ kind: "append", commits: [sent, commit("a-1", 5, [event()])], now: 1_800_000_000_000 });
  assert.deepEqual(verdicts, [
    { kind: "committed", position: 1, revision: 1, count: 1, recordedAt: 1_800_000_000_000 },
    { kind: "conflict", reason: "revision", at: 1 },
  ]);
  await ask({ kind: "race", aggregateId: "a-1", times: 3 });
  await ask({ kind: "count", times: 2 });
  const subject = await Subject.open(storage);
  assert.equal((await subject.slice("Appointment", "a-1")).revision, 4);
});

/** An adapter as a plain object. */
function sound(storage) {
  const names = ["open", "append", "load", "readLog", "saveDocuments", "readDocuments", "close"];
  return Object.fromEntries(names.map((name) => [name, (...args) => storage[name](...args)]));
}
