import type { Message } from "./domain.js";

type Fields<T> = { -readonly [Key in keyof T]: T[Key] };

/**
 * A constructor of plain objects, for those that every command or read makes anew. V8 watches what becomes of the
 * objects of a literal. Were they still in use at a collection, as when many commands are in flight, it makes
 * all later ones among the old objects, where each keeps what it refers to until the next full collection. Of what
 * constructors make it thinks nothing.
 */
export function plain<T, Given extends readonly unknown[]>(
  set: (this: Fields<T>, ...given: Given) => void,
): new (...given: Given) => T {
  set.prototype = Object.prototype;
  return set as unknown as new (...given: Given) => T;
}

/** A command or an event. */
export const MessageOf = /* @__PURE__ */ plain<Message, [type: string, data: unknown]>(function (type, data) {
  this.type = type;
  this.data = data;
});
