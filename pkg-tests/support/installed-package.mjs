// The package as its users have it: packed, and installed from the tarball into an empty project.

import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

const run = promisify(execFile);
const pkg = path.dirname(fileURLToPath(import.meta.resolve("annals/package.json")));

const npm = (args, cwd) => {
  // The npm that started the tests, or else the one on the PATH.
  const script = process.env.npm_execpath ?? "";
  const quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"];
  const options = { cwd, timeout: 120_000 };
  return path.basename(script) === "npm-cli.js"
    ? run(process.execPath, [script, ...args, ...quiet], options)
    : run("npm", [...args, ...quiet], options);
};

/** A project with the package in its node_modules, and the way to remove it. */
export async function installPackage() {
  const folder = await mkdtemp(path.join(tmpdir(), "annals-project-"));
  const remove = () => rm(folder, { recursive: true });
  try {
    await npm(["pack", pkg, "--pack-destination", folder], folder);
    const tarball = (await readdir(folder)).find((name) => name.endsWith(".tgz"));
    await writeFile(path.join(folder, "package.json"), '{ "private": true }\n');
    // Nothing may be needed that is not in it.
    await npm(["install", "--offline", "--prefix", folder, `./${tarball}`], folder);
    return { folder, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
