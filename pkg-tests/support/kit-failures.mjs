// What the testing kits throw.

import assert from "node:assert/strict";

/** What the action throws, which is what test runners show as a failed expectation. */
export function failureOf(action) {
  try {
    action();
  } catch (error) {
    assert.equal(error.name, "AssertionError", error.stack);
    return error;
  }
  return assert.fail("expected a failure");
}

export const fails = (action, message) => assert.match(failureOf(action).message, message);
