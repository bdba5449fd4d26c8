-- How long queues keep settled messages. Tables touched: host.queue, and a queue's history.

-- The leaf of a history for what is settled `at`: each takes its turn for a sixth of `keep_ms`, so
-- that the next turn of a leaf comes five sixths of that after all in it may go.
CREATE OR REPLACE FUNCTION host.history_slot(at timestamptz, keep_ms bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE
RETURN (extract(epoch FROM at)::bigint / greatest(1, keep_ms / 6000) % 12)::smallint;

-- Has a queue keep what is settled from now on, for so many milliseconds at least; NULL: it keeps
-- nothing any more, and what it has kept goes. Raises HQ004 when there is no such queue. SECURITY
-- DEFINER: all tables have one owner.
CREATE OR REPLACE FUNCTION host.set_keep(p_queue text, p_keep_ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    q host.queue;
BEGIN
    UPDATE host.queue SET keep_ms = p_keep_ms WHERE name = p_queue RETURNING * INTO q;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    -- Once there, it stays: who settles does not wait to see whether it is still wanted.
    IF p_keep_ms IS NOT NULL AND to_regclass(format('host.%I', p_queue || '__history')) IS NULL THEN
        EXECUTE host.render('history.sql', q);
        PERFORM host.grant_privileges(p_queue);
        PERFORM host.put_comments(p_queue);
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION host.set_keep FROM PUBLIC;
