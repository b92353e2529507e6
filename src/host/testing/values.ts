/** Values compared, copied and shown: what a domain's functions take and give. */

/** Where two values differ first, and how each reads there. */
export interface Difference {
  readonly place: string;
  readonly left: string;
  readonly right: string;
}

/** No payload is nested deeper; what is, is refused as a payload. */
const MAX_DEPTH = 200;

/** The first difference that a reader of the values could see, in the order of the left one's keys. */
export function difference(left: unknown, right: unknown, place: string, depth = 0): Difference | null {
  if (Object.is(left, right) || depth > MAX_DEPTH) return null;
  const differs = () => ({ place, left: brief(left), right: brief(right) });
  if (typeof left === "function" && typeof right === "function") return null;
  if (!isObject(left) || !isObject(right) || kindOf(left) !== kindOf(right)) return differs();
  if (isDate(left)) return Object.is(left.getTime(), (right as Date).getTime()) ? null : differs();
  for (const key of new Set([...Reflect.ownKeys(left), ...Reflect.ownKeys(right)])) {
    // Lists of other lengths differ in an item too, which says more.
    if (Array.isArray(left) && key === "length") continue;
    const at = Array.isArray(left) ? `${place}[${String(key)}]` : `${place}.${String(key)}`;
    const [inLeft, inRight] = [Object.hasOwn(left, key), Object.hasOwn(right, key)];
    if (inLeft !== inRight) {
      return {
        place: at,
        left: inLeft ? brief(Reflect.get(left, key)) : "nothing",
        right: inRight ? brief(Reflect.get(right, key)) : "nothing",
      };
    }
    const found = difference(Reflect.get(left, key), Reflect.get(right, key), at, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

/** A copy of plain objects, lists and dates, all through. */
export function copyOf<T>(value: T): T {
  if (!isObject(value)) return value;
  if (Array.isArray(value)) return value.map(copyOf) as T;
  if (isDate(value)) return new Date(value.getTime()) as T;
  // Entries are defined, not set: one may be called `__proto__`.
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, copyOf(member)])) as T;
}

/** JSON in one line, short enough to be read. */
export function brief(value: unknown): string {
  let text: string | undefined;
  try {
    text = Object.is(value, -0) ? "-0" : JSON.stringify(value);
  } catch {
    // A cycle, or something that can't be written: its name says enough.
  }
  text ??= typeof value === "function" ? "a function" : String(value);
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}

/** JSON over several lines, with sorted keys, so that equal values are equal lines. */
export function pretty(value: unknown): string {
  const sorted = (_: string, part: unknown) =>
    isObject(part) && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part;
  return JSON.stringify(value, sorted, 2);
}

/** The lines of both texts in order: those of `expected` alone with `-`, those of `found` alone with `+`. */
export function lineDiff(expected: string, found: string): string[] {
  const [left, right] = [expected.split("\n"), found.split("\n")];
  // How many lines both have in common from here on.
  const common = Array.from({ length: left.length + 1 }, () => new Array<number>(right.length + 1).fill(0));
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      common[i]![j] =
        left[i] === right[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!);
    }
  }
  const lines: string[] = [];
  let [i, j] = [0, 0];
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) {
      lines.push(`  ${left[i]}`);
      [i, j] = [i + 1, j + 1];
    } else if (j === right.length || (i < left.length && common[i + 1]![j]! >= common[i]![j + 1]!)) {
      lines.push(`- ${left[i]}`);
      i += 1;
    } else {
      lines.push(`+ ${right[j]}`);
      j += 1;
    }
  }
  return lines;
}

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

const kindOf = (value: object) => (Array.isArray(value) ? "array" : Object.prototype.toString.call(value));

/** By its kind: tests may have put another clock in place of `Date`. */
const isDate = (value: object): value is Date => Object.prototype.toString.call(value) === "[object Date]";
