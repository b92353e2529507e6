// Whatever the page draws anew, it leaves the user where they are: the focus, what is typed and what
// is pressed. What makes it draw is mostly news: what another tab has done.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { agendaShows, book, day, focused, focusIs, problems, showDay, startDemo } from "../support/demo.mjs";

let demo;
let visitor;
let page;
let other;
let tomorrow;
/** How much other news there has been. */
let count;

before(async () => (demo = await startDemo()));
after(() => demo?.close());
beforeEach(async () => {
  visitor = await demo.visitor();
  page = await visitor.tab();
  other = await visitor.tab();
  count = 0;
  tomorrow = await day(page, 1);
  await page.bringToFront();
  await showDay(page, tomorrow);
});
afterEach(() => visitor.leave());

/** Another tab gives a command; returns when the page has drawn what came of it. */
async function news(id, type, data) {
  const done = await other.evaluate(async ([id, type, { day, from, to, ...rest }]) => {
    const at = (time) => new Date(`${day}T${time}`).toISOString();
    const data = from === undefined ? rest : { ...rest, start: at(from), end: at(to) };
    return clinic.engine.attempt(clinic.appointment, id, { type, data }, { actor: "reception" });
  }, [id, type, data]);
  assert.ok(done.ok, JSON.stringify(done.refusal));
  await page.waitForFunction((commandId) => {
    const { events } = clinic.log;
    const isDrawn = document.querySelector("#slider").max === String(events.length);
    return isDrawn && events.some((event) => event.commandId === commandId);
  }, done.commandId);
}

/** Waits until so many events are part of what the page shows. */
const drawn = (count) => page.waitForFunction((count) => document.querySelector("#slider").max === String(count), count);

const knee = { doctor: "okafor", patient: "p-duarte", room: "1", appointmentType: "consultation", title: "Knee" };
const booking = (fields) => ({ ...knee, day: tomorrow, from: "09:00", to: "09:30", ...fields });

/** Another tab books something that does not matter. */
async function otherNews() {
  count += 1;
  const slot = { doctor: "moreau", room: "4", from: `1${count}:00`, to: `1${count}:30` };
  await news(`other-${count}`, "BookAppointment", booking(slot));
}

const press = async (...keys) => {
  for (const key of keys) await page.keyboard.press(key);
};

/** Opens an appointment's panel, and waits until the focus is there. */
async function openPanel(title) {
  await page.click(`.block:has-text("${title}")`);
  await focusIs(page, title);
}

/** From here on commands wait: until `release()` for their turn, or for their answer. */
const hold = (what) =>
  page.evaluate((what) => {
    const { engine } = clinic;
    const attempt = engine.attempt.bind(engine);
    const gate = new Promise((resolve) => (window.release = resolve));
    window.given = 0;
    engine.attempt = async (...command) => {
      window.given += 1;
      if (what === "answer") {
        const answer = await attempt(...command);
        await gate;
        return answer;
      }
      await gate;
      return attempt(...command);
    };
  }, what);
const release = () => page.evaluate(() => window.release());

// --- Free times ---------------------------------------------------------------------------------

test("what is pressed before another day is drawn counts", async () => {
  // As in a page that is slow: frames come when they are called.
  await page.evaluate(() => {
    const waiting = [];
    window.requestAnimationFrame = (draw) => waiting.push(draw);
    window.frame = () => waiting.splice(0).forEach((draw) => draw(performance.now()));
  });
  await page.fill("#day", await day(page, 2));
  await page.focus(".slots button[tabindex='0']");
  await press("ArrowDown", "ArrowDown");
  await page.evaluate(() => frame());
  assert.equal(await focused(page), "Book Dr Amara Okafor at 09:00");
  await press("ArrowRight", "Enter");
  assert.equal(await page.inputValue("#booking[open] [name=doctor]"), "lindqvist");
  assert.equal(await page.inputValue("#booking [name=start]"), "09:00");
  assert.equal(await page.inputValue("#booking [name=day]"), await day(page, 2));
});

test("the focus stays at its doctor and time when earlier and later hours are shown", async () => {
  await page.focus(".slots button[tabindex='0']");
  await press("ArrowDown", "ArrowDown");
  await news("early", "BookAppointment", booking({ from: "06:15", to: "06:45" }));
  assert.equal(await focused(page), "Book Dr Amara Okafor at 09:00");
  await press("ArrowRight");
  await news("late", "BookAppointment", booking({ from: "19:00", to: "20:15" }));
  await press("Enter");
  assert.equal(await page.inputValue("#booking[open] [name=doctor]"), "lindqvist");
  assert.equal(await page.inputValue("#booking [name=start]"), "09:00");
});

test("the focus goes to the nearest time of the doctor when its hour is shown no more", async () => {
  await news("early", "BookAppointment", booking({ from: "06:00", to: "06:30" }));
  await page.focus('[aria-label="Book Dr Nils Lindqvist at 08:30"]');
  await press("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp");
  assert.equal(await focused(page), "Book Dr Nils Lindqvist at 06:30");
  await news("early", "CancelAppointment", {});
  assert.equal(await focused(page), "Book Dr Nils Lindqvist at 08:00");
  await press("ArrowDown", "Enter");
  assert.equal(await page.inputValue("#booking[open] [name=start]"), "08:30");
});

test("one free time can be reached by Tab, however often the agenda is drawn", async () => {
  const reachable = () =>
    page.locator(".slots [tabindex='0']").evaluateAll((all) => all.map((one) => one.getAttribute("aria-label")));
  await news("early", "BookAppointment", booking({ from: "06:00", to: "06:30" }));
  await page.focus('[aria-label="Book Dr Yui Tanaka at 08:00"]');
  await press("ArrowUp");
  assert.deepEqual(await reachable(), ["Book Dr Yui Tanaka at 07:30"]);
  await page.focus("#today");
  await news("early", "CancelAppointment", {});
  assert.deepEqual(await reachable(), ["Book Dr Yui Tanaka at 08:00"]);
  assert.equal(await focused(page), "Today");
});

// --- Appointments -------------------------------------------------------------------------------

test("the focus stays on an appointment that is moved past another", async () => {
  await news("a", "BookAppointment", booking({ title: "Knee" }));
  await news("b", "BookAppointment", booking({ title: "Rash", from: "10:00", to: "10:30" }));
  await page.focus('.block:has-text("Rash")');
  await page.evaluate(() => {
    window.lost = [];
    document.activeElement.addEventListener("blur", () => lost.push("blur"));
  });
  await news("b", "RescheduleAppointment", { day: tomorrow, from: "08:00", to: "08:30" });
  await news("a", "RescheduleAppointment", { day: tomorrow, from: "07:00", to: "07:30" });
  await agendaShows(page, [
    "07:00–07:30, Knee, Inês Duarte, Dr Amara Okafor, Booked",
    "08:00–08:30, Rash, Inês Duarte, Dr Amara Okafor, Booked",
  ]);
  assert.match(await focused(page), /Rash/);
  assert.deepEqual(await page.evaluate(() => lost), []);
});

test("the focus goes to the free time that an appointment leaves when it is cancelled", async () => {
  await news("a", "BookAppointment", booking({ doctor: "tanaka", from: "11:20", to: "12:00" }));
  await page.focus(".block");
  await news("a", "CancelAppointment", {});
  assert.equal(await focused(page), "Book Dr Yui Tanaka at 11:00");
});

test("the focus stays on a cancelled appointment, and a click on it that takes its time counts", async () => {
  await news("a", "BookAppointment", booking());
  await news("a", "CancelAppointment", { reason: "ill" });
  await page.click("#cancelled summary");
  await page.hover("#cancelled button");
  await page.mouse.down();
  await news("b", "BookAppointment", booking({ title: "Rash" }));
  await news("b", "CancelAppointment", {});
  assert.match(await focused(page), /Knee/);
  await page.mouse.up();
  await focusIs(page, "Knee");
  // And back to it.
  await otherNews();
  await press("Escape");
  assert.match(await focused(page), /^09:00–09:30 Knee/);
});

// --- Days ---------------------------------------------------------------------------------------

test("a day that is half typed stays as it is, and is the agenda's day again when it is left", async () => {
  await page.focus("#day");
  await press("Delete");
  assert.equal(await page.inputValue("#day"), "");
  await otherNews();
  assert.equal(await page.inputValue("#day"), "");
  await press("Tab", "Tab", "Tab", "Tab");
  assert.equal(await page.inputValue("#day"), tomorrow);
});

test("a year can be typed figure by figure", async () => {
  await page.focus("#day");
  await page.keyboard.type("1224203");
  await page.locator("#day-title", { hasText: "24 December 203" }).waitFor();
  await page.keyboard.type("1");
  await page.locator("#day-title", { hasText: "24 December 2031" }).waitFor();
  assert.equal(await page.inputValue("#day"), "2031-12-24");
});

test("the focus stays on a day of the strip when the strip shows other days", async () => {
  const last = "#days li:last-child button";
  await page.focus(last);
  const before = await focused(page);
  // A day that is none of the coming week's is shown with three before it and three after it.
  await showDay(page, await day(page, 7));
  await page.locator(`${last}:not([aria-label="${before}"])`).waitFor();
  await page.focus(last);
  const wanted = await focused(page);
  assert.notEqual(wanted, before);
  await press("Enter");
  await page.locator(`#days [aria-current=date][aria-label="${wanted}"]`).waitFor();
  assert.equal(await focused(page), wanted);
});

// --- The dialog ---------------------------------------------------------------------------------

test("what is typed in the dialog stays as it is while news comes", async () => {
  await page.focus('[aria-label="Book Dr Yui Tanaka at 08:00"]');
  await press("Enter");
  await page.keyboard.type("Kn");
  await news("early", "BookAppointment", booking({ from: "06:00", to: "06:30" }));
  await page.keyboard.type("ee");
  assert.equal(await page.inputValue("#booking [name=title]"), "Knee");
  assert.equal(await page.inputValue("#booking [name=start]"), "08:00");
  await press("Escape");
  assert.equal(await focused(page), "Book Dr Yui Tanaka at 08:00");
});

for (const [came, refusal] of [["booked", false], ["refused", true]]) {
  test(`a dialog that was opened anew is left alone when the booking before it is ${came}`, async () => {
    if (refusal) await news("a", "BookAppointment", booking());
    await hold("command");
    await book(page, { doctor: "okafor", room: "1", title: "Knee", start: "09:00", end: "09:30" });
    await press("Escape");
    await page.click('[aria-label="Book Dr Yui Tanaka at 14:30"]');
    await page.keyboard.type("Ra");
    await release();
    if (!refusal) await drawn(1);
    // Answers come in order: when this one is there, the booking's is too.
    await page.evaluate(() => clinic.engine.state(clinic.appointment, "a"));
    await page.keyboard.type("sh");
    assert.equal(await page.inputValue("#booking[open] [name=title]"), "Rash");
    assert.deepEqual(await problems(page, "#booking"), {});
    await press("Enter");
    await page.locator(".block", { hasText: "Rash" }).waitFor();
  });
}

test("a booking that is under way is not given again", async () => {
  await hold("command");
  await page.click("#book");
  await page.keyboard.type("Knee");
  await press("Enter", "Enter");
  await page.click("#booking button[type=submit]", { force: true });
  await release();
  await page.locator("#booking").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => window.given), 1);
});

// --- The panel ----------------------------------------------------------------------------------

test("what is typed in a form of the panel stays when its appointment changes elsewhere", async () => {
  await news("a", "BookAppointment", booking());
  await openPanel("Knee");
  await page.click("#panel >> text=Reschedule");
  await page.focus("#panel [name=start]");
  await page.keyboard.type("1015AM");
  await news("a", "ConfirmAppointment", {});
  await news("a", "UpdateAppointment", { title: "Left knee" });
  assert.equal(await page.textContent("#panel h2"), "Left knee");
  assert.equal(await page.evaluate(() => document.activeElement.name), "start");
  assert.equal(await page.inputValue("#panel [name=start]"), "10:15");
  assert.equal(await page.inputValue("#panel [name=end]"), "10:45");
  await press("Enter");
  await agendaShows(page, ["10:15–10:45, Left knee, Inês Duarte, Dr Amara Okafor, Booked"]);
});

test("what the user has not changed in a form follows its appointment, so that saving takes nothing back", async () => {
  await news("a", "BookAppointment", booking({ comment: "Fasting" }));
  await openPanel("Knee");
  await page.click("#panel >> text=Edit");
  await page.fill("#panel [name=comment]", "Bring the readings");
  await news("a", "UpdateAppointment", { title: "Left knee", comment: "None" });
  assert.equal(await page.inputValue("#panel [name=title]"), "Left knee");
  await page.click("#panel button[type=submit]");
  await page.locator("#panel dd", { hasText: "Bring the readings" }).waitFor();
  assert.equal(await page.textContent("#panel h2"), "Left knee");

  await page.click("#panel >> text=Reschedule");
  await news("a", "RescheduleAppointment", { day: tomorrow, from: "11:00", to: "12:00", room: "2" });
  assert.equal(await page.inputValue("#panel [name=start]"), "11:00");
  assert.equal(await page.inputValue("#panel [name=room]"), "2");
  // The end follows the start from there.
  await page.fill("#panel [name=start]", "13:00");
  assert.equal(await page.inputValue("#panel [name=end]"), "14:00");
});

test("a form is there again after a look at the past", async () => {
  await news("a", "BookAppointment", booking());
  await openPanel("Knee");
  await page.click("#panel >> text=Edit");
  await page.fill("#panel [name=comment]", "Fasting");
  await page.focus("#slider");
  await press("Home");
  await page.locator("#panel .past").waitFor();
  await page.click("#live");
  assert.equal(await page.inputValue("#panel [name=comment]"), "Fasting");
});

test("a form whose appointment is cancelled elsewhere gives way, and the focus goes to the appointment", async () => {
  await news("a", "BookAppointment", booking());
  await openPanel("Knee");
  await page.click("#panel >> text=Reschedule");
  await news("a", "CancelAppointment", {});
  assert.equal(await page.locator("#panel form").count(), 0);
  assert.equal(await focused(page), "Knee");
});

test("the focus stays in the panel while its appointment changes elsewhere", async () => {
  await news("a", "BookAppointment", booking());
  await openPanel("Knee");
  await page.focus("#panel .buttons >> text=Edit");
  await news("a", "ConfirmAppointment", {});
  assert.equal(await focused(page), "Edit");
  await page.focus("#panel .close");
  await news("a", "UpdateAppointment", { title: "Left knee" });
  assert.equal(await focused(page), "Close");
  await page.focus("#panel .log li:nth-child(2) button");
  await news("a", "RescheduleAppointment", { day: tomorrow, from: "11:00", to: "12:00" });
  assert.match(await focused(page), /Confirmed/);
});

test("the log can be gone through by keyboard, event by event", async () => {
  await news("a", "BookAppointment", booking());
  await news("a", "ConfirmAppointment", {});
  await openPanel("Knee");
  // What the panel shows is drawn when both events are in its log.
  await page.locator("#panel .log li:nth-child(2) button").waitFor();
  await page.locator("#panel .log li:nth-child(1) button").press("Enter");
  await page.locator("#replay-time", { hasText: "event 1 of 2" }).waitFor();
  await press("Tab", "Enter");
  await page.locator("#replay-time", { hasText: "event 2 of 2" }).waitFor();
  assert.match(await focused(page), /Confirmed/);
});

test("the focus stays on an event of the latest ones when more come", async () => {
  await news("a", "BookAppointment", booking());
  await page.focus("#panel .activity button");
  await otherNews();
  assert.match(await focused(page), /Knee/);
  await press("Enter");
  await focusIs(page, "Knee");
  await press("Escape");
  await focusIs(page, "Latest events");
});

for (const [what, when] of [["command", "after"], ["answer", "before"]]) {
  test(`a form that is sent by its button keeps the focus, when the event comes ${when} the answer`, async () => {
    await news("a", "BookAppointment", booking());
    await openPanel("Knee");
    await page.click("#panel >> text=Reschedule");
    await page.fill("#panel [name=start]", "10:00");
    await hold(what);
    await page.focus("#panel button[type=submit]");
    await press("Enter");
    if (what === "answer") await drawn(2);
    assert.equal(await focused(page), "Reschedule");
    await release();
    await drawn(2);
    await page.locator("#panel .buttons >> text=Edit").waitFor();
    assert.equal(await focused(page), "Reschedule");
  });
}

test("an answer that comes late leaves the form that was opened since, and the focus, alone", async () => {
  await news("a", "BookAppointment", booking());
  await openPanel("Knee");
  await page.click("#panel >> text=Reschedule");
  await page.fill("#panel [name=start]", "10:00");
  await hold("answer");
  await press("Enter");
  await drawn(2);
  await page.click("#panel >> text=Back");
  await page.click("#panel >> text=Edit");
  await page.fill("#panel [name=comment]", "Fasting");
  await release();
  await page.evaluate(() => clinic.engine.state(clinic.appointment, "a"));
  assert.equal(await page.inputValue("#panel [name=comment]"), "Fasting");
  assert.equal(await page.evaluate(() => document.activeElement.name), "comment");
});

test("the focus goes to the appointment when its last button for that is gone", async () => {
  await news("a", "BookAppointment", booking());
  await openPanel("Knee");
  await page.focus("#panel .buttons >> text=Confirm");
  await press("Enter");
  await drawn(2);
  await focusIs(page, "Knee");
});

// --- Replay -------------------------------------------------------------------------------------

test("the slider can be dragged while events come", async () => {
  for (let index = 0; index < 4; index += 1) await otherNews();
  const { x, y, width, height } = await page.locator("#slider").boundingBox();
  // The thumb's middle goes from 9 px after the left end to 9 px before the right one.
  const at = (share) => [x + 9 + (width - 18) * share, y + height / 2];
  await page.mouse.move(...at(1));
  await page.mouse.down();
  await page.mouse.move(...at(0.5), { steps: 3 });
  await page.locator("#replay-time", { hasText: "event 2 of 4" }).waitFor();
  await otherNews();
  assert.match(await page.textContent("#replay-time"), /event 2 of 5/);
  await page.mouse.move(...at(0.2), { steps: 3 });
  await page.locator("#replay-time", { hasText: "event 1 of 5" }).waitFor();
  await page.mouse.up();
  assert.equal(await page.inputValue("#slider"), "1");
  await otherNews();
  await press("ArrowRight");
  await page.locator("#replay-time", { hasText: "event 2 of 6" }).waitFor();
});

test("the focus stays on a button that has nothing more to do", async () => {
  await otherNews();
  await otherNews();
  await page.focus("#step-back");
  await press("Enter", "Enter", "Enter");
  await page.locator("#replay-time", { hasText: "Before the first" }).waitFor();
  await press("Enter");
  assert.equal(await focused(page), "One event back");
  await press("Tab", "Tab", "Enter", "Enter", "Enter");
  await page.locator("#replay-time", { hasText: "event 2 of 2" }).waitFor();
  assert.equal(await focused(page), "One event forward");
  assert.equal(await page.getAttribute("#step-forward", "aria-disabled"), "true");
  // It does not lead from now to the past.
  await page.click("#live");
  await page.locator("#replay-time", { hasText: "Now" }).waitFor();
  await page.focus("#step-forward");
  await press("Enter");
  assert.equal(await page.getAttribute("#live", "aria-pressed"), "true");
});

test("the focus goes to the day when what had it is there no more", async () => {
  await page.focus("#samples");
  await otherNews();
  assert.equal(await page.isVisible("#welcome"), false);
  assert.equal(await focused(page), await page.textContent("#day-title"));
  // A free time can't be chosen in the past.
  await page.focus(".slots [tabindex='0']");
  await page.evaluate(() => document.querySelector("#step-back").click());
  await page.locator(".slots[inert]").waitFor({ state: "attached" });
  assert.equal(await focused(page), await page.textContent("#day-title"));
});
