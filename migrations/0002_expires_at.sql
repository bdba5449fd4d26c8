-- Purpose: lists of delays between attempts. Deadlines of messages: queue/migrations has the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.queue; nothing is rewritten or scanned. Tables: host.queue.

-- Waits between attempts, in milliseconds; the last repeats. NULL: exponential backoff.
ALTER TABLE host.queue ADD COLUMN delays_ms bigint[]
    CONSTRAINT delays_are_one_to_a_hundred
    CHECK (cardinality(delays_ms) BETWEEN 1 AND 100 AND array_position(delays_ms, NULL) IS NULL);

-- Its arguments change.
DROP FUNCTION IF EXISTS host.create_queue(text, text, bigint, int, bigint, bigint, bigint, bigint, boolean);
