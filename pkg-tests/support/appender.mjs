// Appends to a store at the level of an adapter's requests, without an engine.

const START = Date.parse("2026-11-23T08:00:00.000Z");

/** An opened store. */
export class Appender {
  static async open(storage) {
    const appender = new Appender();
    appender.storage = storage;
    appender.info = await storage.open();
    return appender;
  }

  /** Appends commits, which must fit their streams. */
  async accept(...commits) {
    await this.storage.append({ epoch: this.info.epoch, now: START, commits }, (facts) => {
      const revisions = new Map();
      let { head } = facts;
      return commits.map((commit, index) => {
        const key = JSON.stringify([commit.aggregateType, commit.aggregateId]);
        const before = revisions.get(key) ?? facts.commits[index].revision;
        if (before !== commit.expected) throw new Error(`${key}: expected revision ${commit.expected}, found ${before}`);
        const count = commit.events.length;
        const verdict = { kind: "committed", position: head + 1, revision: before + count, count, recordedAt: Math.max(START, facts.lastRecordedAt) };
        head += count;
        revisions.set(key, verdict.revision);
        return verdict;
      });
    });
  }
}

let numbers = 0;
const id = (kind) => `${kind}-${++numbers}`;

/** A commit of this stream, which has that many events before. */
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
