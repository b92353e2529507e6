// The judge that adapters are tested with, held to the vectors of the one in the core.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { judge, judgeVectors } from "annals/testing/conformance";

const written = JSON.parse(readFileSync(new URL("../vectors/judge.json", import.meta.url), "utf8"));

for (const { name, commits, facts, now, verdicts } of judgeVectors()) {
  test(name, () => assert.deepEqual(judge(commits, facts, now), verdicts));
}

test("the vectors are those that are written down, in the words of adapters", () => {
  const vectors = judgeVectors();
  assert.ok(written.length > 20);
  assert.deepEqual(vectors.map(({ name }) => name), written.map(({ name }) => name));
  const sizes = (vector) => [vector.commits.length, vector.commits.flatMap(({ events }) => events).length, vector.verdicts.length];
  assert.deepEqual(vectors.map(sizes), written.map(sizes));
  const kinds = { committed: "committed", conflict: "conflict", duplicate: "duplicate", reused: "command-id-reused" };
  assert.deepEqual(
    vectors.flatMap(({ verdicts }) => verdicts.map(({ kind }) => kind)),
    written.flatMap(({ verdicts }) => verdicts.map((verdict) => kinds[Object.keys(verdict)[0]])),
  );
  const [example] = vectors;
  assert.deepEqual(example.facts, { head: 0, lastRecordedAt: 0, commits: [{ revision: 0, first: null, matched: null }] });
  assert.deepEqual(example.verdicts, [{ kind: "committed", position: 1, revision: 1, count: 1, recordedAt: 1000 }]);
});
