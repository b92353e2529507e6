// The first answer, in processes that do nothing else.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const script = fileURLToPath(new URL("../start/run.mjs", import.meta.url));

/** So many starts make a sample. */
const starts = 5;

const started = (module, domain) => () => ({
  async sample() {
    let millis = 0;
    for (let start = 0; start < starts; start += 1) {
      const { stdout } = await promisify(execFile)(process.execPath, [script, module, domain]);
      millis += Number(stdout);
    }
    return { count: starts, seconds: millis / 1000 };
  },
});

export const contestants = {
  "annals-ts": started("annals-ts", "ts"),
  "annals-rust": started("annals-rust-node", "rust"),
  "floor-ts": started("floor-node", "ts"),
  "floor-rust": started("floor-node", "rust"),
};
