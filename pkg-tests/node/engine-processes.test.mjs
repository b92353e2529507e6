// Processes that share a store: killed in the middle, and racing each other.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Engine } from "annals";
import { appointment, at, booking, checkLog, confirmation, issuedAt, logOf } from "../support/clinic.mjs";
import { connection, pool } from "../support/postgres.mjs";
import { kinds, newPlace, openAt } from "../support/process-stores.mjs";
import { give, kill, start } from "../support/processes.mjs";

const script = fileURLToPath(new URL("../support/engine-worker.mjs", import.meta.url));

const programWith = (lines) => `
  import { Engine, aggregate } from "annals";
    const { openAt } = await import(${JSON.stringify(new URL("../support/process-stores.mjs", import.meta.url).href)});
  const appointment = aggregate("Appointment", { initial: () => 0, decide: () => [], evolve: { AppointmentBooked: (count) => count + 1 } });
  const { storage } = openAt(...process.argv.slice(1));
  const engine = await Engine.open({ storage, aggregates: [appointment] });
  ${lines}`;

for (const kind of kinds) {
  /** A rule of a store and processes on it; `engine()` is one in this process. */
  const rule = (name, run) =>
    test(`${kind}: ${name}`, { timeout: 120_000 }, async ({ signal }) => {
      const { where, remove } = newPlace(kind, pool, connection);
      const opened = [];
      const workers = [];
      const programs = [];
      try {
        await run({
          async engine() {
            const { storage, close } = openAt(kind, where);
            const engine = await Engine.open({ storage, aggregates: [appointment] });
            opened.push({ engine, close });
            return engine;
          },
          async worker() {
            workers.push(await start(script, [kind, where], signal));
            return workers.at(-1);
          },
          /** A process that runs these lines with an engine; `ended` is its code and its output. */
          program(lines) {
            const child = spawn(process.execPath, ["--input-type=module", "-e", programWith(lines), kind, where], {
              cwd: fileURLToPath(new URL("..", import.meta.url)),
              stdio: ["ignore", "pipe", "inherit"],
              timeout: 60_000,
            });
            programs.push(child);
            let output = "";
            child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
            return { child, ended: once(child, "close").then(([code]) => ({ code, output })) };
          },
        });
      } finally {
        for (const child of [...workers, ...programs]) await kill(child);
        for (const { engine, close } of opened) {
          await engine.close();
          await close();
        }
        await remove();
      }
    });

  rule("a process killed in the middle of 1,000 commands has lost none that was acknowledged", async ({ engine, worker }) => {
    // In each round 500 appointments are booked and confirmed, eight at once.
    for (const [round, enough] of [10, 100, 300].entries()) {
      const commands = Array.from({ length: 500 }, (_, n) => {
        const [id, doctor] = [`${round}-${n}`, `${round}-${n % 20}`];
        const wanted = booking({ doctor, minutes: Math.floor(n / 20) * 10 });
        return [wanted, confirmation].map((command) => [id, command, { issuedAt, commandId: randomUUID() }]);
      }).flat();
      const victim = await worker();
      const acknowledged = new Map();
      const killed = assert.rejects(
        give(victim, commands, {
          atOnce: 8,
          restless: true,
          onOutcome(index, { ok, revision, commandId }) {
            assert.equal(ok, true);
            acknowledged.set(commandId, { index, revision });
            if (acknowledged.size === enough) victim.kill("SIGKILL");
          },
        }),
        /SIGKILL/,
      );
      await killed;

      const survivor = await engine();
      const log = (await logOf(survivor)).filter(({ stream }) => stream.id.startsWith(`${round}-`));
      checkLog(log);
      const stored = new Map(log.map((event) => [event.commandId, event]));
      assert.equal(stored.size, log.length);
      for (const [commandId, { index, revision }] of acknowledged) {
        const event = stored.get(commandId);
        assert.ok(event, `${commandId} was acknowledged and is not there`);
        assert.deepEqual([event.stream.id, event.revision], [commands[index][0], revision]);
      }
      assert.ok(acknowledged.size >= enough);

      // Given again by somebody else, all are done, and each once.
      const again = await Promise.all(commands.map((given) => survivor.execute(appointment, ...given)));
      for (const [index, { duplicate, commandId, revision }] of again.entries()) {
        assert.equal(duplicate, stored.has(commandId));
        assert.equal(revision, 1 + (index % 2));
      }
      const whole = (await logOf(survivor)).filter(({ stream }) => stream.id.startsWith(`${round}-`));
      assert.deepEqual([...checkLog(whole).values()], Array(500).fill(2));
    }
  });

  rule("of two processes that race for one appointment one wins, each time, and the other is told so", async ({ engine, worker }) => {
    const racers = [await worker(), await worker()];
    for (let round = 0; round < 25; round += 1) {
      const given = (own) => [[`raced-${round}`, booking({ doctor: `${own}`, minutes: round * 10 }), { issuedAt }]];
      const found = (await Promise.all(racers.map((racer, own) => give(racer, given(own))))).flat();
      const winner = found.findIndex(({ ok }) => ok);
      assert.deepEqual(found[1 - winner], { ok: false, refusal: { code: "already-booked", details: {} } }, `round ${round}`);
    }
    assert.equal(checkLog(await logOf(await engine())).size, 25);
  });

  rule("of two processes that race for one doctor's time one wins, each time, and the other is told by whom", async ({ engine, worker }) => {
    const racers = [await worker(), await worker()];
    for (let round = 0; round < 25; round += 1) {
      const given = (own) => [[`${own}-${round}`, booking({ room: `${own}`, minutes: round * 10 }), { issuedAt }]];
      const found = (await Promise.all(racers.map((racer, own) => give(racer, given(own))))).flat();
      const winner = found.findIndex(({ ok }) => ok);
      const details = { by: `${winner}-${round}`, start: at(round * 10), end: at(round * 10 + 10) };
      assert.deepEqual(found[1 - winner], { ok: false, refusal: { code: "doctor-taken", details } }, `round ${round}`);
    }
    assert.equal(checkLog(await logOf(await engine())).size, 25);
  });

  rule("two processes with 64 bookings each under way: those that don't clash succeed, of those that do one of two", async ({ engine, worker }) => {
    const racers = [await worker(), await worker()];
    const giveEach = (round, minutes) =>
      Promise.all(
        racers.map((racer, own) =>
          give(
            racer,
            Array.from({ length: 64 }, (_, n) => [`${round}-${own}-${n}`, booking({ doctor: `d-${round}`, minutes: minutes(own, n) }), { issuedAt }]),
          ),
        ),
      );

    const apart = await giveEach("apart", (own, n) => (2 * n + own) * 10);
    assert.deepEqual(apart.flat().filter(({ ok }) => !ok), []);

    const clashing = await giveEach("clash", (_, n) => n * 10);
    for (let n = 0; n < 64; n += 1) {
      const [winner, loser] = clashing[0][n].ok ? [0, 1] : [1, 0];
      assert.equal(clashing[winner][n].ok, true, JSON.stringify(clashing.map((all) => all[n])));
      assert.equal(clashing[loser][n].refusal?.details.by, `clash-${winner}-${n}`, JSON.stringify(clashing[loser][n]));
    }
    assert.equal(checkLog(await logOf(await engine())).size, 128 + 64);
  });

  rule("one command given by two processes at once is done once", async ({ engine, worker }) => {
    const racers = [await worker(), await worker()];
    for (let round = 0; round < 20; round += 1) {
      const given = [[`a-${round}`, booking({ doctor: `${round}` }), { issuedAt, commandId: randomUUID() }]];
      const found = (await Promise.all(racers.map((racer) => give(racer, given)))).flat();
      assert.deepEqual(found.map(({ duplicate, revision }) => [duplicate, revision]).sort(), [[false, 1], [true, 1]]);
    }
    assert.equal(checkLog(await logOf(await engine())).size, 20);
  });

  rule("a process that has nothing left to do ends, though its engine is open", async ({ program }) => {
    const { ended } = program('console.log((await engine.state(appointment, "a-1")).revision);');
    assert.deepEqual(await ended, { code: 0, output: "0\n" });
  });

  rule("a process that waits for events lives until it has them, also those of others", async ({ engine, program }) => {
    const { child, ended } = program('console.log("ready"); for await (const { type } of engine.events()) { console.log(type); break; }');
    await Promise.race([once(child.stdout, "data"), ended]);
    await (await engine()).execute(appointment, "a-1", booking(), { issuedAt });
    assert.deepEqual(await ended, { code: 0, output: "ready\nAppointmentBooked\n" });
  });
}
