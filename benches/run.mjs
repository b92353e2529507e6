// `npm run bench`: Annals beside the floor and the peers, in one run.
//
//   npm run bench                         every case
//   npm run bench -- sqlite-load memory   those whose names begin so
//   npm run bench -- --list               their names
//   npm run bench -- --quick              small sizes and 3 pairs: no verdicts
//   npm run bench -- --pairs 15           instead of 9
//   npm run bench -- --node 20            on this Node only
//   npm run bench -- --json <file>        writes the rows
//   npm run bench -- --docs               writes them into benches/README.md, and draws the chart
//   npm run bench -- --profile <case>     where Annals spends its time
//       --contestant annals-rust          where this one does

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { Failure, elapsed, inRoot, main, say, step, whenStopped } from "../scripts/shell.mjs";
import { casesNamed, isPeer } from "./cases.mjs";
import { startBrowser } from "./harness/browser.mjs";
import { compare, endProcesses, hold, startProcess } from "./harness/contest.mjs";
import { writeDocs } from "./harness/docs.mjs";
import { stopPostgres, withPostgres } from "./harness/postgres.mjs";
import { digits, remark, table } from "./harness/report.mjs";
import { setUp } from "./harness/setup.mjs";
import { median } from "./harness/statistics.mjs";

await main(async () => {
  const options = parse();
  const selected = casesNamed(options.names);
  if (options.list) return say(selected.map(({ name, about }) => `${name.padEnd(28)} ${about}`).join("\n"));

  const tools = await setUp(selected, options);
  // On a disk, as an application's would be: what is under /tmp may be memory.
  const folder = inRoot(".tools/bench", String(process.pid));
  mkdirSync(folder, { recursive: true });
  process.on("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  whenStopped(() => {
    // Who has lost the server would complain.
    endProcesses();
    void stopPostgres().finally(() => process.exit(130));
  });

  const isForPages = selected.some(needsBrowser);
  const browser = isForPages ? await startBrowser(folder, tools.modules) : undefined;
  const run = { ...tools, folder, browser, options };
  try {
    if (options.profile === undefined) await measureAll(selected, run);
    else await withServer(selected[0], run, (run) => profile(selected[0], run));
  } finally {
    await browser?.close();
  }
});

function parse() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        list: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        pairs: { type: "string" },
        node: { type: "string" },
        json: { type: "string" },
        docs: { type: "boolean", default: false },
        profile: { type: "string" },
        contestant: { type: "string", default: "annals-ts" },
      },
    });
    const pairs = Number(values.pairs ?? (values.quick ? 3 : 9));
    if (!Number.isSafeInteger(pairs) || pairs < 1) throw new TypeError(`--pairs is ${values.pairs}, expected a number`);
    if (values.docs && values.quick) throw new TypeError("--docs wants figures that --quick does not give");
    return { ...values, pairs, names: values.profile === undefined ? positionals : [values.profile] };
  } catch (error) {
    throw new Failure(error.message);
  }
}

function needsBrowser({ needs = [] }) {
  return needs.includes("browser");
}

function needsPostgres({ needs = [] }) {
  return needs.includes("postgres");
}

async function measureAll(selected, run) {
  const { options } = run;
  say(`Contests, ${options.quick ? "quick: 3 pairs of small samples" : `${options.pairs} pairs each`}`);
  const rows = [];
  const failures = [];
  for (const benchCase of selected) {
    for (const place of placesOf(benchCase, run)) {
      try {
        rows.push(...(await withServer(benchCase, run, (run) => measure(benchCase, place, run))));
      } catch (error) {
        failures.push(`${benchCase.name}, ${place.host}: ${error.message}`);
        say(`  ${error.message}`);
      }
    }
  }
  if (rows.length > 0) say(`\n${table(rows)}\n`);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(rows, null, 2)}\n`);
  const judged = rows.filter(({ met }) => met !== null);
  const met = judged.filter((row) => row.met);
  if (options.quick) say("Quick: the figures say that it works, not how fast it is. No target was judged.");
  say(`${rows.length} rows in ${elapsed()}, ${met.length} of ${judged.length} targets met.`);
  if (failures.length > 0) throw new Failure(["These contests failed:", ...failures].join("\n"));
  if (options.docs) writeDocs(rows);
}

/** A case that wants a PostgreSQL server has one for itself, which all its contestants share. */
function withServer(benchCase, run, work) {
  return needsPostgres(benchCase) ? withPostgres((connection) => work({ ...run, connection })) : work(run);
}

/** Where a case is run: in the browser, or on which Nodes and with which drivers. */
function placesOf(benchCase, { nodes, browser }) {
  if (needsBrowser(benchCase)) {
    const { version } = browser;
    return [{ host: `Chromium ${version.split(".")[0]}`, version, driver: null }];
  }
  return (benchCase.once ? nodes.slice(-1) : nodes).flatMap(({ program, version, major, drivers }) =>
    (benchCase.perDriver ? drivers : [null]).map((driver) => ({ node: program, host: `Node ${major}`, version, driver })),
  );
}

/** Those who take part, each with the way to start it. */
function makersOf(benchCase, { node, host, driver }, { folder, browser, options, modules, connection }) {
  const { module, flags, startsAnew } = benchCase;
  const contestants = (options.quick && benchCase.quickContestants) || benchCase.contestants;
  const size = { ...benchCase.size, ...(options.quick && benchCase.quick) };
  // Contests with the same module, Node and driver share the stores they start from.
  const own = path.join(folder, [module, host, driver].filter(Boolean).join("-").replace(/[^\w.-]/g, "-"));
  mkdirSync(own, { recursive: true });
  return new Map(contestants.map((contestant) => {
    const setup = { contestant, size };
    if (browser === undefined || !needsBrowser(benchCase)) {
      const more = { module, driver, folder: own, flags, modules, connection };
      return [contestant, () => startProcess(node, { ...setup, ...more })];
    }
    return [contestant, () => (startsAnew ? browser.startAnew(setup) : browser.startPage(setup))];
  }));
}

/** What a sample is worth: things per second, or the time of one. */
function worth({ value, count, seconds }, unit) {
  if (value !== undefined) return value;
  if (unit === "ms") return (1e3 * seconds) / count;
  if (unit === "µs") return (1e6 * seconds) / count;
  return count / seconds;
}

async function measure(benchCase, place, run) {
  const { name, unit } = benchCase;
  const { host, version, driver } = place;
  const { options } = run;
  const makers = makersOf(benchCase, place, run);
  let values;
  await step([name, host, driver].filter(Boolean).join(", "), async () => {
    values = await hold(makers, {
      pairs: benchCase.pairs ?? options.pairs,
      // What is counted and not timed needs no warming up.
      warmUps: benchCase.pairs === undefined ? 2 : 0,
      valueOf: (sample) => worth(sample, unit),
      onPair: () => process.stdout.write("."),
    });
  });
  // So few pairs have no bounds with 95 % probability. What is counted and not timed needs no more.
  const isJudged = !options.quick && (benchCase.pairs !== undefined || options.pairs >= 6);
  const middle = (contestant) => median(values.get(contestant));
  const peers = Object.fromEntries([...makers.keys()].filter(isPeer).map((peer) => [peer, middle(peer)]));
  const rows = benchCase.rows
    .filter(({ of, to }) => makers.has(of) && makers.has(to))
    .map((row) => ({
      name: `${name}${row.suffix ?? ""}`,
      host,
      version,
      driver,
      unit: row.unit ?? unit,
      of: row.of,
      base: row.to,
      ...compare(values, row, isJudged),
      lean: makers.has("lean") ? middle("lean") : null,
      peers,
      quick: options.quick,
    }));
  for (const row of rows) say(`  ${remark(row)}`);
  return rows;
}

async function profile(benchCase, run) {
  const { contestant: name } = run.options;
  const place = placesOf(benchCase, run).at(-1);
  const contestant = makersOf(benchCase, place, run).get(name)?.();
  if (contestant === undefined) {
    throw new Failure(`${benchCase.name} has no ${name} (--contestant ${benchCase.contestants.join(" or ")})`);
  }
  let functions;
  try {
    await step(["profile of", benchCase.name, name, place.host, place.driver].filter(Boolean).join(" "), async () => {
      await contestant.open();
      for (let warmUp = 0; warmUp < 3; warmUp += 1) await contestant.sample();
      functions = await contestant.profile(5);
    });
  } catch (error) {
    throw new Failure(error.message);
  } finally {
    await contestant.close();
  }
  for (const { name, place, share } of functions) say(`${`${digits(100 * share)} %`.padStart(8)}  ${name}  ${place}`);
}
