// The stores of ../formats, in Node and in pages.

async function read(file) {
  const url = new URL(`../formats/${file}`, import.meta.url);
  if (url.protocol !== "file:") return (await fetch(url)).json();
  return JSON.parse((await import("node:fs")).readFileSync(url, "utf8"));
}

const { events, recordedAt } = await read("log-1.json");

/** The log that the stores of format 1 have: of them only the times differ. */
export const logOne = (store) => events.map((event, index) => ({ ...event, recordedAt: recordedAt[store][index] }));

/** The log that those of format 2 and 3 in IndexedDB have. */
export const logTwo = (await read("log-2.json")).events;

/** What is in a store of each format in IndexedDB. */
export const indexedDbStores = {
  1: await read("indexeddb-1.json"),
  2: await read("indexeddb-2.json"),
  3: await read("indexeddb-3.json"),
};
