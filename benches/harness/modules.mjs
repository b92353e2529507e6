// Modules that only the benchmarks need: the bare one, and the package's own with the names of its
// functions, for profiles.

import { chmod, copyFile, mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { bindgenFlags, wasmOptFlags } from "../../scripts/build.mjs";
import { hash, inRoot, run, step, unlessUpToDate } from "../../scripts/shell.mjs";
import { buildWasm } from "../../scripts/toolchain.mjs";

const manifest = ["--manifest-path", "benches/bare/Cargo.toml"];

/** benches/bare, in WebAssembly at two levels of optimisation, and natively. */
export async function buildBare({ toolchain, wasmBindgen }) {
  await step("bare replay in Rust", async () => {
    for (const profile of ["wasm", "wasm-fast"]) {
      const args = ["rustc", ...manifest, "--lib", "--crate-type", "cdylib", "--features", "wasm"];
      const compiled = await buildWasm(toolchain, args, { profile, crate: "bare" });
      await makeModule(compiled, `benches/bare/pkg/${profile}`, "bare", wasmBindgen, ["-O3"]);
    }
    await run("cargo", ["build", ...manifest, "--release", "--bin", "bare", "--target-dir", "target"]);
    await copyFile(inRoot("target/release/bare"), inRoot("benches/bare/pkg/bare"));
    await chmod(inRoot("benches/bare/pkg/bare"), 0o755);
  });
}

/** The modules of the package and of the demo's domain, compiled by the build before, with names. */
export async function buildNamed({ toolchain, wasmBindgen }) {
  const compiled = (crate) => path.join(toolchain.targetDir, "wasm32-unknown-unknown/wasm", `${crate}.wasm`);
  await step("modules with names", async () => {
    for (const crate of ["annals", "clinic"]) {
      await makeModule(compiled(crate), `.tools/bench/${crate}`, crate, wasmBindgen, [...wasmOptFlags, "-g"]);
    }
  });
  const moduleOf = (crate) => inRoot(`.tools/bench/${crate}/${crate}_bg.wasm`);
  return { annals: moduleOf("annals"), clinic: moduleOf("clinic") };
}

async function makeModule(compiled, out, outName, wasmBindgen, flags) {
  const module = path.join(out, `${outName}_bg.wasm`);
  const key = hash(await readFile(compiled), ...bindgenFlags, ...flags);
  await unlessUpToDate(`bench-${out.replaceAll("/", "-")}`, key, [module], async () => {
    await mkdir(inRoot(out), { recursive: true });
    await run(wasmBindgen, [compiled, ...bindgenFlags, "--out-dir", out, "--out-name", outName]);
    const wasmOpt = inRoot("node_modules/binaryen/bin/wasm-opt");
    await run(process.execPath, [wasmOpt, module, ...flags, "-o", module]);
  });
}
