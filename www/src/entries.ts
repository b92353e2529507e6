/**
 * The agenda's appointments as its projection tells them: as they are, or as they were after any number
 * of events of the log.
 */

import { type AgendaEntry, agenda } from "./appointment.js";
import type { Clinic } from "./clinic.js";
import { reportError } from "./errors.js";

/** An appointment as it stood at some time. */
export interface Entry extends AgendaEntry {
  readonly id: string;
}

/** All appointments as they stood at some time, by id, in order of their start. */
export type Entries = ReadonlyMap<string, Entry>;

/** As many as a page can show. */
const limit = 100_000;

/**
 * Follows what is wanted: after how many events, or as it is now. One question is under way at a time,
 * so that who drags the slider is shown what it stands at, and not all that it has passed.
 */
export function followEntries({ engine, log }: Clinic, wanted: () => number | undefined, onChange: () => void) {
  let entries: Entries = new Map();
  /** What they are of. */
  let shown = "";
  let asking = false;

  const whichOf = (at: number | undefined) => (at === undefined ? `now, ${log.events.length}` : String(at));

  async function ask(at: number | undefined): Promise<Entries> {
    const position = log.events[(at ?? log.events.length) - 1]?.position;
    if (position === undefined) return new Map();
    const moment = at === undefined ? { after: position } : { at: { position } };
    const { documents } = await engine.view(agenda).list({ index: "start", limit, ...moment });
    return new Map(documents.map(({ key: id, document }) => [id, { id, ...document }]));
  }

  /** Asks until what is shown is what is wanted. */
  async function follow(): Promise<void> {
    if (asking) return;
    asking = true;
    try {
      for (let at = wanted(); whichOf(at) !== shown; at = wanted()) {
        const which = whichOf(at);
        entries = await ask(at);
        shown = which;
        onChange();
      }
    } catch (error) {
      reportError(error, follow);
    } finally {
      asking = false;
    }
    onChange();
  }

  return { follow, entries: () => entries };
}
