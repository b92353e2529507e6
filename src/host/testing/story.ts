/** What has happened so far in a test: streams, their states, the time, and how it is told. */
import { decide, evolve, readsOf, tagsOf, toMessage, toRefusal } from "../calls.js";
import type { AnyAggregate, ErasedFunctions, InlineEvent, Message, Refusal } from "../domain.js";
import { AnnalsError } from "../errors.js";
import { checkName } from "../names.js";
import { reasonOf, toPayload, toState } from "../payload.js";
import { matches } from "../query.js";
import type { Query } from "../storage.js";
import { type Forms, type OlderEvent, upcast } from "../upcast.js";
import { AssertionError, Mistake } from "./failure.js";
import { strict, strictForms, Thrown } from "./strict.js";
import { brief, difference } from "./values.js";

/** An event that a decision gives. */
export interface TaggedEvent extends Message {
  readonly tags: readonly string[];
}

/** An event of the log of a test. */
export interface LoggedEvent extends InlineEvent {
  readonly tags: readonly string[];
}

/** What came of a command. */
export type Outcome = (
  | { readonly kind: "events"; readonly events: readonly TaggedEvent[] }
  | { readonly kind: "refused"; readonly refusal: Refusal }
  | { readonly kind: "threw"; readonly error: unknown }
) & {
  readonly id: string;
  /** What the decision read. */
  readonly query: Query;
  /** Whether a test has expected it. */
  readonly met: boolean;
};

/** What every test tells. */
export interface Told {
  /** What is under test … */
  readonly type: string;
  /** … and which of these. */
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Who does what happens. */
  readonly actor: string | null;
  /** How a failure tells it, after its first line. */
  readonly lines: readonly string[];
}

/** One moment of a test; each step makes another. */
export interface Story extends Told {
  readonly functions: ErasedFunctions;
  readonly forms: Forms;
  readonly log: readonly LoggedEvent[];
  readonly streams: ReadonlyMap<string, Stream>;
  /** What upcasters have made of events that earlier releases have stored. */
  readonly upcast: readonly Message[];
}

/** What a stream has come to. */
interface Stream {
  readonly state: unknown;
  readonly revision: number;
}

/** How a failure tells that nothing has happened. */
export const NOTHING = "      nothing";

/** What the one under test is called if nobody says. */
export const DEFAULT_ID = "under-test";

export const BEGINNING = { now: Date.parse("2026-01-01T00:00:00.000Z"), actor: null, id: DEFAULT_ID };

export function begin(aggregate: AnyAggregate, events: readonly unknown[]): Story {
  const functions = functionsOf(aggregate);
  const story: Story = {
    type: aggregate.type,
    functions,
    forms: strictForms(aggregate.forms!),
    ...BEGINNING,
    log: [],
    streams: new Map(),
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
    let { state, revision } = streamOf(story, story.functions, key);
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
      revision += 1;
    }
    const streams = new Map(story.streams).set(key, { state, revision });
    return { ...telling, streams, upcast: [...story.upcast, ...found] };
  });
}

/** How a failure tells it. */
export function tell({ type, id, lines }: Told): string[] {
  return [`given ${type}${id === DEFAULT_ID ? "" : ` ${id}`}`, ...lines];
}

/** The same with another name for the one under test. */
export function rename(story: Story, id: string): Story {
  return guarded(story, () => {
    checkName("id", id);
    const [from, to] = [keyOf(story.type, story.id), keyOf(story.type, id)];
    if (to !== from && story.streams.has(to)) throw new Mistake(`${id} is another one already`);
    const streams = new Map(story.streams);
    streams.delete(from);
    streams.set(to, streamOf(story, story.functions, from));
    const stream = { type: story.type, id };
    const log = story.log.map((event) => (isOf(event, story.type, story.id) ? { ...event, stream } : event));
    return { ...story, id, log, streams };
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
export function at<T extends Told>(story: T, time: Date | string): T {
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

/** The same with another actor. */
export function by<T extends Told>(story: T, actor: string): T {
  return guarded(story, () => {
    checkName("actor", actor);
    return { ...story, actor, lines: [...story.lines, `by    ${actor}`] };
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
      const known = { id, issuedAt: new Date(story.now), others: othersOf(story, id, query) };
      const decision = decide(functions, before, asked, known);
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
  return streamOf(story, story.functions, keyOf(story.type, id)).state;
}

function streamOf({ streams }: Story, functions: ErasedFunctions, key: string): Stream {
  return streams.get(key) ?? { state: initialState(functions), revision: 0 };
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
  const after: Story = told ? { ...story, lines: [...story.lines, ...events.map(shown)] } : story;
  return guarded(after, () => {
    const log = [...story.log];
    let { state, revision } = streamOf(story, functions, key);
    const known = { stream, issuedAt: isoOf(story.now), actor: story.actor };
    for (const event of events) {
      const value = toEvent(event);
      checkName("event type", value.type);
      if (forms?.versions?.has(value.type) === false) throw new Mistake(`${value.type} is not among the events of ${type}`);
      const tags = functions.tags === undefined ? [] : tagsOf(functions.tags(value, state));
      for (const tag of tags) checkName("tag", tag);
      state = checkState("evolve", evolve(functions, state, value));
      revision += 1;
      log.push({ ...known, ...value, revision, tags });
    }
    return { ...after, log, streams: new Map(story.streams).set(key, { state, revision }) };
  });
}

/** How a failure tells an event. */
export function shown(event: unknown): string {
  const { type, data } = (event ?? {}) as Partial<Message>;
  return `      ${type} ${brief(data)}`;
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
function othersOf({ log, type }: Story, id: string, query: Query): InlineEvent[] {
  return log
    .filter((event) => !isOf(event, type, id) && query.some((item) => matches(item, event.type, event.tags)))
    .map(({ tags: _, ...event }) => event);
}

const isOf = ({ stream }: LoggedEvent, type: string, id: string) => stream.type === type && stream.id === id;

export const keyOf = (type: string, id: string) => JSON.stringify([type, id]);

export const isoOf = (millis: number): string => new Date(millis).toISOString();

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
export function guarded<T>(story: Told, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (error instanceof AssertionError) throw error;
    throw new AssertionError([reasonOf(error), "", ...tell(story)].join("\n"), undefined, causeOf(error));
  }
}
