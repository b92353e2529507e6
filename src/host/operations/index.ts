export type { ArchiveHeader, ArchiveSource } from "./archive.js";
export { checkArchive, type CheckedArchive, type UnfinishedArchive } from "./check.js";
export { readCheckpoint, type ViewCheckpoint } from "./checkpoint.js";
export { exportLog, type Exported, type ExportOptions } from "./export.js";
export { importLog, type Imported, type ImportOptions } from "./import.js";
export type { LogFilter, Progress, WorkOptions } from "./log.js";
export { verify, type Finding, type FindingCode, type Verification, type VerifyOptions } from "./verify.js";
