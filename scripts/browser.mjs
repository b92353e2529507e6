// A Chromium for the browser tests.

import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { installAside } from "./packages.mjs";
import { Failure, aptInstall, canApt, inRoot, isExecutable, run, step, tryRun, which } from "./shell.mjs";

/**
 * The path of a Chromium: CHROME_PATH, one on the PATH, one from the npm registry, or, as root,
 * Debian's. The registry's comes before Debian's because it needs no root and changes nothing
 * outside this folder.
 */
export async function setUpBrowser() {
  let program;
  await step("Chromium for the browser tests", async () => {
    program = await chooseBrowser();
    return (await tryRun(program, ["--version"])) ?? program;
  });
  return program;
}

async function chooseBrowser() {
  const asked = process.env.CHROME_PATH;
  if (asked) {
    if (!isExecutable(asked)) throw new Failure(`CHROME_PATH is ${asked}, which is no program`);
    return asked;
  }
  for (const name of ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    const program = which(name);
    if (program !== undefined) return program;
  }
  const reasons = [];
  for (const attempt of [fromRegistry, fromDebian]) {
    try {
      const program = await attempt();
      if ((await tryRun(program, ["--version"])) !== undefined) return program;
      reasons.push(`${program} does not start`);
    } catch (error) {
      reasons.push(error.message);
    }
  }
  throw new Failure(
    [
      "No Chromium for the browser tests: install one, or name its program in CHROME_PATH.",
      "What was tried:",
      ...reasons.map((reason) => `- ${reason}`),
    ].join("\n"),
  );
}

async function fromDebian() {
  if (!canApt()) throw new Failure("Debian's can't be installed: that takes apt-get and root");
  await aptInstall(["chromium"]);
  return which("chromium") ?? "chromium";
}

const registryVersion = "153.0.0";

/**
 * A headless Chromium in an npm package, made for bare servers: it brings the system libraries that
 * it needs. Its own code unpacks to /tmp at every start and wants a newer Node than we do, so only
 * its archives are used.
 */
async function fromRegistry() {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Failure("the npm registry has one for 64-bit Linux on Intel's architecture only");
  }
  const folder = inRoot(".tools", `chromium-${registryVersion}`);
  const program = path.join(folder, "chromium.sh");
  if (existsSync(program)) return program;

  const archives = path.join(await installAside("@sparticuz/chromium", registryVersion), "bin");
  const unpack = async (name) => promisify(brotliDecompress)(await readFile(path.join(archives, `${name}.br`)));
  const unfinished = `${folder}.new`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  await writeFile(path.join(unfinished, "chromium"), await unpack("chromium"), { mode: 0o755 });
  for (const name of ["al2023.tar", "fonts.tar", "swiftshader.tar"]) {
    const tar = path.join(unfinished, name);
    await writeFile(tar, await unpack(name));
    await run("tar", ["-xf", tar, "-C", unfinished]);
    await rm(tar);
  }
  // The archive's own names folders under /tmp. Without any font Chromium crashes at form fields.
  await writeFile(
    path.join(unfinished, "fonts.conf"),
    [
      '<?xml version="1.0"?>',
      '<!DOCTYPE fontconfig SYSTEM "fonts.dtd">',
      "<fontconfig>",
      '  <dir prefix="relative">fonts</dir>',
      "  <dir>/usr/share/fonts</dir>",
      '  <cachedir prefix="xdg">fontconfig</cachedir>',
      "</fontconfig>",
      "",
    ].join("\n"),
  );
  await writeFile(
    path.join(unfinished, "chromium.sh"),
    [
      "#!/bin/sh",
      'here=$(dirname "$0")',
      'LD_LIBRARY_PATH="$here/lib" FONTCONFIG_PATH="$here" exec "$here/chromium" "$@"',
      "",
    ].join("\n"),
  );
  await chmod(path.join(unfinished, "chromium.sh"), 0o755);
  await rename(unfinished, folder);
  return program;
}
