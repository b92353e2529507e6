/** Annals without a module: the application brings one, such as a Rust domain of its own. */
export * from "./api.js";
export { Engine } from "./engine.js";
