/** The time slider: every event of the log is a tick; dragging shows the agenda as it was. */

import { byId, h, isIdle, setIdle, setText } from "./dom.js";
import type { LogEvent } from "./log.js";
import { nameOf } from "./people.js";
import { dayOf, exactly } from "./time.js";
import type { Model, Part, Show } from "./view.js";
import { eventKinds, particulars } from "./words.js";

/** The whole log plays within about this long, but no event passes faster or slower than … */
const playMillis = 15_000;
const fastestMillis = 40;
const slowestMillis = 900;

export function createReplay(model: () => Model, show: Show): Part {
  const slider = byId<HTMLInputElement>("slider");
  const ticks = byId<HTMLCanvasElement>("ticks");
  const play = byId<HTMLButtonElement>("play");
  const back = byId<HTMLButtonElement>("step-back");
  const forward = byId<HTMLButtonElement>("step-forward");
  const live = byId<HTMLButtonElement>("live");
  const follow = byId<HTMLInputElement>("follow-days");
  const caption = byId("replay-caption");
  const time = byId("replay-time");
  let timer: ReturnType<typeof setTimeout> | undefined;

  const go = (count: number) => {
    const { log } = model();
    const at = Math.max(0, Math.min(count, log.events.length));
    const event = log.events[at - 1];
    const day = follow.checked && event ? dayOfEvent(model(), event, at) : undefined;
    show(day === undefined ? { at } : { at, day });
  };

  const pause = () => {
    clearTimeout(timer);
    timer = undefined;
    show({});
  };
  const step = () => {
    const { count, log } = model();
    if (count >= log.events.length) return pause();
    go(count + 1);
    const pace = playMillis / log.events.length;
    timer = setTimeout(step, Math.max(fastestMillis, Math.min(slowestMillis, pace)));
  };
  const start = () => {
    const { count, log } = model();
    // From the end there is nothing to play.
    if (count >= log.events.length) go(0);
    timer = setTimeout(step, slowestMillis / 2);
    show({});
  };

  slider.addEventListener("input", () => {
    clearTimeout(timer);
    timer = undefined;
    go(slider.valueAsNumber);
  });
  play.addEventListener("click", () => (timer === undefined ? start() : pause()));
  const onStep = (button: HTMLButtonElement, events: number) =>
    button.addEventListener("click", () => {
      if (isIdle(button)) return;
      pause();
      go(model().count + events);
    });
  onStep(back, -1);
  onStep(forward, 1);
  live.addEventListener("click", () => {
    clearTimeout(timer);
    timer = undefined;
    show({ at: undefined });
  });
  const redraw = () => drawTicks(ticks, model());
  new ResizeObserver(redraw).observe(ticks);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  return {
    render(shown) {
      const { log, count, event } = shown;
      const total = log.events.length;
      if (shown.live && timer !== undefined) {
        clearTimeout(timer);
        timer = undefined;
      }
      document.body.classList.toggle("replaying", !shown.live);
      slider.max = String(total);
      slider.value = String(count);
      slider.style.setProperty("--share", `${(100 * count) / Math.max(1, total)}%`);
      slider.disabled = total === 0;
      play.disabled = total === 0;
      setIdle(back, count === 0);
      setIdle(forward, count >= total);
      live.setAttribute("aria-pressed", String(shown.live));
      const playing = timer !== undefined;
      setText(play, playing ? "❚❚" : "▶");
      play.setAttribute("aria-label", playing ? "Pause" : "Replay");
      setText(time, shown.live ? `Now, after ${plural(total)}` : timeWords(event, count, total));
      caption.replaceChildren(...(shown.live ? ["Drag the slider to see the agenda as it was."] : captionOf(shown)));
      slider.setAttribute("aria-valuetext", shown.live ? "now" : `${time.textContent}. ${caption.textContent}`);
      drawTicks(ticks, shown);
    },
  };
}

const plural = (count: number) => (count === 1 ? "1 event" : `${count} events`);

function timeWords(event: LogEvent | undefined, count: number, total: number): string {
  return event ? `${exactly(event.recordedAt)} · event ${count} of ${total}` : `Before the first of ${plural(total)}`;
}

function captionOf({ event, entries }: Model): (Node | string)[] {
  if (!event) return ["Nothing has happened yet."];
  const { word, kind } = eventKinds[event.type];
  const title = entries.get(event.stream.id)?.booking.title ?? "";
  const more = particulars(event);
  return [
    h("span", { class: "kind", "data-kind": kind }, word),
    ` ${title}${more === "" ? "" : `: ${more}`} · ${nameOf(event.actor ?? "nobody")}`,
  ];
}

/** The day of the appointment an event is about. */
function dayOfEvent({ log }: Model, event: LogEvent, at: number): string | undefined {
  const start = log.startOf(event.stream.id, at);
  return start === undefined ? undefined : dayOf(start);
}

// --- Ticks --------------------------------------------------------------------------------------

/** Half the width of the slider's thumb: where its first and its last position are. */
const inset = 9;

function drawTicks(canvas: HTMLCanvasElement, { log, count }: Model): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext("2d");
  if (!context || width === 0) return;
  const scale = devicePixelRatio;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);

  const style = getComputedStyle(canvas);
  const colours = new Map(
    Object.entries(eventKinds).map(([type, { kind }]) => [type, style.getPropertyValue(`--${kind}`)]),
  );
  const total = log.events.length;
  const gap = (width - 2 * inset) / Math.max(1, total);
  const tick = Math.max(0.5, Math.min(3, gap * 0.6));
  log.events.forEach((event, index) => {
    context.fillStyle = colours.get(event.type) ?? "";
    context.globalAlpha = index < count ? 1 : 0.3;
    context.fillRect(inset + (index + 1) * gap - tick / 2, 0, tick, height);
  });
}
