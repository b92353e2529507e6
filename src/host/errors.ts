import type { FindingCode } from "./operations/verify.js";
import type { StorageCode } from "./storage.js";

/** The stable codes of everything that can go wrong. They are part of the contract. */
export type ErrorCode =
  /** The domain refused the command; `details` has the domain's own code and details. */
  | "refused"
  /** The caller expected another revision; `details.actual` has the one found. */
  | "wrong-revision"
  /** Others were faster, each time. Ask again. */
  | "contended"
  /** The command id was used for another command. */
  | "command-id-reused"
  /** The store failed and the command may be in the log. Give it again with `details.commandId`. */
  | "outcome-unknown"
  /** `decide`, `reads` or `tags` threw or returned what they may not; `cause` has what they threw. */
  | "domain-failed"
  /** A stored event can't be read or folded; `details` has its stream and revision, and says why. */
  | "unreadable-event"
  | "unknown-aggregate"
  | "no-such-revision"
  /** The store has no event at this position or after it, as one that has lost events. */
  | "no-such-position"
  /** The aggregate is defined without snapshots. */
  | "no-snapshots"
  /** The state is not what its JSON says, so that it can't be kept as a snapshot. */
  | "state-not-json"
  | "unknown-projection"
  | "unknown-reaction"
  /** Another reader of the subscription's name was faster, or somebody has moved its checkpoint. */
  | "subscription-moved"
  | "unknown-index"
  /** A view stopped before it came to what was asked; `details` has the reason and where. */
  | "projection-stopped"
  /** A document of a view is no JSON any more. */
  | "unreadable-document"
  /** A name is empty, too long or has control characters. */
  | "invalid-name"
  /** A command, event, state or metadata would not come back from JSON as it is. */
  | "invalid-payload"
  /** An argument can't be used. */
  | "invalid-argument"
  /** A position of another store, or of this store before it was restored. */
  | "foreign-position"
  /** The archive was cut off or changed, is of a newer release, or is none: `details.problem`. */
  | "unreadable-archive"
  /** The archive is a part of a log that can't stand where it is imported: what comes before it is missing. */
  | "incomplete-archive"
  /** The store that is imported into has events that the archive does not have. */
  | "other-events"
  /** The store has another event, or another command, with the same id. */
  | "event-id-collision"
  /** Reactions have run on the store that is imported into. */
  | "reactions-have-begun"
  /** The store has broken a rule: `verify` of `annals/operations` tells where. */
  | "damaged-store"
  /** Given up by the caller's signal or by closing the engine; not in the log. */
  | "cancelled"
  | "engine-closed"
  /** The engine's code could not be loaded or compiled; `cause` says why. */
  | "module-failed"
  /** The engine panicked, which is a bug of ours. Open another; nothing acknowledged is lost. */
  | "engine-poisoned"
  /** The host used the engine wrongly. */
  | "api-misuse"
  | "storage-failed"
  | "storage-busy"
  | "storage-full"
  | "storage-closed"
  | "storage-timed-out"
  | "foreign-epoch"
  | "unknown-format";

/**
 * What is wrong with a stored event: a later release has written it (`newer-version`), this release
 * does not know its type (`unknown-type`), or its payload, an upcaster or `evolve` fails (`failed`).
 */
export type EventProblem = "failed" | "newer-version" | "unknown-type";

/** The stream an error is about. */
interface OfStream {
  readonly stream: { readonly type: string; readonly id: string };
}

/** The command an error is about. */
interface OfCommand extends OfStream {
  /** Its type. */
  readonly command: string;
}

/** What is wrong with an archive. `invalid`: no engine would store what it has; `unknown`: it is none. */
export type ArchiveProblem = "changed" | "invalid" | "newer-version" | "truncated" | "unknown" | "wrong-order";

/** How far an import came. */
export interface ImportedSoFar {
  /** Commits and events that were appended. */
  readonly commits: number;
  readonly events: number;
  /** Events that the store had already. */
  readonly known: number;
}

/** Of imports. */
interface OfImport {
  readonly imported: ImportedSoFar;
}

/** What the `details` of an error tell, by its code. */
export interface ErrorDetails {
  readonly refused: { readonly code: string; readonly details: unknown };
  readonly "wrong-revision": OfStream & { readonly actual: number };
  readonly contended: OfStream & { readonly attempts: number };
  readonly "command-id-reused": { readonly commandId: string };
  readonly "outcome-unknown": { readonly commandId: string; readonly cause: StorageCode };
  readonly "unreadable-event": OfStream & { readonly revision: number; readonly problem: EventProblem };
  /** Of a command; one that a projection's fold has failed tells nothing. */
  readonly "domain-failed": Partial<OfCommand>;
  /** Of a command, where one was given. */
  readonly "invalid-name": Partial<OfCommand>;
  readonly "invalid-payload": Partial<OfCommand>;
  readonly "unknown-aggregate": { readonly type: string | undefined };
  readonly "no-such-revision": OfStream & { readonly asked: number; readonly actual: number };
  readonly "no-such-position": { readonly position: string };
  readonly "no-snapshots": { readonly type: string };
  readonly "state-not-json": OfStream;
  readonly "unknown-projection": { readonly projection: string };
  readonly "subscription-moved": { readonly subscription: string };
  readonly "unknown-reaction": { readonly reaction: string };
  readonly "unknown-index": { readonly projection: string; readonly index: string };
  readonly "projection-stopped": {
    readonly projection: string;
    readonly reason: string;
    readonly position: string;
  };
  readonly "unreadable-document": { readonly projection: string; readonly key: string };
  readonly "foreign-position": { readonly position: string };
  readonly "unreadable-archive": Partial<OfImport> & { readonly problem: ArchiveProblem; readonly line: number };
  readonly "incomplete-archive": OfImport;
  readonly "other-events": OfImport & { readonly position: number };
  readonly "event-id-collision": OfImport & { readonly eventId: string };
  readonly "reactions-have-begun": OfImport & { readonly reactions: readonly string[] };
  readonly "damaged-store": { readonly damage: FindingCode; readonly position: number };
}

/** An error with this code. */
export type ErrorOf<Code extends ErrorCode> = AnnalsError<
  Code extends keyof ErrorDetails
    ? ErrorDetails[Code]
    : Code extends StorageCode
      ? { readonly retryable: boolean }
      : unknown
> & { readonly code: Code };

const BRAND = Symbol.for("annals.AnnalsError");

/** Every error of Annals. Recognise it with {@link AnnalsError.is}, which works across copies. */
export class AnnalsError<Details = unknown> extends Error {
  override readonly name = "AnnalsError";
  readonly code: ErrorCode;
  readonly details: Details;

  constructor(code: ErrorCode, message: string, details: Details, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Whether `error` is an error of Annals, with this code if one is given. */
  static is<Code extends ErrorCode = ErrorCode>(error: unknown, code?: Code): error is ErrorOf<Code> {
    if (typeof error !== "object" || error === null || !(BRAND in error)) return false;
    return code === undefined || (error as unknown as AnnalsError).code === code;
  }
}

/** The domain refused a command. */
export class RefusedError<Refused = ErrorDetails["refused"]> extends AnnalsError<Refused> {
  constructor(refusal: Refused & { readonly code: string }) {
    super("refused", `refused: ${refusal.code}`, refusal);
  }
}

export function invalidArgument(message: string): AnnalsError {
  return new AnnalsError("invalid-argument", message, {});
}

export function closed(): AnnalsError {
  return new AnnalsError("engine-closed", "the engine is closed", {});
}
