import { type AnnalsError, invalidArgument } from "./errors.js";
import type { Driver } from "./driver.js";
import { formOf } from "./messages.js";
import type { AbortSignal } from "./platform.js";
import type { FoldedView } from "./projections/fold.js";
import type { ProjectionFunctions } from "./projections/projection.js";
import type { Access, ViewReader } from "./projections/reader.js";
import type { Attendance } from "./reactions/attendance.js";
import type { ReactionControl } from "./reactions/control.js";
import type { Query, StorageAdapter, StoredEvent } from "./storage.js";
import type { AnyStep, Forms, RetiredUpcasters, Upcasters } from "./upcast.js";
import type { Reader, Writer } from "./wire.js";

/** A command or an event: what kind, and what about it. */
export interface Message<Type extends string = string, Data = unknown> {
  readonly type: Type;
  readonly data: Data;
}

/** Why the domain refuses a command. */
export interface Refusal<Code extends string = string, Details = unknown> {
  readonly code: Code;
  readonly details: Details;
}

/** A refusal, to be returned from `decide`. */
export function refuse<const Code extends string>(code: Code): Refusal<Code, Record<string, never>>;
export function refuse<const Code extends string, Details>(
  code: Code,
  details: Details,
): Refusal<Code, Details>;
export function refuse(code: string, details: unknown = {}): Refusal {
  return { code, details };
}

/** When the engine keeps snapshots of an aggregate's states. With neither rule: when they are asked for. */
export interface SnapshotPolicy {
  /**
   * Version of the state's form, from 1. Raise it whenever `evolve`, the state's type or what an upcaster
   * does changes: snapshots of other versions are not used. New upcasters are told apart by themselves.
   */
  readonly version: number;
  /** One whenever the newest is so many events old or older. */
  readonly every?: number;
  /** One after more than so many events had to be folded to get at a state. */
  readonly afterReplayOf?: number;
}

/** The functions of an aggregate besides `evolve`. All are pure: same arguments, same result, no side effects. */
export interface AggregateFunctions<
  State,
  Command extends Message,
  Event extends Message,
  Refused extends Refusal,
> {
  /** The state before the first event. */
  readonly initial: () => State;
  /** What follows from the command: events, none if there is nothing to do, or a refusal. */
  readonly decide: (
    state: State,
    command: Command,
    context: DecideContext<Event>,
  ) => readonly Event[] | Refused;
  /**
   * Which events of other streams the decision rests on: those with any of these tags, or those a
   * query matches. They come as `others`, and the command is decided again if one more comes.
   */
  readonly reads?: (command: Command, state: State) => readonly string[] | Query;
  /** Tags of an event, for the `reads` of others. `before` is the state before the event. */
  readonly tags?: (event: Event, before: State) => readonly string[];
}

/**
 * The functions of an aggregate, and what else the engine is to know of it. Its events are of the types
 * that `evolve` or `events` names: a decision with another fails, and nothing is stored.
 */
export type AggregateDefinition<
  State,
  Command extends Message,
  Event extends Message,
  Refused extends Refusal,
> = AggregateFunctions<State, Command, Event, Refused> &
  AggregateOptions<Event> &
  (EvolvesByType<State, Event> | EvolvesAsOne<State, Event>);

/** States come of events by a function for each type. */
interface EvolvesByType<State, Event extends Message> {
  /** The state after an event, by the event's type. It must not fail, and not change `state`. */
  readonly evolve: EvolveByType<State, Event>;
  /** Upcasters of each type. Without them all types are of version 1. */
  readonly events?: UpcastersByType<NoInfer<Event>>;
}

/** States come of events by one function. */
interface EvolvesAsOne<State, Event extends Message> {
  /** The state after an event. It must not fail, and not change `state`. */
  readonly evolve: (state: State, event: Event) => State;
  /** Upcasters of each type. Nothing else says which types there are. */
  readonly events: UpcastersByType<NoInfer<Event>>;
}

/** The state after an event, by the event's type. */
export type EvolveByType<State, Event extends Message> = {
  readonly [Type in Event["type"]]: (state: State, event: Extract<Event, { readonly type: Type }>) => State;
};

/**
 * Every event type, with the upcasters of its earlier versions in order. New events are stored with the
 * version after the last of them.
 *
 * ```ts
 * events: {
 *   AppointmentBooked: [
 *     (data: { doctor: string }) => ({ ...data, room: "1" }), // version 1
 *     (data: { doctor: string; room: string }) => ({ ...data, minutes: 30 }), // version 2
 *   ],
 *   AppointmentConfirmed: [],
 * },
 * ```
 */
export type UpcastersByType<Event extends Message> = {
  readonly [Type in Event["type"]]: Upcasters<Event, DataOf<Event, Type>>;
};

/** What an aggregate may say besides its functions. */
interface AggregateOptions<Event extends Message> {
  /** Whether snapshots shorten the replay of long streams. A state must then equal its JSON. */
  readonly snapshots?: SnapshotPolicy;
  /**
   * Types that are no longer written, and what becomes of their events.
   *
   * ```ts
   * retired: {
   *   AppointmentMoved: [{ becomes: (data: Slot) => [{ type: "AppointmentRescheduled", data }] }],
   *   AppointmentViewed: [{ becomes: () => [] }],
   * },
   * ```
   */
  readonly retired?: { readonly [type: string]: RetiredUpcasters<NoInfer<Event>> };
  /**
   * What happens where a stored event has a type that is neither one of today nor `retired`. `fail`,
   * the default: it can't be read. `skip`: it is passed by, counts as an event of its stream, and
   * `onReport` is told.
   */
  readonly unknownEvents?: "fail" | "skip";
}

/** The data of the events of this type. */
export type DataOf<Event extends Message, Type> = Event extends Message
  ? Type extends Event["type"]
    ? Event["data"]
    : never
  : never;

/** What a decision may look at besides state and command. */
export interface DecideContext<Event extends Message = Message> {
  /** Which aggregate it is. */
  readonly id: string;
  /** When the command was given. */
  readonly issuedAt: Date;
  /**
   * Events of other streams that match what `reads` returned, in order, as the upcasters of their
   * aggregates read them.
   */
  readonly others: readonly OtherEvent<Event>[];
  /**
   * The documents that a projection makes of `others`, and of nothing before them. Types of events
   * that it has no function for are passed by.
   *
   * ```ts
   * const seats = projection<{ guest: string }, Taken>("seats", {
   *   version: 1,
   *   kind: "inline",
   *   on: { Taken: (view, { data, stream }) => view.set(data.seat, { guest: stream.id }) },
   * });
   *
   * const guest = aggregate<null, Take, Taken, Refusal<"seat-taken", { by: string }>>("Guest", {
   *   initial: () => null,
   *   reads: ({ data }) => [`seat:${data.seat}`],
   *   decide: (_, { data }, { fold }) => {
   *     const taken = fold(seats).get(data.seat);
   *     return taken ? refuse("seat-taken", { by: taken.guest }) : [{ type: "Taken", data }];
   *   },
   *   evolve: { Taken: () => null },
   *   tags: ({ data }) => [`seat:${data.seat}`],
   * });
   * ```
   *
   * The store may not have some of the events yet, so none has a position and `recordedAt`: a
   * projection of another kind than `inline` fails if it asks for them. An event that can't be taken
   * in fails the command with `domain-failed`, which names the projection and the event, whatever the
   * decision is.
   */
  readonly fold: <Document>(projection: Projection<Document>) => FoldedView<Document>;
}

/** An event, as far as it is known before the store has it. */
export type InlineEvent<Event extends Message = Message> = Event extends Message
  ? {
      readonly type: Event["type"];
      readonly data: Event["data"];
      readonly stream: { readonly type: string; readonly id: string };
      /** Its place in the stream, from 1. */
      readonly revision: number;
      /** When its command was given: ISO 8601, UTC. */
      readonly issuedAt: string;
      readonly actor: string | null;
    }
  : never;

/** An event of another stream. */
export type OtherEvent<Event extends Message = Message> = InlineEvent<Event>;

declare const types: unique symbol;

/** An aggregate: a name, and the types of what may be asked of it and what may happen to it. */
export interface Aggregate<
  State = unknown,
  Command extends Message = Message,
  Event extends Message = Message,
  Refused extends Refusal = Refusal,
> {
  readonly type: string;
  /** @internal What JavaScript has of it; `null` if the module defines it. */
  readonly functions: ErasedFunctions | null;
  /** @internal `null`: none, or the module says it. */
  readonly snapshots: SnapshotPolicy | null;
  /** @internal `null`: the module says it. */
  readonly forms: Forms | null;
  /** Carries the types; there is no such property. */
  readonly [types]?: (state: State, command: Command, event: Event, refused: Refused) => void;
}

/** @internal */
export type ErasedFunctions = AggregateFunctions<unknown, Message, Message, Refusal> & {
  readonly evolve: EvolveByType<unknown, Message> | ((state: unknown, event: Message) => unknown);
};

/** Any aggregate: also one that refuses nothing, whose refusals are `never`. */
export type AnyAggregate = Aggregate<any, any, any, never>;

/**
 * Defines an aggregate in TypeScript.
 *
 * ```ts
 * type Command = Message<"Add", { amount: number }>;
 * type Event = Message<"Added", { amount: number }>;
 * type Refused = Refusal<"limit-reached", { limit: number }>;
 *
 * const counter = aggregate<number, Command, Event, Refused>("Counter", {
 *   initial: () => 0,
 *   decide: (sum, { data }) =>
 *     sum + data.amount > 10 ? refuse("limit-reached", { limit: 10 }) : [{ type: "Added", data }],
 *   evolve: { Added: (sum, { data }) => sum + data.amount },
 * });
 * ```
 */
export function aggregate<
  State,
  Command extends Message,
  Event extends Message,
  Refused extends Refusal = never,
>(
  type: string,
  definition: AggregateDefinition<State, Command, Event, Refused>,
): Aggregate<State, Command, Event, Refused> {
  const mistake: Mistake = (expected) => invalidArgument(`aggregate ${type}: expected ${expected}`);
  for (const name of ["initial", "decide"] as const) {
    if (typeof definition?.[name] !== "function") throw mistake(`a function ${name}`);
  }
  const { snapshots = null } = definition;
  const { version, every = 1, afterReplayOf = 0 } = snapshots ?? { version: 1 };
  if (![version, every, afterReplayOf + 1].every((number) => Number.isSafeInteger(number) && number > 0)) {
    throw mistake("whole numbers of events in snapshots, and a version");
  }
  const functions = definition as unknown as AnyDefinition;
  return Object.freeze({ type, functions, snapshots, forms: formsOf(functions, mistake) });
}

type AnyDefinition = ErasedFunctions &
  AggregateOptions<Message> & { readonly events?: { readonly [type: string]: readonly AnyStep[] } };

/** Says what was expected of an aggregate's definition. */
type Mistake = (expected: string) => AnnalsError;

function formsOf(definition: AnyDefinition, mistake: Mistake): Forms {
  const { events, retired, unknownEvents } = definition;
  const skips = unknownEvents === "skip";
  const types = typesOf(definition, mistake);
  const lists = types.map((type) => [type, events === undefined ? [] : events[type]] as const);
  const plans = new Map<string, string | AnyStep>();
  const plain: string[] = [];
  const versions = new Map<string, number>();
  const becoming: string[] = [];
  let fingerprint = "";
  for (const [type, steps] of [...Object.entries(retired ?? {}), ...lists]) {
    const isToday = types.includes(type);
    let version = 1;
    let isRight = Array.isArray(steps) && !plans.has(type) && (isToday || typeof steps.at(-1) === "object");
    for (const step of isRight ? (steps as readonly AnyStep[]) : []) {
      if (typeof step !== "function") {
        isRight &&= typeof (step as { becomes?: unknown } | null)?.becomes === "function";
        becoming.push(type);
      }
      plans.set(formOf(type, version++), step);
    }
    if (!isRight) throw mistake(`one list of upcasters of ${type}${isToday ? "" : ", the last of which says what it becomes"}`);
    if (isToday) {
      versions.set(type, version);
      plans.set(formOf(type, version), type);
      if (version === 1) plain[type.length] ??= type;
    }
    // What new types mean is not in it, unless they were passed by before.
    if (version > 1 || skips) fingerprint += `${type}\n${version}\n`;
  }
  return { plans, plain, versions, becoming, fingerprint, skips };
}

/** The types that there are, in the order of `events`: fingerprints are made in it. */
function typesOf({ evolve, events }: AnyDefinition, mistake: Mistake): string[] {
  // Without a prototype it has no functions but its own.
  const table: Record<string, unknown> | null = typeof evolve === "function" ? null : { __proto__: null, ...evolve };
  const types = Object.keys({ ...events, ...table });
  if (types.length === 0) throw mistake("evolve as functions by event type, or events, which name every type");
  for (const type of types) {
    if (table !== null && typeof table[type] !== "function") throw mistake(`a function of ${type} in evolve`);
  }
  return types;
}

/** Names an aggregate that the module defines in Rust, with its types. */
export function nativeAggregate<
  State,
  Command extends Message,
  Event extends Message,
  Refused extends Refusal = never,
>(type: string): Aggregate<State, Command, Event, Refused> {
  return Object.freeze({ type, functions: null, snapshots: null, forms: null });
}

/** When a projection's documents are made: when they are asked for, with each command, behind the log. */
export type ViewKind = "live" | "inline" | "async";

/** A read model, and the type of its documents. Its code comes with it, from `annals/projections`. */
export interface Projection<Document = unknown> {
  readonly name: string;
  /** @internal Of one that the module defines, what the module says goes. */
  readonly version: number;
  /** @internal The same. */
  readonly kind: ViewKind;
  /** @internal What JavaScript has of it; `null` if the module defines it. */
  readonly functions: ProjectionFunctions | null;
  /** @internal Types of the events it is given; none: all of its aggregates, if it has some. */
  readonly types: readonly string[];
  /** @internal Of which aggregates; none: of all. */
  readonly aggregates: readonly AnyAggregate[];
  /** @internal Names of its indexes. */
  readonly indexes: readonly string[];
  /** @internal Takes a page in; returns what writes the answer. */
  readonly project: (
    output: Reader,
    events: readonly StoredEvent[],
    epoch: string,
    driver: Driver,
  ) => (message: Writer) => void;
  /** @internal What a document is found under besides its key. */
  readonly postings: (document: unknown) => readonly (readonly [index: string, value: string])[];
  /** @internal */
  readonly reader: (access: Access) => ViewReader<Document>;
  /** @internal */
  readonly fold: (events: Iterable<InlineEvent>) => FoldedView<Document>;
}

/** A durable handler of events. Its code comes with it, from `annals/reactions`. */
export interface Reaction<Control = ReactionControl> {
  readonly name: string;
  /** @internal Which events it wants. */
  readonly types: readonly string[];
  /** @internal */
  readonly aggregateTypes: readonly string[];
  /** @internal */
  readonly tags: readonly string[];
  /** @internal Whether it begins with what comes, and not with the first event. */
  readonly startsNow: boolean;
  /** @internal Attempts, first and longest pause in milliseconds, most events at once. */
  readonly numbers: readonly number[];
  /** @internal Of a process manager: tells whose the events of a page are; returns what writes the answer. */
  readonly keys:
    | ((events: readonly StoredEvent[], epoch: string, driver: Driver) => (message: Writer) => void)
    | null;
  /** @internal Reads the rest of what the engine says; what it returns handles it, soon. */
  readonly react: (occasion: {
    readonly run: number;
    readonly attempt: number;
    readonly lane: string;
    readonly state: string | null;
    /** As it is stored; `null`: a timer comes in its place. */
    readonly event: StoredEvent | null;
    readonly epoch: string;
    readonly output: Reader;
    readonly driver: Driver;
    readonly signal: AbortSignal;
  }) => () => Promise<void>;
  /** @internal Lets others know that the engine is there, if the store's adapter can. */
  readonly attend: (storage: StorageAdapter) => Promise<Attendance | null>;
  /** @internal Gives these to other engines, once what is being handled has come to an end, or soon after. */
  readonly release: (driver: Driver, reactions: readonly AnyReaction[]) => Promise<void>;
  /** @internal */
  readonly control: (driver: Driver) => Control;
  /** Carries the type; there is no such property. */
  readonly [types]?: () => Control;
}

/** Any reaction. */
export type AnyReaction = Reaction<ReactionControl<never, unknown>>;

/** Any projection. */
export type AnyProjection = Projection<any>;

/** What a `reads` returned, as a query. */
export function toQuery(reads: readonly string[] | Query): Query {
  return reads.map((item) =>
    typeof item === "string" ? { types: [], tags: [item] } : { types: item.types, tags: item.tags },
  );
}
