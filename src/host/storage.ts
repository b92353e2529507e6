import type { AbortSignal } from "./platform.js";

/**
 * What a storage adapter is: a log, and documents beside it. The engine does the thinking; an
 * adapter keeps, finds and locks.
 *
 * An answer may be given at once (synchronous stores) or as a promise. A failure is thrown as a
 * {@link StorageFailure}; anything else that is thrown counts as `storage-failed` with an unknown
 * effect.
 */
export interface StorageAdapter {
  /** Opens the store, creating it if there is none, and says what it is. May be called again. */
  open(): Answer<StoreInfo>;

  /**
   * Appends commits. In one transaction: take the write lock; compare the store's epoch with the
   * request's (`foreign-epoch` if it differs); read the facts; call `judge` once, with nothing
   * awaited between it and the writes but writes; write each commit whose verdict is `committed`,
   * with the positions and revisions the verdict gives; resolve once all is as durable as
   * {@link StoreInfo.durability} says.
   *
   * A database that can't wait for an answer in the middle of its transaction judges by itself: from
   * what the request says, to the same verdicts.
   */
  append(request: AppendRequest, judge: Judge): Answer<Verdict[]>;

  /** Reads first outcomes, streams and queries, all of one moment. */
  load(request: LoadRequest): Answer<Loaded>;

  /**
   * Reads a page of the log in order of position, or in the order turned round. It may be short, or
   * empty, before the end: the reader goes on at `next`, which is beyond `after` unless `after` is the
   * end.
   */
  readLog(request: ReadLogRequest): Answer<LogPage>;

  /**
   * Changes documents, all or none, in one transaction: compare what is there with what is expected,
   * and if it differs change nothing and say so; empty collections; write and remove documents. As
   * durable as a commit.
   */
  saveDocuments(request: SaveDocumentsRequest): Answer<DocumentConflict | null>;

  /** Reads documents, all of one moment. */
  readDocuments(request: ReadDocumentsRequest): Answer<DocumentsRead>;

  /**
   * Calls `onAdvanced` after others (other tabs, processes, engines on the same adapter) have
   * appended, with the position of the last event if it is known; the engine's own appends may be
   * among them. Never during a call of the engine's. Returns the way to stop it.
   */
  subscribe?(onAdvanced: (position?: number) => void): () => void;

  /**
   * Who is still there, where something knows it at once, as a browser knows which tabs are closed. What
   * it tells is a hint: nothing is right or wrong by it.
   */
  readonly presence?: Presence;

  /**
   * Lets go of what the adapter opened itself. May be called twice; engines may share an adapter, so
   * a request after it opens the store again.
   */
  close(): Answer<void>;
}

export type Answer<T> = T | Promise<T>;

/** How those who share a store know of each other whether they are there. */
export interface Presence {
  /**
   * Is there, under a name that nobody else has ever had, until it is released or its process or page has
   * ended. Resolves when everybody would find it there.
   */
  hold(): Promise<HeldName>;
  /**
   * Resolves when whoever held the name is gone; soon, if that was before. Rejects when `signal` is aborted,
   * and where it can't be known, as of a name that was not given by `hold`.
   */
  whenGone(name: string, signal: AbortSignal): Promise<void>;
}

/** The name of somebody who is there. */
export interface HeldName {
  readonly name: string;
  /** From now on it is gone. May be called twice. */
  release(): void;
}

export interface StoreInfo {
  /** Identity of the store and of this life of it. A restored copy has another. */
  readonly epoch: string;
  /** Position of its last event, 0 if it has none. */
  readonly head: number;
  /** What an acknowledged append survives. */
  readonly durability: Durability;
}

export type Durability = "memory" | "process-crash" | "power-loss" | "replicated";

export interface AppendRequest {
  readonly epoch: string;
  /** When the engine made it, in milliseconds since 1970. Only who judges needs it. */
  readonly now: number;
  /** In order; each is atomic for itself. */
  readonly commits: readonly Commit[];
}

export interface Commit {
  readonly commandId: string;
  /** Digest of what the command asked; kept with the command's id. */
  readonly hash: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** ISO 8601, UTC, milliseconds. */
  readonly issuedAt: string;
  readonly correlationId: string;
  readonly causationId: string | null;
  readonly actor: string | null;
  /** JSON text of the application's own metadata. */
  readonly extra: string | null;
  /**
   * The revision that the stream must have, or the commit of the same append that must have been
   * committed and be the stream's last. Only who judges needs it.
   */
  readonly expected: number | { readonly after: number };
  /** Facts wanted: the lowest position after `after` of an event that matches `query`. */
  readonly condition: AppendCondition | null;
  /** At least one. */
  readonly events: readonly CommitEvent[];
}

export interface AppendCondition {
  readonly query: Query;
  readonly after: number;
  /**
   * Indexes of earlier commits of the same append whose events the decision has seen; each must have
   * been committed. Only who judges needs them.
   */
  readonly neighbours: readonly number[];
}

export interface CommitEvent {
  readonly eventId: string;
  readonly type: string;
  readonly schemaVersion: number;
  readonly tags: readonly string[];
  /** JSON text, stored byte for byte. */
  readonly data: string;
}

/** An event matches if it matches any item: one of its types (if it names any) and all its tags. */
export type Query = readonly QueryItem[];

export interface QueryItem {
  readonly types: readonly string[];
  readonly tags: readonly string[];
}

/** The engine's one pure function that says what may be appended. Throws if it no longer wants to. */
export type Judge = (facts: Facts) => Verdict[];

/** What the store knows, under the write lock, before the first commit. */
export interface Facts {
  /** Position of the last event, 0 if there is none. */
  head: number;
  /** Milliseconds since 1970 at which it was recorded, 0 if there is none. */
  lastRecordedAt: number;
  /** One per commit, in order. */
  commits: CommitFacts[];
}

export interface CommitFacts {
  /** Number of events in the commit's stream. */
  revision: number;
  /** What the store remembers of the commit's command id. */
  first: FirstOutcome | null;
  /** Position of an event after the condition's position that matches it. */
  matched: number | null;
}

/** What the store remembers of a committed command, for ever. */
export interface FirstOutcome {
  readonly hash: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** Position of its first event; the others follow without a gap. */
  readonly position: number;
  /** Revision of its last event. */
  readonly revision: number;
  /** Number of its events. */
  readonly count: number;
  /** Milliseconds since 1970. */
  readonly recordedAt: number;
}

export type Verdict =
  | {
      readonly kind: "committed";
      /** Position of the first event; the others follow without a gap. */
      readonly position: number;
      /** Revision of the last event. */
      readonly revision: number;
      readonly count: number;
      /** Milliseconds since 1970. Never less than that of the store's last event. */
      readonly recordedAt: number;
    }
  | { readonly kind: "conflict"; readonly reason: "revision" | "matched" | "neighbour"; readonly at: number }
  | { readonly kind: "duplicate"; readonly first: FirstOutcome }
  | { readonly kind: "command-id-reused"; readonly first: FirstOutcome };

export interface LoadRequest {
  readonly epoch: string;
  readonly commands: readonly string[];
  readonly streams: readonly StreamLoad[];
  readonly queries: readonly QueryLoad[];
}

export interface StreamLoad {
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** Events with a higher revision … */
  readonly after: number;
  /** … than that of the document with this key in the collection `snapshots`, if there is one … */
  readonly snapshot: string | null;
  /** … up to this revision, if it is not null … */
  readonly untilRevision: number | null;
  /** … at or before this position, if it is not null … */
  readonly untilPosition: number | null;
  /** … recorded at or before this time (ISO 8601, UTC, milliseconds), if it is not null … */
  readonly untilTime: string | null;
  /** … but no more than this. */
  readonly limit: number;
  /** Whether the events are wanted whole. If not, {@link Messages} will do. */
  readonly whole: boolean;
}

export interface QueryLoad {
  readonly query: Query;
  readonly after: number;
}

export interface Loaded {
  readonly commands: (FirstOutcome | null)[];
  readonly streams: StreamSlice[];
  /** Matches in order of position. */
  readonly queries: StoredEvent[][];
  /** Position of the store's last event at that moment. */
  readonly head: number;
}

/** Forms and payloads of events in order: all that a state is made of. */
export interface Messages {
  /**
   * The form of each event: its type, and, if its schema version is not 1, the character U+007F, which
   * is in no name and which JSON leaves as it is, and the version.
   */
  readonly forms: readonly string[];
  /**
   * The text of a JSON array of their payloads. Its elements are separated by a comma and a line
   * feed, so that one that is broken can be told from the others.
   */
  readonly data: string;
}

export interface StreamSlice {
  /** The snapshot that was asked for, if there is one. */
  readonly snapshot: StoredDocument | null;
  readonly events: StoredEvent[] | Messages;
  /** Number of events in the stream at that moment. */
  readonly revision: number;
  /** Whether `limit` left out events that the request asked for. */
  readonly more: boolean;
}

export interface SaveDocumentsRequest {
  readonly epoch: string;
  /** What must be true of documents that are there. */
  readonly expected: readonly DocumentExpectation[];
  /** Collections that are emptied before documents are written. */
  readonly clear: readonly string[];
  /** In order. What is there under their names is replaced. */
  readonly documents: readonly Document[];
}

/** Which document it is. */
export interface DocumentName {
  readonly collection: string;
  /** Keys are ordered by code points, which is the order of their UTF-8 bytes. */
  readonly key: string;
}

/** A document that must have this revision; 0: it must not be there. */
export interface DocumentExpectation extends DocumentName {
  readonly revision: number;
}

/** A piece of JSON beside the log. */
export interface Document extends DocumentName {
  /** A number beside the value, at least 1: the revision or position that it was made from. */
  readonly revision: number;
  /** JSON text, stored byte for byte. `null`: the document is removed. */
  readonly value: string | null;
  /** Under what it is found besides its key. */
  readonly postings: readonly Posting[];
}

/** An entry of a document in one of its collection's indexes. Values are ordered as keys are. */
export type Posting = readonly [index: string, value: string];

/** Nothing was written: this expectation does not hold. */
export interface DocumentConflict {
  /** Index of the expectation. */
  readonly index: number;
  /** The revision that the document has, 0 if it is not there. */
  readonly actual: number;
}

export interface ReadDocumentsRequest {
  readonly epoch: string;
  readonly names: readonly DocumentName[];
  readonly scans: readonly DocumentScan[];
}

/** A range of a collection's documents, in order of key, or of an index's value and then key. */
export interface DocumentScan {
  readonly collection: string;
  /** By this index; `null`: by key. */
  readonly index: string | null;
  /** From this key, or value of the index, on … */
  readonly from: string | null;
  /** … up to this one, which is not in the range. */
  readonly to: string | null;
  /** Only what comes after this place, in the order of the scan. */
  readonly after: ScanPlace | null;
  /** Whether the order is turned round. */
  readonly descending: boolean;
  /** Most documents to return, at least 1. `null`: only their number is wanted. */
  readonly limit: number | null;
}

/** Where a document is in the order of a scan. */
export interface ScanPlace {
  /** The index's value; the key, if the scan is by key. */
  readonly at: string;
  readonly key: string;
}

export interface DocumentsRead {
  /** As the names were asked. */
  readonly documents: (StoredDocument | null)[];
  /** As the ranges were asked. */
  readonly scans: ScannedPage[];
  /** Position of the store's last event at that moment. */
  readonly head: number;
}

/** A document as a store gives it back. */
export interface StoredDocument {
  readonly revision: number;
  /** JSON text. */
  readonly value: string;
}

export interface ScannedPage {
  readonly documents: (ScanPlace & StoredDocument)[];
  /** Whether the limit left some out. */
  readonly more: boolean;
  /** Number of documents in the range after the place, if that was asked; 0 if not. */
  readonly count: number;
}

/** The collection that snapshots are in. */
export const SNAPSHOTS = "snapshots";

export interface ReadLogRequest {
  readonly epoch: string;
  /** Only what comes after this position, in the order of reading. */
  readonly after: number;
  /** Whether the order is turned round: events before that position, the last one first. */
  readonly descending: boolean;
  /** Empty lists let everything pass; of `tags` any is enough. */
  readonly types: readonly string[];
  readonly aggregateTypes: readonly string[];
  readonly tags: readonly string[];
  /** `null` lets everything pass. Most commands are their own first cause: it is their id then. */
  readonly correlationId: string | null;
  readonly limit: number;
}

export interface LogPage {
  readonly events: StoredEvent[];
  /**
   * Up to where the log has been read: the last event's position or one beyond it. At the end it is
   * `head`; 0 if the order is turned round.
   */
  readonly next: number;
  readonly head: number;
}

/** An event as a store gives it back. Texts are exactly those that were appended. */
export interface StoredEvent {
  readonly position: number;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly revision: number;
  readonly eventId: string;
  readonly type: string;
  readonly schemaVersion: number;
  /** JSON text of an array of strings. */
  readonly tags: string;
  /** ISO 8601, UTC, milliseconds. */
  readonly recordedAt: string;
  readonly issuedAt: string;
  readonly commandId: string;
  readonly correlationId: string;
  readonly causationId: string | null;
  readonly actor: string | null;
  readonly extra: string | null;
  readonly data: string;
}

export type StorageCode =
  | "storage-failed"
  | "storage-busy"
  | "storage-full"
  | "storage-closed"
  | "foreign-epoch"
  | "storage-timed-out"
  | "unknown-format";

/** How an adapter says that it can't answer. */
export class StorageFailure extends Error {
  override readonly name = "StorageFailure";
  readonly code: StorageCode;
  /** Whether the same request may succeed soon. */
  readonly retryable: boolean;
  /** Whether a failed append may be in the log all the same. */
  readonly mayBeApplied: boolean;

  constructor(
    code: StorageCode,
    message: string,
    options: { retryable?: boolean; mayBeApplied?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.mayBeApplied = options.mayBeApplied ?? false;
  }
}
