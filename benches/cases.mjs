// Every case: what it measures, who takes part, who is compared with whom, and the targets.
//
// `rows` are the comparisons: the value of one contestant beside that of another.
// `quick` replaces a part of `size`, `quickContestants` those who take part. What is `once` is run on
// one Node only.

import { Failure } from "../scripts/shell.mjs";

const atLeast = (factor) => ({ sign: "≥", factor });
const atMost = (factor) => ({ sign: "≤", factor });

const both = (to, target, suffix = "") => [
  { of: "annals-ts", to, target, suffix },
  { of: "annals-rust", to, target, suffix: `${suffix}/rust` },
];

/** How often the streams are asked for a sample: long enough to be measured. */
const roundsOf = { memory: { commands: 200, reads: 200 }, sqlite: { commands: 10, reads: 50 } };

export const cases = [
  {
    name: "memory-commands",
    about: "commands in memory, one by one, 10 each on 10,000 streams",
    module: "memory-commands",
    unit: "commands/s",
    size: { streams: 10_000, commands: 100_000, lanes: 1 },
    quick: { streams: 1_000, commands: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "castore", "emmett"],
    rows: both("castore", atLeast(1.5)),
  },
  {
    name: "memory-commands-64",
    about: "the same, 64 in flight",
    module: "memory-commands",
    unit: "commands/s",
    size: { streams: 10_000, commands: 100_000, lanes: 64 },
    quick: { streams: 1_000, commands: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "castore", "emmett"],
    rows: both("castore", atLeast(2)),
  },
  ...[1, 64].map((lanes) => ({
    name: lanes === 1 ? "memory-reads" : "memory-reads-64",
    about: `commands that read others by tags beside commands that don't, ${lanes === 1 ? "one by one" : "64 in flight"}`,
    module: "memory-commands",
    unit: "commands/s",
    size: { streams: 4_000, commands: 40_000, lanes, kind: "moved" },
    quick: { streams: 400, commands: 4_000 },
    contestants: ["annals-ts", "annals-ts-without-reads", "annals-rust", "annals-rust-without-reads"],
    rows: [
      { of: "annals-ts", to: "annals-ts-without-reads", target: atLeast(0.5) },
      { of: "annals-rust", to: "annals-rust-without-reads", target: atLeast(0.5), suffix: "/rust" },
    ],
  })),
  {
    name: "sqlite-commands",
    about: "commands on SQLite, one by one, WAL, full sync",
    module: "sqlite-commands",
    unit: "commands/s",
    perDriver: true,
    size: { streams: 100, commands: 2_000, lanes: 1 },
    quick: { streams: 20, commands: 400 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean", "emmett", "livestore"],
    rows: both("floor", atLeast(0.85)),
  },
  {
    name: "sqlite-commands-64",
    about: "the same, 64 in flight on 64 streams",
    module: "sqlite-commands",
    unit: "commands/s",
    perDriver: true,
    size: { streams: 64, commands: 16_384, lanes: 64 },
    quick: { commands: 2_048 },
    contestants: ["annals-ts", "annals-rust", "floor", "floor-one-by-one", "lean"],
    rows: [...both("floor", atLeast(0.8)), ...both("floor-one-by-one", atLeast(10), "/one-by-one")],
  },
  {
    name: "sqlite-commands-64-one",
    about: "the same, 64 in flight on one stream",
    module: "sqlite-commands",
    unit: "commands/s",
    perDriver: true,
    size: { streams: 1, commands: 16_384, lanes: 64 },
    quick: { commands: 2_048 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean"],
    rows: both("floor", atLeast(0.8)),
  },
  {
    name: "sqlite-load-one",
    about: "one stream of 100,000 events, loaded from SQLite and folded",
    module: "sqlite-load",
    unit: "events/s",
    perDriver: true,
    size: { streams: 1, events: 100_000, rounds: 2, way: "one by one" },
    quick: { events: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean", "emmett"],
    rows: [
      { of: "annals-ts", to: "floor", target: atLeast(0.9) },
      { of: "annals-rust", to: "floor", suffix: "/rust" },
    ],
  },
  {
    name: "sqlite-load-many",
    about: "10,000 streams of 10, loaded from SQLite and folded, one by one",
    module: "sqlite-load",
    unit: "events/s",
    perDriver: true,
    size: { streams: 10_000, events: 100_000, rounds: 1, way: "one by one" },
    quick: { streams: 1_000, events: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean", "emmett"],
    rows: [
      { of: "annals-ts", to: "floor", target: atLeast(0.8) },
      { of: "annals-rust", to: "floor", suffix: "/rust" },
    ],
  },
  {
    name: "sqlite-load-bulk",
    about: "the same, a thousand at once, beside the floor one by one",
    module: "sqlite-load",
    unit: "events/s",
    perDriver: true,
    size: { streams: 10_000, events: 100_000, rounds: 1, way: "bulk" },
    quick: { streams: 1_000, events: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "floor-in-bulk"],
    rows: [
      { of: "annals-ts", to: "floor", target: atLeast(1.5) },
      { of: "annals-rust", to: "floor", suffix: "/rust" },
      { of: "annals-ts", to: "floor-in-bulk", suffix: "/in-bulk" },
    ],
  },
  {
    name: "sqlite-load-hot",
    about: "the same at hand (`cached`), beside the cold load one by one",
    module: "sqlite-load",
    unit: "events/s",
    perDriver: true,
    size: { streams: 10_000, events: 100_000, rounds: 1, hotRounds: 10 },
    quick: { streams: 1_000, events: 10_000 },
    contestants: ["annals-ts-hot", "annals-ts-cold", "annals-rust-hot", "annals-rust-cold"],
    rows: [
      { of: "annals-ts-hot", to: "annals-ts-cold", target: atLeast(20) },
      { of: "annals-rust-hot", to: "annals-rust-cold", target: atLeast(20), suffix: "/rust" },
    ],
  },
  {
    name: "postgres-commands",
    about: "commands on PostgreSQL, one by one, fsync on",
    module: "postgres-commands",
    needs: ["postgres"],
    unit: "commands/s",
    size: { streams: 100, commands: 1_000, lanes: 1 },
    quick: { streams: 20, commands: 200 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean", "emmett"],
    rows: both("floor"),
  },
  {
    name: "postgres-commands-64",
    about: "the same, 64 in flight on 64 streams",
    module: "postgres-commands",
    needs: ["postgres"],
    unit: "commands/s",
    size: { streams: 64, commands: 8_192, lanes: 64 },
    quick: { commands: 2_048 },
    contestants: ["annals-ts", "annals-rust", "floor", "floor-one-by-one", "lean", "emmett"],
    rows: [...both("floor"), ...both("floor-one-by-one", undefined, "/one-by-one")],
  },
  {
    name: "postgres-load-one",
    about: "one stream of 100,000 events, loaded from PostgreSQL and folded",
    module: "postgres-load",
    needs: ["postgres"],
    unit: "events/s",
    size: { streams: 1, events: 100_000, rounds: 1, way: "one by one" },
    quick: { events: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean", "emmett"],
    rows: both("floor"),
  },
  {
    name: "postgres-load-many",
    about: "2,000 streams of 10, loaded from PostgreSQL and folded, one by one",
    module: "postgres-load",
    needs: ["postgres"],
    unit: "events/s",
    size: { streams: 2_000, events: 20_000, rounds: 1, way: "one by one" },
    quick: { streams: 200, events: 2_000 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean", "emmett"],
    rows: both("floor"),
  },
  {
    name: "postgres-load-bulk",
    about: "10,000 streams of 10, a thousand at once, beside the floor in one query",
    module: "postgres-load",
    needs: ["postgres"],
    unit: "events/s",
    size: { streams: 10_000, events: 100_000, rounds: 1, way: "bulk" },
    quick: { streams: 1_000, events: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor-in-bulk", "floor", "emmett"],
    rows: [...both("floor-in-bulk"), ...both("floor", undefined, "/one-by-one")],
  },
  {
    name: "replay-rust",
    about: "100,000 events of JSON replayed by the Rust domain, beside bare serde_json in WASM",
    module: "replay",
    needs: ["bare"],
    unit: "events/s",
    size: { events: 100_000, rounds: 3 },
    quick: { events: 10_000 },
    contestants: ["annals-rust", "floor", "floor-fast", "floor-texts", "floor-native"],
    rows: [
      { of: "annals-rust", to: "floor", target: atLeast(0.9) },
      { of: "annals-rust", to: "floor-fast", suffix: "/fast" },
      { of: "annals-rust", to: "floor-texts", suffix: "/texts" },
      { of: "annals-rust", to: "floor-native", suffix: "/native" },
    ],
  },
  ...["memory", "sqlite"].map((store) => ({
    name: `view-${store}`,
    about: `the agenda made of 100,000 events ${store === "memory" ? "in memory" : "on SQLite, WAL, full sync"}`,
    module: "views",
    unit: "events/s",
    perDriver: store === "sqlite",
    size: { store, streams: 10_000, events: 100_000 },
    quick: { streams: 1_000, events: 10_000 },
    contestants: ["annals-ts", "annals-rust", "floor"],
    rows: both("floor"),
  })),
  ...["memory", "sqlite"].flatMap((store) =>
    [1, 64].map((lanes) => ({
      name: `inline-${store}${lanes === 1 ? "" : "-64"}`,
      about: `commands with the agenda inline beside commands without, ${store === "memory" ? "in memory" : "on SQLite"}, ${lanes === 1 ? "one by one" : "64 in flight"}`,
      module: "views",
      unit: "commands/s",
      perDriver: store === "sqlite",
      size: { store, streams: 1_000, commands: store === "memory" ? 20_000 : 4_000, lanes },
      quick: { streams: 100, commands: 2_000 },
      contestants: ["annals-ts-inline", "annals-ts-without", "annals-rust-inline", "annals-rust-without"],
      rows: [
        { of: "annals-ts-inline", to: "annals-ts-without" },
        { of: "annals-rust-inline", to: "annals-rust-without", suffix: "/rust" },
      ],
    })),
  ),
  ...["strict", "relaxed"].map((durability) => ({
    name: `indexeddb-commands-${durability}`,
    about: `commands on IndexedDB, ${durability}, 64 in flight, beside one transaction an event`,
    module: "indexeddb",
    needs: ["browser"],
    unit: "commands/s",
    // The floor is slow, and gets an eighth of the commands.
    size: { streams: 64, commands: 4_096, lanes: 64, part: 8, durability },
    quick: { commands: 512 },
    contestants: ["annals-ts", "annals-rust", "floor", "lean"],
    rows: [...both("floor", atLeast(10)), { of: "annals-ts", to: "lean", suffix: "/lean" }],
  })),
  {
    name: "indexeddb-load",
    about: "100,000 events in streams of 10, loaded from IndexedDB and folded",
    module: "indexeddb",
    needs: ["browser"],
    unit: "events/s",
    size: { streams: 10_000, events: 100_000 },
    quick: { streams: 1_000, events: 10_000 },
    contestants: ["annals-ts-load", "annals-rust-load", "floor-rows"],
    rows: [
      { of: "annals-ts-load", to: "floor-rows", target: atLeast(1.5) },
      { of: "annals-rust-load", to: "floor-rows", target: atLeast(1.5), suffix: "/rust" },
    ],
  },
  ...["node", "chromium"].map((host) => ({
    name: `start-${host}`,
    about: `from import to the first answer in ${host === "node" ? "Node" : "Chromium"}, beside a bare module of the same size`,
    module: "start",
    needs: host === "node" ? [] : ["browser"],
    startsAnew: true,
    unit: "ms",
    size: {},
    contestants: ["annals-ts", "annals-rust", "floor-ts", "floor-rust"],
    rows: [
      { of: "annals-ts", to: "floor-ts", target: atMost(1.3) },
      { of: "annals-rust", to: "floor-rust", target: atMost(1.3), suffix: "/rust" },
    ],
  })),
  {
    name: "download",
    about: "what a page has to download, by gzip",
    module: "download",
    unit: "KB",
    size: {},
    pairs: 1,
    once: true,
    contestants: ["annals-module", "annals-views", "limit-module", "annals-javascript", "limit-javascript"],
    rows: [
      { of: "annals-module", to: "limit-module", target: atMost(1), suffix: "/module" },
      { of: "annals-views", to: "limit-module", target: atMost(1), suffix: "/module-with-views" },
      { of: "annals-javascript", to: "limit-javascript", target: atMost(1), suffix: "/javascript" },
    ],
  },
  ...["memory", "sqlite"].flatMap((store) =>
    ["commands", "reads"].map((of) => ({
      name: `growth-${store}-${of}`,
      about: `what ${of} of warm streams cost in stores of 10³ to 10⁶ events, ${store === "memory" ? "in memory" : "on SQLite"}`,
      module: "growth",
      // A million events in memory are more than Node's usual heap.
      flags: ["--max-old-space-size=8192"],
      perDriver: store === "sqlite",
      unit: "µs",
      size: { store, of, rounds: roundsOf[store][of] },
      contestants: ["annals-1000", "annals-10000", "annals-100000", "annals-1000000"],
      quickContestants: ["annals-1000", "annals-10000"],
      rows: [10_000, 100_000, 1_000_000].map((events) => ({
        of: `annals-${events}`,
        to: "annals-1000",
        target: atMost(1.2),
        suffix: `/${events}`,
      })),
    })),
  ),
  {
    name: "kept",
    about: "what the engine keeps at hand after many more streams than it may keep",
    module: "kept",
    unit: "bytes",
    size: { streams: 20_000, cachedStates: 1_000 },
    quick: { streams: 2_000, cachedStates: 100 },
    pairs: 1,
    once: true,
    contestants: ["annals-states", "limit-states", "annals-ts-many", "annals-ts-some", "annals-rust-many", "annals-rust-some"],
    rows: [
      { of: "annals-states", to: "limit-states", target: atMost(1), suffix: "/states", unit: "states" },
      { of: "annals-ts-many", to: "annals-ts-some", target: atMost(1), suffix: "/bytes" },
      { of: "annals-rust-many", to: "annals-rust-some", target: atMost(1), suffix: "/bytes/rust" },
    ],
  },
];

export const isPeer = (contestant) => ["castore", "emmett", "livestore"].includes(contestant);

/** Those whose name begins with one of these. */
export function casesNamed(names) {
  if (names.length === 0) return cases;
  const found = cases.filter(({ name }) => names.some((begin) => name.startsWith(begin)));
  const unknown = names.find((begin) => !found.some(({ name }) => name.startsWith(begin)));
  if (unknown !== undefined) throw new Failure(`no case begins with ${unknown} (--list shows them)`);
  return found;
}
