// The demo (www/dist) in a real browser, and what tests do with it.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { serve } from "../../scripts/serve.mjs";
import { launch, patience, startProcess } from "./browser.mjs";

const dist = fileURLToPath(new URL("../../www/dist", import.meta.url));

/** A browser and a server for it. `visitor()` is a new one, with a store of its own. */
export async function startDemo() {
  const browser = await launch();
  const server = await serve(dist, { port: 0 });
  const processes = [];
  return {
    async visitor() {
      // Far from UTC, so that a mix-up of local time and UTC shows.
      const context = await browser.newContext({ timezoneId: "America/New_York" });
      return new Visitor(context, server.url);
    },
    /** A browser of its own, with its profile in a folder, that can be killed. */
    async mortal(profile) {
      const started = await startProcess(profile);
      processes.push(started);
      const visitor = new Visitor(started.context, server.url);
      return { tab: () => visitor.tab(), kill: started.kill };
    },
    async close() {
      await Promise.all(processes.map(({ kill }) => kill()));
      await browser.close();
      server.close();
    },
  };
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
    page.setDefaultTimeout(patience);
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
export async function showDay(page, day) {
  await page.fill("#day", day);
  // Drawn with the next frame, which would also write the day into the field again.
  await page.locator(`#days button[value="${day}"][aria-current="date"]`).waitFor({ state: "attached" });
}

/** What has the focus, as screen readers call it; empty when it is nowhere. */
export const focused = (page) => page.evaluate(nameOfFocused);

/** Waits until that has the focus. */
export const focusIs = (page, name) => eventually(page, nameOfFocused, name);

function nameOfFocused() {
  const element = document.activeElement;
  // The browser takes the focus from what is hidden or can't be used, but only with its next frame.
  const usable = element !== document.body && element.checkVisibility() && !element.matches(":disabled, [inert] *");
  return usable ? (element.getAttribute("aria-label") ?? element.textContent) : "";
}

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
export const agenda = (page) => page.evaluate(namesOfBlocks);

/** Waits until the agenda shows exactly these. */
export const agendaShows = (page, expected) => eventually(page, namesOfBlocks, expected);

function namesOfBlocks() {
  return [...document.querySelectorAll(".block")].map((block) => block.getAttribute("aria-label"));
}

/** What an appointment's log says: `1 Booked AppointmentBooked …`. */
export const logLines = async (page) => {
  // Until an appointment is shown there, the panel has the log of all.
  await page.waitForSelector("#panel .status");
  return page.locator("#panel .log button").evaluateAll((lines) => lines.map((line) => [...line.children].map((part) => part.innerText.replace(/\s+/g, " ").trim()).filter(Boolean)));
};

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

/** Waits until what is found in the page, looked at in one go, is what is expected. */
export async function eventually(page, find, expected) {
  try {
    // Of a text that is a function, `waitForFunction` would find that it is true.
    const holds = ([source, expected]) => JSON.stringify((0, eval)(`(${source})`)()) === expected;
    await page.waitForFunction(holds, [String(find), JSON.stringify(expected)]);
  } catch (error) {
    assert.deepEqual(await page.evaluate(find), expected);
    throw error;
  }
}
