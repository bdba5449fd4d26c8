-- Handlers and their deployments. Tables touched: host.handler, host.handler_version, the queue's
-- lease log.

-- Deploys a component that host.component has already as the next version of a handler, which is
-- made if there is none: then its cursors begin with the oldest message that is kept (see
-- begin_from_now).
-- Locks: the handler's row; for a new one advisory ({rotation_lock}, queue), as rotation does, so
-- that nothing is truncated between the look and the new cursor. SECURITY DEFINER: a cursor goes
-- into the lease log, where an operator must not write by hand.
CREATE OR REPLACE FUNCTION host.deploy(
    p_queue text, p_handler text, p_sha256 text, p_config jsonb, p_isolation text, p_concurrency int,
    p_memory_bytes bigint, p_timeout_ms bigint, p_cpu_ms bigint, p_log_bytes bigint,
    p_follow_ups int, p_follow_up_bytes bigint,
    p_http text[] DEFAULT '{}', p_secrets text[] DEFAULT '{}',
    p_http_requests int DEFAULT 100, p_http_bytes bigint DEFAULT 16 << 20, p_batch_size int DEFAULT NULL,
    OUT handler_id int, OUT version int
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    queue int;
BEGIN
    PERFORM host.require_read_committed('deploying a handler');
    SELECT id INTO queue FROM host.queue WHERE name = p_queue;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    SELECT h.id INTO handler_id FROM host.handler h WHERE h.queue_id = queue AND h.name = p_handler FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM pg_advisory_xact_lock({rotation_lock}, queue);
        SELECT h.id INTO handler_id FROM host.handler h WHERE h.queue_id = queue AND h.name = p_handler FOR UPDATE;
    END IF;
    IF handler_id IS NULL THEN
        INSERT INTO host.handler (queue_id, name, version) VALUES (queue, p_handler, 0) RETURNING id INTO handler_id;
        EXECUTE format(
            'INSERT INTO host.%I (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, is_cursor, more, token, hi, txids, lane, leased)
             SELECT host.cursor_seq($1, n), 0, 0, 0, 0, $1, 0, 0, 0, true, false, gen_random_uuid(), ''1:1:'', ''{}'', n,
                ''{0,0,0}''
             FROM generate_series(0, $2 - 1) n', p_queue || '__lease')
            USING handler_id, (SELECT host.lanes(q) FROM host.queue q WHERE q.id = queue);
    END IF;
    version := 1 + coalesce((SELECT max(v.version) FROM host.handler_version v WHERE v.handler_id = deploy.handler_id), 0);
    INSERT INTO host.handler_version (handler_id, version, sha256, config, isolation, concurrency, memory_bytes,
            timeout_ms, cpu_ms, log_bytes, follow_ups, follow_up_bytes, deployed_by, http, secrets, http_requests, http_bytes,
            batch_size)
        VALUES (handler_id, deploy.version, p_sha256, p_config, p_isolation, p_concurrency, p_memory_bytes,
            p_timeout_ms, p_cpu_ms, p_log_bytes, p_follow_ups, p_follow_up_bytes, session_user, p_http, p_secrets,
            p_http_requests, p_http_bytes, p_batch_size);
    UPDATE host.handler h SET version = deploy.version WHERE h.id = deploy.handler_id;
END $$;
REVOKE EXECUTE ON FUNCTION host.deploy FROM PUBLIC;

-- Has a handler that this transaction has made begin after what is committed by now, not with the
-- oldest message. One snapshot, the cursor's, decides which messages the handler skips. Its account
-- begins with these messages, and it releases their keys, since it will not settle them. A message
-- that commits later is its own. SECURITY DEFINER: as deploy, which holds the lock.
CREATE OR REPLACE FUNCTION host.begin_from_now(p_handler int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    queue text;
    lanes int;
    passed bigint[];
BEGIN
    PERFORM host.require_read_committed('deploying from now on');
    SELECT q.name, host.lanes(q) INTO queue, lanes FROM host.handler h JOIN host.queue q ON q.id = h.queue_id
        WHERE h.id = p_handler AND h.created_at = now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler % has begun already', p_handler;
    END IF;
    EXECUTE format(
        'WITH passed AS MATERIALIZED (
            SELECT %1$s AS lane, count(*) FILTER (WHERE id / {generation_size} %% 3 = 0) AS a,
                count(*) FILTER (WHERE id / {generation_size} %% 3 = 1) AS b,
                count(*) FILTER (WHERE id / {generation_size} %% 3 = 2) AS c
            FROM queue.%2$I GROUP BY 1
        ), cursors AS (
            INSERT INTO host.%3$I (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, is_cursor, more, token, hi, txids, lane, leased)
            SELECT host.cursor_seq($1, n) - (1::bigint << 32), 0, 0, 0, 0, $1, 0, 0, 0, true, false, gen_random_uuid(),
                txid_current_snapshot(), ''{}'', n, ARRAY[coalesce(p.a, 0), coalesce(p.b, 0), coalesce(p.c, 0)]
            FROM generate_series(0, $2 - 1) n LEFT JOIN passed p ON p.lane = n
        )
        SELECT ARRAY(SELECT message_id FROM host.%4$I)',
        CASE WHEN lanes > 1 THEN 'lane' ELSE '0' END, queue, queue || '__lease', queue || '__unique')
        INTO passed USING p_handler, lanes;
    EXECUTE format('SELECT host.%I($1, $2)', queue || '__release_keys') USING p_handler, passed;
END $$;
REVOKE EXECUTE ON FUNCTION host.begin_from_now FROM PUBLIC;

-- Pauses a handler, or lets it go on; the others of its queue are not concerned. False: it was so
-- before.
CREATE OR REPLACE FUNCTION host.pause_handler(p_handler int, p_paused boolean) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE host.handler SET paused = p_paused WHERE id = p_handler AND paused <> p_paused;
    RETURN FOUND;
END $$;

-- Removes a handler with its versions. What it had before it, in flight and on the schedule is
-- dropped for it, and holds up nothing any more; dead letters stay, to be looked at or moved.
-- Locks: advisory ({rotation_lock}, queue), as rotation and deploy do; the handler's row. At most
-- 10 s for each. SECURITY DEFINER: an operator must not delete handlers by hand, beside these
-- locks.
CREATE OR REPLACE FUNCTION host.remove_handler(p_handler int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
BEGIN
    PERFORM host.require_read_committed('removing a handler');
    PERFORM pg_advisory_xact_lock({rotation_lock}, queue_id) FROM host.handler WHERE id = p_handler;
    PERFORM host.release_all_keys(q.name, h.id)
        FROM host.handler h JOIN host.queue q ON q.id = h.queue_id WHERE h.id = p_handler;
    DELETE FROM host.handler WHERE id = p_handler;
END $$;
REVOKE EXECUTE ON FUNCTION host.remove_handler FROM PUBLIC;

-- What a session has made of deployments: an error says why it cannot run one, NULL that it does.
-- The three arrays are in the same order. Repeatable. A session, handler or version that is gone by
-- now is left out.
CREATE OR REPLACE FUNCTION host.report_loaded(p_session int, p_handlers int[], p_versions int[], p_errors text[])
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO host.loaded (session_id, handler_id, version, error)
        SELECT s.id, v.handler_id, v.version, said.error
        FROM unnest(p_handlers, p_versions, p_errors) said (handler, version, error)
            JOIN host.handler_version v ON v.handler_id = said.handler AND v.version = said.version
            JOIN host.session s ON s.id = p_session
        ON CONFLICT (session_id, handler_id, version)
            DO UPDATE SET error = EXCLUDED.error, loaded_at = EXCLUDED.loaded_at
$$;

-- Keeps a component, if it is not kept already. The caller has checked it.
CREATE OR REPLACE FUNCTION host.upload(p_sha256 text, p_wasm bytea) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO host.component (sha256, wasm) VALUES (p_sha256, p_wasm) ON CONFLICT (sha256) DO NOTHING
$$;

-- Puts an older (or newer) version of a handler in force again. A version is a component with its
-- settings, and keeps its number: what ran as 2 runs as 2 again, and the next deploy gets a number
-- of its own. What hosts said of that version when they loaded it before is forgotten, so that they
-- are heard anew.
-- Locks: the handler's row.
CREATE OR REPLACE FUNCTION host.roll_back(p_handler int, p_version int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM host.handler_version v WHERE v.handler_id = p_handler AND v.version = p_version) THEN
        RAISE EXCEPTION 'handler % has no version %', p_handler, p_version USING ERRCODE = 'HQ004';
    END IF;
    DELETE FROM host.loaded l WHERE l.handler_id = p_handler AND l.version = p_version;
    UPDATE host.handler SET version = p_version WHERE id = p_handler;
END $$;

-- Every version of every handler. `runs_on`: the sessions whose newest report on the handler is
-- that they run this version.
CREATE OR REPLACE FUNCTION host.handlers()
RETURNS TABLE (
    queue text, handler text, version int, in_force boolean, paused boolean, sha256 text, size_bytes bigint, isolation text,
    concurrency int, batch_size int, http text[], secrets text[], deployed_at timestamptz, deployed_by text, runs_on text[], failed_on text[]
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    WITH newest AS (
        SELECT DISTINCT ON (l.handler_id, l.session_id, l.error IS NULL)
            l.handler_id, l.session_id, l.version, l.error, format('%s/%s', s.host_name, s.pid) AS host
        FROM host.loaded l JOIN host.session s ON s.id = l.session_id AND s.ended_at IS NULL
        ORDER BY l.handler_id, l.session_id, l.error IS NULL, l.loaded_at DESC
    )
    SELECT q.name, h.name, v.version, v.version = h.version, h.paused, v.sha256, length(c.wasm), v.isolation,
        v.concurrency, v.batch_size,
        -- SQL can deploy anything: what it granted to nobody is nothing to show.
        array_remove(v.http, NULL), array_remove(v.secrets, NULL), v.deployed_at, v.deployed_by,
        ARRAY(SELECT n.host FROM newest n
            WHERE n.handler_id = h.id AND n.version = v.version AND n.error IS NULL ORDER BY n.session_id),
        ARRAY(SELECT n.host || ': ' || n.error FROM newest n
            WHERE n.handler_id = h.id AND n.version = v.version AND n.error IS NOT NULL
                AND v.version = h.version ORDER BY n.session_id)
    FROM host.queue q
    JOIN host.handler h ON h.queue_id = q.id
    JOIN host.handler_version v ON v.handler_id = h.id
    JOIN host.component c ON c.sha256 = v.sha256
    ORDER BY q.name, h.name, v.version DESC
$$;

-- Every version of one handler with its settings, the newest first. `settings`: the columns of
-- host.handler_version.
CREATE OR REPLACE FUNCTION host.handler_versions(p_queue text, p_handler text)
RETURNS TABLE (
    handler_id int, version int, in_force boolean, sha256 text, size_bytes bigint, settings jsonb,
    deployed_at timestamptz, deployed_by text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.id, v.version, v.version = h.version, v.sha256, length(c.wasm), to_jsonb(v), v.deployed_at, v.deployed_by
    FROM host.queue q
    JOIN host.handler h ON h.queue_id = q.id
    JOIN host.handler_version v ON v.handler_id = h.id
    JOIN host.component c ON c.sha256 = v.sha256
    WHERE q.name = p_queue AND h.name = p_handler
    ORDER BY v.version DESC
$$;

-- Refuses to go on (HQ007) unless a handler's newest version and the one in force are these; 0:
-- there is no such handler. Whoever makes a version from another one asks first, so that no change
-- of another's is lost.
-- Locks: the handler's row, to the end of the transaction.
CREATE OR REPLACE FUNCTION host.expect_versions(p_queue text, p_handler text, p_newest int, p_in_force int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    handler int;
    in_force int;
    newest int;
BEGIN
    SELECT h.id, h.version INTO handler, in_force FROM host.handler h JOIN host.queue q ON q.id = h.queue_id
        WHERE q.name = p_queue AND h.name = p_handler FOR UPDATE OF h;
    SELECT max(v.version) INTO newest FROM host.handler_version v WHERE v.handler_id = handler;
    IF (coalesce(newest, 0), coalesce(in_force, 0)) <> (p_newest, p_in_force) THEN
        RAISE EXCEPTION 'handler %/% was changed meanwhile: version % is in force now', p_queue, p_handler,
            coalesce(in_force, 0) USING ERRCODE = 'HQ007', HINT = 'run the command again';
    END IF;
END $$;
