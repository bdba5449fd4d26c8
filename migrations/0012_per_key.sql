-- Purpose: limits for each key: a queue may be made with lanes by hash of the key that keep no order, each with limits of
--   its own. queue/migrations and queue/drops have the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.queue; nothing is rewritten or scanned. Tables: host.queue.

ALTER TABLE host.queue
    -- NULL: limits are of all messages together.
    ADD COLUMN keyed_lanes int
        CONSTRAINT keyed_lanes_are_a_power_of_two CHECK (keyed_lanes IN (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
    ADD CONSTRAINT a_queue_has_one_kind_of_lanes
        CHECK (keyed_lanes IS NULL OR NOT priorities AND ordered_lanes IS NULL);

-- Its arguments change.
DROP FUNCTION IF EXISTS host.create_queue(
    text, text, bigint, int, bigint, bigint, bigint, bigint, boolean, bigint[], bigint, boolean, int);
