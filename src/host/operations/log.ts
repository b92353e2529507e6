import { AnnalsError } from "../errors.js";
import type { AbortSignal } from "../platform.js";
import type { LogPage, ReadLogRequest, StorageAdapter } from "../storage.js";

/** How far a long work has come, in events. */
export interface Progress {
  readonly done: number;
  /** How many there are in all; `null` if that is not known before the end. */
  readonly total: number | null;
}

/** What a long work may be given. */
export interface WorkOptions {
  /** Is told now and then. */
  readonly onProgress?: (progress: Progress) => void;
  /** Gives the work up, between two steps. */
  readonly signal?: AbortSignal;
}

/** Which events of the log, by what they are as they are stored. Empty or not given: all. */
export interface LogFilter {
  readonly types?: readonly string[];
  readonly aggregateTypes?: readonly string[];
  /** Any of them is enough. */
  readonly tags?: readonly string[];
  readonly correlationId?: string;
}

/** Events that are read at once. */
export const PAGE = 500;

/**
 * The log page by page, from a position on up to the end that it has then. Fails with `damaged-store` if
 * a page does not go on, and the store says that it is not at the end.
 */
export async function* pagesOf(
  storage: StorageAdapter,
  epoch: string,
  after: number,
  { types = [], aggregateTypes = [], tags = [], correlationId = null }: Partial<Omit<ReadLogRequest, "epoch" | "after" | "descending">> = {},
): AsyncGenerator<LogPage, void> {
  const filter = { descending: false, types, aggregateTypes, tags, correlationId };
  for (;;) {
    const page = await storage.readLog({ epoch, after, ...filter, limit: PAGE });
    yield page;
    const { next, head } = page;
    if (next >= head) return;
    if (next <= after) {
      const message = `the log does not go on after position ${next}, and the store says that it ends at ${head}`;
      throw new AnnalsError("damaged-store", message, { damage: "head-disagrees", position: next });
    }
    after = next;
  }
}

/** Milliseconds for which a store that answers at once may keep others from their turn. */
const LONGEST_TURN = 20;

/** A long work: tells how far it has come, lets others have their turn, and ends when it is given up. */
export class Work {
  readonly #options: WorkOptions;
  #turn = performance.now();

  constructor(options: WorkOptions) {
    this.#options = options;
  }

  /** How far it has come. */
  tell(progress: Progress): void {
    this.#options.onProgress?.(progress);
  }

  /** Between two steps. */
  async step(progress?: Progress): Promise<void> {
    const { signal } = this.#options;
    if (progress !== undefined) this.tell(progress);
    if (performance.now() - this.#turn > LONGEST_TURN) {
      await new Promise<void>((resolve) => setTimeout(resolve));
      this.#turn = performance.now();
    }
    if (signal?.aborted === true) throw new AnnalsError("cancelled", "given up by the caller", {}, signal.reason);
  }
}
