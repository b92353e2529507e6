export { indexedDbStorage, type IndexedDbConfig, type IndexedDbStorage } from "./adapter.js";
