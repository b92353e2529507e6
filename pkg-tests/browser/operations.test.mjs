// Archives and verify in a page, on IndexedDB: as streams, as a file that is downloaded and chosen again.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memoryStorage } from "annals/memory";
import { importLog, verify } from "annals/operations";
import { contentOf } from "../support/archives.mjs";
import { startBrowser } from "../support/page.mjs";

let browser;
let page;

before(async () => {
  browser = await startBrowser();
  page = await browser.page();
  await page.evaluate(async () => {
    const { Engine, aggregate } = await import("annals");
    const { indexedDbStorage } = await import("annals/indexeddb");
    const operations = await import("annals/operations");
    const visit = aggregate("Visit", {
      initial: () => 0,
      decide: (_, { data: { events, ...data } }) => Array.from({ length: events }, () => ({ type: "Booked", data })),
      evolve: { Booked: (count) => count + 1 },
      tags: ({ data }) => [`doctor:${data.doctor}`, "all"],
    });
    Object.assign(globalThis, operations, { visit, indexedDbStorage });
    /** A store of that many commands, most of them given at once. */
    globalThis.filled = async (name, count) => {
      const storage = indexedDbStorage({ name });
      const engine = await Engine.open({ storage, aggregates: [visit] });
      const book = (index) => engine.execute(visit, `v-${index % 60}`, { type: "Book", data: { events: 1 + (index % 3), doctor: index % 5, text: "Grüße 🩺\u2028" } });
      for (let start = 0; start < count; start += 300) {
        await Promise.all(Array.from({ length: Math.min(300, count - start) }, (_, index) => book(start + index)));
      }
      return { storage, engine };
    };
    globalThis.partsOf = async (work) => {
      const parts = [];
      for await (const part of work) parts.push(part);
      return parts;
    };
  });
});
after(() => browser?.close());

test("an archive of a page's store is a file that comes back in another store, byte for byte", async () => {
  const { text, again, isSound, findings, imported, events } = await page.evaluate(async () => {
    const { storage } = await filled("source", 900);
    const file = new File(await partsOf(exportLog(storage)), "clinic.jsonl");
    const target = indexedDbStorage({ name: "target" });
    const imported = await importLog(target, file.stream());
    const { isSound, findings, events } = await verify(target);
    const again = await new Blob(await partsOf(exportLog(target))).text();
    return { text: await file.text(), again, isSound, findings, imported, events };
  });
  assert.ok(isSound, JSON.stringify(findings));
  assert.deepEqual([imported.commits, imported.events, events], [900, 1_800, 1_800]);
  assert.deepEqual(contentOf(again), contentOf(text));
  // What is exported in a page is imported on a server.
  const storage = memoryStorage();
  assert.equal((await importLog(storage, text)).events, 1_800);
  assert.ok((await verify(storage)).isSound);
});

test("an import that is given up in a page goes on, and what it was given changed is refused", async () => {
  const found = await page.evaluate(async () => {
    const { storage } = await filled("long", 1_500);
    const archive = new Blob(await partsOf(exportLog(storage)));
    const target = indexedDbStorage({ name: "goes-on" });
    const stop = new AbortController();
    const onProgress = ({ done }) => done > 1_000 && stop.abort();
    const givenUp = await importLog(target, archive.stream(), { signal: stop.signal, onProgress }).catch(({ code, details }) => ({ code, ...details }));
    const unfinished = (await verify(target)).findings.map(({ code }) => code);
    const rest = await importLog(target, archive.stream());
    const text = await archive.text();
    const elsewhere = indexedDbStorage({ name: "changed" });
    const changed = await importLog(elsewhere, text.replace('"doctor":1', '"doctor":2')).catch(({ code, details }) => [code, details.problem]);
    const collides = await importLog(indexedDbStorage({ name: "long" }), text).then(({ known }) => known);
    return { givenUp, unfinished, rest, changed, collides, head: (await elsewhere.open()).head, sound: (await verify(target)).isSound };
  });
  assert.equal(found.givenUp.code, "cancelled");
  assert.ok(found.givenUp.imported.events > 1_000 && found.givenUp.imported.events < 3_000);
  assert.deepEqual(found.unfinished, ["import-unfinished"]);
  assert.equal(found.rest.known, found.givenUp.imported.events);
  assert.equal(found.rest.known + found.rest.events, 3_000);
  assert.deepEqual([found.changed, found.head], [["unreadable-archive", "changed"], 0]);
  assert.deepEqual([found.collides, found.sound], [3_000, true]);
});

test("found in IndexedDB: a head that is not where the log ends", async () => {
  const found = await page.evaluate(async () => {
    const { engine } = await filled("heads", 3);
    await engine.close();
    const database = await new Promise((resolve, reject) => {
      const request = indexedDB.open("heads");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const tell = async (head) => {
      const transaction = database.transaction("meta", "readwrite");
      const meta = transaction.objectStore("meta");
      const state = await new Promise((resolve) => (meta.get("store").onsuccess = ({ target }) => resolve(target.result)));
      meta.put({ ...state, head }, "store");
      await new Promise((resolve) => (transaction.oncomplete = resolve));
      const { isSound, findings } = await verify(indexedDbStorage({ name: "heads" }));
      return [isSound, ...findings.map(({ code, message }) => `${code}: ${message}`)];
    };
    const told = [await tell(9), await tell(4), await tell(6)];
    database.close();
    return told;
  });
  assert.deepEqual(found, [
    [false, "head-disagrees: the store says that its log ends at position 9, and it has events up to 6"],
    [false, "head-disagrees: the store says that its log ends at position 4, and it has events up to 6"],
    [true],
  ]);
});

test("found in IndexedDB: records of other events than their indexes say", async () => {
  const findings = await page.evaluate(async () => {
    const { engine } = await filled("broken", 40);
    await engine.close();
    const database = await new Promise((resolve, reject) => {
      const request = indexedDB.open("broken");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const transaction = database.transaction(["appends", "commits"], "readwrite");
    const change = (name, change) => {
      const store = transaction.objectStore(name);
      store.getAll().onsuccess = ({ target }) => store.put(change(target.result.at(-1)));
    };
    change("commits", (record) => ({ ...record, tags: record.tags.filter(([tag]) => tag !== "all") }));
    change("appends", (record) => ({ ...record, data: record.data.replace('"text"', '"text,') }));
    await new Promise((resolve) => (transaction.oncomplete = resolve));
    database.close();
    return (await verify(indexedDbStorage({ name: "broken" }))).findings;
  });
  const codes = new Set(findings.map(({ code }) => code));
  assert.deepEqual(codes, new Set(["unreadable-data", "tag-missing"]), JSON.stringify(findings.slice(0, 4)));
});
