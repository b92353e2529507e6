/** Tests of a domain: given what has happened, when a command is given, then this comes of it. */
import type { Aggregate, AnyAggregate, Message, Refusal } from "../domain.js";
import type { EventOf } from "../engine.js";
import type { Query } from "../storage.js";
import type { OlderEvent } from "../upcast.js";
import {
  type Expected,
  expectAccepted,
  expectOutcome,
  expectReads,
  expectState,
  expectTags,
  expectUpcast,
  goOn,
} from "./expectations.js";
import { AssertionError } from "./failure.js";
import { later, type Span } from "./span.js";
import { at, begin, by, commanded, othersHappened, type Outcome, rename, stored, type Story } from "./story.js";

/** The details of a refusal with this code. */
export type DetailsOf<Refused extends Refusal, Code> = Refused extends Refusal
  ? Code extends Refused["code"]
    ? Refused["details"]
    : never
  : never;

/**
 * Begins a test of an aggregate to which these events have happened, or none.
 *
 * ```ts
 * given(appointment, booked).when(confirm).then(confirmed);
 * given(appointment, booked).when(book).thenRefused("already-booked");
 * given(appointment).others("a-2", booked).when(book).thenRefused("slot-taken", { by: "a-2" });
 * ```
 *
 * Nothing is stored and nothing is loaded: the domain's functions are called as the engine would
 * call them, but each of them twice, with the clock and the randomness of the platform watched. A
 * function that is not pure, a state that JSON does not keep and an event that can't be stored fail
 * the test, whatever it expects.
 *
 * Every step gives a value of its own and changes none, so tests may share a beginning.
 */
export function given<State, Command extends Message, Event extends Message, Refused extends Refusal>(
  aggregate: Aggregate<State, Command, Event, Refused>,
  ...events: readonly NoInfer<Event>[]
): Given<State, Command, Event, Refused> {
  return new Given(begin(aggregate, events), null);
}

abstract class Steps<State, Command extends Message, Event extends Message, Refused extends Refusal> {
  /** @internal */
  protected readonly story: Story;
  /** @internal What came of the last command, if there was one. */
  protected readonly outcome: Outcome | null;

  /** @internal */
  constructor(story: Story, outcome: Outcome | null) {
    this.story = story;
    this.outcome = outcome;
  }

  /**
   * Sets the clock, which says when commands are given. It stands still, at first at the beginning
   * of 2026. A text has its time zone: `2026-11-23T09:00:00Z`.
   */
  at(time: Date | string): this {
    return this.with(at(this.story, time));
  }

  /** Puts the clock forward. */
  advance(span: Span): this {
    return this.with(at(this.story, later(this.story, span)));
  }

  /** Says who gives the commands from here on. Decisions of others that fold see it; at first nobody says. */
  by(actor: string): this {
    return this.with(by(this.story, actor));
  }

  /**
   * Lets events happen to another aggregate, of the same type or of the one that is named. They have
   * the tags that it gives them, and come as `others`, in the order of the test, to decisions that
   * read them.
   */
  others(id: string, ...events: readonly Event[]): this;
  others<A extends AnyAggregate>(aggregate: A, id: string, ...events: readonly EventOf<A>[]): this;
  others(first: string | AnyAggregate, ...rest: readonly unknown[]): this {
    if (typeof first === "string") return this.with(othersHappened(this.story, null, first, rest));
    const [id, ...events] = rest;
    return this.with(othersHappened(this.story, first, id as string, events));
  }

  /** Gives a command. What a command before it led to has happened, and must not have been refused unseen. */
  when(command: Command): When<State, Command, Event, Refused> {
    return this.whenOther(this.story.id, command);
  }

  /** Gives a command to another aggregate of this type; what is expected then is of that one. */
  whenOther(id: string, command: Command): When<State, Command, Event, Refused> {
    const { story, outcome } = commanded(this.outcome === null ? this.story : goOn(this.story, this.outcome), id, command);
    return new When(story, outcome);
  }

  /** @internal */
  protected abstract with(story: Story): this;
}

/** What has happened before the first command. */
export class Given<State, Command extends Message, Event extends Message, Refused extends Refusal> extends Steps<
  State,
  Command,
  Event,
  Refused
> {
  /** Names the aggregate under test. Needed only where its id is looked at. */
  id(id: string): this {
    return this.with(rename(this.story, id));
  }

  /**
   * Lets events happen as an earlier release has stored them, each with its schema version. Their
   * upcasters are watched as every function is.
   *
   * ```ts
   * given(appointment)
   *   .stored({ type: "AppointmentMoved", version: 1, data: { start: "09:00" } })
   *   .thenUpcast({ type: "AppointmentRescheduled", data: { start: "09:00" } });
   * ```
   */
  stored(...events: readonly OlderEvent[]): this {
    return this.with(stored(this.story, events));
  }

  /** What was given as `stored` is read as these events, in order. Without any: it means nothing. */
  thenUpcast(...expected: readonly Event[]): this {
    expectUpcast(this.story, expected);
    return this;
  }

  /** The events given add up to this state. */
  thenState(expected: State): this {
    expectState(this.story, this.story.id, expected);
    return this;
  }

  /** @internal */
  protected override with(story: Story): this {
    return new Given(story, null) as this;
  }
}

/** What may be expected of a command besides its events, and what comes next. */
export class Then<State, Command extends Message, Event extends Message, Refused extends Refusal> extends Steps<
  State,
  Command,
  Event,
  Refused
> {
  /** There is nothing to do: no event, and no refusal. */
  thenNothing(): Then<State, Command, Event, Refused> {
    return this.expected({ kind: "events", events: [] });
  }

  /** The command is refused with this code, and with these details if they are given. */
  thenRefused<Code extends Refused["code"]>(
    code: Code,
    details?: DetailsOf<Refused, Code>,
  ): Then<State, Command, Event, Refused> {
    return this.expected({ kind: "refused", code, details });
  }

  /** `decide` or `reads` throws: an error with this in its message. */
  thenThrows(message?: string | RegExp): Then<State, Command, Event, Refused> {
    return this.expected({ kind: "threw", ...(message !== undefined && { message }) });
  }

  /** The state after the command. */
  thenState(expected: State): Then<State, Command, Event, Refused> {
    expectState(this.story, this.accepted().id, expected);
    return new Then(this.story, this.outcome);
  }

  /** The tags of the command's events, a list for each event; their order does not matter. */
  thenTags(...expected: readonly (readonly string[])[]): Then<State, Command, Event, Refused> {
    expectTags(this.story, this.accepted(), expected);
    return new Then(this.story, this.outcome);
  }

  /** What the decision reads beyond its own stream; the order does not matter. */
  thenReads(expected: readonly string[] | Query): Then<State, Command, Event, Refused> {
    expectReads(this.story, this.outcome!, expected);
    return new Then(this.story, this.outcome);
  }

  /** @internal */
  protected expected(expected: Expected): Then<State, Command, Event, Refused> {
    expectOutcome(this.story, this.outcome!, expected);
    return new Then(this.story, { ...this.outcome!, met: true });
  }

  /** @internal */
  protected accepted(): Outcome {
    expectAccepted(this.story, this.outcome!);
    return this.outcome!;
  }

  /** @internal */
  protected override with(story: Story): this {
    return new Then(story, this.outcome) as this;
  }
}

/** A command has been given. */
export class When<State, Command extends Message, Event extends Message, Refused extends Refusal> extends Then<
  State,
  Command,
  Event,
  Refused
> {
  /** These events come of the command, and no others. Without any: nothing to do. */
  then(...events: readonly Event[]): Then<State, Command, Event, Refused> {
    if (typeof events[0] === "function") throw new AssertionError("there is nothing to await: a test of a domain is synchronous");
    return this.expected({ kind: "events", events });
  }

  /** @internal */
  protected override with(story: Story): this {
    return new When(story, this.outcome) as this;
  }
}
