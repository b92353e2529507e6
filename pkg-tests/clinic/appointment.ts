/**
 * The clinic's appointments in TypeScript: the same domain as the Rust crate in www/clinic, told
 * the same way. A test plays one script through both and compares what comes out.
 *
 * Each appointment is an aggregate with a stream of its own. That no doctor and no room has two
 * appointments at a time is a rule across streams: every event that takes or frees a slot carries a
 * tag for its doctor and one for its room, for each day it touches, and a decision reads the events
 * with the tags of the slot it wants.
 *
 * Times are texts such as 2026-11-23T09:30:00.000Z: UTC, with milliseconds, nothing else, so that
 * they compare as text. A text that was not given is "". A key is absent only where that means
 * "unchanged".
 */
import { type DecideContext, type EvolveByType, type Refusal, aggregate, refuse } from "annals";
import { projection } from "annals/projections";

/** A doctor and a room, from `start` up to, not including, `end`. */
export interface Slot {
  readonly doctor: string;
  readonly room: string;
  readonly start: string;
  readonly end: string;
}

/** What is known of an appointment. */
export interface Booking extends Slot {
  readonly patient: string;
  /** What kind of appointment, such as `check-up`. */
  readonly appointmentType: string;
  readonly title: string;
  readonly comment: string;
}

/** What an appointment has come to. A cancelled one is as it stood when it was cancelled. */
export type State =
  | { readonly status: "none" }
  | ({ readonly status: "booked" | "confirmed" | "cancelled" } & Booking);

type Nothing = Record<string, never>;
type Details = Pick<Booking, "title" | "comment" | "appointmentType">;

export type Command =
  | { type: "BookAppointment"; data: Omit<Booking, "comment"> & { readonly comment?: string } }
  | {
      type: "RescheduleAppointment";
      data: { readonly start: string; readonly end: string; readonly room?: string };
    }
  | { type: "UpdateAppointment"; data: Partial<Details> }
  | { type: "ConfirmAppointment"; data: Nothing }
  | { type: "CancelAppointment"; data: { readonly reason?: string } };

export type Event =
  | { type: "AppointmentBooked"; data: Booking }
  /** The whole slot, doctor included, for those who read no other event of this appointment. */
  | { type: "AppointmentRescheduled"; data: Slot }
  | { type: "AppointmentUpdated"; data: Partial<Details> }
  | { type: "AppointmentConfirmed"; data: Nothing }
  | { type: "AppointmentCancelled"; data: { readonly reason: string } };

type Taken = { readonly by: string; readonly start: string; readonly end: string };

export type Refused =
  | Refusal<"not-booked" | "already-booked" | "already-confirmed" | "already-cancelled", Nothing>
  | Refusal<"invalid-name", { readonly field: "doctor" | "patient" | "room" | "appointmentType" }>
  | Refusal<"title-missing" | "end-not-after-start", Nothing>
  | Refusal<"invalid-time", { readonly field: "start" | "end"; readonly value: string }>
  | Refusal<"too-long", { readonly maxMinutes: number }>
  | Refusal<"slot-in-past", { readonly issuedAt: string }>
  | Refusal<"doctor-taken" | "room-taken", Taken>;

/** What an appointment comes to. No decision changes one that is not live. */
export const evolve: EvolveByType<State, Event> = {
  AppointmentBooked: (_, { data }) => ({ status: "booked", ...data }),
  // The patient has to confirm the new time.
  AppointmentRescheduled: (state, { data }) => (isLive(state) ? { ...state, ...data, status: "booked" } : state),
  AppointmentUpdated: (state, { data }) => (isLive(state) ? { ...state, ...data } : state),
  AppointmentConfirmed: (state) => (isLive(state) ? { ...state, status: "confirmed" } : state),
  AppointmentCancelled: (state) => (isLive(state) ? { ...state, status: "cancelled" } : state),
};

/** The longest appointment. It keeps a slot within two days, so its tags are few. */
const maxMinutes = 12 * 60;

export const appointment = aggregate<State, Command, Event, Refused>("Appointment", {
  initial: () => ({ status: "none" }),

  /** The events of the doctor and the room on the days of the slot the command asks for. */
  reads: (command, state) => {
    const slot = wantedSlot(command, state);
    return slot !== undefined && slotProblem(slot) === undefined ? slotTags(slot) : [];
  },

  decide: (state, command, context) => {
    if (command.type === "BookAppointment") {
      if (state.status === "cancelled") return refuse("already-cancelled", {});
      if (state.status !== "none") return refuse("already-booked", {});
      const { doctor, patient, room, appointmentType, start, end, title, comment } = command.data;
      const slot = { doctor, room, start, end };
      const problem =
        slotProblem(slot) ??
        nameProblem("patient", patient) ??
        nameProblem("appointmentType", appointmentType) ??
        titleProblem(title) ??
        conflict(slot, context);
      if (problem) return problem;
      const booking = { doctor, patient, room, appointmentType, start, end, title, comment: comment ?? "" };
      return [{ type: "AppointmentBooked", data: booking }];
    }
    if (state.status === "none") return refuse("not-booked", {});
    if (state.status === "cancelled") return refuse("already-cancelled", {});
    switch (command.type) {
      case "RescheduleAppointment": {
        const slot = movedSlot(state, command.data);
        const problem = slotProblem(slot);
        if (problem) return problem;
        if (slot.start === state.start && slot.end === state.end && slot.room === state.room) return [];
        const taken = conflict(slot, context);
        return taken ?? [{ type: "AppointmentRescheduled", data: slot }];
      }
      case "UpdateAppointment": {
        const { title, comment, appointmentType } = command.data;
        const problem =
          (title !== undefined ? titleProblem(title) : undefined) ??
          (appointmentType !== undefined ? nameProblem("appointmentType", appointmentType) : undefined);
        if (problem) return problem;
        const changes = {
          ...(title !== undefined && title !== state.title && { title }),
          ...(comment !== undefined && comment !== state.comment && { comment }),
          ...(appointmentType !== undefined &&
            appointmentType !== state.appointmentType && { appointmentType }),
        };
        return Object.keys(changes).length > 0 ? [{ type: "AppointmentUpdated", data: changes }] : [];
      }
      case "ConfirmAppointment":
        if (state.status === "confirmed") return refuse("already-confirmed", {});
        return [{ type: "AppointmentConfirmed", data: {} }];
      case "CancelAppointment":
        return [{ type: "AppointmentCancelled", data: { reason: command.data.reason ?? "" } }];
    }
  },

  evolve,

  /** A cancellation had its reason only if one was given, and a confirmation was called otherwise. */
  events: {
    AppointmentBooked: [],
    AppointmentRescheduled: [],
    AppointmentUpdated: [],
    AppointmentConfirmed: [],
    AppointmentCancelled: [({ reason = "" }: { readonly reason?: string }) => ({ reason })],
  },
  retired: {
    AppointmentAcknowledged: [{ becomes: () => [{ type: "AppointmentConfirmed", data: {} }] }],
  },

  /** What takes or frees a slot has the slot's tags; a move has those of both. */
  tags: (event, before) => {
    const freed = () => (isLive(before) ? slotTags(before) : []);
    switch (event.type) {
      case "AppointmentBooked":
        return slotTags(event.data);
      case "AppointmentRescheduled":
        return [...new Set([...slotTags(event.data), ...freed()])];
      case "AppointmentCancelled":
        return freed();
      default:
        return [];
    }
  },
});

function isLive(state: State): state is Booking & { status: "booked" | "confirmed" } {
  return state.status === "booked" || state.status === "confirmed";
}

function wantedSlot(command: Command, state: State): Slot | undefined {
  if (command.type === "BookAppointment") return command.data;
  if (command.type === "RescheduleAppointment" && isLive(state)) return movedSlot(state, command.data);
  return undefined;
}

function movedSlot(from: Slot, { start, end, room }: { start: string; end: string; room?: string }): Slot {
  return { doctor: from.doctor, room: room ?? from.room, start, end };
}

/** Why there is no such slot, if there is none. */
function slotProblem({ doctor, room, start, end }: Slot) {
  const problem =
    nameProblem("doctor", doctor) ??
    nameProblem("room", room) ??
    timeProblem("start", start) ??
    timeProblem("end", end);
  if (problem) return problem;
  if (end <= start) return refuse("end-not-after-start", {});
  if (Date.parse(end) - Date.parse(start) > maxMinutes * 60_000) return refuse("too-long", { maxMinutes });
  return undefined;
}

/** Names are part of tags and of addresses. */
function nameProblem(field: "doctor" | "patient" | "room" | "appointmentType", name: string) {
  return /^[A-Za-z0-9._-]{1,64}$/.test(name) ? undefined : refuse("invalid-name", { field });
}

function timeProblem(field: "start" | "end", value: string) {
  const time = new Date(value);
  const usual = value.length === "2026-11-23T09:30:00.000Z".length;
  if (usual && !Number.isNaN(time.getTime()) && time.toISOString() === value) return undefined;
  return refuse("invalid-time", { field, value });
}

function titleProblem(title: string) {
  return /[^ \t\n\f\r]/.test(title) ? undefined : refuse("title-missing", {});
}

/**
 * By appointment, the slot it holds. Each event that moves an appointment carries its whole new slot,
 * so it does not matter that a decision reads none of its events on other days.
 */
const held = projection<Slot, Event>("held", {
  version: 1,
  kind: "inline",
  on: {
    AppointmentBooked: (view, { data: { doctor, room, start, end }, stream }) =>
      view.set(stream.id, { doctor, room, start, end }),
    AppointmentRescheduled: (view, { data, stream }) => view.set(stream.id, data),
    AppointmentCancelled: (view, { stream }) => view.delete(stream.id),
  },
  indexes: { start: ({ start }) => start },
});

/** Why the slot can't be had, if it can't. */
function conflict(slot: Slot, { fold, issuedAt }: DecideContext<Event>) {
  const now = issuedAt.toISOString();
  if (slot.start < now) return refuse("slot-in-past", { issuedAt: now });

  const { documents } = fold(held).list({ index: "start", to: slot.end });
  for (const [what, code] of [["doctor", "doctor-taken"], ["room", "room-taken"]] as const) {
    const taken = documents.find(({ document }) => slot.start < document.end && document[what] === slot[what]);
    if (taken) return refuse(code, { by: taken.key, start: taken.document.start, end: taken.document.end });
  }
  return undefined;
}

/** The tags of whatever takes or frees a slot. */
export function slotTags({ doctor, room, start, end }: Slot): string[] {
  const first = start.slice(0, 10);
  // An appointment that ends at midnight does not touch the day that begins then.
  const last = new Date(Date.parse(end) - 1).toISOString().slice(0, 10);
  const days = first === last ? [first] : [first, last];
  return days.flatMap((day) => [`doctor:${doctor}/${day}`, `room:${room}/${day}`]);
}
