/** How snapshots of domains in JavaScript are stored: as those of domains in Rust, see `src/snapshot.rs`. */
import type { StoredDocument } from "./storage.js";

/** The value of the snapshot with this key and revision: the state's JSON with a digest of all three. */
export function withDigest(key: string, revision: number, state: string): string {
  // A key begins with a bracket and ends where its array does: nothing else reads the same.
  return `{"digest":${digestOf(revision + key + state)},"state":${state}}`;
}

/** The state's JSON; empty if `withDigest` has not made the value of the three. */
export function stateIn(key: string, { revision, value }: StoredDocument): string {
  const state = value.slice(value.indexOf(",") + 9, -1);
  return withDigest(key, revision, state) === value ? state : "";
}

/** 53 bits, in two lanes of multiplications modulo 2^32. */
function digestOf(text: string): number {
  let a = 0;
  let b = 0;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    a = Math.imul(a ^ unit, 0x9e3779b1);
    b = Math.imul(b ^ unit, 0x85ebca77);
  }
  return (a >>> 0) * 2 ** 21 + (b >>> 11);
}
