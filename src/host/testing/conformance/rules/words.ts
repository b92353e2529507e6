/** What rules say again and again. */
import type { AppendCondition, Messages, QueryItem, StoredEvent, StreamSlice, Verdict } from "../../../storage.js";
import { same } from "../expect.js";
import type { DocumentPart } from "../subject.js";

/** A query for events with any of these tags. */
export const anyTag = (...tags: readonly string[]): QueryItem[] => tags.map((tag) => ({ types: [], tags: [tag] }));

/** What a commit says that must not be appended if something matches. */
export const condition = (query: readonly QueryItem[], after: number): { condition: AppendCondition } => ({
  condition: { query, after, neighbours: [] },
});

export const iso = (millis: number): string => new Date(millis).toISOString();

export const kinds = (verdicts: readonly Verdict[]): string[] => verdicts.map(({ kind }) => kind);

export const positions = (events: readonly { readonly position: number }[]): number[] =>
  events.map(({ position }) => position);

/** The numbers from 1 to this one. */
export const upTo = (last: number): number[] => Array.from({ length: last }, (_, index) => index + 1);

export const snapshot = (key: string, revision: number, value = `{"at":${revision}}`): DocumentPart => ({
  collection: "snapshots",
  key,
  revision,
  value,
});

/** A document of a view. */
export const view = (
  key: string,
  revision = 1,
  postings: readonly (readonly [string, string])[] = [],
  value = `{"at":${revision}}`,
): DocumentPart & { readonly value: string } => ({ collection: "agenda", key, revision, value, postings });

export const nameOf = ({ collection, key }: { readonly collection: string; readonly key: string }) => ({ collection, key });

type Told = { readonly type: string; readonly schemaVersion: number; readonly data: string };

/** The events' forms and the text of their payloads, whichever way an adapter gives them. */
export function messagesOf(events: readonly Told[] | Messages): Messages {
  if (!isList(events)) {
    same((JSON.parse(events.data) as unknown[]).length, events.forms.length, "the number of payloads");
    return events;
  }
  const data = `[${events.map(({ data }) => data).join(",\n")}]`;
  return { forms: events.map(({ type, schemaVersion: version }) => (version === 1 ? type : `${type}\x7f${version}`)), data };
}

export function revisionsOf({ events }: StreamSlice, after: number): number[] {
  return Array.isArray(events)
    ? (events as StoredEvent[]).map(({ revision }) => revision)
    : (events as Messages).forms.map((_, index) => after + index + 1);
}

const isList = (events: readonly Told[] | Messages): events is readonly Told[] => Array.isArray(events);
