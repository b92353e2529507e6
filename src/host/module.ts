import { AnnalsError, closed } from "./errors.js";
import { type Output, Reader, readOutputs, readVerdicts, Writer, writeFacts } from "./wire.js";
import type { Facts, Verdict } from "./storage.js";

/** What wasm-bindgen makes of the engine, or of a crate that exports its domain. */
export interface Glue {
  initSync(options: { module: BufferSource | WebAssembly.Module }): WasmExports;
  createCore(): GlueCore;
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
  start(textBytes: number): number;
  mailbox(): number;
  room(words: number, textBytes: number): void;
  handleInput(now: number, textBytes: number): void;
  pollOutputs(): number;
  judge(request: number, textBytes: number): number;
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
      // What is wrong with a message is found before the module sees it.
      if (AnnalsError.is(error)) throw error;
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
    const module = await compile(await (typeof wasm === "function" ? wasm() : wasm));
    return new Instance(glue, glue.initSync({ module }));
  } catch (error) {
    throw new AnnalsError("module-failed", `the engine can't be loaded: ${String(error)}`, {}, error);
  }
}

async function compile(source: WasmSource): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) return WebAssembly.compile(source as BufferSource);
  const response = source instanceof Response ? source : await fetch(source);
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
  // Only what streams is kept compiled by browsers, and only what says that it is WebAssembly streams.
  return response.headers.get("content-type")?.startsWith("application/wasm") === true
    ? WebAssembly.compileStreaming(response)
    : WebAssembly.compile(await response.arrayBuffer());
}

/** A fresh instance of a module whose last one panicked. */
async function restart(glue: Glue): Promise<Instance> {
  glue.__wbg_reset_state();
  // The module is there, so this only hands out what the reset has made.
  return new Instance(glue, glue.initSync({ module: new Uint8Array() }));
}

const encoder = new TextEncoder();
/** A byte order mark is a character of a name like any other. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The engine in WebAssembly, spoken to in messages. */
export class Core {
  readonly #instance: Instance;
  readonly #core: GlueCore;
  /** Address of where the messages are. */
  readonly #mailbox: number;
  readonly #onPoison: (error: AnnalsError) => void;
  #freed = false;

  /** Of each aggregate, whether the module defines it. */
  readonly native: readonly boolean[];

  private constructor(instance: Instance, onPoison: (error: AnnalsError) => void, message: Writer) {
    this.#instance = instance;
    this.#onPoison = onPoison;
    this.#core = instance.guard(() => instance.glue.createCore());
    this.#mailbox = instance.guard(() => this.#core.mailbox());
    this.native = this.#call(() => {
      const count = this.#core.start(this.#write(message));
      const reader = this.#read(count);
      return Array.from({ length: count }, () => reader.flag());
    });
    instance.engines.add(onPoison);
  }

  static async create(
    module: EngineModule,
    aggregates: string[],
    limits: readonly number[],
    onPoison: (error: AnnalsError) => void,
  ): Promise<Core> {
    const instance = await instantiate(module);
    const message = new Writer();
    for (const word of crypto.getRandomValues(new Uint32Array(8))) message.word(word);
    for (const limit of limits) message.word(limit);
    return new Core(instance, onPoison, message.strings(aggregates));
  }

  /** Whether the engine is closed, or its module has panicked. */
  get isFreed(): boolean {
    return this.#freed;
  }

  /** The engine's time, which never goes back. */
  now = Date.now();

  /** `atLeast`: what the time has come to, whatever the clock says, which may have been set back. */
  handleInput(message: Writer, atLeast = 0): void {
    this.#call(() => {
      const bytes = this.#write(message);
      this.now = Math.max(this.now, Date.now(), atLeast);
      this.#core.handleInput(this.now, bytes);
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
      const words = this.#core.judge(request, this.#write(message));
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
    if (this.#freed) throw closed();
    return this.#instance.guard(call);
  }

  /** Writes the message into linear memory; returns the length of its text in bytes. */
  #write(message: Writer): number {
    const text = message.text();
    const { words } = message;
    // A UTF-16 unit takes at most three bytes. Making room may move the memory, so views come after.
    this.#core.room(words.length, text.length * 3);
    const { buffer } = this.#instance.memory;
    const [wordsAt, textAt] = new Uint32Array(buffer, this.#mailbox, 2) as unknown as [number, number];
    const { written } = encoder.encodeInto(text, new Uint8Array(buffer, textAt, text.length * 3));
    if (written !== text.length) message.countBytes();
    new Uint32Array(buffer, wordsAt, words.length).set(words);
    return written;
  }

  #read(words: number): Reader {
    const { buffer } = this.#instance.memory;
    const [wordsAt, textAt, length] = new Uint32Array(buffer, this.#mailbox + 8, 3) as unknown as [number, number, number];
    const text = length === 0 ? "" : decoder.decode(new Uint8Array(buffer, textAt, length));
    // A copy: the next call writes over the words.
    return new Reader(new Uint32Array(buffer, wordsAt, words).slice(), text);
  }
}
