// The adapter of docs/adapters.md is one: it compiles, and passes the suite as the page enrols it.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));
const page = readFileSync(join(root, "docs/adapters.md"), "utf8");

const [[, enrolment], [, adapter], ...others] = page.matchAll(/^```ts\n([\s\S]*?)^```/gm);

test("no example of the page is left out", () => assert.deepEqual(others, []));

/** Does something in a project of its own that has the package and the page's adapter. */
async function inProject(adapter, run) {
  const folder = mkdtempSync(join(tmpdir(), "annals-adapters-"));
  try {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    for (const [name, text] of Object.entries({ "journal-storage": adapter, example: enrolment })) {
      writeFileSync(join(folder, `${name}.ts`), text);
      writeFileSync(join(folder, `${name}.js`), (await transform(text, { loader: "ts" })).code);
    }
    // The tests that run this one have their own way to hear of it.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    return run((args) => spawnSync(process.execPath, args, { cwd: folder, env, encoding: "utf8", timeout: 120_000 }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("the page's adapter passes the suite", async () => {
  const { stdout, status } = await inProject(adapter, (node) => node(["example.js"]));
  assert.equal(status, 0, stdout.slice(-5000));
  assert.match(stdout, /^(?:#|ℹ) fail 0$/m);
  assert.ok(Number(/^(?:#|ℹ) pass (\d+)$/m.exec(stdout)[1]) > 60, stdout.slice(-500));
});

test("it fails where a part of it is left out", async () => {
  for (const [part, instead, rule] of [
    ["write(descriptor, { append, verdicts });", ";", "what was written is there when every adapter was closed"],
    ["write(descriptor, { save });", ";", "what was written is there when every adapter was closed"],
  ]) {
    const without = adapter.replace(part, instead);
    assert.notEqual(without, adapter, part);
    const { stdout, status } = await inProject(without, (node) => node([`--test-name-pattern=${rule}`, "example.js"]));
    assert.notEqual(status, 0, part);
    assert.match(stdout, /^(?:#|ℹ) fail 1$/m);
  }
});

test("it is an adapter to the compiler too", async () => {
  const flags = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom,esnext.disposable", "--types", "node"];
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { stdout, status } = await inProject(adapter, (node) => node([tsc, ...flags, "journal-storage.ts"]));
  assert.equal(status, 0, stdout);
});
