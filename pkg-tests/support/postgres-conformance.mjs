// The PostgreSQL adapter, as the suite needs to know it.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { postgresStorage } from "annals/postgres";
import { logOne } from "./formats.mjs";
import { backendsAt, newSchema, poolOf } from "./postgres-stores.mjs";
import { kill, messageFrom, start } from "./processes.mjs";

const script = fileURLToPath(new URL("postgres-worker.mjs", import.meta.url));

/** A store of format 1, as SQL that makes it in a schema. */
export const formatOneIn = (schema) =>
  readFileSync(new URL("../formats/postgres-1.sql", import.meta.url), "utf8").replaceAll("format_1", schema);

/** Nobody fails because the machine is slow, unless that is what is tried. */
const patient = { busyTimeout: 60_000, requestTimeout: 60_000 };

/** What a store on any PostgreSQL can do. `database` is a pool of `pg`, or a PGlite. */
function onAny(name, database, durability) {
  const adapter = ({ schema }) => postgresStorage({ database, schema, ...patient });
  const storeIn = (schema) => {
    const store = { schema, sql: (text, values) => database.query(text.replaceAll("$.", `"${schema}".`), values) };
    return Object.assign(store, { storage: adapter(store) });
  };
  let judging;
  return {
    name,
    capabilities: { durability, notification: "connections", connections: true, reopening: true, restoring: true, migration: true },
    open: () => storeIn(newSchema()),
    reopen: adapter,
    release: ({ schema }) => database.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`),
    older: [
      {
        format: "1",
        async open() {
          const schema = newSchema();
          await (database.exec ?? database.query).call(database, formatOneIn(schema));
          return storeIn(schema);
        },
        log: logOne("postgres"),
      },
    ],
    async restore(store) {
      await database.query(`DROP SCHEMA "${store.schema}" CASCADE`);
      await adapter(store).open();
    },
    // What needs no connection of its own.
    faults: {
      // The server's error as it is for a disk that is full, which only an administrator could fill.
      async full({ sql }) {
        await sql(`CREATE FUNCTION $.is_full() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN RAISE EXCEPTION ''could not extend file: No space left on device'' USING ERRCODE = ''disk_full''; END'`);
        const each = (text) => Promise.all(["events", "documents"].map((table) => sql(text(table))));
        const column = { events: "data", documents: "value" };
        return {
          begin: () => each((table) => `CREATE TRIGGER is_full BEFORE INSERT ON $.${table} FOR EACH ROW
            WHEN (length(NEW.${column[table]}::text) > 1000000) EXECUTE FUNCTION $.is_full()`),
          end: () => each((table) => `DROP TRIGGER IF EXISTS is_full ON $.${table}`),
        };
      },
      failing({ schema }) {
        const rename = (from, to) => database.query(`DO $$ BEGIN
          IF to_regnamespace('"${to}"') IS NULL THEN ALTER SCHEMA "${from}" RENAME TO "${to}"; END IF; END $$`);
        return { begin: () => rename(schema, `${schema}-away`), end: () => rename(`${schema}-away`, schema) };
      },
    },
    judge: {
      async facts({ sql }, commits) {
        const { rows } = await sql("SELECT $.facts($1) AS facts", [JSON.stringify(commits)]);
        return rows[0].facts;
      },
      async judge(commits, facts, now) {
        judging ??= newSchema();
        await adapter({ schema: judging }).open();
        const asked = [JSON.stringify(commits), JSON.stringify(facts), now];
        const { rows } = await database.query(`SELECT "${judging}".judge($1, $2, $3) AS verdicts`, asked);
        return rows[0].verdicts;
      },
    },
  };
}

export const onPglite = (database) => onAny("PGlite", database, "memory");

/** A store on a server, to which the pool leads. */
export function onServer(pool, connection) {
  const any = onAny("pg", pool, "process-crash");
  return {
    ...any,
    capabilities: { ...any.capabilities, processes: true },
    async elsewhere({ schema }, job) {
      const worker = await start(script, [JSON.stringify({ connection, schema })]);
      try {
        worker.send({ job });
        return await messageFrom(worker);
      } finally {
        await kill(worker);
      }
    },
    faults: {
      ...any.faults,
      async locked({ schema }) {
        const client = await pool.connect();
        let isLocked = false;
        return {
          storage: postgresStorage({ database: pool, schema, busyTimeout: 30 }),
          async begin() {
            await client.query(`BEGIN; SELECT FROM "${schema}".store FOR UPDATE;
              SELECT pg_advisory_xact_lock(hashtextextended('annals/${schema}/agenda', 0))`);
            isLocked = true;
          },
          async end() {
            if (isLocked) await client.query("ROLLBACK");
            isLocked = false;
            if (!client.isReleased) client.release();
            client.isReleased = true;
          },
        };
      },
      // The answer to a COMMIT that has reached the server is lost on its way back.
      unanswered({ schema }) {
        let isCut = false;
        const cut = (client) => {
          return new Proxy(client, {
            get(_, name) {
              if (name !== "query") return typeof client[name] === "function" ? client[name].bind(client) : client[name];
              return async (statement, values) => {
                const answer = await client.query(statement, values);
                if (!isCut || !(statement.text ?? statement).includes(".append(")) return answer;
                client.connection.stream.destroy();
                throw new Error("Connection terminated unexpectedly");
              };
            },
          });
        };
        const database = { connect: async () => cut(await pool.connect()), on: () => {} };
        return {
          storage: postgresStorage({ database, schema, ...patient }),
          begin: () => void (isCut = true),
          end: () => void (isCut = false),
        };
      },
      async disconnected({ schema }) {
        const role = `${schema}-user`;
        await pool.query(`CREATE ROLE "${role}" SUPERUSER LOGIN`);
        const database = poolOf({ connection }, { user: role });
        let isOver = false;
        return {
          storage: postgresStorage({ database, schema, ...patient }),
          async begin() {
            await pool.query(`ALTER ROLE "${role}" NOLOGIN`);
            await pool.query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1", [role]);
          },
          async end() {
            await pool.query(`ALTER ROLE "${role}" LOGIN`);
            if (!isOver) return void (isOver = true);
            await database.end();
            await pool.query(`DROP ROLE IF EXISTS "${role}"`);
          },
        };
      },
      async held({ schema, sql }) {
        const key = Math.floor(Math.random() * 2 ** 31);
        await sql(`CREATE FUNCTION $.hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(${key}); RETURN NULL; END'`);
        await sql("CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON $.commands DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION $.hold()");
        const holder = await pool.connect();
        return {
          storage: postgresStorage({ database: pool, schema, ...patient }),
          begin: () => holder.query(`SELECT pg_advisory_lock(${key})`),
          async reached() {
            const waits = async () => {
              const { rows } = await pool.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", [key]);
              return rows.length > 0;
            };
            while (!(await waits()));
          },
          async end() {
            if (holder.isReleased) return;
            holder.isReleased = true;
            await holder.query("SELECT pg_advisory_unlock_all()");
            holder.release();
          },
        };
      },
    },
  };
}
