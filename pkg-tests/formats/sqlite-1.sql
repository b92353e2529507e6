CREATE TABLE annals_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    issued_at TEXT NOT NULL,
    command_id TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    causation_id TEXT,
    actor TEXT,
    metadata TEXT,
    tags TEXT NOT NULL,
    data TEXT NOT NULL,
    subject TEXT, -- reserved, with key_id: whose data it is, and the key it is encrypted with
    key_id TEXT,
    UNIQUE (aggregate_type, aggregate_id, revision)
  ) STRICT;
CREATE INDEX events_by_type ON events (event_type);
CREATE TABLE event_tags (
    tag TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
  ) STRICT, WITHOUT ROWID;
CREATE TABLE commands (
    command_id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    count INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    commit_hash TEXT -- reserved: a log that can be verified
  ) STRICT, WITHOUT ROWID;
INSERT INTO annals_meta (key, value) VALUES ('epoch', '25b16d026714930545ec1255b6fcab96');
INSERT INTO annals_meta (key, value) VALUES ('format', '1');
INSERT INTO events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES (1, 'e3a20d79-07b8-562a-8361-30008ea46a6c', 'Appointment', 'a-1', 1, 'AppointmentBooked', 1, '2026-11-24T17:33:12.846Z', '2026-11-23T08:00:00.000Z', '0190f000-0000-7000-8000-000000000001', '0190f000-0000-7000-8000-000000000001', NULL, 'reception', '{"ip":"::1"}', '["doctor:7/2026-12-01","room:3/2026-12-01"]', '{"doctor":"7","patient":"p-1","room":"3","appointmentType":"check-up","start":"2026-12-01T09:00:00.000Z","end":"2026-12-01T09:30:00.000Z","title":"Ünïcode \"quoted\"; it''s 😀","comment":""}', NULL, NULL);
INSERT INTO events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES (2, 'fd61e479-febe-5ffe-b23d-0ecf39d89745', 'Appointment', 'a-1', 2, 'AppointmentUpdated', 1, '2026-11-24T17:33:12.856Z', '2026-11-23T08:00:00.000Z', '0190f000-0000-7000-8000-000000000002', '0190f000-0000-7000-8000-000000000002', NULL, 'reception', '{"ip":"::1"}', '[]', '{"title":"Second"}', NULL, NULL);
INSERT INTO events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES (3, 'f143872c-9747-5026-a20d-bd74bb9a8e67', 'Appointment', 'a-2', 1, 'AppointmentBooked', 1, '2026-11-24T17:33:12.859Z', '2026-11-23T08:00:00.000Z', '0190f000-0000-7000-8000-000000000003', '0190f000-0000-7000-8000-000000000003', NULL, 'reception', '{"ip":"::1"}', '["doctor:8/2026-12-01","room:4/2026-12-01"]', '{"doctor":"8","patient":"p-1","room":"4","appointmentType":"check-up","start":"2026-12-01T09:00:00.000Z","end":"2026-12-01T09:30:00.000Z","title":"Ünïcode \"quoted\"; it''s 😀","comment":""}', NULL, NULL);
INSERT INTO events (position, event_id, aggregate_type, aggregate_id, revision, event_type, schema_version, recorded_at, issued_at, command_id, correlation_id, causation_id, actor, metadata, tags, data, subject, key_id) VALUES (4, '2c789366-6bc5-5af7-9a43-4b65804ddc16', 'Appointment', 'a-1', 3, 'AppointmentCancelled', 1, '2026-11-24T17:33:12.871Z', '2026-11-23T08:00:00.000Z', '0190f000-0000-7000-8000-000000000004', '0190f000-0000-7000-8000-000000000004', NULL, 'reception', '{"ip":"::1"}', '["doctor:7/2026-12-01","room:3/2026-12-01"]', '{"reason":"ill"}', NULL, NULL);
INSERT INTO event_tags (tag, position) VALUES ('doctor:7/2026-12-01', 1);
INSERT INTO event_tags (tag, position) VALUES ('doctor:7/2026-12-01', 4);
INSERT INTO event_tags (tag, position) VALUES ('doctor:8/2026-12-01', 3);
INSERT INTO event_tags (tag, position) VALUES ('room:3/2026-12-01', 1);
INSERT INTO event_tags (tag, position) VALUES ('room:3/2026-12-01', 4);
INSERT INTO event_tags (tag, position) VALUES ('room:4/2026-12-01', 3);
INSERT INTO commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000001', '7960d2dd-0d47-5241-8565-4b159d05b463', 'Appointment', 'a-1', 1, 1, 1, '2026-11-24T17:33:12.846Z', NULL);
INSERT INTO commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000002', '33e13828-2348-52ab-80e3-1aefc4c37aa4', 'Appointment', 'a-1', 2, 2, 1, '2026-11-24T17:33:12.856Z', NULL);
INSERT INTO commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000003', 'cb49082b-60dc-55d6-bf08-8bd71a2d8030', 'Appointment', 'a-2', 3, 1, 1, '2026-11-24T17:33:12.859Z', NULL);
INSERT INTO commands (command_id, hash, aggregate_type, aggregate_id, position, revision, count, recorded_at, commit_hash) VALUES ('0190f000-0000-7000-8000-000000000004', '755e2be7-a11e-5864-a820-d748dfc48373', 'Appointment', 'a-1', 4, 3, 1, '2026-11-24T17:33:12.871Z', NULL);
CREATE TRIGGER events_are_not_updated BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events can only be appended'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events can only be appended'); END;
CREATE TRIGGER commands_are_not_updated BEFORE UPDATE ON commands
    BEGIN SELECT RAISE(ABORT, 'commands can only be appended'); END;
CREATE TRIGGER commands_are_not_deleted BEFORE DELETE ON commands
    BEGIN SELECT RAISE(ABORT, 'commands can only be appended'); END;
PRAGMA application_id = 1097755763;
PRAGMA user_version = 1;
