import type { Aggregate, Message, Refusal } from "../domain.js";
import type { At, Engine, RecordedEvent, StateAt } from "../engine.js";
import { invalidArgument } from "../errors.js";
import type { AbortSignal } from "../platform.js";

/** Between which points. */
export interface DiffOptions {
  /** Where it starts. */
  readonly from: At;
  /** Where it ends, which must not be before. Default: now. */
  readonly to?: At;
  readonly signal?: AbortSignal;
}

/** What has become of an aggregate between two points. */
export interface Diff<State, Event extends Message = Message> {
  readonly from: StateAt<State>;
  readonly to: StateAt<State>;
  /** What is different between these two states: the smallest parts that differ. */
  readonly changes: readonly Change[];
  /** The events that led from one to the other. */
  readonly events: readonly RecordedEvent<Event>[];
}

/** A place in a state that has another value than before. */
export type Change =
  | { readonly kind: "added"; readonly path: Path; readonly after: unknown }
  | { readonly kind: "removed"; readonly path: Path; readonly before: unknown }
  | { readonly kind: "changed"; readonly path: Path; readonly before: unknown; readonly after: unknown };

/** The keys and indexes that lead to a place. Empty: the state as a whole. */
type Path = readonly (string | number)[];

/** An array of which more items differ is one change. */
const MOST_ITEMS = 100;

/**
 * Which parts of an aggregate's state have changed between two points, and by which events. Both
 * points are read at once.
 *
 * Objects are compared member by member, arrays item by item with the same index, so that an item
 * that is put before others changes all of these. An array of which more than 100 items differ is
 * one change.
 *
 * ```ts
 * const { changes, events } = await diff(engine, appointment, "a-1", { from: { time: "2026-11-17T14:05:00Z" } });
 * for (const { path, kind } of changes) console.log(path.join("."), kind); // title changed
 * for (const { type, actor } of events) console.log(type, "by", actor); // AppointmentUpdated by reception
 * ```
 */
export async function diff<State, Command extends Message, Event extends Message, Refused extends Refusal>(
  engine: Engine,
  aggregate: Aggregate<State, Command, Event, Refused>,
  id: string,
  options: DiffOptions,
): Promise<Diff<State, Event>> {
  const { from: start, to: end, ...rest } = options;
  if (start === undefined) throw invalidArgument("expected a point from which on");
  // Given together they share requests, so that both are of one moment.
  const [from, { events, state, revision }] = await Promise.all([
    engine.state(aggregate, id, { ...rest, at: start }),
    engine.history(aggregate, id, end === undefined ? rest : { ...rest, at: end }),
  ]);
  if (from.revision > revision) {
    throw invalidArgument(`expected two points in order, found revision ${from.revision} and then ${revision}`);
  }
  // Upcasters may have made several of one, or none.
  const later = events.filter((event) => event.revision > from.revision);
  return { from, to: { state, revision }, changes: changesOf(from.state, state, []), events: later };
}

/** States are what JSON can say, but for members that are `undefined`, which are not there. */
function changesOf(before: unknown, after: unknown, path: Path): Change[] {
  if (before === after) return [];
  if (before === undefined) return [{ kind: "added", path, after }];
  if (after === undefined) return [{ kind: "removed", path, before }];
  const whole: Change[] = [{ kind: "changed", path, before, after }];
  if (Array.isArray(before) && Array.isArray(after)) {
    const length = Math.max(before.length, after.length);
    const items = Array.from({ length }, (_, index) => changesOf(before[index], after[index], [...path, index]));
    return items.filter((changes) => changes.length > 0).length > MOST_ITEMS ? whole : items.flat();
  }
  if (!isObject(before) || !isObject(after)) return whole;
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return keys.flatMap((key) => changesOf(memberOf(before, key), memberOf(after, key), [...path, key]));
}

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Not what it inherits: a key may be called `constructor`. */
function memberOf(value: object, key: string): unknown {
  return Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
}
