export { sqliteStorage, type SqliteConfig } from "./adapter.js";
export type { SqliteDatabase, SqliteStatement } from "./schema.js";
