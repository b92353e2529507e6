/**
 * SHA-256 as text and bytes come, with a state that can be kept: WebCrypto has no such, and pages that
 * don't come over TLS have no WebCrypto.
 */
export class Sha256 {
  readonly #state: Uint32Array;
  /** What does not fill a block of 64 bytes yet. */
  readonly #rest: Uint8Array;
  #length: number;

  constructor(from?: Sha256) {
    this.#state = from === undefined ? Uint32Array.from(FIRST) : from.#state.slice();
    this.#rest = from === undefined ? new Uint8Array(64) : from.#rest.slice();
    this.#length = from === undefined ? 0 : from.#length;
  }

  update(bytes: Uint8Array): this {
    let at = 0;
    const filled = this.#length % 64;
    this.#length += bytes.length;
    if (filled > 0) {
      at = Math.min(64 - filled, bytes.length);
      this.#rest.set(bytes.subarray(0, at), filled);
      if (filled + at < 64) return this;
      this.#compress(this.#rest, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.#rest.set(bytes.subarray(at));
    return this;
  }

  /** The digest of all so far, in hexadecimal digits. More may come after it. */
  digest(): string {
    const last = new Sha256(this);
    const zeros = (119 - (this.#length % 64)) % 64;
    const padding = new Uint8Array(1 + zeros + 8);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(1 + zeros, Math.floor(this.#length / 0x2000_0000));
    view.setUint32(5 + zeros, (this.#length * 8) >>> 0);
    last.update(padding);
    return Array.from(last.#state, (word) => word.toString(16).padStart(8, "0")).join("");
  }

  #compress(bytes: Uint8Array, from: number): void {
    const state = this.#state;
    for (let index = 0, at = from; index < 16; index += 1, at += 4)
      words[index] = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    for (let index = 16; index < 64; index += 1) {
      const early = words[index - 15]!;
      const late = words[index - 2]!;
      const low = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
      const high = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
      words[index] = (words[index - 16]! + low + words[index - 7]! + high) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state as unknown as Eight;
    for (let index = 0; index < 64; index += 1) {
      const chosen = (e & f) ^ (~e & g);
      const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + chosen + ROUNDS[index]! + words[index]!) | 0;
      const major = (a & b) ^ (a & c) ^ (b & c);
      const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + major) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, index) => (state[index]! += word));
  }
}

type Eight = [number, number, number, number, number, number, number, number];

const words = /* @__PURE__ */ new Int32Array(64);

const turn = (word: number, by: number): number => (word >>> by) | (word << (32 - by));

/** The first 32 bits behind the point. */
const fraction = (number: number): number => ((number - Math.floor(number)) * 0x1_0000_0000) | 0;

/** Such fractions of the roots of the first primes, as many as there are rounds. */
function fractionsOf(root: (number: number) => number): number[] {
  const primes: number[] = [];
  for (let number = 2; primes.length < 64; number += 1) if (primes.every((prime) => number % prime > 0)) primes.push(number);
  return primes.map((prime) => fraction(root(prime)));
}

const FIRST = /* @__PURE__ */ fractionsOf(Math.sqrt).slice(0, 8);
const ROUNDS = /* @__PURE__ */ fractionsOf(Math.cbrt);
