-- Purpose: an account of what was promoted, for the proof before a partition of the schedule is truncated; the
--   end of functions that are made anew with other parameters.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones. What
--   was promoted before is not known (NULL), so a partition of the schedule is proven from its next use on.
-- Locks: ACCESS EXCLUSIVE on host.leaf_count and on each queue's promotions, for at most 5 s of waiting;
--   nothing of a queue is rewritten or scanned. Tables: host.leaf_count, and each queue's promotions.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.leaf_count
    -- What the leaf is of: messages, or the schedule.
    ADD COLUMN kind text NOT NULL DEFAULT 'message' CHECK (kind IN ('message', 'schedule')),
    DROP CONSTRAINT leaf_count_pkey,
    ADD PRIMARY KEY (queue_id, kind, leaf);

DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN promoted bigint[]', q || '__promotion');
        -- What the templates have now returns or takes something else, which CREATE OR REPLACE does not change.
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, bigint), host.%I(bigint, int, bigint, uuid, int, int),'
            ' host.%I(bigint, int, bigint, uuid, int), host.%I(timestamptz, bigint), host.%I(int, txid_snapshot), host.%I(int)',
            q || '__gone', q || '__take_over', q || '__inherit', q || '__promote_one', q || '__has_later', q || '__count');
    END LOOP;
END $$;
