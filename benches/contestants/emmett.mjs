// What a store of Emmett's has, whatever it is kept in.

import { digestOf } from "../harness/digest.mjs";
import { foldOf, idOf } from "../workload.mjs";

/** The states that its streams lead to. */
export async function digestOfStreams(store, evolve, count) {
  const states = [];
  for (let stream = 0; stream < count; stream += 1) {
    const { events } = await store.readStream(idOf(stream));
    states.push(foldOf(evolve, events));
  }
  return digestOf(states);
}
