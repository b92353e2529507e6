// The README's example runs as it stands, and prints what its comments say.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readme = readFileSync(join(root, "README.md"), "utf8");

/** better-sqlite3 where this Node can load it; libsql has the same shape. */
function driver() {
  const require = createRequire(import.meta.url);
  for (const name of ["better-sqlite3", "libsql"]) {
    try {
      new (require(name))(":memory:").close();
      return name;
    } catch {
      // The next one.
    }
  }
  throw new Error("neither better-sqlite3 nor libsql can be loaded");
}

test("the README's example runs and prints what its comments say", async () => {
  const [[, source], ...others] = readme.matchAll(/```(?:ts|js)\n([\s\S]*?)```/g);
  assert.deepEqual(others, [], "an example that nobody runs");
  const { transform } = await import("esbuild");
  const { code } = await transform(source.replace('"better-sqlite3"', JSON.stringify(driver())), { loader: "ts" });
  const folder = mkdtempSync(join(tmpdir(), "annals-readme-"));
  try {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    writeFileSync(join(folder, "example.mjs"), code);
    const { stdout, stderr, status } = spawnSync(process.execPath, ["example.mjs"], { cwd: folder, encoding: "utf8", timeout: 120_000 });
    assert.equal(status, 0, stderr);
    assert.equal(stdout, "{ code: 'slot-taken', details: { by: 'a-1' } }\nAppointmentBooked by reception\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
