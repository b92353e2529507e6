// The script of a page, or of its worker, that has an engine for the clinic: bundled as an
// application's would be, with the default entry.

import { AnnalsError, Engine, aggregate } from "annals";
import { indexedDbStorage } from "annals/indexeddb";
import { checkpoint } from "annals/subscriptions";
import { appointment } from "../clinic/appointment.ts";
import * as upcasting from "./upcasting.mjs";

Object.assign(globalThis, { AnnalsError, Engine, appointment, checkpoint, indexedDbStorage, upcasting });

/** Opens the page's engine, `engine`. */
globalThis.openEngine = async (options) => {
  globalThis.engine = await Engine.open({ storage: indexedDbStorage({ name: "clinic" }), aggregates: [appointment], ...options });
};

/** The clinic's aggregate with snapshots; `folded` counts the events it folds. */
globalThis.withSnapshots = (snapshots) => {
  const counts = { folded: 0 };
  const { evolve, ...functions } = appointment.functions;
  const counted = (state, event) => ((counts.folded += 1), evolve[event.type](state, event));
  return { counts, definition: aggregate("Appointment", { ...functions, evolve: counted, snapshots }) };
};

globalThis.logOf = async (options) => {
  const events = [];
  for await (const event of engine.events({ ...options, follow: false })) events.push(event);
  return events;
};

/** Gives commands, [aggregate id, command, options], so many at once, and tells what came of each. */
globalThis.give = async (commands, { atOnce = commands.length, onOutcome = () => undefined } = {}) => {
  const outcomes = [];
  const left = commands.entries();
  const giveOneByOne = async () => {
    for (const [index, [id, command, options]] of left) {
      const { ok, refusal, revision, commandId, duplicate } = await engine.attempt(appointment, id, command, options);
      outcomes[index] = { ok, refusal, revision, commandId, duplicate };
      onOutcome(index, outcomes[index]);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, giveOneByOne));
  return outcomes;
};

/** Changes one appointment without end: whenever the page ends, it is in the middle of something. */
globalThis.changeWithoutEnd = async (id, first, options) => {
  await engine.execute(appointment, id, first, options);
  for (let count = 0; ; count += 1) {
    await engine.execute(appointment, id, { type: "UpdateAppointment", data: { title: `Title ${count}` } }, options);
  }
};

globalThis.isReady = true;

// In a worker: the code of a function comes in, and what it returns goes out.
if (typeof document === "undefined") {
  addEventListener("message", async ({ data }) => postMessage(await (0, eval)(`(${data})`)()));
}
