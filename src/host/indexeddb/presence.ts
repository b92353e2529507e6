import type { AbortSignal } from "../platform.js";
import type { HeldName, Presence } from "../storage.js";

/** How names begin that stand for a lock. */
const LOCK = "lock-";

/**
 * Who holds a Web Lock is there: the browser takes it away when the tab is closed, or has crashed. There is
 * none where the browser has no locks, or not for this page, as one that did not come by https.
 */
export function presenceIn(database: string): Presence | undefined {
  const locks = (globalThis.navigator as Partial<Navigator> | undefined)?.locks as LockManager | undefined;
  if (locks === undefined) return undefined;
  const lockOf = (name: string) => `annals/${database}/${name}`;
  return {
    hold: () =>
      new Promise<HeldName>((resolve, reject) => {
        const name = LOCK + crypto.randomUUID();
        const holding = () => new Promise<void>((release) => resolve({ name, release }));
        locks.request(lockOf(name), holding).catch(reject);
      }),
    async whenGone(name: string, signal: AbortSignal) {
      if (!name.startsWith(LOCK)) throw new Error(`${name} is no lock of this store`);
      // Those who wait for one lock get it together.
      await locks.request(lockOf(name), { mode: "shared", signal: signal as globalThis.AbortSignal }, () => undefined);
    },
  };
}
