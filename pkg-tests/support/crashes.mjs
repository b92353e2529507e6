// Processes are killed in the middle of their work, at random moments, and what they leave is looked at.
//
//   node pkg-tests/support/crashes.mjs --kills 200                 every store, so many times each
//   node pkg-tests/support/crashes.mjs --only sqlite --seed 7      one kind, from this seed on
//   node pkg-tests/support/crashes.mjs --only node:sqlite          one driver

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sqliteStorage } from "annals/sqlite";
import { findFaults } from "./crash-load.mjs";
import { kill, start } from "./processes.mjs";
import { randomNumbers } from "./random.mjs";
import { drivers, temporaryFolder } from "./sqlite-drivers.mjs";

const script = fileURLToPath(new URL("crash-worker.mjs", import.meta.url));

/** The moment: after so many acknowledgements, and so many milliseconds more. */
const momentOf = (random) => ({ enough: random(8) === 0 ? 0 : random(120), more: random(25) });

/** Waits until it has come, or the process has ended. */
async function comes({ enough, more }, acknowledged, ended) {
  while (acknowledged.length < enough && !ended()) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, more));
}

/** Kills processes with a SQLite store, so often. Gives how many commands were acknowledged, and are there. */
export async function crashSqlite(driver, { kills, seed = 1 }) {
  const connect = drivers.get(driver);
  const folder = temporaryFolder();
  const random = randomNumbers(seed);
  const all = [];
  let last = null;
  const look = async (acknowledged, after, what) => {
    const database = connect(folder.file);
    const { faults, ...found } = await findFaults(sqliteStorage({ database }), acknowledged, after);
    database.close();
    assert.deepEqual(faults, [], `seed ${seed}, ${what}`);
    return found;
  };
  try {
    for (let round = 0; round < kills; round += 1) {
      const what = `round ${round}`;
      const victim = await start(script, [driver, folder.file, `r-${round}`]);
      const acknowledged = [];
      victim.on("message", (message) => acknowledged.push(message));
      await comes(momentOf(random), acknowledged, () => !victim.connected);
      assert.equal(victim.connected, true, `seed ${seed}, ${what}: the process has ended by itself`);
      await kill(victim);
      ({ last } = await look(acknowledged, last, what));
      all.push(...acknowledged);
    }
    const { commands } = await look(all, null, "at the end");
    return { acknowledged: all.length, commands };
  } finally {
    folder.remove();
  }
}

/** The same of browsers with an IndexedDB store: all their processes are killed. */
export async function crashIndexedDb({ kills, seed = 1 }) {
  const { startProcess, temporaryProfile } = await import("./browser.mjs");
  const { startServer } = await import("./page.mjs");
  const server = await startServer();
  const profile = await temporaryProfile();
  const random = randomNumbers(seed);
  const all = [];
  let acknowledged = [];
  let last = null;
  let mended = 0;
  let browser;
  const look = async (page, acknowledged, after, what) => {
    const { faults, ...found } = await page.evaluate(
      async (asked) => {
        const { indexedDbStorage } = await import("annals/indexeddb");
        const { findFaults } = await import("/support/crash-load.mjs");
        return findFaults(indexedDbStorage({ name: "crashes" }), ...asked);
      },
      [acknowledged, after],
    );
    assert.deepEqual(faults, [], `seed ${seed}, ${what}`);
    return found;
  };
  const open = async () => {
    browser = await startProcess(profile.folder);
    const page = await browser.context.newPage();
    await page.goto(server.url);
    return page;
  };
  try {
    // Each looks at what the one before has left.
    for (let round = 0; round < kills; round += 1) {
      const page = await open();
      ({ last } = await look(page, acknowledged, last, `round ${round}`));
      const told = (acknowledged = []);
      // Kept outside the page, which will not be there to be asked.
      await page.exposeFunction("acknowledge", (one) => void told.push(one));
      let failure;
      page.once("pageerror", (error) => (failure = error));
      await page.evaluate(async (name) => {
        const { indexedDbStorage } = await import("annals/indexeddb");
        const { giveWithoutEnd } = await import("/support/crash-load.mjs");
        void giveWithoutEnd(indexedDbStorage({ name: "crashes" }), name, (one) => globalThis.acknowledge(one));
      }, `r-${round}`);
      await comes(momentOf(random), told, () => failure !== undefined);
      assert.equal(failure, undefined, `seed ${seed}, round ${round}`);
      mended += await browser.kill();
      all.push(...told);
    }
    const { commands } = await look(await open(), all, null, "at the end");
    return { acknowledged: all.length, commands, mended };
  } finally {
    await browser?.kill();
    await profile.remove();
    server.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { kills: { type: "string", default: "200" }, seed: { type: "string", default: "1" }, only: { type: "string" } },
  });
  const [kills, seed] = [Number(values.kills), Number(values.seed)];
  const isWanted = (...names) => values.only === undefined || names.includes(values.only);
  for (const driver of drivers.keys()) {
    if (isWanted("sqlite", driver)) tell(driver, await crashSqlite(driver, { kills, seed }));
  }
  if (isWanted("indexeddb")) tell("IndexedDB", await crashIndexedDb({ kills, seed }));
  function tell(what, { acknowledged, commands, mended }) {
    // See `leveldb-logs.mjs`.
    const byUs = mended === undefined ? "" : `, after ${mended} logs of the browser's were mended`;
    console.log(`${what}: ${kills} kills, ${acknowledged} commands acknowledged, ${commands} in the log, none lost and none twice${byUs}`);
  }
}
