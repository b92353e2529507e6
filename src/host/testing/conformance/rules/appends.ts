/** What becomes of commits. */
import type { FirstOutcome, Verdict } from "../../../storage.js";
import { fails, same } from "../expect.js";
import { judge } from "../judge.js";
import type { Rule } from "../rule.js";
import { commit, type Committed, event, pause, someEvents, START, until, wholeStream } from "../subject.js";
import { expectNoneBehind } from "./following.js";
import { anyTag, condition, iso, kinds, positions, upTo } from "./words.js";

export const appends: readonly Rule[] = [
  {
    name: "a new store is empty, and says what it is",
    async run({ storage, info }, { capabilities }) {
      same(info.head, 0);
      same(info.epoch.length > 0, true);
      const known = ["memory", "process-crash", "power-loss", "replicated"];
      same(known.includes(info.durability), true, `the durability ${info.durability} is known`);
      if (capabilities.durability !== undefined) same(info.durability, capabilities.durability, "the durability that is declared");
      same(await storage.open(), info);
      same(storage.subscribe !== undefined, capabilities.notification !== undefined, "whether notification is declared");
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
      const only = (found: readonly object[]) =>
        found.map((event) =>
          Object.fromEntries(Object.keys(expected[0]!).map((key) => [key, (event as Record<string, unknown>)[key]])),
        );
      same(only(await subject.events("Appointment", "a-1")), expected);
      same(only(await subject.log()), expected);
      const loaded = await subject.load({ queries: [{ query: anyTag("a"), after: 0 }] });
      same(only(loaded.queries[0]!), [expected[1]]);
    },
  },
  {
    name: "what a command does not say is null, and comes back as null",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event("Noted", [])]));
      const [found] = await subject.log();
      const { causationId, actor, extra, tags, correlationId, commandId } = found!;
      same([causationId, actor, extra, tags, correlationId], [null, null, null, "[]", commandId]);
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
    name: "the judge is asked once, and what it says is what is written and what is answered",
    asksJudge: true,
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      const commits = [commit("a-1", 1, [event()]), commit("a-1", 0, [event()]), commit("a-2", 0, [event(), event()])];
      let asked = 0;
      let said: Verdict[] = [];
      // Later than the store's last event by less than a second.
      const at = START + 7;
      const verdicts = await subject.appendWith(commits, (facts) => {
        asked += 1;
        return (said = judge(commits, facts, at));
      });
      same([asked, kinds(said)], [1, ["committed", "conflict", "committed"]]);
      same(verdicts, said);
      const log = await subject.log();
      same(
        log.map(({ aggregateId, revision, recordedAt }) => [aggregateId, revision, recordedAt]),
        [
          ["a-1", 1, iso(START)],
          ["a-1", 2, iso(at)],
          ["a-2", 1, iso(at)],
          ["a-2", 2, iso(at)],
        ],
      );
      same((await subject.facts(commit("a-1", 0, [event()]))).lastRecordedAt, at);
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
      same(verdicts.map(summaryOf), [
        ["committed", 1, null, null],
        ["conflict", null, "revision", 1],
        ["committed", 2, null, null],
        ["conflict", null, "matched", 1],
        ["duplicate", null, null, null],
        ["command-id-reused", null, null, null],
        ["committed", 4, null, null],
      ]);
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
    name: "an append without commits is answered, and changes nothing",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      const before = await subject.log();
      same(await subject.append([]), []);
      same(await subject.log(), before);
      same((await subject.facts()).commits, []);
    },
  },
  {
    name: "an append of which nothing is accepted changes nothing",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      const before = await subject.log();
      subject.now += 60_000;
      const refused = commit("a-1", 0, [event("AppointmentBooked", ["t"])]);
      same(kinds(await subject.append([refused])), ["conflict"]);
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
    name: "every revision that is expected is accepted where it is the stream's, and refused with the stream's where it is not",
    async run(subject) {
      // Others whose names are nearly the same, and which have other revisions.
      const neighbours = [
        commit("a-1", 0, someEvents(3), { aggregateType: "Appointments" }),
        commit("a-11", 0, someEvents(4)),
        commit("A-1", 0, someEvents(5)),
        commit("a-1 ", 0, someEvents(6)),
      ];
      await subject.accept(...neighbours);
      let revision = 0;
      for (const count of [1, 3, 1, 2]) {
        for (const expected of [0, 1, revision - 1, revision + 1, revision + count, 1_000_000]) {
          if (expected < 0 || expected === revision) continue;
          const [verdict] = await subject.append([commit("a-1", expected, [event()])]);
          same(verdict, { kind: "conflict", reason: "revision", at: revision }, `${expected} expected at ${revision}`);
        }
        await subject.accept(commit("a-1", revision, someEvents(count)));
        revision += count;
      }
      same((await subject.events("Appointment", "a-1")).map((event) => event.revision), upTo(revision));
      // Those have gone on from where they were.
      const revisions = [3, 4, 5, 6];
      await subject.accept(
        ...neighbours.map(({ aggregateType, aggregateId }, index) => commit(aggregateId, revisions[index]!, [event()], { aggregateType })),
      );
      // Also what the commit before it leaves.
      const verdicts = await subject.append([
        commit("a-1", revision, [event()]),
        commit("a-1", { after: 0 }, [event(), event()]),
        commit("a-1", { after: 0 }, [event()]),
        commit("a-2", { after: 2 }, [event()]),
        commit("a-1", { after: 1 }, [event()]),
      ]);
      same(verdicts.map(summaryOf).map(([kind, , reason, at]) => [kind, reason, at]), [
        ["committed", null, null],
        ["committed", null, null],
        ["conflict", "revision", revision + 3],
        ["conflict", "neighbour", 2],
        ["committed", null, null],
      ]);
      same((await subject.slice("Appointment", "a-1")).revision, revision + 4);
    },
  },
  {
    name: "a judge that throws is heard, and nothing is applied",
    asksJudge: true,
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      for (const reason of [new Error("no longer wanted"), new DOMException("given up", "AbortError")]) {
        let asked = 0;
        const judge = () => {
          asked++;
          throw reason;
        };
        const error = await fails(() => subject.appendWith([commit("a-1", 1, [event()])], judge), {});
        same([(error as unknown) === reason, asked], [true, 1]);
      }
      same((await subject.slice("Appointment", "a-1")).revision, 1);
      await subject.accept(commit("a-1", 1, [event()]));
    },
  },
  {
    name: "a command's first outcome is remembered whatever comes after",
    async run(subject) {
      const sent = commit("a-1", 0, [event(), event()]);
      const [, verdict] = await subject.accept(commit("a-0", 0, [event()]), sent);
      subject.now += 5000;
      for (let revision = 2; revision < 6; revision++)
        await subject.accept(commit("a-1", revision, [event()]));
      await subject.accept(...Array.from({ length: 200 }, (_, index) => commit(`b-${index}`, 0, someEvents(3))));
      const first = firstOf(sent, verdict!);
      const { commands } = await subject.load({ commands: ["unknown", sent.commandId, "unknown"] });
      same(commands, [null, first, null]);
      same(await subject.append([sent]), [{ kind: "duplicate", first }]);
    },
  },
  {
    name: "a command that is given again ten years later gets its first outcome, and appends nothing",
    async run(subject) {
      const sent = [commit("a-1", 0, [event(), event()]), commit("a-2", 0, [event()])];
      const verdicts = await subject.accept(...sent);
      subject.now += TEN_YEARS;
      await subject.accept(commit("a-1", 2, [event()]));
      const log = await subject.log();
      const firsts = sent.map((one, index) => ({ kind: "duplicate", first: firstOf(one, verdicts[index]!) }));
      same(await subject.append(sent), firsts);
      // Also where it would be refused, or comes along with others.
      same(await subject.append([commit("a-3", 9, [event()]), ...[...sent].reverse()]).then((all) => all.slice(1)), firsts.reverse());
      same(await subject.log(), log);
    },
  },
  {
    name: "a command id that is given again with other content is told, with what it was first, and appends nothing",
    async run(subject) {
      const sent = commit("a-1", 0, [event(), event()]);
      const [verdict] = await subject.accept(sent);
      const first = firstOf(sent, verdict!);
      for (const other of [
        commit("a-1", 2, [event()], { commandId: sent.commandId }),
        commit("a-2", 0, [event()], { commandId: sent.commandId }),
        commit("a-1", 0, [event()], { commandId: sent.commandId, aggregateType: "Invoice" }),
      ]) {
        same(await subject.append([other]), [{ kind: "command-id-reused", first }]);
        same((await subject.slice(other.aggregateType, other.aggregateId)).revision, other.aggregateId === "a-1" && other.aggregateType === "Appointment" ? 2 : 0);
      }
      same((await subject.log()).length, 2);
    },
  },
  {
    name: "command ids are found among others, however they sort",
    async run(subject) {
      const ids = ["\uffff", "😀", "é", "a", "Z", "0", "~"].map((text) => `${text} id`);
      const sent = ids.map((commandId, index) => commit(`a-${index}`, 0, [event()], { commandId }));
      await subject.accept(...sent.slice(1, 4));
      const some = [sent[0]!, sent[2]!, sent[5]!];
      same(kinds(await subject.append(some)), ["committed", "duplicate", "committed"]);
      const again = await subject.append([sent[1]!, sent[0]!]);
      same(kinds(again), ["duplicate", "duplicate"]);
      const loaded = await subject.load({ commands: ids });
      same(
        loaded.commands.map((first) => first?.position ?? null),
        [4, 1, 2, 3, null, 5, null],
      );
    },
  },
  {
    name: "large batches are one append and one load",
    async run(subject) {
      const ids = Array.from({ length: 512 }, (_, index) => `a-${index}`);
      const sent = ids.map((id) =>
        commit(id, 0, [event("AppointmentBooked", [`slot ${id}`])], condition(anyTag(`slot ${id}`), 0)),
      );
      await subject.accept(...sent);
      const { streams, commands, queries } = await subject.load({
        commands: sent.map(({ commandId }) => commandId),
        streams: ids.map((aggregateId) => ({ ...wholeStream, aggregateType: "Appointment", aggregateId })),
        queries: [{ query: anyTag(...ids.map((id) => `slot ${id}`)), after: 0 }],
      });
      same(
        streams.map(({ events }) => (events as { aggregateId: string }[]).map(({ aggregateId }) => aggregateId)),
        ids.map((id) => [id]),
      );
      same(
        commands.map((first) => first?.position),
        ids.map((_, index) => index + 1),
      );
      same(
        queries[0]!.map(({ aggregateId }) => aggregateId),
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
        queries[0]!.map(({ tags }) => tags),
        ['["t","t"]'],
      );
    },
  },
  {
    name: "requests under way together don't disturb each other",
    async run(subject) {
      const append = () => subject.append([commit("hot", 0, [event()]), commit("a-0", 0, [event()])]);
      const all = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          index % 5 === 4 ? subject.slice("Appointment", "hot") : append(),
        ),
      );
      const verdicts = all.filter((one): one is Verdict[] => Array.isArray(one));
      same(verdicts.filter(([verdict]) => verdict!.kind === "committed").length, 1);
      same((await subject.slice("Appointment", "hot")).revision, 1);
      same(positions(await subject.log()), [1, 2]);
    },
  },
  {
    name: "of appends under way together for one stream one wins, and the others learn the revision",
    async run(subject) {
      const answers = await Promise.all(Array.from({ length: 16 }, () => subject.append([commit("hot", 0, [event(), event()])])));
      const [won, lost] = divided(answers);
      same(won.length, 1);
      same(lost, Array(15).fill({ kind: "conflict", reason: "revision", at: 2 }));
      same((await subject.log()).length, 2);
    },
  },
  {
    name: "of appends under way together that rest on one tag one wins, and the others learn its position",
    async run(subject) {
      await subject.accept(commit("before", 0, [event("AppointmentBooked", ["slot"])]));
      const answers = await Promise.all(
        Array.from({ length: 16 }, (_, index) =>
          subject.append([
            commit(`noise-${index}`, 0, [event()]),
            commit(`a-${index}`, 0, [event("AppointmentBooked", ["slot", `#${index}`])], condition(anyTag("slot"), 1)),
          ]),
        ),
      );
      const [won, lost] = divided(answers.map((verdicts) => verdicts.slice(1)));
      same(won.length, 1);
      same(lost, Array(15).fill({ kind: "conflict", reason: "matched", at: won[0]!.position }));
      const { queries } = await subject.load({ queries: [{ query: anyTag("slot"), after: 1 }] });
      same(positions(queries[0]!), [won[0]!.position]);
    },
  },
  {
    name: "an append that is sent again, before or after the answer, is applied once",
    async run(subject) {
      for (let round = 0; round < 5; round += 1) {
        const sent = [commit(`a-${round}`, 0, [event(), event()]), commit(`b-${round}`, 0, [event("AppointmentBooked", ["x"])])];
        const answers = await Promise.all([subject.append(sent), subject.append(sent), subject.append(sent)]);
        answers.push(await subject.append(sent));
        const found = answers.map(kinds);
        same(found.filter((all) => all.every((kind) => kind === "committed")).length, 1);
        same(found.filter((all) => all.every((kind) => kind === "duplicate")).length, 3);
        const committed = answers.find(([verdict]) => verdict!.kind === "committed") as Committed[];
        const firsts = sent.map((one, index) => ({ kind: "duplicate", first: firstOf(one, committed[index]!) }));
        for (const answer of answers) if (answer !== committed) same(answer, firsts);
        same((await subject.log()).length, 3 * (round + 1));
      }
    },
  },
  {
    name: "no event comes behind a position that has been read, however appends overlap",
    async run(subject) {
      await expectNoneBehind([subject, subject, subject, subject], [subject, subject], 12);
    },
  },
  {
    name: "those who share the adapter are told of appends, until they stop listening",
    needs: "notification",
    async run(subject) {
      const told: (number | undefined)[] = [];
      const stop = subject.storage.subscribe!((position) => told.push(position));
      const answer = subject.append([commit("a-1", 0, [event(), event()])]);
      same(told, [], "told while the append is under way");
      await answer;
      await until(() => told.length > 0);
      same(told.at(-1) ?? 2, 2);
      await subject.append([commit("a-1", 0, [event()])]);
      stop();
      stop();
      const before = told.length;
      await subject.accept(commit("a-1", 2, [event()]));
      await pause();
      same(told.length, before);
    },
  },
];

const TEN_YEARS = 3653 * 24 * 60 * 60 * 1000;

/** What the store remembers of a commit that came to this. */
export function firstOf({ hash, aggregateType, aggregateId }: ReturnType<typeof commit>, verdict: Committed): FirstOutcome {
  const { kind: _, ...summary } = verdict;
  return { hash, aggregateType, aggregateId, ...summary };
}

function summaryOf(verdict: Verdict): (string | number | null)[] {
  const { kind, position = null, reason = null, at = null } = verdict as { kind: string; position?: number; reason?: string; at?: number };
  return [kind, position, reason, at];
}

/** The first verdicts of appends: those who won and those who did not. */
function divided(answers: readonly (readonly Verdict[])[]): [Committed[], Verdict[]] {
  const verdicts = answers.map(([verdict]) => verdict!);
  const isCommitted = (verdict: Verdict): verdict is Committed => verdict.kind === "committed";
  return [verdicts.filter(isCommitted), verdicts.filter((verdict) => !isCommitted(verdict))];
}
