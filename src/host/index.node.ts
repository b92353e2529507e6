/// <reference types="node" />
/** Annals for Node: the engine's code is read from beside this file. */
import { Engine as SlimEngine } from "./engine.js";
import { type ReadyOptions, withModule } from "./entry.js";

export * from "./api.js";

/** Not imported: an `import` of Node's own modules takes milliseconds, and this none. */
const code = () => process.getBuiltinModule("node:fs").readFileSync(new URL("./annals.wasm", import.meta.url));

export class Engine extends SlimEngine {
  /** Opens an engine over a store. The first call loads the engine's code. */
  static override open(options: ReadyOptions): Promise<Engine> {
    return super.open(withModule(options, code));
  }
}
