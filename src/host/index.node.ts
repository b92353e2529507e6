/// <reference types="node" />
/** Annals for Node: the engine's code is read from beside this file. */
import { readFileSync } from "node:fs";

import { Engine as SlimEngine } from "./engine.js";
import { type ReadyOptions, withModule } from "./entry.js";

export * from "./api.js";

export class Engine extends SlimEngine {
  /** Opens an engine over a store. The first call loads the engine's code. */
  static override open(options: ReadyOptions): Promise<Engine> {
    return super.open(withModule(options, () => readFileSync(new URL("./annals.wasm", import.meta.url))));
  }
}
