-- Sessions: which hosts are alive. Tables touched: host.session, host.heartbeat (append-only),
-- host.catalog_change. Locks: a session holds the session-level advisory lock ({session_lock}, id)
-- on a connection of its own for as long as it lives. host/queue/src/constants.rs lists the classes
-- of advisory locks.

-- Refuses a transaction whose snapshot may be older than the locks that its caller takes next: such
-- a one would not see what was committed while it waited, and drop or truncate it.
CREATE OR REPLACE FUNCTION host.require_read_committed(p_what text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION '% needs a READ COMMITTED transaction; this one is %', p_what, upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state',
                HINT = 'begin it with BEGIN ISOLATION LEVEL READ COMMITTED, or SET default_transaction_isolation = ''read committed''';
    END IF;
END $$;

-- Refuses a session whose lock somebody else holds, and says who: anybody may take one.
CREATE OR REPLACE FUNCTION host.refuse_held_session(p_session int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holder text := (SELECT format('process %s of role %s', l.pid, coalesce(a.usename, '?'))
            || coalesce(format(' (%s)', nullif(a.application_name, '')), '')
        FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.classid = {session_lock} AND l.objid = p_session::oid AND l.objsubid = 2
            AND l.granted AND l.pid <> pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        LIMIT 1);
BEGIN
    RAISE EXCEPTION 'the advisory lock of session % is held by %', p_session, coalesce(holder, 'somebody who has just let it go')
        USING ERRCODE = 'lock_not_available';
END $$;

-- Begins a session on the calling connection. Raises HQ003 on a database that came from another
-- cluster.
CREATE OR REPLACE FUNCTION host.begin_session(p_host_name text, p_pid int, p_host_version text) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    session int;
BEGIN
    IF host.restored() THEN
        RAISE EXCEPTION 'this database was restored from a dump, copied or upgraded: its queues count by another cluster''s transaction ids'
            USING HINT = 'run `host migrate --restored`, when the restore is complete', ERRCODE = 'HQ003';
    END IF;
    INSERT INTO host.session (host_name, pid, host_version)
        VALUES (p_host_name, p_pid, p_host_version) RETURNING id INTO session;
    -- The next try gets the next number.
    IF NOT pg_try_advisory_lock({session_lock}, session) THEN
        PERFORM host.refuse_held_session(session);
    END IF;
    RETURN session;
END $$;

-- Terminates a backend, if that is this role's to do. Each by itself: a name and a lock can be
-- taken by anybody, and somebody else's connection must not shield those after it.
CREATE OR REPLACE FUNCTION host.terminate(p_pid int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_terminate_backend(p_pid);
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'process % is another role''s: it stays', p_pid;
END $$;

-- Goes on with a session on the calling connection, its old one being lost. Waits up to a second
-- for the old one's lock: its backend may not have noticed yet, and is terminated.
CREATE OR REPLACE FUNCTION host.rejoin_session(p_session int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM host.session WHERE id = p_session AND ended_at IS NULL) THEN
        RAISE EXCEPTION 'session % has ended', p_session USING ERRCODE = 'HQ001';
    END IF;
    PERFORM host.terminate(l.pid) FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = {session_lock} AND l.objid = p_session::oid AND l.objsubid = 2
            AND l.granted AND l.pid <> pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    BEGIN
        PERFORM pg_advisory_lock({session_lock}, p_session);
    EXCEPTION WHEN lock_not_available THEN
        PERFORM host.refuse_held_session(p_session);
    END;
END $$;

-- One beat of a host; p_late says which of its loops are late. Returns a row for each live session:
-- its newest beat, and whether its lock is held. The caller decides which host is dead: it compares
-- two calls by its own clock, since clocks of two machines are never compared. server_started is
-- when all locks last vanished. A restart or a failover changes the server's start. A crash of one
-- backend makes all others begin anew, and resets the statistics.
CREATE OR REPLACE FUNCTION host.beat(p_session int, p_beat bigint, p_late text DEFAULT NULL)
RETURNS TABLE (session_id int, beat bigint, locked boolean, catalog_version bigint, server_started timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO host.heartbeat (session_id, slot, beat, late)
        VALUES (p_session, extract(epoch FROM now())::bigint / 3600 % 3, p_beat, p_late);
    RETURN QUERY
        SELECT s.id,
            (SELECT h.beat FROM host.heartbeat h WHERE h.session_id = s.id ORDER BY h.beat DESC LIMIT 1),
            l.objid IS NOT NULL,
            host.catalog_version(),
            greatest(pg_postmaster_start_time(), (SELECT w.stats_reset FROM pg_stat_bgwriter w))
        FROM host.session s
        LEFT JOIN (
            SELECT DISTINCT objid::bigint AS objid FROM pg_locks
            WHERE locktype = 'advisory' AND classid = {session_lock} AND objsubid = 2 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) l ON l.objid = s.id
        WHERE s.ended_at IS NULL;
END $$;

-- Ends a session: by itself, or, when it was found dead, by anybody. A dead one's connections are
-- terminated, since the backend of a frozen host may hold locks. Raises the catalog's version, so
-- that every host looks for what it left. False: it had ended before.
CREATE OR REPLACE FUNCTION host.end_session(p_session int, p_lost boolean) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    UPDATE host.session SET ended_at = clock_timestamp(), lost = p_lost
        WHERE id = p_session AND ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_lost THEN
        PERFORM host.terminate(pid) FROM pg_stat_activity
            WHERE application_name = 'host session ' || p_session AND datname = current_database();
    END IF;
    INSERT INTO host.catalog_change DEFAULT VALUES;
    RETURN true;
END $$;

-- For the last host that ends: has the producers of up to 100 queues notify nobody. Takes them in
-- order of their ids, after p_after. Returns the last id; NULL: there are no more, or a host lives.
CREATE OR REPLACE FUNCTION host.nobody_sleeps(p_after int) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids int[] := ARRAY(SELECT id FROM host.queue WHERE id > p_after ORDER BY id LIMIT 100);
BEGIN
    IF EXISTS (SELECT FROM host.session WHERE ended_at IS NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM setval(to_regclass(format('host.%I', q.name || '__asleep')), 0) FROM host.queue q WHERE q.id = ANY (ids);
    -- One that has begun meanwhile may have said that it sleeps: then producers rather notify too
    -- often.
    IF EXISTS (SELECT FROM host.session WHERE ended_at IS NULL) THEN
        PERFORM setval(to_regclass(format('host.%I', q.name || '__asleep')), 1) FROM host.queue q
            WHERE q.id = ANY (ids) AND q.wake_up;
        RETURN NULL;
    END IF;
    RETURN ids[cardinality(ids)];
END $$;

-- Truncates the leaf of the heartbeat that comes after the present hour's: nobody writes there.
-- SECURITY DEFINER: a host must not be able to truncate any other.
CREATE OR REPLACE FUNCTION host.truncate_heartbeat() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '20ms' AS $$
DECLARE
    leaf regclass := format('host.heartbeat_%s', (extract(epoch FROM now())::bigint / 3600 + 1) % 3);
BEGIN
    IF pg_relation_size(leaf) > 0 THEN
        EXECUTE format('TRUNCATE %s', leaf);
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION host.truncate_heartbeat FROM PUBLIC;
