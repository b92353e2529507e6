/** Tests of a process manager: given what has happened, when something happens or time passes, then this comes of it. */
import type { Aggregate, AnyAggregate, Message, Refusal } from "../domain.js";
import type { EventOf } from "../engine.js";
import { toPayload } from "../payload.js";
import { type ProcessManager, toGiven } from "../reactions/manager.js";
import { compared, isIn, listed, unlike } from "./expectations.js";
import { AssertionError } from "./failure.js";
import {
  beginManager,
  type Came,
  commandOf,
  eventsHappened,
  expectHandled,
  type ManagerStory,
  timePassed,
} from "./manager-story.js";
import { later, type Span } from "./span.js";
import { at, by, guarded, isoOf } from "./story.js";
import { brief, difference, lineDiff, pretty } from "./values.js";

/** A command that a test expects of a process manager, and whose. */
export interface GivenCommand extends Message {
  readonly aggregate: string;
  readonly id: string;
}

/** A command to an aggregate, as it is expected of a process manager. */
export function gives<State, Command extends Message, Event extends Message, Refused extends Refusal>(
  aggregate: Aggregate<State, Command, Event, Refused>,
  id: string,
  command: NoInfer<Command>,
): GivenCommand {
  return commandOf(toGiven(aggregate, id, command));
}

/**
 * Begins a test of a process manager to which nothing has happened.
 *
 * ```ts
 * givenManager(reminder)
 *   .happened(appointment, "a-1", booked)
 *   .thenTimer("a-1", "day before", "2026-11-22T09:00:00Z")
 *   .at("2026-11-22T09:00:00Z")
 *   .then(gives(letter, "a-1", { type: "SendReminder", data: { patient: "Ann" } }));
 * ```
 *
 * Nothing is stored, and no command is decided. The functions are called as an engine would call them, but
 * each of them twice, with the clock and the randomness of the platform watched. A function that is not
 * pure, a state that JSON does not keep and a command that can't be given fail the test, whatever it
 * expects.
 *
 * Every step gives a value of its own and changes none, so tests may share a beginning.
 */
export function givenManager<State, Timer extends string>(manager: ProcessManager<State, Timer>): GivenManager<State, Timer> {
  return new GivenManager(beginManager(manager as unknown as ProcessManager));
}

/** What has happened to a process manager. */
export class GivenManager<State, Timer extends string> {
  /** @internal */
  protected readonly story: ManagerStory;

  /** @internal */
  constructor(story: ManagerStory) {
    this.story = story;
  }

  /** Says who gives the commands that lead to what happens from here on. At first nobody says. */
  by(actor: string): GivenManager<State, Timer> {
    return new GivenManager(by(this.story, actor));
  }

  /** Lets events happen to an aggregate; timers that are due ring. */
  happened<A extends AnyAggregate>(aggregate: A, id: string, ...events: readonly EventOf<A>[]): WhenManager<State, Timer> {
    return new WhenManager(eventsHappened(expectHandled(this.story), aggregate, id, events));
  }

  /** Lets an event happen to an aggregate: what comes of it is expected then. */
  when<A extends AnyAggregate>(aggregate: A, id: string, event: EventOf<A>): WhenManager<State, Timer> {
    return new WhenManager(eventsHappened(expectHandled(this.story), aggregate, id, [event], "when"));
  }

  /**
   * Puts the clock forward to this time; timers that are due by then ring, in order. It stands still
   * otherwise, at first at the beginning of 2026. A text has its time zone: `2026-11-23T09:00:00Z`.
   */
  at(time: Date | string): WhenManager<State, Timer> {
    const { story } = this;
    const moved = at(expectHandled(story), time);
    return new WhenManager(timePassed({ ...moved, now: story.now }, moved.now));
  }

  /** Puts the clock forward; timers that are due by then ring, in order. */
  advance(span: Span): WhenManager<State, Timer> {
    return this.at(later(this.story, span));
  }

  /** This is the state of this key. */
  thenState(key: string, expected: State): this {
    const story = expectHandled(this.story);
    const wanted = guarded(story, () => toPayload(expected, "expected state").value);
    const text = story.states.get(key);
    if (text === undefined) {
      const found = listed([...story.states.keys()]);
      throw compared(story, `expected a state of ${key}, found states of ${found}`, unlike([brief(wanted)], []), wanted, undefined);
    }
    const found = JSON.parse(text) as unknown;
    const change = difference(wanted, found, `state of ${key}`);
    if (change === null) return this;
    const headline = `expected ${change.place} to be ${change.left}, found ${change.right}`;
    throw compared(story, headline, lineDiff(pretty(wanted), pretty(found)), wanted, found);
  }

  /** There is no state of this key: nothing has happened to it, or it is over. */
  thenNone(key: string): this {
    const story = expectHandled(this.story);
    const text = story.states.get(key);
    if (text === undefined) return this;
    throw compared(story, `expected no state of ${key}, found one`, unlike([], [text]), undefined, JSON.parse(text));
  }

  /** The key's timer of this name is set to this time. */
  thenTimer(key: string, name: Timer, time: Date | string): this {
    const story = expectHandled(this.story);
    const wanted = at(story, time).now;
    return this.#expectTimer(story, key, name, isoOf(wanted));
  }

  /** The key has no timer of this name. */
  thenNoTimer(key: string, name: Timer): this {
    return this.#expectTimer(expectHandled(this.story), key, name, null);
  }

  #expectTimer(story: ManagerStory, key: string, name: string, wanted: string | null): this {
    const own = story.timers.find((timer) => timer.key === key && timer.name === name);
    const found = own === undefined ? null : isoOf(own.due);
    if (found === wanted) return this;
    const lines = (time: string | null) => (time === null ? [] : [`${name} of ${key} at ${time}`]);
    const others = story.timers.map((timer) => `${timer.name} of ${timer.key} at ${isoOf(timer.due)}`);
    const headline = `expected ${wanted ?? "no timer"} as ${name} of ${key}, found ${found ?? "no timer"}`;
    throw compared(story, headline, unlike(lines(wanted), others), wanted, found);
  }
}

/** Something has happened, or time has passed. */
export class WhenManager<State, Timer extends string> extends GivenManager<State, Timer> {
  /** These commands come of it, in this order, and no others. Without any: nothing is to be done. */
  then(...commands: readonly GivenCommand[]): GivenManager<State, Timer> {
    if (typeof commands[0] === "function") throw new AssertionError("there is nothing to await: a test of a process manager is synchronous");
    const story = expectHandled(this.story);
    const { given } = story.came;
    if (difference(commands, given, "") === null) return new GivenManager(story);
    const headline = `expected ${namesOf(commands)}, found ${namesOf(given)}`;
    throw compared(story, headline, lineDiff(textOf(commands), textOf(given)), commands, given);
  }

  /** Nothing is to be done: no command. */
  thenNothing(): GivenManager<State, Timer> {
    return this.then();
  }

  /**
   * The event, or a timer, can't be handled, for a reason with this in it. An engine would try again, and
   * park its key at last; nothing of what was wanted is done.
   */
  thenFails(reason?: string | RegExp): GivenManager<State, Timer> {
    const { story } = this;
    const { failure } = story.came;
    if (failure !== null && (reason === undefined || isIn(failure.reason, reason))) {
      return new GivenManager({ ...story, came: { ...story.came, failure: { ...failure, met: true } } });
    }
    const found = told(story.came);
    const wanted = reason === undefined ? "fails" : `fails: ${String(reason)}`;
    throw compared(story, `expected that it fails, found that it ${found}`, unlike([wanted], [found]), wanted, found, failure?.error);
  }
}

const told = ({ failure, given }: Came) =>
  failure === null ? `gives ${namesOf(given)}` : `fails: ${failure.what}: ${failure.reason}`;

const namesOf = (commands: readonly GivenCommand[]) =>
  listed(commands.map(({ type, aggregate, id }) => `${type} to ${aggregate} ${id}`));

const textOf = (commands: readonly GivenCommand[]) =>
  commands.length === 0
    ? "nothing"
    : commands.map(({ type, aggregate, id, data }) => `${type} to ${aggregate} ${id} ${pretty(data)}`).join("\n");
