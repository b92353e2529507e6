// The rows as bars, for the docs: one group a case, drawn as SVG that suits light and dark pages.

import { figure } from "./report.mjs";

const width = 760;
const labelWidth = 190;
const barHeight = 15;
const barWidth = width - labelWidth - 150;

/** One group for each case and place: everybody's rate, once. */
function groupsOf(rows) {
  const groups = new Map();
  for (const { name, host, driver, unit, of, rate, base, floor, lean, peers } of rows) {
    const [title] = name.split("/");
    const key = [title, host, driver, unit].join();
    if (!groups.has(key)) groups.set(key, { title: [title, host, driver].filter(Boolean).join(", "), unit, bars: new Map() });
    const { bars } = groups.get(key);
    bars.set(of, rate);
    bars.set(base, floor);
    if (lean !== null) bars.set("lean", lean);
    for (const [peer, value] of Object.entries(peers)) bars.set(peer, value);
  }
  return [...groups.values()];
}

const kindOf = (contestant) => (contestant.startsWith("annals") ? "annals" : /^(floor|lean|limit)/.test(contestant) ? "floor" : "peer");

const escape = (text) => text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);

export function chart(rows) {
  const parts = [];
  let y = 20;
  for (const { title, unit, bars } of groupsOf(rows)) {
    const less = unit.endsWith("/s") ? "" : " (less is better)";
    parts.push(`<text class="title" x="0" y="${y}">${escape(`${title}: ${unit}${less}`)}</text>`);
    y += 8;
    const most = Math.max(...bars.values());
    const sorted = [...bars].sort(([a], [b]) => order(a) - order(b) || a.localeCompare(b, "en", { numeric: true }));
    for (const [contestant, rate] of sorted) {
      const length = Math.max(1, (barWidth * rate) / most).toFixed(1);
      const middle = y + barHeight - 4;
      parts.push(
        `<text x="${labelWidth - 8}" y="${middle}" text-anchor="end">${escape(contestant)}</text>`,
        `<rect class="${kindOf(contestant)}" x="${labelWidth}" y="${y}" width="${length}" height="${barHeight - 3}" rx="2"/>`,
        `<text x="${labelWidth + Number(length) + 6}" y="${middle}">${figure(rate)}</text>`,
      );
      y += barHeight;
    }
    y += 22;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" font-family="system-ui, sans-serif" font-size="11">
<style>
text { fill: #3b4252 } .title { fill: #111827; font-weight: 600; font-size: 12px }
.annals { fill: #2563eb } .floor { fill: #9ca3af } .peer { fill: #d97706 }
@media (prefers-color-scheme: dark) {
  text { fill: #c9d1d9 } .title { fill: #f0f6fc }
  .annals { fill: #58a6ff } .floor { fill: #6e7681 } .peer { fill: #e3b341 }
}
</style>
${parts.join("\n")}
</svg>
`;
}

const order = (contestant) => ["annals", "floor", "peer"].indexOf(kindOf(contestant));
