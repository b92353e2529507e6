DO $annals$
BEGIN
  -- Of several that open the store for the first time one creates it, and the others find it.
  PERFORM set_config('lock_timeout', '30s', true);
  PERFORM pg_advisory_xact_lock(hashtextextended('annals/format_1', 0));
  IF to_regnamespace('"format_1"') IS NULL THEN CREATE SCHEMA "format_1"; END IF;
  IF to_regclass('"format_1".store') IS NOT NULL THEN RETURN; END IF;
  IF EXISTS (
    SELECT FROM pg_class WHERE relnamespace = '"format_1"'::regnamespace AND relname IN ('store', 'events', 'event_tags', 'commands', 'documents', 'document_postings', 'projections')
  ) THEN
    RAISE EXCEPTION 'the schema has something else under a name of the store' USING ERRCODE = 'AN002';
  END IF;

  CREATE TABLE "format_1".store (
    is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
    format integer NOT NULL,
    epoch text NOT NULL,
    head bigint NOT NULL,
    last_recorded_at timestamptz(3),
    cluster bigint NOT NULL,
    database oid NOT NULL,
    itself oid NOT NULL
  );

  CREATE TABLE "format_1".events (
    position bigint PRIMARY KEY,
    event_id text COLLATE "C" NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    schema_version bigint NOT NULL,
    recorded_at timestamptz(3) NOT NULL,
    issued_at timestamptz(3) NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    correlation_id text COLLATE "C" NOT NULL,
    causation_id text COLLATE "C",
    actor text COLLATE "C",
    metadata json,
    tags text[] COLLATE "C" NOT NULL,
    data json NOT NULL,
    subject text COLLATE "C", -- reserved, with key_id: whose data it is, and the key it is encrypted with
    key_id text COLLATE "C",
    UNIQUE (aggregate_type, aggregate_id, revision)
  );

  CREATE INDEX events_by_type ON "format_1".events (event_type, position);
  -- Most commands are their own first cause, and their ids are found already.
  CREATE INDEX events_by_correlation ON "format_1".events (correlation_id, position) WHERE correlation_id <> command_id;

  CREATE TABLE "format_1".event_tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
  );

  CREATE TABLE "format_1".commands (
    command_id text COLLATE "C" PRIMARY KEY,
    hash text COLLATE "C" NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    revision bigint NOT NULL,
    count bigint NOT NULL,
    recorded_at timestamptz(3) NOT NULL,
    commit_hash text COLLATE "C" -- reserved: a log that can be verified
  );

  -- A document tells its postings, pairs of index and value, so that they are found again when it is
  -- replaced or removed.
  CREATE TABLE "format_1".documents (
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    postings jsonb,
    value json NOT NULL,
    PRIMARY KEY (collection, key)
  );

  -- An entry of an index has room for so much: collection and index are there as their digest.
  CREATE TABLE "format_1".document_postings (
    of text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (of, value, key)
  );

  CREATE FUNCTION "format_1".only_appended() RETURNS trigger LANGUAGE plpgsql AS $function$
    BEGIN
      RAISE EXCEPTION '% can only be appended', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $function$;
  CREATE TRIGGER events_are_only_appended BEFORE UPDATE OR DELETE OR TRUNCATE ON "format_1".events
    EXECUTE FUNCTION "format_1".only_appended();
  CREATE TRIGGER commands_are_only_appended BEFORE UPDATE OR DELETE OR TRUNCATE ON "format_1".commands
    EXECUTE FUNCTION "format_1".only_appended();

  CREATE VIEW "format_1".projections AS
    SELECT checkpoint.name ->> 0 AS projection, (checkpoint.name ->> 1)::bigint AS version,
      coalesce((value ->> 'built')::boolean, false) AS built, revision AS position
    FROM (SELECT key::json AS name, value, revision FROM "format_1".documents WHERE collection = 'checkpoints') AS checkpoint;

  CREATE FUNCTION "format_1".projected(projection text) RETURNS TABLE (key text, value json)
    LANGUAGE sql STABLE AS $function$
      SELECT documents.key, documents.value FROM "format_1".documents
      WHERE documents.collection = (
        SELECT 'view/' || version || '/' || projections.projection FROM "format_1".projections
        WHERE projections.projection = $1
        ORDER BY built DESC, version DESC LIMIT 1)
    $function$;

  CREATE FUNCTION "format_1".instant(millis bigint) RETURNS timestamptz LANGUAGE sql STABLE
    RETURN to_timestamp(millis / 1000) + (millis % 1000) * interval '1 millisecond';

  CREATE FUNCTION "format_1".millis(instant timestamptz) RETURNS bigint LANGUAGE sql STABLE
    RETURN (extract(epoch FROM instant) * 1000)::bigint;

  -- An event but for its payload and its metadata, as a JSON array.
  CREATE FUNCTION "format_1".row_of(event "format_1".events) RETURNS text LANGUAGE sql STABLE
    RETURN json_build_array(
      event.position, event.aggregate_type, event.aggregate_id, event.revision, event.event_id,
      event.event_type, event.schema_version, event.tags, "format_1".millis(event.recorded_at),
      "format_1".millis(event.issued_at), event.command_id, event.correlation_id, event.causation_id,
      event.actor)::text;

  CREATE FUNCTION "format_1".first_outcome(command "format_1".commands) RETURNS jsonb LANGUAGE sql STABLE
    RETURN CASE WHEN command.command_id IS NOT NULL THEN jsonb_build_object(
      'hash', command.hash, 'aggregateType', command.aggregate_type,
      'aggregateId', command.aggregate_id, 'position', command.position,
      'revision', command.revision, 'count', command.count,
      'recordedAt', "format_1".millis(command.recorded_at)) END;

  -- Positions of the events that match an item of a query, in order.
  CREATE FUNCTION "format_1".matches(item jsonb, after bigint, most bigint) RETURNS SETOF bigint
    LANGUAGE plpgsql STABLE AS $function$
    #variable_conflict use_column
    DECLARE
      wanted_types text[] := ARRAY(SELECT jsonb_array_elements_text(item -> 'types'));
      wanted_tags text[] := ARRAY(SELECT jsonb_array_elements_text(item -> 'tags'));
      rarest text := wanted_tags[1];
    BEGIN
      IF cardinality(wanted_tags) > 1 THEN
        SELECT wanted.tag INTO rarest FROM unnest(wanted_tags) AS wanted (tag)
        ORDER BY (
          SELECT count(*) FROM (
            SELECT FROM "format_1".event_tags AS tagged
            WHERE tagged.tag = wanted.tag AND tagged.position > after LIMIT 1000) AS counted)
        LIMIT 1;
      END IF;
      IF rarest IS NOT NULL THEN
        RETURN QUERY
          SELECT tagged.position FROM "format_1".event_tags AS tagged
          WHERE tagged.tag = rarest AND tagged.position > after
            AND (cardinality(wanted_tags) = 1 OR NOT EXISTS (
              SELECT FROM unnest(wanted_tags) AS wanted (tag) WHERE NOT EXISTS (
                SELECT FROM "format_1".event_tags AS other
                WHERE other.tag = wanted.tag AND other.position = tagged.position)))
            AND (cardinality(wanted_types) = 0 OR EXISTS (
              SELECT FROM "format_1".events AS event
              WHERE event.position = tagged.position AND event.event_type = ANY (wanted_types)))
          ORDER BY tagged.position LIMIT most;
      ELSIF cardinality(wanted_types) > 0 THEN
        RETURN QUERY
          SELECT found.position FROM (SELECT DISTINCT unnest(wanted_types)) AS wanted (event_type)
          CROSS JOIN LATERAL (
            SELECT event.position FROM "format_1".events AS event
            WHERE event.event_type = wanted.event_type AND event.position > after
            ORDER BY event.position LIMIT most) AS found
          ORDER BY found.position LIMIT most;
      ELSE
        RETURN QUERY
          SELECT event.position FROM "format_1".events AS event WHERE event.position > after
          ORDER BY event.position LIMIT most;
      END IF;
    END $function$;

  CREATE FUNCTION "format_1".first_match(query jsonb, after bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE AS $function$
    DECLARE
      item jsonb;
      lowest bigint;
    BEGIN
      FOR item IN SELECT jsonb_array_elements(query) LOOP
        IF jsonb_array_length(item -> 'tags') = 1 AND item -> 'types' = '[]' THEN
          -- As nearly always.
          lowest := least(lowest, (SELECT min(position) FROM "format_1".event_tags WHERE tag = item -> 'tags' ->> 0 AND position > after));
        ELSE
          lowest := least(lowest, (SELECT "format_1".matches(item, after, 1)));
        END IF;
      END LOOP;
      RETURN lowest;
    END $function$;

  -- The postings of an index of a collection. Those of all its indexes begin alike.
  CREATE FUNCTION "format_1".postings_of(collection text, index_name text) RETURNS text LANGUAGE sql STABLE
    RETURN left(encode(sha256(convert_to(collection, 'UTF8')), 'hex'), 32)
      || left(encode(sha256(convert_to(index_name, 'UTF8')), 'hex'), 32);

  -- What the judge wants to know, as `Facts` has it.
  CREATE FUNCTION "format_1".facts(commits jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $function$
    DECLARE
      store record;
    BEGIN
      SELECT head, last_recorded_at INTO STRICT store FROM "format_1".store;
      RETURN jsonb_build_object(
        'head', store.head, 'lastRecordedAt', coalesce("format_1".millis(store.last_recorded_at), 0),
        'commits', (
          SELECT coalesce(jsonb_agg(jsonb_build_object(
            'revision', (
              SELECT coalesce(max(event.revision), 0) FROM "format_1".events AS event
              WHERE event.aggregate_type = asking.commit ->> 'aggregateType'
                AND event.aggregate_id = asking.commit ->> 'aggregateId'),
            'first', "format_1".first_outcome(command),
            'matched', CASE WHEN (asking.commit -> 'condition' ->> 'after')::bigint < store.head
              THEN "format_1".first_match(asking.commit -> 'condition' -> 'query', (asking.commit -> 'condition' ->> 'after')::bigint) END
          ) ORDER BY asking.place), '[]')
          FROM jsonb_array_elements(commits) WITH ORDINALITY AS asking (commit, place)
          LEFT JOIN "format_1".commands AS command ON command.command_id = asking.commit ->> 'commandId'));
    END $function$;

  -- Where the store is; its epoch is that of another life if it was copied here.
  CREATE FUNCTION "format_1".place(OUT cluster bigint, OUT database oid, OUT itself oid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
      SELECT (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        (SELECT tableoid FROM "format_1".store)
    $function$;

  -- Found by their tags and types: that each is compared with each is not for large appends.
  CREATE FUNCTION "format_1".matching_neighbours(commits jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $function$
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

  CREATE FUNCTION "format_1".judge(commits jsonb, facts jsonb, given_at bigint) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE AS $function$
    DECLARE
      head bigint := facts ->> 'head';
      recorded_at bigint := greatest(given_at, (facts ->> 'lastRecordedAt')::bigint);
      all_facts jsonb := facts -> 'commits';
      -- For each commit with a condition the events of earlier ones that match it: commit and number of each.
      matches jsonb := "format_1".matching_neighbours(commits);
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

  -- Says what the store is. One that finds itself elsewhere begins another life.
  CREATE FUNCTION "format_1".open_store(patience text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
    DECLARE
      place record;
      store record;
    BEGIN
      SELECT * INTO place FROM "format_1".place();
      SELECT epoch, head, (cluster, database, itself) IS DISTINCT FROM (place.cluster, place.database, place.itself) AS is_copy
        INTO STRICT store FROM "format_1".store;
      IF store.is_copy THEN
        PERFORM set_config('lock_timeout', patience, true);
        UPDATE "format_1".store SET (cluster, database, itself) = (place.cluster, place.database, place.itself),
          epoch = replace(gen_random_uuid()::text, '-', '')
        WHERE (cluster, database, itself) IS DISTINCT FROM (place.cluster, place.database, place.itself);
        SELECT epoch, head INTO STRICT store FROM "format_1".store;
      END IF;
      RETURN json_build_object('format', 1, 'epoch', store.epoch, 'head', store.head,
        'encoding', current_setting('server_encoding'),
        'isolation', current_setting('transaction_isolation'),
        'flushes', current_setting('fsync') = 'on',
        'replicates', current_setting('synchronous_standby_names') <> '');
    END $function$;

  CREATE FUNCTION "format_1".append(asked text, given_at bigint, commits jsonb, safety text, patience text)
    RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
    DECLARE
      store record;
      verdicts jsonb;
      reached bigint;
    BEGIN
      -- For this transaction.
      PERFORM set_config('lock_timeout', patience, true), set_config('synchronous_commit', safety, true);
      -- Until the transaction ends nobody else appends: so positions are seen in their order.
      SELECT epoch, itself, tableoid INTO STRICT store FROM "format_1".store FOR UPDATE;
      IF store.epoch IS DISTINCT FROM asked OR store.itself <> store.tableoid THEN
        RAISE EXCEPTION 'expected the store %, found %', asked,
          CASE WHEN store.itself = store.tableoid THEN store.epoch ELSE 'a copy of it' END
          USING ERRCODE = 'AN001';
      END IF;
      verdicts := "format_1".judge(commits, "format_1".facts(commits), given_at);
      WITH accepted AS MATERIALIZED (
        SELECT asking.commit, (verdict ->> 'position')::bigint AS position,
          (verdict ->> 'revision')::bigint AS revision, (verdict ->> 'count')::bigint AS count,
          "format_1".instant((verdict ->> 'recordedAt')::bigint) AS recorded_at
        FROM jsonb_array_elements(commits) WITH ORDINALITY AS asking (commit, place)
        JOIN jsonb_array_elements(verdicts) WITH ORDINALITY AS judged (verdict, place) USING (place)
        WHERE verdict ->> 'kind' = 'committed'
      ), written AS (
        INSERT INTO "format_1".events (position, event_id, aggregate_type, aggregate_id, revision, event_type,
          schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor,
          metadata, tags, data)
        SELECT position + place - 1, event ->> 'eventId', commit ->> 'aggregateType',
          commit ->> 'aggregateId', revision - count + place, event ->> 'type',
          (event ->> 'schemaVersion')::bigint, recorded_at, "format_1".instant((commit ->> 'issuedAt')::bigint),
          commit ->> 'commandId', commit ->> 'correlationId', commit ->> 'causationId',
          commit ->> 'actor', (commit ->> 'extra')::json,
          ARRAY(SELECT jsonb_array_elements_text(event -> 'tags')), (event ->> 'data')::json
        FROM accepted CROSS JOIN jsonb_array_elements(commit -> 'events') WITH ORDINALITY AS told (event, place)
        RETURNING position, tags
      ), tagged AS (
        INSERT INTO "format_1".event_tags (tag, position)
        SELECT DISTINCT unnest(tags), position FROM written
      ), known AS (
        INSERT INTO "format_1".commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at)
        SELECT commit ->> 'commandId', commit ->> 'hash', commit ->> 'aggregateType',
          commit ->> 'aggregateId', position, revision, count, recorded_at
        FROM accepted
      )
      UPDATE "format_1".store SET head = last.head, last_recorded_at = last.recorded_at
      FROM (SELECT max(position + count - 1) AS head, max(recorded_at) AS recorded_at FROM accepted) AS last
      WHERE last.head IS NOT NULL
      RETURNING last.head INTO reached;
      IF reached IS NOT NULL THEN PERFORM pg_notify('annals/format_1', reached::text); END IF;
      RETURN verdicts;
    END $function$;

  CREATE FUNCTION "format_1".load(asked text, wanted jsonb) RETURNS TABLE (part integer, item integer, about text, data text, extra text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
    BEGIN
      SELECT epoch, head, itself, tableoid INTO store FROM "format_1".store;
      IF store.epoch IS DISTINCT FROM asked OR store.itself <> store.tableoid THEN
        RAISE EXCEPTION 'expected the store %, found %', asked,
          CASE WHEN store.itself = store.tableoid THEN store.epoch ELSE 'a copy of it' END
          USING ERRCODE = 'AN001';
      END IF;
      RETURN QUERY SELECT 0, 0, store.head::text, NULL, NULL;
      RETURN QUERY
        SELECT 1, asking.place::integer - 1, "format_1".first_outcome(command)::text, NULL, NULL
        FROM jsonb_array_elements_text(wanted -> 'commands') WITH ORDINALITY AS asking (id, place)
        JOIN "format_1".commands AS command ON command.command_id = asking.id;
      RETURN QUERY
        WITH asking AS (
          SELECT place::integer - 1 AS item, load ->> 'aggregateType' AS type, load ->> 'aggregateId' AS id,
            (load ->> 'after')::bigint AS after, load ->> 'snapshot' AS snapshot,
            (load ->> 'untilRevision')::bigint AS until_revision,
            (load ->> 'untilPosition')::bigint AS until_position,
            "format_1".instant((load ->> 'untilTime')::bigint) AS until_time,
            (load ->> 'limit')::bigint AS most, (load ->> 'whole')::boolean AS whole
          FROM jsonb_array_elements(wanted -> 'streams') WITH ORDINALITY AS streams (load, place)
        ), found AS MATERIALIZED (
          SELECT item, type, id, most, whole, coalesce(document.revision, after) AS after,
            document.revision AS snapshot_revision, document.value AS snapshot,
            coalesce(stream.revision, 0) AS revision,
            -- Position and time grow with the revision.
            least(until_revision, coalesce(stream.revision, 0),
              CASE WHEN until_position IS NOT NULL THEN coalesce((
                SELECT event.revision FROM "format_1".events AS event
                WHERE event.aggregate_type = type AND event.aggregate_id = id AND event.position <= until_position
                ORDER BY event.revision DESC LIMIT 1), 0) END,
              CASE WHEN until_time IS NOT NULL THEN coalesce((
                SELECT event.revision FROM "format_1".events AS event
                WHERE event.aggregate_type = type AND event.aggregate_id = id AND event.recorded_at <= until_time
                ORDER BY event.revision DESC LIMIT 1), 0) END) AS last
          FROM asking
          LEFT JOIN "format_1".documents AS document ON document.collection = 'snapshots' AND document.key = snapshot
          CROSS JOIN LATERAL (
            SELECT max(event.revision) AS revision FROM "format_1".events AS event
            WHERE event.aggregate_type = type AND event.aggregate_id = id) AS stream
        ), events AS (
          SELECT 3, item, "format_1".row_of(event), event.data::text, event.metadata::text
          FROM found JOIN "format_1".events AS event ON whole AND event.aggregate_type = type
            AND event.aggregate_id = id AND event.revision > after AND event.revision <= least(last, after + most)
          ORDER BY item, event.revision
        )
        SELECT 2, item,
          json_build_array(found.revision, last - after > most, snapshot_revision, messages.forms)::text,
          messages.payloads, snapshot::text
        FROM found LEFT JOIN LATERAL (
          SELECT json_agg(
  CASE schema_version WHEN 1 THEN event_type ELSE event_type || chr(127) || schema_version END) AS forms, '[' || string_agg(data::text, E',\n') || ']' AS payloads
          FROM (
            SELECT event_type, schema_version, data FROM "format_1".events AS event
            WHERE event.aggregate_type = type AND event.aggregate_id = id AND event.revision > after
              AND event.revision <= least(last, after + most)
            ORDER BY event.revision) AS event
        ) AS messages ON NOT whole
        UNION ALL
        SELECT * FROM events;
      RETURN QUERY
        SELECT 4, found.item, "format_1".row_of(event), event.data::text, event.metadata::text
        FROM (
          SELECT DISTINCT place::integer - 1 AS item, position
          FROM jsonb_array_elements(wanted -> 'queries') WITH ORDINALITY AS queries (load, place)
          CROSS JOIN jsonb_array_elements(load -> 'query') AS items (item)
          CROSS JOIN "format_1".matches(items.item, (load ->> 'after')::bigint, NULL) AS position
        ) AS found JOIN "format_1".events AS event USING (position)
        ORDER BY found.item, event.position;
    END $function$;

  -- Filters look at so many positions at a time: a page may be short, and says up to where it was looked.
  CREATE FUNCTION "format_1".read_log(asked text, wanted jsonb) RETURNS TABLE (part integer, item integer, about text, data text, extra text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
      wanted_after bigint := wanted ->> 'after';
      wanted_types text[] := ARRAY(SELECT DISTINCT jsonb_array_elements_text(wanted -> 'types'));
      wanted_tags text[] := ARRAY(SELECT DISTINCT jsonb_array_elements_text(wanted -> 'tags'));
      wanted_streams text[] := ARRAY(SELECT jsonb_array_elements_text(wanted -> 'aggregateTypes'));
      wanted_correlation text := wanted ->> 'correlationId';
      page bigint := wanted ->> 'limit';
      most bigint := greatest(page, 2000);
      seen bigint[];
    BEGIN
      SELECT epoch, head, itself, tableoid INTO store FROM "format_1".store;
      IF store.epoch IS DISTINCT FROM asked OR store.itself <> store.tableoid THEN
        RAISE EXCEPTION 'expected the store %, found %', asked,
          CASE WHEN store.itself = store.tableoid THEN store.epoch ELSE 'a copy of it' END
          USING ERRCODE = 'AN001';
      END IF;
      IF wanted_correlation IS NOT NULL THEN
        seen := ARRAY(
          SELECT position FROM (
            (SELECT position FROM "format_1".events
              WHERE correlation_id = wanted_correlation AND correlation_id <> command_id AND position > wanted_after
              ORDER BY position LIMIT most)
            UNION ALL
            (SELECT event.position FROM "format_1".commands AS command JOIN "format_1".events AS event
                ON event.position >= command.position AND event.position < command.position + command.count
              WHERE command.command_id = wanted_correlation AND event.correlation_id = wanted_correlation
                AND event.position > wanted_after
              ORDER BY event.position LIMIT most)) AS caused
          ORDER BY position LIMIT most);
      ELSIF cardinality(wanted_tags) > 0 THEN
        seen := ARRAY(
          SELECT DISTINCT found.position FROM unnest(wanted_tags) AS any_of (tag)
          CROSS JOIN LATERAL (
            SELECT tagged.position FROM "format_1".event_tags AS tagged
            WHERE tagged.tag = any_of.tag AND tagged.position > wanted_after
            ORDER BY tagged.position LIMIT most) AS found
          ORDER BY found.position LIMIT most);
      ELSIF cardinality(wanted_types) > 0 THEN
        seen := ARRAY(
          SELECT found.position FROM unnest(wanted_types) AS any_of (event_type)
          CROSS JOIN LATERAL (
            SELECT event.position FROM "format_1".events AS event
            WHERE event.event_type = any_of.event_type AND event.position > wanted_after
            ORDER BY event.position LIMIT most) AS found
          ORDER BY found.position LIMIT most);
      ELSIF cardinality(wanted_streams) > 0 THEN
        seen := ARRAY(
          SELECT position FROM "format_1".events WHERE position > wanted_after ORDER BY position LIMIT most);
      ELSE
        RETURN QUERY SELECT 0, 0, json_build_array(store.head, NULL)::text, NULL, NULL;
        RETURN QUERY
          SELECT 1, 0, "format_1".row_of(event), event.data::text, event.metadata::text FROM "format_1".events AS event
          WHERE event.position > wanted_after ORDER BY event.position LIMIT page;
        RETURN;
      END IF;
      RETURN QUERY SELECT 0, 0, json_build_array(store.head, seen[most])::text, NULL, NULL;
      RETURN QUERY
        SELECT 1, 0, "format_1".row_of(event), event.data::text, event.metadata::text FROM "format_1".events AS event
        WHERE event.position = ANY (seen)
          AND (cardinality(wanted_types) = 0 OR event.event_type = ANY (wanted_types))
          AND (cardinality(wanted_streams) = 0 OR event.aggregate_type = ANY (wanted_streams))
          AND (cardinality(wanted_tags) = 0 OR event.tags && wanted_tags)
        ORDER BY event.position LIMIT page;
    END $function$;

  CREATE FUNCTION "format_1".read_documents(asked text, names jsonb, scans jsonb) RETURNS TABLE (part integer, item integer, about text, data text, extra text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
      scan jsonb;
      place integer := 0;
      source text;
      bounds text;
      direction text;
    BEGIN
      SELECT epoch, head, itself, tableoid INTO store FROM "format_1".store;
      IF store.epoch IS DISTINCT FROM asked OR store.itself <> store.tableoid THEN
        RAISE EXCEPTION 'expected the store %, found %', asked,
          CASE WHEN store.itself = store.tableoid THEN store.epoch ELSE 'a copy of it' END
          USING ERRCODE = 'AN001';
      END IF;
      RETURN QUERY SELECT 0, 0, store.head::text, NULL, NULL;
      RETURN QUERY
        SELECT 1, asking.place::integer - 1, document.revision::text, document.value::text, NULL
        FROM jsonb_array_elements(names) WITH ORDINALITY AS asking (name, place)
        JOIN "format_1".documents AS document
          ON document.collection = asking.name ->> 'collection' AND document.key = asking.name ->> 'key';
      FOR scan IN SELECT jsonb_array_elements(scans) LOOP
        -- Written for what is asked: an end that is not there must not keep the index from being used.
        IF scan ->> 'index' IS NULL THEN
          source := 'FROM "format_1".documents AS found WHERE found.collection = $2 ->> ''collection''
            AND found.key >= $2 ->> ''fromAt''';
          bounds := 'AND found.key < $2 ->> ''toAt''';
        ELSE
          source := 'FROM "format_1".document_postings AS found
            WHERE found.of = "format_1".postings_of($2 ->> ''collection'', $2 ->> ''index'')
            AND (found.value, found.key) >= ($2 ->> ''fromAt'', $2 ->> ''fromKey'')';
          bounds := 'AND (found.value, found.key) < ($2 ->> ''toAt'', $2 ->> ''toKey'')';
        END IF;
        IF scan ->> 'toAt' IS NOT NULL THEN source := source || bounds; END IF;
        direction := CASE WHEN (scan ->> 'descending')::boolean THEN 'DESC' ELSE 'ASC' END;
        IF scan ->> 'limit' IS NULL THEN
          RETURN QUERY EXECUTE 'SELECT 3, $1, count(*)::text, NULL, NULL ' || source USING place, scan;
        ELSIF scan ->> 'index' IS NULL THEN
          RETURN QUERY EXECUTE
            'SELECT 2, $1, json_build_array(found.key, found.key, found.revision)::text, found.value::text, NULL '
            || source || ' ORDER BY found.key ' || direction || ' LIMIT ($2 ->> ''limit'')::bigint'
            USING place, scan;
        ELSE
          RETURN QUERY EXECUTE
            'SELECT 2, $1, json_build_array(found.value, found.key, document.revision)::text, document.value::text, NULL
            FROM (SELECT found.* ' || source
            || ' ORDER BY found.value ' || direction || ', found.key ' || direction
            || ' LIMIT ($2 ->> ''limit'')::bigint) AS found
            JOIN "format_1".documents AS document ON document.collection = $2 ->> ''collection'' AND document.key = found.key
            ORDER BY found.value ' || direction || ', found.key ' || direction
            USING place, scan;
        END IF;
        place := place + 1;
      END LOOP;
    END $function$;

  CREATE FUNCTION "format_1".save_documents(asked text, wanted jsonb, safety text, patience text)
    RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
      conflict jsonb;
    BEGIN
      -- For this transaction.
      PERFORM set_config('lock_timeout', patience, true), set_config('synchronous_commit', safety, true);
      -- Who changes a collection, or expects something of it, is alone with it. All take them in one order.
      PERFORM pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended('annals/format_1' || '/' || name, 0) AS key FROM (
          SELECT jsonb_array_elements(wanted -> 'expected') ->> 'collection'
          UNION ALL SELECT jsonb_array_elements(wanted -> 'documents') ->> 'collection'
          UNION ALL SELECT jsonb_array_elements_text(wanted -> 'clear')) AS all_of (name)
        ORDER BY key) AS locks;
      SELECT epoch, head, itself, tableoid INTO store FROM "format_1".store;
      IF store.epoch IS DISTINCT FROM asked OR store.itself <> store.tableoid THEN
        RAISE EXCEPTION 'expected the store %, found %', asked,
          CASE WHEN store.itself = store.tableoid THEN store.epoch ELSE 'a copy of it' END
          USING ERRCODE = 'AN001';
      END IF;
      SELECT jsonb_build_object('index', asking.place - 1, 'actual', coalesce(document.revision, 0)) INTO conflict
      FROM jsonb_array_elements(wanted -> 'expected') WITH ORDINALITY AS asking (name, place)
      LEFT JOIN "format_1".documents AS document
        ON document.collection = asking.name ->> 'collection' AND document.key = asking.name ->> 'key'
      WHERE coalesce(document.revision, 0) <> (asking.name ->> 'revision')::bigint
      ORDER BY asking.place LIMIT 1;
      IF FOUND THEN RETURN conflict; END IF;
      DELETE FROM "format_1".documents WHERE collection IN (SELECT jsonb_array_elements_text(wanted -> 'clear'));
      -- Hexadecimal digits come before g.
      DELETE FROM "format_1".document_postings AS posting
      USING (SELECT left("format_1".postings_of(name, ''), 32) AS start FROM jsonb_array_elements_text(wanted -> 'clear') AS name) AS cleared
      WHERE posting.of >= cleared.start AND posting.of < cleared.start || 'g';
      WITH given AS MATERIALIZED (
        -- Of those with one name the last counts.
        SELECT DISTINCT ON (document ->> 'collection', document ->> 'key')
          document ->> 'collection' AS collection, document ->> 'key' AS key,
          (document ->> 'revision')::bigint AS revision, nullif(document -> 'postings', '[]') AS postings,
          document ->> 'value' AS value
        FROM jsonb_array_elements(wanted -> 'documents') WITH ORDINALITY AS documents (document, place)
        ORDER BY document ->> 'collection', document ->> 'key', place DESC
      ), before AS MATERIALIZED (
        SELECT "format_1".postings_of(given.collection, posting ->> 0) AS of, posting ->> 1 AS value, given.key
        FROM given JOIN "format_1".documents AS document USING (collection, key)
        CROSS JOIN jsonb_array_elements(document.postings) AS posting
      ), after AS MATERIALIZED (
        SELECT "format_1".postings_of(collection, posting ->> 0), posting ->> 1, key
        FROM given CROSS JOIN jsonb_array_elements(postings) AS posting WHERE given.value IS NOT NULL
      ), gone AS (
        DELETE FROM "format_1".document_postings AS posting
        USING (SELECT * FROM before EXCEPT SELECT * FROM after) AS was
        WHERE (posting.of, posting.value, posting.key) = (was.of, was.value, was.key)
      ), come AS (
        INSERT INTO "format_1".document_postings (of, value, key)
        SELECT * FROM (SELECT * FROM after EXCEPT SELECT * FROM before) AS fresh
      ), removed AS (
        DELETE FROM "format_1".documents AS document USING given
        WHERE document.collection = given.collection AND document.key = given.key AND given.value IS NULL
      )
      INSERT INTO "format_1".documents (collection, key, revision, postings, value)
      SELECT collection, key, revision, postings, value::json FROM given WHERE value IS NOT NULL
      ON CONFLICT (collection, key) DO UPDATE
        SET revision = excluded.revision, postings = excluded.postings, value = excluded.value;
      RETURN NULL;
    END $function$;

  INSERT INTO "format_1".store (format, epoch, head, cluster, database, itself)
  SELECT 1, replace(gen_random_uuid()::text, '-', ''), 0, 0, 0, 0;
  UPDATE "format_1".store SET (cluster, database, itself) = (SELECT * FROM "format_1".place());
  REVOKE ALL ON FUNCTION "format_1".only_appended() FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".projected(text) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".instant(bigint) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".millis(timestamptz) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".row_of("format_1".events) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".first_outcome("format_1".commands) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".matches(jsonb, bigint, bigint) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".first_match(jsonb, bigint) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".postings_of(text, text) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".facts(jsonb) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".place() FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".matching_neighbours(jsonb) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".judge(jsonb, jsonb, bigint) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".open_store(text) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".append(text, bigint, jsonb, text, text) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".load(text, jsonb) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".read_log(text, jsonb) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".read_documents(text, jsonb, jsonb) FROM PUBLIC;
  REVOKE ALL ON FUNCTION "format_1".save_documents(text, jsonb, text, text) FROM PUBLIC;
END $annals$;
INSERT INTO "format_1".events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES ('1', 'e3a20d79-07b8-562a-8361-30008ea46a6c', 'Appointment', 'a-1', '1', 'AppointmentBooked', '1', '2026-11-30 21:50:01.024+00', '2026-11-23 08:00:00+00', '0190f000-0000-7000-8000-000000000001', '0190f000-0000-7000-8000-000000000001', NULL, 'reception', '{"ip":"::1"}', '{doctor:7/2026-12-01,room:3/2026-12-01}', '{"doctor":"7","patient":"p-1","room":"3","appointmentType":"check-up","start":"2026-12-01T09:00:00.000Z","end":"2026-12-01T09:30:00.000Z","title":"Ünïcode \"quoted\"; it''s 😀","comment":""}', NULL, NULL);
INSERT INTO "format_1".events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES ('2', 'fd61e479-febe-5ffe-b23d-0ecf39d89745', 'Appointment', 'a-1', '2', 'AppointmentUpdated', '1', '2026-11-30 21:50:01.031+00', '2026-11-23 08:00:00+00', '0190f000-0000-7000-8000-000000000002', '0190f000-0000-7000-8000-000000000002', NULL, 'reception', '{"ip":"::1"}', '{}', '{"title":"Second"}', NULL, NULL);
INSERT INTO "format_1".events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES ('3', 'f143872c-9747-5026-a20d-bd74bb9a8e67', 'Appointment', 'a-2', '1', 'AppointmentBooked', '1', '2026-11-30 21:50:01.038+00', '2026-11-23 08:00:00+00', '0190f000-0000-7000-8000-000000000003', '0190f000-0000-7000-8000-000000000003', NULL, 'reception', '{"ip":"::1"}', '{doctor:8/2026-12-01,room:4/2026-12-01}', '{"doctor":"8","patient":"p-1","room":"4","appointmentType":"check-up","start":"2026-12-01T09:00:00.000Z","end":"2026-12-01T09:30:00.000Z","title":"Ünïcode \"quoted\"; it''s 😀","comment":""}', NULL, NULL);
INSERT INTO "format_1".events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES ('4', '2c789366-6bc5-5af7-9a43-4b65804ddc16', 'Appointment', 'a-1', '3', 'AppointmentCancelled', '1', '2026-11-30 21:50:01.045+00', '2026-11-23 08:00:00+00', '0190f000-0000-7000-8000-000000000004', '0190f000-0000-7000-8000-000000000004', NULL, 'reception', '{"ip":"::1"}', '{doctor:7/2026-12-01,room:3/2026-12-01}', '{"reason":"ill"}', NULL, NULL);
INSERT INTO "format_1".event_tags (tag, position) VALUES ('room:3/2026-12-01', '1');
INSERT INTO "format_1".event_tags (tag, position) VALUES ('doctor:7/2026-12-01', '1');
INSERT INTO "format_1".event_tags (tag, position) VALUES ('room:4/2026-12-01', '3');
INSERT INTO "format_1".event_tags (tag, position) VALUES ('doctor:8/2026-12-01', '3');
INSERT INTO "format_1".event_tags (tag, position) VALUES ('room:3/2026-12-01', '4');
INSERT INTO "format_1".event_tags (tag, position) VALUES ('doctor:7/2026-12-01', '4');
INSERT INTO "format_1".commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000001', '755e2be7-a11e-8864-a820-d748dfc48373', 'Appointment', 'a-1', '1', '1', '1', '2026-11-30 21:50:01.024+00', NULL);
INSERT INTO "format_1".commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000002', '755e2be7-a11e-8864-a820-d748dfc48373', 'Appointment', 'a-1', '2', '2', '1', '2026-11-30 21:50:01.031+00', NULL);
INSERT INTO "format_1".commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000003', '755e2be7-a11e-8864-a820-d748dfc48373', 'Appointment', 'a-2', '3', '1', '1', '2026-11-30 21:50:01.038+00', NULL);
INSERT INTO "format_1".commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000004', '755e2be7-a11e-8864-a820-d748dfc48373', 'Appointment', 'a-1', '4', '3', '1', '2026-11-30 21:50:01.045+00', NULL);
UPDATE "format_1".store SET head = 4, last_recorded_at = '2026-11-30 21:50:01.045+00';
