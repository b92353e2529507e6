import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { Subject, commit, event } from "annals/testing/conformance";
import { enrol } from "../support/conformance.mjs";
import { randomNumbers } from "../support/random.mjs";

const capabilities = { durability: "memory", notification: "engines" };
enrol(test, { name: "memory", open: () => ({ storage: memoryStorage() }), capabilities }, "memory");

// Texts are joined when there are hundreds of them, so stores of a few events are no proof.
test("of thousands of events, short and long, each comes back as it was appended", async () => {
  const random = randomNumbers(1);
  const subject = await Subject.open(memoryStorage());
  const revisions = new Map();
  const log = [];
  const outcomes = [];
  for (let round = 0; log.length < 5_000; round += 1) {
    const aggregateId = `a-${random(3) === 0 ? random(400) : 0}`;
    const before = revisions.get(aggregateId) ?? 0;
    const events = Array.from({ length: 1 + random(3) }, () => {
      // Where these are among them, texts are too long to be joined.
      const isLong = log.length > 1_000 && log.length < 2_000 && random(4) === 0;
      const text = ["", "é", "😀,\n", "\u0000"][random(4)].repeat(isLong ? 30_000 : random(9));
      const tags = ["one", "two", "two"].slice(0, random(4));
      return event(["Booked", "Moved"][random(2)], tags, { schemaVersion: 1 + random(2), data: JSON.stringify(text) });
    });
    const rest = { issuedAt: new Date(round * 1_000_000).toISOString(), actor: [null, "ann", "bob"][random(3)] };
    if (random(2) === 0) Object.assign(rest, { correlationId: `cause ${random(50)}`, causationId: `event ${round}`, extra: `{"n":${round}}` });
    const sent = commit(aggregateId, before, events, rest);
    subject.now += random(2);
    const [{ kind: _, ...summary }] = await subject.accept(sent);
    outcomes.push([sent.commandId, { hash: sent.hash, aggregateType: "Appointment", aggregateId, ...summary }]);
    for (const [index, { tags, ...one }] of events.entries()) {
      const { commandId, issuedAt, correlationId, causationId, actor, extra } = sent;
      log.push({
        position: log.length + 1,
        aggregateType: "Appointment",
        aggregateId,
        revision: before + 1 + index,
        ...one,
        tags: JSON.stringify(tags),
        recordedAt: new Date(summary.recordedAt).toISOString(),
        ...{ issuedAt, commandId, correlationId, causationId, actor, extra },
      });
    }
    revisions.set(aggregateId, before + events.length);
  }

  assert.deepEqual((await subject.page({ limit: 10_000 })).events, log);
  const { commands } = await subject.load({ commands: outcomes.map(([commandId]) => commandId) });
  assert.deepEqual(commands, outcomes.map(([, first]) => first));
  for (const aggregateId of revisions.keys()) {
    const stream = log.filter((one) => one.aggregateId === aggregateId);
    assert.deepEqual(await subject.events("Appointment", aggregateId, { limit: 10_000 }), stream);
    for (const after of [0, 1, 1_000]) {
      const rest = stream.slice(after, after + 1_500);
      const { events } = await subject.slice("Appointment", aggregateId, { after, limit: 1_500, whole: false });
      assert.deepEqual(events.forms, rest.map(({ type, schemaVersion }) => (schemaVersion === 1 ? type : `${type}\x7f${schemaVersion}`)));
      assert.equal(events.data, `[${rest.map(({ data }) => data).join(",\n")}]`);
    }
  }
  const caused = log.filter(({ correlationId }) => correlationId === "cause 7");
  assert.deepEqual((await subject.page({ correlationId: "cause 7", limit: 10_000 })).events, caused);
});

test("events are found at the positions that the judge gave, whatever it left out", async () => {
  const subject = await Subject.open(memoryStorage());
  const places = [3, 4, 10, 500];
  for (const [index, position] of places.entries()) {
    const sent = commit("a-1", index, [event("Booked", ["one"])]);
    await subject.appendWith([sent], () => [{ kind: "committed", position, revision: index + 1, count: 1, recordedAt: subject.now }]);
  }
  const positionsOf = ({ events }) => events.map(({ position }) => position);
  assert.deepEqual(positionsOf(await subject.page()), places);
  assert.deepEqual(positionsOf(await subject.page({ tags: ["one"], after: 4 })), [10, 500]);
  assert.deepEqual(positionsOf(await subject.page({ after: 10, descending: true })), [4, 3]);
  assert.deepEqual(positionsOf(await subject.page({ aggregateTypes: ["Appointment"], after: 3 })), [4, 10, 500]);
  assert.deepEqual(positionsOf(await subject.slice("Appointment", "a-1", { untilPosition: 499 })), [3, 4, 10]);
  const { queries } = await subject.load({ queries: [{ query: [{ types: ["Booked"], tags: ["one"] }], after: 9 }] });
  assert.deepEqual(queries.map((events) => positionsOf({ events })), [[10, 500]]);
});
