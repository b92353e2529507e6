/** What all entries export. */
export {
  type Aggregate,
  type AggregateDefinition,
  type AggregateFunctions,
  type AnyAggregate,
  type AnyProjection,
  type DecideContext,
  type Message,
  type OtherEvent,
  type Projection,
  type Reaction,
  type Refusal,
  type SnapshotPolicy,
  type ViewKind,
  aggregate,
  nativeAggregate,
  refuse,
} from "./domain.js";
export type {
  At,
  Attempt,
  EventOf,
  EventOfType,
  EventsOptions,
  ExecuteOptions,
  History,
  Limits,
  OpenOptions,
  Outcome,
  Position,
  RecordedEvent,
  SnapshotReport,
  StateAt,
  StateOptions,
} from "./engine.js";
export { AnnalsError, type ErrorCode, type ErrorDetails, type ErrorOf, RefusedError } from "./errors.js";
export type { EngineModule, Glue, WasmSource } from "./module.js";
export type * from "./storage.js";
export { StorageFailure } from "./storage.js";
