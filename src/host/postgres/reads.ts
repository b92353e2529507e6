import { boundsOf, fromOrdered, scanned, type OrderedPlace } from "../order.js";
import type {
  DocumentName,
  DocumentScan,
  DocumentsRead,
  FirstOutcome,
  Loaded,
  LoadRequest,
  LogPage,
  ReadLogRequest,
  ScannedPage,
  StoredDocument,
  StoredEvent,
  StreamLoad,
  StreamSlice,
} from "../storage.js";

/** A row of an answer of several parts, as `schema.ts` has them. */
export interface Part {
  readonly part: number;
  readonly item: number;
  readonly about: string;
  readonly data: string;
  readonly extra: string | null;
}

type Row = [
  position: number,
  aggregateType: string,
  aggregateId: string,
  revision: number,
  eventId: string,
  type: string,
  schemaVersion: number,
  tags: string[],
  recordedAt: number,
  issuedAt: number,
  commandId: string,
  correlationId: string,
  causationId: string | null,
  actor: string | null,
];

function eventOf({ about, data, extra }: Part): StoredEvent {
  const [position, aggregateType, aggregateId, revision, eventId, type, schemaVersion, tags, ...rest] =
    JSON.parse(about) as Row;
  const [recordedAt, issuedAt, commandId, correlationId, causationId, actor] = rest;
  return {
    position,
    aggregateType,
    aggregateId,
    revision,
    eventId,
    type,
    schemaVersion,
    tags: JSON.stringify(tags),
    recordedAt: new Date(recordedAt).toISOString(),
    issuedAt: new Date(issuedAt).toISOString(),
    commandId,
    correlationId,
    causationId,
    actor,
    extra,
    data,
  };
}

/** What the server is to load. */
export function wantedOf({ commands, streams, queries }: LoadRequest): string {
  return JSON.stringify({ commands, streams: streams.map(timesAsNumbers), queries });
}

const timesAsNumbers = ({ untilTime, ...load }: StreamLoad) => ({
  ...load,
  untilTime: untilTime === null ? null : Date.parse(untilTime),
});

export function loadedOf({ commands, streams, queries }: LoadRequest, parts: readonly Part[]): Loaded {
  const outcomes = commands.map((): FirstOutcome | null => null);
  const slices: StreamSlice[] = [];
  const whole = streams.map((): StoredEvent[] => []);
  const matches = queries.map((): StoredEvent[] => []);
  let head = 0;
  for (const part of parts) {
    const { item, about, data, extra } = part;
    if (part.part === 0) head = Number(about);
    else if (part.part === 1) outcomes[item] = JSON.parse(about) as FirstOutcome;
    else if (part.part === 2) {
      const [revision, more, snapshotAt, forms] = JSON.parse(about) as [number, boolean, number | null, string[] | null];
      const snapshot = snapshotAt === null ? null : { revision: snapshotAt, value: extra! };
      const events = streams[item]!.whole ? whole[item]! : forms === null ? [] : { forms, data };
      slices[item] = { snapshot, events, revision, more };
    } else (part.part === 3 ? whole : matches)[item]!.push(eventOf(part));
  }
  return { commands: outcomes, streams: slices, queries: matches, head };
}

export function pageOf({ after, descending, limit }: ReadLogRequest, [first, ...rows]: readonly Part[]): LogPage {
  const [head, seen] = JSON.parse(first!.about) as [number, number | null];
  const events = rows.map(eventOf);
  const end = descending ? 0 : Math.max(head, after);
  return { events, next: events.length === limit ? events.at(-1)!.position : (seen ?? end), head };
}

/** The ranges the server is to look through, `null` for those that nothing is in. */
export function rangeOf(scan: DocumentScan): object | null {
  const { collection, index, descending, limit } = scan;
  const bounds = boundsOf(scan);
  if (bounds === null) return null;
  const stored = ({ at, key }: OrderedPlace) => ({ at: toStored(fromOrdered(at)), key: toStored(fromOrdered(key)) });
  const [from, to] = [stored(bounds.from), bounds.to && stored(bounds.to)];
  return {
    collection: toStored(collection),
    index: index === null ? null : toStored(index),
    descending,
    // One more tells whether there are more.
    limit: limit === null ? null : limit + 1,
    fromAt: from.at,
    fromKey: from.key,
    toAt: to?.at ?? null,
    toKey: to?.key ?? "",
  };
}

export function nameOf({ collection, key }: DocumentName): DocumentName {
  return { collection: toStored(collection), key: toStored(key) };
}

/** `asked` are the indexes of the scans that the server has looked at. */
export function documentsOf(
  names: readonly DocumentName[],
  scans: readonly DocumentScan[],
  asked: readonly number[],
  parts: readonly Part[],
): DocumentsRead {
  const documents = names.map((): StoredDocument | null => null);
  const found = scans.map((): ScannedPage["documents"] => []);
  const counts = scans.map(() => 0);
  let head = 0;
  for (const { part, item, about, data } of parts) {
    if (part === 0) head = Number(about);
    else if (part === 1) documents[item] = { revision: Number(about), value: data };
    else if (part === 3) counts[asked[item]!] = Number(about);
    else {
      const [at, key, revision] = JSON.parse(about) as [string, string, number];
      found[asked[item]!]!.push({ at: fromStored(at), key: fromStored(key), revision, value: data });
    }
  }
  const pages = scans.map(({ limit }, index) => {
    const all = found[index]!;
    return scanned(all.slice(0, limit ?? 0), limit !== null && all.length > limit, counts[index]);
  });
  return { documents, scans: pages, head };
}

/**
 * A name or a value of documents as it is stored: in the same order, but without NUL, which no text
 * in PostgreSQL has. NUL and what follows it among characters take two.
 */
export function toStored(text: string): string {
  return text.replace(/[\0\x01]/g, (character) => (character === "\0" ? "\x01\x01" : "\x01\x02"));
}

function fromStored(text: string): string {
  return text.replace(/\x01[^]/g, (pair) => (pair === "\x01\x01" ? "\0" : "\x01"));
}
