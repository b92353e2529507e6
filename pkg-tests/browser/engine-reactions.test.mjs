// Reactions in pages, on IndexedDB: of two tabs one runs one, and the other takes over when it ends.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { startBrowser } from "../support/page.mjs";
import { reactionRules } from "../support/reaction-rules.mjs";

let browser;
let page;
let name;

before(async () => {
  browser = await startBrowser();
  page = await tab();
});
after(() => browser?.close());
beforeEach(() => (name = `reactions ${crypto.randomUUID()}`));
afterEach(() => page.evaluate(() => closeAll()));

/** A page with what the tests use in it as globals. */
async function tab() {
  const page = await browser.page();
  await page.evaluate(async () => {
    const { placesOf } = await import("/support/engine-places.mjs");
    Object.assign(globalThis, await import("/support/reaction-rules.mjs"), placesOf());
  });
  return page;
}

for (const rule of reactionRules) {
  test(`IndexedDB: ${rule.name}`, () =>
    page.evaluate(
      ([rule, name]) => reactionRules.find((found) => found.name === rule).run(placeOf(name)),
      [rule.name, name],
    ));
}

test("a tab that ends while it handles an event leaves that event, and what comes after, to another", async () => {
  const other = await tab();
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
  }, name);
  await hasBegun;
  const running = page.evaluate(async (name) => {
    const mail = mailer();
    const engine = await placeOf(name).open({ aggregates: [visit], reactions: [mail.definition], limits: { lease: 60 } });
    await book(engine, "v-1");
    globalThis.isWaiting = true;
    await settled(engine, mail);
    return mail.sent;
  }, name);
  await page.waitForFunction(() => globalThis.isWaiting);
  await other.close();
  assert.deepEqual(await running, ["v-1/2", "v-1/3"]);
});
