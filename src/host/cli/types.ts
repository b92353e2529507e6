import type { ParseArgsConfig } from "node:util";
import type { Output } from "./output.js";

/** What was given to a command. */
export interface Arguments {
  readonly names: readonly string[];
  readonly options: { readonly [name: string]: string | boolean | readonly (string | boolean)[] | undefined };
}

/** Whether what was looked at is as it should be. */
export interface Done {
  readonly isSound: boolean;
}

export interface Command {
  readonly run: (given: Arguments, output: Output, signal: AbortSignal) => Promise<Done>;
  /** What is expected without a name before it. */
  readonly names: readonly string[];
  readonly options: NonNullable<ParseArgsConfig["options"]>;
  /** Ends at the first interrupt: the store does what it is asked as a whole or not at all. */
  readonly endsAtOnce?: boolean;
}

/** The command was given wrongly. */
export class Mistake extends Error {
  readonly code = "usage";
}

/** What was asked can't be done, and why. */
export class Refused extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

export function textOf({ options }: Arguments, name: string): string | undefined {
  return options[name] as string | undefined;
}

export function textsOf({ options }: Arguments, name: string): readonly string[] {
  return (options[name] ?? []) as readonly string[];
}
