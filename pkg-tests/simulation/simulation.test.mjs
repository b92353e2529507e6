// The engine in WebAssembly does, step for step, what the native one does: the simulated host, whose
// digest is of everything the engines put out, gives the same digest in both.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { initSync, runSeeds } from "./pkg/simulation.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const wasm = await readFile(new URL("./pkg/simulation_bg.wasm", import.meta.url));
initSync({ module: wasm });

/** The last line of the example that runs seeds natively. */
async function native(from, seeds) {
  const example = ["run", "--quiet", "--release", "--features", "testing", "--example", "simulate"];
  const { stdout } = await promisify(execFile)("cargo", [...example, "--", "--from", from, "--seeds", seeds].map(String), { cwd: root });
  return stdout.trimEnd().split("\n").at(-1);
}

for (const [from, seeds] of [[0, 300], [1_000_000, 100]]) {
  test(`seeds ${from} to ${from + seeds - 1} run the same in WebAssembly as natively`, async () => {
    const told = await native(from, seeds);
    const [, steps, digest] = /(\d+) steps.* digest ([0-9a-f]{16})$/.exec(told) ?? [];
    assert.ok(Number(steps) > 100 * seeds, told);
    assert.equal(runSeeds(from, seeds), digest);
  });
}

test("other seeds have another digest", () => {
  assert.notEqual(runSeeds(0, 10), runSeeds(10, 10));
  assert.equal(runSeeds(0, 10), runSeeds(0, 10));
});
