/** The log as the page has followed it so far. */

import type { RecordedEvent } from "annals/slim";
import type { Event } from "./appointment.js";

export type LogEvent = RecordedEvent<Event>;

export class Log {
  readonly events: LogEvent[] = [];

  push(event: LogEvent): void {
    this.events.push(event);
  }

  /** The events of one appointment among the first `count`. */
  of(id: string, count = this.events.length): LogEvent[] {
    return this.events.filter((event, index) => index < count && event.stream.id === id);
  }

  /** When an appointment was to start after the first `count` events. */
  startOf(id: string, count: number): string | undefined {
    for (const { type, data } of this.of(id, count).reverse()) {
      if (type === "AppointmentBooked" || type === "AppointmentRescheduled") return data.start;
    }
    return undefined;
  }
}
