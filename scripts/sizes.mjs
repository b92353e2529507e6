// What a page has to download, held to a budget. Compressed, because that is what travels.

import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { Failure, inRoot } from "./shell.mjs";

const budgets = {
  "engine module": 120.4 * 1024,
  "for the log alone": 87 * 1024,
  "browser entry with IndexedDB": 24.2 * 1024,
};

/** Returns the sizes as a remark. */
export async function checkSizes() {
  const sizes = {
    "engine module": compressed(await readFile(inRoot("pkg/annals.wasm"))),
    "for the log alone": compressed(await readFile(inRoot("pkg/annals-log.wasm"))),
    "browser entry with IndexedDB": compressed(await browserEntry()),
  };
  const over = Object.entries(sizes).filter(([what, size]) => size > budgets[what]);
  if (over.length > 0) {
    const lines = over.map(([what, size]) => `${what}: ${size} bytes, expected at most ${budgets[what]}`);
    throw new Failure(`Over the size budget, compressed by gzip -9:\n${lines.join("\n")}`);
  }
  const shown = Object.entries(sizes).map(([what, size]) => `${what} ${kilobytes(size)} of ${kilobytes(budgets[what])}`);
  return `gzip: ${shown.join(", ")}`;
}

const compressed = (bytes) => gzipSync(bytes, { level: 9 }).length;

const kilobytes = (bytes) => `${(bytes / 1024).toFixed(1)} KB`;

/** Everything that both entries export: the most that an application can pull in through them. */
async function browserEntry() {
  const esbuild = await import("esbuild");
  const { outputFiles } = await esbuild.build({
    stdin: { contents: 'export * from "./index.js"; export * from "./indexeddb/index.js";', resolveDir: inRoot("pkg") },
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    write: false,
    logLevel: "silent",
  });
  return outputFiles[0].contents;
}
