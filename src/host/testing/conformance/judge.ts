/**
 * Says what may be appended, as the engine's own judge does, which is bound to the append its engine has
 * under way. Adapters are tested at the level of their requests, without an engine, so this one takes
 * any commits; `vectors/judge.json` holds both to the same verdicts.
 */
import { matches } from "../../query.js";
import type { Commit, CommitFacts, Facts, FirstOutcome, Query, Verdict } from "../../storage.js";

type Conflict = Extract<Verdict, { readonly kind: "conflict" }>;

/** `now`: milliseconds since 1970. */
export function judge(commits: readonly Commit[], facts: Facts, now: number): Verdict[] {
  let head = facts.head;
  const recordedAt = Math.max(now, facts.lastRecordedAt);
  const streams = new Map<string, { readonly revision: number; readonly index: number }>();
  const outcomes = new Map<string, FirstOutcome>();
  const verdicts: Verdict[] = [];

  const missingNeighbour = (indexes: readonly number[]) =>
    indexes.find((index) => verdicts[index]?.kind !== "committed");

  const conflictOf = (commit: Commit, { revision, matched }: CommitFacts): Conflict | undefined => {
    const last = streams.get(keyOf(commit));
    const actual = last?.revision ?? revision;
    const conflict = (reason: Conflict["reason"], at: number): Conflict => ({ kind: "conflict", reason, at });
    if (typeof commit.expected === "number") {
      if (commit.expected !== actual) return conflict("revision", actual);
    } else {
      const { after } = commit.expected;
      if (missingNeighbour([after]) !== undefined) return conflict("neighbour", after);
      if (last?.index !== after) return conflict("revision", actual);
    }
    if (commit.condition === null) return undefined;
    if (matched !== null) return conflict("matched", matched);
    const { query, neighbours } = commit.condition;
    const missing = missingNeighbour(neighbours);
    if (missing !== undefined) return conflict("neighbour", missing);
    for (const [index, verdict] of verdicts.entries()) {
      if (verdict.kind !== "committed" || neighbours.includes(index)) continue;
      const offset = commits[index]!.events.findIndex(({ type, tags }) => queryMatches(query, type, tags));
      if (offset >= 0) return conflict("matched", verdict.position + offset);
    }
    return undefined;
  };

  for (const [index, commit] of commits.entries()) {
    const known = facts.commits[index]!;
    const first = known.first ?? outcomes.get(commit.commandId);
    if (first !== undefined) {
      verdicts.push({ kind: first.hash === commit.hash ? "duplicate" : "command-id-reused", first });
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

export const queryMatches = (query: Query, type: string, tags: readonly string[]): boolean =>
  query.some((item) => matches(item, type, tags));

function keyOf({ aggregateType, aggregateId }: Commit): string {
  return JSON.stringify([aggregateType, aggregateId]);
}
