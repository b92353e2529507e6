/** The tests of a storage adapter: its enrolment, checked, and what is run around each rule. */
import { AnnalsError, invalidArgument } from "../../errors.js";
import type { Answer, Commit, StorageAdapter } from "../../storage.js";
import { ensure, same } from "./expect.js";
import type { Job, Report } from "./job.js";
import type { Capabilities, FaultOf, Faults, Need, OlderStore, OwnJudge, Place, Rule } from "./rule.js";
import { rules } from "./rules/index.js";
import { Subject } from "./subject.js";

/** An adapter, and what the suite needs to be told of it. */
export interface ConformanceOptions<Store extends OpenedStore = OpenedStore> {
  /** The adapter's name, with which its tests' names begin. */
  readonly name: string;
  /** Makes an empty store, and an adapter on it. What it returns is given to the other functions. */
  open(): Answer<Store>;
  /** Another adapter on the same store. */
  reopen?(store: Store): Answer<StorageAdapter>;
  /** Cleans up when all adapters are closed. */
  release?(store: Store): Answer<void>;
  /** What the adapter can do that others can't. What is not named is declared to be absent. */
  readonly capabilities?: Capabilities;
  /** Rules that are not run, and why. */
  readonly skip?: { readonly [rule: string]: string };
  /** Replaces the store by an empty one with another epoch, under its open adapters. */
  restore?(store: Store): Answer<void>;
  /**
   * Calls {@link perform} with the job and an adapter on the same store, in another process or page, and
   * returns what that gives. Job and report are JSON.
   */
  elsewhere?(store: Store, job: Job): Answer<Report>;
  /** A store of each form that earlier releases have written. */
  readonly older?: readonly OlderStore<Store>[];
  /** What can be made to go wrong. */
  readonly faults?: Faults<Store>;
  /** Milliseconds after which a rule is given up, for a wrong adapter may leave it waiting. Default: 60,000. */
  readonly patience?: number;
  /** The adapter's own judge, if it does not ask the engine's. */
  readonly judge?: OwnJudge<Store>;
}

/** What `open` returns: an adapter, and whatever else the enrolment wants to know again. */
export interface OpenedStore {
  readonly storage: StorageAdapter;
}

/** One rule for one adapter, to be given to whatever runs tests. */
export interface ConformanceTest {
  /** The adapter's name and the rule. */
  readonly name: string;
  readonly rule: string;
  /** What the adapter must be able to do to be held to it; `null` if every adapter is. */
  readonly needs: string | null;
  /** Why it is not run, `false` if it is. */
  readonly skip: string | false;
  /** Rejects if the adapter breaks the rule. */
  run(): Promise<void>;
}

/**
 * The tests of a storage adapter. Any runner runs them, in Node and in pages:
 *
 * ```ts
 * const tests = conformance({ name: "mine", open: () => ({ storage: myStorage() }) });
 * for (const { name, skip, run } of tests) test(name, { skip }, run);
 * ```
 *
 * Each opens a store of its own. They don't depend on each other.
 *
 * @throws {AnnalsError} `invalid-argument` if the enrolment does not make sense: it names something
 * unknown, declares what it gives no means to test, skips without a reason, or leaves nothing to be run.
 */
export function conformance<Store extends OpenedStore>(
  options: ConformanceOptions<Store>,
): readonly ConformanceTest[] {
  checkOptions(options);
  const { name, capabilities = {}, skip = {} } = options;
  const tests = rules.map((rule): ConformanceTest => {
    const needs = needsOf(rule);
    const absent = whyAbsent(options, rule);
    return {
      name: `${name}: ${rule.name}`,
      rule: rule.name,
      needs: needs.length === 0 ? null : needs.map(labelOf).join(", "),
      skip: absent || (skip[rule.name] ?? false),
      run: () => run(rule, options, capabilities),
    };
  });
  if (tests.every(({ skip }) => skip !== false)) throw refused(name, "leaves no rule to be run");
  return tests;
}

// --- The enrolment ----------------------------------------------------------------------------

/** The values that a capability may have. */
const CAPABILITIES: { readonly [Name in keyof Required<Capabilities>]: readonly Capabilities[Name][] } = {
  durability: ["memory", "process-crash", "power-loss", "replicated"],
  connections: [true, false],
  reopening: [true, false],
  notification: ["engines", "connections"],
  processes: [true, false],
  restoring: [true, false],
  migration: [true, false],
  presence: [true, false],
};

const FAULTS: { readonly [Name in keyof Required<Faults<unknown>>]: string } = {
  full: "a full medium",
  locked: "a lock of somebody else",
  failing: "a failing driver",
  unanswered: "a commit without an answer",
  disconnected: "a lost connection",
  held: "a commit that is held up",
};

const OPTIONS: { readonly [Name in keyof Required<ConformanceOptions>]: readonly string[] } = {
  name: ["string"],
  open: ["function"],
  reopen: ["function", "undefined"],
  release: ["function", "undefined"],
  capabilities: ["object", "undefined"],
  skip: ["object", "undefined"],
  restore: ["function", "undefined"],
  elsewhere: ["function", "undefined"],
  older: ["object", "undefined"],
  faults: ["object", "undefined"],
  patience: ["number", "undefined"],
  judge: ["object", "undefined"],
};

function checkOptions<Store extends OpenedStore>(options: ConformanceOptions<Store>): void {
  if (typeof options !== "object" || options === null) throw invalidArgument("expected an adapter to test");
  const { name, capabilities = {}, skip = {}, older, faults = {} } = options;
  if (typeof name !== "string" || name === "") throw invalidArgument("expected an adapter's name");
  const check = (what: string, value: unknown, known: Record<string, unknown>) => {
    if (!Object.hasOwn(known, what)) throw refused(name, `has an unknown ${String(value)} ${JSON.stringify(what)}`);
  };
  for (const [what, value] of Object.entries(options)) {
    check(what, "option", OPTIONS);
    const types = OPTIONS[what as keyof typeof OPTIONS];
    if (value === null || !types.includes(typeof value)) throw refused(name, `gives as ${what} no ${types[0]!}`);
  }
  if (typeof options.open !== "function") throw refused(name, "gives no way to open a store");
  for (const [what, value] of Object.entries(capabilities)) {
    check(what, "capability", CAPABILITIES);
    if (value === undefined || CAPABILITIES[what as keyof Capabilities].includes(value as never)) continue;
    throw refused(name, `declares ${what} to be ${JSON.stringify(value)}`);
  }
  for (const what of Object.keys(faults)) check(what, "fault", FAULTS);
  for (const [rule, reason] of Object.entries(skip)) {
    check(rule, "rule", Object.fromEntries(rules.map(({ name }) => [name, true])));
    if (typeof reason !== "string" || reason.trim() === "") throw refused(name, `skips without a reason: ${rule}`);
  }

  // What is declared can be tested, and what can be tested is declared.
  const { connections, reopening, processes, restoring, migration } = capabilities;
  const means: readonly (readonly [string, boolean, string, unknown])[] = [
    ["connections or reopening", connections === true || reopening === true, "reopen", options.reopen],
    ["processes", processes === true, "elsewhere", options.elsewhere],
    ["restoring", restoring === true, "restore", options.restore],
    ["migration", migration === true, "older", older],
  ];
  for (const [capability, isDeclared, option, given] of means) {
    if (isDeclared && given === undefined) throw refused(name, `declares ${capability}, but gives no ${option}`);
    if (!isDeclared && given !== undefined) throw refused(name, `gives ${option}, but does not declare ${capability}`);
  }
  if (faults.held !== undefined && connections !== true) throw refused(name, "gives the fault held, but does not declare connections");
  if (older?.length === 0) throw refused(name, "declares migration, but gives no older store");
}

const refused = (name: string, why: string): AnnalsError => invalidArgument(`the enrolment of ${name} ${why}`);

function has<Store extends OpenedStore>({ capabilities = {}, faults = {}, judge }: ConformanceOptions<Store>, need: Need): boolean {
  if (need === "judge") return judge !== undefined;
  if (need === "notification to connections") return capabilities.notification === "connections";
  if (need in FAULTS) return faults[need as keyof Faults<Store>] !== undefined;
  const value = capabilities[need as keyof Capabilities];
  return value !== undefined && value !== false;
}

const needsOf = ({ needs = [] }: Rule): readonly Need[] => (typeof needs === "string" ? [needs] : needs);

function whyAbsent<Store extends OpenedStore>(options: ConformanceOptions<Store>, rule: Rule): string | false {
  if (rule.asksJudge === true && options.judge !== undefined) return "declared: a judge of its own";
  const missing = needsOf(rule).filter((need) => !has(options, need));
  return missing.length > 0 && `not declared: ${missing.map(labelOf).join(", ")}`;
}

function labelOf(need: Need): string {
  if (need === "judge") return "a judge of its own";
  return FAULTS[need as keyof typeof FAULTS] ?? need;
}

// --- A test -----------------------------------------------------------------------------------

async function run<Store extends OpenedStore>(
  rule: Rule,
  options: ConformanceOptions<Store>,
  capabilities: Capabilities,
): Promise<void> {
  /** Undone in turn, the last first. */
  const undo: (() => unknown)[] = [];
  const failures: unknown[] = [];
  const attempt = async (action: () => unknown) => {
    try {
      await action();
    } catch (error) {
      failures.push(error);
    }
  };
  await attempt(async () => {
    const opened = async (store: Store) => {
      undo.push(() => options.release?.(store), () => store.storage.close());
      return store;
    };
    const closing = async (storage: Answer<StorageAdapter>) => {
      const adapter = await storage;
      undo.push(() => adapter.close());
      return adapter;
    };
    const store = await opened(await options.open());
    const { judge } = options;
    const askFacts = judge && ((commits: readonly Commit[]) => judge.facts(store, commits));
    const subjectOf = (storage: StorageAdapter) => Subject.open(storage, askFacts);
    const subject = await subjectOf(store.storage);
    const reopen = () => closing(options.reopen!(store));
    const place: Place = {
      capabilities,
      reopen,
      subjectOf,
      another: async () => subjectOf(await reopen()),
      restore: async () => options.restore!(store),
      elsewhere: async (job) => options.elsewhere!(store, job),
      fault: async <Name extends keyof Faults<unknown>>(name: Name) => {
        const fault = (await options.faults![name]!(store)) as FaultOf<Name>;
        // Whatever comes of the rule.
        undo.push(() => fault.end());
        return { fault, subject: fault.storage === undefined ? subject : await subjectOf(await closing(fault.storage)) };
      },
      older: async () => {
        const all = [];
        for (const { format, log, open } of options.older as readonly OlderStore<Store>[]) {
          const older = await opened(await open());
          const reopen = async () => (options.reopen === undefined ? older.storage : closing(options.reopen(older)));
          all.push({ format, log, storage: older.storage, reopen });
        }
        return all;
      },
      judge: judge && ((...asked) => judge.judge(...asked)),
    };
    await within(options.patience ?? 60_000, async () => {
      await rule.run(subject, place);
      if (rule.replacesStore !== true) await checkLog(await Subject.open(store.storage));
    });
  });
  for (const action of undo.reverse()) await attempt(action);
  // What went wrong first is why the rest did.
  if (failures.length > 0) throw failures[0];
}

async function within(millis: number, work: () => Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the rule has not come to an end within ${millis} ms`)), millis);
  });
  try {
    await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whatever was done to a store: its log has no gap, nothing twice, and each stream counts from 1. */
async function checkLog(subject: Subject): Promise<void> {
  const log = await subject.log();
  const revisions = new Map<string, number>();
  const ids = new Set<string>();
  let before = "";
  for (const [index, event] of log.entries()) {
    const { position, aggregateType, aggregateId, revision, eventId, recordedAt } = event;
    same(position, index + 1, "the position of an event, when all is done");
    const stream = JSON.stringify([aggregateType, aggregateId]);
    same(revision, (revisions.get(stream) ?? 0) + 1, `the revision of event ${position}, when all is done`);
    revisions.set(stream, revision);
    ensure(!ids.has(eventId), `event ${eventId} is in the log twice`);
    ids.add(eventId);
    ensure(recordedAt >= before, `event ${position} was recorded at ${recordedAt}, the one before it at ${before}`);
    before = recordedAt;
  }
  same(subject.info.head, log.length, "the head, when all is done");
}
