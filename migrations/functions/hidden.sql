-- Messages that are not to be seen, or do not come through: nobody may go on as if there were none.
-- Tables touched: the catalog's. Locks: none.

-- Whether all partitions of a table are attached. Looked at when the table has been read in the
-- same transaction, which nothing is detached from until it ends: then nothing was hidden from it
-- in this way.
CREATE OR REPLACE FUNCTION host.is_whole(p_table regclass, p_partitions int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT count(*) = p_partitions FROM pg_inherits i WHERE i.inhparent = p_table AND NOT i.inhdetachpending);
END $$;

-- The partitions of a queue that are not attached to it, with what attaches them again.
CREATE OR REPLACE FUNCTION host.detached(p_queue text) RETURNS TABLE (partition text, remedy text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('host.%I', c.relname), format('ALTER TABLE %s ATTACH PARTITION host.%I FOR VALUES IN (%s)',
        CASE x.log WHEN 'message' THEN format('queue.%I', p_queue) ELSE format('host.%I', p_queue || '__' || x.log) END,
        c.relname, x.leaf)
    FROM pg_class c
    CROSS JOIN LATERAL (SELECT m[1] AS log, m[2] AS leaf
        FROM regexp_match(substr(c.relname, length(p_queue) + 3), '^(message|lease|settlement|promotion|schedule|history)_([0-9]+)$') m) x
    WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r'
        AND c.relname >= p_queue || '__' AND c.relname < p_queue || '_`' AND x.log IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending)
    ORDER BY c.relname
$$;

-- Refuses to go on where fewer rows were written than there are messages: a trigger or a rule has
-- left some out.
CREATE OR REPLACE FUNCTION host.require_kept(p_rows bigint, p_messages bigint, p_table text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_rows <> p_messages THEN
        RAISE EXCEPTION '% of % messages were not written to %: something leaves them out', p_messages - p_rows, p_messages, p_table
            USING ERRCODE = 'HQ012', HINT = format('drop the trigger or rule on %s; until then the messages wait', p_table);
    END IF;
END $$;
