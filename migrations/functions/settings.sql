-- Changing the settings of a queue that exists; unique.sql, limits.sql and history.sql have more.
-- Tables touched: host.queue, and the queue's own. Locks: each says.

-- Changes settings of a queue; NULL leaves one as it is. Delays replace a backoff, and a backoff
-- replaces delays. Hosts follow at once, with messages that wait as well. Raises HQ004 when there
-- is no such queue, and HQ005 where the largest payload is to shrink while the queue has messages:
-- one of them could be retried no more. Locks: the queue's row; with p_payload_bytes_max, ACCESS
-- EXCLUSIVE on the queue's table, for which it waits at most 1 s. SECURITY DEFINER: only the owner
-- of a table changes its constraints.
CREATE OR REPLACE FUNCTION host.set_queue(
    p_queue text,
    p_max_attempts int DEFAULT NULL,
    p_backoff_base_ms bigint DEFAULT NULL,
    p_backoff_cap_ms bigint DEFAULT NULL,
    p_delays_ms bigint[] DEFAULT NULL,
    p_payload_bytes_max bigint DEFAULT NULL,
    p_rotate_bytes bigint DEFAULT NULL,
    p_rotate_age_ms bigint DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' AS $$
DECLARE
    before host.queue;
    q host.queue;
    remaining text;
BEGIN
    PERFORM host.require_read_committed('changing a queue');
    SELECT * INTO before FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    IF p_delays_ms IS NOT NULL AND num_nonnulls(p_backoff_base_ms, p_backoff_cap_ms) > 0 THEN
        RAISE EXCEPTION 'queue "%" waits by delays or by a backoff, not by both', p_queue
            USING ERRCODE = '22023', HINT = 'give p_delays_ms, or p_backoff_base_ms and p_backoff_cap_ms';
    END IF;
    UPDATE host.queue x SET
        max_attempts = coalesce(p_max_attempts, x.max_attempts),
        backoff_base_ms = coalesce(p_backoff_base_ms, x.backoff_base_ms),
        backoff_cap_ms = coalesce(p_backoff_cap_ms, x.backoff_cap_ms),
        delays_ms = CASE WHEN num_nonnulls(p_backoff_base_ms, p_backoff_cap_ms) = 0 THEN coalesce(p_delays_ms, x.delays_ms) END,
        payload_bytes_max = coalesce(p_payload_bytes_max, x.payload_bytes_max),
        rotate_bytes = coalesce(p_rotate_bytes, x.rotate_bytes),
        rotate_age_ms = coalesce(p_rotate_age_ms, x.rotate_age_ms)
        WHERE x.id = before.id RETURNING * INTO q;
    IF q.payload_bytes_max = before.payload_bytes_max THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE queue.%I IN ACCESS EXCLUSIVE MODE', p_queue);
    IF q.payload_bytes_max < before.payload_bytes_max THEN
        SELECT concat_ws(', ', nullif(s.waiting, 0) || ' waiting', nullif(s.in_flight, 0) || ' in flight',
                nullif(s.scheduled, 0) || ' scheduled', nullif(s.dead, 0) || ' dead')
            INTO remaining FROM host.queue_status(p_queue) s;
        IF remaining <> '' THEN
            RAISE EXCEPTION 'the largest payload of queue "%" cannot shrink from % to % bytes while it has messages: %',
                    p_queue, before.payload_bytes_max, q.payload_bytes_max, remaining
                USING ERRCODE = 'HQ005', HINT = 'a larger one of them could not be retried: lower the limit when the queue is empty';
        END IF;
    END IF;
    -- NOT VALID: nothing is scanned under the lock. What is there fulfils it.
    EXECUTE format('ALTER TABLE queue.%I DROP CONSTRAINT payload_is_at_most_%s_bytes, ADD CONSTRAINT payload_is_at_most_%s_bytes CHECK (%s) NOT VALID',
        p_queue, before.payload_bytes_max, q.payload_bytes_max, host.payload_check(q));
    PERFORM host.apply_queue_functions(p_queue);
END $$;
REVOKE EXECUTE ON FUNCTION host.set_queue FROM PUBLIC;

-- Whether an INSERT on a queue may wake a sleeping host, by NOTIFY. A transaction that did so
-- cannot be prepared. Raises HQ004 when there is no such queue. Locks: SHARE ROW EXCLUSIVE on the
-- queue's table, so that no INSERT is half of each; waits for producers at most 1 s, and before it
-- locks anything that others wait for. SECURITY DEFINER: only the owner of a table switches its
-- triggers.
CREATE OR REPLACE FUNCTION host.set_wake_up(p_queue text, p_wake_up boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    PERFORM FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    EXECUTE format('ALTER TABLE queue.%I %s TRIGGER wake', p_queue, CASE WHEN p_wake_up THEN 'ENABLE' ELSE 'DISABLE' END);
    UPDATE host.queue SET wake_up = p_wake_up WHERE name = p_queue;
END $$;
REVOKE EXECUTE ON FUNCTION host.set_wake_up FROM PUBLIC;
