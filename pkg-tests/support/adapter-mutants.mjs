// An adapter in memory that can do and suffer all that the suite asks for, and ways in which adapters
// are wrong. The published suite must pass the one and find the others.

import { StorageFailure } from "annals";
import { memoryStorage } from "annals/memory";
import { commit, event, perform, Subject } from "annals/testing/conformance";

/** What several adapters have in common: the store, and what is wrong with its medium. */
class Medium {
  inner = memoryStorage();
  full = false;
  locked = false;
  failing = false;
  unanswered = false;
  /** What the next append waits for. */
  held;
  listeners = new Set();
  /** Who is there: by their names, what resolves when they are gone. */
  present = new Map();
}

const driverError = () => new Error("disk trouble");

const failure = (code, options) => new StorageFailure(code, "disk trouble", { cause: driverError(), ...options });

/** What is thrown by the medium, as it is told. A mutant may tell it otherwise. */
const failures = {
  full: () => failure("storage-full"),
  locked: () => failure("storage-busy", { retryable: true }),
  failing: () => failure("storage-failed"),
  unanswered: () => failure("storage-failed", { retryable: true, mayBeApplied: true }),
};

/** Who is there, as all adapters on a medium know it; `held` gathers what one of them has to let go of. */
const presenceOn = (medium, held) => ({
  async hold() {
    const name = `present ${crypto.randomUUID()}`;
    let onGone;
    medium.present.set(name, new Promise((resolve) => (onGone = resolve)));
    const release = () => {
      medium.present.delete(name);
      onGone();
    };
    held.push(release);
    return { name, release };
  },
  async whenGone(name, signal) {
    if (!name.startsWith("present ")) throw new Error("nobody knows");
    const givenUp = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    await Promise.race([medium.present.get(name), givenUp]);
  },
});

/** A sound adapter. */
function soundAdapter(medium, told = failures) {
  const held = [];
  const check = (writes, request) => {
    if (medium.failing) throw told.failing();
    if (!writes) return;
    if (medium.locked) throw told.locked();
    if (medium.full && JSON.stringify(request).length > 500_000) throw told.full();
  };
  return {
    open: () => medium.inner.open(),
    append(request, judge) {
      check(true, request);
      const append = () => medium.inner.append(request, judge);
      if (medium.held !== undefined) return medium.held().then(append);
      const verdicts = append();
      if (medium.unanswered) throw told.unanswered();
      return verdicts;
    },
    load(request) {
      check(false);
      return medium.inner.load(request);
    },
    readLog(request) {
      check(false);
      return medium.inner.readLog(request);
    },
    saveDocuments(request) {
      check(true, request);
      return medium.inner.saveDocuments(request);
    },
    readDocuments(request) {
      check(false);
      return medium.inner.readDocuments(request);
    },
    subscribe: (onAdvanced) => medium.inner.subscribe(onAdvanced),
    presence: presenceOn(medium, held),
    close() {},
    /** What the system does when the adapter's process ends. */
    end: () => held.forEach((release) => release()),
  };
}

/** A store of an earlier release: the log of a store that was written just now. */
async function olderStore(mutant) {
  const medium = new Medium();
  const subject = await Subject.open(medium.inner);
  await subject.accept(commit("a-1", 0, [event("Booked", ["t"]), event()], { correlationId: "cause" }));
  await subject.accept(commit("a-2", 0, [event("Booked", ["t", "u"])]), commit("a-1", 2, [event()]));
  return { medium, log: await subject.log(), storage: adapterOf(mutant, medium) };
}

function adapterOf(mutant, medium) {
  const sound = soundAdapter(medium, { ...failures, ...mutant?.failures });
  return { ...sound, ...mutant?.adapter?.(sound, medium) };
}

/** The enrolment of the sound adapter, or of one that is wrong. */
export async function enrolment(mutant) {
  const older = await olderStore(mutant);
  const flag = (name) => (store) => ({
    storage: adapterOf(mutant, store.medium),
    begin: () => void (store.medium[name] = true),
    end: () => void (store.medium[name] = false),
  });
  return {
    name: "memory",
    capabilities: {
      durability: "memory",
      notification: "connections",
      connections: true,
      reopening: true,
      processes: true,
      restoring: true,
      migration: true,
      presence: true,
    },
    patience: mutant?.patience,
    open() {
      const medium = new Medium();
      return { medium, storage: adapterOf(mutant, medium) };
    },
    reopen: ({ medium }) => adapterOf(mutant, medium),
    restore: ({ medium }) => void (medium.inner = memoryStorage()),
    elsewhere: async ({ medium }, job) => {
      const adapter = adapterOf(mutant, medium);
      const report = await perform(adapter, JSON.parse(JSON.stringify(job)));
      adapter.end();
      return JSON.parse(JSON.stringify(report));
    },
    older: [{ format: "0", log: older.log, open: () => older }],
    faults: {
      full: flag("full"),
      locked: flag("locked"),
      failing: flag("failing"),
      unanswered: flag("unanswered"),
      disconnected: flag("failing"),
      held({ medium }) {
        let onReached;
        let onEnd;
        const reached = new Promise((resolve) => (onReached = resolve));
        const end = new Promise((resolve) => (onEnd = resolve));
        return {
          storage: adapterOf(mutant, medium),
          begin() {
            medium.held = () => {
              medium.held = undefined;
              onReached();
              return end;
            };
          },
          reached: () => reached,
          end: () => void onEnd(),
        };
      },
    },
  };
}

// --- How adapters are wrong -------------------------------------------------------------------

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

/** Appends with facts that are not what the store knows. */
const withFacts = (change) => (sound, medium) => ({
  append: (request, judge) =>
    sound.append(request, (facts) =>
      judge({ ...facts, commits: facts.commits.map((fact, index) => change(fact, request.commits[index], medium, facts)) }),
    ),
});

/** Gives events that are not what is stored. */
const withEvents = (change) => (sound) => {
  const all = (events) => (Array.isArray(events) ? events.map(change) : events);
  return {
    load(request) {
      const loaded = sound.load(request);
      const streams = loaded.streams.map((slice) => ({ ...slice, events: all(slice.events) }));
      return { ...loaded, streams, queries: loaded.queries.map(all) };
    },
    readLog(request) {
      const page = sound.readLog(request);
      return { ...page, events: all(page.events) };
    },
  };
};

const withSlices = (change) => (sound) => ({
  load(request) {
    const loaded = sound.load(request);
    return { ...loaded, streams: loaded.streams.map((slice, index) => change(slice, request.streams[index])) };
  },
});

const withMessages = (change) =>
  withSlices((slice) => (Array.isArray(slice.events) ? slice : { ...slice, events: change(slice.events) }));

const withPresence = (change) => (sound) => ({ presence: { ...sound.presence, ...change(sound.presence, sound) } });

const withScans = (change) => (sound) => ({
  readDocuments: (request) => sound.readDocuments({ ...request, scans: request.scans.map(change) }),
});

/** Asks for another epoch than it is asked for. */
const anyEpoch = (...names) => (sound, medium) =>
  Object.fromEntries(
    names.map((name) => [name, (request, judge) => sound[name]({ ...request, epoch: medium.inner.open().epoch }, judge)]),
  );

/** What the judge would be told now. */
async function factsNow(sound, request) {
  let found;
  try {
    await sound.append(request, (facts) => {
      found = structuredClone(facts);
      throw new Error("only asked");
    });
  } catch (error) {
    if (found === undefined) throw error;
  }
  return found;
}

/** Each way, with the rule of the suite that finds it. */
export const mutants = {
  // Appends.
  "forgets what commands have come to": {
    rule: "the judge learns the head, its time, the streams' revisions and first outcomes",
    adapter: withFacts((fact) => ({ ...fact, first: null })),
  },
  "forgets what commands have come to when much has come since": {
    rule: "a command's first outcome is remembered whatever comes after",
    adapter: withFacts((fact, _, __, { head }) => (fact.first !== null && head > fact.first.position + 5 ? { ...fact, first: null } : fact)),
  },
  "takes a command with a known id for the same": {
    rule: "a command id that is given again with other content is told, with what it was first, and appends nothing",
    adapter: withFacts((fact, { hash }) => (fact.first === null ? fact : { ...fact, first: { ...fact.first, hash } })),
  },
  "knows commands of their own stream alone": {
    rule: "the judge learns the head, its time, the streams' revisions and first outcomes",
    adapter: withFacts((fact, { aggregateId }) => (fact.first?.aggregateId === aggregateId ? fact : { ...fact, first: null })),
  },
  "tells of a first outcome that it was of now": {
    rule: "the judge learns the head, its time, the streams' revisions and first outcomes",
    adapter: withFacts((fact, _, __, { lastRecordedAt }) => (fact.first === null ? fact : { ...fact, first: { ...fact.first, recordedAt: lastRecordedAt } })),
  },
  "has the judge told what was so before the lock": {
    rule: "of appends under way together for one stream one wins, and the others learn the revision",
    adapter: (sound) => ({
      async append(request, judge) {
        const facts = await factsNow(sound, request);
        await turn();
        return sound.append(request, () => judge(facts));
      },
    }),
  },
  "has an adapter's own facts for true, whatever others append": {
    rule: "what the judge learns is never stale, whoever appended last",
    adapter(sound) {
      const revisions = new Map();
      return {
        append: (request, judge) =>
          sound.append(request, (facts) => {
            const commits = facts.commits.map((fact, index) => {
              const { aggregateType, aggregateId } = request.commits[index];
              const key = JSON.stringify([aggregateType, aggregateId]);
              if (!revisions.has(key)) revisions.set(key, fact.revision);
              return { ...fact, revision: revisions.get(key) };
            });
            const verdicts = judge({ ...facts, commits });
            verdicts.forEach((verdict, index) => {
              const { aggregateType, aggregateId } = request.commits[index];
              if (verdict.kind === "committed") revisions.set(JSON.stringify([aggregateType, aggregateId]), verdict.revision);
            });
            return verdicts;
          }),
      };
    },
  },
  "finds streams whatever the case of their ids": {
    rule: "every revision that is expected is accepted where it is the stream's, and refused with the stream's where it is not",
    adapter: (sound) => ({
      append: (request, judge) =>
        sound.append(request, (facts) => {
          const streams = request.commits.map(({ aggregateType, aggregateId }) => {
            return { aggregateType, aggregateId: aggregateId.toLowerCase(), after: 0, snapshot: null, untilRevision: null, untilPosition: null, untilTime: null, limit: 1, whole: true };
          });
          const known = sound.load({ epoch: request.epoch, commands: [], queries: [], streams }).streams;
          return judge({ ...facts, commits: facts.commits.map((fact, index) => ({ ...fact, revision: Math.max(fact.revision, known[index].revision) })) });
        }),
    }),
  },
  "has conditions look at the last events alone": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: withFacts((fact, _, __, { head }) => (fact.matched !== null && fact.matched < head - 10 ? { ...fact, matched: null } : fact)),
  },
  "has conditions look at the position itself too": {
    rule: "of appends under way together that rest on one tag one wins, and the others learn its position",
    adapter: (sound) => ({
      append: (request, judge) => {
        const commits = request.commits.map((commit) =>
          commit.condition === null || commit.condition.after === 0
            ? commit
            : { ...commit, condition: { ...commit.condition, after: commit.condition.after - 1 } },
        );
        return sound.append({ ...request, commits }, judge);
      },
    }),
  },
  "tells the last match of a condition": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: (sound) => ({
      append: (request, judge) =>
        sound.append(request, (facts) => {
          const queries = request.commits.map(({ condition }) => condition ?? { query: [], after: 0 });
          const found = sound.load({ epoch: request.epoch, commands: [], streams: [], queries }).queries;
          const commits = facts.commits.map((fact, index) => ({ ...fact, matched: fact.matched && found[index].at(-1).position }));
          return judge({ ...facts, commits });
        }),
    }),
  },
  "asks the judge twice": {
    rule: "the judge is asked once, and what it says is what is written and what is answered",
    adapter: (sound) => ({ append: (request, judge) => sound.append(request, (facts) => (judge(facts), judge(facts))) }),
  },
  "does not let out what the judge throws": {
    rule: "a judge that throws is heard, and nothing is applied",
    adapter: (sound) => ({
      append(request, judge) {
        try {
          return sound.append(request, judge);
        } catch (error) {
          throw error.name === "StorageFailure" ? error : new StorageFailure("storage-failed", error.message, { cause: error });
        }
      },
    }),
  },
  "asks the judge again when it throws": {
    rule: "a judge that throws is heard, and nothing is applied",
    adapter: (sound) => ({
      append(request, judge) {
        try {
          return sound.append(request, judge);
        } catch (error) {
          if (error.name === "StorageFailure") throw error;
          return sound.append(request, judge);
        }
      },
    }),
  },
  "keeps what was appended to the full second": {
    rule: "the judge is asked once, and what it says is what is written and what is answered",
    adapter: withEvents((event) => ({ ...event, recordedAt: event.recordedAt.replace(/\.\d+/, ".000") })),
  },
  "answers with other verdicts than it was given": {
    rule: "the judge is asked once, and what it says is what is written and what is answered",
    adapter: (sound) => ({
      append: (request, judge) => sound.append(request, judge).map((verdict) => (verdict.kind === "conflict" ? { ...verdict, at: 0 } : verdict)),
    }),
  },
  "keeps a tag once in the event": {
    rule: "a tag given twice is there once for conditions, and twice in the event",
    adapter: withEvents((event) => ({ ...event, tags: JSON.stringify([...new Set(JSON.parse(event.tags))]) })),
  },
  "sorts an event's tags": {
    rule: "an event comes back as it was appended",
    adapter: withEvents((event) => ({ ...event, tags: JSON.stringify(JSON.parse(event.tags).sort()) })),
  },
  "loses who an event's command was given by": {
    rule: "an event comes back as it was appended",
    adapter: withEvents((event) => ({ ...event, actor: null })),
  },
  "gives an empty text where there is none": {
    rule: "what a command does not say is null, and comes back as null",
    adapter: withEvents((event) => ({ ...event, causationId: event.causationId ?? "" })),
  },
  "changes what it is given": {
    rule: "an event comes back as it was appended",
    adapter: (sound) => ({
      append(request, judge) {
        for (const commit of request.commits) commit.hash += "";
        return sound.append(request, judge);
      },
    }),
  },
  "has the log show a large append later than those after it": {
    rule: "no event comes behind a position that has been read, however appends overlap",
    adapter: (sound, medium) => ({
      append(request, judge) {
        const verdicts = sound.append(request, judge);
        for (const { kind, position, count } of verdicts) {
          if (kind !== "committed" || count < 10) continue;
          const hidden = { position, count };
          (medium.hidden ??= new Set()).add(hidden);
          setTimeout(() => medium.hidden.delete(hidden), 5);
        }
        return verdicts;
      },
      readLog(request) {
        const page = sound.readLog(request);
        const isHidden = ({ position }) => [...(medium.hidden ?? [])].some((hidden) => position >= hidden.position && position < hidden.position + hidden.count);
        return { ...page, events: page.events.filter((event) => !isHidden(event)) };
      },
    }),
  },
  "gives positions before it waits for the commit": {
    rule: "while a commit is held up no event comes behind a position that has been read",
    adapter: (sound, medium) => ({
      append(request, judge) {
        if (medium.held === undefined) return sound.append(request, judge);
        // Written at once, and shown when it is committed: meanwhile others go ahead.
        const held = medium.held();
        const verdicts = sound.append(request, judge);
        const [{ position, count }] = verdicts;
        medium.uncommitted = { position, count };
        return held.then(() => {
          medium.uncommitted = undefined;
          return verdicts;
        });
      },
      readLog(request) {
        const page = sound.readLog(request);
        const { position = 0, count = 0 } = medium.uncommitted ?? {};
        return { ...page, events: page.events.filter((event) => event.position < position || event.position >= position + count) };
      },
    }),
  },

  // Notification.
  "tells of an append while it is under way": {
    rule: "those who share the adapter are told of appends, until they stop listening",
    adapter: (sound, medium) => ({
      append(request, judge) {
        const verdicts = sound.append(request, judge);
        const last = verdicts.findLast(({ kind }) => kind === "committed");
        if (last !== undefined) for (const tell of medium.listeners) tell(last.position + last.count - 1);
        return verdicts;
      },
      subscribe(onAdvanced) {
        medium.listeners.add(onAdvanced);
        return () => medium.listeners.delete(onAdvanced);
      },
    }),
  },
  "tells those too who no longer listen": {
    rule: "those who share the adapter are told of appends, until they stop listening",
    adapter: (sound) => ({
      subscribe(onAdvanced) {
        sound.subscribe(onAdvanced);
        return () => {};
      },
    }),
  },
  "tells those alone who share the adapter": {
    rule: "another adapter on the same store is told of appends without asking, until it stops listening",
    patience: 500,
    adapter(sound) {
      const listeners = new Set();
      return {
        append(request, judge) {
          const verdicts = sound.append(request, judge);
          if (verdicts.some(({ kind }) => kind === "committed")) queueMicrotask(() => listeners.forEach((tell) => tell()));
          return verdicts;
        },
        subscribe(onAdvanced) {
          const tell = () => onAdvanced();
          listeners.add(tell);
          return () => void listeners.delete(tell);
        },
      };
    },
  },
  "tells of another position than the last": {
    rule: "those who share the adapter are told of appends, until they stop listening",
    adapter: (sound) => ({ subscribe: (onAdvanced) => sound.subscribe((position) => onAdvanced(position + 100)) }),
  },

  // What is read.
  "writes payloads anew": {
    rule: "payloads come back byte for byte",
    adapter: withEvents((event) => ({ ...event, data: JSON.stringify(JSON.parse(event.data)) })),
  },
  "trims payloads": {
    rule: "payloads come back byte for byte",
    adapter: withEvents((event) => ({ ...event, data: event.data.trim() })),
  },
  "cuts payloads at 64 KB": {
    rule: "payloads come back byte for byte",
    adapter: withEvents((event) => ({ ...event, data: event.data.slice(0, 65_536) })),
  },
  "cuts payloads at 512 KB": {
    rule: "payloads of a mebibyte, and nested as deep as the engine lets pass, come back byte for byte",
    adapter: withEvents((event) => ({ ...event, data: event.data.slice(0, 524_288) })),
  },
  "brings texts to one normal form": {
    rule: "payloads come back byte for byte",
    adapter: withEvents((event) => ({ ...event, data: event.data.normalize() })),
  },
  "has a byte order mark as the beginning of a file": {
    rule: "payloads that a parser would change come back byte for byte",
    adapter: withEvents((event) => ({ ...event, data: event.data.replaceAll("\ufeff", "") })),
  },
  "separates payloads by a comma alone": {
    rule: "streams that are only folded come as their forms and payloads, byte for byte",
    adapter: withMessages(({ forms, data }) => ({ forms, data: data.replaceAll(",\n", ",") })),
  },
  "gives forms without their versions": {
    rule: "streams that are only folded come as their forms and payloads, byte for byte",
    adapter: withMessages(({ forms, data }) => ({ forms: forms.map((form) => form.split("\x7f")[0]), data })),
  },
  "gives messages where whole events are asked for": {
    rule: "an event comes back as it was appended",
    adapter: (sound) => ({
      load: (request) => sound.load({ ...request, streams: request.streams.map((load) => ({ ...load, whole: false })) }),
    }),
  },
  "joins a stream's type and id by a slash": {
    rule: "names are data",
    adapter(sound) {
      const known = new Map();
      const named = ({ aggregateType, aggregateId, ...rest }) => {
        const key = `${aggregateType}/${aggregateId}`;
        if (!known.has(key)) known.set(key, { aggregateType, aggregateId });
        return { ...rest, ...known.get(key) };
      };
      return {
        append: (request, judge) => sound.append({ ...request, commits: request.commits.map(named) }, judge),
        load: (request) => sound.load({ ...request, streams: request.streams.map(named) }),
      };
    },
  },
  "has tags in an object": {
    rule: "names are data",
    adapter: (sound) => ({
      load: (request) =>
        sound.load({
          ...request,
          queries: request.queries.map(({ query, after }) => ({
            query: query.map((item) => ({ ...item, tags: item.tags.map((tag) => (tag in {} ? `not ${tag}` : tag)) })),
            after,
          })),
        }),
    }),
  },
  "finds events of any of a query's tags, not of all": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: (sound) => ({
      load: (request) =>
        sound.load({
          ...request,
          queries: request.queries.map(({ query, after }) => ({
            query: query.flatMap((item) => (item.tags.length > 1 ? item.tags.map((tag) => ({ ...item, tags: [tag] })) : [item])),
            after,
          })),
        }),
    }),
  },
  "finds nothing for a query that names nothing": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: (sound) => ({
      load(request) {
        const loaded = sound.load(request);
        const isEmpty = ({ query }) => query.some(({ types, tags }) => types.length + tags.length === 0);
        return { ...loaded, queries: loaded.queries.map((events, index) => (isEmpty(request.queries[index]) ? [] : events)) };
      },
    }),
  },
  "filters a page after it was cut": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: (sound) => ({
      readLog(request) {
        const { types, ...rest } = request;
        const page = sound.readLog({ ...rest, types: [] });
        return { ...page, events: types.length === 0 ? page.events : page.events.filter(({ type }) => types.includes(type)), next: page.head };
      },
    }),
  },
  "does not know an event of its own cause": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: (sound) => ({
      readLog(request) {
        const page = sound.readLog(request);
        return { ...page, events: page.events.filter(({ commandId }) => commandId !== request.correlationId) };
      },
    }),
  },
  "gives an event more than a page is to have": {
    rule: "a page has its limit of events at most, and says where it ends",
    adapter: (sound) => ({ readLog: (request) => sound.readLog({ ...request, limit: request.limit + 1 }) }),
  },
  "says that a page goes on from where it is": {
    rule: "a page has its limit of events at most, and says where it ends",
    adapter: (sound) => ({
      readLog(request) {
        const page = sound.readLog(request);
        return { ...page, next: page.events.at(-1)?.position ?? request.after };
      },
    }),
  },
  "knows one direction of the log": {
    rule: "pages of any size go through the whole log, from any position, and back",
    adapter: (sound) => ({ readLog: (request) => sound.readLog({ ...request, descending: false }) }),
  },
  "goes back with the position itself": {
    rule: "pages of any size go through the whole log, from any position, and back",
    adapter: (sound) => ({
      readLog: ({ after, ...request }) => sound.readLog({ ...request, after: request.descending ? after + 1 : after }),
    }),
  },
  "turns a page round that was read forth": {
    rule: "pages of any size go through the whole log, from any position, and back",
    adapter: (sound) => ({
      readLog(request) {
        if (!request.descending) return sound.readLog(request);
        const page = sound.readLog({ ...request, after: 0, descending: false });
        return { ...page, events: page.events.filter(({ position }) => position < request.after).reverse(), next: 0 };
      },
    }),
  },
  "passes by events of one type, going back": {
    rule: "conditions, queries and filtered pages find what reading the whole log would",
    adapter: (sound) => ({
      readLog(request) {
        const { types } = request;
        return sound.readLog({ ...request, types: request.descending ? types.slice(0, 1) : types });
      },
    }),
  },
  "says that there is more whenever a slice is full": {
    rule: "a stream is read after a revision, up to a revision, a position or a time, in slices",
    adapter: withSlices((slice, { limit }) => {
      const { length } = Array.isArray(slice.events) ? slice.events : slice.events.forms;
      return { ...slice, more: length === limit };
    }),
  },
  "leaves out what was recorded at the very time": {
    rule: "a stream is read after a revision, up to a revision, a position or a time, in slices",
    adapter: (sound) => ({
      load: (request) =>
        sound.load({
          ...request,
          streams: request.streams.map((load) => ({
            ...load,
            untilTime: load.untilTime && new Date(Date.parse(load.untilTime) - 1).toISOString(),
          })),
        }),
    }),
  },
  "takes one end of a stream, where two are asked for": {
    rule: "a stream is read after a revision, up to a revision, a position or a time, in slices",
    adapter: (sound) => ({
      load: (request) =>
        sound.load({
          ...request,
          streams: request.streams.map((load) => (load.untilPosition === null ? load : { ...load, untilRevision: null })),
        }),
    }),
  },
  "reads from the beginning after a snapshot that is too new": {
    rule: "a snapshot of a revision that the stream does not have comes without events",
    adapter: (sound) => ({
      load: (request) =>
        sound.load(request).streams.some(({ snapshot, revision }) => snapshot !== null && snapshot.revision > revision)
          ? (({ streams, ...rest }) => ({
              ...rest,
              streams: streams.map((slice, index) => {
                const [whole] = sound.load({ ...request, streams: [{ ...request.streams[index], snapshot: null }] }).streams;
                return { ...slice, events: whole.events };
              }),
            }))(sound.load(request))
          : sound.load(request),
    }),
  },
  "loads what is asked for one after the other": {
    rule: "a load is of one moment: commands, streams, queries, snapshots and the head agree",
    adapter: (sound) => ({
      async load(request) {
        const streams = [];
        for (const load of request.streams) {
          streams.push(sound.load({ ...request, streams: [load] }).streams[0]);
          await turn();
        }
        return { ...sound.load({ ...request, streams: [] }), streams };
      },
    }),
  },
  "reads the head before the rest": {
    rule: "a load is of one moment: commands, streams, queries, snapshots and the head agree",
    adapter: (sound) => ({
      async load(request) {
        const { head } = sound.load({ ...request, streams: [], commands: [], queries: [] });
        await turn();
        return { ...sound.load(request), head };
      },
    }),
  },
  "has what was loaded in another order": {
    rule: "a load answers everything in the order asked",
    adapter: (sound) => ({
      load(request) {
        const loaded = sound.load(request);
        return { ...loaded, commands: loaded.commands.filter((first) => first !== null) };
      },
    }),
  },
  "comes to no end going back where there is nothing": {
    rule: "reads: a store without events has none to give",
    adapter: (sound) => ({
      readLog(request) {
        const page = sound.readLog(request);
        return request.descending && page.events.length === 0 ? { ...page, next: request.after } : page;
      },
    }),
  },
  "ends a stream before the position that is asked for": {
    rule: "reads: a stream ends at its last event, or at a revision, a position or a time, of which each is in it",
    adapter: (sound) => ({
      load: (request) =>
        sound.load({ ...request, streams: request.streams.map((load) => ({ ...load, untilPosition: load.untilPosition && load.untilPosition - 1 })) }),
    }),
  },
  "has what is beyond the end that is asked for as more": {
    rule: "reads: a stream is read after a revision, and in slices that say whether there is more",
    adapter: withSlices((slice, { after }) => {
      const { length } = Array.isArray(slice.events) ? slice.events : slice.events.forms;
      return { ...slice, more: after + length < slice.revision };
    }),
  },
  "reads after a revision although there is a snapshot": {
    rule: "reads: a snapshot says after which revision a stream is read, whatever else is asked",
    adapter: withSlices((slice, { after, snapshot }) =>
      snapshot === null || !Array.isArray(slice.events) ? slice : { ...slice, events: slice.events.filter(({ revision }) => revision > after) },
    ),
  },
  "finds an event with each item of a query": {
    rule: "reads: a query finds each event once that any of its items lets through: one of its types, and all its tags",
    adapter: (sound) => ({
      load(request) {
        const each = ({ query, after }) =>
          query.flatMap((item) => sound.load({ ...request, queries: [{ query: [item], after }] }).queries[0]).sort((a, b) => a.position - b.position);
        return { ...sound.load(request), queries: request.queries.map(each) };
      },
    }),
  },
  "tells where a command's events end for where they begin": {
    rule: "reads: what a command first came to is remembered: position, revision, number and time of its events",
    adapter: (sound) => ({
      load(request) {
        const loaded = sound.load(request);
        return { ...loaded, commands: loaded.commands.map((first) => first && { ...first, position: first.position + first.count - 1 }) };
      },
    }),
  },
  "has the last event for the end of the log, going back": {
    rule: "reads: the log is read from any position, forth and back, to its end",
    adapter: (sound) => ({
      readLog(request) {
        const { head } = sound.open();
        return sound.readLog(request.descending ? { ...request, after: Math.min(request.after, head) } : request);
      },
    }),
  },
  "asks for a first cause and nothing else": {
    rule: "reads: a page has what passes each of its filters: a type, a kind of aggregate, any of its tags, a first cause",
    adapter: (sound) => ({
      readLog: (request) => sound.readLog(request.correlationId === null ? request : { ...request, types: [], aggregateTypes: [], tags: [] }),
    }),
  },

  // Documents.
  "compares no documents": {
    rule: "documents: what is expected must hold, or nothing is written",
    adapter: (sound) => ({ saveDocuments: (request) => sound.saveDocuments({ ...request, expected: [] }) }),
  },
  "compares the first expectation alone": {
    rule: "documents: of several expectations the first that does not hold is told, and all of the request is left out",
    adapter: (sound) => ({ saveDocuments: (request) => sound.saveDocuments({ ...request, expected: request.expected.slice(0, 1) }) }),
  },
  "compares documents before it waits for the lock": {
    rule: "of requests under way together that expect the same one is kept",
    adapter: (sound) => ({
      async saveDocuments(request) {
        const conflict = sound.saveDocuments({ ...request, clear: [], documents: [] });
        await turn();
        return conflict ?? sound.saveDocuments({ ...request, expected: [] });
      },
    }),
  },
  "writes some documents although an expectation does not hold": {
    rule: "documents: of several expectations the first that does not hold is told, and all of the request is left out",
    adapter: (sound) => ({
      saveDocuments(request) {
        const conflict = sound.saveDocuments(request);
        if (conflict !== null && request.documents.length > 1) sound.saveDocuments({ ...request, expected: [], clear: [], documents: request.documents.slice(1) });
        return conflict;
      },
    }),
  },
  "tells what was expected, not what is there": {
    rule: "documents: what is expected must hold, or nothing is written",
    adapter: (sound) => ({
      saveDocuments(request) {
        const conflict = sound.saveDocuments(request);
        return conflict && { ...conflict, actual: request.expected[conflict.index].revision };
      },
    }),
  },
  "keeps the newest revision of a document": {
    rule: "documents: a document is replaced, also by one of an earlier revision",
    adapter: (sound) => ({
      saveDocuments(request) {
        const names = request.documents.map(({ collection, key }) => ({ collection, key }));
        const { documents: found } = sound.readDocuments({ epoch: request.epoch, names, scans: [] });
        const isNewer = ({ revision }, index) => revision >= (found[index]?.revision ?? 0);
        return sound.saveDocuments({ ...request, documents: request.documents.filter(isNewer) });
      },
    }),
  },
  "empties collections after it has written": {
    rule: "documents: clearing empties a collection before documents are written, and leaves the others",
    adapter: (sound) => ({
      saveDocuments(request) {
        const conflict = sound.saveDocuments({ ...request, clear: [] });
        if (conflict === null && request.clear.length > 0) sound.saveDocuments({ ...request, expected: [], documents: [] });
        return conflict;
      },
    }),
  },
  "has keys end at NUL": {
    rule: "documents: keys are ordered by code points, both ways",
    adapter: (sound) => {
      const cut = (named) => ({ ...named, key: named.key.split("\0")[0] });
      return {
        saveDocuments: (request) => sound.saveDocuments({ ...request, documents: request.documents.map(cut) }),
      };
    },
  },
  "has documents in the order of UTF-16": {
    rule: "documents: keys are ordered by code points, both ways",
    adapter: (sound) => ({
      readDocuments(request) {
        const found = sound.readDocuments(request);
        const compare = (a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
        const scans = found.scans.map((page, index) => ({
          ...page,
          documents: page.documents.toSorted((a, b) => (request.scans[index].descending ? -compare(a, b) : compare(a, b))),
        }));
        return { ...found, scans };
      },
    }),
  },
  "has the end of a range in it": {
    rule: "documents: a range of keys begins with its first and ends before its last, and goes on after a place",
    adapter: withScans((scan) => (scan.to === null ? scan : { ...scan, to: `${scan.to}\0` })),
  },
  "begins a range again with each page": {
    rule: "documents: a range of keys begins with its first and ends before its last, and goes on after a place",
    adapter: withScans((scan) => (scan.limit === null ? scan : { ...scan, after: null })),
  },
  "counts from the beginning": {
    rule: "names of collections, keys, indexes and their values are data",
    adapter: withScans((scan) => (scan.limit === null ? { ...scan, from: null, after: null } : scan)),
  },
  "knows no order but the one": {
    rule: "documents: keys are ordered by code points, both ways",
    adapter: withScans((scan) => ({ ...scan, descending: false })),
  },
  "says of no page that there is more": {
    rule: "documents: keys that begin alike are a range",
    adapter: (sound) => ({
      readDocuments(request) {
        const found = sound.readDocuments(request);
        return { ...found, scans: found.scans.map((page) => ({ ...page, more: false })) };
      },
    }),
  },
  "keeps what a document was found under": {
    rule: "documents: a posting that is given twice is there once",
    adapter(sound, medium) {
      const known = (medium.postings ??= new Map());
      return {
        saveDocuments(request) {
          const documents = request.documents.map((document) => {
            const name = JSON.stringify([document.collection, document.key]);
            const postings = [...(known.get(name) ?? []), ...document.postings];
            known.set(name, postings);
            return { ...document, postings };
          });
          return sound.saveDocuments({ ...request, documents });
        },
      };
    },
  },
  "reads documents one after the other": {
    rule: "documents are read at one moment, with the head",
    adapter: (sound) => ({
      async readDocuments(request) {
        const documents = [];
        for (const name of request.names) {
          documents.push(sound.readDocuments({ ...request, names: [name], scans: [] }).documents[0]);
          await turn();
        }
        return { ...sound.readDocuments({ ...request, names: [] }), documents };
      },
    }),
  },
  "writes snapshots anew": {
    rule: "documents are replaced under their names, and come back byte for byte",
    adapter: withSlices((slice) => (slice.snapshot === null ? slice : { ...slice, snapshot: { ...slice.snapshot, value: JSON.stringify(JSON.parse(slice.snapshot.value)) } })),
  },

  // Opening, closing, other stores.
  "appends to another store than it is asked for": {
    rule: "requests for another store are refused, and nothing is applied",
    adapter: anyEpoch("append"),
  },
  "reads another store than it is asked for": {
    rule: "requests for another store are refused, and nothing is applied",
    adapter: anyEpoch("load", "readLog"),
  },
  "changes documents of another store than it is asked for": {
    rule: "documents of another store are neither read nor changed",
    adapter: anyEpoch("saveDocuments"),
  },
  "reads documents of another store than it is asked for": {
    rule: "documents of another store are neither read nor changed",
    adapter: anyEpoch("readDocuments"),
  },
  "says of a store that is another that it may have been applied": {
    rule: "requests for another store are refused, and nothing is applied",
    adapter: (sound) => ({
      append(request, judge) {
        try {
          return sound.append(request, judge);
        } catch (error) {
          if (error.code !== "foreign-epoch") throw error;
          throw new StorageFailure("foreign-epoch", error.message, { mayBeApplied: true });
        }
      },
    }),
  },
  "has a new epoch each time it is opened": {
    rule: "a new store is empty, and says what it is",
    adapter: (sound) => ({ open: () => ({ ...sound.open(), epoch: String(Math.random()) }) }),
  },
  "promises more than it keeps": {
    rule: "a new store is empty, and says what it is",
    adapter: (sound) => ({ open: () => ({ ...sound.open(), durability: "power-loss" }) }),
  },
  "knows the head of when it was first opened": {
    rule: "closing lets go and can be done twice; what was appended is there afterwards",
    adapter(sound) {
      let info;
      return { open: () => (info ??= sound.open()) };
    },
  },
  "can't be closed twice": {
    rule: "closing lets go and can be done twice; what was appended is there afterwards",
    adapter() {
      let isClosed = false;
      return {
        close() {
          if (isClosed) throw new Error("it is closed");
          isClosed = true;
        },
      };
    },
  },
  "answers nothing once it was closed": {
    rule: "a request after closing opens the store again",
    adapter(sound) {
      let isClosed = false;
      const open = (ask) => (request, judge) => {
        if (isClosed) throw new StorageFailure("storage-closed", "it is closed");
        return ask(request, judge);
      };
      const asks = ["append", "load", "readLog", "saveDocuments", "readDocuments"].map((name) => [name, open(sound[name])]);
      return { ...Object.fromEntries(asks), open: () => ((isClosed = false), sound.open()), close: () => void (isClosed = true) };
    },
  },
  "fails in words of its own when it is closed": {
    rule: "requests that are under way when the adapter is closed are answered, or fail and say what became of them",
    adapter(sound) {
      let isClosed = false;
      return {
        async append(request, judge) {
          await turn();
          if (isClosed) throw new Error("gone");
          return sound.append(request, judge);
        },
        open: () => ((isClosed = false), sound.open()),
        close: () => void (isClosed = true),
      };
    },
  },
  "acknowledges what it has not written when it is closed": {
    rule: "requests that are under way when the adapter is closed are answered, or fail and say what became of them",
    adapter(sound) {
      let isClosed = false;
      return {
        async append(request, judge) {
          const facts = await factsNow(sound, request);
          await turn();
          return isClosed ? judge(facts) : sound.append(request, judge);
        },
        open: () => ((isClosed = false), sound.open()),
        close: () => void (isClosed = true),
      };
    },
  },
  "loses documents when the last adapter is closed": {
    rule: "what was written is there when every adapter was closed and the store is opened again",
    adapter: (sound, medium) => ({
      close() {
        const { epoch } = medium.inner.open();
        medium.inner.saveDocuments({ epoch, expected: [], clear: ["agenda"], documents: [] });
      },
    }),
  },
  "reads older stores without their tags": {
    rule: "a store that an earlier release has written is read, and goes on in today's form",
    adapter: (sound) => ({
      load: (request) => {
        const loaded = sound.load(request);
        return { ...loaded, queries: loaded.queries.map((events) => events.filter(({ correlationId }) => correlationId !== "cause")) };
      },
    }),
  },

  // Who is there.
  "says of everybody that he is gone": {
    rule: "who holds a name is there until it lets go, and gone from then on",
    adapter: withPresence(() => ({ whenGone: async () => undefined })),
  },
  "never says that anybody is gone": {
    rule: "who holds a name is there until it lets go, and gone from then on",
    patience: 500,
    adapter: withPresence(() => ({ whenGone: () => new Promise(() => undefined) })),
  },
  "has one name for all": {
    rule: "who holds a name is there until it lets go, and gone from then on",
    adapter: withPresence(({ hold }) => {
      let held;
      return { hold: () => (held ??= hold()) };
    }),
  },
  "lets go of all when one does": {
    rule: "who holds a name is there until it lets go, and gone from then on",
    adapter: withPresence(({ hold }, { end }) => ({
      hold: async () => ({ ...(await hold()), release: end }),
    })),
  },
  "says that one is gone of whom nothing is known": {
    rule: "nobody is told that somebody is gone of whom nothing is known, or for whom nobody waits any more",
    adapter: withPresence(({ whenGone }) => ({ whenGone: (name, signal) => whenGone(`present ${name}`, signal) })),
  },
  "tells those who have given up that somebody is gone": {
    rule: "nobody is told that somebody is gone of whom nothing is known, or for whom nobody waits any more",
    adapter: withPresence(({ whenGone }) => ({
      whenGone: (name, signal) => whenGone(name, signal).catch(() => undefined),
    })),
  },
  "knows nobody who is there on another adapter": {
    rule: "another adapter on the same store knows who is there, and who is gone",
    adapter: withPresence(({ hold, whenGone }) => {
      const own = new Set();
      return {
        async hold() {
          const held = await hold();
          own.add(held.name);
          return held;
        },
        whenGone: async (name, signal) => (own.has(name) ? whenGone(name, signal) : undefined),
      };
    }),
  },
  "has those for present whose process has ended": {
    rule: "who held a name is gone when its process has ended",
    patience: 500,
    adapter: () => ({ end: () => undefined }),
  },
  "hears of none that had not been waited for when it was there": {
    rule: "under engines on several adapters: a reaction goes on at once when the engine that runs it is gone, however long its lease",
    patience: 2_000,
    adapter: (sound, medium) =>
      withPresence(({ whenGone }) => ({
        whenGone: (name, signal) => (medium.present.has(name) ? whenGone(name, signal) : new Promise(() => undefined)),
      }))(sound),
  },

  // Under an engine.
  "keeps documents as an object's members": {
    rule: "under an engine: names of aggregates, streams, projections and actors are data, or refused with a code",
    // A text that is given to this member of an object is not there afterwards.
    adapter: (sound) => ({
      saveDocuments: (request) => sound.saveDocuments({ ...request, documents: request.documents.filter(({ key }) => key !== "__proto__") }),
    }),
  },
  "reads what a filter lets through once": {
    rule: "under an engine: an outcome whose inline view could not be kept names it in `behind`, and its events are there",
    adapter(sound) {
      let read = 0;
      return {
        readLog(request) {
          const page = sound.readLog(request);
          if (request.types.length === 0) return page;
          const events = page.events.filter(({ position }) => position > read);
          read = Math.max(read, page.next);
          return { ...page, events };
        },
      };
    },
  },
  "says that it is the store that was opened first": {
    rule: "under an engine: a store that was replaced is told, and the engine goes on with what is there",
    adapter(sound) {
      let epoch;
      return {
        open() {
          const info = sound.open();
          return { ...info, epoch: (epoch ??= info.epoch) };
        },
      };
    },
  },
  "answers for the store that is there, whichever is asked": {
    rule: "under an engine: a store that was replaced is told, and the engine goes on with what is there",
    adapter: anyEpoch("append", "load", "readLog", "saveDocuments", "readDocuments"),
  },

  // What goes wrong.
  "has a full medium for one that fails": {
    rule: "on a full medium an append fails as full with nothing applied, and what is there is read",
    failures: { full: () => failure("storage-failed") },
  },
  "has a full medium for one that may be tried again": {
    rule: "on a full medium an append fails as full with nothing applied, and what is there is read",
    failures: { full: () => failure("storage-full", { retryable: true }) },
  },
  "writes what there is room for": {
    rule: "on a full medium an append fails as full with nothing applied, and what is there is read",
    adapter: (sound, medium) => ({
      append(request, judge) {
        if (medium.full) {
          const { epoch, commits } = request;
          const parts = commits.map((commit) => ({ ...commit, events: commit.events.slice(0, 1) }));
          medium.inner.append({ epoch, commits: parts }, (facts) => judge(facts).map((verdict) => ({ ...verdict, revision: verdict.revision - 1, count: 1 })));
        }
        return sound.append(request, judge);
      },
    }),
  },
  "empties a collection before there is no room": {
    rule: "on a full medium a change of documents fails as full, all of it",
    adapter: (sound, medium) => ({
      saveDocuments(request) {
        if (medium.full) medium.inner.saveDocuments({ ...request, expected: [], documents: [] });
        return sound.saveDocuments(request);
      },
    }),
  },
  "has a lock for what can't be tried again": {
    rule: "an append that waits too long for the lock of others fails as busy with nothing applied, and may be sent again",
    failures: { locked: () => failure("storage-busy") },
  },
  "has a lock for what may be applied": {
    rule: "an append that waits too long for the lock of others fails as busy with nothing applied, and may be sent again",
    failures: { locked: () => failure("storage-busy", { retryable: true, mayBeApplied: true }) },
  },
  "appends when the lock is gone, though it has said that it has not": {
    rule: "an append that waits too long for the lock of others fails as busy with nothing applied, and may be sent again",
    adapter: (sound, medium) => ({
      append(request, judge) {
        if (medium.locked) medium.inner.append(request, judge);
        return sound.append(request, judge);
      },
    }),
  },
  "lets out what the driver throws": {
    rule: "a driver's error is told with a code and as the cause, whatever was asked, and what is said not to be applied is not",
    failures: { failing: driverError },
  },
  "keeps the driver's error to itself": {
    rule: "a driver's error is told with a code and as the cause, whatever was asked, and what is said not to be applied is not",
    failures: { failing: () => new StorageFailure("storage-failed", "disk trouble") },
  },
  "has a code of its own for trouble": {
    rule: "a driver's error is told with a code and as the cause, whatever was asked, and what is said not to be applied is not",
    failures: { failing: () => failure("disk-trouble") },
  },
  "says of an append without an answer that it was not applied": {
    rule: "an append whose commit nobody has answered says that it may be applied, and is applied once when it is sent again",
    failures: { unanswered: () => failure("storage-failed", { retryable: true }) },
  },
  "appends again when it has no answer": {
    rule: "an append whose commit nobody has answered says that it may be applied, and is applied once when it is sent again",
    adapter: (sound, medium) => ({
      append(request, judge) {
        try {
          return sound.append(request, judge);
        } catch (error) {
          if (medium.unanswered) {
            medium.inner.append(request, ({ head, commits }) =>
              commits.map(({ revision }, index) => {
                const count = request.commits[index].events.length;
                head += count;
                return { kind: "committed", position: head - count + 1, revision: revision + count, count, recordedAt: Date.now() };
              }),
            );
          }
          throw error;
        }
      },
    }),
  },
};
