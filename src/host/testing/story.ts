/** What has happened so far in a test: streams, their states, the time, and how it is told. */
import { evolve, readsOf, tagsOf, toMessage, toRefusal } from "../calls.js";
import type { AnyAggregate, ErasedFunctions, Message, Refusal } from "../domain.js";
import { AnnalsError } from "../errors.js";
import { isWellFormed, reasonOf, toPayload, toState, utf8Length } from "../payload.js";
import { matches } from "../query.js";
import type { Query } from "../storage.js";
import { type Forms, type OlderEvent, upcast } from "../upcast.js";
import { AssertionError, Mistake } from "./failure.js";
import { strict, strictForms, Thrown } from "./strict.js";
import { brief, difference } from "./values.js";

/** An event of the log of a test. */
export interface LoggedEvent {
  readonly stream: { readonly type: string; readonly id: string };
  readonly type: string;
  readonly data: unknown;
  readonly tags: readonly string[];
}

/** What came of a command. */
export type Outcome = (
  | { readonly kind: "events"; readonly events: readonly LoggedEvent[] }
  | { readonly kind: "refused"; readonly refusal: Refusal }
  | { readonly kind: "threw"; readonly error: unknown }
) & {
  readonly id: string;
  /** What the decision read. */
  readonly query: Query;
  /** Whether a test has expected it. */
  readonly met: boolean;
};

/** One moment of a test; each step makes another. */
export interface Story {
  readonly type: string;
  readonly functions: ErasedFunctions;
  readonly forms: Forms | null;
  /** The one under test. */
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly log: readonly LoggedEvent[];
  readonly states: ReadonlyMap<string, unknown>;
  /** What upcasters have made of events that earlier releases have stored. */
  readonly upcast: readonly Message[];
  /** How a failure tells it, after its first line. */
  readonly lines: readonly string[];
}

/** How a failure tells that nothing has happened. */
const NOTHING = "      nothing";

/** What the one under test is called if nobody says. */
const DEFAULT_ID = "under-test";

export function begin(aggregate: AnyAggregate, events: readonly unknown[]): Story {
  const functions = functionsOf(aggregate);
  const story: Story = {
    type: aggregate.type,
    functions,
    forms: strictForms(aggregate.forms),
    id: DEFAULT_ID,
    now: Date.parse("2026-01-01T00:00:00.000Z"),
    log: [],
    states: new Map(),
    upcast: [],
    lines: events.length === 0 ? [NOTHING] : [],
  };
  return happened(story, aggregate, functions, DEFAULT_ID, events);
}

/** The same after events that an earlier release has stored. */
export function stored(story: Story, events: readonly OlderEvent[]): Story {
  const shown = events.map((event) => `      ${event?.type} (version ${event?.version}) ${brief(event?.data)}`);
  const lines = [...story.lines.filter((line) => line !== NOTHING), ...shown];
  const telling: Story = { ...story, lines };
  return guarded(telling, () => {
    const key = keyOf(story.type, story.id);
    let state = stateOf(story, story.id);
    const found: Message[] = [];
    for (const event of events) {
      const { type, data } = toEvent(event);
      const { version } = event;
      checkName("event type", type);
      if (!Number.isSafeInteger(version) || version < 1) throw new Mistake(`expected a version of at least 1, found ${brief(version)}`);
      for (const today of upcast(story.forms, { type, version, data }) ?? []) {
        const value = toEvent(today);
        state = checkState("evolve", evolve(story.functions, state, value));
        found.push(value);
      }
    }
    return { ...telling, states: new Map(story.states).set(key, state), upcast: [...story.upcast, ...found] };
  });
}

/** How a failure tells it. */
export function tell({ type, id, lines }: Story): string[] {
  return [`given ${type}${id === DEFAULT_ID ? "" : ` ${id}`}`, ...lines];
}

/** The same with another name for the one under test. */
export function rename(story: Story, id: string): Story {
  return guarded(story, () => {
    checkName("id", id);
    const [from, to] = [keyOf(story.type, story.id), keyOf(story.type, id)];
    if (to !== from && story.states.has(to)) throw new Mistake(`${id} is another one already`);
    const states = new Map(story.states);
    states.delete(from);
    states.set(to, stateOf(story, story.id));
    const stream = { type: story.type, id };
    const log = story.log.map((event) => (isOf(event, story.type, story.id) ? { ...event, stream } : event));
    return { ...story, id, log, states };
  });
}

/** The same after events of another stream. */
export function othersHappened(
  story: Story,
  aggregate: AnyAggregate | null,
  id: string,
  events: readonly unknown[],
): Story {
  const type = aggregate?.type ?? story.type;
  const isSame = aggregate === null || type === story.type;
  const functions = isSame ? story.functions : functionsOf(aggregate);
  const telling: Story = { ...story, lines: [...story.lines, `given ${type} ${id}`] };
  return guarded(telling, () => {
    checkName("id", id);
    if (type === story.type && id === story.id) {
      throw new Mistake(`${id} is the one under test: its events are given first, or come of its commands`);
    }
    return happened(telling, isSame ? story : aggregate, functions, id, events);
  });
}

/** The same at another time. */
export function at(story: Story, time: Date | string): Story {
  return guarded(story, () => {
    // The machine's time zone must not decide a test.
    if (typeof time === "string" && !/T.*(?:Z|[+-]\d\d:?\d\d)$/.test(time)) {
      throw new Mistake(`expected a time with its zone, such as 2026-11-23T09:00:00Z, found ${brief(time)}`);
    }
    const now = new Date(time).getTime();
    if (Number.isNaN(now)) throw new Mistake(`expected a time, found ${brief(time)}`);
    return { ...story, now, lines: [...story.lines, `at    ${isoOf(now)}`] };
  });
}

/** The same after a command, and what came of it. */
export function commanded(story: Story, id: string, command: Message): { story: Story; outcome: Outcome } {
  const shown = `${command?.type} ${brief(command?.data)}`;
  const line = `when  ${shown}${id === story.id ? "" : `, given to ${id}`}`;
  const asking: Story = { ...story, lines: [...story.lines, line] };
  return guarded(asking, () => {
    checkName("id", id);
    if (typeof command?.type !== "string") throw new Mistake("expected a command with type and data");
    checkName("command type", command.type);
    const { type, data = {} } = command;
    const asked = { type, data: toPayload(data, "command").value };
    const before = stateOf(story, id);
    const { functions } = story;
    const given = { id, met: false };
    let query: Query = [];
    try {
      query = functions.reads === undefined ? [] : readsOf(functions.reads(asked, before));
      checkQuery(query);
      const decision: unknown = functions.decide(before, asked, {
        id,
        issuedAt: new Date(story.now),
        others: othersOf(story, id, query) as never,
      });
      if (!Array.isArray(decision)) {
        const refusal = toRefusal(decision);
        return { story: asking, outcome: { kind: "refused", refusal, query, ...given } };
      }
      const decided = decision.map((event) => toMessage(event, "decide"));
      const after = happened(asking, story, functions, id, decided, false);
      const events = after.log.slice(story.log.length);
      return { story: after, outcome: { kind: "events", events, query, ...given } };
    } catch (error) {
      // Whatever else throws has no right to.
      if (!(error instanceof Thrown) || (error.by !== "decide" && error.by !== "reads")) throw error;
      return { story: asking, outcome: { kind: "threw", error: error.error, query, ...given } };
    }
  });
}

export function stateOf(story: Story, id: string): unknown {
  const known = story.states.get(keyOf(story.type, id));
  return known === undefined ? initialState(story.functions) : known;
}

/** What is appended if these events happen to the stream, with the tags they get there. */
function happened(
  story: Story,
  { type, forms }: { readonly type: string; readonly forms: Forms | null },
  functions: ErasedFunctions,
  id: string,
  events: readonly unknown[],
  told = true,
): Story {
  const key = keyOf(type, id);
  const stream = { type, id };
  const shown = events.map((event) => `      ${(event as Message | null)?.type} ${brief((event as Message | null)?.data)}`);
  const after: Story = told ? { ...story, lines: [...story.lines, ...shown] } : story;
  return guarded(after, () => {
    const log = [...story.log];
    let state = story.states.has(key) ? story.states.get(key) : initialState(functions);
    for (const event of events) {
      const value = toEvent(event);
      const tags = functions.tags === undefined ? [] : tagsOf(functions.tags(value, state));
      checkName("event type", value.type);
      if (forms?.versions?.has(value.type) === false) throw new Mistake(`${value.type} is not among the events of ${type}`);
      for (const tag of tags) checkName("tag", tag);
      state = checkState("evolve", evolve(functions, state, value));
      log.push({ stream, ...value, tags });
    }
    return { ...after, log, states: new Map(story.states).set(key, state) };
  });
}

/** An event as it would be stored. */
export function toEvent(event: unknown): Message {
  if (typeof (event as Message | null | undefined)?.type !== "string") {
    throw new Mistake(`expected an event with type and data, found ${brief(event)}`);
  }
  const { type, data = {} } = event as Message;
  return { type, data: toPayload(data, `event ${type}`).value };
}

/** Events of other streams that match, in order, as the engine gives them. */
function othersOf({ log, type }: Story, id: string, query: Query): unknown[] {
  return log
    .filter((event) => !isOf(event, type, id) && query.some((item) => matches(item, event.type, event.tags)))
    .map((event) => ({ type: event.type, data: event.data, stream: event.stream }));
}

const isOf = ({ stream }: LoggedEvent, type: string, id: string) => stream.type === type && stream.id === id;

const keyOf = (type: string, id: string) => JSON.stringify([type, id]);

const isoOf = (millis: number): string => new Date(millis).toISOString();

// --- Checks ------------------------------------------------------------------------------------

function functionsOf({ type, functions }: AnyAggregate): ErasedFunctions {
  if (functions !== null) return strict(functions);
  throw new AssertionError(`aggregate ${type} is written in Rust: test it there, with annals::testing`);
}

function initialState(functions: ErasedFunctions): unknown {
  return checkState("initial", functions.initial());
}

/** A state is kept as JSON, and must be the same when it comes back. */
function checkState(by: "initial" | "evolve", state: unknown): unknown {
  toState(state);
  const change = difference(state, JSON.parse(JSON.stringify(state)) as unknown, "state");
  if (change === null) return state;
  const { place, left, right } = change;
  throw new Mistake(`${by} gave a state that JSON does not keep: ${place} is ${left}, and comes back as ${right}`);
}

/** As in the core. */
const MAX_NAME_BYTES = 1024;

function checkName(what: string, name: unknown): void {
  if (typeof name !== "string" || name === "") throw new Mistake(`expected a non-empty ${what}, found ${brief(name)}`);
  if (!isWellFormed(name)) throw new Mistake(`expected a ${what} of whole characters, found a lone surrogate`);
  const bytes = utf8Length(name);
  if (bytes > MAX_NAME_BYTES) throw new Mistake(`expected a ${what} of at most ${MAX_NAME_BYTES} bytes, found ${bytes}`);
  if (/\p{Cc}/u.test(name)) throw new Mistake(`expected a ${what} without control characters, found ${brief(name)}`);
}

function checkQuery(query: Query): void {
  for (const { types, tags } of query) {
    if (types.length === 0 && tags.length === 0) {
      throw new Mistake("reads gave a query item without types and tags: it would match every event");
    }
    for (const type of types) checkName("event type", type);
    for (const tag of tags) checkName("tag", tag);
  }
}

/** What a failure does not say itself: where the domain threw, or did what it may not. */
function causeOf(error: unknown): unknown {
  if (error instanceof Thrown) return error.error;
  if (error instanceof Mistake) return error.cause;
  return AnnalsError.is(error) ? undefined : error;
}

/** Runs a step; what is wrong with domain or test is told with the story. */
export function guarded<T>(story: Story, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (error instanceof AssertionError) throw error;
    throw new AssertionError([reasonOf(error), "", ...tell(story)].join("\n"), undefined, causeOf(error));
  }
}
