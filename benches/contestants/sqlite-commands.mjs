// Commands on SQLite: the engine, the floors, and the peers' appends.

import path from "node:path";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf, foldOf, foldsOf, idOf } from "../workload.mjs";
import { evolve, toCommands } from "./clinic-node.mjs";
import { digestOfStreams } from "./emmett.mjs";
import { Floor, LeanFloor, connect, newFile, openClinic, openEmmett, raw, seeded } from "./sqlite-stores.mjs";

function workOf({ size: { streams, commands }, folder, driver, contestant }) {
  const before = bookings(streams);
  const timed = changes(streams, commands);
  return {
    before,
    timed,
    asked: toCommands(timed),
    expected: expectedOf(evolve, [...before, ...timed]),
    file: path.join(folder, `${contestant}.db`),
    /** A store of Annals in which the streams are booked. */
    booked: () =>
      seeded(driver, path.join(folder, `booked-${streams}.db`), async (file) => {
        const clinic = await openClinic("ts", driver, file);
        await clinic.give(toCommands(before), 512);
        await clinic.close();
      }),
  };
}

/** The states that the rows in a file lead to, by a plain fold. */
function digestOfRows(driver, file, sql, streams) {
  const database = connect(driver, file);
  const read = raw(database.prepare(sql));
  const folded = [];
  for (let stream = 0; stream < streams; stream += 1) {
    const rows = read.all(idOf(stream));
    folded.push(foldOf(evolve, rows.map(([type, data]) => ({ type, data: JSON.parse(data) }))));
  }
  database.close();
  return digestOf(folded);
}

const annals = (domain) => async (setup) => {
  const { size, driver } = setup;
  const { asked, expected, file, booked } = workOf(setup);
  const from = await booked();
  let clinic;
  return {
    expected,
    async before() {
      clinic = await openClinic(domain, driver, newFile(file, from));
      // Warm, as all contestants are.
      await clinic.states(size.streams);
    },
    run: () => clinic.give(asked, size.lanes),
    check: () => clinic.digest(size.streams),
    after: () => clinic.close(),
  };
};

const eventsOfAnnals = "SELECT event_type, data FROM events WHERE aggregate_type = 'Appointment' AND aggregate_id = ? ORDER BY revision";

/** `batch`: how many commands share a transaction. */
const floor = (batchOf) => async (setup) => {
  const { size, driver } = setup;
  const { before, asked, expected, file, booked } = workOf(setup);
  const from = await booked();
  const batch = batchOf(size);
  let store;
  return {
    expected,
    before() {
      store = new Floor(driver, newFile(file, from));
      store.take(new Map(foldsOf(evolve, before).map((at, stream) => [idOf(stream), at])));
    },
    run() {
      for (let at = 0; at < asked.length; at += batch) store.execute(asked.slice(at, at + batch));
      return asked.length;
    },
    check: () => digestOfRows(driver, file, eventsOfAnnals, size.streams),
    after: () => store.close(),
  };
};

function lean(setup) {
  const { size, driver } = setup;
  const { before, asked, expected, file } = workOf(setup);
  let store;
  return {
    expected,
    before() {
      store = new LeanFloor(driver, newFile(file));
      store.fill(before.map(([stream, event]) => [idOf(stream), event]));
    },
    run() {
      const { lanes } = size;
      for (let at = 0; at < asked.length; at += lanes) store.execute(asked.slice(at, at + lanes));
      return asked.length;
    },
    check: () =>
      digestOfRows(driver, file, "SELECT type, data FROM plain_events WHERE stream = ? ORDER BY revision", size.streams),
    after: () => store.close(),
  };
}

/** Emmett's append alone: no decision, no state. */
function emmett(setup) {
  const { size: { streams } } = setup;
  const { before, timed, expected, file } = workOf(setup);
  let emmett;
  const append = ([stream, event, revision]) =>
    emmett.store.appendToStream(idOf(stream), [event], { expectedStreamVersion: BigInt(revision - 1) });
  return {
    expected,
    async before() {
      emmett = await openEmmett(newFile(file));
      for (const one of before) await append(one);
    },
    async run() {
      for (const one of timed) await append(one);
      return timed.length;
    },
    check: () => digestOfStreams(emmett.store, evolve, streams),
    after: () => emmett.close(),
  };
}

export const contestants = {
  "annals-ts": annals("ts"),
  "annals-rust": annals("rust"),
  floor: floor(({ lanes }) => lanes),
  "floor-one-by-one": floor(() => 1),
  lean,
  emmett,
  livestore: async (setup) => (await import("./livestore.mjs")).livestore(setup, workOf(setup)),
};
