export { memoryStorage, type MemoryStorageOptions } from "./adapter.js";
