// The package as a package: its entries, how they are loaded, and what loading them does.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { installPackage } from "../support/installed-package.mjs";

const run = promisify(execFile);
const pkg = path.dirname(fileURLToPath(import.meta.resolve("annals/package.json")));

const api = ["AnnalsError", "Engine", "RefusedError", "StorageFailure", "aggregate", "nativeAggregate", "refuse"];
const entries = {
  annals: api,
  "annals/slim": api,
  "annals/inline": api,
  "annals/memory": ["memoryStorage"],
  "annals/audit": ["diff", "trace"],
  "annals/operations": ["checkArchive", "exportLog", "importLog", "readCheckpoint", "verify"],
  "annals/overlay": ["overlayStorage"],
  "annals/projections": ["fold", "nativeProjection", "projection"],
  "annals/reactions": ["processManager", "reaction"],
  "annals/subscriptions": ["checkpoint", "forgetCheckpoint", "setCheckpoint"],
  "annals/sqlite": ["sqliteStorage"],
  "annals/postgres": ["postgresRoles", "postgresSchema", "postgresStorage"],
  "annals/indexeddb": ["indexedDbStorage"],
  "annals/testing": ["given", "givenManager", "givenView", "gives"],
  "annals/testing/conformance": ["Subject", "commit", "conformance", "event", "judge", "judgeVectors", "perform"],
};

let project;
before(async () => (project = await installPackage()));
after(() => project?.remove());

/** Runs a program in the project. */
async function inProject(name, source, flags = []) {
  await writeFile(path.join(project.folder, name), source);
  const { stdout, stderr } = await run(process.execPath, [...flags, name], { cwd: project.folder, timeout: 120_000 });
  return { stdout, stderr };
}

const example = `
  const appointment = aggregate("Appointment", {
    initial: () => ({ booked: false }),
    decide: (state, command) =>
      state.booked ? refuse("already-booked") : [{ type: "AppointmentBooked", data: command.data }],
    evolve: { AppointmentBooked: () => ({ booked: true }) },
  });
  const book = { type: "BookAppointment", data: { doctor: "7" } };
  async function main() {
    const engine = await Engine.open({ storage: memoryStorage(), aggregates: [appointment] });
    const { revision, state } = await engine.execute(appointment, "a-1", book, { actor: "reception" });
    const again = await engine.attempt(appointment, "a-1", book);
    const { events } = await engine.history(appointment, "a-1");
    await engine.close();
    console.log(JSON.stringify([revision, state, again, events.map(({ type, data, actor }) => [type, data, actor])]));
  }
  main();
`;

const expected = JSON.stringify([
  1,
  { booked: true },
  { ok: false, refusal: { code: "already-booked", details: {} } },
  [["AppointmentBooked", { doctor: "7" }, "reception"]],
]);

for (const entry of ["annals", "annals/inline"]) {
  test(`installed from its tarball, ${entry} can be imported`, async () => {
    const { stdout, stderr } = await inProject(
      "example.mjs",
      `import { Engine, aggregate, refuse } from "${entry}";
       import { memoryStorage } from "annals/memory";
       ${example}`,
    );
    assert.equal(stdout.trim(), expected);
    assert.equal(stderr, "");
  });

  test(`installed from its tarball, ${entry} can be required`, async () => {
    const { stdout, stderr } = await inProject(
      "example.cjs",
      `const { Engine, aggregate, refuse } = require("${entry}");
       const { memoryStorage } = require("annals/memory");
       ${example}`,
    );
    assert.equal(stdout.trim(), expected);
    assert.equal(stderr, "");
  });
}

test("the default entry takes the module from wherever it is said to be", async () => {
  const { stdout } = await inProject(
    "elsewhere.mjs",
    `import { readFile } from "node:fs/promises";
     import { Engine, aggregate, refuse } from "annals";
     import { memoryStorage } from "annals/memory";
     let asked = 0;
     const wasm = async () => (asked += 1, new WebAssembly.Module(await readFile(new URL(import.meta.resolve("annals/annals.wasm")))));
     const open = Engine.open.bind(Engine);
     Engine.open = (options) => open({ ...options, wasm });
     process.on("exit", () => console.log(asked));
     ${example}`,
  );
  assert.equal(stdout.trim(), `${expected}\n1`);
});

test("a module that can't be loaded is told, and the next engine tries again", async () => {
  const { stdout } = await inProject(
    "broken.mjs",
    `import { Engine, aggregate, AnnalsError } from "annals";
     import { memoryStorage } from "annals/memory";
     const options = { storage: memoryStorage(), aggregates: [] };
     for (const wasm of [new Uint8Array(8), () => { throw new Error("no such file"); }, async () => { throw new Error("offline"); }]) {
       const error = await Engine.open({ ...options, wasm }).catch((error) => error);
       console.log(AnnalsError.is(error, "module-failed"), error.cause instanceof Error);
     }
     await (await Engine.open(options)).close();`,
  );
  assert.equal(stdout, "true true\n".repeat(3));
});

test("an engine loads no more code than it needs: without projections and reactions the smaller module", async () => {
  const { stdout } = await inProject(
    "modules.mjs",
    `import fs from "node:fs";
     import { syncBuiltinESMExports } from "node:module";
     import path from "node:path";
     import { Engine, aggregate } from "annals";
     import { memoryStorage } from "annals/memory";
     import { projection } from "annals/projections";
     import { reaction } from "annals/reactions";
     const read = [];
     const { readFileSync } = fs;
     fs.readFileSync = (file, ...rest) => (read.push(path.basename(String(file))), readFileSync(file, ...rest));
     syncBuiltinESMExports();

     const visit = aggregate("Visit", { initial: () => 0, decide: () => [{ type: "Visited", data: {} }], evolve: { Visited: (count) => count + 1 } });
     const visits = projection("visits", { version: 1, kind: "inline", on: { Visited: (view) => view.set("all", (view.get("all") ?? 0) + 1) } });
     const note = reaction("note", { startAt: "beginning", on: { Visited: () => undefined } });
     const open = (options) => Engine.open({ storage: memoryStorage(), aggregates: [visit], ...options });
     const engines = [await open(), await open({ projections: [visits] }), await open({ reactions: [note] }), await open({ projections: [], reactions: [] })];
     const outcomes = await Promise.all(engines.map((engine) => engine.execute(visit, "v-1", { type: "Visit", data: {} })));
     const shown = await engines[1].view(visits).get("all");
     const none = await engines[0].view(visits).get("all").catch(({ code }) => code);
     for (const engine of engines) await engine.close();
     console.log(JSON.stringify([read, outcomes.map(({ state }) => state), shown, none]));`,
  );
  assert.equal(stdout.trim(), JSON.stringify([["annals-log.wasm", "annals.wasm"], [1, 1, 1, 1], 1, "unknown-projection"]));
});

test("the smaller module refuses projections and reactions", async () => {
  const { stdout } = await inProject(
    "refused.mjs",
    `import { readFileSync } from "node:fs";
     import { Engine } from "annals";
     import { memoryStorage } from "annals/memory";
     import { projection } from "annals/projections";
     import { reaction } from "annals/reactions";
     const wasm = readFileSync(new URL(import.meta.resolve("annals/annals-log.wasm")));
     const given = { projections: [projection("p", { version: 1, kind: "live", on: { Visited: () => undefined } })] };
     const reacting = { reactions: [reaction("r", { startAt: "now", on: { Visited: () => undefined } })] };
     for (const options of [given, reacting, {}]) {
       const opened = Engine.open({ storage: memoryStorage(), aggregates: [], wasm, ...options });
       console.log(await opened.then(() => "opened", ({ code, message }) => code + ": " + message));
     }`,
  );
  const refusal = "api-misuse: this module has neither projections nor reactions: the larger one, annals.wasm, has\n";
  assert.equal(stdout, `${refusal}${refusal}opened\n`);
});

test("every entry exports what it should, the same by import and by require", async () => {
  const require = createRequire(import.meta.url);
  for (const [entry, names] of Object.entries(entries)) {
    const imported = await import(entry);
    assert.deepEqual(Object.keys(imported).sort(), names, entry);
    const required = require(entry);
    for (const name of names) assert.equal(required[name], imported[name], `${name} of ${entry}`);
  }
  const manifest = JSON.parse(await readFile(path.join(pkg, "package.json"), "utf8"));
  assert.deepEqual(
    Object.keys(manifest.exports).sort(),
    [".", "./annals-log.wasm", "./annals.wasm", "./audit", "./indexeddb", "./inline", "./memory", "./operations", "./overlay", "./package.json", "./postgres", "./projections", "./reactions", "./slim", "./sqlite", "./subscriptions", "./testing", "./testing/conformance"],
  );
  assert.equal(manifest.dependencies, undefined);
});

test("the modules are subpaths, and Node compiles them", async () => {
  for (const name of ["annals.wasm", "annals-log.wasm"]) {
    assert.ok(WebAssembly.validate(await readFile(new URL(import.meta.resolve(`annals/${name}`)))), name);
  }
});

test("errors of one copy of the package are recognised by another", async () => {
  const { AnnalsError, Engine } = await import("annals");
  const copy = await import(path.join(project.folder, "node_modules/annals/index.node.js"));
  const error = await Engine.open({}).catch((error) => error);
  assert.ok(!(error instanceof copy.AnnalsError));
  assert.ok(copy.AnnalsError.is(error) && copy.AnnalsError.is(error, "invalid-argument"));
  assert.ok(!copy.AnnalsError.is(error, "refused"));
  for (const other of [null, undefined, "refused", new Error("refused"), { code: "refused" }]) assert.ok(!AnnalsError.is(other));
});

const scripts = (await readdir(pkg, { recursive: true })).filter((name) => name.endsWith(".js"));

test("no script of the package awaits at its top level", async () => {
  assert.ok(scripts.length >= Object.keys(entries).length);
  for (const name of scripts) {
    // Only asynchronous modules can't be written as CommonJS.
    const code = await readFile(path.join(pkg, name), "utf8");
    await transform(code, { format: "cjs", logLevel: "silent", supported: { "dynamic-import": true } });
  }
  await assert.rejects(transform("await 1", { format: "cjs", logLevel: "silent" }), /Top-level await/);
});

test("loading the package does nothing: no module is compiled, nothing is opened, nothing is left behind", async () => {
  const imports = Object.keys(entries).map((entry) => `await import("${entry}");`).join("\n");
  const { stdout } = await inProject(
    "quiet.mjs",
    `import fs from "node:fs";
     import { syncBuiltinESMExports } from "node:module";
     const done = [];
     for (const name of ["Module", "Instance", "compile", "instantiate"]) {
       WebAssembly[name] = new Proxy(WebAssembly[name], {
         apply: () => done.push(name),
         construct: () => (done.push(name), {}),
       });
     }
     const { readFileSync } = fs;
     fs.readFileSync = (file, ...rest) => {
       if (String(file).endsWith(".wasm")) done.push(String(file));
       return readFileSync(file, ...rest);
     };
     syncBuiltinESMExports();
     globalThis.setTimeout = globalThis.setInterval = () => done.push("timer");
     const before = Reflect.ownKeys(globalThis).length;
     ${imports}
     console.log(JSON.stringify([done, Reflect.ownKeys(globalThis).length - before]));`,
  );
  assert.equal(stdout.trim(), "[[],0]");
});

test("what an application does not use is not in its bundle", async () => {
  const bundle = async (contents) => {
    const { outputFiles } = await build({
      stdin: { contents, resolveDir: project.folder },
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      write: false,
      logLevel: "silent",
    });
    return outputFiles[0].text;
  };
  assert.equal(await bundle('import "annals"; import "annals/indexeddb"; import "annals/inline"; import "annals/testing"; import "annals/testing/conformance";'), "");
  const domain = await bundle('import { aggregate, refuse } from "annals"; console.log(aggregate, refuse);');
  assert.ok(domain.length < 2000, `a domain alone takes ${domain.length} bytes`);
  assert.ok(!domain.includes("annals.wasm"));
});
