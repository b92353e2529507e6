/** How many texts are joined, and how many bits count them. */
const BITS = 8;
const COUNT = 1 << BITS;
/** Those that would be longer than this together are few for their size, and stay apart. */
const LONGEST = 1 << 22;

interface Joined {
  readonly text: string;
  /** Where each of the texts ends. */
  readonly ends: Uint32Array;
}

/** Texts by their numbers, joined by the hundred, so that the garbage collector has few to look at. */
export class Texts {
  readonly #separator: string;
  readonly #parts: (Joined | readonly string[])[] = [];
  /** Those that are not joined yet, and how long they are together. */
  #last: string[] = [];
  #length = 0;

  constructor(separator: string) {
    this.#separator = separator;
  }

  push(text: string): void {
    this.#last.push(text);
    this.#length += text.length;
    if (this.#last.length < COUNT) return;
    this.#parts.push(this.#length > LONGEST ? this.#last : this.#join(this.#last));
    this.#last = [];
    this.#length = 0;
  }

  at(number: number): string {
    const part = this.#parts[number >>> BITS] ?? this.#last;
    const index = number & (COUNT - 1);
    return "ends" in part ? part.text.slice(this.#startIn(part, index), part.ends[index]) : part[index]!;
  }

  /**
   * Those from one number up to, not including, another, with the separator between them. It is put
   * together by `+`, which copies nothing: who reads it copies it once.
   */
  between(from: number, to: number): string {
    let found = "";
    for (let next = from; next < to;) {
      const part = this.#parts[next >>> BITS] ?? this.#last;
      const start = next & (COUNT - 1);
      const end = Math.min(start + to - next, COUNT);
      if (next > from) found += this.#separator;
      found +=
        "ends" in part
          ? part.text.slice(this.#startIn(part, start), part.ends[end - 1])
          : part.slice(start, end).join(this.#separator);
      next += end - start;
    }
    return found;
  }

  #join(texts: readonly string[]): Joined {
    const ends = new Uint32Array(texts.length);
    for (let index = 0, end = 0; index < texts.length; index += 1) {
      end += texts[index]!.length;
      ends[index] = end;
      end += this.#separator.length;
    }
    return { text: texts.join(this.#separator), ends };
  }

  #startIn({ ends }: Joined, index: number): number {
    return index === 0 ? 0 : ends[index - 1]! + this.#separator.length;
  }
}

/** Rows by a text that each has, and that is kept elsewhere: a map would keep it once more, as an object. */
export class RowsByText {
  readonly #textOf: (row: number) => string;
  /** Who chooses texts must not choose their hashes. */
  readonly #seed = Math.floor(Math.random() * 2 ** 32);
  /** In twos: a row, counted from 1 on, and the hash of its text; 0 where there is none. */
  #places = new Int32Array(32);
  #count = 0;

  constructor(textOf: (row: number) => string) {
    this.#textOf = textOf;
  }

  find(text: string): number | undefined {
    const hash = this.#hash(text);
    const places = this.#places;
    for (let at = this.#first(hash); places[at] !== 0; at = this.#next(at)) {
      const row = places[at]! - 1;
      if (places[at + 1] === hash && this.#textOf(row) === text) return row;
    }
    return undefined;
  }

  /** A text that is not there. */
  add(text: string, row: number): void {
    this.#count += 1;
    // Two thirds of the places are taken at most.
    if (this.#count * 3 > this.#places.length) this.#grow();
    this.#put(this.#hash(text), row + 1);
  }

  #grow(): void {
    const before = this.#places;
    this.#places = new Int32Array(before.length * 2);
    for (let at = 0; at < before.length; at += 2) {
      if (before[at] !== 0) this.#put(before[at + 1]!, before[at]!);
    }
  }

  #put(hash: number, row: number): void {
    let at = this.#first(hash);
    while (this.#places[at] !== 0) at = this.#next(at);
    this.#places[at] = row;
    this.#places[at + 1] = hash;
  }

  #first(hash: number): number {
    return (hash << 1) & (this.#places.length - 1);
  }

  #next(at: number): number {
    return (at + 2) & (this.#places.length - 1);
  }

  #hash(text: string): number {
    let hash = this.#seed;
    for (let index = 0; index < text.length; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x0100_0193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85eb_ca6b);
    return hash ^ (hash >>> 13);
  }
}
