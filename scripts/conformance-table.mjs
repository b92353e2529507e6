// The table of docs/adapters.md: adapters by rules, made of what the tests of the adapters have kept in
// .tools/conformance when they were run last.
//
//   node scripts/conformance-table.mjs    writes it
//
// `npm test` checks it after the tests.

import { readFile, readdir, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Failure, inRoot, main } from "./shell.mjs";

const page = "docs/adapters.md";
const [BEGIN, END] = ["<!-- conformance: begin -->", "<!-- conformance: end -->"];

/** In this order. */
const columns = ["memory", "overlay", "IndexedDB", "SQLite", "PostgreSQL", "PGlite"];

/** Not every platform can run them: where it can't, what the page says of them stays. */
const optional = ["PostgreSQL", "PGlite"];

/** Fails if the table is not what the tests have found. */
export async function checkConformanceTable() {
  const { text, around, table, missing } = await current();
  if (text !== around(table)) throw new Failure(`${page} does not have the results of the tests: node scripts/conformance-table.mjs writes them`);
  return `${table.split("\n").length - 2} rules${missing.map((column) => `, not run here: ${column}`).join("")}`;
}

async function writeConformanceTable() {
  const { around, table } = await current();
  await writeFile(inRoot(page), around(table));
}

async function current() {
  const text = await readFile(inRoot(page), "utf8");
  const [before, rest] = text.split(BEGIN);
  const [, after] = (rest ?? "").split(END);
  if (after === undefined) throw new Failure(`${page} has no place for the table`);
  const byColumn = await keptResults();
  const missing = columns.filter((_, column) => byColumn[column].length === 0);
  const table = tableOf(byColumn, rowsOf(rest.split(END)[0]));
  return { text, around: (table) => `${before}${BEGIN}\n\n${table}\n\n${END}${after}`, table, missing };
}

/** What was kept with the suite of today: by column, what came of each rule. */
async function keptResults() {
  const suite = createHash("sha256").update(await readFile(inRoot("pkg/testing/conformance/index.js"))).digest("hex");
  const folder = inRoot(".tools/conformance");
  const files = await readdir(folder).catch(() => []);
  const all = await Promise.all(files.map(async (file) => JSON.parse(await readFile(path.join(folder, file), "utf8"))));
  const kept = all.filter((one) => one.suite === suite);
  const missing = columns.filter((column) => !optional.includes(column) && !kept.some((one) => one.column === column));
  if (missing.length > 0) throw new Failure(`the tests of ${missing.join(", ")} have not been run with this suite`);
  const unknown = kept.find(({ column }) => !columns.includes(column));
  if (unknown !== undefined) throw new Failure(`the table has no column for ${unknown.column}`);
  return columns.map((column) => kept.filter((one) => one.column === column).map(({ results }) => results));
}

/** What a table says, by rule and then column. */
function rowsOf(table) {
  const [names = [], , ...rows] = table.trim().split("\n").map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "")));
  return new Map(rows.map(([rule, ...cells]) => [rule, new Map(cells.map((cell, index) => [names[index + 1], cell]))]));
}

/** Several drivers of one adapter have one column: they must all have done the same. */
function tableOf(byColumn, before) {
  const rules = Object.entries(byColumn[0][0]);
  const markOf = (rule, column) => {
    if (byColumn[column].length === 0) {
      const mark = before.get(escaped(rule))?.get(columns[column]);
      if (mark === undefined) throw new Failure(`${columns[column]} has not been tested by the rule: ${rule}`);
      return mark;
    }
    const found = byColumn[column].map((results) => results[rule]?.result ?? "not run");
    if (found.every((result) => result === "passed")) return "✓";
    if (found.every((result) => /^(not )?declared: /.test(result))) return "–";
    throw new Failure(`${columns[column]}: ${rule}: ${[...new Set(found)].join(" and ")}`);
  };
  const rows = rules.map(([rule, { needs }]) => [escaped(rule), needs ?? "", ...columns.map((_, column) => markOf(rule, column))]);
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(["rule", "needs", ...columns]), line(["rule", "needs", ...columns].map(() => "---")), ...rows.map(line)].join("\n");
}

const escaped = (text) => text.replaceAll("|", "\\|");

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(writeConformanceTable);
