/**
 * `src/judge.rs` in PL/pgSQL: commits and facts in, verdicts out, as `Verdict` and `Facts` have them.
 * It decides inside the append's transaction, so an append is one statement, and no lock is held while
 * an answer is on its way. `pkg-tests/vectors/judge.json` and random appends hold it to the others.
 */
export const JUDGE = `
  -- Found by their tags and types: that each is compared with each is not for large appends.
  CREATE FUNCTION $.matching_neighbours(commits jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $function$
    BEGIN
      IF NOT EXISTS (
        SELECT FROM jsonb_array_elements(commits) AS commit WHERE jsonb_typeof(commit -> 'condition') = 'object'
      ) THEN RETURN '{}'; END IF;
      RETURN (
        WITH items AS MATERIALIZED (
          SELECT place - 1 AS place, item -> 'tags' AS tags, item -> 'types' AS types
          FROM jsonb_array_elements(commits) WITH ORDINALITY AS asking (commit, place)
          CROSS JOIN jsonb_array_elements(nullif(commit -> 'condition', 'null') -> 'query') AS item
        ), events AS MATERIALIZED (
          SELECT asking.place - 1 AS place, told.place - 1 AS number, event -> 'tags' AS tags, event ->> 'type' AS type
          FROM jsonb_array_elements(commits) WITH ORDINALITY AS asking (commit, place)
          CROSS JOIN jsonb_array_elements(commit -> 'events') WITH ORDINALITY AS told (event, place)
        ), found AS (
          SELECT items.place, events.place AS other, number
          FROM items JOIN (SELECT events.*, jsonb_array_elements_text(tags) AS tag FROM events) AS events
            ON tag = items.tags ->> 0 AND events.place < items.place
          WHERE events.tags @> items.tags AND (items.types = '[]' OR items.types ? type)
          UNION
          SELECT items.place, events.place, number
          FROM (SELECT items.*, jsonb_array_elements_text(types) AS wanted FROM items WHERE tags = '[]') AS items
          JOIN events ON type = wanted AND events.place < items.place
          UNION
          SELECT items.place, events.place, number
          FROM items JOIN events ON events.place < items.place WHERE items.tags = '[]' AND items.types = '[]'
        )
        SELECT coalesce(jsonb_object_agg(place, matches), '{}')
        FROM (SELECT place, jsonb_agg(jsonb_build_array(other, number)) AS matches FROM found GROUP BY place) AS all_of);
    END $function$;

  CREATE FUNCTION $.judge(commits jsonb, facts jsonb, given_at bigint) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE AS $function$
    DECLARE
      head bigint := facts ->> 'head';
      recorded_at bigint := greatest(given_at, (facts ->> 'lastRecordedAt')::bigint);
      all_facts jsonb := facts -> 'commits';
      -- For each commit with a condition the events of earlier ones that match it: commit and number of each.
      matches jsonb := $.matching_neighbours(commits);
      verdicts jsonb[] := '{}';
      -- Of each commit that was accepted its command and what it has come to, …
      commands text[] := '{}';
      outcomes jsonb[] := '{}';
      -- … of each stream that has one the revision and the last of them, …
      streams text[] := '{}';
      revisions bigint[] := '{}';
      lasts integer[] := '{}';
      -- … and for each commit the position of its first event, if it was accepted.
      starts bigint[] := '{}';
      commit jsonb;
      fact jsonb;
      condition jsonb;
      neighbours jsonb;
      first jsonb;
      summary jsonb;
      stream text;
      known integer;
      actual bigint;
      found bigint;
      count integer;
    BEGIN
      FOR place IN 0 .. jsonb_array_length(commits) - 1 LOOP
        commit := commits -> place;
        fact := all_facts -> place;
        first := nullif(fact -> 'first', 'null');
        IF first IS NULL THEN
          first := outcomes[array_position(commands, commit ->> 'commandId')];
        END IF;
        IF first IS NOT NULL THEN
          -- Digests of another kind, UUIDs of version 5, can't be compared: they pass for the same.
          verdicts := verdicts || jsonb_build_object(
            'kind', CASE WHEN first ->> 'hash' = commit ->> 'hash'
                OR first ->> 'hash' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-5' OR commit ->> 'hash' ~ '^[0-9a-f]{8}-[0-9a-f]{4}-5'
              THEN 'duplicate' ELSE 'command-id-reused' END,
            'first', first);
          CONTINUE;
        END IF;

        stream := json_build_array(commit -> 'aggregateType', commit -> 'aggregateId')::text;
        known := array_position(streams, stream);
        actual := coalesce(revisions[known], (fact ->> 'revision')::bigint);
        IF jsonb_typeof(commit -> 'expected') = 'object' THEN
          found := (commit -> 'expected' ->> 'after')::bigint;
          IF starts[found + 1] IS NULL THEN
            verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'neighbour', 'at', found);
            CONTINUE;
          END IF;
          IF lasts[known] IS DISTINCT FROM found THEN
            verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'revision', 'at', actual);
            CONTINUE;
          END IF;
        ELSIF (commit ->> 'expected')::bigint <> actual THEN
          verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'revision', 'at', actual);
          CONTINUE;
        END IF;

        condition := nullif(commit -> 'condition', 'null');
        IF condition IS NOT NULL THEN
          found := (fact ->> 'matched')::bigint;
          IF found IS NOT NULL THEN
            verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'matched', 'at', found);
            CONTINUE;
          END IF;
          neighbours := coalesce(condition -> 'neighbours', '[]');
          IF neighbours <> '[]' THEN
            SELECT neighbour INTO found
            FROM jsonb_array_elements_text(neighbours) WITH ORDINALITY AS named (neighbour, turn)
            WHERE starts[neighbour::integer + 1] IS NULL
            ORDER BY turn LIMIT 1;
            IF found IS NOT NULL THEN
              verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'neighbour', 'at', found);
              CONTINUE;
            END IF;
          END IF;
          IF matches ? place::text THEN
            SELECT min(starts[(match ->> 0)::integer + 1] + (match ->> 1)::integer) INTO found
            FROM jsonb_array_elements(matches -> place::text) AS match
            WHERE NOT neighbours @> (match -> 0);
            IF found IS NOT NULL THEN
              verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'matched', 'at', found);
              CONTINUE;
            END IF;
          END IF;
        END IF;

        count := jsonb_array_length(commit -> 'events');
        summary := jsonb_build_object(
          'position', head + 1, 'revision', actual + count, 'count', count, 'recordedAt', recorded_at);
        verdicts := verdicts || (summary || '{"kind": "committed"}');
        commands := commands || (commit ->> 'commandId');
        outcomes := outcomes || (summary || jsonb_build_object('hash', commit -> 'hash',
          'aggregateType', commit -> 'aggregateType', 'aggregateId', commit -> 'aggregateId'));
        IF known IS NULL THEN
          streams := streams || stream;
          revisions := revisions || (actual + count);
          lasts := lasts || place;
        ELSE
          revisions[known] := actual + count;
          lasts[known] := place;
        END IF;
        starts[place + 1] := head + 1;
        head := head + count;
      END LOOP;
      RETURN to_jsonb(verdicts);
    END $function$;
`;
