// A PostgreSQL server for a case: the tests' own, but as an application's would be.

import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { Server } from "../../pkg-tests/support/postgres-server.mjs";

/** On a disk: what is under /tmp may be memory. */
const folder = existsSync("/var/tmp") ? "/var/tmp" : tmpdir();

const settings = {
  fsync: "on",
  synchronous_commit: "on",
  shared_buffers: "512MB",
  // What would fall on one contestant's time and not on another's.
  autovacuum: "off",
  checkpoint_timeout: "1h",
  max_wal_size: "8GB",
};

const running = new Set();
let isOver = false;

/** Runs `work` with a server, which it is told how to connect to and which is stopped afterwards. */
export async function withPostgres(work) {
  const starting = Server.start(settings, folder);
  running.add(starting);
  const server = await starting;
  try {
    return await work(server.connection);
  } finally {
    // Who stops the run stops the server, too, and nothing is to follow.
    if (isOver) await new Promise(() => undefined);
    running.delete(starting);
    await server.stop();
  }
}

/** Stops what runs, where somebody stops the run. */
export function stopPostgres() {
  isOver = true;
  return Promise.allSettled([...running].map(async (starting) => (await starting).stop()));
}
