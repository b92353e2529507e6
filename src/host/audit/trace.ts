import type { Engine, RecordedEvent } from "../engine.js";

/** What led to an event, and what came of it, as far as the store has it. */
export interface Trace {
  /** From the nearest cause to the first. Of a command that is the cause, all its events. */
  readonly causes: readonly RecordedEvent[];
  /** In the order of the log. */
  readonly effects: readonly RecordedEvent[];
}

/**
 * Walks the chain that an event is in, both ways: `causationId` names the event or the command that
 * is the cause, and all of a chain have one `correlationId`. Events are as they are stored, so that
 * the chain has no gaps.
 *
 * ```ts
 * const { causes, effects } = await trace(engine, event);
 * ```
 */
export async function trace(
  engine: Engine,
  event: Pick<RecordedEvent, "eventId" | "commandId" | "causationId" | "correlationId">,
): Promise<Trace> {
  const events: RecordedEvent[] = [];
  const { correlationId } = event;
  for await (const found of engine.events({ correlationId, follow: false, stored: true })) {
    events.push(found);
  }
  const causes: RecordedEvent[] = [];
  for (let cause = event.causationId; cause !== null;) {
    const found = causesNamed(cause, events).filter((one) => !causes.includes(one));
    causes.push(...found);
    cause = found[0]?.causationId ?? null;
  }
  const effects = new Set<RecordedEvent>();
  const ids = new Set([event.eventId, event.commandId]);
  // An effect comes after its cause.
  for (const one of events) {
    if (one.causationId === null || !ids.has(one.causationId)) continue;
    effects.add(one);
    ids.add(one.eventId).add(one.commandId);
  }
  return { causes, effects: [...effects] };
}

function causesNamed(
  id: string,
  events: readonly RecordedEvent[],
): RecordedEvent[] {
  const named = events.filter(({ eventId }) => eventId === id);
  return named.length > 0 ? named : events.filter(({ commandId }) => commandId === id);
}
