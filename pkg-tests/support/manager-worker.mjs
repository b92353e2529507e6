// A process with a waiting list on a SQLite file: `node manager-worker.mjs <driver> <file>`, forked.

import { Engine } from "annals";
import { sqliteStorage } from "annals/sqlite";
import { desk, waitingList } from "./manager-rules.mjs";
import { drivers } from "./sqlite-drivers.mjs";

const [driver, file] = process.argv.slice(2);
const storage = sqliteStorage({ database: drivers.get(driver)(file), pollInterval: 5 });
const reactions = [waitingList({ retries: { attempts: 50, firstPause: 1, maxPause: 5 } })];
const engine = await Engine.open({ storage, aggregates: [desk], reactions, limits: { lease: 60 } });

process.on("message", async () => {
  await engine.close();
  process.send("ended", () => process.exit());
});

// It does not outlive a parent that was killed.
process.once("disconnect", () => process.exit());
process.send("ready");
