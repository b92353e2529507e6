/** Bookings for the first visit, given as real commands. */

import type { Clinic } from "./clinic.js";
import type { Command } from "./appointment.js";
import { reception } from "./people.js";
import { addDays, dayOf, moment } from "./time.js";

/** Day, doctor, room, patient, type, when the day's first half hour is 0, half hours, title, comment. */
type Row = [number, string, string, string, string, number, number, string, string?];

const bookings: readonly Row[] = [
  [0, "okafor", "1", "p-duarte", "check-up", 0, 1, "Blood pressure", "Bring the readings of the last two weeks"],
  [0, "lindqvist", "2", "p-fischer", "consultation", 0, 2, "Chest pain when climbing stairs"],
  [0, "tanaka", "3", "p-nguyen", "follow-up", 1, 1, "Eczema, second visit"],
  [0, "moreau", "4", "p-haddad", "vaccination", 1, 1, "Measles, second dose"],
  [0, "okafor", "1", "p-rossi", "consultation", 2, 1, "Sore throat"],
  [1, "okafor", "1", "p-silva", "check-up", 0, 2, "Yearly check-up"],
  [0, "lindqvist", "lab", "p-kowalski", "procedure", 4, 2, "Stress ECG", "Fasting since midnight"],
  [1, "tanaka", "3", "p-oconnor", "procedure", 2, 2, "Mole removal"],
  [0, "moreau", "4", "p-duarte", "check-up", 4, 1, "Growth check (daughter)"],
  [1, "moreau", "4", "p-fischer", "consultation", 1, 1, "Fever since Friday"],
  [0, "tanaka", "3", "p-rossi", "consultation", 5, 1, "Rash on both hands"],
  [1, "lindqvist", "2", "p-silva", "follow-up", 5, 1, "Results of the ECG"],
  [2, "okafor", "1", "p-nguyen", "vaccination", 0, 1, "Influenza"],
  [2, "moreau", "4", "p-haddad", "follow-up", 3, 1, "Ear infection, control"],
  [2, "tanaka", "3", "p-kowalski", "consultation", 2, 1, "Hay fever"],
  [1, "okafor", "2", "p-oconnor", "consultation", 8, 1, "Back pain"],
];

/** What comes after: who, the booking it is about by its index, and what. */
const followUps = (at: (day: number, half: number) => string): [string, number, Command][] => [
  ["p-duarte", 0, { type: "ConfirmAppointment", data: {} }],
  ["lindqvist", 1, { type: "UpdateAppointment", data: { comment: "ECG before we talk" } }],
  ["p-haddad", 3, { type: "ConfirmAppointment", data: {} }],
  ["p-rossi", 4, { type: "RescheduleAppointment", data: { start: at(0, 6), end: at(0, 7) } }],
  ["p-silva", 5, { type: "ConfirmAppointment", data: {} }],
  [reception.id, 10, { type: "RescheduleAppointment", data: { start: at(1, 5), end: at(1, 6), room: "1" } }],
  ["p-kowalski", 6, { type: "ConfirmAppointment", data: {} }],
  ["p-fischer", 9, { type: "CancelAppointment", data: { reason: "Feels better" } }],
  ["moreau", 13, { type: "UpdateAppointment", data: { title: "Ear infection, last control" } }],
  ["p-rossi", 4, { type: "ConfirmAppointment", data: {} }],
];

/** Books them, and returns the day of the first. */
export async function bookSamples({ give }: Clinic, now = new Date()): Promise<string> {
  // Nothing can be booked in the past, and an afternoon has no room for a whole day.
  const today = now.getHours() < 13;
  const firstDay = today ? dayOf(now) : addDays(dayOf(now), 1);
  const opening = 17;
  const first = today ? Math.max(opening, now.getHours() * 2 + Math.floor(now.getMinutes() / 30) + 1) : opening;
  const at = (day: number, half: number) => {
    const halves = (day === 0 ? first : opening) + half;
    const time = `${String(Math.floor(halves / 2)).padStart(2, "0")}:${halves % 2 === 0 ? "00" : "30"}`;
    return moment(addDays(firstDay, day), time);
  };

  const ids = bookings.map(() => crypto.randomUUID());
  const after = followUps(at);
  for (const [index, booking] of bookings.entries()) {
    const [day, doctor, room, patient, appointmentType, half, halves, title, comment = ""] = booking;
    const slot = { start: at(day, half), end: at(day, half + halves) };
    const data = { doctor, patient, room, appointmentType, ...slot, title, comment };
    await give(ids[index]!, { type: "BookAppointment", data }, reception.id);
    // Some of what comes after comes in between.
    for (const [actor, about, command] of after.filter(([, about]) => about + 3 === index)) {
      await give(ids[about]!, command, actor);
    }
  }
  for (const [actor, about, command] of after.filter(([, about]) => about + 3 >= bookings.length)) {
    await give(ids[about]!, command, actor);
  }
  return firstDay;
}
