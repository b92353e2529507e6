/** What the compiler says about the use of an engine. */
import {
  type Attempt, type EventOf, type History, type Message, type OpenOptions, type Outcome, type Position, type RecordedEvent,
  type ExecuteOptions, type Refusal, type SkippedReport, type SnapshotReport, type StateAt, type StorageAdapter, type WasmSource, Engine, nativeAggregate,
} from "annals";
import { type Change, type Diff, type Trace, diff, trace } from "annals/audit";
import { indexedDbStorage } from "annals/indexeddb";
import { Engine as InlineEngine } from "annals/inline";
import { memoryStorage } from "annals/memory";
import { Engine as SlimEngine } from "annals/slim";
import { checkpoint, forgetCheckpoint, setCheckpoint } from "annals/subscriptions";
import { type Event, type Paid, type Refused, type Same, type State, appointment, check, invoice } from "./domain.js";

declare const engine: Engine;
declare const position: Position;

// --- Opening ----------------------------------------------------------------------------------

export async function opening(storage: StorageAdapter) {
  const aggregates = [appointment, invoice];
  check<Same<typeof engine, Awaited<ReturnType<typeof Engine.open>>>>();
  await Engine.open({ storage: memoryStorage(), aggregates });
  await Engine.open({ storage: indexedDbStorage({ name: "clinic" }), aggregates, limits: { pageLimit: 100 } });
  await InlineEngine.open({ storage, aggregates: [] });
  // What the platform has is known by its own types.
  type Bytes = ArrayBuffer | ArrayBufferView;
  check<Same<WasmSource, string | URL | Request | Response | Bytes | WebAssembly.Module>>();
  check<Same<ExecuteOptions["signal"], AbortSignal | undefined>>();
  const options: OpenOptions = { storage, aggregates };
  await Engine.open(options);
  await Engine.open({ storage, aggregates, onReport: (report) => check<Same<typeof report, SnapshotReport | SkippedReport>>() });
  check<Same<Awaited<ReturnType<typeof engine.snapshot>>, { readonly revision: number }>>();
  // @ts-expect-error a snapshot is of an aggregate, not of its name
  void engine.snapshot("Appointment", "a-1");
  // @ts-expect-error the slim entry brings no module
  await SlimEngine.open({ storage, aggregates });
  // @ts-expect-error a store is needed
  await Engine.open({ aggregates });
  // @ts-expect-error aggregates are a list
  await Engine.open({ storage, aggregates: appointment });
  // @ts-expect-error there is no such limit
  await Engine.open({ storage, aggregates, limits: { patience: 1 } });
  // @ts-expect-error an engine is opened, not made
  new Engine();
  // Both ways to end it.
  {
    await using waits = engine;
    using atOnce = engine;
    void [waits, atOnce];
  }
}

// --- Chains -----------------------------------------------------------------------------------

export async function chains() {
  for await (const event of engine.events({ aggregates: [appointment], correlationId: "request 7" })) {
    const found = await trace(engine, event);
    check<Same<typeof found, Trace>>();
    // As they are stored: of whatever form.
    check<Same<(typeof found.causes)[number], RecordedEvent>>();
    check<Same<(typeof found.effects)[number]["data"], unknown>>();
  }
  // @ts-expect-error a chain begins with an event, not with its id
  await trace(engine, "7");
}

export async function differences() {
  const found = await diff(engine, appointment, "a-1", { from: { position }, to: { time: new Date() } });
  check<Same<typeof found, Diff<State, Event>>>();
  check<Same<typeof found.to, StateAt<State>>>();
  check<Same<(typeof found.events)[number], RecordedEvent<Event>>>();
  for (const change of found.changes) {
    check<Same<typeof change, Change>>();
    check<Same<typeof change.path, readonly (string | number)[]>>();
    if (change.kind === "added") check<Same<typeof change.after, unknown>>();
    // @ts-expect-error what was added was not there before
    if (change.kind === "added") void change.before;
  }
  // @ts-expect-error it starts somewhere
  await diff(engine, appointment, "a-1", {});
  // @ts-expect-error states at hand are no points
  await diff(engine, appointment, "a-1", { from: { revision: 1 }, cached: true });
}

// --- Commands ---------------------------------------------------------------------------------

export async function commands() {
  const outcome = await engine.execute(appointment, "a-1", { type: "Book", data: { doctor: "7" } });
  check<Same<typeof outcome, Outcome<State, Event>>>();
  check<Same<typeof outcome.state, State>>();
  check<Same<typeof outcome.position, Position | null>>();
  for (const event of outcome.events) {
    check<Same<typeof event, RecordedEvent<Event>>>();
    // @ts-expect-error only "Booked" has a doctor
    void event.data.doctor;
    if (event.type === "Cancelled") check<Same<typeof event.data, { readonly reason: string }>>();
  }
  // @ts-expect-error an outcome is not to be changed
  outcome.revision = 2;

  // @ts-expect-error there is no command "Move"
  await engine.execute(appointment, "a-1", { type: "Move", data: {} });
  // @ts-expect-error a doctor is a text
  await engine.execute(appointment, "a-1", { type: "Book", data: { doctor: 7 } });
  // @ts-expect-error "Cancel" has a reason
  await engine.execute(appointment, "a-1", { type: "Cancel", data: {} });
  // @ts-expect-error nothing is called "nota"
  await engine.execute(appointment, "a-1", { type: "Book", data: { doctor: "7", nota: "x" } });
  // @ts-expect-error a command has data
  await engine.execute(appointment, "a-1", { type: "Book" });
  // @ts-expect-error that is a command of the other aggregate
  await engine.execute(invoice, "i-1", { type: "Book", data: { doctor: "7" } });
  // @ts-expect-error an id is a text
  await engine.execute(appointment, 7, { type: "Book", data: { doctor: "7" } });

  const book = { type: "Book", data: { doctor: "7" } } as const;
  await engine.execute(appointment, "a-1", book, {
    commandId: "00000000-0000-4000-8000-000000000001",
    expectedRevision: 3,
    issuedAt: new Date(),
    actor: "reception",
    metadata: { ip: "::1" },
    signal: new AbortController().signal,
  });
  await engine.execute(appointment, "a-1", book, { expectedRevision: "no-stream", issuedAt: "2026-11-23T09:00:00Z" });
  // @ts-expect-error "none" is no expectation
  await engine.execute(appointment, "a-1", book, { expectedRevision: "none" });
  // @ts-expect-error a number is no time
  await engine.execute(appointment, "a-1", book, { issuedAt: 0 });
  // @ts-expect-error there is no such option
  await engine.execute(appointment, "a-1", book, { user: "reception" });
}

export async function attempts() {
  const attempt = await engine.attempt(appointment, "a-1", { type: "Book", data: { doctor: "7" } });
  check<Same<typeof attempt, Attempt<State, Event, Refused>>>();
  if (attempt.ok) {
    check<Same<typeof attempt.state, State>>();
    // @ts-expect-error nothing was refused
    void attempt.refusal;
    return;
  }
  // @ts-expect-error a refusal has no state
  void attempt.state;
  check<Same<typeof attempt.refusal, Refused>>();
  check<Same<typeof attempt.refusal.code, "already-booked" | "not-booked">>();
  if (attempt.refusal.code === "already-booked") check<Same<typeof attempt.refusal.details, { readonly by: string }>>();
  // @ts-expect-error there is no such refusal
  if (attempt.refusal.code === "too-late") return;

  // Who refuses nothing always succeeds.
  const paid = await engine.attempt(invoice, "i-1", { type: "Pay", data: { amount: 1 } });
  if (!paid.ok) check<Same<typeof paid.refusal, never>>();
}

// --- Reads ------------------------------------------------------------------------------------

export async function reads() {
  const { state, revision } = await engine.state(appointment, "a-1");
  check<Same<typeof state, State>>();
  check<Same<typeof revision, number>>();
  check<Same<Awaited<ReturnType<typeof engine.state<State, never, Event, Refused>>>, StateAt<State>>>();
  const history = await engine.history(appointment, "a-1", { at: { revision: 3 } });
  check<Same<typeof history, History<State, Event>>>();
  check<Same<typeof history.skipped, number>>();
  // What is stored may have any form.
  const stored = await engine.history(appointment, "a-1", { stored: true });
  check<Same<typeof stored, History<State, Message>>>();
  check<Same<typeof stored.events, readonly RecordedEvent[]>>();
  await engine.state(appointment, "a-1", { at: { position } });
  await engine.state(appointment, "a-1", { at: { time: new Date() } });
  await engine.state(appointment, "a-1", { at: { time: "2026-11-17T14:05:00Z" } });
  await engine.state(appointment, "a-1", { cached: true });
  // @ts-expect-error a time is said as one
  await engine.state(appointment, "a-1", { at: "2026-11-17T14:05:00Z" });
  // @ts-expect-error a text is no position: it comes from an event or an outcome
  await engine.state(appointment, "a-1", { at: { position: "17" } });
  // @ts-expect-error a command that appended nothing has no position
  await engine.state(appointment, "a-1", { at: { position: null } });
  // @ts-expect-error a position is no revision
  await engine.state(appointment, "a-1", { at: { revision: position } });
  // @ts-expect-error a history is never from what is at hand
  await engine.history(appointment, "a-1", { cached: true });
}

// --- Events -----------------------------------------------------------------------------------

export async function events() {
  // Without aggregates nothing is known of types and data.
  for await (const event of engine.events()) {
    check<Same<typeof event.type, string>>();
    check<Same<typeof event.data, unknown>>();
    check<Same<typeof event.position, Position>>();
    check<Same<typeof event.revision, number>>();
    check<Same<typeof event.actor, string | null>>();
    // @ts-expect-error an event is not to be changed
    event.actor = "x";
  }
  for await (const event of engine.events({ types: ["Booked", "Else"] })) {
    check<Same<typeof event.type, "Booked" | "Else">>();
    check<Same<typeof event.data, unknown>>();
  }
  // With aggregates, they are theirs.
  for await (const event of engine.events({ aggregates: [appointment] })) {
    check<Same<typeof event, RecordedEvent<Event>>>();
  }
  for await (const event of engine.events({ aggregates: [appointment, invoice] })) {
    check<Same<typeof event.type, "Booked" | "Cancelled" | "Paid">>();
    if (event.type === "Paid") check<Same<typeof event.data, { readonly amount: number }>>();
  }
  // Types narrow them.
  for await (const event of engine.events({ aggregates: [appointment, invoice], types: ["Booked", "Paid"] })) {
    check<Same<typeof event.type, "Booked" | "Paid">>();
    if (event.type === "Booked") check<Same<typeof event.data.doctor, string>>();
  }
  for await (const event of engine.events({ aggregates: [appointment], types: ["Booked"], tags: ["doctor:7"], follow: false })) {
    check<Same<typeof event, RecordedEvent<Extract<Event, { type: "Booked" }>>>>();
    check<Same<typeof event.data.doctor, string>>();
  }
  // @ts-expect-error appointments have no event "Paid"
  engine.events({ aggregates: [appointment], types: ["Paid"] });
  // What is stored may have any type, and its data any form.
  for await (const event of engine.events({ aggregates: [appointment], types: ["Moved"], stored: true })) {
    check<Same<typeof event, RecordedEvent>>();
    check<Same<typeof event.data, unknown>>();
  }

  engine.events({ after: position });
  engine.events({ after: null });
  // @ts-expect-error a text is no position: it comes from an event or an outcome
  engine.events({ after: "17" });
  // @ts-expect-error nor is a number
  engine.events({ after: 17 });
  // Kept as text, and said to be one when it comes back.
  const kept: string = position;
  engine.events({ after: kept as Position });
  check<Same<EventOf<typeof appointment | typeof invoice>, Event | Paid>>();
}

// --- Subscriptions with a name ------------------------------------------------------------------

export async function named() {
  const both = [appointment, invoice] as const;
  for await (const event of engine.events({ name: "mails", startAt: "beginning", aggregates: both, types: ["Paid"] })) {
    check<Same<typeof event, RecordedEvent<Paid>>>();
  }
  for await (const event of engine.events({ name: "mails", startAt: position, stored: true })) {
    check<Same<typeof event, RecordedEvent>>();
  }
  engine.events({ after: "now" });
  engine.events({ before: "now", pageSize: 20 });
  engine.events({ before: position, follow: false });
  // @ts-expect-error the log has one beginning, and is read back up to it
  engine.events({ before: "beginning" });
  // @ts-expect-error what comes is not before
  engine.events({ before: "now", follow: true });
  // @ts-expect-error no checkpoint is kept of it
  engine.events({ before: "now", name: "mails", startAt: "now" });
  // @ts-expect-error where it begins has no default
  engine.events({ name: "mails" });
  // @ts-expect-error only a subscription with a name has a start: this one begins after a position
  engine.events({ startAt: "now" });
  // @ts-expect-error it goes on after its checkpoint, and not after a position
  engine.events({ name: "mails", startAt: "now", after: position });
  // @ts-expect-error a text is no position
  engine.events({ name: "mails", startAt: "then" });
  check<Same<Awaited<ReturnType<typeof checkpoint>>, Position | null>>();
  check<Same<typeof position, Awaited<ReturnType<typeof setCheckpoint>>>>();
  await setCheckpoint(engine, "mails", "now");
  await forgetCheckpoint(engine, "mails");
  // @ts-expect-error somewhere it is to be put
  await setCheckpoint(engine, "mails");
  // @ts-expect-error to forget it is another wish
  await setCheckpoint(engine, "mails", null);
}

// --- Domains of a module ----------------------------------------------------------------------

export async function native(slim: SlimEngine) {
  const room = nativeAggregate<{ free: boolean }, { type: "Take"; data: { by: string } }, { type: "Taken"; data: { by: string } }, Refusal<"taken", null>>("Room");
  const attempt = await slim.attempt(room, "r-1", { type: "Take", data: { by: "7" } });
  if (attempt.ok) check<Same<typeof attempt.state, { free: boolean }>>();
  else check<Same<typeof attempt.refusal, Refusal<"taken", null>>>();
  // @ts-expect-error by whom is a text
  await slim.execute(room, "r-1", { type: "Take", data: { by: 7 } });
}
