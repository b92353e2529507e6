/** What the compiler says about reactions. */
import { type AnnalsError, type Engine, type Reaction, type RecordedEvent, Engine as Opened } from "annals";
import { memoryStorage } from "annals/memory";
import { type Occasion, type Parked, type ReactionControl, type ReactionStatus, reaction } from "annals/reactions";
import { type Event, type Same, appointment, check } from "./domain.js";

declare const engine: Engine;

export async function defining() {
  const mail = reaction<Event>("mail", {
    startAt: "now",
    aggregates: [appointment],
    on: {
      Booked(event, occasion) {
        check<Same<typeof event, RecordedEvent<Extract<Event, { type: "Booked" }>>>>();
        check<Same<typeof event.data.doctor, string>>();
        check<Same<typeof occasion, Occasion>>();
        check<Same<typeof occasion.signal, AbortSignal>>();
      },
      async Cancelled() {},
    },
    retries: { attempts: 3 },
  });
  check<Same<typeof mail, Reaction>>();
  await Opened.open({ storage: memoryStorage(), aggregates: [appointment], reactions: [mail], limits: { lease: 1_000 } });
  // @ts-expect-error where it begins must be said
  reaction<Event>("mail", { on: { Booked() {} } });
  // @ts-expect-error there is no such place to begin
  reaction<Event>("mail", { startAt: "yesterday", on: { Booked() {} } });
  // @ts-expect-error appointments have no event "Paid"
  reaction<Event>("mail", { startAt: "now", on: { Paid() {} } });
  // @ts-expect-error what it gives is for nobody
  reaction<Event>("mail", { startAt: "now", on: { Booked: () => 7 } });
  // @ts-expect-error there is no such policy
  reaction<Event>("mail", { startAt: "now", on: {}, retries: { forever: true } });
  // @ts-expect-error reactions are a list
  await Opened.open({ storage: memoryStorage(), aggregates: [], reactions: mail });

  const control = engine.reaction(mail);
  check<Same<typeof control, ReactionControl>>();
  const status = await control.status();
  check<Same<typeof status, ReactionStatus>>();
  check<Same<(typeof status.parked)[number], Parked>>();
  await control.retry(status.parked[0]!.stream);
  await control.drop({ type: "Appointment", id: "a-1" });
  // @ts-expect-error a stream has a type and an id
  await control.retry("a-1");
  // @ts-expect-error a reaction is not its name
  engine.reaction("mail");
}

export function failing(error: AnnalsError & { code: "unknown-reaction" }) {
  return error.details;
}
