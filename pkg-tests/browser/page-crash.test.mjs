// What the demo's users may rely on when a page is closed in the middle, and when tabs race.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { failureOf, temporaryProfile } from "../support/browser.mjs";
import { startDemo } from "../support/demo.mjs";

let demo;
let visitor;

before(async () => (demo = await startDemo()));
after(() => demo?.close());
beforeEach(async () => (visitor = await demo.visitor()));
afterEach(() => visitor.leave());

/** The day of all bookings, the same for all tabs. */
const dayMillis = 24 * 3_600_000;
const midnight = (Math.floor(Date.now() / dayMillis) + 2) * dayMillis;

const tab = async () => equip(await visitor.tab());

/** Gives a page the functions that tests call. */
async function equip(page) {
  await page.evaluate((midnight) => {
    const at = (minutes) => new Date(midnight + minutes * 60_000).toISOString();

    /** A booking that starts so many minutes into the day. */
    window.bookingAt = (doctor, room, minutes, length) => ({
      type: "BookAppointment",
      data: {
        doctor,
        patient: "p-1",
        room,
        appointmentType: "check-up",
        start: at(minutes),
        end: at(minutes + length),
        title: `${doctor} at ${minutes}`,
      },
    });
    window.give = (id, command) => clinic.engine.attempt(clinic.appointment, id, command);
    window.wholeLog = async () => {
      const events = [];
      for await (const { stream, revision, commandId } of clinic.engine.events({ follow: false })) {
        events.push({ id: stream.id, revision, commandId });
      }
      return events;
    };
  }, midnight);
  return page;
}

/** Each stream's revisions are 1, 2, 3, …, and no command is in the log twice. */
function checkLog(events) {
  const revisions = new Map();
  for (const { id, revision } of events) {
    assert.equal(revision, (revisions.get(id) ?? 0) + 1, `a revision of ${id} is missing or double`);
    revisions.set(id, revision);
  }
  assert.equal(new Set(events.map(({ commandId }) => commandId)).size, events.length);
  return revisions;
}

/**
 * Gives 1,000 bookings at once, each followed by changes without end, so that the end comes in the
 * middle of them however late it is, and ends the page when 400 of them have been acknowledged.
 * Returns the ids of the commands that were, by appointment.
 */
async function endInTheMiddle(page, end) {
  const acknowledged = new Map();
  const failure = failureOf(page);
  let enough;
  const reached = new Promise((resolve) => (enough = resolve));
  // Kept outside the page, which will not be there to be asked.
  await page.exposeFunction("acknowledge", (id, commandId) => {
    acknowledged.set(id, [...(acknowledged.get(id) ?? []), commandId]);
    if (acknowledged.size === 400) enough();
  });
  await page.evaluate(() => {
    const one = async (index) => {
      const id = `a-${index}`;
      const [doctor, slot] = [index % 20, Math.floor(index / 20)];
      const booking = bookingAt(`d-${doctor}`, `r-${doctor}`, slot * 20, 20);
      for (let change = 0; ; change += 1) {
        const update = { type: "UpdateAppointment", data: { title: `change ${change}` } };
        const { ok, commandId } = await give(id, change === 0 ? booking : update);
        if (ok) acknowledge(id, commandId);
      }
    };
    for (let index = 0; index < 1000; index += 1) void one(index);
  });
  await Promise.race([reached, failure]);
  await end();
  return acknowledged;
}

/** Whatever was acknowledged is there once, in its place. */
function checkAcknowledged(acknowledged, events) {
  checkLog(events);
  const inLog = new Set(events.map(({ id, revision, commandId }) => `${id}@${revision} ${commandId}`));
  for (const [id, commandIds] of acknowledged) {
    for (const [index, commandId] of commandIds.entries()) {
      assert.ok(inLog.has(`${id}@${index + 1} ${commandId}`), `${id}@${index + 1} was acknowledged and is lost`);
    }
  }
  assert.ok(acknowledged.size >= 400);
}

test("a page closed in the middle of 1,000 bookings has lost none that was acknowledged", async () => {
  const page = await tab();
  const acknowledged = await endInTheMiddle(page, () => page.close());
  checkAcknowledged(acknowledged, await (await tab()).evaluate(() => wholeLog()));
});

test("a browser killed in the middle of 1,000 bookings has lost none that was acknowledged", async () => {
  const profile = await temporaryProfile();
  try {
    const killed = await demo.mortal(profile.folder);
    const acknowledged = await endInTheMiddle(await equip(await killed.tab()), () => killed.kill());
    const reopened = await demo.mortal(profile.folder);
    try {
      checkAcknowledged(acknowledged, await (await equip(await reopened.tab())).evaluate(() => wholeLog()));
    } finally {
      await reopened.kill();
    }
  } finally {
    await profile.remove();
  }
});

/**
 * In each round two tabs give one booking each at the same time: `booking` says which, as its id and
 * the arguments of `bookingAt`. Returns what came of them, round by round, after a look at the log:
 * each round has one winner in it, whichever tab is asked.
 */
async function race(booking) {
  const tabs = [await tab(), await tab()];
  const rounds = [];
  while (rounds.length < 30) {
    const round = rounds.length;
    const given = tabs.map((page, own) =>
      page.evaluate(async ([id, ...wanted]) => {
        const { ok, refusal } = await give(id, bookingAt(...wanted));
        return ok ? "won" : refusal;
      }, booking(own, round)),
    );
    rounds.push(await Promise.all(given));
  }
  for (const page of tabs) assert.equal(checkLog(await page.evaluate(() => wholeLog())).size, rounds.length);
  return rounds;
}

test("of two tabs that race for one appointment exactly one wins, each time", async () => {
  const rounds = await race((own, round) => [`raced-${round}`, `d-${own}`, `r-${own}`, round * 20, 20]);
  for (const [round, found] of rounds.entries()) {
    const loser = found[1 - found.indexOf("won")];
    assert.deepEqual(loser, { code: "already-booked", details: {} }, `round ${round}`);
  }
});

test("of two tabs that race for one doctor's time exactly one wins, and the other is told by whom", async () => {
  const rounds = await race((own, round) => [`${own}-${round}`, "d-1", `r-${own}`, round * 20, 20]);
  for (const [round, found] of rounds.entries()) {
    const winner = found.indexOf("won");
    const { code, details } = found[1 - winner];
    assert.deepEqual([code, details.by], ["doctor-taken", `${winner}-${round}`], `round ${round}`);
  }
});

test("64 bookings at once for different times of one doctor all succeed", async () => {
  const page = await tab();
  const won = await page.evaluate(async () => {
    const given = Array.from({ length: 64 }, (_, index) => give(`a-${index}`, bookingAt("d-1", "r-1", index * 10, 10)));
    return (await Promise.all(given)).filter(({ ok }) => ok).length;
  });
  assert.equal(won, 64);
  assert.equal(checkLog(await page.evaluate(() => wholeLog())).size, 64);
});

test("64 bookings at once from two tabs for different times of one doctor all succeed", async () => {
  const tabs = [await tab(), await tab()];
  const won = await Promise.all(
    tabs.map((page, own) =>
      page.evaluate(async (own) => {
        const given = Array.from({ length: 32 }, (_, index) =>
          give(`${own}-${index}`, bookingAt("d-1", "r-1", (index * 2 + own) * 10, 10)),
        );
        return (await Promise.all(given)).filter(({ ok }) => ok).length;
      }, own),
    ),
  );
  assert.deepEqual(won, [32, 32]);
  assert.equal(checkLog(await tabs[0].evaluate(() => wholeLog())).size, 64);
});
