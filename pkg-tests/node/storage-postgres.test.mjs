import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { postgresRoles, postgresSchema, postgresStorage } from "annals/postgres";
import { Subject, commit, event } from "annals/testing/conformance";
import pg from "pg";
import { enrol } from "../support/conformance.mjs";
import { fails, until } from "../support/expect.mjs";
import { connection, pool } from "../support/postgres.mjs";
import { noServer, Server } from "../support/postgres-server.mjs";
import { formatOneIn, onServer } from "../support/postgres-conformance.mjs";
import { backendsAt, newSchema, poolOf } from "../support/postgres-stores.mjs";

enrol(test, onServer(pool, connection), "PostgreSQL");

/** Nothing but the server's own word may tell it. */
const NEVER = 1_000_000_000;

/** A rule of a schema. `open()` gives an adapter on it, `pools` are ended after it. */
const rule = (name, run) =>
  test(name, { timeout: 120_000 }, async () => {
    const schema = newSchema();
    const opened = [];
    const pools = [];
    try {
      await run({
        schema,
        newPool(options) {
          pools.push(poolOf({ connection }, options));
          return pools.at(-1);
        },
        async open(options) {
          opened.push(await Subject.open(postgresStorage({ database: pool, schema, ...options })));
          return opened.at(-1);
        },
        sql: (text, values) => pool.query(text.replaceAll("$.", `"${schema}".`), values),
      });
    } finally {
      for (const { storage } of opened) await storage.close();
      for (const pool of pools) await pool.end();
      await pool.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
    }
  });

/** Somebody who appends, and has not come to an end. */
async function lockStore(sql, schema) {
  const client = await pool.connect();
  await client.query(`BEGIN; SELECT FROM "${schema}".store FOR UPDATE`);
  return async () => {
    await client.query("ROLLBACK");
    client.release();
  };
}

// --- The store --------------------------------------------------------------------------------

rule("of several that open a store for the first time one makes it, and all find the same", async ({ schema, newPool }) => {
  const pools = Array.from({ length: 4 }, () => newPool());
  const adapters = pools.flatMap((database) => [0, 1].map(() => postgresStorage({ database, schema })));
  const found = await Promise.all(adapters.map((adapter) => adapter.open()));
  for (const info of found) assert.deepEqual(info, found[0]);
});

for (const [what, sql] of [
  ["somebody else's table of the same name", `CREATE TABLE "$".events (id integer)`],
  ["somebody else's view of the same name", `CREATE VIEW "$".projections AS SELECT 1`],
  ["somebody else's function of the same name", `CREATE FUNCTION "$".judge(commits jsonb, facts jsonb, given_at bigint) RETURNS jsonb LANGUAGE sql RETURN commits`],
  ["somebody else's index of the same name", `CREATE TABLE "$".mine (id integer); CREATE INDEX events_by_type ON "$".mine (id)`],
  ["somebody else's store", `CREATE TABLE "$".store (goods text)`],
]) {
  rule(`a schema with ${what} is refused and left as it was`, async ({ schema }) => {
    await pool.query(`CREATE SCHEMA "${schema}"; ${sql.replaceAll("$", schema)}`);
    const all = () =>
      pool.query(`SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = $1::regnamespace`, [`"${schema}"`]);
    const before = (await all()).rows;
    await fails(() => postgresStorage({ database: pool, schema }).open(), { code: "unknown-format", retryable: false });
    assert.deepEqual((await all()).rows, before);
  });
}

rule("a schema of a newer format is refused", async ({ open, sql, schema }) => {
  await open();
  await sql(`CREATE OR REPLACE FUNCTION $.open_store(patience text) RETURNS text LANGUAGE sql RETURN '{"format": 3}'`);
  await fails(() => postgresStorage({ database: pool, schema }).open(), { code: "unknown-format", retryable: false });
});

rule("of several that open a store of an older format one migrates it, while others work, and all find the same", async ({ schema, newPool, sql }) => {
  await pool.query(formatOneIn(schema));
  const pools = Array.from({ length: 4 }, () => newPool());
  const adapters = pools.flatMap((database) => [0, 1].map(() => postgresStorage({ database, schema })));
  const found = await Promise.all(adapters.map((adapter) => adapter.open()));
  for (const info of found) assert.deepEqual(info, found[0]);
  assert.deepEqual((await sql("SELECT format FROM $.store")).rows, [{ format: 2 }]);
  // What an application of the release before asks is answered as it was.
  const { epoch } = found[0];
  const asked = { after: 1, types: [], aggregateTypes: [], tags: [], correlationId: null, limit: 2 };
  const { rows } = await sql("SELECT * FROM $.read_log($1, $2)", [epoch, JSON.stringify(asked)]);
  assert.deepEqual(rows.slice(1).map(({ about }) => JSON.parse(about)[0]), [2, 3]);
});

rule("who may not migrate a store of an older format is told that it is to be done", async ({ schema, newPool }) => {
  const role = `${schema} application`;
  const quoted = `"${role}"`;
  await pool.query(formatOneIn(schema));
  await pool.query(`CREATE ROLE ${quoted} LOGIN`);
  try {
    await pool.query(postgresRoles({ schema, application: role }));
    const refused = { code: "unknown-format", retryable: false, message: "expected a store of Annals, found format 1, which is to be migrated to 2 first" };
    const own = postgresStorage({ database: newPool({ user: role }), schema });
    await fails(() => own.open(), refused);
    const options = "-c default_transaction_read_only=on";
    await fails(() => postgresStorage({ database: newPool({ options }), schema }).open(), refused);
    await pool.query(postgresSchema({ schema }));
    const subject = await Subject.open(own);
    assert.deepEqual((await subject.log({ descending: true })).map(({ position }) => position), [4, 3, 2, 1]);
  } finally {
    await pool.query(`DROP OWNED BY ${quoted}; DROP ROLE ${quoted}`);
  }
});

test("a schema's name that SQL might read as something else is refused", () => {
  for (const schema of ["", "a\"b", "a'b", "a$b", "a.b", "é", "x".repeat(49)])
    assert.throws(() => postgresStorage({ database: pool, schema }), { code: "invalid-argument" }, schema);
});

test("what is no pool is refused", async () => {
  assert.throws(() => postgresStorage({ database: {} }), { code: "invalid-argument" });
  const client = new pg.Client(connection);
  await fails(() => postgresStorage({ database: client }).open(), { code: "invalid-argument" });
  await client.end();
});

rule("transactions that would not see what was there before them are refused", async ({ newPool, schema }) => {
  for (const isolation of ["repeatable read", "serializable"]) {
    const database = newPool({ options: `-c default_transaction_isolation=${isolation.replace(" ", "\\ ")}` });
    const error = await fails(() => postgresStorage({ database, schema }).open(), { code: "storage-failed", retryable: false });
    assert.match(error.message, new RegExp(isolation));
  }
});

rule("events are readable rows", async ({ open, sql }) => {
  const subject = await open();
  await subject.accept(commit("a-1", 0, [event("AppointmentBooked", ["doctor:7", "room:3"], { data: '{"title": "Knee"}' })], { actor: "reception", extra: '{"ip": "::1"}' }));
  const { rows } = await sql("SELECT position, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, actor, tags, data ->> 'title' AS title, metadata ->> 'ip' AS ip FROM $.events");
  const [{ recorded_at: recordedAt, ...row }] = rows;
  assert.deepEqual(row, {
    position: "1",
    aggregate_type: "Appointment",
    aggregate_id: "a-1",
    revision: "1",
    event_type: "AppointmentBooked",
    schema_version: "1",
    actor: "reception",
    tags: ["doctor:7", "room:3"],
    title: "Knee",
    ip: "::1",
  });
  assert.equal(recordedAt.getTime(), subject.now);
});

rule("a projection's documents are a table to query, and a built version is shown until the next one is", async ({ open, sql }) => {
  const subject = await open();
  const checkpoint = (version, built) => ({ collection: "checkpoints", key: `["agenda",${version}]`, revision: 9, value: `{"built":${built}}` });
  const document = (version, key, title) => ({ collection: `view/${version}/agenda`, key, revision: 1, value: JSON.stringify({ title }) });
  const titles = async () => (await sql("SELECT key, value ->> 'title' AS title FROM $.projected('agenda') ORDER BY key")).rows.map(({ key, title }) => [key, title]);
  assert.deepEqual(await titles(), []);
  await subject.save(checkpoint(1, true), document(1, "a", "Knee"), document(1, "b", "Hip"));
  await subject.save(checkpoint(2, false), document(2, "a", "The knee"));
  assert.deepEqual(await titles(), [["a", "Knee"], ["b", "Hip"]]);
  await subject.save(checkpoint(2, true));
  assert.deepEqual(await titles(), [["a", "The knee"]]);
  const { rows } = await sql("SELECT * FROM $.projections ORDER BY version");
  assert.deepEqual(rows, [1, 2].map((version) => ({ projection: "agenda", version: String(version), built: true, position: "9" })));
  await subject.save({ ...checkpoint(3, false), revision: 2 ** 52 + 10, value: '{"built":false,"cancelled":true}' });
  const { rows: newest } = await sql("SELECT built, position FROM $.projections WHERE version = 3");
  assert.deepEqual(newest, [{ built: false, position: "0" }]);
});

rule("each request is one statement, as the owner and without a compiler's help, and an append is one whatever is in it", async ({ open, sql, schema }) => {
  const statements = [];
  const watched = (client) =>
    new Proxy(client, {
      get(_, name) {
        const member = client[name];
        if (typeof member !== "function") return member;
        return (...args) => {
          if (name === "query") statements.push(args[0].text ?? args[0]);
          return member.apply(client, args);
        };
      },
    });
  const subject = await open({ database: { connect: async () => watched(await pool.connect()), on() {} } });
  const asked = async (work) => {
    statements.length = 0;
    await work();
    return statements.map((text) => /\.(\w+)\(/.exec(text)?.[1]);
  };
  const condition = { query: [{ types: [], tags: ["t"] }], after: 0, neighbours: [] };
  const commits = Array.from({ length: 100 }, (_, index) => commit(`a-${index}`, 0, [event("Booked", [`t ${index}`]), event()], { condition }));
  assert.deepEqual(await asked(() => subject.accept(...commits)), ["append"]);
  const streams = commits.map(({ aggregateType, aggregateId }) => {
    return { aggregateType, aggregateId, after: 0, snapshot: aggregateId, untilRevision: null, untilPosition: null, untilTime: null, limit: 10, whole: false };
  });
  assert.deepEqual(await asked(() => subject.load({ streams, commands: ["c"], queries: [condition] })), ["load"]);
  assert.deepEqual(await asked(() => subject.page({ tags: ["t 7"] })), ["read_log"]);
  const documents = [1, 2].map((revision) => ({ collection: "agenda", key: `${revision}`, revision }));
  assert.deepEqual(await asked(() => subject.save(...documents.map((document) => ({ ...document, value: "{}" })))), ["save_documents"]);
  assert.deepEqual(await asked(() => subject.read({ names: documents, scans: [{ collection: "agenda" }, { collection: "agenda", index: "i" }] })), ["read_documents"]);
  assert.deepEqual(await asked(() => subject.storage.open()), ["open_store"]);

  const names = ["append", "load", "open_store", "read_documents", "read_log", "save_documents"];
  const { rows } = await sql("SELECT proname AS name, prosecdef AS owner, 'jit=off' = ANY (proconfig) AS plain FROM pg_proc WHERE pronamespace = $1::regnamespace AND proname = ANY ($2) ORDER BY 1", [`"${schema}"`, names]);
  assert.deepEqual(rows, names.map((name) => ({ name, owner: true, plain: true })));
});

rule("a document whose key or value is too long for an index is refused, and all of the request", async ({ open }) => {
  const subject = await open();
  // Of texts that can't be compressed.
  const text = (bytes) => randomBytes(bytes).toString("base64").slice(0, bytes);
  const document = (key, postings = []) => ({ collection: "agenda", key, revision: 1, value: "{}", postings });
  await subject.save(document(text(2500)), document("a", [["of", text(2500)], [text(2000), "x"]]));
  const refusal = { code: "storage-failed", retryable: false, mayBeApplied: false };
  for (const refused of [document(text(4000)), document("b", [["of", text(4000)]])])
    assert.equal((await fails(() => subject.save(document("c"), refused), refusal)).cause.code, "54000");
  const [{ count }] = (await subject.read({ scans: [{ collection: "agenda", limit: null }] })).scans;
  assert.equal(count, 2);
});

// --- Roles ------------------------------------------------------------------------------------

rule("events and commands can be neither changed nor deleted, even by the owner", async ({ open, sql }) => {
  const subject = await open();
  await subject.accept(commit("a-1", 0, [event()]));
  for (const table of ["events", "commands"])
    for (const text of [`UPDATE $.${table} SET aggregate_id = 'x'`, `DELETE FROM $.${table}`, `TRUNCATE $.${table}`])
      await assert.rejects(sql(text), /can only be appended/, text);
  assert.equal((await subject.log()).length, 1);
});

rule("an application's role does all that an engine asks and touches no table; a reader's role reads", async ({ schema, newPool, sql }) => {
  const [application, reader] = [`${schema} application`, `${schema} "reader"`];
  const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
  await pool.query(`CREATE ROLE ${quoted(application)} LOGIN; CREATE ROLE ${quoted(reader)} LOGIN`);
  try {
    const database = newPool({ user: application });
    // It may not make the store.
    await fails(() => postgresStorage({ database, schema }).open(), { code: "storage-failed", retryable: false });
    await pool.query(postgresSchema({ schema }));
    await fails(() => postgresStorage({ database, schema }).open(), { code: "storage-failed", retryable: false });
    await pool.query(postgresRoles({ schema, application, reader }));
    await pool.query(postgresRoles({ schema, application, reader }));

    const subject = await Subject.open(postgresStorage({ database, schema, pollInterval: 20 }));
    const told = [];
    const stop = subject.storage.subscribe((position) => told.push(position));
    await subject.accept(commit("a-1", 0, [event("Booked", ["t"])]));
    assert.equal((await subject.slice("Appointment", "a-1")).revision, 1);
    assert.equal((await subject.log({ tags: ["t"] })).length, 1);
    await subject.save({ collection: "agenda", key: "k", revision: 1, value: "{}", postings: [["i", "v"]] });
    assert.equal((await subject.read({ scans: [{ collection: "agenda", index: "i" }] })).scans[0].documents.length, 1);
    await sql("INSERT INTO $.events SELECT 2, 'e', 'A', 'a', 1, 'T', 1, now(), now(), 'c', 'c', null, null, null, '{}', '{}'; UPDATE $.store SET head = 2");
    await until(() => told.includes(2));
    stop();

    const denied = { code: "42501" };
    const { rows: tables } = await pool.query(`SELECT relname AS name FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'`, [quoted(schema)]);
    assert.equal(tables.length, 6);
    for (const user of [application, reader]) {
      const asker = newPool({ user });
      for (const { name } of tables) {
        const table = `${quoted(schema)}.${name}`;
        for (const text of [`INSERT INTO ${table} DEFAULT VALUES`, `DELETE FROM ${table}`, `TRUNCATE ${table}`, `DROP TABLE ${table}`, `ALTER TABLE ${table} DISABLE TRIGGER ALL`])
          await assert.rejects(asker.query(text), denied, `${user}: ${text}`);
        const { rows } = await pool.query("SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 LIMIT 1", [table]);
        await assert.rejects(asker.query(`UPDATE ${table} SET ${rows[0].name} = ${rows[0].name}`), denied, `${user}: UPDATE ${table}`);
        if (user === reader) await asker.query(`SELECT FROM ${table}`);
        else if (name !== "store") await assert.rejects(asker.query(`SELECT FROM ${table}`), denied, `${user}: SELECT ${table}`);
      }
    }
    const asker = newPool({ user: reader });
    await asker.query(`SELECT * FROM ${quoted(schema)}.projections; SELECT * FROM ${quoted(schema)}.projected('agenda')`);
    const asReader = Subject.open(postgresStorage({ database: asker, schema }));
    await assert.rejects(asReader, { code: "storage-failed", retryable: false });
  } finally {
    for (const role of [application, reader]) await pool.query(`DROP OWNED BY ${quoted(role)}; DROP ROLE ${quoted(role)}`);
  }
});

rule("statements are prepared once for a connection, and one that does not keep them does without", async ({ newPool, schema }) => {
  const names = async (pool) => (await pool.query("SELECT name FROM pg_prepared_statements")).rows.map(({ name }) => name);
  const ask = async (subject, id) => {
    await subject.accept(commit(id, 0, [event()]));
    assert.equal((await subject.slice("Appointment", id)).revision, 1);
  };
  const plain = newPool({ max: 1 });
  await ask(await Subject.open(postgresStorage({ database: plain, schema, prepare: false })), "a-0");
  assert.deepEqual(await names(plain), []);

  // As behind a pooler, which lends a connection that has not been asked before, or has, by somebody else.
  const losing = newPool({ max: 1 });
  const subject = await Subject.open(postgresStorage({ database: losing, schema }));
  await ask(subject, "a-1");
  assert.deepEqual((await names(losing)).sort(), ["append", "load", "open_store"].map((name) => `${schema}.${name}`));
  await losing.query("DEALLOCATE ALL");
  await ask(subject, "a-2");
  assert.deepEqual(await names(losing), [], "it has given up");

  const finding = newPool({ max: 1 });
  await finding.query(`PREPARE "${schema}.append" AS SELECT 1`);
  await ask(await Subject.open(postgresStorage({ database: finding, schema })), "a-3");
});

rule("requests read what they ask for, and no table from end to end", async ({ newPool, schema }) => {
  const database = newPool({ max: 1 });
  const subject = await Subject.open(postgresStorage({ database, schema }));
  const tables = ["events", "event_tags", "commands", "documents", "document_postings"];
  const fill = async (batch) => {
    const commits = Array.from({ length: 250 }, (_, n) => commit(`a-${batch}-${n}`, 0, [event(`Type${n % 50}`, [`t:${n % 50}`])]));
    return subject.accept(...commits);
  };
  for (let batch = 0; batch < 12; batch += 1) await fill(batch);
  const document = (n, revision) => ({ collection: "agenda", key: `k-${n}`, revision, value: "{}", postings: [["of", `${n % 100}`]] });
  const snapshot = (n) => ({ collection: "snapshots", key: `a-3-${n}`, revision: 1, value: "{}" });
  for (let batch = 0; batch < 3000; batch += 500) {
    await subject.save(...Array.from({ length: 500 }, (_, n) => document(batch + n, 1)), snapshot(batch));
  }
  await database.query(tables.map((table) => `ANALYZE "${schema}".${table}`).join("; "));
  const rowsRead = async () => {
    await database.query("SELECT pg_stat_force_next_flush()");
    const text = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int AS count FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = ANY ($2)";
    return (await database.query(text, [schema, tables])).rows[0].count;
  };
  const known = commit("a-0-0", 1, [event()]);
  const requests = {
    "a load of a stream": () => subject.slice("Appointment", "a-3-7", { whole: false }),
    "a load of a whole stream": () => subject.slice("Appointment", "a-3-7"),
    "a load with a snapshot": () => subject.slice("Appointment", "a-3-7", { snapshot: "a-3-500" }),
    "a reading of documents": () => subject.read({ names: [document(7), document(8)], scans: [{ collection: "agenda", index: "of", from: "7", limit: 5 }] }),
    "a change of documents": () => subject.change({ expected: [{ ...document(7), revision: 1 }], documents: [document(7, 1), { ...document(2999), value: null }] }),
    "a load of a first outcome": () => subject.load({ commands: [known.commandId] }),
    "a load of a query": () => subject.load({ queries: [{ query: [{ types: ["Type7"], tags: ["t:7"] }], after: 0 }] }),
    "an append": () => subject.append([commit("a-0-0", 0, [event()], { condition: { query: [{ types: [], tags: ["t:7"] }], after: 2990, neighbours: [] } })]),
    "a page": () => subject.page({ after: 1500, limit: 10 }),
    "a page back": () => subject.page({ after: 1500, limit: 10, descending: true }),
    "a page by tag": () => subject.page({ tags: ["t:7"], limit: 10 }),
    "a page by tag, back": () => subject.page({ tags: ["t:7"], limit: 10, after: 3000, descending: true }),
    "a page by cause": () => subject.page({ correlationId: known.commandId, limit: 10 }),
  };
  for (const [what, request] of Object.entries(requests)) {
    // Often enough for the server to plan it once and for all.
    for (let time = 0; time < 7; time += 1) await request();
    const before = await rowsRead();
    await request();
    const count = (await rowsRead()) - before;
    assert.ok(count < 500, `${what} has read ${count} rows`);
  }
});

// --- Waiting and failing ----------------------------------------------------------------------

rule("an append waits for the lock of others; one that waits too long fails as busy, with nothing applied", async ({ open, sql, schema }) => {
  const subject = await open();
  const impatient = await open({ busyTimeout: 30 });
  let unlock = await lockStore(sql, schema);
  const sent = commit("a-1", 0, [event()]);
  await fails(() => impatient.append([sent]), { code: "storage-busy", retryable: true, mayBeApplied: false });
  const answer = subject.append([sent]);
  while ((await backendsAt(pool, `%${schema}%append%`, "Lock")).length === 0);
  assert.equal((await subject.slice("Appointment", "a-1")).revision, 0, "reads don't wait");
  await unlock();
  assert.equal((await answer)[0].kind, "committed");
});

rule("an event that was recorded by an earlier append is never seen after one of a later", async ({ open }) => {
  const writers = [await open(), await open(), await open()];
  let seen = 0;
  let isOver = false;
  const reader = await open();
  const reading = (async () => {
    for (let last = false; ; last = isOver) {
      const { events } = await reader.page({ after: seen });
      for (const { position } of events) assert.equal(position, ++seen);
      if (last && events.length === 0) return;
    }
  })();
  await Promise.all(
    writers.map(async (writer, index) => {
      for (let n = 0; n < 25; n += 1) await writer.accept(commit(`${index}-${n}`, 0, [event(), event()]));
    }),
  );
  isOver = true;
  await reading;
  assert.equal(seen, 150);
});

rule("a connection that ends while the server works leaves the append's outcome open, and no lock", async ({ open, sql, schema }) => {
  const subject = await open();
  const unlock = await lockStore(sql, schema);
  const sent = commit("a-1", 0, [event()]);
  const failing = fails(() => subject.append([sent]), { code: "storage-failed", retryable: true, mayBeApplied: true });
  let found = [];
  while ((found = await backendsAt(pool, `%${schema}%append%`, "Lock")).length === 0);
  await pool.query("SELECT pg_terminate_backend($1)", [found[0]]);
  assert.ok((await failing).cause instanceof Error);
  await unlock();
  await subject.accept(sent);
  assert.equal((await subject.log()).length, 1);
});

rule("a request that takes too long is given up, with its outcome open; the next has another connection", async ({ newPool, open, sql, schema }) => {
  const database = newPool({ max: 1 });
  const subject = await open({ database });
  const impatient = postgresStorage({ database, schema, requestTimeout: 100, busyTimeout: 60_000 });
  const unlock = await lockStore(sql, schema);
  const sent = commit("a-1", 0, [event()]);
  const request = { epoch: subject.epoch, now: subject.now, commits: [sent] };
  await fails(() => impatient.append(request), { code: "storage-timed-out", retryable: true, mayBeApplied: true });
  assert.equal((await subject.slice("Appointment", "a-1")).revision, 0);
  await unlock();
  const [{ kind }] = await subject.append([sent]);
  assert.ok(["committed", "duplicate"].includes(kind));
  assert.equal((await subject.log()).length, 1);
});

rule("a pool that has no connection to spare is waited for, but not for ever, and nothing is applied", async ({ newPool, open, schema }) => {
  const database = newPool({ max: 1 });
  const subject = await open({ database });
  const impatient = postgresStorage({ database, schema, requestTimeout: 50 });
  const taken = await database.connect();
  const request = { epoch: subject.epoch, now: subject.now, commits: [commit("a-1", 0, [event()])] };
  await fails(() => impatient.append(request), { code: "storage-timed-out", retryable: true, mayBeApplied: false });
  const waiting = subject.append(request.commits);
  taken.release();
  assert.equal((await waiting)[0].kind, "committed");
  await until(() => database.idleCount === 1);
});

rule("what the server says of an append is told by a code, with its error as the cause and nothing applied", async ({ open, sql, newPool, schema }) => {
  const subject = await open();
  await sql(`CREATE FUNCTION $.fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''as asked'' USING ERRCODE = TG_ARGV[0]; END'`);
  for (const [state, code, retryable] of [
    ["40001", "storage-busy", true],
    ["40P01", "storage-busy", true],
    ["55P03", "storage-busy", true],
    ["53300", "storage-busy", true],
    ["53100", "storage-full", false],
    ["53200", "storage-failed", true],
    ["57014", "storage-timed-out", true],
    ["58030", "storage-failed", true],
    ["42501", "storage-failed", false],
    ["23505", "storage-failed", false],
    ["22003", "storage-failed", false],
    ["P0001", "storage-failed", false],
    ["XX000", "storage-failed", false],
  ]) {
    await sql(`CREATE TRIGGER fails BEFORE INSERT ON $.commands EXECUTE FUNCTION $.fail('${state}')`);
    const error = await fails(() => subject.append([commit("a-1", 0, [event()])]), { code, retryable, mayBeApplied: false });
    assert.equal(error.cause.code, state);
    await sql("DROP TRIGGER fails ON $.commands");
  }
  // After these the connection is of no use, and what became of the append is known of the last alone.
  const alone = newPool({ max: 1 });
  const backend = async () => (await alone.query("SELECT pg_backend_pid() AS id")).rows[0].id;
  const onOne = await Subject.open(postgresStorage({ database: alone, schema }));
  for (const state of ["57P01", "08006", "25006"]) {
    await sql(`CREATE TRIGGER fails BEFORE INSERT ON $.commands EXECUTE FUNCTION $.fail('${state}')`);
    const before = await backend();
    const mayBeApplied = state !== "25006";
    await fails(() => onOne.append([commit("a-1", 0, [event()])]), { code: "storage-failed", retryable: true, mayBeApplied });
    assert.notEqual(await backend(), before, `another connection after ${state}`);
    await sql("DROP TRIGGER fails ON $.commands");
  }
  await subject.accept(commit("a-1", 0, [event()]));
});

rule("a pool that was ended is told from other trouble; a database that is not there is not retried", async ({ schema, newPool }) => {
  const ended = poolOf({ connection });
  const subject = await Subject.open(postgresStorage({ database: ended, schema }));
  await ended.end();
  const expected = { code: "storage-closed", retryable: false, mayBeApplied: false };
  await fails(() => subject.append([commit("a-1", 0, [event()])]), expected);
  await fails(() => subject.log(), expected);
  await fails(() => subject.storage.open(), expected);
  const nowhere = postgresStorage({ database: newPool({ database: "nowhere" }), schema });
  await fails(() => nowhere.open(), { code: "storage-failed", retryable: false });
  const refused = postgresStorage({ database: newPool({ port: 1 }), schema });
  await fails(() => refused.open(), { code: "storage-failed", retryable: true });
});

// --- News -------------------------------------------------------------------------------------

rule("appends of others are heard, without looking", async ({ open }) => {
  const [one, other] = [await open({ pollInterval: NEVER }), await open()];
  const told = [];
  const stop = one.storage.subscribe((position) => told.push(position));
  for (let revision = 0; revision < 3; revision += 1) {
    await other.accept(commit("a-1", revision, [event()]));
    await until(() => told.includes(revision + 1));
  }
  stop();
});

rule("who listens notices that the connection is gone, listens again, and is told what was missed", async ({ open, newPool, schema }) => {
  const database = newPool();
  const [one, other] = [await open({ database, pollInterval: NEVER }), await open()];
  const told = [];
  const stop = one.storage.subscribe((position) => told.push(position));
  await until(() => database.totalCount > database.idleCount);
  for (let round = 0; round < 3; round += 1) {
    let found;
    while ((found = await backendsAt(pool, `LISTEN "annals/${schema}"`)).length === 0);
    // In one statement, so that nobody listens when it is told.
    const [{ kind, position }] = await other.accept(commit(`a-${round}`, 0, [event()]));
    await pool.query("SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) AS pid", [found]);
    await other.accept(commit(`b-${round}`, 0, [event()]));
    assert.equal(kind, "committed");
    await until(() => told.includes(position + 1));
  }
  stop();
  await until(() => database.totalCount === database.idleCount);
});

rule("with a pool of one connection nobody listens, and looks tell", async ({ open, newPool }) => {
  const [one, other] = [await open({ database: newPool({ max: 1 }), pollInterval: 10 }), await open()];
  const told = [];
  const stop = one.storage.subscribe((position) => told.push(position));
  await other.accept(commit("a-1", 0, [event(), event()]));
  await until(() => told.includes(2));
  stop();
});

// --- Lives ------------------------------------------------------------------------------------

rule("a copy of a database is another store, and stays the one it is", async ({ schema }) => {
  const [first, copy] = [`${schema} first`, `${schema} copy`];
  await pool.query(`CREATE DATABASE "${first}"`);
  try {
    const original = poolOf({ connection }, { database: first });
    const subject = await Subject.open(postgresStorage({ database: original }));
    await subject.accept(commit("a-1", 0, [event()]));
    await original.end();
    await pool.query(`CREATE DATABASE "${copy}" TEMPLATE "${first}"`);
    const copied = poolOf({ connection }, { database: copy });
    const found = await Promise.all([0, 1, 2].map(() => postgresStorage({ database: copied }).open()));
    assert.equal(found[0].head, 1);
    assert.notEqual(found[0].epoch, subject.epoch);
    for (const info of found) assert.deepEqual(info, found[0]);
    assert.deepEqual(await postgresStorage({ database: copied }).open(), found[0]);
    const request = { epoch: subject.epoch, commands: [], streams: [], queries: [] };
    await fails(() => postgresStorage({ database: copied }).load(request), { code: "foreign-epoch", retryable: false });
    await copied.end();
  } finally {
    for (const name of [copy, first]) await pool.query(`DROP DATABASE IF EXISTS "${name}" WITH (FORCE)`);
  }
});

rule("a table that was put in place of the store's is told by every request, and is another store when it is opened", async ({ open, sql }) => {
  const subject = await open();
  await subject.accept(commit("a-1", 0, [event()]));
  // As a dump that is restored under an open engine does.
  await sql("CREATE TABLE $.restored (LIKE $.store INCLUDING ALL); INSERT INTO $.restored SELECT * FROM $.store; DROP TABLE $.store; ALTER TABLE $.restored RENAME TO store");
  const expected = { code: "foreign-epoch", retryable: false, mayBeApplied: false };
  await fails(() => subject.append([commit("a-1", 1, [event()])]), expected);
  await fails(() => subject.slice("Appointment", "a-1"), expected);
  await fails(() => subject.log(), expected);
  await fails(() => subject.read({}), expected);
  await fails(() => subject.change({}), expected);
  const again = await open();
  assert.notEqual(again.epoch, subject.epoch);
  await again.accept(commit("a-1", 1, [event()]));
});

// --- Durability -------------------------------------------------------------------------------

test("durability is what the server is set to, and replication is waited for", { timeout: 120_000, skip: noServer }, async () => {
  const own = await Server.start({ fsync: "on" });
  const database = poolOf(own);
  try {
    const open = (options) => postgresStorage({ database, ...options }).open();
    assert.equal((await open()).durability, "power-loss");
    await fails(() => open({ durability: "replicated" }), { code: "storage-failed", retryable: false });

    await database.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    await database.query("SELECT pg_reload_conf()");
    for (let names = ""; names !== "nobody"; ) names = (await database.query("SHOW synchronous_standby_names")).rows[0].synchronous_standby_names;
    assert.equal((await open()).durability, "replicated");
    const local = await Subject.open(postgresStorage({ database, durability: "local" }));
    assert.equal(local.info.durability, "power-loss");
    await local.accept(commit("a-1", 0, [event()]));
    const replicated = postgresStorage({ database, durability: "replicated", requestTimeout: 200 });
    const request = { epoch: local.epoch, now: local.now, commits: [commit("a-1", 1, [event()])] };
    await fails(() => replicated.append(request), { code: "storage-timed-out", retryable: true, mayBeApplied: true });
  } finally {
    await database.end();
    await own.stop();
  }
});
