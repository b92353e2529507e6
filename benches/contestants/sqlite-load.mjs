// States from SQLite: streams that nobody has at hand are read and folded.

import path from "node:path";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf, idOf } from "../workload.mjs";
import { evolve, toCommands } from "./clinic-node.mjs";
import { LeanFloor, connect, newFile, openClinic, openEmmett, raw, seeded } from "./sqlite-stores.mjs";

/** How many states are asked for at once where they are asked for in bulk. */
const chunk = 1_000;

const eventsOf = ({ streams, events }) => [...bookings(streams), ...changes(streams, events - streams)];

function workOf({ size, folder, driver }) {
  const events = eventsOf(size);
  return {
    events,
    expected: expectedOf(evolve, events),
    name: path.join(folder, `${size.streams}-${size.events}`),
    /** A store of Annals with these events, each of them from a command. */
    stored: () =>
      seeded(driver, path.join(folder, `annals-${size.streams}-${size.events}.db`), async (file) => {
        const clinic = await openClinic("ts", driver, file, { durability: "normal" });
        await clinic.give(toCommands(events), 512);
        await clinic.close();
      }),
  };
}

/** The ways to ask for the states of so many streams. */
const ways = {
  "one by one": (clinic, streams) => clinic.states(streams),
  bulk: (clinic, streams) => clinic.statesInBulk(streams, chunk),
  cached: (clinic, streams) => clinic.states(streams, { cached: true }),
};

/** A fresh engine for every round: nothing is at hand. */
const cold = (domain, way) => async (setup) => {
  const { size, driver } = setup;
  const { expected, stored } = workOf(setup);
  const file = await stored();
  let clinics;
  let states;
  return {
    expected,
    async before() {
      clinics = [];
      for (let round = 0; round < size.rounds; round += 1) clinics.push(await openClinic(domain, driver, file));
    },
    async run() {
      for (const clinic of clinics) states = await ways[way ?? size.way](clinic, size.streams);
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    async after() {
      for (const clinic of clinics) await clinic.close();
    },
  };
};

/** The states are at hand, and are taken from there. */
const hot = (domain) => async (setup) => {
  const { size, driver } = setup;
  const { expected, stored } = workOf(setup);
  const clinic = await openClinic(domain, driver, await stored());
  await clinic.states(size.streams);
  let states;
  return {
    expected,
    async run() {
      for (let round = 0; round < size.hotRounds; round += 1) states = await ways.cached(clinic, size.streams);
      return size.hotRounds * size.events;
    },
    check: () => digestOf(states),
    close: () => clinic.close(),
  };
};

/** Two columns, in order, parsed and folded. */
function byHand(setup, database, sql, expected) {
  const { size } = setup;
  const read = raw(database.prepare(sql));
  const ids = Array.from({ length: size.streams }, (_, stream) => idOf(stream));
  let states;
  return {
    expected,
    run() {
      for (let round = 0; round < size.rounds; round += 1) {
        states = ids.map((id) => {
          const rows = read.all(id);
          let state = { status: "none" };
          for (const [type, data] of rows) state = evolve(state, { type, data: JSON.parse(data) });
          return { revision: rows.length, state };
        });
      }
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    close: () => database.close(),
  };
}

async function floor(setup) {
  const { expected, stored } = workOf(setup);
  const sql = "SELECT event_type, data FROM events WHERE aggregate_type = 'Appointment' AND aggregate_id = ? ORDER BY revision";
  return byHand(setup, connect(setup.driver, await stored()), sql, expected);
}

function lean(setup) {
  const { events, expected, name } = workOf(setup);
  const file = newFile(`${name}-lean.db`);
  const store = new LeanFloor(setup.driver, file);
  store.fill(events.map(([stream, event]) => [idOf(stream), event]));
  store.close();
  const sql = "SELECT type, data FROM plain_events WHERE stream = ? ORDER BY revision";
  return byHand(setup, connect(setup.driver, file), sql, expected);
}

/** What an expert does for many streams at once: one query for all of them. */
async function floorInBulk(setup) {
  const { size, driver } = setup;
  const { expected, stored } = workOf(setup);
  const database = connect(driver, await stored());
  const read = raw(database.prepare(`
    SELECT wanted.key, event_type, data
    FROM json_each(?) AS wanted CROSS JOIN events
      ON aggregate_type = 'Appointment' AND aggregate_id = wanted.value
    ORDER BY wanted.key, revision`));
  let states;
  return {
    expected,
    run() {
      for (let round = 0; round < size.rounds; round += 1) {
        states = [];
        for (let first = 0; first < size.streams; first += chunk) {
          const ids = Array.from({ length: Math.min(chunk, size.streams - first) }, (_, index) => idOf(first + index));
          const found = ids.map(() => ({ revision: 0, state: { status: "none" } }));
          for (const [key, type, data] of read.all(JSON.stringify(ids))) {
            const at = found[key];
            at.revision += 1;
            at.state = evolve(at.state, { type, data: JSON.parse(data) });
          }
          states.push(...found);
        }
      }
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    close: () => database.close(),
  };
}

async function emmett(setup) {
  const { size } = setup;
  const { events, expected, name } = workOf(setup);
  const { store, close } = await openEmmett(newFile(`${name}-emmett.db`));
  for (const [id, list] of grouped(events)) {
    for (let at = 0; at < list.length; at += chunk) await store.appendToStream(id, list.slice(at, at + chunk));
  }
  let states;
  return {
    expected,
    async run() {
      states = [];
      for (let stream = 0; stream < size.streams; stream += 1) {
        const { state, currentStreamVersion } = await store.aggregateStream(idOf(stream), {
          evolve,
          initialState: () => ({ status: "none" }),
        });
        states.push({ revision: Number(currentStreamVersion), state });
      }
      return size.events;
    },
    check: () => digestOf(states),
    close,
  };
}

function grouped(events) {
  const lists = new Map();
  for (const [stream, event] of events) {
    const list = lists.get(idOf(stream));
    if (list === undefined) lists.set(idOf(stream), [event]);
    else list.push(event);
  }
  return lists;
}

export const contestants = {
  "annals-ts": cold("ts"),
  "annals-rust": cold("rust"),
  "annals-ts-cold": cold("ts", "one by one"),
  "annals-rust-cold": cold("rust", "one by one"),
  "annals-ts-hot": hot("ts"),
  "annals-rust-hot": hot("rust"),
  floor,
  "floor-in-bulk": floorInBulk,
  lean,
  emmett,
};
