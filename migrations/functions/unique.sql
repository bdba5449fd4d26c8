-- Unique keys: what a queue promises of them. Tables touched: host.queue, host.handler; what else,
-- each says.

-- Whether a message is settled, of a key that was taken at p_taken_at: its handlers are those that
-- were there then. A later one does not keep a key, unless it is the first that there is.
CREATE OR REPLACE FUNCTION host.is_settled(p_queue int, p_taken_at timestamptz, p_settled_by int[]) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN p_settled_by <> '{}' AND NOT EXISTS (SELECT FROM host.handler h
        -- One of the future was there before the clock was set back.
        WHERE h.queue_id = p_queue AND (h.created_at <= p_taken_at OR h.created_at > clock_timestamp())
            AND h.id <> ALL (p_settled_by));
END $$;

-- Notes that a handler is done with whatever holds a key. Locks: the rows of the queue's register
-- that it changes.
CREATE OR REPLACE FUNCTION host.release_all_keys(p_queue text, p_handler int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('SELECT host.%I($1, ARRAY(SELECT message_id FROM host.%I))', p_queue || '__release_keys', p_queue || '__unique')
        USING p_handler;
END $$;

-- Has a queue take a unique_key (p_unique_ms: for how long at least), or take none any more (NULL),
-- which forgets all keys. Locks: ACCESS EXCLUSIVE on the queue's table when that changes, so that
-- no INSERT is half of each; waits for producers at most 1 s, and before it locks anything that
-- others wait for. SECURITY DEFINER: only the owner of a table makes its triggers.
CREATE OR REPLACE FUNCTION host.set_unique(p_queue text, p_unique_ms bigint, p_on_duplicate text DEFAULT 'drop') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    before bigint;
    turned boolean;
BEGIN
    SELECT unique_ms INTO before FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    turned := (before IS NULL) <> (p_unique_ms IS NULL);
    IF turned THEN
        EXECUTE format('LOCK TABLE queue.%I IN ACCESS EXCLUSIVE MODE', p_queue);
    END IF;
    UPDATE host.queue SET unique_ms = p_unique_ms, on_duplicate = p_on_duplicate WHERE name = p_queue;
    IF turned THEN
        PERFORM host.apply_queue_functions(p_queue);
        EXECUTE format('TRUNCATE host.%I', p_queue || '__unique');
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION host.set_unique FROM PUBLIC;
