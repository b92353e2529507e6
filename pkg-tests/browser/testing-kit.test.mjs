// The kit for tests of a domain, in a page: it needs nothing of Node.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startBrowser } from "../support/page.mjs";

let browser;
let page;

before(async () => {
  browser = await startBrowser();
  page = await browser.page();
});
after(() => browser?.close());

test("in a page a right domain passes and a wrong one is told", async () => {
  const told = await page.evaluate(async () => {
    const { aggregate } = await import("annals");
    const { given } = await import("annals/testing");
    const told = [];
    const counting = (number) => {
      const counter = aggregate("Counter", {
        initial: () => 0,
        decide: () => [{ type: "Counted", data: { number: number() } }],
        evolve: { Counted: (sum, { data }) => sum + data.number },
      });
      try {
        given(counter).when({ type: "Count", data: {} }).then({ type: "Counted", data: { number: 2 } }).thenState(2);
        told.push("passed");
      } catch (error) {
        told.push(`${error.name}: ${error.message.split("\n")[0]}`);
      }
    };
    const before = [Date, Date.now, Math.random, crypto.randomUUID, performance.now];
    counting(() => 2);
    counting(() => 3);
    counting(() => Date.now());
    counting(() => new Date().getTime());
    counting(() => performance.now());
    counting(() => Math.random());
    counting(() => crypto.getRandomValues(new Uint8Array(1))[0]);
    const isAsBefore = [Date, Date.now, Math.random, crypto.randomUUID, performance.now].every((now, index) => now === before[index]);
    return [...told, isAsBefore];
  });
  const impure = (what) => `AssertionError: decide called ${what}: it must be pure.`;
  const starts = [
    "passed",
    "AssertionError: expected other data of Counted",
    impure("Date.now()"),
    impure("new Date()"),
    impure("performance.now()"),
    impure("Math.random()"),
    impure("crypto.getRandomValues()"),
  ];
  assert.deepEqual(told.slice(0, -1).map((text, index) => text.slice(0, starts[index]?.length)), starts);
  assert.equal(told.at(-1), true);
});
