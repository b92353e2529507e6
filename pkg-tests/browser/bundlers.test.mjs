// The package in the bundles that applications make of it: the page they give opens an engine, and
// the engine's code is there once.

import assert from "node:assert/strict";
import { cp, mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { setUpBundlers } from "../../scripts/packages.mjs";
import { serve } from "../../scripts/serve.mjs";
import { inRoot, run } from "../../scripts/shell.mjs";
import { launch, patience } from "../support/browser.mjs";
import { installPackage } from "../support/installed-package.mjs";

let folders;
let project;
let browser;

before(async () => {
  // A step of the set-up as well: whatever runs this file alone has them too.
  folders = await setUpBundlers();
  project = await installPackage();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await project?.remove();
});

/** A bundler that is installed beside the repository's packages. */
function bundler(name) {
  const main = createRequire(path.join(folders[name], "package.json")).resolve(name);
  return import(pathToFileURL(main).href);
}

const application = (entry, { imports = "", options = "" } = {}) => `
  import { Engine, aggregate, refuse } from "${entry}";
  import { indexedDbStorage } from "annals/indexeddb";
  ${imports}
  const appointment = aggregate("Appointment", {
    initial: () => ({ booked: false }),
    decide: (state) => (state.booked ? refuse("already-booked") : [{ type: "AppointmentBooked", data: {} }]),
    evolve: { AppointmentBooked: () => ({ booked: true }) },
  });
  const engine = await Engine.open({ storage: indexedDbStorage({ name: "clinic" }), aggregates: [appointment] ${options} });
  const book = () => engine.attempt(appointment, "a-1", { type: "BookAppointment", data: {} });
  document.title = [(await book()).ok, (await book()).refusal.code].join();
`;

const html = (script) =>
  `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>…</title><script type="module" src="${script}"></script>`;

/** Makes a page of the application, and checks that it works with what is in its folder. */
async function check(name, { source, bundle, codes }) {
  const root = path.join(project.folder, name);
  const dist = path.join(root, "dist");
  await mkdir(dist, { recursive: true });
  await writeFile(path.join(root, "main.js"), source);
  await writeFile(path.join(root, "index.html"), html("./main.js"));
  await bundle({ root, main: path.join(root, "main.js"), dist });
  const files = await readdir(dist, { recursive: true });
  assert.equal(files.filter((file) => file.endsWith(".wasm")).length, codes, files.join());

  const server = await serve(dist, { port: 0 });
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    const fetched = [];
    const errors = [];
    page.on("request", (request) => fetched.push(request.url()));
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => message.type() !== "log" && errors.push(message.text()));
    await page.goto(server.url);
    await page.waitForFunction(() => document.title !== "…").catch(() => assert.fail(errors.join("\n")));
    assert.equal(await page.title(), "true,already-booked");
    assert.equal(fetched.filter((url) => url.endsWith(".wasm")).length, Math.min(codes, 1));
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
    server.close();
  }
}

async function withEsbuild({ root, main, dist }, options) {
  await build({
    absWorkingDir: root,
    entryPoints: [main],
    outdir: dist,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    logLevel: "silent",
    ...options,
  });
  await writeFile(path.join(dist, "index.html"), html("main.js"));
}

test("esbuild: the guide's commands copy the engine's code beside the bundle", () =>
  check("esbuild-copy", {
    source: application("annals"),
    async bundle({ root, dist }) {
      const [, commands] = /```sh\n(esbuild [\s\S]*?)```/.exec(await readFile(inRoot("docs/guide.md"), "utf8"));
      await symlink(path.join(project.folder, "node_modules"), path.join(root, "node_modules"));
      const bin = inRoot("node_modules/.bin");
      await run("sh", ["-ec", commands], { cwd: root, env: { PATH: [bin, process.env.PATH].join(path.delimiter) } });
      await writeFile(path.join(dist, "index.html"), html("main.js"));
    },
    codes: 2,
  }));

test("esbuild: the engine's code is imported as a file", () =>
  check("esbuild-file", {
    source: application("annals", {
      imports: 'import wasm from "annals/annals.wasm";',
      options: ", wasm: new URL(wasm, import.meta.url)",
    }),
    bundle: (places) => withEsbuild(places, { loader: { ".wasm": "file" } }),
    codes: 1,
  }));

test("esbuild: the inline entry is one file", () =>
  check("esbuild-inline", { source: application("annals/inline"), bundle: (places) => withEsbuild(places), codes: 0 }));

test("Vite: the default entry needs no configuration", async () => {
  const vite = await bundler("vite");
  await check("vite", {
    source: application("annals"),
    bundle: ({ root, dist }) => vite.build({ root, base: "./", configFile: false, logLevel: "silent", build: { outDir: dist, target: "es2022" } }),
    codes: 2,
  });
});

test("Vite: the default entry works from source, before any bundling", async () => {
  const vite = await bundler("vite");
  const root = path.join(project.folder, "vite-dev");
  await mkdir(root, { recursive: true });
  await writeFile(path.join(root, "main.js"), application("annals"));
  await writeFile(path.join(root, "index.html"), html("/main.js"));
  const server = await vite.createServer({ root, configFile: false, logLevel: "silent", server: { host: "127.0.0.1", port: 0, watch: null } });
  const context = await browser.newContext();
  try {
    await server.listen();
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    await page.goto(server.resolvedUrls.local[0]);
    await page.waitForFunction(() => document.title !== "…");
    assert.equal(await page.title(), "true,already-booked");
  } finally {
    await context.close();
    await server.close();
  }
});

async function withRollup({ main, dist }) {
  const { rollup } = await bundler("rollup");
  const { default: nodeResolve } = await bundler("@rollup/plugin-node-resolve");
  const warnings = [];
  const bundle = await rollup({ input: main, plugins: [nodeResolve()], onwarn: ({ message }) => warnings.push(message) });
  await bundle.write({ dir: dist, format: "es" });
  await bundle.close();
  assert.deepEqual(warnings, []);
  await writeFile(path.join(dist, "index.html"), html("main.js"));
}

test("rollup: the engine's code is copied beside the bundle", () =>
  check("rollup-copy", {
    source: application("annals"),
    async bundle(places) {
      await withRollup(places);
      for (const name of ["annals.wasm", "annals-log.wasm"]) {
        await cp(path.join(project.folder, "node_modules/annals", name), path.join(places.dist, name));
      }
    },
    codes: 2,
  }));

test("rollup: the inline entry is one file", () =>
  check("rollup-inline", { source: application("annals/inline"), bundle: withRollup, codes: 0 }));

test("webpack: the default entry needs no configuration", async () => {
  const { default: webpack } = await bundler("webpack");
  await check("webpack", {
    source: application("annals"),
    async bundle({ root, main, dist }) {
      const stats = await new Promise((resolve, reject) => {
        const compiler = webpack({ mode: "production", context: root, entry: main, output: { path: dist, filename: "main.js" } });
        compiler.run((error, stats) => compiler.close(() => (error ? reject(error) : resolve(stats))));
      });
      const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
      // It finds that the module is more than the 244 KiB that it recommends, which is so.
      const isOfSize = ({ message }) => /asset size limit|entrypoint size limit|code splitting|limit the size/.test(message);
      assert.deepEqual([...errors, ...warnings.filter((warning) => !isOfSize(warning))].map(({ message }) => message), []);
      await writeFile(path.join(dist, "index.html"), html("main.js"));
    },
    codes: 2,
  });
});
