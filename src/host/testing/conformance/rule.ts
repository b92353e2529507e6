/** What a rule is, and what it is run on. */
import type { Answer, Commit, Durability, Facts, StorageAdapter, StoredEvent, Verdict } from "../../storage.js";
import type { Job, Report } from "./job.js";
import type { Subject } from "./subject.js";

/** A sentence that is true of every adapter, or of every one that can do what it needs. */
export interface Rule {
  readonly name: string;
  readonly needs?: Need | readonly Need[];
  /** Whether it is about how the engine's judge is asked. */
  readonly asksJudge?: boolean;
  /** Whether the store is another one when the rule has ended. */
  readonly replacesStore?: boolean;
  run(subject: Subject, place: Place): Answer<void>;
}

/** What not every store can do, or not every enrolment can bring about. */
export type Need = keyof Abilities | keyof Faults<unknown> | "notification to connections" | "judge";

/** What an adapter can do that others can't: what is not named it can't. */
export interface Capabilities extends Abilities {
  /** What an acknowledged append survives. It must be what the store says of itself. */
  readonly durability?: Durability;
}

interface Abilities {
  /** Several adapters can have one store open at the same time. Needs `reopen`. */
  readonly connections?: boolean;
  /** What was written is there when every adapter was closed. Needs `reopen`. */
  readonly reopening?: boolean;
  /**
   * Who is told of an append without asking: the `engines` on the adapter that made it, or those on
   * all `connections` to the store.
   */
  readonly notification?: "engines" | "connections";
  /** Several processes, or pages, can use one store at the same time. Needs `elsewhere`. */
  readonly processes?: boolean;
  /** The store can become another one under its adapters, as when a backup is restored. Needs `restore`. */
  readonly restoring?: boolean;
  /** Stores of earlier releases are read and brought to today's form. Needs `older`. */
  readonly migration?: boolean;
  /** Others hear when somebody is gone. Needs `presence` of the adapter. */
  readonly presence?: boolean;
}

/**
 * What an enrolment can bring about to see what the adapter makes of it. Each is a function that
 * prepares it, on the store that was opened for the rule.
 */
export interface Faults<Store> {
  /** The medium has no room for a mebibyte more. */
  full?(store: Store): Answer<Fault>;
  /** Somebody else holds the write lock, for longer than the adapter waits. */
  locked?(store: Store): Answer<Fault>;
  /** Every request to the driver fails with an error of the driver's. */
  failing?(store: Store): Answer<Fault>;
  /** The transaction of the next append ends so that nobody can tell how. */
  unanswered?(store: Store): Answer<Fault>;
  /** The connection to the store is gone. When this ends another can be had. */
  disconnected?(store: Store): Answer<Fault>;
  /** The next append is held up when it has written and before it is committed. */
  held?(store: Store): Answer<HeldFault>;
}

/** Something that goes wrong when the rule says so. */
export interface Fault {
  /** The adapter that meets it. Default: the one that was opened with the store. */
  readonly storage?: StorageAdapter;
  /** From now on it is so. */
  begin(): Answer<void>;
  /** From now on it is not. */
  end(): Answer<void>;
}

/** An append that is held up until this ends. */
export interface HeldFault extends Fault {
  readonly storage: StorageAdapter;
  /** Resolves when an append is held up. */
  reached(): Promise<void>;
}

/** A store that an earlier release has written. */
export interface OlderStore<Store> {
  /** What its form is called. */
  readonly format: string;
  /** Puts such a store in place. It is opened by the rule. */
  open(): Answer<Store>;
  /** Its events, as they are to be read. */
  readonly log: readonly StoredEvent[];
}

/** The judge of an adapter that does not ask the engine's, such as a function of the database. */
export interface OwnJudge<Store> {
  /** What it says of commits if these are the facts. `now`: milliseconds since 1970. */
  judge(commits: readonly Commit[], facts: Facts, now: number): Answer<Verdict[]>;
  /** The facts that it would find for commits in this store. */
  facts(store: Store, commits: readonly Commit[]): Answer<Facts>;
}

/** The store that a rule is run on. */
export interface Place {
  readonly capabilities: Capabilities;
  /** Opens an adapter. */
  subjectOf(storage: StorageAdapter): Promise<Subject>;
  /** Another adapter on the same store. */
  another(): Promise<Subject>;
  /** The same, but not yet opened. */
  reopen(): Promise<StorageAdapter>;
  /** Replaces the store by an empty one under its adapters. */
  restore(): Promise<void>;
  /** Has something done in another process. */
  elsewhere(job: Job): Promise<Report>;
  /** Prepares a fault, and opens the adapter that is to meet it. */
  fault<Name extends keyof Faults<unknown>>(
    name: Name,
  ): Promise<{ readonly subject: Subject; readonly fault: FaultOf<Name> }>;
  /** The stores of earlier releases, each with a way to open it again. */
  older(): Promise<readonly OlderPlace[]>;
  /** The adapter's own judge, if it has one. */
  readonly judge: OwnJudge<never>["judge"] | undefined;
}

export type FaultOf<Name> = Name extends "held" ? HeldFault : Fault;

export interface OlderPlace {
  readonly format: string;
  readonly storage: StorageAdapter;
  readonly log: readonly StoredEvent[];
  reopen(): Promise<StorageAdapter>;
}
