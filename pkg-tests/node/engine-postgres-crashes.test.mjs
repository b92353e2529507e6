// Clients and servers that are killed, and connections that are cut, in the middle of the work of engines
// on PostgreSQL. In `npm test` a few times; `ANNALS_CRASHES=200` kills each so many times, and
// `ANNALS_CUT_SECONDS=60` cuts connections for so long.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { verify } from "annals/operations";
import { postgresStorage } from "annals/postgres";
import { booking, confirmation, issuedAt } from "../support/clinic.mjs";
import { checkStore } from "../support/postgres-check.mjs";
import { newSchema, poolOf } from "../support/postgres-stores.mjs";
import { Server } from "../support/postgres-server.mjs";
import { give, kill, start } from "../support/processes.mjs";
import { randomNumbers } from "../support/random.mjs";

const script = fileURLToPath(new URL("../support/engine-worker.mjs", import.meta.url));
const crashes = Number(process.env.ANNALS_CRASHES ?? 3);
const seconds = Number(process.env.ANNALS_CUT_SECONDS ?? 0);
const timeout = 120_000 + 1000 * seconds + 10_000 * crashes;

/** Bookings and confirmations, each appointment's in order, under ids that tell them again. */
function commandsOf(round, count) {
  return Array.from({ length: count / 2 }, (_, n) => {
    const [id, doctor] = [`${round}-${n}`, `${round}-${n % 20}`];
    return [booking({ doctor, minutes: Math.floor(n / 20) * 10 }), confirmation].map((command) => {
      return [id, command, { issuedAt, commandId: randomUUID() }];
    });
  }).flat();
}

/** Gives them until each is done: what has failed is given again, to whom `next` gives. */
async function giveUntilDone(next, commands, acknowledged, onOutcome = () => {}) {
  for (let left = commands, time = 0; left.length > 0; time += 1) {
    assert.ok(time < 50, `${left.length} commands are never done`);
    const worker = await next();
    const done = new Set();
    // One who was killed has told what it has told.
    await give(worker, left, {
      atOnce: 64,
      onOutcome(index, { ok, revision, error, refusal }) {
        // Whose booking has failed can't be confirmed.
        if (refusal !== undefined) assert.equal(refusal.code, "not-booked");
        else if (!ok) assert.match(error, /^(outcome-unknown|storage-\w+|contended)/);
        else {
          const [id, , { commandId }] = left[index];
          const before = acknowledged.get(commandId);
          assert.ok(before === undefined || before.revision === revision, "the first outcome is told again");
          acknowledged.set(commandId, { id, revision });
          done.add(index);
        }
        onOutcome(acknowledged.size);
      },
    }).catch((error) => assert.match(error.message, /SIGKILL/));
    left = left.filter((_, index) => !done.has(index));
  }
}

/** What was acknowledged is there, once, where it was said to be; and nothing else is. */
async function checkAll(pool, schema, acknowledged, given) {
  await checkStore(pool, schema);
  const { isSound, findings } = await verify(postgresStorage({ database: pool, schema }));
  assert.ok(isSound, JSON.stringify(findings));
  const { rows } = await pool.query(`SELECT command_id, aggregate_id, revision::int, count::int FROM "${schema}".commands`);
  const stored = new Map(rows.map(({ command_id: commandId, aggregate_id: id, revision }) => [commandId, { id, revision }]));
  for (const [commandId, place] of acknowledged) assert.deepEqual(stored.get(commandId), place, commandId);
  const known = new Set(given.map(([, , { commandId }]) => commandId));
  for (const commandId of stored.keys()) assert.ok(known.has(commandId), `${commandId} was not given`);
}

const rule = (name, run) =>
  test(name, { timeout }, async ({ signal }) => {
    setMaxListeners(0, signal); // of as many workers as there are crashes
    const server = await Server.start();
    const pool = poolOf(server, { application_name: "test" });
    // Of connections that end with the server while nobody uses them. Workers' pools are the adapter's matter.
    pool.on("error", () => {});
    const workers = [];
    const schema = newSchema();
    const where = JSON.stringify({ connection: server.connection, schema });
    try {
      await run({
        server,
        pool,
        schema,
        async worker() {
          workers.push(await start(script, ["PostgreSQL", where], signal));
          return workers.at(-1);
        },
      });
    } finally {
      for (const worker of workers) await kill(worker);
      await pool.end();
      await server.stop();
    }
  });

rule("clients and servers that are killed at random moments lose nothing that was acknowledged", async ({ server, pool, schema, worker }) => {
  const random = randomNumbers(process.pid);
  const acknowledged = new Map();
  const given = [];
  for (let round = 0; round < 2 * crashes; round += 1) {
    const commands = commandsOf(round, 120);
    given.push(...commands);
    let current = await worker();
    let crash;
    // So many more, and somebody dies: the client in one round, in the other the server.
    let enough = acknowledged.size + 1 + random(100);
    const next = async () => {
      await crash;
      if (current.connected) return current;
      return (current = await worker());
    };
    await giveUntilDone(next, commands, acknowledged, (size) => {
      if (size < enough) return;
      enough = Infinity;
      crash = round % 2 === 0 ? kill(current) : server.kill().then(() => server.start());
    });
    await crash;
    assert.equal(enough, Infinity, "somebody was killed");
    await checkAll(pool, schema, acknowledged, given);
    await kill(current);
  }
  assert.equal(acknowledged.size, given.length);
});

rule("two processes with 64 commands each under way lose nothing and do nothing twice when their connections are cut", async ({ pool, schema, worker }) => {
  const workers = [await worker(), await worker()];
  const acknowledged = [new Map(), new Map()];
  const given = [];
  let cuts = 0;
  const cut = async () => {
    // All of theirs, also those that listen.
    const { rows } = await pool.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'test'");
    if (rows.length > 0) cuts += 1;
  };
  const began = Date.now();
  /** When it is time for the next: ten times, by the clock or by what has been acknowledged. */
  const share = seconds > 0 ? (seconds * 1000) / 11 : 180;
  let next = share;
  for (let round = 0; round === 0 || Date.now() - began < seconds * 1000; round += 1) {
    const cutting = [];
    const come = () => (seconds > 0 ? Date.now() - began : acknowledged[0].size + acknowledged[1].size);
    await Promise.all(
      workers.map((process, own) => {
        const commands = commandsOf(`${own}-${round}`, 1000);
        given.push(...commands);
        return giveUntilDone(async () => process, commands, acknowledged[own], () => {
          if (come() < next) return;
          next += share;
          cutting.push(cut());
        });
      }),
    );
    await Promise.all(cutting);
  }
  const all = new Map([...acknowledged[0], ...acknowledged[1]]);
  assert.equal(all.size, given.length);
  await checkAll(pool, schema, all, given);
  assert.ok(cuts >= 10, `${cuts} cuts`);
});

rule("a standby that takes over is the same store, with all that was acknowledged, and takes appends once it is promoted", async ({ server, pool, schema, worker }) => {
  const acknowledged = new Map();
  const given = commandsOf("failover", 240);
  const process = await worker();
  const storage = postgresStorage({ database: pool, schema });
  const before = await storage.open();
  let standby;
  const takeOver = async () => {
    await server.kill();
    standby = await server.standby();
    // For as long as it only reads, it is no place for an append, and says so.
    const refused = { code: "storage-failed", retryable: true, mayBeApplied: false };
    await assert.rejects(storage.saveDocuments({ epoch: before.epoch, expected: [], clear: ["none"], documents: [] }), refused);
    assert.equal((await storage.open()).epoch, before.epoch);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual((await pool.query("SELECT pg_promote() AS done")).rows, [{ done: true }]);
  };
  let taking;
  try {
    await giveUntilDone(async () => (await taking, process), given, acknowledged, (size) => {
      if (size >= 30) taking ??= takeOver();
    });
    await taking;
    assert.equal(acknowledged.size, given.length);
    assert.equal((await storage.open()).epoch, before.epoch);
    await checkAll(pool, schema, acknowledged, given);
  } finally {
    await standby?.stop();
  }
});
