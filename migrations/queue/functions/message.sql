-- Template: looking at single messages, cancelling them, and purging those that wait. No index is
-- on a message's id: each look reads the queue once through, which is for an operator, never for a
-- host. Tables touched: message, lease, settlement, schedule, promotion, dead_letter,
-- host.cancellation.

-- What handlers have made of the rows of a message: one row for each row, handler and lease that
-- covers it; with lease columns that are NULL where none does. `passed`: the handler's cursor is
-- beyond it. `what`: open, settled, removed, parked (it was not due, and went to the schedule), or
-- taken over.
CREATE OR REPLACE FUNCTION host.{q}__runs(p_message bigint)
RETURNS TABLE (
    handler_id int, attempt smallint, history jsonb, passed boolean, lease_id bigint, session_id int,
    leased_at timestamptz, ended_at timestamptz, what text, result bytea, due timestamptz
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    WITH mine AS MATERIALIZED (
        SELECT m.txid, m.id, m.run_at, m.attempt, m.history, m.handler_id{lanes?, m.lane} FROM queue.{q} m WHERE m.id = p_message OR m.origin = p_message
    )
    SELECT h.id, m.attempt, m.history,
        txid_visible_in_snapshot(m.txid, c.hi)
            AND NOT (c.more AND m.txid <@ c.txids AND {ordered?m.id > c.to_id}{unordered?(m.txid, m.id) > (c.to_txid, c.to_id)}),
        r.id, r.session_id, r.leased_at, r.settled_at, r.what, r.result, r.due
    FROM mine m
    JOIN host.handler h ON h.queue_id = {queue_id} AND coalesce(m.handler_id = h.id, true)
    JOIN LATERAL host.{q}__cursors(h.id) c ON {lanes?c.lane = m.lane}{plain?true}
    LEFT JOIN LATERAL (
        SELECT l.id, l.session_id, l.leased_at, l.due, t.settled_at, CASE
                WHEN t.lease_id IS NULL THEN 'open'
                WHEN NOT t.settled @> p.pos THEN 'taken over'
                WHEN t.removed @> p.pos THEN 'removed'
                WHEN t.parked > 0 AND m.run_at > l.leased_at THEN 'parked'
                ELSE 'settled'
            END AS what,
            t.results[array_position(t.result_pos, p.pos)] AS result
        FROM host.{q}__lease l
        CROSS JOIN LATERAL (
            SELECT count(*)::int AS pos FROM queue.{q} x WHERE {lanes?x.lane = m.lane AND }x.txid <@ l.txids
                AND {ordered?x.id > l.from_id AND x.id < m.id}{unordered?(x.txid, x.id) > (l.from_txid, l.from_id) AND (x.txid, x.id) < (m.txid, m.id)}
        ) p
        LEFT JOIN LATERAL (
            SELECT s.* FROM host.{q}__settlement s
            WHERE s.lease_id = l.id AND (s.settled @> p.pos OR s.revoked) ORDER BY s.seq LIMIT 1
        ) t ON true
        WHERE l.handler_id = h.id {lanes?AND l.lane = m.lane }AND l.row_count > 0 AND m.txid <@ l.txids
            AND {ordered?m.id > l.from_id AND m.id <= l.to_id}{unordered?(m.txid, m.id) > (l.from_txid, l.from_id) AND (m.txid, m.id) <= (l.to_txid, l.to_id)}
            AND coalesce(l.positions @> p.pos, true)
    ) r ON true
$$;

-- Rows of a message on the schedule that are still to be promoted.
CREATE OR REPLACE FUNCTION host.{q}__scheduled(p_message bigint)
RETURNS TABLE (handler_id int, due timestamptz, attempt smallint, enqueued_at timestamptz, headers jsonb, history jsonb, payload text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex SET jit = off AS $$
    SELECT s.handler_id, s.due, s.attempt, s.enqueued_at, s.headers, s.history, s.payload::text
    FROM host.{q}__schedule s
    CROSS JOIN (SELECT * FROM host.{q}__promotion ORDER BY id DESC LIMIT 1) c
    WHERE s.origin = p_message
        AND {is_scheduled}
$$;

-- A message itself, from wherever it is kept; the payload as text, or as \x… when it is bytea.
CREATE OR REPLACE FUNCTION host.{q}__message(p_message bigint)
RETURNS TABLE (enqueued_at timestamptz, headers jsonb, payload text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex SET jit = off AS $$
    SELECT m.enqueued_at, m.headers, m.payload::text FROM queue.{q} m WHERE m.id = p_message OR m.origin = p_message
    UNION ALL
    SELECT s.enqueued_at, s.headers, s.payload FROM host.{q}__scheduled(p_message) s
    UNION ALL
    SELECT d.enqueued_at, d.headers, d.payload::text FROM host.{q}__dead_letter d WHERE d.message_id = p_message
    UNION ALL
    SELECT k.enqueued_at, k.headers, k.payload FROM host.{q}__kept(p_message) k
    LIMIT 1
$$;

-- Where a message is now, for each handler that it is known for. `state`: in flight (`whose` has
-- it), waiting, scheduled (`at` is when it is due), dead (`whose` is the dead letter), removed, or
-- settled, with a `result` if it left one. `cancelled`: it will be removed.
CREATE OR REPLACE FUNCTION host.{q}__whereabouts(p_message bigint)
RETURNS TABLE (handler_id int, handler text, state text, at timestamptz, whose text, attempt smallint, cancelled boolean, result bytea)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    SELECT DISTINCT ON (x.name) w.handler_id, x.name, w.state, w.at, w.whose, w.attempt,
        EXISTS (SELECT FROM host.cancellation c WHERE c.handler_id = w.handler_id AND c.message_id = p_message), w.result
    FROM (
        SELECT CASE WHEN NOT r.passed THEN 2 WHEN r.what = 'open' THEN 1 WHEN r.what = 'removed' THEN 5 ELSE 6 END AS rank,
            CASE WHEN NOT r.passed OR r.what = 'open' AND r.session_id = 0 THEN 'waiting' WHEN r.what = 'open' THEN 'in flight' WHEN r.what = 'removed' THEN r.what ELSE 'settled' END AS state,
            r.handler_id, NULL AS handler, coalesce(r.ended_at, r.leased_at) AS at, format('%s/%s', s.host_name, s.pid) AS whose,
            r.attempt, r.result
        FROM host.{q}__runs(p_message) r LEFT JOIN host.session s ON s.id = r.session_id
        UNION ALL
        SELECT 3, 'scheduled', x.id, NULL, s.due, NULL, s.attempt, NULL FROM host.{q}__scheduled(p_message) s
            JOIN host.handler x ON x.queue_id = {queue_id} AND coalesce(s.handler_id = x.id, true)
        UNION ALL
        SELECT 4, 'dead', d.handler_id, NULL, d.died_at, d.id::text, d.attempt, NULL FROM host.{q}__dead_letter d
            WHERE d.message_id = p_message
        UNION ALL
        SELECT CASE WHEN k.removed THEN 5 ELSE 6 END, CASE WHEN k.removed THEN 'removed' ELSE 'settled' END, k.handler_id,
            k.handler, k.settled_at, format('%s/%s', s.host_name, s.pid), k.attempt, k.result
        FROM host.{q}__kept(p_message) k LEFT JOIN host.session s ON s.id = k.session_id
    ) w
    LEFT JOIN host.handler h ON h.id = w.handler_id
    -- The history knows the names of handlers that were removed.
    CROSS JOIN LATERAL (SELECT coalesce(h.name, w.handler) AS name) x
    WHERE x.name IS NOT NULL
    ORDER BY x.name, w.rank, w.at DESC
$$;

-- A message's story, as long as its generation or its history is kept: what happened when, for
-- which handler.
CREATE OR REPLACE FUNCTION host.{q}__story(p_message bigint)
RETURNS TABLE (at timestamptz, handler text, attempt smallint, what text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    WITH runs AS MATERIALIZED (SELECT * FROM host.{q}__runs(p_message)),
    -- Of what the logs have no more.
    kept AS MATERIALIZED (SELECT * FROM host.{q}__kept(p_message) k
        WHERE NOT EXISTS (SELECT FROM runs r WHERE r.lease_id = k.lease_id AND r.handler_id = k.handler_id)),
    histories (handler_id, history) AS (
        SELECT r.handler_id, r.history FROM runs r
        UNION ALL SELECT s.handler_id, s.history FROM host.{q}__scheduled(p_message) s
        UNION ALL SELECT d.handler_id, d.history FROM host.{q}__dead_letter d WHERE d.message_id = p_message
        UNION ALL SELECT k.handler_id, k.history FROM kept k
    )
    SELECT e.at, h.name, e.attempt, e.what
    FROM (
        SELECT m.enqueued_at AS at, NULL::int AS handler_id, NULL::smallint AS attempt, 'enqueued' AS what
            FROM host.{q}__message(p_message) m
        UNION ALL
        SELECT r.leased_at, r.handler_id, r.attempt, CASE WHEN r.due IS NOT NULL THEN format('lease %s by nobody, due %s', r.lease_id, r.due)
                WHEN r.session_id = 0 THEN format('lease %s, to purge it', r.lease_id)
                ELSE format('lease %s by %s/%s', r.lease_id, s.host_name, s.pid) END
            FROM (
                SELECT lease_id, session_id, leased_at, handler_id, attempt, due FROM runs WHERE lease_id IS NOT NULL
                UNION ALL SELECT lease_id, session_id, leased_at, handler_id, attempt, NULL FROM kept
            ) r LEFT JOIN host.session s ON s.id = r.session_id
        UNION ALL
        SELECT r.ended_at, r.handler_id, r.attempt, CASE r.what WHEN 'removed' THEN 'removed by an operator'
                WHEN 'parked' THEN 'not due yet: put on the schedule' ELSE r.what END
            FROM runs r WHERE r.ended_at IS NOT NULL
        UNION ALL
        SELECT k.settled_at, k.handler_id, k.attempt, CASE WHEN k.removed THEN 'removed by an operator' ELSE 'settled' END
            FROM kept k
        UNION ALL
        SELECT DISTINCT (x.entry ->> 'at')::timestamptz, t.handler_id, (x.entry ->> 'attempt')::smallint,
                format('failed%s%s: %s', ' on ' || (x.entry ->> 'host'), ', version ' || (x.entry ->> 'version'), x.entry ->> 'error')
            FROM histories t CROSS JOIN LATERAL jsonb_array_elements(t.history) x (entry)
        UNION ALL
        SELECT d.died_at, d.handler_id, d.attempt, format('dead letter %s: %s', d.id, d.reason)
            FROM host.{q}__dead_letter d WHERE d.message_id = p_message
        UNION ALL
        SELECT c.cancelled_at, c.handler_id, NULL, format('cancelled by %s', c.cancelled_by)
            FROM host.cancellation c WHERE c.queue_id = {queue_id} AND c.message_id = p_message
        UNION ALL
        SELECT s.due, s.handler_id, s.attempt, 'due' FROM host.{q}__scheduled(p_message) s
    ) e
    LEFT JOIN host.handler h ON h.id = e.handler_id
    ORDER BY e.at, e.what <> 'enqueued', h.name
$$;

-- The next messages of a handler, without taking them; NULL: the oldest there are, whoever they are
-- for. In the order in which they are leased.
CREATE OR REPLACE FUNCTION host.{q}__peek(p_handler int, p_n int)
RETURNS TABLE (id bigint, enqueued_at timestamptz, run_at timestamptz, attempt smallint, headers jsonb, payload text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex
SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    part record;
    found_rows bigint := 0;
    n bigint;
BEGIN
    FOR part IN SELECT * FROM host.{q}__ahead(p_handler) LOOP
        RETURN QUERY
            SELECT coalesce(m.origin, m.id), m.enqueued_at, m.run_at, m.attempt, m.headers, m.payload::text
            FROM queue.{q} m
            WHERE {lanes?m.lane = part.lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b{ordered? AND m.id > part.after_id}
                AND coalesce(m.handler_id = p_handler, true)
            ORDER BY m.txid, m.id LIMIT p_n - found_rows;
        GET DIAGNOSTICS n = ROW_COUNT;
        found_rows := found_rows + n;
        EXIT WHEN found_rows >= p_n;
    END LOOP;
END $$;

-- The next messages of a handler on the schedule, without promoting them; NULL: of all handlers. A
-- retry has the error of its last attempt. In the order in which they are due.
CREATE OR REPLACE FUNCTION host.{q}__peek_scheduled(p_handler int, p_n int)
RETURNS TABLE (
    id bigint, enqueued_at timestamptz, due timestamptz, handler text, attempt smallint, error text, key text, headers jsonb, payload text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex
SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
    WITH c AS MATERIALIZED (SELECT p.* FROM host.{q}__promotion p ORDER BY p.id DESC LIMIT 1)
    SELECT x.origin, x.enqueued_at, x.due, h.name, x.attempt, x.history -> -1 ->> 'error', x.key, x.headers, x.payload::text
    FROM (
        (SELECT s.* FROM host.{q}__schedule s CROSS JOIN c
            WHERE (s.due, s.id) > (c.due, c.schedule_id) AND coalesce(s.handler_id = p_handler, true)
                AND {is_scheduled}
            ORDER BY s.due, s.id LIMIT p_n)
        UNION ALL
        -- Behind the cursor: only what came late, which the other index finds.
        (SELECT s.* FROM host.{q}__schedule s CROSS JOIN c
            WHERE s.txid >= least(txid_snapshot_xmin(c.hi), lower(c.late_txids)) AND (s.due, s.id) <= (c.due, c.schedule_id)
                AND coalesce(s.handler_id = p_handler, true) AND {is_scheduled}
            ORDER BY s.due, s.id LIMIT p_n)
    ) x LEFT JOIN host.handler h ON h.id = x.handler_id
    ORDER BY x.due, x.id LIMIT p_n
$$;

-- Has every handler that is still to run a message remove it instead: from now on at the lease, and
-- hosts that have it in hand are told. Returns how many handlers. Raises HQ006 when so many wait
-- for that as may.
CREATE OR REPLACE FUNCTION host.{q}__cancel(p_message bigint) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    n bigint;
BEGIN
    INSERT INTO host.cancellation (queue_id, handler_id, message_id)
        SELECT {queue_id}, w.handler_id, p_message FROM host.{q}__whereabouts(p_message) w
        WHERE w.state IN ('in flight', 'waiting', 'scheduled')
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        IF (SELECT count(*) FROM host.cancellation WHERE queue_id = {queue_id}) > 10000 THEN
            RAISE EXCEPTION '10000 cancelled messages of queue "{q}" have not been met by their handlers yet'
                USING HINT = 'wait until they have, or purge the queue', ERRCODE = 'HQ006';
        END IF;
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
    RETURN n;
END $$;

-- Forgets that a message was cancelled, for handlers that were done with it before they heard.
CREATE OR REPLACE FUNCTION host.{q}__forget_cancelled(p_message bigint) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    DELETE FROM host.cancellation c USING host.{q}__whereabouts(p_message) w
    WHERE c.handler_id = w.handler_id AND c.message_id = p_message
        AND w.state NOT IN ('in flight', 'waiting', 'scheduled')
$$;

-- Removes up to p_n messages that wait for a handler in a lane: leases them and settles them
-- without running any, in one transaction, so that whoever calls this can be killed at any instant.
-- Those that are not due yet go to the schedule. It keeps the handler's cursor locked while its
-- commit reaches the disk, which a host would not. `more`: call again. Alone in its transaction, as
-- lease. SECURITY DEFINER: an operator must not write into the logs by hand. Locks: as lease.
-- Tables: lease, settlement, schedule.
CREATE OR REPLACE FUNCTION host.{q}__purge(p_handler int, p_lane int, p_n int, OUT removed int, OUT parked int, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    l record;
    seq bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    token uuid := gen_random_uuid();
    every int4multirange;
    not_due int[];
BEGIN
    PERFORM host.require_read_committed('purging a queue');
    -- Session 0 is nobody's.
    SELECT * INTO l FROM host.{q}__lease(p_handler, 0, seq, token, p_n, 1::bigint << 60, p_lane);
    removed := 0;
    parked := 0;
    more := coalesce(l.more, false);
    IF l.lease_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    every := int4multirange(int4range(0, l.row_count));
    not_due := ARRAY(SELECT m.pos FROM host.{q}__read(0, seq) m
        WHERE m.run_at > clock_timestamp() AND coalesce(m.handler_id = p_handler, true));
    parked := cardinality(not_due);
    removed := l.row_count - parked;
    PERFORM host.{q}__settle(l.lease_id, 0, token, 0, every, p_park_pos => nullif(not_due, '{}'),
        p_removed => every - coalesce((SELECT range_agg(int4range(e, e + 1)) FROM unnest(not_due) e), '{}'));
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__purge FROM PUBLIC;
