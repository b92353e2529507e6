// A short name for what a run has come to, so that runs can be compared.

/** A sum of texts: equal sums mean equal texts, but for accidents that are too rare to matter here. */
export class Digest {
  #low = 0x811c9dc5;
  #high = 0xcbf29ce4;

  add(text) {
    let low = this.#low;
    let high = this.#high;
    for (let index = 0; index < text.length; index += 1) {
      const unit = text.charCodeAt(index);
      low = Math.imul(low ^ unit, 0x01000193);
      high = Math.imul(high ^ unit ^ (low >>> 15), 0x5bd1e995);
    }
    this.#low = low;
    this.#high = high ^ text.length;
    return this;
  }

  toString() {
    return [this.#high, this.#low].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

/** The digest of streams, each with the number of its events and its state, in order. */
export function digestOf(streams) {
  const digest = new Digest();
  let count = 0;
  for (const { revision, state } of streams) {
    digest.add(`${revision} ${canonical(state)}`);
    count += revision;
  }
  return `${count} events, states ${digest}`;
}

/** JSON with sorted keys: Rust and JavaScript write the members of a state in different orders. */
function canonical(value) {
  return JSON.stringify(value, (_, part) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
