import type { StreamLoad } from "../storage.js";
import { answerTo, type Stores } from "./connection.js";
import { type DirectoryRecord, hashOf, type StoreState } from "./schema.js";

/** Keys of records that follow each other: the first and the last. */
export type Run = readonly [first: number, last: number];

/** So many records are looked through in about the time that one stream is looked up in. */
const RECORDS_A_STREAM = 8;

/** So many records of each stream may be more than its load has a limit for. */
const MOST_A_STREAM = 16;

/** Records to remember. */
const MOST_RECORDS = 16_384;

interface Known {
  readonly epoch: string;
  readonly head: number;
  readonly records: readonly DirectoryRecord[];
}

const NOTHING: Known = { epoch: "", head: 0, records: [] };

/**
 * Which records have events of which streams, as of a head. The index takes as long for each stream of
 * each record as a store of rows takes for a row. Where many streams are wanted it takes less to read
 * once which of them all records have.
 */
export class Directory {
  #known = NOTHING;

  /** Records with what is wanted, and perhaps others; `null` where it is better to look the streams up. */
  async find({ directory }: Stores, state: StoreState, loads: readonly StreamLoad[]): Promise<Run[] | null> {
    const { epoch, head } = state;
    let known = this.#known.epoch === epoch && this.#known.head <= head ? this.#known : NOTHING;
    const unknown = state.records - known.records.length;
    if (state.records > MOST_RECORDS || unknown > loads.length * RECORDS_A_STREAM) return null;
    if (unknown !== 0) {
      const since = await answerTo<DirectoryRecord[]>(directory.getAll(IDBKeyRange.lowerBound(known.head, true)));
      known = { epoch, head, records: [...known.records, ...since] };
      // One that lacks a record would hide events.
      if (known.records.length !== state.records) return null;
      this.#known = known;
    }
    const wanted = new Map<number, number>();
    for (const load of loads) {
      const stream = hashOf(load);
      wanted.set(stream, Math.min(load.after, wanted.get(stream) ?? Infinity));
    }
    const runs: [number, number][] = [];
    let count = 0;
    let follows = false;
    for (const record of known.records) {
      const { head } = record;
      const isWanted = hasAny(record, wanted);
      if (isWanted) {
        count += 1;
        if (follows) runs.at(-1)![1] = head;
        else runs.push([head, head]);
      }
      follows = isWanted;
    }
    return count > loads.length * MOST_A_STREAM ? null : runs;
  }
}

/** Whether it has events of a stream from the revision on that is wanted of it. */
function hasAny({ streams, revisions }: DirectoryRecord, wanted: ReadonlyMap<number, number>): boolean {
  for (let index = 0; index < streams.length; index += 1) {
    const after = wanted.get(streams[index]!);
    if (after !== undefined && revisions[index]! >= after) return true;
  }
  return false;
}
