// Tests in Node import TypeScript modules; Node 20 reads JavaScript only.

import { rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Imports a module of the tests, given by its URL. What it imports of packages stays an import. */
export async function importTypeScript(url) {
  const name = path.basename(fileURLToPath(url), ".ts");
  // Inside the repository, so that packages are found from there.
  const outfile = path.join(root, ".tools/typescript", `${name}-${process.pid}.mjs`);
  await build({
    entryPoints: [fileURLToPath(url)],
    outfile,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "es2022",
    logLevel: "silent",
  });
  try {
    return await import(pathToFileURL(outfile).href);
  } finally {
    await rm(outfile);
  }
}
