// The server that tests of this process use: the one that the run has started for all of them, or else
// one of their own.

import { after } from "node:test";
import { poolOf } from "./postgres-stores.mjs";
import { Server } from "./postgres-server.mjs";

const given = process.env.ANNALS_TEST_POSTGRES;

const own = given === undefined ? await Server.start() : undefined;

/** For `pg`: where the server is. */
export const connection = given === undefined ? own.connection : JSON.parse(given);

/** For all tests of this process. Its connections don't keep the process alive. */
export const pool = poolOf({ connection }, { max: 20 });
// Of connections that end with the server.
pool.on("error", () => {});

if (own !== undefined) {
  after(async () => {
    await pool.end();
    await own.stop();
  });
}
