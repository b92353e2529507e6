/**
 * The log as the page has followed it so far, and what it adds up to after any number of events.
 * Replay and time travel are this fold, nothing else: the store is not asked again.
 */

import type { RecordedEvent } from "annals/slim";
import type { Booking, Event } from "./appointment.js";

export type LogEvent = RecordedEvent<Event>;

/** An appointment as it stood at some time. */
export interface Entry {
  readonly id: string;
  readonly status: "booked" | "confirmed" | "cancelled";
  readonly booking: Booking;
  /** The number of its events up to then. */
  readonly revision: number;
}

/** All appointments as they stood at some time, by id. */
export type Entries = ReadonlyMap<string, Entry>;

const checkpointEvery = 500;

export class Log {
  readonly events: LogEvent[] = [];
  /** The entries after every so many events, to fold on from. */
  readonly #checkpoints: Entries[] = [new Map()];
  #last: { count: number; entries: Entries } = { count: 0, entries: new Map() };

  push(event: LogEvent): void {
    this.events.push(event);
  }

  /** What the first `count` events add up to. */
  at(count: number): Entries {
    if (count === this.#last.count) return this.#last.entries;
    const checkpoint = Math.min(Math.floor(count / checkpointEvery), this.#checkpoints.length - 1);
    let from = checkpoint * checkpointEvery;
    let base = this.#checkpoints[checkpoint]!;
    if (this.#last.count > from && this.#last.count <= count) ({ count: from, entries: base } = this.#last);

    const entries = new Map(base);
    for (let index = from; index < count; index += 1) {
      const event = this.events[index]!;
      const entry = evolve(entries.get(event.stream.id), event);
      if (entry) entries.set(event.stream.id, entry);
      const done = index + 1;
      if (done % checkpointEvery === 0) this.#checkpoints[done / checkpointEvery] ??= new Map(entries);
    }
    this.#last = { count, entries };
    return entries;
  }

  /** The events of one appointment among the first `count`. */
  of(id: string, count = this.events.length): LogEvent[] {
    return this.events.filter((event, index) => index < count && event.stream.id === id);
  }
}

function evolve(entry: Entry | undefined, event: LogEvent): Entry | undefined {
  const { revision } = event;
  if (event.type === "AppointmentBooked") {
    return { id: event.stream.id, status: "booked", booking: event.data, revision };
  }
  if (!entry) return undefined;
  switch (event.type) {
    case "AppointmentRescheduled":
    case "AppointmentUpdated":
      return {
        ...entry,
        revision,
        status: event.type === "AppointmentRescheduled" ? "booked" : entry.status,
        booking: { ...entry.booking, ...event.data },
      };
    case "AppointmentConfirmed":
      return { ...entry, revision, status: "confirmed" };
    case "AppointmentCancelled":
      return { ...entry, revision, status: "cancelled" };
  }
}
