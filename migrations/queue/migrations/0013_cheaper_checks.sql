-- Template: checks that cost less: a due time is compared only where there is one, and a small
-- jsonb is not made text of to see how long it is. What is refused stays the same. Nothing is
-- rewritten or scanned.
-- Locks: ACCESS EXCLUSIVE on the messages. Tables: these.
-- NOT VALID: the rows that are there were let in by the same rule.
ALTER TABLE queue.{q} DROP CONSTRAINT run_at_is_within_30_years, ADD CONSTRAINT run_at_is_within_30_years
    CHECK (run_at IS NULL OR run_at < enqueued_at + interval '30 years') NOT VALID;
DO $$
BEGIN
    IF (SELECT payload_type = 'jsonb' FROM host.queue WHERE id = {queue_id}) THEN
        EXECUTE format('ALTER TABLE queue.{q} DROP CONSTRAINT payload_is_at_most_{payload_bytes_max}_bytes,'
            ' ADD CONSTRAINT payload_is_at_most_{payload_bytes_max}_bytes'
            ' CHECK (pg_column_size(payload) <= %s AND pg_column_compression(payload) IS NULL'
            ' OR octet_length(payload::text) <= {payload_bytes_max}) NOT VALID', {payload_bytes_max} / 12288);
    END IF;
END $$;
