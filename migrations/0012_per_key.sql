-- Purpose: limits for each key: a queue may be made with lanes by hash of the key that keep no order, each with limits of
--   its own.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones: they take a key
--   only if they keep an order.
-- Locks: ACCESS EXCLUSIVE on host.queue and on the messages of queues that take no key, for at most 5 s of waiting; nothing
--   is rewritten or scanned. Tables: host.queue, and each queue's messages.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.queue
    -- NULL: limits are of all messages together.
    ADD COLUMN keyed_lanes int
        CONSTRAINT keyed_lanes_are_a_power_of_two CHECK (keyed_lanes IN (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
    ADD CONSTRAINT a_queue_has_one_kind_of_lanes
        CHECK (keyed_lanes IS NULL OR NOT priorities AND ordered_lanes IS NULL);

-- Their arguments or results change.
DROP FUNCTION IF EXISTS host.create_queue(
    text, text, bigint, int, bigint, bigint, bigint, bigint, boolean, bigint[], bigint, boolean, int);
DO $$
DECLARE
    q record;
BEGIN
    FOR q IN SELECT name, ordered_lanes FROM host.queue ORDER BY name LOOP
        IF q.ordered_lanes IS NULL THEN
            EXECUTE format('ALTER TABLE queue.%I RENAME CONSTRAINT queue_keeps_no_order TO queue_takes_no_key', q.name);
        END IF;
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int)', q.name || '__cursors');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int)', q.name || '__allowance');
    END LOOP;
END $$;
