// What a store has to do when its process is killed: commands without end, on many streams, with a view,
// snapshots and documents. In Node and in pages.

import { Engine, aggregate } from "annals";
import { verify } from "annals/operations";
import { projection } from "annals/projections";

/** Counts what was added. */
export const counter = aggregate("Counter", {
  initial: () => ({ sum: 0 }),
  reads: ({ data }) => (data.alone ? [`lane:${data.lane}`] : []),
  decide: (_, { data }) => Array.from({ length: data.events }, () => ({ type: "Added", data: { by: 1, lane: data.lane, text: data.text } })),
  evolve: { Added: ({ sum }, { data }) => ({ sum: sum + data.by }) },
  tags: ({ data }) => [`lane:${data.lane}`],
  snapshots: { version: 1, every: 25 },
});

export const sums = projection("sums", {
  version: 1,
  kind: "inline",
  on: {
    Added: (view, { data, stream }) => view.update(stream.id, ({ sum } = { sum: 0 }) => ({ sum: sum + data.by })),
  },
  indexes: { sum: ({ sum }) => sum },
});

export const openEngine = (storage) => Engine.open({ storage, aggregates: [counter], projections: [sums] });

const LANES = 12;

/**
 * Gives commands until the process ends. `acknowledge` is told of each that is done: its id, its stream,
 * and the revision that it led to. `name` is of streams that nobody else has.
 */
export async function giveWithoutEnd(storage, name, acknowledge) {
  const engine = await openEngine(storage);
  const lane = async (lane) => {
    for (let turn = 0; ; turn += 1) {
      const data = { lane, events: 1 + (turn % 3), alone: turn % 5 === 0, text: "x".repeat((turn % 7) * 50) };
      const { commandId, revision } = await engine.execute(counter, `${name}-${lane}`, { type: "Add", data });
      await acknowledge({ commandId, id: `${name}-${lane}`, revision, events: data.events });
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)));
}

/**
 * What is wrong with a store that was opened again, or nothing. `acknowledged` was told before the end;
 * `after` is a position up to which the log was found right, or `null`: then the whole store is verified.
 */
export async function findFaults(storage, acknowledged, after) {
  const faults = [];
  const engine = await openEngine(storage);
  const revisions = new Map();
  const commands = new Map();
  let last = after;
  try {
    for await (const { stream, revision, commandId, position } of engine.events({ after, follow: false })) {
      const before = revisions.get(stream.id);
      if (before !== undefined && revision !== before + 1) faults.push(`${stream.id}: revision ${revision} comes after ${before}`);
      revisions.set(stream.id, revision);
      commands.set(commandId, [...(commands.get(commandId) ?? []), `${stream.id}@${revision}`]);
      last = position;
    }
  } catch (error) {
    if (error.code !== "foreign-position") throw error;
    faults.push("the store is another: all that was in it is lost");
  }
  for (const { commandId, id, revision, events } of acknowledged) {
    const expected = Array.from({ length: events }, (_, index) => `${id}@${revision - events + 1 + index}`);
    const found = commands.get(commandId) ?? [];
    if (found.join() !== expected.join()) faults.push(`command ${commandId} was acknowledged as ${expected}, and is there as ${found}`);
  }
  for (const [id, revision] of revisions) {
    const { state } = await engine.state(counter, id);
    const document = await engine.view(sums).get(id, { latest: true });
    if (state.sum !== revision) faults.push(`${id}: its state is of ${state.sum} events, and it has ${revision}`);
    if (document?.sum !== revision) faults.push(`${id}: its view is of ${document?.sum} events, and it has ${revision}`);
  }
  const found = await engine.view(sums).count({ index: "sum" });
  if (found !== (await engine.view(sums).count())) faults.push(`${found} documents are in the index`);
  await engine.close();
  if (after === null) {
    const { isSound, findings } = await verify(storage, { projections: [sums] });
    if (!isSound) faults.push(...findings.map(({ code, message }) => `${code}: ${message}`));
  }
  return { faults, last, commands: commands.size };
}
