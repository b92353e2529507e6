import type { Driver } from "../driver.js";
import type { Position } from "../engine.js";
import { cancelled } from "../driver.js";
import { AnnalsError, invalidArgument } from "../errors.js";
import { deepFreeze, isWellFormed, reasonOf } from "../payload.js";
import type { AbortSignal } from "../platform.js";
import { Input, ViewAction, type Reader as WireReader, type Writer } from "../wire.js";
import { type IndexValue, indexValue } from "./projection.js";

/** As of when a view is asked. */
export interface ViewOptions {
  /**
   * As it was after this position, or after what was recorded at or before this time. It is folded from
   * the log for this question, in memory.
   */
  readonly at?: { readonly position: Position } | { readonly time: Date | string };
  /**
   * When it has taken in this position: what a command's outcome gives, to read one's own writes.
   * `null`, which a command that appends nothing gives, is nothing to wait for.
   */
  readonly after?: Position | null;
  /** When it has taken in all that is in the log now. */
  readonly latest?: boolean;
  readonly signal?: AbortSignal;
}

/** Which documents: without an index by key, with one by its values. */
export interface DocumentRange {
  /** The index. */
  readonly index?: string;
  /** Those with this key or value. */
  readonly equals?: IndexValue;
  /** Those whose key or text begins so. */
  readonly prefix?: string;
  /** From this key or value on … */
  readonly from?: IndexValue;
  /** … up to this one, which is not among them. */
  readonly to?: IndexValue;
}

/** Which documents, and how many of them from where on. */
export interface DocumentPage extends DocumentRange {
  /** Where to go on: the `cursor` of the page before. */
  readonly cursor?: string | null;
  /** From the last to the first. */
  readonly descending?: boolean;
  /** Most documents to give. Default: 100; of what is in memory all. */
  readonly limit?: number;
}

/** Which documents of a view, and as of when. */
export interface RangeOptions extends DocumentRange, ViewOptions {}

/** Which documents of a view, how many of them from where on, and as of when. */
export interface ListOptions extends DocumentPage, ViewOptions {}

/** A document and its key. */
export interface Listed<Document> {
  readonly key: string;
  /** The document, frozen. */
  readonly document: Document;
}

/** A page of documents. */
export interface Listing<Document> {
  /** In the order that was asked for. One with several values in an index comes under each. */
  readonly documents: readonly Listed<Document>[];
  /** Where the next page goes on; `null` if this is the last. */
  readonly cursor: string | null;
}

/** How a view is. */
export interface ViewStatus {
  /** Version of the documents that are given; 0 if none can be given yet. */
  readonly version: number;
  /** Up to where this release's version has taken the log in. */
  readonly position: Position;
  /** How much of the log that is, from 0 to 1. */
  readonly progress: number;
  /** Whether this release's version is being built. An older one is given until then. */
  readonly building: boolean;
  /** Whether this engine takes nothing more in. */
  readonly paused: boolean;
  /** Where and why it has stopped; one that was cancelled has at the beginning. */
  readonly stopped: { readonly position: Position; readonly reason: string } | null;
  /**
   * Number of events up to `position` that were passed by, for their types are unknown to this release: as
   * the projection's `unknownEvents` says, or else their aggregate's.
   */
  readonly skipped: number;
}

/** Asks a view. */
export interface ViewReader<Document> {
  /** The document with this key, frozen; `undefined` if there is none. */
  get(key: string, options?: ViewOptions): Promise<Document | undefined>;
  /** Documents in order of key, or of an index's values and then key. */
  list(options?: ListOptions): Promise<Listing<Document>>;
  /** Number of documents. */
  count(options?: RangeOptions): Promise<number>;
  /** How the view is. */
  status(options?: ViewOptions): Promise<ViewStatus>;
  /** Waits until the view has taken in this position. Rejects if it stops before. */
  waitFor(position: Position | null, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /**
   * What the query gives, now and whenever it gives something else. Leaving the loop ends it.
   *
   * ```ts
   * for await (const day of engine.view(agenda).watch((view) => view.get("doctor-7"))) show(day);
   * ```
   */
  watch<Result>(
    query: (view: ViewReader<Document>) => Promise<Result>,
    options?: { readonly signal?: AbortSignal },
  ): AsyncGenerator<Result, void, undefined>;
  /** Takes nothing more in until it is resumed. A rebuild is held up so. */
  pause(): void;
  /** Goes on. A view that has stopped tries again, and one that was cancelled is built from the beginning. */
  resume(): void;
  /**
   * Gives up the view if it is being built: what has been built of this version is taken away, and no engine
   * goes on with it, not even one that is opened later, until one is told to `resume`. An older version is
   * shown as before. Resolves with how it is then: stopped. One that has been built is left as it is.
   */
  cancel(): Promise<ViewStatus>;
}

/** What a reader needs of the engine. */
export interface Access {
  readonly driver: Driver;
  numberOf(position: Position): number;
  millis(time: Date | string): number;
}

interface ViewRead {
  readonly documents: readonly { readonly at: string; readonly key: string; readonly text: string }[];
  readonly more: boolean;
  readonly count: number;
  readonly status: ViewStatus;
}

const STATUS = (message: Writer) => void message.word(2);

export class Reader implements ViewReader<unknown> {
  readonly #access: Access;
  readonly #name: string;

  constructor(access: Access, name: string) {
    this.#access = access;
    this.#name = name;
  }

  async get(key: string, options?: ViewOptions): Promise<unknown> {
    const wanted = text("key", key);
    const read = await this.#ask(options, (message) => void message.word(0).str(wanted));
    return this.#documents(read)[0]?.document;
  }

  async list(options: ListOptions = {}): Promise<Listing<unknown>> {
    const read = await this.#ask(options, scan(options, limitOf(options) ?? 100));
    const { documents, more } = read;
    return { documents: this.#documents(read), cursor: more ? cursorAfter(documents) : null };
  }

  async count(options: RangeOptions = {}): Promise<number> {
    return (await this.#ask(options, scan(options, null))).count;
  }

  async status(options?: ViewOptions): Promise<ViewStatus> {
    return (await this.#ask(options, STATUS)).status;
  }

  async waitFor(after: Position | null, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#ask({ after, ...(signal && { signal }) }, STATUS);
  }

  async *watch<Result>(
    query: (view: ViewReader<unknown>) => Promise<Result>,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<Result, void, undefined> {
    let last: string | undefined | null = null;
    let wake = () => {};
    const onMoved = () => wake();
    const stop = this.#access.driver.watch(this.#name, onMoved);
    signal?.addEventListener("abort", onMoved);
    try {
      for (;;) {
        if (signal?.aborted === true) throw cancelled(signal);
        const moved = new Promise<void>((resolve) => (wake = resolve));
        const found = await query(this);
        const shown = JSON.stringify(found);
        if (shown !== last) yield found;
        last = shown;
        await holding(moved);
      }
    } finally {
      stop();
      signal?.removeEventListener("abort", onMoved);
    }
  }

  pause(): void {
    this.#access.driver.control(this.#name, ViewAction.Pause);
  }

  resume(): void {
    this.#access.driver.control(this.#name, ViewAction.Resume);
  }

  cancel(): Promise<ViewStatus> {
    this.#access.driver.control(this.#name, ViewAction.Cancel);
    return this.status();
  }

  #ask(options: ViewOptions = {}, write: (message: Writer) => void): Promise<ViewRead> {
    const { at, after, latest, signal } = options;
    const { driver, numberOf, millis } = this.#access;
    const waits = after !== undefined && after !== null;
    const past = at as { readonly position?: Position; readonly time: Date | string } | undefined;
    const which: readonly [number, number?] =
      past?.position !== undefined ? [3, numberOf(past.position)]
      : past !== undefined ? [4, millis(past.time)]
      : waits ? [1, numberOf(after)]
      : [latest === true ? 2 : 0];
    const asked = driver.ask(
      Input.ReadView,
      this.#name,
      signal,
      (message) => write(message.choice(which)),
      (output) => readView(output, driver.epoch),
    );
    return waits ? holding(asked) : asked;
  }

  #documents({ documents }: ViewRead): Listed<unknown>[] {
    return documents.map(({ key, text }) => {
      try {
        return { key, document: deepFreeze(JSON.parse(text)) };
      } catch (error) {
        const details = { projection: this.#name, key };
        const reason = `document ${key} of projection ${this.#name} can't be read: ${reasonOf(error)}`;
        throw new AnnalsError("unreadable-document", reason, details, error);
      }
    });
  }
}

/** Node ends a process that has nothing to do. Waiting for an event is something. */
async function holding<Result>(waiting: Promise<Result>): Promise<Result> {
  const hold = setInterval(() => undefined, 0x7fff_ffff);
  try {
    return await waiting;
  } finally {
    clearInterval(hold);
  }
}

/** A range as texts. */
interface Range {
  readonly index: string | null;
  /** The key or value that all have, or the text that all begin with. */
  readonly only: string | null;
  readonly isPrefix: boolean;
  readonly from: string | null;
  readonly to: string | null;
  readonly after: { readonly at: string; readonly key: string } | null;
  readonly descending: boolean;
}

/** What is wrong with a range is found here. */
export function rangeOf({ index, equals, prefix, from, to, cursor, descending }: DocumentPage): Range {
  const value = (given: IndexValue) => (index === undefined ? text("key", given) : indexValue(index, given));
  return {
    index: optional(index, (given) => text("index", given)),
    only: optional(equals === undefined ? prefix : equals, value),
    isPrefix: equals === undefined,
    from: optional(from, value),
    to: optional(to, value),
    after: optional(cursor ?? undefined, placeOf),
    descending: descending === true,
  };
}

export function limitOf({ limit }: DocumentPage): number | undefined {
  if (limit === undefined || (Number.isSafeInteger(limit) && limit >= 1 && limit <= 0xffff_ffff)) return limit;
  throw invalidArgument("expected a limit of at least 1");
}

/** The cursor after a page, if it is not the last. */
export function cursorAfter(documents: readonly { readonly at: string; readonly key: string }[]): string | null {
  const last = documents.at(-1);
  return last === undefined ? null : JSON.stringify([last.at, last.key]);
}

/** Without a limit only the number of a range's documents is asked. */
function scan(options: DocumentPage, limit: number | null): (message: Writer) => void {
  const { index, only, isPrefix, from, to, after, descending } = rangeOf(options);
  return (message) => {
    const write = (written: string) => void message.str(written);
    message.word(1).option(index, write);
    if (only === null) message.word(0).option(from, write).option(to, write);
    else message.word(isPrefix ? 2 : 1).str(only);
    message.option(after, ({ at, key }) => message.str(at).str(key)).flag(descending);
    message.option(limit, (most) => message.word(most));
  };
}

function optional<Given, Made>(given: Given | undefined, make: (given: Given) => Made): Made | null {
  return given === undefined ? null : make(given);
}

function placeOf(cursor: string): { readonly at: string; readonly key: string } {
  try {
    const [at, key] = JSON.parse(cursor) as unknown[];
    if (typeof at === "string" && typeof key === "string") return { at, key };
  } catch {
    // It is none.
  }
  throw invalidArgument(`expected a cursor, found ${JSON.stringify(cursor)}`);
}

export function text(what: string, value: unknown): string {
  if (typeof value === "string" && isWellFormed(value)) return value;
  throw invalidArgument(`expected a string of whole characters as ${what}, found ${typeof value}`);
}

function readView(output: WireReader, epoch: string): ViewRead {
  const position = (number: number) => `${epoch}:${number}` as Position;
  output.number();
  const documents = output.list(() => {
    const [at, key] = [output.str(), output.str()];
    output.number();
    return { at, key, text: output.str() };
  });
  const more = output.flag();
  const count = output.number();
  const version = output.word();
  const [reached, head] = [output.number(), output.number()];
  const status = {
    version,
    position: position(reached),
    progress: head === 0 ? 1 : reached / head,
    building: output.flag(),
    paused: output.flag(),
    stopped: output.option(() => ({ position: position(output.number()), reason: output.str() })),
    skipped: output.word(),
  };
  return { documents, more, count, status };
}
