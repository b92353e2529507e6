// What tests on PostgreSQL need: each has a schema of its own.

import pg from "pg";

let schemas = 0;

/** A schema that nobody else has. */
export const newSchema = () => `s-${process.pid}-${++schemas}`;

/** A pool of `pg`, whose connections keep no process alive. */
export function poolOf(server, options) {
  return new pg.Pool({ ...server.connection, allowExitOnIdle: true, max: 5, ...options });
}

/** The ids of the server's processes that work for somebody else on statements of this kind. */
export async function backendsAt(pool, pattern, wait) {
  const { rows } = await pool.query(
    `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE $1 AND ($2::text IS NULL OR wait_event_type = $2)`,
    [pattern, wait ?? null],
  );
  return rows.map(({ pid }) => pid);
}
