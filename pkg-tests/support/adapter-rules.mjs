// What every storage adapter does. One list, run on all of them, in Node and in pages.
//
// An adapter enrols with a function that makes an empty store, and a list of what more it can do:
// `storage` is an adapter on the store; "another": `another()` gives another adapter on the same
// store; "recreate": `recreate()` replaces the store by an empty one under the adapter; "judges":
// the adapter does not ask the engine's judge, and `facts(commits)` on it tells what its own learns.
// `release()`, if there is one, cleans up.

import { documentRules } from "./document-rules.mjs";
import { fails, same } from "./expect.mjs";
import { queryMatches } from "./judge.mjs";
import { START, Subject, commit, event, randomNumbers, until, wholeLog, wholeStream } from "./subject.mjs";

export { Subject, commit, event, until };

/** Enrols an adapter: one test a rule. */
export function enrol(test, adapter, makeStore, abilities = []) {
  for (const name of ruleNames(abilities)) {
    test(`${adapter}: ${name}`, () => runRule(name, makeStore));
  }
}

/** The rules for stores with these abilities. */
export function ruleNames(abilities = []) {
  return rules
    .filter(({ needs, unless }) => (needs === undefined || abilities.includes(needs)) && !abilities.includes(unless))
    .map(({ name }) => name);
}

export async function runRule(name, makeStore) {
  const store = await makeStore();
  try {
    await rules.find((rule) => rule.name === name).run(await Subject.open(store.storage), store);
  } finally {
    await store.storage.close();
    await store.release?.();
  }
}

/** The events' forms and the text of their payloads, whichever way an adapter gives them. */
function messagesOf(events) {
  if (!Array.isArray(events)) {
    same(JSON.parse(events.data).length, events.forms.length);
    return events;
  }
  const data = `[${events.map(({ data }) => data).join(",\n")}]`;
  const formOf = ({ type, schemaVersion: version }) => (version === 1 ? type : `${type}\x7f${version}`);
  return { forms: events.map(formOf), data };
}

const revisionsOf = ({ events }, after) =>
  Array.isArray(events)
    ? events.map(({ revision }) => revision)
    : events.forms.map((_, index) => after + index + 1);

const snapshot = (key, revision, value = `{"at":${revision}}`) => ({
  collection: "snapshots",
  key,
  revision,
  value,
});

const condition = (query, after) => ({ condition: { query, after } });
const anyTag = (...tags) => tags.map((tag) => ({ types: [], tags: [tag] }));
const iso = (millis) => new Date(millis).toISOString();

const rules = [
  {
    name: "a new store is empty, and says what it is",
    async run({ storage, info }) {
      same(info.head, 0);
      same(info.epoch.length > 0, true);
      same(["memory", "process-crash", "power-loss"].includes(info.durability), true);
      same(await storage.open(), info);
    },
  },
  {
    name: "an event comes back as it was appended",
    async run(subject) {
      const rest = {
        correlationId: "request 7",
        causationId: "event 6",
        actor: "reception",
        extra: '{"ip": "::1"}',
      };
      const sent = commit(
        "a-1",
        0,
        [event(), event("AppointmentConfirmed", ["b", "a"], { schemaVersion: 3 })],
        rest,
      );
      const [verdict] = await subject.accept(sent);
      same(verdict, { kind: "committed", position: 1, revision: 2, count: 2, recordedAt: START });
      const expected = sent.events.map((event, index) => ({
        position: index + 1,
        aggregateType: "Appointment",
        aggregateId: "a-1",
        revision: index + 1,
        eventId: event.eventId,
        type: event.type,
        schemaVersion: event.schemaVersion,
        tags: JSON.stringify(event.tags),
        recordedAt: iso(START),
        issuedAt: sent.issuedAt,
        commandId: sent.commandId,
        ...rest,
        data: event.data,
      }));
      const only = (found) =>
        found.map((event) =>
          Object.fromEntries(Object.keys(expected[0]).map((key) => [key, event[key]])),
        );
      same(only((await subject.slice("Appointment", "a-1")).events), expected);
      same(only(await subject.log()), expected);
      const loaded = await subject.load({ queries: [{ query: anyTag("a"), after: 0 }] });
      same(only(loaded.queries[0]), [expected[1]]);
    },
  },
  {
    name: "payloads come back byte for byte",
    async run(subject) {
      const texts = [
        '{"b":1,"a":2}',
        '{"n":1.0,"m":1e3,"z":-0}',
        '"\\u0000\\ud83d\\ude00\\/"',
        '"😀 ‮שלום é e\u0301 \u2028"',
        " [ ] ",
        '{"a":1,"a":2}',
        "9007199254740991",
        '""',
        JSON.stringify("x".repeat(300_000)),
      ];
      await subject.accept(
        commit(
          "a-1",
          0,
          texts.map((data) => event("AppointmentBooked", [], { data })),
          { extra: texts[2] },
        ),
      );
      const { events } = await subject.slice("Appointment", "a-1");
      same(
        events.map(({ data }) => data),
        texts,
      );
      same(events[0].extra, texts[2]);
      same(
        (await subject.log({ limit: 2 })).map(({ data }) => data),
        texts,
      );
    },
  },
  {
    name: "names are data",
    async run(subject) {
      const names = [
        "plain",
        "'; DROP TABLE events; --",
        'a"b`c\\d',
        "a/b",
        "a:b",
        "1:a",
        "a,b",
        "%_*?[a-z]",
        "__proto__",
        "constructor",
        "toString",
        "‮txeT",
        "é",
        "e\u0301",
        "😀",
        "\uffff",
        "null",
        "0",
        "NaN",
        " ",
        "x".repeat(1000),
        `${"x".repeat(999)}y`,
      ];
      const streams = names.flatMap((type, index) => [
        [type, names.at(index - 1)],
        ["a", type],
        ["a/b", type],
      ]);
      const commits = streams.map(([aggregateType, aggregateId], index) =>
        commit(aggregateId, 0, [event(`type ${aggregateType}`, [aggregateType, `#${index}`])], {
          aggregateType,
          commandId: JSON.stringify([aggregateType, aggregateId, index]),
          correlationId: aggregateType,
          actor: aggregateId,
        }),
      );
      const seen = new Set();
      const distinct = commits.filter((commit) => {
        const key = JSON.stringify([commit.aggregateType, commit.aggregateId]);
        return !seen.has(key) && seen.add(key);
      });
      await subject.accept(...distinct);
      const log = await subject.log();
      same(
        log.map(({ aggregateType, aggregateId, actor, tags }) => [
          aggregateType,
          aggregateId,
          actor,
          tags,
        ]),
        distinct.map(({ aggregateType, aggregateId, actor, events }) => [
          aggregateType,
          aggregateId,
          actor,
          JSON.stringify(events[0].tags),
        ]),
      );
      for (const [index, { aggregateType, aggregateId, commandId, hash }] of distinct.entries()) {
        const { streams, commands } = await subject.load({
          streams: [{ ...wholeStream, aggregateType, aggregateId }],
          commands: [commandId],
        });
        same(
          streams[0].events.map(({ position }) => position),
          [index + 1],
          aggregateType,
        );
        same(commands[0].hash, hash);
      }
      for (const name of names) {
        const { queries } = await subject.load({
          queries: [
            { query: anyTag(name), after: 0 },
            { query: [{ types: [`type ${name}`], tags: [] }], after: 0 },
          ],
        });
        const expected = log
          .filter((event) => event.aggregateType === name)
          .map(({ position }) => position);
        for (const events of queries)
          same(
            events.map(({ position }) => position),
            expected,
            name,
          );
      }
    },
  },
  {
    name: "the judge learns the head, its time, the streams' revisions and first outcomes",
    async run(subject) {
      const empty = await subject.facts(commit("a-1", 0, [event()]));
      same(empty, {
        head: 0,
        lastRecordedAt: 0,
        commits: [{ revision: 0, first: null, matched: null }],
      });
      const [one, two] = [commit("a-1", 0, [event(), event()]), commit("a-2", 0, [event()])];
      await subject.accept(one, two);
      subject.now += 1234;
      await subject.accept(commit("a-1", 2, [event()]));
      const facts = await subject.facts(
        commit("a-1", 0, [event()]),
        { ...two, aggregateId: "a-3" },
        commit("a-2", 0, [event()]),
      );
      same(facts, {
        head: 4,
        lastRecordedAt: START + 1234,
        commits: [
          { revision: 3, first: null, matched: null },
          {
            revision: 0,
            first: {
              hash: two.hash,
              aggregateType: "Appointment",
              aggregateId: "a-2",
              position: 3,
              revision: 1,
              count: 1,
              recordedAt: START,
            },
            matched: null,
          },
          { revision: 1, first: null, matched: null },
        ],
      });
    },
  },
  {
    name: "commits are judged in order, each seeing those before it; the refused leave no trace",
    async run(subject) {
      const first = commit("a-1", 0, [event("AppointmentBooked", ["doctor:7"])]);
      const verdicts = await subject.append([
        first,
        commit("a-1", 0, [event()]),
        commit("a-1", 1, [event(), event()]),
        commit("a-2", 0, [event()], condition(anyTag("doctor:7"), 0)),
        commit("a-3", 0, [event()], { commandId: first.commandId, hash: first.hash }),
        commit("a-3", 0, [event()], { commandId: first.commandId }),
        commit("a-3", 0, [event()], condition(anyTag("doctor:8"), 0)),
      ]);
      same(
        verdicts.map(({ kind, reason, at, position }) => [
          kind,
          position ?? null,
          reason ?? null,
          at ?? null,
        ]),
        [
          ["committed", 1, null, null],
          ["conflict", null, "revision", 1],
          ["committed", 2, null, null],
          ["conflict", null, "matched", 1],
          ["duplicate", null, null, null],
          ["command-id-reused", null, null, null],
          ["committed", 4, null, null],
        ],
      );
      same(
        (await subject.log()).map(({ aggregateId, revision }) => [aggregateId, revision]),
        [
          ["a-1", 1],
          ["a-1", 2],
          ["a-1", 3],
          ["a-3", 1],
        ],
      );
      same((await subject.slice("Appointment", "a-2")).revision, 0);
    },
  },
  {
    name: "an append of which nothing is accepted changes nothing",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      const before = await subject.log();
      subject.now += 60_000;
      const refused = commit("a-1", 0, [event("AppointmentBooked", ["t"])]);
      same(
        (await subject.append([refused])).map(({ kind }) => kind),
        ["conflict"],
      );
      same(await subject.log(), before);
      const loaded = await subject.load({
        commands: [refused.commandId],
        queries: [{ query: anyTag("t"), after: 0 }],
      });
      same([loaded.commands, loaded.queries, loaded.head], [[null], [[]], 1]);
      same((await subject.facts(refused)).lastRecordedAt, START);
    },
  },
  {
    name: "a judge that throws is heard, and nothing is applied",
    unless: "judges",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      for (const reason of [
        new Error("no longer wanted"),
        new DOMException("given up", "AbortError"),
      ]) {
        let asked = 0;
        const judge = () => {
          asked++;
          throw reason;
        };
        const request = { epoch: subject.epoch, commits: [commit("a-1", 1, [event()])] };
        const error = await fails(() => subject.storage.append(request, judge), {});
        same([error === reason, asked], [true, 1]);
      }
      same((await subject.slice("Appointment", "a-1")).revision, 1);
      await subject.accept(commit("a-1", 1, [event()]));
    },
  },
  {
    name: "a command's first outcome is remembered whatever comes after",
    async run(subject) {
      const sent = commit("a-1", 0, [event(), event()]);
      const [verdict] = await subject
        .accept(commit("a-0", 0, [event()]), sent)
        .then((all) => all.slice(1));
      subject.now += 5000;
      for (let revision = 2; revision < 6; revision++)
        await subject.accept(commit("a-1", revision, [event()]));
      const { kind, ...summary } = verdict;
      const first = {
        hash: sent.hash,
        aggregateType: "Appointment",
        aggregateId: "a-1",
        ...summary,
      };
      const { commands } = await subject.load({ commands: ["unknown", sent.commandId, "unknown"] });
      same(commands, [null, first, null]);
      same(await subject.append([sent]), [{ kind: "duplicate", first }]);
    },
  },
  {
    name: "command ids are found among others, however they sort",
    async run(subject) {
      const ids = ["\uffff", "😀", "é", "a", "Z", "0", "~"].map((text) => `${text} id`);
      const sent = ids.map((commandId, index) => {
        return commit(`a-${index}`, 0, [event()], { commandId });
      });
      await subject.accept(...sent.slice(1, 4));
      const kinds = (verdicts) => verdicts.map(({ kind }) => kind);
      const some = [sent[0], sent[2], sent[5]];
      same(kinds(await subject.append(some)), ["committed", "duplicate", "committed"]);
      const again = await subject.append([sent[1], sent[0]]);
      same(kinds(again), ["duplicate", "duplicate"]);
      const loaded = await subject.load({ commands: ids });
      same(
        loaded.commands.map((first) => first?.position ?? null),
        [4, 1, 2, 3, null, 5, null],
      );
    },
  },
  {
    name: "conditions, queries and filtered pages find what reading the whole log would",
    async run(subject, { another }) {
      const random = randomNumbers(7);
      const pick = (list) => list[random(list.length)];
      const some = (list, most) => [
        ...new Set(Array.from({ length: random(most + 1) }, () => pick(list))),
      ];
      const types = ["Booked", "Confirmed", "Cancelled", "Moved"];
      const tags = ["d:1", "d:2", "r:1", "r:2", "rare"];
      const aggregateTypes = ["Appointment", "Room", "Invoice"];
      const revisions = new Map();
      const causes = [];
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
          const one = commit(aggregateId, revision, events, { aggregateType });
          // Some are of the cause of another, which may have been another's too.
          if (random(3) === 0 && causes.length > 0) one.correlationId = pick(causes);
          causes.push(random(4) === 0 ? "request 7" : one.commandId);
          return one;
        });
        subject.now += random(3);
        await subject.accept(...commits);
      }
      const log = await subject.log();
      same(
        log.map(({ position }) => position),
        log.map((_, index) => index + 1),
      );
      const matching = (query, after) =>
        log.filter(
          (event) =>
            event.position > after && queryMatches(query, event.type, JSON.parse(event.tags)),
        );

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
      if (another !== undefined) {
        const other = await Subject.open(await another());
        same(
          await other.facts(...asking),
          facts,
          "what an adapter knows that has appended nothing",
        );
        await other.storage.close();
      }
      for (const [index, { query, after }] of queries.entries()) {
        const expected = matching(query, after);
        const what = JSON.stringify(queries[index]);
        same(loaded.queries[index], expected, what);
        same(facts.commits[index].matched, expected[0]?.position ?? null, what);
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
        const passes = (event) =>
          event.position > filter.after &&
          (filter.types.length === 0 || filter.types.includes(event.type)) &&
          (filter.aggregateTypes.length === 0 ||
            filter.aggregateTypes.includes(event.aggregateType)) &&
          (filter.tags.length === 0 ||
            JSON.parse(event.tags).some((tag) => filter.tags.includes(tag))) &&
          (filter.correlationId === null || event.correlationId === filter.correlationId);
        same(await subject.log(filter), log.filter(passes), JSON.stringify(filter));
      }
    },
  },
  {
    name: "a stream is read after a revision, up to a revision, a position or a time, in slices",
    async run(subject) {
      let revision = 0;
      for (const [index, count] of [1, 3, 1, 2, 1].entries()) {
        const events = () => Array.from({ length: count }, () => event());
        await subject.accept(
          commit("noise", revision, events()),
          commit("a-1", revision, events()),
          commit("a-1", index, [event()], { aggregateType: "Other" }),
        );
        revision += count;
        subject.now += 1000;
      }
      const { events: all } = await subject.slice("Appointment", "a-1");
      same(
        all.map((event) => event.revision),
        [1, 2, 3, 4, 5, 6, 7, 8],
      );
      const loads = [];
      const always = { snapshot: null, untilRevision: null, untilPosition: null, untilTime: null };
      const nth = (index) => all[index].position;
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
      const streams = (whole) =>
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
        const { events, revision, more } = loaded.streams[index];
        const what = JSON.stringify(loads[index]);
        same({ events, revision, more }, expected, what);
        const { events: messages, ...rest } = folded.streams[index];
        same(messagesOf(messages), messagesOf(expected.events), what);
        same([rest.revision, rest.more], [revision, more], what);
        // Alone it may be read in another way.
        if (index % 7 > 0) continue;
        const alone = await subject.load({ streams: [streams(false)[index]] });
        same(messagesOf(alone.streams[0].events), messagesOf(expected.events), what);
        same([alone.streams[0].revision, alone.streams[0].more], [revision, more], what);
        same(alone.head, folded.head);
      }
    },
  },
  {
    name: "streams that are only folded come as their forms and payloads, byte for byte",
    async run(subject) {
      const odd = [
        ' {\t"a" :\r\n[ 1.0,\n-0 ] }\n',
        '{"__proto__":{"x":1},"a":1,"a":2}',
        '"\\u0000\\ud83d\\ude00\\/"',
        '"😀 ‮שלום é e\u0301 \u2028\u2029\ufeff"',
        '["},\\n{\\"type\\":\\"No\\",\\"data\\":"]',
        "[{},\n{}]",
        "9007199254740993",
        '"%s $& \\\\ \' ?"',
        "null",
        JSON.stringify("x".repeat(70_000)),
      ];
      const types = [
        "Booked",
        'a"b',
        "c\\d",
        "‮é e\u0301 😀 \u2028",
        "__proto__",
        "null",
        "a/b'c",
        "%s $&",
      ];
      const versions = [1, 2, 1, 3, 6, 7, 1000000, 1];
      const events = odd.map((data, index) => {
        const schemaVersion = versions[index % versions.length];
        return event(types[index % types.length], ["t"], { data, schemaVersion });
      });
      const [first, ...others] = events;
      await subject.accept(
        commit("a-1", 0, [first]),
        commit("a-2", 0, others),
        ...events.map((one, index) => commit("a-1", index + 1, [one])),
      );
      const stream = (aggregateId, rest) => {
        return { ...wholeStream, aggregateType: "Appointment", aggregateId, whole: false, ...rest };
      };
      const asked = [stream("a-1"), stream("a-1", { whole: true }), stream("none"), stream("a-2")];
      const { streams } = await subject.load({ streams: asked });
      const expected = [[first, ...events], [first, ...events], [], others];
      for (const [index, { events: found, revision, more }] of streams.entries()) {
        same(messagesOf(found), messagesOf(expected[index]));
        same([revision, more], [expected[index].length, false]);
      }
      same(Array.isArray(streams[1].events), true, "what is asked for whole is whole");
      for (const load of [...asked, ...asked.map((load) => ({ ...load, after: 3, limit: 2 }))]) {
        const [alone] = (await subject.load({ streams: [load] })).streams;
        const isAsked = ({ aggregateId }) => aggregateId === load.aggregateId;
        const all = expected[asked.findIndex(isAsked)];
        same(messagesOf(alone.events), messagesOf(all.slice(load.after, load.after + load.limit)));
        same([alone.revision, alone.more], [all.length, all.length > load.after + load.limit]);
      }
    },
  },
  {
    name: "a snapshot comes with the events after it",
    async run(subject) {
      const events = Array.from({ length: 7 }, () => event());
      await subject.accept(commit("a-1", 0, events), commit("a-2", 0, events.slice(0, 2)));
      await subject.save(snapshot("of a-1", 4), snapshot("of a-2", 2));
      for (const whole of [true, false]) {
        const slice = async (id, options) => {
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
          same(found.snapshot.revision, revision);
          same([revisionsOf(found, revision), found.revision, found.more], [[], 2, false]);
        }
      }
    },
  },
  {
    name: "documents are replaced under their names, and come back byte for byte",
    async run(subject) {
      const found = async (key) => {
        return (await subject.slice("Appointment", "none", { snapshot: key })).snapshot;
      };
      const texts = [
        '{"b":1,"a":2}',
        '{"n":1.0,"z":-0}',
        '"\\u0000\\ud83d\\ude00\\/"',
        '"😀 ‮שלום é e\u0301 \u2028"',
        " [ ] ",
        JSON.stringify("x".repeat(300_000)),
      ];
      const keys = ["k", "K", "'; --", '["a","b"]', "__proto__", "", "😀", "k ", "x".repeat(2000)];
      const documents = keys.map((key, index) => snapshot(key, index + 1, texts[index % texts.length]));
      await subject.save(...documents);
      // Another collection has other documents.
      await subject.save({ collection: "others", key: "k", revision: 99, value: "[]" });
      for (const { key, revision, value } of documents) same(await found(key), { revision, value });
      // A later one may be of an earlier revision.
      await subject.save(snapshot("k", 5, '"first"'), snapshot("k", 3, '"second"'));
      same(await found("k"), { revision: 3, value: '"second"' });
      same(await found("K"), { revision: 2, value: texts[1] });
      await subject.save();
    },
  },
  {
    name: "a load answers everything of one moment, in the order asked",
    async run(subject) {
      const sent = [
        commit("a-1", 0, [event("AppointmentBooked", ["x"])]),
        commit("a-2", 0, [event("AppointmentBooked", ["y"])]),
      ];
      await subject.accept(...sent);
      const stream = (aggregateId) => ({
        ...wholeStream,
        aggregateType: "Appointment",
        aggregateId,
      });
      const loaded = await subject.load({
        commands: [sent[1].commandId, sent[0].commandId],
        streams: [stream("a-2"), stream("none"), stream("a-1"), stream("a-2")],
        queries: [
          { query: anyTag("y", "x"), after: 0 },
          { query: anyTag("y"), after: 0 },
          { query: anyTag("y"), after: 2 },
        ],
      });
      same(
        loaded.commands.map(({ position }) => position),
        [2, 1],
      );
      same(
        loaded.streams.map(({ events, revision, more }) => [
          events.map((event) => event.aggregateId),
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
      same(
        loaded.queries.map((events) => events.map(({ position }) => position)),
        [[1, 2], [2], []],
      );
      same(loaded.head, 2);
      same(await subject.load({}), { commands: [], streams: [], queries: [], head: 2 });
    },
  },
  {
    name: "pages of any size go through the whole log, from any position",
    async run(subject) {
      same(await subject.page({}), { events: [], next: 0, head: 0 });
      for (const [index, count] of [1, 4, 2, 1, 7, 1, 1].entries()) {
        await subject.accept(
          ...Array.from({ length: count }, (_, n) =>
            commit(`a-${index}-${n}`, 0, [event(), event()].slice(0, 1 + (n % 2))),
          ),
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
      same(await subject.page({ after: all.length }), {
        events: [],
        next: all.length,
        head: all.length,
      });
    },
  },
  {
    name: "large batches are one append and one load",
    async run(subject) {
      const ids = Array.from({ length: 512 }, (_, index) => `a-${index}`);
      const sent = ids.map((id) =>
        commit(
          id,
          0,
          [event("AppointmentBooked", [`slot ${id}`])],
          condition(anyTag(`slot ${id}`), 0),
        ),
      );
      await subject.accept(...sent);
      const { streams, commands, queries } = await subject.load({
        commands: sent.map(({ commandId }) => commandId),
        streams: ids.map((aggregateId) => ({
          ...wholeStream,
          aggregateType: "Appointment",
          aggregateId,
        })),
        queries: [{ query: anyTag(...ids.map((id) => `slot ${id}`)), after: 0 }],
      });
      same(
        streams.map(({ events }) => events.map(({ aggregateId }) => aggregateId)),
        ids.map((id) => [id]),
      );
      same(
        commands.map(({ position }) => position),
        ids.map((_, index) => index + 1),
      );
      same(
        queries[0].map(({ aggregateId }) => aggregateId),
        ids,
      );
      const again = await subject.append(sent);
      same(
        again.every(({ kind }) => kind === "duplicate"),
        true,
      );
    },
  },
  {
    name: "a tag given twice is there once for conditions, and twice in the event",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event("AppointmentBooked", ["t", "t"])]));
      const { queries } = await subject.load({ queries: [{ query: anyTag("t"), after: 0 }] });
      same(
        queries[0].map(({ tags }) => tags),
        ['["t","t"]'],
      );
    },
  },
  {
    name: "requests for another store are refused, and nothing is applied",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      const epoch = `${subject.epoch}x`;
      const refusal = { code: "foreign-epoch", retryable: false, mayBeApplied: false };
      const never = () => {
        throw new Error("the judge was asked");
      };
      const { storage } = subject;
      await fails(
        () => storage.append({ epoch, commits: [commit("a-1", 1, [event()])] }, never),
        refusal,
      );
      await fails(() => storage.load({ epoch, commands: [], streams: [], queries: [] }), refusal);
      await fails(() => storage.readLog({ epoch, ...wholeLog }), refusal);
      const documents = [{ ...snapshot("a-1", 1), postings: [] }];
      await fails(() => storage.saveDocuments({ epoch, expected: [], clear: [], documents }), refusal);
      await fails(() => storage.readDocuments({ epoch, names: [], scans: [] }), refusal);
      same((await subject.slice("Appointment", "a-1", { snapshot: "a-1" })).snapshot, null);
      same((await subject.log()).length, 1);
      await subject.accept(commit("a-1", 1, [event()]));
    },
  },
  {
    name: "requests under way together don't disturb each other",
    async run(subject) {
      const append = (index) =>
        subject.append([commit("hot", index, [event()]), commit(`a-${index}`, 0, [event()])]);
      const all = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          index % 5 === 4 ? subject.slice("Appointment", "hot") : append(0),
        ),
      );
      const hot = all.filter(Array.isArray).filter(([verdict]) => verdict.kind === "committed");
      same(hot.length, 1);
      same((await subject.slice("Appointment", "hot")).revision, 1);
      same(
        (await subject.log()).map(({ position }) => position),
        [1, 2],
      );
    },
  },
  {
    name: "those who share the adapter are told of appends, until they stop listening",
    async run(subject) {
      const told = [];
      const stop = subject.storage.subscribe((position) => told.push(position));
      const answer = subject.append([commit("a-1", 0, [event(), event()])]);
      same(told, [], "told while the append is under way");
      await answer;
      await until(() => told.length > 0);
      same(told.at(-1), 2);
      await subject.append([commit("a-1", 0, [event()])]);
      stop();
      stop();
      const before = told.length;
      await subject.accept(commit("a-1", 2, [event()]));
      await new Promise((resolve) => setTimeout(resolve, 0));
      same(told.length, before);
    },
  },
  {
    name: "closing lets go and can be done twice; what was appended is there afterwards",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      await subject.storage.close();
      await subject.storage.close();
      same(await subject.storage.open(), { ...subject.info, head: 1 });
      await subject.accept(commit("a-1", 1, [event()]));
      same((await subject.log()).length, 2);
    },
  },
  {
    name: "another adapter on the same store sees what was appended, and is told",
    needs: "another",
    async run(subject, { another }) {
      const other = await Subject.open(await another());
      same(other.info, subject.info);
      const told = [];
      const stop = other.storage.subscribe((position) => told.push(position));
      await subject.accept(commit("a-1", 0, [event(), event()]));
      same((await other.slice("Appointment", "a-1")).revision, 2);
      await until(() => told.includes(2));
      stop();
      await other.accept(commit("a-1", 2, [event()]));
      same((await subject.log()).length, 3);
      await subject.save(snapshot("a-1", 2));
      same(await other.slice("Appointment", "a-1", { snapshot: "a-1" }).then(({ snapshot }) => snapshot), {
        revision: 2,
        value: '{"at":2}',
      });
      await other.storage.close();
      same((await subject.log()).length, 3);
    },
  },
  {
    name: "what the judge learns is never stale, whoever appended last",
    needs: "another",
    async run(subject, { another }) {
      const adapters = [subject, await Subject.open(await another())];
      for (let revision = 0; revision < 8; revision++) {
        const [one, other] = revision % 3 === 0 ? adapters : adapters.toReversed();
        await one.slice("Appointment", "a-1");
        await other.slice("Appointment", "a-1");
        await one.accept(commit("a-1", revision, [event("AppointmentBooked", ["x"])]));
        for (const adapter of adapters) {
          const { head, commits } = await adapter.facts(
            commit("a-1", 0, [event()], condition(anyTag("x"), revision)),
            commit("a-2", 0, [event()], condition(anyTag("x"), revision + 1)),
          );
          same(
            [head, commits],
            [
              revision + 1,
              [
                { revision: revision + 1, first: null, matched: revision + 1 },
                { revision: 0, first: null, matched: null },
              ],
            ],
          );
        }
      }
      await adapters[1].storage.close();
    },
  },
  {
    name: "of adapters that race for a stream one wins each time, and nothing is lost",
    needs: "another",
    async run(subject, { another }) {
      const others = [
        subject,
        await Subject.open(await another()),
        await Subject.open(await another()),
      ];
      await Promise.all(
        others.map(async (racer) => {
          for (let done = 0; done < 15;) {
            const { revision } = await racer.slice("Appointment", "hot", { after: 0, limit: 1 });
            const [verdict] = await racer.append([commit("hot", revision, [event()])]);
            if (verdict.kind === "committed") done++;
            else
              same(
                [verdict.kind, verdict.reason, verdict.at > revision],
                ["conflict", "revision", true],
              );
          }
        }),
      );
      const { events } = await subject.slice("Appointment", "hot");
      same(
        events.map(({ revision }) => revision),
        Array.from({ length: 45 }, (_, index) => index + 1),
      );
      for (const other of others.slice(1)) await other.storage.close();
    },
  },
  {
    name: "a store that was replaced under the adapter is told from the first",
    needs: "recreate",
    async run(subject, { recreate }) {
      await subject.accept(commit("a-1", 0, [event()]));
      await recreate();
      const never = () => {
        throw new Error("the judge was asked");
      };
      const request = { epoch: subject.epoch, commits: [commit("a-1", 1, [event()])] };
      await fails(() => subject.storage.append(request, never), { code: "foreign-epoch" });
      await fails(() => subject.log(), { code: "foreign-epoch" });
      const found = await Subject.open(subject.storage);
      same([found.info.head, found.epoch === subject.epoch], [0, false]);
      await found.accept(commit("a-1", 0, [event()]));
    },
  },
  ...documentRules,
];
