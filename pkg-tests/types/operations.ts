/** What the compiler says about archives and about verify. */
import { type Position, type StorageAdapter, AnnalsError } from "annals";
import {
  type ArchiveSource, type CheckedArchive, type Exported, type Finding, type FindingCode, type Imported, type Progress, type UnfinishedArchive,
  type Verification, checkArchive, exportLog, importLog, verify,
} from "annals/operations";
import type { Projection } from "annals";
import { type Same, check } from "./domain.js";

declare const storage: StorageAdapter;
declare const agenda: Projection<{ starts: string[] }>;
declare const kept: Position;

export async function exporting(signal: AbortSignal, unfinished: UnfinishedArchive) {
  for await (const part of exportLog(storage, { after: kept, types: ["Booked"], signal, onProgress: ({ done }) => check<Same<typeof done, number>>() })) {
    check<Same<typeof part, Uint8Array>>();
  }
  const work = exportLog(storage, { resume: unfinished });
  const { done, value } = await work.next();
  if (done) {
    check<Same<typeof value, Exported>>();
    check<Same<typeof value.until, Position>>();
  }
  // @ts-expect-error a position is not a number
  exportLog(storage, { after: 12 });
  // @ts-expect-error there is no such filter
  exportLog(storage, { actor: "reception" });
}

export async function importing(stream: ReadableStream<Uint8Array>, file: AsyncIterable<Uint8Array>, blob: Blob) {
  const sources: ArchiveSource[] = ["text", new Uint8Array(), ["parts"], stream, file, blob.stream()];
  const imported = await importLog(storage, sources[0]!, { partial: true });
  check<Same<typeof imported, Imported>>();
  check<Same<typeof imported.position, Position | null>>();
  check<Same<Awaited<ReturnType<typeof checkArchive>>, CheckedArchive>>();
  await importLog(storage, exportLog(storage));
  // @ts-expect-error a name is not opened: it would be taken for the archive's text
  await importLog(storage, new URL("file:///clinic.jsonl"));
}

export async function verifying() {
  const result = await verify(storage, { projections: [agenda], limit: 10 });
  check<Same<typeof result, Verification>>();
  check<Same<(typeof result.findings)[number], Finding>>();
  for (const { code, position } of result.findings) {
    check<Same<typeof code, FindingCode>>();
    check<Same<typeof position, number | undefined>>();
    // @ts-expect-error there is no such finding
    if (code === "broken") return;
  }
  check<Same<Progress["total"], number | null>>();
  // @ts-expect-error a projection, not its name
  await verify(storage, { projections: ["agenda"] });
}

export function failed(error: unknown) {
  if (AnnalsError.is(error, "unreadable-archive")) {
    check<Same<typeof error.details.problem, "changed" | "invalid" | "newer-version" | "truncated" | "unknown" | "wrong-order">>();
    check<Same<typeof error.details.line, number>>();
  }
  if (AnnalsError.is(error, "event-id-collision")) {
    check<Same<typeof error.details.eventId, string>>();
    check<Same<typeof error.details.imported.events, number>>();
  }
  if (AnnalsError.is(error, "damaged-store")) check<Same<typeof error.details.damage, FindingCode>>();
  if (AnnalsError.is(error, "reactions-have-begun")) check<Same<typeof error.details.reactions, readonly string[]>>();
}
