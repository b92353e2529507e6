// What the docs show of the benchmarks: a table between two marks, and a chart.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Failure, inRoot } from "../../scripts/shell.mjs";
import { cases } from "../cases.mjs";
import { chart } from "./chart.mjs";
import { table } from "./report.mjs";

const readme = inRoot("benches/README.md");
const results = inRoot("benches/results.json");
const image = inRoot("benches/results.svg");

const begin = "<!-- results: written by npm run bench -- --docs -->";
const end = "<!-- end of results -->";

/** Puts these rows in the place of those of the same cases, and writes all of them. */
export function writeDocs(rows) {
  const text = readFileSync(readme, "utf8");
  const [head, tail] = [text.indexOf(begin), text.indexOf(end)];
  if (head < 0 || tail < head) throw new Failure(`${readme} has lost the marks of its results`);
  const placeOf = ({ name, host, driver }) => [name.split("/")[0], host.split(" ")[0] === "Chromium" ? "Chromium" : host, driver].join();
  const places = new Set(rows.map(placeOf));
  const before = existsSync(results) ? JSON.parse(readFileSync(results, "utf8")) : [];
  const names = cases.map(({ name }) => name);
  const rank = ({ name }) => names.indexOf(name.split("/")[0]);
  const all = [...before.filter((row) => !places.has(placeOf(row))), ...rows].sort((a, b) => rank(a) - rank(b));
  writeFileSync(results, `${JSON.stringify(all, null, 2)}\n`);
  writeFileSync(image, chart(currentOf(all)));
  writeFileSync(readme, `${text.slice(0, head)}${begin}\n\n${table(all)}\n\n${text.slice(tail)}`);
}

/** The rows of the newest Node with one driver: a chart of everything would be too long to read. */
function currentOf(rows) {
  const major = ({ host }) => (host.startsWith("Node ") ? Number(host.slice(5)) : Infinity);
  const newest = Math.max(...rows.map(major).filter(Number.isFinite));
  return rows.filter((row) => major(row) >= newest && row.driver !== "libsql");
}
