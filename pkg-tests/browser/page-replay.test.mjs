// Time travel in the demo: any number of events of the log, and the agenda as it was after them.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { agenda, agendaShows, book, day, eventually, showDay, startDemo, submit } from "../support/demo.mjs";

let demo;
let visitor;
let page;

const booked = "09:00–09:30, Knee, Inês Duarte, Dr Amara Okafor, Booked";
const confirmed = "09:00–09:30, Knee, Inês Duarte, Dr Amara Okafor, Confirmed";
const moved = "10:00–10:30, Knee, Inês Duarte, Dr Amara Okafor, Booked";
const other = "09:00–09:30, Rash, Inês Duarte, Dr Yui Tanaka, Booked";

before(async () => (demo = await startDemo()));
after(() => demo?.close());
beforeEach(async () => {
  visitor = await demo.visitor();
  page = await visitor.tab();
  await showDay(page, await day(page, 1));
  await book(page, { doctor: "okafor", room: "1", title: "Knee", start: "09:00", end: "09:30" });
  await agendaShows(page, [booked]);
  await page.click("#panel >> text=Confirm");
  await agendaShows(page, [confirmed]);
  await page.click("#panel >> text=Reschedule");
  await submit(page, "#panel", { start: "10:00" });
  await agendaShows(page, [moved]);
  await book(page, { doctor: "tanaka", room: "3", title: "Rash", start: "09:00", end: "09:30" });
  await agendaShows(page, [moved, other]);
});
afterEach(() => visitor.leave());

/** Moves the slider, and waits until the page shows that. */
async function slideTo(count) {
  // The agenda may be ahead of the log.
  await page.locator("#slider[max='4']").fill(String(count));
  const words = count === 0 ? /^Before the first of 4 events/ : new RegExp(`event ${count} of 4`);
  await page.locator("#replay-time").filter({ hasText: words }).waitFor();
}

test("the slider shows the agenda as it was after each event", async () => {
  const expected = [[], [booked], [confirmed], [moved], [moved, other]];
  for (const count of [4, 0, 3, 1, 2]) {
    await slideTo(count);
    await agendaShows(page, expected[count]);
    const words = count === 0 ? /^Before the first of 4 events/ : new RegExp(`event ${count} of 4`);
    await page.locator("#replay-time", { hasText: words }).waitFor();
  }
});

test("the past can be looked at but not changed; live is one step away", async () => {
  await page.click(".block >> nth=0");
  await slideTo(1);
  await agendaShows(page, [booked]);
  assert.match(await page.textContent("#panel .past"), /the past/);
  assert.equal(await page.locator("#panel form, #panel .actions").count(), 0);
  const lines = page.locator("#panel .log li");
  assert.deepEqual(await lines.evaluateAll((all) => all.map((line) => line.className)), ["", "later", "later"]);

  await page.click("#live");
  await agendaShows(page, [moved, other]);
  assert.equal(await page.locator("#panel .actions").count(), 1);
});

test("the past of an appointment tells what has changed since, and by which events", async () => {
  // Asked in the page and at once: it may be drawn anew at any moment.
  const since = () => {
    const lines = [...document.querySelectorAll("#panel .since dt")].map((term) =>
      [term, ...term.nextElementSibling.children].map((part) => part.textContent),
    );
    return [...lines, document.querySelector("#panel .since .hint")?.textContent];
  };
  const told = (expected) => eventually(page, since, expected);
  const when = (time) => page.evaluate(([day, time]) => {
    const format = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
    return `${format.format(new Date(`${day}T00:00`))}, ${time}`;
  }, [tomorrow, time]);
  const tomorrow = await day(page, 1);
  const [nine, halfPast, ten, later] = await Promise.all(["09:00", "09:30", "10:00", "10:30"].map(when));
  const moved = [["From", nine, ten], ["To", halfPast, later]];

  await page.click(".block >> nth=0");
  assert.equal(await page.locator("#panel .since").count(), 0);
  await slideTo(2);
  await told([["Status", "Confirmed", "Booked"], ...moved, "By these events: Moved"]);
  await slideTo(1);
  await told([...moved, "By these events: Confirmed, Moved"]);
  await slideTo(3);
  await told(["Nothing."]);
  await slideTo(0);
  await page.locator("#panel .since dt:text('Title') + dd", { hasText: "Knee" }).waitFor();
  // What comes while the past is shown counts too.
  await slideTo(1);
  await told([...moved, "By these events: Confirmed, Moved"]);
  const second = await visitor.tab();
  await second.evaluate(() => {
    const { engine, appointment, log } = clinic;
    return engine.execute(appointment, log.events[0].stream.id, { type: "UpdateAppointment", data: { title: "Hip" } });
  });
  await told([...moved, ["Title", "Knee", "Hip"], "By these events: Confirmed, Moved, Changed"]);
});

test("an event in the log leads to the agenda at that event", async () => {
  await page.click(".block >> nth=0");
  await page.waitForSelector("#panel .log li:nth-child(3)");
  await page.click("#panel .log li:nth-child(2) button");
  await agendaShows(page, [confirmed]);
  assert.match(await page.textContent("#replay-caption"), /^Confirmed Knee · Reception$/);
});

test("the arrow keys go event by event", async () => {
  await page.focus("#slider");
  await page.keyboard.press("ArrowLeft");
  await agendaShows(page, [moved]);
  await page.keyboard.press("Home");
  await agendaShows(page, []);
  await page.keyboard.press("ArrowRight");
  await agendaShows(page, [booked]);
});

test("play goes through the whole log, and can be paused", async () => {
  // The page's clock stands still but for what it is told.
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 3_600_000);
  const shown = async () => {
    // A frame, in which what has changed is drawn.
    await page.clock.runFor(20);
    return /event (\d) of 4/.exec(await page.textContent("#replay-time"))?.[1] ?? "0";
  };
  const seen = [];
  const watch = async (seconds) => {
    for (let passed = 0; passed < seconds * 1000; passed += 100) {
      await page.clock.runFor(80);
      const count = await shown();
      if (count !== seen.at(-1)) seen.push(count);
    }
  };
  await page.click("#play");
  await watch(1.8);
  assert.deepEqual(seen, ["0", "1", "2"]);
  await page.click("#play");
  await watch(10);
  assert.deepEqual(seen, ["0", "1", "2"]);
  await page.waitForSelector("#play[aria-label=Replay]");
  await page.click("#play");
  await watch(10);
  assert.deepEqual(seen, ["0", "1", "2", "3", "4"]);
  await agendaShows(page, [moved, other]);
  await page.waitForSelector("#play[aria-label=Replay]");
});

test("replay follows the events to their days, unless it is told not to", async () => {
  const [first, second] = [await day(page, 1), await day(page, 2)];
  await showDay(page, second);
  await agendaShows(page, []);
  await slideTo(2);
  await agendaShows(page, [confirmed]);
  assert.equal(await page.inputValue("#day"), first);

  await page.uncheck("#follow-days");
  await showDay(page, second);
  await slideTo(1);
  await agendaShows(page, []);
});

test("events that come while the past is shown wait at the end of the slider", async () => {
  await slideTo(1);
  await agendaShows(page, [booked]);
  const second = await visitor.tab();
  await showDay(second, await day(second, 1));
  await book(second, { doctor: "moreau", room: "4", title: "Fever", start: "09:00", end: "09:30" });
  await page.waitForFunction(() => document.querySelector("#slider").max === "5");
  assert.deepEqual(await agenda(page), [booked]);
});

test("the agenda is after each event what the engine's own states are", async () => {
  const pairs = await page.evaluate(async () => {
    const { engine, appointment, agenda, log } = clinic;
    const pairs = [];
    for (const { position } of log.events) {
      const { documents } = await engine.view(agenda).list({ at: { position } });
      for (const { key, document: { status, booking, revision } } of documents) {
        const found = await engine.state(appointment, key, { at: { position } });
        pairs.push([{ revision, state: { ...booking, status } }, found]);
      }
    }
    return pairs;
  });
  assert.equal(pairs.length, 5);
  for (const [entry, found] of pairs) assert.deepEqual(entry, found);
});
