// Stores that several processes share: files of SQLite, and schemas of PostgreSQL.

import { postgresStorage } from "annals/postgres";
import { sqliteStorage } from "annals/sqlite";
import { newSchema, poolOf } from "./postgres-stores.mjs";
import { drivers, temporaryFolder } from "./sqlite-drivers.mjs";

/** An adapter on the store that is there, and the way to let go of what it needs. */
export function openAt(kind, where) {
  if (kind === "PostgreSQL") {
    const { connection, schema } = JSON.parse(where);
    const pool = poolOf({ connection });
    return { storage: postgresStorage({ database: pool, schema }), close: () => pool.end() };
  }
  const database = drivers.get(kind)(where);
  return { storage: sqliteStorage({ database, pollInterval: 5 }), close: () => database.close() };
}

/** Where there is no store yet, and the way to remove the one that is there then. */
export function newPlace(kind, pool, connection) {
  if (kind === "PostgreSQL") {
    const schema = newSchema();
    const remove = () => pool.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
    return { where: JSON.stringify({ connection, schema }), schema, remove };
  }
  const { file, remove } = temporaryFolder();
  return { where: file, remove };
}

/** The kinds that there are here. */
export const kinds = [...drivers.keys(), "PostgreSQL"];
