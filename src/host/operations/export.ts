import type { Position } from "../engine.js";
import { checkEpoch, placeOf } from "../epoch.js";
import { AnnalsError } from "../errors.js";
import { encoder } from "../payload.js";
import type { FirstOutcome, StorageAdapter, StoredEvent } from "../storage.js";
import { checkLine, commitLines, headerLine, isFiltered, isTags, joined, totalOf, VERSION, type ArchivedCommit, type ArchiveHeader } from "./archive.js";
import type { UnfinishedArchive } from "./check.js";
import { PAGE, pagesOf, Work, type LogFilter, type WorkOptions } from "./log.js";
import { Sha256 } from "./sha256.js";
import type { FindingCode } from "./verify.js";

export interface ExportOptions extends WorkOptions, LogFilter {
  /** Only the events after this position: what has come since another export. */
  readonly after?: Position;
  /** Goes on with an archive that was cut off: gives what comes after the part of it that is whole. */
  readonly resume?: UnfinishedArchive;
}

/** What an export comes to. */
export interface Exported {
  readonly commits: number;
  readonly events: number;
  /** Up to where the log has been read: the next export may begin there. */
  readonly until: Position;
}

/**
 * The log, or a part of it, as an archive: a file of JSON lines with checksums, which `docs/archive.md`
 * describes. The same log gives the same bytes. What is appended meanwhile is not in it.
 *
 * ```ts
 * await pipeline(exportLog(storage), createWriteStream("clinic.jsonl"));
 * ```
 */
export async function* exportLog(storage: StorageAdapter, options: ExportOptions = {}): AsyncGenerator<Uint8Array, Exported> {
  const { epoch, head } = await storage.open();
  const { resume } = options;
  const header = resume?.header ?? headerOf(epoch, head, options);
  checkEpoch(header.epoch, epoch);
  const work = new Work(options);
  const total = totalOf(header);
  const archive = new Writer(resume);
  if (resume === undefined || resume.bytes === 0) yield archive.begin(header);
  const events: StoredEvent[] = [];
  for await (const page of pagesOf(storage, epoch, Math.max(header.after, archive.position), header.filter)) {
    await work.step({ done: archive.events, total });
    const beyond = page.events.find(({ position }) => position > page.head);
    if (beyond !== undefined) throw damaged("head-disagrees", beyond, `it is in the log, and the store says that this ends at ${page.head}`);
    events.push(...page.events.filter(({ position }) => position <= header.until));
    const isLast = page.next >= header.until;
    // The last commit may go on in the next page.
    const last = events.at(-1)?.commandId;
    const start = isLast ? events.length : events.findIndex(({ commandId }) => commandId === last);
    for (const commit of await commitsOf(storage, epoch, events.splice(0, Math.max(start, 0)))) {
      if (archive.add(commit)) yield archive.write("check");
    }
    if (isLast) break;
  }
  const { after, until } = header;
  if (!isFiltered(header) && Math.max(after, archive.position) < until) {
    const message = `the log ends at position ${archive.position}, and the store says that it ends at ${until}`;
    throw new AnnalsError("damaged-store", message, { damage: "head-disagrees", position: archive.position });
  }
  yield archive.write("end");
  work.tell({ done: archive.events, total });
  return { commits: archive.commits, events: archive.events, until: `${epoch}:${header.until}` as Position };
}

function headerOf(epoch: string, head: number, { after, types, aggregateTypes, tags, correlationId }: ExportOptions): ArchiveHeader {
  let start = 0;
  if (after !== undefined) {
    const place = placeOf(after);
    if (place.epoch !== epoch) {
      throw new AnnalsError("foreign-position", "the position is of another store, or of this one before a restore", { position: after });
    }
    if (place.number > head) throw new AnnalsError("no-such-position", `expected a position up to ${head}, found ${place.number}`, { position: after });
    start = place.number;
  }
  const filter = { types: types ?? [], aggregateTypes: aggregateTypes ?? [], tags: tags ?? [], correlationId: correlationId ?? null };
  return { version: VERSION, epoch, after: start, until: head, filter };
}

/** Makes the bytes of an archive, and counts what is in them. */
class Writer {
  commits: number;
  events: number;
  position: number;
  readonly #digest: Sha256;
  /** What is written with the next check. */
  #lines: string[] = [];
  /** Events that the last check has counted. */
  #checked: number;

  constructor(resume: UnfinishedArchive | undefined) {
    ({ commits: this.commits, events: this.events, position: this.position } = resume?.check ?? { commits: 0, events: 0, position: 0 });
    this.#checked = this.events;
    this.#digest = new Sha256(resume?.digest);
  }

  begin(header: ArchiveHeader): Uint8Array {
    const bytes = encoder.encode(headerLine(header));
    this.#digest.update(bytes);
    return bytes;
  }

  /** Tells whether it is time for a check: where they are follows from what is written alone. */
  add(commit: ArchivedCommit): boolean {
    this.#lines.push(commitLines(commit));
    this.commits += 1;
    this.events += commit.events.length;
    this.position = commit.events.at(-1)!.position;
    return this.events - this.#checked >= PAGE;
  }

  write(kind: "check" | "end"): Uint8Array {
    const { commits, events, position } = this;
    const lines = encoder.encode(this.#lines.join(""));
    this.#lines = [];
    this.#checked = events;
    this.#digest.update(lines);
    const check = encoder.encode(checkLine(kind, { commits, events, position, sha256: this.#digest.digest() }));
    this.#digest.update(check);
    return joined([lines, check]);
  }
}

/** The events by commit, with what the store remembers of each. */
async function commitsOf(storage: StorageAdapter, epoch: string, events: readonly StoredEvent[]): Promise<ArchivedCommit[]> {
  const groups: StoredEvent[][] = [];
  for (const event of events) {
    if (!isTags(event.tags)) throw damaged("unreadable-tags", event, "its tags are no list of texts");
    if (groups.at(-1)?.[0]!.commandId === event.commandId) groups.at(-1)!.push(event);
    else groups.push([event]);
  }
  if (groups.length === 0) return [];
  const commands = groups.map(([event]) => event!.commandId);
  const { commands: outcomes } = await storage.load({ epoch, commands, streams: [], queries: [] });
  return groups.map((events, index) => {
    const outcome = outcomes[index] ?? null;
    const wrong = events.find((event) => !isOf(event, outcome));
    if (outcome === null || wrong !== undefined) {
      throw damaged("outcome-disagrees", wrong ?? events[0]!, "the first outcome of its command is not what its events say");
    }
    return { commandId: commands[index]!, outcome, events };
  });
}

/** Whether the event is one of those that the outcome speaks of. */
export function isOf(event: StoredEvent, outcome: FirstOutcome | null): boolean {
  if (outcome === null) return false;
  const { aggregateType, aggregateId, position, revision, count, recordedAt } = outcome;
  const index = event.position - position;
  return (
    aggregateType === event.aggregateType && aggregateId === event.aggregateId &&
    index >= 0 && index < count && event.revision === revision - count + 1 + index &&
    recordedAt === Date.parse(event.recordedAt)
  );
}

/** What can't be kept in an archive as it is. */
function damaged(damage: FindingCode, { position, aggregateType, aggregateId }: StoredEvent, what: string): AnnalsError {
  return new AnnalsError("damaged-store", `position ${position}, ${aggregateType}/${aggregateId}: ${what}`, { damage, position });
}
