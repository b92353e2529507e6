// Process managers in pages, on IndexedDB: of two tabs one runs one, and what a tab leaves undone the
// other does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { managerRules } from "../support/manager-rules.mjs";
import { tabsWith } from "../support/tabs.mjs";

const tabs = tabsWith("manager-rules.mjs");
tabs.keep({ managerRules });

test("a tab that ends between command and save leaves the rest to another, which repeats nothing", async () => {
  await tabs.endInTheMiddle(async (name) => {
    const place = placeOf(name);
    const storage = place.storage();
    const { saveDocuments } = storage;
    let commands = false;
    storage.saveDocuments = (request) => {
      const ofManager = request.documents.some(({ collection }) => collection.startsWith("managers/"));
      if (commands && ofManager) return inTheMiddle(), new Promise(() => undefined);
      return saveDocuments.call(storage, request);
    };
    const manager = waitingList();
    const engine = await place.open({ storage, aggregates: [desk], reactions: [manager], limits: { lease: 60 } });
    for (const patient of ["Ann", "Ben"]) await give(engine, "a", "Waiting", { patient, slot: 7 });
    await settled(engine, manager);
    commands = true;
    await give(engine, "b", "Cancelled", { slot: 7 });
  });
  const booked = await tabs.first.evaluate(async (name) => {
    const manager = waitingList();
    const engine = await placeOf(name).open({ aggregates: [desk], reactions: [manager], limits: { lease: 60 } });
    await settled(engine, manager);
    await give(engine, "b", "Cancelled", { slot: 7 });
    await settled(engine, manager);
    return (await events(engine, "Booked")).map(({ data }) => data.patient);
  }, tabs.name);
  assert.deepEqual(booked, ["Ann", "Ben"]);
});
