// The engine in pages, on IndexedDB: what is acknowledged stays, and tabs share one store.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { failureOf, launch, startProcess, temporaryProfile } from "../support/browser.mjs";
import { at, booking, cancellation, checkLog, confirmation, issuedAt, retitling } from "../support/clinic.mjs";
import { openPage, serveEnginePage } from "../support/engine-browser.mjs";
import { forms, toldOf } from "../support/upcasting.mjs";

let server;
let browser;
let context;

before(async () => {
  server = await serveEnginePage();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => (context = await browser.newContext()));
afterEach(() => context.close());

/** A page with its engine open. */
async function tab(from = context) {
  const page = await openPage(from, server.url);
  await page.evaluate(() => openEngine());
  return page;
}

const give = (page, commands) => page.evaluate((commands) => give(commands), commands);
const logOf = (page) => page.evaluate(() => logOf());

test("a snapshot that one tab has kept serves the others, and a reload", async () => {
  const [one, other] = [await openPage(context, server.url), await openPage(context, server.url)];
  const states = [];
  for (const [page, commands, folded] of [
    [one, [booking(), ...Array.from({ length: 6 }, (_, index) => retitling(`Title ${index}`))], 7],
    [other, [retitling("Of the other tab")], 3],
  ]) {
    const found = await page.evaluate(async ([commands, options]) => {
      const { counts, definition } = withSnapshots({ version: 1, every: 5 });
      await openEngine({ aggregates: [definition] });
      for (const command of commands) await engine.execute(definition, "a-1", command, options);
      const { state, revision } = await engine.state(definition, "a-1");
      return { state, revision, folded: counts.folded };
    }, [commands, { issuedAt }]);
    assert.equal(found.folded, folded);
    states.push(found);
  }
  assert.deepEqual([states[0].revision, states[1].revision], [7, 8]);
  await one.reload();
  await one.waitForFunction(() => globalThis.isReady);
  const again = await one.evaluate(async () => {
    const { counts, definition } = withSnapshots({ version: 1, every: 5 });
    await openEngine({ aggregates: [definition] });
    const { state, revision } = await engine.state(definition, "a-1");
    return { state, revision, folded: counts.folded };
  });
  assert.deepEqual(again, { ...states[1], folded: 3 });
});

test("a snapshot that is not the one that was kept is reported, and the state is that of all events", async () => {
  const page = await openPage(context, server.url);
  const found = await page.evaluate(async ([commands, options]) => {
    const kept = withSnapshots({ version: 1 }).definition;
    await openEngine({ aggregates: [kept] });
    for (const command of commands) await engine.execute(kept, "a-1", command, options);
    const before = await engine.state(kept, "a-1");
    await engine.snapshot(kept, "a-1");
    await engine.close();
    const storage = indexedDbStorage({ name: "clinic" });
    const { epoch } = await storage.open();
    const scan = { collection: "snapshots", index: null, from: null, to: null, after: null, descending: false, limit: 1 };
    const { scans: [{ documents: [{ key, revision, value }] }] } = await storage.readDocuments({ epoch, names: [], scans: [scan] });
    const damaged = { collection: "snapshots", key, revision, value: value.replace("Title", "Tjtle"), postings: [] };
    await storage.saveDocuments({ epoch, expected: [], clear: [], documents: [damaged] });
    await storage.close();
    const { counts, definition } = withSnapshots({ version: 1 });
    const reports = [];
    await openEngine({ aggregates: [definition], onReport: ({ kind }) => reports.push(kind) });
    const after = await engine.state(definition, "a-1");
    return { isOther: damaged.value !== value, before, after, reports, folded: counts.folded };
  }, [[booking(), retitling("Title")], { issuedAt }]);
  assert.deepEqual(found, { isOther: true, before: found.before, after: found.before, reports: ["snapshot-ignored"], folded: 2 });
});

test("what earlier releases have stored is read as today, and stays as it is", async () => {
  const page = await openPage(context, server.url);
  const found = await page.evaluate(async () => {
    const { fill, forms, release } = upcasting;
    const today = release({ reads: (command) => (command.type === "Book" ? ["7"] : []) });
    const storage = indexedDbStorage({ name: "clinic" });
    // Each in a record of its own, and several in one.
    for (const event of forms) await fill(storage, "a-1", [event], { tags: ["7"] });
    await fill(storage, "a-2", forms);
    await storage.close();
    await openEngine({ aggregates: [today], limits: { pageLimit: 4 } });
    const plain = ({ type, data }) => ({ type, data });
    const { events, state } = await engine.history(today, "a-1");
    const confirmed = await engine.execute(today, "a-2", { type: "Confirm", data: {} });
    const { refusal } = await engine.attempt(today, "a-3", { type: "Book", data: { doctor: "7" } });
    return {
      history: events.map(plain),
      state: state.told,
      folded: confirmed.state.told.slice(0, -1),
      others: refusal.details.others.map(plain),
      log: (await logOf({ types: ["Rescheduled"], aggregates: [today] })).length,
      stored: (await logOf({ stored: true })).map(({ type, schemaVersion, data }) => [type, schemaVersion, data]),
    };
  });
  const told = toldOf(forms);
  for (const part of ["history", "state", "folded", "others"]) assert.deepEqual(found[part], told, part);
  assert.equal(found.log, 6);
  const stored = forms.map(({ type, version, data }) => [type, version, JSON.parse(data)]);
  assert.deepEqual(found.stored, [...stored, ...stored, ["Confirmed", 1, {}]]);
});

test("a reload keeps states, histories and first outcomes", async () => {
  const page = await tab();
  const commandId = randomUUID();
  const commands = [booking(), confirmation, retitling("Pulse"), cancellation].map((command, index) => [
    "a-1",
    command,
    { issuedAt, actor: "reception 😀", metadata: { index }, ...(index === 1 && { commandId }) },
  ]);
  for (const command of commands) assert.equal((await give(page, [command]))[0].ok, true);
  const told = () =>
    page.evaluate(async () => ({
      history: await engine.history(appointment, "a-1"),
      past: await engine.state(appointment, "a-1", { at: { revision: 2 } }),
      log: await logOf(),
    }));
  const before = await told();
  assert.deepEqual([before.history.revision, before.past.state.status, before.log.length], [4, "confirmed", 4]);

  await page.reload();
  await page.waitForFunction(() => globalThis.isReady);
  await page.evaluate(() => openEngine());
  assert.deepEqual(await told(), before);
  const [again] = await give(page, [commands[1]]);
  assert.deepEqual([again.revision, again.commandId, again.duplicate], [2, commandId, true]);
  // A position that was kept is good after the reload.
  const rest = await page.evaluate((after) => logOf({ after }), before.log[1].position);
  assert.deepEqual(rest, before.log.slice(2));
});

test("an outcome in a page says what it survives", async () => {
  const page = await tab();
  const durability = async (options) =>
    page.evaluate(
      async ([options, command, issuedAt]) => {
        const storage = indexedDbStorage(options);
        const engine = await Engine.open({ storage, aggregates: [appointment] });
        const { durability } = await engine.execute(appointment, "a-1", command, { issuedAt });
        await engine.close();
        return durability;
      },
      [options, booking(), issuedAt],
    );
  assert.equal(await durability({ name: "one" }), "process-crash");
  assert.equal(await durability({ name: "two", durability: "strict" }), "power-loss");
});

test("of two pages that race for one appointment one wins, each time, and the other is told so", async () => {
  const tabs = [await tab(), await tab()];
  for (let round = 0; round < 15; round += 1) {
    const given = (own) => [[`raced-${round}`, booking({ doctor: `${own}`, minutes: round * 10 }), { issuedAt }]];
    const found = (await Promise.all(tabs.map((page, own) => give(page, given(own))))).flat();
    const winner = found.findIndex(({ ok }) => ok);
    assert.deepEqual(found[1 - winner].refusal, { code: "already-booked", details: {} }, `round ${round}`);
  }
  for (const page of tabs) assert.equal(checkLog(await logOf(page)).size, 15);
});

test("of two pages that race for one doctor's time one wins, each time, and the other is told by whom", async () => {
  const tabs = [await tab(), await tab()];
  for (let round = 0; round < 15; round += 1) {
    const given = (own) => [[`${own}-${round}`, booking({ room: `${own}`, minutes: round * 10 }), { issuedAt }]];
    const found = (await Promise.all(tabs.map((page, own) => give(page, given(own))))).flat();
    const winner = found.findIndex(({ ok }) => ok);
    const details = { by: `${winner}-${round}`, start: at(round * 10), end: at(round * 10 + 10) };
    assert.deepEqual(found[1 - winner].refusal, { code: "doctor-taken", details }, `round ${round}`);
  }
  for (const page of tabs) assert.equal(checkLog(await logOf(page)).size, 15);
});

test("64 bookings at once in each of two pages: those that don't clash succeed, of those that do one of two", async () => {
  const tabs = [await tab(), await tab()];
  const round = (name, minutes) =>
    Promise.all(
      tabs.map((page, own) =>
        give(page, Array.from({ length: 64 }, (_, n) => [`${name}-${own}-${n}`, booking({ doctor: name, minutes: minutes(own, n) }), { issuedAt }])),
      ),
    );
  const apart = await round("apart", (own, n) => (2 * n + own) * 10);
  assert.deepEqual(apart.flat().filter(({ ok }) => !ok), []);
  const clashing = await round("clash", (_, n) => n * 10);
  for (let n = 0; n < 64; n += 1) {
    const [winner, loser] = clashing[0][n].ok ? [0, 1] : [1, 0];
    assert.equal(clashing[winner][n].ok, true);
    assert.equal(clashing[loser][n].refusal?.details.by, `clash-${winner}-${n}`);
  }
  assert.equal(checkLog(await logOf(tabs[0])).size, 128 + 64);
});

test("a reader hears of what another page appends, at once and in order", async () => {
  const [here, there] = [await tab(), await tab()];
  await here.evaluate(() => {
    globalThis.heard = (async () => {
      const events = [];
      for await (const event of engine.events({ aggregates: [appointment] })) {
        events.push(event);
        if (events.length === 40) return events;
      }
    })();
  });
  await give(there, [["a-1", booking(), { issuedAt }]]);
  for (let n = 1; n < 20; n += 1) await give(there, [["a-1", retitling(`Title ${n}`), { issuedAt }]]);
  await give(there, Array.from({ length: 20 }, (_, n) => [`b-${n}`, booking({ doctor: `d-${n}` }), { issuedAt }]));
  const heard = await here.evaluate(() => globalThis.heard);
  assert.deepEqual(heard, await logOf(there));
});

test("a reader with a name goes on after a reload, and of two pages with one name the slower is told", async () => {
  const [here, there] = [await tab(), await tab()];
  await give(here, [["a-1", booking(), { issuedAt }], ...[1, 2, 3].map((n) => ["a-1", retitling(`Title ${n}`), { issuedAt }])]);
  const read = (page, count) =>
    page.evaluate(async (count) => {
      const seen = [];
      for await (const { revision } of engine.events({ name: "mails", startAt: "beginning", pageSize: 2 })) {
        seen.push(revision);
        if (seen.length === count) break;
      }
      return seen;
    }, count);
  assert.deepEqual(await read(here, 2), [1, 2]);
  await here.reload();
  await here.evaluate(() => openEngine());
  assert.deepEqual(await read(here, 2), [2, 3]);
  const log = await logOf(there);
  assert.equal(await there.evaluate(() => checkpoint(engine, "mails")), log[1].position);

  await here.evaluate(async () => {
    globalThis.slow = engine.events({ name: "mails", startAt: "beginning", pageSize: 1 });
    await slow.next();
  });
  assert.deepEqual(await read(there, 2), [3, 4]);
  const told = await here.evaluate(() => slow.next().then(String, ({ code, details }) => ({ code, details })));
  assert.deepEqual(told, { code: "subscription-moved", details: { subscription: "mails" } });
});

test("a page and a worker share one store", async () => {
  const page = await tab();
  const asked = await page.evaluate(
    async ([command, issuedAt]) => {
      const worker = new Worker("page.js", { type: "module" });
      const ask = (source) =>
        new Promise((resolve, reject) => {
          worker.onmessage = ({ data }) => resolve(data);
          worker.onerror = ({ message }) => reject(new Error(message));
          worker.postMessage(source);
        });
      const next = engine.events().next();
      const given = JSON.stringify([["a-1", command, { issuedAt }]]);
      const outcomes = await ask(`async () => { await openEngine(); return give(${given}); }`);
      const { value } = await next;
      const again = await engine.attempt(appointment, "a-1", command, { issuedAt });
      const log = await ask("() => logOf()");
      return { outcomes, value, again, log };
    },
    [booking(), issuedAt],
  );
  assert.equal(asked.outcomes[0].ok, true);
  assert.deepEqual(asked.log, [asked.value]);
  assert.equal(asked.again.refusal.code, "already-booked");
});

/** 500 appointments, booked and confirmed: 1,000 commands. */
const thousand = () =>
  Array.from({ length: 500 }, (_, n) => {
    const wanted = booking({ doctor: `${n % 20}`, minutes: Math.floor(n / 20) * 10 });
    return [wanted, confirmation].map((command) => [`a-${n}`, command, { issuedAt, commandId: randomUUID() }]);
  }).flat();

/** Besides these, one appointment is changed without end, so that the end can't come too late. */
const restless = ["restless", booking({ doctor: "restless" }), { issuedAt }];

/** Gives them, two at once, and returns those acknowledged until there are enough. */
async function untilAcknowledged(page, commands, enough) {
  const acknowledged = new Map();
  const failure = failureOf(page);
  const reached = new Promise((resolve, reject) => {
    page.exposeFunction("acknowledge", (index, { ok, revision, commandId }) => {
      if (!ok) reject(new Error(`command ${index} was refused`));
      acknowledged.set(commandId, { index, revision });
      if (acknowledged.size === enough) resolve();
    }).then(() =>
      page.evaluate(
        ([commands, restless]) => {
          void changeWithoutEnd(...restless);
          void give(commands, { atOnce: 2, onOutcome: acknowledge });
        },
        [commands, restless],
      ),
    ).catch(reject);
  });
  await Promise.race([reached, failure]);
  return acknowledged;
}

async function checkAcknowledged(page, commands, acknowledged) {
  const log = await logOf(page);
  checkLog(log);
  const stored = new Map(log.map((event) => [event.commandId, event]));
  assert.equal(stored.size, log.length);
  for (const [commandId, { index, revision }] of acknowledged) {
    const event = stored.get(commandId);
    assert.ok(event, `${commandId} was acknowledged and is not there`);
    assert.deepEqual([event.stream.id, event.revision], [commands[index][0], revision]);
  }
  // Given again, all are done, and each once.
  const again = await give(page, commands);
  for (const { ok, duplicate, commandId } of again) assert.deepEqual([ok, duplicate], [true, stored.has(commandId)]);
  const revisions = checkLog(await logOf(page));
  assert.ok(revisions.delete("restless"));
  assert.deepEqual([...revisions.values()], Array(500).fill(2));
}

test("a page closed in the middle of 1,000 commands has lost none that was acknowledged", async () => {
  const commands = thousand();
  const page = await tab();
  const acknowledged = await untilAcknowledged(page, commands, 100);
  await page.close();
  await checkAcknowledged(await tab(), commands, acknowledged);
});

test("a browser killed in the middle of 1,000 commands has lost none that was acknowledged", async () => {
  const profile = await temporaryProfile();
  let running;
  try {
    running = await startProcess(profile.folder);
    const commands = thousand();
    const acknowledged = await untilAcknowledged(await tab(running.context), commands, 100);
    await running.kill();
    running = await startProcess(profile.folder);
    await checkAcknowledged(await tab(running.context), commands, acknowledged);
  } finally {
    await running?.kill();
    await profile.remove();
  }
});

test("in a private window a store works, for as long as the window is open", async () => {
  const profile = await temporaryProfile();
  /** The folders of databases on the disk. */
  const onDisk = () => {
    const folder = `${profile.folder}/Default/IndexedDB`;
    return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".leveldb")) : [];
  };
  const running = await startProcess(profile.folder);
  try {
    // A context that is made is off the record, as a private window is; the browser's own is not.
    const open = () => running.context.browser().newContext();
    let window = await open();
    const [one, other] = [await tab(window), await tab(window)];
    const [booked] = await give(one, [["a-1", booking(), { issuedAt }]]);
    await give(other, [["a-1", retitling("Of the other tab"), { issuedAt }]]);
    const durability = await one.evaluate(async () => (await indexedDbStorage({ name: "clinic" }).open()).durability);
    assert.deepEqual([booked.ok, durability], [true, "process-crash"]);
    await one.close();
    await other.close();
    // All tabs are gone, and the window is there.
    assert.equal((await logOf(await tab(window))).length, 2);
    assert.deepEqual(onDisk(), []);
    await window.close();
    window = await open();
    assert.deepEqual(await logOf(await tab(window)), []);
    await window.close();
    // What is not private is on the disk.
    await give(await tab(running.context), [["a-1", booking(), { issuedAt }]]);
    assert.equal(onDisk().length, 1);
  } finally {
    await running.kill();
    await profile.remove();
  }
});
