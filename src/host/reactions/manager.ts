/** Process managers: what is to be done across streams, and when. */
import { atOnce } from "../calls.js";
import type { Aggregate, AnyAggregate, Message, Reaction, Refusal } from "../domain.js";
import type { CommandInput, Driver } from "../driver.js";
import type { RecordedEvent } from "../engine.js";
import { AnnalsError, invalidArgument } from "../errors.js";
import { checkName } from "../names.js";
import { deepFreeze, differsFromJson, reasonOf, toPayload } from "../payload.js";
import { millis, Recorded } from "../recorded.js";
import type { StoredEvent } from "../storage.js";
import type { OlderEvent } from "../upcast.js";
import type { Writer } from "../wire.js";
import { attend } from "./attendance.js";
import { Control, type Unhandled, type ReactionControl, release } from "./control.js";
import { type RetryPolicy, rulesOf } from "./reaction.js";

/** A timer whose time has come. */
export interface DueTimer<Name extends string = string> {
  readonly name: Name;
  /** The key it is of. */
  readonly key: string;
  /** When it was to be handled, at the earliest: ISO 8601, UTC. */
  readonly due: string;
}

/** What a process manager may want to be done. */
export interface Commands<Timer extends string = string> {
  /**
   * Gives a command. Its id follows from the event or the timer, so that it is given once, whatever
   * happens. A refusal is an answer: nobody tries again. All commands of one event go out together.
   */
  give<State, Command extends Message, Event extends Message, Refused extends Refusal>(
    aggregate: Aggregate<State, Command, Event, Refused>,
    id: string,
    command: NoInfer<Command>,
  ): void;
  /**
   * Sets the key's timer of this name, in the place of one that is set. It is handled at that time, or as
   * soon as may be after it. A text without a time zone is local time.
   */
  remindAt(name: Timer, time: Date | string): void;
  /** Takes the key's timer of this name away, if it is set. */
  forget(name: Timer): void;
  /** The process is over: its state is taken away. Timers stay, unless they are forgotten. */
  end(): void;
}

/** What a process manager does with a state and something that has happened: the next state, or the same. */
export type Handler<State, Cause, Timer extends string> = (
  state: State,
  cause: Cause,
  commands: Commands<Timer>,
  // A handler that only gives commands returns nothing.
) => State | void;

interface Common<State, Event extends Message, Timer extends string> {
  /**
   * Where it begins on a store on which it has never run: with what comes from then on, or with the first
   * event ever that was not imported. There is no default.
   */
  readonly startAt: "now" | "beginning";
  /** What is remembered of a key of which nothing has been heard. */
  readonly initial: () => State;
  /**
   * Which process an event belongs to; `null`: none. Events with one key are handled one after the other,
   * whatever their streams. A key has 1 to 1,024 bytes, and no control characters.
   */
  readonly key: (event: RecordedEvent<Event>) => string | null;
  /** What is done, by the types of events. What is returned is the next state; nothing: it stays. */
  readonly on: {
    readonly [Type in Event["type"]]?: Handler<State, RecordedEvent<Extract<Event, { readonly type: Type }>>, Timer>;
  };
  /** Only events of these aggregates. */
  readonly aggregates?: readonly AnyAggregate[];
  /** What happens to what fails. After the last attempt its key is parked, and others go on. */
  readonly retries?: RetryPolicy;
  /** Most events and timers that are being handled together. Two of one key never are. Default: 8. */
  readonly concurrency?: number;
}

/** All functions are pure: an event may be handled again after a crash, and must then lead to the same. */
export type ProcessManagerDefinition<State, Event extends Message, Timer extends string = never> = Common<
  State,
  Event,
  Timer
> &
  ([Timer] extends [never]
    ? { readonly timers?: undefined }
    : {
        /** What is done when the time of a timer has come, by its name. */
        readonly timers: { readonly [Name in Timer]: Handler<State, DueTimer<Name>, Timer> };
      });

/** An event or a timer of a key that could not be handled. After an event what comes next of its key waits. */
export interface ParkedKey extends Unhandled {
  readonly key: string;
  /** The name of the timer; `null`: it is an event. */
  readonly timer: string | null;
}

/** Looks after a process manager. What is parked is named by its key and, if it is one, its timer. */
export type ManagerControl = ReactionControl<Pick<ParkedKey, "key"> & Partial<ParkedKey>, ParkedKey>;

declare const types: unique symbol;

/** A process manager is a reaction, and goes where reactions go. */
export interface ProcessManager<State = unknown, Timer extends string = string> extends Reaction<ManagerControl> {
  /** @internal For tests of it. */
  readonly functions: ManagerFunctions;
  /** Carries the types; there is no such property. */
  readonly [types]?: (state: State) => Timer;
}

/** @internal */
export interface ManagerFunctions {
  readonly initial: () => unknown;
  readonly key: (event: RecordedEvent) => unknown;
  readonly on: { readonly [type: string]: Handler<unknown, RecordedEvent, string> };
  readonly timers: { readonly [name: string]: Handler<unknown, DueTimer, string> };
}

/**
 * Defines what is to be done across streams, and when: it answers events with commands, remembers what it
 * has to, and sets timers. Events belong together by their `key`; each key has a state and timers of its
 * own, and these and the progress are saved as one.
 *
 * ```ts
 * type Event =
 *   | Message<"AppointmentBooked", { patient: string; start: string }>
 *   | Message<"AppointmentCancelled", Record<string, never>>;
 *
 * const reminder = processManager<{ patient: string }, Event, "day before">("reminder", {
 *   startAt: "now",
 *   initial: () => ({ patient: "" }),
 *   key: ({ stream }) => stream.id,
 *   on: {
 *     AppointmentBooked(_, { data: { patient, start } }, commands) {
 *       commands.remindAt("day before", new Date(Date.parse(start) - 86_400_000));
 *       return { patient };
 *     },
 *     AppointmentCancelled(_, event, commands) {
 *       commands.forget("day before");
 *       commands.end();
 *     },
 *   },
 *   timers: {
 *     "day before"({ patient }, { key }, commands) {
 *       commands.give(letter, key, { type: "SendReminder", data: { patient } });
 *     },
 *   },
 * });
 *
 * const engine = await Engine.open({ storage, aggregates: [appointment, letter], reactions: [reminder] });
 * ```
 */
export function processManager<State, Event extends Message, Timer extends string = never>(
  name: string,
  definition: ProcessManagerDefinition<State, Event, Timer>,
): ProcessManager<State, Timer> {
  const what = `process manager ${name}`;
  const { initial, key } = definition ?? {};
  const functions = {
    initial,
    key,
    on: { ...definition?.on },
    timers: { ...definition?.timers },
  } as unknown as ManagerFunctions;
  if (![initial, key, ...Object.values(functions.timers)].every((value) => typeof value === "function")) {
    throw invalidArgument(`${what}: expected functions initial and key, and timers by their names`);
  }
  for (const timer of Object.keys(functions.timers)) checkName(`${what}: timer`, timer);
  const rules = rulesOf(what, definition, functions.on);
  return Object.freeze({
    name,
    functions,
    ...rules,
    tags: [],
    keys(events: readonly StoredEvent[], epoch: string, driver: Driver) {
      const found: [index: number, position: number, key: string][] = [];
      let failed: [position: number, reason: string] | null = null;
      for (const [index, stored] of events.entries()) {
        const { position } = stored;
        try {
          const keys = partsOf(functions, stored, driver.read(stored), epoch).map((part) => part.key);
          for (const key of new Set(keys)) found.push([index, position, key]);
        } catch (error) {
          failed = [position, reasonOf(error)];
          break;
        }
      }
      return (message: Writer) => {
        const tell = (position: number, text: string) => void message.number(position).str(text);
        message.list(found, ([index, position, key]) => {
          message.word(index);
          tell(position, key);
        });
        // Positions begin with 1.
        if (failed === null) message.number(0);
        else tell(...failed);
      };
    },
    react(occasion: Parameters<Reaction["react"]>[0]) {
      const { output, event, lane, state, epoch, run, driver } = occasion;
      const timer = event !== null ? null : {
        name: output.str(),
        due: new Date(output.time()).toISOString(),
        cause: output.str(),
        causationId: output.str(),
        correlationId: output.str(),
      };
      return async () => {
        const process = new Process(functions, state);
        if (event === null) process.ring({ name: timer!.name, key: lane, due: timer!.due });
        else {
          const parts = partsOf(functions, event, driver.today(event) ?? [], epoch);
          for (const part of parts) if (part.key === lane) process.handle(part.event);
        }
        const { text, timers, given } = process;
        // What is to be given is looked at before anything is.
        for (const { aggregate } of given) driver.indexOf(aggregate);
        const { cause, causationId, correlationId } = timer ?? { cause: event!.eventId, causationId: event!.eventId, correlationId: event!.correlationId };
        const commandIds = driver.manage((message) => {
          message.number(run).str(cause).str(correlationId).option(text, (text) => message.str(text));
          message.list([...timers], ([name, due]) => message.str(name).option(due, (due) => message.number(due)));
          message.word(given.length);
        });
        if (commandIds === null) return;
        const giving = given.map((command, index) =>
          give(driver, { ...command, commandId: commandIds[index]!, correlationId, causationId, actor: name }),
        );
        // All are done before it is known how it went.
        for (const result of await Promise.allSettled(giving)) if (result.status === "rejected") throw result.reason;
      };
    },
    attend,
    release,
    control: (driver: Driver) =>
      new Control<Pick<ParkedKey, "key"> & Partial<ParkedKey>, ParkedKey>(
        driver,
        name,
        (which) => {
          const { key, timer = null } = which ?? {};
          if (typeof key !== "string") throw invalidArgument("expected a key, and the name of a timer if it is one");
          return timer === null ? key : JSON.stringify(["timer", key, timer]);
        },
        (lane, isTimer) => {
          const [, key, timer] = isTimer ? (JSON.parse(lane) as string[]) : [];
          return { key: key ?? lane, timer: timer ?? null };
        },
      ),
  }) as ProcessManager<State, Timer>;
}

/** @internal A command, before it has an id. */
export interface Given extends Pick<CommandInput, "aggregate" | "id" | "command" | "text"> {}

/** @internal What a handler gives and wants. */
export interface Wanted {
  /** The next state; `undefined`: it stays. */
  readonly next: unknown;
  readonly ends: boolean;
  /** Timers and when they are due, in milliseconds since 1970; `null`: the timer is forgotten. */
  readonly timers: ReadonlyMap<string, number | null>;
  readonly given: readonly Given[];
}

/** @internal Runs a handler and gathers what it wants. */
export function wanted({ timers: known }: ManagerFunctions, what: string, handle: (commands: Commands) => unknown): Wanted {
  const timers = new Map<string, number | null>();
  const given: Given[] = [];
  let [ends, isOver] = [false, false];
  const want = (wish: () => void) => {
    if (isOver) throw invalidArgument(`${what} has returned, and can't want more`);
    wish();
  };
  const set = (name: string, due: number | null) =>
    want(() => {
      if (!Object.hasOwn(known, name)) throw invalidArgument(`${what}: there is no timer ${String(name)}`);
      timers.set(name, due);
    });
  const next = atOnce(
    what,
    handle({
      give: (aggregate, id, command) => want(() => void given.push(toGiven(aggregate, id, command))),
      remindAt: (name, time) => set(name, millis(time)),
      forget: (name) => set(name, null),
      end: () => want(() => (ends = true)),
    }),
  );
  isOver = true;
  return { next, ends, timers, given };
}

/** @internal A key's state as text. One that JSON does not keep is refused. */
export function stateText(state: unknown): string {
  const { text, value } = toPayload(state, "state");
  const place = differsFromJson(state, value, "state");
  if (place !== null) throw new AnnalsError("invalid-payload", `${place} is not what its JSON says`, {});
  return text;
}

/** What comes of a key's state, and of what it wants to be done. */
class Process {
  readonly #functions: ManagerFunctions;
  /** As it is kept; `null`: there is none. */
  text: string | null;
  readonly timers = new Map<string, number | null>();
  readonly given: Given[] = [];

  constructor(functions: ManagerFunctions, text: string | null) {
    this.#functions = functions;
    this.text = text;
  }

  handle(event: RecordedEvent): void {
    const { on } = this.#functions;
    this.#run(`on.${event.type}`, (state, commands) => on[event.type]!(state, event, commands));
  }

  ring(timer: DueTimer): void {
    const { timers } = this.#functions;
    const { name } = timer;
    if (!Object.hasOwn(timers, name)) throw new Error(`there is no timer ${name}`);
    this.#run(`timers.${name}`, (state, commands) => timers[name]!(state, timer, commands));
  }

  #run(what: string, handler: (state: unknown, commands: Commands) => unknown): void {
    const { initial } = this.#functions;
    const state: unknown = this.text === null ? atOnce("initial", initial()) : JSON.parse(this.text);
    deepFreeze(state);
    const { next = state, ends, timers, given } = wanted(this.#functions, what, (commands) => handler(state, commands));
    this.text = ends ? null : stateText(next);
    for (const [name, due] of timers) this.timers.set(name, due);
    this.given.push(...given);
  }
}

/** @internal A command, looked at before it is given. */
export function toGiven(aggregate: AnyAggregate, id: string, command: Message): Given {
  if (typeof aggregate?.type !== "string") throw invalidArgument("expected an aggregate to give a command to");
  if (typeof command?.type !== "string") throw invalidArgument(`expected a command of ${aggregate.type} with type and data`);
  checkName(`id of ${aggregate.type}`, id);
  checkName("command type", command.type);
  const { text, value } = toPayload(command.data ?? {}, `command ${command.type}`);
  return { aggregate, id, command: { type: command.type, data: value }, text };
}

/** @internal What an event is today, as far as the process manager wants it, with the keys. */
export function partsOf(
  { on, key }: ManagerFunctions,
  stored: StoredEvent,
  today: readonly OlderEvent[],
  epoch: string,
): { event: RecordedEvent; key: string }[] {
  const { eventId, tags } = stored;
  return today.flatMap(({ type, version, data }) => {
    // What may become one of its types comes too.
    if (!Object.hasOwn(on, type)) return [];
    const told = { type, eventId, schemaVersion: version };
    const event = new Recorded(stored, told, stored, epoch, data, JSON.parse(tags) as string[], JSON.parse);
    const found = keyOf(key, event);
    return found === null ? [] : [{ event, key: found }];
  });
}

/** @internal The key of an event; `null`: it has none. */
export function keyOf(key: ManagerFunctions["key"], event: RecordedEvent): string | null {
  const found = atOnce("key", key(event)) ?? null;
  if (found !== null) checkName(`key of ${event.type}`, found);
  return found as string | null;
}

function give(driver: Driver, command: Given & Pick<CommandInput, "commandId" | "correlationId" | "causationId" | "actor">): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: AnnalsError) => {
      // A refusal is an answer; so is it that an earlier attempt has given the command, though of another
      // state.
      if (error.code === "refused" || error.code === "command-id-reused") return resolve();
      const { aggregate, id, command: { type } } = command;
      reject(new Error(`${type} of ${aggregate.type}/${id}: ${error.message}`, { cause: error }));
    };
    driver.execute({ ...command, expected: [0], issuedAt: null, extra: null }, undefined, () => resolve(), failed);
  });
}
