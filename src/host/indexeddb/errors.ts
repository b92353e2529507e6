import { StorageFailure } from "../storage.js";

/** Carries what a judge threw past those who look for the browser's errors: it may look like one. */
export class JudgeThrew {
  constructor(readonly reason: unknown) {}
}

/** Whether the connection may be gone. A request that changed nothing yet is worth another one. */
export function isLost(error: unknown): boolean {
  return ["InvalidStateError", "AbortError", "UnknownError"].includes(nameOf(error));
}

/** A failure of the browser's, after which nothing is in the log. What is not the browser's stays. */
export function asFailure(error: unknown): unknown {
  if (error instanceof JudgeThrew) return error.reason;
  const name = nameOf(error);
  if (name === "") return error;
  const message = messageOf(error);
  if (name === "QuotaExceededError")
    return new StorageFailure("storage-full", message, { cause: error });
  if (name === "VersionError")
    return new StorageFailure("unknown-format", message, { cause: error });
  return new StorageFailure("storage-failed", message, { retryable: isLost(error), cause: error });
}

/**
 * A transaction that did not complete though all of it was written. A full disk and a constraint
 * undo it; when the connection is lost on the way, nobody can tell.
 */
export function asCommitFailure(error: unknown): unknown {
  if (!isLost(error)) return asFailure(error);
  return new StorageFailure("storage-failed", messageOf(error), {
    retryable: true,
    mayBeApplied: true,
    cause: error,
  });
}

export function unknownFormat(found: string): StorageFailure {
  return new StorageFailure("unknown-format", `expected a store of Annals, found ${found}`);
}

function nameOf(error: unknown): string {
  return error instanceof DOMException ? error.name : "";
}

function messageOf(error: unknown): string {
  const { name, message } = error as DOMException;
  return message === "" ? name : message;
}
