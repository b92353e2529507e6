import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { enrolTests } from "../support/conformance.mjs";
import { testsOf } from "../support/indexeddb-conformance.mjs";
import { startBrowser } from "../support/page.mjs";

let browser;
let page;
before(async () => {
  browser = await startBrowser();
  page = await preparedPage();
});
after(() => browser?.close());

for (const durability of ["relaxed", "strict"]) {
  const runInPage = async ({ rule, needs }) => {
    const isFull = needs === "a full medium";
    const tab = isFull ? await preparedPage({ apart: true, quota: 600_000 }) : page;
    await tab.evaluate((asked) => run(...asked), [durability, rule]);
    if (isFull) await tab.close();
  };
  enrolTests(test, testsOf(durability), runInPage, "IndexedDB");
}

test("IndexedDB: durability is what the transactions are asked for", async () => {
  const found = await page.evaluate(async () => {
    const asked = [];
    const original = IDBDatabase.prototype.transaction;
    IDBDatabase.prototype.transaction = function (stores, mode, options) {
      asked.push(`${mode} ${options.durability}`);
      return original.call(this, stores, mode, options);
    };
    try {
      const says = [];
      for (const durability of [undefined, "relaxed", "strict"]) {
        const subject = await Subject.open(
          indexedDbStorage({ name: newName(), ...(durability && { durability }) }),
        );
        await subject.accept(commit("a-1", 0, [event()]));
        says.push(subject.info.durability);
      }
      return { says, asked: asked.filter((text) => text.startsWith("readwrite")) };
    } finally {
      IDBDatabase.prototype.transaction = original;
    }
  });
  assert.deepEqual(found, {
    says: ["process-crash", "process-crash", "power-loss"],
    asked: ["readwrite relaxed", "readwrite relaxed", "readwrite strict"],
  });
});

test("IndexedDB: two tabs that race for a stream lose nothing, and hear of each other", async () => {
  const name = "race";
  const other = await preparedPage();
  const race = async (tab) =>
    tab.evaluate(async (name) => {
      const subject = await Subject.open(indexedDbStorage({ name }));
      const told = [];
      subject.storage.subscribe((position) => told.push(position));
      for (let won = 0; won < 40;) {
        const { revision } = await subject.slice("Appointment", "hot", { limit: 1 });
        const commandId = crypto.randomUUID();
        const [verdict] = await subject.append([commit("hot", revision, [event()], { commandId })]);
        if (verdict.kind === "committed") won++;
      }
      await until(() => told.includes(80));
      const { events } = await subject.slice("Appointment", "hot");
      return events.map(({ revision }) => revision);
    }, name);
  const found = await Promise.all([race(page), race(other)]);
  const expected = Array.from({ length: 80 }, (_, index) => index + 1);
  assert.deepEqual(found, [expected, expected]);
  await other.close();
});

test("IndexedDB: two tabs that count in one document lose nothing", async () => {
  const other = await preparedPage();
  const count = (tab) =>
    tab.evaluate(async () => {
      await perform(indexedDbStorage({ name: "count" }), { kind: "count", times: 40 });
      const subject = await Subject.open(indexedDbStorage({ name: "count" }));
      return subject.read({ names: [{ collection: "agenda", key: "sum" }] }).then(({ documents }) => documents[0].revision);
    });
  const found = await Promise.all([count(page), count(other)]);
  assert.equal(Math.max(...found), 80);
  await other.close();
});

test("IndexedDB: another tab can delete the store while an engine has it open", async () => {
  const name = "deleted elsewhere";
  await open(page, name);
  const other = await preparedPage();
  await other.evaluate((name) => deleteDatabase(name), name);
  const code = await page.evaluate(() => codeOf(() => subject.accept(commit("a-1", 1, [event()]))));
  assert.equal(code, "foreign-epoch");
  await other.close();
});

test("IndexedDB: a store that the browser has cleared is told from the first", async () => {
  const tab = await preparedPage({ apart: true });
  await open(tab, "cleared");
  await storage(tab, "clearDataForOrigin", { storageTypes: "indexeddb" });
  assert.equal(await tab.evaluate(() => codeOf(() => subject.log())), "foreign-epoch");
  await tab.close();
});

test("IndexedDB: an append during which the store is cleared is told truthfully", async () => {
  const tab = await preparedPage({ apart: true });
  for (let round = 0; round < 5; round++) {
    await open(tab, `cleared in flight ${round}`);
    const failure = tab.evaluate(async () => {
      globalThis.appended = 0;
      for (let revision = 1; ; revision++) {
        const { code, mayBeApplied } =
          (await failureOf(() => subject.accept(commit("a-1", revision, [event()]))).catch(
            () => undefined,
          )) ?? {};
        if (code !== undefined) return `${code} ${mayBeApplied}`;
        appended++;
      }
    });
    await Promise.race([failure, tab.waitForFunction((count) => globalThis.appended >= count, 3 * round)]);
    await storage(tab, "clearDataForOrigin", { storageTypes: "indexeddb" });
    assert.match(await failure, /^(foreign-epoch false|storage-failed (true|false))$/);
  }
  await tab.close();
});

test("IndexedDB: a full disk fails the append, and the change of documents, with nothing applied", async () => {
  const tab = await preparedPage({ apart: true });
  await storage(tab, "overrideQuotaForOrigin", { quotaSize: 2_000_000 });
  await open(tab, "full");
  const refused = await tab.evaluate(async () => {
    const data = JSON.stringify("x".repeat(5_000_000));
    const { code, retryable, mayBeApplied } = await failureOf(() =>
      subject.append([commit("a-1", 1, [event("Noted", [], { data })])]),
    );
    const { revision } = await subject.slice("Appointment", "a-1");
    const document = (key, value) => ({ collection: "agenda", key, revision: 1, value, postings: [["of", "v"]] });
    const documents = [document("a", "1"), document("b", data), document("c", "1")];
    const change = await failureOf(() => subject.change({ documents }));
    const scans = [null, "of"].map((index) => ({ collection: "agenda", index, limit: null }));
    const counts = (await subject.read({ scans })).scans.map(({ count }) => count);
    return [[code, retryable, mayBeApplied, revision], [change.code, change.mayBeApplied, counts]];
  });
  assert.deepEqual(refused, [["storage-full", false, false, 1], ["storage-full", false, [0, 0]]]);
  await tab.evaluate(() => subject.accept(commit("a-1", 1, [event()])));
  await tab.close();
});

test("IndexedDB: a connection that is found closed is opened again", async () => {
  const found = await page.evaluate(async () => {
    const original = IDBFactory.prototype.open;
    const databases = [];
    IDBFactory.prototype.open = function (...args) {
      const request = original.apply(this, args);
      request.addEventListener("success", () => databases.push(request.result));
      return request;
    };
    try {
      const subject = await Subject.open(indexedDbStorage({ name: newName() }));
      await subject.accept(commit("a-1", 0, [event()]));
      databases[0].close();
      const answers = await Promise.all([
        subject.append([commit("a-1", 1, [event()])]),
        subject.slice("Appointment", "a-1"),
        subject.log(),
      ]);
      return [databases.length, answers[0][0].kind, answers[2].length];
    } finally {
      IDBFactory.prototype.open = original;
    }
  });
  assert.deepEqual(found, [2, "committed", 2]);
});

test("IndexedDB: an append that is lost while it commits may be applied; the rest goes on", async () => {
  const found = await page.evaluate(async () => {
    const subject = await Subject.open(indexedDbStorage({ name: newName() }));
    const sent = commit("a-1", 0, [event()]);
    const original = IDBTransaction.prototype.commit;
    IDBTransaction.prototype.commit = IDBTransaction.prototype.abort;
    const { code, retryable, mayBeApplied } = await failureOf(() => subject.append([sent]));
    IDBTransaction.prototype.commit = original;
    await subject.accept(sent);
    return [code, retryable, mayBeApplied];
  });
  assert.deepEqual(found, ["storage-failed", true, true]);
});

test("IndexedDB: a unique index is the safety net under the judge", async () => {
  const found = await page.evaluate(async () => {
    const subject = await Subject.open(indexedDbStorage({ name: newName() }));
    await subject.accept(commit("a-1", 0, [event()]));
    const wrong = { kind: "committed", position: 2, revision: 1, count: 1, recordedAt: 0 };
    const append = () =>
      subject.storage.append(
        { epoch: subject.epoch, commits: [commit("a-1", 0, [event()])] },
        () => [wrong],
      );
    const { code, mayBeApplied } = await failureOf(append);
    return [code, mayBeApplied, (await subject.log()).length];
  });
  assert.deepEqual(found, ["storage-failed", false, 1]);
});

test("IndexedDB: a long log is read back in pages that don't keep appends waiting, whatever passes the filter", async () => {
  const pages = await page.evaluate(async () => {
    const subject = await Subject.open(indexedDbStorage({ name: newName() }));
    // A record for each append: more than one transaction looks at.
    const tagsOf = (n) => [`every:${n % 2}`, ...(n % 400 === 7 ? ["rare"] : [])];
    const appends = Array.from({ length: 1500 }, (_, n) => subject.append([commit(`a-${n}`, 0, [event("Booked", tagsOf(n))])]));
    await Promise.all(appends);
    const log = await subject.log();
    const found = {};
    const filters = { all: {}, rare: { tags: ["rare"] }, both: { tags: ["every:1", "rare"] }, none: { aggregateTypes: ["None"] } };
    for (const [what, filter] of Object.entries(filters)) {
      const isWanted = ({ tags }) => filter.tags?.some((tag) => JSON.parse(tags).includes(tag)) ?? what === "all";
      const wanted = log.filter(isWanted);
      for (const descending of [false, true]) {
        const events = await subject.log({ ...filter, descending, limit: 1000 });
        const expected = descending ? wanted.reverse() : wanted;
        found[`${what} ${descending}`] = JSON.stringify(events) === JSON.stringify(expected) ? events.length : "others";
      }
    }
    const back = { aggregateTypes: ["None"], descending: true, after: Number.MAX_SAFE_INTEGER };
    const first = await subject.page(back);
    return { found, first: first.next, second: (await subject.page({ ...back, after: first.next })).next };
  });
  assert.deepEqual(pages.found, {
    "all false": 1500, "all true": 1500, "rare false": 4, "rare true": 4,
    "both false": 750, "both true": 750, "none false": 0, "none true": 0,
  });
  assert.ok(pages.first > 1 && pages.first < 1500, `a page ends before the beginning: ${pages.first}`);
  assert.equal(pages.second, 0);
});

test("IndexedDB: many streams that are loaded at once are what they are one by one, whoever has appended", async () => {
  const found = await page.evaluate(async () => {
    const { randomNumbers } = await import("/support/random.mjs");
    const random = randomNumbers(7);
    const pick = (list) => list[random(list.length)];
    // The directory has the same number for the first two.
    const ids = ["s-49124", "s-537320", ...Array.from({ length: 58 }, (_, n) => `a-${n}`)];
    const revisions = new Map();
    const start = Date.parse("2026-11-23T08:00:00.000Z");
    let clock = start;
    const write = async (subject) => {
      subject.now = clock += 1000;
      for (let appends = random(8); appends >= 0; appends -= 1) {
        const commits = Array.from({ length: 1 + random(4) * random(15) }, () => {
          const id = pick(ids);
          const before = revisions.get(id) ?? 0;
          const events = Array.from({ length: 1 + random(2) }, () => event("Noted", [], { data: `"${random(1e6)} ${pick(["", "é", "🩺"])}"` }));
          revisions.set(id, before + events.length);
          return commit(id, before, events);
        });
        await subject.accept(...commits);
      }
    };
    const loadOf = (aggregateId) => {
      const revision = revisions.get(aggregateId) ?? 0;
      return {
        aggregateType: "Appointment",
        aggregateId,
        after: pick([0, 0, random(revision + 1), revision]),
        snapshot: null,
        untilRevision: pick([null, null, random(revision + 2)]),
        untilPosition: pick([null, null, random(100)]),
        untilTime: pick([null, null, new Date(start + random(9000)).toISOString()]),
        limit: pick([1, 3, 400]),
        whole: random(2) === 0,
      };
    };
    const name = newName();
    const reader = indexedDbStorage({ name });
    const found = { differ: [], lookedUp: 0, sameNumber: 0 };
    const { getAllKeys } = IDBIndex.prototype;
    for (let life = 0; life < 2; life += 1) {
      const readers = [await Subject.open(reader), await Subject.open(indexedDbStorage({ name }))];
      const other = await Subject.open(indexedDbStorage({ name }));
      for (let round = 0; round < 4 + 8 * life; round += 1) {
        // The second life is longer than the first when it is looked at.
        for (let writes = round === 0 ? 12 * life : 0; writes >= 0; writes -= 1) await write(pick([readers[0], other]));
        const streams = Array.from({ length: 16 + random(60) }, () => loadOf(pick(ids)));
        IDBIndex.prototype.getAllKeys = function (...args) {
          found.lookedUp += 1;
          return getAllKeys.apply(this, args);
        };
        const together = await readers[0].load({ streams });
        IDBIndex.prototype.getAllKeys = getAllKeys;
        for (const [index, load] of streams.entries()) {
          const [alone] = (await readers[1].load({ streams: [load] })).streams;
          if (JSON.stringify(alone) !== JSON.stringify(together.streams[index])) found.differ.push([load, alone, together.streams[index]]);
        }
      }
      const { directory } = await contentsOf(name);
      const numbers = new Set(directory[2].flatMap(({ streams }) => streams));
      found.sameNumber += revisions.size - numbers.size;
      // The next life of the store has the same name, and another log.
      for (const subject of [...readers, other]) await subject.storage.close();
      await deleteDatabase(name);
      revisions.clear();
    }
    return found;
  });
  assert.deepEqual(found, { differ: [], lookedUp: 0, sameNumber: 2 });
});

test("IndexedDB: few streams of a long log are looked up", async () => {
  const found = await page.evaluate(async () => {
    const subject = await Subject.open(indexedDbStorage({ name: newName() }));
    const appends = Array.from({ length: 200 }, (_, n) => subject.append([commit(`a-${n}`, 0, [event(), event()])]));
    await Promise.all(appends);
    const { getAll } = IDBObjectStore.prototype;
    const read = [];
    IDBObjectStore.prototype.getAll = function (...args) {
      read.push(this.name);
      return getAll.apply(this, args);
    };
    const loads = async (count) => {
      const load = (n) => ({ aggregateType: "Appointment", aggregateId: `a-${n * 7}`, after: 1, snapshot: null, untilRevision: null, untilPosition: null, untilTime: null, limit: 9, whole: true });
      const { streams } = await subject.load({ streams: Array.from({ length: count }, (_, n) => load(n)) });
      return [read.splice(0), new Set(streams.map(({ events, revision }) => `${events.length} of ${revision}`))].flatMap((all) => [...all]);
    };
    try {
      return [await loads(16), await loads(25), await loads(16)];
    } finally {
      IDBObjectStore.prototype.getAll = getAll;
    }
  });
  // 25 streams are worth looking through 200 records, which are known then.
  assert.deepEqual(found, [["1 of 2"], ["directory", "1 of 2"], ["1 of 2"]]);
});

test("IndexedDB: a directory that lacks a record is not believed", async () => {
  const found = await page.evaluate(async () => {
    const name = newName();
    const subject = await Subject.open(indexedDbStorage({ name }));
    for (const revision of [0, 1]) await subject.accept(...Array.from({ length: 20 }, (_, n) => commit(`a-${n}`, revision, [event()])));
    const database = await asked(indexedDB.open(name));
    await asked(database.transaction("directory", "readwrite").objectStore("directory").delete(40));
    database.close();
    const load = (n) => ({ aggregateType: "Appointment", aggregateId: `a-${n}`, after: 0, snapshot: null, untilRevision: null, untilPosition: null, untilTime: null, limit: 9, whole: true });
    const { streams } = await subject.load({ streams: Array.from({ length: 20 }, (_, n) => load(n)) });
    return [...new Set(streams.map(({ events, revision }) => `${events.length} of ${revision}`))];
  });
  assert.deepEqual(found, ["2 of 2"]);
});

test("IndexedDB: conditions hold however much was appended since", async () => {
  const found = await page.evaluate(async () => {
    const subject = await Subject.open(indexedDbStorage({ name: newName() }));
    const filler = (count) => Array.from({ length: count }, () => event());
    const marked = (tag) => event("AppointmentBooked", [tag]);
    await subject.accept(commit("a-1", 0, [...filler(99), marked("x"), ...filler(1400)]));
    await subject.accept(commit("a-1", 1500, [...filler(1499), marked("x"), ...filler(100)]));
    const conditions = [0, 99, 100, 1500, 2000, 2999, 3000, 3100, 5000].map((after) =>
      commit("b-1", 0, [event()], { condition: { query: [{ types: [], tags: ["x"] }], after, neighbours: [] } }),
    );
    return (await subject.facts(...conditions)).commits.map(({ matched }) => matched);
  });
  assert.deepEqual(found, [100, 100, 3000, 3000, 3000, 3000, null, null, null]);
});

for (const [what, version, stores] of [
  ["of a newer format", 4, ["meta", "appends", "commits", "directory", "documents"]],
  ["of somebody else", 1, ["todos"]],
  ["of somebody else with stores of the same names", 1, ["meta", "appends"]],
  ["of somebody else with documents too", 1, ["meta", "appends", "documents"]],
  ["of somebody else with the version of an older one", 2, ["meta", "appends", "documents"]],
  ["of somebody else with the version of ours", 3, ["meta", "appends", "documents"]],
]) {
  test(`IndexedDB: a database ${what} is refused and left as it was`, async () => {
    const found = await page.evaluate(
      async ([version, stores]) => {
        const name = newName();
        (await openDatabase(name, version, stores)).close();
        const { code, retryable } = await failureOf(() => indexedDbStorage({ name }).open());
        const { version: left } = (await indexedDB.databases()).find(
          (database) => database.name === name,
        );
        const database = await openDatabase(name, left, []);
        const names = [...database.objectStoreNames];
        database.close();
        return { code, retryable, left, names };
      },
      [version, stores],
    );
    assert.deepEqual(found, {
      code: "unknown-format",
      retryable: false,
      left: version,
      names: stores.toSorted(),
    });
  });
}

test("IndexedDB: a store of format 1 is read while another tab has it open, and is of the newest format then", async () => {
  const version = await page.evaluate(async () => {
    const name = newName();
    const { checkFormatOne } = await import("/support/format-one.mjs");
    const other = await makeOlder(1, name);
    // As the adapter of that release does.
    other.onversionchange = () => other.close();
    const tabs = [indexedDbStorage({ name }), indexedDbStorage({ name })];
    for (const tab of tabs) await checkFormatOne(await Subject.open(tab));
    const databases = await indexedDB.databases();
    return databases.find((database) => database.name === name).version;
  });
  assert.equal(version, 3);
});

test("IndexedDB: a store of format 2 becomes what this release would have written", async () => {
  const [found, written] = await page.evaluate(async () => {
    const [older, newest] = [newName(), newName()];
    for (const [format, name] of [[2, older], [3, newest]]) (await makeOlder(format, name)).close();
    const { epoch } = await indexedDbStorage({ name: older }).open();
    const { meta, ...stores } = await contentsOf(newest);
    meta[2][0].epoch = epoch;
    return [await contentsOf(older), { meta, ...stores }];
  });
  assert.deepEqual(found, written);
});

test("IndexedDB: an upgrade that another tab holds up is told, and goes on when that tab closes", async () => {
  const [holding, tab] = [await preparedPage(), await preparedPage()];
  const name = await tab.evaluate(() => newName());
  // It does not close when it is asked to, as one that is frozen.
  await holding.evaluate(async (name) => void (await makeOlder(1, name)), name);
  await tab.clock.install();
  await tab.evaluate(async (name) => {
    const { checkFormatOne } = await import("/support/format-one.mjs");
    const { Engine } = await import("annals");
    Object.assign(globalThis, { checkFormatOne, Engine });
    globalThis.opened = [];
    const { open } = IDBFactory.prototype;
    IDBFactory.prototype.open = function (...args) {
      const request = open.apply(this, args);
      request.addEventListener("success", () => opened.push(request.result));
      return request;
    };
    // The browser tells the first of them that it is held up, and the others nothing.
    globalThis.storages = [0, 1, 2].map(() => indexedDbStorage({ name }));
    const told = ({ code, retryable, mayBeApplied, message }) => ({ code, retryable, mayBeApplied, message });
    globalThis.told = Promise.all(storages.map((storage) => failureOf(() => storage.open()).then(told)));
  }, name);
  await tab.clock.runFor(5000);
  const busy = {
    code: "storage-busy",
    retryable: true,
    mayBeApplied: false,
    message: "another tab may have an older form of the store open",
  };
  assert.deepEqual(await tab.evaluate(() => told), [busy, busy, busy]);

  // Engines try again, and say the same in the end.
  await tab.evaluate(() => {
    globalThis.ended = undefined;
    void codeOf(() => Engine.open({ storage: storages[1], aggregates: [] })).then((code) => (ended = code));
  });
  while ((await tab.evaluate(() => ended)) === undefined) await tab.clock.runFor(1000);
  assert.equal(await tab.evaluate(() => ended), "storage-busy");

  // One that is closed meanwhile does not wait, and lets go of what opens later. The others go on.
  await tab.evaluate(() => storages[1].close());
  const found = tab.evaluate(async () => {
    await checkFormatOne(await Subject.open(storages[0]));
    await storages[2].open();
    return opened.map((database) => {
      try {
        return database.transaction("meta").mode;
      } catch ({ name }) {
        return name;
      }
    });
  });
  await holding.close();
  assert.deepEqual(await found, ["readonly", "InvalidStateError", "readonly"]);
  await tab.close();
});

test("IndexedDB: it works without BroadcastChannel", async () => {
  const tab = await preparedPage();
  await tab.evaluate(async () => {
    delete globalThis.BroadcastChannel;
    await run("relaxed", "those who share the adapter are told of appends, until they stop listening");
  });
  await tab.close();
});

test("IndexedDB: without BroadcastChannel other tabs are heard of all the same, until nobody listens", async () => {
  const [tab, other] = [await preparedPage(), await preparedPage()];
  const name = await tab.evaluate(() => newName());
  await tab.evaluate(async (name) => {
    delete globalThis.BroadcastChannel;
    globalThis.transactions = 0;
    const { transaction } = IDBDatabase.prototype;
    IDBDatabase.prototype.transaction = function (...args) {
      transactions += 1;
      return transaction.apply(this, args);
    };
    const storage = indexedDbStorage({ name, pollInterval: 5 });
    await storage.open();
    globalThis.heard = [];
    globalThis.stop = storage.subscribe((position) => heard.push(position));
  }, name);
  await other.evaluate(async (name) => {
    delete globalThis.BroadcastChannel;
    const subject = await Subject.open(indexedDbStorage({ name }));
    await subject.accept(commit("a-1", 0, [event()]));
    await subject.accept(commit("a-1", 1, [event()]));
  }, name);
  await tab.waitForFunction(() => heard.at(-1) === 2);
  const looks = await tab.evaluate(async () => {
    stop();
    const frame = () => new Promise((resolve) => setTimeout(resolve, 20));
    // One that had begun.
    await frame();
    const before = transactions;
    for (let frames = 0; frames < 5; frames += 1) await frame();
    return transactions - before;
  });
  assert.equal(looks, 0);
  await Promise.all([tab.close(), other.close()]);
});

test("IndexedDB: the browser is asked once, at the first write, to keep the store", async () => {
  const tab = await preparedPage();
  const asked = await tab.evaluate(async () => {
    let asked = 0;
    StorageManager.prototype.persist = async () => (asked += 1) > 0;
    const seen = [];
    for (const config of [{}, { persist: false }]) {
      const storage = indexedDbStorage({ name: newName(), ...config });
      const subject = await Subject.open(storage);
      await subject.log();
      seen.push(asked);
      for (let revision = 0; revision < 3; revision += 1) await subject.accept(commit("a-1", revision, [event()]));
      seen.push(asked);
    }
    return seen;
  });
  assert.deepEqual(asked, [0, 1, 1, 1]);
  await tab.close();
});

test("IndexedDB: a store says whether the browser may clear it", async () => {
  const tab = await preparedPage();
  const told = await tab.evaluate(async () => {
    const told = [await indexedDbStorage({ name: newName() }).persistence()];
    StorageManager.prototype.persisted = async () => true;
    told.push(await indexedDbStorage({ name: newName() }).persistence());
    delete StorageManager.prototype.persisted;
    told.push(await indexedDbStorage({ name: newName() }).persistence());
    return told;
  });
  assert.deepEqual(told, ["best-effort", "persisted", "unknown"]);
  await tab.close();
});

test("IndexedDB: where the browser forbids it, as in a frame without an origin, that is told", async () => {
  const tab = await preparedPage();
  const failure = await tab.evaluate(async () => {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>
      try { indexedDB.open("x"); } catch (error) { parent.postMessage([error.name, error.message], "*"); }
    </script>`;
    const told = new Promise((resolve) => addEventListener("message", ({ data }) => resolve(data), { once: true }));
    document.body.append(frame);
    const [name, message] = await told;
    // What the browser says there, said here: the frame can't load the package.
    const forbidden = { open() { throw new DOMException(message, name); } };
    const storage = indexedDbStorage({ name: newName(), indexedDB: forbidden });
    return storage.open().catch(({ code, retryable, cause }) => ({ code, retryable, cause: cause.name }));
  });
  assert.deepEqual(failure, { code: "storage-failed", retryable: false, cause: "SecurityError" });
  await tab.close();
});

test("IndexedDB: a host without it says so", async () => {
  const { indexedDbStorage } = await import("annals/indexeddb");
  assert.throws(() => indexedDbStorage({ name: "here" }), { code: "storage-failed" });
});

/** A page with what the tests use in it as globals. */
async function preparedPage({ quota, ...options } = {}) {
  const page = await browser.page(options);
  await page.exposeFunction("askAnotherPage", async (name, durability, job) => {
    const other = await preparedPage();
    try {
      return await other.evaluate(
        ([config, job]) => perform(indexedDbStorage(config), job),
        [{ name, durability }, job],
      );
    } finally {
      await other.close();
    }
  });
  const setQuota = (quotaSize) => storage(page, "overrideQuotaForOrigin", { quotaSize });
  await page.exposeFunction("setQuota", setQuota);
  if (quota !== undefined) await setQuota(quota);
  await page.evaluate(async () => {
    const { indexedDbStorage } = await import("annals/indexeddb");
    const suite = await import("annals/testing/conformance");
    const { until } = await import("/support/expect.mjs");
    const enrolment = await import("/support/indexeddb-conformance.mjs");
    Object.assign(globalThis, suite, enrolment, {
      indexedDbStorage,
      until,
      run: (durability, asked) => enrolment.testsOf(durability).find(({ rule }) => rule === asked).run(),
      openDatabase(name, version, stores) {
        const request = indexedDB.open(name, version);
        request.onupgradeneeded = () =>
          stores.forEach((store) => request.result.createObjectStore(store));
        return enrolment.asked(request);
      },
      async failureOf(action) {
        try {
          await action();
        } catch (error) {
          return error;
        }
        throw new Error("expected a failure");
      },
      codeOf: async (action) => (await failureOf(action)).code,
    });
  });
  return page;
}

/** The browser's own hand in what the page's origin stores. A quota lasts as long as the session. */
async function storage(page, method, options) {
  const session = await page.context().newCDPSession(page);
  await session.send(`Storage.${method}`, { origin: browser.origin, ...options });
}

/** Makes a store with one event, the page's `subject`. */
async function open(page, name) {
  await page.evaluate(async (name) => {
    while (globalThis.subject?.name !== name) {
      try {
        const subject = await Subject.open(indexedDbStorage({ name }));
        await subject.accept(commit("a-1", 0, [event()]));
        globalThis.subject = Object.assign(subject, { name });
      } catch (error) {
        // The browser may still be clearing what was there before.
        if (!error.retryable && error.code !== "foreign-epoch") throw error;
      }
    }
  }, name);
}
