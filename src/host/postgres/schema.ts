import { invalidArgument } from "../errors.js";
import { JUDGE } from "./judge.js";

/** The format that this release writes. */
export const FORMAT = 2;

/** SQLSTATEs of the store's own: none of PostgreSQL's begins so. */
export const FOREIGN_EPOCH = "AN001";
export const NOT_A_STORE = "AN002";

/** The schema that is used unless another is named. */
export const DEFAULT_SCHEMA = "annals";

/**
 * `store` is one row: the format, the epoch, and the head, which an append locks for its time. Its last
 * columns say where it was when it got its epoch. `events` has a row for each event: streams are found
 * by its unique constraint, the log by its key. `event_tags` finds events by tag. `commands` remembers
 * the command ids, which are looked up in every append and outlive the events' rows. `documents` are
 * what is made of the events, and may be made anew; `document_postings` finds them by what is in them.
 *
 * Texts are ordered by their bytes, as everywhere in Annals. `json` keeps a text as it is; `jsonb` would
 * write it anew.
 */
const TABLES = `
  CREATE TABLE $.store (
    is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
    format integer NOT NULL,
    epoch text NOT NULL,
    head bigint NOT NULL,
    last_recorded_at timestamptz(3),
    cluster bigint NOT NULL,
    database oid NOT NULL,
    itself oid NOT NULL
  );

  CREATE TABLE $.events (
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

  CREATE INDEX events_by_type ON $.events (event_type, position);
  -- Most commands are their own first cause, and their ids are found already.
  CREATE INDEX events_by_correlation ON $.events (correlation_id, position) WHERE correlation_id <> command_id;

  CREATE TABLE $.event_tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
  );

  CREATE TABLE $.commands (
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
  CREATE TABLE $.documents (
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    postings jsonb,
    value json NOT NULL,
    PRIMARY KEY (collection, key)
  );

  -- An entry of an index has room for so much: collection and index are there as their digest.
  CREATE TABLE $.document_postings (
    of text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (of, value, key)
  );

  CREATE FUNCTION $.only_appended() RETURNS trigger LANGUAGE plpgsql AS $function$
    BEGIN
      RAISE EXCEPTION '% can only be appended', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $function$;
  CREATE TRIGGER events_are_only_appended BEFORE UPDATE OR DELETE OR TRUNCATE ON $.events
    EXECUTE FUNCTION $.only_appended();
  CREATE TRIGGER commands_are_only_appended BEFORE UPDATE OR DELETE OR TRUNCATE ON $.commands
    EXECUTE FUNCTION $.only_appended();
`;

/**
 * What people read with SQL besides the tables. A projection's documents are in the collection that its
 * name and version make; its checkpoint tells how far they are. The newest version that has been built
 * is the one that engines give.
 */
const VIEWS = `
  CREATE VIEW $.projections AS
    SELECT checkpoint.name ->> 0 AS projection, (checkpoint.name ->> 1)::bigint AS version,
      coalesce((value ->> 'built')::boolean, false) AS built,
      -- One that was given up while it was being built has none.
      CASE WHEN value ->> 'cancelled' IS NULL THEN revision ELSE 0 END AS position
    FROM (SELECT key::json AS name, value, revision FROM $.documents WHERE collection = 'checkpoints') AS checkpoint;

  CREATE FUNCTION $.projected(projection text) RETURNS TABLE (key text, value json)
    LANGUAGE sql STABLE AS $function$
      SELECT documents.key, documents.value FROM $.documents
      WHERE documents.collection = (
        SELECT 'view/' || version || '/' || projections.projection FROM $.projections
        WHERE projections.projection = $1
        ORDER BY built DESC, version DESC LIMIT 1)
    $function$;
`;

/**
 * A function that its callers need no other privilege for. What it does with lists is small, but planned
 * as if it were not: compiling it took seconds.
 */
const OF_THE_OWNER = `SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off`;

/**
 * Rows are looked up one by one: the planner takes the lists that are asked for to be long, and would
 * read a whole table for one.
 */
const LOOKING_UP = `${OF_THE_OWNER} SET enable_hashjoin = off SET enable_mergejoin = off`;

const HELPERS = `
  CREATE FUNCTION $.instant(millis bigint) RETURNS timestamptz LANGUAGE sql STABLE
    RETURN to_timestamp(millis / 1000) + (millis % 1000) * interval '1 millisecond';

  CREATE FUNCTION $.millis(instant timestamptz) RETURNS bigint LANGUAGE sql STABLE
    RETURN (extract(epoch FROM instant) * 1000)::bigint;

  -- An event but for its payload and its metadata, as a JSON array.
  CREATE FUNCTION $.row_of(event $.events) RETURNS text LANGUAGE sql STABLE
    RETURN json_build_array(
      event.position, event.aggregate_type, event.aggregate_id, event.revision, event.event_id,
      event.event_type, event.schema_version, event.tags, $.millis(event.recorded_at),
      $.millis(event.issued_at), event.command_id, event.correlation_id, event.causation_id,
      event.actor)::text;

  CREATE FUNCTION $.first_outcome(command $.commands) RETURNS jsonb LANGUAGE sql STABLE
    RETURN CASE WHEN command.command_id IS NOT NULL THEN jsonb_build_object(
      'hash', command.hash, 'aggregateType', command.aggregate_type,
      'aggregateId', command.aggregate_id, 'position', command.position,
      'revision', command.revision, 'count', command.count,
      'recordedAt', $.millis(command.recorded_at)) END;

  -- Positions of the events that match an item of a query, in order.
  CREATE FUNCTION $.matches(item jsonb, after bigint, most bigint) RETURNS SETOF bigint
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
            SELECT FROM $.event_tags AS tagged
            WHERE tagged.tag = wanted.tag AND tagged.position > after LIMIT 1000) AS counted)
        LIMIT 1;
      END IF;
      IF rarest IS NOT NULL THEN
        RETURN QUERY
          SELECT tagged.position FROM $.event_tags AS tagged
          WHERE tagged.tag = rarest AND tagged.position > after
            AND (cardinality(wanted_tags) = 1 OR NOT EXISTS (
              SELECT FROM unnest(wanted_tags) AS wanted (tag) WHERE NOT EXISTS (
                SELECT FROM $.event_tags AS other
                WHERE other.tag = wanted.tag AND other.position = tagged.position)))
            AND (cardinality(wanted_types) = 0 OR EXISTS (
              SELECT FROM $.events AS event
              WHERE event.position = tagged.position AND event.event_type = ANY (wanted_types)))
          ORDER BY tagged.position LIMIT most;
      ELSIF cardinality(wanted_types) > 0 THEN
        RETURN QUERY
          SELECT found.position FROM (SELECT DISTINCT unnest(wanted_types)) AS wanted (event_type)
          CROSS JOIN LATERAL (
            SELECT event.position FROM $.events AS event
            WHERE event.event_type = wanted.event_type AND event.position > after
            ORDER BY event.position LIMIT most) AS found
          ORDER BY found.position LIMIT most;
      ELSE
        RETURN QUERY
          SELECT event.position FROM $.events AS event WHERE event.position > after
          ORDER BY event.position LIMIT most;
      END IF;
    END $function$;

  CREATE FUNCTION $.first_match(query jsonb, after bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE AS $function$
    DECLARE
      item jsonb;
      lowest bigint;
    BEGIN
      FOR item IN SELECT jsonb_array_elements(query) LOOP
        IF jsonb_array_length(item -> 'tags') = 1 AND item -> 'types' = '[]' THEN
          -- As nearly always.
          lowest := least(lowest, (SELECT min(position) FROM $.event_tags WHERE tag = item -> 'tags' ->> 0 AND position > after));
        ELSE
          lowest := least(lowest, (SELECT $.matches(item, after, 1)));
        END IF;
      END LOOP;
      RETURN lowest;
    END $function$;

  -- The postings of an index of a collection. Those of all its indexes begin alike.
  CREATE FUNCTION $.postings_of(collection text, index_name text) RETURNS text LANGUAGE sql STABLE
    RETURN left(encode(sha256(convert_to(collection, 'UTF8')), 'hex'), 32)
      || left(encode(sha256(convert_to(index_name, 'UTF8')), 'hex'), 32);

  -- What the judge wants to know, as \`Facts\` has it.
  CREATE FUNCTION $.facts(commits jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $function$
    DECLARE
      store record;
    BEGIN
      SELECT head, last_recorded_at INTO STRICT store FROM $.store;
      RETURN jsonb_build_object(
        'head', store.head, 'lastRecordedAt', coalesce($.millis(store.last_recorded_at), 0),
        'commits', (
          SELECT coalesce(jsonb_agg(jsonb_build_object(
            'revision', (
              SELECT coalesce(max(event.revision), 0) FROM $.events AS event
              WHERE event.aggregate_type = asking.commit ->> 'aggregateType'
                AND event.aggregate_id = asking.commit ->> 'aggregateId'),
            'first', (
              SELECT $.first_outcome(command) FROM $.commands AS command
              WHERE command.command_id = asking.commit ->> 'commandId'),
            'matched', CASE WHEN (asking.commit -> 'condition' ->> 'after')::bigint < store.head
              THEN $.first_match(asking.commit -> 'condition' -> 'query', (asking.commit -> 'condition' ->> 'after')::bigint) END
          ) ORDER BY asking.place), '[]')
          FROM jsonb_array_elements(commits) WITH ORDINALITY AS asking (commit, place)));
    END $function$;

  -- Where the store is; its epoch is that of another life if it was copied here.
  CREATE FUNCTION $.place(OUT cluster bigint, OUT database oid, OUT itself oid)
    LANGUAGE sql STABLE ${OF_THE_OWNER} AS $function$
      SELECT (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        (SELECT tableoid FROM $.store)
    $function$;
`;

/** Every request names the store. What is copied within a cluster is found by its table's number. */
const CHECK_EPOCH = `
      IF store.epoch IS DISTINCT FROM asked OR store.itself <> store.tableoid THEN
        RAISE EXCEPTION 'expected the store %, found %', asked,
          CASE WHEN store.itself = store.tableoid THEN store.epoch ELSE 'a copy of it' END
          USING ERRCODE = '${FOREIGN_EPOCH}';
      END IF;`;

const READ_STORE = `
      SELECT epoch, head, itself, tableoid INTO store FROM $.store;${CHECK_EPOCH}`;

/** Answers of several parts: numbers of part and item, and what is told of it. */
const PARTS = `TABLE (part integer, item integer, about text, data text, extra text)`;

/** The events of which \`$.row_of\` is asked, as rows of an answer. */
const eventRows = (part: number, item: string) =>
  `SELECT ${part}, ${item}, $.row_of(event), event.data::text, event.metadata::text`;

/** The form of an event, see \`Messages\`. */
const FORM = `
  CASE schema_version WHEN 1 THEN event_type ELSE event_type || chr(127) || schema_version END`;

const WAITS = `
      -- For this transaction.
      PERFORM set_config('lock_timeout', patience, true), set_config('synchronous_commit', safety, true);`;

/** What a page of the log is made of, in one direction: positions beyond `wanted_after`, in this order. */
const logPage = (beyond: ">" | "<", order: "ASC" | "DESC") => {
  const next = (position: string) => `ORDER BY ${position} ${order} LIMIT`;
  return `
      IF wanted_correlation IS NOT NULL THEN
        seen := ARRAY(
          SELECT position FROM (
            (SELECT position FROM $.events
              WHERE correlation_id = wanted_correlation AND correlation_id <> command_id
                AND position ${beyond} wanted_after
              ${next("position")} most)
            UNION ALL
            (SELECT event.position FROM $.commands AS command JOIN $.events AS event
                ON event.position >= command.position AND event.position < command.position + command.count
              WHERE command.command_id = wanted_correlation AND event.correlation_id = wanted_correlation
                AND event.position ${beyond} wanted_after
              ${next("event.position")} most)) AS caused
          ${next("position")} most);
      ELSIF cardinality(wanted_tags) > 0 THEN
        seen := ARRAY(
          SELECT DISTINCT found.position FROM unnest(wanted_tags) AS any_of (tag)
          CROSS JOIN LATERAL (
            SELECT tagged.position FROM $.event_tags AS tagged
            WHERE tagged.tag = any_of.tag AND tagged.position ${beyond} wanted_after
            ${next("tagged.position")} most) AS found
          ${next("found.position")} most);
      ELSIF cardinality(wanted_types) > 0 THEN
        seen := ARRAY(
          SELECT found.position FROM unnest(wanted_types) AS any_of (event_type)
          CROSS JOIN LATERAL (
            SELECT event.position FROM $.events AS event
            WHERE event.event_type = any_of.event_type AND event.position ${beyond} wanted_after
            ${next("event.position")} most) AS found
          ${next("found.position")} most);
      ELSIF cardinality(wanted_streams) > 0 THEN
        seen := ARRAY(SELECT position FROM $.events WHERE position ${beyond} wanted_after ${next("position")} most);
      ELSE
        RETURN QUERY SELECT 0, 0, json_build_array(store.head, NULL)::text, NULL, NULL;
        RETURN QUERY
          ${eventRows(1, "0")} FROM $.events AS event
          WHERE event.position ${beyond} wanted_after ${next("event.position")} page;
        RETURN;
      END IF;
      RETURN QUERY SELECT 0, 0, json_build_array(store.head, seen[most])::text, NULL, NULL;
      RETURN QUERY
        ${eventRows(1, "0")} FROM $.events AS event
        WHERE event.position = ANY (seen)
          AND (cardinality(wanted_types) = 0 OR event.event_type = ANY (wanted_types))
          AND (cardinality(wanted_streams) = 0 OR event.aggregate_type = ANY (wanted_streams))
          AND (cardinality(wanted_tags) = 0 OR event.tags && wanted_tags)
        ${next("event.position")} page;`;
};

const READ_LOG = `
  -- Filters look at so many positions at a time: a page may be short, and says up to where it was looked.
  CREATE FUNCTION $.read_log(asked text, wanted jsonb) RETURNS ${PARTS}
    LANGUAGE plpgsql STABLE ${OF_THE_OWNER} AS $function$
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
    BEGIN${READ_STORE}
      -- A release that knew one direction does not name it.
      IF (wanted ->> 'descending')::boolean THEN${logPage("<", "DESC")}
      ELSE${logPage(">", "ASC")}
      END IF;
    END $function$;
`;

const REQUESTS = `
  -- Says what the store is. One that finds itself elsewhere begins another life.
  CREATE FUNCTION $.open_store(patience text) RETURNS text LANGUAGE plpgsql ${OF_THE_OWNER} AS $function$
    DECLARE
      place record;
      store record;
    BEGIN
      SELECT * INTO place FROM $.place();
      SELECT format, epoch, head, (cluster, database, itself) IS DISTINCT FROM (place.cluster, place.database, place.itself) AS is_copy
        INTO STRICT store FROM $.store;
      IF store.is_copy THEN
        PERFORM set_config('lock_timeout', patience, true);
        UPDATE $.store SET (cluster, database, itself) = (place.cluster, place.database, place.itself),
          epoch = replace(gen_random_uuid()::text, '-', '')
        WHERE (cluster, database, itself) IS DISTINCT FROM (place.cluster, place.database, place.itself);
        SELECT format, epoch, head INTO STRICT store FROM $.store;
      END IF;
      RETURN json_build_object('format', store.format, 'epoch', store.epoch, 'head', store.head,
        'encoding', current_setting('server_encoding'),
        'isolation', current_setting('transaction_isolation'),
        'flushes', current_setting('fsync') = 'on',
        'replicates', current_setting('synchronous_standby_names') <> '');
    END $function$;

  CREATE FUNCTION $.append(asked text, given_at bigint, commits jsonb, safety text, patience text)
    RETURNS text LANGUAGE plpgsql ${OF_THE_OWNER} AS $function$
    DECLARE
      store record;
      verdicts jsonb;
      reached bigint;
    BEGIN${WAITS}
      -- Until the transaction ends nobody else appends: so positions are seen in their order.
      SELECT epoch, itself, tableoid INTO STRICT store FROM $.store FOR UPDATE;${CHECK_EPOCH}
      verdicts := $.judge(commits, $.facts(commits), given_at);
      WITH accepted AS MATERIALIZED (
        SELECT asking.commit, (verdict ->> 'position')::bigint AS position,
          (verdict ->> 'revision')::bigint AS revision, (verdict ->> 'count')::bigint AS count,
          $.instant((verdict ->> 'recordedAt')::bigint) AS recorded_at
        FROM jsonb_array_elements(commits) WITH ORDINALITY AS asking (commit, place)
        JOIN jsonb_array_elements(verdicts) WITH ORDINALITY AS judged (verdict, place) USING (place)
        WHERE verdict ->> 'kind' = 'committed'
      ), written AS (
        INSERT INTO $.events (position, event_id, aggregate_type, aggregate_id, revision, event_type,
          schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor,
          metadata, tags, data)
        SELECT position + place - 1, event ->> 'eventId', commit ->> 'aggregateType',
          commit ->> 'aggregateId', revision - count + place, event ->> 'type',
          (event ->> 'schemaVersion')::bigint, recorded_at, $.instant((commit ->> 'issuedAt')::bigint),
          commit ->> 'commandId', commit ->> 'correlationId', commit ->> 'causationId',
          commit ->> 'actor', (commit ->> 'extra')::json,
          ARRAY(SELECT jsonb_array_elements_text(event -> 'tags')), (event ->> 'data')::json
        FROM accepted CROSS JOIN jsonb_array_elements(commit -> 'events') WITH ORDINALITY AS told (event, place)
        RETURNING position, tags
      ), tagged AS (
        INSERT INTO $.event_tags (tag, position)
        SELECT DISTINCT unnest(tags), position FROM written
      ), known AS (
        INSERT INTO $.commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at)
        SELECT commit ->> 'commandId', commit ->> 'hash', commit ->> 'aggregateType',
          commit ->> 'aggregateId', position, revision, count, recorded_at
        FROM accepted
      )
      UPDATE $.store SET head = last.head, last_recorded_at = last.recorded_at
      FROM (SELECT max(position + count - 1) AS head, max(recorded_at) AS recorded_at FROM accepted) AS last
      WHERE last.head IS NOT NULL
      RETURNING last.head INTO reached;
      IF reached IS NOT NULL THEN PERFORM pg_notify($channel$, reached::text); END IF;
      RETURN verdicts;
    END $function$;

  CREATE FUNCTION $.load(asked text, wanted jsonb) RETURNS ${PARTS}
    LANGUAGE plpgsql STABLE ${LOOKING_UP} AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
      one jsonb := wanted -> 'streams' -> 0;
      one_type text := one ->> 'aggregateType';
      one_id text := one ->> 'aggregateId';
      one_after bigint := one ->> 'after';
      one_last bigint;
      one_revision bigint;
      one_snapshot text;
      one_snapshot_revision bigint;
    BEGIN${READ_STORE}
      RETURN QUERY SELECT 0, 0, store.head::text, NULL, NULL;
      -- To look for nothing takes a tenth of a millisecond.
      IF wanted -> 'commands' <> '[]' THEN
        RETURN QUERY
          SELECT 1, asking.place::integer - 1, $.first_outcome(command)::text, NULL, NULL
          FROM jsonb_array_elements_text(wanted -> 'commands') WITH ORDINALITY AS asking (id, place)
          JOIN $.commands AS command ON command.command_id = asking.id;
      END IF;
      IF wanted -> 'streams' -> 1 IS NULL AND one @> '{"whole": false, "untilPosition": null, "untilTime": null}' THEN
        -- As nearly always. To begin with what finds many at once takes as long as this in all.
        IF one -> 'snapshot' <> 'null' THEN
          SELECT document.revision, document.value::text INTO one_snapshot_revision, one_snapshot
          FROM $.documents AS document WHERE document.collection = 'snapshots' AND document.key = one ->> 'snapshot';
          one_after := coalesce(one_snapshot_revision, one_after);
        END IF;
        SELECT coalesce(max(event.revision), 0) INTO one_revision FROM $.events AS event
        WHERE event.aggregate_type = one_type AND event.aggregate_id = one_id;
        one_last := least(one_revision, (one ->> 'untilRevision')::bigint);
        RETURN QUERY
          SELECT 2, 0,
            json_build_array(one_revision, one_last - one_after > (one ->> 'limit')::bigint, one_snapshot_revision, json_agg(${FORM}))::text,
            '[' || string_agg(data::text, E',\\n') || ']', one_snapshot
          FROM (
            SELECT event_type, schema_version, data FROM $.events AS event
            WHERE event.aggregate_type = one_type AND event.aggregate_id = one_id AND event.revision > one_after
              AND event.revision <= least(one_last, one_after + (one ->> 'limit')::bigint)
            ORDER BY event.revision) AS event;
      ELSIF one IS NOT NULL THEN RETURN QUERY
        WITH asking AS (
          SELECT place::integer - 1 AS item, load ->> 'aggregateType' AS type, load ->> 'aggregateId' AS id,
            (load ->> 'after')::bigint AS after, load ->> 'snapshot' AS snapshot,
            (load ->> 'untilRevision')::bigint AS until_revision,
            (load ->> 'untilPosition')::bigint AS until_position,
            $.instant((load ->> 'untilTime')::bigint) AS until_time,
            (load ->> 'limit')::bigint AS most, (load ->> 'whole')::boolean AS whole
          FROM jsonb_array_elements(wanted -> 'streams') WITH ORDINALITY AS streams (load, place)
        ), found AS MATERIALIZED (
          SELECT item, type, id, most, whole, coalesce(document.revision, after) AS after,
            document.revision AS snapshot_revision, document.value AS snapshot,
            coalesce(stream.revision, 0) AS revision,
            -- Position and time grow with the revision.
            least(until_revision, coalesce(stream.revision, 0),
              CASE WHEN until_position IS NOT NULL THEN coalesce((
                SELECT event.revision FROM $.events AS event
                WHERE event.aggregate_type = type AND event.aggregate_id = id AND event.position <= until_position
                ORDER BY event.revision DESC LIMIT 1), 0) END,
              CASE WHEN until_time IS NOT NULL THEN coalesce((
                SELECT event.revision FROM $.events AS event
                WHERE event.aggregate_type = type AND event.aggregate_id = id AND event.recorded_at <= until_time
                ORDER BY event.revision DESC LIMIT 1), 0) END) AS last
          FROM asking
          LEFT JOIN $.documents AS document ON document.collection = 'snapshots' AND document.key = snapshot
          CROSS JOIN LATERAL (
            SELECT max(event.revision) AS revision FROM $.events AS event
            WHERE event.aggregate_type = type AND event.aggregate_id = id) AS stream
        ), events AS (
          ${eventRows(3, "item")}
          FROM found JOIN $.events AS event ON whole AND event.aggregate_type = type
            AND event.aggregate_id = id AND event.revision > after AND event.revision <= least(last, after + most)
          ORDER BY item, event.revision
        )
        SELECT 2, item,
          json_build_array(found.revision, last - after > most, snapshot_revision, messages.forms)::text,
          messages.payloads, snapshot::text
        FROM found LEFT JOIN LATERAL (
          SELECT json_agg(${FORM}) AS forms, '[' || string_agg(data::text, E',\\n') || ']' AS payloads
          FROM (
            SELECT event_type, schema_version, data FROM $.events AS event
            WHERE event.aggregate_type = type AND event.aggregate_id = id AND event.revision > after
              AND event.revision <= least(last, after + most)
            ORDER BY event.revision) AS event
        ) AS messages ON NOT whole
        UNION ALL
        SELECT * FROM events;
      END IF;
      IF wanted -> 'queries' = '[]' THEN RETURN; END IF;
      RETURN QUERY
        ${eventRows(4, "found.item")}
        FROM (
          SELECT DISTINCT place::integer - 1 AS item, position
          FROM jsonb_array_elements(wanted -> 'queries') WITH ORDINALITY AS queries (load, place)
          CROSS JOIN jsonb_array_elements(load -> 'query') AS items (item)
          CROSS JOIN $.matches(items.item, (load ->> 'after')::bigint, NULL) AS position
        ) AS found JOIN $.events AS event USING (position)
        ORDER BY found.item, event.position;
    END $function$;

${READ_LOG}
  CREATE FUNCTION $.read_documents(asked text, names jsonb, scans jsonb) RETURNS ${PARTS}
    LANGUAGE plpgsql STABLE ${LOOKING_UP} AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
      scan jsonb;
      place integer := 0;
      source text;
      bounds text;
      direction text;
    BEGIN${READ_STORE}
      RETURN QUERY SELECT 0, 0, store.head::text, NULL, NULL;
      RETURN QUERY
        SELECT 1, asking.place::integer - 1, document.revision::text, document.value::text, NULL
        FROM jsonb_array_elements(names) WITH ORDINALITY AS asking (name, place)
        JOIN $.documents AS document
          ON document.collection = asking.name ->> 'collection' AND document.key = asking.name ->> 'key';
      FOR scan IN SELECT jsonb_array_elements(scans) LOOP
        -- Written for what is asked: an end that is not there must not keep the index from being used.
        IF scan ->> 'index' IS NULL THEN
          source := 'FROM $.documents AS found WHERE found.collection = $2 ->> ''collection''
            AND found.key >= $2 ->> ''fromAt''';
          bounds := 'AND found.key < $2 ->> ''toAt''';
        ELSE
          source := 'FROM $.document_postings AS found
            WHERE found.of = $.postings_of($2 ->> ''collection'', $2 ->> ''index'')
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
            JOIN $.documents AS document ON document.collection = $2 ->> ''collection'' AND document.key = found.key
            ORDER BY found.value ' || direction || ', found.key ' || direction
            USING place, scan;
        END IF;
        place := place + 1;
      END LOOP;
    END $function$;

  CREATE FUNCTION $.save_documents(asked text, wanted jsonb, safety text, patience text)
    RETURNS text LANGUAGE plpgsql ${LOOKING_UP} AS $function$
    #variable_conflict use_column
    DECLARE
      store record;
      conflict jsonb;
    BEGIN${WAITS}
      -- Who changes a collection, or expects something of it, is alone with it. All take them in one order.
      PERFORM pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended($channel$ || '/' || name, 0) AS key FROM (
          SELECT jsonb_array_elements(wanted -> 'expected') ->> 'collection'
          UNION ALL SELECT jsonb_array_elements(wanted -> 'documents') ->> 'collection'
          UNION ALL SELECT jsonb_array_elements_text(wanted -> 'clear')) AS all_of (name)
        ORDER BY key) AS locks;${READ_STORE}
      SELECT jsonb_build_object('index', asking.place - 1, 'actual', coalesce(document.revision, 0)) INTO conflict
      FROM jsonb_array_elements(wanted -> 'expected') WITH ORDINALITY AS asking (name, place)
      LEFT JOIN $.documents AS document
        ON document.collection = asking.name ->> 'collection' AND document.key = asking.name ->> 'key'
      WHERE coalesce(document.revision, 0) <> (asking.name ->> 'revision')::bigint
      ORDER BY asking.place LIMIT 1;
      IF FOUND THEN RETURN conflict; END IF;
      DELETE FROM $.documents WHERE collection IN (SELECT jsonb_array_elements_text(wanted -> 'clear'));
      -- Hexadecimal digits come before g.
      DELETE FROM $.document_postings AS posting
      USING (SELECT left($.postings_of(name, ''), 32) AS start FROM jsonb_array_elements_text(wanted -> 'clear') AS name) AS cleared
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
        SELECT $.postings_of(given.collection, posting ->> 0) AS of, posting ->> 1 AS value, given.key
        FROM given JOIN $.documents AS document USING (collection, key)
        CROSS JOIN jsonb_array_elements(document.postings) AS posting
      ), after AS MATERIALIZED (
        SELECT $.postings_of(collection, posting ->> 0), posting ->> 1, key
        FROM given CROSS JOIN jsonb_array_elements(postings) AS posting WHERE given.value IS NOT NULL
      ), gone AS (
        DELETE FROM $.document_postings AS posting
        USING (SELECT * FROM before EXCEPT SELECT * FROM after) AS was
        WHERE (posting.of, posting.value, posting.key) = (was.of, was.value, was.key)
      ), come AS (
        INSERT INTO $.document_postings (of, value, key)
        SELECT * FROM (SELECT * FROM after EXCEPT SELECT * FROM before) AS fresh
      ), removed AS (
        DELETE FROM $.documents AS document USING given
        WHERE document.collection = given.collection AND document.key = given.key AND given.value IS NULL
      )
      INSERT INTO $.documents (collection, key, revision, postings, value)
      SELECT collection, key, revision, postings, value::json FROM given WHERE value IS NOT NULL
      ON CONFLICT (collection, key) DO UPDATE
        SET revision = excluded.revision, postings = excluded.postings, value = excluded.value;
      RETURN NULL;
    END $function$;
`;

const SQL = `${TABLES}${VIEWS}${HELPERS}${JUDGE}${REQUESTS}`;

/** What is another since format 1: functions and a view, and they alone. */
const SINCE_1 = `${VIEWS}${HELPERS}${JUDGE}${REQUESTS}`.replaceAll(/CREATE (FUNCTION|VIEW)/g, "CREATE OR REPLACE $1");

/** What the schema holds, by kind: a function with its parameters' types. */
const namesOf = (kind: string) =>
  [...SQL.matchAll(new RegExp(`CREATE ${kind} \\$\\.(\\w+)`, "g"))].map(([, name]) => name!);

const TABLE_NAMES = namesOf("TABLE");
const VIEW_NAMES = namesOf("VIEW");

const FUNCTION_SIGNATURES = [...SQL.matchAll(/CREATE FUNCTION \$\.(\w+)\(([^)]*)\)/g)].map(([, name, parameters]) => {
  const inputs = parameters!.split(", ").filter((parameter) => !parameter.startsWith("OUT "));
  return `${name}(${inputs.map((parameter) => parameter.replace(/^\w+ /, "")).join(", ")})`;
});

/** What an application calls. */
const REQUESTS_SIGNATURES = FUNCTION_SIGNATURES.filter((signature) =>
  /^(open_store|append|load|read_log|read_documents|save_documents)\(/.test(signature),
);

/** What tells those who listen that a store has advanced. */
export const channelOf = (schema: string): string => `annals/${schema}`;

/** The name of something of SQL's. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/**
 * A name that can be a schema's, and that SQL reads as it is wherever it stands. PostgreSQL cuts names
 * that are longer than 63 bytes, and the channel's is longer than the schema's.
 */
export function checkSchema(schema: string): string {
  if (/^[\w -]{1,48}$/.test(schema)) return schema;
  throw invalidArgument(
    `expected a schema's name of at most 48 ASCII letters, digits, _, - and spaces, found ${JSON.stringify(schema)}`,
  );
}

/** The text with the names of the store in this schema. */
const inSchema = (sql: string, schema: string): string =>
  sql.replaceAll("$channel$", `'${channelOf(schema)}'`).replaceAll("$.", `${quoted(schema)}.`);

/**
 * What makes a schema a store, in one statement: for migrations that are run by hand, where an
 * application may not create anything. A store of an older format becomes one of the newest, another is
 * left as it is; a schema that has something else under one of the store's names is refused.
 */
export function postgresSchema({ schema = DEFAULT_SCHEMA }: { readonly schema?: string } = {}): string {
  checkSchema(schema);
  const taken = [...TABLE_NAMES, ...VIEW_NAMES].map((name) => `'${name}'`).join(", ");
  const text = `DO $annals$
BEGIN
  -- Of several that open the store for the first time one creates it, and the others find it.
  PERFORM set_config('lock_timeout', '30s', true);
  PERFORM pg_advisory_xact_lock(hashtextextended($channel$, 0));
  IF to_regnamespace('${quoted(schema)}') IS NULL THEN CREATE SCHEMA ${quoted(schema)}; END IF;
  IF to_regclass('$.store') IS NOT NULL THEN
    IF to_regprocedure('$.open_store(text)') IS NOT NULL THEN
      IF (SELECT format FROM $.store) = 1 THEN
${SINCE_1}
        UPDATE $.store SET format = ${FORMAT};
      END IF;
    END IF;
    RETURN;
  END IF;
  IF EXISTS (
    SELECT FROM pg_class WHERE relnamespace = '${quoted(schema)}'::regnamespace AND relname IN (${taken})
  ) THEN
    RAISE EXCEPTION 'the schema has something else under a name of the store' USING ERRCODE = '${NOT_A_STORE}';
  END IF;
${SQL}
  INSERT INTO $.store (format, epoch, head, cluster, database, itself)
  SELECT ${FORMAT}, replace(gen_random_uuid()::text, '-', ''), 0, 0, 0, 0;
  UPDATE $.store SET (cluster, database, itself) = (SELECT * FROM $.place());
${FUNCTION_SIGNATURES.map((signature) => `  REVOKE ALL ON FUNCTION $.${signature} FROM PUBLIC;`).join("\n")}
END $annals$`;
  return inSchema(text, schema);
}

/**
 * Gives roles that exist what they need and no more: \`application\` what an engine asks, by functions
 * that do their work as the schema's owner, so that it can neither change nor delete an event; and
 * \`reader\` the tables and views to look at.
 */
export function postgresRoles(options: {
  readonly schema?: string;
  readonly application?: string;
  readonly reader?: string;
}): string {
  const { schema = DEFAULT_SCHEMA, application, reader } = options;
  checkSchema(schema);
  const functions = REQUESTS_SIGNATURES.map((signature) => `$.${signature}`).join(", ");
  const lines: string[] = [];
  for (const role of [application, reader]) {
    if (role !== undefined) lines.push(`GRANT USAGE ON SCHEMA ${quoted(schema)} TO ${quoted(role)};`);
  }
  if (application !== undefined) {
    lines.push(`GRANT SELECT ON $.store TO ${quoted(application)};`);
    lines.push(`GRANT EXECUTE ON FUNCTION ${functions} TO ${quoted(application)};`);
  }
  if (reader !== undefined) {
    const tables = [...TABLE_NAMES, ...VIEW_NAMES].map((name) => `$.${name}`).join(", ");
    lines.push(`GRANT SELECT ON ${tables} TO ${quoted(reader)};`);
    lines.push(`GRANT EXECUTE ON FUNCTION $.projected(text) TO ${quoted(reader)};`);
  }
  return lines.map((line) => inSchema(line, schema)).join("\n");
}
