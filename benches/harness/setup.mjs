// What the benchmarks need besides the package itself.

import { setUpBrowser } from "../../scripts/browser.mjs";
import { build, setUpBuild } from "../../scripts/build.mjs";
import { setUpNewerNode, setUpPeers } from "../../scripts/packages.mjs";
import { Failure, run, say } from "../../scripts/shell.mjs";
import { buildBare, buildNamed } from "./modules.mjs";

/** Builds the package, installs the peers and finds the Nodes to run on. */
export async function setUp(cases, { node, profile }) {
  say("Set-up");
  const tools = await setUpBuild();
  await build(tools);
  await setUpPeers();
  const nodes = await findNodes(node);
  const needs = new Set(cases.flatMap(({ needs = [] }) => needs));
  if (needs.has("bare")) await buildBare(tools);
  if (needs.has("browser")) process.env.CHROME_PATH = await setUpBrowser();
  return { nodes, modules: profile === undefined ? undefined : await buildNamed(tools) };
}

/** This Node, and a current one; each with the SQLite drivers to run with. */
async function findNodes(only) {
  const programs = new Set([process.execPath, (await setUpNewerNode()) ?? process.execPath]);
  const nodes = [];
  for (const program of programs) {
    const version = (await run(program, ["--version"])).trim().slice(1);
    const major = version.split(".")[0];
    const drivers = Number(major) >= 24 ? ["node:sqlite", "libsql"] : ["libsql"];
    if (only === undefined || major === only) nodes.push({ program, version, major, drivers });
  }
  if (nodes.length === 0) throw new Failure(`there is no Node ${only} here`);
  return nodes;
}
