-- Purpose: the rate of a queue counts what is done, also where it rotates faster than once a minute: settlements say how
--   many of their messages only went to the schedule, and host.pace keeps the figures of what was truncated.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on each queue's settlements, for at most 5 s of waiting; nothing is rewritten or scanned.
--   Tables: host.pace, and each queue's settlements.
SET LOCAL lock_timeout = '5s';

-- Messages that were settled in the last minute, by handler and second, of leaves that were truncated since. An ordinary
-- table: each rotation of a queue deletes what is older and inserts what it truncates.
CREATE TABLE host.pace (
    queue_id int NOT NULL,
    handler_id int NOT NULL,
    settled_at timestamptz NOT NULL,
    messages bigint NOT NULL
);
CREATE INDEX ON host.pace (queue_id, handler_id);

DO $$
DECLARE
    q record;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN parked int', q.name || '__settlement');
        -- Its results change.
        EXECUTE format('DROP FUNCTION IF EXISTS host.%I(int, int)', q.name || '__backlog');
    END LOOP;
END $$;
