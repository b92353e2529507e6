// The stores of ../formats, in Node and in pages.

async function read(file) {
  const url = new URL(`../formats/${file}`, import.meta.url);
  if (url.protocol !== "file:") return (await fetch(url)).json();
  return JSON.parse((await import("node:fs")).readFileSync(url, "utf8"));
}

const { events, recordedAt } = await read("log-1.json");

/** The log that the stores of format 1 have: of them only the times differ. */
export const logOne = (store) => events.map((event, index) => ({ ...event, recordedAt: recordedAt[store][index] }));

export const indexedDbOne = await read("indexeddb-1.json");
