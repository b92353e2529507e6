export { postgresStorage, type PostgresConfig } from "./adapter.js";
export type { PgliteDatabase, PostgresClient, PostgresPool } from "./connection.js";
export { postgresRoles, postgresSchema } from "./schema.js";
