// The judge that adapters are tested with, held to the vectors of the one in the core.

import assert from "node:assert/strict";
import { test } from "node:test";

import { judge } from "../support/judge.mjs";
import { casesOf, vectors } from "../support/judge-vectors.mjs";

for (const vector of vectors) {
  test(vector.name, () => {
    const { commits, facts, now, verdicts } = casesOf(vector);
    // Facts without a first outcome are `null` at the boundary and absent in the judge's map.
    for (const fact of facts.commits) fact.first ??= undefined;
    assert.deepEqual(judge(commits, facts, now), verdicts);
  });
}
