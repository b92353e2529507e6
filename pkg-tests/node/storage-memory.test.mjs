import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { enrol } from "../support/conformance.mjs";

enrol(test, {
  name: "memory",
  open: () => ({ storage: memoryStorage() }),
  capabilities: { durability: "memory", notification: "engines" },
});
