// LiveStore, headless: its event log and its state are SQLite files, which it writes by itself.

import { rmSync } from "node:fs";
import { makeAdapter } from "@livestore/adapter-node";
import { Events, Schema, State, createStorePromise, makeSchema } from "@livestore/livestore";
import { digestOf } from "../harness/digest.mjs";
import { expectedOf, idOf } from "../workload.mjs";
import { evolve } from "./clinic-node.mjs";

const { String, Struct, Number } = Schema;

const events = {
  changed: Events.synced({
    name: "v1.AppointmentChanged",
    schema: Struct({ id: String, revision: Number, type: String, data: String, state: String }),
  }),
};

const appointments = State.SQLite.table({
  name: "appointments",
  columns: {
    id: State.SQLite.text({ primaryKey: true }),
    revision: State.SQLite.integer({ default: 0 }),
    state: State.SQLite.text({ default: "" }),
  },
});

const materializers = State.SQLite.materializers(events, {
  "v1.AppointmentChanged": ({ id, revision, state }) =>
    appointments.insert({ id, revision, state }).onConflict("id", "replace"),
});

const schema = makeSchema({
  events,
  state: State.SQLite.makeState({ tables: { appointments }, materializers }),
});

/** One commit after the other, each until it is in the event log. Only a part of the commands: it is slow. */
export function livestore({ size: { streams } }, { before, timed, file }) {
  const some = timed.slice(0, timed.length / 10);
  let store;
  const states = new Map();
  const commit = async ([stream, event]) => {
    const { revision, state } = states.get(stream) ?? { revision: 0, state: { status: "none" } };
    const next = { revision: revision + 1, state: evolve(state, event) };
    states.set(stream, next);
    const [data, text] = [JSON.stringify(event.data), JSON.stringify(next.state)];
    store.commit(events.changed({ id: idOf(stream), revision: next.revision, type: event.type, data, state: text }));
    while (!store.syncStatus().isSynced) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    expected: expectedOf(evolve, [...before, ...some]),
    async before() {
      rmSync(file, { recursive: true, force: true });
      states.clear();
      const adapter = makeAdapter({ storage: { type: "fs", baseDirectory: file } });
      store = await createStorePromise({ adapter, schema, storeId: "clinic" });
      for (const one of before) await commit(one);
    },
    async run() {
      for (const one of some) await commit(one);
      return some.length;
    },
    check() {
      const rows = new Map(store.query(appointments.select()).map(({ id, revision, state }) => [id, { revision, state: JSON.parse(state) }]));
      return digestOf(Array.from({ length: streams }, (_, stream) => rows.get(idOf(stream))));
    },
    after: () => store.shutdownPromise(),
  };
}
