import { test } from "node:test";
import { enrol } from "../support/adapter-rules.mjs";
import { pool } from "../support/postgres.mjs";
import { storeOn } from "../support/postgres-stores.mjs";

enrol(test, "pg", () => storeOn(pool), ["another", "recreate", "judges"]);
