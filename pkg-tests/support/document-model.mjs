// Documents as plainly as can be: a list, and a sort for each scan. Adapters are held to it.

export class DocumentModel {
  #documents = [];

  change({ expected = [], clear = [], documents = [] }) {
    const revisions = expected.map((name) => this.#find(name)?.revision ?? 0);
    const index = expected.findIndex(({ revision }, index) => revision !== revisions[index]);
    if (index >= 0) return { index, actual: revisions[index] };
    this.#documents = this.#documents.filter(({ collection }) => !clear.includes(collection));
    for (const document of documents) {
      this.#documents = this.#documents.filter((other) => !isSame(other, document));
      if (document.value !== null) this.#documents.push({ postings: [], ...document });
    }
    return null;
  }

  read({ names = [], scans = [] }) {
    return {
      documents: names.map((name) => this.#find(name)).map((found) => found && storedOf(found)),
      scans: scans.map((scan) => this.#scan(scan)),
    };
  }

  #find(name) {
    return this.#documents.find((document) => isSame(document, name)) ?? null;
  }

  #scan({ collection, index = null, from = null, to = null, after = null, descending = false, limit = 1000 }) {
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

const isSame = (a, b) => a.collection === b.collection && a.key === b.key;

const storedOf = ({ revision, value }) => ({ revision, value });

function placesOf({ key, postings }, index) {
  if (index === null) return [key];
  return [...new Set(postings.filter(([name]) => name === index).map(([, value]) => value))];
}

function comparePlaces(a, b) {
  return compare(a.at, b.at) || compare(a.key, b.key);
}

/** By code points. */
function compare(a, b) {
  const [left, right] = [[...a], [...b]].map((text) => text.map((character) => character.codePointAt(0)));
  for (const [index, point] of left.entries()) if (point !== right[index]) return point - (right[index] ?? -1);
  return left.length - right.length;
}
