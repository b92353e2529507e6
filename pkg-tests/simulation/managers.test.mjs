// Process managers written here over a domain in Rust, in WebAssembly.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { processManager } from "annals/reactions";
import { Engine, nativeAggregate } from "annals/slim";
import { settled } from "../support/manager-rules.mjs";
import * as glue from "./pkg/simulation.js";

const wasm = await readFile(new URL("./pkg/simulation_bg.wasm", import.meta.url));
const tally = nativeAggregate("Tally");
const count = { type: "Count", data: {} };

test("a process manager reads events of a module's aggregate, and gives it commands", async () => {
  const pairs = processManager("pairs", {
    startAt: "beginning",
    initial: () => ({ odd: false }),
    key: ({ stream: { id } }) => (id.startsWith("pairs") ? null : id),
    on: {
      Counted({ odd }, { stream }, commands) {
        if (odd) commands.give(tally, `pairs of ${stream.id}`, count);
        return { odd: !odd };
      },
    },
  });
  const module = { glue, wasm };
  const engine = await Engine.open({ module, storage: memoryStorage(), aggregates: [tally], reactions: [pairs] });
  for (const id of ["t-1", "t-2", "t-1", "t-1", "t-1", "t-2", "t-2"]) await engine.execute(tally, id, count);
  await settled(engine, pairs);
  const revisions = await Promise.all(["t-1", "t-2"].map((id) => engine.state(tally, `pairs of ${id}`)));
  assert.deepEqual(revisions.map(({ revision }) => revision), [2, 1]);
  assert.deepEqual((await engine.reaction(pairs).status()).parked, []);
  await engine.close();
});
