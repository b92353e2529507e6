// Every crate, and every npm package that users get with ours, may be used in closed software.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { packageManifest } from "./manifest.mjs";
import { Failure, inRoot, run } from "./shell.mjs";

const allowed = new Set([
  "0BSD", "Apache-2.0", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
  "MIT", "MIT-0", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Zlib",
]);

/** Its terms are about passing the code on, which tools and tests do not do. */
const allowedInDevelopment = new Set([...allowed, "MPL-2.0"]);

export async function checkLicences() {
  const packages = [...(await crates()), ...(await npmPackages())];
  const refused = packages.filter(({ licence, ships }) => !permits(licence, ships ? allowed : allowedInDevelopment));
  if (refused.length > 0) {
    const lines = refused.map(({ name, licence }) => `${name}: ${licence ?? "no licence given"}`);
    throw new Failure(`Licences that are not on the list in scripts/licences.mjs:\n${lines.join("\n")}`);
  }
  return `${packages.length} packages`;
}

async function crates() {
  const { packages, resolve, workspace_members } = JSON.parse(
    await run("cargo", ["metadata", "--format-version", "1", "--locked", "--all-features"]),
  );
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const ships = new Set();
  const visit = (id) => {
    if (ships.has(id)) return;
    ships.add(id);
    for (const { pkg, dep_kinds } of nodes.get(id).deps) {
      if (dep_kinds.some(({ kind }) => kind !== "dev")) visit(pkg);
    }
  };
  workspace_members.forEach(visit);
  return packages.map(({ id, name, version, license }) => ({
    name: `crate ${name} ${version}`,
    licence: license,
    ships: ships.has(id),
  }));
}

async function npmPackages() {
  const found = new Map();
  const visit = async ({ dependencies = {}, optionalDependencies = {}, peerDependencies = {} }) => {
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const file = inRoot("node_modules", name, "package.json");
      if (found.has(name) || !existsSync(file)) continue;
      const manifest = JSON.parse(await readFile(file, "utf8"));
      found.set(name, { name: `npm ${name} ${manifest.version}`, licence: manifest.license, ships: true });
      await visit(manifest);
    }
  };
  await visit(await packageManifest());
  return [...found.values()];
}

/**
 * Whether an SPDX expression can be met by the allowed licences alone. AND binds tighter than OR;
 * an exception (WITH) only adds permissions; old crates write OR as a slash.
 */
export function permits(expression, licences) {
  const tokens = (expression ?? "").replaceAll("/", " OR ").match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const either = () => {
    let result = both();
    while (tokens[at] === "OR") {
      at += 1;
      const right = both();
      result = result || right;
    }
    return result;
  };
  const both = () => {
    let result = single();
    while (tokens[at] === "AND") {
      at += 1;
      const right = single();
      result = result && right;
    }
    return result;
  };
  const single = () => {
    const token = tokens[at++];
    if (token === "(") {
      const result = either();
      at += 1; // the closing parenthesis
      return result;
    }
    if (tokens[at] === "WITH") at += 2;
    return licences.has(token);
  };
  return either() && at === tokens.length;
}
