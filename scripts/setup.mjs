// `npm run setup`: everything that `npm start` and `npm test` would set up by themselves.

import { setUpBrowser } from "./browser.mjs";
import { setUpBuild } from "./build.mjs";
import { setUpBetterSqlite3, setUpBundlers, setUpNewerNode } from "./packages.mjs";
import { main } from "./shell.mjs";
import { setUpLinters } from "./toolchain.mjs";

await main(async () => {
  await setUpBuild();
  await setUpLinters();
  await setUpBetterSqlite3();
  await setUpNewerNode();
  await setUpBrowser();
  await setUpBundlers();
});
