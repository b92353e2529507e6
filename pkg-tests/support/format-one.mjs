// What is in the stores of format 1 in ../formats, as release 0.1 wrote them.

import { commit, event } from "annals/testing/conformance";
import { same } from "./expect.mjs";

const commandIds = [1, 2, 3, 4].map((number) => `0190f000-0000-7000-8000-00000000000${number}`);

/** Checks that an opened adapter has all of it, and that it can go on. */
export async function checkFormatOne(subject) {
  same(subject.info.head >= 4, true);
  const log = (await subject.log()).slice(0, 4);
  same(log.map(({ type, aggregateId, revision, commandId, actor, extra }) => [type, aggregateId, revision, commandId, actor, extra]), [
    ["AppointmentBooked", "a-1", 1, commandIds[0], "reception", '{"ip":"::1"}'],
    ["AppointmentUpdated", "a-1", 2, commandIds[1], "reception", '{"ip":"::1"}'],
    ["AppointmentBooked", "a-2", 1, commandIds[2], "reception", '{"ip":"::1"}'],
    ["AppointmentCancelled", "a-1", 3, commandIds[3], "reception", '{"ip":"::1"}'],
  ]);
  same(JSON.parse(log[0].data).title, "Ünïcode \"quoted\"; it's 😀");
  same(JSON.parse(log[3].tags), ["doctor:7/2026-12-01", "room:3/2026-12-01"]);
  const query = [{ types: [], tags: ["doctor:7/2026-12-01"] }];
  const loaded = await subject.load({ commands: commandIds, queries: [{ query, after: 0 }] });
  same(loaded.commands.map(({ position, revision }) => [position, revision]), [
    [1, 1],
    [2, 2],
    [3, 1],
    [4, 3],
  ]);
  same(loaded.queries[0].map(({ position }) => position), [1, 4]);
  if (subject.info.head === 4) await subject.accept(commit("a-2", 1, [event()]));
  await subject.save({ collection: "snapshots", key: "a-2", revision: 2, value: "{}", postings: [["of", "a"]] });
  const { snapshot, revision } = await subject.slice("Appointment", "a-2", { snapshot: "a-2" });
  same([snapshot, revision], [{ revision: 2, value: "{}" }, 2]);
  const { scans } = await subject.read({ scans: [{ collection: "snapshots", index: "of" }] });
  same(scans[0].documents, [{ at: "a", key: "a-2", revision: 2, value: "{}" }]);
}
