import { AnnalsError } from "../errors.js";
import { ArchiveReader, totalOf, type ArchiveCheck, type ArchiveHeader, type ArchiveSource } from "./archive.js";
import { Work, type WorkOptions } from "./log.js";
import { Sha256 } from "./sha256.js";

/** What an archive that can be read has in it. */
export interface CheckedArchive {
  readonly header: ArchiveHeader;
  readonly commits: number;
  readonly events: number;
  /** How to go on with an archive that was cut off; `null` if it has its end. */
  readonly unfinished: UnfinishedArchive | null;
}

/** Up to where an archive that was cut off is whole. */
export interface UnfinishedArchive {
  readonly header: ArchiveHeader;
  readonly check: ArchiveCheck;
  /** Length of that part. What comes after it is to be cut off, before {@link exportLog} goes on. */
  readonly bytes: number;
  /** Digest of that part. @internal */
  readonly digest: Sha256;
}

/**
 * Reads an archive without a store, and tells what is in it. Fails with `unreadable-archive` if it has
 * been changed or is of a newer release; one that was cut off is told as such.
 */
export async function checkArchive(source: ArchiveSource, options: WorkOptions = {}): Promise<CheckedArchive> {
  const work = new Work(options);
  const reader = new ArchiveReader(source);
  try {
    const header = await reader.header();
    let unfinished: UnfinishedArchive | null = {
      header,
      check: { commits: 0, events: 0, position: 0, sha256: "" },
      bytes: 0,
      digest: new Sha256(),
    };
    const total = totalOf(header);
    let { commits, events } = unfinished.check;
    try {
      for await (const { check, isEnd, bytes, digest } of reader.blocks()) {
        ({ commits, events } = check);
        unfinished = isEnd ? null : { header, check, bytes, digest };
        await work.step({ done: events, total });
      }
    } catch (error) {
      if (!AnnalsError.is(error, "unreadable-archive") || error.details.problem !== "truncated") throw error;
    }
    return { header, commits, events, unfinished };
  } finally {
    await reader.close();
  }
}
