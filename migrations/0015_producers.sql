-- Purpose: the functions that a queue was given are noted, so that doctor sees a change. Headers that are JSON's null:
--   queue/migrations has the half of each queue.
-- Locks: SHARE ROW EXCLUSIVE on host.queue. Tables: host.queue_functions.

CREATE TABLE host.queue_functions (
    queue_id int PRIMARY KEY REFERENCES host.queue ON DELETE CASCADE,
    -- Of each function, what host.functions_now said when it was put in force.
    digests jsonb NOT NULL
);
