/** Annals in one piece, for hosts that can load nothing but JavaScript. */
import { Engine as SlimEngine } from "./engine.js";
import { type ReadyOptions, withModule } from "./entry.js";
import { wasmBase64 } from "./glue/annals-base64.js";

export * from "./api.js";

export class Engine extends SlimEngine {
  /** Opens an engine over a store. The first call loads the engine's code. */
  static override open(options: ReadyOptions): Promise<Engine> {
    return super.open(withModule(options, () => {
      return Uint8Array.from(atob(wasmBase64), (char) => char.charCodeAt(0));
    }));
  }
}
