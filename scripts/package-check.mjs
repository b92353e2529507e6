// The built package, checked as what npm would publish: its manifest, and whether every entry's
// types are found by the ways in which TypeScript resolves them.

import { Failure, inRoot, run } from "./shell.mjs";

export async function checkPackage() {
  const { publint } = await import("publint");
  const { formatMessage } = await import("publint/utils");
  const { messages, pkg } = await publint({ pkgDir: inRoot("pkg"), strict: true });
  if (messages.length > 0) {
    const lines = messages.map((message) => `- ${formatMessage(message, pkg, { color: false })}`);
    throw new Failure(`publint on pkg/:\n${lines.join("\n")}`);
  }
  await run(process.execPath, [
    inRoot("node_modules/@arethetypeswrong/cli/dist/index.js"),
    "--pack",
    inRoot("pkg"),
    "--profile",
    "esm-only",
    "--no-color",
    // Not code, so it has no types.
    "--exclude-entrypoints",
    "annals.wasm",
    "annals-log.wasm",
  ]);
}
