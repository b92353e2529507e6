// What process managers do on every store. One list, run in Node and in pages: `open` of a place gives an
// engine on its store, and `storage` another adapter of it.

import { aggregate, refuse } from "annals";
import { processManager } from "annals/reactions";
import { fails, same, until } from "./expect.mjs";

/** Notes whatever it is told, but for what is for nobody. */
export const desk = aggregate("Desk", {
  initial: () => ({ events: 0 }),
  decide: (_, command) => (command.data.patient === "nobody" ? refuse("nobody-there") : [command]),
  evolve: ({ events }) => ({ events: events + 1 }),
  events: Object.fromEntries(
    ["Waiting", "Cancelled", "Booked", "Noted", "Dated", "Reminded", "Renamed", "Swapped", "Viewed", "Counted", "Closed"].map((type) => [type, []]),
  ),
});

const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

/** Gives a slot that has become free to the first who waits for it. */
export function waitingList({ seen = [], tried = [], on, ...options } = {}) {
  return processManager("waiting-list", {
    startAt: "beginning",
    retries: { attempts: 2, firstPause: 1 },
    initial: () => ({ waiting: [] }),
    key: ({ data }) => (data.slot === 0 ? null : `slot ${data.slot}`),
    on: {
      Waiting({ waiting }, { data: { patient } }) {
        tried.push(patient);
        if (patient === "poison") throw new Error("that is poison");
        seen.push(patient);
        return { waiting: [...waiting, patient] };
      },
      Cancelled({ waiting: [patient, ...waiting] }, { data: { slot } }, commands) {
        if (patient === undefined) return undefined;
        commands.give(desk, `of ${patient}`, { type: "Booked", data: { patient, slot } });
        commands.give(desk, "notes", { type: "Noted", data: { text: `${patient} has ${slot}` } });
        if (waiting.length === 0) commands.end();
        return { waiting };
      },
      ...on,
    },
    ...options,
  });
}

/** Reminds patients the day before, and again an hour later those who are hard to reach. */
export function reminder({ early = [], timers, ...options } = {}) {
  return processManager("reminder", {
    startAt: "beginning",
    retries: { attempts: 2, firstPause: 1 },
    initial: () => ({ patient: "", times: 0 }),
    key: ({ stream }) => stream.id,
    on: {
      Dated(state, { data: { patient, start } }, commands) {
        commands.remindAt("day before", new Date(start - DAY));
        return { ...state, patient };
      },
      Renamed: (state, { data: { patient } }) => ({ ...state, patient }),
      Cancelled(_, event, commands) {
        commands.forget("day before");
      },
    },
    timers: {
      "day before"({ patient, times }, { key, due }, commands) {
        if (Date.now() < Date.parse(due)) early.push(key);
        if (patient === "poison") throw new Error(`${key} can't be reached`);
        commands.give(desk, "letters", { type: "Reminded", data: { patient, key } });
        if (patient === "often" && times < 2) commands.remindAt("day before", new Date(Date.parse(due) + 1));
        return { patient, times: times + 1 };
      },
      ...timers,
    },
    ...options,
  });
}

export const give = async (engine, id, type, data) => (await engine.execute(desk, id, { type, data })).events[0];

const open = (place, reactions, options) => place.open({ aggregates: [desk], reactions, limits: { lease: 60 }, ...options });

/** When all that is there has been handled, or parked. */
export const settled = (engine, manager) =>
  until(async () => {
    const { behind, parked, trouble } = await engine.reaction(manager).status();
    if (trouble !== null) throw new Error(trouble);
    return behind === 0 && parked.every(({ retryAt }) => retryAt === null);
  }, `${manager.name} comes to the end of the log`);

export async function events(engine, type) {
  const found = [];
  for await (const event of engine.events({ types: [type], follow: false })) found.push(event);
  return found;
}

const booked = async (engine) => (await events(engine, "Booked")).map(({ stream, data }) => [stream.id, data.slot]);
const reminded = async (engine) => (await events(engine, "Reminded")).map(({ data }) => data.patient);
const parkedOf = async (engine, manager) => (await engine.reaction(manager).status()).parked;
const past = () => Date.now();
const soon = () => Date.now() + DAY + 30;
const later = () => Date.now() + 2 * DAY;

/** The store as it is when it can no longer save what a process manager has come to. */
function withoutSaves(storage) {
  const broken = Object.create(storage);
  broken.subscribe = storage.subscribe && ((onAdvanced) => storage.subscribe(onAdvanced));
  broken.isBroken = false;
  broken.saveDocuments = (request) => {
    const ofManager = request.documents.some(({ collection }) => collection.startsWith("managers/"));
    return broken.isBroken && ofManager ? new Promise(() => undefined) : storage.saveDocuments(request);
  };
  for (const name of ["open", "append", "load", "readLog", "readDocuments", "close"]) {
    broken[name] = (...args) => storage[name](...args);
  }
  return broken;
}

export const managerRules = [
  {
    name: "a slot that becomes free goes to the first who waits for it, and the log says why",
    async run(place) {
      const manager = waitingList();
      const engine = await open(place, [manager]);
      for (const [id, patient, slot] of [["a", "Ann", 7], ["b", "Ben", 7], ["a", "Cy", 8], ["c", "No", 0]]) {
        await give(engine, id, "Waiting", { patient, slot });
      }
      const freed = await give(engine, "d", "Cancelled", { slot: 7 });
      await settled(engine, manager);
      same(await booked(engine), [["of Ann", 7]]);
      const [event] = await events(engine, "Booked");
      same([event.actor, event.causationId, event.correlationId], ["waiting-list", freed.eventId, freed.correlationId]);
      for (const slot of [7, 7, 9]) await give(engine, "d", "Cancelled", { slot });
      await settled(engine, manager);
      same(await booked(engine), [["of Ann", 7], ["of Ben", 7]]);
      same((await events(engine, "Noted")).map(({ data }) => data.text), ["Ann has 7", "Ben has 7"]);
    },
  },
  {
    name: "a reminder is sent the day before and not earlier, and none for what is cancelled",
    async run(place) {
      const early = [];
      const manager = reminder({ early });
      const engine = await open(place, [manager]);
      await give(engine, "a", "Dated", { patient: "Ann", start: soon() });
      await give(engine, "b", "Dated", { patient: "Ben", start: later() });
      // Long enough for the cancellation to come first, however slow the store is.
      const start = Date.now() + DAY + 1_500;
      await give(engine, "c", "Dated", { patient: "Cy", start });
      await give(engine, "c", "Cancelled", {});
      await give(engine, "d", "Dated", { patient: "Dan", start: past() });
      await until(async () => (await reminded(engine)).length === 2, "two are reminded");
      same((await reminded(engine)).sort(), ["Ann", "Dan"]);
      // After Cy's time.
      await give(engine, "b", "Dated", { patient: "Ben", start: start + 1 });
      await until(async () => (await reminded(engine)).length === 3, "a timer is moved");
      same((await reminded(engine))[2], "Ben");
      same(early, []);
    },
  },
  {
    name: "a timer may set itself again, and knows what has happened meanwhile",
    async run(place) {
      const manager = reminder();
      const engine = await open(place, [manager]);
      await give(engine, "a", "Dated", { patient: "often", start: past() });
      await until(async () => (await reminded(engine)).length === 3, "it has come three times");
      await give(engine, "b", "Dated", { patient: "Ben", start: past() + DAY + 1_000 });
      await give(engine, "b", "Renamed", { patient: "Bea" });
      await until(async () => (await reminded(engine)).length === 4, "it has come once more");
      same(await reminded(engine), ["often", "often", "often", "Bea"]);
    },
  },
  {
    name: "a crash between commands and save repeats nothing, and the state is that of one event",
    async run(place) {
      const [manager, again] = [waitingList(), waitingList()];
      const storage = withoutSaves(place.storage());
      const first = await open(place, [manager], { storage });
      await give(first, "a", "Waiting", { patient: "Ann", slot: 7 });
      await give(first, "b", "Waiting", { patient: "Ben", slot: 7 });
      await settled(first, manager);
      storage.isBroken = true;
      await give(first, "d", "Cancelled", { slot: 7 });
      await until(async () => (await booked(first)).length === 1, "the command is given");
      first[Symbol.dispose]();
      const second = await open(place, [again]);
      await settled(second, again);
      same(await booked(second), [["of Ann", 7]]);
      await give(second, "d", "Cancelled", { slot: 7 });
      await settled(second, again);
      same(await booked(second), [["of Ann", 7], ["of Ben", 7]]);
    },
  },
  {
    name: "what an attempt before a crash has given stands, also if the next would give something else",
    async run(place) {
      const naming = (text) => ({ Cancelled: (state, event, commands) => void commands.give(desk, "notes", { type: "Noted", data: { text } }) });
      const [manager, again] = [waitingList({ on: naming("one") }), waitingList({ on: naming("another") })];
      const storage = withoutSaves(place.storage());
      const first = await open(place, [manager], { storage });
      storage.isBroken = true;
      await give(first, "d", "Cancelled", { slot: 7 });
      await until(async () => (await events(first, "Noted")).length === 1, "the command is given");
      first[Symbol.dispose]();
      const second = await open(place, [again]);
      await settled(second, again);
      same((await events(second, "Noted")).map(({ data }) => data.text), ["one"]);
      same(await parkedOf(second, again), []);
    },
  },
  {
    name: "one engine runs it; another takes over with its states and timers",
    async run(place) {
      const [one, two] = [[], []];
      const managers = (seen) => [waitingList({ seen }), reminder()];
      const [first, second] = [managers(one), managers(two)];
      const engine = await open(place, first);
      await give(engine, "a", "Waiting", { patient: "Ann", slot: 7 });
      await give(engine, "t", "Dated", { patient: "Tim", start: Date.now() + DAY + 150 });
      for (const manager of first) await settled(engine, manager);
      const other = await open(place, second);
      await give(other, "b", "Waiting", { patient: "Ben", slot: 7 });
      await settled(engine, first[0]);
      await engine.close();
      await give(other, "d", "Cancelled", { slot: 7 });
      await settled(other, second[0]);
      same(await booked(other), [["of Ann", 7]]);
      same([one, two], [["Ann", "Ben"], []]);
      await until(async () => (await reminded(other)).length === 1, "the timer is handled by the other");
    },
  },
  {
    name: "timers are handled that came due while no engine was open",
    async run(place) {
      const [manager, again] = [reminder(), reminder()];
      const first = await open(place, [manager]);
      for (let number = 0; number < 10; number += 1) {
        await give(first, `a-${number}`, "Dated", { patient: `p-${number}`, start: Date.now() + DAY + 400 });
      }
      await settled(first, manager);
      await first.close();
      await new Promise((resolve) => setTimeout(resolve, 450));
      const second = await open(place, [again], { limits: { lease: 60, pageLimit: 3 } });
      await until(async () => (await reminded(second)).length === 10, "all are handled");
    },
  },
  {
    name: "what fails is parked with its key, over all streams, and others go on; it is retried or dropped",
    async run(place) {
      const tried = [];
      const poisoned = () => tried.filter((patient) => patient === "poison").length;
      const manager = waitingList({ tried });
      const engine = await open(place, [manager]);
      const control = engine.reaction(manager);
      const { position } = await give(engine, "a", "Waiting", { patient: "poison", slot: 7 });
      await give(engine, "a", "Waiting", { patient: "Ann", slot: 8 });
      await give(engine, "b", "Waiting", { patient: "Ben", slot: 7 });
      for (const slot of [7, 8]) await give(engine, "c", "Cancelled", { slot });
      await settled(engine, manager);
      same(await booked(engine), [["of Ann", 8]]);
      const parked = { key: "slot 7", timer: null, position, attempts: 2, retryAt: null, error: "that is poison" };
      same(await parkedOf(engine, manager), [parked]);
      same(poisoned(), 2);
      await control.retry(parked);
      await until(() => poisoned() === 4, "it is tried twice more");
      await settled(engine, manager);
      same(await parkedOf(engine, manager), [parked]);
      await control.drop({ key: "slot 7" });
      await until(async () => (await parkedOf(engine, manager)).length === 0, "nothing is parked");
      same(await booked(engine), [["of Ann", 8], ["of Ben", 7]]);
    },
  },
  {
    name: "a timer that fails is parked by itself, and its key goes on",
    async run(place) {
      const manager = reminder();
      const engine = await open(place, [manager]);
      const control = engine.reaction(manager);
      for (const id of ["a", "b"]) await give(engine, id, "Dated", { patient: "poison", start: past() });
      const parked = () => until(async () => (await parkedOf(engine, manager)).filter(({ retryAt }) => retryAt === null).length === 2, "both are parked");
      await parked();
      const [first, second] = (await parkedOf(engine, manager)).sort((one, other) => (one.key < other.key ? -1 : 1));
      same(first, { key: "a", timer: "day before", position: null, attempts: 2, retryAt: null, error: "a can't be reached" });
      await give(engine, "a", "Renamed", { patient: "Ann" });
      await settled(engine, manager);
      await control.retry(first);
      await control.drop({ key: "b", timer: second.timer });
      await until(async () => (await parkedOf(engine, manager)).length === 0, "nothing is parked");
      same(await reminded(engine), ["Ann"]);
    },
  },
  {
    name: "a refusal is an answer",
    async run(place) {
      const manager = reminder();
      const engine = await open(place, [manager]);
      await give(engine, "a", "Dated", { patient: "", start: past() });
      await engine.execute(desk, "b", { type: "Dated", data: { patient: "Ben", start: past() } });
      const refused = waitingList({
        on: { Dated: (state, event, commands) => void commands.give(desk, "x", { type: "Noted", data: { patient: "nobody" } }) },
        key: ({ stream }) => stream.id,
      });
      const other = await open(place, [refused]);
      await settled(other, refused);
      same(await parkedOf(other, refused), []);
      same(await events(other, "Noted"), []);
    },
  },
  {
    name: "an event is read as it is today; one that has become two for two keys is handled for each",
    async run(place) {
      const writer = await place.open({ aggregates: [desk] });
      await writer.execute(desk, "a", { type: "Waiting", data: { name: "Ann", slot: 7 } });
      await writer.execute(desk, "a", { type: "Swapped", data: { one: 7, other: 8 } });
      await writer.execute(desk, "a", { type: "Viewed", data: {} });
      const today = aggregate("Desk", {
        ...desk.functions,
        events: { Waiting: [({ name, slot }) => ({ patient: name, slot })], Cancelled: [], Booked: [], Noted: [] },
        retired: {
          Swapped: [{ becomes: ({ one, other }) => [one, other, other].map((slot) => ({ type: "Cancelled", data: { slot } })) }],
          Viewed: [{ becomes: () => [] }],
        },
      });
      const seen = [];
      const manager = waitingList({
        on: {
          Cancelled({ waiting }, { data: { slot } }, commands) {
            seen.push(slot);
            commands.give(today, "notes", { type: "Noted", data: { text: `${waiting[0] ?? "nobody"} has ${slot}` } });
          },
        },
      });
      const engine = await place.open({ aggregates: [today], reactions: [manager], limits: { lease: 60 } });
      await settled(engine, manager);
      same(seen.sort(), [7, 8, 8]);
      const notes = (await events(engine, "Noted")).map(({ data }) => data.text);
      same(notes.sort(), ["Ann has 7", "nobody has 8", "nobody has 8"]);
    },
  },
  {
    name: "an event whose key can't be told stops it there, until a release that knows it runs it",
    async run(place) {
      const key = ({ data: { slot } }) => {
        if (slot === 13) throw new Error("bad luck");
        return `slot ${slot}`;
      };
      const manager = waitingList({ key });
      const engine = await open(place, [manager], { limits: { lease: 60, pageLimit: 2 } });
      const control = engine.reaction(manager);
      for (const [patient, slot] of [["Ann", 7], ["Ben", 13], ["Cy", 7]]) await give(engine, "a", "Waiting", { patient, slot });
      const hasStopped = ({ runs, trouble }) => !runs && trouble !== null;
      await until(async () => hasStopped(await control.status()), "it stops, and the store knows");
      const { behind, runs, parked, trouble } = await control.status();
      same([behind, runs, parked, trouble], [2, false, [], "the event at 2 has no key: bad luck"]);
      const seen = [];
      const again = waitingList({ seen });
      const other = await open(place, [again]);
      await settled(other, again);
      same(seen, ["Ben", "Cy"]);
      await control.resume();
      same((await control.status()).trouble, null);
    },
  },
  {
    name: "when a process is over its key begins anew",
    async run(place) {
      const states = [];
      const manager = processManager("visits", {
        startAt: "beginning",
        initial: () => ({ count: 0 }),
        key: ({ stream }) => stream.id,
        on: {
          Counted({ count }) {
            states.push(count);
            return { count: count + 1 };
          },
          Closed: (state, event, commands) => commands.end(),
        },
      });
      const engine = await open(place, [manager]);
      for (const type of ["Counted", "Counted", "Closed", "Counted"]) await give(engine, "a", type, {});
      await settled(engine, manager);
      same(states, [0, 1, 0]);
      const { documents } = await place.storage().readDocuments({
        epoch: (await place.storage().open()).epoch,
        names: [{ collection: "managers/visits", key: "a" }],
        scans: [],
      });
      same(JSON.parse(documents[0].value), { count: 1 });
    },
  },
];

export { fails };
