// What every storage adapter does with documents: part of the list in adapter-rules.mjs.

import { DocumentModel } from "./document-model.mjs";
import { stories, tell } from "./document-vectors.mjs";
import { fails, same } from "./expect.mjs";
import { Subject, commit, event, randomNumbers } from "./subject.mjs";

const view = (key, revision = 1, postings = [], value = `{"at":${revision}}`) => ({
  collection: "agenda",
  key,
  revision,
  value,
  postings,
});
const nameOf = ({ collection, key }) => ({ collection, key });
const pad = (number) => String(number).padStart(5, "0");

/** All pages of a scan, one after the other. */
async function pagesOf(subject, scan) {
  const documents = [];
  for (let after = null; ;) {
    const [page] = (await subject.read({ scans: [{ ...scan, after }] })).scans;
    documents.push(...page.documents);
    if (!page.more) return documents;
    const { at, key } = page.documents.at(-1);
    after = { at, key };
  }
}

/** Texts of every kind, most of them alike. */
const PARTS = ["a", "a", "b", "é", "\0", "\x01", "\x02", "\uffff", "\ue000", "\ud7ff", "😀", "\u{10ffff}", "'", "1"];

function randomStory(random) {
  const pick = (list) => list[random(list.length)];
  const text = () => Array.from({ length: random(3) }, () => pick(PARTS)).join("");
  const name = () => ({ collection: pick(["a", "b", "agenda"]), key: text() });
  const some = (most, make) => Array.from({ length: random(most + 1) }, make);
  const index = () => pick(["i", "j"]);
  let revision = 0;
  const known = [];
  return {
    change() {
      const documents = some(6, () => ({
        ...name(),
        revision: ++revision,
        value: random(4) === 0 ? null : JSON.stringify(text()),
        postings: some(4, () => [index(), text()]),
      }));
      known.push(...documents);
      const expected = some(2, () => {
        const { collection, key, revision } = random(3) > 0 && known.length > 0 ? known.at(-1 - random(Math.min(9, known.length))) : name();
        return { collection, key, revision: random(3) > 0 ? (revision ?? 0) : 0 };
      });
      return { expected, clear: random(12) === 0 ? [name().collection] : [], documents };
    },
    read() {
      const scans = some(4, () => ({
        collection: name().collection,
        index: random(3) === 0 ? null : index(),
        from: random(2) === 0 ? null : text(),
        to: random(2) === 0 ? null : text(),
        after: random(2) === 0 ? null : { at: text(), key: text() },
        descending: random(2) === 0,
        limit: random(5) === 0 ? null : 1 + random(8),
      }));
      // In the order of the keys a place is a key.
      for (const scan of scans) if (scan.index === null && scan.after !== null) scan.after.at = scan.after.key;
      return { names: some(4, name), scans };
    },
  };
}

export const documentRules = [
  ...stories.map(({ name, steps }) => ({
    name: `documents: ${name}`,
    run: (subject) => tell(steps, subject),
  })),
  {
    name: "documents are what a list of them would be, whatever is written, cleared, expected and read",
    async run(subject, { another }) {
      const adapters = [subject];
      if (another !== undefined) adapters.push(await Subject.open(await another()));
      for (const seed of [1, 2, 3]) {
        const random = randomNumbers(seed);
        const story = randomStory(random);
        const model = new DocumentModel();
        same(await subject.change({ clear: ["a", "b", "agenda"] }), null);
        for (let step = 0; step < 120; step += 1) {
          const what = `seed ${seed}, step ${step}: `;
          const change = story.change();
          const adapter = adapters[random(adapters.length)];
          same(await adapter.change(change), model.change(change), what + JSON.stringify(change));
          const read = story.read();
          const { documents, scans } = await adapters[random(adapters.length)].read(read);
          same({ documents, scans }, model.read(read), what + JSON.stringify(read));
        }
      }
      for (const other of adapters.slice(1)) await other.storage.close();
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
        [numbers[at], numbers[other]] = [numbers[other], numbers[at]];
      }
      const documents = numbers.map((number) => view(pad(number), 1, [["of", `d${number % 7}`]]));
      const check = async () => {
        for (const index of [null, "of"]) {
          for (const descending of [false, true]) {
            const scan = { collection: "agenda", index, descending, limit: 700 };
            const expected = model.read({ scans: [{ ...scan, limit: 5000 }] }).scans[0].documents;
            same(await pagesOf(subject, scan), expected, JSON.stringify(scan));
          }
          const counts = [null, "d3", "d4", pad(1000), pad(2500)].map((from) => ({ collection: "agenda", index, from, limit: null }));
          const { scans } = await subject.read({ scans: counts });
          same(scans, model.read({ scans: counts }).scans);
        }
      };
      const change = async (documents) => {
        await subject.change({ documents });
        model.change({ documents });
      };
      await change(documents.slice(0, 2500));
      await change(documents.slice(2500));
      await check();
      await change(documents.filter(({ key }) => key % 3 > 0).map((document) => ({ ...document, value: null })));
      await check();
      await change(documents.filter(({ key }) => key < 1500).map(({ key }) => view(key, 2, [["of", "d3"]])));
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
          const postings = [["of", pad(revision)]];
          await subject.change({ documents: both.map((key) => view(key, revision, postings)) });
          await subject.accept(commit(`a-${revision}`, 0, [event()]));
        }
      };
      const read = async () => {
        let head = 0;
        while (revision < 30) {
          const scans = [{ collection: "agenda" }, { collection: "agenda", index: "of" }];
          const found = await subject.read({ names: both.map((key) => nameOf(view(key))), scans });
          const [one, ...others] = [...found.documents, ...found.scans.flatMap(({ documents }) => documents)];
          if (one !== null) {
            same(others.map(({ revision }) => revision), Array(5).fill(one.revision));
            same(found.scans[1].documents.map(({ at }) => at), Array(2).fill(pad(one.revision)));
            // An append follows each change.
            same([one.revision - 1, one.revision].includes(found.head), true, `head ${found.head} at ${one.revision}`);
          }
          same(found.head >= head, true);
          head = found.head;
          // Where it is answered at once, the writer waits.
          await new Promise((resolve) => setTimeout(resolve, 0));
        }
      };
      await Promise.all([write(), read(), read()]);
      same((await subject.read({})).head, 30);
    },
  },
  {
    name: "of requests under way together that expect the same one is kept",
    async run(subject) {
      const change = (own) =>
        subject.change({
          expected: [{ ...nameOf(view("x")), revision: 0 }],
          documents: [view("x", own + 1), view(`own ${own}`, 1)],
        });
      const answers = await Promise.all(Array.from({ length: 10 }, (_, own) => change(own)));
      const winner = answers.indexOf(null);
      same(answers, answers.map((_, own) => (own === winner ? null : { index: 0, actual: winner + 1 })));
      const { documents } = (await subject.read({ scans: [{ collection: "agenda" }] })).scans[0];
      same(documents.map(({ key }) => key), [`own ${winner}`, "x"]);
    },
  },
  {
    name: "documents of another store are neither read nor changed",
    async run(subject) {
      await subject.save(view("x", 1, [["of", "v"]]));
      const foreign = Object.assign(new Subject(), { storage: subject.storage, info: { epoch: `${subject.epoch}x` } });
      const refusal = { code: "foreign-epoch", retryable: false, mayBeApplied: false };
      const expected = [{ ...nameOf(view("x")), revision: 9 }];
      await fails(() => foreign.change({ documents: [view("x", 2)] }), refusal);
      await fails(() => foreign.change({ clear: ["agenda"] }), refusal);
      await fails(() => foreign.change({ expected }), refusal);
      await fails(() => foreign.change({}), refusal);
      await fails(() => foreign.read({ names: [nameOf(view("x"))] }), refusal);
      await fails(() => foreign.read({ scans: [{ collection: "agenda", limit: null }] }), refusal);
      const { documents, scans } = await subject.read({ names: [nameOf(view("x"))], scans: [{ collection: "agenda", index: "of" }] });
      same([documents[0].revision, scans[0].documents.length], [1, 1]);
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
      same(found.documents.map(({ at, key, revision }) => [at, key, revision]), [["u", "y", 4], ["v", "x", 1]]);
    },
  },
  {
    name: "another adapter on the same store sees what documents are, and what is expected of them",
    needs: "another",
    async run(subject, { another }) {
      const other = await Subject.open(await another());
      await subject.save(view("x", 1, [["of", "v"]]));
      const expected = [{ ...nameOf(view("x")), revision: 1 }];
      same(await other.change({ expected, documents: [view("x", 2, [["of", "w"]])] }), null);
      same(await subject.change({ expected, documents: [view("x", 3)] }), { index: 0, actual: 2 });
      for (const adapter of [subject, other]) {
        const scans = [{ collection: "agenda", index: "of" }];
        same((await adapter.read({ scans })).scans[0].documents, [{ at: "w", key: "x", revision: 2, value: '{"at":2}' }]);
      }
      await other.storage.close();
    },
  },
  {
    name: "adapters that count in one document lose nothing",
    needs: "another",
    async run(subject, { another }) {
      const others = [subject, await Subject.open(await another()), await Subject.open(await another())];
      await Promise.all(others.map((one) => countTo(one, 15)));
      const { documents } = await subject.read({ names: [nameOf(view("sum"))] });
      same(documents[0], { revision: 45, value: "45" });
      for (const other of others.slice(1)) await other.storage.close();
    },
  },
];

/** Adds one to a document that others add to as well, so many times. */
export async function countTo(subject, times) {
  const name = nameOf(view("sum"));
  for (let done = 0; done < times;) {
    const [found] = (await subject.read({ names: [name] })).documents;
    const revision = found?.revision ?? 0;
    const documents = [view("sum", revision + 1, [], String(Number(found?.value ?? 0) + 1))];
    const conflict = await subject.change({ expected: [{ ...name, revision }], documents });
    if (conflict === null) done += 1;
    else same([conflict.index, conflict.actual > revision], [0, true]);
  }
}
