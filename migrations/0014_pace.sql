-- Purpose: the rate of a queue counts what is done, also where it rotates faster than once a minute: host.pace keeps the
--   figures of what was truncated. queue/migrations and queue/drops have the half of each queue.
-- Locks: none that another session waits for. Tables: host.pace.

-- Messages that were settled in the last minute, by handler and second, of leaves that were truncated since. An ordinary
-- table: each rotation of a queue deletes what is older and inserts what it truncates.
CREATE TABLE host.pace (
    queue_id int NOT NULL,
    handler_id int NOT NULL,
    settled_at timestamptz NOT NULL,
    messages bigint NOT NULL
);
CREATE INDEX ON host.pace (queue_id, handler_id);
