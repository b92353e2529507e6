/** What the compiler says about the definition of an aggregate. */
import { type Aggregate, type EvolveByType, type Message, type OtherEvent, type Refusal, aggregate, nativeAggregate, refuse } from "annals";
import { type FoldedView, nativeProjection } from "annals/projections";
import { type Command, type Event, type Paid, type Refused, type Same, type State, appointment, check, invoice } from "./domain.js";

// The types of an aggregate are those it was given.
check<Same<typeof appointment, Aggregate<State, Command, Event, Refused>>>();
check<Same<typeof invoice, Aggregate<number, Message<"Pay", { readonly amount: number }>, Paid, never>>>();

const same = (sum: number) => sum;
const rest = { initial: () => 0, evolve: { Booked: same, Cancelled: same } };

aggregate<number, Command, Event>("A", { ...rest, decide: () => [], snapshots: { version: 1, every: 100, afterReplayOf: 500 } });

aggregate<number, Command, Event>("A", {
  ...rest,
  decide: () => [],
  // @ts-expect-error a policy names the version of the state's form
  snapshots: { every: 100 },
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error there is no event "Moved"
  decide: () => [{ type: "Moved", data: {} }],
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error a doctor is a text
  decide: () => [{ type: "Booked", data: { doctor: 7 } }],
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error "Cancelled" has a reason, not a doctor
  decide: () => [{ type: "Cancelled", data: { doctor: "7" } }],
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error one event is no list of events
  decide: () => ({ type: "Booked", data: { doctor: "7" } }),
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error decisions are synchronous
  decide: async () => [{ type: "Booked", data: { doctor: "7" } }],
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error nothing is no decision: an empty list is
  decide: () => undefined,
});

aggregate<number, Command, Event>("A", {
  ...rest,
  // @ts-expect-error this aggregate refuses nothing
  decide: () => refuse("already-booked"),
});

aggregate<number, Command, Event, Refused>("A", {
  ...rest,
  // @ts-expect-error there is no such refusal
  decide: () => refuse("too-late"),
});

aggregate<number, Command, Event, Refused>("A", {
  ...rest,
  // @ts-expect-error "already-booked" tells by whom
  decide: () => refuse("already-booked", { who: "x" }),
});

aggregate<number, Command, Event>("A", {
  ...rest,
  decide: (_, command) => {
    // @ts-expect-error only "Book" has a doctor
    void command.data.doctor;
    if (command.type === "Book") check<Same<typeof command.data.doctor, string>>();
    return [];
  },
});

aggregate<number, Command, Event>("A", {
  decide: () => [],
  evolve: rest.evolve,
  // @ts-expect-error a state is a number here
  initial: () => "none",
});

// --- What events make of a state --------------------------------------------------------------

const begins = { initial: () => 0, decide: () => [] };

aggregate<number, Command, Event>("A", {
  ...begins,
  evolve: {
    Booked: (sum, event) => {
      check<Same<typeof sum, number>>();
      check<Same<typeof event, Message<"Booked", { readonly doctor: string }>>>();
      return sum + event.data.doctor.length;
    },
    Cancelled(sum, { data }) {
      check<Same<typeof data, { readonly reason: string }>>();
      return sum;
    },
  },
});

aggregate<number, Command, Event>("A", {
  ...begins,
  // @ts-expect-error each type has a function
  evolve: { Booked: same },
});

aggregate<number, Command, Event>("A", {
  ...begins,
  // @ts-expect-error there is no event "Moved"
  evolve: { Booked: same, Cancelled: same, Moved: same },
});

aggregate<number, Command, Event>("A", {
  ...begins,
  evolve: {
    // @ts-expect-error a state is a number here
    Booked: () => "one",
    Cancelled: same,
  },
});

aggregate<number, Command, Event>("A", {
  ...begins,
  evolve: {
    Booked: same,
    // @ts-expect-error "Cancelled" has a reason, not a doctor
    Cancelled: (sum, { data }) => sum + data.doctor.length,
  },
});

aggregate<number, Command, Event>("A", {
  ...begins,
  evolve: {
    Booked: same,
    // @ts-expect-error it is of the events of its type
    Cancelled: (sum: number, event: Message<"Booked", { readonly doctor: string }>) => sum + event.data.doctor.length,
  },
});

// One function for all knows its types by a list of them.
aggregate<number, Command, Event>("A", {
  ...begins,
  evolve: (sum, event) => {
    check<Same<typeof event, Event>>();
    // @ts-expect-error only "Booked" has a doctor
    void event.data.doctor;
    return event.type === "Booked" ? sum + event.data.doctor.length : sum;
  },
  events: { Booked: [], Cancelled: [] },
});

// @ts-expect-error nothing says which types there are
aggregate<number, Command, Event>("A", { ...begins, evolve: (sum) => sum });

aggregate<number, Command, Event>("A", {
  ...begins,
  // @ts-expect-error a state is a number here
  evolve: () => "one",
  events: { Booked: [], Cancelled: [] },
});

aggregate<number, Command, Event>("A", {
  ...begins,
  evolve: same,
  // @ts-expect-error each type is listed
  events: { Booked: [] },
});

// @ts-expect-error an aggregate evolves
aggregate<number, Command, Event>("A", begins);

// @ts-expect-error though it lists its events
aggregate<number, Command, Event>("A", { ...begins, events: { Booked: [], Cancelled: [] } });

// A table may be made elsewhere, and its functions be called by others.
const byType: EvolveByType<number, Event> = { Booked: (sum, { data }) => sum + data.doctor.length, Cancelled: same };
check<Same<ReturnType<typeof byType.Booked>, number>>();
aggregate<number, Command, Event>("A", { ...begins, evolve: byType });

aggregate<number, Command, Event>("A", {
  ...rest,
  decide: (_, __, { id, issuedAt, others, fold }) => {
    check<Same<typeof id, string>>();
    check<Same<typeof issuedAt, Date>>();
    check<Same<typeof others, readonly OtherEvent<Event>[]>>();
    const [other] = others;
    if (other?.type === "Booked") check<Same<typeof other.data.doctor, string>>();
    if (other !== undefined) {
      check<Same<typeof other.revision, number>>();
      check<Same<typeof other.issuedAt, string>>();
      check<Same<typeof other.actor, string | null>>();
      // @ts-expect-error the store may not have it yet
      void other.position;
    }
    // What is folded has the projection's documents, whoever's events it is made of.
    const days = fold(nativeProjection<{ readonly appointments: number }>("days"));
    check<Same<typeof days, FoldedView<{ readonly appointments: number }>>>();
    const day = days.get("7");
    check<Same<typeof day, { readonly appointments: number } | undefined>>();
    // @ts-expect-error there may be no such document
    void day.appointments;
    // @ts-expect-error it is of this moment
    days.list({ at: { time: "2026-11-23" } });
    // @ts-expect-error an aggregate is no projection
    fold(invoice);
    return [];
  },
  reads: (command, sum) => {
    check<Same<typeof command, Command>>();
    check<Same<typeof sum, number>>();
    return sum > 0 ? ["tag"] : [{ types: ["Booked"], tags: ["a", "b"] }];
  },
  tags: (event, before) => {
    check<Same<typeof event, Event>>();
    check<Same<typeof before, number>>();
    return [event.type];
  },
});

aggregate<number, Command, Event>("A", {
  ...rest,
  decide: () => [],
  // @ts-expect-error tags are texts
  tags: () => [7],
});

aggregate<number, Command, Event>("A", {
  ...rest,
  decide: () => [],
  // @ts-expect-error a query item has types and tags
  reads: () => [{ tags: ["a"] }],
});

// --- Upcasters --------------------------------------------------------------------------------

const decides = { ...rest, decide: () => [] };
type Booked1 = { readonly name: string };

aggregate<number, Command, Event>("A", {
  ...decides,
  events: {
    Booked: [({ name }: Booked1) => ({ doctors: [name] }), ({ doctors }: { doctors: string[] }) => ({ doctor: doctors[0] ?? "?" })],
    Cancelled: [{ becomes: ({ why }: { why: string }) => [{ type: "Cancelled", data: { reason: why } }] }],
  },
  retired: {
    Moved: [(data) => data, { becomes: ({ name }: Booked1) => [{ type: "Booked", version: 1, data: { name } }] }],
    Seen: [{ becomes: () => [] }],
    Swapped: [{ becomes: () => [{ type: "Cancelled", data: { reason: "swapped" } }, { type: "Booked", data: { doctor: "7" } }] }],
  },
  unknownEvents: "skip",
});

aggregate<number, Command, Event>("A", {
  ...decides,
  // @ts-expect-error each type is listed
  events: { Booked: [] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  // @ts-expect-error there is no event "Moved"
  events: { Booked: [], Cancelled: [], Moved: [] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  // @ts-expect-error the last upcaster gives what "Booked" has today
  events: { Booked: [({ name }: Booked1) => ({ name })], Cancelled: [] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  // @ts-expect-error an upcaster is synchronous
  events: { Booked: [async ({ name }: Booked1) => ({ doctor: name })], Cancelled: [] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  events: {
    Booked: [
      (data) => {
        check<Same<typeof data, unknown>>();
        // @ts-expect-error what has been stored is not known
        return { doctor: data.name };
      },
    ],
    Cancelled: [],
  },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  events: { Booked: [], Cancelled: [] },
  // @ts-expect-error "Booked" has a doctor, unless it is of an earlier version
  retired: { Moved: [{ becomes: ({ name }: Booked1) => [{ type: "Booked", data: { name } }] }] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  events: { Booked: [], Cancelled: [] },
  // @ts-expect-error no event is called so today: it becomes others, or none
  retired: { Moved: [(data) => data] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  events: { Booked: [], Cancelled: [] },
  // @ts-expect-error a type that is retired has a version at least
  retired: { Moved: [] },
});

aggregate<number, Command, Event>("A", {
  ...decides,
  events: { Booked: [], Cancelled: [] },
  // @ts-expect-error they fail, or are passed by
  unknownEvents: "ignore",
});

// Types may also be said where they are used. An event's type is then a literal only `as const`.
const inferred = aggregate("Inferred", {
  initial: (): State => ({ status: "none" }),
  decide: (state, command: Command) =>
    state.status === "booked" ? refuse("already-booked", { by: "x" }) : [{ type: "Booked" as const, data: { doctor: command.type } }],
  evolve: (state, event: Event): State => (event.type === "Booked" ? { ...state, status: "booked" } : state),
  events: { Booked: [], Cancelled: [] },
});
check<Same<typeof inferred, Aggregate<State, Command, Event, Refusal<"already-booked", { by: string }>>>>();

// `refuse` keeps the code as it is written, and without details has none.
const bare = refuse("not-booked");
check<Same<typeof bare, Refusal<"not-booked", Record<string, never>>>>();
const told = refuse("already-booked", { by: "x" });
check<Same<typeof told, Refusal<"already-booked", { by: string }>>>();

// A domain of the module has the types it is said to have.
const native = nativeAggregate<State, Command, Event, Refused>("Appointment");
check<Same<typeof native, typeof appointment>>();
