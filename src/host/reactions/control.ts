import type { Driver } from "../driver.js";
import type { Position } from "../engine.js";
import { invalidArgument } from "../errors.js";
import type { AbortSignal } from "../platform.js";
import { checkNames, INPUT_ASK_REACTION, type Reader, type Writer } from "../wire.js";

/** An event that could not be handled. What comes after it in its stream waits. */
export interface Parked {
  readonly stream: { readonly type: string; readonly id: string };
  /** Its position; or the place before it, while it has not been tried again. */
  readonly position: Position;
  readonly attempts: number;
  /** When it is tried again: ISO 8601, UTC; `null`: not before somebody says so. */
  readonly retryAt: string | null;
  readonly error: string;
}

/** How a reaction is. */
export interface ReactionStatus {
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
  readonly parked: readonly Parked[];
  /** What hinders this engine, if something does. */
  readonly trouble: string | null;
}

/** Looks after a reaction. Each call gives how it is after that. */
export interface ReactionControl {
  status(options?: { readonly signal?: AbortSignal }): Promise<ReactionStatus>;
  /** This engine begins with no more events, and gives the reaction to another when those under way are done. */
  pause(): Promise<ReactionStatus>;
  /** This engine may run it again. */
  resume(): Promise<ReactionStatus>;
  /** Tries again what is parked of this stream, whichever engine runs the reaction. */
  retry(stream: Parked["stream"]): Promise<ReactionStatus>;
  /** Passes what is parked of this stream: the stream goes on behind it. */
  drop(stream: Parked["stream"]): Promise<ReactionStatus>;
}

const [NOTHING, PAUSE, RESUME, RETRY, DROP] = [0, 1, 2, 3, 4];

export class Control implements ReactionControl {
  readonly #driver: Driver;
  readonly #name: string;

  constructor(driver: Driver, name: string) {
    this.#driver = driver;
    this.#name = name;
  }

  status({ signal }: { readonly signal?: AbortSignal } = {}): Promise<ReactionStatus> {
    return this.#ask(signal, (message) => message.word(NOTHING!));
  }

  pause(): Promise<ReactionStatus> {
    return this.#ask(undefined, (message) => message.word(PAUSE!));
  }

  resume(): Promise<ReactionStatus> {
    return this.#ask(undefined, (message) => message.word(RESUME!));
  }

  retry(stream: Parked["stream"]): Promise<ReactionStatus> {
    return this.#wish(RETRY!, stream);
  }

  drop(stream: Parked["stream"]): Promise<ReactionStatus> {
    return this.#wish(DROP!, stream);
  }

  async #wish(what: number, { type, id }: Parked["stream"]): Promise<ReactionStatus> {
    if (typeof type !== "string" || typeof id !== "string") throw invalidArgument("expected a stream with type and id");
    checkNames([type, id]);
    const lane = JSON.stringify([type, id]);
    return this.#ask(undefined, (message) => message.word(what).str(lane));
  }

  #ask(signal: AbortSignal | undefined, write: (message: Writer) => void): Promise<ReactionStatus> {
    const { epoch } = this.#driver;
    return this.#driver.ask(INPUT_ASK_REACTION, this.#name, signal, write, (output) => readStatus(output, epoch));
  }
}

function readStatus(output: Reader, epoch: string): ReactionStatus {
  const place = (number: number) => `${epoch}:${number}` as Position;
  const [position, head] = [output.number(), output.number()];
  return {
    position: place(position),
    behind: Math.max(0, head - position),
    runsHere: output.flag(),
    runs: output.flag(),
    paused: output.flag(),
    parked: output.list(() => {
      const [type, id] = JSON.parse(output.str()) as [string, string];
      const [at, attempts] = [output.number(), output.word()];
      const retryAt = output.option(() => new Date(output.time()).toISOString());
      return { stream: { type, id }, position: place(at), attempts, retryAt, error: output.str() };
    }),
    trouble: output.option(() => output.str()),
  };
}
