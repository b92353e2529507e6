/** Annals for browsers and bundlers: the engine's code is fetched from beside this file. */
import { Engine as SlimEngine } from "./engine.js";
import { type ReadyOptions, withModule } from "./entry.js";

export * from "./api.js";

export class Engine extends SlimEngine {
  /** Opens an engine over a store. The first call loads the engine's code. */
  static override open(options: ReadyOptions): Promise<Engine> {
    return super.open(withModule(options, () => new URL("./annals.wasm", import.meta.url)));
  }
}
