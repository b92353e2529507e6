export { indexedDbStorage, type IndexedDbConfig } from "./adapter.js";
