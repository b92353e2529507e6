// Stores of a page, as rules have them.

import { Engine } from "annals";
import { indexedDbStorage } from "annals/indexeddb";

/** `placeOf` gives the place of a name, whose engines have these options if no others; `closeAll` closes all engines. */
export function placesOf(defaults) {
  const engines = [];
  return {
    placeOf: (name) => ({
      storage: () => indexedDbStorage({ name }),
      async open(options) {
        engines.push(await Engine.open({ storage: indexedDbStorage({ name }), ...defaults, ...options }));
        return engines.at(-1);
      },
    }),
    closeAll: () => Promise.all(engines.splice(0).map((engine) => engine.close())),
  };
}
