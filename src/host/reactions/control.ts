import type { AnyReaction } from "../domain.js";
import type { Driver } from "../driver.js";
import type { Position } from "../engine.js";
import type { AbortSignal } from "../platform.js";
import { checkNames, Input, type Writer } from "../wire.js";

/** What could not be handled. */
export interface Unhandled {
  /** Its position; or the place before it, while it has not been tried again. `null`: it is a timer. */
  readonly position: Position | null;
  readonly attempts: number;
  /** When it is tried again: ISO 8601, UTC; `null`: not before somebody says so. */
  readonly retryAt: string | null;
  /** Why it could not be handled; empty: what was parked before it is passed, and it has not been tried. */
  readonly error: string;
}

/** An event that could not be handled. What comes after it in its stream waits. */
export interface Parked extends Unhandled {
  readonly stream: { readonly type: string; readonly id: string };
  readonly position: Position;
}

/** How a reaction is. */
export interface ReactionStatus<What = Parked> {
  /** All up to here has been handled, but for what is parked. */
  readonly position: Position;
  /** Number of positions in the log after that. */
  readonly behind: number;
  /** Whether this engine runs it. */
  readonly runsHere: boolean;
  /** Whether some engine has said that it runs it. */
  readonly runs: boolean;
  /** Whether this engine has been told not to. */
  readonly paused: boolean;
  /** What could not be handled: it is tried again, or waits for somebody. */
  readonly parked: readonly What[];
  /** What hinders this engine, if something does. */
  readonly trouble: string | null;
}

/** Looks after a reaction. Each call gives how it is after that. */
export interface ReactionControl<Which = Parked["stream"], What = Parked> {
  status(options?: { readonly signal?: AbortSignal }): Promise<ReactionStatus<What>>;
  /** This engine begins with no more events, and gives the reaction to another when those under way are done. */
  pause(): Promise<ReactionStatus<What>>;
  /** This engine may run it again. */
  resume(): Promise<ReactionStatus<What>>;
  /** Tries again what is parked of this stream, whichever engine runs the reaction. */
  retry(which: Which): Promise<ReactionStatus<What>>;
  /** Passes what is parked of this stream: the stream goes on behind it. */
  drop(which: Which): Promise<ReactionStatus<What>>;
}

const [NOTHING, PAUSE, RESUME, RETRY, DROP] = [0, 1, 2, 3, 4];

export class Control<Which, What> implements ReactionControl<Which, What> {
  readonly #driver: Driver;
  readonly #name: string;
  readonly #laneOf: (which: Which) => string;
  readonly #whatOf: (lane: string, isTimer: boolean) => Omit<What, keyof Unhandled>;

  constructor(
    driver: Driver,
    name: string,
    laneOf: (which: Which) => string,
    whatOf: (lane: string, isTimer: boolean) => Omit<What, keyof Unhandled>,
  ) {
    this.#driver = driver;
    this.#name = name;
    this.#laneOf = laneOf;
    this.#whatOf = whatOf;
  }

  status({ signal }: { readonly signal?: AbortSignal } = {}): Promise<ReactionStatus<What>> {
    return this.#ask(signal, (message) => message.word(NOTHING!));
  }

  pause(): Promise<ReactionStatus<What>> {
    return this.#ask(undefined, (message) => message.word(PAUSE!));
  }

  resume(): Promise<ReactionStatus<What>> {
    return this.#ask(undefined, (message) => message.word(RESUME!));
  }

  retry(which: Which): Promise<ReactionStatus<What>> {
    return this.#wish(RETRY!, which);
  }

  drop(which: Which): Promise<ReactionStatus<What>> {
    return this.#wish(DROP!, which);
  }

  async #wish(what: number, which: Which): Promise<ReactionStatus<What>> {
    const lane = this.#laneOf(which);
    checkNames([lane]);
    return this.#ask(undefined, (message) => message.word(what).str(lane));
  }

  #ask(signal: AbortSignal | undefined, write: (message: Writer) => void): Promise<ReactionStatus<What>> {
    const { epoch } = this.#driver;
    const place = (number: number) => `${epoch}:${number}` as Position;
    return this.#driver.ask(Input.AskReaction, this.#name, signal, write, (output) => {
      const [position, head] = [output.number(), output.number()];
      return {
        position: place(position),
        behind: Math.max(0, head - position),
        runsHere: output.flag(),
        runs: output.flag(),
        paused: output.flag(),
        parked: output.list(() => {
          const [lane, at, attempts] = [output.str(), output.number(), output.word()];
          const retryAt = output.option(() => new Date(output.time()).toISOString());
          const left: Unhandled = { position: at === 0 ? null : place(at), attempts, retryAt, error: output.str() };
          return { ...this.#whatOf(lane, at === 0), ...left } as What;
        }),
        trouble: output.option(() => output.str()),
      };
    });
  }
}

/** Milliseconds that closing waits for what is being reacted to. */
const LONGEST_RELEASE = 5_000;

/** Gives the reactions to other engines, once what is being handled has come to an end, or soon after. */
export async function release(driver: Driver, reactions: readonly AnyReaction[]): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, LONGEST_RELEASE)));
  const releaseOne = async (reaction: AnyReaction) => {
    for (;;) {
      let onMoved = () => {};
      const moved = new Promise<void>((resolve) => (onMoved = resolve));
      const stop = driver.watchAny(reaction, () => onMoved());
      try {
        if (!(await reaction.control(driver).pause()).runsHere) return;
        await moved;
      } finally {
        stop();
      }
    }
  };
  // Where the store fails, others take over after the time of a lease.
  const released = Promise.all(reactions.map(releaseOne)).catch(() => undefined);
  await Promise.race([released, patience]);
  clearTimeout(timer);
}
