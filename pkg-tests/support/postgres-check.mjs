// What must be true of a store in PostgreSQL, whatever has happened to it: as its rows tell.

import assert from "node:assert/strict";

export async function checkStore(pool, schema) {
  const one = async (text) => (await pool.query(text.replaceAll("$.", `"${schema}".`))).rows[0];
  const events = await one(`
    SELECT count(*)::int AS count, coalesce(min(position), 1)::int AS first, coalesce(max(position), 0)::int AS last,
      (SELECT head::int FROM $.store) AS head FROM $.events`);
  assert.deepEqual(events, { count: events.head, first: 1, last: events.head, head: events.head }, "positions have no gaps, and end at the head");
  for (const [what, text] of [
    ["a stream's revisions have no gaps, and come in the order of positions", `
      SELECT aggregate_id FROM (
        SELECT aggregate_id, revision, row_number() OVER (PARTITION BY aggregate_type, aggregate_id ORDER BY position) AS place
        FROM $.events) AS streams WHERE revision <> place`],
    ["a command's events are those that it is remembered with", `
      SELECT command_id FROM $.commands FULL JOIN (
        SELECT command_id, min(position) AS first, max(revision) AS last, count(*) AS events, max(position) - min(position) + 1 AS span
        FROM $.events GROUP BY command_id) AS found USING (command_id)
      WHERE (position, revision, count, count) IS DISTINCT FROM (first, last, events, span)`],
    ["the events' tags are those that they are found by", `
      (SELECT unnest(tags) AS tag, position FROM $.events EXCEPT SELECT tag, position FROM $.event_tags)
      UNION ALL (SELECT tag, position FROM $.event_tags EXCEPT SELECT unnest(tags), position FROM $.events)`],
    ["time does not go back", `
      SELECT position FROM (SELECT position, recorded_at - lag(recorded_at) OVER (ORDER BY position) AS step FROM $.events) AS steps
      WHERE step < interval '0'`],
  ]) {
    const { count } = await one(`SELECT count(*)::int AS count FROM (${text}) AS broken`);
    assert.equal(count, 0, what);
  }
}
