// A process with an engine on a store, which gives the commands that its parent asks for:
// `node engine-worker.mjs <kind> <where>`, forked.
//
// A message is { commands, atOnce, restless }: commands are [aggregate id, command, options], and so
// many are under way at a time. Each outcome is sent when it comes, as { index, … }, and
// { done: true } when all have come. A restless process changes an appointment of its own besides,
// and is never done: whenever it is killed, it is in the middle of something.

import { Engine } from "annals";
import { appointment, booking, issuedAt, retitling } from "./clinic.mjs";
import { openAt } from "./process-stores.mjs";

const { storage } = openAt(...process.argv.slice(2));
const engine = await Engine.open({ storage, aggregates: [appointment] });

process.on("message", async ({ commands, atOnce, restless }) => {
  const left = commands.entries();
  const giveOneByOne = async () => {
    for (const [index, [id, command, options]] of left) {
      const told = await engine.attempt(appointment, id, command, options).then(
        ({ ok, refusal, revision, commandId, duplicate }) => ({ ok, refusal, revision, commandId, duplicate }),
        ({ code, message }) => ({ ok: false, error: `${code}: ${message}` }),
      );
      process.send({ index, ...told });
      // What was sent is on its way before the next command is given.
      await turn();
    }
  };
  await Promise.all([...Array.from({ length: atOnce }, giveOneByOne), ...(restless ? [changeWithoutEnd()] : [])]);
  process.send({ done: true });
});

async function changeWithoutEnd() {
  const id = `restless-${process.pid}`;
  await engine.execute(appointment, id, booking({ doctor: id }), { issuedAt });
  for (let count = 0; ; count += 1) {
    await engine.execute(appointment, id, retitling(`Title ${count}`), { issuedAt });
    // The store answers at once: without a pause nothing else would have its turn.
    await turn();
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

// It does not outlive a parent that was killed.
process.once("disconnect", () => process.exit());
process.send("ready");
