import { invalidArgument } from "./errors.js";
import { StorageFailure } from "./storage.js";

/** Identity of a new store. Not `randomUUID`: pages that don't come over TLS lack it. */
export function newEpoch(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What a position that was given out says. */
export function placeOf(position: string): { readonly epoch: string; readonly number: number } {
  const [, epoch = "", digits] = /^(.+):(\d+)$/.exec(String(position)) ?? [];
  const number = Number(digits);
  if (Number.isSafeInteger(number)) return { epoch, number };
  throw invalidArgument(`expected a position, found ${JSON.stringify(position)}`);
}

/** Every request says which store it believes it talks to. */
export function checkEpoch(asked: string, found: string): void {
  if (asked !== found) {
    throw new StorageFailure("foreign-epoch", `expected the store ${asked}, found ${found}`);
  }
}
