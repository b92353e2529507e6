// Expectations for rules that run in Node and in pages.

/** Equal values, whatever the order of keys and the prototypes of objects. */
export function same(actual, expected, what = "value") {
  const [found, wanted] = [textOf(actual), textOf(expected)];
  if (found !== wanted) throw new Error(`${what}: expected ${wanted}, found ${found}`);
}

/** The error that the action throws, at once or later, which has these properties. */
export async function fails(action, expected) {
  let error;
  try {
    await action();
  } catch (thrown) {
    error = thrown;
  }
  if (error === undefined)
    throw new Error(`expected a failure with ${textOf(expected)}, found none`);
  for (const [name, value] of Object.entries(expected)) {
    same(error[name], value, `${name} of ${error}`);
  }
  return error;
}

const inV8 = typeof Bun === "undefined";

/** What this engine of JavaScript says when what is frozen is changed: a property is set or added, a list is pushed to. */
export const frozen = {
  set: inV8 ? /read only/ : /readonly property/,
  added: /not extensible/,
  pushed: inV8 ? /not extensible/ : /readonly property/,
};

/** Waits until it is so. The condition may be asked of something that answers later. */
export async function until(condition, what = condition, timeout = 20_000) {
  for (const deadline = Date.now() + timeout; !(await condition());) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function textOf(value) {
  return JSON.stringify(value, (key, part) => {
    if (part === undefined) return "(undefined)";
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
