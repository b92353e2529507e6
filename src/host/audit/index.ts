export { diff, type Change, type Diff, type DiffOptions } from "./diff.js";
export { trace, type Trace } from "./trace.js";
