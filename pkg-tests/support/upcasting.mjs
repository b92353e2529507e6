// A domain whose events have had other forms, and stores that earlier releases have filled. For Node
// and for pages.

import { aggregate, refuse } from "annals";

const changes = {
  events: {
    Booked: [
      ({ doctor }) => ({ doctor, room: null }),
      ({ doctor, room }) => ({ doctor, room, minutes: 30 }),
    ],
    Confirmed: [],
    Rescheduled: [],
  },
  retired: {
    Moved: [
      ({ to }) => ({ to: to.length }),
      { becomes: ({ to }) => [{ type: "Rescheduled", data: { start: to } }] },
    ],
    TakenAndConfirmed: [
      { becomes: (data) => [{ type: "Booked", version: 1, data }, { type: "Confirmed", data: {} }] },
    ],
    Viewed: [{ becomes: () => [] }],
  },
};

/** The domain of today, with this much changed. Its state is what it was told. */
export function release(changed = {}) {
  return aggregate("Appointment", {
    initial: () => ({ told: [] }),
    decide: (_, { type, data }, { others }) => {
      if (others.length > 0) return refuse("taken", { others });
      return [type === "Book" ? { type: "Booked", data: { room: null, minutes: 15, ...data } } : { type: "Confirmed", data: {} }];
    },
    evolve: ({ told }, { type, data }) => ({ told: [...told, { type, data }] }),
    tags: ({ data }) => (data.doctor === undefined ? [] : [data.doctor]),
    ...changes,
    ...changed,
  });
}

/** The releases of the clinic: that of today, one that passes by what it does not know, and the first. */
export const today = release();
export const skipping = release({ unknownEvents: "skip" });
export const first = release({ events: { Booked: [], Confirmed: [], Rescheduled: [] }, retired: undefined });

/** Each form that an event has had, and what it is today. */
export const forms = [
  [["Booked", 1, '{"doctor":"7"}'], [["Booked", { doctor: "7", room: null, minutes: 30 }]]],
  [["Booked", 2, '{"doctor":"7","room":"3"}'], [["Booked", { doctor: "7", room: "3", minutes: 30 }]]],
  [["Booked", 3, '{"doctor":"7","room":null,\n "minutes":5}'], [["Booked", { doctor: "7", room: null, minutes: 5 }]]],
  [["Confirmed", 1, "{}"], [["Confirmed", {}]]],
  [["Rescheduled", 1, '{"start":9}'], [["Rescheduled", { start: 9 }]]],
  [["Moved", 1, '{"to":"four"}'], [["Rescheduled", { start: 4 }]]],
  [["Moved", 2, '{"to":12}'], [["Rescheduled", { start: 12 }]]],
  [
    ["TakenAndConfirmed", 1, '{"doctor":"8"}'],
    [["Booked", { doctor: "8", room: null, minutes: 30 }], ["Confirmed", {}]],
  ],
  [["Viewed", 1, '{"by":"x"}'], []],
].map(([[type, version, data], told]) => ({
  type,
  version,
  data,
  told: told.map(([type, data]) => ({ type, data })),
}));

export const toldOf = (events) => events.flatMap(({ told = [] }) => told);

/** The versions that types have today. */
export const versions = { Booked: 3, Confirmed: 1, Rescheduled: 1 };

let ids = 0;

/** Appends events to a stream in these forms, as the releases that knew them did. */
export async function fill(storage, id, events, { tags = [], commandId = uuid(), aggregateType = "Appointment" } = {}) {
  const { epoch } = await storage.open();
  const commit = {
    commandId,
    hash: "9ce0771f-3e8c-880a-a905-40d1a989dae7",
    aggregateType,
    aggregateId: id,
    issuedAt: "2026-01-01T08:00:00.000Z",
    correlationId: commandId,
    causationId: null,
    actor: null,
    extra: null,
    condition: null,
    events: events.map(({ type, version, data }) => ({ eventId: uuid(), type, schemaVersion: version, tags, data })),
  };
  const count = events.length;
  await storage.append({ epoch, commits: [commit] }, ({ head, lastRecordedAt, commits: [{ revision }] }) => [
    { kind: "committed", position: head + 1, revision: revision + count, count, recordedAt: lastRecordedAt + 1 },
  ]);
}

export const uuid = () => `00000000-0000-4000-8000-${String((ids += 1)).padStart(12, "0")}`;

/** Logs that differ in which forms follow each other. */
export function* logs(count) {
  for (let seed = 1; seed <= count; seed += 1) {
    let state = seed;
    const next = (bound) => (state = (state * 48_271) % 0x7fff_ffff) % bound;
    yield Array.from({ length: 1 + next(12) }, () => forms[next(forms.length)]);
  }
}
