/** Documents as plainly as can be: a list, and a sort for each scan. Adapters are held to it. */
import type { Document, DocumentConflict, DocumentName, ScannedPage, ScanPlace, StoredDocument } from "../../storage.js";
import { type DocumentsChange, type DocumentsQuestion, type ScanPart, wholeCollection } from "./subject.js";

export class DocumentModel {
  #documents: (Document & { readonly value: string })[] = [];

  change({ expected = [], clear = [], documents = [] }: DocumentsChange): DocumentConflict | null {
    const revisions = expected.map((name) => this.#find(name)?.revision ?? 0);
    const index = expected.findIndex(({ revision }, index) => revision !== revisions[index]);
    if (index >= 0) return { index, actual: revisions[index]! };
    this.#documents = this.#documents.filter(({ collection }) => !clear.includes(collection));
    for (const document of documents) {
      this.#documents = this.#documents.filter((other) => !isSame(other, document));
      const { value } = document;
      if (value !== null) this.#documents.push({ postings: [], ...document, value });
    }
    return null;
  }

  read({ names = [], scans = [] }: DocumentsQuestion): { documents: (StoredDocument | null)[]; scans: ScannedPage[] } {
    const found = names.map((name) => this.#find(name) ?? null);
    return { documents: found.map((found) => found && storedOf(found)), scans: scans.map((scan) => this.#scan(scan)) };
  }

  #find(name: DocumentName) {
    return this.#documents.find((document) => isSame(document, name));
  }

  #scan(scan: ScanPart): ScannedPage {
    const { collection, index, from, to, after, descending, limit } = { ...wholeCollection, ...scan };
    const sign = descending ? -1 : 1;
    const found = this.#documents
      .filter((document) => document.collection === collection)
      .flatMap((document) => placesOf(document, index).map((at) => ({ at, key: document.key, ...storedOf(document) })))
      .filter(({ at }) => (from === null || compare(at, from) >= 0) && (to === null || compare(at, to) < 0))
      .sort((a, b) => sign * comparePlaces(a, b))
      .filter((place) => after === null || sign * comparePlaces(place, after) > 0);
    if (limit === null) return { documents: [], more: false, count: found.length };
    return { documents: found.slice(0, limit), more: found.length > limit, count: 0 };
  }
}

const isSame = (a: DocumentName, b: DocumentName) => a.collection === b.collection && a.key === b.key;

const storedOf = ({ revision, value }: StoredDocument): StoredDocument => ({ revision, value });

function placesOf({ key, postings }: Document, index: string | null): string[] {
  if (index === null) return [key];
  return [...new Set(postings.filter(([name]) => name === index).map(([, value]) => value))];
}

function comparePlaces(a: ScanPlace, b: ScanPlace): number {
  return compare(a.at, b.at) || compare(a.key, b.key);
}

/** By code points. */
function compare(a: string, b: string): number {
  const [left, right] = [pointsOf(a), pointsOf(b)];
  for (const [index, point] of left.entries()) if (point !== right[index]) return point - (right[index] ?? -1);
  return left.length - right.length;
}

const pointsOf = (text: string): number[] => [...text].map((character) => character.codePointAt(0)!);
