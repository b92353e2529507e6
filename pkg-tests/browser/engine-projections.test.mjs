// Views in pages, on IndexedDB: tabs keep one view, also those that end in the middle, and those of an
// older release.

import assert from "node:assert/strict";
import { test } from "node:test";
import { projectionRules } from "../support/projection-rules.mjs";
import { tabsWith } from "../support/tabs.mjs";

const tabs = tabsWith("projection-rules.mjs", () => {
  Object.assign(globalThis, {
    open: (name, options) => placeOf(name).open({ aggregates: [visit], ...options }),
    /** Books so many visits, all at once, and tells how many the view was behind with. */
    async bookMany(engine, prefix, count) {
      const booking = (_, number) => book(engine, `${prefix}-${number}`, `d-${number % 4}`, 10);
      const outcomes = await Promise.all(Array.from({ length: count }, booking));
      return outcomes.filter(({ behind }) => behind.length > 0).length;
    },
    /** The days of the view, by doctor: minutes, and each visit once. */
    async daysOf(view, options) {
      const days = await all(view, { prefix: "d-", ...options });
      return days.map(({ key, document: { minutes, visits } }) => [key, minutes, visits.length, new Set(visits).size]);
    },
  });
});
tabs.keep({ projectionRules });

const days = (visits, minutes = visits * 10) =>
  Array.from({ length: 4 }, (_, doctor) => [`d-${doctor}`, minutes / 4, visits / 4, visits / 4]);

test("two tabs keep one inline view: each has taken its own commands in, and each event is taken in once", async () => {
  const { name } = tabs;
  const both = [tabs.first, await tabs.open()];
  const found = await Promise.all(
    both.map((tab, own) =>
      tab.evaluate(
        async ([name, own]) => {
          const agendaHere = agenda({ kind: "inline" });
          const engine = await open(name, { projections: [agendaHere] });
          const view = engine.view(agendaHere);
          let behind = 0;
          for (let round = 0; round < 10; round += 1) {
            behind += await bookMany(engine, `v-${own}-${round}`, 8);
            // What this tab has booked is there, without waiting.
            for (let number = 0; number < 8; number += 1) {
              const visit = await view.get(`visit/v-${own}-${round}-${number}`);
              if (visit?.minutes !== 10) throw new Error(`round ${round}: ${JSON.stringify(visit)}`);
            }
          }
          return behind;
        },
        [name, own],
      ),
    ),
  );
  assert.deepEqual(found, [0, 0]);
  for (const tab of both) {
    const shown = await tab.evaluate(async (name) => {
      const agendaHere = agenda({ kind: "inline" });
      const engine = await open(name, { projections: [agendaHere] });
      return daysOf(engine.view(agendaHere), { latest: true });
    }, name);
    assert.deepEqual(shown, days(160));
  }
  await both[1].close();
});

test("a tab that ends in the middle of a rebuild leaves what it has built to the next", async () => {
  const { name } = tabs;
  await tabs.first.evaluate(async (name) => bookMany(await open(name), "v", 400), name);
  await tabs.endInTheMiddle(async (name) => {
    const storage = placeOf(name).storage();
    const { saveDocuments } = storage;
    let saves = 0;
    storage.saveDocuments = (request) => {
      saves += 1;
      const saving = saveDocuments.call(storage, request);
      // The tab ends while this one is under way, or has been done and not answered.
      return saves < 6 ? saving : (inTheMiddle(), new Promise(() => undefined));
    };
    await open(name, { storage, projections: [agenda()], limits: { pageLimit: 20 } });
  });

  const { shown, from } = await tabs.first.evaluate(async (name) => {
    const storage = placeOf(name).storage();
    const { saveDocuments } = storage;
    const from = [];
    storage.saveDocuments = (request) => {
      from.push(request.expected[0].revision);
      return saveDocuments.call(storage, request);
    };
    const own = agenda();
    const engine = await open(name, { storage, projections: [own], limits: { pageLimit: 20 } });
    return { shown: await daysOf(engine.view(own), { latest: true }), from };
  }, name);
  assert.deepEqual(shown, days(400));
  assert.ok([100, 120].includes(from[0]), `it has gone on from ${from[0]}`);
  assert.ok(from.length <= 15, `${from.length} pages were taken in`);
});

test("a tab of an older release appends, and keeps the view that it knows", async () => {
  const { name } = tabs;
  const [old, older] = [tabs.first, await tabs.open()];
  const newer = [await tabs.open(), await tabs.open()];
  // The oldest has no view at all.
  await older.evaluate(async (name) => (globalThis.engine = await open(name)), name);
  await old.evaluate(async (name) => {
    globalThis.own = agenda({ kind: "inline" });
    globalThis.engine = await open(name, { projections: [own] });
    await bookMany(engine, "first", 40);
  }, name);
  let visits = 40;
  for (const [round, tab] of newer.entries()) {
    await tab.evaluate(async (name) => {
      globalThis.own = agenda({ kind: "inline", version: 2, times: 2 });
      globalThis.engine = await open(name, { projections: [own] });
      await daysOf(engine.view(own), { latest: true });
      // From here on it hears of what others append.
      globalThis.goal = new Promise((resolve) => (globalThis.setGoal = resolve));
      globalThis.heard = (async () => {
        for await (const count of engine.view(own).watch((view) => view.count({ prefix: "visit/" }))) {
          if (count >= await goal) return count;
        }
      })();
    }, name);
    for (const appending of [old, older, tab]) {
      const prefix = `round-${round}-${visits}`;
      const behind = await appending.evaluate(async (prefix) => bookMany(engine, prefix, 40), prefix);
      visits += 40;
      // The newest release clears the older one's view away, which is then made anew.
      if (appending !== old) assert.equal(behind, 0);
    }
    assert.deepEqual(await old.evaluate(() => daysOf(engine.view(own), { latest: true })), days(visits));
    for (const tab of newer.slice(0, round + 1)) {
      assert.deepEqual(await tab.evaluate(() => daysOf(engine.view(own), { latest: true })), days(visits, visits * 20));
    }
  }
  for (const tab of newer) {
    assert.equal(await tab.evaluate(async (visits) => (setGoal(visits), await heard), visits), visits);
  }
  for (const tab of [older, ...newer]) await tab.close();
});
