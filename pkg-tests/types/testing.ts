/** What the compiler says about tests of a domain. */
import { nativeAggregate } from "annals";
import { nativeProjection } from "annals/projections";
import { type Given, type GivenView, type Then, type When, given, givenView } from "annals/testing";
import { type Command, type Event, type Refused, type Same, type State, appointment, check, invoice } from "./domain.js";

const booked = { type: "Booked", data: { doctor: "7" } } as const;
const book = { type: "Book", data: { doctor: "7" } } as const;
const cancel = { type: "Cancel", data: { reason: "ill" } } as const;
const cancelled = { type: "Cancelled", data: { reason: "ill" } } as const;

const none = given(appointment);
check<Same<typeof none, Given<State, Command, Event, Refused>>>();
const asked = none.when(book);
check<Same<typeof asked, When<State, Command, Event, Refused>>>();
const told = asked.then(booked);
check<Same<typeof told, Then<State, Command, Event, Refused>>>();

// --- Given ------------------------------------------------------------------------------------

given(appointment, booked, { type: "Cancelled", data: { reason: "ill" } });
given(nativeAggregate<State, Command, Event, Refused>("Appointment"), booked);
// @ts-expect-error there is no event "Moved"
given(appointment, { type: "Moved", data: {} });
// @ts-expect-error a doctor is a text
given(appointment, { type: "Booked", data: { doctor: 7 } });
// @ts-expect-error nothing of "Booked" is called "nota"
given(appointment, { type: "Booked", data: { doctor: "7", nota: "x" } });
// @ts-expect-error an event has data
given(appointment, { type: "Booked" });
// @ts-expect-error a command is no event
given(appointment, book);
// @ts-expect-error that is an event of the other aggregate
given(invoice, booked);

none.stored({ type: "Moved", version: 2, data: {} }, { type: "Booked", version: 1, data: {} }).thenUpcast(booked).thenState({ status: "none" });
// @ts-expect-error what is stored has a version
none.stored({ type: "Moved", data: {} });
// @ts-expect-error it becomes an event of today
none.thenUpcast({ type: "Moved", data: {} });
// @ts-expect-error what earlier releases have stored comes before the first command
asked.stored({ type: "Moved", version: 1, data: {} });

none.others("a-2", booked).others(invoice, "i-1", { type: "Paid", data: { amount: 1 } });
// @ts-expect-error it is said whose events they are
none.others(booked);
// @ts-expect-error that is an event of the other aggregate
none.others("a-2", { type: "Paid", data: { amount: 1 } });
// @ts-expect-error an invoice has other events
none.others(invoice, "i-1", booked);

none.id("a-1").at("2026-11-23T09:00:00Z").at(new Date(0)).advance({ days: 1, minutes: 30 });
// @ts-expect-error a time is no number
none.at(0);
// @ts-expect-error a span has units
none.advance(1000);
// @ts-expect-error there is no such unit
none.advance({ weeks: 1 });
// @ts-expect-error an id is given before the first command
asked.id("a-1");
none.by("reception").when(book).by("nurse");
// @ts-expect-error an actor is a text
none.by(7);

// --- When -------------------------------------------------------------------------------------

asked.when(cancel).whenOther("a-2", book);
// @ts-expect-error there is no command "Move"
none.when({ type: "Move", data: {} });
// @ts-expect-error "Cancel" has a reason
none.when({ type: "Cancel", data: {} });
// @ts-expect-error an event is no command
none.when(booked);
// @ts-expect-error an id is a text
none.whenOther(2, book);

// --- Then -------------------------------------------------------------------------------------

asked.then().thenNothing().thenState({ status: "none" }).thenTags(["a", "b"], []).thenReads(["a"]).thenThrows(/x/);
// @ts-expect-error there is no event "Moved"
asked.then({ type: "Moved", data: {} });
// @ts-expect-error a doctor is a text
asked.then({ type: "Booked", data: { doctor: 7 } });
// @ts-expect-error events are given one by one
asked.then([booked]);
// @ts-expect-error nothing has been asked
none.then(booked);
// @ts-expect-error what came has been said: the next is another command
told.then(booked);

asked.thenRefused("not-booked").thenRefused("not-booked", {}).thenRefused("already-booked", { by: "7" });
// @ts-expect-error there is no such refusal
asked.thenRefused("too-late");
// @ts-expect-error "already-booked" tells by whom
asked.thenRefused("already-booked", { who: "7" });
// @ts-expect-error "not-booked" tells nothing
asked.thenRefused("not-booked", { by: "7" });
// @ts-expect-error this aggregate refuses nothing
given(invoice).when({ type: "Pay", data: { amount: 1 } }).thenRefused("not-booked");

none.thenState({ status: "booked", doctor: "7" });
// @ts-expect-error there is no such status
none.thenState({ status: "gone" });
// @ts-expect-error a state of an invoice is a number
given(invoice).thenState("1");
// @ts-expect-error each event has a list of tags
asked.thenTags("a");
// @ts-expect-error a query item has types and tags
asked.thenReads([{ tags: ["a"] }]);

export async function waits() {
  // @ts-expect-error a test of a domain is synchronous: this is no promise, though it has a `then`
  await asked;
}

// --- Projections ------------------------------------------------------------------------------

type Day = { readonly appointments: number };
const day = givenView(nativeProjection<Day>("days"));
check<Same<typeof day, GivenView<Day>>>();
const busy = day.happened(appointment, "a-1", booked, cancelled).happened(invoice, "i-1", { type: "Paid", data: { amount: 1 } });
check<Same<typeof busy, GivenView<Day>>>();
busy.at("2026-11-23T09:00:00Z").advance({ hours: 1 }).by("reception").happened(appointment, "a-2");
// @ts-expect-error it is said whose events they are
day.happened("a-1", booked);
// @ts-expect-error an invoice has other events
day.happened(invoice, "i-1", booked);
// @ts-expect-error a command is no event
day.happened(appointment, "a-1", book);

busy.thenDocument("7", { appointments: 1 }).thenDocuments({ "7": { appointments: 1 } }).thenNone("8");
busy.thenIndexed("appointments", 1, ["7"]).thenIndexed("busy", true, []).thenStops("why").thenStops(/why/).thenStops();
// @ts-expect-error a document has a number of appointments
busy.thenDocument("7", { appointments: "1" });
// @ts-expect-error a document has no notes
busy.thenDocument("7", { appointments: 1, notes: [] });
// @ts-expect-error there is a document or there is none
busy.thenDocument("7", undefined);
// @ts-expect-error documents have keys
busy.thenDocuments([{ appointments: 1 }]);
// @ts-expect-error a value of an index is text, a number or a boolean
busy.thenIndexed("appointments", { n: 1 }, ["7"]);
// @ts-expect-error keys are a list
busy.thenIndexed("appointments", 1, "7");
// @ts-expect-error that is no projection
givenView(appointment);
