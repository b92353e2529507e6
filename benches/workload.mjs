// What the cases do: the clinic's appointments, the same ones in every run. Everything here runs in
// Node and in pages.

import { digestOf } from "./harness/digest.mjs";

/** Later than any command is given, for nothing can be booked in the past. */
const firstDay = Date.parse("2100-01-04T00:00:00.000Z");
const day = 24 * 60 * 60_000;
const hour = 60 * 60_000;

export const idOf = (stream) => `a-${stream}`;

/** Four appointments share a doctor and a room, each an hour of its own on any day. */
function slot(stream, days) {
  const start = firstDay + days * day + (9 + (stream % 4)) * hour;
  return {
    doctor: `d-${stream >> 2}`,
    room: `r-${stream >> 2}`,
    start: new Date(start).toISOString(),
    end: new Date(start + hour).toISOString(),
  };
}

/** The first event of a stream, about 220 bytes of JSON. */
export function booked(stream) {
  const { doctor, room, start, end } = slot(stream, 0);
  const data = {
    doctor,
    patient: `p-${stream}`,
    room,
    appointmentType: "check-up",
    start,
    end,
    title: "Blood pressure, half a year after",
    comment: "Asked for the morning, by phone",
  };
  return { type: "AppointmentBooked", data };
}

/** The n-th event that changes what an appointment is about, about 220 bytes of JSON. */
export function updated(stream, n) {
  const data = {
    title: `Blood pressure, half a year after, version ${n}`,
    comment: `Asked for the morning, by phone; brings the results of ${stream} and ${n}, and wants them explained`,
    appointmentType: n % 2 === 0 ? "check-up" : "follow-up",
  };
  return { type: "AppointmentUpdated", data };
}

/** The n-th event that moves an appointment, each time to the next day. */
export function moved(stream, n) {
  return { type: "AppointmentRescheduled", data: slot(stream, n) };
}

/** The command that leads to an event. */
export function commandFor({ type, data }) {
  if (type === "AppointmentBooked") return { type: "BookAppointment", data };
  if (type === "AppointmentUpdated") return { type: "UpdateAppointment", data };
  return { type: "RescheduleAppointment", data: { start: data.start, end: data.end } };
}

/** `[stream, event, revision]` of so many streams: each is booked. */
export const bookings = (streams) => Array.from({ length: streams }, (_, stream) => [stream, booked(stream), 1]);

/** `[stream, event, revision]` of so many events that follow the bookings, each stream in its turn. */
export function changes(streams, count, make = updated) {
  return Array.from({ length: count }, (_, index) => {
    const stream = index % streams;
    const n = 1 + Math.floor(index / streams);
    return [stream, make(stream, n), 1 + n];
  });
}

/** Revision and state of a stream with these events. */
export function foldOf(evolve, events) {
  return { revision: events.length, state: events.reduce(evolve, { status: "none" }) };
}

/** The same of every stream, in order. */
export function foldsOf(evolve, events) {
  const streams = [];
  for (const [stream, event] of events) (streams[stream] ??= []).push(event);
  return streams.map((events) => foldOf(evolve, events));
}

/** The digest of what a plain fold of these events comes to. */
export const expectedOf = (evolve, events) => digestOf(foldsOf(evolve, events));

/** Gives each thing in turn, so many at a time. */
export async function inFlight(lanes, things, give) {
  let next = 0;
  const giveOneByOne = async () => {
    while (next < things.length) await give(things[next++]);
  };
  await Promise.all(Array.from({ length: lanes }, giveOneByOne));
}
