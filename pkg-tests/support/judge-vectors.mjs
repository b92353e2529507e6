// The vectors of the judge, as the adapters' requests and answers have them.

import { readFileSync } from "node:fs";

export const vectors = JSON.parse(readFileSync(new URL("../vectors/judge.json", import.meta.url), "utf8"));

const first = ({ stream, ...rest }) => ({ aggregateType: "Appointment", aggregateId: stream, ...rest });

function verdictOf(expected) {
  if (expected.committed) return { kind: "committed", ...expected.committed };
  if (expected.duplicate) return { kind: "duplicate", first: first(expected.duplicate) };
  if (expected.reused) return { kind: "command-id-reused", first: first(expected.reused) };
  const [[reason, at]] = Object.entries(expected.conflict);
  return { kind: "conflict", reason, at };
}

/** Commits, facts and a time, and the verdicts they must come to. */
export function casesOf(vector) {
  const commits = vector.commits.map(({ command, stream, ...rest }) => ({
    ...rest,
    commandId: String(command),
    aggregateType: "Appointment",
    aggregateId: stream,
  }));
  const facts = {
    head: vector.head,
    lastRecordedAt: vector.lastRecordedAt,
    commits: vector.facts.map((fact) => ({ ...fact, first: fact.first && first(fact.first) })),
  };
  return { commits, facts, now: vector.now, verdicts: vector.verdicts.map(verdictOf) };
}
