/** The day's agenda: doctors are columns, hours are rows, appointments are blocks. */

import type { Wish } from "./booking.js";
import { byId, h, keyed, setChildren, setText } from "./dom.js";
import type { Entry } from "./entries.js";
import { doctors, nameOf } from "./people.js";
import { addDays, dayOf, longDay, midnight, minutesInto, range, shortDay, timeOfDay, weekday } from "./time.js";
import type { Part, Show } from "./view.js";
import { statusWords, summary } from "./words.js";

const openingHour = 8;
const closingHour = 18;

interface AgendaActions {
  readonly show: Show;
  readonly book: (wish: Wish) => void;
  /** Opens an appointment's panel and takes the user there. */
  readonly open: (id: string) => void;
}

export function createAgenda(actions: AgendaActions): Part {
  const parts = [createDays(actions), createGrid(actions), createCancelled(actions)];
  return { render: (model) => parts.forEach((part) => part.render(model)) };
}

// --- Days ---------------------------------------------------------------------------------------

function createDays({ show }: AgendaActions): Part {
  const title = byId("day-title");
  const input = byId<HTMLInputElement>("day");
  const strip = byId("days");
  let current = "";

  const go = (days: number) => show({ day: addDays(current, days) });
  byId("previous-day").addEventListener("click", () => go(-1));
  byId("next-day").addEventListener("click", () => go(1));
  byId("today").addEventListener("click", () => show({ day: dayOf(new Date()) }));
  input.addEventListener("change", () => {
    if (input.value !== "" && input.validity.valid) show({ day: input.value });
  });
  input.addEventListener("blur", () => (input.value = current));

  const chips = Array.from({ length: 7 }, () => {
    const name = h("span", { class: "name" });
    const count = h("span", { class: "count" });
    const button = h("button", { type: "button" }, name, count);
    button.addEventListener("click", () => show({ day: button.value }));
    return { button, name, count };
  });
  strip.replaceChildren(...chips.map(({ button }) => h("li", {}, button)));

  return {
    render({ day, entries, now }) {
      // A day that is half typed is not overwritten by the one that is shown already.
      if (day !== current && input.value !== day) input.value = day;
      current = day;
      setText(title, longDay(midnight(day)));
      const today = dayOf(now);
      // The coming week as long as the day is in it.
      const first = day >= today && day < addDays(today, chips.length) ? today : addDays(day, -3);
      const perDay = new Map<string, number>();
      for (const { status, booking } of entries.values()) {
        const its = dayOf(booking.start);
        if (status !== "cancelled") perDay.set(its, (perDay.get(its) ?? 0) + 1);
      }
      const focusedDay = chips.find(({ button }) => button === document.activeElement)?.button.value;
      chips.forEach(({ button, name, count }, index) => {
        const its = addDays(first, index);
        const appointments = perDay.get(its) ?? 0;
        button.value = its;
        button.setAttribute("aria-current", its === day ? "date" : "false");
        const words = appointments === 1 ? "1 appointment" : `${appointments} appointments`;
        button.setAttribute("aria-label", `${its === today ? "Today, " : ""}${longDay(midnight(its))}, ${words}`);
        const date = midnight(its);
        setText(name, its === today ? "Today" : `${weekday(date)} ${date.getDate()}`);
        setText(count, appointments === 0 ? "–" : String(appointments));
        if (its === focusedDay) button.focus({ preventScroll: true });
      });
    },
  };
}

// --- Grid ---------------------------------------------------------------------------------------

function createGrid({ book, open }: AgendaActions): Part {
  const grid = byId("agenda");
  const hours = h("div", { class: "hours", "aria-hidden": true });
  const slots = h("div", { class: "slots", role: "group", "aria-label": "Free times. Arrow keys move, Enter books." });
  const nowLine = h("div", { class: "now", "aria-hidden": true });
  const blocks = h("ol", { class: "blocks", "aria-label": "Appointments" });
  const heads = doctors.map(({ name, field }) => h("div", { class: "head" }, h("b", {}, ...shortenable(name)), h("small", {}, field)));
  grid.style.setProperty("--columns", String(doctors.length));
  grid.replaceChildren(
    h("div", { class: "heads" }, h("div", { class: "corner" }), ...heads),
    h("div", { class: "body" }, hours, h("div", { class: "canvas" }, slots, nowLine, blocks)),
  );

  const shown = new Map<string, Block>();
  let drawn = "";
  const freeTimes = createFreeTimes(slots, book);

  return {
    render(model) {
      const { day, entries, live, now, selected, event } = model;
      const todays = [...entries.values()]
        .filter((entry) => entry.status !== "cancelled" && touches(day, entry))
        .sort((a, b) => column(a) - column(b));
      const first = Math.min(openingHour, ...todays.map((entry) => Math.floor(from(day, entry) / 60)));
      const last = Math.max(closingHour, ...todays.map((entry) => Math.ceil(until(day, entry) / 60)));

      const key = `${first} ${last}`;
      if (key !== drawn) {
        drawn = key;
        grid.style.setProperty("--hours", String(last - first));
        drawHours(hours, first, last);
        freeTimes.draw(first, last);
      }
      slots.classList.toggle("inert", !live);
      slots.toggleAttribute("inert", !live);

      const minute = minutesInto(day, now.toISOString());
      nowLine.hidden = minute < first * 60 || minute > last * 60;
      nowLine.style.setProperty("--from", String(minute / 60 - first));
      grid.style.setProperty("--past", String(Math.max(0, Math.min(last - first, minute / 60 - first))));

      const ids = new Set(todays.map(({ id }) => id));
      for (const [id, block] of shown) {
        if (ids.has(id)) continue;
        // Where it was, there is a free time.
        if (block.button === document.activeElement) freeTimes.focus({ column: block.column, minutes: block.from });
        shown.delete(id);
      }
      const all = todays.map((entry) => {
        let block = shown.get(entry.id);
        if (!block) shown.set(entry.id, (block = createBlock(() => open(entry.id))));
        block.column = column(entry);
        block.from = from(day, entry);
        const style = block.item.style;
        style.setProperty("--column", String(column(entry)));
        style.setProperty("--from", String(from(day, entry) / 60 - first));
        style.setProperty("--length", String((until(day, entry) - from(day, entry)) / 60));
        block.item.classList.toggle("short", until(day, entry) - from(day, entry) < 30);
        block.item.classList.toggle("touched", event?.stream.id === entry.id);
        block.button.dataset["status"] = entry.status;
        block.button.setAttribute("aria-pressed", String(entry.id === selected));
        const words = `${range(entry.booking)}, ${summary(entry)}, ${statusWords[entry.status]}`;
        block.button.setAttribute("aria-label", words);
        setText(block.title, entry.booking.title);
        setText(block.patient, `${timeOfDay(entry.booking.start)} ${nameOf(entry.booking.patient)}`);
        setText(block.room, nameOf(entry.booking.room));
        return block.item;
      });
      setChildren(blocks, all);
    },
  };
}

interface Block {
  readonly item: HTMLElement;
  readonly button: HTMLButtonElement;
  readonly title: HTMLElement;
  readonly patient: HTMLElement;
  readonly room: HTMLElement;
  /** Where it is: the doctor's column, and minutes into the day. */
  column: number;
  from: number;
}

function createBlock(onclick: () => void): Block {
  const title = h("span", { class: "title" });
  const patient = h("span", { class: "patient" });
  const room = h("span", { class: "room" });
  const button = h("button", { type: "button", class: "block", onclick }, title, patient, room);
  return { item: h("li", {}, button), button, title, patient, room, column: 0, from: 0 };
}

/** A name whose middle can go where there is little room. */
function shortenable(name: string): (Node | string)[] {
  const words = name.split(" ");
  const given = h("span", { class: "given" }, `${words.slice(1, -1).join(" ")} `);
  return [`${words[0]} `, given, words.at(-1) ?? ""];
}

const column = ({ booking }: Entry) => doctors.findIndex(({ id }) => id === booking.doctor);

const from = (day: string, { booking }: Entry) => Math.max(0, minutesInto(day, booking.start));
const until = (day: string, { booking }: Entry) => Math.min(1440, minutesInto(day, booking.end));
const touches = (day: string, entry: Entry) => from(day, entry) < 1440 && until(day, entry) > 0;

const clock = (minutes: number) =>
  `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;

function drawHours(hours: HTMLElement, first: number, last: number): void {
  const labels = Array.from({ length: last - first }, (_, index) => h("span", {}, clock((first + index) * 60)));
  hours.replaceChildren(...labels);
}

const slotMinutes = 30;

/** A free time: a doctor's column, and minutes into the day. */
interface FreeTime {
  readonly column: number;
  readonly minutes: number;
}

/**
 * A button for each half hour of each doctor. One of them can be reached by Tab; the arrow keys move
 * which one. A time's button stays the same whatever day and hours are shown.
 */
function createFreeTimes(slots: HTMLElement, book: (wish: Wish) => void) {
  /** The hours shown, in minutes into the day. */
  let start = 0;
  let end = 0;
  let reached: FreeTime = { column: 0, minutes: 0 };

  const columns = doctors.map(({ id, name }, column) => {
    const buttonsOf = keyed((minutes: number) => {
      const time = clock(minutes);
      const button = h(
        "button",
        {
          type: "button",
          tabindex: -1,
          "aria-label": `Book ${name} at ${time}`,
          "data-time": time,
          onclick: () => book({ doctor: id, time }),
        },
        h("span", { "aria-hidden": true }, `+ ${time}`),
      );
      button.addEventListener("focus", () => reach({ column, minutes }));
      return button;
    });
    return { element: h("div"), buttonsOf };
  });
  slots.replaceChildren(...columns.map(({ element }) => element));

  /** The button of a time, or of the nearest that is shown. */
  const nearest = ({ column, minutes }: FreeTime) => {
    const index = Math.floor((Math.max(start, Math.min(minutes, end - slotMinutes)) - start) / slotMinutes);
    return columns[column]?.element.children[index] as HTMLElement | undefined;
  };
  const reach = (time: FreeTime) => {
    slots.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    reached = time;
    nearest(time)?.setAttribute("tabindex", "0");
  };
  const focus = (time: FreeTime) => nearest(time)?.focus({ preventScroll: true });

  const moves: Record<string, [number, number]> = {
    ArrowUp: [0, -slotMinutes],
    ArrowDown: [0, slotMinutes],
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
  };
  slots.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    const column = reached.column + (move?.[0] ?? 0);
    const minutes = reached.minutes + (move?.[1] ?? 0);
    if (!move || !columns[column] || minutes < start || minutes >= end) return;
    event.preventDefault();
    nearest({ column, minutes })?.focus();
  });

  return {
    focus,
    draw(firstHour: number, lastHour: number): void {
      const focused = slots.contains(document.activeElement);
      start = firstHour * 60;
      end = lastHour * 60;
      const times = Array.from({ length: (end - start) / slotMinutes }, (_, index) => start + index * slotMinutes);
      for (const { element, buttonsOf } of columns) setChildren(element, buttonsOf(times));
      reach(reached);
      if (focused && !slots.contains(document.activeElement)) focus(reached);
    },
  };
}

// --- Cancelled ----------------------------------------------------------------------------------

/** Cancelled appointments leave the agenda; they can still be looked up. */
function createCancelled({ open }: AgendaActions): Part {
  const place = byId<HTMLDetailsElement>("cancelled");
  const heading = h("summary");
  const list = h("ul");
  place.replaceChildren(heading, list);
  const linesOf = keyed((id: string) => {
    const button = h("button", { type: "button", onclick: () => open(id) });
    return { button, item: h("li", {}, button) };
  });
  return {
    render({ entries, day }) {
      const cancelled = [...entries.values()].filter((entry) => entry.status === "cancelled" && touches(day, entry));
      place.hidden = cancelled.length === 0;
      setText(heading, `Cancelled on ${shortDay(midnight(day))} (${cancelled.length})`);
      const lines = linesOf(cancelled.map(({ id }) => id));
      cancelled.forEach((entry, index) => setText(lines[index]!.button, `${range(entry.booking)} ${summary(entry)}`));
      setChildren(list, lines.map(({ item }) => item));
    },
  };
}
