-- Purpose: deadlines of messages, and lists of delays between attempts.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on each queue's messages and schedule, for at most 5 s of waiting; nothing is
--   rewritten or scanned.
-- Tables: host.queue, and each queue's own.
SET LOCAL lock_timeout = '5s';

-- Waits between attempts, in milliseconds; the last repeats. NULL: exponential backoff.
ALTER TABLE host.queue ADD COLUMN delays_ms bigint[]
    CONSTRAINT delays_are_one_to_a_hundred
    CHECK (cardinality(delays_ms) BETWEEN 1 AND 100 AND array_position(delays_ms, NULL) IS NULL);

-- Their arguments and results change.
DROP FUNCTION IF EXISTS host.create_queue(text, text, bigint, int, bigint, bigint, bigint, bigint, boolean);
DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        -- The schedule first, as promote and settle have it. NOT VALID: rows that are there have none to check.
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN expires_at timestamptz', q || '__schedule');
        EXECUTE format('ALTER TABLE queue.%I ADD COLUMN expires_at timestamptz,'
            ' ADD CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)) NOT VALID', q);
        EXECUTE format('DROP FUNCTION host.%I(int, bigint)', q || '__read');
    END LOOP;
END $$;
