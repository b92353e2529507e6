// The Rust side of the set-up: which compiler makes WebAssembly here, and wasm-bindgen's command.
// The scripts choose; nobody sets variables by hand.

import { existsSync, readdirSync, realpathSync } from "node:fs";
import { chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import {
  Failure, aptInstall, aptUpdate, canApt, inRoot, isExecutable, run, step, tryRun, which,
} from "./shell.mjs";

const target = "wasm32-unknown-unknown";
const minutes = 60_000;

/** Cargo, and the linker that rustup takes for granted but a small container may lack. */
export async function setUpCargo() {
  if (which("cargo") === undefined) {
    throw new Failure("Rust is missing: install it as https://rustup.rs says.");
  }
  if (which("cc") === undefined) {
    if (!canApt()) throw new Failure("a C compiler is missing, which Rust links with (Debian: apt install gcc libc6-dev)");
    await step("C compiler, which Rust links with, from Debian", () => aptInstall(["gcc", "libc6-dev"]));
  }
}

/** rustfmt and Clippy, which a minimal rustup leaves out. */
export async function setUpLinters() {
  for (const [component, program] of [["rustfmt", "fmt"], ["clippy", "clippy"]]) {
    if ((await tryRun("cargo", [program, "--version"])) !== undefined) continue;
    await step(`rustup component ${component}`, () =>
      run("rustup", ["component", "add", component], { limit: 2 * minutes }),
    );
  }
}

// --- The compiler -----------------------------------------------------------------------------

/** Debian's compiler has std's sources but no compiled std for WebAssembly. */
const buildStd = ["-Z", "build-std=std,panic_abort"];

/**
 * How to call cargo for WebAssembly: `{ name, cargo, args, env, targetDir }`.
 *
 * rustup's own target, if it is there or can be added; else Debian's packages, if they are there or
 * can be installed. ANNALS_WASM_TOOLCHAIN=rustup or =debian allows only the one.
 */
export async function setUpWasm() {
  let toolchain;
  await step("compiler for WebAssembly", async () => {
    toolchain = await chooseWasm();
    return toolchain.name;
  });
  return toolchain;
}

async function chooseWasm() {
  const only = process.env.ANNALS_WASM_TOOLCHAIN || undefined;
  if (only !== undefined && only !== "rustup" && only !== "debian") {
    throw new Failure(`ANNALS_WASM_TOOLCHAIN is ${only}, expected rustup or debian`);
  }
  // Adding a target can hang until its time limit, so a machine where it failed remembers.
  const failed = inRoot(".tools/rustup-target-failed");
  const reasons = [];

  if (only !== "debian") {
    if (await rustupHasTarget()) return rustup();
    if (which("rustup") === undefined) {
      reasons.push("rustup was not found");
    } else if (existsSync(failed) && only !== "rustup" && (await findDebian()) !== undefined) {
      reasons.push("rustup could not add it earlier");
    } else {
      try {
        await run("rustup", ["target", "add", target], { limit: 1 * minutes });
        if (await rustupHasTarget()) return rustup();
        reasons.push("rustup added it to another toolchain than the one in use");
      } catch (error) {
        reasons.push(error.message);
      }
      await mkdir(path.dirname(failed), { recursive: true });
      await writeFile(failed, "");
    }
  }

  if (only !== "rustup") {
    const found = await findDebian();
    if (found !== undefined) return found;
    if (canApt()) {
      try {
        await aptInstall(await debianPackages());
        const installed = await findDebian();
        if (installed !== undefined) return installed;
        reasons.push("Debian's packages were installed, but are older than Cargo.toml's rust-version or incomplete");
      } catch (error) {
        reasons.push(error.message);
      }
    } else {
      reasons.push("Debian's packages can't be installed: that takes apt-get and root");
    }
  }

  throw new Failure(
    [
      `No Rust compiler for ${target}. Either of these helps:`,
      `  rustup target add ${target}`,
      "  as root on Debian: apt-get install rustc-web cargo-web rust-web-src lld-22 (or rustc cargo rust-src lld)",
      "",
      "What was tried:",
      ...reasons.map((reason) => `- ${reason}`),
    ].join("\n"),
  );
}

async function rustupHasTarget() {
  const folder = await tryRun("rustc", ["--print", "target-libdir", "--target", target]);
  return folder !== undefined && existsSync(folder) && readdirSync(folder).some((file) => /^libstd-.*\.rlib$/.test(file));
}

const rustup = () => ({ name: "rustup", cargo: "cargo", args: [], env: {}, targetDir: inRoot("target") });

/**
 * Debian's own cargo and rustc, by absolute path: the same names on the PATH may be rustup's
 * proxies. A target folder of its own keeps the two compilers from rebuilding each other's work.
 */
async function findDebian() {
  const cargo = "/usr/bin/cargo";
  const rustc = "/usr/bin/rustc";
  for (const program of [cargo, rustc]) {
    // Debian also has a package `rustup`, which puts its proxies there.
    if (!isExecutable(program) || path.basename(realpathSync(program)).startsWith("rustup")) return undefined;
  }
  const sysroot = await tryRun(rustc, ["--print", "sysroot"]);
  if (sysroot === undefined || !existsSync(path.join(sysroot, "lib/rustlib/src/rust/library/std"))) return undefined;
  if (isOlder((await tryRun(rustc, ["--version"])).split(" ")[1], await rustVersion())) return undefined;
  const linker = readdirSync("/usr/bin").filter((file) => /^wasm-ld(-\d+)?$/.test(file)).sort(byNumber).at(-1);
  if (linker === undefined) return undefined;
  return {
    name: "Debian",
    cargo,
    args: buildStd,
    env: {
      RUSTC: rustc,
      // -Z is for nightly compilers otherwise; building std is all it is used for.
      RUSTC_BOOTSTRAP: "1",
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: path.join("/usr/bin", linker),
    },
    targetDir: inRoot("target/debian"),
  };
}

/** Bookworm has the current compiler under the names that Firefox and Chromium are built with. */
async function debianPackages() {
  await aptUpdate();
  const names = (await run("apt-cache", ["search", "--names-only", "^(rustc-web|lld(-[0-9]+)?)$"]))
    .split("\n")
    .map((line) => line.split(" ")[0]);
  const rust = names.includes("rustc-web") ? ["rustc-web", "cargo-web", "rust-web-src"] : ["rustc", "cargo", "rust-src"];
  const linker = names.filter((name) => name.startsWith("lld")).sort(byNumber).at(-1) ?? "lld";
  return [...rust, linker];
}

const byNumber = (a, b) => Number(a.split(/-(?=\d)/)[1] ?? 0) - Number(b.split(/-(?=\d)/)[1] ?? 0);

async function rustVersion() {
  const manifest = await readFile(inRoot("Cargo.toml"), "utf8");
  return /^rust-version\s*=\s*"(.*)"/m.exec(manifest)?.[1] ?? "0";
}

function isOlder(version, least) {
  const [a, b] = [version, least].map((text) => text.split(".").map((part) => Number.parseInt(part, 10)));
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return a[i] < b[i];
  return false;
}

/**
 * Runs cargo for WebAssembly and returns the path of the module it made. `rustc` are arguments for the
 * compiler of the crate itself, which with link-time optimisation compiles all the others once more.
 */
export async function buildWasm(toolchain, args, { profile, crate, rustc = [] }) {
  await run(
    toolchain.cargo,
    [...args, "--profile", profile, "--target", target, "--target-dir", toolchain.targetDir, ...toolchain.args, ...rustc],
    { env: toolchain.env, limit: 20 * minutes },
  );
  return path.join(toolchain.targetDir, target, profile, `${crate.replaceAll("-", "_")}.wasm`);
}

// --- wasm-bindgen -----------------------------------------------------------------------------

/** The path of a wasm-bindgen command of exactly the version that Cargo.lock has. */
export async function setUpWasmBindgen() {
  const version = await wasmBindgenVersion();
  const own = inRoot(".tools/bin/wasm-bindgen");
  for (const program of [own, which("wasm-bindgen")]) {
    if (program !== undefined && (await tryRun(program, ["--version"])) === `wasm-bindgen ${version}`) return program;
  }
  await step(`wasm-bindgen ${version}, compiled once (half a minute to two minutes)`, async () => {
    const manifest = inRoot("scripts/bindgen/Cargo.toml");
    if (!(await readFile(manifest, "utf8")).includes(`"=${version}"`)) {
      throw new Failure(
        `Cargo.lock has wasm-bindgen ${version}: write that version into scripts/bindgen/Cargo.toml, twice,\n` +
          "and run: cargo update --manifest-path scripts/bindgen/Cargo.toml",
      );
    }
    const targetDir = inRoot(".tools/bindgen");
    await run("cargo", ["build", "--locked", "--manifest-path", manifest, "--target-dir", targetDir]);
    await mkdir(path.dirname(own), { recursive: true });
    // Renaming replaces the program as a whole, even while another script is running it.
    await copyFile(path.join(targetDir, "debug/bindgen"), `${own}.new`);
    await chmod(`${own}.new`, 0o755);
    await rename(`${own}.new`, own);
    await rm(targetDir, { recursive: true });
  });
  return own;
}

async function wasmBindgenVersion() {
  const lock = await readFile(inRoot("Cargo.lock"), "utf8");
  const version = /name = "wasm-bindgen"\nversion = "(.*)"/.exec(lock)?.[1];
  if (version === undefined) throw new Failure("Cargo.lock names no wasm-bindgen");
  return version;
}
