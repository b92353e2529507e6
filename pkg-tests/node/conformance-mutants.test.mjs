// The published suite can fail: each of these adapters is wrong in one way, and the rule that says so
// finds it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { conformance } from "annals/testing/conformance";
import { enrolment, mutants } from "../support/adapter-mutants.mjs";

for (const { name, skip, run } of conformance(await enrolment())) test(name, { skip, timeout: 120_000 }, run);

for (const [what, mutant] of Object.entries(mutants)) {
  test(`an adapter that ${what} is found`, { timeout: 120_000 }, async () => {
    const found = conformance(await enrolment(mutant)).find(({ rule }) => rule === mutant.rule);
    assert.ok(found, `there is no rule ${mutant.rule}`);
    assert.equal(found.skip, false);
    await assert.rejects(found.run(), (error) => !/undefined \(reading|is not a function/.test(error.message));
  });
}
