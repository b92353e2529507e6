// A process that has a SQLite store do what it can, until it is killed: forked with driver, file and name.

import { sqliteStorage } from "annals/sqlite";
import { giveWithoutEnd } from "./crash-load.mjs";
import { drivers } from "./sqlite-drivers.mjs";

const [driver, file, name] = process.argv.slice(2);

// It does not outlive a parent that was killed.
process.once("disconnect", () => process.exit());
process.send("ready");

await giveWithoutEnd(sqliteStorage({ database: drivers.get(driver)(file) }), name, async (acknowledged) => {
  process.send(acknowledged);
  // What was sent is on its way before the next command is given.
  await new Promise((resolve) => setImmediate(resolve));
});
