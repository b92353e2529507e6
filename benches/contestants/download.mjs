// What a page has to download, as the build measures it, and what it was to be at most.

import { checkSizes } from "../../scripts/sizes.mjs";

const sized = (what) => () => ({
  sample: async () => {
    const found = new RegExp(`${what} ([\\d.]+) KB`).exec(await checkSizes());
    if (found === null) throw new Error(`the sizes tell nothing of the ${what}`);
    return { value: Number(found[1]) };
  },
});

const atMost = (value) => () => ({ sample: async () => ({ value }) });

export const contestants = {
  "annals-module": sized("for the log alone"),
  "annals-views": sized("engine module"),
  "limit-module": atMost(100),
  "annals-javascript": sized("browser entry with IndexedDB"),
  "limit-javascript": atMost(15),
};
