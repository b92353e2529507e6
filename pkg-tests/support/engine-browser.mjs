// A server for pages with an engine.

import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { serve } from "../../scripts/serve.mjs";
import { patience } from "./browser.mjs";

/** Builds the page of engine-page.mjs and serves it. */
export async function serveEnginePage() {
  const folder = await mkdtemp(path.join(tmpdir(), "annals-page-"));
  await build({
    entryPoints: [fileURLToPath(new URL("engine-page.mjs", import.meta.url))],
    outfile: path.join(folder, "page.js"),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    logLevel: "silent",
  });
  for (const name of ["annals.wasm", "annals-log.wasm"]) {
    await cp(fileURLToPath(import.meta.resolve(`annals/${name}`)), path.join(folder, name));
  }
  await writeFile(
    path.join(folder, "index.html"),
    '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Engine</title><script type="module" src="page.js"></script>',
  );
  const server = await serve(folder, { port: 0 });
  return {
    url: server.url,
    async close() {
      server.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** A page of the context with the script loaded. */
export async function openPage(context, url) {
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  await page.goto(url);
  await page.waitForFunction(() => globalThis.isReady);
  return page;
}
