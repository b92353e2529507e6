/** Projections folded in memory, at once: events in, documents out, without an engine and a store. */
import { Documents } from "../documents.js";
import type { InlineEvent, Projection, ViewKind } from "../domain.js";
import { AnnalsError, invalidArgument } from "../errors.js";
import { fromOrdered, toOrdered } from "../order.js";
import { copyOf, reasonOf } from "../payload.js";
import type { DocumentScan, ScannedPage } from "../storage.js";
import { Drafts, type LoggedEvent, type ProjectionFunctions, take, type Written, writtenIn } from "./projection.js";
import { cursorAfter, type DocumentPage, type DocumentRange, limitOf, type Listing, rangeOf, text } from "./reader.js";

/** What a projection makes of events, in memory. It is asked as a view is, and answers at once. */
export interface FoldedView<Document> {
  /** The document with this key, frozen; `undefined` if there is none. */
  get(key: string): Document | undefined;
  /** Documents in order of key, or of an index's values and then key. All of them, unless there is a limit. */
  list(options?: DocumentPage): Listing<Document>;
  /** Number of documents. */
  count(options?: DocumentRange): number;
}

/**
 * The documents that a projection makes of events, and of nothing before them: those of its view, were
 * these the events of the log. Types of events that it has no function for are passed by.
 *
 * ```ts
 * const { events } = await engine.history(appointment, "a-1");
 * fold(agenda, events).list({ index: "start" });
 * ```
 *
 * An event that can't be taken in is an error with the code `domain-failed`, which names it.
 */
export function fold<Document>(
  projection: Projection<Document>,
  events: Iterable<InlineEvent>,
): FoldedView<Document> {
  if (typeof projection?.fold !== "function") throw invalidArgument("expected a projection");
  return projection.fold(events);
}

export function foldEvents(
  name: string,
  kind: ViewKind,
  functions: ProjectionFunctions,
  events: Iterable<InlineEvent>,
): FoldedView<unknown> {
  const all = [...events];
  // Nothing is there at the beginning.
  const drafts = new Drafts({ get: () => null });
  try {
    for (const [index, event] of all.entries()) {
      drafts.position = index;
      take(functions, drafts, seen(event, kind));
    }
    const written = writtenIn(drafts, functions, (index) => (drafts.position = index));
    return new Folded(name, Object.keys(functions.indexes), drafts, written);
  } catch (error) {
    const { type, stream, revision } = all[drafts.position]!;
    const what = `${type} of ${stream.type}/${stream.id}@${revision}`;
    throw new AnnalsError("domain-failed", `projection ${name} can't take in ${what}: ${reasonOf(error)}`, {}, error);
  }
}

/** The event as the functions get it: its data is a copy, which nobody else has. */
function seen(event: InlineEvent & Partial<LoggedEvent>, kind: ViewKind): InlineEvent {
  const { type, data, stream, revision, issuedAt, actor, position, recordedAt } = event;
  const known = { type, data: copyOf(data), stream, revision, issuedAt, actor };
  if (kind === "inline") return known;
  return position === undefined ? new Unrecorded(known) : ({ ...known, position, recordedAt } as LoggedEvent);
}

/** An event that the store may not have yet, for functions that may ask where and since when it is there. */
class Unrecorded implements InlineEvent {
  declare readonly type: string;
  declare readonly data: unknown;
  declare readonly stream: InlineEvent["stream"];
  declare readonly revision: number;
  declare readonly issuedAt: string;
  declare readonly actor: string | null;

  constructor(known: InlineEvent) {
    Object.assign(this, known);
  }

  get position(): never {
    throw new Error("an event has no position before the store has it");
  }

  get recordedAt(): never {
    throw new Error("an event has no recordedAt before the store has it");
  }
}

/** The one collection that the documents are in. */
const COLLECTION = "";

class Folded implements FoldedView<unknown> {
  readonly #name: string;
  readonly #indexes: readonly string[];
  readonly #drafts: Drafts;
  readonly #written: readonly Written[];
  /** Made when an order is first asked for. */
  #documents: Documents | undefined;

  constructor(name: string, indexes: readonly string[], drafts: Drafts, written: readonly Written[]) {
    this.#name = name;
    this.#indexes = indexes;
    this.#drafts = drafts;
    this.#written = written;
  }

  get(key: string): unknown {
    return this.#drafts.at(text("key", key));
  }

  list(options: DocumentPage = {}): Listing<unknown> {
    const { documents, more } = this.#scan(options, limitOf(options) ?? Infinity);
    return {
      documents: documents.map(({ key }) => ({ key, document: this.#drafts.at(key) })),
      cursor: more ? cursorAfter(documents) : null,
    };
  }

  count(options: DocumentRange = {}): number {
    return this.#scan(options, null).count;
  }

  #scan(options: DocumentPage, limit: number | null): ScannedPage {
    const { index, only, isPrefix, after, descending, ...range } = rangeOf(options);
    if (index !== null && !this.#indexes.includes(index)) {
      const details = { projection: this.#name, index };
      throw new AnnalsError("unknown-index", `projection "${this.#name}" has no index "${index}"`, details);
    }
    const [from, to] = only === null ? [range.from, range.to] : [only, isPrefix ? endOfPrefix(only) : `${only}\0`];
    const scan: DocumentScan = { collection: COLLECTION, index, from, to, after, descending, limit };
    return (this.#documents ??= this.#ordered()).read({ epoch: "", names: [], scans: [scan] }).scans[0]!;
  }

  #ordered(): Documents {
    const documents = new Documents();
    const written = this.#written.map(({ key, text, postings }) => {
      return { collection: COLLECTION, key, revision: 0, value: text, postings };
    });
    documents.save({ epoch: "", expected: [], clear: [], documents: written });
    return documents;
  }
}

/** The first text that does not begin so any more; `null` if all after it do. */
function endOfPrefix(prefix: string): string | null {
  for (let begin = toOrdered(prefix); begin !== ""; begin = begin.slice(0, -1)) {
    const last = begin.charCodeAt(begin.length - 1);
    if (last < 0xffff) return fromOrdered(begin.slice(0, -1) + String.fromCharCode(last + 1));
  }
  return null;
}
