// The judge that adapters are tested with, held to the vectors of the one in the core.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { judge } from "../support/judge.mjs";

const vectors = JSON.parse(readFileSync(new URL("../vectors/judge.json", import.meta.url), "utf8"));

const first = ({ stream, ...rest }) => ({ aggregateType: "Appointment", aggregateId: stream, ...rest });

function verdict(expected) {
  if (expected.committed) return { kind: "committed", ...expected.committed };
  if (expected.duplicate) return { kind: "duplicate", first: first(expected.duplicate) };
  if (expected.reused) return { kind: "command-id-reused", first: first(expected.reused) };
  const [[reason, at]] = Object.entries(expected.conflict);
  return { kind: "conflict", reason, at };
}

for (const vector of vectors) {
  test(vector.name, () => {
    const commits = vector.commits.map(({ command, stream, ...rest }) => ({
      ...rest,
      commandId: String(command),
      aggregateType: "Appointment",
      aggregateId: stream,
    }));
    const facts = {
      head: vector.head,
      lastRecordedAt: vector.lastRecordedAt,
      commits: vector.facts.map((fact) => ({ ...fact, first: fact.first && first(fact.first) })),
    };
    // Facts without a first outcome are `null` at the boundary and absent in the judge's map.
    for (const fact of facts.commits) fact.first ??= undefined;
    assert.deepEqual(judge(commits, facts, vector.now), vector.verdicts.map(verdict));
  });
}
