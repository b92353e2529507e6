/** What has happened so far in a test of a process manager, and what has come of it. */
import { evolve, tagsOf } from "../calls.js";
import type { AnyAggregate, Message } from "../domain.js";
import type { Position, RecordedEvent } from "../engine.js";
import { checkName } from "../names.js";
import { reasonOf } from "../payload.js";
import { type DueTimer, type Given, keyOf, type ProcessManager, stateText, wanted } from "../reactions/manager.js";
import { AssertionError, Mistake } from "./failure.js";
import type { GivenCommand } from "./manager-steps.js";
import { BEGINNING, guarded, isoOf, keyOf as keyOfStream, NOTHING, shown, tell, toEvent, type Told } from "./story.js";
import { strict, Thrown, twice } from "./strict.js";
import { difference } from "./values.js";

/** One moment of a test; each step makes another. */
export interface ManagerStory extends Told {
  readonly manager: ProcessManager;
  /** How many events there are. */
  readonly count: number;
  readonly recordedAt: number;
  readonly streams: ReadonlyMap<string, Stream>;
  /** By their keys, as text. */
  readonly states: ReadonlyMap<string, string>;
  /** Those that are set, in the order in which they ring. */
  readonly timers: readonly Alarm[];
  readonly came: Came;
}

/** What has come of the last step. */
export interface Came {
  readonly given: readonly GivenCommand[];
  /** What could not be handled, if something could not. */
  readonly failure: Failure | null;
}

export interface Failure {
  readonly what: string;
  readonly reason: string;
  readonly error: unknown;
  /** Whether the test has expected it. */
  readonly met: boolean;
}

interface Alarm {
  readonly key: string;
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly due: number;
}

interface Stream {
  readonly state: unknown;
  readonly revision: number;
}

/** Most timers that ring one after the other. */
const MOST_TIMERS = 1_000;

const NO_TIME = "What has happened has its times: `issuedAt` and `recordedAt` of an event, `due` of a timer.";

const NOTHING_CAME: Came = { given: [], failure: null };

export function beginManager(manager: ProcessManager): ManagerStory {
  const { name: type } = manager;
  return {
    ...BEGINNING,
    type,
    manager,
    count: 0,
    recordedAt: 0,
    streams: new Map(),
    states: new Map(),
    timers: [],
    came: NOTHING_CAME,
    lines: [NOTHING],
  };
}

/** The same after events of an aggregate. */
export function eventsHappened(
  story: ManagerStory,
  aggregate: AnyAggregate,
  id: string,
  events: readonly unknown[],
  word = "given",
): ManagerStory {
  const { type, forms } = aggregate;
  const lines = [...story.lines.filter((line) => line !== NOTHING), `${word.padEnd(5)} ${type} ${id}`, ...events.map(shown)];
  let after: ManagerStory = { ...story, lines, came: NOTHING_CAME };
  return guarded(after, () => {
    checkName("id", id);
    for (const event of events) {
      const value = toEvent(event);
      checkName("event type", value.type);
      if (forms?.versions?.has(value.type) === false) throw new Mistake(`${value.type} is not among the events of ${type}`);
      // What would come after something that failed would wait.
      const recorded = toRecorded(expectHandled(after), aggregate, id, value);
      after = rung(handled(recorded.story, recorded.event), story.now);
    }
    return after;
  });
}

/** The same at another time: timers ring on the way. */
export function timePassed(story: ManagerStory, now: number): ManagerStory {
  return guarded(story, () => {
    if (now < story.now) throw new Mistake(`the clock advances: it is ${isoOf(story.now)}, and can't be ${isoOf(now)} again`);
    return rung({ ...story, came: NOTHING_CAME }, now);
  });
}

/** Fails if nothing has expected that something could not be handled. */
export function expectHandled(story: ManagerStory): ManagerStory {
  const { failure } = story.came;
  if (failure === null || failure.met) return story;
  const line = `fails: ${failure.what}: ${failure.reason}`;
  const lines = [`nothing expects that it ${line}`, "", ...tell(story), `then  ${line}`];
  throw new AssertionError(lines.join("\n"), undefined, failure.error);
}

/** The event as the log would have it. */
function toRecorded(story: ManagerStory, { type, functions, forms }: AnyAggregate, id: string, value: Message) {
  const key = keyOfStream(type, id);
  const own = functions === null ? null : strict(functions);
  const before = story.streams.get(key) ?? { state: own?.initial(), revision: 0 };
  const revision = before.revision + 1;
  // Only tags make it necessary to know the state.
  const tags = own?.tags === undefined ? [] : tagsOf(own.tags(value, before.state));
  const state = own?.tags === undefined ? before.state : evolve(own, before.state, value);
  const count = story.count + 1;
  // The clock of a store is never set back.
  const recordedAt = Math.max(story.recordedAt, story.now);
  const [eventId, commandId] = [idOf(1, count), idOf(2, count)];
  const event = {
    ...value,
    position: `under-test:${count}` as Position,
    stream: { type, id },
    revision,
    eventId,
    schemaVersion: forms?.versions?.get(value.type) ?? 1,
    tags,
    recordedAt: isoOf(recordedAt),
    issuedAt: isoOf(story.now),
    commandId,
    correlationId: commandId,
    causationId: null,
    actor: story.actor,
    metadata: null,
  } as RecordedEvent;
  const streams = new Map(story.streams).set(key, { state, revision });
  return { story: { ...story, count, recordedAt, streams }, event };
}

const idOf = (kind: number, number: number) => `00000000-0000-8000-800${kind}-${number.toString(16).padStart(12, "0")}`;

function handled(story: ManagerStory, event: RecordedEvent): ManagerStory {
  const { manager } = story;
  const { functions, aggregateTypes } = manager;
  const { type, stream } = event;
  if (!Object.hasOwn(functions.on, type)) return story;
  if (aggregateTypes.length > 0 && !aggregateTypes.includes(stream.type)) return story;
  const find = ([event]: readonly unknown[]) => functions.key(event as RecordedEvent);
  const key = keyOf((event) => twice("key", ["event"], [event], find, NO_TIME), event);
  return key === null ? story : run(story, key, `on.${type}`, event, functions.on[type]! as Handler);
}

/** Rings what is due by then, one after the other. */
function rung(story: ManagerStory, now: number): ManagerStory {
  let after = story;
  for (let count = 0; ; count += 1) {
    const [next] = after.timers;
    // What failed is tried again later, or parked: the test is told first.
    if (next === undefined || next.due > now || after.came.failure !== null) break;
    if (count === MOST_TIMERS) throw new Mistake(`${MOST_TIMERS} timers have rung, and there are more: they set each other without end`);
    const { key, name, due } = next;
    const timer: DueTimer = { name, key, due: isoOf(due) };
    const handler = after.manager.functions.timers[name]! as Handler;
    const lines = [...after.lines, `rings ${name} of ${key}`];
    const ringing = { ...after, now: Math.max(after.now, due), lines, timers: after.timers.slice(1) };
    after = run(ringing, key, `timers.${name}`, timer, handler);
  }
  return { ...after, now: Math.max(after.now, now) };
}

type Handler = (state: unknown, cause: unknown, commands: Parameters<Parameters<typeof wanted>[2]>[0]) => unknown;

/** Calls a handler twice, and takes in what it gives and wants. */
function run(story: ManagerStory, key: string, what: string, cause: unknown, handler: Handler): ManagerStory {
  const { functions } = story.manager;
  const text = story.states.get(key);
  const state: unknown = text === undefined ? twice("initial", [], [], () => functions.initial(), NO_TIME) : JSON.parse(text);
  let found = wanted(functions, what, () => undefined);
  const call = ([state, cause]: readonly unknown[]) => {
    found = wanted(functions, what, (commands) => handler(state, cause, commands));
    const { next, ends, timers, given } = found;
    return { state: next, ends, timers: [...timers], commands: given.map(commandOf) };
  };
  try {
    twice(what, ["state", causeName(what)], [state, cause], call, NO_TIME);
  } catch (error) {
    if (!(error instanceof Thrown)) throw error;
    const failure = { what, reason: reasonOf(error.error), error: error.error, met: false };
    return { ...story, came: { ...story.came, failure } };
  }
  const { next = state, ends, timers, given } = found;
  const states = new Map(story.states);
  if (ends) states.delete(key);
  else states.set(key, checkState(what, next));
  let alarms = story.timers.filter((alarm) => alarm.key !== key || !timers.has(alarm.name));
  for (const [name, due] of timers) if (due !== null) alarms = [...alarms, { key, name, due }];
  alarms = [...alarms].sort((one, other) => one.due - other.due);
  const came = { ...story.came, given: [...story.came.given, ...given.map(commandOf)] };
  return { ...story, states: new Map([...states].sort(([a], [b]) => (a < b ? -1 : 1))), timers: alarms, came };
}

const causeName = (what: string) => (what.startsWith("on.") ? "event" : "timer");

export function commandOf({ aggregate, id, command: { type, data } }: Given): GivenCommand {
  return { aggregate: aggregate.type, id, type, data };
}

function checkState(what: string, state: unknown): string {
  const change = difference(state, JSON.parse(JSON.stringify(state) ?? "null") as unknown, "state");
  if (change === null) return stateText(state);
  const { place, left, right } = change;
  throw new Mistake(`${what} gave a state that JSON does not keep: ${place} is ${left}, and comes back as ${right}`);
}
