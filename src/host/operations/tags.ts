import type { StorageAdapter, StoredEvent } from "../storage.js";
import { isTags } from "./archive.js";
import { SeenTexts } from "./ids.js";
import { PAGE } from "./log.js";

/** A tag of which the store says that events are to come. */
interface OpenTag {
  /** Positions that the store has found by it, and that have not come yet. */
  found: number[];
  /** Up to where it has been asked. */
  asked: number;
  /** How many it is asked for next. */
  limit: number;
}

/** Tags that are looked at together, where the store answers later. */
const TOGETHER = 32;

type Found = (code: "tag-missing" | "tag-surplus", position: number, message: string) => void;

/**
 * Whether events are found by their tags. While the log is read, each tag's events are asked for once,
 * some ahead of the log: an event that has the tag must be the next of these. Tags that nothing is to
 * come of are forgotten.
 */
export class TagCheck {
  readonly #storage: StorageAdapter;
  readonly #epoch: string;
  readonly #found: Found;
  readonly #open = new Map<string, OpenTag>();
  /** Those of which all up to the end that the log had in the beginning have come. */
  readonly #done = new SeenTexts();
  #head = 0;

  constructor(storage: StorageAdapter, epoch: string, found: Found) {
    this.#storage = storage;
    this.#epoch = epoch;
    this.#found = found;
  }

  /** The log ends here now. More may come. */
  start(head: number): void {
    this.#head = head;
  }

  async check(events: readonly StoredEvent[]): Promise<void> {
    const tags = new Map<string, number[]>();
    for (const event of events) {
      if (!isTags(event.tags)) continue;
      for (const tag of new Set(JSON.parse(event.tags) as string[])) {
        const positions = tags.get(tag);
        if (positions === undefined) tags.set(tag, [event.position]);
        else positions.push(event.position);
      }
    }
    const all = [...tags];
    for (let start = 0; start < all.length; start += TOGETHER) {
      await Promise.all(all.slice(start, start + TOGETHER).map(([tag, positions]) => this.#checkTag(tag, positions)));
    }
  }

  /** No more events come. */
  async end(): Promise<void> {
    for (const [tag, { found }] of this.#open) {
      for (const position of found) this.#surplus(tag, position);
    }
  }

  async #checkTag(tag: string, positions: readonly number[]): Promise<void> {
    let open = this.#open.get(tag);
    if (open === undefined) {
      // Only what has come since the beginning may have a tag that was done then.
      const asked = this.#done.has(tag) ? Math.max(this.#head, positions[0]! - 1) : 0;
      this.#open.set(tag, (open = { found: [], asked, limit: 16 }));
    }
    for (const position of positions) {
      while (open.found.length === 0 && open.asked < position) await this.#ask(tag, open, position);
      while (open.found.length > 0 && open.found[0]! < position) {
        this.#surplus(tag, open.found.shift()!);
        if (open.found.length === 0 && open.asked < position) await this.#ask(tag, open, position);
      }
      if (open.found[0] === position) open.found.shift();
      else this.#found("tag-missing", position, `it is not found by its tag ${JSON.stringify(tag)}`);
    }
    if (open.found.length === 0 && open.asked < this.#head) await this.#ask(tag, open, this.#head);
    if (open.found.length > 0 || open.asked < this.#head) return;
    this.#open.delete(tag);
    this.#done.add(tag);
  }

  /** Asks for more of them. Of a store that says that this is the end, nothing more up to there is expected. */
  async #ask(tag: string, open: OpenTag, upTo: number): Promise<void> {
    const filter = { descending: false, types: [], aggregateTypes: [], tags: [tag], correlationId: null };
    const { events, next } = await this.#storage.readLog({ epoch: this.#epoch, after: open.asked, ...filter, limit: open.limit });
    open.found.push(...events.map(({ position }) => position));
    const reached = Math.max(next, events.at(-1)?.position ?? 0);
    open.asked = reached > open.asked ? reached : upTo;
    open.limit = Math.min(2 * open.limit, PAGE);
  }

  #surplus(tag: string, position: number): void {
    this.#found("tag-surplus", position, `it is found by the tag ${JSON.stringify(tag)}, which it does not have`);
  }
}
