-- Purpose: an account of what was promoted, for the proof before a partition of the schedule is truncated.
--   queue/migrations and queue/drops have the half of each queue.
-- Invariant: what was promoted before is not known (NULL), so a partition of the schedule is proven from its next
--   use on.
-- Locks: ACCESS EXCLUSIVE on host.leaf_count, which is rewritten nowhere. Tables: host.leaf_count.

ALTER TABLE host.leaf_count
    -- What the leaf is of: messages, or the schedule.
    ADD COLUMN kind text NOT NULL DEFAULT 'message' CHECK (kind IN ('message', 'schedule')),
    DROP CONSTRAINT leaf_count_pkey,
    ADD PRIMARY KEY (queue_id, kind, leaf);
