/** Several adapters, and several processes, on one store. */
import { same } from "../expect.js";
import { countOf, countTo, race } from "../job.js";
import type { Place, Rule } from "../rule.js";
import { commit, type Committed, event, START, Subject, until, wholeStream } from "../subject.js";
import { firstOf } from "./appends.js";
import { takeOver } from "./documents.js";
import { expectNoneBehind } from "./following.js";
import { anyTag, condition, kinds, nameOf, positions, snapshot, upTo, view } from "./words.js";

const TEN_YEARS = 3653 * 24 * 60 * 60 * 1000;

const others = async ({ another }: Place, count: number): Promise<Subject[]> => {
  const all: Subject[] = [];
  for (let index = 0; index < count; index += 1) all.push(await another());
  return all;
};

export const sharing: readonly Rule[] = [
  {
    name: "another adapter on the same store sees what was appended",
    needs: "connections",
    async run(subject, place) {
      const other = await place.another();
      same(other.info, subject.info);
      await subject.accept(commit("a-1", 0, [event(), event()]));
      same((await other.slice("Appointment", "a-1")).revision, 2);
      await other.accept(commit("a-1", 2, [event()]));
      same((await subject.log()).length, 3);
      await subject.save(snapshot("a-1", 2));
      same((await other.slice("Appointment", "a-1", { snapshot: "a-1" })).snapshot, {
        revision: 2,
        value: '{"at":2}',
      });
      await other.storage.close();
      same((await subject.log()).length, 3);
    },
  },
  {
    name: "another adapter on the same store is told of appends without asking, until it stops listening",
    needs: "notification to connections",
    async run(subject, place) {
      const other = await place.another();
      const told: (number | undefined)[] = [];
      const stop = other.storage.subscribe!((position) => told.push(position));
      await subject.accept(commit("a-1", 0, [event(), event()]));
      await until(() => told.length > 0);
      await subject.accept(commit("a-2", 0, [event()]));
      const before = told.length;
      await until(() => told.includes(3) || told.slice(before).includes(undefined));
      for (const position of told) same(position === undefined || (position >= 1 && position <= 3), true, `told ${position}`);
      stop();
      // Who comes later is told of what comes later.
      const later: (number | undefined)[] = [];
      const stopLater = other.storage.subscribe!((position) => later.push(position));
      const after = told.length;
      await subject.accept(commit("a-3", 0, [event()]));
      await until(() => later.length > 0);
      stopLater();
      same(told.length, after);
    },
  },
  {
    name: "a command that another adapter gives again ten years later gets its first outcome, and with other content it is told",
    needs: "connections",
    async run(subject, place) {
      const sent = [commit("a-1", 0, [event(), event()]), commit("a-2", 0, [event()])];
      const verdicts = await subject.accept(...sent);
      const [other] = await others(place, 1);
      other!.now = START + TEN_YEARS;
      const firsts = sent.map((one, index) => firstOf(one, verdicts[index]!));
      same(await other!.append(sent), firsts.map((first) => ({ kind: "duplicate", first })));
      const reused = commit("a-3", 0, [event()], { commandId: sent[1]!.commandId });
      same(await other!.append([reused]), [{ kind: "command-id-reused", first: firsts[1] }]);
      same((await other!.log()).length, 3);
    },
  },
  {
    name: "an append that several adapters send at once is applied once",
    needs: "connections",
    async run(subject, place) {
      const adapters = [subject, ...(await others(place, 2))];
      for (let round = 0; round < 5; round += 1) {
        const sent = [commit(`a-${round}`, 0, [event(), event()]), commit(`b-${round}`, 0, [event()])];
        const answers = await Promise.all(adapters.map((adapter) => adapter.append(sent)));
        const found = answers.map((verdicts) => kinds(verdicts).join());
        same(found.sort(), ["committed,committed", "duplicate,duplicate", "duplicate,duplicate"]);
        same((await subject.log()).length, 3 * (round + 1));
      }
    },
  },
  {
    name: "what the judge learns is never stale, whoever appended last",
    needs: "connections",
    async run(subject, place) {
      const adapters = [subject, ...(await others(place, 1))];
      for (let revision = 0; revision < 8; revision++) {
        const [one, other] = revision % 3 === 0 ? adapters : [...adapters].reverse();
        await one!.slice("Appointment", "a-1");
        await other!.slice("Appointment", "a-1");
        await one!.accept(commit("a-1", revision, [event("AppointmentBooked", ["x"])]));
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
    },
  },
  {
    name: "of adapters that race for a stream one wins each time, and nothing is lost",
    needs: "connections",
    async run(subject, place) {
      const racers = [subject, ...(await others(place, 2))];
      await Promise.all(racers.map((racer) => race(racer, "hot", 15)));
      const events = await subject.events("Appointment", "hot");
      same(
        events.map(({ revision }) => revision),
        upTo(45),
      );
    },
  },
  {
    name: "of adapters that rest on one tag one wins, and the others learn its position",
    needs: "connections",
    async run(subject, place) {
      const adapters = [subject, ...(await others(place, 2))];
      for (let round = 0; round < 8; round += 1) {
        const tag = `slot:${round}`;
        const { head } = await subject.load({});
        const answers = await Promise.all(
          adapters.map(async (adapter, index) => {
            const sent = commit(`${round}-${index}`, 0, [event("AppointmentBooked", [tag])], condition(anyTag(tag), head));
            return (await adapter.append([sent]))[0]!;
          }),
        );
        const won = answers.filter((verdict): verdict is Committed => verdict.kind === "committed");
        same(won.length, 1, `winners of ${tag}`);
        const lost = answers.filter((verdict) => verdict !== won[0]);
        same(lost, Array(2).fill({ kind: "conflict", reason: "matched", at: won[0]!.position }));
      }
      same((await subject.log()).length, 8);
    },
  },
  {
    name: "no event comes behind a position that has been read, however appends of several adapters overlap",
    needs: "connections",
    async run(subject, place) {
      const all = await others(place, 5);
      await expectNoneBehind([subject, ...all.slice(0, 3)], all.slice(3), 10);
    },
  },
  {
    name: "loads are of one moment while another adapter appends",
    needs: "connections",
    async run(subject, place) {
      const [other] = await others(place, 1);
      const rounds = 20;
      const ids = ["a-1", "a-2"];
      const write = async () => {
        for (let round = 0; round < rounds; round += 1)
          await other!.accept(...ids.map((id) => commit(id, round, [event("AppointmentBooked", ["both"])])));
      };
      const read = async () => {
        for (let head = 0; head < 2 * rounds;) {
          const streams = ids.map((aggregateId) => ({ ...wholeStream, aggregateType: "Appointment", aggregateId }));
          const loaded = await subject.load({ streams, queries: [{ query: anyTag("both"), after: 0 }] });
          head = loaded.head;
          same(positions(loaded.queries[0]!), upTo(head));
          same(loaded.streams.map(({ revision }) => revision), [head / 2, head / 2]);
          await new Promise((resolve) => setTimeout(resolve, 0));
        }
      };
      await Promise.all([write(), read()]);
    },
  },
  {
    name: "another adapter on the same store sees what documents are, and what is expected of them",
    needs: "connections",
    async run(subject, place) {
      const [other] = await others(place, 1);
      await subject.save(view("x", 1, [["of", "v"]]));
      const expected = [{ ...nameOf(view("x")), revision: 1 }];
      same(await other!.change({ expected, documents: [view("x", 2, [["of", "w"]])] }), null);
      same(await subject.change({ expected, documents: [view("x", 3)] }), { index: 0, actual: 2 });
      for (const adapter of [subject, other!]) {
        const scans = [{ collection: "agenda", index: "of" }];
        same((await adapter.read({ scans })).scans[0]!.documents, [{ at: "w", key: "x", revision: 2, value: '{"at":2}' }]);
      }
    },
  },
  {
    name: "a lease: an adapter that was taken for dead can't write any more, and changes nothing by trying",
    needs: "connections",
    run: async (subject, place) => takeOver(subject, (await others(place, 1))[0]!),
  },
  {
    name: "adapters that count in one document lose nothing",
    needs: "connections",
    async run(subject, place) {
      const all = [subject, ...(await others(place, 2))];
      await Promise.all(all.map((one) => countTo(one, 15)));
      same((await subject.read({ names: [{ collection: "agenda", key: "sum" }] })).documents, [{ revision: 45, value: "45" }]);
    },
  },
  {
    name: "processes that race for a stream lose nothing",
    needs: "processes",
    async run(subject, { elsewhere }) {
      const away = [1, 2].map(() => elsewhere({ kind: "race", aggregateId: "hot", times: 40 }));
      await Promise.all([...away, race(subject, "hot", 40)]);
      const events = await subject.events("Appointment", "hot");
      same(
        events.map(({ revision }) => revision),
        upTo(120),
      );
    },
  },
  {
    name: "processes that count in one document lose nothing",
    needs: "processes",
    async run(subject, { elsewhere }) {
      const away = [1, 2].map(() => elsewhere({ kind: "count", times: 40 }));
      await Promise.all([...away, countTo(subject, 40)]);
      same(await countOf(subject), 120);
    },
  },
  {
    name: "a command that another process gives again ten years later gets its first outcome, and with other content it is told",
    needs: "processes",
    async run(subject, { elsewhere }) {
      const sent = commit("a-1", 0, [event(), event()]);
      const [verdict] = await subject.accept(sent);
      const first = firstOf(sent, verdict!);
      const reused = commit("a-2", 0, [event()], { commandId: sent.commandId });
      const { verdicts } = await elsewhere({ kind: "append", commits: [sent, reused], now: START + TEN_YEARS });
      same(verdicts, [
        { kind: "duplicate", first },
        { kind: "command-id-reused", first },
      ]);
      same((await subject.log()).length, 2);
      // And the other way round.
      const away = commit("a-2", 0, [event()]);
      const answered = await elsewhere({ kind: "append", commits: [away], now: START });
      const expected = { kind: "duplicate", first: firstOf(away, answered.verdicts![0] as Committed) };
      same(await subject.append([away]), [expected]);
    },
  },
  {
    name: "an adapter is told of what another process appends, without asking",
    needs: ["processes", "notification to connections"],
    async run(subject, { elsewhere }) {
      const told: (number | undefined)[] = [];
      const stop = subject.storage.subscribe!((position) => told.push(position));
      await elsewhere({ kind: "append", commits: [commit("a-1", 0, [event()])], now: START });
      await until(() => told.length > 0);
      stop();
    },
  },
];
