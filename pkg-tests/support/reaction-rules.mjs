// What reactions do on every store. One list, run in Node and in pages: `open` of a place gives an engine
// on its store.

import { aggregate } from "annals";
import { overlayStorage } from "annals/overlay";
import { projection } from "annals/projections";
import { reaction } from "annals/reactions";
import { same, until } from "./expect.mjs";

export const visit = aggregate("Visit", {
  initial: () => ({ events: 0 }),
  decide: (_, command) => [command],
  evolve: (state) => ({ events: state.events + 1 }),
  events: { Booked: [], Noted: [] },
});

export const book = (engine, id, number = 0) => engine.execute(visit, id, { type: "Booked", data: { number } });

/** A reaction that notes what it is given, and fails as often as it is told. */
export function mailer({ name = "mailer", startAt = "beginning", handle = () => undefined, ...options } = {}) {
  const sent = [];
  const definition = reaction(name, {
    startAt,
    retries: { firstPause: 1, maxPause: 2, attempts: 3 },
    on: {
      async Booked(event, occasion) {
        await handle(event, occasion);
        sent.push(`${event.stream.id}/${event.revision}`);
      },
    },
    ...options,
  });
  return { definition, sent };
}

const open = (place, ...reactions) => place.open({ aggregates: [visit], reactions, limits: { lease: 60 } });

export const settled = (engine, { definition }) =>
  until(async () => {
    const { behind, parked } = await engine.reaction(definition).status();
    return behind === 0 && parked.every(({ retryAt }) => retryAt === null);
  }, "the reaction comes to the end of the log");

export const reactionRules = [
  {
    name: "each event is handled once, in the order of its stream, with what is known of it",
    async run(place) {
      const seen = [];
      const mail = mailer({ handle: (event, occasion) => void seen.push([event, occasion]) });
      const engine = await open(place, mail.definition);
      for (let number = 0; number < 12; number += 1) await book(engine, `v-${number % 3}`, number);
      await engine.execute(visit, "v-0", { type: "Noted", data: {} });
      await settled(engine, mail);
      for (const id of ["v-0", "v-1", "v-2"]) {
        const own = mail.sent.filter((text) => text.startsWith(id));
        same(own, [1, 2, 3, 4].map((revision) => `${id}/${revision}`));
      }
      const [event, { key, attempt, signal }] = seen[0];
      const [first] = (await engine.history(visit, event.stream.id)).events;
      same(event, first);
      same([key, attempt, signal.aborted], [`mailer/${event.eventId}`, 1, false]);
    },
  },
  {
    name: "a reaction begins where it says, and goes on where it was",
    async run(place) {
      const writer = await open(place);
      await book(writer, "v-1");
      const fromNow = mailer({ startAt: "now" });
      const first = await open(place, fromNow.definition);
      await until(async () => (await first.reaction(fromNow.definition).status()).runsHere, "it runs");
      await book(writer, "v-2");
      await settled(first, fromNow);
      same(fromNow.sent, ["v-2/1"]);
      await first.close();

      await book(writer, "v-3");
      const again = mailer({ startAt: "now" });
      const second = await open(place, again.definition);
      await settled(second, again);
      same(again.sent, ["v-3/1"], "what came while nobody ran it is not missed");
    },
  },
  {
    name: "what fails is tried again, its stream waits, and others go on",
    async run(place) {
      const attempts = [];
      const mail = mailer({
        handle({ stream, revision }, { attempt, key }) {
          attempts.push([`${stream.id}/${revision}`, attempt, key]);
          if (stream.id === "v-1" && revision === 1 && attempt < 3) throw new Error("no route");
        },
      });
      const engine = await open(place, mail.definition);
      await Promise.all(["v-1", "v-2", "v-1", "v-2"].map((id) => book(engine, id)));
      await until(() => mail.sent.length === 4, "all are sent");
      const own = attempts.filter(([what]) => what.startsWith("v-1"));
      same(own.map(([what, attempt]) => `${what} ${attempt}`), ["v-1/1 1", "v-1/1 2", "v-1/1 3", "v-1/2 1"]);
      same(new Set(own.slice(0, 3).map(([, , key]) => key)).size, 1);
      same(mail.sent.slice(0, 2), ["v-2/1", "v-2/2"]);
    },
  },
  {
    name: "after the last attempt it is parked, and may be tried again",
    async run(place) {
      let isBroken = true;
      const mail = mailer({
        handle({ stream }) {
          if (isBroken && stream.id === "v-1") throw new Error("no such address");
        },
      });
      const engine = await open(place, mail.definition);
      const { position } = await book(engine, "v-1");
      await book(engine, "v-1");
      await book(engine, "v-2");
      await settled(engine, mail);
      const { parked } = await engine.reaction(mail.definition).status();
      const stream = { type: "Visit", id: "v-1" };
      same(parked, [{ stream, position, attempts: 3, retryAt: null, error: "no such address" }]);
      same(mail.sent, ["v-2/1"]);
      await book(engine, "v-1");
      isBroken = false;
      await engine.reaction(mail.definition).retry(stream);
      await until(() => mail.sent.length === 4, "the stream catches up");
      same(mail.sent, ["v-2/1", "v-1/1", "v-1/2", "v-1/3"]);
      await until(async () => (await engine.reaction(mail.definition).status()).parked.length === 0, "nothing is parked");
    },
  },
  {
    name: "any number of reactions run for one event, and what one can't handle holds up no other",
    async run(place) {
      const broken = mailer({
        name: "hub",
        handle({ revision }) {
          if (revision === 1) throw new Error("no such hub");
        },
      });
      const [mail, late] = [mailer(), mailer({ name: "late", startAt: "now" })];
      const engine = await open(place, broken.definition, mail.definition, late.definition);
      await until(async () => (await engine.reaction(late.definition).status()).runsHere, "it runs");
      for (let number = 0; number < 3; number += 1) await book(engine, "v-1", number);
      for (const one of [broken, mail, late]) await settled(engine, one);
      const all = ["v-1/1", "v-1/2", "v-1/3"];
      same([broken.sent, mail.sent, late.sent], [[], all, all]);
      same((await engine.reaction(broken.definition).status()).parked.length, 1);
      same((await engine.reaction(mail.definition).status()).parked, []);
    },
  },
  {
    name: "nothing that is read, replayed or made anew runs a reaction again",
    async run(place) {
      const mail = mailer();
      const first = await open(place, mail.definition);
      for (let number = 0; number < 5; number += 1) await book(first, `v-${number % 2}`, number);
      await settled(first, mail);
      same(mail.sent.length, 5);
      await first.close();

      const again = mailer();
      const counts = (version) => projection("counts", { version, on: { Booked: (view, { stream }) => view.update(stream.id, (n = 0) => n + 1) } });
      for (const version of [1, 2]) {
        const own = counts(version);
        const options = { aggregates: [visit], projections: [own], reactions: [again.definition], limits: { lease: 60 } };
        const engine = await place.open(options);
        same((await engine.state(visit, "v-0")).revision, 3);
        const { events } = await engine.history(visit, "v-1", { at: { revision: 1 } });
        same(events.length, 1);
        const view = engine.view(own);
        same(await view.get("v-0", { latest: true }), 3);
        same(await view.get("v-0", { at: { position: events[0].position } }), 1);
        for await (const event of engine.events({ before: "now" })) same(event.type, "Booked");
        await settled(engine, again);
        await engine.close();
      }
      // What happens in a trial is the trial's own.
      const trial = await place.open({ storage: overlayStorage({ storage: place.storage() }), aggregates: [visit] });
      await book(trial, "v-0", 9);
      const last = await open(place, again.definition);
      await settled(last, again);
      same(again.sent, []);
    },
  },
  {
    name: "what is parked may be passed, also by an engine that does not run the reaction",
    async run(place) {
      const broken = ({ revision }) => {
        if (revision === 1) throw new Error("no such address");
      };
      const mail = mailer({ handle: broken });
      const engine = await open(place, mail.definition);
      await book(engine, "v-1");
      await book(engine, "v-1");
      await settled(engine, mail);
      const other = mailer();
      const idle = await open(place, other.definition);
      const control = idle.reaction(other.definition);
      same((await control.status()).parked.length, 1);
      const { runsHere, runs } = await control.drop({ type: "Visit", id: "v-1" });
      same([runsHere, runs], [false, true]);
      await until(() => mail.sent.length === 1, "the stream goes on behind it");
      same(mail.sent, ["v-1/2"]);
      await until(async () => (await control.status()).parked.length === 0, "nothing is parked");
      same(other.sent, []);
    },
  },
  {
    name: "one engine runs a reaction; another takes over at once when it is closed",
    async run(place) {
      const [one, two] = [mailer(), mailer()];
      const first = await open(place, one.definition);
      await book(first, "v-1");
      await settled(first, one);
      const second = await open(place, two.definition);
      await book(second, "v-2");
      await until(() => one.sent.length === 2, "the first runs it");
      same(two.sent, []);
      await first.close();
      await book(second, "v-3");
      await until(() => two.sent.length === 1, "the second runs it");
      same([one.sent, two.sent], [["v-1/1", "v-2/1"], ["v-3/1"]]);
    },
  },
  {
    name: "another takes over when the engine that runs it says nothing more",
    async run(place) {
      const [one, two] = [mailer(), mailer()];
      const first = await open(place, one.definition);
      await book(first, "v-1");
      await settled(first, one);
      first[Symbol.dispose]();
      const second = await open(place, two.definition);
      await book(second, "v-2");
      await until(() => two.sent.length === 1, "the second runs it");
      same(two.sent, ["v-2/1"]);
    },
  },
  {
    name: "paused, it begins with nothing; resumed, it goes on",
    async run(place) {
      const mail = mailer();
      const engine = await open(place, mail.definition);
      const control = engine.reaction(mail.definition);
      await control.pause();
      await until(async () => !(await control.status()).runsHere, "it is given back");
      await book(engine, "v-1");
      const { paused, behind } = await control.status();
      same([paused, behind, mail.sent], [true, 1, []]);
      await control.resume();
      await until(() => mail.sent.length === 1, "it goes on");
    },
  },
  {
    name: "never two of one stream at once, and no more than it says",
    async run(place) {
      const running = new Set();
      let most = 0;
      const mail = mailer({
        concurrency: 3,
        async handle({ stream }) {
          same(running.has(stream.id), false);
          running.add(stream.id);
          most = Math.max(most, running.size);
          await new Promise((resolve) => setTimeout(resolve, 1));
          running.delete(stream.id);
        },
      });
      const engine = await open(place, mail.definition);
      await Promise.all(Array.from({ length: 40 }, (_, number) => book(engine, `v-${number % 8}`)));
      await settled(engine, mail);
      same(mail.sent.length, 40);
      same(most, 3);
    },
  },
  {
    name: "a reaction may give commands",
    async run(place) {
      const given = [];
      const chain = {
        definition: reaction("chain", {
          startAt: "beginning",
          on: {
            async Booked(event, { key }) {
              const { commandId } = await engine.execute(visit, `note-${event.stream.id}`, { type: "Noted", data: { key } });
              given.push(commandId);
            },
          },
        }),
      };
      const engine = await open(place, chain.definition);
      await book(engine, "v-1");
      await settled(engine, chain);
      const { events } = await engine.history(visit, "note-v-1");
      same(events.map(({ commandId }) => commandId), given);
      same(given.length, 1);
    },
  },
];
