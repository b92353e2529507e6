/** Opening, closing, and stores that become others. */
import { ensure, fails, same } from "../expect.js";
import type { Rule } from "../rule.js";
import { commit, event, START, Subject, wholeLog } from "../subject.js";
import { firstOf } from "./appends.js";
import { anyTag, kinds, positions, snapshot, view } from "./words.js";

const neverAsked = () => {
  throw new Error("the judge was asked");
};

export const lifetimes: readonly Rule[] = [
  {
    name: "requests for another store are refused, and nothing is applied",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event()]));
      const epoch = `${subject.epoch}x`;
      const refusal = { code: "foreign-epoch", retryable: false, mayBeApplied: false };
      const { storage } = subject;
      await fails(
        () => storage.append({ epoch, now: subject.now, commits: [commit("a-1", 1, [event()])] }, neverAsked),
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
    name: "a request after closing opens the store again",
    async run(subject) {
      await subject.accept(commit("a-1", 0, [event("AppointmentBooked", ["t"])]));
      await subject.save(view("x"));
      const asks: readonly (() => Promise<unknown>)[] = [
        async () => same((await subject.slice("Appointment", "a-1")).revision, 1),
        async () => same(positions((await subject.load({ queries: [{ query: anyTag("t"), after: 0 }] })).queries[0]!), [1]),
        async () => same(positions(await subject.log()), [1]),
        async () => same((await subject.read({ names: [view("x")] })).documents[0]?.revision, 1),
        async () => same(await subject.change({ documents: [view("y")] }), null),
        async () => same(kinds(await subject.append([commit("a-1", 0, [event()])])), ["conflict"]),
        async () => same(kinds(await subject.append([commit("a-1", 1, [event()])])), ["committed"]),
      ];
      for (const ask of asks) {
        await subject.storage.close();
        await ask();
      }
      await subject.storage.close();
      await Promise.all(asks.slice(3, 5).map((ask) => ask()));
    },
  },
  {
    name: "requests that are under way when the adapter is closed are answered, or fail and say what became of them",
    async run(subject) {
      const sent = Array.from({ length: 6 }, (_, index) => commit(`a-${index}`, 0, [event()]));
      const appends = sent.map((one) => subject.append([one]));
      const others = [subject.page(), subject.load({}), subject.read({}), subject.change({ documents: [view("x")] })];
      const closing = Promise.all([subject.storage.close(), subject.storage.close()]);
      const all = await Promise.allSettled([...appends, ...others]);
      await closing;
      for (const one of all) {
        if (one.status === "fulfilled") continue;
        const { name, code } = one.reason as { name?: unknown; code?: unknown };
        same([name, typeof code], ["StorageFailure", "string"], String(one.reason));
      }
      const again = await Subject.open(subject.storage);
      const { commands } = await again.load({ commands: sent.map(({ commandId }) => commandId) });
      for (const [index, first] of commands.entries()) {
        const one = all[index]!;
        if (one.status === "fulfilled") ensure(first !== null, `append ${index} was acknowledged and is lost`);
        else if ((one.reason as { mayBeApplied: boolean }).mayBeApplied) continue;
        else ensure(first === null, `append ${index} is said not to be applied, and is there`);
      }
    },
  },
  {
    name: "what was written is there when every adapter was closed and the store is opened again",
    needs: "reopening",
    async run(subject, { reopen, subjectOf }) {
      const sent = [
        commit("a-1", 0, [event("AppointmentBooked", ["t"]), event()], { actor: "reception", extra: '{"n":1.0}' }),
        commit("a-2", 0, [event("AppointmentBooked", ["t"], { schemaVersion: 3 })]),
      ];
      const verdicts = await subject.accept(...sent);
      await subject.save(view("x", 7, [["of", "v"]], '{"n":1.0}'), snapshot("a-1", 1));
      const log = await subject.log();
      await subject.storage.close();

      for (let time = 0; time < 2; time += 1) {
        const again = await subjectOf(await reopen());
        same(again.info, { ...subject.info, head: 3 });
        same(await again.log(), log);
        const { commands, queries } = await again.load({
          commands: sent.map(({ commandId }) => commandId),
          queries: [{ query: anyTag("t"), after: 0 }],
        });
        same(commands, sent.map((one, index) => firstOf(one, verdicts[index]!)));
        same(positions(queries[0]!), [1, 3]);
        const slice = await again.slice("Appointment", "a-1", { snapshot: "a-1" });
        same([slice.snapshot?.revision, (slice.events as unknown[]).length, slice.revision], [1, 1, 2]);
        const scans = [{ collection: "agenda", index: "of" }];
        same((await again.read({ scans })).scans[0]!.documents, [{ at: "v", key: "x", revision: 7, value: '{"n":1.0}' }]);
        same(kinds(await again.append(sent)), ["duplicate", "duplicate"]);
        const facts = await again.facts(commit("a-1", 0, [event()]));
        same([facts.head, facts.lastRecordedAt, facts.commits[0]!.revision], [3, START, 2]);
        await again.storage.close();
      }
      const last = await subjectOf(await reopen());
      same((await last.accept(commit("a-1", 2, [event()])))[0]!.position, 4);
    },
  },
  {
    name: "a store that was replaced under the adapter is told from the first",
    needs: "restoring",
    replacesStore: true,
    async run(subject, { restore }) {
      await subject.accept(commit("a-1", 0, [event()]));
      await subject.save(view("x"));
      await restore();
      await fails(() => subject.appendWith([commit("a-1", 1, [event()])], neverAsked), { code: "foreign-epoch" });
      await fails(() => subject.log(), { code: "foreign-epoch" });
      await fails(() => subject.load({}), { code: "foreign-epoch" });
      await fails(() => subject.change({ documents: [view("x", 2)] }), { code: "foreign-epoch" });
      await fails(() => subject.read({ names: [view("x")] }), { code: "foreign-epoch" });
      const found = await Subject.open(subject.storage);
      same([found.info.head, found.epoch === subject.epoch], [0, false]);
      same((await found.read({ names: [view("x")] })).documents, [null]);
      await found.accept(commit("a-1", 0, [event()]));
      same((await found.slice("Appointment", "a-1")).revision, 1);
    },
  },
  {
    name: "a store that an earlier release has written is read, and goes on in today's form",
    needs: "migration",
    async run(_, { older, subjectOf }) {
      for (const { format, storage, log, reopen } of await older()) {
        ensure(log.length > 0, `the store of format ${format} has events`);
        let subject = await subjectOf(storage);
        same(subject.info.head, log.length, `the head of format ${format}`);
        same(await subject.log(), log, `the log of format ${format}`);
        same(await subject.log({ descending: true, limit: 3 }), [...log].reverse(), `the log of format ${format}, back`);
        for (const { aggregateType, aggregateId, commandId, correlationId, tags, type, position } of log) {
          const ofStream = log.filter((event) => event.aggregateType === aggregateType && event.aggregateId === aggregateId);
          same(await subject.events(aggregateType, aggregateId), ofStream, `a stream of format ${format}`);
          const ofCommand = log.filter((event) => event.commandId === commandId);
          const { commands, queries } = await subject.load({
            commands: [commandId],
            queries: [{ query: [{ types: [type], tags: JSON.parse(tags) as string[] }], after: position - 1 }],
          });
          const first = commands[0];
          same([first?.position, first?.count, first?.revision], [ofCommand[0]!.position, ofCommand.length, ofCommand.at(-1)!.revision]);
          same(queries[0]![0]?.position, position, `what event ${position} of format ${format} matches`);
          const ofCause = log.filter((event) => event.correlationId === correlationId);
          same(await subject.log({ correlationId }), ofCause, `what came of one cause in format ${format}`);
        }
        // It goes on, and is the same when it is opened again.
        const { aggregateType, aggregateId, revision, commandId } = log.at(-1)!;
        const hash = (await subject.load({ commands: [commandId] })).commands[0]!.hash;
        const repeated = commit(aggregateId, 0, [event()], { aggregateType, commandId, hash });
        same(kinds(await subject.append([repeated])), ["duplicate"]);
        subject.now = Math.max(START, Date.parse(log.at(-1)!.recordedAt));
        await subject.accept(commit(aggregateId, revision, [event("AppointmentBooked", ["new"])], { aggregateType }));
        await subject.save(view("x", 1, [["of", "v"]]));
        const after = await subject.log();
        await storage.close();
        subject = await subjectOf(await reopen());
        same(await subject.log(), after);
        same((await subject.read({ scans: [{ collection: "agenda", index: "of" }] })).scans[0]!.documents.length, 1);
      }
    },
  },
];
