-- Purpose: results of handlers; queues that keep settled messages readable after their generation is truncated.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on host.queue and each queue's settlements, for at most 5 s of waiting; nothing is
--   rewritten. Tables: host.queue, and each queue's settlements.
SET LOCAL lock_timeout = '5s';

-- How long a settled message stays readable, at least, in milliseconds. NULL: until its generation is truncated.
ALTER TABLE host.queue ADD COLUMN keep_ms bigint CONSTRAINT keep_is_a_time CHECK (keep_ms > 0);

-- Their arguments and results change.
DO $$
DECLARE
    q text;
    f regprocedure;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN result_pos int[], ADD COLUMN results bytea[]', q || '__settlement');
        FOR leaf IN 0..2 LOOP
            EXECUTE format('ALTER TABLE host.%I SET (toast.autovacuum_enabled = off)', q || '__settlement_' || leaf);
        END LOOP;
    END LOOP;
    FOR f IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'host'::regnamespace AND (p.proname = 'create_queue' OR p.proname IN (
            SELECT x.name || suffix FROM host.queue x, unnest(ARRAY['__settle', '__runs', '__whereabouts']) suffix))
    LOOP
        EXECUTE format('DROP FUNCTION %s', f);
    END LOOP;
END $$;
