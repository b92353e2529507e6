// Contestants that live in pages of a headless Chromium.

import { mkdirSync } from "node:fs";
import { copyFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { serve } from "../../scripts/serve.mjs";
import { inRoot } from "../../scripts/shell.mjs";
import { topFunctions } from "./profile.mjs";

// The repository's own tools, not those that a peer has brought.
const require = createRequire(inRoot("package.json"));

const empty = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Bench</title>';

/**
 * The pages' server and the browser. Databases are on disk, for the browser has a profile. `modules`
 * are those to take instead of the package's own.
 */
export async function startBrowser(folder, modules) {
  const { build } = require("esbuild");
  const { chromium } = require("playwright-core");
  const { executablePath, flags } = await import("../../pkg-tests/support/chromium.mjs");
  const pages = path.join(folder, "pages");
  mkdirSync(pages, { recursive: true });
  const bundle = (entries, options) =>
    build({
      entryPoints: Object.fromEntries(Object.entries(entries).map(([name, file]) => [name, inRoot("benches", file)])),
      outdir: pages,
      bundle: true,
      format: "esm",
      target: "es2022",
      logLevel: "silent",
      nodePaths: [inRoot("node_modules")],
      ...options,
    });
  // Not minified, for profiles have the names of functions.
  await bundle({ page: "harness/page.mjs" });
  const starts = {
    "start-annals-ts": "start/annals-ts.mjs",
    "start-annals-rust": "start/annals-rust-page.mjs",
    "start-floor": "start/floor-page.mjs",
  };
  await bundle(starts, { minify: true });
  await copyFile(modules?.annals ?? inRoot("pkg/annals.wasm"), path.join(pages, "annals.wasm"));
  await copyFile(inRoot("pkg/annals-log.wasm"), path.join(pages, "annals-log.wasm"));
  await copyFile(modules?.clinic ?? inRoot("www/clinic/pkg/clinic_bg.wasm"), path.join(pages, "clinic.wasm"));
  await writeFile(path.join(pages, "index.html"), `${empty}<script type="module" src="page.js"></script>`);
  await writeFile(path.join(pages, "empty.html"), empty);

  const server = await serve(pages, { port: 0 });
  const own = ["--js-flags=--expose-gc"];
  const context = await chromium.launchPersistentContext(path.join(folder, "profile"), {
    executablePath,
    args: [...flags, ...own],
  });
  return {
    version: context.browser()?.version() ?? "",
    /** A page of its own for a contestant. */
    startPage: (setup) => new PageContestant(context, server.url, setup),
    /** A contestant that starts anew for every sample. */
    startAnew: (setup) => new StartContestant(context, server.url, setup),
    async close() {
      await context.close();
      server.close();
    },
  };
}

class PageContestant {
  #context;
  #url;
  #setup;
  #page;

  constructor(context, url, setup) {
    this.#context = context;
    this.#url = url;
    this.#setup = setup;
  }

  async open() {
    this.#page = await this.#context.newPage();
    await this.#page.goto(this.#url);
    await this.#page.waitForFunction(() => globalThis.bench !== undefined);
    await this.#page.evaluate((setup) => bench.open(setup), this.#setup);
  }

  sample() {
    return this.#page.evaluate(() => bench.sample());
  }

  async profile(samples) {
    const session = await this.#context.newCDPSession(this.#page);
    await session.send("Profiler.enable");
    const profiles = [];
    for (let sample = 0; sample < samples; sample += 1) {
      await this.#page.evaluate(() => bench.before());
      await session.send("Profiler.start");
      await this.#page.evaluate(() => bench.run());
      profiles.push((await session.send("Profiler.stop")).profile);
      await this.#page.evaluate(() => bench.after());
    }
    return topFunctions(profiles);
  }

  async close() {
    await this.#page?.evaluate(() => bench.close()).catch(() => undefined);
    await this.#page?.close();
  }
}

/** So many starts make a sample. */
const starts = 5;

class StartContestant {
  #context;
  #url;
  #setup;

  constructor(context, url, setup) {
    this.#context = context;
    this.#url = url;
    this.#setup = setup;
  }

  async open() {}

  async profile() {
    throw new Error("it starts anew for each sample, and has no profile");
  }

  async sample() {
    let seconds = 0;
    for (let start = 0; start < starts; start += 1) seconds += await this.#start();
    return { count: starts, seconds };
  }

  async #start() {
    const page = await this.#context.newPage();
    try {
      await page.goto(`${this.#url}empty.html`);
      return await page.evaluate(async ({ name, domain }) => {
        const start = performance.now();
        const { answer } = await import(`/start-${name}.js`);
        await answer(domain);
        return (performance.now() - start) / 1000;
      }, partsOf(this.#setup.contestant));
    } finally {
      await page.close();
    }
  }

  async close() {}
}

/** `floor-ts` is the floor for the module of the domain in TypeScript. */
function partsOf(contestant) {
  const [name, domain] = contestant.split("-");
  return name === "floor" ? { name, domain } : { name: contestant, domain };
}
