import { AnnalsError } from "./errors.js";

/** The deepest nesting of a payload, as in the core. */
const MAX_DEPTH = 120;
/** The longest payload in bytes, as in the core. */
const MAX_BYTES = 1024 * 1024;

/** A value that equals its JSON round trip, and its text. */
export interface Payload {
  readonly value: unknown;
  readonly text: string;
}

/**
 * Writes a value as JSON. What would not come back as it is (a function, a date, NaN, an integer
 * beyond 2^53, half a surrogate pair, a cycle) is refused with its place. Only `undefined` members
 * of objects are left out, as everywhere in JavaScript; `value` is then without them.
 */
export function toPayload(value: unknown, what: string): Payload {
  const same = check(value, what, 0, false);
  const text = JSON.stringify(value);
  // A code unit takes at most three bytes, so short texts need no count.
  if (text.length * 3 > MAX_BYTES && utf8Length(text) > MAX_BYTES) {
    throw invalid(`${what}: expected at most ${MAX_BYTES} bytes of JSON`);
  }
  return { value: same ? value : JSON.parse(text), text };
}

/** Length of a string in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    // A pair takes four bytes, two for each of its halves.
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return bytes;
}

/**
 * Checks that a state is what a payload may be, and freezes it: nobody can edit what the engine has
 * at hand. What is frozen already is taken to have been here before.
 */
export function toState<T>(value: T): T {
  check(value, "state", 0, true);
  return value;
}

/** Whether the value equals its JSON round trip as it is. */
function check(value: unknown, place: string, depth: number, freeze: boolean): boolean {
  switch (typeof value) {
    case "string":
      if (!isWellFormed(value)) throw invalid(`${place}: expected whole characters, found a lone surrogate`);
      return true;
    case "number":
      if (!Number.isFinite(value)) throw invalid(`${place}: expected a finite number, found ${value}`);
      if (Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21) {
        throw invalid(`${place}: expected an integer within 2^53, found ${value}`);
      }
      return !Object.is(value, -0);
    case "boolean":
      return true;
    case "object":
      if (value === null || (freeze && Object.isFrozen(value))) return true;
      return checkObject(value, place, depth, freeze);
    default:
      throw invalid(`${place}: expected JSON, found ${typeof value}`);
  }
}

function checkObject(value: object, place: string, depth: number, freeze: boolean): boolean {
  if (depth >= MAX_DEPTH) throw invalid(`${place}: expected at most ${MAX_DEPTH} levels of nesting`);
  let same = true;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) {
      if (!check(value[index], `${place}[${index}]`, depth + 1, freeze)) same = false;
    }
    if (freeze) Object.freeze(value);
    return same;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if ((prototype !== Object.prototype && prototype !== null) || "toJSON" in value) {
    // Objects of another realm are plain too.
    const isPlain = Object.prototype.toString.call(value) === "[object Object]" && !("toJSON" in value)
      && (prototype as { constructor?: { name?: string } } | null)?.constructor?.name === "Object";
    if (!isPlain) throw invalid(`${place}: expected a plain object`);
  }
  for (const key of Object.keys(value)) {
    const member = (value as Record<string, unknown>)[key];
    if (member === undefined) same = false;
    else if (!check(member, `${place}.${key}`, depth + 1, freeze)) same = false;
    if (!isWellFormed(key)) throw invalid(`${place}: expected whole characters in a key`);
  }
  if (freeze) Object.freeze(value);
  return same;
}

const LONE_SURROGATE = /\p{Surrogate}/gu;

export function isWellFormed(text: string): boolean {
  return text.search(LONE_SURROGATE) < 0;
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
