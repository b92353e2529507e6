/** Events and times as they are given out and taken. */
import type { Message } from "./domain.js";
import type { Position, RecordedEvent } from "./engine.js";
import { invalidArgument } from "./errors.js";
import type { StoredEvent } from "./storage.js";

/** An event as it is given out. */
export function recordedEvent<Event extends Message>(
  source: Pick<StoredEvent, "aggregateType" | "aggregateId" | "issuedAt" | "commandId" | "correlationId" | "causationId" | "actor" | "extra">,
  { type, eventId, schemaVersion }: Pick<StoredEvent, "type" | "eventId" | "schemaVersion">,
  { position, revision, recordedAt }: Pick<StoredEvent, "position" | "revision" | "recordedAt">,
  epoch: string,
  data: unknown,
  tags: unknown,
  parse: (text: string) => unknown,
): RecordedEvent<Event> {
  return {
    type,
    data,
    position: `${epoch}:${position}` as Position,
    stream: { type: source.aggregateType, id: source.aggregateId },
    revision,
    eventId,
    schemaVersion,
    tags,
    recordedAt,
    issuedAt: source.issuedAt,
    commandId: source.commandId,
    correlationId: source.correlationId,
    causationId: source.causationId,
    actor: source.actor,
    metadata: source.extra === null ? null : parse(source.extra),
  } as unknown as RecordedEvent<Event>;
}

/** Stores compare times as texts, which is right for years of four digits. */
export function millis(time: Date | string): number {
  const at = typeof time === "string" ? Date.parse(time) : time?.getTime?.();
  if (!(at >= -62_167_219_200_000 && at < 253_402_300_800_000)) {
    throw invalidArgument(`expected a time in the years 0 to 9999, found ${String(time)}`);
  }
  return at;
}
