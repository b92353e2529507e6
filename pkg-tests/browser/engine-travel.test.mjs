// Time travel in pages, on IndexedDB: chains of causes, differences, and stores as they were.

import { after, afterEach, before, test } from "node:test";
import { auditRules } from "../support/audit-rules.mjs";
import { overlayRules } from "../support/overlay-rules.mjs";
import { startBrowser } from "../support/page.mjs";

let browser;
let page;

before(async () => {
  browser = await startBrowser();
  page = await browser.page();
  await page.evaluate(async () => {
    const { placesOf } = await import("/support/engine-places.mjs");
    const { appointment } = await import("/support/clinic.mjs");
    const { auditRules } = await import("/support/audit-rules.mjs");
    const { overlayRules } = await import("/support/overlay-rules.mjs");
    Object.assign(globalThis, { rules: [...auditRules, ...overlayRules] }, placesOf({ aggregates: [appointment] }));
  });
});
after(() => browser?.close());
afterEach(() => page.evaluate(() => closeAll()));

for (const rule of [...auditRules, ...overlayRules]) {
  test(`IndexedDB: ${rule.name}`, () =>
    page.evaluate(
      ([rule, name]) => rules.find((found) => found.name === rule).run(placeOf(name)),
      [rule.name, `travel ${crypto.randomUUID()}`],
    ));
}
