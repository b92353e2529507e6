/** Tests of a projection: given what has happened, then these are its documents. */
import type { AnyAggregate, Projection } from "../domain.js";
import type { EventOf } from "../engine.js";
import { toPayload } from "../payload.js";
import { type IndexValue, indexValue } from "../projections/projection.js";
import { compared, isIn, listed, unlike } from "./expectations.js";
import { AssertionError } from "./failure.js";
import { later, type Span } from "./span.js";
import { at, by, guarded, tell } from "./story.js";
import { brief, difference, lineDiff, pretty } from "./values.js";
import { beginView, happenedTo, type Stop, type ViewStory } from "./view-story.js";

/**
 * Begins a test of a projection: of a view to which nothing has happened.
 *
 * ```ts
 * givenView(workload)
 *   .happened(appointment, "a-1", booked)
 *   .happened(appointment, "a-2", booked, cancelled)
 *   .thenDocument("7", { appointments: 1 })
 *   .thenNone("8")
 *   .thenIndexed("appointments", 1, ["7"]);
 * ```
 *
 * The functions are called as an engine would call them, but twice for each event, with the clock and
 * the randomness of the platform watched, and the events come one by one, in pages of two, and all at
 * once. A function that is not pure, a document that JSON does not keep, and documents that are others
 * in other pages fail the test, whatever it expects.
 *
 * Every step gives a value of its own and changes none, so tests may share a beginning.
 */
export function givenView<Document>(projection: Projection<Document>): GivenView<Document> {
  return new GivenView<Document>(beginView(projection));
}

/** What has happened to a view. */
export class GivenView<Document> {
  readonly #story: ViewStory;

  /** @internal */
  constructor(story: ViewStory) {
    this.#story = story;
  }

  /**
   * Sets the clock, which says when events happen. It stands still, at first at the beginning of 2026.
   * A text has its time zone: `2026-11-23T09:00:00Z`.
   */
  at(time: Date | string): GivenView<Document> {
    return new GivenView(at(this.#story, time));
  }

  /** Puts the clock forward. */
  advance(span: Span): GivenView<Document> {
    return new GivenView(at(this.#story, later(this.#story, span)));
  }

  /** Says who gives the commands that lead to what happens from here on. At first nobody says. */
  by(actor: string): GivenView<Document> {
    return new GivenView(by(this.#story, actor));
  }

  /** Lets events happen to an aggregate. A view that has stopped must not have stopped unseen. */
  happened<A extends AnyAggregate>(aggregate: A, id: string, ...events: readonly EventOf<A>[]): GivenView<Document> {
    expectTaken(this.#story);
    return new GivenView(happenedTo(this.#story, aggregate, id, events));
  }

  /** This is the document with this key. */
  thenDocument(key: string, expected: Document): this {
    const story = expectTaken(this.#story);
    const wanted = payload(story, expected);
    const found = valuesOf(story);
    const own = found.get(key);
    if (!found.has(key)) {
      const line = `${key} ${brief(wanted)}`;
      throw compared(story, `expected document ${key}, found none`, unlike([line], linesOf(found)), wanted, undefined);
    }
    const change = difference(wanted, own, `document ${key}`);
    if (change === null) return this;
    const headline = `expected ${change.place} to be ${change.left}, found ${change.right}`;
    throw compared(story, headline, lineDiff(pretty(wanted), pretty(own)), wanted, own);
  }

  /** These are the documents, by their keys, and there are no others. */
  thenDocuments(expected: { readonly [key: string]: Document }): this {
    const story = expectTaken(this.#story);
    const found = Object.fromEntries(valuesOf(story));
    const wanted = Object.fromEntries(Object.entries(expected).map(([key, document]) => [key, payload(story, document)]));
    if (difference(wanted, found, "") === null) return this;
    const [left, right] = [Object.keys(wanted).sort(), Object.keys(found).sort()];
    const other = difference(left, right, "") === null
      ? left.map((key) => difference(wanted[key], found[key], `document ${key}`)).find((change) => change !== null)
      : undefined;
    const headline = other === undefined
      ? `expected documents ${listed(left)}, found ${listed(right)}`
      : `expected ${other!.place} to be ${other!.left}, found ${other!.right}`;
    throw compared(story, headline, lineDiff(pretty(wanted), pretty(found)), wanted, found);
  }

  /** There is no document with this key. */
  thenNone(key: string): this {
    const story = expectTaken(this.#story);
    const found = valuesOf(story);
    if (!found.has(key)) return this;
    const own = found.get(key);
    throw compared(story, `expected no document ${key}, found one`, unlike([], [`${key} ${brief(own)}`]), undefined, own);
  }

  /** In this index these keys, in order of key, are found under this value, and no others. */
  thenIndexed(index: string, value: IndexValue, expected: readonly string[]): this {
    const story = expectTaken(this.#story);
    const names = Object.keys(story.functions.indexes);
    if (!names.includes(index)) throw failed(story, `there is no index ${index}, but ${listed(names)}`);
    const wanted = guarded(story, () => indexValue(index, value));
    const found = [...story.documents.values()].flatMap(({ key, postings }) =>
      postings.some(([name, at]) => name === index && at === wanted) ? [key] : [],
    );
    if (difference(expected, found, "") === null) return this;
    const headline = `expected ${index} ${String(value)} to find ${listed(expected)}, found ${listed(found)}`;
    throw compared(story, headline, lineDiff(expected.join("\n"), found.join("\n")), expected, found);
  }

  /**
   * The last event given that the view has come to can't be taken in, for a reason with this in it. The
   * documents are those before it.
   */
  thenStops(reason?: string | RegExp): GivenView<Document> {
    const { stop } = this.#story;
    if (stop !== null && (reason === undefined || isIn(stop.reason, reason))) {
      return new GivenView({ ...this.#story, stop: { ...stop, met: true } });
    }
    const found = stop === null ? "has taken in all events" : told(stop);
    const wanted = reason === undefined ? "stops" : `stops: ${String(reason)}`;
    const headline = `expected the view to stop, found that it ${found}`;
    throw compared(this.#story, headline, unlike([wanted], [found]), wanted, found, stop?.error);
  }
}

const told = ({ type, reason }: Stop) => `stops at ${type}: ${reason}`;

/** Fails if nothing has expected that the view stops. */
function expectTaken(story: ViewStory): ViewStory {
  const { stop, lines } = story;
  if (stop === null || stop.met) return story;
  const after = { ...story, lines: [...lines, `then  ${told(stop)}`] };
  throw failed(after, `nothing expects that the view ${told(stop)}`, stop.error);
}

function failed(story: ViewStory, headline: string, cause?: unknown): AssertionError {
  return new AssertionError([headline, "", ...tell(story)].join("\n"), undefined, cause);
}

const payload = (story: ViewStory, expected: unknown) =>
  guarded(story, () => toPayload(expected, "expected document").value);

const valuesOf = ({ documents }: ViewStory) =>
  new Map(Array.from(documents, ([key, { text }]) => [key, JSON.parse(text!) as unknown]));

const linesOf = (documents: ReadonlyMap<string, unknown>) =>
  Array.from(documents, ([key, document]) => `${key} ${brief(document)}`);
