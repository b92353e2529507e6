/** The dialog in which an appointment is booked. */

import type { Clinic } from "./clinic.js";
import { byId, h, options } from "./dom.js";
import { createForm, keepLength } from "./form.js";
import { appointmentTypes, doctors, patients, rooms } from "./people.js";
import { addDays, dayOf, moment, timeOfDay } from "./time.js";
import type { Model, Show } from "./view.js";
import { explain } from "./words.js";

/** What is known when the dialog opens. */
export interface Wish {
  readonly doctor?: string;
  readonly time?: string;
}

export function createBooking(
  clinic: Clinic,
  model: () => Model,
  show: Show,
  open: (id: string) => void,
): (wish: Wish) => void {
  const dialog = byId<HTMLDialogElement>("booking");
  const start = h("input", { type: "time", step: 300 });
  const end = h("input", { type: "time", step: 300 });
  keepLength(start, end);

  const form = createForm(
    [
      [{ name: "title", label: "What is it about?", control: h("input", { type: "text", autocomplete: "off", maxlength: 120 }) }],
      [
        { name: "patient", label: "Patient", control: h("select", {}, ...options(patients)) },
        { name: "appointmentType", label: "Type", control: h("select", {}, ...options(appointmentTypes)) },
      ],
      [
        { name: "doctor", label: "Doctor", control: h("select", {}, ...options(doctors)) },
        { name: "room", label: "Room", control: h("select", {}, ...options(rooms)) },
      ],
      [
        { name: "day", label: "Day", control: h("input", { type: "date" }) },
        { name: "start", label: "From", control: start },
        { name: "end", label: "To", control: end },
      ],
      [{ name: "comment", label: "Comment", control: h("textarea", { rows: 2, maxlength: 1000 }) }],
    ],
    "Book",
    book,
    h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
  );
  dialog.replaceChildren(h("h2", { id: "booking-title" }, "Book an appointment"), form.element);
  // A click beside the dialog's content is one on its backdrop.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  async function book(isSame: () => boolean): Promise<void> {
    const id = crypto.randomUUID();
    const day = form.value("day");
    const outcome = await clinic.give(
      id,
      {
        type: "BookAppointment",
        data: {
          doctor: form.value("doctor"),
          patient: form.value("patient"),
          room: form.value("room"),
          appointmentType: form.value("appointmentType"),
          start: moment(day, form.value("start")),
          end: moment(day, form.value("end")),
          title: form.value("title"),
          comment: form.value("comment"),
        },
      },
      model().actor,
    );
    // Who has opened the dialog anew is left alone; what was booked is in the agenda.
    if (!isSame()) return;
    if (outcome?.ok === false) return form.showProblem(explain(outcome.refusal, model().entries));
    dialog.close();
    if (!outcome) return;
    show({ day, at: undefined });
    open(id);
  }

  return ({ doctor, time }) => {
    const { actor, day, now } = model();
    form.renew();
    const chosenDoctor = doctor ?? doctors.find(({ id }) => id === actor)?.id ?? doctors[0].id;
    const next = nextHalfHour(now);
    // Without a time of the user's, the first that can be had: not one that has passed.
    const chosenDay = time === undefined && day < dayOf(next) ? dayOf(next) : day;
    const from = time ?? (chosenDay === dayOf(next) ? timeOfDay(next) : "09:00");
    form.set("doctor", chosenDoctor);
    form.set("room", usualRoom(chosenDoctor));
    if (patients.some(({ id }) => id === actor)) form.set("patient", actor);
    form.set("day", chosenDay);
    form.set("start", from);
    const later = new Date(`${chosenDay}T${from}`);
    later.setMinutes(later.getMinutes() + 30);
    form.set("end", timeOfDay(later));
    form.set("title", "");
    form.set("comment", "");
    dialog.showModal();
    form.focus();
  };
}

/** Each doctor has one; nothing keeps them in it. */
function usualRoom(doctor: string): string {
  return rooms[doctors.findIndex(({ id }) => id === doctor)]?.id ?? rooms[0]!.id;
}

function nextHalfHour(now: Date): Date {
  const half = 30 * 60_000;
  const next = new Date(Math.ceil(now.getTime() / half) * half);
  return next.getHours() < 8 || next.getHours() >= 18
    ? new Date(`${next.getHours() >= 18 ? addDays(dayOf(next), 1) : dayOf(next)}T09:00`)
    : next;
}
