/// <reference types="node" />
/** Annals for Node: the engine's code is read from beside this file. */
import { Engine as SlimEngine } from "./engine.js";
import { type ReadyOptions, withModule } from "./entry.js";
import { withLogModule } from "./log-module.js";

export * from "./api.js";

/** Not imported: an `import` of Node's own modules takes milliseconds, and this none. */
const read = (name: string) => () =>
  process.getBuiltinModule("node:fs").readFileSync(new URL(name, import.meta.url));

export class Engine extends SlimEngine {
  /** Opens an engine over a store. The first call loads the engine's code. */
  static override open(options: ReadyOptions): Promise<Engine> {
    return super.open(withModule(withLogModule(options, read("./annals-log.wasm")), read("./annals.wasm")));
  }
}
