import { AnnalsError } from "./errors.js";
import { type Output, Reader, readOutputs, readVerdicts, Writer, writeFacts } from "./wire.js";
import type { Facts, Verdict } from "./storage.js";

/** What wasm-bindgen makes of the engine, or of a crate that exports its domain. */
export interface Glue {
  initSync(options: { module: BufferSource | WebAssembly.Module }): WasmExports;
  default(options: { module_or_path: WasmSource | Promise<WasmSource> }): Promise<WasmExports>;
  createCore(words: Uint32Array, text: Uint8Array): GlueCore;
  lastPanic(): string | undefined;
  __wbg_reset_state(): void;
}

export type WasmSource = string | URL | Request | Response | BufferSource | WebAssembly.Module;

/** A module to run the engine in: its glue, and where its code is. */
export interface EngineModule {
  readonly glue: Glue;
  /** Called when an engine is opened and the code has not been loaded. */
  readonly wasm: WasmSource | (() => WasmSource | Promise<WasmSource>);
}

interface WasmExports {
  readonly memory: WebAssembly.Memory;
}

interface GlueCore {
  isNative(index: number): boolean;
  inputWords(count: number): number;
  inputText(bytes: number): number;
  trimInputText(bytes: number): void;
  handleInput(now: number): void;
  pollOutputs(): number;
  judge(request: number): number;
  outputWords(): number;
  outputText(): number;
  outputTextLength(): number;
  free(): void;
}

/** A running instance of a module. All engines opened on it share its memory, and its fate. */
class Instance {
  readonly glue: Glue;
  readonly memory: WebAssembly.Memory;
  /** The engines that run on it. */
  readonly engines = new Set<(error: AnnalsError) => void>();
  /** What its panic was; it must not be called after. */
  poison: AnnalsError | null = null;

  constructor(glue: Glue, exports: WasmExports) {
    this.glue = glue;
    this.memory = exports.memory;
  }

  /** Runs a call into the module. A trap is a panic: it ends the instance and all its engines. */
  guard<T>(call: () => T): T {
    if (this.poison !== null) throw this.poison;
    try {
      return call();
    } catch (error) {
      if (isMisuse(error)) throw new AnnalsError(error.code, error.message, {});
      this.poison = new AnnalsError(
        "engine-poisoned",
        `the engine panicked, which is a bug of Annals: ${this.#panic() ?? String(error)}`,
        {},
        error,
      );
      for (const onPoison of this.engines) onPoison(this.poison);
      throw this.poison;
    }
  }

  /** The memory of a module that has trapped can still be read. */
  #panic(): string | undefined {
    try {
      return this.glue.lastPanic();
    } catch {
      return undefined;
    }
  }
}

function isMisuse(error: unknown): error is { code: "api-misuse"; message: string } {
  return (
    typeof error === "object" &&
    error !== null &&
    !(error instanceof Error) &&
    (error as { code?: unknown }).code === "api-misuse"
  );
}

/** The glue keeps one instance; this keeps whether it may still be used. */
const instances = new WeakMap<Glue, Promise<Instance>>();

async function instantiate({ glue, wasm }: EngineModule): Promise<Instance> {
  const known = instances.get(glue);
  const instance = await known;
  if (instance !== undefined && instance.poison === null) return instance;
  // Another caller may have begun while this one waited.
  const current = instances.get(glue);
  if (current !== known && current !== undefined) return current;
  const starting = instance === undefined ? load(glue, wasm) : restart(glue);
  instances.set(glue, starting);
  starting.catch(() => instances.delete(glue));
  return starting;
}

async function load(glue: Glue, wasm: EngineModule["wasm"]): Promise<Instance> {
  try {
    const source = typeof wasm === "function" ? wasm() : wasm;
    // Bytes at hand are compiled at once: no wait, and no need of a streaming compiler.
    if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) {
      return new Instance(glue, glue.initSync({ module: source }));
    }
    return new Instance(glue, await glue.default({ module_or_path: source }));
  } catch (error) {
    throw new AnnalsError("module-failed", `the engine can't be loaded: ${String(error)}`, {}, error);
  }
}

/** A fresh instance of a module whose last one panicked. */
async function restart(glue: Glue): Promise<Instance> {
  glue.__wbg_reset_state();
  // The module is there, so this only hands out what the reset has made.
  return new Instance(glue, glue.initSync({ module: new Uint8Array() }));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The engine in WebAssembly, spoken to in messages. */
export class Core {
  readonly #instance: Instance;
  readonly #core: GlueCore;
  readonly #onPoison: (error: AnnalsError) => void;
  #freed = false;

  private constructor(instance: Instance, core: GlueCore, onPoison: (error: AnnalsError) => void) {
    this.#instance = instance;
    this.#core = core;
    this.#onPoison = onPoison;
  }

  static async create(
    module: EngineModule,
    aggregates: string[],
    limits: readonly number[],
    onPoison: (error: AnnalsError) => void,
  ): Promise<Core> {
    const instance = await instantiate(module);
    const seed = crypto.getRandomValues(new Uint32Array(8));
    const message = new Writer();
    for (const word of [...seed, ...limits]) message.word(word);
    message.strings(aggregates).countBytes();
    const core = instance.guard(() =>
      instance.glue.createCore(Uint32Array.from(message.words), encoder.encode(message.text())),
    );
    instance.engines.add(onPoison);
    return new Core(instance, core, onPoison);
  }

  /** Whether the engine is closed, or its module has panicked. */
  get isFreed(): boolean {
    return this.#freed;
  }

  isNative(index: number): boolean {
    return this.#call(() => this.#core.isNative(index));
  }

  handleInput(message: Writer): void {
    this.#call(() => {
      this.#write(message);
      this.#core.handleInput(Date.now());
    });
  }

  /** Outputs up to and including the first that must be answered before more is asked. */
  pollOutputs(): Output[] {
    return this.#call(() => readOutputs(this.#read(this.#core.pollOutputs())));
  }

  /** `null` if the append is no longer under way. */
  judge(request: number, facts: Facts): Verdict[] | null {
    return this.#call(() => {
      const message = new Writer();
      writeFacts(message, facts);
      this.#write(message);
      const words = this.#core.judge(request);
      return words === 0 ? null : readVerdicts(this.#read(words));
    });
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#instance.engines.delete(this.#onPoison);
    // The memory of a poisoned instance goes with the instance.
    if (this.#instance.poison === null) this.#instance.guard(() => this.#core.free());
  }

  #call<T>(call: () => T): T {
    if (this.#freed) throw new AnnalsError("engine-closed", "the engine is closed", {});
    return this.#instance.guard(call);
  }

  #write(message: Writer): void {
    const text = message.text();
    // A view is made after its room was: making room may move the memory.
    const room = text.length * 3;
    const { memory } = this.#instance;
    const address = this.#core.inputText(room);
    const bytes = new Uint8Array(memory.buffer, address, room);
    const { written } = encoder.encodeInto(text, bytes);
    if (written !== text.length) message.countBytes();
    this.#core.trimInputText(written);
    new Uint32Array(memory.buffer, this.#core.inputWords(message.words.length), message.words.length).set(
      message.words,
    );
  }

  #read(words: number): Reader {
    const { memory } = this.#instance;
    const length = this.#core.outputTextLength();
    const text = length === 0
      ? ""
      : decoder.decode(new Uint8Array(memory.buffer, this.#core.outputText(), length));
    // A copy: the next call writes over the words.
    const view = new Uint32Array(memory.buffer, this.#core.outputWords(), words);
    return new Reader(view.slice(), text);
  }
}
