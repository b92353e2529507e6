import { AnnalsError } from "../errors.js";
import { StorageFailure, type Document, type StorageAdapter, type StoredDocument } from "../storage.js";

/**
 * What imports leave in a store: a document whose value is `["importing"]`, or `["imported", position]`
 * when all up to that position has come. A reaction that has never run waits for the one and begins after
 * the other: `src/engine/reacting.rs` reads it. Each change raises its revision, on which the first claim
 * of a reaction rests.
 */
export const IMPORT_MARK = { collection: "imports", key: "log" };

/** The collection that tells how far reactions have come. */
export const REACTIONS = "reactions";

const IMPORTING = '["importing"]';

/** Whether an import has begun and not ended. */
export const isImporting = (document: StoredDocument | null): boolean => document?.value === IMPORTING;

/** An import's mark in the store. */
export class ImportMark {
  readonly #storage: StorageAdapter;
  readonly #epoch: string;
  #revision = 0;
  /** What was there before this import; `undefined` before it has begun. */
  #before: string | null | undefined;

  constructor(storage: StorageAdapter, epoch: string) {
    this.#storage = storage;
    this.#epoch = epoch;
  }

  /** Before events come. No reaction may have run: it would take them for news. */
  async begin(): Promise<void> {
    if (this.#before !== undefined) return;
    const before = await this.#read();
    await this.#write(IMPORTING);
    this.#before = before;
    // Reactions that begin from here on wait. One that has begun before is seen here.
    const scan = { collection: REACTIONS, index: null, from: null, to: null, after: null, descending: false, limit: 10 };
    const { scans } = await this.#storage.readDocuments({ epoch: this.#epoch, names: [], scans: [scan] });
    const reactions = scans[0]!.documents.map(({ key }) => key);
    if (reactions.length === 0) return;
    await this.undo();
    throw new AnnalsError(
      "reactions-have-begun",
      `expected a store on which no reaction has run, found ${reactions.join(", ")}: it would take what is imported for news`,
      { reactions },
    );
  }

  /** Nothing has come after all. An import that was under way before is under way again. */
  async undo(): Promise<void> {
    if (this.#before !== undefined) await this.#write(this.#before);
    this.#before = undefined;
  }

  /** All up to here has come, if this import has begun or goes on with one that has. */
  async end(position: number): Promise<void> {
    if (this.#before === undefined && (await this.#read()) !== IMPORTING) return;
    await this.#write(JSON.stringify(["imported", String(position)]));
  }

  async #read(): Promise<string | null> {
    const { documents } = await this.#storage.readDocuments({ epoch: this.#epoch, names: [IMPORT_MARK], scans: [] });
    this.#revision = documents[0]?.revision ?? 0;
    return documents[0]?.value ?? null;
  }

  async #write(value: string | null): Promise<void> {
    const expected = [{ ...IMPORT_MARK, revision: this.#revision }];
    const document: Document = { ...IMPORT_MARK, revision: this.#revision + 1, value, postings: [] };
    const conflict = await this.#storage.saveDocuments({ epoch: this.#epoch, expected, clear: [], documents: [document] });
    if (conflict !== null) throw new StorageFailure("storage-busy", "another import is under way", { retryable: true });
    this.#revision = value === null ? 0 : this.#revision + 1;
  }
}
