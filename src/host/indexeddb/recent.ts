import { countWhile, matches } from "../query.js";
import type { AppendRequest, QueryLoad, Verdict } from "../storage.js";
import type { StoreState } from "./schema.js";

type AsOf = Pick<StoreState, "epoch" | "head">;

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

  revision(aggregateType: string, aggregateId: string): number | undefined {
    return this.#revisions.get(keyOf(aggregateType, aggregateId));
  }

  /** Position of the first event that matches, `null` if there is none, `undefined` if unknown. */
  firstMatch({ query, after }: QueryLoad): number | null | undefined {
    if (after < this.#since) return undefined;
    const events = this.#events;
    for (let index = this.#indexAfter(after); index < events.length; index++) {
      const { position, type, tags } = events[index]!;
      if (query.some((item) => matches(item, type, tags))) return position;
    }
    return null;
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

  /** A stream had this revision when the store was so. */
  sawStream(state: AsOf, aggregateType: string, aggregateId: string, revision: number): void {
    if (this.saw(state)) this.#keepRevision(aggregateType, aggregateId, revision);
  }

  /** These commits were judged when the store was so. */
  sawAppend(state: AsOf, { commits }: AppendRequest, verdicts: readonly Verdict[]): void {
    if (!this.saw(state)) return;
    let { head } = state;
    commits.forEach(({ aggregateType, aggregateId, events }, index) => {
      const verdict = verdicts[index]!;
      if (verdict.kind !== "committed") return;
      this.#keepRevision(aggregateType, aggregateId, verdict.revision);
      events.forEach(({ type, tags }, index) => {
        head = verdict.position + index;
        this.#events.push({ position: head, type, tags });
      });
    });
    this.#asOf = { epoch: state.epoch, head };
    if (this.#events.length > MOST_EVENTS) {
      this.#since = this.#events[this.#events.length - MOST_EVENTS / 2 - 1]!.position;
      this.#events = this.#events.slice(-MOST_EVENTS / 2);
    }
  }

  #keepRevision(aggregateType: string, aggregateId: string, revision: number): void {
    if (this.#revisions.size >= MOST_STREAMS) this.#revisions.clear();
    this.#revisions.set(keyOf(aggregateType, aggregateId), revision);
  }

  #indexAfter(position: number): number {
    return countWhile(this.#events.length, (index) => this.#events[index]!.position <= position);
  }
}

function keyOf(aggregateType: string, aggregateId: string): string {
  return `${aggregateType.length} ${aggregateType}${aggregateId}`;
}
