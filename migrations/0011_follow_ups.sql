-- Purpose: follow-ups with a key, a priority and a unique key: two functions get further arguments.
-- Invariant: no function is there twice, or calls that leave arguments out would not know which is meant.
-- Locks: none that another session waits for. Tables: host.queue.
SET LOCAL lock_timeout = '5s';

DROP FUNCTION IF EXISTS host.enqueue_follow_ups(text[], bytea[], jsonb[], bigint[]);

DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(bigint, int, uuid, int, int4multirange, int[], bigint[], jsonb[], int[],'
            ' int[], text[], jsonb[], text[], bytea[], jsonb[], bigint[], int4multirange, int[], bytea[])', q || '__settle');
    END LOOP;
END $$;
