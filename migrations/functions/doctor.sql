-- What `host doctor` looks at: facts, as one JSON document; whether one is a finding is for the
-- caller to say. Reads only. Tables touched: host.queue, host.handler, host.session,
-- host.heartbeat, the queues' own, and the catalog's.
-- Locks: ACCESS SHARE.

-- The server's clock, read apart from all else, so that the reader knows when.
CREATE OR REPLACE FUNCTION host.server_clock() RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT clock_timestamp()
$$;

-- Who holds a lock that something of a queue waits for. `lock` is one of these. `leaf`: a lock on a
-- leaf that TRUNCATE would empty. `rotation`, `schedule`, or a handler's name in quotes: an
-- advisory lock, which hosts hold for a moment and anybody can take. `dump`: no lock yet, but a
-- dump may be about to read. A prepared transaction has no process. What others do is not shown to
-- every role: then `age_ms` is NULL. One look at the server's locks for all queues, and none that
-- is taken by it.
CREATE OR REPLACE FUNCTION host.held_locks()
RETURNS TABLE (queue text, lock text, pid int, prepared text, application text, role text, query text, age_ms bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT DISTINCT split_part(c.relname, '__', 1) AS queue, 'leaf' AS lock, l.pid, l.virtualtransaction
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.locktype = 'relation' AND l.granted AND c.relnamespace = 'host'::regnamespace AND c.relispartition
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT DISTINCT q.name, CASE l.classid WHEN {cursor_lock} THEN format('handler "%s"', h.name)
                WHEN {promotion_lock} THEN 'schedule' ELSE 'rotation' END, l.pid, l.virtualtransaction
        FROM pg_locks l
        LEFT JOIN host.handler h ON l.classid = {cursor_lock} AND h.id = l.objid::bigint
        JOIN host.queue q ON q.id = CASE WHEN l.classid = {cursor_lock} THEN h.queue_id ELSE l.objid::bigint END
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.classid IN ({cursor_lock}, {promotion_lock}, {rotation_lock}, {count_lock})
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT q.name, 'dump', host.dump_at_work(ARRAY[to_regclass(format('host.%I', q.name || '__message_0'))]), NULL
        FROM host.queue q WHERE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump')
    )
    SELECT DISTINCT ON (d.queue, d.lock, d.pid, p.gid) d.queue, d.lock, d.pid, p.gid, nullif(a.application_name, ''),
        coalesce(a.usename, p.owner)::text, left(a.query, 200),
        -- A lock of the session, not of a transaction, is none of a host's: it may be as old.
        (extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared, a.backend_start)) * 1000)::bigint
    FROM held d
    LEFT JOIN pg_stat_activity a ON a.pid = d.pid
    LEFT JOIN pg_locks own ON d.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
        AND own.virtualtransaction = d.virtualtransaction
    LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
    WHERE (d.lock <> 'dump' OR d.pid IS NOT NULL) AND d.pid IS DISTINCT FROM pg_backend_pid();
END $$;
DROP FUNCTION IF EXISTS host.leaf_locks(text);

-- Who holds locks of sessions that have not begun: hosts get these numbers next, and cannot begin.
-- `first`: the lowest number; `sessions`: how many. The rest is as in held_locks.
CREATE OR REPLACE FUNCTION host.held_sessions()
RETURNS TABLE (first bigint, sessions bigint, pid int, prepared text, application text, role text, query text, age_ms bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(l.objid::bigint), count(*), l.pid, NULL, nullif(min(a.application_name), ''), min(a.usename::text),
        left(min(a.query), 200),
        (extract(epoch FROM clock_timestamp() - min(coalesce(a.xact_start, a.backend_start))) * 1000)::bigint
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = {session_lock}
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND NOT EXISTS (SELECT FROM host.session s WHERE s.id = l.objid::bigint)
    GROUP BY l.pid ORDER BY l.pid
$$;

-- Who has locked tables of ours whole, against every reader, or waits for such a lock: readers wait
-- behind it. Not the partitions that a truncation empties: see held_locks. Reads only the catalog
-- of Postgres, which nobody locks so.
CREATE OR REPLACE FUNCTION host.held_tables()
RETURNS TABLE (tables text[], pid int, prepared text, application text, role text, query text, age_ms bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(DISTINCT l.relation::regclass::text), l.pid, p.gid, nullif(min(a.application_name), ''),
        coalesce(min(a.usename), min(p.owner))::text, left(min(a.query), 200),
        (extract(epoch FROM clock_timestamp() - min(coalesce(a.xact_start, p.prepared))) * 1000)::bigint
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('host', 'queue'))
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
        AND own.virtualtransaction = l.virtualtransaction
    LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY l.pid, p.gid ORDER BY l.pid
$$;

-- What the catalog says of queues, by their names; only of those where it says something.
-- `triggers`: somebody's, without a search path of their own: hosts insert with one that has
-- pg_catalog alone. One look for all queues.
CREATE OR REPLACE FUNCTION host.examine_catalog() RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT coalesce(jsonb_object_agg(f.queue, f.facts), '{}') FROM (
        SELECT x.queue, jsonb_object_agg(x.kind, x.list) AS facts FROM (
            SELECT c.relname AS queue, 'triggers' AS kind, jsonb_agg(jsonb_build_object(
                'name', t.tgname, 'function', p.oid::regprocedure::text) ORDER BY t.tgname) AS list
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = 'queue'::regnamespace
                JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language g ON g.oid = p.prolang
            WHERE NOT t.tgisinternal AND p.pronamespace <> 'host'::regnamespace AND g.lanname NOT IN ('internal', 'c')
                AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE starts_with(s, 'search_path='))
            GROUP BY c.relname
            UNION ALL
            SELECT split_part(c.relname, '__', 1), 'autovacuum', jsonb_agg(c.relname ORDER BY c.relname) FROM pg_class c
            WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r' AND c.relispartition
                AND NOT coalesce(c.reloptions, '{}') && '{autovacuum_enabled=off,autovacuum_enabled=false}'
            GROUP BY 1
            UNION ALL
            SELECT h.queue, 'locks', jsonb_agg(to_jsonb(h) - 'queue') FROM host.held_locks() h GROUP BY h.queue
        ) x GROUP BY x.queue
    ) f
$$;
DROP FUNCTION IF EXISTS host.examine_queue(text);

-- Some queues, a look at each taking its locks and giving them back, as host.status_of_each does;
-- p_idle: as there. Of a queue whose tables somebody has locked, the name.
DROP FUNCTION IF EXISTS host.examine_each(text[]);
CREATE OR REPLACE FUNCTION host.examine_each(p_queues text[], p_idle boolean DEFAULT false) RETURNS SETOF jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    one text;
    facts jsonb;
    probe record;
    hiding text[] := ARRAY(SELECT host.hiding_queues());
    of_catalog jsonb := host.examine_catalog();
BEGIN
    FOREACH one IN ARRAY p_queues LOOP
        BEGIN
            facts := NULL;
            SELECT * INTO probe FROM host.idle(one, 1) r WHERE one <> ALL (hiding);
            IF probe.idle THEN
                facts := (SELECT jsonb_build_object('name', q.name, 'paused', q.paused, 'clock_ms', probe.clock_ms, 'missed', NULL,
                        'row_security', '[]'::jsonb, 'unhandled', 0, 'open_lease', NULL, 'handlers', (
                            SELECT coalesce(jsonb_agg(jsonb_build_object('name', h.name, 'paused', h.paused, 'waiting', 0,
                                'refused', NULL, 'oldest_age_ms', NULL)
                                ORDER BY h.name), '[]')
                            FROM host.handler h WHERE h.queue_id = q.id))
                    FROM host.queue q WHERE q.name = one);
            ELSIF p_idle THEN
                facts := to_jsonb(one);
            ELSE
                EXECUTE format('SELECT host.%I()', one || '__examine') INTO facts;
            END IF;
            RAISE SQLSTATE 'HQ009';
        EXCEPTION
            WHEN SQLSTATE 'HQ009' THEN NULL;
            WHEN undefined_table OR undefined_function THEN
                IF EXISTS (SELECT FROM host.queue q WHERE q.name = one) THEN
                    RAISE;
                END IF;
                facts := NULL;
            WHEN lock_not_available THEN
                facts := to_jsonb(one);
        END;
        IF jsonb_typeof(facts) = 'object' THEN
            RETURN NEXT '{"triggers": [], "autovacuum": [], "locks": []}' || facts || coalesce(of_catalog -> one, '{}');
        ELSIF facts IS NOT NULL THEN
            RETURN NEXT facts;
        END IF;
    END LOOP;
END $$;

-- How many locks there is room for on the server, in all transactions together; and how many of
-- them a dump of this database takes: one for each table and sequence.
CREATE OR REPLACE FUNCTION host.lock_table(OUT room bigint, OUT dump bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT current_setting('max_locks_per_transaction')::bigint
            * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint
                + current_setting('autovacuum_max_workers')::bigint + current_setting('max_worker_processes')::bigint
                + current_setting('max_wal_senders')::bigint + 1),
        (SELECT count(*) FROM pg_class c WHERE c.relkind IN ('r', 'p', 'S') AND c.relnamespace NOT IN (
            'pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace))
$$;

-- Everything but the queues: see examine_each.
CREATE OR REPLACE FUNCTION host.examine() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'restored', host.restored(),
        'sees_others', pg_has_role('pg_read_all_stats', 'USAGE'),
        'missing_roles', ARRAY(SELECT DISTINCT p.role FROM host.privileges() p
            WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p.role)),
        'missing_privileges', ARRAY(SELECT host.missing_privileges()),
        'open_privileges', ARRAY(SELECT host.open_privileges()),
        'open_defaults', ARRAY(SELECT host.open_defaults()),
        'excess_privileges', (SELECT coalesce(jsonb_agg(to_jsonb(e)), '[]') FROM host.excess_privileges() e),
        'connections', (SELECT sum(numbackends) FROM pg_stat_database),
        'connections_max', current_setting('max_connections')::int,
        -- As this session has them, and as any role has them here.
        'settings', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'value', s.value, 'role', s.role))
            FROM (
                SELECT name, setting AS value, NULL AS role FROM pg_settings
                UNION ALL
                SELECT split_part(c, '=', 1), split_part(c, '=', 2), r.rolname FROM pg_db_role_setting d
                    JOIN pg_roles r ON r.oid = d.setrole CROSS JOIN unnest(d.setconfig) c
                    WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            ) s
            WHERE s.name IN ('synchronous_commit', 'fsync', 'full_page_writes', 'default_transaction_read_only')),
        -- Not negative: no entry has fired in the future.
        'cron_clock_ms', (SELECT min((extract(epoch FROM clock_timestamp() - c.fired_at) * 1000)::bigint)
            FROM host.cron c WHERE isfinite(c.fired_at)),
        'dead_catalog_rows', pg_stat_get_dead_tuples('pg_class'::regclass),
        'oldest_snapshot', (SELECT to_jsonb(o) FROM (
            SELECT a.pid, NULL AS prepared, nullif(a.application_name, '') AS application, a.usename::text AS role,
                left(a.query, 200) AS query,
                (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint AS age_ms
            FROM pg_stat_activity a
            WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
            ORDER BY age(a.backend_xmin) DESC LIMIT 1) o),
        'sessions', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM host.sessions() s),
        'failing_cron', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', c.name, 'queue', q.name, 'error', c.error) ORDER BY c.name), '[]')
            FROM host.cron c JOIN host.queue q ON q.id = c.queue_id WHERE c.error IS NOT NULL AND NOT c.paused),
        'detached', ARRAY(SELECT format('ALTER TABLE host.heartbeat ATTACH PARTITION host.heartbeat_%1$s FOR VALUES IN (%1$s)', n)
            FROM generate_series(0, 2) n
            WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = to_regclass('host.heartbeat_' || n) AND NOT i.inhdetachpending)),
        'held_sessions', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM host.held_sessions() s),
        'handlers', (SELECT coalesce(jsonb_agg(jsonb_build_object('queue', h.queue, 'handler', h.handler,
                'version', h.version, 'failed_on', h.failed_on)), '[]')
            FROM host.handlers() h WHERE h.in_force),
        'locks', (SELECT to_jsonb(l) || jsonb_build_object('per_transaction', current_setting('max_locks_per_transaction')::int)
            FROM host.lock_table() l));
END $$;
