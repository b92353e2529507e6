import type { AnyAggregate, AnyProjection, AnyReaction } from "./domain.js";
import { AnnalsError, closed } from "./errors.js";
import { encoder } from "./payload.js";
import { checkNames, EVENT_PROBLEMS, Reader, readForms, readVerdicts, Writer, writeFacts } from "./wire.js";
import type * as platform from "./platform.js";
import type { Facts, StoredEvent, Verdict } from "./storage.js";
import { EventError, type Forms, type OlderEvent } from "./upcast.js";

const KINDS: readonly string[] = ["live", "inline", "async"];

/** What a call returns that was a misuse. */
const MISUSED = 0xffff_ffff;

/** What wasm-bindgen makes of the engine, or of a crate that exports its domain. */
export interface Glue {
  initSync(options: { module: platform.Bytes | platform.WasmModule }): WasmExports;
  /** An engine's number, which the functions below take. */
  createCore(): number;
  startCore(core: number, words: number, textBytes: number): number;
  mailbox(core: number): number;
  makeRoom(core: number, words: number, textBytes: number): void;
  exchange(core: number, now: number, words: number, textBytes: number): number;
  judge(core: number, request: number, words: number, textBytes: number): number;
  /** Of those that define a domain. */
  upcast?(core: number, words: number, textBytes: number): number;
  manage(core: number, words: number, textBytes: number): number;
  misuse(core: number): [code: "api-misuse", message: string];
  freeCore(core: number): void;
  lastPanic(): string | undefined;
  __wbg_reset_state(): void;
}

export type WasmSource =
  | string
  | platform.URL
  | platform.Request
  | platform.Response
  | platform.Bytes
  | platform.WasmModule;

/** A module to run the engine in: its glue, and where its code is. */
export interface EngineModule {
  readonly glue: Glue;
  /** Called when an engine is opened and the code has not been loaded. */
  readonly wasm: WasmSource | (() => WasmSource | Promise<WasmSource>);
}

interface WasmExports {
  readonly memory: { readonly buffer: ArrayBuffer };
}

/** A running instance of a module. All engines opened on it share its memory, and its fate. */
class Instance {
  readonly glue: Glue;
  readonly memory: WasmExports["memory"];
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

/**
 * The glue keeps one instance; this keeps whether it may still be used. By one of its functions: there
 * may be several objects that hold them.
 */
const instances = new WeakMap<Glue["initSync"], Promise<Instance>>();

async function instantiate({ glue, wasm }: EngineModule): Promise<Instance> {
  const known = instances.get(glue.initSync);
  let restarts = false;
  if (known !== undefined) {
    const instance = await known;
    if (instance.poison === null) return instance;
    // Another caller may have begun while this one waited.
    const current = instances.get(glue.initSync);
    if (current !== known && current !== undefined) return current;
    restarts = true;
  }
  const starting = restarts ? restart(glue) : load(glue, wasm);
  instances.set(glue.initSync, starting);
  starting.catch(() => instances.delete(glue.initSync));
  return starting;
}

async function load(glue: Glue, wasm: EngineModule["wasm"]): Promise<Instance> {
  try {
    const module = await compile(typeof wasm === "function" ? wasm() : wasm);
    return new Instance(glue, glue.initSync({ module }));
  } catch (error) {
    throw new AnnalsError("module-failed", `the engine can't be loaded: ${String(error)}`, {}, error);
  }
}

/** Begins at once with what is at hand. */
async function compile(source: WasmSource | Promise<WasmSource>): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) return WebAssembly.compile(source as BufferSource);
  const given = await source;
  if (given !== source) return compile(given);
  const response = given instanceof Response ? given : await fetch(given as string | URL | Request);
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

/** A byte order mark is a character of a name like any other. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The engine in WebAssembly, spoken to in messages. */
export class Core {
  readonly #instance: Instance;
  readonly #glue: Glue;
  /** Its number there. */
  readonly #core: number;
  /** Where the addresses of the messages are, in words. */
  readonly #mailbox: number;
  readonly #onPoison: (error: AnnalsError) => void;
  /** The module's memory, as words and as bytes, until it grows. */
  #heap = new Uint32Array();
  #bytes = new Uint8Array();
  /** The largest message there is room for. */
  #wordRoom = 0;
  #textRoom = 0;
  /** What the engine has put out last. Calls of `judge` write over what is in the module's memory. */
  #inbox = new Uint32Array(256);
  readonly #facts = new Writer();
  /** What goes to the engine with the next exchange. */
  readonly outbox = new Writer();
  /** Whether the engine is closed, or its module has panicked. */
  freed = false;
  /** The engine's time, which never goes back. */
  now = Date.now();

  /** Of each aggregate, then of each projection, the forms of its events; `null` if they are defined here. */
  readonly native: readonly (Forms | null)[];

  private constructor(instance: Instance, onPoison: (error: AnnalsError) => void, message: Writer) {
    this.#instance = instance;
    this.#onPoison = onPoison;
    this.#glue = instance.glue;
    this.#core = instance.guard(() => this.#glue.createCore());
    this.#mailbox = instance.guard(() => this.#glue.mailbox(this.#core)) / 4;
    this.native = this.#call(() => {
      const bytes = this.#write(message);
      const reader = this.#read(this.#glue.startCore(this.#core, message.length, bytes));
      const native = [];
      while (reader.hasMore) native.push(reader.option(() => readForms(reader)));
      return native;
    });
    instance.engines.add(onPoison);
  }

  static async create(
    module: EngineModule,
    aggregates: readonly AnyAggregate[],
    projections: readonly AnyProjection[],
    reactions: readonly AnyReaction[],
    limits: readonly number[],
    identity: string,
    onPoison: (error: AnnalsError) => void,
  ): Promise<Core> {
    checkNames([
      identity,
      ...aggregates.flatMap(({ type, forms }) => [type, ...(forms?.plans.keys() ?? [])]),
      ...projections.flatMap(({ name, types, indexes }) => [name, ...types, ...indexes]),
      ...reactions.flatMap(({ name, types, tags }) => [name, ...types, ...tags]),
    ]);
    const starting = instantiate(module);
    // While the code is being compiled: Node loads its cryptography when it is first asked for it.
    const message = new Writer();
    for (const word of crypto.getRandomValues(new Uint32Array(8))) message.word(word);
    for (const limit of limits) message.word(limit);
    message.str(identity);
    const write = (number: number) => void message.number(number);
    message.list(aggregates, ({ type, snapshots, forms }) => {
      message.str(type).option(snapshots, ({ version, every, afterReplayOf }) => {
        message.word(version).option(every, write).option(afterReplayOf, write);
      });
      message.str(forms?.fingerprint ?? "").strings(forms?.becoming ?? []);
    });
    message.list(projections, ({ name, version, kind, types, indexes, aggregates }) => {
      message.str(name).word(version).word(KINDS.indexOf(kind)).strings(types).strings(indexes);
      message.strings(aggregates.map(({ type }) => type));
    });
    message.list(reactions, ({ name, types, aggregateTypes, tags, keys, startsNow, numbers }) => {
      message.str(name).strings(types).strings(aggregateTypes).strings(tags).flag(keys !== null).flag(startsNow);
      for (const number of numbers) message.word(number);
    });
    return new Core(await starting, onPoison, message);
  }

  /**
   * Gives what has gathered and returns outputs, up to those that wait for an answer. `atLeast`: what
   * the time has come to, whatever the clock says, which may have been set back.
   */
  exchange(atLeast: number): Reader {
    return this.#call(() => {
      const { outbox } = this;
      const bytes = this.#write(outbox);
      const { length } = outbox;
      outbox.clear();
      this.now = Math.max(this.now, Date.now(), atLeast);
      return this.#read(this.#glue.exchange(this.#core, this.now, length, bytes), true);
    });
  }

  /** `null` if the append is no longer under way. */
  judge(request: number, facts: Facts): Verdict[] | null {
    const write = (message: Writer) => writeFacts(message, facts);
    const judge = (core: number, words: number, bytes: number) => this.#glue.judge(core, request, words, bytes);
    return this.#ask(judge, write, (verdicts) => (verdicts.hasMore ? readVerdicts(verdicts) : null));
  }

  /** What an event of an aggregate that the module defines is today; `null` if it is passed by. */
  upcast({ aggregateType, type, schemaVersion, data }: StoredEvent): OlderEvent[] | null {
    const write = (message: Writer) => message.str(aggregateType).str(type).word(schemaVersion).str(data);
    return this.#ask(this.#glue.upcast!, write, (upcast) => {
      switch (upcast.word()) {
        case 0:
          return upcast.list(() => ({ type: upcast.str(), version: upcast.word(), data: JSON.parse(upcast.str()) as unknown }));
        case 1:
          return null;
        default:
          throw new EventError(EVENT_PROBLEMS[upcast.word()]!, upcast.str());
      }
    });
  }

  /**
   * Tells what a process manager wants, and gives the ids of its commands. `null`: another engine runs it
   * by now, and nothing is to be given.
   */
  manage(write: (message: Writer) => void): readonly string[] | null {
    return this.#ask(this.#glue.manage, write, (ids) => (ids.hasMore ? ids.strings() : null));
  }

  /** Asks at once, between exchanges. What comes of it is read before the module writes over it. */
  #ask<T>(
    call: (core: number, words: number, textBytes: number) => number,
    write: (message: Writer) => void,
    read: (reader: Reader) => T,
  ): T {
    const reader = this.#call(() => {
      const message = this.#facts;
      message.clear();
      write(message);
      const bytes = this.#write(message);
      return this.#read(call(this.#core, message.length, bytes));
    });
    return read(reader);
  }

  free(): void {
    if (this.freed) return;
    this.freed = true;
    this.#instance.engines.delete(this.#onPoison);
    // The memory of a poisoned instance goes with the instance.
    if (this.#instance.poison === null) this.#instance.guard(() => this.#glue.freeCore(this.#core));
  }

  #call<T>(call: () => T): T {
    if (this.freed) throw closed();
    return this.#instance.guard(call);
  }

  /** Writes the message into linear memory; returns the length of its text in bytes. */
  #write(message: Writer): number {
    const { words, length, text } = message;
    // A UTF-16 unit takes at most three bytes.
    const most = text.length * 3;
    if (length > this.#wordRoom || most > this.#textRoom) {
      this.#wordRoom = Math.max(this.#wordRoom, length * 2);
      this.#textRoom = Math.max(this.#textRoom, most * 2);
      this.#glue.makeRoom(this.#core, this.#wordRoom, this.#textRoom);
    }
    this.#look();
    let written = 0;
    if (text !== "") {
      const at = this.#heap[this.#mailbox + 1]!;
      ({ written } = encoder.encodeInto(text, this.#bytes.subarray(at, at + most)));
      if (written !== text.length) message.countBytes();
    }
    const at = this.#heap[this.#mailbox]! / 4;
    for (let index = 0; index < length; index += 1) this.#heap[at + index] = words[index]!;
    return written;
  }

  /** A reader of what is in linear memory, or of a copy of it. */
  #read(words: number, copies?: boolean): Reader {
    if (words === MISUSED) {
      const [code, message] = this.#glue.misuse(this.#core);
      throw new AnnalsError(code, message, {});
    }
    this.#look();
    const heap = this.#heap;
    const at = heap[this.#mailbox + 2]! / 4;
    const textAt = heap[this.#mailbox + 3]!;
    const length = heap[this.#mailbox + 4]!;
    const text = length === 0 ? "" : decoder.decode(this.#bytes.subarray(textAt, textAt + length));
    if (copies !== true) return new Reader(heap, at, at + words, text);
    if (words > this.#inbox.length) this.#inbox = new Uint32Array(words * 2);
    for (let index = 0; index < words; index += 1) this.#inbox[index] = heap[at + index]!;
    return new Reader(this.#inbox, 0, words, text);
  }

  /** Memory that has grown has another buffer. */
  #look(): void {
    const { buffer } = this.#instance.memory;
    if (this.#heap.buffer === buffer) return;
    this.#heap = new Uint32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
  }
}
