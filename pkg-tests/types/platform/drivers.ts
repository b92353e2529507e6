/** What a project can say that has drivers with types of their own. */
import { PGlite } from "@electric-sql/pglite";
import { type AnyAggregate, Engine } from "annals";
import { postgresRoles, postgresSchema, postgresStorage } from "annals/postgres";
import pg from "pg";

export async function onPostgres(aggregates: AnyAggregate[]) {
  const pool = new pg.Pool({ connectionString: "postgres://clinic@localhost/clinic" });
  await Engine.open({ storage: postgresStorage({ database: pool, durability: "replicated" }), aggregates });
  await Engine.open({ storage: postgresStorage({ database: new PGlite(), schema: "clinic" }), aggregates });
  // @ts-expect-error one connection is no pool
  postgresStorage({ database: new pg.Client() });
  // @ts-expect-error this is what SQLite calls it
  postgresStorage({ database: pool, durability: "full" });
  await pool.query(postgresSchema());
  await pool.query(postgresRoles({ schema: "clinic", application: "app" }));
}
