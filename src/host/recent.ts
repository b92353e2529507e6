import { matches } from "./query.js";
import type {
  AppendRequest,
  QueryLoad,
  StoreInfo,
  StreamLoad,
  StreamSlice,
  Verdict,
} from "./storage.js";

export type Stream = Pick<StreamLoad, "aggregateType" | "aggregateId">;

type AsOf = Pick<StoreInfo, "epoch" | "head">;

interface RecentEvent {
  readonly position: number;
  readonly type: string;
  readonly tags: readonly string[];
}

const MOST_STREAMS = 10_000;
const MOST_EVENTS = 2_000;

/**
 * What the adapter has seen of the store, as of a head. A store that still has this head is the
 * same as it was then, so an append need not ask it again, which would be most of its cost.
 */
export class Recent {
  #asOf: AsOf = { epoch: "", head: -1 };
  readonly #revisions = new Map<string, number>();
  /** Those of every position after `#since`. */
  #events: RecentEvent[] = [];
  #since = 0;

  get asOf(): AsOf {
    return this.#asOf;
  }

  revision(stream: Stream): number | undefined {
    return this.#revisions.get(keyOf(stream));
  }

  /** Position of the first event that matches, `null` if there is none, `undefined` if unknown. */
  firstMatch({ query, after }: QueryLoad): number | null | undefined {
    if (after < this.#since) return undefined;
    // Positions have no gaps.
    const match = this.#events
      .slice(after - this.#since)
      .find(({ type, tags }) => query.some((item) => matches(item, type, tags)));
    return match?.position ?? null;
  }

  /** The store was so. Older news is no news: answers may come late. */
  saw({ epoch, head }: AsOf): boolean {
    if (epoch === this.#asOf.epoch && head <= this.#asOf.head) return head === this.#asOf.head;
    this.#asOf = { epoch, head };
    this.#revisions.clear();
    this.#events = [];
    this.#since = head;
    return true;
  }

  /** Streams were read when the store was so. */
  sawStreams(state: AsOf, loads: readonly StreamLoad[], slices: readonly StreamSlice[]): void {
    if (!this.saw(state)) return;
    loads.forEach((stream, index) => this.#keepRevision(stream, slices[index]!.revision));
  }

  /** These commits were judged when the store was so, and it came to this head. */
  sawAppend(
    state: AsOf,
    { commits }: AppendRequest,
    verdicts: readonly Verdict[],
    head: number,
  ): void {
    if (!this.saw(state)) return;
    commits.forEach((commit, index) => {
      const verdict = verdicts[index]!;
      if (verdict.kind !== "committed") return;
      this.#keepRevision(commit, verdict.revision);
      commit.events.forEach(({ type, tags }, index) =>
        this.#events.push({ position: verdict.position + index, type, tags }),
      );
    });
    this.#asOf = { epoch: state.epoch, head };
    if (this.#events.length > MOST_EVENTS) {
      this.#events = this.#events.slice(-MOST_EVENTS / 2);
      this.#since = this.#events[0]!.position - 1;
    }
  }

  #keepRevision(stream: Stream, revision: number): void {
    if (this.#revisions.size >= MOST_STREAMS) this.#revisions.clear();
    this.#revisions.set(keyOf(stream), revision);
  }
}

/** A text for each stream, and never the same for two. */
export function keyOf({ aggregateType, aggregateId }: Stream): string {
  return `${aggregateType.length} ${aggregateType}${aggregateId}`;
}
