import type { OpenOptions } from "./engine.js";
import {
  __wbg_reset_state,
  createCore,
  exchange,
  freeCore,
  initSync,
  judge,
  lastPanic,
  mailbox,
  makeRoom,
  manage,
  misuse,
  startCore,
} from "./glue/annals.js";
import type { EngineModule, WasmSource } from "./module.js";

const glue = {
  initSync,
  createCore,
  startCore,
  mailbox,
  makeRoom,
  manage,
  exchange,
  judge,
  misuse,
  freeCore,
  lastPanic,
  __wbg_reset_state,
};

/** What an entry that brings the ready module takes. */
export type ReadyOptions = OpenOptions & {
  /** Another module, such as a Rust domain of the application's own. */
  readonly module?: EngineModule;
  /** Where `annals.wasm` is, if not beside the code: what a bundler or a worker makes of it. */
  readonly wasm?: EngineModule["wasm"];
};

/** The options with the ready module, whose code is at `wasm`, unless they bring one. */
export function withModule(
  options: ReadyOptions,
  wasm: () => WasmSource | Promise<WasmSource>,
): OpenOptions & { readonly module: EngineModule } {
  return { ...options, module: options.module ?? { glue, wasm: options.wasm ?? wasm } };
}
