/**
 * Whether texts have come before, in 16 to 32 bytes a text: what is kept of each is a hash of 64 bits. Of
 * a million texts two have the same one with a probability of one to thirty million, so whoever is told
 * that a text has come before looks again.
 */
export class SeenTexts {
  /** Pairs of 32 bits; both 0: the place is free. */
  #table = new Uint32Array(2 * 1024);
  #count = 0;

  /** Notes the text, and tells whether it was there, probably. */
  add(text: string): boolean {
    if (2 * this.#count >= this.#table.length / 2) this.#grow();
    const [high, low] = hashOf(text);
    return this.#put(high, low);
  }

  /** Whether the text is there, probably. */
  has(text: string): boolean {
    const [high, low] = hashOf(text);
    const at = placeOf(this.#table, high, low);
    return this.#table[at] !== 0 || this.#table[at + 1] !== 0;
  }

  #put(high: number, low: number): boolean {
    const at = placeOf(this.#table, high, low);
    if (this.#table[at] !== 0 || this.#table[at + 1] !== 0) return true;
    this.#table[at] = high;
    this.#table[at + 1] = low;
    this.#count += 1;
    return false;
  }

  #grow(): void {
    const before = this.#table;
    this.#table = new Uint32Array(2 * before.length);
    this.#count = 0;
    for (let at = 0; at < before.length; at += 2) {
      if (before[at] !== 0 || before[at + 1] !== 0) this.#put(before[at]!, before[at + 1]!);
    }
  }
}

/** Where the hash is, or would be. */
function placeOf(table: Uint32Array, high: number, low: number): number {
  const places = table.length / 2;
  for (let place = high % places; ; place = (place + 1) % places) {
    const at = 2 * place;
    if ((table[at] === high && table[at + 1] === low) || (table[at] === 0 && table[at + 1] === 0)) return at;
  }
}

/** Two hashes of the units, each mixed once more at the end (as MurmurHash3 does). */
function hashOf(text: string): readonly [high: number, low: number] {
  let first = 0x9e3779b9;
  let second = 0x85ebca6b;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    first = Math.imul(first ^ unit, 0x01000193);
    second = Math.imul((second << 5) ^ (second >>> 27) ^ unit, 0x2c1b3c6d);
  }
  const low = mixed(second ^ first);
  return [mixed(first ^ text.length), low === 0 ? 1 : low];
}

function mixed(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
