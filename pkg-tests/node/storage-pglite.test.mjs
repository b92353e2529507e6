import { after, test } from "node:test";
import { PGlite } from "@electric-sql/pglite";
import { enrol } from "../support/adapter-rules.mjs";
import { storeOn } from "../support/postgres-stores.mjs";

const database = await PGlite.create();
after(() => database.close());

enrol(test, "PGlite", () => storeOn(database), ["another", "recreate", "judges"]);
