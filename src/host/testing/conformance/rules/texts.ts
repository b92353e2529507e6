/** Names and payloads: whatever they are, they are data. */
import type { StreamLoad } from "../../../storage.js";
import { same } from "../expect.js";
import type { Rule } from "../rule.js";
import { commit, event, type Subject, wholeStream } from "../subject.js";
import { anyTag, messagesOf, positions } from "./words.js";

/** What people call things, some of them on purpose. No two are the same. */
export const NAMES: readonly string[] = [
  "plain",
  "'; DROP TABLE events; --",
  'a"b`c\\d',
  "a/b",
  "../../a",
  "a:b",
  "1:a",
  "a,b",
  "%_*?[a-z]",
  "$1 ${x} {{x}} %s",
  "<script>",
  "__proto__",
  "constructor",
  "toString",
  "‮txeT",
  "שלום \u200f!",
  "é",
  "e\u0301",
  "😀",
  "\uffff",
  "null",
  "undefined",
  "true",
  "0",
  "00",
  "NaN",
  "1e3",
  " ",
  "  ",
  "A",
  "a",
  "x".repeat(1000),
  `${"x".repeat(999)}y`,
];

export const texts: readonly Rule[] = [
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
      await expectKept(subject, texts);
    },
  },
  {
    name: "payloads that a parser would change come back byte for byte",
    async run(subject) {
      await expectKept(subject, [
        "{}",
        "[]",
        "0",
        "1.0",
        "1.10",
        "-0",
        "1E+2",
        "0.1e-7",
        "9007199254740993",
        "123456789012345678901234567890",
        "3.141592653589793238462643383279",
        '{"z":1,"a":{"y":2,"b":3},"10":4,"9":5}',
        '{"__proto__":{"x":1},"constructor":1}',
        '"\\u00e9é\\u0041A\\/"',
        '"\\ud800 \\udc00 alone"',
        '"\\u0000 \\u001f \\u007f"',
        '"\u007f\u0080\u2028\u2029\ufeff\ufffe\uffff"',
        '\t{ "a" :\r\n1 }\n',
        '"\'; SELECT $1, ?1, :a, @b, %s, \\\\x00"',
      ]);
    },
  },
  {
    name: "payloads of a mebibyte, and nested as deep as the engine lets pass, come back byte for byte",
    async run(subject) {
      const depth = 120;
      await expectKept(subject, [
        `"${"x".repeat(1024 * 1024 - 2)}"`,
        // Of three and of four bytes each.
        `"${"€".repeat(340_000)}"`,
        `"${"😀".repeat(260_000)}"`,
        "[".repeat(depth) + "]".repeat(depth),
        '{"a":'.repeat(depth) + "1" + "}".repeat(depth),
      ]);
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
      const events = () =>
        odd.map((data, index) => {
          const schemaVersion = versions[index % versions.length]!;
          return event(types[index % types.length], ["t"], { data, schemaVersion });
        });
      const [one, other] = [events(), events()];
      const first = event(one[0]!.type, ["t"], { data: odd[0]! });
      const others = other.slice(1);
      await subject.accept(
        commit("a-1", 0, [first]),
        commit("a-2", 0, others),
        ...one.map((event, index) => commit("a-1", index + 1, [event])),
      );
      const stream = (aggregateId: string, rest?: Partial<StreamLoad>) => {
        return { ...wholeStream, aggregateType: "Appointment", aggregateId, whole: false, ...rest };
      };
      const asked = [stream("a-1"), stream("a-1", { whole: true }), stream("none"), stream("a-2")];
      const { streams } = await subject.load({ streams: asked });
      const expected = [[first, ...one], [first, ...one], [], others];
      for (const [index, { events: found, revision, more }] of streams.entries()) {
        same(messagesOf(found), messagesOf(expected[index]!));
        same([revision, more], [expected[index]!.length, false]);
      }
      same(Array.isArray(streams[1]!.events), true, "what is asked for whole is whole");
      for (const load of [...asked, ...asked.map((load) => ({ ...load, after: 3, limit: 2 }))]) {
        const [alone] = (await subject.load({ streams: [load] })).streams;
        const all = expected[asked.findIndex(({ aggregateId }) => aggregateId === load.aggregateId)]!;
        same(messagesOf(alone!.events), messagesOf(all.slice(load.after, load.after + load.limit)));
        same([alone!.revision, alone!.more], [all.length, all.length > load.after + load.limit]);
      }
    },
  },
  {
    name: "names are data",
    async run(subject) {
      const streams = NAMES.flatMap((type, index) => [
        [type, NAMES.at(index - 1)!],
        ["a", type],
        ["a/b", type],
      ]);
      // They would be one if type and id were joined.
      for (const between of ["/", ":", ",", "|", "-", "_", "#", ".", " ", '","']) streams.push([`a${between}b`, "c"], ["a", `b${between}c`]);
      const commits = streams.map(([aggregateType, aggregateId], index) =>
        commit(aggregateId!, 0, [event(`type ${aggregateType!}`, [aggregateType!, `#${index}`])], {
          aggregateType: aggregateType!,
          commandId: JSON.stringify([aggregateType, aggregateId, index]),
          correlationId: aggregateType!,
          causationId: aggregateId!,
          actor: aggregateId!,
        }),
      );
      const seen = new Set<string>();
      const distinct = commits.filter((commit) => {
        const key = JSON.stringify([commit.aggregateType, commit.aggregateId]);
        return !seen.has(key) && seen.add(key);
      });
      await subject.accept(...distinct);
      const log = await subject.log();
      same(
        log.map(({ aggregateType, aggregateId, actor, causationId, tags }) => [
          aggregateType,
          aggregateId,
          actor,
          causationId,
          tags,
        ]),
        distinct.map(({ aggregateType, aggregateId, actor, causationId, events }) => [
          aggregateType,
          aggregateId,
          actor,
          causationId,
          JSON.stringify(events[0]!.tags),
        ]),
      );
      for (const [index, { aggregateType, aggregateId, commandId, hash }] of distinct.entries()) {
        const { streams, commands } = await subject.load({
          streams: [{ ...wholeStream, aggregateType, aggregateId }],
          commands: [commandId],
        });
        same(positions(streams[0]!.events as { position: number }[]), [index + 1], aggregateType);
        same(commands[0]?.hash, hash);
      }
      for (const name of NAMES) {
        const { queries } = await subject.load({
          queries: [
            { query: anyTag(name), after: 0 },
            { query: [{ types: [`type ${name}`], tags: [] }], after: 0 },
          ],
        });
        const expected = positions(log.filter((event) => event.aggregateType === name));
        for (const events of queries) same(positions(events), expected, name);
        for (const filter of [{ tags: [name] }, { types: [`type ${name}`] }, { aggregateTypes: [name] }, { correlationId: name }])
          same(positions(await subject.log(filter)), expected, JSON.stringify(filter));
      }
    },
  },
  {
    name: "names of collections, keys, indexes and their values are data",
    async run(subject) {
      const nth = (index: number) => NAMES.at(index % NAMES.length)!;
      const documents = NAMES.flatMap((name, index) => [
        { collection: name, key: "k", revision: index + 1, value: JSON.stringify(name), postings: [[nth(index + 1), nth(index + 2)]] as const },
        { collection: "keys", key: name, revision: index + 1, value: "1", postings: [["of", name], [name, "v"]] as const },
      ]);
      await subject.save(...documents);
      for (const { collection, key, revision, value, postings } of documents) {
        const names = [{ collection, key }];
        const index = postings.at(-1)!;
        const scans = [
          { collection, from: key, to: `${key}\0` },
          { collection, index: index[0], from: index[1], to: `${index[1]}\0` },
        ];
        const found = await subject.read({ names, scans });
        const what = JSON.stringify([collection, key]);
        same(found.documents, [{ revision, value }], what);
        same(found.scans[0]!.documents, [{ at: key, key, revision, value }], what);
        same(found.scans[1]!.documents, [{ at: index[1], key, revision, value }], what);
      }
      for (const [index, name] of NAMES.entries()) {
        const [found] = (await subject.read({ scans: [{ collection: "keys", index: "of", from: name, to: `${name}\0`, limit: null }] })).scans;
        same(found!.count, 1, name);
        const expected = [{ collection: "keys", key: name, revision: index + 1 }];
        same(await subject.change({ expected, clear: [name], documents: [{ ...expected[0]!, value: null }] }), null, name);
      }
      const names = documents.map(({ collection, key }) => ({ collection, key }));
      same((await subject.read({ names })).documents, names.map(() => null));
    },
  },
];

/** Appends these as payloads, and reads them in every way there is. */
async function expectKept(subject: Subject, texts: readonly string[]): Promise<void> {
  const extra = '{"ip":"\\u0000","n":1.0}';
  await subject.accept(commit("a-1", 0, texts.map((data) => event("AppointmentBooked", ["t"], { data })), { extra }));
  const found = await subject.events("Appointment", "a-1");
  const dataOf = (events: readonly { readonly data: string }[]) => events.map(({ data }) => data);
  same(dataOf(found), texts);
  same(found[0]!.extra, extra);
  same(dataOf(await subject.log({ limit: 2 })), texts);
  const { queries, streams } = await subject.load({
    queries: [{ query: anyTag("t"), after: 0 }],
    streams: [{ ...wholeStream, aggregateType: "Appointment", aggregateId: "a-1", whole: false }],
  });
  same(dataOf(queries[0]!), texts);
  same(messagesOf(streams[0]!.events).data, `[${texts.join(",\n")}]`);
}
