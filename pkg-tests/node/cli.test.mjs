// npx annals, as a process, from the packed package.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Engine, aggregate } from "annals";
import { projection } from "annals/projections";
import { reaction } from "annals/reactions";
import { sqliteStorage } from "annals/sqlite";
import { Subject, commit, event } from "annals/testing/conformance";
import { until } from "../support/expect.mjs";
import { installPackage } from "../support/installed-package.mjs";
import { connection, pool } from "../support/postgres.mjs";
import { formatOneIn } from "../support/postgres-conformance.mjs";
import { backendsAt, newSchema } from "../support/postgres-stores.mjs";
import { drivers } from "../support/sqlite-drivers.mjs";
import { importTypeScript } from "../support/typescript.mjs";

// Before any test, for the run is over when all that are known have ended.
const { NAMES } = await importTypeScript(new URL("../../src/host/testing/conformance/rules/texts.ts", import.meta.url));

const root = fileURLToPath(new URL("../..", import.meta.url));
const [[, connect]] = drivers;

let project;
let folder;
before(async () => {
  project = await installPackage();
  folder = mkdtempSync(path.join(tmpdir(), "annals-cli-"));
  // The command finds drivers, and the domain finds the package, in the project that it is called in.
  symlinkSync(path.join(root, "node_modules"), path.join(folder, "node_modules"));
  writeFileSync(path.join(folder, "domain.mjs"), domain);
  await fill(inFolder("clinic.db"));
});
after(async () => {
  await project?.remove();
  if (folder !== undefined) rmSync(folder, { recursive: true });
});

const inFolder = (name) => path.join(folder, name);

let scripts = 0;

/** Runs the command, and gives what it has said. */
async function annals(args, { cwd = folder, input, first } = {}) {
  let command = path.join(project.folder, "node_modules/annals/cli/main.js");
  if (first !== undefined) {
    // What the process is made to be before the command begins.
    const script = path.join(folder, `first-${(scripts += 1)}.mjs`);
    writeFileSync(script, `${first}\nawait import(${JSON.stringify(pathToFileURL(command).href)});\n`);
    command = script;
  }
  const child = spawn(process.execPath, [command, ...args], { cwd, env: { ...process.env, TERM: "xterm" } });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  child.stdin.end(input ?? "");
  child.stdin.on("error", () => undefined);
  const [code] = await once(child, "close");
  return { code, stdout, stderr };
}

/** Runs a command that must do what it is asked, and gives what it has for machines. */
async function json(args, options) {
  const { code, stdout, stderr } = await annals([...args, "--json"], options);
  assert.equal(stderr, "");
  return { code, ...JSON.parse(stdout) };
}

const domain = `
  import { aggregate } from "annals";
  import { projection } from "annals/projections";
  export const visit = aggregate("Visit", {
    initial: () => ({ events: 0 }),
    decide: () => [],
    evolve: { Booked: ({ events }, { data }) => ({ events: events + data.units.length }) },
    snapshots: { version: 1, every: 2 },
  });
  export const projections = [
    projection("workload", { version: 1, on: { Booked: (view, { data }) => view.set(data.doctor, { last: data.units.length }) }, indexes: { last: ({ last }) => last } }),
  ];
`;

const visit = aggregate("Visit", {
  initial: () => ({ events: 0 }),
  decide: (_, { data }) => [{ type: "Booked", data }],
  evolve: { Booked: ({ events }) => ({ events: events + 1 }) },
  tags: ({ data }) => [`doctor:${data.doctor}`],
});
/** The same, by a release that knows none of its events. */
const listed = aggregate("Visit", { initial: () => null, decide: () => [], evolve: () => null, events: { Seen: [] }, unknownEvents: "skip" });
const workload = projection("workload", {
  version: 1,
  kind: "inline",
  on: { Booked: (view, { data }) => view.set(data.doctor, { last: data.units.length }) },
  indexes: { last: ({ last }) => last },
});

/** A store with events, a view, a reaction and a named reader. */
async function fill(file, count = 30) {
  const database = connect(file);
  const mail = reaction("mail", { startAt: "now", on: { Booked: () => undefined } });
  const engine = await Engine.open({ storage: sqliteStorage({ database, durability: "normal" }), aggregates: [visit], projections: [workload], reactions: [mail] });
  const book = (index) => engine.execute(visit, `v-${index % 7}`, { type: "Book", data: { doctor: `d${index % 3}`, units: [1, 2] } }, { actor: index % 2 ? "reception" : undefined });
  for (let start = 0; start < count; start += 500) await Promise.all(Array.from({ length: Math.min(500, count - start) }, (_, index) => book(start + index)));
  await engine.execute(visit, "evil\u202e", { type: "Book", data: { doctor: "d0", units: [] } });
  for await (const _ of engine.events({ name: "mails", startAt: "beginning", follow: false }));
  await engine.close();
  database.close();
}

/** A store that was broken by hand. */
function broken(name, sql) {
  const file = inFolder(name);
  return fill(file).then(() => {
    const database = connect(file);
    database.exec("DROP TRIGGER events_are_not_updated; DROP TRIGGER events_are_not_deleted;");
    database.exec(sql);
    database.close();
    return name;
  });
}

/** What is in the store's rows. */
function contentOf(name) {
  const database = connect(inFolder(name));
  const tables = ["annals_meta", "events", "event_tags", "commands", "documents", "document_postings"];
  const rows = tables.map((table) => database.prepare(`SELECT * FROM ${table}`).all().map((row) => ({ ...row })));
  database.close();
  return rows;
}

const eventsOf = (name) => contentOf(name)[1];

// --- How it is given -------------------------------------------------------------------------------

test("without a command it tells what there is, and of each command what it does", async () => {
  for (const args of [[], ["help"], ["--help"]]) {
    const { code, stdout, stderr } = await annals(args);
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /Usage: annals <command>/);
    assert.match(stdout, /Exit codes: 0 done and sound; 1 faults were found; 2 given wrongly/);
  }
  for (const command of ["inspect", "history", "verify", "replay", "export", "import", "copy", "migrate"]) {
    const { code, stdout } = await annals(["help", command]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^Usage: annals ${command} <`));
    assert.equal((await annals([command, "--help"])).stdout, stdout);
    assert.ok(stdout.split("\n").every((line) => line.length <= 82), command);
  }
  assert.equal((await annals(["--version"])).stdout.trim(), JSON.parse(readFileSync(path.join(project.folder, "node_modules/annals/package.json"))).version);
});

test("it is there by its name in a project that has the package", async () => {
  const program = path.join(project.folder, "node_modules/.bin/annals");
  const child = spawn(program, ["--version"], { cwd: folder });
  let stdout = "";
  child.stdout.on("data", (text) => (stdout += text));
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+/);
});

test("what is given wrongly is told with the usage, and nothing is done", async () => {
  const before = readdirSync(folder);
  for (const [args, message] of [
    [["dance"], /there is no command dance/],
    [["help", "dance"], /there is no command dance/],
    [["__proto__"], /there is no command/],
    [["inspect"], /expected <store>, found 0/],
    [["inspect", "clinic.db", "more"], /expected <store>, found 2/],
    [["inspect", "clinic.db", "--force"], /Unknown option '--force'/],
    [["history", "clinic.db", "Visit"], /expected <store> <type> <id>/],
    [["history", "clinic.db", "Visit", "v-1", "--at", "soon"], /expected a revision, position:<number> or a time/],
    [["export", "clinic.db", "out.jsonl", "--after", "x"], /expected a number after --after/],
    [["export", "clinic.db", "-", "--resume"], /expected a file to go on with/],
    [["inspect", "clinic.db", "--driver", "oracle"], /expected node:sqlite, bun:sqlite, better-sqlite3, libsql as driver/],
    [["inspect", "mysql://host/db"], /expected a path to a SQLite file/],
  ]) {
    const { code, stdout, stderr } = await annals(args);
    assert.deepEqual([code, stdout], [2, ""], args.join(" "));
    assert.match(stderr, message);
    assert.match(stderr, /annals help/);
    const machine = await annals([...args, "--json"]);
    const { error } = JSON.parse(machine.stderr);
    assert.deepEqual([machine.code, machine.stdout, error.code, error.details], [2, "", "usage", {}], args.join(" "));
    assert.match(error.message, message);
  }
  assert.deepEqual(readdirSync(folder).filter((name) => !/-(wal|shm)$/.test(name)), before.filter((name) => !/-(wal|shm)$/.test(name)));
});

test("a store that is not there is not made", async () => {
  for (const args of [["inspect", "none.db"], ["history", "none.db", "Visit", "v-1"], ["verify", "none.db"], ["replay", "none.db"], ["export", "none.db", "none.jsonl"], ["copy", "none.db", "other.db"], ["migrate", "none.db"], ["import", "none.jsonl", "none.db"]]) {
    const { code, stdout, stderr } = await annals(args);
    assert.deepEqual([code, stdout], [3, ""], args.join(" "));
    assert.match(stderr, /there is no file none\.(db|jsonl)/);
    const { stderr: machine } = await annals([...args, "--json"]);
    assert.match(JSON.parse(machine).error.code, /unknown-(store|file)/);
  }
  for (const name of ["none.db", "none.jsonl", "other.db"]) assert.ok(!existsSync(inFolder(name)), name);
});

test("what is no store is left as it is", async () => {
  writeFileSync(inFolder("text.db"), "hello, this is no database, and long enough to be looked at as one: ".repeat(20));
  const database = connect(inFolder("theirs.db"));
  database.exec("CREATE TABLE events (id INTEGER); INSERT INTO events VALUES (1)");
  database.close();
  const empty = connect(inFolder("nothing.db"));
  empty.exec("CREATE TABLE somebody (id INTEGER)");
  empty.close();
  writeFileSync(inFolder("empty.db"), "");
  for (const name of ["text.db", "theirs.db", "nothing.db", "empty.db"]) {
    const before = readFileSync(inFolder(name));
    for (const args of [["inspect", name], ["verify", name], ["export", name, "out.jsonl"], ["migrate", name], ...(name === "empty.db" ? [] : [["copy", "clinic.db", name]])]) {
      const { code } = await annals(args);
      assert.equal(code, 3, args.join(" "));
    }
    assert.deepEqual(readFileSync(inFolder(name)), before, name);
  }
  assert.ok(!existsSync(inFolder("out.jsonl")));
});

test("a store in PostgreSQL is named by its URL, is not made by who reads it, and can be copied to", async () => {
  const { host, port, user, database, password } = connection;
  const schema = newSchema();
  const url = new URL(`postgres://${host}:${port}/${database ?? "postgres"}?schema=${schema}`);
  Object.assign(url, { username: user, password: password ?? "secret" });
  const there = async () => (await pool.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema])).rows.length;
  try {
    for (const args of [["inspect", url.href], ["verify", url.href], ["export", url.href, "none.jsonl"], ["migrate", url.href]]) {
      const { code, stderr } = await annals(args);
      assert.equal(code, 3, stderr);
      assert.match(stderr, /there is no store in the schema/);
      assert.ok(!stderr.includes(url.password), "a password is not shown");
    }
    assert.deepEqual([await there(), existsSync(inFolder("none.jsonl"))], [0, false]);
    writeFileSync(inFolder("no.jsonl"), "no archive\n");
    assert.equal((await annals(["import", "no.jsonl", url.href])).code, 3);
    assert.equal(await there(), 0, "a store into which nothing came is not left");

    const { stdout } = await annals(["copy", "clinic.db", url.href]);
    assert.match(stdout, /31 events of 31 commits imported into postgres:/);
    assert.ok(!stdout.includes(url.password));
    assert.deepEqual((({ code, events, streams }) => [code, events, streams])(await json(["inspect", url.href])), [0, 31, 8]);
    assert.equal((await annals(["verify", url.href])).code, 0);
    assert.equal((await json(["replay", url.href, "--domain", "domain.mjs"])).streams, 8);
    assert.equal((await json(["copy", url.href, "from-postgres.db"])).events, 31);
    assert.deepEqual(eventsOf("from-postgres.db"), eventsOf("clinic.db"));
    assert.equal((await json(["migrate", url.href])).migrated, false);
    await pool.query(`DROP SCHEMA "${schema}" CASCADE`);
    await pool.query(formatOneIn(schema));
    const { code, stderr } = await annals(["inspect", url.href]);
    assert.equal(code, 3);
    assert.match(stderr, /format 1, which is to be migrated to 2 first \(unknown-format\)/);
    assert.equal((await json(["migrate", url.href])).migrated, true);
    assert.equal((await json(["inspect", url.href])).events, 4);
  } finally {
    await pool.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
  }
  const { code } = await annals(["inspect", "postgres://nobody@127.0.0.1:1/none"]);
  assert.equal(code, 3);
});

test("each driver that there is opens a store, and what is missing is told", async () => {
  for (const name of drivers.keys()) assert.equal((await json(["inspect", "clinic.db", "--driver", name])).events, 31);
  // Bun fetches what is missing by itself.
  if (globalThis.Bun !== undefined) return;
  const elsewhere = mkdtempSync(path.join(tmpdir(), "annals-bare-"));
  try {
    const { code, stderr } = await annals(["inspect", inFolder("clinic.db"), "--driver", "libsql"], { cwd: elsewhere });
    assert.equal(code, 3);
    assert.match(stderr, /no driver for SQLite can be loaded; npm install better-sqlite3/);
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

// --- Reading ---------------------------------------------------------------------------------------

test("inspect tells what there is", async () => {
  const { code, epoch, types, aggregates, views, reactions, subscriptions, ...rest } = await json(["inspect", "clinic.db"]);
  assert.deepEqual([code, rest.head, rest.events, rest.commits, rest.streams], [0, 31, 31, 31, 8]);
  assert.match(epoch, /^[0-9a-f]{32}$/);
  assert.deepEqual(types, [{ aggregateType: "Visit", type: "Booked", count: 31 }]);
  assert.deepEqual(aggregates, [{ aggregateType: "Visit", count: 8 }]);
  assert.deepEqual(views, [{ name: "workload", version: 1, position: 31, isBuilt: true, isCancelled: false, skipped: 0 }]);
  assert.deepEqual(reactions.map(({ name, parked }) => [name, parked]), [["mail", 0]]);
  assert.deepEqual(subscriptions, [{ name: "mails", position: 31 }]);
  const { stdout } = await annals(["inspect", "clinic.db"]);
  assert.match(stdout, /31 in 31 commits and 8 streams/);
  assert.match(stdout, /workload version 1: up to the end/);
});

test("inspect and verify tell of a view that is being built, and of one that was given up", async () => {
  const file = inFolder("rebuilt.db");
  copyFileSync(inFolder("clinic.db"), file);
  const database = connect(file);
  const next = projection("workload", { version: 2, aggregates: [listed], unknownEvents: "skip", on: { Seen: () => undefined } });
  const storage = sqliteStorage({ database, durability: "normal" });
  // So that there is a time at which it is being built.
  const names = ["open", "append", "load", "readLog", "saveDocuments", "readDocuments", "close"];
  const slowly = (name) => async (...args) => {
    if (name === "readLog") await new Promise((resolve) => setTimeout(resolve, 20));
    return storage[name](...args);
  };
  const slow = Object.fromEntries(names.map((name) => [name, slowly(name)]));
  const engine = await Engine.open({ storage: slow, aggregates: [listed], projections: [next], limits: { pageLimit: 1 } });
  const view = engine.view(next);
  // A checkpoint is kept every sixteen pages where these change nothing.
  await until(async () => (await view.status()).progress > 0.6);
  view.pause();
  const ofNext = async () => (await json(["inspect", "rebuilt.db"])).views.find(({ version }) => version === 2);
  const { position, isBuilt, isCancelled, skipped } = await ofNext();
  assert.deepEqual([isBuilt, isCancelled, skipped], [false, false, 16]);
  assert.equal(position, 16);
  assert.match((await annals(["inspect", "rebuilt.db"])).stdout, /workload version 2: at \d+, \d+ behind, being built, without \d+ events of unknown types/);

  await view.cancel();
  assert.deepEqual(await ofNext(), { name: "workload", version: 2, position: 0, isBuilt: false, isCancelled: true, skipped: 0 });
  assert.match((await annals(["inspect", "rebuilt.db"])).stdout, /workload version 2: at 0, 31 behind, given up while it was being built/);
  const { findings } = await json(["verify", "rebuilt.db"]);
  assert.deepEqual(findings.filter(({ code }) => code.startsWith("view")).map(({ code }) => code), ["view-behind"]);
  await engine.close();
  database.close();
});

test("history lists the events of an aggregate, up to a point", async () => {
  const { revision, events } = await json(["history", "clinic.db", "Visit", "v-1"]);
  assert.equal(revision, 5);
  assert.deepEqual(events.map(({ revision }) => revision), [1, 2, 3, 4, 5]);
  assert.equal(events[0].data, '{"doctor":"d1","units":[1,2]}');
  assert.equal((await json(["history", "clinic.db", "Visit", "v-1", "--at", "2"])).revision, 2);
  assert.equal((await json(["history", "clinic.db", "Visit", "v-1", "--at", `position:${events[2].position}`])).revision, 3);
  assert.equal((await json(["history", "clinic.db", "Visit", "v-1", "--at", "2020-01-01"])).revision, 0);
  assert.equal((await json(["history", "clinic.db", "Visit", "v-1", "--at", events[4].recordedAt])).revision, 5);
  const { stdout } = await annals(["history", "clinic.db", "Visit", "v-1"]);
  assert.match(stdout, /1 {2}Booked\n .*position 2, by reception\n {6}tags \["doctor:d1"\]\n {6}\{"doctor":"d1","units":\[1,2\]\}/);
  const { code, stderr } = await annals(["history", "clinic.db", "Visit", "nobody"]);
  assert.equal(code, 3);
  assert.match(stderr, /there is no Visit nobody in this store \(unknown-stream\)/);
});

test("history finds any name, after -- also one that begins with a dash", { timeout: 120_000 }, async () => {
  const database = connect(inFolder("names.db"));
  const subject = await Subject.open(sqliteStorage({ database, durability: "normal" }));
  const names = [...NAMES, "-", "--", "--json", "-x", "--at=5"];
  const streams = names.map((name, index) => [name, names.at(index - 1)]);
  for (const [type, id] of streams) await subject.accept(commit(id, 0, [event(type)], { aggregateType: type }));
  database.close();
  const find = async ([type, id]) => {
    const { code, stdout, stderr } = await annals(["history", "--json", "names.db", "--", type, id]);
    assert.deepEqual([code, stderr], [0, ""]);
    const { aggregateType, aggregateId, events } = JSON.parse(stdout);
    assert.deepEqual([aggregateType, aggregateId, events.map(({ type }) => type)], [type, id, [type]]);
  };
  for (let start = 0; start < streams.length; start += 4) await Promise.all(streams.slice(start, start + 4).map(find));
  const plain = streams.find(([type, id]) => !type.startsWith("-") && !id.startsWith("-"));
  assert.equal((await json(["history", "names.db", ...plain])).revision, 1);
  assert.equal((await annals(["history", "names.db", "-x", "plain"])).code, 2);
});

test("history ends when it is interrupted", async () => {
  const database = connect(inFolder("busy.db"));
  const subject = await Subject.open(sqliteStorage({ database, durability: "normal" }));
  await subject.accept(commit("a-1", 0, Array.from({ length: 2_000 }, () => event())));
  database.close();
  const first = `process.on("newListener", (name) => name === "SIGINT" && setImmediate(() => process.kill(process.pid, "SIGINT")));`;
  const { code, stdout, stderr } = await annals(["history", "busy.db", "Appointment", "a-1", "--json"], { first });
  assert.deepEqual([code, stdout, JSON.parse(stderr).error.code], [130, "", "cancelled"]);
  assert.equal((await json(["history", "busy.db", "Appointment", "a-1"])).revision, 2_000);
});

test("names from a store can't do anything to a terminal", async () => {
  const { stdout } = await annals(["history", "clinic.db", "Visit", "evil\u202e"]);
  assert.match(stdout, /Visit evil\\u\{202e\}: 1 event/);
  const { stderr } = await annals(["history", "clinic.db", "Visit", "more\u001b[2J"]);
  assert.ok(!/[\u0000-\u0009\u000b-\u001f\u202e]/.test(stdout + stderr));
});

test("verify says that a store is sound, and what is not", async () => {
  const { code, stdout, stderr } = await annals(["verify", "clinic.db", "--domain", "./domain.mjs"]);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^31 events, 31 commits, 8 streams, \d+ documents: sound\n$/);
  const name = await broken("broken.db", "UPDATE events SET data = 'x\u001b' WHERE position = 3; DELETE FROM events WHERE position = 31; DELETE FROM document_postings");
  const found = await annals(["verify", name, "--domain", "./domain.mjs"]);
  assert.equal(found.code, 1);
  assert.match(found.stdout, /^fault unreadable-data, position 3, Visit\/v-2: its data are no JSON: "x\\u001b"$/m);
  assert.match(found.stdout, /^fault view-ahead, checkpoints\/\["workload",1\]: view workload, version 1 is at position 31, the log ends at 30$/m);
  assert.match(found.stdout, /^fault index-disagrees/m);
  assert.match(found.stdout, /\d faults\n$/);
  const { code: again, isSound, findings } = await json(["verify", name]);
  assert.deepEqual([again, isSound], [1, false]);
  assert.ok(findings.some(({ code, position }) => code === "unreadable-data" && position === 3));
});

test("replay folds every stream and view of a domain, and says what fails", async () => {
  const plain = await json(["replay", "clinic.db"]);
  assert.deepEqual([plain.code, plain.events, plain.streams, plain.failures], [0, 31, 0, []]);
  const whole = await json(["replay", "clinic.db", "--domain", "domain.mjs"]);
  assert.deepEqual([whole.code, whole.events, whole.streams, whole.views, whole.failures], [0, 31, 8, 1, []]);
  const name = await broken("unfolded.db", `UPDATE events SET data = '{"doctor":"d1"}' WHERE position = 9`);
  const { code, failures } = await json(["replay", name, "--domain", "domain.mjs"]);
  assert.equal(code, 1);
  assert.deepEqual(failures.map(({ code, stream, revision, projection }) => [code, stream?.id ?? projection, revision]), [
    ["unreadable-event", "v-1", 2],
    ["projection-stopped", "workload", undefined],
  ]);
  const { stdout } = await annals(["replay", name, "--domain", "domain.mjs"]);
  assert.match(stdout, /^fault unreadable-event, Visit\/v-1: /m);
  assert.equal((await json(["replay", name])).code, 0, "without a domain nothing is folded");
  writeFileSync(inFolder("other.mjs"), 'import { aggregate } from "annals"; export default [aggregate("Other", { initial: () => 0, decide: () => [], evolve: { Booked: () => 0 } })];');
  assert.deepEqual((await json(["replay", "clinic.db", "--domain", "other.mjs"])).unknown, [{ aggregateType: "Visit", events: 31 }]);
  writeFileSync(inFolder("mistake.mjs"), "export const visit = (");
  writeFileSync(inFolder("nothing.mjs"), "export const visit = 1;");
  for (const [file, message] of [["missing.mjs", /can't be loaded/], ["mistake.mjs", /can't be loaded/], ["nothing.mjs", /exports neither aggregates nor projections/]]) {
    const { code, stderr } = await annals(["replay", "clinic.db", "--domain", file]);
    assert.equal(code, 3);
    assert.match(stderr, message);
  }
});

test("commands that read change nothing", async () => {
  const before = contentOf("clinic.db");
  for (const args of [["inspect", "clinic.db"], ["history", "clinic.db", "Visit", "v-1"], ["verify", "clinic.db"], ["replay", "clinic.db", "--domain", "domain.mjs"], ["export", "clinic.db", "-"], ["migrate", "clinic.db"]]) {
    assert.equal((await annals(args)).code, 0, args.join(" "));
  }
  assert.deepEqual(contentOf("clinic.db"), before);
});

test("on a terminal progress is shown, and is cleared away before the result", async () => {
  // A second goes by between any two looks at the clock.
  const first = `
    process.stderr.isTTY = true;
    let seconds = 0;
    performance.now = () => (seconds += 1) * 1000;`;
  const told = "\r\u001b[K";
  for (const [args, ...shown] of [
    [["verify", "clinic.db"], /^verify 100 % {2}31 events$/],
    [["inspect", "clinic.db"], /^inspect 100 % {2}31 events$/],
    // A view may have been made while the log was read.
    [["replay", "clinic.db", "--domain", "domain.mjs"], /^replay 100 % {2}31 events$/, /^view workload +\d+ % {2}\d+ events?$/],
    [["export", "clinic.db", "progress.jsonl"], /^export 100 % {2}31 events$/],
    [["copy", "clinic.db", "progress.db"], /^copy 100 % {2}31 events$/],
  ]) {
    const { code, stdout, stderr } = await annals(args, { first });
    assert.equal(code, 0, stderr);
    assert.ok(stderr.startsWith(told) && stderr.endsWith(told), JSON.stringify(stderr));
    for (const line of shown) assert.ok(stderr.split(told).some((one) => line.test(one)), JSON.stringify(stderr));
    assert.ok(!stdout.includes("\u001b"), stdout);
    rmSync(inFolder("progress.jsonl"), { force: true });
    assert.equal((await annals([...args.map((name) => name.replace("progress.db", "progress-2.db")), "--json"], { first })).stderr, "");
  }
});

test("without a terminal there is neither colour nor progress", async () => {
  const { stdout, stderr } = await annals(["verify", "broken.db"]);
  assert.ok(!`${stdout}${stderr}`.includes("\u001b"));
  assert.equal(stderr, "");
});

// --- Archives --------------------------------------------------------------------------------------

test("what is exported can be verified, imported, and is the same", async () => {
  const { code, stdout } = await annals(["export", "clinic.db", "clinic.jsonl"]);
  assert.equal(code, 0);
  assert.match(stdout, /31 events of 31 commits exported to clinic\.jsonl, up to position 31/);
  assert.match((await annals(["verify", "clinic.jsonl"])).stdout, /31 events, 31 commits: sound/);
  const { commits, events, known, isWhole } = await json(["import", "clinic.jsonl", "restored.db"]);
  assert.deepEqual([commits, events, known, isWhole], [31, 31, 0, true]);
  assert.deepEqual(eventsOf("restored.db"), eventsOf("clinic.db"));
  assert.equal((await annals(["verify", "restored.db"])).code, 0);
  assert.deepEqual((await json(["import", "clinic.jsonl", "restored.db"])).known, 31);
});

test("an archive goes through standard output and input", async () => {
  const { stdout, stderr } = await annals(["export", "clinic.db", "-"]);
  assert.equal(stdout, readFileSync(inFolder("clinic.jsonl"), "utf8"));
  assert.match(stderr, /31 events/);
  assert.equal((await json(["import", "-", "piped.db"], { input: stdout })).events, 31);
  assert.deepEqual(eventsOf("piped.db"), eventsOf("clinic.db"));
});

test("a file that is there is neither overwritten nor gone on with unless that is said", async () => {
  const before = readFileSync(inFolder("clinic.jsonl"), "utf8");
  const { code, stderr } = await annals(["export", "clinic.db", "clinic.jsonl", "--type", "Nothing"]);
  assert.equal(code, 3);
  assert.match(stderr, /clinic\.jsonl is there already: --force overwrites it/);
  assert.equal(readFileSync(inFolder("clinic.jsonl"), "utf8"), before);
  assert.equal((await annals(["export", "clinic.db", "clinic.jsonl", "--resume"])).code, 3);
  writeFileSync(inFolder("cut.jsonl"), before);
  truncateSync(inFolder("cut.jsonl"), 3_000);
  assert.equal((await annals(["verify", "cut.jsonl"])).code, 1);
  assert.equal((await annals(["export", "clinic.db", "cut.jsonl", "--resume"])).code, 0);
  assert.equal(readFileSync(inFolder("cut.jsonl"), "utf8"), before);
  assert.equal((await annals(["export", "clinic.db", "cut.jsonl", "--force", "--type", "Nothing"])).code, 0);
  assert.equal((await json(["verify", "cut.jsonl"])).events, 0);
});

test("an archive is whole where the disk takes little at a time, and the old one stays until then", async () => {
  const whole = readFileSync(inFolder("clinic.jsonl"), "utf8");
  const writing = (then) => `
    import { open } from "node:fs/promises";
    const handle = await open(process.execPath);
    const { write } = Object.getPrototypeOf(handle);
    await handle.close();
    let times = 0;
    Object.getPrototypeOf(handle).write = function (bytes, offset, length, position) {
      times += 1;
      ${then}
      return write.call(this, bytes, offset, Math.min(length, 1000), position);
    };`;
  const slow = { first: writing("") };
  assert.equal((await annals(["export", "clinic.db", "slow.jsonl"], slow)).code, 0);
  assert.equal(readFileSync(inFolder("slow.jsonl"), "utf8"), whole);
  writeFileSync(inFolder("slow.jsonl"), "what was there");
  chmodSync(inFolder("slow.jsonl"), 0o640);
  const before = readdirSync(folder);
  const full = await annals(["export", "clinic.db", "slow.jsonl", "--force"], { first: writing('if (times > 3) throw Object.assign(new Error("no space left"), { code: "ENOSPC" });') });
  assert.equal(full.code, 3);
  assert.match(full.stderr, /no space left \(ENOSPC\)/);
  assert.equal(readFileSync(inFolder("slow.jsonl"), "utf8"), "what was there");
  assert.equal((await annals(["export", "clinic.db", "slow.jsonl", "--force"], slow)).code, 0);
  assert.equal(readFileSync(inFolder("slow.jsonl"), "utf8"), whole);
  if (process.platform !== "win32") assert.equal(statSync(inFolder("slow.jsonl")).mode & 0o777, 0o640, "who may read it may still");
  const added = readdirSync(folder).filter((name) => !before.includes(name) && !/^first-|-(wal|shm)$/.test(name));
  assert.deepEqual(added, [], "nothing is left beside it");
});

test("a part of the log is exported by what it is asked for", async () => {
  assert.equal((await json(["export", "clinic.db", "after.jsonl", "--after", "20"])).events, 11);
  assert.equal((await json(["export", "clinic.db", "tag.jsonl", "--tag", "doctor:d0", "--tag", "doctor:d1", "--aggregate", "Visit"])).events, 21);
  const { code, stderr } = await annals(["import", "after.jsonl", "part.db"]);
  assert.equal(code, 3);
  assert.match(stderr, /incomplete-archive/);
  assert.ok(!existsSync(inFolder("part.db")), "a store into which nothing came is not left");
});

test("an archive that was changed or cut off is told, with how far it was imported", async () => {
  const text = readFileSync(inFolder("clinic.jsonl"), "utf8");
  writeFileSync(inFolder("changed.jsonl"), text.replace('"doctor":"d1"', '"doctor":"d2"'));
  const changed = await annals(["import", "changed.jsonl", "changed.db"]);
  assert.equal(changed.code, 3);
  assert.match(changed.stderr, /are not those that were written \(unreadable-archive\)\nannals: 0 events of 0 commits had been imported/);
  assert.ok(!existsSync(inFolder("changed.db")));
  assert.equal((await annals(["verify", "changed.jsonl"])).code, 3);
});

test("a store with other events is left as it is", async () => {
  await fill(inFolder("others.db"), 5);
  const before = contentOf("others.db");
  const { code, stderr } = await annals(["import", "clinic.jsonl", "others.db"]);
  assert.equal(code, 3);
  assert.match(stderr, /other-events/);
  assert.deepEqual(contentOf("others.db"), before);
});

test("copy puts the log of one store into another", async () => {
  assert.equal((await json(["copy", "clinic.db", "copied.db"])).events, 31);
  assert.deepEqual(eventsOf("copied.db"), eventsOf("clinic.db"));
  assert.equal((await json(["copy", "clinic.db", "copied.db"])).known, 31);
  const [meta] = contentOf("copied.db");
  assert.notDeepEqual(meta, contentOf("clinic.db")[0], "it has an epoch of its own");
});

test("migrate brings a store of an older format to the newest, and no other command does", async () => {
  const database = connect(inFolder("old.db"));
  database.exec(readFileSync(path.join(root, "pkg-tests/formats/sqlite-1.sql"), "utf8"));
  database.close();
  for (const args of [["inspect", "old.db"], ["verify", "old.db"], ["replay", "old.db"], ["export", "old.db", "old.jsonl"], ["copy", "clinic.db", "old.db"], ["import", "clinic.jsonl", "old.db"]]) {
    const { code, stderr } = await annals(args);
    assert.equal(code, 3, args.join(" "));
    assert.match(stderr, /format 1, which is to be migrated to 2 first \(unknown-format\)/);
  }
  assert.equal((await json(["migrate", "old.db"])).migrated, true);
  assert.equal((await json(["migrate", "old.db"])).migrated, false);
  assert.equal((await annals(["verify", "old.db"])).code, 0);
  assert.ok(!existsSync(inFolder("old.jsonl")));
});

test("migrate ends at once when it is interrupted, and the store has the old format or the new one", { timeout: 60_000 }, async () => {
  const { host, port, user, database, password } = connection;
  const schema = newSchema();
  const url = new URL(`postgres://${host}:${port}/${database ?? "postgres"}?schema=${schema}`);
  Object.assign(url, { username: user, password: password ?? "secret" });
  const other = await pool.connect();
  try {
    await pool.query(formatOneIn(schema));
    // It waits for somebody who reads the store's row and does not end.
    await other.query(`BEGIN; LOCK TABLE "${schema}".store IN ACCESS SHARE MODE`);
    await other.query(`SELECT * FROM "${schema}".store FOR UPDATE`);
    const command = path.join(project.folder, "node_modules/annals/cli/main.js");
    const child = spawn(process.execPath, [command, "migrate", url.href], { cwd: folder, stdio: "ignore" });
    const ended = once(child, "close");
    await until(async () => (await backendsAt(pool, `%${schema}%`, "Lock")).length > 0);
    child.kill("SIGINT");
    const [code, signal] = await ended;
    assert.ok(code === 130 || signal === "SIGINT", `${code} ${signal}`);
    await other.query("ROLLBACK");
    // The server may go on with what it was asked.
    await until(async () => (await backendsAt(pool, `%${schema}%`)).length === 0);
    const { rows } = await pool.query(`SELECT format FROM "${schema}".store`);
    assert.ok([1, 2].includes(rows[0].format));
    assert.equal((await json(["migrate", url.href])).migrated, rows[0].format === 1);
    assert.equal((await json(["inspect", url.href])).events, 4);
  } finally {
    other.release(true);
    await pool.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
  }
});

test("what is interrupted ends in good order and is gone on with", { timeout: 120_000 }, async () => {
  await fill(inFolder("long.db"), 6_000);
  assert.equal((await annals(["export", "long.db", "long.jsonl"])).code, 0);
  const whole = readFileSync(inFolder("long.jsonl"), "utf8");

  assert.equal((await annals(["import", "-", "long-2.db"])).code, 3, "nothing is no archive");

  const command = path.join(project.folder, "node_modules/annals/cli/main.js");
  const child = spawn(process.execPath, [command, "import", "-", "long-2.db", "--json"], { cwd: folder });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const ended = once(child, "close");
  // It may end before it has read all.
  child.stdin.on("error", () => undefined);
  child.stdin.write(whole.slice(0, whole.length / 2));
  const store = () => (existsSync(inFolder("long-2.db")) ? readCount("long-2.db") : 0);
  while (store() < 1_000) await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill("SIGINT");
  child.stdin.end(whole.slice(whole.length / 2));
  const [code] = await ended;
  const { error } = JSON.parse(stderr);
  assert.deepEqual([code, error.code], [130, "cancelled"]);
  const imported = readCount("long-2.db");
  assert.equal(error.details.imported.events, imported);
  assert.ok(imported >= 1_000 && imported < 6_001);
  assert.equal((await json(["verify", "long-2.db"])).findings[0].code, "import-unfinished");

  const again = spawn(process.execPath, [command, "import", "-", "long-2.db"], { cwd: folder });
  again.stdin.on("error", () => undefined);
  again.stdin.write(whole.slice(0, whole.length - 1_000));
  while (readCount("long-2.db") < imported + 1_000) await new Promise((resolve) => setTimeout(resolve, 20));
  again.kill("SIGKILL");
  await once(again, "close");
  const rest = await json(["import", "long.jsonl", "long-2.db"]);
  assert.ok(rest.known > imported && rest.known + rest.events === 6_001);
  assert.equal((await annals(["verify", "long-2.db"])).code, 0);
  assert.deepEqual(eventsOf("long-2.db"), eventsOf("long.db"));
});

/** How many events the store has, without being in the way of who writes to it. */
function readCount(name) {
  const database = connect(inFolder(name));
  try {
    return database.prepare("SELECT count(*) AS count FROM events").all()[0].count;
  } catch {
    return 0;
  } finally {
    database.close();
  }
}
