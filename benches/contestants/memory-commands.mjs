// Commands in memory: the engine, a store by hand, and the peers' appends.

import { randomUUID } from "node:crypto";
import { memoryStorage } from "annals/memory";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf, foldOf, idOf, inFlight, moved, updated } from "../workload.mjs";
import { clinics, decide, evolve, toCommands } from "./clinic-node.mjs";
import { digestOfStreams } from "./emmett.mjs";

const kinds = { updated, moved };

function workOf({ streams, commands, kind = "updated" }) {
  const before = bookings(streams);
  const timed = changes(streams, commands, kinds[kind]);
  return { before, timed, expected: expectedOf(evolve, [...before, ...timed]) };
}

const annals = (domain) => ({ size }) => {
  const { before, timed, expected } = workOf(size);
  const [given, asked] = [toCommands(before), toCommands(timed)];
  let clinic;
  return {
    expected,
    async before() {
      clinic = await clinics[domain]({ storage: memoryStorage() });
      await clinic.give(given, 512);
    },
    run: () => clinic.give(asked, size.lanes),
    check: () => clinic.digest(size.streams),
    after: () => clinic.close(),
  };
};

/** What an expert needs for this domain, and no more: a map of streams, and one of command ids. */
function floor({ size }) {
  const { before, timed, expected } = workOf(size);
  const asked = toCommands(timed);
  let streams;
  let log;
  const commandIds = new Map();
  const append = (id, stream, event, commandId) => {
    const row = {
      position: log.length + 1,
      aggregateType: "Appointment",
      aggregateId: id,
      revision: stream.events.length + 1,
      type: event.type,
      recordedAt: Date.now(),
      commandId,
      data: JSON.stringify(event.data),
    };
    log.push(row);
    stream.events.push(row);
    stream.state = Object.freeze(evolve(stream.state, event));
  };
  const execute = async ({ id, command }) => {
    const stream = streams.get(id);
    const commandId = randomUUID();
    if (commandIds.has(commandId)) throw new Error("twice");
    const decision = decide(stream.state, command, { id, issuedAt: new Date(), others: [] });
    for (const event of decision) append(id, stream, event, commandId);
    commandIds.set(commandId, log.length);
    return { revision: stream.events.length, state: stream.state };
  };
  return {
    expected,
    before() {
      streams = new Map();
      log = [];
      commandIds.clear();
      for (const [number, event] of before) {
        const stream = { state: { status: "none" }, events: [] };
        streams.set(idOf(number), stream);
        append(idOf(number), stream, event, randomUUID());
      }
    },
    async run() {
      await inFlight(size.lanes, asked, execute);
      return asked.length;
    },
    check: () =>
      digestOf(before.map(([number]) => {
        const { events } = streams.get(idOf(number));
        return foldOf(evolve, events.map(({ type, data }) => ({ type, data: JSON.parse(data) })));
      })),
  };
}

/** Castore's append alone: no decision, no state. */
async function castore({ size }) {
  const { InMemoryEventStorageAdapter } = await import("@castore/event-storage-adapter-in-memory");
  const { before, timed, expected } = workOf(size);
  const options = { eventStoreId: "clinic" };
  const push = ([stream, { type, data }, version]) =>
    adapter.pushEvent({ aggregateId: idOf(stream), version, type, payload: data }, options);
  let adapter;
  return {
    expected,
    async before() {
      adapter = new InMemoryEventStorageAdapter();
      for (const one of before) await push(one);
    },
    async run() {
      await inFlight(size.lanes, timed, push);
      return timed.length;
    },
    async check() {
      const streams = [];
      for (let stream = 0; stream < size.streams; stream += 1) {
        const { events } = await adapter.getEvents(idOf(stream), options);
        streams.push(foldOf(evolve, events.map(({ type, payload }) => ({ type, data: payload }))));
      }
      return digestOf(streams);
    },
  };
}

/** Emmett's append alone: no decision, no state. Only a part of the commands: it is slow. */
async function emmett({ size }) {
  const { getInMemoryEventStore } = await import("@event-driven-io/emmett");
  const { before, timed } = workOf(size);
  const some = timed.slice(0, timed.length / 10);
  const append = ([stream, event, revision]) =>
    store.appendToStream(idOf(stream), [event], { expectedStreamVersion: BigInt(revision - 1) });
  let store;
  return {
    expected: expectedOf(evolve, [...before, ...some]),
    async before() {
      store = getInMemoryEventStore();
      for (const one of before) await append(one);
    },
    async run() {
      await inFlight(size.lanes, some, append);
      return some.length;
    },
    check: () => digestOfStreams(store, evolve, size.streams),
  };
}

export const contestants = {
  "annals-ts": annals("ts"),
  "annals-ts-without-reads": annals("ts-without-reads"),
  "annals-rust": annals("rust"),
  /** The same engine and domain on commands that read no others. */
  "annals-rust-without-reads": ({ size }) => annals("rust")({ size: { ...size, kind: "updated" } }),
  floor,
  castore,
  emmett,
};
