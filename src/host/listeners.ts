export type OnAdvanced = (position?: number) => void;

/**
 * Who wants to know of appends. They are told in a microtask, so that an engine never hears from
 * the adapter while it waits for the adapter's answer.
 */
export class Listeners {
  readonly #listeners = new Set<{ readonly onAdvanced: OnAdvanced }>();

  get size(): number {
    return this.#listeners.size;
  }

  /** Returns the way to stop it. */
  add(onAdvanced: OnAdvanced): () => void {
    const listener = { onAdvanced };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  tell(position?: number): void {
    for (const listener of this.#listeners) {
      queueMicrotask(() => {
        if (this.#listeners.has(listener)) listener.onAdvanced(position);
      });
    }
  }
}
