// How a page loads the engine's code.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { launch } from "../support/browser.mjs";
import { openPage, serveEnginePage } from "../support/engine-browser.mjs";

let server;
let browser;
let context;
let page;

before(async () => {
  server = await serveEnginePage();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  context = await browser.newContext();
  page = await openPage(context, server.url);
});
afterEach(() => context.close());

/** `opened`, or the code of the error. */
const open = (options) =>
  page.evaluate((options) => openEngine(options).then(() => "opened", ({ code, cause }) => `${code}: ${cause?.name}`), options);

test("the code is fetched by the first engine, once, and by no import", async () => {
  const fetched = [];
  page.on("request", (request) => fetched.push(new URL(request.url()).pathname));
  await page.reload();
  await page.waitForFunction(() => globalThis.isReady);
  assert.deepEqual(fetched, ["/", "/page.js"]);
  await page.evaluate(() => Promise.all([openEngine(), openEngine(), openEngine()]));
  await page.evaluate(() => openEngine());
  assert.deepEqual(fetched, ["/", "/page.js", "/annals-log.wasm"]);
});

test("a server that does not know WebAssembly's type will do", async () => {
  await page.route("**/annals-log.wasm", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, headers: { "content-type": "application/octet-stream" } });
  });
  assert.equal(await open(), "opened");
});

test("code that can't be fetched is an error with its cause, and the next engine fetches it again", async () => {
  const answers = [(route) => route.abort(), (route) => route.fulfill({ status: 404, body: "no such file" })];
  for (const answer of answers) {
    await page.route("**/annals-log.wasm", answer);
    assert.match(await open(), /^module-failed: \w*Error$/);
    await page.unroute("**/annals-log.wasm");
  }
  assert.equal(await open(), "opened");
});

test("a page that forbids evaluation but not WebAssembly has an engine", async () => {
  await page.route(server.url, async (route) => {
    const response = await route.fetch();
    const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'";
    await route.fulfill({ response, headers: { ...response.headers(), "content-security-policy": policy } });
  });
  await page.goto(server.url);
  await page.waitForFunction(() => globalThis.isReady);
  assert.equal(await open(), "opened");
});
