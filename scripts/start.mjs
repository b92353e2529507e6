// `npm start`: sets up what is missing, builds, and serves the demo until it is stopped.

import { build, setUpBuild } from "./build.mjs";
import { serve } from "./serve.mjs";
import { Failure, elapsed, inRoot, main, say, whenStopped } from "./shell.mjs";

await main(async () => {
  const port = askedPort();
  await build(await setUpBuild());
  const { url, close } = await serve(inRoot("www/dist"), { port });
  whenStopped(close);
  say(`\nThe demo is at ${url} (ready after ${elapsed()}; Ctrl-C stops it)`);
});

function askedPort() {
  const text = process.env.PORT;
  if (!text) return undefined;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Failure(`PORT is ${text}, expected 0 to 65535`);
  return port;
}
