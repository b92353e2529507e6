import type { Stream } from "../recent.js";
import type { StreamLoad } from "../storage.js";
import { answerTo, type Stores } from "./connection.js";
import type { DirectoryRecord, StoreState, StreamKey } from "./schema.js";

/** Keys of records that follow each other: the first and the last. */
export type Run = readonly [first: number, last: number];

/** So many records are looked through in about the time that one stream is looked up in. */
const RECORDS_A_STREAM = 8;

/** Records to remember: of each stream in them two numbers. */
const MOST_RECORDS = 16_384;

/** A record's streams: hashes of their names, and the last revisions it has of them. */
interface Entry {
  readonly head: number;
  readonly names: readonly number[];
  readonly revisions: readonly number[];
}

interface Known {
  readonly epoch: string;
  readonly head: number;
  readonly entries: readonly Entry[];
}

const NOTHING: Known = { epoch: "", head: 0, entries: [] };

/**
 * Which records have events of which streams, as of a head. For each of them the index takes as long
 * as a store takes for a row, however many streams a record has. Where many streams are wanted it takes
 * less to read once what streams all records have.
 */
export class Directory {
  #known = NOTHING;

  /** Records with what is wanted, and perhaps others; `null` where it is better to look the streams up. */
  async find({ directory }: Stores, state: StoreState, loads: readonly StreamLoad[]): Promise<Run[] | null> {
    const { epoch, head, records } = state;
    let known = this.#known.epoch === epoch && this.#known.head <= head ? this.#known : NOTHING;
    if (records > MOST_RECORDS || records - known.entries.length > loads.length * RECORDS_A_STREAM) return null;
    if (known.head < head) {
      const since = await answerTo<DirectoryRecord[]>(directory.getAll(IDBKeyRange.lowerBound(known.head, true)));
      this.#known = known = { epoch, head, entries: [...known.entries, ...since.map(entryOf)] };
    }
    const wanted = new Map<number, number>();
    for (const load of loads) {
      const name = hashOf(load);
      wanted.set(name, Math.min(load.after, wanted.get(name) ?? Infinity));
    }
    const runs: [number, number][] = [];
    let follows = false;
    for (const { head, names, revisions } of known.entries) {
      const isWanted = names.some((name, index) => revisions[index]! >= (wanted.get(name) ?? Infinity));
      if (isWanted && follows) runs.at(-1)![1] = head;
      else if (isWanted) runs.push([head, head]);
      follows = isWanted;
    }
    return runs;
  }
}

function entryOf({ head, streams }: DirectoryRecord): Entry {
  const keys = JSON.parse(streams) as StreamKey[];
  return {
    head,
    names: keys.map(([aggregateType, aggregateId]) => hashOf({ aggregateType, aggregateId })),
    revisions: keys.map(([, , revision]) => revision),
  };
}

/** Of 30 bits, which V8 keeps in place. Two that are the same cost a record that is read in vain. */
function hashOf({ aggregateType, aggregateId }: Stream): number {
  let hash = aggregateType.length;
  for (const text of [aggregateType, aggregateId])
    for (let index = 0; index < text.length; index += 1)
      hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return hash & 0x3fff_ffff;
}
