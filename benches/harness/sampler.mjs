// One sample of a contestant, in whatever process or page it lives.
//
// A contestant is an object with some of these:
//   before()    what a sample starts from; not timed
//   run()       what is timed; returns how many things it has done
//   check()     what came of it, as a text that must equal `expected`; not timed
//   after()     clears up after a sample; not timed
//   sample()    instead of all these, where it measures by itself: { count, seconds } or { value }
//   close()     ends it

/** Returns `{ count, seconds }`, or `{ value }` of what is no rate. A wrong result throws. */
export async function sampleOf(contestant) {
  if (contestant.sample !== undefined) return contestant.sample();
  await contestant.before?.();
  // What was made before must not be cleared up on the clock.
  globalThis.gc?.();
  const start = performance.now();
  const count = await contestant.run();
  const seconds = (performance.now() - start) / 1000;
  checkResult(await contestant.check(), contestant.expected);
  await contestant.after?.();
  return { count, seconds };
}

export function checkResult(found, expected) {
  if (found !== expected) throw new Error(`expected the result of a plain fold, ${expected}; found ${found}`);
}
