import type { Position } from "../engine.js";
import { AnnalsError, type ImportedSoFar } from "../errors.js";
import type { Commit, Facts, FirstOutcome, StorageAdapter, StoredEvent, Verdict } from "../storage.js";
import { keyOf } from "../recent.js";
import { ArchiveReader, isFiltered, totalOf, type ArchivedCommit, type ArchiveHeader, type ArchiveSource } from "./archive.js";
import { isOf } from "./export.js";
import { ImportMark } from "./mark.js";
import { SeenTexts } from "./ids.js";
import { pagesOf, Work, type WorkOptions } from "./log.js";

export interface ImportOptions extends WorkOptions {
  /** Takes an archive that was cut off for all that there is. */
  readonly partial?: boolean;
}

/** What an import has come to. */
export interface Imported extends ImportedSoFar {
  /** Of the archive's last event in the store; `null` if it has none. */
  readonly position: Position | null;
  /** Whether the archive had its end. */
  readonly isWhole: boolean;
}

/**
 * Puts the events of an archive into a store that has none, or only those that the archive begins with:
 * so an import that was interrupted goes on when it is given the same archive again. Ids, revisions, times
 * and payloads stay what they are, and positions too if the archive has the whole log; the store keeps its
 * own epoch. Each part is imported when its checksum has been found right. No reaction runs for what is
 * imported: those that begin later begin after it.
 *
 * ```ts
 * await importLog(storage, createReadStream("clinic.jsonl"));
 * ```
 */
export async function importLog(
  storage: StorageAdapter,
  source: ArchiveSource,
  options: ImportOptions = {},
): Promise<Imported> {
  const { epoch, head } = await storage.open();
  const work = new Work(options);
  const reader = new ArchiveReader(source);
  let imported: ImportedSoFar = { commits: 0, events: 0, known: 0 };
  let isWhole = false;
  try {
    const header = await reader.header();
    const target = new Target(storage, epoch, head, header, work);
    ({ imported } = target);
    const total = totalOf(header);
    try {
      for await (const { commits, isEnd } of reader.blocks()) {
        target.check(commits, isEnd);
        const known = await target.compare(commits);
        await target.checkIds(commits.slice(known));
        await target.append(commits.slice(known));
        isWhole = isEnd;
        if (!isEnd) await work.step({ done: imported.events + imported.known, total });
      }
    } catch (error) {
      const isCutOff = AnnalsError.is(error, "unreadable-archive") && error.details.problem === "truncated";
      if (!isCutOff || options.partial !== true) throw error;
    }
    const position = await target.end();
    const done = imported.events + imported.known;
    work.tell({ done, total: done });
    return { ...imported, position: position === 0 ? null : (`${epoch}:${position}` as Position), isWhole };
  } catch (error) {
    // Whoever is told that it failed wants to know how far it came.
    if (AnnalsError.is(error)) Object.assign(error.details as object, { imported: { ...imported } });
    throw error;
  } finally {
    await reader.close();
  }
}

/** How many of the commits, from the first on, were recorded at one time. */
function oneTimeOf(commits: readonly ArchivedCommit[]): number {
  const time = commits[0]!.outcome.recordedAt;
  const other = commits.findIndex(({ outcome }) => outcome.recordedAt !== time);
  return other < 0 ? commits.length : other;
}

/** What every event matches. */
const EVERYTHING = [{ types: [], tags: [] }];

/** The store that events come into. */
class Target {
  readonly #storage: StorageAdapter;
  readonly #epoch: string;
  readonly #header: ArchiveHeader;
  /** Position of its last event, as far as this import knows. */
  #head: number;
  /** What the store has of the archive, before all is new to it; `undefined` before the first commit. */
  #there: Stored | null | undefined;
  /** Position in the store of the last event of the archive that is there. */
  #reached = 0;
  /** Whether the adapter asks for verdicts, or has a store that judges by itself; not known at first. */
  #asksJudge: boolean | undefined;
  /** What has come so far. */
  readonly imported = { commits: 0, events: 0, known: 0 };
  /** Position in the archive of the last event that was looked at. */
  #last: number;
  readonly #mark: ImportMark;
  readonly #work: Work;
  /** Of the events in the store, and of those that have come. */
  readonly #eventIds = new SeenTexts();
  /** Up to here the store has events whose ids are not among them. */
  #unseen = 0;

  constructor(storage: StorageAdapter, epoch: string, head: number, header: ArchiveHeader, work: Work) {
    this.#storage = storage;
    this.#epoch = epoch;
    this.#head = head;
    this.#header = header;
    this.#last = header.after;
    this.#mark = new ImportMark(storage, epoch);
    this.#work = work;
  }

  /** A store has commits as a whole, and an archive without a filter leaves none out. */
  check(commits: readonly ArchivedCommit[], isEnd: boolean): void {
    for (const commit of commits) {
      checkWhole(commit);
      this.#follows(commit.outcome.position);
      this.#last = commit.events.at(-1)!.position;
    }
    if (isEnd) this.#follows(this.#header.until + 1);
  }

  #follows(position: number): void {
    if (isFiltered(this.#header) || position === this.#last + 1) return;
    throw incomplete(`the events between positions ${this.#last} and ${position} are missing`);
  }

  /** How many of the next commits the store has already. */
  async compare(commits: readonly ArchivedCommit[]): Promise<number> {
    const [first] = commits;
    if (this.#there === undefined && first !== undefined) this.#there = await this.#find(first);
    if (!this.#there) return 0;
    const ids = commits.map(({ commandId }) => commandId);
    const { commands: outcomes } = await this.#storage.load({ epoch: this.#epoch, commands: ids, streams: [], queries: [] });
    for (const [index, commit] of commits.entries()) {
      const found = await this.#there.next(commit.events.length);
      if (found.length === 0) {
        this.#there = null;
        return index;
      }
      const hash = outcomes[index]?.hash;
      for (const [at, event] of commit.events.entries()) {
        checkSame(event, found[at], hash === commit.outcome.hash);
        this.#eventIds.add(event.eventId);
      }
      this.#reached = found.at(-1)!.position;
      this.imported.known += commit.events.length;
    }
    return commits.length;
  }

  /** Where the store's log has the archive's first commit, if it has it. */
  async #find({ commandId }: ArchivedCommit): Promise<Stored | null> {
    const { commands, head } = await this.#storage.load({ epoch: this.#epoch, commands: [commandId], streams: [], queries: [] });
    const { after } = this.#header;
    // An archive that begins with the log begins where the store does.
    const start = after === 0 ? 1 : commands[0]?.position;
    this.#head = head;
    this.#unseen = start === undefined ? head : start - 1;
    if (start === undefined) {
      if (!isFiltered(this.#header) && head !== after) throw incomplete(`it goes on after position ${after}, and the store ends at ${head}`);
      return null;
    }
    return new Stored(this.#storage, this.#epoch, start);
  }

  /** An event that the store does not have must not have the id of another. */
  async checkIds(commits: readonly ArchivedCommit[]): Promise<void> {
    if (commits.length === 0) return;
    for await (const { eventId } of this.#upTo(this.#unseen)) this.#eventIds.add(eventId);
    this.#unseen = 0;
    const own = new Set<string>();
    const suspects = new Map<string, StoredEvent>();
    for (const event of commits.flatMap(({ events }) => events)) {
      const { eventId } = event;
      if (own.has(eventId)) throw collision(event);
      own.add(eventId);
      if (this.#eventIds.add(eventId)) suspects.set(eventId, event);
    }
    if (suspects.size === 0) return;
    // What has come earlier is in the store.
    for await (const { eventId } of this.#upTo(this.#head)) {
      const suspect = suspects.get(eventId);
      if (suspect !== undefined) throw collision(suspect);
    }
  }

  /** The store's events up to a position. */
  async *#upTo(last: number): AsyncGenerator<StoredEvent, void> {
    if (last === 0) return;
    for await (const { events, next } of pagesOf(this.#storage, this.#epoch, 0)) {
      for (const event of events) if (event.position <= last) yield event;
      await this.#work.step();
      if (next >= last) return;
    }
  }

  /** Appends commits that the store does not have, as they are. */
  async append(archived: readonly ArchivedCommit[]): Promise<void> {
    for (let start = 0; start < archived.length;) {
      await this.#mark.begin();
      const rest = archived.slice(start);
      const group = this.#asksJudge === true ? rest : rest.slice(0, oneTimeOf(rest));
      start += group.length;
      try {
        await this.#appendTogether(group);
      } catch (error) {
        if (AnnalsError.is(error) && this.imported.events === 0) await this.#mark.undo();
        throw error;
      }
    }
  }

  async #appendTogether(archived: readonly ArchivedCommit[]): Promise<void> {
    // To who judges by himself the request says all that the verdicts follow from. They were recorded at
    // one time, nothing may have come after what is there, and none goes without the one before it.
    const after = this.#head;
    const commits = archived.map((commit, index) => {
      const condition =
        index === 0 ? { query: EVERYTHING, after, neighbours: [] } : { query: [], after, neighbours: [index - 1] };
      return { ...commitOf(commit), condition: this.#asksJudge === true ? null : condition };
    });
    const request = { epoch: this.#epoch, now: archived[0]!.outcome.recordedAt, commits };
    let asksJudge = false;
    const verdicts = await this.#storage.append(request, (facts) => {
      asksJudge = true;
      return this.#judge(archived, facts);
    });
    this.#asksJudge = asksJudge;
    for (const [index, { commandId, outcome, events }] of archived.entries()) {
      const verdict = verdicts[index]!;
      if (verdict.kind === "duplicate" || verdict.kind === "command-id-reused") throw collision(events[0]!);
      if (verdict.kind === "conflict") throw this.#conflict(outcome, verdict);
      if (verdict.recordedAt !== outcome.recordedAt || verdict.position !== this.#head + 1) {
        throw others(`command ${commandId} came to position ${verdict.position}`, verdict.position);
      }
      this.imported.commits += 1;
      this.imported.events += events.length;
      this.#head += events.length;
      this.#reached = this.#head;
    }
  }

  #conflict(outcome: FirstOutcome, { reason, at }: Extract<Verdict, { kind: "conflict" }>): AnnalsError {
    if (reason === "revision") return revisionConflict(outcome, at, this.#head);
    return others(`expected its end at position ${this.#head}, found more`, this.#head + 1);
  }

  /** All is there. Gives the position of the archive's last event in the store. */
  async end(): Promise<number> {
    await this.#mark.end(this.#reached);
    return this.#reached;
  }

  /** The verdicts are what they were. What is not as it was then makes all of them void. */
  #judge(archived: readonly ArchivedCommit[], facts: Facts): Verdict[] {
    if (facts.head !== this.#head) throw others(`expected its end at position ${this.#head}, found ${facts.head}`, facts.head);
    const revisions = new Map<string, number>();
    const ids = new Set<string>();
    let position = facts.head + 1;
    return archived.map(({ commandId, outcome, events }, index): Verdict => {
      const { revision, count, recordedAt } = outcome;
      const { first, revision: before } = facts.commits[index]!;
      if (first !== null || ids.has(commandId)) throw collision(events[0]!);
      ids.add(commandId);
      const key = keyOf(outcome);
      const actual = revisions.get(key) ?? before;
      if (actual !== revision - count) throw revisionConflict(outcome, actual, facts.head);
      revisions.set(key, revision);
      const verdict = { kind: "committed", position, revision, count, recordedAt } as const;
      position += count;
      return verdict;
    });
  }
}

/** The store's log, a few events at a time. */
class Stored {
  readonly #pages: ReturnType<typeof pagesOf>;
  #events: StoredEvent[] = [];

  constructor(storage: StorageAdapter, epoch: string, from: number) {
    this.#pages = pagesOf(storage, epoch, from - 1);
  }

  async next(count: number): Promise<StoredEvent[]> {
    while (this.#events.length < count) {
      const page = await this.#pages.next();
      if (page.done === true) break;
      this.#events.push(...page.value.events);
    }
    return this.#events.splice(0, count);
  }
}

function commitOf({ commandId, outcome, events }: ArchivedCommit): Omit<Commit, "condition"> & { readonly expected: number } {
  const { issuedAt, correlationId, causationId, actor, extra } = events[0]!;
  const { hash, aggregateType, aggregateId, revision, count } = outcome;
  return {
    commandId, hash, aggregateType, aggregateId, issuedAt, correlationId, causationId, actor, extra,
    expected: revision - count,
    events: events.map(({ eventId, type, schemaVersion, tags, data }) => ({
      eventId, type, schemaVersion, tags: JSON.parse(tags) as string[], data,
    })),
  };
}

function checkWhole({ commandId, outcome, events }: ArchivedCommit): void {
  if (events.length === outcome.count && events.every((event) => isOf(event, outcome))) return;
  throw incomplete(`of the ${outcome.count} events of command ${commandId} it has ${events.length}`);
}

/** The event that the store has in this place must be the archive's, to the letter. */
function checkSame(event: StoredEvent, found: StoredEvent | undefined, isSameCommand: boolean): void {
  // Of an archive that is a part of a log, positions are those of the whole.
  const members = Object.keys(event) as (keyof StoredEvent)[];
  const differs = members.some((name) => name !== "position" && event[name] !== found?.[name]);
  if (!differs && isSameCommand) return;
  if (found?.eventId === event.eventId || found?.commandId === event.commandId) throw collision(event);
  throw others(`expected event ${event.eventId}, found ${found?.eventId ?? "none"}`, found?.position ?? 0);
}

function collision({ eventId, aggregateType, aggregateId, revision }: StoredEvent): AnnalsError {
  const message = `another event than revision ${revision} of ${aggregateType}/${aggregateId} has the id ${eventId} or its command's`;
  return new AnnalsError("event-id-collision", message, { eventId });
}

function others(what: string, position: number): AnnalsError {
  return new AnnalsError("other-events", `the store has events that the archive has not: ${what}`, { position });
}

function revisionConflict({ aggregateType, aggregateId, revision, count }: FirstOutcome, actual: number, head: number): AnnalsError {
  const stream = `${aggregateType}/${aggregateId}`;
  const first = revision - count + 1;
  if (actual >= first) return others(`${stream} has revision ${actual} already`, head);
  return incomplete(`revision ${actual + 1} of ${stream} is missing before ${first}`);
}

function incomplete(what: string): AnnalsError {
  return new AnnalsError("incomplete-archive", `the archive is a part that can't stand here: ${what}`, {});
}
