/**
 * Messages between JavaScript and the engine in WebAssembly; `src/wasm` is the other side. Messages
 * are 32-bit words in a row and one text beside them. A number beyond 32 bits takes two words, the
 * low one first. A string takes one word, its length, and its place in the text: strings are read
 * in the order they were written.
 */
import { AnnalsError } from "./errors.js";
import { partsOf } from "./messages.js";
import { isWellFormed, utf8Length } from "./payload.js";
import type {
  DocumentName,
  DocumentScan,
  DocumentsRead,
  Facts,
  FirstOutcome,
  Messages,
  Query,
  StoredDocument,
  StoredEvent,
  Verdict,
} from "./storage.js";
import type { Forms } from "./upcast.js";

const TWO_32 = 0x1_0000_0000;

/** Gathers messages until they are sent. */
export class Writer {
  words: Uint32Array = new Uint32Array(256);
  /** Number of words. */
  length = 0;
  text = "";
  /** Where in `words` the length of each string stands. */
  #places: number[] = [];

  clear(): void {
    this.length = 0;
    this.text = "";
    this.#places.length = 0;
  }

  /** Adds a message, or nothing if it can't be written. */
  add(write: () => void): void {
    const { length, text } = this;
    const places = this.#places.length;
    try {
      write();
    } catch (error) {
      this.length = length;
      this.text = text;
      this.#places.length = places;
      throw error;
    }
  }

  word(word: number): this {
    if (this.length === this.words.length) {
      const words = new Uint32Array(this.length * 2);
      words.set(this.words);
      this.words = words;
    }
    this.words[this.length++] = word;
    return this;
  }

  flag(flag: boolean): this {
    return this.word(flag ? 1 : 0);
  }

  /** A whole number; a negative one as its two's complement of 64 bits. */
  number(number: number): this {
    const high = Math.floor(number / TWO_32);
    return this.word(number - high * TWO_32).word(high);
  }

  str(text: string): this {
    this.#places.push(this.length);
    this.text += text;
    return this.word(text.length);
  }

  choice([which, number]: readonly [number, number?]): this {
    this.word(which);
    return number === undefined ? this : this.number(number);
  }

  option<T>(value: T | null | undefined, write: (value: T) => void): this {
    if (value === null || value === undefined) return this.word(0);
    this.word(1);
    write(value);
    return this;
  }

  list<T>(items: readonly T[], write: (item: T) => void): this {
    this.word(items.length);
    for (const item of items) write(item);
    return this;
  }

  strings(items: readonly string[]): this {
    this.word(items.length);
    for (const item of items) this.str(item);
    return this;
  }

  /**
   * Lengths were counted in UTF-16 units, which is right for ASCII. This counts bytes.
   */
  countBytes(): void {
    let at = 0;
    for (const place of this.#places) {
      const start = at;
      at += this.words[place]!;
      this.words[place] = utf8Length(this.text.slice(start, at));
    }
  }
}

/** Names that go to the engine. Half a surrogate pair has no UTF-8. */
export function checkNames(names: readonly string[]): void {
  if (!names.every(isWellFormed)) {
    throw new AnnalsError("invalid-name", "expected whole characters, found a lone surrogate", {});
  }
}

export class Reader {
  readonly #words: Uint32Array;
  readonly #text: string;
  readonly #end: number;
  #at: number;
  #textAt = 0;

  /** Reads words from index `start` up to, not including, `end`. */
  constructor(words: Uint32Array, start: number, end: number, text: string) {
    this.#words = words;
    this.#at = start;
    this.#end = end;
    this.#text = text;
  }

  get hasMore(): boolean {
    return this.#at < this.#end;
  }

  word(): number {
    return this.#words[this.#at++]!;
  }

  flag(): boolean {
    return this.#words[this.#at++] !== 0;
  }

  number(): number {
    const low = this.#words[this.#at++]!;
    return low + this.#words[this.#at++]! * TWO_32;
  }

  /** Milliseconds since 1970, which may be negative. */
  time(): number {
    const low = this.#words[this.#at++]!;
    return low + (this.#words[this.#at++]! | 0) * TWO_32;
  }

  str(): string {
    const start = this.#textAt;
    this.#textAt += this.#words[this.#at++]!;
    return this.#text.slice(start, this.#textAt);
  }

  option<T>(read: () => T): T | null {
    return this.flag() ? read() : null;
  }

  list<T>(read: () => T): T[] {
    const items = new Array<T>(this.word());
    for (let index = 0; index < items.length; index += 1) items[index] = read();
    return items;
  }

  strings(): string[] {
    return this.list(() => this.str());
  }
}

/** What is to become of a view. */
export const enum ViewAction {
  Pause = 0,
  Resume = 1,
  Cancel = 2,
}

/** What goes to the engine. (The compiler puts the numbers where they are used.) */
export const enum Input {
  Execute = 1,
  ReadState = 2,
  Subscribe = 3,
  Next = 4,
  Cancel = 5,
  Answer = 6,
  Domain = 7,
  Advanced = 8,
  Tick = 9,
  TakeSnapshot = 10,
  ReadView = 11,
  ControlView = 12,
  Projected = 13,
  AskReaction = 14,
  Reacted = 15,
  Correlated = 16,
  OwnerGone = 17,
  Handled = 30,
  AskCheckpoint = 31,
}

/** What comes from it. */
export const enum Output {
  Storage = 1,
  Decide = 3,
  Opened = 4,
  CommandDone = 5,
  StateRead = 6,
  Release = 7,
  Idle = 8,
  Events = 9,
  SubscriptionEnded = 10,
  AwaitDomain = 11,
  SnapshotTaken = 12,
  Snapshot = 13,
  Project = 14,
  ViewRead = 15,
  ViewMoved = 16,
  React = 17,
  ReactionRead = 18,
  ReactionMoved = 19,
  ReactionLost = 20,
  Skipped = 21,
  Correlate = 22,
  OwnerSeen = 23,
  Checkpoint = 30,
}

/** What came of a decision. */
export const enum Decision {
  Reads = 0,
  Decided = 1,
  Refused = 2,
  Failed = 3,
}

/** What came of a fold. */
export const enum Folded {
  Done = 0,
  Unreadable = 1,
  UnreadableSnapshot = 2,
}

/** How a state comes: under a number, its own or that of a copy, or as JSON, or as why it can't be written. */
export const enum State {
  Held = 0,
  Copied = 1,
  ToCopy = 2,
  Once = 3,
  Unwritten = 4,
}

/** What came of a page for a projection. */
export const enum Projected {
  Missing = 0,
  Done = 1,
  Failed = 2,
}

/** What an adapter said. */
export const enum Said {
  Failed = 0,
  Info = 1,
  Appended = 2,
  Loaded = 3,
  Log = 4,
  Saved = 5,
  Documents = 6,
}

// --- What both directions share ---------------------------------------------------------------

export const STORAGE_CODES = [
  "storage-failed",
  "storage-busy",
  "storage-full",
  "storage-closed",
  "foreign-epoch",
  "storage-timed-out",
  "unknown-format",
] as const;

export const DURABILITIES = ["memory", "process-crash", "power-loss", "replicated"] as const;

export const EVENT_PROBLEMS = ["failed", "newer-version", "unknown-type"] as const;

const CONFLICTS = ["revision", "matched", "neighbour"] as const;

/** A commit's place, as the engine knows it. */
export interface CommitSummary {
  readonly position: number;
  readonly revision: number;
  readonly count: number;
  readonly recordedAt: number;
}

export function readSummary(reader: Reader): CommitSummary {
  return {
    position: reader.number(),
    revision: reader.number(),
    count: reader.word(),
    recordedAt: reader.time(),
  };
}

function readFirst(reader: Reader): FirstOutcome {
  const hash = reader.str();
  const aggregateType = reader.str();
  const aggregateId = reader.str();
  return { hash, aggregateType, aggregateId, ...readSummary(reader) };
}

export function writeFirst(writer: Writer, first: FirstOutcome): void {
  writer.str(first.hash).str(first.aggregateType).str(first.aggregateId);
  writeSummary(writer, first);
}

function writeSummary(writer: Writer, summary: CommitSummary): void {
  writer.number(summary.position).number(summary.revision).word(summary.count);
  writer.number(summary.recordedAt);
}

export function readQuery(reader: Reader): Query {
  return reader.list(() => ({ types: reader.strings(), tags: reader.strings() }));
}

export function writeQuery(writer: Writer, query: Query): void {
  writer.list(query, (item) => writer.strings(item.types).strings(item.tags));
}

export function readVerdicts(reader: Reader): Verdict[] {
  return reader.list((): Verdict => {
    const tag = reader.word();
    switch (tag) {
      case 0:
        return { kind: "committed", ...readSummary(reader) };
      case 4:
        return { kind: "duplicate", first: readFirst(reader) };
      case 5:
        return { kind: "command-id-reused", first: readFirst(reader) };
      default:
        return { kind: "conflict", reason: CONFLICTS[tag - 1]!, at: reader.number() };
    }
  });
}

export function writeVerdicts(writer: Writer, verdicts: readonly Verdict[]): void {
  writer.list(verdicts, (verdict) => {
    switch (verdict.kind) {
      case "committed":
        writer.word(0);
        writeSummary(writer, verdict);
        break;
      case "duplicate":
        writer.word(4);
        writeFirst(writer, verdict.first);
        break;
      case "command-id-reused":
        writer.word(5);
        writeFirst(writer, verdict.first);
        break;
      case "conflict":
        writer.word(1 + CONFLICTS.indexOf(verdict.reason)).number(verdict.at);
    }
  });
}

/** The forms of the events of an aggregate that the module defines. */
export function readForms(reader: Reader): Forms {
  const today = reader.strings().map((form) => [form, partsOf(form).type] as const);
  return { plans: new Map(today), plain: [], versions: null, becoming: [], fingerprint: "", skips: false };
}

export function writeFacts(writer: Writer, facts: Facts): void {
  writer.number(facts.head).number(facts.lastRecordedAt);
  writer.list(facts.commits, (commit) => {
    writer.number(commit.revision);
    writer.option(commit.first, (first) => writeFirst(writer, first));
    writer.option(commit.matched, (position) => writer.number(position));
  });
}

/** What a native domain needs of events; with their streams unless `ofOneStream`. */
export function writeRows(writer: Writer, events: readonly StoredEvent[], ofOneStream: boolean): void {
  writer.list(events, (event) => {
    if (!ofOneStream) writer.str(event.aggregateType).str(event.aggregateId);
    writer.number(event.revision).str(event.type).word(event.schemaVersion).str(event.data);
    writer.number(Date.parse(event.issuedAt)).option(event.actor, (name) => writer.str(name));
  });
}

/** A form that comes again and again is told once, with how often it does. */
export function writeMessages(writer: Writer, { forms, data }: Messages): void {
  writer.str(data);
  for (let from = 0, to = 0; from < forms.length; from = to) {
    do to += 1;
    while (forms[to] === forms[from]);
    writer.word(to - from).str(forms[from]!);
  }
  writer.word(0);
}

export function writeDocuments(writer: Writer, { documents, scans, head }: DocumentsRead): void {
  const write = ({ revision, value }: StoredDocument) => writer.number(revision).str(value);
  writer.list(documents, (document) => writer.option(document, write));
  writer.list(scans, ({ documents, more, count }) => {
    writer.list(documents, (document) => {
      const { at, key } = document;
      // In order of key it is not told twice.
      writer.str(key).option(at === key ? null : at, (value) => writer.str(value));
      write(document);
    });
    writer.flag(more).number(count);
  });
  writer.number(head);
}

// --- Outputs ----------------------------------------------------------------------------------

/** A storage request without its body. */
export interface StorageRequest {
  readonly id: number;
  readonly attempt: number;
  readonly epoch: string;
}

/** What a storage request asks. */
export const enum Asks {
  Info = 0,
  Append = 1,
  Load = 2,
  ReadLog = 3,
  SaveDocuments = 4,
  ReadDocuments = 5,
}

export function readName(reader: Reader): DocumentName {
  return { collection: reader.str(), key: reader.str() };
}

export function readScan(reader: Reader): DocumentScan {
  const text = () => reader.option(() => reader.str());
  return {
    collection: reader.str(),
    index: text(),
    from: text(),
    to: text(),
    after: reader.option(() => ({ at: reader.str(), key: reader.str() })),
    descending: reader.flag(),
    limit: reader.option(() => reader.word()),
  };
}

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly details: string;
}

export function readError(reader: Reader): WireError {
  return { code: reader.str(), message: reader.str(), details: reader.str() };
}
