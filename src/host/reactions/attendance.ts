import type { HeldName, Presence, StorageAdapter } from "../storage.js";

/** Lets others know that an engine is there, and hears when those that it waits for are gone. */
export class Attendance {
  readonly #presence: Presence;
  readonly #held: HeldName;
  readonly #ending = new AbortController();
  readonly #awaited = new Set<string>();

  constructor(presence: Presence, held: HeldName) {
    this.#presence = presence;
    this.#held = held;
  }

  /** What the engine is called. */
  get name(): string {
    return this.#held.name;
  }

  /** Tells when this one is gone, once for all who ask before. */
  async await(owner: string, tell: () => void): Promise<void> {
    if (this.#awaited.has(owner)) return;
    this.#awaited.add(owner);
    try {
      await this.#presence.whenGone(owner, this.#ending.signal);
    } catch {
      // It can't be known, and is not asked again: the lease runs out.
      return;
    }
    this.#awaited.delete(owner);
    tell();
  }

  end(): void {
    this.#ending.abort();
    this.#held.release();
  }
}

/** Milliseconds that an engine waits for its name before it does without one. */
const LONGEST_HOLD = 1_000;

/**
 * An engine is there before it has a name, so that nobody who finds the name takes it for gone. Where it
 * can't be, it waits for nobody either, and leases run out.
 */
export async function attend({ presence }: StorageAdapter): Promise<Attendance | null> {
  if (presence === undefined) return null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<null>((resolve) => (timer = setTimeout(resolve, LONGEST_HOLD, null)));
  const hold = async () => presence.hold();
  const holding = hold().catch(() => null);
  const held = await Promise.race([holding, patience]);
  clearTimeout(timer);
  if (held !== null) return new Attendance(presence, held);
  void holding.then((late) => late?.release());
  return null;
}
