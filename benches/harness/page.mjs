// The script of a page with one contestant.

import { contestants } from "../contestants/indexeddb.mjs";
import { sampleOf } from "./sampler.mjs";

let contestant;

globalThis.bench = {
  async open(setup) {
    contestant = await contestants[setup.contestant](setup);
  },
  sample: () => sampleOf(contestant),
  // Its parts, for profiles.
  before: () => contestant.before?.(),
  run: () => contestant.run(),
  after: () => contestant.after?.(),
  close: () => contestant?.close?.(),
};
