// A process with one contestant: nobody else's garbage and nobody else's types are in its heap.
// Its parent forks it with `{ module, contestant, … }` as JSON and sends what it is to do.

import { Session } from "node:inspector/promises";
import { topFunctions } from "./profile.mjs";
import { sampleOf } from "./sampler.mjs";

const setup = JSON.parse(process.argv[2]);

// A parent that is killed takes its contestants along. Ctrl-C is the parent's matter.
process.on("disconnect", () => process.exit());
process.on("SIGINT", () => undefined);

// Some peers tell what they do.
for (const level of ["debug", "info", "log"]) console[level] = () => undefined;

const actions = {
  open: async () => {
    const { contestants } = await import(`../contestants/${setup.module}.mjs`);
    contestant = await contestants[setup.contestant](setup);
  },
  sample: () => sampleOf(contestant),
  profile: async ({ samples }) => {
    const session = new Session();
    session.connect();
    await session.post("Profiler.enable");
    await session.post("Profiler.setSamplingInterval", { interval: 200 });
    const { run } = contestant;
    if (run === undefined) throw new Error("it measures by itself, in processes of its own, and has no profile");
    const profiles = [];
    // Only what is timed is profiled.
    contestant.run = async (...args) => {
      await session.post("Profiler.start");
      const result = await run(...args);
      profiles.push((await session.post("Profiler.stop")).profile);
      return result;
    };
    for (let sample = 0; sample < samples; sample += 1) await sampleOf(contestant);
    return topFunctions(profiles);
  },
  close: () => contestant?.close?.(),
};

let contestant;

process.on("message", async ({ action, ...options }) => {
  try {
    process.send({ result: (await actions[action](options)) ?? null });
  } catch (error) {
    process.send({ error: error.stack ?? String(error) });
  }
});
