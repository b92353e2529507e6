// The demo, as somebody at the clinic uses it.

import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, test } from "node:test";
import { agendaShows, book, day, focusIs, logLines, problems, ready, refused, showDay, startDemo, submit } from "../support/demo.mjs";

let demo;
let visitor;
let page;
let tomorrow;

before(async () => (demo = await startDemo()));
after(() => demo?.close());
beforeEach(async () => {
  visitor = await demo.visitor();
  page = await visitor.tab();
  tomorrow = await day(page, 1);
  await showDay(page, tomorrow);
});
afterEach(() => visitor.leave());

const nine = { doctor: "okafor", room: "1", patient: "p-duarte", title: "Blood pressure", start: "09:00", end: "09:30" };

test("what is booked stands in the agenda, and its panel tells what, who and when", async () => {
  await book(page, { ...nine, comment: "Fasting" });
  await agendaShows(page, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  assert.equal(await page.textContent("#panel h2"), "Blood pressure");
  const facts = await page.locator("#panel dd").allTextContents();
  assert.deepEqual(facts.slice(1), ["Inês Duarte", "Dr Amara Okafor", "Room 1", "Consultation", "Fasting"]);
  const [[revision, what, , who]] = await logLines(page);
  assert.equal(revision, "1");
  assert.match(what, /^Booked ?AppointmentBooked$/);
  assert.match(who, /^Reception · \d+ \w+ \d{4}, \d\d:\d\d:\d\d$/);
});

test("a free time in the agenda opens the dialog with its doctor and time", async () => {
  await page.click('[aria-label="Book Dr Yui Tanaka at 14:30"]');
  assert.equal(await page.inputValue("#booking [name=doctor]"), "tanaka");
  assert.equal(await page.inputValue("#booking [name=day]"), tomorrow);
  assert.equal(await page.inputValue("#booking [name=start]"), "14:30");
  assert.equal(await page.inputValue("#booking [name=end]"), "15:00");
  // The appointment stays as long as it was.
  await page.fill("#booking [name=start]", "15:15");
  assert.equal(await page.inputValue("#booking [name=end]"), "15:45");
});

test("free times can be reached and booked by keyboard alone", async () => {
  await page.focus(".slots button[tabindex='0']");
  for (const key of ["ArrowDown", "ArrowDown", "ArrowRight", "Enter"]) await page.keyboard.press(key);
  await page.waitForSelector("#booking[open]");
  await page.keyboard.type("Knee");
  await page.keyboard.press("Enter");
  await agendaShows(page, ["09:00–09:30, Knee, Inês Duarte, Dr Nils Lindqvist, Booked"]);
  await focusIs(page, "Knee");
});

test("a doctor who is taken is refused at the doctor, and the form stays as it was", async () => {
  await book(page, nine);
  await agendaShows(page, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  await book(page, { ...nine, room: "2", patient: "p-rossi", title: "Throat", start: "09:15", end: "09:45" });
  const { doctor, ...others } = await refused(page, "#booking");
  assert.match(doctor, /^The doctor is taken .*, 09:00–09:30: Blood pressure \(Inês Duarte\)\.$/);
  assert.deepEqual(others, {});
  assert.equal(await page.evaluate(() => document.activeElement.name), "doctor");
  assert.equal(await page.inputValue("#booking [name=title]"), "Throat");

  await submit(page, "#booking", { doctor: "tanaka" });
  await agendaShows(page, [
    "09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked",
    "09:15–09:45, Throat, Paolo Rossi, Dr Yui Tanaka, Booked",
  ]);
});

test("a room that is taken is refused at the room", async () => {
  await book(page, nine);
  await agendaShows(page, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  await book(page, { ...nine, doctor: "tanaka", title: "Throat" });
  assert.deepEqual(Object.keys(await refused(page, "#booking")), ["room"]);
});

test("a time that has passed is refused at the start, one that is none too, a bad end at the end", async () => {
  const yesterday = await day(page, -1);
  await book(page, { ...nine, day: yesterday });
  assert.match((await refused(page, "#booking")).start, /^That has passed/);
  await submit(page, "#booking", { start: "" });
  assert.deepEqual(await refused(page, "#booking"), { start: "Choose a day and a time." });
  await submit(page, "#booking", { day: tomorrow, start: "09:00", end: "09:00" });
  assert.deepEqual(await refused(page, "#booking"), { end: "The end must be after the start." });
  await submit(page, "#booking", { end: "21:30" });
  assert.deepEqual(await refused(page, "#booking"), { end: "An appointment takes 12 hours at most." });
  await submit(page, "#booking", { end: "09:30", title: " " });
  assert.deepEqual(await refused(page, "#booking"), { title: "Say in a few words what it is about." });
  await page.fill("#booking [name=title]", "Knee");
  assert.deepEqual(await problems(page, "#booking"), {});
});

test("an appointment is moved, changed, confirmed and cancelled, each by whoever acts", async () => {
  await book(page, nine);
  const dayAfter = await day(page, 2);
  await page.click("text=Reschedule");
  await submit(page, "#panel", { day: dayAfter, start: "11:00", room: "3" });
  await agendaShows(page, ["11:00–11:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  assert.equal(await page.inputValue("#day"), dayAfter);

  await page.selectOption("#actor", "okafor");
  await page.click("#panel >> text=Edit");
  await submit(page, "#panel", { title: "Blood pressure and pulse", comment: "Bring the readings" });
  await page.waitForSelector("#panel h2:has-text('and pulse')");

  await page.selectOption("#actor", "p-duarte");
  await page.click("#panel >> text=Confirm");
  await agendaShows(page, ["11:00–11:30, Blood pressure and pulse, Inês Duarte, Dr Amara Okafor, Confirmed"]);

  await page.click("#panel >> text=Cancel appointment");
  await submit(page, "#panel", { reason: "Travelling" });
  await agendaShows(page, []);
  assert.equal(await page.textContent("#panel .status"), "Cancelled");
  assert.match(await page.textContent("#cancelled summary"), /\(1\)$/);

  const lines = await logLines(page);
  assert.deepEqual(lines.map(([revision, what]) => `${revision} ${what.split(" ")[0]}`), [
    "1 Booked",
    "2 Moved",
    "3 Changed",
    "4 Confirmed",
    "5 Cancelled",
  ]);
  assert.equal(lines[2][2], "title: “Blood pressure and pulse”; comment: “Bring the readings”");
  assert.equal(lines[4][2], "Travelling");
  assert.deepEqual(lines.map((line) => line.at(-1).split(" · ")[0]), [
    "Reception",
    "Reception",
    "Dr Amara Okafor",
    "Inês Duarte",
    "Inês Duarte",
  ]);
});

test("a move to a time the doctor has not is refused at the time", async () => {
  await book(page, nine);
  await agendaShows(page, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  await book(page, { ...nine, room: "2", title: "Throat", start: "10:00", end: "10:30" });
  await page.waitForSelector("#panel h2:has-text('Throat')");
  await page.click("#panel >> text=Reschedule");
  await submit(page, "#panel", { start: "09:15" });
  assert.match((await refused(page, "#panel")).start, /^The doctor is taken/);
});

test("all is there after a reload, and who acts is remembered", async () => {
  await page.selectOption("#actor", "moreau");
  await book(page, { ...nine, doctor: "moreau" });
  const expected = ["09:00–09:30, Blood pressure, Inês Duarte, Dr Claire Moreau, Booked"];
  await agendaShows(page, expected);
  await page.reload();
  await ready(page);
  assert.equal(await page.inputValue("#actor"), "moreau");
  await showDay(page, tomorrow);
  await agendaShows(page, expected);
  await page.click(".block");
  assert.match((await logLines(page))[0].at(-1), /^Dr Claire Moreau · /);
});

test("a second tab sees the first one's bookings at once", async () => {
  const second = await visitor.tab();
  await showDay(second, tomorrow);
  await book(page, nine);
  await agendaShows(second, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  await page.click("#panel >> text=Confirm");
  await agendaShows(second, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Confirmed"]);
  // And may refuse on the strength of it.
  await book(second, { ...nine, room: "2" });
  assert.deepEqual(Object.keys(await refused(second, "#booking")), ["doctor"]);
});

test("the first visit offers sample bookings, given as real commands", async () => {
  assert.equal(await page.isVisible("#welcome"), true);
  await page.click("#samples");
  await page.waitForFunction(() => document.querySelector("#replay-time").textContent.includes("26 events"));
  assert.equal(await page.isVisible("#welcome"), false);
  await page.waitForSelector(".block");
  const kinds = await page.evaluate(async () => {
    const found = new Set();
    for await (const event of clinic.engine.events({ follow: false })) found.add(event.type);
    return [...found].sort();
  });
  assert.deepEqual(kinds, [
    "AppointmentBooked",
    "AppointmentCancelled",
    "AppointmentConfirmed",
    "AppointmentRescheduled",
    "AppointmentUpdated",
  ]);
});

test("a failure of the engine is shown with its code, and can be tried again", async () => {
  await page.evaluate(() => {
    const original = IDBDatabase.prototype.transaction;
    IDBDatabase.prototype.transaction = function () {
      IDBDatabase.prototype.transaction = original;
      throw new DOMException("no more room", "QuotaExceededError");
    };
  });
  await book(page, nine);
  await page.waitForSelector("#errors code");
  assert.equal(await page.textContent("#errors code"), "storage-full");
  await page.click("#errors >> text=Try again");
  await agendaShows(page, ["09:00–09:30, Blood pressure, Inês Duarte, Dr Amara Okafor, Booked"]);
  visitor.expectErrors();
});

test("the page fits a phone", async () => {
  await page.click("#samples");
  await page.waitForFunction(() => document.querySelector("#replay-time").textContent.includes("26 events"));
  for (const width of [375, 768, 1400]) {
    await page.setViewportSize({ width, height: 800 });
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(beyond <= 0, `${beyond} px beyond ${width}`);
  }
});
