// Commands and states on IndexedDB, in a page: the engine, and stores by hand.

import { indexedDbStorage } from "annals/indexeddb";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf, idOf } from "../workload.mjs";
import { clinics, decide, evolve, toCommands } from "./clinic-page.mjs";

/** The answer to a request. */
const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const completion = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });

function open(name, makeStores) {
  const request = indexedDB.open(name);
  request.onupgradeneeded = () => makeStores(request.result);
  return answer(request);
}

const remove = (name) => answer(indexedDB.deleteDatabase(name));

// --- Commands ---------------------------------------------------------------------------------

const annals = (domain) => ({ contestant, size }) => {
  const { streams, commands, durability, lanes } = size;
  const [before, timed] = [bookings(streams), changes(streams, commands)];
  const asked = toCommands(timed);
  let clinic;
  return {
    expected: expectedOf(evolve, [...before, ...timed]),
    async before() {
      await remove(contestant);
      clinic = await clinics[domain]({ storage: indexedDbStorage({ name: contestant, durability }) });
      await clinic.give(toCommands(before), 64);
    },
    run: () => clinic.give(asked, lanes),
    check: () => clinic.digest(streams),
    after: () => clinic.close(),
  };
};

/**
 * One transaction an event. The floor keeps what Annals keeps of an event and checks what it checks;
 * the lean floor has a plain row with a unique key.
 */
const byHand = (isLean) => ({ contestant, size }) => {
  const { streams, commands, part, durability } = size;
  const before = bookings(streams);
  const timed = changes(streams, commands / part);
  const asked = toCommands(timed);
  let database;
  let states;
  const rowOf = (id, revision, { type, data }, commandId, issuedAt) => {
    const plain = { stream: id, revision, type, data: JSON.stringify(data) };
    if (isLean) return plain;
    const recordedAt = issuedAt.toISOString();
    return { ...plain, aggregateType: "Appointment", eventId: crypto.randomUUID(), commandId, correlationId: commandId,
      schemaVersion: 1, tags: [], recordedAt, issuedAt: recordedAt, causationId: null, actor: null, metadata: null };
  };
  const append = async (id, commandId, issuedAt, eventsOf) => {
    const at = states.get(id);
    const transaction = database.transaction("events", "readwrite", { durability });
    const completed = completion(transaction);
    const store = transaction.objectStore("events");
    if (!isLean) {
      const range = IDBKeyRange.bound([id], [id, []]);
      const [known, last] = await Promise.all([
        answer(store.index("commandId").getKey(commandId)),
        answer(store.index("stream").openKeyCursor(range, "prev")),
      ]);
      if (known !== undefined) throw new Error(`${commandId} was given before`);
      if ((last?.key[1] ?? 0) !== at.revision) throw new Error(`${id} has gone on`);
    }
    for (const event of eventsOf(at.state)) {
      at.revision += 1;
      at.state = Object.freeze(evolve(at.state, event));
      store.add(rowOf(id, at.revision, event, commandId, issuedAt));
    }
    transaction.commit();
    await completed;
  };
  return {
    expected: expectedOf(evolve, [...before, ...timed]),
    async before() {
      await remove(contestant);
      database = await open(contestant, (database) => {
        const store = database.createObjectStore("events", { keyPath: "position", autoIncrement: true });
        store.createIndex("stream", ["stream", "revision"], { unique: true });
        if (isLean) return;
        store.createIndex("commandId", "commandId", { unique: true });
        store.createIndex("tags", "tags", { multiEntry: true });
        store.createIndex("type", "type");
      });
      states = new Map(before.map(([stream]) => [idOf(stream), { revision: 0, state: { status: "none" } }]));
      for (const [stream, event] of before) await append(idOf(stream), crypto.randomUUID(), new Date(), () => [event]);
    },
    async run() {
      for (const { id, command } of asked) {
        const issuedAt = new Date();
        await append(id, crypto.randomUUID(), issuedAt, (state) => decide(state, command, { id, issuedAt, others: [] }));
      }
      return asked.length;
    },
    check: async () => digestOf(await foldAll(database, streams)),
    after: () => database.close(),
  };
};

/** All rows at once, parsed and folded. */
async function foldAll(database, streams) {
  const rows = await answer(database.transaction("events").objectStore("events").getAll());
  const found = new Map();
  for (const { stream, type, data } of rows) {
    let at = found.get(stream);
    if (at === undefined) found.set(stream, (at = { revision: 0, state: { status: "none" } }));
    at.revision += 1;
    at.state = evolve(at.state, { type, data: JSON.parse(data) });
  }
  return Array.from({ length: streams }, (_, stream) => found.get(idOf(stream)));
}

// --- Loads ------------------------------------------------------------------------------------

const eventsOf = ({ streams, events }) => [...bookings(streams), ...changes(streams, events - streams)];

/** A fresh engine for every sample: nothing is at hand. */
const cold = (domain) => async ({ size }) => {
  const { streams, events } = size;
  const all = eventsOf(size);
  const name = `load-${events}`;
  // Made by the first contestant that wants it. One event a command, 64 in flight.
  if (localStorage.getItem(name) === null) {
    await remove(name);
    const clinic = await clinics.ts({ storage: indexedDbStorage({ name }) });
    await clinic.give(toCommands(all), 64);
    await clinic.close();
    localStorage.setItem(name, "filled");
  }
  let clinic;
  let states;
  return {
    expected: expectedOf(evolve, all),
    async before() {
      clinic = await clinics[domain]({ storage: indexedDbStorage({ name }) });
    },
    async run() {
      states = await clinic.statesInBulk(streams);
      return events;
    },
    check: () => digestOf(states),
    after: () => clinic.close(),
  };
};

async function rows({ contestant, size }) {
  const { streams, events } = size;
  const all = eventsOf(size);
  await remove(contestant);
  const database = await open(contestant, (database) => {
    database
      .createObjectStore("events", { keyPath: "position", autoIncrement: true })
      .createIndex("stream", ["stream", "revision"], { unique: true });
  });
  const revisions = new Map();
  for (let first = 0; first < all.length; first += 5_000) {
    const transaction = database.transaction("events", "readwrite");
    const store = transaction.objectStore("events");
    for (const [stream, { type, data }] of all.slice(first, first + 5_000)) {
      const revision = (revisions.get(stream) ?? 0) + 1;
      revisions.set(stream, revision);
      store.add({ stream: idOf(stream), revision, type, data: JSON.stringify(data) });
    }
    await completion(transaction);
  }
  let states;
  return {
    expected: expectedOf(evolve, all),
    async run() {
      states = await foldAll(database, streams);
      return events;
    },
    check: () => digestOf(states),
    close: () => database.close(),
  };
}

export const contestants = {
  "annals-ts": annals("ts"),
  "annals-rust": annals("rust"),
  floor: byHand(false),
  lean: byHand(true),
  "annals-ts-load": cold("ts"),
  "annals-rust-load": cold("rust"),
  "floor-rows": rows,
};
