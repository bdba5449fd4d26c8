-- Purpose: limits of a queue over all hosts: how many messages are in flight, and how many start in a time.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on host.queue and each queue's leases and settlements, for at most 5 s of waiting; nothing is
--   rewritten. Tables: host.queue, and each queue's leases and settlements.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.queue
    -- Of each handler's messages, over all hosts: in flight at once; NULL: any number.
    ADD COLUMN fleet_concurrency int CHECK (fleet_concurrency BETWEEN 1 AND 10000),
    -- Starts of each handler's messages, over all hosts: so many in so many milliseconds, and so many at once; NULL: any number.
    ADD COLUMN rate_count int CHECK (rate_count BETWEEN 1 AND 1000000),
    ADD COLUMN rate_ms bigint CHECK (rate_ms BETWEEN 1 AND 31536000000),
    ADD COLUMN rate_burst int CHECK (rate_burst BETWEEN 1 AND 1000000),
    ADD CONSTRAINT limits_are_not_for_queues_that_keep_an_order
        CHECK (ordered_lanes IS NULL OR num_nonnulls(fleet_concurrency, rate_count) = 0),
    ADD CONSTRAINT rate_is_whole CHECK (num_nulls(rate_count, rate_ms, rate_burst) IN (0, 3)),
    ADD CONSTRAINT rate_is_at_most_1000_a_millisecond CHECK (rate_count <= rate_ms * 1000);

DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN tat timestamptz, ADD COLUMN held bigint[]', q || '__lease');
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN heir_session int, ADD COLUMN heir_seq bigint', q || '__settlement');
        -- Its results change.
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, int, bigint, uuid, int, bigint, int)', q || '__lease');
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(smallint[], int, int, bigint, uuid, int, bigint)', q || '__lease_of');
    END LOOP;
END $$;
