// Tabs of one browser with engines on IndexedDB, in which rules and stories are tested.

import { after, afterEach, before, beforeEach, test } from "node:test";
import { failureOf } from "./browser.mjs";
import { startBrowser } from "./page.mjs";

/**
 * The tabs of a file's tests: `first` is there for all of them, and `name` is a store's, another one for each test.
 * In every tab there are as globals what the files of `support/` export, `placeOf`, and what `prepare` makes there.
 */
export function tabsWith(rules, prepare) {
  const files = [rules].flat().map((file) => `/support/${file}`);
  let browser;
  const tabs = {
    async open() {
      const tab = await browser.page();
      await tab.evaluate(makeGlobals, files);
      if (prepare !== undefined) await tab.evaluate(prepare);
      return tab;
    },

    /** Makes each rule of a list a test: `{ list }`, which the rules' file exports under this name. */
    keep(lists) {
      for (const [list, rules] of Object.entries(lists)) {
        for (const { name: rule } of rules) {
          test(`IndexedDB: ${rule}`, () =>
            tabs.first.evaluate(
              ([list, rule, name]) => globalThis[list].find((found) => found.name === rule).run(placeOf(name)),
              [list, rule, tabs.name],
            ));
        }
      }
    },

    /** Runs this in another tab, with the store's name, and ends the tab once `inTheMiddle` is called there. */
    async endInTheMiddle(work) {
      const tab = await tabs.open();
      let enough;
      const inTheMiddle = new Promise((resolve) => (enough = resolve));
      await tab.exposeFunction("inTheMiddle", () => enough());
      const failure = failureOf(tab);
      await tab.evaluate(work, tabs.name);
      await Promise.race([inTheMiddle, failure]);
      failure.catch(() => undefined);
      await tab.close();
    },
  };
  before(async () => {
    browser = await startBrowser();
    tabs.first = await tabs.open();
  });
  after(() => browser?.close());
  beforeEach(() => (tabs.name = crypto.randomUUID()));
  afterEach(() => tabs.first.evaluate(() => closeAll()));
  return tabs;
}

/** In a tab. */
async function makeGlobals(files) {
  const { placesOf } = await import("/support/engine-places.mjs");
  for (const file of files) Object.assign(globalThis, await import(file));
  Object.assign(globalThis, placesOf());
}
