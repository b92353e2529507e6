export { trace, type Trace } from "./trace.js";
