/** What goes wrong: it is told as what it is, and what was not acknowledged is either there or not. */
import type { StorageCode } from "../../../storage.js";
import { ensure, fails, same } from "../expect.js";
import type { Fault, Rule } from "../rule.js";
import { commit, event, pause, Subject } from "../subject.js";
import { followed } from "./following.js";
import { kinds, positions, view } from "./words.js";

const CODES: readonly StorageCode[] = [
  "storage-failed",
  "storage-busy",
  "storage-full",
  "storage-closed",
  "foreign-epoch",
  "storage-timed-out",
  "unknown-format",
];

/** Does something while it is so. */
async function during<T>(fault: Fault, action: () => Promise<T>): Promise<T> {
  await fault.begin();
  try {
    return await action();
  } finally {
    await fault.end();
  }
}

/** The failure of a driver, which says what the driver has said. */
async function failsAs(action: () => unknown, expected: { readonly [property: string]: unknown }): Promise<void> {
  const failure = await fails(action, { name: "StorageFailure", ...expected });
  ensure(CODES.includes(failure["code"] as StorageCode), `the code ${String(failure["code"])} is known`);
  ensure(failure["cause"] !== undefined, "the driver's error is the cause");
  same([typeof failure["retryable"], typeof failure["mayBeApplied"]], ["boolean", "boolean"]);
}

/** What each request is. The store has one event and one document. */
function requestsOf(subject: Subject): { readonly [request: string]: () => Promise<unknown> } {
  return {
    append: () => subject.append([commit("a-1", 1, [event()])]),
    saveDocuments: () => subject.change({ documents: [view("x", 2)] }),
    load: () => subject.slice("Appointment", "a-1"),
    readLog: () => subject.log(),
    readDocuments: () => subject.read({ names: [view("x")] }),
  };
}

const begun = async (subject: Subject): Promise<void> => {
  await subject.accept(commit("a-1", 0, [event()]));
  await subject.save(view("x", 1));
};

/** The store as `begun` has left it, and it goes on. */
async function expectUntouched(subject: Subject): Promise<void> {
  same(positions(await subject.log()), [1]);
  same((await subject.read({ names: [view("x")] })).documents[0]?.revision, 1);
  await subject.accept(commit("a-1", 1, [event()]));
  same(await subject.change({ documents: [view("x", 2)] }), null);
}

export const faults: readonly Rule[] = [
  {
    name: "on a full medium an append fails as full with nothing applied, and what is there is read",
    needs: "full",
    async run(_, place) {
      const { subject, fault } = await place.fault("full");
      await begun(subject);
      const data = JSON.stringify("x".repeat(1024 * 1024));
      const large = commit("a-1", 1, [event(), event("Noted", [], { data })]);
      await during(fault, async () => {
        await failsAs(() => subject.append([large]), { code: "storage-full", retryable: false, mayBeApplied: false });
        const { revision } = await subject.slice("Appointment", "a-1");
        same([revision, (await subject.load({ commands: [large.commandId] })).commands], [1, [null]]);
      });
      await subject.accept(large);
      same(positions(await subject.log()), [1, 2, 3]);
    },
  },
  {
    name: "on a full medium a change of documents fails as full, all of it",
    needs: "full",
    async run(_, place) {
      const { subject, fault } = await place.fault("full");
      await begun(subject);
      const long = JSON.stringify("x".repeat(1024 * 1024));
      const documents = [view("a", 1, [["of", "v"]]), view("b", 1, [["of", "v"]], long), view("c", 1, [["of", "v"]])];
      const counts = async () => {
        const scans = [null, "of"].map((index) => ({ collection: "agenda", index, limit: null }));
        return (await subject.read({ scans })).scans.map(({ count }) => count);
      };
      await during(fault, async () => {
        await failsAs(() => subject.change({ clear: ["agenda"], documents }), { code: "storage-full", mayBeApplied: false });
        same(await counts(), [1, 0]);
      });
      await expectUntouched(subject);
      same(await subject.change({ documents }), null);
      same(await counts(), [4, 3]);
    },
  },
  {
    name: "an append that waits too long for the lock of others fails as busy with nothing applied, and may be sent again",
    needs: "locked",
    async run(_, place) {
      const { subject, fault } = await place.fault("locked");
      await begun(subject);
      const sent = commit("a-1", 1, [event()]);
      const busy = { code: "storage-busy", retryable: true, mayBeApplied: false };
      await during(fault, async () => {
        await failsAs(() => subject.append([sent]), busy);
        await failsAs(() => subject.change({ documents: [view("x", 2)] }), busy);
      });
      same(positions(await subject.log()), [1]);
      same(kinds(await subject.append([sent])), ["committed"]);
      same((await subject.read({ names: [view("x")] })).documents[0]?.revision, 1);
    },
  },
  {
    name: "a driver's error is told with a code and as the cause, whatever was asked, and what is said not to be applied is not",
    needs: "failing",
    async run(_, place) {
      const names = Object.keys(requestsOf(await place.fault("failing").then(({ subject }) => subject)));
      const { subject, fault } = await place.fault("failing");
      await begun(subject);
      const requests = requestsOf(subject);
      for (const name of names) {
        const reads = !["append", "saveDocuments"].includes(name);
        await during(fault, () => failsAs(requests[name]!, reads ? {} : { mayBeApplied: false }));
      }
      await expectUntouched(subject);
    },
  },
  {
    name: "an append whose commit nobody has answered says that it may be applied, and is applied once when it is sent again",
    needs: "unanswered",
    async run(_, place) {
      const { subject, fault } = await place.fault("unanswered");
      await begun(subject);
      const sent = [commit("a-1", 1, [event()]), commit("a-2", 0, [event()])];
      await during(fault, () => failsAs(() => subject.append(sent), { mayBeApplied: true, retryable: true }));
      const { commands } = await subject.load({ commands: sent.map(({ commandId }) => commandId) });
      const isThere = commands[0] !== null;
      same(commands[1] !== null, isThere, "the second commit of one transaction is there as the first is");
      same(kinds(await subject.append(sent)), Array(2).fill(isThere ? "duplicate" : "committed"));
      same(positions(await subject.log()), [1, 2, 3]);
    },
  },
  {
    name: "a lost connection is told or replaced, and nothing that was acknowledged goes with it",
    needs: "disconnected",
    async run(_, place) {
      const { subject, fault } = await place.fault("disconnected");
      await begun(subject);
      const sent = [commit("a-2", 0, [event()]), commit("a-3", 0, [event()])];
      const answers = await during(fault, () => Promise.allSettled(sent.map((one) => subject.append([one]))));
      for (const answer of answers) {
        if (answer.status === "fulfilled") continue;
        const { code, name } = answer.reason as { code?: StorageCode; name?: string };
        same([name, CODES.includes(code!)], ["StorageFailure", true], String(answer.reason));
      }
      // An adapter that does not connect again by itself is closed, and another takes its place.
      const after = place.capabilities.connections === true ? await place.another() : subject;
      const { commands } = await after.load({ commands: sent.map(({ commandId }) => commandId) });
      for (const [index, answer] of answers.entries()) {
        if (answer.status === "fulfilled") ensure(commands[index] !== null, "what was acknowledged is lost");
        else if (!(answer.reason as { mayBeApplied: boolean }).mayBeApplied) ensure(commands[index] === null, "what was not applied is there");
      }
      for (const one of sent) same(["committed", "duplicate"].includes((await after.append([one]))[0]!.kind), true);
      same((await after.log()).length, 3);
    },
  },
  {
    name: "while a commit is held up no event comes behind a position that has been read",
    needs: "held",
    async run(subject, place) {
      await begun(subject);
      const { subject: slow, fault } = await place.fault("held");
      const [fast, reader] = [await place.another(), await place.another()];
      await fault.begin();
      let settled = 0;
      const count = <T>(answer: Promise<T>) => answer.finally(() => (settled += 1));
      const held = count(slow.append([commit("slow", 0, [event(), event()])]));
      await Promise.race([fault.reached(), held]);
      // Others wait for it or go ahead; whoever reads must not go past a place that is still to be filled.
      let isHeld = true;
      const reading = followed(reader, () => isHeld);
      const others = [0, 1, 2].map((index) => count(fast.append([commit(`fast-${index}`, 0, [event()])])));
      for (let round = 0; round < 25; round += 1) await pause(2);
      ensure(settled < 4, "the append was not held up");
      await fault.end();
      const verdicts = await Promise.all([held, ...others]).finally(() => (isHeld = false));
      same(verdicts.flatMap(kinds), Array(4).fill("committed"));
      same(await reading, positions(await reader.log()), "what a reader saw who reads no position twice");
      same((await reader.log()).length, 6);
    },
  },
];
