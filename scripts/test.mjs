// `npm test`: sets up what is missing and runs every check, stopping at the first that fails.
//
//   npm test                          everything, in this order
//   npm test -- --only node,browser   some steps
//   npm test -- --list                the steps' names

import { availableParallelism } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { setUpBrowser } from "./browser.mjs";
import { build, buildSimulation, setUpBuild } from "./build.mjs";
import { checkConformanceTable } from "./conformance-table.mjs";
import { checkCoreTree } from "./core-tree.mjs";
import { checkLicences } from "./licences.mjs";
import { checkPackage } from "./package-check.mjs";
import { setUpBetterSqlite3, setUpBun, setUpBundlers, setUpNewerNode, setUpPackages, setUpVitest } from "./packages.mjs";
import { Failure, elapsed, inRoot, listFiles, main, run, say, step } from "./shell.mjs";
import { setUpCargo, setUpLinters } from "./toolchain.mjs";

/** Each check, and what has to be set up or built before it. The build's own steps are its check. */
const checks = [
  { name: "format", needs: ["rust"], check: checkFormat },
  { name: "clippy", needs: ["rust"], check: checkClippy },
  { name: "rust-tests", needs: ["rust"], check: checkRustTests },
  { name: "core-tree", needs: ["rust"], check: checkCoreTree },
  { name: "rustdoc", needs: ["rust"], check: checkDocs },
  { name: "licences", needs: ["rust", "packages"], check: checkLicences },
  { name: "build", needs: ["build"] },
  { name: "types", needs: ["build"], check: checkTypes },
  { name: "package", needs: ["build"], check: checkPackage },
  { name: "node", needs: ["build", "drivers"], check: checkNode },
  { name: "bun", needs: ["build", "drivers", "bun"], check: checkBun },
  { name: "simulation", needs: ["build", "simulation"], check: () => nodeTests("pkg-tests/simulation") },
  { name: "browser", needs: ["build", "browser"], check: () => nodeTests("pkg-tests/browser", { together: availableParallelism() }) },
  { name: "adapters", needs: ["build"], check: checkConformanceTable },
];

const minutes = 60_000;

/** What does not run in Bun, and why. */
const notInBun = {
  "adapters-page.test.mjs": "runs tests of Node's own runner as a program",
  "conformance-runners.test.mjs": "runs vitest, which is made for Node",
  "clinic-parity.test.mjs": "compares with native Rust, for which it builds",
  "engine-postgres-crashes.test.mjs": "kills servers and connections, which are the same for every client",
  "storage-pglite.test.mjs": "the SQL is that of the server, which is tested",
  "readme.test.mjs": "compares what is printed, and Bun prints values in another way",
};

/** The files that open stores by drivers. */
const opensByDriver = /^(archive|cli|crashes|engine-(?!postgres)|storage-sqlite|verify)/;

/** A Node that has node:sqlite, where there is one. */
let newerNode;

let bun;

await main(async () => {
  const { values } = parseArgs({
    options: { only: { type: "string", multiple: true }, list: { type: "boolean" } },
  });
  if (values.list) return say(checks.map(({ name }) => name).join("\n"));

  const names = (values.only ?? []).flatMap((text) => text.split(","));
  const unknown = names.filter((name) => !checks.some((check) => check.name === name));
  if (unknown.length > 0) throw new Failure(`No such step: ${unknown.join(", ")} (npm test -- --list shows them)`);
  const selected = checks.filter(({ name }) => names.length === 0 || names.includes(name));

  const tools = await setUp(new Set(selected.flatMap(({ needs }) => needs)));
  const built = new Set();
  for (const { name, needs, check } of selected) {
    for (const [need, make] of [["build", build], ["simulation", buildSimulation]]) {
      if (!needs.includes(need) || built.has(need)) continue;
      await make(tools);
      built.add(need);
    }
    if (check !== undefined) await step(name, check);
  }
  say(`\n${selected.length} of ${checks.length} steps were run and passed, in ${elapsed()}.`);
});

/** First of all, so that what can't be had is known before anything is compiled. */
async function setUp(needs) {
  say("Set-up");
  let tools;
  if (needs.has("rust")) {
    await setUpCargo();
    await setUpLinters();
  }
  if (needs.has("build")) tools = await setUpBuild();
  else if (needs.has("packages")) await setUpPackages();
  if (needs.has("drivers")) {
    await setUpBetterSqlite3();
    await setUpVitest();
    newerNode = await setUpNewerNode();
  }
  if (needs.has("bun")) bun = await setUpBun();
  if (needs.has("browser")) {
    process.env.CHROME_PATH = await setUpBrowser();
    await setUpBundlers();
  }
  say("Checks");
  return tools;
}

async function checkFormat() {
  await run("cargo", ["fmt", "--all", "--check"]);
  await run("cargo", ["fmt", "--check", "--manifest-path", "scripts/bindgen/Cargo.toml"]);
}

async function checkClippy() {
  await run("cargo", ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]);
  // It is documented without features.
  await run("cargo", ["check", "--example", "simulate"]);
}

async function checkRustTests() {
  await run("cargo", ["test", "--workspace", "--all-features"], { show: true });
}

async function checkDocs() {
  const env = { RUSTDOCFLAGS: "-D warnings" };
  await run("cargo", ["doc", "--workspace", "--no-deps", "--all-features"], { env });
}

async function checkTypes() {
  const projects = (await listFiles(["src/host", "pkg-tests", "www"], (file) => /[\\/](pkg|dist|node_modules)$/.test(file)))
    .filter((file) => /[\\/]tsconfig(\.[\w-]+)?\.json$/.test(file));
  for (const project of projects) {
    await run(process.execPath, [inRoot("node_modules/typescript/bin/tsc"), "--noEmit", "-p", project]);
  }
  return `${projects.length} projects`;
}

/** On this Node, and what opens a store by a driver on a newer one too, with the driver that it has more. */
async function checkNode() {
  await withPostgres(async (env) => {
    await inTwoParts({ env });
    if (newerNode === undefined || newerNode === process.execPath) return;
    say(`  with Node ${await run(newerNode, ["--version"])}`);
    await inTwoParts({ node: newerNode, env: { ...env, ANNALS_TEST_STORES: "node:sqlite" }, only: opensByDriver });
  });
}

/**
 * What engines do, one file after the other: processes of their own and a server of PostgreSQL take the
 * other core. Then the rest, whose tests wait for nobody.
 */
async function inTwoParts({ only = /./, ...options }) {
  const isOfEngines = (file) => /^(engine|crashes)/.test(file);
  await nodeTests("pkg-tests/node", { ...options, isWanted: (file) => isOfEngines(file) && only.test(file) });
  const together = availableParallelism();
  await nodeTests("pkg-tests/node", { ...options, together, isWanted: (file) => !isOfEngines(file) && only.test(file) });
}

/** The tests of Node, in Bun and with its own SQLite driver. */
async function checkBun() {
  if (bun === undefined) return "left out: no Bun for this platform";
  const files = (await testsIn("pkg-tests/node")).filter((file) => !(path.basename(file) in notInBun));
  await withPostgres((env) =>
    run(bun, ["test", `--timeout=${minutes}`, ...files], {
      env: { ...env, ANNALS_TEST_STORES: "memory,bun:sqlite" },
      show: true,
      limit: 10 * minutes,
    }),
  );
}

/** A PostgreSQL server for all tests of the run. */
async function withPostgres(work) {
  const { Server } = await import("../pkg-tests/support/postgres-server.mjs");
  const server = await Server.start();
  try {
    await work({ ANNALS_TEST_POSTGRES: JSON.stringify(server.connection) });
  } finally {
    await server.stop();
  }
}

async function testsIn(folder) {
  const files = (await listFiles([folder])).filter((file) => file.endsWith(".test.mjs"));
  if (files.length === 0) throw new Failure(`${folder} has no tests`);
  return files;
}

async function nodeTests(folder, { node = process.execPath, env, isWanted = () => true, together = 1 } = {}) {
  const files = (await testsIn(folder)).filter((file) => isWanted(path.basename(file)));
  const flags = [
    "--test",
    "--test-reporter=spec",
    // A file that hangs, say because a failed test left its browser open, must not hold up the rest.
    `--test-timeout=${5 * minutes}`,
    `--test-concurrency=${together}`,
  ];
  await run(node, [...flags, ...files], { env, show: true, limit: 20 * minutes });
}
