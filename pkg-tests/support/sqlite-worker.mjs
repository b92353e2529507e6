// A process that appends to a SQLite store, or counts in a document of it, until it has won as often as it was told.

import { sqliteStorage } from "annals/sqlite";
import { countTo } from "./document-rules.mjs";
import { drivers } from "./sqlite-drivers.mjs";
import { Subject, commit, event } from "./subject.mjs";

const [driver, file] = process.argv.slice(2);
const subject = await Subject.open(sqliteStorage({ database: drivers.get(driver)(file) }));

process.once("message", async ({ race, count }) => {
  if (count !== undefined) {
    await countTo(subject, count);
    return process.send({ counted: count });
  }
  let won = 0;
  for (let attempt = 0; won < (race ?? Infinity); attempt++) {
    const { revision } = await subject.slice("Appointment", "hot", { limit: 1 });
    const commandId = `${process.pid}-${attempt}`;
    const appending = subject.append([commit("hot", revision, [event()], { commandId })]);
    // Others may have the lock for all the time the adapter waits: then nothing was appended.
    const [verdict] = await appending.catch((error) => {
      if (error.code === "storage-busy") return [{ kind: "busy" }];
      throw error;
    });
    if (verdict.kind !== "committed") continue;
    won++;
    if (race === null) process.send({ commandId });
    // Whoever appends without a pause starves the others.
    await new Promise((resolve) => setImmediate(resolve));
  }
  process.send({ won });
});

// It does not outlive a parent that was killed.
process.once("disconnect", () => process.exit());
process.send("ready");
