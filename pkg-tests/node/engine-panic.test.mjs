// A panic in the module: everyone is told, nothing acknowledged is lost, and a new engine works.

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { pathToFileURL } from "node:url";
import { appointment, booking, confirmation, issuedAt, logOf, retitling } from "../support/clinic.mjs";
import { embeddedStores, onEachStore } from "../support/engine-stores.mjs";

const wasm = readFileSync(new URL(import.meta.resolve("annals/annals.wasm")));

const glueFile = new URL("./glue/annals.js", import.meta.resolve("annals/package.json"));
const folder = mkdtempSync(path.join(tmpdir(), "annals-glue-"));
after(() => rmSync(folder, { recursive: true }));
let modules = 0;

/** A module of its own, in which the next call of some kind can be made to panic. */
async function fragile() {
  modules += 1;
  // A file of its own: that another query makes another module is not so everywhere.
  const file = path.join(folder, `${modules}.mjs`);
  copyFileSync(glueFile, file);
  const real = await import(pathToFileURL(file).href);
  let armed;
  const breakable = (name) => (...args) => {
    if (armed !== name) return real[name](...args);
    armed = undefined;
    return real.panicForTest();
  };
  const glue = { ...real, exchange: breakable("exchange"), judge: breakable("judge") };
  return { module: { glue, wasm }, arm: (name) => (armed = name) };
}

const poisoned = { code: "engine-poisoned", message: /bug of Annals: .*asked to panic/s };

for (const call of ["exchange", "judge"]) {
  onEachStore(`a panic in ${call} is told to all who wait and all who come`, async (place) => {
    const { module, arm } = await fragile();
    const [engine, second] = [await place.open({ module }), await place.open({ module })];
    const acknowledged = await engine.execute(appointment, "a-1", booking(), { issuedAt });
    const readers = [engine.events(), second.events()];
    for (const reader of readers) await reader.next();

    const ends = readers.map((reader) => assert.rejects(reader.next(), poisoned));
    arm(call);
    ends.push(assert.rejects(engine.execute(appointment, "a-1", confirmation, { issuedAt }), poisoned));
    const asking = async () => {
      for (;;) await second.state(appointment, "a-1");
    };
    ends.push(assert.rejects(asking(), poisoned));
    await Promise.all(ends);

    for (const dead of [engine, second]) {
      await assert.rejects(dead.execute(appointment, "a-1", confirmation, { issuedAt }), poisoned);
      await assert.rejects(dead.attempt(appointment, "a-1", confirmation, { issuedAt }), poisoned);
      await assert.rejects(dead.state(appointment, "a-1", { cached: true }), poisoned);
      await assert.rejects(dead.history(appointment, "a-1"), poisoned);
      assert.throws(() => dead.events(), poisoned);
      await dead.close();
    }

    const again = await place.open({ module });
    assert.deepEqual((await again.history(appointment, "a-1")).events, acknowledged.events);
    assert.equal((await again.execute(appointment, "a-1", retitling("Pulse"), { issuedAt })).revision, 2);
    assert.equal((await logOf(again)).length, 2);
  }, call === "judge" ? embeddedStores : undefined);
}

onEachStore("a panic while nobody waits ends readers, and not the process", async (place) => {
  const { module, arm } = await fragile();
  const engine = await place.open({ module });
  const other = await place.open();
  const last = assert.rejects(engine.events().next(), poisoned);
  // The first to look at the store has read it: what comes next is the news of an append.
  await engine.state(appointment, "a-1");
  arm("exchange");
  await other.execute(appointment, "a-1", booking(), { issuedAt });
  await last;
  assert.equal((await other.state(appointment, "a-1")).revision, 1);
});

onEachStore("a module that has panicked is no matter of engines in another", async (place) => {
  const [broken, whole] = [await fragile(), await fragile()];
  const [one, two] = [await place.open({ module: broken.module }), await place.open({ module: whole.module })];
  broken.arm("exchange");
  await assert.rejects(one.execute(appointment, "a-1", booking(), { issuedAt }), poisoned);
  assert.equal((await two.execute(appointment, "a-1", booking(), { issuedAt })).revision, 1);
});

onEachStore("engines opened at once after a panic share one new instance", async (place) => {
  const { module, arm } = await fragile();
  const engine = await place.open({ module });
  arm("exchange");
  await assert.rejects(engine.state(appointment, "a-1"), poisoned);
  const engines = await Promise.all([1, 2, 3].map(() => place.open({ module })));
  const outcomes = await Promise.all(
    engines.map((engine, n) => engine.execute(appointment, `a-${n}`, booking({ doctor: `d-${n}` }), { issuedAt })),
  );
  assert.deepEqual(outcomes.map(({ revision }) => revision), [1, 1, 1]);
});
