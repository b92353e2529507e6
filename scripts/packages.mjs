// The npm side of the set-up: the locked packages, and the few large ones that are installed into
// .tools only where they are needed.

import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import path from "node:path";
import { Failure, hash, inRoot, isExecutable, run, step, tryRun, unlessUpToDate, which } from "./shell.mjs";

const minutes = 60_000;

const quiet = ["--no-audit", "--no-fund", "--no-update-notifier"];

/** The npm that started us, or else the one on the PATH. */
function npm(args, options) {
  const script = process.env.npm_execpath ?? "";
  return path.basename(script) === "npm-cli.js"
    ? run(process.execPath, [script, ...args], options)
    : run("npm", args, options);
}

/** node_modules as the lock file says. */
export async function setUpPackages() {
  await step("npm packages", async () => {
    const lock = await readFile(inRoot("package-lock.json"), "utf8");
    const { devDependencies, optionalDependencies } = JSON.parse(await readFile(inRoot("package.json"), "utf8"));
    const key = hash(lock, JSON.stringify([devDependencies, optionalDependencies]), process.platform, process.arch);
    return unlessUpToDate("packages", key, ["node_modules/.package-lock.json"], async () => {
      // No package needs its install script to work here, but for better-sqlite3, which has a
      // set-up step of its own because it may fail. NODE_ENV=production must not leave tools out.
      const scope = ["--ignore-scripts", "--include=dev", "--include=optional"];
      await npm(["ci", ...scope, ...quiet, "--prefer-offline"], { limit: 15 * minutes });
    });
  });
}

/**
 * One package, with its dependencies, in a folder of its own under .tools: too large for everyone's
 * node_modules, or with a program that must not shadow the system's in `npm run`.
 * Returns the package's folder.
 */
export async function installAside(name, version) {
  const prefix = inRoot(".tools/npm", name.replace("/", "+"));
  const folder = path.join(prefix, "node_modules", name);
  const manifest = path.join(folder, "package.json");
  if (existsSync(manifest) && JSON.parse(await readFile(manifest, "utf8")).version === version) return folder;
  await mkdir(prefix, { recursive: true });
  await writeFile(path.join(prefix, "package.json"), '{ "private": true }\n');
  // Under its own prefix npm would still take the settings that `npm run` passed down for ours.
  const env = { npm_config_local_prefix: prefix };
  await npm(
    ["install", "--prefix", prefix, "--no-save", "--no-package-lock", "--ignore-scripts", ...quiet, `${name}@${version}`],
    { cwd: prefix, env, limit: 10 * minutes },
  );
  return folder;
}

const bundlers = {
  "@rollup/plugin-node-resolve": "16.0.3",
  rollup: "4.68.7",
  vite: "8.3.8",
  webpack: "5.112.2",
};

/** The bundlers that browser tests bundle the package with; returns each one's folder by its name. */
export async function setUpBundlers() {
  const named = Object.entries(bundlers).map(([name, version]) => `${name} ${version}`);
  const folders = {};
  await step(`bundlers for the browser tests: ${named.join(", ")}`, async () => {
    for (const [name, version] of Object.entries(bundlers)) folders[name] = await installAside(name, version);
  });
  return folders;
}

const vitestVersion = "4.1.12";

/** Another test runner than Node's, which runs the suite for adapters too; returns its folder. */
export async function setUpVitest() {
  let folder;
  await step(`vitest ${vitestVersion}`, async () => void (folder = await installAside("vitest", vitestVersion)));
  return folder;
}

// The newest long-term release; the npm registry has its Linux builds as packages.
const newerNodeVersion = "24.21.0";

/**
 * A Node that has `node:sqlite`: this one, or else one from the npm registry.
 * Undefined where there is none for the platform.
 */
export async function setUpNewerNode() {
  if (isBuiltin("node:sqlite")) return process.execPath;
  if (process.platform !== "linux" || !["x64", "arm64"].includes(process.arch)) return undefined;
  let program;
  await step(`Node ${newerNodeVersion}, to test node:sqlite with`, async () => {
    const folder = await installAside(`node-linux-${process.arch}`, newerNodeVersion);
    program = path.join(folder, "bin/node");
    if (!isExecutable(program)) throw new Failure(`${program} is not there`);
  });
  return program;
}

const bunVersion = "1.4.5";

/** Bun's program, from the npm registry. Undefined where there is none for the platform. */
export async function setUpBun() {
  const builds = { x64: "linux-x64-baseline", arm64: "linux-aarch64" };
  const build = process.platform === "linux" ? builds[process.arch] : undefined;
  if (build === undefined) return undefined;
  let program;
  await step(`Bun ${bunVersion}`, async () => {
    program = path.join(await installAside(`@oven/bun-${build}`, bunVersion), "bin/bun");
    if (!isExecutable(program)) throw new Failure(`${program} is not there`);
  });
  return program;
}

/**
 * better-sqlite3's native part. Its own install script brings a built one from a place that is not
 * a package registry, or compiles it; where neither works, the tests that want it say so.
 */
export async function setUpBetterSqlite3() {
  await step("better-sqlite3's native part", async () => {
    const folder = inRoot("node_modules/better-sqlite3");
    const works = () =>
      tryRun(process.execPath, ["-e", `new (require(${JSON.stringify(folder)}))(":memory:").close()`]);
    if (!existsSync(folder)) return "left out: not installed on this platform";
    if ((await works()) !== undefined) return "up to date";
    try {
      await npm(["rebuild", "better-sqlite3"], { env: nodeHeaders(), limit: 8 * minutes });
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
    }
    if ((await works()) !== undefined) return;
    const missing = ["python3", "make", "g++"].filter((tool) => which(tool) === undefined);
    return missing.length > 0
      ? `left out: no built one could be downloaded, and compiling wants ${missing.join(", ")}`
      : "left out: it could neither be downloaded nor compiled";
  });
}

/**
 * What the benchmarks compare with, in benches/node_modules. Not by `npm ci`, which wants the lock
 * file to name every platform's packages, also those that a mirror of the registry may lack.
 */
export async function setUpPeers() {
  const folder = inRoot("benches");
  const env = { npm_config_local_prefix: folder };
  await step("peers for the benchmarks", async () => {
    const files = ["package.json", "package-lock.json"].map((name) => readFile(path.join(folder, name), "utf8"));
    const key = hash(...(await Promise.all(files)), process.platform, process.arch);
    return unlessUpToDate("peers", key, ["benches/node_modules/.package-lock.json"], async () => {
      const args = ["install", "--no-save", "--ignore-scripts", ...quiet, "--prefer-offline"];
      await npm(args, { cwd: folder, env, limit: 15 * minutes });
    });
  });
  await step("native part of sqlite3, which Emmett uses", async () => {
    const sqlite3 = path.join(folder, "node_modules/sqlite3");
    const works = () => tryRun(process.execPath, ["-e", `require(${JSON.stringify(sqlite3)})`]);
    if ((await works()) !== undefined) return "up to date";
    await npm(["rebuild", "sqlite3"], { cwd: folder, env: { ...env, ...nodeHeaders() }, limit: 15 * minutes });
  });
}

/** Node's own headers, if they came with it, save the compiler's download of them. */
function nodeHeaders() {
  const prefix = path.dirname(path.dirname(process.execPath));
  return existsSync(path.join(prefix, "include/node/node_version.h")) ? { npm_config_nodedir: prefix } : {};
}
