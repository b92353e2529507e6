/** An appointment: what it is, what may be done with it, and its event log. */

import { diff } from "annals/audit";
import type { At } from "annals/slim";
import { appointment, type Booking, type Command, type Refusal } from "./appointment.js";
import type { Clinic } from "./clinic.js";
import { byId, h, isLost, keyed, options, setChildren, setText } from "./dom.js";
import type { Entries, Entry } from "./entries.js";
import { reportError } from "./errors.js";
import { createForm, keepLength, type Field, type Form } from "./form.js";
import type { LogEvent } from "./log.js";
import { appointmentTypes, nameOf, rooms } from "./people.js";
import { dayOf, exactly, moment, range, shortDay, timeOfDay } from "./time.js";
import type { Model, Part, Show } from "./view.js";
import { changeWords, eventKinds, explain, particulars, statusWords } from "./words.js";

interface Panel extends Part {
  /** Takes the user to the panel; closing it leads back. */
  focus(): void;
}

/** What is in the panel. Its elements stay the same while it is shown, so that the user's work in them does. */
type Contents = (model: Model) => Element[];

export function createPanel(clinic: Clinic, model: () => Model, show: Show): Panel {
  const panel = byId("panel");
  let drawn = "";
  let drawnEntries: Entries | undefined;
  let selectedBefore: string | undefined;
  let contents = createActivity(show);
  let opener: Element | null = null;

  const close = () => {
    show({ selected: undefined });
    if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
  };
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && model().selected !== undefined) close();
  });

  return {
    focus() {
      opener = document.activeElement;
      // The panel is drawn by then.
      requestAnimationFrame(() => panel.querySelector("h2")?.focus({ preventScroll: true }));
    },
    render(shown) {
      const { selected, log, entries, live, count } = shown;
      const revision = selected === undefined ? count : `${entries.get(selected)?.revision} ${log.of(selected).length}`;
      const key = `${selected} ${revision} ${live}`;
      // The latest events have titles of any appointment.
      if (key === drawn && (selected !== undefined || entries === drawnEntries)) return;
      drawn = key;
      drawnEntries = entries;
      if (selected !== selectedBefore) {
        selectedBefore = selected;
        contents = selected === undefined ? createActivity(show) : createAppointment(selected, clinic, model, show, close);
      }
      const focused = panel.contains(document.activeElement) ? document.activeElement : null;
      panel.classList.toggle("open", selected !== undefined);
      setChildren(panel, contents(shown));
      if (isLost(focused)) panel.querySelector("h2")?.focus({ preventScroll: true });
    },
  };
}

// --- An appointment -----------------------------------------------------------------------------

function createAppointment(id: string, clinic: Clinic, model: () => Model, show: Show, close: () => void): Contents {
  const closing = h("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "✕");
  const state = h("p", { class: "status" });
  const title = h("h2", { tabindex: -1 });
  const facts = h("dl");
  const past = createPast(show);
  const since = createSince(id, clinic);
  const actions = createActions(id, clinic, model, show);
  const heading = h("h3", {}, "Event log");
  const lines = h("ol", { class: "log" });

  const showEvent = (event: LogEvent) => {
    const { log } = model();
    const at = log.events.indexOf(event) + 1;
    const start = log.startOf(id, at);
    show({ at, ...(start !== undefined && { day: dayOf(start) }) });
  };
  const linesOf = keyed((event: LogEvent) => createLine(event, () => showEvent(event)));

  return (shown) => {
    const { entries, log, live } = shown;
    const entry = entries.get(id);
    const revision = entry?.revision ?? 0;
    const events = log.of(id);
    const all = linesOf(events).map(({ item, button }, index) => {
      const event = events[index]!;
      item.classList.toggle("later", event.revision > revision);
      button.setAttribute("aria-current", !live && event.revision === revision ? "step" : "false");
      return item;
    });
    setChildren(lines, all);
    setText(title, entry?.booking.title ?? (live ? "Booking …" : "Not booked yet"));
    const rest = live ? [heading, lines] : [since(shown), heading, lines];
    if (!entry) return [closing, title, ...(live ? [] : [past]), ...rest];
    state.dataset["status"] = entry.status;
    setText(state, statusWords[entry.status]);
    facts.replaceChildren(...factsOf(entry).flatMap(([term, fact]) => [h("dt", {}, term), h("dd", {}, fact)]));
    return [closing, state, title, facts, live ? actions(entry) : past, ...rest];
  };
}

function factsOf({ booking }: Entry): [string, string][] {
  const facts: [string, string][] = [
    ["When", `${shortDay(booking.start)}, ${range(booking)}`],
    ["Patient", nameOf(booking.patient)],
    ["Doctor", nameOf(booking.doctor)],
    ["Where", nameOf(booking.room)],
    ["Type", nameOf(booking.appointmentType)],
  ];
  if (booking.comment !== "") facts.push(["Comment", booking.comment]);
  return facts;
}

// --- What may be done ---------------------------------------------------------------------------

function createPast(show: Show): Element {
  return h(
    "p",
    { class: "past" },
    "You are looking at the past, which can’t be changed. ",
    h("button", { type: "button", class: "link", onclick: () => show({ at: undefined }) }, "Back to now"),
  );
}

/** What has changed between the past that is shown and now, as the engine tells it. */
function createSince(id: string, clinic: Clinic): (model: Model) => Element {
  const by = h("p", { class: "hint" });
  const list = h("dl");
  const place = h("section", { class: "since" }, h("h3", {}, "Changed since then"), list, by);
  let asked = "";
  let earlier = new AbortController();

  const tell = async (from: At, signal: AbortSignal) => {
    const { changes, events } = await diff(clinic.engine, appointment, id, { from, signal });
    list.replaceChildren(
      ...changes.flatMap((change) => {
        const { what, before, after } = changeWords(change);
        return [h("dt", {}, what), h("dd", {}, before !== "" && h("del", {}, before), " ", after !== "" && h("ins", {}, after))];
      }),
    );
    const words = events.map(({ type }) => eventKinds[type].word).join(", ");
    const what = changes.length > 0 ? "By" : "Nothing is different after";
    setText(by, events.length > 0 ? `${what} these events: ${words}` : "Nothing.");
  };

  return ({ log, count, entries }) => {
    const key = `${entries.get(id)?.revision} ${log.of(id).length}`;
    if (key === asked) return place;
    asked = key;
    earlier.abort();
    earlier = new AbortController();
    const { signal } = earlier;
    const event = log.events[count - 1];
    const from = event ? { position: event.position } : { revision: 0 };
    const ask = () =>
      tell(from, signal).catch((error: unknown) => {
        if (!signal.aborted) reportError(error, ask);
      });
    void ask();
    return place;
  };
}

function createActions(id: string, clinic: Clinic, model: () => Model, show: Show): (entry: Entry) => Element {
  const place = h("div", { class: "actions" });
  const over = h("p", { class: "hint" }, "It was cancelled. Nothing can change it any more.");
  const problem = h("p", { class: "problem", role: "alert" });
  let booking: Booking;
  let opened: { readonly form: Form; follow(): void } | undefined;

  const give = async (command: Command): Promise<Refusal | undefined> => {
    const outcome = await clinic.give(id, command, model().actor);
    return outcome?.ok === false ? outcome.refusal : undefined;
  };

  const confirm = h("button", { type: "button" }, "Confirm");
  confirm.addEventListener("click", async () => {
    const refusal = await give({ type: "ConfirmAppointment", data: {} });
    if (refusal) setText(problem, explain(refusal, model().entries).message);
  });
  const others = [reschedule, edit, cancel].map((kind) => {
    const button = h("button", { type: "button" }, kind.label);
    button.addEventListener("click", () => open(kind, button));
    return button;
  });
  const buttons = h("div", { class: "buttons" });
  place.append(buttons, problem);

  const open = (kind: FormKind, opener: HTMLElement) => {
    const close = () => {
      const hadFocus = place.contains(document.activeElement);
      opened = undefined;
      setChildren(place, [buttons, problem]);
      if (hadFocus) opener.focus();
    };
    const submit = async () => {
      const command = kind.command(form);
      const refusal = await give(command);
      // The user may have left the form, or the appointment.
      if (opened?.form !== form || !place.isConnected) return;
      if (refusal) return form.showProblem(explain(refusal, model().entries));
      close();
      if (command.type === "RescheduleAppointment") show({ day: dayOf(command.data.start) });
    };
    const back = h("button", { type: "button", onclick: close }, "Back");
    const form = createForm(kind.fields(), kind.submitLabel, submit, back);
    let filled = kind.values(booking);
    fill(form, filled);
    opened = {
      form,
      follow() {
        const values = kind.values(booking);
        fill(form, values.filter((_, index) => isUntouched(form, filled[index]!)));
        filled = values;
      },
    };
    setText(problem, "");
    setChildren(place, [h("h3", {}, kind.label), form.element]);
    form.focus();
  };

  return (entry) => {
    if (entry.status === "cancelled") return over;
    if (entry.booking !== booking) setText(problem, "");
    booking = entry.booking;
    opened?.follow();
    setChildren(buttons, entry.status === "booked" ? [confirm, ...others] : others);
    return place;
  };
}

/** Values of fields, by name, that belong together: who changes one of them decides on all. */
type Values = Readonly<Record<string, string>>;

function fill(form: Form, values: readonly Values[]): void {
  for (const [name, value] of values.flatMap(Object.entries<string>)) {
    if (form.value(name) !== value) form.set(name, value);
  }
}

const isUntouched = (form: Form, values: Values) =>
  Object.entries(values).every(([name, value]) => form.value(name) === value.trim());

/** A form that changes an appointment. While it is open, what the user has not touched follows the appointment. */
interface FormKind {
  readonly label: string;
  readonly submitLabel: string;
  fields(): Field[][];
  values(booking: Booking): Values[];
  command(form: Form): Command;
}

const reschedule: FormKind = {
  label: "Reschedule",
  submitLabel: "Reschedule",
  fields() {
    const start = h("input", { type: "time", step: 300 });
    const end = h("input", { type: "time", step: 300 });
    keepLength(start, end);
    return [
      [{ name: "day", label: "Day", control: h("input", { type: "date" }) }],
      [
        { name: "start", label: "From", control: start },
        { name: "end", label: "To", control: end },
      ],
      [{ name: "room", label: "Room", control: h("select", {}, ...options(rooms)) }],
    ];
  },
  values: ({ start, end, room }) => [{ day: dayOf(start), start: timeOfDay(start), end: timeOfDay(end) }, { room }],
  command(form) {
    const day = form.value("day");
    const data = {
      start: moment(day, form.value("start")),
      end: moment(day, form.value("end")),
      room: form.value("room"),
    };
    return { type: "RescheduleAppointment", data };
  },
};

const edit: FormKind = {
  label: "Edit",
  submitLabel: "Save",
  fields: () => [
    [{ name: "title", label: "What is it about?", control: h("input", { type: "text", maxlength: 120 }) }],
    [{ name: "appointmentType", label: "Type", control: h("select", {}, ...options(appointmentTypes)) }],
    [{ name: "comment", label: "Comment", control: h("textarea", { rows: 3, maxlength: 1000 }) }],
  ],
  values: ({ title, appointmentType, comment }) => [{ title }, { appointmentType }, { comment }],
  command(form) {
    const data = {
      title: form.value("title"),
      appointmentType: form.value("appointmentType"),
      comment: form.value("comment"),
    };
    return { type: "UpdateAppointment", data };
  },
};

const cancel: FormKind = {
  label: "Cancel appointment",
  submitLabel: "Cancel appointment",
  fields: () => [
    [{ name: "reason", label: "Why? (may be left empty)", control: h("input", { type: "text", maxlength: 200 }) }],
  ],
  values: () => [],
  command: (form) => ({ type: "CancelAppointment", data: { reason: form.value("reason") } }),
};

// --- What happened ------------------------------------------------------------------------------

/** A line of an appointment's log. */
function createLine(event: LogEvent, onclick: () => void) {
  const { word, kind } = eventKinds[event.type];
  const button = h(
    "button",
    { type: "button", title: "Show the agenda as it was then", onclick },
    h("span", { class: "revision", title: "Revision" }, String(event.revision)),
    h("span", { class: "what" }, h("b", {}, word), h("code", {}, event.type)),
    h("span", { class: "particulars" }, particulars(event)),
    whoAndWhen(event),
  );
  return { button, item: h("li", { "data-kind": kind }, button) };
}

/** What happened last in the whole clinic, for when no appointment is chosen. */
function createActivity(show: Show): Contents {
  const heading = h("h2", { tabindex: -1 }, "Latest events");
  const nothing = h("p", { class: "hint" }, "Nothing has happened yet.");
  const lines = h("ol", { class: "log activity" });
  const linesOf = keyed((event: LogEvent) => {
    const { word, kind } = eventKinds[event.type];
    const title = h("span");
    const button = h(
      "button",
      { type: "button", onclick: () => show({ selected: event.stream.id }) },
      h("span", { class: "what" }, h("b", {}, word), title),
      h("span", { class: "particulars" }, particulars(event)),
      whoAndWhen(event),
    );
    return { title, item: h("li", { "data-kind": kind }, button) };
  });

  return ({ log, count, entries }) => {
    const latest = log.events.slice(Math.max(0, count - 12), count).reverse();
    const all = linesOf(latest).map(({ title, item }, index) => {
      setText(title, ` ${entries.get(latest[index]!.stream.id)?.booking.title ?? ""}`);
      return item;
    });
    setChildren(lines, all);
    return [heading, latest.length > 0 ? lines : nothing];
  };
}

function whoAndWhen({ actor, recordedAt }: LogEvent): Element {
  const when = h("time", { datetime: recordedAt }, exactly(recordedAt));
  return h("span", { class: "who" }, `${nameOf(actor ?? "nobody")} · `, when);
}
