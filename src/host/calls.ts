/** What domain functions return, checked: the same for the engine and for tests of a domain. */
import { type DecideContext, type ErasedFunctions, type Message, type Refusal, toQuery } from "./domain.js";
import { deepFreeze, toPayload } from "./payload.js";
import type { Query } from "./storage.js";
import { checkNames } from "./wire.js";

/** What `decide` gives. An event that it can't fold fails it, whatever it makes of that. */
export function decide(
  functions: ErasedFunctions,
  state: unknown,
  command: Message,
  known: Omit<DecideContext, "fold">,
): unknown {
  const failures: unknown[] = [];
  const fold: DecideContext["fold"] = (projection) => {
    try {
      return projection.fold(known.others);
    } catch (error) {
      failures.push(error);
      throw error;
    }
  };
  const decision: unknown = functions.decide(state, command, { ...known, fold });
  if (failures.length > 0) throw failures[0];
  return decision;
}

/** `event` is of one of the types that the aggregate's forms name. */
export function evolve(functions: ErasedFunctions, state: unknown, event: Message): unknown {
  const evolved =
    typeof functions.evolve === "function"
      ? functions.evolve(state, event)
      : functions.evolve[event.type]!(state, event);
  const after = atOnce("evolve", evolved);
  if (after === undefined) throw new Error("evolve returned undefined");
  return after;
}

/** Domain functions are synchronous: an append can't wait for them. */
export function atOnce<T>(name: string, result: T): T {
  if (!(result instanceof Promise)) return result;
  // What it may yet throw is of no interest, and must not end the process.
  result.catch(() => undefined);
  throw new Error(`${name} returned a promise, and must return at once`);
}

export function readsOf(reads: unknown): Query {
  if (!Array.isArray(atOnce("reads", reads))) throw new Error("reads must return an array of tags, or a query");
  const query = toQuery(reads as string[]);
  for (const { types, tags } of query) checkNames([...types, ...tags]);
  return query;
}

export function tagsOf(result: unknown): readonly string[] {
  const tags = atOnce("tags", result);
  if (!Array.isArray(tags) || tags.some((tag) => typeof tag !== "string")) {
    throw new Error("tags must return an array of strings");
  }
  return tags as string[];
}

export function toMessage(value: unknown, where: string): Message {
  if (typeof value !== "object" || value === null || typeof (value as Message).type !== "string") {
    throw new Error(`${where} must return events: objects with type and data`);
  }
  return value as Message;
}

export function toRefusal(decision: unknown): Refusal {
  const code = (atOnce("decide", decision) as Refusal | null | undefined)?.code;
  if (typeof code !== "string") {
    throw new Error("decide must return an array of events, or a refusal");
  }
  const details = (decision as Refusal).details ?? null;
  return deepFreeze({ code, details: toPayload(details, `refusal ${code}`).value });
}
