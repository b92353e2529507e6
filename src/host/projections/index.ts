export {
  type IndexValue,
  type Indexes,
  type InlineEvent,
  type InlineProjection,
  type LoggedEvent,
  type LoggedProjection,
  nativeProjection,
  projection,
  type View,
} from "./projection.js";
export type { Listed, ListOptions, Listing, RangeOptions, ViewOptions, ViewReader, ViewStatus } from "./reader.js";
