import { boundsOf, conflictOf, fromOrdered, isBefore, scanned, toOrdered, without, type OrderedPlace } from "./order.js";
import { countWhile } from "./query.js";
import type {
  Document,
  DocumentConflict,
  DocumentName,
  DocumentScan,
  DocumentsRead,
  Posting,
  ReadDocumentsRequest,
  SaveDocumentsRequest,
  ScannedPage,
  StoredDocument,
} from "./storage.js";

/** The documents of a store in memory. */
export class Documents {
  readonly #collections = new Map<string, Collection>();

  find({ collection, key }: DocumentName): StoredDocument | null {
    return this.#collections.get(collection)?.documents.get(key)?.stored ?? null;
  }

  save({ expected, clear, documents }: SaveDocumentsRequest): DocumentConflict | null {
    const conflict = conflictOf(expected, expected.map((name) => this.find(name)));
    if (conflict !== null) return conflict;
    for (const name of clear) this.#collections.delete(name);
    for (const document of documents) {
      let collection = this.#collections.get(document.collection);
      if (collection === undefined) this.#collections.set(document.collection, (collection = new Collection()));
      collection.write(document);
    }
    return null;
  }

  read({ names, scans }: ReadDocumentsRequest): Omit<DocumentsRead, "head"> {
    return {
      documents: names.map((name) => this.find(name)),
      scans: scans.map((scan) => this.#collections.get(scan.collection)?.scan(scan) ?? scanned()),
    };
  }
}

interface Kept {
  stored: StoredDocument;
  postings: readonly Posting[];
}

interface Entry extends OrderedPlace {
  readonly document: Kept;
}

class Collection {
  readonly documents = new Map<string, Kept>();
  readonly #keys = new Order();
  readonly #indexes = new Map<string, Order>();

  write({ key: name, revision, value, postings: given }: Document): void {
    const key = toOrdered(name);
    const known = this.documents.get(name);
    const before = known?.postings ?? [];
    const postings = value === null ? [] : given;
    for (const [index, at] of without(before, postings)) this.#indexes.get(index)!.remove({ at: toOrdered(at), key });
    if (value === null) {
      this.documents.delete(name);
      this.#keys.remove({ at: key, key });
      return;
    }
    const stored = { revision, value };
    const document = known ?? { stored, postings };
    if (known === undefined) {
      this.documents.set(name, document);
      this.#keys.add({ at: key, key, document });
    } else {
      known.stored = stored;
      known.postings = postings;
    }
    for (const [index, at] of without(postings, before)) {
      let order = this.#indexes.get(index);
      if (order === undefined) this.#indexes.set(index, (order = new Order()));
      order.add({ at: toOrdered(at), key, document });
    }
  }

  scan(scan: DocumentScan): ScannedPage {
    const { index, descending, limit } = scan;
    const bounds = boundsOf(scan);
    const order = index === null ? this.#keys : this.#indexes.get(index);
    if (bounds === null || order === undefined) return scanned();
    const start = order.rank(bounds.from);
    const end = order.rank(bounds.to);
    if (limit === null) return scanned([], false, end - start);
    const found = descending
      ? order.slice(Math.max(start, end - limit), end).reverse()
      : order.slice(start, Math.min(start + limit, end));
    const documents = found.map(({ at, key, document }) => {
      return { at: fromOrdered(at), key: fromOrdered(key), ...document.stored };
    });
    return scanned(documents, end - start > limit);
  }
}

/** A longer run is cut in two. */
const LONGEST_RUN = 512;

/**
 * Entries in order, in runs: short enough that an entry is put in anywhere at once, and few enough
 * that their lengths tell how many entries are before another.
 */
class Order {
  readonly #runs: Entry[][] = [];

  add(entry: Entry): void {
    // What comes after all others goes into the last run.
    const number = Math.min(this.#runOf(entry), Math.max(this.#runs.length - 1, 0));
    const run = (this.#runs[number] ??= []);
    const index = indexIn(run, entry);
    const next = run[index];
    // A posting may be given twice.
    if (next !== undefined && !isBefore(entry, next)) return;
    run.splice(index, 0, entry);
    if (run.length > LONGEST_RUN) this.#runs.splice(number + 1, 0, run.splice(LONGEST_RUN / 2));
  }

  remove(place: OrderedPlace): void {
    const number = this.#runOf(place);
    const run = this.#runs[number];
    if (run === undefined) return;
    const index = indexIn(run, place);
    if (isBefore(place, run[index]!)) return;
    run.splice(index, 1);
    if (run.length === 0) this.#runs.splice(number, 1);
  }

  /** How many entries are before the place; all, if there is none. */
  rank(place: OrderedPlace | null): number {
    const number = place === null ? this.#runs.length : this.#runOf(place);
    let rank = 0;
    for (let index = 0; index < number; index += 1) rank += this.#runs[index]!.length;
    const run = this.#runs[number];
    return run === undefined ? rank : rank + indexIn(run, place!);
  }

  /** The entries of these ranks. */
  slice(start: number, end: number): Entry[] {
    const found: Entry[][] = [];
    let rank = 0;
    for (const run of this.#runs) {
      if (rank >= end) break;
      if (rank + run.length > start) found.push(run.slice(Math.max(start - rank, 0), end - rank));
      rank += run.length;
    }
    return found.flat();
  }

  /** The first run that ends at the place or after it. */
  #runOf(place: OrderedPlace): number {
    return countWhile(this.#runs.length, (index) => isBefore(this.#runs[index]!.at(-1)!, place));
  }
}

function indexIn(run: readonly Entry[], place: OrderedPlace): number {
  return countWhile(run.length, (index) => isBefore(run[index]!, place));
}
