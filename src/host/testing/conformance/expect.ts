/** Expectations of rules, which run in Node and in pages, under whatever runs tests. */

/** Equal values, whatever the order of keys and the prototypes of objects. */
export function same(actual: unknown, expected: unknown, what = "value"): void {
  const [found, wanted] = [textOf(actual), textOf(expected)];
  if (found === wanted) return;
  throw new Error(`${shortened(what)}: ${differenceOf(found, wanted)}`);
}

/** Fails unless it is so. */
export function ensure(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
}

/** The error that the action throws, at once or later, which has these properties. */
export async function fails(
  action: () => unknown,
  expected: { readonly [property: string]: unknown },
): Promise<Record<string, unknown>> {
  let error: unknown;
  try {
    await action();
  } catch (thrown) {
    error = thrown;
  }
  if (error === undefined) throw new Error(`expected a failure with ${textOf(expected)}, found none`);
  const found = error as Record<string, unknown>;
  for (const [name, value] of Object.entries(expected)) same(found[name], value, `${name} of ${String(error)}`);
  return found;
}

const LONGEST = 300;

const shortened = (text: string) => (text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text);

/** Payloads may be long: what is around the first difference is shown. */
function differenceOf(found: string, wanted: string): string {
  if (Math.max(found.length, wanted.length) <= 2 * LONGEST) return `expected ${wanted}, found ${found}`;
  let at = 0;
  while (found[at] === wanted[at]) at += 1;
  const start = Math.max(0, at - LONGEST / 2);
  const around = (text: string) => `${start > 0 ? "… " : ""}${shortened(text.slice(start))}`;
  return `from character ${at} on expected ${around(wanted)}, found ${around(found)}`;
}

function textOf(value: unknown): string {
  const text = JSON.stringify(value, (_, part: unknown) => {
    if (part === undefined) return "(undefined)";
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  return text;
}
