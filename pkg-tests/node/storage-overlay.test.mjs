// A store over another: as that was at a point, and with what would have happened since.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { overlayStorage } from "annals/overlay";
import { Subject, commit, event } from "annals/testing/conformance";
import { appointment, booking, issuedAt } from "../support/clinic.mjs";
import { enrol } from "../support/conformance.mjs";
import { fails } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";
import { overlayRules } from "../support/overlay-rules.mjs";

for (const [name, below] of [
  ["overlay", () => memoryStorage()],
  ["overlay over an overlay", () => overlayStorage({ storage: memoryStorage() })],
]) {
  const capabilities = { durability: "memory", notification: "engines" };
  enrol(test, { name, open: () => ({ storage: overlayStorage({ storage: below() }) }), capabilities }, "overlay");
}

for (const { name, run } of overlayRules) onEachStore(name, run);

test("overlays of one store don't see each other", async () => {
  const storage = memoryStorage();
  const below = await Subject.open(storage);
  await below.accept(commit("a-1", 0, [event(), event()]));
  const [one, other] = [await Subject.open(overlayStorage({ storage })), await Subject.open(overlayStorage({ storage }))];
  await one.accept(commit("a-1", 2, [event()]));
  assert.equal((await one.slice("Appointment", "a-1")).revision, 3);
  assert.equal((await other.slice("Appointment", "a-1")).revision, 2);
  assert.notEqual(one.epoch, other.epoch);
});

test("slices of any size go from what is below to what is here", async () => {
  const storage = memoryStorage();
  const below = await Subject.open(storage);
  await below.accept(commit("a-1", 0, [event(), event(), event()]), commit("a-2", 0, [event()]));
  const here = await Subject.open(overlayStorage({ storage }));
  await here.accept(commit("a-1", 3, [event(), event()]));
  await below.accept(commit("a-1", 3, [event(), event(), event()]));
  for (let after = 0; after <= 6; after += 1) {
    for (let limit = 1; limit <= 6; limit += 1) {
      for (const untilRevision of [null, 2, 4]) {
        const { events, revision, more } = await here.slice("Appointment", "a-1", { after, limit, untilRevision });
        const last = Math.min(untilRevision ?? 5, 5);
        const asked = [1, 2, 3, 4, 5].filter((number) => number > after && number <= last);
        assert.deepEqual([events.map(({ revision }) => revision), revision, more], [asked.slice(0, limit), 5, asked.length > limit]);
      }
    }
  }
});

test("a position of another store, and a time that is none, are refused", async () => {
  const [storage, other] = [memoryStorage(), memoryStorage()];
  const engine = await Engine.open({ storage: other, aggregates: [appointment] });
  const { position } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine.close();
  await fails(() => Engine.open({ storage: overlayStorage({ storage, at: { position } }), aggregates: [] }), { code: "foreign-epoch" });
  assert.throws(() => overlayStorage({ storage, at: { time: "soon" } }), { code: "invalid-argument" });
  assert.throws(() => overlayStorage({ storage, at: { position: "7" } }), { code: "invalid-argument" });
  assert.throws(() => overlayStorage({}), { code: "invalid-argument" });
});
