/** The smaller of the ready modules, which has neither projections nor reactions. */
import type { ReadyOptions } from "./entry.js";
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
} from "./glue-log/annals.js";
import type { WasmSource } from "./module.js";

/** Made by the same code as that of the whole module; of each of them a page may have an instance. */
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

/** The options with this module, whose code is at `wasm`, if it can do what they ask for. */
export function withLogModule(options: ReadyOptions, wasm: () => WasmSource | Promise<WasmSource>): ReadyOptions {
  const { projections = [], reactions = [] } = options;
  const brings = options.module !== undefined || options.wasm !== undefined;
  return brings || projections.length + reactions.length > 0 ? options : { ...options, module: { glue, wasm } };
}
