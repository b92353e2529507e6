/** What happened, and why something can't, in words. */

import type { Change } from "annals/audit";
import type { Refusal } from "./appointment.js";
import type { Entries, Entry } from "./entries.js";
import type { LogEvent } from "./log.js";
import { nameOf } from "./people.js";
import { range, shortDay, timeOfDay } from "./time.js";

export const eventKinds = {
  AppointmentBooked: { word: "Booked", kind: "booked" },
  AppointmentRescheduled: { word: "Moved", kind: "moved" },
  AppointmentUpdated: { word: "Changed", kind: "updated" },
  AppointmentConfirmed: { word: "Confirmed", kind: "confirmed" },
  AppointmentCancelled: { word: "Cancelled", kind: "cancelled" },
} as const;

export const statusWords = { booked: "Booked", confirmed: "Confirmed", cancelled: "Cancelled" } as const;

/** What an event says beyond its kind; may be empty. */
export function particulars(event: LogEvent): string {
  switch (event.type) {
    case "AppointmentBooked":
    case "AppointmentRescheduled": {
      const { start, room } = event.data;
      return `${shortDay(start)}, ${range(event.data)}, ${nameOf(room)}`;
    }
    case "AppointmentUpdated": {
      const { title, comment, appointmentType } = event.data;
      return [
        title !== undefined && `title: “${title}”`,
        appointmentType !== undefined && `type: ${nameOf(appointmentType)}`,
        comment !== undefined && (comment === "" ? "comment removed" : `comment: “${comment}”`),
      ]
        .filter(Boolean)
        .join("; ");
    }
    case "AppointmentConfirmed":
      return "";
    case "AppointmentCancelled":
      return event.data.reason;
  }
}

/** A part of an appointment that has changed; a text is empty where there was nothing, or is nothing any more. */
export function changeWords(change: Change): { what: string; before: string; after: string } {
  const [what, words] = partWords[change.path[0] as keyof typeof partWords];
  const wordsOf = (value: unknown) => (typeof value === "string" && value !== "" ? words(value) : "");
  return {
    what,
    before: change.kind === "added" ? "" : wordsOf(change.before),
    after: change.kind === "removed" ? "" : wordsOf(change.after),
  };
}

const asItIs = (text: string) => text;
const when = (time: string) => `${shortDay(time)}, ${timeOfDay(time)}`;

const partWords = {
  status: ["Status", (status: string) => (status === "none" ? "" : statusWords[status as Entry["status"]])],
  title: ["Title", asItIs],
  start: ["From", when],
  end: ["To", when],
  patient: ["Patient", nameOf],
  doctor: ["Doctor", nameOf],
  room: ["Where", nameOf],
  appointmentType: ["Type", nameOf],
  comment: ["Comment", asItIs],
} as const;

/** An appointment in one line. */
export function summary({ booking }: Entry): string {
  return `${booking.title}, ${nameOf(booking.patient)}, ${nameOf(booking.doctor)}`;
}

export interface Problem {
  /** Where it belongs: the first of these that the form has. None: to the form as a whole. */
  readonly fields: readonly string[];
  readonly message: string;
}

export function explain(refusal: Refusal, entries: Entries): Problem {
  switch (refusal.code) {
    case "doctor-taken":
    case "room-taken": {
      const { by, start } = refusal.details;
      const other = entries.get(by);
      const day = shortDay(start);
      const what = other ? `: ${other.booking.title} (${nameOf(other.booking.patient)})` : "";
      const doctor = refusal.code === "doctor-taken";
      return {
        fields: doctor ? ["doctor", "start"] : ["room", "start"],
        message: `${doctor ? "The doctor" : "The room"} is taken ${day}, ${range(refusal.details)}${what}.`,
      };
    }
    case "slot-in-past": {
      const now = refusal.details.issuedAt;
      return { fields: ["start"], message: `That has passed: it is ${timeOfDay(now)} on ${shortDay(now)}.` };
    }
    case "invalid-time":
      return { fields: [refusal.details.field], message: "Choose a day and a time." };
    case "invalid-name":
      return { fields: [refusal.details.field], message: "Choose one of the list." };
    case "end-not-after-start":
      return { fields: ["end"], message: "The end must be after the start." };
    case "too-long":
      return { fields: ["end"], message: `An appointment takes ${refusal.details.maxMinutes / 60} hours at most.` };
    case "title-missing":
      return { fields: ["title"], message: "Say in a few words what it is about." };
    case "not-booked":
      return { fields: [], message: "There is no such appointment." };
    case "already-booked":
      return { fields: [], message: "This appointment is booked already." };
    case "already-confirmed":
      return { fields: [], message: "This appointment is confirmed already." };
    case "already-cancelled":
      return { fields: [], message: "This appointment was cancelled, and that is final." };
  }
}
