-- Purpose: how long a queue's unique keys are taken. queue/migrations has the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.queue; nothing is rewritten or scanned. Tables: host.queue.

ALTER TABLE host.queue
    -- For how long a key is taken, at least. NULL: the queue takes no unique_key.
    ADD COLUMN unique_ms bigint CHECK (unique_ms BETWEEN 0 AND 31536000000),
    ADD COLUMN on_duplicate text NOT NULL DEFAULT 'drop' CHECK (on_duplicate IN ('drop', 'refuse'));
