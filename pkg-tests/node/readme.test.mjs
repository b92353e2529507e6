// The examples of the README and of the guide run as they stand, and print what their comments say.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const texts = ["README.md", "docs/guide.md"].map((file) => readFileSync(join(root, file), "utf8")).join("\n");

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

const [[, example], [, projecting], [, folding], [, reacting], [, managing], [, waiting], [, testing], [, viewing], [, changing], ...others] = texts.matchAll(/```(?:ts|js)\n([\s\S]*?)```/g);

test("no example of the README and the guide is left out", () => assert.deepEqual(others, []));

test("the README's example runs and prints what its comments say", async () => {
  const { stdout, stderr, status } = await runs(example.replace('"better-sqlite3"', JSON.stringify(driver())));
  assert.equal(status, 0, stderr);
  assert.equal(stdout, "{ code: 'slot-taken', details: { by: 'a-1' } }\nAppointmentBooked by reception\n");
});

test("the guide's read model gives what its comments say", async () => {
  const domain = example.slice(example.indexOf("type Slot"), example.indexOf("const storage"));
  const modules = { "appointment.js": `import { aggregate, refuse } from "annals"; ${domain} export { appointment };` };
  const { stdout, stderr, status } = await runs(projecting, modules);
  assert.equal(status, 0, stderr);
  const said = [...projecting.matchAll(/console\.log\(.*\); \/\/ (.*)/g)].map(([, comment]) => `${comment}\n`);
  assert.equal(said.length, 3);
  assert.equal(stdout, said.join(""));
});

test("the guide's rule across streams is as its tests say, and they fail without a part of it", async () => {
  const { stderr, status } = await runs(folding);
  assert.equal(status, 0, stderr);
  for (const part of [/AppointmentCancelled: .*\n/, /reads: .*\n/]) {
    const without = folding.replace(part, "");
    assert.notEqual(without, folding);
    const { stderr, status } = await runs(without);
    assert.notEqual(status, 0);
    assert.match(stderr, /expected the refusal doctor-taken|expected AppointmentBooked/);
  }
});

test("the guide's reaction runs when something has been booked", async () => {
  const domain = example.slice(example.indexOf("type Slot"), example.indexOf("const storage"));
  const book = `
    await new Promise((resolve) => setTimeout(resolve, 50)); // until it runs: it begins now
    await engine.execute(appointment, "a-1", { type: "BookAppointment", data: { doctor: "7", start: "2026-12-01T09:00Z" } });
    while ((await engine.reaction(confirmation).status()).behind > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await engine.close();`;
  const modules = { "appointment.js": `import { aggregate, refuse } from "annals"; ${domain} export { appointment };` };
  const { stdout, stderr, status } = await runs(reacting + book, modules);
  assert.equal(status, 0, stderr);
  assert.equal(stdout, "mail about a-1 to doctor 7\n");
});

test("the guide's process manager is as its test says, which fails without a part of it", async () => {
  const domain = example.slice(example.indexOf("type Slot"), example.indexOf("const storage"));
  const modules = { "appointment.js": `import { aggregate, refuse } from "annals"; ${domain} export { appointment };` };
  const { stderr, status } = await runs(managing, modules);
  assert.equal(status, 0, stderr);
  for (const part of [/commands\.remindAt\(.*\n/, /return \{ doctor \};.*\n/]) {
    const without = managing.replace(part, "\n");
    assert.notEqual(without, managing);
    const { stderr, status } = await runs(without, modules);
    assert.notEqual(status, 0);
    assert.match(stderr, /expected SendReminder to Letter a-1, found/);
  }
});

test("the guide's waiting list is as its test says, which fails without a part of it", async () => {
  const { stderr, status } = await runs(waiting);
  assert.equal(status, 0, stderr);
  for (const part of [/\[\.\.\.waiting, data\.patient\]/, /key: \(\{ data \}\) => data\.slot/]) {
    const without = waiting.replace(part, (found) => (found.startsWith("key") ? "key: ({ data }) => data.patient ?? data.slot" : "[data.patient, ...waiting]"));
    assert.notEqual(without, waiting);
    const { stderr, status } = await runs(without);
    assert.notEqual(status, 0);
    assert.match(stderr, /expected OfferSlot to Offer .*Ann, found/);
  }
});

test("the guide's tests of that domain pass, and fail if a rule is left out", async () => {
  const domain = example.slice(example.indexOf("type Slot"), example.indexOf("const storage"));
  const modules = (rules) => ({
    "appointment.js": `import { aggregate, refuse } from "annals"; ${rules} export { appointment };`,
  });
  const { stdout, stderr, status } = await runs(testing, modules(domain));
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /^(?:#|ℹ) pass 2$/m);
  for (const rule of ["if (state.booked)", "if (others.length > 0)"]) {
    const without = domain.replace(rule, "if (false)");
    assert.notEqual(without, domain);
    const { stdout, status } = await runs(testing, modules(without));
    assert.notEqual(status, 0);
    assert.match(stdout, /expected the refusal/);
    assert.match(stdout, /^(?:#|ℹ) fail 1$/m);
  }
});

test("the guide's test of its read model passes, and fails if the read model is another", async () => {
  const domain = example.slice(example.indexOf("type Slot"), example.indexOf("const storage"));
  const model = projecting.slice(projecting.indexOf("const agenda"), projecting.indexOf("const engine"));
  const modules = (agenda) => ({
    "appointment.js": `import { aggregate, refuse } from "annals"; ${domain} export { appointment };`,
    "agenda.js": `import { projection } from "annals/projections"; ${agenda} export { agenda };`,
  });
  const { stdout, stderr, status } = await runs(viewing, modules(model));
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, /^(?:#|ℹ) pass 1$/m);
  const other = model.replace("[...starts, start]", "[start, ...starts, start]");
  assert.notEqual(other, model);
  const wrong = await runs(viewing, modules(other));
  assert.notEqual(wrong.status, 0);
  assert.match(wrong.stdout, /expected document 7\/2026-12-01\.starts\[1\] to be nothing, found/);
});

test("the guide's upcasters are as it says, and its test fails without one of them", async () => {
  const { stderr, status } = await runs(changing);
  assert.equal(status, 0, stderr);
  for (const upcaster of [/room: "1" \}\)\]/, /\[\{ becomes: .*\}\],/]) {
    const without = changing.replace(upcaster, (found) => (found.includes("becomes") ? "[{ becomes: () => [] }]," : 'room: "2" })]'));
    assert.notEqual(without, changing);
    const { stderr, status } = await runs(without);
    assert.notEqual(status, 0);
    assert.match(stderr, /expected AppointmentBooked, found nothing|expected other data of AppointmentBooked/);
  }
});

/** Runs a program in a project of its own that has the package, and these modules beside it. */
async function runs(source, modules = {}) {
  const { transform } = await import("esbuild");
  const folder = mkdtempSync(join(tmpdir(), "annals-readme-"));
  try {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    for (const [name, text] of Object.entries({ ...modules, "example.js": source })) {
      const { code } = await transform(text, { loader: "ts" });
      writeFileSync(join(folder, name), code);
    }
    // The tests that run this one have their own way to hear of it.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    return spawnSync(process.execPath, ["example.js"], { cwd: folder, env, encoding: "utf8", timeout: 120_000 });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
