/** What has happened so far in a test of a projection, and what its view has come to. */
import type { AnyAggregate, AnyProjection, InlineEvent, ViewKind } from "../domain.js";
import type { Position } from "../engine.js";
import { checkName } from "../names.js";
import { toOrdered } from "../order.js";
import { reasonOf } from "../payload.js";
import {
  Drafts,
  type LoggedEvent,
  type ProjectionFunctions,
  take,
  type View,
  type Written,
  writtenIn,
} from "../projections/projection.js";
import { AssertionError, Mistake } from "./failure.js";
import { BEGINNING, guarded, isoOf, keyOf, NOTHING, shown, toEvent, type Told } from "./story.js";
import { Thrown, twice } from "./strict.js";
import { copyOf, difference } from "./values.js";

/** One moment of a test; each step makes another. */
export interface ViewStory extends Told {
  readonly kind: ViewKind;
  readonly functions: ProjectionFunctions;
  readonly log: readonly LoggedEvent[];
  readonly documents: Documents;
  readonly stop: Stop | null;
}

/** The documents of a view, in order of key. */
export type Documents = ReadonlyMap<string, Written>;

/** An event that the view could not take in. */
export interface Stop {
  readonly type: string;
  readonly reason: string;
  readonly error: unknown;
  /** Whether the test has expected it. */
  readonly met: boolean;
}

export function beginView({ name, kind, functions }: AnyProjection): ViewStory {
  if (functions === null) {
    throw new AssertionError(`projection ${name} is written in Rust: test it there, with annals::testing`);
  }
  return { ...BEGINNING, type: name, kind, functions, log: [], documents: new Map(), stop: null, lines: [NOTHING] };
}

/** The same after events of an aggregate. */
export function happenedTo(story: ViewStory, aggregate: AnyAggregate, id: string, events: readonly unknown[]): ViewStory {
  const { type, forms } = aggregate;
  const lines = [...story.lines.filter((line) => line !== NOTHING), `given ${type} ${id}`, ...events.map(shown)];
  const telling: ViewStory = { ...story, lines };
  return guarded(telling, () => {
    checkName("id", id);
    const log = [...story.log];
    const key = keyOf(type, id);
    let revision = log.filter(({ stream }) => keyOf(stream.type, stream.id) === key).length;
    for (const event of events) {
      const value = toEvent(event);
      checkName("event type", value.type);
      if (forms?.versions?.has(value.type) === false) throw new Mistake(`${value.type} is not among the events of ${type}`);
      revision += 1;
      const issuedAt = isoOf(story.now);
      const before = log.at(-1)?.recordedAt ?? "";
      log.push({
        ...value,
        stream: { type, id },
        revision,
        issuedAt,
        actor: story.actor,
        position: `under-test:${log.length + 1}` as Position,
        // The clock of a store is never set back.
        recordedAt: before > issuedAt ? before : issuedAt,
      });
    }
    return takenIn({ ...telling, log });
  });
}

/** What the view is after all that has happened, taken in in every way in which an engine may. */
function takenIn(story: ViewStory): ViewStory {
  const { kind, functions, log } = story;
  const watched = { on: functions.on, indexes: watchedIndexes(functions) };
  const events = log.map((event) => seen(event, kind));
  const documents = new Map<string, Written>();
  let stop: Stop | null = null;
  let count = 0;
  for (const event of events) {
    try {
      write(documents, writtenIn(takeTwice(functions, documents, event), watched, () => undefined));
    } catch (error) {
      const { type } = event;
      // A failure of an index is told with the document; what it was is its cause.
      const cause = error instanceof Thrown ? error.error : (error as Error).cause;
      if (error instanceof Mistake) throw error;
      if (cause instanceof Mistake) throw cause;
      const reason = error instanceof Thrown ? reasonOf(error.error) : reasonOf(error);
      stop = { type, reason, error: cause, met: story.stop?.met === true };
      break;
    }
    count += 1;
  }
  for (const [size, how] of WAYS) {
    const found = inPages(functions, events.slice(0, count), size, how);
    for (const key of new Set([...documents.keys(), ...found.keys()])) {
      const [left, right] = [documents.get(key)?.text, found.get(key)?.text];
      if (left === right) continue;
      const [one, other] = [left ?? "nothing", right ?? "nothing"];
      throw new Mistake(`document ${key} is ${other} when the events come ${how}, and ${one} when they come one by one: ${PURE}`);
    }
  }
  const inOrder = [...documents].sort(([a], [b]) => (toOrdered(a) < toOrdered(b) ? -1 : 1));
  return { ...story, documents: new Map(inOrder), stop };
}

const WAYS = [
  [1, "with documents that are loaded when they are asked for"],
  [2, "in pages of two"],
  [Infinity, "all at once"],
] as const;

const PURE = "a function may rest on nothing but documents and events";

function write(documents: Map<string, Written>, written: readonly Written[]): void {
  for (const document of written) {
    if (document.text === null) documents.delete(document.key);
    else documents.set(document.key, document);
  }
}

/** The event as an engine gives it to a projection of this kind. */
function seen(event: LoggedEvent, kind: ViewKind): InlineEvent {
  if (kind !== "inline") return event;
  const { position: _, recordedAt: __, ...known } = event;
  return known;
}

/** What comes of events that come in pages, with documents that are loaded when they are asked for. */
function inPages(functions: ProjectionFunctions, events: readonly InlineEvent[], size: number, how: string): Documents {
  const documents = new Map<string, Written>();
  for (let at = 0; at < events.length; at += size) {
    write(documents, ofPage(functions, documents, events.slice(at, at + size), how));
  }
  return documents;
}

function ofPage(functions: ProjectionFunctions, documents: Documents, page: readonly InlineEvent[], how: string): Written[] {
  const known = new Map<string, string | null>();
  for (;;) {
    const drafts = new Drafts(known);
    try {
      for (const event of page) takeUnlessMissing(functions, drafts, event);
      if (drafts.missing.size === 0) return writtenIn(drafts, functions, () => undefined);
    } catch (error) {
      throw new Mistake(`the view stops when the events come ${how}, and not when they come one by one: ${reasonOf(error)}`, error);
    }
    for (const key of drafts.missing) known.set(key, documents.get(key)?.text ?? null);
  }
}

/** While documents are missing, all is done for nothing but to find out which. */
function takeUnlessMissing(functions: ProjectionFunctions, drafts: Drafts, event: InlineEvent): void {
  try {
    take(functions, drafts, copyOf(event));
  } catch (error) {
    if (drafts.missing.size === 0) throw error;
  }
}

// --- Under watch -------------------------------------------------------------------------------

const TIME = "The time of an event is its `issuedAt`.";

/** What one event does to the documents, when its function is called twice. */
function takeTwice({ on }: ProjectionFunctions, documents: Documents, event: InlineEvent): Drafts {
  const { type } = event;
  const mistakes: Mistake[] = [];
  let drafts = new Drafts({ get: () => null });
  if (!Object.hasOwn(on, type)) return drafts;
  const name = `on.${type}`;
  const known = { get: (key: string) => documents.get(key)?.text ?? null };
  const run = ([event]: readonly unknown[]) => {
    drafts = new Drafts(known);
    const view = new WatchedView(drafts, Object.isFrozen(event), (what) => void mistakes.push(new Mistake(`${name} ${what}`)));
    const returned: unknown = on[type]!(view, event as never);
    if (returned instanceof Promise) {
      returned.catch(() => undefined);
      mistakes.push(new Mistake(`${name} returned a promise, and must be done when it returns`));
    }
    view.checkGiven();
    return Array.from(drafts.written.keys(), (key) => ({ key, document: drafts.at(key) }));
  };
  try {
    twice(name, ["event"], [event], run, TIME);
  } catch (error) {
    throw mistakes[0] ?? error;
  }
  if (mistakes.length > 0) throw mistakes[0]!;
  return drafts;
}

/** Finds what is done to documents that are given out, and what JSON does not keep of those that are put in. */
class WatchedView implements View<unknown> {
  readonly #drafts: Drafts;
  readonly #isFrozen: boolean;
  readonly #blame: (what: string) => void;
  readonly #given: [key: string, document: unknown, copy: unknown][] = [];

  constructor(drafts: Drafts, isFrozen: boolean, blame: (what: string) => void) {
    this.#drafts = drafts;
    this.#isFrozen = isFrozen;
    this.#blame = blame;
  }

  get(key: string): unknown {
    const document = this.#drafts.get(key);
    if (this.#isFrozen) return document;
    const copy = copyOf(document);
    this.#given.push([key, document, copy]);
    return copy;
  }

  set(key: string, document: unknown): void {
    try {
      this.#drafts.set(key, document);
    } catch (error) {
      this.#blame(`gave what can't be stored: ${reasonOf(error)}`);
      throw error;
    }
    const change = difference(document, this.#drafts.at(key), `document ${key}`);
    if (change === null) return;
    const { place, left, right } = change;
    this.#blame(`gave a document that JSON does not keep: ${place} is ${left}, and comes back as ${right}`);
  }

  update(key: string, change: (document: unknown) => unknown): void {
    this.set(key, change(this.get(key)));
  }

  delete(key: string): void {
    this.#drafts.delete(key);
  }

  checkGiven(): void {
    for (const [key, document, copy] of this.#given) {
      const change = difference(document, copy, `document ${key}`);
      if (change === null) continue;
      const { place, left, right } = change;
      this.#blame(`changed ${place}, which was ${left} and is ${right} after the call: \`set\` another in its place`);
    }
  }
}

/** The same functions of documents, each called twice. */
function watchedIndexes({ indexes }: ProjectionFunctions): ProjectionFunctions["indexes"] {
  const watched = Object.entries(indexes).map(([name, valueOf]) => {
    const run = ([document]: readonly unknown[]) => valueOf(document);
    return [name, (document: unknown) => twice(`indexes.${name}`, ["document"], [document], run, TIME) as never] as const;
  });
  return Object.fromEntries(watched);
}
