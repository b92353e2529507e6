// The Chromium of the tests: where it is, and how it is started.

import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const tools = fileURLToPath(new URL("../../.tools", import.meta.url));

/** Where it is if nobody says so, as when a test is run by itself: the system's, or what set-up brought. */
function findIt() {
  const brought = existsSync(tools) ? readdirSync(tools).filter((name) => /^chromium-[\d.]+$/.test(name)) : [];
  const programs = ["/usr/bin/chromium", ...brought.map((name) => `${tools}/${name}/chromium.sh`)];
  const found = programs.find((program) => existsSync(program));
  if (found === undefined) throw new Error("there is no Chromium: `npm run setup` brings one, or name it in CHROME_PATH");
  return found;
}

export const executablePath = process.env.CHROME_PATH || findIt();

export const flags = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Containers have little shared memory in /dev/shm, or none, and pages crash without.
  "--disable-dev-shm-usage",
  // It can't sandbox as root, nor where an npm package brought it: it shows only what the tests serve.
  "--no-sandbox",
];
