// A contest: the contestants of a case, one sample each in turn, and what their values say.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { bounds, median } from "./statistics.mjs";

const script = fileURLToPath(new URL("contestant.mjs", import.meta.url));

const children = new Set();
process.on("exit", endProcesses);

/** Ends the contestants' processes. */
export function endProcesses() {
  for (const child of children) child.kill("SIGKILL");
}

/** A contestant in a process of its own. */
class ProcessContestant {
  #child;

  constructor(node, setup) {
    const flags = ["--expose-gc", "--no-warnings", ...(setup.flags ?? [])];
    this.#child = fork(script, [JSON.stringify(setup)], { execPath: node, execArgv: flags });
    children.add(this.#child);
    this.#child.once("exit", () => children.delete(this.#child));
  }

  open = () => this.#ask({ action: "open" });
  sample = () => this.#ask({ action: "sample" });
  profile = (samples) => this.#ask({ action: "profile", samples });

  async close() {
    if (this.#child.exitCode === null && this.#child.connected) {
      await this.#ask({ action: "close" }).catch(() => undefined);
    }
    this.#child.kill("SIGKILL");
  }

  #ask(message) {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const settle = (act) => (value) => {
        child.off("message", onMessage).off("exit", onExit);
        act(value);
      };
      const onMessage = ({ error, result }) =>
        error === undefined ? settle(resolve)(result) : settle(reject)(new Error(error));
      const onExit = (code, signal) => settle(reject)(new Error(`the process ended with ${signal ?? `code ${code}`}`));
      child.on("message", onMessage).on("exit", onExit);
      child.send(message);
    });
  }
}

/** Starts a contestant on a Node. */
export const startProcess = (node, setup) => new ProcessContestant(node, setup);

/**
 * Runs a contest. `makers` is a map of names and ways to start a contestant. Returns the values of
 * each: what it did per second, or, where less is better, what one of them took.
 */
export async function hold(makers, { pairs, warmUps, valueOf, onPair }) {
  const contestants = new Map();
  try {
    for (const [name, make] of makers) {
      const contestant = make();
      contestants.set(name, contestant);
      await named(name, contestant.open());
    }
    const values = new Map([...contestants.keys()].map((name) => [name, []]));
    const inTurn = [...contestants];
    for (let pair = -warmUps; pair < pairs; pair += 1) {
      for (const [name, contestant] of inTurn) {
        const sample = await named(name, contestant.sample());
        if (pair >= 0) values.get(name).push(valueOf(sample));
      }
      onPair();
      // There and back again, so that a machine that becomes slower favours nobody.
      inTurn.reverse();
    }
    return values;
  } finally {
    for (const contestant of contestants.values()) await contestant.close();
  }
}

async function named(name, promise) {
  try {
    return await promise;
  } catch (error) {
    throw new Error(`${name}: ${error.message}`, { cause: error });
  }
}

/** The row of a comparison. Its target is judged only where it may be: `met` is null if not. */
export function compare(values, { of, to, target }, isJudged) {
  const ratios = values.get(of).map((value, pair) => value / values.get(to)[pair]);
  const { low, high } = bounds(ratios);
  const ratio = median(ratios);
  const isMet = ({ sign, factor }) => (sign === "≥" ? low >= factor : high <= factor);
  return {
    rate: median(values.get(of)),
    floor: median(values.get(to)),
    ratio,
    low,
    high,
    target: target === undefined ? null : `${target.sign} ${target.factor}`,
    met: target === undefined || !isJudged ? null : isMet(target),
    pairs: ratios.length,
  };
}
