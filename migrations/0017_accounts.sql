-- Purpose: an account of what was leased, for the proof before a partition is truncated; refusal of rows
--   that claim the transaction id of another; a cursor of the schedule that can follow a clock that is set
--   back.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones. What
--   was leased before is not known (NULL), so their partitions are proven from the next generation on.
-- Locks: ACCESS EXCLUSIVE on each queue's messages, schedule, leases and promotions, for at most 5 s of
--   waiting; nothing is rewritten or scanned. Tables: host.leaf_count, and each queue's own.
SET LOCAL lock_timeout = '5s';

-- The count of a leaf's messages, made by who truncates it: all rows of its first `blocks` blocks. It
-- stands as long as the leaf gets no row that `hi` does not see. Not a message's: rows are updated.
CREATE TABLE host.leaf_count (
    queue_id int NOT NULL,
    leaf int NOT NULL,
    hi txid_snapshot NOT NULL,
    blocks bigint NOT NULL,
    messages bigint NOT NULL,
    -- Of these, how many some handler has never leased; NULL: none, as far as is known.
    missed bigint,
    PRIMARY KEY (queue_id, leaf)
);

-- functions/restore.sql has the text that counts.
CREATE FUNCTION host.refuse_copied_row(p_id bigint, p_txid bigint) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT false';
GRANT EXECUTE ON FUNCTION host.refuse_copied_row TO PUBLIC;

DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        -- The schedule first, as promote and settle have it.
        EXECUTE format('ALTER TABLE host.%I ADD CONSTRAINT txid_is_for_the_database_to_set'
            ' CHECK (txid = txid_current() AND id > 0 OR host.refuse_copied_row(id, txid)) NOT VALID',
            q || '__schedule');
        EXECUTE format('ALTER TABLE queue.%I ADD CONSTRAINT txid_is_for_the_database_to_set'
            ' CHECK (txid = txid_current() AND id > 0 OR host.refuse_copied_row(id, txid)) NOT VALID', q);
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN leased bigint[]', q || '__lease');
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN passed_due timestamptz[], ADD COLUMN passed_id bigint[],'
            ' ADD COLUMN passed_hi txid_snapshot[]', q || '__promotion');
    END LOOP;
END $$;
