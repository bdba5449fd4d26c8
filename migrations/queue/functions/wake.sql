-- Template: what wakes a sleeping host. triggers.sql has the trigger.

-- Wakes sleeping hosts, by NOTIFY host_wake with the queue's name. Only if a host has said that it
-- sleeps: NOTIFY serializes the commits of all producers. SECURITY DEFINER, because producers may
-- not read the flag. A statement trigger: nothing per row. pg_sequence_last_value is what the view
-- pg_sequences asks, and a query of the sequence would take twice as long.
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
