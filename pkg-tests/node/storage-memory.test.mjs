import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { enrol } from "../support/conformance.mjs";

const capabilities = { durability: "memory", notification: "engines" };
enrol(test, { name: "memory", open: () => ({ storage: memoryStorage() }), capabilities }, "memory");
