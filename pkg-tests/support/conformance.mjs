// How the project's own adapters enrol in the suite that is published.

import { conformance } from "annals/testing/conformance";

/** One test a rule. */
export function enrol(test, options) {
  for (const { name, skip, run } of conformance(options)) test(name, { skip, timeout: 120_000 }, run);
}
