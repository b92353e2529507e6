// verify: a sound store has no findings, and each rule that is broken is told with its place.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { PGlite } from "@electric-sql/pglite";
import { AnnalsError, Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { exportLog, importLog, verify } from "annals/operations";
import { postgresStorage } from "annals/postgres";
import { projection } from "annals/projections";
import { reaction } from "annals/reactions";
import { sqliteStorage } from "annals/sqlite";
import { commit, event, Subject } from "annals/testing/conformance";
import { onEachStore } from "../support/engine-stores.mjs";
import { archiveOf } from "../support/archives.mjs";
import { pool } from "../support/postgres.mjs";
import { newSchema } from "../support/postgres-stores.mjs";
import { drivers, isWanted, temporaryFolder } from "../support/sqlite-drivers.mjs";
import { until } from "../support/expect.mjs";

// Before any test, for the run is over when all that are known have ended.
const pglite = await PGlite.create();
after(() => pglite.close());

const visit = aggregate("Visit", {
  initial: () => ({ count: 0 }),
  decide: (_, { data: { events = 1, ...data } }) => Array.from({ length: events }, () => ({ type: "Booked", data })),
  evolve: { Booked: ({ count }) => ({ count: count + 1 }) },
  tags: ({ data }) => [`doctor:${data.doctor}`, "all"],
  snapshots: { version: 1, every: 2 },
});

const workload = projection("workload", {
  version: 3,
  kind: "inline",
  on: {
    Booked: (view, { data, stream }) =>
      view.update(`doctor-${data.doctor}`, ({ count, streams } = { count: 0, streams: [] }) => ({ count: count + 1, streams: [...new Set([...streams, stream.id])] })),
  },
  indexes: { count: ({ count }) => count, stream: ({ streams }) => streams },
});

/** A store with everything that a store may have: 3 doctors, 4 streams, commits of one to three events. */
async function live(storage) {
  const mail = reaction("mail", { startAt: "beginning", on: { Booked: () => undefined } });
  const engine = await Engine.open({ storage, aggregates: [visit], projections: [workload], reactions: [mail] });
  for (let index = 0; index < 12; index += 1) {
    await engine.execute(visit, `v-${index % 4}`, { type: "Book", data: { doctor: index % 3, events: 1 + (index % 3) } });
  }
  let read = 0;
  for await (const _ of engine.events({ name: "mails", startAt: "beginning" })) if (++read === 20) break;
  await until(async () => (await engine.reaction(mail).status()).behind === 0);
  await engine.snapshot(visit, "v-1");
  await engine.close();
}

const options = { projections: [workload] };

onEachStore("a store with everything that a store may have is sound", async (place) => {
  const storage = place.storage();
  await live(storage);
  const { epoch, head } = await storage.open();
  const seen = [];
  const result = await verify(storage, { ...options, onProgress: ({ done, total }) => seen.push([done, total]) });
  const { documents, findings, ...rest } = result;
  assert.deepEqual(findings, []);
  assert.deepEqual(rest, { epoch, head, events: 24, commits: 12, streams: 4, isSound: true, faults: 0 });
  assert.ok(documents >= 7, `${documents} documents`);
  assert.deepEqual(seen, [[24, 24]]);
});

test("an empty store is sound", async () => {
  const { isSound, head, events } = await verify(memoryStorage());
  assert.deepEqual([isSound, head, events], [true, 0, 0]);
});

// --- In a file, by SQL ---------------------------------------------------------------------------

const [, connect] = [...drivers][0];

const FREE = `
  DROP TRIGGER events_are_not_updated; DROP TRIGGER events_are_not_deleted;
  DROP TRIGGER commands_are_not_updated; DROP TRIGGER commands_are_not_deleted;`;

/** What is found in a store on which these statements have been executed: code, position, and the rest. */
async function broken(sql) {
  const folder = temporaryFolder();
  const database = connect(folder.file);
  try {
    const storage = sqliteStorage({ database });
    await live(storage);
    database.exec(FREE);
    for (const statement of [sql].flat()) database.exec(statement);
    const { isSound, findings, faults } = await verify(sqliteStorage({ database }), options);
    assert.equal(isSound, findings.every(({ isNote }) => isNote));
    assert.equal(faults, findings.filter(({ isNote }) => !isNote).length);
    return findings;
  } finally {
    database.close();
    folder.remove();
  }
}

const codes = (findings) => findings.map(({ code }) => code);

/** Of what is found these must be among it, and nothing but these and those that come with them. */
function breaks(name, sql, expected, alongside = []) {
  test(`found: ${name}`, async () => {
    const findings = await broken(sql);
    for (const wanted of expected) {
      const { code, message, ...place } = wanted;
      const found = findings.filter((finding) => finding.code === code);
      assert.ok(found.length > 0, `expected ${code}, found ${JSON.stringify(findings)}`);
      for (const [key, value] of Object.entries(place)) assert.deepEqual(found[0][key], value, JSON.stringify(found));
      if (message !== undefined) assert.match(found[0].message, message);
    }
    const allowed = new Set([...expected.map(({ code }) => code), ...alongside]);
    assert.deepEqual(findings.filter(({ code }) => !allowed.has(code)), []);
  });
}

const stream = (id) => ({ type: "Visit", id });

breaks("events that are missing", "DELETE FROM events WHERE position = 7", [
  { code: "gap", position: 8, message: /position 7 is missing/ },
  { code: "revision-order" },
], ["outcome-disagrees"]);
breaks("several events that are missing", "DELETE FROM events WHERE position BETWEEN 7 AND 12", [
  { code: "gap", position: 13, message: /positions 7 to 12 are missing/ },
], ["revision-order", "outcome-disagrees"]);
breaks("the last event that is missing", "DELETE FROM events WHERE position = 24", [
  { code: "outcome-disagrees", message: /remembers 3 events, the log has 2/ },
  { code: "view-ahead", message: /is at position 24, the log ends at 23/ },
  { code: "reaction-ahead", document: { collection: "reactions", key: "mail" } },
], ["snapshot-ahead", "subscription-ahead"]);
breaks("two events that have changed places", "UPDATE events SET revision = revision - 1000 WHERE aggregate_id = 'v-0' AND revision <= 2; UPDATE events SET revision = -997 - revision WHERE revision < 0", [
  { code: "revision-order", position: 1, stream: stream("v-0") },
], ["stream-disagrees", "outcome-disagrees", "snapshot-ahead"]);
breaks("a time that decreases", "UPDATE events SET recorded_at = '2020-01-01T00:00:00.000Z' WHERE position = 9", [
  { code: "time-decreases", position: 9, message: /recorded at 2020-01-01T00:00:00.000Z, after an event of 20/ },
  { code: "outcome-disagrees" },
]);
breaks("a time that is none", "UPDATE events SET issued_at = 'yesterday' WHERE position = 9", [
  { code: "unreadable-time", position: 9, message: /issuedAt: expected a time, found "yesterday"/ },
]);
breaks("data that are no JSON", `UPDATE events SET data = '{"doctor":' WHERE position = 5`, [
  { code: "unreadable-data", position: 5, message: /no JSON: "{\\"doctor\\":"/ },
]);
breaks("metadata that are no JSON", "UPDATE events SET metadata = 'hm' WHERE position = 5", [{ code: "unreadable-metadata", position: 5 }]);
for (const tags of ["no", "{}", "[1]", '"all"']) {
  breaks(`tags that are ${tags}`, `UPDATE events SET tags = '${tags}' WHERE position = 5`, [{ code: "unreadable-tags", position: 5 }], ["tag-surplus"]);
}
breaks("an event id that comes twice", "UPDATE events SET event_id = (SELECT event_id FROM events WHERE position = 3) WHERE position = 17", [
  { code: "double-event-id", position: 17, message: /is at position 3 already/ },
]);
breaks("a command id that comes twice", "UPDATE events SET command_id = (SELECT command_id FROM events WHERE position = 1) WHERE position = 7", [
  { code: "double-command-id", position: 7, message: /is at position 1 already/ },
  { code: "outcome-disagrees", position: 7 },
]);
breaks("a command that is not remembered", "DELETE FROM commands WHERE position = 7", [
  { code: "outcome-disagrees", position: 7, message: /remembers nothing of its command/ },
]);
for (const [column, value] of [["position", 8], ["revision", 9], ["count", 5], ["aggregate_id", "'v-9'"], ["aggregate_type", "'Other'"], ["recorded_at", "'2020-01-01T00:00:00.000Z'"]]) {
  breaks(`a first outcome with another ${column}`, `UPDATE commands SET ${column} = ${value} WHERE position = 7`, [{ code: "outcome-disagrees", position: 7 }]);
}
breaks("an event of another stream", "UPDATE events SET aggregate_id = 'v-9' WHERE position = 6", [
  { code: "revision-order", position: 6, stream: stream("v-9") },
], ["outcome-disagrees", "snapshot-ahead"]);
breaks("a tag that is not found", "DELETE FROM event_tags WHERE position = 9 AND tag = 'all'", [
  { code: "tag-missing", position: 9, message: /"all"/ },
]);
breaks("tags that are never found", "DELETE FROM event_tags WHERE tag = 'doctor:1'", [{ code: "tag-missing", position: 2, message: /"doctor:1"/ }]);
breaks("a tag that finds others", "INSERT INTO event_tags (tag, position) VALUES ('doctor:0', 9), ('doctor:1', 1)", [
  { code: "tag-surplus", position: 1, message: /"doctor:1"/ },
]);
breaks("a view beyond the log", "UPDATE documents SET revision = 99 WHERE collection = 'checkpoints'", [
  { code: "view-ahead", message: /view workload, version 3 is at position 99, the log ends at 24/ },
]);
breaks("a view's document beyond its checkpoint", "UPDATE documents SET revision = 25 WHERE collection = 'view/3/workload' AND key = 'doctor-1'", [
  { code: "view-ahead", message: /document doctor-1 is of position 25, the checkpoint of 24/, document: { collection: "view/3/workload", key: "doctor-1" } },
]);
breaks("a view behind the log, which is no fault", ["UPDATE documents SET revision = 20 WHERE collection IN ('checkpoints', 'view/3/workload')"], [
  { code: "view-behind", isNote: true, message: /is at position 20, the log ends at 24/ },
]);
breaks("a view's document that is no JSON", "UPDATE documents SET value = '{' WHERE collection = 'view/3/workload' AND key = 'doctor-1'", [
  { code: "unreadable-document", document: { collection: "view/3/workload", key: "doctor-1" } },
], ["index-disagrees"]);
breaks("a checkpoint that is none", "UPDATE documents SET key = 'hm' WHERE collection = 'checkpoints'", [{ code: "unreadable-document" }]);
breaks("a document that is missing in an index", "DELETE FROM document_postings WHERE key = 'doctor-1' AND index_name = 'count'", [
  { code: "index-disagrees", message: /index count has 2 entries, the documents ask for 3/ },
]);
breaks("a document that is in an index under what it is not", "UPDATE document_postings SET value = 's!' WHERE key = 'doctor-1' AND value = 'sv-1'", [
  { code: "index-disagrees", message: /index stream has document doctor-1 under "s!"/ },
]);
breaks("a document that has changed beside its index", `UPDATE documents SET value = '{"count":77,"streams":[]}' WHERE key = 'doctor-1'`, [{ code: "index-disagrees" }]);
breaks("a reaction beyond the log", `UPDATE documents SET value = '["","25"]' WHERE collection = 'reactions'`, [
  { code: "reaction-ahead", message: /reaction mail is at position 25, the log ends at 24/ },
]);
breaks("a lane of a reaction beyond the log", `UPDATE documents SET value = '["","24","[]","26","1","","no route"]' WHERE collection = 'reactions'`, [
  { code: "reaction-ahead", message: /position 26/ },
]);
for (const value of ["hm", "{}", "[]", '["",""]', '["","1","lane"]']) {
  breaks(`a reaction's progress that is ${value}`, `UPDATE documents SET value = '${value}' WHERE collection = 'reactions'`, [{ code: "unreadable-document", document: { collection: "reactions", key: "mail" } }]);
}
breaks("a named reader beyond the log", "UPDATE documents SET revision = 26 WHERE collection = 'subscriptions'", [
  { code: "subscription-ahead", message: /subscription mails is at position 25, the log ends at 24/ },
]);
breaks("a snapshot beyond its stream", "UPDATE documents SET revision = 7 WHERE collection = 'snapshots' AND key LIKE '%v-1%'", [
  { code: "snapshot-ahead", message: /a snapshot of revision 7, the stream has 6 events/ },
]);
breaks("a snapshot that is none", "UPDATE documents SET value = '{' WHERE collection = 'snapshots' AND key LIKE '%v-1%'", [{ code: "unreadable-document" }]);
breaks("a snapshot that is another stream's", "UPDATE documents SET value = (SELECT value FROM documents WHERE collection = 'snapshots' AND key LIKE '%v-2%') WHERE collection = 'snapshots' AND key LIKE '%v-1%'", [
  { code: "unreadable-document", message: /expected a snapshot, found "\[.*v-1.*digest/ },
]);
breaks("of other releases' snapshots only those that are no JSON", "INSERT INTO documents VALUES ('snapshots', '[\"Visit\",\"v-1\",\"json/3\"]', 1, NULL, '{}'), ('snapshots', '[\"Visit\",\"v-2\",\"json/3\"]', 1, NULL, '{')", [
  { code: "unreadable-document", document: { collection: "snapshots", key: '["Visit","v-2","json/3"]' } },
]);
breaks("an import that has not ended", `INSERT INTO documents VALUES ('imports', 'log', 1, NULL, '["importing"]')`, [{ code: "import-unfinished" }]);

// --- In stores that answer what no such file can --------------------------------------------------

/** A store whose answers are changed on the way. */
function changed(storage, changes) {
  const names = ["open", "append", "load", "readLog", "saveDocuments", "readDocuments", "close"];
  const methods = names.map((name) => [name, async (request, ...rest) => {
    const answer = await storage[name](request, ...rest);
    return changes[name] === undefined ? answer : changes[name](answer, request);
  }]);
  return Object.fromEntries(methods);
}

test("found: a stream of which the store knows more, or less, than the log has", async () => {
  const storage = memoryStorage();
  await live(storage);
  const said = (by) => ({ load: (loaded) => ({ ...loaded, streams: loaded.streams.map((slice) => ({ ...slice, revision: slice.revision + by })) }) });
  for (const by of [1, -1]) {
    const { findings } = await verify(changed(storage, said(by)));
    assert.equal(findings.filter(({ code }) => code === "stream-disagrees").length, 4);
  }
});

test("found: a stream with another event than the log", async () => {
  const storage = memoryStorage();
  await live(storage);
  const load = (loaded) => ({ ...loaded, streams: loaded.streams.map((slice) => ({ ...slice, events: slice.events.map((event) => ({ ...event, eventId: "x" })) })) });
  const { findings } = await verify(changed(storage, { load }));
  assert.deepEqual(new Set(codes(findings)), new Set(["stream-disagrees"]));
  assert.match(findings[0].message, /another event with revision 1/);
});

test("found: a log that does not go on before its end, and is neither read for ever nor exported", { timeout: 30_000 }, async () => {
  const storage = memoryStorage();
  await live(storage);
  const stuck = changed(storage, { readLog: (page, { tags }) => (tags.length > 0 ? page : { ...page, head: 99 }) });
  const { isSound, findings } = await verify(stuck);
  assert.equal(isSound, false);
  assert.deepEqual(findings.filter(({ isNote }) => !isNote).map(({ code, message }) => [code, message]), [
    ["head-disagrees", "the log does not go on after position 24, and the store says that it ends at 99"],
  ]);
  // Events after it: what is beyond is not taken for seen.
  const halfway = changed(storage, { readLog: (page, { after, limit }) => (limit === 1 || after > 12 ? page : { ...page, events: page.events.filter(({ position }) => position <= 12), next: 12 }) });
  assert.deepEqual(codes((await verify(halfway)).findings).filter((code) => code === "head-disagrees"), ["head-disagrees"]);
  const exported = async () => {
    for await (const _ of exportLog({ ...stuck, open: async () => ({ ...(await storage.open()), head: 99 }) }));
  };
  await assert.rejects(exported(), (error) => AnnalsError.is(error, "damaged-store") && error.details.damage === "head-disagrees" && error.details.position === 24);
});

test("found: a position that comes twice", async () => {
  const storage = memoryStorage();
  await live(storage);
  const readLog = (page, { tags }) => (tags.length > 0 ? page : { ...page, events: page.events.map((event) => (event.position === 8 ? { ...event, position: 7 } : event)) });
  const { findings } = await verify(changed(storage, { readLog }));
  assert.deepEqual(findings.filter(({ code }) => code === "position-order").map(({ position, message }) => [position, message]), [[7, "position 7 comes after 7"]]);
});

test("a view that goes on whenever it is compared with its indexes is told, and is no fault", async () => {
  const storage = memoryStorage();
  await live(storage);
  let revision = 100;
  const readDocuments = (read, { names }) => (names[0]?.collection === "checkpoints" ? { ...read, documents: [{ ...read.documents[0], revision: revision++ }] } : read);
  const { isSound, findings } = await verify(changed(storage, { readDocuments }), options);
  assert.deepEqual([isSound, codes(findings)], [true, ["view-busy"]]);
});

// --- In PostgreSQL -------------------------------------------------------------------------------

for (const [name, database] of [["PostgreSQL", pool], ["PGlite", pglite]]) {
  for (const [head, events, told] of [
    [9, 3, /ends at position 9, and it has events up to 3$/],
    [2, 3, /ends at position 2, and it has events up to 3$/],
    [0, 3, /ends at position 0, and it has events up to 3$/],
    [300, 700, /ends at position 300, and it has events up to 700$/],
    [4, 0, /ends at position 4, and it has no event$/],
  ]) {
    test(`found in ${name}: ${events} events of which the store says that they end at ${head}`, { timeout: 60_000 }, async () => {
      const schema = newSchema();
      try {
        const storage = postgresStorage({ database, schema });
        const subject = await Subject.open(storage);
        for (let start = 0; start < events; start += 100) {
          const size = Math.min(100, events - start);
          await subject.accept(...Array.from({ length: size }, (_, index) => commit(`a-${start + index}`, 0, [event("Booked", ["all", `nth:${start + index}`])])));
        }
        assert.ok((await verify(storage)).isSound);
        await database.query(`UPDATE "${schema}".store SET head = ${head}`);
        const { isSound, findings } = await verify(postgresStorage({ database, schema }));
        assert.equal(isSound, false);
        assert.deepEqual(codes(findings), ["head-disagrees"]);
        assert.match(findings[0].message, told);
        await assert.rejects(archiveOf(storage), (error) => AnnalsError.is(error, "damaged-store") && error.details.damage === "head-disagrees");
      } finally {
        await database.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
      }
    });
  }
}

// --- Long stores ---------------------------------------------------------------------------------

setFlagsFromString("--expose-gc");
const collect = globalThis.Bun === undefined ? runInNewContext("gc") : () => Bun.gc(true);

/** What is in use of the heap, in bytes, but for garbage. */
function heapUsed() {
  collect();
  return process.memoryUsage().heapUsed;
}

/** Looks from here on how far the heap grows, each twentieth time that it is called; `most` is in bytes. */
function watchHeap() {
  const before = heapUsed();
  let calls = 0;
  const look = () => {
    if (++calls % 20 === 0) look.most = Math.max(look.most, heapUsed() - before);
  };
  look.most = -Infinity;
  return look;
}

/** It has been looked at, and so much is little. */
const assertLittle = (bytes) => assert.ok(Number.isFinite(bytes) && bytes < 32 * 1024 * 1024, `${bytes} bytes`);

test("a store of 100,000 events is read in pages, with little in memory, and can be given up", { timeout: 240_000, skip: !isWanted("memory") }, async () => {
  const storage = memoryStorage();
  const subject = await Subject.open(storage);
  const size = 100_000;
  for (let start = 0; start < size; start += 1_000) {
    const commits = Array.from({ length: 1_000 }, (_, index) => {
      const number = start + index;
      return commit(`a-${number % 20_000}`, Math.floor(number / 20_000), [event("Booked", [`day:${number % 7_000}`, `once:${number}`])]);
    });
    await subject.accept(...commits);
  }
  let most = 0;
  const counted = changed(storage, { readLog: (page) => ((most = Math.max(most, page.events.length)), page) });
  const progress = [];
  const verifying = watchHeap();
  const onProgress = ({ done, total }) => {
    progress.push(done / total);
    verifying();
  };
  const { isSound, events, streams, findings } = await verify(counted, { onProgress });
  assert.deepEqual([isSound, events, streams], [true, size, 20_000], JSON.stringify(findings.slice(0, 3)));
  assert.ok(most <= 500, `${most} events at once`);
  assert.ok(progress.length >= 200 && progress.at(-1) === 1 && progress.every((part, index) => index === 0 || part >= progress[index - 1]));
  assertLittle(verifying.most);

  // And so are archives of it, as they are made and as they are read.
  let [longest, bytes] = [0, 0];
  const target = memoryStorage();
  const { epoch } = await target.open();
  const nowhere = { ...changed(target, {}), open: async () => ({ epoch, head, durability: "memory" }), load: async ({ commands }) => ({ commands: commands.map(() => null), streams: [], queries: [], head }) };
  let head = 0;
  const revisions = new Map();
  nowhere.append = async ({ commits }, judge) => {
    const facts = commits.map(({ aggregateId }) => ({ revision: revisions.get(aggregateId) ?? 0, first: null, matched: null }));
    const verdicts = judge({ head, lastRecordedAt: 0, commits: facts });
    verdicts.forEach(({ revision }, index) => revisions.set(commits[index].aggregateId, revision));
    head += commits.length;
    return verdicts;
  };
  const archiving = watchHeap();
  async function* watched() {
    for await (const bytesOfPart of exportLog(storage)) {
      longest = Math.max(longest, bytesOfPart.length);
      bytes += bytesOfPart.length;
      archiving();
      yield bytesOfPart;
    }
  }
  const imported = await importLog(nowhere, watched());
  assert.deepEqual([imported.events, imported.isWhole, head], [size, true, size]);
  assert.ok(longest < bytes / 100, `${longest} of ${bytes} bytes at once`);
  assertLittle(archiving.most);

  const stop = new AbortController();
  let pages = 0;
  const reason = new Error("enough");
  const giveUp = verify(storage, { signal: stop.signal, onProgress: () => ++pages === 3 && stop.abort(reason) });
  await assert.rejects(giveUp, (error) => AnnalsError.is(error, "cancelled") && error.cause === reason);
  assert.equal(pages, 3);
});

test("others may append while a store is read", async () => {
  const storage = memoryStorage();
  const subject = await Subject.open(storage);
  let number = 0;
  const more = async () => {
    const commits = Array.from({ length: 30 }, () => {
      const at = number++;
      return commit(`a-${at % 50}`, Math.floor(at / 50), [event("Booked", [`day:${at % 90}`, "all"])]);
    });
    await subject.accept(...commits);
  };
  for (let times = 0; times < 100; times += 1) await more();
  let pages = 0;
  const busy = { ...changed(storage, {}), readLog: async (request) => {
    if (++pages < 300) await more();
    return storage.readLog(request);
  } };
  const { isSound, findings, events } = await verify(busy);
  assert.ok(isSound, JSON.stringify(findings.slice(0, 3)));
  assert.ok(events > 3_000 && pages > 300);
});

test("most findings are counted and not listed", async () => {
  const storage = memoryStorage();
  const subject = await Subject.open(storage);
  for (let index = 0; index < 50; index += 1) await subject.accept(commit(`a-${index}`, 0, [event("Booked", [], { data: "{" })]));
  const { findings, faults } = await verify(storage, { limit: 10 });
  assert.deepEqual([findings.length, faults], [10, 50]);
});
