// The clinic's domain, twice: in TypeScript and in Rust. Runs in Node and in pages, which each find
// the domains in their own way: see clinic-node.mjs and clinic-page.mjs.

import { Engine, aggregate } from "annals";
import { Engine as SlimEngine, nativeAggregate } from "annals/slim";
import { digestOf } from "../harness/digest.mjs";
import { commandFor, idOf, inFlight } from "../workload.mjs";

/**
 * The ways to open an engine for the clinic. `module` is that of the domain in Rust; `wasm` is code
 * to take instead of the package's own.
 */
export function clinicsOf(appointment, module, wasm) {
  const opened = (Engine, aggregate, own) => async (options) =>
    new Clinic(await Engine.open({ ...own, ...options, aggregates: [aggregate] }), aggregate);
  const ready = wasm === undefined ? {} : { wasm };
  const { reads: _reads, tags: _tags, ...alone } = appointment.functions;
  return {
    ts: opened(Engine, appointment, ready),
    /** Without the rule that reads others, and without the tags it needs. */
    "ts-without-reads": opened(Engine, aggregate("Appointment", alone), ready),
    rust: opened(SlimEngine, nativeAggregate("Appointment"), { module }),
  };
}

/** The domain's own functions, for those who call them without an engine. */
export function functionsOf({ functions: { decide, evolve } }) {
  return { decide, evolve: (state, event) => evolve[event.type](state, event) };
}

/** An engine with the clinic's appointments. */
class Clinic {
  constructor(engine, appointment) {
    this.engine = engine;
    this.appointment = appointment;
  }

  /** Gives commands, which `toCommands` made, so many at a time. */
  async give(commands, lanes) {
    const { engine, appointment } = this;
    await inFlight(lanes, commands, ({ id, command }) => engine.execute(appointment, id, command));
    return commands.length;
  }

  /** Revision and state of so many streams, asked for one by one. */
  async states(streams, options) {
    const { engine, appointment } = this;
    const states = [];
    for (let stream = 0; stream < streams; stream += 1) {
      states.push(await engine.state(appointment, idOf(stream), options));
    }
    return states;
  }

  /** The same, so many asked for at once. */
  async statesInBulk(streams, chunk = 1_000) {
    const { engine, appointment } = this;
    const states = [];
    for (let first = 0; first < streams; first += chunk) {
      const ids = Array.from({ length: Math.min(chunk, streams - first) }, (_, index) => idOf(first + index));
      states.push(...(await Promise.all(ids.map((id) => engine.state(appointment, id)))));
    }
    return states;
  }

  async digest(streams) {
    return digestOf(await this.states(streams));
  }

  close() {
    return this.engine.close();
  }
}

export const toCommands = (events) =>
  events.map(([stream, event]) => ({ id: idOf(stream), command: commandFor(event) }));
