/** An adapter's own judge, held to the vectors of the one in the core. */
import type { Commit, Facts, FirstOutcome, Verdict } from "../../../storage.js";
import { same } from "../expect.js";
import type { Rule } from "../rule.js";
import type { FirstText, JudgeVectorText, VerdictText } from "../vector-types.js";
import { judge as vectors } from "../vectors.js";

/** Commits and facts in, verdicts out: what every judge must say. */
export interface JudgeVector {
  readonly name: string;
  readonly commits: readonly Commit[];
  readonly facts: Facts;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly verdicts: readonly Verdict[];
}

/** The vectors that hold every judge to the same verdicts. */
export const judgeVectors = (): readonly JudgeVector[] => vectors.map(vectorOf);

function vectorOf({ name, now, head, lastRecordedAt, commits, facts, verdicts }: JudgeVectorText): JudgeVector {
  return {
    name,
    now,
    commits: commits.map(({ command, stream, events, ...rest }) => ({
      ...rest,
      commandId: String(command),
      aggregateType: "Appointment",
      aggregateId: stream,
      issuedAt: "2026-11-23T07:59:59.999Z",
      correlationId: String(command),
      causationId: null,
      actor: null,
      extra: null,
      events: events.map(({ type, tags }, index) => ({ eventId: `${command}/${index}`, type, schemaVersion: 1, tags, data: "{}" })),
    })),
    facts: {
      head,
      lastRecordedAt,
      commits: facts.map(({ first, ...rest }) => ({ ...rest, first: first && firstOf(first) })),
    },
    verdicts: verdicts.map(verdictOf),
  };
}

const firstOf = ({ stream, ...rest }: FirstText): FirstOutcome => ({ aggregateType: "Appointment", aggregateId: stream, ...rest });

function verdictOf(expected: VerdictText): Verdict {
  if ("committed" in expected) return { kind: "committed", ...expected.committed };
  if ("duplicate" in expected) return { kind: "duplicate", first: firstOf(expected.duplicate) };
  if ("reused" in expected) return { kind: "command-id-reused", first: firstOf(expected.reused) };
  const [[reason, at]] = Object.entries(expected.conflict) as [["revision" | "matched" | "neighbour", number]];
  return { kind: "conflict", reason, at };
}

export const judging: readonly Rule[] = [
  {
    name: "a judge of its own says what every judge says",
    needs: "judge",
    async run(_, { judge }) {
      for (const { name, commits, facts, now, verdicts } of judgeVectors()) same(await judge!(commits, facts, now), verdicts, name);
    },
  },
];
