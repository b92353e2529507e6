/** What the compiler says about projections and their views. */
import {
  type AnyProjection, type EventOf, type Message, type Outcome, type Position, type Projection, Engine, aggregate,
} from "annals";
import { memoryStorage } from "annals/memory";
import {
  type FoldedView, type IndexValue, type InlineEvent, type Listed, type Listing, type LoggedEvent, type View, type ViewReader,
  type ViewStatus, fold, nativeProjection, projection,
} from "annals/projections";
import { type Event, type Paid, type Same, appointment, check, invoice } from "./domain.js";

type Day = { readonly appointments: number; readonly notes: readonly string[] };
type Booked = Extract<Event, { readonly type: "Booked" }>;

declare const engine: Engine;
declare const position: Position;

// --- Definitions ------------------------------------------------------------------------------

export const agenda = projection<Day, Event>("agenda", {
  version: 1,
  on: {
    Booked(view, event) {
      check<Same<typeof view, View<Day>>>();
      check<Same<typeof event, LoggedEvent<Booked>>>();
      check<Same<typeof event.data, { readonly doctor: string }>>();
      check<Same<typeof event.position, Position>>();
      check<Same<typeof event.recordedAt, string>>();
      check<Same<typeof event.actor, string | null>>();
      check<Same<typeof event.stream, { readonly type: string; readonly id: string }>>();
      const day = view.get(event.data.doctor);
      check<Same<typeof day, Day | undefined>>();
      view.set(event.data.doctor, { appointments: 1, notes: [] });
      view.update("all", (all) => {
        check<Same<typeof all, Day | undefined>>();
        return { appointments: (all?.appointments ?? 0) + 1, notes: [] };
      });
      view.delete("none");
      // @ts-expect-error a document has notes
      view.set("7", { appointments: 1 });
      // @ts-expect-error there may be no document yet
      view.update("7", ({ appointments }) => ({ appointments, notes: [] }));
      // @ts-expect-error what is changed is given back
      view.update("7", () => undefined);
      // @ts-expect-error a key is a text
      view.get(7);
      // @ts-expect-error nothing of "Booked" is called reason
      void event.data.reason;
    },
    Cancelled: (_, event) => check<Same<typeof event.data, { readonly reason: string }>>(),
  },
  indexes: {
    appointments: (day) => {
      check<Same<typeof day, Day>>();
      return day.appointments;
    },
    notes: ({ notes }) => notes,
    busy: ({ appointments }) => appointments > 9,
    maybe: ({ notes }) => notes[0],
  },
});
check<Same<typeof agenda, Projection<Day>>>();

projection<Day, Event>("agenda", {
  version: 1,
  kind: "inline",
  on: {
    Booked(view, event) {
      check<Same<typeof view, View<Day>>>();
      check<Same<typeof event, InlineEvent<Booked>>>();
      check<Same<typeof event.revision, number>>();
      check<Same<typeof event.issuedAt, string>>();
      // @ts-expect-error an inline handler may run before the store has the event
      void event.position;
      // @ts-expect-error so nobody knows when the store takes it
      void event.recordedAt;
    },
  },
});

// A live one sees what the log has.
projection<Day, Event>("agenda", {
  version: 1,
  kind: "live",
  on: { Booked: (_, event) => check<Same<typeof event, LoggedEvent<Booked>>>() },
});

// Of several aggregates, whose events are named by them.
projection<number, EventOf<typeof appointment> | EventOf<typeof invoice>>("both", {
  version: 1,
  on: {
    Cancelled: (view, { stream }) => view.delete(stream.id),
    Paid: (view, { data, stream }) => view.set(stream.id, data.amount),
  },
});
check<Same<EventOf<typeof invoice>, Paid>>();

// Handlers may be written apart.
const onBooked = (view: View<Day>, { data }: InlineEvent<Booked>) => view.delete(data.doctor);
projection<Day, Event>("apart", { version: 1, on: { Booked: onBooked } });
projection<Day, Event>("apart", { version: 1, kind: "inline", on: { Booked: onBooked } });
const onLogged = (view: View<Day>, { position }: LoggedEvent<Booked>) => view.delete(position);
projection<Day, Event>("apart", { version: 1, on: { Booked: onLogged } });
// @ts-expect-error this handler needs the position
projection<Day, Event>("apart", { version: 1, kind: "inline", on: { Booked: onLogged } });

// What becomes of events of unknown types is said of aggregates.
projection<Day, Event>("whole", { version: 1, aggregates: [appointment, invoice], unknownEvents: "fail", on: { Booked() {} } });
projection<Day, Event>("whole", {
  version: 1,
  kind: "inline",
  aggregates: [appointment],
  unknownEvents: "skip",
  on: { Booked: (_, event) => check<Same<typeof event, InlineEvent<Booked>>>() },
});
// @ts-expect-error they fail, or are skipped
projection<Day, Event>("whole", { version: 1, aggregates: [appointment], unknownEvents: "ignore", on: { Booked() {} } });
// @ts-expect-error an aggregate is more than its name
projection<Day, Event>("whole", { version: 1, aggregates: ["Appointment"], unknownEvents: "fail", on: { Booked() {} } });

// @ts-expect-error there is no event "Moved"
projection<Day, Event>("agenda", { version: 1, on: { Moved() {} } });
// @ts-expect-error there is no event "Moved" for an inline one either
projection<Day, Event>("agenda", { version: 1, kind: "inline", on: { Moved() {} } });
// @ts-expect-error documents have a version
projection<Day, Event>("agenda", { on: { Booked() {} } });
// @ts-expect-error it is made of events
projection<Day, Event>("agenda", { version: 1 });
// @ts-expect-error there is no such kind
projection<Day, Event>("agenda", { version: 1, kind: "sync", on: { Booked() {} } });
// @ts-expect-error there is no such option
projection<Day, Event>("agenda", { version: 1, on: { Booked() {} }, index: { all: () => 1 } });
// @ts-expect-error what a document is found under is ordered: an object is not
projection<Day, Event>("agenda", { version: 1, on: { Booked() {} }, indexes: { day: (day) => day } });
// @ts-expect-error a document has no rooms
projection<Day, Event>("agenda", { version: 1, on: { Booked() {} }, indexes: { rooms: ({ rooms }) => rooms } });
// @ts-expect-error a name is a text
projection<Day, Event>(7, { version: 1, on: { Booked() {} } });
// @ts-expect-error an event is type and data
projection<Day, { kind: "Booked" }>("agenda", { version: 1, on: {} });

const native = nativeProjection<Day>("agenda");
check<Same<typeof native, Projection<Day>>>();
const unnamed = nativeProjection("agenda");
check<Same<typeof unnamed, Projection<unknown>>>();

// --- Opening ----------------------------------------------------------------------------------

export async function opening() {
  const [storage, aggregates] = [memoryStorage(), [appointment]];
  await Engine.open({ storage, aggregates, projections: [agenda, native] });
  const some: readonly AnyProjection[] = [agenda];
  await Engine.open({ storage, aggregates, projections: some });
  // @ts-expect-error projections are a list
  await Engine.open({ storage, aggregates, projections: agenda });
  // @ts-expect-error an aggregate is no projection
  await Engine.open({ storage, aggregates, projections: [appointment] });
  // @ts-expect-error a projection is no aggregate
  await Engine.open({ storage, aggregates: [agenda] });
}

// --- Asking -----------------------------------------------------------------------------------

export async function asking(outcome: Outcome<unknown, Event>, signal: AbortSignal) {
  const view = engine.view(agenda);
  check<Same<typeof view, ViewReader<Day>>>();
  const day = await view.get("7");
  check<Same<typeof day, Day | undefined>>();
  await view.get("7", { after: position });
  // A command that appends nothing has no position, and there is nothing to wait for.
  await view.get("7", { after: outcome.position });
  await view.waitFor(outcome.position, { signal });
  await view.get("7", { latest: true, signal });
  await view.get("7", { at: { position } });
  await view.get("7", { at: { time: new Date(0) } });
  await view.list({ at: { time: "2026-11-23" } });

  const listing = await view.list({ index: "appointments", from: 3, to: 9, descending: true, limit: 10 });
  check<Same<typeof listing, Listing<Day>>>();
  check<Same<(typeof listing.documents)[number], Listed<Day>>>();
  check<Same<typeof listing.cursor, string | null>>();
  await view.list({ cursor: listing.cursor });
  await view.list({ index: "notes", equals: "x" });
  check<Same<IndexValue, string | number | boolean>>();
  const count = await view.count({ prefix: "7" });
  check<Same<typeof count, number>>();
  const status = await view.status();
  check<Same<typeof status, ViewStatus>>();
  check<Same<typeof status.skipped, number>>();
  check<Same<typeof status.stopped, { readonly position: Position; readonly reason: string } | null>>();
  view.pause();
  view.resume();

  for await (const first of view.watch((asked) => asked.list({ limit: 1 }), { signal })) {
    check<Same<typeof first, Listing<Day>>>();
    break;
  }
  for await (const shown of engine.view(native).watch(async (asked) => (await asked.get("7"))?.appointments)) {
    check<Same<typeof shown, number | undefined>>();
    break;
  }

  // @ts-expect-error there may be no such document
  void (await view.get("7")).appointments;
  // @ts-expect-error a document given out is nobody's to change
  (await view.list()).documents[0]!.document = day!;
  // @ts-expect-error a key is a text
  await view.get(7);
  // @ts-expect-error a position is not any text
  await view.get("7", { after: "7" });
  // @ts-expect-error a view has no revisions
  await view.get("7", { at: { revision: 3 } });
  // @ts-expect-error one document has no order
  await view.get("7", { descending: true });
  // @ts-expect-error there is no such option
  await view.list({ page: 2 });
  // @ts-expect-error a value of an index is a text, a number or a boolean
  await view.list({ index: "notes", equals: null });
  // @ts-expect-error a number of documents has no limit
  await view.count({ limit: 10 });
  // @ts-expect-error it is awaited
  for await (const count of view.watch(() => 1)) void count;
  // @ts-expect-error a view is of a projection, not of its name
  engine.view("agenda");
  // @ts-expect-error nor of an aggregate
  engine.view(appointment);
}

// --- Inference from an aggregate alone --------------------------------------------------------

const counter = aggregate<number, Message<"Count", null>, Message<"Counted", null>>("Counter", {
  initial: () => 0,
  decide: () => [{ type: "Counted", data: null }],
  evolve: { Counted: (sum) => sum + 1 },
});
projection<number, EventOf<typeof counter>>("counts", {
  version: 1,
  on: { Counted: (view, { stream }) => view.update(stream.id, (sum = 0) => sum + 1) },
});

// --- Folded in memory -------------------------------------------------------------------------

declare const history: Awaited<ReturnType<typeof engine.history<unknown, never, Event, never>>>;
const folded = fold(agenda, history.events);
check<Same<typeof folded, FoldedView<Day>>>();
const foldedDay = folded.get("7");
check<Same<typeof foldedDay, Day | undefined>>();
const foldedList = folded.list({ index: "appointments", from: 1, descending: true, limit: 3, cursor: null });
check<Same<typeof foldedList, Listing<Day>>>();
const foldedCount = folded.count({ prefix: "7" });
check<Same<typeof foldedCount, number>>();
// @ts-expect-error it is of the events it was made of
folded.list({ latest: true });
// @ts-expect-error events have a stream
fold(agenda, [{ type: "Booked", data: { doctor: "7" } }]);
// @ts-expect-error that is no projection
fold(appointment, history.events);
