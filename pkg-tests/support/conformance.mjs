// How the project's own adapters enrol in the suite that is published, and what is kept of the results.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { conformance } from "annals/testing/conformance";

/** One test a rule. Those of an adapter that has a column in the table of docs/adapters.md say so. */
export function enrol(test, options, column) {
  enrolTests(test, conformance(options), ({ run }) => run(), column);
}

/** The same, of tests that something else runs. */
export function enrolTests(test, tests, run, column) {
  const results = {};
  for (const one of tests) {
    const { name, rule, needs, skip } = one;
    results[rule] = { needs, result: skip === false ? "not run" : skip };
    test(name, { skip, timeout: 120_000 }, async () => {
      results[rule].result = "failed";
      await run(one);
      results[rule].result = "passed";
    });
  }
  if (column !== undefined) after(() => keep(column, tests[0].name, results));
}

/** The table is made of this, as scripts/conformance-table.mjs says. */
function keep(column, name, results) {
  const suite = readFileSync(new URL(import.meta.resolve("annals/testing/conformance")));
  const folder = fileURLToPath(new URL("../../.tools/conformance", import.meta.url));
  mkdirSync(folder, { recursive: true });
  const file = createHash("sha256").update(name).digest("hex").slice(0, 16);
  const kept = { column, suite: createHash("sha256").update(suite).digest("hex"), results };
  writeFileSync(`${folder}/${file}.json`, JSON.stringify(kept));
}
