// A process with a PostgreSQL store, which does a job of the suite's: `node postgres-worker.mjs <where>`, forked.

import { perform } from "annals/testing/conformance";
import { openAt } from "./process-stores.mjs";

const { storage } = openAt("PostgreSQL", process.argv[2]);

process.once("message", async ({ job }) => process.send(await perform(storage, job)));

// It does not outlive a parent that was killed.
process.once("disconnect", () => process.exit());
process.send("ready");
