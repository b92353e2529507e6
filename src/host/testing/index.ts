export { given } from "./steps.js";
export type { DetailsOf, Given, Span, Then, When } from "./steps.js";
