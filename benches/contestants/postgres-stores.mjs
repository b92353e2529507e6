// Stores on PostgreSQL: Annals', and what an expert writes by hand for the same purpose. Contestants of a
// case have one server, and a database each.

import { hash, randomUUID } from "node:crypto";
import pg from "pg";
import { postgresStorage } from "annals/postgres";
import { clinics, decide, evolve } from "./clinic-node.mjs";

const { escapeIdentifier } = pg;

async function connected(connection, work) {
  const client = new pg.Client(connection);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** A connection to a database of this name. */
const to = (connection, database) => ({ ...connection, database });

/** A new database in place of an old one: empty, or a copy. Returns how to connect to it. */
export async function newDatabase(connection, name, from = "template1") {
  await connected(connection, async (client) => {
    // Both wait for connections that are about to end, which FORCE would break.
    await client.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(name)}`);
    await client.query(`CREATE DATABASE ${escapeIdentifier(name)} TEMPLATE ${escapeIdentifier(from)}`);
  });
  return to(connection, name);
}

/** A database that `make` fills, made once and then shared: whoever writes takes a copy. */
export async function seeded(connection, name, make) {
  const exists = () => connected(connection, (client) => client.query("SELECT FROM pg_database WHERE datname = $1", [name]));
  if ((await exists()).rows.length > 0) return name;
  const unfinished = await newDatabase(connection, `${name}-new`);
  await make(unfinished);
  await connected(unfinished, (client) => client.query("VACUUM (ANALYZE)"));
  const rename = `ALTER DATABASE ${escapeIdentifier(`${name}-new`)} RENAME TO ${escapeIdentifier(name)}`;
  await connected(connection, (client) => client.query(rename));
  return name;
}

/** The same, as a connection for those who only read. */
export const seededToRead = async (connection, name, make) => to(connection, await seeded(connection, name, make));

/** A clinic on a database. Closing it closes its connections. */
export async function openClinic(domain, connection) {
  const pool = new pg.Pool(connection);
  const clinic = await clinics[domain]({ storage: postgresStorage({ database: pool }) });
  return Object.assign(clinic, {
    async close() {
      await clinic.engine.close();
      await pool.end();
    },
  });
}

/** One connection. `columns` runs a statement that is prepared when it is first run, and gives its rows as arrays. */
export async function openClient(connection) {
  const client = new pg.Client(connection);
  await client.connect();
  return {
    async columns(name, text, values) {
      const { rows } = await client.query({ name, text, values, rowMode: "array" });
      return rows;
    },
    close: () => client.end(),
  };
}

/**
 * Appends in one statement, which is a transaction, and one way to the server and back: the head is locked
 * and moves only if no command is known and each stream is where it is expected. What came in between
 * is told by the unique keys.
 */
const APPEND = `
  WITH head AS (
    UPDATE annals.store
    SET head = head + cardinality($4::text[]), last_recorded_at = greatest(last_recorded_at, $1)
    WHERE NOT EXISTS (SELECT FROM annals.commands WHERE command_id = ANY ($10))
      AND NOT EXISTS (
        SELECT FROM unnest($2::text[], $3::bigint[]) AS stream (id, expected)
        WHERE expected <> (
          SELECT coalesce(max(revision), 0) FROM annals.events
          WHERE aggregate_type = 'Appointment' AND aggregate_id = stream.id))
    RETURNING head, head - cardinality($4::text[]) AS before, last_recorded_at AS recorded_at
  ), events AS (
    INSERT INTO annals.events (position, event_id, aggregate_type, aggregate_id, revision, event_type,
      schema_version, recorded_at, issued_at, command_id, correlation_id, tags, data)
    SELECT before + place, event_id, 'Appointment', id, revision, type, 1, recorded_at, $1,
      command_id, command_id, '{}', data
    FROM unnest($4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::json[]) WITH ORDINALITY
      AS event (event_id, id, revision, type, command_id, data, place)
    CROSS JOIN head
  ), commands AS (
    INSERT INTO annals.commands (command_id, hash, aggregate_type, aggregate_id, position, revision,
      count, recorded_at)
    SELECT command_id, hash, 'Appointment', id, before + first, revision, count, recorded_at
    FROM unnest($10::text[], $11::text[], $12::text[], $13::bigint[], $14::bigint[], $15::bigint[])
      AS command (command_id, hash, id, first, revision, count)
    CROSS JOIN head
  )
  SELECT pg_notify('annals/annals', head::text) FROM head`;

/** Rows as a list for each of their columns, as `unnest` takes them. */
const columnsOf = (rows, count) => Array.from({ length: count }, (_, column) => rows.map((row) => row[column]));

/**
 * The floor: the same rows in the same tables, which Annals has made, with the same indexes, checks and
 * news, at the same durability. The states are at hand, as they are in the engine.
 */
export class Floor {
  #client;
  #states;

  static async open(connection, states) {
    const floor = new Floor();
    floor.#client = await openClient(connection);
    floor.#states = states;
    return floor;
  }

  /** Decides and appends these commands in one transaction. */
  async execute(commands) {
    const issuedAt = new Date();
    const expected = new Map();
    const events = [];
    const known = [];
    for (const { id, command } of commands) {
      const at = this.#states.get(id);
      const commandId = randomUUID();
      const digest = hash("sha1", `${id} ${command.type} ${JSON.stringify(command.data)}`);
      if (!expected.has(id)) expected.set(id, at.revision);
      const first = events.length + 1;
      for (const event of decide(at.state, command, { id, issuedAt, others: [] })) {
        at.revision += 1;
        at.state = Object.freeze(evolve(at.state, event));
        events.push([randomUUID(), id, at.revision, event.type, commandId, JSON.stringify(event.data)]);
      }
      known.push([commandId, digest, id, first, at.revision, events.length + 1 - first]);
    }
    const values = [issuedAt, [...expected.keys()], [...expected.values()], ...columnsOf(events, 6), ...columnsOf(known, 6)];
    const answer = await this.#client.columns("append", APPEND, values);
    if (answer.length === 0) throw new Error("a command was given before, or a stream has gone on");
  }

  close() {
    return this.#client.close();
  }
}

const LEAN_TABLE = `
  CREATE TABLE IF NOT EXISTS plain_events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    type text NOT NULL,
    data json NOT NULL,
    UNIQUE (stream, revision)
  )`;

const LEAN_APPEND = `
  INSERT INTO plain_events (stream, revision, type, data)
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::json[])`;

/** The lean floor: one plain row an event, whose unique key is the only check. */
export class LeanFloor {
  #client;
  #states = new Map();

  static async open(connection) {
    const floor = new LeanFloor();
    floor.#client = await openClient(connection);
    await floor.#client.columns("table", LEAN_TABLE);
    return floor;
  }

  /** Writes these streams' events. */
  async fill(events) {
    for (let at = 0; at < events.length; at += 1_000) await this.#append(events.slice(at, at + 1_000));
  }

  async execute(commands) {
    const issuedAt = new Date();
    const decided = ({ id, command }) =>
      decide(this.#states.get(id).state, command, { id, issuedAt, others: [] }).map((event) => [id, event]);
    await this.#append(commands.flatMap(decided));
  }

  async #append(events) {
    const rows = events.map(([id, event]) => {
      let at = this.#states.get(id);
      if (at === undefined) this.#states.set(id, (at = { revision: 0, state: { status: "none" } }));
      at.revision += 1;
      at.state = Object.freeze(evolve(at.state, event));
      return [id, at.revision, event.type, JSON.stringify(event.data)];
    });
    await this.#client.columns("append", LEAN_APPEND, columnsOf(rows, 4));
  }

  close() {
    return this.#client.close();
  }
}

/** Emmett's store on a database, with the pool that it makes itself. */
export async function openEmmett({ user, host, port, database }) {
  const { getPostgreSQLEventStore } = await import("@event-driven-io/emmett-postgresql");
  const store = getPostgreSQLEventStore(`postgresql://${user}@${host}:${port}/${database}`);
  await store.schema.migrate();
  return store;
}
