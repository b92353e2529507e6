// Reactions: they run after the commit, at least once for each event, and in the order of each stream.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";
import { reaction } from "annals/reactions";
import { fails, until } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

const visit = aggregate("Visit", {
  initial: () => ({ events: 0 }),
  decide: (_, command) => [command],
  evolve: (state) => ({ events: state.events + 1 }),
});

const book = (engine, id, number = 0) => engine.execute(visit, id, { type: "Booked", data: { number } });

/** A reaction that notes what it is given, and fails as often as it is told. */
function mailer({ startAt = "beginning", handle = () => undefined, ...options } = {}) {
  const sent = [];
  const definition = reaction("mailer", {
    startAt,
    retries: { firstPause: 1, maxPause: 2, attempts: 3 },
    on: {
      async Booked(event, occasion) {
        await handle(event, occasion);
        sent.push(`${event.stream.id}/${event.revision}`);
      },
    },
    ...options,
  });
  return { definition, sent };
}

const open = (place, ...reactions) => place.open({ aggregates: [visit], reactions, limits: { lease: 60 } });

const settled = (engine, { definition }) =>
  until(async () => {
    const { behind, parked } = await engine.reaction(definition).status();
    return behind === 0 && parked.every(({ retryAt }) => retryAt === null);
  }, "the reaction comes to the end of the log");

onEachStore("each event is handled once, in the order of its stream, with what is known of it", async (place) => {
  const seen = [];
  const mail = mailer({ handle: (event, occasion) => void seen.push([event, occasion]) });
  const engine = await open(place, mail.definition);
  for (let number = 0; number < 12; number += 1) await book(engine, `v-${number % 3}`, number);
  await engine.execute(visit, "v-0", { type: "Noted", data: {} });
  await settled(engine, mail);
  for (const id of ["v-0", "v-1", "v-2"]) {
    const own = mail.sent.filter((text) => text.startsWith(id));
    assert.deepEqual(own, [1, 2, 3, 4].map((revision) => `${id}/${revision}`));
  }
  const [event, { key, attempt, signal }] = seen[0];
  const [first] = (await engine.history(visit, event.stream.id)).events;
  assert.deepEqual(event, first);
  assert.deepEqual([key, attempt, signal.aborted], [`mailer/${event.eventId}`, 1, false]);
});

onEachStore("a reaction begins where it says, and goes on where it was", async (place) => {
  const writer = await open(place);
  await book(writer, "v-1");
  const fromNow = mailer({ startAt: "now" });
  const first = await open(place, fromNow.definition);
  await until(async () => (await first.reaction(fromNow.definition).status()).runsHere, "it runs");
  await book(writer, "v-2");
  await settled(first, fromNow);
  assert.deepEqual(fromNow.sent, ["v-2/1"]);
  await first.close();

  await book(writer, "v-3");
  const again = mailer({ startAt: "now" });
  const second = await open(place, again.definition);
  await settled(second, again);
  assert.deepEqual(again.sent, ["v-3/1"], "what came while nobody ran it is not missed");
});

onEachStore("what fails is tried again, its stream waits, and others go on", async (place) => {
  const attempts = [];
  const mail = mailer({
    handle({ stream, revision }, { attempt, key }) {
      attempts.push([`${stream.id}/${revision}`, attempt, key]);
      if (stream.id === "v-1" && revision === 1 && attempt < 3) throw new Error("no route");
    },
  });
  const engine = await open(place, mail.definition);
  await Promise.all(["v-1", "v-2", "v-1", "v-2"].map((id) => book(engine, id)));
  await until(() => mail.sent.length === 4, "all are sent");
  const own = attempts.filter(([what]) => what.startsWith("v-1"));
  assert.deepEqual(own.map(([what, attempt]) => `${what} ${attempt}`), ["v-1/1 1", "v-1/1 2", "v-1/1 3", "v-1/2 1"]);
  assert.equal(new Set(own.slice(0, 3).map(([, , key]) => key)).size, 1);
  assert.deepEqual(mail.sent.slice(0, 2), ["v-2/1", "v-2/2"]);
});

onEachStore("after the last attempt it is parked, and may be tried again", async (place) => {
  let isBroken = true;
  const mail = mailer({
    handle({ stream }) {
      if (isBroken && stream.id === "v-1") throw new Error("no such address");
    },
  });
  const engine = await open(place, mail.definition);
  const { position } = await book(engine, "v-1");
  await book(engine, "v-1");
  await book(engine, "v-2");
  await settled(engine, mail);
  const { parked } = await engine.reaction(mail.definition).status();
  const stream = { type: "Visit", id: "v-1" };
  assert.deepEqual(parked, [{ stream, position, attempts: 3, retryAt: null, error: "no such address" }]);
  assert.deepEqual(mail.sent, ["v-2/1"]);
  await book(engine, "v-1");
  isBroken = false;
  await engine.reaction(mail.definition).retry(stream);
  await until(() => mail.sent.length === 4, "the stream catches up");
  assert.deepEqual(mail.sent, ["v-2/1", "v-1/1", "v-1/2", "v-1/3"]);
  await until(async () => (await engine.reaction(mail.definition).status()).parked.length === 0, "nothing is parked");
});

onEachStore("what is parked may be passed, also by an engine that does not run the reaction", async (place) => {
  const broken = ({ revision }) => {
    if (revision === 1) throw new Error("no such address");
  };
  const mail = mailer({ handle: broken });
  const engine = await open(place, mail.definition);
  await book(engine, "v-1");
  await book(engine, "v-1");
  await settled(engine, mail);
  const other = mailer();
  const idle = await open(place, other.definition);
  const control = idle.reaction(other.definition);
  assert.deepEqual((await control.status()).parked.length, 1);
  const { runsHere, runs } = await control.drop({ type: "Visit", id: "v-1" });
  assert.deepEqual([runsHere, runs], [false, true]);
  await until(() => mail.sent.length === 1, "the stream goes on behind it");
  assert.deepEqual(mail.sent, ["v-1/2"]);
  await until(async () => (await control.status()).parked.length === 0, "nothing is parked");
  assert.deepEqual(other.sent, []);
});

onEachStore("one engine runs a reaction; another takes over at once when it is closed", async (place) => {
  const [one, two] = [mailer(), mailer()];
  const first = await open(place, one.definition);
  await book(first, "v-1");
  await settled(first, one);
  const second = await open(place, two.definition);
  await book(second, "v-2");
  await until(() => one.sent.length === 2, "the first runs it");
  assert.deepEqual(two.sent, []);
  await first.close();
  await book(second, "v-3");
  await until(() => two.sent.length === 1, "the second runs it");
  assert.deepEqual([one.sent, two.sent], [["v-1/1", "v-2/1"], ["v-3/1"]]);
});

onEachStore("another takes over when the engine that runs it says nothing more", async (place) => {
  const [one, two] = [mailer(), mailer()];
  const first = await open(place, one.definition);
  await book(first, "v-1");
  await settled(first, one);
  first[Symbol.dispose]();
  const second = await open(place, two.definition);
  await book(second, "v-2");
  await until(() => two.sent.length === 1, "the second runs it");
  assert.deepEqual(two.sent, ["v-2/1"]);
});

onEachStore("paused, it begins with nothing; resumed, it goes on", async (place) => {
  const mail = mailer();
  const engine = await open(place, mail.definition);
  const control = engine.reaction(mail.definition);
  await control.pause();
  await until(async () => !(await control.status()).runsHere, "it is given back");
  await book(engine, "v-1");
  const { paused, behind } = await control.status();
  assert.deepEqual([paused, behind, mail.sent], [true, 1, []]);
  await control.resume();
  await until(() => mail.sent.length === 1, "it goes on");
});

test("never two of one stream at once, and no more than it says", async () => {
  const running = new Set();
  let most = 0;
  const mail = mailer({
    concurrency: 3,
    async handle({ stream }) {
      assert.equal(running.has(stream.id), false);
      running.add(stream.id);
      most = Math.max(most, running.size);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running.delete(stream.id);
    },
  });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], reactions: [mail.definition] });
  await Promise.all(Array.from({ length: 40 }, (_, number) => book(engine, `v-${number % 8}`)));
  await settled(engine, mail);
  assert.equal(mail.sent.length, 40);
  assert.equal(most, 3);
  await engine.close();
});

test("a reaction may give commands, and closing gives up what takes too long", { timeout: 20_000 }, async () => {
  const given = [];
  let waiting;
  const chain = reaction("chain", {
    startAt: "beginning",
    on: {
      async Booked(event, { key, signal }) {
        if (event.stream.id === "slow") {
          await new Promise((_, reject) => {
            waiting = true;
            signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          });
        }
        const { commandId } = await engine.execute(visit, `note-${event.stream.id}`, { type: "Noted", data: { key } });
        given.push(commandId);
      },
    },
  });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], reactions: [chain] });
  await book(engine, "v-1");
  await until(() => given.length === 1, "the command is given");
  assert.equal((await engine.state(visit, "note-v-1")).revision, 1);
  await book(engine, "slow");
  await until(() => waiting, "the slow one has begun");
  const began = performance.now();
  await engine.close();
  assert.ok(performance.now() - began < 4_000);
});

test("what can't be a reaction is refused by name", async () => {
  const on = { Booked() {} };
  for (const [definition, message] of [
    [{ on }, /startAt/],
    [{ startAt: "yesterday", on }, /startAt/],
    [{ startAt: "now", on: {} }, /functions/],
    [{ startAt: "now", on: { Booked: 1 } }, /functions/],
    [{ startAt: "now", on, concurrency: 0 }, /whole numbers/],
    [{ startAt: "now", on, retries: { attempts: 0 } }, /whole numbers/],
    [{ startAt: "now", on, retries: { firstPause: 0.5 } }, /whole numbers/],
    [undefined, /startAt/],
  ]) {
    const error = await fails(() => reaction("mailer", definition), { code: "invalid-argument" });
    assert.match(error.message, message);
    assert.match(error.message, /mailer/);
  }
  const opening = (reactions) => Engine.open({ storage: memoryStorage(), aggregates: [visit], reactions });
  await fails(() => opening([mailer().definition, mailer().definition]), { code: "api-misuse" });
  const engine = await opening([]);
  await fails(() => engine.reaction(mailer().definition).status(), { code: "unknown-reaction", details: { reaction: "mailer" } });
  await fails(async () => engine.reaction({}), { code: "invalid-argument" });
  await engine.close();
});
