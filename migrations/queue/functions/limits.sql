-- Template: limits (`host queue set --fleet-concurrency, --rate`). They are for each handler, or
-- for each lane of a queue that was made with --per-key. No counter goes up or down. The newest row
-- of the lease log, of that lane, has it all; whoever appends the next row holds the handler's lock
-- anyway. Its columns:
--     held   the leases before it that were open.
--     tat    when the rate's bucket will be full again: the theoretical arrival time of GCRA, the
--            generic cell rate algorithm. A message moves it one step into the future, and may
--            start if it stays within the burst.

-- How many messages of a handler may start now. If none may, `wait_ms` is when to ask again,
-- `full_up` says whether to ask as soon as some are settled, and `why` says it in words. The lane
-- matters only where each has its own limits. `tat` and `held` are for the next row; each message
-- that starts moves tat by `step` microseconds. All are NULL on a queue without limits. Reads only.
-- A decision needs the handler's lock.
CREATE OR REPLACE FUNCTION host.{q}__allowance(
    p_handler int, p_lane int DEFAULT 0, OUT messages int, OUT wait_ms bigint, OUT full_up boolean, OUT why text,
    OUT tat timestamptz, OUT held bigint[], OUT step float8
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    q record;
    c record;
    in_flight bigint;
    -- Until the bucket is full again, in microseconds.
    ahead float8;
BEGIN
    IF NOT {limited} THEN
        RETURN;
    END IF;
    SELECT x.* INTO STRICT q FROM host.queue x WHERE x.id = {queue_id};
    SELECT l.id, l.row_count, l.tat, l.held INTO c FROM host.{q}__lease l
        WHERE {priorities?l.id = (SELECT max(x.id) FROM host.{q}__cursors(p_handler) x)}{no_priorities?l.handler_id = p_handler AND l.is_cursor}{keyed? AND l.lane = p_lane}
        ORDER BY l.id DESC LIMIT 1;
    messages := 2147483647;
    full_up := false;

    IF q.fleet_concurrency IS NOT NULL THEN
        -- As noted, and the newest itself; or, where the limit is new, all there are.
        held := CASE WHEN c.held IS NOT NULL THEN c.held || c.id ELSE ARRAY(SELECT l.id FROM host.{q}__lease l
            WHERE l.handler_id = p_handler {keyed?AND l.lane = p_lane }AND l.row_count > 0
                -- A probe for each: see strays.
                AND {rest_of_lease} IS DISTINCT FROM 0) END;
        -- What was taken over goes on as its heirs: the lease of who took it, and what that one
        -- left. LIMIT 1, of what is one: so that each is probed for. A join would read the whole
        -- log.
        WITH RECURSIVE chain AS (
            SELECT unnest(held) AS id
            UNION
            SELECT h.id FROM chain
                CROSS JOIN LATERAL (SELECT s.heir_session, s.heir_seq FROM host.{q}__settlement s
                    WHERE s.lease_id = chain.id AND s.revoked LIMIT 1) s
                CROSS JOIN LATERAL (SELECT l.id, l.session_id FROM host.{q}__lease l WHERE l.id = chain.id LIMIT 1) l
                CROSS JOIN LATERAL (
                    SELECT x.id FROM host.{q}__lease x WHERE x.session_id = s.heir_session AND x.seq = s.heir_seq
                    UNION ALL
                    SELECT x.id FROM host.{q}__lease x WHERE x.session_id = l.session_id AND x.seq = -l.id
                ) h
        )
        SELECT coalesce(array_agg(chain.id), '{}'), coalesce(sum(r.rest), 0) INTO held, in_flight
            FROM chain CROSS JOIN LATERAL (
                SELECT coalesce(
                    {rest_of_lease},
                    host.positions(l.positions), l.row_count) AS rest
                FROM host.{q}__lease l WHERE l.id = chain.id LIMIT 1) r
            WHERE r.rest > 0;
        messages := greatest(0, q.fleet_concurrency - in_flight);
        IF messages = 0 THEN
            full_up := true;
            wait_ms := 50;
            why := format('%s of %s in flight', in_flight, q.fleet_concurrency);
        END IF;
    END IF;

    IF q.rate_count IS NOT NULL THEN
        step := 1000.0 * q.rate_ms / q.rate_count;
        tat := coalesce(c.tat, clock_timestamp());
        -- Further ahead than a whole bucket: the clock has gone back, or the rate has changed. One
        -- may start, and sets it right.
        IF tat > clock_timestamp() + (q.rate_burst * step + 1000) * interval '1 microsecond' THEN
            tat := clock_timestamp() + (q.rate_burst - 1) * step * interval '1 microsecond';
        END IF;
        ahead := greatest(0, 1000000 * extract(epoch FROM tat - clock_timestamp())::float8);
        messages := least(messages, greatest(0, q.rate_burst - ceil(ahead / step)));
        IF messages = 0 AND NOT full_up THEN
            -- For what comes in 20 ms at once: a look costs the same for one as for many. But half
            -- a bucket is left to who comes late.
            wait_ms := ceil((ahead - (q.rate_burst - greatest(1, least(q.rate_burst / 2, floor(20000 / step)))) * step) / 1000);
            why := format('%s every %s, the next in %s ms', q.rate_count, q.rate_ms * interval '1 ms', wait_ms);
        END IF;
    END IF;
END $$;

-- How many of the first p_count messages after (p_txid, p_id) of a window a handler is to run now.
-- What is another's, comes too late or is only to be parked does not count against a rate.
CREATE OR REPLACE FUNCTION host.{q}__starts(
    p_handler int, p_window int8multirange, p_txid bigint, p_id bigint, p_count int, p_lane int
) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    part record;
    cut record;
    done int := 0;
    starts bigint := 0;
BEGIN
    FOR part IN SELECT * FROM host.parts_after(p_window, p_txid, p_id) LOOP
        EXIT WHEN done >= p_count;
        SELECT count(*) AS n, count(*) FILTER (WHERE coalesce(m.handler_id = p_handler, true)
                AND coalesce(m.run_at <= clock_timestamp(), true) AND coalesce(m.expires_at > clock_timestamp(), true)) AS starts
            INTO cut
            FROM (SELECT m.handler_id, m.run_at, m.expires_at FROM queue.{q} m
                WHERE {lanes?m.lane = p_lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                ORDER BY m.txid, m.id LIMIT p_count - done) m;
        done := done + cut.n;
        starts := starts + cut.starts;
    END LOOP;
    RETURN starts;
END $$;
