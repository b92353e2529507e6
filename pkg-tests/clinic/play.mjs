// Plays the script of commands with an engine and tells what comes of it, in the words of the
// native build (www/clinic/examples/play.rs).

import { readFile } from "node:fs/promises";

export const scriptFile = new URL("script.json", import.meta.url);

export const script = JSON.parse(await readFile(scriptFile, "utf8"));

/**
 * Lines of canonical JSON: what came of each step, every event of the log, each appointment at
 * every revision, the agenda after every event.
 */
export async function play(engine, appointment, agenda) {
  const told = [];
  for (const [index, step] of script.entries()) {
    // A refusal is the same whether it is returned or thrown.
    const ask = index % 2 === 0 ? attempt : execute;
    told.push(await outcome(() => ask(engine, appointment, step)));
  }
  const positions = [];
  const tags = new Set();
  for await (const event of engine.events({ follow: false })) {
    told.push(plainEvent(event));
    positions.push(event.position);
    event.tags.forEach((tag) => tags.add(tag));
  }
  for (const id of [...new Set(script.map((step) => step.id))].sort()) {
    const { revision: last } = await engine.state(appointment, id);
    for (let revision = 0; revision <= last; revision += 1) {
      const { state } = await engine.state(appointment, id, { at: { revision } });
      told.push({ id, revision, state });
    }
  }
  const view = engine.view(agenda);
  const entries = async (options) => (await view.list(options)).documents;
  const moments = [{ time: new Date(0) }, ...positions.map((position) => ({ position }))];
  for (const [after, at] of moments.entries()) told.push({ after, agenda: await entries({ index: "start", at }) });
  told.push({ agenda: await entries({ index: "held", descending: true }) });
  for (const held of [...tags].sort()) told.push({ held, agenda: await entries({ index: "held", equals: held }) });
  return told.map(canonical);
}

/** The kind of outcome that a step expects, from its line. */
export function kindOf(line) {
  const { error, refused, duplicate, events } = JSON.parse(line);
  if (error) return `error: ${error}`;
  if (refused) return `refused: ${refused.code}`;
  if (duplicate) return "duplicate";
  return events.length > 0 ? "committed" : "nothing";
}

async function attempt(engine, appointment, step) {
  const result = await engine.attempt(appointment, step.id, step.command, optionsOf(step));
  return result.ok ? committed(result) : { refused: result.refusal };
}

async function execute(engine, appointment, step) {
  try {
    return committed(await engine.execute(appointment, step.id, step.command, optionsOf(step)));
  } catch (error) {
    if (error.code !== "refused") throw error;
    return { refused: error.details };
  }
}

async function outcome(ask) {
  try {
    return await ask();
  } catch (error) {
    if (typeof error.code !== "string") throw error;
    return { error: error.code };
  }
}

const optionsOf = ({ commandId, issuedAt, actor, expectedRevision }) => ({
  commandId,
  issuedAt,
  actor,
  ...(expectedRevision !== undefined && { expectedRevision }),
});

const committed = ({ events, state, revision, commandId, duplicate }) => ({
  events: events.map(plainEvent),
  state,
  revision,
  commandId,
  duplicate,
});

/** All of an event but when it was recorded, and its position, which belongs to a store. */
const plainEvent = ({ stream, revision, eventId, type, data, tags, commandId, issuedAt, actor }) => ({
  stream: { type: stream.type, id: stream.id },
  revision,
  eventId,
  type,
  data,
  tags,
  commandId,
  issuedAt,
  actor,
});

function canonical(value) {
  return JSON.stringify(value, (_, part) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
