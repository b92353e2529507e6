import { AnnalsError, Engine, type AnyAggregate } from "../index.node.js";
import { overlayStorage } from "../overlay/index.js";
import { loadDomain } from "./domain.js";
import { counted, numbered, PACE, shown, type Output } from "./output.js";
import { logPages } from "./reading.js";
import { openStore } from "./stores.js";
import { textOf, type Arguments, type Done } from "./types.js";

interface Failure {
  readonly code: string;
  readonly message: string;
  readonly stream?: { readonly type: string; readonly id: string };
  readonly revision?: number;
  readonly projection?: string;
}

/** Most that are listed. All are counted. */
const LISTED = 1_000;

class Failures {
  readonly listed: Failure[] = [];
  count = 0;

  add(failure: Failure): void {
    this.count += 1;
    if (this.listed.length < LISTED) this.listed.push(failure);
  }
}

/**
 * Walks the log. With a domain every stream is folded to its state and every view is made, as this release
 * would; nothing is written, and no reaction runs.
 */
export async function replay(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const domain = textOf(given, "domain");
  const { aggregates, projections } = domain === undefined ? { aggregates: [], projections: [] } : await loadDomain(domain);
  const store = await openStore(given.names[0]!, "read", textOf(given, "driver"));
  const failures = new Failures();
  const known = new Map(aggregates.map((aggregate) => [aggregate.type, aggregate]));
  const strangers = new Map<string, number>();
  let events = 0;
  let streams = 0;
  let skipped = 0;
  try {
    const { epoch, head } = await store.storage.open();
    // What an engine writes stays in memory.
    const storage = overlayStorage({ storage: store.storage });
    const onReport = (report: { readonly kind: string; readonly count?: number }) => {
      if (report.kind === "events-skipped") skipped += report.count ?? 0;
    };
    const engine = await Engine.open({ storage, aggregates, projections, onReport, limits: { cachedStates: 100 } });
    try {
      const onProgress = output.progress("replay");
      for await (const page of logPages(store.storage, epoch, signal)) {
        const begun: (readonly [AnyAggregate, string])[] = [];
        for (const { aggregateType, aggregateId, revision, position, data } of page) {
          const stream = { type: aggregateType, id: aggregateId };
          const aggregate = known.get(aggregateType);
          if (aggregate === undefined) {
            strangers.set(aggregateType, (strangers.get(aggregateType) ?? 0) + 1);
            if (!isJson(data)) failures.add({ code: "unreadable-event", message: `position ${position}: its data are no JSON`, stream, revision });
          } else if (revision === 1) begun.push([aggregate, aggregateId]);
        }
        await Promise.all(begun.map(([aggregate, id]) => fold(engine, aggregate, id, failures)));
        events += page.length;
        streams += begun.length;
        onProgress({ done: events, total: head });
      }
      for (const projection of projections) {
        const view = engine.view(projection);
        const onView = output.progress(`view ${shown(projection.name)}`);
        const look = () => view.status().then(({ progress }) => onView({ done: Math.round(progress * events), total: events }), () => undefined);
        const watch = setInterval(() => void look(), PACE);
        try {
          await look();
          await view.count({ latest: true, signal });
        } catch (error) {
          if (!AnnalsError.is(error) || error.code === "cancelled") throw error;
          failures.add({ code: error.code, message: error.message, projection: projection.name });
        } finally {
          clearInterval(watch);
        }
      }
    } finally {
      await engine.close();
    }
  } finally {
    await store.close();
  }
  const { listed, count } = failures;
  const isSound = count === 0;
  const left = [...strangers].map(([aggregateType, count]) => ({ aggregateType, events: count }));
  const lines = [
    ...listed.map(({ code, message, stream, projection }) => {
      const where = stream === undefined ? `view ${projection}` : `${stream.type}/${stream.id}`;
      return `${output.bad("fault")} ${code}, ${shown(where)}: ${shown(message)}`;
    }),
    ...(count > listed.length ? [`and ${counted(count - listed.length, "fault")} more`] : []),
    ...(domain === undefined ? [] : left.map(({ aggregateType, events }) => `${output.dim("note ")} ${shown(domain)} has no aggregate ${shown(aggregateType)}: ${counted(events, "event")} not folded`)),
    ...(skipped > 0 ? [`${output.dim("note ")} ${counted(skipped, "event")} of unknown types passed by`] : []),
    `${counted(events, "event")}, ${counted(streams, "stream")} folded, ${numbered(projections.length)} ${projections.length === 1 ? "view" : "views"} made: ${isSound ? output.good("nothing fails") : output.bad(counted(count, "fault"))}`,
  ];
  output.result({ events, streams, views: projections.length, skipped, unknown: left, failures: listed, faults: count, isSound }, lines);
  return { isSound };
}

async function fold(engine: Engine, aggregate: AnyAggregate, id: string, failures: Failures): Promise<void> {
  try {
    await engine.state(aggregate, id);
  } catch (error) {
    if (!AnnalsError.is(error, "unreadable-event")) throw error;
    const { message, details } = error;
    failures.add({ code: error.code, message, stream: details.stream, revision: details.revision });
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
