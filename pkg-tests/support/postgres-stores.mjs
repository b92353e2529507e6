// PostgreSQL stores for tests: a schema each.

import { postgresStorage } from "annals/postgres";
import pg from "pg";

let schemas = 0;

/** A schema that nobody else has. */
export const newSchema = () => `s-${process.pid}-${++schemas}`;

/** The adapter, and what its judge learns. */
export function judging(database, options) {
  const schema = options.schema ?? "annals";
  const ask = async (commits) => {
    const { rows } = await database.query(`SELECT "${schema}".facts($1) AS facts`, [JSON.stringify(commits)]);
    return rows[0].facts;
  };
  return Object.assign(postgresStorage({ database, ...options }), { facts: ask });
}

/** A pool of `pg`, whose connections keep no process alive. */
export function poolOf(server, options) {
  return new pg.Pool({ ...server.connection, allowExitOnIdle: true, max: 5, ...options });
}

/** An empty store in a schema of the database, as adapters are enrolled with. */
export function storeOn(database) {
  const schema = newSchema();
  const adapter = () => judging(database, { schema });
  const drop = () => database.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
  return {
    schema,
    storage: adapter(),
    another: adapter,
    async recreate() {
      await drop();
      await adapter().open();
    },
    release: drop,
  };
}

/** The ids of the server's processes that work for somebody else on statements of this kind. */
export async function backendsAt(pool, pattern, wait) {
  const { rows } = await pool.query(
    `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE $1 AND ($2::text IS NULL OR wait_event_type = $2)`,
    [pattern, wait ?? null],
  );
  return rows.map(({ pid }) => pid);
}
