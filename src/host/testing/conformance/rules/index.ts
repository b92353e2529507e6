import type { Rule } from "../rule.js";
import { appends } from "./appends.js";
import { documents } from "./documents.js";
import { engines } from "./engines.js";
import { faults } from "./faults.js";
import { judging } from "./judging.js";
import { lifetimes } from "./lifetimes.js";
import { presence } from "./presence.js";
import { reads } from "./reads.js";
import { sharing } from "./sharing.js";
import { texts } from "./texts.js";

/** What every storage adapter does, and what those do that can. */
export const rules: readonly Rule[] = [
  ...appends,
  ...reads,
  ...texts,
  ...documents,
  ...lifetimes,
  ...sharing,
  ...presence,
  ...engines,
  ...faults,
  ...judging,
];
