import { AnnalsError } from "./errors.js";
import { isWellFormed, reasonOf, utf8Length } from "./payload.js";

/** As in the core. */
const MAX_NAME_BYTES = 1024;

/** Throws `invalid-name` if the core would not take it as a name. */
export function checkName(what: string, name: unknown): asserts name is string {
  const problem = nameProblem(what, name);
  if (problem !== null) throw new AnnalsError("invalid-name", problem, {});
}

/** Why the core would not take it as a name, or `null`. */
export function nameProblem(what: string, name: unknown): string | null {
  if (typeof name !== "string") return `expected a string as ${what}, found ${name === null ? "null" : typeof name}`;
  if (name === "") return `expected a non-empty ${what}`;
  if (!isWellFormed(name)) return `expected a ${what} of whole characters, found a lone surrogate`;
  const bytes = utf8Length(name);
  if (bytes > MAX_NAME_BYTES) return `expected a ${what} of at most ${MAX_NAME_BYTES} bytes, found ${bytes}`;
  return /\p{Cc}/u.test(name) ? `expected a ${what} without control characters, found ${JSON.stringify(reasonOf(name))}` : null;
}
