import { readCheckpoint } from "../operations/index.js";
import { counted, numbered, shown, type Output } from "./output.js";
import { countOf, documentsOf, logPages } from "./reading.js";
import { openStore, shownStore } from "./stores.js";
import { textOf, type Arguments, type Done } from "./types.js";

/** What there is in a store. */
export async function inspect(given: Arguments, output: Output, signal: AbortSignal): Promise<Done> {
  const store = await openStore(given.names[0]!, "read", textOf(given, "driver"));
  try {
    const { storage } = store;
    const { epoch, head, durability } = await storage.open();
    const types = new Map<string, number>();
    const streams = new Map<string, number>();
    let commits = 0;
    let events = 0;
    let command = "";
    let first: string | null = null;
    let last: string | null = null;
    const onProgress = output.progress("inspect");
    for await (const page of logPages(storage, epoch, signal)) {
      for (const event of page) {
        events += 1;
        first ??= event.recordedAt;
        last = event.recordedAt;
        if (event.commandId !== command) commits += 1;
        command = event.commandId;
        const type = `${event.aggregateType}\0${event.type}`;
        types.set(type, (types.get(type) ?? 0) + 1);
        if (event.revision === 1) streams.set(event.aggregateType, (streams.get(event.aggregateType) ?? 0) + 1);
      }
      onProgress({ done: events, total: head });
    }
    const views = [];
    for (const { key, revision, value } of await documentsOf(storage, epoch, "checkpoints")) {
      const [name = key, version = 0] = listOf(key) as [string?, number?];
      views.push({ name, version, ...readCheckpoint({ revision, value }) });
    }
    const reactions = [];
    for (const { key, value } of await documentsOf(storage, epoch, "reactions")) {
      const [owner = "", position = "0", ...lanes] = listOf(value) as string[];
      reactions.push({ name: key, position: Number(position), parked: Math.floor(lanes.length / 5), isRun: owner !== "" });
    }
    const subscriptions = (await documentsOf(storage, epoch, "subscriptions")).map(({ key, revision }) => ({ name: key, position: revision - 1 }));
    const snapshots = await countOf(storage, epoch, "snapshots");

    const byType = [...types].map(([key, count]) => {
      const [aggregateType = "", type = ""] = key.split("\0");
      return { aggregateType, type, count };
    });
    const byAggregate = [...streams].map(([aggregateType, count]) => ({ aggregateType, count }));
    const inAll = byAggregate.reduce((sum, { count }) => sum + count, 0);
    const section = <Item>(name: string, items: readonly Item[], show: (item: Item) => string): string[] =>
      items.length === 0 ? [] : ["", output.heading(name), ...items.map(show)];
    const behind = (position: number) =>
      position === head ? "up to the end" : position < head ? `at ${numbered(position)}, ${numbered(head - position)} behind` : `at ${numbered(position)}, beyond the end`;
    const lines = [
      output.pair("store", `${shown(shownStore(given.names[0]!))} (${store.kind}, ${durability})`),
      output.pair("epoch", epoch),
      output.pair("events", `${numbered(events)} in ${counted(commits, "commit")} and ${counted(inAll, "stream")}`),
      ...(first === null || last === null ? [] : [output.pair("recorded", `${first} to ${last}`)]),
      ...section("events by type", byType, ({ aggregateType, type, count }) => `${numbered(count).padStart(12)}  ${shown(aggregateType)} / ${shown(type)}`),
      ...section("streams by type", byAggregate, ({ aggregateType, count }) => `${numbered(count).padStart(12)}  ${shown(aggregateType)}`),
      ...section("views", views, ({ name, version, position, isBuilt, isCancelled, skipped }) => {
        const state = isBuilt ? "" : isCancelled ? ", given up while it was being built" : ", being built";
        const without = skipped > 0 ? `, without ${counted(skipped, "event")} of unknown types` : "";
        return `  ${shown(String(name))} version ${version}: ${behind(position)}${state}${without}`;
      }),
      ...section("reactions", reactions, ({ name, position, parked }) => `  ${shown(name)}: ${behind(position)}${parked > 0 ? `, ${numbered(parked)} left behind` : ""}`),
      ...section("named readers", subscriptions, ({ name, position }) => `  ${shown(name)}: ${behind(position)}`),
      ...(snapshots > 0 ? ["", output.pair("snapshots", numbered(snapshots))] : []),
    ];
    const value = { epoch, head, durability, events, commits, streams: inAll, first, last, types: byType, aggregates: byAggregate, views, reactions, subscriptions, snapshots };
    output.result(value, lines);
    return { isSound: true };
  } finally {
    await store.close();
  }
}

function listOf(text: string): unknown[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? (value as unknown[]) : [];
  } catch {
    return [];
  }
}
