// The clinic's appointments in TypeScript, and commands for them.

const source = new URL("../clinic/appointment.ts", import.meta.url);

/** Pages get it as JavaScript from their server. */
const importSource = async () =>
  typeof document === "undefined" ? (await import("./typescript.mjs")).importTypeScript(source) : import(source.href);

export const { appointment } = await importSource();

/** Before every time that is booked here. */
export const issuedAt = "2026-01-01T08:00:00.000Z";

/** So many minutes into the day of the bookings. */
export const at = (minutes) => new Date(Date.parse("2026-11-23T00:00:00.000Z") + minutes * 60_000).toISOString();

/** A booking that starts so many minutes into the day and takes ten. */
export function booking({ doctor = "7", room = `of-${doctor}`, minutes = 540, ...rest } = {}) {
  const data = {
    doctor,
    patient: "p-1",
    room,
    appointmentType: "check-up",
    start: at(minutes),
    end: at(minutes + 10),
    title: "Blood pressure",
    ...rest,
  };
  return { type: "BookAppointment", data };
}

export const confirmation = { type: "ConfirmAppointment", data: {} };
export const cancellation = { type: "CancelAppointment", data: {} };
export const retitling = (title) => ({ type: "UpdateAppointment", data: { title } });

/** Checks that each stream's revisions are 1, 2, 3, … and that no command is there twice. */
export function checkLog(events) {
  const revisions = new Map();
  const commands = new Map();
  for (const { stream, revision, commandId } of events) {
    const last = revisions.get(stream.id) ?? 0;
    if (revision !== last + 1) throw new Error(`${stream.id}: revision ${revision} comes after ${last}`);
    revisions.set(stream.id, revision);
    const other = commands.get(commandId);
    if (other !== undefined && other !== stream.id) throw new Error(`${commandId} is in ${other} and in ${stream.id}`);
    commands.set(commandId, stream.id);
  }
  return revisions;
}

/** The whole log, or what the options leave of it. */
export async function logOf(engine, options) {
  const events = [];
  for await (const event of engine.events({ ...options, follow: false })) events.push(event);
  return events;
}
