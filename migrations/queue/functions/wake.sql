-- Template: the triggers of a queue's table.

-- Wakes sleeping hosts, by NOTIFY host_wake with the queue's name. Only if a host has said that it
-- sleeps: NOTIFY serializes the commits of all producers. SECURITY DEFINER, because producers may
-- not read the flag. A statement trigger: nothing per row. pg_sequence_last_value is what the view pg_sequences asks,
-- and a query of the sequence would take twice as long.
CREATE OR REPLACE FUNCTION host.{q}__wake() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_sequence_last_value('host.{q}__asleep'::regclass) = 1 THEN
        PERFORM pg_notify('host_wake', '{q}');
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__wake() FROM PUBLIC;
CREATE OR REPLACE TRIGGER wake AFTER INSERT ON queue.{q}
    FOR EACH STATEMENT EXECUTE FUNCTION host.{q}__wake();
DO $$
BEGIN
    IF NOT (SELECT wake_up FROM host.queue WHERE id = {queue_id}) THEN
        ALTER TABLE queue.{q} DISABLE TRIGGER wake;
    END IF;
END $$;
-- ALWAYS: for logical replication as well, and for who sets session_replication_role. A leaf itself is truncated by
-- rotation, and by nobody else.
CREATE OR REPLACE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON queue.{q}
    FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change();
ALTER TABLE queue.{q} ENABLE ALWAYS TRIGGER refuse_change;
-- A statement on a partition fires no trigger of its table's.
DO $$
BEGIN
    FOR leaf IN 0..2 LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON host.{q}__message_%s'
            ' FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change()', leaf);
        EXECUTE format('ALTER TABLE host.{q}__message_%s ENABLE ALWAYS TRIGGER refuse_change', leaf);
    END LOOP;
END $$;
