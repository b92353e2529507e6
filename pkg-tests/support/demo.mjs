// The demo (www/dist) in a real browser, and what tests do with it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "../../scripts/serve.mjs";
import { executablePath, flags } from "./chromium.mjs";

const dist = fileURLToPath(new URL("../../www/dist", import.meta.url));

/** A browser and a server for it. `visitor()` is a new one, with a store of its own. */
export async function startDemo() {
  const server = await serve(dist, { port: 0 });
  const browser = await chromium.launch({ executablePath, args: flags });
  const processes = [];
  return {
    async visitor() {
      // Far from UTC, so that a mix-up of local time and UTC shows.
      const context = await browser.newContext({ timezoneId: "America/New_York" });
      return new Visitor(context, server.url);
    },
    /** A browser of its own, with its profile in a folder, that can be killed. */
    async mortal(profile) {
      const started = await startProcess(executablePath, profile);
      processes.push(started);
      const visitor = new Visitor(started.browser.contexts()[0], server.url);
      return { tab: () => visitor.tab(), kill: started.kill };
    },
    async close() {
      await Promise.all(processes.map(({ kill }) => kill()));
      await browser.close();
      server.close();
    },
  };
}

async function startProcess(executablePath, profile) {
  const own = ["--headless", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${profile}`];
  // A group of its own, so that all its processes can be killed together.
  const child = spawn(executablePath, [...flags, ...own, "about:blank"], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  const exit = once(child, "exit");
  const address = new Promise((resolve, reject) => {
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said += text;
      const found = /ws:\/\/\S+/.exec(said);
      if (found) resolve(found[0]);
    });
    exit.then(() => reject(new Error(`the browser ended: ${said}`)));
  });
  const browser = await chromium.connectOverCDP(await address);
  const kill = async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, "SIGKILL");
    await exit;
    await browser.close();
  };
  return { browser, kill };
}

class Visitor {
  #errors = [];

  constructor(context, url) {
    this.context = context;
    this.url = url;
  }

  /** Another tab with the clinic in it, ready. */
  async tab() {
    const page = await this.context.newPage();
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => this.#errors.push(error));
    page.on("console", (message) => {
      if (message.type() === "error") this.#errors.push(new Error(message.text()));
    });
    await page.goto(this.url);
    await ready(page);
    return page;
  }

  /** The errors so far were meant to be. */
  expectErrors() {
    this.#errors = [];
  }

  /** Ends the visit; fails if a page had an error that nobody expected. */
  async leave() {
    await this.context.close();
    assert.deepEqual(this.#errors, []);
  }
}

/** Waits until the clinic is open in a page. */
export const ready = (page) => page.waitForSelector("body:not(.loading)");

/** The day so many days from today, where the visitor is: 2026-11-23. */
export const day = (page, days) =>
  page.evaluate((days) => {
    const date = new Date();
    date.setDate(date.getDate() + days);
    const two = (n) => String(n).padStart(2, "0");
    return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  }, days);

/** Shows a day in the agenda. */
export const showDay = (page, day) => page.fill("#day", day);

/** Fills in fields of the form that is open, and gives what it asks for. */
export async function submit(page, form, fields) {
  for (const [name, value] of Object.entries(fields)) {
    const field = page.locator(`${form} [name=${name}]`);
    if (await field.evaluate((element) => element instanceof HTMLSelectElement)) await field.selectOption(value);
    else await field.fill(value);
  }
  await page.click(`${form} button[type=submit]`);
}

/** Books through the dialog. */
export async function book(page, fields) {
  await page.click("#book");
  await submit(page, "#booking", fields);
}

/** The appointments in the agenda, as screen readers read them. */
export const agenda = (page) =>
  page.locator(".block").evaluateAll((blocks) => blocks.map((block) => block.getAttribute("aria-label")));

/** Waits until the agenda shows exactly these. */
export async function agendaShows(page, expected) {
  await eventually(page, expected, (wanted) => {
    const found = [...document.querySelectorAll(".block")].map((block) => block.getAttribute("aria-label"));
    return JSON.stringify(found) === JSON.stringify(wanted);
  }, async () => assert.deepEqual(await agenda(page), expected));
}

/** What an appointment's log says: `1 Booked AppointmentBooked …`. */
export const logLines = (page) =>
  page.locator("#panel .log button").evaluateAll((lines) => lines.map((line) => [...line.children].map((part) => part.innerText.replace(/\s+/g, " ").trim()).filter(Boolean)));

/** Where the form that is open shows a problem, and what: `{ doctor: "…" }`, or "" for the whole form. */
export const problems = (page, form) =>
  page.locator(`${form} .problem:not(:empty)`).evaluateAll((shown) =>
    Object.fromEntries(
      shown.map((problem) => [problem.parentElement.querySelector("[aria-invalid=true]")?.name ?? "", problem.textContent]),
    ),
  );

/** Waits for a problem and returns all there are. */
export async function refused(page, form) {
  await page.waitForSelector(`${form} .problem:not(:empty)`);
  return problems(page, form);
}

async function eventually(page, argument, holds, explain) {
  try {
    await page.waitForFunction(holds, argument, { timeout: 10_000 });
  } catch (error) {
    await explain();
    throw error;
  }
}
