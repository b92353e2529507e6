/** The adapter under the engine itself, with the judge that it will have. */
import { aggregate, AnnalsError, Engine, type Message, type Refusal, refuse, StorageFailure } from "annals";
import type { OpenOptions } from "annals";
import { projection } from "annals/projections";
import { reaction } from "annals/reactions";
import type { Answer, StorageAdapter } from "../../../storage.js";
import { ensure, fails, same } from "../expect.js";
import type { Rule } from "../rule.js";
import { type Subject, until } from "../subject.js";
import { NAMES } from "./texts.js";
import { revisionsOf, upTo } from "./words.js";

type Add = Message<"Add", { readonly by: number; readonly text?: unknown }>;
type Added = Message<"Added", { readonly by: number; readonly text?: unknown }>;
type Sum = { readonly sum: number; readonly count: number };

const counterOf = (type: string) =>
  aggregate<Sum, Add, Added>(type, {
    initial: () => ({ sum: 0, count: 0 }),
    decide: (_, { data }) => [{ type: "Added", data }],
    evolve: { Added: ({ sum, count }, { data }) => ({ sum: sum + data.by, count: count + 1 }) },
    tags: ({ data }) => [`by:${data.by}`, type],
    snapshots: { version: 1, every: 7 },
  });

const counter = counterOf("Counter");

type Slot = { readonly slot: string };

/** A slot is booked once, whatever the stream. */
const booking = aggregate<null, Message<"Book", Slot>, Message<"Booked", Slot>, Refusal<"taken", { by: string }>>("Booking", {
  initial: () => null,
  reads: ({ data }) => [`slot:${data.slot}`],
  decide: (_, { data }, { others }) =>
    others.length > 0 ? refuse("taken", { by: others[0]!.stream.id }) : [{ type: "Booked", data }],
  evolve: { Booked: () => null },
  tags: ({ data }) => [`slot:${data.slot}`],
});

const sums = projection<{ readonly sum: number }, Added>("sums", {
  version: 1,
  kind: "inline",
  on: {
    Added: (view, { data, stream }) => view.update(stream.id, ({ sum } = { sum: 0 }) => ({ sum: sum + data.by })),
  },
  indexes: { size: ({ sum }) => sum },
});

const add = (by = 1, text?: unknown): Add => ({ type: "Add", data: text === undefined ? { by } : { by, text } });
const book = (slot: string) => ({ type: "Book", data: { slot } }) as const;

/** A store that does not notify is looked at often. */
const limits = { pollInterval: 20 };

/** Runs engines, and closes them whatever comes of it. */
async function withEngines(
  storages: readonly StorageAdapter[],
  run: (...engines: Engine[]) => Promise<void>,
  options: Partial<OpenOptions> = {},
): Promise<void> {
  const engines: Engine[] = [];
  try {
    for (const storage of storages) {
      engines.push(await Engine.open({ storage, aggregates: [counter, booking], limits, ...options }));
    }
    await run(...engines);
  } finally {
    for (const engine of engines) await engine.close();
  }
}

/** A command id that nobody else has. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

async function count(subject: Subject): Promise<number> {
  return (await subject.load({})).head;
}

/** The store, of which the next answers to appends are lost: before the store has them, or after. */
function losing(storage: StorageAdapter, losses: ("before" | "after")[]): StorageAdapter {
  const lost = () => new StorageFailure("storage-failed", "the answer is lost", { mayBeApplied: true, retryable: true });
  return {
    open: () => storage.open(),
    async append(request, judge) {
      const loss = losses.shift();
      if (loss === "before") throw lost();
      const verdicts = await storage.append(request, judge);
      if (loss === "after") throw lost();
      return verdicts;
    },
    load: (request) => storage.load(request),
    readLog: (request) => storage.readLog(request),
    saveDocuments: (request) => storage.saveDocuments(request),
    readDocuments: (request) => storage.readDocuments(request),
    close: () => storage.close(),
  };
}

/** The store, which can't keep documents of views while that is so: before it has them, or after. */
function withoutRoom(storage: StorageAdapter, room: { missing: "before" | "after" | null }): StorageAdapter {
  const refusal = () => new StorageFailure("storage-full", "there is no room", { mayBeApplied: room.missing === "after" });
  return {
    ...losing(storage, []),
    async saveDocuments(request) {
      const refuses = room.missing !== null && request.documents.some(({ collection }) => collection.startsWith("view/"));
      if (refuses && room.missing === "before") throw refusal();
      const conflict = await storage.saveDocuments(request);
      if (refuses) throw refusal();
      return conflict;
    },
  };
}

/** The store behind a gate: while it is closed requests wait before it, and nothing is under way beyond it. */
class Gate {
  readonly storage: StorageAdapter;
  /** What waits before the gate. */
  readonly waiting: (keyof StorageAdapter)[] = [];
  #isClosed = false;
  #beyond = 0;
  #open: () => void = () => {};
  #opened: Promise<void> = Promise.resolve();

  constructor(storage: StorageAdapter) {
    const pass = async <T>(name: keyof StorageAdapter, ask: () => Answer<T>): Promise<T> => {
      if (this.#isClosed) this.waiting.push(name);
      await this.#opened;
      this.#beyond += 1;
      try {
        return await ask();
      } finally {
        this.#beyond -= 1;
      }
    };
    this.storage = {
      open: () => pass("open", () => storage.open()),
      append: (request, judge) => pass("append", () => storage.append(request, judge)),
      load: (request) => pass("load", () => storage.load(request)),
      readLog: (request) => pass("readLog", () => storage.readLog(request)),
      saveDocuments: (request) => pass("saveDocuments", () => storage.saveDocuments(request)),
      readDocuments: (request) => pass("readDocuments", () => storage.readDocuments(request)),
      close: () => storage.close(),
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#opened = new Promise((resolve) => (this.#open = resolve));
    await until(() => this.#beyond === 0);
  }

  open(): void {
    this.#isClosed = false;
    this.#open();
  }
}

const TEN_YEARS = 3653 * 24 * 60 * 60 * 1000;

export const engines: readonly Rule[] = [
  {
    name: "under an engine: commands given together are each applied once, and states are what their events say",
    async run(subject) {
      await withEngines([subject.storage], async (engine) => {
        const outcomes = await Promise.all(
          upTo(48).flatMap((by) => [engine.execute(counter, "hot", add(by)), engine.execute(counter, `c-${by}`, add(by))]),
        );
        const hot = outcomes.filter((_, index) => index % 2 === 0).map(({ revision }) => revision);
        same(hot.sort((a, b) => a - b), upTo(48));
        const { state, events } = await engine.history(counter, "hot");
        same(state, { sum: (48 * 49) / 2, count: 48 });
        same(events.map(({ revision }) => revision), upTo(48));
        for (const by of [1, 20, 48]) same((await engine.state(counter, `c-${by}`)).state, { sum: by, count: 1 });
      });
      // And by an engine that has nothing at hand.
      await withEngines([subject.storage], async (engine) => {
        same(await engine.state(counter, "hot"), { state: { sum: 1176, count: 48 }, revision: 48 });
        const seen: unknown[] = [];
        for await (const { type, data } of engine.events({ follow: false, tags: ["by:7"] })) seen.push([type, data]);
        same(seen, Array(2).fill(["Added", { by: 7 }]));
      });
    },
  },
  {
    name: "under engines on several adapters: no command is lost or applied twice, and each slot is booked once",
    needs: "connections",
    async run(subject, { reopen }) {
      await withEngines([subject.storage, await reopen(), await reopen()], async (...all) => {
        const slots = upTo(8).map((slot) => `slot ${slot}`);
        const results = await Promise.all(
          all.flatMap((engine, index) => [
            ...upTo(10).map(() => engine.execute(counter, "hot", add())),
            ...slots.map((slot) => engine.attempt(booking, `${slot} by ${index}`, book(slot))),
          ]),
        );
        const attempts = results.filter((result): result is Extract<typeof result, { ok: boolean }> => "ok" in result);
        same(attempts.filter(({ ok }) => ok).length, slots.length, "slots that were booked");
        for (const engine of all) same((await engine.state(counter, "hot")).state, { sum: 30, count: 30 });
        const booked = [];
        for await (const event of all[0]!.events({ follow: false, types: ["Booked"] })) booked.push((event.data as Slot).slot);
        same(booked.sort(), slots);
      });
    },
  },
  {
    name: "under an engine: every revision that may be expected is accepted where it is so, and refused with the stream's where not",
    async run(subject) {
      await withEngines([subject.storage], async (engine) => {
        const ask = (id: string, expectedRevision: number | "any" | "no-stream" | "stream-exists") =>
          engine.execute(counter, id, add(), { expectedRevision });
        for (const expected of ["stream-exists", 1, 7] as const) {
          await fails(() => ask("a", expected), { code: "wrong-revision", details: { stream: { type: "Counter", id: "a" }, actual: 0 } });
        }
        same(await count(subject), 0);
        for (const [index, expected] of (["no-stream", "stream-exists", "any", 3] as const).entries()) {
          same((await ask("a", expected)).revision, index + 1, `expected ${expected}`);
        }
        same((await ask("b", 0)).revision, 1);
        for (const expected of ["no-stream", 0, 3, 5] as const) {
          await fails(() => ask("a", expected), { code: "wrong-revision", details: { stream: { type: "Counter", id: "a" }, actual: 4 } });
        }
        same(await count(subject), 5);
      });
    },
  },
  {
    name: "under an engine: a command that is given again gets its first outcome, and one with other content is told",
    async run(subject) {
      const [commandId, first] = [newId(), { by: 3, text: "first" }];
      await withEngines([subject.storage], async (engine) => {
        const outcome = await engine.execute(counter, "a", add(3, "first"), { commandId });
        same([outcome.duplicate, outcome.revision, outcome.events.map(({ data }) => data)], [false, 1, [first]]);
        await engine.execute(counter, "a", add(5));
      });
      await withEngines([subject.storage], async (engine) => {
        const again = await engine.execute(counter, "a", add(3, "first"), {
          commandId,
          issuedAt: new Date(Date.now() + TEN_YEARS),
        });
        same([again.duplicate, again.revision, again.events.map(({ data }) => data)], [true, 1, [first]]);
        for (const [id, command] of [["a", add(4, "first")], ["b", add(3, "first")]] as const)
          await fails(() => engine.execute(counter, id, command, { commandId }), { code: "command-id-reused" });
        same((await engine.state(counter, "a")).revision, 2);
      });
    },
  },
  {
    name: "under an engine: an append whose answer is lost is sent again, and is applied once",
    async run(subject) {
      const losses: ("before" | "after")[] = [];
      await withEngines([losing(subject.storage, losses)], async (engine) => {
        for (const [index, loss] of ([["before"], ["after"], ["after", "before"], ["before", "after"]] as const).entries()) {
          losses.push(...loss);
          const outcomes = await Promise.all([engine.execute(counter, "a", add()), engine.execute(counter, "b", add())]);
          same(outcomes.map(({ revision }) => revision), [index + 1, index + 1], `lost ${loss.join(", then ")}`);
        }
      });
      same(await count(subject), 8);
    },
  },
  {
    name: "under an engine: payloads come back as they were given, or are refused with nothing stored",
    async run(subject) {
      const kept = [
        {},
        [],
        "",
        0,
        -1.5,
        Number.MAX_SAFE_INTEGER,
        1e300,
        null,
        true,
        { z: 1, a: { y: 2, b: 3 }, "": 4 },
        JSON.parse('{"__proto__":{"x":1},"constructor":2}') as unknown,
        "\0 \u001f \u007f \u2028 \ufeff é e\u0301 😀 ‮שלום '\"\\/",
        "x".repeat(1024 * 1024 - 100),
        JSON.parse("[".repeat(110) + "]".repeat(110)) as unknown,
      ];
      const refused = ["\ud800", "a\udc00b", { "\ud83d": 1 }, Number.MAX_SAFE_INTEGER + 1, NaN, Infinity, new Date(0), 1n, () => 1, "x".repeat(1024 * 1024)];
      await withEngines([subject.storage], async (engine) => {
        for (const text of kept) await engine.execute(counter, "a", add(1, text));
        for (const text of refused) await fails(() => engine.execute(counter, "a", add(1, text)), { code: "invalid-payload" });
      });
      await withEngines([subject.storage], async (engine) => {
        const { events } = await engine.history(counter, "a");
        same(events.map(({ data }) => data.text), kept);
        // Of objects the order of the keys too.
        same(JSON.stringify(events[9]!.data.text), JSON.stringify(kept[9]));
      });
      same(await count(subject), kept.length);
    },
  },
  {
    name: "under an engine: names of aggregates, streams, projections and actors are data, or refused with a code",
    async run(subject) {
      const counters = NAMES.map(counterOf);
      // What a store finds together may be as long as three names, and some refuse that.
      const indexOf = (name: string) => name.slice(-300);
      const projections = NAMES.map((name) =>
        projection<{ readonly actor: string | null }, Added>(name, {
          version: 1,
          on: { Added: (view, { stream, actor }) => view.set(stream.id, { actor }) },
          indexes: { [indexOf(name)]: () => "v" },
        }),
      );
      await withEngines(
        [subject.storage],
        async (engine) => {
          const give = (counter: (typeof counters)[number], id: string) =>
            engine.execute(counter, id, add(), { actor: id, correlationId: id, causationId: id, metadata: { [id]: id } });
          // Together, for each append is looked at by every projection.
          await Promise.all(counters.flatMap((counter, index) => [NAMES[index]!, NAMES.at(index - 1)!].map((id) => give(counter, id))));
          for (const [index, name] of NAMES.entries()) {
            const { events } = await engine.history(counters[index]!, name);
            same(events.map(({ actor, correlationId, metadata, stream }) => [actor, correlationId, metadata, stream.type]), [[name, name, JSON.parse(JSON.stringify({ [name]: name })), name]]);
            const tagged: string[] = [];
            for await (const { stream } of engine.events({ follow: false, tags: [name] })) tagged.push(stream.type);
            same(tagged, [name, name]);
            const view = engine.view(projections[index]!);
            same(await view.get(name, { latest: true }), { actor: name });
            same(await view.count({ index: indexOf(name), equals: "v" }), NAMES.length);
          }
          for (const bad of ["a\0b", "a\nb", "\ud800"]) {
            const error = await fails(() => engine.execute(counters[0]!, bad, add()), {});
            ensure(AnnalsError.is(error), `${JSON.stringify(bad)} is refused with a code`);
          }
        },
        { aggregates: counters, projections },
      );
      same(await count(subject), 2 * NAMES.length);
    },
  },
  {
    name: "under an engine: an inline view has a command's events when its outcome comes, by key and by index",
    async run(subject, { capabilities, reopen }) {
      const storages = capabilities.connections === true ? [subject.storage, await reopen()] : [subject.storage];
      await withEngines(
        storages,
        async (...all) => {
          for (let round = 1; round <= 6; round += 1) {
            const engine = all[round % all.length]!;
            const outcomes = await Promise.all(["a", "b"].map((id) => engine.execute(counter, id, add(id === "a" ? 1 : 2))));
            same(outcomes.map(({ behind }) => behind), [[], []]);
            const view = engine.view(sums);
            same([await view.get("a"), await view.get("b")], [{ sum: round }, { sum: 2 * round }]);
            const { documents } = await view.list({ index: "size", from: round });
            same(documents.map(({ key }) => key), ["a", "b"]);
            for (const other of all) same(await other.view(sums).get("a", { latest: true }), { sum: round });
          }
        },
        { projections: [sums] },
      );
    },
  },
  {
    name: "under an engine: an outcome whose inline view could not be kept names it in `behind`, and its events are there",
    async run(subject) {
      const room: { missing: "before" | "after" | null } = { missing: null };
      const behind = [{ projection: "sums", reason: "storage-full: there is no room" }];
      let count = 0;
      const give = async (engine: Engine, expected: readonly unknown[], what: string) => {
        const outcome = await engine.execute(counter, "a", add());
        count += 1;
        same([outcome.revision, outcome.behind], [count, expected], what);
        same(await engine.state(counter, "a"), { state: { sum: count, count }, revision: count }, what);
      };
      for (const missing of ["after", "before"] as const) {
        await withEngines(
          [withoutRoom(subject.storage, room)],
          async (engine) => {
            const view = engine.view(sums);
            const expectKept = async (what: string) => {
              same(await view.get("a", { latest: true }), { sum: count }, what);
              same(await view.count({ index: "size", equals: count }), 1, what);
            };
            if (count > 0) await expectKept("the view, for another engine");
            await give(engine, [], "with room");
            room.missing = missing;
            for (const time of ["first", "second"]) await give(engine, behind, `without room, the ${time} time`);
            room.missing = null;
            // What has failed is tried again after a pause, or by who comes after.
            if (missing === "after") return;
            await expectKept("the view, when there is room again");
            await give(engine, [], "with room again");
          },
          { projections: [sums] },
        );
      }
      same(revisionsOf(await subject.slice("Counter", "a"), 0), upTo(7));
    },
  },
  {
    name: "under an engine: a store that was replaced is told, and the engine goes on with what is there",
    needs: "restoring",
    replacesStore: true,
    async run(subject, { restore }) {
      const gate = new Gate(subject.storage);
      const told = { code: "foreign-epoch" };
      await withEngines(
        [gate.storage],
        async (engine) => {
          const view = engine.view(sums);
          for (const by of [5, 6]) await engine.execute(counter, "a", add(by));
          const old = await engine.execute(counter, "old", add(7));
          const reader = engine.events();
          for (let read = 0; read < 3; read += 1) await reader.next();
          const next = reader.next().then(() => null, (error: unknown) => error);

          // The append that is under way was decided on what the old store had.
          await gate.close();
          const commands = ["a", "a", "b"].map((id) => engine.execute(counter, id, add()));
          await until(() => gate.waiting.includes("append"));
          const asks = [() => engine.state(counter, "a"), () => engine.history(counter, "old")];
          const questions = asks.map((ask) => fails(ask, told));
          await until(() => gate.waiting.includes("load"));
          await restore();
          gate.open();
          const outcomes = await Promise.all(commands);
          same(outcomes.map(({ revision, duplicate, behind }) => [revision, duplicate, behind]), [[1, false, []], [2, false, []], [1, false, []]]);
          await Promise.all(questions);
          same(((await next) as { readonly code?: unknown } | null)?.code, told.code, "what a reader is told");

          // What there is comes from the store that is there.
          for (const cached of [true, false]) {
            same(await engine.state(counter, "a", { cached }), { state: { sum: 2, count: 2 }, revision: 2 });
            same(await engine.state(counter, "old", { cached }), { state: { sum: 0, count: 0 }, revision: 0 });
          }
          const shown = await Promise.all(["a", "b", "old"].map((key) => view.get(key, { latest: true })));
          same(shown, [{ sum: 2 }, { sum: 1 }, undefined]);
          same(await view.count({ index: "size" }), 2);
          const foreign = { code: "foreign-position" };
          await fails(() => engine.state(counter, "a", { at: { position: old.position! } }), foreign);
          await fails(() => view.get("a", { after: old.position! }), foreign);
          await fails(() => engine.events({ after: old.position! }), foreign);
          // A command that the old store has had is one that this one has not.
          const again = await engine.execute(counter, "old", add(7), { commandId: old.commandId });
          same([again.revision, again.duplicate], [1, false]);
          const positions: unknown[] = [];
          for await (const { position } of engine.events({ follow: false })) positions.push(position);
          same(positions, [...new Set([...outcomes, again].map(({ position }) => position))].sort());
        },
        { projections: [sums] },
      );
    },
  },
  {
    name: "under an engine: a state from a snapshot is the one that all events give",
    async run(subject) {
      for (let round = 0; round < 3; round += 1) {
        await withEngines([subject.storage], async (engine) => {
          for (let turn = 0; turn < 5; turn += 1) await engine.execute(counter, "a", add(round));
          await engine.snapshot(counter, "a");
        });
        await withEngines([subject.storage], async (engine) => {
          const at = 5 * (round + 1);
          const sum = (5 * round * (round + 1)) / 2;
          same(await engine.state(counter, "a"), { state: { sum, count: at }, revision: at });
          same(await engine.state(counter, "a", { at: { revision: at - 1 } }), { state: { sum: sum - round, count: at - 1 }, revision: at - 1 });
        });
      }
    },
  },
  {
    name: "under engines on several adapters: who follows the log gets every event once and in order, as it comes",
    needs: "connections",
    async run(subject, { reopen }) {
      await withEngines([subject.storage, await reopen(), await reopen()], async (one, two, follower) => {
        await one!.execute(counter, "before", add());
        const seen: string[] = [];
        const following = (async () => {
          for await (const { position } of follower!.events({ pageSize: 7 })) if (seen.push(position) === 61) return;
        })();
        await Promise.all([one!, two!].flatMap((engine) => upTo(30).map((by) => engine.execute(counter, `c-${by % 4}`, add()))));
        await following;
        const all: string[] = [];
        for await (const { position } of one!.events({ follow: false })) all.push(position);
        same(seen, all);
      });
    },
  },
  {
    name: "under engines on several adapters: a reaction runs on one of them, and another goes on where it was",
    needs: "connections",
    async run(subject, { reopen }) {
      const handled: { readonly engine: number; readonly id: string; readonly revision: number }[] = [];
      const mails = (engine: number) =>
        reaction<Added>("mails", {
          startAt: "beginning",
          on: { Added: ({ stream, revision }) => void handled.push({ engine, id: stream.id, revision }) },
        });
      // Each of them at least once: the first times count.
      const revisionsOf = (id: string) => [...new Set(handled.filter((one) => one.id === id).map(({ revision }) => revision))];
      const allHandled = (round: number) => until(() => ["a", "b"].every((id) => revisionsOf(id).length === round));
      const engines: Engine[] = [];
      try {
        for (const [index, storage] of [subject.storage, await reopen()].entries())
          engines.push(await Engine.open({ storage, aggregates: [counter], reactions: [mails(index)], limits: { ...limits, lease: 2_000 } }));
        for (const round of [1, 2, 3]) {
          await Promise.all(["a", "b"].map((id) => engines[round % 2]!.execute(counter, id, add())));
          await allHandled(round);
        }
        const runner = handled.at(-1)!.engine;
        await engines[runner]!.close();
        const successor = engines[1 - runner]!;
        await Promise.all(["a", "b"].map((id) => successor.execute(counter, id, add())));
        await allHandled(4);
        same(["a", "b"].map(revisionsOf), [upTo(4), upTo(4)]);
        same(handled.at(-1)!.engine, 1 - runner, "the engine that goes on");
      } finally {
        for (const engine of engines) await engine.close();
      }
    },
  },
  {
    name: "under engines on several adapters: a reaction goes on at once when the engine that runs it is gone, however long its lease",
    needs: ["presence", "connections"],
    async run(subject, { reopen }) {
      const handled: string[] = [];
      const mails = (engine: string) =>
        reaction<Added>("mails", {
          startAt: "beginning",
          on: { Added: ({ revision }) => void handled.push(`${engine} ${revision}`) },
        });
      const engines: Engine[] = [];
      const open = async (name: string, storage: StorageAdapter) => {
        const lease = 3_600_000;
        engines.push(await Engine.open({ storage, aggregates: [counter], reactions: [mails(name)], limits: { ...limits, lease } }));
        return engines.at(-1)!;
      };
      try {
        const first = await open("first", subject.storage);
        await first.execute(counter, "a", add());
        await until(() => handled.length === 1);
        const second = await open("second", await reopen());
        await first.execute(counter, "a", add());
        await until(() => handled.length === 2);
        await first.close();
        await second.execute(counter, "a", add());
        await until(() => handled.length === 3);
        same(handled, ["first 1", "first 2", "second 3"]);
        // One that says nothing when it ends, and one that comes only then.
        second[Symbol.dispose]();
        const third = await open("third", await reopen());
        await third.execute(counter, "a", add());
        await until(() => handled.includes("third 4"));
      } finally {
        for (const engine of engines) await engine.close();
      }
    },
  },
];
