-- Purpose: what the migration runner itself needs, so that the Rust side only calls functions.
--   Applied first on every run, under the runner's advisory lock; each statement can be repeated.
-- Invariant: a row of host.migration is committed together with the migration it speaks of.
-- Locks: none that another session waits for.
-- Tables: host.migration, host.migration_functions, host.template. Makes the cluster's three group roles.

CREATE SCHEMA IF NOT EXISTS host;

-- The group roles, for login roles to be made members of; functions/privileges.sql says what they may do. They
-- belong to the whole cluster, so another database may have made them. One that cannot be made is left to
-- somebody who can: migration_grant says so.
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

-- Keeps the templates of this release, drops those it no longer has, applies them to every queue
-- and records the digest; all in the transaction that replaced the functions. Bodies are not checked: that would lock
-- all tables of all queues at once. They were when a queue was created, here or where the release was tested.
CREATE OR REPLACE FUNCTION host.migration_record_functions(names text[], bodies text[], digest text)
    RETURNS void
    LANGUAGE plpgsql SET search_path = host, pg_catalog, pg_temp SET check_function_bodies = off
AS $$
BEGIN
    DELETE FROM host.template;
    INSERT INTO host.template (name, body)
        SELECT t.name, t.body FROM unnest(names, bodies) AS t (name, body);
    IF to_regclass('host.queue') IS NOT NULL THEN
        PERFORM host.apply_queue_functions(q.name) FROM host.queue q ORDER BY q.name;
    END IF;
    INSERT INTO host.migration_functions (sha256) VALUES (digest)
        ON CONFLICT (only_row) DO UPDATE SET sha256 = EXCLUDED.sha256, applied_at = now();
    IF to_regclass('host.catalog_change') IS NOT NULL THEN
        -- Whatever running hosts have made of a function that was away, they look again.
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
END;
$$;

-- Returns: the queues that there are, for what is done to one after the other.
CREATE OR REPLACE FUNCTION host.migration_queues() RETURNS SETOF text
    LANGUAGE plpgsql STABLE SET search_path = host, pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regproc('host.put_comments') IS NOT NULL THEN
        RETURN QUERY SELECT q.name FROM host.queue q ORDER BY q.name;
    END IF;
END;
$$;

-- Grants to the group roles what they lack: after functions were replaced, after a restore into a cluster
-- that had no such roles. Returns how much that was, and which roles there are none of.
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
