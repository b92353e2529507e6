/** Readers that go on from where they were, while others write. */
import { same } from "../expect.js";
import { commit, event, pause, type Subject } from "../subject.js";
import { positions } from "./words.js";

/** How many events each of the writers appends at once. What is large takes longer. */
const SIZES = [1, 40, 2, 1];

function batchOf(writer: number, round: number) {
  const size = SIZES[writer % SIZES.length]!;
  const data = size > 10 ? { data: JSON.stringify("x".repeat(2000)) } : {};
  const events = Array.from({ length: size }, () => event("Noted", [`writer:${writer}`], data));
  return commit(`w-${writer}`, round * size, events);
}

/**
 * Has every writer append to a stream of its own, so many times, while every reader goes on from where it
 * was: each must have seen every event once, in order, and the store must have all of them.
 */
export async function expectNoneBehind(
  writers: readonly Subject[],
  readers: readonly Subject[],
  rounds: number,
): Promise<void> {
  let writing = true;
  const reading = Promise.all(readers.map((reader) => followed(reader, () => writing)));
  const write = async (subject: Subject, writer: number) => {
    for (let round = 0; round < rounds; round += 1) {
      await subject.accept(batchOf(writer, round));
      // Where it is answered at once, readers wait for this.
      await pause();
    }
  };
  try {
    await Promise.all(writers.map(write));
  } finally {
    writing = false;
  }
  const log = positions(await writers[0]!.log());
  same(log.length, writers.reduce((sum, _, writer) => sum + rounds * SIZES[writer % SIZES.length]!, 0));
  for (const seen of await reading) same(seen, log, "what a reader saw who reads no position twice");
}

/** The positions that a reader sees who goes on from where it was, for as long as others write. */
export async function followed(subject: Subject, goesOn: () => boolean): Promise<number[]> {
  const seen: number[] = [];
  for (let after = 0, isLast = false; ; ) {
    const { events, next, head } = await subject.page({ after, limit: 50 });
    seen.push(...positions(events));
    after = next;
    if (isLast && next === head) return seen;
    // What was written last is read once more.
    isLast = !goesOn();
    await pause();
  }
}
