-- Purpose: lanes: strands of a queue, each with a cursor of its own. A queue that has asked for priorities has three;
--   one that keeps an order, as many as it has asked for, by hash of the key.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones: they have one
--   lane, 0, and refuse a priority or a key.
-- Locks: ACCESS EXCLUSIVE on host.queue and on each queue's messages, schedule, dead letters and leases, for at most
--   5 s of waiting; nothing is rewritten or scanned. Tables: host.queue, and each queue's own.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.queue
    ADD COLUMN priorities boolean NOT NULL DEFAULT false,
    -- NULL: no order is kept.
    ADD COLUMN ordered_lanes int
        CONSTRAINT ordered_lanes_are_a_power_of_two CHECK (ordered_lanes IN (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
    ADD CONSTRAINT priorities_and_order_exclude_each_other CHECK (NOT priorities OR ordered_lanes IS NULL);

-- Their arguments and results change.
DROP FUNCTION IF EXISTS host.create_queue(text, text, bigint, int, bigint, bigint, bigint, bigint, boolean, bigint[], bigint);
DO $$
DECLARE
    q text;
    role text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        -- The schedule first, as promote and settle have it. NOT VALID: rows that are there have none to check.
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN priority smallint, ADD COLUMN key text', q || '__schedule');
        EXECUTE format('ALTER TABLE queue.%I ADD COLUMN priority smallint, ADD COLUMN key text,'
            ' ADD CONSTRAINT queue_has_no_priorities CHECK (priority IS NULL) NOT VALID,'
            ' ADD CONSTRAINT queue_keeps_no_order CHECK (key IS NULL) NOT VALID', q);
        -- To whom `host queue grant` has given the other columns.
        FOR role IN
            SELECT pg_get_userbyid(g.grantee) FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) g
            WHERE a.attrelid = format('queue.%I', q)::regclass AND a.attname = 'expires_at'
                AND g.privilege_type = 'INSERT' AND g.grantee <> 0
        LOOP
            EXECUTE format('GRANT INSERT (priority, key) ON queue.%I TO %I', q, role);
        END LOOP;
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN priority smallint, ADD COLUMN key text', q || '__dead_letter');
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN lane smallint NOT NULL DEFAULT 0, ADD COLUMN last_id bigint,'
            ' ADD COLUMN due timestamptz, ADD COLUMN attempt smallint, ADD COLUMN history jsonb', q || '__lease');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, int, bigint, uuid, int, bigint)', q || '__lease');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, bigint)', q || '__read');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(bigint)', q || '__runs');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, int)', q || '__purge');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(bigint, int, bigint, uuid, int, int)', q || '__take_over');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, txid_snapshot, int8multirange, boolean, bigint, bigint)', q || '__beyond_cursor');
    END LOOP;
END $$;
