import type { StoredDocument } from "../storage.js";
import { isJson } from "./archive.js";

/** What the checkpoint of a view says: a document in the collection `checkpoints`. */
export interface ViewCheckpoint {
  /** The position that the view has come to, a number. */
  readonly position: number;
  /** Whether it has been built. */
  readonly isBuilt: boolean;
  /** Whether it was given up while it was being built. */
  readonly isCancelled: boolean;
  /** Number of events of unknown types that were passed by. */
  readonly skipped: number;
}

/** Reads the checkpoint of a view, for tools that look at a store. */
export function readCheckpoint({ revision, value }: StoredDocument): ViewCheckpoint {
  const { built = false, cancelled = false, skipped = 0 } = Object(isJson(value) ? JSON.parse(value) : null) as {
    readonly built?: boolean;
    readonly cancelled?: boolean;
    readonly skipped?: number;
  };
  return { position: cancelled ? 0 : revision, isBuilt: built, isCancelled: cancelled, skipped };
}
