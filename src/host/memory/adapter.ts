import { Documents } from "../documents.js";
import { checkEpoch, newEpoch } from "../epoch.js";
import { Listeners, type OnAdvanced } from "../listeners.js";
import { messagesOf } from "../messages.js";
import {
  countWhile,
  intersection,
  seekQuery,
  take,
  union,
  type Direction,
  type Postings,
  type Seek,
} from "../query.js";
import { SNAPSHOTS } from "../storage.js";
import type {
  AppendRequest,
  Commit,
  CommitFacts,
  DocumentConflict,
  DocumentsRead,
  FirstOutcome,
  Judge,
  Loaded,
  LoadRequest,
  LogPage,
  QueryItem,
  QueryLoad,
  ReadDocumentsRequest,
  ReadLogRequest,
  SaveDocumentsRequest,
  StorageAdapter,
  StoredEvent,
  StoreInfo,
  StreamLoad,
  StreamSlice,
  Verdict,
} from "../storage.js";

type Committed = Verdict & { readonly kind: "committed" };

/** What a store in memory is made with. */
export interface MemoryStorageOptions {
  /** Names the store and its contents, for an adapter that keeps them elsewhere too. Default: a new one. */
  readonly epoch?: string;
}

/**
 * A store in this process's memory, which lives as long as the adapter. Engines that are given the
 * same adapter share it.
 */
export function memoryStorage({ epoch = "" }: MemoryStorageOptions = {}): StorageAdapter {
  return new MemoryAdapter(epoch);
}

class MemoryAdapter implements StorageAdapter {
  /** Made when it is opened, if it is not given: an engine loads its code before that. */
  #epoch: string;
  readonly #log: StoredEvent[] = [];
  readonly #streams = new Map<string, Map<string, StoredEvent[]>>();
  readonly #byTag = new Map<string, StoredEvent[]>();
  readonly #byType = new Map<string, StoredEvent[]>();
  /** But for those whose commands are their own first cause. */
  readonly #byCorrelation = new Map<string, StoredEvent[]>();
  readonly #outcomes = new Map<string, FirstOutcome>();
  readonly #documents = new Documents();
  readonly #listeners = new Listeners();
  #head = 0;
  #lastRecordedAt = 0;
  #lastRecordedAtText = "1970-01-01T00:00:00.000Z";
  readonly #postings = this.#postingsIn(1);

  constructor(epoch: string) {
    this.#epoch = epoch;
  }

  open(): StoreInfo {
    if (this.#epoch === "") this.#epoch = newEpoch();
    return { epoch: this.#epoch, head: this.#head, durability: "memory" };
  }

  append(request: AppendRequest, judge: Judge): Verdict[] {
    checkEpoch(request.epoch, this.#epoch);
    const { commits } = request;
    const streams: (StoredEvent[] | undefined)[] = [];
    const facts: CommitFacts[] = [];
    for (const { commandId, aggregateType, aggregateId, condition } of commits) {
      const stream = this.#stream(aggregateType, aggregateId);
      streams.push(stream);
      facts.push({
        revision: stream?.length ?? 0,
        first: this.#outcomes.get(commandId) ?? null,
        matched: condition === null ? null : this.#firstMatch(condition),
      });
    }
    const before = this.#head;
    const verdicts = judge({ head: before, lastRecordedAt: this.#lastRecordedAt, commits: facts });
    for (let index = 0; index < commits.length; index += 1) {
      const verdict = verdicts[index]!;
      if (verdict.kind === "committed") this.#write(commits[index]!, verdict, streams[index]);
    }
    if (this.#head > before) this.#listeners.tell(this.#head);
    return verdicts;
  }

  load(request: LoadRequest): Loaded {
    checkEpoch(request.epoch, this.#epoch);
    return {
      commands: request.commands.map((id) => this.#outcomes.get(id) ?? null),
      streams: request.streams.map((load) => this.#slice(load)),
      queries: request.queries.map(({ query, after }) =>
        this.#events(take(seekQuery(query, this.#postings), after)),
      ),
      head: this.#head,
    };
  }

  readLog(request: ReadLogRequest): LogPage {
    checkEpoch(request.epoch, this.#epoch);
    const { types, aggregateTypes, tags, correlationId, after, descending, limit } = request;
    const direction = descending ? -1 : 1;
    const postings = this.#postingsIn(direction);
    const filters: Seek[] = [];
    if (tags.length > 0) filters.push(union(tags.map((tag) => postings.tag(tag))));
    if (types.length > 0) filters.push(union(types.map((type) => postings.type(type))));
    if (correlationId !== null) filters.push(this.#seekCorrelation(correlationId, direction));
    if (aggregateTypes.length > 0) filters.push(this.#seekAggregate(new Set(aggregateTypes), direction));
    const from = firstFrom(this.#log, descending ? after : after + 1);
    const events =
      filters.length > 0
        ? this.#events(take(intersection(filters), after * direction, limit).map((found) => found * direction))
        : descending
          ? this.#log.slice(Math.max(from - limit, 0), from).reverse()
          : this.#log.slice(from, from + limit);
    const end = descending ? 0 : Math.max(this.#head, after);
    return { events, next: events.length === limit ? events.at(-1)!.position : end, head: this.#head };
  }

  saveDocuments(request: SaveDocumentsRequest): DocumentConflict | null {
    checkEpoch(request.epoch, this.#epoch);
    return this.#documents.save(request);
  }

  readDocuments(request: ReadDocumentsRequest): DocumentsRead {
    checkEpoch(request.epoch, this.#epoch);
    return { ...this.#documents.read(request), head: this.#head };
  }

  subscribe(onAdvanced: OnAdvanced): () => void {
    return this.#listeners.add(onAdvanced);
  }

  close(): void {
    // The store belongs to all who hold the adapter.
  }

  #firstMatch({ query, after }: QueryLoad): number | null {
    if (after >= this.#head) return null;
    const likely = query.filter((item) => this.#mayMatch(item, after));
    if (likely.length === 0) return null;
    const match = seekQuery(likely, this.#postings)(after + 1);
    return match === Infinity ? null : match;
  }

  /** Whether all that the item names came up after this position, though maybe not together. */
  #mayMatch({ types, tags }: QueryItem, after: number): boolean {
    const cameUp = (list: StoredEvent[] | undefined) =>
      list !== undefined && list[list.length - 1]!.position > after;
    return (
      tags.every((tag) => cameUp(this.#byTag.get(tag))) &&
      (types.length === 0 || types.some((type) => cameUp(this.#byType.get(type))))
    );
  }

  #write(commit: Commit, verdict: Committed, known: StoredEvent[] | undefined): void {
    const { commandId, hash, aggregateType, aggregateId, issuedAt, correlationId } = commit;
    const { causationId, actor, extra } = commit;
    const { position, revision, count, recordedAt } = verdict;
    const stream = known ?? this.#startedStream(aggregateType, aggregateId);
    if (recordedAt !== this.#lastRecordedAt) {
      this.#lastRecordedAt = recordedAt;
      this.#lastRecordedAtText = new Date(recordedAt).toISOString();
    }
    const { events } = commit;
    for (let index = 0; index < events.length; index += 1) {
      const { eventId, type, schemaVersion, tags, data } = events[index]!;
      const event: StoredEvent = {
        position: position + index,
        aggregateType,
        aggregateId,
        revision: revision - count + 1 + index,
        eventId,
        type,
        schemaVersion,
        tags: tags.length === 0 ? "[]" : JSON.stringify(tags),
        recordedAt: this.#lastRecordedAtText,
        issuedAt,
        commandId,
        correlationId,
        causationId,
        actor,
        extra,
        data,
      };
      this.#log.push(event);
      stream.push(event);
      post(this.#byType, type, event);
      if (correlationId !== commandId) post(this.#byCorrelation, correlationId, event);
      for (const tag of tags.length > 1 ? new Set(tags) : tags) post(this.#byTag, tag, event);
    }
    this.#head = position + count - 1;
    const first = { hash, aggregateType, aggregateId, position, revision, count, recordedAt };
    this.#outcomes.set(commandId, first);
  }

  #slice(load: StreamLoad): StreamSlice {
    const { aggregateType, aggregateId, snapshot: key, limit, whole } = load;
    const { untilRevision, untilPosition, untilTime } = load;
    const snapshot = key === null ? null : this.#documents.find({ collection: SNAPSHOTS, key });
    const after = snapshot?.revision ?? load.after;
    const stream = this.#stream(aggregateType, aggregateId) ?? [];
    const last = Math.min(
      untilRevision ?? Infinity,
      untilPosition === null ? stream.length : firstFrom(stream, untilPosition + 1),
      untilTime === null
        ? stream.length
        : countWhile(stream.length, (index) => stream[index]!.recordedAt <= untilTime),
      stream.length,
    );
    const events = stream.slice(after, Math.min(last, after + limit));
    return {
      snapshot,
      events: whole ? events : messagesOf(events),
      revision: stream.length,
      more: last > after + limit,
    };
  }

  #stream(aggregateType: string, aggregateId: string): StoredEvent[] | undefined {
    return this.#streams.get(aggregateType)?.get(aggregateId);
  }

  /** The stream's list, which a commit of the same append may have started. */
  #startedStream(aggregateType: string, aggregateId: string): StoredEvent[] {
    let streams = this.#streams.get(aggregateType);
    if (streams === undefined) this.#streams.set(aggregateType, (streams = new Map()));
    let stream = streams.get(aggregateId);
    if (stream === undefined) streams.set(aggregateId, (stream = []));
    return stream;
  }

  #events(positions: readonly number[]): StoredEvent[] {
    return positions.map((position) => this.#log[firstFrom(this.#log, position)]!);
  }

  #postingsIn(direction: Direction): Postings {
    return {
      all: seekIn(this.#log, direction),
      tag: (tag) => seekIn(this.#byTag.get(tag) ?? [], direction),
      type: (type) => seekIn(this.#byType.get(type) ?? [], direction),
    };
  }

  /** Events of others that name this cause, and those of the command that is it. */
  #seekCorrelation(id: string, direction: Direction): Seek {
    const { position = 0, count = 0 } = this.#outcomes.get(id) ?? {};
    const first = firstFrom(this.#log, position);
    const own = this.#log.slice(first, first + count).filter(({ correlationId }) => correlationId === id);
    return union([seekIn(this.#byCorrelation.get(id) ?? [], direction), seekIn(own, direction)]);
  }

  #seekAggregate(types: ReadonlySet<string>, direction: Direction): Seek {
    const seek = seekIn(this.#log, direction);
    return (from) => {
      let found = seek(from);
      while (found !== Infinity && !types.has(this.#log[found * direction - 1]!.aggregateType)) found = seek(found + 1);
      return found;
    };
  }
}

function seekIn(events: readonly StoredEvent[], direction: Direction): Seek {
  return direction > 0
    ? (from) => events[firstFrom(events, from)]?.position ?? Infinity
    : (from) => -(events[firstFrom(events, 1 - from) - 1]?.position ?? -Infinity);
}

/** Index of the first event at `position` or later. */
function firstFrom(events: readonly StoredEvent[], position: number): number {
  return countWhile(events.length, (index) => events[index]!.position < position);
}

/** Most streams and tags stay short: an array that starts with its event has no room to spare. */
function post(lists: Map<string, StoredEvent[]>, key: string, event: StoredEvent): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [event]);
  else list.push(event);
}
