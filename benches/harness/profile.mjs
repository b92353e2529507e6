// Where the time goes: functions by the time spent in themselves.

/** The functions of these profiles, the longest first: `{ name, place, share }`. */
export function topFunctions(profiles, count = 25) {
  const times = new Map();
  let total = 0;
  for (const { nodes, samples, timeDeltas } of profiles) {
    const byId = new Map(nodes.map((node) => [node.id, node.callFrame]));
    samples.forEach((id, index) => {
      const { functionName, url, lineNumber } = byId.get(id);
      if (functionName === "(idle)" || url.startsWith("node:inspector")) return;
      const file = /^wasm:|\.wasm$/.test(url) ? "wasm" : url.split("/").slice(-2).join("/");
      // Rust's names end in a hash.
      const name = functionName.replace(/::h[0-9a-f]{16}$/, "") || "(anonymous)";
      const key = `${name}\t${file === "wasm" || file === "" ? file : `${file}:${lineNumber + 1}`}`;
      times.set(key, (times.get(key) ?? 0) + timeDeltas[index]);
      total += timeDeltas[index];
    });
  }
  return [...times]
    .sort(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([key, time]) => {
      const [name, place] = key.split("\t");
      return { name, place, share: time / total };
    });
}
