import assert from "node:assert/strict";
import { after, test } from "node:test";
import { enrol } from "../support/adapter-rules.mjs";
import { poolOf, storeOn } from "../support/postgres-stores.mjs";
import { Server } from "../support/postgres-server.mjs";

const server = await Server.start();
const pool = poolOf(server, { max: 20 });
after(async () => {
  await pool.end();
  await server.stop();
});

enrol(test, "pg", () => storeOn(pool), ["another", "recreate", "judges"]);
