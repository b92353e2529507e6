import { formOf } from "../messages.js";
import { plain } from "../plain.js";
import { countWhile } from "../query.js";
import type { Commit, FirstOutcome, Messages, StoredEvent, Verdict } from "../storage.js";
import { RowsByText, Texts } from "./texts.js";

export type Committed = Verdict & { readonly kind: "committed" };

/** A stream, and the rows of its events. */
export interface Stream {
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly rows: number[];
}

/** A type of events, and the positions of those that have it. */
interface Kind {
  readonly type: string;
  readonly positions: number[];
}

/** What most commits of a moment have in common. */
type Context = Pick<StoredEvent, "recordedAt" | "issuedAt" | "causationId" | "actor" | "extra"> & {
  /** `null`: the command is its own first cause. */
  readonly correlationId: string | null;
};

const MessagesOf = /* @__PURE__ */ plain<Messages, [forms: readonly string[], data: string]>(function (forms, data) {
  this.forms = forms;
  this.data = data;
});

/** The labels of an event: its id, its tags, its command's id and that command's digest. */
const LABELS = 4;

/**
 * The events in columns, with a row for each: a million objects are much for the garbage collector to look
 * at. An event is made when it is read.
 */
export class Log {
  /** They ascend, and may have gaps. */
  readonly positions: number[] = [];
  readonly #revisions: number[] = [];
  readonly #versions: number[] = [];
  readonly #streams: Stream[] = [];
  readonly #kindOf: Kind[] = [];
  readonly #contexts: Context[] = [];
  readonly #labels = new Texts("");
  readonly #data = new Texts(",\n");
  readonly #kinds = new Map<string, Kind>();
  /** The first row of each command. */
  readonly #commands = new RowsByText((row) => this.#commandId(row));
  #lastTime = 0;
  #lastContext: Context | undefined;

  write(commit: Commit, { position, revision, count, recordedAt }: Committed, stream: Stream): void {
    const { commandId, hash, events } = commit;
    const context = this.#contextOf(commit, recordedAt);
    this.#commands.add(commandId, this.positions.length);
    for (let index = 0; index < events.length; index += 1) {
      const { eventId, type, schemaVersion, tags, data } = events[index]!;
      let kind = this.#kinds.get(type);
      if (kind === undefined) this.#kinds.set(type, (kind = { type, positions: [] }));
      kind.positions.push(position + index);
      stream.rows.push(this.positions.length);
      this.positions.push(position + index);
      this.#revisions.push(revision - count + 1 + index);
      this.#versions.push(schemaVersion);
      this.#streams.push(stream);
      this.#kindOf.push(kind);
      this.#contexts.push(context);
      this.#labels.push(eventId);
      this.#labels.push(tags.length === 0 ? "" : JSON.stringify(tags));
      this.#labels.push(commandId);
      this.#labels.push(hash);
      this.#data.push(data);
    }
  }

  rowAt(position: number): number {
    return this.positions[position - 1] === position ? position - 1 : firstFrom(this.positions, position);
  }

  streamOf(row: number): Stream {
    return this.#streams[row]!;
  }

  recordedAt(row: number): string {
    return this.#contexts[row]!.recordedAt;
  }

  positionsOf(type: string): readonly number[] | undefined {
    return this.#kinds.get(type)?.positions;
  }

  event(row: number): StoredEvent {
    const { aggregateType, aggregateId } = this.#streams[row]!;
    const { recordedAt, issuedAt, correlationId, causationId, actor, extra } = this.#contexts[row]!;
    const commandId = this.#commandId(row);
    return {
      position: this.positions[row]!,
      aggregateType,
      aggregateId,
      revision: this.#revisions[row]!,
      eventId: this.#labels.at(row * LABELS),
      type: this.#kindOf[row]!.type,
      schemaVersion: this.#versions[row]!,
      tags: this.#labels.at(row * LABELS + 1) || "[]",
      recordedAt,
      issuedAt,
      commandId,
      correlationId: correlationId ?? commandId,
      causationId,
      actor,
      extra,
      data: this.#data.at(row),
    };
  }

  /** What is folded of these events. The payloads of those that stand one after the other are one text. */
  messages(rows: readonly number[]): Messages {
    let data = "[";
    for (let start = 0, end = 0; start < rows.length; start = end) {
      do end += 1;
      while (rows[end] === rows[end - 1]! + 1);
      data += (start > 0 ? ",\n" : "") + this.#data.between(rows[start]!, rows[end - 1]! + 1);
    }
    const forms = rows.map((row) => formOf(this.#kindOf[row]!.type, this.#versions[row]!));
    return new MessagesOf(forms, `${data}]`);
  }

  outcome(commandId: string): FirstOutcome | null {
    const row = this.#commands.find(commandId);
    if (row === undefined) return null;
    let end = row + 1;
    while (end < this.positions.length && this.#commandId(end) === commandId) end += 1;
    const { aggregateType, aggregateId } = this.#streams[row]!;
    return {
      hash: this.#labels.at(row * LABELS + 3),
      aggregateType,
      aggregateId,
      position: this.positions[row]!,
      revision: this.#revisions[end - 1]!,
      count: end - row,
      recordedAt: Date.parse(this.recordedAt(row)),
    };
  }

  #commandId(row: number): string {
    return this.#labels.at(row * LABELS + 2);
  }

  #contextOf(commit: Commit, time: number): Context {
    const { commandId, issuedAt, causationId, actor, extra } = commit;
    const correlationId = commit.correlationId === commandId ? null : commit.correlationId;
    const last = this.#lastContext;
    if (
      time === this.#lastTime &&
      issuedAt === last?.issuedAt &&
      correlationId === last.correlationId &&
      causationId === last.causationId &&
      actor === last.actor &&
      extra === last.extra
    ) {
      return last;
    }
    const recordedAt = last !== undefined && time === this.#lastTime ? last.recordedAt : new Date(time).toISOString();
    this.#lastTime = time;
    return (this.#lastContext = { recordedAt, issuedAt, correlationId, causationId, actor, extra });
  }
}

/** Index of the first that is `position` or later. */
export function firstFrom(positions: readonly number[], position: number): number {
  return countWhile(positions.length, (index) => positions[index]! < position);
}
