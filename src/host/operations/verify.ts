import type { Projection } from "../domain.js";
import { AnnalsError } from "../errors.js";
import { keyOf } from "../recent.js";
import { stateIn } from "../snapshot.js";
import type { FirstOutcome, LogPage, ScannedPage, StorageAdapter, StoredDocument, StoredEvent, StreamSlice } from "../storage.js";
import { isJson, isTags, isTime } from "./archive.js";
import { readCheckpoint } from "./checkpoint.js";
import { isOf } from "./export.js";
import { SeenTexts } from "./ids.js";
import { PAGE, pagesOf, Work, type WorkOptions } from "./log.js";
import { IMPORT_MARK, isImporting, REACTIONS } from "./mark.js";
import { TagCheck } from "./tags.js";

/** What is wrong. The codes are part of the contract. */
export type FindingCode =
  /** Positions are missing in the log. */
  | "gap"
  /** A position comes twice, or after a later one. */
  | "position-order"
  /** The log does not end where the store says that it does. */
  | "head-disagrees"
  /** An event was recorded earlier than the one before it. */
  | "time-decreases"
  | "unreadable-time"
  | "unreadable-data"
  | "unreadable-metadata"
  | "unreadable-tags"
  | "double-event-id"
  /** Events of a command are in two places. */
  | "double-command-id"
  /** The revisions of a stream have a gap, a double, or are not in the order of the log. */
  | "revision-order"
  /** What the store remembers of a command is not what its events say, or it remembers nothing. */
  | "outcome-disagrees"
  /** A stream has other events, or another number of them, than the log. */
  | "stream-disagrees"
  /** An event is not found by one of its tags. */
  | "tag-missing"
  /** An event is found by a tag that it does not have. */
  | "tag-surplus"
  /** A view has come further than the log, or has documents beyond its checkpoint. */
  | "view-ahead"
  /** Events have come that a view has not taken in: no fault, if nobody keeps it at the moment. */
  | "view-behind"
  /** A document is found in an index by what it is not, or not by what it is. */
  | "index-disagrees"
  /** A view changed whenever its documents were compared with their indexes: no fault. */
  | "view-busy"
  | "reaction-ahead"
  | "subscription-ahead"
  /** A snapshot is the state at a revision that its stream does not have. */
  | "snapshot-ahead"
  /** A document is not what it should be. */
  | "unreadable-document"
  /** An import has begun and has not come to its end. */
  | "import-unfinished";

/** A rule that is broken, and where. */
export interface Finding {
  readonly code: FindingCode;
  /** Whether it may be so. Whatever else is found is a fault. */
  readonly isNote: boolean;
  readonly message: string;
  /** Place in the log. */
  readonly position?: number;
  readonly stream?: { readonly type: string; readonly id: string };
  readonly document?: { readonly collection: string; readonly key: string };
}

export interface VerifyOptions extends WorkOptions {
  /** With these it is seen whether their views' documents are found by what is in them. */
  readonly projections?: readonly Projection[];
  /** Most findings that are listed. All are counted. Default: 1,000. */
  readonly limit?: number;
}

/** What there is in a store, and what is wrong with it. */
export interface Verification {
  readonly epoch: string;
  /** Position of the last event that was looked at. */
  readonly head: number;
  readonly events: number;
  readonly commits: number;
  readonly streams: number;
  readonly documents: number;
  /** Whether no rule is broken. */
  readonly isSound: boolean;
  /** In the order of the log, then of the documents. */
  readonly findings: readonly Finding[];
  /** Number of faults, whether listed or not. */
  readonly faults: number;
}

/**
 * Reads a whole store, the log and what is beside it, and tells every rule that is broken. It reads what
 * an engine reads and changes nothing; others may append meanwhile. Of each event and command it keeps
 * some bytes, so that a million take about fifty megabytes.
 *
 * ```ts
 * const { isSound, findings } = await verify(storage);
 * for (const { code, message } of findings) console.log(code, message);
 * ```
 */
export async function verify(storage: StorageAdapter, options: VerifyOptions = {}): Promise<Verification> {
  const { epoch, head } = await storage.open();
  const verifier = new Verifier(storage, epoch, options);
  await verifier.readLog(head);
  await verifier.readDocuments(options.projections ?? []);
  return verifier.result();
}

interface OpenStream {
  readonly aggregateType: string;
  readonly aggregateId: string;
  /** Of the last event that came. */
  revision: number;
  /** Number of events that the store says it has. */
  known: number;
}

class Verifier {
  readonly #storage: StorageAdapter;
  readonly #epoch: string;
  readonly #work: Work;
  readonly #limit: number;
  readonly #findings: Finding[] = [];
  #faults = 0;
  #head = 0;
  #events = 0;
  #commits = 0;
  #streamCount = 0;
  #documents = 0;

  /** Whether the log did not go on before its end. */
  #endsEarly = false;

  // What goes on from page to page.
  #recordedAt = "";
  readonly #tags: TagCheck;
  readonly #eventIds = new SeenTexts();
  readonly #commandIds = new SeenTexts();
  /** Ids that seem to have come before. */
  readonly #suspects = { eventId: new Set<string>(), commandId: new Set<string>() };
  /** The command whose events come, and how many have. */
  #command: { readonly id: string; readonly outcome: FirstOutcome | null; count: number; last: StoredEvent } | undefined;
  /** Streams of which events are to come, as far as the store says. */
  readonly #streams = new Map<string, OpenStream>();

  constructor(storage: StorageAdapter, epoch: string, options: VerifyOptions) {
    this.#storage = storage;
    this.#epoch = epoch;
    this.#work = new Work(options);
    this.#limit = options.limit ?? 1_000;
    this.#tags = new TagCheck(storage, epoch, (code, position, message) => this.#found(code, message, { position }));
  }

  result(): Verification {
    const findings = this.#findings.sort((a, b) => (a.position ?? Infinity) - (b.position ?? Infinity) || 0);
    return {
      epoch: this.#epoch,
      head: this.#head,
      events: this.#events,
      commits: this.#commits,
      streams: this.#streamCount,
      documents: this.#documents,
      isSound: this.#faults === 0,
      findings,
      faults: this.#faults,
    };
  }

  #found(code: FindingCode, message: string, place: Pick<Finding, "position" | "stream" | "document"> = {}): void {
    const isNote = code === "view-behind" || code === "view-busy";
    if (!isNote) this.#faults += 1;
    if (this.#findings.length < this.#limit) this.#findings.push({ code, isNote, message, ...place });
  }

  #foundAt(code: FindingCode, { position, aggregateType, aggregateId }: StoredEvent, message: string): void {
    this.#found(code, message, { position, stream: { type: aggregateType, id: aggregateId } });
  }

  // -------------------------------------------------------------------------------------------
  // The log

  async readLog(head: number): Promise<void> {
    this.#tags.start(head);
    let end = 0;
    for await (const { events, head } of this.#pages()) {
      end = head;
      const commands = [...new Set(events.map(({ commandId }) => commandId))];
      const outcomes = await this.#load(commands, []);
      const known = new Map(commands.map((id, index) => [id, outcomes.commands[index]!]));
      await this.#meetStreams(events);
      for (const event of events) {
        this.#checkEvent(event);
        this.#checkCommand(event, known.get(event.commandId) ?? null);
      }
      await this.#checkStreams(events);
      await this.#tags.check(events);
      await this.#work.step({ done: this.#events, total: Math.max(head, this.#events) });
    }
    this.#endCommand();
    if (end !== this.#head && !this.#endsEarly) await this.#confirmEnd();
    for (const stream of this.#streams.values()) {
      const { aggregateType, aggregateId, revision, known } = stream;
      const message = `the store says that it has ${known} events, the log ends with revision ${revision}`;
      this.#found("stream-disagrees", message, { stream: { type: aggregateType, id: aggregateId } });
    }
    await this.#tags.end();
    await this.#confirmDoubles();
  }

  /** The log, up to where it goes on, and beyond where the store says that it ends. */
  async *#pages(): AsyncGenerator<LogPage, void> {
    try {
      for (let after = 0, isBeyond = true; isBeyond;) {
        for await (const page of pagesOf(this.#storage, this.#epoch, after)) {
          after = Math.max(after, page.events.at(-1)?.position ?? 0);
          isBeyond = page.events.length > 0 && after > page.head;
          yield page;
        }
      }
    } catch (error) {
      if (!AnnalsError.is(error, "damaged-store")) throw error;
      if (!this.#endsEarly) this.#found(error.details.damage, error.message);
      this.#endsEarly = true;
    }
  }

  /** The log's end is not where the store has said. It may have grown since. */
  async #confirmEnd(): Promise<void> {
    const all = { descending: false, types: [], aggregateTypes: [], tags: [], correlationId: null };
    const { events, head } = await this.#storage.readLog({ epoch: this.#epoch, after: this.#head, ...all, limit: 1 });
    const last = events[0]?.position ?? this.#head;
    if (events.length > 0 ? last <= head : last === head) return;
    this.#found("head-disagrees", `the store says that its log ends at position ${head}, and it has ${last === 0 ? "no event" : `events up to ${last}`}`);
  }

  #checkEvent(event: StoredEvent): void {
    const { position, recordedAt, issuedAt } = event;
    const expected = this.#head + 1;
    if (position < expected) this.#foundAt("position-order", event, `position ${position} comes after ${this.#head}`);
    if (position > expected) {
      const missing = position - 1 === expected ? `position ${expected} is` : `positions ${expected} to ${position - 1} are`;
      this.#foundAt("gap", event, `${missing} missing`);
    }
    this.#head = Math.max(this.#head, position);
    this.#events += 1;
    for (const [name, time] of Object.entries({ recordedAt, issuedAt })) {
      if (!isTime(time)) this.#foundAt("unreadable-time", event, `${name}: expected a time, found ${JSON.stringify(time)}`);
    }
    if (recordedAt < this.#recordedAt) {
      this.#foundAt("time-decreases", event, `recorded at ${recordedAt}, after an event of ${this.#recordedAt}`);
    } else if (isTime(recordedAt)) this.#recordedAt = recordedAt;
    if (!isJson(event.data)) this.#foundAt("unreadable-data", event, `its data are no JSON: ${shortened(event.data)}`);
    if (event.extra !== null && !isJson(event.extra)) {
      this.#foundAt("unreadable-metadata", event, `its metadata are no JSON: ${shortened(event.extra)}`);
    }
    if (!isTags(event.tags)) this.#foundAt("unreadable-tags", event, `its tags are no list of texts: ${shortened(event.tags)}`);
    if (this.#eventIds.add(event.eventId)) this.#suspects.eventId.add(event.eventId);
  }

  #checkCommand(event: StoredEvent, outcome: FirstOutcome | null): void {
    const { commandId } = event;
    if (this.#command?.id !== commandId) {
      this.#endCommand();
      this.#commits += 1;
      if (this.#commandIds.add(commandId)) this.#suspects.commandId.add(commandId);
      this.#command = { id: commandId, outcome, count: 0, last: event };
      if (outcome === null) this.#foundAt("outcome-disagrees", event, `the store remembers nothing of its command ${commandId}`);
    }
    this.#command.count += 1;
    this.#command.last = event;
    if (outcome !== null && !isOf(event, outcome)) {
      const { position, revision, count } = outcome;
      const said = `${count} events from position ${position} to revision ${revision} of ${outcome.aggregateType}/${outcome.aggregateId}`;
      this.#foundAt("outcome-disagrees", event, `of its command ${commandId} the store remembers ${said}, recorded at ${isoOf(outcome.recordedAt)}`);
    }
  }

  #endCommand(): void {
    const { id, outcome, count, last } = this.#command ?? {};
    if (!outcome || count === outcome.count || !isOf(last!, outcome)) return;
    this.#foundAt("outcome-disagrees", last!, `of its command ${id} the store remembers ${outcome.count} events, the log has ${count}`);
  }

  /** Asks for what the store knows of streams that come up. */
  async #meetStreams(events: readonly StoredEvent[]): Promise<void> {
    const met = new Map<string, StoredEvent>();
    for (const event of events) {
      const key = keyOf(event);
      if (!this.#streams.has(key) && !met.has(key)) met.set(key, event);
    }
    if (met.size === 0) return;
    // The event before tells whether the stream has begun earlier: those that are complete are forgotten.
    const slices = await this.#slices([...met.values()].map((event) => ({ ...event, after: Math.max(0, event.revision - 2), limit: 2 })));
    [...met].forEach(([key, event], index) => {
      const { events, revision } = slices[index]!;
      const found = events as StoredEvent[];
      const own = found.find((one) => one.revision === event.revision);
      const before = found.find((one) => one.revision === event.revision - 1);
      if (own?.eventId !== event.eventId) {
        this.#foundAt("stream-disagrees", event, `its stream has ${own === undefined ? "no event" : "another event"} with revision ${event.revision}`);
      }
      const { aggregateType, aggregateId } = event;
      if (event.revision === 1) this.#streamCount += 1;
      const reached = before !== undefined && before.position < event.position ? event.revision - 1 : 0;
      this.#streams.set(key, { aggregateType, aggregateId, revision: reached, known: revision });
    });
  }

  async #checkStreams(events: readonly StoredEvent[]): Promise<void> {
    const beyond = new Map<string, StoredEvent>();
    for (const event of events) {
      const key = keyOf(event);
      const stream = this.#streams.get(key)!;
      if (event.revision !== stream.revision + 1) {
        this.#foundAt("revision-order", event, `expected revision ${stream.revision + 1} of its stream, found ${event.revision}`);
      }
      stream.revision = Math.max(stream.revision, event.revision);
      if (event.revision > stream.known) beyond.set(key, event);
    }
    if (beyond.size > 0) {
      // It may have grown since.
      const slices = await this.#slices([...beyond.values()].map((event) => ({ ...event, after: event.revision, limit: 1 })));
      [...beyond].forEach(([key, event], index) => {
        const known = slices[index]!.revision;
        this.#streams.get(key)!.known = Math.max(known, event.revision);
        if (event.revision > known) this.#foundAt("stream-disagrees", event, `the store says that its stream has ${known} events, and this is revision ${event.revision}`);
      });
    }
    for (const event of events) {
      const key = keyOf(event);
      const stream = this.#streams.get(key);
      if (stream !== undefined && stream.revision >= stream.known) this.#streams.delete(key);
    }
  }

  /** What has seemed to come twice is looked for. */
  async #confirmDoubles(): Promise<void> {
    const { eventId, commandId } = this.#suspects;
    if (eventId.size + commandId.size === 0) return;
    const first = new Map<string, number>();
    let before: string | undefined;
    for await (const { events } of this.#pages()) {
      for (const event of events) {
        const isNew = event.commandId !== before;
        before = event.commandId;
        for (const [name, id, isTold] of [["event", event.eventId, eventId.has(event.eventId)], ["command", before, isNew && commandId.has(before)]] as const) {
          if (!isTold) continue;
          const at = first.get(`${name} ${id}`);
          if (at === undefined) first.set(`${name} ${id}`, event.position);
          else this.#foundAt(`double-${name}-id`, event, `${name} id ${id} is at position ${at} already`);
        }
      }
      await this.#work.step();
    }
  }

  #load(commands: readonly string[], streams: Parameters<StorageAdapter["load"]>[0]["streams"]) {
    return this.#storage.load({ epoch: this.#epoch, commands, streams, queries: [] });
  }

  async #slices(
    asked: readonly { readonly aggregateType: string; readonly aggregateId: string; readonly after: number; readonly limit: number }[],
  ): Promise<StreamSlice[]> {
    const whole = { snapshot: null, untilRevision: null, untilPosition: null, untilTime: null, whole: true };
    const { streams } = await this.#load(
      [],
      asked.map(({ aggregateType, aggregateId, after, limit }) => ({ aggregateType, aggregateId, after, limit, ...whole })),
    );
    return streams;
  }

  // -------------------------------------------------------------------------------------------
  // What is beside it

  async readDocuments(projections: readonly Projection[]): Promise<void> {
    const { documents } = await this.#storage.readDocuments({ epoch: this.#epoch, names: [IMPORT_MARK], scans: [] });
    if (isImporting(documents[0]!)) {
      this.#found("import-unfinished", "an import has begun and has not come to its end: give it the same archive again", { document: IMPORT_MARK });
    }
    await this.#checkViews(projections);
    await this.#checkReactions();
    for await (const { documents, head } of this.#scan("subscriptions")) {
      for (const { key, revision } of documents) {
        // Its revision is the position of the first event that has not been handled.
        if (revision - 1 > head) this.#found("subscription-ahead", `subscription ${key} is at position ${revision - 1}, the log ends at ${head}`, inCollection("subscriptions", key));
      }
    }
    await this.#checkSnapshots();
  }

  async #checkViews(projections: readonly Projection[]): Promise<void> {
    for await (const { documents, head } of this.#scan("checkpoints")) {
      for (const { key, revision, value } of documents) {
        const place = inCollection("checkpoints", key);
        const [name, version] = listOf(key) ?? [];
        if (typeof name !== "string" || typeof version !== "number" || !isJson(value)) {
          this.#found("unreadable-document", `expected the checkpoint of a view, found ${shortened(key)} with ${shortened(value)}`, place);
          continue;
        }
        const view = `view ${name}, version ${version}`;
        const { position: reached, isCancelled } = readCheckpoint({ revision, value });
        if (isCancelled) {
          this.#found("view-behind", `${view} was given up while it was being built; the log ends at ${head}`, place);
        } else if (reached > head) this.#found("view-ahead", `${view} is at position ${reached}, the log ends at ${head}`, place);
        else if (reached < head) this.#found("view-behind", `${view} is at position ${reached}, the log ends at ${head}`, place);
        const projection = projections.find((one) => one.name === name && one.version === version);
        await this.#checkView(view, `view/${version}/${name}`, key, reached, projection);
      }
    }
  }

  async #checkView(view: string, collection: string, checkpoint: string, reached: number, projection: Projection | undefined): Promise<void> {
    for await (const { documents } of this.#scan(collection)) {
      const isAhead = documents.some(({ revision }) => revision > reached);
      // The view may have gone on since its checkpoint was read.
      const now = isAhead ? await this.#checkpointNow(checkpoint) : reached;
      for (const { key, revision, value } of documents) {
        const place = inCollection(collection, key);
        if (revision > now) this.#found("view-ahead", `${view}: document ${key} is of position ${revision}, the checkpoint of ${now}`, place);
        if (!isJson(value)) this.#found("unreadable-document", `${view}: document ${key} is no JSON: ${shortened(value)}`, place);
      }
    }
    if (projection === undefined || projection.indexes.length === 0) return;
    // What is read page by page is of one moment if the view has not gone on meanwhile.
    for (let attempts = 0; attempts < 3; attempts += 1) {
      const before = await this.#checkpointNow(checkpoint);
      const found = await this.#compareIndexes(view, collection, projection);
      if (before !== (await this.#checkpointNow(checkpoint))) continue;
      for (const [message, key] of found) this.#found("index-disagrees", message, inCollection(collection, key));
      return;
    }
    this.#found("view-busy", `${view} went on whenever its documents were compared with their indexes`, inCollection("checkpoints", checkpoint));
  }

  /** Where each entry is a document's own, and there are as many as the documents have, they are the same. */
  async #compareIndexes(view: string, collection: string, projection: Projection): Promise<[message: string, key: string][]> {
    const postingsOf = (value: string) => (isJson(value) ? distinct(projection.postings(JSON.parse(value))) : []);
    const wanted = new Map(projection.indexes.map((index) => [index, 0]));
    for await (const { documents } of this.#scan(collection, null, true)) {
      for (const [index] of documents.flatMap(({ value }) => postingsOf(value))) wanted.set(index, wanted.get(index)! + 1);
    }
    const found: [string, string][] = [];
    for (const [index, count] of wanted) {
      let entries = 0;
      for await (const { documents } of this.#scan(collection, index)) {
        entries += documents.length;
        for (const { at, key, value } of documents) {
          if (postingsOf(value).some(([name, own]) => name === index && own === at)) continue;
          found.push([`${view}: index ${index} has document ${key} under ${shortened(at)}, which is not in it`, key]);
        }
      }
      if (entries < count) found.push([`${view}: index ${index} has ${entries} entries, the documents ask for ${count}`, ""]);
    }
    return found;
  }

  async #checkpointNow(key: string): Promise<number> {
    const { documents } = await this.#storage.readDocuments({ epoch: this.#epoch, names: [{ collection: "checkpoints", key }], scans: [] });
    const checkpoint = documents[0];
    return checkpoint ? readCheckpoint(checkpoint).position : 0;
  }

  async #checkReactions(): Promise<void> {
    for await (const { documents, head } of this.#scan(REACTIONS)) {
      for (const { key, value } of documents) {
        const place = inCollection(REACTIONS, key);
        // Owner and position, then five texts for each lane, of which the second is its position.
        const [, position, ...lanes] = listOf(value) ?? [];
        const positions = [position, ...lanes.filter((_, index) => index % 5 === 1)].map((text) => (typeof text === "string" && text !== "" ? Number(text) : NaN));
        if (!positions.every(Number.isSafeInteger) || lanes.length % 5 !== 0) {
          this.#found("unreadable-document", `expected the progress of reaction ${key}, found ${shortened(value)}`, place);
          continue;
        }
        const last = Math.max(...positions);
        if (last > head) this.#found("reaction-ahead", `reaction ${key} is at position ${last}, the log ends at ${head}`, place);
      }
    }
  }

  async #checkSnapshots(): Promise<void> {
    for await (const { documents } of this.#scan("snapshots")) {
      const streams = documents.map(({ key }) => {
        const [aggregateType, aggregateId] = listOf(key) ?? [];
        return typeof aggregateType === "string" && typeof aggregateId === "string" ? { aggregateType, aggregateId, after: 0, limit: 1 } : undefined;
      });
      const slices = await this.#slices(streams.filter((stream) => stream !== undefined));
      for (const [index, { key, revision, value }] of documents.entries()) {
        const place = inCollection("snapshots", key);
        const slice = streams[index] === undefined ? undefined : slices.shift();
        if (slice !== undefined && revision > slice.revision) {
          this.#found("snapshot-ahead", `a snapshot of revision ${revision}, the stream has ${slice.revision} events`, place);
        } else if (slice === undefined || !isSnapshot(key, { revision, value })) {
          this.#found("unreadable-document", `expected a snapshot, found ${shortened(key)} with ${shortened(value)}`, place);
        }
      }
    }
  }

  /** A collection's documents in order of key, or an index's entries, and the log's end at that moment. */
  async *#scan(collection: string, index: string | null = null, isAgain = index !== null): AsyncGenerator<ScannedPage & { readonly head: number }, void> {
    for (let after: ScannedPage["documents"][number] | null = null; ;) {
      const scan = { collection, index, from: null, to: null, after, descending: false, limit: PAGE };
      const { scans, head } = await this.#storage.readDocuments({ epoch: this.#epoch, names: [], scans: [scan] });
      const page = scans[0]!;
      if (!isAgain) this.#documents += page.documents.length;
      yield { ...page, head };
      await this.#work.step();
      if (!page.more) return;
      after = page.documents.at(-1)!;
    }
  }
}

const inCollection = (collection: string, key: string): Pick<Finding, "document"> => ({ document: { collection, key } });

/** A document is in an index once under a value, however often it says so. */
function distinct(postings: readonly (readonly [string, string])[]): (readonly [string, string])[] {
  return [...new Map(postings.map((posting) => [JSON.stringify(posting), posting])).values()];
}

const isoOf = (millis: number): string => (Number.isNaN(millis) ? "no time" : new Date(millis).toISOString());

function listOf(text: string): unknown[] | undefined {
  const value: unknown = isJson(text) ? JSON.parse(text) : undefined;
  return Array.isArray(value) ? (value as unknown[]) : undefined;
}

/** Of snapshots that other releases have written in another way no more is known than that they are JSON. */
function isSnapshot(key: string, found: StoredDocument): boolean {
  const [, , fingerprint] = listOf(key)!;
  return String(fingerprint).startsWith("json2/") ? stateIn(key, found) !== "" : isJson(found.value);
}

const shortened = (text: string): string => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
