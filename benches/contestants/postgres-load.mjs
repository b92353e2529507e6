// States from PostgreSQL: streams that nobody has at hand are read and folded.

import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf, idOf, inFlight } from "../workload.mjs";
import { evolve, toCommands } from "./clinic-node.mjs";
import { LeanFloor, newDatabase, openClient, openClinic, openEmmett, seededToRead } from "./postgres-stores.mjs";

/** How many states are asked for at once where they are asked for in bulk. */
const chunk = 1_000;

const idsOf = (streams) => Array.from({ length: streams }, (_, stream) => idOf(stream));

function workOf({ size: { streams, events }, connection }) {
  const all = [...bookings(streams), ...changes(streams, events - streams)];
  return {
    events: all,
    expected: expectedOf(evolve, all),
    /** A store of Annals with these events, each of them from a command. */
    stored: () =>
      seededToRead(connection, "stored", async (database) => {
        const clinic = await openClinic("ts", database);
        await clinic.give(toCommands(all), 512);
        await clinic.close();
      }),
  };
}

/** The ways to ask for the states of so many streams. */
const ways = {
  "one by one": (clinic, streams) => clinic.states(streams),
  bulk: (clinic, streams) => clinic.statesInBulk(streams, chunk),
};

/** A fresh engine for every round: nothing is at hand. */
const annals = (domain) => async (setup) => {
  const { size } = setup;
  const { expected, stored } = workOf(setup);
  const database = await stored();
  let clinics;
  let states;
  return {
    expected,
    async before() {
      clinics = [];
      for (let round = 0; round < size.rounds; round += 1) clinics.push(await openClinic(domain, database));
    },
    async run() {
      for (const clinic of clinics) states = await ways[size.way](clinic, size.streams);
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    async after() {
      for (const clinic of clinics) await clinic.close();
    },
  };
};

/** Two columns, in order, parsed by the driver and folded. */
async function byHand({ size }, database, text, expected) {
  const client = await openClient(database);
  const ids = idsOf(size.streams);
  let states;
  return {
    expected,
    async run() {
      for (let round = 0; round < size.rounds; round += 1) {
        states = [];
        for (const id of ids) {
          const rows = await client.columns("stream", text, [id]);
          let state = { status: "none" };
          for (const [type, data] of rows) state = evolve(state, { type, data });
          states.push({ revision: rows.length, state });
        }
      }
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    close: () => client.close(),
  };
}

async function floor(setup) {
  const { expected, stored } = workOf(setup);
  const text = "SELECT event_type, data FROM annals.events WHERE aggregate_type = 'Appointment' AND aggregate_id = $1 ORDER BY revision";
  return byHand(setup, await stored(), text, expected);
}

async function lean(setup) {
  const { events, expected } = workOf(setup);
  const database = await seededToRead(setup.connection, "lean", async (made) => {
    const store = await LeanFloor.open(made);
    await store.fill(events.map(([stream, event]) => [idOf(stream), event]));
    await store.close();
  });
  return byHand(setup, database, "SELECT type, data FROM plain_events WHERE stream = $1 ORDER BY revision", expected);
}

/** What an expert does for many streams at once: one query for all of them. */
async function floorInBulk(setup) {
  const { size } = setup;
  const { expected, stored } = workOf(setup);
  const client = await openClient(await stored());
  const ids = idsOf(size.streams);
  const text = `
    SELECT place, event_type, data
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (id, place)
    JOIN annals.events ON aggregate_type = 'Appointment' AND aggregate_id = wanted.id
    ORDER BY place, revision`;
  let states;
  return {
    expected,
    async run() {
      for (let round = 0; round < size.rounds; round += 1) {
        states = ids.map(() => ({ revision: 0, state: { status: "none" } }));
        for (let first = 0; first < ids.length; first += chunk) {
          for (const [place, type, data] of await client.columns("streams", text, [ids.slice(first, first + chunk)])) {
            const at = states[first + Number(place) - 1];
            at.revision += 1;
            at.state = evolve(at.state, { type, data });
          }
        }
      }
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    close: () => client.close(),
  };
}

/** Its way to load a state. In bulk its pool's connections are busy all the time. */
async function emmett(setup) {
  const { size } = setup;
  const { events, expected } = workOf(setup);
  const store = await openEmmett(await newDatabase(setup.connection, "emmett"));
  const lists = idsOf(size.streams).map((id) => ({ id, list: [] }));
  for (const [stream, event] of events) lists[stream].list.push(event);
  await inFlight(10, lists, async ({ id, list }) => {
    for (let at = 0; at < list.length; at += chunk) await store.appendToStream(id, list.slice(at, at + chunk));
  });
  let states;
  return {
    expected,
    async run() {
      states = [];
      await inFlight(size.way === "bulk" ? chunk : 1, [...lists.keys()], async (stream) => {
        const { state, currentStreamVersion } = await store.aggregateStream(idOf(stream), {
          evolve,
          initialState: () => ({ status: "none" }),
        });
        states[stream] = { revision: Number(currentStreamVersion), state };
      });
      return size.events;
    },
    check: () => digestOf(states),
    close: () => store.close(),
  };
}

export const contestants = {
  "annals-ts": annals("ts"),
  "annals-rust": annals("rust"),
  floor,
  "floor-in-bulk": floorInBulk,
  lean,
  emmett,
};
