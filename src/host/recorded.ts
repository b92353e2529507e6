/** Events and times as they are given out and taken. */
import type { Position, RecordedEvent } from "./engine.js";
import { invalidArgument } from "./errors.js";
import { plain } from "./plain.js";
import type { StoredEvent } from "./storage.js";

/** An event as it is given out. */
export const Recorded = /* @__PURE__ */ plain<RecordedEvent, [
  source: Pick<StoredEvent, "aggregateType" | "aggregateId" | "issuedAt" | "commandId" | "correlationId" | "causationId" | "actor" | "extra">,
  told: Pick<StoredEvent, "type" | "eventId" | "schemaVersion">,
  place: Pick<StoredEvent, "position" | "revision" | "recordedAt">,
  epoch: string,
  data: unknown,
  tags: readonly string[],
  parse: (text: string) => unknown,
]>(function (source, { type, eventId, schemaVersion }, { position, revision, recordedAt }, epoch, data, tags, parse) {
  this.type = type;
  this.data = data;
  this.position = `${epoch}:${position}` as Position;
  this.stream = new StreamOf(source);
  this.revision = revision;
  this.eventId = eventId;
  this.schemaVersion = schemaVersion;
  this.tags = tags;
  this.recordedAt = recordedAt;
  this.issuedAt = source.issuedAt;
  this.commandId = source.commandId;
  this.correlationId = source.correlationId;
  this.causationId = source.causationId;
  this.actor = source.actor;
  this.metadata = source.extra === null ? null : (parse(source.extra) as RecordedEvent["metadata"]);
});

/** What an event is of, as it is given out. */
export const StreamOf = /* @__PURE__ */ plain<RecordedEvent["stream"], [Pick<StoredEvent, "aggregateType" | "aggregateId">]>(
  function ({ aggregateType, aggregateId }) {
    this.type = aggregateType;
    this.id = aggregateId;
  },
);

/** Stores compare times as texts, which is right for years of four digits. */
export function millis(time: Date | string): number {
  const at = typeof time === "string" ? Date.parse(time) : time?.getTime?.();
  if (!(at >= -62_167_219_200_000 && at < 253_402_300_800_000)) {
    throw invalidArgument(`expected a time in the years 0 to 9999, found ${String(time)}`);
  }
  return at;
}
