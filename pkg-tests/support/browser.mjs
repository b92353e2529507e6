// A real browser: one for tests to share, and others that can be killed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";
import { executablePath, flags } from "./chromium.mjs";
import { mendLogs } from "./leveldb-logs.mjs";

/** How long to wait for a page, in milliseconds: long, for the machine may have much else to do. */
export const patience = 60_000;

export const launch = () => chromium.launch({ executablePath, args: flags, timeout: patience });

/** A folder for a browser's profile, and the way to remove it. */
export async function temporaryProfile() {
  const folder = await mkdtemp(path.join(tmpdir(), "annals-profile-"));
  // A killed browser's other processes end a little later, and write until then.
  return { folder, remove: () => rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }) };
}

/** A browser with a profile of its own, started as a process that can be killed. */
export async function startProcess(profile) {
  const own = ["--headless", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${profile}`];
  // A group of its own, so that all its processes can be killed together.
  const child = spawn(executablePath, [...flags, ...own, "about:blank"], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  const killGroup = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, "SIGKILL");
  };
  process.once("exit", killGroup);
  const exit = once(child, "exit").finally(() => process.off("exit", killGroup));
  const address = new Promise((resolve, reject) => {
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said += text;
      const found = /ws:\/\/\S+/.exec(said);
      if (found) resolve(found[0]);
    });
    exit.then(() => reject(new Error(`the browser has ended: ${said}`)), reject);
  });
  const browser = await chromium.connectOverCDP(await address);
  return {
    context: browser.contexts()[0],
    /** Ends it as a crash would. May be called again. Tells how many of its databases had to be mended. */
    async kill() {
      killGroup();
      await exit;
      await browser.close();
      return mendLogs(profile);
    },
  };
}

/** Fails when the page ends or has an error: to be raced with what the page is to say. */
export function failureOf(page) {
  return new Promise((_, reject) => {
    page.once("pageerror", reject);
    page.once("crash", () => reject(new Error("the page has crashed")));
    page.once("close", () => reject(new Error("the page has ended")));
  });
}
