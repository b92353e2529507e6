import { newEpoch } from "../epoch.js";
import { formOf } from "../messages.js";
import { StorageFailure } from "../storage.js";
import { isBusy, unknownFormat } from "./errors.js";

/** The part of `node:sqlite`, `bun:sqlite`, `better-sqlite3` and `libsql` that is used. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
}

export interface SqliteStatement {
  run(...parameters: unknown[]): unknown;
  all(...parameters: unknown[]): unknown[];
}

const FORMAT = 2;

/** "Anls": what `file` and others can tell the database by. */
const APPLICATION_ID = 0x416e6c73;

/**
 * What format 2 has more than format 1. Most commands are their own first cause, and their ids are
 * found already. A document tells its postings, a JSON array of pairs, so that they are found again
 * when it is replaced or removed.
 */
const SINCE_1 = `
  CREATE INDEX events_by_correlation ON events (correlation_id) WHERE correlation_id <> command_id;

  CREATE TABLE documents (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    postings TEXT,
    value TEXT NOT NULL,
    PRIMARY KEY (collection, key)
  ) STRICT;

  CREATE TABLE document_postings (
    collection TEXT NOT NULL,
    index_name TEXT NOT NULL,
    value TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (collection, index_name, value, key)
  ) STRICT, WITHOUT ROWID;
`;

/**
 * `annals_meta` tells the format and the store's epoch. `events` has a row for each event: streams
 * are found by its unique index, the log by its key. `event_tags` finds events by tag. `commands`
 * remembers the command ids, which are looked up in every append and outlive the events' rows.
 * `documents` are what is made of the events, and may be made anew; `document_postings` finds them by
 * what is in them.
 */
const TABLES = `
  CREATE TABLE annals_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    issued_at TEXT NOT NULL,
    command_id TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    causation_id TEXT,
    actor TEXT,
    metadata TEXT,
    tags TEXT NOT NULL,
    data TEXT NOT NULL,
    subject TEXT, -- reserved, with key_id: whose data it is, and the key it is encrypted with
    key_id TEXT,
    UNIQUE (aggregate_type, aggregate_id, revision)
  ) STRICT;

  CREATE INDEX events_by_type ON events (event_type);

  CREATE TABLE event_tags (
    tag TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE commands (
    command_id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    count INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    commit_hash TEXT -- reserved: a log that can be verified
  ) STRICT, WITHOUT ROWID;

  CREATE TRIGGER events_are_not_updated BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events can only be appended'); END;
  CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events can only be appended'); END;
  CREATE TRIGGER commands_are_not_updated BEFORE UPDATE ON commands
    BEGIN SELECT RAISE(ABORT, 'commands can only be appended'); END;
  CREATE TRIGGER commands_are_not_deleted BEFORE DELETE ON commands
    BEGIN SELECT RAISE(ABORT, 'commands can only be appended'); END;
${SINCE_1}`;

const namesIn = (sql: string) =>
  [...sql.matchAll(/CREATE (?:TABLE|INDEX|TRIGGER) (\w+)/g)].map(([, name]) => name!);

/** Every name that {@link TABLES} takes, and those that format 1 did not take. */
const NAMES = namesIn(TABLES);
const NEW_NAMES = namesIn(SINCE_1);

/** Columns of an event, under the names of `StoredEvent`. */
const EVENT = `
  position, aggregate_type AS aggregateType, aggregate_id AS aggregateId, revision,
  event_id AS eventId, event_type AS type, schema_version AS schemaVersion, tags,
  recorded_at AS recordedAt, issued_at AS issuedAt, command_id AS commandId,
  correlation_id AS correlationId, causation_id AS causationId, actor, metadata AS extra, data`;

/** Answered with `StoredEvent`s. */
const EVENTS = {
  streamEvents: `
    SELECT ${EVENT} FROM events
    WHERE aggregate_type = ? AND aggregate_id = ? AND revision > ? AND revision <= ?
    ORDER BY revision`,
  page: `SELECT ${EVENT} FROM events WHERE position > ? ORDER BY position LIMIT ?`,
  pageBack: `SELECT ${EVENT} FROM events WHERE position < ? ORDER BY position DESC LIMIT ?`,
  eventsAt: `
    SELECT ${EVENT} FROM json_each(?) AS wanted CROSS JOIN events ON position = wanted.value
    ORDER BY wanted.key`,
} as const;

const EPOCH = `(SELECT value FROM annals_meta WHERE key = 'epoch')`;

const HEAD = `(SELECT max(position) FROM events)`;

/** The stream's revision, of a row that names the stream. */
const REVISION = `(
  SELECT max(revision) FROM events
  WHERE aggregate_type = asked.type AND aggregate_id = asked.id)`;

/** The form of an event. Numbers that are written out need not be made texts, event by event. */
const FORM = `CASE schema_version WHEN 1 THEN event_type
  ${[2, 3, 4, 5, 6].map((version) => `WHEN ${version} THEN event_type || '${formOf("", version)}'`).join(" ")}
  ELSE event_type || char(127) || schema_version END`;

/**
 * A line with the forms of events as JSON, then their `Messages.data`: a row for each would cost
 * more. They are ordered by an inner query, to whose order SQLite holds where an aggregate depends
 * on it.
 */
const MESSAGES = `
  json_group_array(${FORM}) || char(10) || '[' || group_concat(data, ',\n') || ']'`;

/** A blob comes after all texts: so no end is given. */
const IN_KEYS = `FROM documents WHERE collection = ? AND key >= ? AND key < ifnull(?, x'')`;

const IN_POSTINGS = `
  WHERE posting.collection = ? AND posting.index_name = ?
    AND (posting.value, posting.key) >= (?, ?)
    AND (posting.value, posting.key) < (ifnull(?, x''), ?)`;

const scanKeys = (direction: string) => `
  SELECT key, key, revision, value ${IN_KEYS} ORDER BY key ${direction} LIMIT ?`;

const scanPostings = (direction: string) => `
  SELECT posting.value, posting.key, revision, documents.value
  FROM document_postings AS posting CROSS JOIN documents USING (collection, key) ${IN_POSTINGS}
  ORDER BY posting.value ${direction}, posting.key ${direction} LIMIT ?`;

/** The first position from one on, in this order, of the events that a filter of the log lets pass. */
const seeks = (from: ">=" | "<=", order: "ASC" | "DESC") => {
  const upTo = `ORDER BY position ${order} LIMIT 1`;
  const own =
    order === "ASC"
      ? "max(commands.position, ?) AND commands.position + count - 1"
      : "commands.position AND min(?, commands.position + count - 1)";
  return {
    all: `SELECT position FROM events WHERE position ${from} ? ${upTo}`,
    tag: `SELECT position FROM event_tags WHERE tag = ? AND position ${from} ? ${upTo}`,
    type: `SELECT position FROM events WHERE event_type = ? AND position ${from} ? ${upTo}`,
    correlation: `
      SELECT position FROM (
        SELECT position FROM events
        WHERE correlation_id = ? AND correlation_id <> command_id AND position ${from} ?
        UNION ALL
        SELECT events.position FROM commands JOIN events ON events.position BETWEEN ${own}
        WHERE commands.command_id = ? AND correlation_id = ?)
      ${upTo}`,
    // The + keeps SQLite from sorting all events of the aggregate types to find the first.
    aggregateTypes: `
      SELECT position FROM events
      WHERE +aggregate_type IN (SELECT value FROM json_each(?)) AND position ${from} ? ${upTo}`,
  };
};

const [SEEK, SEEK_BACK] = [seeks(">=", "ASC"), seeks("<=", "DESC")];

/** Answered with arrays. */
const LISTS = {
  dataVersion: `PRAGMA data_version`,

  state: `SELECT ${EPOCH}, ${HEAD}`,
  // New command ids sort by time, so one look tells that none of an append's is known, as is nearly
  // always so.
  facts: `
    SELECT ${EPOCH}, last.position, last.recorded_at,
      EXISTS (SELECT 1 FROM commands WHERE command_id BETWEEN ? AND ?)
    FROM (SELECT ${HEAD} AS position) AS head LEFT JOIN events AS last USING (position)`,
  firstOutcomes: `
    SELECT asked.key, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at
    FROM json_each(?) AS asked CROSS JOIN commands ON command_id = asked.value`,

  document: `SELECT revision, value FROM documents WHERE collection = ? AND key = ?`,
  postings: `SELECT postings FROM documents WHERE collection = ? AND key = ?`,
  scanKeys: scanKeys("ASC"),
  scanKeysBack: scanKeys("DESC"),
  countKeys: `SELECT count(*) ${IN_KEYS}`,
  scanPostings: scanPostings("ASC"),
  scanPostingsBack: scanPostings("DESC"),
  countPostings: `SELECT count(*) FROM document_postings AS posting ${IN_POSTINGS}`,

  revision: `SELECT ${REVISION} FROM (SELECT ? AS type, ? AS id) AS asked`,
  moment: `
    SELECT position, recorded_at FROM events
    WHERE aggregate_type = ? AND aggregate_id = ? AND revision = ?`,
  slices: `
    SELECT asked.key, ${REVISION}, (
      SELECT ${MESSAGES} FROM (
        SELECT event_type, schema_version, data FROM events
        WHERE aggregate_type = asked.type AND aggregate_id = asked.id
          AND revision > asked.after AND revision <= asked.up_to
        ORDER BY revision))
    FROM (
      SELECT key, value ->> 0 AS type, value ->> 1 AS id, value ->> 2 AS after, value ->> 3 AS up_to
      FROM json_each(?)) AS asked`,
  // The stream's end is looked for only where the events don't tell.
  stateAndSlice: `
    SELECT ${EPOCH}, ${HEAD},
      CASE WHEN max(revision) < ? THEN max(revision) ELSE (
        SELECT max(revision) FROM events WHERE aggregate_type = ? AND aggregate_id = ?) END,
      ${MESSAGES}
    FROM (
      SELECT revision, event_type, schema_version, data FROM events
      WHERE aggregate_type = ? AND aggregate_id = ? AND revision > ? AND revision <= ?
      ORDER BY revision)`,

  seekAll: SEEK.all,
  seekAllBack: SEEK_BACK.all,
  seekTag: SEEK.tag,
  seekTagBack: SEEK_BACK.tag,
  seekType: SEEK.type,
  seekTypeBack: SEEK_BACK.type,
  seekCorrelation: SEEK.correlation,
  seekCorrelationBack: SEEK_BACK.correlation,
  seekAggregateTypes: SEEK.aggregateTypes,
  seekAggregateTypesBack: SEEK_BACK.aggregateTypes,
} as const;

/** Writes of one row each: drivers were not faster with many, nor with a JSON text of them. */
const WRITES = {
  insertEvent: `
    INSERT INTO events (position, event_id, aggregate_type, aggregate_id, revision, event_type,
      schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor,
      metadata, tags, data)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  insertTag: `INSERT OR IGNORE INTO event_tags (tag, position) VALUES (?, ?)`,
  saveDocument: `
    INSERT INTO documents (collection, key, revision, postings, value) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (collection, key) DO UPDATE SET
      revision = excluded.revision, postings = excluded.postings, value = excluded.value`,
  removeDocument: `DELETE FROM documents WHERE collection = ? AND key = ?`,
  clearDocuments: `DELETE FROM documents WHERE collection = ?`,
  insertPosting: `
    INSERT OR IGNORE INTO document_postings (collection, index_name, value, key) VALUES (?, ?, ?, ?)`,
  removePosting: `
    DELETE FROM document_postings
    WHERE collection = ? AND index_name = ? AND value = ? AND key = ?`,
  clearPostings: `DELETE FROM document_postings WHERE collection = ?`,
  insertCommand: `
    INSERT INTO commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count,
      recorded_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
} as const;

type Names = keyof typeof EVENTS | keyof typeof LISTS | keyof typeof WRITES;

export type Statements = { readonly [Name in Names]: SqliteStatement };

export interface PreparedStore {
  readonly statements: Statements;
  readonly inMemory: boolean;
}

/**
 * Makes the database a store, if it is none. One that is somebody else's is left as it was; with `null`
 * for durability, as is any: it is only read.
 */
export function prepareStore(
  database: SqliteDatabase,
  durability: "full" | "normal" | null,
): PreparedStore {
  // Waiting is done outside the driver, which would stop the whole process.
  database.exec("PRAGMA busy_timeout = 0");
  if (typeof pragma(database, "user_version") !== "number") {
    throw new StorageFailure("storage-failed", "expected integers as numbers, found big integers");
  }
  const format = formatIn(database);
  const encoding = pragma(database, "encoding");
  if (encoding !== "UTF-8") {
    // Its texts would be in another order.
    throw new StorageFailure("storage-failed", `expected a database in UTF-8, found ${String(encoding)}`);
  }
  if (durability === null) {
    if (format === undefined) throw unknownFormat("a database without one");
    if (format !== FORMAT) throw unknownFormat(`format ${format}, which is to be migrated to ${FORMAT} first`);
    return { statements: prepareStatements(database), inMemory: pragma(database, "journal_mode") === "memory" };
  }
  const mode = pragma(database, "journal_mode = WAL");
  const inMemory = mode === "memory";
  if (!inMemory && mode !== "wal") {
    throw new StorageFailure("storage-failed", `expected journal mode wal, found ${String(mode)}`);
  }
  database.exec(`PRAGMA synchronous = ${durability === "full" ? "FULL" : "NORMAL"}`);
  if (format !== FORMAT) upgrade(database);
  return { statements: prepareStatements(database), inMemory };
}

/**
 * The first row. Not by the drivers' `get`: libsql's leaves the statement unfinished, and with it a
 * read of an old moment, on which no append of this connection can follow.
 */
export function first(statement: SqliteStatement, ...parameters: unknown[]): unknown {
  return statement.all(...parameters)[0];
}

/** Makes a store of this format of an older one, or of a database without one. */
function upgrade(database: SqliteDatabase): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    // Another process may have been faster.
    const format = formatIn(database);
    if (format === undefined) create(database);
    if (format === 1) {
      database.exec(SINCE_1);
      database.prepare("UPDATE annals_meta SET value = ? WHERE key = 'format'").run(String(FORMAT));
      mark(database);
    }
    database.exec("COMMIT");
  } catch (error) {
    rollBack(database);
    throw error;
  }
}

function create(database: SqliteDatabase): void {
  if (isEmpty(database)) {
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    mark(database);
  }
  database.exec(TABLES);
  const insert = database.prepare("INSERT INTO annals_meta (key, value) VALUES (?, ?)");
  insert.run("format", String(FORMAT));
  insert.run("epoch", newEpoch());
}

/** A file that others use as well keeps their marks. */
function mark(database: SqliteDatabase): void {
  if (pragma(database, "application_id") === APPLICATION_ID)
    database.exec(`PRAGMA user_version = ${FORMAT}`);
}

/** Fails where the driver has rolled back by itself. */
export function rollBack(database: SqliteDatabase): void {
  try {
    database.exec("ROLLBACK");
  } catch {
    // Nothing is left to roll back.
  }
}

/**
 * The format of the store in the database, `undefined` if there is none. A database that has no
 * place for a store is refused.
 */
function formatIn(database: SqliteDatabase): 1 | typeof FORMAT | undefined {
  const taken = (
    database
      .prepare(
        "SELECT name FROM sqlite_schema WHERE lower(name) IN (SELECT value FROM json_each(?))",
      )
      .all(JSON.stringify(NAMES)) as { readonly name: string }[]
  ).map(({ name }) => name.toLowerCase());
  const applicationId = pragma(database, "application_id");
  if (taken.length === 0) {
    if (applicationId === 0 || applicationId === APPLICATION_ID) return undefined;
    throw unknownFormat(`a database with application id ${String(applicationId)}`);
  }
  const format = Number(readFormat(database, taken[0]!));
  const isTaken = NEW_NAMES.find((name) => taken.includes(name));
  if (format === 1 && isTaken !== undefined)
    throw unknownFormat(`something else that is called ${isTaken}`);
  if (format === 1 || format === FORMAT) return format;
  throw unknownFormat(`format ${format}, not ${FORMAT}`);
}

function readFormat(database: SqliteDatabase, name: string): string {
  let row: { readonly value: string } | undefined;
  try {
    row = first(
      database.prepare("SELECT value FROM annals_meta WHERE key = 'format'"),
    ) as typeof row;
  } catch (error) {
    if (isBusy(error)) throw error;
    throw unknownFormat(`something else that is called ${name}`, error);
  }
  if (row === undefined) throw unknownFormat(`something else that is called ${name}`);
  return row.value;
}

function isEmpty(database: SqliteDatabase): boolean {
  return (
    first(database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1")) === undefined &&
    pragma(database, "user_version") === 0
  );
}

function pragma(database: SqliteDatabase, text: string): unknown {
  const row = first(database.prepare(`PRAGMA ${text}`)) as object;
  return Object.values(row)[0];
}

function prepareStatements(database: SqliteDatabase): Statements {
  const prepared = Object.entries({ ...EVENTS, ...LISTS, ...WRITES }).map(([name, sql]) => {
    const statement = database.prepare(sql);
    return [name, name in LISTS ? withArrays(statement) : statement];
  });
  return Object.fromEntries(prepared) as Statements;
}

/** The statement, with rows as arrays: they are cheaper than objects. */
function withArrays(statement: SqliteStatement): SqliteStatement {
  const { values, raw, setReturnArrays } = statement as {
    values?(...parameters: unknown[]): unknown[];
    raw?(): unknown;
    setReturnArrays?(enabled: boolean): unknown;
  };
  const reading = (all: SqliteStatement["all"]): SqliteStatement => ({
    run: (...parameters) => statement.run(...parameters),
    all,
  });
  // Bun's: its `raw` gives bytes.
  if (values !== undefined) return reading((...parameters) => values.apply(statement, parameters));
  if (raw !== undefined) raw.call(statement);
  else if (setReturnArrays !== undefined) setReturnArrays.call(statement, true);
  else return reading((...parameters) => statement.all(...parameters).map((row) => Object.values(row as object)));
  return statement;
}
