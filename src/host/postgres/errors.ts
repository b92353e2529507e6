import { StorageFailure, type StorageCode } from "../storage.js";
import { FOREIGN_EPOCH, NOT_A_STORE } from "./schema.js";

interface Problem {
  readonly code: StorageCode;
  /** Whether the same request may succeed soon, maybe by another connection. */
  readonly retryable: boolean;
}

const busy: Problem = { code: "storage-busy", retryable: true };
const full: Problem = { code: "storage-full", retryable: false };
const away: Problem = { code: "storage-failed", retryable: true };
const unknown: Problem = { code: "unknown-format", retryable: false };
const failed: Problem = { code: "storage-failed", retryable: false };

/** The connection is to a standby, or is to read only. */
const READ_ONLY = "25006";

/** By SQLSTATE, or by its class. What is not here will not be better next time. */
const BY_STATE = new Map<string, Problem>([
  [FOREIGN_EPOCH, { code: "foreign-epoch", retryable: false }],
  [NOT_A_STORE, unknown],
  ["40001", busy], // serialization_failure
  ["40P01", busy], // deadlock_detected
  ["55P03", busy], // lock_not_available: it was waited for as long as it may be
  ["53300", busy], // too_many_connections
  ["57014", { code: "storage-timed-out", retryable: true }], // query_canceled, by statement_timeout
  ["25P03", { code: "storage-timed-out", retryable: true }], // idle_in_transaction_session_timeout
  ["53100", full], // disk_full
  ["53", away], // memory and the like
  ["57P", away], // the server goes down, comes up, or was told to end the connection
  ["58", away], // system errors
  [READ_ONLY, away],
  ["08", away], // connection exceptions
  ["42710", unknown], // duplicate_object: what the store would be called is something else
  ["42723", unknown],
  ["42P07", unknown],
  ["42P06", busy], // duplicate_schema: another process creates it
]);

/** The class of the states after which a connection is of no use, whatever they say of the request. */
const ENDS_CONNECTION = /^(08|25006|57P)/;

/** Errors that come of a missing schema or function: nobody has made the store yet, or it was dropped. */
const NO_STORE = new Set(["3F000", "42883", "42P01"]);

export const isNoStore = (error: unknown): boolean => NO_STORE.has(stateOf(error) ?? "");

/** Errors of those who may not change the store, or only read. */
const NOT_ALLOWED = new Set(["42501", READ_ONLY]);

export const isNotAllowed = (error: unknown): boolean => NOT_ALLOWED.has(stateOf(error) ?? "");

/** Errors of a statement that the connection does not have under its name, or has as it no longer can be. */
const NOT_PREPARED = new Set(["26000", "42P05", "0A000"]);

export const isNotPrepared = (error: unknown): boolean => NOT_PREPARED.has(stateOf(error) ?? "");

/** Whether a connection that gave this error must not be used again. */
export function endsConnection(error: unknown): boolean {
  const state = stateOf(error);
  return state === undefined || isFatal(error) || ENDS_CONNECTION.test(state);
}

/**
 * What has gone wrong with a request. The server rolls back what it answers with an error; but one that
 * ends the connection, or an end without a word, may have come after the commit.
 */
export function asFailure(error: unknown, wasSent: boolean): StorageFailure {
  if (error instanceof StorageFailure) return error;
  const state = stateOf(error);
  const problem =
    state === undefined
      ? { ...away, retryable: !isEnded(error) }
      : (BY_STATE.get(state) ?? BY_STATE.get(state.slice(0, 3)) ?? BY_STATE.get(state.slice(0, 2)) ?? failed);
  return new StorageFailure(isEnded(error) ? "storage-closed" : problem.code, messageOf(error), {
    retryable: problem.retryable,
    // Who only reads has written nothing.
    mayBeApplied: wasSent && endsConnection(error) && !isEnded(error) && state !== READ_ONLY,
    cause: error,
  });
}

export function timedOut(what: string, millis: number, mayBeApplied: boolean): StorageFailure {
  return new StorageFailure("storage-timed-out", `${what} took more than ${millis} ms`, {
    retryable: true,
    mayBeApplied,
  });
}

export function unknownFormat(found: string, cause?: unknown): StorageFailure {
  return new StorageFailure("unknown-format", `expected a store of Annals, found ${found}`, { cause });
}

/** The SQLSTATE of what the server has said. */
function stateOf(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  // Node's own codes, such as EPIPE, may have as many letters, but the server's say how bad it is.
  const isServers = typeof (error as { severity?: unknown } | undefined)?.severity === "string";
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && isServers ? code : undefined;
}

function isFatal(error: unknown): boolean {
  const { severity } = error as { severity?: unknown };
  return severity === "FATAL" || severity === "PANIC";
}

/** Whether it was the application that has ended the pool or the database; they only say so in words. */
function isEnded(error: unknown): boolean {
  return /after calling end on the pool|PGlite is closed/.test(messageOf(error));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
