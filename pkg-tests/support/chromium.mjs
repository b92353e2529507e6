// The Chromium of the tests: where it is, and how it is started.

export const executablePath = process.env.CHROME_PATH || "/usr/bin/chromium";

export const flags = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Containers have little shared memory in /dev/shm, or none, and pages crash without.
  "--disable-dev-shm-usage",
  // It can't sandbox as root, nor where an npm package brought it: it shows only what the tests serve.
  "--no-sandbox",
];
