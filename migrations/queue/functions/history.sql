-- Template: the history of a queue that keeps what is settled. The others have no such table, so
-- each function here is of a language that looks for it only when it gets there.

-- Writes down which messages a settlement has done with for good. Called by it, in its transaction,
-- so that a message is in the history if it is settled, and once. `p_later`: settled positions that
-- are retried, parked or dead letters.
-- Locks: none beyond the rows it writes. Tables: lease, message, history.
CREATE OR REPLACE FUNCTION host.{q}__archive(
    p_lease bigint, p_settled int4multirange, p_settled_at timestamptz, p_later int[], p_removed int4multirange,
    p_result_pos int[], p_results bytea[]
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    INSERT INTO host.{q}__history (message_id, lease_id, enqueued_at, leased_at, settled_at, handler_id, session_id, slot,
            attempt, removed, handler, headers, history, result, payload)
        SELECT m.id, l.id, m.enqueued_at, l.leased_at, p_settled_at, l.handler_id, l.session_id,
            host.history_slot(p_settled_at, q.keep_ms), m.attempt, coalesce(p_removed @> m.pos, false),
            coalesce(h.name, ''), m.headers, m.history, r.result, m.payload
        FROM host.{q}__lease l
        JOIN host.queue q ON q.id = {queue_id} AND q.keep_ms IS NOT NULL
        LEFT JOIN host.handler h ON h.id = l.handler_id
        CROSS JOIN LATERAL host.{q}__read(l.session_id, l.seq) m
        LEFT JOIN unnest(p_result_pos, p_results) r (pos, result) ON r.pos = m.pos
        -- Another handler's retry only lay beside them.
        WHERE l.id = p_lease AND coalesce(m.handler_id, l.handler_id) = l.handler_id
            AND p_settled - coalesce((SELECT range_agg(int4range(pos, pos + 1)) FROM unnest(p_later) pos), '{}') @> m.pos
        ORDER BY m.pos;
END $$;

-- What the history has of a message: a row for each handler and lease that is done with it. The
-- payload as text.
CREATE OR REPLACE FUNCTION host.{q}__kept(p_message bigint)
RETURNS TABLE (
    handler_id int, handler text, attempt smallint, lease_id bigint, session_id int, enqueued_at timestamptz,
    leased_at timestamptz, settled_at timestamptz, removed boolean, headers jsonb, history jsonb, payload text, result bytea
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex SET jit = off SET enable_seqscan = off AS $$
BEGIN
    IF to_regclass('host.{q}__history') IS NOT NULL THEN
        RETURN QUERY
            SELECT k.handler_id, k.handler, k.attempt, k.lease_id, k.session_id, k.enqueued_at, k.leased_at, k.settled_at,
                k.removed, k.headers, k.history, k.payload::text, k.result
            FROM host.{q}__history k WHERE k.message_id = p_message;
    END IF;
END $$;

-- The messages of the history, of one handler or (NULL) of all, the last settled first.
CREATE OR REPLACE FUNCTION host.{q}__settled(p_handler int, p_n int)
RETURNS TABLE (
    id bigint, handler text, attempt smallint, enqueued_at timestamptz, settled_at timestamptz, removed boolean,
    headers jsonb, payload text, result bytea
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex SET jit = off SET enable_seqscan = off SET enable_sort = off AS $$
BEGIN
    IF to_regclass('host.{q}__history') IS NOT NULL THEN
        RETURN QUERY
            SELECT k.message_id, k.handler, k.attempt, k.enqueued_at, k.settled_at, k.removed, k.headers, k.payload::text,
                k.result
            FROM host.{q}__history k WHERE coalesce(k.handler_id = p_handler, true)
            ORDER BY k.settled_at DESC LIMIT p_n;
    END IF;
END $$;

-- Truncates the leaves of the history in which all is older than the queue keeps it. Returns how
-- many. Rows go by their own age, whatever leaf they are in: the time for which messages are kept
-- may change.
-- Locks: ACCESS EXCLUSIVE on each such leaf, at most 20 ms. SECURITY DEFINER, as truncate. Tables:
-- history.
CREATE OR REPLACE FUNCTION host.{q}__truncate_history() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '20ms'
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    truncated int := 0;
    oldest timestamptz;
    leaf text;
    is_needed boolean;
BEGIN
    PERFORM host.require_read_committed('truncating the history');
    IF to_regclass('host.{q}__history') IS NULL THEN
        RETURN 0;
    END IF;
    SELECT clock_timestamp() - coalesce(keep_ms, 0) * interval '1 ms' INTO STRICT oldest FROM host.queue WHERE id = {queue_id};
    FOR slot IN 0..11 LOOP
        leaf := format('host.{q}__history_%s', slot);
        CONTINUE WHEN pg_relation_size(leaf::regclass) = 0;
        -- First without a lock, which who settles might wait for.
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE settled_at >= $1)', leaf) INTO is_needed USING oldest;
        CONTINUE WHEN is_needed;
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', leaf);
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE settled_at >= $1)', leaf) INTO is_needed USING oldest;
            IF NOT is_needed THEN
                EXECUTE format('TRUNCATE %s', leaf);
                truncated := truncated + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- Somebody reads it: next time.
        END;
    END LOOP;
    RETURN truncated;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__truncate_history FROM PUBLIC;
