/** The Rust domain in `clinic/`, as the page sees it. */

import { nativeProjection } from "annals/projections";
import { nativeAggregate } from "annals/slim";

/** What is known of an appointment. Times are ISO 8601, in UTC. */
export interface Booking {
  readonly doctor: string;
  readonly patient: string;
  readonly room: string;
  readonly appointmentType: string;
  readonly start: string;
  readonly end: string;
  readonly title: string;
  readonly comment: string;
}

type Slot = Pick<Booking, "doctor" | "room" | "start" | "end">;
type Details = Pick<Booking, "title" | "comment" | "appointmentType">;

export type State =
  | { readonly status: "none" }
  | ({ readonly status: "booked" | "confirmed" | "cancelled" } & Booking);

export type Command =
  | { type: "BookAppointment"; data: Omit<Booking, "comment"> & { readonly comment?: string } }
  | { type: "RescheduleAppointment"; data: Pick<Booking, "start" | "end"> & { readonly room?: string } }
  | { type: "UpdateAppointment"; data: Partial<Details> }
  | { type: "ConfirmAppointment"; data: Record<string, never> }
  | { type: "CancelAppointment"; data: { readonly reason?: string } };

export type Event =
  | { type: "AppointmentBooked"; data: Booking }
  | { type: "AppointmentRescheduled"; data: Slot }
  | { type: "AppointmentUpdated"; data: Partial<Details> }
  | { type: "AppointmentConfirmed"; data: Record<string, never> }
  | { type: "AppointmentCancelled"; data: { readonly reason: string } };

interface Taken {
  /** Id of the appointment that is in the way. */
  readonly by: string;
  readonly start: string;
  readonly end: string;
}

export type Refusal =
  | { code: "not-booked" | "already-booked" | "already-confirmed" | "already-cancelled"; details: object }
  | { code: "invalid-name"; details: { readonly field: keyof Booking } }
  | { code: "title-missing"; details: object }
  | { code: "invalid-time"; details: { readonly field: "start" | "end"; readonly value: string } }
  | { code: "end-not-after-start"; details: object }
  | { code: "too-long"; details: { readonly maxMinutes: number } }
  | { code: "slot-in-past"; details: { readonly issuedAt: string } }
  | { code: "doctor-taken" | "room-taken"; details: Taken };

export const appointment = nativeAggregate<State, Command, Event, Refusal>("Appointment");

/** An appointment in the agenda, by its id. */
export interface AgendaEntry {
  readonly status: "booked" | "confirmed" | "cancelled";
  readonly booking: Booking;
  /** The number of its events. */
  readonly revision: number;
}

export const agenda = nativeProjection<AgendaEntry>("agenda");
