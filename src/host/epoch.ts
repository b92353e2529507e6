import { StorageFailure } from "./storage.js";

/** Identity of a new store. Not `randomUUID`: pages that don't come over TLS lack it. */
export function newEpoch(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Every request says which store it believes it talks to. */
export function checkEpoch(asked: string, found: string): void {
  if (asked !== found) {
    throw new StorageFailure("foreign-epoch", `expected the store ${asked}, found ${found}`);
  }
}
