// Process managers in pages, on IndexedDB: of two tabs one runs one, and what a tab leaves undone the
// other does.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { failureOf } from "../support/browser.mjs";
import { managerRules } from "../support/manager-rules.mjs";
import { startBrowser } from "../support/page.mjs";

let browser;
let page;
let name;

before(async () => {
  browser = await startBrowser();
  page = await tab();
});
after(() => browser?.close());
beforeEach(() => (name = `managers ${crypto.randomUUID()}`));
afterEach(() => page.evaluate(() => closeAll()));

/** A page with what the tests use in it as globals. */
async function tab() {
  const page = await browser.page();
  await page.evaluate(async () => {
    const { placesOf } = await import("/support/engine-places.mjs");
    Object.assign(globalThis, await import("/support/manager-rules.mjs"), placesOf());
  });
  return page;
}

for (const rule of managerRules) {
  test(`IndexedDB: ${rule.name}`, () =>
    page.evaluate(
      ([rule, name]) => managerRules.find((found) => found.name === rule).run(placeOf(name)),
      [rule.name, name],
    ));
}

test("a tab that ends between command and save leaves the rest to another, which repeats nothing", async () => {
  const other = await tab();
  let enough;
  const inTheMiddle = new Promise((resolve) => (enough = resolve));
  await other.exposeFunction("inTheMiddle", () => enough());
  const failure = failureOf(other);
  await other.evaluate(async (name) => {
    const place = placeOf(name);
    const storage = place.storage();
    const { saveDocuments } = storage;
    let commands = false;
    storage.saveDocuments = (request) => {
      const ofManager = request.documents.some(({ collection }) => collection.startsWith("managers/"));
      if (commands && ofManager) return inTheMiddle(), new Promise(() => undefined);
      return saveDocuments.call(storage, request);
    };
    const manager = waitingList();
    const engine = await place.open({ storage, aggregates: [desk], reactions: [manager], limits: { lease: 60 } });
    for (const patient of ["Ann", "Ben"]) await give(engine, "a", "Waiting", { patient, slot: 7 });
    await settled(engine, manager);
    commands = true;
    await give(engine, "b", "Cancelled", { slot: 7 });
  }, name);
  await Promise.race([inTheMiddle, failure]);
  failure.catch(() => undefined);
  await other.close();
  const booked = await page.evaluate(async (name) => {
    const manager = waitingList();
    const engine = await placeOf(name).open({ aggregates: [desk], reactions: [manager], limits: { lease: 60 } });
    await settled(engine, manager);
    await give(engine, "b", "Cancelled", { slot: 7 });
    await settled(engine, manager);
    return (await events(engine, "Booked")).map(({ data }) => data.patient);
  }, name);
  assert.deepEqual(booked, ["Ann", "Ben"]);
});
