import type { AnyAggregate, Message, Reaction } from "../domain.js";
import type { Driver } from "../driver.js";
import type { RecordedEvent } from "../engine.js";
import { invalidArgument } from "../errors.js";
import type { AbortSignal } from "../platform.js";
import { Recorded } from "../recorded.js";
import { attend } from "./attendance.js";
import { Control, type Parked, release } from "./control.js";

/** How often, and after what pauses, an event is tried that could not be handled. */
export interface RetryPolicy {
  /** Attempts in all, at least 1. Then the event is parked. Default: 8. */
  readonly attempts?: number;
  /** Milliseconds before the second attempt. Each pause is twice the one before. Default: 1,000. */
  readonly firstPause?: number;
  /** Most milliseconds between two attempts. Default: 60,000. */
  readonly maxPause?: number;
}

/** What a reaction is told besides the event. */
export interface Occasion {
  /**
   * The same for every attempt at this event by this reaction, also after a crash: for others to tell
   * whether they have seen it. Events that upcasters have made of one have keys of their own.
   */
  readonly key: string;
  /** Which attempt this is, from 1, as far as is known. */
  readonly attempt: number;
  /** Is aborted when another engine has taken the reaction over, or this one is closed. */
  readonly signal: AbortSignal;
}

export interface ReactionDefinition<Event extends Message> {
  /**
   * Where it begins on a store on which it has never run: with what comes from then on, or with the first
   * event ever that was not imported. There is no default.
   */
  readonly startAt: "now" | "beginning";
  /** What it does, by the types of events. An event has been handled when the promise resolves. */
  readonly on: {
    readonly [Type in Event["type"]]?: (
      event: RecordedEvent<Extract<Event, { readonly type: Type }>>,
      occasion: Occasion,
    ) => void | Promise<void>;
  };
  /** Only events of these aggregates. */
  readonly aggregates?: readonly AnyAggregate[];
  /** Only events with any of these tags. */
  readonly tags?: readonly string[];
  readonly retries?: RetryPolicy;
  /** Most events that are being handled together. Two of one stream never are. Default: 8. */
  readonly concurrency?: number;
}

/**
 * Defines a durable handler of events with side effects: sends the e-mail, tells the hub, updates the other
 * system. It runs after the commit, at least once for each event, in the order of each stream, in one of
 * the engines that are open on the store. What fails is tried again and at last parked, while other
 * streams go on.
 *
 * ```ts
 * type Booked = Message<"AppointmentBooked", { patient: string }>;
 *
 * const confirmation = reaction<Booked>("confirmation", {
 *   startAt: "now",
 *   on: {
 *     async AppointmentBooked({ data }, { key, signal }) {
 *       await fetch("https://mail.example/send", {
 *         method: "POST",
 *         headers: { "idempotency-key": key },
 *         body: JSON.stringify({ to: data.patient }),
 *         signal,
 *       });
 *     },
 *   },
 * });
 * ```
 */
export function reaction<Event extends Message>(name: string, definition: ReactionDefinition<Event>): Reaction {
  const handlers = { ...definition?.on } as unknown as Handlers;
  const rules = rulesOf(`reaction ${name}`, definition, handlers);
  return Object.freeze({
    name,
    ...rules,
    tags: definition.tags ?? [],
    keys: null,
    react: ({ event, epoch, attempt, driver, signal }: Parameters<Reaction["react"]>[0]) => async () => {
      const stored = event!;
      const { eventId } = stored;
      const today = driver.read(stored);
      const tags = JSON.parse(stored.tags) as string[];
      for (const [index, { type, version, data }] of today.entries()) {
        // What may become one of its types comes too.
        if (!Object.hasOwn(handlers, type)) continue;
        const event = new Recorded(stored, { type, eventId, schemaVersion: version }, stored, epoch, data, tags, JSON.parse);
        const key = `${name}/${eventId}${index === 0 ? "" : `/${index}`}`;
        await handlers[type]!(event, { key, attempt, signal });
      }
    },
    attend,
    release,
    control: (driver: Driver) => new Control<Parked["stream"], Parked>(driver, name, laneOf, whatOf),
  });
}

/** A stream as the engine names it. */
function laneOf({ type, id }: Parked["stream"]): string {
  if (typeof type !== "string" || typeof id !== "string") throw invalidArgument("expected a stream with type and id");
  return JSON.stringify([type, id]);
}

function whatOf(lane: string) {
  const [type, id] = JSON.parse(lane) as [string, string];
  return { stream: { type, id } };
}

/** @internal What a reaction says of when it runs, and on what: checked. */
export function rulesOf(
  what: string,
  definition: Pick<ReactionDefinition<Message>, "startAt" | "aggregates" | "retries" | "concurrency"> | undefined,
  handlers: { readonly [type: string]: unknown },
): Pick<Reaction, "types" | "aggregateTypes" | "startsNow" | "numbers"> {
  const { startAt, aggregates = [], retries = {}, concurrency = 8 } = definition ?? {};
  if (startAt !== "now" && startAt !== "beginning") {
    throw invalidArgument(`${what}: expected startAt to be "now" or "beginning"`);
  }
  const types = Object.keys(handlers);
  if (types.length === 0 || types.some((type) => typeof handlers[type] !== "function")) {
    throw invalidArgument(`${what}: expected functions by the types of events`);
  }
  const { attempts = 8, firstPause = 1_000, maxPause = 60_000 } = retries;
  const numbers = [attempts, concurrency, firstPause + 1, maxPause + 1];
  if (!numbers.every((number) => Number.isSafeInteger(number) && number > 0 && number <= 0xffff_ffff)) {
    throw invalidArgument(`${what}: expected whole numbers of attempts, events and milliseconds`);
  }
  return {
    types,
    aggregateTypes: aggregates.map(({ type }) => type),
    startsNow: startAt === "now",
    numbers: [attempts, firstPause, maxPause, concurrency],
  };
}

type Handlers = { readonly [type: string]: (event: RecordedEvent, occasion: Occasion) => void | Promise<void> };
