/** Opens the clinic and shows it: what the user chooses and what happens make one model, rendered by the parts. */

import { createAgenda } from "./agenda.js";
import { agenda, appointment } from "./appointment.js";
import { createBooking } from "./booking.js";
import { openClinic } from "./clinic.js";
import { byId, h, isIdle, isLost, options, setIdle } from "./dom.js";
import { followEntries } from "./entries.js";
import { reportError } from "./errors.js";
import { createPanel } from "./panel.js";
import { doctors, patients, reception } from "./people.js";
import { createReplay } from "./replay.js";
import { bookSamples } from "./samples.js";
import { dayOf } from "./time.js";
import type { Model, Part, Show, View } from "./view.js";

const actorKey = "clinic.actor";

async function main(): Promise<void> {
  let due = false;
  const soon = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      render();
    });
  };
  // A hidden tab draws no frames; it catches up when it is seen again.
  const clinic = await openClinic(() => void entries.follow());

  const view: View = { day: dayOf(new Date()), selected: undefined, at: undefined, actor: rememberedActor() };
  const show: Show = (change) => {
    Object.assign(view, change);
    void entries.follow();
    soon();
  };
  const entries = followEntries(clinic, () => view.at, soon);
  await entries.follow();
  const model = (): Model => {
    const { log } = clinic;
    const live = view.at === undefined;
    const count = view.at ?? log.events.length;
    const event = live ? undefined : log.events[count - 1];
    return { ...view, log, count, entries: entries.entries(), live, event, now: new Date() };
  };

  const panel = createPanel(clinic, model, show);
  const open = (id: string) => {
    show({ selected: id });
    panel.focus();
  };
  const book = createBooking(clinic, model, show, open);
  const parts: Part[] = [
    createAgenda({ show, book, open }),
    panel,
    createReplay(model, show),
    createWelcome(async () => show({ day: await bookSamples(clinic) })),
    createActing(show),
  ];
  const render = () => {
    const shown = model();
    const focused = document.activeElement;
    parts.forEach((part) => part.render(shown));
    // What has lost it may have given it on; the day is the agenda's heading.
    const given = document.activeElement !== focused && document.activeElement !== document.body;
    if (isLost(focused) && !given) byId("day-title").focus({ preventScroll: true });
  };
  byId("book").addEventListener("click", () => book({}));
  // The clock goes on when nothing else happens.
  setInterval(soon, 30_000);
  render();
  document.body.classList.remove("loading");
  // For the curious: try it in the console.
  Object.assign(globalThis, { clinic: { ...clinic, agenda, appointment } });
}

/** On the first visit there is nothing to see, so it offers something. */
function createWelcome(fill: () => Promise<void>): Part {
  const place = byId("welcome");
  const button = byId<HTMLButtonElement>("samples");
  button.addEventListener("click", async () => {
    if (isIdle(button)) return;
    setIdle(button, true);
    await fill();
    setIdle(button, false);
  });
  return { render: ({ log }) => (place.hidden = log.events.length > 0) };
}

/** Who gives the commands. */
function createActing(show: Show): Part {
  const select = byId<HTMLSelectElement>("actor");
  select.replaceChildren(
    ...options([reception]),
    h("optgroup", { label: "Doctors" }, ...options(doctors)),
    h("optgroup", { label: "Patients" }, ...options(patients)),
  );
  select.addEventListener("change", () => {
    localStorage.setItem(actorKey, select.value);
    show({ actor: select.value });
  });
  return {
    render({ actor }) {
      if (select.value !== actor) select.value = actor;
    },
  };
}

function rememberedActor(): string {
  const actor = localStorage.getItem(actorKey);
  return [reception, ...doctors, ...patients].some(({ id }) => id === actor) ? actor! : reception.id;
}

main().catch((error: unknown) => {
  document.body.classList.remove("loading");
  reportError(error, () => location.reload());
});
