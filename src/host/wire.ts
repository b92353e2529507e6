/**
 * Messages between JavaScript and the engine in WebAssembly; `src/wasm` is the other side. A
 * message is a list of 32-bit words and one text. A number beyond 32 bits takes two words, the low
 * one first. A string takes one word, its length, and its place in the text: strings are read in
 * the order they were written.
 */
import { AnnalsError } from "./errors.js";
import { isWellFormed, utf8Length } from "./payload.js";
import type { Facts, FirstOutcome, Query, StoredEvent, Verdict } from "./storage.js";

const TWO_32 = 0x1_0000_0000;

export class Writer {
  /** A plain array: its length is not known before, and engines are quick with small integers. */
  readonly words: number[] = [];
  #strings: string[] = [];
  /** Where in `words` each string's length stands. */
  #places: number[] = [];

  word(word: number): this {
    this.words.push(word);
    return this;
  }

  flag(flag: boolean): this {
    this.words.push(flag ? 1 : 0);
    return this;
  }

  /** A whole number; a negative one as its two's complement of 64 bits. */
  number(number: number): this {
    const high = Math.floor(number / TWO_32);
    this.words.push(number - high * TWO_32, high);
    return this;
  }

  str(text: string): this {
    this.#places.push(this.words.length);
    this.#strings.push(text);
    this.words.push(text.length);
    return this;
  }

  option<T>(value: T | null | undefined, write: (value: T) => void): this {
    if (value === null || value === undefined) {
      this.words.push(0);
    } else {
      this.words.push(1);
      write(value);
    }
    return this;
  }

  list<T>(items: readonly T[], write: (item: T) => void): this {
    this.words.push(items.length);
    for (const item of items) write(item);
    return this;
  }

  strings(items: readonly string[]): this {
    this.words.push(items.length);
    for (const item of items) this.str(item);
    return this;
  }

  /** The text, once everything is written. */
  text(): string {
    return this.#strings.length === 1 ? this.#strings[0]! : this.#strings.join("");
  }

  /**
   * Lengths were counted in UTF-16 units, which is right for ASCII. This counts bytes, and refuses
   * what has none: half a surrogate pair.
   */
  countBytes(): void {
    this.#strings.forEach((text, index) => {
      if (!isWellFormed(text)) {
        throw new AnnalsError("invalid-name", "expected whole characters, found a lone surrogate", {});
      }
      this.words[this.#places[index]!] = utf8Length(text);
    });
  }
}

export class Reader {
  readonly #words: Uint32Array;
  readonly #text: string;
  #at = 0;
  #textAt = 0;

  constructor(words: Uint32Array, text: string) {
    this.#words = words;
    this.#text = text;
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

const CONFLICTS = ["revision", "matched", "neighbour"] as const;

/** A commit's place, as the engine knows it. */
export interface CommitSummary {
  readonly position: number;
  readonly revision: number;
  readonly count: number;
  readonly recordedAt: number;
}

function readSummary(reader: Reader): CommitSummary {
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

function writeFirst(writer: Writer, first: FirstOutcome): void {
  writer.str(first.hash).str(first.aggregateType).str(first.aggregateId);
  writeSummary(writer, first);
}

function writeSummary(writer: Writer, summary: CommitSummary): void {
  writer.number(summary.position).number(summary.revision).word(summary.count);
  writer.number(summary.recordedAt);
}

function readQuery(reader: Reader): Query {
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

export function writeFacts(writer: Writer, facts: Facts): void {
  writer.number(facts.head).number(facts.lastRecordedAt);
  writer.list(facts.commits, (commit) => {
    writer.number(commit.revision);
    writer.option(commit.first, (first) => writeFirst(writer, first));
    writer.option(commit.matched, (position) => writer.number(position));
  });
}

export function writeOptionalFirst(writer: Writer, first: FirstOutcome | null): void {
  writer.option(first, (found) => writeFirst(writer, found));
}

/** What a native domain needs of events; with their streams unless `ofOneStream`. */
export function writeRows(writer: Writer, events: readonly StoredEvent[], ofOneStream: boolean): void {
  writer.list(events, (event) => {
    if (!ofOneStream) writer.str(event.aggregateType).str(event.aggregateId);
    writer.number(event.revision).str(event.type).str(event.data);
  });
}

// --- Outputs ----------------------------------------------------------------------------------

/** What the engine asks and tells. */
export type Output =
  | { readonly kind: "storage"; readonly request: StorageRequest }
  | {
      readonly kind: "fold";
      readonly task: number;
      readonly aggregate: number;
      readonly from: number;
      readonly into: number;
      readonly page: number;
    }
  | DecideOutput
  | { readonly kind: "opened"; readonly error: WireError | null }
  | { readonly kind: "command-done"; readonly task: number; readonly result: WireOutcome | WireError }
  | { readonly kind: "state-read"; readonly task: number; readonly result: WireStateRead | WireError }
  | { readonly kind: "release"; readonly handles: number[]; readonly pages: number[] }
  | { readonly kind: "idle"; readonly wakeAt: number | null }
  | { readonly kind: "events"; readonly task: number; readonly page: number; readonly next: number }
  | { readonly kind: "subscription-ended"; readonly task: number; readonly error: WireError | null };

export interface DecideOutput {
  readonly kind: "decide";
  readonly task: number;
  readonly aggregate: number;
  readonly state: number;
  readonly into: number;
  readonly issuedAt: number;
  readonly others: {
    readonly query: Query;
    readonly pages: number[];
    readonly neighbours: { readonly task: number; readonly index: number }[];
  } | null;
}

export interface StorageRequest {
  readonly id: number;
  readonly attempt: number;
  readonly epoch: string;
  readonly body: StorageBody;
}

export type StorageBody =
  | { readonly kind: "info" }
  | { readonly kind: "append"; readonly commits: WireCommit[] }
  | {
      readonly kind: "load";
      readonly commands: string[];
      readonly streams: WireStreamLoad[];
      readonly queries: { readonly query: Query; readonly after: number; readonly held: boolean }[];
    }
  | {
      readonly kind: "read-log";
      readonly after: number;
      readonly types: string[];
      readonly aggregateTypes: string[];
      readonly tags: string[];
      readonly limit: number;
    };

/** A commit without what JavaScript knows of its task. */
export interface WireCommit {
  readonly task: number;
  readonly commandId: string;
  readonly hash: string;
  readonly issuedAt: number;
  readonly condition: { readonly query: Query; readonly after: number } | null;
  readonly events: {
    readonly eventId: string;
    /** `null` if JavaScript has decided it. */
    readonly event: {
      readonly type: string;
      readonly schemaVersion: number;
      readonly tags: string[];
      readonly data: string;
    } | null;
  }[];
}

export interface WireStreamLoad {
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly after: number;
  readonly untilRevision: number | null;
  readonly untilTime: number | null;
  readonly limit: number;
  readonly held: boolean;
  readonly whole: boolean;
}

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly details: string;
}

/** A state under a handle, or as JSON, or one that could not be written. */
export type WireState = { readonly handle: number } | { readonly json: string } | { readonly failed: string };

export interface WireOutcome {
  readonly commandId: string;
  readonly duplicate: boolean;
  readonly revision: number;
  readonly durability: (typeof DURABILITIES)[number];
  readonly commit: CommitSummary | null;
  readonly state: WireState;
  readonly pages: number[];
}

export interface WireStateRead {
  readonly revision: number;
  readonly state: WireState;
  readonly pages: number[];
}

export function isError(result: object): result is WireError {
  return "code" in result;
}

/** Everything up to and including the first output that must be answered before more is asked. */
export function readOutputs(reader: Reader): Output[] {
  const outputs: Output[] = [];
  for (;;) {
    const output = readOutput(reader);
    outputs.push(output);
    if (output.kind === "idle" || output.kind === "decide" || output.kind === "fold") return outputs;
  }
}

function readOutput(reader: Reader): Output {
  switch (reader.word()) {
    case 1:
      return { kind: "storage", request: readRequest(reader) };
    case 2:
      return {
        kind: "fold",
        task: reader.word(),
        aggregate: reader.word(),
        from: reader.number(),
        into: reader.number(),
        page: reader.word(),
      };
    case 3:
      return readDecide(reader);
    case 4:
      return { kind: "opened", error: reader.flag() ? null : readResultError(reader) };
    case 5:
      return {
        kind: "command-done",
        task: reader.word(),
        result: readResult(reader, () => ({
          commandId: reader.str(),
          duplicate: reader.flag(),
          revision: reader.number(),
          durability: DURABILITIES[reader.word()]!,
          commit: reader.option(() => readSummary(reader)),
          state: readState(reader),
          pages: reader.list(() => reader.word()),
        })),
      };
    case 6:
      return {
        kind: "state-read",
        task: reader.word(),
        result: readResult(reader, () => ({
          revision: reader.number(),
          state: readState(reader),
          pages: reader.list(() => reader.word()),
        })),
      };
    case 7:
      return {
        kind: "release",
        handles: reader.list(() => reader.number()),
        pages: reader.list(() => reader.word()),
      };
    case 8:
      return { kind: "idle", wakeAt: reader.option(() => reader.time()) };
    case 9:
      return { kind: "events", task: reader.word(), page: reader.word(), next: reader.number() };
    default:
      return {
        kind: "subscription-ended",
        task: reader.word(),
        error: reader.word() === 0 ? null : readError(reader),
      };
  }
}

function readResult<T>(reader: Reader, read: () => T): T | WireError {
  return reader.word() === 0 ? read() : readError(reader);
}

function readResultError(reader: Reader): WireError {
  reader.word();
  return readError(reader);
}

function readError(reader: Reader): WireError {
  return { code: reader.str(), message: reader.str(), details: reader.str() };
}

function readState(reader: Reader): WireState {
  switch (reader.word()) {
    case 0:
      return { handle: reader.number() };
    case 1:
      return { json: reader.str() };
    default:
      return { failed: reader.str() };
  }
}

function readDecide(reader: Reader): DecideOutput {
  return {
    kind: "decide",
    task: reader.word(),
    aggregate: reader.word(),
    state: reader.number(),
    into: reader.number(),
    issuedAt: reader.time(),
    others: reader.option(() => ({
      query: readQuery(reader),
      pages: reader.list(() => reader.word()),
      neighbours: reader.list(() => ({ task: reader.word(), index: reader.word() })),
    })),
  };
}

function readRequest(reader: Reader): StorageRequest {
  const id = reader.number();
  const attempt = reader.word();
  const epoch = reader.str();
  return { id, attempt, epoch, body: readBody(reader) };
}

function readBody(reader: Reader): StorageBody {
  switch (reader.word()) {
    case 0:
      return { kind: "info" };
    case 1:
      return { kind: "append", commits: reader.list(() => readCommit(reader)) };
    case 2:
      return {
        kind: "load",
        commands: reader.strings(),
        streams: reader.list(() => readStreamLoad(reader)),
        queries: reader.list(() => ({
          query: readQuery(reader),
          after: reader.number(),
          held: reader.flag(),
        })),
      };
    default:
      return {
        kind: "read-log",
        after: reader.number(),
        types: reader.strings(),
        aggregateTypes: reader.strings(),
        tags: reader.strings(),
        limit: reader.word(),
      };
  }
}

function readCommit(reader: Reader): WireCommit {
  return {
    task: reader.word(),
    commandId: reader.str(),
    hash: reader.str(),
    issuedAt: reader.time(),
    condition: reader.option(() => ({ query: readQuery(reader), after: reader.number() })),
    events: reader.list(() => ({
      eventId: reader.str(),
      event: reader.option(() => ({
        type: reader.str(),
        schemaVersion: reader.word(),
        tags: reader.strings(),
        data: reader.str(),
      })),
    })),
  };
}

function readStreamLoad(reader: Reader): WireStreamLoad {
  const aggregateType = reader.str();
  const aggregateId = reader.str();
  const after = reader.number();
  const until = reader.word();
  return {
    aggregateType,
    aggregateId,
    after,
    untilRevision: until === 1 ? reader.number() : null,
    untilTime: until === 2 ? reader.time() : null,
    limit: reader.word(),
    held: reader.flag(),
    whole: reader.flag(),
  };
}
