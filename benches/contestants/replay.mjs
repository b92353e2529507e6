// A replay of events in JSON by the Rust domain: in the engine, in a bare module, natively.

import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { memoryStorage } from "annals/memory";
import { checkResult } from "../harness/sampler.mjs";
import { digestOf } from "../harness/digest.mjs";
import { bookings, changes, expectedOf } from "../workload.mjs";
import { clinics, evolve, toCommands } from "./clinic-node.mjs";

function workOf({ size: { events } }) {
  const all = [...bookings(1), ...changes(1, events - 1)];
  const lines = all.map(([, { type, data }]) => JSON.stringify({ [type]: data }));
  return { all, lines, expected: expectedOf(evolve, all) };
}

async function annals(setup) {
  const { size } = setup;
  const { all, expected } = workOf(setup);
  const storage = memoryStorage();
  const seed = await clinics.ts({ storage });
  await seed.give(toCommands(all), 512);
  await seed.close();
  let engines;
  let states;
  return {
    expected,
    async before() {
      engines = [];
      for (let round = 0; round < size.rounds; round += 1) engines.push(await clinics.rust({ storage }));
    },
    async run() {
      for (const clinic of engines) states = await clinic.states(1);
      return size.rounds * size.events;
    },
    check: () => digestOf(states),
    async after() {
      for (const clinic of engines) await clinic.close();
    },
  };
}

/** The module of benches/bare; `bytesOf` says what of the events is at hand when the time starts. */
const bare = (profile, inputOf, bytesOf) => async (setup) => {
  const { size } = setup;
  const { lines, expected } = workOf(setup);
  const folder = new URL(`../bare/pkg/${profile}/`, import.meta.url);
  const { initSync, replay } = await import(new URL("bare.js", folder));
  initSync({ module: readFileSync(new URL("bare_bg.wasm", folder)) });
  const input = inputOf(lines);
  let result;
  return {
    expected,
    run() {
      for (let round = 0; round < size.rounds; round += 1) result = replay(bytesOf(input));
      return size.rounds * size.events;
    },
    check: () => digestOf([JSON.parse(result)]),
  };
};

const encoder = new TextEncoder();
const toBytes = (lines) => encoder.encode(lines.join("\n"));
const same = (input) => input;

function native(setup) {
  const { size, folder } = setup;
  const { lines, expected } = workOf(setup);
  const file = path.join(folder, "events.jsonl");
  writeFileSync(file, lines.join("\n"));
  const program = fileURLToPath(new URL("../bare/pkg/bare", import.meta.url));
  return {
    async sample() {
      const { stdout } = await promisify(execFile)(program, [file, String(2 * size.rounds)]);
      const { seconds, result } = JSON.parse(stdout);
      checkResult(digestOf([result]), expected);
      return { count: 2 * size.rounds * size.events, seconds };
    },
  };
}

export const contestants = {
  "annals-rust": annals,
  floor: bare("wasm", toBytes, same),
  "floor-fast": bare("wasm-fast", toBytes, same),
  /** From texts, as a database's driver gives them. */
  "floor-texts": bare("wasm", same, toBytes),
  "floor-native": native,
};
