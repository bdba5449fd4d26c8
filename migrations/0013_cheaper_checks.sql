-- Purpose: checks that cost less: a due time is compared only where there is one, and a small jsonb is not made text of to
--   see how long it is.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones; what is refused
--   stays the same.
-- Locks: ACCESS EXCLUSIVE on each queue's messages, for at most 5 s of waiting; nothing is rewritten or scanned.
--   Tables: each queue's messages.
SET LOCAL lock_timeout = '5s';

DO $$
DECLARE
    q record;
    payload_check text;
BEGIN
    FOR q IN SELECT name, payload_type, payload_bytes_max AS max FROM host.queue ORDER BY name LOOP
        -- NOT VALID: the rows that are there were let in by the same rule.
        EXECUTE format('ALTER TABLE queue.%I DROP CONSTRAINT run_at_is_within_30_years,'
            ' ADD CONSTRAINT run_at_is_within_30_years'
            ' CHECK (run_at IS NULL OR run_at < enqueued_at + interval ''30 years'') NOT VALID', q.name);
        IF q.payload_type = 'jsonb' THEN
            payload_check := format('payload_is_at_most_%s_bytes', q.max);
            EXECUTE format('ALTER TABLE queue.%1$I DROP CONSTRAINT %2$I, ADD CONSTRAINT %2$I'
                ' CHECK (pg_column_size(payload) <= %3$s AND pg_column_compression(payload) IS NULL'
                ' OR octet_length(payload::text) <= %4$s) NOT VALID',
                q.name, payload_check, q.max / 12288, q.max);
        END IF;
    END LOOP;
END $$;
