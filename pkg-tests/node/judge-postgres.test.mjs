// The judge that PostgreSQL asks, held to the engine's own and to that of the tests in random cases. The
// suite holds it to the vectors.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { before, test } from "node:test";
import { Engine } from "annals";
import { memoryStorage } from "annals/memory";
import { postgresStorage } from "annals/postgres";
import { judge } from "annals/testing/conformance";
import { appointment, booking, confirmation, issuedAt } from "../support/clinic.mjs";
import { pool } from "../support/postgres.mjs";
import { newSchema } from "../support/postgres-stores.mjs";
import { randomNumbers } from "../support/random.mjs";

const schema = newSchema();
before(() => postgresStorage({ database: pool, schema }).open());

/** The verdicts of these cases, each of commits, facts and a time. */
async function judged(cases) {
  const { rows } = await pool.query(
    `SELECT "${schema}".judge(given -> 'commits', given -> 'facts', (given ->> 'now')::bigint) AS verdicts
     FROM jsonb_array_elements($1) WITH ORDINALITY AS cases (given, place) ORDER BY place`,
    [JSON.stringify(cases)],
  );
  return rows.map(({ verdicts }) => verdicts);
}

const HASHES = [
  ...Array.from({ length: 3 }, () => randomUUID().replace(/^(.{14})./, "$18")),
  randomUUID().replace(/^(.{14})./, "$15"), // of a store of the first format
];

/** Facts as a store might have them, true or not. */
function randomFacts(random, commits) {
  const maybe = (value) => (random(4) === 0 ? value : null);
  const head = random(1000);
  return {
    head,
    lastRecordedAt: Date.parse("2026-11-23T08:00:00.000Z") + random(3) - 1,
    commits: commits.map(({ expected, aggregateType, aggregateId, hash, condition }) => ({
      revision: typeof expected === "number" && random(5) > 0 ? expected : random(4),
      first: maybe({
        hash: random(2) === 0 ? hash : HASHES[random(HASHES.length)],
        aggregateType,
        aggregateId,
        position: 1 + random(1000),
        revision: 1 + random(9),
        count: 1 + random(3),
        recordedAt: 1_700_000_000_000 + random(1000),
      }),
      matched: condition === null ? null : maybe(1 + random(1000)),
    })),
  };
}

test("whatever the facts are, it says what the engine's own judge says", async () => {
  const random = randomNumbers(20261123);
  const memory = memoryStorage();
  const cases = [];
  const expected = [];
  let neighbours = 0;
  const storage = {
    open: () => memory.open(),
    load: async (request) => memory.load(request),
    append: async (request, judge) => {
      const { now, commits } = JSON.parse(JSON.stringify(request));
      neighbours += commits.filter(({ expected, condition }) => typeof expected === "object" || condition?.neighbours.length > 0).length;
      for (let time = 0; time < 20; time += 1) {
        const facts = randomFacts(random, commits);
        cases.push({ commits, facts, now });
        expected.push(judge(facts));
      }
      return memory.append(request, judge);
    },
    close() {},
  };
  const engine = await Engine.open({ storage, aggregates: [appointment], seed: 7 });
  for (let round = 0; round < 6; round += 1) {
    const commands = Array.from({ length: 60 }, () => {
      const id = `${round}-${random(40)}`;
      const command = random(4) === 0 ? confirmation : booking({ doctor: `${round}-${random(2)}`, minutes: 10 * random(120) });
      return engine.attempt(appointment, id, command, { issuedAt, commandId: randomUUID() }).catch(({ code }) => code);
    });
    await Promise.all(commands);
  }
  await engine.close();
  assert.ok(cases.length > 100 && neighbours > 50, `${cases.length} cases, ${neighbours} commits that rest on neighbours`);
  for (let start = 0; start < cases.length; start += 20) {
    const found = await judged(cases.slice(start, start + 20));
    found.forEach((verdicts, index) => assert.deepEqual(verdicts, expected[start + index], JSON.stringify(cases[start + index])));
  }
});

test("whatever the commits are, it says what the judge of the tests says", async () => {
  const random = randomNumbers(5);
  const pick = (list) => list[random(list.length)];
  const some = (list, most) => Array.from({ length: random(most + 1) }, () => pick(list));
  const kinds = new Map();
  const cases = Array.from({ length: 600 }, () => {
    const indexes = (length) => some([...Array(length + 1).keys()], 3);
    const commits = Array.from({ length: random(8) }, (_, index) => ({
      commandId: `c-${random(12)}`,
      hash: pick(["h", "i"]),
      aggregateType: pick(["a", "b"]),
      aggregateId: pick(["1", "2"]),
      expected: random(3) === 0 ? { after: random(index + 2) } : random(4),
      condition:
        random(2) === 0
          ? null
          : { query: Array.from({ length: random(3) }, () => ({ types: some(["S", "T"], 2), tags: some(["x", "y", "z"], 2) })), after: 0, neighbours: indexes(index) },
      events: Array.from({ length: 1 + random(3) }, () => ({ type: pick(["S", "T", "U"]), tags: some(["x", "y", "z"], 2) })),
    }));
    const { commits: facts, ...rest } = randomFacts(random, commits);
    // The judge of the tests compares digests as they are.
    const plain = facts.map(({ first, ...fact }) => ({ ...fact, first: first && { ...first, hash: pick(["h", "i"]) } }));
    return { commits, facts: { ...rest, commits: plain }, now: rest.lastRecordedAt + random(3) - 1 };
  });
  const found = await judged(cases);
  cases.forEach(({ commits, facts, now }, index) => {
    const verdicts = judge(commits, facts, now);
    assert.deepEqual(found[index], verdicts, JSON.stringify(cases[index]));
    for (const { kind, reason } of verdicts) kinds.set(reason ?? kind, (kinds.get(reason ?? kind) ?? 0) + 1);
  });
  for (const kind of ["committed", "revision", "matched", "neighbour", "duplicate", "command-id-reused"])
    assert.ok(kinds.get(kind) > 20, `${kind}: ${kinds.get(kind)}`);
});
