import type { LogPage, StorageAdapter, StoredEvent } from "../storage.js";

/** Up to where the store below is seen. What is there never changes. */
export interface Cut {
  /** The store's. */
  readonly epoch: string;
  /** Position of the last event that is seen, 0 if none is. */
  readonly position: number;
  /** Milliseconds since 1970 at which that was recorded, 0 if there is none. */
  readonly recordedAt: number;
}

/** The last event that `isBefore` is true of, if it is true of none after it. */
export async function findCut(
  storage: StorageAdapter,
  { epoch, head }: { readonly epoch: string; readonly head: number },
  isBefore: (event: StoredEvent) => boolean,
): Promise<Cut> {
  let cut: Cut = { epoch, position: 0, recordedAt: 0 };
  for (let end = head; cut.position < end;) {
    // The last one first: most often all are before.
    const middle = end === head ? head - 1 : Math.floor((cut.position + end) / 2);
    const event = await firstAfter(storage, epoch, middle);
    if (event !== undefined && event.position <= end && isBefore(event)) {
      cut = { epoch, position: event.position, recordedAt: Date.parse(event.recordedAt) };
    } else {
      end = middle;
    }
  }
  return cut;
}

async function firstAfter(
  storage: StorageAdapter,
  epoch: string,
  after: number,
): Promise<StoredEvent | undefined> {
  const all = { descending: false, types: [], aggregateTypes: [], tags: [], correlationId: null };
  for (;;) {
    const page: LogPage = await storage.readLog({ epoch, after, ...all, limit: 1 });
    if (page.events.length > 0 || page.next >= page.head) return page.events[0];
    after = page.next;
  }
}
