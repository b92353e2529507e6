export type { Parked, ReactionControl, ReactionStatus, Unhandled } from "./control.js";
export {
  type Commands,
  type DueTimer,
  type Handler,
  type ManagerControl,
  type ParkedKey,
  type ProcessManager,
  processManager,
  type ProcessManagerDefinition,
} from "./manager.js";
export { type Occasion, reaction, type ReactionDefinition, type RetryPolicy } from "./reaction.js";
