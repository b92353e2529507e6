// What a run has found, as text.

/** Three figures, and a prefix: 1.23 M, 45.6 k. */
export function figure(value) {
  for (const [size, prefix] of [[1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return `${digits(value / size)}${prefix}`;
  }
  return digits(value);
}

export const digits = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""));

export const verdict = ({ met, target }) => (target === null ? "" : met === null ? "not judged" : met ? "met" : "missed");

const bounds = ({ ratio, low, high }) => `${digits(ratio)} (${digits(low)} to ${digits(high)})`;

const peersOf = ({ peers }) => Object.entries(peers).map(([name, rate]) => `${name} ${figure(rate)}`).join(", ");

const columns = [
  ["case", (row) => row.name],
  ["host", (row) => [row.host, row.driver].filter(Boolean).join(", ")],
  ["rate", (row) => `${figure(row.rate)} ${row.unit}`],
  ["beside", (row) => `${row.base} ${figure(row.floor)}`],
  ["ratio (95 %)", bounds],
  ["target", (row) => row.target ?? ""],
  ["", verdict],
  ["lean floor", (row) => (row.lean === null ? "" : figure(row.lean))],
  ["peers", peersOf],
];

/** The rows as a table in Markdown, with its columns aligned. */
export function table(rows) {
  const cells = [columns.map(([title]) => title), ...rows.map((row) => columns.map(([, text]) => text(row)))];
  const widths = columns.map((_, column) => Math.max(...cells.map((line) => line[column].length)));
  const line = (texts) => `| ${texts.map((text, column) => text.padEnd(widths[column])).join(" | ")} |`;
  const [head, ...body] = cells;
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body.map(line)].join("\n");
}

/** One line about a comparison, for those who watch. */
export const remark = (row) =>
  `${row.name}: ${figure(row.rate)} ${row.unit}, ${bounds(row)} × ${row.base}${row.target === null ? "" : `, target ${row.target}: ${verdict(row)}`}`;
