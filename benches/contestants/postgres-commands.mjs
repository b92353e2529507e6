// Commands on PostgreSQL: the engine, the floors, and the peer's append.

import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf, foldOf, foldsOf, idOf, inFlight } from "../workload.mjs";
import { evolve, toCommands } from "./clinic-node.mjs";
import { digestOfStreams } from "./emmett.mjs";
import { Floor, LeanFloor, newDatabase, openClient, openClinic, openEmmett, seeded } from "./postgres-stores.mjs";

function workOf({ size: { streams, commands }, connection, contestant }) {
  const before = bookings(streams);
  const timed = changes(streams, commands);
  return {
    before,
    timed,
    asked: toCommands(timed),
    expected: expectedOf(evolve, [...before, ...timed]),
    /** A database for a sample: empty, or a copy of what was seeded. */
    fresh: (from) => newDatabase(connection, contestant, from),
    /** A store of Annals in which the streams are booked. */
    booked: () =>
      seeded(connection, "booked", async (database) => {
        const clinic = await openClinic("ts", database);
        await clinic.give(toCommands(before), 512);
        await clinic.close();
      }),
  };
}

/** The states that the rows of a database lead to, by a plain fold. */
async function digestOfRows(database, text, streams) {
  const client = await openClient(database);
  const folded = [];
  for (let stream = 0; stream < streams; stream += 1) {
    const rows = await client.columns("stream", text, [idOf(stream)]);
    folded.push(foldOf(evolve, rows.map(([type, data]) => ({ type, data }))));
  }
  await client.close();
  return digestOf(folded);
}

const annals = (domain) => async (setup) => {
  const { size } = setup;
  const { asked, expected, booked, fresh } = workOf(setup);
  const from = await booked();
  let clinic;
  return {
    expected,
    async before() {
      clinic = await openClinic(domain, await fresh(from));
      // Warm, as all contestants are.
      await clinic.states(size.streams);
    },
    run: () => clinic.give(asked, size.lanes),
    check: () => clinic.digest(size.streams),
    after: () => clinic.close(),
  };
};

const eventsOfAnnals = "SELECT event_type, data FROM annals.events WHERE aggregate_type = 'Appointment' AND aggregate_id = $1 ORDER BY revision";

/** `batch`: how many commands share a transaction. */
const floor = (batchOf) => async (setup) => {
  const { size } = setup;
  const { before, asked, expected, booked, fresh } = workOf(setup);
  const from = await booked();
  const batch = batchOf(size);
  let database;
  let store;
  return {
    expected,
    async before() {
      database = await fresh(from);
      store = await Floor.open(database, new Map(foldsOf(evolve, before).map((at, stream) => [idOf(stream), at])));
    },
    async run() {
      for (let at = 0; at < asked.length; at += batch) await store.execute(asked.slice(at, at + batch));
      return asked.length;
    },
    check: () => digestOfRows(database, eventsOfAnnals, size.streams),
    after: () => store.close(),
  };
};

function lean(setup) {
  const { size } = setup;
  const { before, asked, expected, fresh } = workOf(setup);
  let database;
  let store;
  return {
    expected,
    async before() {
      database = await fresh();
      store = await LeanFloor.open(database);
      await store.fill(before.map(([stream, event]) => [idOf(stream), event]));
    },
    async run() {
      const { lanes } = size;
      for (let at = 0; at < asked.length; at += lanes) await store.execute(asked.slice(at, at + lanes));
      return asked.length;
    },
    check: () => digestOfRows(database, "SELECT type, data FROM plain_events WHERE stream = $1 ORDER BY revision", size.streams),
    after: () => store.close(),
  };
}

/** Emmett's append alone: no decision, no state. Where many are in flight, each is on a stream of its own. */
function emmett(setup) {
  const { size: { streams, lanes } } = setup;
  const { before, timed, expected, fresh } = workOf(setup);
  const turns = lanes === 1 ? [timed] : Array.from({ length: streams }, (_, index) => timed.filter(([stream]) => stream === index));
  let store;
  const append = ([stream, event, revision]) =>
    store.appendToStream(idOf(stream), [event], { expectedStreamVersion: BigInt(revision - 1) });
  return {
    expected,
    async before() {
      store = await openEmmett(await fresh());
      for (const one of before) await append(one);
    },
    async run() {
      await inFlight(lanes, turns, (turn) => inFlight(1, turn, append));
      return timed.length;
    },
    check: () => digestOfStreams(store, evolve, streams),
    after: () => store.close(),
  };
}

export const contestants = {
  "annals-ts": annals("ts"),
  "annals-rust": annals("rust"),
  floor: floor(({ lanes }) => lanes),
  "floor-one-by-one": floor(() => 1),
  lean,
  emmett,
};
