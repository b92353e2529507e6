// The Chromium of the tests: where it is, and how it is started.

export const executablePath = process.env.CHROME_PATH || "/usr/bin/chromium";

export const flags = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Containers have little shared memory in /dev/shm, or none, and pages crash without.
  "--disable-dev-shm-usage",
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
];
