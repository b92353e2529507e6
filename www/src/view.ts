/** What is on the screen, and what the parts of the page are given to show. */

import type { Entries } from "./entries.js";
import type { Log, LogEvent } from "./log.js";

/** What the user has chosen. */
export interface View {
  /** The agenda's day: 2026-11-23. */
  day: string;
  /** Id of the appointment in the panel. */
  selected: string | undefined;
  /** How many events of the log are shown. None is chosen: all, live. */
  at: number | undefined;
  /** Who gives commands. */
  actor: string;
}

export interface Model extends Readonly<View> {
  readonly log: Log;
  /** How many events are shown. */
  readonly count: number;
  /** What these add up to, or did a moment ago: the view is being asked. */
  readonly entries: Entries;
  readonly live: boolean;
  /** In replay, the last event that is shown. */
  readonly event: LogEvent | undefined;
  readonly now: Date;
}

/** A part of the page. */
export interface Part {
  render(model: Model): void;
}

/** Changes the view; the parts are rendered soon after. */
export type Show = (change: Partial<View>) => void;
