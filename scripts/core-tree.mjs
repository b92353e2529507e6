// The core does no IO: what it depends on has no way to reach a clock, randomness or JavaScript.

import { Failure, run } from "./shell.mjs";

const forbidden = ["wasm-bindgen", "js-sys", "web-sys", "serde-wasm-bindgen", "getrandom", "rand", "tokio"];
const forbiddenFeatures = { chrono: ["clock", "now", "wasmbind"] };

const core = ["-p", "annals", "--no-default-features"];

export async function checkCoreTree() {
  const tree = await run("cargo", ["tree", ...core, "-e", "normal", "--prefix", "none", "--format", "{p}|{f}"]);
  const crates = new Map();
  for (const line of tree.trim().split("\n")) {
    const [crate, features] = line.replace(" (*)", "").split("|");
    crates.set(crate.split(" ")[0], features.split(","));
  }
  const found = forbidden.filter((name) => crates.has(name));
  for (const [name, features] of Object.entries(forbiddenFeatures)) {
    const on = crates.get(name)?.filter((feature) => features.includes(feature)) ?? [];
    found.push(...on.map((feature) => `${name} with feature ${feature}`));
  }
  if (found.length > 0) throw new Failure(`The core's crate must not depend on ${found.join(", ")}:\n\n${tree}`);
  await run("cargo", ["build", ...core]);
  return `${crates.size} crates`;
}
