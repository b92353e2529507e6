export type { InlineEvent } from "../domain.js";
export { fold, type FoldedView } from "./fold.js";
export {
  type IndexValue,
  type Indexes,
  type InlineProjection,
  type LoggedEvent,
  type LoggedProjection,
  nativeProjection,
  projection,
  type View,
} from "./projection.js";
export type {
  DocumentPage,
  DocumentRange,
  Listed,
  ListOptions,
  Listing,
  RangeOptions,
  ViewOptions,
  ViewReader,
  ViewStatus,
} from "./reader.js";
