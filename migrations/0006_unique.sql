-- Purpose: unique keys: a column for producers, and a register of the keys that are taken.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on host.queue and each queue's messages, for at most 5 s of waiting; nothing is rewritten or
--   scanned. Tables: host.queue, and each queue's own.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.queue
    -- For how long a key is taken, at least. NULL: the queue takes no unique_key.
    ADD COLUMN unique_ms bigint CHECK (unique_ms BETWEEN 0 AND 31536000000),
    ADD COLUMN on_duplicate text NOT NULL DEFAULT 'drop' CHECK (on_duplicate IN ('drop', 'refuse'));

DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('ALTER TABLE queue.%I ADD COLUMN unique_key text,'
            ' ADD CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK (unique_key IS NULL) NOT VALID', q);
        EXECUTE format('CREATE TABLE host.%1$I (key text PRIMARY KEY, message_id bigint NOT NULL,'
            ' taken_at timestamptz NOT NULL DEFAULT clock_timestamp(), settled_by int[] NOT NULL DEFAULT ''{}'');'
            ' CREATE INDEX ON host.%1$I (message_id);'
            ' CREATE INDEX ON host.%1$I (taken_at) WHERE settled_by <> ''{}''', q || '__unique');
    END LOOP;
END $$;
