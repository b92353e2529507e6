// Stores in SQLite files: Annals', and what an expert writes by hand for the same purpose.

import { hash, randomUUID } from "node:crypto";
import { copyFileSync, existsSync, renameSync, rmSync } from "node:fs";
import { sqliteStorage } from "annals/sqlite";
import { drivers } from "../../pkg-tests/support/sqlite-drivers.mjs";
import { clinics, decide, evolve } from "./clinic-node.mjs";

export const connect = (driver, file) => drivers.get(driver)(file);

/** A clinic on a file. Closing it closes the file. */
export async function openClinic(domain, driver, file, { durability = "full", limits = {}, projections = [] } = {}) {
  const database = connect(driver, file);
  const clinic = await clinics[domain]({ storage: sqliteStorage({ database, durability }), limits, projections });
  return Object.assign(clinic, {
    async close() {
      await clinic.engine.close();
      database.close();
    },
  });
}

/** A file that `make` fills, made once and then shared: whoever writes takes a copy. */
export async function seeded(driver, file, make) {
  if (existsSync(file)) return file;
  const unfinished = `${file}.new`;
  await make(unfinished);
  // libsql leaves the write-ahead log when it closes.
  const database = connect(driver, unfinished);
  database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all();
  database.close();
  renameSync(unfinished, file);
  return file;
}

/** A new file in place of an old one: empty, or a copy. */
export function newFile(file, from) {
  for (const end of ["", "-wal", "-shm"]) rmSync(`${file}${end}`, { force: true });
  if (from !== undefined) copyFileSync(from, file);
  return file;
}

/** Rows as arrays, where the driver has them. */
export function raw(statement) {
  if (typeof statement.raw === "function") return statement.raw();
  statement.setReturnArrays(true);
  return statement;
}

function prepared(database, statements) {
  return Object.fromEntries(Object.entries(statements).map(([name, sql]) => [name, database.prepare(sql)]));
}

/**
 * The floor: the same rows in the same tables, which Annals has made, with the same indexes and
 * checks, at the same durability. The states are at hand, as they are in the engine.
 */
export class Floor {
  #database;
  #statements;
  #states = new Map();

  constructor(driver, file) {
    this.#database = connect(driver, file);
    this.#database.exec("PRAGMA journal_mode = WAL");
    this.#database.exec("PRAGMA synchronous = FULL");
    this.#statements = prepared(this.#database, {
      head: "SELECT position, recorded_at FROM events ORDER BY position DESC LIMIT 1",
      command: "SELECT hash, position, revision, count FROM commands WHERE command_id = ?",
      revision: "SELECT max(revision) FROM events WHERE aggregate_type = ? AND aggregate_id = ?",
      insertEvent: `
        INSERT INTO events (position, event_id, aggregate_type, aggregate_id, revision, event_type,
          schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor,
          metadata, tags, data)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      insertCommand: `
        INSERT INTO commands (command_id, hash, aggregate_type, aggregate_id, position, revision,
          count, recorded_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    });
    for (const name of ["head", "command", "revision"]) this.#statements[name] = raw(this.#statements[name]);
  }

  /** Takes over what is in the file. */
  take(states) {
    this.#states = states;
  }

  /** Decides and appends these commands in one transaction. */
  execute(commands) {
    const { head, command: known, revision: last, insertEvent, insertCommand } = this.#statements;
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const [newest] = head.all();
      let position = newest?.[0] ?? 0;
      const issuedAt = new Date();
      const iso = issuedAt.toISOString();
      const recordedAt = newest !== undefined && newest[1] > iso ? newest[1] : iso;
      for (const { id, command } of commands) {
        const at = this.#states.get(id);
        const commandId = randomUUID();
        const digest = hash("sha1", `${id} ${command.type} ${JSON.stringify(command.data)}`);
        if (known.all(commandId).length > 0) throw new Error(`${commandId} was given before`);
        if ((last.all("Appointment", id)[0][0] ?? 0) !== at.revision) throw new Error(`${id} has gone on`);
        const decision = decide(at.state, command, { id, issuedAt, others: [] });
        const first = position + 1;
        for (const event of decision) {
          position += 1;
          at.revision += 1;
          at.state = Object.freeze(evolve(at.state, event));
          insertEvent.run(
            position, randomUUID(), "Appointment", id, at.revision, event.type, 1, recordedAt, iso,
            commandId, commandId, null, null, null, "[]", JSON.stringify(event.data),
          );
        }
        insertCommand.run(commandId, digest, "Appointment", id, first, at.revision, decision.length, recordedAt);
      }
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  close() {
    this.#database.close();
  }
}

const LEAN_TABLE = `
  CREATE TABLE plain_events (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    revision INTEGER NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (stream, revision)
  ) STRICT`;

/** The lean floor: one plain row an event, whose unique key is the only check. */
export class LeanFloor {
  #database;
  #insert;
  #states = new Map();

  constructor(driver, file) {
    this.#database = connect(driver, file);
    this.#database.exec("PRAGMA journal_mode = WAL");
    this.#database.exec("PRAGMA synchronous = FULL");
    if (this.#database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'plain_events'").all().length === 0) {
      this.#database.exec(LEAN_TABLE);
    }
    this.#insert = this.#database.prepare("INSERT INTO plain_events (stream, revision, type, data) VALUES (?, ?, ?, ?)");
  }

  /** Writes these streams' first events. */
  fill(events) {
    this.#database.exec("BEGIN");
    for (const [id, event] of events) this.#append(id, event);
    this.#database.exec("COMMIT");
  }

  execute(commands) {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const issuedAt = new Date();
      for (const { id, command } of commands) {
        const { state } = this.#states.get(id);
        for (const event of decide(state, command, { id, issuedAt, others: [] })) this.#append(id, event);
      }
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  #append(id, event) {
    let at = this.#states.get(id);
    if (at === undefined) this.#states.set(id, (at = { revision: 0, state: { status: "none" } }));
    at.revision += 1;
    at.state = Object.freeze(evolve(at.state, event));
    this.#insert.run(id, at.revision, event.type, JSON.stringify(event.data));
  }

  close() {
    this.#database.close();
  }
}

/** Emmett's store on a file: one connection, in the same journal mode and at the same durability. */
export async function openEmmett(file) {
  const { getSQLiteEventStore, sqliteConnection } = await import("@event-driven-io/emmett-sqlite");
  const connection = sqliteConnection({ fileName: file });
  await connection.command("PRAGMA journal_mode = WAL");
  await connection.command("PRAGMA synchronous = FULL");
  const store = getSQLiteEventStore({ fileName: file, connectionOptions: { singleton: true, connection } });
  await store.schema.migrate();
  return { store, close: () => connection.close() };
}
