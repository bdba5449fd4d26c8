-- Limits of a queue. Tables touched: host.queue, and what applying a queue's functions does. Locks:
-- the queue's row.

-- Sets all limits of a queue at once; NULL: none. From its commit on each lease keeps to them.
-- SECURITY DEFINER: only an owner replaces functions.
CREATE OR REPLACE FUNCTION host.set_limits(
    p_queue text, p_fleet_concurrency int, p_rate_count int, p_rate_ms bigint, p_rate_burst int
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    before host.queue;
BEGIN
    SELECT * INTO before FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    IF before.ordered_lanes IS NOT NULL THEN
        RAISE EXCEPTION 'queue "%" keeps an order, and such a queue takes no limits yet: make one without --ordered for it (with --per-key, it has limits for each key)', p_queue;
    END IF;
    UPDATE host.queue SET fleet_concurrency = p_fleet_concurrency, rate_count = p_rate_count, rate_ms = p_rate_ms,
            rate_burst = p_rate_burst
        WHERE name = p_queue;
    IF host.is_limited(before) <> (SELECT host.is_limited(q) FROM host.queue q WHERE q.name = p_queue) THEN
        PERFORM host.apply_queue_functions(p_queue);
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION host.set_limits FROM PUBLIC;

-- Whether a queue has any limit: the functions of one that has none do not look.
CREATE OR REPLACE FUNCTION host.is_limited(q host.queue) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.fleet_concurrency IS NOT NULL OR q.rate_count IS NOT NULL
$$;
