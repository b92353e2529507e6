import { AnnalsError } from "./errors.js";

/** The deepest nesting of a payload, as in the core. */
export const MAX_DEPTH = 120;
/** The longest payload in bytes, as in the core. */
export const MAX_BYTES = 1024 * 1024;

/** A value as it comes back from JSON, and its text. */
export interface Payload {
  /** A copy: nobody else has it. */
  readonly value: unknown;
  readonly text: string;
}

/**
 * Writes a value as JSON. What would not come back as it is (a function, a date, NaN, an integer
 * beyond 2^53, half a surrogate pair, a cycle) is refused with its place. Only `undefined` members
 * of objects are left out, as everywhere in JavaScript.
 */
export function toPayload(value: unknown, what: string): Payload {
  const copy = visit(value, what, 0, false);
  const text = JSON.stringify(copy);
  // So JSON writes half a surrogate pair; but a string may have just these characters.
  if (text.includes("\\ud")) visit(JSON.parse(text), what, 0, true);
  if (isTooLong(text)) throw invalid(`${what}: expected at most ${MAX_BYTES} bytes of JSON`);
  return { value: copy, text };
}

/** Whether a payload may not be as long. A code unit takes at most three bytes, so short texts need no count. */
export const isTooLong = (text: string): boolean => text.length * 3 > MAX_BYTES && utf8Length(text) > MAX_BYTES;

/** A copy of a value that is JSON, which nobody else has. */
export const copyOf = <T>(value: T): T => visit(value, "a copy", 0, false) as T;

export const encoder = new TextEncoder();

/** Length of a string in UTF-8. */
export const utf8Length = (text: string): number => encoder.encode(text).length;

/**
 * Checks that a state is what a payload may be, and freezes it: nobody can edit what the engine has
 * at hand. What is frozen already is taken to have been here before.
 */
export function toState<T>(value: T): T {
  return visit(value, "state", 0, true) as T;
}

/** The keys and indexes that lead to what is visited, for what is said of it. */
const path: (string | number)[] = [];

/** The value frozen, or a copy of it, whose strings are left to JSON to look at. */
function visit(value: unknown, what: string, depth: number, freeze: boolean): unknown {
  switch (typeof value) {
    case "string":
      if (freeze && !isWellFormed(value)) throw misfit(what, depth, "whole characters, found a lone surrogate");
      return value;
    case "number":
      if (!Number.isFinite(value)) throw misfit(what, depth, `a finite number, found ${value}`);
      if (Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21) {
        throw misfit(what, depth, `an integer within 2^53, found ${value}`);
      }
      // JSON has no negative zero.
      return value + 0;
    case "boolean":
      return value;
    case "object":
      if (value === null || (freeze && Object.isFrozen(value))) return value;
      return visitObject(value, what, depth, freeze);
    default:
      throw misfit(what, depth, `JSON, found ${typeof value}`);
  }
}

function visitObject(value: object, what: string, depth: number, freeze: boolean): unknown {
  if (depth >= MAX_DEPTH) throw misfit(what, depth, `at most ${MAX_DEPTH} levels of nesting`);
  if (Array.isArray(value)) {
    const items: unknown[] = [];
    for (let index = 0; index < value.length; index += 1) {
      path[depth] = index;
      items.push(visit(value[index], what, depth + 1, freeze));
    }
    return freeze ? Object.freeze(value) : items;
  }
  if (!isPlain(value)) throw misfit(what, depth, "a plain object");
  const members: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    if (freeze && !isWellFormed(key)) throw misfit(what, depth, "whole characters in a key");
    const member = (value as Record<string, unknown>)[key];
    if (member === undefined) continue;
    path[depth] = key;
    const visited = visit(member, what, depth + 1, freeze);
    if (freeze) continue;
    if (key === "__proto__") Object.defineProperty(members, key, { value: visited, enumerable: true });
    else members[key] = visited;
  }
  return freeze ? Object.freeze(value) : members;
}

/** The place at which a value is not what its JSON says, or `null`. */
export function differsFromJson(value: unknown, json: unknown, place: string): string | null {
  if (Object.is(value, json)) return null;
  if (!isTree(value) || !isTree(json) || Array.isArray(value) !== Array.isArray(json)) return place;
  for (const key of Object.keys({ ...value, ...json })) {
    const found = key in value && key in json ? differsFromJson(value[key], json[key], `${place}.${key}`) : `${place}.${key}`;
    if (found !== null) return found;
  }
  return null;
}

function isTree(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null && (Array.isArray(value) || isPlain(value));
}

function misfit(what: string, depth: number, expected: string): AnnalsError {
  const keys = path.slice(0, depth).map((key) => (typeof key === "number" ? `[${key}]` : `.${key}`));
  return invalid(`${what}${keys.join("")}: expected ${expected}`);
}

function isPlain(value: object): boolean {
  if ("toJSON" in value) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  // Objects of another realm are plain too.
  return Object.prototype.toString.call(value) === "[object Object]"
    && (prototype as { constructor?: { name?: string } }).constructor?.name === "Object";
}

const LONE_SURROGATE = /\p{Surrogate}/gu;

/** Not everywhere yet, and quicker where it is. */
const native = (String.prototype as { isWellFormed?: (this: string) => boolean }).isWellFormed;

export function isWellFormed(text: string): boolean {
  return native === undefined ? text.search(LONE_SURROGATE) < 0 : native.call(text);
}

/** What an error says, fit for a message. */
export function reasonOf(error: unknown): string {
  let reason = "something that can't be shown";
  try {
    reason = String((error as Error | undefined)?.message ?? error);
  } catch {
    // Not everything that can be thrown can be made a string.
  }
  return reason.replace(LONE_SURROGATE, "\ufffd");
}

function invalid(message: string): AnnalsError {
  return new AnnalsError("invalid-payload", message, {});
}

/** Freezes a value and all it holds. What is frozen already is taken to be frozen all through. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const key of Object.keys(value)) deepFreeze((value as Record<string, unknown>)[key]);
  }
  return value;
}
