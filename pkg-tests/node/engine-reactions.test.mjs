// Reactions: they run after the commit, at least once for each event, and in the order of each stream.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { reaction } from "annals/reactions";
import { fails, until } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";
import { book, mailer, reactionRules, visit } from "../support/reaction-rules.mjs";

for (const { name, run } of reactionRules) onEachStore(name, run);

test("closing gives up a handler that takes too long", { timeout: 20_000 }, async () => {
  let waiting;
  const slow = reaction("slow", {
    startAt: "beginning",
    on: {
      async Booked(event, { signal }) {
        await new Promise((_, reject) => {
          waiting = true;
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        });
      },
    },
  });
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [visit], reactions: [slow] });
  await book(engine, "slow");
  await until(() => waiting, "it has begun");
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
