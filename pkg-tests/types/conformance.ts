/** What the compiler says about adapters that enrol. */
import type { Commit, StorageAdapter, StoredEvent, Verdict } from "annals";
import { memoryStorage } from "annals/memory";
import {
  type Capabilities,
  commit,
  conformance,
  type ConformanceTest,
  event,
  type Job,
  judge,
  judgeVectors,
  perform,
  type Report,
  Subject,
} from "annals/testing/conformance";
import { type Same, check } from "./domain.js";

const tests = conformance({ name: "memory", open: () => ({ storage: memoryStorage() }) });
check<Same<typeof tests, readonly ConformanceTest[]>>();
for (const { name, skip, run } of tests) {
  check<Same<typeof name, string>>();
  check<Same<typeof skip, string | false>>();
  check<Same<ReturnType<typeof run>, Promise<void>>>();
}

declare function storageIn(file: string): StorageAdapter;
declare const log: readonly StoredEvent[];

// What `open` returns is what the others get.
conformance({
  name: "file",
  async open() {
    return { storage: storageIn("a"), file: "a" };
  },
  reopen(store) {
    check<Same<typeof store.file, string>>();
    return storageIn(store.file);
  },
  release: async ({ file }) => void file,
  restore: ({ file }) => void file,
  async elsewhere({ file }, job) {
    check<Same<typeof job, Job>>();
    const report = await perform(storageIn(file), job);
    check<Same<typeof report, Report>>();
    return report;
  },
  older: [{ format: "1", open: () => ({ storage: storageIn("b"), file: "b" }), log }],
  faults: {
    full: ({ file }) => ({ storage: storageIn(file), begin() {}, async end() {} }),
    held: ({ file }) => ({ storage: storageIn(file), begin() {}, end() {}, reached: async () => {} }),
  },
  judge: { judge, facts: async ({ file }) => ({ head: file.length, lastRecordedAt: 0, commits: [] }) },
  capabilities: { durability: "power-loss", notification: "connections", connections: true },
  skip: { "an event comes back as it was appended": "it takes its time" },
});

// @ts-expect-error there is no store without an adapter
conformance({ name: "none", open: () => ({ file: "a" }) });
// @ts-expect-error an adapter has a name
conformance({ open: () => ({ storage: memoryStorage() }) });
// @ts-expect-error there is no such capability
conformance({ name: "memory", open: () => ({ storage: memoryStorage() }), capabilities: { conections: true } });
// @ts-expect-error a rule is skipped for a reason
conformance({ name: "memory", open: () => ({ storage: memoryStorage() }), skip: { rule: true } });
// @ts-expect-error there is no such durability
const wrong: Capabilities = { durability: "forever" };
void wrong;

export async function asking() {
  const subject = await Subject.open(memoryStorage());
  const sent = commit("a-1", 0, [event("Booked", ["t"])], { actor: "reception" });
  check<Same<typeof sent, Commit>>();
  const verdicts = await subject.append([sent]);
  check<Same<typeof verdicts, Verdict[]>>();
  for (const vector of judgeVectors()) check<Same<ReturnType<typeof judge>, Verdict[]>>(), judge(vector.commits, vector.facts, vector.now);
}
