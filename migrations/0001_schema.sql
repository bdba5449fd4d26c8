-- The two schemas and the tables that are not a queue's own.
--
-- `queue` holds one table per queue, for producers, and nothing else. `host` holds everything
-- internal. What a queue owns (messages, leases, settlements, schedule, dead letters) is made per
-- queue from the templates in queue/, so that no queue's rotation waits for another's readers.
--
-- The tables here are small and ordinary: rows are updated and deleted when an operator changes
-- something or a host starts or stops, never for a message. The heartbeat is the exception: it is
-- written four times a second by each host, so it is append-only and truncated by the hour.

CREATE SCHEMA queue;

-- One row: raised by every change to a queue, a handler or a deployment, in the same transaction.
-- Hosts compare it with what they have loaded (I8: the database is the only shared state).
CREATE TABLE host.catalog (
    version bigint NOT NULL,
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO host.catalog (version) VALUES (1);

-- The cluster whose transaction ids the cursors speak of. A dump restored elsewhere has other ones: hosts
-- refuse to begin a session there, rather than pass messages over.
CREATE TABLE host.cluster (
    system_identifier bigint NOT NULL,
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO host.cluster (system_identifier) SELECT system_identifier FROM pg_control_system();

CREATE TABLE host.queue (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Becomes part of table names: short enough for Postgres's 63 bytes with every suffix, and
    -- without the double underscore that separates it from them.
    name text NOT NULL UNIQUE
        CONSTRAINT queue_name_is_lower_case_and_short
        CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$' AND name !~ '__' AND name !~ '_$'),
    payload_type text NOT NULL CHECK (payload_type IN ('jsonb', 'json', 'text', 'bytea')),
    payload_bytes_max bigint NOT NULL CHECK (payload_bytes_max BETWEEN 1 AND 64 << 20),
    max_attempts int NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    backoff_base_ms bigint NOT NULL CHECK (backoff_base_ms BETWEEN 1 AND 86400000),
    backoff_cap_ms bigint NOT NULL CHECK (backoff_cap_ms BETWEEN backoff_base_ms AND 31536000000),
    -- A generation ends when its leaf has this many bytes and this age.
    rotate_bytes bigint NOT NULL CHECK (rotate_bytes >= 8192),
    rotate_age_ms bigint NOT NULL CHECK (rotate_age_ms >= 10),
    -- Whether an INSERT may NOTIFY a sleeping host. Off for producers that PREPARE TRANSACTION.
    wake_up boolean NOT NULL DEFAULT true,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Uploaded components, once each. Never compiled code: deserializing that is unsafe.
CREATE TABLE host.component (
    sha256 text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    wasm bytea NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE host.component ALTER COLUMN wasm SET STORAGE EXTERNAL;

CREATE TABLE host.handler (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_id int NOT NULL REFERENCES host.queue ON DELETE CASCADE,
    name text NOT NULL
        CONSTRAINT handler_name_is_lower_case_and_short CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
    -- The version in force; the others are kept for rollback.
    version int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (queue_id, name)
);

CREATE TABLE host.handler_version (
    handler_id int NOT NULL REFERENCES host.handler ON DELETE CASCADE,
    version int NOT NULL,
    sha256 text NOT NULL REFERENCES host.component,
    config jsonb NOT NULL CHECK (jsonb_typeof(config) = 'object'),
    isolation text NOT NULL CHECK (isolation IN ('message', 'batch')),
    -- Sandboxes of this handler at once, on one host.
    concurrency int NOT NULL CHECK (concurrency BETWEEN 1 AND 10000),
    memory_bytes bigint NOT NULL,
    timeout_ms bigint NOT NULL,
    cpu_ms bigint NOT NULL,
    log_bytes bigint NOT NULL,
    follow_ups int NOT NULL,
    follow_up_bytes bigint NOT NULL,
    deployed_at timestamptz NOT NULL DEFAULT now(),
    deployed_by text NOT NULL DEFAULT current_user,
    PRIMARY KEY (handler_id, version)
);

-- One row per run of `host serve`.
CREATE TABLE host.session (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host_name text NOT NULL,
    pid int NOT NULL,
    host_version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- Set when it stopped, or was found dead; from then on it gets no lease, and its open ones may
    -- be taken over.
    ended_at timestamptz,
    -- Found dead, rather than stopped. Its messages may be to blame.
    lost boolean NOT NULL DEFAULT false
);
CREATE INDEX session_live ON host.session (id) WHERE ended_at IS NULL;

-- What each session has made of each deployment.
CREATE TABLE host.loaded (
    session_id int NOT NULL REFERENCES host.session ON DELETE CASCADE,
    handler_id int NOT NULL REFERENCES host.handler ON DELETE CASCADE,
    version int NOT NULL,
    -- Why it could not be loaded; NULL when it runs.
    error text,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, handler_id, version)
);

-- Append-only: one leaf an hour, the one after next is truncated.
CREATE TABLE host.heartbeat (
    session_id int NOT NULL,
    slot smallint NOT NULL,
    beat bigint NOT NULL,
    -- For people only: whether a session lives is told by its beat, on the observer's clock.
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY LIST (slot);
CREATE TABLE host.heartbeat_0 PARTITION OF host.heartbeat FOR VALUES IN (0) WITH (autovacuum_enabled = off);
CREATE TABLE host.heartbeat_1 PARTITION OF host.heartbeat FOR VALUES IN (1) WITH (autovacuum_enabled = off);
CREATE TABLE host.heartbeat_2 PARTITION OF host.heartbeat FOR VALUES IN (2) WITH (autovacuum_enabled = off);
CREATE INDEX heartbeat_newest ON host.heartbeat (session_id, beat);
