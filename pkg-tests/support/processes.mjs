// Processes of tests that speak with their parent. Whoever waits for one that has died is told.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";

/** Starts a module as a process, and waits until it says that it is ready. The signal, its test's, ends it. */
export async function start(module, args, signal) {
  const child = fork(module, args, { execArgv: [] });
  signal?.addEventListener("abort", () => child.kill("SIGKILL"), { once: true });
  assert.equal(await messageFrom(child), "ready");
  return child;
}

/** The next message of a process. */
export function messageFrom(child) {
  return new Promise((resolve, reject) => {
    const stopListening = () => child.off("message", onMessage).off("disconnect", onEnd);
    const onMessage = (message) => {
      stopListening();
      resolve(message);
    };
    // Comes after the last message.
    const onEnd = () => {
      stopListening();
      reject(new Error("the process has ended"));
    };
    child.on("message", onMessage).on("disconnect", onEnd);
    if (!child.connected) onEnd();
  });
}

/** Ends a process as a crash would, if it has not ended. */
export async function kill(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

/** What came of the commands that an engine's process is given, in their order. */
export function give(worker, commands, { atOnce = commands.length, restless = false, onOutcome = () => undefined } = {}) {
  const outcomes = [];
  return new Promise((resolve, reject) => {
    const onExit = (code, signal) => reject(new Error(`the worker has ended with ${signal ?? code}`));
    const onMessage = ({ done, index, ...outcome }) => {
      if (!done) {
        outcomes[index] = outcome;
        return onOutcome(index, outcome);
      }
      worker.off("message", onMessage);
      worker.off("exit", onExit);
      resolve(outcomes);
    };
    worker.on("message", onMessage);
    worker.once("exit", onExit);
    worker.send({ commands, atOnce, restless });
  });
}
