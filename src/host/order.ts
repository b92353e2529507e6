/**
 * What adapters share about documents: the order of keys and of what they are found under, the range
 * a scan asks for, and what an expectation says.
 */
import type {
  DocumentConflict,
  DocumentExpectation,
  DocumentScan,
  Posting,
  ScannedPage,
  StoredDocument,
} from "./storage.js";

/**
 * A text that compares as the code points of `text` do. JavaScript and IndexedDB compare UTF-16 units,
 * among which surrogates, which stand for the highest code points, are not the last: they change
 * places with those behind them. Most texts have neither and stay as they are.
 */
export const toOrdered = (text: string): string => turn(text, 0xb800);

/** The text of which {@link toOrdered} made this one. */
export const fromOrdered = (text: string): string => turn(text, 0xd000);

/** The units from 0xd800 to the last, 0x2800 of them, as a ring that begins elsewhere. */
function turn(text: string, start: number): string {
  return text.replace(/[\ud800-\uffff]/g, (unit) =>
    String.fromCharCode(0xd800 + ((unit.charCodeAt(0) - start) % 0x2800)),
  );
}

/** Where something is in the order of a scan. Both texts are ordered ones. */
export interface OrderedPlace {
  /** The index's value; the key, if the order is that of the keys. */
  readonly at: string;
  readonly key: string;
}

export function isBefore(a: OrderedPlace, b: OrderedPlace): boolean {
  return a.at < b.at || (a.at === b.at && a.key < b.key);
}

/** From a place on, up to another, which is not in it. In the order of the keys `at` is enough. */
export interface Bounds {
  readonly from: OrderedPlace;
  readonly to: OrderedPlace | null;
}

/** All that a scan may give or count. `null`: nothing can be there. */
export function boundsOf({ index, from: low, to: high, after, descending }: DocumentScan): Bounds | null {
  const place = (at: string, key = ""): OrderedPlace => ({ at: toOrdered(at), key: toOrdered(key) });
  let from = place(low ?? "");
  let to = high === null ? null : place(high);
  if (after !== null) {
    // No text is between one and the same with a NUL behind it.
    const key = descending ? after.key : `${after.key}\0`;
    const end = index === null ? place(key) : place(after.at, key);
    if (!descending) from = isBefore(from, end) ? end : from;
    else if (to === null || isBefore(end, to)) to = end;
  }
  return to === null || isBefore(from, to) ? { from, to } : null;
}

/** What a scan gives, or counts. */
export function scanned(documents: ScannedPage["documents"] = [], more = false, count = 0): ScannedPage {
  return { documents, more, count };
}

/** The first expectation that does not hold, if these are the documents of all of them. */
export function conflictOf(
  expected: readonly DocumentExpectation[],
  found: readonly (StoredDocument | null)[],
): DocumentConflict | null {
  const actual = (index: number) => found[index]?.revision ?? 0;
  const index = expected.findIndex(({ revision }, index) => revision !== actual(index));
  return index < 0 ? null : { index, actual: actual(index) };
}

/** Those postings that are not among the others. */
export function without(postings: readonly Posting[], others: readonly Posting[]): Posting[] {
  return postings.filter(([index, value]) => !others.some(([name, at]) => name === index && at === value));
}
