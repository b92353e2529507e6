// What traces and diffs tell on every store. One list, run in Node and in pages: `open` of a place gives an
// engine on its store.

import { diff, trace } from "annals/audit";
import { appointment, booking, cancellation, confirmation, issuedAt, logOf, retitling } from "./clinic.mjs";
import { fails, same } from "./expect.mjs";

const idsOf = (events) => events.map(({ eventId }) => eventId);

/**
 * A request books a-1; the booking causes that of a-2 (which names the event) and a retitling (which
 * names the command); the latter causes a cancellation. Beside them others that have nothing to do with it.
 */
async function told(place) {
  const engine = await place.open();
  const give = async (id, command, options) => {
    const { events } = await engine.execute(appointment, id, command, { issuedAt, ...options });
    return events[0];
  };
  const correlationId = "request 7";
  await give("b-1", booking({ doctor: "1" }));
  const booked = await give("a-1", booking(), { correlationId, causationId: "message 6" });
  await give("b-1", retitling("Other"), { correlationId: "request 8" });
  const second = await give("a-2", booking({ doctor: "8" }), { correlationId, causationId: booked.eventId });
  const retitled = await give("a-1", retitling("Second"), { correlationId, causationId: booked.commandId });
  const cancelled = await give("a-2", cancellation, { correlationId, causationId: retitled.eventId });
  return { engine, booked, second, retitled, cancelled };
}

export const auditRules = [
  {
    name: "events of one first cause are found, on every page size",
    async run(place) {
      const { engine, ...chain } = await told(place);
      for (const pageSize of [1, 2, 500]) {
        same(idsOf(await logOf(engine, { correlationId: "request 7", pageSize })), idsOf(Object.values(chain)));
      }
      same((await logOf(engine, { correlationId: "request 8" })).length, 1);
      same(await logOf(engine, { correlationId: "nobody" }), []);
      const both = await logOf(engine, { correlationId: "request 7", types: ["AppointmentBooked"], aggregates: [appointment] });
      same(idsOf(both), idsOf([chain.booked, chain.second]));
    },
  },
  {
    name: "a command that names no cause is its own",
    async run(place) {
      const engine = await place.open();
      const { events, commandId } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
      await engine.execute(appointment, "a-1", confirmation, { issuedAt, correlationId: commandId, causationId: commandId });
      const found = await logOf(engine, { correlationId: commandId });
      same(found.map(({ type }) => type), ["AppointmentBooked", "AppointmentConfirmed"]);
      same(idsOf((await trace(engine, events[0])).effects), [found[1].eventId]);
      // The id of a command that has another first cause finds nothing of that command.
      same(await logOf(engine, { correlationId: found[1].commandId }), []);
    },
  },
  {
    name: "a chain is walked both ways from any event in it",
    async run(place) {
      const { engine, booked, second, retitled, cancelled } = await told(place);
      for (const [event, causes, effects] of [
        [booked, [], [second, retitled, cancelled]],
        [second, [booked], []],
        [retitled, [booked], [cancelled]],
        [cancelled, [retitled, booked], []],
      ]) {
        const found = await trace(engine, event);
        same([idsOf(found.causes), idsOf(found.effects)], [idsOf(causes), idsOf(effects)]);
      }
    },
  },
  {
    name: "a cause that names itself ends the walk",
    async run(place) {
      const engine = await place.open();
      const commandId = "00000000-0000-7000-8000-000000000001";
      const { events } = await engine.execute(appointment, "a-1", booking(), { issuedAt, commandId, causationId: commandId });
      same(idsOf((await trace(engine, events[0])).causes), idsOf(events));
    },
  },
  {
    name: "half a character is no id",
    async run(place) {
      const engine = await place.open();
      await fails(() => logOf(engine, { correlationId: "\ud800" }), { code: "invalid-name" });
    },
  },
  {
    name: "a diff tells what has changed between any two points, and by which events",
    async run(place) {
      const engine = await place.open();
      const give = async (id, command) => (await engine.execute(appointment, id, command, { issuedAt, actor: "reception" })).events[0];
      const history = [await give("a-1", booking()), await give("a-1", retitling("Pulse"))];
      const other = await give("a-2", booking({ doctor: "8" }));
      history.push(await give("a-1", confirmation), await give("a-1", retitling("Knee")));
      const title = (before, after) => ({ kind: "changed", path: ["title"], before, after });
      const status = { kind: "changed", path: ["status"], before: "booked", after: "confirmed" };
      for (const [from, to, changes] of [
        [{ revision: 1 }, undefined, [title("Blood pressure", "Knee"), status]],
        [{ revision: 1 }, { revision: 3 }, [title("Blood pressure", "Pulse"), status]],
        [{ position: other.position }, { position: history[2].position }, [status]],
        [{ position: history[0].position }, { position: other.position }, [title("Blood pressure", "Pulse")]],
        [{ revision: 4 }, { time: "9999-12-31T23:59:59.999Z" }, []],
        [{ revision: 2 }, { revision: 2 }, []],
      ]) {
        for (const asked of [engine, await place.open({ limits: { pageLimit: 2 } })]) {
          const found = await diff(asked, appointment, "a-1", { from, ...(to && { to }) });
          same(found.from, await engine.state(appointment, "a-1", { at: from }));
          same(found.to, await engine.state(appointment, "a-1", to && { at: to }));
          same(found.events, history.slice(found.from.revision, found.to.revision));
          const inOrder = (all) => all.slice().sort((a, b) => (a.path[0] < b.path[0] ? -1 : 1));
          same(inOrder(found.changes), inOrder(changes));
        }
      }
      const { changes } = await diff(engine, appointment, "a-1", { from: { revision: 0 }, to: { revision: 1 } });
      same(changes[0], { kind: "changed", path: ["status"], before: "none", after: "booked" });
      same(changes.slice(1).map(({ kind }) => kind), Array(8).fill("added"));
    },
  },
  {
    name: "points of a diff that are out of order, or that are none, are errors",
    async run(place) {
      const engine = await place.open();
      await engine.execute(appointment, "a-1", booking(), { issuedAt });
      await engine.execute(appointment, "a-1", confirmation, { issuedAt });
      const refused = (options, expected) => fails(() => diff(engine, appointment, "a-1", options), expected);
      const message = "expected two points in order, found revision 2 and then 1";
      await refused({ from: { revision: 2 }, to: { revision: 1 } }, { code: "invalid-argument", message });
      await refused({}, { code: "invalid-argument" });
      await refused({ from: { position: "7" } }, { code: "invalid-argument" });
      await refused({ from: { revision: 3 } }, { code: "no-such-revision" });
      await refused({ from: { revision: 1 }, to: { revision: 3 } }, { code: "no-such-revision" });
      await refused({ from: { revision: 1 }, signal: AbortSignal.abort() }, { code: "cancelled" });
    },
  },
];
