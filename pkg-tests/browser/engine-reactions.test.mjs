// Reactions in pages, on IndexedDB: of two tabs one runs one, and the other takes over when it ends.

import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../support/expect.mjs";
import { reactionRules } from "../support/reaction-rules.mjs";
import { tabsWith } from "../support/tabs.mjs";

const tabs = tabsWith(["reaction-rules.mjs", "expect.mjs"]);
tabs.keep({ reactionRules });

test("a tab that ends while it handles an event leaves that event, and what comes after, to another", async () => {
  const other = await tabs.open();
  let begun;
  const hasBegun = new Promise((resolve) => (begun = resolve));
  await other.exposeFunction("begun", () => begun());
  await other.evaluate(async (name) => {
    const handle = ({ revision }) => (revision === 1 ? undefined : (begun(), new Promise(() => undefined)));
    const mail = mailer({ handle });
    const engine = await placeOf(name).open({ aggregates: [visit], reactions: [mail.definition], limits: { lease: 60 } });
    await book(engine, "v-1");
    await settled(engine, mail);
    await book(engine, "v-1");
  }, tabs.name);
  await hasBegun;
  const running = tabs.first.evaluate(async (name) => {
    const mail = mailer();
    const engine = await placeOf(name).open({ aggregates: [visit], reactions: [mail.definition], limits: { lease: 60 } });
    await book(engine, "v-1");
    globalThis.isWaiting = true;
    await settled(engine, mail);
    return mail.sent;
  }, tabs.name);
  await tabs.first.waitForFunction(() => globalThis.isWaiting);
  await other.close();
  assert.deepEqual(await running, ["v-1/2", "v-1/3"]);
});

// --- Web Locks: with a lease that outlasts the tests, nothing but a hint lets another tab take over ------

/** In a tab: opens an engine with a reaction, whose function a test may hold up. */
async function openMailer([name, lease, handle]) {
  const mail = mailer({ handle: handle === undefined ? undefined : globalThis[handle] });
  const engine = await placeOf(name).open({ aggregates: [visit], reactions: [mail.definition], limits: { lease } });
  Object.assign(globalThis, { mail, engine, state: () => engine.reaction(mail.definition).status() });
}

const HOUR = 3_600_000;

const withMailer = async (tab, lease = HOUR, handle = undefined) => {
  await tab.evaluate(openMailer, [tabs.name, lease, handle]);
  return tab;
};

/** Waits until the tab's engine has found that another runs the reaction. */
const waiting = (tab) => tab.evaluate(() => until(async () => (await state()).runs, "another runs it"));

const bookAndSettle = (tab, times) =>
  tab.evaluate(async (times) => {
    for (let time = 0; time < times; time += 1) await book(engine, "v-1");
    await settled(engine, mail);
    return mail.sent;
  }, times);

/** The store's locks that are held. */
const heldLocks = () =>
  tabs.first.evaluate(async (name) => {
    const { held } = await navigator.locks.query();
    return held.map((lock) => lock.name).filter((lock) => lock.startsWith(`annals/${name}/`));
  }, tabs.name);

/** In a tab: as in a browser that has none. */
const withoutLocks = () => Object.defineProperty(Navigator.prototype, "locks", { value: undefined, configurable: true });

test("an engine that is closed leaves the reaction to another tab at once, and nothing is handled twice", async () => {
  const runner = await withMailer(await tabs.open());
  assert.deepEqual(await bookAndSettle(runner, 3), ["v-1/1", "v-1/2", "v-1/3"]);
  await waiting(await withMailer(tabs.first));
  assert.equal((await heldLocks()).length, 2);
  await runner.evaluate(() => engine.close());
  await until(async () => (await heldLocks()).length === 1, "it has let go of its lock");
  assert.deepEqual(await bookAndSettle(tabs.first, 2), ["v-1/4", "v-1/5"]);
  await runner.close();
});

test("a tab that is closed leaves the reaction to another at once", async () => {
  const runner = await withMailer(await tabs.open());
  await bookAndSettle(runner, 1);
  await waiting(await withMailer(tabs.first));
  await runner.close();
  assert.deepEqual(await bookAndSettle(tabs.first, 1), ["v-1/2"]);
});

test("a tab that comes when the one that ran the reaction is gone goes on at once", async () => {
  const runner = await withMailer(await tabs.open());
  await bookAndSettle(runner, 1);
  await runner.close();
  assert.deepEqual(await bookAndSettle(await withMailer(tabs.first), 1), ["v-1/2"]);
});

test("a tab that crashes in the middle of an event leaves that event, and what comes after, to another at once", async () => {
  const runner = await tabs.open();
  await runner.evaluate(() => {
    globalThis.seldom = ({ revision }) => (revision === 1 ? undefined : new Promise(() => (globalThis.hasBegun = true)));
  });
  await withMailer(runner, HOUR, "seldom");
  await bookAndSettle(runner, 1);
  await waiting(await withMailer(tabs.first));
  await runner.evaluate(() => book(engine, "v-1"));
  await runner.waitForFunction(() => globalThis.hasBegun);
  const session = await runner.context().newCDPSession(runner);
  const crashed = runner.waitForEvent("crash");
  // Nobody is left to answer.
  session.send("Page.crash").catch(() => undefined);
  await crashed;
  assert.deepEqual(await bookAndSettle(tabs.first, 1), ["v-1/2", "v-1/3"]);
  await runner.close();
});

test("an engine that loses its lock while it is there loses the reaction once, and nothing is lost", async () => {
  const runner = await withMailer(await tabs.open());
  await bookAndSettle(runner, 1);
  const [lock] = await heldLocks();
  await waiting(await withMailer(tabs.first));
  await tabs.first.evaluate((lock) => navigator.locks.request(lock, { steal: true }, () => undefined), lock);
  await tabs.first.evaluate(() => until(async () => (await state()).runsHere, "it has taken over"));
  for (let time = 0; time < 3; time += 1) {
    await runner.evaluate(() => book(engine, "v-1"));
    await bookAndSettle(tabs.first, 1);
  }
  await runner.evaluate(() => until(async () => !(await state()).runsHere, "it knows that another runs it"));
  const sent = await tabs.first.evaluate(() => mail.sent);
  assert.deepEqual(sent.slice(-6), [2, 3, 4, 5, 6, 7].map((revision) => `v-1/${revision}`));
  await runner.close();
});

test("a tab without locks is left the reaction while its lease lasts, also by one that has them", async () => {
  const runner = await tabs.open();
  await runner.evaluate(withoutLocks);
  await withMailer(runner);
  await bookAndSettle(runner, 1);
  await waiting(await withMailer(tabs.first));
  await tabs.first.evaluate(() => book(engine, "v-1"));
  assert.deepEqual(await bookAndSettle(runner, 1), ["v-1/1", "v-1/2", "v-1/3"]);
  assert.deepEqual(await tabs.first.evaluate(() => mail.sent), []);
  await runner.close();
});

test("where there are no locks another tab goes on when the lease has run out", async () => {
  const [runner, other] = [await tabs.open(), await tabs.open()];
  for (const tab of [runner, other]) await tab.evaluate(withoutLocks);
  await withMailer(runner, 60);
  await bookAndSettle(runner, 1);
  await waiting(await withMailer(other, 60));
  assert.deepEqual(await heldLocks(), []);
  await runner.close();
  assert.deepEqual(await bookAndSettle(other, 1), ["v-1/2"]);
  await other.close();
});

test("an engine without reactions holds no lock", async () => {
  await tabs.first.evaluate(async (name) => {
    const engine = await placeOf(name).open({ aggregates: [visit] });
    await book(engine, "v-1");
  }, tabs.name);
  assert.deepEqual(await heldLocks(), []);
});
