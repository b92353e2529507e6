// A storage adapter under test, and what it is given.

import { fails, same } from "./expect.mjs";
import { judge } from "./judge.mjs";

export const START = Date.parse("2026-11-23T08:00:00.000Z");

/** An opened adapter, with a judge that is asked as the engine's would be. */
export class Subject {
  now = START;

  static async open(storage) {
    const subject = new Subject();
    subject.storage = storage;
    subject.info = await storage.open();
    return subject;
  }

  get epoch() {
    return this.info.epoch;
  }

  async append(commits, inspect) {
    return this.storage.append({ epoch: this.epoch, now: this.now, commits }, (facts) => {
      inspect?.(facts);
      return judge(commits, facts, this.now);
    });
  }

  /** Appends that must all be accepted. */
  async accept(...commits) {
    const verdicts = await this.append(commits);
    for (const verdict of verdicts) same(verdict.kind, "committed", JSON.stringify(verdict));
    return verdicts;
  }

  async facts(...commits) {
    // Of an adapter that judges by itself the tests have another way to ask.
    if (this.storage.facts !== undefined) return this.storage.facts(commits);
    const nothing = new Error("only asked for the facts");
    let facts;
    const asking = () =>
      this.storage.append({ epoch: this.epoch, now: this.now, commits }, (found) => {
        facts = structuredClone(found);
        throw nothing;
      });
    await fails(asking, { message: nothing.message });
    return facts;
  }

  async load({ commands = [], streams = [], queries = [] }) {
    return this.storage.load({ epoch: this.epoch, commands, streams, queries });
  }

  async slice(aggregateType, aggregateId, options) {
    const load = { ...wholeStream, aggregateType, aggregateId, ...options };
    return (await this.load({ streams: [load] })).streams[0];
  }

  /** Writes documents that nothing is expected of. */
  async save(...documents) {
    same(await this.change({ documents }), null);
  }

  async change({ expected = [], clear = [], documents = [] }) {
    const all = documents.map((document) => ({ postings: [], ...document }));
    return this.storage.saveDocuments({ epoch: this.epoch, expected, clear, documents: all });
  }

  async read({ names = [], scans = [] }) {
    const all = scans.map((scan) => ({ ...wholeCollection, ...scan }));
    return this.storage.readDocuments({ epoch: this.epoch, names, scans: all });
  }

  async page(options) {
    return this.storage.readLog({ epoch: this.epoch, ...wholeLog, ...options });
  }

  /** The log as its pages tell it. */
  async log({ after = 0, ...options } = {}) {
    const events = [];
    for (;;) {
      const page = await this.page({ ...options, after });
      events.push(...page.events);
      for (const { position } of page.events)
        same(position <= page.next, true, "next is past the page");
      if (page.next === page.head) return events;
      same(page.next > after, true, `a page goes on, from ${after} to ${page.next}`);
      after = page.next;
    }
  }
}

export const wholeStream = {
  after: 0,
  snapshot: null,
  untilRevision: null,
  untilPosition: null,
  untilTime: null,
  limit: 1000,
  whole: true,
};
export const wholeLog = {
  after: 0,
  types: [],
  aggregateTypes: [],
  tags: [],
  correlationId: null,
  limit: 1000,
};
export const wholeCollection = {
  index: null,
  from: null,
  to: null,
  after: null,
  descending: false,
  limit: 1000,
};

let numbers = 0;
const id = (kind) => `${kind}-${++numbers}`;

export function commit(aggregateId, expected, events, rest = {}) {
  const commandId = id("command");
  return {
    commandId,
    hash: id("hash"),
    aggregateType: "Appointment",
    aggregateId,
    issuedAt: "2026-11-23T07:59:59.999Z",
    correlationId: commandId,
    causationId: null,
    actor: null,
    extra: null,
    condition: null,
    expected,
    events,
    ...rest,
  };
}

export function event(type = "AppointmentBooked", tags = [], rest = {}) {
  return { eventId: id("event"), type, schemaVersion: 1, tags, data: `{"n":${numbers}}`, ...rest };
}

export async function until(condition, timeout = 20_000) {
  for (const deadline = Date.now() + timeout; !condition();) {
    if (Date.now() > deadline) throw new Error(`waited in vain for ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Numbers below a bound, the same ones for the same seed (mulberry32). */
export function randomNumbers(seed) {
  return (bound) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}
