-- Template, only for queues with limits for each key: the lease that takes from many lanes. Each
-- lane is leased from like the only lane of a plain queue, and has its own limits. So no lane waits
-- for another's.

-- Leases from up to p_lanes lanes that have messages which may start. It begins with p_first and
-- goes round. Each lane gets a lease; together they have up to p_n messages and p_bytes, shared out
-- evenly. Returns one row for each lease, with a seq from p_seq on, less than p_seq + p_lanes. A
-- last row has no lease: `more` says whether further messages may start, `wait_ms` when the next
-- one may that waits for its limits, and `full_up` whether some may as soon as others are settled.
-- The arguments are those of its namesake in queue/ordered; p_deaths_max is unused here.
--
-- It begins with no xid and inserts nothing but leases. So a window that is cut after the first
-- lease lacks none of its own rows. It looks at the cursor of every lane, and probes two indexes
-- for messages beyond. Hundreds of lanes may have met their limits, and that must not cost much. So
-- the statement that finds lanes with messages also counts what is in flight in them. It leaves out
-- lanes whose count takes more than a look at each of their open leases (see allowance). Locks,
-- tables: as lease.
CREATE OR REPLACE FUNCTION host.{q}__lease_lanes(
    p_handler int, p_session int, p_seq bigint, p_token uuid, p_n int, p_bytes bigint, p_first int, p_lanes int,
    p_deaths_max int
)
RETURNS TABLE (lease_id bigint, row_count int, more boolean, wait_ms bigint, full_up boolean, lane int, seq bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    present txid_snapshot;
    done int8multirange;
    q record;
    its record;
    ahead float8;
    leased record;
    ready int[] := '{}';
    -- Lanes that are at their limits: one that is full up, and the one whose rate lets a message
    -- start first.
    full_lane int;
    next_lane int;
    next_tat timestamptz;
    any_more boolean := false;
    waits record;
BEGIN
    -- What may start is not another host's before this has taken it.
    PERFORM pg_advisory_xact_lock({cursor_lock}, p_handler);
    SELECT x.fleet_concurrency, x.rate_burst, 1000.0 * x.rate_ms / x.rate_count AS step INTO STRICT q
        FROM host.queue x WHERE x.id = {queue_id};
    {look_at_present}
    FOR its IN
        SELECT n.lane, c.tat, CASE WHEN {limited} AND c.held IS NOT NULL THEN (
                SELECT CASE WHEN NOT bool_or(t.revoked IS TRUE)
                    THEN sum(coalesce(t.rest, host.positions(l.positions), l.row_count)) END
                FROM unnest(c.held || c.id) x
                CROSS JOIN LATERAL (SELECT l.positions, l.row_count FROM host.{q}__lease l
                    WHERE l.id = x AND l.id / {generation_size} % 3 = x / {generation_size} % 3 LIMIT 1) l
                LEFT JOIN LATERAL (SELECT t.rest, t.revoked FROM host.{q}__settlement t
                    WHERE t.lease_id = x AND t.lease_id / {generation_size} % 3 = x / {generation_size} % 3
                    ORDER BY t.seq DESC LIMIT 1) t ON true
            ) END AS in_flight
        FROM (SELECT (p_first + i) % {lanes} AS lane FROM generate_series(0, {lanes} - 1) i) n
        CROSS JOIN LATERAL (
            SELECT l.id, l.hi, l.more, l.tat, l.held FROM host.{q}__lease l
            WHERE l.handler_id = p_handler AND l.lane = n.lane AND l.is_cursor ORDER BY l.id DESC LIMIT 1
        ) c
        WHERE c.more
            OR {lane_has_messages}
    LOOP
        IF q.fleet_concurrency IS NOT NULL AND its.in_flight IS NULL THEN
            SELECT q.fleet_concurrency - a.messages INTO its.in_flight FROM host.{q}__allowance(p_handler, its.lane) a;
        END IF;
        IF its.in_flight >= q.fleet_concurrency THEN
            full_lane := its.lane;
            CONTINUE;
        END IF;
        -- As in allowance.
        ahead := 1000000 * extract(epoch FROM its.tat - clock_timestamp())::float8;
        IF ahead > (q.rate_burst - 1) * q.step AND ahead <= q.rate_burst * q.step + 1000 THEN
            IF next_tat IS NULL OR its.tat < next_tat THEN
                next_tat := its.tat;
                next_lane := its.lane;
            END IF;
            CONTINUE;
        END IF;
        any_more := cardinality(ready) = p_lanes;
        EXIT WHEN any_more;
        ready := ready || its.lane;
    END LOOP;

    FOR nth IN 1 .. cardinality(ready) LOOP
        IF p_bytes <= 0 THEN
            any_more := true;
            EXIT;
        END IF;
        -- One that turns out to have no messages left may take its seq all the same, for a row that
        -- only moves the cursor.
        SELECT * INTO leased FROM host.{q}__lease(p_handler, p_session, p_seq + nth - 1, p_token,
            greatest(1, p_n / (cardinality(ready) - nth + 1)), p_bytes, ready[nth], nth > 1);
        CONTINUE WHEN leased.lease_id IS NULL;
        p_n := p_n - leased.row_count;
        p_bytes := p_bytes - leased.bytes;
        any_more := any_more OR leased.more;
        RETURN QUERY SELECT leased.lease_id, leased.row_count, leased.more, NULL::bigint, NULL::boolean, ready[nth],
            p_seq + nth - 1;
    END LOOP;
    SELECT min(coalesce(a.wait_ms, 1)) AS ms, bool_or(a.full_up) AS full_up INTO waits
        FROM unnest(ARRAY[full_lane, next_lane]) x CROSS JOIN LATERAL host.{q}__allowance(p_handler, x) a WHERE x IS NOT NULL;
    RETURN QUERY SELECT NULL::bigint, NULL::int, any_more, waits.ms, coalesce(waits.full_up, false), NULL::int, NULL::bigint;
END $$;

-- How many lanes have messages that wait for their limits, in words; NULL: none has.
CREATE OR REPLACE FUNCTION host.{q}__limited_lanes(p_handler int, OUT why text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
    SELECT CASE WHEN count(*) > 0 THEN format('%s of {lanes} lanes wait', count(*)) END
    FROM (
        SELECT DISTINCT p.lane FROM host.{q}__ahead(p_handler) p
        CROSS JOIN LATERAL (SELECT FROM queue.{q} m
            WHERE m.lane = p.lane AND (m.txid, m.id) > (p.a_txid, p.a_id) AND m.txid < p.b LIMIT 1) m
    ) waiting
    WHERE {limited} AND (SELECT a.messages = 0 FROM host.{q}__allowance(p_handler, waiting.lane) a)
$$;
