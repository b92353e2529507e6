import { Documents } from "../documents.js";
import { checkEpoch, newEpoch } from "../epoch.js";
import { Listeners, type OnAdvanced } from "../listeners.js";
import { plain } from "../plain.js";
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
import { type Committed, firstFrom, Log, type Stream } from "./log.js";

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

const SliceOf = /* @__PURE__ */ plain<StreamSlice, [
  snapshot: StreamSlice["snapshot"],
  events: StreamSlice["events"],
  revision: number,
  more: boolean,
]>(function (snapshot, events, revision, more) {
  this.snapshot = snapshot;
  this.events = events;
  this.revision = revision;
  this.more = more;
});

class MemoryAdapter implements StorageAdapter {
  /** Made when it is opened, if it is not given: an engine loads its code before that. */
  #epoch: string;
  readonly #log = new Log();
  readonly #streams = new Map<string, Map<string, Stream>>();
  /** Positions of the events that have a tag. */
  readonly #byTag = new Map<string, number[]>();
  /** But for those whose commands are their own first cause. */
  readonly #byCorrelation = new Map<string, number[]>();
  readonly #documents = new Documents();
  readonly #listeners = new Listeners();
  #head = 0;
  #lastRecordedAt = 0;
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
    const streams: (Stream | undefined)[] = [];
    const facts: CommitFacts[] = [];
    for (const { commandId, aggregateType, aggregateId, condition } of commits) {
      const stream = this.#stream(aggregateType, aggregateId);
      streams.push(stream);
      facts.push({
        revision: stream?.rows.length ?? 0,
        first: this.#log.outcome(commandId),
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
      commands: request.commands.map((id) => this.#log.outcome(id)),
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
    const { positions } = this.#log;
    const from = firstFrom(positions, descending ? after : after + 1);
    const events =
      filters.length > 0
        ? this.#events(take(intersection(filters), after * direction, limit).map((found) => found * direction))
        : descending
          ? this.#events(positions.slice(Math.max(from - limit, 0), from).reverse())
          : this.#events(positions.slice(from, from + limit));
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
    const cameUp = (positions: readonly number[] | undefined) =>
      positions !== undefined && positions[positions.length - 1]! > after;
    return (
      tags.every((tag) => cameUp(this.#byTag.get(tag))) &&
      (types.length === 0 || types.some((type) => cameUp(this.#log.positionsOf(type))))
    );
  }

  #write(commit: Commit, verdict: Committed, known: Stream | undefined): void {
    const { commandId, aggregateType, aggregateId, correlationId, events } = commit;
    const { position, count, recordedAt } = verdict;
    this.#log.write(commit, verdict, known ?? this.#startedStream(aggregateType, aggregateId));
    for (let index = 0; index < events.length; index += 1) {
      if (correlationId !== commandId) post(this.#byCorrelation, correlationId, position + index);
      const { tags } = events[index]!;
      for (const tag of tags.length > 1 ? new Set(tags) : tags) post(this.#byTag, tag, position + index);
    }
    this.#head = position + count - 1;
    this.#lastRecordedAt = recordedAt;
  }

  #slice(load: StreamLoad): StreamSlice {
    const { aggregateType, aggregateId, snapshot: key, limit, whole } = load;
    const { untilRevision, untilPosition, untilTime } = load;
    const snapshot = key === null ? null : this.#documents.find({ collection: SNAPSHOTS, key });
    const after = snapshot?.revision ?? load.after;
    const rows = this.#stream(aggregateType, aggregateId)?.rows ?? [];
    const { length } = rows;
    const last = Math.min(
      untilRevision ?? Infinity,
      untilPosition === null
        ? length
        : countWhile(length, (index) => this.#log.positions[rows[index]!]! <= untilPosition),
      untilTime === null ? length : countWhile(length, (index) => this.#log.recordedAt(rows[index]!) <= untilTime),
      length,
    );
    const found = rows.slice(after, Math.min(last, after + limit));
    const events = whole ? found.map((row) => this.#log.event(row)) : this.#log.messages(found);
    return new SliceOf(snapshot, events, length, last > after + limit);
  }

  #stream(aggregateType: string, aggregateId: string): Stream | undefined {
    return this.#streams.get(aggregateType)?.get(aggregateId);
  }

  /** The stream, which a commit of the same append may have started. */
  #startedStream(aggregateType: string, aggregateId: string): Stream {
    let streams = this.#streams.get(aggregateType);
    if (streams === undefined) this.#streams.set(aggregateType, (streams = new Map()));
    let stream = streams.get(aggregateId);
    if (stream === undefined) streams.set(aggregateId, (stream = { aggregateType, aggregateId, rows: [] }));
    return stream;
  }

  #events(positions: readonly number[]): StoredEvent[] {
    return positions.map((position) => this.#log.event(this.#log.rowAt(position)));
  }

  #postingsIn(direction: Direction): Postings {
    return {
      all: seekIn(this.#log.positions, direction),
      tag: (tag) => seekIn(this.#byTag.get(tag) ?? [], direction),
      type: (type) => seekIn(this.#log.positionsOf(type) ?? [], direction),
    };
  }

  /** Events of others that name this cause, and those of the command that is it. */
  #seekCorrelation(id: string, direction: Direction): Seek {
    const { position = 0, count = 0 } = this.#log.outcome(id) ?? {};
    const isOwn = count > 0 && this.#log.event(this.#log.rowAt(position)).correlationId === id;
    const own = isOwn ? Array.from({ length: count }, (_, index) => position + index) : [];
    return union([seekIn(this.#byCorrelation.get(id) ?? [], direction), seekIn(own, direction)]);
  }

  #seekAggregate(types: ReadonlySet<string>, direction: Direction): Seek {
    const seek = seekIn(this.#log.positions, direction);
    const isOf = (position: number) => types.has(this.#log.streamOf(this.#log.rowAt(position)).aggregateType);
    return (from) => {
      let found = seek(from);
      while (found !== Infinity && !isOf(found * direction)) found = seek(found + 1);
      return found;
    };
  }
}

function seekIn(positions: readonly number[], direction: Direction): Seek {
  return direction > 0
    ? (from) => positions[firstFrom(positions, from)] ?? Infinity
    : (from) => -(positions[firstFrom(positions, 1 - from) - 1] ?? -Infinity);
}

/** Most tags stay rare: an array that starts with its position has no room to spare. */
function post(lists: Map<string, number[]>, key: string, position: number): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [position]);
  else list.push(position);
}
