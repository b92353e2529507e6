// What views do on every store. One list, run in Node and in pages: `open` of a place gives an engine
// on its store.

import { aggregate } from "annals";
import { fold, projection } from "annals/projections";
import { fails, frozen, same } from "./expect.mjs";
import { randomNumbers } from "./random.mjs";

export const visit = aggregate("Visit", {
  initial: () => ({ events: 0 }),
  decide: (_, command) => [command],
  evolve: (state) => ({ events: state.events + 1 }),
  events: { Booked: [], Moved: [], Noted: [] },
});

/** Minutes and visits by doctor, and by visit who has it. */
export function agenda({ name = "agenda", version = 1, kind, times = 1, on = {}, indexes } = {}) {
  const take = (view, doctor, minutes, id) =>
    view.update(doctor, (day = { minutes: 0, visits: [] }) => ({
      minutes: day.minutes + minutes,
      visits: minutes > 0 ? [...day.visits, id] : day.visits.filter((other) => other !== id),
    }));
  return projection(name, {
    version,
    ...(kind && { kind }),
    indexes: indexes ?? { minutes: ({ minutes }) => minutes },
    on: {
      Booked(view, { data, stream }) {
        if (data.minutes === 13) throw new Error("bad luck");
        take(view, data.doctor, data.minutes * times, stream.id);
        view.set(`visit/${stream.id}`, { doctor: data.doctor, minutes: data.minutes * times });
      },
      Moved(view, { data, stream }) {
        const key = `visit/${stream.id}`;
        const { doctor, minutes } = view.get(key);
        take(view, doctor, -minutes, stream.id);
        if (view.get(doctor).visits.length === 0) view.delete(doctor);
        take(view, data.doctor, minutes, stream.id);
        view.set(key, { doctor: data.doctor, minutes });
      },
      ...on,
    },
  });
}

export const book = (engine, id, doctor, minutes) => engine.execute(visit, id, { type: "Booked", data: { doctor, minutes } });
const move = (engine, id, doctor) => engine.execute(visit, id, { type: "Moved", data: { doctor } });
const note = (engine, id) => engine.execute(visit, id, { type: "Noted", data: {} });

/** The domain of a release that knows these types, and its view of it. */
function release({ knows, version = 1, kind, unknownEvents, on = {} }) {
  const clinic = aggregate("Clinic", {
    initial: () => null,
    decide: (_, command) => [command],
    evolve: () => null,
    events: Object.fromEntries(knows.map((type) => [type, []])),
    retired: { Renamed: [{ becomes: (data) => [{ type: "Opened", data }] }] },
    unknownEvents: "skip",
  });
  const rooms = projection("rooms", {
    version,
    ...(kind && { kind }),
    aggregates: [clinic],
    ...(unknownEvents && { unknownEvents }),
    on: { Opened: (view, { data, revision }) => view.set(data.room, { revision }), ...on },
  });
  return { clinic, rooms };
}

const older = ["Opened", "Painted"];
const newer = { knows: [...older, "Closed", "Sold"], on: { Closed: (view, { data }) => view.delete(data.room) } };

/** Gives a room's events, and tells where they are. */
async function runs(writer, clinic, ...events) {
  const positions = [];
  for (const [id, type, room] of events) {
    positions.push((await writer.execute(clinic, id, { type, data: { room } })).position);
  }
  return positions;
}

const open = (place, ...projections) => place.open({ aggregates: [visit], projections });

export async function all(view, options) {
  const documents = [];
  for (let cursor = null; ; ) {
    const page = await view.list({ ...options, cursor, limit: 2 });
    documents.push(...page.documents);
    if (page.cursor === null) return documents;
    cursor = page.cursor;
  }
}

const keys = async (view, options) => (await all(view, options)).map(({ key }) => key);

export const projectionRules = [
  {
    name: "all kinds give the same documents",
    async run(place) {
      const writer = await open(place);
      for (let number = 0; number < 30; number += 1) {
        const id = `v-${number % 7}`;
        if (number < 7) await book(writer, id, `d-${number % 3}`, 20 + number);
        else await (number % 5 === 0 ? note(writer, id) : move(writer, id, `d-${number % 4}`));
      }
      const found = {};
      for (const kind of ["live", "inline", "async"]) {
        const own = agenda({ kind, version: { live: 1, inline: 1, async: 2 }[kind] });
        const engine = await place.open({ aggregates: [visit], projections: [own], limits: { pageLimit: 4 } });
        found[kind] = await all(engine.view(own), { latest: true });
        await engine.close();
      }
      same(found.live.length > 8, true);
      same(found.inline, found.live);
      same(found.async, found.live);
    },
  },
  {
    name: "all kinds are the fold of the log, whatever is done, at once and by an older release",
    async run(place) {
      const random = randomNumbers(11);
      const views = ["live", "inline", "async"].map((kind) => agenda({ name: `by ${kind}`, kind, version: 2 }));
      const older = agenda({ name: "by inline", kind: "inline" });
      const engines = [[...views], [older]].map((projections) => {
        return place.open({ aggregates: [visit], projections, limits: { pageLimit: 1 + random(6) } });
      });
      const [engine, other] = await Promise.all(engines);
      const booked = new Set();
      for (let round = 0; round < 15; round += 1) {
        const ids = new Set(Array.from({ length: 1 + random(6) }, () => `v-${random(12)}`));
        const giving = [...ids].map((id) => {
          const by = random(3) === 0 ? other : engine;
          const doctor = `d-${random(4)}`;
          if (!booked.has(id)) return book(by, id, doctor, 20 + random(20));
          return random(4) === 0 ? note(by, id) : move(by, id, doctor);
        });
        await Promise.all(giving);
        for (const id of ids) booked.add(id);
        const events = [];
        for await (const event of engine.events({ follow: false })) events.push(event);
        const expected = await all(fold(views[0], events));
        same(expected.length > 0, true);
        for (const view of views) same(await all(engine.view(view), { latest: true }), expected, `${view.name} in round ${round}`);
        same(await all(other.view(older), { latest: true }), expected, `the older release's in round ${round}`);
      }
    },
  },
  {
    name: "an inline view has taken a command in when its outcome comes",
    async run(place) {
      const own = agenda({ kind: "inline" });
      const engine = await open(place, own);
      for (let number = 1; number <= 5; number += 1) {
        const { behind } = await book(engine, `v-${number}`, "d-1", 10);
        same(behind, []);
        same((await engine.view(own).get("d-1")).minutes, 10 * number);
      }
      const many = Array.from({ length: 64 }, (_, number) => book(engine, `m-${number}`, "d-2", 1));
      await Promise.all(many);
      same((await engine.view(own).get("d-2")).minutes, 64);
    },
  },
  {
    name: "one reads one's own writes by their position",
    async run(place) {
      const own = agenda();
      const engine = await open(place, own);
      const other = await open(place);
      const view = engine.view(own);
      same(await view.get("d-1"), undefined);
      const { position } = await book(other, "v-1", "d-1", 10);
      await view.waitFor(position);
      same(await view.get("d-1"), { minutes: 10, visits: ["v-1"] });
      await view.waitFor(null);
      const next = await book(engine, "v-2", "d-1", 5);
      same((await view.get("d-1", { after: next.position })).minutes, 15);
      same(Object.isFrozen((await view.get("d-1")).visits), true);
    },
  },
  {
    name: "documents are listed by key, prefix and index, both ways, and counted",
    async run(place) {
      const own = agenda({ kind: "inline" });
      const engine = await open(place, own);
      for (const [id, minutes] of [["a", 20], ["b", 5], ["c", 100], ["d", 20]]) await book(engine, id, "d-1", minutes);
      const view = engine.view(own);
      same(await keys(view, { prefix: "visit/" }), ["visit/a", "visit/b", "visit/c", "visit/d"]);
      same(await keys(view, { from: "visit/b", to: "visit/d" }), ["visit/b", "visit/c"]);
      same(await keys(view, { index: "minutes" }), ["visit/b", "visit/a", "visit/d", "visit/c", "d-1"]);
      same(await keys(view, { index: "minutes", descending: true }), ["d-1", "visit/c", "visit/d", "visit/a", "visit/b"]);
      same(await keys(view, { index: "minutes", equals: 20 }), ["visit/a", "visit/d"]);
      same(await keys(view, { index: "minutes", from: 6, to: 145 }), ["visit/a", "visit/d", "visit/c"]);
      same(await view.count({ index: "minutes", equals: 20 }), 2);
      same(await view.count(), 5);
      await move(engine, "c", "d-2");
      same(await keys(view, { index: "minutes", from: 45 }), ["d-1", "d-2", "visit/c"]);
    },
  },
  {
    name: "values of an index are ordered as they are",
    async run(place) {
      const own = projection("values", {
        version: 1,
        kind: "inline",
        on: { Booked: (view, { data, stream }) => view.set(stream.id, data.doctor) },
        indexes: { value: (value) => value },
      });
      const engine = await open(place, own);
      const sorted = [false, true, -1e300, -2, -1.5, 0, 1e-300, 1, 2, 10, 1e300, "", "10", "2", "a", "é", "\uffff", "😀"];
      const shuffled = sorted.map((_, index) => sorted[(index * 7) % sorted.length]);
      for (const value of shuffled) await book(engine, `v-${JSON.stringify(value)}`, value, 1);
      const found = await all(engine.view(own), { index: "value" });
      same(found.map(({ document }) => document), sorted);
      same((await all(engine.view(own), { index: "value", prefix: "1" })).map(({ document }) => document), ["10"]);
    },
  },
  {
    name: "a document may be found under several values, or none, and under each once",
    async run(place) {
      const indexes = { visit: ({ visits }) => visits && [...visits, ...visits] };
      const own = agenda({ kind: "inline", indexes });
      const engine = await open(place, own);
      await book(engine, "v-1", "d-1", 10);
      await book(engine, "v-2", "d-1", 10);
      const view = engine.view(own);
      same(await keys(view, { index: "visit" }), ["d-1", "d-1"]);
      same(await keys(view, { index: "visit", equals: "v-2" }), ["d-1"]);
    },
  },
  {
    name: "an event that can't be taken in stops the view before it, and says so",
    async run(place) {
      const own = agenda({ kind: "inline" });
      const engine = await open(place, own);
      await book(engine, "v-1", "d-1", 10);
      const bad = await book(engine, "v-2", "d-1", 13);
      same(bad.behind, [{ projection: "agenda", reason: "Booked: bad luck" }]);
      await book(engine, "v-3", "d-1", 10);
      const view = engine.view(own);
      same((await view.get("d-1")).minutes, 10);
      const { stopped } = await view.status();
      same(stopped, { position: bad.position, reason: "Booked: bad luck" });
      const error = await fails(() => view.waitFor(bad.position), { code: "projection-stopped" });
      same(error.details, { projection: "agenda", reason: "Booked: bad luck", position: bad.position });
      await engine.close();

      // The rest goes on when the release is repaired.
      const repaired = agenda({ kind: "inline", on: { Booked: (view, { data }) => view.update(data.doctor, (day) => ({ ...day, minutes: day.minutes + 1 })) } });
      const again = await open(place, repaired);
      same((await again.view(repaired).get("d-1", { latest: true })).minutes, 12);
    },
  },
  {
    name: "a document that can't be kept stops the view before the event that has written it",
    async run(place) {
      const own = agenda({ indexes: { odd: ({ minutes }) => (minutes > 20 ? {} : undefined) } });
      const writer = await open(place);
      const outcomes = [];
      for (const minutes of [10, 20, 30]) outcomes.push(await book(writer, `v-${minutes}`, `d-${minutes}`, minutes));
      const engine = await open(place, own);
      await fails(() => engine.view(own).get("d-10", { latest: true }), { code: "projection-stopped" });
      const { stopped } = await engine.view(own).status();
      same(stopped.position, outcomes[2].position);
      same(/^document \S*30: index odd/.test(stopped.reason), true, stopped.reason);
    },
  },
  {
    name: "what a function must not do stops the view",
    async run(place) {
      const failing = [
        [async () => undefined, /found a promise/],
        [(view) => view.set("d-1", { at: new Date(0) }), /document d-1/],
        [(view) => view.set("d-1", undefined), /found undefined/],
        [(view) => view.set(7, {}), /expected a string of whole characters as key/],
        [(view) => view.update("visit/v-1", (document) => Object.assign(document, { minutes: 0 })), frozen.set],
        [(view, { data }) => view.set("d-2", Object.assign(data, { minutes: 0 })), frozen.added],
      [(view, { data }) => view.set("d-2", { minutes: data.minutes, odd: true }), /index odd/, { odd: ({ odd }) => (odd ? {} : undefined) }],
      ];
      for (const [index, [handler, reason, indexes]] of failing.entries()) {
        const own = agenda({ version: index + 1, on: { Moved: handler }, indexes });
        const engine = await open(place, own);
        if (index === 0) {
          await book(engine, "v-1", "d-1", 10);
          await move(engine, "v-1", "d-2");
        }
        const error = await fails(() => engine.view(own).get("d-1", { latest: true }), { code: "projection-stopped" });
        same(reason.test(error.message), true, error.message);
        await engine.close();
      }
    },
  },
  {
    name: "a new version is built beside the old one, which is shown until then",
    async run(place) {
      const old = agenda();
      const first = await open(place, old);
      for (let number = 0; number < 10; number += 1) await book(first, `v-${number}`, "d-1", 10);
      same((await first.view(old).get("d-1", { latest: true })).minutes, 100);

      const next = agenda({ version: 2, times: 2 });
      const second = await place.open({ aggregates: [visit], projections: [next], limits: { pageLimit: 1 } });
      const view = second.view(next);
      view.pause();
      const { version, building, paused, progress } = await view.status();
      same([version, building, paused, progress < 1], [1, true, true, true]);
      same((await view.get("d-1")).minutes, 100);
      view.resume();
      same((await view.get("d-1", { latest: true })).minutes, 200);
      const built = await view.status();
      same([built.version, built.building, built.progress], [2, false, 1]);

      await book(first, "v-10", "d-1", 10);
      same((await first.view(old).get("d-1", { latest: true })).minutes, 110);
    },
  },
  {
    name: "a view that is being built is given up for all engines, until one is told to go on",
    async run(place) {
      const old = agenda();
      const first = await open(place, old);
      for (let number = 0; number < 10; number += 1) await book(first, `v-${number}`, "d-1", 10);
      await first.view(old).get("d-1", { latest: true });

      const next = agenda({ version: 2, times: 2 });
      const openNext = () => place.open({ aggregates: [visit], projections: [next], limits: { pageLimit: 1, pollInterval: 20 } });
      const second = await openNext();
      const view = second.view(next);
      view.pause();
      const cancelled = await view.cancel();
      same([cancelled.version, cancelled.building, cancelled.stopped?.reason], [1, true, "its building was cancelled"]);
      same((await view.get("d-1")).minutes, 100);
      await fails(() => view.get("d-1", { latest: true }), { code: "projection-stopped" });

      const third = await openNext();
      same((await third.view(next).status()).stopped?.reason, "its building was cancelled");
      third.view(next).resume();
      same((await third.view(next).get("d-1", { latest: true })).minutes, 200);
      // The other finds that it is built again; it was paused, too.
      for await (const { stopped } of view.watch((view) => view.status())) if (stopped === null) break;
      view.resume();
      for await (const { version } of view.watch((view) => view.status())) if (version === 2) break;
      same((await view.cancel()).version, 2);
      same((await third.view(next).get("d-1", { latest: true })).minutes, 200);
    },
  },
  {
    name: "two engines keep one view, and take each event in once",
    async run(place) {
      const own = agenda({ kind: "inline" });
      const engines = [await open(place, own), await open(place, own), await open(place, own)];
      await Promise.all(
        Array.from({ length: 60 }, (_, number) => book(engines[number % 3], `v-${number}`, `d-${number % 2}`, 1)),
      );
      for (const engine of engines) {
        const view = engine.view(own);
        const days = [await view.get("d-0", { latest: true }), await view.get("d-1", { latest: true })];
        same(days.map(({ minutes, visits }) => [minutes, new Set(visits).size]), [[30, 30], [30, 30]]);
      }
    },
  },
  {
    name: "views are shown as they were at a position or a time",
    async run(place) {
      for (const kind of ["live", "async"]) {
        const own = agenda({ kind });
        const engine = await open(place, own);
        const id = (number) => `${kind}-${number}`;
        const outcomes = [];
        for (let number = 0; number < 5; number += 1) outcomes.push(await book(engine, id(number), kind, 10));
        const view = engine.view(own);
        for (const [index, { position }] of outcomes.entries()) {
          same((await view.get(kind, { at: { position } })).minutes, 10 * (index + 1));
        }
        const [{ recordedAt }] = outcomes[0].events;
        const before = new Date(Date.parse(recordedAt) - 1);
        same(await view.get(kind, { at: { time: before } }), undefined);
        same((await view.get(kind, { at: { time: "2100-01-01" } })).minutes, 50);
        const [epoch, number] = outcomes[4].position.split(":");
        const later = `${epoch}:${Number(number) + 1}`;
        await fails(() => view.get(kind, { at: { position: later } }), { code: "no-such-position" });
        same(await view.count({ prefix: kind, at: { position: outcomes[2].position } }), 1);
        await engine.close();
      }
    },
  },
  {
    name: "a view stops at an event of a type that its aggregate does not list, if it is to fail, until a release knows it",
    async run(place) {
      const next = release({ ...newer, version: 9, unknownEvents: "fail" });
      const writer = await place.open({ aggregates: [next.clinic] });
      const [, , third, , fifth] = await runs(writer, next.clinic,
        ["c-1", "Opened", "1"], ["c-1", "Painted", "1"], ["c-2", "Opened", "2"], ["c-1", "Closed", "1"], ["c-2", "Opened", "3"]);
      for (const [index, kind] of ["live", "inline", "async"].entries()) {
        const { clinic, rooms } = release({ knows: older, kind, version: index + 1, unknownEvents: "fail" });
        const engine = await place.open({ aggregates: [clinic], projections: [rooms], limits: { pageLimit: 2 } });
        const view = engine.view(rooms);
        const details = { projection: "rooms", position: `${fifth.split(":")[0]}:4` };
        const reason = /Closed.*event 3 of Clinic\/c-1 can't be read: Closed: unknown type/;
        for (const options of [{ latest: true }, { at: { position: fifth } }]) {
          const error = await fails(() => view.get("1", options), { code: "projection-stopped" });
          same({ projection: error.details.projection, position: error.details.position }, details);
          same(reason.test(error.details.reason), true, error.details.reason);
        }
        same(await keys(view, { at: { position: third } }), ["1", "2"]);
        const { stopped, skipped } = await view.status();
        same([stopped.position, reason.test(stopped.reason), skipped], [details.position, true, 0]);
        view.resume();
        await fails(() => view.waitFor(fifth), { code: "projection-stopped" });
        const { behind } = await engine.execute(clinic, `d-${kind}`, { type: "Painted", data: {} });
        same(behind.map(({ projection }) => projection), kind === "inline" ? ["rooms"] : []);
        await engine.close();
      }
      const engine = await place.open({ aggregates: [next.clinic], projections: [next.rooms] });
      same(await keys(engine.view(next.rooms), { latest: true }), ["2", "3"]);
      same((await engine.view(next.rooms).status()).stopped, null);
    },
  },
  {
    name: "a view passes by events of types that its aggregate does not list, if it is to skip them, and says how many",
    async run(place) {
      const next = release({ ...newer, unknownEvents: "fail" });
      const other = aggregate("Elsewhere", {
        initial: () => null,
        decide: (_, command) => [command],
        evolve: { Closed: () => null, Opened: () => null },
      });
      const writer = await place.open({ aggregates: [next.clinic, other] });
      const [, third, , last] = await runs(writer, next.clinic,
        ["c-1", "Opened", "1"], ["c-1", "Closed", "1"], ["c-1", "Painted", "1"], ["c-2", "Sold", "2"]);
      await runs(writer, other, ["e-1", "Closed", "1"], ["e-1", "Opened", "9"]);
      for (const [index, kind] of ["live", "inline", "async"].entries()) {
        const { clinic, rooms } = release({ knows: older, kind, version: index + 1, unknownEvents: "skip" });
        const reports = [];
        const opening = () => place.open({
          aggregates: [clinic], projections: [rooms], limits: { pageLimit: 2 }, onReport: (report) => reports.push(report),
        });
        const told = [["c-1", 2, "Closed"], ["c-2", 1, "Sold"]].map(([id, revision, type]) => (
          { kind: "events-skipped", stream: { type: "Clinic", id }, revision, type, count: 1 }
        ));
        const engine = await opening();
        const view = engine.view(rooms);
        same(await all(view, { latest: true }), [{ key: "1", document: { revision: 1 } }]);
        same(reports, told);
        const { skipped, stopped } = await view.status();
        same([skipped, stopped], [2, null]);
        same((await view.status({ at: { position: third } })).skipped, 1);
        same(reports, [...told, told[0]]);
        same((await view.status({ at: { position: last } })).skipped, 2);
        await engine.close();
        // The number is kept with how far the view has come.
        const again = await opening();
        const { version, skipped: kept } = await again.view(rooms).status({ latest: true });
        same([version, kept], [index + 1, 2]);
        await again.close();
      }
    },
  },
  {
    name: "how many events were passed by is the same in each of several engines, whichever has met them",
    async run(place) {
      const next = release({ ...newer, unknownEvents: "fail" });
      const { clinic, rooms } = release({ knows: older, kind: "inline", unknownEvents: "skip" });
      const writer = await place.open({ aggregates: [next.clinic] });
      const opening = () => place.open({ aggregates: [clinic], projections: [rooms], limits: { pageLimit: 3 } });
      const engines = [await opening(), await opening(), await opening()];
      await Promise.all(Array.from({ length: 40 }, (_, number) => (
        runs(writer, next.clinic, [`c-${number}`, "Opened", String(number)], [`c-${number}`, "Sold", String(number)])
      )));
      for (const engine of engines) same((await engine.view(rooms).status({ latest: true })).skipped, 40);
    },
  },
  {
    name: "types that a view has no function for are no unknown ones, nor are those that are retired",
    async run(place) {
      const { clinic, rooms } = release({ knows: older, kind: "inline", unknownEvents: "fail" });
      const before = aggregate("Clinic", {
        initial: () => null,
        decide: (_, command) => [command],
        evolve: { Renamed: () => null, Painted: () => null },
      });
      const writer = await place.open({ aggregates: [before] });
      await runs(writer, before, ["c-1", "Renamed", "1"], ["c-1", "Painted", "1"]);
      const engine = await place.open({ aggregates: [clinic], projections: [rooms] });
      same(await all(engine.view(rooms), { latest: true }), [{ key: "1", document: { revision: 1 } }]);
      const { skipped, stopped } = await engine.view(rooms).status();
      same([skipped, stopped], [0, null]);
    },
  },
  {
    name: "a query is watched: what it gives now, and whenever it gives something else",
    async run(place) {
      for (const kind of ["live", "inline"]) {
        const own = agenda({ kind, version: kind === "live" ? 1 : 2 });
        const engine = await open(place, own);
        const shown = [];
        const watching = (async () => {
          for await (const day of engine.view(own).watch((view) => view.get(kind))) {
            shown.push(day?.minutes ?? null);
            if (shown.length === 4) return;
          }
        })();
        for (let number = 1; number < 4; number += 1) {
          while (shown.length < number) await new Promise((resolve) => setTimeout(resolve, 1));
          await book(engine, `${kind}-other-${number}`, "another", 1);
          await book(engine, `${kind}-${number}`, kind, 10);
        }
        await watching;
        same(shown, [null, 10, 20, 30]);
        await engine.close();
      }
    },
  },
];
