// `npm run build`: the Rust crates and the TypeScript host become pkg/, pkg/ and www/ become
// www/dist. Cargo knows itself what is up to date; every later step is skipped while what it reads
// is unchanged.

import { existsSync } from "node:fs";
import { cp, mkdir, readFile, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { packageManifest } from "./manifest.mjs";
import { setUpPackages } from "./packages.mjs";
import {
  exclusively, hash, hashFiles, inRoot, listFiles, main, run, step, unlessUpToDate,
} from "./shell.mjs";
import { checkSizes } from "./sizes.mjs";
import { buildWasm, setUpCargo, setUpWasm, setUpWasmBindgen } from "./toolchain.mjs";

/**
 * One glue for every host: where the module comes from is each entry's own matter, and an engine
 * that panicked is replaced by resetting the instance.
 */
export const bindgenFlags = ["--target", "web", "--omit-default-module-path", "--experimental-reset-state-function"];

// Never --all-features: it lets wasm-opt write what Node 20 and current browsers refuse. These are
// what rustc's default target uses, all of them in every engine for years.
export const wasmOptFlags = [
  "-O3",
  // Engines compile a function when it is first called, all of it: a function that has swallowed
  // those it alone calls makes the first answer wait for what is not needed. See ARCHITECTURE.md.
  "--one-caller-inline-max-function-size=60",
  // The least addresses are the end of the stack: what is computed from a pointer is never there, so
  // the sum of pointer and offset may be a part of the access.
  "--low-memory-unused",
  // Functions of one kind beside each other, such as the many ways to drop something: it is what gzip
  // sees of the one before that makes the next small.
  "--reorder-functions-by-name",
  "--strip-producers",
  "--enable-bulk-memory",
  "--enable-bulk-memory-opt",
  "--enable-call-indirect-overlong",
  "--enable-multivalue",
  "--enable-mutable-globals",
  "--enable-nontrapping-float-to-int",
  "--enable-reference-types",
  "--enable-sign-ext",
];

const engine = {
  name: "engine module",
  crate: "annals",
  // The crate is an ordinary library; only this build makes a module of it.
  cargo: ["rustc", "-p", "annals", "--lib", "--crate-type", "cdylib", "--features", "wasm-entry"],
  // What is said to be worth inlining is so only if it is little: the standard library says it of
  // functions of a hundred instructions. It is 9 KB, compressed, for a thirtieth of a command's instructions.
  rustc: ["--", "-C", "llvm-args=-inline-threshold=15 -inlinehint-threshold=25"],
  out: "src/host/glue",
  outName: "annals",
  optimise: true,
};

/** For engines without projections and reactions. */
const engineOfLogs = {
  ...engine,
  name: "engine module for the log alone",
  cargo: engine.cargo.with(-1, "wasm-log"),
  out: "src/host/glue-log",
};

const clinic = {
  name: "demo's Rust domain",
  crate: "clinic",
  // As one module only: with a library beside it, Rust leaves link-time optimisation out.
  cargo: ["rustc", "-p", "clinic", "--lib", "--crate-type", "cdylib", "--features", "wasm"],
  out: "www/clinic/pkg",
  outName: "clinic",
  optimise: true,
};

const simulation = {
  name: "simulation module",
  crate: "simulation-wasm",
  cargo: ["build", "-p", "simulation-wasm"],
  out: "pkg-tests/simulation/pkg",
  outName: "simulation",
  optimise: false,
};

/** Sets up what the build needs, and returns it. */
export async function setUpBuild() {
  await setUpPackages();
  await setUpCargo();
  return { toolchain: await setUpWasm(), wasmBindgen: await setUpWasmBindgen() };
}

/** pkg/ and www/dist. */
export async function build(tools) {
  await exclusively("build", async () => {
    await buildModule(engine, tools);
    await buildModule(engineOfLogs, tools);
    await step("npm package", buildPackage);
    await buildModule(clinic, tools);
    await step("demo", buildDemo);
    await step("sizes", checkSizes);
  });
}

/** The simulated host and its checks, as a module that Node runs. */
export async function buildSimulation(tools) {
  await exclusively("build", () => buildModule(simulation, tools));
}

// --- Modules ----------------------------------------------------------------------------------

async function buildModule({ name, crate, cargo, rustc, out, outName, optimise }, { toolchain, wasmBindgen }) {
  await step(name, async () => {
    const compiled = await buildWasm(toolchain, cargo, { profile: "wasm", crate, rustc });
    const module = path.join(out, `${outName}_bg.wasm`);
    const base64 = path.join(out, `${outName}-base64.js`);
    const flags = JSON.stringify([bindgenFlags, optimise && wasmOptFlags]);
    const key = hash(await readFile(compiled), flags, await hashFiles(["package-lock.json", "Cargo.lock"]));
    return unlessUpToDate(out.replaceAll("/", "-"), key, [path.join(out, `${outName}.js`), module, base64], async () => {
      await rm(inRoot(out), { recursive: true, force: true });
      await run(wasmBindgen, [compiled, ...bindgenFlags, "--out-dir", out, "--out-name", outName]);
      if (optimise) {
        const wasmOpt = inRoot("node_modules/binaryen/bin/wasm-opt");
        await run(process.execPath, [wasmOpt, module, ...wasmOptFlags, "-o", module]);
      }
      await writeBase64(module, base64);
    });
  });
}

/** The module as text, for hosts that can load nothing but JavaScript. */
async function writeBase64(module, file) {
  const text = (await readFile(inRoot(module))).toString("base64");
  await writeFile(inRoot(file), `export const wasmBase64 = "${text}";\n`);
  await writeFile(inRoot(file.replace(/\.js$/, ".d.ts")), "export declare const wasmBase64: string;\n");
}

// --- Package ----------------------------------------------------------------------------------

const tsc = inRoot("node_modules/typescript/bin/tsc");
const documents = [
  "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE",
  "docs/adapters.md", "docs/archive.md", "docs/cli.md", "docs/guide.md", "docs/postgres.md",
];

const glues = ["glue/annals.js", "glue-log/annals.js"];

/** Data that every judge and every store is held to, in Rust and here. */
const vectors = "pkg-tests/vectors";

async function buildPackage() {
  const manifest = await packageManifest();
  const key = hash(JSON.stringify(manifest), await hashFiles(["src/host", vectors, "scripts/build.mjs", "package-lock.json", ...documents]));
  const outputs = ["pkg/package.json", "pkg/annals.wasm", "pkg/annals-log.wasm", "pkg/index.js", "pkg/index.d.ts"];
  const remark = await unlessUpToDate("package", key, outputs, async () => {
    // Built aside and then put in place as a whole: a module that was deleted leaves no trace, and
    // a running test never sees half a package.
    const pkg = inRoot(".tools/pkg");
    await rm(pkg, { recursive: true, force: true });
    await run(process.execPath, [tsc, "-p", "src/host/tsconfig.json", "--outDir", pkg]);
    const glue = path.join(pkg, "glue");
    await mkdir(glue, { recursive: true });
    for (const file of ["annals.js", "annals.d.ts", "annals-base64.js", "annals-base64.d.ts"]) {
      await cp(inRoot("src/host/glue", file), path.join(glue, file));
    }
    for (const end of [".js", ".d.ts"]) await cp(inRoot(`src/host/glue-log/annals${end}`), path.join(pkg, `glue-log/annals${end}`));
    await writeVectors(path.join(pkg, "testing/conformance/vectors.js"));
    await bundleEntries(pkg, manifest);
    await cp(inRoot("src/host/glue/annals_bg.wasm"), path.join(pkg, "annals.wasm"));
    await cp(inRoot("src/host/glue-log/annals_bg.wasm"), path.join(pkg, "annals-log.wasm"));
    for (const file of documents) if (existsSync(inRoot(file))) await cp(inRoot(file), path.join(pkg, file));
    await writeFile(path.join(pkg, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);

    const old = inRoot(".tools/pkg.old");
    await rm(old, { recursive: true, force: true });
    if (existsSync(inRoot("pkg"))) await rename(inRoot("pkg"), old);
    await rename(pkg, inRoot("pkg"));
    await rm(old, { recursive: true, force: true });
  });
  await linkPackage();
  return remark;
}

/** The vectors that adapters are tested with as a module, for pages can't import JSON everywhere. */
async function writeVectors(file) {
  const texts = await Promise.all(
    ["judge", "documents", "reads"].map(async (name) => {
      const found = JSON.parse(await readFile(inRoot(vectors, `${name}.json`), "utf8"));
      return `export const ${name} = ${JSON.stringify(found)};\n`;
    }),
  );
  await writeFile(file, texts.join(""));
}

/**
 * Puts each entry into one file, and what entries share into one more: each file costs a program that
 * loads them as they are the better part of a millisecond. The testing kits, which no application loads,
 * share nothing, and the command loads the entries. Declarations stay as they are.
 */
async function bundleEntries(pkg, manifest) {
  const filesOf = (target) => (typeof target === "string" ? [target] : Object.values(target).flatMap(filesOf));
  const entries = filesOf(manifest.exports).filter((file) => file.endsWith(".js"));
  const isTesting = (file) => file.startsWith("./testing/");
  const others = entries.filter((file) => !isTesting(file));
  const command = Object.values(manifest.bin);
  const written = await bundle(pkg, command, [fromEntries(pkg, entries)]);
  for (const entry of entries.filter(isTesting)) written.push(...(await bundle(pkg, [entry], [])));
  written.push(...(await bundle(pkg, others, [await together(pkg, others)])));
  const keep = new Set([...written, ...glues]);
  const folders = new Set(command.map((file) => path.posix.dirname(path.posix.normalize(file))));
  for (const file of await readdir(pkg, { recursive: true })) {
    const name = file.split(path.sep).join("/");
    const isLeft = name.endsWith(".js") && !keep.has(name);
    // Nobody imports the command.
    if (isLeft || (name.endsWith(".d.ts") && folders.has(path.posix.dirname(name)))) await rm(path.join(pkg, file));
  }
}

/** What is not the command's own it takes from the package's entries, as its users do. */
function fromEntries(pkg, entries) {
  const relative = (file) => path.relative(pkg, file).split(path.sep).join("/");
  return {
    name: "from-entries",
    setup({ onResolve }) {
      onResolve({ filter: /^\.\.\// }, ({ path: name, resolveDir }) => {
        const file = relative(path.join(resolveDir, name));
        return entries.includes(`./${file}`) ? { path: name, external: true } : { errors: [{ text: `${file} is no entry of the package` }] };
      });
    },
  };
}

/**
 * esbuild makes a file for each set of entries that share something. To make them one set, each entry
 * names all that any of them shares.
 */
async function together(pkg, entries) {
  const isEntry = (file) => entries.includes(`./${path.relative(pkg, file).split(path.sep).join("/")}`);
  const own = ["entry.js", "log-module.js"].map((name) => path.join(pkg, name));
  const shared = (await readdir(pkg))
    .filter((file) => file.endsWith(".js"))
    .map((file) => path.join(pkg, file))
    .filter((file) => !isEntry(file) && !own.includes(file));
  const imports = shared.map((module) => `import ${JSON.stringify(module)};\n`).join("");
  return {
    name: "together",
    setup({ onLoad, onResolve }) {
      onLoad({ filter: /\.js$/ }, async ({ path: file }) => {
        return isEntry(file) ? { contents: `${await readFile(file, "utf8")}\n${imports}`, loader: "js" } : undefined;
      });
      // Those that bring a ready module each have a copy: who does not must not load its glue.
      onResolve({ filter: /\/(entry|log-module)\.js$/ }, ({ path: name, importer }) => {
        return { path: path.join(pkg, path.basename(name)), suffix: `?${path.basename(importer)}` };
      });
    },
  };
}

/** Bundles entries in place, and returns the names of the files. */
async function bundle(pkg, entryPoints, plugins) {
  const esbuild = await import("esbuild");
  const { metafile } = await esbuild.build({
    absWorkingDir: pkg,
    entryPoints,
    outbase: pkg,
    outdir: ".",
    // Beside the entries, so that what is looked for beside a file is found.
    chunkNames: "shared-[hash]",
    allowOverwrite: true,
    bundle: true,
    splitting: true,
    // wasm-bindgen keeps one instance of a module in its file. By its own name the package is what its
    // users have, in Node and elsewhere.
    external: ["node:*", ...glues.map((file) => `./${file}`), "annals", "annals/*"],
    plugins,
    format: "esm",
    target: "es2022",
    metafile: true,
    logLevel: "silent",
  });
  return Object.keys(metafile.outputs);
}

/**
 * Tests and the demo import `annals` by name, as its users do. A link made here, and not a
 * dependency on file:pkg, leaves `npm ci` independent of a build.
 */
async function linkPackage() {
  const link = inRoot("node_modules/annals");
  if (existsSync(link)) return;
  await rm(link, { force: true });
  await symlink("../pkg", link, "dir");
}

// --- Demo -------------------------------------------------------------------------------------

async function buildDemo() {
  // The Rust sources are in the demo through clinic/pkg.
  const skip = (file) => /^www[\\/](dist|clinic[\\/](src|target)\b)/.test(file);
  const key = await hashFiles(["www", "pkg", "package-lock.json", "scripts/build.mjs"], skip);
  return unlessUpToDate("demo", key, ["www/dist/index.html", "www/dist/main.js"], async () => {
    const dist = inRoot("www/dist");
    await rm(dist, { recursive: true, force: true });
    await mkdir(dist, { recursive: true });
    const esbuild = await import("esbuild");
    await esbuild.build({
      absWorkingDir: inRoot(),
      entryPoints: ["www/src/main.ts"],
      outdir: "www/dist",
      bundle: true,
      format: "esm",
      target: "es2022",
      minify: true,
      sourcemap: true,
      logLevel: "silent",
    });
    // The engine is in the domain's module, which is fetched from beside the bundle.
    await cp(inRoot("www/clinic/pkg/clinic_bg.wasm"), path.join(dist, "clinic.wasm"));
    for (const file of await listFiles(["www"], (name) => /^www[\\/](src|dist|clinic)\b/.test(name))) {
      if (/\.(html|css|svg|png|ico|webmanifest)$/.test(file)) {
        await cp(file, path.join(dist, path.relative(inRoot("www"), file)));
      }
    }
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(async () => build(await setUpBuild()));
}
