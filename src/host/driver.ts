/**
 * Drives the engine: carries its requests to storage adapter and domain functions, and their
 * answers back; keeps the states and pages that never enter the module.
 */
import type { AnyAggregate, ErasedFunctions, Message, Refusal } from "./domain.js";
import { toQuery } from "./domain.js";
import { AnnalsError, closed, type ErrorCode, RefusedError } from "./errors.js";
import { Core, type EngineModule } from "./module.js";
import { deepFreeze, reasonOf, toPayload, toState, utf8Length } from "./payload.js";
import {
  type Commit,
  type CommitEvent,
  type Facts,
  type Messages,
  type Query,
  type StorageAdapter,
  StorageFailure,
  type StoreInfo,
  type StoredEvent,
  type Verdict,
} from "./storage.js";
import {
  type CommitSummary,
  type DecideOutput,
  DURABILITIES,
  isError,
  type Output,
  STORAGE_CODES,
  type StorageRequest,
  type WireCommit,
  type WireError,
  type WireOutcome,
  type WireState,
  type WireStateRead,
  Writer,
  writeOptionalFirst,
  writeQuery,
  writeRows,
  writeVerdicts,
} from "./wire.js";

/** A command as the driver takes it. */
export interface CommandInput {
  readonly aggregate: AnyAggregate;
  readonly id: string;
  readonly command: Message;
  /** The command's data as JSON text. */
  readonly text: string;
  readonly commandId: string | null;
  readonly expected: "any" | "no-stream" | "stream-exists" | number;
  /** Milliseconds since 1970. */
  readonly issuedAt: number | null;
  readonly correlationId: string | null;
  readonly causationId: string | null;
  readonly actor: string | null;
  /** JSON text. */
  readonly extra: string | null;
}

/** What came of a command. */
export interface CommandResult extends Pick<WireOutcome, "commandId" | "duplicate" | "revision" | "durability"> {
  readonly commit: CommitSummary | null;
  readonly state: unknown;
  readonly events: StoredEvent[];
}

export interface StateInput {
  readonly aggregate: AnyAggregate;
  readonly id: string;
  readonly at: "now" | "cached" | { readonly revision: number } | { readonly time: number };
  readonly events: boolean;
}

export interface StateResult {
  readonly state: unknown;
  readonly revision: number;
  readonly events: StoredEvent[];
}

export interface SubscriptionInput {
  readonly after: number;
  readonly types: readonly string[];
  readonly aggregateTypes: readonly string[];
  readonly tags: readonly string[];
  readonly limit: number;
  readonly follow: boolean;
  /** `epoch` is the store's when they were read. */
  onEvents(events: StoredEvent[], epoch: string): void;
  onEnd(error: AnnalsError | null): void;
}

interface CommandTask {
  readonly kind: "command";
  readonly input: CommandInput;
  resolve(result: CommandResult): void;
  reject(error: AnnalsError): void;
  /** What `decide` gave last. */
  decided: CommitEvent[];
  /** The same as values, for neighbours. */
  values: Message[];
  refusal: Refusal | null;
  failure: unknown;
  /** What went to the store. */
  commit: Commit | null;
}

interface StateTask {
  readonly kind: "state";
  readonly input: StateInput;
  resolve(result: StateResult): void;
  reject(error: AnnalsError): void;
  failure: unknown;
}

interface SubscriptionTask {
  readonly kind: "subscription";
  readonly input: SubscriptionInput;
}

type Task = CommandTask | StateTask | SubscriptionTask;

/** Whole events; of those that are only folded, types and payloads are enough. */
type Page = StoredEvent[] | Messages;

/** The engine's number for the state that `initial` gives. */
const INITIAL = 0;

export interface DriverOptions {
  readonly module: EngineModule;
  readonly storage: StorageAdapter;
  readonly aggregates: readonly AnyAggregate[];
  readonly limits: readonly number[];
}

export class Driver {
  readonly #storage: StorageAdapter;
  readonly #aggregates: readonly AnyAggregate[];
  #core!: Core;
  readonly #tasks = new Map<number, Task>();
  #lastTask = 0;
  readonly #states = new Map<number, unknown>();
  readonly #pages = new Map<number, Page>();
  /** The store each page was read from: it may be replaced before the page is used. */
  readonly #epochs = new Map<number, string>();
  #lastPage = 0;
  /** The last failure of the adapter, to be the cause of the engine's error. */
  #lastFailure: unknown;
  #info: StoreInfo | null = null;
  #opening: { resolve(): void; reject(error: AnnalsError): void } | null = null;
  #scheduled = false;
  /** Whether the engine may have something to put out. */
  #more = false;
  #draining = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wakeAt = Infinity;
  #unsubscribe: (() => void) | undefined;
  #closed: AnnalsError | null = null;
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | null = null;

  private constructor(options: DriverOptions) {
    this.#storage = options.storage;
    this.#aggregates = options.aggregates;
  }

  /** Starts the module and opens the store. */
  static async open(options: DriverOptions): Promise<Driver> {
    const driver = new Driver(options);
    const names = options.aggregates.map((aggregate) => aggregate.type);
    driver.#core = await Core.create(options.module, names, options.limits, (error) => driver.#end(error));
    try {
      options.aggregates.forEach(({ type, functions }, index) => {
        const native = driver.#core.native[index]!;
        if (native === (functions !== null)) {
          const message = `aggregate ${type} must be defined either here or in the module`;
          throw new AnnalsError("unknown-aggregate", message, { type });
        }
      });
      // Before the head is read: what others append after that must be heard of.
      driver.#unsubscribe = options.storage.subscribe?.((position) => driver.#advanced(position));
      await new Promise<void>((resolve, reject) => {
        driver.#opening = { resolve, reject };
        driver.#schedule();
      });
    } catch (error) {
      driver.#end(closed());
      throw error;
    }
    return driver;
  }

  /** Identity of the open store. */
  get epoch(): string {
    return this.#info?.epoch ?? "";
  }

  execute(input: CommandInput, signal: AbortSignal | undefined): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      const task: CommandTask = {
        kind: "command",
        input,
        resolve,
        reject,
        decided: [],
        values: [],
        refusal: null,
        failure: undefined,
        commit: null,
      };
      const number = this.#start(task, signal);
      const message = new Writer().word(1).word(number);
      message.str(input.aggregate.type).str(input.id).str(input.command.type).str(input.text);
      const write = (value: string) => void message.str(value);
      message.option(input.commandId, write);
      writeExpected(message, input.expected);
      message.option(input.issuedAt, (at) => message.number(at));
      message.option(input.correlationId, write);
      message.option(input.causationId, write);
      message.option(input.actor, write);
      message.option(input.extra, write);
      this.#give(message, number);
    });
  }

  state(input: StateInput, signal: AbortSignal | undefined): Promise<StateResult> {
    return new Promise((resolve, reject) => {
      const task: StateTask = { kind: "state", input, resolve, reject, failure: undefined };
      const number = this.#start(task, signal);
      const message = new Writer().word(2).word(number).str(input.aggregate.type).str(input.id);
      const { at } = input;
      if (at === "now") message.word(0);
      else if (at === "cached") message.word(1);
      else if ("revision" in at) message.word(2).number(at.revision);
      else message.word(3).number(at.time);
      this.#give(message.flag(input.events), number);
    });
  }

  /** Returns the way to ask for the next page, and the way to end it. */
  subscribe(input: SubscriptionInput): { next(): void; cancel(): void } {
    const number = this.#start({ kind: "subscription", input }, undefined);
    const message = new Writer().word(3).word(number).number(input.after);
    message.strings(input.types).strings(input.aggregateTypes).strings(input.tags);
    this.#give(message.word(input.limit).flag(input.follow), number);
    return {
      next: () => {
        if (this.#tasks.has(number)) this.#give(new Writer().word(4).word(number), number);
      },
      cancel: () => this.#cancel(number),
    };
  }

  /**
   * Gives up reads and subscriptions, waits for the commands under way, and lets go of the store.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    if (this.#closed === null) {
      this.#closed = closed();
      for (const [number, task] of this.#tasks) if (task.kind !== "command") this.#cancel(number);
      if (this.#tasks.size > 0) {
        await new Promise<void>((resolve) => {
          this.#onIdle = resolve;
        });
      }
      this.#end(this.#closed);
    }
    await this.#storage.close();
  }

  /** Ends at once: what is under way is rejected, though its append may reach the store. */
  abandon(): void {
    this.#end(closed());
    void Promise.resolve(this.#storage.close()).catch(() => undefined);
  }

  #end(error: AnnalsError): void {
    this.#closed ??= error;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
    clearTimeout(this.#timer);
    const tasks = [...this.#tasks.values()];
    this.#tasks.clear();
    for (const task of tasks) {
      if (task.kind === "subscription") task.input.onEnd(error);
      else task.reject(error);
    }
    this.#opening?.reject(error);
    this.#opening = null;
    this.#onIdle?.();
    this.#core.free();
  }

  // --- Inputs ---------------------------------------------------------------------------------

  #start(task: Task, signal: AbortSignal | undefined): number {
    if (this.#closed !== null) throw this.#closed;
    if (signal?.aborted === true) throw cancelled(signal);
    if (task.kind !== "subscription") this.#check(task.input.aggregate);
    do {
      this.#lastTask = (this.#lastTask + 1) % 0x1_0000_0000;
    } while (this.#tasks.has(this.#lastTask));
    const number = this.#lastTask;
    this.#tasks.set(number, task);
    if (signal !== undefined && task.kind !== "subscription") {
      const onAbort = () => {
        task.failure = signal.reason;
        this.#cancel(number);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const stopListening = () => signal.removeEventListener("abort", onAbort);
      const { resolve, reject } = task as StateTask;
      task.resolve = (result: never) => (stopListening(), resolve(result));
      task.reject = (error) => (stopListening(), reject(error));
    }
    return number;
  }

  /** It must be one of those the engine was opened with, not only have its name. */
  #check(aggregate: AnyAggregate | undefined): void {
    const { type, functions } = aggregate ?? {};
    if (this.#aggregates.some((known) => known.type === type && known.functions === functions)) return;
    throw new AnnalsError("unknown-aggregate", `the engine was opened without this aggregate ${type}`, { type });
  }

  /** Gives the engine an input for a task; what is wrong with it ends the task. */
  #give(message: Writer, number: number): void {
    try {
      this.#input(message);
    } catch (error) {
      const task = this.#tasks.get(number);
      this.#tasks.delete(number);
      // To those who wait, and to those who listen for the caller's signal.
      if (task !== undefined && task.kind !== "subscription") task.reject(toAnnalsError(error));
      else throw error;
    }
  }

  #cancel(number: number): void {
    if (this.#tasks.has(number)) this.#input(new Writer().word(5).word(number));
  }

  #input(message: Writer): void {
    this.#core.handleInput(message);
    this.#schedule();
  }

  #advanced(position: number | undefined): void {
    if (this.#closed === null) this.#run(() => this.#input(advance(position)));
  }

  /** Work that nobody waits for: what goes wrong is told to those who wait for the engine. */
  #run(work: () => void): void {
    if (this.#core.isFreed) return;
    try {
      work();
    } catch (error) {
      // Whatever it is, outputs may have been lost: nobody may wait for them.
      this.#end(toAnnalsError(error));
    }
  }

  // --- Outputs --------------------------------------------------------------------------------

  /** Inputs of one turn are drained together, so that they share a request. */
  #schedule(): void {
    this.#more = true;
    if (this.#scheduled || this.#draining) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#run(() => this.#drain());
    });
  }

  #drain(): void {
    if (this.#draining || this.#core.isFreed) return;
    this.#draining = true;
    try {
      while (this.#more && !this.#core.isFreed) {
        this.#more = false;
        for (const output of this.#core.pollOutputs()) {
          this.#handle(output);
          if (this.#core.isFreed) return;
        }
      }
    } finally {
      this.#draining = false;
    }
    if (this.#tasks.size === 0) this.#onIdle?.();
  }

  #handle(output: Output): void {
    switch (output.kind) {
      case "storage":
        this.#request(output.request);
        break;
      case "fold":
        this.#fold(output);
        break;
      case "decide":
        this.#decide(output);
        break;
      case "opened":
        if (output.error === null) this.#opening?.resolve();
        else this.#opening?.reject(this.#toError(output.error));
        this.#opening = null;
        break;
      case "command-done":
        this.#commandDone(output.task, output.result);
        break;
      case "state-read":
        this.#stateRead(output.task, output.result);
        break;
      case "events": {
        const task = this.#tasks.get(output.task) as SubscriptionTask | undefined;
        task?.input.onEvents(this.#events(output.page), this.#epochs.get(output.page)!);
        break;
      }
      case "subscription-ended": {
        const task = this.#tasks.get(output.task) as SubscriptionTask | undefined;
        this.#tasks.delete(output.task);
        const { error } = output;
        task?.input.onEnd(error === null ? null : this.#toError(error));
        break;
      }
      case "release":
        for (const handle of output.handles) this.#states.delete(handle);
        for (const page of output.pages) {
          this.#pages.delete(page);
          this.#epochs.delete(page);
        }
        break;
      case "idle":
        this.#setTimer(output.wakeAt);
    }
  }

  #setTimer(wakeAt: number | null): void {
    const at = wakeAt ?? Infinity;
    if (at === this.#wakeAt) return;
    clearTimeout(this.#timer);
    this.#wakeAt = at;
    if (at === Infinity) return;
    this.#timer = setTimeout(() => {
      this.#wakeAt = Infinity;
      this.#run(() => {
        this.#core.handleInput(new Writer().word(9), at);
        this.#more = true;
        this.#drain();
      });
    }, Math.max(0, Math.min(at - Math.max(this.#core.now, Date.now()), 0x7fff_ffff)));
  }

  #commandDone(number: number, result: WireOutcome | WireError): void {
    const task = this.#tasks.get(number) as CommandTask | undefined;
    if (task === undefined) return;
    this.#tasks.delete(number);
    if (isError(result)) {
      if (result.code === "refused") {
        const refusal = task.refusal ?? (JSON.parse(result.details) as Refusal);
        return task.reject(new RefusedError(refusal));
      }
      return task.reject(this.#toError(result, task.failure));
    }
    try {
      const state = this.#toState(task.input.aggregate, result.state);
      const { commit, commandId, duplicate, revision, durability } = result;
      const appended = commit !== null && !duplicate ? recorded(task.commit!, commit) : [];
      const events = duplicate ? result.pages.flatMap((page) => this.#events(page)) : appended;
      task.resolve({ commandId, duplicate, revision, durability, commit, state, events });
    } catch (error) {
      task.reject(toAnnalsError(error));
    }
  }

  #stateRead(number: number, result: WireStateRead | WireError): void {
    const task = this.#tasks.get(number) as StateTask | undefined;
    if (task === undefined) return;
    this.#tasks.delete(number);
    if (isError(result)) return task.reject(this.#toError(result, task.failure));
    try {
      const state = this.#toState(task.input.aggregate, result.state);
      const events = result.pages.flatMap((page) => this.#events(page));
      task.resolve({ state, revision: result.revision, events });
    } catch (error) {
      task.reject(toAnnalsError(error));
    }
  }

  #toState(aggregate: AnyAggregate, state: WireState): unknown {
    if ("json" in state) return deepFreeze(JSON.parse(state.json) as unknown);
    if ("failed" in state) throw new AnnalsError("invalid-payload", state.failed, {});
    return this.#stateOf(aggregate.functions!, state.handle);
  }

  /** `failure` is what the domain or the caller's signal has thrown for this task. */
  #toError({ code, message, details }: WireError, failure?: unknown): AnnalsError {
    let cause = failure;
    if (code === "domain-failed" && failure !== undefined) {
      // What the engine itself has found wrong with a decision is told as such.
      if (AnnalsError.is(failure) && failure.code.startsWith("invalid-")) return failure;
      message = `the domain failed: ${reasonOf(failure)}`;
    } else if (code === "outcome-unknown" || STORAGE_CODES.includes(code as never)) {
      cause = this.#lastFailure;
    }
    return new AnnalsError(code as ErrorCode, message, JSON.parse(details), cause);
  }

  // --- The domain in JavaScript ---------------------------------------------------------------

  #stateOf(functions: ErasedFunctions, handle: number): unknown {
    return handle === INITIAL ? toState(functions.initial()) : this.#states.get(handle);
  }

  /** The events of a page that was read whole. */
  #events(page: number): StoredEvent[] {
    return this.#pages.get(page) as StoredEvent[];
  }

  #fold({ task: number, aggregate, from, into, page }: Output & { kind: "fold" }): void {
    const functions = this.#aggregates[aggregate]!.functions!;
    const events = this.#pages.get(page)!;
    const messages = isMessages(events) ? parseMessages(events) : null;
    const count = isMessages(events) ? events.count : events.length;
    let index = 0;
    let type = "";
    try {
      let state = this.#stateOf(functions, from);
      for (; index < count; index += 1) {
        const event = messages === null ? (events as StoredEvent[])[index]! : messages[index];
        if (event === undefined) throw new Error("its text is not JSON");
        ({ type } = event);
        const data = messages === null ? (JSON.parse(event.data as string) as unknown) : event.data;
        state = evolve(functions, state, { type, data });
      }
      // Those in between are nobody's but `evolve`'s.
      index -= 1;
      this.#states.set(into, toState(state));
    } catch (error) {
      const task = this.#tasks.get(number);
      if (task !== undefined && task.kind !== "subscription") task.failure = error;
      const reason = `${type}: ${reasonOf(error)}`;
      this.#input(new Writer().word(7).word(number).word(1).word(index).str(reason));
      return;
    }
    this.#input(new Writer().word(7).word(number).word(0));
  }

  #decide(output: DecideOutput): void {
    const task = this.#tasks.get(output.task) as CommandTask;
    const message = new Writer().word(7).word(output.task);
    const functions = this.#aggregates[output.aggregate]!.functions!;
    try {
      this.#decideInto(message, task, functions, output);
      this.#input(message);
    } catch (error) {
      if (AnnalsError.is(error, "engine-poisoned")) throw error;
      task.failure = error;
      this.#input(new Writer().word(7).word(output.task).word(5));
    }
  }

  #decideInto(message: Writer, task: CommandTask, functions: ErasedFunctions, output: DecideOutput): void {
    const { id, command } = task.input;
    let state = this.#stateOf(functions, output.state);
    const query = functions.reads === undefined ? [] : readsOf(functions.reads(command, state));
    const loaded = output.others?.query ?? [];
    if (!sameQuery(query, loaded)) {
      writeQuery(message.word(2), query);
      return;
    }
    const decision: unknown = functions.decide(state, command, {
      id,
      issuedAt: new Date(output.issuedAt),
      others: this.#others(task, output),
    });
    if (!Array.isArray(decision)) {
      task.refusal = toRefusal(decision);
      message.word(4);
      return;
    }
    const decided: CommitEvent[] = [];
    const values: Message[] = [];
    for (const event of decision as unknown[]) {
      const { type, data } = toMessage(event, "decide");
      const payload = toPayload(data === undefined ? {} : data, `event ${type}`);
      const value = { type, data: payload.value };
      const tags = functions.tags === undefined ? [] : tagsOf(functions.tags(value, state));
      state = evolve(functions, state, value);
      decided.push({ eventId: "", type, schemaVersion: 1, tags, data: payload.text });
      values.push(value);
    }
    this.#states.set(output.into, toState(state));
    task.decided = decided;
    task.values = values;
    message.word(3).list(decided, (event) => {
      message.str(event.type).word(event.schemaVersion).strings(event.tags).word(utf8Length(event.data));
    });
  }

  #others(task: CommandTask, { others }: DecideOutput): never[] {
    const found: unknown[] = [];
    if (others === null) return [];
    const { aggregate, id } = task.input;
    for (const page of others.pages) {
      for (const event of this.#events(page)) {
        if (event.aggregateType === aggregate.type && event.aggregateId === id) continue;
        const stream = { type: event.aggregateType, id: event.aggregateId };
        found.push({ type: event.type, data: JSON.parse(event.data) as unknown, stream });
      }
    }
    for (const { task: neighbour, index } of others.neighbours) {
      const { input, values } = this.#tasks.get(neighbour) as CommandTask;
      found.push({ ...values[index]!, stream: { type: input.aggregate.type, id: input.id } });
    }
    return found as never[];
  }

  // --- Storage --------------------------------------------------------------------------------

  #request(request: StorageRequest): void {
    let answer: Writer | PromiseLike<Writer>;
    try {
      answer = this.#ask(request);
    } catch (error) {
      answer = this.#failed(request, error);
    }
    if (isThenable(answer)) {
      answer.then(
        (message) => this.#answer(message),
        (error: unknown) => this.#answer(this.#failed(request, error)),
      );
    } else {
      this.#input(answer);
    }
  }

  /** An answer that came later. */
  #answer(message: Writer): void {
    this.#run(() => this.#input(message));
  }

  #failed(request: StorageRequest, error: unknown): Writer {
    this.#lastFailure = error;
    // What positions mean is not known until the store has said who it is now.
    if ((error as StorageFailure | undefined)?.code === "foreign-epoch") this.#info = null;
    // By its name: there may be a second copy of this package.
    const failure = (error as StorageFailure | undefined)?.name === "StorageFailure"
      ? (error as StorageFailure)
      : new StorageFailure("storage-failed", "", { mayBeApplied: request.body.kind === "append" });
    return answerTo(request)
      .word(0)
      .word(Math.max(STORAGE_CODES.indexOf(failure.code), 0))
      .flag(failure.mayBeApplied)
      .flag(failure.retryable)
      .str(reasonOf(error));
  }

  /** The adapter's answer as a message, at once if it answers at once. */
  #ask(request: StorageRequest): Writer | PromiseLike<Writer> {
    const { epoch, body } = request;
    switch (body.kind) {
      case "info":
        return then(this.#storage.open(), (info) => {
          this.#info = info;
          return answerTo(request)
            .word(1)
            .str(info.epoch)
            .number(info.head)
            .word(DURABILITIES.indexOf(info.durability))
            .flag(this.#storage.subscribe !== undefined);
        });
      case "append": {
        const commits = body.commits.map((commit) => this.#commit(commit));
        const judge = (facts: Facts) => this.#judge(request.id, facts);
        return then(this.#storage.append({ epoch, commits }, judge), (verdicts) => {
          const message = answerTo(request).word(2);
          writeVerdicts(message, verdicts);
          return message;
        });
      }
      case "load": {
        const streams = body.streams.map(({ held: _, untilTime, ...load }) => ({
          ...load,
          untilTime: untilTime === null ? null : isoTime(untilTime),
        }));
        return then(
          this.#storage.load({ epoch, commands: body.commands, streams, queries: body.queries }),
          (loaded) => {
            const message = answerTo(request).word(3);
            message.list(loaded.commands, (first) => writeOptionalFirst(message, first));
            message.word(loaded.streams.length);
            loaded.streams.forEach(({ events, revision, more }, index) => {
              const { held, aggregateType, aggregateId } = body.streams[index]!;
              // Rows carry their stream once, for all.
              message.option(held ? null : aggregateType, () => message.str(aggregateType).str(aggregateId));
              if (held || !isMessages(events)) this.#writePage(message, events, held, true);
              else message.word(2).word(events.count).str(events.json);
              message.number(revision).flag(more);
            });
            message.word(loaded.queries.length);
            loaded.queries.forEach((events, index) => {
              this.#writePage(message, events, body.queries[index]!.held, false);
            });
            return message.number(loaded.head);
          },
        );
      }
      case "read-log":
        return then(this.#storage.readLog({ epoch, ...body }), ({ events, next, head }) => {
          const message = answerTo(request).word(4);
          this.#writePage(message, events, true, false);
          this.#epochs.set(this.#lastPage, epoch);
          return message.number(next).number(head);
        });
    }
  }

  #writePage(message: Writer, events: Page, held: boolean, ofOneStream: boolean): void {
    this.#lastPage = (this.#lastPage + 1) % 0x1_0000_0000;
    this.#pages.set(this.#lastPage, events);
    message.word(held ? 0 : 1).word(this.#lastPage);
    if (isMessages(events)) message.word(events.count);
    else if (held) message.word(events.length);
    else writeRows(message, events, ofOneStream);
  }

  /** The commit with what is known of its task here. */
  #commit({ task: number, commandId, hash, issuedAt, condition, events }: WireCommit): Commit {
    const task = this.#tasks.get(number) as CommandTask;
    const { aggregate, id, correlationId, causationId, actor, extra } = task.input;
    const commit = {
      commandId,
      hash,
      aggregateType: aggregate.type,
      aggregateId: id,
      issuedAt: isoTime(issuedAt),
      correlationId: correlationId ?? commandId,
      causationId,
      actor,
      extra,
      condition,
      events: events.map(({ eventId, event }, index) => ({
        ...(event ?? task.decided[index]!),
        eventId,
      })),
    };
    task.commit = commit;
    return commit;
  }

  #judge(request: number, facts: Facts): Verdict[] {
    const verdicts = this.#core.isFreed ? null : this.#core.judge(request, facts);
    if (verdicts === null) {
      // Nothing is written then: whoever asked has had another answer, or has gone.
      throw new StorageFailure("storage-failed", "nobody waits for this append any more");
    }
    return verdicts;
  }
}

function writeExpected(message: Writer, expected: CommandInput["expected"]): void {
  if (expected === "any") message.word(0);
  else if (expected === "no-stream") message.word(1);
  else if (expected === "stream-exists") message.word(2);
  else message.word(3).number(expected);
}

function advance(position: number | undefined): Writer {
  const message = new Writer().word(8);
  return message.option(position, (at) => message.number(at));
}

function answerTo(request: StorageRequest): Writer {
  return new Writer().word(6).number(request.id).word(request.attempt);
}

/** Promises of another realm, or of a library, are promises too. */
function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined)?.then === "function";
}

function then<T, R>(value: T | PromiseLike<T>, next: (value: T) => R): R | PromiseLike<R> {
  return isThenable(value) ? value.then(next) : next(value);
}

/** Most events of an append are of one moment. */
let lastTime = 0;
let lastIso = "1970-01-01T00:00:00.000Z";

export function isoTime(millis: number): string {
  if (millis !== lastTime) {
    lastIso = new Date(millis).toISOString();
    lastTime = millis;
  }
  return lastIso;
}

function isMessages(page: Page): page is Messages {
  return !Array.isArray(page);
}

/** If one is broken, those before it. */
function parseMessages({ count, json }: Messages): Message[] {
  try {
    const all = JSON.parse(json) as Message[];
    if (all.length === count) return all;
  } catch {
    // Found below.
  }
  const found: Message[] = [];
  let text = "";
  for (const piece of json.slice(1, -1).split(",\n")) {
    text += text === "" ? piece : `,\n${piece}`;
    try {
      found.push(JSON.parse(text) as Message);
      text = "";
    } catch {
      // Its data has this separator too, or is broken.
    }
  }
  return found;
}

/** The events of a commit as the store has them. */
function recorded(commit: Commit, summary: CommitSummary): StoredEvent[] {
  const recordedAt = isoTime(summary.recordedAt);
  return commit.events.map(({ eventId, type, schemaVersion, tags, data }, index) => ({
    position: summary.position + index,
    aggregateType: commit.aggregateType,
    aggregateId: commit.aggregateId,
    revision: summary.revision - summary.count + 1 + index,
    eventId,
    type,
    schemaVersion,
    tags: JSON.stringify(tags),
    recordedAt,
    issuedAt: commit.issuedAt,
    commandId: commit.commandId,
    correlationId: commit.correlationId,
    causationId: commit.causationId,
    actor: commit.actor,
    extra: commit.extra,
    data,
  }));
}

function evolve(functions: ErasedFunctions, state: unknown, event: Message): unknown {
  const after = atOnce("evolve", functions.evolve(state, event));
  if (after === undefined) throw new Error("evolve returned undefined");
  return after;
}

/** Domain functions are synchronous: an append can't wait for them. */
function atOnce<T>(name: string, result: T): T {
  if (!(result instanceof Promise)) return result;
  // What it may yet throw is of no interest, and must not end the process.
  result.catch(() => undefined);
  throw new Error(`${name} returned a promise, and must return at once`);
}

function readsOf(reads: unknown): Query {
  if (!Array.isArray(atOnce("reads", reads))) throw new Error("reads must return an array of tags, or a query");
  return toQuery(reads as string[]);
}

function tagsOf(result: unknown): readonly string[] {
  const tags = atOnce("tags", result);
  if (!Array.isArray(tags) || tags.some((tag) => typeof tag !== "string")) {
    throw new Error("tags must return an array of strings");
  }
  return tags as string[];
}

function toMessage(value: unknown, where: string): Message {
  if (typeof value !== "object" || value === null || typeof (value as Message).type !== "string") {
    throw new Error(`${where} must return events: objects with type and data`);
  }
  return value as Message;
}

function toRefusal(decision: unknown): Refusal {
  const code = (atOnce("decide", decision) as Refusal | null | undefined)?.code;
  if (typeof code !== "string") {
    throw new Error("decide must return an array of events, or a refusal");
  }
  const details = (decision as Refusal).details ?? null;
  return deepFreeze({ code, details: toPayload(details, `refusal ${code}`).value });
}

function sameQuery(a: Query, b: Query): boolean {
  const same = (x: readonly string[], y: readonly string[]) =>
    x.length === y.length && x.every((item, index) => item === y[index]);
  return (
    a.length === b.length &&
    a.every((item, index) => same(item.types, b[index]!.types) && same(item.tags, b[index]!.tags))
  );
}

export function cancelled(signal: AbortSignal): AnnalsError {
  return new AnnalsError("cancelled", "cancelled", {}, signal.reason);
}

function toAnnalsError(error: unknown): AnnalsError {
  if (AnnalsError.is(error)) return error;
  return new AnnalsError("domain-failed", reasonOf(error), {}, error);
}
