// The documents that adapters are tested with, held to the vectors of the store in the core.

import { test } from "node:test";
import { DocumentModel } from "../support/document-model.mjs";
import { stories, tell } from "../support/document-vectors.mjs";

for (const { name, steps } of stories) test(name, () => tell(steps, new DocumentModel()));
