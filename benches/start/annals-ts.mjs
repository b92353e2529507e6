// The first answer of an engine with a domain in TypeScript.

import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";

const counter = aggregate("Counter", {
  initial: () => 0,
  decide: () => [],
  evolve: { Counted: (count) => count + 1 },
});

export async function answer() {
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [counter] });
  return engine.state(counter, "first");
}
