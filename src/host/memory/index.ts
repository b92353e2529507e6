export { memoryStorage } from "./adapter.js";
