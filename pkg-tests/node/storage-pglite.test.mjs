import { after, test } from "node:test";
import { PGlite } from "@electric-sql/pglite";
import { enrol } from "../support/conformance.mjs";
import { onPglite } from "../support/postgres-conformance.mjs";

const database = await PGlite.create();
after(() => database.close());

enrol(test, onPglite(database), "PGlite");
