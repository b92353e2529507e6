// The suite is run by whatever runs tests. Node's own runner runs it elsewhere; vitest is another.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { conformance } from "annals/testing/conformance";
import { setUpVitest } from "../../scripts/packages.mjs";

const pkg = fileURLToPath(new URL("../../pkg", import.meta.url));

let vitest;
before(async () => (vitest = await setUpVitest()));

// No notification is declared, and the store in memory has it.
const enrolment = `
  import { test } from "vitest";
  import { memoryStorage } from "annals/memory";
  import { conformance } from "annals/testing/conformance";
  for (const { name, skip, run } of conformance({ name: "memory", open: () => ({ storage: memoryStorage() }) }))
    test(name, { skip, timeout: 120_000 }, run);`;

/** What vitest says of it. */
function run() {
  const folder = mkdtempSync(join(tmpdir(), "annals-vitest-"));
  try {
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(pkg, join(folder, "node_modules/annals"));
    symlinkSync(vitest, join(folder, "node_modules/vitest"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    writeFileSync(join(folder, "memory.test.js"), enrolment);
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const args = [join(vitest, "vitest.mjs"), "run", "--reporter=json", "--outputFile=said.json"];
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, env, encoding: "utf8", timeout: 240_000 });
    assert.equal(stderr, "", stdout);
    return JSON.parse(readFileSync(join(folder, "said.json"), "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("vitest runs the suite, and tells what is skipped and what fails", () => {
  const tests = conformance({ name: "memory", open: () => ({ storage: null }) });
  const skipped = tests.filter(({ skip }) => skip !== false).length;
  const said = run();
  const failed = said.testResults.flatMap(({ assertionResults }) => assertionResults).filter(({ status }) => status === "failed");
  assert.deepEqual(failed.map(({ title }) => title), ["memory: a new store is empty, and says what it is"]);
  assert.equal(said.success, false);
  assert.equal(said.numTotalTests, tests.length);
  assert.equal(said.numPendingTests, skipped);
  assert.equal(said.numPassedTests, tests.length - skipped - 1);
});
