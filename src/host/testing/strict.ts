/** Domain functions under watch: each is called twice, and must be pure. */
import type { ErasedFunctions } from "../domain.js";
import type { AnyStep, Forms } from "../upcast.js";
import { deepFreeze, reasonOf } from "../payload.js";
import { Mistake } from "./failure.js";
import { copyOf, difference } from "./values.js";

/** What a domain function threw by itself. */
export class Thrown extends Error {
  constructor(
    readonly by: string,
    readonly error: unknown,
  ) {
    super(`${by} threw: ${reasonOf(error)}`);
  }
}

/** The same functions; a {@link Mistake} says which of them is not pure, and why. */
export function strict(functions: ErasedFunctions): ErasedFunctions {
  const watched = (name: string, inputs: readonly string[], owner: object = functions, told = name) => {
    const run = (args: readonly unknown[]): unknown => Reflect.apply(Reflect.get(owner, name) as () => unknown, owner, args);
    return (...args: unknown[]) => twice(told, inputs, args, run) as never;
  };
  const { evolve, reads, tags } = functions;
  const folded = ["state", "event"];
  const byType = () => Object.keys(evolve).map((type) => [type, watched(type, folded, evolve, `evolve.${type}`)]);
  return {
    initial: watched("initial", []),
    decide: watched("decide", ["state", "command", "context"]),
    evolve: typeof evolve === "function" ? watched("evolve", folded) : (Object.fromEntries(byType()) as typeof evolve),
    ...(reads !== undefined && { reads: watched("reads", ["command", "state"]) }),
    ...(tags !== undefined && { tags: watched("tags", ["event", "before"]) }),
  };
}

/** The same upcasters, under watch too. */
export function strictForms(forms: Forms): Forms {
  const watched = (plan: string | AnyStep): string | AnyStep => {
    if (typeof plan === "string") return plan;
    const call = (name: string, run: (data: unknown) => unknown) => (data: unknown) =>
      twice(name, ["data"], [data], ([data]) => run(data)) as never;
    if (typeof plan === "function") return call("its upcaster", plan);
    return { becomes: call("becomes", (data) => plan.becomes(data)) };
  };
  return { ...forms, plans: new Map([...forms.plans].map(([form, plan]) => [form, watched(plan)])) };
}

/**
 * The first call has frozen arguments, as the engine's states are. The second has copies that may
 * be changed: whether they were says more than the error of a frozen object, and some code gets none.
 */
export function twice(
  name: string,
  inputs: readonly string[],
  args: readonly unknown[],
  run: (args: readonly unknown[]) => unknown,
  time = TIME,
): unknown {
  const frozen = args.map((arg) => deepFreeze(copyOf(arg)));
  const loose = args.map(copyOf);
  const first = watch(() => run(frozen), time);
  const result = textOf(first.value);
  const second = watch(() => run(loose), time);
  for (const { value } of [first, second]) if (value instanceof Promise) value.catch(() => undefined);
  const [use] = [...first.uses, ...second.uses];
  if (use !== undefined) throw new Mistake(`${name} called ${use.what}: it must be pure. ${use.instead}`, use.place);
  args.forEach((arg, index) => {
    const change = difference(arg, loose[index], inputs[index]!);
    if (change === null) return;
    const { place, left, right } = change;
    throw new Mistake(`${name} changed ${place}, which was ${left} and is ${right} after the call: it must be pure`);
  });
  if (first.threw && second.threw) throw new Thrown(name, first.error);
  if (first.threw) {
    const reason = reasonOf(first.error);
    throw new Mistake(`${name} can't be called with frozen arguments, and the engine's states are: ${reason}`, first.error);
  }
  const calls = `two calls of ${name} with the same arguments`;
  if (second.threw) throw new Mistake(`${calls}: one returned, one threw: ${reasonOf(second.error)}`, second.error);
  // Whoever takes the result says that it must not be a promise.
  if (first.value instanceof Promise) return first.value;
  const change = difference(first.value, second.value, "the result");
  if (change !== null) {
    throw new Mistake(`${calls} differ: ${change.place} is ${change.left} once and ${change.right} once`);
  }
  if (textOf(first.value) !== result) throw new Mistake(`${name} changed what it had returned before: it must be pure`);
  return first.value;
}

/** As JSON; what can't be written is nobody's result. */
function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

interface Watched {
  readonly value?: unknown;
  readonly threw: boolean;
  readonly error?: unknown;
  readonly uses: readonly Use[];
}

/** Something a pure function does not call. */
interface Use {
  readonly what: string;
  /** What to do instead. */
  readonly instead: string;
  /** Its stack says where. */
  readonly place: Error;
}

const TIME = "The time of a decision is `issuedAt`.";
const CHANCE = "Let the command bring what is random.";

/** Runs something while nobody can ask for the time or for random numbers unseen. */
function watch(run: () => unknown, time: string): Watched {
  const uses: Use[] = [];
  const undo: (() => void)[] = [];
  const note = (what: string, instead: string) => {
    uses.push({ what, instead, place: new Error(`${what} was called here`) });
  };
  const put = (owner: object, key: string, value: unknown) => {
    const own = Reflect.getOwnPropertyDescriptor(owner, key);
    if (!Reflect.defineProperty(owner, key, { configurable: true, writable: true, value })) return;
    undo.unshift(() => {
      if (own === undefined) Reflect.deleteProperty(owner, key);
      else Reflect.defineProperty(owner, key, own);
    });
  };
  const spy = (owner: object | undefined, key: string, what: string, instead: string) => {
    const original: unknown = owner === undefined ? undefined : Reflect.get(owner, key);
    if (typeof original !== "function") return;
    const apply = (target: object, self: unknown, args: unknown[]): unknown => {
      note(what, instead);
      return Reflect.apply(target as () => unknown, self, args);
    };
    put(owner!, key, new Proxy(original, { apply }));
  };
  const { Date: RealDate, crypto, performance } = globalThis;
  spy(RealDate, "now", "Date.now()", time);
  spy(performance, "now", "performance.now()", time);
  spy(Math, "random", "Math.random()", CHANCE);
  spy(crypto, "randomUUID", "crypto.randomUUID()", CHANCE);
  spy(crypto, "getRandomValues", "crypto.getRandomValues()", CHANCE);
  const SpiedDate: DateConstructor = new Proxy(RealDate, {
    apply(target, self, args) {
      note("Date()", time);
      return Reflect.apply(target as () => string, self, args);
    },
    construct(target, args, made) {
      if (args.length === 0) note("new Date()", time);
      return Reflect.construct(target, args, made === SpiedDate ? target : made) as object;
    },
  });
  put(globalThis, "Date", SpiedDate);
  try {
    return { value: run(), threw: false, uses };
  } catch (error) {
    return { threw: true, error, uses };
  } finally {
    for (const step of undo) step();
  }
}
