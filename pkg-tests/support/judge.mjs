// Says what may be appended, as src/judge.rs does: adapters are tested at the level of their
// requests, without an engine.
//
// A commit of the tests has, beside what the adapter reads, `expected`: the revision of its stream,
// or `{ after: index }`, the commit of the same append that must be its stream's last. Its condition
// may have `neighbours`, indexes of commits whose events it has seen.

export function judge(commits, facts, now) {
  let head = facts.head;
  const recordedAt = Math.max(now, facts.lastRecordedAt);
  const streams = new Map();
  const outcomes = new Map();
  const verdicts = [];

  const missingNeighbour = (indexes) =>
    indexes.find((index) => verdicts[index]?.kind !== "committed");

  const conflictOf = (commit, { revision, matched }) => {
    const last = streams.get(keyOf(commit));
    const actual = last?.revision ?? revision;
    const conflict = (reason, at) => ({ kind: "conflict", reason, at });
    if (typeof commit.expected === "number") {
      if (commit.expected !== actual) return conflict("revision", actual);
    } else {
      const { after } = commit.expected;
      if (missingNeighbour([after]) !== undefined) return conflict("neighbour", after);
      if (last?.index !== after) return conflict("revision", actual);
    }
    if (commit.condition === null) return undefined;
    if (matched !== null) return conflict("matched", matched);
    const neighbours = commit.condition.neighbours ?? [];
    const missing = missingNeighbour(neighbours);
    if (missing !== undefined) return conflict("neighbour", missing);
    for (const [index, verdict] of verdicts.entries()) {
      if (verdict.kind !== "committed" || neighbours.includes(index)) continue;
      const offset = commits[index].events.findIndex(({ type, tags }) =>
        queryMatches(commit.condition.query, type, tags),
      );
      if (offset >= 0) return conflict("matched", verdict.position + offset);
    }
    return undefined;
  };

  for (const [index, commit] of commits.entries()) {
    const known = facts.commits[index];
    const first = known.first ?? outcomes.get(commit.commandId);
    if (first !== undefined) {
      verdicts.push({
        kind: first.hash === commit.hash ? "duplicate" : "command-id-reused",
        first,
      });
      continue;
    }
    const conflict = conflictOf(commit, known);
    if (conflict !== undefined) {
      verdicts.push(conflict);
      continue;
    }
    const { hash, aggregateType, aggregateId } = commit;
    const before = streams.get(keyOf(commit))?.revision ?? known.revision;
    const count = commit.events.length;
    const summary = { position: head + 1, revision: before + count, count, recordedAt };
    head += count;
    streams.set(keyOf(commit), { revision: summary.revision, index });
    outcomes.set(commit.commandId, { hash, aggregateType, aggregateId, ...summary });
    verdicts.push({ kind: "committed", ...summary });
  }
  return verdicts;
}

export function queryMatches(query, type, tags) {
  return query.some(
    (item) =>
      (item.types.length === 0 || item.types.includes(type)) &&
      item.tags.every((tag) => tags.includes(tag)),
  );
}

function keyOf({ aggregateType, aggregateId }) {
  return JSON.stringify([aggregateType, aggregateId]);
}
