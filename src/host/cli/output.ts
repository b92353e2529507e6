import type { Progress } from "../operations/index.js";

/** What comes from a store is data: it must not move the cursor, or turn the line round. */
export function shown(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, (found) => `\\u{${found.codePointAt(0)!.toString(16)}}`);
}

export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${numbered(count)} ${count === 1 ? one : many}`;

export const numbered = (count: number): string => count.toLocaleString("en-US");

/** Milliseconds between two looks at how far a work has come. */
export const PACE = 100;

/** Where a command says what it has found: for people, or for machines. */
export class Output {
  readonly #isJson: boolean;
  readonly #isColoured: boolean;
  readonly #showsProgress: boolean;
  #progressAt = 0;
  #hasProgress = false;

  constructor(isJson: boolean) {
    const { NO_COLOR, TERM } = process.env;
    this.#isJson = isJson;
    this.#isColoured = process.stdout.isTTY === true && (NO_COLOR ?? "") === "" && TERM !== "dumb";
    this.#showsProgress = process.stderr.isTTY === true && TERM !== "dumb" && !isJson;
  }

  /** What the command has come to: an object for machines, lines for people. */
  result(value: object, lines: readonly string[], stream: NodeJS.WriteStream = process.stdout): void {
    this.endProgress();
    stream.write(this.#isJson ? `${JSON.stringify(value)}\n` : lines.map((line) => `${line}\n`).join(""));
  }

  /** A line of two columns. */
  pair(name: string, value: string): string {
    return `${this.dim(name.padEnd(12))}${value}`;
  }

  heading(text: string): string {
    return this.#styled(1, text);
  }

  dim(text: string): string {
    return this.#styled(2, text);
  }

  bad(text: string): string {
    return this.#styled(31, text);
  }

  good(text: string): string {
    return this.#styled(32, text);
  }

  #styled(style: number, text: string): string {
    return this.#isColoured ? `\x1b[${style}m${text}\x1b[0m` : text;
  }

  /** Tells how far a work has come, where somebody sees it. */
  progress(what: string): (progress: Progress) => void {
    return ({ done, total }) => {
      const now = performance.now();
      if (!this.#showsProgress || now - this.#progressAt < PACE) return;
      this.#progressAt = now;
      this.#hasProgress = true;
      const part = total === null || total === 0 ? "" : ` ${String(Math.floor((100 * done) / total)).padStart(3)} %`;
      process.stderr.write(`\r\x1b[K${what}${part}  ${counted(done, "event")}`);
    };
  }

  endProgress(): void {
    if (this.#hasProgress) process.stderr.write("\r\x1b[K");
    this.#hasProgress = false;
  }

  /** What went wrong: one object for machines; for people also how the command is given, if it was that. */
  fail(error: unknown, usage?: string): void {
    this.endProgress();
    const { code, details } = error as { code?: unknown; details?: unknown };
    const message = error instanceof Error ? error.message : String(error);
    if (this.#isJson) process.stderr.write(`${JSON.stringify({ error: { code: code ?? "failed", message, details: details ?? {} } })}\n`);
    else if (usage !== undefined) process.stderr.write(`annals: ${shown(message)}\n\n${usage}\n`);
    else process.stderr.write(`annals: ${shown(message)}${typeof code === "string" ? ` (${code})` : ""}\n${told(details)}`);
  }
}

/** How far an import came that has failed. */
function told(details: unknown): string {
  const { imported } = (details ?? {}) as { imported?: { commits: number; events: number; known: number } };
  if (imported === undefined) return "";
  const known = imported.known > 0 ? `, ${numbered(imported.known)} were there already` : "";
  return `annals: ${counted(imported.events, "event")} of ${counted(imported.commits, "commit")} had been imported${known}\n`;
}
