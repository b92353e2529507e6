/** An appointment: what it is, what may be done with it, and its event log. */

import type { Command, Refusal } from "./appointment.js";
import type { Clinic } from "./clinic.js";
import { byId, h, options } from "./dom.js";
import { createForm, keepLength, type Form } from "./form.js";
import type { Entry, LogEvent } from "./log.js";
import { appointmentTypes, nameOf, rooms } from "./people.js";
import { dayOf, exactly, moment, range, shortDay, timeOfDay } from "./time.js";
import type { Model, Part, Show } from "./view.js";
import { eventKinds, explain, particulars, statusWords } from "./words.js";

interface Panel extends Part {
  /** Takes the user to the panel; closing it leads back. */
  focus(): void;
}

export function createPanel(clinic: Clinic, model: () => Model, show: Show): Panel {
  const panel = byId("panel");
  let drawn = "";
  let opener: Element | null = null;

  const close = () => {
    show({ selected: undefined });
    if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
  };
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && model().selected !== undefined) close();
  });

  const showEvent = (event: LogEvent) => {
    const { log } = model();
    const at = log.events.indexOf(event) + 1;
    const entry = log.at(at).get(event.stream.id);
    show({ at, selected: event.stream.id, ...(entry && { day: dayOf(entry.booking.start) }) });
  };

  return {
    focus() {
      opener = document.activeElement;
      // The panel is drawn by then.
      requestAnimationFrame(() => panel.querySelector("h2")?.focus({ preventScroll: true }));
    },
    render({ selected, log, entries, live, count }) {
      const entry = selected === undefined ? undefined : entries.get(selected);
      const events = selected === undefined ? [] : log.of(selected);
      // A form that is open stays as it is while nothing of its appointment changes.
      const key = selected === undefined ? `all ${count} ${live}` : `${selected} ${entry?.revision} ${events.length} ${live}`;
      if (key === drawn) return;
      const hadFocus = panel.contains(document.activeElement);
      drawn = key;
      panel.classList.toggle("open", selected !== undefined);
      if (selected === undefined) {
        panel.replaceChildren(...drawActivity(log.events.slice(0, count), show));
      } else {
        const closing = h("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "✕");
        const parts = [
          closing,
          ...(entry ? drawEntry(entry) : [h("h2", { tabindex: -1 }, live ? "Booking …" : "Not booked yet")]),
          live ? entry && drawActions(clinic, model, show, entry) : drawPast(show),
          h("h3", {}, "Event log"),
          drawLog(events, entry?.revision ?? 0, live, showEvent),
        ];
        panel.replaceChildren(...parts.filter((part) => part !== undefined));
        if (hadFocus) panel.querySelector("h2")?.focus({ preventScroll: true });
      }
    },
  };
}

// --- What it is ---------------------------------------------------------------------------------

function drawEntry({ booking, status }: Entry): Node[] {
  const facts: [string, string][] = [
    ["When", `${shortDay(booking.start)}, ${range(booking)}`],
    ["Patient", nameOf(booking.patient)],
    ["Doctor", nameOf(booking.doctor)],
    ["Where", nameOf(booking.room)],
    ["Type", nameOf(booking.appointmentType)],
  ];
  if (booking.comment !== "") facts.push(["Comment", booking.comment]);
  return [
    h("p", { class: "status", "data-status": status }, statusWords[status]),
    h("h2", { tabindex: -1 }, booking.title),
    h("dl", {}, ...facts.flatMap(([term, fact]) => [h("dt", {}, term), h("dd", {}, fact)])),
  ];
}

// --- What may be done ---------------------------------------------------------------------------

function drawPast(show: Show): Node {
  return h(
    "p",
    { class: "past" },
    "You are looking at the past, which can’t be changed. ",
    h("button", { type: "button", class: "link", onclick: () => show({ at: undefined }) }, "Back to now"),
  );
}

function drawActions(clinic: Clinic, model: () => Model, show: Show, entry: Entry): Node {
  if (entry.status === "cancelled") return h("p", { class: "hint" }, "It was cancelled. Nothing can change it any more.");
  const place = h("div", { class: "actions" });
  const problem = h("p", { class: "problem", role: "alert" });

  const give = async (command: Command): Promise<Refusal | undefined> => {
    const outcome = await clinic.give(entry.id, command, model().actor);
    return outcome?.ok === false ? outcome.refusal : undefined;
  };

  const drawButtons = (focus?: string) => {
    const button = (label: string, onclick: () => void) => h("button", { type: "button", onclick }, label);
    const confirm = async () => {
      const refusal = await give({ type: "ConfirmAppointment", data: {} });
      if (refusal) problem.textContent = explain(refusal, model().entries).message;
    };
    const buttons = [
      ...(entry.status === "booked" ? [button("Confirm", confirm)] : []),
      button("Reschedule", () => open("Reschedule", rescheduleForm)),
      button("Edit", () => open("Edit", editForm)),
      button("Cancel appointment", () => open("Cancel appointment", cancelForm)),
    ];
    place.replaceChildren(h("div", { class: "buttons" }, ...buttons), problem);
    buttons.find(({ textContent }) => textContent === focus)?.focus();
  };

  type MakeForm = (entry: Entry, submit: (command: Command) => Promise<void>, back: HTMLElement) => Form;
  const open = (label: string, make: MakeForm) => {
    const back = h("button", { type: "button", onclick: () => drawButtons(label) }, "Back");
    const form = make(
      entry,
      async (command) => {
        const refusal = await give(command);
        if (refusal) return form.showProblem(explain(refusal, model().entries));
        // What has changed comes with the event; a command may also change nothing.
        if (form.element.isConnected) drawButtons(label);
        if (command.type === "RescheduleAppointment") show({ day: dayOf(command.data.start) });
      },
      back,
    );
    place.replaceChildren(h("h3", {}, label), form.element);
    form.focus();
  };

  drawButtons();
  return place;
}

function rescheduleForm({ booking }: Entry, submit: (command: Command) => Promise<void>, back: HTMLElement): Form {
  const start = h("input", { type: "time", step: 300, value: timeOfDay(booking.start) });
  const end = h("input", { type: "time", step: 300, value: timeOfDay(booking.end) });
  keepLength(start, end);
  const form: Form = createForm(
    [
      [{ name: "day", label: "Day", control: h("input", { type: "date", value: dayOf(booking.start) }) }],
      [
        { name: "start", label: "From", control: start },
        { name: "end", label: "To", control: end },
      ],
      [{ name: "room", label: "Room", control: h("select", {}, ...options(rooms, booking.room)) }],
    ],
    "Reschedule",
    () => {
      const day = form.value("day");
      const data = {
        start: moment(day, form.value("start")),
        end: moment(day, form.value("end")),
        room: form.value("room"),
      };
      return submit({ type: "RescheduleAppointment", data });
    },
    back,
  );
  return form;
}

function editForm({ booking }: Entry, submit: (command: Command) => Promise<void>, back: HTMLElement): Form {
  const form: Form = createForm(
    [
      [{ name: "title", label: "What is it about?", control: h("input", { type: "text", maxlength: 120, value: booking.title }) }],
      [{ name: "appointmentType", label: "Type", control: h("select", {}, ...options(appointmentTypes, booking.appointmentType)) }],
      [{ name: "comment", label: "Comment", control: h("textarea", { rows: 3, maxlength: 1000 }, booking.comment) }],
    ],
    "Save",
    () => {
      const data = {
        title: form.value("title"),
        appointmentType: form.value("appointmentType"),
        comment: form.value("comment"),
      };
      return submit({ type: "UpdateAppointment", data });
    },
    back,
  );
  return form;
}

function cancelForm(_: Entry, submit: (command: Command) => Promise<void>, back: HTMLElement): Form {
  const form: Form = createForm(
    [[{ name: "reason", label: "Why? (may be left empty)", control: h("input", { type: "text", maxlength: 200 }) }]],
    "Cancel appointment",
    () => submit({ type: "CancelAppointment", data: { reason: form.value("reason") } }),
    back,
  );
  return form;
}

// --- What happened ------------------------------------------------------------------------------

function drawLog(events: readonly LogEvent[], revision: number, live: boolean, showEvent: (event: LogEvent) => void): Node {
  const items = events.map((event) => {
    const { word, kind } = eventKinds[event.type];
    const current = !live && event.revision === revision;
    return h(
      "li",
      { class: event.revision > revision ? "later" : "", "data-kind": kind },
      h(
        "button",
        {
          type: "button",
          "aria-current": current ? "step" : false,
          title: "Show the agenda as it was then",
          onclick: () => showEvent(event),
        },
        h("span", { class: "revision", title: "Revision" }, String(event.revision)),
        h("span", { class: "what" }, h("b", {}, word), h("code", {}, event.type)),
        h("span", { class: "particulars" }, particulars(event)),
        h("span", { class: "who" }, `${nameOf(event.actor ?? "nobody")} · `, h("time", { datetime: event.recordedAt }, exactly(event.recordedAt))),
      ),
    );
  });
  return h("ol", { class: "log" }, ...items);
}

/** What happened last in the whole clinic, for when no appointment is chosen. */
function drawActivity(events: readonly LogEvent[], show: Show): Node[] {
  const latest = events.slice(-12).reverse();
  const titles = new Map<string, string>();
  for (const event of events) {
    if (event.type === "AppointmentBooked" || event.type === "AppointmentUpdated") {
      if (event.data.title !== undefined) titles.set(event.stream.id, event.data.title);
    }
  }
  const items = latest.map((event) => {
    const { word, kind } = eventKinds[event.type];
    return h(
      "li",
      { "data-kind": kind },
      h(
        "button",
        { type: "button", onclick: () => show({ selected: event.stream.id }) },
        h("span", { class: "what" }, h("b", {}, word), ` ${titles.get(event.stream.id) ?? ""}`),
        h("span", { class: "particulars" }, particulars(event)),
        h("span", { class: "who" }, `${nameOf(event.actor ?? "nobody")} · `, h("time", { datetime: event.recordedAt }, exactly(event.recordedAt))),
      ),
    );
  });
  return [
    h("h2", { tabindex: -1 }, "Latest events"),
    items.length > 0
      ? h("ol", { class: "log activity" }, ...items)
      : h("p", { class: "hint" }, "Nothing has happened yet."),
  ];
}
