// What an engine keeps at hand, after it has had to do with many more streams than it may keep.

import { readFileSync } from "node:fs";
import { aggregate } from "annals";
import { Engine, nativeAggregate } from "annals/slim";
import { memoryStorage } from "annals/memory";
import { appointment } from "../../pkg-tests/support/clinic.mjs";
import * as annalsGlue from "../../pkg/glue/annals.js";
import { bookings, idOf, inFlight } from "../workload.mjs";
import { clinicModule, evolve, toCommands } from "./clinic-node.mjs";

const annalsModule = {
  glue: annalsGlue,
  wasm: () => readFileSync(new URL("../../pkg/annals.wasm", import.meta.url)),
};

/** The module, and a way to its memory. */
function watched({ glue, wasm }) {
  let exports;
  const initSync = (options) => (exports = glue.initSync(options));
  return { module: { glue: { ...glue, initSync }, wasm }, memory: () => exports.memory.buffer.byteLength };
}

/** Books so many streams with an engine that may keep some of the states. */
async function book(aggregate, module, { cachedStates }, streams) {
  const engine = await Engine.open({
    module,
    storage: memoryStorage(),
    aggregates: [aggregate],
    limits: { cachedStates },
  });
  await inFlight(64, toCommands(bookings(streams)), ({ id, command }) => engine.execute(aggregate, id, command));
  // What was forgotten is loaded again, which pushes something else out.
  for (let stream = 0; stream < streams; stream += 7) await engine.state(aggregate, idOf(stream));
  return engine;
}

/** How many states of the domain in TypeScript the host keeps. */
const states = {
  async sample() {
    const made = [];
    const counting = aggregate("Appointment", {
      ...appointment.functions,
      evolve(state, event) {
        const after = evolve(state, event);
        made.push(new WeakRef(after));
        return after;
      },
    });
    const engine = await book(counting, annalsModule, this.size, this.size.streams);
    // A weak reference holds what it refers to until the turn is over.
    await new Promise((resolve) => setTimeout(resolve));
    globalThis.gc();
    const value = made.filter((state) => state.deref() !== undefined).length;
    await engine.close();
    return { value };
  },
};

/** Bytes of the module's memory after so many streams. */
const memory = (aggregate, ofModule, streamsOf) => ({
  async sample() {
    const { module, memory } = watched(ofModule);
    const engine = await book(aggregate, module, this.size, streamsOf(this.size));
    const value = memory();
    await engine.close();
    return { value };
  },
});

const some = ({ streams }) => streams;
const manyMore = ({ streams }) => 10 * streams;
const native = nativeAggregate("Appointment");

const entrants = {
  "annals-states": states,
  "limit-states": { sample() { return { value: this.size.cachedStates }; } },
  "annals-ts-some": memory(appointment, annalsModule, some),
  "annals-ts-many": memory(appointment, annalsModule, manyMore),
  "annals-rust-some": memory(native, clinicModule, some),
  "annals-rust-many": memory(native, clinicModule, manyMore),
};

export const contestants = Object.fromEntries(
  Object.entries(entrants).map(([name, entrant]) => [name, ({ size }) => ({ ...entrant, size })]),
);
