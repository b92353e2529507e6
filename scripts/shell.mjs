// What every script here needs: named steps with their time, commands that can't hang, and
// "skip what is up to date". Node built-ins only: it runs before any package is installed.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync, constants, existsSync, readFileSync, rmSync, statSync, writeFileSync,
} from "node:fs";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { constants as os, homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. Every relative path in these scripts starts here. */
export const root = fileURLToPath(new URL("..", import.meta.url));

export const inRoot = (...parts) => path.join(root, ...parts);

/** A failure whose message is all a person needs: it is printed without a stack. */
export class Failure extends Error {}

export const isRoot = process.getuid?.() === 0;

// --- Steps ------------------------------------------------------------------------------------

const startedAt = performance.now();
let lineIsOpen = false;

/** Ends a step's unfinished line before something else prints. */
function closeLine() {
  if (lineIsOpen) process.stdout.write("\n");
  lineIsOpen = false;
}

export function say(text) {
  closeLine();
  console.log(text);
}

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

export const elapsed = () => seconds(performance.now() - startedAt);

/**
 * Prints the name before the work and the time after it. What `work` returns, if it is a string,
 * is a remark for the same line.
 */
export async function step(name, work) {
  closeLine();
  process.stdout.write(`- ${name} ... `);
  lineIsOpen = true;
  const start = performance.now();
  const end = (word) => {
    process.stdout.write(lineIsOpen ? `${word}\n` : `- ${name}: ${word}\n`);
    lineIsOpen = false;
  };
  try {
    const remark = await work();
    end(seconds(performance.now() - start) + (typeof remark === "string" ? ` (${remark})` : ""));
  } catch (error) {
    end(`FAILED after ${seconds(performance.now() - start)}`);
    throw error;
  }
}

/** Runs a script's main function and turns its failure into an exit code. */
export async function main(work) {
  try {
    await work();
  } catch (error) {
    closeLine();
    console.error(error instanceof Failure ? `\n${error.message}` : error);
    process.exitCode = 1;
  }
}

// --- Commands ---------------------------------------------------------------------------------

/** Process groups that are running, so that no child outlives a script that is stopped. */
const groups = new Set();

function killGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended by itself.
  }
}

let stop = (signal) => process.exit(128 + os.signals[signal]);

/** What to do on Ctrl-C and its like once there is something that ends in order. */
export const whenStopped = (work) => (stop = work);

function stopOn(signal) {
  for (const pid of groups) killGroup(pid, "SIGTERM");
  stop(signal);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, stopOn);

// npm passes a signal to the shell between it and us, which may die of it and not pass it on.
if (process.env.npm_lifecycle_event !== undefined) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    stopOn("SIGTERM");
  }, 200);
  watch.unref();
}
process.on("exit", () => {
  for (const pid of groups) killGroup(pid, "SIGKILL");
});

const minutes = 60_000;

/**
 * Runs a command to its end and returns what it printed to its standard output.
 *
 * Every command has a time limit, in milliseconds, after which its whole process group is killed.
 * With `show` its output goes to the terminal as it comes; without, it is shown only on failure.
 */
export async function run(command, args, { cwd = root, env = {}, limit = 30 * minutes, show = false } = {}) {
  if (show) closeLine();
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    // A group of its own can be killed as a whole, and is not hit by Ctrl-C before we are.
    detached: true,
    stdio: ["ignore", show ? "inherit" : "pipe", show ? "inherit" : "pipe"],
  });
  let stdout = "";
  let all = "";
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    stdout += text;
    all += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => (all += text));

  const called = [path.basename(command), ...args].join(" ");
  const { pid } = child;
  if (pid !== undefined) groups.add(pid);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(pid, "SIGTERM");
    setTimeout(() => killGroup(pid, "SIGKILL"), 2_000).unref();
  }, limit);
  try {
    const [code, signal] = await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once(show ? "exit" : "close", (...end) => resolve(end));
    });
    if (code === 0) return stdout;
    const how = timedOut ? `took longer than ${seconds(limit)}` : `ended with ${signal ?? `code ${code}`}`;
    throw new Failure(`${called}\n${how}${all === "" ? "" : `:\n\n${lastLines(all, 60)}`}`);
  } catch (error) {
    if (error.code === "ENOENT") throw new Failure(`${called}\ncould not start: ${command} was not found`);
    throw error;
  } finally {
    clearTimeout(timer);
    groups.delete(pid);
  }
}

/** What a command prints, or undefined if it can't be run or fails. */
export async function tryRun(command, args, options) {
  try {
    return (await run(command, args, { limit: 1 * minutes, ...options })).trim();
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

const lastLines = (text, count) => text.trimEnd().split("\n").slice(-count).join("\n");

/** The absolute path of a program on the PATH. */
export function which(program) {
  for (const directory of (process.env.PATH ?? "").split(path.delimiter)) {
    const file = path.join(directory, program);
    if (directory !== "" && isExecutable(file)) return file;
  }
  return undefined;
}

export function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

// rustup writes its directory into a login shell's profile only; a container often has none.
if (which("cargo") === undefined) {
  const cargoHome = process.env.CARGO_HOME ?? path.join(homedir(), ".cargo");
  process.env.PATH = [process.env.PATH, path.join(cargoHome, "bin")].join(path.delimiter);
}

let aptIsFresh = false;

/** Brings the package lists up to date once. A broken extra source must not stop us: the install tells. */
export async function aptUpdate() {
  if (!aptIsFresh) await tryRun("apt-get", ["update"], { limit: 3 * minutes });
  aptIsFresh = true;
}

export const canApt = () => isRoot && which("apt-get") !== undefined;

export async function aptInstall(packages) {
  await aptUpdate();
  await run("apt-get", ["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", ...packages], {
    env: { DEBIAN_FRONTEND: "noninteractive" },
    limit: 15 * minutes,
  });
}

// --- Up to date -------------------------------------------------------------------------------

/** Every file under the given files and folders, sorted; missing ones and `skip`ped names are left out. */
export async function listFiles(paths, skip = () => false) {
  const found = [];
  const visit = async (file) => {
    if (!existsSync(file) || skip(path.relative(root, file))) return;
    if (!statSync(file).isDirectory()) return void found.push(file);
    for (const name of await readdir(file)) await visit(path.join(file, name));
  };
  for (const file of paths) await visit(path.resolve(root, file));
  return found.sort();
}

export function hash(...parts) {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(part).update("\0");
  return sum.digest("hex");
}

/** Of names and contents, so that a rename counts as a change. */
export async function hashFiles(paths, skip) {
  const parts = [];
  for (const file of await listFiles(paths, skip)) parts.push(path.relative(root, file), await readFile(file));
  return hash(...parts);
}

/**
 * Calls `make` unless its `outputs` are just as they were after an earlier call with the same `key`.
 * Returns the remark for the step's line.
 */
export async function unlessUpToDate(name, key, outputs, make) {
  const stamp = inRoot(".tools/stamps", `${name}.json`);
  const state = () => JSON.stringify({ key, outputs: outputs.map(fingerprint) });
  if (existsSync(stamp) && (await readFile(stamp, "utf8")) === state()) return "up to date";
  const remark = await make();
  await mkdir(path.dirname(stamp), { recursive: true });
  await writeFile(stamp, state());
  return remark;
}

/** Lets two scripts, say `npm start` and `npm test`, not write the same folders at the same time. */
export async function exclusively(name, work) {
  const lock = inRoot(".tools", `${name}.lock`);
  await mkdir(path.dirname(lock), { recursive: true });
  for (let told = false; !tryLock(lock); told = true) {
    if (!told) say(`Waiting for another ${name}, process ${readFileSync(lock, "utf8")} ...`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  const release = () => rmSync(lock, { force: true });
  process.once("exit", release);
  try {
    return await work();
  } finally {
    release();
    process.off("exit", release);
  }
}

function tryLock(lock) {
  try {
    writeFileSync(lock, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  try {
    // Signal 0 only asks whether the holder is alive. A killed one leaves its lock behind.
    process.kill(Number(readFileSync(lock, "utf8")), 0);
  } catch (error) {
    if (error.code === "ESRCH") rmSync(lock, { force: true });
  }
  return false;
}

/** Cheap, and changes whenever somebody else writes or removes the output. */
function fingerprint(file) {
  const stat = statSync(path.resolve(root, file), { throwIfNoEntry: false });
  if (stat === undefined) return `${file} missing`;
  return stat.isDirectory() ? `${file} folder` : `${file} ${stat.size} ${stat.mtimeMs}`;
}
