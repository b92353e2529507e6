// A process with a SQLite store: it does a job of the suite's, or appends until it is killed.

import { sqliteStorage } from "annals/sqlite";
import { commit, event, perform, Subject } from "annals/testing/conformance";
import { drivers } from "./sqlite-drivers.mjs";

const [driver, file] = process.argv.slice(2);
const storage = sqliteStorage({ database: drivers.get(driver)(file) });

process.once("message", async ({ job }) => {
  if (job !== undefined) return process.send(await perform(storage, job));
  const subject = await Subject.open(storage);
  for (let revision = 0; ; revision += 1) {
    const sent = commit("hot", revision, [event()]);
    await subject.accept(sent);
    process.send({ commandId: sent.commandId });
    await new Promise((resolve) => setImmediate(resolve));
  }
});

// It does not outlive a parent that was killed.
process.once("disconnect", () => process.exit());
process.send("ready");
