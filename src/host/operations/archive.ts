import { AnnalsError, type ArchiveProblem } from "../errors.js";
import { nameProblem } from "../names.js";
import { encoder, isTooLong, isWellFormed, MAX_BYTES, MAX_DEPTH } from "../payload.js";
import type { FirstOutcome, StoredEvent } from "../storage.js";
import { Sha256 } from "./sha256.js";

/**
 * The lines of an archive, which `docs/archive.md` describes. A line has at most one text that must come
 * back as it is, the last of its members: so it is found without being read, and may stand there as what
 * it is.
 */

/** What the first line says. */
export interface ArchiveHeader {
  /** Of the form: this release writes and reads 1. */
  readonly version: number;
  /** The store it was made from. */
  readonly epoch: string;
  /** The events after this position … */
  readonly after: number;
  /** … up to this one … */
  readonly until: number;
  /** … that pass this filter; lists that are empty let everything pass. */
  readonly filter: {
    readonly types: readonly string[];
    readonly aggregateTypes: readonly string[];
    readonly tags: readonly string[];
    readonly correlationId: string | null;
  };
}

/** Whether the archive may leave out events of the log between its ends. */
export const isFiltered = ({ filter }: ArchiveHeader): boolean =>
  Object.values(filter).some((list) => list !== null && list.length > 0);

/** Number of events that it has in the end, if that is known. */
export const totalOf = (header: ArchiveHeader): number | null =>
  isFiltered(header) ? null : header.until - header.after;

/** What a line tells of all before it. */
export interface ArchiveCheck {
  readonly commits: number;
  readonly events: number;
  /** Of the last event, 0 if there is none. */
  readonly position: number;
  /** Of all bytes before the line. */
  readonly sha256: string;
}

/** A commit of the log, with those of its events that passed the filter. */
export interface ArchivedCommit {
  readonly commandId: string;
  readonly outcome: FirstOutcome;
  readonly events: readonly StoredEvent[];
}

export const VERSION = 1;

type CommitMembers = Omit<FirstOutcome, "recordedAt"> &
  Pick<StoredEvent, "commandId" | "recordedAt" | "issuedAt" | "correlationId" | "causationId" | "actor">;

type EventMembers = Pick<StoredEvent, "position" | "revision" | "eventId" | "type" | "schemaVersion"> & {
  readonly tags: readonly string[];
};

export function headerLine({ version, ...header }: ArchiveHeader): string {
  return `${JSON.stringify({ annals: "archive", version, ...header })}\n`;
}

export function checkLine(kind: "check" | "end", check: ArchiveCheck): string {
  return `${JSON.stringify({ [kind]: check })}\n`;
}

/** The tags of each event are known to be a list of texts. */
export function commitLines({ commandId, outcome, events }: ArchivedCommit): string {
  const { recordedAt, issuedAt, correlationId, causationId, actor, extra } = events[0]!;
  const { hash, aggregateType, aggregateId, position, revision, count } = outcome;
  const stream = { aggregateType, aggregateId, position, revision, count };
  const commit: CommitMembers = { commandId, hash, ...stream, recordedAt, issuedAt, correlationId, causationId, actor };
  const lines = events.map(({ position, revision, eventId, type, schemaVersion, tags, data }) => {
    const event: EventMembers = { position, revision, eventId, type, schemaVersion, tags: JSON.parse(tags) as string[] };
    return line("event", event, "data", data);
  });
  return line("commit", commit, "metadata", extra) + lines.join("");
}

/** The text as it is, if it is JSON on one line; otherwise as a string. */
function line(kind: string, members: object, name: string, text: string | null): string {
  const start = `{${JSON.stringify(kind)}:${JSON.stringify(members)}`;
  if (text === null) return `${start}}\n`;
  const isPlain = !/[\n\r]/.test(text) && isWellFormed(text) && isJson(text);
  return isPlain ? `${start},"${name}":${text}}\n` : `${start},"text":${JSON.stringify(text)}}\n`;
}

export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Whether it is of the form that times are kept in. */
export function isTime(text: string): boolean {
  const millis = Date.parse(text);
  return !Number.isNaN(millis) && new Date(millis).toISOString() === text;
}

/** Whether it is what tags of an event are kept as. */
export function isTags(text: string): boolean {
  try {
    const tags: unknown = JSON.parse(text);
    return Array.isArray(tags) && tags.every((tag) => typeof tag === "string");
  } catch {
    return false;
  }
}

/** Where an archive comes from: a file's stream, a response's body, its text. */
export type ArchiveSource =
  | string
  | Uint8Array
  | Iterable<string | Uint8Array>
  | AsyncIterable<string | Uint8Array>
  | { getReader(): { read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | string | undefined }>; cancel(reason?: unknown): Promise<unknown> } };

/** Part of an archive whose check has been found right. */
export interface ArchiveBlock {
  readonly commits: readonly ArchivedCommit[];
  readonly check: ArchiveCheck;
  readonly isEnd: boolean;
  /** Bytes from the beginning up to the end of the check's line. */
  readonly bytes: number;
  /** Digest of all these. */
  readonly digest: Sha256;
}

/** Reads an archive as it comes. What a block says is given out when its check has been found right. */
export class ArchiveReader {
  readonly #lines: AsyncGenerator<Uint8Array, void>;
  readonly #digest = new Sha256();
  /** Number of the line that is read, and bytes up to its end. */
  #line = 0;
  #bytes = 0;
  #commits = 0;
  #events = 0;
  #position = 0;
  #recordedAt = "";

  constructor(source: ArchiveSource) {
    this.#lines = linesOf(source);
  }

  async header(): Promise<ArchiveHeader> {
    const { value: bytes } = await this.#lines.next();
    if (bytes === undefined) throw this.#problem("truncated", "it ends before its first line does");
    const { annals, version, ...rest } = this.#object(this.#text(bytes), "unknown");
    if (annals !== "archive" || !isCount(version)) throw this.#problem("unknown", "expected an archive of Annals");
    if (version > VERSION) throw this.#problem("newer-version", `its version is ${version}, and the newest known here is ${VERSION}`);
    if (!fits(rest, HEADER) || !fits(rest["filter"], FILTER)) throw this.#problem("unknown", "expected a header of an archive");
    this.#digest.update(bytes);
    return { version, ...(rest as unknown as Omit<ArchiveHeader, "version">) };
  }

  async *blocks(): AsyncGenerator<ArchiveBlock, void> {
    let lines: string[] = [];
    for await (const bytes of this.#lines) {
      const text = this.#text(bytes);
      const kind = /^\{"(check|end)":/.exec(text)?.[1];
      if (kind === undefined) {
        lines.push(text);
        this.#digest.update(bytes);
        continue;
      }
      const check = this.#object(text, "changed")[kind] as ArchiveCheck;
      const sha256 = this.#digest.digest();
      if (!fits(check, CHECK) || check.sha256 !== sha256) {
        throw this.#problem("changed", `the ${lines.length + 1} lines up to here are not those that were written`);
      }
      this.#digest.update(bytes);
      const commits = this.#commitsOf(lines);
      lines = [];
      if (check.commits !== this.#commits || check.events !== this.#events || check.position !== this.#position) {
        throw this.#problem("changed", `found ${this.#commits} commits and ${this.#events} events, and not what it says`);
      }
      yield { commits, check, isEnd: kind === "end", bytes: this.#bytes, digest: new Sha256(this.#digest) };
      if (kind === "check") continue;
      if ((await this.#lines.next()).done !== true) throw this.#problem("changed", "something comes after the end");
      return;
    }
    throw this.#problem("truncated", "it ends without saying so");
  }

  /** Lets go of the source. */
  async close(): Promise<void> {
    await this.#lines.return();
  }

  #commitsOf(lines: readonly string[]): ArchivedCommit[] {
    const commits: { commandId: string; outcome: FirstOutcome; events: StoredEvent[] }[] = [];
    let shared: Omit<StoredEvent, keyof EventMembers | "data"> | undefined;
    const problem = (problem: ArchiveProblem, what: string, index: number) =>
      this.#problem(problem, what, this.#line - lines.length + index);
    const check = (index: number, found: string | null) => {
      if (found !== null) throw problem("invalid", found, index);
    };
    for (const [index, line] of lines.entries()) {
      if (line.startsWith('{"commit":')) {
        const { members, raw: extra } = this.#split(line, "commit", "metadata");
        if (!fits(members, COMMIT)) throw this.#problem("changed", "expected a commit");
        const { hash, aggregateType, aggregateId, position, revision, count, ...rest } = members as unknown as CommitMembers;
        const { commandId, recordedAt, issuedAt, correlationId, causationId, actor } = rest;
        check(index, namesProblem({ commandId, hash, aggregateType, aggregateId, correlationId, causationId, actor }));
        check(index, timesProblem({ recordedAt, issuedAt }));
        if (extra !== null) check(index, payloadProblem("metadata", extra));
        check(index, count < 1 || revision < count ? `expected a revision of at least the count, which is at least 1, found ${revision} and ${count}` : null);
        // Times are texts of one form, which are ordered as they are.
        if (recordedAt < this.#recordedAt) throw problem("wrong-order", `the time ${recordedAt} comes after ${this.#recordedAt}`, index);
        if (commits.at(-1)?.events.length === 0) throw problem("changed", "expected an event of a commit", index);
        this.#recordedAt = recordedAt;
        this.#commits += 1;
        // Members that are not known are passed by.
        shared = { aggregateType, aggregateId, commandId, recordedAt, issuedAt, correlationId, causationId, actor, extra };
        const outcome = { hash, aggregateType, aggregateId, position, revision, count, recordedAt: Date.parse(recordedAt) };
        commits.push({ commandId, outcome, events: [] });
      } else {
        const { members, raw: data } = this.#split(line, "event", "data");
        if (!fits(members, EVENT) || data === null || shared === undefined) throw this.#problem("changed", "expected an event of a commit");
        const { position, revision, eventId, type, schemaVersion, tags } = members as unknown as EventMembers;
        check(index, namesProblem({ eventId, type }) ?? tags.reduce((found: string | null, tag) => found ?? nameProblem("tag", tag), null));
        check(index, payloadProblem("data", data));
        check(index, schemaVersion < 1 || schemaVersion > MAX_VERSION ? `expected a schema version from 1 to ${MAX_VERSION}, found ${schemaVersion}` : null);
        if (position <= this.#position) throw problem("wrong-order", `position ${position} comes after ${this.#position}`, index);
        this.#position = position;
        this.#events += 1;
        commits.at(-1)!.events.push({ ...shared, position, revision, eventId, type, schemaVersion, tags: JSON.stringify(tags), data });
      }
    }
    if (commits.at(-1)?.events.length === 0) throw this.#problem("changed", "expected an event of a commit");
    return commits;
  }

  #text(bytes: Uint8Array): string {
    this.#line += 1;
    this.#bytes += bytes.length;
    try {
      return decoder.decode(bytes.subarray(0, -1));
    } catch {
      throw this.#problem("changed", "expected UTF-8");
    }
  }

  #object(text: string, problem: ArchiveProblem): Record<string, unknown> {
    try {
      const object: unknown = JSON.parse(text);
      if (typeof object === "object" && object !== null) return object as Record<string, unknown>;
    } catch {
      // It is said below.
    }
    throw this.#problem(problem, "expected a line of an archive");
  }

  /**
   * The members of a line, and the text that is its last one. In JSON a quote within a string has a
   * backslash before it, so that one is where its name comes first.
   */
  #split(line: string, kind: string, name: string): { readonly members: unknown; readonly raw: string | null } {
    const start = `},"${name}":`;
    const end = line.indexOf(start);
    const object = this.#object(end < 0 ? line : `${line.slice(0, end)}}}`, "changed");
    const text = object["text"];
    return { members: object[kind], raw: end >= 0 ? line.slice(end + start.length, -1) : typeof text === "string" ? text : null };
  }

  #problem(problem: ArchiveProblem, what: string, line = this.#line): AnnalsError {
    return new AnnalsError("unreadable-archive", `line ${line}: ${what}`, { problem, line });
  }
}

// What no engine would store, and some stores would.

/** As in the core. */
const MAX_VERSION = 0xffff_ffff;

function namesProblem(names: { readonly [what: string]: string | null }): string | null {
  for (const [what, name] of Object.entries(names)) {
    const problem = name === null ? null : nameProblem(what, name);
    if (problem !== null) return problem;
  }
  return null;
}

function timesProblem(times: { readonly [what: string]: string }): string | null {
  for (const [what, time] of Object.entries(times)) {
    if (!isTime(time)) return `${what}: expected a time, found ${JSON.stringify(time.slice(0, 100))}`;
  }
  return null;
}

function payloadProblem(what: string, text: string): string | null {
  if (isTooLong(text)) return `${what}: expected at most ${MAX_BYTES} bytes of JSON`;
  if (!isWellFormed(text)) return `${what}: expected whole characters, found a lone surrogate`;
  // Each level takes two units.
  if (text.length > 2 * MAX_DEPTH && depthOf(text) > MAX_DEPTH) return `${what}: expected at most ${MAX_DEPTH} levels of nesting`;
  return isJson(text) ? null : `${what}: expected JSON, found ${JSON.stringify(text.slice(0, 100))}`;
}

/** How deep a text of JSON is nested. */
function depthOf(text: string): number {
  let depth = 0;
  let most = 0;
  for (let index = 0, isString = false; index < text.length; index += 1) {
    const mark = text[index]!;
    if (mark === '"') isString = !isString;
    else if (isString) index += mark === "\\" ? 1 : 0;
    else if (mark === "[" || mark === "{") most = Math.max(most, (depth += 1));
    else if (mark === "]" || mark === "}") depth -= 1;
  }
  return most;
}

type Check = (value: unknown) => boolean;

const isText: Check = (value) => typeof value === "string";
const isTextOrNull: Check = (value) => value === null || isText(value);
const isTexts: Check = (value) => Array.isArray(value) && value.every(isText);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const HEADER = { epoch: isText, after: isCount, until: isCount };
const FILTER = { types: isTexts, aggregateTypes: isTexts, tags: isTexts, correlationId: isTextOrNull };
const CHECK = { commits: isCount, events: isCount, position: isCount, sha256: isText };
const COMMIT = {
  commandId: isText, hash: isText, aggregateType: isText, aggregateId: isText, position: isCount, revision: isCount, count: isCount,
  recordedAt: isText, issuedAt: isText, correlationId: isText, causationId: isTextOrNull, actor: isTextOrNull,
};
const EVENT = { position: isCount, revision: isCount, eventId: isText, type: isText, schemaVersion: isCount, tags: isTexts };

function fits(value: unknown, checks: { readonly [name: string]: Check }): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(checks).every(([name, check]) => check((value as Record<string, unknown>)[name]));
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The source's lines, each with its line feed. What comes after the last one is nothing that counts. */
async function* linesOf(source: ArchiveSource): AsyncGenerator<Uint8Array, void> {
  let rest: Uint8Array[] = [];
  // Texts may be cut between the two halves of a character.
  let half = "";
  for await (const chunk of chunksOf(source)) {
    const text = typeof chunk === "string" ? half + chunk : "";
    half = typeof chunk === "string" ? (/[\ud800-\udbff]$/.exec(text)?.[0] ?? "") : "";
    const bytes = typeof chunk === "string" ? encoder.encode(text.slice(0, text.length - half.length)) : chunk;
    let start = 0;
    for (let end; (end = bytes.indexOf(10, start)) >= 0; start = end + 1) {
      const last = bytes.subarray(start, end + 1);
      yield rest.length === 0 ? last : joined([...rest, last]);
      rest = [];
    }
    if (start < bytes.length) rest.push(bytes.slice(start));
  }
}

async function* chunksOf(source: ArchiveSource): AsyncGenerator<string | Uint8Array, void> {
  if (typeof source === "string" || source instanceof Uint8Array) yield source;
  else if (Symbol.asyncIterator in source || Symbol.iterator in source) yield* source;
  else {
    // Not every browser's streams can be iterated.
    const reader = source.getReader();
    let ended = false;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        ended = done;
        if (done) return;
        if (value !== undefined) yield value;
      }
    } finally {
      if (!ended) await reader.cancel();
    }
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
