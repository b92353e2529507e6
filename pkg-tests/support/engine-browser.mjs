// A real browser and a server for pages with an engine.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { serve } from "../../scripts/serve.mjs";
import { executablePath, flags } from "./chromium.mjs";

export { executablePath, flags };

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
  await cp(fileURLToPath(import.meta.resolve("annals/annals.wasm")), path.join(folder, "annals.wasm"));
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
  page.setDefaultTimeout(15_000);
  await page.goto(url);
  await page.waitForFunction(() => globalThis.isReady);
  return page;
}

export const launch = () => chromium.launch({ executablePath, args: flags });

/** A browser with a profile of its own, started as a process that can be killed. */
export async function startProcess(profile) {
  const process = spawn(
    executablePath,
    [...flags, "--headless=new", "--no-first-run", `--user-data-dir=${profile}`, "--remote-debugging-port=0", "about:blank"],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  for await (const line of createInterface({ input: process.stderr })) {
    const [, endpoint] = /^DevTools listening on (.+)$/.exec(line) ?? [];
    if (endpoint === undefined) continue;
    process.stderr.resume();
    const browser = await chromium.connectOverCDP(endpoint);
    return {
      context: browser.contexts()[0],
      /** Ends it as a crash would. */
      async kill() {
        const ended = once(process, "exit");
        process.kill("SIGKILL");
        await ended;
      },
    };
  }
  throw new Error(`the browser has ended with ${process.exitCode ?? process.signalCode}`);
}
