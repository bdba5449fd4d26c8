-- Purpose: headers may be JSON's null, which is no headers: what mappers write for a field that is left out. And the
--   functions that a queue was given are noted, so that doctor sees a change.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on each queue's messages, for at most 5 s of waiting; nothing is rewritten or scanned.
--   Tables: each queue's messages, host.queue_functions.
SET LOCAL lock_timeout = '5s';

DO $$
DECLARE
    q record;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        -- NOT VALID: the rows that are there were let in by a stricter rule.
        EXECUTE format('ALTER TABLE queue.%I DROP CONSTRAINT headers_is_an_object, ADD CONSTRAINT headers_is_an_object'
            ' CHECK (jsonb_typeof(headers) IN (''object'', ''null'')) NOT VALID', q.name);
    END LOOP;
END $$;

CREATE TABLE host.queue_functions (
    queue_id int PRIMARY KEY REFERENCES host.queue ON DELETE CASCADE,
    -- Of each function, what host.functions_now said when it was put in force.
    digests jsonb NOT NULL
);
