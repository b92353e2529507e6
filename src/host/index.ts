/** Annals for browsers and bundlers: the engine's code is fetched from beside this file. */
import { Engine as SlimEngine } from "./engine.js";
import { type ReadyOptions, withModule } from "./entry.js";
import { withLogModule } from "./log-module.js";

export * from "./api.js";

export class Engine extends SlimEngine {
  /** Opens an engine over a store. The first call loads the engine's code. */
  static override open(options: ReadyOptions): Promise<Engine> {
    const forLogs = withLogModule(options, () => new URL("./annals-log.wasm", import.meta.url));
    return super.open(withModule(forLogs, () => new URL("./annals.wasm", import.meta.url)));
  }
}
