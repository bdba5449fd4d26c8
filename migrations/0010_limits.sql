-- Purpose: the limits of a queue. queue/migrations and queue/drops have the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.queue; nothing is rewritten or scanned. Tables: host.queue.

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
