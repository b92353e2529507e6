/**
 * Drives the engine: carries its requests to storage adapter and domain functions, and their
 * answers back; keeps the states and pages that never enter the module.
 */
import { decide, evolve, readsOf, tagsOf, toMessage, toRefusal } from "./calls.js";
import type { AnyAggregate, AnyProjection, AnyReaction, ErasedFunctions, Message, OtherEvent, Refusal } from "./domain.js";
import { AnnalsError, closed, type ErrorCode, type EventProblem, RefusedError } from "./errors.js";
import type { Report, StateAt } from "./engine.js";
import type { AbortSignal } from "./platform.js";
import type { Attendance } from "./reactions/attendance.js";
import { formOf, messagesOf, partsOf, payloadsOf } from "./messages.js";
import { Core, type EngineModule } from "./module.js";
import { deepFreeze, differsFromJson, reasonOf, toPayload, toState } from "./payload.js";
import { MessageOf, plain } from "./plain.js";
import { StreamOf } from "./recorded.js";
import { stateIn, withDigest } from "./snapshot.js";
import {
  type Answer,
  type Commit,
  type CommitEvent,
  type Document,
  type Facts,
  type Messages,
  type Posting,
  type Query,
  type StorageAdapter,
  StorageFailure,
  type StoredEvent,
  type StreamLoad,
  type StreamSlice,
  type Verdict,
} from "./storage.js";
import { EventError, type OlderEvent, upcast } from "./upcast.js";
import {
  Asks,
  checkNames,
  type CommitSummary,
  Decision,
  DURABILITIES,
  EVENT_PROBLEMS,
  Folded,
  Input,
  Output,
  type Reader,
  readError,
  readName,
  readQuery,
  readScan,
  readSummary,
  Said,
  State,
  STORAGE_CODES,
  type StorageRequest,
  type ViewAction,
  type WireError,
  writeDocuments,
  writeFirst,
  writeMessages,
  writeQuery,
  type Writer,
  writeRows,
  writeVerdicts,
} from "./wire.js";

/** One of several, and the number that goes with it. */
export type Choice = readonly [which: number, number?: number];

/** A command as the driver takes it. */
export interface CommandInput {
  readonly aggregate: AnyAggregate;
  readonly id: string;
  readonly command: Message;
  /** The command's data as JSON text. */
  readonly text: string;
  readonly commandId: string | null;
  /** Any revision, none, at least one, or this. */
  readonly expected: Choice;
  /** Milliseconds since 1970. */
  readonly issuedAt: number | null;
  readonly correlationId: string | null;
  readonly causationId: string | null;
  readonly actor: string | null;
  /** JSON text. */
  readonly extra: string | null;
}

/** What came of a command. */
export interface CommandResult {
  readonly commandId: string;
  readonly duplicate: boolean;
  readonly revision: number;
  readonly durability: (typeof DURABILITIES)[number];
  readonly state: unknown;
  /** What it has appended just now … */
  readonly appended: Appended | null;
  /** … or when it was given first. */
  readonly events: StoredEvent[];
  readonly behind: readonly Behind[];
}

/** An inline projection that has not taken a command's events in. */
export interface Behind {
  readonly projection: string;
  readonly reason: string;
}

/** A commit and where it is in the store. */
export interface Appended {
  readonly commit: Commit;
  readonly summary: CommitSummary;
  /** The payloads, if they were decided here; nobody else has them. */
  readonly values: readonly Message[];
}

export interface StateInput {
  readonly aggregate: AnyAggregate;
  readonly id: string;
  /** Now, what is at hand, after so many events, at a time, or at a position. */
  readonly at: Choice;
  readonly events: boolean;
}

const Found = /* @__PURE__ */ plain<StateAt<unknown>, [state: unknown, revision: number]>(function (state, revision) {
  this.state = state;
  this.revision = revision;
});

/** Takes a state, and the events that led to it if they were asked for. */
type OnState = (at: StateAt<unknown>, events: StoredEvent[]) => void;

export interface SubscriptionInput {
  readonly name: string | null;
  /** `null`: now. */
  readonly after: number | null;
  readonly types: readonly string[];
  readonly aggregateTypes: readonly string[];
  readonly tags: readonly string[];
  readonly correlationId: string | null;
  /** Whether types are those of stored events. */
  readonly stored: boolean | undefined;
  readonly limit: number;
  readonly follow: boolean;
  readonly descending: boolean;
  /** `epoch` is the store's when they were read. */
  onEvents(events: StoredEvent[], epoch: string): void;
  onEnd(error: AnnalsError | null): void;
  /** It is to end: gives the position of the last event that has been handled. */
  onLeave(): number;
}

const NOTHING: readonly never[] = [];

class CommandTask {
  readonly kind = "command";
  /** What `reads` gave last, and for which state: it is not asked twice. */
  query: Query = NOTHING;
  readsFor: unknown = NOTHING;
  /** What `decide` gave last. */
  decided: readonly DecidedEvent[] = NOTHING;
  /** The same as values, for neighbours and for the caller. */
  values: readonly Message[] = NOTHING;
  refusal: Refusal | null = null;
  failure: unknown;
  /** Milliseconds since 1970. */
  issuedAt = 0;
  /** What went to the store. */
  commit: Commit | null = null;

  constructor(
    readonly input: CommandInput,
    public resolve: (result: CommandResult) => void,
    public reject: (error: AnnalsError) => void,
  ) {}
}

class StateTask {
  readonly kind = "state";
  failure: unknown;

  constructor(
    readonly input: StateInput,
    public resolve: OnState,
    public reject: (error: AnnalsError) => void,
  ) {}
}

interface SnapshotTask {
  readonly kind: "snapshot";
  resolve(result: { readonly revision: number }): void;
  reject(error: AnnalsError): void;
  failure: unknown;
}

interface ViewTask {
  readonly kind: "view";
  resolve(result: unknown): void;
  reject(error: AnnalsError): void;
  failure: unknown;
  readonly read: (output: Reader) => unknown;
}

interface SubscriptionTask {
  readonly kind: "subscription";
  readonly input: SubscriptionInput;
}

type Task = CommandTask | StateTask | SnapshotTask | ViewTask | SubscriptionTask;

const TaskLoad = /* @__PURE__ */ plain<StreamLoad, [output: Reader]>(function (output) {
  this.aggregateType = output.str();
  this.aggregateId = output.str();
  this.after = output.number();
  this.snapshot = output.option(() => output.str());
  const until = output.word();
  this.untilRevision = until === 1 ? output.number() : null;
  this.untilTime = until === 2 ? isoTime(output.time()) : null;
  this.untilPosition = until === 3 ? output.number() : null;
  this.limit = output.word();
  this.whole = output.flag();
});

/** What a slice of a stream is folded onto. */
class Fold {
  constructor(
    /** None if it has ended, and the load is asked for once more. */
    readonly task: Task | undefined,
    readonly aggregate: AnyAggregate,
    readonly from: number,
    /** The state with this number, unless that is what `initial` gives. */
    readonly state: unknown,
  ) {}
}

interface Others {
  readonly pages: readonly number[];
  readonly neighbours: readonly { readonly task: number; readonly index: number; readonly revision: number }[];
}

class DecidedEvent implements CommitEvent {
  /** The engine gives it when the event is appended. */
  eventId = "";

  constructor(
    readonly type: string,
    readonly schemaVersion: number,
    readonly tags: readonly string[],
    readonly data: string,
  ) {}
}

/** A commit, with what is known of its task here. */
const TaskCommit = /* @__PURE__ */ plain<Commit, [task: CommandTask, output: Reader]>(function ({ input, decided }, output) {
  const { aggregate, id, correlationId, causationId, actor, extra } = input;
  this.commandId = output.str();
  this.hash = output.str();
  this.aggregateType = aggregate.type;
  this.aggregateId = id;
  this.issuedAt = isoTime(output.time());
  this.correlationId = correlationId ?? this.commandId;
  this.causationId = causationId;
  this.actor = actor;
  this.extra = extra;
  this.expected = output.flag() ? { after: output.number() } : output.number();
  this.condition = output.option(() => {
    return { query: readQuery(output), after: output.number(), neighbours: output.list(() => output.word()) };
  });
  let index = 0;
  this.events = output.list(() => {
    const eventId = output.str();
    let event = decided[index++];
    // Those of the module's domain come from there.
    if (output.flag()) event = new DecidedEvent(output.str(), output.word(), output.strings(), output.str());
    event!.eventId = eventId;
    return event!;
  });
});

/** The number of the state that `initial` gives, and that of a page that has been folded and is wanted no more. */
const INITIAL = 0;
const FOLDED = 0;

/**
 * What is kept under numbers, from 1, which are given again. A map with as much coming and going would be made
 * anew all the time, and V8 has each old one keep the next, and all it holds, until a full collection.
 */
class Kept<T> {
  readonly #items: (T | undefined)[] = [undefined];
  readonly #free: number[] = [];

  add(item: T): number {
    const number = this.#free.pop() ?? this.#items.length;
    this.#items[number] = item;
    return number;
  }

  get(number: number): T | undefined {
    return this.#items[number];
  }

  delete(number: number): void {
    this.#items[number] = undefined;
    this.#free.push(number);
  }

  get size(): number {
    return this.#items.length - 1 - this.#free.length;
  }

  entries(): IterableIterator<[number, T | undefined]> {
    return this.#items.entries();
  }
}

const REPORTS = ["snapshot-ignored", "snapshot-not-json", "snapshot-not-stored"] as const;

export interface DriverOptions {
  readonly module: EngineModule;
  readonly storage: StorageAdapter;
  readonly aggregates: readonly AnyAggregate[];
  readonly projections: readonly AnyProjection[];
  readonly reactions: readonly AnyReaction[];
  readonly limits: readonly number[];
  readonly onReport: ((report: Report) => void) | undefined;
}

export class Driver {
  readonly #storage: StorageAdapter;
  readonly #aggregates: readonly AnyAggregate[];
  readonly #projections: readonly AnyProjection[];
  readonly #reactions: readonly AnyReaction[];
  /** What gives up the events that are being reacted to, by their runs. */
  readonly #reacting = new Map<number, { readonly reaction: AnyReaction; readonly aborting: AbortController }>();
  /** Those who watch a view or a reaction. */
  readonly #watchers = new Map<AnyProjection | AnyReaction, Set<() => void>>();
  readonly #onReport: ((report: Report) => void) | undefined;
  #core!: Core;
  /** Tells of engines that are gone; there is none where nobody would know. */
  #attendance: Attendance | null | undefined;
  readonly #tasks = new Kept<Task>();
  readonly #states = new Kept<unknown>();
  readonly #pages = new Kept<StoredEvent[]>();
  /** States of the module's domain that have been read, by the engine's numbers. */
  readonly #copies: unknown[] = [];
  /** Of pages of the log the epoch of their store, which may be replaced before they are used. */
  readonly #epochs: string[] = [];
  /** The last failure of the adapter, to be the cause of the engine's error. */
  #lastFailure: unknown;
  #opening: { resolve(): void; reject(error: AnnalsError): void } | null = null;
  #scheduled = false;
  #draining = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** What the timer is set to, and what the engine wants it to be. */
  #timerAt = Infinity;
  #wakeAt = Infinity;
  #unsubscribe: (() => void) | undefined;
  #closed: AnnalsError | null = null;
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | null = null;

  private constructor(options: DriverOptions) {
    this.#storage = options.storage;
    this.#aggregates = options.aggregates;
    this.#projections = options.projections;
    this.#reactions = options.reactions;
    this.#onReport = options.onReport;
  }

  /** Starts the module and opens the store. */
  static async open(options: DriverOptions): Promise<Driver> {
    const driver = new Driver(options);
    const { module, aggregates, projections, reactions, limits } = options;
    const onPoison = (error: AnnalsError) => driver.#end(error);
    driver.#attendance = await reactions[0]?.attend(options.storage);
    try {
      const identity = driver.#attendance?.name ?? "";
      driver.#core = await Core.create(module, aggregates, projections, reactions, limits, identity, onPoison);
      const { native } = driver.#core;
      projections.forEach(({ name, functions, aggregates }, index) => {
        aggregates.forEach((aggregate) => driver.indexOf(aggregate));
        if ((native[options.aggregates.length + index] !== null) !== (functions === null)) {
          const message = `projection ${name} must be defined either here or in the module`;
          throw new AnnalsError("unknown-projection", message, { projection: name });
        }
      });
      aggregates.forEach(({ type, functions }, index) => {
        if ((native[index] !== null) === (functions !== null)) {
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
  epoch = "";

  execute(
    input: CommandInput,
    signal: AbortSignal | undefined,
    resolve: (result: CommandResult) => void,
    reject: (error: AnnalsError) => void,
  ): void {
    const task = new CommandTask(input, resolve, reject);
    const index = this.indexOf(input.aggregate);
    this.#start(task, signal, (message, number) => {
      const write = (value: string) => void message.str(value);
      message.word(Input.Execute).word(number).word(index);
      message.str(input.id).str(input.command.type).str(input.text);
      const { commandId, correlationId, causationId, actor, extra } = input;
      for (const text of [commandId, correlationId, causationId, actor, extra]) message.option(text, write);
      message.choice(input.expected).option(input.issuedAt, (at) => message.number(at));
    });
  }

  state(
    input: StateInput,
    signal: AbortSignal | undefined,
    resolve: OnState,
    reject: (error: AnnalsError) => void,
  ): void {
    const task = new StateTask(input, resolve, reject);
    const index = this.indexOf(input.aggregate);
    this.#start(task, signal, (message, number) => {
      message.word(Input.ReadState).word(number).word(index).str(input.id);
      message.choice(input.at).flag(input.events);
    });
  }

  snapshot(
    aggregate: AnyAggregate,
    id: string,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly revision: number }> {
    return new Promise((resolve, reject) => {
      const index = this.indexOf(aggregate);
      this.#start({ kind: "snapshot", resolve, reject, failure: undefined }, signal, (message, number) => {
        message.word(Input.TakeSnapshot).word(number).word(index).str(id);
      });
    });
  }

  /** Asks a view, a reaction or the checkpoint of a subscription. */
  ask<Result>(
    input: number,
    name: string,
    signal: AbortSignal | undefined,
    write: (message: Writer) => void,
    read: (output: Reader) => Result,
  ): Promise<Result> {
    return new Promise((resolve, reject) => {
      const task: ViewTask = { kind: "view", resolve: resolve as ViewTask["resolve"], reject, failure: undefined, read };
      this.#start(task, signal, (message, number) => write(message.word(input).word(number).str(name)));
    });
  }

  /** Says what is to become of a view. */
  control(projection: string, action: ViewAction): void {
    if (this.#closed !== null) throw this.#closed;
    this.#core.outbox.word(Input.ControlView).str(projection).word(action);
    this.#schedule();
  }

  /** Tells whenever the view moves, and when the engine ends. Returns the way to stop it. */
  watch(projection: string, onMoved: () => void): () => void {
    return this.watchAny(this.#projections.find(({ name }) => name === projection), onMoved);
  }

  watchAny(what: AnyProjection | AnyReaction | undefined, onMoved: () => void): () => void {
    // One that the engine does not know never moves.
    if (what === undefined) return () => undefined;
    let watchers = this.#watchers.get(what);
    if (watchers === undefined) this.#watchers.set(what, (watchers = new Set()));
    watchers.add(onMoved);
    return () => void watchers.delete(onMoved);
  }

  /** Returns the way to ask for the next page, and the way to end it. */
  subscribe(input: SubscriptionInput): { next(): void; cancel(): void } {
    const { name, correlationId } = input;
    checkNames([...input.types, ...input.aggregateTypes, ...input.tags, correlationId ?? "", name ?? ""]);
    const task = { kind: "subscription", input } as const;
    const number = this.#start(task, undefined, (message, number) => {
      const write = (text: string) => void message.str(text);
      message.word(Input.Subscribe).word(number).option(name, write);
      message.option(input.after, (after) => message.number(after));
      message.strings(input.types).strings(input.aggregateTypes).strings(input.tags);
      message.option(correlationId, write);
      message.flag(input.stored !== true).word(input.limit).flag(input.follow).flag(input.descending);
    });
    return {
      next: () => this.#tell(Input.Next, number, task),
      cancel: () => this.#tell(Input.Cancel, number, task),
    };
  }

  /**
   * Gives up reads and subscriptions, waits for the commands under way, and lets go of the store.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    if (this.#closed === null && this.#reactions.length > 0) {
      for (const { aborting } of this.#reacting.values()) aborting.abort(closed());
      await this.#reactions[0]!.release(this, this.#reactions);
    }
    if (this.#closed === null) {
      this.#closed = closed();
      for (const [number, task] of this.#tasks.entries()) {
        if (task !== undefined && task.kind !== "command") this.#tell(Input.Cancel, number, task);
      }
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
    for (const [number, task] of this.#tasks.entries()) {
      if (task === undefined) continue;
      this.#tasks.delete(number);
      if (task.kind === "subscription") task.input.onEnd(error);
      else task.reject(error);
    }
    this.#opening?.reject(error);
    this.#opening = null;
    for (const what of this.#watchers.keys()) this.#tellWatchers(what);
    for (const { aborting } of this.#reacting.values()) aborting.abort(error);
    this.#reacting.clear();
    this.#attendance?.end();
    this.#onIdle?.();
    // There is none where the engine could not be made.
    (this.#core as Core | undefined)?.free();
  }

  // --- Inputs ---------------------------------------------------------------------------------

  #start(
    task: Task,
    signal: AbortSignal | undefined,
    write: (message: Writer, number: number) => void,
  ): number {
    if (this.#closed !== null) throw this.#closed;
    if (signal?.aborted === true) throw cancelled(signal);
    const number = this.#tasks.add(task);
    write(this.#core.outbox, number);
    this.#schedule();
    if (signal !== undefined && task.kind !== "subscription") {
      const onAbort = () => {
        task.failure = signal.reason;
        this.#tell(Input.Cancel, number, task);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const stopListening = () => signal.removeEventListener("abort", onAbort);
      const { resolve, reject } = task as StateTask;
      (task as StateTask).resolve = (result, events) => (stopListening(), resolve(result, events));
      task.reject = (error) => (stopListening(), reject(error));
    }
    return number;
  }

  /** It must be one of those the engine was opened with, not only have its name. */
  indexOf(aggregate: AnyAggregate | undefined): number {
    const { type, functions } = aggregate ?? {};
    const index = this.#aggregates.findIndex((known) => known.type === type && known.functions === functions);
    if (index >= 0) return index;
    throw new AnnalsError("unknown-aggregate", `the engine was opened without this aggregate ${type}`, { type });
  }

  /** Nothing if the task has ended, whose number may be another's. */
  #tell(input: number, number: number, task: Task): void {
    if (this.#tasks.get(number) !== task) return;
    const { outbox } = this.#core;
    if (input === Input.Cancel && task.kind === "subscription") {
      outbox.word(Input.Handled).word(number).number(task.input.onLeave());
    }
    outbox.word(input).word(number);
    this.#schedule();
  }

  #advanced(position: number | undefined): void {
    if (this.#closed !== null) return;
    const { outbox } = this.#core;
    outbox.word(Input.Advanced).option(position, (at) => outbox.number(at));
    this.#schedule();
  }

  // --- Outputs --------------------------------------------------------------------------------

  /** Inputs of one turn are given together, so that they share a request. */
  #schedule(): void {
    if (this.#scheduled || this.#draining) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#drain(0);
    });
  }

  /** Nobody waits for this: what goes wrong is told to those who wait for the engine. */
  #drain(atLeast: number): void {
    if (this.#draining || this.#core.freed) return;
    this.#draining = true;
    try {
      do {
        const outputs = this.#core.exchange(atLeast);
        while (outputs.hasMore) {
          this.#handle(outputs);
          if (this.#core.freed) return;
        }
      } while (this.#core.outbox.length > 0);
      this.#setTimer();
    } catch (error) {
      // Whatever it is, outputs may have been lost: nobody may wait for them.
      this.#end(toAnnalsError(error));
    } finally {
      this.#draining = false;
    }
    if (this.#tasks.size === 0) this.#onIdle?.();
  }

  #handle(output: Reader): void {
    switch (output.word()) {
      case Output.Storage:
        return this.#request(output);
      case Output.Decide:
        return this.#decide(output);
      case Output.Opened: {
        // Read though nobody waits, as when a store that was replaced is opened again.
        const failure = output.word() === 0 ? null : this.#toError(readError(output));
        if (failure) this.#opening?.reject(failure);
        else this.#opening?.resolve();
        this.#opening = null;
        return;
      }
      case Output.CommandDone:
        return this.#done(output, true);
      case Output.StateRead:
        return this.#done(output, false);
      case Output.Release:
        output.list(() => this.#states.delete(output.word()));
        output.list(() => this.#pages.delete(output.word()));
        output.list(() => (this.#copies[output.word()] = undefined));
        return;
      case Output.Idle:
        this.#wakeAt = output.option(() => output.time()) ?? Infinity;
        return;
      case Output.SnapshotTaken: {
        const number = output.word();
        const task = this.#tasks.get(number) as SnapshotTask;
        this.#tasks.delete(number);
        if (output.word() !== 0) return task.reject(this.#toError(readError(output), task.failure));
        return task.resolve({ revision: output.number() });
      }
      case Output.Project: {
        const run = output.number();
        const projection = this.#projections[output.word()]!;
        const page = output.word();
        const answer = projection.project(output, this.#events(page), this.#epochs[page]!, this);
        return answer(this.#core.outbox.word(Input.Projected).number(run));
      }
      case Output.ReactionRead:
      case Output.Checkpoint:
      case Output.ViewRead: {
        const number = output.word();
        const task = this.#tasks.get(number) as ViewTask;
        this.#tasks.delete(number);
        if (output.word() !== 0) return task.reject(this.#toError(readError(output), task.failure));
        return task.resolve(task.read(output));
      }
      case Output.ViewMoved:
        return this.#tellWatchers(this.#projections[output.word()]!);
      case Output.Correlate: {
        const [reaction, question, page] = [output.word(), output.word(), output.word()];
        const answer = this.#reactions[reaction]!.keys!(this.#events(page), this.#epochs[page]!, this);
        return answer(this.#core.outbox.word(Input.Correlated).word(reaction).word(question));
      }
      case Output.React:
        return this.#react(output);
      case Output.ReactionMoved:
        return this.#tellWatchers(this.#reactions[output.word()]!);
      case Output.ReactionLost: {
        const lost = this.#reactions[output.word()]!;
        for (const [run, { reaction, aborting }] of this.#reacting) {
          if (reaction !== lost) continue;
          this.#reacting.delete(run);
          aborting.abort(new Error("another engine runs the reaction now"));
        }
        return this.#tellWatchers(lost);
      }
      case Output.OwnerSeen: {
        const owner = output.str();
        return void this.#attendance!.await(owner, () => {
          if (this.#core.freed) return;
          this.#core.outbox.word(Input.OwnerGone).str(owner);
          this.#schedule();
        });
      }
      case Output.Snapshot: {
        const stream = { type: output.str(), id: output.str() };
        const revision = output.number();
        return this.report({ kind: REPORTS[output.word()]!, stream, revision, reason: output.str() });
      }
      case Output.Skipped: {
        const stream = { type: output.str(), id: output.str() };
        const revision = output.number();
        return this.report({ kind: "events-skipped", stream, revision, type: output.str(), count: output.word() });
      }
      case Output.Events: {
        const task = this.#tasks.get(output.word()) as SubscriptionTask | undefined;
        const page = output.word();
        output.number();
        task?.input.onEvents(this.#events(page), this.#epochs[page]!);
        return;
      }
      case Output.SubscriptionEnded: {
        const number = output.word();
        const task = this.#tasks.get(number) as SubscriptionTask | undefined;
        this.#tasks.delete(number);
        const error = output.word() === 0 ? null : this.#toError(readError(output));
        task?.input.onEnd(error);
      }
    }
  }

  /** Has an event or a timer handled, which takes its time. */
  #react(output: Reader): void {
    const run = output.number();
    const reaction = this.#reactions[output.word()]!;
    const attempt = output.word();
    const lane = output.str();
    const state = output.option(() => output.str());
    const page = output.word();
    const event = page === 0 ? null : this.#events(page)[output.word()]!;
    const aborting = new AbortController();
    this.#reacting.set(run, { reaction, aborting });
    const { signal } = aborting;
    const handle = reaction.react({ run, attempt, lane, state, event, epoch: this.#epochs[page]!, output, driver: this, signal });
    const done = (error: string | null) => {
      if (!this.#reacting.delete(run) || this.#core.freed) return;
      const { outbox } = this.#core;
      outbox.add(() => outbox.word(Input.Reacted).number(run).option(error, (text) => outbox.str(text)));
      this.#schedule();
    };
    // Not now: what it does may call the engine.
    Promise.resolve().then(handle).then(
      () => done(null),
      (error: unknown) => done(reasonOf(error)),
    );
  }

  /** Tells what a process manager wants; gives the ids of its commands, if it still is this engine's. */
  manage(write: (message: Writer) => void): readonly string[] | null {
    return this.#core.manage(write);
  }

  #tellWatchers(what: AnyProjection | AnyReaction): void {
    for (const tell of this.#watchers.get(what) ?? []) tell();
  }

  report(report: Report): void {
    // What it throws is its own matter.
    queueMicrotask(() => this.#onReport?.(report));
  }

  #setTimer(): void {
    const at = this.#wakeAt;
    if (at === this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    if (at === Infinity) return;
    const ring = () => {
      this.#timerAt = Infinity;
      this.#core.outbox.word(Input.Tick);
      this.#drain(at);
    };
    this.#timer = setTimeout(() => {
      // By the clock it may come a millisecond early.
      if (Date.now() === at - 1) this.#timer = setTimeout(ring, 1);
      else ring();
    }, Math.max(0, Math.min(at - Math.max(this.#core.now, Date.now()), 0x7fff_ffff)));
  }

  /** A command has been done, or a state been read. */
  #done(output: Reader, isCommand: boolean): void {
    const number = output.word();
    const task = this.#tasks.get(number) as CommandTask | StateTask;
    this.#tasks.delete(number);
    if (output.word() !== 0) {
      const error = readError(output);
      if (error.code !== "refused") return task.reject(ofCommand(this.#toError(error, task.failure), task));
      const { refusal } = task as CommandTask;
      return task.reject(new RefusedError(refusal ?? (JSON.parse(error.details) as Refusal)));
    }
    const revision = output.number();
    const kind = output.word();
    const under = kind < State.Once ? output.word() : 0;
    const text = kind >= State.ToCopy ? output.str() : "";
    const pages = output.list(() => this.#events(output.word()));
    const duplicate = isCommand && output.flag();
    const durability = DURABILITIES[isCommand ? output.word() : 0]!;
    const summary = isCommand && output.flag() ? readSummary(output) : null;
    const commandId = isCommand && output.flag() ? output.str() : null;
    const behind = isCommand ? output.list(() => ({ projection: output.str(), reason: output.str() })) : [];
    try {
      if (kind === State.Unwritten) throw new AnnalsError("invalid-payload", text, {});
      const state = kind === State.Held
        ? this.#stateOf(task.input.aggregate.functions!, under)
        : kind === State.Copied ? this.#copies[under] : deepFreeze(JSON.parse(text) as unknown);
      if (kind === State.ToCopy) this.#copies[under] = state;
      const events = pages.length > 1 ? pages.flat() : (pages[0] ?? []);
      if (task.kind === "state") return task.resolve(new Found(state, revision), events);
      const { commit, values } = task;
      // What has just been appended comes without the id, which came with the request.
      const appended = commandId === null ? { commit: commit!, summary: summary!, values } : null;
      const id = commandId ?? commit!.commandId;
      task.resolve({ commandId: id, duplicate, revision, durability, state, appended, events, behind });
    } catch (error) {
      task.reject(toAnnalsError(error));
    }
  }

  /** `failure` is what the domain or the caller's signal has thrown for this task. */
  #toError({ code, message, details }: WireError, failure?: unknown): AnnalsError {
    // Others rest on nothing that was thrown: what was folded for them may have been dropped.
    let cause = /^(cancelled|domain-failed|unreadable-event)$/.test(code) ? failure : undefined;
    if (code === "domain-failed" && failure !== undefined) {
      // What the engine itself has found wrong with a decision is told as such.
      if (AnnalsError.is(failure) && /^(invalid|unreadable)-/.test(failure.code)) return failure;
      message = `the domain failed: ${reasonOf(failure)}`;
    } else if (code === "outcome-unknown" || STORAGE_CODES.includes(code as never)) {
      cause = this.#lastFailure;
    }
    // Outside, a position names its store too.
    const told = (key: string, value: unknown) => (key === "position" ? `${this.epoch}:${value as number}` : value);
    return new AnnalsError(code as ErrorCode, message, JSON.parse(details, told), cause);
  }

  // --- The domain in JavaScript ---------------------------------------------------------------

  #stateOf(functions: ErasedFunctions, handle: number): unknown {
    return handle === INITIAL ? toState(functions.initial()) : this.#states.get(handle);
  }

  #events(page: number): StoredEvent[] {
    return this.#pages.get(page)!;
  }

  /**
   * Folds what a load has given of a stream. Returns what is told of it, once all domain functions have been
   * called: they may call us.
   */
  #fold(fold: Fold, { snapshot, events }: StreamSlice, key: string | null): ((message: Writer) => void) | null {
    const messages = isMessages(events) ? events : messagesOf(events);
    const { forms } = messages;
    if (forms.length === 0 && snapshot === null) return null;
    const { functions, forms: known } = fold.aggregate;
    let { state } = fold;
    try {
      if (snapshot !== null) {
        const text = stateIn(key!, snapshot);
        if (text === "") throw new Error("its digest does not match");
        state = deepFreeze(JSON.parse(text));
      }
    } catch (error) {
      return (message) => message.word(Folded.UnreadableSnapshot).str(reasonOf(error));
    }
    const payloads = payloadsOf(messages);
    let index = 0;
    let form = "";
    let plan: unknown;
    let skipped = 0;
    let last = 0;
    try {
      if (snapshot === null && fold.from === INITIAL) state = toState(functions!.initial());
      for (; index < forms.length; index += 1) {
        if (forms[index] !== form) {
          form = forms[index]!;
          const type = known!.plain[form.length];
          plan = type === form ? type : known!.plans.get(form);
        }
        const data = payloads[index];
        if (data === undefined) throw new Error("not JSON");
        if (typeof plan === "string") {
          state = evolve(functions!, state, { type: plan, data });
          continue;
        }
        const events = upcast(known!, { ...partsOf(form), data });
        if (events === null) {
          skipped += 1;
          last = index;
        } else for (const { type, data } of events) state = evolve(functions!, state, { type, data });
      }
      // Those in between are nobody's but `evolve`'s.
      index -= 1;
      const number = this.#states.add(toState(state));
      return (message) => {
        message.word(Folded.Done).word(number).flag(skipped > 0);
        if (skipped > 0) message.word(skipped).word(last).str(partsOf(forms[last]!).type);
      };
    } catch (error) {
      const { task } = fold;
      if (task !== undefined && task.kind !== "subscription") task.failure = error;
      const [problem, reason] = problemOf(error, partsOf(form).type);
      return (message) => message.word(Folded.Unreadable).word(index).word(EVENT_PROBLEMS.indexOf(problem)).str(reason);
    }
  }

  /**
   * What an event is today, or as it is stored; `null` if it is passed by. Events of other aggregates are
   * as they are stored.
   */
  today(event: StoredEvent, asStored?: boolean): readonly OlderEvent[] | null {
    const { aggregateType, type, schemaVersion: version } = event;
    try {
      const index = asStored === true ? -1 : this.#aggregates.findIndex((known) => known.type === aggregateType);
      const forms = index < 0 ? null : (this.#core.native[index] ?? this.#aggregates[index]!.forms!);
      const isToday = forms === null || typeof forms.plans.get(formOf(type, version)) === "string";
      if (!isToday && forms.versions === null) return this.#core.upcast(event);
      const stored = { type, version, data: JSON.parse(event.data) as unknown };
      return isToday ? [stored] : upcast(forms, stored);
    } catch (error) {
      throw unreadable(event, error);
    }
  }

  /** The same; if it is passed by, that is reported. */
  read(event: StoredEvent, asStored?: boolean): readonly OlderEvent[] {
    const today = this.today(event, asStored);
    if (today !== null) return today;
    const { revision, type } = event;
    this.report({ kind: "events-skipped", stream: new StreamOf(event), revision, type, count: 1 });
    return [];
  }

  #decide(output: Reader): void {
    const number = output.word();
    const { type: aggregateType, functions: erased, forms } = this.#aggregates[output.word()]!;
    const functions = erased!;
    const from = output.word();
    const question = output.number();
    const issuedAt = output.time();
    const others = output.option(() => ({
      query: readQuery(output),
      pages: output.list(() => output.word()),
      neighbours: output.list(() => ({ task: output.word(), index: output.word(), revision: output.number() })),
    }));
    const task = this.#tasks.get(number) as CommandTask;
    const { id, command } = task.input;
    try {
      let state = this.#stateOf(functions, from);
      if (functions.reads !== undefined && task.readsFor !== state) {
        task.query = readsOf(functions.reads(command, state));
        task.readsFor = state;
      }
      const { query } = task;
      if (!sameQuery(query, others?.query ?? [])) {
        return writeQuery(this.#answer(number, question, Decision.Reads), query);
      }
      task.issuedAt = issuedAt;
      const known = others === null ? [] : this.#others(task, others, query);
      const decision = decide(functions, state, command, { id, issuedAt: new Date(issuedAt), others: known });
      if (!Array.isArray(decision)) {
        task.refusal = toRefusal(decision);
        this.#answer(number, question, Decision.Refused);
        return;
      }
      const given: readonly unknown[] = decision;
      // Filled below. Arrays that are made as copies are nothing that V8 watches: see `plain`.
      const decided = given.slice() as DecidedEvent[];
      const values = given.slice() as Message[];
      for (let index = 0; index < values.length; index += 1) {
        const { type, data } = toMessage(values[index], "decide");
        const schemaVersion = forms!.versions!.get(type);
        if (schemaVersion === undefined) throw new Error(`decide returned ${type}, which is not among the events of ${aggregateType}`);
        const payload = toPayload(data === undefined ? {} : data, `event ${type}`);
        const value = new MessageOf(type, payload.value);
        const tags = functions.tags === undefined ? [] : tagsOf(functions.tags(value, state));
        // The types that there are were checked when the engine was opened.
        checkNames(tags);
        state = evolve(functions, state, value);
        decided[index] = new DecidedEvent(type, schemaVersion, tags, payload.text);
        values[index] = value;
      }
      const after = this.#states.add(toState(state));
      task.decided = decided;
      task.values = values;
      const answer = this.#answer(number, question, Decision.Decided).word(after);
      answer.list(decided, (event) => {
        answer.str(event.type).word(event.schemaVersion).strings(event.tags).word(event.data.length);
      });
    } catch (error) {
      task.failure = error;
      this.#answer(number, question, Decision.Failed);
    }
  }

  /** What came of a decision, begun when all of it is known: domain functions may call us. */
  #answer(number: number, question: number, decision: number): Writer {
    return this.#core.outbox.word(Input.Domain).word(number).number(question).word(decision);
  }

  #others(task: CommandTask, others: Others, query: Query): OtherEvent[] {
    const found: OtherEvent[] = [];
    const { aggregate, id } = task.input;
    for (const page of others.pages) {
      for (const event of this.#events(page)) {
        if (event.aggregateType === aggregate.type && event.aggregateId === id) continue;
        const stream = new StreamOf(event);
        const { revision, issuedAt, actor } = event;
        for (const { type, data } of this.read(event)) {
          // A query that names types finds those that may become events of these, too.
          if (query.some(({ types }) => types.length === 0 || types.includes(type))) {
            found.push({ type, data, stream, revision, issuedAt, actor });
          }
        }
      }
    }
    for (const { task: neighbour, index, revision } of others.neighbours) {
      const { input, values, issuedAt } = this.#tasks.get(neighbour) as CommandTask;
      const { aggregate, id, actor } = input;
      found.push({ ...values[index]!, stream: { type: aggregate.type, id }, revision, issuedAt: isoTime(issuedAt), actor });
    }
    return found;
  }

  // --- Storage --------------------------------------------------------------------------------

  #request(output: Reader): void {
    const request = { id: output.number(), attempt: output.word(), epoch: output.str() };
    const { epoch } = request;
    const storage = this.#storage;
    switch (output.word()) {
      case Asks.Info:
        return this.#ask(request, false, () => storage.open(), (info) => (message) => {
          this.epoch = info.epoch;
          message
            .word(Said.Info)
            .str(info.epoch)
            .number(info.head)
            .word(DURABILITIES.indexOf(info.durability))
            .flag(storage.subscribe !== undefined);
        });
      case Asks.Append: {
        const append = { epoch, now: output.time(), commits: output.list(() => this.#commit(output)) };
        const judge = (facts: Facts) => this.#judge(request.id, facts);
        return this.#ask(request, true, () => storage.append(append, judge), (verdicts) => (message) => {
          writeVerdicts(message.word(Said.Appended), verdicts);
        });
      }
      case Asks.Load: {
        const commands = output.strings();
        const folds: (Fold | null)[] = [];
        const streams = output.list(() => {
          const load = new TaskLoad(output);
          folds.push(output.option(() => this.#readFold(output)));
          return load;
        });
        const helds: boolean[] = [];
        const queries = output.list(() => {
          const load = { query: readQuery(output), after: output.number() };
          helds.push(output.flag());
          return load;
        });
        return this.#ask(request, false, () => storage.load({ epoch, commands, streams, queries }), (loaded) => {
          const folded = loaded.streams.map((slice, index) => {
            const fold = folds[index]!;
            return fold && this.#fold(fold, slice, streams[index]!.snapshot);
          });
          return (message) => {
            message.word(Said.Loaded);
            message.list(loaded.commands, (first) => message.option(first, (found) => writeFirst(message, found)));
            message.word(loaded.streams.length);
            loaded.streams.forEach(({ snapshot, events, revision, more }, index) => {
              const { aggregateType, aggregateId, whole } = streams[index]!;
              const held = folds[index] !== null;
              // Rows carry their stream once, for all.
              message.option(held ? null : aggregateType, () => message.str(aggregateType).str(aggregateId));
              message.option(snapshot, ({ revision, value }) => {
                message.number(revision).option(held ? null : value, (value) => message.str(value));
              });
              if (held && !whole) message.word(0).word(FOLDED).word(countOf(events));
              else if (!held && isMessages(events)) writeMessages(message.word(2), events);
              else this.#writePage(message, events as StoredEvent[], held, true);
              message.option(folded[index], (write) => write(message));
              message.number(revision).flag(more);
            });
            message.word(loaded.queries.length);
            loaded.queries.forEach((events, index) => this.#writePage(message, events, helds[index]!, false));
            message.number(loaded.head);
          };
        });
      }
      case Asks.SaveDocuments:
        return this.#saveDocuments(output, request);
      case Asks.ReadDocuments: {
        const names = output.list(() => readName(output));
        const scans = output.list(() => readScan(output));
        return this.#ask(request, false, () => storage.readDocuments({ epoch, names, scans }), (found) => (message) => {
          writeDocuments(message.word(Said.Documents), found);
        });
      }
      case Asks.ReadLog: {
        const [after, descending] = [output.number(), output.flag()];
        const [types, aggregateTypes, tags] = [output.strings(), output.strings(), output.strings()];
        const correlationId = output.option(() => output.str());
        const read = { epoch, after, descending, types, aggregateTypes, tags, correlationId, limit: output.word() };
        const held = output.flag();
        return this.#ask(request, false, () => storage.readLog(read), ({ events, next, head }) => (message) => {
          this.#epochs[this.#writePage(message.word(Said.Log), events, held, false)] = epoch;
          message.list(held ? [] : events, ({ position, recordedAt }) => {
            message.number(position).number(Date.parse(recordedAt));
          });
          message.number(next).number(head);
        });
      }
    }
  }

  #readFold(output: Reader): Fold {
    const task = this.#tasks.get(output.word());
    const aggregate = this.#aggregates[output.word()]!;
    const from = output.word();
    // Kept from here on: an answer may come when the engine has let go of it.
    return new Fold(task, aggregate, from, this.#states.get(from));
  }

  /** Those documents that can be written as JSON. The engine is told of the others. */
  #saveDocuments(output: Reader, request: StorageRequest): void {
    const { epoch } = request;
    const expected = output.list(() => ({ ...readName(output), revision: output.number() }));
    const clear = output.strings();
    const documents: Document[] = [];
    const refused: [index: number, reason: string][] = [];
    output.list(() => {
      const { collection, key } = readName(output);
      const revision = output.number();
      const kind = output.word();
      const state = kind === 0 ? this.#states.get(output.word()) : null;
      const text = kind === 0 ? JSON.stringify(state) : kind === 1 ? output.str() : null;
      const postings = output.list((): Posting => [output.str(), output.str()]);
      const place = kind === 0 ? differsFromJson(state, JSON.parse(text!), "state") : null;
      const value = kind === 0 ? withDigest(key, revision, text!) : text;
      if (place === null) documents.push({ collection, key, revision, value, postings });
      else refused.push([documents.length + refused.length, `${place} is not what its JSON says`]);
    });
    const isNothing = expected.length + clear.length + documents.length === 0;
    const save = () => (isNothing ? null : this.#storage.saveDocuments({ epoch, expected, clear, documents }));
    this.#ask(request, false, save, (conflict) => (message) => {
      message.word(Said.Saved);
      if (conflict !== null) message.word(1).word(conflict.index).number(conflict.actual);
      else message.word(0).list(refused, ([index, reason]) => message.word(index).str(reason));
    });
  }

  /** Asks the adapter and tells the engine what it says, at once if it answers at once. */
  #ask<T>(
    request: StorageRequest,
    appends: boolean,
    ask: () => Answer<T>,
    tell: (answer: T) => (message: Writer) => void,
  ): void {
    const answer = (write: (message: Writer) => void) => {
      const { freed, outbox } = this.#core;
      if (freed) return;
      outbox.add(() => write(outbox.word(Input.Answer).number(request.id).word(request.attempt)));
      this.#schedule();
    };
    const failed = (error: unknown) => {
      this.#lastFailure = error;
      // By its name: there may be a second copy of this package.
      const failure = (error as StorageFailure | undefined)?.name === "StorageFailure"
        ? (error as StorageFailure)
        : new StorageFailure("storage-failed", "", { mayBeApplied: appends });
      // What positions mean is not known until the store has said who it is now. It may have, when others
      // that were asked before are refused.
      if (failure.code === "foreign-epoch" && request.epoch === this.epoch) this.epoch = "";
      answer((message) =>
        message
          .word(Said.Failed)
          .word(Math.max(STORAGE_CODES.indexOf(failure.code), 0))
          .flag(failure.mayBeApplied)
          .flag(failure.retryable)
          .str(reasonOf(error)),
      );
    };
    const done = (found: T) => {
      if (this.#core.freed) return;
      try {
        answer(tell(found));
      } catch (error) {
        failed(error);
      }
    };
    try {
      const found = ask();
      if (isThenable(found)) found.then(done, failed);
      else done(found);
    } catch (error) {
      failed(error);
    }
  }

  #writePage(message: Writer, events: StoredEvent[], held: boolean, ofOneStream: boolean): number {
    const page = this.#pages.add(events);
    message.word(held ? 0 : 1).word(page);
    if (held) message.word(events.length);
    else writeRows(message, events, ofOneStream);
    return page;
  }

  #commit(output: Reader): Commit {
    const task = this.#tasks.get(output.word()) as CommandTask;
    return (task.commit = new TaskCommit(task, output));
  }

  #judge(request: number, facts: Facts): Verdict[] {
    const verdicts = this.#core.freed ? null : this.#core.judge(request, facts);
    if (verdicts === null) {
      // Nothing is written then: whoever asked has had another answer, or has gone.
      throw new StorageFailure("storage-failed", "nobody waits for it");
    }
    return verdicts;
  }
}

/** What is wrong with an event of this type, and how that is told. */
function problemOf(error: unknown, type: string): [problem: EventProblem, reason: string] {
  return error instanceof EventError ? [error.problem, error.message] : ["failed", `${type}: ${reasonOf(error)}`];
}

export function unreadable(event: StoredEvent, error: unknown): AnnalsError {
  const { type, revision } = event;
  const stream = new StreamOf(event);
  const [problem, why] = problemOf(error, type);
  const reason = `event ${revision} of ${stream.type}/${stream.id} can't be read: ${why}`;
  return new AnnalsError("unreadable-event", reason, { stream, revision, problem }, error);
}

/** Promises of another realm, or of a library, are promises too. */
function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | undefined)?.then === "function";
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

function isMessages(events: StreamSlice["events"]): events is Messages {
  return !Array.isArray(events);
}

function countOf(events: StreamSlice["events"]): number {
  return (isMessages(events) ? events.forms : events).length;
}

function sameQuery(a: Query, b: Query): boolean {
  const same = (a: readonly string[], b: readonly string[]) => a.length === b.length && a.every((text, index) => text === b[index]);
  return a.length === b.length && a.every(({ types, tags }, index) => same(types, b[index]!.types) && same(tags, b[index]!.tags));
}

export function cancelled(signal: AbortSignal): AnnalsError {
  return new AnnalsError("cancelled", "cancelled", {}, signal.reason);
}

/** What is wrong with a command, or with its decision, names both. */
function ofCommand(error: AnnalsError, task: CommandTask | StateTask): AnnalsError {
  const { code, message, details, cause } = error;
  if (task.kind === "state" || !/^(domain-failed|invalid-)/.test(code)) return error;
  const { aggregate, id, command } = task.input;
  const stream = { type: aggregate.type, id };
  // A name that can't be used may be one of these.
  const what = code === "invalid-name" ? "" : `${command.type} of ${stream.type}/${id}: `;
  return new AnnalsError(code, what + message, { ...(details as object), stream, command: command.type }, cause);
}

function toAnnalsError(error: unknown): AnnalsError {
  if (AnnalsError.is(error)) return error;
  return new AnnalsError("domain-failed", reasonOf(error), {}, error);
}
