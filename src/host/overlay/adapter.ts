import { Documents } from "../documents.js";
import type { Position } from "../engine.js";
import { checkEpoch, newEpoch, placeOf } from "../epoch.js";
import { invalidArgument } from "../errors.js";
import { Listeners, type OnAdvanced } from "../listeners.js";
import { matches } from "../query.js";
import {
  SNAPSHOTS,
  type AppendRequest,
  type Commit,
  type DocumentConflict,
  type DocumentsRead,
  type FirstOutcome,
  type Judge,
  type Loaded,
  type LoadRequest,
  type LogPage,
  type Query,
  type QueryLoad,
  type ReadDocumentsRequest,
  type ReadLogRequest,
  type SaveDocumentsRequest,
  type StorageAdapter,
  type StoredEvent,
  type StoreInfo,
  type StreamLoad,
  type StreamSlice,
  type Verdict,
} from "../storage.js";
import { findCut, type Cut } from "./cut.js";

/** A moment in the life of a store: after an event, or as of a time. */
export type OverlayPoint = { readonly position: Position } | { readonly time: Date | string };

export interface OverlayConfig {
  /** The store below, which is read and never written. */
  readonly storage: StorageAdapter;
  /** As of when it is seen. If not given: as it is when the overlay is first opened. */
  readonly at?: OverlayPoint;
}

/**
 * A store as it was at a point, with what is appended to it in memory: what if this had happened
 * then, or had been decided by other rules? An engine on it does all that an engine does, and the
 * store below never hears of it. What is appended below after that point is not seen.
 *
 * ```ts
 * const storage = overlayStorage({ storage: clinic, at: { time: "2026-11-17T14:05:00Z" } });
 * const trial = await Engine.open({ storage, aggregates: [stricterAppointment] });
 * ```
 */
export function overlayStorage(config: OverlayConfig): StorageAdapter {
  const { storage, at } = config;
  if (typeof (storage as StorageAdapter | undefined)?.readLog !== "function") {
    throw invalidArgument("expected a storage adapter below");
  }
  return new OverlayAdapter(storage, at === undefined ? null : momentOf(at));
}

/** Milliseconds since 1970, or a place in a store. */
type Moment = number | { readonly epoch: string; readonly number: number };

function momentOf(at: OverlayPoint): Moment {
  if (!("time" in at)) return placeOf(at.position);
  const time = new Date(at.time).getTime();
  if (Number.isNaN(time)) throw invalidArgument(`expected a time, found ${String(at.time)}`);
  return time;
}

type Committed = Verdict & { readonly kind: "committed" };

interface Stream {
  /** Its revision below, at the cut. */
  readonly below: number;
  /** What has been appended here. */
  readonly events: StoredEvent[];
}

class OverlayAdapter implements StorageAdapter {
  readonly #below: StorageAdapter;
  readonly #at: Moment | null;
  readonly #epoch = newEpoch();
  readonly #listeners = new Listeners();
  #cut: Promise<Cut> | undefined;
  readonly #log: StoredEvent[] = [];
  readonly #streams = new Map<string, Promise<Stream>>();
  readonly #outcomes = new Map<string, FirstOutcome>();
  /** Those below are of another moment than the cut. */
  readonly #documents = new Documents();

  constructor(below: StorageAdapter, at: Moment | null) {
    this.#below = below;
    this.#at = at;
  }

  async open(): Promise<StoreInfo> {
    return { epoch: this.#epoch, head: this.#head(await this.#opened()), durability: "memory" };
  }

  async append(request: AppendRequest, judge: Judge): Promise<Verdict[]> {
    checkEpoch(request.epoch, this.#epoch);
    const cut = await this.#opened();
    const { commits } = request;
    const conditions = commits.flatMap(({ condition }) => condition ?? []);
    // What is below does not change, so it may be read before the facts are of one moment.
    const [streams, below] = await Promise.all([
      Promise.all(commits.map((commit) => this.#stream(commit))),
      this.#loadBelow(cut, {
        commands: commits.map(({ commandId }) => commandId),
        queries: conditions,
      }),
    ]);
    const before = this.#head(cut);
    const verdicts = judge({
      head: before,
      lastRecordedAt: Math.max(cut.recordedAt, this.#recordedAt()),
      commits: commits.map(({ commandId, condition }, index) => {
        const found = condition === null ? [] : below.queries[conditions.indexOf(condition)]!;
        return {
          revision: revisionOf(streams[index]!),
          first: this.#outcomes.get(commandId) ?? below.commands[index]!,
          matched: condition === null ? null : (found[0]?.position ?? this.#firstMatch(condition)),
        };
      }),
    });
    for (const [index, commit] of commits.entries()) {
      const verdict = verdicts[index]!;
      if (verdict.kind === "committed") this.#write(commit, verdict, streams[index]!);
    }
    const head = this.#head(cut);
    if (head > before) this.#listeners.tell(head);
    return verdicts;
  }

  async load(request: LoadRequest): Promise<Loaded> {
    checkEpoch(request.epoch, this.#epoch);
    const cut = await this.#opened();
    const snapshots = request.streams.map(({ snapshot }) =>
      snapshot === null ? null : this.#documents.find({ collection: SNAPSHOTS, key: snapshot }),
    );
    const loads = request.streams.map((load, index) => ({
      ...load,
      after: snapshots[index]?.revision ?? load.after,
    }));
    const [streams, below] = await Promise.all([
      Promise.all(loads.map((load) => this.#stream(load))),
      this.#loadBelow(cut, { ...request, streams: loads }),
    ]);
    return {
      commands: request.commands.map((id, index) => this.#outcomes.get(id) ?? below.commands[index]!),
      streams: loads.map((load, index) => ({
        ...sliceOf(load, streams[index]!, below.streams[index]!, cut),
        snapshot: snapshots[index]!,
      })),
      queries: request.queries.map((load, index) => [
        ...below.queries[index]!,
        ...this.#log.filter((event) => event.position > load.after && isMatch(load.query, event)),
      ]),
      head: this.#head(cut),
    };
  }

  async readLog(request: ReadLogRequest): Promise<LogPage> {
    checkEpoch(request.epoch, this.#epoch);
    const cut = await this.#opened();
    const { after, descending, correlationId, limit } = request;
    const above = cut.position + 1;
    if (descending ? after <= above : after < cut.position) {
      const page = await this.#below.readLog({ ...request, epoch: cut.epoch });
      const next = Math.min(page.next, cut.position);
      return { events: seenOf(page.events, cut), next, head: this.#head(cut) };
    }
    const isAsked = (asked: readonly string[], found: readonly string[]) =>
      asked.length === 0 || found.some((name) => asked.includes(name));
    const log = descending ? [...this.#log].reverse() : this.#log;
    const events = log
      .filter(
        ({ position, type, aggregateType, tags, ...event }) =>
          (descending ? position < after : position > after) &&
          event.correlationId === (correlationId ?? event.correlationId) &&
          isAsked(request.types, [type]) &&
          isAsked(request.aggregateTypes, [aggregateType]) &&
          isAsked(request.tags, JSON.parse(tags) as string[]),
      )
      .slice(0, limit);
    const head = this.#head(cut);
    // Going back, what is below comes after it.
    const end = descending ? above : Math.max(head, after);
    return { events, next: events.length === limit ? events.at(-1)!.position : end, head };
  }

  async saveDocuments(request: SaveDocumentsRequest): Promise<DocumentConflict | null> {
    checkEpoch(request.epoch, this.#epoch);
    return this.#documents.save(request);
  }

  async readDocuments(request: ReadDocumentsRequest): Promise<DocumentsRead> {
    checkEpoch(request.epoch, this.#epoch);
    const cut = await this.#opened();
    return { ...this.#documents.read(request), head: this.#head(cut) };
  }

  subscribe(onAdvanced: OnAdvanced): () => void {
    return this.#listeners.add(onAdvanced);
  }

  async close(): Promise<void> {
    await this.#below.close();
  }

  /** Asks the store below the first time. A failure is not kept. */
  #opened(): Promise<Cut> {
    this.#cut ??= this.#findCut().catch((error: unknown) => {
      this.#cut = undefined;
      throw error;
    });
    return this.#cut;
  }

  async #findCut(): Promise<Cut> {
    const info = await this.#below.open();
    const at = this.#at;
    if (at === null) return findCut(this.#below, info, () => true);
    if (typeof at === "number") {
      return findCut(this.#below, info, ({ recordedAt }) => Date.parse(recordedAt) <= at);
    }
    checkEpoch(at.epoch, info.epoch);
    return findCut(this.#below, info, ({ position }) => position <= at.number);
  }

  #head(cut: Cut): number {
    return cut.position + this.#log.length;
  }

  #recordedAt(): number {
    return Date.parse(this.#log.at(-1)?.recordedAt ?? "1970-01-01T00:00:00.000Z");
  }

  #firstMatch({ query, after }: QueryLoad): number | null {
    const found = this.#log.find((event) => event.position > after && isMatch(query, event));
    return found?.position ?? null;
  }

  /** What is asked of the store below, without what has come there after the cut. */
  async #loadBelow(
    cut: Cut,
    asked: Pick<LoadRequest, "commands" | "queries"> & Partial<LoadRequest>,
  ): Promise<Loaded> {
    const streams = asked.streams ?? [];
    const loaded = await this.#below.load({
      epoch: cut.epoch,
      commands: asked.commands,
      streams: streams.map((load) => ({ ...load, snapshot: null, whole: true })),
      queries: asked.queries,
    });
    return {
      ...loaded,
      commands: loaded.commands.map((first) =>
        first !== null && first.position <= cut.position ? first : null,
      ),
      queries: loaded.queries.map((events) => seenOf(events, cut)),
    };
  }

  #stream({ aggregateType, aggregateId }: Pick<Commit, "aggregateType" | "aggregateId">): Promise<Stream> {
    const name = nameOf(aggregateType, aggregateId);
    const known = this.#streams.get(name);
    if (known !== undefined) return known;
    const stream = this.#revisionBelow(aggregateType, aggregateId).then((below) => ({ below, events: [] }));
    this.#streams.set(name, stream);
    stream.catch(() => this.#streams.delete(name));
    return stream;
  }

  /** The stream's revision at the cut: most often the one it has. */
  async #revisionBelow(aggregateType: string, aggregateId: string): Promise<number> {
    const cut = await this.#opened();
    const all = { untilRevision: null, untilPosition: null, untilTime: null };
    const rest = { snapshot: null, ...all, limit: 1, whole: true };
    const probe = async (after: number): Promise<StreamSlice> => {
      const load = { aggregateType, aggregateId, after, ...rest };
      return (await this.#loadBelow(cut, { commands: [], queries: [], streams: [load] })).streams[0]!;
    };
    const { revision } = await probe(Number.MAX_SAFE_INTEGER - 1);
    const isSeen = async (index: number) => seenOf((await probe(index)).events as StoredEvent[], cut).length > 0;
    if (revision === 0 || (await isSeen(revision - 1))) return revision;
    let low = 0;
    for (let high = revision - 1; low < high;) {
      const middle = (low + high) >>> 1;
      if (await isSeen(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #write(commit: Commit, verdict: Committed, stream: Stream): void {
    const { commandId, hash, aggregateType, aggregateId, issuedAt, correlationId } = commit;
    const { causationId, actor, extra } = commit;
    const { position, revision, count, recordedAt } = verdict;
    for (const [index, { eventId, type, schemaVersion, tags, data }] of commit.events.entries()) {
      const event: StoredEvent = {
        position: position + index,
        aggregateType,
        aggregateId,
        revision: revision - count + 1 + index,
        eventId,
        type,
        schemaVersion,
        tags: JSON.stringify(tags),
        recordedAt: new Date(recordedAt).toISOString(),
        issuedAt,
        commandId,
        correlationId,
        causationId,
        actor,
        extra,
        data,
      };
      this.#log.push(event);
      stream.events.push(event);
    }
    this.#outcomes.set(commandId, { hash, aggregateType, aggregateId, position, revision, count, recordedAt });
  }
}

function nameOf(first: string, second: string): string {
  return JSON.stringify([first, second]);
}

function revisionOf({ below, events }: Stream): number {
  return below + events.length;
}

function seenOf(events: readonly StoredEvent[], cut: Cut): StoredEvent[] {
  return events.filter(({ position }) => position <= cut.position);
}

function isMatch(query: Query, { type, tags }: StoredEvent): boolean {
  return query.some((item) => matches(item, type, JSON.parse(tags) as string[]));
}

/** What is asked of a stream: first what is below, then what has been appended here. */
function sliceOf(load: StreamLoad, stream: Stream, found: StreamSlice, cut: Cut): Omit<StreamSlice, "snapshot"> {
  const { after, untilRevision, untilPosition, untilTime, limit } = load;
  const revision = revisionOf(stream);
  const below = seenOf(found.events as StoredEvent[], cut);
  const reached = Math.max(after, below.at(-1)?.revision ?? 0);
  if (found.more && reached < stream.below) return { events: below, revision, more: true };
  const here = stream.events.filter(
    (event) =>
      event.revision > after &&
      event.revision <= (untilRevision ?? Infinity) &&
      event.position <= (untilPosition ?? Infinity) &&
      (untilTime === null || event.recordedAt <= untilTime),
  );
  const room = limit - below.length;
  return { events: [...below, ...here.slice(0, room)], revision, more: here.length > room };
}
