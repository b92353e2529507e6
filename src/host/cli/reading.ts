import { AnnalsError, type DocumentScan, type ScannedPage, type StorageAdapter, type StoredEvent } from "../index.node.js";

/** Reads a store's log page by page, and lets interrupts have their turn. */
export async function* logPages(storage: StorageAdapter, epoch: string, signal: AbortSignal): AsyncGenerator<StoredEvent[], void> {
  const all = { descending: false, types: [], aggregateTypes: [], tags: [], correlationId: null };
  for (let after = 0; ;) {
    const { events, next, head } = await storage.readLog({ epoch, after, ...all, limit: 500 });
    yield events;
    await turn(signal);
    if (next >= head) return;
    if (next <= after) {
      const message = `the log does not go on after position ${next}, and the store says that it ends at ${head}`;
      throw new AnnalsError("damaged-store", message, { damage: "head-disagrees", position: next });
    }
    after = next;
  }
}

/** Lets interrupts have their turn. */
export async function turn(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  if (signal.aborted) throw new AnnalsError("cancelled", "interrupted", {});
}

export type ScannedDocument = ScannedPage["documents"][number];

const ALL = { index: null, from: null, to: null, descending: false };

/** A collection's documents in order of key: there are few of them. */
export async function documentsOf(storage: StorageAdapter, epoch: string, collection: string): Promise<ScannedDocument[]> {
  const found: ScannedDocument[] = [];
  for (;;) {
    const scan: DocumentScan = { collection, ...ALL, after: found.at(-1) ?? null, limit: 500 };
    const { documents, more } = (await storage.readDocuments({ epoch, names: [], scans: [scan] })).scans[0]!;
    found.push(...documents);
    if (!more) return found;
  }
}

/** How many documents a collection has. */
export async function countOf(storage: StorageAdapter, epoch: string, collection: string): Promise<number> {
  const scan: DocumentScan = { collection, ...ALL, after: null, limit: null };
  return (await storage.readDocuments({ epoch, names: [], scans: [scan] })).scans[0]!.count;
}
