/**
 * What a storage adapter must do, as tests that any runner runs. An adapter is whatever passes them; see
 * `docs/adapters.md`.
 */
export { conformance } from "./conformance.js";
export type { ConformanceOptions, ConformanceTest, OpenedStore } from "./conformance.js";
export { perform } from "./job.js";
export type { Job, Report } from "./job.js";
export { judge } from "./judge.js";
export { judgeVectors } from "./rules/judging.js";
export type { JudgeVector } from "./rules/judging.js";
export type { Capabilities, Fault, Faults, HeldFault, OlderStore, OwnJudge } from "./rule.js";
export { commit, event, Subject } from "./subject.js";
export type { DocumentPart, DocumentsChange, DocumentsQuestion, ScanPart } from "./subject.js";
