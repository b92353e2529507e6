// What a page has to download, and the most it may be, as the build measures both.

import { checkSizes } from "../../scripts/sizes.mjs";

const kilobytes = async (what, group) => {
  const found = new RegExp(`${what} ([\\d.]+) KB of ([\\d.]+) KB`).exec(await checkSizes());
  if (found === null) throw new Error(`the sizes tell nothing of the ${what}`);
  return { value: Number(found[group]) };
};

const sized = (what, group) => () => ({ sample: () => kilobytes(what, group) });

export const contestants = {
  "annals-module": sized("engine module", 1),
  "limit-module": sized("engine module", 2),
  "annals-javascript": sized("browser entry with IndexedDB", 1),
  "limit-javascript": sized("browser entry with IndexedDB", 2),
};
