/** Types and payloads of events that are only folded: how they are written, and how they are read. */
import type { Messages, StoredEvent } from "./storage.js";

export function messagesOf(events: readonly StoredEvent[]): Messages {
  return {
    types: events.map(({ type }) => type),
    data: `[${events.map(({ data }) => data).join(",\n")}]`,
  };
}

/** If one is broken, those before it. */
export function payloadsOf({ types, data }: Messages): unknown[] {
  try {
    const all = JSON.parse(data) as unknown[];
    if (all.length === types.length) return all;
  } catch {
    // Found below.
  }
  const found: unknown[] = [];
  let next = "";
  for (const piece of data.slice(1, -1).split(",\n")) {
    next += next === "" ? piece : `,\n${piece}`;
    try {
      found.push(JSON.parse(next));
      next = "";
    } catch {
      // It has this separator too, or is broken.
    }
  }
  // Where there are too many, one that is broken looks like several.
  return found.length < types.length ? found : [];
}
