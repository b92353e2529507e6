// What commands and reads of streams at hand cost in stores of different sizes.

import path from "node:path";
import { memoryStorage } from "annals/memory";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, commandFor, expectedOf, idOf, updated } from "../workload.mjs";
import { clinics, evolve, toCommands } from "./clinic-node.mjs";
import { newFile, openClinic, seeded } from "./sqlite-stores.mjs";

/** The streams that are asked; all others only take up room. */
const asked = 100;
const perStream = 10;

/** Fills a store with so many events by as many commands: streams of ten, with those that are asked first. */
async function fill(clinic, events) {
  const streams = events / perStream;
  await clinic.give(toCommands(bookings(streams)), 512);
  for (let n = 1; n < perStream; n += 1) {
    // A part at a time: a million commands are a gigabyte.
    const some = Array.from({ length: streams }, (_, stream) => ({ id: idOf(stream), command: commandFor(updated(stream, n)) }));
    await clinic.give(some, 512);
  }
  await clinic.close();
}

/** Each opens an engine that has nothing at hand of a store with so many events. */
const stores = {
  async memory(events) {
    const storage = memoryStorage();
    await fill(await clinics.ts({ storage }), events);
    return clinics.ts({ storage });
  },
  async sqlite(events, copy, { driver, folder, contestant }) {
    const from = await seeded(driver, path.join(folder, `grown-${events}.db`), async (file) =>
      fill(await openClinic("ts", driver, file, { durability: "normal" }), events),
    );
    return openClinic("ts", driver, newFile(path.join(folder, `${contestant}-${copy}.db`), from));
  },
};

/** Gives the streams so many commands each, in stores that have so many events before. */
const commands = (events) => (setup) => {
  const { size: { store, rounds } } = setup;
  // No store may more than double, so the small ones share the commands and are made anew each time.
  const copies = Math.ceil((rounds * asked) / events);
  const own = rounds / copies;
  const isLarge = events >= 1_000_000;
  let revision;
  let work = [];
  return {
    expected: undefined,
    async before() {
      for (let copy = work.length; copy < copies; copy += 1) {
        work.push({ clinic: await stores[store](events, copy, setup) });
        revision = perStream;
      }
      for (const one of work) {
        await one.clinic.states(asked);
        one.commands = toCommands(changes(asked, own * asked, (stream, n) => updated(stream, revision - 1 + n)));
      }
      revision += own;
      this.expected = expectedOf(evolve, [...bookings(asked), ...changes(asked, (revision - 1) * asked)]);
    },
    async run() {
      for (const { clinic, commands } of work) await clinic.give(commands, 1);
      return rounds * asked;
    },
    async check() {
      const found = new Set();
      for (const { clinic } of work) found.add(await clinic.digest(asked));
      return [...found].join(" and ");
    },
    async after() {
      if (isLarge) return;
      for (const { clinic } of work) await clinic.close();
      work = [];
    },
    async close() {
      for (const { clinic } of work) await clinic.close();
    },
  };
};

/** Asks for the states of the streams, which are at hand: the store tells that nothing has come since. */
const reads = (events) => async (setup) => {
  const { size: { store, rounds } } = setup;
  const clinic = await stores[store](events, 0, setup);
  await clinic.states(asked);
  let states;
  return {
    expected: expectedOf(evolve, [...bookings(asked), ...changes(asked, (perStream - 1) * asked)]),
    async run() {
      for (let round = 0; round < rounds; round += 1) states = await clinic.states(asked);
      return rounds * asked;
    },
    check: () => digestOf(states),
    close: () => clinic.close(),
  };
};

const kinds = { commands, reads };

export const contestants = Object.fromEntries(
  [1_000, 10_000, 100_000, 1_000_000].map((events) => [
    `annals-${events}`,
    (setup) => kinds[setup.size.of](events)(setup),
  ]),
);
