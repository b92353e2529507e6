/** What a project can say that has Node's types and no DOM. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type AnyAggregate, type StorageAdapter, Engine } from "annals";

export async function inNode(storage: StorageAdapter, aggregates: AnyAggregate[]) {
  const file = new URL(import.meta.resolve("annals/annals.wasm"));
  const engine = await Engine.open({ storage, aggregates, wasm: readFileSync(file) });
  await Engine.open({ storage, aggregates, wasm: () => readFile(file) });
  await Engine.open({ storage, aggregates, wasm: new URL("https://example.com/annals.wasm") });
  await Engine.open({ storage, aggregates, wasm: await fetch("https://example.com/annals.wasm") });
  await Engine.open({ storage, aggregates, wasm: new Request("https://example.com/annals.wasm") });
  for await (const event of engine.events({ signal: AbortSignal.timeout(1_000) })) return event;
  // @ts-expect-error a controller is no signal
  engine.events({ signal: new AbortController() });
  // @ts-expect-error nor is what has no way to listen to it
  engine.events({ signal: { aborted: false } });
  return undefined;
}
