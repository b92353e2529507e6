// Reactions in pages, on IndexedDB: of two tabs one runs one, and the other takes over when it ends.

import assert from "node:assert/strict";
import { test } from "node:test";
import { reactionRules } from "../support/reaction-rules.mjs";
import { tabsWith } from "../support/tabs.mjs";

const tabs = tabsWith("reaction-rules.mjs");
tabs.keep({ reactionRules });

test("a tab that ends while it handles an event leaves that event, and what comes after, to another", async () => {
  const other = await tabs.open();
  let begun;
  const hasBegun = new Promise((resolve) => (begun = resolve));
  await other.exposeFunction("begun", () => begun());
  await other.evaluate(async (name) => {
    const handle = ({ revision }) => (revision === 1 ? undefined : (begun(), new Promise(() => undefined)));
    const mail = mailer({ handle });
    const engine = await placeOf(name).open({ aggregates: [visit], reactions: [mail.definition], limits: { lease: 60 } });
    await book(engine, "v-1");
    await settled(engine, mail);
    await book(engine, "v-1");
  }, tabs.name);
  await hasBegun;
  const running = tabs.first.evaluate(async (name) => {
    const mail = mailer();
    const engine = await placeOf(name).open({ aggregates: [visit], reactions: [mail.definition], limits: { lease: 60 } });
    await book(engine, "v-1");
    globalThis.isWaiting = true;
    await settled(engine, mail);
    return mail.sent;
  }, tabs.name);
  await tabs.first.waitForFunction(() => globalThis.isWaiting);
  await other.close();
  assert.deepEqual(await running, ["v-1/2", "v-1/3"]);
});
