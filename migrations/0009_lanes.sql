-- Purpose: lanes: strands of a queue, each with a cursor of its own. A queue that has asked for priorities has three;
--   one that keeps an order, as many as it has asked for, by hash of the key. queue/migrations and queue/drops
--   have the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.queue; nothing is rewritten or scanned. Tables: host.queue.

ALTER TABLE host.queue
    ADD COLUMN priorities boolean NOT NULL DEFAULT false,
    -- NULL: no order is kept.
    ADD COLUMN ordered_lanes int
        CONSTRAINT ordered_lanes_are_a_power_of_two CHECK (ordered_lanes IN (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
    ADD CONSTRAINT priorities_and_order_exclude_each_other CHECK (NOT priorities OR ordered_lanes IS NULL);

-- Its arguments change.
DROP FUNCTION IF EXISTS host.create_queue(text, text, bigint, int, bigint, bigint, bigint, bigint, boolean, bigint[], bigint);
