/** What becomes of documents. */
import type { Answer, DocumentConflict, DocumentsRead, ScannedPage, ScanPlace } from "../../../storage.js";
import { DocumentModel } from "../document-model.js";
import { fails, same } from "../expect.js";
import type { Rule } from "../rule.js";
import { commit, type DocumentsChange, type DocumentsQuestion, event, pause, randomNumbers, type ScanPart, Subject, type DocumentPart } from "../subject.js";
import type { SaveStep, Step, Story } from "../vector-types.js";
import { documents as stories } from "../vectors.js";
import { nameOf, snapshot, view } from "./words.js";

const pad = (number: number) => String(number).padStart(5, "0");

/** All pages of a scan, one after the other. */
async function pagesOf(subject: Subject, scan: ScanPart): Promise<ScannedPage["documents"]> {
  const documents: ScannedPage["documents"] = [];
  for (let after: ScanPlace | null = null; ;) {
    const page: ScannedPage = (await subject.read({ scans: [{ ...scan, after }] })).scans[0]!;
    documents.push(...page.documents);
    if (!page.more) return documents;
    same(page.documents.length > 0 && documents.length <= 10_000, true, "the pages come to an end");
    const { at, key } = page.documents.at(-1)!;
    after = { at, key };
  }
}

/** Texts of every kind, most of them alike. */
const PARTS = ["a", "a", "b", "é", "\0", "\x01", "\x02", "\uffff", "\ue000", "\ud7ff", "😀", "\u{10ffff}", "'", "1"];

function randomStory(random: (bound: number) => number): { change(): DocumentsChange; read(): DocumentsQuestion } {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  const text = () => Array.from({ length: random(3) }, () => pick(PARTS)).join("");
  const name = () => ({ collection: pick(["a", "b", "agenda"]), key: text() });
  const some = <T>(most: number, make: () => T) => Array.from({ length: random(most + 1) }, make);
  const index = () => pick(["i", "j"]);
  let revision = 0;
  const known: DocumentPart[] = [];
  return {
    change() {
      const documents = some(6, () => ({
        ...name(),
        revision: ++revision,
        value: random(4) === 0 ? null : JSON.stringify(text()),
        postings: some(4, (): [string, string] => [index(), text()]),
      }));
      known.push(...documents);
      const expected = some(2, () => {
        const found: { collection: string; key: string; revision?: number } =
          random(3) > 0 && known.length > 0 ? known.at(-1 - random(Math.min(9, known.length)))! : name();
        return { ...nameOf(found), revision: random(3) > 0 ? (found.revision ?? 0) : 0 };
      });
      return { expected, clear: random(12) === 0 ? [name().collection] : [], documents };
    },
    read() {
      const scans = some(4, () => {
        const scan = {
          collection: name().collection,
          index: random(3) === 0 ? null : index(),
          from: random(2) === 0 ? null : text(),
          to: random(2) === 0 ? null : text(),
          after: random(2) === 0 ? null : { at: text(), key: text() },
          descending: random(2) === 0,
          limit: random(5) === 0 ? null : 1 + random(8),
        };
        // In the order of the keys a place is a key.
        return scan.index === null && scan.after !== null ? { ...scan, after: { ...scan.after, at: scan.after.key } } : scan;
      });
      return { names: some(4, name), scans };
    },
  };
}

export const documents: readonly Rule[] = [
  {
    name: "documents are replaced under their names, and come back byte for byte",
    async run(subject) {
      const found = async (key: string) => {
        return (await subject.slice("Appointment", "none", { snapshot: key })).snapshot;
      };
      const texts = [
        '{"b":1,"a":2}',
        '{"n":1.0,"z":-0}',
        '"\\u0000\\ud83d\\ude00\\/"',
        '"😀 ‮שלום é e\u0301 \u2028"',
        " [ ] ",
        JSON.stringify("x".repeat(300_000)),
      ];
      const keys = ["k", "K", "'; --", '["a","b"]', "__proto__", "", "😀", "k ", "x".repeat(2000)];
      const documents = keys.map((key, index) => ({ ...snapshot(key, index + 1), value: texts[index % texts.length]! }));
      await subject.save(...documents);
      // Another collection has other documents.
      await subject.save({ collection: "others", key: "k", revision: 99, value: "[]" });
      for (const { key, revision, value } of documents) same(await found(key), { revision, value });
      // A later one may be of an earlier revision.
      await subject.save(snapshot("k", 5, '"first"'), snapshot("k", 3, '"second"'));
      same(await found("k"), { revision: 3, value: '"second"' });
      same(await found("K"), { revision: 2, value: texts[1] });
      await subject.save();
    },
  },
  ...stories.map(({ name, steps }) => ({
    name: `documents: ${name}`,
    run: (subject: Subject) => tell(steps, subject),
  })),
  {
    name: "documents are what a list of them would be, whatever is written, cleared, expected and read",
    async run(subject, { capabilities, another }) {
      // What others are held to is held to the stories itself.
      for (const { steps } of stories) await tell(steps, new DocumentModel());
      const adapters = [subject];
      if (capabilities.connections === true) adapters.push(await another());
      for (const seed of [1, 2, 3]) {
        const random = randomNumbers(seed);
        const story = randomStory(random);
        const model = new DocumentModel();
        same(await subject.change({ clear: ["a", "b", "agenda"] }), null);
        for (let step = 0; step < 120; step += 1) {
          const what = `seed ${seed}, step ${step}: `;
          const change = story.change();
          const adapter = adapters[random(adapters.length)]!;
          same(await adapter.change(change), model.change(change), what + JSON.stringify(change));
          const read = story.read();
          const { documents, scans } = await adapters[random(adapters.length)]!.read(read);
          same({ documents, scans }, model.read(read), what + JSON.stringify(read));
        }
      }
    },
  },
  {
    name: "of thousands of documents every page is right, as they come and as they go",
    async run(subject) {
      const random = randomNumbers(11);
      const model = new DocumentModel();
      const numbers = Array.from({ length: 3000 }, (_, number) => number);
      for (let at = numbers.length; at-- > 1;) {
        const other = random(at + 1);
        [numbers[at], numbers[other]] = [numbers[other]!, numbers[at]!];
      }
      const documents = numbers.map((number) => view(pad(number), 1, [["of", `d${number % 7}`]]));
      const check = async () => {
        for (const index of [null, "of"]) {
          for (const descending of [false, true]) {
            const scan = { collection: "agenda", index, descending, limit: 700 };
            const expected = model.read({ scans: [{ ...scan, limit: 5000 }] }).scans[0]!.documents;
            same(await pagesOf(subject, scan), expected, JSON.stringify(scan));
          }
          const counts = [null, "d3", "d4", pad(1000), pad(2500)].map((from) => ({ collection: "agenda", index, from, limit: null }));
          const { scans } = await subject.read({ scans: counts });
          same(scans, model.read({ scans: counts }).scans);
        }
      };
      const change = async (documents: readonly DocumentPart[]) => {
        await subject.change({ documents });
        model.change({ documents });
      };
      await change(documents.slice(0, 2500));
      await change(documents.slice(2500));
      await check();
      await change(documents.filter(({ key }) => Number(key) % 3 > 0).map((document) => ({ ...document, value: null })));
      await check();
      await change(documents.filter(({ key }) => Number(key) < 1500).map(({ key }) => view(key, 2, [["of", "d3"]])));
      await check();
    },
  },
  {
    name: "documents are read at one moment, with the head",
    async run(subject) {
      const both = ["x", "y"];
      let revision = 0;
      const write = async () => {
        while (revision < 30) {
          revision += 1;
          const postings = [["of", pad(revision)]] as const;
          await subject.change({ documents: both.map((key) => view(key, revision, postings)) });
          await subject.accept(commit(`a-${revision}`, 0, [event()]));
          // Where it is answered at once, readers wait for this.
          await pause();
        }
      };
      const read = async () => {
        let head = 0;
        while (revision < 30) {
          const scans = [{ collection: "agenda" }, { collection: "agenda", index: "of" }];
          const found = await subject.read({ names: both.map((key) => nameOf(view(key))), scans });
          const [one, ...others] = [...found.documents, ...found.scans.flatMap(({ documents }) => documents)];
          if (one) {
            same(others.map((other) => other?.revision), Array(5).fill(one.revision));
            same(found.scans[1]!.documents.map(({ at }) => at), Array(2).fill(pad(one.revision)));
            // An append follows each change.
            same([one.revision - 1, one.revision].includes(found.head), true, `head ${found.head} at ${one.revision}`);
          }
          same(found.head >= head, true);
          head = found.head;
          await pause();
        }
      };
      await Promise.all([write(), read(), read()]);
      same((await subject.read({})).head, 30);
    },
  },
  {
    name: "of requests under way together that expect the same one is kept",
    async run(subject) {
      const change = (own: number) =>
        subject.change({
          expected: [{ ...nameOf(view("x")), revision: 0 }],
          documents: [view("x", own + 1), view(`own ${own}`, 1)],
        });
      const answers = await Promise.all(Array.from({ length: 10 }, (_, own) => change(own)));
      const winner = answers.indexOf(null);
      same(answers, answers.map((_, own) => (own === winner ? null : { index: 0, actual: winner + 1 })));
      const { documents } = (await subject.read({ scans: [{ collection: "agenda" }] })).scans[0]!;
      same(documents.map(({ key }) => key), [`own ${winner}`, "x"]);
    },
  },
  {
    name: "a lease: who was taken for dead can't write any more, and changes nothing by trying",
    run: (subject) => takeOver(subject, subject),
  },
  {
    name: "documents of another store are neither read nor changed",
    async run(subject) {
      await subject.save(view("x", 1, [["of", "v"]]));
      const foreign = new Subject(subject.storage, { ...subject.info, epoch: `${subject.epoch}x` });
      const refusal = { code: "foreign-epoch", retryable: false, mayBeApplied: false };
      const expected = [{ ...nameOf(view("x")), revision: 9 }];
      await fails(() => foreign.change({ documents: [view("x", 2)] }), refusal);
      await fails(() => foreign.change({ clear: ["agenda"] }), refusal);
      await fails(() => foreign.change({ expected }), refusal);
      await fails(() => foreign.change({}), refusal);
      await fails(() => foreign.read({ names: [nameOf(view("x"))] }), refusal);
      await fails(() => foreign.read({ scans: [{ collection: "agenda", limit: null }] }), refusal);
      const { documents, scans } = await subject.read({ names: [nameOf(view("x"))], scans: [{ collection: "agenda", index: "of" }] });
      same([documents[0]?.revision, scans[0]!.documents.length], [1, 1]);
    },
  },
  {
    name: "documents and their postings are there after closing",
    async run(subject) {
      await subject.save(view("x", 1, [["of", "v"]]), view("y", 2, [["of", "w"]]), view("z", 3, [["of", "v"]]));
      await subject.storage.close();
      await subject.storage.open();
      same(await subject.change({ documents: [view("y", 4, [["of", "u"]]), { ...view("z"), value: null }] }), null);
      await subject.storage.close();
      await subject.storage.open();
      const [found] = (await subject.read({ scans: [{ collection: "agenda", index: "of" }] })).scans;
      same(found!.documents.map(({ at, key, revision }) => [at, key, revision]), [["u", "y", 4], ["v", "x", 1]]);
    },
  },
];

/** One owner of a lease is taken for dead by another, and comes back. */
export async function takeOver(owner: Subject, successor: Subject): Promise<void> {
  const lease = { collection: "leases", key: "mails" };
  const work = (subject: Subject, expected: number, handled: string) =>
    subject.change({
      expected: [{ ...lease, revision: expected }],
      documents: [
        { ...lease, revision: expected + 1, value: JSON.stringify(handled) },
        { collection: "handled", key: handled, revision: 1, value: "1" },
      ],
    });
  same(await work(owner, 0, "one"), null);
  same(await work(owner, 1, "two"), null);
  // The successor has read what the owner wrote, and writes.
  const [found] = (await successor.read({ names: [lease] })).documents;
  same(found, { revision: 2, value: '"two"' });
  same(await work(successor, 2, "three"), null);
  same(await work(owner, 2, "late"), { index: 0, actual: 3 });
  same(await work(owner, 0, "later"), { index: 0, actual: 3 });
  same(await work(successor, 3, "four"), null);
  for (const subject of [owner, successor]) {
    const { documents, scans } = await subject.read({ names: [lease], scans: [{ collection: "handled" }] });
    same(documents, [{ revision: 4, value: '"four"' }]);
    same(scans[0]!.documents.map(({ key }) => key), ["four", "one", "three", "two"]);
  }
}

interface Keeper {
  change(change: DocumentsChange): Answer<DocumentConflict | null>;
  read(question: DocumentsQuestion): Answer<Omit<DocumentsRead, "head">>;
}

/** Tells a story to whatever keeps documents. */
export async function tell(steps: Story["steps"], documents: Keeper): Promise<void> {
  for (const step of steps) {
    const what = JSON.stringify(step).slice(0, 500);
    if (isSave(step)) {
      const { conflict } = step;
      same(await documents.change(changeOf(step.save)), conflict && { index: conflict[0], actual: conflict[1] }, what);
    } else if ("names" in step) {
      const names = step.names.map(([collection, key]) => ({ collection, key }));
      const read = await documents.read({ names });
      same(read.documents, step.found.map((found) => found && { revision: found[0], value: found[1] }), what);
    } else {
      const { page = [], more = false, count = 0 } = step;
      const { after, ...scan } = step.scan;
      const place = after === undefined ? {} : { after: { at: after[0], key: after[1] } };
      const found = page.map(([at, key, revision, value]) => ({ at, key, revision, value }));
      const read = await documents.read({ scans: [{ ...scan, ...place }] });
      same(read.scans, [{ documents: found, more, count }], what);
    }
  }
}

const isSave = (step: Step): step is SaveStep => "save" in step;

function changeOf({ expected = [], clear = [], documents }: SaveStep["save"]): DocumentsChange {
  return {
    expected: expected.map(([collection, key, revision]) => ({ collection, key, revision })),
    clear,
    documents: documents.map(([collection, key, revision, value, postings]) => ({ collection, key, revision, value, postings })),
  };
}
