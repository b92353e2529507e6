import { checkEpoch, newEpoch } from "../epoch.js";
import { Listeners, type OnAdvanced } from "../listeners.js";
import {
  countWhile,
  intersection,
  seekQuery,
  take,
  union,
  type Postings,
  type Seek,
} from "../query.js";
import type {
  AppendRequest,
  Commit,
  CommitFacts,
  FirstOutcome,
  Judge,
  Loaded,
  LoadRequest,
  LogPage,
  ReadLogRequest,
  StorageAdapter,
  StoredEvent,
  StoreInfo,
  StreamLoad,
  StreamSlice,
  Verdict,
} from "../storage.js";

/**
 * A store in this process's memory, which lives as long as the adapter. Engines that are given the
 * same adapter share it.
 */
export function memoryStorage(): StorageAdapter {
  return new MemoryAdapter();
}

class MemoryAdapter implements StorageAdapter {
  readonly #epoch = newEpoch();
  readonly #log: StoredEvent[] = [];
  readonly #streams = new Map<string, Map<string, StoredEvent[]>>();
  readonly #byTag = new Map<string, StoredEvent[]>();
  readonly #byType = new Map<string, StoredEvent[]>();
  readonly #outcomes = new Map<string, FirstOutcome>();
  readonly #listeners = new Listeners();
  readonly #postings: Postings = {
    all: seekIn(this.#log),
    tag: (tag) => seekIn(this.#byTag.get(tag) ?? []),
    type: (type) => seekIn(this.#byType.get(type) ?? []),
  };

  open(): StoreInfo {
    return { epoch: this.#epoch, head: this.#head, durability: "memory" };
  }

  append(request: AppendRequest, judge: Judge): Verdict[] {
    checkEpoch(request.epoch, this.#epoch);
    const verdicts = judge({
      head: this.#head,
      lastRecordedAt: Date.parse(this.#log.at(-1)?.recordedAt ?? "1970-01-01T00:00:00.000Z"),
      commits: request.commits.map((commit) => this.#facts(commit)),
    });
    const before = this.#head;
    request.commits.forEach((commit, index) => {
      const verdict = verdicts[index]!;
      if (verdict.kind === "committed") this.#write(commit, verdict);
    });
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
    const { types, aggregateTypes, tags, after, limit } = request;
    const filters: Seek[] = [];
    if (tags.length > 0) filters.push(union(tags.map((tag) => this.#postings.tag(tag))));
    if (types.length > 0) filters.push(union(types.map((type) => this.#postings.type(type))));
    if (aggregateTypes.length > 0) filters.push(this.#seekAggregate(new Set(aggregateTypes)));
    const from = firstFrom(this.#log, after + 1);
    const events =
      filters.length === 0
        ? this.#log.slice(from, from + limit)
        : this.#events(take(intersection(filters), after, limit));
    const next = events.length === limit ? events.at(-1)!.position : this.#head;
    return { events, next: Math.max(next, after), head: this.#head };
  }

  subscribe(onAdvanced: OnAdvanced): () => void {
    return this.#listeners.add(onAdvanced);
  }

  close(): void {
    // The store belongs to all who hold the adapter.
  }

  get #head(): number {
    return this.#log.at(-1)?.position ?? 0;
  }

  #facts({ aggregateType, aggregateId, commandId, condition }: Commit): CommitFacts {
    const match = condition
      ? seekQuery(condition.query, this.#postings)(condition.after + 1)
      : Infinity;
    return {
      revision: this.#stream(aggregateType, aggregateId)?.length ?? 0,
      first: this.#outcomes.get(commandId) ?? null,
      matched: match === Infinity ? null : match,
    };
  }

  #write(commit: Commit, verdict: Verdict & { readonly kind: "committed" }): void {
    const { commandId, hash, aggregateType, aggregateId } = commit;
    const { position, revision, count, recordedAt } = verdict;
    let streams = this.#streams.get(aggregateType);
    if (streams === undefined) this.#streams.set(aggregateType, (streams = new Map()));
    const recordedAtText = new Date(recordedAt).toISOString();
    commit.events.forEach(({ eventId, type, schemaVersion, tags, data }, index) => {
      const event: StoredEvent = {
        position: position + index,
        aggregateType,
        aggregateId,
        revision: revision - count + 1 + index,
        eventId,
        type,
        schemaVersion,
        tags: JSON.stringify(tags),
        recordedAt: recordedAtText,
        issuedAt: commit.issuedAt,
        commandId,
        correlationId: commit.correlationId,
        causationId: commit.causationId,
        actor: commit.actor,
        extra: commit.extra,
        data,
      };
      this.#log.push(event);
      post(streams, aggregateId, event);
      post(this.#byType, type, event);
      for (const tag of new Set(tags)) post(this.#byTag, tag, event);
    });
    this.#outcomes.set(commandId, {
      hash,
      aggregateType,
      aggregateId,
      position,
      revision,
      count,
      recordedAt,
    });
  }

  #slice({
    aggregateType,
    aggregateId,
    after,
    untilRevision,
    untilTime,
    limit,
  }: StreamLoad): StreamSlice {
    const stream = this.#stream(aggregateType, aggregateId) ?? [];
    const last = Math.min(
      untilRevision ?? Infinity,
      untilTime === null
        ? stream.length
        : countWhile(stream.length, (index) => stream[index]!.recordedAt <= untilTime),
      stream.length,
    );
    return {
      events: stream.slice(after, Math.min(last, after + limit)),
      revision: stream.length,
      more: last > after + limit,
    };
  }

  #stream(aggregateType: string, aggregateId: string): StoredEvent[] | undefined {
    return this.#streams.get(aggregateType)?.get(aggregateId);
  }

  #events(positions: readonly number[]): StoredEvent[] {
    return positions.map((position) => this.#log[firstFrom(this.#log, position)]!);
  }

  #seekAggregate(types: ReadonlySet<string>): Seek {
    return (from) => {
      for (let index = firstFrom(this.#log, from); index < this.#log.length; index++) {
        const event = this.#log[index]!;
        if (types.has(event.aggregateType)) return event.position;
      }
      return Infinity;
    };
  }
}

function seekIn(events: readonly StoredEvent[]): Seek {
  return (from) => events[firstFrom(events, from)]?.position ?? Infinity;
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
