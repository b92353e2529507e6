/** What the compiler says about process managers. */
import { type Engine, type RecordedEvent, Engine as Opened } from "annals";
import { memoryStorage } from "annals/memory";
import {
  type Commands,
  type DueTimer,
  type ManagerControl,
  type ParkedKey,
  type ProcessManager,
  type ReactionStatus,
  processManager,
} from "annals/reactions";
import { type GivenManager, type WhenManager, givenManager, gives } from "annals/testing";
import { type Event, type Paid, type Same, appointment, check, invoice } from "./domain.js";

type Memory = { readonly doctor: string };

declare const engine: Engine;

const reminder = processManager<Memory, Event | Paid, "day before" | "late">("reminder", {
  startAt: "now",
  initial: () => ({ doctor: "" }),
  key(event) {
    check<Same<typeof event, RecordedEvent<Event | Paid>>>();
    return event.type === "Paid" ? null : event.stream.id;
  },
  on: {
    Booked(state, event, commands) {
      check<Same<typeof state, Memory>>();
      check<Same<typeof event, RecordedEvent<Extract<Event, { type: "Booked" }>>>>();
      check<Same<typeof commands, Commands<"day before" | "late">>>();
      commands.remindAt("day before", new Date());
      commands.remindAt("late", "2026-11-23T09:00:00Z");
      // @ts-expect-error there is no such timer
      commands.remindAt("never", new Date());
      // @ts-expect-error a time is a date or a text
      commands.remindAt("late", 7);
      return { doctor: event.data.doctor };
    },
    Cancelled(_, event, commands) {
      commands.forget("late");
      // @ts-expect-error there is no such timer
      commands.forget("never");
      commands.end();
      commands.give(invoice, event.stream.id, { type: "Pay", data: { amount: 1 } });
      commands.give(appointment, "a-1", { type: "Cancel", data: { reason: "ill" } });
      // @ts-expect-error an invoice has no such command
      commands.give(invoice, "i-1", { type: "Cancel", data: { reason: "ill" } });
      // @ts-expect-error an amount is a number
      commands.give(invoice, "i-1", { type: "Pay", data: { amount: "1" } });
      // @ts-expect-error an event is no command
      commands.give(invoice, "i-1", { type: "Paid", data: { amount: 1 } });
      // @ts-expect-error an aggregate is not its name
      commands.give("Invoice", "i-1", { type: "Pay", data: { amount: 1 } });
    },
  },
  timers: {
    "day before"(state, timer, commands) {
      check<Same<typeof state, Memory>>();
      check<Same<typeof timer, DueTimer<"day before">>>();
      commands.forget(timer.name);
    },
    late: (state) => state,
  },
  aggregates: [appointment, invoice],
  retries: { attempts: 3 },
  concurrency: 1,
});
check<Same<typeof reminder, ProcessManager<Memory, "day before" | "late">>>();

const right = { startAt: "now", initial: () => 0, key: () => null } as const;
processManager<number, Event>("plain", { ...right, on: { Booked: (count) => count + 1 } });
// @ts-expect-error where it begins must be said
processManager<number, Event>("wrong", { initial: () => 0, key: () => "a", on: {} });
// @ts-expect-error a key is a text
processManager<number, Event>("wrong", { ...right, key: () => 7, on: {} });
// @ts-expect-error appointments have no event "Paid"
processManager<number, Event>("wrong", { ...right, on: { Paid() {} } });
// @ts-expect-error its state is a number
processManager<number, Event>("wrong", { ...right, on: { Booked: () => "1" } });
// @ts-expect-error it must be done when it returns
processManager<number, Event>("wrong", { ...right, on: { async Booked() {} } });
// @ts-expect-error its initial state is a number
processManager<number, Event>("wrong", { ...right, initial: () => "0", on: {} });
// @ts-expect-error its timers are not named as such
processManager<number, Event>("wrong", { ...right, on: {}, timers: { soon() {} } });
// @ts-expect-error all timers have a function
processManager<number, Event, "soon" | "late">("wrong", { ...right, on: {}, timers: { soon() {} } });
// @ts-expect-error a timer has a function
processManager<number, Event, "soon">("wrong", { ...right, on: {} });
processManager<number, Event>("wrong", {
  ...right,
  on: {
    Booked(_, event, commands) {
      // @ts-expect-error it has no timers
      commands.remindAt("soon", new Date());
    },
  },
});

export async function looking() {
  await Opened.open({ storage: memoryStorage(), aggregates: [appointment, invoice], reactions: [reminder] });
  const control = engine.reaction(reminder);
  check<Same<typeof control, ManagerControl>>();
  const status = await control.status();
  check<Same<typeof status, ReactionStatus<ParkedKey>>>();
  await control.retry(status.parked[0]!);
  await control.drop({ key: "a-1" });
  await control.drop({ key: "a-1", timer: "late" });
  // @ts-expect-error what is parked has a key
  await control.retry({ timer: "late" });
  // @ts-expect-error it has no streams
  await control.retry({ type: "Appointment", id: "a-1" });
}

// --- Tests of them ----------------------------------------------------------------------------

const booked = { type: "Booked", data: { doctor: "7" } } as const;
const none = givenManager(reminder);
check<Same<typeof none, GivenManager<Memory, "day before" | "late">>>();
const asked = none.by("reception").happened(appointment, "a-1", booked).when(invoice, "i-1", { type: "Paid", data: { amount: 1 } });
check<Same<typeof asked, WhenManager<Memory, "day before" | "late">>>();
const told = asked.then(gives(invoice, "i-1", { type: "Pay", data: { amount: 1 } }));
check<Same<typeof told, GivenManager<Memory, "day before" | "late">>>();
asked.thenNothing().thenState("a-1", { doctor: "7" }).thenNone("a-2").thenTimer("a-1", "late", new Date()).thenNoTimer("a-1", "day before");
asked.thenFails().at("2026-11-23T09:00:00Z").advance({ days: 1 }).thenFails(/why/);
// @ts-expect-error an invoice has no such command
gives(invoice, "i-1", { type: "Cancel", data: { reason: "ill" } });
// @ts-expect-error appointments have no such event
none.happened(appointment, "a-1", { type: "Paid", data: { amount: 1 } });
// @ts-expect-error one thing happens at a time
none.when(appointment, "a-1", booked, booked);
// @ts-expect-error there is no such timer
told.thenTimer("a-1", "never", new Date());
// @ts-expect-error a doctor is a text
told.thenState("a-1", { doctor: 7 });
// @ts-expect-error nothing has been given or has happened yet
none.then();
// @ts-expect-error that is no process manager
givenManager(appointment);

export async function waits() {
  // @ts-expect-error a test of a process manager is synchronous: this is no promise, though it has a `then`
  await asked;
}

