/**
 * A test that fails. Test runners know it by its name and its `actual` and `expected`, and show how
 * these differ.
 */
export class AssertionError extends Error {
  declare readonly name: "AssertionError";
  declare readonly actual?: unknown;
  declare readonly expected?: unknown;

  static {
    // An error's stack begins with the name that it has before its constructor is done.
    Object.defineProperty(this.prototype, "name", { value: "AssertionError" });
  }

  constructor(message: string, compared?: { readonly actual: unknown; readonly expected: unknown }, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    // What was not compared has no such properties, for runners show those that are there.
    Object.assign(this, compared);
  }
}

/** What is wrong with a domain or a test, before it is told in which story. */
export class Mistake extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
  }
}
