import { test } from "node:test";
import { memoryStorage } from "annals/memory";
import { enrol } from "../support/adapter-rules.mjs";

enrol(test, "memory", () => ({ storage: memoryStorage() }));
