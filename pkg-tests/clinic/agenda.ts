/** The clinic's agenda in TypeScript: the same projection as that of the Rust crate in www/clinic. */
import { type InlineEvent, type View, projection } from "annals/projections";
import { type Booking, type Event, type State, evolve, slotTags } from "./appointment.js";

/** An appointment in the agenda. */
export interface Entry {
  readonly status: "booked" | "confirmed" | "cancelled";
  readonly booking: Booking;
  /** The number of its events. */
  readonly revision: number;
}

/** A document for each appointment, by its id. */
export const agenda = projection<Entry, Event>("agenda", {
  version: 1,
  // Who has booked looks at the agenda next.
  kind: "inline",
  on: {
    AppointmentBooked: takeIn(evolve.AppointmentBooked),
    AppointmentRescheduled: takeIn(evolve.AppointmentRescheduled),
    AppointmentUpdated: takeIn(evolve.AppointmentUpdated),
    AppointmentConfirmed: takeIn(evolve.AppointmentConfirmed),
    AppointmentCancelled: takeIn(evolve.AppointmentCancelled),
  },
  /** By `start` are all, in order of time; by `held` those that hold a doctor or a room, under the slot's tags. */
  indexes: {
    start: ({ booking }) => booking.start,
    held: ({ status, booking }) => (status === "cancelled" ? [] : slotTags(booking)),
  },
});

/** What an appointment comes to is said by the appointment. */
function takeIn<Taken>(stateAfter: (state: State, event: Taken) => State) {
  return (view: View<Entry>, event: Taken & Pick<InlineEvent, "stream" | "revision">): void => {
    const { id } = event.stream;
    const state = stateAfter(stateOf(view.get(id)), event);
    if (state.status === "none") throw new Error("it was never booked");
    const { status, ...booking } = state;
    view.set(id, { status, booking, revision: event.revision });
  };
}

function stateOf(entry: Entry | undefined): State {
  return entry === undefined ? { status: "none" } : { status: entry.status, ...entry.booking };
}
