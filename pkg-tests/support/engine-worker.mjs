// A process with an engine on a SQLite file, which gives the commands that its parent asks for:
// `node engine-worker.mjs <driver> <file>`, forked.
//
// A message is { commands, atOnce }: commands are [aggregate id, command, options], and so many are
// under way at a time. Each outcome is sent when it comes, as { index, … }, and { done: true } when
// all have come.

import { Engine } from "annals";
import { sqliteStorage } from "annals/sqlite";
import { appointment } from "./clinic.mjs";
import { drivers } from "./sqlite-drivers.mjs";

const [driver, file] = process.argv.slice(2);
const storage = sqliteStorage({ database: drivers.get(driver)(file), pollInterval: 5 });
const engine = await Engine.open({ storage, aggregates: [appointment] });

process.on("message", async ({ commands, atOnce }) => {
  const left = commands.entries();
  const giveOneByOne = async () => {
    for (const [index, [id, command, options]] of left) {
      const told = await engine.attempt(appointment, id, command, options).then(
        ({ ok, refusal, revision, commandId, duplicate }) => ({ ok, refusal, revision, commandId, duplicate }),
        ({ code, message }) => ({ ok: false, error: `${code}: ${message}` }),
      );
      process.send({ index, ...told });
      // What was sent is on its way before the next command is given.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, giveOneByOne));
  process.send({ done: true });
});
process.send("ready");
