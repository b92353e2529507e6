import { isJson } from "./archive.js";

/** What a view's checkpoint says besides its revision. */
export interface CheckpointText {
  /** Whether the view has been built. */
  readonly built?: boolean;
  /** Whether it was given up while it was being built. */
  readonly cancelled?: boolean;
  /** Number of events of unknown types that were passed by. */
  readonly skipped?: number;
}

/** What a checkpoint's text says; nothing, if it is not one. */
export function checkpointOf(text: string): CheckpointText {
  const value: unknown = isJson(text) ? JSON.parse(text) : null;
  return typeof value === "object" && value !== null ? value : {};
}

/** The position that a view has come to: its checkpoint's revision, but where it was given up. */
export function positionOf({ revision, value }: { readonly revision: number; readonly value: string }): number {
  return checkpointOf(value).cancelled === true ? 0 : revision;
}
