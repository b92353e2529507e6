import { AssertionError } from "./failure.js";

/** A length of time; its parts add up. */
export interface Span {
  readonly days?: number;
  readonly hours?: number;
  readonly minutes?: number;
  readonly seconds?: number;
  readonly milliseconds?: number;
}

/** So much after the time of a test. */
export function later({ now }: { readonly now: number }, span: Span): Date {
  const { days = 0, hours = 0, minutes = 0, seconds = 0, milliseconds = 0 } = span;
  const millis = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds;
  if (!(millis >= 0)) throw new AssertionError("the clock advances: expected a span of at least 0");
  return new Date(now + millis);
}
