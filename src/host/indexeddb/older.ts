/** What stores of formats 1 and 2 have. */
import type { CommitEvent } from "../storage.js";
import type { Accepted, StreamKey } from "./schema.js";

/** Commits of one append, of which there was one record. Of format 1 it has no `correlations`. */
export interface OlderRecord {
  /** Position of the last event. */
  readonly head: number;
  readonly streams: readonly StreamKey[];
  readonly commandIds: readonly string[];
  /** For each of these the hash of what was asked. */
  readonly hashes: readonly string[];
  /** For each event the index of its stream, … */
  readonly streamOf: readonly number[];
  /** … the JSON of an object with its form as `type` and its `data`, … */
  readonly messages: readonly string[];
  /** … and the JSON of what surrounds it. */
  readonly envelopes: readonly string[];
}

type OlderEnvelope = readonly [
  type: string,
  eventId: string,
  schemaVersion: number,
  tags: string,
  commandId: string,
  recordedAt: number,
  issuedAt: string,
  correlationId: string,
  causationId: string | null,
  actor: string | null,
  extra: string | null,
];

/** Its commits, as they were appended. */
export function commitsOf({ head, streams, commandIds, hashes, streamOf, messages, envelopes }: OlderRecord): Accepted[] {
  const parsed = envelopes.map((text) => JSON.parse(text) as OlderEnvelope);
  // Only the last revisions are known.
  const revisions = streams.map(([, , last], stream) => last - streamOf.filter((of) => of === stream).length);
  let index = 0;
  return commandIds.map((commandId, number): Accepted => {
    const first = index;
    const events: CommitEvent[] = [];
    for (; parsed[index]?.[4] === commandId; index += 1) {
      const [type, eventId, schemaVersion, tags] = parsed[index]!;
      events.push({ eventId, type, schemaVersion, tags: JSON.parse(tags) as string[], data: dataOf(messages[index]!) });
    }
    const [, , , , , recordedAt, issuedAt, correlationId, causationId, actor, extra] = parsed[first]!;
    const stream = streamOf[first]!;
    const [aggregateType, aggregateId] = streams[stream]!;
    const hash = hashes[number]!;
    const count = events.length;
    const revision = (revisions[stream]! += count);
    const commit = { commandId, hash, aggregateType, aggregateId, issuedAt, correlationId, causationId, actor, extra, events };
    return [commit, { position: head - parsed.length + first + 1, revision, count, recordedAt }];
  });
}

/** In JSON a quote within the type has a backslash before it, so this is where the type ends. */
function dataOf(message: string): string {
  return message.slice(message.indexOf('","data":') + '","data":'.length, -1);
}
