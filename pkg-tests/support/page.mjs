// Pages of a real browser in which tests import the package by name.

import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";
import { launch, patience } from "./browser.mjs";

const folders = {
  "/pkg/": path.dirname(fileURLToPath(import.meta.resolve("annals/package.json"))),
  "/support/": path.dirname(fileURLToPath(import.meta.url)),
  "/clinic/": fileURLToPath(new URL("../clinic", import.meta.url)),
  "/formats/": fileURLToPath(new URL("../formats", import.meta.url)),
};

const types = {
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".ts": "text/javascript",
  ".wasm": "application/wasm",
};

const imports = {
  annals: "/pkg/index.js",
  "annals/audit": "/pkg/audit/index.js",
  "annals/indexeddb": "/pkg/indexeddb/index.js",
  "annals/memory": "/pkg/memory/index.js",
  "annals/operations": "/pkg/operations/index.js",
  "annals/overlay": "/pkg/overlay/index.js",
  "annals/projections": "/pkg/projections/index.js",
  "annals/reactions": "/pkg/reactions/index.js",
  "annals/testing": "/pkg/testing/index.js",
  "annals/testing/conformance": "/pkg/testing/conformance/index.js",
};

const html = `<!doctype html><meta charset="utf-8"><title>Annals</title>
<script type="importmap">${JSON.stringify({ imports })}</script>`;

/** Starts a server for pages, at `url`. */
export async function startServer() {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Starts a Chromium and a server for it; `page()` opens a page, `close()` ends both. */
export async function startBrowser() {
  const server = await startServer();
  const { url } = server;
  const browser = await launch();
  const context = await browser.newContext();
  return {
    /** Where the pages come from. */
    origin: url,
    /** Pages share what they store, but for those that are `apart`. */
    async page({ apart = false } = {}) {
      const page = await (apart ? await browser.newContext() : context).newPage();
      page.setDefaultTimeout(patience);
      await page.goto(url);
      return page;
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
}

async function answer({ url }, response) {
  const { pathname } = new URL(url, "http://localhost");
  if (pathname === "/") return response.writeHead(200, { "content-type": "text/html" }).end(html);
  const prefix = Object.keys(folders).find((prefix) => pathname.startsWith(prefix));
  const file =
    prefix && path.join(folders[prefix], path.posix.normalize(pathname.slice(prefix.length - 1)));
  const found = file && (await stat(file).catch(() => undefined));
  if (!found?.isFile()) return response.writeHead(404).end();
  response.writeHead(200, {
    "content-type": types[path.extname(file)] ?? "application/octet-stream",
  });
  if (file.endsWith(".ts")) return response.end(await compiled(file));
  createReadStream(file).pipe(response);
}

/** Pages read JavaScript only. */
async function compiled(file) {
  const { code } = await transform(await readFile(file, "utf8"), { loader: "ts", target: "es2022" });
  return code;
}
