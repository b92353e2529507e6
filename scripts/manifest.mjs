// The published package's package.json. It lives here and not in a file because the version and the
// description are Cargo.toml's, and because pkg/ is built from nothing.

import { readFile } from "node:fs/promises";
import { Failure, inRoot } from "./shell.mjs";

const entry = (file) => ({ types: `./${file}.d.ts`, default: `./${file}.js` });

export async function packageManifest() {
  const cargo = await readFile(inRoot("Cargo.toml"), "utf8");
  const fromCargo = (key) => {
    const value = new RegExp(`^${key}\\s*=\\s*"(.*)"`, "m").exec(cargo)?.[1];
    if (value === undefined) throw new Failure(`Cargo.toml has no ${key}`);
    return value;
  };
  return {
    name: "annals",
    version: fromCargo("version"),
    description: fromCargo("description"),
    keywords: ["event-sourcing", "cqrs", "event-store", "projection", "snapshot", "wasm", "offline-first"],
    license: fromCargo("license"),
    type: "module",
    // `require()` of an ECMAScript module needs it.
    engines: { node: ">=20.19" },
    sideEffects: false,
    exports: {
      // Node reads the module from disk; everything else fetches it from beside the file.
      ".": { node: entry("index.node"), default: entry("index") },
      "./slim": entry("slim"),
      "./inline": entry("inline"),
      "./memory": entry("memory/index"),
      "./indexeddb": entry("indexeddb/index"),
      "./sqlite": entry("sqlite/index"),
      "./postgres": entry("postgres/index"),
      "./projections": entry("projections/index"),
      "./reactions": entry("reactions/index"),
      "./subscriptions": entry("subscriptions/index"),
      "./operations": entry("operations/index"),
      "./overlay": entry("overlay/index"),
      "./audit": entry("audit/index"),
      "./testing": entry("testing/index"),
      "./testing/conformance": entry("testing/conformance/index"),
      "./annals.wasm": "./annals.wasm",
      "./annals-log.wasm": "./annals-log.wasm",
      "./package.json": "./package.json",
    },
    bin: { annals: "./cli/main.js" },
    files: ["**/*.js", "**/*.d.ts", "*.wasm", "docs/*.md", "CHANGELOG.md"],
  };
}
