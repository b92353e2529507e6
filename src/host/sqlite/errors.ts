import { StorageFailure, type StorageCode } from "../storage.js";

/** The drivers' names for what went wrong, where we act on it. */
type Problem = "busy" | "full" | "closed" | "unknown-format" | "other";

const BY_NUMBER = new Map<number, Problem>([
  [5, "busy"], // SQLITE_BUSY
  [6, "busy"], // SQLITE_LOCKED: another connection of this process with a shared cache
  [13, "full"],
  [26, "unknown-format"], // SQLITE_NOTADB
]);

const BY_NAME: readonly (readonly [prefix: string, Problem])[] = [
  ["SQLITE_BUSY", "busy"],
  ["SQLITE_LOCKED", "busy"],
  ["SQLITE_FULL", "full"],
  ["SQLITE_NOTADB", "unknown-format"],
  ["ERR_INVALID_STATE", "closed"],
];

/** What `better-sqlite3`, `libsql` and `bun:sqlite` say of a closed connection. */
const CLOSED = /connection is not open|database has closed|closed database/i;

const CODES: Record<Problem, StorageCode> = {
  busy: "storage-busy",
  full: "storage-full",
  closed: "storage-closed",
  "unknown-format": "unknown-format",
  other: "storage-failed",
};

export function isBusy(error: unknown): boolean {
  return problemOf(error) === "busy";
}

/** A failure of the driver, after which nothing is in the log. What is not the driver's stays. */
export function asFailure(error: unknown): unknown {
  const problem = problemOf(error);
  if (problem === undefined) return error;
  return new StorageFailure(CODES[problem], messageOf(error), {
    retryable: problem === "busy",
    cause: error,
  });
}

/**
 * A failed COMMIT. One that found the disk full or the file locked has not written its last frame.
 * After any other the frames may all be in the write-ahead log, where recovery would find them.
 */
export function asCommitFailure(error: unknown): StorageFailure {
  const problem = problemOf(error) ?? "other";
  const known = problem !== "other";
  return new StorageFailure(CODES[problem], messageOf(error), {
    retryable: !known || problem === "busy",
    mayBeApplied: !known,
    cause: error,
  });
}

export function unknownFormat(found: string, cause?: unknown): StorageFailure {
  return new StorageFailure("unknown-format", `expected a store of Annals, found ${found}`, {
    cause,
  });
}

/** `node:sqlite` gives numbers, the others names; of a closed connection some only have words. */
function problemOf(error: unknown): Problem | undefined {
  if (!(error instanceof Error) || error instanceof StorageFailure) return undefined;
  const { code, errcode } = error as { code?: unknown; errcode?: unknown };
  if (typeof errcode === "number") return BY_NUMBER.get(errcode & 0xff) ?? "other";
  if (typeof code === "string") {
    const found = BY_NAME.find(([prefix]) => code.startsWith(prefix));
    return found?.[1] ?? (code.startsWith("SQLITE_") ? "other" : undefined);
  }
  return CLOSED.test(error.message) ? "closed" : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
