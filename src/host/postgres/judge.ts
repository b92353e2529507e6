/**
 * `src/judge.rs` in PL/pgSQL: commits and facts in, verdicts out, as `Verdict` and `Facts` have them.
 * It decides inside the append's transaction, so an append is one statement, and no lock is held while
 * an answer is on its way. `pkg-tests/vectors/judge.json` and random appends hold it to the others.
 */
export const JUDGE = `
  CREATE FUNCTION $.judge(commits jsonb, facts jsonb, given_at bigint) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE AS $function$
    DECLARE
      head bigint := facts ->> 'head';
      recorded_at bigint := greatest(given_at, (facts ->> 'lastRecordedAt')::bigint);
      all_facts jsonb := facts -> 'commits';
      has_conditions boolean := EXISTS (
        SELECT FROM jsonb_array_elements(commits) AS commit WHERE jsonb_typeof(commit -> 'condition') = 'object');
      verdicts jsonb[] := '{}';
      -- Of each commit that was accepted its command and what it has come to, …
      commands text[] := '{}';
      outcomes jsonb[] := '{}';
      -- … of each stream that has one the revision and the last of them, …
      streams text[] := '{}';
      revisions bigint[] := '{}';
      lasts integer[] := '{}';
      -- … and of each of their events whose it is, where it is and by what it is found.
      owners integer[] := '{}';
      positions bigint[] := '{}';
      types text[] := '{}';
      tags jsonb[] := '{}';
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
          IF verdicts[found + 1] ->> 'kind' IS DISTINCT FROM 'committed' THEN
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
          SELECT neighbour INTO found
          FROM jsonb_array_elements_text(neighbours) WITH ORDINALITY AS named (neighbour, turn)
          WHERE verdicts[neighbour::integer + 1] ->> 'kind' IS DISTINCT FROM 'committed'
          ORDER BY turn LIMIT 1;
          IF found IS NOT NULL THEN
            verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'neighbour', 'at', found);
            CONTINUE;
          END IF;
          SELECT min(event.place) INTO found
          FROM unnest(owners, positions, types, tags) AS event (owner, place, type, tags)
          WHERE NOT neighbours @> to_jsonb(event.owner) AND EXISTS (
            SELECT FROM jsonb_array_elements(condition -> 'query') AS item
            WHERE event.tags @> (item -> 'tags')
              AND (item -> 'types' ? event.type OR item -> 'types' = '[]'));
          IF found IS NOT NULL THEN
            verdicts := verdicts || jsonb_build_object('kind', 'conflict', 'reason', 'matched', 'at', found);
            CONTINUE;
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
        IF has_conditions THEN
          FOR n IN 0 .. count - 1 LOOP
            owners := owners || place;
            positions := positions || (head + 1 + n);
            types := types || (commit -> 'events' -> n ->> 'type');
            tags := tags || (commit -> 'events' -> n -> 'tags');
          END LOOP;
        END IF;
        head := head + count;
      END LOOP;
      RETURN to_jsonb(verdicts);
    END $function$;
`;
