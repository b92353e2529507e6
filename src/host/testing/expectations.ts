/** What a test expects of a command, and how a failure tells the difference. */
import { type Message, type Refusal, toQuery } from "../domain.js";
import { reasonOf, toPayload } from "../payload.js";
import type { Query } from "../storage.js";
import { AssertionError } from "./failure.js";
import { guarded, type Outcome, stateOf, type Story, tell, type Told, toEvent } from "./story.js";
import { brief, difference, lineDiff, pretty } from "./values.js";

/** What is expected of a command, and how it reads. */
export type Expected =
  | { readonly kind: "events"; readonly events: readonly unknown[] }
  | { readonly kind: "refused"; readonly code: string; readonly details?: unknown }
  | { readonly kind: "threw"; readonly message?: string | RegExp };

/** Fails if something else came of the command. */
export function expectOutcome(story: Story, outcome: Outcome, expected: Expected): void {
  switch (expected.kind) {
    case "events":
      return expectEvents(story, outcome, expected.events);
    case "refused":
      return expectRefusal(story, outcome, expected);
    case "threw": {
      const { message } = expected;
      if (outcome.kind === "threw") {
        const reason = reasonOf(outcome.error);
        if (message === undefined) return;
        if (isIn(reason, message)) return;
      }
      const wanted = message === undefined ? "threw" : `threw ${String(message)}`;
      throw differs(story, `expected an error, found ${nameOf(outcome)}`, wanted, wanted, outcome);
    }
  }
}

/** Fails if upcasters have made other events of what earlier releases have stored. */
export function expectUpcast(story: Story, events: readonly unknown[]): void {
  const found = story.upcast.map((event) => ({ ...event, tags: [] }));
  expectEvents(story, { kind: "events", events: found, id: story.id, query: [], met: true }, events);
}

function expectEvents(story: Story, outcome: Outcome, events: readonly unknown[]): void {
  const expected = guarded(story, () => events.map(toEvent));
  const text = textOfEvents(expected);
  const headline = `expected ${typesOf(expected)}, found ${nameOf(outcome)}`;
  if (outcome.kind !== "events") throw differs(story, headline, text, expected, outcome);
  const found = outcome.events.map(({ type, data }) => ({ type, data }));
  const change = difference(expected, found, "");
  if (change === null) return;
  const sameTypes = typesOf(expected) === typesOf(found);
  const told = sameTypes ? `expected other data of ${typesOf(expected)}` : headline;
  throw compared(story, told, lineDiff(text, textOf(outcome)), expected, found);
}

function expectRefusal(
  story: Story,
  outcome: Outcome,
  { code, details }: { readonly code: string; readonly details?: unknown },
): void {
  if (outcome.kind !== "refused" || outcome.refusal.code !== code) {
    const headline = `expected the refusal ${code}, found ${nameOf(outcome)}`;
    throw differs(story, headline, `refused ${code}${details === undefined ? "" : ` ${pretty(details)}`}`, { code, details }, outcome);
  }
  if (details === undefined) return;
  const expected = { code, details: guarded(story, () => toPayload(details, "expected details").value) };
  if (difference(expected, outcome.refusal, "") === null) return;
  const diff = lineDiff(textOfRefusal(expected), textOf(outcome));
  throw compared(story, `expected other details of the refusal ${code}`, diff, expected, outcome.refusal);
}

/** The story with what came of a command, before the next one. */
export function goOn(story: Story, outcome: Outcome): Story {
  expectAccepted(story, outcome);
  return { ...story, lines: [...story.lines, ...indented(textOf(outcome, brief), "then  ")] };
}

/** Fails if nothing has expected that the command was refused or threw. */
export function expectAccepted(story: Story, outcome: Outcome): void {
  if (outcome.kind === "events" || outcome.met) return;
  const cause = outcome.kind === "threw" ? outcome.error : undefined;
  const headline = `nothing expects ${nameOf(outcome)}`;
  const lines = [headline, "", ...tell(story), ...indented(textOf(outcome, brief), "then  ")];
  throw new AssertionError(lines.join("\n"), undefined, cause);
}

/** Fails if the state of the one with this id is another. */
export function expectState(story: Story, id: string, expected: unknown): void {
  const wanted = guarded(story, () => toPayload(expected, "expected state").value);
  const found = stateOf(story, id);
  const change = difference(wanted, found, "state");
  if (change === null) return;
  const headline = `expected ${change.place} to be ${change.left}, found ${change.right}`;
  throw compared(story, headline, lineDiff(pretty(wanted), pretty(found)), wanted, found);
}

/** Fails if the events have other tags, each event in its place, tags in any order. */
export function expectTags(story: Story, outcome: Outcome, expected: readonly (readonly string[])[]): void {
  const found = outcome.kind === "events" ? outcome.events.map(({ tags }) => [...tags].sort()) : [];
  const wanted = expected.map((tags) => [...tags].sort());
  if (difference(wanted, found, "") === null) return;
  throw compared(story, "expected other tags", lineDiff(pretty(wanted), pretty(found)), wanted, found);
}

/** Fails if the decision read something else. */
export function expectReads(story: Story, outcome: Outcome, expected: readonly string[] | Query): void {
  const sorted = (query: Query) =>
    query
      .map(({ types, tags }) => ({ types: [...types].sort(), tags: [...tags].sort() }))
      .sort((a, b) => (pretty(a) < pretty(b) ? -1 : 1));
  const [wanted, found] = [sorted(toQuery(expected)), sorted(outcome.query)];
  if (difference(wanted, found, "") === null) return;
  throw compared(story, "expected the decision to read something else", lineDiff(pretty(wanted), pretty(found)), wanted, found);
}

/** Another kind of outcome: its text has nothing to do with the one expected. */
function differs(story: Story, headline: string, text: string, expected: unknown, outcome: Outcome): AssertionError {
  const diff = [...indented(text, "- ", "- "), ...indented(textOf(outcome), "+ ", "+ ")];
  return compared(story, headline, diff, expected, valueOf(outcome), outcome.kind === "threw" ? outcome.error : undefined);
}

/** A failure that tells a test's story, and the difference line by line. */
export function compared(
  story: Told,
  headline: string,
  diff: readonly string[],
  expected: unknown,
  actual: unknown,
  cause?: unknown,
): AssertionError {
  const lines = [headline, "", ...tell(story), "then  (- expected, + found)", ...diff.map((line) => `    ${line}`)];
  return new AssertionError(lines.join("\n"), { actual, expected }, cause);
}

export const indented = (text: string, first: string, others = " ".repeat(first.length)) =>
  text.split("\n").map((line, index) => (index === 0 ? first : others) + line);

/** Lines of texts that have nothing to do with each other. */
export function unlike(expected: readonly string[], found: readonly string[]): string[] {
  const lines = (texts: readonly string[], sign: string) =>
    indented(texts.length === 0 ? "nothing" : texts.join("\n"), sign, sign);
  return [...lines(expected, "- "), ...lines(found, "+ ")];
}

export const listed = (items: readonly string[]) => (items.length === 0 ? "nothing" : items.join(", "));

export const isIn = (text: string, part: string | RegExp) =>
  typeof part === "string" ? text.includes(part) : text.search(part) >= 0;

const typesOf = (events: readonly Message[]) =>
  events.length === 0 ? "nothing" : events.map(({ type }) => type).join(", ");

function nameOf(outcome: Outcome): string {
  switch (outcome.kind) {
    case "events":
      return typesOf(outcome.events);
    case "refused":
      return `the refusal ${outcome.refusal.code}`;
    case "threw":
      return `an error: ${reasonOf(outcome.error)}`;
  }
}

const textOfEvents = (events: readonly Message[], show = pretty) =>
  events.length === 0 ? "nothing" : events.map(({ type, data }) => `${type} ${show(data)}`).join("\n");

const textOfRefusal = ({ code, details }: Refusal, show = pretty) => `refused ${code} ${show(details)}`;

function textOf(outcome: Outcome, show = pretty): string {
  switch (outcome.kind) {
    case "events":
      return textOfEvents(outcome.events, show);
    case "refused":
      return textOfRefusal(outcome.refusal, show);
    case "threw":
      return `threw ${reasonOf(outcome.error)}`;
  }
}

function valueOf(outcome: Outcome): unknown {
  switch (outcome.kind) {
    case "events":
      return outcome.events.map(({ type, data }) => ({ type, data }));
    case "refused":
      return outcome.refusal;
    case "threw":
      return outcome.error;
  }
}
