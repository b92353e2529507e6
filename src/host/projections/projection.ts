import type { AnyAggregate, InlineEvent, Message, Projection, ViewKind } from "../domain.js";
import { type Driver, unreadable } from "../driver.js";
import { AnnalsError, invalidArgument } from "../errors.js";
import type { Position } from "../engine.js";
import { deepFreeze, isWellFormed, reasonOf, toPayload } from "../payload.js";
import type { StoredEvent } from "../storage.js";
import { EventError } from "../upcast.js";
import { Projected, type Reader as WireReader, type Writer } from "../wire.js";
import { foldEvents } from "./fold.js";
import { Reader } from "./reader.js";

/** What a document is found under in an index. All numbers come before all texts. */
export type IndexValue = string | number | boolean;

/** Names of indexes, and what a document is found under in each: nothing, one value or several. */
export type Indexes<Document> = {
  readonly [name: string]: (document: Document) => IndexValue | readonly IndexValue[] | undefined;
};

/** The documents of a view, while an event is taken in. */
export interface View<Document> {
  /** The document with this key, frozen; `undefined` if there is none. */
  get(key: string): Document | undefined;
  /** Puts a document in the place of what is there, if anything. */
  set(key: string, document: Document): void;
  /** Puts what `change` makes of the document with this key in its place. */
  update(key: string, change: (document: Document | undefined) => Document): void;
  /** Takes a document away, if there is one. */
  delete(key: string): void;
}

/** An event of the log. */
export type LoggedEvent<Event extends Message = Message> = InlineEvent<Event> & {
  readonly position: Position;
  /** When the store took it: ISO 8601, UTC. */
  readonly recordedAt: string;
};

interface Common<Document> {
  /**
   * Version of the documents, from 1. Raise it whenever the functions, the documents' form or upcasters
   * of the events change: the view is then built anew beside the old one, which is shown until then.
   */
  readonly version: number;
  /** What documents are found under besides their keys. */
  readonly indexes?: Indexes<Document>;
  /** Of which aggregates it is made. With `unknownEvents`: all their events are read, and none of others. */
  readonly aggregates?: readonly AnyAggregate[];
  /**
   * What happens where an event of `aggregates` has a type that its aggregate does not know, for a later
   * release has written it. `fail`: the view stops before it, and says so. `skip`: it is passed by, counts as
   * `skipped` in the view's status, and `onReport` is told. By default only events of the types in `on` are
   * read, so such types are never seen.
   */
  readonly unknownEvents?: "fail" | "skip";
}

/** A projection whose view has taken a command's events in when its outcome comes. */
export interface InlineProjection<Document, Event extends Message> extends Common<Document> {
  readonly kind: "inline";
  readonly on: {
    readonly [Type in Event["type"]]?: (
      view: View<Document>,
      event: InlineEvent<Extract<Event, { readonly type: Type }>>,
    ) => void;
  };
}

/** A projection of the log: behind it as little as it can (`async`), or as of when it is asked (`live`). */
export interface LoggedProjection<Document, Event extends Message> extends Common<Document> {
  /** Default: `async`. */
  readonly kind?: "async" | "live";
  readonly on: {
    readonly [Type in Event["type"]]?: (
      view: View<Document>,
      event: LoggedEvent<Extract<Event, { readonly type: Type }>>,
    ) => void;
  };
}

/**
 * Defines a read model: what documents are made of events. The functions are pure and synchronous:
 * they may be called several times for one event, and while documents are being loaded what they do
 * is thrown away.
 *
 * ```ts
 * type Booked = Message<"AppointmentBooked", { doctor: string }>;
 *
 * const workload = projection<{ appointments: number }, Booked>("workload", {
 *   version: 1,
 *   on: {
 *     AppointmentBooked(view, { data }) {
 *       view.update(data.doctor, (day) => ({ appointments: (day?.appointments ?? 0) + 1 }));
 *     },
 *   },
 *   indexes: { appointments: ({ appointments }) => appointments },
 * });
 * ```
 */
export function projection<Document, Event extends Message>(
  name: string,
  definition: InlineProjection<Document, Event> | LoggedProjection<Document, Event>,
): Projection<Document> {
  const { version, kind = "async", on, indexes = {}, aggregates = [], unknownEvents } = definition ?? {};
  if (!Number.isInteger(version) || version < 1 || version > 0xffff_ffff) {
    throw invalidArgument(`projection ${name}: expected a version of at least 1`);
  }
  if (kind !== "async" && kind !== "inline" && kind !== "live") {
    throw invalidArgument(`projection ${name}: expected async, inline or live as kind, found ${String(kind)}`);
  }
  const functions = Object.entries({ ...on, ...indexes });
  if (Object.keys(on ?? {}).length === 0 || functions.some(([, call]) => typeof call !== "function")) {
    throw invalidArgument(`projection ${name}: expected functions by the types of events`);
  }
  const skips = unknownEvents === undefined ? undefined : unknownEvents === "skip";
  if (skips === false && unknownEvents !== "fail") {
    throw invalidArgument(`projection ${name}: expected fail or skip as unknownEvents, found ${String(unknownEvents)}`);
  }
  const isAggregate = (known: AnyAggregate | undefined) => known?.functions !== undefined;
  if (!Array.isArray(aggregates) || !aggregates.every(isAggregate) || aggregates.length > 0 !== (skips !== undefined)) {
    throw invalidArgument(`projection ${name}: expected unknownEvents together with aggregates`);
  }
  return define(name, version, kind, { on: on as Handlers, indexes: indexes as Indexes<unknown> }, aggregates, skips);
}

/** Names a projection that the module defines in Rust, with the type of its documents. */
export function nativeProjection<Document>(name: string): Projection<Document> {
  return define(name, 1, "async", null);
}

type Handlers = { readonly [type: string]: (view: View<unknown>, event: never) => void };

/** The functions of a projection. */
export interface ProjectionFunctions {
  readonly on: Handlers;
  readonly indexes: Indexes<unknown>;
}

export function define<Document>(
  name: string,
  version: number,
  kind: ViewKind,
  functions: ProjectionFunctions | null,
  aggregates: readonly AnyAggregate[] = [],
  skips?: boolean,
): Projection<Document> {
  const { on, indexes } = functions ?? { on: {}, indexes: {} };
  return Object.freeze({
    name,
    version,
    kind,
    functions,
    types: aggregates.length > 0 ? [] : Object.keys(on),
    aggregates,
    indexes: Object.keys(indexes),
    project: (output: WireReader, events: readonly StoredEvent[], epoch: string, driver: Driver) =>
      project({ on, indexes }, kind, output, events, epoch, (event) => todayOf(event, driver, skips)),
    postings: (document: unknown) => postingsOf(indexes, document),
    reader: (access: ConstructorParameters<typeof Reader>[0]) => new Reader(access, name) as never,
    fold: (events: Iterable<InlineEvent>) => {
      if (functions === null) throw invalidArgument(`projection ${name} is written in Rust: it is folded there`);
      return foldEvents(name, kind, functions, events) as never;
    },
  });
}

/** What a stored event is, as the upcasters of its aggregate read it; `null` if it is passed by. */
type Today = (event: StoredEvent) => readonly Message[] | null;

/** The same; whether one of an unknown type is passed by is said by `skips`, or else by its aggregate. */
function todayOf(event: StoredEvent, driver: Driver, skips: boolean | undefined): readonly Message[] | null {
  let today: readonly Message[] | null;
  // As the aggregate says it, too.
  const unknown = `${event.type}: unknown type`;
  try {
    today = driver.today(event);
  } catch (error) {
    // An upcaster that makes an event of an unknown type is another matter.
    const isUnknown = AnnalsError.is(error, "unreadable-event") && error.message.endsWith(`: ${unknown}`);
    if (skips !== true || !isUnknown) throw error;
    return null;
  }
  if (today === null && skips === false) throw unreadable(event, new EventError("unknown-type", unknown));
  return today;
}

/** Thrown where a document is not there yet. */
const MISSING = new Error("the document is being loaded; what is done meanwhile is done for nothing");

/** JSON texts of documents as they were before the page, `null` where there is none. */
type Known = Pick<ReadonlyMap<string, string | null>, "get">;

export class Drafts implements View<unknown> {
  readonly #known: Known;
  readonly #documents = new Map<string, unknown>();
  /** Texts of those that have been written, and the last events that have. */
  readonly written = new Map<string, readonly [text: string | null, position: number]>();
  /** The event that is being taken in. */
  position = 0;
  readonly missing = new Set<string>();

  constructor(known: Known) {
    this.#known = known;
  }

  get(key: string): unknown {
    checkKey(key);
    if (!this.#documents.has(key)) {
      const text = this.#known.get(key);
      if (text === undefined) {
        this.missing.add(key);
        throw MISSING;
      }
      this.#documents.set(key, text === null ? undefined : deepFreeze(JSON.parse(text)));
    }
    return this.#documents.get(key);
  }

  set(key: string, document: unknown): void {
    checkKey(key);
    const { value, text } = toPayload(document, `document ${key}`);
    this.#documents.set(key, deepFreeze(value));
    this.written.set(key, [text, this.position]);
  }

  update(key: string, change: (document: unknown) => unknown): void {
    this.set(key, change(this.get(key)));
  }

  delete(key: string): void {
    checkKey(key);
    this.#documents.set(key, undefined);
    this.written.set(key, [null, this.position]);
  }

  /** The document as it is now. */
  at(key: string): unknown {
    return this.#documents.get(key);
  }
}

function checkKey(key: string): void {
  if (typeof key === "string" && isWellFormed(key)) return;
  throw invalidArgument(`expected a string of whole characters as key, found ${typeof key}`);
}

/**
 * What the events of a page are today. A page is taken in again when documents have been loaded, and what
 * functions did to an event's data would be seen then: it is frozen.
 */
const pages = new WeakMap<readonly StoredEvent[], (readonly Message[] | null)[]>();

/** Lets a view take an event in, if it is of a type that is wanted. */
export function take({ on }: ProjectionFunctions, view: View<unknown>, event: InlineEvent): void {
  // What may become one of its types comes too.
  if (!Object.hasOwn(on, event.type)) return;
  const result: unknown = on[event.type]!(view, event as never);
  if (typeof (result as PromiseLike<unknown> | undefined)?.then === "function") {
    throw new Error("expected a function that is done when it returns, found a promise");
  }
}

/** What is found where in the indexes. */
export type Posted = readonly [index: string, value: string];

/** A document that has been written, or taken away. */
export interface Written {
  readonly key: string;
  readonly text: string | null;
  readonly postings: readonly Posted[];
}

/** What has been written. Whose document can't be indexed is told by `blame`. */
export function writtenIn(drafts: Drafts, { indexes }: ProjectionFunctions, blame: (position: number) => void): Written[] {
  return Array.from(drafts.written, ([key, [text, position]]) => {
    try {
      return { key, text, postings: text === null ? [] : postingsOf(indexes, drafts.at(key)) };
    } catch (error) {
      blame(position);
      throw new Error(`document ${key}: ${reasonOf(error)}`, { cause: error });
    }
  });
}

/** Takes a page in. Returns what writes the answer: the functions may have given the engine commands. */
function project(
  functions: ProjectionFunctions,
  kind: ViewKind,
  output: WireReader,
  events: readonly StoredEvent[],
  epoch: string,
  today: Today,
): (message: Writer) => void {
  const which = output.word();
  const end = which === 0 ? Infinity : which === 1 ? output.number() : output.time();
  const known = new Map(output.list(() => [output.str(), output.option(() => output.str())]));
  const drafts = new Drafts(known);
  const read = pages.get(events) ?? [];
  pages.set(events, read);
  let beyond: number | null = null;
  const skipped: StoredEvent[] = [];
  const failed = (reason: string) => (message: Writer) =>
    void message.word(Projected.Failed).number(drafts.position).str(reason);
  for (const [index, event] of events.entries()) {
    const { position, type, recordedAt } = event;
    if ((which === 2 ? Date.parse(recordedAt) : position) > end) {
      beyond = position;
      break;
    }
    drafts.position = position;
    try {
      const messages = (read[index] ??= today(event));
      if (messages === null) skipped.push(event);
      else for (const message of messages) take(functions, drafts, given(event, message, kind, epoch));
    } catch (error) {
      // While documents are missing, all is done for nothing but to find out which.
      if (drafts.missing.size === 0) return failed(`${type}: ${reasonOf(error)}`);
    }
  }
  if (drafts.missing.size > 0) return (message) => void message.word(Projected.Missing).strings([...drafts.missing]);
  let documents: Written[];
  try {
    documents = writtenIn(drafts, functions, (position) => (drafts.position = position));
  } catch (error) {
    return failed(reasonOf(error));
  }
  return (message) => {
    message.word(Projected.Done).list(documents, ({ key, text, postings }) => {
      message.str(key).option(text, (text) => message.str(text));
      message.list(postings, ([index, value]) => message.str(index).str(value));
    });
    message.option(beyond, (position) => message.number(position));
    message.list(skipped, ({ aggregateType, aggregateId, revision, type }) => {
      message.str(aggregateType).str(aggregateId).number(revision).str(type);
    });
  };
}

function given(
  event: StoredEvent,
  { type, data }: Message,
  kind: ViewKind,
  epoch: string,
): InlineEvent | LoggedEvent {
  const { revision, issuedAt, actor, position, recordedAt } = event;
  deepFreeze(data);
  const stream = { type: event.aggregateType, id: event.aggregateId };
  const known = { type, data, stream, revision, issuedAt, actor };
  return kind === "inline" ? known : { ...known, position: `${epoch}:${position}` as Position, recordedAt };
}

function postingsOf(indexes: Indexes<unknown>, document: unknown): [string, string][] {
  return Object.entries(indexes).flatMap(([name, valueOf]) => {
    const found = valueOf(document);
    const values = Array.isArray(found) ? (found as readonly IndexValue[]) : found === undefined ? [] : [found];
    return values.map((value): [string, string] => [name, indexValue(name, value)]);
  });
}

/**
 * The text by which an index is ordered: text by code points, numbers by size, and all numbers before all
 * texts. `src/projection.rs` writes the same.
 */
export function indexValue(index: string, value: unknown): string {
  if (typeof value === "string" && isWellFormed(value)) return `s${value}`;
  if (typeof value === "boolean") return value ? "b1" : "b0";
  if (typeof value === "number" && Number.isFinite(value)) {
    const view = new DataView(new ArrayBuffer(8));
    // There is one zero.
    view.setFloat64(0, value + 0);
    const [high, low] = [view.getUint32(0), view.getUint32(4)];
    const isNegative = high >>> 31 === 1;
    const hex = (word: number) => (word >>> 0).toString(16).padStart(8, "0");
    return `n${hex(isNegative ? ~high : high | 0x8000_0000)}${hex(isNegative ? ~low : low)}`;
  }
  throw invalidArgument(`index ${index}: expected text, a finite number or a boolean, found ${typeof value}`);
}
