// What engines see through an overlay on every store. One list, run in Node and in pages: `open` of a place
// gives an engine on its store, or on the `storage` it is told, and `storage` an adapter of it.

import { aggregate, refuse } from "annals";
import { overlayStorage } from "annals/overlay";
import { appointment, booking, cancellation, confirmation, issuedAt, logOf, retitling } from "./clinic.mjs";
import { same } from "./expect.mjs";

const once = { issuedAt };

/** Booked, retitled twice, confirmed; and another that was booked in between. */
async function told(place) {
  const storage = place.storage();
  const engine = await place.open({ storage });
  const outcomes = [];
  for (const [id, command] of [
    ["a-1", booking()],
    ["a-1", retitling("Second")],
    ["a-2", booking({ doctor: "8" })],
    ["a-1", retitling("Third")],
    ["a-1", confirmation],
  ]) {
    // Times that can be told apart.
    await new Promise((resolve) => setTimeout(resolve, 2));
    outcomes.push(await engine.execute(appointment, id, command, once));
  }
  return { storage, engine, outcomes };
}

export const overlayRules = [
  {
    name: "every position and every time is seen as it was",
    async run(place) {
      const { storage, engine, outcomes } = await told(place);
      const all = await logOf(engine);
      for (const [index, { position, events }] of outcomes.entries()) {
        for (const at of [{ position }, { time: events[0].recordedAt }, { time: new Date(events[0].recordedAt) }]) {
          const past = await place.open({ storage: overlayStorage({ storage, at }) });
          const seen = all.slice(0, index + 1);
          same((await logOf(past)).map(({ eventId }) => eventId), seen.map(({ eventId }) => eventId));
          for (const id of ["a-1", "a-2", "a-3"]) {
            const events = seen.filter(({ stream }) => stream.id === id);
            const expected = await engine.state(appointment, id, { at: { revision: events.length } });
            same(await past.state(appointment, id), expected);
            const history = await past.history(appointment, id);
            same(history.events.map(({ eventId }) => eventId), events.map(({ eventId }) => eventId));
          }
        }
      }
    },
  },
  {
    name: "what happens here is not known below, and the other way round",
    async run(place) {
      const { storage, engine, outcomes } = await told(place);
      const before = await logOf(engine);
      const trial = await place.open({ storage: overlayStorage({ storage, at: { position: outcomes[2].position } }) });
      // Then, a-1 had two events and was not confirmed.
      const cancelled = await trial.execute(appointment, "a-1", cancellation, once);
      same([cancelled.revision, cancelled.state.status, cancelled.durability], [3, "cancelled", "memory"]);
      // Rules across streams see both: the slot of a-2 is taken below, that of a-1 has become free here.
      same((await trial.attempt(appointment, "a-3", booking({ doctor: "8" }), once)).refusal.code, "doctor-taken");
      same((await trial.attempt(appointment, "a-4", booking(), once)).ok, true);
      same((await logOf(trial)).map(({ stream, revision }) => `${stream.id} ${revision}`), ["a-1 1", "a-1 2", "a-2 1", "a-1 3", "a-4 1"]);
      same((await trial.history(appointment, "a-1")).events.map(({ type }) => type), ["AppointmentBooked", "AppointmentUpdated", "AppointmentCancelled"]);

      await engine.execute(appointment, "a-1", retitling("Fifth"), once);
      same((await trial.state(appointment, "a-1")).revision, 3);
      same((await logOf(engine)).map(({ eventId }) => eventId).slice(0, -1), before.map(({ eventId }) => eventId));
    },
  },
  {
    name: "a command that was committed below before the cut is a repetition, one after it is not",
    async run(place) {
      const { storage, outcomes } = await told(place);
      const trial = await place.open({ storage: overlayStorage({ storage, at: { position: outcomes[2].position } }) });
      const again = await trial.execute(appointment, "a-1", retitling("Second"), { ...once, commandId: outcomes[1].commandId });
      same([again.duplicate, again.revision], [true, 2]);
      const later = await trial.execute(appointment, "a-1", retitling("Third"), { ...once, commandId: outcomes[3].commandId });
      same([later.duplicate, later.revision], [false, 3]);
    },
  },
  {
    name: "other rules can be tried on what has happened",
    async run(place) {
      const { storage, engine } = await told(place);
      const strict = aggregate("Appointment", {
        ...appointment.functions,
        decide: (state, command, context) =>
          command.type === "UpdateAppointment" ? refuse("no-changes") : appointment.functions.decide(state, command, context),
      });
      const trial = await place.open({ storage: overlayStorage({ storage }), aggregates: [strict] });
      const { refusal } = await trial.attempt(strict, "a-1", retitling("Fourth"), once);
      same(refusal.code, "no-changes");
      same((await engine.attempt(appointment, "a-1", retitling("Fourth"), once)).ok, true);
    },
  },
];
