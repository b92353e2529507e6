import type { Query, QueryItem } from "./storage.js";

/** Whether an event of this type with these tags matches the item. */
export function matches(item: QueryItem, type: string, tags: readonly string[]): boolean {
  return (
    (item.types.length === 0 || item.types.includes(type)) &&
    item.tags.every((tag) => tags.includes(tag))
  );
}

/** -1: the order of positions is turned round, so that `Seek`s are of their negatives. */
export type Direction = 1 | -1;

/** An ordered set of positions: gives the lowest from `from` on, `Infinity` if there is none. */
export type Seek = (from: number) => number;

/** The positions a store can seek in without reading its log. */
export interface Postings {
  readonly all: Seek;
  tag(tag: string): Seek;
  type(type: string): Seek;
}

/** The positions of the events that match the query. */
export function seekQuery(query: Query, postings: Postings): Seek {
  return union(
    query.map(({ types, tags }) => {
      const parts = tags.map((tag) => postings.tag(tag));
      if (types.length > 0) parts.push(union(types.map((type) => postings.type(type))));
      return parts.length > 0 ? intersection(parts) : postings.all;
    }),
  );
}

export function union(seeks: readonly Seek[]): Seek {
  if (seeks.length === 1) return seeks[0]!;
  const parts = seeks.map(remembering);
  return (from) => parts.reduce((lowest, seek) => Math.min(lowest, seek(from)), Infinity);
}

/** Each part in turn jumps to where the last one has come, until all agree. */
export function intersection(seeks: readonly Seek[]): Seek {
  if (seeks.length === 1) return seeks[0]!;
  return (from) => {
    let position = from;
    for (let agreed = 0, part = 0; agreed < seeks.length && position !== Infinity;) {
      const next = seeks[part]!(position);
      agreed = next === position ? agreed + 1 : 1;
      position = next;
      part = (part + 1) % seeks.length;
    }
    return position;
  };
}

/** The first positions after `after`, at most `limit`. */
export function take(seek: Seek, after: number, limit = Infinity): number[] {
  const positions: number[] = [];
  for (let next = seek(after + 1); next !== Infinity; next = seek(next + 1)) {
    positions.push(next);
    if (positions.length === limit) break;
  }
  return positions;
}

/** How many of the first `count` things `holds` is true of, if it is true of none after them. */
export function countWhile(count: number, holds: (index: number) => boolean): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A union asks all its parts at every step; most of them still stand where they stood. */
function remembering(seek: Seek): Seek {
  let low = Infinity;
  let high = -Infinity;
  return (from) => {
    if (from < low || from > high) {
      low = from;
      high = seek(from);
    }
    return high;
  };
}
