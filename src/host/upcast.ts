/** Events that earlier releases have stored, as the domain knows them today. */
import { atOnce, toMessage } from "./calls.js";
import type { Message } from "./domain.js";
import type { EventProblem } from "./errors.js";
import { formOf } from "./messages.js";
import { reasonOf } from "./payload.js";

/**
 * A function of an event's data as an earlier release has stored it. It says of what type that is, or
 * takes it as `unknown`.
 */
export type Upcaster<Result> = { upcaster(data: unknown): Result }["upcaster"];

/** An event of an earlier version, whose own upcasters come next. */
export interface OlderEvent extends Message {
  readonly version: number;
}

/** What becomes of the events of a version: data of the next, or other events, or none. */
export type UpcastStep<Event extends Message, Data> =
  | Upcaster<Data>
  | { readonly becomes: Upcaster<readonly (Event | OlderEvent)[]> };

/**
 * The upcasters of an event type: the first takes data of version 1, each gives data of the next
 * version, and the last gives what the type has today. None: its version is 1.
 */
export type Upcasters<Event extends Message, Data> =
  | readonly []
  | readonly [...UpcastStep<Event, unknown>[], UpcastStep<Event, Data>];

/** The upcasters of a type that is no longer written: its last version becomes other events, or none. */
export type RetiredUpcasters<Event extends Message> = readonly [
  ...UpcastStep<Event, unknown>[],
  Exclude<UpcastStep<Event, unknown>, Upcaster<unknown>>,
];

/** Of any events. */
export type AnyStep = UpcastStep<Message, unknown>;

/** The forms that an aggregate's events have had. */
export interface Forms {
  /**
   * What is made of the events of each form: of those of today nothing, which is said by their type. Of a
   * domain of the module there are only those of today.
   */
  readonly plans: ReadonlyMap<string, string | AnyStep>;
  /**
   * Of the types that have had one version, one of each length, at that index. A text that has just been read
   * has no hash yet: to compare it costs less than to look it up.
   */
  readonly plain: readonly string[];
  /** The version that new events of each type are stored with. `null`: the module has the upcasters. */
  readonly versions: ReadonlyMap<string, number> | null;
  /** Types whose events may become events of others. */
  readonly becoming: readonly string[];
  /** What snapshots rest on: a text that changes when an event is read as something else. */
  readonly fingerprint: string;
  /** Whether events of unknown types are passed by. */
  readonly skips: boolean;
}

/** Why a stored event can't be read. */
export class EventError extends Error {
  constructor(
    readonly problem: EventProblem,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/** What a stored event is today; `null` if it is passed by. */
export function upcast(forms: Forms, event: OlderEvent): OlderEvent[] | null {
  return forms.skips && !forms.plans.has(event.type) ? null : step(forms, event);
}

function step(forms: Forms, event: OlderEvent): OlderEvent[] {
  const { type, version, data } = event;
  const plan = forms.plans.get(formOf(type, version));
  if (typeof plan === "string") return [event];
  if (plan === undefined) {
    // Every type has had a first version.
    throw forms.plans.has(type)
      ? new EventError("newer-version", `${type}: version ${version} is later than this release knows`)
      : new EventError("unknown-type", `${type}: unknown type`);
  }
  let next: OlderEvent[];
  try {
    const what = "an upcaster";
    const made: unknown =
      typeof plan === "function" ? [{ type, version: version + 1, data: atOnce(what, plan(data)) }] : plan.becomes(data);
    next = (Array.isArray(made) ? made : [null]).map((value) => {
      const { type, version = forms.versions!.get(type) ?? 1, data } = toMessage(value, what) as OlderEvent;
      if (data === undefined) throw new Error(`${what} returned undefined`);
      return { type, version, data };
    });
  } catch (error) {
    throw new EventError("failed", `${type}: version ${version}: ${reasonOf(error)}`, error);
  }
  return next.flatMap((event) => step(forms, event));
}
