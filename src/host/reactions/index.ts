export type { Parked, ReactionControl, ReactionStatus } from "./control.js";
export { type Occasion, reaction, type ReactionDefinition, type RetryPolicy } from "./reaction.js";
