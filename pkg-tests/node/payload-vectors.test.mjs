// What may be stored, by the vectors that the Rust core is held to as well: [text, whether accepted].

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Engine, aggregate } from "annals";
import { memoryStorage } from "annals/memory";

const vectors = JSON.parse(await readFile(new URL("../vectors/payload.json", import.meta.url), "utf8"));

const box = aggregate("Box", {
  initial: () => null,
  decide: (_, { data }) => [{ type: "Kept", data }],
  evolve: { Kept: (_, { data }) => data },
});

/** The value that a text stands for, if it is JSON. */
function parse(text) {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

test("a text that is accepted is JSON", () => {
  for (const [text, accepted] of vectors) if (accepted) assert.ok(parse(text), JSON.stringify(text));
});

test("a value is stored, and comes back as it was, if and only if its text is accepted", async () => {
  const engine = await Engine.open({ storage: memoryStorage(), aggregates: [box] });
  const seen = { true: 0, false: 0 };
  for (const [index, [text, accepted]] of vectors.entries()) {
    const parsed = parse(text);
    if (parsed === undefined) continue;
    seen[accepted] += 1;
    const keeping = engine.execute(box, `b-${index}`, { type: "Keep", data: parsed.value });
    if (!accepted) {
      await assert.rejects(keeping, { code: "invalid-payload" }, JSON.stringify(text));
      continue;
    }
    const { events, state } = await keeping;
    for (const value of [events[0].data, state]) assert.equal(JSON.stringify(value), JSON.stringify(parsed.value));
  }
  assert.ok(seen.true > 40 && seen.false > 20, JSON.stringify(seen));
  await engine.close();
});
