-- Purpose: what the migration runner itself needs, so that the Rust side only calls functions.
--   Applied first on every run, under the runner's advisory lock; each statement can be repeated.
-- Invariant: a row of host.migration is committed together with the migration it speaks of.
-- Locks: none that another session waits for, but in migration_begin.
-- Tables: host.migration, host.migration_functions, host.migration_queue, host.template. Makes the
--   cluster's three group roles.

CREATE SCHEMA IF NOT EXISTS host;

-- The group roles, for login roles to be made members of; functions/privileges.sql says what they
-- may do. They belong to the whole cluster, so another database may have made them. One that cannot
-- be made is left to somebody who can: migration_grant says so.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['host_producer', 'host_operator', 'host_serve'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION
            WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;

CREATE TABLE IF NOT EXISTS host.migration (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE host.migration IS 'The numbered migrations that were applied to this database.';

CREATE TABLE IF NOT EXISTS host.migration_functions (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE host.migration_functions IS
    'One row: the digest of the function files and templates that this database has.';

CREATE TABLE IF NOT EXISTS host.migration_queue (
    queue_id  int PRIMARY KEY,
    version   int NOT NULL,
    functions text NOT NULL
);
COMMENT ON TABLE host.migration_queue IS 'How far each queue is brought to the schema of this database.';

CREATE TABLE IF NOT EXISTS host.template (
    name text PRIMARY KEY,
    body text NOT NULL
);
COMMENT ON TABLE host.template IS
    'What a queue is made from: SQL in which {q} stands for the queue''s name.';

-- Returns: the applied migrations.
CREATE OR REPLACE FUNCTION host.migration_applied()
    RETURNS TABLE (version int, name text, sha256 text)
    LANGUAGE sql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
    SELECT m.version, m.name, m.sha256 FROM host.migration m ORDER BY m.version;
$$;

-- Returns: the digest of the functions that the database has; NULL before the first.
CREATE OR REPLACE FUNCTION host.migration_functions_sha256() RETURNS text
    LANGUAGE sql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
    SELECT f.sha256 FROM host.migration_functions f;
$$;

-- Records one applied migration, in the transaction that applied it.
CREATE OR REPLACE FUNCTION host.migration_record(version int, name text, sha256 text) RETURNS void
    LANGUAGE sql SET search_path = host, pg_catalog, pg_temp
AS $$
    INSERT INTO host.migration (version, name, sha256) VALUES ($1, $2, $3);
$$;

-- The digest of the files that queues are to have their functions from. In host.migration_functions
-- it stands behind "unfinished" until all have: so it is no host's, and none begins to serve.
CREATE OR REPLACE FUNCTION host.migration_target() RETURNS text
    LANGUAGE sql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
    SELECT replace(f.sha256, 'unfinished ', '') FROM host.migration_functions f;
$$;

-- First of all in the transaction that applies numbered migrations or replaces functions: notes
-- which version the tables of each queue have. Runners of earlier releases did not; they brought
-- all queues to a version at once, and know nothing of the digests here, so that none of these
-- counts unless this goes on with an upgrade to the same digest.
-- Locks: SHARE ROW EXCLUSIVE on host.queue to the end of the transaction, so that no queue is made
-- by half of each release.
CREATE OR REPLACE FUNCTION host.migration_begin(digest text) RETURNS void
    LANGUAGE plpgsql SET search_path = host, pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass('host.queue') IS NULL THEN
        RETURN;
    END IF;
    LOCK TABLE host.queue IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO host.migration_queue (queue_id, version, functions)
        SELECT q.id, (SELECT max(m.version) FROM host.migration m), '' FROM host.queue q
        ON CONFLICT (queue_id) DO NOTHING;
    IF NOT EXISTS (SELECT FROM host.migration_functions f WHERE f.sha256 = 'unfinished ' || digest) THEN
        UPDATE host.migration_queue SET functions = '';
    END IF;
END;
$$;

-- Keeps the templates of this release, drops those it no longer has, and says that queues are still
-- to get their functions from them; in the transaction that replaced the other functions.
CREATE OR REPLACE FUNCTION host.migration_record_functions(names text[], bodies text[], digest text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = host, pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM host.template;
    INSERT INTO host.template (name, body)
        SELECT t.name, t.body FROM unnest(names, bodies) AS t (name, body);
    INSERT INTO host.migration_functions (sha256) VALUES ('unfinished ' || digest)
        ON CONFLICT (only_row) DO UPDATE SET sha256 = EXCLUDED.sha256, applied_at = now();
END;
$$;

-- Returns: the queues that are still to be brought to the schema of the database.
CREATE OR REPLACE FUNCTION host.migration_queues() RETURNS SETOF text
    LANGUAGE plpgsql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regproc('host.upgrade_queue') IS NOT NULL THEN
        RETURN QUERY SELECT q.name FROM host.queue q JOIN host.migration_queue m ON m.queue_id = q.id
            WHERE m.functions <> host.migration_target() OR m.version < (SELECT max(x.version) FROM host.migration x)
            ORDER BY q.name;
    END IF;
END;
$$;

-- Last of all, when no queue is left: lets hosts in.
CREATE OR REPLACE FUNCTION host.migration_finish() RETURNS void
    LANGUAGE plpgsql SET search_path = host, pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE host.migration_functions SET sha256 = host.migration_target(), applied_at = now();
    IF to_regclass('host.catalog_change') IS NOT NULL THEN
        -- Whatever running hosts have made of a function that was away, they look again.
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
END;
$$;

-- Says in words which transactions hold locks on the tables of a queue, the oldest first. NULL: on
-- the tables that are no queue's. What others do is not shown to every role. Returns NULL when
-- nobody does any more.
CREATE OR REPLACE FUNCTION host.migration_waits_for(queue text) RETURNS text
    LANGUAGE sql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
    SELECT string_agg(h.line, '; ') FROM (
        SELECT concat_ws(' ', coalesce(format('process %s', l.pid), 'a prepared transaction'),
            '(' || coalesce(nullif(min(a.application_name), ''), min(a.usename)) || ')',
            'holds', (array_agg(DISTINCT l.mode))[1], 'on', min(format('%s.%s', c.relnamespace::regnamespace, c.relname)),
            'since ' || date_trunc('second', min(a.xact_start))) AS line
        FROM pg_locks l
        JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'v')
        LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
            AND c.relnamespace::regnamespace::text IN ('host', 'queue')
            AND (c.oid = to_regclass('host.queue') AND l.mode <> 'AccessShareLock' OR CASE
                WHEN migration_waits_for.queue IS NULL THEN strpos(c.relname, '__') = 0
                ELSE split_part(c.relname, '__', 1) = migration_waits_for.queue END)
        GROUP BY l.pid ORDER BY min(a.xact_start) LIMIT 3) h;
$$;

-- The value of max_locks_per_transaction, and the value needed: for a transaction that locks
-- everything of a queue (NULL: everything that is no queue's) beside the locks that are held now,
-- and half more.
CREATE OR REPLACE FUNCTION host.migration_locks(queue text, OUT now bigint, OUT needed bigint)
    LANGUAGE sql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
    SELECT s.now, greatest(s.now + 1, 1 + s.locks * 3 / 2 / s.transactions)
    FROM (SELECT current_setting('max_locks_per_transaction')::bigint AS now,
        current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS transactions,
        (SELECT count(*) FROM pg_locks) + (SELECT count(*) FROM pg_class c
            WHERE c.relnamespace::regnamespace::text IN ('host', 'queue')
                AND split_part(c.relname, '__', 1) = coalesce(migration_locks.queue, c.relname)) AS locks) s;
$$;

-- Grants to the group roles what they lack: after functions were replaced, after a restore into a
-- cluster that had no such roles. Returns how much that was, and which roles there are none of.
CREATE OR REPLACE FUNCTION host.migration_grant(OUT granted int, OUT missing_roles text[])
    LANGUAGE plpgsql SET search_path = host, pg_catalog, pg_temp
AS $$
BEGIN
    granted := 0;
    IF to_regproc('host.grant_privileges') IS NOT NULL THEN
        granted := host.grant_privileges();
    END IF;
    missing_roles := ARRAY(SELECT r FROM unnest(ARRAY['host_producer', 'host_operator', 'host_serve']) WITH ORDINALITY x (r, n)
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) ORDER BY n);
END;
$$;
