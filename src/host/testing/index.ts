export { type GivenCommand, type GivenManager, givenManager, gives, type WhenManager } from "./manager-steps.js";
export type { Span } from "./span.js";
export { given } from "./steps.js";
export type { DetailsOf, Given, Then, When } from "./steps.js";
export { type GivenView, givenView } from "./view-steps.js";
