/** Forms and payloads of events that are only folded: how they are written, and how they are read. */
import type { Messages, StoredEvent } from "./storage.js";

/** An event's type and schema version as one text, as in {@link Messages}. */
export function formOf(type: string, version: number): string {
  return version === 1 ? type : `${type}\x7f${version}`;
}

export function partsOf(form: string): { readonly type: string; readonly version: number } {
  const [type, version = "1"] = form.split("\x7f");
  return { type: type!, version: Number(version) };
}

export function messagesOf(events: readonly StoredEvent[]): Messages {
  return {
    forms: events.map(({ type, schemaVersion }) => formOf(type, schemaVersion)),
    data: `[${events.map(({ data }) => data).join(",\n")}]`,
  };
}

/** If one is broken, those before it. */
export function payloadsOf({ forms, data }: Messages): unknown[] {
  try {
    const all = JSON.parse(data) as unknown[];
    if (all.length === forms.length) return all;
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
  return found.length < forms.length ? found : [];
}
