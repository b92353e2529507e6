/** What all entries export. */
export {
  type Aggregate,
  type AggregateDefinition,
  type AggregateFunctions,
  type AnyAggregate,
  type AnyProjection,
  type DataOf,
  type DecideContext,
  type EvolveByType,
  type Message,
  type OtherEvent,
  type Projection,
  type Reaction,
  type Refusal,
  type SnapshotPolicy,
  type UpcastersByType,
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
  EventsBackOptions,
  EventsOptions,
  ExecuteOptions,
  History,
  Limits,
  NamedEventsOptions,
  OpenOptions,
  Outcome,
  Position,
  ReadingOptions,
  RecordedEvent,
  Report,
  SkippedReport,
  SnapshotReport,
  StateAt,
  StateOptions,
} from "./engine.js";
export { AnnalsError, type EventProblem, type ErrorCode, type ErrorDetails, type ErrorOf, RefusedError } from "./errors.js";
export type { EngineModule, Glue, WasmSource } from "./module.js";
export type * from "./storage.js";
export type { OlderEvent, RetiredUpcasters, Upcaster, Upcasters, UpcastStep } from "./upcast.js";
export { StorageFailure } from "./storage.js";
