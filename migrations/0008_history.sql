-- Purpose: queues that keep settled messages readable after their partition is truncated. queue/migrations and
--   queue/drops have the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.queue; nothing is rewritten. Tables: host.queue.

-- How long a settled message stays readable, at least, in milliseconds. NULL: until its generation is truncated.
ALTER TABLE host.queue ADD COLUMN keep_ms bigint CONSTRAINT keep_is_a_time CHECK (keep_ms > 0);

-- Its arguments change.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'host'::regnamespace AND p.proname = 'create_queue' LOOP
        EXECUTE format('DROP FUNCTION %s', f);
    END LOOP;
END $$;
