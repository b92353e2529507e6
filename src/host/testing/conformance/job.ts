/** What rules have done in another process: questions and answers are JSON. */
import type { Commit, StorageAdapter, Verdict } from "../../storage.js";
import { commit, event, pause, Subject } from "./subject.js";

/** Something to do with a store. */
export type Job =
  /** Appends these, at this time. */
  | { readonly kind: "append"; readonly commits: readonly Commit[]; readonly now: number }
  /** Appends to a stream that others append to as well, until it has won so many times. */
  | { readonly kind: "race"; readonly aggregateId: string; readonly times: number }
  /** Adds one to a document that others add to as well, so many times. */
  | { readonly kind: "count"; readonly times: number }
  /** Holds a name to the end of its process. */
  | { readonly kind: "hold" };

export interface Report {
  /** What came of an append. */
  readonly verdicts?: readonly Verdict[];
  /** The name that is held. */
  readonly name?: string;
}

/** Does a job on a store that is used by others too, and closes it. */
export async function perform(storage: StorageAdapter, job: Job): Promise<Report> {
  const subject = await Subject.open(storage);
  try {
    switch (job.kind) {
      case "append":
        subject.now = job.now;
        return { verdicts: await patiently(() => subject.append(job.commits)) };
      case "race":
        await race(subject, job.aggregateId, job.times);
        return {};
      case "count":
        await countTo(subject, job.times);
        return {};
      case "hold":
        return { name: (await subject.presence.hold()).name };
    }
  } finally {
    await storage.close();
  }
}

/** Appends to a stream that others append to as well, until it has won so many times. */
export async function race(subject: Subject, aggregateId: string, times: number): Promise<void> {
  for (let won = 0; won < times;) {
    const { revision } = await subject.slice("Appointment", aggregateId, { limit: 1 });
    const [verdict] = await patiently(() => subject.append([commit(aggregateId, revision, [event()])]));
    if (verdict!.kind === "committed") won += 1;
    else if (verdict!.kind !== "conflict" || verdict!.reason !== "revision" || verdict!.at <= revision) {
      throw new Error(`expected a conflict beyond revision ${revision}, found ${JSON.stringify(verdict)}`);
    }
    // Whoever appends without a pause starves the others.
    await pause();
  }
}

const SUM = { collection: "agenda", key: "sum" };

/** Adds one to a document that others add to as well, so many times. */
export async function countTo(subject: Subject, times: number): Promise<void> {
  for (let done = 0; done < times;) {
    const [found] = (await subject.read({ names: [SUM] })).documents;
    const revision = found?.revision ?? 0;
    const value = String(Number(found?.value ?? 0) + 1);
    const change = { expected: [{ ...SUM, revision }], documents: [{ ...SUM, revision: revision + 1, value }] };
    const conflict = await patiently(() => subject.change(change));
    if (conflict === null) done += 1;
    else if (conflict.index !== 0 || conflict.actual <= revision) {
      throw new Error(`expected a conflict beyond revision ${revision}, found ${JSON.stringify(conflict)}`);
    }
    await pause();
  }
}

/** What that document has come to. */
export async function countOf(subject: Subject): Promise<number> {
  const [found] = (await subject.read({ names: [SUM] })).documents;
  return Number(found?.value ?? 0);
}

/** Others may have the lock for all the time an adapter waits: then nothing was done, and it is asked again. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const { code, mayBeApplied } = error as { readonly code?: unknown; readonly mayBeApplied?: unknown };
      if (code !== "storage-busy" || mayBeApplied !== false) throw error;
    }
  }
}
