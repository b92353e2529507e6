/** How vectors are written down. */

/** Documents, as lists: collection, key, revision, value and postings. */
export interface Story {
  readonly name: string;
  readonly steps: readonly Step[];
}

export type Step = SaveStep | NamesStep | ScanStep;

export interface SaveStep {
  readonly save: {
    readonly expected?: readonly (readonly [collection: string, key: string, revision: number])[];
    readonly clear?: readonly string[];
    readonly documents: readonly (readonly [string, string, number, string | null, readonly (readonly [string, string])[]])[];
  };
  readonly conflict: readonly [index: number, actual: number] | null;
}

export interface NamesStep {
  readonly names: readonly (readonly [collection: string, key: string])[];
  readonly found: readonly (readonly [revision: number, value: string] | null)[];
}

export interface ScanStep {
  readonly scan: {
    readonly collection: string;
    readonly index?: string | null;
    readonly from?: string | null;
    readonly to?: string | null;
    readonly after?: readonly [at: string, key: string];
    readonly descending?: boolean;
    readonly limit?: number | null;
  };
  readonly page?: readonly (readonly [at: string, key: string, revision: number, value: string])[];
  readonly more?: boolean;
  readonly count?: number;
}

/** A log, as lists, and what is read of it. Events are told by their positions. */
export interface LogStory {
  readonly name: string;
  readonly appends: readonly { readonly now: number; readonly commits: readonly LogCommit[] }[];
  readonly snapshots?: readonly (readonly [key: string, revision: number, value: string])[];
  readonly log: readonly (readonly [aggregateType: string, aggregateId: string, revision: number, recordedAt: number])[];
  readonly steps: readonly LogStep[];
}

export interface LogCommit {
  readonly command: number;
  readonly stream: readonly [aggregateType: string, aggregateId: string];
  /** Correlation id. Those without one are their own first cause. */
  readonly cause?: string;
  readonly events: readonly (readonly [type: string, tags: readonly string[]])[];
}

export type LogStep = StreamStep | QueryStep | CommandsStep | PageStep;

export interface StreamStep {
  readonly stream: LogCommit["stream"];
  readonly after?: number;
  readonly snapshot?: string;
  readonly until?: { readonly revision?: number; readonly position?: number; readonly time?: number };
  readonly limit?: number;
  readonly events: readonly number[];
  readonly revision: number;
  readonly more: boolean;
  /** The snapshot that comes with them. */
  readonly found?: readonly [revision: number, value: string] | null;
}

export interface QueryStep {
  readonly query: readonly (readonly [types: readonly string[], tags: readonly string[]])[];
  readonly after: number;
  readonly matches: readonly number[];
}

export interface CommandsStep {
  readonly commands: readonly number[];
  readonly first: readonly (readonly [position: number, revision: number, count: number, recordedAt: number] | null)[];
}

export interface PageStep {
  readonly page: {
    readonly after: number;
    readonly descending?: boolean;
    readonly limit?: number;
    readonly types?: readonly string[];
    readonly aggregateTypes?: readonly string[];
    readonly tags?: readonly string[];
    readonly cause?: string;
  };
  /** Those of all pages that follow each other from there on. */
  readonly events: readonly number[];
}

/** Commits, facts and what the judge says of them. All streams are `Appointment`s. */
export interface JudgeVectorText {
  readonly name: string;
  readonly now: number;
  readonly head: number;
  readonly lastRecordedAt: number;
  readonly commits: readonly {
    readonly command: number;
    readonly hash: string;
    readonly stream: string;
    readonly expected: number | { readonly after: number };
    readonly condition: {
      readonly query: readonly { readonly types: readonly string[]; readonly tags: readonly string[] }[];
      readonly after: number;
      readonly neighbours: readonly number[];
    } | null;
    readonly events: readonly { readonly type: string; readonly tags: readonly string[] }[];
  }[];
  readonly facts: readonly { readonly revision: number; readonly first: FirstText | null; readonly matched: number | null }[];
  readonly verdicts: readonly VerdictText[];
}

export interface SummaryText {
  readonly position: number;
  readonly revision: number;
  readonly count: number;
  readonly recordedAt: number;
}

export type FirstText = SummaryText & { readonly hash: string; readonly stream: string };

export type VerdictText =
  | { readonly committed: SummaryText }
  | { readonly duplicate: FirstText }
  | { readonly reused: FirstText }
  | { readonly conflict: { readonly revision?: number; readonly matched?: number; readonly neighbour?: number } };
