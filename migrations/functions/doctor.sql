-- What `host doctor` looks at: facts, as one JSON document; whether one is a finding is for the caller to say. Reads
-- only. Tables touched: host.queue, host.handler, host.session, host.heartbeat, the queues' own, and the catalog's.
-- Locks: ACCESS SHARE.

-- The server's clock, read apart from all else, so that the reader knows when.
CREATE OR REPLACE FUNCTION host.server_clock() RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT clock_timestamp()
$$;

-- Who holds a lock on a leaf of a queue, which TRUNCATE would wait for. A prepared transaction has no process. What others do
-- is not shown to every role: then `age_ms` is NULL.
CREATE OR REPLACE FUNCTION host.leaf_locks(p_queue text)
RETURNS TABLE (pid int, prepared text, application text, role text, query text, age_ms bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT ON (l.pid, p.gid) l.pid, p.gid, nullif(a.application_name, ''), coalesce(a.usename, p.owner)::text, left(a.query, 200),
        (extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)) * 1000)::bigint
    FROM pg_class c
    JOIN pg_locks l ON l.locktype = 'relation' AND l.relation = c.oid AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
        AND own.virtualtransaction = l.virtualtransaction
    LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
    WHERE c.relnamespace = 'host'::regnamespace AND c.relispartition AND starts_with(c.relname, p_queue || '__')
        AND l.pid IS DISTINCT FROM pg_backend_pid()
$$;

-- One queue.
CREATE OR REPLACE FUNCTION host.examine_queue(p_queue text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    facts jsonb;
BEGIN
    EXECUTE format('SELECT host.%I()', p_queue || '__examine') INTO facts;
    RETURN facts || jsonb_build_object(
        'locks', (SELECT coalesce(jsonb_agg(to_jsonb(l)), '[]') FROM host.leaf_locks(p_queue) l),
        -- Somebody's, without a search path of their own: hosts insert with one that has pg_catalog alone.
        'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', t.tgname, 'function', p.oid::regprocedure::text)
                ORDER BY t.tgname), '[]')
            FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language g ON g.oid = p.prolang
            WHERE t.tgrelid = to_regclass(format('queue.%I', p_queue)) AND NOT t.tgisinternal
                AND p.pronamespace <> 'host'::regnamespace AND g.lanname NOT IN ('internal', 'c')
                AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE starts_with(s, 'search_path='))),
        'autovacuum', (SELECT coalesce(jsonb_agg(c.relname ORDER BY c.relname), '[]') FROM pg_class c
            WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r' AND c.relispartition
                AND starts_with(c.relname, p_queue || '__')
                AND NOT coalesce(c.reloptions, '{}') && '{autovacuum_enabled=off,autovacuum_enabled=false}'));
END $$;

-- Everything. The queues of a database that was restored are not looked at: their cursors mean nothing.
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
            WHERE s.name IN ('synchronous_commit', 'fsync', 'full_page_writes', 'default_transaction_isolation',
                'default_transaction_read_only')),
        'dead_catalog_rows', pg_stat_get_dead_tuples('pg_class'::regclass),
        'oldest_snapshot', (SELECT to_jsonb(o) FROM (
            SELECT a.pid, NULL AS prepared, nullif(a.application_name, '') AS application, a.usename::text AS role,
                left(a.query, 200) AS query,
                (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint AS age_ms
            FROM pg_stat_activity a
            WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
            ORDER BY age(a.backend_xmin) DESC LIMIT 1) o),
        'sessions', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM host.sessions() s),
        'handlers', (SELECT coalesce(jsonb_agg(jsonb_build_object('queue', h.queue, 'handler', h.handler,
                'version', h.version, 'failed_on', h.failed_on)), '[]')
            FROM host.handlers() h WHERE h.in_force),
        'queues', CASE WHEN host.restored() THEN '[]' ELSE (SELECT coalesce(jsonb_agg(host.examine_queue(q.name)
            ORDER BY q.name), '[]') FROM host.queue q) END);
END $$;
