// Takes one defect of Chromium's out of the tests in which it is killed, and nothing else.
//
// A process that is killed between two writes to a log of LevelDB leaves an incomplete record at its end.
// The next one reads the log up to there, as it should, but then goes on writing behind what is
// incomplete. The one after that finds a broken log, and Chromium deletes the whole database:
// https://github.com/google/leveldb/issues/1287. Of kills under constant writing it was one or two in a hundred. No
// page can do anything about it; the guide says so. Here the log is cut where its last record ends.

import { readdir, readFile, truncate } from "node:fs/promises";
import path from "node:path";

/** Cuts the logs of the IndexedDB databases in a browser's profile, and tells how many of them needed it. */
export async function mendLogs(profile) {
  const root = path.join(profile, "Default/IndexedDB");
  const names = await readdir(root, { recursive: true }).catch(() => []);
  let mended = 0;
  for (const name of names) {
    if (!/\.leveldb[\\/](\d+\.log|MANIFEST-\d+)$/.test(name)) continue;
    const file = path.join(root, name);
    const log = await readFile(file);
    const end = endOfRecords(log);
    if (end === log.length) continue;
    await truncate(file, end);
    mended += 1;
  }
  return mended;
}

const BLOCK = 32_768;
const HEADER = 7;
const [FULL, LAST] = [1, 4];

/** Where the last complete record ends. Records are in parts, none of which crosses a block's end. */
function endOfRecords(log) {
  let end = 0;
  let at = 0;
  while (at + HEADER <= log.length) {
    const left = BLOCK - (at % BLOCK);
    if (left < HEADER) {
      // No part begins so close to the end of a block.
      at += left;
      continue;
    }
    const type = log[at + 6];
    at += HEADER + log.readUInt16LE(at + 4);
    if (at <= log.length && (type === FULL || type === LAST)) end = at;
  }
  return end;
}
