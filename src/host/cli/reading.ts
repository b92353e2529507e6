import { AnnalsError, type DocumentScan, type ScannedPage, type StorageAdapter, type StoredEvent } from "../index.node.js";

/** Reads a store's log page by page, and lets interrupts have their turn. */
export async function* logPages(storage: StorageAdapter, epoch: string, signal: AbortSignal): AsyncGenerator<StoredEvent[], void> {
  const all = { types: [], aggregateTypes: [], tags: [], correlationId: null };
  for (let after = 0; ;) {
    const { events, next, head } = await storage.readLog({ epoch, after, ...all, limit: 500 });
    yield events;
    await new Promise((resolve) => setImmediate(resolve));
    if (signal.aborted) throw new AnnalsError("cancelled", "interrupted", {});
    if (next >= head) return;
    after = next;
  }
}

export type ScannedDocument = ScannedPage["documents"][number];

/** Reads a collection page by page. */
export async function* scanOf(storage: StorageAdapter, epoch: string, collection: string): AsyncGenerator<ScannedDocument[], void> {
  for (let after: ScannedDocument | null = null; ;) {
    const scan: DocumentScan = { collection, index: null, from: null, to: null, after, descending: false, limit: 500 };
    const { documents, more }: ScannedPage = (await storage.readDocuments({ epoch, names: [], scans: [scan] })).scans[0]!;
    yield documents;
    if (!more) return;
    after = documents.at(-1)!;
  }
}
