import type { StoredEvent, StreamLoad } from "../index.node.js";
import { counted, shown, type Output } from "./output.js";
import { turn } from "./reading.js";
import { openStore } from "./stores.js";
import { Mistake, Refused, textOf, type Arguments, type Done } from "./types.js";

/** The events of one aggregate. */
export async function history(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const [argument, aggregateType, aggregateId] = given.names as [string, string, string];
  const point = pointOf(textOf(given, "at"));
  const store = await openStore(argument, "read", textOf(given, "driver"));
  try {
    const { storage } = store;
    const { epoch } = await storage.open();
    const events: StoredEvent[] = [];
    for (let more = true; more;) {
      const load = { aggregateType, aggregateId, after: events.at(-1)?.revision ?? 0, snapshot: null, ...point, limit: 500, whole: true };
      const slice = (await storage.load({ epoch, commands: [], streams: [load], queries: [] })).streams[0]!;
      if (slice.revision === 0) throw new Refused("unknown-stream", `there is no ${shown(aggregateType)} ${shown(aggregateId)} in this store`);
      events.push(...(slice.events as StoredEvent[]));
      ({ more } = slice);
      if (more) await turn(signal);
    }
    const lines = events.flatMap(({ revision, position, recordedAt, type, schemaVersion, actor, tags, data, extra }) => [
      `${output.heading(`${String(revision).padStart(4)}  ${shown(type)}`)}${schemaVersion > 1 ? output.dim(` version ${schemaVersion}`) : ""}`,
      `      ${output.dim(`${recordedAt}, position ${position}${actor === null ? "" : `, by ${shown(actor)}`}`)}`,
      ...(tags === "[]" ? [] : [`      ${output.dim(`tags ${shown(tags)}`)}`]),
      ...(extra === null ? [] : [`      ${output.dim(`metadata ${shown(extra)}`)}`]),
      `      ${shown(data)}`,
    ]);
    const end = `${shown(aggregateType)} ${shown(aggregateId)}: ${counted(events.length, "event")}`;
    output.result({ aggregateType, aggregateId, revision: events.at(-1)?.revision ?? 0, events }, [...lines, end]);
    return { isSound: true };
  } finally {
    await store.close();
  }
}

type Point = Pick<StreamLoad, "untilRevision" | "untilPosition" | "untilTime">;

/** A revision, `position:12`, or a time. */
function pointOf(at: string | undefined): Point {
  const now: Point = { untilRevision: null, untilPosition: null, untilTime: null };
  if (at === undefined) return now;
  if (/^\d+$/.test(at)) return { ...now, untilRevision: Number(at) };
  const position = /^position:(\d+)$/.exec(at)?.[1];
  if (position !== undefined) return { ...now, untilPosition: Number(position) };
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) throw new Mistake(`expected a revision, position:<number> or a time after --at, found ${at}`);
  return { ...now, untilTime: time.toISOString() };
}
