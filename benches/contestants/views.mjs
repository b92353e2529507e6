// Views: the clinic's agenda made of a log that is there, and kept with every command.

import path from "node:path";
import { memoryStorage } from "annals/memory";
import { nativeProjection } from "annals/projections";
import { importTypeScript } from "../../pkg-tests/support/typescript.mjs";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, foldsOf, idOf } from "../workload.mjs";
import { clinics, evolve, toCommands } from "./clinic-node.mjs";
import { connect, newFile, openClinic, raw, seeded } from "./sqlite-stores.mjs";

const { agenda } = await importTypeScript(new URL("../../pkg-tests/clinic/agenda.ts", import.meta.url));
const agendas = { ts: agenda, rust: nativeProjection("agenda") };

/** Where its documents are. */
const collection = "view/1/agenda";

/** What the agenda has of a stream after these events. */
const entryOf = ({ revision, state: { status, ...booking } }) => ({ revision, state: { status, booking } });

const expectedOf = (events) => digestOf(foldsOf(evolve, events).map(entryOf));

/** The digest of the entries that `find` gives by the ids of their appointments. */
async function digestOfEntries(streams, find) {
  const entries = [];
  for (let stream = 0; stream < streams; stream += 1) {
    const { revision, ...state } = await find(idOf(stream));
    entries.push({ revision, state });
  }
  return digestOf(entries);
}

const digestOfView = (clinic, domain, streams) =>
  digestOfEntries(streams, (id) => clinic.engine.view(agendas[domain]).get(id, { latest: true }));

function workOf({ size: { streams, events }, folder, driver }) {
  const all = [...bookings(streams), ...changes(streams, events - streams)];
  return {
    expected: expectedOf(all),
    /** Gives them to a clinic without a view. */
    fill: (clinic) => clinic.give(toCommands(all), 512),
    /** A store of Annals with these events. */
    stored: () =>
      seeded(driver, path.join(folder, `log-${streams}-${events}.db`), async (file) => {
        const clinic = await openClinic("ts", driver, file, { durability: "normal" });
        await clinic.give(toCommands(all), 512);
        await clinic.close();
      }),
  };
}

// --- A log that is there ------------------------------------------------------------------------

/** `open` gives a clinic with the agenda on a store that has the log alone. */
function building({ size }, domain, expected, open) {
  let clinic;
  return {
    expected,
    async run() {
      clinic = await open([agendas[domain]]);
      await clinic.engine.view(agendas[domain]).status({ latest: true });
      return size.events;
    },
    check: () => digestOfView(clinic, domain, size.streams),
    after: () => clinic.close(),
  };
}

const annals = (domain) => async (setup) => {
  const { size, driver, folder, contestant } = setup;
  const { expected, fill, stored } = workOf(setup);
  if (size.store === "memory") {
    const storage = memoryStorage();
    const writer = await clinics.ts({ storage });
    await fill(writer);
    const contest = building(setup, domain, expected, (projections) => clinics[domain]({ storage, projections }));
    return {
      ...contest,
      async before() {
        const { epoch } = await storage.open();
        await storage.saveDocuments({ epoch, expected: [], clear: [collection, "checkpoints"], documents: [] });
      },
      close: () => writer.close(),
    };
  }
  const from = await stored();
  const file = path.join(folder, `${contestant}-views.db`);
  const contest = building(setup, domain, expected, (projections) => openClinic(domain, driver, file, { projections }));
  return { ...contest, before: () => void newFile(file, from) };
};

const page = 400;

/** What the agenda's functions say, by hand: an entry, and where it is found. */
function entryAfter(before, event) {
  const state = evolve(before === null ? { status: "none" } : { status: before.status, ...before.booking }, event);
  const { status, ...booking } = state;
  const { doctor, room, start, end } = booking;
  const days = new Set([start.slice(0, 10), new Date(Date.parse(end) - 1).toISOString().slice(0, 10)]);
  const held = [...days].flatMap((day) => [`sdoctor:${doctor}/${day}`, `sroom:${room}/${day}`]);
  return {
    entry: { status, booking, revision: event.revision },
    postings: [["start", `s${start}`], ...(status === "cancelled" ? [] : held.map((tag) => ["held", tag]))],
  };
}

/** The entries after a page of events, [id, revision, type, data], by a way to find those before it. */
function takeIn(events, find) {
  const entries = new Map();
  for (const [id, revision, type, data] of events) {
    let known = entries.get(id);
    if (known === undefined) {
      const text = find(id);
      known = { entry: text === undefined ? null : JSON.parse(text) };
    }
    entries.set(id, entryAfter(known.entry, { type, revision, data: JSON.parse(data) }));
  }
  return entries;
}

/** The same rows of the same page in one transaction, the same documents, postings and checkpoint. */
async function floorOnSqlite(setup) {
  const { size, driver, folder, contestant } = setup;
  const { expected, stored } = workOf(setup);
  const from = await stored();
  const file = path.join(folder, `${contestant}-views.db`);
  let database;
  return {
    expected,
    before() {
      database = connect(driver, newFile(file, from));
      database.exec("PRAGMA journal_mode = WAL");
      database.exec("PRAGMA synchronous = FULL");
    },
    run() {
      const read = raw(database.prepare(`
        SELECT aggregate_id, revision, event_type, data, position FROM events
        WHERE position > ? AND event_type IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?`));
      const document = raw(database.prepare("SELECT value, postings FROM documents WHERE collection = ? AND key = ?"));
      const save = database.prepare(`
        INSERT INTO documents (collection, key, revision, postings, value) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (collection, key) DO UPDATE SET
          revision = excluded.revision, postings = excluded.postings, value = excluded.value`);
      const post = database.prepare("INSERT INTO document_postings (collection, index_name, value, key) VALUES (?, ?, ?, ?)");
      const unpost = database.prepare(
        "DELETE FROM document_postings WHERE collection = ? AND index_name = ? AND value = ? AND key = ?",
      );
      const checkpoint = raw(database.prepare("SELECT revision FROM documents WHERE collection = 'checkpoints' AND key = ?"));
      const types = JSON.stringify(agenda.types);
      const key = '["agenda",1]';
      for (let after = 0; ; ) {
        const events = read.all(after, types, page);
        if (events.length === 0) return size.events;
        const found = new Map();
        database.exec("BEGIN IMMEDIATE");
        if ((checkpoint.all(key)[0]?.[0] ?? 0) !== after) throw new Error("another was faster");
        const entries = takeIn(events, (id) => {
          const [row] = document.all(collection, id);
          found.set(id, row?.[1] ?? "[]");
          return row?.[0];
        });
        after = events.at(-1)[4];
        for (const [id, { entry, postings }] of entries) {
          const text = JSON.stringify(postings);
          const before = found.get(id);
          if (text !== before) {
            for (const [index, value] of JSON.parse(before)) unpost.run(collection, index, value, id);
            for (const [index, value] of postings) post.run(collection, index, value, id);
          }
          save.run(collection, id, after, text, JSON.stringify(entry));
        }
        save.run("checkpoints", key, after, null, "{}");
        database.exec("COMMIT");
      }
    },
    check() {
      const document = raw(database.prepare("SELECT value FROM documents WHERE collection = ? AND key = ?"));
      return digestOfEntries(size.streams, (id) => JSON.parse(document.all(collection, id)[0][0]));
    },
    after: () => database.close(),
  };
}

/** Texts of events in an array, texts of documents in a map, and maps of what they are found under. */
function floorInMemory(setup) {
  const { size } = setup;
  const { expected } = workOf(setup);
  const all = [...bookings(size.streams), ...changes(size.streams, size.events - size.streams)];
  const log = all.map(([stream, { type, data }, revision]) => [idOf(stream), revision, type, JSON.stringify(data)]);
  let documents;
  return {
    expected,
    run() {
      documents = new Map();
      const indexes = { start: new Map(), held: new Map() };
      let checkpoint = 0;
      for (; checkpoint < log.length; checkpoint += page) {
        const events = log.slice(checkpoint, checkpoint + page);
        for (const [id, { entry, postings }] of takeIn(events, (id) => documents.get(id)?.value)) {
          for (const [index, value] of documents.get(id)?.postings ?? []) indexes[index].get(value).delete(id);
          for (const [index, value] of postings) {
            const ids = indexes[index].get(value);
            if (ids === undefined) indexes[index].set(value, new Set([id]));
            else ids.add(id);
          }
          documents.set(id, { value: JSON.stringify(entry), postings });
        }
      }
      return size.events;
    },
    check: () => digestOfEntries(size.streams, (id) => JSON.parse(documents.get(id).value)),
  };
}

// --- With every command -------------------------------------------------------------------------

const commands = (domain, withView) => async (setup) => {
  const { size, driver, folder, contestant } = setup;
  const before = bookings(size.streams);
  const timed = changes(size.streams, size.commands);
  const asked = toCommands(timed);
  const projections = withView ? [agendas[domain]] : [];
  const all = [...before, ...timed];
  let clinic;
  return {
    expected: withView ? expectedOf(all) : digestOf(foldsOf(evolve, all)),
    async before() {
      clinic =
        size.store === "memory"
          ? await clinics[domain]({ storage: memoryStorage(), projections })
          : await openClinic(domain, driver, newFile(path.join(folder, `${contestant}-commands.db`)), { projections });
      await clinic.give(toCommands(before), 512);
    },
    run: () => clinic.give(asked, size.lanes),
    check: () => (withView ? digestOfView(clinic, domain, size.streams) : clinic.digest(size.streams)),
    after: () => clinic.close(),
  };
};

export const contestants = {
  "annals-ts": annals("ts"),
  "annals-rust": annals("rust"),
  floor: (setup) => (setup.size.store === "memory" ? floorInMemory(setup) : floorOnSqlite(setup)),
  "annals-ts-inline": commands("ts", true),
  "annals-ts-without": commands("ts", false),
  "annals-rust-inline": commands("rust", true),
  "annals-rust-without": commands("rust", false),
};
