/** What is read of the log. */
import type { StoredEvent, StreamLoad } from "../../../storage.js";
import { same } from "../expect.js";
import { queryMatches } from "../judge.js";
import type { Rule } from "../rule.js";
import { commit, event, pause, randomNumbers, someEvents, START, type Subject, wholeStream } from "../subject.js";
import type { LogStep, LogStory, StreamStep } from "../vector-types.js";
import { reads as stories } from "../vectors.js";
import { anyTag, condition, iso, messagesOf, positions, revisionsOf, snapshot, upTo } from "./words.js";

/** Writes a story's log, and asks what it asks. */
async function tell({ appends, snapshots = [], log, steps }: LogStory, subject: Subject): Promise<void> {
  const revisions = new Map<string, number>();
  const idOf = (command: number) => `command ${command}`;
  for (const { now, commits } of appends) {
    subject.now = now;
    const sent = commits.map(({ command, stream, cause, events }) => {
      const [aggregateType, aggregateId] = stream;
      const key = JSON.stringify(stream);
      const before = revisions.get(key) ?? 0;
      revisions.set(key, before + events.length);
      const commandId = idOf(command);
      const rest = { aggregateType, commandId, correlationId: cause ?? commandId };
      return commit(aggregateId, before, events.map(([type, tags]) => event(type, tags)), rest);
    });
    await subject.accept(...sent);
  }
  await subject.save(...snapshots.map((one) => snapshot(...one)));
  const all = await subject.log();
  const told = all.map(({ aggregateType, aggregateId, revision, recordedAt }) => [aggregateType, aggregateId, revision, recordedAt]);
  same(told, log.map(([aggregateType, aggregateId, revision, at]) => [aggregateType, aggregateId, revision, iso(at)]));
  const at = (places: readonly number[]) => places.map((position) => all[position - 1]!);
  for (const step of steps) await ask(step);

  async function ask(step: LogStep): Promise<void> {
    const what = JSON.stringify(step);
    if ("page" in step) {
      const { cause: correlationId = null, ...page } = step.page;
      same(await subject.log({ ...page, correlationId }), at(step.events), what);
    } else if ("query" in step) {
      const query = step.query.map(([types, tags]) => ({ types, tags }));
      same((await subject.load({ queries: [{ query, after: step.after }] })).queries[0], at(step.matches), what);
    } else if ("commands" in step) {
      const { commands, head } = await subject.load({ commands: step.commands.map(idOf) });
      const found = commands.map((first) => first && [first.position, first.revision, first.count, first.recordedAt]);
      same([found, head], [step.first, log.length], what);
    } else {
      await askStream(step, what);
    }
  }

  async function askStream({ stream, until = {}, events, revision, more, found = null, ...rest }: StreamStep, what: string) {
    const load = {
      ...wholeStream,
      after: rest.after ?? 0,
      limit: rest.limit ?? 1000,
      snapshot: rest.snapshot ?? null,
      untilRevision: until.revision ?? null,
      untilPosition: until.position ?? null,
      untilTime: until.time === undefined ? null : iso(until.time),
    };
    for (const whole of [true, false]) {
      const slice = await subject.slice(...stream, { ...load, whole });
      const kept = slice.snapshot && [slice.snapshot.revision, slice.snapshot.value];
      same([kept, slice.revision, slice.more], [found, revision, more], what);
      if (whole) same(slice.events, at(events), what);
      else same(messagesOf(slice.events), messagesOf(at(events)), what);
    }
  }
}

export const reads: readonly Rule[] = [
  ...stories.map((story) => ({
    name: `reads: ${story.name}`,
    run: (subject: Subject) => tell(story, subject),
  })),
  {
    name: "conditions, queries and filtered pages find what reading the whole log would",
    async run(subject, { capabilities, another }) {
      const random = randomNumbers(7);
      const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
      const some = (list: readonly string[], most: number) => [
        ...new Set(Array.from({ length: random(most + 1) }, () => pick(list))),
      ];
      const types = ["Booked", "Confirmed", "Cancelled", "Moved"];
      const tags = ["d:1", "d:2", "r:1", "r:2", "rare"];
      const aggregateTypes = ["Appointment", "Room", "Invoice"];
      const revisions = new Map<string, number>();
      const causes: string[] = [];
      for (let batch = 0; batch < 30; batch++) {
        const commits = Array.from({ length: 1 + random(5) }, () => {
          const [aggregateType, aggregateId] = [pick(aggregateTypes), `s-${random(6)}`];
          const revision = revisions.get(aggregateType + aggregateId) ?? 0;
          const events = Array.from({ length: 1 + random(3) }, () =>
            event(pick(types), some(random(9) === 0 ? tags : tags.slice(0, 4), 3), {
              schemaVersion: 1 + random(3),
            }),
          );
          revisions.set(aggregateType + aggregateId, revision + events.length);
          // Some are of the cause of another, which may have been another's too.
          const cause = random(3) === 0 && causes.length > 0 ? { correlationId: pick(causes) } : {};
          const one = commit(aggregateId, revision, events, { aggregateType, ...cause });
          causes.push(random(4) === 0 ? "request 7" : one.commandId);
          return one;
        });
        subject.now += random(3);
        await subject.accept(...commits);
      }
      const log = await subject.log();
      same(
        positions(log),
        log.map((_, index) => index + 1),
      );
      const tagsOf = ({ tags }: StoredEvent) => JSON.parse(tags) as string[];

      const queries = [
        { query: [], after: 0 },
        { query: [{ types: [], tags: [] }], after: 3 },
        ...Array.from({ length: 80 }, () => ({
          query: Array.from({ length: 1 + random(3) }, () => {
            const item = {
              types: some([...types, "Unknown"], 2),
              tags: some([...tags, "unknown"], 2),
            };
            return item.types.length + item.tags.length > 0
              ? item
              : { types: ["Booked"], tags: [] };
          }),
          after: random(log.length + 2),
        })),
      ];
      const loaded = await subject.load({ queries });
      const asking = queries.map(({ query, after }) =>
        commit("new", 0, [event()], condition(query, after)),
      );
      const facts = await subject.facts(...asking);
      if (capabilities.connections === true) {
        const other = await another();
        same(
          await other.facts(...asking),
          facts,
          "what an adapter knows that has appended nothing",
        );
      }
      for (const [index, { query, after }] of queries.entries()) {
        const expected = log.filter(
          (event) => event.position > after && queryMatches(query, event.type, tagsOf(event)),
        );
        const what = JSON.stringify(queries[index]);
        same(loaded.queries[index], expected, what);
        same(facts.commits[index]!.matched, expected[0]?.position ?? null, what);
      }

      for (let round = 0; round < 120; round++) {
        const filter = {
          types: some(types, 2),
          aggregateTypes: some(aggregateTypes, 2),
          tags: some(tags, 2),
          correlationId: random(2) === 0 ? null : pick([...causes, "nobody"]),
          after: random(4) === 0 ? random(log.length) : 0,
          limit: 1 + random(12),
        };
        const passes = (event: StoredEvent) =>
          (filter.types.length === 0 || filter.types.includes(event.type)) &&
          (filter.aggregateTypes.length === 0 ||
            filter.aggregateTypes.includes(event.aggregateType)) &&
          (filter.tags.length === 0 || tagsOf(event).some((tag) => filter.tags.includes(tag))) &&
          (filter.correlationId === null || event.correlationId === filter.correlationId);
        const after = log.filter(({ position }) => position > filter.after);
        same(await subject.log(filter), after.filter(passes), JSON.stringify(filter));
        const back = { ...filter, descending: true, after: log.length + 1 - filter.after };
        const before = log.filter(({ position }) => position < back.after).reverse();
        same(await subject.log(back), before.filter(passes), JSON.stringify(back));
      }
    },
  },
  {
    name: "a stream is read after a revision, up to a revision, a position or a time, in slices",
    async run(subject) {
      let revision = 0;
      for (const [index, count] of [1, 3, 1, 2, 1].entries()) {
        await subject.accept(
          commit("noise", revision, someEvents(count)),
          commit("a-1", revision, someEvents(count)),
          commit("a-1", index, [event()], { aggregateType: "Other" }),
        );
        revision += count;
        subject.now += 1000;
      }
      const all = await subject.events("Appointment", "a-1");
      same(
        all.map((event) => event.revision),
        [1, 2, 3, 4, 5, 6, 7, 8],
      );
      type Load = Omit<StreamLoad, "aggregateType" | "aggregateId" | "whole">;
      const loads: Load[] = [];
      const always = { snapshot: null, untilRevision: null, untilPosition: null, untilTime: null };
      const nth = (index: number) => all[index]!.position;
      const ends = [
        ...[0, 1, 3, 5, 8, 12].map((untilRevision) => ({ untilRevision })),
        ...[-1, 0, 1999, 2000, 9999].map((millis) => ({ untilTime: iso(START + millis) })),
        ...[0, nth(0), nth(1) - 1, nth(1), nth(2), nth(4), nth(5) - 1, nth(7), nth(7) + 99].map(
          (untilPosition) => ({ untilPosition }),
        ),
      ];
      for (const after of [0, 1, 2, 4, 7, 8, 9]) {
        for (const one of [{}, ...ends]) {
          // What is asked for together is all kept.
          for (const other of [{}, { untilRevision: 4 }, { untilTime: iso(START + 2000) }]) {
            for (const limit of [1, 2, 3, 100])
              loads.push({ ...always, after, ...other, ...one, limit });
          }
        }
      }
      const streams = (whole: boolean) =>
        loads.map((load) => ({
          aggregateType: "Appointment",
          aggregateId: "a-1",
          whole,
          ...load,
        }));
      const loaded = await subject.load({ streams: streams(true) });
      const folded = await subject.load({ streams: streams(false) });
      for (const [index, load] of loads.entries()) {
        const { after, untilRevision, untilPosition, untilTime, limit } = load;
        const wanted = all.filter(
          (event) =>
            event.revision > after &&
            event.revision <= (untilRevision ?? Infinity) &&
            event.position <= (untilPosition ?? Infinity) &&
            (untilTime === null || event.recordedAt <= untilTime),
        );
        const expected = {
          events: wanted.slice(0, limit),
          revision: 8,
          more: wanted.length > limit,
        };
        const { events, revision, more } = loaded.streams[index]!;
        const what = JSON.stringify(loads[index]);
        same({ events, revision, more }, expected, what);
        const { events: messages, ...rest } = folded.streams[index]!;
        same(messagesOf(messages), messagesOf(expected.events), what);
        same([rest.revision, rest.more], [revision, more], what);
        // Alone it may be read in another way.
        if (index % 7 > 0) continue;
        const alone = await subject.load({ streams: [streams(false)[index]!] });
        same(messagesOf(alone.streams[0]!.events), messagesOf(expected.events), what);
        same([alone.streams[0]!.revision, alone.streams[0]!.more], [revision, more], what);
        same(alone.head, folded.head);
      }
    },
  },
  {
    name: "a snapshot comes with the events after it",
    async run(subject) {
      await subject.accept(commit("a-1", 0, someEvents(7)), commit("a-2", 0, someEvents(2)));
      await subject.save(snapshot("of a-1", 4), snapshot("of a-2", 2));
      for (const whole of [true, false]) {
        const slice = async (id: string, options: Partial<StreamLoad>) => {
          const found = await subject.slice("Appointment", id, { whole, ...options });
          const after = found.snapshot?.revision ?? options.after ?? 0;
          return [found.snapshot, revisionsOf(found, after), found.revision, found.more];
        };
        const four = { revision: 4, value: '{"at":4}' };
        const two = { revision: 2, value: '{"at":2}' };
        same(await slice("a-1", { snapshot: "of a-1" }), [four, [5, 6, 7], 7, false]);
        same(await slice("a-1", { snapshot: "of a-1", limit: 2 }), [four, [5, 6], 7, true]);
        same(await slice("a-2", { snapshot: "of a-2" }), [two, [], 2, false]);
        same(await slice("a-1", { snapshot: null, after: 5 }), [null, [6, 7], 7, false]);
        same(await slice("a-1", { snapshot: "none", after: 5 }), [null, [6, 7], 7, false]);
        same(await slice("none", { snapshot: "none" }), [null, [], 0, false]);
        const loads = ["of a-1", null, "none"].map((snapshot) => {
          return { ...wholeStream, aggregateType: "Appointment", aggregateId: "a-1", snapshot, whole };
        });
        const { streams } = await subject.load({ streams: loads });
        const found = streams.map((slice) => [
          slice.snapshot,
          revisionsOf(slice, slice.snapshot?.revision ?? 0).length,
        ]);
        same(found, [
          [four, 3],
          [null, 7],
          [null, 7],
        ]);
      }
    },
  },
  {
    name: "a snapshot of a revision that the stream does not have comes without events",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event(), event()]));
      for (const revision of [2, 3, 1_000_000, Number.MAX_SAFE_INTEGER]) {
        await subject.save(snapshot("a-1", revision));
        for (const whole of [true, false]) {
          const found = await subject.slice("Appointment", "a-1", { snapshot: "a-1", whole });
          same(found.snapshot?.revision, revision);
          same([revisionsOf(found, revision), found.revision, found.more], [[], 2, false]);
        }
      }
    },
  },
  {
    name: "a load answers everything in the order asked",
    async run(subject) {
      const sent = [
        commit("a-1", 0, [event("AppointmentBooked", ["x"])]),
        commit("a-2", 0, [event("AppointmentBooked", ["y"])]),
      ];
      await subject.accept(...sent);
      const stream = (aggregateId: string) => ({
        ...wholeStream,
        aggregateType: "Appointment",
        aggregateId,
      });
      const loaded = await subject.load({
        commands: [sent[1]!.commandId, "unknown", sent[0]!.commandId],
        streams: [stream("a-2"), stream("none"), stream("a-1"), stream("a-2")],
        queries: [
          { query: anyTag("y", "x"), after: 0 },
          { query: anyTag("y"), after: 0 },
          { query: anyTag("y"), after: 2 },
        ],
      });
      same(
        loaded.commands.map((first) => first && first.position),
        [2, null, 1],
      );
      same(
        loaded.streams.map(({ events, revision, more }) => [
          (events as StoredEvent[]).map((event) => event.aggregateId),
          revision,
          more,
        ]),
        [
          [["a-2"], 1, false],
          [[], 0, false],
          [["a-1"], 1, false],
          [["a-2"], 1, false],
        ],
      );
      same(loaded.queries.map(positions), [[1, 2], [2], []]);
      same(loaded.head, 2);
      same(await subject.load({}), { commands: [], streams: [], queries: [], head: 2 });
    },
  },
  {
    name: "a load is of one moment: commands, streams, queries, snapshots and the head agree",
    async run(subject) {
      const rounds = 30;
      const commitsOf = (round: number) =>
        ["a-1", "a-2"].map((id) => commit(id, round, [event("AppointmentBooked", ["both"])], { commandId: `${id} ${round}` }));
      let revision = 0;
      const write = async () => {
        while (revision < rounds) {
          await subject.accept(...commitsOf(revision));
          revision += 1;
          await subject.save(snapshot("a-1", revision), snapshot("a-2", revision));
          // Where it is answered at once, readers wait for this.
          await pause();
        }
      };
      const read = async () => {
        const commands = Array.from({ length: rounds }, (_, round) => [`a-1 ${round}`, `a-2 ${round}`]).flat();
        for (let head = 0; head < 2 * rounds;) {
          const streams = ["a-1", "a-2", "a-1"].map((aggregateId, index) => {
            return { ...wholeStream, aggregateType: "Appointment", aggregateId, snapshot: aggregateId, whole: index === 0 };
          });
          const loaded = await subject.load({ commands, streams, queries: [{ query: anyTag("both"), after: 0 }] });
          same(loaded.head >= head, true, "the head goes back");
          head = loaded.head;
          const what = `at the head ${head}`;
          same(loaded.commands.filter((first) => first !== null).length, head, `first outcomes ${what}`);
          same(positions(loaded.queries[0]!), upTo(head), `matches ${what}`);
          same(loaded.streams.map(({ revision }) => revision), Array(3).fill(head / 2), `revisions ${what}`);
          const kept = loaded.streams.map(({ snapshot }) => snapshot?.revision ?? 0);
          // Snapshots follow each append.
          same([head / 2 - 1, head / 2].includes(kept[0]!), true, `a snapshot at ${kept[0]!} ${what}`);
          same(kept, Array(3).fill(kept[0]!), `snapshots ${what}`);
          const tails = loaded.streams.map((slice) => revisionsOf(slice, kept[0]!));
          same(tails, Array(3).fill(upTo(head / 2).slice(kept[0]!)), `tails ${what}`);
          await pause();
        }
      };
      await Promise.all([write(), read(), read()]);
    },
  },
  {
    name: "pages of any size go through the whole log, from any position, and back",
    async run(subject) {
      same(await subject.page(), { events: [], next: 0, head: 0 });
      same(await subject.page({ after: 1, descending: true }), { events: [], next: 0, head: 0 });
      for (const [index, count] of [1, 4, 2, 1, 7, 1, 1].entries()) {
        await subject.accept(
          ...Array.from({ length: count }, (_, n) => commit(`a-${index}-${n}`, 0, someEvents(1 + (n % 2)))),
        );
      }
      const all = await subject.log();
      for (let after = 0; after <= all.length; after++) {
        for (const limit of [1, 2, 3, 5, 1000]) {
          same(
            await subject.log({ after, limit }),
            all.slice(after),
            `after ${after}, by ${limit}`,
          );
        }
        same((await subject.page({ after, limit: 2 })).events, all.slice(after, after + 2));
      }
      const back = [...all].reverse();
      for (let after = all.length + 2; after >= 0; after--) {
        const before = back.filter(({ position }) => position < after);
        for (const limit of [1, 2, 3, 5, 1000])
          same(await subject.log({ after, descending: true, limit }), before, `before ${after}, by ${limit}`);
        same((await subject.page({ after, descending: true, limit: 2 })).events, before.slice(0, 2));
      }
      same(await subject.page({ after: all.length }), {
        events: [],
        next: all.length,
        head: all.length,
      });
    },
  },
  {
    name: "a page has its limit of events at most, and says where it ends",
    async run(subject) {
      for (let round = 0; round < 6; round += 1)
        await subject.accept(commit(`a-${round}`, 0, [event("Booked", ["t"]), event("Noted", []), event("Noted", [])]));
      const filters = [{}, { types: ["Booked"] }, { tags: ["t"] }, { aggregateTypes: ["Appointment"] }, { types: ["None"] }];
      for (const filter of filters) {
        for (let after = 0; after <= 18; after += 1) {
          for (const limit of [1, 2, 5]) {
            const what = JSON.stringify({ ...filter, after, limit });
            const { events, next, head } = await subject.page({ ...filter, after, limit });
            same(events.length <= limit, true, `${events.length} events with ${what}`);
            same([head, next >= (events.at(-1)?.position ?? after), next <= head], [18, true, true], `${next} with ${what}`);
            if (after < head) same(next > after, true, `a page goes on with ${what}`);
          }
        }
        for (let after = 19; after >= 1; after -= 1) {
          for (const limit of [1, 2, 5]) {
            const what = `${JSON.stringify({ ...filter, after, limit })}, back`;
            const { events, next, head } = await subject.page({ ...filter, after, limit, descending: true });
            same(events.length <= limit, true, `${events.length} events with ${what}`);
            same([head, next <= (events.at(-1)?.position ?? after), next >= 0], [18, true, true], `${next} with ${what}`);
            same(next < after, true, `a page goes on with ${what}`);
          }
        }
      }
    },
  },
];
