-- Purpose: an account of what was promoted, for the proof before a partition of the schedule is truncated.
--   queue/migrations and queue/drops have the half of each queue.
-- Invariant: host.leaf_count stays until finish.sql: functions of queues that an upgrade has not reached use it.
-- Locks: none that another session waits for. Tables: host.partition_count.

-- The count of a partition's messages, made by the role that truncates it: all rows of its first `blocks` blocks. It
-- stands as long as the partition gets no row that `hi` does not see. A row is updated: it is none of a message.
CREATE TABLE host.partition_count (
    queue_id int NOT NULL,
    -- What the partition is of: messages, or the schedule.
    kind text NOT NULL CHECK (kind IN ('message', 'schedule')),
    leaf int NOT NULL,
    hi txid_snapshot NOT NULL,
    blocks bigint NOT NULL,
    messages bigint NOT NULL,
    -- Of these, how many were never leased (for some handler), or never promoted; NULL: none, as far as is known.
    missed bigint,
    PRIMARY KEY (queue_id, kind, leaf)
);
