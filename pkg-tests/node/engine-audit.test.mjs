// Who caused what: the chains of the log, walked both ways.

import assert from "node:assert/strict";
import { trace } from "annals/audit";
import { appointment, booking, cancellation, confirmation, issuedAt, retitling } from "../support/clinic.mjs";
import { fails } from "../support/expect.mjs";
import { onEachStore } from "../support/engine-stores.mjs";

async function logOf(engine, options) {
  const events = [];
  for await (const event of engine.events({ ...options, follow: false })) events.push(event);
  return events;
}

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

onEachStore("events of one first cause are found, on every page size", async (place) => {
  const { engine, ...chain } = await told(place);
  for (const pageSize of [1, 2, 500]) {
    assert.deepEqual(idsOf(await logOf(engine, { correlationId: "request 7", pageSize })), idsOf(Object.values(chain)));
  }
  assert.deepEqual((await logOf(engine, { correlationId: "request 8" })).length, 1);
  assert.deepEqual(await logOf(engine, { correlationId: "nobody" }), []);
  const both = await logOf(engine, { correlationId: "request 7", types: ["AppointmentBooked"], aggregates: [appointment] });
  assert.deepEqual(idsOf(both), idsOf([chain.booked, chain.second]));
});

onEachStore("a command that names no cause is its own", async (place) => {
  const engine = await place.open();
  const { events, commandId } = await engine.execute(appointment, "a-1", booking(), { issuedAt });
  await engine.execute(appointment, "a-1", confirmation, { issuedAt, correlationId: commandId, causationId: commandId });
  const found = await logOf(engine, { correlationId: commandId });
  assert.deepEqual(found.map(({ type }) => type), ["AppointmentBooked", "AppointmentConfirmed"]);
  assert.deepEqual(idsOf((await trace(engine, events[0])).effects), [found[1].eventId]);
  // The id of a command that has another first cause finds nothing of that command.
  assert.deepEqual(await logOf(engine, { correlationId: found[1].commandId }), []);
});

onEachStore("a chain is walked both ways from any event in it", async (place) => {
  const { engine, booked, second, retitled, cancelled } = await told(place);
  for (const [event, causes, effects] of [
    [booked, [], [second, retitled, cancelled]],
    [second, [booked], []],
    [retitled, [booked], [cancelled]],
    [cancelled, [retitled, booked], []],
  ]) {
    const found = await trace(engine, event);
    assert.deepEqual([idsOf(found.causes), idsOf(found.effects)], [idsOf(causes), idsOf(effects)]);
  }
});

onEachStore("a cause that names itself ends the walk", async (place) => {
  const engine = await place.open();
  const commandId = "00000000-0000-7000-8000-000000000001";
  const { events } = await engine.execute(appointment, "a-1", booking(), { issuedAt, commandId, causationId: commandId });
  assert.deepEqual(idsOf((await trace(engine, events[0])).causes), idsOf(events));
});

onEachStore("half a character is no id", async (place) => {
  const engine = await place.open();
  await fails(() => logOf(engine, { correlationId: "\ud800" }), { code: "invalid-name" });
});
