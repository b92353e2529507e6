/// <reference lib="esnext.disposable" preserve="true" />
import type { Aggregate, AnyAggregate, AnyProjection, AnyReaction, Message, Projection, Reaction, Refusal } from "./domain.js";
import type { ViewReader } from "./projections/reader.js";
import {
  type Appended,
  type Behind,
  cancelled,
  type Choice,
  type CommandInput,
  Driver,
  isoTime,
  type StateInput,
  type SubscriptionInput,
  unreadable,
} from "./driver.js";
import { placeOf } from "./epoch.js";
import { AnnalsError, invalidArgument, RefusedError } from "./errors.js";
import type { EngineModule } from "./module.js";
import { isWellFormed, toPayload } from "./payload.js";
import { MessageOf, plain } from "./plain.js";
import type { AbortSignal } from "./platform.js";
import { millis, Recorded } from "./recorded.js";
import type { Durability, StorageAdapter, StoredEvent } from "./storage.js";
import type { OlderEvent } from "./upcast.js";
import { checkNames } from "./wire.js";

declare const position: unique symbol;

/**
 * A place in a store. It names the store too, so that one of another store, or of this store
 * before it was restored, is refused. Keep it as it is: its form is nobody's business. A text that
 * was kept somewhere is one again `as Position`.
 */
export type Position = string & { readonly [position]: true };

/** What an engine is opened with. */
export interface OpenOptions {
  /** Where events are kept. */
  readonly storage: StorageAdapter;
  /** What may be asked of it. */
  readonly aggregates: readonly AnyAggregate[];
  /** The read models that it keeps: see `annals/projections`. */
  readonly projections?: readonly AnyProjection[];
  /** What it does when something has happened: see `annals/reactions`. */
  readonly reactions?: readonly AnyReaction[];
  /** How patient and how large it is. */
  readonly limits?: Limits;
  /** Is told what changes no answer, and what an operator may want to know. */
  readonly onReport?: (report: Report) => void;
}

export type Report = SnapshotReport | SkippedReport;

/** A snapshot that could not be used or kept. States are the same without it, only later. */
export interface SnapshotReport {
  /**
   * `snapshot-ignored`: one was found that is no state of the stream; the next replaces it.
   * `snapshot-not-json`: the state is not what its JSON says, and can't be kept.
   * `snapshot-not-stored`: the store could not keep it.
   */
  readonly kind: "snapshot-ignored" | "snapshot-not-json" | "snapshot-not-stored";
  readonly stream: { readonly type: string; readonly id: string };
  /** The revision it is, or says it is, the state at. */
  readonly revision: number;
  readonly reason: string;
}

/** Events of unknown types that were passed by together, as `unknownEvents` of their aggregate or a projection says. */
export interface SkippedReport {
  readonly kind: "events-skipped";
  readonly stream: { readonly type: string; readonly id: string };
  /** The last of them. */
  readonly revision: number;
  /** Its type. */
  readonly type: string;
  /** How many there were. */
  readonly count: number;
}

export interface Limits {
  /** Milliseconds after which an attempt at a storage request is given up. Default: 10,000. */
  readonly requestTimeout?: number;
  /** Most states kept at hand. Default: 10,000. */
  readonly cachedStates?: number;
  /** Most events read from a stream at once. Default: 400. */
  readonly pageLimit?: number;
  /** Milliseconds between looks at the log, where the store does not notify. Default: 1,000. */
  readonly pollInterval?: number;
  /**
   * Milliseconds after which a reaction whose engine says nothing more is taken over by another. Where the
   * store's adapter knows that the engine is gone, it is taken over at once. Default: 10,000.
   */
  readonly lease?: number;
}

/** What may be said about a command besides what it asks. */
export interface ExecuteOptions {
  /** A UUID. Give a repeated command the id of the first: it is then applied once. */
  readonly commandId?: string;
  /** What the caller expects of the stream: a revision, or whether it exists. Default: `"any"`. */
  readonly expectedRevision?: number | "any" | "no-stream" | "stream-exists";
  /** When the command was given. Default: now. A text without a time zone is local time. */
  readonly issuedAt?: Date | string;
  /** Who gave it. */
  readonly actor?: string;
  /** Ties together what came of one first cause. Default: the command's id. */
  readonly correlationId?: string;
  /** Id of the message that caused it. */
  readonly causationId?: string;
  /** More, in the application's own words. */
  readonly metadata?: { readonly [key: string]: unknown };
  /** Gives the command up, if it is not on its way to the store. */
  readonly signal?: AbortSignal;
}

/**
 * An event of the log. Its type and its data are those of today: upcasters have read what earlier
 * releases have stored, unless it was asked for as it is stored. They may have made several events of
 * it, which share all but type, version and data.
 */
export type RecordedEvent<Event extends Message = Message> = Event extends Message
  ? {
      readonly type: Event["type"];
      readonly data: Event["data"];
      readonly position: Position;
      readonly stream: { readonly type: string; readonly id: string };
      /** Its place in the stream, from 1. */
      readonly revision: number;
      /** Unique in the store, but for what upcasters have made of one event. */
      readonly eventId: string;
      /** The version of its type that its data is of. */
      readonly schemaVersion: number;
      readonly tags: readonly string[];
      /** When the store took it: ISO 8601, UTC. */
      readonly recordedAt: string;
      /** When its command was given: ISO 8601, UTC. */
      readonly issuedAt: string;
      readonly commandId: string;
      readonly correlationId: string;
      readonly causationId: string | null;
      readonly actor: string | null;
      readonly metadata: { readonly [key: string]: unknown } | null;
    }
  : never;

/** What came of a command. */
export interface Outcome<State, Event extends Message> {
  readonly commandId: string;
  /** What it appended; empty if there was nothing to do. */
  readonly events: readonly RecordedEvent<Event>[];
  /** The state after it, frozen. */
  readonly state: State;
  /** The stream's revision after it. */
  readonly revision: number;
  /** Position of its last event; `null` if it has none. */
  readonly position: Position | null;
  /** Whether it had been committed before: this is its first outcome. */
  readonly duplicate: boolean;
  /** What the commit survives. */
  readonly durability: Durability;
  /** Inline projections that have not taken the events in, and why. */
  readonly behind: readonly Behind[];
}

/** The outcome of a command, or the domain's refusal. */
export type Attempt<State, Event extends Message, Refused extends Refusal> =
  | ({ readonly ok: true } & Outcome<State, Event>)
  | { readonly ok: false; readonly refusal: Refused };

/**
 * A point in a stream's life: after so many events, as of a place in the store, or as of a time. A
 * revision or a position that has not come is an error; a time that has not is now.
 */
export type At =
  | { readonly revision: number }
  | { readonly position: Position }
  | { readonly time: Date | string };

export interface StateOptions {
  /** Default: now. */
  readonly at?: At;
  /** Take the state at hand without asking the store, if there is one. */
  readonly cached?: boolean;
  readonly signal?: AbortSignal;
}

export interface HistoryOptions extends Omit<StateOptions, "cached"> {
  /** Give the events as they are stored: nothing is upcast, and none is passed by. */
  readonly stored?: boolean;
}

export interface StateAt<State> {
  /** The state, frozen. */
  readonly state: State;
  /** The revision it is the state at. 0: the stream has no events. */
  readonly revision: number;
}

export interface History<State, Event extends Message> extends StateAt<State> {
  /** Every event up to that revision. */
  readonly events: readonly RecordedEvent<Event>[];
  /** How many there are besides, of unknown types: see `unknownEvents` of the aggregate. */
  readonly skipped: number;
}

/** Which events, and how they are read. */
export interface ReadingOptions<A extends AnyAggregate = AnyAggregate, Type extends string = string> {
  /** Only these types: those of today, or as they are stored, if that is what is asked for. */
  readonly types?: readonly Type[];
  /** Only those of these aggregates. */
  readonly aggregates?: readonly A[];
  /** Only those with any of these tags. */
  readonly tags?: readonly string[];
  /** Only what came of one first cause. */
  readonly correlationId?: string;
  /** Whether it goes on with events to come. Default: `true`. */
  readonly follow?: boolean;
  /** Give events as they are stored: nothing is upcast, and none is passed by. */
  readonly stored?: boolean;
  /** Most events read at once. Default: 500. */
  readonly pageSize?: number;
  /** Ends it: the loop is left with an error of code `cancelled`. */
  readonly signal?: AbortSignal;
}

export interface EventsOptions<A extends AnyAggregate = AnyAggregate, Type extends string = string>
  extends ReadingOptions<A, Type> {
  /** Events after this position, or those to come. Default, and with `null`: from the first. */
  readonly after?: Position | "now" | null;
  readonly before?: undefined;
  readonly name?: undefined;
}

/** The log read back, up to its beginning. */
export interface EventsBackOptions<A extends AnyAggregate = AnyAggregate, Type extends string = string>
  extends ReadingOptions<A, Type> {
  /** Events before this position, the last one first; or all that are stored. */
  readonly before: Position | "now";
  readonly after?: undefined;
  readonly name?: undefined;
  readonly follow?: false;
}

/** A subscription of which the store keeps how far it has come. */
export interface NamedEventsOptions<A extends AnyAggregate = AnyAggregate, Type extends string = string>
  extends ReadingOptions<A, Type> {
  /** Its name. One reader of a name goes on where the one before it has left off. */
  readonly name: string;
  /**
   * Where it begins if nothing is kept under its name: with what comes from then on, with the first event
   * ever, or after a position. There is no default.
   */
  readonly startAt: Position | "now" | "beginning";
  readonly before?: undefined;
}

type AnyEventsOptions<A extends AnyAggregate = AnyAggregate, Type extends string = string> =
  EventsOptions<A, Type> | NamedEventsOptions<A, Type> | EventsBackOptions<A, Type>;

/** The events of an aggregate, or of several. */
export type EventOf<A> = A extends Aggregate<infer _S, infer _C, infer Event, infer _R> ? Event : never;

/** Those events that are of these types. Of events that nobody has named, their types are known. */
export type EventOfType<Event extends Message, Type extends string> = Event extends Message
  ? string extends Event["type"]
    ? Message<Type, Event["data"]>
    : Extract<Event, { readonly type: Type }>
  : never;

export class Engine {
  readonly #driver: Driver;

  /** Engines are opened: see {@link Engine.open}. */
  protected constructor(driver: Driver) {
    this.#driver = driver;
  }

  /** Opens an engine over a store, in a module the application brings. */
  static async open(options: OpenOptions & { readonly module: EngineModule }): Promise<Engine> {
    const { module, storage, aggregates, projections = [], reactions = [], limits = {}, onReport } = options;
    if (typeof storage?.append !== "function") throw invalidArgument("expected a storage adapter");
    if (!Array.isArray(aggregates)) throw invalidArgument("expected an array of aggregates");
    const values = [limits.requestTimeout, limits.cachedStates, limits.pageLimit, limits.pollInterval, limits.lease];
    return new this(
      await Driver.open({ module, storage, aggregates, projections, reactions, limits: values.map((value) => limit(value)), onReport }),
    );
  }

  /**
   * Gives a command to the aggregate with this id. Rejects with a {@link RefusedError} if the
   * domain refuses it; {@link Engine.attempt} gives refusals as results instead.
   */
  execute<State, Command extends Message, Event extends Message, Refused extends Refusal>(
    aggregate: Aggregate<State, Command, Event, Refused>,
    id: string,
    command: NoInfer<Command>,
    options: ExecuteOptions = {},
  ): Promise<Outcome<State, Event>> {
    return new Promise((resolve, reject) => {
      this.#driver.execute(
        new GivenCommand(aggregate, id, command, options),
        options.signal,
        ({ commandId, appended, events, state, revision, duplicate, durability, behind }) => {
          const recorded = appended === null
            ? events.flatMap((event) => this.#recorded<Event>(event, this.#driver.read(event)))
            : this.#appended<Event>(appended);
          const position = recorded.at(-1)?.position ?? null;
          const outcome = new OutcomeOf(commandId, recorded, state, revision, position, duplicate, durability, behind);
          resolve(outcome as Outcome<State, Event>);
        },
        reject,
      );
    });
  }

  /** As {@link Engine.execute}, with a refusal as a result. Everything else still rejects. */
  async attempt<State, Command extends Message, Event extends Message, Refused extends Refusal>(
    aggregate: Aggregate<State, Command, Event, Refused>,
    id: string,
    command: NoInfer<Command>,
    options: ExecuteOptions = {},
  ): Promise<Attempt<State, Event, Refused>> {
    try {
      return { ok: true, ...(await this.execute(aggregate, id, command, options)) };
    } catch (error) {
      if (error instanceof RefusedError) return { ok: false, refusal: error.details as Refused };
      throw error;
    }
  }

  /**
   * The state of an aggregate: now, after so many events, as of a position or a time.
   *
   * ```ts
   * const { state } = await engine.state(appointment, "a-1", { at: { position: event.position } });
   * ```
   */
  state<State, Command extends Message, Event extends Message, Refused extends Refusal>(
    aggregate: Aggregate<State, Command, Event, Refused>,
    id: string,
    options: StateOptions = {},
  ): Promise<StateAt<State>> {
    return new Promise((resolve, reject) => {
      const input = this.#stateInput(aggregate, id, options, false);
      this.#driver.state(input, options.signal, resolve as (at: StateAt<unknown>) => void, reject);
    });
  }

  /**
   * The state of an aggregate, and every event that led to it. The events are those of today, as
   * `evolve` gets them; with `stored` they are as they are stored.
   */
  history<
    State,
    Command extends Message,
    Event extends Message,
    Refused extends Refusal,
    Stored extends boolean = false,
  >(
    aggregate: Aggregate<State, Command, Event, Refused>,
    id: string,
    options?: HistoryOptions & { readonly stored?: Stored },
  ): Promise<History<State, Stored extends true ? Message : Event>>;
  history(aggregate: AnyAggregate, id: string, options: HistoryOptions = {}): Promise<History<unknown, Message>> {
    return new Promise<StateAt<unknown> & { readonly events: StoredEvent[] }>((resolve, reject) => {
      const done = (at: StateAt<unknown>, events: StoredEvent[]) => resolve({ ...at, events });
      this.#driver.state(this.#stateInput(aggregate, id, options, true), options.signal, done, reject);
    }).then(({ state, revision, events }) => {
      let skipped = 0;
      const recorded = events.flatMap((event) => {
        const today = this.#driver.today(event, options.stored);
        if (today === null) skipped += 1;
        return this.#recorded(event, today ?? []);
      });
      return { state, revision, events: recorded, skipped };
    });
  }

  /**
   * Keeps the state of an aggregate as a snapshot, whatever its policy, and gives the revision it is
   * the state at. A stream without events has revision 0, and nothing is kept.
   */
  snapshot(
    aggregate: AnyAggregate,
    id: string,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<{ readonly revision: number }> {
    return this.#driver.snapshot(aggregate, name("id", id), options.signal);
  }

  /** The view of a projection: `await engine.view(agenda).get("doctor-7")`. */
  view<Document>(projection: Projection<Document>): ViewReader<Document> {
    if (typeof projection?.reader !== "function") throw invalidArgument("expected a projection");
    return projection.reader({
      driver: this.#driver,
      numberOf: (position) => this.#numberOf(position),
      millis,
    });
  }

  /** Looks after a reaction or a process manager: `await engine.reaction(confirmation).status()`. */
  reaction<Control>(reaction: Reaction<Control>): Control {
    if (typeof reaction?.control !== "function") throw invalidArgument("expected a reaction");
    return reaction.control(this.#driver);
  }

  /**
   * The events of the log in order: those stored, then, unless `follow` is false, those to come.
   * Leaving the loop ends it. The next page is read when the last is used up.
   *
   * ```ts
   * for await (const event of engine.events({ aggregates: [appointment] })) {
   *   if (event.type === "AppointmentBooked") console.log(event.data.doctor);
   * }
   * ```
   *
   * With a `name` the store keeps a checkpoint. An event has been handled when the next is asked for; the
   * one at which the loop is left has not, and comes again. The checkpoint is moved when a page has been
   * handled and when the loop is left, which waits for that; after a crash the events of a page come
   * again. Of two readers with one name the slower ends with `subscription-moved`.
   *
   * ```ts
   * for await (const event of engine.events({ name: "mails", startAt: "now" })) await send(event);
   * ```
   *
   * With `before` the log is read back, the last event first, and ends at its beginning.
   *
   * ```ts
   * for await (const event of engine.events({ before: "now", pageSize: 20 })) show(event);
   * ```
   */
  events<A extends AnyAggregate = Aggregate, const Type extends EventOf<A>["type"] = EventOf<A>["type"]>(
    options?: AnyEventsOptions<A, Type> & { readonly stored?: false },
  ): AsyncIterableIterator<RecordedEvent<EventOfType<EventOf<A>, Type>>>;
  /** The events of the log as they are stored. */
  events(options: AnyEventsOptions & { readonly stored: true }): AsyncIterableIterator<RecordedEvent>;
  events(options: AnyEventsOptions = {}): AsyncIterableIterator<RecordedEvent> {
    const { name: given, startAt, after, before, follow } = options as Partial<
      NamedEventsOptions & Pick<EventsOptions, "after"> & Pick<EventsBackOptions, "before">
    >;
    if (given === undefined ? startAt !== undefined : (startAt ?? null) === null || after !== undefined) {
      throw invalidArgument("expected name and startAt together, and no after with them");
    }
    const descending = before !== undefined;
    if (descending && (given !== undefined || after !== undefined || follow === true)) {
      throw invalidArgument("expected before without name, after and follow");
    }
    const start = before ?? startAt ?? after ?? "beginning";
    const pageSize = options.pageSize ?? 500;
    if (!Number.isSafeInteger(pageSize) || pageSize < 1) throw invalidArgument("expected a pageSize of at least 1");
    const { types = [], stored } = options;
    const read = (event: StoredEvent, epoch: string) => {
      // What may become one of these types comes too.
      const today = this.#driver.read(event, stored).filter(({ type }) => types.length === 0 || types.includes(type));
      const recorded = this.#recorded(event, today, epoch);
      return descending ? recorded.reverse() : recorded;
    };
    const place = {
      name: optionalName("name", given),
      after: start === "now" ? null : start === "beginning" && !descending ? 0 : this.#numberOf(start),
    };
    return new Events(this.#driver, { ...options, ...place, follow: follow ?? !descending, descending, pageSize }, read) as never;
  }

  /**
   * Gives up reads and subscriptions, waits for the commands under way, and closes the store.
   * May be called again.
   */
  close(): Promise<void> {
    return this.#driver.close();
  }

  /** As {@link Engine.close}: `await using engine = await Engine.open(…)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Closes at once: commands under way are rejected, though they may reach the store. */
  [Symbol.dispose](): void {
    this.#driver.abandon();
  }

  /** What a stored event is, or has become. */
  #recorded<Event extends Message>(
    event: StoredEvent,
    today: readonly OlderEvent[],
    epoch = this.#driver.epoch,
  ): RecordedEvent<Event>[] {
    const parse = (text: string): unknown => {
      try {
        return JSON.parse(text);
      } catch (error) {
        throw unreadable(event, error);
      }
    };
    return today.map(({ type, version, data }) => {
      const tags = event.tags === "[]" ? [] : (parse(event.tags) as string[]);
      const told = { type, eventId: event.eventId, schemaVersion: version };
      return new Recorded(event, told, event, epoch, data, tags, parse) as RecordedEvent<Event>;
    });
  }

  /** The events of a commit as the store has them. */
  #appended<Event extends Message>({ commit, summary, values }: Appended): RecordedEvent<Event>[] {
    const { epoch } = this.#driver;
    const recordedAt = isoTime(summary.recordedAt);
    const first = summary.revision - summary.count + 1;
    return commit.events.map((event, index) => {
      const place = { position: summary.position + index, revision: first + index, recordedAt };
      const data = values.length > 0 ? values[index]!.data : JSON.parse(event.data);
      return new Recorded(commit, event, place, epoch, data, [...event.tags], JSON.parse) as RecordedEvent<Event>;
    });
  }

  #stateInput(
    aggregate: AnyAggregate,
    id: string,
    { at, cached }: StateOptions,
    events: boolean,
  ): StateInput {
    const point = at === undefined ? NOW_OR_CACHED[cached === true ? 1 : 0]! : this.#pointOf(at);
    return new AskedState(aggregate, name("id", id), point, events);
  }

  #pointOf(at: At): Choice {
    const { revision, position, time } = at as { revision?: number; position?: Position; time: Date | string };
    if (position !== undefined) return [4, this.#numberOf(position)];
    if (revision === undefined) return [3, millis(time)];
    if (!Number.isSafeInteger(revision) || revision < 0) {
      throw invalidArgument(`expected a revision, found ${revision}`);
    }
    return [2, revision];
  }

  #numberOf(position: Position): number {
    const { epoch, number } = placeOf(position);
    if (epoch !== this.#driver.epoch) {
      throw new AnnalsError("foreign-position", "the position is of another store, or of this one before a restore", {
        position,
      });
    }
    return number;
  }
}

interface Waiting {
  resolve(result: IteratorResult<unknown, undefined>): void;
  reject(error: AnnalsError): void;
}

/** A subscription as an iterator. Calls of `next` may overlap; `return` ends a `next` that waits. */
class Events implements AsyncIterableIterator<unknown, undefined> {
  /** Not there while it is being made, when the engine may end already. */
  readonly #subscription: { next(): void; cancel(): void } | undefined;
  readonly #isNamed: boolean;
  readonly #read: (event: StoredEvent, epoch: string) => unknown[];
  #page: StoredEvent[] = [];
  /** What the last event of the page that was looked at has become. */
  #found: unknown[] = [];
  #epoch = "";
  #at = 0;
  /** With what the reader leaves, which waits until its checkpoint is kept. */
  #left: AnnalsError | null | undefined;
  #ended = false;
  #error: AnnalsError | null = null;
  #waiting: Waiting[] = [];
  #hold: ReturnType<typeof setInterval> | undefined;
  #stopListening: () => void = () => undefined;

  constructor(
    driver: Driver,
    options: ReadingOptions & Pick<SubscriptionInput, "name" | "after" | "follow" | "descending"> & { readonly pageSize: number },
    read: (event: StoredEvent, epoch: string) => unknown[],
  ) {
    const { signal, name, after } = options;
    if (signal?.aborted === true) throw cancelled(signal);
    this.#read = read;
    this.#isNamed = name !== null;
    this.#subscription = driver.subscribe({
      name,
      after,
      types: options.types ?? [],
      aggregateTypes: (options.aggregates ?? []).map((aggregate) => aggregate.type),
      correlationId: options.correlationId ?? null,
      tags: options.tags ?? [],
      stored: options.stored,
      limit: options.pageSize,
      follow: options.follow,
      descending: options.descending,
      onEvents: (events, epoch) => {
        this.#page = events;
        this.#epoch = epoch;
        this.#at = 0;
        this.#serve();
      },
      onEnd: (error) => {
        this.#forget();
        this.#end(this.#left !== undefined && error?.code === "cancelled" ? this.#left : error);
      },
      onLeave: () => {
        // An event is looked at when more is asked for: those before it have been handled.
        const handled = this.#page[this.#at - 2]?.position ?? 0;
        this.#forget();
        return handled;
      },
    });
    if (signal !== undefined) {
      const onAbort = () => this.#leave(cancelled(signal));
      signal.addEventListener("abort", onAbort, { once: true });
      this.#stopListening = () => signal.removeEventListener("abort", onAbort);
    }
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#serve();
      // Node ends a process that has nothing to do. Waiting for an event is something.
      if (this.#waiting.length > 0) this.#hold ??= setInterval(() => undefined, 0x7fff_ffff);
    });
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    this.#leave(null);
    return this.#ended ? Promise.resolve({ done: true, value: undefined }) : this.next();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #serve(): void {
    while (this.#waiting.length > 0 && (this.#found.length > 0 || this.#at < this.#page.length)) {
      if (this.#found.length > 0) {
        this.#waiting.shift()!.resolve({ done: false, value: this.#found.shift() });
        continue;
      }
      try {
        this.#found = this.#read(this.#page[this.#at++]!, this.#epoch);
      } catch (error) {
        this.#leave(error as AnnalsError);
      }
    }
    // With a name, whoever asks for the next page says that he has handled this one.
    if (this.#page.length > 0 && this.#at === this.#page.length && (!this.#isNamed || this.#waiting.length > 0)) {
      this.#page = [];
      this.#subscription?.next();
    }
    if (this.#ended && this.#at >= this.#page.length && this.#found.length === 0) {
      for (const { resolve, reject } of this.#waiting.splice(0)) {
        if (this.#error === null) resolve({ done: true, value: undefined });
        else reject(this.#error);
        // An error is told once; after it the iterator is done.
        this.#error = null;
      }
    }
    if (this.#waiting.length === 0) {
      clearInterval(this.#hold);
      this.#hold = undefined;
    }
  }

  /** The reader wants no more. */
  #leave(error: AnnalsError | null): void {
    if (this.#isNamed && !this.#ended) {
      if (this.#left === undefined) this.#left = error;
      return this.#subscription?.cancel();
    }
    this.#page = this.#found = [];
    this.#end(error);
  }

  /** What a reader with a name gets after its end would come again. */
  #forget(): void {
    if (this.#isNamed) this.#page = this.#found = [];
  }

  #end(error: AnnalsError | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#stopListening();
    this.#subscription?.cancel();
    this.#serve();
  }
}

/** A command as the driver takes it, checked. */
const GivenCommand = /* @__PURE__ */ plain<CommandInput, [
  aggregate: AnyAggregate,
  id: string,
  command: Message,
  options: ExecuteOptions,
]>(function (aggregate, id, command, options) {
  if (typeof (command as Message | null)?.type !== "string") {
    throw invalidArgument("expected a command with type and data");
  }
  const { type, data = {} } = command;
  // What is decided is what was given, whatever becomes of the caller's object.
  const { text, value } = toPayload(data, "command");
  const { commandId, expectedRevision, issuedAt, correlationId, causationId, actor, metadata } = options;
  this.aggregate = aggregate;
  this.id = name("id", id);
  this.command = new MessageOf(name("type", type), value);
  this.text = text;
  this.commandId = commandId === undefined ? null : uuid(commandId);
  this.expected = expectation(expectedRevision ?? "any");
  this.issuedAt = issuedAt === undefined ? null : millis(issuedAt);
  this.correlationId = optionalName("correlationId", correlationId);
  this.causationId = optionalName("causationId", causationId);
  this.actor = optionalName("actor", actor);
  this.extra = metadata === undefined ? null : toPayload(metadata, "metadata").text;
});

class AskedState implements StateInput {
  constructor(
    readonly aggregate: AnyAggregate,
    readonly id: string,
    readonly at: Choice,
    readonly events: boolean,
  ) {}
}

const OutcomeOf = /* @__PURE__ */ plain<Outcome<unknown, Message>, [
  commandId: string,
  events: readonly RecordedEvent[],
  state: unknown,
  revision: number,
  position: Position | null,
  duplicate: boolean,
  durability: Durability,
  behind: readonly Behind[],
]>(function (commandId, events, state, revision, position, duplicate, durability, behind) {
  this.commandId = commandId;
  this.events = events;
  this.state = state;
  this.revision = revision;
  this.position = position;
  this.duplicate = duplicate;
  this.durability = durability;
  this.behind = behind;
});

const NOW_OR_CACHED: readonly Choice[] = [[0], [1]];

function name(what: string, value: string): string {
  if (typeof value !== "string") throw invalidArgument(`expected a string as ${what}, found ${typeof value}`);
  if (!isWellFormed(value)) checkNames([value]);
  return value;
}

function optionalName(what: string, value: string | undefined): string | null {
  return value === undefined ? null : name(what, value);
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

function uuid(id: string): string {
  if (!UUID.test(id)) throw invalidArgument(`expected a UUID as commandId, found ${JSON.stringify(id)}`);
  return id;
}

const EXPECTATIONS: readonly unknown[] = ["any", "no-stream", "stream-exists"];

function expectation(expected: unknown): Choice {
  const which = EXPECTATIONS.indexOf(expected);
  if (which >= 0) return [which];
  if (Number.isSafeInteger(expected) && (expected as number) >= 0) return [3, expected as number];
  const found = JSON.stringify(expected);
  throw invalidArgument(`expected ${EXPECTATIONS.join(", ")} or a revision as expectedRevision, found ${found}`);
}

function limit(value: number | undefined): number {
  if (value !== undefined && (!Number.isSafeInteger(value) || value < 1 || value > 0xffff_ffff)) {
    throw invalidArgument(`expected a limit of at least 1, found ${value}`);
  }
  return value ?? 0;
}
